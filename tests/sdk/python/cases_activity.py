# SPDX-License-Identifier: MIT
"""Activities, local activities, timers."""

import asyncio
import time

from temporalio.client import AsyncActivityCancelledError, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType
from temporalio.workflow import ActivityCancellationType

import flows
from flows import Call, Fail


async def failed_call(env, call):
    """Runs one call that must fail; answers the ActivityError and what is below it."""
    error = await env.raises(WorkflowFailureError, env.run(flows.CallOne.run, call))
    assert isinstance(error.cause, ActivityError), error.cause
    return error.cause, error.cause.cause


async def case_activity_result(env):
    assert await env.run(flows.Hello.run, "world") == "echo world"


async def case_activity_in_a_thread(env):
    assert await env.run(flows.HelloThread.run, "world") == "thread world"


async def case_activity_info(env):
    handle = await env.start(flows.CallOne.run, Call("tells_info", heartbeat=4))
    info = await handle.result()
    assert info["workflow_id"] == handle.id and info["workflow_type"] == "CallOne", info
    assert info["attempt"] == 1 and info["queue"] == env.queue, info
    assert info["start_to_close"] == 10 and info["heartbeat"] == 4, info
    assert info["namespace"] == env.namespace and info["type"] == "tells_info", info


async def case_many_activities_at_once(env):
    assert await env.run(flows.CallMany.run, 60) == 60


async def case_activity_failure(env):
    outer, inner = await failed_call(env, Call("failing", [Fail(kind="Odd")]))
    assert isinstance(inner, ApplicationError) and inner.type == "Odd", inner
    assert inner.message == "attempt 1" and inner.details == ({"attempt": 1},), inner
    assert outer.activity_type == "failing" and outer.retry_state.name == "MAXIMUM_ATTEMPTS_REACHED"
    assert not inner.non_retryable


async def case_activity_retried_until_good(env):
    assert await env.run(flows.CallOne.run, Call("failing", [Fail(good_from=3)], attempts=5)) == 3


async def case_activity_maximum_attempts(env):
    outer, inner = await failed_call(env, Call("failing", [Fail()], attempts=3))
    assert inner.message == "attempt 3", inner
    assert outer.retry_state.name == "MAXIMUM_ATTEMPTS_REACHED", outer.retry_state


async def case_activity_non_retryable_flag(env):
    outer, inner = await failed_call(env, Call("failing", [Fail(final=True)], attempts=5))
    assert inner.message == "attempt 1" and inner.non_retryable, inner
    assert outer.retry_state.name == "NON_RETRYABLE_FAILURE", outer.retry_state


async def case_activity_non_retryable_type(env):
    outer, inner = await failed_call(env, Call("failing", [Fail(kind="Never")], attempts=5,
                                               never=["Never"]))
    assert inner.message == "attempt 1", inner
    assert outer.retry_state.name == "NON_RETRYABLE_FAILURE", outer.retry_state


async def case_activity_next_retry_delay(env):
    began = time.monotonic()
    call = Call("failing", [Fail(good_from=2, delay_s=1.5)], attempts=3, first_retry=0.01)
    assert await env.run(flows.CallOne.run, call) == 2
    assert time.monotonic() - began >= 1.4


async def case_activity_retry_would_pass_expiry(env):
    outer, inner = await failed_call(env, Call("failing", [Fail()], attempts=0, first_retry=30,
                                               schedule_to_close=5, start_to_close=5))
    assert outer.retry_state.name == "TIMEOUT", outer.retry_state
    assert isinstance(inner, ApplicationError) and inner.message == "attempt 1", inner


async def case_heartbeat_details_reach_the_retry(env):
    assert await env.run(flows.CallOne.run, Call("beats_then_fails", attempts=2)) == ["step", "1"]


async def case_heartbeat_timeout(env):
    _, inner = await failed_call(env, Call("beats_then_hangs", heartbeat=1))
    assert isinstance(inner, TimeoutError) and inner.type == TimeoutType.HEARTBEAT, inner
    assert list(inner.last_heartbeat_details) == ["last words"], inner.last_heartbeat_details


async def case_start_to_close_timeout(env):
    outer, inner = await failed_call(env, Call("hangs", [20], start_to_close=1))
    assert isinstance(inner, TimeoutError) and inner.type == TimeoutType.START_TO_CLOSE, inner
    assert outer.started_event_id > outer.scheduled_event_id


async def case_schedule_to_start_timeout(env):
    outer, inner = await failed_call(env, Call("hangs", [20], schedule_to_start=1,
                                               queue=env.id("nobody")))
    assert isinstance(inner, TimeoutError) and inner.type == TimeoutType.SCHEDULE_TO_START, inner


async def case_schedule_to_close_timeout(env):
    outer, inner = await failed_call(env, Call("hangs", [20], schedule_to_close=1, attempts=3,
                                               start_to_close=20))
    assert isinstance(inner, TimeoutError) and inner.type == TimeoutType.SCHEDULE_TO_CLOSE, inner


async def started_elsewhere(env, **call):
    key = env.id("async")
    handle = await env.start(flows.CallOne.run, Call("completes_elsewhere", [key], **call))

    async def there():
        return flows.ASYNC_TASKS.get(key)
    return handle, await env.until(there, "the async activity started")


async def case_async_completion_by_token(env):
    handle, token = await started_elsewhere(env)
    done = env.client.get_async_activity_handle(task_token=token)
    await done.heartbeat("alive")
    await done.complete("from elsewhere")
    assert await handle.result() == "from elsewhere"


async def case_async_completion_by_id(env):
    handle, _ = await started_elsewhere(env)
    done = env.client.get_async_activity_handle(
        workflow_id=handle.id, run_id=handle.result_run_id, activity_id="1")
    await done.heartbeat("alive")
    await done.complete("by id")
    assert await handle.result() == "by id"


async def case_async_failure(env):
    handle, token = await started_elsewhere(env)
    await env.client.get_async_activity_handle(task_token=token).fail(
        ApplicationError("from elsewhere", type="Afar"))
    error = await env.raises(WorkflowFailureError, handle.result())
    assert error.cause.cause.type == "Afar", error.cause.cause


async def case_async_activity_learns_of_cancel(env):
    handle, token = await started_elsewhere(env, start_to_close=30, wait_cancel=True)
    done = env.client.get_async_activity_handle(task_token=token)
    await handle.cancel()

    async def told():
        try:
            await done.heartbeat()
        except AsyncActivityCancelledError:
            return True
        return False
    await env.until(told, "the heartbeat's answer says canceled")
    await done.report_cancellation("gave up")
    error = await env.raises(WorkflowFailureError, handle.result())
    assert "ancel" in type(error.cause).__name__, error.cause


async def cancels(env, name, how):
    key = env.id("cancel")
    handle = await env.start(flows.CancelsActivity.run, name, key, int(how))
    return key, await handle.result(), handle


async def case_activity_cancel_try(env):
    key, result, _ = await cancels(env, "beats_until_canceled", ActivityCancellationType.TRY_CANCEL)
    assert result == "CancelledError", result

    async def noticed():
        return flows.SEEN.get(key) == "canceled"
    await env.until(noticed, "the activity noticed", 10)


async def case_activity_cancel_wait(env):
    key, result, handle = await cancels(env, "beats_until_canceled",
                                        ActivityCancellationType.WAIT_CANCELLATION_COMPLETED)
    assert result == "CancelledError" and flows.SEEN[key] == "canceled", result
    kinds = await env.kinds(handle)
    assert "ACTIVITY_TASK_CANCEL_REQUESTED" in kinds and "ACTIVITY_TASK_CANCELED" in kinds, kinds


async def case_activity_cancel_wait_but_finishes(env):
    _, result, _ = await cancels(env, "finishes_despite_cancel",
                                 ActivityCancellationType.WAIT_CANCELLATION_COMPLETED)
    assert result == "result finished all the same", result


async def case_activity_cancel_abandon(env):
    key, result, handle = await cancels(env, "beats_until_canceled",
                                        ActivityCancellationType.ABANDON)
    assert result == "CancelledError", result
    assert "ACTIVITY_TASK_CANCEL_REQUESTED" not in await env.kinds(handle)


async def case_activity_without_a_worker_is_pending(env):
    queue = env.id("later")
    handle = await env.start(flows.CallOne.run, Call("echo", ["late"], queue=queue))

    async def pending():
        return (await handle.describe()).raw_description.pending_activities
    found = await env.until(pending, "a pending activity")
    assert found[0].activity_type.name == "echo" and found[0].attempt == 1, found
    async with env.worker(activities=[flows.echo], queue=queue):
        assert await handle.result() == "echo late"


async def case_activity_backoff_is_described(env):
    handle = await env.start(flows.CallOne.run, Call("failing", [Fail(good_from=2)], attempts=9,
                                                     first_retry=2))

    async def retrying():
        found = (await handle.describe()).raw_description.pending_activities
        return found and found[0].attempt == 2 and found[0]
    found = await env.until(retrying, "the second attempt scheduled")
    assert found.last_failure.message == "attempt 1", found
    assert found.HasField("next_attempt_schedule_time"), found
    assert await handle.result() == 2


async def case_timers(env):
    out = await env.run(flows.Timers.run)
    assert out == ["fired", "canceled", "condition timed out"], out


async def case_many_timers_at_once(env):
    handles = [await env.start(flows.Sleeps.run, 1.0 + i / 100) for i in range(20)]
    assert await asyncio.gather(*(h.result() for h in handles)) == ["slept"] * 20


async def case_local_activities(env):
    handle = await env.start(flows.Locals.run)
    assert await handle.result() == ["echo local", 3, "Failed"]
    kinds = await env.kinds(handle)
    assert kinds.count("MARKER_RECORDED") == 3 and "ACTIVITY_TASK_SCHEDULED" not in kinds, kinds


async def case_local_activity_waits_by_timer(env):
    handle = await env.start(flows.LocalBackoff.run)
    assert await handle.result() == 2
    assert "TIMER_FIRED" in await env.kinds(handle)


async def case_local_activity_outlives_its_task(env):
    from datetime import timedelta
    handle = await env.start(flows.LocalSlow.run, task_timeout=timedelta(seconds=2))
    assert await handle.result() == "slow"
    kinds = await env.kinds(handle)
    assert kinds.count("WORKFLOW_TASK_COMPLETED") > 1, kinds
    assert "WORKFLOW_TASK_TIMED_OUT" not in kinds, kinds
