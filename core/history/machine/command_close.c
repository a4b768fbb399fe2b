/* SPDX-License-Identifier: MIT */
/* Commands that end the run: complete, fail, cancel, continue as new. */
#include <string.h>

#include "history/machine/command.h"
#include "proto/proto.h"

#define ATTRS_CASE(UPPER) \
    TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_##UPPER##_COMMAND_ATTRIBUTES

/* temporal.api.enums.v1.WorkflowExecutionStatus */
#define STATUS_COMPLETED 2
#define STATUS_FAILED 3

/* ---- complete, fail, cancel ------------------------------------------------------------------ */

bool tn_check_complete(tn_check *check, const tn_command *command)
{
    if (!tn_check_may_close(check))
        return false;
    if (command->attributes_case != ATTRS_CASE(COMPLETE_WORKFLOW_EXECUTION))
        return tn_check_bad(check, TN_CAUSE_COMPLETE,
                            "CompleteWorkflowExecutionCommandAttributes is not set on "
                            "CompleteWorkflowExecutionCommand.");
    /* The cause is that of activities: so it is in the protocol. */
    return tn_check_blob(
        check, TN_CAUSE_SCHEDULE_ACTIVITY,
        tn_msg_bytes(command->complete_workflow_execution_command_attributes->result),
        "CompleteWorkflowExecutionCommandAttributes.Result exceeds size limit.");
}

void tn_do_complete(tn_command_run *run, const tn_command *command)
{
    tn_tx *tx = run->tx;
    tn_event *event = tn_command_event(
        run, command,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED);
    Temporal__Api__History__V1__WorkflowExecutionCompletedEventAttributes *attrs =
        TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_COMPLETED, workflow_execution_completed);
    char new_run_id[37] = "";
    int32_t retry_state = 0;

    attrs->workflow_task_completed_event_id = run->wft_completed_id;
    attrs->result = command->complete_workflow_execution_command_attributes->result;
    if (tn_tx_next_by_retry_or_cron(tx, STATUS_COMPLETED, NULL, attrs->result, new_run_id,
                                    &retry_state))
        attrs->new_execution_run_id = tn_tx_text(tx, tn_str_from(new_run_id));
    tn_tx_close(tx, event);
}

bool tn_check_fail(tn_check *check, const tn_command *command)
{
    const Temporal__Api__Command__V1__FailWorkflowExecutionCommandAttributes *attrs;

    if (!tn_check_may_close(check))
        return false;
    if (command->attributes_case != ATTRS_CASE(FAIL_WORKFLOW_EXECUTION))
        return tn_check_bad(
            check, TN_CAUSE_FAIL,
            "FailWorkflowExecutionCommandAttributes is not set on FailWorkflowExecutionCommand.");
    attrs = command->fail_workflow_execution_command_attributes;
    if (!attrs->failure)
        return tn_check_bad(check, TN_CAUSE_FAIL,
                            "Failure is not set on FailWorkflowExecutionCommand.");
    return tn_check_blob(check, TN_CAUSE_FAIL, tn_msg_bytes(attrs->failure),
                         "FailWorkflowExecutionCommandAttributes.Failure exceeds size limit.");
}

void tn_do_fail(tn_command_run *run, const tn_command *command)
{
    tn_tx *tx = run->tx;
    tn_event *event = tn_command_event(
        run, command, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_FAILED);
    Temporal__Api__History__V1__WorkflowExecutionFailedEventAttributes *attrs =
        TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_FAILED, workflow_execution_failed);
    char new_run_id[37] = "";
    int32_t retry_state = 0;

    attrs->workflow_task_completed_event_id = run->wft_completed_id;
    attrs->failure = command->fail_workflow_execution_command_attributes->failure;
    if (tn_tx_next_by_retry_or_cron(tx, STATUS_FAILED, attrs->failure, NULL, new_run_id,
                                    &retry_state))
        attrs->new_execution_run_id = tn_tx_text(tx, tn_str_from(new_run_id));
    attrs->retry_state = (Temporal__Api__Enums__V1__RetryState)retry_state;
    tn_tx_close(tx, event);
}

bool tn_check_cancel(tn_check *check, const tn_command *command)
{
    if (!tn_check_may_close(check))
        return false;
    if (command->attributes_case != ATTRS_CASE(CANCEL_WORKFLOW_EXECUTION))
        return tn_check_bad(check, TN_CAUSE_CANCEL,
                            "CancelWorkflowExecutionCommandAttributes is not set on "
                            "CancelWorkflowExecutionCommand.");
    return true;
}

void tn_do_cancel(tn_command_run *run, const tn_command *command)
{
    tn_event *event = tn_command_event(
        run, command, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED);
    Temporal__Api__History__V1__WorkflowExecutionCanceledEventAttributes *attrs =
        TN_EVENT_ATTRS(run->tx, event, WORKFLOW_EXECUTION_CANCELED, workflow_execution_canceled);

    attrs->workflow_task_completed_event_id = run->wft_completed_id;
    attrs->details = command->cancel_workflow_execution_command_attributes->details;
    tn_tx_close(run->tx, event);
}

/* ---- continue as new ------------------------------------------------------------------------- */

typedef Temporal__Api__Command__V1__ContinueAsNewWorkflowExecutionCommandAttributes new_attrs;

tn_pb_duration *tn_run_timeout_settle(tn_arena *arena, uint64_t run_ns, uint64_t execution_ns)
{
    if (execution_ns && (run_ns == 0 || run_ns > execution_ns))
        run_ns = execution_ns;
    return tn_duration_from_ns(arena, (int64_t)run_ns);
}

tn_pb_duration *tn_wft_timeout_settle(tn_arena *arena, const tn_machine_limits *limits,
                                      uint64_t task_ns, uint64_t run_ns)
{
    if (task_ns == 0)
        task_ns = limits->wft_timeout_default_ns;
    if (task_ns > limits->wft_timeout_max_ns)
        task_ns = limits->wft_timeout_max_ns;
    if (run_ns && task_ns > run_ns)
        task_ns = run_ns;
    return tn_duration_from_ns(arena, (int64_t)task_ns);
}

static const char *context_of(tn_check *check, const new_attrs *attrs)
{
    return tn_arena_printf(check->arena, "WorkflowType=%s TaskQueue=%s", attrs->workflow_type->name,
                           tn_task_queue_text(check->arena, attrs->task_queue));
}

static bool settle_new_durations(tn_check *check, new_attrs *attrs)
{
    const struct {
        tn_pb_duration *duration;
        const char *name;
    } all[] = {{attrs->workflow_run_timeout, "WorkflowRunTimeout"},
               {attrs->workflow_task_timeout, "WorkflowTaskTimeout"},
               {attrs->backoff_start_interval, "BackoffStartInterval"}};
    uint64_t run_ns, task_ns;
    const char *text;

    for (size_t i = 0; i < TN_COUNT_OF(all); i++)
        if ((text = tn_duration_settle(all[i].duration)))
            return tn_check_bad(check, TN_CAUSE_CONTINUE_AS_NEW,
                                "Invalid %s on ContinueAsNewWorkflowExecutionCommand: %s. %s",
                                all[i].name, text, context_of(check, attrs));
    run_ns = tn_duration_ns(attrs->workflow_run_timeout);
    task_ns = tn_duration_ns(attrs->workflow_task_timeout);
    attrs->workflow_run_timeout = tn_run_timeout_settle(
        check->arena, run_ns ? run_ns : check->ms->run_timeout_ns, check->ms->execution_timeout_ns);
    attrs->workflow_task_timeout = tn_wft_timeout_settle(
        check->arena, check->limits, task_ns ? task_ns : check->ms->wft_timeout_ns,
        tn_duration_ns(attrs->workflow_run_timeout));
    return true;
}

static bool settle_new(tn_check *check, new_attrs *attrs)
{
    const char *type, *text;
    const tn_fault *fault;

    if (!attrs->workflow_type)
        attrs->workflow_type = TN_MSG(check->arena, temporal__api__common__v1__workflow_type);
    if (!*attrs->workflow_type->name)
        attrs->workflow_type->name = tn_arena_strdup(check->arena, check->ms->type);
    type = attrs->workflow_type->name;
    if ((int64_t)strlen(type) > check->limits->id_bytes_max)
        return tn_check_bad(
            check, TN_CAUSE_CONTINUE_AS_NEW,
            "WorkflowType on ContinueAsNewWorkflowExecutionCommand exceeds length limit. "
            "WorkflowType=%s Length=%zu Limit=%lld",
            type, strlen(type), (long long)check->limits->id_bytes_max);
    if (!attrs->task_queue)
        attrs->task_queue = TN_MSG(check->arena, temporal__api__taskqueue__v1__task_queue);
    text = tn_task_queue_settle(check->arena, attrs->task_queue, check->ms->task_queue,
                                check->ms->task_queue, check->limits->id_bytes_max);
    if (text)
        return tn_check_bad(
            check, TN_CAUSE_CONTINUE_AS_NEW,
            "error validating ContinueAsNewWorkflowExecutionCommand TaskQueue: %s. %s", text,
            context_of(check, attrs));
    if (!settle_new_durations(check, attrs))
        return false;
    if ((text = tn_retry_policy_settle(check->arena, attrs->retry_policy)))
        return tn_check_bad(
            check, TN_CAUSE_CONTINUE_AS_NEW,
            "invalid WorkflowRetryPolicy on ContinueAsNewWorkflowExecutionCommand: %s. %s", text,
            context_of(check, attrs));
    fault = tn_check_search_attributes(check, check->tx->env->ns_id, attrs->search_attributes);
    if (fault)
        return tn_check_bad(
            check, TN_CAUSE_SEARCH_ATTRIBUTES,
            "invalid SearchAttributes on ContinueAsNewWorkflowExecutionCommand: " TN_STR_FMT ". %s",
            TN_STR_ARG(fault->message), context_of(check, attrs));
    return true;
}

bool tn_check_continue_as_new(tn_check *check, const tn_command *command)
{
    new_attrs *attrs;

    if (!tn_check_may_close(check))
        return false;
    if (command->attributes_case != ATTRS_CASE(CONTINUE_AS_NEW_WORKFLOW_EXECUTION))
        return tn_check_bad(check, TN_CAUSE_CONTINUE_AS_NEW,
                            "ContinueAsNewWorkflowExecutionCommandAttributes is not set on "
                            "ContinueAsNewWorkflowExecutionCommand.");
    attrs = command->continue_as_new_workflow_execution_command_attributes;
    if (!settle_new(check, attrs))
        return false;
    if (attrs->inherit_build_id && strcmp(attrs->task_queue->name, check->ms->task_queue) != 0)
        return tn_check_bad(
            check, TN_CAUSE_CONTINUE_AS_NEW,
            "ContinueAsNew with UseCompatibleVersion cannot run on different task queue.");
    return tn_check_blob(
               check, TN_CAUSE_CONTINUE_AS_NEW, tn_msg_bytes(attrs->input),
               "ContinueAsNewWorkflowExecutionCommandAttributes. Input exceeds size limit.") &&
           tn_check_memo(
               check, TN_CAUSE_CONTINUE_AS_NEW, (int64_t)tn_msg_bytes(attrs->memo),
               "ContinueAsNewWorkflowExecutionCommandAttributes. Memo exceeds size limit.") &&
           tn_check_search_attribute_sizes(check, TN_CAUSE_CONTINUE_AS_NEW,
                                           attrs->search_attributes,
                                           (int64_t)tn_msg_bytes(attrs->search_attributes));
}

void tn_do_continue_as_new(tn_command_run *run, const tn_command *command)
{
    const new_attrs *from = command->continue_as_new_workflow_execution_command_attributes;
    tn_tx *tx = run->tx;
    tn_event *event = tn_command_event(
        run, command,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW);
    Temporal__Api__History__V1__WorkflowExecutionContinuedAsNewEventAttributes *to = TN_EVENT_ATTRS(
        tx, event, WORKFLOW_EXECUTION_CONTINUED_AS_NEW, workflow_execution_continued_as_new);
    char new_run_id[37] = "";

    run->fault = tn_tx_next_by_command(tx, from, new_run_id);
    if (run->fault)
        return;
    to->workflow_task_completed_event_id = run->wft_completed_id;
    to->new_execution_run_id = tn_tx_text(tx, tn_str_from(new_run_id));
    to->workflow_type = from->workflow_type;
    to->task_queue = from->task_queue;
    to->header = from->header;
    to->input = from->input;
    to->workflow_run_timeout = from->workflow_run_timeout;
    to->workflow_task_timeout = from->workflow_task_timeout;
    to->backoff_start_interval = from->backoff_start_interval;
    to->initiator = from->initiator;
    to->failure = from->failure;
    to->last_completion_result = from->last_completion_result;
    to->memo = tn_memo_without_nil(tx->arena, from->memo);
    to->search_attributes = tn_attrs_without_nil(tx->arena, from->search_attributes);
    to->inherit_build_id = from->inherit_build_id;
    to->initial_versioning_behavior = from->initial_versioning_behavior;
    tn_tx_close(tx, event);
}
