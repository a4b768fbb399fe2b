# SPDX-License-Identifier: MIT
"""A process for each role as tenon@.service starts, reloads and ends it, with the examples of etc/cluster: the lines of the unit are
read and carried out, and the service manager's socket is listened to.  There is no systemd in it."""

import asyncio
import os
import re
import shlex
import signal
import socket
import subprocess
import time

import servers
from fleet import DIE_WITH_PARENT
from hosts import ROLES, ROOT, Host, Site, all_see
from manual import PostgreSQL
from strangers import works

PATIENCE_S = 60


class Unit:
    """What tenon@.service says, with the specifiers that it uses."""

    def __init__(self, site):
        self.site, self.words = site, {}
        with open(os.path.join(ROOT, "etc", "tenon@.service.in")) as text:
            for key, value in re.findall(r"^(\w+)=(.*)$", text.read(), re.M):
                self.words[key] = value

    def word(self, key, host):
        built = os.path.dirname(self.site.tenond)
        return (self.words[key].replace("%t", self.site.folder).replace("%i", host.name).replace("@bindir@", built)
                .replace("@sysconfdir@/tenon", self.site.folder))


class Service(Host):
    def __init__(self, site, unit, role, ip):
        super().__init__(site, role, (role,), example=os.path.join("cluster", role + ".yaml"), ip=ip)
        self.unit, self.told = unit, []
        self.runtime = os.path.join(site.folder, unit.word("RuntimeDirectory", self))
        os.mkdir(self.runtime, 0o750)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(os.path.join(site.folder, role + ".notify"))
        self.manager.settimeout(PATIENCE_S)

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                DIE_WITH_PARENT + shlex.split(self.unit.word("ExecStart", self)), stdout=log, stderr=log, start_new_session=True,
                env=dict(os.environ, NOTIFY_SOCKET=self.manager.getsockname(), RUNTIME_DIRECTORY=self.runtime))

    def hear(self, word):
        """Until the service says it; what it said with it."""
        while True:
            text = self.manager.recv(4096).decode()
            self.told.append(text)
            if word in text:
                return text

    def reload(self):
        return subprocess.run(shlex.split(self.unit.word("ExecReload", self)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def seconds(text):
    return float(re.fullmatch(r"(\d+)s", text)[1])


async def play(arguments, report, folder):
    if arguments.store != "postgresql":
        report.say("units: the examples have PostgreSQL")
        return
    ports = servers.Ports(arguments.port)
    kind = PostgreSQL(arguments, folder, ports)
    site = Site(arguments, folder, ports, kind.db)
    unit = Unit(site)
    try:
        services = [Service(site, unit, role, "127.0.0.2") for role in ROLES]
        checks = [subprocess.run([site.tenond, "--check-config", service.config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                  for service in services]
        report.check("etc/cluster is in order", not any(check.returncode for check in checks), "".join(check.stdout for check in checks if check.returncode))
        site.must(services[0], "schema", "setup")
        for service in services:
            service.start()
        ready = [await asyncio.to_thread(service.hear, "READY=1") for service in services]
        took = await asyncio.to_thread(all_see, len(services), services)
        report.check("four that start at once find each other at once", took < 10, f"{took:.1f} s after they were ready; their records are read again after 15")
        report.check("tenon@.service: a process for each role says that it is ready", len(ready) == 4 and
                     await works(services[0]) == "hello you", "and a workflow runs")
        reloads = [await asyncio.to_thread(service.reload) for service in services]
        for service in services:
            await asyncio.to_thread(service.hear, "READY=1")
        report.check("each is reloaded by its own socket", not any(done.returncode for done in reloads) and
                     all("RELOADING=1" in "".join(service.told) for service in services),
                     "".join(done.stdout for done in reloads if done.returncode))
        # systemctl stop tenon.target: all at once
        began, limits = time.monotonic(), []
        for service in services:
            service.process.send_signal(signal.SIGTERM)
        for service in services:
            said = await asyncio.to_thread(service.hear, "STOPPING=1")
            limits.append(float(re.search(r"EXTEND_TIMEOUT_USEC=(\d+)", said)[1]) / 1e6)
        status = [await asyncio.to_thread(service.process.wait, PATIENCE_S) for service in services]
        report.check("all end in the time that the unit gives", not any(status) and max(limits) <= seconds(unit.words["TimeoutStopSec"]),
                     f"{time.monotonic() - began:.1f} s, status {status}; TimeoutStopSec={unit.words['TimeoutStopSec']}, asked for "
                     f"{max(limits):.0f} s with the drain of the examples")
    finally:
        site.abandon()
        kind.stop()
