# SPDX-License-Identifier: MIT
"""All hosts of a role are gone.  Who calls is told so: UNAVAILABLE and the role's name, before a client that waits for ten seconds gives up,
and whatever deadline it has.  When they are back in time, as after a planned restart, who asked notices nothing, without retries."""

import asyncio
import os
import subprocess
import time
import uuid
from datetime import timedelta

import temporalio.api.common.v1 as common
import temporalio.api.query.v1 as query
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.workflowservice.v1 as ws
from temporalio.client import Client
from temporalio.service import RPCError

import parts
from deadlines import signalled, start
from world import NAMESPACE

CLIENT_S = 10  # what the CLI waits for, by itself
LONG_S = 60
SOON_S = 3  # hosts that are back after so long have come in time


def calls_of(role, run):
    """(name, method of the service, request): what cannot be answered without this role."""
    one = common.WorkflowExecution(workflow_id=run)
    a_query = ("a query", "query_workflow", ws.QueryWorkflowRequest(namespace=NAMESPACE, execution=one, query=query.WorkflowQuery(query_type="any")))
    if role == "matching":
        return [("a queue", "describe_task_queue", ws.DescribeTaskQueueRequest(
            namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name="nobody"), task_queue_type=1)),
                ("a queue's rate", "update_task_queue_config", ws.UpdateTaskQueueConfigRequest(
                    namespace=NAMESPACE, task_queue="nobody", task_queue_type=2, update_queue_rate_limit=ws.UpdateTaskQueueConfigRequest.RateLimitUpdate(
                        rate_limit=taskqueue.RateLimit(requests_per_second=9))))]
    return [("a start", "start_workflow_execution", start(f"nobody-{uuid.uuid4()}")), ("a signal", "signal_workflow_execution", signalled(run, "any")),
            ("a description", "describe_workflow_execution", ws.DescribeWorkflowExecutionRequest(namespace=NAMESPACE, execution=one)), a_query]


async def ask(service, method, request, seconds):
    """The answer's code, what it said, and how long it took."""
    began = time.monotonic()
    try:
        await getattr(service, method)(request, retry=False, timeout=timedelta(seconds=seconds))
        code, text = "OK", ""
    except RPCError as error:
        code, text = error.status.name, error.message
    return code, text, time.monotonic() - began


WORDS = {"matching": ["task-queue", "describe", "--task-queue", "nobody"],
         "history": ["workflow", "start", "--type", "Any", "--task-queue", "nobody"]}


async def operated(fleet, role):
    """What the CLI says, which tries again for as long as it waits; a machine that does much else may let the answer come too late for it."""
    for _ in range(5):
        done = await asyncio.to_thread(subprocess.run, [os.environ["REFERENCE"], *WORDS[role], "--address", parts.address(fleet)],
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if role in done.stdout:
            break
    return done.stdout.strip()


async def told(report, fleet, services, role, run):
    """Nobody is there: what each call is answered with."""
    calls = [(f"{name} with {seconds} s", ask(services[i % len(services)], method, request, seconds))
             for seconds in (CLIENT_S, LONG_S) for i, (name, method, request) in enumerate(calls_of(role, run))]
    said, *answers = await asyncio.gather(operated(fleet, role), *[call for _, call in calls])
    answers = dict(zip([name for name, _ in calls], answers))
    wrong = [f"{name}: {code} {text}" for name, (code, text, _) in answers.items() if code != "UNAVAILABLE" or role not in text]
    took = [took for name, (_, _, took) in answers.items() if name.endswith(f" {LONG_S} s")]
    report.check(f"no {role} host: who calls is told so", not wrong and min(took) < CLIENT_S,
                 "; ".join(wrong) or f"{len(answers)} calls, those with {LONG_S} s after {min(took):.1f} to {max(took):.1f} s: {next(iter(answers.values()))[1]}")
    report.check(f"no {role} host: so is who has the CLI", role in said, said[-200:])


async def play(arguments, report, fleet):
    services = [(await Client.connect(parts.address(fleet, i))).workflow_service for i in range(2)]
    run = f"nobody-{uuid.uuid4()}"
    await services[0].start_workflow_execution(start(run), retry=True, timeout=timedelta(seconds=LONG_S))
    for role in ("matching", "history"):
        members = fleet.having(role)
        others = [member for member in fleet.members if member not in members]
        bad = [status for status in await asyncio.gather(*[asyncio.to_thread(member.stop) for member in members]) if status]
        await asyncio.to_thread(fleet.wait, len(others), others, LONG_S)
        await told(report, fleet, services, role, run)
        name, method, request = calls_of(role, run)[0]
        asked = [asyncio.create_task(ask(service, method, request, LONG_S)) for service in services for _ in range(4)]
        began = time.monotonic()
        for member in members:
            member.start()
        await asyncio.to_thread(fleet.wait, len(fleet.members), None, LONG_S)
        back, answers = time.monotonic() - began, await asyncio.gather(*asked)
        if back > SOON_S:
            report.say(f"{role} hosts were back after {back:.1f} s only: who asked meanwhile may have been told")
            asked, answers = [], []
        wrong = sorted({f"{code} {text}" for code, text, _ in answers if code != "OK"})
        report.check(f"the {role} hosts are back", not wrong and not bad, "; ".join(wrong) or
                     f"after {back:.1f} s; {len(answers)} calls of {name} that were asked before, without retries, were answered")
