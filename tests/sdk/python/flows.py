# SPDX-License-Identifier: MIT
"""The workflows and activities that the shared worker runs."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy, SearchAttributeKey, TypedSearchAttributes
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, ChildWorkflowError
from temporalio.workflow import ActivityCancellationType, ChildWorkflowCancellationType, ParentClosePolicy

TEN = timedelta(seconds=10)
KEYWORD = SearchAttributeKey.for_keyword("SdkKeyword")
NUMBER = SearchAttributeKey.for_int("SdkInt")
ASYNC_TASKS: dict[str, bytes] = {}
SEEN: dict[str, object] = {}


STATE = {"broken": True}


# ---- activities ----------------------------------------------------------------------------------

@activity.defn
async def echo(value: str) -> str:
    return f"echo {value}"


@activity.defn
def echo_in_thread(value: str) -> str:
    return f"thread {value}"


@activity.defn
async def blob(size: int) -> bytes:
    return b"\x00\xff" * (size // 2)


@dataclass
class Fail:
    """How an activity should fail, and from which attempt on it should not."""
    good_from: int = 0
    kind: str = "Failed"
    final: bool = False
    delay_s: float = 0.0


@activity.defn
async def failing(how: Fail) -> int:
    attempt = activity.info().attempt
    if how.good_from and attempt >= how.good_from:
        return attempt
    raise ApplicationError(
        f"attempt {attempt}", {"attempt": attempt}, type=how.kind, non_retryable=how.final,
        next_retry_delay=timedelta(seconds=how.delay_s) if how.delay_s else None)


@activity.defn
async def beats_then_fails() -> list[str]:
    info = activity.info()
    details = list(info.heartbeat_details)
    if info.attempt == 1:
        activity.heartbeat("step", 1)
        raise ApplicationError("again")
    return [str(d) for d in details]


@activity.defn
async def beats_then_hangs() -> None:
    activity.heartbeat("last words")
    await asyncio.sleep(20)


@activity.defn
async def hangs(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        return "ended"
    return "slept"


@activity.defn
async def beats_until_canceled(key: str) -> str:
    SEEN[key] = "started"
    try:
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        SEEN[key] = "canceled"
        raise


@activity.defn
async def finishes_despite_cancel(key: str) -> str:
    SEEN[key] = "started"
    try:
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return "finished all the same"


@activity.defn
async def completes_elsewhere(key: str) -> str:
    ASYNC_TASKS[key] = activity.info().task_token
    activity.raise_complete_async()


@activity.defn
async def tells_info() -> dict:
    info = activity.info()
    return {"id": info.activity_id, "type": info.activity_type, "attempt": info.attempt,
            "workflow_id": info.workflow_id, "workflow_type": info.workflow_type,
            "queue": info.task_queue, "namespace": info.workflow_namespace,
            "start_to_close": info.start_to_close_timeout.total_seconds(),
            "heartbeat": info.heartbeat_timeout.total_seconds()}


@activity.defn
async def local_flaky(good_from: int) -> int:
    if activity.info().attempt < good_from:
        raise ApplicationError("local not yet")
    return activity.info().attempt


@activity.defn
async def local_slow() -> str:
    await asyncio.sleep(4)
    return "slow"


ACTIVITIES = [echo, echo_in_thread, blob, failing, beats_then_fails, beats_then_hangs, hangs,
              beats_until_canceled, finishes_despite_cancel, completes_elsewhere, tells_info,
              local_flaky, local_slow]


# ---- workflows -----------------------------------------------------------------------------------

@workflow.defn
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(echo, name, start_to_close_timeout=TEN)


@workflow.defn
class HelloThread:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(echo_in_thread, name, schedule_to_close_timeout=TEN)


@dataclass
class Call:
    """One activity call, described as data so that one workflow serves many cases."""
    name: str
    args: list = field(default_factory=list)
    attempts: int = 1
    start_to_close: float = 10
    schedule_to_close: float = 0
    schedule_to_start: float = 0
    heartbeat: float = 0
    never: list = field(default_factory=list)
    queue: str = ""
    first_retry: float = 0.1
    wait_cancel: bool = False


def seconds(value):
    return timedelta(seconds=value) if value else None


@workflow.defn
class CallOne:
    @workflow.run
    async def run(self, call: Call):
        return await workflow.execute_activity(
            call.name, args=call.args, start_to_close_timeout=seconds(call.start_to_close),
            schedule_to_close_timeout=seconds(call.schedule_to_close),
            schedule_to_start_timeout=seconds(call.schedule_to_start),
            heartbeat_timeout=seconds(call.heartbeat), task_queue=call.queue or None,
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
            if call.wait_cancel else ActivityCancellationType.TRY_CANCEL,
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=call.first_retry),
                                     backoff_coefficient=1, maximum_attempts=call.attempts,
                                     non_retryable_error_types=call.never))


@workflow.defn
class CallMany:
    @workflow.run
    async def run(self, count: int) -> int:
        results = await asyncio.gather(*(workflow.execute_activity(
            echo, str(i), start_to_close_timeout=timedelta(seconds=60)) for i in range(count)))
        return sum(r == f"echo {i}" for i, r in enumerate(results))


@workflow.defn
class CancelsActivity:
    @workflow.run
    async def run(self, name: str, key: str, how: int) -> str:
        handle = workflow.start_activity(
            name, key, start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=5),
            cancellation_type=ActivityCancellationType(how),
            retry_policy=RetryPolicy(maximum_attempts=1))
        await asyncio.sleep(0.5)
        handle.cancel()
        try:
            return f"result {await handle}"
        except ActivityError as error:
            return f"{type(error.cause).__name__}"


@workflow.defn
class Waiting:
    """Collects signals until told to end; queries tell what came."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.ended = False

    @workflow.run
    async def run(self, prefix: str = "") -> list[str]:
        self.items.append(prefix) if prefix else None
        await workflow.wait_condition(lambda: self.ended)
        return self.items

    @workflow.signal
    def add(self, value: str) -> None:
        self.items.append(value)

    @workflow.signal
    def end(self) -> None:
        self.ended = True

    @workflow.query
    def all(self) -> list[str]:
        return self.items

    @workflow.query
    def broken(self) -> str:
        raise ValueError("query on fire")


@workflow.defn
class SignalRunsActivity:
    def __init__(self) -> None:
        self.results: list[str] = []

    @workflow.run
    async def run(self, wanted: int) -> list[str]:
        await workflow.wait_condition(lambda: len(self.results) == wanted)
        return self.results

    @workflow.signal
    async def go(self, value: str) -> None:
        self.results.append(await workflow.execute_activity(
            echo, value, start_to_close_timeout=TEN))


@workflow.defn
class Timers:
    @workflow.run
    async def run(self) -> list[str]:
        out = []
        began = workflow.now()
        await asyncio.sleep(0.5)
        out.append("fired" if workflow.now() - began >= timedelta(seconds=0.5) else "early")
        long = asyncio.create_task(asyncio.sleep(1000))
        await asyncio.sleep(0.1)
        long.cancel()
        try:
            await long
        except asyncio.CancelledError:
            out.append("canceled")
        try:
            await workflow.wait_condition(lambda: False, timeout=timedelta(seconds=0.3))
        except asyncio.TimeoutError:
            out.append("condition timed out")
        return out


@workflow.defn
class Fails:
    @workflow.run
    async def run(self, kind: str = "Purpose") -> None:
        raise ApplicationError("on purpose", "detail", 7, type=kind)


@workflow.defn
class FailsUntil:
    @workflow.run
    async def run(self, good_from: int) -> int:
        attempt = workflow.info().attempt
        if attempt < good_from:
            raise ApplicationError(f"attempt {attempt}")
        return attempt


@workflow.defn
class ChildOf:
    """Starts one child and tells how it ended."""

    @workflow.run
    async def run(self, kind: str, args: list, child_id: str, run_timeout: float = 0,
                  attempts: int = 0) -> str:
        retry = RetryPolicy(initial_interval=timedelta(seconds=0.1), backoff_coefficient=1,
                            maximum_attempts=attempts) if attempts else None
        try:
            result = await workflow.execute_child_workflow(
                kind, args=args, id=child_id, run_timeout=seconds(run_timeout), retry_policy=retry)
            return f"result {result}"
        except ChildWorkflowError as error:
            return f"{type(error.cause).__name__}: {error.cause}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"


@workflow.defn
class ChildLeft:
    """Starts a waiting child with a close policy, signals it, and ends."""

    @workflow.run
    async def run(self, child_id: str, policy: int, fail: bool = False) -> str:
        handle = await workflow.start_child_workflow(
            Waiting.run, "child", id=child_id, parent_close_policy=ParentClosePolicy(policy))
        await handle.signal(Waiting.add, "from parent")
        if fail:
            raise ApplicationError("parent fails")
        return handle.first_execution_run_id


@workflow.defn
class CancelsChild:
    @workflow.run
    async def run(self, child_id: str, how: int) -> str:
        handle = await workflow.start_child_workflow(
            Cancelable.run, id=child_id, cancellation_type=ChildWorkflowCancellationType(how))
        await asyncio.sleep(0.3)
        handle.cancel()
        try:
            return f"result {await handle}"
        except ChildWorkflowError as error:
            return type(error.cause).__name__


@workflow.defn
class Cancelable:
    """Ends as canceled, after a clean-up activity."""

    @workflow.run
    async def run(self) -> str:
        try:
            await asyncio.sleep(1000)
            return "slept"
        except asyncio.CancelledError:
            await workflow.execute_activity(echo, "cleanup", start_to_close_timeout=TEN)
            raise


@workflow.defn
class IgnoresCancel:
    @workflow.run
    async def run(self) -> str:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            return "went on"
        return "slept"


@workflow.defn
class Reaches:
    """Signals and cancels other workflows by id."""

    @workflow.run
    async def run(self, target: str, what: str) -> str:
        handle = workflow.get_external_workflow_handle(target)
        try:
            if what == "signal":
                await handle.signal("add", "from outside")
            else:
                await handle.cancel()
        except ApplicationError as error:
            return f"refused: {error}"
        return "done"


@workflow.defn
class Again:
    @workflow.run
    async def run(self, left: int) -> str:
        if left > 0:
            workflow.continue_as_new(left - 1, memo={"left": left - 1})
        return f"{workflow.info().continued_run_id is not None} {workflow.memo_value('left', None)}"


@workflow.defn
class Ticks:
    """A cron job: fails on its second run, and knows what the last one left."""

    @workflow.run
    async def run(self) -> int:
        last = workflow.get_last_completion_result(int) if workflow.has_last_completion_result() else 0
        failure = workflow.get_last_failure()
        if last == 1 and failure is None:
            raise ApplicationError("second tick")
        return last + 1


@workflow.defn
class Sleeps:
    @workflow.run
    async def run(self, seconds_: float) -> str:
        await asyncio.sleep(seconds_)
        return "slept"


@workflow.defn
class Locals:
    @workflow.run
    async def run(self) -> list:
        policy = RetryPolicy(initial_interval=timedelta(milliseconds=20), maximum_attempts=5)
        out = [await workflow.execute_local_activity(echo, "local", start_to_close_timeout=TEN)]
        out.append(await workflow.execute_local_activity(
            local_flaky, 3, start_to_close_timeout=TEN, retry_policy=policy))
        try:
            await workflow.execute_local_activity(
                failing, Fail(final=True), start_to_close_timeout=TEN)
        except (ActivityError, ApplicationError) as error:
            out.append(getattr(error.cause, "type", None) or error.type)
        return out


@workflow.defn
class LocalBackoff:
    """The retry interval passes the local threshold: the SDK waits with a timer of the server."""

    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_local_activity(
            local_flaky, 2, start_to_close_timeout=TEN,
            local_retry_threshold=timedelta(milliseconds=100),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1)))


@workflow.defn
class LocalSlow:
    """Outlives its workflow task's time-out: the worker must heartbeat with forced tasks."""

    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_local_activity(local_slow, start_to_close_timeout=TEN)


@workflow.defn
class Upserts:
    @workflow.run
    async def run(self) -> dict:
        workflow.upsert_memo({"kept": "new", "gone": None, "added": 3})
        workflow.upsert_search_attributes([KEYWORD.value_set("upserted"), NUMBER.value_set(42)])
        await asyncio.sleep(0.05)
        return {"memo": dict(workflow.memo()),
                "keyword": workflow.info().typed_search_attributes.get(KEYWORD),
                "number": workflow.info().typed_search_attributes.get(NUMBER)}


@workflow.defn
class Deterministic:
    """Random numbers, uuids and the clock stay the same under replay."""

    def __init__(self) -> None:
        self.made: list = []

    @workflow.run
    async def run(self) -> list:
        self.made = [str(workflow.uuid4()), workflow.random().random(), workflow.time()]
        await workflow.wait_condition(lambda: self.done)
        return self.made

    done = False

    @workflow.signal
    def finish(self) -> None:
        self.done = True

    @workflow.query
    def state(self) -> list:
        return self.made


@workflow.defn
class Patched:
    @workflow.run
    async def run(self) -> list[str]:
        out = ["new" if workflow.patched("first") else "old"]
        await asyncio.sleep(0.05)
        workflow.deprecate_patch("second")
        out.append(await workflow.execute_activity(echo, "after", start_to_close_timeout=TEN))
        return out


@workflow.defn
class TellsInfo:
    @workflow.run
    async def run(self) -> dict:
        info = workflow.info()
        return {"id": info.workflow_id, "run": info.run_id, "type": info.workflow_type,
                "attempt": info.attempt, "queue": info.task_queue, "namespace": info.namespace,
                "run_timeout": info.run_timeout and info.run_timeout.total_seconds(),
                "execution_timeout": info.execution_timeout and info.execution_timeout.total_seconds(),
                "task_timeout": info.task_timeout.total_seconds(),
                "memo": workflow.memo_value("m", None),
                "history_length": info.get_current_history_length(),
                "history_size": info.get_current_history_size() > 0,
                "suggested": info.is_continue_as_new_suggested(),
                "parent": info.parent and info.parent.workflow_id,
                "root": info.root and info.root.workflow_id}


@workflow.defn
class LongHistory:
    @workflow.run
    async def run(self, rounds: int) -> int:
        for i in range(rounds):
            await workflow.execute_activity(echo, str(i), start_to_close_timeout=TEN)
        return workflow.info().get_current_history_length()


@workflow.defn
class Bytes:
    @workflow.run
    async def run(self, value: bytes) -> bytes:
        back = await workflow.execute_activity(blob, 300_000, start_to_close_timeout=TEN)
        return value + back[:4]


@workflow.defn
class Mended:
    """Throws what is no failure, until the bug is gone: its workflow task fails and is retried."""

    @workflow.run
    async def run(self) -> str:
        if STATE["broken"]:
            raise RuntimeError("a bug")
        return "mended"


@workflow.defn(name="Changed")
class ChangedOld:
    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity(echo, "x", start_to_close_timeout=TEN)
        await asyncio.sleep(1.0)
        return "old"


@workflow.defn(name="Changed")
class ChangedNew:
    @workflow.run
    async def run(self) -> str:
        await asyncio.sleep(0.1)
        return "new"


@workflow.defn
class TwoSteps:
    """Waits for two signals with an activity between; used with tiny caches."""

    def __init__(self) -> None:
        self.got: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        for count in (1, 2, 3):
            await workflow.wait_condition(lambda: len(self.got) >= count)
            await workflow.execute_activity(echo, "x", start_to_close_timeout=TEN)
        return self.got

    @workflow.signal
    def go(self, value: str) -> None:
        self.got.append(value)

    @workflow.query
    def so_far(self) -> int:
        return len(self.got)


WORKFLOWS = [Hello, HelloThread, CallOne, CallMany, CancelsActivity, Waiting, SignalRunsActivity,
             Timers, Fails, FailsUntil, ChildOf, ChildLeft, CancelsChild, Cancelable, IgnoresCancel,
             Reaches, Again, Ticks, Sleeps, Locals, LocalBackoff, LocalSlow, Upserts, Deterministic,
             Patched, TellsInfo, LongHistory, Bytes, TwoSteps, Mended, ChangedOld]

__all__ = ["ACTIVITIES", "WORKFLOWS", "CancelledError", "TypedSearchAttributes"]
