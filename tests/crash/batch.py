# SPDX-License-Identifier: MIT
"""A batch job and SIGKILL: it goes on where it was, and no run is signalled twice or left out."""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
import uuid

import temporalio.api.batch.v1 as batch
import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.workflowservice.v1 as ws
from temporalio.service import RPCError

from judge import read_history, signal_numbers
from server import Server, free_port
from world import NAMESPACE, Log, World, payloads

RUNNING = enums.BatchOperationState.BATCH_OPERATION_STATE_RUNNING


async def started(world, count):
    for n in range(count):
        while await world.start(f"b{n}", {"signals": 9, "timer": 0, "activities": 0, "once": False}) is None:
            await asyncio.sleep(0.05)
    query = ws.CountWorkflowExecutionsRequest(namespace=NAMESPACE, query="WorkflowType = 'crash'")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if (await world.service.count_workflow_executions(query, retry=True)).count == count:
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the runs are not listed")


async def described(world, job):
    try:
        return await world.service.describe_batch_operation(
            ws.DescribeBatchOperationRequest(namespace=NAMESPACE, job_id=job), retry=True)
    except RPCError as error:
        return print(f"the job is lost: {error}")


async def campaign(arguments, folder):
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    dice = random.Random(seed)
    server = Server(arguments.tenond, folder, free_port(arguments.port), arguments.server_arg)
    server.start()
    world = World(server.address, Log(os.path.join(folder, "log")), Log(os.path.join(folder, "effects")), seed)
    await world.connect()
    await started(world, arguments.runs)
    job = str(uuid.uuid4())
    await world.service.start_batch_operation(ws.StartBatchOperationRequest(
        namespace=NAMESPACE, job_id=job, reason="crash", visibility_query="WorkflowType = 'crash'",
        signal_operation=batch.BatchOperationSignal(signal="number", input=payloads(1), identity="batch")), retry=True)
    interrupted = 0
    for _ in range(arguments.kills):
        await asyncio.sleep(dice.uniform(0.1, 0.8))
        now = await described(world, job)
        interrupted += now is not None and now.state == RUNNING
        server.kill()
        if not any(server.start() for _ in range(5)):
            print(f"seed {seed}: tenond does not start again; see {folder}/tenond.log")
            return 1
    end = time.monotonic() + 120
    while (now := await described(world, job)) and now.state == RUNNING and time.monotonic() < end:
        await asyncio.sleep(0.1)
    wrong = []
    for n in range(arguments.runs):
        numbers = signal_numbers(await read_history(world.service, f"b{n}", ""))
        if numbers != [1]:
            wrong.append(f"b{n} has the signals {numbers}")
    if not now or now.complete_operation_count != arguments.runs or now.failure_operation_count:
        wrong.append(f"the job says {now}")
    if not interrupted:
        wrong.append("no kill met the job at work: this shows nothing")
    for line in wrong[:10]:
        print("  " + line)
    print(f"seed {seed}: a batch of {arguments.runs} runs, killed {interrupted} times, {len(wrong)} violations")
    return 1 if wrong or server.stop() != 0 else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--runs", type=int, default=150)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--port", type=int, default=17330)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--server-arg", action="append", default=[])
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-batch.")
    status = asyncio.run(campaign(arguments, folder))
    if status:
        print(f"  kept: {folder}")
    else:
        __import__("shutil").rmtree(folder)
    sys.exit(status)


if __name__ == "__main__":
    main()
