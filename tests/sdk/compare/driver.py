# SPDX-License-Identifier: MIT
"""The raw-call driver: one Case plays both the client and the worker of its workflows over plain
gRPC, one call after another, so that the order of events is decided here and not by a race.
Every call and its answer (or its error, with the details) is recorded, normalised, for the
comparison; so is every history that a case reads."""

import asyncio
import importlib
import uuid
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import (
    ActivityType, Payload, Payloads, RetryPolicy, WorkflowExecution, WorkflowType)
from temporalio.api.common.v1.grpc_status_pb2 import GrpcStatus
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.taskqueue.v1 import StickyExecutionAttributes, TaskQueue
from temporalio.api.workflowservice.v1 import request_response_pb2 as wsv
from temporalio.service import ConnectConfig, RPCError, ServiceClient

from normal import Names, normalise

importlib.import_module("temporalio.api.errordetails.v1")
IDENTITY = "compare-driver"
CALL_LIMIT = timedelta(seconds=30)
POLL_LIMIT = timedelta(seconds=60)


def text(value):
    return Payload(metadata={"encoding": b"json/plain"}, data=b'"' + value.encode() + b'"')


def data(*values):
    return Payloads(payloads=[text(v) for v in values])


def sec(value):
    whole = int(value)
    return Duration(seconds=whole, nanos=int(round((value - whole) * 1e9)))


def retry(first=0.2, coefficient=1.0, attempts=0, longest=None, never=()):
    policy = RetryPolicy(initial_interval=sec(first), backoff_coefficient=coefficient,
                         maximum_attempts=attempts, non_retryable_error_types=list(never))
    if longest is not None:
        policy.maximum_interval.CopyFrom(sec(longest))
    return policy


def app_failure(message="boom", type_="Boom", non_retryable=False, delay=None, details=None):
    info = ApplicationFailureInfo(type=type_, non_retryable=non_retryable)
    if delay is not None:
        info.next_retry_delay.CopyFrom(sec(delay))
    if details is not None:
        info.details.CopyFrom(details)
    return Failure(message=message, source="compare", stack_trace="line 1", application_failure_info=info)


class Server:
    """One server under comparison and its connection."""

    def __init__(self, name, address, namespace):
        self.name, self.address, self.namespace = name, address, namespace
        self.run_word = "cmp" + uuid.uuid4().hex[:10]
        self.client = None

    async def connect(self):
        self.client = await ServiceClient.connect(ConnectConfig(target_host=self.address))

    async def call(self, method, request, limit=CALL_LIMIT):
        operation = getattr(self.client.workflow_service, method, None)
        if operation is None:
            operation = getattr(self.client.operator_service, method)
        return await operation(request, timeout=limit)


class Case:
    """One case on one server: its ids, its calls, its records."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.ns = server.namespace
        self.tq = f"{server.run_word}-{name}-tq"
        self.names = Names({server.run_word: "<run>", server.namespace: "<namespace>"})
        self.records = []
        self.event_types = set()
        self.workflows = set()
        self.failed_calls = 0
        self._requests = 0
        self._logged = set()

    def wid(self, which="w"):
        return f"{self.server.run_word}-{self.name}-{which}"

    def record(self, label, value):
        number = sum(1 for known, _ in self.records if known.split(" #")[0] == label)
        self.records.append((f"{label} #{number + 1}", value))

    # ---- calls -------------------------------------------------------------------------------

    async def call(self, method, quiet=False, limit=CALL_LIMIT, **fields):
        """Makes one call; a gRPC error is recorded and raised."""
        request_type = "".join(part.capitalize() for part in method.split("_")) + "Request"
        request = getattr(wsv, request_type)(**fields)
        return await self.send(method, request, quiet, limit)

    async def send(self, method, request, quiet=False, limit=CALL_LIMIT):
        try:
            response = await self.server.call(method, request, limit)
        except RPCError as error:
            self.record(f"{method} fails", self.error_data(error))
            self.failed_calls += 1
            raise
        if not quiet:
            self.record(method, normalise(response, self.names))
        return response

    def aside(self, method, **fields):
        """Begins a call that waits while the case goes on; joined() records how it ended."""
        request_type = "".join(part.capitalize() for part in method.split("_")) + "Request"
        request = getattr(wsv, request_type)(**fields)
        return method, asyncio.create_task(self.server.call(method, request, CALL_LIMIT))

    async def joined(self, begun):
        method, task = begun
        try:
            self.record(method, normalise(await task, self.names))
        except RPCError as error:
            self.failed_calls += 1
            self.record(f"{method} fails", self.error_data(error))

    async def look(self, method, request):
        """A call made only to wait for something: unrecorded; None while nothing is found."""
        try:
            return await self.server.call(method, request)
        except RPCError as error:
            if error.status.name != "NOT_FOUND":
                raise
            return None

    async def fails(self, method, **fields):
        """Makes a call whose failing (or not) is itself what is compared."""
        try:
            await self.call(method, **fields)
        except RPCError as error:
            return error
        return None

    def error_data(self, error):
        status = GrpcStatus()
        status.ParseFromString(error.raw_grpc_status)
        details = []
        for packed in status.details:
            kind = packed.type_url.rsplit("/", 1)[-1]
            details.append({"type": kind, "value": self._detail(packed)})
        return {"code": error.status.name, "message": self.names.text(error.message),
                "details": details}

    def _detail(self, packed):
        from google.protobuf import message_factory, descriptor_pool
        kind = packed.type_url.rsplit("/", 1)[-1]
        try:
            found = descriptor_pool.Default().FindMessageTypeByName(kind)
        except KeyError:
            return "<unknown type>"
        message = message_factory.GetMessageClass(found)()
        message.ParseFromString(packed.value)
        return normalise(message, self.names)

    def request_id(self):
        self._requests += 1
        return f"{self.server.run_word}-{self.name}-request-{self._requests}"

    async def start(self, which="w", **fields):
        """Starts a workflow; answers its WorkflowExecution."""
        response = await self.call("start_workflow_execution", **self.start_fields(which, **fields))
        self.workflows.add((self.wid(which), response.run_id))
        return WorkflowExecution(workflow_id=self.wid(which), run_id=response.run_id)

    def start_fields(self, which="w", **fields):
        base = dict(namespace=self.ns, workflow_id=self.wid(which),
                    workflow_type=WorkflowType(name="flow"), task_queue=TaskQueue(name=self.tq),
                    identity=IDENTITY, request_id=self.request_id(), input=data("in"),
                    workflow_task_timeout=sec(30))
        base.update(fields)
        return {k: v for k, v in base.items() if v is not None}

    async def signal(self, execution, name="sig", **fields):
        base = dict(namespace=self.ns, workflow_execution=execution, signal_name=name,
                    input=data("s"), identity=IDENTITY, request_id=self.request_id())
        base.update(fields)
        return await self.call("signal_workflow_execution", **base)

    async def cancel(self, execution, **fields):
        base = dict(namespace=self.ns, workflow_execution=execution, identity=IDENTITY,
                    request_id=self.request_id(), reason="asked")
        base.update(fields)
        return await self.call("request_cancel_workflow_execution", **base)

    async def terminate(self, execution, **fields):
        base = dict(namespace=self.ns, workflow_execution=execution, identity=IDENTITY,
                    reason="enough", details=data("why"))
        base.update(fields)
        return await self.call("terminate_workflow_execution", **base)

    async def describe(self, execution):
        return await self.call("describe_workflow_execution", namespace=self.ns,
                               execution=execution)

    # ---- the worker's side -------------------------------------------------------------------

    async def poll(self, queue=None, **fields):
        """Polls for a workflow task until there is one."""
        task_queue = queue if isinstance(queue, TaskQueue) else TaskQueue(name=queue or self.tq)
        for _ in range(3):
            task = await self.call("poll_workflow_task_queue", quiet=True, limit=POLL_LIMIT,
                                   namespace=self.ns, task_queue=task_queue, identity=IDENTITY,
                                   **fields)
            if task.task_token:
                self.record("poll_workflow_task_queue", normalise(task, self.names))
                return task
        raise TimeoutError(f"no workflow task on {task_queue.name}")

    def poll_aside(self, queue):
        """Begins a poll that waits while the case goes on; polled() records what it got."""
        return asyncio.create_task(self.server.call(
            "poll_workflow_task_queue", wsv.PollWorkflowTaskQueueRequest(
                namespace=self.ns, task_queue=queue, identity=IDENTITY), POLL_LIMIT))

    async def polled(self, waiting):
        task = await waiting
        self.record("poll_workflow_task_queue", normalise(task, self.names))
        return task

    async def done(self, task, *commands, **fields):
        return await self.call("respond_workflow_task_completed", namespace=self.ns,
                               task_token=task.task_token, identity=IDENTITY,
                               commands=list(commands), **fields)

    async def done_fails(self, task, *commands, **fields):
        try:
            await self.done(task, *commands, **fields)
        except RPCError as error:
            return error
        return None

    async def step(self, *commands, **fields):
        """Polls one workflow task and answers it with these commands."""
        task = await self.poll()
        await self.done(task, *commands, **fields)
        return task

    async def poll_activity(self, queue=None):
        task_queue = TaskQueue(name=queue or self.tq)
        for _ in range(3):
            task = await self.call("poll_activity_task_queue", quiet=True, limit=POLL_LIMIT,
                                   namespace=self.ns, task_queue=task_queue, identity=IDENTITY)
            if task.task_token:
                self.record("poll_activity_task_queue", normalise(task, self.names))
                return task
        raise TimeoutError(f"no activity task on {task_queue.name}")

    async def poll_activities(self, count):
        """Polls this many tasks, whose order in the queue does not matter; sorted by id."""
        tasks = []
        while len(tasks) < count:
            task = await self.call("poll_activity_task_queue", quiet=True, limit=POLL_LIMIT,
                                   namespace=self.ns, task_queue=TaskQueue(name=self.tq),
                                   identity=IDENTITY)
            if task.task_token:
                tasks.append(task)
        tasks.sort(key=lambda task: task.activity_id)
        for task in tasks:
            self.record("poll_activity_task_queue", normalise(task, self.names))
        return tasks

    async def activity_done(self, task, value="result"):
        return await self.call("respond_activity_task_completed", namespace=self.ns,
                               task_token=task.task_token, identity=IDENTITY, result=data(value))

    async def activity_failed(self, task, failure=None, **fields):
        return await self.call("respond_activity_task_failed", namespace=self.ns,
                               task_token=task.task_token, identity=IDENTITY,
                               failure=failure or app_failure(), **fields)

    async def heartbeat(self, task, value="beat"):
        return await self.call("record_activity_task_heartbeat", namespace=self.ns,
                               task_token=task.task_token, identity=IDENTITY, details=data(value))

    def sticky(self, which="sticky", limit=5.0):
        queue = TaskQueue(name=f"{self.server.run_word}-{self.name}-{which}", kind=2,
                          normal_name=self.tq)
        return queue, StickyExecutionAttributes(worker_task_queue=queue,
                                                schedule_to_start_timeout=sec(limit))

    # ---- what is kept ------------------------------------------------------------------------

    async def history(self, execution, label="history", **fields):
        """Reads a whole history, records it, and answers its events."""
        events, token = [], b""
        while True:
            page = await self.call("get_workflow_execution_history", quiet=True, namespace=self.ns,
                                   execution=execution, next_page_token=token, **fields)
            events.extend(page.history.events)
            token = page.next_page_token
            if not token:
                break
        if events and events[0].event_id == 1:
            run = events[0].workflow_execution_started_event_attributes.original_execution_run_id
            self.workflows.add((execution.workflow_id, run))
        self.event_types.update(EventType.Name(e.event_type) for e in events)
        self.record(label, {"events": [normalise(e, self.names) for e in events]})
        return events

    async def closed(self, execution):
        """Waits until the run is closed, without recording the waiting."""
        for _ in range(4):
            page = await self.call("get_workflow_execution_history", quiet=True, namespace=self.ns,
                                   execution=execution, wait_new_event=True,
                                   history_event_filter_type=2, limit=POLL_LIMIT)
            if page.history.events:
                return page.history.events[-1]
        raise TimeoutError(f"{execution.workflow_id} did not close")

    async def until_event(self, execution, name, count=1, seconds=20):
        """Waits until the history holds the event, without recording the waiting."""
        for _ in range(int(seconds / 0.05)):
            page = await self.look("get_workflow_execution_history",
                                   wsv.GetWorkflowExecutionHistoryRequest(
                                       namespace=self.ns, execution=execution))
            seen = [EventType.Name(e.event_type) for e in page.history.events] if page else []
            if seen.count(name) >= count:
                return page.history.events
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{execution.workflow_id}: no {name}")


__all__ = ["ActivityType", "Case", "IDENTITY", "Payload", "Payloads", "RPCError", "Server",
           "TaskQueue", "WorkflowExecution", "WorkflowType", "app_failure", "data", "retry", "sec",
           "text"]
