# SPDX-License-Identifier: MIT
"""Schedules and SIGKILL: every second's action is taken once, however often the server dies, none is left out, and what may
not overlap doesn't. Triggers are repeated until they are acknowledged, and are done once, too."""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
import uuid

import temporalio.api.command.v1 as command
import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.schedule.v1 as schedule
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.workflow.v1 as workflow
import temporalio.api.workflowservice.v1 as ws
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from judge import read_history
from server import Server, free_port
from world import NAMESPACE, Log, World

POLICIES = {"allow": 6, "buffer": 3, "skip": 1}
QUEUE = "scheduled"


async def insist(world, method, request):
    """The same call until it is acknowledged: its request id stays the same."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        response = await world.call(None, method, request)
        if response is not None:
            return response
        await asyncio.sleep(0.05)
    raise TimeoutError(f"{method} is never acknowledged")


async def create(world, name, policy):
    action = schedule.ScheduleAction(start_workflow=workflow.NewWorkflowExecutionInfo(
        workflow_id=name, workflow_type=common.WorkflowType(name="tick"), task_queue=taskqueue.TaskQueue(name=QUEUE)))
    spec = schedule.ScheduleSpec(interval=[schedule.IntervalSpec(interval=Duration(seconds=1))])
    await insist(world, "create_schedule", ws.CreateScheduleRequest(
        namespace=NAMESPACE, schedule_id=name, request_id=str(uuid.uuid4()), schedule=schedule.Schedule(
            spec=spec, action=action, policies=schedule.SchedulePolicies(overlap_policy=policy))))


def patch(name, **what):
    return ws.PatchScheduleRequest(namespace=NAMESPACE, schedule_id=name, request_id=str(uuid.uuid4()),
                                   patch=schedule.SchedulePatch(**what))


async def worker(world):
    while not world.stop.is_set():
        task = await world.call(None, "poll_workflow_task_queue", ws.PollWorkflowTaskQueueRequest(
            namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=QUEUE), identity="w"), seconds=10)
        if task is None or not task.task_token:
            await asyncio.sleep(0.05)
            continue
        await asyncio.sleep(world.random.uniform(0, 0.5))
        done = command.Command(
            command_type=enums.CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
            complete_workflow_execution_command_attributes=command.CompleteWorkflowExecutionCommandAttributes())
        if task.workflow_execution.workflow_id.startswith("skip-") and task.workflow_type.name == "tick":
            done = command.Command(
                command_type=enums.CommandType.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION,
                continue_as_new_workflow_execution_command_attributes=(
                    command.ContinueAsNewWorkflowExecutionCommandAttributes(
                        workflow_type=common.WorkflowType(name="tock"), task_queue=taskqueue.TaskQueue(name=QUEUE))))
        await world.call(None, "respond_workflow_task_completed", ws.RespondWorkflowTaskCompletedRequest(
            namespace=NAMESPACE, task_token=task.task_token, identity="w", commands=[done]))


async def trigger(world, triggered, enough):
    """For moments of the past, each its own."""
    n = 0
    while not enough.is_set():
        at = 1_000_000_000 + n
        request = patch("allow", trigger_immediately=schedule.TriggerImmediatelyRequest(
            scheduled_time=Timestamp(seconds=at), overlap_policy=POLICIES["allow"]))
        await insist(world, "patch_schedule", request)
        triggered.append(at)
        n += 1
        await asyncio.sleep(0.4)


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


async def quiet(world, name):
    """The description once nothing of it waits or runs."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = await insist(world, "describe_schedule", ws.DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=name))
        if not found.info.running_workflows and not found.info.buffer_size:
            return found
        await asyncio.sleep(0.2)
    raise TimeoutError(f"{name} does not come to rest")


async def runs_of(world, name):
    """(workflow id, started, closed) of all its runs, as their histories say."""
    found, token = [], b""
    while True:
        page = await insist(world, "list_workflow_executions", ws.ListWorkflowExecutionsRequest(
            namespace=NAMESPACE, query=f"TemporalScheduledById = '{name}'", next_page_token=token))
        found += [(e.execution.workflow_id, e.execution.run_id) for e in page.executions]
        token = page.next_page_token
        if not token:
            break
    out = []
    for workflow_id, run_id in found:
        events = await read_history(world.service, workflow_id, run_id)
        out.append((workflow_id, events[0].event_time.ToNanoseconds(), events[-1].event_time.ToNanoseconds()))
    return out


def moments(created, paused):
    """Whole seconds after the first and before the second; those in `paused` may be there."""
    first = int(created) + 1
    return set(range(first, int(paused[0]) + (paused[0] % 1 > 0))), set(range(int(paused[0]), int(paused[1]) + 1))


async def judge(world, name, created, paused, triggered):
    wrong = []
    found = await quiet(world, name)
    runs = await runs_of(world, name)
    ids = [r[0] for r in runs]
    must, may = moments(created, paused)
    # The moment of the creation is the server's to say.
    exact = found.info.create_time.ToNanoseconds() / 1e9
    must = {m for m in must if m > exact and m <= paused[0]}
    wanted = {f"{name}-{stamp(m)}" for m in must}
    allowed = wanted | {f"{name}-{stamp(m)}" for m in may}
    extra = {f"{name}-{stamp(m)}" for m in triggered} if name == "allow" else set()
    wrong += [f"{i} was started {ids.count(i)} times" for i in set(ids) if ids.count(i) > 1]
    wrong += [f"{i} was started, and nobody asked for it" for i in set(ids) - allowed - extra]
    wrong += [f"{i} was acknowledged and never started" for i in extra - set(ids)]
    if name != "skip":
        wrong += [f"{i} was forgotten" for i in wanted - set(ids)]
    elif not len(must) <= found.info.action_count + found.info.overlap_skipped <= len(must | may):
        wrong.append(f"{name}: {found.info.action_count} taken and {found.info.overlap_skipped} skipped of {len(must)}")
    if found.info.action_count != len(ids):
        wrong.append(f"{name} says that it took {found.info.action_count} actions; there are {len(ids)}")
    if name != "allow":
        runs.sort(key=lambda run: run[1])
        wrong += [f"{b[0]} began before {a[0]} ended" for a, b in zip(runs, runs[1:]) if b[1] < a[2]]
    return wrong, len(ids)


async def campaign(arguments, folder):
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    dice = random.Random(seed)
    server = Server(arguments.tenond, folder, free_port(arguments.port), arguments.server_arg)
    server.start()
    world = World(server.address, Log(os.path.join(folder, "log")), Log(os.path.join(folder, "effects")), seed)
    await world.connect()
    tasks = [asyncio.create_task(worker(world)) for _ in range(8)]
    created, triggered, enough = time.time(), [], asyncio.Event()
    for name, policy in POLICIES.items():
        await create(world, name, policy)
    tasks.append(asyncio.create_task(trigger(world, triggered, enough)))
    for _ in range(arguments.kills):
        await asyncio.sleep(dice.uniform(0.2, 2.2))
        server.kill()
        await asyncio.sleep(dice.uniform(0, 1.5))
        if not any(server.start() for _ in range(5)):
            print(f"seed {seed}: tenond does not start again; see {folder}/tenond.log")
            return 1
    await asyncio.sleep(1)
    paused = {}
    for name in POLICIES:
        before = time.time()
        await insist(world, "patch_schedule", patch(name, pause="enough"))
        paused[name] = (before, time.time())
    enough.set()
    await tasks[-1]
    wrong, count = [], 0
    await settled(world)
    for name in POLICIES:
        found, n = await judge(world, name, created, paused[name], triggered)
        wrong += found
        count += n
    for task in tasks:
        task.cancel()
    for line in wrong[:10]:
        print("  " + line)
    print(f"seed {seed}: {count} actions of {len(POLICIES)} schedules, {len(triggered)} triggers, {arguments.kills} kills, "
          f"{len(wrong)} violations")
    return 1 if wrong or server.stop() != 0 else 0


async def settled(world):
    """Until no run is open and the lists have all of them."""
    end = time.monotonic() + 120
    before = -1
    while time.monotonic() < end:
        counts = []
        for query in ("WorkflowType IN ('tick', 'tock') AND ExecutionStatus = 'Running'", "WorkflowType = 'tick'"):
            counts.append((await insist(world, "count_workflow_executions", ws.CountWorkflowExecutionsRequest(
                namespace=NAMESPACE, query=query))).count)
        taken = 0
        for name in POLICIES:
            taken += (await quiet(world, name)).info.action_count
        if counts[0] == 0 and counts[1] == taken == before:
            return
        before = taken
        await asyncio.sleep(0.5)
    print("  not all runs have ended, or not all are listed")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--port", type=int, default=17430)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--server-arg", action="append", default=[])
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-schedule.")
    status = asyncio.run(campaign(arguments, folder))
    if status:
        print(f"  kept: {folder}")
    else:
        __import__("shutil").rmtree(folder)
    sys.exit(status)


if __name__ == "__main__":
    main()
