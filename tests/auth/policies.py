# SPDX-License-Identifier: MIT
"""claimmapper/mtls with authorizer/rules and authorizer/http in a running tenond, seen by the Python SDK and the CLI."""

import argparse
import asyncio
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
from temporalio.client import Client, TLSConfig
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tls"))
from tls import Authority, Suite as TlsSuite, TlsWorkflow  # noqa: E402

CONFIG = """\
log: {{level: info}}
services:
  frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {port}}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
threads: 2
global:
  tls:
    refreshInterval: 100ms
    frontend:
      server:
        certFile: {f}/server.pem
        keyFile: {f}/server.key
        clientCaFiles: [{f}/clients.pem]
        requireClientAuth: true
plugins: {{dirs: [{plugins}]}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 4
  datastores:
    main: {{plugin: sqlite, path: ":memory:"}}
    search: {{plugin: sqlite, path: ":memory:"}}
authorization:
  claimMapper:
    plugin: mtls
    table:
      - {{uri: "spiffe://acme.test/reader", permissions: ["a:read"]}}
      - {{uri: "spiffe://acme.test/*", commonName: writer, permissions: ["a:write"]}}
      - {{organization: Acme, dns: "*.ops.test", permissions: ["temporal-system:admin"]}}
  authorizer:
{authorizer}
namespaces: {{create: [a, b], retention: 72h}}
metrics: {{prometheus: {{listenAddress: "127.0.0.1:{metrics}"}}}}
"""

POLICY = """\
# {mark}
rules:
  - {{name: no evil, verdict: deny, workflowType: "Evil*", reason: no evil here}}
  - {{name: readers, verdict: allow, role: reader, access: read}}
  - {{name: writers, verdict: allow, role: writer, access: [read, write]}}
  - {{name: administrators, verdict: allow, role: admin}}
"""


class DecisionPoint:
    """Speaks OPA's data API; `behave` takes over an answer."""

    def __init__(self, context=None):
        self.behave, self.asked, self.at_once, self.most, self.connections, self.tokens = None, [], 0, 0, 0, []
        self.lock, self.context, self.port, self.server, self.open = threading.Lock(), context, 0, None, set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # an answer is one packet

            def setup(self):
                super().setup()
                with outer.lock:
                    outer.connections += 1
                    outer.open.add(self.connection)

            def finish(self):
                with outer.lock:
                    outer.open.discard(self.connection)
                super().finish()

            def do_POST(self):
                question = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
                with outer.lock:
                    outer.asked.append(question)
                    outer.tokens.append(self.headers.get("authorization"))
                    outer.at_once += 1
                    outer.most = max(outer.most, outer.at_once)
                try:
                    if not (outer.behave and outer.behave(self)):
                        self.answer(200, outer.decide(question))
                except OSError:
                    self.close_connection = True
                finally:
                    with outer.lock:
                        outer.at_once -= 1

            def answer(self, status, body):
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                with outer.lock:
                    outer.at_once -= 1  # the next one may be asked as soon as this is read
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()
                with outer.lock:
                    outer.at_once += 1

            def log_message(self, *_):
                pass

        self.handler = Handler

    @staticmethod
    def decide(question):
        roles = question["caller"]["roles"]
        allow = question["access"] == "read" and bool(roles) or "writer" in roles or question["namespace"].startswith("f-")
        return {"result": True} if allow else {"result": {"allow": False, "reason": "not by me", "rule": "r1"}}

    def up(self):
        http.server.ThreadingHTTPServer.request_queue_size = 128
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # handshakes that fail are meant to
        if self.context:
            self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def down(self):
        self.server.shutdown()
        self.server.server_close()
        with self.lock:
            for connection in self.open:
                connection.shutdown(socket.SHUT_RDWR)


class Suite(TlsSuite):
    """Certificates, server and metrics are those of tests/tls."""

    def write(self, name, text):
        with open(self.path(name + ".new"), "w") as out:
            out.write(text)
        os.rename(self.path(name + ".new"), self.path(name))

    def config(self, tls, name="tenon.yaml"):
        self.write(name, CONFIG.format(port=self.port, metrics=self.args.other, plugins=self.args.plugins, f=self.folder,
                                       authorizer=tls))
        return self.path(name)

    def logged(self):
        return self.read("log").decode()

    async def client(self, cert, namespace="a"):
        return await asyncio.wait_for(
            Client.connect(f"127.0.0.1:{self.port}", namespace=namespace, tls=self.sdk_tls(cert=cert)), 15)

    @staticmethod
    async def status_of(client, namespace):
        try:
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
        except RPCError as error:
            return error.status
        return RPCStatusCode.OK

    @staticmethod
    async def start_status(client, kind="TlsWorkflow"):
        try:
            await client.start_workflow(kind, "x", id=f"w-{uuid.uuid4()}", task_queue="q", execution_timeout=timedelta(minutes=1))
        except RPCError as error:
            return error.status
        return RPCStatusCode.OK

    async def until(self, what, seconds=30):
        end = time.monotonic() + seconds
        while not (await what() if asyncio.iscoroutinefunction(what) else what()):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.02)
        return True

    # ---- mtls and rules ----

    async def who_may_what(self):
        ok, denied = RPCStatusCode.OK, RPCStatusCode.PERMISSION_DENIED
        try:
            await self.client(None)
            self.check("no certificate, no handshake", False)
        except (RuntimeError, asyncio.TimeoutError):
            self.check("no certificate, no handshake", True)
        reader, writer = await self.client("reader"), await self.client("writer")
        stranger, ops = await self.client("unknown"), await self.client("ops")
        self.check("a reader reads", await self.status_of(reader, "a") == ok)
        self.check("a reader does not start", await self.start_status(reader) == denied)
        self.check("a reader reads nothing elsewhere", await self.status_of(reader, "b") == denied)
        self.check("a writer does nothing elsewhere", await self.status_of(writer, "b") == denied
                   and await self.start_status(await self.client("writer", "b")) == denied)
        self.check("an administrator may all", await self.status_of(ops, "b") == ok and await self.start_status(ops) == ok)
        self.check("a certificate without a row may nothing", await self.status_of(stranger, "a") == denied)
        await stranger.workflow_service.get_system_info(GetSystemInfoRequest())
        self.check("a rule by workflow type", await self.start_status(writer, "EvilOne") == denied)
        async with Worker(writer, task_queue="q", workflows=[TlsWorkflow], workflow_runner=UnsandboxedWorkflowRunner()):
            result = await writer.execute_workflow(TlsWorkflow.run, "x", id=f"w-{uuid.uuid4()}", task_queue="q")
        self.check("a writer starts and works", result == "hello x")

    def cli(self, cert, *words):
        return subprocess.run(
            [self.args.cli, "--address", f"127.0.0.1:{self.port}", "--tls-ca-path", self.path("ca.pem"), "--tls-server-name",
             "localhost", "--tls-cert-path", self.path(cert + ".pem"), "--tls-key-path", self.path(cert + ".key"), *words],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)

    def programs(self):
        done = self.cli("reader", "workflow", "list", "--namespace", "a")
        self.check("CLI: a reader lists", done.returncode == 0, done.stderr)
        start = ("workflow", "start", "--namespace", "a", "--type", "T", "--task-queue", "none", "--workflow-id")
        done = self.cli("reader", *start, "cli-1")
        self.check("CLI: a reader does not start", done.returncode and "Request unauthorized." in done.stderr, done.stderr)
        done = self.cli("writer", *start, "cli-2")
        self.check("CLI: a writer starts", done.returncode == 0, done.stderr)

    async def policies_change(self):
        reader = await self.client("reader")
        name = "tenon_plugin_rules_reload_errors"
        self.write("policy.yaml", POLICY.format(mark="readers write").replace("role: writer", "role: reader"))

        async def allowed():
            return await self.start_status(reader) == RPCStatusCode.OK
        self.check("a new policy is obeyed", await self.until(allowed))
        before = self.metric(name) or 0
        self.write("policy.yaml", "rules:\n- {verdict: allow}\n- {verdict: deny, namspace: a}\n")
        self.check("a bad policy is counted", await self.until(lambda: (self.metric(name) or 0) > before))
        self.check("and leaves the old one", await self.start_status(reader) == RPCStatusCode.OK
                   and await self.status_of(reader, "b") == RPCStatusCode.PERMISSION_DENIED)
        self.check("and the log says where and why", "policy.yaml:3: unknown key" in self.logged(), self.logged()[-500:])

        async def not_allowed():
            return await self.start_status(reader) == RPCStatusCode.PERMISSION_DENIED
        with open(self.path("policy.yaml"), "w") as out:  # in place this time
            out.write(POLICY.format(mark="as before"))
        self.check("a policy that is good again is obeyed", await self.until(not_allowed))

    async def all_changes_under_load(self, servers, clients):
        calls, failures, over = [0] * 6, [], False

        async def load(n):
            client = await self.client("writer")
            while not over:
                try:
                    if n % 2:
                        client = await self.client("writer")
                    status = await self.status_of(client, "a")
                    if status != RPCStatusCode.OK:
                        failures.append(str(status))
                    calls[n] += 1
                except Exception as error:  # noqa: BLE001
                    failures.append(str(error))

        tasks = [asyncio.create_task(load(n)) for n in range(6)]
        renewed, reloads = 'tenon_tls_renewals{result="renewed"}', "tenon_plugin_rules_reloads"
        for i in range(3):
            before = list(calls), self.metric(renewed) or 0, self.metric(reloads) or 0
            await asyncio.to_thread(servers.sign, "server", "DNS:localhost,IP:127.0.0.1", suffix=".new")
            await asyncio.to_thread(clients.sign, "writer", "URI:spiffe://acme.test/writer", suffix=".new")
            for name in ("server.key", "server.pem"):
                os.rename(self.path(name + ".new"), self.path(name))
            # Pairs of a client must fit when they are read; the event loop reads both without a pause in between.
            for name in ("writer.key", "writer.pem"):
                os.rename(self.path(name + ".new"), self.path(name))
            self.write("policy.yaml", POLICY.format(mark=f"round {i}"))
            self.check(f"round {i}: certificates and policy are new", await self.until(
                lambda b=before: self.metric(renewed) > b[1] and self.metric(reloads) > b[2]))
            self.check(f"round {i}: calls go on", await self.until(
                lambda b=before: failures or all(now > then + 1 for now, then in zip(calls, b[0]))))
        over = True
        await asyncio.gather(*tasks)
        self.check(f"no call fails ({sum(calls)} calls)", not failures, failures[:3])

    # ---- http ----

    async def decisions(self, point):
        ok, denied = RPCStatusCode.OK, RPCStatusCode.PERMISSION_DENIED
        reader, writer = await self.client("reader"), await self.client("writer")
        before = len(point.asked)
        for _ in range(30):
            status = await self.status_of(reader, "a")
            assert status == ok, status
        self.check("a remembered answer is not asked for again", len(point.asked) - before <= 2, len(point.asked))  # loops
        self.check("a denial", await self.start_status(reader) == denied and await self.start_status(writer) == ok)
        question = point.asked[-1]
        self.check("the question", question["method"] == "StartWorkflowExecution" and question["taskQueue"] == "q"
                   and question["workflowType"] == "TlsWorkflow" and question["caller"]["roles"] == ["writer"]
                   and question["caller"]["subject"] == "spiffe://acme.test/writer", question)
        hold = threading.Event()

        def cut(handler):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"result\": tr")
            handler.close_connection = True
            return True
        faults = {"slow": lambda h: hold.wait(60) and False, "cut": cut,
                  "closed": lambda h: setattr(h, "close_connection", True) or True,
                  "500": lambda h: h.answer(500, {"result": True}) or True,
                  "garbage": lambda h: h.answer(200, b"<html>\xff") or True,
                  "undefined": lambda h: h.answer(200, {}) or True,
                  "text": lambda h: h.answer(200, {"result": "true"}) or True,
                  "huge": lambda h: h.answer(200, b'{"result": true' + b" " * 10_000_000 + b"}") or True}
        for name, behave in faults.items():
            point.behave = behave
            began, status = time.monotonic(), await self.status_of(reader, "f-" + name)
            took = time.monotonic() - began
            self.check(f"{name}: denied", status == denied and took < 30, (status, took))
            point.behave = None
            hold.set()
            self.check(f"{name}: an error is not remembered", await self.status_of(reader, "f-" + name) == RPCStatusCode.NOT_FOUND)
        point.down()
        self.check("nobody there: denied", await self.status_of(reader, "f-down") == denied)
        point.up()
        self.check("there again", await self.status_of(reader, "f-down") == RPCStatusCode.NOT_FOUND)
        self.check("errors are counted", self.metric("tenon_plugin_http_errors") >= 8)

    async def many_at_once(self, point):
        client = await self.client("reader")
        point.behave = lambda h: time.sleep(0.002) and False
        point.most, before = 0, (len(point.asked), point.connections)
        found = await asyncio.gather(*[self.status_of(client, f"f-many-{i // 2}") for i in range(80)])
        asked = len(point.asked) - before[0]
        self.check("80 calls with 40 questions", all(s == RPCStatusCode.NOT_FOUND for s in found), set(found))
        self.check("what is the same is asked once", asked == 40, asked)
        self.check("no more than maxConcurrent", point.most <= 4, point.most)
        self.check("connections are used again", point.connections - before[1] <= 8, point.connections - before[1])
        point.behave = None

    async def tokens(self, point):
        client = await self.client("reader")
        self.check("the token is shown", point.tokens[-1] == "Bearer one", point.tokens[-1])
        self.write("token", "two\n")
        n = 0

        async def seen():
            nonlocal n
            n += 1
            await self.status_of(client, f"f-token-{n}")
            return point.tokens[-1] == "Bearer two"
        self.check("and the new one after a change", await self.until(seen))
        self.check("and is not logged", "Bearer" not in self.logged())

    # ---- tenonctl authz explain ----

    def explain(self, *words):
        done = subprocess.run([self.args.tenonctl, "authz", "explain", *words], capture_output=True, text=True, timeout=60,
                              check=False, env={**os.environ, "TENON_PLUGIN_DIR": self.args.plugins})
        return done.returncode, done.stdout + done.stderr

    def explained(self):
        self.write("policy.yaml", POLICY.format(mark="explained"))
        call = ("--policy", self.path("policy.yaml"), "--subject", "x", "--namespace", "a", "--method", "StartWorkflowExecution")
        code, text = self.explain(*call, "--role", "reader", "--workflow-type", "Good")
        self.check("explain: no rule", code == 1 and 'policy.yaml:3: "no evil": no: workflowType "Good"' in text
                   and 'policy.yaml:4: "readers": no: access is write' in text and "no rule is for this call" in text, text)
        code, text = self.explain(*call, "--role", "writer")
        self.check("explain: a rule", code == 0 and text.rstrip().endswith("allow: policy.yaml:5 writers"), text)
        code, text = self.explain(*call, "--role", "writer", "--workflow-type", "EvilTwin")
        self.check("explain: a denial", code == 1 and "the caller is told: no evil here" in text, text)
        self.write("policy.yaml", "rules:\n- verdict: sometimes\n")
        code, text = self.explain(*call)
        self.check("explain: a bad policy", code == 1 and "policy.yaml:2: " in text and "fix: " in text, text)

    def over_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("server.pem"), self.path("server.key"))
        context.load_verify_locations(self.path("clients.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
        point = DecisionPoint(context)
        point.up()
        own = f"certFile: {self.path('reader.pem')}, keyFile: {self.path('reader.key')}"
        for name, tls, good in (("with a certificate", f"caFile: {self.path('ca.pem')}, {own}", True),
                                ("without one", f"caFile: {self.path('ca.pem')}", False),
                                ("of another authority", f"caFile: {self.path('others.pem')}, {own}", False)):
            self.write("explain.yaml", "authorization: {authorizer: {plugin: http, url: 'https://localhost:%d/x', timeout: 20s, "
                                       "tls: {%s}}}\n" % (point.port, tls))
            code, text = self.explain("--config", self.path("explain.yaml"), "--subject", "x", "--role", "writer",
                                      "--namespace", "a", "--method", "StartWorkflowExecution")
            self.check(f"https {name}", (code == 0) == good and ("allow" in text.splitlines()[-1]) == good, text)
        point.down()

    # ---- all ----

    def run(self):
        servers, clients = Authority(self.folder, "ca"), Authority(self.folder, "clients")
        Authority(self.folder, "others")
        servers.sign("server", "DNS:localhost,IP:127.0.0.1")
        for name, san in (("reader", "URI:spiffe://acme.test/reader"), ("writer", "URI:spiffe://acme.test/writer"),
                          ("ops", "DNS:one.ops.test"), ("unknown", "DNS:unknown.test")):
            clients.sign(name, san)
        self.write("policy.yaml", POLICY.format(mark="first"))
        self.start(f"    plugin: rules\n    policyFile: {self.path('policy.yaml')}")
        asyncio.run(self.who_may_what())
        self.programs()
        asyncio.run(self.policies_change())
        asyncio.run(self.all_changes_under_load(servers, clients))
        self.stop()
        self.explained()
        if os.path.exists(os.path.join(self.args.plugins, "authorizer", "http.so")):
            point = DecisionPoint()
            point.up()
            self.write("token", "one\n")
            self.start(f"    plugin: http\n    url: http://127.0.0.1:{point.port}/v1/data/temporal/authz\n    timeout: 4s\n"
                       f"    cacheTTL: 1h\n    maxConcurrent: 2\n    tokenFile: {self.path('token')}")
            asyncio.run(self.decisions(point))
            asyncio.run(self.many_at_once(point))
            asyncio.run(self.tokens(point))
            self.stop()
            self.over_tls()
        else:
            print("skip: authorizer/http is not built (libcurl)", flush=True)
        print(f"policies: {self.passed} passed, {self.failed} failed", flush=True)
        return self.failed != 0


def main():
    parser = argparse.ArgumentParser()
    for name in ("tenond", "tenonctl", "cli", "plugins", "folder"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--other", type=int, required=True)
    suite = Suite(parser.parse_args())
    try:
        return suite.run()
    finally:
        if suite.server and suite.server.poll() is None:
            suite.server.kill()


if __name__ == "__main__":
    sys.exit(main())
