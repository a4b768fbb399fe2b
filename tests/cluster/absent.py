# SPDX-License-Identifier: MIT
"""A frontend that sleeps until all have given it up, while a namespace is made and another is changed: back in the rings it knows both,
although nobody could tell it."""

import asyncio
import uuid
from datetime import timedelta

import temporalio.api.namespace.v1 as namespace
import temporalio.api.workflowservice.v1 as ws
from google.protobuf.duration_pb2 import Duration
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

DAY = 86400
PATIENCE = 30  # it reads all again every 10 s in any case


async def described(service, name):
    """Days of retention; None: it does not know the namespace."""
    try:
        answer = await service.describe_namespace(ws.DescribeNamespaceRequest(namespace=name), retry=True, timeout=timedelta(seconds=20))
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return None
    return answer.config.workflow_execution_retention_ttl.seconds // DAY


async def until(service, name, days):
    for _ in range(PATIENCE * 10):
        if await described(service, name) == days:
            return True
        await asyncio.sleep(0.1)
    return False


async def play(arguments, report, fleet):
    names = [f"absent-{uuid.uuid4()}" for _ in range(2)]
    sleeper, other = fleet.having("frontend")[:2]
    slept, service = [(await Client.connect(f"{member.ip}:{member.rpc['frontend']}")).workflow_service for member in (sleeper, other)]

    async def register(name):
        await service.register_namespace(ws.RegisterNamespaceRequest(
            namespace=name, workflow_execution_retention_period=Duration(seconds=DAY)), timeout=timedelta(seconds=20))
    await register(names[0])
    assert await described(slept, names[0]) == 1
    sleeper.pause()
    try:
        await asyncio.to_thread(fleet.wait, len(fleet.members) - 1, [member for member in fleet.members if member is not sleeper], 60)
        await register(names[1])
        await service.update_namespace(ws.UpdateNamespaceRequest(namespace=names[0], config=namespace.NamespaceConfig(
            workflow_execution_retention_ttl=Duration(seconds=2 * DAY))), timeout=timedelta(seconds=20))
    finally:
        sleeper.go_on()
    await asyncio.to_thread(fleet.wait, len(fleet.members), None, 60)
    report.check("a namespace made while a frontend was away is known to it", await until(slept, names[1], 1))
    report.check("one changed meanwhile is known as it is", await until(slept, names[0], 2))
