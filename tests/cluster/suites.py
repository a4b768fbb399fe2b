# SPDX-License-Identifier: MIT
"""The whole SDK test set against the thirteen, through a balancer: what tests/sdk/run plays on one server (four SDKs, the CLI, the
comparison with the reference, the walk of the CLI's commands) and what tests/http asks; the same while each process is
restarted in turn and the number of shards changes, and the same with every task queue in four partitions."""

import asyncio
import itertools
import os
import re
import subprocess
import time

from fleet import ALL_PARTED, LISTED, SHARDS, Balancer, Fleet
from net import Net
from parts import attributes, tenonctl

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
SDK = ("python", "cli", "go", "typescript", "java", "compare", "walk")
MOVED = ("python", "go", "typescript", "java")  # --suites: any other, too
MOVING = " on the move"
HTTP = ("facts", "queries", "bindings", "wire")
FEATURES = ("go", "python", "typescript", "java")
# What wants a server of its own, by its nature: tests/http's hosts (another httpAllowedHosts), TLS (another configuration) and
# h2spec (one connection's bytes); the features' worker_shutdown (a server that the runner starts).
OWN = "hosts, TLS and h2spec of tests/http and, of the features, worker_shutdown"


class Front:
    """What a suite is given: one address of all frontends, for gRPC and for HTTP."""

    def __init__(self, arguments, fleet):
        self.arguments, self.fleet = arguments, fleet
        self.grpc = Balancer(fleet.addresses(), fleet.ports.take())
        self.http = Balancer([(member.ip, member.http_port) for member in fleet.having("frontend")], fleet.ports.take())

    async def __aenter__(self):
        await self.grpc.start()
        await self.http.start()
        return self

    async def __aexit__(self, *_):
        self.grpc.close()
        self.http.close()

    def program(self, name, moved=False):
        """The words that play a suite, and the name of its counts."""
        port, web = str(self.grpc.port), str(self.http.port)
        http = [os.environ.get("WIRE_PYTHON", "python3"), os.path.join(TESTS, "http", name + ".py"), "--http-port"]
        if name in SDK:
            return [os.path.join(TESTS, "sdk", "run"), "--server", self.grpc.address, name], "suite"
        if name.startswith("features-"):
            return [os.path.join(TESTS, "sdk", "features", "run"), "--checkout", self.arguments.features, "--server",
                    self.grpc.address, *["--restarted"] * moved, name[len("features-"):]], "features"
        if name == "bindings":
            return [http[0], os.path.join(TESTS, "http", "compare.py"), "--port", port, "--http-port", web], "compare"
        if name == "wire":  # bytes of one connection, and how many files its process has open: no balancer between
            member = self.fleet.having("frontend")[0]
            return http + [str(member.http_port), "--host", member.ip, "--pid", str(member.pid)], name
        return http + [web], name

    async def play(self, report, name, how=""):
        words, counted = self.program(name, how == MOVING)
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, limit=1 << 24,
            env=dict(os.environ, TEST_PORT=str(self.arguments.port + 250), PART_SECONDS="900"))
        said = (await process.communicate())[0].decode(errors="replace")
        with open(os.path.join(self.fleet.folder, f"{name}{how.replace(' ', '-')}.out"), "w") as out:
            out.write(said)
        lines = said.splitlines()
        for line in lines:
            if line.startswith(("not ok", "FAIL", "  got ", "  wanted ", "skip")) or "once more" in line:
                print("    " + line, flush=True)
        counts = re.findall(rf"^{counted}: (\d+) passed, (\d+) failed$", said, re.M)
        if process.returncode == 77 or (counts and counts[-1] == ("0", "0")):
            report.say(f"{name} is left out: " + next((line for line in lines if line.startswith("skip")), "no reason told"))
            return
        passed, failed = map(int, counts[-1]) if counts else (0, 1)
        if not counts:
            print("    " + "\n    ".join(lines[-12:]), flush=True)
        again = f"# {name}: once more" in said
        report.check(name + how, passed > 0 and not failed and process.returncode == 0,
                     f"{passed} passed, {failed} failed" + (", the second time" if again else "") +
                     f", {time.monotonic() - began:.0f} s")


def chosen(arguments, among):
    names = list(among) + [f"features-{language}" for language in FEATURES if arguments.features]
    unknown = set(arguments.suites or ()) - set(SDK + HTTP) - {f"features-{language}" for language in FEATURES}
    if unknown:
        raise RuntimeError(f"no suite {', '.join(sorted(unknown))}")
    return [name for name in names if not arguments.suites or name in arguments.suites]


async def sdkall(arguments, report, fleet, how):
    if not await attributes(report, fleet):
        return
    async with Front(arguments, fleet) as front:
        for name in chosen(arguments, SDK + HTTP):
            await front.play(report, name, how)
    report.say(f"not played, because they want a server of their own: {OWN}")


# ---- while the processes change underneath ----


class Shaker:
    """Restarts every process in turn and, at the same time, changes the number of shards, round and round, until told to stop."""

    def __init__(self, arguments, fleet):
        self.fleet, self.ask = fleet, tenonctl(arguments, fleet)
        self.restarts, self.changes, self.bad, self.stop = 0, 0, [], False

    async def change(self, many):
        status, text = await asyncio.to_thread(self.ask, "shard", "split", "--shards", str(many))
        if status:
            self.bad.append(f"split to {many}: {text.strip()[-200:]}")
        else:
            self.changes += 1

    async def changing(self):
        for many in itertools.cycle((4 * SHARDS, 2 * SHARDS, SHARDS)):
            if self.stop:
                break
            await self.change(many)
            await asyncio.sleep(2)
        await self.change(SHARDS)

    async def restarting(self):
        for member in itertools.cycle(self.fleet.members):
            if self.stop:
                break
            status = await asyncio.to_thread(member.stop)
            if status:
                self.bad.append(f"{member.name} ended with {status}")
            member.start()
            await asyncio.to_thread(self.fleet.wait, len(self.fleet.members), None, 120)
            self.restarts += 1
            await asyncio.sleep(0.5)

    async def run(self):
        await asyncio.gather(self.restarting(), *[self.changing()] * bool(self.ask))


async def sdkmoved(arguments, report, fleet, how):
    """Until each process has been restarted. What tests/sdk/run plays a second time, because a case failed the first time, is told."""
    if not await attributes(report, fleet):
        return
    shaker = Shaker(arguments, fleet)
    task = asyncio.create_task(shaker.run())
    try:
        async with Front(arguments, fleet) as front:
            names = chosen(arguments, SDK if arguments.suites else MOVED)
            for turn, name in enumerate(itertools.cycle(names)):
                if turn >= len(names) and (shaker.restarts >= len(fleet.members) or shaker.bad or task.done()):
                    break
                before = shaker.restarts, shaker.changes
                await front.play(report, name, how)
                report.say(f"meanwhile {shaker.restarts - before[0]} restarts, {shaker.changes - before[1]} changes of the number of shards")
    finally:
        shaker.stop = True
        await task
    for line in shaker.bad[:8]:
        print("    " + line)
    report.check("on the move", not shaker.bad and shaker.restarts >= len(fleet.members),
                 f"{shaker.restarts} restarts, {shaker.changes} changes of the number of shards")


# ---- on thirteen of their own ----


async def play(arguments, report, folder, wanted, dynamic):
    """With settings next to those that a server has by itself, for the walk compares what a namespace can do."""
    net, fleet = Net(os.getpid() % 10000) if arguments.net else None, None
    try:
        fleet = Fleet(arguments, folder, net, dynamic).fill()
        fleet.start()
        for part, how in wanted:
            began = time.monotonic()
            await part(arguments, report, fleet, how)
            report.say(f"{part.__name__}{how} took {time.monotonic() - began:.0f} s")
        bad = fleet.end()
        report.check("stop after the suites", not bad, ", ".join(bad) or "all with status 0")
    finally:
        if fleet:
            fleet.abandon()
        if net:
            net.end()


async def parts_of(arguments, report, folder, wanted):
    """sdkall, sdkmoved, and sdkparted, for which every task queue is in four partitions."""
    dynamic = LISTED + arguments.dynamic + "\n"
    calm = [(part, how) for part, how in ((sdkall, ""), (sdkmoved, MOVING)) if part.__name__ in wanted]
    if calm:
        await play(arguments, report, folder("suites"), calm, dynamic)
    if "sdkparted" in wanted:
        await play(arguments, report, folder("parted"), [(sdkall, " in four partitions")], ALL_PARTED + dynamic)
