# SPDX-License-Identifier: MIT
"""Load by the official SDK's clients and workers, which live through all faults: each workflow must end with what its plan says, no
task fails by non-determinism, and the SDK's own Replayer replays every history.  A process of its own; the word "end" on its
input, with the nanoseconds at which the last fault had ended, ends the load, and what it found is its last line, in JSON."""

import argparse
import asyncio
import collections
import json
import logging
import os
import random
import sys
import time
from datetime import timedelta

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crash"))

import temporalio.api.enums.v1 as enums  # noqa: E402
from temporalio.client import Client, WorkflowHistory  # noqa: E402
from temporalio.client import WorkflowFailureError, WorkflowQueryFailedError, WorkflowUpdateFailedError  # noqa: E402
from temporalio.common import WorkflowIDReusePolicy  # noqa: E402
from temporalio.exceptions import WorkflowAlreadyStartedError  # noqa: E402
from temporalio.service import RPCError, RPCStatusCode  # noqa: E402
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker  # noqa: E402

from judge import KIND, read_history  # noqa: E402
from promises import Patience, Promises, Reader  # noqa: E402
from sdkflows import ACTIVITIES, KINDS, SECONDS, WAITS, WORKFLOWS, Planned, Plan, result_of  # noqa: E402

QUEUE = "official"
PATIENCE = Patience(300)  # in which any call must come through: a slow machine is no verdict
TRANSIENT = {RPCStatusCode.UNAVAILABLE, RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.ABORTED,
             RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.UNKNOWN, RPCStatusCode.INTERNAL}
NON_DETERMINISM = enums.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR


async def insist(make):
    """Its result, however often it must be asked, as long as anything comes through at all."""
    while True:
        try:
            answer = await make()
            PATIENCE.progress()
            return answer
        except RPCError as error:
            if error.status not in TRANSIENT or PATIENCE.over():
                raise
        except asyncio.TimeoutError:
            if PATIENCE.over():
                raise
        except Exception as error:
            # The SDK's words for an update whose call it gave up, and for a first connection that is refused.
            if type(error).__name__ not in ("WorkflowUpdateRPCTimeoutOrCancelledError", "RuntimeError") or PATIENCE.over():
                raise
        await asyncio.sleep(0.1)


async def connected(address):
    return await insist(lambda: Client.connect(address))


class Load:
    def __init__(self, client, seed, slack_ns):
        self.slack_ns, self.entries = slack_ns, []  # each try of a call, for the judge
        self.client, self.dice, self.enough = client, random.Random(seed), asyncio.Event()
        self.wrong, self.counts, self.started = [], collections.Counter(), []

    def noted(self, what, workflow, make, **facts):
        """That call, each try of which is known to the judge."""
        async def tried():
            entry = {"what": what, "workflow": workflow, "outcome": "unknown", "asked": time.time(), **facts}
            self.entries.append(entry)
            answer = await make()
            entry.update(outcome="ok", answered=time.time(), answer=answer)
            return answer
        return tried

    def plan(self):
        kinds, shares = list(KINDS), list(KINDS.values())
        steps = [(kind, self.dice.randrange(1, 9)) for kind in self.dice.choices(kinds, shares, k=self.dice.randrange(1, 6))]
        return Plan(steps=steps, signals=self.dice.choice((0, 0, 1, 3)), updates=self.dice.choice((0, 0, 1, 2)),
                    waits=self.dice.random() < 0.1)

    # ---- clients ----

    async def starter(self, name, pause):
        n = 0
        while not self.enough.is_set():
            n += 1
            try:
                await self.one(f"{name}-{n}", self.plan())
            except Exception as error:
                self.wrong.append(f"{name}-{n}: {type(error).__name__}: {error}")
            await asyncio.sleep(self.dice.uniform(0, pause))

    async def start(self, workflow_id, plan):
        """Of the first run: a call that is repeated because its answer was lost must not meet the one that continues it."""
        try:
            handle = await self.client.start_workflow(Planned.run, plan, id=workflow_id, task_queue=QUEUE, task_timeout=5 * SECONDS,
                                                      id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE)
            run = handle.first_execution_run_id
        except WorkflowAlreadyStartedError as error:  # by an earlier try whose answer was lost: nobody else uses this id
            run = error.run_id
        return self.client.get_workflow_handle(workflow_id, run_id=run)

    async def update(self, handle, value):
        """Twice asked under one id: it is done once."""
        limit = timedelta(seconds=10)
        name = f"u{value}"
        doubled = await insist(self.noted("update", handle.id, lambda: handle.execute_update(
            Planned.add, value, id=name, rpc_timeout=limit), update=name))
        if doubled != 2 * value:
            self.wrong.append(f"{handle.id}: the update {value} was answered with {doubled}")
        self.counts["updates"] += 1

    async def rejected(self, handle):
        try:
            await insist(lambda: handle.execute_update(Planned.add, -1, rpc_timeout=timedelta(seconds=10)))
            self.wrong.append(f"{handle.id}: an update that the validator rejects was taken")
        except WorkflowUpdateFailedError:
            self.counts["rejected updates"] += 1

    async def query(self, handle, least):
        """What was acknowledged before is seen."""
        try:
            seen = await insist(self.noted("query", handle.id, lambda: handle.query(Planned.state, rpc_timeout=timedelta(seconds=10))))
        except WorkflowQueryFailedError as error:
            self.wrong.append(f"{handle.id}: the query failed: {error}")
            return
        self.counts["queries"] += 1
        if seen[1] < least:
            self.wrong.append(f"{handle.id}: a query saw {seen[1]} signals of {least}")

    @staticmethod
    async def unless_ended(make):
        """What a run that has ended by now must have got by an earlier try: it could not have ended without."""
        try:
            await insist(make)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise

    async def talk(self, handle, plan):
        for value in range(1, plan.signals + 1):
            await self.unless_ended(self.noted("signal", handle.id, lambda v=value: handle.signal(Planned.number, v), number=value))
            self.counts["signals"] += 1
            if value < plan.signals and self.dice.random() < 0.3:
                await self.query(handle, value)
        if plan.updates and self.dice.random() < 0.2:
            await self.rejected(handle)
        for value in range(1, plan.updates + 1):
            await self.update(handle, value)

    async def one(self, workflow_id, plan):
        self.started.append(workflow_id)
        self.counts["started"] += 1
        await self.talk(await insist(self.noted("start", workflow_id, lambda: self.start(workflow_id, plan))), plan)
        handle = self.client.get_workflow_handle(workflow_id)
        if plan.waits:
            await self.until_it_waits(workflow_id)
            await self.unless_ended(self.noted("cancel", workflow_id, handle.cancel))
            self.counts["cancels"] += 1
        try:
            result = await insist(self.noted("result", workflow_id, lambda: asyncio.wait_for(
                self.client.get_workflow_handle(workflow_id, result_type=int).result(rpc_timeout=timedelta(seconds=30)), 60),
                wanted=result_of(plan)))
        except WorkflowFailureError as error:
            self.wrong.append(f"{workflow_id}: failed: {error.cause!r}")
            return
        if result != result_of(plan):
            self.wrong.append(f"{workflow_id}: ended with {result} and not {result_of(plan)}: {plan}")
        self.counts["ended"] += 1

    async def until_it_waits(self, workflow_id):
        """A cancel before that would meet it in its steps, or in a run that continues as another.  The history decides: a query may
        see what its next workflow task has yet to do, and then the cancel comes with that task."""
        stuck = Patience(PATIENCE.seconds)
        known = 0
        while not stuck.over():
            events = await insist(lambda: read_history(self.client.workflow_service, workflow_id, ""))
            if len(events) != known:
                known = len(events)
                stuck.progress()
            if any(event.timer_started_event_attributes.start_to_fire_timeout.seconds == WAITS for event in events):
                return
            await asyncio.sleep(0.5)

    # ---- workers ----

    async def worker(self, cached, **more):
        """With a connection of its own: an SDK takes one worker of a queue a client."""
        return Worker(await connected(self.client.service_client.config.target_host), task_queue=QUEUE, workflows=WORKFLOWS, activities=ACTIVITIES, max_cached_workflows=cached,
                      workflow_runner=UnsandboxedWorkflowRunner(), graceful_shutdown_timeout=timedelta(0),
                      sticky_queue_schedule_to_start_timeout=timedelta(seconds=2), max_concurrent_activities=200, **more)

    async def coming_and_going(self):
        """Besides the workers that live through it all, one whose sticky queue and cache go now and then."""
        while not self.enough.is_set():
            # Without activities: those that must time out would fail by its end instead.
            async with await self.worker(100, no_remote_activities=True):
                await asyncio.sleep(self.dice.uniform(3, 15))
            self.counts["workers ended"] += 1

    # ---- the end ----

    def look(self, book, failures):
        """At what only the SDK's histories tell."""
        for run, events in book.histories.items():
            name = f"{book.workflows[run]}/{run}"
            for event in events:
                if event.event_type == KIND.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                    attributes = event.workflow_task_failed_event_attributes
                    failures[enums.WorkflowTaskFailedCause.Name(attributes.cause)] += 1
                    if attributes.cause == NON_DETERMINISM:
                        self.wrong.append(f"{name}: non-determinism: {attributes.failure.message}")
                self.counts["sticky time-outs"] += event.workflow_task_timed_out_event_attributes.timeout_type == \
                    enums.TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
                self.counts["timers"] += event.event_type == KIND.EVENT_TYPE_TIMER_FIRED
                self.counts["time-outs of activities"] += event.event_type == KIND.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT

    def log(self):
        """The calls as promises.py wants them: what each was answered with is known once all is."""
        for entry in self.entries:
            answer = entry.pop("answer", None)
            if entry["what"] == "start" and answer:
                entry["run"] = answer.run_id
            elif entry["what"] == "query" and answer:
                entry["seen"] = answer[1]
            elif entry["what"] in ("update", "result"):
                entry["value"] = answer
        return self.entries

    async def judged(self, since_ns):
        book, failures = Promises(self.slack_ns, since_ns), collections.Counter()
        reader, entries = Reader(self.client.workflow_service), self.log()
        roots = {(entry["workflow"], entry["run"]) for entry in entries if entry["what"] == "start" and entry["outcome"] == "ok"}
        await reader.all(sorted(roots), book)
        book.calls(entries)
        book.families()
        book.one_at_a_time(await reader.listed(QUEUE, book.histories.keys()))
        wait = book.tails.judge(book)
        self.look(book, failures)
        replayer = Replayer(workflows=WORKFLOWS, workflow_runner=UnsandboxedWorkflowRunner())
        for run, events in book.histories.items():
            replayed = await replayer.replay_workflow(WorkflowHistory(book.workflows[run], events), raise_on_replay_failure=False)
            self.counts["replays"] += 1
            if replayed.replay_failure:
                self.wrong.append(f"{book.workflows[run]}/{run} does not replay: {replayed.replay_failure}")
        self.wrong += book.violations
        self.counts["acknowledged calls"] = sum(entry["outcome"] == "ok" for entry in entries)
        return failures, wait


async def told_to_end():
    """When the last fault had ended."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    words = (await reader.readline()).split()  # without any: nobody is there any more
    return int(words[1]) if len(words) > 1 else time.time_ns()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--starters", type=int, default=8)
    parser.add_argument("--slack-ns", type=int, default=0, help="by how much servers' clocks are made to differ")
    parser.add_argument("--pause", type=float, default=1.0, help="at most so many seconds between two workflows of a starter")
    arguments = parser.parse_args()
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)
    load = Load(await connected(arguments.address), arguments.seed, arguments.slack_ns)
    began = time.monotonic()
    async with await load.worker(50), await load.worker(500):
        guest = asyncio.create_task(load.coming_and_going())
        starters = [asyncio.create_task(load.starter(f"sdk{i}", arguments.pause)) for i in range(arguments.starters)]
        since_ns = await told_to_end()
        load.enough.set()
        ending = time.monotonic()
        await asyncio.gather(*starters)
        await guest
        drained = time.monotonic()
    failures, wait = await load.judged(since_ns)
    print(json.dumps({"wrong": load.wrong[:50], "counts": load.counts, "failures": failures, "wait_s": wait, "load_s": ending - began,
                      "drain_s": drained - ending, "judge_s": time.monotonic() - drained, "violations": len(load.wrong)}))


if __name__ == "__main__":
    asyncio.run(main())
