# SPDX-License-Identifier: MIT
"""Turns a protobuf message into plain data that two servers can be compared by.

Times become "<time>". Random ids (UUIDs, and the words that a run of this test makes up itself)
become placeholders that are numbered in the order in which one case first meets them, so that ids
that were equal stay equal and ids that differed stay different. Numbers that depend on the size of
an encoding or on a store (task ids, versions, sizes, transition counts) keep only the fact that
they are set. Everything else is kept as it is."""

import re

from google.protobuf.descriptor import FieldDescriptor

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SDK_IDENTITY = re.compile(r"\d+@[\w.-]+")
STICKY_QUEUE = re.compile(r"^.*-<uuid \d+>$")
SDK_TIME = re.compile(r'"seconds":\d+,"nanos":\d+')
HEX32 = re.compile(r"\b[0-9a-f]{32}\b")

# (message, field) whose value depends on the clock, the store or the encoding: only "set" is kept.
OPAQUE = {
    ("HistoryEvent", "task_id"),
    ("WorkflowTaskStartedEventAttributes", "history_size_bytes"),
    ("WorkflowExecutionInfo", "history_size_bytes"),
    ("WorkflowExecutionInfo", "state_transition_count"),
    ("WorkflowExecutionInfo", "execution_duration"),
    ("ActivityExecutionInfo", "execution_duration"),
    ("ActivityExecutionInfo", "state_size_bytes"),
    ("PendingActivityInfo", "current_retry_interval"),
    ("WorkflowExecutionStartedEventAttributes", "first_workflow_task_backoff"),
    ("WorkflowTaskCompletedEventAttributes", "binary_checksum"),
    ("WorkerVersionStamp", "build_id"),
    ("WorkflowTaskCompletedMetadata", "sdk_name"),
    ("WorkflowTaskCompletedMetadata", "sdk_version"),
}

# (message, field) that says nothing about behaviour that a client may rely on.
IGNORED = {
    ("HistoryEvent", "version"),
    ("PollWorkflowTaskQueueResponse", "backlog_count_hint"),
    ("PollWorkflowTaskQueueResponse", "poller_scaling_decision"),
    ("PollWorkflowTaskQueueResponse", "poller_group_id"),
    ("PollWorkflowTaskQueueResponse", "poller_group_infos"),
    ("PollWorkflowTaskQueueResponse", "poller_groups_info"),
    ("PollActivityTaskQueueResponse", "poller_scaling_decision"),
    ("PollActivityTaskQueueResponse", "poller_group_infos"),
    ("PollActivityTaskQueueResponse", "poller_groups_info"),
}

# Deliberate departures of tenond, each with its reason; README.md lists them.
IGNORED |= {
    # No rate limit of task queues by default, so none is shown.
    ("DescribeTaskQueueResponse", "effective_rate_limit"),
    # The reference shows the year 1 for "never".
    ("TaskQueueVersioningInfo", "update_time"),
}

# The reference asks its own workers over HTTP, whose headers then reach them: what they say is in the request itself.
LEFT_OUT_HEADERS = {"nexus-link", "nexus-request-id", "user-agent", "content-length"}

# Sets that an SDK fills in any order.
UNORDERED = {
    ("WorkflowTaskCompletedMetadata", "core_used_flags"),
    ("WorkflowTaskCompletedMetadata", "lang_used_flags"),
}

# Marks of worker versioning, which this comparison leaves to that feature's own tests.
VERSIONING_ATTRIBUTES = ("BuildIds",)

TOKENS = {"task_token", "next_page_token", "long_poll_token"}

# Headers of Nexus operations whose values are the server's own, or what is left of a time.
HEADERS = {"temporal-callback-token", "request-timeout", "operation-timeout"}


class Names:
    """The placeholders of one case: same id, same placeholder."""

    def __init__(self, words):
        self._words = sorted(words.items(), key=lambda kv: -len(kv[0]))
        self._uuids = {}
        self._others = {}

    def _uuid(self, match):
        text = match.group(0)
        if text not in self._uuids:
            self._uuids[text] = f"<uuid {len(self._uuids) + 1}>"
        return self._uuids[text]

    def text(self, value):
        for word, placeholder in self._words:
            value = value.replace(word, placeholder)
        value = UUID.sub(self._uuid, value)
        value = SDK_IDENTITY.sub("<sdk identity>", value)
        value = SDK_TIME.sub('"<time>"', value)
        if HEX32.search(value):
            value = HEX32.sub(self._hex, value)
        return value

    def _hex(self, match):
        text = match.group(0)
        if text not in self._others:
            self._others[text] = f"<hex {len(self._others) + 1}>"
        return self._others[text]


def _field(message_name, field, value, names):
    key = (message_name, field.name)
    if key in OPAQUE:
        return "<set>"
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return normalise(value, names)
    if field.type == FieldDescriptor.TYPE_ENUM:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if field.type == FieldDescriptor.TYPE_BYTES:
        if field.name in TOKENS:
            return "<token>"
        return names.text(value.decode("utf-8", "backslashreplace"))
    if field.type == FieldDescriptor.TYPE_STRING:
        text = names.text(value)
        return STICKY_QUEUE.sub("<sticky queue>", text) if field.name == "name" else text
    return value


def normalise(message, names):
    """The message as nested dicts and lists; fields that are not set are left out."""
    name = message.DESCRIPTOR.name
    if name == "Timestamp":
        return "<time>"
    if name == "Duration":
        return f"{message.seconds + message.nanos / 1e9:g}s"
    out = {}
    for field, value in message.ListFields():
        if (name, field.name) in IGNORED:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value_field = field.message_type.fields_by_name["value"]
            entries = {}
            hop = LEFT_OUT_HEADERS if (name, field.name) == ("Request", "header") else set()
            for key in sorted(set(value) - set(VERSIONING_ATTRIBUTES) - hop):
                entries[names.text(str(key))] = ("<set>" if str(key).lower() in HEADERS else
                                                 _field(name, value_field, value[key], names))
            out[field.name] = entries
        elif field.is_repeated:
            items = [_field(name, field, item, names) for item in value]
            out[field.name] = sorted(items) if (name, field.name) in UNORDERED else items
        else:
            out[field.name] = _field(name, field, value, names)
    if name == "SearchAttributes" and not out.get("indexed_fields"):
        return {"indexed_fields": {}}  # there may have been none but those of versioning
    if name == "WorkflowExecutionInfo":
        out.setdefault("search_attributes", {"indexed_fields": {}})
    if name == "WorkflowExecutionStartedEventAttributes" and message.initiator == 1:
        # A run that lived for less than a second makes its successor wait for the rest of it.
        out["first_workflow_task_backoff"] = "<set>"
    if name == "DescribeWorkflowExecutionResponse":
        return _described(out)
    return out


def _described(out):
    """A described run, without what the reference shows by accident."""
    info = out.get("workflow_execution_info", {})
    if info.get("status") != "WORKFLOW_EXECUTION_STATUS_RUNNING":
        # A closed run waits for no workflow task, whatever was pending when it was closed.
        out.pop("pending_workflow_task", None)
    for point in info.get("auto_reset_points", {}).get("points", []):
        # The next run's points get a time to expire; while both runs are in the reference's memory
        # the old one's show it too.
        if point.get("run_id") == info.get("execution", {}).get("run_id"):
            point.pop("expire_time", None)
    return out


def row(message, names):
    """A listed run. Tenond lists a run as unversioned from its start, which spares it a write; the
    reference once its first workflow task is completed."""
    out = normalise(message, names)
    fields = out.get("search_attributes", {}).get("indexed_fields", {})
    fields.pop("BuildIds", None)
    return out


def flatten(data, path=""):
    """{path: leaf} of nested data; an empty message or list is a leaf too."""
    flat = {}
    todo = [(path, data)]
    while todo:
        where, node = todo.pop()
        if isinstance(node, dict) and node:
            todo.extend((f"{where}.{k}" if where else str(k), v) for k, v in node.items())
        elif isinstance(node, list) and node:
            todo.extend((f"{where}[{i}]", v) for i, v in enumerate(node))
        else:
            flat[where] = node
    return flat


def differences(a, b):
    """Lines that say where two normalised values differ."""
    flat_a, flat_b = flatten(a), flatten(b)
    lines = []
    for path in sorted(set(flat_a) | set(flat_b)):
        left, right = flat_a.get(path, "<absent>"), flat_b.get(path, "<absent>")
        if type(left) is not type(right) or left != right:
            lines.append(f"{path}: A {left!r}, B {right!r}")
    return lines
