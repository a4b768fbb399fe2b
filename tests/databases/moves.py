# SPDX-License-Identifier: MIT
"""One cluster moves from driver to driver while it is used: sqlite (stopped, as its file has one owner) to PostgreSQL, and
from there, running and under load, to MySQL, to Redis and back to sqlite.  Copies are killed with -9 at several points
and taken up again.  One client works all the time, through every move.  At the end nothing that was acknowledged may
be lost or done twice, and `store verify` finds nothing."""

import argparse
import asyncio
import importlib.util
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import timedelta

import mysql_servers
from servers import Ports, Postgres, find
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

HERE = os.path.dirname(os.path.abspath(__file__))
logging.disable(logging.CRITICAL)
QUEUE = "moves"
SHARDS = 16

CONFIG = """\
log: {{level: warn}}
plugins: {{dirs: [{plugins}]}}
services: {{frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {port}}}}}, history: {{}}, matching: {{}}, worker: {{}}}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: {shards}
  datastores:
    main: {main}
    search: {search}
authorization: {{claimMapper: {{plugin: none}}, authorizer: {{plugin: allow_all}}}}
namespaces: {{create: [default]}}
"""


# ---- the load ----------------------------------------------------------------------------------------------------

@activity.defn
async def echo(text: str) -> str:
    return text


@workflow.defn
class Box:
    """Counts signals until it is told to end."""

    def __init__(self) -> None:
        self.got, self.over = [], False

    @workflow.run
    async def run(self) -> list:
        await workflow.execute_activity(echo, "x", start_to_close_timeout=timedelta(seconds=60))
        await workflow.wait_condition(lambda: self.over)
        return self.got

    @workflow.signal
    def put(self, n: int) -> None:
        self.got.append(n)

    @workflow.signal
    def end(self) -> None:
        self.over = True


class Load:
    def __init__(self):
        self.boxes = {}  # id -> [acknowledged numbers, tried numbers]
        self.acked = 0
        self.unclear = 0
        self.stopping = False

    async def attempt(self, call):
        """Whether it was acknowledged."""
        try:
            await call
        except (RPCError, asyncio.TimeoutError):
            self.unclear += 1
            await asyncio.sleep(0.1)
            return False
        self.acked += 1
        await asyncio.sleep(0.03)
        return True

    async def driver(self, client, k):
        n = 0
        while not self.stopping:
            n += 1
            name, soon = f"box-{k}-{n}", {"rpc_timeout": timedelta(seconds=5)}
            if not await self.attempt(client.start_workflow(Box.run, id=name, task_queue=QUEUE, **soon)):
                continue
            acked, tried = self.boxes[name] = [], []
            handle = client.get_workflow_handle(name)
            for number in range(4):
                tried.append(number)
                if await self.attempt(handle.signal(Box.put, number, **soon)):
                    acked.append(number)

    async def until(self, more):
        """Until so much more has been acknowledged."""
        goal, end = self.acked + more, time.monotonic() + 60
        while self.acked < goal:
            assert time.monotonic() < end, f"the load stands still at {self.acked}, {self.unclear} unclear"
            await asyncio.sleep(0.02)

    async def judge(self, client):
        async def one(name, acked, tried):
            handle = client.get_workflow_handle(name)
            await handle.signal(Box.end)
            got = await handle.result()
            assert set(acked) <= set(got) <= set(tried), f"{name}: {acked} acknowledged of {tried}, it got {got}"
            assert len(got) == len(set(got)), f"{name}: done twice: {got}"

        gate = asyncio.Semaphore(16)

        async def gated(name, acked, tried):
            async with gate:
                await asyncio.wait_for(one(name, acked, tried), 60)

        await asyncio.gather(*(gated(name, *lists) for name, lists in self.boxes.items()))


# ---- clusters ----------------------------------------------------------------------------------------------------

def redis_servers():
    spec = importlib.util.spec_from_file_location("redis_servers", os.path.join(HERE, "redis", "servers.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Moves:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.build = os.path.abspath(arguments.build)
        self.ports = Ports(arguments.port)
        self.port = self.ports.take()
        self.databases, self.server, self.log = [], None, None

    def config(self, name, main, search):
        path = os.path.join(self.folder, name + ".yaml")
        os.makedirs(os.path.join(self.folder, name), exist_ok=True)
        with open(path, "w") as out:
            out.write(CONFIG.format(plugins=self.arguments.plugins or self.build + "/plugins", port=self.port,
                                    shards=SHARDS, main=main, search=search))
        return path

    def sqlite(self, name):
        stores = [f"{{plugin: sqlite, path: {self.folder}/{name}/{store}.db}}" for store in ("main", "search")]
        return self.config(name, *stores)

    def postgresql(self):
        bin, why = find("15", self.arguments.tools)
        if not bin:
            raise LookupError(why)
        db = Postgres(bin, os.path.join(self.folder, "pg"), self.ports.take()).init().start()
        self.databases.append(db)
        stanza = (f'{{plugin: postgresql, sql: {{connectAddr: "127.0.0.1:{db.port}", databaseName: postgres, '
                  "user: postgres}}")
        return self.config("postgresql", stanza, stanza)

    def mysql(self):
        command, why = mysql_servers.find("mariadb", self.arguments.tools)
        if not command:
            raise LookupError(why)
        db = mysql_servers.Mysqld("mariadb", command, os.path.join(self.folder, "my"), self.ports.take()).init().start()
        self.databases.append(db)
        db.ask("CREATE DATABASE tenon; CREATE DATABASE documents")
        stanza = (f'{{plugin: mysql, sql: {{connectAddr: "127.0.0.1:{db.port}", databaseName: %s, user: root}}}}')
        self.documents = stanza % "documents"
        return self.config("mysql", stanza % "tenon", stanza % "tenon")

    def redis(self):
        """Its documents lie in MySQL's server, as those in a file could not be read while they are served."""
        if not shutil.which("redis-server"):
            raise LookupError("no redis-server here")
        db = redis_servers().Redis(os.path.join(self.folder, "redis-server"), self.ports.take(),
                                   "--no-appendfsync-on-rewrite", "no").start()
        self.databases.append(db)
        return self.config("redis", f'{{plugin: redis, connectAddr: "127.0.0.1:{db.port}"}}', self.documents)

    # ---- programs

    def serve(self, config):
        self.log = config + ".log"
        with open(self.log, "a") as log:
            self.server = subprocess.Popen([os.path.join(self.build, "tenond"), "--config", config], stdout=log,
                                           stderr=log, start_new_session=True)

    def said(self, text):
        with open(self.log) as log:
            return text in log.read()

    async def stop(self):
        self.server.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.server.wait, 60) == 0, open(self.log).read()[-2000:]

    async def ctl(self, *words, kill=None):
        """tenonctl; kill: a function of what it has said so far that decides when kill -9 comes.  Status and text."""
        out = open(os.path.join(self.folder, "ctl.out"), "w+")
        process = subprocess.Popen([os.path.join(self.build, "tenonctl"), *words], stdout=out, stderr=out,
                                   env={**os.environ, "TENON_PLUGIN_DIR": self.arguments.plugins or self.build + "/plugins"})

        def said():
            with open(out.name) as text:
                return text.read()

        while process.poll() is None:
            if kill and kill(said()):
                process.kill()
                process.wait()
            await asyncio.sleep(0.01)
        out.close()
        return process.returncode, said()

    async def well(self, *words):
        code, text = await self.ctl(*words)
        assert code == 0, f"tenonctl {' '.join(words)}: ended with {code}\n{text}"
        return text

    async def copy(self, source, target, kills, *words):
        """A copy that dies as often as there are kills; then whole.  How often it did die."""
        died = 0
        line = ["store", "copy", "--from", source, "--to", target, *words]
        for kill in kills:
            code, text = await self.ctl(*line, "--rate", "500", *(["--resume"] if died else []), kill=kill)
            if code == 0:
                return died  # it was faster
            assert code == -signal.SIGKILL, f"{' '.join(line)}: ended with {code}\n{text}"
            died += 1
        text = await self.well(*line, "--verify", *(["--resume"] if died else []))
        assert "DIFFERS" not in text, text
        return died


async def campaign(moves, load, dice):
    a = moves.sqlite("first")
    moves.serve(a)
    end, client = time.monotonic() + 60, None
    while not client:
        try:
            client = await Client.connect(f"127.0.0.1:{moves.port}",
                                          runtime=Runtime(telemetry=TelemetryConfig(logging=None)))
        except RuntimeError:
            assert time.monotonic() < end, open(moves.log).read()[-2000:]
            await asyncio.sleep(0.05)
    worker = Worker(client, task_queue=QUEUE, workflows=[Box], activities=[echo],
                    workflow_runner=UnsandboxedWorkflowRunner())
    working = asyncio.create_task(worker.run())
    drivers = [asyncio.create_task(load.driver(client, k)) for k in range(3)]
    await load.until(40)

    def later(low, high):
        at = time.monotonic() + dice.uniform(low, high)
        return lambda said: time.monotonic() >= at

    b = await asyncio.to_thread(moves.postgresql)
    await moves.well("schema", "setup", "--config", b)
    await moves.stop()
    died = await moves.copy(a, b, [later(0.05, 0.2), lambda said: "pass 1:" in said])
    await moves.well("store", "verify", "--config", b, "--settle", "1ms")
    moves.serve(b)
    route = ["sqlite", "postgresql"]
    for make, kills in ((moves.mysql, [lambda said: "pass 1:" in said,
                                       lambda said: moves.said("another process has taken this shard")]),
                        (moves.redis, [later(0.1, 0.8)]), (lambda: moves.sqlite("sqlite"), [])):
        c = await asyncio.to_thread(make)
        await moves.well("schema", "setup", "--config", c)
        await load.until(20)
        died += await moves.copy(b, c, kills, "--cutover")
        # The old server lives and has nothing left to say; it is told so, and a new one is refused.
        assert moves.server.poll() is None
        await moves.stop()
        refused = await asyncio.to_thread(subprocess.run, [os.path.join(moves.build, "tenond"), "--config", b],
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        assert refused.returncode and "it is not to be served: the cluster has been moved" in refused.stdout, refused.stdout
        await moves.well("store", "verify", "--config", c, "--rows-only")
        moves.serve(c)
        route.append(os.path.basename(c).removesuffix(".yaml"))
        b = c
    await load.until(20)
    load.stopping = True
    await asyncio.gather(*drivers)
    await load.judge(client)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await moves.stop()
    text = await moves.well("store", "verify", "--config", b, "--settle", "1ms")
    assert "violations                  0" in text, text
    return (f"{' → '.join(route)}: {len(load.boxes)} runs, {load.acked} acknowledged calls, {load.unclear} refused or unclear, "
            f"{died} copies killed")


async def play(moves, dice):
    load = Load()
    try:
        return await campaign(moves, load, dice)
    finally:
        load.stopping = True
        if moves.server and moves.server.poll() is None:
            moves.server.kill()
        for db in moves.databases:
            db.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--tools", required=True)
    parser.add_argument("--plugins")
    parser.add_argument("--port", type=int, default=17900)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    passed = failed = 0
    for turn in range(arguments.rounds):
        folder = tempfile.mkdtemp(prefix="tenon-moves.")
        os.chmod(folder, 0o755)
        began, seed = time.monotonic(), arguments.seed + turn
        try:
            line = asyncio.run(play(Moves(arguments, folder), random.Random(seed)))
        except LookupError as why:
            print(f"skip a cluster that moves: {why}", flush=True)
        except Exception as error:
            print(f"not ok a cluster that moves (seed {seed}): {error!r}\n  kept: {folder}", flush=True)
            failed += 1
            continue
        else:
            print(f"ok a cluster that moves: {line} (seed {seed}, {time.monotonic() - began:.0f} s)", flush=True)
            passed += 1
        shutil.rmtree(folder, ignore_errors=True)
    print(f"moves: {passed} passed, {failed} failed", flush=True)
    # The SDK's threads sometimes crash while the interpreter is taken down around them.
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main()
