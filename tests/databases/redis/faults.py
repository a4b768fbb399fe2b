# SPDX-License-Identifier: MIT
"""tenond on a Redis to which bad things happen, under load; in the end all work must finish, and the judge of tests/crash
decides whether anything acknowledged was lost or anything was done twice.

    kills     Redis is killed and started again, tenond now and then too
    cuts      connections are cut in the middle of requests and answers
    failover  the master is killed, Sentinel makes the replica master (waitReplicas: 1)
    cluster   a server of a Redis Cluster is killed and started again, slots move under load
    full      Redis's disk is full (needs the right to mount a tmpfs)
    power     Redis's files on tests/crash/lossfs.c: what was not synced is lost; with --control Redis has everysec,
              and losses must be found
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "crash")]

from judge import judge  # noqa: E402
from kills import until_quiet  # noqa: E402
from server import Server  # noqa: E402
from servers import Cluster, Redis, Watched, free_ports  # noqa: E402
from world import Log, World  # noqa: E402

CONFIG = """\
log: {{level: warn}}
services:
  frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {port}}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
threads: 2
plugins: {{dirs: [{plugins}]}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 16
  datastores:
    main: {{plugin: redis, autoSetup: true, {stanza}}}
    search: {{plugin: sqlite, path: {folder}/search.db}}
authorization: {{claimMapper: {{plugin: none}}, authorizer: {{plugin: allow_all}}}}
namespaces: {{create: [default], retention: 72h}}
"""


class Tenond(Server):
    def __init__(self, arguments, folder, stanza):
        port = free_ports(1)[0]
        super().__init__(arguments.tenond, folder, port)
        self.config = os.path.join(folder, "tenon.yaml")
        with open(self.config, "w") as out:
            out.write(CONFIG.format(port=port, plugins=os.path.abspath(arguments.plugins), stanza=stanza, folder=folder))

    def start(self, wait=True):
        with open(os.path.join(self.folder, "tenond.log"), "a") as log:
            self.process = subprocess.Popen([self.binary, "--config", self.config], stdout=log, stderr=log,
                                            start_new_session=True)
        return self.wait_ready() if wait else True


class Proxy:
    """Between tenond and Redis: passes bytes, and cuts connections after a random number of them while `cutting`."""

    def __init__(self, target, seed):
        self.target, self.dice = target, random.Random(seed)
        self.cutting, self.cuts = False, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    def pump(self, source, sink):
        left = self.dice.randrange(200_000)
        try:
            while data := source.recv(65536):
                if self.cutting and len(data) > left:
                    sink.sendall(data[:left])  # truncated in the middle of something
                    self.cuts += 1
                    break
                left -= len(data)
                if left < 0:
                    left = self.dice.randrange(200_000)
                if self.cutting and self.dice.random() < 0.05:
                    time.sleep(self.dice.uniform(0, 0.05))
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


# ---- what happens ----

async def wait(seconds):
    await asyncio.sleep(seconds)


async def in_thread(function, *words):
    return await asyncio.get_running_loop().run_in_executor(None, function, *words)


def one_redis(folder, *arguments):
    return Redis(os.path.join(folder, "redis"), free_ports(1)[0], *arguments)


async def kills(case):
    redis = one_redis(case.folder).start()
    case.things.append(redis)
    await case.begin(f"connectAddr: \"127.0.0.1:{redis.port}\"")
    for n in range(case.arguments.rounds):
        await wait(case.dice.uniform(0.3, 1.2))
        redis.kill()
        await wait(case.dice.uniform(0, 0.5))
        if n % 4 == 3:
            case.tenond.kill()
        await in_thread(redis.start)
        if n % 4 == 3:
            case.must(await in_thread(case.tenond.start), "tenond does not start again")
    return f"{case.arguments.rounds} kills of Redis, {case.arguments.rounds // 4} of tenond"


async def cuts(case):
    redis = one_redis(case.folder).start()
    case.things.append(redis)
    proxy = Proxy(redis.port, case.seed)
    await case.begin(f"connectAddr: \"127.0.0.1:{proxy.port}\", commandTimeout: 2s")
    proxy.cutting = True
    await wait(case.arguments.rounds * 1.0)
    await in_thread(Watched.until, lambda: proxy.cuts >= case.arguments.rounds, f"{case.arguments.rounds} cuts")
    proxy.cutting = False
    return f"{proxy.cuts} cut connections"


async def failover(case):
    watched = await in_thread(Watched(case.folder).start)
    case.things.append(watched)
    sentinels = ", ".join(f"\"127.0.0.1:{sentinel.port}\"" for sentinel in watched.sentinels)
    await case.begin(f"sentinels: [{sentinels}], masterName: {watched.NAME}, waitReplicas: 1, waitTimeout: 2s, "
                     "commandTimeout: 2s")
    rounds = max(2, case.arguments.rounds // 4)
    for _ in range(rounds):
        await wait(case.dice.uniform(1, 2))
        await in_thread(watched.fail_over)
        before = case.world.acks
        await in_thread(Watched.until, lambda: case.world.acks > before + 20, "work after a fail-over")
    return f"{rounds} fail-overs"


async def cluster(case):
    nodes = await in_thread(Cluster(case.folder).start)
    case.things.append(nodes)
    await case.begin(f"cluster: [\"127.0.0.1:{nodes.nodes[0].port}\", \"127.0.0.1:{nodes.nodes[1].port}\"]")
    used = sum(node.cli("DBSIZE").strip() != "0" for node in nodes.nodes)
    case.must(used == 3, f"{used} of 3 servers hold rows")
    rounds = max(2, case.arguments.rounds // 4)
    for n in range(rounds):
        await wait(1)
        await in_thread(nodes.move_slots, 400, n % 3, (n + 1) % 3)
        await wait(case.dice.uniform(0.3, 1))
        nodes.nodes[n % 3].kill()
        await wait(case.dice.uniform(0, 3))
        await in_thread(nodes.nodes[n % 3].start)
        before = case.world.acks
        await in_thread(Watched.until, lambda: case.world.acks > before + 20, "work after a server's return")
    return f"{rounds} moves of 400 slots, {rounds} kills of a server"


async def full(case):
    disk = os.path.join(case.folder, "redis")
    os.makedirs(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], check=True)
    case.mounts.append(disk)
    redis = one_redis(case.folder, "--auto-aof-rewrite-percentage", "0").start()
    case.things.append(redis)
    await case.begin(f"connectAddr: \"127.0.0.1:{redis.port}\"")
    await in_thread(Watched.until, lambda: not redis.alive(), "a full disk")
    gone = time.time()
    await wait(1)
    case.must(not case.acknowledged_since(gone), "writes asked for after Redis was gone are acknowledged")
    subprocess.run(["mount", "-o", "remount,size=300m", disk], check=True)
    await in_thread(redis.start)
    before = case.world.acks
    await in_thread(Watched.until, lambda: case.world.acks > before + 50, "work after there is space again")
    return "Redis's disk was full"


async def power(case):
    """The cut itself: what Redis acknowledged and what its disk has."""
    back, mount = os.path.join(case.folder, "back"), os.path.join(case.folder, "redis")
    os.makedirs(back)
    os.makedirs(mount)
    disk = subprocess.Popen([case.arguments.lossfs, back, mount, "-s", "-f"], stderr=subprocess.DEVNULL)
    await in_thread(Watched.until, lambda: os.path.ismount(mount), "a mount")
    case.mounts.append(mount)
    control = case.arguments.control
    redis = one_redis(case.folder, *(["--appendfsync", "everysec"] if control else []))
    if control:
        redis.command = lambda: [word for word in Redis.command(redis) if word != "always"]
        redis.arguments = []
        redis.command = lambda: ["redis-server", "--port", str(redis.port), "--bind", "127.0.0.1", "--dir", mount, "--save",
                                 "", "--appendonly", "yes", "--appendfsync", "everysec"]
    await in_thread(redis.start)
    case.things.append(redis)
    await case.begin(f"connectAddr: \"127.0.0.1:{redis.port}\"" + (", allowVolatile: true" if control else ""))
    await wait(case.dice.uniform(1.5, 3))
    # The cut comes right after something was acknowledged, however slow the machine is.
    before = case.world.acks
    await in_thread(Watched.until, lambda: case.world.acks > before + 20, "work before the cut")
    disk.kill()
    disk.wait()
    redis.kill()
    case.tenond.kill()
    await case.end_load()
    subprocess.run(["umount", "-l", mount], check=False)
    case.mounts.remove(mount)
    again = Redis(back, redis.port, *(["--appendfsync", "everysec"] if control else []))
    await in_thread(again.start)
    case.things.append(again)
    case.must(await in_thread(case.tenond.start), "tenond does not start on what the disk kept")
    return "a power cut" + (" with everysec" if control else "")


# ---- the frame ----

class Failed(Exception):
    pass


class Case:
    def __init__(self, arguments, folder, seed):
        self.arguments, self.folder, self.seed, self.dice = arguments, folder, seed, random.Random(seed)
        self.things, self.mounts, self.tasks = [], [], {"clients": [], "workers": []}
        self.log_path, self.effects_path = os.path.join(folder, "log"), os.path.join(folder, "effects")
        self.tenond = self.world = None

    @staticmethod
    def must(holds, text):
        if not holds:
            raise Failed(text)

    async def begin(self, stanza):
        self.tenond = Tenond(self.arguments, self.folder, stanza)
        if not await in_thread(self.tenond.start):
            raise Failed(open(os.path.join(self.folder, "tenond.log")).read())
        world = self.world = World(self.tenond.address, Log(self.log_path), Log(self.effects_path), self.seed)
        await world.connect()
        self.tasks = {
            "clients": [asyncio.create_task(world.client(f"c{i}")) for i in range(self.arguments.clients)] +
                       [asyncio.create_task(world.contender("same-id")) for _ in range(2)],
            "workers": [asyncio.create_task(world.workflow_worker(f"w{i}")) for i in range(5)] +
                       [asyncio.create_task(world.activity_worker(f"a{i}")) for i in range(5)],
        }
        await in_thread(Watched.until, lambda: world.acks > 300, "three hundred acknowledged calls")

    def acknowledged_since(self, moment):
        """The writes that were asked for after `moment` and acknowledged. Polls are not in the log: those that waited at
        that time may still be answered, and so may calls that Redis had taken."""
        with open(self.log_path) as log:
            calls = [json.loads(line) for line in log]
        return [call for call in calls if call["outcome"] == "ok" and call["asked"] > moment]

    async def end_load(self):
        self.world.stop.set()
        for task in self.tasks["clients"] + self.tasks["workers"]:
            task.cancel()
        await asyncio.gather(*self.tasks["clients"], *self.tasks["workers"], return_exceptions=True)

    def clear(self):
        if self.tenond and self.tenond.process and self.tenond.alive():
            self.tenond.kill()
        for thing in self.things:
            thing.stop()
        for mount in self.mounts:
            subprocess.run(["umount", "-l", mount], check=False)


async def run(arguments, folder):
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    case = Case(arguments, folder, seed)
    try:
        what = await globals()[arguments.campaign](case)
        ends = arguments.campaign != "power"
        if ends:
            await until_quiet(case.world, case.tasks, case.log_path, 300)
        verdict, runs, oks = await judge(case.tenond.address, case.log_path, case.effects_path, must_end=ends)
        status = case.tenond.stop(180)
    except (Failed, RuntimeError) as problem:
        print(f"seed {seed}: {problem}")
        return 1
    finally:
        case.clear()
    if arguments.control:
        lost = [violation for violation in verdict.violations if violation.startswith(("R1", "R3"))]
        print(f"seed {seed}: {what}: {oks} acknowledged calls, {len(lost)} losses found")
        return int(not lost)
    for violation in verdict.violations[:20]:
        print("  " + violation)
    print(f"seed {seed}: {what}, {runs} runs, {oks} acknowledged calls, {len(verdict.violations)} violations, "
          f"exit status {status}")
    return 1 if verdict.violations or status != 0 or oks < 50 else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("campaign", choices=["kills", "cuts", "failover", "cluster", "full", "power"])
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--plugins", required=True, help="the folder of the plugins")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--lossfs")
    parser.add_argument("--control", action="store_true", help="power: the negative control")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-redis.", dir=os.environ.get("TMPDIR", "/var/tmp"))
    for number in range(3 if arguments.control else 1):
        # everysec may have synced the very last write just before the cut: then there was nothing to lose.
        inner = os.path.join(folder, str(number))
        os.makedirs(inner)
        status = asyncio.run(run(arguments, inner))
        if status == 0:
            break
    if arguments.keep or status:
        print(f"  kept: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
