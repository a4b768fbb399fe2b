# SPDX-License-Identifier: MIT
"""Processes with several loops: a loop of history answers a poll by a pipe where it shares one with the frontend, and by HTTP/2 on the
frontend's public port where it has none.  History has more loops than frontends open pipes to it, so that both happen; the second
time all of it is TLS, the public ports' too."""

import asyncio
import os
import uuid

import temporalio.api.enums.v1 as enums
from temporalio.client import Client
from temporalio.service import TLSConfig
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import parts
import secured
from fleet import Fleet

SIZE = {"frontend": 1, "history": 1, "matching": 1, "worker": 1}
THREADS = {"frontend": 2, "history": 4, "matching": 2}
RUNS = 40
PUBLIC = (", frontend: {{server: {{certFile: {0}/node.pem, keyFile: {0}/node.key}}, "
          "client: {{serverName: {1}, rootCaFiles: [{0}/ca.pem]}}}}")
TIMED_OUT = enums.EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT, enums.EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT


def answered(fleet, way):
    name = "tenon_internode_polls_answered" + way
    return sum((member.figures() or {}).get(name, 0) for member in fleet.having("history"))


async def works(report, fleet, name, tls):
    ip, port = fleet.addresses()[0]
    address, queue = f"{ip}:{port}", f"loops-{uuid.uuid4()}"
    client = await Client.connect(address, tls=tls)
    ids, wrong = [str(uuid.uuid4()) for _ in range(RUNS)], []

    async def one(name):
        result = await asyncio.wait_for(client.execute_workflow(
            parts.Greeting.run, id=name, task_queue=queue, start_signal="tell", start_signal_args=["you"]), 60)
        lost = [event async for event in client.get_workflow_handle(name).fetch_history_events() if event.event_type in TIMED_OUT]
        if result != "hello you" or lost:
            wrong.append(f"{result}, {len(lost)} tasks were lost")

    async with Worker(client, task_queue=queue, workflows=[parts.Greeting], activities=[parts.greet],
                      workflow_runner=UnsandboxedWorkflowRunner()):
        for first in range(0, RUNS, 4):
            await asyncio.gather(*map(one, ids[first:first + 4]))
    pipe, http2, vain = answered(fleet, '{way="pipe"}'), answered(fleet, '{way="http2"}'), answered(fleet, "_in_vain")
    report.check(name, not wrong and http2 > 0 and vain == 0,
                 f"{RUNS} workflows, {pipe:.0f} polls answered by pipes and {http2:.0f} by HTTP/2, {vain:.0f} in vain" +
                 "".join(f"; {text}" for text in wrong[:3]))


async def play(arguments, report, folder):
    for name, sealed in (("several loops", False), ("several loops over TLS", True)):
        base = folder("loops" + "-tls" * sealed)
        tls, security = False, ""
        if sealed:
            secured.certificates(base)
            security = secured.BLOCK.format(base, secured.NAME)[:-1] + PUBLIC.format(base, secured.NAME) + "}"
            with open(os.path.join(base, "ca.pem"), "rb") as file:
                tls = TLSConfig(server_root_ca_cert=file.read(), domain=secured.NAME)
        fleet = Fleet(arguments, base, security=security, threads=THREADS).fill(SIZE)
        try:
            fleet.start()
            await works(report, fleet, name, tls)
            bad = fleet.end()
            report.check("stop after " + name, not bad, ", ".join(bad) or "all with status 0")
        finally:
            fleet.abandon()
