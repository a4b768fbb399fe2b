# SPDX-License-Identifier: MIT
"""Worker deployments: where runs go when the current version changes.  Two workers of one queue, one of each version;
a run tells which of them did its first workflow task and which the one after the signal."""

import contextlib

import temporalio.api.workflowservice.v1 as ws
from temporalio import workflow
from temporalio.common import PinnedVersioningOverride, VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig


class Stages:
    """What both builds have in common; a run's result tells which build ended it."""
    BUILD = ""

    def __init__(self):
        self.gone = False

    @workflow.signal
    async def go(self):
        self.gone = True

    @workflow.query
    def build(self) -> str:
        return self.BUILD

    async def stages(self) -> str:
        await workflow.wait_condition(lambda: self.gone)
        return self.BUILD


@workflow.defn(name="Stages", versioning_behavior=VersioningBehavior.PINNED)
class Pinned1(Stages):
    BUILD = "1"

    @workflow.run
    async def run(self) -> str:
        return await self.stages()


@workflow.defn(name="Stages", versioning_behavior=VersioningBehavior.PINNED)
class Pinned2(Stages):
    BUILD = "2"

    @workflow.run
    async def run(self) -> str:
        return await self.stages()


@workflow.defn(name="Stages", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class Upgraded1(Stages):
    BUILD = "1"

    @workflow.run
    async def run(self) -> str:
        return await self.stages()


@workflow.defn(name="Stages", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class Upgraded2(Stages):
    BUILD = "2"

    @workflow.run
    async def run(self) -> str:
        return await self.stages()


class Deployment:
    def __init__(self, env, queue):
        self.env, self.queue, self.name = env, queue, env.id("deployment")
        self.service = env.client.workflow_service

    def version(self, build):
        return WorkerDeploymentVersion(self.name, build)

    async def known(self, build):
        async def there():
            try:
                found = await self.service.describe_worker_deployment_version(
                    ws.DescribeWorkerDeploymentVersionRequest(
                        namespace=self.env.namespace,
                        deployment_version={"deployment_name": self.name, "build_id": build}))
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise
                return False
            return any(q.name == self.queue for q in found.version_task_queues)
        await self.env.until(there, f"version {build} to be known")

    async def described(self):
        found = await self.service.describe_worker_deployment(ws.DescribeWorkerDeploymentRequest(
            namespace=self.env.namespace, deployment_name=self.name))
        return found.worker_deployment_info

    async def set_current(self, build):
        await self.service.set_worker_deployment_current_version(ws.SetWorkerDeploymentCurrentVersionRequest(
            namespace=self.env.namespace, deployment_name=self.name, build_id=build))

        async def everywhere():
            return (await self.described()).routing_config_update_state == 2
        await self.env.until(everywhere, f"the queues to know of version {build}")

    async def start(self, **kw):
        handle = await self.env.start("Stages", task_queue=self.queue, **kw)
        self.env.not_replayed.add(handle.id)  # two builds have made it, each of which answers differently
        return handle

    async def on(self, handle, build):
        """Waits until a worker of that version has completed a workflow task of the run."""
        async def there():
            info = (await handle.describe()).raw_description.workflow_execution_info.versioning_info
            return info.deployment_version.build_id == build
        await self.env.until(there, f"{handle.id} to be on version {build}")


@contextlib.asynccontextmanager
async def two_versions(env, *classes):
    queue = env.id("deployed")
    d = Deployment(env, queue)
    async with contextlib.AsyncExitStack() as stack:
        for cls in classes:
            build = cls.BUILD
            await stack.enter_async_context(env.worker([cls], queue=queue, deployment_config=(
                WorkerDeploymentConfig(version=d.version(build), use_worker_versioning=True))))
            await d.known(build)
        await d.set_current("1")
        yield d


async def case_deployment_pinned_stays(env):
    async with two_versions(env, Pinned1, Pinned2) as d:
        old = await d.start()
        await d.on(old, "1")
        await d.set_current("2")
        new = await d.start()
        await d.on(new, "2")
        assert [await h.query("build") for h in (old, new)] == ["1", "2"]
        for handle in (old, new):
            await handle.signal("go")
        assert [await h.result() for h in (old, new)] == ["1", "2"]


async def case_deployment_auto_upgrade_moves(env):
    async with two_versions(env, Upgraded1, Upgraded2) as d:
        handle = await d.start()
        await d.on(handle, "1")
        await d.set_current("2")
        await handle.signal("go")
        assert await handle.result() == "2"
        info = (await handle.describe()).raw_description.workflow_execution_info.versioning_info
        assert info.deployment_version.build_id == "2" and not info.HasField("version_transition"), info


async def case_deployment_override(env):
    async with two_versions(env, Upgraded1, Upgraded2) as d:
        handle = await d.start(versioning_override=PinnedVersioningOverride(d.version("2")))
        await d.on(handle, "2")
        await handle.signal("go")
        assert await handle.result() == "2"
        error = await env.raises(RPCError, d.start(versioning_override=PinnedVersioningOverride(d.version("9"))))
        assert error.status == RPCStatusCode.FAILED_PRECONDITION, error
        routing = (await d.described()).routing_config
        assert routing.current_deployment_version.build_id == "1", routing
