# SPDX-License-Identifier: MIT
"""The history checker: reads the clients' log and every history, and decides whether the server kept its word.

    R1  what was acknowledged is there: runs, signals, updates, cancels, terminations, workflow and activity completions,
        failed attempts, started children
    R2  what happens once is there once: the answer to a task, the end of an activity, of a child, of an update
    R3  a history is 1..n without gap or fork, and its times never go back; what was read before is a prefix
    R4  at most one run of an id is open at a time; an id whose runs have ended can be used again
    R6  one closing event, the last
        (also by the clients' clock, which nobody turns: a start acknowledged before the first try to end another began)
    R7  a timer never fires early, by the clock that its history is written by; none is lost
    R8  an activity limited to one attempt never runs twice
    R9  a signal that was sent again under its request id is there once; acknowledged ones in their order
    R10 a run that a reset has made has every signal that its base run has
    R11 a history replays: what each workflow task was answered with is what the workflow decides from the events before it
    R12 once faults have ended, everything ends
    R13 a query sees every signal that was acknowledged before it was asked
"""

import argparse
import asyncio
import json
import sys
import uuid

import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.workflowservice.v1 as ws
from temporalio.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient

from world import NAMESPACE, decide, unpack

KIND = enums.EventType
CLOSING = {KIND.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, KIND.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
           KIND.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT, KIND.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
           KIND.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, KIND.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW}


def nanos(stamp):
    return stamp.seconds * 10**9 + stamp.nanos


class Judge:
    def __init__(self):
        self.violations = []

    def violated(self, rule, text):
        self.violations.append(f"{rule}: {text}")

    def history(self, run, events):
        """Rules that one history answers alone."""
        ids = [event.event_id for event in events]
        if ids != list(range(1, len(ids) + 1)):
            self.violated("R3", f"{run}: event ids {ids}")
        times = [nanos(event.event_time) for event in events]
        if times != sorted(times):
            self.violated("R3", f"{run}: event times go back")
        closing = [event.event_id for event in events if event.event_type in CLOSING]
        if len(closing) > 1 or (closing and closing[0] != ids[-1]):
            self.violated("R6", f"{run}: closing events {closing} of {len(ids)}")
        started = {}
        for event in events:
            if event.event_type == KIND.EVENT_TYPE_TIMER_STARTED:
                attributes = event.timer_started_event_attributes
                started[event.event_id] = nanos(event.event_time) + (
                    attributes.start_to_fire_timeout.seconds * 10**9 + attributes.start_to_fire_timeout.nanos)
            elif event.event_type == KIND.EVENT_TYPE_TIMER_FIRED:
                due = started.pop(event.timer_fired_event_attributes.started_event_id, None)
                if due is None:
                    self.violated("R7", f"{run}: timer fired without or after its start")
                elif nanos(event.event_time) < due:
                    self.violated("R7", f"{run}: timer fired {due - nanos(event.event_time)} ns early")
            elif event.event_type == KIND.EVENT_TYPE_TIMER_CANCELED:
                started.pop(event.timer_canceled_event_attributes.started_event_id, None)
        if started and events[-1].event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            self.violated("R7", f"{run}: timers {sorted(started)} never fired")
        self.once(run, events)
        requests = [event.workflow_execution_signaled_event_attributes.request_id for event in events
                    if event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED]
        requests = [request for request in requests if request]
        if len(requests) != len(set(requests)):
            self.violated("R9", f"{run}: a signal is there twice")

    def once(self, run, events):
        seen = set()
        for event in events:
            what = once_name(event)
            if what and what in seen:
                self.violated("R2", f"{run}: {what} is there twice")
            seen.add(what)

    def replay(self, run, events):
        for event in events:
            if event.event_type != KIND.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                continue
            seen = event.workflow_task_completed_event_attributes.started_event_id
            decided = [command_name(command) for command in decide(events[:seen])]
            followed = [name for name in (effect_name(other, event.event_id) for other in events) if name]
            if decided != followed:
                self.violated("R11", f"{run}: task {seen} decided {decided}, the history has {followed}")

    def signals(self, workflow, acknowledged, histories):
        seen = set()
        for events in histories:
            numbers = signal_numbers(events)
            seen |= set(numbers)
            kept = [number for number in numbers if number in acknowledged]
            if kept != sorted(kept):
                self.violated("R9", f"{workflow}: signals out of order {kept}")
        lost = set(acknowledged) - seen
        if lost:
            self.violated("R1", f"{workflow}: acknowledged signals {sorted(lost)} are not in the history")

    def resets(self, run, events, histories):
        base = reset_of(run, events)[0]
        if base in histories and set(signal_numbers(histories[base])) - set(signal_numbers(events)):
            self.violated("R10", f"{run}: {signal_numbers(events)} of its base run's {signal_numbers(histories[base])}")

    def completions(self, entries, histories):
        for entry in entries:
            if entry["outcome"] != "ok" or entry["what"] not in ("task", "activity"):
                continue
            events = histories.get(entry["of_run"])
            if events is None:
                self.violated("R1", f"{entry['of_run']}: a task of it was acknowledged, the run is not there")
            elif entry["what"] == "task":
                if not any(event.event_type == KIND.EVENT_TYPE_WORKFLOW_TASK_COMPLETED and
                           event.workflow_task_completed_event_attributes.started_event_id == entry["started"]
                           for event in events):
                    self.violated("R1", f"{entry['of_run']}: completion of task {entry['started']} was acknowledged")
            elif entry["what"] == "activity" and not activity_completed(events, entry["activity"]):
                self.violated("R1", f"{entry['of_run']}: completion of activity {entry['activity']} was acknowledged")

    def others(self, entries, by_workflow):
        """Updates, cancels, terminations: by_workflow has the histories of each workflow id, by run id."""
        ends = {}
        for entry in entries:
            if entry["what"] == "task" and entry.get("closes") and entry["outcome"] != "no":
                ends[entry["of_run"]] = min(ends.get(entry["of_run"], entry["asked"]), entry["asked"])
        for entry in entries:
            if entry["outcome"] != "ok" or entry["what"] not in ("update", "cancel", "terminate"):
                continue
            histories = by_workflow.get(entry["workflow"], {})
            if entry["what"] == "cancel" and may_have_ended(entry, histories, ends):
                continue  # to cancel what has ended is acknowledged and does nothing
            if not any(told_in(entry, event) for events in histories.values() for event in events):
                self.violated("R1", f"{entry['workflow']}: {entry['what']} {entry.get('update', '')} was acknowledged")

    def failed_attempts(self, entries, histories):
        for entry in entries:
            if entry["outcome"] != "ok" or entry["what"] != "failure":
                continue
            attempts = [attempt for name, attempt in attempts_of(histories.get(entry["of_run"], []))
                        if name == entry["activity"]]
            if attempts and attempts[-1] <= entry["attempt"]:
                self.violated("R1", f"{entry['of_run']}: attempt {entry['attempt']} of {entry['activity']} was said to have failed")

    def queries(self, entries):
        acknowledged = {}
        for entry in entries:
            if entry["what"] == "signal" and entry["outcome"] == "ok":
                acknowledged.setdefault(entry["workflow"], []).append(entry)
        for entry in entries:
            if entry["what"] != "query":
                continue
            least = len({signal["number"] for signal in acknowledged.get(entry["workflow"], [])
                         if signal["answered"] < entry["asked"]})
            if entry["seen"] < least:
                self.violated("R13", f"{entry['workflow']}: a query saw {entry['seen']} signals of {least}")

    def children(self, run, events, histories):
        for event in events:
            if event.event_type != KIND.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
                continue
            child = event.child_workflow_execution_completed_event_attributes.workflow_execution
            its = histories.get(child.run_id)
            if not its or its[-1].event_type != KIND.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
                self.violated("R1", f"{run}: its child {child.workflow_id}/{child.run_id} has not completed")

    def told_overlaps(self, entries):
        """R4 by the clients' clock: a run is open from the first answer that names it until someone first tries to end it."""
        opened, ends, asked = {}, {}, []
        for entry in entries:
            workflow = entry["workflow"]
            if entry["what"] == "start" and entry["outcome"] == "ok":
                asked.append((entry["asked"], entry["answered"], workflow, entry["run"]))
                key = workflow, entry["run"]
                opened[key] = min(opened.get(key, entry["answered"]), entry["answered"])
            ending = (entry["of_run"] if entry["what"] == "task" and entry.get("closes") else
                      "" if entry["what"] in ("reset", "terminate") else None)
            if ending is not None and entry["outcome"] != "no":
                ends[workflow, ending] = min(ends.get((workflow, ending), entry["asked"]), entry["asked"])
        left, last = sorted((when, key) for key, when in opened.items()), {}
        left.reverse()
        for begun, answered, workflow, run in sorted(asked):
            while left and left[-1][0] <= begun:
                key = left.pop()[1]
                end = min(ends.get(key, float("inf")), ends.get((key[0], ""), float("inf")))
                last[key[0]] = max(last.get(key[0], (0, "")), (end, key[1]))
            end, other = last.get(workflow, (0, ""))
            if other != run and answered < end:
                self.violated("R4", f"{workflow}: {run} was acknowledged as started while {other} was open")

    def one_open_run(self, runs, slack_ns=0):
        """runs: (workflow id, first time, closing time or None, run id).  With clocks that were wrong by up to slack_ns two
        runs that follow each other closely may seem to overlap, or be in the wrong order; never may two be open still."""
        by_workflow = {}
        for workflow, begin, end, run in runs:
            by_workflow.setdefault(workflow, []).append((begin, end, run))
        for workflow, spans in by_workflow.items():
            spans.sort()
            if sum(end is None for _, end, _ in spans) > 1:
                self.violated("R4", f"{workflow}: more than one run is open")
            for (_, end, run), (begin, _, other) in zip(spans, spans[1:]):
                if (end is None and not slack_ns) or (end is not None and begin + slack_ns < end):
                    self.violated("R4", f"{workflow}: runs {run} and {other} were open at the same time")


def command_name(command):
    start, schedule = command.start_timer_command_attributes, command.schedule_activity_task_command_attributes
    child = command.start_child_workflow_execution_command_attributes.workflow_id
    return ("timer " + start.timer_id if start.timer_id else "child " + child if child else
            "activity " + schedule.activity_id if schedule.activity_id else "end")


def effect_name(event, task):
    """What a command of that workflow task has left in the history."""
    timer, activity = event.timer_started_event_attributes, event.activity_task_scheduled_event_attributes
    if event.event_type == KIND.EVENT_TYPE_TIMER_STARTED and timer.workflow_task_completed_event_id == task:
        return "timer " + timer.timer_id
    if event.event_type == KIND.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED and activity.workflow_task_completed_event_id == task:
        return "activity " + activity.activity_id
    child = event.start_child_workflow_execution_initiated_event_attributes
    if child.workflow_id and child.workflow_task_completed_event_id == task:
        return "child " + child.workflow_id
    end = event.workflow_execution_completed_event_attributes.workflow_task_completed_event_id
    return "end" if event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED and end == task else None


def once_name(event):
    """What there may be one of in a history."""
    kind = event.event_type
    if kind == KIND.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
        return f"the answer to task {event.workflow_task_completed_event_attributes.started_event_id}"
    if kind == KIND.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
        return f"the end of activity {event.activity_task_completed_event_attributes.scheduled_event_id}"
    if kind == KIND.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
        return f"the start of child {event.child_workflow_execution_started_event_attributes.initiated_event_id}"
    if kind == KIND.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
        return f"the end of child {event.child_workflow_execution_completed_event_attributes.initiated_event_id}"
    if kind == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
        return f"the end of update {event.workflow_execution_update_completed_event_attributes.meta.update_id}"
    return "the request to cancel" if kind == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED else None


def told_in(entry, event):
    """Whether this event is what the call should have left."""
    if entry["what"] == "update":
        return event.workflow_execution_update_completed_event_attributes.meta.update_id == entry["update"]
    return event.event_type == (KIND.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED if entry["what"] == "cancel" else
                                KIND.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED)


def may_have_ended(entry, histories, ends):
    """Whether the run that no reset has ended may have been over when a call was answered: ends has, by run id, when a
    worker first tried to end it, by the clock of the calls."""
    bases = {reset_of(run, events)[0] for run, events in histories.items()}
    last = [run for run in histories if run not in bases]
    return bool(last) and all(ends.get(run, float("inf")) < entry["answered"] for run in last)


def attempts_of(events):
    """The names of activities and the attempts that their starts tell of."""
    names = {event.event_id: event.activity_task_scheduled_event_attributes.activity_id for event in events
             if event.event_type == KIND.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED}
    return [(names.get(event.activity_task_started_event_attributes.scheduled_event_id),
             event.activity_task_started_event_attributes.attempt) for event in events
            if event.event_type == KIND.EVENT_TYPE_ACTIVITY_TASK_STARTED]


def children_of(events):
    """The workflow ids by run id of the children that a history says were started."""
    children = [event.child_workflow_execution_started_event_attributes.workflow_execution for event in events
                if event.event_type == KIND.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED]
    return {child.run_id: child.workflow_id for child in children}


def signal_numbers(events):
    return [unpack(event.workflow_execution_signaled_event_attributes.input) for event in events
            if event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED]


def reset_of(run, events):
    """Of which run the reset was that has made this one, and when; the first event's time for one that none has made."""
    for event in events:
        if event.event_type == KIND.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            attributes = event.workflow_task_failed_event_attributes
            if attributes.new_run_id == run:
                return attributes.base_run_id, nanos(event.event_time)
    return None, nanos(events[0].event_time)


def activity_completed(events, activity_id):
    scheduled = {event.event_id for event in events if event.event_type == KIND.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED and
                 event.activity_task_scheduled_event_attributes.activity_id == activity_id}
    return any(event.event_type == KIND.EVENT_TYPE_ACTIVITY_TASK_COMPLETED and
               event.activity_task_completed_event_attributes.scheduled_event_id in scheduled for event in events)


async def read_history(service, workflow, run):
    events, token = [], b""
    while True:
        page = await service.get_workflow_execution_history(ws.GetWorkflowExecutionHistoryRequest(
            namespace=NAMESPACE, execution=common.WorkflowExecution(workflow_id=workflow, run_id=run),
            next_page_token=token), retry=True)
        events += page.history.events
        token = page.next_page_token
        if not token:
            return events


async def read_all(verdict, service, runs):
    """The histories by run id, those of the children that they tell of, too; adds these to runs."""
    histories, left = {}, list(runs.items())

    async def read_some():
        while left:
            run, workflow = left.pop()
            try:
                histories[run] = await read_history(service, workflow, run)
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise
                verdict.violated("R1", f"{workflow}/{run} was acknowledged and is not there")
                continue
            new = {child: name for child, name in children_of(histories[run]).items() if child not in runs}
            runs.update(new)
            left.extend(new.items())
    await asyncio.gather(*[read_some() for _ in range(16)])
    return histories


async def ids_are_free(verdict, service, workflows):
    """What has ended gives its id free: the row that names the current run of an id must know of the end."""
    for workflow in workflows:
        execution = common.WorkflowExecution(workflow_id=workflow)
        try:
            await service.start_workflow_execution(ws.StartWorkflowExecutionRequest(
                namespace=NAMESPACE, workflow_id=workflow, workflow_type=common.WorkflowType(name="after"),
                task_queue=taskqueue.TaskQueue(name="nobody"), request_id=str(uuid.uuid4())), retry=True)
            await service.terminate_workflow_execution(ws.TerminateWorkflowExecutionRequest(
                namespace=NAMESPACE, workflow_execution=execution), retry=True)
        except RPCError as error:
            verdict.violated("R4", f"{workflow} has ended and cannot be started again: {error.message}")


def known_runs(entries):
    """Of whom the log says that they must be there: the workflow ids by run id."""
    runs = {}
    for entry in entries:
        if entry["what"] in ("start", "reset") and entry["outcome"] == "ok":
            runs[entry["run"]] = entry["workflow"]
        if entry["what"] in ("task", "activity") and entry["outcome"] == "ok":
            runs.setdefault(entry["of_run"], entry["workflow"])
    return runs


async def judge(address, log_path, effects_path, must_end=True, clock_slack_ns=0, more=None):
    """more(verdict, run, events): further rules for each history, and more.all_read(verdict) for all; clock_slack_ns: by how much the servers' clocks were made
    to differ, so that their times cannot be compared closer."""
    service = (await ServiceClient.connect(ConnectConfig(target_host=address))).workflow_service
    verdict = Judge()
    with open(log_path) as lines:
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
    runs, started = known_runs(entries), {}
    histories = await read_all(verdict, service, runs)
    spans = []
    for run, events in histories.items():
        verdict.history(f"{runs[run]}/{run}", events)
        verdict.replay(f"{runs[run]}/{run}", events)
        if more:
            more(verdict, f"{runs[run]}/{run}", events)
        closed = events[-1].event_type in CLOSING
        verdict.resets(run, events, histories)
        verdict.children(f"{runs[run]}/{run}", events, histories)
        spans.append((runs[run], reset_of(run, events)[1], nanos(events[-1].event_time) if closed else None, run))
        started.setdefault(runs[run], []).append(run)
        if must_end and not closed and waits_for_nothing(events):
            verdict.violated("R12", f"{runs[run]}/{run} did not end: {len(events)} events")
    if more:
        more.all_read(verdict)
    verdict.one_open_run(spans, clock_slack_ns)
    acknowledged = {}
    for entry in entries:
        if entry["what"] == "signal" and entry["outcome"] == "ok":
            acknowledged.setdefault(entry["workflow"], []).append(entry["number"])
    for workflow, numbers in acknowledged.items():
        verdict.signals(workflow, numbers, [histories[run] for run in started.get(workflow, [])])
    verdict.completions(entries, histories)
    verdict.failed_attempts(entries, histories)
    verdict.others(entries, {workflow: {run: histories[run] for run in its} for workflow, its in started.items()})
    verdict.told_overlaps(entries)
    verdict.queries(entries)
    side_effects(verdict, effects_path)
    ended = [workflow for workflow, its in started.items()
             if all(histories[run][-1].event_type in CLOSING for run in its)]
    await ids_are_free(verdict, service, ended[-200:] if must_end else [])
    oks = sum(entry["outcome"] == "ok" for entry in entries)
    return verdict, len(histories), oks


def waits_for_nothing(events):
    plan = unpack(events[0].workflow_execution_started_event_attributes.input)
    signals = sum(event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED for event in events)
    return signals >= plan["signals"]


def side_effects(verdict, path):
    seen = set()
    try:
        with open(path) as lines:
            for line in lines:
                key = json.loads(line)["ran"]
                if key in seen:
                    verdict.violated("R8", f"{key}: an activity of one attempt ran twice")
                seen.add(key)
    except FileNotFoundError:
        pass


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--effects", required=True)
    arguments = parser.parse_args()
    verdict, runs, oks = await judge(arguments.address, arguments.log, arguments.effects)
    for violation in verdict.violations[:20]:
        print(violation)
    print(f"{runs} runs, {oks} acknowledged calls, {len(verdict.violations)} violations")
    sys.exit(bool(verdict.violations))


if __name__ == "__main__":
    asyncio.run(main())
