# SPDX-License-Identifier: MIT
"""Resets and batch jobs through the SDK: the new run's worker meets what the old one was told."""

import asyncio
import uuid
from datetime import timedelta

from google.protobuf.empty_pb2 import Empty
from temporalio import workflow
from temporalio.api.batch.v1 import (BatchOperationReset, BatchOperationSignal,
                                     BatchOperationTermination)
from temporalio.api.common.v1 import Payloads, ResetOptions, WorkflowExecution
from temporalio.api.enums.v1 import BatchOperationState
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest, DescribeBatchOperationRequest, ListBatchOperationsRequest,
    ResetWorkflowExecutionRequest, StartBatchOperationRequest)

from cases_update import Counter
from flows import echo


@workflow.defn
class Teller:
    """Tells what it heard, in order, around an activity, a timer and a child."""

    def __init__(self):
        self.heard, self.over = [], False

    @workflow.run
    async def run(self) -> list:
        self.heard.append(await workflow.execute_activity(
            echo, "activity", start_to_close_timeout=timedelta(seconds=10)))
        await workflow.sleep(0.1)
        await workflow.wait_condition(lambda: self.over)
        return self.heard

    @workflow.signal
    def hear(self, word: str):
        self.heard.append(word)

    @workflow.signal
    def finish(self):
        self.over = True

    @workflow.update
    async def told(self, word: str) -> int:
        self.heard.append(word)
        return len(self.heard)

    @workflow.query
    def words(self) -> list:
        return self.heard


WORKFLOWS = [Teller]


def teller_worker(env):
    env.replay_classes.setdefault("Teller", Teller)
    return env.worker(WORKFLOWS, [echo])


async def reset(env, handle, event_id, **fields):
    answer = await env.client.workflow_service.reset_workflow_execution(ResetWorkflowExecutionRequest(
        namespace=env.client.namespace, reason="again", request_id=str(uuid.uuid4()),
        workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.result_run_id),
        workflow_task_finish_event_id=event_id, **fields))
    return env.client.get_workflow_handle(handle.id, run_id=answer.run_id)


async def case_reset_tells_again(env):
    async with teller_worker(env) as queue:
        handle = await env.start(Teller.run, task_queue=queue)
        for word in ("one", "two"):
            await handle.signal(Teller.hear, word)
        assert await handle.execute_update(Teller.told, "three") >= 3
        new = await reset(env, handle, 4)
        assert await new.execute_update(Teller.told, "four") >= 4
        await new.signal(Teller.finish)
        heard = sorted(await new.result())
        assert heard == ["echo activity", "four", "one", "three", "two"], heard
        assert (await handle.describe()).run_id == new.run_id


async def case_reset_of_a_closed_run(env):
    env.replay_classes.setdefault("Counter", Counter)
    async with env.worker([Counter], [echo]) as queue:
        handle = await env.start(Counter.run, 7, task_queue=queue)
        assert await handle.execute_update(Counter.add, 3) == 10
        await handle.signal(Counter.finish)
        assert await handle.result() == 10
        new = await reset(env, handle, 4, reset_reapply_exclude_types=[2])
        assert await new.result() == 7
        newer = await reset(env, handle, 4, reset_reapply_exclude_types=[1])
        assert await newer.execute_update(Counter.add, 1) == 11
        await newer.signal(Counter.finish)
        assert await newer.result() == 11


async def batch(env, **fields):
    job = str(uuid.uuid4())
    await env.start_batch(StartBatchOperationRequest(
        namespace=env.client.namespace, job_id=job, reason="test", **fields))
    for _ in range(200):
        told = await env.client.workflow_service.describe_batch_operation(
            DescribeBatchOperationRequest(namespace=env.client.namespace, job_id=job), retry=True)
        if told.state != BatchOperationState.BATCH_OPERATION_STATE_RUNNING:
            return told
        await asyncio.sleep(0.1)
    raise AssertionError(f"job {job} goes on for ever")


async def case_batches(env):
    async with teller_worker(env) as queue:
        handles = [await env.start(Teller.run, task_queue=queue) for _ in range(7)]
        query = f"TaskQueue = '{queue}' AND ExecutionStatus = 'Running'"
        for _ in range(100):
            count = await env.client.workflow_service.count_workflow_executions(
                CountWorkflowExecutionsRequest(namespace=env.client.namespace, query=query))
            if count.count == len(handles):
                break
            await asyncio.sleep(0.1)
        word = await env.client.data_converter.encode(["from a batch"])
        told = await batch(env, visibility_query=query,
                           signal_operation=BatchOperationSignal(signal="hear", input=Payloads(payloads=word)))
        assert (told.complete_operation_count, told.failure_operation_count) == (7, 0), told
        for handle in handles:
            while "from a batch" not in await handle.query(Teller.words):
                await asyncio.sleep(0.05)
        named = [WorkflowExecution(workflow_id=h.id) for h in handles[:3]]
        told = await batch(env, executions=named, reset_operation=BatchOperationReset(
            options=ResetOptions(first_workflow_task=Empty())))
        assert (told.complete_operation_count, told.failure_operation_count) == (3, 0), told
        for handle in handles[:3]:
            current = env.client.get_workflow_handle(handle.id)
            assert (await current.describe()).run_id != handle.result_run_id
            await current.signal(Teller.finish)
            heard = sorted(await current.result())
            assert heard == ["echo activity", "from a batch"], heard
        named = [WorkflowExecution(workflow_id=h.id) for h in handles[3:]]
        told = await batch(env, executions=named, termination_operation=BatchOperationTermination())
        assert (told.complete_operation_count, told.failure_operation_count) == (4, 0), told
        assert {(await h.describe()).status.name for h in handles[3:]} == {"TERMINATED"}
        listed = await env.client.workflow_service.list_batch_operations(
            ListBatchOperationsRequest(namespace=env.client.namespace))
        assert len(listed.operation_info) >= 2
