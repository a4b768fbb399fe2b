# SPDX-License-Identifier: MIT
"""Reset: where it may go, what the new run begins with, what is told to it again, what becomes of
activities, timers, children and updates, and what the runs say of each other."""

import asyncio

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.protocol.v1 import Message
from temporalio.api.workflow.v1 import PostResetOperation
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest

import commands as do
from cases_child import end_child, kid, parent_with_child
from cases_update import ACCEPTED, COMPLETED, accept, complete, respond, update
from driver import IDENTITY, sec

ADMITTED = 47
NEVER = "00000000-0000-4000-8000-000000000000"


def fields_of(c, run, at, **fields):
    base = dict(namespace=c.ns, workflow_execution=run, reason="try again", identity=IDENTITY,
                workflow_task_finish_event_id=at, request_id=c.request_id())
    base.update(fields)
    return base


async def reset(c, run, at, **fields):
    answer = await c.call("reset_workflow_execution", **fields_of(c, run, at, **fields))
    return WorkflowExecution(workflow_id=run.workflow_id, run_id=answer.run_id)


async def look_at(c, old, new):
    await c.describe(old)
    await c.describe(new)
    await c.history(old, "history of the base run")
    await c.history(new, "history of the new run")


async def idle(c, *commands, **fields):
    """A run that has completed its first workflow task (events 2 to 4)."""
    run = await c.start(**fields)
    await c.step(*commands)
    return run


def taken_over(task):
    """The updates that a reset has taken over: a worker finds them in the history, no message brings
    them."""
    return [Message(id=f"{u.request.meta.update_id}/request", event_id=event.event_id,
                    protocol_instance_id=u.request.meta.update_id)
            for event in task.history.events if event.event_type == ADMITTED
            for u in [event.workflow_execution_update_admitted_event_attributes]]


async def case_reset_running(c):
    old = await idle(c, do.timer(seconds=60))
    await c.signal(old)
    new = await reset(c, old, 4)
    await look_at(c, old, new)
    await c.step(do.complete())
    await c.history(new)
    await c.describe(new)
    await c.call("get_workflow_execution_history_reverse", namespace=c.ns, execution=new)


async def case_reset_closed(c):
    old = await idle(c, do.complete())
    new = await reset(c, old, 4)
    await look_at(c, old, new)
    await c.step(do.complete("second"))
    await c.history(new)


async def case_reset_every_legal_event(c):
    old = await idle(c)
    await c.signal(old)
    await c.step(do.complete())
    for at in (3, 4, 7, 8):
        new = await reset(c, old, at)
        await c.history(new)
        await c.terminate(new)
    for at in (-1, 0, 1, 5, 10, 11, 99):
        await c.fails("reset_workflow_execution", **fields_of(c, old, at))


async def case_reset_waiting_task(c):
    old = await c.start()
    await c.fails("reset_workflow_execution", **fields_of(c, old, 3))
    await c.signal(old)
    new = await reset(c, old, 3)
    await look_at(c, old, new)


async def case_reset_started_task(c):
    old = await c.start()
    task = await c.poll()
    await c.signal(old)
    new = await reset(c, old, 3)
    await c.done_fails(task, do.complete())
    await look_at(c, old, new)
    await c.step(do.complete())
    await c.history(new)


async def case_reset_failed_task(c):
    old = await c.start()
    task = await c.poll()
    await c.call("respond_workflow_task_failed", namespace=c.ns, task_token=task.task_token,
                 identity=IDENTITY, cause=23)
    await c.step(do.complete())
    await c.history(old)
    for at in (4, 5):
        new = await reset(c, old, at)
        await c.history(new)
        await c.terminate(new)


async def case_reset_errors(c):
    old = await idle(c)
    await c.fails("reset_workflow_execution", **fields_of(c, old, 4, request_id=""))
    await c.fails("reset_workflow_execution", **fields_of(c, old, 4, request_id="x" * 1001))
    await c.fails("reset_workflow_execution", **fields_of(c, old, 4, workflow_execution=None))
    gone = WorkflowExecution(workflow_id=c.wid("nobody"))
    await c.fails("reset_workflow_execution", **fields_of(c, gone, 4))
    other = WorkflowExecution(workflow_id=old.workflow_id, run_id=NEVER)
    await c.fails("reset_workflow_execution", **fields_of(c, other, 4))
    bad = WorkflowExecution(workflow_id=old.workflow_id, run_id="no-uuid")
    await c.fails("reset_workflow_execution", **fields_of(c, bad, 4))
    await c.fails("reset_workflow_execution", **fields_of(
        c, old, 4, post_reset_operations=[PostResetOperation()]))
    await c.history(old)


async def case_reset_current_by_id(c):
    old = await idle(c)
    new = await reset(c, WorkflowExecution(workflow_id=old.workflow_id), 4)
    newer = await reset(c, WorkflowExecution(workflow_id=old.workflow_id), 4)
    await look_at(c, old, new)
    await c.describe(newer)
    await c.history(newer)


async def case_reset_older_run(c):
    old = await idle(c)
    first = await reset(c, old, 4)
    await c.signal(first, "to the first")
    second = await reset(c, old, 4)
    await look_at(c, old, first)
    await look_at(c, first, second)


async def case_reset_of_a_reset(c):
    old = await idle(c)
    await c.signal(old, "one")
    first = await reset(c, old, 4)
    await c.step()
    await c.signal(first, "two")
    second = await reset(c, first, 8)
    await look_at(c, first, second)
    await c.step(do.complete())
    await c.history(second)


async def case_reset_activities(c):
    old = await idle(c, do.activity(c.tq, "waits"), do.activity(c.tq, "ends"))
    tasks = await c.poll_activities(2)
    await c.activity_done(tasks[0])
    await c.step(do.activity(c.tq, "later"))
    await c.history(old)
    first = await reset(c, old, 10)
    await c.describe(first)
    await c.history(first)
    await c.terminate(first)
    second = await reset(c, old, 4)
    await c.step()
    await c.history(second)


async def case_reset_waiting_activity(c):
    old = await idle(c, do.activity(c.tq, "a1", schedule_to_close_timeout=sec(100)))
    await c.signal(old)
    await c.step()
    new = await reset(c, old, 8)
    await c.describe(new)
    task = await c.poll_activity()
    await c.activity_done(task)
    await c.step(do.complete())
    await c.history(new)


async def case_reset_timers(c):
    old = await idle(c, do.timer("short", 1.0), do.timer("long", 100))
    await c.signal(old)
    await c.step()
    await c.until_event(old, "EVENT_TYPE_TIMER_FIRED")
    new = await reset(c, old, 9)
    await c.until_event(new, "EVENT_TYPE_TIMER_FIRED")
    await c.step(do.cancel_timer("long"), do.complete())
    await c.history(new)


async def case_reset_reapply_types(c):
    old = await idle(c)
    await c.signal(old, "s1")
    await c.step()
    begun = update(c, old, "u1")
    task = await c.poll()
    await respond(c, task, [accept(task.messages[0]), complete(task.messages[0])])
    await c.joined(begun)
    await c.history(old)
    for fields in ({}, {"reset_reapply_type": 1}, {"reset_reapply_type": 2},
                   {"reset_reapply_type": 3}, {"reset_reapply_exclude_types": [1]},
                   {"reset_reapply_exclude_types": [2]}, {"reset_reapply_exclude_types": [1, 2]},
                   {"reset_reapply_exclude_types": [1, 2, 3, 4]}):
        new = await reset(c, old, 4, **fields)
        await c.history(new)
        await c.terminate(new)


async def case_reset_updates(c):
    old = await idle(c)
    begun = update(c, old, "done")
    task = await c.poll()
    await respond(c, task, [accept(task.messages[0]), complete(task.messages[0])])
    await c.joined(begun)
    begun = update(c, old, "accepted", ACCEPTED)
    task = await c.poll()
    await respond(c, task, [accept(task.messages[0])])
    await c.joined(begun)
    new = await reset(c, old, 4)
    await c.history(new)
    task = await c.poll()
    await respond(c, task, [m for one in taken_over(task) for m in (accept(one), complete(one))])
    for name in ("done", "accepted"):
        await c.joined(update(c, new, name, COMPLETED))
    await c.history(new)
    newer = await reset(c, new, task.started_event_id + 1)
    await c.history(newer)


async def case_reset_update_in_flight(c):
    old = await idle(c)
    begun = update(c, old, "u")
    task = await c.poll()
    new = await reset(c, old, 4)
    await c.joined(begun)
    await c.done_fails(task)
    await look_at(c, old, new)


async def case_reset_through_a_chain(c):
    old = await idle(c)
    await c.signal(old, "in the first")
    await c.step(do.continue_as_new(c.tq))
    # Its first task may be put off, since the first run was short.
    await c.until_event(WorkflowExecution(workflow_id=old.workflow_id), "EVENT_TYPE_WORKFLOW_TASK_SCHEDULED")
    await c.signal(WorkflowExecution(workflow_id=old.workflow_id), "in the second")
    await c.step()
    await c.signal(WorkflowExecution(workflow_id=old.workflow_id), "in the second, again")
    new = await reset(c, old, 4)
    await look_at(c, old, new)


async def case_reset_started_then_buffered(c):
    old = await idle(c)
    await c.signal(old, "one")
    await c.poll()
    await c.signal(old, "buffered")
    await c.cancel(old)
    new = await reset(c, old, 4)
    await look_at(c, old, new)


async def case_reset_child_kept(c):
    old = await parent_with_child(c)
    await c.signal(old)
    await c.step(do.timer(seconds=60))
    before = await c.history(old, "history before")
    new = await reset(c, old, before[-2].event_id)
    await c.describe(new)
    await c.describe(kid(c))
    await end_child(c, do.complete("of child"))
    await c.until_event(new, "EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await c.step(do.complete())
    await look_at(c, old, new)
    await c.history(kid(c), "history of the child")


async def case_reset_child_ended(c):
    old = await parent_with_child(c)
    at = (await c.history(old, "history before"))[-1].event_id
    await end_child(c, do.complete("of child"))
    await c.step(do.timer(seconds=60))
    new = await reset(c, old, at)
    await look_at(c, old, new)


async def case_reset_child_forgotten(c):
    old = await parent_with_child(c)
    new = await reset(c, old, 4)
    await c.describe(kid(c))
    await look_at(c, old, new)


async def case_reset_child_itself(c):
    old = await parent_with_child(c)
    await end_child(c, do.timer(seconds=60))
    new = await reset(c, kid(c), 4)
    await c.describe(new)
    await c.history(new)
    await end_child(c, do.complete("of the reset child"))
    await c.until_event(old, "EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await c.history(old)


async def case_reset_delayed(c):
    old = await c.start(workflow_start_delay=sec(1), workflow_run_timeout=sec(200),
                        workflow_execution_timeout=sec(300))
    await c.step(do.timer(seconds=30))
    new = await reset(c, old, 4)
    await c.describe(new)
    await c.history(new)


async def case_reset_sticky(c):
    queue, attributes = c.sticky()
    old = await c.start()
    task = await c.poll()
    await c.done(task, sticky_attributes=attributes)
    waiting = c.poll_aside(queue)
    await asyncio.sleep(0.3)
    await c.signal(old)
    task = await c.polled(waiting)
    await c.done(task, sticky_attributes=attributes)
    new = await reset(c, old, 7)
    await c.history(new)
    await c.step(do.complete())
    await c.history(new)


async def case_reset_deleted_base(c):
    old = await idle(c)
    await c.signal(old)
    new = await reset(c, old, 4)
    await c.call("delete_workflow_execution", namespace=c.ns, workflow_execution=old)
    for _ in range(200):
        if await c.look("describe_workflow_execution", DescribeWorkflowExecutionRequest(
                namespace=c.ns, execution=old)) is None:
            break
        await asyncio.sleep(0.05)
    await c.history(new)
    await c.step(do.complete())
    await c.history(new)
    again = await reset(c, new, 4)
    await c.history(again)
