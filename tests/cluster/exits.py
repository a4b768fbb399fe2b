# SPDX-License-Identifier: MIT
"""How long a process takes from SIGTERM to its end: idle, with polls parked through or at it, and under SDK clients.  Each role's processes
in turn, each started again; who calls meanwhile must not notice."""

import asyncio
import statistics
import time
import uuid

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import parts
from fleet import ROLES, Balancer

LIMIT = 1.5  # seconds; times the patience of the report


async def ends(fleet, role, times):
    """Seconds from SIGTERM to the end, and what did not end with 0."""
    took, bad = [], []
    for member in (fleet.having(role) * times)[:times]:
        began = time.monotonic()
        status = await asyncio.to_thread(member.stop)
        took.append(time.monotonic() - began)
        if status:
            bad.append(f"{member.name} ended with {status}")
        member.start()
        await asyncio.to_thread(fleet.wait, len(fleet.members))
    return took, bad


async def row(report, fleet, how, times):
    for role in ROLES:
        took, bad = await ends(fleet, role, times)
        report.check(f"a {role} process ends, {how}", not bad and max(took) < LIMIT * report.patience,
                     ", ".join(bad) or f"median {statistics.median(took):.2f} s, worst of {times} {max(took):.2f} s")


async def play(arguments, report, fleet):
    times = 4 if arguments.long else 1
    await row(report, fleet, "idle", times)
    balancer = await Balancer(fleet.addresses(), fleet.ports.take()).start()
    callers = parts.Callers(await Client.connect(balancer.address), f"exits-{uuid.uuid4()}")
    async with Worker(await Client.connect(balancer.address), task_queue=callers.queue, workflows=[parts.Greeting],
                      activities=[parts.greet], workflow_runner=UnsandboxedWorkflowRunner()):
        await callers.one()
        await row(report, fleet, "polled", times)
        tasks = [asyncio.create_task(callers.run()) for _ in range(6)]
        await asyncio.sleep(1)
        await row(report, fleet, "under load", times)
        callers.stop = True
        await asyncio.gather(*tasks)
    balancer.close()
    for error in callers.errors[:8]:
        print("    " + error)
    report.check("nobody notices that processes end", not callers.errors, f"{callers.ended} workflows, {len(callers.errors)} calls failed")
