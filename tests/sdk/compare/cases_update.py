# SPDX-License-Identifier: MIT
"""Updates: what is written of them, what is not, and what their callers are told."""

import asyncio

from google.protobuf.any_pb2 import Any
from temporalio.api.command.v1 import Command, ProtocolMessageCommandAttributes
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.protocol.v1 import Message
from temporalio.api.update.v1 import (Acceptance, Input, Meta, Outcome, Rejection, Request, Response,
                                      UpdateRef, WaitPolicy)
from temporalio.api.workflowservice.v1 import request_response_pb2 as wsv

import commands as do
from driver import IDENTITY, app_failure, data, sec

ACCEPTED, COMPLETED = 2, 3


def update_fields(c, run, id, stage=COMPLETED, **fields):
    base = dict(namespace=c.ns,
                workflow_execution=WorkflowExecution(workflow_id=run.workflow_id),
                wait_policy=WaitPolicy(lifecycle_stage=stage),
                request=Request(meta=Meta(update_id=id, identity=IDENTITY), request_id="request-" + id,
                                input=Input(name="change", args=data("a"))))
    base.update(fields)
    return base


def update(c, run, id, stage=COMPLETED, **fields):
    return c.aside("update_workflow_execution", **update_fields(c, run, id, stage, **fields))


def message(task_message, body, kind):
    packed = Any()
    packed.Pack(body)
    return Message(id=f"{task_message.protocol_instance_id}/{kind}",
                   protocol_instance_id=task_message.protocol_instance_id, body=packed)


def accept(m):
    return message(m, Acceptance(accepted_request_message_id=m.id,
                                 accepted_request_sequencing_event_id=m.event_id), "accept")


def reject(m):
    return message(m, Rejection(rejected_request_message_id=m.id, failure=app_failure("no thanks")),
                   "reject")


def complete(m, value="u"):
    id = m.protocol_instance_id
    return message(m, Response(meta=Meta(update_id=id, identity=IDENTITY),
                               outcome=Outcome(success=data(value))), "complete")


def fail(m):
    id = m.protocol_instance_id
    return message(m, Response(meta=Meta(update_id=id, identity=IDENTITY),
                               outcome=Outcome(failure=app_failure("the update broke"))), "complete")


def tell(m):
    """The command that puts a message among the commands."""
    return Command(command_type=14, protocol_message_command_attributes=ProtocolMessageCommandAttributes(
        message_id=m.id))


async def respond(c, task, messages, *commands, told=True, **fields):
    named = [tell(m) for m in messages if told and not m.id.endswith("/reject")]
    return await c.done(task, *named, *commands, messages=messages, **fields)


async def idle(c, **fields):
    run = await c.start(**fields)
    await c.step()
    return run


async def finish(c, run):
    await c.signal(run)
    await c.step(do.complete())
    await c.history(run)


async def case_update_completed(c):
    run = await idle(c)
    begun = update(c, run, "u")
    task = await c.poll()
    await c.history(run, "history while speculative")
    m = task.messages[0]
    await respond(c, task, [accept(m), complete(m)])
    await c.joined(begun)
    await c.history(run, "history after")
    await finish(c, run)


async def case_update_rejected(c):
    run = await idle(c)
    begun = update(c, run, "u")
    task = await c.poll()
    await respond(c, task, [reject(task.messages[0])])
    await c.joined(begun)
    await c.history(run, "history after")
    await finish(c, run)


async def case_update_failed(c):
    run = await idle(c)
    begun = update(c, run, "u")
    task = await c.poll()
    m = task.messages[0]
    await respond(c, task, [accept(m), fail(m)])
    await c.joined(begun)
    await finish(c, run)


async def case_update_messages_without_commands(c):
    run = await idle(c)
    begun = update(c, run, "u")
    task = await c.poll()
    m = task.messages[0]
    await respond(c, task, [accept(m), complete(m)], do.timer("t", 60), told=False)
    await c.joined(begun)
    await finish(c, run)


async def case_update_commands_between(c):
    run = await idle(c)
    begun = update(c, run, "u")
    task = await c.poll()
    m = task.messages[0]
    said = [accept(m), complete(m)]
    await c.done(task, tell(said[0]), do.timer("t", 60), tell(said[1]), messages=said)
    await c.joined(begun)
    await finish(c, run)


async def case_update_in_first_task(c):
    run = await c.start()
    begun = update(c, run, "u")
    await asyncio.sleep(0.3)
    task = await c.poll()
    m = task.messages[0]
    await respond(c, task, [accept(m), complete(m)])
    await c.joined(begun)
    await finish(c, run)


async def case_update_accepted_then_completed(c):
    run = await idle(c)
    begun = update(c, run, "u", ACCEPTED)
    task = await c.poll()
    m = task.messages[0]
    await respond(c, task, [accept(m)])
    await c.joined(begun)
    ref = UpdateRef(workflow_execution=run, update_id="u")
    await c.call("poll_workflow_execution_update", namespace=c.ns, update_ref=ref, identity=IDENTITY)
    waiting = c.aside("poll_workflow_execution_update", namespace=c.ns, update_ref=ref,
                      identity=IDENTITY, wait_policy=WaitPolicy(lifecycle_stage=COMPLETED))
    await c.signal(run)
    task = await c.poll()
    await respond(c, task, [complete(m)])
    await c.joined(waiting)
    again = update(c, run, "u")
    await c.joined(again)
    await finish(c, run)
    await c.call("poll_workflow_execution_update", namespace=c.ns, update_ref=ref, identity=IDENTITY)


async def case_update_signal_before_task(c):
    run = await idle(c)
    begun = update(c, run, "u")
    await asyncio.sleep(0.3)
    await c.signal(run)
    await c.history(run, "history with signal")
    task = await c.poll()
    await respond(c, task, [reject(task.messages[0])])
    await c.joined(begun)
    await c.history(run)


async def case_update_signal_during_task(c):
    run = await idle(c)
    begun = update(c, run, "u")
    task = await c.poll()
    await c.signal(run)
    await c.history(run, "history with buffered signal")
    await respond(c, task, [reject(task.messages[0])])
    await c.joined(begun)
    await c.step(do.complete())
    await c.history(run)


async def case_update_unprocessed(c):
    run = await idle(c)
    begun = update(c, run, "u")
    await c.done(await c.poll())
    await c.joined(begun)
    await finish(c, run)


async def case_update_task_failed(c):
    run = await idle(c)
    begun = update(c, run, "u")
    task = await c.poll()
    await c.call("respond_workflow_task_failed", namespace=c.ns, identity=IDENTITY, cause=24,
                 task_token=task.task_token, failure=app_failure("task broke"))
    task = await c.poll()
    m = task.messages[0]
    await respond(c, task, [accept(m), complete(m)])
    await c.joined(begun)
    await c.history(run)


async def case_update_task_timeout(c):
    run = await idle(c, workflow_task_timeout=sec(1))
    begun = update(c, run, "u")
    await c.poll()
    task = await c.poll()
    m = task.messages[0]
    await respond(c, task, [accept(m), complete(m)])
    await c.joined(begun)
    await c.history(run)


async def case_update_wrong_message(c):
    run = await idle(c)
    begun = update(c, run, "u")
    task = await c.poll()
    await c.done_fails(task, messages=[complete(task.messages[0])])
    await c.joined(begun)
    await c.step(do.complete())
    await c.history(run)


async def case_update_unknown_message(c):
    run = await c.start()
    task = await c.poll()
    await c.done_fails(task, messages=[complete(Message(id="m", protocol_instance_id="nobody"))])
    await c.step(do.complete())
    await c.history(run)


async def case_update_terminated(c):
    run = await idle(c)
    begun = update(c, run, "u")
    await asyncio.sleep(0.3)
    await c.terminate(run)
    await c.joined(begun)
    await c.history(run)


async def case_update_terminated_during_task(c):
    run = await idle(c)
    begun = update(c, run, "u")
    await c.poll()
    await c.terminate(run)
    await c.joined(begun)
    await c.history(run)


async def case_update_open_at_close(c):
    run = await idle(c)
    begun = update(c, run, "u")
    task = await c.poll()
    await respond(c, task, [accept(task.messages[0])], do.complete())
    await c.joined(begun)
    await c.history(run)
    await c.fails("update_workflow_execution", **update_fields(c, run, "v"))
    await c.call("update_workflow_execution", **update_fields(c, run, "u"))


async def case_update_continued_as_new(c):
    run = await idle(c)
    begun = update(c, run, "u")
    task = await c.poll()
    m = task.messages[0]
    await respond(c, task, [accept(m), complete(m)], do.continue_as_new(c.tq))
    await c.joined(begun)
    await c.step(do.complete())
    await c.history(run)
    await c.history(WorkflowExecution(workflow_id=run.workflow_id), "history of the next run")


async def case_update_inline_next(c):
    """One that comes while a task runs goes out with the answer to it."""
    run = await idle(c)
    first = update(c, run, "u")
    task = await c.poll()
    second = update(c, run, "v")
    await asyncio.sleep(0.3)
    answer = await respond(c, task, [reject(task.messages[0])], return_new_workflow_task=True)
    await c.joined(first)
    m = answer.workflow_task.messages[0]
    await respond(c, answer.workflow_task, [accept(m), complete(m)])
    await c.joined(second)
    await finish(c, run)


async def case_update_refused(c):
    run = await idle(c)
    bad = update_fields(c, run, "u")
    await c.fails("update_workflow_execution", **{**bad, "request": None})
    await c.fails("update_workflow_execution", **{**bad, "request": Request(meta=Meta(update_id="u"))})
    await c.fails("update_workflow_execution",
                  **{**bad, "request": Request(meta=Meta(update_id="u"), input=Input())})
    await c.fails("update_workflow_execution", **{**bad, "wait_policy": WaitPolicy(lifecycle_stage=1)})
    await c.fails("update_workflow_execution", **{**bad, "first_execution_run_id": "another"})
    await c.fails("update_workflow_execution",
                  **{**bad, "workflow_execution": WorkflowExecution(workflow_id=c.wid("none"))})
    await c.fails("poll_workflow_execution_update", namespace=c.ns)
    await c.fails("poll_workflow_execution_update", namespace=c.ns,
                  update_ref=UpdateRef(workflow_execution=run, update_id="none"))
    await finish(c, run)


async def case_update_failing_run(c):
    run = await c.start()
    for _ in range(2):
        task = await c.poll()
        await c.call("respond_workflow_task_failed", namespace=c.ns, identity=IDENTITY, cause=24,
                     task_token=task.task_token, failure=app_failure("task broke"))
    await c.fails("update_workflow_execution", **update_fields(c, run, "u"))
    await c.step(do.complete())


def operations(c, which, id, start=None, **fields):
    Operation = wsv.ExecuteMultiOperationRequest.Operation
    begin = wsv.StartWorkflowExecutionRequest(**{**c.start_fields(which), **(start or {})})
    change = update_fields(c, WorkflowExecution(workflow_id=c.wid(which)), id)
    change.update(fields)
    return dict(namespace=c.ns, operations=[
        Operation(start_workflow=begin),
        Operation(update_workflow=wsv.UpdateWorkflowExecutionRequest(**change))])


async def case_update_with_start(c):
    begun = c.aside("execute_multi_operation", **operations(c, "w", "u"))
    task = await c.poll()
    m = task.messages[0]
    await respond(c, task, [accept(m), complete(m)])
    await c.joined(begun)
    run = task.workflow_execution
    await c.fails("execute_multi_operation", **operations(c, "w", "v"))
    await c.call("execute_multi_operation", **operations(c, "w", "u"))
    begun = c.aside("execute_multi_operation",
                    **operations(c, "w", "x", {"workflow_id_conflict_policy": 2}))
    task = await c.poll()
    await respond(c, task, [reject(task.messages[0])])
    await c.joined(begun)
    await finish(c, run)


async def case_update_with_start_aborted(c):
    begun = c.aside("execute_multi_operation", **operations(c, "w", "u"))
    task = await c.poll()
    await c.terminate(task.workflow_execution)
    await c.joined(begun)


async def case_update_with_start_refused(c):
    await c.fails("execute_multi_operation", namespace=c.ns)
    await c.fails("execute_multi_operation", **operations(c, "w", "u", {"cron_schedule": "@daily"}))
    await c.fails("execute_multi_operation", **operations(c, "w", "u", {"workflow_start_delay": sec(5)}))
    await c.fails("execute_multi_operation", **operations(c, "w", "u", {"request_eager_execution": True}))
    await c.fails("execute_multi_operation", **operations(c, "w", "u", {"namespace": "elsewhere"}))
    await c.fails("execute_multi_operation", **operations(c, "w", "u", first_execution_run_id="r"))
    await c.fails("execute_multi_operation", **operations(
        c, "w", "u", workflow_execution=WorkflowExecution(workflow_id="another")))
    await c.fails("execute_multi_operation", **operations(c, "w", "u", {"workflow_id": ""}))
