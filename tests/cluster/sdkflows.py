# SPDX-License-Identifier: MIT
"""The workflows of sdkload.py.  A plan says what a run does and so what it must end with, whatever happens to the servers meanwhile."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError as TimedOut, is_cancelled_exception

QUICK = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=1))
SECONDS = timedelta(seconds=1)
WAITS = 3600  # seconds until a cancel comes


@dataclass
class Plan:
    """steps: each a kind and a number. Signals and updates are waited for before the steps; total: of the runs before this one."""
    steps: list[tuple[str, int]] = field(default_factory=list)
    signals: int = 0
    updates: int = 0
    total: int = 0
    waits: bool = False  # at its end, until it is cancelled


@activity.defn
async def double(value: int) -> int:
    return 2 * value


@activity.defn
async def fails_first(value: int) -> int:
    if activity.info().attempt <= value % 3:
        raise ApplicationError("again", type="again")
    return value


@activity.defn
async def beats(value: int) -> int:
    """Counts to value, from where the attempt before this one was last heard of; the first stops without a word or with one."""
    done = int(activity.info().heartbeat_details[0]) if activity.info().heartbeat_details else 0
    for step in range(done, value):
        activity.heartbeat(step + 1)
        if activity.info().attempt == 1 and step == value // 2:
            if value % 2:
                await asyncio.sleep(60)  # its heartbeats are missed
            raise ApplicationError("again")
        await asyncio.sleep(0.02)
    return value


@activity.defn
async def never(value: int) -> int:
    """Longer than it may."""
    await asyncio.sleep(60)
    return value


ACTIVITIES = [double, fails_first, beats, never]


def result_of(plan):
    """What a run with this plan ends with."""
    return plan.total + sum(2 * value if kind in ("double", "local", "child") else value for kind, value in plan.steps) + \
        sum(range(1, plan.signals + 1)) + sum(range(1, plan.updates + 1))


@workflow.defn(name="chaos-child")
class Child:
    @workflow.run
    async def run(self, value: int) -> int:
        if value % 2:
            await asyncio.sleep(value / 50)
        return await workflow.execute_activity(double, value, start_to_close_timeout=5 * SECONDS, retry_policy=QUICK)


@workflow.defn(name="chaos-plan")
class Planned:
    @workflow.init
    def __init__(self, plan: Plan) -> None:
        self.total, self.signals, self.updates, self.plan = plan.total, set(), set(), plan

    @workflow.signal
    def number(self, value: int) -> None:
        if value not in self.signals:  # the client may have sent it more than once
            self.signals.add(value)
            self.total += value

    @workflow.update
    async def add(self, value: int) -> int:
        doubled = await workflow.execute_local_activity(double, value, start_to_close_timeout=5 * SECONDS, retry_policy=QUICK)
        self.updates.add(value)
        self.total += value
        return doubled

    @add.validator
    def check(self, value: int) -> None:
        if value < 0:
            raise ApplicationError("negative")

    @workflow.query
    def state(self) -> list[int]:
        return [self.total, len(self.signals), len(self.updates)]

    @workflow.run
    async def run(self, plan: Plan) -> int:
        await workflow.wait_condition(lambda: len(self.signals) == plan.signals and len(self.updates) == plan.updates and
                                      workflow.all_handlers_finished())
        for at, (kind, value) in enumerate(plan.steps):
            if kind == "again":
                workflow.continue_as_new(Plan(steps=plan.steps[at + 1:], total=self.total + value, waits=plan.waits))
            self.total += await getattr(self, "do_" + kind)(value)
        if plan.waits:
            try:
                await asyncio.sleep(WAITS)
            except asyncio.CancelledError:
                self.total += await asyncio.shield(workflow.execute_activity(
                    double, 0, start_to_close_timeout=5 * SECONDS, retry_policy=QUICK))
        return self.total

    async def do_double(self, value):
        return await workflow.execute_activity(double, value, start_to_close_timeout=5 * SECONDS, retry_policy=QUICK)

    async def do_local(self, value):
        return await workflow.execute_local_activity(double, value, start_to_close_timeout=5 * SECONDS, retry_policy=QUICK)

    async def do_fails(self, value):
        return await workflow.execute_activity(fails_first, value, start_to_close_timeout=5 * SECONDS, retry_policy=QUICK)

    async def do_beats(self, value):
        return await workflow.execute_activity(beats, value, start_to_close_timeout=30 * SECONDS, heartbeat_timeout=2 * SECONDS,
                                               retry_policy=QUICK)

    async def do_late(self, value):
        """It times out, whatever happens."""
        try:
            await workflow.execute_activity(never, value, start_to_close_timeout=SECONDS, schedule_to_close_timeout=2 * SECONDS,
                                            retry_policy=RetryPolicy(maximum_attempts=1))
        except ActivityError as error:
            if isinstance(error.cause, TimedOut):
                return value
        return -1_000_000

    async def do_timer(self, value):
        before = workflow.now()
        await asyncio.sleep(value / 10)
        return value if (workflow.now() - before).total_seconds() >= value / 10 else -1_000_000

    async def do_child(self, value):
        return await workflow.execute_child_workflow(Child.run, value, id=f"{workflow.info().workflow_id}-{workflow.uuid4()}",
                                                     task_timeout=5 * SECONDS)

    async def do_dropped(self, value):
        """A timer and an activity that are cancelled while they go on."""
        timer = asyncio.create_task(asyncio.sleep(600))
        work: Any = workflow.start_activity(never, value, start_to_close_timeout=60 * SECONDS, heartbeat_timeout=5 * SECONDS,
                                            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL, retry_policy=QUICK)
        await asyncio.sleep(0.05)
        timer.cancel()
        work.cancel()
        try:
            await work
        except (ActivityError, asyncio.CancelledError) as error:
            if not is_cancelled_exception(error):
                return -1_000_000
        return value

    async def do_many(self, value):
        """Side by side; order and randomness as they are the first time."""
        parts = [workflow.random().randrange(1 + value) for _ in range(3)]
        doubled = await asyncio.gather(*[self.do_double(part) for part in parts])
        return value if sum(doubled) == 2 * sum(parts) else -1_000_000


WORKFLOWS = [Planned, Child]
KINDS = {"double": 20, "local": 9, "fails": 9, "beats": 9, "late": 3, "timer": 20, "child": 20, "dropped": 9, "many": 9, "again": 9}
