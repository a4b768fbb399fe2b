# SPDX-License-Identifier: MIT
"""What is done to runs and namespaces from outside: deletion."""

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import NamespaceState
from temporalio.api.operatorservice.v1 import DeleteNamespaceRequest
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest, DescribeNamespaceRequest, RegisterNamespaceRequest)
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

import flows
from harness import execution


async def delete(env, handle):
    env.forget(handle)
    return await env.client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(namespace=env.namespace, workflow_execution=execution(handle)), retry=True)


async def until_gone(env, handle):
    """Neither found by its id nor listed, and its history cannot be read."""
    async def gone():
        try:
            await handle.describe()
            return False
        except RPCError as error:
            assert error.status == RPCStatusCode.NOT_FOUND, error
            return True
    await env.until(gone, "a run that is not found")

    async def unlisted():
        return (await env.client.count_workflows(f"WorkflowId = '{handle.id}'")).count == 0
    await env.until(unlisted, "a run that is not listed")
    error = await env.raises(RPCError, handle.fetch_history())
    assert error.status == RPCStatusCode.NOT_FOUND, error


async def case_delete_closed(env):
    handle = await env.start(flows.Bytes.run, b"x")
    await handle.result()
    await delete(env, handle)
    await until_gone(env, handle)


async def case_delete_open(env):
    handle = await env.start(flows.Waiting.run)
    await delete(env, handle)
    await until_gone(env, handle)


async def case_delete_frees_the_id(env):
    first = await env.start(flows.Waiting.run)
    await env.raises(WorkflowAlreadyStartedError, env.start(flows.Waiting.run, id=first.id))
    await delete(env, first)

    async def again():
        try:
            return await env.start(flows.Waiting.run, id=first.id)
        except WorkflowAlreadyStartedError:
            return None
    second = await env.until(again, "a start under the id of a run that was deleted")
    assert second.result_run_id != first.result_run_id
    await delete(env, env.client.get_workflow_handle(first.id, run_id=second.result_run_id))
    await until_gone(env, env.client.get_workflow_handle(first.id))


async def case_delete_one_run_of_two(env):
    first = await env.start(flows.Waiting.run)
    await first.terminate()
    second = await env.start(flows.Waiting.run, id=first.id)
    old = env.client.get_workflow_handle(first.id, run_id=first.result_run_id)
    env.tracker.started.discard((first.id, first.result_run_id))
    await env.client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(namespace=env.namespace, workflow_execution=execution(old)), retry=True)

    async def one_left():
        return (await env.client.count_workflows(f"WorkflowId = '{first.id}'")).count == 1
    await env.until(one_left, "one run of two that is listed")
    found = await second.describe()
    assert found.run_id == second.result_run_id, found
    await second.signal(flows.Waiting.end)
    await second.result()


async def case_delete_what_is_not_there(env):
    handle = env.client.get_workflow_handle(env.id("nobody"))
    error = await env.raises(RPCError, delete(env, handle))
    assert error.status == RPCStatusCode.NOT_FOUND, error
    assert error.message == f"workflow not found for ID: {handle.id}", error.message


async def case_delete_namespace(env):
    """The name is free at once; the namespace goes under another one, with all of its runs."""
    name = env.id("doomed")
    service = env.client.workflow_service

    async def register():
        try:
            await service.register_namespace(RegisterNamespaceRequest(
                namespace=name, workflow_execution_retention_period=Duration(seconds=86400)))
        except RPCError as error:
            return error.status == RPCStatusCode.ALREADY_EXISTS
        return True
    await env.until(register, "a new namespace")
    client = await Client.connect(env.address, namespace=name)

    async def start(number):
        async def started():
            try:
                return await client.start_workflow(
                    flows.Waiting.run, id=f"w{number}", task_queue="q",
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING)
            except RPCError:
                return None
        return await env.until(started, "a start in the new namespace")
    handles = [await start(number) for number in range(20)]
    await handles[0].terminate()
    answer = await env.client.operator_service.delete_namespace(DeleteNamespaceRequest(namespace=name), retry=True)
    assert answer.deleted_namespace.startswith(f"{name}-deleted-"), answer
    error = await env.raises(RPCError, handles[1].describe())
    assert error.status == RPCStatusCode.NOT_FOUND, error
    await env.until(register, "another namespace of the same name")
    assert (await client.count_workflows("")).count == 0

    async def gone():
        try:
            found = await service.describe_namespace(DescribeNamespaceRequest(namespace=answer.deleted_namespace))
        except RPCError as error:
            assert error.status == RPCStatusCode.NOT_FOUND, error
            return True
        assert found.namespace_info.state == NamespaceState.NAMESPACE_STATE_DELETED, found
        return False
    await env.until(gone, "the end of a deleted namespace", seconds=60)
    await start(0)


async def case_delete_namespace_refused(env):
    for request, status in (
            (DeleteNamespaceRequest(), RPCStatusCode.INVALID_ARGUMENT),
            (DeleteNamespaceRequest(namespace="a", namespace_id="b"), RPCStatusCode.INVALID_ARGUMENT),
            (DeleteNamespaceRequest(namespace=env.id("nowhere")), RPCStatusCode.NOT_FOUND),
            (DeleteNamespaceRequest(namespace="temporal-system"), RPCStatusCode.FAILED_PRECONDITION)):
        error = await env.raises(RPCError, env.client.operator_service.delete_namespace(request))
        assert error.status == status, (request, error)
