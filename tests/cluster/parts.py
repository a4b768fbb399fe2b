# SPDX-License-Identifier: MIT
"""What thirteen processes must do: pass the SDK's suite, notice a death, fence off a paused owner, be restarted one by one
without a client's notice; and what they cost beside one process."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta

import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.workflowservice.v1 as ws
from google.protobuf.duration_pb2 import Duration
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from fleet import SHARDS, Balancer
from judge import judge
from kills import until_quiet
from waits import Waits
from world import NAMESPACE, Log, World

ATTRIBUTES = {"CmpText": "Text", "CmpKeyword": "Keyword", "CmpInt": "Int", "CmpDouble": "Double", "CmpBool": "Bool",
              "CmpTime": "Datetime", "CmpList": "KeywordList", "SdkKeyword": "Keyword", "SdkInt": "Int"}


@activity.defn
async def greet(name: str) -> str:
    return "hello " + name


@workflow.defn
class Greeting:
    def __init__(self):
        self.name = ""

    @workflow.signal
    def tell(self, name: str):
        self.name = name

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.name != "")
        return await workflow.execute_activity(greet, self.name, start_to_close_timeout=timedelta(seconds=5))


def address(fleet, i=0):
    ip, port = fleet.addresses()[i]
    return f"{ip}:{port}"


# ---- what the operator's tool tells ----


def tenonctl(arguments, fleet):
    """A function that asks the operator's tool: status and text; None when it is not beside tenond."""
    tool = os.path.join(os.path.dirname(os.path.abspath(arguments.tenond)), "tenonctl")

    def ask(*words):
        done = subprocess.run([tool, *words, "--config", fleet.members[0].config], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout
    return ask if os.path.exists(tool) else None


async def told(arguments, report, fleet):
    ask = tenonctl(arguments, fleet)
    if not ask:
        report.say("no tenonctl beside tenond: it is not asked")
        return
    members, shards, health = ask("member", "list"), ask("shard", "list"), ask("cluster", "health")
    ports = {f"{role}:{port}" for member in fleet.members for role, port in member.rpc.items()}
    listed = {line.split()[-1] for line in members[1].splitlines()}
    report.check("tenonctl", members[0] == shards[0] == health[0] == 0 and listed == ports and
                 len(shards[1].splitlines()) == SHARDS and "range" in shards[1],
                 "member list, shard list, cluster health" if listed == ports else members[1] + health[1])
    deadline, holder = time.monotonic() + 30, None
    while time.monotonic() < deadline:  # shards are on their way while members still join
        owner, described = ask("ring", "owner", "3"), ask("shard", "describe", "3")
        holder = re.search(r"holder +\S+ (\S+)", described[1])
        if holder and f"owner {holder[1]}" in owner[1]:
            break
        await asyncio.sleep(0.2)
    wrong = ask("ring", "owner", str(SHARDS + 1)), ask("shard", "describe", "0"), ask("member", "evict", str(uuid.uuid4()))
    report.check("whose a shard is", owner[0] == described[0] == 0 and holder and f"owner {holder[1]}" in owner[1] and
                 [status for status, _ in wrong] == [1, 1, 1], owner[1] + described[1] if not holder else holder[1])
    ip, port = fleet.addresses()[0]
    plans = [ask("shard", "split-plan", "--shards", str(2 * SHARDS), *asked) for asked in ((), ("--address", f"{ip}:{port}"))]
    owners = f"{len(fleet.having('history'))} history processes"
    report.check("a plan for more shards", all(status == 0 and owners in text for status, text in plans),
                 owners if plans[0] == plans[1] else plans[0][1] + plans[1][1])

    def range_id():
        found = re.search(r"range (\d+)", ask("shard", "describe", "3")[1])
        return int(found[1]) if found else 0
    before, closed, deadline = range_id(), ask("shard", "close", "3"), time.monotonic() + 30
    while (after := range_id()) == before and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    report.check("a shard is closed and taken anew", closed[0] == 0 and after > before, f"range {after} after {before}")
    queue = ask("ring", "owner", f"queue:{NAMESPACE}/some"), ask("ring", "owner", f"workflow:{NAMESPACE}/some")
    report.check("whose a queue and a workflow are", all(status == 0 and "owner" in text for status, text in queue), queue[1][1].strip())


# ---- the SDK's suite ----


async def attributes(report, fleet):
    """The search attributes that the suites use, made once."""
    if fleet.attributes:
        return True
    words = [word for name, kind in ATTRIBUTES.items() for word in ("--name", name, "--type", kind)]
    made = await asyncio.to_thread(subprocess.run, [
        os.environ["REFERENCE"], "operator", "search-attribute", "create", "--address", address(fleet), *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    fleet.attributes = not made.returncode
    return fleet.attributes or report.check("search attributes", False, made.stdout.strip()[-300:])


async def sdk(arguments, report, fleet):
    if not await attributes(report, fleet):
        return
    suite = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "sdk", "python", "main.py")
    balancer = await Balancer(fleet.addresses(), fleet.ports.take()).start()
    done = await asyncio.to_thread(subprocess.run, [sys.executable, suite, "--address", balancer.address],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    balancer.close()
    counts = re.findall(r"^python: (\d+) passed, (\d+) failed$", done.stdout, re.M)
    for line in done.stdout.splitlines():
        if line.startswith("not ok"):
            print("    " + line)
    passed, failed = map(int, counts[-1]) if counts else (0, 1)
    report.check("sdk", passed > 50 and not failed, f"the Python SDK's suite, {passed} passed, {failed} failed")


# ---- a task queue in partitions ----


async def partitions(arguments, report, fleet):
    """A queue in four partitions on several hosts, with one poll of each kind: whatever partition a task is in, it comes."""
    client = await Client.connect(address(fleet))
    queue = taskqueue.TaskQueue(name="parted")
    listed = await client.workflow_service.list_task_queue_partitions(ws.ListTaskQueuePartitionsRequest(
        namespace=NAMESPACE, task_queue=queue))
    parts = listed.workflow_task_queue_partitions
    owners = {part.owner_host_name for part in parts}
    known = {f"{member.ip}:{member.rpc['matching']}" for member in fleet.having("matching")}
    report.check("partitions", [part.key for part in parts] == ["parted"] + [f"/_sys/parted/{i}" for i in (1, 2, 3)] and
                 owners <= known, f"{len(parts)} partitions on {len(owners)} hosts")
    began = time.monotonic()
    async with Worker(client, task_queue="parted", workflows=[Greeting], activities=[greet], max_cached_workflows=0,
                      max_concurrent_workflow_task_polls=1, max_concurrent_activity_task_polls=1,
                      workflow_runner=UnsandboxedWorkflowRunner()):
        results = await asyncio.wait_for(asyncio.gather(*[client.execute_workflow(
            Greeting.run, id=f"parted-{i}", task_queue="parted", start_signal="tell", start_signal_args=["you"])
            for i in range(24)]), 120)
        described = await client.workflow_service.describe_task_queue(ws.DescribeTaskQueueRequest(
            namespace=NAMESPACE, task_queue=queue, report_stats=True))
    report.check("one poll meets the tasks of all partitions", results == ["hello you"] * 24 and
                 len(described.pollers) == 1 and described.stats.approximate_backlog_count == 0,
                 f"24 workflows in {time.monotonic() - began:.1f} s")


# ---- a rate for the whole cluster ----


class Flood:
    """Calls without end to one frontend, in one namespace; how many passed the limiter."""

    def __init__(self, service, namespace, spread=False):
        self.service, self.namespace, self.passed, self.refused, self.began = service, namespace, 0, 0, time.monotonic()
        self.spread = spread  # over all shards

    async def call(self):
        try:
            await self.service.describe_workflow_execution(ws.DescribeWorkflowExecutionRequest(
                namespace=self.namespace, execution=common.WorkflowExecution(
                    workflow_id=f"nobody-{uuid.uuid4()}" if self.spread else "nobody")), retry=False)
        except RPCError as error:
            self.refused += error.status == RPCStatusCode.RESOURCE_EXHAUSTED
            self.passed += error.status == RPCStatusCode.NOT_FOUND

    async def run(self, seconds, limit=60):
        """For so long, and until one was refused."""
        while (passed := time.monotonic() - self.began) < limit and (passed < seconds or not self.refused):
            await asyncio.gather(*[self.call() for _ in range(4)])
        self.took = time.monotonic() - self.began


async def limits(arguments, report, fleet):
    services = [(await ServiceClient.connect(ConnectConfig(target_host=address(fleet, i)))).workflow_service
                for i in range(len(fleet.addresses()))]
    await services[0].register_namespace(ws.RegisterNamespaceRequest(
        namespace="limited", workflow_execution_retention_period=Duration(seconds=86400)))
    floods = [Flood(service, "limited") for service in services]
    calm = Flood(services[0], NAMESPACE)
    flooding = asyncio.gather(*[flood.run(2) for flood in floods])
    while not flooding.done():
        await calm.call()
        await asyncio.sleep(0.02)
    took, passed = max(flood.took for flood in floods), sum(flood.passed for flood in floods)
    # Twice the rate at once, and one a bucket; half as much again should a busy machine lose a frontend from its ring.
    most = 1.5 * (30 * took + 60) + len(floods)
    report.check("a rate of the whole cluster", passed <= most and all(flood.refused for flood in floods),
                 f"{passed} calls of at most {most:.0f} passed {len(floods)} frontends in {took:.1f} s, "
                 f"{sum(flood.refused for flood in floods)} were refused")
    report.check("another namespace is not held up by it", calm.passed > 0 and not calm.refused,
                 f"{calm.passed} calls passed, {calm.refused} were refused")
    await callers(report, fleet, services[0])
    await host_rate(report, fleet, services[0])
    await store_rate(report, fleet, services[0])


def refusals(fleet):
    """Of each history host's door."""
    return [(member.figures() or {}).get('tenon_door_refused{role="history"}', 0) for member in fleet.having("history")]


class Changed:
    """More dynamic configuration for a while."""

    def __init__(self, fleet, more):
        self.fleet, self.more = fleet, more
        with open(fleet.dynamic) as file:
            self.text = file.read()

    def write(self, text):
        with open(self.fleet.dynamic, "w") as out:
            out.write(text)
        for member in self.fleet.having("history"):
            member.process.send_signal(signal.SIGHUP)

    def __enter__(self):
        self.write(self.text + self.more)

    def __exit__(self, *_):
        self.write(self.text)


async def passes_again(flood):
    """Whether twenty calls in a row pass, before long."""
    end, row = time.monotonic() + 60, 0
    while row < 20 and time.monotonic() < end:
        seen = flood.passed
        await flood.call()
        row = row + 1 if flood.passed > seen else 0
    return row == 20


async def host_rate(report, fleet, service):
    """history.rps: a host refuses what is beyond it, and takes all again when it is gone."""
    before, flood = sum(refusals(fleet)), Flood(service, NAMESPACE)
    with Changed(fleet, "history.rps: [{value: 1}]\n"):
        await flood.run(0)
    refused = flood.refused
    report.check("a history host keeps its rate", await passes_again(flood) and refused and sum(refusals(fleet)) > before,
                 f"{refused} calls were refused, then twenty in a row were not")


async def store_rate(report, fleet, service):
    """history.persistenceGlobalMaxQPS: the history hosts keep it together, each its part, from when all of them know it."""
    whole, before, hosts = 8, refusals(fleet), len(fleet.having("history"))
    with Changed(fleet, f"history.persistenceGlobalMaxQPS: [{{value: {whole}}}]\n"):
        end = time.monotonic() + 60
        while not all(now > then for now, then in zip(refusals(fleet), before)) and time.monotonic() < end:
            await Flood(service, NAMESPACE, spread=True).run(0)
        flood = Flood(service, NAMESPACE, spread=True)
        await flood.run(3)
        passed, took = flood.passed, flood.took
    # A second's worth at once; half as much again should a busy machine lose a host from its ring.
    most = 1.5 * (whole * took + whole) + hosts
    report.check("a rate of the store for all history hosts", passed <= most and flood.refused and await passes_again(flood),
                 f"{passed} calls of at most {most:.0f} passed {hosts} hosts in {took:.1f} s, {flood.refused} were refused, then twenty in a row were not")


async def callers(report, fleet, service):
    """Of the namespace's rate each caller has a share: one that takes all it gets does not hold another up."""
    if not fleet.addresses()[0][0].startswith("127."):
        report.say("callers of one namespace are played on loopback only")
        return
    balancer = await Balancer(fleet.addresses()[:1], fleet.ports.take(), source="127.0.0.2").start()
    other = (await ServiceClient.connect(ConnectConfig(target_host=balancer.address))).workflow_service
    flood, calm = Flood(service, "limited"), Flood(other, "limited")
    flooding = asyncio.create_task(flood.run(3))
    while not flooding.done():
        await calm.call()
        await asyncio.sleep(0.5)
    balancer.close()
    report.check("another caller of the namespace is not held up by it", calm.passed > 0 and not calm.refused and flood.refused,
                 f"{calm.passed} calls passed, {calm.refused} were refused, of the other's {flood.passed} and {flood.refused}")


# ---- a death is noticed ----


class Probes:
    """Runs spread over all shards, that are asked for again and again."""

    def __init__(self, service, count=8 * SHARDS):
        self.service = service
        self.ids = [f"probe-{uuid.uuid4()}" for _ in range(count)]

    async def start(self):
        await asyncio.gather(*[self.service.start_workflow_execution(ws.StartWorkflowExecutionRequest(
            namespace=NAMESPACE, workflow_id=name, workflow_type=common.WorkflowType(name="probe"),
            task_queue=taskqueue.TaskQueue(name="nobody"), request_id=name), retry=True) for name in self.ids])
        return self

    async def answered(self, name, until):
        while time.monotonic() < until:
            try:
                await self.service.signal_workflow_execution(ws.SignalWorkflowExecutionRequest(
                    namespace=NAMESPACE, workflow_execution=common.WorkflowExecution(workflow_id=name),
                    signal_name="probe", request_id=str(uuid.uuid4())), retry=False, timeout=timedelta(seconds=10))
                return time.monotonic()
            except RPCError:
                await asyncio.sleep(0.02)
        return time.monotonic() + 1000

    async def all_answered(self, since):
        return max(await asyncio.gather(*[self.answered(name, since + 30) for name in self.ids])) - since


async def out_of_rings(fleet, count, since):
    members = [member for member in fleet.members if member.alive() and not member.paused]
    await asyncio.to_thread(fleet.wait, count, members)
    return time.monotonic() - since


async def detection(arguments, report, fleet):
    service = (await ServiceClient.connect(ConnectConfig(target_host=address(fleet)))).workflow_service
    probes = await Probes(service).start()
    victims, seen, served, back = fleet.having("history"), [], [], []
    for i in range(arguments.kills):
        victim = victims[i % len(victims)]
        since = time.monotonic()
        victim.kill()
        out, again = await asyncio.gather(out_of_rings(fleet, len(fleet.members) - 1, since), probes.all_answered(since))
        seen.append(out)
        served.append(again)
        since = time.monotonic()
        victim.start()
        await asyncio.to_thread(fleet.wait, len(fleet.members))
        back.append(time.monotonic() - since)
        await probes.all_answered(time.monotonic())
    report.spread("a killed member is out of all rings", seen, 3)
    report.spread("its shards serve again", served, 5)
    report.spread("started again, it is in all rings", back, 5)


# ---- a paused owner ----


def load_of(world):
    return {"clients": [asyncio.create_task(world.client(f"c{i}")) for i in range(6)] +
                       [asyncio.create_task(world.contender("same-id")) for _ in range(2)],
            "workers": [asyncio.create_task(world.workflow_worker(f"w{i}")) for i in range(6)] +
                       [asyncio.create_task(world.activity_worker(f"a{i}")) for i in range(6)]}


async def judged(report, name, world, tasks, paths, seconds, told, clock_slack_ns=0, others=None, more=None):
    """more: see judge; others: what must have ended before the judge thinks, for that stops this process, and balancers are in it."""
    began, then = time.monotonic(), time.time()
    await until_quiet(world, tasks, paths[0], seconds, 20 * seconds)
    found, last = time.monotonic() - began, os.path.getmtime(paths[0]) - then
    if others:
        await others
    quiet = time.monotonic()
    verdict, runs, oks = await judge(world.address, *paths, clock_slack_ns=clock_slack_ns, more=more)
    report.say(f"{name}: the last step was done after {last:.0f} s, {found:.0f} s until it was known that nothing is left, {time.monotonic() - quiet:.0f} s to judge")
    for violation in verdict.violations[:20]:
        print("  " + violation)
    report.check(name, not verdict.violations and oks > 100,
                 f"{told}, {runs} runs, {oks} acknowledged calls, {len(verdict.violations)} violations")


def times_fenced(member):
    """How often one of its writes has told it that a shard is another's."""
    with open(member.log, errors="replace") as log:
        return log.read().count("another process has taken this shard")


async def left_behind(report, fleet, service, probes):
    """Runs that begin while the owner of their shard is paused: once it is back it must know of them and of their
    time-outs, though nothing else is written there."""
    member = fleet.having("history")[-1]
    since = time.monotonic()
    member.pause()
    await probes.all_answered(since)
    names = [f"left-{uuid.uuid4()}" for _ in range(8 * SHARDS)]
    await asyncio.gather(*[service.start_workflow_execution(ws.StartWorkflowExecutionRequest(
        namespace=NAMESPACE, workflow_id=name, workflow_type=common.WorkflowType(name="left"),
        task_queue=taskqueue.TaskQueue(name="nobody"), workflow_execution_timeout=Duration(seconds=4),
        request_id=name), retry=True) for name in names])
    member.go_on()
    began = time.monotonic()
    await asyncio.to_thread(fleet.wait, len(fleet.members))
    open_still, wrong = set(names), ""
    while open_still and time.monotonic() - began < 20:
        for name in sorted(open_still):
            try:
                info = (await service.describe_workflow_execution(ws.DescribeWorkflowExecutionRequest(
                    namespace=NAMESPACE, execution=common.WorkflowExecution(workflow_id=name)), retry=True)
                        ).workflow_execution_info
            except RPCError as error:
                wrong = f", {error.message}"
                continue
            if info.status == enums.WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
                open_still.discard(name)
        await asyncio.sleep(0.2)
    report.check("time-outs set while the owner was paused", not open_still and not wrong,
                 f"{len(names) - len(open_still)} of {len(names)} came{wrong}")


async def fence(arguments, report, fleet):
    folder = os.path.join(fleet.folder, "fence")
    os.mkdir(folder)
    paths = os.path.join(folder, "log"), os.path.join(folder, "effects")
    service = (await ServiceClient.connect(ConnectConfig(target_host=address(fleet)))).workflow_service
    probes = await Probes(service).start()
    await left_behind(report, fleet, service, probes)
    balancer = await Balancer(fleet.addresses(), fleet.ports.take()).start()
    world = World(balancer.address, Log(paths[0]), Log(paths[1]), arguments.seed)
    await world.connect()
    tasks = load_of(world)
    served, refused = [], 0
    for member in fleet.having("history")[:4 if arguments.long else 2]:
        await asyncio.sleep(1)
        before = times_fenced(member)
        since = time.monotonic()
        member.pause()
        served.append(await probes.all_answered(since))
        await asyncio.sleep(1)
        member.go_on()
        await asyncio.to_thread(fleet.wait, len(fleet.members))
        await probes.all_answered(time.monotonic())
        refused += times_fenced(member) - before
    report.spread("shards of a paused owner serve again", served, 5)
    report.check("a woken owner has written and was refused", refused > 0, f"{refused} shards")
    await judged(report, "paused owners that wake", world, tasks, paths, 40,
                 f"{len(served)} pauses, on {refused} shards a write of the woken owner was refused")
    balancer.close()


# ---- every process restarted in turn ----


class Callers:
    """Clients through the SDK: each starts, signals, asks and awaits one workflow after another."""

    def __init__(self, client, queue):
        self.client, self.queue, self.stop = client, queue, False
        self.latencies, self.errors, self.ended = [], [], 0

    async def timed(self, call):
        began = time.monotonic()
        try:
            return await call
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")
            return None
        finally:
            self.latencies.append(time.monotonic() - began)

    async def one(self):
        handle = await self.timed(self.client.start_workflow(Greeting.run, id=str(uuid.uuid4()), task_queue=self.queue))
        if not handle:
            return
        await self.timed(handle.describe())
        await self.timed(handle.signal(Greeting.tell, "you"))
        try:
            self.ended += await asyncio.wait_for(handle.result(), 60) == "hello you"
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    async def run(self):
        while not self.stop:
            await self.one()
            await asyncio.sleep(0.05)

    def taken(self):
        taken, self.latencies = sorted(self.latencies), []
        return taken


def quantile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


# ---- another number of shards ----


async def split(arguments, report, fleet):
    """The number of shards changes, up and down, under SDK clients: they notice nothing."""
    ask = tenonctl(arguments, fleet)
    if not ask:
        report.check("split", False, "no tenonctl beside tenond")
        return
    plan, wrong = ask("shard", "split-plan", "--shards", str(4 * SHARDS)), ask("shard", "split-plan", "--shards", str(SHARDS + 1))
    report.check("split-plan", plan[0] == 0 and "rows moved  0" in plan[1] and wrong[0] == 1, (plan[1] + wrong[1]).strip()[-100:])
    balancer = await Balancer(fleet.addresses(), fleet.ports.take()).start()
    callers = Callers(await Client.connect(balancer.address), f"split-{uuid.uuid4()}")
    done = []
    async with Worker(await Client.connect(balancer.address), task_queue=callers.queue, workflows=[Greeting],
                      activities=[greet], workflow_runner=UnsandboxedWorkflowRunner()):
        tasks = [asyncio.create_task(callers.run()) for _ in range(6)]
        waits = Waits(callers.client, Greeting.run)
        await waits.begin(callers.queue)
        await asyncio.sleep(2)
        callers.taken()
        for many in (2, 4, 1) * (5 if arguments.long else 1):
            done.append(await asyncio.to_thread(ask, "shard", "split", "--shards", str(many * SHARDS)))
            if len(done) == 3:
                answered = await waits.end(lambda queue: Worker(
                    callers.client, task_queue=queue, workflows=[Greeting], activities=[greet],
                    workflow_runner=UnsandboxedWorkflowRunner()), Greeting.tell)
            await asyncio.sleep(1)
        shaken = callers.taken()
        callers.stop = True
        await asyncio.gather(*tasks)
    balancer.close()
    report.check("who waits goes on waiting when shards move", not waits.wrong,
                 f"{answered} of {len(waits.calls)} calls answered" + "".join(f"; {error}" for error in waits.wrong[:2]))
    for error in callers.errors[:8]:
        print("    " + error)
    seconds = [float(found) for _, text in done for found in re.findall(r"after ([0-9.]+) s", text)]
    report.check("the number of shards changes under load",
                 not callers.errors and callers.ended > 20 and all(status == 0 for status, _ in done),
                 f"{len(done)} changes, the slowest took {max(seconds, default=0):.1f} s; {callers.ended} workflows, {len(shaken)} "
                 f"calls meanwhile, {len(callers.errors)} failed, median {1e3 * quantile(shaken, .5):.0f} ms, p99 "
                 f"{1e3 * quantile(shaken, .99):.0f} ms, worst {1e3 * (shaken or [0])[-1]:.0f} ms"
                 if all(status == 0 for status, _ in done) else done[-1][1])
    shards = ask("shard", "list")
    report.check("all shards have owners", shards[0] == 0 and len(shards[1].splitlines()) == SHARDS and "never" not in shards[1])


async def restart(arguments, report, fleet):
    balancer = await Balancer(fleet.addresses(), fleet.ports.take()).start()
    callers = Callers(await Client.connect(balancer.address), f"restart-{uuid.uuid4()}")
    async with Worker(await Client.connect(balancer.address), task_queue=callers.queue, workflows=[Greeting],
                      activities=[greet], workflow_runner=UnsandboxedWorkflowRunner()):
        tasks = [asyncio.create_task(callers.run()) for _ in range(6)]
        await asyncio.sleep(2)
        callers.taken()
        await asyncio.sleep(15 if arguments.long else 8)
        calm = callers.taken()
        bad = []
        for member in list(fleet.members):
            status = await asyncio.to_thread(member.stop)
            if status != 0:
                bad.append(f"{member.name} ended with {status}")
            member.start()
            await asyncio.to_thread(fleet.wait, len(fleet.members))
            await asyncio.sleep(0.5)
        shaken = callers.taken()
        callers.stop = True
        await asyncio.gather(*tasks)
    balancer.close()
    p99 = quantile(calm, 0.99), quantile(shaken, 0.99)
    for error in (callers.errors + bad)[:8]:
        print("    " + error)
    report.check("every process restarted in turn", not callers.errors and not bad and callers.ended > 50,
                 f"{callers.ended} workflows, {len(shaken)} calls meanwhile, {len(callers.errors)} failed")
    # On a machine that does other things besides, that is chance: there it is only told.
    report.check("p99 at most doubled" if arguments.long else "p99", p99[1] <= 2 * p99[0] + 0.02 or not arguments.long,
                 f"{1e3 * p99[0]:.0f} ms before, {1e3 * p99[1]:.0f} ms meanwhile "
                 f"(median {1e3 * quantile(calm, .5):.0f} and {1e3 * quantile(shaken, .5):.0f} ms, "
                 f"worst {1e3 * (calm or [0])[-1]:.0f} and {1e3 * (shaken or [0])[-1]:.0f} ms)")


# ---- two releases side by side ----


async def skew(arguments, report, fleet):
    """A cluster of an older release becomes one of this, a process at a time, under SDK clients, and goes back half way."""
    older = os.path.abspath(arguments.older)
    for member in fleet.members:
        member.use(os.path.join(older, "tenond"), os.path.join(older, "plugins"))
    fleet.start()
    ask = tenonctl(arguments, fleet)
    balancer = await Balancer(fleet.addresses(), fleet.ports.take()).start()
    callers = Callers(await Client.connect(balancer.address), f"skew-{uuid.uuid4()}")
    bad = []

    async def turn(member, tenond, plugins):
        status = await asyncio.to_thread(member.stop)
        if status != 0:
            bad.append(f"{member.name} ended with {status}")
        member.use(tenond, plugins)
        member.start()
        await asyncio.to_thread(fleet.wait, len(fleet.members))
        await asyncio.sleep(1)
    async with Worker(await Client.connect(balancer.address), task_queue=callers.queue, workflows=[Greeting],
                      activities=[greet], workflow_runner=UnsandboxedWorkflowRunner()):
        tasks = [asyncio.create_task(callers.run()) for _ in range(6)]
        order = [member for role in ("history", "matching", "worker", "frontend") for member in fleet.having(role)]
        for member in order[:len(order) // 2]:
            await turn(member, fleet.tenond, fleet.plugins)
        if ask:
            mixed = ask("shard", "split", "--shards", str(2 * SHARDS))
            rekeyed = await asyncio.to_thread(ask, "cluster", "rekey")
        for member in order[:2]:  # an upgrade that is taken back
            await turn(member, os.path.join(older, "tenond"), os.path.join(older, "plugins"))
        for member in order[:2] + order[len(order) // 2:]:
            await turn(member, fleet.tenond, fleet.plugins)
        callers.stop = True
        await asyncio.gather(*tasks)
    balancer.close()
    for error in (callers.errors + bad)[:8]:
        print("    " + error)
    report.check("an older release is replaced under load", not callers.errors and not bad and callers.ended > 50,
                 f"{callers.ended} workflows, {len(callers.taken())} calls meanwhile, {len(callers.errors)} failed")
    if ask:
        if mixed[0]:  # it may be done when the older ones know of shard maps, too
            report.check("nor is the number of shards changed while older ones are there", mixed[0] == 1, mixed[1].strip()[-200:])
        after = ask("shard", "split", "--shards", str(2 * SHARDS))
        report.check("the number of shards changes when all are of this release", after[0] == 0, after[1].strip()[-200:])
        after = await asyncio.to_thread(ask, "cluster", "rekey")
        report.check("and so does the key", after[0] == 0 and (not rekeyed[0] or "has one key for ever" in rekeyed[1]),
                     rekeyed[1].strip()[-200:] + "; " + after[1].strip()[-200:])
        if rekeyed[0]:  # it knows the first key alone
            late = order[0]
            await asyncio.to_thread(late.stop)
            late.use(os.path.join(older, "tenond"), os.path.join(older, "plugins"))
            late.start()
            status = await asyncio.to_thread(late.process.wait, 60)
            report.check("then an older one does not start", status != 0 and "schema" in late.tail(3), late.tail(1).strip()[-200:])
            late.use(fleet.tenond, fleet.plugins)
            late.start()
            await asyncio.to_thread(fleet.wait, len(fleet.members))
    bad = fleet.end()
    report.check("stop after skew", not bad, ", ".join(bad) or "all with status 0")
