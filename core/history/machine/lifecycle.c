/* SPDX-License-Identifier: MIT */
/* A run's beginning, its end, and what clients do to it in between: start, release, signal, cancel,
 * terminate, attach a request id, hold the limits. */
#include "history/machine/machine.h"

#include <string.h>

#include "history/machine/nexus.h"
#include "history/machine/object.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request;

void tn_machine_limits_default(tn_machine_limits *limits)
{
    *limits = (tn_machine_limits){
        .blob_bytes_max = 2 * 1024 * 1024,
        .blob_bytes_warn = 512 * 1024,
        .memo_bytes_max = 2 * 1024 * 1024,
        .history_bytes_max = 50 * 1024 * 1024,
        .history_count_max = 50 * 1024,
        .history_bytes_suggest = 4 * 1024 * 1024,
        .history_count_suggest = 4 * 1024,
        .pending_activities_max = 2000,
        .pending_children_max = 2000,
        .pending_signals_max = 2000,
        .pending_cancels_max = 2000,
        .signals_max = 10000,
        .buffered_events_max = 100,
        .buffered_bytes_max = 2 * 1024 * 1024,
        .id_bytes_max = 1000,
        .failure_bytes_max = 4 * 1024,
        .transaction_bytes_max = 4 * 1024 * 1024,
        .mutable_state_bytes_max = 8 * 1024 * 1024,
        .wft_heartbeat_max_ns = 30 * 60 * TN_SEC,
        .wft_timeout_default_ns = 10 * TN_SEC,
        .wft_timeout_max_ns = 120 * TN_SEC,
        .wft_backoff_initial_ns = 5 * TN_SEC,
        .wft_backoff_max_ns = 10 * 60 * TN_SEC,
        .reuse_interval_min_ns = TN_SEC,
        .updates_in_flight_max = 10,
        .updates_in_flight_bytes_max = 20 * 1024 * 1024,
        .updates_max = 2000,
        .updates_suggest = 1800,
        .discarded_events_max = 10,
        .callbacks_max = 2000,
        .nexus_operations_max = 30,
        .nexus_service_bytes_max = 1000,
        .nexus_operation_bytes_max = 1000,
        .nexus_token_bytes_max = 4096,
        .nexus_header_bytes_max = 8192,
        .nexus_backoff_initial_ns = TN_SEC,
        .nexus_backoff_max_ns = 3600 * TN_SEC,
        .callback_backoff_initial_ns = TN_SEC,
        .callback_backoff_max_ns = 3600 * TN_SEC,
    };
}

static const tn_fault *completed(tn_tx *tx)
{
    return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "workflow execution already completed");
}

/* ---- start ----------------------------------------------------------------------------------- */

/* SignalWithStart carries the same fields as Start. */
static const start_request *request_of_signal(
    tn_tx *tx,
    const Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest *from)
{
    start_request *to =
        TN_MSG(tx->arena, temporal__api__workflowservice__v1__start_workflow_execution_request);

    to->namespace_ = from->namespace_;
    to->workflow_id = from->workflow_id;
    to->workflow_type = from->workflow_type;
    to->task_queue = from->task_queue;
    to->input = from->input;
    to->workflow_execution_timeout = from->workflow_execution_timeout;
    to->workflow_run_timeout = from->workflow_run_timeout;
    to->workflow_task_timeout = from->workflow_task_timeout;
    to->identity = from->identity;
    to->request_id = from->request_id;
    to->retry_policy = from->retry_policy;
    to->cron_schedule = from->cron_schedule;
    to->memo = from->memo;
    to->search_attributes = from->search_attributes;
    to->header = from->header;
    to->workflow_start_delay = from->workflow_start_delay;
    to->user_metadata = from->user_metadata;
    to->n_links = from->n_links;
    to->links = from->links;
    to->versioning_override = from->versioning_override;
    to->priority = from->priority;
    to->time_skipping_config = from->time_skipping_config;
    return to;
}

Temporal__Api__Common__V1__Memo *tn_memo_without_nil(tn_arena *arena,
                                                     Temporal__Api__Common__V1__Memo *memo)
{
    Temporal__Api__Common__V1__Memo *to;

    if (!memo || !memo->n_fields)
        return NULL;
    to = TN_MSG(arena, temporal__api__common__v1__memo);
    to->fields = tn_arena_array(arena, memo->n_fields, sizeof(to->fields[0]));
    TN_ASSERT(to->fields);
    for (size_t i = 0; i < memo->n_fields; i++)
        if (!tn_payload_is_nil(memo->fields[i]->value))
            to->fields[to->n_fields++] = memo->fields[i];
    return to->n_fields ? to : NULL;
}

Temporal__Api__Common__V1__SearchAttributes *tn_attrs_without_nil(
    tn_arena *arena, Temporal__Api__Common__V1__SearchAttributes *attrs)
{
    Temporal__Api__Common__V1__SearchAttributes *to;

    if (!attrs || !attrs->n_indexed_fields)
        return NULL;
    to = TN_MSG(arena, temporal__api__common__v1__search_attributes);
    to->indexed_fields =
        tn_arena_array(arena, attrs->n_indexed_fields, sizeof(to->indexed_fields[0]));
    TN_ASSERT(to->indexed_fields);
    for (size_t i = 0; i < attrs->n_indexed_fields; i++)
        if (!tn_payload_is_nil(attrs->indexed_fields[i]->value))
            to->indexed_fields[to->n_indexed_fields++] = attrs->indexed_fields[i];
    return to->n_indexed_fields ? to : NULL;
}

static void fill_from_request(tn_tx *tx, const start_request *r, tn_started_attrs *a)
{
    a->workflow_type = r->workflow_type;
    a->task_queue = r->task_queue;
    a->header = r->header;
    a->input = r->input;
    a->workflow_run_timeout = r->workflow_run_timeout;
    a->workflow_execution_timeout = r->workflow_execution_timeout;
    if (!tn_duration_ns(a->workflow_run_timeout) && tn_duration_ns(a->workflow_execution_timeout))
        a->workflow_run_timeout = a->workflow_execution_timeout;
    a->workflow_task_timeout = r->workflow_task_timeout;
    if (!tn_duration_ns(a->workflow_task_timeout))
        a->workflow_task_timeout =
            tn_duration_from_ns(tx->arena, (int64_t)tx->env->limits->wft_timeout_default_ns);
    if (tn_duration_ns(a->workflow_run_timeout) &&
        tn_duration_ns(a->workflow_run_timeout) < tn_duration_ns(a->workflow_task_timeout))
        a->workflow_task_timeout = a->workflow_run_timeout;
    a->identity = r->identity;
    a->retry_policy = r->retry_policy;
    a->cron_schedule = r->cron_schedule;
    a->memo = tn_memo_without_nil(tx->arena, r->memo);
    a->search_attributes = tn_attrs_without_nil(tx->arena, r->search_attributes);
    a->n_completion_callbacks = r->n_completion_callbacks;
    a->completion_callbacks = r->completion_callbacks;
    a->priority = r->priority;
    a->versioning_override = tn_override_settle(tx->arena, r->versioning_override);
    a->last_completion_result = r->last_completion_result;
    a->continued_failure = r->continued_failure;
    a->workflow_id = tx->ms->workflow_id;
    a->original_execution_run_id = tx->ms->run_id_text;
}

/* A text as SDKs read it: one JSON payload.  The text is plain: nothing in it needs an escape. */
Temporal__Api__Common__V1__Payloads *tn_payloads_of_text(tn_arena *arena, tn_str text)
{
    Temporal__Api__Common__V1__Payloads *to = TN_MSG(arena, temporal__api__common__v1__payloads);
    Temporal__Api__Common__V1__Payload *payload = TN_MSG(arena, temporal__api__common__v1__payload);
    Temporal__Api__Common__V1__Payload__MetadataEntry *entry =
        TN_MSG(arena, temporal__api__common__v1__payload__metadata_entry);
    char *json = tn_arena_printf(arena, "\"" TN_STR_FMT "\"", TN_STR_ARG(text));

    to->payloads = tn_arena_array(arena, 1, sizeof(to->payloads[0]));
    payload->metadata = tn_arena_array(arena, 1, sizeof(payload->metadata[0]));
    TN_ASSERT(json && to->payloads && payload->metadata);
    entry->key = (char *)(uintptr_t) "encoding";
    entry->value =
        (ProtobufCBinaryData){sizeof("json/plain") - 1, (uint8_t *)(uintptr_t) "json/plain"};
    payload->metadata[payload->n_metadata++] = entry;
    payload->data = (ProtobufCBinaryData){text.n + 2, (uint8_t *)json};
    to->payloads[to->n_payloads++] = payload;
    return to;
}

static Temporal__Api__Common__V1__WorkflowExecution *execution(tn_tx *tx, tn_str workflow_id,
                                                               tn_str run_id)
{
    Temporal__Api__Common__V1__WorkflowExecution *to =
        TN_MSG(tx->arena, temporal__api__common__v1__workflow_execution);

    to->workflow_id = tn_tx_text(tx, workflow_id);
    to->run_id = tn_tx_text(tx, run_id);
    return to;
}

static void fill_parent(tn_tx *tx, const tn_start *start, tn_started_attrs *a)
{
    if (start->parent_workflow_id.n) {
        a->parent_workflow_namespace_id = tn_tx_text(tx, start->parent_ns_id);
        a->parent_workflow_namespace = tn_tx_text(tx, start->parent_ns_name);
        a->parent_workflow_execution =
            execution(tx, start->parent_workflow_id, start->parent_run_id);
        a->parent_initiated_event_id = start->parent_initiated_id;
    }
    if (start->root_workflow_id.n)
        a->root_workflow_execution = execution(tx, start->root_workflow_id, start->root_run_id);
}

static void fill_heritage(tn_tx *tx, const tn_start *start, tn_started_attrs *a)
{
    tn_heritage from_parent = {.pinned = start->parent_pinned,
                               .upgrade = start->parent_upgrade,
                               .upgrade_revision = start->parent_upgrade_revision,
                               .override = a->versioning_override};

    if (tn_dver_is(start->parent_pinned) || tn_dver_is(start->parent_upgrade))
        tn_heritage_put(tx->arena, &from_parent, a);
}

uint64_t tn_cron_backoff_ns(const char *cron, uint64_t scheduled_ns, uint64_t now_ns)
{
    uint64_t next_ns, delay_ns;
    char err[128];

    if (!cron || !*cron ||
        !tn_cron_next(tn_str_from(cron), scheduled_ns, now_ns, &next_ns, err, sizeof(err)) ||
        !next_ns)
        return UINT64_MAX;
    delay_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    return (delay_ns + TN_SEC - 1) / TN_SEC * TN_SEC;
}

static void fill_times(tn_tx *tx, const start_request *r, tn_started_attrs *a)
{
    uint64_t execution_ns = tn_duration_ns(r->workflow_execution_timeout);
    uint64_t delay_ns = tn_duration_ns(r->workflow_start_delay), cron_ns, expire_ns;

    if (execution_ns) {
        expire_ns = (tx->now_ns + execution_ns + TN_MS / 2) / TN_MS * TN_MS;
        a->workflow_execution_expiration_time = tn_ts_from_ns(tx->arena, (int64_t)expire_ns);
    }
    if (r->cron_schedule && *r->cron_schedule) {
        a->initiator = 3; /* CRON_SCHEDULE */
        cron_ns = tn_cron_backoff_ns(r->cron_schedule, tx->now_ns, tx->now_ns);
        if (!delay_ns && cron_ns != UINT64_MAX)
            delay_ns = cron_ns;
    }
    a->first_workflow_task_backoff = tn_duration_from_ns(tx->arena, (int64_t)delay_ns);
    a->attempt = 1;
}

static void add_signal(tn_tx *tx, const char *name, Temporal__Api__Common__V1__Payloads *input,
                       const char *identity, Temporal__Api__Common__V1__Header *header,
                       const char *request_id, size_t n_links,
                       Temporal__Api__Common__V1__Link **links, const tn_external_source *source)
{
    tn_event *event = tn_tx_event(tx, 26);
    Temporal__Api__History__V1__WorkflowExecutionSignaledEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_SIGNALED, workflow_execution_signaled);

    a->signal_name = (char *)(uintptr_t)name;
    a->input = input;
    a->identity = (char *)(uintptr_t)identity;
    a->header = header;
    a->request_id = (char *)(uintptr_t)request_id;
    if (source)
        a->external_workflow_execution = execution(tx, source->workflow_id, source->run_id);
    event->n_links = n_links;
    event->links = links;
    tn_tx_add(tx, event);
}

static const tn_fault *check_signal(tn_tx *tx, const Temporal__Api__Common__V1__Payloads *input)
{
    tn_ms *ms = tx->ms;
    const tn_machine_limits *limits = tx->env->limits;
    int64_t waiting = 0;

    if (input && limits->blob_bytes_max > 0 &&
        protobuf_c_message_get_packed_size(&input->base) > (size_t)limits->blob_bytes_max)
        return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, "Blob data size exceeds limit.");
    TN_LIST_FOREACH (link, &ms->buffered)
        waiting += TN_CONTAINER_OF(link, tn_buffered, link)->event_type == 26;
    if (limits->signals_max > 0 && ms->signal_count + waiting >= limits->signals_max)
        return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT,
                             "exceeded workflow execution limit for signal events");
    if (ms->close_attempted && tn_ms_wft_started(ms))
        return tn_fault_exhausted(
            tx->arena, 5, 1, /* BUSY_WORKFLOW, NAMESPACE */
            "workflow operation can not be applied because workflow is closing");
    return NULL;
}

const tn_fault *tn_machine_start(tn_tx *tx, const tn_start *start)
{
    tn_ms *ms = tx->ms;
    const start_request *r = start->request ? start->request : request_of_signal(tx, start->signal);
    const tn_fault *fault = start->signal ? check_signal(tx, start->signal->signal_input)
                                          : tn_callbacks_too_many(tx, r->n_completion_callbacks);
    tn_event *event;
    tn_started_attrs *a;

    TN_ASSERT(ms->next_event_id == 1);
    if (fault)
        return fault;
    event = tn_tx_event(tx, 1);
    a = TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_STARTED, workflow_execution_started);
    fill_from_request(tx, r, a);
    fill_times(tx, r, a);
    fill_parent(tx, start, a);
    fill_heritage(tx, start, a);
    a->first_execution_run_id = ms->run_id_text;
    a->eager_execution_accepted = start->eager;
    event->user_metadata = r->user_metadata;
    event->n_links = r->n_links;
    event->links = r->links;
    tn_tx_add(tx, event);
    tn_ms_set_create_request_id(ms, tn_str_from(r->request_id));
    ms->held = start->hold;
    tx->extras_dirty = start->hold;
    if (start->signal)
        add_signal(tx, start->signal->signal_name, start->signal->signal_input,
                   start->signal->identity, start->signal->header, start->signal->request_id,
                   start->signal->n_links, start->signal->links, NULL);
    tn_tx_schedule_wft(tx);
    return NULL;
}

const tn_fault *tn_machine_release(tn_tx *tx)
{
    tn_ms *ms = tx->ms;

    if (!tn_ms_running(ms) || !ms->held)
        return NULL;
    ms->held = false;
    tx->extras_dirty = true;
    tn_tx_schedule_wft(tx);
    return NULL;
}

/* ---- signal and cancel ----------------------------------------------------------------------- */

static bool signal_seen(const tn_tx *tx, tn_str request_id)
{
    const tn_ms *ms = tx->ms;

    if (!request_id.n)
        return false;
    for (size_t i = 0; i < ms->n_signal_request_ids; i++)
        if (tn_str_is(request_id, ms->signal_request_ids[i]))
            return true;
    return tn_tx_has_buffered_signal(tx, request_id);
}

const tn_fault *tn_machine_signal(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *request,
    const tn_external_source *source)
{
    const tn_fault *fault;

    if (signal_seen(tx, tn_str_from(request->request_id)))
        return NULL;
    if (!tn_ms_running(tx->ms))
        return completed(tx);
    fault = check_signal(tx, request->input);
    if (fault)
        return fault;
    add_signal(tx, request->signal_name, request->input, request->identity, request->header,
               request->request_id, request->n_links, request->links, source);
    tn_tx_schedule_wft(tx);
    return NULL;
}

const tn_fault *tn_machine_signal_with_start(
    tn_tx *tx,
    const Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest *request)
{
    const tn_fault *fault;

    if (!tn_ms_running(tx->ms))
        return completed(tx);
    fault = check_signal(tx, request->signal_input);
    if (fault)
        return fault;
    if (signal_seen(tx, tn_str_from(request->request_id)))
        return NULL;
    add_signal(tx, request->signal_name, request->signal_input, request->identity, request->header,
               request->request_id, request->n_links, request->links, NULL);
    tn_tx_schedule_wft_anyhow(tx); /* ends a start delay early */
    return NULL;
}

const tn_fault *tn_machine_request_cancel(
    tn_tx *tx,
    const Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *request,
    const tn_external_source *source)
{
    tn_event *event;
    Temporal__Api__History__V1__WorkflowExecutionCancelRequestedEventAttributes *a;

    if (!tn_ms_running(tx->ms) || tx->ms->cancel_requested_id)
        return NULL; /* asking twice, or too late, is no mistake */
    event = tn_tx_event(tx, 20);
    a = TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_CANCEL_REQUESTED,
                       workflow_execution_cancel_requested);
    a->cause = request->reason;
    a->identity = request->identity;
    if (source) {
        a->external_initiated_event_id = source->initiated_id;
        a->external_workflow_execution = execution(tx, source->workflow_id, source->run_id);
    }
    event->n_links = request->n_links;
    event->links = request->links;
    tn_tx_add(tx, event);
    tn_tx_schedule_wft_anyhow(tx);
    return NULL;
}

const tn_fault *tn_machine_attach(tn_tx *tx, const start_request *request)
{
    const Temporal__Api__Workflow__V1__OnConflictOptions *options = request->on_conflict_options;
    tn_str request_id = tn_str_from(options->attach_request_id ? request->request_id : "");
    size_t n = options->attach_completion_callbacks ? request->n_completion_callbacks : 0;
    const tn_fault *fault;
    tn_event *event;
    Temporal__Api__History__V1__WorkflowExecutionOptionsUpdatedEventAttributes *a;

    if (!tn_ms_running(tx->ms))
        return completed(tx);
    if (request_id.n && tn_ms_has_request_id(tx->ms, request_id))
        return NULL;
    fault = tn_callbacks_too_many(tx, n);
    if (fault)
        return fault;
    event = tn_tx_event(tx, 55);
    event->worker_may_ignore = true;
    a = TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_OPTIONS_UPDATED,
                       workflow_execution_options_updated);
    a->attached_request_id = tn_tx_text(tx, request_id);
    a->n_attached_completion_callbacks = n;
    a->attached_completion_callbacks = request->completion_callbacks;
    if (options->attach_links) {
        event->n_links = request->n_links;
        event->links = request->links;
    }
    if (tn_tx_add(tx, event) == TN_ID_BUFFERED)
        tn_ms_attach_request_id(tx->ms, request_id, 0);
    return NULL;
}

/* ---- the end --------------------------------------------------------------------------------- */

void tn_tx_close(tn_tx *tx, tn_event *event)
{
    tn_tx_add_now(tx, event);
    tx->in_commands = false;
    tx->ms->retention_due_ns = tx->ms->close_ns + tx->env->retention_ns;
}

/* Ends a started workflow task by force, so that nothing stands between it and the closing
 * event. */
static void force_wft(tn_tx *tx)
{
    if (tn_ms_wft_started(tx->ms)) {
        tn_tx_fail_wft(tx, 17, NULL, TN_STR("history-service"));
        tn_tx_flush_buffered(tx);
    }
}

void tn_tx_terminate(tn_tx *tx, tn_str reason, const Temporal__Api__Common__V1__Payloads *details,
                     tn_str identity)
{
    tn_event *event;
    Temporal__Api__History__V1__WorkflowExecutionTerminatedEventAttributes *a;

    force_wft(tx);
    event = tn_tx_event(tx, 27);
    a = TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_TERMINATED, workflow_execution_terminated);
    a->reason = tn_tx_text(tx, reason);
    a->details = (Temporal__Api__Common__V1__Payloads *)(uintptr_t)details;
    a->identity = tn_tx_text(tx, identity);
    tn_tx_close(tx, event);
}

const tn_fault *tn_machine_terminate(tn_tx *tx, tn_str reason,
                                     const Temporal__Api__Common__V1__Payloads *details,
                                     tn_str identity)
{
    if (!tn_ms_running(tx->ms))
        return completed(tx);
    tn_tx_terminate(tx, reason, details, identity);
    return NULL;
}

void tn_machine_delete(tn_tx *tx)
{
    if (tn_ms_running(tx->ms) && tx->ms->kind)
        tn_object_give_way(tx);
    else if (tn_ms_running(tx->ms))
        tn_tx_terminate(tx, TN_STR("Delete workflow execution"), NULL, TN_STR("history-service"));
    else if (tx->ms->retention_due_ns <= tx->now_ns)
        return; /* it is on its way already */
    tx->ms->retention_due_ns = tx->now_ns;
    tx->extras_dirty = true;
}

void tn_tx_time_out_run(tn_tx *tx, int32_t retry_state, const char *new_run_id)
{
    tn_event *event;
    Temporal__Api__History__V1__WorkflowExecutionTimedOutEventAttributes *a;

    force_wft(tx);
    event = tn_tx_event(tx, 4);
    a = TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_TIMED_OUT, workflow_execution_timed_out);
    a->retry_state = (Temporal__Api__Enums__V1__RetryState)retry_state;
    a->new_execution_run_id = tn_tx_text(tx, tn_str_from(new_run_id));
    tn_tx_close(tx, event);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static bool buffer_too_big(const tn_tx *tx)
{
    const tn_machine_limits *limits = tx->env->limits;

    return (limits->buffered_events_max > 0 &&
            tx->ms->n_buffered > (size_t)limits->buffered_events_max) ||
           (limits->buffered_bytes_max > 0 &&
            tx->ms->buffered_bytes > (size_t)limits->buffered_bytes_max);
}

static const char *over_limit(const tn_tx *tx)
{
    const tn_machine_limits *limits = tx->env->limits;
    const tn_ms *ms = tx->ms;

    if (limits->history_bytes_max > 0 && ms->history_size_bytes > limits->history_bytes_max)
        return "Workflow history size exceeds limit.";
    if (limits->history_count_max > 0 && ms->next_event_id - 1 > limits->history_count_max)
        return "Workflow history count exceeds limit.";
    if (limits->mutable_state_bytes_max > 0 &&
        ms->bytes - (ms->updates ? ms->updates->in_flight_bytes : 0) >
            (size_t)limits->mutable_state_bytes_max)
        return "Workflow mutable state size exceeds limit.";
    return NULL;
}

void tn_tx_finish(tn_tx *tx)
{
    tn_ms *ms = tx->ms;
    const char *reason;

    if (tx->rides_along || (!tx->n_events && !tx->extras_dirty))
        return;
    if (ms->kind) { /* its limits are its kind's */
        ms->extras_stale = false;
        return;
    }
    tn_tx_write_speculative(tx, TN_STR("")); /* no record may leave it out */
    if (tn_ms_running(ms) && tn_ms_wft_started(ms) && buffer_too_big(tx)) {
        tn_tx_fail_wft(tx, 17, NULL, TN_STR("history-service"));
        tn_tx_flush_buffered(tx);
        tn_tx_schedule_wft_anyhow(tx);
    }
    reason = tn_ms_running(ms) ? over_limit(tx) : NULL;
    if (reason)
        tn_tx_terminate(tx, tn_str_from(reason), NULL, TN_STR("history-service"));
    if (ms->extras_stale) {
        tx->extras_dirty = true;
        ms->extras_stale = false;
    }
    if (tx->next_run)
        tn_tx_finish(tx->next_run);
}
