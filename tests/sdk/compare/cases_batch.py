# SPDX-License-Identifier: MIT
"""Batch operations: what is refused and with which words, and what is said of a job that has ended."""

import asyncio

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.batch.v1 import (
    BatchOperationCancellation, BatchOperationReset, BatchOperationResetActivities, BatchOperationSignal,
    BatchOperationTermination, BatchOperationUnpauseActivities, BatchOperationUpdateActivityOptions,
    BatchOperationUpdateWorkflowExecutionOptions)
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import ResetOptions, WorkflowExecution
from temporalio.api.workflow.v1 import WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import DescribeBatchOperationRequest, StartBatchOperationRequest

from driver import IDENTITY

END = BatchOperationTermination(identity=IDENTITY)


def fields_of(c, job="job", **fields):
    base = dict(namespace=c.ns, job_id=c.wid(job), reason="because")
    base.update(fields)
    return base


async def case_batch_refused(c):
    query = {"visibility_query": "WorkflowType = 'none'"}
    one = [WorkflowExecution(workflow_id=c.wid("nobody"))]
    for fields in (
            {**query}, {"termination_operation": END}, {**query, "termination_operation": END, "reason": ""},
            {**query, "termination_operation": END, "job_id": ""},
            {**query, "executions": one, "termination_operation": END},
            {**query, "signal_operation": BatchOperationSignal()},
            {**query, "reset_operation": BatchOperationReset()},
            {**query, "reset_operation": BatchOperationReset(options=ResetOptions())},
            {**query, "unpause_activities_operation": BatchOperationUnpauseActivities()},
            {**query, "unpause_activities_operation": BatchOperationUnpauseActivities(match_all=False)},
            {**query, "reset_activities_operation": BatchOperationResetActivities()},
            {**query, "reset_activities_operation": BatchOperationResetActivities(type="")},
            {**query, "update_activity_options_operation": BatchOperationUpdateActivityOptions()},
            {**query, "update_activity_options_operation": BatchOperationUpdateActivityOptions(
                activity_options=ActivityOptions(), restore_original=True)},
            {**query, "update_workflow_options_operation": BatchOperationUpdateWorkflowExecutionOptions()},
            {**query, "update_workflow_options_operation": BatchOperationUpdateWorkflowExecutionOptions(
                workflow_execution_options=WorkflowExecutionOptions())}):
        await c.fails("start_batch_operation", **fields_of(c, **fields))
    await c.fails("describe_batch_operation", namespace=c.ns, job_id="")
    await c.fails("describe_batch_operation", namespace=c.ns, job_id=c.wid("no job"))
    await c.fails("stop_batch_operation", namespace=c.ns, job_id="", reason="r")
    await c.fails("stop_batch_operation", namespace=c.ns, job_id=c.wid("no job"))
    await c.fails("stop_batch_operation", namespace=c.ns, job_id=c.wid("no job"), reason="r")


async def ended(c, job):
    for _ in range(600):
        told = await c.look("describe_batch_operation",
                            DescribeBatchOperationRequest(namespace=c.ns, job_id=c.wid(job)))
        if told and told.state != 1:
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{job} goes on for ever")


async def run_job(c, job, **fields):
    """A namespace runs one job at a time; another case's, or another test's, may be before this one."""
    for _ in range(300):
        try:
            await c.server.call("start_batch_operation", start(c, job, **fields))
            break
        except Exception as error:  # noqa: BLE001
            if "Max concurrent" not in str(error):
                raise
            await asyncio.sleep(0.1)
    await ended(c, job)
    await c.call("describe_batch_operation", namespace=c.ns, job_id=c.wid(job))


def start(c, job, **fields):
    return StartBatchOperationRequest(**fields_of(c, job, **fields))


async def case_batch_jobs(c):
    runs = [await c.start(f"w{i}") for i in range(3)]
    named = {"executions": [WorkflowExecution(workflow_id=r.workflow_id) for r in runs]}
    await run_job(c, "signal", **named, signal_operation=BatchOperationSignal(signal="s", identity=IDENTITY))
    await run_job(c, "options", **named, update_workflow_options_operation=BatchOperationUpdateWorkflowExecutionOptions(
        identity=IDENTITY, workflow_execution_options=WorkflowExecutionOptions(priority={"priority_key": 2}),
        update_mask=FieldMask(paths=["priority"])))
    await run_job(c, "reset", **named, reset_operation=BatchOperationReset(
        identity=IDENTITY, options=ResetOptions(workflow_task_id=3)))
    await run_job(c, "cancel", **named, cancellation_operation=BatchOperationCancellation(identity=IDENTITY))
    await run_job(c, "end", executions=named["executions"] + [WorkflowExecution(workflow_id=c.wid("nobody"))],
                  termination_operation=END)
    await c.fails("start_batch_operation", **fields_of(c, "end", **named, termination_operation=END))
    await c.fails("stop_batch_operation", namespace=c.ns, job_id=c.wid("end"), reason="late")
    for run in runs:
        await c.until_event(WorkflowExecution(workflow_id=run.workflow_id), "EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED")
        kinds = await c.call("get_workflow_execution_history", quiet=True, namespace=c.ns, execution=run)
        c.record("events of a run", {"events": [e.event_type for e in kinds.history.events]})
