# SPDX-License-Identifier: MIT
"""Hosts as the manual has them: each with etc/cluster.yaml as it is written but for its addresses, and what a test needs
besides (plugins of the build, metrics); every host an address of its own in 127.0.0.0/8."""

import asyncio
import os
import re
import subprocess
import time

from temporalio.client import Client

from fleet import Member

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
ROLES = ("frontend", "history", "matching", "worker")
EXTRA = """
log: {{level: info}}
plugins: {{dirs: ["{plugins}"]}}
metrics: {{prometheus: {{listenAddress: "{ip}:{metrics}"}}}}
"""


class Host(Member):
    """Its process is started, paused, killed and asked as a fleet's member is."""

    def __init__(self, site, name, roles=ROLES, datastores=None, membership="", ports=None, example="cluster.yaml", ip=None):
        self.fleet, self.name, self.roles, self.wrapper = site, name, roles, []
        site.count += 1
        self.ip = ip or (ports.ip if ports else f"127.0.0.{1 + site.count}")
        self.rpc = ports.rpc if ports else {role: site.ports.take() for role in ROLES}
        self.gossip = ports.gossip if ports else {role: site.ports.take() for role in ROLES}
        self.metrics_port = site.ports.take()
        self.config, self.log = (os.path.join(site.folder, name + end) for end in (".yaml", ".log"))
        self.tenond, self.process, self.paused = site.tenond, None, False
        self.clock = os.devnull
        with open(os.path.join(ROOT, "etc", example)) as text:
            words = text.read()
        for role in re.findall(r"^  (\w+): \{rpc: ", words, re.M):
            words, found = re.subn(rf"(  {role}: {{rpc: {{bindOnIP: )10.0.0.1(, grpcPort: )\d+(, membershipPort: )\d+",
                                   rf"\g<1>{self.ip}\g<2>{self.rpc[role]}\g<3>{self.gossip[role]}", words)
            assert found == 1, f"etc/{example} has no port of {role}"
        if membership:
            words = words.replace("    enabled: true", "    enabled: true\n    " + membership)
        words = re.sub(r"  datastores:\n(    .*\n)+", "  datastores:\n" + datastores, words) if datastores else words.replace(
            '"db:5432"', f'"127.0.0.1:{site.db.port}"')
        words = re.sub(r"^metrics:.*\n|, httpPort: \d+", "", words, flags=re.M)
        with open(self.config, "w") as out:
            out.write(words + EXTRA.format(plugins=site.plugins, ip=self.ip, metrics=self.metrics_port))
        site.members.append(self)

    def text(self):
        with open(self.log, errors="replace") as log:
            return log.read()


class Site:
    """What hosts share."""

    clock_library = None

    def __init__(self, arguments, folder, ports, db=None):
        self.tenond, self.plugins = os.path.abspath(arguments.tenond), os.path.abspath(arguments.plugins)
        self.folder, self.ports, self.db, self.members, self.count = folder, ports, db, [], 0
        self.tool = os.path.join(os.path.dirname(self.tenond), "tenonctl")

    def ask(self, host, *words):
        done = subprocess.run([self.tool, *words, "--config", host.config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
        return done.returncode, done.stdout

    def must(self, host, *words):
        status, text = self.ask(host, *words)
        if status:
            raise RuntimeError(f"tenonctl {' '.join(words)}: {text.strip()}")
        return text

    def addresses(self):
        return [(host.ip, host.rpc["frontend"]) for host in self.members if "frontend" in host.roles and host.alive()]

    def drop(self, host):
        self.members.remove(host)
        return host

    def abandon(self):
        for host in self.members:
            if host.alive():
                host.kill()


def until(holds, what, seconds=60):
    end = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > end:
            raise RuntimeError(f"in {seconds} s there was not: {what}")
        time.sleep(0.05)
    return found


async def connected(address, seconds=60):
    """A client, as soon as somebody listens there: a host is a member before its frontend serves."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await Client.connect(address)
        except RuntimeError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)


def all_see(count, hosts, seconds=60):
    began = time.monotonic()
    for host in hosts:
        until(lambda: host.living() == count or not host.alive(), f"{host.name} with {count} members", seconds)
        if not host.alive():
            raise RuntimeError(f"{host.name} has ended with {host.process.poll()}:\n{host.tail()}")
    return time.monotonic() - began
