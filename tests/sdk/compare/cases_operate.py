# SPDX-License-Identifier: MIT
"""What operators do to runs and activities: pause and go on, begin again, other options.

Left out on purpose: a paused run whose time is over ends here, and stays open on the reference; a
worker is told the time-outs in force, and by the reference those of the scheduled event."""

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import Priority, RetryPolicy, WorkflowExecution
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.update.v1 import Input, Meta, Request
from temporalio.api.workflow.v1 import WorkflowExecutionOptions

import commands as do
from driver import IDENTITY, POLL_LIMIT, app_failure, data, retry, sec


def of(run):
    return dict(workflow_id=run.workflow_id, run_id=run.run_id, identity=IDENTITY)


async def pause(c, run, **fields):
    await c.call("pause_workflow_execution", namespace=c.ns, **{**of(run), "reason": "maintenance",
                                                                "request_id": "pause", **fields})


async def unpause(c, run, **fields):
    await c.call("unpause_workflow_execution", namespace=c.ns, **{**of(run), "reason": "over",
                                                                  "request_id": "unpause", **fields})


# ---- runs ----------------------------------------------------------------------------------------

async def case_pause_with_a_task_that_waits(c):
    run = await c.start()
    await pause(c, run)
    await c.describe(run)
    await pause(c, run)
    await c.fails("pause_workflow_execution", namespace=c.ns, **of(run), request_id="another")
    await c.signal(run)
    await c.fails("update_workflow_execution", namespace=c.ns, workflow_execution=run,
                  request=Request(meta=Meta(update_id="u", identity=IDENTITY),
                                  input=Input(name="u", args=data("x"))))
    await c.call("query_workflow", namespace=c.ns, execution=run,
                 query=WorkflowQuery(query_type="state"))
    await unpause(c, run)
    await c.fails("unpause_workflow_execution", namespace=c.ns, **of(run))
    await c.step(do.complete())
    await c.history(run)


async def case_pause_under_way(c):
    run = await c.start()
    task = await c.poll()
    await pause(c, run)
    await c.describe(run)
    await c.fails("pause_workflow_execution", namespace=c.ns, **of(run), request_id="another")
    await c.done_fails(task, force_create_new_workflow_task=True)
    await c.done(task, do.timer("t", 0.1))
    await c.until_event(run, "EVENT_TYPE_TIMER_FIRED")
    await c.describe(run)
    await unpause(c, run)
    await c.step(do.complete())
    await c.history(run)


async def case_pause_and_unpause_under_way(c):
    run = await c.start()
    task = await c.poll()
    await pause(c, run)
    await unpause(c, run)
    await c.done(task)
    await c.step(do.complete())
    await c.history(run)


async def case_pause_and_terminate(c):
    run = await c.start()
    await pause(c, run, reason="")
    await c.terminate(run)
    await c.fails("unpause_workflow_execution", namespace=c.ns, **of(run))
    await c.fails("pause_workflow_execution", namespace=c.ns, **of(run))
    await c.history(run)


async def case_pause_holds_activities(c):
    run = await c.start()
    await c.step(do.activity(c.tq))
    await pause(c, run)
    await c.describe(run)
    await unpause(c, run)
    await c.step()
    await c.activity_done(await c.poll_activity())
    await c.step(do.complete())
    await c.history(run)


async def case_pause_of_nobody(c):
    nobody = WorkflowExecution(workflow_id=c.wid("nobody"))
    await c.fails("pause_workflow_execution", namespace=c.ns, workflow_id=nobody.workflow_id)
    await c.fails("unpause_workflow_execution", namespace=c.ns, workflow_id=nobody.workflow_id)
    run = await c.start()
    await c.fails("pause_workflow_execution", namespace=c.ns, **{**of(run), "reason": "x" * 1001})
    await c.fails("unpause_workflow_execution", namespace=c.ns, **{**of(run), "identity": "x" * 1001})
    await c.terminate(run)


# ---- activities ----------------------------------------------------------------------------------

async def with_activity(c, **kw):
    run = await c.start()
    kw.setdefault("retry_policy", retry(30, 2, 5))
    await c.step(do.activity(c.tq, **kw))
    return run


def activity_of(c, run, **fields):
    return dict(namespace=c.ns, execution=run, identity=IDENTITY, **fields)


async def case_activity_pause_while_waiting(c):
    run = await with_activity(c)
    await c.call("pause_activity", **activity_of(c, run, id="a1", reason="why", request_id="r1"))
    await c.describe(run)
    await c.call("pause_activity", **activity_of(c, run, id="a1", reason="why", request_id="r1"))
    await c.fails("pause_activity", **activity_of(c, run, id="a1", reason="why", request_id="r2"))
    await c.call("unpause_activity", **activity_of(c, run, unpause_all=True))
    await c.describe(run)
    await c.activity_done(await c.poll_activity())
    await c.step(do.complete())
    await c.history(run)


async def case_activity_pause_while_running(c):
    run = await with_activity(c)
    task = await c.poll_activity()
    await c.call("pause_activity", **activity_of(c, run, type="act", reason="why"))
    await c.heartbeat(task)
    await c.describe(run)
    await c.activity_failed(task)
    await c.describe(run)
    await c.call("unpause_activity", **activity_of(c, run, id="a1", reset_attempts=True,
                                                   reset_heartbeat=True))
    await c.activity_done(await c.poll_activity())
    await c.step(do.complete())
    await c.history(run)


async def case_activity_completes_while_paused(c):
    run = await with_activity(c)
    task = await c.poll_activity()
    await c.call("pause_activity", **activity_of(c, run, id="a1"))
    await c.activity_done(task)
    await c.step(do.complete())
    await c.history(run)


async def case_activity_reset_while_waiting(c):
    run = await with_activity(c)
    task = await c.poll_activity()
    await c.heartbeat(task)
    await c.activity_failed(task)
    await c.call("reset_activity", **activity_of(c, run, id="a1", reset_heartbeat=True))
    await c.describe(run)
    await c.activity_done(await c.poll_activity())
    await c.step(do.complete())
    await c.history(run)


async def case_activity_reset_while_running(c):
    run = await with_activity(c, retry_policy=retry(0.1, 1, 5))
    task = await c.poll_activity()
    await c.call("reset_activity", **activity_of(c, run, match_all=True))
    await c.heartbeat(task)
    await c.describe(run)
    await c.activity_failed(task)
    task = await c.poll_activity()
    await c.heartbeat(task)
    await c.activity_done(task)
    await c.step(do.complete())
    await c.history(run)


async def case_activity_reset_keeps_pause(c):
    run = await with_activity(c)
    await c.activity_failed(await c.poll_activity())
    await c.call("pause_activity", **activity_of(c, run, id="a1"))
    await c.call("reset_activity", **activity_of(c, run, id="a1", keep_paused=True))
    await c.describe(run)
    await c.call("reset_activity", **activity_of(c, run, id="a1"))
    await c.activity_done(await c.poll_activity())
    await c.step(do.complete())
    await c.history(run)


async def case_activity_options(c):
    run = await with_activity(c)
    options = ActivityOptions(task_queue=TaskQueue(name=c.tq + "-other"),
                              start_to_close_timeout=sec(7), heartbeat_timeout=sec(20),
                              retry_policy=RetryPolicy(maximum_attempts=9),
                              priority=Priority(priority_key=2))
    await c.call("update_activity_options", **activity_of(
        c, run, id="a1", activity_options=options, update_mask=FieldMask(paths=[
            "task_queue.name", "start_to_close_timeout", "heartbeatTimeout",
            "retry_policy.maximum_attempts", "priority"])))
    await c.describe(run)
    task = await c.call("poll_activity_task_queue", quiet=True, limit=POLL_LIMIT, namespace=c.ns,
                        task_queue=TaskQueue(name=c.tq + "-other"), identity=IDENTITY)
    await c.activity_done(task)
    await c.step(do.complete())
    await c.history(run)


async def case_activity_options_restored(c):
    run = await with_activity(c)
    options = ActivityOptions(task_queue=TaskQueue(name=c.tq + "-other"))
    await c.call("update_activity_options", **activity_of(
        c, run, type="act", activity_options=options,
        update_mask=FieldMask(paths=["task_queue.name"])))
    await c.call("update_activity_options", **activity_of(c, run, match_all=True,
                                                          restore_original=True))
    await c.describe(run)
    await c.activity_done(await c.poll_activity())
    await c.step(do.complete())
    await c.history(run)


async def case_activity_operations_refused(c):
    run = await with_activity(c)
    options = ActivityOptions(start_to_close_timeout=sec(7))
    for method in ("pause_activity", "unpause_activity", "reset_activity"):
        await c.fails(method, **activity_of(c, run))
        await c.fails(method, **activity_of(c, run, id="nobody"))
        await c.fails(method, **activity_of(c, run, type="nobody"))
        await c.fails(method, namespace=c.ns, id="a1")
        await c.fails(method, namespace=c.ns, id="a1",
                      execution=WorkflowExecution(workflow_id=c.wid("nobody")))
    update = "update_activity_options"
    mask = FieldMask(paths=["start_to_close_timeout"])
    await c.fails(update, **activity_of(c, run, activity_options=options, update_mask=mask))
    await c.fails(update, **activity_of(c, run, id="a1", update_mask=mask))
    await c.fails(update, **activity_of(c, run, id="a1", activity_options=options))
    await c.fails(update, **activity_of(c, run, id="b", activity_options=options, update_mask=mask))
    await c.fails(update, **activity_of(c, run, id="a1", activity_options=options, update_mask=mask,
                                        restore_original=True))
    await c.fails(update, **activity_of(c, run, id="a1", activity_options=options,
                                        update_mask=FieldMask(paths=["retry_policy.maximum_attempts"])))
    await c.fails(update, **activity_of(
        c, run, id="a1", update_mask=FieldMask(paths=["retry_policy.maximum_attempts"]),
        activity_options=ActivityOptions(retry_policy=RetryPolicy(maximum_attempts=-1))))
    await c.fails(update, **activity_of(
        c, run, id="a1", update_mask=FieldMask(paths=["priority"]),
        activity_options=ActivityOptions(priority=Priority(priority_key=-1))))
    await c.terminate(run)
    await c.fails("pause_activity", **activity_of(c, run, id="a1"))
    await c.fails("unpause_activity", **activity_of(c, run, id="a1"))
    await c.fails("reset_activity", **activity_of(c, run, type="act"))


# ---- options of runs -----------------------------------------------------------------------------

async def update_options(c, run, *paths, **priority):
    await c.call("update_workflow_execution_options", namespace=c.ns, workflow_execution=run,
                 workflow_execution_options=WorkflowExecutionOptions(priority=Priority(**priority)),
                 update_mask=FieldMask(paths=paths), identity=IDENTITY)


async def case_run_priority(c):
    run = await c.start(priority=Priority(priority_key=4))
    await c.step()
    await update_options(c, run, "priority", priority_key=2, fairness_key="f")
    await update_options(c, run, "priority.fairness_weight", fairness_weight=3)
    await update_options(c, run, "priority.fairness_weight", fairness_weight=3)
    await c.describe(run)
    await c.signal(run)
    await c.step(do.activity(c.tq))
    await c.activity_done(await c.poll_activity())
    await c.step(do.complete())
    await c.history(run)


async def case_run_options_refused(c):
    run = await c.start()
    update = "update_workflow_execution_options"
    options = WorkflowExecutionOptions(priority=Priority(priority_key=2))
    mask = FieldMask(paths=["priority"])
    await c.fails(update, namespace=c.ns, workflow_execution_options=options, update_mask=mask)
    await c.fails(update, namespace=c.ns, workflow_execution=run, workflow_execution_options=options)
    await c.fails(update, namespace=c.ns, workflow_execution=run, update_mask=mask)
    await c.fails(update, namespace=c.ns, workflow_execution=run, update_mask=mask,
                  workflow_execution_options=WorkflowExecutionOptions(priority=Priority(priority_key=-2)))
    await c.terminate(run)
    await c.fails(update, namespace=c.ns, workflow_execution=run, workflow_execution_options=options,
                  update_mask=mask)
