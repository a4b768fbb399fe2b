# SPDX-License-Identifier: MIT
"""Reloads of one server: see README.md here."""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

PATIENCE = 60  # seconds, for what takes milliseconds on a quiet machine

passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    if good:
        passed += 1
        print(f"ok   {name}", flush=True)
    else:
        failed += 1
        print(f"FAIL {name}: {detail}", flush=True)
    return good


def wait_for(what, condition):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise RuntimeError(f"waited in vain for {what}")


CONFIG = """\
log: {{level: {level}}}
control: {{socket: {folder}/control.sock}}
services:
  frontend: {{rpc: {{grpcPort: {port}}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
threads: {threads}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 4
  datastores:
    main: {{plugin: sqlite, path: {folder}/main.db}}
    search: {{plugin: sqlite, path: {folder}/search.db}}
authorization:
  claimMapper: {mapper}
  authorizer: {authorizer}
plugins: {{dirs: [{plugins}]}}
limits: {{authTimeout: {timeout}}}
metrics: {{prometheus: {{listenAddress: "127.0.0.1:{metrics}"}}}}
dynamicConfigClient: {{filepath: {folder}/dynamic.yaml}}
namespaces: {{create: [default]}}
{more}
"""


class Server:
    def __init__(self, args, tenond, plugins, name):
        self.args, self.tenond, self.plugins = args, tenond, plugins
        self.folder = os.path.join(args.folder, name)
        os.mkdir(self.folder)
        self.config = os.path.join(self.folder, "tenon.yaml")
        self.log_path = os.path.join(self.folder, "log")
        self.dynamic("frontend.rps: [{value: 100000}]\nfrontend.namespaceRPS: [{value: 100000}]\n"
                     "frontend.namespaceCount: [{value: 100000}]\n")
        self.process = None
        self.write()

    def dynamic(self, text):
        self.replace(os.path.join(self.folder, "dynamic.yaml"), text)

    @staticmethod
    def replace(path, text):
        with open(path + ".new", "w") as f:
            f.write(text)
        os.rename(path + ".new", path)

    def write(self, authorizer="{plugin: slow, delay: 5ms}", level="info", threads=2, timeout="30s", more="",
              mapper="{plugin: none}"):
        self.replace(self.config, CONFIG.format(
            mapper=mapper, folder=self.folder, port=self.args.port, metrics=self.args.metrics, plugins=self.plugins,
            authorizer=authorizer, level=level, threads=threads, timeout=timeout, more=more))

    def spawn(self, env=None):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen([self.tenond, "--config", self.config], stderr=log,
                                            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1", **(env or {})})

    def start(self, env=None):
        self.spawn(env)
        wait_for("the server", lambda: self.alive() and "server: serving" in self.log())

    def alive(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"the server has ended with {self.process.returncode}:\n{self.log()[-3000:]}")
        return True

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def ctl(self, *more):
        return subprocess.run([self.args.tenonctl, "reload", *(more or ("--config", self.config))],
                              capture_output=True, text=True, timeout=2 * PATIENCE)

    def metric(self, name, *labels):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.args.metrics}/metrics", timeout=PATIENCE).read().decode()
        total = None
        for line in text.splitlines():
            if re.match(re.escape(name) + r"[ {]", line) and all(label in line for label in labels):
                total = (total or 0) + float(line.rsplit(" ", 1)[1])
        return total

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


class Load:
    def __init__(self, args, rate):
        self.process = subprocess.Popen([os.path.join(args.build, "tests/reload/load"), str(args.port), str(rate)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end(self):
        out, _ = self.process.communicate(timeout=2 * PATIENCE)
        return json.loads(out)


GOOD = ["{plugin: slow, delay: 5ms}", "{plugin: allow_all}", "{plugin: slow, delay: 30ms}", "{plugin: slow}"]
BAD = [("{plugin: slow, dealy: 5ms}", 'unknown key "dealy"', True), ("{plugin: slow, broken: true}", "is broken, as it says", False),
       ("{plugin: slow, silent: true}", "gave no verdict to the first question", True),
       ("{plugin: nowhere}", "there is no authorizer/nowhere.so", True), ("{plugin: [}", "", False),
       ("{plugin: slow, delay: 5ms, delay: 6ms}", "delay", False)]


def calls_of(s):
    """How many calls the server has had so far."""
    return s.metric("service_requests", 'operation="DescribeNamespace"') or 0


def with_files(s):
    """Every mapper and authorizer that reads files, again and again; and a policy that is wrong."""
    policy, keys = os.path.join(s.folder, "policy.yaml"), os.path.join(s.folder, "keys.json")
    s.replace(keys, json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": "1",
                                          "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                                          "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}))
    s.replace(policy, "rules:\n- {verdict: allow, anonymous: true}\n")
    built = {name: os.path.exists(f"{s.plugins}/{name}.so") for name in ("claimmapper/jwt", "claimmapper/mtls", "authorizer/rules")}
    mappers = ["{plugin: none}"]
    if built["claimmapper/jwt"]:
        mappers.append('{plugin: jwt, keySourceURIs: ["file://%s"]}' % keys)
    if built["claimmapper/mtls"]:
        mappers.append('{plugin: mtls, table: [{organization: Acme, permissions: ["default:read"]}]}')
    rules = "{plugin: rules, policyFile: %s}" % policy if built["authorizer/rules"] else "{plugin: allow_all}"
    load = Load(s.args, 200)
    answers = []
    for i in range(3 * len(mappers)):
        s.write(rules, mapper=mappers[i % len(mappers)])
        answers.append(s.ctl())
        seen = calls_of(s)
        wait_for("more calls", lambda: calls_of(s) >= seen + 5)
    if built["authorizer/rules"]:
        s.replace(policy, "rules:\n- {verdict: alow, anonymous: true}\n")
        answer = s.ctl()
        check("a policy that is wrong is refused with its line, the old one goes on", answer.returncode == 1
              and re.search(r"policy.yaml:\d+:", answer.stderr), answer)
        seen = calls_of(s)
        wait_for("more calls", lambda: calls_of(s) >= seen + 5)
    end = load.end()
    check("mappers and authorizers that read files: all were taken", all(a.returncode == 0 for a in answers),
          next((a for a in answers if a.returncode), ""))
    check("... and no call has failed", end["failed"] == 0 and end["ok"] > 0, end)


def under_load(s, reloads, rate):
    load = Load(s.args, rate)
    answers, took = [], []
    wait_for("the load", lambda: calls_of(s) > rate / 10)
    for i in range(reloads):
        s.write(GOOD[i % len(GOOD)])
        began = time.monotonic()
        answers.append(s.ctl())
        took.append(time.monotonic() - began)
        if i % 5 == 2:
            text, wants, fix = BAD[i // 5 % len(BAD)]
            s.write(text)
            refused = s.ctl()
            line = 1 + next(n for n, t in enumerate(open(s.config)) if "authorizer:" in t)
            check(f"reload {i}: {text} is refused with its line{' and a fix' if fix else ''}",
                  refused.returncode == 1 and f"{s.config}:{line}:" in refused.stderr and wants in refused.stderr
                  and ("fix: " in refused.stderr or not fix), refused)
        seen = calls_of(s)  # calls go on between two reloads
        wait_for("more calls", lambda: calls_of(s) >= seen + rate / 20)
    end = load.end()
    check(f"{reloads} reloads at {rate} calls a second: all were done",
          all(a.returncode == 0 and a.stdout.startswith("reloaded: ") for a in answers),
          next((a for a in answers if a.returncode), ""))
    check(f"{reloads} reloads: no call has failed", end["failed"] == 0 and end["ok"] > reloads * rate / 20, end)
    print(f"     {end}; a reload took {1e3 * sum(took) / len(took):.1f} ms in the mean, {1e3 * max(took):.1f} at most")
    wait_for("the replaced ones to be closed", lambda: s.metric("tenon_plugin_instances", 'kind="authorizer"') == 1)
    check("replaced instances have been closed, each of them",
          s.metric("tenon_plugin_function_seconds_count", 'function="close"', 'kind="authorizer"') >= reloads)


def accounting(s):
    s.write("{plugin: slow, hold: 60ms}")
    calls = s.metric("tenon_plugin_function_seconds_count", 'plugin="slow"', 'function="authorize"')
    s.ctl()
    load = Load(s.args, 5)
    wait_for("a call that holds", lambda: s.metric("tenon_plugin_holds", 'plugin="slow"') >= 2)
    load.end()
    check("a call that holds its loop is counted and named",
          re.search(r"a plugin held its loop plugin=slow kind=authorizer function=authorize ms=\d", s.log()), s.log()[-500:])
    figures = [s.metric("tenon_plugin_function_seconds_" + n, *("%s=\"%s\"" % i for i in w.items())) for n, w in (
        ("count", {"plugin": "slow", "function": "authorize"}), ("sum", {"plugin": "slow", "function": "authorize"}),
        ("count", {"plugin": "slow", "function": "timer"}), ("count", {"plugin": "sqlite", "function": "commit"}))]
    check("time in a function is accounted for by its name", all(figures) and figures[0] >= calls + 2 and figures[1] > 0.1,
          figures)
    check("a plugin's own metrics stand under its name", s.metric("tenon_plugin_slow_decisions") > 2
          and s.metric("tenon_plugin_slow_waiting") == 0)


def stuck(s):
    s.write("{plugin: slow, delay: 1s}", timeout="200ms")
    refused = s.ctl()
    check("an authorizer that is too late with the first question is refused", refused.returncode == 1
          and "did not answer in time" in refused.stderr, refused)
    late = s.metric("tenon_plugin_late", 'plugin="slow"')
    check("the late question was answered without it, counted, and named in the log", late == 1
          and re.search(r"did not end by its deadline.*plugin=slow.*function=authorize", s.log()), late)
    s.write("{plugin: slow, delay: 1s}")
    answer = s.ctl()
    check("... and taken when it has the time", answer.returncode == 0 and "changed: authorization.authorizer.delay" in answer.stdout,
          answer)
    load = Load(s.args, 20)
    wait_for("calls in flight", lambda: s.metric("tenon_plugin_slow_waiting") >= 5)
    s.write("{plugin: allow_all}")
    answer = s.ctl()
    check("a reload does not wait for calls in flight", answer.returncode == 0, answer)
    end = load.end()
    check("calls that the old one had are answered by it", end["failed"] == 0 and end["longest_ms"] >= 900, end)
    wait_for("the old ones' end", lambda: not s.metric("tenon_plugin_instances", 'plugin="slow"'))
    check("nothing of it is left", s.metric("tenon_plugin_stuck", 'plugin="slow"') == 0)


def other_keys(s):
    s.write("{plugin: allow_all}", level="debug", threads=3, more="cache: {maxBytes: 32MiB}")
    answer = s.ctl()
    want = ["changed: log.level ", "needs a restart: threads ", "needs a restart: cache "]
    check("what has changed is named, and what needs a restart", answer.returncode == 0
          and all(w in answer.stdout for w in want), answer)
    again = s.ctl()
    check("... what needs a restart each time", "needs a restart: threads " in again.stdout and "changed:" not in again.stdout,
          again)
    check("the log level has changed", " debug " in s.log())
    s.dynamic("frontend.rps: [{value: 100000\n")
    answer = s.ctl()
    check("a dynamic configuration that is wrong is refused with its line", answer.returncode == 1
          and re.search(r"dynamic.yaml:\d+:", answer.stderr), answer)
    s.dynamic("frontend.rps: [{value: 90000}]\n")
    check("... and taken when it is right", s.ctl().returncode == 0 and "dynamic config read again" in s.log())
    s.write("{plugin: allow_all}")
    os.chmod(s.folder, 0o755)
    command = f"import os,sys; os.setgid(65534); os.setuid(65534); os.execv({s.args.tenonctl!r}, ['tenonctl', 'reload', '--socket', {s.folder + '/control.sock'!r}])"
    if os.geteuid() == 0:
        os.chmod(s.args.folder, 0o755)
        other = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=PATIENCE)
        check("another user may not ask", other.returncode == 1 and "run it as root" in other.stderr, other)
        os.chmod(s.folder + "/control.sock", 0o777)
        other = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=PATIENCE)
        check("... nor when the socket's mode lets him", other.returncode == 1 and "only root" in other.stderr, other)
    else:
        print("# left out: a user who may not ask (needs root)")


def new_files(s):
    """A new file at the old path is loaded as what it is; one that was written over in place is not."""
    so = os.path.join(s.plugins, "authorizer/slow.so")
    built = os.path.join(s.args.build, "tests/reload")
    s.write("{plugin: slow}")
    versions = [s.ctl().stdout]
    for name in ("slow2.so", "slow.so"):
        shutil.copy(os.path.join(built, name), so + ".new")
        os.rename(so + ".new", so)
        versions.append(s.ctl().stdout)
    check("a new file at the same path is loaded as the new file",
          [re.search(r'"slow" (\S+)', v).group(1) for v in versions] == ["1.0", "2.0", "1.0"], versions)
    s.write("{plugin: allow_all}")
    s.ctl()
    with open(os.path.join(built, "slow2.so"), "rb") as f, open(so, "r+b") as out:
        out.write(f.read())
    s.write("{plugin: slow}")
    answer = s.ctl()
    check("a file that was written over in place is refused", answer.returncode == 1
          and "was written over while it is loaded" in answer.stderr and "fix: restart" in answer.stderr, answer)
    shutil.copy(os.path.join(built, "slow.so"), so + ".new")
    os.rename(so + ".new", so)
    check("... until there is another file", s.ctl().returncode == 0)


def service_manager(s):
    """READY, RELOADING, STOPPING; and signals when nobody expects them."""
    path = os.path.join(s.folder, "notify")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(path)
    manager.settimeout(PATIENCE)

    def hear(word):
        while True:
            text = manager.recv(4096).decode()
            if word in text:
                return text

    s.write("{plugin: slow, delay: 300ms}")
    before = s.log().count("server: serving")
    had = len(s.log())
    s.spawn({"NOTIFY_SOCKET": path})
    wait_for("its first line", lambda: s.alive() and len(s.log()) > had)
    for _ in range(200):
        s.process.send_signal(signal.SIGHUP)
        time.sleep(0.0005)
    wait_for("the start", lambda: s.alive() and s.log().count("server: serving") > before)
    check("SIGHUP while starting is harmless, READY comes", "READY=1" in hear("READY=1"))
    s.process.send_signal(signal.SIGHUP)
    check("RELOADING and READY are told", "MONOTONIC_USEC=" in hear("RELOADING=1") and hear("READY=1"))
    load = Load(s.args, 100)
    wait_for("calls in flight", lambda: s.metric("tenon_plugin_slow_waiting") >= 5)
    s.process.send_signal(signal.SIGTERM)
    hear("STOPPING=1")
    for _ in range(100):
        if s.process.poll() is not None:
            break
        s.process.send_signal(signal.SIGHUP)
        time.sleep(0.001)
    check("SIGHUP while stopping is harmless", s.process.wait(PATIENCE) == 0, s.process.returncode)
    load.end()
    gone = s.ctl()
    check("tenonctl says when no server is there", gone.returncode == 1 and "fix: is tenond running" in gone.stderr, gone)


def main():
    p = argparse.ArgumentParser()
    for name in ("tenond", "tenonctl", "build", "plugins", "folder", "port", "metrics"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--asan")
    p.add_argument("--asan-plugins")
    p.add_argument("--long", action="store_true")
    args = p.parse_args()
    servers = []
    try:
        s = Server(args, args.tenond, args.plugins, "plain")
        servers.append(s)
        s.start()
        under_load(s, 100 if args.long else 10, 1000)
        accounting(s)
        stuck(s)
        other_keys(s)
        new_files(s)
        check("the server ends well", s.stop() == 0, s.process.returncode)
        service_manager(s)
        if args.asan:
            a = Server(args, args.asan, args.asan_plugins, "asan")
            servers.append(a)
            a.start()
            under_load(a, 100 if args.long else 10, 300)
            with_files(a)
            status = a.stop()
            check("the sanitizers found nothing", status == 0 and "Sanitizer" not in a.log()
                  and "runtime error" not in a.log(), a.log()[-3000:])
        else:
            print("# left out: the sanitized build (TN_ASAN_PREFIX)")
    except Exception as e:  # noqa: BLE001 whatever it was, the servers must end
        check("the run came to its end", False, repr(e))
    finally:
        for s in servers:
            if s.process and s.process.poll() is None:
                s.process.kill()
    if failed:
        for s in servers:
            print(f"--- {s.log_path}\n{s.log()[-4000:]}")
    print(f"suite: {passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
