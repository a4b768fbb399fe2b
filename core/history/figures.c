/* SPDX-License-Identifier: MIT */
/* The role's numbers: the limits of a transition, from dynamic config, and what is counted of every commit, under the
 * names that dashboards know.  What an event tells is counted from its packed bytes when its commit is durable. */
#include <math.h>

#include "config/dynconfig.h"
#include "history/priv.h"
#include "metrics/metrics.h"
#include "proto/proto.h"

/* ---- limits ---- */

static int64_t number(tn_dyn_key key, tn_str ns) { return tn_dyn_i64(key, ns, TN_STR("")); }

void tn_history_limits(tn_str ns, tn_machine_limits *out)
{
    tn_machine_limits_default(out);
    out->blob_bytes_max = number(TN_DYN_LIMIT_BLOB_SIZE_ERROR, ns);
    out->blob_bytes_warn = number(TN_DYN_LIMIT_BLOB_SIZE_WARN, ns);
    out->memo_bytes_max = number(TN_DYN_LIMIT_MEMO_SIZE_ERROR, ns);
    out->history_bytes_max = number(TN_DYN_LIMIT_HISTORY_SIZE_ERROR, ns);
    out->history_count_max = number(TN_DYN_LIMIT_HISTORY_COUNT_ERROR, ns);
    out->history_bytes_suggest = number(TN_DYN_LIMIT_HISTORY_SIZE_SUGGEST, ns);
    out->history_count_suggest = number(TN_DYN_LIMIT_HISTORY_COUNT_SUGGEST, ns);
    out->pending_activities_max = number(TN_DYN_LIMIT_PENDING_ACTIVITIES, ns);
    out->pending_children_max = number(TN_DYN_LIMIT_PENDING_CHILDREN, ns);
    out->pending_signals_max = number(TN_DYN_LIMIT_PENDING_SIGNALS, ns);
    out->pending_cancels_max = number(TN_DYN_LIMIT_PENDING_CANCELS, ns);
    out->signals_max = number(TN_DYN_HISTORY_SIGNALS, ns);
    out->buffered_events_max = number(TN_DYN_HISTORY_BUFFERED_EVENTS, ns);
    out->buffered_bytes_max = number(TN_DYN_HISTORY_BUFFERED_EVENTS_SIZE, ns);
    out->id_bytes_max = number(TN_DYN_LIMIT_ID_LENGTH, ns);
    out->failure_bytes_max = number(TN_DYN_LIMIT_ACTIVITY_FAILURE_SIZE_ERROR, ns);
    out->transaction_bytes_max = number(TN_DYN_SYSTEM_TRANSACTION_SIZE, ns);
    out->mutable_state_bytes_max = number(TN_DYN_LIMIT_STATE_SIZE_ERROR, ns);
    out->wft_heartbeat_max_ns = (uint64_t)number(TN_DYN_HISTORY_WFT_HEARTBEAT_TIMEOUT, ns);
    out->wft_timeout_default_ns = (uint64_t)number(TN_DYN_HISTORY_WFT_TIMEOUT, ns);
    out->wft_backoff_max_ns = (uint64_t)number(TN_DYN_HISTORY_WFT_RETRY_MAX, ns);
    out->updates_in_flight_max = number(TN_DYN_HISTORY_UPDATES_IN_FLIGHT, ns);
    out->updates_in_flight_bytes_max = number(TN_DYN_HISTORY_UPDATES_IN_FLIGHT_SIZE, ns);
    out->updates_max = number(TN_DYN_HISTORY_UPDATES, ns);
    out->updates_suggest = (int64_t)ceil(
        (double)out->updates_max * tn_dyn_f64(TN_DYN_HISTORY_UPDATES_SUGGEST, ns, TN_STR("")));
    out->discarded_events_max = number(TN_DYN_HISTORY_DISCARDED_EVENTS, TN_STR(""));
    out->reuse_interval_min_ns = (uint64_t)number(TN_DYN_HISTORY_ID_REUSE_INTERVAL, ns);
    out->callbacks_max = number(TN_DYN_CALLBACK_MAX, ns);
    out->callback_backoff_initial_ns = (uint64_t)number(TN_DYN_CALLBACK_RETRY_INITIAL, TN_STR(""));
    out->callback_backoff_max_ns = (uint64_t)number(TN_DYN_CALLBACK_RETRY_MAX, TN_STR(""));
    out->nexus_operations_max = number(TN_DYN_NEXUS_OPERATIONS, ns);
    out->nexus_service_bytes_max = number(TN_DYN_NEXUS_SERVICE_NAME, ns);
    out->nexus_operation_bytes_max = number(TN_DYN_NEXUS_OPERATION_NAME, ns);
    out->nexus_token_bytes_max = number(TN_DYN_NEXUS_TOKEN_LENGTH, ns);
    out->nexus_header_bytes_max = number(TN_DYN_NEXUS_HEADER_SIZE, ns);
    out->nexus_timeout_max_ns = (uint64_t)number(TN_DYN_NEXUS_TIMEOUT_MAX, ns);
    out->nexus_backoff_initial_ns = (uint64_t)number(TN_DYN_NEXUS_RETRY_INITIAL, TN_STR(""));
    out->nexus_backoff_max_ns = (uint64_t)number(TN_DYN_NEXUS_RETRY_MAX, TN_STR(""));
}

/* ---- counts ---- */

#define EVENT_TYPES 64

/* Up to two counters an event type: of the run or activity, and of the command that made it. */
static const struct {
    const char *life, *command;
} names[EVENT_TYPES] = {
    [2] = {"workflow_success", "complete_workflow_command"},
    [3] = {"workflow_failed", "fail_workflow_command"},
    [4] = {"workflow_timeout", NULL},
    [9] = {"failed_workflow_tasks", NULL},
    [10] = {NULL, "schedule_activity_command"},
    [12] = {"activity_success", NULL},
    [13] = {"activity_fail", NULL},
    [15] = {NULL, "cancel_activity_command"},
    [17] = {NULL, "start_timer_command"},
    [19] = {NULL, "cancel_timer_command"},
    [21] = {"workflow_cancel", "cancel_workflow_command"},
    [22] = {NULL, "cancel_external_workflow_command"},
    [25] = {NULL, "record_marker_command"},
    [27] = {"workflow_terminate", NULL},
    [28] = {"workflow_continued_as_new", "continue_as_new_command"},
    [29] = {NULL, "child_workflow_command"},
    [37] = {NULL, "signal_external_workflow_command"},
    [40] = {NULL, "upsert_workflow_search_attributes_command"},
    [46] = {NULL, "modify_workflow_properties_command"},
};
static const char *const timeouts[] = {NULL, "start_to_close_timeout", "schedule_to_start_timeout",
                                       "schedule_to_close_timeout", "heartbeat_timeout"};

/* One namespace's series, held by the thread that counts; another namespace in the same place takes it over. */
typedef struct series {
    uint64_t key;
    tn_counter *life[EVENT_TYPES], *command[EVENT_TYPES], *timeout[TN_COUNT_OF(timeouts)];
    tn_counter *sticky, *not_sticky;
    tn_histogram *transitions, *size, *count;
} series;
#define SERIES_HELD 32u

static tn_counter *counter_of(const char *name, const tn_label labels[2])
{
    return name ? tn_metrics_counter(name, "counted when its event is durable", labels, 2) : NULL;
}

static void fill(series *s, tn_str ns)
{
    const tn_label labels[] = {TN_LABEL("namespace", ns), TN_LABEL_Z("service_name", "history")};
    for (size_t i = 0; i < EVENT_TYPES; i++) {
        s->life[i] = counter_of(names[i].life, labels);
        s->command[i] = counter_of(names[i].command, labels);
    }
    for (size_t i = 0; i < TN_COUNT_OF(timeouts); i++)
        s->timeout[i] = counter_of(timeouts[i], labels);
    s->sticky = counter_of("complete_workflow_task_sticky_enabled_count", labels);
    s->not_sticky = counter_of("complete_workflow_task_sticky_disabled_count", labels);
    s->transitions =
        tn_metrics_histogram("state_transition_count", "transitions of runs that have closed",
                             TN_BUCKETS_COUNT, labels, 2);
    s->size = tn_metrics_histogram("history_size", "bytes of histories of runs that have closed",
                                   TN_BUCKETS_BYTES, labels, 2);
    s->count = tn_metrics_histogram("history_count", "events of histories of runs that have closed",
                                    TN_BUCKETS_COUNT, labels, 2);
}

static const series *series_of(const tn_namespace *ns)
{
    static __thread series held[SERIES_HELD];
    uint64_t key = tn_hash64_stable(tn_blob_of_str(ns->id), (tn_blob){NULL, 0}) | 1;
    series *s = &held[key % SERIES_HELD];
    if (s->key != key)
        fill(s, ns->name);
    s->key = key;
    return s;
}

static void count_timeout(const series *s, tn_blob packed)
{
    tn_arena *arena = tn_arena_create(0);
    tn_event *event = NULL;
    int32_t type = 0;
    if (tn_proto_unpack(&temporal__api__history__v1__history_event__descriptor, packed, arena,
                        (ProtobufCMessage **)(void *)&event, NULL) != TN_OK)
        event = NULL;
    if (event && event->event_type == 8 && event->workflow_task_timed_out_event_attributes)
        type = (int32_t)event->workflow_task_timed_out_event_attributes->timeout_type;
    else if (event && event->event_type == 14 && event->activity_task_timed_out_event_attributes &&
             event->activity_task_timed_out_event_attributes->failure &&
             event->activity_task_timed_out_event_attributes->failure->timeout_failure_info)
        type = (int32_t)event->activity_task_timed_out_event_attributes->failure
                   ->timeout_failure_info->timeout_type;
    if (type > 0 && type < (int32_t)TN_COUNT_OF(timeouts))
        tn_counter_inc(s->timeout[type]);
    tn_arena_destroy(arena);
}

static void count_event(const series *s, const tn_ms *ms, tn_blob packed)
{
    tn_wire_field field;
    uint64_t type = tn_wire_find(packed, 3, &field) ? field.value : 0;
    if (type >= EVENT_TYPES)
        return;
    if (s->life[type])
        tn_counter_inc(s->life[type]);
    if (s->command[type])
        tn_counter_inc(s->command[type]);
    if (type == 7)
        tn_counter_inc(ms->sticky_queue ? s->sticky : s->not_sticky);
    else if (type == 8 || type == 14)
        count_timeout(s, packed);
}

/* A memo in an event: of a start, of changed properties. */
static void warn_of_memo(tn_str ns, tn_str id, tn_blob event)
{
    static const struct {
        uint32_t attributes, memo;
    } places[] = {{6, 22}, {51, 2}};
    tn_wire_field inner, memo;
    for (size_t i = 0; i < TN_COUNT_OF(places); i++)
        if (tn_wire_find(event, places[i].attributes, &inner) &&
            tn_wire_find(inner.bytes, places[i].memo, &memo))
            tn_dyn_warn(TN_DYN_LIMIT_MEMO_SIZE_WARN, ns, id, (int64_t)memo.bytes.n);
}

/* As a whole where the reference looks at each blob by itself: what is a few bytes more says the same. */
static void warn(const tn_txn *txn, const tn_change *change)
{
    const tn_ms *ms = change->run->ms;
    tn_str ns = txn->ns->name, id = tn_str_from(txn->wf->workflow_id);
    tn_wire_field event;
    tn_dyn_warn(TN_DYN_LIMIT_HISTORY_SIZE_WARN, ns, id, ms->history_size_bytes);
    tn_dyn_warn(TN_DYN_LIMIT_HISTORY_COUNT_WARN, ns, id, ms->next_event_id - 1);
    tn_dyn_warn(TN_DYN_LIMIT_STATE_SIZE_WARN, ns, id, (int64_t)ms->bytes);
    for (tn_wire_iter it = tn_wire_begin(tn_buf_blob(&change->tx.events));
         tn_wire_next(&it, &event);) {
        tn_dyn_warn(TN_DYN_LIMIT_BLOB_SIZE_WARN, ns, id, (int64_t)event.bytes.n);
        warn_of_memo(ns, id, event.bytes);
    }
}

void tn_history_count(const tn_txn *txn, const tn_change *change)
{
    const tn_ms *ms = change->run->ms;
    tn_wire_field field;
    if (!change->tx.n_events)
        return;
    warn(txn, change);
    const series *s = series_of(txn->ns);
    for (tn_wire_iter it = tn_wire_begin(tn_buf_blob(&change->tx.events));
         tn_wire_next(&it, &field);)
        count_event(s, ms, field.bytes);
    if (tn_ms_running(ms))
        return;
    tn_histogram_observe(s->transitions, (double)ms->transition);
    tn_histogram_observe(s->size, (double)ms->history_size_bytes);
    tn_histogram_observe(s->count, (double)(ms->next_event_id - 1));
}
