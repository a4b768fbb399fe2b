# SPDX-License-Identifier: MIT
"""Activities of their own, without a workflow: started, looked at, waited for, ended, listed."""

import asyncio

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Callback, Link, OnConflictOptions, SearchAttributes
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.workflowservice.v1 import CountActivityExecutionsRequest

from driver import IDENTITY, ActivityType, TaskQueue, app_failure, data, retry, sec, text


def fields(c, which="a", **kw):
    base = dict(namespace=c.ns, activity_id=c.wid(which), activity_type=ActivityType(name="act"),
                task_queue=TaskQueue(name=c.tq), start_to_close_timeout=sec(20), input=data("in"),
                identity=IDENTITY, request_id=c.request_id())
    base.update(kw)
    return {k: v for k, v in base.items() if v is not None}


async def begin(c, which="a", **kw):
    return await c.call("start_activity_execution", **fields(c, which, **kw))


def named(c, which="a", **kw):
    return dict(namespace=c.ns, activity_id=c.wid(which), **kw)


async def look(c, which="a", **kw):
    return await c.call("describe_activity_execution", **named(
        c, which, include_input=True, include_outcome=True, include_heartbeat_details=True,
        include_last_failure=True, **kw))


async def outcome(c, which="a"):
    return await c.call("poll_activity_execution", **named(c, which))


async def case_solo(c):
    await begin(c, user_metadata=UserMetadata(summary=text("summary")))
    await look(c)
    task = await c.poll_activity()
    await c.heartbeat(task)
    await look(c)
    await c.activity_done(task)
    await outcome(c)
    await look(c)
    await c.fails("respond_activity_task_completed", namespace=c.ns, task_token=task.task_token)
    await c.fails("record_activity_task_heartbeat", namespace=c.ns, task_token=task.task_token)


async def case_solo_ids(c):
    first = fields(c)
    await c.call("start_activity_execution", **first)
    await c.call("start_activity_execution", **first)
    await c.fails("start_activity_execution", **fields(c))
    await begin(c, id_conflict_policy=2)
    await c.call("terminate_activity_execution", **named(c, reason="enough", request_id="t"))
    await c.fails("start_activity_execution", **fields(c, id_reuse_policy=3))
    await begin(c, id_reuse_policy=2)
    await c.call("respond_activity_task_completed_by_id", **named(c, result=data("out")))
    await c.fails("start_activity_execution", **fields(c, id_reuse_policy=2))
    await begin(c, id_reuse_policy=1)
    await c.call("delete_activity_execution", **named(c))


async def case_solo_retries(c):
    await begin(c, retry_policy=retry(2, 1, 3))
    await c.activity_failed(await c.poll_activity(), app_failure("first"))
    await look(c)
    await c.activity_failed(await c.poll_activity(), app_failure("second", non_retryable=True))
    await outcome(c)
    await look(c)


async def case_solo_retries_run_out(c):
    await begin(c, retry_policy=retry(0.1, 1, 2))
    await c.activity_failed(await c.poll_activity(), app_failure("first"))
    await c.activity_failed(await c.poll_activity(), app_failure("second"))
    await outcome(c)


async def case_solo_time_outs(c):
    once = retry(attempts=1)
    await begin(c, "start", start_to_close_timeout=sec(1), retry_policy=once)
    await c.poll_activity()
    await outcome(c, "start")
    await begin(c, "beat", heartbeat_timeout=sec(1), retry_policy=once)
    await c.heartbeat(await c.poll_activity())
    await outcome(c, "beat")
    await begin(c, "waits", schedule_to_start_timeout=sec(1), retry_policy=once)
    await outcome(c, "waits")
    await look(c, "waits")


async def case_solo_cancel(c):
    await begin(c)
    task = await c.poll_activity()
    await c.call("request_cancel_activity_execution", **named(c, reason="why", request_id="c1", identity="op"))
    await c.fails("request_cancel_activity_execution", **named(c, reason="why", request_id="c2"))
    await c.heartbeat(task)
    await look(c)
    await c.call("respond_activity_task_canceled", namespace=c.ns, task_token=task.task_token,
                 identity=IDENTITY, details=data("gone"))
    await outcome(c)
    await look(c)
    await c.call("request_cancel_activity_execution", **named(c, reason="why", request_id="c1", identity="op"))
    await c.fails("request_cancel_activity_execution", **named(c, request_id="c3"))
    await c.fails("terminate_activity_execution", **named(c, request_id="t"))


async def case_solo_cancel_before_start(c):
    await begin(c)
    await c.call("request_cancel_activity_execution", **named(c, reason="why", request_id="c1", identity="op"))
    await outcome(c)
    await look(c)


async def case_solo_terminate(c):
    await begin(c)
    await c.call("terminate_activity_execution", **named(c, reason="enough", request_id="t", identity="op"))
    await c.call("terminate_activity_execution", **named(c, reason="enough", request_id="t", identity="op"))
    await c.fails("terminate_activity_execution", **named(c, reason="enough", request_id="u"))
    await outcome(c)
    await c.fails("respond_activity_task_completed_by_id", **named(c))


async def case_solo_by_id(c):
    await begin(c)
    await c.fails("record_activity_task_heartbeat_by_id", **named(c))
    await c.poll_activity()
    await c.call("record_activity_task_heartbeat_by_id", **named(c, details=data("beat"), identity="me"))
    await c.call("respond_activity_task_failed_by_id", **named(c, failure=app_failure("f", non_retryable=True)))
    await outcome(c)


async def case_solo_start_delay(c):
    await begin(c, start_delay=sec(2), schedule_to_close_timeout=sec(30))
    await look(c)
    await c.activity_done(await c.poll_activity())
    await outcome(c)


async def case_solo_watch(c):
    started = await begin(c)
    found = await c.call("describe_activity_execution", quiet=True, **named(c))
    waiting = c.aside("describe_activity_execution", **named(
        c, run_id=started.run_id, long_poll_token=found.long_poll_token))
    await asyncio.sleep(0.2)
    await c.poll_activity()
    await c.joined(waiting)
    await c.call("terminate_activity_execution", **named(c))


async def case_solo_links(c):
    link = Link(workflow_event=Link.WorkflowEvent(namespace=c.ns, workflow_id="w", run_id="r"))
    await begin(c, links=[link])
    await begin(c, links=[link], id_conflict_policy=2,
                on_conflict_options=OnConflictOptions(attach_request_id=True, attach_links=True))
    await look(c)
    await c.call("terminate_activity_execution", **named(c))


async def case_solo_listed(c):
    kind = ActivityType(name=c.server.run_word + "-listed")
    await begin(c, "a", activity_type=kind, search_attributes=SearchAttributes(
        indexed_fields={"CmpKeyword": text("solo")}))
    await begin(c, "b", activity_type=kind)
    await c.call("terminate_activity_execution", **named(c, "b"))
    query = f"ActivityType = '{kind.name}'"
    for _ in range(200):
        found = await c.server.call("count_activity_executions", CountActivityExecutionsRequest(
            namespace=c.ns, query=query + " AND ExecutionStatus = 'Terminated'"))
        if found.count == 1:
            break
        await asyncio.sleep(0.1)
    for words in (query, f"ActivityId = '{c.wid('a')}'", query + " AND ExecutionStatus = 'Running'",
                  query + " AND CmpKeyword = 'solo'", f"TaskQueue = '{c.tq}'"):
        await c.call("count_activity_executions", namespace=c.ns, query=words)
    await c.call("count_workflow_executions", namespace=c.ns, query=f"TaskQueue = '{c.tq}'")
    await c.fails("list_activity_executions", namespace=c.ns, query="Nothing = 1")
    await c.fails("list_activity_executions", namespace=c.ns, query="ActivityId =")
    await c.call("terminate_activity_execution", **named(c, "a"))


async def case_solo_refused(c):
    start = "start_activity_execution"
    await c.fails(start, **fields(c, activity_id=""))
    await c.fails(start, **fields(c, activity_id="x" * 1001))
    await c.fails(start, **fields(c, activity_type=None))
    await c.fails(start, **fields(c, task_queue=None))
    await c.fails(start, **fields(c, task_queue=TaskQueue(name="/_sys/x")))
    await c.fails(start, **fields(c, start_to_close_timeout=None))
    await c.fails(start, **fields(c, start_to_close_timeout=Duration(seconds=-1)))
    await c.fails(start, **fields(c, start_delay=Duration(seconds=-1)))
    await c.fails(start, **fields(c, request_id="x" * 1001))
    await c.fails(start, **fields(c, identity="x" * 1001))
    await c.fails(start, **fields(c, retry_policy=retry(-1)))
    await c.fails(start, **fields(c, user_metadata=UserMetadata(summary=text("x" * 500))))
    await c.fails(start, **fields(c, completion_callbacks=[Callback(nexus=Callback.Nexus(url="http://a/b"))]))
    await c.fails(start, **fields(c, on_conflict_options=OnConflictOptions(attach_completion_callbacks=True)))
    await c.fails(start, **fields(c, on_conflict_options=OnConflictOptions(attach_request_id=True)))
    for method in ("describe_activity_execution", "poll_activity_execution", "terminate_activity_execution",
                   "request_cancel_activity_execution", "delete_activity_execution"):
        await c.fails(method, namespace=c.ns)
        await c.fails(method, **named(c, "nobody"))
        await c.fails(method, **named(c, "nobody", run_id="no uuid"))
        await c.fails(method, **named(c, "x" * 1001))
    await c.fails("describe_activity_execution", **named(c, long_poll_token=b"x"))
    await c.fails("respond_activity_task_completed_by_id", **named(c, "nobody"))
    await c.fails("describe_workflow_execution", namespace=c.ns, execution={"workflow_id": c.wid("a")})


async def case_operators_of_workflows_activities(c):
    """The newer calls, which name an activity of a workflow or one of its own."""
    import commands as do
    run = await c.start()
    await c.step(do.activity(c.tq))
    who = dict(namespace=c.ns, workflow_id=run.workflow_id, run_id=run.run_id, activity_id="a1")
    await c.call("pause_activity_execution", **who, reason="why", request_id="p")
    await c.describe(run)
    await c.call("unpause_activity_execution", **who)
    await c.call("reset_activity_execution", **who)
    await c.fails("update_activity_execution_options", **who)
    await c.fails("pause_activity_execution", namespace=c.ns)
    await c.activity_done(await c.poll_activity())
    await c.step(do.complete())
    await c.history(run)
