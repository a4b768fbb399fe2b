# SPDX-License-Identifier: MIT
"""Faults by the dice while clients and workers go on; then everything heals, all work must finish, and the judge of
tests/crash decides."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time

import chaos_test
import promises
import promises_test
import scheduled_test
from fleet import SHARDS, Balancer
from parts import judged, load_of
from scheduled import Scheduled
from server import DIE_WITH_PARENT
from sticky import Sticky
from tails import Tails
from world import Log


CLOCK_NS = 5 * 10**9
GO_SECONDS = 120  # of chaos, from which on the Go SDK is part of the load


def clock_library(folder):
    """The library that makes clocks wrong; None where it cannot be compiled."""
    library = os.path.join(folder, "clock.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock.c")
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return None
    os.chmod(library, 0o755)
    return library


class Chaos:
    def __init__(self, fleet, seed, tool, long):
        self.tool, self.shards, self.long = tool, 1, long
        self.fleet, self.dice, self.counts = fleet, random.Random(seed), {}
        self.failed = []
        self.busy = set()  # members that a fault has now

    def free(self):
        return [member for member in self.fleet.members if member not in self.busy]

    async def revive(self, member):
        while True:
            member.start()
            await asyncio.sleep(1)
            if member.alive():
                return

    async def kill(self, member):
        member.kill()
        await asyncio.sleep(self.dice.uniform(0, 4))
        await self.revive(member)

    async def pause(self, member):
        member.pause()
        await asyncio.sleep(self.dice.choice([0.5, 3, 6, 10] + [30] * self.long))
        member.go_on()

    async def clock(self, member):
        """A wall clock that jumps, back or ahead, and is put right later."""
        member.turn_clock(self.dice.randrange(-CLOCK_NS, CLOCK_NS))
        await asyncio.sleep(self.dice.uniform(1, 8))
        member.turn_clock(0)

    async def stop(self, member):
        await asyncio.to_thread(member.stop)
        await self.revive(member)

    async def loss(self, member):
        self.fleet.net.lose(member.name, 0.2)
        await asyncio.sleep(self.dice.uniform(2, 8))
        self.fleet.net.heal(member.name)

    async def one_way(self, member):
        others = [other.name for other in self.fleet.members if other is not member]
        some, net = self.dice.sample(others, self.dice.randrange(1, len(others))), self.fleet.net
        if self.dice.random() < 0.5:
            net.cut(some, [member.name])
        else:
            net.cut([member.name], some)
        await asyncio.sleep(self.dice.uniform(1, 8))
        net.heal()

    async def two_way(self, member):
        others = [other.name for other in self.fleet.members if other is not member]
        some, net = self.dice.sample(others, self.dice.randrange(1, len(others))), self.fleet.net
        net.cut(some, [member.name], both=True)
        await asyncio.sleep(self.dice.uniform(1, 8))
        net.heal()

    async def split(self, member):
        """Another number of shards, while other faults go on; whoever is asked may die of them."""
        del member
        counts = [count for count in (1, 2, 3, 4) if count != self.shards]
        self.shards = self.dice.choice(counts)
        process = await asyncio.create_subprocess_exec(
            self.tool, "shard", "split", "--config", self.fleet.members[0].config, "--shards", str(self.shards * SHARDS),
            "--wait", "1s", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
        await process.wait()

    async def database(self, member):
        del member
        self.fleet.db.kill()
        await asyncio.sleep(self.dice.uniform(0, 1))
        await asyncio.to_thread(self.fleet.db.start)

    async def fault(self, name, member):
        self.counts[name] = self.counts.get(name, 0) + 1
        self.busy.add(member)
        try:
            await getattr(self, name)(member)
        except Exception as error:
            self.failed.append(error)
        finally:
            self.busy.discard(member)

    async def run(self, seconds):
        names = ["kill"] * 4 + ["pause"] * 3 + ["stop"] * 2 + ["split"] * (2 if os.path.exists(self.tool) else 0)
        if self.fleet.clock_library:
            names += ["clock"] * 2
        if self.fleet.net:
            names += ["loss"] * 2 + ["one_way"] * 2 + ["two_way"] * 2
        end, out, next_db = time.monotonic() + seconds, set(), time.monotonic() + seconds / 2
        while time.monotonic() < end and not self.failed:
            if len(out) < 3:
                name = self.dice.choice(names)
                if time.monotonic() > next_db:
                    name, next_db = "database", time.monotonic() + 60
                out.add(task := asyncio.create_task(self.fault(name, self.dice.choice(self.free()))))
                task.add_done_callback(out.discard)
            await asyncio.sleep(self.dice.uniform(0.3, 2.5))
        await asyncio.gather(*out)
        if self.failed:  # the test's own trouble: nothing after it would say anything
            raise self.failed[0]
        if self.fleet.net:
            self.fleet.net.heal()


class Official:
    """sdkload.py or goload.py: clients and workers of an SDK, in a process of their own."""

    def __init__(self, name, path, **words):
        self.script = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
        self.words = [text for word, value in words.items() for text in ("--" + word.replace("_", "-"), str(value))]
        self.path, self.process = path, None

    async def begin(self):
        with open(self.path + ".err", "w") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *DIE_WITH_PARENT, sys.executable, self.script, *self.words,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, limit=1 << 24)

    async def finish(self, since_ns):
        """What it found; since_ns: when the last fault had ended."""
        said, _ = await self.process.communicate(f"end {since_ns}\n".encode())
        try:
            return json.loads([line for line in said.decode(errors="replace").splitlines() if line.startswith("{")][-1])
        except (IndexError, ValueError):
            with open(self.path + ".err", errors="replace") as errors:
                told = "".join(errors.readlines()[-12:])
            return {"wrong": [f"it ended with {self.process.returncode}: {told}"], "counts": {}, "failures": {}}

    def abandon(self):
        if self.process and self.process.returncode is None:
            self.process.kill()


def told(counts):
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def check(report, name, wrong, good, text):
    for line in wrong[:20]:
        print("  " + line)
    report.check(name, not wrong and good, text)


def go_program(report, arguments, folder):
    """The Go SDK's load, built; None where it is left out: building it takes longer than a short chaos."""
    if arguments.seconds < GO_SECONDS:
        return None
    program = os.path.join(folder, "go-load")
    built = subprocess.run([os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "sdk", "go", "chaos", "build"), program],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if built.returncode == 77:
        report.say("no load of the Go SDK: " + built.stdout.splitlines()[0])
        return None
    if built.returncode:
        report.check("the Go SDK's load", False, built.stdout[-400:])
        return None
    return program


async def settle(report, scheduled, officials, since_ns):
    """The ends of the other loads, after which nobody of theirs calls any more."""
    began = time.monotonic()
    _, *found = await asyncio.gather(scheduled.finish(), *[official.finish(since_ns) for official in officials.values()])
    report.say(f"schedules and the SDKs' loads at rest, and its histories judged, {time.monotonic() - began:.0f} s after the last fault")
    wrong, actions, lives = await scheduled.judged()
    check(report, "schedules in chaos", wrong, actions > 0, f"{lives} schedules, {actions} actions, {scheduled.calls} acknowledged calls, "
          f"{sum(len(life.triggers) for life in scheduled.lives)} triggers, {len(wrong)} violations")
    for name, its in zip(officials, found):
        counts = its["counts"]
        check(report, f"{name}'s load in chaos", its["wrong"], counts.get("ended", 0) > 0 and counts.get("replays", 0) > 0,
              f"{told(counts)}; failed tasks: {told(its['failures']) or 'none'}; {its.get('violations', 1)} violations; "
              f"longest wait after the last fault {its.get('wait_s', 0):.1f} s, {its.get('drain_s', 0):.0f} s for what was left, {its.get('judge_s', 0):.0f} s to judge")


class Rules:
    """What the judge of tests/crash is asked beside its own rules."""

    def __init__(self, since_ns, slack_ns):
        self.slack_ns, self.tails, self.wait = slack_ns, Tails(since_ns), 0

    def __call__(self, verdict, run, events):
        promises.early(verdict, run, events, slack_ns=self.slack_ns)
        self.tails.add(run, run.rpartition("/")[2], events)

    def all_read(self, verdict):
        self.wait = self.tails.judge(verdict)


async def play(arguments, report, fleet):
    unnoticed = await chaos_test.failures(Chaos)
    check(report, "a fault that fails by itself", unnoticed, True, "it ends the chaos at once")
    unnoticed = scheduled_test.failures()
    check(report, "the judge of schedules", unnoticed, True, f"{len(scheduled_test.DAMAGES)} damages, {len(unnoticed)} not found")
    unnoticed = promises_test.failures()
    check(report, "the judge of the SDKs' loads", unnoticed, True, f"{len(promises_test.DAMAGES)} damages, {len(unnoticed)} not found")
    program = go_program(report, arguments, fleet.folder)
    paths = os.path.join(fleet.folder, "log"), os.path.join(fleet.folder, "effects")
    balancer = await Balancer(fleet.addresses(), fleet.ports.take()).start()
    world = Sticky(balancer.address, Log(paths[0]), Log(paths[1]), arguments.seed)
    await world.connect()
    slack_ns = 2 * CLOCK_NS if fleet.clock_library else 0
    long = arguments.seconds >= 300
    scheduled = Scheduled(balancer.address, os.path.join(fleet.folder, "schedules"), random.Random(arguments.seed),
                          slack_ns / 2 / 10**9)
    common = {"address": balancer.address, "seed": arguments.seed, "slack_ns": slack_ns}
    officials = {"the SDK": Official("sdkload", os.path.join(fleet.folder, "sdkload"), **common, starters=12 if long else 6)}
    if program:
        officials["the Go SDK"] = Official("goload", os.path.join(fleet.folder, "goload"), **common, starters=10, program=program,
                                           folder=fleet.folder)
    tasks = load_of(world)
    tasks["workers"] += [asyncio.create_task(world.sticky_worker(f"sticky{i}")) for i in range(3)]
    try:
        await scheduled.begin(2 if long else 1)
        for official in officials.values():
            await official.begin()
        chaos = Chaos(fleet, arguments.seed, os.path.join(os.path.dirname(os.path.abspath(arguments.tenond)), "tenonctl"), long)
        await asyncio.sleep(1)
        await chaos.run(arguments.seconds)
        took = await asyncio.to_thread(fleet.wait, len(fleet.members), None, 120)
        report.check("all meet again", True, f"{took:.2f} s after the last fault")
        report.say(f"{world.sticky_tasks} tasks of sticky queues, {world.deaths} of their workers died, {len(world.returned)} tasks timed out "
                   f"there and came back, {world.queries} queries were answered")
        since_ns = time.time_ns()
        rules = Rules(since_ns, slack_ns)
        settled = asyncio.create_task(settle(report, scheduled, officials, since_ns))
        await judged(report, "chaos", world, tasks, paths, 120,
                     f"{arguments.seconds} s, {sum(chaos.counts.values())} faults ({told(chaos.counts)})", clock_slack_ns=slack_ns,
                     others=settled, more=rules)
        report.say(f"the longest wait of the raw load after the last fault: {rules.wait:.1f} s")
    finally:
        for official in officials.values():
            official.abandon()
    bad = fleet.end()
    report.check("stop after chaos", not bad, f"{', '.join(bad)} did not end well" if bad else "all with status 0")
    balancer.close()
