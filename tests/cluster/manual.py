# SPDX-License-Identifier: MIT
"""man/tenon-cluster.7 played by somebody who has it and nothing else: etc/cluster.yaml on hosts that are started at once, one
drained, one that dies, is evicted and replaced, another number of shards, and a backup under load by the store's own tools
that is restored into a cluster of new hosts after all old ones have died.  Every call that was acknowledged before the
backup began must have its effect there; and timers that are due fire once."""

import asyncio
import os
import re
import subprocess
import time
from datetime import timedelta

import temporalio.api.enums.v1 as enums
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import stores
from fleet import Balancer
from hosts import Host, Site, all_see, connected
from servers import Ports

QUEUE = "manual"
SLEEP_S = 4
tokens = {}  # workflow id -> token of its activity that is under way


@activity.defn
async def held() -> str:
    tokens.setdefault(activity.info().workflow_id, activity.info().task_token)
    activity.raise_complete_async()


@workflow.defn
class Holder:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(held, start_to_close_timeout=timedelta(seconds=300),
                                               retry_policy=RetryPolicy(maximum_attempts=1))  # its start is in the store


@workflow.defn
class Sleeper:
    @workflow.run
    async def run(self) -> str:
        await asyncio.sleep(SLEEP_S)
        return "awake"


@workflow.defn
class Box:
    def __init__(self) -> None:
        self.got, self.over = [], False

    @workflow.run
    async def run(self) -> list:
        await workflow.wait_condition(lambda: self.over)
        return self.got

    @workflow.signal
    def put(self, n: int) -> None:
        self.got.append(n)

    @workflow.signal
    def end(self) -> None:
        self.over = True


class Load:
    """Boxes that are started and told numbers; what was acknowledged, and what was tried."""

    def __init__(self, client):
        self.client, self.acked, self.tried, self.errors, self.stopping = client, {}, {}, [], False
        self.tasks = [asyncio.create_task(self.drive(k)) for k in range(4)]

    async def drive(self, k):
        n = 0
        while not self.stopping:
            name, n = f"box-{k}-{n}", n + 1
            self.tried[name] = []
            try:
                handle = await self.client.start_workflow(Box.run, id=name, task_queue=QUEUE)
                self.acked[name] = []
                for number in range(4):
                    self.tried[name].append(number)
                    await handle.signal(Box.put, number)
                    self.acked[name].append(number)
            except RPCError as error:
                self.errors.append(str(error))
            await asyncio.sleep(0.2)

    def count(self):
        return sum(1 + len(numbers) for numbers in self.acked.values())

    async def more(self, count):
        goal, end = self.count() + count, time.monotonic() + 120
        while self.count() < goal:
            if time.monotonic() > end:
                raise RuntimeError(f"nothing is acknowledged any more: {self.errors[-1:]}")
            await asyncio.sleep(0.02)

    async def end(self):
        self.stopping = True
        await asyncio.gather(*self.tasks)


# ---- the stores' own tools ----


def run(*words, **more):
    done = subprocess.run(words, stderr=subprocess.PIPE, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.decode()[-400:]}")


class PostgreSQL:
    """As etc/cluster.yaml has it: two databases of the user tenon."""

    names = ("tenon", "tenon_visibility")

    def __init__(self, arguments, folder, ports):
        self.stores, self.folder = stores.Stores("postgresql", folder, arguments.tools, ports), folder
        self.db = self.stores.main
        for sql in ("CREATE ROLE tenon LOGIN", *(f"CREATE DATABASE {name} OWNER tenon" for name in self.names)):
            self.db.ask(sql)
        self.where = ("-h", "127.0.0.1", "-p", str(self.db.port), "-U", "postgres")

    def configure(self, path, restored):
        if restored:
            rewrite(path, r"databaseName: (\w+)", r"databaseName: restored_\1")

    def back_up(self):
        for name in self.names:  # the store first
            run("pg_dump", *self.where, "-Fc", "-f", os.path.join(self.folder, name + ".dump"), name)

    def restore(self):
        for name in self.names:
            self.db.ask(f"CREATE DATABASE restored_{name} OWNER tenon")
            run("pg_restore", *self.where, "-d", "restored_" + name, os.path.join(self.folder, name + ".dump"))

    def stop(self):
        self.stores.drop()


class MySQL(PostgreSQL):
    def __init__(self, arguments, folder, ports):
        self.stores, self.folder = stores.Stores(arguments.store, folder, arguments.tools, ports), folder
        self.db = self.stores.main
        self.db.ask("CREATE DATABASE tenon_visibility")
        self.where = ("--no-defaults", "-h127.0.0.1", f"-P{self.db.port}", "-uroot")

    def configure(self, path, restored):
        rewrite(path, r"plugin: postgresql", "plugin: mysql")
        rewrite(path, r"user: tenon", "user: root")
        super().configure(path, restored)

    def back_up(self):
        for name in self.names:
            run("mariadb-dump", *self.where, "--single-transaction", "--hex-blob", f"--result-file={self.folder}/{name}.sql", name)

    def restore(self):
        for name in self.names:
            self.db.ask(f"CREATE DATABASE restored_{name}")
            with open(f"{self.folder}/{name}.sql") as dump:
                run("mariadb", *self.where, "restored_" + name, stdin=dump)


class Redis(PostgreSQL):
    """Redis, and PostgreSQL for visibility."""

    def __init__(self, arguments, folder, ports):
        self.arguments, self.ports = arguments, ports
        super().__init__(arguments, folder, ports)
        self.redis = self.second = stores.redis(os.path.join(folder, "main"), ports.take(), None)

    def configure(self, path, restored):
        port = self.second.port if restored else self.redis.port
        rewrite(path, r"plugin: postgresql\n +sql: .*databaseName: tenon,.*", f'plugin: redis\n      connectAddr: "127.0.0.1:{port}"')
        super().configure(path, restored)

    def back_up(self):
        run("redis-cli", "-p", str(self.redis.port), "--rdb", os.path.join(self.folder, "dump.rdb"), stdout=subprocess.DEVNULL)
        run("pg_dump", *self.where, "-Fc", "-f", os.path.join(self.folder, "tenon_visibility.dump"), "tenon_visibility")

    def restore(self):
        """A server reads the dump without an append-only file, and makes one when it is told to."""
        home = os.path.join(self.folder, "second")
        os.mkdir(home)
        os.rename(os.path.join(self.folder, "dump.rdb"), os.path.join(home, "dump.rdb"))
        self.second = stores.store.load_redis().Redis(home, self.ports.take(), "--appendonly", "no").start()
        self.second.cli("CONFIG", "SET", "appendonly", "yes")
        self.db.ask("CREATE DATABASE restored_tenon_visibility OWNER tenon")
        run("pg_restore", *self.where, "-d", "restored_tenon_visibility", os.path.join(self.folder, "tenon_visibility.dump"))

    def stop(self):
        for server in {self.redis, self.second}:
            server.kill()
        super().stop()


def rewrite(path, what, by):
    with open(path) as text:
        words, found = re.subn(what, by, text.read())
    if not found:
        raise RuntimeError(f"{path}: there is no {what}")
    with open(path, "w") as out:
        out.write(words)


# ---- what the manual says ----


def host(site, kind, name, restored=False):
    made = Host(site, name)
    kind.configure(made.config, restored)
    return made


async def operate(report, site, kind, hosts, load, balancer):
    """Shrink, grow, a host that dies, another number of shards; nobody notices but who was connected to the dead one."""
    await asyncio.to_thread(hosts[3].stop)
    hosts[3].start()
    await asyncio.to_thread(all_see, 4, hosts)
    site.must(hosts[0], "shard", "split-plan", "--shards", "1024")
    told = site.must(hosts[0], "shard", "split", "--shards", "1024")
    await load.more(40)
    report.check("one host drained and back, twice as many shards", not load.errors, f"{load.count()} calls, {len(load.errors)} failed; "
                 f"{told.strip().splitlines()[-1]}" if not load.errors else load.errors[0])
    listed = site.must(hosts[0], "member", "list")
    dead = site.drop(hosts.pop())
    host_id = re.search(rf"^(\S+) +{re.escape(dead.ip)}:", listed, re.M)[1]
    since = time.monotonic()
    dead.kill()
    evicted = site.ask(hosts[0], "member", "evict", host_id)
    await asyncio.to_thread(all_see, 3, hosts)
    took = time.monotonic() - since
    hosts.append(host(site, kind, "replacement"))
    hosts[-1].start()
    await asyncio.to_thread(all_see, 4, hosts)
    balancer.addresses = site.addresses()
    await load.more(40)
    health = site.ask(hosts[0], "cluster", "health")
    report.check("a dead host is evicted and replaced", health[0] == 0, f"out of the rings {took:.2f} s after its death; "
                 + ("evicted" if evicted[0] == 0 else evicted[1].strip()))


async def timers_set(client, names):
    for name in names:
        while not any(event.event_type == enums.EventType.EVENT_TYPE_TIMER_STARTED
                      for event in (await client.get_workflow_handle(name).fetch_history()).events):
            await asyncio.sleep(0.05)


async def fired(client, name):
    """How often its timer fired, and by how much too early at most."""
    events = (await client.get_workflow_handle(name).fetch_history()).events
    set_at = [e.event_time.ToNanoseconds() for e in events if e.event_type == enums.EventType.EVENT_TYPE_TIMER_STARTED]
    fired_at = [e.event_time.ToNanoseconds() for e in events if e.event_type == enums.EventType.EVENT_TYPE_TIMER_FIRED]
    return len(fired_at) == len(set_at) == 1 and fired_at[0] >= set_at[0] + SLEEP_S * 10**9


async def back_up(kind, client, load):
    """The names of what was there before; what was acknowledged before the backup began."""
    sleepers = [f"sleeper-{i}" for i in range(8)]
    for name in sleepers:
        await client.start_workflow(Sleeper.run, id=name, task_queue=QUEUE)
    await client.start_workflow(Holder.run, id="held-before", task_queue=QUEUE)
    await timers_set(client, sleepers)
    while "held-before" not in tokens:
        await asyncio.sleep(0.05)
    before = {name: list(numbers) for name, numbers in load.acked.items()}
    began = time.monotonic()
    await asyncio.to_thread(kind.back_up)
    took = time.monotonic() - began
    await load.more(60)
    await client.start_workflow(Holder.run, id="held-after", task_queue=QUEUE)
    while "held-after" not in tokens:
        await asyncio.sleep(0.05)
    return sleepers, before, took


async def lost_boxes(client, load, before):
    """What was acknowledged before the backup and is not there; how many boxes of later there are not."""
    wrong, later = [], 0

    async def one(name):
        nonlocal later
        handle = client.get_workflow_handle(name)
        try:
            await handle.signal(Box.end)
            got = await asyncio.wait_for(handle.result(), 90)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND or name in before:
                wrong.append(f"{name}: {error}")
            later += error.status == RPCStatusCode.NOT_FOUND
            return
        except asyncio.TimeoutError:
            wrong.append(f"{name}: it does not end")
            return
        if not set(before.get(name, [])) <= set(got) <= set(load.tried[name]) or len(got) != len(set(got)):
            wrong.append(f"{name}: {before.get(name)} acknowledged of {load.tried[name]}, it got {got}")
    names = sorted(load.acked)
    for i in range(0, len(names), 32):
        await asyncio.gather(*[one(name) for name in names[i:i + 32]])
    return wrong, later


async def restored(report, site, kind):
    await asyncio.to_thread(kind.restore)
    hosts = [host(site, kind, f"new{i}", True) for i in range(2)]
    verified = site.ask(hosts[0], "store", "verify", "--rows-only")
    report.check("the restored rows are whole", verified[0] == 0, verified[1].strip().splitlines()[-1] if verified[1] else "")
    for one in hosts:
        one.start()
    await asyncio.to_thread(all_see, 2, hosts)


async def looked_at(report, site, client, load, saved):
    """What the restored cluster holds and does."""
    sleepers, before, took = saved
    hosts, began = site.members, time.monotonic()
    results = await asyncio.wait_for(asyncio.gather(*[client.get_workflow_handle(name).result() for name in sleepers]), 120)
    report.check("timers that came due meanwhile", results == ["awake"] * len(sleepers) and
                 all([await fired(client, name) for name in sleepers]),
                 f"{len(sleepers)} fired once, all done {time.monotonic() - began:.1f} s after the workers began")
    await client.get_async_activity_handle(task_token=tokens["held-before"]).complete("done")
    try:
        await client.get_async_activity_handle(task_token=tokens["held-after"]).complete("done")
        late = "was taken"
    except Exception as error:  # the SDK has classes of its own for it
        late = f"{type(error).__name__} {error}"
    report.check("tasks that workers hold", await asyncio.wait_for(client.get_workflow_handle("held-before").result(), 60) == "done" and
                 "not found" in late.lower(), f"one of before the backup is completed, one of after: {late[:80]}")
    wrong, later = await lost_boxes(client, load, before)
    report.check("nothing acknowledged before the backup is lost", not wrong and len(before) > 10,
                 wrong[0] if wrong else f"{len(before)} runs and {sum(map(len, before.values()))} signals are there; the backup took {took:.1f} s, "
                 f"of {len(load.acked) - len(before)} runs begun after its begin {later} are gone")
    indexed, judged = site.ask(hosts[0], "store", "reindex"), site.ask(hosts[0], "store", "verify")
    report.check("visibility is made to agree", indexed[0] == judged[0] == 0, (judged if judged[0] else indexed)[1].strip().splitlines()[-1])


def worker(client):
    """Ended before the cluster is restored, and started anew: what a worker has cached is ahead of the restored histories, and it
    would take signals of now for such as it has seen."""
    return Worker(client, task_queue=QUEUE, workflows=[Box, Sleeper, Holder], activities=[held],
                  workflow_runner=UnsandboxedWorkflowRunner())


async def play(arguments, report, folder):
    ports = Ports(arguments.port)
    kind = {"postgresql": PostgreSQL, "redis": Redis}.get(arguments.store, MySQL)(arguments, folder, ports)
    site, balancer = Site(arguments, folder, ports, kind.db), None
    try:
        hosts = [host(site, kind, f"host{i}") for i in range(4)]
        site.must(hosts[0], "schema", "setup")
        for one in hosts:
            one.start()
        took = await asyncio.to_thread(all_see, 4, hosts)
        report.check("four hosts with etc/cluster.yaml, started at once", True, f"see each other {took:.1f} s later")
        balancer = await Balancer(site.addresses(), ports.take()).start()
        client = await connected(balancer.address)
        async with worker(client):
            load = Load(client)
            await load.more(40)
            await operate(report, site, kind, hosts, load, balancer)
            saved = await back_up(kind, client, load)
            await load.end()
        site.abandon()
        site.members = []
        await restored(report, site, kind)
        balancer.addresses = site.addresses()
        client = await connected(balancer.address)
        async with worker(client):
            await looked_at(report, site, client, load, saved)
        ends = await asyncio.gather(*[asyncio.to_thread(one.stop) for one in site.members])
        report.check("stop after the manual", not any(ends), str(ends))
    finally:
        if balancer:
            balancer.close()
        site.abandon()
        kind.stop()
