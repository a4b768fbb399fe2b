# SPDX-License-Identifier: MIT
"""What TLS and authorization cost: CPU of tenond's threads a call, with h2load, variants in turns.

    run --guards [--repeats 5] [--n 40000] [--folder DIR]

Variants: neither; authorization by claimmapper/jwt with authorizer/rules (a token that is remembered, a policy of a dozen
rules); TLS 1.3.  Calls on kept connections: GetSystemInfo (which nobody is asked about), DescribeNamespace, and a
StartWorkflowExecution with a payload that is the same each time, so that the run which is there is its answer; eight
connections with one call each at a time, and four with 32.  The CPU is that of all threads from /proc/PID/task/*/schedstat.
The smallest of the repeats is told beside the median: other work on the machine only ever adds."""

import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "auth"))
from keys import Key  # noqa: E402

SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
CONFIG = """\
log: {{level: warn}}
services:
  frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {port}}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
threads: 1
plugins: {{dirs: [{plugins}]}}
dynamicConfigClient: {{filepath: {folder}/rates.yaml, pollInterval: 10s}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 4
  datastores:
    main: {{plugin: sqlite, path: ":memory:"}}
    search: {{plugin: sqlite, path: ":memory:"}}
metrics: {{prometheus: {{listenAddress: "127.0.0.1:{metrics}"}}}}
namespaces: {{create: [orders], retention: 72h}}
"""
OPEN = "authorization: {claimMapper: {plugin: none}, authorizer: {plugin: allow_all}}\n"
CLOSED = """\
authorization:
  claimMapper: {{plugin: jwt, keySourceURIs: ["file://{folder}/keys.json"], audience: tenon}}
  authorizer: {{plugin: rules, policyFile: {folder}/policy.yaml}}
"""
TLS = "global: {{tls: {{frontend: {{server: {{certFile: {folder}/s.pem, keyFile: {folder}/s.key}}}}}}}}\n"
RATES = ("frontend.namespaceRPS", "frontend.rps", "frontend.namespaceCount")
POLICY = "rules:\n" + "".join(
    f"- {{verdict: deny, namespace: \"other-{i}*\", method: [\"Start*\", \"Signal*\"], subject: \"x{i}*\"}}\n" for i in range(10)
) + "- {verdict: allow, role: reader, access: read}\n- {verdict: allow, role: writer, taskQueue: [\"\", \"q*\"]}\n"


def field(number, value):
    value = value.encode() if isinstance(value, str) else value
    length, out = len(value), bytearray()
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2]) + bytes(out) + bytes([length]) + value


def start_request():
    payload = field(1, field(1, "encoding") + field(2, b"json/plain")) + field(2, b'"' + b"x" * 600 + b'"')
    return (field(1, "orders") + field(2, "bench-1") + field(3, field(1, "Bench")) + field(4, field(1, "q")) +
            field(5, field(1, payload)) + field(9, "guards.py") + field(10, "7f5c7bd0-5bb0-4a4a-9b3c-5d3a1f1f0001"))


CALLS = {"GetSystemInfo": b"", "DescribeNamespace": field(1, "orders"), "StartWorkflowExecution": start_request()}


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.results = args, folder, {}
        self.port, self.metrics = self.free_port(), self.free_port()
        self.key = Key(str(folder), "one")
        (folder / "keys.json").write_text(json.dumps({"keys": [self.key.jwk]}))
        (folder / "policy.yaml").write_text(POLICY)
        (folder / "rates.yaml").write_text("".join(f"{rate}:\n  - value: 1000000\n" for rate in RATES))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "s.key",
                        "-out", folder / "s.pem"], check=True, capture_output=True)
        for name, message in CALLS.items():
            (folder / name).write_bytes(struct.pack(">BI", 0, len(message)) + message)

    @staticmethod
    def free_port():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def start(self, extra):
        config = self.folder / "tenon.yaml"
        words = {"port": self.port, "metrics": self.metrics, "plugins": self.args.plugins, "folder": self.folder}
        config.write_text((CONFIG + extra).format(**words) if extra != OPEN else CONFIG.format(**words) + OPEN)
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen([self.args.tenond, "--config", config], stdout=log, stderr=log)
        end = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", self.port)) != 0:
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit((self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)
        return process

    def load(self, scheme, call, n, connections, streams):
        headers = ["content-type: application/grpc", "te: trailers", "user-agent: grpc-go/1.66", "grpc-timeout: 99999m",
                   "authorization: Bearer " + self.token]
        out = subprocess.run(
            ["h2load", "-n", str(n), "-c", str(connections), "-m", str(streams), "-d", self.folder / call,
             *[word for header in headers for word in ("-H", header)], f"{scheme}://127.0.0.1:{self.port}{SERVICE}{call}"],
            check=True, capture_output=True, text=True).stdout
        if f"{n} 2xx" not in out:
            raise SystemExit(out)

    @staticmethod
    def cpu_ns(pid):
        return sum(int(p.read_text().split()[0]) for p in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))

    def metric(self, name):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=10).read().decode()
        return sum(float(v) for v in re.findall(rf"(?m)^{name}(?:\{{[^}}]*\}})? (\S+)$", text))

    def measure(self, variant, scheme, extra):
        process = self.start(extra)
        try:
            for call in CALLS:
                for connections, streams in ((8, 1), (4, 32)):
                    self.load(scheme, call, 1000, connections, streams)
                    before = self.cpu_ns(process.pid)
                    self.load(scheme, call, self.args.n, connections, streams)
                    us = (self.cpu_ns(process.pid) - before) / self.args.n / 1000
                    self.results.setdefault((call, connections, streams), {}).setdefault(variant, []).append(us)
            if self.metric("service_errors_unauthorized") or self.metric("service_errors_resource_exhausted"):
                raise SystemExit("calls were refused")
            if variant == "jwt and rules" and self.metric("tenon_plugin_jwt_cache_hits") < 2 * self.args.n:
                raise SystemExit("the token was not remembered")
        finally:
            process.terminate()
            process.wait()

    def run(self):
        variants = {"neither": ("http", OPEN), "jwt and rules": ("http", CLOSED), "TLS 1.3": ("https", "@" + TLS)}
        for _ in range(self.args.repeats):
            self.token = self.key.token("orders:write")
            for name, (scheme, extra) in variants.items():
                extra = extra if not extra.startswith("@") else extra[1:] + OPEN.replace("{", "{{").replace("}", "}}")
                self.measure(name, scheme, extra)
        print("| call, connections × calls at a time | neither, µs | jwt and rules, µs | adds, µs | TLS 1.3, µs | adds, % |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for (call, connections, streams), found in self.results.items():
            least = {name: min(values) for name, values in found.items()}
            text = {name: f"{least[name]:.1f} ({statistics.median(values):.1f})" for name, values in found.items()}
            print(f"| {call}, {connections} × {streams} | {text['neither']} | {text['jwt and rules']} | "
                  f"{least['jwt and rules'] - least['neither']:.1f} | {text['TLS 1.3']} | "
                  f"{100 * (least['TLS 1.3'] / least['neither'] - 1):.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--n", type=int, default=40000)
    parser.add_argument("--folder", default="/var/lib", help="root's own: a server with a configuration loads plugins from such only")
    args = parser.parse_args()
    if not shutil.which("h2load"):
        raise SystemExit("error: no h2load (Debian: nghttp2-client)")
    args.tenond = os.environ["TENOND"]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tenon-bench.", dir=args.folder))
    try:
        folder.chmod(0o755)
        shutil.copytree(os.environ["PLUGINS"], folder / "plugins")
        subprocess.run(["chmod", "-R", "go-w", folder / "plugins"], check=True)
        args.plugins = folder / "plugins"
        Bench(args, folder).run()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
