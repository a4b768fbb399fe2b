# SPDX-License-Identifier: MIT
"""What is known of a task queue in four partitions on several hosts, with each role in processes of its own: its settings
everywhere at once and after a restart of their owner, its workers, and the end of a worker's polls."""

import asyncio
import uuid
from datetime import timedelta

import temporalio.api.enums.v1 as enums
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.worker.v1 as worker_api
import temporalio.api.workflowservice.v1 as ws
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from world import NAMESPACE

QUEUE = "parted"
ACTIVITY = enums.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
GRACEFUL = "frontend.enableCancelWorkerPollsOnShutdown: [{value: true}]\n"
COUNT = 16


@activity.defn
async def done(n: int) -> int:
    return n


@workflow.defn
class Fan:
    @workflow.run
    async def run(self) -> int:
        return sum(await asyncio.gather(*[workflow.start_activity(
            done, i, task_queue=QUEUE, start_to_close_timeout=timedelta(seconds=60)) for i in range(COUNT)]))


async def set_rate(client, per_second):
    limit = None if per_second is None else taskqueue.RateLimit(requests_per_second=per_second)
    await client.workflow_service.update_task_queue_config(ws.UpdateTaskQueueConfigRequest(
        namespace=NAMESPACE, task_queue=QUEUE, task_queue_type=ACTIVITY,
        update_queue_rate_limit=ws.UpdateTaskQueueConfigRequest.RateLimitUpdate(rate_limit=limit, reason="test")))


async def described(client):
    return await client.workflow_service.describe_task_queue(ws.DescribeTaskQueueRequest(
        namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=QUEUE), task_queue_type=ACTIVITY, report_config=True,
        report_stats=True))


async def until(test, what, seconds=60):
    for _ in range(int(seconds / 0.05)):
        found = await test()
        if found:
            return found
        await asyncio.sleep(0.05)
    raise RuntimeError(f"{what}: not within {seconds} s")


async def rates(report, clients):
    """Nothing goes at a rate of nothing, in no partition, though polls wait in all of them; then all of it goes."""
    await set_rate(clients[0], 0)
    shown = [await described(client) for client in clients]
    report.check("a rate is known to every frontend's callers", all(
        one.effective_rate_limit.requests_per_second == 0 and one.config.queue_rate_limit.metadata.reason == "test"
        for one in shown))
    async with Worker(clients[1], task_queue="fan", workflows=[Fan], workflow_runner=UnsandboxedWorkflowRunner()), \
            Worker(clients[2], task_queue=QUEUE, activities=[done], max_concurrent_activity_task_polls=8):
        handle = await clients[1].start_workflow(Fan.run, id=f"fan-{uuid.uuid4()}", task_queue="fan")

        async def all_wait():
            return (await described(clients[0])).stats.approximate_backlog_count == COUNT
        await until(all_wait, "all activities in the backlog")
        await asyncio.sleep(0.5)  # long enough for what should not happen: forwarding takes 0.1 s
        stand = await described(clients[2])
        report.check("a queue at a rate of nothing stands still in all partitions",
                     stand.stats.approximate_backlog_count == COUNT and stand.stats.tasks_dispatch_rate == 0,
                     f"{stand.stats.approximate_backlog_count} of {COUNT} wait")
        await set_rate(clients[2], None)
        result = await asyncio.wait_for(handle.result(), 60)
        report.check("and goes on in all of them when that is taken back", result == sum(range(COUNT)))


async def workers(report, clients):
    key = str(uuid.uuid4())
    beat = worker_api.WorkerHeartbeat(worker_instance_key=key, task_queue=QUEUE, status=1)
    await clients[0].workflow_service.record_worker_heartbeat(ws.RecordWorkerHeartbeatRequest(
        namespace=NAMESPACE, worker_heartbeat=[beat]))
    found = [await client.workflow_service.list_workers(ws.ListWorkersRequest(
        namespace=NAMESPACE, query=f"WorkerInstanceKey = '{key}'")) for client in clients]
    report.check("a worker is known to every frontend's callers", all(len(one.workers) == 1 for one in found))


async def polls_end(report, clients):
    """Polls of a worker that shuts down end empty, whatever partition and frontend they are at."""
    key = str(uuid.uuid4())

    def poll(client):
        return asyncio.ensure_future(client.workflow_service.poll_activity_task_queue(
            ws.PollActivityTaskQueueRequest(namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=QUEUE),
                                            identity=key, worker_instance_key=key), timeout=timedelta(seconds=65)))
    waiting = [poll(client) for client in clients for _ in range(4)]

    async def seen():
        return any(poller.identity == key for poller in (await described(clients[0])).pollers)
    await until(seen, "the polls")
    await clients[1].workflow_service.shutdown_worker(ws.ShutdownWorkerRequest(
        namespace=NAMESPACE, identity=key, worker_instance_key=key, task_queue=QUEUE, sticky_task_queue=key))
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 30)  # by themselves they would have waited for a minute
    report.check("a worker's polls end when it shuts down", all(not answer.task_token for answer in answers),
                 f"{len(answers)} polls")


async def play(arguments, report, fleet):
    clients = [await Client.connect(f"{ip}:{port}") for ip, port in fleet.addresses()]
    await rates(report, clients)
    await workers(report, clients)
    await polls_end(report, clients)
