# SPDX-License-Identifier: MIT
"""A store that fails: refusals, lost answers, late answers, commits of which nobody knows whether they were made.
Load goes on under such faults, with a kill now and then and a cache too small for it; then the faults end and
everything must finish (R12, R13), and the judge decides."""

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile

from judge import judge
from kills import until_quiet
from server import Server, free_port
from world import Log, World

CONFIG = """\
log: {{level: warn}}
services:
  frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {port}}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
threads: {threads}
plugins: {{dirs: [{plugins}, {tests}]}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: {shards}
  datastores:
    main: {{plugin: faulty, inner: {plugins}/persistence/sqlite.so, path: {folder}/main.db,
           rateFile: {folder}/rate, seed: {seed}, lateMs: 1500}}
    search: {{plugin: sqlite, path: {folder}/search.db}}
authorization: {{claimMapper: {{plugin: none}}, authorizer: {{plugin: allow_all}}}}
namespaces: {{create: [default], retention: 72h}}
cache: {{maxBytes: {cache}}}
limits: {{storeTimeout: 1s}}
"""


class Configured(Server):
    def start(self, wait=True):
        with open(os.path.join(self.folder, "tenond.log"), "a") as log:
            self.process = subprocess.Popen([self.binary, "--config", os.path.join(self.folder, "tenon.yaml")],
                                            stdout=log, stderr=log, env=self.env, start_new_session=True)
        return self.wait_ready() if wait else True


def prepare(arguments, folder, port, seed):
    with open(os.path.join(folder, "tenon.yaml"), "w") as out:
        out.write(CONFIG.format(folder=folder, port=port, threads=arguments.threads, seed=seed,
                                cache=arguments.cache, shards=arguments.shards,
                                plugins=os.path.abspath(arguments.plugins), tests=os.path.abspath(arguments.faulty)))


def set_rate(folder, per_mille, fenced):
    with open(os.path.join(folder, "rate.new"), "w") as out:
        out.write(f"{per_mille} {fenced}\n")
    os.rename(os.path.join(folder, "rate.new"), os.path.join(folder, "rate"))


async def campaign(arguments, folder):
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    dice = random.Random(seed)
    port = free_port(arguments.port)
    prepare(arguments, folder, port, seed)
    set_rate(folder, 0, 0)
    server = Configured(arguments.tenond, folder, port)
    log_path, effects_path = os.path.join(folder, "log"), os.path.join(folder, "effects")
    world = World(server.address, Log(log_path), Log(effects_path), seed)
    if not server.start():
        print(open(os.path.join(folder, "tenond.log")).read())
        return 1
    await world.connect()
    tasks = {
        "clients": [asyncio.create_task(world.client(f"c{i}")) for i in range(arguments.clients)] +
                   [asyncio.create_task(world.contender("same-id")) for _ in range(3)],
        "workers": [asyncio.create_task(world.workflow_worker(f"w{i}")) for i in range(6)] +
                   [asyncio.create_task(world.activity_worker(f"a{i}")) for i in range(6)],
    }
    set_rate(folder, arguments.rate, arguments.fences)
    slice_s = arguments.seconds / (arguments.kills + 1)
    for i in range(arguments.kills + 1):
        await asyncio.sleep(slice_s * dice.uniform(0.7, 1.3))
        if not server.alive():
            print(f"seed {seed}: tenond ended by itself with {server.process.poll()}")
            return 1
        if i < arguments.kills:
            server.kill()
            if not server.start() and not server.start():
                print(f"seed {seed}: tenond does not start again")
                return 1
    set_rate(folder, 0, 0)
    await until_quiet(world, tasks, log_path, 90)
    verdict, runs, oks = await judge(server.address, log_path, effects_path)
    status = server.stop()
    for violation in verdict.violations[:20]:
        print("  " + violation)
    print(f"seed {seed}: {arguments.rate / 10} % faults for {arguments.seconds} s, {arguments.kills} kills, "
          f"{runs} runs, {oks} acknowledged calls, {len(verdict.violations)} violations, exit status {status}")
    return 1 if verdict.violations or status != 0 or oks < 20 else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--plugins", required=True, help="the folder of the plugins")
    parser.add_argument("--faulty", required=True, help="the folder that has persistence/faulty.so")
    parser.add_argument("--rate", type=int, default=50, help="faults in a thousand requests")
    parser.add_argument("--fences", type=int, default=20, help="false fences in a hundred thousand commits")
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--cache", default="256KiB")
    parser.add_argument("--port", type=int, default=17350)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    parser.add_argument("--server-arg", action="append", default=[])
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-stutter.")
    status = asyncio.run(campaign(arguments, folder))
    if arguments.keep or status:
        print(f"  kept: {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(status)


if __name__ == "__main__":
    main()
