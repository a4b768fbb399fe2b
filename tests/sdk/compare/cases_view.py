# SPDX-License-Identifier: MIT
"""What is seen from outside: list and count, task queues, namespaces, queries that cannot be
answered. Visibility lags: a case waits, with a limit, until the rows that it made are there."""

import asyncio

from temporalio.api.common.v1 import Memo, SearchAttributes, WorkflowExecution, WorkflowType
from temporalio.api.namespace.v1 import NamespaceConfig, UpdateNamespaceInfo
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest, DescribeNamespaceRequest)

import commands as do
from cases_flow import number
from driver import RPCError, data, sec, text
from normal import normalise, row


async def until_count(c, query, count):
    for _ in range(200):
        found = await c.server.call("count_workflow_executions", CountWorkflowExecutionsRequest(
            namespace=c.ns, query=query))
        if found.count == count:
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{query}: {found.count} rows, not {count}")


CONDITIONS = (
    "ExecutionStatus = 'Running'", "ExecutionStatus != 'Running'",
    "ExecutionStatus IN ('Completed', 'Failed')", "ExecutionStatus = 1", "CmpInt > 2",
    "CmpInt >= 2 AND CmpInt < 4", "CmpInt BETWEEN 1 AND 3", "NOT CmpInt = 2",
    "CmpKeyword = 'key-3'", "CmpKeyword IN ('key-1', 'key-2', 'nothing')",
    "CmpKeyword NOT IN ('key-1', 'key-2')", "CmpKeyword STARTS_WITH 'key-'",
    "CmpDouble <= 1.0", "CmpBool = true", "CmpText = 'word3'", "CmpText = 'common'",
    "CmpTime > '2024-01-03T12:00:00Z'",
    "CmpTime BETWEEN '2024-01-01T12:00:00Z' AND '2024-01-04T12:00:00Z'",
    "CmpList = 'item2'", "CmpList IN ('item1', 'item4')", "CmpList = 'all'",
    "CloseTime IS NULL", "CloseTime IS NOT NULL", "StartTime > '2020-01-01T00:00:00Z'",
    "(CmpInt = 1 OR CmpInt = 2) AND ExecutionStatus = 'Terminated'",
    "WorkflowId = '{wid}3'", "WorkflowId STARTS_WITH '{wid}'",
    "TaskQueue = '{queue}'", "HistoryLength > 3", "ExecutionDuration > '1h'",
    "`CmpInt` = 1", 'CmpKeyword = "key-4"', "ParentWorkflowId IS NULL",
    "RootWorkflowId IS NOT NULL")


async def case_list_and_count(c):
    """Rows are told apart by a run-wide unique type; found ids are compared as a sorted list."""
    kind = f"{c.server.run_word}-listed"
    for i in range(5):
        await c.start(f"w{i}", workflow_type=WorkflowType(name=kind),
                      memo=Memo(fields={"n": number(i)}),
                      search_attributes=SearchAttributes(indexed_fields={
                          "CmpInt": number(i), "CmpKeyword": text(f"key-{i}"),
                          "CmpDouble": number(i / 2), "CmpBool": number("true" if i % 2 else "false"),
                          "CmpText": text(f"common word{i}"),
                          "CmpTime": text(f"2024-01-0{i + 1}T00:00:00Z"),
                          "CmpList": number(f'["all","item{i}"]')}))
    ends = {}
    for i in range(5):
        task = await c.call("poll_workflow_task_queue", quiet=True, namespace=c.ns,
                            task_queue=TaskQueue(name=c.tq))
        ends[task.workflow_execution.workflow_id] = task
    await c.call("respond_workflow_task_completed", quiet=True, namespace=c.ns,
                 task_token=ends[c.wid("w0")].task_token, commands=[do.complete()])
    await c.call("respond_workflow_task_completed", quiet=True, namespace=c.ns,
                 task_token=ends[c.wid("w1")].task_token, commands=[do.fail()])
    await c.terminate(WorkflowExecution(workflow_id=c.wid("w2")))
    await until_count(c, f"WorkflowType = '{kind}'", 5)
    await until_count(c, f"WorkflowType = '{kind}' AND ExecutionStatus != 'Running'", 3)
    for condition in CONDITIONS:
        condition = condition.format(wid=c.wid("w"), queue=c.tq)
        query = f"WorkflowType = '{kind}' AND {condition}"
        try:
            rows = (await c.call("list_workflow_executions", quiet=True, namespace=c.ns,
                                 query=query)).executions
        except RPCError:
            continue
        c.record("list " + c.names.text(condition),
                 sorted(c.names.text(r.execution.workflow_id) for r in rows))
        await c.call("count_workflow_executions", namespace=c.ns, query=query)
    rows = (await c.call("list_workflow_executions", quiet=True, namespace=c.ns,
                         query=f"WorkflowType = '{kind}'")).executions
    c.record("whole rows", [row(r, c.names) for r in sorted(
        rows, key=lambda r: r.execution.workflow_id)])
    groups = await c.call("count_workflow_executions", quiet=True, namespace=c.ns,
                          query=f"WorkflowType = '{kind}' GROUP BY ExecutionStatus")
    c.record("groups", {"count": groups.count, "groups": sorted(
        [g.count, g.group_values[0].data.decode(), str(sorted(g.group_values[0].metadata.items()))]
        for g in groups.groups)})
    seen, token = [], b""
    while True:
        page = await c.call("list_workflow_executions", quiet=True, namespace=c.ns, page_size=2,
                            query=f"WorkflowType = '{kind}'", next_page_token=token)
        seen.extend(r.execution.workflow_id for r in page.executions)
        token = page.next_page_token
        if not token:
            break
    # The open ones first, then the closed ones, in each group the latest first.
    c.record("pages", {"rows": [c.names.text(w) for w in seen]})
    for i in (3, 4):
        await c.terminate(WorkflowExecution(workflow_id=c.wid(f"w{i}")))


async def case_describe_task_queue(c):
    run = await c.start()
    await c.step()
    found = await c.call("describe_task_queue", quiet=True, namespace=c.ns,
                         task_queue=TaskQueue(name=c.tq), task_queue_type=1)
    c.record("pollers", [normalise(p, c.names) for p in found.pollers])
    parts = await c.call("list_task_queue_partitions", quiet=True, namespace=c.ns,
                         task_queue=TaskQueue(name=c.tq))
    # How many there are, and on which host, is the server's own affair.
    c.record("partitions", {"activity": bool(parts.activity_task_queue_partitions),
                            "workflow": bool(parts.workflow_task_queue_partitions)})
    await c.terminate(run)


async def until_namespace(c, name, test=lambda found: True):
    for _ in range(200):
        found = await c.look("describe_namespace", DescribeNamespaceRequest(namespace=name))
        if found and test(found):
            return found
        await asyncio.sleep(0.1)
    raise TimeoutError(f"namespace {name} is not seen")


def namespace_record(c, found):
    info = normalise(found.namespace_info, c.names)
    for name in ("capabilities", "limits", "supports_schedules"):
        info.pop(name, None)
    return {"info": info, "config": normalise(found.config, c.names),
            "global": found.is_global_namespace}


async def case_namespaces(c):
    name = f"{c.server.run_word}-namespace"
    await c.call("register_namespace", namespace=name, description="about", owner_email="a@b",
                 workflow_execution_retention_period=sec(86400), data={"k": "v"})
    c.record("described", namespace_record(c, await until_namespace(c, name)))
    await c.fails("register_namespace", namespace=name,
                  workflow_execution_retention_period=sec(86400))
    await c.call("update_namespace", quiet=True, namespace=name,
                 update_info=UpdateNamespaceInfo(description="new", data={"k2": "v2"}),
                 config=NamespaceConfig(workflow_execution_retention_ttl=sec(2 * 86400)))
    found = await until_namespace(c, name, lambda f: f.namespace_info.description == "new")
    c.record("described after the update", namespace_record(c, found))
    listed, token = [], b""
    while True:
        page = await c.call("list_namespaces", quiet=True, page_size=2, next_page_token=token)
        listed.extend(n.namespace_info.name for n in page.namespaces)
        token = page.next_page_token
        if not token:
            break
    c.record("listed", {"default": "default" in listed, "system": "temporal-system" in listed,
                        "new": name in listed})
    await c.fails("update_namespace", namespace=name,
                  config=NamespaceConfig(workflow_execution_retention_ttl=sec(1)))
    for _ in range(100):
        try:
            await c.server.call("start_workflow_execution", start_in(c, name))
            break
        except RPCError:
            await asyncio.sleep(0.1)
    run = WorkflowExecution(workflow_id=c.wid())
    page = await c.call("get_workflow_execution_history", quiet=True, namespace=name, execution=run)
    c.record("history in the new namespace", [normalise(e, c.names) for e in page.history.events])
    await c.call("terminate_workflow_execution", namespace=name, workflow_execution=run)


def start_in(c, namespace):
    from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest
    return StartWorkflowExecutionRequest(**c.start_fields(namespace=namespace))


async def case_query_unanswerable(c):
    fresh = await c.start("fresh", task_queue=TaskQueue(name=c.tq + "-nobody"),
                          workflow_start_delay=sec(60))
    query = WorkflowQuery(query_type="q", query_args=data("a"))
    await c.fails("query_workflow", namespace=c.ns, execution=fresh, query=query)
    await c.terminate(fresh)
    await c.fails("query_workflow", namespace=c.ns, execution=fresh, query=query)
    failing = await c.start("failing")
    for _ in range(3):
        task = await c.poll()
        await c.call("respond_workflow_task_failed", namespace=c.ns, task_token=task.task_token,
                     cause=24, identity="compare-driver")
    await c.fails("query_workflow", namespace=c.ns, execution=failing, query=query)
    await c.terminate(failing)
    await c.fails("query_workflow", namespace=c.ns, execution=failing, query=WorkflowQuery())
    await c.fails("query_workflow", namespace=c.ns, execution=failing)


async def case_search_attributes_of_a_run(c):
    run = await c.start(search_attributes=SearchAttributes(indexed_fields={
        "CmpKeyword": text("before")}))
    await c.step(do.upsert(CmpKeyword=text("after"), CmpInt=number(11)))
    query = f"WorkflowId = '{run.workflow_id}' AND CmpKeyword = 'after' AND CmpInt = 11"
    await until_count(c, query, 1)
    rows = await c.call("list_workflow_executions", quiet=True, namespace=c.ns, query=query)
    c.record("row", normalise(rows.executions[0], c.names))
    await c.terminate(run)
    await until_count(c, f"{query} AND ExecutionStatus = 'Terminated'", 1)
