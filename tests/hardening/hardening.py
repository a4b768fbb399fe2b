# SPDX-License-Identifier: MIT
"""The unit, its sandbox, and secrets: see README.md here."""

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

PATIENCE = 60

passed = failed = 0


began = time.monotonic()


def check(name, good, detail=""):
    global passed, failed
    if good:
        passed += 1
        print(f"ok   {name} [{time.monotonic() - began:.1f} s]", flush=True)
    else:
        failed += 1
        print(f"FAIL {name}: {detail}", flush=True)


def wait_for(what, condition):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.02)
    raise RuntimeError(f"waited in vain for {what}")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


# ---- the unit ----

def the_unit(args):
    """Returns the system calls that it allows, or nothing where systemd-analyze is missing."""
    if not shutil.which("systemd-analyze"):
        print("# left out: the unit (no systemd-analyze here)")
        return None
    for unit in (args.unit, args.unit.replace("tenon.service", "tenon@.service")):
        name = os.path.basename(unit)
        said = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
        level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
        check(f"the exposure of {name} is 1.2 at most", level and float(level.group(1)) <= 1.2, said.stdout[-300:] + said.stderr)
        said = run("systemd-analyze", "verify", "--man=no", unit)
        check(f"{name} has no key that systemd does not know", "Unknown" not in said.stderr and "ailed to parse" not in said.stderr,
              said.stderr)
    keys = [{line for line in open(unit) if re.match("(Cap|Amb|NoNew|Protect|Private|Restrict|System|Memory|Lock|Device|Remove|Keyring|Proc)", line)}
            for unit in (args.unit, args.unit.replace("tenon.service", "tenon@.service"))]
    check("both units have the same sandbox", keys[0] == keys[1] and len(keys[0]) > 25, keys[0] ^ keys[1])
    allowed = set()
    for line in open(args.unit):
        key, _, value = line.strip().partition("=")
        if key == "SystemCallFilter":
            names = set().union(*(calls_of(w) for w in value.lstrip("~").split()))
            allowed = allowed - names if value.startswith("~") else allowed | names
    return allowed


def calls_of(word):
    """A system call, or all of a group, its groups included."""
    names, todo = set(), [word]
    while todo:
        word = todo.pop()
        if not word.startswith("@"):
            names.add(word)
            continue
        text = run("systemd-analyze", "syscall-filter", "--no-pager", word).stdout
        todo += [w for w in (line.strip() for line in text.splitlines()[1:]) if w and not w.startswith("#")]
    return names


# ---- servers ----

SECRETS = {name: f"planted-{name}-4b1dd1e5c0ffee-7f3a91d2" for name in (
    "inplace", "file", "env", "command", "token", "refused", "sentinel", "hs256key")}

HEAD = """\
log: {{level: debug}}
control: {{socket: {folder}/control.sock}}
services:
  frontend: {{rpc: {{grpcPort: {port}}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
plugins: {{dirs: [{plugins}]}}
metrics: {{prometheus: {{listenAddress: "127.0.0.1:{metrics}"}}}}
limits: {{storeTimeout: 500ms, visibilityTimeout: 500ms}}
namespaces: {{create: [default]}}
threads: 2
"""
OPEN = """\
authorization:
  claimMapper: {{plugin: none}}
  authorizer: {{plugin: allow_all}}
"""


def stores(main):
    return ("persistence:\n  defaultStore: main\n  visibilityStore: search\n  numHistoryShards: 4\n  datastores:\n"
            f"    main: {main}\n    search: {{{{plugin: sqlite, path: {{folder}}/search.db}}}}\n")


class Server:
    def __init__(self, args, name, text, env=None):
        self.args, self.name, self.env = args, name, env or {}
        self.folder = os.path.join(args.folder, name)
        os.makedirs(self.folder, exist_ok=True)
        self.config = os.path.join(self.folder, "tenon.yaml")
        self.log_path = os.path.join(self.folder, "log")
        self.trace = os.path.join(self.folder, "trace") if args.strace else None
        self.said = ""  # by tenonctl, and the metrics
        self.write(text)

    def write(self, text):
        with open(self.config + ".new", "w") as f:
            f.write(text.format(folder=self.folder, port=self.args.port, metrics=self.args.metrics,
                                plugins=self.args.plugins, closed=self.args.closed, **SECRETS))
        os.rename(self.config + ".new", self.config)

    def start(self):
        # -D: the server is our child, strace a grandchild.
        strace = ["strace", "-D", "-f", "-qq", "-o", self.trace] if self.trace else []
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen([*strace, self.args.tenond, "--config", self.config], stdout=log, stderr=log,
                                            env={**os.environ, **self.env})

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def until(self, text):
        def seen():
            if self.process.poll() is not None and text not in self.log():
                raise RuntimeError(f"{self.name} has ended with {self.process.returncode}:\n{self.log()[-2000:]}")
            return text in self.log()
        wait_for(f"{self.name}: {text}", seen)

    def ctl(self):
        answer = run(self.args.tenonctl, "reload", "--config", self.config)
        self.said += answer.stdout + answer.stderr
        return answer

    def metrics(self):
        self.said += urllib.request.urlopen(f"http://127.0.0.1:{self.args.metrics}/metrics", timeout=PATIENCE).read().decode()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key, claims):
    head = b64(json.dumps({"alg": "HS256", "kid": "k", "typ": "JWT"}).encode())
    body = b64(json.dumps(claims).encode())
    return f"{head}.{body}." + b64(hmac.new(key, f"{head}.{body}".encode(), hashlib.sha256).digest())


def call(args, bearer):
    """DescribeNamespace over TLS; the gRPC status, or nothing."""
    body = os.path.join(args.folder, "request")
    with open(body, "wb") as f:
        f.write(b"\0\0\0\0\x09\x0a\x07default")
    out = run("curl", "-sk", "--http2", "-D", "-", "-o", "/dev/null", "-H", "content-type: application/grpc", "-H", "te: trailers",
              "-H", f"authorization: Bearer {bearer}", "--data-binary", f"@{body}",
              f"https://127.0.0.1:{args.port}/temporal.api.workflowservice.v1.WorkflowService/DescribeNamespace")
    return re.findall(r"grpc-status: (\d+)", out.stdout)


def peer(args):
    """What the port shows of itself."""
    out = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{args.port}", "-alpn", "h2"], input="",
                         capture_output=True, text=True, timeout=PATIENCE)
    return out.stdout


def whole_server(args):
    """SQLite, TLS with its keys in both forms, tokens."""
    folder = os.path.join(args.folder, "whole")
    os.mkdir(folder)
    for name in ("a", "b"):
        made = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                   "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{folder}/{name}.key",
                   "-out", f"{folder}/{name}.pem")
        if made.returncode:
            raise RuntimeError(made.stderr)
    key = open(f"{folder}/a.key", "rb").read()
    cert = open(f"{folder}/a.pem", "rb").read()
    secret = SECRETS["hs256key"].encode()
    with open(f"{folder}/keys.json", "w") as f:
        json.dump({"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": b64(secret)}]}, f)
    tls = f"""\
global:
  tls:
    frontend:
      server: {{{{certData: {base64.b64encode(cert).decode()}, keyData: {base64.b64encode(key).decode()}}}}}
    internode:
      server: {{{{certFile: {folder}/b.pem, keyFile: {folder}/b.key}}}}
"""
    auth = f"""\
authorization:
  claimMapper: {{{{plugin: jwt, keySourceURIs: ["file://{folder}/keys.json"], algorithms: [HS256]}}}}
  authorizer: {{{{plugin: default}}}}
"""
    s = Server(args, "whole", HEAD + stores("{{plugin: sqlite, path: {folder}/main.db}}") + tls + auth)
    s.start()
    s.until("server: serving")
    good = token(secret, {"sub": "me", "exp": int(time.time()) + 3600, "permissions": ["default:read", SECRETS["token"] + ":read"]})
    bad = token(b"another", {"sub": "me", "exp": int(time.time()) + 3600, "permissions": ["default:read"]})
    check("a good token is let in, over TLS", call(args, good) == ["0"], call(args, good))
    check("a bad one is not", call(args, bad) == ["7"] and call(args, SECRETS["token"]) == ["7"])
    check("reload", s.ctl().returncode == 0)
    s.metrics()
    s.write(HEAD + stores("{{plugin: sqlite, path: {folder}/main.db, password: {refused}}}") + tls.replace("keyData", "keyDota") + auth)
    check("a reload that is refused", s.ctl().returncode == 1)
    def with_frontend(server):
        front = f"    frontend:\n      server: {server}\n" if server else ""
        s.write(HEAD + stores("{{plugin: sqlite, path: {folder}/main.db}}") + "global:\n  tls:\n" + front
                + f"    internode:\n      server: {{{{certFile: {folder}/b.pem, keyFile: {folder}/b.key}}}}\n" + auth)
        return s.ctl()

    answer = with_frontend(f"{{{{certFile: {folder}/b.pem, keyFile: {folder}/a.key}}}}")
    check("a reload with a key that does not fit is refused with its line", answer.returncode == 1
          and re.search(r"tenon.yaml:\d+: global.tls.frontend.server.keyFile: \S+ is not the key of", answer.stderr), answer.stderr)
    shown = peer(args)
    answer = with_frontend(f"{{{{certFile: {folder}/b.pem, keyFile: {folder}/b.key}}}}")
    check("other certificates are taken by a reload", answer.returncode == 0 and "CN = a" in shown and "CN = b" in peer(args)
          and "changed: global.tls.frontend.server.certFile" in answer.stdout, answer.stdout)
    answer = with_frontend(None)
    check("that a port turns away from TLS needs a restart", answer.returncode == 0
          and "needs a restart: global.tls.frontend" in answer.stdout and "CN = b" in peer(args), answer)
    check("it ends well", s.stop() == 0, s.process.returncode)
    lines = [line for name in ("a", "b") for line in open(f"{folder}/{name}.key").read().splitlines() if len(line) > 20
             and not line.startswith("-")]
    planted = [*lines, base64.b64encode(key).decode()[:60], base64.b64encode(key).decode()[80:140], b64(secret), good, bad,
               good.rsplit(".", 1)[1]]
    return s, planted


def away(args):
    """Servers that cannot reach their database, each with a password from another place."""
    with open(f"{args.folder}/password", "w") as f:
        f.write(SECRETS["file"] + "\n")
    sql = "connectAddr: \"127.0.0.1:{closed}\""
    drivers = {
        "postgresql": "{{plugin: postgresql, sql: {{" + sql + ", databaseName: tenon, user: tenon, password: {inplace}}}}}",
        "mysql": "{{plugin: mysql, sql: {{" + sql + ", databaseName: tenon, user: tenon, passwordFile: " + args.folder + "/password}}}}",
        "redis": "{{plugin: redis, connectAddr: \"127.0.0.1:{closed}\", passwordEnv: TN_PLANTED, sentinelPasswordCommand: [echo, {sentinel}]}}",
    }
    servers = []
    for name, main in drivers.items():
        if not os.path.exists(f"{args.plugins}/persistence/{name}.so"):
            print(f"# left out: {name} (not built)")
            continue
        s = Server(args, name, HEAD + stores(main) + OPEN, {"TN_PLANTED": SECRETS["env"]})
        s.start()
        servers.append(s)
        wait_for(f"{name} to say that its database is away",
                 lambda s=s: s.process.poll() is not None or "keeps us waiting" in s.log())
        if s.process.poll() is None:
            s.process.send_signal(signal.SIGTERM)
        s.process.wait(PATIENCE)
        check(f"{name}: that its database cannot be reached is said", str(args.closed) in s.log(), s.log()[-600:])
    return servers


def refused(args):
    """Passwords in configurations with mistakes: the complaints must not repeat them."""
    texts = [
        "{{plugin: sqlite, path: {folder}/x.db, pasword: {refused}}}",
        "{{plugin: postgresql, sql: {{connectAddr: \"127.0.0.1:1\", databaseName: t, user: u, password: {refused}, passwordFile: /x}}}}",
        "{{plugin: postgresql, sql: {{connectAddr: \"127.0.0.1:1\", databaseName: t, user: u, password: [{refused}]}}}}",
        "{{plugin: redis, connectAddr: \"127.0.0.1:1\", passwordCommand: [sh, -c, \"echo $TN_PLANTED; exit 3\"]}}",
        "{{plugin: redis, connectAddr: \"127.0.0.1:1\", password: {{{refused}: 1}}}}",
        "{{plugin: redis, connectAddr: \"127.0.0.1:1\", password: {refused}, password: {refused}}}",
    ]
    servers = []
    for i, main in enumerate(texts):
        s = Server(args, f"refused{i}", HEAD + stores(main) + OPEN, {"TN_PLANTED": SECRETS["refused"]})
        s.trace = None
        s.start()
        check(f"refused: {main}", s.process.wait(PATIENCE) == 1 and "tenon.yaml:" in s.log(), s.log()[-300:])
        servers.append(s)
    return servers


# ---- what they did ----

def look_at_traces(servers, allowed):
    used, executable = set(), []
    for s in servers:
        if not s.trace or not os.path.exists(s.trace):
            continue
        with open(s.trace, errors="replace") as f:
            for line in f:
                m = re.match(r"\d+ +(?:<\.\.\. )?([a-z0-9_]+)(?:\(| resumed)", line)
                if m:
                    used.add(m.group(1))
                if re.search(r"mmap\(.*PROT_WRITE\|PROT_EXEC|(?:pkey_)?mprotect\(.*PROT_EXEC|shmat\(.*SHM_EXEC", line):
                    executable.append(line.strip())
    if os.geteuid() == 0:
        used.discard("fchown")  # SQLite gives files it makes to their folder's owner when it is root; the unit is not
    check("every system call is one that the unit allows", used and not used - allowed, sorted(used - allowed))
    check("nothing is made writable and executable", not executable, executable[:5])
    print(f"     {len(used)} system calls in use, {len(allowed)} allowed")


def look_for_secrets(servers, planted):
    found = []
    for s in servers:
        text = s.log() + s.said
        found += [(s.name, word, next(line for line in text.splitlines() if word in line)[:300])
                  for word in planted if word in text]
    check(f"{len(planted)} secrets in {len(servers)} servers: none was said", not found, found)


def main():
    p = argparse.ArgumentParser()
    for name in ("tenond", "tenonctl", "unit", "plugins", "folder", "port", "metrics", "closed"):
        p.add_argument("--" + name, required=True)
    args = p.parse_args()
    tries = run("strace", "-f", "-qq", "-o", "/dev/null", "true") if shutil.which("strace") else None
    args.strace = tries is not None and tries.returncode == 0
    servers = []
    try:
        allowed = the_unit(args)
        s, planted = whole_server(args)
        servers.append(s)
        servers += away(args)
        if allowed and args.strace:
            look_at_traces(servers, allowed)
        else:
            print("# left out: system calls (strace may not trace here, or there is no systemd-analyze)")
        servers += refused(args)
        look_for_secrets(servers, planted + list(SECRETS.values()))
    except Exception as e:  # noqa: BLE001 whatever it was, it is a failure
        check("the run came to its end", False, repr(e))
    for s in servers:
        if s.process.poll() is None:
            s.process.kill()
    print(f"suite: {passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
