#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What an update costs a server that runs already: its CPU, and what it asks of its store.

    update.py --address HOST:PORT --pid PID [--metrics HOST:PORT] [--n 2000]

A worker of the SDK (in this process, not counted) answers updates of four runs, each asked for by eight callers one after
another; the same again with updates that the validator rejects."""

import argparse
import asyncio
import os
import pathlib
import sys
import time
import uuid
from datetime import timedelta

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "sdk" / "python"))

import cases_update  # noqa: E402
import flows  # noqa: E402
from reset import cpu, store_calls  # noqa: E402
from temporalio.client import Client, WorkflowUpdateFailedError  # noqa: E402
from temporalio.worker import UnsandboxedWorkflowRunner, Worker  # noqa: E402

RUNS, CALLERS = 4, 8


async def ask(handle, count, value):
    for _ in range(count):
        try:
            await handle.execute_update(cases_update.Counter.add, value)
        except WorkflowUpdateFailedError:
            assert value < 0


async def measure(options, client, queue, name, value):
    handles = [await client.start_workflow(cases_update.Counter.run, 0, id=str(uuid.uuid4()), task_queue=queue)
               for _ in range(RUNS)]
    await asyncio.gather(*(ask(h, 2, value) for h in handles))
    await asyncio.sleep(2)
    each = options.n // (RUNS * CALLERS)
    n = each * RUNS * CALLERS
    before, calls, began = cpu(options.pid), store_calls(options.metrics), time.monotonic()
    await asyncio.gather(*(ask(h, each, value) for h in handles for _ in range(CALLERS)))
    took = time.monotonic() - began
    await asyncio.sleep(1)
    used, after = cpu(options.pid) - before, store_calls(options.metrics)
    asked = {k: round((v - calls.get(k, 0)) / n, 2) for k, v in after.items() if v - calls.get(k, 0) >= n / 20}
    print(f"{name}: {1000 * used / n:.2f} ms of CPU, {n / took:.0f} a second, store calls {asked}")
    for handle in handles:
        await handle.terminate()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--metrics")
    parser.add_argument("--n", type=int, default=2000)
    options = parser.parse_args()
    client = await Client.connect(options.address)
    queue = f"update-{uuid.uuid4().hex[:8]}"
    async with Worker(client, task_queue=queue, workflows=[cases_update.Counter], activities=[flows.echo],
                      workflow_runner=UnsandboxedWorkflowRunner(), graceful_shutdown_timeout=timedelta(0)):
        await measure(options, client, queue, "an update", 1)
        await measure(options, client, queue, "a rejected update", -1)


if __name__ == "__main__":
    asyncio.run(main())
    sys.stdout.flush()
    os._exit(0)  # the SDK's native part is not always at rest when the interpreter is torn down
