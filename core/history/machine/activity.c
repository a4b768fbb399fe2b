/* SPDX-License-Identifier: MIT */
/* Activities as part of the state: the fold of their events, and how they are kept in records and
 * snapshots. */
#include "history/machine/parts.h"
#include "proto/proto.h"

typedef Temporal__Api__History__V1__ActivityTaskScheduledEventAttributes scheduled_attrs;

#define SCHEDULED_ATTRS_FIELD 15 /* of HistoryEvent */

/* ---- life ------------------------------------------------------------------------------------ */

static tn_activity *activity_create(tn_ms *ms, int64_t scheduled_id, uint64_t scheduled_ns,
                                    tn_blob packed, const scheduled_attrs *attrs)
{
    tn_activity *activity = tn_ms_alloc(ms, sizeof(*activity));
    tn_list *at = &ms->activities;

    activity->scheduled_id = scheduled_id;
    activity->scheduled_ns = scheduled_ns;
    activity->first_scheduled_ns = scheduled_ns;
    activity->attrs = tn_ms_blobdup(ms, packed);
    activity->activity_id = tn_ms_cstrdup(ms, attrs->activity_id);
    activity->type = tn_ms_cstrdup(ms, attrs->activity_type ? attrs->activity_type->name : "");
    activity->task_queue = tn_ms_cstrdup(ms, attrs->task_queue ? attrs->task_queue->name : "");
    activity->schedule_to_close_ns = tn_duration_ns(attrs->schedule_to_close_timeout);
    activity->schedule_to_start_ns = tn_duration_ns(attrs->schedule_to_start_timeout);
    activity->start_to_close_ns = tn_duration_ns(attrs->start_to_close_timeout);
    activity->heartbeat_ns = tn_duration_ns(attrs->heartbeat_timeout);
    tn_retry_load(ms, &activity->retry, attrs->retry_policy);
    if (activity->retry.present && activity->schedule_to_close_ns)
        activity->expire_ns = scheduled_ns + activity->schedule_to_close_ns;
    activity->attempt = 1;
    activity->attempt_scheduled_ns = scheduled_ns;
    activity->stamp = ++ms->next_stamp;
    while (at->prev != &ms->activities &&
           TN_CONTAINER_OF(at->prev, tn_activity, link)->scheduled_id > scheduled_id)
        at = at->prev;
    tn_list_insert_before(at, &activity->link);
    ms->n_activities++;
    return activity;
}

void tn_activity_clear_extras(tn_ms *ms, tn_activity *activity)
{
    tn_ms_replace_str(ms, &activity->identity, TN_STR(""));
    tn_ms_replace_str(ms, &activity->request_id, TN_STR(""));
    tn_ms_replace_str(ms, &activity->last_worker_identity, TN_STR(""));
    tn_ms_free_blob(ms, &activity->last_failure);
    tn_ms_free_blob(ms, &activity->heartbeat_details);
    tn_ms_free_blob(ms, &activity->worker_version);
    if (activity->started_id < 0)
        activity->started_id = 0;
    activity->attempt = 1;
    activity->attempt_scheduled_ns = activity->scheduled_ns;
    tn_reset_reschedule(ms, activity);
    activity->started_ns = 0;
    activity->nonce = 0;
    activity->has_heartbeat = false;
    activity->heartbeat_at_ns = 0;
    activity->last_attempt_complete_ns = 0;
    activity->retry_interval_ns = 0;
    tn_pause_clear(ms, &activity->pause);
    activity->reset = activity->reset_heartbeats = false;
}

void tn_activity_destroy(tn_ms *ms, tn_activity *activity)
{
    tn_list_remove(&activity->link);
    ms->n_activities--;
    tn_activity_clear_extras(ms, activity);
    tn_ms_free_blob(ms, &activity->options);
    tn_retry_clear(ms, &activity->retry);
    tn_ms_free_blob(ms, &activity->attrs);
    tn_ms_free(ms, activity->activity_id);
    tn_ms_free(ms, activity->type);
    tn_ms_free(ms, activity->task_queue);
    tn_ms_free(ms, activity);
}

void tn_ms_set_owned_since(tn_ms *ms, uint64_t since_ns)
{
    TN_LIST_FOREACH (link, &ms->activities)
        TN_CONTAINER_OF(link, tn_activity, link)->owned_since_ns = since_ns;
}

/* ---- the fold -------------------------------------------------------------------------------- */

static uint64_t event_ns(const tn_event *event)
{
    int64_t ns;

    return tn_ns_from_ts(event->event_time, &ns) && ns > 0 ? (uint64_t)ns : 0;
}

static tn_status apply_scheduled(tn_ms *ms, const tn_event *event, tn_blob packed, tn_error *err)
{
    const scheduled_attrs *attrs = event->activity_task_scheduled_event_attributes;
    tn_wire_field field;

    if (tn_ms_activity_any(ms, event->event_id))
        return tn_error_set(err, TN_EDATALOSS, "activity %lld is scheduled twice",
                            (long long)event->event_id);
    if (!tn_wire_find(packed, SCHEDULED_ATTRS_FIELD, &field))
        return tn_error_set(err, TN_EDATALOSS, "activity %lld has no attributes",
                            (long long)event->event_id);
    activity_create(ms, event->event_id, event_ns(event), field.bytes, attrs);
    return TN_OK;
}

static tn_status apply_started(tn_ms *ms, const tn_event *event)
{
    const Temporal__Api__History__V1__ActivityTaskStartedEventAttributes *attrs =
        event->activity_task_started_event_attributes;
    tn_activity *activity = tn_ms_activity_any(ms, attrs->scheduled_event_id);

    if (!activity)
        return TN_ENOTFOUND;
    activity->started_id = event->event_id;
    activity->attempt = attrs->attempt > 0 ? attrs->attempt : 1;
    activity->started_ns = event_ns(event);
    tn_ms_replace_str(ms, &activity->identity, tn_str_from(attrs->identity));
    tn_ms_replace_str(ms, &activity->request_id, tn_str_from(attrs->request_id));
    return TN_OK;
}

static tn_status apply_ended(tn_ms *ms, int64_t scheduled_id)
{
    tn_activity *activity = tn_ms_activity_any(ms, scheduled_id);

    if (!activity)
        return TN_ENOTFOUND;
    tn_activity_destroy(ms, activity);
    return TN_OK;
}

/* A request may come for an activity whose end waited in the buffer or is already recorded: nothing
 * is left to do. */
static tn_status apply_cancel_requested(tn_ms *ms, const tn_event *event)
{
    tn_activity *activity = tn_ms_activity_any(
        ms, event->activity_task_cancel_requested_event_attributes->scheduled_event_id);

    if (activity)
        activity->cancel_requested_id = event->event_id;
    return TN_OK;
}

tn_status tn_apply_activity(tn_ms *ms, const tn_event *event, tn_blob packed, tn_error *err)
{
    tn_status status;

    if (event->attributes_case == TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES__NOT_SET)
        return tn_error_set(err, TN_EDATALOSS, "event %lld has no attributes",
                            (long long)event->event_id);
    switch ((int)event->attributes_case) {
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_ACTIVITY_TASK_SCHEDULED_EVENT_ATTRIBUTES:
        return apply_scheduled(ms, event, packed, err);
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_ACTIVITY_TASK_STARTED_EVENT_ATTRIBUTES:
        status = apply_started(ms, event);
        break;
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_ACTIVITY_TASK_COMPLETED_EVENT_ATTRIBUTES:
        status =
            apply_ended(ms, event->activity_task_completed_event_attributes->scheduled_event_id);
        break;
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_ACTIVITY_TASK_FAILED_EVENT_ATTRIBUTES:
        status = apply_ended(ms, event->activity_task_failed_event_attributes->scheduled_event_id);
        break;
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_ACTIVITY_TASK_TIMED_OUT_EVENT_ATTRIBUTES:
        status =
            apply_ended(ms, event->activity_task_timed_out_event_attributes->scheduled_event_id);
        break;
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_ACTIVITY_TASK_CANCELED_EVENT_ATTRIBUTES:
        status =
            apply_ended(ms, event->activity_task_canceled_event_attributes->scheduled_event_id);
        break;
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_ACTIVITY_TASK_CANCEL_REQUESTED_EVENT_ATTRIBUTES:
        return apply_cancel_requested(ms, event);
    default:
        return tn_error_set(err, TN_EDATALOSS, "event %lld is not of an activity",
                            (long long)event->event_id);
    }
    if (status == TN_ENOTFOUND)
        return tn_error_set(err, TN_EDATALOSS, "event %lld is of an activity that is not pending",
                            (long long)event->event_id);
    return status;
}

/* ---- records and snapshots ------------------------------------------------------------------- */

static ProtobufCBinaryData bytes_of(tn_blob b)
{
    return (ProtobufCBinaryData){b.n, (uint8_t *)(uintptr_t)b.p};
}

static tn_blob blob_of(ProtobufCBinaryData b) { return (tn_blob){b.data, b.len}; }

static char *text_of(char *s)
{
    static char none[1];

    return s ? s : none;
}

Tenon__ActivityState *tn_activity_save(const tn_activity *activity, tn_arena *arena)
{
    Tenon__ActivityState *out = TN_MSG(arena, tenon__activity_state);

    out->scheduled_id = activity->scheduled_id;
    out->scheduled_ns = activity->scheduled_ns;
    out->attributes = bytes_of(activity->attrs);
    out->cancel_requested_id = activity->cancel_requested_id;
    out->started_id = activity->started_id > 0 ? activity->started_id : 0;
    return out;
}

/* What operators have done to it. */
static void save_operated(const tn_activity *activity, Tenon__ActivityExtras *out)
{
    out->reset = activity->reset;
    out->reset_heartbeats = activity->reset_heartbeats;
    out->options = bytes_of(activity->options);
    out->paused = activity->pause != NULL;
    if (!activity->pause)
        return;
    out->pause_ns = activity->pause->since_ns;
    out->pause_identity = text_of(activity->pause->identity);
    out->pause_reason = text_of(activity->pause->reason);
    out->pause_request_id = text_of(activity->pause->request_id);
}

Tenon__ActivityExtras *tn_activity_save_extras(const tn_activity *activity, tn_arena *arena)
{
    Tenon__ActivityExtras *out;

    if (activity->attempt == 1 && activity->started_ns == 0 && !activity->has_heartbeat &&
        activity->last_failure.n == 0 && activity->last_attempt_complete_ns == 0 &&
        !activity->identity && !activity->last_worker_identity && !activity->pause &&
        !activity->reset && !activity->options.n &&
        activity->attempt_scheduled_ns == activity->scheduled_ns)
        return NULL;
    out = TN_MSG(arena, tenon__activity_extras);
    out->scheduled_id = activity->scheduled_id;
    out->attempt = activity->attempt;
    out->attempt_scheduled_ns = activity->attempt_scheduled_ns;
    out->started_ns = activity->started_ns;
    out->identity = text_of(activity->identity);
    out->request_id = text_of(activity->request_id);
    out->nonce = activity->nonce;
    out->last_failure = bytes_of(activity->last_failure);
    out->heartbeat_details = bytes_of(activity->heartbeat_details);
    out->has_heartbeat = activity->has_heartbeat;
    out->heartbeat_ns = activity->heartbeat_at_ns;
    out->last_worker_identity = text_of(activity->last_worker_identity);
    out->last_attempt_complete_ns = activity->last_attempt_complete_ns;
    out->retry_interval_ns = activity->retry_interval_ns;
    out->worker_version = bytes_of(activity->worker_version);
    save_operated(activity, out);
    return out;
}

tn_status tn_activity_load(tn_ms *ms, const Tenon__ActivityState *saved, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    scheduled_attrs *attrs;
    tn_status status =
        TN_PROTO_UNPACK(temporal__api__history__v1__activity_task_scheduled_event_attributes,
                        blob_of(saved->attributes), arena, &attrs, err);

    if (status == TN_OK && tn_ms_activity_any(ms, saved->scheduled_id))
        status = tn_error_set(err, TN_EDATALOSS, "activity %lld is kept twice",
                              (long long)saved->scheduled_id);
    if (status == TN_OK) {
        tn_activity *activity = activity_create(ms, saved->scheduled_id, saved->scheduled_ns,
                                                blob_of(saved->attributes), attrs);

        activity->cancel_requested_id = saved->cancel_requested_id;
        activity->started_id = saved->started_id;
    }
    tn_arena_destroy(arena);
    return status == TN_OK ? TN_OK : TN_EDATALOSS;
}

static void load_extras(tn_ms *ms, tn_activity *activity, const Tenon__ActivityExtras *saved)
{
    activity->attempt = saved->attempt > 0 ? saved->attempt : 1;
    if (saved->attempt_scheduled_ns)
        activity->attempt_scheduled_ns = saved->attempt_scheduled_ns;
    activity->started_ns = saved->started_ns;
    activity->started_durable = saved->started_ns != 0;
    if (saved->started_ns && activity->started_id == 0)
        activity->started_id = TN_ID_TRANSIENT;
    tn_ms_replace_str(ms, &activity->identity, tn_str_from(saved->identity));
    tn_ms_replace_str(ms, &activity->request_id, tn_str_from(saved->request_id));
    activity->nonce = saved->nonce;
    tn_ms_replace_blob(ms, &activity->last_failure, blob_of(saved->last_failure));
    tn_ms_replace_blob(ms, &activity->heartbeat_details, blob_of(saved->heartbeat_details));
    activity->has_heartbeat = saved->has_heartbeat;
    activity->heartbeat_at_ns = saved->heartbeat_ns;
    tn_ms_replace_str(ms, &activity->last_worker_identity,
                      tn_str_from(saved->last_worker_identity));
    activity->last_attempt_complete_ns = saved->last_attempt_complete_ns;
    activity->retry_interval_ns = saved->retry_interval_ns;
    tn_ms_replace_blob(ms, &activity->worker_version, blob_of(saved->worker_version));
}

static void load_operated(tn_ms *ms, tn_activity *activity, const Tenon__ActivityExtras *saved)
{
    activity->reset = saved->reset;
    activity->reset_heartbeats = saved->reset_heartbeats;
    if (saved->paused)
        tn_pause_set(ms, &activity->pause, saved->pause_ns, saved->pause_identity,
                     saved->pause_reason, saved->pause_request_id);
    if (saved->options.len)
        tn_activity_load_options(ms, activity, blob_of(saved->options));
    else
        tn_activity_restore_options(ms, activity);
}

static void load_one(tn_ms *ms, tn_activity *activity, const Tenon__ActivityExtras *saved)
{
    load_extras(ms, activity, saved);
    load_operated(ms, activity, saved);
}

static bool is_kept(const Tenon__ActivityExtras *const *saved, size_t n, int64_t scheduled_id)
{
    for (size_t i = 0; i < n; i++)
        if (saved[i]->scheduled_id == scheduled_id)
            return true;
    return false;
}

void tn_activity_load_extras(tn_ms *ms, const Tenon__ActivityExtras *const *saved, size_t n)
{
    tn_list *at = ms->activities.next;

    TN_LIST_FOREACH (link, &ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        tn_activity_clear_extras(ms, activity);
        if (activity->options.n && !is_kept(saved, n, activity->scheduled_id))
            tn_activity_restore_options(ms, activity);
        activity->stamp = ++ms->next_stamp;
        activity->dispatched = activity->started_durable = false;
    }
    /* Both are by scheduled id; what belongs to an activity that has ended since is passed over. */
    for (size_t i = 0; i < n; i++) {
        while (at != &ms->activities &&
               TN_CONTAINER_OF(at, tn_activity, link)->scheduled_id < saved[i]->scheduled_id)
            at = at->next;
        if (at == &ms->activities)
            break;
        if (TN_CONTAINER_OF(at, tn_activity, link)->scheduled_id == saved[i]->scheduled_id)
            load_one(ms, TN_CONTAINER_OF(at, tn_activity, link), saved[i]);
    }
}

/* ---- what memory knew -------------------------------------------------------------------------- */

tn_blob tn_ms_unwritten(const tn_ms *ms, tn_arena *arena)
{
    Tenon__Extras *to = TN_MSG(arena, tenon__extras);
    tn_blob packed = {NULL, 0};

    to->activities = tn_arena_alloc(arena, (ms->n_activities + 1) * sizeof(to->activities[0]));
    TN_LIST_FOREACH (link, &ms->activities) {
        const tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (activity->started_ns && !activity->closing)
            to->activities[to->n_activities++] = tn_activity_save_extras(activity, arena);
    }
    if (to->n_activities)
        packed = tn_msg_pack(arena, to);
    return packed;
}

/* The same attempt, which the store takes for waiting or knows an older heartbeat of. */
static bool knows_more(const Tenon__ActivityExtras *memory, const tn_activity *stored)
{
    if (stored->closing || stored->attempt != memory->attempt ||
        stored->attempt_scheduled_ns != memory->attempt_scheduled_ns)
        return false;
    if (stored->started_ns)
        return stored->nonce == memory->nonce && memory->has_heartbeat &&
               (!stored->has_heartbeat || stored->heartbeat_at_ns < memory->heartbeat_ns);
    return true;
}

bool tn_ms_recall(tn_ms *ms, tn_blob unwritten)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__Extras *from;
    bool changed = false;

    if (TN_PROTO_UNPACK(tenon__extras, unwritten, arena, &from, NULL) == TN_OK) {
        for (size_t i = 0; i < from->n_activities && tn_ms_running(ms); i++) {
            tn_activity *activity = tn_ms_activity(ms, from->activities[i]->scheduled_id);
            bool durable = activity && activity->started_ns;

            if (!activity || !knows_more(from->activities[i], activity))
                continue;
            load_extras(ms, activity, from->activities[i]);
            activity->started_durable = durable;
            activity->dispatched = changed = true;
        }
    }
    tn_arena_destroy(arena);
    ms->extras_stale |= changed;
    return changed;
}
