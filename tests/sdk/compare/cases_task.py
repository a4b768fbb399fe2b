# SPDX-License-Identifier: MIT
"""Workflow tasks: time-outs, failures, transient attempts, buffered events and their order,
UnhandledCommand, bad command attributes, stickiness, heartbeats, inline and eager delivery."""

import asyncio

from temporalio.api.common.v1 import Payload, WorkflowExecution, WorkflowType
from temporalio.api.query.v1 import WorkflowQuery

import commands as do
from driver import IDENTITY, app_failure, data, retry, sec, text


async def task_failed(c, task, cause=24, **fields):
    return await c.call("respond_workflow_task_failed", namespace=c.ns, identity=IDENTITY,
                        task_token=task.task_token, cause=cause,
                        failure=fields.pop("failure", app_failure("task broke")), **fields)


async def case_task_timeout(c):
    run = await c.start(workflow_task_timeout=sec(1))
    late = await c.poll()
    again = await c.poll()
    await c.done_fails(late, do.complete("late"))
    await c.done(again, do.complete())
    await c.history(run)


async def case_task_timeout_then_signal(c):
    run = await c.start(workflow_task_timeout=sec(1))
    await c.poll()
    await c.until_event(run, "EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT")
    await c.signal(run)
    task = await c.poll()
    await c.done(task, do.complete())
    await c.history(run)


async def case_task_failures(c):
    run = await c.start()
    first = await c.poll()
    await task_failed(c, first)
    second = await c.poll()
    await c.history(run, "history while transient")
    await task_failed(c, second)
    third = await c.poll()
    await c.describe(run)
    await c.done(third, do.complete())
    await c.history(run)


async def case_task_failure_with_signal_between(c):
    run = await c.start()
    await task_failed(c, await c.poll())
    transient = await c.poll()
    await c.signal(run)
    await task_failed(c, transient)
    task = await c.poll()
    await c.done(task, do.complete())
    await c.history(run)


async def case_transient_task_sees_signal(c):
    run = await c.start()
    await task_failed(c, await c.poll())
    await c.signal(run)
    task = await c.poll()
    await c.done(task, do.complete())
    await c.history(run)


async def case_terminate_beside_a_transient_task(c):
    run = await c.start()
    await task_failed(c, await c.poll())
    await c.poll()
    await c.terminate(run)
    await c.history(run)


async def case_signal_to_transient_task_completed(c):
    run = await c.start()
    await task_failed(c, await c.poll())
    transient = await c.poll()
    await c.signal(run)
    await c.done(transient, do.marker())
    await c.step(do.complete())
    await c.history(run)


async def case_signal_while_closing(c):
    """After UNHANDLED_COMMAND the next attempt is shielded from signals until it has answered."""
    run = await c.start()
    await task_failed(c, await c.poll(), cause=1)
    transient = await c.poll()
    await c.fails("signal_workflow_execution", namespace=c.ns, workflow_execution=run,
                  signal_name="s", identity=IDENTITY)
    await c.fails("request_cancel_workflow_execution", namespace=c.ns, workflow_execution=run,
                  identity=IDENTITY)
    await c.done_fails(transient, do.complete())
    await c.history(run, "history after the second refusal")
    await c.step(do.complete())
    await c.history(run)


async def case_unhandled_command(c):
    run = await c.start()
    task = await c.poll()
    await c.signal(run)
    await c.done_fails(task, do.marker("dropped"), do.complete())
    await c.history(run, "history after the refusal")
    await c.step(do.complete())
    await c.history(run)


async def case_unhandled_continue_as_new(c):
    run = await c.start()
    task = await c.poll()
    await c.signal(run)
    await c.done_fails(task, do.continue_as_new(c.tq))
    await c.step(do.fail())
    await c.history(run)


async def case_buffered_events_in_order(c):
    run = await c.start()
    await c.step(do.activity(c.tq, "one"), do.activity(c.tq, "two"), do.timer("t", 2.5))
    one, two = await c.poll_activities(2)
    await c.signal(run, "wake")
    task = await c.poll()
    await c.activity_done(two, "of two")
    await c.signal(run, "between")
    await asyncio.sleep(5)
    await c.activity_failed(one, app_failure("x", non_retryable=True))
    await c.cancel(run)
    await c.history(run, "history while buffered")
    await c.done(task, do.marker("mine"))
    await c.history(run, "history when flushed")
    await c.step(do.cancel_workflow())
    await c.history(run)


async def case_timer_cancel_meets_fired(c):
    run = await c.start()
    await c.step(do.timer("t", 0.3))
    await c.signal(run)
    task = await c.poll()
    await asyncio.sleep(2.5)
    await c.done(task, do.cancel_timer("t"))
    await c.history(run, "history after the cancel")
    await c.signal(run)
    await c.step(do.complete())
    await c.history(run)


async def case_terminate_with_buffered(c):
    run = await c.start()
    task = await c.poll()
    await c.signal(run, "one")
    await c.cancel(run)
    await c.terminate(run)
    await c.done_fails(task, do.complete())
    await c.history(run)


async def case_task_failed_with_buffered(c):
    run = await c.start()
    task = await c.poll()
    await c.signal(run)
    await task_failed(c, task)
    await c.history(run, "history after the failure")
    await c.step(do.complete())
    await c.history(run)


async def case_task_timed_out_with_buffered(c):
    run = await c.start(workflow_task_timeout=sec(1))
    await c.poll()
    await c.signal(run)
    task = await c.poll()
    await c.done(task, do.complete())
    await c.history(run)


async def case_sticky(c):
    queue, attributes = c.sticky()
    run = await c.start()
    await c.done(await c.poll(), sticky_attributes=attributes)
    waiting = c.poll_aside(queue)
    await asyncio.sleep(0.2)
    await c.signal(run)
    task = await c.polled(waiting)
    await c.done(task, do.marker(), sticky_attributes=attributes)
    await c.call("reset_sticky_task_queue", namespace=c.ns, execution=run)
    await c.signal(run)
    await c.step(do.complete())
    await c.history(run)


async def case_sticky_timeout(c):
    queue, attributes = c.sticky(limit=1.0)
    run = await c.start()
    await c.done(await c.poll(), sticky_attributes=attributes)
    waiting = c.poll_aside(queue)
    await asyncio.sleep(0.2)
    await c.signal(run)
    await c.done(await c.polled(waiting), sticky_attributes=attributes)
    await c.signal(run)
    task = await c.poll()
    await c.done(task, do.complete())
    await c.history(run)


async def case_sticky_task_failure(c):
    queue, attributes = c.sticky()
    run = await c.start()
    await c.done(await c.poll(), sticky_attributes=attributes)
    waiting = c.poll_aside(queue)
    await asyncio.sleep(0.2)
    await c.signal(run)
    await task_failed(c, await c.polled(waiting))
    await c.step(do.complete())
    await c.history(run)


async def case_sticky_query(c):
    queue, attributes = c.sticky()
    run = await c.start()
    await c.done(await c.poll(), sticky_attributes=attributes)
    waiting = c.poll_aside(queue)
    await asyncio.sleep(0.2)
    asked = c.aside("query_workflow", namespace=c.ns, execution=run,
                    query=WorkflowQuery(query_type="q"))
    task = await c.polled(waiting)
    await c.call("respond_query_task_completed", namespace=c.ns, task_token=task.task_token,
                 completed_type=1, query_result=data("sticky answer"))
    await c.joined(asked)
    await c.terminate(run)
    await c.history(run)


async def case_task_heartbeat(c):
    run = await c.start()
    task = await c.poll()
    answer = await c.done(task, force_create_new_workflow_task=True, return_new_workflow_task=True)
    await c.done(answer.workflow_task, do.marker("local activity"), do.complete())
    await c.history(run)


async def case_return_new_task(c):
    run = await c.start()
    task = await c.poll()
    await c.signal(run)
    answer = await c.done(task, do.marker(), return_new_workflow_task=True)
    await c.done(answer.workflow_task, do.complete(), return_new_workflow_task=True)
    await c.history(run)


async def case_forced_new_task(c):
    run = await c.start()
    await c.step(do.timer(seconds=30), force_create_new_workflow_task=True)
    await c.step(do.complete())
    await c.history(run)


async def case_eager_activity(c):
    run = await c.start()
    answer = await c.done(await c.poll(), do.activity(c.tq, request_eager_execution=True))
    task = answer.activity_tasks[0] if answer.activity_tasks else await c.poll_activity()
    await c.activity_done(task)
    await c.step(do.complete())
    await c.history(run)


BIG = "x" * 1001

BAD_COMMANDS = {
    "activity without id": lambda c: [do.activity(c.tq, "")],
    "activity without type": lambda c: [do.activity(c.tq, activity_type=None)],
    "activity without time-outs": lambda c: [do.activity(
        c.tq, start_to_close_timeout=None, schedule_to_close_timeout=None)],
    "activity with a negative time-out": lambda c: [do.activity(
        c.tq, start_to_close_timeout=sec(-1))],
    "activity with a bad retry policy": lambda c: [do.activity(
        c.tq, retry_policy=retry(1, 0.5, 3))],
    "activity with a negative interval": lambda c: [do.activity(
        c.tq, retry_policy=retry(-1, 2, 3))],
    "activity id too long": lambda c: [do.activity(c.tq, BIG)],
    "activity type too long": lambda c: [do.activity(
        c.tq, activity_type=do.ActivityType(name=BIG))],
    "activity without queue": lambda c: [do.activity("")],
    "activity queue reserved": lambda c: [do.activity("/_sys/x/1")],
    "activity id twice": lambda c: [do.activity(c.tq), do.activity(c.tq)],
    "cancel of no activity": lambda c: [do.cancel_activity(77)],
    "timer without id": lambda c: [do.timer("", 1)],
    "timer of negative length": lambda c: [do.timer("t", -1)],
    "timer id twice": lambda c: [do.timer("t", 30), do.timer("t", 30)],
    "timer id too long": lambda c: [do.timer(BIG, 1)],
    "cancel of no timer": lambda c: [do.cancel_timer("none")],
    "cancel timer without id": lambda c: [do.cancel_timer("")],
    "marker without name": lambda c: [do.marker("")],
    "marker name too long": lambda c: [do.marker(BIG)],
    "fail without failure": lambda c: [do.Command(
        command_type=5, fail_workflow_execution_command_attributes={})],
    "complete without attributes": lambda c: [do.Command(command_type=4)],
    "schedule activity without attributes": lambda c: [do.Command(command_type=1)],
    "a command of no type": lambda c: [do.Command()],
    "upsert of nothing": lambda c: [do.upsert()],
    "upsert of an unknown key": lambda c: [do.upsert(CmpNoSuchKey=text("v"))],
    "upsert of the wrong type": lambda c: [do.upsert(CmpInt=text("word"))],
    "upsert of a system key": lambda c: [do.upsert(WorkflowId=text("v"))],
    "memo of nothing": lambda c: [do.modify()],
    "child without id": lambda c: [do.child("", c.tq)],
    "child without type": lambda c: [do.child("kid", c.tq, workflow_type=WorkflowType())],
    "child with a negative time-out": lambda c: [do.child(
        "kid", c.tq, workflow_run_timeout=sec(-1))],
    "child with a bad cron": lambda c: [do.child("kid", c.tq, cron_schedule="never ever")],
    "child id too long": lambda c: [do.child(BIG, c.tq)],
    "signal to no workflow": lambda c: [do.signal_external("")],
    "signal of a bad run id": lambda c: [do.signal_external("w", "not-a-run")],
    "signal without name": lambda c: [do.signal_external("w", name="")],
    "signal into another namespace": lambda c: [do.signal_external("w", namespace="nowhere")],
    "cancel of no workflow": lambda c: [do.cancel_external("")],
    "cancel of a bad run id": lambda c: [do.cancel_external("w", "not-a-run")],
    "continue as new with a negative time-out": lambda c: [do.continue_as_new(
        c.tq, workflow_run_timeout=sec(-1))],
    "continue as new, type too long": lambda c: [do.continue_as_new(
        c.tq, workflow_type=WorkflowType(name=BIG))],
    "continue as new on a reserved queue": lambda c: [do.continue_as_new("/_sys/x/1")],
    "two ends": lambda c: [do.complete(), do.fail()],
    "a command after the end": lambda c: [do.complete(), do.marker()],
    "cancel without request": lambda c: [do.cancel_workflow()],
}


async def case_bad_commands(c):
    """Each refusal on a run of its own, one after another, so that the records keep their order."""
    for i, (label, make) in enumerate(BAD_COMMANDS.items()):
        c.tq = f"{c.server.run_word}-{c.name}-{i}"
        run = await c.start(f"w{i}")
        task = await c.poll()
        await c.done_fails(task, *make(c))
        if label == "timer of no length":
            await c.until_event(run, "EVENT_TYPE_TIMER_FIRED")
        events = await c.history(run, label)
        last = events[-1].event_type
        if last not in (2, 3, 21, 28):
            await c.terminate(WorkflowExecution(workflow_id=run.workflow_id))


async def case_bad_command_on_a_retry(c):
    run = await c.start(workflow_task_timeout=sec(1))
    await c.done_fails(await c.poll(), do.timer("", 1))
    await c.done_fails(await c.poll(), do.timer("", 1))
    await c.step(do.complete())
    await c.history(run)


async def case_payload_too_large(c):
    run = await c.start()
    task = await c.poll()
    large = do.complete()
    large.complete_workflow_execution_command_attributes.result.payloads[0].CopyFrom(
        Payload(metadata={"encoding": b"binary/plain"}, data=b"x" * (2 * 1024 * 1024 + 1)))
    await c.done_fails(task, large)
    await c.history(run)
    await c.describe(run)


async def case_stale_task(c):
    run = await c.start()
    task = await c.poll()
    await c.done(task)
    await c.done_fails(task, do.complete())
    await c.fails("respond_workflow_task_failed", namespace=c.ns, identity=IDENTITY,
                  task_token=task.task_token, cause=1)
    await c.signal(run)
    await c.done_fails(task, do.complete())
    await c.step(do.complete())
    await c.done_fails(task, do.complete())
    await c.history(run)

