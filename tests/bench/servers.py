# SPDX-License-Identifier: MIT
"""A server under measurement: started on a folder of its own, watched through /proc, stopped."""

import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import time
import urllib.request

WFBENCH = os.environ["WFBENCH"]
_first_port = int(os.environ.get("TEST_PORT") or 17200)
_next_port = [_first_port]


def free_port():
    while True:
        port = _next_port[0]
        _next_port[0] = port + 1 if port < _first_port + 45 else _first_port
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Watched:
    """A process seen through /proc."""

    def __init__(self, process):
        self.process = process

    @property
    def pid(self):
        return self.process.pid

    def _status(self, path, key):
        for line in pathlib.Path(path).read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        return 0

    def rss_mb(self):
        return self._status(f"/proc/{self.pid}/status", "VmRSS") / 1024

    def peak_rss_mb(self):
        return self._status(f"/proc/{self.pid}/status", "VmHWM") / 1024

    def written(self):
        return self._status(f"/proc/{self.pid}/io", "write_bytes")

    def wakeups(self):
        """Voluntary context switches of all its threads so far: each is a sleep that ended."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            try:
                total += self._status(task / "status", "voluntary_ctxt_switches")
            except FileNotFoundError:
                pass
        return total

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server(Watched):
    """kind: "tenond" or "reference"; folder: where its database file lies."""

    def __init__(self, kind, folder):
        super().__init__(None)
        self.kind, self.folder = kind, pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.metrics_port = free_port()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def command(self):
        database = str(self.folder / f"{self.kind}.db")
        common = ["--ip", "127.0.0.1", "--port", str(self.port), "--db-filename", database,
                  "--metrics-port", str(self.metrics_port)]
        if self.kind == "reference":
            return [os.environ["REFERENCE"], "server", "start-dev", "--headless", *common,
                    "--log-level", "error"]
        return [os.environ["TENOND"], "start-dev", *common, "--log-level", "warn",
                *shlex.split(os.environ.get("TENOND_ARGS") or "")]

    def start(self):
        """Starts it; answers the seconds from exec to the first answered call."""
        probe = subprocess.Popen([WFBENCH, "-mode", "probe", "-addr", self.address, "-json",
                                  "-limit", "60s"], stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)  # the probe is to be knocking before there is a door
        log = open(self.folder / f"{self.kind}.log", "ab")
        began = time.time_ns()
        self.process = subprocess.Popen(self.command(), stdout=log, stderr=log,
                                        stdin=subprocess.DEVNULL)
        out, _ = probe.communicate(timeout=90)
        if probe.returncode != 0:
            tail = (self.folder / f"{self.kind}.log").read_text(errors="replace")[-2000:]
            self.stop()
            raise RuntimeError(f"{self.kind} did not answer: {tail}")
        return (int(re.search(r'"answered_unix_ns":(\d+)', out).group(1)) - began) / 1e9

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def __enter__(self):
        self.startup_s = self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def metrics(self):
        """{name{labels}: value} of its metrics port; empty when there is none."""
        try:
            with urllib.request.urlopen(
                    f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        found = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                try:
                    found[name] = float(value)
                except ValueError:
                    pass
        return found
