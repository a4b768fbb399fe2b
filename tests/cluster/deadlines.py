# SPDX-License-Identifier: MIT
"""A caller's deadline holds whatever hangs: the store, a history host, a matching host, each stopped by SIGSTOP.  Every public call
answers in its time with DEADLINE_EXCEEDED or UNAVAILABLE (or with what is known without the one that hangs), what nobody waits for any
more leaves its queue, and afterwards all goes on: what was acknowledged is there, what was not is there once or not at all."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import time
import uuid

import temporalio.api.batch.v1 as batch
import temporalio.api.common.v1 as common
import temporalio.api.query.v1 as query
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.update.v1 as update
import temporalio.api.workflowservice.v1 as ws
from google.protobuf.duration_pb2 import Duration
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import parts
from world import NAMESPACE

SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
DEADLINE_MS = 1500
LATE_S = 4  # beyond its deadline, on a machine that does much else; the store's own time-out is later than that
OK, DEADLINE, NOT_FOUND, ALREADY_EXISTS, EXHAUSTED, PRECONDITION, UNAVAILABLE = 0, 4, 5, 6, 8, 9, 14
IN_TIME = {DEADLINE, UNAVAILABLE}
KNOWN = IN_TIME | {OK, NOT_FOUND, ALREADY_EXISTS, PRECONDITION}
AT_THE_STORE = 120  # calls that are under way at the store itself: one for a run, and starts
POLL_MS = 3000  # a shorter one is refused


def ask(calls, wait):
    """calls: (port, method, request, ms, after); in a process of its own."""
    plan = {"wait": wait, "calls": [
        {"port": port, "path": SERVICE + method, "body": base64.b64encode(request.SerializeToString()).decode(), "ms": ms, "after": after}
        for port, method, request, ms, after in calls]}
    asker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "asker.py")
    done = subprocess.run([os.environ["WIRE_PYTHON"], asker], input=json.dumps(plan), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def start(workflow_id, request_id=None):
    return ws.StartWorkflowExecutionRequest(
        namespace=NAMESPACE, workflow_id=workflow_id, request_id=request_id or str(uuid.uuid4()), workflow_type=common.WorkflowType(name="Any"),
        task_queue=taskqueue.TaskQueue(name="deadlines"), workflow_execution_timeout=Duration(seconds=3600))


def signalled(workflow_id, name, request_id=None):
    return ws.SignalWorkflowExecutionRequest(namespace=NAMESPACE, workflow_execution=common.WorkflowExecution(workflow_id=workflow_id),
                                             signal_name=name, request_id=request_id or str(uuid.uuid4()))


def every_kind(known, fresh):
    """What a client may ask of the public API about a run that exists, one that nobody knows, and what has no run."""
    run, none, queue = common.WorkflowExecution(workflow_id=known), common.WorkflowExecution(workflow_id=fresh), taskqueue.TaskQueue(name="deadlines")
    both = [(f"{method} of {what}", method, make(one)) for what, one in (("a run", run), ("no run", none)) for method, make in (
        ("DescribeWorkflowExecution", lambda one: ws.DescribeWorkflowExecutionRequest(namespace=NAMESPACE, execution=one)),
        ("GetWorkflowExecutionHistory", lambda one: ws.GetWorkflowExecutionHistoryRequest(namespace=NAMESPACE, execution=one)),
        ("GetWorkflowExecutionHistoryReverse", lambda one: ws.GetWorkflowExecutionHistoryReverseRequest(namespace=NAMESPACE, execution=one)),
        ("SignalWorkflowExecution", lambda one: signalled(one.workflow_id, "any")),
        ("RequestCancelWorkflowExecution", lambda one: ws.RequestCancelWorkflowExecutionRequest(namespace=NAMESPACE, workflow_execution=one)),
        ("QueryWorkflow", lambda one: ws.QueryWorkflowRequest(namespace=NAMESPACE, execution=one, query=query.WorkflowQuery(query_type="any"))),
        ("UpdateWorkflowExecution", lambda one: ws.UpdateWorkflowExecutionRequest(
            namespace=NAMESPACE, workflow_execution=one, wait_policy=update.WaitPolicy(lifecycle_stage=2),
            request=update.Request(meta=update.Meta(update_id=str(uuid.uuid4())), input=update.Input(name="any")))),
        ("ResetStickyTaskQueue", lambda one: ws.ResetStickyTaskQueueRequest(namespace=NAMESPACE, execution=one)),
        ("PauseWorkflowExecution", lambda one: ws.PauseWorkflowExecutionRequest(namespace=NAMESPACE, workflow_id=one.workflow_id)),
    )]
    schedule = f"no-{uuid.uuid4()}"
    return both + [
        ("StartWorkflowExecution", "StartWorkflowExecution", start(f"{fresh}-start")),
        ("SignalWithStartWorkflowExecution", "SignalWithStartWorkflowExecution", ws.SignalWithStartWorkflowExecutionRequest(
            namespace=NAMESPACE, workflow_id=f"{fresh}-both", request_id=str(uuid.uuid4()), workflow_type=common.WorkflowType(name="Any"),
            task_queue=queue, signal_name="any")),
        ("ListWorkflowExecutions", "ListWorkflowExecutions", ws.ListWorkflowExecutionsRequest(namespace=NAMESPACE)),
        ("CountWorkflowExecutions", "CountWorkflowExecutions", ws.CountWorkflowExecutionsRequest(namespace=NAMESPACE)),
        ("ListSchedules", "ListSchedules", ws.ListSchedulesRequest(namespace=NAMESPACE, maximum_page_size=10)),
        ("DescribeSchedule", "DescribeSchedule", ws.DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=schedule)),
        ("DescribeNamespace", "DescribeNamespace", ws.DescribeNamespaceRequest(namespace=NAMESPACE)),
        ("DescribeNamespace of no namespace", "DescribeNamespace", ws.DescribeNamespaceRequest(namespace=schedule)),
        ("RegisterNamespace", "RegisterNamespace", ws.RegisterNamespaceRequest(
            namespace=schedule, workflow_execution_retention_period=Duration(seconds=86400))),
        ("UpdateNamespace", "UpdateNamespace", ws.UpdateNamespaceRequest(namespace=NAMESPACE)),
        ("ListNamespaces", "ListNamespaces", ws.ListNamespacesRequest()),
        ("DescribeTaskQueue", "DescribeTaskQueue", ws.DescribeTaskQueueRequest(namespace=NAMESPACE, task_queue=queue, task_queue_type=1)),
        ("UpdateTaskQueueConfig", "UpdateTaskQueueConfig", ws.UpdateTaskQueueConfigRequest(
            namespace=NAMESPACE, task_queue=schedule, task_queue_type=2,
            update_queue_rate_limit=ws.UpdateTaskQueueConfigRequest.RateLimitUpdate(rate_limit=taskqueue.RateLimit(requests_per_second=9)))),
        ("ListWorkerDeployments", "ListWorkerDeployments", ws.ListWorkerDeploymentsRequest(namespace=NAMESPACE)),
        ("StartBatchOperation", "StartBatchOperation", ws.StartBatchOperationRequest(namespace=NAMESPACE, job_id=schedule, reason="any", executions=[run],
                                                                                     signal_operation=batch.BatchOperationSignal(signal="any"))),
        ("PollWorkflowTaskQueue", "PollWorkflowTaskQueue", ws.PollWorkflowTaskQueueRequest(
            namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=schedule))),
        ("PollActivityTaskQueue", "PollActivityTaskQueue", ws.PollActivityTaskQueueRequest(
            namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=schedule))),
        ("GetSystemInfo", "GetSystemInfo", ws.GetSystemInfoRequest()),
        ("GetClusterInfo", "GetClusterInfo", ws.GetClusterInfoRequest()),
    ]


def in_service(fleet):
    """Calls that history hosts work on, of hosts that answer."""
    return {member.name: int((member.figures() or {}).get("tenon_internode_calls_in_service", 0)) for member in fleet.having("history")}


def judge_kinds(report, what, names, answers):
    late = sorted({f"{name}: {'never' if took is None else f'{took:.1f} s'}" for name, (_, took) in zip(names, answers)
                   if took is None or took > (POLL_MS if name.startswith("Poll") else DEADLINE_MS) / 1000 + LATE_S})
    wrong = sorted({f"{name}: {code}" for name, (code, took) in zip(names, answers) if took is not None and code not in KNOWN and
                    (name, code) != ("StartBatchOperation", EXHAUSTED)})  # one job at a time
    worst = max((took for _, took in answers if took is not None), default=0)
    codes = {code: sum(1 for one, _ in answers if one == code) for code in sorted({one for one, _ in answers if one is not None}, key=str)}
    report.check(f"deadlines hold: {what}", not late and not wrong,
                 ("; ".join((late + wrong)[:12]) + " | " if late or wrong else "") +
                 f"{len(answers)} calls with {DEADLINE_MS / 1000} s, worst {worst:.2f} s, answers by code {codes}")


class World:
    def __init__(self, fleet):
        self.fleet, self.ports = fleet, [port for _, port in fleet.addresses()]
        self.runs = [f"dl-{uuid.uuid4()}" for _ in range(16)]
        self.acknowledged, self.tried = {run: set() for run in self.runs}, {run: set() for run in self.runs}
        self.begun, self.asked_to_begin = set(), set()

    def make(self):
        answers = ask([(self.ports[i % 3], "StartWorkflowExecution", start(run), 0, 0) for i, run in enumerate(self.runs)], 60)
        if any(code != OK for code, _ in answers):
            raise RuntimeError(f"runs could not be started: {answers}")

    def kinds(self, times):
        calls, names = [], []
        for turn in range(times):
            for i, (name, method, request) in enumerate(every_kind(self.runs[turn % 16], f"no-{uuid.uuid4()}")):
                names.append(name)
                calls.append((self.ports[(i + turn) % 3], method, request, POLL_MS if name.startswith("Poll") else DEADLINE_MS, 0.05 * turn))
        return names, calls

    def storm(self, first, seconds, per_second):
        """Signals to few runs and starts, each of its own name, so that it shows afterwards which of them were done."""
        calls, notes = [], []
        for n in range(int(seconds * per_second)):
            after = first + n / per_second
            if n % 25:
                run, name = self.runs[n % 5], f"s{uuid.uuid4()}"
                calls.append((self.ports[n % 3], "SignalWorkflowExecution", signalled(run, name), DEADLINE_MS, after))
                notes.append((run, name))
            else:
                fresh = f"dl-{uuid.uuid4()}"
                calls.append((self.ports[n % 3], "StartWorkflowExecution", start(fresh), DEADLINE_MS, after))
                notes.append((None, fresh))
        return calls, notes

    def note(self, notes, answers):
        for (run, name), (code, _) in zip(notes, answers):
            if run:
                self.tried[run].add(name)
                if code == OK:
                    self.acknowledged[run].add(name)
            else:
                self.asked_to_begin.add(name)
                if code == OK:
                    self.begun.add(name)

    async def judge(self, report, client):
        lost, twice, strange = [], [], []
        for run in self.runs:
            there = []
            async for event in client.get_workflow_handle(run).fetch_history_events():
                if event.HasField("workflow_execution_signaled_event_attributes"):
                    there.append(event.workflow_execution_signaled_event_attributes.signal_name)
            mine = [name for name in there if name in self.tried[run]]
            lost += self.acknowledged[run] - set(there)
            twice += [name for name in set(mine) if mine.count(name) > 1]
        for fresh in sorted(self.begun):
            if (await client.get_workflow_handle(fresh).describe()).status != 1:
                strange.append(fresh)
        tried, kept = sum(map(len, self.tried.values())), sum(map(len, self.acknowledged.values()))
        report.check("what was acknowledged around deadlines is there, once", not lost and not twice and not strange,
                     f"{kept} of {tried} signals and {len(self.begun)} of {len(self.asked_to_begin)} starts were acknowledged; lost {len(lost)}, "
                     f"twice {len(twice)}, starts lost {len(strange)}")


def stop_processes(db, sig):
    """The server's own and those it began: nothing answers, and all connections stay."""
    for pid in [db.process.pid, *db.children()]:
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            pass


async def goes_on(fleet, seconds=60):
    """A workflow with a signal and an activity through the first frontend; how long it took until one did."""
    began = time.monotonic()
    client = await Client.connect(parts.address(fleet))
    queue = f"deadlines-{uuid.uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[parts.Greeting], activities=[parts.greet], workflow_runner=UnsandboxedWorkflowRunner()):
        said = await asyncio.wait_for(client.execute_workflow(parts.Greeting.run, id=str(uuid.uuid4()), task_queue=queue, start_signal="tell",
                                                              start_signal_args=["you"]), seconds)
    return said == "hello you", time.monotonic() - began


def until_some(fleet, count, seconds=30):
    """Until that many more calls have been taken in: the asker is at work."""
    def taken():
        return sum((member.figures() or {}).get("tenon_internode_calls", 0) for member in fleet.having("frontend"))
    before, end = taken(), time.monotonic() + seconds
    while taken() < before + count and time.monotonic() < end:
        time.sleep(0.05)


def empty(fleet, seconds):
    """Until no history host works on a call that has a deadline of this part; those that are left."""
    end = time.monotonic() + seconds
    while True:
        left = in_service(fleet)
        if sum(left.values()) <= AT_THE_STORE or time.monotonic() > end:
            return left
        time.sleep(0.1)


async def store_hangs(report, fleet, world, seconds):
    """Its callers come from before it hangs on, so that some of what they ask is under way at that moment."""
    per_second = 100
    names, calls = world.kinds(2)
    storm, notes = world.storm(0, seconds, per_second)
    calls = [(port, method, request, ms, after + 1.5) for port, method, request, ms, after in calls]
    before = {member.name: parts_rss(member) for member in fleet.members}
    asked = asyncio.create_task(asyncio.to_thread(ask, calls + storm, seconds + POLL_MS / 1000 + LATE_S))
    try:
        await asyncio.to_thread(until_some, fleet, len(world.runs))
        stop_processes(fleet.db, signal.SIGSTOP)
        answers = await asked
        left = await asyncio.to_thread(empty, fleet, 3)
        grown = max(parts_rss(member) - before[member.name] for member in fleet.members)
    finally:
        stop_processes(fleet.db, signal.SIGCONT)
    judge_kinds(report, "the store hangs", names, answers[:len(names)])
    judge_kinds(report, "many callers of few runs while the store hangs", ["storm"] * len(storm), answers[len(names):])
    world.note(notes, answers[len(names):])
    report.check("nobody stands in a queue whose caller has gone", sum(left.values()) <= AT_THE_STORE, f"calls in service while it still hangs: {left}, "
                 f"of {len(answers)} calls; a process grew by {grown / 1024:.1f} MB at most")
    ok, took = await goes_on(fleet)
    report.check("it goes on after the store hung", ok, f"after {took:.1f} s")


def parts_rss(member):
    with open(f"/proc/{member.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


async def host_hangs(arguments, report, fleet, world, role):
    names, calls = world.kinds(16 if arguments.long else 4)
    member = fleet.having(role)[-1]
    member.pause()
    try:
        answers = await asyncio.to_thread(ask, calls, DEADLINE_MS / 1000 + LATE_S + 2)
    finally:
        member.go_on()
    judge_kinds(report, f"a {role} host hangs", names, answers)
    fleet.wait(len(fleet.members), seconds=60)
    ok, took = await goes_on(fleet)
    report.check(f"it goes on after a {role} host hung", ok, f"after {took:.1f} s")


async def play(arguments, report, fleet):
    if arguments.net:
        report.say("deadlines is left out with --net: who asks is on loopback")
        return
    world = World(fleet)
    await asyncio.to_thread(world.make)
    if hasattr(fleet.db, "children"):
        for seconds in (5, 25) if arguments.long else (5,):  # the longer one is beyond the store's own time-outs
            await store_hangs(report, fleet, world, seconds)
    else:
        report.say(f"{arguments.store}: the store is not stopped in this part")
    for role in ("history", "matching"):
        await host_hangs(arguments, report, fleet, world, role)
    await world.judge(report, await Client.connect(parts.address(fleet)))
