/* SPDX-License-Identifier: MIT */
/* Commands about other runs: start a child, signal, request cancel. */
#include <string.h>

#include "history/machine/command.h"
#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

typedef Temporal__Api__Command__V1__StartChildWorkflowExecutionCommandAttributes child_attrs;

#define ATTRS_CASE(UPPER) \
    TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_##UPPER##_COMMAND_ATTRIBUTES

/* ---- namespaces ------------------------------------------------------------------------------ */

/* The id of the target's namespace (empty name: the run's own).  False: there is no such namespace,
 * the call itself fails. */
static bool find_namespace(tn_check *check, const char *name, tn_str *out_id)
{
    const tn_machine_env *env = check->tx->env;
    Temporal__Api__Errordetails__V1__NamespaceNotFoundFailure *detail;

    *out_id = env->ns_id;
    if (!*name || tn_str_is(env->ns_name, name))
        return true;
    *out_id =
        env->namespace_id ? env->namespace_id(env->user, tn_str_from(name)) : (tn_str){NULL, 0};
    if (out_id->n)
        return true;
    detail = TN_MSG(check->arena, temporal__api__errordetails__v1__namespace_not_found_failure);
    detail->namespace_ = tn_arena_strdup(check->arena, name);
    check->run->fault = tn_fault_detailed(check->arena, TN_GRPC_NOT_FOUND, &detail->base,
                                          "Namespace %s is not found.", name);
    return false;
}

/* After a check: the name was known then. */
static char *namespace_id_of(const tn_tx *tx, const char *name)
{
    tn_str id = tx->env->ns_id;

    if (*name && !tn_str_is(tx->env->ns_name, name) && tx->env->namespace_id)
        id = tx->env->namespace_id(tx->env->user, tn_str_from(name));
    return (char *)(uintptr_t)tn_arena_str(tx->arena, id).p;
}

static bool check_same_namespace(tn_check *check, int32_t cause, tn_str target_id)
{
    return tn_str_eq(target_id, check->tx->env->ns_id) || check->tx->env->cross_namespace ||
           tn_check_bad(check, cause, "cross namespace commands are not allowed");
}

/* ---- start child ----------------------------------------------------------------------------- */

static const char *check_override(const Temporal__Api__Workflow__V1__VersioningOverride *override)
{
    if (!override)
        return NULL;
    switch ((int) override->override_case) {
    case TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_AUTO_UPGRADE:
        return override->auto_upgrade ? NULL : "auto-upgrade override must be true";
    case TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_PINNED:
        if (!override->pinned->version)
            return "must provide version if override is pinned.";
        return override->pinned->behavior
                   ? NULL
                   : "must specify pinned override behavior if override is pinned.";
    case TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_ONE_TIME:
        return override->one_time->target_deployment_version
                   ? NULL
                   : "must provide target deployment version if override is one-time.";
    default:
        return NULL;
    }
}

static bool check_child_ids(tn_check *check, const child_attrs *attrs, const char *type)
{
    const char *id = attrs->workflow_id, *ns = attrs->namespace_;
    long long limit = (long long)check->limits->id_bytes_max;

    if (!*id)
        return tn_check_bad(
            check, TN_CAUSE_START_CHILD,
            "Required field WorkflowId is not set on StartChildWorkflowExecutionCommand. "
            "WorkflowType=%s Namespace=%s",
            type, ns);
    if (!*type)
        return tn_check_bad(
            check, TN_CAUSE_START_CHILD,
            "Required field WorkflowType is not set on StartChildWorkflowExecutionCommand. "
            "WorkflowId=%s Namespace=%s",
            id, ns);
    if ((long long)strlen(ns) > limit)
        return tn_check_bad(
            check, TN_CAUSE_START_CHILD,
            "Namespace on StartChildWorkflowExecutionCommand exceeds length limit. WorkflowId=%s "
            "WorkflowType=%s Namespace=%s Length=%zu Limit=%lld",
            id, type, ns, strlen(ns), limit);
    if ((long long)strlen(id) > limit)
        return tn_check_bad(
            check, TN_CAUSE_START_CHILD,
            "WorkflowId on StartChildWorkflowExecutionCommand exceeds length limit. WorkflowId=%s "
            "Length=%zu Limit=%lld WorkflowType=%s Namespace=%s",
            id, strlen(id), limit, type, ns);
    if ((long long)strlen(type) > limit)
        return tn_check_bad(check, TN_CAUSE_START_CHILD,
                            "WorkflowType on StartChildWorkflowExecutionCommand exceeds length "
                            "limit. WorkflowId=%s "
                            "WorkflowType=%s Length=%zu Limit=%lld Namespace=%s",
                            id, type, strlen(type), limit, ns);
    return true;
}

static const char *check_schedule(tn_check *check, const char *cron)
{
    uint64_t next_ns;
    char err[128];

    if (!*cron)
        return NULL;
    if (!tn_cron_next(tn_str_from(cron), check->tx->now_ns, check->tx->now_ns, &next_ns, err,
                      sizeof(err)))
        return "invalid CronSchedule.";
    return next_ns ? NULL : "invalid CronSchedule, no time can be found to satisfy the schedule";
}

/* Time-outs, retry policy, schedule, search attributes, priority, task queue: in that order. */
static bool settle_child(tn_check *check, child_attrs *attrs, const char *type, tn_str target_id)
{
    const struct {
        tn_pb_duration *duration;
        const char *name;
    } all[] = {{attrs->workflow_execution_timeout, "WorkflowExecutionTimeout"},
               {attrs->workflow_run_timeout, "WorkflowRunTimeout"},
               {attrs->workflow_task_timeout, "WorkflowTaskTimeout"}};
    const char *where = tn_arena_printf(check->arena, "WorkflowId=%s WorkflowType=%s Namespace=%s",
                                        attrs->workflow_id, type, attrs->namespace_);
    const tn_fault *fault;
    const char *text;

    for (size_t i = 0; i < TN_COUNT_OF(all); i++)
        if ((text = tn_duration_settle(all[i].duration)))
            return tn_check_bad(check, TN_CAUSE_START_CHILD,
                                "Invalid %s on StartChildWorkflowExecutionCommand: %s. %s",
                                all[i].name, text, where);
    if ((text = tn_retry_policy_settle(check->arena, attrs->retry_policy)))
        return tn_check_bad(
            check, TN_CAUSE_START_CHILD,
            "invalid WorkflowRetryPolicy on StartChildWorkflowExecutionCommand: %s. %s", text,
            where);
    if ((text = check_schedule(check, attrs->cron_schedule)))
        return tn_check_bad(check, TN_CAUSE_START_CHILD,
                            "invalid CronSchedule on StartChildWorkflowExecutionCommand: %s. %s",
                            text, where);
    if ((fault = tn_check_search_attributes(check, target_id, attrs->search_attributes)))
        return tn_check_bad(check, TN_CAUSE_SEARCH_ATTRIBUTES,
                            "invalid SearchAttributes on StartChildWorkflowCommand: " TN_STR_FMT
                            ". %s",
                            TN_STR_ARG(fault->message), where);
    if ((text = tn_priority_check(attrs->priority)))
        return tn_check_bad(check, TN_CAUSE_START_CHILD, "%s", text);
    if (!attrs->task_queue)
        attrs->task_queue = TN_MSG(check->arena, temporal__api__taskqueue__v1__task_queue);
    text = tn_task_queue_settle(check->arena, attrs->task_queue, check->ms->task_queue,
                                check->ms->task_queue, check->limits->id_bytes_max);
    if (text)
        return tn_check_bad(
            check, TN_CAUSE_START_CHILD,
            "invalid TaskQueue on StartChildWorkflowExecutionCommand: %s. %s TaskQueue=%s", text,
            where, tn_task_queue_text(check->arena, attrs->task_queue));
    attrs->workflow_run_timeout =
        tn_run_timeout_settle(check->arena, tn_duration_ns(attrs->workflow_run_timeout),
                              tn_duration_ns(attrs->workflow_execution_timeout));
    attrs->workflow_task_timeout = tn_wft_timeout_settle(
        check->arena, check->limits, tn_duration_ns(attrs->workflow_task_timeout),
        tn_duration_ns(attrs->workflow_run_timeout));
    return true;
}

static bool check_child_sizes(tn_check *check, const child_attrs *attrs)
{
    return tn_check_blob(
               check, TN_CAUSE_START_CHILD, tn_msg_bytes(attrs->input),
               "StartChildWorkflowExecutionCommandAttributes. Input exceeds size limit.") &&
           tn_check_memo(check, TN_CAUSE_START_CHILD, (int64_t)tn_msg_bytes(attrs->memo),
                         "StartChildWorkflowExecutionCommandAttributes.Memo exceeds size limit.") &&
           tn_check_search_attribute_sizes(check, TN_CAUSE_START_CHILD, attrs->search_attributes,
                                           (int64_t)tn_msg_bytes(attrs->search_attributes)) &&
           tn_check_limit(check, TN_CAUSE_PENDING_CHILDREN, check->n_children,
                          check->limits->pending_children_max, "pending child workflow executions");
}

bool tn_check_start_child(tn_check *check, const tn_command *command)
{
    child_attrs *attrs;
    const char *type, *text;
    tn_map_link *link;
    tn_str target_id;
    tn_blob id;

    if (command->attributes_case != ATTRS_CASE(START_CHILD_WORKFLOW_EXECUTION))
        return tn_check_bad(check, TN_CAUSE_START_CHILD,
                            "StartChildWorkflowExecutionCommandAttributes is not set on "
                            "StartChildWorkflowExecutionCommand.");
    attrs = command->start_child_workflow_execution_command_attributes;
    if (!find_namespace(check, attrs->namespace_, &target_id) ||
        !check_same_namespace(check, TN_CAUSE_START_CHILD, target_id))
        return false;
    if (!*attrs->namespace_)
        attrs->namespace_ =
            (char *)(uintptr_t)tn_arena_str(check->arena, check->tx->env->ns_name).p;
    type = attrs->workflow_type ? attrs->workflow_type->name : "";
    if (!check_child_ids(check, attrs, type) || !settle_child(check, attrs, type, target_id))
        return false;
    if ((text = check_override(attrs->versioning_override)))
        return tn_check_bad(check, TN_CAUSE_START_CHILD, "%s", text);
    if (attrs->inherit_build_id && strcmp(attrs->task_queue->name, check->ms->task_queue) != 0)
        return tn_check_bad(check, TN_CAUSE_START_CHILD,
                            "StartChildWorkflowExecution with UseCompatibleVersion cannot run on "
                            "different task queue.");
    if (!check_child_sizes(check, attrs))
        return false;
    if (attrs->parent_close_policy == 0)
        attrs->parent_close_policy =
            TEMPORAL__API__ENUMS__V1__PARENT_CLOSE_POLICY__PARENT_CLOSE_POLICY_TERMINATE;
    if (attrs->workflow_id_reuse_policy == 0)
        attrs->workflow_id_reuse_policy =
            TEMPORAL__API__ENUMS__V1__WORKFLOW_ID_REUSE_POLICY__WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE;
    id = tn_blob_of_str(tn_str_from(attrs->workflow_id));
    if (!tn_map_find(&check->children, id)) {
        link = tn_tx_alloc(check->tx, sizeof(*link));
        tn_map_insert(&check->children, link, id);
    }
    check->n_children++;
    return true;
}

void tn_do_start_child(tn_command_run *run, const tn_command *command)
{
    const child_attrs *from = command->start_child_workflow_execution_command_attributes;
    tn_tx *tx = run->tx;
    tn_event *event = tn_command_event(
        run, command,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED);
    Temporal__Api__History__V1__StartChildWorkflowExecutionInitiatedEventAttributes *to =
        TN_EVENT_ATTRS(tx, event, START_CHILD_WORKFLOW_EXECUTION_INITIATED,
                       start_child_workflow_execution_initiated);

    to->workflow_task_completed_event_id = run->wft_completed_id;
    to->namespace_ = from->namespace_;
    to->namespace_id = namespace_id_of(tx, from->namespace_);
    to->workflow_id = from->workflow_id;
    to->workflow_type = from->workflow_type;
    to->task_queue = from->task_queue;
    to->header = from->header;
    to->input = from->input;
    to->workflow_execution_timeout = from->workflow_execution_timeout;
    to->workflow_run_timeout = from->workflow_run_timeout;
    to->workflow_task_timeout = from->workflow_task_timeout;
    to->control = from->control;
    to->workflow_id_reuse_policy = from->workflow_id_reuse_policy;
    to->retry_policy = from->retry_policy;
    to->cron_schedule = from->cron_schedule;
    to->memo = tn_memo_without_nil(tx->arena, from->memo);
    to->search_attributes = tn_attrs_without_nil(tx->arena, from->search_attributes);
    to->parent_close_policy = from->parent_close_policy;
    to->inherit_build_id = from->inherit_build_id;
    to->priority = from->priority;
    to->versioning_override = from->versioning_override;
    tn_tx_add(tx, event);
}

/* ---- signal ---------------------------------------------------------------------------------- */

static bool is_uuid(const char *text)
{
    uint8_t id[16];

    return tn_uuid_parse(tn_str_from(text), id);
}

bool tn_check_signal_external(tn_check *check, const tn_command *command)
{
    const Temporal__Api__Command__V1__SignalExternalWorkflowExecutionCommandAttributes *attrs;
    const int32_t cause = TN_CAUSE_SIGNAL_EXTERNAL;
    long long limit = (long long)check->limits->id_bytes_max;
    const char *id, *run_id, *ns, *name;
    tn_str target_id;

    attrs = command->attributes_case == ATTRS_CASE(SIGNAL_EXTERNAL_WORKFLOW_EXECUTION)
                ? command->signal_external_workflow_execution_command_attributes
                : NULL;
    if (!attrs)
        return tn_check_bad(check, cause,
                            "SignalExternalWorkflowExecutionCommandAttributes is not set on "
                            "SignalExternalWorkflowExecutionCommand.");
    if (!find_namespace(check, attrs->namespace_, &target_id))
        return false;
    if (!attrs->execution)
        return tn_check_bad(check, cause,
                            "Execution is not set on SignalExternalWorkflowExecutionCommand.");
    if (!check_same_namespace(check, cause, target_id))
        return false;
    id = attrs->execution->workflow_id;
    run_id = attrs->execution->run_id;
    ns = attrs->namespace_;
    name = attrs->signal_name;
    if (!*id)
        return tn_check_bad(check, cause,
                            "WorkflowId is not set on SignalExternalWorkflowExecutionCommand. "
                            "Namespace=%s RunId=%s "
                            "SignalName=%s",
                            ns, run_id, name);
    if ((long long)strlen(ns) > limit)
        return tn_check_bad(check, cause,
                            "Namespace on SignalExternalWorkflowExecutionCommand exceeds length "
                            "limit. WorkflowId=%s "
                            "Namespace=%s Length=%zu Limit=%lld RunId=%s SignalName=%s",
                            id, ns, strlen(ns), limit, run_id, name);
    if ((long long)strlen(id) > limit)
        return tn_check_bad(check, cause,
                            "WorkflowId on SignalExternalWorkflowExecutionCommand exceeds length "
                            "limit. WorkflowId=%s "
                            "Length=%zu Limit=%lld Namespace=%s RunId=%s SignalName=%s",
                            id, strlen(id), limit, ns, run_id, name);
    if (*run_id && !is_uuid(run_id))
        return tn_check_bad(check, cause,
                            "Invalid RunId set on SignalExternalWorkflowExecutionCommand. "
                            "WorkflowId=%s Namespace=%s "
                            "RunId=%s SignalName=%s",
                            id, ns, run_id, name);
    if (!*name)
        return tn_check_bad(
            check, cause,
            "SignalName is not set on SignalExternalWorkflowExecutionCommand. WorkflowId=%s "
            "Namespace=%s RunId=%s",
            id, ns, run_id);
    if (!tn_check_limit(check, TN_CAUSE_PENDING_SIGNALS, check->n_signals,
                        check->limits->pending_signals_max,
                        "pending signals to external workflows"))
        return false;
    check->n_signals++;
    return tn_check_blob(
        check, cause, tn_msg_bytes(attrs->input),
        "SignalExternalWorkflowExecutionCommandAttributes.Input exceeds size limit.");
}

void tn_do_signal_external(tn_command_run *run, const tn_command *command)
{
    const Temporal__Api__Command__V1__SignalExternalWorkflowExecutionCommandAttributes *from =
        command->signal_external_workflow_execution_command_attributes;
    tn_tx *tx = run->tx;
    tn_event *event = tn_command_event(
        run, command,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED);
    Temporal__Api__History__V1__SignalExternalWorkflowExecutionInitiatedEventAttributes *to =
        TN_EVENT_ATTRS(tx, event, SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
                       signal_external_workflow_execution_initiated);

    to->workflow_task_completed_event_id = run->wft_completed_id;
    to->namespace_ = from->namespace_;
    to->namespace_id = namespace_id_of(tx, from->namespace_);
    to->workflow_execution = from->execution;
    to->signal_name = from->signal_name;
    to->input = from->input;
    to->control = from->control;
    to->child_workflow_only = from->child_workflow_only;
    to->header = from->header;
    tn_tx_add(tx, event);
}

/* ---- request cancel -------------------------------------------------------------------------- */

bool tn_check_request_cancel_external(tn_check *check, const tn_command *command)
{
    const Temporal__Api__Command__V1__RequestCancelExternalWorkflowExecutionCommandAttributes
        *attrs;
    const int32_t cause = TN_CAUSE_REQUEST_CANCEL_EXTERNAL;
    long long limit = (long long)check->limits->id_bytes_max;
    const char *id, *run_id, *ns;
    tn_str target_id;

    if (command->attributes_case != ATTRS_CASE(REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION))
        return tn_check_bad(check, cause,
                            "RequestCancelExternalWorkflowExecutionCommandAttributes is not set on "
                            "RequestCancelExternalWorkflowExecutionCommand.");
    attrs = command->request_cancel_external_workflow_execution_command_attributes;
    if (!find_namespace(check, attrs->namespace_, &target_id) ||
        !check_same_namespace(check, cause, target_id))
        return false;
    id = attrs->workflow_id;
    run_id = attrs->run_id;
    ns = attrs->namespace_;
    if (!*id)
        return tn_check_bad(
            check, cause,
            "WorkflowId is not set on RequestCancelExternalWorkflowExecutionCommand. Namespace=%s "
            "RunId=%s",
            ns, run_id);
    if ((long long)strlen(ns) > limit)
        return tn_check_bad(
            check, cause,
            "Namespace on RequestCancelExternalWorkflowExecutionCommand exceeds length limit. "
            "WorkflowId=%s RunId=%s Namespace=%s Length=%zu Limit=%lld",
            id, run_id, ns, strlen(ns), limit);
    if ((long long)strlen(id) > limit)
        return tn_check_bad(
            check, cause,
            "WorkflowId on RequestCancelExternalWorkflowExecutionCommand exceeds length limit. "
            "WorkflowId=%s Length=%zu Limit=%lld RunId=%s Namespace=%s",
            id, strlen(id), limit, run_id, ns);
    if (*run_id && !is_uuid(run_id))
        return tn_check_bad(
            check, cause,
            "Invalid RunId set on RequestCancelExternalWorkflowExecutionCommand. WorkflowId=%s "
            "RunId=%s Namespace=%s",
            id, run_id, ns);
    if (tn_map_find(&check->children, tn_blob_of_str(tn_str_from(id))))
        return tn_check_bad(
            check, cause,
            "Start and RequestCancel for child workflow is not allowed in same workflow task. "
            "WorkflowId=%s RunId=%s Namespace=%s",
            id, run_id, ns);
    if (!tn_check_limit(check, TN_CAUSE_PENDING_REQUEST_CANCEL, check->n_cancels,
                        check->limits->pending_cancels_max,
                        "pending requests to cancel external workflows"))
        return false;
    check->n_cancels++;
    return true;
}

void tn_do_request_cancel_external(tn_command_run *run, const tn_command *command)
{
    const Temporal__Api__Command__V1__RequestCancelExternalWorkflowExecutionCommandAttributes
        *from = command->request_cancel_external_workflow_execution_command_attributes;
    tn_tx *tx = run->tx;
    tn_event *event = tn_command_event(
        run, command,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED);
    Temporal__Api__History__V1__RequestCancelExternalWorkflowExecutionInitiatedEventAttributes *to =
        TN_EVENT_ATTRS(tx, event, REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
                       request_cancel_external_workflow_execution_initiated);

    to->workflow_task_completed_event_id = run->wft_completed_id;
    to->namespace_ = from->namespace_;
    to->namespace_id = namespace_id_of(tx, from->namespace_);
    to->workflow_execution = TN_MSG(tx->arena, temporal__api__common__v1__workflow_execution);
    to->workflow_execution->workflow_id = from->workflow_id;
    to->workflow_execution->run_id = from->run_id;
    to->control = from->control;
    to->child_workflow_only = from->child_workflow_only;
    to->reason = from->reason;
    tn_tx_add(tx, event);
}
