# SPDX-License-Identifier: MIT
"""P9: once faults have ended nothing waits for long.  A task that is lost comes again by some time-out in the end, so that every other
rule holds, and all that is seen of it is a long tail.  So each thing that was under way when the last fault ended, or came later, is
measured by the histories: from when it could go on (the last fault's end at the earliest) until it did.

    a workflow task   from where it is scheduled to its end        a timer           from when it is due until it fires
    an activity       the same                                     a child           from where it is asked for until it has started, and
                                                                                     from its end until its parent knows

How long is too long, a slow machine decides: LONG_S at least, and TIMES what nine of ten waited for.  The loads have no time-out of
their own near that, but for activities that may run longer than they do, and these end with their worker or with what they miss."""

from judge import CLOSING, KIND, children_of, nanos

LONG_S = 30  # what is lost comes again after 60 s; the longest that the loads wait for by themselves is a heartbeat's time-out of 5 s
TIMES = 10


def starts_of(events):
    """(what, event id): when it could go on."""
    for event in events:
        begun = nanos(event.event_time)
        if event.event_type == KIND.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
            yield ("workflow task", event.event_id), begun
        elif event.event_type == KIND.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            yield ("activity", event.event_id), begun
        elif event.event_type == KIND.EVENT_TYPE_TIMER_STARTED:
            length = event.timer_started_event_attributes.start_to_fire_timeout
            yield ("timer", event.event_id), begun + length.seconds * 10**9 + length.nanos
        elif event.event_type == KIND.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
            yield ("start of the child", event.event_id), begun


ENDS = {
    "workflow_task_completed": ("workflow task", "scheduled_event_id"),
    "workflow_task_failed": ("workflow task", "scheduled_event_id"),
    "workflow_task_timed_out": ("workflow task", "scheduled_event_id"),
    "activity_task_completed": ("activity", "scheduled_event_id"),
    "activity_task_failed": ("activity", "scheduled_event_id"),
    "activity_task_timed_out": ("activity", "scheduled_event_id"),
    "activity_task_canceled": ("activity", "scheduled_event_id"),
    "timer_fired": ("timer", "started_event_id"),
    "child_workflow_execution_started": ("start of the child", "initiated_event_id"),
    "start_child_workflow_execution_failed": ("start of the child", "initiated_event_id"),
}


def end_of(event):
    """(what, event id) that this event ends; None."""
    name = event.WhichOneof("attributes") or ""
    what, key = ENDS.get(name.removesuffix("_event_attributes"), (None, None))
    return (what, getattr(getattr(event, name), key)) if what else None


class Tails:
    """add() each history, then judge()."""

    def __init__(self, since_ns):
        self.since = since_ns
        self.waits = []  # nanoseconds after the last fault, and what
        self.closed, self.told = {}, []

    def note(self, begun, ended, text):
        """What ended before is no concern of this; servers' clocks may have been wrong until then, and are right now."""
        if ended > self.since:
            self.waits.append((ended - max(begun, self.since), text))

    def add(self, name, run, events):
        starts = dict(starts_of(events))
        for event in events:
            end = end_of(event)
            begun = starts.pop(end, None)  # the first end is the one that counts; twice is another rule's
            if begun is not None:
                how = KIND.Name(event.event_type).removeprefix("EVENT_TYPE_")
                self.note(begun, nanos(event.event_time), f"{name}: the {end[0]} of event {end[1]}, {how} in event {event.event_id}")
        if events[-1].event_type in CLOSING:
            self.closed[run] = nanos(events[-1].event_time)
        children = children_of(events)
        for event in events:
            kind = event.WhichOneof("attributes") or ""
            if kind.startswith("child_workflow_execution_") and not kind.startswith("child_workflow_execution_started"):
                child = getattr(event, kind).workflow_execution.run_id
                if child in children:
                    self.told.append((child, nanos(event.event_time), f"{name}: the end of the child {child}, event {event.event_id}"))

    def limit_ns(self):
        waits = sorted(max(wait, 0) for wait, _ in self.waits)
        return max(LONG_S * 10**9, TIMES * waits[(len(waits) - 1) * 9 // 10] if waits else 0)

    def judge(self, book):
        """The longest wait, in seconds."""
        for child, known, text in self.told:
            if child in self.closed:
                self.note(self.closed[child], known, text)
        limit = self.limit_ns()
        for wait, text in sorted(self.waits, reverse=True):
            if wait > limit:
                book.violated("P9", f"{text} was waited for {wait / 1e9:.1f} s after the last fault (at most {limit / 1e9:.0f} s)")
        return max((wait for wait, _ in self.waits), default=0) / 1e9
