# SPDX-License-Identifier: MIT
"""Nexus operations: asked for by a workflow, answered by a worker at once, later, never, or not well; cancelled."""

import asyncio

from temporalio.api.command.v1 import (Command, RequestCancelNexusOperationCommandAttributes,
                                       ScheduleNexusOperationCommandAttributes)
from temporalio.api.common.v1 import Callback
from temporalio.api.failure.v1 import Failure, NexusHandlerFailureInfo
from temporalio.api.nexus.v1 import (CancelOperationResponse, EndpointSpec, EndpointTarget, HandlerError,
                                     Response, StartOperationResponse, UnsuccessfulOperationError)
from temporalio.api.nexus.v1 import Failure as NexusFailure
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest

import commands
from driver import IDENTITY, POLL_LIMIT, TaskQueue, app_failure, sec, text
from normal import normalise

SCHEDULE, CANCEL = 17, 18  # COMMAND_TYPE_*_NEXUS_OPERATION


async def endpoint(c):
    name = f"{c.server.run_word}-{c.name}"
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace=c.ns, task_queue=c.tq + "-handlers"))
    await c.send("create_nexus_endpoint", CreateNexusEndpointRequest(spec=EndpointSpec(name=name, target=target)), quiet=True)
    return name


def ask(name, operation="op", **kw):
    base = dict(endpoint=name, service="svc", operation=operation, input=text("in"), nexus_header={"a": "b"})
    base.update(kw)
    return Command(command_type=SCHEDULE, schedule_nexus_operation_command_attributes=
                   ScheduleNexusOperationCommandAttributes(**base))


async def handler(c):
    for _ in range(3):
        task = await c.call("poll_nexus_task_queue", quiet=True, limit=POLL_LIMIT, namespace=c.ns, identity=IDENTITY,
                            task_queue=TaskQueue(name=c.tq + "-handlers"))
        if task.task_token:
            c.record("poll_nexus_task_queue", normalise(task, c.names))
            return task
    raise TimeoutError("no Nexus task")


async def answer(c, task, **variant):
    await c.call("respond_nexus_task_completed", namespace=c.ns, identity=IDENTITY, task_token=task.task_token,
                 response=Response(**variant))


async def begun(c, *operations):
    run = await c.start()
    await c.step(*operations)
    return run


async def case_nexus_at_once(c):
    name = await endpoint(c)
    run = await begun(c, ask(name))
    await answer(c, await handler(c), start_operation=StartOperationResponse(
        sync_success=StartOperationResponse.Sync(payload=text("out"))))
    await c.step(commands.complete())
    await c.history(run)


async def case_nexus_by_a_workflow(c):
    name = await endpoint(c)
    run = await begun(c, ask(name, schedule_to_close_timeout=sec(60)))
    task = await handler(c)
    asked = task.request.start_operation
    inner = await c.start("inner", task_queue=TaskQueue(name=c.tq + "-inner"), request_id=asked.request_id,
                          completion_callbacks=[Callback(nexus=Callback.Nexus(url=asked.callback, header=asked.callback_header))])
    await answer(c, task, start_operation=StartOperationResponse(
        async_success=StartOperationResponse.Async(operation_token="token")))
    await c.step()
    await c.describe(run)
    work = await c.poll(c.tq + "-inner")
    await c.done(work, commands.complete("inner's"))
    await c.step(commands.complete())
    await c.history(run)
    await c.history(inner, "history of the handler")
    for _ in range(200):
        seen = await c.look("describe_workflow_execution", DescribeWorkflowExecutionRequest(namespace=c.ns, execution=inner))
        if seen.callbacks[0].state == 5:
            break
        await asyncio.sleep(0.05)
    c.record("the handler's callback", seen.callbacks[0].state)


async def case_nexus_failures(c):
    name = await endpoint(c)
    run = await begun(c, ask(name, "refused"))
    task = await handler(c)
    await c.call("respond_nexus_task_failed", namespace=c.ns, identity=IDENTITY, task_token=task.task_token,
                 error=HandlerError(error_type="BAD_REQUEST", failure=NexusFailure(message="no", metadata={"k": "v"},
                                                                                    details=b'"d"')))
    await c.step(ask(name, "failed"))
    await answer(c, await handler(c), start_operation=StartOperationResponse(operation_error=UnsuccessfulOperationError(
        operation_state="failed", failure=NexusFailure(message="it failed"))))
    await c.step(ask(name, "canceled"))
    await answer(c, await handler(c), start_operation=StartOperationResponse(operation_error=UnsuccessfulOperationError(
        operation_state="canceled", failure=NexusFailure(message="it was canceled"))))
    await c.step(ask(name, "a failure"))
    await answer(c, await handler(c), start_operation=StartOperationResponse(failure=app_failure("its own", non_retryable=True)))
    await c.step(ask(name, "a handler's failure"))
    task = await handler(c)
    await c.call("respond_nexus_task_failed", namespace=c.ns, identity=IDENTITY, task_token=task.task_token,
                 failure=Failure(message="not found", nexus_handler_failure_info=NexusHandlerFailureInfo(type="NOT_FOUND")))
    await c.step(ask(name, "late", schedule_to_close_timeout=sec(0.5)))
    await c.step(commands.complete())
    await c.history(run)


async def case_nexus_failures_in_older_words(c):
    name = await endpoint(c)
    deeper = NexusFailure(message="below", stack_trace="line 1", metadata={"z": "1", "a": "2"}, details=b'{"b":[1, 2]}',
                          cause=NexusFailure(message="the bottom"))
    ours = {"type": "temporal.api.failure.v1.Failure"}
    failures = (NexusFailure(message="ours", stack_trace="line 2", metadata=ours, cause=deeper,
                             details=b'{"applicationFailureInfo":{"type":"Kind","nonRetryable":true},"source":"Test"}'),
                NexusFailure(message="a handler's", metadata={"type": "nexus.HandlerError"},
                             details=b'{"type":"CONFLICT","retryableOverride":false}'),
                NexusFailure(message="an operation's", metadata={"type": "nexus.OperationError"}, details=b'{"state":"failed"}'),
                deeper)
    run = await begun(c, ask(name))
    for failure in failures:
        await answer(c, await handler(c), start_operation=StartOperationResponse(operation_error=UnsuccessfulOperationError(
            operation_state="failed", failure=failure)))
        await c.step(ask(name))
        if failure.metadata.get("type") == "nexus.OperationError":  # the reference loses that the handler has failed
            failure = failures[0]
        task = await handler(c)
        await c.call("respond_nexus_task_failed", namespace=c.ns, identity=IDENTITY, task_token=task.task_token,
                     error=HandlerError(error_type="BAD_REQUEST", failure=failure))
        await c.step(ask(name))
    await c.terminate(run)
    await c.history(run)


async def case_nexus_cancel(c):
    name = await endpoint(c)
    run = await begun(c, ask(name))
    await answer(c, await handler(c), start_operation=StartOperationResponse(
        async_success=StartOperationResponse.Async(operation_token="token")))
    await c.step()
    await c.signal(run)
    await c.step(Command(command_type=CANCEL, request_cancel_nexus_operation_command_attributes=
                         RequestCancelNexusOperationCommandAttributes(scheduled_event_id=5)))
    await answer(c, await handler(c), cancel_operation=CancelOperationResponse())
    await c.step()
    await c.describe(run)
    await c.terminate(run)
    await c.history(run)


async def case_nexus_wrong_commands(c):
    name = await endpoint(c)
    nameless = ask(name, "")
    wrong = (ask("no-such-endpoint"), nameless, ask(name, service=""), ask(""),
             ask(name, schedule_to_close_timeout=sec(-1)), ask(name, nexus_header={"Nexus-Callback-X": "y", "Timeout": "1"}),
             Command(command_type=CANCEL, request_cancel_nexus_operation_command_attributes=
                     RequestCancelNexusOperationCommandAttributes(scheduled_event_id=77)), Command(command_type=SCHEDULE))
    for i, command in enumerate(wrong):
        run = await c.start(f"w{i}", task_queue=TaskQueue(name=f"{c.tq}-{i}"))
        task = await c.poll(f"{c.tq}-{i}")
        await c.done_fails(task, command)
        if command is nameless:  # taken in, but nobody can be asked for it
            await c.until_event(run, "EVENT_TYPE_NEXUS_OPERATION_FAILED")
        await c.terminate(run)
        await c.history(run)


async def case_nexus_wrong_answers(c):
    name = await endpoint(c)
    run = await begun(c, ask(name))
    task = await handler(c)
    await c.fails("respond_nexus_task_completed", namespace=c.ns, task_token=b"x", response=Response())
    await c.fails("respond_nexus_task_failed", namespace=c.ns, task_token=task.task_token)
    await c.fails("respond_nexus_task_completed", namespace=c.ns, task_token=task.task_token, response=Response(
        start_operation=StartOperationResponse(async_success=StartOperationResponse.Async())))
    await c.fails("respond_nexus_task_failed", namespace=c.ns, task_token=task.task_token, failure=app_failure())
    await answer(c, task, start_operation=StartOperationResponse(
        sync_success=StartOperationResponse.Sync(payload=text("out"))))
    await c.fails("respond_nexus_task_completed", namespace=c.ns, task_token=task.task_token, response=Response())
    await c.terminate(run)
    await c.history(run)
