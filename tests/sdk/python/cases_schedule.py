# SPDX-License-Identifier: MIT
"""Schedules through the SDK's schedule client, and what its types don't reach by plain calls."""

import asyncio
import uuid
from datetime import datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.schedule.v1 import Schedule as RawSchedule
from temporalio.api.schedule.v1 import SchedulePatch
from temporalio.api.workflowservice.v1 import (
    CountSchedulesRequest, DescribeScheduleRequest, GetSystemInfoRequest, ListScheduleMatchingTimesRequest,
    PatchScheduleRequest, UpdateScheduleRequest)
from temporalio.client import (
    Schedule, ScheduleActionStartWorkflow, ScheduleAlreadyRunningError, ScheduleBackfill, ScheduleCalendarSpec,
    ScheduleIntervalSpec, ScheduleOverlapPolicy, SchedulePolicy, ScheduleRange, ScheduleSpec, ScheduleState,
    ScheduleUpdate)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

import flows

NEVER = ScheduleSpec(cron_expressions=["0 0 1 1 * 2099"])


def action(env, workflow, *args, **kw):
    kw.setdefault("id", env.id("scheduled"))
    kw.setdefault("task_queue", env.queue)
    return ScheduleActionStartWorkflow(workflow, args=args, **kw)


async def create(env, what, spec=NEVER, policy=None, state=None, **kw):
    return await env.client.create_schedule(
        env.id("schedule"),
        Schedule(action=what, spec=spec, policy=policy or SchedulePolicy(), state=state or ScheduleState()), **kw)


async def taken(env, handle, count):
    """The description once so many actions have been taken."""
    async def enough():
        found = await handle.describe()
        return found if found.info.num_actions >= count else None
    return await env.until(enough, f"{count} actions")


async def settled(env, handle, count=1):
    """... and none of them runs any more."""
    async def enough():
        found = await handle.describe()
        return found if found.info.num_actions >= count and not found.info.running_actions else None
    return await env.until(enough, f"{count} actions that have ended")


def runs_of(env, found):
    return [env.client.get_workflow_handle(a.action.workflow_id, run_id=None) for a in found.info.recent_actions]


async def running(env, handle):
    async def one():
        found = await handle.describe()
        return found.info.running_actions and found
    found = await env.until(one, "a running action")
    return env.client.get_workflow_handle(found.info.running_actions[0].workflow_id)


async def case_schedule_capability(env):
    info = await env.client.workflow_service.get_system_info(GetSystemInfoRequest())
    assert info.capabilities.supports_schedules


async def case_schedule_life(env):
    """Created, described, listed, triggered, updated, paused, deleted."""
    what = action(env, flows.Hello.run, "schedule", memo={"of": "action"}, typed_search_attributes=TypedSearchAttributes(
        [SearchAttributePair(flows.KEYWORD, "action")]))
    handle = await create(
        env, what,
        ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(3, 7, 2)], comment="early")],
                     intervals=[ScheduleIntervalSpec(every=timedelta(days=9), offset=timedelta(hours=2))],
                     jitter=timedelta(seconds=30), time_zone_name="Europe/Berlin"),
        SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ONE, catchup_window=timedelta(minutes=5)),
        ScheduleState(note="first"), memo={"of": "schedule"},
        search_attributes=TypedSearchAttributes([SearchAttributePair(flows.KEYWORD, "schedule" + env.word)]))
    found = await handle.describe()
    spec = found.schedule.spec
    assert list(spec.calendars[0].hour) == [ScheduleRange(3, 7, 2)] and spec.calendars[0].comment == "early", spec
    assert spec.intervals[0].every == timedelta(days=9) and spec.intervals[0].offset == timedelta(hours=2), spec
    assert spec.time_zone_name == "Europe/Berlin" and spec.jitter == timedelta(seconds=30), spec
    assert found.schedule.policy.overlap == ScheduleOverlapPolicy.BUFFER_ONE, found.schedule
    assert found.schedule.policy.catchup_window == timedelta(minutes=5), found.schedule
    assert found.schedule.state.note == "first" and not found.schedule.state.paused
    assert len(found.info.next_action_times) == 10 and found.info.num_actions == 0, found.info
    assert await found.memo_value("of") == "schedule"
    assert found.typed_search_attributes.get(flows.KEYWORD) == "schedule" + env.word, found.typed_search_attributes
    await listed(env, handle)

    await handle.trigger()
    found = await settled(env, handle)
    one = found.info.recent_actions[0]
    run = runs_of(env, found)[0]
    assert await run.result() == "echo schedule"
    assert one.action.workflow_id.startswith(what.id + "-20") and one.action.workflow_id.endswith("Z"), one
    described = await run.describe()
    assert described.typed_search_attributes.get(flows.KEYWORD) == "action"
    assert await described.memo_value("of") == "action"
    await shown_as_scheduled(env, handle, run.id)

    def change(given):
        schedule = given.description.schedule
        schedule.spec = NEVER
        schedule.state.note = "second"
        return ScheduleUpdate(schedule=schedule, search_attributes=TypedSearchAttributes(
            [SearchAttributePair(flows.NUMBER, 7)]))
    await handle.update(change)

    async def updated():
        found = await handle.describe()
        own = dict((p.key.name, p.value) for p in found.typed_search_attributes)
        return found if found.info.last_updated_at and own == {"SdkInt": 7} else None
    found = await env.until(updated, "an update")
    assert found.schedule.state.note == "second" and found.info.num_actions == 1, found
    assert [str(t) for t in found.info.next_action_times] == ["2099-01-01 00:00:00+00:00"], found.info
    await handle.pause(note="rest")
    found = await noted(env, handle, "rest")
    assert found.schedule.state.paused
    await handle.unpause()
    found = await noted(env, handle, "Unpaused via Python SDK")
    assert not found.schedule.state.paused
    await handle.delete()
    await gone(env, handle)


async def noted(env, handle, note):
    async def there():
        found = await handle.describe()
        return found if found.schedule.state.note == note else None
    return await env.until(there, f"the note {note}")


async def listed(env, handle):
    """Among schedules, by its attribute and by its id, but not among workflows."""
    for query in (f"SdkKeyword = 'schedule{env.word}'", f"ScheduleId = '{handle.id}'",
                  f"ScheduleId IN ('{handle.id}', 'x') AND TemporalSchedulePaused = false"):
        async def there():
            return [s async for s in await env.client.list_schedules(query)]
        found = await env.until(there, f"a list by {query}")
        assert [s.id for s in found] == [handle.id], found
        assert found[0].schedule.action.workflow == "Hello" and found[0].schedule.state.note == "first", found
        assert found[0].schedule.spec.calendars[0].comment == "early", found[0].schedule.spec
        assert len(found[0].info.next_action_times) == 5, found[0].info
        assert await found[0].memo_value("of") == "schedule"
        assert found[0].typed_search_attributes.get(flows.KEYWORD) == "schedule" + env.word
        counted = await env.client.workflow_service.count_schedules(
            CountSchedulesRequest(namespace=env.namespace, query=query))
        assert counted.count == 1, counted
    assert (await env.client.count_workflows(f"SdkKeyword = 'schedule{env.word}'")).count == 0
    error = await env.raises(RPCError, env.client.workflow_service.count_schedules(
        CountSchedulesRequest(namespace=env.namespace, query="WorkflowId = 'x'")))
    assert error.status == RPCStatusCode.INVALID_ARGUMENT and "cannot filter on" in error.message, error


async def shown_as_scheduled(env, handle, workflow_id):
    async def by_attribute():
        query = f"TemporalScheduledById = '{handle.id}' AND TemporalScheduledStartTime > '2020-01-01T00:00:00Z'"
        return [w.id async for w in env.client.list_workflows(query)] == [workflow_id]
    await env.until(by_attribute, "the run by its schedule's id")


async def gone(env, handle):
    error = await env.raises(RPCError, handle.describe())
    assert error.status == RPCStatusCode.NOT_FOUND, error

    async def unlisted():
        return not [s async for s in await env.client.list_schedules(f"ScheduleId = '{handle.id}'")]
    await env.until(unlisted, "a schedule that is not listed")


async def case_schedule_twice(env):
    handle = await create(env, action(env, flows.Hello.run, "x"))
    await env.raises(ScheduleAlreadyRunningError, env.client.create_schedule(
        handle.id, Schedule(action=action(env, flows.Hello.run, "x"), spec=NEVER)))
    await handle.delete()

    async def again():
        try:
            return await env.client.create_schedule(
                handle.id, Schedule(action=action(env, flows.Hello.run, "x"), spec=NEVER))
        except ScheduleAlreadyRunningError:
            return None
    await (await env.until(again, "the id of a deleted schedule")).delete()


async def case_schedule_interval(env):
    """Every second, three times: each once, under the id of its moment; then none any more."""
    handle = await create(env, action(env, flows.Bytes.run, b"x"),
                          ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=1))]),
                          SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL),
                          ScheduleState(limited_actions=True, remaining_actions=3))
    found = await taken(env, handle, 3)
    assert found.schedule.state.remaining_actions == 0 and not found.info.next_action_times, found
    ids = [a.action.workflow_id for a in found.info.recent_actions]
    assert len(set(ids)) == 3, ids
    for one in found.info.recent_actions:
        assert one.action.workflow_id.endswith(one.scheduled_at.strftime("-%Y-%m-%dT%H:%M:%SZ")), one
        assert one.started_at >= one.scheduled_at, one
    await handle.delete()


async def overlapping(env, overlap):
    """One action that waits, and another one on top."""
    handle = await create(env, action(env, flows.Waiting.run), policy=SchedulePolicy(overlap=overlap))
    await handle.trigger()
    first = await running(env, handle)
    await asyncio.sleep(1.1)  # an id has a resolution of a second
    await handle.trigger()
    return handle, first


async def end_one(env, handle):
    await (await running(env, handle)).signal(flows.Waiting.end)


async def case_schedule_skip(env):
    handle, first = await overlapping(env, ScheduleOverlapPolicy.SKIP)

    async def skipped():
        return (await handle.describe()).info.num_actions_skipped_overlap == 1
    await env.until(skipped, "an action that is skipped")
    await first.signal(flows.Waiting.end)
    found = await settled(env, handle)
    assert found.info.num_actions == 1, found.info
    await handle.delete()


async def case_schedule_buffer_one(env):
    handle, first = await overlapping(env, ScheduleOverlapPolicy.BUFFER_ONE)
    await asyncio.sleep(1.1)
    await handle.trigger()

    async def skipped():
        return (await handle.describe()).info.num_actions_skipped_overlap == 1
    await env.until(skipped, "the third action, skipped")
    await first.signal(flows.Waiting.end)
    await taken(env, handle, 2)
    await end_one(env, handle)
    found = await settled(env, handle, 2)
    assert found.info.num_actions == 2, found.info
    await handle.delete()


async def case_schedule_buffer_all(env):
    handle, first = await overlapping(env, ScheduleOverlapPolicy.BUFFER_ALL)
    await asyncio.sleep(1.1)
    await handle.trigger()
    for done in (1, 2, 3):
        await taken(env, handle, done)
        await end_one(env, handle)
    found = await settled(env, handle, 3)
    assert found.info.num_actions == 3 and found.info.num_actions_skipped_overlap == 0, found.info
    await handle.delete()


async def case_schedule_cancel_other(env):
    handle, first = await overlapping(env, ScheduleOverlapPolicy.CANCEL_OTHER)
    await taken(env, handle, 2)
    assert (await first.describe()).status.name == "CANCELED"
    await end_one(env, handle)
    await handle.delete()


async def case_schedule_terminate_other(env):
    handle, first = await overlapping(env, ScheduleOverlapPolicy.TERMINATE_OTHER)
    await taken(env, handle, 2)
    assert (await first.describe()).status.name == "TERMINATED"
    await end_one(env, handle)
    await handle.delete()


async def case_schedule_allow_all(env):
    handle = await create(env, action(env, flows.Waiting.run),
                          policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL))
    await handle.trigger()
    await taken(env, handle, 1)
    await asyncio.sleep(1.1)
    await handle.trigger()
    found = await taken(env, handle, 2)
    assert not found.info.running_actions, found.info
    for run in runs_of(env, found):
        assert (await run.describe()).status.name == "RUNNING"
        await run.signal(flows.Waiting.end)
    await handle.delete()


async def case_schedule_follows_the_chain(env):
    """An action that continues as new runs until its last run has ended."""
    handle = await create(env, action(env, flows.Again.run, 3))
    await handle.trigger()
    found = await settled(env, handle)
    run = env.client.get_workflow_handle(found.info.recent_actions[0].action.workflow_id)
    assert await run.result() == "True 0"
    await handle.delete()


async def case_schedule_pauses_on_failure(env):
    what = action(env, flows.Fails.run)
    handle = await create(env, what, policy=SchedulePolicy(pause_on_failure=True))
    await handle.trigger()
    # The reference looks at the first one when it takes the next.
    await taken(env, handle, 1)
    await asyncio.sleep(1.1)
    await handle.trigger()

    async def paused():
        found = await handle.describe()
        return found if found.schedule.state.paused else None
    found = await env.until(paused, "a pause")
    assert found.schedule.state.note.startswith("paused due to workflow failure: " + what.id), found.schedule.state
    assert found.schedule.state.note.endswith(": on purpose"), found.schedule.state
    await handle.delete()


async def case_schedule_passes_results_on(env):
    """Each run knows what the last one left: result, then failure, then result."""
    handle = await create(env, action(env, flows.Ticks.run))
    for n in (1, 2, 3):
        await handle.trigger()
        found = await settled(env, handle, n)
        await asyncio.sleep(1.1)  # an id has a resolution of a second; and the reference looks again
    ends = [(await run.describe()).status.name for run in runs_of(env, found)]
    assert ends == ["COMPLETED", "FAILED", "COMPLETED"], ends
    assert await runs_of(env, found)[-1].result() == 2
    await handle.delete()


async def case_schedule_backfill(env):
    """All of a past hour at once, though it is paused; ids and times are those of the past."""
    handle = await create(env, action(env, flows.Bytes.run, b"x"),
                          ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(minutes=10))]),
                          state=ScheduleState(paused=True))
    hour = datetime(2022, 5, 1, 7, tzinfo=timezone.utc)
    await handle.backfill(ScheduleBackfill(start_at=hour, end_at=hour + timedelta(minutes=30),
                                           overlap=ScheduleOverlapPolicy.ALLOW_ALL))
    found = await taken(env, handle, 4)
    times = sorted(a.scheduled_at for a in found.info.recent_actions)
    assert times == [hour + timedelta(minutes=10 * n) for n in range(4)], times
    assert {a.action.workflow_id[-20:] for a in found.info.recent_actions} == {
        t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in times}, found.info
    await handle.delete()


async def case_schedule_long_backfill(env):
    """More than is done at a time; the last ten are shown."""
    handle = await create(env, action(env, flows.Bytes.run, b"x"),
                          ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(minutes=1))]),
                          state=ScheduleState(paused=True))
    hour = datetime(2022, 5, 1, 7, tzinfo=timezone.utc)
    await handle.backfill(ScheduleBackfill(start_at=hour, end_at=hour + timedelta(minutes=24),
                                           overlap=ScheduleOverlapPolicy.ALLOW_ALL))
    found = await taken(env, handle, 25)
    assert found.info.num_actions == 25 and len(found.info.recent_actions) == 10, found.info
    await handle.delete()


async def case_schedule_initial_trigger(env):
    handle = await create(env, action(env, flows.Bytes.run, b"x"), trigger_immediately=True)
    await settled(env, handle)
    await handle.delete()


async def case_schedule_matching_times(env):
    handle = await create(env, action(env, flows.Bytes.run, b"x"),
                          ScheduleSpec(cron_expressions=["30 2 * * *"], time_zone_name="Europe/Berlin"))
    start, end = Timestamp(), Timestamp()
    start.FromJsonString("2026-03-27T00:00:00Z")
    end.FromJsonString("2026-03-31T00:00:00Z")
    found = await env.client.workflow_service.list_schedule_matching_times(ListScheduleMatchingTimesRequest(
        namespace=env.namespace, schedule_id=handle.id, start_time=start, end_time=end))
    # On the 29th clocks go from 2 to 3.
    assert [t.ToJsonString() for t in found.start_time] == [
        "2026-03-27T01:30:00Z", "2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"], found
    await handle.delete()


async def case_schedule_refusals(env):
    def bad(what, spec=NEVER):
        return env.client.create_schedule(env.id("bad"), Schedule(action=what, spec=spec))
    for spec, words in (
            (ScheduleSpec(cron_expressions=["61 * * * *"]), "Invalid schedule spec: Minute is not in range [0-59]"),
            (ScheduleSpec(cron_expressions=["* * *"]), "Invalid schedule spec: CronString does not have 5-7 fields"),
            (ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(milliseconds=3))]),
             "Invalid schedule spec: interval is too small"),
            (ScheduleSpec(time_zone_name="Mars/Olympus"), "Invalid schedule spec: unknown time zone Mars/Olympus")):
        error = await env.raises(RPCError, bad(action(env, flows.Bytes.run, b"x"), spec))
        assert error.status == RPCStatusCode.INVALID_ARGUMENT and error.message == words, error
    nobody = env.client.get_schedule_handle(env.id("nobody"))
    for call in (nobody.describe(), nobody.trigger(), nobody.delete(), nobody.pause()):
        error = await env.raises(RPCError, call)
        assert error.status == RPCStatusCode.NOT_FOUND, error


async def case_schedule_patch_notes(env):
    handle = await create(env, action(env, flows.Bytes.run, b"x"))
    error = await env.raises(RPCError, env.client.workflow_service.patch_schedule(PatchScheduleRequest(
        namespace=env.namespace, schedule_id=handle.id, request_id=str(uuid.uuid4()),
        patch=SchedulePatch(pause="x" * 1001))))
    assert error.message == "Schedule notes exceeds limit.", error
    # The same request again is the same trigger.
    patch = PatchScheduleRequest(namespace=env.namespace, schedule_id=handle.id, request_id=str(uuid.uuid4()))
    patch.patch.trigger_immediately.SetInParent()
    for _ in range(2):
        await env.client.workflow_service.patch_schedule(patch)
    await settled(env, handle)
    assert (await handle.describe()).info.num_actions == 1
    await handle.delete()


async def case_schedule_conflict(env):
    """An update under an old token changes nothing."""
    handle = await create(env, action(env, flows.Bytes.run, b"x"), state=ScheduleState(note="here"))
    described = await env.client.workflow_service.describe_schedule(
        DescribeScheduleRequest(namespace=env.namespace, schedule_id=handle.id))
    await handle.pause(note="between")
    await noted(env, handle, "between")
    changed = RawSchedule()
    changed.CopyFrom(described.schedule)
    changed.state.notes = "lost"
    try:
        await env.client.workflow_service.update_schedule(UpdateScheduleRequest(
            namespace=env.namespace, schedule_id=handle.id, schedule=changed, request_id=str(uuid.uuid4()),
            conflict_token=described.conflict_token))
    except RPCError as error:  # the reference's workflow-backed schedules say nothing
        assert error.status == RPCStatusCode.FAILED_PRECONDITION, error
    await asyncio.sleep(0.5)
    assert (await handle.describe()).schedule.state.note == "between"
    await handle.delete()
