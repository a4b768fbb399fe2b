# SPDX-License-Identifier: MIT
"""A tenond of the test's own: started, killed, started again on the same files."""

import os
import shutil
import signal
import socket
import subprocess
import time


# A test that is cut off leaves no server behind. (No preexec_fn: the SDK has threads, and a fork of them may stop dead.)
DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    def __init__(self, binary, folder, port, arguments=(), wrapper=(), env=None, database=None):
        self.binary, self.folder, self.port = binary, folder, port
        self.arguments, self.wrapper = list(arguments), list(wrapper)
        self.database = database or os.path.join(folder, "crash.db")
        self.env = dict(os.environ, **(env or {}))
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self, wait=True):
        with open(os.path.join(self.folder, "tenond.log"), "a") as log:
            self.process = subprocess.Popen(
                DIE_WITH_PARENT + self.wrapper + [self.binary, "start-dev", "--ip", "127.0.0.1", "--port", str(self.port),
                                "--db-filename", self.database, "--log-level", "warn", *self.arguments],
                stdout=log, stderr=log, env=self.env, start_new_session=True)
        return self.wait_ready() if wait else True

    def wait_ready(self, seconds=60):
        """True when the port answers; False when the process has ended before that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                return False
            if listening(self.port):
                return True
            time.sleep(0.005)
        raise RuntimeError("tenond neither serves nor ends")

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        # Below strace the server is no child of ours: it may still be dying, with its socket open.
        end = time.monotonic() + 10
        while listening(self.port) and time.monotonic() < end:
            time.sleep(0.005)

    def stop(self, seconds=60):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def alive(self):
        return self.process.poll() is None


def free_port(first):
    # Somewhere of its own: while a server is dead, another test must not take its port.
    first += os.getpid() % 5000
    for port in range(first, first + 100):
        if not listening(port):
            return port
    raise RuntimeError("no free port")
