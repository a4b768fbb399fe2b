# SPDX-License-Identifier: MIT
"""A frontend that ends as planned: whoever waits through it for a task, for more of a history or for an update is answered with
what there is, although the waiting is done at other hosts.  Without that the calls are cut off when the drain's time is over."""

import asyncio
import uuid
from datetime import timedelta

import temporalio.api.common.v1 as common
import temporalio.api.nexus.v1 as nexus
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.update.v1 as update
import temporalio.api.workflowservice.v1 as ws
from temporalio.client import Client
from temporalio.service import RPCError

from queues import QUEUE as PARTED
from queues import until
from world import NAMESPACE

assert nexus  # polls of Nexus tasks have its types in their answers


class Waiting:
    def __init__(self, client, run):
        self.service, self.queue, self.run = client.workflow_service, f"drained-{uuid.uuid4()}", run
        self.identity = f"waits-{uuid.uuid4()}"

    def polls(self):
        s, queue, parted = self.service, taskqueue.TaskQueue(name=self.queue), taskqueue.TaskQueue(name=PARTED)
        asked = {"namespace": NAMESPACE, "identity": self.identity}
        return {"workflow tasks": s.poll_workflow_task_queue(
                    ws.PollWorkflowTaskQueueRequest(task_queue=queue, **asked), retry=False, timeout=timedelta(seconds=65)),
                "activity tasks": s.poll_activity_task_queue(
                    ws.PollActivityTaskQueueRequest(task_queue=queue, **asked), retry=False, timeout=timedelta(seconds=65)),
                "Nexus tasks": s.poll_nexus_task_queue(
                    ws.PollNexusTaskQueueRequest(task_queue=queue, **asked), retry=False, timeout=timedelta(seconds=65)),
                **{f"activity tasks of a partition, {i}": s.poll_activity_task_queue(
                    ws.PollActivityTaskQueueRequest(task_queue=parted, **asked), retry=False, timeout=timedelta(seconds=65))
                   for i in range(4)}}

    def readings(self):
        s, run = self.service, common.WorkflowExecution(workflow_id=self.run)
        return {"more of a history": s.get_workflow_execution_history(
                    ws.GetWorkflowExecutionHistoryRequest(namespace=NAMESPACE, execution=run, wait_new_event=True,
                                                          history_event_filter_type=2), retry=False, timeout=timedelta(seconds=65)),
                "an update": s.update_workflow_execution(
                    ws.UpdateWorkflowExecutionRequest(
                        namespace=NAMESPACE, workflow_execution=run, wait_policy=update.WaitPolicy(lifecycle_stage=3),
                        request=update.Request(meta=update.Meta(update_id="one", identity=self.identity),
                                               input=update.Input(name="never handled"))),
                    retry=False, timeout=timedelta(seconds=65))}

    async def are_there(self, other):
        """Asked of another frontend: all that poll are seen by their queues."""
        for name, kind in ((self.queue, 1), (self.queue, 2), (self.queue, 3), (PARTED, 2)):
            async def seen(name=name, kind=kind):
                answer = await other.workflow_service.describe_task_queue(ws.DescribeTaskQueueRequest(
                    namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=name), task_queue_type=kind))
                return any(poller.identity == self.identity for poller in answer.pollers)
            await until(seen, f"the pollers of {name}, {kind}")


async def outcome(call):
    try:
        return await call
    except RPCError as error:
        return f"{error.status.name}: {error.message}"


async def play(arguments, report, fleet):
    first, other = fleet.having("frontend")[:2]
    client, elsewhere = [await Client.connect(f"{one.ip}:{one.rpc['frontend']}") for one in (first, other)]
    run = f"drained-{uuid.uuid4()}"
    handle = await elsewhere.start_workflow("nobody", id=run, task_queue=f"nobody-{uuid.uuid4()}")
    waiting = Waiting(client, run)
    calls = {name: asyncio.ensure_future(outcome(call)) for name, call in {**waiting.polls(), **waiting.readings()}.items()}
    await waiting.are_there(elsewhere)
    status = await asyncio.to_thread(first.stop)
    answers = {name: await call for name, call in calls.items()}
    for name, answer in answers.items():
        if isinstance(answer, str):
            print(f"    {name}: {answer}")
    report.check("who waits through a frontend that ends is answered", status == 0 and not any(
        isinstance(answer, str) for answer in answers.values()), f"{len(answers)} calls, it ended with {status}")
    history = answers["more of a history"]
    report.check("... polls with nothing, readers with where to go on", not isinstance(history, str) and history.next_page_token
                 and not any(getattr(answer, "task_token", b"") for answer in answers.values()))
    await handle.terminate()
    first.start()
    await asyncio.to_thread(fleet.wait, len(fleet.members))
