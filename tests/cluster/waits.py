# SPDX-License-Identifier: MIT
"""Who waits while the shards move: calls for the end of a run and queries that no worker has answered yet go on waiting at the next
owner.  They are asked without retries, for an SDK gives up when a call that took ten seconds fails."""

import asyncio
import uuid
from datetime import timedelta

import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.query.v1 as query
import temporalio.api.workflowservice.v1 as ws
from temporalio.service import RPCError

from world import NAMESPACE

COUNT = 24


class Waits:
    """Of workflows that end with a signal, and of others whose worker comes later."""

    def __init__(self, client, kind):
        self.client, self.service, self.kind = client, client.workflow_service, kind
        self.awaited = [f"awaited-{uuid.uuid4()}" for _ in range(COUNT)]
        self.asked = [f"asked-{uuid.uuid4()}" for _ in range(COUNT)]
        self.late_queue, self.wrong = f"late-{uuid.uuid4()}", []

    async def one(self, call):
        try:
            await call
            return True
        except RPCError as error:
            self.wrong.append(f"{error.status.name}: {error.message}")
            return False

    def end_of(self, name):
        return self.one(self.service.get_workflow_execution_history(ws.GetWorkflowExecutionHistoryRequest(
            namespace=NAMESPACE, execution=common.WorkflowExecution(workflow_id=name), wait_new_event=True,
            history_event_filter_type=enums.HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT), retry=False,
            timeout=timedelta(seconds=60)))

    def state_of(self, name):
        return self.one(self.service.query_workflow(ws.QueryWorkflowRequest(
            namespace=NAMESPACE, execution=common.WorkflowExecution(workflow_id=name),
            query=query.WorkflowQuery(query_type="__stack_trace")), retry=False, timeout=timedelta(seconds=60)))

    async def begin(self, queue):
        for name in self.awaited:
            await self.client.start_workflow(self.kind, id=name, task_queue=queue)
        for name in self.asked:
            await self.client.start_workflow(self.kind, id=name, task_queue=self.late_queue)
        self.calls = [asyncio.create_task(call) for call in [*map(self.end_of, self.awaited), *map(self.state_of, self.asked)]]
        await asyncio.sleep(0.5)

    async def end(self, worker, signal):
        """How many were answered; worker(queue) serves the late queue."""
        async with worker(self.late_queue):
            for name in self.awaited + self.asked:
                await self.client.get_workflow_handle(name).signal(signal, "you")
            done = await asyncio.gather(*self.calls)
        return sum(done)
