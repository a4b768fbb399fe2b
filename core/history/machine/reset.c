/* SPDX-License-Identifier: MIT */
/* Reset: a new run whose history is that of another up to one of its workflow tasks, which fails in the new run.  What the
 * base run was told later, by signals, updates, changed options and by children that the new run has too, is told
 * to the new run as well.  The rim (history/op_reset.c) folds the common events; here is what comes after them. */
#include "history/machine/machine.h"

#include <string.h>

#include "history/machine/nexus.h"
#include "history/machine/parts.h"
#include "proto/proto.h"
#include "temporal/api/update/v1/message.pb-c.h"

#define CAUSE_RESET 20
#define SERVICE "history-service"
#define ORIGIN_REAPPLY 1 /* UpdateAdmittedEventOrigin */

/* ---- the new run ----------------------------------------------------------------------------- */

static Temporal__Api__Failure__V1__Failure *reset_failure(tn_tx *tx, tn_str reason,
                                                          tn_blob heartbeat_details)
{
    Temporal__Api__Failure__V1__Failure *failure =
        TN_MSG(tx->arena, temporal__api__failure__v1__failure);

    failure->message = tn_tx_text(tx, reason);
    failure->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_RESET_WORKFLOW_FAILURE_INFO;
    failure->reset_workflow_failure_info =
        TN_MSG(tx->arena, temporal__api__failure__v1__reset_workflow_failure_info);
    if (heartbeat_details.n)
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__common__v1__payloads, heartbeat_details, tx->arena,
                                  &failure->reset_workflow_failure_info->last_heartbeat_details,
                                  NULL) == TN_OK);
    return failure;
}

/* A task is there to fail: one that waits is started first.  After one that has failed or timed out another would have
 * come: it is a first attempt here, since it is written. */
static void fail_wft(tn_tx *tx, const tn_reset *reset)
{
    tn_ms *ms = tx->ms;

    if (!tn_ms_wft_pending(ms)) {
        ms->wft.attempt = 1;
        tn_tx_schedule_wft_anyhow(tx);
    }
    if (!tn_ms_wft_started(ms))
        tn_tx_start_wft(tx, &(tn_wft_start){
                                .identity = TN_STR(SERVICE),
                                .request_id = TN_STR("emptyUuid"),
                                .at_ns = tn_tx_event_time(tx),
                            });
    tn_tx_fail_wft_full(tx, &(tn_wft_failure){
                                .cause = CAUSE_RESET,
                                .failure = reset_failure(tx, reset->reason, (tn_blob){NULL, 0}),
                                .identity = TN_STR(SERVICE),
                                .base_run_id = reset->base_run_id,
                                .new_run_id = tn_str_from(ms->run_id_text),
                            });
    ms->problem_count = 0;
    tn_ms_replace_str(ms, &ms->problem_cause, TN_STR(""));
}

static void fail_started_activity(tn_tx *tx, tn_activity *activity, tn_str reason)
{
    tn_event *event = tn_tx_event(tx, 13);
    Temporal__Api__History__V1__ActivityTaskFailedEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, ACTIVITY_TASK_FAILED, activity_task_failed);

    a->failure = reset_failure(tx, reason, activity->heartbeat_details);
    a->scheduled_event_id = activity->scheduled_id;
    a->started_event_id = activity->started_id;
    a->identity = tn_tx_text(tx, tn_str_from(activity->identity));
    a->retry_state = TN_RETRY_NON_RETRYABLE_FAILURE;
    tn_tx_add_now(tx, event);
}

const tn_fault *tn_machine_reset(tn_tx *tx, const tn_reset *reset)
{
    tn_ms *ms = tx->ms;

    if (!tn_ms_running(ms) || (!tn_ms_wft_pending(ms) && ms->wft.attempt <= 1))
        return tn_fault_make(
            tx->arena, TN_GRPC_INVALID_ARGUMENT,
            "Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, "
            "WorkflowTaskStarted + 1]: %lld",
            (long long)ms->next_event_id);
    tn_ms_replace_str(ms, &ms->reset.base_run_id, reset->base_run_id);
    tn_ms_replace_str(ms, &ms->reset.request_id, reset->request_id);
    ms->reset.base_event_id = ms->next_event_id - 1;
    ms->reset.at_ns = tx->now_ns;
    tn_reset_rebase(ms);
    tx->extras_dirty = true;
    fail_wft(tx, reset);
    TN_LIST_FOREACH_SAFE (link, &ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (activity->started_id > 0)
            fail_started_activity(tx, activity, reset->reason);
        else
            tn_reset_reschedule(ms, activity);
    }
    return NULL;
}

static const tn_fault *post_reset_options(
    tn_tx *tx, const Temporal__Api__Workflow__V1__PostResetOperation__UpdateWorkflowOptions *wanted)
{
    Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionOptionsRequest *request = TN_MSG(
        tx->arena, temporal__api__workflowservice__v1__update_workflow_execution_options_request);
    Temporal__Api__Workflow__V1__WorkflowExecutionOptions *now;

    if (!wanted->workflow_execution_options || !wanted->update_mask)
        return NULL; /* nothing to merge */
    request->workflow_execution_options = wanted->workflow_execution_options;
    request->update_mask = wanted->update_mask;
    return tn_machine_update_options(tx, request, &now);
}

const tn_fault *tn_machine_post_reset(
    tn_tx *tx, const Temporal__Api__Workflow__V1__PostResetOperation *operation, tn_str identity)
{
    const Temporal__Api__Workflow__V1__PostResetOperation__SignalWorkflow *signal;
    tn_event *event;
    Temporal__Api__History__V1__WorkflowExecutionSignaledEventAttributes *a;

    if (operation->variant_case ==
        TEMPORAL__API__WORKFLOW__V1__POST_RESET_OPERATION__VARIANT_UPDATE_WORKFLOW_OPTIONS)
        return post_reset_options(tx, operation->update_workflow_options);
    if (operation->variant_case !=
        TEMPORAL__API__WORKFLOW__V1__POST_RESET_OPERATION__VARIANT_SIGNAL_WORKFLOW)
        return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT,
                             "unsupported post reset operation: <nil>");
    signal = operation->signal_workflow;
    event = tn_tx_event(tx, 26);
    a = TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_SIGNALED, workflow_execution_signaled);
    a->signal_name = signal->signal_name;
    a->input = signal->input;
    a->header = signal->header;
    a->identity = tn_tx_text(tx, identity);
    event->n_links = signal->n_links;
    event->links = signal->links;
    tn_tx_add(tx, event);
    return NULL;
}

void tn_machine_reset_end(tn_tx *tx) { tn_tx_schedule_wft_anyhow(tx); }

void tn_machine_tell_again(tn_tx *tx)
{
    tn_ms *ms = tx->ms;

    if (tn_ms_running(ms) || !ms->parent_told || ms->retention_due_ns <= tx->now_ns)
        return;
    ms->parent_told = ms->parent_dispatched = false;
    tx->extras_dirty = true;
}

void tn_machine_was_reset(tn_tx *tx, tn_str new_run_id)
{
    tn_ms_replace_str(tx->ms, &tx->ms->reset_run_id, new_run_id);
    tx->extras_dirty = true;
}

/* ---- what came later ------------------------------------------------------------------------- */

static void reapply_signal(tn_tx *tx, const tn_event *from)
{
    tn_event *event = tn_tx_event(tx, 26);
    Temporal__Api__History__V1__WorkflowExecutionSignaledEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_SIGNALED, workflow_execution_signaled);
    const Temporal__Api__History__V1__WorkflowExecutionSignaledEventAttributes *was =
        from->workflow_execution_signaled_event_attributes;

    a->signal_name = was->signal_name;
    a->input = was->input;
    a->identity = was->identity;
    a->header = was->header;
    a->request_id = was->request_id;
    event->n_links = from->n_links;
    event->links = from->links;
    tn_tx_add(tx, event);
}

/* An acceptance without its request follows an admission, which had it. */
static void reapply_update(tn_tx *tx, Temporal__Api__Update__V1__Request *request, int32_t origin)
{
    tn_event *event;
    Temporal__Api__History__V1__WorkflowExecutionUpdateAdmittedEventAttributes *a;

    if (!request || !request->meta || !*request->meta->update_id ||
        tn_ms_update(tx->ms, tn_str_from(request->meta->update_id)))
        return; /* one of its id is there: it was made in an earlier run of the chain too */
    event = tn_tx_event(tx, 47);
    a = TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_UPDATE_ADMITTED,
                       workflow_execution_update_admitted);
    a->request = request;
    a->origin = (Temporal__Api__Enums__V1__UpdateAdmittedEventOrigin)origin;
    tn_tx_add(tx, event);
}

/* An event that is the same in the new run. */
static void reapply_whole(tn_tx *tx, const tn_event *from)
{
    tn_event *event = tn_tx_event(tx, (int32_t)from->event_type);

    event->attributes_case = from->attributes_case;
    event->workflow_execution_started_event_attributes = /* the members of the union are pointers */
        from->workflow_execution_started_event_attributes;
    event->worker_may_ignore = from->worker_may_ignore;
    event->n_links = from->n_links;
    event->links = from->links;
    tn_tx_add(tx, event);
}

static const tn_fault *reapply_options(tn_tx *tx, const tn_event *from)
{
    const Temporal__Api__History__V1__WorkflowExecutionOptionsUpdatedEventAttributes *a =
        from->workflow_execution_options_updated_event_attributes;

    if (a->n_attached_completion_callbacks && *a->attached_request_id &&
        tn_ms_has_request_id(tx->ms, tn_str_from(a->attached_request_id))) {
        if (!a->versioning_override && !a->unset_versioning_override)
            return NULL;
        return tn_fault_make(
            tx->arena, TN_GRPC_INTERNAL,
            "unable to reapply WorkflowExecutionOptionsUpdated event: %zu completion "
            "callbacks are already attached but the event contains additional workflow "
            "option updates",
            a->n_attached_completion_callbacks);
    }
    reapply_whole(tx, from);
    return NULL;
}

/* ---- children and operations: those that the new run has too ------------------------------------------------- */

static int64_t initiated_by(const tn_event *event)
{
    switch ((int)event->event_type) {
    case 30:
        return event->start_child_workflow_execution_failed_event_attributes->initiated_event_id;
    case 31:
        return event->child_workflow_execution_started_event_attributes->initiated_event_id;
    case 32:
        return event->child_workflow_execution_completed_event_attributes->initiated_event_id;
    case 33:
        return event->child_workflow_execution_failed_event_attributes->initiated_event_id;
    case 34:
        return event->child_workflow_execution_canceled_event_attributes->initiated_event_id;
    case 35:
        return event->child_workflow_execution_timed_out_event_attributes->initiated_event_id;
    default:
        return event->child_workflow_execution_terminated_event_attributes->initiated_event_id;
    }
}

static int64_t *started_slot(const tn_event *event)
{
    switch ((int)event->event_type) {
    case 32:
        return &event->child_workflow_execution_completed_event_attributes->started_event_id;
    case 33:
        return &event->child_workflow_execution_failed_event_attributes->started_event_id;
    case 34:
        return &event->child_workflow_execution_canceled_event_attributes->started_event_id;
    case 35:
        return &event->child_workflow_execution_timed_out_event_attributes->started_event_id;
    case 36:
        return &event->child_workflow_execution_terminated_event_attributes->started_event_id;
    default:
        return NULL;
    }
}

static void reapply_child(tn_tx *tx, const tn_event *from)
{
    tn_child *child = tn_ms_child(tx->ms, initiated_by(from));
    int64_t *started = started_slot(from);

    if (!child || (from->event_type == 31 && child->started_id) ||
        (from->event_type == 30 && child->started_id) || (started && !child->started_id))
        return;
    if (started)
        *started = child->started_id; /* as it is in this history */
    reapply_whole(tx, from);
}

/* An operation that the new run waits for too goes on as it has gone on for the base run. */
static void reapply_nexus(tn_tx *tx, const tn_event *from)
{
    const tn_nexus_op *op = tn_ms_nexus_op(tx->ms, tn_nexus_scheduled_id(from));
    bool of_cancel = from->event_type >= 56;

    if (!op || (from->event_type == 49 && op->started_ns) ||
        (of_cancel && (!op->cancel_requested_id || op->cancel_done)))
        return;
    reapply_whole(tx, from);
}

/* ---- by type --------------------------------------------------------------------------------- */

const tn_fault *tn_machine_reapply(tn_tx *tx, const tn_event *event, uint32_t excluded)
{
    const Temporal__Api__History__V1__WorkflowExecutionUpdateAdmittedEventAttributes *admitted;

    if (!tn_event_well_formed(event))
        return NULL;
    switch ((int)event->event_type) {
    case 26:
        if (!(excluded & TN_REAPPLY_NO_SIGNALS))
            reapply_signal(tx, event);
        return NULL;
    case 47:
        admitted = event->workflow_execution_update_admitted_event_attributes;
        if (!(excluded & TN_REAPPLY_NO_UPDATES))
            reapply_update(tx, admitted->request, (int32_t)admitted->origin);
        return NULL;
    case 41:
        if (!(excluded & TN_REAPPLY_NO_UPDATES))
            reapply_update(
                tx, event->workflow_execution_update_accepted_event_attributes->accepted_request,
                ORIGIN_REAPPLY);
        return NULL;
    case 55:
        return reapply_options(tx, event);
    case 30:
    case 31:
    case 32:
    case 33:
    case 34:
    case 35:
    case 36:
        reapply_child(tx, event);
        return NULL;
    case 49:
    case 50:
    case 51:
    case 52:
    case 53:
    case 56:
    case 57:
        if (!(excluded & TN_REAPPLY_NO_NEXUS))
            reapply_nexus(tx, event);
        return NULL;
    default:
        return NULL;
    }
}
