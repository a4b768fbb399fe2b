# SPDX-License-Identifier: MIT
"""Schedules: what is shown of them, what is refused, and the runs they start, event by event. Actions are triggered
and backfilled for moments of the past, so that ids and times are those that a case says."""

import asyncio

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Header, Memo, SearchAttributes, WorkflowExecution, WorkflowType
from temporalio.api.schedule.v1 import (
    BackfillRequest, CalendarSpec, IntervalSpec, Range, Schedule, ScheduleAction, SchedulePatch, SchedulePolicies,
    ScheduleSpec, ScheduleState, StructuredCalendarSpec, TriggerImmediatelyRequest)
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import request_response_pb2 as wsv

import commands as do
from driver import IDENTITY, app_failure, data, retry, sec, text

NEVER = ScheduleSpec(cron_string=["0 0 1 1 * 2099"])


def moment(said):
    at = Timestamp()
    at.FromJsonString(said)
    return at


def fields(c, which="s", spec=NEVER, policies=None, state=None, action=None, **more):
    workflow = dict(workflow_id=c.wid("w"), workflow_type=WorkflowType(name="flow"), task_queue=TaskQueue(name=c.tq),
                    input=data("in"), workflow_task_timeout=sec(30))
    workflow.update(action or {})
    base = dict(namespace=c.ns, schedule_id=c.wid(which), identity=IDENTITY, request_id=c.request_id(),
                schedule=Schedule(spec=spec, action=ScheduleAction(start_workflow=NewWorkflowExecutionInfo(**workflow)),
                                  policies=policies, state=state))
    base.update(more)
    return {k: v for k, v in base.items() if v is not None}


async def patch(c, which="s", **what):
    await c.call("patch_schedule", namespace=c.ns, schedule_id=c.wid(which), identity=IDENTITY,
                 request_id=c.request_id(), patch=SchedulePatch(**what))


async def describe(c, which="s"):
    return await c.call("describe_schedule", namespace=c.ns, schedule_id=c.wid(which))


async def until(c, test, which="s"):
    """The description once it passes the test, unrecorded."""
    for _ in range(400):
        found = await c.look("describe_schedule", wsv.DescribeScheduleRequest(namespace=c.ns, schedule_id=c.wid(which)))
        if found and test(found):
            return found
        await asyncio.sleep(0.05)
    raise TimeoutError("a schedule that does not come to pass")


async def delete(c, which="s"):
    await c.call("delete_schedule", namespace=c.ns, schedule_id=c.wid(which), identity=IDENTITY)


async def case_schedule_described(c):
    spec = ScheduleSpec(
        structured_calendar=[StructuredCalendarSpec(hour=[Range(start=3, end=9, step=2)], minute=[Range()],
                                                    second=[Range(start=5)], day_of_month=[Range(start=1, end=31)],
                                                    month=[Range(start=1, end=12)], day_of_week=[Range(end=6)])],
        calendar=[CalendarSpec(hour="12", day_of_week="mon-fri", comment="noon")],
        cron_string=["TZ=Europe/Berlin 15 8 * * 1-7/2 # half", "TZ=Europe/Berlin @hourly"],
        interval=[IntervalSpec(interval=sec(86400), phase=sec(3600))],
        exclude_calendar=[CalendarSpec(month="7", day_of_month="*", hour="*", minute="*")],
        start_time=moment("2026-01-01T00:00:00Z"), jitter=sec(10))
    await c.call("create_schedule", **fields(
        c, spec=spec, policies=SchedulePolicies(overlap_policy=3, catchup_window=sec(1), pause_on_failure=True),
        state=ScheduleState(notes="about", paused=True, limited_actions=True, remaining_actions=3),
        memo=Memo(fields={"m": text("of schedule")}),
        action=dict(memo=Memo(fields={"m": text("of action")}), header=Header(fields={"h": text("head")}),
                    retry_policy=retry(attempts=2), workflow_run_timeout=sec(100))))
    await until(c, lambda found: found.info.future_action_times)
    await describe(c)
    start, end = moment("2026-03-27T00:00:00Z"), moment("2026-03-30T00:00:00Z")
    found = await c.call("list_schedule_matching_times", quiet=True, namespace=c.ns, schedule_id=c.wid("s"),
                         start_time=start, end_time=end)
    c.record("how many times match", len(found.start_time))
    await patch(c, unpause="go on")
    await until(c, lambda found: not found.schedule.state.paused)
    await describe(c)
    changed = fields(c)
    await c.call("update_schedule", **changed)
    await until(c, lambda found: found.info.HasField("update_time"))
    await describe(c)
    await delete(c)


async def case_schedule_runs(c):
    """One run after another: each is told what the one before has left."""
    await c.call("create_schedule", **fields(c, policies=SchedulePolicies(overlap_policy=3), action=dict(
        memo=Memo(fields={"m": text("kept")}), retry_policy=retry(attempts=1), workflow_execution_timeout=sec(500))))
    endings = [[do.complete("one")], [do.fail(app_failure("two"))], [do.complete("three")],
               [do.complete("four")]]
    for n, commands in enumerate(endings):
        at = f"2026-02-03T04:05:{n:02d}Z"
        await patch(c, trigger_immediately=TriggerImmediatelyRequest(scheduled_time=moment(at)))
        task = await c.poll()
        run = WorkflowExecution(workflow_id=c.wid("w") + "-" + at, run_id=task.workflow_execution.run_id)
        await c.done(task, *commands)
        await c.closed(run)
        await c.history(run)
        await until(c, lambda found: found.info.action_count == n + 1)
    await delete(c)


async def case_schedule_backfilled(c):
    """Of one moment, kept by its specification; and the search attributes of the run."""
    await c.call("create_schedule", **fields(
        c, spec=ScheduleSpec(interval=[IntervalSpec(interval=sec(600))]), state=ScheduleState(paused=True)))
    await patch(c, backfill_request=[BackfillRequest(
        start_time=moment("2026-02-03T04:10:00Z"), end_time=moment("2026-02-03T04:15:00Z"), overlap_policy=6)])
    task = await c.poll()
    await c.done(task, do.complete("x"))
    run = task.workflow_execution
    await c.closed(run)
    await c.history(run)
    await c.describe(run)
    await delete(c)


async def case_schedule_refused(c):
    async def refused(**what):
        await c.fails("create_schedule", **fields(c, "no", **what))
    await c.call("create_schedule", **fields(c))
    await c.fails("create_schedule", **fields(c))
    for spec in (ScheduleSpec(cron_string=["61 * * * *"]), ScheduleSpec(cron_string=["* * *"]),
                 ScheduleSpec(cron_string=["@every x"]), ScheduleSpec(calendar=[CalendarSpec(hour="5/6/7", month="x")]),
                 ScheduleSpec(interval=[IntervalSpec(interval=sec(0.5))]),
                 ScheduleSpec(interval=[IntervalSpec(interval=sec(5), phase=sec(6))]),
                 ScheduleSpec(timezone_name="Mars/Olympus"),
                 ScheduleSpec(cron_string=["TZ=UTC @daily"], timezone_name="Europe/Berlin"),
                 ScheduleSpec(structured_calendar=[StructuredCalendarSpec(day_of_month=[Range()], hour=[Range(start=25)])])):
        await refused(spec=spec)
    await refused(request_id="")
    await refused(request_id="r" * 1001)
    for action in (dict(workflow_id="w" * 990), dict(workflow_type=None), dict(task_queue=TaskQueue()),
                   dict(cron_schedule="* * * * *"), dict(workflow_id_reuse_policy=3), dict(workflow_run_timeout=sec(-1)),
                   dict(search_attributes=SearchAttributes(indexed_fields={"NoSuch": text("x")}))):
        await refused(action=action)
    await refused(search_attributes=SearchAttributes(indexed_fields={"NoSuch": text("x")}))
    await c.fails("patch_schedule", namespace=c.ns, schedule_id=c.wid("s"), request_id="x")
    await c.fails("patch_schedule", namespace=c.ns, schedule_id=c.wid("s"), request_id="x",
                  patch=SchedulePatch(pause="p" * 1001))
    await c.fails("update_schedule", namespace=c.ns, schedule_id=c.wid("s"), request_id="x",
                  schedule=Schedule(spec=ScheduleSpec(cron_string=["never"])))
    await c.fails("update_schedule", namespace=c.ns, schedule_id=c.wid("s"), request_id="x", schedule=Schedule())
    await c.fails("list_schedules", namespace=c.ns, query="WorkflowId = 'x'")
    await c.fails("list_schedules", namespace=c.ns, query="NoSuch = 'x'")
    await c.fails("count_schedules", namespace=c.ns, query="ExecutionStatus = 'Running'")
    await nobody(c, "never")
    await delete(c)  # what is said afterwards differs: here nothing is left of it


async def nobody(c, which):
    """Calls to a schedule that isn't there."""
    await c.fails("describe_schedule", namespace=c.ns, schedule_id=c.wid(which))
    await c.fails("patch_schedule", namespace=c.ns, schedule_id=c.wid(which), request_id="y",
                  patch=SchedulePatch(pause="p"))
    await c.fails("update_schedule", **fields(c, which))
    await c.fails("delete_schedule", namespace=c.ns, schedule_id=c.wid(which))
