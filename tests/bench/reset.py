#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a reset costs a server that runs already: its CPU, and what it asks of its store.

    reset.py --address HOST:PORT --pid PID [--metrics HOST:PORT] [--n 300] [--signals 20]

Runs with so many signals (no worker) are reset to their first workflow task, which tells the new run of all of them; the
same again with the exclusion of signals shows the reset alone."""

import argparse
import asyncio
import os
import re
import time
import urllib.request
import uuid

import temporalio.api.common.v1 as common
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.workflowservice.v1 as ws
from temporalio.service import ConnectConfig, ServiceClient

NAMESPACE = "default"
TICK = os.sysconf("SC_CLK_TCK")


def cpu(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def store_calls(metrics):
    if not metrics:
        return {}
    calls = {}
    with urllib.request.urlopen(f"http://{metrics}/metrics") as page:
        for line in page.read().decode().splitlines():
            found = re.match(r'persistence_requests(?:_total)?\{.*?operation="([^"]+)".*\} ([0-9.e+]+)$', line)
            if found:
                calls[found[1]] = calls.get(found[1], 0) + float(found[2])
    return calls


async def many(coroutines, at_once=16):
    gate = asyncio.Semaphore(at_once)

    async def one(coroutine):
        async with gate:
            return await coroutine
    return await asyncio.gather(*(one(c) for c in coroutines))


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--metrics")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--signals", type=int, default=20)
    options = parser.parse_args()
    service = (await ServiceClient.connect(ConnectConfig(target_host=options.address))).workflow_service
    word = uuid.uuid4().hex[:8]
    runs = [common.WorkflowExecution(workflow_id=f"{word}-{i}") for i in range(options.n)]
    await many(service.start_workflow_execution(ws.StartWorkflowExecutionRequest(
        namespace=NAMESPACE, workflow_id=run.workflow_id, workflow_type=common.WorkflowType(name="reset"),
        task_queue=taskqueue.TaskQueue(name="nobody"), request_id=str(uuid.uuid4()))) for run in runs)
    await many(service.signal_workflow_execution(ws.SignalWorkflowExecutionRequest(
        namespace=NAMESPACE, workflow_execution=run, signal_name="s", request_id=str(uuid.uuid4())))
        for _ in range(options.signals) for run in runs)
    for name, excluded in (("with its signals", []), ("alone", [1])):
        await asyncio.sleep(3)
        before, calls, began = cpu(options.pid), store_calls(options.metrics), time.monotonic()
        await many(service.reset_workflow_execution(ws.ResetWorkflowExecutionRequest(
            namespace=NAMESPACE, workflow_execution=run, workflow_task_finish_event_id=3, reason="bench",
            request_id=str(uuid.uuid4()), reset_reapply_exclude_types=excluded)) for run in runs)
        took = time.monotonic() - began
        await asyncio.sleep(1)
        used, after = cpu(options.pid) - before, store_calls(options.metrics)
        asked = {k: round((v - calls.get(k, 0)) / options.n, 2) for k, v in after.items() if v - calls.get(k, 0) >= options.n / 10}
        print(f"a reset {name}: {1000 * used / options.n:.2f} ms of CPU, {options.n / took:.0f} a second, store calls {asked}")


if __name__ == "__main__":
    asyncio.run(main())
