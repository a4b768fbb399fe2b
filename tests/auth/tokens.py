# SPDX-License-Identifier: MIT
"""claimmapper/jwt and authorizer/default in a running tenond, seen by the Python SDK, the temporal CLI and curl."""

import argparse
import asyncio
import http.server
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from datetime import timedelta

from temporalio import workflow
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest, ListNamespacesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from keys import Key, b64

CONFIG = """\
log: {{level: warn}}
services:
  frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {port}}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
threads: 1
plugins: {{dirs: [{plugins}]}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 4
  datastores:
    main: {{plugin: sqlite, path: {folder}/main.db}}
    search: {{plugin: sqlite, path: {folder}/search.db}}
authorization:
  claimMapper:
    plugin: jwt
    keySourceURIs: ["http://127.0.0.1:{issuer}/keys"]
    refreshInterval: 1s
    keyMaxAge: 1h
    fetchTimeout: 3s
    audience: [tenon]
    issuer: [https://issuer.test]
  authorizer: {{plugin: default}}
namespaces: {{create: [a, b], retention: 72h}}
"""


class Issuer:
    """Serves the keys; `behave` takes over an answer."""

    def __init__(self):
        self.keys, self.behave, self.asked = [], None, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                behave = outer.behave
                if behave and behave(self):
                    return
                self.answer(200, json.dumps({"keys": [key.jwk for key in outer.keys]}).encode())

            def answer(self, status, body, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.handler, self.server = Handler, None

    def up(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def down(self):
        self.server.shutdown()
        self.server.server_close()

    def wait_asked(self, more=2, seconds=20):
        """Until it was asked so often from now on: the last of them began after this call."""
        target, end = self.asked + more, time.monotonic() + seconds
        while self.asked < target:
            assert time.monotonic() < end, "the issuer is not asked"
            time.sleep(0.02)


@workflow.defn
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"hello {name}"


class Suite:
    def __init__(self, arguments):
        self.arguments, self.address = arguments, f"127.0.0.1:{arguments.port}"
        self.issuer = Issuer()
        self.one, self.two = Key(arguments.folder, "one"), Key(arguments.folder, "two")
        self.log_path = os.path.join(arguments.folder, "tenond.log")
        self.process = None

    def start(self):
        config = os.path.join(self.arguments.folder, "tenon.yaml")
        with open(config, "w") as out:
            out.write(CONFIG.format(port=self.arguments.port, plugins=self.arguments.plugins, folder=self.arguments.folder,
                                    issuer=self.issuer.port))
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen([self.arguments.tenond, "--config", config], stdout=log, stderr=log)
        end = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", self.arguments.port)) != 0:
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(open(self.log_path).read())
            time.sleep(0.02)

    async def client(self, token, namespace="a"):
        metadata = {"authorization": "Bearer " + token} if token else {}
        return await Client.connect(self.address, namespace=namespace, rpc_metadata=metadata)

    async def denied(self, call, hint=""):
        try:
            await call
        except RPCError as error:
            assert error.status == RPCStatusCode.PERMISSION_DENIED, f"{error.status} {error.message}"
            assert error.message == "Request unauthorized.", error.message
            return
        raise AssertionError("it was allowed " + hint)

    async def listed(self, client):
        return [found.id async for found in client.list_workflows("")]

    async def may_list(self, token, namespace="a"):
        await self.listed(await self.client(token, namespace))

    async def start_one(self, client):
        return await client.start_workflow(Hello.run, "x", id=f"w-{uuid.uuid4()}", task_queue="q",
                                           execution_timeout=timedelta(minutes=1))

    def cli(self, token, *words):
        return subprocess.run([self.arguments.cli, *words, "--address", self.address, "--grpc-meta",
                               f"authorization=Bearer {token}"], capture_output=True, text=True, timeout=60, check=False,
                              stdin=subprocess.DEVNULL)

    # ---- cases ----

    async def a_late_issuer(self):
        """The issuer is down when the server starts: every token is refused, until it answers."""
        self.start()
        token = self.one.token("a:read")
        await self.denied(self.may_list(token))
        self.issuer.keys = [self.one]
        self.issuer.up()
        end = time.monotonic() + 30
        while True:
            try:
                await self.may_list(token)
                return
            except RPCError:
                assert time.monotonic() < end, "the keys are never read"
                await asyncio.sleep(0.1)

    async def a_reader_lists_and_cannot_start(self):
        reader = await self.client(self.one.token("a:read"))
        await self.listed(reader)
        await self.denied(self.start_one(reader))

    async def a_writer_starts_and_works(self):
        writer = await self.client(self.one.token("a:write"))
        async with Worker(writer, task_queue="q", workflows=[Hello], workflow_runner=UnsandboxedWorkflowRunner()):
            handle = await self.start_one(writer)
            assert await handle.result() == "hello x"

    async def a_namespace_is_not_another(self):
        token = self.one.token("a:admin")
        await self.denied(self.may_list(token, "b"))
        await self.denied(self.start_one(await self.client(token, "b")))
        await self.denied(self.may_list(token, "no-such-namespace"))

    async def a_worker_alone_may_nothing(self):
        await self.denied(self.may_list(self.one.token("a:worker")))

    async def the_system_is_for_its_own(self):
        listing = ListNamespacesRequest(page_size=10)
        system = await self.client(self.one.token("temporal-system:read"))
        await system.workflow_service.list_namespaces(listing)
        await self.listed(system)
        await self.denied(self.start_one(system))
        own = await self.client(self.one.token("a:admin", "b:admin"))
        await self.denied(own.workflow_service.list_namespaces(listing))

    async def nobody_may_only_ask_who_is_there(self):
        nobody = await self.client("")
        await nobody.workflow_service.get_system_info(GetSystemInfoRequest())
        assert await nobody.service_client.check_health()
        await self.denied(self.listed(nobody))

    async def bad_tokens_are_refused(self):
        good = self.one.token("a:admin")
        stranger = Key(self.arguments.folder, "stranger")
        stranger.kid = "one"
        head, body, _ = good.split(".")
        none = b64(b'{"alg":"none"}')
        for bad in (self.one.token("a:admin", exp=int(time.time()) - 120), self.one.token("a:admin", aud="other"),
                    self.one.token("a:admin", iss="https://evil.test"), self.one.token("a:admin", nbf=int(time.time()) + 600),
                    stranger.token("a:admin"), good[:-4], f"{head}.{body}.", f"{none}.{body}.", good + ".x", "x",
                    self.one.token("a:admin", sub=7), self.two.token("a:admin")):
            await self.denied(self.may_list(bad), bad[:40])

    async def the_cli_with_tokens(self):
        reader, writer = self.one.token("a:read"), self.one.token("a:write")
        done = self.cli(reader, "workflow", "list", "--namespace", "a")
        assert done.returncode == 0, done.stderr
        start = ("workflow", "start", "--namespace", "a", "--type", "T", "--task-queue", "none", "--workflow-id")
        done = self.cli(reader, *start, "cli-1")
        assert done.returncode != 0 and "Request unauthorized." in done.stderr, done.stderr
        done = self.cli(writer, *start, "cli-2")
        assert done.returncode == 0, done.stderr
        done = self.cli(writer, "workflow", "list", "--namespace", "b")
        assert done.returncode != 0 and "Request unauthorized." in done.stderr, done.stderr

    async def headers_that_lie(self):
        good = "authorization: Bearer " + self.one.token("a:admin")
        frame = os.path.join(self.arguments.folder, "frame")
        message = b"\x0a\x01a"  # DescribeNamespaceRequest: namespace = "a"
        with open(frame, "wb") as out:
            out.write(struct.pack(">BI", 0, len(message)) + message)

        def status_of(*headers):
            words = [word for header in headers for word in ("-H", header)]
            dumped = subprocess.run(
                ["curl", "-s", "--http2-prior-knowledge", "-D", "-", "-o", "/dev/null", "-H", "content-type: application/grpc",
                 "-H", "te: trailers", *words, "--data-binary", "@" + frame,
                 f"http://{self.address}/temporal.api.workflowservice.v1.WorkflowService/DescribeNamespace"],
                capture_output=True, text=True, timeout=30, check=False).stdout.lower()
            found = [line.split(":")[1].strip() for line in dumped.splitlines() if line.startswith("grpc-status:")]
            return found[0] if found else dumped.split(" ")[1] if " " in dumped else "none"

        trailers = status_of(good)
        assert trailers not in ("7",), trailers  # allowed: the status comes in trailers, or is 0
        assert status_of(good, good) == "7"
        assert status_of(good, "authorization: Bearer x") == "7"
        assert status_of("authorization: Bearer x", good) == "7"
        assert status_of("authorization: Bearer " + "A" * 65536) not in ("0", "200", trailers)
        assert status_of("authorization: Bearer " + "A" * 20000) not in ("0", "200", trailers)
        await self.may_list(self.one.token("a:read"))

    async def keys_rotate_under_load(self):
        stop, calls = asyncio.Event(), [0] * 4
        current = [self.one.token("a:read")]

        async def load(n):
            while not stop.is_set():
                await self.may_list(current[0])
                calls[n] += 1

        tasks = [asyncio.create_task(load(n)) for n in range(4)]
        loop = asyncio.get_running_loop()
        for keys, key in (([self.one, self.two], self.two), ([self.two], self.two), ([self.one, self.two], self.one),
                          ([self.one], self.one)):
            self.issuer.keys = keys  # a key is published before it signs, and taken away when it does no more
            await loop.run_in_executor(None, self.issuer.wait_asked, 2)
            current[0] = key.token("a:read")
            before = list(calls)
            while any(now - then < 2 for now, then in zip(calls, before)) and not any(task.done() for task in tasks):
                await asyncio.sleep(0.01)  # until no call with the old token is under way
        stop.set()
        await asyncio.gather(*tasks)
        assert sum(calls) > 40, calls
        await self.denied(self.may_list(self.two.token("a:read")))

    async def an_issuer_that_misbehaves(self):
        """Keys at hand stay good, whatever the issuer answers; nothing new comes in by it."""
        evil = Key(self.arguments.folder, "evil")
        path = os.path.join(self.arguments.folder, "evil.json")
        with open(path, "w") as out:
            json.dump({"keys": [evil.jwk]}, out)
        document = json.dumps({"keys": [evil.jwk]}).encode()
        loop = asyncio.get_running_loop()
        for answer in (lambda h: h.answer(302, b"", location="file://" + path) or True,
                       lambda h: h.answer(302, b"", location=f"http://127.0.0.1:{self.issuer.port}/elsewhere") or True
                       if h.path == "/keys" else h.answer(200, document) or True,
                       lambda h: h.answer(200, document + b" " * 10_000_000) or True,
                       lambda h: h.answer(500, document) or True,
                       lambda h: h.answer(200, b'{"keys":') or True,
                       lambda h: h.answer(200, b'{"keys":[]}') or True):
            self.issuer.behave = answer
            await loop.run_in_executor(None, self.issuer.wait_asked, 1, 30)
            await asyncio.sleep(0.2)
            await self.may_list(self.one.token("a:read"))
            await self.denied(self.may_list(evil.token("a:read")))
        self.issuer.behave = None
        await loop.run_in_executor(None, self.issuer.wait_asked, 2, 30)

    async def a_slow_issuer_holds_nobody_up(self):
        hold = threading.Event()
        self.issuer.behave = lambda h: hold.wait(20) and False
        token = self.one.token("a:read")
        client = await self.client(token)
        await self.listed(client)
        unknown = Key(self.arguments.folder, "unknown")
        waiting = [asyncio.create_task(self.denied(self.may_list(unknown.token("a:read")))) for _ in range(20)]
        slowest = 0.0
        for _ in range(50):
            began = time.monotonic()
            await self.listed(client)
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1.5, f"{slowest:.1f} s"
        hold.set()
        self.issuer.behave = None
        await asyncio.gather(*waiting)

    async def nothing_is_told(self):
        self.process.terminate()
        assert self.process.wait(30) == 0
        with open(self.log_path) as log:
            text = log.read()
        assert "token refused: it has expired" in text, "the log gives no reason"
        for secret in ("CANARY", "eyJ", "Bearer "):
            assert secret not in text, f"the log has {secret}"

    async def run(self):
        passed = failed = 0
        for case in (self.a_late_issuer, self.a_reader_lists_and_cannot_start, self.a_writer_starts_and_works,
                     self.a_namespace_is_not_another, self.a_worker_alone_may_nothing, self.the_system_is_for_its_own,
                     self.nobody_may_only_ask_who_is_there, self.bad_tokens_are_refused, self.the_cli_with_tokens,
                     self.headers_that_lie, self.keys_rotate_under_load, self.an_issuer_that_misbehaves, self.a_slow_issuer_holds_nobody_up, self.nothing_is_told):
            try:
                await asyncio.wait_for(case(), 90)
                print(f"ok {case.__name__}", flush=True)
                passed += 1
            except Exception as error:  # noqa: BLE001
                print(f"not ok {case.__name__}: {type(error).__name__}: {error}", flush=True)
                failed += 1
        if self.process and self.process.poll() is None:
            self.process.kill()
        print(f"tokens: {passed} passed, {failed} failed")
        return failed


def main():
    parser = argparse.ArgumentParser()
    for name in ("tenond", "cli", "plugins", "folder"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--port", type=int, required=True)
    sys.exit(1 if asyncio.run(Suite(parser.parse_args()).run()) else 0)


if __name__ == "__main__":
    main()
