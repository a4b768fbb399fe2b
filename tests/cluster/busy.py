# SPDX-License-Identifier: MIT
"""The load of tests/crash and more of what a server does: children, updates, cancels, terminations, heartbeats, retries."""

import asyncio
import uuid

import temporalio.api.command.v1 as command
import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.protocol.v1 as protocol
import temporalio.api.update.v1 as update
import temporalio.api.workflowservice.v1 as ws
from google.protobuf.any_pb2 import Any

import fleet  # noqa: F401  it tells where tests/crash is
from world import NAMESPACE, World, failure, payloads


class Busy(World):
    def plan_more(self, workflow_id):
        return {"child": workflow_id + "-child"} if self.random.random() < 0.1 else {}

    async def do_more(self, workflow_id):
        chance = self.random.random()
        if chance < 0.15:
            await self.update(workflow_id)
        elif chance < 0.2:
            await self.repeat("cancel", "request_cancel_workflow_execution", ws.RequestCancelWorkflowExecutionRequest(
                namespace=NAMESPACE, workflow_execution=common.WorkflowExecution(workflow_id=workflow_id),
                request_id=str(uuid.uuid4()), reason="enough"), workflow=workflow_id)
        elif chance < 0.25:
            if await self.repeat("terminate", "terminate_workflow_execution", ws.TerminateWorkflowExecutionRequest(
                    namespace=NAMESPACE, workflow_execution=common.WorkflowExecution(workflow_id=workflow_id),
                    reason="enough"), workflow=workflow_id):
                self.done.add(workflow_id)

    async def repeat(self, what, method, request, **facts):
        """Asked again until it is known to be in or refused; None if it is not in."""
        while not self.stop.is_set():
            refusals = self.refusals
            response = await self.call(what, method, request, **facts)
            if response is not None or self.refusals != refusals:
                return response
            await asyncio.sleep(0.05)
        return None

    async def update(self, workflow_id):
        """Waits for its end for a moment: the workflow may have ended, and then it is refused."""
        name = str(uuid.uuid4())
        request = ws.UpdateWorkflowExecutionRequest(
            namespace=NAMESPACE, workflow_execution=common.WorkflowExecution(workflow_id=workflow_id),
            wait_policy=update.WaitPolicy(lifecycle_stage=
                enums.UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED),
            request=update.Request(meta=update.Meta(update_id=name, identity="client"),
                                   input=update.Input(name="add", args=payloads(1))))
        response = await self.call(None, "update_workflow_execution", request)
        if response is not None and response.outcome.WhichOneof("value") == "success":
            self.log.write(what="update", outcome="ok", workflow=workflow_id, update=name)

    def answer_more(self, task):
        commands, messages = [], []
        for message in task.messages:
            asked = update.Request()
            if not message.body.Unpack(asked):
                continue
            name = asked.meta.update_id
            for body in (update.Acceptance(accepted_request_message_id=message.id, accepted_request=asked,
                                           accepted_request_sequencing_event_id=message.event_id),
                         update.Response(meta=asked.meta, outcome=update.Outcome(success=payloads(name)))):
                packed, its = Any(), f"{name}/{type(body).__name__}"
                packed.Pack(body)
                messages.append(protocol.Message(id=its, protocol_instance_id=message.protocol_instance_id, body=packed))
                commands.append(command.Command(
                    command_type=enums.CommandType.COMMAND_TYPE_PROTOCOL_MESSAGE,
                    protocol_message_command_attributes=command.ProtocolMessageCommandAttributes(message_id=its)))
        return commands, messages

    async def fail_attempt(self, task, name):
        chance = self.random.random()
        if chance < 0.2:
            await self.call("heartbeat", "record_activity_task_heartbeat", ws.RecordActivityTaskHeartbeatRequest(
                namespace=NAMESPACE, task_token=task.task_token, identity=name, details=payloads(1)),
                workflow=task.workflow_execution.workflow_id)
        if chance > 0.1 or task.attempt > 2:
            return False
        await self.call("failure", "respond_activity_task_failed", ws.RespondActivityTaskFailedRequest(
            namespace=NAMESPACE, task_token=task.task_token, identity=name,
            failure=failure.Failure(message="again", application_failure_info=failure.ApplicationFailureInfo(type="again"))),
            workflow=task.workflow_execution.workflow_id, of_run=task.workflow_execution.run_id,
            activity=task.activity_id, attempt=task.attempt)
        return True
