# SPDX-License-Identifier: MIT
"""What is done to runs from outside: deletion."""

from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
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
