# SPDX-License-Identifier: MIT
"""Task queues: priorities and fairness, judged by the order in which tasks came; settings; workers that tell of
themselves."""

import asyncio
from datetime import timedelta

import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.worker.v1 as worker_api
import temporalio.api.workflowservice.v1 as ws
from temporalio import activity, workflow
from temporalio.common import Priority
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import PollerBehaviorAutoscaling

import flows

came = {}  # activity queue -> what came, in order


@activity.defn
async def note(tag: str) -> list:
    info = activity.info()
    came.setdefault(info.task_queue, []).append(tag)
    return [info.priority.priority_key, info.priority.fairness_key, info.priority.fairness_weight]


@workflow.defn
class Spread:
    """Activities on another queue, each with a tag, and a priority, fairness key and weight that may be None."""

    @workflow.run
    async def run(self, queue: str, wanted: list) -> list:
        return await asyncio.gather(*[workflow.start_activity(
            note, tag, task_queue=queue, start_to_close_timeout=timedelta(seconds=30),
            priority=Priority(priority_key=key, fairness_key=fairness, fairness_weight=weight))
            for tag, key, fairness, weight in wanted])


@workflow.defn
class Heir:
    """Tells its priority, and those of a child, an activity and its next run."""

    @workflow.run
    async def run(self, left: int, child_id: str, found: list) -> list:
        p = workflow.info().priority
        found = found + [[p.priority_key, p.fairness_key, p.fairness_weight]]
        if not child_id:
            return found
        if left > 0:
            workflow.continue_as_new(args=[left - 1, child_id, found])
        found += await workflow.execute_child_workflow(
            Heir.run, args=[0, "", []], id=child_id, priority=Priority(fairness_key="child"))
        found.append(await workflow.execute_activity(
            note, "heir", start_to_close_timeout=timedelta(seconds=30), priority=Priority(priority_key=1)))
        return found


def use(env):
    """The replay at the end knows these workflows, too."""
    env.replay_classes["Spread"] = Spread
    env.replay_classes["Heir"] = Heir


async def waiting(env, handle, count):
    async def there():
        described = await handle.describe()
        return len(described.raw_description.pending_activities) == count
    await env.until(there, f"{count} activities that wait")


async def in_order(env, wanted):
    """Has all wait before a worker with one slot comes; the tags in the order in which they came."""
    use(env)
    acts = env.id("acts")
    async with env.worker([Spread]) as queue:
        handle = await env.start(Spread.run, acts, wanted, task_queue=queue)
        await waiting(env, handle, len(wanted))
        async with env.worker(activities=[note], queue=acts, max_concurrent_activities=1,
                              max_concurrent_activity_task_polls=1):
            await handle.result()
    return came.pop(acts)


async def case_priorities_under_a_backlog(env):
    wanted = [(str(key), key, None, None) for _ in range(8) for key in (5, 3, 1, 4, 2)]
    order = await in_order(env, wanted)
    assert sorted(order) == sorted(tag for tag, *_ in wanted), order
    places = {key: [i for i, tag in enumerate(order) if tag == key] for key in "12345"}
    means = [sum(places[key]) / 8 for key in "12345"]
    assert means == sorted(means) and means[0] < 6 and means[4] > 33, (means, "".join(order))


async def case_fairness_under_a_backlog(env):
    """A key that floods the queue does not keep another waiting, and a weight of three is three shares."""
    wanted = [("f", None, "flood", None)] * 40 + [("s", None, "small", None)] * 5 + [("w", None, "heavy", 3.0)] * 15
    order = await in_order(env, wanted)
    assert len(order) == 60
    last = max(i for i, tag in enumerate(order) if tag == "s")
    assert last < 32, "".join(order)
    first = order[:20]
    assert 9 <= first.count("w") <= 15, "".join(order)


async def case_priority_is_inherited(env):
    use(env)
    async with env.worker([Heir], [note], disable_eager_activity_execution=True) as queue:
        handle = await env.start(Heir.run, 1, env.id("heir-child"), [], task_queue=queue,
                                 priority=Priority(priority_key=2, fairness_key="tenant", fairness_weight=1.5))
        found = await handle.result()
        assert found == [[2, "tenant", 1.5], [2, "tenant", 1.5], [2, "child", 1.5], [1, "tenant", 1.5]], found
        shown = (await handle.describe()).raw_description.workflow_execution_info.priority
        assert (shown.priority_key, shown.fairness_key, shown.fairness_weight) == (2, "tenant", 1.5), shown


async def refused(call, text):
    try:
        await call
    except RPCError as error:
        assert error.status == RPCStatusCode.INVALID_ARGUMENT and error.message == text, (error.status, error.message)
    else:
        raise AssertionError(f"not refused: {text}")


async def case_bad_priorities(env):
    for priority, text in (
            (common.Priority(priority_key=-1), "priority key can't be negative"),
            (common.Priority(fairness_key="k" * 65), "fairness key length exceeds limit"),
            (common.Priority(fairness_weight=-1.0), "must be greater than zero")):
        await refused(env.client.workflow_service.start_workflow_execution(ws.StartWorkflowExecutionRequest(
            namespace=env.namespace, workflow_id=env.id("bad"), workflow_type=common.WorkflowType(name="Nobody"),
            task_queue=taskqueue.TaskQueue(name=env.queue), request_id=env.id("request"), priority=priority)), text)


# ---- settings ----

ACTIVITY = enums.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
WORKFLOW = enums.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW


def config(env, queue, kind=ACTIVITY, **more):
    return env.client.workflow_service.update_task_queue_config(ws.UpdateTaskQueueConfigRequest(
        namespace=env.namespace, identity="tester", task_queue=queue, task_queue_type=kind, **more))


def rate(per_second, reason=""):
    limit = None if per_second is None else taskqueue.RateLimit(requests_per_second=per_second)
    return ws.UpdateTaskQueueConfigRequest.RateLimitUpdate(rate_limit=limit, reason=reason)


async def described(env, queue, kind=ACTIVITY):
    return await env.client.workflow_service.describe_task_queue(ws.DescribeTaskQueueRequest(
        namespace=env.namespace, task_queue=taskqueue.TaskQueue(name=queue), task_queue_type=kind,
        report_config=True, report_stats=True))


async def case_a_queue_that_stands_still(env):
    """A rate of nothing stops a queue until it is taken back; the backlog is shown."""
    use(env)
    acts = env.id("acts")
    answer = await config(env, acts, update_queue_rate_limit=rate(0, "no more"))
    assert answer.config.queue_rate_limit.metadata.reason == "no more", answer
    assert answer.config.queue_rate_limit.metadata.update_identity == "tester", answer
    async with env.worker([Spread]) as queue, env.worker(activities=[note], queue=acts):
        handle = await env.start(Spread.run, acts, [("a", 1, None, None), ("b", None, None, None)], task_queue=queue)

        async def backlog():
            shown = await described(env, acts)
            return shown if shown.stats.approximate_backlog_count == 2 else None
        shown = await env.until(backlog, "a backlog of two")
        assert shown.effective_rate_limit.requests_per_second == 0, shown
        assert shown.effective_rate_limit.rate_limit_source == enums.RateLimitSource.RATE_LIMIT_SOURCE_API, shown
        assert {1, 3} <= set(shown.stats_by_priority_key), shown
        assert shown.config.queue_rate_limit.rate_limit.requests_per_second == 0, shown
        assert acts not in came
        await config(env, acts, update_queue_rate_limit=rate(None))
        await handle.result()
        assert sorted(came.pop(acts)) == ["a", "b"]


async def case_settings_are_merged(env):
    queue = env.id("settings")
    await config(env, queue, WORKFLOW, set_fairness_weight_overrides={"a": 2.0, "b": 0.5})
    answer = await config(env, queue, WORKFLOW, set_fairness_weight_overrides={"c": 3.0},
                          unset_fairness_weight_overrides=["a"])
    assert dict(answer.config.fairness_weight_overrides) == {"b": 0.5, "c": 3.0}, answer
    await config(env, queue, update_fairness_key_rate_limit_default=rate(10, "each"))
    shown = (await described(env, queue)).config
    assert shown.fairness_keys_rate_limit_default.rate_limit.requests_per_second == 10, shown
    assert not shown.fairness_weight_overrides, shown
    shown = (await described(env, queue, WORKFLOW)).config
    assert dict(shown.fairness_weight_overrides) == {"b": 0.5, "c": 3.0}, shown


async def case_bad_settings(env):
    many = {f"k{i}": 1.0 for i in range(1001)}
    for more, text in (
            ({"update_queue_rate_limit": rate(-1)},
             "RequestsPerSecond for UpdateQueueRateLimit rate limit must be non-negative."),
            ({"kind": WORKFLOW, "update_queue_rate_limit": rate(1)},
             "Setting rate limit on workflow task queues is not allowed."),
            ({"kind": WORKFLOW, "update_fairness_key_rate_limit_default": rate(1)},
             "Setting fairness key rate limit on workflow task queues is not allowed."),
            ({"update_queue_rate_limit": rate(1, "r" * 1001)},
             "UpdateQueueRateLimit.Reason field too long (max 1000 characters)."),
            ({"set_fairness_weight_overrides": {"": 1.0}}, "fairness weight override key must not be empty"),
            ({"set_fairness_weight_overrides": {"k" * 65: 1.0}}, "fairness key length exceeds limit"),
            ({"set_fairness_weight_overrides": {"k": 0.0}},
             'invalid fairness weight weight for key "k": must be greater than zero'),
            ({"set_fairness_weight_overrides": {"k": 1.0}, "unset_fairness_weight_overrides": ["k"]},
             'fairness weight override key "k" present in both set and unset lists'),
            ({"set_fairness_weight_overrides": many},
             "too many fairness weight overrides in request: got 1001, maximum 1000")):
        await refused(config(env, env.id("bad"), **more), text)


# ---- workers ----


async def case_pollers_that_scale(env):
    """A worker that makes as many polls as the server advises does what a worker does."""
    async with env.worker([flows.Hello], [flows.echo], workflow_task_poller_behavior=PollerBehaviorAutoscaling(initial=1),
                          activity_task_poller_behavior=PollerBehaviorAutoscaling(initial=1)) as queue:
        results = await asyncio.gather(*[env.run(flows.Hello.run, str(i), task_queue=queue) for i in range(40)])
        assert len(set(results)) == 40, results


async def case_advice_to_pollers(env):
    """A poll that meets an old backlog is told to have company; one that waited for long is told that it is one too many."""
    queue = env.id("advised")

    def poll(identity):
        return env.client.workflow_service.poll_workflow_task_queue(ws.PollWorkflowTaskQueueRequest(
            namespace=env.namespace, identity=identity, task_queue=taskqueue.TaskQueue(name=queue)),
            retry=True, timeout=timedelta(seconds=60))

    async def start():
        handle = await env.start("Nobody", task_queue=queue, run_timeout=timedelta(seconds=300),
                                 task_timeout=timedelta(seconds=100))
        env.forget(handle)
        return handle
    for _ in range(2):
        await start()
    await asyncio.sleep(1)  # the age of the backlog is what is asked for
    advice = [(await poll("busy")).poller_scaling_decision.poll_request_delta_suggestion for _ in range(2)]
    assert 1 in advice, advice
    for turn in range(8):  # a server that is restarted meanwhile answers a poll with nothing before its time
        name = f"idle{turn}"
        waiting = asyncio.ensure_future(poll(name))

        async def parked():
            return waiting.done() or any(p.identity == name for p in (await described(env, queue, WORKFLOW)).pollers)
        await env.until(parked, "the poll that waits")
        await asyncio.sleep(1.5)
        if waiting.done():
            assert not (await waiting).task_token
            continue
        handle = await start()
        answer = await waiting
        if answer.task_token:
            break
        while not (await poll("takes what is left")).task_token:
            pass
    else:
        raise AssertionError("no poll waited until there was a task")
    assert answer.workflow_execution.workflow_id == handle.id, answer
    assert answer.poller_scaling_decision.poll_request_delta_suggestion == -1, answer


def beat(env, instance, queue, status=enums.WorkerStatus.WORKER_STATUS_RUNNING):
    return worker_api.WorkerHeartbeat(worker_instance_key=instance, worker_identity="teller", task_queue=queue,
                                      sdk_name="test", sdk_version="1", status=status,
                                      host_info=worker_api.WorkerHostInfo(host_name="here", process_id="7"))


async def listed(env, query, **more):
    answer = await env.client.workflow_service.list_workers(ws.ListWorkersRequest(
        namespace=env.namespace, query=query, **more))
    assert [w.worker_instance_key for w in answer.workers] == \
        [w.worker_heartbeat.worker_instance_key for w in answer.workers_info], answer
    return answer


async def case_workers_are_known_by_their_heartbeats(env):
    service, queue = env.client.workflow_service, env.id("telling")
    keys = sorted(env.id("worker") for _ in range(3))
    await service.record_worker_heartbeat(ws.RecordWorkerHeartbeatRequest(
        namespace=env.namespace, worker_heartbeat=[beat(env, key, queue) for key in keys]))
    query = f"TaskQueue = '{queue}' AND HostName = 'here'"
    first = await listed(env, query, page_size=2)
    second = await listed(env, query, page_size=2, next_page_token=first.next_page_token)
    assert [w.worker_instance_key for w in [*first.workers, *second.workers]] == keys, (first, second)
    assert not second.next_page_token
    assert (first.workers[0].host_name, first.workers[0].process_id) == ("here", "7"), first
    count = await service.count_workers(ws.CountWorkersRequest(namespace=env.namespace, query=query))
    assert count.count == 3, count
    one = await service.describe_worker(ws.DescribeWorkerRequest(namespace=env.namespace, worker_instance_key=keys[0]))
    assert one.worker_info.worker_heartbeat.worker_identity == "teller", one
    await service.shutdown_worker(ws.ShutdownWorkerRequest(
        namespace=env.namespace, sticky_task_queue=env.id("sticky"), identity="teller", worker_instance_key=keys[0],
        worker_heartbeat=beat(env, keys[0], queue, enums.WorkerStatus.WORKER_STATUS_SHUTDOWN)))
    assert len((await listed(env, query)).workers) == 2
    try:
        await service.describe_worker(ws.DescribeWorkerRequest(namespace=env.namespace, worker_instance_key=keys[0]))
    except RPCError as error:
        assert error.status == RPCStatusCode.NOT_FOUND and error.message == f"Worker {keys[0]} not found", error
    else:
        raise AssertionError("a worker that has left is described")
    assert not (await listed(env, "NoSuchField = 'x'")).workers


async def case_a_worker_of_the_sdk_tells_of_itself(env):
    """The SDK sends a heartbeat since the namespace says that it may: at the latest when the worker ends."""
    described_ns = await env.client.workflow_service.describe_namespace(
        ws.DescribeNamespaceRequest(namespace=env.namespace))
    assert described_ns.namespace_info.capabilities.worker_heartbeats
    assert described_ns.namespace_info.capabilities.poller_autoscaling
    async with env.worker([flows.Hello], [flows.echo]) as queue:
        await env.run(flows.Hello.run, "you", task_queue=queue)

    async def known():
        return (await listed(env, f"TaskQueue = '{queue}'")).workers
    found = await env.until(known, "the worker's heartbeat")
    assert found[0].sdk_name == "temporal-python", found
