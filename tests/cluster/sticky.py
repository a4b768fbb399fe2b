# SPDX-License-Identifier: MIT
"""Raw workers with sticky queues and a cache of histories, some of which die with both; and queries that the clients know the least
answer to."""

import asyncio
import time
import uuid

import temporalio.api.enums.v1 as enums
import temporalio.api.query.v1 as query
import temporalio.api.common.v1 as common
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.workflowservice.v1 as ws
from google.protobuf.duration_pb2 import Duration

from busy import Busy
from judge import KIND, signal_numbers
from world import NAMESPACE, decide, payloads, unpack

ANSWERED = enums.QueryResultType.QUERY_RESULT_TYPE_ANSWERED
CLOSES = enums.CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION
LATE = enums.TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START


class Sticky(Busy):
    """All its workers know queries; sticky_worker() has a queue of its own."""

    def __init__(self, *words):
        super().__init__(*words)
        self.sticky_tasks, self.deaths, self.returned, self.queries = 0, 0, set(), 0

    # ---- clients ----

    async def do_more(self, workflow_id):
        if self.random.random() < 0.3:
            await self.query(workflow_id)
        await super().do_more(workflow_id)

    async def query(self, workflow_id):
        """How many signals it has had: at least those acknowledged before (the judge's R13)."""
        asked = time.time()
        answer = await self.call(None, "query_workflow", ws.QueryWorkflowRequest(
            namespace=NAMESPACE, execution=common.WorkflowExecution(workflow_id=workflow_id),
            query=query.WorkflowQuery(query_type="signals")))
        if answer is not None:
            self.queries += 1
            self.log.write(what="query", outcome="ok", workflow=workflow_id, asked=asked, seen=unpack(answer.query_result))

    # ---- workers ----

    async def sticky_worker(self, name):
        """One after another: each dies with its queue, its cache and the tasks it has."""
        while not self.stop.is_set():
            dead = asyncio.Event()
            home, cache = f"{name}-{uuid.uuid4()}", {}
            polls = [asyncio.create_task(self.polls(queue, name, home, cache, dead)) for queue in (
                taskqueue.TaskQueue(name=self.queue),
                taskqueue.TaskQueue(name=home, kind=enums.TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=self.queue))]
            try:
                await asyncio.sleep(self.random.uniform(2, 12))
            finally:
                dead.set()
                await asyncio.gather(*polls, return_exceptions=True)
            self.deaths += 1

    async def polls(self, queue, name, home, cache, dead):
        death = asyncio.create_task(dead.wait())
        while not dead.is_set():
            poll = asyncio.create_task(self.call(None, "poll_workflow_task_queue", ws.PollWorkflowTaskQueueRequest(
                namespace=NAMESPACE, task_queue=queue, identity=name), seconds=10))
            await asyncio.wait((poll, death), return_when=asyncio.FIRST_COMPLETED)
            if dead.is_set():  # what it has just got stays unanswered
                poll.cancel()
                return
            task = poll.result()
            if task is None:
                await asyncio.sleep(0.05)
            elif task.task_token:
                self.sticky_tasks += queue.name == home
                await self.answer_workflow(task, name, home, cache)

    async def pages(self, task, token, begun):
        """The rest of a history from that token on; None if it cannot be read now."""
        events = list(begun)
        while True:
            page = await self.call(None, "get_workflow_execution_history", ws.GetWorkflowExecutionHistoryRequest(
                namespace=NAMESPACE, execution=task.workflow_execution, next_page_token=token))
            if page is None:
                return None
            events += page.history.events
            token = page.next_page_token
            if not token:
                return events

    async def events_of(self, task, cache):
        """All events that this task is about: what it brings, and before that what is cached or else asked for."""
        events = list(task.history.events)
        if task.next_page_token:
            events = await self.pages(task, task.next_page_token, events)
        if events is None or (events and events[0].event_id == 1):
            return events
        kept, before = cache.get(task.workflow_execution.run_id, []), events[0].event_id - 1 if events else 0
        if len(kept) < max(before, 1):
            kept = await self.pages(task, b"", []) or []
        if len(kept) < max(before, 1):
            return None
        return kept[:before] + events if events else kept

    def note_returned(self, run, events):
        for event in events:
            attributes = event.workflow_task_timed_out_event_attributes
            if event.event_type == KIND.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT and attributes.timeout_type == LATE:
                self.returned.add((run, event.event_id))

    async def answer_workflow(self, task, name, home=None, cache=None):
        run = task.workflow_execution.run_id
        events = await self.events_of(task, cache if cache is not None else {})
        if events is None:
            return  # it cannot be answered, and times out
        told = payloads(len(set(signal_numbers(events))))
        if task.HasField("query"):
            await self.call(None, "respond_query_task_completed", ws.RespondQueryTaskCompletedRequest(
                namespace=NAMESPACE, task_token=task.task_token, completed_type=ANSWERED, query_result=told))
            return
        self.note_returned(run, events)
        commands = decide(events)
        closes = any(one.command_type == CLOSES for one in commands)
        before, messages = self.answer_more(task)
        request = ws.RespondWorkflowTaskCompletedRequest(
            namespace=NAMESPACE, task_token=task.task_token, identity=name, commands=before + commands, messages=messages,
            query_results={asked: query.WorkflowQueryResult(result_type=ANSWERED, answer=told) for asked in task.queries})
        if cache is not None:
            cache[run] = events
            request.sticky_attributes.worker_task_queue.CopyFrom(taskqueue.TaskQueue(
                name=home, kind=enums.TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=self.queue))
            request.sticky_attributes.schedule_to_start_timeout.CopyFrom(Duration(seconds=2))
        answer = await self.call("task", "respond_workflow_task_completed", request,
                                 workflow=task.workflow_execution.workflow_id, of_run=run,
                                 started=task.started_event_id, closes=closes)
        if answer is not None and closes:
            self.done.add(task.workflow_execution.workflow_id)
        if closes and cache is not None:
            cache.pop(run, None)
