# SPDX-License-Identifier: MIT
"""The judge of the SDKs' loads judged: sound histories and calls pass, and each damage to them is noticed."""

import copy

import temporalio.api.common.v1 as common
import temporalio.api.enums.v1 as enums
import temporalio.api.failure.v1 as failure
import temporalio.api.update.v1 as update
from google.protobuf.duration_pb2 import Duration

import fleet  # noqa: F401  it tells where tests/crash is
from judge import KIND, Judge
from judge_test import SECOND, Book, of_kind, renumber
from promises import Promises
from tails import Tails
from world import payloads

LATE = enums.TimeoutType
TASKED = Duration(seconds=5)


def task(book):
    scheduled = book.add("WORKFLOW_TASK_SCHEDULED", start_to_close_timeout=TASKED)
    return book.add("WORKFLOW_TASK_COMPLETED", scheduled_event_id=scheduled, started_event_id=book.add("WORKFLOW_TASK_STARTED"))


def late(book, kind, seconds, **limits):
    scheduled = book.add("ACTIVITY_TASK_SCHEDULED", activity_id=f"a{len(book.events)}", **{
        name: Duration(seconds=length) for name, length in limits.items()})
    unstarted = kind == LATE.TIMEOUT_TYPE_SCHEDULE_TO_START
    started = 0 if unstarted else book.add("ACTIVITY_TASK_STARTED", scheduled_event_id=scheduled, attempt=1)
    book.add("ACTIVITY_TASK_TIMED_OUT", after=seconds * SECOND, scheduled_event_id=scheduled, started_event_id=started,
             failure=failure.Failure(timeout_failure_info=failure.TimeoutFailureInfo(timeout_type=kind)))


def first():
    book = Book()
    book.add("WORKFLOW_EXECUTION_STARTED")
    for number in (1, 2, 2):
        book.add("WORKFLOW_EXECUTION_SIGNALED", input=payloads(number))
    answer = task(book)
    its = update.Request(meta=update.Meta(update_id="u1"))
    accepted = book.add("WORKFLOW_EXECUTION_UPDATE_ACCEPTED", accepted_request=its)
    book.add("WORKFLOW_EXECUTION_UPDATE_COMPLETED", meta=its.meta, accepted_event_id=accepted,
             outcome=update.Outcome(success=payloads(2)))
    scheduled = book.add("ACTIVITY_TASK_SCHEDULED", activity_id="a", workflow_task_completed_event_id=answer)
    book.add("ACTIVITY_TASK_COMPLETED", scheduled_event_id=scheduled,
             started_event_id=book.add("ACTIVITY_TASK_STARTED", scheduled_event_id=scheduled, attempt=1))
    late(book, LATE.TIMEOUT_TYPE_START_TO_CLOSE, 1, start_to_close_timeout=1)
    late(book, LATE.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, 2, schedule_to_close_timeout=2)
    late(book, LATE.TIMEOUT_TYPE_HEARTBEAT, 2, heartbeat_timeout=2, start_to_close_timeout=30)
    late(book, LATE.TIMEOUT_TYPE_SCHEDULE_TO_START, 3, schedule_to_start_timeout=3)
    scheduled = book.add("ACTIVITY_TASK_SCHEDULED", activity_id="dropped", heartbeat_timeout=Duration(seconds=5))
    book.add("ACTIVITY_TASK_CANCEL_REQUESTED", after=SECOND // 10, scheduled_event_id=scheduled)
    started = book.add("ACTIVITY_TASK_STARTED", after=0, scheduled_event_id=scheduled, attempt=1)  # in truth before the cancel
    book.add("ACTIVITY_TASK_TIMED_OUT", after=5 * SECOND - SECOND // 11, scheduled_event_id=scheduled, started_event_id=started,
             failure=failure.Failure(timeout_failure_info=failure.TimeoutFailureInfo(timeout_type=LATE.TIMEOUT_TYPE_HEARTBEAT)))
    book.add("WORKFLOW_EXECUTION_CONTINUED_AS_NEW", new_execution_run_id="second")
    return book.events


def second():
    book = Book()
    book.now += 100 * SECOND
    book.add("WORKFLOW_EXECUTION_STARTED", continued_execution_run_id="first")
    for child, how in (("child", "COMPLETED"), ("slow", "TIMED_OUT")):
        execution = common.WorkflowExecution(workflow_id=child, run_id="run-" + child)
        begun = book.add("START_CHILD_WORKFLOW_EXECUTION_INITIATED", workflow_id=child)
        book.add("CHILD_WORKFLOW_EXECUTION_STARTED", workflow_execution=execution, initiated_event_id=begun)
        book.add("CHILD_WORKFLOW_EXECUTION_" + how, workflow_execution=execution, initiated_event_id=begun)
    timer = book.add("TIMER_STARTED", timer_id="t", start_to_fire_timeout=Duration(seconds=1))
    book.add("TIMER_FIRED", after=SECOND, timer_id="t", started_event_id=timer)
    scheduled = book.add("ACTIVITY_TASK_SCHEDULED", activity_id="served")
    book.add("ACTIVITY_TASK_COMPLETED", scheduled_event_id=scheduled,
             started_event_id=book.add("ACTIVITY_TASK_STARTED", scheduled_event_id=scheduled, attempt=1))
    scheduled = book.add("WORKFLOW_TASK_SCHEDULED", start_to_close_timeout=TASKED)
    book.add("WORKFLOW_TASK_TIMED_OUT", after=2 * SECOND, scheduled_event_id=scheduled,
             timeout_type=LATE.TIMEOUT_TYPE_SCHEDULE_TO_START)
    scheduled = book.add("WORKFLOW_TASK_SCHEDULED", start_to_close_timeout=TASKED)
    book.add("WORKFLOW_TASK_TIMED_OUT", after=5 * SECOND, scheduled_event_id=scheduled,
             started_event_id=book.add("WORKFLOW_TASK_STARTED"), timeout_type=LATE.TIMEOUT_TYPE_START_TO_CLOSE)
    book.add("WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    book.add("WORKFLOW_EXECUTION_COMPLETED", result=payloads(7), workflow_task_completed_event_id=task(book))
    return book.events


def child(how):
    book = Book()
    book.now += 100 * SECOND
    book.add("WORKFLOW_EXECUTION_STARTED", workflow_run_timeout=Duration(seconds=2))
    book.add("WORKFLOW_EXECUTION_" + how, after=2 * SECOND)
    return book.events


class World:
    def __init__(self):
        self.runs = {"first": ("w", first()), "second": ("w", second()), "run-child": ("child", child("COMPLETED")),
                     "run-slow": ("slow", child("TIMED_OUT"))}
        self.last_fault = 1100 * SECOND  # before the second run and the children begin
        self.listed = [(workflow, run) for run, (workflow, _) in self.runs.items()]
        plain = {"workflow": "w", "outcome": "ok", "asked": 1, "answered": 2}
        self.calls = [{**plain, "what": "start", "run": "first"}, {**plain, "what": "signal", "number": 1},
                      {**plain, "what": "signal", "number": 2, "outcome": "unknown"}, {**plain, "what": "signal", "number": 2},
                      {**plain, "what": "query", "asked": 3, "seen": 2}, {**plain, "what": "update", "update": "u1", "value": 2},
                      {**plain, "what": "update", "update": "u-1", "outcome": "no"}, {**plain, "what": "cancel"},
                      {**plain, "what": "result", "value": 7, "wanted": 7}]

    def events(self, run):
        return self.runs[run][1]

    def call(self, what):
        return next(call for call in self.calls if call["what"] == what)

    def expired(self, run):
        """Its first activity was lost on the way to a worker."""
        events = self.events(run)
        end = of_kind(events, "ACTIVITY_TASK_COMPLETED")
        its = end.activity_task_completed_event_attributes.scheduled_event_id
        self.later(run, "ACTIVITY_TASK_COMPLETED")
        end.event_type = KIND.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT
        end.activity_task_timed_out_event_attributes.scheduled_event_id = its
        self.gone(run, "ACTIVITY_TASK_STARTED")

    def gone(self, run, kind):
        """Something that says nothing in its place."""
        event = of_kind(self.events(run), kind)
        event.Clear()
        event.event_type = KIND.EVENT_TYPE_MARKER_RECORDED
        before = self.events(run)[self.events(run).index(event) - 1]
        event.event_id = before.event_id + 1
        event.event_time.CopyFrom(before.event_time)

    def twice(self, run, kind):
        events = self.events(run)
        event = of_kind(events, kind)
        events.insert(len(events) - 1, copy.deepcopy(event))
        events[-2].event_time.CopyFrom(events[-3].event_time)
        renumber(events)

    def sooner(self, run, kind, which=0):
        """By a moment."""
        events = self.events(run)
        at = [number for number, event in enumerate(events) if event.event_type == getattr(KIND, "EVENT_TYPE_" + kind)][which]
        now = events[at].event_time.ToNanoseconds() - SECOND // 50
        events[at].event_time.FromNanoseconds(now)

    def later(self, run, kind, which=0, seconds=60):
        """And all that follows."""
        events = self.events(run)
        at = [number for number, event in enumerate(events) if event.event_type == getattr(KIND, "EVENT_TYPE_" + kind)][which]
        for event in events[at:]:
            event.event_time.FromNanoseconds(event.event_time.ToNanoseconds() + seconds * SECOND)

    def verdict(self):
        judge = Promises(0, self.last_fault)
        for run, (workflow, events) in self.runs.items():
            judge.add(workflow, run, events)
        judge.calls(self.calls)
        judge.families()
        judge.one_at_a_time(self.listed)
        judge.tails.judge(judge)
        return judge.violations


def set_to(thing, **facts):
    thing.update(facts)


DAMAGES = [
    ("a started run is not there", "P1", lambda w: set_to(w.call("start"), run="third")),
    ("the result is another", "P1", lambda w: set_to(w.call("result"), value=8)),
    ("the result is not the plan's", "P1", lambda w: set_to(w.call("result"), wanted=8)),
    ("something a client noticed", "P1", lambda w: w.calls.append({"what": "wrong", "workflow": "w", "text": "odd"})),
    ("a signal is lost", "P2", lambda w: w.gone("first", "WORKFLOW_EXECUTION_SIGNALED")),
    ("a signal is there twice", "P2", lambda w: w.twice("first", "WORKFLOW_EXECUTION_SIGNALED")),
    ("a signal nobody sent", "P2", lambda w: w.calls.remove(w.call("signal"))),
    ("an update is lost", "P3", lambda w: w.gone("first", "WORKFLOW_EXECUTION_UPDATE_COMPLETED")),
    ("an update was never accepted", "P3", lambda w: w.gone("first", "WORKFLOW_EXECUTION_UPDATE_ACCEPTED")),
    ("an update is accepted twice", "P3", lambda w: w.twice("first", "WORKFLOW_EXECUTION_UPDATE_ACCEPTED")),
    ("an update is completed twice", "P3", lambda w: w.twice("first", "WORKFLOW_EXECUTION_UPDATE_COMPLETED")),
    ("an update is answered otherwise", "P3", lambda w: set_to(w.call("update"), value=3)),
    ("a refused update is there", "P3", lambda w: w.calls.append({**w.call("update"), "outcome": "no"})),
    ("a cancel is lost", "P4", lambda w: w.gone("second", "WORKFLOW_EXECUTION_CANCEL_REQUESTED")),
    ("a cancel nobody asked for", "P4", lambda w: w.calls.remove(w.call("cancel"))),
    ("a cancel is there twice", "P4", lambda w: w.twice("second", "WORKFLOW_EXECUTION_CANCEL_REQUESTED")),
    ("a query missed a signal", "P4", lambda w: set_to(w.call("query"), seen=1)),
    ("an activity ends twice", "P5", lambda w: w.twice("first", "ACTIVITY_TASK_COMPLETED")),
    ("an activity times out twice", "P5", lambda w: w.twice("first", "ACTIVITY_TASK_TIMED_OUT")),
    ("an activity ends that was never begun", "P5", lambda w: w.gone("first", "ACTIVITY_TASK_SCHEDULED")),
    ("a child ends twice", "P5", lambda w: w.twice("second", "CHILD_WORKFLOW_EXECUTION_TIMED_OUT")),
    ("a child's end is lost", "P5", lambda w: w.gone("second", "CHILD_WORKFLOW_EXECUTION_COMPLETED")),
    ("a start-to-close time-out is early", "the start-to-close", lambda w: w.sooner("first", "ACTIVITY_TASK_TIMED_OUT", 0)),
    ("a schedule-to-close time-out is early", "the schedule-to-close", lambda w: w.sooner("first", "ACTIVITY_TASK_TIMED_OUT", 1)),
    ("a heartbeat's time-out is early", "the heartbeat", lambda w: w.sooner("first", "ACTIVITY_TASK_TIMED_OUT", 2)),
    ("a schedule-to-start time-out is early", "the schedule-to-start", lambda w: w.sooner("first", "ACTIVITY_TASK_TIMED_OUT", 3)),
    ("that of an attempt whose start is written late, too", "the heartbeat", lambda w: w.sooner("first", "ACTIVITY_TASK_TIMED_OUT", 4)),
    ("a sticky queue's time-out is early", "the sticky", lambda w: w.sooner("second", "WORKFLOW_TASK_TIMED_OUT", 0)),
    ("a workflow task's time-out is early", "the workflow task", lambda w: w.sooner("second", "WORKFLOW_TASK_TIMED_OUT", 1)),
    ("a run's time-out is early", "the run", lambda w: w.sooner("run-slow", "WORKFLOW_EXECUTION_TIMED_OUT")),
    ("a timer fires early", "R7", lambda w: w.sooner("second", "TIMER_FIRED")),
    ("a timer never fires", "R7", lambda w: w.gone("second", "TIMER_FIRED")),
    ("a child ended otherwise", "P7", lambda w: set_to(w.runs, **{"run-child": ("child", child("FAILED"))})),
    ("a child that is not there", "P7", lambda w: w.runs.pop("run-child")),
    ("the next run knows nothing of the one before", "P7", lambda w: w.events("second")[0].workflow_execution_started_event_attributes.Clear()),
    ("a child of two", "P7", lambda w: w.twice("second", "CHILD_WORKFLOW_EXECUTION_STARTED") or set_to(
        w.runs, other=("other", copy.deepcopy(w.events("second"))))),
    ("a run that nobody knows", "P8", lambda w: w.listed.append(("w", "third"))),
    ("a run is not listed", "P8", lambda w: w.listed.pop()),
    ("a run is listed twice", "P8", lambda w: w.listed.append(w.listed[0])),
    ("two runs at once", "R4", lambda w: [event.event_time.FromNanoseconds(event.event_time.ToNanoseconds() - 100 * SECOND)
                                          for event in w.events("second")]),
    ("a gap", "R3", lambda w: w.events("first").pop(3)),
    ("a workflow task waits for a time-out", "the workflow task of event", lambda w: w.later("second", "WORKFLOW_TASK_TIMED_OUT")),
    ("a workflow task is found again late", "the workflow task of event", lambda w: w.later("second", "WORKFLOW_TASK_STARTED", -1)),
    ("an activity that nobody had times out", "the activity of event", lambda w: w.expired("second")),
    ("an activity waits for long", "the activity of event", lambda w: w.later("second", "ACTIVITY_TASK_STARTED")),
    ("one from before the last fault, too", "the activity of event", lambda w: w.later("second", "ACTIVITY_TASK_STARTED", 0, 900) or set_to(
        w.__dict__, last_fault=1900 * SECOND)),
    ("a timer fires late", "the timer of event", lambda w: w.later("second", "TIMER_FIRED")),
    ("a child starts late", "the start of the child", lambda w: w.later("second", "CHILD_WORKFLOW_EXECUTION_STARTED", 1) or
     w.later("run-slow", "WORKFLOW_EXECUTION_STARTED")),
    ("a parent hears late of its child's end", "the end of the child", lambda w: w.later("second", "CHILD_WORKFLOW_EXECUTION_TIMED_OUT")),
    ("a run does not end", "R12", lambda w: w.events("second").pop()),
]


def slow(seconds):
    """What is said of one wait of a minute among a hundred of that length."""
    book, tails = Judge(), Tails(0)
    for number in range(100):
        tails.note(SECOND, (1 + seconds) * SECOND, f"wait {number}")
    tails.note(SECOND, 61 * SECOND, "the long one")
    tails.judge(book)
    return book.violations


def failures():
    out = [f"a sound world: {line}" for line in World().verdict()]
    if slow(10) or len(slow(1)) != 1:
        out.append(f"a long wait on a slow machine: {slow(10)}, on one that is not: {slow(1)}")
    for name, word, damage in DAMAGES:
        world = World()
        damage(world)
        found = world.verdict()
        if not any(word in line for line in found):
            out.append(f"{name}: {found}")
    return out
