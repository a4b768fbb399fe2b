# SPDX-License-Identifier: MIT
"""Real Redis servers of the test's own on loopback: one, a master with a replica and three sentinels, a cluster. Each has
its own folder and is ended by its process id."""

import os
import shutil
import signal
import socket
import subprocess
import time

PATIENCE_S = 300  # for what must happen, on however slow a machine
DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count):
    """Below the range that outgoing connections use, where a server that is dead for a moment keeps its port."""
    found, port = [], 21000 + os.getpid() % 4000
    while len(found) < count:
        port += 1
        if not listening(port) and not listening(port + 10000):
            found.append(port)
    return found


class Redis:
    """A redis-server that is durable unless told otherwise."""

    def __init__(self, folder, port, *arguments, sentinel=False):
        self.folder, self.port, self.sentinel = folder, port, sentinel
        self.arguments = list(arguments)
        self.process = None
        os.makedirs(folder, exist_ok=True)

    def command(self):
        if self.sentinel:
            return ["redis-server", os.path.join(self.folder, "sentinel.conf"), "--sentinel"]
        return ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--save", "",
                "--appendonly", "yes", "--appendfsync", "always", *self.arguments]

    def start(self):
        with open(os.path.join(self.folder, "redis.log"), "a") as log:
            self.process = subprocess.Popen(DIE_WITH_PARENT + self.command(), stdout=log, stderr=log,
                                            cwd=self.folder, start_new_session=True)
        end = time.monotonic() + PATIENCE_S
        while self.cli("PING", check=False).strip() != "PONG":
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"redis-server on port {self.port} does not answer")
            time.sleep(0.02)
        return self

    def cli(self, *words, check=True):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, check=check,
                              timeout=PATIENCE_S)
        return done.stdout

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    def alive(self):
        return self.process.poll() is None


class Watched:
    """A master, a replica, three sentinels."""

    NAME = "tenon"

    def __init__(self, folder):
        ports = free_ports(5)
        self.servers = [Redis(os.path.join(folder, f"server{i}"), ports[i]) for i in range(2)]
        self.sentinels = [Redis(os.path.join(folder, f"sentinel{i}"), ports[2 + i], sentinel=True) for i in range(3)]

    def start(self):
        master, replica = self.servers
        master.start()
        replica.arguments += ["--replicaof", "127.0.0.1", str(master.port)]
        replica.start()
        for sentinel in self.sentinels:
            with open(os.path.join(sentinel.folder, "sentinel.conf"), "w") as out:
                out.write(f"port {sentinel.port}\nbind 127.0.0.1\ndir {sentinel.folder}\n"
                          f"sentinel monitor {self.NAME} 127.0.0.1 {master.port} 2\n"
                          f"sentinel down-after-milliseconds {self.NAME} 1500\n"
                          f"sentinel failover-timeout {self.NAME} 4000\n")
            sentinel.start()
        self.until(lambda: self.sentinels[0].cli("SENTINEL", "ckquorum", self.NAME).startswith("OK 3"), "sentinels")
        self.until(self.paired, "a replica")
        return self

    @staticmethod
    def until(holds, what, seconds=PATIENCE_S):
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise RuntimeError(f"never: {what}")
            time.sleep(0.05)

    def master(self):
        words = self.sentinels[0].cli("SENTINEL", "get-master-addr-by-name", self.NAME).split()
        return next(server for server in self.servers if str(server.port) == words[1])

    def fail_over(self):
        """Kills the master; returns when the other has taken over and the dead one is back as its replica."""
        old = self.master()
        new = next(server for server in self.servers if server is not old)
        old.kill()
        self.until(lambda: self.master() is new and "role:master" in new.cli("INFO", "replication"), "a new master")
        old.arguments = []  # it returns as a master, and is one until Sentinel has looked
        old.start()
        self.until(self.paired, "a master with its replica")

    def paired(self):
        master = self.master()
        other = next(server for server in self.servers if server is not master)
        return f",port={other.port},state=online" in master.cli("INFO", "replication")

    def stop(self):
        for server in self.sentinels + self.servers:
            server.stop()


class Cluster:
    """Three masters. Without replicas nothing is gained when they take one for dead that was only slow."""

    def __init__(self, folder, node_timeout_ms=2000):
        self.nodes = [Redis(os.path.join(folder, f"node{i}"), port, "--cluster-enabled", "yes", "--cluster-node-timeout",
                            str(node_timeout_ms)) for i, port in enumerate(free_ports(3))]

    def start(self):
        for node in self.nodes:
            node.start()
        self.tool("create", *[f"127.0.0.1:{node.port}" for node in self.nodes])
        Watched.until(lambda: all("cluster_state:ok" in node.cli("CLUSTER", "INFO") for node in self.nodes), "a cluster")
        return self

    def tool(self, *words):
        subprocess.run(["redis-cli", "--cluster", *words, "--cluster-yes"], check=True, stdout=subprocess.DEVNULL,
                       timeout=PATIENCE_S)

    def move_slots(self, count, giver, taker):
        names = [node.cli("CLUSTER", "MYID").strip() for node in self.nodes]
        self.tool("reshard", f"127.0.0.1:{self.nodes[0].port}", "--cluster-from", names[giver], "--cluster-to",
                  names[taker], "--cluster-slots", str(count), "--cluster-pipeline", "100")

    def stop(self):
        for node in self.nodes:
            node.stop()
