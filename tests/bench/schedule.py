#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What an action of a schedule costs a server that runs already: its CPU, and what it asks of its store.

    schedule.py --address HOST:PORT --pid PID [--metrics HOST:PORT] [--n 40] [--seconds 20]

So many schedules act every second (overlaps are allowed, so that none waits for another; no worker takes the runs) for
so many seconds; the cost of the runs' own starts is part of it, and is shown by itself below it."""

import argparse
import asyncio
import uuid

import temporalio.api.common.v1 as common
import temporalio.api.schedule.v1 as schedule
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.workflow.v1 as workflow
import temporalio.api.workflowservice.v1 as ws
from google.protobuf.duration_pb2 import Duration
from temporalio.service import ConnectConfig, ServiceClient

from reset import NAMESPACE, cpu, many, store_calls

ALLOW_ALL = 6


def report(name, options, before, calls, count):
    used, after = cpu(options.pid) - before, store_calls(options.metrics)
    asked = {k: round((v - calls.get(k, 0)) / count, 2) for k, v in after.items() if v - calls.get(k, 0) >= count / 10}
    print(f"{name}: {1000 * used / count:.2f} ms of CPU ({count} of them), store calls {asked}")


def create(word, n):
    run = workflow.NewWorkflowExecutionInfo(
        workflow_id=f"{word}-{n}", workflow_type=common.WorkflowType(name="tick"), task_queue=taskqueue.TaskQueue(name="nobody"))
    return ws.CreateScheduleRequest(
        namespace=NAMESPACE, schedule_id=f"{word}-{n}", request_id=str(uuid.uuid4()), schedule=schedule.Schedule(
            spec=schedule.ScheduleSpec(interval=[schedule.IntervalSpec(interval=Duration(seconds=1))]),
            policies=schedule.SchedulePolicies(overlap_policy=ALLOW_ALL),
            action=schedule.ScheduleAction(start_workflow=run)))


async def taken(service, word):
    """As they are listed: a description may be refused while a server is busy."""
    query = f"WorkflowType = 'tick' AND TemporalScheduledById STARTS_WITH '{word}'"
    return (await service.count_workflow_executions(ws.CountWorkflowExecutionsRequest(namespace=NAMESPACE, query=query))).count


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--metrics")
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    service = (await ServiceClient.connect(ConnectConfig(target_host=options.address))).workflow_service
    word = uuid.uuid4().hex[:8]
    await many(service.create_schedule(create(word, i)) for i in range(options.n))
    await asyncio.sleep(3)
    first = await taken(service, word)
    before, calls = cpu(options.pid), store_calls(options.metrics)
    await asyncio.sleep(options.seconds)
    count = await taken(service, word) - first
    report("an action", options, before, calls, max(count, 1))
    await many(service.delete_schedule(ws.DeleteScheduleRequest(namespace=NAMESPACE, schedule_id=f"{word}-{i}"))
               for i in range(options.n))
    await asyncio.sleep(2)
    before, calls, n = cpu(options.pid), store_calls(options.metrics), max(count, 1)
    await many(service.start_workflow_execution(ws.StartWorkflowExecutionRequest(
        namespace=NAMESPACE, workflow_id=f"{word}-by-hand-{i}", workflow_type=common.WorkflowType(name="tick"),
        task_queue=taskqueue.TaskQueue(name="nobody"), request_id=str(uuid.uuid4()))) for i in range(n))
    await asyncio.sleep(1)
    report("a start by a client", options, before, calls, n)


if __name__ == "__main__":
    asyncio.run(main())
