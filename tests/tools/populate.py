# SPDX-License-Identifier: MIT
"""Fills a server with runs of every sort: closed in each way, chains, children, long histories, open ones that wait.

populate.py ADDRESS [ROUND]
"""
import asyncio
import logging
import os
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy, SearchAttributeKey, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

logging.disable(logging.CRITICAL)
QUEUE = "tools"
KEYWORD = SearchAttributeKey.for_keyword("SdkKeyword")
NUMBER = SearchAttributeKey.for_int("SdkInt")


@activity.defn
async def echo(text: str) -> str:
    return text


@activity.defn
async def flaky(text: str) -> str:
    activity.heartbeat("beat")
    if activity.info().attempt < 3:
        raise ApplicationError("not yet")
    return text


@workflow.defn
class Small:
    @workflow.run
    async def run(self, text: str) -> str:
        return await workflow.execute_activity(
            echo, text, start_to_close_timeout=timedelta(seconds=10))


@workflow.defn
class Busy:
    """Timers, retries, a child, search attributes, memo."""

    @workflow.run
    async def run(self, n: int) -> str:
        workflow.upsert_search_attributes([KEYWORD.value_set(f"k{n}"), NUMBER.value_set(n)])
        workflow.upsert_memo({"n": n})
        await asyncio.sleep(0.05)
        await workflow.execute_activity(
            flaky, "x", start_to_close_timeout=timedelta(seconds=10),
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=20)))
        return await workflow.execute_child_workflow(Small.run, "child", id=f"{workflow.info().workflow_id}-child")


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, left: int) -> str:
        await workflow.execute_activity(echo, "x", start_to_close_timeout=timedelta(seconds=10))
        if left:
            workflow.continue_as_new(left - 1)
        return "end"


@workflow.defn
class Box:
    """Takes signals until it is told to end: its history grows past a snapshot."""

    def __init__(self) -> None:
        self.got = 0
        self.over = False

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.over)
        return self.got

    @workflow.signal
    def put(self, text: str) -> None:
        self.got += 1

    @workflow.signal
    def end(self) -> None:
        self.over = True


@workflow.defn
class Sleeper:
    @workflow.run
    async def run(self) -> None:
        await asyncio.sleep(3600)


@workflow.defn
class Failing:
    @workflow.run
    async def run(self) -> None:
        raise ApplicationError("as it should")


async def quietly(handle) -> None:
    try:
        await handle.result()
    except Exception:
        pass


async def one_round(client: Client, r: int) -> None:
    def start(what, *args, name, **more):
        return client.start_workflow(what, *args, id=f"{name}-{r}", task_queue=QUEUE, **more)

    small = [await start(Small.run, f"s{i}", name=f"small{i}", memo={"i": i}) for i in range(6)]
    busy = [await start(Busy.run, i, name=f"busy{i}") for i in range(3)]
    chain = await start(Chain.run, 2, name="chain")
    box = await start(Box.run, name="box")
    long = await start(Box.run, name="long")
    for i in range(60):
        await long.signal(Box.put, f"t{i}")
        await box.signal(Box.put, f"b{i}")
        await asyncio.sleep(0.005)
    await box.signal(Box.end)
    failing = await start(Failing.run, name="failing")
    sleeper = await start(Sleeper.run, name="sleeper")
    cancelled = await start(Sleeper.run, name="cancelled")
    terminated = await start(Sleeper.run, name="terminated")
    delayed = await start(Small.run, "later", name="delayed", start_delay=timedelta(hours=1))
    await cancelled.cancel()
    await terminated.terminate("because")
    for handle in [*small, *busy, chain, box, failing, cancelled, terminated]:
        await quietly(handle)
    again = await start(Small.run, "again", name="small0",
                        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE)
    await quietly(again)
    assert sleeper and delayed and long


async def main() -> None:
    client = await Client.connect(sys.argv[1])
    async with Worker(client, task_queue=QUEUE, workflows=[Small, Busy, Chain, Box, Sleeper, Failing],
                      activities=[echo, flaky], workflow_runner=UnsandboxedWorkflowRunner()):
        await one_round(client, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    # Nobody works on this one.
    await client.start_workflow(Small.run, "x", id=f"orphaned-{sys.argv[2:]}", task_queue="nobody")


asyncio.run(main())
# The SDK's threads sometimes crash while the interpreter is taken down around them.
os._exit(0)
