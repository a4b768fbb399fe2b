# SPDX-License-Identifier: MIT
"""Versioned workers: what is written of runs that are pinned, move with the current version, or are told where to run."""

import asyncio

from temporalio.api.deployment.v1 import WorkerDeploymentOptions, WorkerDeploymentVersion
from temporalio.api.enums.v1 import RoutingConfigUpdateState
from temporalio.api.workflow.v1 import VersioningOverride, WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import request_response_pb2 as wsv
from temporalio.service import RPCError
from google.protobuf.field_mask_pb2 import FieldMask

import commands
from driver import IDENTITY, POLL_LIMIT, TaskQueue
from normal import normalise

PINNED, AUTO_UPGRADE = 1, 2


class Deployment:
    """Two versions of one; their workers are polls that wait for the next task."""

    def __init__(self, c):
        self.c, self.name = c, f"{c.server.run_word}-{c.name}"

    def options(self, build):
        return WorkerDeploymentOptions(deployment_name=self.name, build_id=build, worker_versioning_mode=2)

    def version(self, build):
        return WorkerDeploymentVersion(deployment_name=self.name, build_id=build)

    def poll_aside(self, build):
        return asyncio.create_task(self.c.server.call("poll_workflow_task_queue", wsv.PollWorkflowTaskQueueRequest(
            namespace=self.c.ns, task_queue=TaskQueue(name=self.c.tq), identity=IDENTITY,
            deployment_options=self.options(build)), POLL_LIMIT))

    async def registered(self, build):
        """A worker of the version is there, and the server knows of it."""
        waiting = self.poll_aside(build)
        request = wsv.DescribeWorkerDeploymentVersionRequest(namespace=self.c.ns, deployment_version=self.version(build))
        for _ in range(400):
            seen = await self.c.look("describe_worker_deployment_version", request)
            if seen and seen.version_task_queues:
                return waiting
            await asyncio.sleep(0.05)
        raise TimeoutError("no version " + build)

    async def current(self, build):
        """Makes it the current one, and waits until the queue goes by that."""
        for _ in range(20):
            try:
                await self.c.server.call("set_worker_deployment_current_version", wsv.SetWorkerDeploymentCurrentVersionRequest(
                    namespace=self.c.ns, deployment_name=self.name, build_id=build))
                break
            except RPCError:  # the reference: the queue may not be known to the version yet
                await asyncio.sleep(0.2)
        whole = wsv.DescribeWorkerDeploymentRequest(namespace=self.c.ns, deployment_name=self.name)
        queue = wsv.DescribeTaskQueueRequest(namespace=self.c.ns, task_queue=TaskQueue(name=self.c.tq), task_queue_type=1)
        done = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_COMPLETED
        for _ in range(400):
            state = await self.c.server.call("describe_worker_deployment", whole)
            there = await self.c.server.call("describe_task_queue", queue)
            if (state.worker_deployment_info.routing_config_update_state == done and
                    there.versioning_info.current_deployment_version.build_id == build):
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{build} does not become current")

    async def next(self, build, waiting=None):
        """Its next task, recorded."""
        task = await (waiting or self.poll_aside(build))
        for _ in range(2):
            if task.task_token:
                break
            task = await self.poll_aside(build)
        self.c.record("poll_workflow_task_queue", normalise(task, self.c.names))
        return task

    async def done(self, task, build, behaviour, *what):
        await self.c.done(task, *what, versioning_behavior=behaviour, deployment_options=self.options(build))


async def two(c):
    d = Deployment(c)
    first = await d.registered("1")
    await d.current("1")
    return d, first


async def case_versions_pinned(c):
    d, first = await two(c)
    run = await c.start()
    await d.done(await d.next("1", first), "1", PINNED)
    await c.describe(run)
    second = await d.registered("2")
    await d.current("2")
    await c.signal(run)
    await d.done(await d.next("1"), "1", PINNED, commands.complete())
    await c.history(run)
    other = await c.start("other")
    await d.done(await d.next("2", second), "2", PINNED, commands.complete())
    await c.history(other)


async def case_versions_auto_upgrade(c):
    d, first = await two(c)
    run = await c.start()
    await d.done(await d.next("1", first), "1", AUTO_UPGRADE)
    await c.describe(run)
    second = await d.registered("2")
    await d.current("2")
    await c.signal(run)
    await d.done(await d.next("2", second), "2", AUTO_UPGRADE)
    await c.describe(run)
    await c.signal(run)
    await d.done(await d.next("2"), "2", AUTO_UPGRADE, commands.complete())
    await c.describe(run)
    await c.history(run)


async def case_versions_overridden(c):
    d, first = await two(c)
    second = await d.registered("2")
    pinned = VersioningOverride(pinned=VersioningOverride.PinnedOverride(behavior=1, version=d.version("2")))
    run = await c.start(versioning_override=pinned)
    await d.done(await d.next("2", second), "2", AUTO_UPGRADE)
    await c.describe(run)
    await c.call("update_workflow_execution_options", namespace=c.ns, workflow_execution=run, identity=IDENTITY,
                 workflow_execution_options=WorkflowExecutionOptions(), update_mask=FieldMask(paths=["versioning_override"]))
    await c.signal(run)
    await d.done(await d.next("1", first), "1", AUTO_UPGRADE, commands.complete())
    await c.history(run)
    missing = VersioningOverride(pinned=VersioningOverride.PinnedOverride(behavior=1, version=d.version("9")))
    await c.fails("start_workflow_execution", **c.start_fields("missing", versioning_override=missing))
