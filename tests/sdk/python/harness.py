# SPDX-License-Identifier: MIT
"""What every case leans on: the client, the shared worker, the list of runs that were made (for
the replay at the end), and the printing of results."""

import asyncio
import contextlib
import time
import traceback
import uuid

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, Interceptor, OutboundInterceptor, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

CASE_LIMIT_S = 100
AT_ONCE = 24


class Tracker(Interceptor, OutboundInterceptor):
    """Notes every workflow that a case starts."""

    def __init__(self):
        self.started = set()

    def intercept_client(self, next):
        return _Tracked(next, self.started)


class _Tracked(OutboundInterceptor):
    def __init__(self, next, started):
        super().__init__(next)
        self._started = started

    async def start_workflow(self, input):
        handle = await super().start_workflow(input)
        self._started.add((handle.id, handle.result_run_id or handle.first_execution_run_id or ""))
        return handle


class Env:
    def __init__(self, address, namespace):
        self.address, self.namespace = address, namespace
        self.word = "py" + uuid.uuid4().hex[:8]
        self.queue = self.word + "-queue"
        self.tracker = Tracker()
        self.client: Client = None
        self.replay_classes = {}
        self.not_replayed = set()

    async def connect(self):
        self.client = await Client.connect(self.address, namespace=self.namespace,
                                           interceptors=[self.tracker])

    def id(self, name):
        return f"{self.word}-{name}-{uuid.uuid4().hex[:6]}"

    async def start(self, workflow, *args, **kw) -> WorkflowHandle:
        kw.setdefault("id", self.id(getattr(workflow, "__qualname__", str(workflow)).split(".")[0]))
        kw.setdefault("task_queue", self.queue)
        return await self.client.start_workflow(workflow, args=args, **kw)

    def forget(self, handle):
        """A run that is about to be deleted has no history to be replayed."""
        self.tracker.started -= {run for run in self.tracker.started if run[0] == handle.id}

    async def run(self, workflow, *args, **kw):
        return await (await self.start(workflow, *args, **kw)).result()

    @contextlib.asynccontextmanager
    async def worker(self, workflows=(), activities=(), queue=None, **kw):
        queue = queue or self.id("queue")
        worker = Worker(self.client, task_queue=queue, workflows=list(workflows),
                        activities=list(activities), workflow_runner=UnsandboxedWorkflowRunner(),
                        **kw)
        async with worker:
            yield queue

    async def events(self, handle):
        return [e async for e in handle.fetch_history_events()]

    async def kinds(self, handle):
        return [EventType.Name(e.event_type)[len("EVENT_TYPE_"):] for e in await self.events(handle)]

    async def until(self, test, what, seconds=30.0, pause=0.05):
        """Waits until the (async) test holds; eventually consistent things are asked this way."""
        end = time.monotonic() + seconds
        while True:
            found = await test()
            if found:
                return found
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds:g} s: {what}")
            await asyncio.sleep(pause)

    async def start_batch(self, request):
        """One job at a time is what a namespace may have, and the cases run side by side."""
        async def taken():
            try:
                return await self.client.workflow_service.start_batch_operation(request)
            except RPCError as error:
                if "Max concurrent batch operations" not in str(error):
                    raise
                return None
        return await self.until(taken, "the batch job to be taken", 60, 0.3)

    async def until_kind(self, handle, kind, count=1):
        async def seen():
            return (await self.kinds(handle)).count(kind) >= count
        await self.until(seen, f"{count} x {kind}")

    async def raises(self, kind, awaitable):
        """Awaits what must raise; answers the exception."""
        try:
            value = await awaitable
        except kind as error:
            return error
        raise AssertionError(f"no {kind.__name__ if isinstance(kind, type) else kind}: {value!r}")


class Score:
    def __init__(self, language):
        self.language, self.passed, self.failed = language, 0, 0

    def say(self, good, name, why=""):
        self.passed += bool(good)
        self.failed += not good
        print(f"ok {name}" if good else f"not ok {name}: {why}", flush=True)

    def close(self):
        print(f"{self.language}: {self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0


def describe_error(error):
    frames = [f for f in traceback.extract_tb(error.__traceback__)
              if "/cases" in f.filename or "/main" in f.filename]
    where = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    cause = f" <- {error.__cause__!r}" if error.__cause__ else ""
    line = frames[-1].line if frames and isinstance(error, AssertionError) else ""
    return f"{type(error).__name__}: {error} {line}{cause}{where}".replace("\n", " ")


async def run_cases(env, cases, score, at_once=AT_ONCE):
    gate = asyncio.Semaphore(at_once)

    async def one(name, function):
        async with gate:
            began = time.monotonic()
            try:
                await asyncio.wait_for(function(env), CASE_LIMIT_S)
            except Exception as error:
                score.say(False, name, f"{describe_error(error)} ({time.monotonic() - began:.1f} s)")
            else:
                score.say(True, name)

    await asyncio.gather(*(one(n, f) for n, f in cases.items()))


async def reachable_runs(env):
    """Every run that was started, and those that followed from it: children and next runs.
    Answers [(workflow id, run id, WorkflowHistory)]."""
    todo, seen, found = list(env.tracker.started), set(), []
    while todo:
        workflow_id, run_id = todo.pop()
        if (workflow_id, run_id) in seen:
            continue
        seen.add((workflow_id, run_id))
        handle = env.client.get_workflow_handle(workflow_id, run_id=run_id or None)
        history = await handle.fetch_history()
        found.append((workflow_id, run_id, history))
        for event in history.events:
            child = event.child_workflow_execution_started_event_attributes
            if child.workflow_execution.run_id:
                todo.append((child.workflow_execution.workflow_id, child.workflow_execution.run_id))
            attributes = getattr(event, event.WhichOneof("attributes") or "", None)
            next_run = getattr(attributes, "new_execution_run_id", "")
            if next_run:
                todo.append((workflow_id, next_run))
    return found


def execution(handle):
    return WorkflowExecution(workflow_id=handle.id, run_id=handle.run_id or "")
