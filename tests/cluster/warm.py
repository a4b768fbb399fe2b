# SPDX-License-Identifier: MIT
"""Shards that move as planned come warm: the old owner names the runs it had in use, and the new one reads them at once.  So the
first calls to them read nothing, while those to the shards of a killed owner read each run anew."""

import asyncio
import time
import uuid

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from parts import Greeting, address, greet, quantile

RUNS = 480


def reads(members):
    """Gets and scans of these so far."""
    return sum(int(value) for member in members for name, value in (member.figures() or {}).items()
               if name.startswith("persistence_requests{") and ("Get" in name or "Scan" in name))


class Runs:
    """They wait for a signal, without a task: nothing but a call brings them into memory."""

    def __init__(self, target):
        self.target, self.ids = target, [f"warm-{uuid.uuid4()}" for _ in range(RUNS)]

    async def start(self):
        self.client = await Client.connect(self.target)
        async with Worker(self.client, task_queue="warm", workflows=[Greeting], activities=[greet],
                          workflow_runner=UnsandboxedWorkflowRunner()):
            for i in range(0, RUNS, 24):
                await asyncio.gather(*[self.client.start_workflow(Greeting.run, id=name, task_queue="warm")
                                       for name in self.ids[i:i + 24]])
            for name in self.ids:
                while (await self.client.get_workflow_handle(name).describe()).history_length < 4:
                    await asyncio.sleep(0.02)
        return self

    async def one(self, name, took):
        began = time.monotonic()
        await self.client.get_workflow_handle(name).describe()
        took.append(time.monotonic() - began)

    async def all(self):
        """Each run is asked for; the times that took, in order."""
        took = []
        for i in range(0, RUNS, 8):
            await asyncio.gather(*[self.one(name, took) for name in self.ids[i:i + 8]])
        return sorted(took)


async def settled(members):
    """Until nothing more is read; how much it was by then."""
    last, since = reads(members), time.monotonic()
    while time.monotonic() - since < 1:
        await asyncio.sleep(0.1)
        if (now := reads(members)) != last:
            last, since = now, time.monotonic()
    return last


async def moved(fleet, runs, end):
    """One owner goes: what the others read at once, what they read when each run is called, and the times of those calls."""
    victim, rest = fleet.having("history")[0], fleet.having("history")[1:]
    await runs.all()
    before = await settled(rest)
    await asyncio.to_thread(end, victim)
    await asyncio.to_thread(fleet.wait, len(fleet.members) - 1, [member for member in fleet.members if member is not victim])
    taken = await settled(rest)
    took = await runs.all()
    called = reads(rest)
    victim.start()
    await asyncio.to_thread(fleet.wait, len(fleet.members))
    await settled(rest)
    return taken - before, called - taken, took


async def play(arguments, report, fleet):
    runs = await Runs(address(fleet)).start()
    await runs.all()
    calm = await runs.all()
    planned = await moved(fleet, runs, lambda member: member.stop())
    killed = await moved(fleet, runs, lambda member: member.kill())
    told = [f"{at_once} reads at the take-over, {later} when {RUNS} runs are called, p99 {1e3 * quantile(took, .99):.0f} ms, worst "
            f"{1e3 * took[-1]:.0f} ms" for at_once, later, took in (planned, killed)]
    report.check("shards that move as planned come warm", planned[1] < killed[1] / 4,
                 f"calm p99 {1e3 * quantile(calm, .99):.0f} ms; planned: {told[0]}; killed: {told[1]}")
