# SPDX-License-Identifier: MIT
"""A cluster of the test's own: processes with a role each over one store, on loopback or each in a network namespace,
ended by process id; and a small balancer in front of the frontends, as a cluster has one."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "crash"))
sys.path.insert(0, os.path.join(HERE, "..", "databases"))

from server import DIE_WITH_PARENT  # noqa: E402
from servers import Ports  # noqa: E402
from stores import Stores  # noqa: E402

ROLES = ("frontend", "history", "matching", "worker")
SIZE = {"frontend": 3, "history": 4, "matching": 4, "worker": 2}
SHARDS = 16

PARTED = "".join(f"matching.numTaskqueue{way}Partitions: [{{{{value: 4{{}}}}}}]\n" for way in ("Read", "Write"))
ONE_PARTED = PARTED.format(*2 * [", constraints: {taskQueueName: parted}"])
LIMITED = "frontend.globalNamespaceRPS: [{value: 30, constraints: {namespace: limited}}]\n"  # 10 a frontend
LISTED = "frontend.namespaceRPS.visibility: [{value: 1000}]\n"  # suites list in loops until they see what they wait for
ALL_PARTED = PARTED.format("", "")

CONFIG = """\
log: {{level: info}}
plugins: {{dirs: [{plugins}]}}
services:
{services}
global: {{membership: {{enabled: true{sockets}}}{security}}}
metrics: {{prometheus: {{listenAddress: "{ip}:{metrics}"}}}}
threads: {threads}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: {shards}
  datastores:
{datastores}authorization: {{claimMapper: {{plugin: none}}, authorizer: {{plugin: allow_all}}}}
namespaces: {{create: [default], retention: 72h}}
dynamicConfigClient: {{filepath: {dynamic}}}
"""


class Member:
    def __init__(self, fleet, name, roles, ip, wrapper=()):
        self.fleet, self.name, self.roles, self.ip, self.wrapper = fleet, name, roles, ip, list(wrapper)
        self.rpc = {role: fleet.ports.take() for role in roles}
        self.metrics_port = fleet.ports.take()
        self.http_port = fleet.ports.take() if "frontend" in roles else None
        web = {"frontend": f", httpPort: {self.http_port}"}
        services = "\n".join(
            f"  {role}: {{rpc: {{bindOnIP: {ip}, grpcPort: {self.rpc[role]}, membershipPort: {fleet.ports.take()}{web.get(role, '')}}}}}"
            for role in roles)
        self.config = os.path.join(fleet.folder, name + ".yaml")
        self.log = os.path.join(fleet.folder, name + ".log")
        self.services = services
        self.use(fleet.tenond, fleet.plugins)
        self.process, self.paused, self.cpu_before = None, False, 0.0
        self.clock = os.path.join(fleet.folder, name + ".clock")
        self.turn_clock(0)

    def use(self, tenond, plugins):
        """The release that it is started with from now on."""
        self.tenond = tenond
        with open(self.config, "w") as out:
            out.write(CONFIG.format(plugins=plugins, services=self.services, ip=self.ip, metrics=self.metrics_port,
                                    threads=max(self.fleet.threads.get(role, 1) for role in self.roles),
                                    shards=self.fleet.shards, security=self.fleet.security, sockets=self.fleet.sockets, dynamic=self.fleet.dynamic, datastores=self.fleet.stores.datastores))

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        roles = [word for role in self.roles for word in ("--role", role)]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                DIE_WITH_PARENT + self.wrapper + [self.tenond, "--config", self.config, *roles],
                stdout=log, stderr=log, start_new_session=True,
                env=dict(os.environ, LD_PRELOAD=self.fleet.clock_library, TENON_TEST_CLOCK=self.clock)
                if self.fleet.clock_library else None)

    def turn_clock(self, ns):
        """Its wall clock is wrong by so much from now on (with the fleet's preloaded library)."""
        with open(self.clock, "r+b" if os.path.exists(self.clock) else "wb") as out:
            out.write(ns.to_bytes(8, sys.byteorder, signed=True))

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def figures(self):
        """Metrics by name with labels; None when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self.ip}:{self.metrics_port}/metrics", timeout=1) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        return {key: float(value) for key, value in re.findall(r"^([a-z_]\S*(?:\{[^}]*\})?) (\S+)$", text, re.M)}

    def living(self):
        figures = self.figures() or {}
        return int(figures.get("tenon_members", 0))

    def cpu(self):
        """Seconds of its own and of those before it under this name."""
        with open(f"/proc/{self.pid}/stat") as stat:
            words = stat.read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.paused = False

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def stop(self, seconds=60):
        """SIGTERM; the exit status."""
        if self.paused:
            self.go_on()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def tail(self, lines=8):
        with open(self.log, errors="replace") as log:
            return "".join(log.readlines()[-lines:])


class Fleet:
    def __init__(self, arguments, folder, net=None, dynamic="", security="", threads=None, shards=SHARDS):
        self.shards, self.security, self.threads = shards, security, threads or {}  # by role, 1 where it is not told
        self.sockets = ", localSockets: false" if arguments.tcp else ""
        self.dynamic = os.path.join(folder, "dynamic.yaml")
        with open(self.dynamic, "w") as out:
            out.write(dynamic)
        self.tenond, self.plugins = os.path.abspath(arguments.tenond), os.path.abspath(arguments.plugins)
        self.folder, self.net, self.clock_library, self.attributes = folder, net, None, False
        self.ports = Ports(arguments.port)
        self.stores = Stores(arguments.store, folder, arguments.tools, self.ports, net)
        self.db = self.stores.main
        self.members = []

    def add(self, name, roles):
        ip, wrapper = self.net.host(name) if self.net else ("127.0.0.1", ())
        member = Member(self, name, roles, ip, wrapper)
        self.members.append(member)
        return member

    def fill(self, size=None):
        """One role a process."""
        for role in ROLES:
            for i in range((size or SIZE)[role]):
                self.add(f"{role}{i}", (role,))
        return self

    def having(self, role):
        return [member for member in self.members if role in member.roles]

    def start(self):
        self.members[0].start()  # it makes the cluster
        self.wait(1, [self.members[0]])
        for member in self.members[1:]:
            member.start()
        return self.wait(len(self.members))

    def wait(self, count, members=None, seconds=30):
        """Until all see so many; the seconds that took."""
        began = time.monotonic()
        left = list(members or self.members)
        while left:
            if left[0].living() == count:
                left.pop(0)
                continue
            for gone in [member for member in members or self.members if not member.alive()]:
                raise RuntimeError(f"{gone.name} has ended:\n{gone.tail()}")
            if time.monotonic() - began > seconds:
                raise RuntimeError(f"{left[0].name} sees {left[0].living()} members and not {count}:\n{left[0].tail()}")
            time.sleep(0.02)
        return time.monotonic() - began

    def addresses(self):
        return [(member.ip, member.rpc["frontend"]) for member in self.having("frontend")]

    def end(self):
        """The names of those that did not end well."""
        running = [member for member in self.members if member.alive()]
        for member in running:
            if member.paused:
                member.go_on()
            member.process.send_signal(signal.SIGTERM)
        bad = [member.name for member in running if member.stop() != 0]
        self.stores.stop()
        return bad

    def abandon(self):
        for member in self.members:
            if member.alive():
                member.kill()
        self.stores.stop()


class Balancer:
    """TCP, each connection to the next frontend that takes one."""

    def __init__(self, addresses, port, source=None):
        self.addresses, self.port, self.turn = addresses, port, 0
        self.source = (source, 0) if source else None  # the address that it calls from
        self.server, self.pipes = None, set()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        return self

    async def connect(self):
        for _ in range(len(self.addresses)):
            self.turn += 1
            try:
                return await asyncio.wait_for(
                    asyncio.open_connection(*self.addresses[self.turn % len(self.addresses)], local_addr=self.source), 0.5)
            except (OSError, asyncio.TimeoutError):
                continue
        return None

    @staticmethod
    async def pipe(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()  # to close it with bytes unread would make the kernel drop what was written last
        except OSError:
            writer.close()
        except asyncio.CancelledError:
            writer.close()
            raise

    async def both(self, *pairs):
        try:
            await asyncio.gather(*[self.pipe(*pair) for pair in pairs])
        finally:
            for _, writer in pairs:
                writer.close()

    async def serve(self, reader, writer):
        other = await self.connect()
        if not other:
            writer.close()
            return
        task = asyncio.create_task(self.both((reader, other[1]), (other[0], writer)))
        self.pipes.add(task)
        task.add_done_callback(self.pipes.discard)

    def close(self):
        self.server.close()
        for task in list(self.pipes):
            task.cancel()
