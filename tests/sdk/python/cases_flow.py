# SPDX-License-Identifier: MIT
"""Signals, queries, children, cancellation, chains of runs, ids, visibility, namespaces."""

import asyncio
import uuid
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.namespace.v1 import NamespaceConfig, UpdateNamespaceInfo
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest, ListNamespacesRequest, RegisterNamespaceRequest,
    UpdateNamespaceRequest)
from temporalio.client import (
    Client, WorkflowContinuedAsNewError, WorkflowExecutionStatus, WorkflowFailureError,
    WorkflowQueryFailedError, WorkflowQueryRejectedError)
from temporalio.common import (
    QueryRejectCondition, RetryPolicy, SearchAttributePair, TypedSearchAttributes,
    WorkflowIDConflictPolicy, WorkflowIDReusePolicy)
from temporalio.exceptions import (
    CancelledError, TerminatedError, TimeoutError, WorkflowAlreadyStartedError)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy

import flows


async def prepare(env):
    for name, kind in (("SdkKeyword", IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD),
                       ("SdkInt", IndexedValueType.INDEXED_VALUE_TYPE_INT)):
        try:
            await env.client.operator_service.add_search_attributes(AddSearchAttributesRequest(
                namespace=env.namespace, search_attributes={name: kind}))
        except RPCError as error:
            if "already exist" not in error.message.lower():
                print(f"# cannot add search attribute {name}: {error.message}", flush=True)


# ---- signals and queries -------------------------------------------------------------------------

async def case_signals_keep_their_order(env):
    handle = await env.start(flows.Waiting.run)
    for i in range(30):
        await handle.signal(flows.Waiting.add, str(i))
    await handle.signal(flows.Waiting.end)
    assert await handle.result() == [str(i) for i in range(30)]


async def case_signal_runs_activity(env):
    handle = await env.start(flows.SignalRunsActivity.run, 2)
    await handle.signal(flows.SignalRunsActivity.go, "a")
    await handle.signal(flows.SignalRunsActivity.go, "b")
    assert sorted(await handle.result()) == ["echo a", "echo b"]


async def case_signal_with_start(env):
    name = env.id("sws")
    first = await env.start(flows.Waiting.run, "arg", id=name, start_signal="add",
                            start_signal_args=["one"])
    second = await env.start(flows.Waiting.run, "arg", id=name, start_signal="add",
                             start_signal_args=["two"])
    assert first.result_run_id is None or first.result_run_id == second.result_run_id
    await first.signal(flows.Waiting.end)
    assert sorted(await first.result()) == ["arg", "one", "two"]


async def case_signal_to_closed_or_missing(env):
    handle = await env.start(flows.Hello.run, "x")
    await handle.result()
    error = await env.raises(RPCError, handle.signal("add", "late"))
    assert error.status == RPCStatusCode.NOT_FOUND, error
    error = await env.raises(RPCError, env.client.get_workflow_handle(env.id("no")).signal("add"))
    assert error.status == RPCStatusCode.NOT_FOUND, error


async def case_query_running(env):
    handle = await env.start(flows.Waiting.run, "first")
    assert await handle.query(flows.Waiting.all) == ["first"]
    await handle.signal(flows.Waiting.end)
    await handle.result()


async def case_query_reads_own_signals(env):
    handle = await env.start(flows.Waiting.run)
    for i in range(15):
        await handle.signal(flows.Waiting.add, str(i))
        assert await handle.query(flows.Waiting.all) == [str(k) for k in range(i + 1)]
    await handle.signal(flows.Waiting.end)
    await handle.result()


async def case_queries_side_by_side(env):
    handle = await env.start(flows.Waiting.run, "x")
    answers = await asyncio.gather(*(handle.query(flows.Waiting.all) for _ in range(8)))
    assert answers == [["x"]] * 8, answers
    await handle.terminate()


async def case_query_closed(env):
    handle = await env.start(flows.Waiting.run, "kept")
    await handle.signal(flows.Waiting.end)
    await handle.result()
    assert await handle.query(flows.Waiting.all) == ["kept"]
    error = await env.raises(WorkflowQueryRejectedError, handle.query(
        flows.Waiting.all, reject_condition=QueryRejectCondition.NOT_OPEN))
    assert error.status == WorkflowExecutionStatus.COMPLETED, error


async def case_query_fails(env):
    handle = await env.start(flows.Waiting.run)
    error = await env.raises(WorkflowQueryFailedError, handle.query(flows.Waiting.broken))
    assert "query on fire" in str(error), error
    error = await env.raises(WorkflowQueryFailedError, handle.query("no such query"))
    assert "no such query" in str(error), error
    await handle.terminate()


async def case_query_stack_trace(env):
    handle = await env.start(flows.Waiting.run)
    trace = await handle.query("__stack_trace")
    assert "Waiting" in trace, trace
    await handle.terminate()


async def case_query_without_a_worker(env):
    handle = await env.start(flows.Waiting.run, task_queue=env.id("nobody"))
    error = await env.raises(RPCError, handle.query(
        flows.Waiting.all, rpc_timeout=timedelta(seconds=2)))
    assert error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED,
                            RPCStatusCode.FAILED_PRECONDITION), error
    await handle.terminate()


# ---- children ------------------------------------------------------------------------------------

async def child_of(env, kind, args, *more, child=None):
    child = child or env.id("child")
    handle = await env.start(flows.ChildOf.run, kind, args, child, *more)
    return child, await handle.result(), handle


async def case_child_result(env):
    child, result, handle = await child_of(env, "Hello", ["kid"])
    assert result == "result echo kid", result
    found = await env.client.get_workflow_handle(child).describe()
    assert found.parent_id == handle.id, found


async def case_child_failure(env):
    _, result, _ = await child_of(env, "Fails", [])
    assert result == "ApplicationError: Purpose: on purpose", result


async def case_child_retries(env):
    _, result, _ = await child_of(env, "FailsUntil", [3], 0, 5)
    assert result == "result 3", result


async def case_child_times_out(env):
    _, result, _ = await child_of(env, "Sleeps", [60], 1)
    assert result.startswith("TimeoutError"), result


async def case_child_terminated(env):
    child = env.id("child")
    handle = await env.start(flows.ChildOf.run, "Waiting", [], child)
    await env.until_kind(handle, "CHILD_WORKFLOW_EXECUTION_STARTED")
    await env.client.get_workflow_handle(child).terminate("by test")
    assert (await handle.result()).startswith("TerminatedError")


async def case_child_already_started(env):
    other = await env.start(flows.Waiting.run)
    _, result, _ = await child_of(env, "Hello", ["x"], child=other.id)
    assert result.startswith("WorkflowAlreadyStartedError"), result
    await other.terminate()


async def case_child_cancel_wait(env):
    child = env.id("child")
    result = await env.run(flows.CancelsChild.run, child,
                           int(ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED))
    assert result == "CancelledError", result
    found = await env.client.get_workflow_handle(child).describe()
    assert found.status == WorkflowExecutionStatus.CANCELED, found.status


async def case_child_cancel_try(env):
    result = await env.run(flows.CancelsChild.run, env.id("child"),
                           int(ChildWorkflowCancellationType.TRY_CANCEL))
    assert result == "CancelledError", result


async def left_child(env, policy, fail=False):
    child = env.id("left")
    parent = await env.start(flows.ChildLeft.run, child, int(policy), fail)
    if fail:
        await env.raises(WorkflowFailureError, parent.result())
    else:
        await parent.result()
    return env.client.get_workflow_handle(child)


async def case_parent_close_policy_terminate(env):
    error = await env.raises(WorkflowFailureError, (await left_child(
        env, ParentClosePolicy.TERMINATE)).result())
    assert isinstance(error.cause, TerminatedError), error.cause


async def case_parent_close_policy_request_cancel(env):
    error = await env.raises(WorkflowFailureError, (await left_child(
        env, ParentClosePolicy.REQUEST_CANCEL, fail=True)).result())
    assert isinstance(error.cause, CancelledError), error.cause


async def case_parent_close_policy_abandon(env):
    child = await left_child(env, ParentClosePolicy.ABANDON)
    await child.signal(flows.Waiting.end)
    assert sorted(await child.result()) == ["child", "from parent"]


# ---- other workflows, cancel, terminate ----------------------------------------------------------

async def case_signal_external(env):
    target = await env.start(flows.Waiting.run)
    assert await env.run(flows.Reaches.run, target.id, "signal") == "done"
    await target.signal(flows.Waiting.end)
    assert await target.result() == ["from outside"]


async def case_signal_external_not_found(env):
    result = await env.run(flows.Reaches.run, env.id("nobody"), "signal")
    assert result.startswith("refused"), result


async def case_cancel_external(env):
    target = await env.start(flows.Cancelable.run)
    assert await env.run(flows.Reaches.run, target.id, "cancel") == "done"
    error = await env.raises(WorkflowFailureError, target.result())
    assert isinstance(error.cause, CancelledError), error.cause


async def case_cancel_external_not_found(env):
    result = await env.run(flows.Reaches.run, env.id("nobody"), "cancel")
    assert result.startswith("refused"), result


async def case_cancel_with_cleanup(env):
    handle = await env.start(flows.Cancelable.run)
    await env.until_kind(handle, "TIMER_STARTED")
    await handle.cancel()
    await handle.cancel()
    error = await env.raises(WorkflowFailureError, handle.result())
    assert isinstance(error.cause, CancelledError), error.cause
    kinds = await env.kinds(handle)
    assert "TIMER_CANCELED" in kinds and "ACTIVITY_TASK_COMPLETED" in kinds, kinds
    assert kinds.count("WORKFLOW_EXECUTION_CANCEL_REQUESTED") == 1, kinds
    assert (await handle.describe()).status == WorkflowExecutionStatus.CANCELED


async def case_cancel_ignored(env):
    handle = await env.start(flows.IgnoresCancel.run)
    await env.until_kind(handle, "TIMER_STARTED")
    await handle.cancel()
    assert await handle.result() == "went on"


async def case_terminate(env):
    handle = await env.start(flows.Waiting.run)
    await env.until_kind(handle, "WORKFLOW_TASK_COMPLETED")
    await handle.terminate("detail", reason="a reason")
    error = await env.raises(WorkflowFailureError, handle.result())
    assert isinstance(error.cause, TerminatedError) and error.cause.message == "a reason", error
    error = await env.raises(RPCError, handle.terminate())
    assert error.status == RPCStatusCode.NOT_FOUND, error


# ---- chains of runs ------------------------------------------------------------------------------

async def case_continue_as_new(env):
    handle = await env.start(flows.Again.run, 3)
    assert await handle.result() == "True 0"
    error = await env.raises(WorkflowContinuedAsNewError, handle.result(follow_runs=False))
    assert error.new_execution_run_id


async def case_workflow_retry(env):
    policy = RetryPolicy(initial_interval=timedelta(milliseconds=100), backoff_coefficient=1,
                         maximum_attempts=3)
    assert await env.run(flows.FailsUntil.run, 3, retry_policy=policy) == 3
    error = await env.raises(WorkflowFailureError, env.run(
        flows.FailsUntil.run, 9, retry_policy=policy))
    assert error.cause.message == "attempt 3", error.cause


async def case_workflow_failure(env):
    error = await env.raises(WorkflowFailureError, env.run(flows.Fails.run, "Special"))
    assert error.cause.type == "Special" and error.cause.details == ("detail", 7), error.cause


async def case_cron(env):
    handle = await env.start(flows.Ticks.run, cron_schedule="@every 1s")
    latest = env.client.get_workflow_handle(handle.id)

    async def third():
        events = await env.events(latest)
        first = events[0].workflow_execution_started_event_attributes
        return (first.cron_schedule == "@every 1s" and first.HasField("continued_failure")
                and first.last_completion_result.payloads[0].data == b"1")
    await env.until(third, "a run after a good and a bad one", 30)
    await latest.terminate()


async def case_run_timeout(env):
    error = await env.raises(WorkflowFailureError, env.run(
        flows.Sleeps.run, 60.0, run_timeout=timedelta(seconds=1)))
    assert isinstance(error.cause, TimeoutError), error.cause


async def case_execution_timeout(env):
    policy = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=2)
    handle = await env.start(flows.Sleeps.run, 60.0, execution_timeout=timedelta(seconds=2),
                             run_timeout=timedelta(seconds=1), retry_policy=policy)
    error = await env.raises(WorkflowFailureError, handle.result())
    assert isinstance(error.cause, TimeoutError), error.cause


async def case_start_delay(env):
    handle = await env.start(flows.Hello.run, "x", start_delay=timedelta(seconds=1))
    assert await handle.result() == "echo x"
    started = (await env.events(handle))[0]
    backoff = started.workflow_execution_started_event_attributes.first_workflow_task_backoff
    assert backoff.ToTimedelta() == timedelta(seconds=1), backoff


# ---- ids -----------------------------------------------------------------------------------------

async def case_id_reuse_policies(env):
    name = env.id("reuse")
    await env.run(flows.Hello.run, "x", id=name)
    error = await env.raises(WorkflowAlreadyStartedError, env.start(
        flows.Hello.run, "x", id=name, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE))
    assert error.run_id, error
    await env.raises(WorkflowAlreadyStartedError, env.start(
        flows.Hello.run, "x", id=name,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY))
    await env.raises(WorkflowFailureError, env.run(flows.Fails.run, id=name))
    assert await env.run(
        flows.Hello.run, "y", id=name,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY) == "echo y"


async def case_id_conflict_policies(env):
    name = env.id("conflict")
    first = await env.start(flows.Waiting.run, id=name)
    await env.raises(WorkflowAlreadyStartedError, env.start(flows.Waiting.run, id=name))
    second = await env.start(flows.Waiting.run, id=name,
                             id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING)
    assert second.result_run_id == first.result_run_id
    third = await env.start(flows.Waiting.run, id=name,
                            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING)
    assert third.result_run_id != first.result_run_id
    error = await env.raises(WorkflowFailureError, first.result())
    assert isinstance(error.cause, TerminatedError), error.cause
    await third.terminate()


# ---- what is told about a run --------------------------------------------------------------------

async def case_workflow_info(env):
    handle = await env.start(flows.TellsInfo.run, memo={"m": [1, 2]},
                             run_timeout=timedelta(seconds=50),
                             execution_timeout=timedelta(seconds=60),
                             task_timeout=timedelta(seconds=9))
    info = await handle.result()
    want = {"id": handle.id, "run": handle.result_run_id, "type": "TellsInfo", "attempt": 1,
            "queue": env.queue, "namespace": env.namespace, "run_timeout": 50.0,
            "execution_timeout": 60.0, "task_timeout": 9.0, "memo": [1, 2], "history_length": 3,
            "history_size": True, "suggested": False, "parent": None}
    got = {key: info[key] for key in want}
    assert got == want, got


async def case_memo_and_search_attribute_upserts(env):
    start = TypedSearchAttributes([SearchAttributePair(flows.KEYWORD, "at start")])
    handle = await env.start(flows.Upserts.run, memo={"kept": "old", "gone": 1},
                             search_attributes=start)
    out = await handle.result()
    assert out == {"memo": {"kept": "new", "added": 3}, "keyword": "upserted", "number": 42}, out
    found = await handle.describe()
    assert await found.memo() == {"kept": "new", "added": 3}, await found.memo()
    assert found.typed_search_attributes.get(flows.KEYWORD) == "upserted"
    query = f"WorkflowId = '{handle.id}' AND SdkKeyword = 'upserted' AND SdkInt > 41"

    async def listed():
        return [w async for w in env.client.list_workflows(query)]
    rows = await env.until(listed, "the row with the new values")
    assert rows[0].typed_search_attributes.get(flows.NUMBER) == 42


async def case_describe(env):
    handle = await env.start(flows.Waiting.run, static_summary="a summary")
    found = await handle.describe()
    assert found.id == handle.id and found.run_id == handle.result_run_id
    assert found.status == WorkflowExecutionStatus.RUNNING and found.workflow_type == "Waiting"
    assert found.task_queue == env.queue and found.close_time is None
    assert await found.static_summary() == "a summary", await found.static_summary()
    await handle.signal(flows.Waiting.end)
    await handle.result()
    found = await handle.describe()
    assert found.status == WorkflowExecutionStatus.COMPLETED and found.close_time
    assert found.history_length == len(await env.events(handle))


async def case_list_and_count(env):
    word = uuid.uuid4().hex[:8]
    handles = [await env.start(flows.Waiting.run, id=f"list-{word}-{i}") for i in range(4)]
    await handles[0].terminate()
    query = f"WorkflowId STARTS_WITH 'list-{word}'"

    async def counted(text, wanted):
        async def right():
            return (await env.client.count_workflows(text)).count == wanted
        await env.until(right, f"count {wanted} of {text}")
    await counted(query, 4)
    await counted(query + " AND ExecutionStatus = 'Running'", 3)
    rows = [w.id async for w in env.client.list_workflows(query, page_size=3)]
    assert sorted(rows) == [h.id for h in handles], rows
    groups = (await env.client.count_workflows(query + " GROUP BY ExecutionStatus")).groups
    assert sorted((g.count, *g.group_values) for g in groups) == [(1, "Terminated"), (3, "Running")]
    for handle in handles[1:]:
        await handle.terminate()


async def case_long_history_in_pages(env):
    length = await env.run(flows.LongHistory.run, 50)
    assert length > 256, length


async def case_binary_payloads(env):
    value = bytes(range(256)) * 1000
    assert await env.run(flows.Bytes.run, value) == value + b"\x00\xff\x00\xff"


async def case_result_by_long_poll(env):
    handle = await env.start(flows.Waiting.run)
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(1)
    assert not waiting.done()
    await handle.signal(flows.Waiting.end)
    assert await asyncio.wait_for(waiting, 5) == []


async def case_namespaces(env):
    service = env.client.workflow_service
    name = env.id("namespace")
    try:
        await service.register_namespace(RegisterNamespaceRequest(
            namespace=name, description="made by a test",
            workflow_execution_retention_period=Duration(seconds=86400)), retry=True)
    except RPCError as error:  # of the second try, when the answer to the first was lost
        assert error.status == RPCStatusCode.ALREADY_EXISTS, error

    async def there():
        try:
            return await service.describe_namespace(DescribeNamespaceRequest(namespace=name))
        except RPCError as error:
            assert error.status == RPCStatusCode.NOT_FOUND, error
            return None
    found = await env.until(there, "the new namespace")
    assert found.namespace_info.description == "made by a test"
    await service.update_namespace(UpdateNamespaceRequest(
        namespace=name, update_info=UpdateNamespaceInfo(description="changed"),
        config=NamespaceConfig(workflow_execution_retention_ttl=Duration(seconds=172800))), retry=True)

    async def changed():
        found = await there()
        return (found.namespace_info.description == "changed"
                and found.config.workflow_execution_retention_ttl.seconds == 172800)
    await env.until(changed, "the changed namespace")
    listed = [n.namespace_info.name for n in (
        await service.list_namespaces(ListNamespacesRequest(page_size=1000))).namespaces]
    assert name in listed and "default" in listed, listed
    client = await Client.connect(env.address, namespace=name)

    async def started():
        try:
            return await client.start_workflow(flows.Waiting.run, id="w", task_queue="q")
        except RPCError:
            return None
    handle = await env.until(started, "a start in the new namespace")
    await handle.terminate()


async def case_unknown_namespace(env):
    client = await Client.connect(env.address, namespace=env.id("nowhere"))
    error = await env.raises(RPCError, client.start_workflow(
        flows.Waiting.run, id="w", task_queue="q"))
    assert error.status == RPCStatusCode.NOT_FOUND, error
