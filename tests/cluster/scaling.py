# SPDX-License-Identifier: MIT
"""Throughput by how many hosts have a role.  Two processors serve all hosts, PostgreSQL and the load here, so a host of the role in
question gets a small share of one (slices.py), and is the limit while everything else has time left: both are told."""

import json
import os
import subprocess
import time

import cost
from fleet import Fleet
from slices import Slices

HOSTS = (1, 2, 4)
SHARE = {"history": 0.025, "matching": 0.0125, "frontend": 0.025}  # of a processor, a host
BESIDE = {"frontend": 2, "history": 2, "matching": 2, "worker": 1}
SHARDS = 512  # the default: as many as spread them evenly


def busy():
    """Seconds that the machine's processors have worked, and how many there are."""
    with open("/proc/stat") as stat:
        lines = stat.read().splitlines()
    words = [int(word) for word in lines[0].split()[1:9]]
    return (sum(words) - words[3] - words[4]) / os.sysconf("SC_CLK_TCK"), sum(line.startswith("cpu") for line in lines) - 1


def load(wfbench, fleet, hosts, seconds):
    """As many callers a host whatever their number, or each would have less that it can do at a time."""
    addresses = ",".join(f"{ip}:{port}" for ip, port in fleet.addresses())
    done = subprocess.run([wfbench, "-mode", "activity", "-addr", addresses, "-n", "200000", "-for", f"{seconds}s", "-c", str(64 * hosts), "-open", str(256 * hosts),
                           "-conns", "12", "-pollers", str(64 * hosts), "-queues", "16", "-json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def measure(report, fleet, role, wfbench, seconds, slices):
    """Workflows a second and errors."""
    capped = fleet.having(role)
    load(wfbench, fleet, max(HOSTS), 5)  # shards are taken, connections made
    for member in capped:
        slices.give(member.name, member.pid, SHARE[role])
    load(wfbench, fleet, len(capped), 2)
    before, (worked, processors), at = [cost.on_cpu([member.pid]) for member in capped], busy(), time.monotonic()
    told = load(wfbench, fleet, len(capped), seconds)
    span = time.monotonic() - at
    used = [(cost.on_cpu([member.pid]) - was) / span / SHARE[role] for member, was in zip(capped, before)]
    report.say(f"{len(capped)} {role}: {told['workflows_per_s']:.0f} workflows/s, {' '.join(f'{100 * part:.0f}' for part in used)} % of "
               f"{100 * SHARE[role]:g} % of a processor each used, {(busy()[0] - worked) / span:.2f} of {processors} processors in all, "
               f"p50 {told['e2e_p50_ms']:.0f} ms")
    return told["workflows_per_s"], told["errors"]


async def play(arguments, report, folder):
    wfbench = cost.build(arguments.tools)
    if not wfbench:
        report.say("no Go here: scaling is not measured")
        return
    try:
        slices = Slices()
    except OSError as why:
        report.say(f"scaling is not measured: {why}")
        return
    errors = 0
    for role in arguments.roles or SHARE:
        rates = []
        for hosts in HOSTS:
            fleet = Fleet(arguments, folder(f"scaling-{role}-{hosts}"), dynamic=cost.UNLIMITED + arguments.dynamic, shards=SHARDS)
            try:
                fleet.fill(dict(BESIDE, **{role: hosts}))
                fleet.start()
                rate, wrong = measure(report, fleet, role, wfbench, 20 if arguments.long else 10, slices)
                rates.append(rate)
                errors += wrong
            finally:
                slices.end()
                fleet.abandon()
        report.say(f"{role}: " + ", ".join(f"{hosts} hosts {rate / rates[0]:.2f} times one's" for hosts, rate in zip(HOSTS[1:], rates[1:])))
    report.check("scaling", not errors, f"{errors} errors")
