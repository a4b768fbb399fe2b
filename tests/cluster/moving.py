# SPDX-License-Identifier: MIT
"""What only memory knows when its owner goes: an update that no worker has accepted yet, and a query that a worker has taken or nobody
has asked for.  Workers are played by hand, callers ask once and without retries: who waits goes on waiting."""

import asyncio
import re
import uuid
from datetime import timedelta

import temporalio.api.command.v1 as command
import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.protocol.v1 as protocol
import temporalio.api.query.v1 as query
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.update.v1 as update
import temporalio.api.workflowservice.v1 as ws
from google.protobuf.duration_pb2 import Duration
from temporalio.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient

from fleet import SHARDS, Balancer
from world import NAMESPACE

LONG = timedelta(seconds=90)
FAILED = 3  # so often a task must fail until new updates are refused


def packed(name, body):
    message = protocol.Message(id=name, protocol_instance_id=name.rsplit("/", 1)[0])
    message.body.Pack(body)
    return message


class Run:
    """A workflow with a queue of its own, whose worker is this."""

    def __init__(self, service):
        self.service, self.name, self.queue = service, f"moved-{uuid.uuid4()}", f"moves-{uuid.uuid4()}"

    async def begin(self):
        await self.service.start_workflow_execution(ws.StartWorkflowExecutionRequest(
            namespace=NAMESPACE, workflow_id=self.name, workflow_type=common.WorkflowType(name="moved"),
            task_queue=taskqueue.TaskQueue(name=self.queue), request_id=self.name,
            workflow_task_timeout=Duration(seconds=60)), retry=True)
        assert await self.complete(await self.poll())
        return self

    async def poll(self):
        while True:
            try:
                task = await self.service.poll_workflow_task_queue(ws.PollWorkflowTaskQueueRequest(
                    namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=self.queue), identity="hand"), timeout=LONG)
            except RPCError as error:
                if error.status not in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.CANCELLED):
                    raise
                continue
            if task.task_token:
                return task

    async def fail(self, task):
        await self.service.respond_workflow_task_failed(ws.RespondWorkflowTaskFailedRequest(
            namespace=NAMESPACE, task_token=task.task_token, identity="hand",
            cause=enums.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE), retry=True)

    async def complete(self, task):
        """With all updates that it brings accepted and completed; False: nobody knows the task any more."""
        messages = []
        for asked in task.messages:
            request, name = update.Request(), asked.protocol_instance_id
            asked.body.Unpack(request)
            messages.append(packed(name + "/accept", update.Acceptance(
                accepted_request_message_id=asked.id, accepted_request_sequencing_event_id=asked.event_id,
                accepted_request=request)))
            messages.append(packed(name + "/complete", update.Response(meta=request.meta, outcome=update.Outcome(
                success=common.Payloads()))))
        commands = [command.Command(
            command_type=enums.CommandType.COMMAND_TYPE_PROTOCOL_MESSAGE,
            protocol_message_command_attributes=command.ProtocolMessageCommandAttributes(message_id=message.id))
            for message in messages]
        try:
            await self.service.respond_workflow_task_completed(ws.RespondWorkflowTaskCompletedRequest(
                namespace=NAMESPACE, task_token=task.task_token, identity="hand", commands=commands, messages=messages),
                retry=True)
            return True
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return False

    def update(self):
        return asyncio.create_task(self.service.update_workflow_execution(ws.UpdateWorkflowExecutionRequest(
            namespace=NAMESPACE, workflow_execution=common.WorkflowExecution(workflow_id=self.name),
            wait_policy=update.WaitPolicy(lifecycle_stage=enums.UpdateWorkflowExecutionLifecycleStage.
                                          UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED),
            request=update.Request(meta=update.Meta(update_id=str(uuid.uuid4())), input=update.Input(name="change"))),
            timeout=LONG))

    def query(self):
        return asyncio.create_task(self.service.query_workflow(ws.QueryWorkflowRequest(
            namespace=NAMESPACE, execution=common.WorkflowExecution(workflow_id=self.name),
            query=query.WorkflowQuery(query_type="broken")), timeout=LONG))

    async def answer(self, task):
        """That the query failed; a task that has gone elsewhere is nobody's concern."""
        try:
            await self.service.respond_query_task_completed(ws.RespondQueryTaskCompletedRequest(
                namespace=NAMESPACE, task_token=task.task_token, error_message="query on fire",
                completed_type=enums.QueryResultType.QUERY_RESULT_TYPE_FAILED), retry=True)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise

    async def until(self, call, serve):
        """Serves tasks until the call has ended."""
        async def serving():
            while True:
                await serve(await self.poll())
        worker = asyncio.create_task(serving())
        await asyncio.wait([call, worker], timeout=LONG.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


def outcome(call):
    """What a call has ended with, in words."""
    if not call.done():
        return "no answer"
    error = call.exception()
    if error:
        return f"{error.status.name}: {error.message}" if isinstance(error, RPCError) else repr(error)
    answer = call.result()
    done = enums.UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
    return "done" if getattr(answer, "stage", None) == done and answer.outcome.HasField("success") else repr(answer)


class Moves:
    def __init__(self, report, fleet, ask, service):
        self.report, self.fleet, self.ask, self.service = report, fleet, ask, service

    async def run(self):
        return await Run(self.service).begin()

    def owner(self, role, kind, name):
        status, text = self.ask("ring", "owner", f"{kind}:{NAMESPACE}/{name}")
        found = re.search(r"owner .*:(\d+)", text)
        return next(member for member in self.fleet.having(role) if found and member.rpc[role] == int(found[1]))

    async def back(self, member):
        member.start()
        await asyncio.to_thread(self.fleet.wait, len(self.fleet.members))

    async def split(self, many):
        status, text = await asyncio.to_thread(self.ask, "shard", "split", "--shards", str(many))
        if status:
            raise RuntimeError(text)

    # ---- updates ----

    async def refused(self):
        """Its task has failed so often that a new update would be refused; this one is not new."""
        run = await self.run()
        call = run.update()
        for _ in range(FAILED):
            await run.fail(await run.poll())
        held = await run.poll()
        attempt = held.attempt
        await self.split(2 * SHARDS)
        known = not call.done() and await run.complete(held)
        if not known:
            await run.until(call, run.complete)
        await asyncio.wait([call], timeout=LONG.total_seconds())
        self.report.check("an update is not refused when its shard moves while its task fails",
                          attempt == FAILED + 1 and outcome(call) == "done", f"attempt {attempt}, {outcome(call)}")

    async def handed_out(self):
        """The worker has it, in a task of which nothing is written: the next owner takes what the worker made of it."""
        run = await self.run()
        call = run.update()
        held = await run.poll()
        await self.split(SHARDS)
        known = await run.complete(held)
        if not known:
            await run.until(call, run.complete)
        await asyncio.wait([call], timeout=LONG.total_seconds())
        self.report.check("the end of an update's task is taken where its shard has moved", known and outcome(call) == "done",
                          outcome(call) + ("" if known else ", the task was not known"))

    async def killed(self):
        run = await self.run()
        call = run.update()
        held = await run.poll()
        owner = self.owner("history", "workflow", run.name)
        owner.kill()
        await run.complete(held)
        await run.until(call, run.complete)
        self.report.check("an update goes on when its owner is killed", outcome(call) == "done", outcome(call))
        await self.back(owner)

    # ---- queries ----

    async def asked_again(self, how, name):
        """A worker has the query, and the host that it was to be answered to goes."""
        run = await self.run()
        call = run.query()
        held = await run.poll()
        owner = self.owner("matching", "queue", run.queue)
        await asyncio.to_thread(getattr(owner, how))
        await run.answer(held)
        await run.until(call, run.answer)
        self.report.check(name, outcome(call) == "INVALID_ARGUMENT: query on fire", outcome(call))
        return owner

    async def nobody_yet(self):
        """The queue's next host knows of no worker when the query comes; its next poll does."""
        run = await self.run()
        owner = self.owner("matching", "queue", run.queue)
        await asyncio.to_thread(owner.stop)
        call = run.query()
        await asyncio.sleep(0.5)
        await run.until(call, run.answer)
        self.report.check("a query waits for workers to find a queue that has moved",
                          outcome(call) == "INVALID_ARGUMENT: query on fire", outcome(call))
        return owner


async def play(arguments, report, fleet):
    from parts import tenonctl
    ask = tenonctl(arguments, fleet)
    if not ask:
        report.check("moves", False, "no tenonctl beside tenond")
        return
    balancer = await Balancer(fleet.addresses(), fleet.ports.take()).start()
    moves = Moves(report, fleet, ask, (await ServiceClient.connect(ConnectConfig(target_host=balancer.address))).workflow_service)
    await moves.refused()
    await moves.handed_out()
    await moves.killed()
    for how, name in (("stop", "a query that a worker has is asked again when its matching host ends"),
                      ("kill", "a query that a worker has is asked again when its matching host is killed")):
        await moves.back(await moves.asked_again(how, name))
    await moves.back(await moves.nobody_yet())
    balancer.close()
