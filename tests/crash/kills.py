# SPDX-License-Identifier: MIT
"""Random kills under load: SIGKILL, start again, go on; at the end everything must finish, and the judge decides."""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time

from temporalio.service import RPCError, RPCStatusCode

from judge import CLOSING, judge, known_runs, read_history, waits_for_nothing
from server import Server, free_port
from world import Log, World


async def unfinished(world, log_path, ended):
    """True: a run that has all it needs is still open, however quiet it is: the machine is slow, or the run is stuck."""
    with open(log_path) as lines:
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
    runs = known_runs(entries)
    ended |= {entry["of_run"] for entry in entries
              if entry["what"] == "task" and entry["closes"] and entry["outcome"] == "ok"}  # the judge reads them anyway
    left = {run: workflow for run, workflow in runs.items() if run not in ended}
    return any(await asyncio.gather(*[waits(world, left, ended) for _ in range(16)]))


async def waits(world, left, ended):
    """Whether one of those left, which others take from, too, has all it needs and is open."""
    while left:
        run, workflow = left.popitem()
        try:
            events = await read_history(world.service, workflow, run)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                continue  # the judge's business
            return True
        if events[-1].event_type in CLOSING:
            ended.add(run)
        elif waits_for_nothing(events):
            return True
    return False


async def until_quiet(world, tasks, log_path, seconds, most=0):
    """Clients stop, workers go on until nothing is left to do (R12); that a long campaign has left much is no fault: with
    `most`, the seconds count anew from each step that is made, so that what is judged is standing still and not being slow."""
    began = time.monotonic()
    end = began + seconds
    for task in tasks["clients"]:
        task.cancel()
    await asyncio.gather(*tasks["clients"], return_exceptions=True)
    before, done, ended = -1, 0, set()
    while time.monotonic() < end:
        size = os.path.getsize(log_path)
        if size == before and not await unfinished(world, log_path, ended):
            break
        if size != before or len(ended) > done:
            end = max(end, min(time.monotonic() + seconds, began + most))
        before, done = size, len(ended)
        await asyncio.sleep(4)  # longer than any timer, time-out and back-off of the scenario
    world.stop.set()
    for task in tasks["workers"]:
        task.cancel()
    await asyncio.gather(*tasks["workers"], return_exceptions=True)


async def split_now_and_then(arguments, server, dice, done):
    """The number of shards changes under the load, and the server dies at any moment of that."""
    shards = 0
    while True:
        await asyncio.sleep(dice.uniform(0.02, arguments.interval))
        wanted = arguments.partitions * dice.choice([count for count in (1, 2, 3, 4) if count * arguments.partitions != shards])
        process = await asyncio.create_subprocess_exec(
            arguments.tenonctl, "shard", "split", "--address", server.address, "--shards", str(wanted),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
        if await process.wait() == 0:
            shards = wanted
            done.append(wanted)


async def campaign(arguments, folder):
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    dice = random.Random(seed)
    server = Server(arguments.tenond, folder, free_port(arguments.port), arguments.server_arg)
    log_path, effects_path = os.path.join(folder, "log"), os.path.join(folder, "effects")
    world = World(server.address, Log(log_path), Log(effects_path), seed)
    server.start()
    await world.connect()
    tasks = {
        "clients": [asyncio.create_task(world.client(f"c{i}")) for i in range(arguments.clients)] +
                   [asyncio.create_task(world.contender("same-id")) for _ in range(3)],
        "workers": [asyncio.create_task(world.workflow_worker(f"w{i}")) for i in range(6)] +
                   [asyncio.create_task(world.activity_worker(f"a{i}")) for i in range(6)],
    }
    slow, splits = 0, []
    splitter = asyncio.create_task(split_now_and_then(arguments, server, dice, splits)) if arguments.tenonctl else None
    for _ in range(arguments.kills):
        before, began = world.acks, time.monotonic()
        await asyncio.sleep(dice.uniform(0.05, arguments.interval))
        if world.acks == before:
            slow += 1
        server.kill()
        if not any(server.start() for _ in range(5)):
            print(f"seed {seed}: tenond does not start again; see {folder}/tenond.log")
            return 1
        del began
    if splitter:
        await asyncio.sleep(2 * arguments.interval)  # once more in peace
        splitter.cancel()
        await asyncio.gather(splitter, return_exceptions=True)
    if splitter and len(splits) < arguments.kills // 4:
        print(f"seed {seed}: the number of shards was changed only {len(splits)} times: this shows nothing")
        return 1
    if slow > arguments.kills // 2:
        print(f"seed {seed}: no call was acknowledged between {slow} of {arguments.kills} kills: this shows nothing")
        return 1
    await until_quiet(world, tasks, log_path, 90 + 3 * arguments.kills)
    verdict, runs, oks = await judge(server.address, log_path, effects_path)
    status = server.stop()
    for violation in verdict.violations[:20]:
        print("  " + violation)
    changes = f"{len(splits)} changes of the number of shards, " if splitter else ""
    print(f"seed {seed}: {arguments.kills} kills, {changes}{runs} runs, {oks} acknowledged calls, "
          f"{len(verdict.violations)} violations, exit status {status}")
    return 1 if verdict.violations or status != 0 else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between kills at most")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--port", type=int, default=17310)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--tenonctl", help="with it, the number of shards changes between and during the kills")
    parser.add_argument("--partitions", type=int, default=16, help="what start-dev makes")
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    parser.add_argument("--server-arg", action="append", default=[])
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-crash.")
    status = asyncio.run(campaign(arguments, folder))
    if arguments.keep or status:
        print(f"  kept: {folder}")
    else:
        __import__("shutil").rmtree(folder)
    sys.exit(status)


if __name__ == "__main__":
    main()
