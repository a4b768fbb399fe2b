# SPDX-License-Identifier: MIT
"""What hangs on workers: caches and stickiness, tasks that fail and are mended, workers that go."""

import asyncio
from datetime import timedelta

from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import flows
from harness import Env


async def case_deterministic_values(env):
    """The query after an eviction replays: what was random must come out the same."""
    async with env.worker([flows.Deterministic], max_cached_workflows=0) as queue:
        handle = await env.start(flows.Deterministic.run, task_queue=queue)
        await env.until_kind(handle, "WORKFLOW_TASK_COMPLETED")
        made = await handle.query(flows.Deterministic.state)
        assert await handle.query(flows.Deterministic.state) == made
        await handle.signal(flows.Deterministic.finish)
        assert await handle.result() == made


async def case_patched(env):
    handle = await env.start(flows.Patched.run)
    assert await handle.result() == ["new", "echo after"]
    assert (await env.kinds(handle)).count("MARKER_RECORDED") == 2


async def step(env, handle, value, count):
    await handle.signal(flows.TwoSteps.go, value)
    assert await handle.query(flows.TwoSteps.so_far) == count


async def case_no_cache(env):
    async with env.worker([flows.TwoSteps], [flows.echo], max_cached_workflows=0) as queue:
        handle = await env.start(flows.TwoSteps.run, task_queue=queue)
        for i, value in enumerate("abc"):
            await step(env, handle, value, i + 1)
        assert await handle.result() == ["a", "b", "c"]


async def case_cache_of_one(env):
    async with env.worker([flows.TwoSteps], [flows.echo], max_cached_workflows=1,
                          max_concurrent_workflow_tasks=2,
                          max_concurrent_workflow_task_polls=2) as queue:
        handles = [await env.start(flows.TwoSteps.run, task_queue=queue) for _ in range(4)]
        for i, value in enumerate("abc"):
            await asyncio.gather(*(step(env, h, value, i + 1) for h in handles))
        for handle in handles:
            assert await handle.result() == ["a", "b", "c"]


async def case_worker_replaced(env):
    """The sticky worker goes; the next one gets the whole history."""
    queue = env.id("replaced")
    async with env.worker([flows.TwoSteps], [flows.echo], queue=queue):
        handle = await env.start(flows.TwoSteps.run, task_queue=queue)
        await step(env, handle, "a", 1)
    await handle.signal(flows.TwoSteps.go, "b")
    async with env.worker([flows.TwoSteps], [flows.echo], queue=queue):
        await step(env, handle, "c", 3)
        assert await handle.result() == ["a", "b", "c"]


async def case_task_failure_then_mended(env):
    """A workflow whose code throws something that isn't a failure: its task is retried."""
    async with env.worker([flows.Mended]) as queue:
        handle = await env.start(flows.Mended.run, task_queue=queue)
        await env.until_kind(handle, "WORKFLOW_TASK_FAILED")
        failed = [e for e in await env.events(handle)
                  if e.HasField("workflow_task_failed_event_attributes")][0]
        assert "a bug" in failed.workflow_task_failed_event_attributes.failure.message
        flows.STATE["broken"] = False
        assert await asyncio.wait_for(handle.result(), 40) == "mended"
    assert (await env.kinds(handle)).count("WORKFLOW_TASK_FAILED") == 1


async def case_nondeterminism_then_mended(env):
    """Changed code is refused by the SDK, which fails the task; the old code then goes on."""
    queue = env.id("changed")
    async with env.worker([flows.ChangedOld], [flows.echo], queue=queue, max_cached_workflows=0):
        handle = await env.start(flows.ChangedOld.run, task_queue=queue,
                                 task_timeout=timedelta(seconds=2))
        await env.until_kind(handle, "TIMER_STARTED")
    async with env.worker([flows.ChangedNew], queue=queue, max_cached_workflows=0):
        await env.until_kind(handle, "WORKFLOW_TASK_FAILED")
    failed = [e for e in await env.events(handle)
              if e.HasField("workflow_task_failed_event_attributes")][0]
    cause = failed.workflow_task_failed_event_attributes.cause
    assert cause == 23 or "ondeterminism" in str(failed), failed
    async with env.worker([flows.ChangedOld], [flows.echo], queue=queue, max_cached_workflows=0):
        assert await asyncio.wait_for(handle.result(), 40) == "old"


async def case_worker_after_the_start(env):
    queue = env.id("late")
    handle = await env.start(flows.Hello.run, "late", task_queue=queue)
    await asyncio.sleep(0.5)
    async with env.worker([flows.Hello], [flows.echo], queue=queue):
        assert await handle.result() == "echo late"


async def case_shutdown_lets_activities_end(env):
    queue = env.id("shutdown")
    worker = Worker(env.client, task_queue=queue, workflows=[flows.CallOne],
                    activities=[flows.hangs], workflow_runner=UnsandboxedWorkflowRunner(),
                    graceful_shutdown_timeout=timedelta(seconds=0.2))
    running = asyncio.create_task(worker.run())
    handle = await env.start(flows.CallOne.run, flows.Call("hangs", [60]), task_queue=queue)
    await env.until_kind(handle, "ACTIVITY_TASK_SCHEDULED")

    async def started():
        pending = (await handle.describe()).raw_description.pending_activities
        return pending and pending[0].state == 2
    await env.until(started, "the activity started")
    await worker.shutdown()
    await running
    async with env.worker([flows.CallOne], [flows.hangs], queue=queue):
        assert await handle.result() == "ended"


async def case_two_workers_share_a_queue(env):
    queue = env.id("shared")
    other = Env(env.address, env.namespace)
    await other.connect()
    async with env.worker([flows.Hello], [flows.echo], queue=queue):
        async with other.worker([flows.Hello], [flows.echo], queue=queue):
            handles = [await env.start(flows.Hello.run, str(i), task_queue=queue)
                       for i in range(20)]
            results = await asyncio.gather(*(h.result() for h in handles))
            assert results == [f"echo {i}" for i in range(20)], results


async def case_eager_start(env):
    """The first task comes with the answer to the start, when the server offers that."""
    async with env.worker([flows.Hello], [flows.echo]) as queue:
        handle = await env.start(flows.Hello.run, "eager", task_queue=queue,
                                 request_eager_start=True)
        assert await handle.result() == "echo eager"
