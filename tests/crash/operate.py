# SPDX-License-Identifier: MIT
"""What operators did, and activities without a workflow, across kills: every change that was acknowledged is there
after the next start, and goes on from there."""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
import uuid

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.command.v1 import Command, ScheduleActivityTaskCommandAttributes
from temporalio.api.common.v1 import (
    ActivityType, Payload, Payloads, Priority, WorkflowExecution, WorkflowType)
from temporalio.api.enums.v1 import (
    ActivityExecutionStatus, CommandType, EventType, PendingActivityState, WorkflowExecutionStatus)
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import WorkflowExecutionOptions
from temporalio.api.workflowservice import v1 as rpc
from temporalio.client import Client
from temporalio.service import RPCError

from server import Server, free_port

NS = "default"
passed = failed = 0


def told(name, good, why=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    print(f"{'ok' if good else 'not ok'} {name}{'' if good else ': ' + str(why)}", flush=True)


def seconds(value):
    return Duration(seconds=value)


class World:
    """The server, and its calls by name; each round starts with a kill."""

    def __init__(self, server):
        self.server = server
        self.service = None

    async def connect(self):
        self.service = (await Client.connect(self.server.address)).workflow_service

    async def crash(self):
        self.server.kill()
        if not self.server.start():
            raise RuntimeError("tenond does not start again")
        await self.connect()

    async def call(self, name, **fields):
        request = getattr(rpc, "".join(word.title() for word in name.split("_")) + "Request")
        return await getattr(self.service, name)(request(namespace=NS, **fields))

    async def refused(self, name, **fields):
        try:
            await self.call(name, **fields)
            return False
        except RPCError:
            return True


async def activity_of(world, execution):
    found = await world.call("describe_workflow_execution", execution=execution)
    return found.pending_activities[0]


async def fields_of(world, name):
    return (await world.call("describe_activity_execution", activity_id=name)).info


async def workflow_task(world, queue, commands=()):
    task = await world.call("poll_workflow_task_queue", task_queue=TaskQueue(name=queue), identity="crash")
    await world.call("respond_workflow_task_completed", task_token=task.task_token, commands=commands, identity="crash")
    return task


async def run_with_activity(world):
    """A run whose activity waits in a queue: its execution, and the activity's queue."""
    name = f"operate-{uuid.uuid4()}"
    started = await world.call(
        "start_workflow_execution", workflow_id=name, workflow_type=WorkflowType(name="operate"),
        task_queue=TaskQueue(name=f"{name}-w"), request_id=str(uuid.uuid4()))
    await workflow_task(world, f"{name}-w", [Command(
        command_type=CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
        schedule_activity_task_command_attributes=ScheduleActivityTaskCommandAttributes(
            activity_id="act", activity_type=ActivityType(name="work"), task_queue=TaskQueue(name=f"{name}-a"),
            start_to_close_timeout=seconds(600)))])
    return WorkflowExecution(workflow_id=name, run_id=started.run_id), f"{name}-a"


async def activities_of_a_run(world):
    execution, queue = await run_with_activity(world)
    await world.call("pause_activity", execution=execution, id="act", reason="crash", identity="operator")
    await world.crash()
    found = await activity_of(world, execution)
    told("a pause outlives a kill", found.state == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED and
         found.pause_info.manual.reason == "crash", found)
    await world.call("update_activity_options", execution=execution, id="act",
                     activity_options=ActivityOptions(task_queue=TaskQueue(name=f"{queue}-2"),
                                                      start_to_close_timeout=seconds(500)),
                     update_mask=FieldMask(paths=["task_queue.name", "start_to_close_timeout"]))
    await world.crash()
    options = (await activity_of(world, execution)).activity_options
    told("changed options outlive a kill", options.task_queue.name == f"{queue}-2" and
         options.start_to_close_timeout.seconds == 500, options)
    await world.call("unpause_activity", execution=execution, id="act")
    await world.crash()
    task = await world.call("poll_activity_task_queue", task_queue=TaskQueue(name=f"{queue}-2"), identity="crash")
    told("the end of a pause outlives a kill: the task is in the new queue", task.activity_id == "act" and
         task.attempt == 1, task)
    await world.call("pause_activity", execution=execution, id="act", reason="again")
    await world.crash()
    beat = await world.call("record_activity_task_heartbeat", task_token=task.task_token)
    told("an attempt that began before the kill hears of the pause", beat.activity_paused, beat)
    await world.call("reset_activity", execution=execution, id="act")
    await world.crash()
    beat = await world.call("record_activity_task_heartbeat", task_token=task.task_token)
    told("and of the reset", beat.activity_reset, beat)
    await world.call("respond_activity_task_failed", task_token=task.task_token, failure=Failure(
        message="stopped", application_failure_info=ApplicationFailureInfo(type="stopped")))
    await world.crash()
    task = await world.call("poll_activity_task_queue", task_queue=TaskQueue(name=f"{queue}-2"), identity="crash")
    told("when that attempt fails the next goes out", task.attempt == 2, task)  # the reset one counts as the first
    await world.call("respond_activity_task_completed", task_token=task.task_token)
    await world.crash()
    found = await world.call("describe_workflow_execution", execution=execution)
    told("and ends", not found.pending_activities and found.HasField("pending_workflow_task"), found)


async def a_paused_run(world):
    execution, queue = await run_with_activity(world)
    await world.call("pause_workflow_execution", workflow_id=execution.workflow_id, reason="crash", identity="operator",
                     request_id=str(uuid.uuid4()))
    await world.crash()
    info = (await world.call("describe_workflow_execution", execution=execution)).workflow_execution_info
    told("a run's pause outlives a kill", info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED, info)
    await world.call("signal_workflow_execution", workflow_execution=execution, signal_name="s",
                     request_id=str(uuid.uuid4()))
    await world.crash()
    history = (await world.call("get_workflow_execution_history", execution=execution)).history.events
    kinds = [event.event_type for event in history]
    told("a signal is recorded, no workflow task follows", kinds[-2:] == [
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_PAUSED, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED], kinds)
    await world.call("update_workflow_execution_options", workflow_execution=execution,
                     workflow_execution_options=WorkflowExecutionOptions(priority=Priority(priority_key=2)),
                     update_mask=FieldMask(paths=["priority"]))
    await world.crash()
    info = (await world.call("describe_workflow_execution", execution=execution)).workflow_execution_info
    told("its priority outlives a kill", info.priority.priority_key == 2, info)
    await world.call("unpause_workflow_execution", workflow_id=execution.workflow_id, reason="over",
                     request_id=str(uuid.uuid4()))
    await world.crash()
    task = await workflow_task(world, f"{execution.workflow_id}-w", [Command(
        command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
        complete_workflow_execution_command_attributes={})])
    told("after the end of the pause its workflow task goes out", bool(task.task_token), task)
    await world.crash()
    info = (await world.call("describe_workflow_execution", execution=execution)).workflow_execution_info
    told("and it closes", info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED, info)


async def start_solo(world, name, request=None, **fields):
    return await world.call(
        "start_activity_execution", activity_id=name, activity_type=ActivityType(name="solo"),
        task_queue=TaskQueue(name=name), start_to_close_timeout=seconds(600), request_id=request or str(uuid.uuid4()),
        input=Payloads(payloads=[Payload(data=b"input")]), **fields)


async def activities_of_their_own(world):
    name, request = f"solo-{uuid.uuid4()}", str(uuid.uuid4())
    started = await start_solo(world, name, request)
    await world.crash()
    again = await start_solo(world, name, request)
    told("a start outlives a kill, and its request is known", again.run_id == started.run_id, again)
    told("its id is taken", await world.refused(
        "start_activity_execution", activity_id=name, activity_type=ActivityType(name="solo"),
        task_queue=TaskQueue(name=name), start_to_close_timeout=seconds(600), request_id=str(uuid.uuid4())))
    task = await world.call("poll_activity_task_queue", task_queue=TaskQueue(name=name), identity="crash")
    told("its task goes out", task.activity_id == name and task.input.payloads[0].data == b"input", task)
    await world.call("record_activity_task_heartbeat", task_token=task.task_token,
                     details=Payloads(payloads=[Payload(data=b"beat")]))
    await world.crash()
    await world.call("respond_activity_task_failed", task_token=task.task_token, failure=Failure(
        message="once more", application_failure_info=ApplicationFailureInfo(type="retry")))
    await world.crash()
    task = await world.call("poll_activity_task_queue", task_queue=TaskQueue(name=name), identity="crash")
    told("a retry outlives a kill", task.attempt == 2, task)
    await world.call("pause_activity_execution", activity_id=name, reason="crash", identity="operator",
                     request_id=str(uuid.uuid4()))
    await world.crash()
    beat = await world.call("record_activity_task_heartbeat", task_token=task.task_token)
    told("a pause outlives a kill", beat.activity_paused, beat)
    await world.call("unpause_activity_execution", activity_id=name, request_id=str(uuid.uuid4()))
    await world.call("request_cancel_activity_execution", activity_id=name, request_id=str(uuid.uuid4()))
    await world.crash()
    beat = await world.call("record_activity_task_heartbeat", task_token=task.task_token)
    told("a wish to cancel outlives a kill", beat.cancel_requested and not beat.activity_paused, beat)
    await world.call("respond_activity_task_completed_by_id", workflow_id="", activity_id=name,
                     result=Payloads(payloads=[Payload(data=b"result")]))
    await world.crash()
    found = await world.call("poll_activity_execution", activity_id=name)
    told("its result outlives a kill", found.outcome.result.payloads[0].data == b"result", found)
    info = await fields_of(world, name)
    told("and its status", info.status == ActivityExecutionStatus.ACTIVITY_EXECUTION_STATUS_COMPLETED, info)

    second = await start_solo(world, name)
    told("a closed id may be used again", second.run_id != started.run_id, second)
    await world.call("terminate_activity_execution", activity_id=name, reason="crash", request_id=str(uuid.uuid4()))
    await world.crash()
    info = await fields_of(world, name)
    told("a termination outlives a kill", info.run_id == second.run_id and
         info.status == ActivityExecutionStatus.ACTIVITY_EXECUTION_STATUS_TERMINATED, info)
    await world.call("delete_activity_execution", activity_id=name, run_id=second.run_id)
    await world.crash()
    await until_gone(world, name, second.run_id)

    late = f"late-{uuid.uuid4()}"
    await start_solo(world, late, schedule_to_start_timeout=seconds(1))
    await world.crash()
    info = await fields_of(world, late)
    end = time.monotonic() + 20
    while info.status == ActivityExecutionStatus.ACTIVITY_EXECUTION_STATUS_RUNNING and time.monotonic() < end:
        await asyncio.sleep(0.1)
        info = await fields_of(world, late)
    told("a time-out that was set before the kill passes", info.status ==
         ActivityExecutionStatus.ACTIVITY_EXECUTION_STATUS_TIMED_OUT, info)


async def until_gone(world, name, run_id):
    end = time.monotonic() + 20
    gone = False
    while not gone and time.monotonic() < end:
        gone = await world.refused("describe_activity_execution", activity_id=name, run_id=run_id)
        await asyncio.sleep(0.1)
    told("a deletion outlives a kill", gone)


async def campaign(arguments, folder):
    server = Server(arguments.tenond, folder, free_port(arguments.port), arguments.server_arg)
    if not server.start():
        print("tenond does not start")
        return 1
    world = World(server)
    await world.connect()
    try:
        for part in (activities_of_a_run, a_paused_run, activities_of_their_own):
            try:
                await asyncio.wait_for(part(world), 240)
            except Exception as error:  # the other parts say their own
                told(part.__name__, False, repr(error))
    finally:
        server.kill()
    print(f"operate: {passed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--server-arg", action="append", default=[])
    parser.add_argument("--port", type=int, default=17490)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-operate.")
    status = asyncio.run(campaign(arguments, folder))
    if status:
        with open(os.path.join(folder, "tenond.log")) as log:
            print(log.read()[-2000:])
        print(f"  kept: {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(status)


if __name__ == "__main__":
    main()
