# SPDX-License-Identifier: MIT
"""Clients and workers that hammer a server with raw calls and keep a log of what they were told.

Each line of the log is one call: what was asked, when it was asked and answered, and the outcome: "ok" (acknowledged),
"no" (a definite refusal) or "unknown" (the connection broke, a deadline passed: it may or may not have happened).
The judge believes nothing but this log and the server's histories.
"""

import asyncio
import json
import random
import time
import uuid

import temporalio.api.command.v1 as command
import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.failure.v1 as failure
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.workflowservice.v1 as ws
from google.protobuf.duration_pb2 import Duration
from temporalio.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient

NAMESPACE = "default"
AHEAD = 100  # workflows of a client that may be open at once
UNKNOWN = {
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.UNKNOWN,
    RPCStatusCode.INTERNAL,
    RPCStatusCode.ABORTED,
}
CHILD_ENDS = {getattr(enums.EventType, f"EVENT_TYPE_{kind}") for kind in (
    "START_CHILD_WORKFLOW_EXECUTION_FAILED", "CHILD_WORKFLOW_EXECUTION_COMPLETED", "CHILD_WORKFLOW_EXECUTION_FAILED",
    "CHILD_WORKFLOW_EXECUTION_CANCELED", "CHILD_WORKFLOW_EXECUTION_TIMED_OUT", "CHILD_WORKFLOW_EXECUTION_TERMINATED")}


def payloads(value):
    return common.Payloads(payloads=[common.Payload(
        metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())])


def unpack(message):
    return json.loads(message.payloads[0].data) if message.payloads else None


class Log:
    """Append-only, flushed line by line: the log must outlive everything."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1)

    def write(self, **fields):
        self.file.write(json.dumps(fields) + "\n")


class World:
    def __init__(self, address, log, side_effects, seed):
        self.address = address
        self.log = log
        self.side_effects = side_effects  # a file: one line each time an at-most-once activity really runs
        self.random = random.Random(seed)
        self.queue = "crash"
        self.stop = asyncio.Event()
        self.acks = self.refusals = 0
        self.service = None
        self.done = set()  # workflows that a worker has completed

    async def connect(self):
        config = ConnectConfig(target_host=self.address, lazy=True)
        self.service = (await ServiceClient.connect(config)).workflow_service

    async def call(self, what, method, request, seconds=5, **facts):
        """One call without retries; returns the response, or None unless it was acknowledged."""
        asked = time.time()
        outcome, response, told = "ok", None, ""
        try:
            response = await getattr(self.service, method)(
                request, retry=False, timeout=__import__("datetime").timedelta(seconds=seconds))
        except RPCError as error:
            outcome = "unknown" if error.status in UNKNOWN else "no"
            told = f"{error.status.name}: {error.message}"
        except RuntimeError as error:  # the SDK's word for a first connection that is refused
            outcome, told = "unknown", str(error)
        if what:
            self.log.write(what=what, asked=asked, answered=time.time(), outcome=outcome, told=told,
                           **facts, **({"run": response.run_id} if response is not None and what in ("start", "reset") else {}))
        self.acks += outcome == "ok"
        self.refusals += outcome == "no"
        return response

    # ---- clients ----

    async def start(self, workflow_id, plan, request_id=None, conflict=0):
        return await self.call("start", "start_workflow_execution", ws.StartWorkflowExecutionRequest(
            namespace=NAMESPACE, workflow_id=workflow_id, workflow_type=common.WorkflowType(name="crash"),
            task_queue=taskqueue.TaskQueue(name=self.queue), input=payloads(plan),
            request_id=request_id or str(uuid.uuid4()), workflow_id_conflict_policy=conflict,
            workflow_task_timeout=Duration(seconds=2)), workflow=workflow_id, plan=plan)

    async def signal(self, workflow_id, number):
        # A signal is sent again under its request id until it is known to be in or refused.
        request_id = f"{workflow_id}/{number}"
        while not self.stop.is_set():
            response = await self.call("signal", "signal_workflow_execution", ws.SignalWorkflowExecutionRequest(
                namespace=NAMESPACE, workflow_execution=common.WorkflowExecution(workflow_id=workflow_id),
                signal_name="number", input=payloads(number), request_id=request_id, identity="client"),
                workflow=workflow_id, number=number)
            if response is not None:
                return True
            await asyncio.sleep(0.05)
        return False

    async def reset(self, workflow_id):
        """To its first workflow task: what it was told since is told to the new run too."""
        request_id = str(uuid.uuid4())
        while not self.stop.is_set():
            refusals = self.refusals
            response = await self.call("reset", "reset_workflow_execution", ws.ResetWorkflowExecutionRequest(
                namespace=NAMESPACE, workflow_execution=common.WorkflowExecution(workflow_id=workflow_id),
                workflow_task_finish_event_id=3, reason="again", request_id=request_id), workflow=workflow_id)
            if response is not None or self.refusals != refusals:  # its first task may not have begun
                return
            await asyncio.sleep(0.05)

    async def until_closed(self, workflow_id, seconds):
        """So that clients don't run ahead of the workers: what would be left at the end were minutes of the same."""
        end = time.monotonic() + seconds
        while workflow_id not in self.done and time.monotonic() < end and not self.stop.is_set():
            await asyncio.sleep(0.05)

    async def client(self, name):
        """Workflows one after another, each with its plan: signals to wait for, a timer, activities."""
        n = 0
        while not self.stop.is_set():
            n += 1
            if n > AHEAD:
                await self.until_closed(f"{name}-{n - AHEAD}", 20)
            workflow_id = f"{name}-{n}"
            plan = {"signals": self.random.randrange(4), "timer": self.random.choice([0, 0, 0.2, 1.0]),
                    "activities": self.random.randrange(3), "once": self.random.random() < 0.3}
            plan.update(self.plan_more(workflow_id))
            request_id = str(uuid.uuid4())
            while not self.stop.is_set() and await self.start(workflow_id, plan, request_id) is None:
                await asyncio.sleep(0.05)
            for number in range(1, plan["signals"] + 1):
                if not await self.signal(workflow_id, number):
                    break
            if self.random.random() < 0.2:
                await self.reset(workflow_id)
            await self.do_more(workflow_id)

    async def contender(self, workflow_id):
        """Many of these start the same id over and over: at most one run of it may be open at any time."""
        n = 0
        while not self.stop.is_set():
            n += 1
            await self.start(workflow_id, {"signals": 0, "timer": 0, "activities": n % 2, "once": False})
            await asyncio.sleep(0.01)

    # ---- what Busy (tests/cluster) has more of ----

    def plan_more(self, workflow_id):
        del workflow_id
        return {}

    async def do_more(self, workflow_id):
        del workflow_id

    def answer_more(self, task):
        """Commands and messages that the answer to a workflow task has besides what decide() says."""
        del task
        return [], []

    async def fail_attempt(self, task, name):
        """Whether this attempt of an activity was ended otherwise than by its completion."""
        del task, name
        return False

    # ---- workers ----

    async def workflow_worker(self, name):
        while not self.stop.is_set():
            task = await self.call(None, "poll_workflow_task_queue", ws.PollWorkflowTaskQueueRequest(
                namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=self.queue), identity=name), seconds=10)
            if task is None:
                await asyncio.sleep(0.05)
            elif task.task_token:
                await self.answer_workflow(task, name)

    async def answer_workflow(self, task, name):
        commands = decide(task.history.events)
        closes = any(c.command_type == enums.CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION for c in commands)
        before, messages = self.answer_more(task)
        answer = await self.call("task", "respond_workflow_task_completed", ws.RespondWorkflowTaskCompletedRequest(
            namespace=NAMESPACE, task_token=task.task_token, identity=name, commands=before + commands, messages=messages),
            workflow=task.workflow_execution.workflow_id, of_run=task.workflow_execution.run_id,
            started=task.started_event_id, closes=closes)
        if answer is not None and closes:
            self.done.add(task.workflow_execution.workflow_id)

    async def activity_worker(self, name):
        while not self.stop.is_set():
            task = await self.call(None, "poll_activity_task_queue", ws.PollActivityTaskQueueRequest(
                namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=self.queue), identity=name), seconds=10)
            if task is None:
                await asyncio.sleep(0.05)
                continue
            if not task.task_token:
                continue
            key = f"{task.workflow_execution.run_id}/{task.activity_id}"
            if task.activity_type.name == "once":
                self.side_effects.write(**{"ran": key})
            elif await self.fail_attempt(task, name):
                continue
            await self.call("activity", "respond_activity_task_completed", ws.RespondActivityTaskCompletedRequest(
                namespace=NAMESPACE, task_token=task.task_token, identity=name, result=payloads(key)),
                workflow=task.workflow_execution.workflow_id, of_run=task.workflow_execution.run_id,
                activity=task.activity_id)


def decide(events):
    """The workflow: wait for all signals, then a timer, then the activities, then complete. A pure function of history."""
    plan = unpack(events[0].workflow_execution_started_event_attributes.input)
    signals, timers_started, timers_fired, scheduled, ended, begun, children = 0, 0, 0, 0, 0, 0, 0
    done = enums.EventType
    for event in events:
        kind = event.event_type
        signals += kind == done.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        timers_started += kind == done.EVENT_TYPE_TIMER_STARTED
        timers_fired += kind == done.EVENT_TYPE_TIMER_FIRED
        scheduled += kind == done.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        ended += kind in (done.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, done.EVENT_TYPE_ACTIVITY_TASK_FAILED,
                          done.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT)
        begun += kind == done.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
        children += kind in CHILD_ENDS
    if signals < plan["signals"]:
        return []
    if plan["timer"] and not timers_started:
        return [command.Command(
            command_type=enums.CommandType.COMMAND_TYPE_START_TIMER,
            start_timer_command_attributes=command.StartTimerCommandAttributes(
                timer_id="t", start_to_fire_timeout=Duration(nanos=int(plan["timer"] * 1e9) % 10**9,
                                                             seconds=int(plan["timer"]))))]
    if timers_fired < timers_started or ended < scheduled:
        return []
    if scheduled < plan["activities"]:
        retry = common.RetryPolicy(maximum_attempts=1) if plan["once"] else common.RetryPolicy(
            initial_interval=Duration(nanos=10**8), maximum_interval=Duration(seconds=1))
        return [command.Command(
            command_type=enums.CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
            schedule_activity_task_command_attributes=command.ScheduleActivityTaskCommandAttributes(
                activity_id=f"a{scheduled}", task_queue=taskqueue.TaskQueue(name="crash"),
                activity_type=common.ActivityType(name="once" if plan["once"] else "again"),
                start_to_close_timeout=Duration(seconds=2), schedule_to_close_timeout=Duration(seconds=60),
                retry_policy=retry))]
    if plan.get("child") and not begun:
        return [command.Command(
            command_type=enums.CommandType.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION,
            start_child_workflow_execution_command_attributes=command.StartChildWorkflowExecutionCommandAttributes(
                namespace=NAMESPACE, workflow_id=plan["child"], workflow_type=common.WorkflowType(name="crash"),
                task_queue=taskqueue.TaskQueue(name="crash"), workflow_task_timeout=Duration(seconds=2),
                input=payloads({"signals": 0, "timer": 0, "activities": 1, "once": False})))]
    if children < begun:
        return []
    return [command.Command(
        command_type=enums.CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
        complete_workflow_execution_command_attributes=command.CompleteWorkflowExecutionCommandAttributes(
            result=payloads({"signals": signals})))]


__all__ = ["World", "Log", "NAMESPACE", "UNKNOWN", "unpack", "payloads", "failure"]
