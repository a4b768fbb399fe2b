# SPDX-License-Identifier: MIT
"""tenond on a database under the crash suite's load: the database dies by kill -9 again and again, tenond now and then;
in the end all work must finish, and the judge of tests/crash decides.  (Redis has redis/faults.py.)"""

import argparse
import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "crash"))

from judge import judge  # noqa: E402
from kills import until_quiet  # noqa: E402
from server import DIE_WITH_PARENT, Server, free_port  # noqa: E402
from servers import Ports  # noqa: E402
from store import KINDS, Store  # noqa: E402
from world import Log, World  # noqa: E402

PATIENCE_S = 300  # for what must happen, on however slow a machine


class Tenond(Server):
    def __init__(self, binary, folder, port, template):
        super().__init__(binary, folder, port)
        self.config = os.path.join(folder, "tenon.yaml")
        with open(template) as text, open(self.config, "w") as out:
            out.write(text.read().replace("@PORT@", str(port)))

    def start(self, wait=True):
        with open(os.path.join(self.folder, "tenond.log"), "a") as log:
            self.process = subprocess.Popen([*DIE_WITH_PARENT, self.binary, "--config", self.config], stdout=log,
                                            stderr=log, env=self.env, start_new_session=True)
        return self.wait_ready(PATIENCE_S) if wait else True


def idle_queries(db, seconds=6):
    """How many of so many seconds saw a query of the server that has nothing to do."""
    time.sleep(3)
    seen = set()
    for _ in range(seconds):
        seen.add(db.ask("SELECT max(query_start) FROM pg_stat_activity WHERE application_name = 'tenon'"))
        time.sleep(1)
    return len(seen) - 1


async def more_acks(world, count):
    """Each kill meets a server at work."""
    least, end = world.acks + count, time.monotonic() + PATIENCE_S
    while world.acks < least:
        if time.monotonic() > end:
            raise RuntimeError(f"nothing is acknowledged any more ({world.acks} were)")
        await asyncio.sleep(0.02)


async def hammer(arguments, db, server, world, dice):
    splits = 0
    for i in range(arguments.kills):
        await more_acks(world, 20)
        shards = 64 * dice.randrange(1, 5)  # another number of them while all dies: the command may fail, the change must not
        split = subprocess.Popen([os.path.join(os.path.dirname(arguments.tenond), "tenonctl"), "shard", "split", "--address",
                                  server.address, "--shards", str(shards)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await asyncio.sleep(dice.uniform(0, 1.5))
        db.kill()
        if i % 3 == 2:
            server.kill()
        await asyncio.to_thread(db.start)
        if not server.alive() and not await asyncio.to_thread(server.start):
            raise RuntimeError("tenond does not start again")
        splits += await asyncio.to_thread(split.wait, PATIENCE_S) == 0
    await more_acks(world, 20)
    return splits


async def campaign(arguments, folder):
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    dice = random.Random(seed)
    try:
        store = await asyncio.to_thread(Store, arguments.store, os.path.join(folder, "store"), arguments.tools,
                                        arguments.plugins, Ports(arguments.port + 20).take())
    except LookupError as why:
        print(f"skip: {why}")
        return 77
    await asyncio.to_thread(store.start)
    server = Tenond(arguments.tenond, folder, free_port(arguments.port), store.config)
    log_path, effects_path = os.path.join(folder, "log"), os.path.join(folder, "effects")
    try:
        subprocess.run([os.path.join(os.path.dirname(arguments.tenond), "tenonctl"), "schema", "setup", "--config",
                        server.config], check=True, stdout=subprocess.DEVNULL)
        if not server.start():
            raise RuntimeError(open(os.path.join(folder, "tenond.log")).read())
        world = World(server.address, Log(log_path), Log(effects_path), seed)
        await world.connect()
        tasks = {
            "clients": [asyncio.create_task(world.client(f"c{i}")) for i in range(8)] +
                       [asyncio.create_task(world.contender("same-id")) for _ in range(3)],
            "workers": [asyncio.create_task(world.workflow_worker(f"w{i}")) for i in range(6)] +
                       [asyncio.create_task(world.activity_worker(f"a{i}")) for i in range(6)],
        }
        splits = await hammer(arguments, store.server, server, world, dice)
        await until_quiet(world, tasks, log_path, PATIENCE_S)
        verdict, runs, oks = await judge(server.address, log_path, effects_path)
        idle = 0
        if arguments.store == "postgresql":
            idle = await asyncio.to_thread(idle_queries, store.server)
        status = server.stop()
    except RuntimeError as problem:
        print(f"seed {seed}: {problem}")
        return 1
    finally:
        if server.process and server.alive():
            server.kill()
        store.stop()
    for violation in verdict.violations[:20]:
        print("  " + violation)
    print(f"{arguments.store}, seed {seed}: {arguments.kills} kills, {splits} changes of the number of shards, {runs} runs, {oks} acknowledged calls, "
          f"{len(verdict.violations)} violations, exit status {status}"
          + (f", idle: queries in {idle} of 6 seconds" if arguments.store == "postgresql" else ""))
    return 1 if verdict.violations or status != 0 or idle else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", choices=[kind for kind in KINDS if kind != "redis"], default="postgresql")
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--plugins", required=True)
    parser.add_argument("--tools", required=True)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--port", type=int, default=17700)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-world.")
    os.chmod(folder, 0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # one that is cut off leaves no database behind
    status = asyncio.run(campaign(arguments, folder))
    if status == 1:
        print(f"  kept: {folder}")
    else:
        shutil.rmtree(folder)
    print(f"world: {int(status == 0)} passed, {int(status == 1)} failed")
    sys.exit(status)


if __name__ == "__main__":
    main()
