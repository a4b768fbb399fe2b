# SPDX-License-Identifier: MIT
"""One short function for each command that a workflow task may be answered with."""

from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import (
    ActivityType, Header, Memo, SearchAttributes, WorkflowExecution, WorkflowType)
from temporalio.api.enums.v1 import CommandType
from temporalio.api.taskqueue.v1 import TaskQueue

from driver import app_failure, data, sec, text


def _command(kind, field, attributes):
    command = Command(command_type=CommandType.Value("COMMAND_TYPE_" + kind))
    target = getattr(command, field + "_command_attributes")
    target.SetInParent()
    for name, value in attributes.items():
        if value is None:
            continue
        if hasattr(value, "CopyFrom") or hasattr(value, "DESCRIPTOR"):
            getattr(target, name).CopyFrom(value)
        else:
            setattr(target, name, value)
    return command


def complete(value="out"):
    return _command("COMPLETE_WORKFLOW_EXECUTION", "complete_workflow_execution",
                    {"result": data(value)})


def fail(failure=None, **kw):
    return _command("FAIL_WORKFLOW_EXECUTION", "fail_workflow_execution",
                    {"failure": failure or app_failure(**kw)})


def cancel_workflow():
    return _command("CANCEL_WORKFLOW_EXECUTION", "cancel_workflow_execution",
                    {"details": data("canceled")})


def activity(queue, activity_id="a1", **kw):
    fields = dict(activity_id=activity_id, activity_type=ActivityType(name="act"),
                  task_queue=TaskQueue(name=queue), input=data("x"),
                  start_to_close_timeout=sec(30), schedule_to_close_timeout=sec(60))
    fields.update(kw)
    return _command("SCHEDULE_ACTIVITY_TASK", "schedule_activity_task", fields)


def cancel_activity(scheduled_event_id):
    return _command("REQUEST_CANCEL_ACTIVITY_TASK", "request_cancel_activity_task",
                    {"scheduled_event_id": scheduled_event_id})


def timer(timer_id="t1", seconds=0.2):
    return _command("START_TIMER", "start_timer",
                    {"timer_id": timer_id, "start_to_fire_timeout": sec(seconds)})


def cancel_timer(timer_id="t1"):
    return _command("CANCEL_TIMER", "cancel_timer", {"timer_id": timer_id})


def marker(name="m", **kw):
    command = _command("RECORD_MARKER", "record_marker", {"marker_name": name, **kw})
    command.record_marker_command_attributes.details["value"].CopyFrom(data("mark"))
    return command


def upsert(**attributes):
    command = _command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", "upsert_workflow_search_attributes", {})
    fields = command.upsert_workflow_search_attributes_command_attributes.search_attributes
    fields.SetInParent()
    for name, value in attributes.items():
        fields.indexed_fields[name].CopyFrom(value)
    return command


def modify(**memo):
    command = _command("MODIFY_WORKFLOW_PROPERTIES", "modify_workflow_properties", {})
    fields = command.modify_workflow_properties_command_attributes.upserted_memo
    fields.SetInParent()
    for name, value in memo.items():
        fields.fields[name].CopyFrom(value)
    return command


def continue_as_new(queue, **kw):
    fields = dict(workflow_type=WorkflowType(name="flow"), task_queue=TaskQueue(name=queue),
                  input=data("again"), workflow_task_timeout=sec(10))
    fields.update(kw)
    return _command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", "continue_as_new_workflow_execution",
                    fields)


def child(workflow_id, queue, **kw):
    fields = dict(workflow_id=workflow_id, workflow_type=WorkflowType(name="child"),
                  task_queue=TaskQueue(name=queue), input=data("c"), workflow_task_timeout=sec(10))
    fields.update(kw)
    return _command("START_CHILD_WORKFLOW_EXECUTION", "start_child_workflow_execution", fields)


def signal_external(workflow_id, run_id="", name="ext", **kw):
    fields = dict(execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
                  signal_name=name, input=data("e"))
    fields.update(kw)
    return _command("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION", "signal_external_workflow_execution",
                    fields)


def cancel_external(workflow_id, run_id="", **kw):
    return _command("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION",
                    "request_cancel_external_workflow_execution",
                    dict(workflow_id=workflow_id, run_id=run_id, **kw))


def memo(**values):
    return Memo(fields={k: text(v) for k, v in values.items()})


def header(**values):
    return Header(fields={k: text(v) for k, v in values.items()})


def search(**values):
    return SearchAttributes(indexed_fields=values)
