/* SPDX-License-Identifier: MIT */
/* The fold: the only writer of what events say.  Live operation and reload come through here alike,
 * so nothing here may look at the clock, at a request or at anything that isn't in the event and
 * the state.
 *
 * An event that makes no sense in this state is TN_EDATALOSS: it came from a store, not from us. */
#include "history/machine/state.h"

#include <stdio.h>
#include <string.h>

#include "history/machine/nexus.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

#define CASE(UPPER) TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_##UPPER##_EVENT_ATTRIBUTES

static tn_status bad(const tn_event *event, tn_error *err, const char *why)
{
    return tn_error_set(err, TN_EDATALOSS, "event %lld of type %d: %s", (long long)event->event_id,
                        (int)event->event_type, why);
}

uint64_t tn_event_time_ns(const tn_event *event)
{
    int64_t ns;

    return tn_ns_from_ts(event->event_time, &ns) && ns > 0 ? (uint64_t)ns : 0;
}

/* ---- payload maps ---------------------------------------------------------------------------- */

/* An empty value, null and an empty list all mean: remove it. */
bool tn_payload_is_nil(const Temporal__Api__Common__V1__Payload *payload)
{
    tn_str data;

    if (!payload)
        return true;
    data = (tn_str){(const char *)payload->data.data, payload->data.len};
    return data.n == 0 || tn_str_is(data, "null") || tn_str_is(data, "[]");
}

static void map_put(tn_ms *ms, tn_payload_map *map, const char *name,
                    const Temporal__Api__Common__V1__Payload *payload)
{
    tn_buf buf = {0};

    if (!tn_payload_is_nil(payload))
        TN_ASSERT(tn_proto_pack_buf(&payload->base, &buf) == TN_OK);
    tn_payload_map_put(ms, map, tn_str_from(name), tn_buf_blob(&buf));
    tn_buf_done(&buf);
}

static void merge_memo(tn_ms *ms, const Temporal__Api__Common__V1__Memo *memo)
{
    for (size_t i = 0; memo && i < memo->n_fields; i++)
        map_put(ms, &ms->memo, memo->fields[i]->key, memo->fields[i]->value);
}

static void merge_search_attributes(tn_ms *ms,
                                    const Temporal__Api__Common__V1__SearchAttributes *attrs)
{
    for (size_t i = 0; attrs && i < attrs->n_indexed_fields; i++)
        map_put(ms, &ms->search_attributes, attrs->indexed_fields[i]->key,
                attrs->indexed_fields[i]->value);
}

/* ---- the first event ------------------------------------------------------------------------- */

static void set_str(tn_ms *ms, char **slot, const char *s)
{
    tn_ms_replace_str(ms, slot, tn_str_from(s));
}

static void apply_parent(tn_ms *ms, const tn_started_attrs *a)
{
    if (a->parent_workflow_execution) {
        set_str(ms, &ms->parent.ns_id, a->parent_workflow_namespace_id);
        set_str(ms, &ms->parent.ns_name, a->parent_workflow_namespace);
        set_str(ms, &ms->parent.workflow_id, a->parent_workflow_execution->workflow_id);
        set_str(ms, &ms->parent.run_id, a->parent_workflow_execution->run_id);
        ms->parent.initiated_id = a->parent_initiated_event_id;
    }
    if (a->root_workflow_execution) {
        set_str(ms, &ms->parent.root_workflow_id, a->root_workflow_execution->workflow_id);
        set_str(ms, &ms->parent.root_run_id, a->root_workflow_execution->run_id);
    }
}

static void apply_deadlines(tn_ms *ms, const tn_started_attrs *a)
{
    uint64_t backoff_ns = tn_duration_ns(a->first_workflow_task_backoff);
    int64_t expire_ns;

    ms->wft_timeout_ns = tn_duration_ns(a->workflow_task_timeout);
    ms->run_timeout_ns = tn_duration_ns(a->workflow_run_timeout);
    ms->execution_timeout_ns = tn_duration_ns(a->workflow_execution_timeout);
    if (tn_ns_from_ts(a->workflow_execution_expiration_time, &expire_ns) && expire_ns > 0)
        ms->execution_expire_ns = (uint64_t)expire_ns;
    if (backoff_ns)
        ms->first_wft_backoff_until_ns = ms->start_ns + backoff_ns;
    if (ms->run_timeout_ns) {
        ms->run_expire_ns = ms->start_ns + backoff_ns + ms->run_timeout_ns;
        /* The execution's end is kept in milliseconds: a run of the same length ends with it, not before. */
        if (ms->execution_expire_ns && ms->run_expire_ns + TN_MS > ms->execution_expire_ns)
            ms->run_expire_ns = ms->execution_expire_ns;
    }
}

void tn_ms_load_reset_points(tn_ms *ms, const Temporal__Api__Workflow__V1__ResetPoints *points)
{
    size_t skip = points && points->n_points > TN_RESET_POINTS_MAX
                      ? points->n_points - TN_RESET_POINTS_MAX
                      : 0;

    for (size_t i = skip; points && i < points->n_points; i++) {
        const Temporal__Api__Workflow__V1__ResetPointInfo *p = points->points[i];
        tn_reset_point *to = tn_reset_point_new(ms);
        int64_t ns;

        set_str(ms, &to->checksum, p->binary_checksum);
        set_str(ms, &to->build_id, p->build_id);
        set_str(ms, &to->run_id, p->run_id);
        to->wft_completed_id = p->first_workflow_task_completed_id;
        to->created_ns = tn_ns_from_ts(p->create_time, &ns) && ns > 0 ? (uint64_t)ns : 0;
        to->expire_ns = tn_ns_from_ts(p->expire_time, &ns) && ns > 0 ? (uint64_t)ns : 0;
        to->resettable = p->resettable;
    }
}

/* What the started event has beside its attributes, kept as a small packed event. */
static void apply_start_extra(tn_ms *ms, const tn_event *event)
{
    tn_event extra = TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__INIT;
    tn_buf buf = {0};

    if (!event->n_links && !event->user_metadata)
        return;
    extra.n_links = event->n_links;
    extra.links = event->links;
    extra.user_metadata = event->user_metadata;
    TN_ASSERT(tn_proto_pack_buf(&extra.base, &buf) == TN_OK);
    ms->start_extra = tn_ms_blobdup(ms, tn_buf_blob(&buf));
    tn_buf_done(&buf);
}

static tn_status apply_started(tn_ms *ms, const tn_event *event, tn_blob packed, tn_error *err)
{
    const tn_started_attrs *a = event->workflow_execution_started_event_attributes;
    tn_wire_field field;

    if (event->event_id != 1 || ms->started.n)
        return bad(event, err, "the run has started already");
    if (!a->workflow_type || !a->task_queue || !tn_wire_find(packed, 6, &field))
        return bad(event, err, "no workflow type or task queue");
    ms->started = tn_ms_blobdup(ms, field.bytes);
    apply_start_extra(ms, event);
    ms->start_ns = tn_event_time_ns(event);
    ms->status = 1;
    set_str(ms, &ms->type, a->workflow_type->name);
    set_str(ms, &ms->task_queue, a->task_queue->name);
    set_str(ms, &ms->cron_schedule, a->cron_schedule);
    set_str(ms, &ms->identity, a->identity);
    (void)snprintf(ms->first_run_id, sizeof(ms->first_run_id), "%s",
                   a->first_execution_run_id && *a->first_execution_run_id
                       ? a->first_execution_run_id
                       : ms->run_id_text);
    (void)snprintf(ms->original_run_id, sizeof(ms->original_run_id), "%s",
                   a->original_execution_run_id && *a->original_execution_run_id
                       ? a->original_execution_run_id
                       : ms->run_id_text);
    ms->attempt = a->attempt > 0 ? a->attempt : 1;
    apply_deadlines(ms, a);
    apply_parent(ms, a);
    tn_retry_load(ms, &ms->retry, a->retry_policy);
    merge_memo(ms, a->memo);
    merge_search_attributes(ms, a->search_attributes);
    tn_ms_load_reset_points(ms, a->prev_auto_reset_points);
    tn_callbacks_attach(ms, a->n_completion_callbacks, a->completion_callbacks, "", ms->start_ns,
                        true);
    tn_versioning_started(ms, a);
    return TN_OK;
}

/* ---- workflow task --------------------------------------------------------------------------- */

static tn_status apply_wft_scheduled(tn_ms *ms, const tn_event *event, tn_error *err)
{
    const Temporal__Api__History__V1__WorkflowTaskScheduledEventAttributes *a =
        event->workflow_task_scheduled_event_attributes;
    tn_wft *wft = &ms->wft;

    if (wft->scheduled_id && !wft->transient)
        return bad(event, err, "a workflow task is pending already");
    tn_ms_clear_wft(ms);
    wft->scheduled_id = event->event_id;
    wft->attempt = a->attempt > 0 ? a->attempt : 1;
    wft->scheduled_ns = wft->original_scheduled_ns = tn_event_time_ns(event);
    wft->timeout_ns = tn_duration_ns(a->start_to_close_timeout);
    wft->sticky = wft->scheduled_sticky = a->task_queue && a->task_queue->kind == 2;
    if (!ms->first_wft_scheduled_id)
        ms->first_wft_scheduled_id = event->event_id;
    return TN_OK;
}

static tn_status apply_wft_started(tn_ms *ms, const tn_event *event, tn_blob packed, tn_error *err)
{
    const Temporal__Api__History__V1__WorkflowTaskStartedEventAttributes *a =
        event->workflow_task_started_event_attributes;
    tn_wft *wft = &ms->wft;

    if (!wft->scheduled_id || wft->started_id || a->scheduled_event_id != wft->scheduled_id)
        return bad(event, err, "its workflow task isn't waiting");
    wft->started_id = event->event_id;
    wft->started_ns = tn_event_time_ns(event);
    wft->transient = false;
    set_str(ms, &wft->request_id, a->request_id);
    set_str(ms, &wft->identity, a->identity);
    wft->suggest_continue_as_new = a->suggest_continue_as_new;
    wft->n_suggest_reasons = 0;
    for (size_t i = 0;
         i < a->n_suggest_continue_as_new_reasons && i < TN_COUNT_OF(wft->suggest_reasons); i++)
        wft->suggest_reasons[wft->n_suggest_reasons++] =
            (int32_t)a->suggest_continue_as_new_reasons[i];
    wft->history_size_bytes = a->history_size_bytes;
    wft->nonce = wft->started_ns;
    wft->started_durable = true;
    wft->started_event_bytes = 1 + tn_wire_varint_size(packed.n) + packed.n;
    return TN_OK;
}

static void add_reset_point(tn_ms *ms, const tn_event *event, tn_str checksum, tn_str build_id)
{
    tn_reset_point *p;

    for (size_t i = 0; i < ms->n_reset_points; i++) {
        p = &ms->reset_points[i];
        if (tn_str_eq(tn_str_from(p->checksum), checksum) &&
            tn_str_eq(tn_str_from(p->build_id), build_id))
            return;
    }
    if (ms->n_reset_points == TN_RESET_POINTS_MAX) {
        tn_reset_point_clear(ms, &ms->reset_points[0]);
        memmove(&ms->reset_points[0], &ms->reset_points[1],
                (TN_RESET_POINTS_MAX - 1) * sizeof(ms->reset_points[0]));
        ms->n_reset_points--;
    }
    p = tn_reset_point_new(ms);
    *p = (tn_reset_point){
        .wft_completed_id = event->event_id,
        .created_ns = tn_event_time_ns(event),
        .resettable = tn_list_empty(&ms->children) && tn_list_empty(&ms->externals),
    };
    tn_ms_replace_str(ms, &p->checksum, checksum);
    tn_ms_replace_str(ms, &p->build_id, build_id);
    tn_ms_replace_str(ms, &p->run_id, tn_str_from(ms->run_id_text));
}

/* ---- BuildIds: an attribute that the server keeps, of the workers that have completed tasks of the run ---- */

#define BUILD_IDS_BYTES_MAX 2048u

void tn_put_json_text(tn_buf *out, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            tn_buf_printf(out, "\\%c", c);
        else if (c < 0x20 || c == '<' || c == '>' || c == '&')
            tn_buf_printf(out, "\\u%04x", c);
        else
            tn_buf_put_u8(out, c);
    }
}

/* The JSON list, without its closing bracket, with the worker's build id at its end unless it is in it already. */
static void list_build_ids(tn_buf *out, const tn_named_payload *known,
                           const Temporal__Api__Common__V1__WorkerVersionStamp *stamp)
{
    bool versioned = stamp && stamp->use_versioning, fresh = true;
    tn_wire_field data;
    tn_buf entry = {0};

    if (stamp && stamp->build_id && *stamp->build_id) {
        tn_buf_printf(&entry, "\"%s:", versioned ? "versioned" : "unversioned");
        tn_put_json_text(&entry, stamp->build_id);
        tn_buf_put_u8(&entry, '"');
    }
    if (known && tn_wire_find(known->payload, 2, &data) && data.bytes.n >= 2) {
        tn_buf_put(out, data.bytes.p, data.bytes.n - 1);
        fresh = !entry.n || !memmem(data.bytes.p, data.bytes.n, entry.p, entry.n);
    } else {
        tn_buf_printf(out, versioned ? "[" : "[\"unversioned\"");
    }
    if (fresh && entry.n && out->n + entry.n + 2 <= BUILD_IDS_BYTES_MAX) {
        if (out->n > 1)
            tn_buf_put_u8(out, ',');
        tn_buf_put(out, entry.p, entry.n);
    }
    tn_buf_done(&entry);
}

static void note_build_id(tn_ms *ms, const Temporal__Api__Common__V1__WorkerVersionStamp *stamp)
{
    const tn_named_payload *known = tn_payload_map_find(&ms->search_attributes, TN_STR("BuildIds"));
    Temporal__Api__Common__V1__Payload payload = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT;
    Temporal__Api__Common__V1__Payload__MetadataEntry metadata[2] = {
        TEMPORAL__API__COMMON__V1__PAYLOAD__METADATA_ENTRY__INIT,
        TEMPORAL__API__COMMON__V1__PAYLOAD__METADATA_ENTRY__INIT};
    Temporal__Api__Common__V1__Payload__MetadataEntry *entries[] = {&metadata[0], &metadata[1]};
    tn_buf json = {0}, packed = {0};

    if (known && !(stamp && stamp->build_id && *stamp->build_id))
        return;
    list_build_ids(&json, known, stamp);
    tn_buf_put_u8(&json, ']');
    metadata[0].key = (char *)(uintptr_t) "encoding";
    metadata[0].value = (ProtobufCBinaryData){10, (uint8_t *)(uintptr_t) "json/plain"};
    metadata[1].key = (char *)(uintptr_t) "type";
    metadata[1].value = (ProtobufCBinaryData){11, (uint8_t *)(uintptr_t) "KeywordList"};
    payload.metadata = entries;
    payload.n_metadata = TN_COUNT_OF(entries);
    payload.data = (ProtobufCBinaryData){json.n, json.p};
    TN_ASSERT(tn_proto_pack_buf(&payload.base, &packed) == TN_OK);
    tn_payload_map_put(ms, &ms->search_attributes, TN_STR("BuildIds"), tn_buf_blob(&packed));
    tn_buf_done(&json);
    tn_buf_done(&packed);
}

static tn_status apply_wft_completed(tn_ms *ms, const tn_event *event, tn_error *err)
{
    const Temporal__Api__History__V1__WorkflowTaskCompletedEventAttributes *a =
        event->workflow_task_completed_event_attributes;
    tn_str build_id = tn_str_from(a->worker_version ? a->worker_version->build_id : NULL);

    if (!ms->wft.started_id || a->scheduled_event_id != ms->wft.scheduled_id ||
        a->started_event_id != ms->wft.started_id)
        return bad(event, err, "its workflow task isn't started");
    tn_ms_clear_wft(ms);
    ms->wft.attempt = 1;
    ms->last_completed_started_id = a->started_event_id;
    ms->last_completed_wft_id = event->event_id;
    ms->problem_count = 0;
    tn_ms_replace_str(ms, &ms->problem_cause, TN_STR(""));
    ms->close_attempted = false;
    /* of a stamp alone: a deployment's shows elsewhere */
    tn_ms_replace_str(ms, &ms->last_build_id, build_id);
    if (a->deployment_version && a->deployment_version->build_id)
        build_id = tn_str_from(a->deployment_version->build_id);
    add_reset_point(ms, event, tn_str_from(a->binary_checksum), build_id);
    tn_versioning_completed(ms, a);
    note_build_id(ms, a->worker_version);
    if (a->sdk_metadata && a->sdk_metadata->sdk_name && *a->sdk_metadata->sdk_name)
        set_str(ms, &ms->sdk_name, a->sdk_metadata->sdk_name);
    if (a->sdk_metadata && a->sdk_metadata->sdk_version && *a->sdk_metadata->sdk_version)
        set_str(ms, &ms->sdk_version, a->sdk_metadata->sdk_version);
    return TN_OK;
}

/* The pending workflow task has failed or timed out.  On a sticky queue that isn't the task's
 * fault: the next one is a first attempt on the normal queue. */
void tn_ms_wft_lost(tn_ms *ms, bool counts)
{
    int32_t attempt = ms->wft.attempt;

    if (ms->sticky_queue) {
        counts = false;
        tn_ms_replace_str(ms, &ms->sticky_queue, TN_STR(""));
        ms->sticky_timeout_ns = 0;
    }
    tn_ms_clear_wft(ms);
    ms->wft.attempt = counts ? attempt + 1 : 1;
    if (counts)
        ms->problem_count++;
    ms->close_attempted = false;
}

static tn_status apply_wft_timed_out(tn_ms *ms, const tn_event *event, tn_error *err)
{
    const Temporal__Api__History__V1__WorkflowTaskTimedOutEventAttributes *a =
        event->workflow_task_timed_out_event_attributes;
    bool to_start = a->timeout_type == 2;

    if (!ms->wft.scheduled_id || a->scheduled_event_id != ms->wft.scheduled_id ||
        (to_start ? ms->wft.started_id != 0 : a->started_event_id != ms->wft.started_id))
        return bad(event, err, "its workflow task isn't pending");
    if (!to_start)
        set_str(ms, &ms->problem_cause, "TimedOutCauseStartToClose");
    tn_ms_wft_lost(ms, !to_start);
    return TN_OK;
}

static tn_status apply_wft_failed(tn_ms *ms, const tn_event *event, tn_error *err)
{
    const Temporal__Api__History__V1__WorkflowTaskFailedEventAttributes *a =
        event->workflow_task_failed_event_attributes;

    if (!ms->wft.scheduled_id || a->scheduled_event_id != ms->wft.scheduled_id ||
        a->started_event_id != ms->wft.started_id)
        return bad(event, err, "its workflow task isn't pending");
    if (a->cause == TN_CAUSE_PAUSED) { /* nobody's fault */
        tn_ms_wft_lost(ms, false);
        return TN_OK;
    }
    tn_ms_note_problem(ms, (int32_t)a->cause);
    tn_ms_wft_lost(ms, true);
    if (a->cause == 18 || a->cause == 20)
        ms->wft.attempt = 1;
    return TN_OK;
}

/* ---- from outside ---------------------------------------------------------------------------- */

void tn_ms_note_signal(tn_ms *ms, tn_str id)
{
    if (!ms->signal_request_ids)
        ms->signal_request_ids =
            tn_ms_alloc(ms, TN_SIGNAL_REQUEST_IDS_MAX * sizeof(ms->signal_request_ids[0]));
    if (ms->n_signal_request_ids == TN_SIGNAL_REQUEST_IDS_MAX) {
        tn_ms_free(ms, ms->signal_request_ids[0]);
        memmove(&ms->signal_request_ids[0], &ms->signal_request_ids[1],
                (TN_SIGNAL_REQUEST_IDS_MAX - 1) * sizeof(ms->signal_request_ids[0]));
        ms->n_signal_request_ids--;
    }
    ms->signal_request_ids[ms->n_signal_request_ids++] = tn_ms_strdup(ms, id);
}

static void apply_signaled(tn_ms *ms, const tn_event *event)
{
    tn_str id = tn_str_from(event->workflow_execution_signaled_event_attributes->request_id);

    ms->signal_count++;
    if (id.n)
        tn_ms_note_signal(ms, id);
}

bool tn_ms_has_request_id(const tn_ms *ms, tn_str id)
{
    for (size_t i = 0; i < ms->n_attached_request_ids; i++)
        if (tn_str_is(id, ms->attached_request_ids[i]))
            return true;
    return false;
}

void tn_ms_attach_request_id(tn_ms *ms, tn_str id, int64_t event_id)
{
    char **grown;
    int64_t *ids;

    if (!id.n)
        return;
    for (size_t i = 0; i < ms->n_attached_request_ids; i++)
        if (tn_str_is(id, ms->attached_request_ids[i])) {
            if (event_id)
                ms->attached_event_ids[i] = event_id;
            return;
        }
    ids = tn_ms_alloc(ms, (ms->n_attached_request_ids + 1) * sizeof(*ids));
    if (ms->n_attached_request_ids)
        memcpy(ids, ms->attached_event_ids, ms->n_attached_request_ids * sizeof(*ids));
    tn_ms_free(ms, ms->attached_event_ids);
    ms->attached_event_ids = ids;
    ids[ms->n_attached_request_ids] = event_id;
    grown = tn_ms_alloc(ms, (ms->n_attached_request_ids + 1) * sizeof(*grown));
    if (ms->n_attached_request_ids)
        memcpy(grown, ms->attached_request_ids, ms->n_attached_request_ids * sizeof(*grown));
    tn_ms_free(ms, ms->attached_request_ids);
    ms->attached_request_ids = grown;
    grown[ms->n_attached_request_ids++] = tn_ms_strdup(ms, id);
}

static void apply_options(tn_ms *ms, const tn_event *event)
{
    const Temporal__Api__History__V1__WorkflowExecutionOptionsUpdatedEventAttributes *a =
        event->workflow_execution_options_updated_event_attributes;

    tn_ms_attach_request_id(ms, tn_str_from(a->attached_request_id), event->event_id);
    tn_callbacks_attach(ms, a->n_attached_completion_callbacks, a->attached_completion_callbacks,
                        a->attached_request_id, tn_event_time_ns(event), false);
}

/* ---- close ----------------------------------------------------------------------------------- */

static int32_t close_status(const tn_event *event, const char **out_new_run)
{
    *out_new_run = NULL;
    switch ((int)event->event_type) {
    case 2:
        *out_new_run = event->workflow_execution_completed_event_attributes->new_execution_run_id;
        return 2;
    case 3:
        *out_new_run = event->workflow_execution_failed_event_attributes->new_execution_run_id;
        return 3;
    case 4:
        *out_new_run = event->workflow_execution_timed_out_event_attributes->new_execution_run_id;
        return 7;
    case 21:
        return 4;
    case 27:
        return 5;
    default:
        *out_new_run =
            event->workflow_execution_continued_as_new_event_attributes->new_execution_run_id;
        return 6;
    }
}

static void apply_closed(tn_ms *ms, const tn_event *event, tn_blob packed)
{
    const char *new_run;
    tn_list *link;

    ms->status = close_status(event, &new_run);
    /* Its children and its parent deal with the run that the reset has made. */
    ms->skip_close_policy =
        event->event_type == 27 &&
        strcmp(event->workflow_execution_terminated_event_attributes->identity, TN_RESETTER) == 0;
    set_str(ms, &ms->new_run_id, new_run);
    ms->close_ns = tn_event_time_ns(event);
    ms->close_event_id = ms->close_batch_first_id = event->event_id;
    ms->close_event = tn_ms_blobdup(ms, packed);
    /* One that still waits is shown as it was; nobody will get it. */
    if (ms->wft.started_id || !ms->wft.scheduled_id) {
        tn_ms_clear_wft(ms);
        ms->wft.attempt = 1;
    }
    tn_ms_clear_pending(ms);
    tn_updates_drop_unaccepted(ms);
    while ((link = tn_list_first(&ms->externals)))
        tn_external_destroy(ms, TN_CONTAINER_OF(link, tn_external, link));
    tn_ms_replace_str(ms, &ms->sticky_queue, TN_STR(""));
    ms->sticky_timeout_ns = 0;
    if (ms->cancel_requested_id == TN_ID_BUFFERED)
        ms->cancel_requested_id = 0;
    tn_nexus_drop_operations(ms);
    if (!ms->new_run_id)
        tn_callbacks_trigger(ms);
}

/* ---- dispatch -------------------------------------------------------------------------------- */

static tn_status apply_own(tn_ms *ms, const tn_event *event, tn_blob packed, tn_error *err)
{
    switch ((int)event->event_type) {
    case 1:
        return apply_started(ms, event, packed, err);
    case 2:
    case 3:
    case 4:
    case 21:
    case 27:
    case 28:
        apply_closed(ms, event, packed);
        return TN_OK;
    case 5:
        return apply_wft_scheduled(ms, event, err);
    case 6:
        return apply_wft_started(ms, event, packed, err);
    case 7:
        return apply_wft_completed(ms, event, err);
    case 8:
        return apply_wft_timed_out(ms, event, err);
    case 9:
        return apply_wft_failed(ms, event, err);
    case 20:
        ms->cancel_requested_id = event->event_id;
        return TN_OK;
    case 25:
        return TN_OK; /* markers are the worker's memory, not ours */
    case 26:
        apply_signaled(ms, event);
        return TN_OK;
    case 40:
        merge_search_attributes(
            ms, event->upsert_workflow_search_attributes_event_attributes->search_attributes);
        return TN_OK;
    case 46:
        merge_memo(ms, event->workflow_properties_modified_event_attributes->upserted_memo);
        return TN_OK;
    case 55:
        apply_options(ms, event);
        tn_ms_note_options(ms, event);
        return TN_OK;
    case 58:
    case 59:
        tn_ms_note_pause(ms, event);
        return TN_OK;
    default:
        return bad(event, err, "a type that this server doesn't write");
    }
}

/* The attributes that a type must have; 0: not a type of ours. */
static int attributes_of(int32_t event_type)
{
    static const uint8_t first_types[] = {
        [1] = CASE(WORKFLOW_EXECUTION_STARTED),
        [2] = CASE(WORKFLOW_EXECUTION_COMPLETED),
        [3] = CASE(WORKFLOW_EXECUTION_FAILED),
        [4] = CASE(WORKFLOW_EXECUTION_TIMED_OUT),
        [5] = CASE(WORKFLOW_TASK_SCHEDULED),
        [6] = CASE(WORKFLOW_TASK_STARTED),
        [7] = CASE(WORKFLOW_TASK_COMPLETED),
        [8] = CASE(WORKFLOW_TASK_TIMED_OUT),
        [9] = CASE(WORKFLOW_TASK_FAILED),
        [10] = CASE(ACTIVITY_TASK_SCHEDULED),
        [11] = CASE(ACTIVITY_TASK_STARTED),
        [12] = CASE(ACTIVITY_TASK_COMPLETED),
        [13] = CASE(ACTIVITY_TASK_FAILED),
        [14] = CASE(ACTIVITY_TASK_TIMED_OUT),
        [15] = CASE(ACTIVITY_TASK_CANCEL_REQUESTED),
        [16] = CASE(ACTIVITY_TASK_CANCELED),
        [17] = CASE(TIMER_STARTED),
        [18] = CASE(TIMER_FIRED),
        [19] = CASE(TIMER_CANCELED),
        [20] = CASE(WORKFLOW_EXECUTION_CANCEL_REQUESTED),
        [21] = CASE(WORKFLOW_EXECUTION_CANCELED),
        [22] = CASE(REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED),
        [23] = CASE(REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED),
        [24] = CASE(EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED),
        [25] = CASE(MARKER_RECORDED),
        [26] = CASE(WORKFLOW_EXECUTION_SIGNALED),
        [27] = CASE(WORKFLOW_EXECUTION_TERMINATED),
        [28] = CASE(WORKFLOW_EXECUTION_CONTINUED_AS_NEW),
        [29] = CASE(START_CHILD_WORKFLOW_EXECUTION_INITIATED),
        [30] = CASE(START_CHILD_WORKFLOW_EXECUTION_FAILED),
        [31] = CASE(CHILD_WORKFLOW_EXECUTION_STARTED),
        [32] = CASE(CHILD_WORKFLOW_EXECUTION_COMPLETED),
        [33] = CASE(CHILD_WORKFLOW_EXECUTION_FAILED),
        [34] = CASE(CHILD_WORKFLOW_EXECUTION_CANCELED),
        [35] = CASE(CHILD_WORKFLOW_EXECUTION_TIMED_OUT),
        [36] = CASE(CHILD_WORKFLOW_EXECUTION_TERMINATED),
        [37] = CASE(SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED),
        [38] = CASE(SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED),
        [39] = CASE(EXTERNAL_WORKFLOW_EXECUTION_SIGNALED),
        [40] = CASE(UPSERT_WORKFLOW_SEARCH_ATTRIBUTES),
        [41] = CASE(WORKFLOW_EXECUTION_UPDATE_ACCEPTED),
        [43] = CASE(WORKFLOW_EXECUTION_UPDATE_COMPLETED),
        [46] = CASE(WORKFLOW_PROPERTIES_MODIFIED),
        [47] = CASE(WORKFLOW_EXECUTION_UPDATE_ADMITTED),
        [48] = CASE(NEXUS_OPERATION_SCHEDULED),
        [49] = CASE(NEXUS_OPERATION_STARTED),
        [50] = CASE(NEXUS_OPERATION_COMPLETED),
        [51] = CASE(NEXUS_OPERATION_FAILED),
        [52] = CASE(NEXUS_OPERATION_CANCELED),
        [53] = CASE(NEXUS_OPERATION_TIMED_OUT),
        [54] = CASE(NEXUS_OPERATION_CANCEL_REQUESTED),
        [56] = CASE(NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED),
        [57] = CASE(NEXUS_OPERATION_CANCEL_REQUEST_FAILED),
        [55] = CASE(WORKFLOW_EXECUTION_OPTIONS_UPDATED),
        [58] = CASE(WORKFLOW_EXECUTION_PAUSED),
        [59] = CASE(WORKFLOW_EXECUTION_UNPAUSED),
    };

    return event_type > 0 && event_type < (int32_t)TN_COUNT_OF(first_types)
               ? first_types[event_type]
               : 0;
}

bool tn_event_well_formed(const tn_event *event)
{
    int wanted = attributes_of((int32_t)event->event_type);

    /* the members of the union are pointers, one like the other */
    return wanted && (int)event->attributes_case == wanted &&
           event->workflow_execution_started_event_attributes;
}

static tn_status apply_any(tn_ms *ms, const tn_event *event, tn_blob packed, tn_error *err)
{
    switch ((int)event->event_type) {
    case 10:
    case 11:
    case 12:
    case 13:
    case 14:
    case 15:
    case 16:
        return tn_apply_activity(ms, event, packed, err);
    case 17:
    case 18:
    case 19:
        return tn_apply_timer(ms, event, err);
    case 29:
    case 30:
    case 31:
    case 32:
    case 33:
    case 34:
    case 35:
    case 36:
        return tn_apply_child(ms, event, err);
    case 22:
    case 23:
    case 24:
    case 37:
    case 38:
    case 39:
        return tn_apply_external(ms, event, err);
    case 41:
    case 43:
    case 47:
        return tn_apply_update(ms, event, err);
    case 48:
    case 49:
    case 50:
    case 51:
    case 52:
    case 53:
    case 54:
    case 56:
    case 57:
        return tn_apply_nexus(ms, event, err);
    default:
        return apply_own(ms, event, packed, err);
    }
}

tn_status tn_ms_apply(tn_ms *ms, const tn_event *event, tn_blob packed, tn_error *err)
{
    tn_status status;
    uint64_t at_ns;

    if (event->event_id != ms->next_event_id)
        return bad(event, err, "not the next id");
    if (!tn_event_well_formed(event))
        return bad(event, err, "attributes don't fit the type");
    if (event->event_id > 1 && (!ms->started.n || !tn_ms_running(ms)))
        return bad(event, err, "the run isn't running");
    if (event->event_id == 1 && event->event_type != 1)
        return bad(event, err, "not a started event");
    tn_ms_mark_closing(ms, event, false); /* if it came from the buffer */
    status = apply_any(ms, event, packed, err);
    if (status != TN_OK)
        return status;
    ms->next_event_id++;
    ms->history_size_bytes += (int64_t)(1 + tn_wire_varint_size(packed.n) + packed.n);
    at_ns = tn_event_time_ns(event);
    if (at_ns > ms->last_event_ns)
        ms->last_event_ns = at_ns;
    return TN_OK;
}
