# SPDX-License-Identifier: MIT
"""tenond on PostgreSQL under the crash suite's load: postgres dies by kill -9 again and again, tenond now and then;
in the end all work must finish, and the judge of tests/crash decides."""

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "crash"))

from judge import judge  # noqa: E402
from kills import until_quiet  # noqa: E402
from server import Server, free_port  # noqa: E402
from servers import Ports, Postgres, find  # noqa: E402
from world import Log, World  # noqa: E402

CONFIG = """\
log: {{level: warn}}
plugins: {{dirs: [{plugins}]}}
services:
  frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {port}}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
threads: 2
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 64
  datastores:
    main:
      plugin: postgresql
      sql: {{connectAddr: "127.0.0.1:{db}", databaseName: postgres, user: postgres, autoSetup: true}}
    search: {{plugin: sqlite, path: {folder}/search.db}}
authorization: {{claimMapper: {{plugin: none}}, authorizer: {{plugin: allow_all}}}}
namespaces: {{create: [default], retention: 72h}}
"""


class Configured(Server):
    def start(self, wait=True):
        with open(os.path.join(self.folder, "tenond.log"), "a") as log:
            self.process = subprocess.Popen([self.binary, "--config", os.path.join(self.folder, "tenon.yaml")],
                                            stdout=log, stderr=log, env=self.env, start_new_session=True)
        return self.wait_ready() if wait else True


def idle_queries(db, seconds=6):
    """How many of so many seconds saw a query of the server that has nothing to do."""
    time.sleep(3)
    seen = set()
    for _ in range(seconds):
        seen.add(db.ask("SELECT max(query_start) FROM pg_stat_activity WHERE application_name = 'tenon'"))
        time.sleep(1)
    return len(seen) - 1


async def campaign(arguments, folder):
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    dice = random.Random(seed)
    bin, why = find("15", arguments.tools)
    if not bin:
        print(f"skip: {why}")
        return 77
    db = Postgres(bin, os.path.join(folder, "db"), Ports(arguments.port + 20).take())
    db.init().start()
    port = free_port(arguments.port)
    with open(os.path.join(folder, "tenon.yaml"), "w") as out:
        out.write(CONFIG.format(folder=folder, port=port, db=db.port, plugins=os.path.abspath(arguments.plugins)))
    server = Configured(arguments.tenond, folder, port)
    log_path, effects_path = os.path.join(folder, "log"), os.path.join(folder, "effects")
    try:
        if not server.start():
            print(open(os.path.join(folder, "tenond.log")).read())
            return 1
        world = World(server.address, Log(log_path), Log(effects_path), seed)
        await world.connect()
        tasks = {
            "clients": [asyncio.create_task(world.client(f"c{i}")) for i in range(8)] +
                       [asyncio.create_task(world.contender("same-id")) for _ in range(3)],
            "workers": [asyncio.create_task(world.workflow_worker(f"w{i}")) for i in range(6)] +
                       [asyncio.create_task(world.activity_worker(f"a{i}")) for i in range(6)],
        }
        for i in range(arguments.kills):
            await asyncio.sleep(dice.uniform(0.5, 2.5))
            db.kill()
            if i % 3 == 2:
                server.kill()
            await asyncio.to_thread(db.start)
            if not server.alive() and not await asyncio.to_thread(server.start):
                print(f"seed {seed}: tenond does not start again")
                return 1
        await until_quiet(world, tasks, log_path, 90)
        verdict, runs, oks = await judge(server.address, log_path, effects_path)
        idle = await asyncio.to_thread(idle_queries, db)
        status = server.stop()
        for violation in verdict.violations[:20]:
            print("  " + violation)
        print(f"seed {seed}: {arguments.kills} kills, {runs} runs, {oks} acknowledged calls, "
              f"{len(verdict.violations)} violations, exit status {status}, idle: queries in {idle} of 6 seconds")
        return 1 if verdict.violations or status != 0 or oks < 20 or idle else 0
    finally:
        if server.process and server.alive():
            server.kill()
        db.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--plugins", required=True)
    parser.add_argument("--tools", required=True)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--port", type=int, default=17700)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-pgworld.")
    os.chmod(folder, 0o755)
    status = asyncio.run(campaign(arguments, folder))
    if status == 0:
        shutil.rmtree(folder)
    elif status == 1:
        print(f"  kept: {folder}")
    print(f"world: {int(status == 0)} passed, {int(status == 1)} failed")
    sys.exit(status)


if __name__ == "__main__":
    main()
