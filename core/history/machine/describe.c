/* SPDX-License-Identifier: MIT */
/* The state as clients see it: DescribeWorkflowExecution. */
#include "history/machine/machine.h"

#include <stdio.h>
#include <string.h>

#include "history/machine/nexus.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

/* "Never", as clients know it from the reference server: the first second of year 1. */
#define NO_TIME_S (-INT64_C(62135596800))

typedef Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse describe_response;

static char *text(const char *s) { return (char *)(uintptr_t)(s ? s : ""); }

static Temporal__Api__Common__V1__WorkflowExecution *execution(tn_arena *arena,
                                                               const char *workflow_id,
                                                               const char *run_id)
{
    Temporal__Api__Common__V1__WorkflowExecution *to =
        TN_MSG(arena, temporal__api__common__v1__workflow_execution);

    to->workflow_id = text(workflow_id);
    to->run_id = text(run_id);
    return to;
}

static Temporal__Api__Common__V1__Payload *payload_of(tn_arena *arena, tn_blob packed)
{
    Temporal__Api__Common__V1__Payload *payload;

    TN_ASSERT(TN_PROTO_UNPACK(temporal__api__common__v1__payload, packed, arena, &payload, NULL) ==
              TN_OK);
    return payload;
}

Temporal__Api__Common__V1__Memo *tn_machine_memo(const tn_ms *ms, tn_arena *arena)
{
    Temporal__Api__Common__V1__Memo *memo = TN_MSG(arena, temporal__api__common__v1__memo);

    if (ms->memo.count) {
        memo->fields = tn_arena_array(arena, ms->memo.count, sizeof(memo->fields[0]));
        TN_ASSERT(memo->fields);
    }
    for (size_t i = 0; i < ms->memo.count; i++) {
        Temporal__Api__Common__V1__Memo__FieldsEntry *entry =
            TN_MSG(arena, temporal__api__common__v1__memo__fields_entry);

        entry->key = ms->memo.items[i].name;
        entry->value = payload_of(arena, ms->memo.items[i].payload);
        memo->fields[memo->n_fields++] = entry;
    }
    return memo;
}

/* The list attribute that says what keeps going wrong. */
static Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *problems(const tn_ms *ms,
                                                                                 tn_arena *arena)
{
    Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *entry =
        TN_MSG(arena, temporal__api__common__v1__search_attributes__indexed_fields_entry);
    bool timed_out = strncmp(ms->problem_cause, "TimedOut", 8) == 0;
    tn_buf json = {0};

    tn_buf_printf(&json, "[\"category=WorkflowTask%s\",\"cause=WorkflowTask%s\"]",
                  timed_out ? "TimedOut" : "Failed", ms->problem_cause);
    entry->key = text("TemporalReportedProblems");
    entry->value = tn_keyword_list(arena, &json);
    tn_buf_done(&json);
    return entry;
}

Temporal__Api__Common__V1__SearchAttributes *tn_machine_search_attributes(const tn_ms *ms,
                                                                          tn_arena *arena)
{
    Temporal__Api__Common__V1__SearchAttributes *attrs =
        TN_MSG(arena, temporal__api__common__v1__search_attributes);
    Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *paused =
        tn_pause_attribute(ms, arena);
    size_t n = ms->search_attributes.count;

    attrs->indexed_fields = tn_arena_array(arena, n + 2, sizeof(attrs->indexed_fields[0]));
    TN_ASSERT(attrs->indexed_fields);
    for (size_t i = 0; i < n; i++) {
        Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *entry =
            TN_MSG(arena, temporal__api__common__v1__search_attributes__indexed_fields_entry);

        entry->key = ms->search_attributes.items[i].name;
        entry->value = payload_of(arena, ms->search_attributes.items[i].payload);
        attrs->indexed_fields[attrs->n_indexed_fields++] = entry;
    }
    if (tn_ms_has_problem(ms))
        attrs->indexed_fields[attrs->n_indexed_fields++] = problems(ms, arena);
    if (paused)
        attrs->indexed_fields[attrs->n_indexed_fields++] = paused;
    return attrs;
}

static const tn_started_attrs *started_of(const tn_ms *ms, tn_arena *arena)
{
    tn_started_attrs *a;

    TN_ASSERT(
        TN_PROTO_UNPACK(temporal__api__history__v1__workflow_execution_started_event_attributes,
                        ms->started, arena, &a, NULL) == TN_OK);
    return a;
}

static uint64_t execution_ns(const tn_ms *ms)
{
    return ms->first_wft_backoff_until_ns ? ms->first_wft_backoff_until_ns
                                          : tn_ms_shown_start_ns(ms);
}

static void describe_config(const tn_ms *ms, tn_arena *arena, const tn_started_attrs *a,
                            describe_response *out)
{
    Temporal__Api__Workflow__V1__WorkflowExecutionConfig *c =
        TN_MSG(arena, temporal__api__workflow__v1__workflow_execution_config);
    tn_event *extra;

    c->task_queue = TN_MSG(arena, temporal__api__taskqueue__v1__task_queue);
    c->task_queue->name = ms->task_queue;
    c->task_queue->kind = 1;
    c->workflow_execution_timeout = a->workflow_execution_timeout;
    c->workflow_run_timeout = a->workflow_run_timeout;
    c->default_workflow_task_timeout = a->workflow_task_timeout;
    TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, ms->start_extra, arena,
                              &extra, NULL) == TN_OK);
    c->user_metadata = extra->user_metadata;
    out->execution_config = c;
}

static void describe_versions(const tn_ms *ms, tn_arena *arena,
                              Temporal__Api__Workflow__V1__WorkflowExecutionInfo *i)
{
    Temporal__Api__Common__V1__WorkerVersionStamp *stamp;

    if (!ms->last_build_id)
        return;
    stamp = TN_MSG(arena, temporal__api__common__v1__worker_version_stamp);
    stamp->build_id = ms->last_build_id;
    i->most_recent_worker_version_stamp = stamp;
}

/* A run that another one follows: its points are good as long as it is kept. */
static void expire_reset_points(const tn_ms *ms, tn_arena *arena,
                                Temporal__Api__Workflow__V1__ResetPoints *points)
{
    for (size_t i = 0; points && ms->new_run_id && i < points->n_points; i++)
        if (strcmp(points->points[i]->run_id, ms->run_id_text) == 0)
            points->points[i]->expire_time = tn_ts_from_ns(arena, (int64_t)ms->retention_due_ns);
}

static void describe_info(const tn_ms *ms, tn_arena *arena, const tn_started_attrs *a,
                          describe_response *out)
{
    Temporal__Api__Workflow__V1__WorkflowExecutionInfo *i =
        TN_MSG(arena, temporal__api__workflow__v1__workflow_execution_info);

    i->execution = execution(arena, ms->workflow_id, ms->run_id_text);
    i->type = TN_MSG(arena, temporal__api__common__v1__workflow_type);
    i->type->name = ms->type;
    i->start_time = tn_ts_from_ns(arena, (int64_t)tn_ms_shown_start_ns(ms));
    i->execution_time = tn_ts_from_ns(arena, (int64_t)execution_ns(ms));
    i->status = (Temporal__Api__Enums__V1__WorkflowExecutionStatus)ms->status;
    if (!tn_ms_running(ms)) {
        i->close_time = tn_ts_from_ns(arena, (int64_t)ms->close_ns);
        i->execution_duration =
            tn_duration_from_ns(arena, (int64_t)ms->close_ns - (int64_t)execution_ns(ms));
    }
    i->history_length = ms->next_event_id - 1;
    i->history_size_bytes = ms->history_size_bytes;
    i->state_transition_count = (int64_t)ms->transition;
    i->memo = tn_machine_memo(ms, arena);
    i->search_attributes = tn_machine_search_attributes(ms, arena);
    i->auto_reset_points = tn_ms_reset_points(ms, arena);
    expire_reset_points(ms, arena, i->auto_reset_points);
    if (!i->auto_reset_points)
        i->auto_reset_points = TN_MSG(arena, temporal__api__workflow__v1__reset_points);
    i->task_queue = ms->task_queue;
    if (ms->parent.run_id) {
        i->parent_namespace_id = text(ms->parent.ns_id);
        i->parent_execution = execution(arena, ms->parent.workflow_id, ms->parent.run_id);
    }
    i->root_execution = ms->parent.root_workflow_id
                            ? execution(arena, ms->parent.root_workflow_id, ms->parent.root_run_id)
                            : execution(arena, ms->workflow_id, ms->run_id_text);
    i->first_run_id = text(ms->first_run_id);
    i->priority = ms->priority.n ? tn_ms_priority(ms, arena) : a->priority;
    describe_versions(ms, arena, i);
    i->versioning_info = tn_ms_versioning_info(ms, arena);
    i->worker_deployment_name = (char *)(uintptr_t)tn_ms_deployment_name(ms);
    out->workflow_execution_info = i;
}

static Temporal__Api__Workflow__V1__WorkflowExecutionExtendedInfo__RequestIdInfosEntry *
request_id_entry(tn_arena *arena, const char *request_id, int32_t event_type, int64_t event_id)
{
    Temporal__Api__Workflow__V1__WorkflowExecutionExtendedInfo__RequestIdInfosEntry *entry = TN_MSG(
        arena,
        temporal__api__workflow__v1__workflow_execution_extended_info__request_id_infos_entry);

    entry->key = text(request_id);
    entry->value = TN_MSG(arena, temporal__api__workflow__v1__request_id_info);
    entry->value->event_type = (Temporal__Api__Enums__V1__EventType)event_type;
    entry->value->event_id = event_id;
    entry->value->buffered = event_id == 0;
    return entry;
}

/* Who made this run, and who was given it as one that runs already. */
static void describe_request_ids(const tn_ms *ms, tn_arena *arena,
                                 Temporal__Api__Workflow__V1__WorkflowExecutionExtendedInfo *x)
{
    x->request_id_infos =
        tn_arena_array(arena, ms->n_attached_request_ids + 1, sizeof(x->request_id_infos[0]));
    TN_ASSERT(x->request_id_infos);
    if (ms->create_request_id)
        x->request_id_infos[x->n_request_id_infos++] =
            request_id_entry(arena, ms->create_request_id, 1, 1);
    for (size_t i = 0; i < ms->n_attached_request_ids; i++)
        x->request_id_infos[x->n_request_id_infos++] =
            request_id_entry(arena, ms->attached_request_ids[i], 55, ms->attached_event_ids[i]);
}

static void describe_extended(const tn_ms *ms, tn_arena *arena, describe_response *out)
{
    Temporal__Api__Workflow__V1__WorkflowExecutionExtendedInfo *x =
        TN_MSG(arena, temporal__api__workflow__v1__workflow_execution_extended_info);

    if (ms->execution_expire_ns)
        x->execution_expiration_time = tn_ts_from_ns(arena, (int64_t)ms->execution_expire_ns);
    x->run_expiration_time = tn_ts_from_ns(arena, (int64_t)ms->run_expire_ns);
    TN_ASSERT(x->run_expiration_time);
    if (!ms->run_expire_ns)
        x->run_expiration_time->seconds = NO_TIME_S;
    x->cancel_requested = ms->cancel_requested_id != 0;
    x->original_start_time = tn_ts_from_ns(arena, (int64_t)ms->start_ns);
    if (ms->reset.base_run_id)
        x->last_reset_time = tn_ts_from_ns(arena, (int64_t)ms->reset.at_ns);
    if (ms->reset_run_id)
        x->reset_run_id = ms->reset_run_id;
    describe_request_ids(ms, arena, x);
    if (ms->pause) {
        x->pause_info = TN_MSG(arena, temporal__api__workflow__v1__workflow_execution_pause_info);
        x->pause_info->identity = text(ms->pause->identity);
        x->pause_info->reason = text(ms->pause->reason);
        x->pause_info->paused_time = tn_ts_from_ns(arena, (int64_t)ms->pause->since_ns);
    }
    out->workflow_extended_info = x;
}

static void describe_wft(const tn_ms *ms, tn_arena *arena, describe_response *out)
{
    const tn_wft *wft = &ms->wft;
    Temporal__Api__Workflow__V1__PendingWorkflowTaskInfo *p;

    if (!wft->scheduled_id)
        return;
    p = TN_MSG(arena, temporal__api__workflow__v1__pending_workflow_task_info);
    p->state = wft->started_id ? 2 : 1;
    p->scheduled_time = tn_ts_from_ns(arena, (int64_t)wft->scheduled_ns);
    p->original_scheduled_time = tn_ts_from_ns(arena, (int64_t)wft->original_scheduled_ns);
    if (wft->started_id)
        p->started_time = tn_ts_from_ns(arena, (int64_t)wft->started_ns);
    p->attempt = wft->attempt;
    out->pending_workflow_task = p;
}

void tn_machine_describe(const tn_ms *ms, tn_arena *arena, uint64_t now_ns, describe_response *out)
{
    const tn_started_attrs *a = started_of(ms, arena);

    describe_config(ms, arena, a, out);
    describe_info(ms, arena, a, out);
    describe_extended(ms, arena, out);
    describe_wft(ms, arena, out);
    tn_describe_callbacks(ms, arena, now_ns, out);
    if (tn_ms_running(ms))
        tn_describe_activities(ms, arena, now_ns, out);
    if (tn_ms_running(ms) || ms->skip_close_policy)
        tn_describe_children(ms, arena, out);
    if (tn_ms_running(ms))
        tn_describe_nexus(ms, arena, now_ns, out);
}
