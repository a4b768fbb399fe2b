# SPDX-License-Identifier: MIT
"""Calls that must be refused: the status, the message and the details are what is compared."""

import uuid

from temporalio.api.common.v1 import (
    Memo, Payload, RetryPolicy, SearchAttributes, WorkflowExecution, WorkflowType)
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue

import commands as do
from driver import IDENTITY, app_failure, data, retry, sec, text

NOWHERE = "no-such-namespace-at-all"
NO_RUN = "11111111-2222-4333-8444-555555555555"
BIG = "x" * 1001
LARGE = Payload(metadata={"encoding": b"binary/plain"}, data=b"x" * (2 * 1024 * 1024 + 1))


async def case_refused_starts(c):
    async def start(**fields):
        base = c.start_fields(**fields)
        for name, value in fields.items():
            if value is None:
                base.pop(name, None)
        await c.fails("start_workflow_execution", **base)

    await start(namespace=NOWHERE)
    await start(namespace=None)
    await start(workflow_id="")
    await start(workflow_id=BIG)
    await start(workflow_type=None)
    await start(workflow_type=WorkflowType(name=BIG))
    await start(task_queue=None)
    await start(task_queue=TaskQueue(name=""))
    await start(task_queue=TaskQueue(name=BIG))
    await start(request_id=BIG)
    await start(workflow_run_timeout=sec(-1))
    await start(workflow_execution_timeout=sec(-1))
    await start(workflow_task_timeout=sec(-1))
    await start(workflow_start_delay=sec(-1))
    await start(workflow_start_delay=sec(1), cron_schedule="@every 1s")
    await start(cron_schedule="* * *")
    await start(cron_schedule="61 * * * *")
    await start(cron_schedule="@every never")
    await start(cron_schedule="TZ=Nowhere/Land 0 0 * * *")
    await start(retry_policy=retry(1, 0.5))
    await start(retry_policy=retry(-1, 2))
    await start(retry_policy=retry(5, 2, 0, longest=1))
    await start(retry_policy=retry(1, 2, -1))
    await start(retry_policy=RetryPolicy(backoff_coefficient=2, maximum_interval=sec(-1)))
    await start(workflow_id_reuse_policy=4, workflow_id_conflict_policy=2)
    await start(workflow_id_reuse_policy=99)
    await start(search_attributes=SearchAttributes(indexed_fields={"CmpNoSuchKey": text("v")}))
    await start(search_attributes=SearchAttributes(indexed_fields={"CmpInt": text("word")}))
    await start(search_attributes=SearchAttributes(indexed_fields={"WorkflowId": text("word")}))
    await start(search_attributes=SearchAttributes(indexed_fields={"CmpKeyword": text("y" * 3000)}))
    large = data("x")
    large.payloads[0].CopyFrom(LARGE)
    await start(input=large)
    await start(memo=Memo(fields={"m": LARGE}))


async def on_runs(c, run):
    """Every call that names a run, with this one."""
    base = dict(namespace=c.ns)
    await c.fails("describe_workflow_execution", execution=run, **base)
    await c.fails("get_workflow_execution_history", execution=run, **base)
    await c.fails("get_workflow_execution_history_reverse", execution=run, **base)
    await c.fails("signal_workflow_execution", workflow_execution=run, signal_name="s",
                  identity=IDENTITY, request_id=c.request_id(), **base)
    await c.fails("request_cancel_workflow_execution", workflow_execution=run, identity=IDENTITY,
                  request_id=c.request_id(), **base)
    await c.fails("terminate_workflow_execution", workflow_execution=run, identity=IDENTITY, **base)
    await c.fails("query_workflow", execution=run, query=WorkflowQuery(query_type="q"), **base)
    await c.fails("reset_sticky_task_queue", execution=run, **base)


async def case_refused_on_no_workflow(c):
    await on_runs(c, WorkflowExecution(workflow_id=c.wid("nobody")))


async def case_refused_on_no_run(c):
    run = await c.start()
    await on_runs(c, WorkflowExecution(workflow_id=run.workflow_id, run_id=NO_RUN))
    await on_runs(c, WorkflowExecution(workflow_id=run.workflow_id, run_id="not-a-run-id"))
    await c.terminate(run)


async def case_refused_without_id(c):
    await on_runs(c, WorkflowExecution())
    await on_runs(c, WorkflowExecution(workflow_id=BIG))


async def case_refused_without_execution(c):
    base = dict(namespace=c.ns)
    await c.fails("describe_workflow_execution", **base)
    await c.fails("get_workflow_execution_history", **base)
    await c.fails("signal_workflow_execution", **base)
    await c.fails("request_cancel_workflow_execution", **base)
    await c.fails("terminate_workflow_execution", **base)
    await c.fails("query_workflow", **base)


async def case_refused_on_closed(c):
    run = await c.start()
    await c.terminate(run)
    base = dict(namespace=c.ns, workflow_execution=run, identity=IDENTITY)
    await c.fails("signal_workflow_execution", signal_name="s", request_id=c.request_id(), **base)
    await c.fails("request_cancel_workflow_execution", request_id=c.request_id(), **base)
    await c.fails("terminate_workflow_execution", **base)
    await c.fails("terminate_workflow_execution", first_execution_run_id=NO_RUN, **base)
    await c.fails("reset_sticky_task_queue", namespace=c.ns, execution=run)


async def case_refused_first_run(c):
    run = await c.start()
    by_id = WorkflowExecution(workflow_id=run.workflow_id)
    base = dict(namespace=c.ns, workflow_execution=by_id, identity=IDENTITY)
    await c.fails("terminate_workflow_execution", first_execution_run_id=NO_RUN, **base)
    await c.fails("request_cancel_workflow_execution", first_execution_run_id=NO_RUN,
                  request_id=c.request_id(), **base)
    await c.fails("terminate_workflow_execution", first_execution_run_id=run.run_id, **base)
    await c.history(run)


async def case_refused_signals(c):
    run = await c.start()
    base = dict(namespace=c.ns, workflow_execution=run, identity=IDENTITY)
    await c.fails("signal_workflow_execution", signal_name="", **base)
    await c.fails("signal_workflow_execution", signal_name=BIG, **base)
    await c.fails("signal_workflow_execution", signal_name="s", request_id=BIG, **base)
    large = data("x")
    large.payloads[0].CopyFrom(LARGE)
    await c.fails("signal_workflow_execution", signal_name="s", input=large, **base)
    fields = c.start_fields(signal_name="")
    await c.fails("signal_with_start_workflow_execution", **fields)
    fields = c.start_fields(signal_name="s", workflow_type=None)
    await c.fails("signal_with_start_workflow_execution", **fields)
    fields = c.start_fields(signal_name="s", workflow_id="")
    await c.fails("signal_with_start_workflow_execution", **fields)
    await c.terminate(run)
    await c.history(run)


async def case_refused_tokens(c):
    for token in (b"", b"not a token", b"\x00\xff\x08\x01", b"\xff" * 5000):
        base = dict(namespace=c.ns, task_token=token, identity=IDENTITY)
        await c.fails("respond_workflow_task_completed", **base)
        await c.fails("respond_workflow_task_failed", **base)
        await c.fails("respond_activity_task_completed", **base)
        await c.fails("respond_activity_task_failed", **base)
        await c.fails("respond_activity_task_canceled", **base)
        await c.fails("record_activity_task_heartbeat", **base)
        await c.fails("respond_query_task_completed", namespace=c.ns, task_token=token,
                      completed_type=1)


async def case_refused_by_id(c):
    run = await c.start()
    await c.step(do.activity(c.tq))
    for method in ("respond_activity_task_completed_by_id", "respond_activity_task_failed_by_id",
                   "respond_activity_task_canceled_by_id", "record_activity_task_heartbeat_by_id"):
        base = dict(namespace=c.ns, identity=IDENTITY)
        await c.fails(method, workflow_id=run.workflow_id, activity_id="nothing", **base)
        await c.fails(method, workflow_id=c.wid("nobody"), activity_id="a1", **base)
        await c.fails(method, workflow_id=run.workflow_id, run_id=NO_RUN, activity_id="a1", **base)
        await c.fails(method, workflow_id=run.workflow_id, activity_id="", **base)
        await c.fails(method, workflow_id="", activity_id="a1", **base)
        await c.fails(method, workflow_id=run.workflow_id, activity_id="a1", **base)
    await c.terminate(run)


async def case_refused_polls(c):
    for method in ("poll_workflow_task_queue", "poll_activity_task_queue"):
        await c.fails(method, namespace=c.ns, identity=IDENTITY)
        await c.fails(method, namespace=c.ns, identity=IDENTITY, task_queue=TaskQueue(name=""))
        await c.fails(method, namespace=c.ns, identity=IDENTITY, task_queue=TaskQueue(name=BIG))
        await c.fails(method, namespace=c.ns, identity=BIG, task_queue=TaskQueue(name=c.tq))
        await c.fails(method, namespace=NOWHERE, task_queue=TaskQueue(name=c.tq))
        await c.fails(method, namespace="", task_queue=TaskQueue(name=c.tq))


async def case_refused_lists(c):
    for method in ("list_workflow_executions", "count_workflow_executions"):
        for query in ("NoSuchField = 'x'", "WorkflowId =", "WorkflowId = 'a' ORDER", "((",
                      "ExecutionStatus = 'Nonsense'", "StartTime > 'yesterday'",
                      "WorkflowId LIKE 'a%'", "WorkflowId = 'a' AND", "CloseTime = 5 LIMIT 3",
                      "CmpInt = 'word'", "CmpBool > true", "CmpText > 'a'"):
            await c.fails(method, namespace=c.ns, query=query)
        await c.fails(method, namespace=NOWHERE, query="")
    await c.fails("get_workflow_execution_history", namespace=c.ns,
                  execution=WorkflowExecution(workflow_id=c.wid("nobody")),
                  next_page_token=b"garbage")
    await c.fails("count_workflow_executions", namespace=c.ns, query="GROUP BY WorkflowId")


async def case_refused_namespaces(c):
    word = f"{c.server.run_word}-ns"
    await c.fails("describe_namespace", namespace=NOWHERE)
    await c.fails("describe_namespace", id=str(uuid.uuid5(uuid.NAMESPACE_DNS, "none")))
    await c.fails("describe_namespace")
    await c.fails("register_namespace", namespace="")
    await c.fails("register_namespace", namespace=word)
    await c.fails("register_namespace", namespace=word,
                  workflow_execution_retention_period=sec(1))
    await c.fails("register_namespace", namespace=BIG,
                  workflow_execution_retention_period=sec(86400))
    await c.fails("register_namespace", namespace=c.ns,
                  workflow_execution_retention_period=sec(86400))
    await c.fails("update_namespace", namespace=NOWHERE)
    await c.fails("describe_task_queue", namespace=NOWHERE, task_queue=TaskQueue(name=c.tq))
    await c.fails("describe_task_queue", namespace=c.ns)


async def case_refused_answers(c):
    """Answers that name a task of another kind or of another namespace."""
    run = await c.start()
    task = await c.poll()
    base = dict(task_token=task.task_token, identity=IDENTITY)
    await c.fails("respond_workflow_task_completed", namespace=NOWHERE, **base)
    await c.fails("respond_workflow_task_completed", namespace="temporal-system", **base)
    await c.fails("respond_activity_task_completed", namespace=c.ns, result=data("x"), **base)
    await c.fails("respond_workflow_task_failed", namespace=c.ns, cause=1, failure=app_failure(),
                  binary_checksum=BIG, **base)
    await c.terminate(run)
    await c.history(run)
