# SPDX-License-Identifier: MIT
"""Activities: results, retries, the four time-outs, heartbeats, cancellation, answers by id."""

from temporalio.api.common.v1 import Payload

import commands as do
from driver import IDENTITY, app_failure, data, retry, sec, text

ONCE = dict(retry_policy=retry(attempts=1))


async def case_activity(c):
    run = await c.start()
    await c.step(do.activity(c.tq, header=do.header(h="v")))
    await c.describe(run)
    task = await c.poll_activity()
    await c.describe(run)
    await c.activity_done(task)
    await c.step(do.complete())
    await c.history(run)


async def case_activity_time_outs_filled_in(c):
    run = await c.start(workflow_run_timeout=sec(40))
    await c.step(do.activity(c.tq, "only total", start_to_close_timeout=None,
                             schedule_to_close_timeout=sec(20)),
                 do.activity(c.tq, "only run", schedule_to_close_timeout=None,
                             start_to_close_timeout=sec(10)),
                 do.activity(c.tq, "too long", schedule_to_close_timeout=sec(100),
                             start_to_close_timeout=sec(100), heartbeat_timeout=sec(100),
                             schedule_to_start_timeout=sec(100)))
    await c.history(run)
    await c.terminate(run)


async def case_activity_fails(c):
    run = await c.start()
    await c.step(do.activity(c.tq, **ONCE))
    await c.activity_failed(await c.poll_activity(), app_failure("no", details=data("d")))
    await c.step(do.complete())
    await c.history(run)


async def case_activity_retries(c):
    run = await c.start()
    await c.step(do.activity(c.tq, retry_policy=retry(2, 1, 4)))
    await c.activity_failed(await c.poll_activity(), app_failure("first"))
    await c.describe(run)
    await c.activity_failed(await c.poll_activity(), app_failure("second", delay=0.1))
    await c.activity_done(await c.poll_activity())
    await c.step(do.complete())
    await c.history(run)


async def case_activity_retries_run_out(c):
    run = await c.start()
    await c.step(do.activity(c.tq, retry_policy=retry(0.1, 1, 2)))
    await c.activity_failed(await c.poll_activity(), app_failure("first"))
    await c.activity_failed(await c.poll_activity(), app_failure("second"))
    await c.step(do.complete())
    await c.history(run)


async def case_activity_not_retried(c):
    run = await c.start()
    policy = dict(retry_policy=retry(0.1, 1, 9, never=["Listed"]))
    await c.step(do.activity(c.tq, "flagged", **policy))
    await c.activity_failed(await c.poll_activity(), app_failure("x", non_retryable=True))
    await c.step(do.activity(c.tq, "listed", **policy))
    await c.activity_failed(await c.poll_activity(), app_failure("y", "Listed"))
    await c.step(do.complete())
    await c.history(run)


async def case_activity_retry_past_expiry(c):
    run = await c.start()
    await c.step(do.activity(c.tq, schedule_to_close_timeout=sec(5), start_to_close_timeout=sec(5),
                             retry_policy=retry(20, 1, 9)))
    await c.activity_failed(await c.poll_activity(), app_failure("last"))
    await c.step(do.complete())
    await c.history(run)


async def case_activity_never_started(c):
    run = await c.start()
    await c.step(do.activity(c.tq, schedule_to_start_timeout=sec(1)))
    await c.step(do.complete())
    await c.history(run)


async def case_activity_total_timeout(c):
    run = await c.start()
    await c.step(do.activity(c.tq, schedule_to_close_timeout=sec(1), start_to_close_timeout=None))
    await c.step(do.activity(c.tq, "started", schedule_to_close_timeout=sec(1),
                             start_to_close_timeout=None))
    # The first may still lie in the queue: it must not be handed out any more.
    late = await c.poll_activity()
    await c.step(do.complete())
    await c.fails("respond_activity_task_completed", namespace=c.ns, identity=IDENTITY,
                  task_token=late.task_token, result=data("late"))
    await c.history(run)


async def case_activity_run_timeout(c):
    run = await c.start()
    await c.step(do.activity(c.tq, start_to_close_timeout=sec(1), **ONCE))
    late = await c.poll_activity()
    await c.step(do.timer(seconds=30))
    await c.fails("respond_activity_task_completed", namespace=c.ns, identity=IDENTITY,
                  task_token=late.task_token, result=data("late"))
    await c.fails("record_activity_task_heartbeat", namespace=c.ns, identity=IDENTITY,
                  task_token=late.task_token)
    await c.terminate(run)
    await c.history(run)


async def case_activity_run_timeout_retried(c):
    run = await c.start()
    await c.step(do.activity(c.tq, start_to_close_timeout=sec(1), retry_policy=retry(0.1, 1, 2)))
    await c.poll_activity()
    await c.poll_activity()
    await c.step(do.complete())
    await c.history(run)


async def case_activity_heartbeat_timeout(c):
    run = await c.start()
    await c.step(do.activity(c.tq, heartbeat_timeout=sec(1), **ONCE))
    task = await c.poll_activity()
    await c.heartbeat(task, "progress")
    await c.describe(run)
    await c.step(do.complete())
    await c.history(run)


async def case_activity_heartbeat_details(c):
    run = await c.start()
    await c.step(do.activity(c.tq, heartbeat_timeout=sec(1), retry_policy=retry(0.1, 1, 3)))
    task = await c.poll_activity()
    await c.heartbeat(task, "half way")
    again = await c.poll_activity()
    await c.activity_failed(again, app_failure("oops"), last_heartbeat_details=data("further"))
    third = await c.poll_activity()
    await c.activity_done(third)
    await c.step(do.complete())
    await c.history(run)


async def case_activity_canceled_before_start(c):
    run = await c.start()
    await c.step(do.activity(c.tq))
    await c.signal(run)
    task = await c.poll()
    await c.done(task, do.cancel_activity(5))
    await c.history(run, "history after the cancel")
    await c.step(do.complete())
    await c.history(run)


async def case_activity_canceled_at_once(c):
    run = await c.start()
    task = await c.poll()
    await c.done(task, do.activity(c.tq), do.cancel_activity(5))
    await c.step(do.complete())
    await c.history(run)


async def case_activity_canceled_while_running(c):
    run = await c.start()
    await c.step(do.activity(c.tq))
    task = await c.poll_activity()
    await c.fails("respond_activity_task_canceled", namespace=c.ns, identity=IDENTITY,
                  task_token=task.task_token, details=data("early"))
    await c.signal(run)
    await c.step(do.cancel_activity(5))
    await c.describe(run)
    await c.heartbeat(task)
    await c.call("respond_activity_task_canceled", namespace=c.ns, identity=IDENTITY,
                 task_token=task.task_token, details=data("gone"))
    await c.step(do.complete())
    await c.history(run)


async def case_activity_canceled_but_done(c):
    run = await c.start()
    await c.step(do.activity(c.tq))
    task = await c.poll_activity()
    await c.signal(run)
    await c.step(do.cancel_activity(5))
    await c.activity_done(task)
    await c.step(do.complete())
    await c.history(run)


async def case_activity_canceled_then_fails(c):
    run = await c.start()
    await c.step(do.activity(c.tq, retry_policy=retry(0.1, 1, 5)))
    task = await c.poll_activity()
    await c.signal(run)
    await c.step(do.cancel_activity(5))
    await c.activity_failed(task)
    await c.step(do.complete())
    await c.history(run)


async def case_activity_canceled_in_backoff(c):
    run = await c.start()
    await c.step(do.activity(c.tq, retry_policy=retry(30, 1, 5)))
    await c.activity_failed(await c.poll_activity())
    await c.describe(run)
    await c.signal(run)
    await c.step(do.cancel_activity(5))
    await c.step(do.complete())
    await c.history(run)


async def case_activity_by_id(c):
    run = await c.start()
    names = ("done", "failed", "canceled")
    for i, name in enumerate(names):
        await c.step(do.activity(c.tq, name, heartbeat_timeout=sec(20), **ONCE))
        await c.poll_activity()
        await c.call("record_activity_task_heartbeat_by_id", namespace=c.ns, identity=IDENTITY,
                     workflow_id=run.workflow_id, activity_id=name, details=data("by id"))
        by_id = dict(namespace=c.ns, identity=IDENTITY, workflow_id=run.workflow_id,
                     run_id=run.run_id if i else "", activity_id=name)
        if name == "done":
            await c.call("respond_activity_task_completed_by_id", result=data("r"), **by_id)
        elif name == "failed":
            await c.call("respond_activity_task_failed_by_id", failure=app_failure(), **by_id)
        else:
            await c.signal(run)
            task = await c.poll()
            scheduled = [e.event_id for e in (await c.call(
                "get_workflow_execution_history", quiet=True, namespace=c.ns,
                execution=run)).history.events if e.event_type == 10][-1]
            await c.done(task, do.cancel_activity(scheduled))
            await c.call("respond_activity_task_canceled_by_id", details=data("c"), **by_id)
    await c.step(do.complete())
    await c.history(run)
    await c.fails("respond_activity_task_completed_by_id", namespace=c.ns, identity=IDENTITY,
                  workflow_id=run.workflow_id, activity_id="done", result=data("r"))


async def case_activity_results_too_large(c):
    run = await c.start()
    await c.step(do.activity(c.tq, **ONCE))
    task = await c.poll_activity()
    large = data("x")
    large.payloads[0].CopyFrom(Payload(metadata={"encoding": b"binary/plain"},
                                       data=b"x" * (2 * 1024 * 1024 + 1)))
    await c.fails("respond_activity_task_completed", namespace=c.ns, identity=IDENTITY,
                  task_token=task.task_token, result=large)
    await c.until_event(run, "EVENT_TYPE_ACTIVITY_TASK_FAILED")
    await c.step(do.complete())
    await c.history(run)


async def case_two_activities(c):
    run = await c.start()
    await c.step(do.activity(c.tq, "one"), do.activity(c.tq + "-other", "two", input=None))
    one, two = await c.poll_activity(), await c.poll_activity(c.tq + "-other")
    await c.activity_done(two, "second first")
    await c.activity_done(one, "first second")
    await c.step(do.complete())
    await c.history(run)


async def case_activity_after_close(c):
    run = await c.start()
    await c.step(do.activity(c.tq))
    task = await c.poll_activity()
    await c.terminate(run)
    await c.fails("respond_activity_task_completed", namespace=c.ns, identity=IDENTITY,
                  task_token=task.task_token, result=data("late"))
    await c.fails("respond_activity_task_failed", namespace=c.ns, identity=IDENTITY,
                  task_token=task.task_token, failure=app_failure())
    await c.fails("record_activity_task_heartbeat", namespace=c.ns, identity=IDENTITY,
                  task_token=task.task_token, details=data("late"))
    await c.history(run)


async def case_activity_failure_truncated(c):
    run = await c.start()
    await c.step(do.activity(c.tq, retry_policy=retry(0.1, 1, 2)))
    await c.activity_failed(await c.poll_activity(), app_failure("y" * 6000))
    task = await c.poll_activity()
    await c.describe(run)
    await c.activity_done(task)
    await c.step(do.marker("seen"), do.modify(k=text("v")), do.complete())
    await c.history(run)
