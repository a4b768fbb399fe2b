# SPDX-License-Identifier: MIT
"""Life of a workflow as a whole: start, close, signals, cancel, terminate, continue-as-new, retry,
cron, time-outs, id policies, timers, memo and search attributes, queries."""

import asyncio

from temporalio.api.common.v1 import (
    Header, Memo, Payload, Priority, SearchAttributes, WorkflowExecution, WorkflowType)
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.query.v1 import WorkflowQuery, WorkflowQueryResult
from temporalio.api.sdk.v1 import UserMetadata, WorkflowTaskCompletedMetadata

import commands as do
from driver import IDENTITY, RPCError, TaskQueue, app_failure, data, retry, sec, text
from normal import normalise

ATTRIBUTES = {"CmpText": 1, "CmpKeyword": 2, "CmpInt": 3, "CmpDouble": 4, "CmpBool": 5,
              "CmpTime": 6, "CmpList": 7}


def number(value):
    return Payload(metadata={"encoding": b"json/plain"}, data=str(value).encode())


def typed(value, kind):
    return Payload(metadata={"encoding": b"json/plain", "type": kind}, data=value)


async def prepare(server):
    """Custom search attributes that the cases use; they may exist from an earlier run."""
    for name, kind in ATTRIBUTES.items():
        try:
            await server.call("add_search_attributes", AddSearchAttributesRequest(
                namespace=server.namespace, search_attributes={name: kind}))
        except RPCError as error:
            if "already exist" not in error.message.lower():
                print(f"# {server.name}: cannot add search attribute {name}: {error.message}")


async def case_complete(c):
    run = await c.start()
    await c.describe(run)
    await c.step(do.complete())
    await c.history(run)
    await c.describe(run)
    await c.closed(run)
    await c.call("get_workflow_execution_history", namespace=c.ns, execution=run,
                 history_event_filter_type=2)
    await c.call("get_workflow_execution_history_reverse", namespace=c.ns, execution=run)
    events, token = [], b""
    while True:
        page = await c.call("get_workflow_execution_history_reverse", quiet=True, namespace=c.ns,
                            execution=run, maximum_page_size=2, next_page_token=token)
        events.extend(normalise(e, c.names) for e in page.history.events)
        token = page.next_page_token
        if not token:
            break
    c.record("backwards, in pages", {"events": events})


async def case_complete_without_result(c):
    run = await c.start(input=None)
    task = await c.poll()
    bare = do.complete()
    bare.complete_workflow_execution_command_attributes.ClearField("result")
    await c.done(task, bare)
    await c.history(run)


async def case_fail(c):
    run = await c.start()
    await c.step(do.fail(app_failure("bad end", "Bad", details=data("d"))))
    await c.history(run)
    await c.describe(run)


async def case_start_with_everything(c):
    run = await c.start(
        workflow_execution_timeout=sec(600), workflow_run_timeout=sec(300),
        workflow_task_timeout=sec(7), retry_policy=retry(1, 2, 3, never=["Never"]),
        memo=Memo(fields={"m1": text("one"), "m2": text("two")}),
        search_attributes=SearchAttributes(indexed_fields={
            "CmpKeyword": text("key"), "CmpInt": number(7), "CmpDouble": number(1.5),
            "CmpBool": number("true"), "CmpText": text("some words"),
            "CmpTime": text("2024-01-02T03:04:05Z"), "CmpList": number('["a","b"]')}),
        header=Header(fields={"h": text("header")}), priority=Priority(priority_key=2),
        user_metadata=UserMetadata(summary=text("sum"), details=text("det")))
    await c.describe(run)
    await c.step(do.complete())
    await c.history(run)
    await c.describe(run)


async def case_start_delay(c):
    run = await c.start(workflow_start_delay=sec(1.5))
    await c.signal(run)
    await c.history(run, "history before the first task")
    await c.step(do.complete())
    await c.history(run)


async def case_request_id_dedup(c):
    run = await c.start(request_id="fixed-request")
    await c.start(request_id="fixed-request")
    await c.fails("start_workflow_execution", **c.start_fields(request_id="other-request"))
    await c.step(do.complete())
    await c.start(request_id="fixed-request")
    await c.history(run)


async def case_id_reuse_policies(c):
    first = await c.start()
    await c.step(do.complete())
    await c.fails("start_workflow_execution", **c.start_fields(workflow_id_reuse_policy=3))
    await c.fails("start_workflow_execution", **c.start_fields(workflow_id_reuse_policy=2))
    second = await c.start(workflow_id_reuse_policy=1)
    await c.terminate(second)
    third = await c.start(workflow_id_reuse_policy=2)
    await c.fails("start_workflow_execution",
                  **c.start_fields(workflow_id_reuse_policy=3, workflow_id_conflict_policy=3))
    fourth = await c.start(workflow_id_reuse_policy=4)
    for label, run in (("1", first), ("2", second), ("3", third), ("4", fourth)):
        await c.history(run, "history of run " + label)
    await c.terminate(fourth)


async def case_id_conflict_policies(c):
    first = await c.start()
    await c.fails("start_workflow_execution", **c.start_fields(workflow_id_conflict_policy=1))
    await c.call("start_workflow_execution", **c.start_fields(workflow_id_conflict_policy=2))
    second = await c.start(workflow_id_conflict_policy=3)
    task = await c.poll()
    third = await c.start(workflow_id_conflict_policy=3)
    await c.done_fails(task, do.complete())
    for label, run in (("1", first), ("2", second), ("3", third)):
        await c.history(run, "history of run " + label)
    await c.terminate(third)


async def case_signals(c):
    run = await c.start()
    await c.signal(run, "first", header=Header(fields={"h": text("v")}))
    await c.signal(run, "second", input=None, request_id="same")
    await c.signal(run, "second", input=None, request_id="same")
    await c.step(do.marker())
    await c.signal(run, "third")
    await c.step()
    await c.signal(WorkflowExecution(workflow_id=run.workflow_id), "by id only")
    await c.step(do.complete())
    await c.history(run)
    try:
        await c.signal(run, "late")
    except RPCError:
        pass


async def signal_with_start(c, **fields):
    base = c.start_fields(signal_name="sws", signal_input=data("si"))
    base.update(fields)
    return await c.call("signal_with_start_workflow_execution", **base)


async def case_signal_with_start(c):
    await signal_with_start(c)
    await signal_with_start(c, signal_name="again")
    run = WorkflowExecution(workflow_id=c.wid())
    await c.step(do.complete())
    await c.history(run)
    try:
        await signal_with_start(c, workflow_id_reuse_policy=3)
    except RPCError:
        pass
    await signal_with_start(c, request_id="rq")
    await signal_with_start(c, request_id="rq")
    await c.history(run, "history of the second run")
    await signal_with_start(c, workflow_id_conflict_policy=3)
    await c.step(do.complete("third"))
    await c.history(run, "history of the third run")


async def case_signal_with_start_delay(c):
    await signal_with_start(c, workflow_start_delay=sec(20))
    run = WorkflowExecution(workflow_id=c.wid())
    await c.history(run, "history while delayed")
    await signal_with_start(c, workflow_start_delay=sec(20))
    await c.step(do.complete())
    await c.history(run)


async def case_cancel(c):
    run = await c.start()
    await c.step()
    await c.cancel(run)
    await c.fails("request_cancel_workflow_execution", namespace=c.ns, workflow_execution=run,
                  identity=IDENTITY, request_id=c.request_id())
    await c.step(do.cancel_workflow())
    await c.history(run)
    await c.fails("request_cancel_workflow_execution", namespace=c.ns, workflow_execution=run,
                  identity=IDENTITY, request_id=c.request_id())


async def case_terminate(c):
    run = await c.start()
    await c.terminate(run)
    await c.history(run)
    await c.describe(run)
    again = await c.start()
    await c.poll()
    await c.signal(again)
    await c.terminate(WorkflowExecution(workflow_id=again.workflow_id), details=None, reason="")
    await c.history(again, "history with a started task")


async def case_continue_as_new(c):
    run = await c.start(memo=Memo(fields={"m": text("memo")}), workflow_run_timeout=sec(100),
                        search_attributes=SearchAttributes(indexed_fields={
                            "CmpKeyword": text("kept")}))
    await c.step(do.upsert(CmpInt=number(5)), do.continue_as_new(
        c.tq, memo=do.memo(m="next"), header=do.header(h="v"),
        search_attributes=do.search(CmpKeyword=text("next"))))
    await c.history(run)
    await c.step(do.continue_as_new(c.tq, workflow_type=WorkflowType(name="other"),
                                    workflow_run_timeout=sec(50), backoff_start_interval=sec(1)))
    latest = WorkflowExecution(workflow_id=run.workflow_id)
    await c.history(latest, "history of the third run, waiting")
    await c.step(do.complete())
    await c.history(latest, "history of the third run")
    await c.describe(run)
    await c.describe(latest)


async def case_workflow_retry(c):
    run = await c.start(retry_policy=retry(1, 1, 2, never=["Never"]))
    await c.step(do.fail(app_failure("first")))
    await c.history(run)
    await c.step(do.fail(app_failure("second")))
    await c.history(WorkflowExecution(workflow_id=run.workflow_id), "history of the second run")
    other = await c.start("never", retry_policy=retry(1, 1, 5, never=["Never"]))
    await c.step(do.fail(app_failure("x", "Never")))
    await c.history(other, "history of a failure not retried")
    flagged = await c.start("flagged", retry_policy=retry(1, 1, 5))
    await c.step(do.fail(app_failure("x", "Any", non_retryable=True)))
    await c.history(flagged, "history of a flagged failure")


async def case_cron(c):
    run = await c.start(cron_schedule="@every 1s")
    await c.step(do.complete("tick"))
    await c.step(do.fail(app_failure("tock")))
    await c.step(do.complete("tick again"))
    latest = WorkflowExecution(workflow_id=run.workflow_id)
    await c.history(run, "history of the first run")
    await c.until_event(latest, "EVENT_TYPE_WORKFLOW_TASK_SCHEDULED")
    events = await c.history(latest, "history of the last run")
    before = events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    await c.history(WorkflowExecution(workflow_id=run.workflow_id, run_id=before),
                    "history of the run before the last")
    await c.terminate(latest)
    await c.fails("start_workflow_execution", **c.start_fields("bad", cron_schedule="not cron"))


async def case_run_timeout(c):
    run = await c.start(workflow_run_timeout=sec(4))
    await c.step(do.timer(seconds=30), do.activity(c.tq))
    await c.closed(run)
    await c.history(run)
    unpolled = await c.start("unpolled", workflow_run_timeout=sec(1))
    await c.closed(unpolled)
    await c.history(unpolled, "history never polled")
    await c.describe(unpolled)


async def case_execution_timeout_with_retry(c):
    run = await c.start(workflow_run_timeout=sec(1), workflow_execution_timeout=sec(60),
                        retry_policy=retry(1, 1, 2))
    first = await c.closed(run)
    await c.history(run)
    next_run = first.workflow_execution_timed_out_event_attributes.new_execution_run_id
    second = WorkflowExecution(workflow_id=run.workflow_id, run_id=next_run)
    await c.closed(second)
    await c.history(second, "history of the second run")


async def case_execution_timeout(c):
    run = await c.start(workflow_execution_timeout=sec(1))
    await c.closed(run)
    await c.history(run)


async def case_timers(c):
    run = await c.start()
    await c.step(do.timer("short", 0.3), do.timer("long", 50), do.timer("kept", 60))
    await c.describe(run)
    await c.step(do.cancel_timer("long"), do.timer("brief", 30), do.cancel_timer("brief"),
                 do.timer("long", 0.3))
    await c.step(do.complete())
    await c.history(run)


async def case_timer_of_no_length(c):
    run = await c.start()
    await c.step(do.timer("now", 0))
    await c.step(do.complete())
    await c.history(run)


async def case_marker_and_upserts(c):
    run = await c.start(memo=Memo(fields={"a": text("1"), "b": text("2")}))
    await c.step(do.marker("side"), do.marker("fails", failure=app_failure("in marker")),
                 do.upsert(CmpKeyword=text("k"), CmpInt=number(3), CmpBool=number("false"),
                           CmpTime=text("2024-05-06T07:08:09.5Z"), CmpText=text("long text"),
                           CmpDouble=number(2.25), CmpList=number('["x"]')),
                 do.modify(b=text("two"), c=text("3")))
    await c.describe(run)
    nothing = Payload(metadata={"encoding": b"binary/null"})
    await c.signal(run)
    await c.step(do.upsert(CmpKeyword=nothing, CmpInt=typed(b"9", b"Int")),
                 do.modify(a=nothing), do.complete())
    await c.history(run)
    await c.describe(run)


async def answer_query(c, task, **fields):
    await c.call("respond_query_task_completed", namespace=c.ns, task_token=task.task_token,
                 **fields)


def query_fields(c, run, **fields):
    base = dict(namespace=c.ns, execution=run,
                query=WorkflowQuery(query_type="state", query_args=data("arg")))
    base.update(fields)
    return base


async def case_query_direct(c):
    run = await c.start()
    await c.step()
    for answer in (dict(completed_type=1, query_result=data("answer")),
                   dict(completed_type=2, error_message="cannot say",
                        failure=app_failure("why not"))):
        asked = c.aside("query_workflow", **query_fields(c, run))
        task = await c.poll()
        await answer_query(c, task, **answer)
        await c.joined(asked)
    await c.signal(run)
    await c.step(do.complete())
    asked = c.aside("query_workflow", **query_fields(c, run))
    task = await c.poll()
    await answer_query(c, task, completed_type=1, query_result=data("closed answer"))
    await c.joined(asked)
    await c.fails("query_workflow", **query_fields(c, run, query_reject_condition=2))
    await c.fails("respond_query_task_completed", namespace=c.ns, task_token=task.task_token,
                  completed_type=1, query_result=data("late"))
    await c.history(run)


async def case_query_beside_a_task(c):
    run = await c.start()
    await c.step()
    await c.signal(run)
    asked = c.aside("query_workflow", **query_fields(c, run))
    await asyncio.sleep(0.3)
    task = await c.poll()
    key = next(iter(task.queries), "")
    await c.done(task, query_results={key: WorkflowQueryResult(
        result_type=1, answer=data("read my write"))})
    await c.joined(asked)
    await c.history(run)
    await c.terminate(run)


async def case_query_rejected(c):
    run = await c.start()
    await c.step(do.fail())
    await c.fails("query_workflow", **query_fields(c, run, query_reject_condition=2))
    await c.fails("query_workflow", **query_fields(c, run, query_reject_condition=3))
    other = await c.start("terminated")
    await c.terminate(other)
    await c.fails("query_workflow", **query_fields(c, other, query_reject_condition=3))
    await c.fails("query_workflow", **query_fields(c, other))


async def case_task_metadata(c):
    run = await c.start()
    await c.step(do.timer(seconds=30), sdk_metadata=WorkflowTaskCompletedMetadata(
        core_used_flags=[1, 2], lang_used_flags=[3], sdk_name="compare", sdk_version="1.0"))
    await c.terminate(run)
    await c.history(run)


async def case_command_metadata(c):
    run = await c.start()
    start_timer = do.timer(seconds=0.2)
    start_timer.user_metadata.CopyFrom(UserMetadata(summary=text("timer summary")))
    task = do.activity(c.tq)
    task.user_metadata.CopyFrom(UserMetadata(summary=text("activity summary")))
    await c.step(start_timer, task)
    await c.activity_done(await c.poll_activity())
    await c.until_event(run, "EVENT_TYPE_TIMER_FIRED")
    end = do.complete()
    end.user_metadata.CopyFrom(UserMetadata(summary=text("end"), details=text("details")))
    await c.step(end)
    # Whether the timer fires before or after the activity's answer is a race of clocks: keep the
    # events only by kind.
    events = await c.call("get_workflow_execution_history", quiet=True, namespace=c.ns,
                          execution=run)
    kept = sorted((e.event_type, e.user_metadata.summary.data.decode())
                  for e in events.history.events if e.HasField("user_metadata"))
    c.record("metadata", {"kept": [list(map(str, pair)) for pair in kept]})


async def case_history_pages(c):
    run = await c.start()
    for i in range(3):
        await c.step(do.marker(f"m{i}"), force_create_new_workflow_task=True)
    await c.history(run, "history in small pages", maximum_page_size=3)
    await c.history(run)
    await c.terminate(run)


async def case_long_poll_of_history(c):
    run = await c.start()
    page = await c.call("get_workflow_execution_history", namespace=c.ns, execution=run,
                        wait_new_event=True)
    waiting = asyncio.create_task(c.call("get_workflow_execution_history", quiet=True,
                                         namespace=c.ns, execution=run, wait_new_event=True,
                                         next_page_token=page.next_page_token))
    await asyncio.sleep(0.2)
    await c.terminate(run)
    seen = await waiting
    c.record("long poll saw", {"types": [e.event_type for e in seen.history.events],
                               "more": bool(seen.next_page_token)})


async def case_queue_of_another_kind(c):
    await c.fails("start_workflow_execution",
                  **c.start_fields(task_queue=TaskQueue(name="/_sys/x/1")))
    run = await c.start(task_queue=TaskQueue(name=c.tq, kind=1))
    await c.terminate(run)
    await c.history(run)
