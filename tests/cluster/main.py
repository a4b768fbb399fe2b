# SPDX-License-Identifier: MIT
"""Plays the parts named, or all; each says what it measured.  Whatever is random comes from a seed that is printed."""

import argparse
import asyncio
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
import traceback

import absent
import chaos
import cost
import deadlines
import drains
import exits
import impostors
import loops
import manual
import moving
import nobody
import parts
import queues
import rekey
import scaling
import secured
import stores
import strangers
import warm
import suites
import units
from fleet import ALL_PARTED, LIMITED, LISTED, ONE_PARTED, Fleet
from net import Net

ON_ONE_FLEET = ["sdk", "partitions", "queues", "drains", "absent", "nobody", "limits", "detection", "fence", "restart", "split", "moves", "rekey", "deadlines", "impostors", "warm", "exits"]
SHORT = ["start", "sdk", "partitions", "queues", "drains", "absent", "nobody", "limits", "detection", "fence", "restart", "split", "moves", "rekey", "deadlines", "impostors", "tls", "loops", "strangers", "units", "manual", "chaos"]
LONG = ["start", "sdkall", "sdkparted", "sdkmoved"] + SHORT[2:] + ["warm", "exits", "cpu", "scaling"]


class Report:
    def __init__(self, patience):
        self.passed, self.failed = 0, 0
        self.patience = patience  # times the limit of a time: what else the machine does is not known

    def check(self, name, good, told=""):
        self.passed += bool(good)
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {name}" + (f": {told}" if told else ""), flush=True)
        return good

    @staticmethod
    def say(text):
        print("# " + text, flush=True)

    def spread(self, name, seconds, limit):
        """A time that must stay below a limit, of some tries."""
        limit *= self.patience
        self.check(name, max(seconds) < limit, f"median {statistics.median(seconds):.2f} s, worst of {len(seconds)} "
                                               f"{max(seconds):.2f} s (at most {limit} s)")


async def on_one_fleet(arguments, report, folder, wanted):
    """The parts that need thirteen healthy processes share them."""
    why = Net.why_not() if arguments.net else None
    if why:
        raise RuntimeError(f"no network of the test's own: {why}")
    net, fleet = Net(os.getpid() % 10000) if arguments.net else None, None
    try:
        fleet = Fleet(arguments, folder, net, ONE_PARTED + LIMITED + LISTED + queues.GRACEFUL).fill()
        took = fleet.start()
        report.check("start", True, f"{len(fleet.members)} processes see each other {took:.2f} s after the last was started")
        await parts.told(arguments, report, fleet)
        for name in ON_ONE_FLEET:
            if name in wanted:
                began = time.monotonic()
                part = {"absent": absent.play, "deadlines": deadlines.play, "impostors": impostors.play, "queues": queues.play, "drains": drains.play, "exits": exits.play, "moves": moving.play, "nobody": nobody.play, "rekey": rekey.play, "warm": warm.play}.get(name) or getattr(parts, name)
                await part(arguments, report, fleet)
                report.say(f"{name} took {time.monotonic() - began:.0f} s")
        if any(name in wanted for name in ON_ONE_FLEET):
            local = sum((member.figures() or {}).get("tenon_internode_connects_local", 0) for member in fleet.members)
            report.check("local sockets between processes of one machine", (local > 0) == (not arguments.tcp and not net),
                         f"{local:.0f} made" + (", --tcp" if arguments.tcp else ", each in a namespace" if net else ""))
        bad = fleet.end()
        report.check("stop", not bad, f"{', '.join(bad)} did not end well" if bad else "all with status 0")
    finally:
        if fleet:
            fleet.abandon()
        if net:
            net.end()


async def shaken(arguments, report, folder):
    why = Net.why_not()
    if why:
        report.say(f"no packet loss and partitions in this run: {why}")
    net = None if why else Net(os.getpid() % 10000)
    fleet = None
    try:
        fleet = Fleet(arguments, folder, net, ALL_PARTED).fill()
        fleet.clock_library = chaos.clock_library(folder)
        fleet.start()
        await chaos.play(arguments, report, fleet)
    finally:
        if fleet:
            fleet.abandon()
        if net:
            net.end()


async def play(arguments, report, base):
    wanted = arguments.part or ["skew"] * bool(arguments.older) or (LONG if arguments.long else SHORT)

    def folder(name):
        path = os.path.join(base, name)
        os.mkdir(path)
        os.chmod(path, 0o755)
        return path

    if set(wanted) & {"start", *ON_ONE_FLEET}:
        await on_one_fleet(arguments, report, folder("healthy"), wanted)
    await suites.parts_of(arguments, report, folder, wanted)
    if "tls" in wanted:
        await secured.play(arguments, report, folder("tls"))
    if "loops" in wanted:
        await loops.play(arguments, report, folder)
    if "manual" in wanted:
        await manual.play(arguments, report, folder("manual"))
    if "units" in wanted:
        await units.play(arguments, report, folder("units"))
    if "strangers" in wanted:
        await strangers.play(arguments, report, folder("strangers"))
    if "skew" in wanted:
        fleet = Fleet(arguments, folder("skew")).fill()
        try:
            await parts.skew(arguments, report, fleet)
        finally:
            fleet.abandon()
    if "chaos" in wanted:
        await shaken(arguments, report, folder("shaken"))
    if "cpu" in wanted:
        await cost.cpu(arguments, report, folder)
    if "scaling" in wanted:
        await scaling.play(arguments, report, folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--plugins", required=True)
    parser.add_argument("--tools", required=True)
    parser.add_argument("--port", type=int, default=17700)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--long", action="store_true", help="30 kills, 10 minutes of chaos, CPU by processes")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seconds", type=int, help="of chaos")
    parser.add_argument("--dynamic", default="", help="more dynamic configuration for cpu and sdkall sdkmoved sdkparted, as YAML")
    parser.add_argument("--tcp", action="store_true", help="global.membership.localSockets: false")
    parser.add_argument("--starters", type=int, default=64, help="of cpu, where as many workflows are started as can be")
    parser.add_argument("--pollers", type=int, default=16, help="of cpu, of each kind")
    parser.add_argument("--runs", type=int, default=1500, help="of cpu, started by the starters")
    parser.add_argument("--roles", nargs="+", choices=list(scaling.SHARE), help="of scaling only these")
    parser.add_argument("--net", action="store_true", help="all parts in network namespaces, not chaos alone")
    parser.add_argument("--store", choices=stores.KINDS, default="postgresql", help="what the cluster's state is kept in")
    parser.add_argument("--older", help="folder with tenond and plugins/ of an older release, for the part skew")
    parser.add_argument("--suites", nargs="+", help="of sdkall, sdkparted, sdkmoved only these, as python go features-go facts")
    parser.add_argument("--features", help="a checkout of the conformance suite: sdkall plays it, too (tests/sdk/features)")
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    parser.add_argument("part", nargs="*", choices=["start", *ON_ONE_FLEET, "sdkall", "sdkmoved", "sdkparted", "tls", "loops", "strangers", "units", "manual", "chaos", "cpu", "scaling", "skew", []])
    arguments = parser.parse_args()
    arguments.kills = arguments.kills or (30 if arguments.long else 3)
    arguments.seconds = arguments.seconds or (600 if arguments.long else 30)
    arguments.seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    base = tempfile.mkdtemp(prefix="tenon-cluster.")
    os.chmod(base, 0o755)
    report = Report(1 if arguments.long else 4)
    report.say(f"seed {arguments.seed}")
    try:
        asyncio.run(play(arguments, report, base))
    except Exception as error:  # what could not be played has failed
        traceback.print_exc()
        report.check("the end", False, str(error))
    if arguments.keep or report.failed:
        report.say(f"kept: {base}")
    else:
        shutil.rmtree(base, ignore_errors=True)
    print(f"cluster: {report.passed} passed, {report.failed} failed")
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
