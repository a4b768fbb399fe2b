# SPDX-License-Identifier: MIT
"""What operators do from outside, through the SDK: activities without a workflow; pausing, resetting and changing
activities; pausing a workflow."""

import asyncio
import uuid
from datetime import timedelta

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio import activity
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.batch.v1 import BatchOperationDeleteActivities, BatchOperationTerminateActivities
from temporalio.api.enums.v1 import BatchOperationState, PendingActivityState
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DeleteActivityExecutionRequest, DescribeBatchOperationRequest, DescribeNamespaceRequest,
    DescribeWorkflowExecutionRequest, PauseActivityRequest, PauseWorkflowExecutionRequest, QueryWorkflowRequest,
    ResetActivityRequest, StartBatchOperationRequest, UnpauseActivityRequest, UnpauseWorkflowExecutionRequest,
    UpdateActivityOptionsRequest)
from temporalio.client import (
    ActivityExecutionStatus, ActivityFailureError, WorkflowExecutionStatus)
from temporalio.common import ActivityIDConflictPolicy, ActivityIDReusePolicy, RetryPolicy
from temporalio.exceptions import ActivityAlreadyStartedError, ApplicationError, CancelledError
from temporalio.service import RPCError, RPCStatusCode

import flows
from flows import Call, Fail
from harness import execution

SHORT = dict(start_to_close_timeout=timedelta(seconds=20))
seen = {}


@activity.defn
async def solo_flaky(good_from: int) -> int:
    if activity.info().attempt < good_from:
        raise ApplicationError(f"attempt {activity.info().attempt}")
    return activity.info().attempt


@activity.defn
async def solo_info() -> dict:
    info = activity.info()
    return {"id": info.activity_id, "workflow_id": info.workflow_id, "namespace": info.namespace,
            "in_workflow": info.in_workflow}


@activity.defn
async def tells_its_end(key: str) -> str:
    """Beats until it is told to stop; says why."""
    seen[key] = "began"
    try:
        while True:
            activity.heartbeat("here")
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        why = activity.cancellation_details()
        seen[key] = "paused" if why and why.paused else "reset" if why and why.reset else "cancelled"
        raise


ACTIVITIES = [solo_flaky, solo_info, tells_its_end]


# ---- activities without a workflow ----------------------------------------------------------------

async def case_solo_executed(env):
    async with env.worker(activities=ACTIVITIES) as queue:
        name = env.id("solo")
        info = await env.client.execute_activity(solo_info, id=name, task_queue=queue, **SHORT)
        assert info["id"] == name and not info["in_workflow"] and info["namespace"] == env.namespace, info
        assert await env.client.execute_activity(
            solo_flaky, 3, id=env.id("solo"), task_queue=queue,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)), **SHORT) == 3


async def case_solo_fails(env):
    async with env.worker(activities=ACTIVITIES) as queue:
        error = await env.raises(ActivityFailureError, env.client.execute_activity(
            solo_flaky, 9, id=env.id("solo"), task_queue=queue,
            retry_policy=RetryPolicy(maximum_attempts=2, initial_interval=timedelta(milliseconds=50)), **SHORT))
        assert isinstance(error.cause, ApplicationError) and error.cause.message == "attempt 2", error.cause


async def case_solo_ids(env):
    name, queue = env.id("solo"), env.id("nobody")
    first = await env.client.start_activity(solo_info, id=name, task_queue=queue, **SHORT)
    error = await env.raises(ActivityAlreadyStartedError, env.client.start_activity(
        solo_info, id=name, task_queue=queue, **SHORT))
    assert error.run_id == first.run_id, error
    same = await env.client.start_activity(solo_info, id=name, task_queue=queue,
                                           id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING, **SHORT)
    assert same.run_id == first.run_id
    await first.terminate(reason="enough")
    described = await first.describe()
    assert described.status == ActivityExecutionStatus.TERMINATED, described.status
    await env.raises(ActivityAlreadyStartedError, env.client.start_activity(
        solo_info, id=name, task_queue=queue, id_reuse_policy=ActivityIDReusePolicy.REJECT_DUPLICATE, **SHORT))
    second = await env.client.start_activity(solo_info, id=name, task_queue=queue, **SHORT)
    assert second.run_id != first.run_id
    await second.terminate()


async def case_solo_cancelled(env):
    async with env.worker(activities=ACTIVITIES) as queue:
        key = uuid.uuid4().hex
        handle = await env.client.start_activity(tells_its_end, key, id=env.id("solo"), task_queue=queue,
                                                 heartbeat_timeout=timedelta(seconds=3), **SHORT)

        async def began():
            return seen.get(key) == "began"
        await env.until(began, "the activity to begin")
        await handle.cancel(reason="asked")
        error = await env.raises(ActivityFailureError, handle.result())
        assert isinstance(error.cause, CancelledError), error.cause
        described = await handle.describe()
        assert described.status == ActivityExecutionStatus.CANCELED, described.status


async def case_solo_listed(env):
    queue = env.id("nobody")
    handles = [await env.client.start_activity(solo_info, id=env.id("solo"), task_queue=queue, **SHORT)
               for _ in range(3)]
    query = f"TaskQueue = '{queue}'"

    async def counted():
        return (await env.client.count_activities(query)).count == 3
    await env.until(counted, "three to be counted")
    found = [a.activity_id async for a in env.client.list_activities(query)]
    assert sorted(found) == sorted(h.id for h in handles), found
    await handles[0].terminate()
    await env.client.workflow_service.delete_activity_execution(DeleteActivityExecutionRequest(
        namespace=env.namespace, activity_id=handles[1].id))

    async def gone():
        return (await env.client.count_activities(query + " AND ExecutionStatus = 'Running'")).count == 1
    await env.until(gone, "the deleted one to be gone")
    await handles[2].terminate()
    await env.raises(RPCError, handles[1].describe())


async def case_solo_waits_long(env):
    """A result that comes while a client waits for it."""
    name, queue = env.id("solo"), env.id("later")
    handle = await env.client.start_activity(solo_info, id=name, task_queue=queue, **SHORT)
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    async with env.worker(activities=ACTIVITIES, queue=queue):
        assert (await waiting)["id"] == name


async def case_solo_batches(env):
    """Jobs on many activities: ended, asked to end, deleted."""
    queue = env.id("nobody")
    handles = [await env.client.start_activity(solo_info, id=env.id("solo"), task_queue=queue, **SHORT)
               for _ in range(5)]
    query = " OR ".join(f"ActivityId = '{handle.id}'" for handle in handles)

    async def listed(extra, count):
        return (await env.client.count_activities(f"({query}){extra}")).count == count

    async def job(**operation):
        name = env.id("job")
        await env.start_batch(StartBatchOperationRequest(
            namespace=env.namespace, job_id=name, reason="many", visibility_query=query, **operation))

        async def over():
            return (await env.client.workflow_service.describe_batch_operation(DescribeBatchOperationRequest(
                namespace=env.namespace, job_id=name))).state == BatchOperationState.BATCH_OPERATION_STATE_COMPLETED
        await env.until(over, "the job's end", 30, 0.2)
    await env.until(lambda: listed("", 5), "the activities to be listed", 20, 0.2)
    await job(terminate_activities_operation=BatchOperationTerminateActivities(identity="operator", reason="many"))
    for handle in handles:
        assert (await handle.describe()).status == ActivityExecutionStatus.TERMINATED
    await job(delete_activities_operation=BatchOperationDeleteActivities())
    await env.until(lambda: listed("", 0), "the activities to be gone", 20, 0.2)


# ---- activities of workflows -----------------------------------------------------------------------

async def pending(env, handle):
    raw = (await handle.describe()).raw_description
    return raw.pending_activities[0] if raw.pending_activities else None


def of(env, handle, **kw):
    return dict(namespace=env.namespace, execution=execution(handle), **kw)


async def case_activity_paused_and_resumed(env):
    handle = await env.start(flows.CallOne.run, Call("failing", [Fail(good_from=2)], attempts=5, first_retry=30))
    service = env.client.workflow_service

    async def failed_once():
        found = await pending(env, handle)
        return found and found.attempt == 2
    await env.until(failed_once, "the first attempt to fail")
    await service.pause_activity(PauseActivityRequest(**of(env, handle, type="failing", reason="look at it")))
    found = await pending(env, handle)
    assert found.paused and found.state == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED, found
    assert found.pause_info.manual.reason == "look at it", found
    await service.unpause_activity(UnpauseActivityRequest(**of(env, handle, unpause_all=True)))
    assert await handle.result() == 2


async def case_activity_hears_of_its_pause(env):
    async with env.worker(activities=ACTIVITIES) as queue:
        key = uuid.uuid4().hex
        handle = await env.start(flows.CallOne.run, Call(
            "tells_its_end", [key], heartbeat=3, attempts=5, first_retry=30, queue=queue))

        async def began():
            return seen.get(key) == "began"
        await env.until(began, "the activity to begin")
        await env.client.workflow_service.pause_activity(PauseActivityRequest(
            **of(env, handle, type="tells_its_end")))

        async def told():
            return seen.get(key) == "paused"
        await env.until(told, "the worker to hear of the pause")
        await handle.terminate()


async def case_activity_hears_of_its_reset(env):
    async with env.worker(activities=ACTIVITIES) as queue:
        key = uuid.uuid4().hex
        handle = await env.start(flows.CallOne.run, Call(
            "tells_its_end", [key], heartbeat=3, attempts=5, first_retry=30, queue=queue))

        async def began():
            return seen.get(key) == "began"
        await env.until(began, "the activity to begin")
        await env.client.workflow_service.reset_activity(ResetActivityRequest(
            **of(env, handle, match_all=True)))

        async def told():
            return seen.get(key) == "reset"
        await env.until(told, "the worker to hear of the reset")
        await handle.terminate()


async def case_activity_moved_to_another_queue(env):
    handle = await env.start(flows.CallOne.run, Call("solo_flaky", [1], queue=env.id("nobody")))

    async def waits():
        return await pending(env, handle)
    await env.until(waits, "the activity to be pending")
    async with env.worker(activities=ACTIVITIES) as queue:
        await env.client.workflow_service.update_activity_options(UpdateActivityOptionsRequest(**of(
            env, handle, type="solo_flaky", activity_options=ActivityOptions(task_queue=TaskQueue(name=queue)),
            update_mask=FieldMask(paths=["task_queue.name"]))))
        assert await handle.result() == 1


# ---- workflows -------------------------------------------------------------------------------------

async def case_workflow_paused(env):
    service = env.client.workflow_service
    info = await service.describe_namespace(DescribeNamespaceRequest(namespace=env.namespace))
    assert info.namespace_info.capabilities.workflow_pause
    assert info.namespace_info.capabilities.standalone_activities
    handle = await env.start(flows.Waiting.run)
    await handle.signal(flows.Waiting.add, "before")
    await env.until_kind(handle, "WORKFLOW_TASK_COMPLETED")
    who = dict(namespace=env.namespace, workflow_id=handle.id, reason="maintenance")
    await service.pause_workflow_execution(PauseWorkflowExecutionRequest(**who))

    async def quiet():  # the SDK's own description does not know the status
        found = await service.describe_workflow_execution(DescribeWorkflowExecutionRequest(
            namespace=env.namespace, execution=execution(handle)))
        return not found.HasField("pending_workflow_task") and found
    found = await env.until(quiet, "no workflow task to be on its way")
    assert found.workflow_extended_info.pause_info.reason == "maintenance", found
    assert found.workflow_execution_info.status == 8
    await handle.signal(flows.Waiting.add, "meanwhile")
    answer = await service.query_workflow(QueryWorkflowRequest(
        namespace=env.namespace, execution=execution(handle), query=WorkflowQuery(query_type="all")))
    assert answer.query_rejected.status == 8, answer
    error = await env.raises(RPCError, handle.execute_update("nothing"))
    assert error.status == RPCStatusCode.FAILED_PRECONDITION, error
    before = await env.kinds(handle)
    assert before.count("WORKFLOW_EXECUTION_SIGNALED") == 2 and before[-1] != "WORKFLOW_TASK_SCHEDULED", before
    await service.unpause_workflow_execution(UnpauseWorkflowExecutionRequest(**who))
    await handle.signal(flows.Waiting.end)
    assert await handle.result() == ["before", "meanwhile"]
    kinds = await env.kinds(handle)
    assert kinds.count("WORKFLOW_EXECUTION_PAUSED") == kinds.count("WORKFLOW_EXECUTION_UNPAUSED") == 1, kinds


async def case_paused_workflow_listed_and_terminated(env):
    handle = await env.start(flows.Waiting.run)
    await env.client.workflow_service.pause_workflow_execution(PauseWorkflowExecutionRequest(
        namespace=env.namespace, workflow_id=handle.id, reason="why"))
    query = f"WorkflowId = '{handle.id}' AND TemporalPauseInfo = 'Reason:why'"

    async def listed():
        return (await env.client.count_workflows(query)).count == 1
    await env.until(listed, "the paused run to be listed")
    await handle.terminate()
    assert (await handle.describe()).status == WorkflowExecutionStatus.TERMINATED
