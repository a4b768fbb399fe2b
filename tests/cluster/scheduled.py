# SPDX-License-Identifier: MIT
"""Schedules under faults: made, triggered, changed, paused, gone on with, deleted; then each moment's action must be there once.

A life is one schedule from its creation to its end.  What a call changes takes effect at some time between its first try and its
answer, by a server's clock that may be wrong by so much (`pad`); moments that lie that near to a change may be acted on or not, all others
are firm.  Workers of its own queue note when they first saw a run and when they first tried to end it, by a clock that nobody turns."""

import asyncio
import json
import time
import uuid
from datetime import timedelta

import temporalio.api.command.v1 as command
import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.schedule.v1 as schedule
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.workflow.v1 as workflow
import temporalio.api.workflowservice.v1 as ws
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient

import fleet  # noqa: F401  it tells where tests/crash is
from judge import CLOSING, KIND, Judge, read_history
from promises import Patience
from world import NAMESPACE

POLICIES = {"allow": 6, "buffer": 3, "skip": 1}
QUEUE = "scheduled"
PATIENCE = 240  # seconds in which anything must come through: a slow machine is no verdict
TRIGGERED = 1_000_000_000  # triggers are for moments of the past, each its own
STANDING = {"allow": 1, "buffer": 2, "skip": 1}  # the seconds between the moments of schedules that live through all of it


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Life:
    """turns: what changed, in order: (first asked, answered, seconds between moments from then on or 0, settled); settled:
    all moments before that one were looked at and nothing waited when the change was asked for."""

    def __init__(self, name, policy):
        self.name, self.policy, self.turns, self.triggers = name, policy, [], []
        self.ended = None  # the last description, or None of a deleted one

    def spans(self):
        return zip(self.turns, self.turns[1:])

    def firm(self, pad):
        out = set()
        for (_, answered, interval, _), (asked, _, after, settled) in self.spans():
            last = asked - pad
            if not after:
                last = min(last, settled)
            out |= {m for m in range(int(answered + pad) + 1, int(last)) if interval and m % interval == 0}
        return out

    def possible(self, pad):
        return {m for (asked, _, interval, _), (_, answered, _, _) in self.spans()
                for m in range(int(asked - pad), int(answered + pad) + 1) if interval and m % interval == 0}

    def id_of(self, moment):
        return f"{self.name}-{stamp(moment)}"


class Scheduled:
    def __init__(self, address, path, dice, slack_s):
        self.address, self.dice, self.slack = address, dice, slack_s
        self.pad = slack_s + 1
        self.lives, self.wrong, self.calls = [], [], 0
        self.enough, self.stop, self.patience = asyncio.Event(), asyncio.Event(), Patience(PATIENCE)
        self.seen, self.runs, self.ending = {}, {}, {}  # by workflow id: when; its run; when it was first asked to end
        self.log, self.tasks, self.service = open(path, "a", buffering=1), [], None

    def note(self, **facts):
        self.log.write(json.dumps(facts) + "\n")

    # ---- calls ----

    async def call(self, method, request, seconds=5):
        """The answer, or the status that it failed with."""
        try:
            return await getattr(self.service, method)(request, retry=False, timeout=timedelta(seconds=seconds))
        except RPCError as error:
            return error.status
        except RuntimeError:  # the SDK's word for a first connection that is refused
            return RPCStatusCode.UNAVAILABLE

    async def insist(self, method, request, enough=()):
        """The same call until it is acknowledged: its request id stays the same.  (first asked, answered, answer)"""
        asked = time.time()
        while True:
            answer = await self.call(method, request)
            if not isinstance(answer, RPCStatusCode) or answer in enough:
                self.calls += 1
                self.patience.progress()
                self.note(method=method, id=getattr(request, "schedule_id", ""), asked=asked, answered=time.time(),
                          last=str(answer) if isinstance(answer, RPCStatusCode) else "ok")
                return asked, time.time(), answer
            if self.patience.over():
                break
            await asyncio.sleep(0.1)
        self.wrong.append(f"{method} of {getattr(request, 'schedule_id', '')} is never acknowledged: {answer}")
        raise TimeoutError(method)

    @staticmethod
    def content(life, interval):
        return schedule.Schedule(
            spec=schedule.ScheduleSpec(interval=[schedule.IntervalSpec(interval=Duration(seconds=interval))]),
            action=schedule.ScheduleAction(start_workflow=workflow.NewWorkflowExecutionInfo(
                workflow_id=life.name, workflow_type=common.WorkflowType(name="tick"),
                task_queue=taskqueue.TaskQueue(name=QUEUE), workflow_task_timeout=Duration(seconds=2))),
            policies=schedule.SchedulePolicies(overlap_policy=POLICIES[life.policy]))

    async def turn(self, life, method, request, interval, settled=0.0, enough=()):
        asked, answered, _ = await self.insist(method, request, enough)
        life.turns.append((asked, answered, interval, settled))

    async def create(self, life, interval):
        self.lives.append(life)
        await self.turn(life, "create_schedule", ws.CreateScheduleRequest(
            namespace=NAMESPACE, schedule_id=life.name, request_id=str(uuid.uuid4()), schedule=self.content(life, interval)),
            interval)

    async def change(self, life, interval):
        await self.turn(life, "update_schedule", ws.UpdateScheduleRequest(
            namespace=NAMESPACE, schedule_id=life.name, request_id=str(uuid.uuid4()), schedule=self.content(life, interval)),
            interval)

    async def patch(self, life, **what):
        return await self.insist("patch_schedule", ws.PatchScheduleRequest(
            namespace=NAMESPACE, schedule_id=life.name, request_id=str(uuid.uuid4()), patch=schedule.SchedulePatch(**what)))

    async def trigger(self, life):
        at = TRIGGERED + len(life.triggers)
        life.triggers.append(at)
        await self.patch(life, trigger_immediately=schedule.TriggerImmediatelyRequest(scheduled_time=Timestamp(seconds=at)))

    async def describe(self, life):
        return (await self.insist("describe_schedule", ws.DescribeScheduleRequest(
            namespace=NAMESPACE, schedule_id=life.name)))[2]

    async def pause(self, life):
        """Once nothing of it waits to be started: what waits while it is paused is dropped."""
        stuck, taken = Patience(PATIENCE), -1
        while True:
            found = await self.describe(life)
            if not found.info.buffer_size and found.info.future_action_times:
                break
            if found.info.action_count != taken:
                taken = found.info.action_count
                stuck.progress()
            if stuck.over():
                self.wrong.append(f"{life.name}: {found.info.buffer_size} actions wait and are never taken")
                break
            await asyncio.sleep(0.2)
        settled = found.info.future_action_times[0].seconds if found.info.future_action_times else 0
        asked, answered, _ = await self.patch(life, pause="for now")
        life.turns.append((asked, answered, 0, settled))

    async def go_on(self, life, interval):
        asked, answered, _ = await self.patch(life, unpause="again")
        life.turns.append((asked, answered, interval, 0))

    async def delete(self, life):
        """Paused, and once what it must have started was seen."""
        stuck, left = Patience(PATIENCE), -1
        while (missing := self.missing(life)) and not stuck.over():
            if len(missing) != left:
                left = len(missing)
                stuck.progress()
            await asyncio.sleep(0.2)
        await self.turn(life, "delete_schedule", ws.DeleteScheduleRequest(namespace=NAMESPACE, schedule_id=life.name), 0,
                        enough=(RPCStatusCode.NOT_FOUND,))

    def missing(self, life):
        """What it should have started and no worker has seen."""
        if life.policy == "skip":
            return set()
        return {life.id_of(moment) for moment in life.firm(self.pad) | set(life.triggers)} - self.seen.keys()

    # ---- what goes on ----

    async def standing(self, policy):
        """A schedule that lives through all of it, and is triggered."""
        life = Life(f"standing-{policy}", policy)
        await self.create(life, STANDING[policy])
        while not self.enough.is_set():
            await asyncio.sleep(self.dice.uniform(1, 4))
            await self.trigger(life)
        await self.pause(life)

    async def while_calm(self, seconds):
        try:
            await asyncio.wait_for(self.enough.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    async def changing(self, policy, lane):
        """One life after another, each with all that can be done to a schedule."""
        n = 0
        while not self.enough.is_set():
            n += 1
            life = Life(f"life-{policy}-{lane}-{n}", policy)
            interval = self.dice.choice((2, 3))
            await self.create(life, interval)
            for _ in range(self.dice.randrange(2)):
                await self.while_calm(self.dice.uniform(1, 4 * self.pad))
                interval = self.dice.choice((2, 3, 4))
                await self.change(life, interval)
            for _ in range(self.dice.randrange(4)):
                await self.while_calm(self.dice.uniform(0, 2))
                await self.trigger(life)
            await self.while_calm(self.dice.uniform(1, 4 * self.pad))
            await self.pause(life)
            if self.dice.random() < 0.5:
                await self.while_calm(self.dice.uniform(0, 4 * self.pad))
                await self.go_on(life, interval)
                await self.while_calm(self.dice.uniform(1, 4 * self.pad))
                await self.pause(life)
            await self.while_calm(self.dice.uniform(0, 2 * self.pad))
            await self.delete(life)

    async def worker(self, name):
        while not self.stop.is_set():
            task = await self.call("poll_workflow_task_queue", ws.PollWorkflowTaskQueueRequest(
                namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=QUEUE), identity=name), seconds=10)
            if isinstance(task, RPCStatusCode):
                await asyncio.sleep(0.05)
            elif task.task_token:
                await self.answer(task, name)

    async def answer(self, task, name):
        """A timer, then the end: long enough for some to overlap, if they may."""
        workflow_id, run = task.workflow_execution.workflow_id, task.workflow_execution.run_id
        if self.runs.setdefault(workflow_id, run) != run:
            self.wrong.append(f"{workflow_id} was started twice: {self.runs[workflow_id]} and {run}")
        if self.seen.setdefault(workflow_id, time.time()) and workflow_id not in self.ending:
            self.note(seen=workflow_id, run=run, at=time.time())
        kinds = {event.event_type for event in task.history.events}
        if KIND.EVENT_TYPE_TIMER_STARTED not in kinds:
            commands = [command.Command(
                command_type=enums.CommandType.COMMAND_TYPE_START_TIMER,
                start_timer_command_attributes=command.StartTimerCommandAttributes(
                    timer_id="t", start_to_fire_timeout=Duration(nanos=int(self.dice.uniform(0.05, 0.95) * 10**9))))]
        elif KIND.EVENT_TYPE_TIMER_FIRED in kinds:
            self.ending.setdefault(workflow_id, time.time())
            commands = [command.Command(
                command_type=enums.CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
                complete_workflow_execution_command_attributes=command.CompleteWorkflowExecutionCommandAttributes())]
        else:
            commands = []
        await self.call("respond_workflow_task_completed", ws.RespondWorkflowTaskCompletedRequest(
            namespace=NAMESPACE, task_token=task.task_token, identity=name, commands=commands))

    async def begin(self, lanes):
        self.service = (await ServiceClient.connect(ConnectConfig(target_host=self.address, lazy=True))).workflow_service
        self.workers = [asyncio.create_task(self.worker(f"s{i}")) for i in range(4)]
        self.tasks = [asyncio.create_task(self.standing(policy)) for policy in POLICIES]
        self.tasks += [asyncio.create_task(self.changing(policy, lane)) for policy in POLICIES for lane in range(lanes)]

    # ---- the end ----

    async def finish(self):
        """No new lives; those there are end as they do, and what they have started does."""
        self.enough.set()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, TimeoutError):
                raise result
        stuck, before = Patience(PATIENCE), None
        while not stuck.over():
            open_still = self.seen.keys() - self.ending.keys()
            missing = set().union(*[self.missing(life) for life in self.lives])
            now = len(self.seen), len(self.ending)
            if not open_still and not missing and before == now:
                break
            if before != now:
                before = now
                stuck.progress()
            await asyncio.sleep(2)
        for life in self.lives:
            life.ended = await self.at_rest(life) if life.name.startswith("standing-") and life.turns else None
        self.stop.set()
        await asyncio.gather(*self.workers, return_exceptions=True)

    async def at_rest(self, life):
        stuck, taken = Patience(PATIENCE), -1
        while not stuck.over():
            found = await self.describe(life)
            if not found.info.buffer_size and not found.info.running_workflows:
                return found
            if found.info.action_count != taken:
                taken = found.info.action_count
                stuck.progress()
            await asyncio.sleep(0.2)
        self.wrong.append(f"{life.name} does not come to rest")
        return found

    async def listed(self, life):
        """(workflow id, run) of all its runs; lists follow a little later."""
        stuck, most = Patience(120), -1
        while True:
            found, token = [], b""
            while True:
                page = (await self.insist("list_workflow_executions", ws.ListWorkflowExecutionsRequest(
                    namespace=NAMESPACE, query=f"TemporalScheduledById = '{life.name}'", next_page_token=token)))[2]
                found += [(one.execution.workflow_id, one.execution.run_id) for one in page.executions]
                token = page.next_page_token
                if not token:
                    break
            if len(found) > most:
                most = len(found)
                stuck.progress()
            if {name for name, _ in found} >= {name for name in self.seen if of_life(life, name)} or stuck.over():
                break
            await asyncio.sleep(0.5)
        return found

    async def judged(self):
        """(violations, actions, lives)"""
        count = 0
        for life in self.lives:
            if not life.turns:
                continue
            runs = await self.listed(life)
            count += len(runs)
            self.wrong += verdict_of(life, [name for name, _ in runs], self.seen, self.ending, self.pad, self.slack)
            book = Judge()
            for workflow_id, run in runs:
                events = await read_history(self.service, workflow_id, run)
                book.history(f"{workflow_id}/{run}", events)
                if events[-1].event_type not in CLOSING:
                    book.violated("R12", f"{workflow_id}/{run} did not end")
            self.wrong += book.violations
        return self.wrong, count, len(self.lives)


def of_life(life, workflow_id):
    return workflow_id.rsplit("-", 3)[0] == life.name


def verdict_of(life, ids, seen, ending, pad, slack):
    """ids: the workflow ids of all its runs."""
    firm = {life.id_of(moment): moment for moment in life.firm(pad)}
    possible = {life.id_of(moment): moment for moment in life.possible(pad)}
    triggers = {life.id_of(moment) for moment in life.triggers}
    wrong = [f"{name} was started {ids.count(name)} times" for name in set(ids) if ids.count(name) > 1]
    wrong += [f"{name} was started, and nobody asked for it" for name in set(ids) - possible.keys() - triggers]
    wrong += [f"{name} was seen by a worker and is not listed" for name in seen
              if of_life(life, name) and name not in ids]
    wrong += [f"{name} was started {moment - seen[name]:.3f} s early" for name, moment in possible.items()
              if name in seen and seen[name] < moment - slack]
    if life.policy != "skip":
        wrong += [f"{name} was forgotten" for name in firm.keys() - set(ids)]
        wrong += [f"{name} was triggered and never started" for name in triggers - set(ids)]
    if life.ended:
        info, least, most = life.ended.info, len(firm) + len(triggers), len(possible) + len(triggers)
        if not least <= info.action_count + info.overlap_skipped <= most:
            wrong.append(f"{life.name}: {info.action_count} taken and {info.overlap_skipped} skipped of {least} to {most}")
        if info.action_count != len(ids):
            wrong.append(f"{life.name} says that it took {info.action_count} actions; there are {len(ids)}")
    if life.policy != "allow":
        spans = sorted((seen[name], ending.get(name, float("inf")), name) for name in ids if name in seen)
        wrong += [f"{other} ran before {name} ended" for (_, end, name), (begin, _, other) in zip(spans, spans[1:])
                  if begin < end]
    return wrong
