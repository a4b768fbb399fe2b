# SPDX-License-Identifier: MIT
"""The judge judged: a sound history and log pass, and each damage that is done to a copy of them breaks the rule it should."""

import copy
import os
import sys
import tempfile

import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.history.v1 as history
import temporalio.api.update.v1 as update
from google.protobuf.duration_pb2 import Duration

from judge import Judge, side_effects
from world import payloads

KIND = enums.EventType
RUN, WORKFLOW, CHILD, SECOND = "run-1", "c0-1", "run-of-child", 10**9


class Book:
    """A history as it is written: ids and times count up."""

    def __init__(self):
        self.events, self.now = [], 1000 * SECOND

    def add(self, kind, after=SECOND // 100, **attributes):
        self.now += after
        event = history.HistoryEvent(event_id=len(self.events) + 1, event_type=getattr(KIND, "EVENT_TYPE_" + kind),
                                     **{kind.lower() + "_event_attributes": attributes})
        event.event_time.FromNanoseconds(self.now)
        self.events.append(event)
        return event.event_id

    def task(self):
        self.add("WORKFLOW_TASK_SCHEDULED")
        started = self.add("WORKFLOW_TASK_STARTED")
        return self.add("WORKFLOW_TASK_COMPLETED", started_event_id=started)


def sound():
    book = Book()
    book.add("WORKFLOW_EXECUTION_STARTED", input=payloads({"signals": 2, "timer": 0.2, "activities": 1, "once": True, "child": "child"}))
    book.task()
    for number in (1, 2):
        book.add("WORKFLOW_EXECUTION_SIGNALED", input=payloads(number), request_id=f"r{number}")
    timer = book.add("TIMER_STARTED", timer_id="t", start_to_fire_timeout=Duration(nanos=SECOND // 5),
                     workflow_task_completed_event_id=book.task())
    book.add("TIMER_FIRED", after=SECOND // 5, timer_id="t", started_event_id=timer)
    scheduled = book.add("ACTIVITY_TASK_SCHEDULED", activity_id="a0", activity_type=common.ActivityType(name="once"),
                         workflow_task_completed_event_id=book.task())
    book.add("ACTIVITY_TASK_STARTED", scheduled_event_id=scheduled, attempt=2)
    book.add("ACTIVITY_TASK_COMPLETED", scheduled_event_id=scheduled)
    book.add("WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    answer, child = book.task(), common.WorkflowExecution(workflow_id="child", run_id=CHILD)
    book.add("WORKFLOW_EXECUTION_UPDATE_COMPLETED", meta=update.Meta(update_id="u1"))
    initiated = book.add("START_CHILD_WORKFLOW_EXECUTION_INITIATED", workflow_id="child", workflow_task_completed_event_id=answer)
    book.add("CHILD_WORKFLOW_EXECUTION_STARTED", workflow_execution=child, initiated_event_id=initiated)
    book.add("CHILD_WORKFLOW_EXECUTION_COMPLETED", workflow_execution=child, initiated_event_id=initiated)
    book.add("WORKFLOW_EXECUTION_COMPLETED", workflow_task_completed_event_id=book.task())
    return book.events


def child_history(end="COMPLETED"):
    book = Book()
    book.add("WORKFLOW_EXECUTION_STARTED", input=payloads({"signals": 0, "timer": 0, "activities": 0, "once": False}))
    book.add("WORKFLOW_EXECUTION_" + end)
    return book.events


def reset_history():
    book = Book()
    book.add("WORKFLOW_EXECUTION_STARTED", input=payloads({"signals": 0, "timer": 0, "activities": 0, "once": False}))
    book.add("WORKFLOW_TASK_FAILED", base_run_id=RUN, new_run_id="run-2")
    return book.events


def of_kind(events, kind):
    return next(event for event in events if event.event_type == getattr(KIND, "EVENT_TYPE_" + kind))


def verdict_of(events, numbers=(1, 2), entries=(), spans=None, effects=(), children=None, more=None):
    judge, histories = Judge(), {RUN: events}
    judge.history(RUN, events)
    judge.replay(RUN, events)
    judge.signals(WORKFLOW, list(numbers), [events])
    judge.completions(entries, histories)
    judge.failed_attempts(entries, histories)
    judge.others(entries, {WORKFLOW: {RUN: events, **(more or {})}})
    judge.children(RUN, events, children or {CHILD: child_history()})
    judge.told_overlaps(entries)
    judge.queries(entries)
    judge.one_open_run(spans or [(WORKFLOW, 1, 2, RUN), (WORKFLOW, 3, 4, "run-2")])
    with tempfile.NamedTemporaryFile("w", delete=False) as out:
        out.writelines(f'{{"ran": "{key}"}}\n' for key in effects)
    side_effects(judge, out.name)
    os.unlink(out.name)
    return {violation.split(":")[0] for violation in judge.violations}


def renumber(events):
    for number, event in enumerate(events, 1):
        event.event_id = number
    return events


def without(events, kind):
    gone = of_kind(events, kind)
    return [event for event in events if event is not gone]


def uncancelled(events):
    """Something that says nothing in its place: the other events keep their ids."""
    of_kind(events, "WORKFLOW_EXECUTION_CANCEL_REQUESTED").event_type = KIND.EVENT_TYPE_MARKER_RECORDED
    return events


def doubled_signal(events):
    signal = of_kind(events, "WORKFLOW_EXECUTION_SIGNALED")
    return renumber(events + [copy.deepcopy(signal)])


def doubled(events, kind):
    """A second one right after the first; other rules may notice it as well."""
    at = of_kind(events, kind).event_id
    return renumber(events[:at] + [copy.deepcopy(events[at - 1])] + events[at:])


def swapped_signals(events):
    for event in events:
        if event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            number = 3 - int(event.workflow_execution_signaled_event_attributes.request_id[1:])
            event.workflow_execution_signaled_event_attributes.input.CopyFrom(payloads(number))
    return events


def early_timer(events):
    """Fired, and all that came after it, 50 ms too soon."""
    fired = of_kind(events, "TIMER_FIRED")
    for event in events[fired.event_id - 1:]:
        event.event_time.FromNanoseconds(event.event_time.ToNanoseconds() - SECOND // 20)
    return events


def fired_by_another(events):
    of_kind(events, "TIMER_FIRED").timer_fired_event_attributes.started_event_id = 2
    return events


def time_goes_back(events):
    events[4].event_time.FromNanoseconds(events[3].event_time.ToNanoseconds() - 1)
    return events


def goes_on_after_its_end(events):
    last = copy.deepcopy(events[1])
    last.event_id, last.event_time.seconds = len(events) + 1, events[-1].event_time.seconds + 1
    return events + [last]


def another_command(events):
    of_kind(events, "ACTIVITY_TASK_SCHEDULED").activity_task_scheduled_event_attributes.activity_id = "a7"
    return events


def entry(what, **facts):
    return {"what": what, "outcome": "ok", "of_run": RUN, "workflow": WORKFLOW, **facts}


def start(run, asked, answered):
    return {"what": "start", "outcome": "ok", "workflow": WORKFLOW, "run": run, "asked": asked, "answered": answered}


def ending(asked, outcome="ok"):
    """A try to end RUN; which task it answered is for other rules."""
    return entry("task", started=3, closes=True, asked=asked, answered=asked + 1, outcome=outcome)


CASES = [
    ("R3", "an event is missing", lambda e: (without(e, "TIMER_FIRED"), {})),
    ("R3", "an event is there twice", lambda e: (e[:5] + e[4:], {})),
    ("R3", "time goes back", lambda e: (time_goes_back(e), {})),
    ("R6", "it goes on after its end", lambda e: (goes_on_after_its_end(e), {})),
    ("R7", "a timer fires 50 ms early", lambda e: (early_timer(e), {})),
    ("R7", "a timer fires that was never started", lambda e: (fired_by_another(e), {})),
    ("R9", "a signal is there twice", lambda e: (doubled_signal(e), {})),
    ("R9", "signals change places", lambda e: (swapped_signals(e), {})),
    ("R1", "an acknowledged signal is missing", lambda e: (e, {"numbers": (1, 2, 3)})),
    ("R1", "a task was acknowledged that is not completed", lambda e: (e, {"entries": [entry("task", started=2)]})),
    ("R1", "an activity was acknowledged that is not completed",
     lambda e: (renumber(without(e, "ACTIVITY_TASK_COMPLETED")), {"entries": [entry("activity", activity="a0")]})),
    ("R1", "a task was acknowledged of a run that is not there",
     lambda e: (e, {"entries": [{**entry("task", started=3), "of_run": "run-9"}]})),
    ("R4", "two runs are open", lambda e: (e, {"spans": [(WORKFLOW, 1, None, RUN), (WORKFLOW, 2, None, "run-2")]})),
    ("R4", "two runs were open at a time", lambda e: (e, {"spans": [(WORKFLOW, 1, 5, RUN), (WORKFLOW, 4, 6, "run-2")]})),
    ("R4", "a start is acknowledged while another is open by the clients' clock",
     lambda e: (e, {"entries": [start(RUN, 1, 2), start("run-2", 3, 4), ending(5)]})),
    ("R4", "the try to end it was refused, and another start acknowledged",
     lambda e: (e, {"entries": [start(RUN, 1, 2), ending(2.5, "no"), start("run-2", 3, 4)]})),
    ("R7", "a timer never fires", lambda e: (renumber(without(e, "TIMER_FIRED")), {})),
    ("R2", "a task is answered twice", lambda e: (doubled(e, "WORKFLOW_TASK_COMPLETED"), {})),
    ("R2", "an activity ends twice", lambda e: (doubled(e, "ACTIVITY_TASK_COMPLETED"), {})),
    ("R2", "a child is started twice", lambda e: (doubled(e, "CHILD_WORKFLOW_EXECUTION_STARTED"), {})),
    ("R2", "a child ends twice", lambda e: (doubled(e, "CHILD_WORKFLOW_EXECUTION_COMPLETED"), {})),
    ("R2", "an update ends twice", lambda e: (doubled(e, "WORKFLOW_EXECUTION_UPDATE_COMPLETED"), {})),
    ("R2", "a cancel is there twice", lambda e: (doubled(e, "WORKFLOW_EXECUTION_CANCEL_REQUESTED"), {})),
    ("R1", "an acknowledged update is missing", lambda e: (e, {"entries": [entry("update", update="u2")]})),
    ("R1", "an acknowledged cancel is missing",
     lambda e: (uncancelled(e), {"entries": [entry("cancel", answered=9)]})),
    ("R1", "a cancel is missing that was acknowledged before the first try to end it",
     lambda e: (uncancelled(e), {"entries": [entry("cancel", answered=3), ending(4)]})),
    ("R1", "a cancel is missing, the try to end it was refused",
     lambda e: (uncancelled(e), {"entries": [entry("cancel", answered=3), ending(2, "no")]})),
    ("R1", "a cancel is missing, and only the base run of a reset had ended",
     lambda e: (uncancelled(e), {"entries": [entry("cancel", answered=3), ending(2)], "more": {"run-2": reset_history()}})),
    ("R1", "an acknowledged termination is missing", lambda e: (e, {"entries": [entry("terminate", asked=9)]})),
    ("R1", "a failed attempt was not counted",
     lambda e: (e, {"entries": [entry("failure", activity="a0", attempt=2)]})),
    ("R1", "a child is not there", lambda e: (e, {"children": {"another": []}})),
    ("R1", "a child has not completed", lambda e: (e, {"children": {CHILD: child_history("FAILED")}})),
    ("R11", "a child that nobody asked for", lambda e: (doubled(e, "START_CHILD_WORKFLOW_EXECUTION_INITIATED"), {})),
    ("R13", "a query is blind to a signal that was acknowledged before",
     lambda e: (e, {"entries": [entry("signal", number=1, answered=3), entry("query", asked=4, seen=0)]})),
    ("R8", "an activity of one attempt ran twice", lambda e: (e, {"effects": ("a", "b", "a")})),
    ("R11", "a command that nobody gave", lambda e: (another_command(e), {})),
    ("R11", "a command left nothing", lambda e: (renumber(without(e, "TIMER_STARTED")), {})),
]


def main():
    failed = 0
    facts = [start(RUN, 1, 2), ending(2.5, "unknown"), ending(3), start("run-2", 3, 4), start("run-2", 5, 6),
             entry("activity", activity="a0"), entry("failure", activity="a0", attempt=1), entry("update", update="u1"),
             entry("cancel", answered=9), entry("signal", number=1, answered=3), entry("signal", number=2, answered=5),
             entry("query", asked=4, seen=1)]
    whole = verdict_of(sound(), entries=facts, effects=("a", "b"))
    if whole:
        failed += 1
        print(f"not ok a sound history: {sorted(whole)}")
    cancel = entry("cancel", answered=3)
    for name, facts, more in (
            ("the end", [ending(2, "unknown"), cancel], {}),
            ("the end of a run that a reset made", [{**ending(2, "unknown"), "of_run": "run-2"}, cancel], {"run-2": reset_history()})):
        late = verdict_of(uncancelled(sound()), entries=facts, more=more)
        if late:
            failed += 1
            print(f"not ok a cancel that came after {name}: {sorted(late)}")
    for rule, name, damage in CASES:
        events, facts = damage(sound())
        broken = verdict_of(events, **facts)
        if rule not in broken:
            failed += 1
            print(f"not ok {name}: {rule} is not broken, but {sorted(broken)}")
    print(f"{len(CASES)} damages, {len(CASES) - failed} found" if not failed else f"{failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
