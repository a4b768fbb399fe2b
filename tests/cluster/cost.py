# SPDX-License-Identifier: MIT
"""CPU a workflow by shape of the cluster and by load: all roles in one process, four with a role each (what dividing the roles
costs), and thirteen (what more processes cost), at rates from a
trickle to all they can.  The load is tests/bench/wfbench.  What the processes use while nobody calls is taken off and told."""

import collections
import glob
import json
import os
import shutil
import subprocess
import time

from fleet import ROLES, Fleet

UNLIMITED = "".join(f"{key}: [{{value: 0}}]\n" for key in ("frontend.rps", "frontend.namespaceRPS", "frontend.namespaceCount"))
RATES = (30, 100, 300, 0)  # workflows started a second; 0: --starters at a time
SHAPES = {
    "one": lambda fleet: fleet.add("all", ("frontend", "history", "matching", "worker")),
    "four": lambda fleet: fleet.fill(dict.fromkeys(ROLES, 1)),
    "thirteen": lambda fleet: fleet.fill(),
}


def on_cpu(pids):
    """Seconds on a processor, by the scheduler's clock."""
    total = 0
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            try:
                with open(path) as stat:
                    total += int(stat.read().split()[0])
            except OSError:
                pass  # a session of the database has ended
    return total / 1e9


def switches(pids):
    total = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status") as status:
                total += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt"))
    return total


class Reading:
    """What has been used up to a moment.  To be asked for figures costs a process a millisecond, and thirteen of them
    thirteen: so that is done before the clock of a measurement starts (end: after it has stopped)."""

    def __init__(self, fleet, end=False):
        if end:
            self.clocks(fleet)
        sums = collections.Counter()
        for member in fleet.members:
            for key, value in (member.figures() or {}).items():
                sums[key.split("{")[0].removeprefix("tenon_internode_")] += value
        self.calls = sums["calls"]
        self.bytes = sums["bytes_sent"] + sums["bytes_received"]
        self.packets = sums["writes"] + sums["reads"]
        self.transactions = int(fleet.db.ask("SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database"))
        if not end:
            self.clocks(fleet)

    def clocks(self, fleet):
        pids = [member.pid for member in fleet.members]
        self.cpu, self.switches, self.at = on_cpu(pids), switches(pids), time.monotonic()
        self.db = on_cpu(fleet.db.children())


def build(tools):
    """The load's program; None: no Go here."""
    if not shutil.which("go"):
        return None
    where = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench", "wfbench")
    program = os.path.join(os.path.abspath(tools), "wfbench")
    subprocess.run(["go", "build", "-o", program, "."], cwd=where, check=True)
    return program


def load(arguments, wfbench, fleet, rate, seconds):
    count = int(rate * seconds) if rate else arguments.runs
    addresses = ",".join(f"{ip}:{port}" for ip, port in fleet.addresses())
    before = Reading(fleet)
    done = subprocess.run([wfbench, "-mode", "activity", "-addr", addresses, "-n", str(count), "-c", str(arguments.starters),
                           "-conns", "6", "-pollers", str(arguments.pollers), "-rate", str(rate), "-json"], stdout=subprocess.PIPE, check=True)
    return count, before, Reading(fleet, end=True), json.loads(done.stdout)


def measure(arguments, report, fleet, shape, wfbench, seconds):
    """CPU a workflow, in ms, by rate."""
    load(arguments, wfbench, fleet, 0, seconds)
    time.sleep(2)
    a, _ = Reading(fleet), time.sleep(5)
    b = Reading(fleet, end=True)
    idle, costs, errors = (b.cpu - a.cpu) / (b.at - a.at), {}, 0
    report.say(f"{shape}: idle {100 * idle:.2f} % of a processor, {(b.switches - a.switches) / (b.at - a.at):.0f} wake-ups/s")
    for rate in RATES:
        n, a, b, told = load(arguments, wfbench, fleet, rate, seconds)
        costs[rate] = 1e3 * (b.cpu - a.cpu - idle * (b.at - a.at)) / n
        errors += told["errors"]
        report.say(f"{shape}, {told['workflows_per_s']:.0f} workflows/s: {costs[rate]:.3f} ms of CPU a workflow, "
                   f"{(b.switches - a.switches) / n:.1f} wake-ups, {(b.calls - a.calls) / n:.1f} calls between hosts in "
                   f"{(b.packets - a.packets) / n:.1f} packets of {(b.bytes - a.bytes) / n:.0f} bytes together, "
                   f"{(b.transactions - a.transactions) / n:.2f} transactions, PostgreSQL {1e3 * (b.db - a.db) / n:.2f} ms, "
                   f"p50 {told['e2e_p50_ms']:.0f} ms")
    return costs, errors


async def cpu(arguments, report, folder):
    wfbench = build(arguments.tools)
    if not wfbench:
        report.say("no Go here: CPU a workflow is not measured")
        return
    results = {}
    for shape, fill in SHAPES.items():
        fleet = Fleet(arguments, folder("cpu-" + shape), dynamic=UNLIMITED + arguments.dynamic)
        try:
            fill(fleet)
            fleet.start()
            results[shape] = measure(arguments, report, fleet, shape, wfbench, 20 if arguments.long else 8)
            fleet.end()
        finally:
            fleet.abandon()
    errors = sum(wrong for _, wrong in results.values())
    for shape, beside in (("four", "one"), ("thirteen", "four"), ("thirteen", "one")):
        many, few = results[shape][0], results[beside][0]
        report.say(f"{shape} beside {beside}: " + ", ".join(
            f"{100 * (many[rate] / few[rate] - 1):+.0f} % at {f'{rate}/s' if rate else f'{arguments.starters} at a time'}" for rate in RATES))
    report.check("CPU a workflow, by shape", not errors, f"{errors} errors")
