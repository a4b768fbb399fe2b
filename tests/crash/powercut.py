# SPDX-License-Identifier: MIT
"""Power cuts: tenond's files lie on lossfs, which is killed together with the server; what is left on the disk below
is what a disk would have kept.  With --lying-disk fsync does nothing, and the judge must then find losses."""

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time

from judge import judge
from server import Server, free_port
from world import Log, World


class Disk:
    def __init__(self, lossfs, folder):
        self.lossfs, self.back, self.mount = lossfs, os.path.join(folder, "back"), os.path.join(folder, "mnt")
        os.makedirs(self.back)
        os.makedirs(self.mount)
        self.process = None

    def up(self):
        self.process = subprocess.Popen([self.lossfs, self.back, self.mount, "-s", "-f"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(400):
            if os.path.ismount(self.mount):
                return
            time.sleep(0.01)
        raise RuntimeError("lossfs does not mount")

    def cut(self):
        self.process.kill()
        self.process.wait()
        subprocess.run(["umount", "-l", self.mount], check=False, stderr=subprocess.DEVNULL)
        for _ in range(400):
            if not os.path.ismount(self.mount):
                return
            time.sleep(0.01)


async def one_cut(arguments, seed):
    dice = random.Random(seed)
    folder = tempfile.mkdtemp(prefix="tenon-power.")
    disk = Disk(arguments.lossfs, folder)
    disk.up()
    log_path, effects_path = os.path.join(folder, "log"), os.path.join(folder, "effects")
    env = {"LD_PRELOAD": arguments.nosync} if arguments.lying_disk else None
    port = free_port(arguments.port)
    database = os.path.join(disk.mount, "crash.db")
    server = Server(arguments.tenond, folder, port, arguments.server_arg, env=env, database=database)
    server.start()
    world = World(server.address, Log(log_path), Log(effects_path), seed)
    await world.connect()
    tasks = [asyncio.create_task(world.client(f"c{i}")) for i in range(6)]
    tasks += [asyncio.create_task(world.workflow_worker(f"w{i}")) for i in range(3)]
    tasks += [asyncio.create_task(world.activity_worker(f"a{i}")) for i in range(3)]
    await asyncio.sleep(dice.uniform(0.5, 2.0))
    disk.cut()  # first the disk: what the server acknowledges after this moment is not on it either
    server.kill()
    world.stop.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    after = Server(arguments.tenond, folder, port, arguments.server_arg,
                   database=os.path.join(disk.back, "crash.db"))
    if not after.start():
        print(f"  seed {seed}: tenond does not start on what the disk kept")
        return 1, 0
    verdict, runs, oks = await judge(after.address, log_path, effects_path, must_end=False)
    after.stop()
    lost = [violation for violation in verdict.violations if violation.startswith(("R1", "R3"))]
    for violation in lost[:3]:
        if not arguments.lying_disk:
            print(f"  seed {seed}: {violation}")
    subprocess.run(["rm", "-rf", folder], check=False)
    return len(lost), oks


async def campaign(arguments):
    losses = acknowledged = bad_cuts = 0
    for n in range(arguments.cuts):
        lost, oks = await one_cut(arguments, arguments.seed + n)
        losses += lost
        acknowledged += oks
        bad_cuts += lost > 0
    print(f"{arguments.cuts} power cuts{' with a lying disk' if arguments.lying_disk else ''}: "
          f"{acknowledged} acknowledged calls, {losses} lost in {bad_cuts} cuts")
    if not acknowledged:
        return 1
    return int(losses == 0) if arguments.lying_disk else int(losses > 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--lossfs", required=True)
    parser.add_argument("--nosync", help="the preloaded library of --lying-disk")
    parser.add_argument("--lying-disk", action="store_true")
    parser.add_argument("--cuts", type=int, default=3)
    parser.add_argument("--port", type=int, default=17370)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server-arg", action="append", default=[])
    sys.exit(asyncio.run(campaign(parser.parse_args())))


if __name__ == "__main__":
    main()
