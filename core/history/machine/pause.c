/* SPDX-License-Identifier: MIT */
/* A run that stands still: no workflow task and no attempt of an activity goes out, what comes from outside is
 * recorded.  A workflow task that is with a worker may still be completed; its follow-up waits.  While it is, the event
 * waits in the buffer, and the pause is in force all the same. */
#include "history/machine/machine.h"

#include <string.h>

#include "history/machine/priv.h"
#include "proto/proto.h"

/* ---- who, since when ------------------------------------------------------------------------- */

void tn_pause_clear(tn_ms *ms, tn_pause **slot)
{
    tn_pause *pause = *slot;

    if (!pause)
        return;
    tn_ms_free(ms, pause->identity);
    tn_ms_free(ms, pause->reason);
    tn_ms_free(ms, pause->request_id);
    tn_ms_free(ms, pause);
    *slot = NULL;
}

void tn_pause_set(tn_ms *ms, tn_pause **slot, uint64_t since_ns, const char *identity,
                  const char *reason, const char *request_id)
{
    tn_pause *pause = tn_ms_alloc(ms, sizeof(*pause));

    pause->since_ns = since_ns;
    tn_ms_replace_str(ms, &pause->identity, tn_str_from(identity));
    tn_ms_replace_str(ms, &pause->reason, tn_str_from(reason));
    tn_ms_replace_str(ms, &pause->request_id, tn_str_from(request_id));
    tn_pause_clear(ms, slot);
    *slot = pause;
}

Tenon__Pause *tn_pause_save(const tn_pause *pause, tn_arena *arena)
{
    Tenon__Pause *to;

    if (!pause)
        return NULL;
    to = TN_MSG(arena, tenon__pause);
    to->since_ns = pause->since_ns;
    to->identity = pause->identity ? pause->identity : to->identity;
    to->reason = pause->reason ? pause->reason : to->reason;
    to->request_id = pause->request_id ? pause->request_id : to->request_id;
    return to;
}

/* ---- the fold -------------------------------------------------------------------------------- */

/* What was offered is stale: it is offered anew when the run goes on. */
static void withdraw_activities(tn_ms *ms)
{
    TN_LIST_FOREACH (link, &ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (activity->started_ns)
            continue;
        activity->stamp = ++ms->next_stamp;
        activity->dispatched = false;
    }
}

void tn_ms_note_pause(tn_ms *ms, const tn_event *event)
{
    const Temporal__Api__History__V1__WorkflowExecutionPausedEventAttributes *a =
        event->workflow_execution_paused_event_attributes;

    if (event->event_type == 59) {
        ms->status = 1;
        tn_pause_clear(ms, &ms->pause);
        return;
    }
    ms->status = TN_STATUS_PAUSED;
    tn_pause_set(ms, &ms->pause, tn_event_time_ns(event), a->identity, a->reason, a->request_id);
    withdraw_activities(ms);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

static const tn_fault *check(tn_tx *tx, const char *reason, const char *request_id,
                             const char *identity)
{
    const struct {
        const char *text, *name;
    } all[] = {{reason, "reason"}, {request_id, "request id"}, {identity, "identity"}};

    for (size_t i = 0; i < TN_COUNT_OF(all); i++)
        if ((int64_t)strlen(all[i].text) > tx->env->limits->id_bytes_max)
            return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, "%s is too long.",
                                 all[i].name);
    return tn_ms_running(tx->ms) ? NULL
                                 : tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND,
                                                 "workflow execution already completed");
}

const tn_fault *tn_machine_pause(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__PauseWorkflowExecutionRequest *request)
{
    tn_ms *ms = tx->ms;
    const tn_fault *fault = check(tx, request->reason, request->request_id, request->identity);
    Temporal__Api__History__V1__WorkflowExecutionPausedEventAttributes *a;
    tn_event *event;

    if (fault)
        return fault;
    if (ms->status == TN_STATUS_PAUSED)
        return *request->request_id && ms->pause && ms->pause->request_id &&
                       strcmp(ms->pause->request_id, request->request_id) == 0
                   ? NULL
                   : tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                                   "workflow is already paused.");
    /* A task that no worker has would wait for ever: it ends here, and a new one follows the pause. */
    if (tn_ms_wft_pending(ms) && !tn_ms_wft_started(ms)) {
        tn_tx_fail_wft(tx, TN_CAUSE_PAUSED, NULL, TN_STR("history-service"));
        ms->wft.attempt = 1;
        tx->extras_dirty = true;
    }
    event = tn_tx_event(tx, 58);
    event->worker_may_ignore = true;
    a = TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_PAUSED, workflow_execution_paused);
    a->identity = request->identity;
    a->reason = request->reason;
    a->request_id = request->request_id;
    tn_tx_add(tx, event);
    return NULL;
}

const tn_fault *tn_machine_unpause(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__UnpauseWorkflowExecutionRequest *request)
{
    tn_ms *ms = tx->ms;
    const tn_fault *fault = check(tx, request->reason, request->request_id, request->identity);
    Temporal__Api__History__V1__WorkflowExecutionUnpausedEventAttributes *a;
    tn_event *event;

    if (fault)
        return fault;
    if (ms->status != TN_STATUS_PAUSED)
        return tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION, "workflow is not paused.");
    event = tn_tx_event(tx, 59);
    event->worker_may_ignore = true;
    a = TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_UNPAUSED, workflow_execution_unpaused);
    a->identity = request->identity;
    a->reason = request->reason;
    a->request_id = request->request_id;
    tn_tx_add(tx, event);
    if (ms->first_wft_backoff_until_ns <= tx->now_ns)
        tn_tx_schedule_wft_anyhow(tx);
    else
        tn_tx_schedule_wft(tx); /* the delay of its start goes on */
    return NULL;
}

/* ---- how it is listed ------------------------------------------------------------------------ */

Temporal__Api__Common__V1__Payload *tn_keyword_list(tn_arena *arena, const tn_buf *json)
{
    Temporal__Api__Common__V1__Payload *payload = TN_MSG(arena, temporal__api__common__v1__payload);
    static const char *const metadata[][2] = {{"encoding", "json/plain"}, {"type", "KeywordList"}};
    tn_blob data = tn_arena_blob(arena, (tn_blob){json->p, json->n});

    payload->metadata = tn_arena_array(arena, TN_COUNT_OF(metadata), sizeof(payload->metadata[0]));
    TN_ASSERT(data.p && payload->metadata);
    for (size_t i = 0; i < TN_COUNT_OF(metadata); i++) {
        Temporal__Api__Common__V1__Payload__MetadataEntry *m =
            TN_MSG(arena, temporal__api__common__v1__payload__metadata_entry);

        m->key = (char *)(uintptr_t)metadata[i][0];
        m->value.data = (uint8_t *)(uintptr_t)metadata[i][1];
        m->value.len = strlen(metadata[i][1]);
        payload->metadata[payload->n_metadata++] = m;
    }
    payload->data = (ProtobufCBinaryData){data.n, (uint8_t *)(uintptr_t)data.p};
    return payload;
}

static void put_entry(tn_buf *json, const char *prefix, const char *value)
{
    tn_buf_printf(json, json->n > 1 ? ",\"%s" : "\"%s", prefix);
    tn_put_json_text(json, value);
    tn_buf_put_u8(json, '"');
}

/* An earlier activity of the same type has named it. */
static bool is_named(const tn_ms *ms, const tn_activity *activity)
{
    TN_LIST_FOREACH (link, &ms->activities) {
        const tn_activity *other = TN_CONTAINER_OF(link, tn_activity, link);

        if (other == activity)
            return false;
        if (other->pause && !other->closing && strcmp(other->type, activity->type) == 0)
            return true;
    }
    return false;
}

Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *tn_pause_attribute(const tn_ms *ms,
                                                                                    tn_arena *arena)
{
    Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *entry = NULL;
    tn_buf json = {0};

    tn_buf_put_u8(&json, '[');
    if (ms->pause) {
        put_entry(&json, "Workflow:", ms->workflow_id);
        if (ms->pause->reason)
            put_entry(&json, "Reason:", ms->pause->reason);
    }
    TN_LIST_FOREACH (link, &ms->activities) {
        const tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (activity->pause && !activity->closing && !is_named(ms, activity))
            put_entry(&json, "property:activityType=", activity->type);
    }
    if (json.n > 1) {
        tn_buf_put_u8(&json, ']');
        entry = TN_MSG(arena, temporal__api__common__v1__search_attributes__indexed_fields_entry);
        entry->key = (char *)(uintptr_t) "TemporalPauseInfo";
        entry->value = tn_keyword_list(arena, &json);
    }
    tn_buf_done(&json);
    return entry;
}
