/* SPDX-License-Identifier: MIT */
/* A worker has finished a workflow task: its commands become events, what waited in the buffer
 * follows, and a new task is scheduled when there is something new to see. */
#include "history/machine/machine.h"

#include "history/machine/priv.h"
#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest complete_request;

/* ---- the completed event --------------------------------------------------------------------- */

static void set_deployment(tn_tx *tx, const complete_request *request,
                           Temporal__Api__History__V1__WorkflowTaskCompletedEventAttributes *a)
{
    const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options =
        request->deployment_options;
    Temporal__Api__Deployment__V1__WorkerDeploymentVersion *version;
    const char *name = options ? options->deployment_name : NULL, *build_id = NULL;
    bool versioned = options && options->worker_versioning_mode == 2;

    if (name && *name)
        a->worker_deployment_name = (char *)(uintptr_t)name;
    else if (request->deployment)
        a->worker_deployment_name = request->deployment->series_name;
    /* Some workers report a behaviour without asking to be versioned. */
    a->versioning_behavior = options && !versioned ? 0 : request->versioning_behavior;
    if (versioned) {
        build_id = options->build_id;
    } else if (request->deployment) {
        name = request->deployment->series_name;
        build_id = request->deployment->build_id;
    }
    if (!name || !*name || !build_id || !*build_id)
        return;
    version = TN_MSG(tx->arena, temporal__api__deployment__v1__worker_deployment_version);
    version->deployment_name = (char *)(uintptr_t)name;
    version->build_id = (char *)(uintptr_t)build_id;
    a->deployment_version = version;
}

static int64_t add_completed_event(tn_tx *tx, const complete_request *request)
{
    tn_event *event = tn_tx_event(tx, 7);
    Temporal__Api__History__V1__WorkflowTaskCompletedEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, WORKFLOW_TASK_COMPLETED, workflow_task_completed);

    a->scheduled_event_id = tx->ms->wft.scheduled_id;
    a->started_event_id = tx->ms->wft.started_id;
    a->identity = request->identity;
    a->binary_checksum = request->binary_checksum;
    a->worker_version = request->worker_version_stamp;
    a->sdk_metadata = request->sdk_metadata;
    a->metering_metadata = request->metering_metadata;
    set_deployment(tx, request, a);
    return tn_tx_add_now(tx, event);
}

/* ---- stickiness ------------------------------------------------------------------------------ */

static bool set_sticky(tn_ms *ms, const complete_request *request)
{
    const Temporal__Api__Taskqueue__V1__StickyExecutionAttributes *sticky =
        request->sticky_attributes;
    tn_str name = {NULL, 0};
    uint64_t timeout_ns = 0;

    if (sticky && sticky->worker_task_queue) {
        name = tn_str_from(sticky->worker_task_queue->name);
        timeout_ns = tn_duration_ns(sticky->schedule_to_start_timeout);
    }
    if (tn_str_eq(name, tn_str_from(ms->sticky_queue)) && timeout_ns == ms->sticky_timeout_ns)
        return false;
    tn_ms_replace_str(ms, &ms->sticky_queue, name);
    ms->sticky_timeout_ns = timeout_ns;
    return true;
}

/* ---- failing --------------------------------------------------------------------------------- */

static const tn_fault *fail(tn_tx *tx, const complete_request *request, const tn_command_run *run)
{
    Temporal__Api__Failure__V1__Failure *failure;
    const tn_fault *fault =
        tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, TN_STR_FMT, TN_STR_ARG(run->message));

    /* Those that it was given are not tried again; those that wait still are. */
    tn_tx_end_sent_updates(tx);
    /* The same mistake again: nothing is written, and the task's own time-out slows the worker
     * down. */
    if (tx->ms->wft.attempt > 1 && run->cause != 1)
        return fault;
    failure = TN_MSG(tx->arena, temporal__api__failure__v1__failure);
    failure->message = tn_tx_text(tx, run->message);
    failure->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_SERVER_FAILURE_INFO;
    failure->server_failure_info =
        TN_MSG(tx->arena, temporal__api__failure__v1__server_failure_info);
    tn_tx_fail_wft_full(tx, &(tn_wft_failure){
                                .cause = run->cause,
                                .failure = failure,
                                .identity = tn_str_from(request->identity),
                                .checksum = tn_str_from(request->binary_checksum),
                            });
    if (run->terminate) {
        tn_tx_flush_buffered(tx);
        tn_tx_terminate(tx, run->message, NULL, TN_STR("history-service"));
        return fault;
    }
    tn_tx_schedule_wft_anyhow(tx);
    return fault;
}

/* ---- heartbeats ------------------------------------------------------------------------------ */

/* Only a heartbeat: local activities go on, nothing has happened in the workflow. */
static bool is_heartbeat(const complete_request *request)
{
    return request->force_create_new_workflow_task && !request->n_commands && !request->n_messages;
}

static bool heartbeats_too_long(const tn_tx *tx)
{
    uint64_t since_ns = tx->ms->wft.original_scheduled_ns;

    return since_ns && tx->env->limits->wft_heartbeat_max_ns &&
           tx->now_ns > since_ns + tx->env->limits->wft_heartbeat_max_ns;
}

static const tn_fault *end_heartbeats(tn_tx *tx)
{
    tn_ms *ms = tx->ms;

    tn_tx_time_out_wft(tx, false);
    tn_ms_replace_str(ms, &ms->sticky_queue, TN_STR(""));
    ms->sticky_timeout_ns = 0;
    tx->extras_dirty = true;
    tn_tx_schedule_wft_anyhow(tx);
    return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "workflow task heartbeat timeout");
}

/* ---- what comes next ------------------------------------------------------------------------- */

static void schedule_next(tn_tx *tx, const complete_request *request, uint64_t heartbeat_since_ns,
                          tn_wft_completed_out *out)
{
    tn_ms *ms = tx->ms;

    tn_tx_schedule_wft_anyhow(tx);
    if (!tn_ms_wft_pending(ms))
        return;
    if (heartbeat_since_ns) {
        ms->wft.original_scheduled_ns = heartbeat_since_ns;
        tx->extras_dirty = true;
    }
    if (!request->return_new_workflow_task || tn_ms_in_transition(ms))
        return; /* in transition: it is another version's */
    tn_tx_start_wft(tx, &(tn_wft_start){
                            .identity = tn_str_from(request->identity),
                            .request_id = TN_STR("request-from-RespondWorkflowTaskCompleted"),
                            .at_ns = tn_tx_event_time(tx),
                            .version = request->worker_version_stamp &&
                                               !request->worker_version_stamp->use_versioning
                                           ? request->worker_version_stamp
                                           : NULL,
                        });
    out->new_wft_wanted_inline = true;
}

/* What this completion would write at once, about; too much ends the run: it would never get
 * smaller. */
static const tn_fault *too_large(tn_tx *tx, const complete_request *request)
{
    int64_t max = tx->env->limits->transaction_bytes_max, size;
    Temporal__Api__Common__V1__Payloads *details;
    const tn_fault *fault;

    if (max <= 0 || !request->n_commands)
        return NULL;
    size = (int64_t)(protobuf_c_message_get_packed_size(&request->base) + tx->ms->buffered_bytes);
    if (size <= max)
        return NULL;
    fault = tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT,
                          "transaction size of %lld bytes exceeds limit of %lld bytes",
                          (long long)size, (long long)max);
    details = tn_payloads_of_text(tx->arena, fault->message);
    tn_tx_terminate(tx, TN_STR("Transaction size exceeds limit."), details,
                    TN_STR("history-service"));
    return fault;
}

static const tn_fault *refused(tn_tx *tx, const complete_request *request)
{
    if (tx->ms->status == 8 && request->force_create_new_workflow_task)
        return tn_fault_make(
            tx->arena, TN_GRPC_FAILED_PRECONDITION,
            "Workflow is paused and force create new workflow task is not allowed.");
    if (request->intermediate_page || request->page_number > 0)
        return tn_fault_make(
            tx->arena, TN_GRPC_FAILED_PRECONDITION,
            "workflow task completion pagination is disabled for this namespace " TN_STR_FMT,
            TN_STR_ARG(tx->env->ns_name));
    if (request->versioning_behavior && !request->deployment &&
        (!request->deployment_options || request->deployment_options->worker_versioning_mode != 2))
        return tn_fault_make(
            tx->arena, TN_GRPC_INVALID_ARGUMENT,
            "versioning behavior cannot be specified without deployment options being set "
            "with versioned mode");
    return NULL;
}

/* ---- speculative tasks ----------------------------------------------------------------------- */

/* Nothing but rejections, and the worker has not seen too much that it would see again: the task
 * may be as if it had never been. */
static bool leaves_no_trace(const tn_tx *tx, const complete_request *request,
                            const tn_command_run *run)
{
    const tn_ms *ms = tx->ms;
    int64_t shown = ms->next_event_id - (ms->last_completed_started_id + 2);
    bool forgets = request->capabilities &&
                   request->capabilities->discard_speculative_workflow_task_with_events;

    if (!ms->wft.speculative || request->n_commands || request->force_create_new_workflow_task)
        return false;
    if (shown > (forgets ? tx->env->limits->discarded_events_max : 0))
        return false;
    for (size_t i = 0; i < request->n_messages; i++)
        if (run->messages[i].word != TN_UPDATE_REJECTION)
            return false;
    return true;
}

static void discard(tn_tx *tx, tn_command_run *run)
{
    tn_ms *ms = tx->ms;

    tn_do_messages(run);
    tn_tx_reject_unprocessed(tx);
    tn_ms_clear_wft(ms);
    ms->wft.attempt = 1;
    if (set_sticky(ms, run->request))
        ms->extras_stale = true; /* not worth a commit */
    run->out->reset_history_event_id = ms->last_completed_started_id;
    if (!tn_ms_updates_wait(ms))
        return;
    if (run->request->return_new_workflow_task)
        run->out->speculate = true;
    else
        tn_tx_schedule_wft_anyhow(tx);
}

const tn_fault *tn_machine_wft_completed(tn_tx *tx, const Tenon__TaskToken *token,
                                         const complete_request *request, tn_wft_completed_out *out)
{
    tn_ms *ms = tx->ms;
    tn_command_run run = {.tx = tx, .request = request, .out = out};
    const tn_fault *fault;
    uint64_t heartbeat_since_ns = 0, version_changes;

    *out = (tn_wft_completed_out){0};
    if (!tn_tx_accept_wft_token(tx, token))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "Workflow task not found.");
    fault = refused(tx, request);
    if (fault)
        return fault;
    if (is_heartbeat(request)) {
        if (heartbeats_too_long(tx))
            return end_heartbeats(tx);
        heartbeat_since_ns = ms->wft.original_scheduled_ns;
    }
    fault = too_large(tx, request);
    if (fault)
        return fault;
    run.had_buffered = tn_ms_has_buffered(ms);
    run.wft_completed_id = ms->next_event_id + (ms->wft.transient ? 2 : 0);
    if (!tn_commands_check(&run))
        return run.fault ? run.fault : fail(tx, request, &run);
    if (leaves_no_trace(tx, request, &run)) {
        discard(tx, &run);
        return NULL;
    }
    tn_tx_write_transient(tx, tn_str_from(request->identity), request->worker_version_stamp);
    if (tn_ms_has_problem(ms))
        tx->visibility_dirty = true; /* it is over */
    version_changes = tn_ms_version_changes(ms);
    run.wft_completed_id = add_completed_event(tx, request);
    if (tn_ms_version_changes(ms) != version_changes) {
        tx->visibility_dirty = true;
        tn_ms_offer_again(ms, false);
    }
    /* A worker that the run is leaving is not stuck to. */
    if (!tn_ms_in_transition(ms) && set_sticky(ms, request))
        tx->extras_dirty = true;
    tx->in_commands = true;
    tn_commands_apply(&run);
    tx->in_commands = false;
    if (!tn_ms_running(ms))
        return NULL;
    if (!request->force_create_new_workflow_task)
        tn_tx_reject_unprocessed(tx);
    if (ms->status != 8 && (request->force_create_new_workflow_task || run.had_buffered ||
                            run.wants_wft || tn_ms_in_transition(ms)))
        schedule_next(tx, request, heartbeat_since_ns, out);
    else if (ms->status != 8 && tn_ms_updates_wait(ms) && request->return_new_workflow_task)
        out->speculate = true;
    else if (ms->status != 8 && tn_ms_updates_wait(ms))
        schedule_next(tx, request, 0, out);
    if (!tn_ms_wft_started(ms))
        tn_tx_flush_buffered(tx);
    return NULL;
}
