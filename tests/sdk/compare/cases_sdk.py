# SPDX-License-Identifier: MIT
"""The same, driven by a real SDK worker: one step at a time, so that no race decides the order."""

import asyncio
import logging
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

logging.getLogger("temporalio").setLevel(logging.CRITICAL)


@activity.defn
async def echo(value: str) -> str:
    return value + "!"


@activity.defn
async def flaky(limit: int) -> int:
    if activity.info().attempt < limit:
        raise ApplicationError("not yet", type="NotYet")
    return activity.info().attempt


@workflow.defn
class Steps:
    """An activity, a retried one, a local one, a timer, a side effect kept by a patch marker."""

    @workflow.run
    async def run(self, word: str) -> str:
        out = await workflow.execute_activity(
            echo, word, start_to_close_timeout=timedelta(seconds=10))
        count = await workflow.execute_activity(
            flaky, 2, start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100)))
        out += await workflow.execute_local_activity(
            echo, "local", start_to_close_timeout=timedelta(seconds=10))
        await asyncio.sleep(0.2)
        if workflow.patched("change-1"):
            out += "patched"
        return f"{out} {count}"


@workflow.defn
class Parent:
    @workflow.run
    async def run(self, word: str) -> str:
        return await workflow.execute_child_workflow(
            Steps.run, word, id=workflow.info().workflow_id + "-child")


@workflow.defn
class Waiting:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: len(self.seen) >= 2)
        return self.seen

    @workflow.signal
    def push(self, value: str) -> None:
        self.seen.append(value)

    @workflow.query
    def so_far(self) -> list[str]:
        return self.seen


@workflow.defn
class Failing:
    @workflow.run
    async def run(self) -> None:
        raise ApplicationError("on purpose", 1, type="Purpose", non_retryable=True)


@workflow.defn
class Again:
    @workflow.run
    async def run(self, left: int) -> int:
        if left > 0:
            workflow.continue_as_new(left - 1)
        return 42


async def with_worker(c, play):
    client = await Client.connect(c.server.address, namespace=c.ns)
    worker = Worker(client, task_queue=c.tq, activities=[echo, flaky],
                    workflows=[Steps, Parent, Waiting, Failing, Again],
                    workflow_runner=UnsandboxedWorkflowRunner())
    async with worker:
        await play(client)


async def case_sdk_steps(c):
    async def play(client):
        c.record("result", await client.execute_workflow(
            Steps.run, "hello", id=c.wid(), task_queue=c.tq))
    await with_worker(c, play)
    await c.history(WorkflowExecution(workflow_id=c.wid()))


async def case_sdk_child(c):
    async def play(client):
        c.record("result", await client.execute_workflow(
            Parent.run, "deep", id=c.wid(), task_queue=c.tq))
    await with_worker(c, play)
    await c.history(WorkflowExecution(workflow_id=c.wid("w-child")), "history of the child")


async def case_sdk_signals_and_queries(c):
    run = WorkflowExecution(workflow_id=c.wid())

    async def play(client):
        handle = await client.start_workflow(Waiting.run, id=c.wid(), task_queue=c.tq)
        await c.until_event(run, "EVENT_TYPE_WORKFLOW_TASK_COMPLETED")
        await handle.signal(Waiting.push, "one")
        await c.until_event(run, "EVENT_TYPE_WORKFLOW_TASK_COMPLETED", 2)
        c.record("query", await handle.query(Waiting.so_far))
        await handle.signal(Waiting.push, "two")
        c.record("result", await handle.result())
        c.record("query of the closed run", await handle.query(Waiting.so_far))
    await with_worker(c, play)
    await c.history(run)


async def case_sdk_failure(c):
    async def play(client):
        try:
            await client.execute_workflow(Failing.run, id=c.wid(), task_queue=c.tq)
        except WorkflowFailureError as error:
            c.record("failure", str(error.cause))
    await with_worker(c, play)
    await c.history(WorkflowExecution(workflow_id=c.wid()))


async def case_sdk_continue_as_new(c):
    async def play(client):
        c.record("result", await client.execute_workflow(
            Again.run, 2, id=c.wid(), task_queue=c.tq))
    await with_worker(c, play)
    await c.history(WorkflowExecution(workflow_id=c.wid()), "history of the last run")
