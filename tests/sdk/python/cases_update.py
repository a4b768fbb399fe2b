# SPDX-License-Identifier: MIT
"""Updates: validators, wait stages, ids that come twice, workers and runs that go meanwhile, and
update-with-start."""

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow
from temporalio.client import (WithStartWorkflowOperation, WorkflowUpdateFailedError,
                               WorkflowUpdateStage)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from flows import echo

COMPLETED = WorkflowUpdateStage.COMPLETED
ACCEPTED = WorkflowUpdateStage.ACCEPTED


@workflow.defn
class Counter:
    """Counts what it is sent; ends when told."""

    @workflow.init
    def __init__(self, total: int = 0):
        self.total, self.over, self.open, self.next = total, False, False, False

    @workflow.run
    async def run(self, total: int = 0) -> int:
        await workflow.wait_condition(lambda: self.over or self.next)
        if self.next:
            workflow.continue_as_new(self.total)
        return self.total

    @workflow.signal
    def finish(self):
        self.over = True

    @workflow.signal
    def go_on(self):
        self.next = True

    @workflow.signal
    def release(self):
        self.open = True

    @workflow.query
    def value(self) -> int:
        return self.total

    @workflow.update
    async def add(self, n: int) -> int:
        self.total += n
        return self.total

    @add.validator
    def check_add(self, n: int):
        if n < 0:
            raise ApplicationError(f"{n} is less than nothing", type="Negative")

    @workflow.update
    async def add_slowly(self, n: int) -> str:
        said = await workflow.execute_activity(echo, str(n),
                                               start_to_close_timeout=timedelta(seconds=10))
        self.total += n
        return said

    @workflow.update
    async def add_when_open(self, n: int) -> int:
        await workflow.wait_condition(lambda: self.open)
        self.total += n
        return self.total

    @workflow.update
    async def fail(self, text: str) -> None:
        raise ApplicationError(text, 7, type="Failed")

    @workflow.update
    async def end(self) -> str:
        self.over = True
        return "ending"


WORKFLOWS = [Counter]


@contextlib.asynccontextmanager
async def counter(env, **kw):
    env.replay_classes.setdefault("Counter", Counter)
    async with env.worker(WORKFLOWS, [echo], **kw) as queue:
        handle = await env.start(Counter.run, 0, task_queue=queue)
        yield handle


async def finish(handle, total):
    await handle.signal(Counter.finish)
    assert await handle.result() == total


async def status(awaitable):
    try:
        await awaitable
    except RPCError as error:
        return error.status
    return None


async def case_update(env):
    async with counter(env) as handle:
        assert await handle.execute_update(Counter.add, 3) == 3
        assert await handle.execute_update(Counter.add, 4) == 7
        assert await handle.query(Counter.value) == 7
        await finish(handle, 7)
        kinds = await env.kinds(handle)
        assert kinds.count("WORKFLOW_EXECUTION_UPDATE_ACCEPTED") == 2, kinds
        assert kinds.count("WORKFLOW_EXECUTION_UPDATE_COMPLETED") == 2, kinds


async def case_update_rejected(env):
    """Nothing is written of what the validator does not let in."""
    async with counter(env) as handle:
        assert await handle.execute_update(Counter.add, 1) == 1
        before = await env.kinds(handle)
        for _ in range(3):
            error = await env.raises(WorkflowUpdateFailedError, handle.execute_update(Counter.add, -1))
            assert "less than nothing" in str(error.cause), error.cause
        assert await env.kinds(handle) == before
        assert await handle.execute_update(Counter.add, 1) == 2
        await finish(handle, 2)


async def case_update_unknown_name(env):
    async with counter(env) as handle:
        await handle.execute_update(Counter.add, 1)
        error = await env.raises(WorkflowUpdateFailedError, handle.execute_update("nothing", 1))
        assert "nothing" in str(error.cause), error.cause
        await finish(handle, 1)


async def case_update_failed(env):
    async with counter(env) as handle:
        error = await env.raises(WorkflowUpdateFailedError, handle.execute_update(Counter.fail, "no"))
        assert error.cause.type == "Failed" and error.cause.details[0] == 7
        await finish(handle, 0)
        assert (await env.kinds(handle)).count("WORKFLOW_EXECUTION_UPDATE_COMPLETED") == 1


async def case_update_accepted_then_polled(env):
    async with counter(env) as handle:
        update = await handle.start_update(Counter.add_when_open, 5, wait_for_stage=ACCEPTED)
        other = handle.get_update_handle_for(Counter.add_when_open, update.id)
        waiting = asyncio.gather(update.result(), other.result())
        await handle.signal(Counter.release)
        assert await waiting == [5, 5]
        await finish(handle, 5)


async def case_update_with_activity(env):
    async with counter(env) as handle:
        assert await handle.execute_update(Counter.add_slowly, 2) == "echo 2"
        await finish(handle, 2)


async def case_update_id_twice(env):
    """The second of one id gets what the first got, when it is over and while it is not."""
    async with counter(env) as handle:
        assert await handle.execute_update(Counter.add, 3, id="once") == 3
        assert await handle.execute_update(Counter.add, 9, id="once") == 3
        both = asyncio.gather(handle.execute_update(Counter.add_when_open, 1, id="gate"),
                              handle.execute_update(Counter.add_when_open, 1, id="gate"))
        await env.until_kind(handle, "WORKFLOW_EXECUTION_UPDATE_ACCEPTED", 2)
        await handle.signal(Counter.release)
        assert await both == [4, 4]
        await finish(handle, 4)
        assert await handle.execute_update(Counter.add, 9, id="once") == 3


async def case_update_poll_unknown(env):
    async with counter(env) as handle:
        await handle.execute_update(Counter.add, 1)
        unknown = handle.get_update_handle("never-sent")
        assert await status(unknown.result()) == RPCStatusCode.NOT_FOUND
        await finish(handle, 1)


async def case_update_closed(env):
    async with counter(env) as handle:
        await handle.execute_update(Counter.add, 1, id="one")
        await finish(handle, 1)
        assert await status(handle.execute_update(Counter.add, 1)) == RPCStatusCode.NOT_FOUND
        assert await handle.execute_update(Counter.add, 1, id="one") == 1
        assert await handle.get_update_handle("one", result_type=int).result() == 1


async def case_update_ends_workflow(env):
    async with counter(env) as handle:
        assert await handle.execute_update(Counter.end) == "ending"
        assert await handle.result() == 0


async def case_update_open_at_close(env):
    """Accepted, but the workflow ends first: a failure of the update, not an error of the call."""
    async with counter(env) as handle:
        update = await handle.start_update(Counter.add_when_open, 5, wait_for_stage=ACCEPTED)
        waiting = asyncio.create_task(update.result())
        await handle.signal(Counter.finish)
        error = await env.raises(WorkflowUpdateFailedError, waiting)
        assert error.cause.type == "AcceptedUpdateCompletedWorkflow", error.cause
        error = await env.raises(WorkflowUpdateFailedError, update.result())
        assert error.cause.type == "AcceptedUpdateCompletedWorkflow", error.cause


async def case_update_terminated(env):
    """Nobody has taken it when the workflow is terminated."""
    handle = await env.start(Counter.run, 0, task_queue=env.id("nobody"))
    update = asyncio.create_task(status(handle.execute_update(Counter.add, 1)))
    await asyncio.sleep(0.3)
    await handle.terminate()
    assert await update == RPCStatusCode.NOT_FOUND
    env.not_replayed.add(handle.id)


async def case_update_before_worker(env):
    queue = env.id("late")
    handle = await env.start(Counter.run, 0, task_queue=queue)
    update = asyncio.create_task(handle.execute_update(Counter.add, 2))
    await asyncio.sleep(0.3)
    env.replay_classes.setdefault("Counter", Counter)
    async with env.worker(WORKFLOWS, [echo], queue=queue):
        assert await update == 2
        await finish(handle, 2)


async def case_update_worker_restart(env):
    """Accepted by one worker, completed by the next, which has nothing in its cache."""
    queue = env.id("restart")
    env.replay_classes.setdefault("Counter", Counter)
    async with env.worker(WORKFLOWS, [echo], queue=queue):
        handle = await env.start(Counter.run, 0, task_queue=queue)
        update = await handle.start_update(Counter.add_when_open, 5, wait_for_stage=ACCEPTED)
    await handle.signal(Counter.release)
    async with env.worker(WORKFLOWS, [echo], queue=queue):
        assert await update.result() == 5
        assert await handle.execute_update(Counter.add, 1) == 6
        await finish(handle, 6)


async def case_update_no_cache(env):
    async with counter(env, max_cached_workflows=0) as handle:
        for i in range(3):
            await env.raises(WorkflowUpdateFailedError, handle.execute_update(Counter.add, -1))
            assert await handle.execute_update(Counter.add, 1) == i + 1
        await finish(handle, 3)


async def case_update_many(env):
    async with counter(env) as handle:
        got = await asyncio.gather(*(handle.execute_update(Counter.add, 1) for _ in range(8)))
        assert sorted(got) == list(range(1, 9)), got
        mixed = await asyncio.gather(*(handle.execute_update(Counter.add, n)
                                       for n in (1, -1, 1, -1, 1)), return_exceptions=True)
        assert [isinstance(m, WorkflowUpdateFailedError) for m in mixed] == [False, True, False, True, False]
        await finish(handle, 11)


async def case_update_with_signals(env):
    """Signals between updates are seen by the updates behind them."""
    async with counter(env) as handle:
        update = await handle.start_update(Counter.add_when_open, 1, wait_for_stage=ACCEPTED)
        await asyncio.gather(handle.signal(Counter.release), handle.execute_update(Counter.add, 1),
                             env.raises(WorkflowUpdateFailedError,
                                        handle.execute_update(Counter.add, -1)))
        await update.result()
        await finish(handle, 2)


async def case_update_in_flight_limit(env):
    async with counter(env) as handle:
        held = [await handle.start_update(Counter.add_when_open, 1, wait_for_stage=ACCEPTED)
                for _ in range(10)]
        try:
            await handle.execute_update(Counter.add, 1, rpc_timeout=timedelta(seconds=2))
            raise AssertionError("an eleventh update was let in")
        except Exception as error:
            assert not isinstance(error, AssertionError), error
        await handle.signal(Counter.release)
        await asyncio.gather(*(h.result() for h in held))
        assert await handle.execute_update(Counter.add, 1) == 11
        await finish(handle, 11)


async def case_update_continue_as_new(env):
    """The workflow id is meant, not a run: the next one takes the update."""
    async with counter(env) as first:
        handle = env.client.get_workflow_handle_for(Counter.run, first.id)
        assert await handle.execute_update(Counter.add, 2) == 2
        signal, update = await asyncio.gather(handle.signal(Counter.go_on),
                                              handle.execute_update(Counter.add, 3))
        assert update == 5
        assert await handle.execute_update(Counter.add, 1) == 6
        await handle.signal(Counter.finish)
        assert await first.result() == 6


async def case_update_first_run_moved_on(env):
    async with counter(env) as handle:
        other = env.client.get_workflow_handle(handle.id, first_execution_run_id="0" * 8)
        assert await status(other.execute_update("add", 1)) == RPCStatusCode.NOT_FOUND
        await finish(handle, 0)


def with_start(env, queue, id, policy=WorkflowIDConflictPolicy.USE_EXISTING, **kw):
    return WithStartWorkflowOperation(Counter.run, 10, id=id, task_queue=queue,
                                      id_conflict_policy=policy, **kw)


async def case_update_with_start(env):
    env.replay_classes.setdefault("Counter", Counter)
    async with env.worker(WORKFLOWS, [echo]) as queue:
        id = env.id("uws")
        first = with_start(env, queue, id)
        assert await env.client.execute_update_with_start_workflow(
            Counter.add, 1, start_workflow_operation=first) == 11
        second = with_start(env, queue, id)
        assert await env.client.execute_update_with_start_workflow(
            Counter.add, 1, start_workflow_operation=second) == 12
        handle = await first.workflow_handle()
        assert (await second.workflow_handle()).result_run_id == handle.result_run_id
        env.tracker.started.add((id, handle.result_run_id or ""))
        refused = with_start(env, queue, id, WorkflowIDConflictPolicy.FAIL)
        await env.raises(WorkflowAlreadyStartedError, env.client.execute_update_with_start_workflow(
            Counter.add, 1, start_workflow_operation=refused))
        await finish(handle, 12)


async def case_update_with_start_rejected(env):
    """The workflow runs although its first update was not let in."""
    env.replay_classes.setdefault("Counter", Counter)
    async with env.worker(WORKFLOWS, [echo]) as queue:
        id = env.id("uws")
        start = with_start(env, queue, id)
        await env.raises(WorkflowUpdateFailedError, env.client.execute_update_with_start_workflow(
            Counter.add, -1, start_workflow_operation=start))
        handle = await start.workflow_handle()
        env.tracker.started.add((id, handle.result_run_id or ""))
        await finish(handle, 10)


async def case_update_with_start_id_twice(env):
    """The outcome is remembered when the run that gave it has closed."""
    env.replay_classes.setdefault("Counter", Counter)
    async with env.worker(WORKFLOWS, [echo]) as queue:
        id = env.id("uws")
        for _ in range(2):
            start = with_start(env, queue, id)
            assert await env.client.execute_update_with_start_workflow(
                Counter.add, 1, id="the-update", start_workflow_operation=start) == 11
            handle = await start.workflow_handle()
            env.tracker.started.add((id, handle.result_run_id or ""))
            if _ == 0:
                await finish(handle, 11)


async def case_update_with_start_refused(env):
    start = with_start(env, env.queue, env.id("uws"), start_delay=timedelta(seconds=5))
    assert await status(env.client.execute_update_with_start_workflow(
        Counter.add, 1, start_workflow_operation=start)) == RPCStatusCode.INVALID_ARGUMENT
