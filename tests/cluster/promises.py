# SPDX-License-Identifier: MIT
"""What an SDK's load is promised, beside what the judge of tests/crash asks of each history:

    P1  an acknowledged start's run is there, an acknowledged result is what the run ended with
    P2  a signal is there once for each acknowledged try, and at most once for each that may have come through
    P3  an acknowledged update was accepted and completed once, with the answer that was given; one that the validator refused is nowhere
    P4  an acknowledged cancel is there once; a query sees each signal that was acknowledged before it was asked
    P5  an activity, a child and a timer end once, whichever way
    P6  no time-out is early: of activities, workflow tasks, runs
    P7  a child ends in its parent's history as in its own, and is its parent's alone; a run that is continued is so by one that names it
    P8  the lists know each run that histories tell of, and no other; of an id at most one is open at a time
    P9  once faults have ended nothing waits for long (tails.py)

Early is what is so by the clock that a history is written with.  The judge has the calls (what, workflow, outcome: ok, no or unknown,
asked, answered) and all histories: promises_test.py damages both."""

import asyncio
import collections
import json
import time

import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.workflowservice.v1 as ws
from temporalio.service import RPCError, RPCStatusCode

import fleet  # noqa: F401  it tells where tests/crash is
from judge import CLOSING, KIND, NAMESPACE, Judge, children_of, nanos, read_history
from tails import Tails

LATE = enums.TimeoutType
ACTIVITY_ENDS = {"completed", "failed", "timed_out", "canceled"}
CHILD_ENDS = {**{end: getattr(KIND, f"EVENT_TYPE_WORKFLOW_EXECUTION_{end.upper()}") for end in ACTIVITY_ENDS},
              "terminated": KIND.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED}
CONTINUED = KIND.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
STICKY_NS = 2 * 10**9  # what each load of the chaos sets
COMPLETED = KIND.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED


class Patience:
    """A limit for a machine of any speed: it is over once nothing at all has come through for so long (or, lest it never be over,
    after twenty times that)."""

    def __init__(self, seconds):
        self.seconds, self.begun, self.last = seconds, time.monotonic(), time.monotonic()

    def progress(self):
        self.last = time.monotonic()

    def over(self):
        now = time.monotonic()
        return now - self.last > self.seconds or now - self.begun > 20 * self.seconds


def value_of(payloads):
    return json.loads(payloads.payloads[0].data) if payloads.payloads else None


def length_ns(duration):
    return duration.seconds * 10**9 + duration.nanos


def attributes_of(event):
    return getattr(event, event.WhichOneof("attributes"))


def ended_of(event):
    """("activity", its scheduled event, how) of an event that ends one; the same of children."""
    name = event.WhichOneof("attributes") or ""
    for prefix, what, key in (("activity_task_", "activity", "scheduled_event_id"),
                              ("child_workflow_execution_", "child", "initiated_event_id")):
        how = name[len(prefix):-len("_event_attributes")] if name.startswith(prefix) else ""
        if how in (ACTIVITY_ENDS if what == "activity" else CHILD_ENDS):
            return what, getattr(attributes_of(event), key), how
    return None


def early(book, run, events, slack_ns=0):
    """P6, told to book; slack_ns: by how much servers' clocks differ."""
    at = {event.event_id: event for event in events}

    def check(event, since, limit, what):
        short = nanos(since.event_time) + limit - nanos(event.event_time)
        if limit and short > 0:
            book.violated("P6", f"{run}: the {what} of event {event.event_id} came {short} ns early")
    for event in events:
        name = event.WhichOneof("attributes") or ""
        if name == "activity_task_timed_out_event_attributes":
            its = attributes_of(event)
            scheduled, started = at[its.scheduled_event_id], at.get(its.started_event_id)
            # The start is written with the end: after what came meanwhile its time is that of the event before it, and
            # what is known of the true one is that it was not before the activity, but for a clock that was turned back.
            late = bool(started) and started.event_time == at[started.event_id - 1].event_time
            early_activity(check, event, scheduled, scheduled if late else started, slack_ns * late)
        elif name == "workflow_task_timed_out_event_attributes":
            its = attributes_of(event)
            scheduled = at[its.scheduled_event_id]
            if its.timeout_type == LATE.TIMEOUT_TYPE_SCHEDULE_TO_START:
                check(event, scheduled, STICKY_NS, "sticky queue's time-out")
            else:
                check(event, at[its.started_event_id],
                      length_ns(scheduled.workflow_task_scheduled_event_attributes.start_to_close_timeout), "workflow task's time-out")
        elif name == "workflow_execution_timed_out_event_attributes":
            its = events[0].workflow_execution_started_event_attributes
            check(event, events[0], length_ns(its.workflow_run_timeout), "run's time-out")


def early_activity(check, event, scheduled, started, slack_ns):
    """By the kind of time-out that the event tells; one that has no time left for another attempt may come before all of it is over."""
    limits, its = scheduled.activity_task_scheduled_event_attributes, attributes_of(event)
    kind = its.failure.timeout_failure_info.timeout_type
    if kind == LATE.TIMEOUT_TYPE_START_TO_CLOSE and started:
        check(event, started, length_ns(limits.start_to_close_timeout) - slack_ns, "start-to-close time-out")
    elif kind == LATE.TIMEOUT_TYPE_HEARTBEAT and started:
        check(event, started, length_ns(limits.heartbeat_timeout) - slack_ns, "heartbeat's time-out")
    elif kind == LATE.TIMEOUT_TYPE_SCHEDULE_TO_START:
        check(event, scheduled, length_ns(limits.schedule_to_start_timeout), "schedule-to-start time-out")
    elif kind == LATE.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE and its.retry_state != enums.RetryState.RETRY_STATE_TIMEOUT:
        check(event, scheduled, length_ns(limits.schedule_to_close_timeout), "schedule-to-close time-out")


class Promises(Judge):
    """histories: the events by run id; workflows: the workflow ids by run id; slack_ns: by how much servers' clocks differ;
    since_ns: when the last fault had ended."""

    def __init__(self, slack_ns, since_ns):
        super().__init__()
        self.histories, self.workflows, self.slack_ns = {}, {}, slack_ns
        self.tails = Tails(since_ns)

    def add(self, workflow, run, events):
        self.histories[run], self.workflows[run] = events, workflow
        name = f"{workflow}/{run}"
        self.history(name, events)
        self.ends(name, events)
        early(self, name, events, self.slack_ns)
        self.tails.add(name, run, events)
        if events[-1].event_type not in CLOSING:
            self.violated("R12", f"{name} did not end")

    def ends(self, run, events):
        begun, ended = {"activity": set(), "child": set()}, set()
        accepted = set()
        for event in events:
            if event.event_type == KIND.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                begun["activity"].add(event.event_id)
            elif event.event_type == KIND.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                begun["child"].add(event.event_id)
            elif event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
                name = event.workflow_execution_update_accepted_event_attributes.accepted_request.meta.update_id
                if name in accepted:
                    self.violated("P3", f"{run}: update {name} was accepted twice")
                accepted.add(name)
            elif end := ended_of(event):
                if end[:2] in ended:
                    self.violated("P5", f"{run}: {end[0]} {end[1]} ended twice")
                if end[1] not in begun[end[0]]:
                    self.violated("P5", f"{run}: {end[0]} {end[1]} ended, and was never begun")
                ended.add(end[:2])
        if events[-1].event_type == COMPLETED:
            left = [number for number in begun["child"] if ("child", number) not in ended]
            if left:
                self.violated("P5", f"{run}: it has waited for the children {left}, which never ended")

    # ---- calls ----

    def runs_of(self, workflow):
        return [self.histories[run] for run, its in self.workflows.items() if its == workflow]

    def calls(self, entries):
        by_workflow, runs = collections.defaultdict(list), collections.defaultdict(list)
        for entry in entries:
            by_workflow[entry["workflow"]].append(entry)
        for run, workflow in self.workflows.items():
            runs[workflow] += self.histories[run]
        for workflow, its in by_workflow.items():
            events = runs.get(workflow, [])
            self.started(workflow, its, events)
            self.signalled(workflow, its, events)
            self.updated(workflow, its, events)
            self.cancelled(workflow, its, events)
            self.violations += [f"P1: {workflow}: {entry['text']}" for entry in its if entry["what"] == "wrong"]

    def started(self, workflow, entries, events):
        for entry in entries:
            if entry["what"] == "start" and entry["outcome"] == "ok" and self.workflows.get(entry["run"]) != workflow:
                self.violated("P1", f"{workflow}: the run {entry['run']} was acknowledged and is not there")
            if entry["what"] == "result" and entry["outcome"] == "ok":
                ends = [value_of(event.workflow_execution_completed_event_attributes.result) for event in events
                        if event.event_type == COMPLETED]
                if ends != [entry["value"]] or entry["value"] != entry["wanted"]:
                    self.violated("P1", f"{workflow}: the result was said to be {entry['value']}, the histories end with {ends}, the plan with {entry['wanted']}")

    def signalled(self, workflow, entries, events):
        there = collections.Counter(value_of(event.workflow_execution_signaled_event_attributes.input) for event in events
                                    if event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
        sure, may, answered = collections.Counter(), collections.Counter(), {}
        for entry in entries:
            if entry["what"] == "signal":
                sure[entry["number"]] += entry["outcome"] == "ok"
                may[entry["number"]] += entry["outcome"] != "no"
                if entry["outcome"] == "ok":
                    answered.setdefault(entry["number"], entry["answered"])
        for number in may | there:
            if not sure[number] <= there[number] <= may[number]:
                self.violated("P2", f"{workflow}: signal {number} is there {there[number]} times, of {sure[number]} acknowledged tries and {may[number]} in all")
        for entry in entries:
            if entry["what"] == "query" and entry["outcome"] == "ok":
                least = sum(when < entry["asked"] for when in answered.values())
                if entry["seen"] < least:
                    self.violated("P4", f"{workflow}: a query saw {entry['seen']} signals of {least}")

    def updated(self, workflow, entries, events):
        done = collections.defaultdict(list)
        for event in events:
            its = event.workflow_execution_update_completed_event_attributes
            if event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
                done[its.meta.update_id].append(value_of(its.outcome.success))
        accepted = {event.workflow_execution_update_accepted_event_attributes.accepted_request.meta.update_id for event in events
                    if event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED}
        for entry in entries:
            if entry["what"] == "update" and entry["outcome"] == "ok" and (
                    done[entry["update"]] != [entry["value"]] or entry["update"] not in accepted):
                self.violated("P3", f"{workflow}: update {entry['update']} was answered with {entry['value']}, the histories have {done[entry['update']]}")
            if entry["what"] == "update" and entry["outcome"] == "no" and entry["update"] in accepted:
                self.violated("P3", f"{workflow}: update {entry['update']} was refused, and is there")

    def cancelled(self, workflow, entries, events):
        asked = [entry for entry in entries if entry["what"] == "cancel" and entry["outcome"] != "no"]
        there = sum(event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED for event in events)
        if any(entry["outcome"] == "ok" for entry in asked) and there != 1 or (there and not asked):
            self.violated("P4", f"{workflow}: {there} requests to cancel are there, of {len(asked)} tries")

    # ---- all together ----

    def families(self):
        parents = collections.Counter()
        for run, events in self.histories.items():
            name = f"{self.workflows[run]}/{run}"
            last = events[-1]
            if last.event_type == CONTINUED:
                then = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
                begun = self.histories.get(then, [None])[0]
                if not begun or begun.workflow_execution_started_event_attributes.continued_execution_run_id != run:
                    self.violated("P7", f"{name} is continued as {then}, which knows nothing of it")
            parents.update(children_of(events).keys())
            for event in events:
                end = ended_of(event)
                if end and end[0] == "child":
                    child = attributes_of(event).workflow_execution.run_id
                    its = self.histories.get(child)
                    if not its or its[-1].event_type != CHILD_ENDS[end[2]]:
                        self.violated("P7", f"{name}: its child {child} has {end[2]}, by its own history it has not")
        self.violations += [f"P7: {self.workflows.get(child)}/{child} is the child of {count} runs" for child, count in parents.items() if count > 1]

    def one_at_a_time(self, listed):
        """listed: (workflow id, run) of all there are."""
        for workflow, run in listed:
            if run not in self.histories:
                self.violated("P8", f"{workflow}/{run} is there, and nobody knows why")
        names = {run for _, run in listed}
        if len(names) != len(listed):
            self.violated("P8", f"{len(listed) - len(names)} runs are listed twice")
        for run in self.histories.keys() - names:
            self.violated("P8", f"{self.workflows[run]}/{run} is not listed")
        self.one_open_run([(self.workflows[run], nanos(events[0].event_time),
                            nanos(events[-1].event_time) if events[-1].event_type in CLOSING else None, run)
                           for run, events in self.histories.items()], self.slack_ns)


# ---- reading ----


class Reader:
    """Reads for as long as anything comes through."""

    def __init__(self, service, seconds=300):
        self.service, self.patience = service, Patience(seconds)

    async def ask(self, make):
        while True:
            try:
                answer = await make()
                self.patience.progress()
                return answer
            except (RPCError, RuntimeError) as error:
                if getattr(error, "status", None) == RPCStatusCode.NOT_FOUND or self.patience.over():
                    raise
            await asyncio.sleep(0.1)

    async def all(self, roots, promises):
        """Of all runs, children and those that continue others, too, to promises; roots: (workflow id, run)."""
        left, known = list(roots), {run for _, run in roots}

        async def some():
            while left:
                workflow, run = left.pop()
                try:
                    events = await self.ask(lambda: read_history(self.service, workflow, run))
                except RPCError as error:
                    promises.violated("P1", f"{workflow}/{run} cannot be read: {error.message}")
                    continue
                promises.add(workflow, run, events)
                next_run = events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
                new = {(name, child) for child, name in children_of(events).items()} | ({(workflow, next_run)} if next_run else set())
                left.extend(one for one in new if one[1] not in known)
                known.update(child for _, child in new)
        while left:
            await asyncio.gather(*[some() for _ in range(4)])

    async def listed(self, queue, known):
        """(workflow id, run) of all that the lists know of this queue; they follow a little later: until all known are there, or
        no more come."""
        patience, most = Patience(120), 0
        while True:
            found, token = [], b""
            while True:
                page = await self.ask(lambda: self.service.list_workflow_executions(ws.ListWorkflowExecutionsRequest(
                    namespace=NAMESPACE, query=f"TaskQueue = '{queue}'", page_size=1000, next_page_token=token)))
                found += [(one.execution.workflow_id, one.execution.run_id) for one in page.executions]
                token = page.next_page_token
                if not token:
                    break
            if len(found) > most:
                most = len(found)
                patience.progress()
            if {run for _, run in found} >= known or patience.over():
                return found
            await asyncio.sleep(0.5)
