# SPDX-License-Identifier: MIT
"""What the comparer must see, and what it must not mind, shown on a small made-up record."""

from temporalio.api.history.v1 import HistoryEvent

from driver import data
from normal import Names, normalise

RUN = "0c1f6b7e-1a2b-4c3d-8e9f-00000000000%d"


def events(first, second, stamp, result="out"):
    started = HistoryEvent(event_id=1, event_type=1, task_id=stamp)
    started.event_time.FromSeconds(stamp)
    attributes = started.workflow_execution_started_event_attributes
    attributes.original_execution_run_id = first
    attributes.first_execution_run_id = second
    attributes.workflow_type.name = "flow"
    ended = HistoryEvent(event_id=2, event_type=2, task_id=stamp + 1)
    ended.event_time.FromSeconds(stamp + 5)
    ended.workflow_execution_completed_event_attributes.result.CopyFrom(data(result))
    return [started, ended]


def record(made):
    names = Names({})
    return [("history #1", {"events": [normalise(e, names) for e in made]})]


def run(compare, copied):
    """Yields (name, whether the comparer judged rightly)."""
    right = record(events(RUN % 1, RUN % 1, 1_700_000_000))
    yield "other times and random ids are the same", not compare(
        right, record(events(RUN % 7, RUN % 7, 1_600_000_000)))
    yield "an id that should be equal to another is seen", bool(compare(
        right, record(events(RUN % 1, RUN % 2, 1_700_000_000))))
    yield "another result is seen", bool(compare(
        right, record(events(RUN % 1, RUN % 1, 1_700_000_000, "other"))))

    def altered(change):
        wrong = copied(right)
        change(wrong[0][1]["events"])
        return bool(compare(right, wrong)) and bool(compare(wrong, right))

    yield "a missing event is seen", altered(lambda e: e.pop())
    yield "an event too many is seen", altered(lambda e: e.append(dict(e[1], event_id=3)))
    yield "another order is seen", altered(lambda e: e.reverse())
    yield "another event id is seen", altered(lambda e: e[1].update(event_id="3"))
    yield "another type is seen", altered(
        lambda e: e[1].update(event_type="EVENT_TYPE_WORKFLOW_EXECUTION_FAILED"))
    yield "a missing time is seen", altered(lambda e: e[0].pop("event_time"))
    yield "a field too many is seen", altered(
        lambda e: e[0]["workflow_execution_started_event_attributes"].update(attempt=2))
    yield "a missing field is seen", altered(
        lambda e: e[0]["workflow_execution_started_event_attributes"].pop("workflow_type"))
    yield "a step that only one server made is seen", bool(compare(right, []))
    refused = [("start fails #1", {"code": "NOT_FOUND", "message": "no", "details": []})]
    other = copied(refused)
    other[0][1]["code"] = "INTERNAL"
    yield "another status is seen", bool(compare(refused, other))
    other = copied(refused)
    other[0][1]["details"] = [{"type": "x", "value": {}}]
    yield "other details are seen", bool(compare(refused, other))
