# SPDX-License-Identifier: MIT
"""A start while the store is away: the server waits and asks on, says what for in its log, answers health with
NOT_SERVING and calls with UNAVAILABLE; it ends at SIGTERM, and serves when the store is back."""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from datetime import timedelta

from temporalio.api.workflowservice.v1 import GetClusterInfoRequest
from temporalio.client import Client
from temporalio.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient

from server import free_port
from stutter import Configured, prepare, set_rate

passed = failed = 0


def told(name, good, why=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    print(f"{'ok' if good else 'not ok'} {name}{'' if good else ': ' + str(why)}", flush=True)


def words(folder):
    with open(os.path.join(folder, "tenond.log")) as log:
        return log.read()


async def health(address):
    service = await ServiceClient.connect(ConnectConfig(target_host=address))
    return await service.check_health(timeout=timedelta(seconds=5))


async def campaign(arguments, folder):
    port = free_port(arguments.port)
    prepare(arguments, folder, port, 5)
    set_rate(folder, 1000, 0)
    server = Configured(arguments.tenond, folder, port)
    told("the port opens while the store is away", server.start(), words(folder))
    told("health says NOT_SERVING", not await health(server.address))
    early = await Client.connect(server.address)  # an SDK may connect, and its calls wait
    try:
        await early.workflow_service.get_cluster_info(GetClusterInfoRequest())
        told("calls are refused as UNAVAILABLE", False)
    except RPCError as error:
        told("calls are refused as UNAVAILABLE", error.status == RPCStatusCode.UNAVAILABLE and "starting" in str(error),
             error)
    told("SIGTERM ends it with 0", server.stop() == 0, words(folder)[-1000:])
    text = words(folder)
    told("the log says what it waits for", "the store keeps us waiting for=" in text, text[-1000:])

    told("it starts again", server.start(), words(folder)[-1000:])
    set_rate(folder, 0, 0)
    end = time.monotonic() + 20
    serving = False
    while not serving and time.monotonic() < end:
        serving = await health(server.address)
        await asyncio.sleep(0.1)
    told("it serves when the store is back", serving, words(folder)[-1000:])
    client = await Client.connect(server.address)
    told("and does work", (await client.count_workflows("")).count == 0)
    told("SIGTERM ends it with 0 then too", server.stop() == 0, words(folder)[-1000:])

    # among many shards some always fail: those that are missing are asked for again, not all
    set_rate(folder, 300, 0)
    for i in range(arguments.starts):
        began = time.monotonic()
        started = server.start()
        while started and not await health(server.address) and time.monotonic() - began < 30:
            await asyncio.sleep(0.1)
        took = time.monotonic() - began
        told(f"start {i + 1} on a store that fails 30 % ({took:.1f} s)", started and took < 30, words(folder)[-1000:])
        server.kill()
    print(f"waiting: {passed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--plugins", required=True)
    parser.add_argument("--faulty", required=True)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--port", type=int, default=17390)
    arguments = parser.parse_args()
    arguments.threads, arguments.shards, arguments.cache = 2, 64, "256KiB"
    folder = tempfile.mkdtemp(prefix="tenon-waiting.")
    status = asyncio.run(campaign(arguments, folder))
    if status:
        print(f"  kept: {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(status)


if __name__ == "__main__":
    main()
