# SPDX-License-Identifier: MIT
"""A running tenond with global.tls: who gets in, who does not, and what happens when certificates change."""

import argparse
import asyncio
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import uuid
import warnings
from datetime import timedelta

from temporalio import workflow
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client, TLSConfig
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

warnings.simplefilter("ignore", DeprecationWarning)
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])

CONFIG = """\
log: {{level: info}}
services:
  frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {port}}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
threads: 1
global:
  tls:
    refreshInterval: 100ms
    expirationChecks: {{warningWindow: 48h, errorWindow: 1h, checkInterval: 1h}}
    frontend:
{tls}
plugins: {{dirs: [{plugins}]}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 4
  datastores:
    main: {{plugin: sqlite, path: ":memory:"}}
    search: {{plugin: sqlite, path: ":memory:"}}
authorization:
  claimMapper: {{plugin: none}}
  authorizer: {{plugin: allow_all}}
namespaces: {{create: [default], retention: 72h}}
metrics: {{prometheus: {{listenAddress: "127.0.0.1:{metrics}"}}}}
"""

MUTUAL = """\
      server:
        certFile: {f}/server.pem
        keyFile: {f}/server.key
        clientCaFiles: [{f}/clients.pem]
        requireClientAuth: true
      client: {{serverName: localhost, rootCaFiles: [{f}/ca.pem]}}
      hostOverrides:
        other.example:
          certFile: {f}/other.pem
          keyFile: {f}/other.key
          clientCaFiles: [{f}/others.pem]
          requireClientAuth: true"""

ONE_SIDED = """\
      server: {{certFile: {f}/server.pem, keyFile: {f}/server.key}}"""


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Authority:
    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem")

    def sign(self, name, san, use="serverAuth,clientAuth", days=10, suffix=""):
        base = f"{self.folder}/{name}"
        with open(f"{base}.ext", "w") as ext:
            ext.write(f"subjectAltName={san}\nextendedKeyUsage={use}\nbasicConstraints=CA:FALSE\n")
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", f"/O=Acme/CN={name}", "-keyout", f"{base}.key{suffix}", "-out", f"{base}.csr")
        openssl("x509", "-req", "-in", f"{base}.csr", "-CA", f"{self.folder}/{self.name}.pem",
                "-CAkey", f"{self.folder}/{self.name}.key", "-set_serial", str(uuid.uuid4().int >> 8),
                "-days", str(days), "-extfile", f"{base}.ext", "-out", f"{base}.pem{suffix}")


@workflow.defn(name="TlsWorkflow")
class TlsWorkflow:
    @workflow.run
    async def run(self, name: str) -> str:
        await workflow.sleep(timedelta(milliseconds=10))
        return f"hello {name}"


class Suite:
    def __init__(self, args):
        self.args, self.folder, self.port = args, args.folder, args.port
        self.passed = self.failed = 0
        self.server = None

    def check(self, name, ok, detail=""):
        self.passed += bool(ok)
        self.failed += not ok
        if not ok:
            print(f"FAIL {name} {detail}", flush=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    # ---- the server

    def config(self, tls, name="tenon.yaml"):
        with open(self.path(name), "w") as file:
            file.write(CONFIG.format(port=self.port, metrics=self.args.other, plugins=self.args.plugins,
                                     tls=tls.format(f=self.folder)))
        return self.path(name)

    def start(self, tls):
        with open(self.path("log"), "ab") as log:
            self.server = subprocess.Popen([self.args.tenond, "--config", self.config(tls)], stdout=log, stderr=log)
        for _ in range(400):
            if self.server.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    return
                except OSError:
                    pass
            time.sleep(0.025)
        sys.exit("tenond did not start:\n" + self.read("log").decode()[-2000:])

    def stop(self):
        self.server.terminate()
        self.check("the server ends well", self.server.wait(30) == 0)

    def memory_kib(self):
        with open(f"/proc/{self.server.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))

    def metric(self, name):
        with socket.create_connection(("127.0.0.1", self.args.other), 5) as s:
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            text = b""
            while piece := s.recv(65536):
                text += piece
        found = re.search(rb"(?m)^" + re.escape(name.encode()) + rb" (\S+)$", text)
        return float(found.group(1)) if found else None

    # ---- clients

    def context(self, cert="client", ca="ca.pem", alpn=("h2",), newest=None, oldest=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path(ca))
        if cert:
            context.load_cert_chain(self.path(cert + ".pem"), self.path(cert + ".key"))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if oldest:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = oldest
        if newest:
            context.maximum_version = newest
        return context

    def talk(self, context, host="localhost", session=None):
        """The server's first frame comes: (True, connection's facts), or (False, why)."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 10) as raw:
                with context.wrap_socket(raw, server_hostname=host, session=session) as tls:
                    tls.sendall(H2_PREFACE)
                    got = b""
                    while len(got) < 9:
                        piece = tls.recv(100)
                        if not piece:
                            return False, "closed"
                        got += piece
                    facts = {"session": tls.session, "reused": tls.session_reused, "version": tls.version(),
                             "cert": tls.getpeercert(), "cipher": tls.cipher()}
                    return got[3] == 4, facts
        except OSError as e:
            return False, str(e)

    def sdk_tls(self, cert="client", host="localhost", ca="ca.pem"):
        return TLSConfig(server_root_ca_cert=self.read(ca), domain=host,
                         client_cert=self.read(cert + ".pem") if cert else None,
                         client_private_key=self.read(cert + ".key") if cert else None)

    async def connect(self, **words):
        return await asyncio.wait_for(Client.connect(f"127.0.0.1:{self.port}", tls=self.sdk_tls(**words)), 15)

    # ---- cases

    def check_config(self):
        def told(name, tls, *wanted):
            run = subprocess.run([self.args.tenond, "--check-config", self.config(tls, "bad.yaml")],
                                 capture_output=True, text=True)
            ok = run.returncode == 1 and all(w in run.stderr for w in wanted) and re.search(
                r"bad\.yaml:\d+: global\.tls\.", run.stderr) and "fix:" in run.stderr
            self.check("check-config: " + name, ok, run.stderr)
        good = subprocess.run([self.args.tenond, "--check-config", self.config(MUTUAL, "good.yaml")],
                              capture_output=True, text=True)
        self.check("check-config: a good one", good.returncode == 0, good.stderr)
        told("a key of another", ONE_SIDED.replace("server.key", "client.key"), "is not the key of")
        told("no such file", ONE_SIDED.replace("server.pem", "none.pem"), "none.pem cannot be read")
        told("no certificate in it", ONE_SIDED.replace("server.pem", "server.key"), "has no certificate")
        told("expired", ONE_SIDED.replace("server.", "old."), "has expired")
        told("for clients only", ONE_SIDED.replace("server.", "onlyclient."), "does not verify")
        told("a chain out of order", ONE_SIDED.replace("server.pem", "unordered.pem"), "does not verify")
        told("a locked key", ONE_SIDED.replace("server.key", "locked.key"), "password")
        told("a weak key", ONE_SIDED.replace("server.", "weak."), "key too")
        told("authorities missing", MUTUAL.replace("        clientCaFiles: [{f}/clients.pem]\n", ""), "clientCaFiles")
        told("key missing", ONE_SIDED.replace(", keyFile: {f}/server.key", ""), "keyFile", "is not set")
        told("a wrong word", MUTUAL.replace("requireClientAuth", "requireClientAuht"), "did you mean")
        told("another name", MUTUAL.replace("serverName: localhost", "serverName: elsewhere"), "ostname mismatch")
        told("another root", MUTUAL.replace("{f}/ca.pem", "{f}/others.pem"), "frontend.client.rootCaFiles")

    def doors(self):
        ok, facts = self.talk(self.context())
        self.check("a client with its certificate", ok and facts["version"] == "TLSv1.3", facts)
        ok, facts = self.talk(self.context(newest=ssl.TLSVersion.TLSv1_2))
        self.check("TLS 1.2", ok and facts["version"] == "TLSv1.2" and "ECDHE" in facts["cipher"][0], facts)
        refused = {
            "no certificate": dict(context=self.context(cert=None)),
            "a certificate of other authorities": dict(context=self.context(cert="stranger")),
            "an expired certificate": dict(context=self.context(cert="oldclient")),
            "a server's certificate as a client": dict(context=self.context(cert="onlyserver")),
            "TLS 1.1": dict(context=self.context(oldest=ssl.TLSVersion.TLSv1, newest=ssl.TLSVersion.TLSv1_1)),
            "no ALPN": dict(context=self.context(alpn=())),
            "ALPN of HTTP/1.1": dict(context=self.context(alpn=("http/1.1",))),
            "a host that the certificate does not name": dict(context=self.context(), host="elsewhere"),
            "an authority that the client does not know": dict(context=self.context(ca="others.pem")),
            "the other host with this host's certificate": dict(context=self.context(ca="both.pem"), host="other.example"),
        }
        for name, words in refused.items():
            ok, facts = self.talk(**words)
            self.check("refused: " + name, not ok, facts)
        with socket.create_connection(("127.0.0.1", self.port), 10) as raw:
            raw.sendall(H2_PREFACE)
            answer = raw.recv(100)
            self.check("refused: HTTP/2 without TLS", answer[3:4] != b"\x04", answer)
        ok, facts = self.talk(self.context(cert="otherclient", ca="both.pem"), host="Other.Example")
        names = [value for _, value in facts["cert"]["subjectAltName"]] if ok else facts
        self.check("SNI chooses another certificate", names == ["other.example"], names)

    def resumption(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.context(newest=version, ca="both.pem")
            _, first = self.talk(context)
            ok, again = self.talk(context, session=first["session"])
            self.check(f"{version.name}: a session is resumed", ok and again["reused"], again)
            ok, facts = self.talk(context, host="other.example", session=first["session"])
            self.check(f"{version.name}: but not as another host", not ok, facts)
            self.check(f"{version.name}: and counted", (self.metric('tenon_tls_handshakes{result="resumed"}') or 0) >= 1)

    def programs(self):
        cli = [self.args.cli, "--address", f"127.0.0.1:{self.port}", "--tls-ca-path", self.path("ca.pem"),
               "--tls-server-name", "localhost", "--command-timeout", "10s"]
        own = ["--tls-cert-path", self.path("client.pem"), "--tls-key-path", self.path("client.key")]
        for name, words, good in (("with", own, True), ("without", [], False)):
            run = subprocess.run(cli + words + ["operator", "namespace", "list"], capture_output=True, text=True)
            self.check(f"the CLI {name} a certificate", (run.returncode == 0) == good, run.stderr)

    async def sdk(self):
        client = await self.connect()
        async with Worker(client, task_queue="tls", workflows=[TlsWorkflow],
                          workflow_runner=UnsandboxedWorkflowRunner()):
            results = await asyncio.wait_for(asyncio.gather(*[
                client.execute_workflow(TlsWorkflow.run, str(i), id=f"tls-{uuid.uuid4()}", task_queue="tls")
                for i in range(20)]), 60)
        self.check("the SDK runs workflows", results == [f"hello {i}" for i in range(20)])
        for name, words in (("without a certificate", dict(cert=None)), ("with a stranger's", dict(cert="stranger"))):
            try:
                await self.connect(**words)
                self.check("the SDK is refused " + name, False)
            except (RuntimeError, asyncio.TimeoutError):
                self.check("the SDK is refused " + name, True)

    async def renewal(self, authority):
        """Calls on kept and on new connections while the files change."""
        calls, failures, over = 0, [], False

        async def load(kept):
            nonlocal calls
            client = await self.connect()
            while not over:
                try:
                    if not kept:
                        client = await self.connect()
                    await client.workflow_service.get_system_info(GetSystemInfoRequest(), retry=False)
                    calls += 1
                except Exception as e:  # noqa: BLE001
                    failures.append(str(e))

        tasks = [asyncio.create_task(load(i < 4)) for i in range(6)]
        renewed = 'tenon_tls_renewals{result="renewed"}'
        _, before = await asyncio.to_thread(self.talk, self.context())
        serials = {before["cert"]["serialNumber"]}
        for _ in range(5):
            count = self.metric(renewed)
            await asyncio.to_thread(authority.sign, "server", "DNS:localhost,IP:127.0.0.1", suffix=".new")
            os.rename(self.path("server.key.new"), self.path("server.key"))
            await asyncio.sleep(0.15)  # a reading in between finds a key that does not fit, and leaves things be
            os.rename(self.path("server.pem.new"), self.path("server.pem"))
            for _ in range(200):
                if self.metric(renewed) > count:
                    break
                await asyncio.sleep(0.05)
            _, facts = await asyncio.to_thread(self.talk, self.context())
            serials.add(facts["cert"]["serialNumber"])
        over = True
        await asyncio.gather(*tasks)
        self.check("renewed five times", len(serials) == 6, serials)
        self.check(f"no call fails meanwhile ({calls} calls)", not failures and calls > 100, failures[:3])
        context = self.context()
        _, first = self.talk(context)
        await asyncio.to_thread(authority.sign, "server", "DNS:localhost,IP:127.0.0.1")
        for _ in range(200):
            if self.talk(self.context())[1]["cert"]["serialNumber"] != first["cert"]["serialNumber"]:
                break
            await asyncio.sleep(0.05)
        ok, facts = self.talk(context, session=first["session"])
        self.check("a session does not outlive the files", ok and not facts["reused"], facts)

    def dalliers(self):
        """Hellos that end in the middle, and noise: little memory, and gone after the time of the handshake."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        half = self.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        try:
            half.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = outgoing.read()
        self.talk(self.context())
        before = self.memory_kib()
        sockets = []
        for i in range(400):
            s = socket.create_connection(("127.0.0.1", self.port), 10)
            s.sendall((hello[:len(hello) // 2], hello, b"\x16\x03\x01\x40\x00" + os.urandom(12000), b"")[i % 4])
            sockets.append(s)
        ok, facts = self.talk(self.context())
        self.check("others are served beside 400 half handshakes", ok, facts)
        grown = self.memory_kib() - before
        self.check(f"400 half handshakes take {grown} KiB", grown < 400 * 64)
        end, open_still = time.monotonic() + 20, set(sockets)
        for s in sockets:
            s.settimeout(max(0.1, end - time.monotonic()))
            try:
                while s.recv(65536):
                    pass
                open_still.discard(s)
            except ConnectionError:
                open_still.discard(s)
            except TimeoutError:
                pass
            s.close()
        self.check("and are ended in time", not open_still, len(open_still))
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", self.port), 10) as s:
                s.sendall(os.urandom(3000))
        ok, facts = self.talk(self.context())
        self.check("noise does no harm", ok, facts)

    def sslyze(self):
        python = os.path.join(self.args.tools, "sslyze", "bin", "python")
        if not os.path.exists(python):
            return
        out = subprocess.run([python, "-W", "ignore", "-m", "sslyze", f"127.0.0.1:{self.port}", "--sni", "localhost",
                              "--mozilla_config", "intermediate", "--certinfo_ca_file", self.path("ca.pem")],
                             capture_output=True, text=True, timeout=120).stdout
        findings = re.findall(r"(?m)^\s+\* (\w+: .*)$", out[out.find("COMPLIANCE"):])
        bad = [f for f in findings if not f.startswith(("certificate_path_validation", "maximum_certificate_lifespan"))]
        vulnerable = re.findall(r"(?m)^.*VULNERABLE - .*$|^.*Traceback.*$", out)
        self.check("sslyze finds nothing", "COMPLIANCE" in out and not bad and not vulnerable, (bad, vulnerable, out[-500:]))
        for word in ("Compression disabled", "Not vulnerable to Heartbleed", "Not vulnerable to OpenSSL CCS",
                     "Client Renegotiation DoS Attack:   OK", "Supported"):
            self.check("sslyze: " + word, word in out)

    def h2spec(self):
        h2spec = os.path.join(self.args.tools, "h2spec")
        if not os.path.exists(h2spec):
            return
        out = subprocess.run([h2spec, "-t", "-k", "-S", "-h", "127.0.0.1", "-p", str(self.port), "-P",
                              "/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo"],
                             capture_output=True, text=True, timeout=120).stdout
        found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", out)
        print("h2spec over TLS:", found.group(0) if found else "no count", flush=True)
        self.check("h2spec over TLS", found and int(found.group(4)) == 0 and int(found.group(2)) > 140, out[-1500:])

    def certificates(self):
        servers, clients = Authority(self.folder, "ca"), Authority(self.folder, "clients")
        others = Authority(self.folder, "others")
        local = "DNS:localhost,IP:127.0.0.1"
        servers.sign("server", local)
        servers.sign("old", local, days=-1)
        servers.sign("onlyclient", local, use="clientAuth")
        others.sign("other", "DNS:other.example")
        clients.sign("client", "DNS:client")
        clients.sign("oldclient", "DNS:client", days=-1)
        clients.sign("onlyserver", "DNS:client", use="serverAuth")
        others.sign("otherclient", "DNS:client")
        others.sign("stranger", "DNS:client")
        with open(self.path("both.pem"), "wb") as both:
            both.write(self.read("ca.pem") + self.read("others.pem"))
        with open(self.path("unordered.pem"), "wb") as unordered:
            unordered.write(self.read("server.pem") + self.read("others.pem"))
        openssl("pkey", "-in", self.path("server.key"), "-aes256", "-passout", "pass:x", "-out", self.path("locked.key"))
        openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak", "-keyout", self.path("weak.key"),
                "-out", self.path("weak.pem"))
        return servers

    def run(self):
        authority = self.certificates()
        self.check_config()
        self.start(MUTUAL)
        self.doors()
        self.resumption()
        self.programs()
        asyncio.run(self.sdk())
        self.check("certificates near their end are counted", self.metric("tenon_tls_certificates_expiring") == 0)
        asyncio.run(self.renewal(authority))
        self.dalliers()
        self.stop()
        self.start(ONE_SIDED)
        ok, facts = self.talk(self.context(cert=None))
        self.check("without requireClientAuth anybody", ok, facts)
        self.sslyze()
        self.h2spec()
        self.stop()
        print(f"tls: {self.passed} passed, {self.failed} failed", flush=True)
        return self.failed != 0


def main():
    parser = argparse.ArgumentParser()
    for name in ("tenond", "cli", "plugins", "folder", "tools"):
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
