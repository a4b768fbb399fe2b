/* SPDX-License-Identifier: MIT */
/* The state and the store: records are folded, snapshots are the whole state in one message,
 * extras are what no event carries.  Extras are absolute: those of a record replace the ones
 * before. */
#include "history/machine/state.h"

#include <string.h>

#include "history/machine/nexus.h"
#include "history/machine/object.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

/* A record is at most a few megabytes of our own making; unpacked it stays below this. */
#define LOAD_ARENA_BYTES_MAX (size_t)(1024u * 1024u * 1024u)

static char *out_text(const char *s) { return (char *)(uintptr_t)(s ? s : ""); }

static ProtobufCBinaryData out_bytes(tn_blob b)
{
    return (ProtobufCBinaryData){b.n, (uint8_t *)(uintptr_t)b.p};
}

static tn_blob in_bytes(ProtobufCBinaryData b) { return (tn_blob){b.data, b.len}; }

static void *array_of(tn_arena *arena, size_t n, size_t size)
{
    void *p = n ? tn_arena_array(arena, n, size) : NULL;

    TN_ASSERT(p || !n);
    return p;
}

/* ---- extras: out ----------------------------------------------------------------------------- */

static Tenon__WorkflowTask *save_wft(const tn_ms *ms, tn_arena *arena)
{
    const tn_wft *wft = &ms->wft;
    Tenon__WorkflowTask *to;

    if (!wft->scheduled_id && wft->attempt <= 1)
        return NULL;
    to = TN_MSG(arena, tenon__workflow_task);
    to->scheduled_id = wft->scheduled_id;
    to->started_id = wft->started_id;
    to->attempt = wft->attempt;
    to->transient = wft->transient;
    to->scheduled_ns = wft->scheduled_ns;
    to->original_scheduled_ns = wft->original_scheduled_ns;
    to->started_ns = wft->started_ns;
    to->timeout_ns = wft->timeout_ns;
    to->request_id = out_text(wft->request_id);
    to->identity = out_text(wft->identity);
    to->nonce = wft->nonce;
    to->suggest_continue_as_new = wft->suggest_continue_as_new;
    to->history_size_bytes = wft->history_size_bytes;
    to->sticky = wft->scheduled_sticky;
    to->n_suggest_reasons = wft->n_suggest_reasons;
    to->suggest_reasons = array_of(arena, wft->n_suggest_reasons, sizeof(int32_t));
    for (size_t i = 0; i < wft->n_suggest_reasons; i++)
        to->suggest_reasons[i] = wft->suggest_reasons[i];
    return to;
}

static void save_extra_lists(const tn_ms *ms, tn_arena *arena, Tenon__Extras *to)
{
    to->activities = array_of(arena, ms->n_activities, sizeof(to->activities[0]));
    TN_LIST_FOREACH (link, &ms->activities) {
        Tenon__ActivityExtras *extras =
            ms->kind ? NULL /* in its object */
                     : tn_activity_save_extras(TN_CONTAINER_OF(link, tn_activity, link), arena);

        if (extras)
            to->activities[to->n_activities++] = extras;
    }
    to->buffered = array_of(arena, ms->n_buffered, sizeof(to->buffered[0]));
    TN_LIST_FOREACH (link, &ms->buffered) {
        Tenon__BufferedEvent *buffered = TN_MSG(arena, tenon__buffered_event);

        buffered->event = out_bytes(TN_CONTAINER_OF(link, tn_buffered, link)->event);
        to->buffered[to->n_buffered++] = buffered;
    }
}

Tenon__Extras *tn_ms_extras(const tn_ms *ms, tn_arena *arena)
{
    Tenon__Extras *to = TN_MSG(arena, tenon__extras);

    to->wft = save_wft(ms, arena);
    save_extra_lists(ms, arena, to);
    to->sticky_queue = out_text(ms->sticky_queue);
    to->sticky_timeout_ns = ms->sticky_timeout_ns;
    to->held = ms->held;
    to->parent_told = ms->parent_told;
    to->owner = out_text(ms->owner);
    to->owner_run_id = out_text(ms->owner_run_id);
    to->owner_ref = ms->owner_ref;
    to->children_settled = ms->children_settled;
    to->n_attached_request_ids = ms->n_attached_request_ids;
    to->attached_request_ids = ms->attached_request_ids;
    to->n_attached_event_ids = ms->n_attached_request_ids;
    to->attached_event_ids = ms->attached_event_ids;
    tn_nexus_save_extras(ms, arena, to);
    to->problem_count = ms->problem_count;
    to->problem_cause = out_text(ms->problem_cause);
    to->sdk_name = out_text(ms->sdk_name);
    to->sdk_version = out_text(ms->sdk_version);
    to->last_worker_build_id = out_text(ms->last_build_id);
    tn_reset_save(ms, arena, to);
    if (ms->kind) {
        to->object_kind = (uint8_t)ms->kind->letter;
        to->object = out_bytes(ms->kind->save(ms, arena));
    }
    to->versioning = tn_versioning_save(ms, arena);
    return to;
}

/* ---- extras: in ------------------------------------------------------------------------------ */

static void load_wft(tn_ms *ms, const Tenon__WorkflowTask *from)
{
    tn_wft *wft = &ms->wft;

    tn_ms_clear_wft(ms);
    wft->attempt = 1;
    if (!from)
        return;
    wft->scheduled_id = from->scheduled_id;
    wft->started_id = from->started_id;
    wft->attempt = from->attempt > 0 ? from->attempt : 1;
    wft->transient = from->transient;
    wft->scheduled_ns = from->scheduled_ns;
    wft->original_scheduled_ns = from->original_scheduled_ns;
    wft->started_ns = from->started_ns;
    wft->timeout_ns = from->timeout_ns;
    tn_ms_replace_str(ms, &wft->request_id, tn_str_from(from->request_id));
    tn_ms_replace_str(ms, &wft->identity, tn_str_from(from->identity));
    wft->nonce = from->nonce;
    wft->suggest_continue_as_new = from->suggest_continue_as_new;
    wft->history_size_bytes = from->history_size_bytes;
    wft->sticky = wft->scheduled_sticky = from->sticky;
    wft->n_suggest_reasons = 0;
    for (size_t i = 0; i < from->n_suggest_reasons && i < TN_COUNT_OF(wft->suggest_reasons); i++)
        wft->suggest_reasons[wft->n_suggest_reasons++] = from->suggest_reasons[i];
    wft->started_durable = wft->started_id != 0;
}

static tn_status load_buffered(tn_ms *ms, const Tenon__Extras *from, tn_arena *arena, tn_error *err)
{
    tn_event *event;

    while (!tn_list_empty(&ms->buffered)) {
        tn_buffered *buffered = TN_CONTAINER_OF(ms->buffered.next, tn_buffered, link);

        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, buffered->event, arena,
                                  &event, NULL) == TN_OK);
        tn_ms_mark_closing(ms, event, false);
        tn_buffered_destroy(ms, buffered);
    }
    for (size_t i = 0; i < from->n_buffered; i++) {
        tn_blob packed = in_bytes(from->buffered[i]->event);
        tn_status status =
            TN_PROTO_UNPACK(temporal__api__history__v1__history_event, packed, arena, &event, err);

        if (status != TN_OK)
            return tn_error_set(err, TN_EDATALOSS, "a buffered event can't be read");
        if (!tn_event_well_formed(event))
            return tn_error_set(err, TN_EDATALOSS, "a buffered event of type %d makes no sense",
                                (int)event->event_type);
        tn_ms_buffer(ms, event, packed);
    }
    return TN_OK;
}

static tn_status load_extras(tn_ms *ms, const Tenon__Extras *from, tn_arena *arena, tn_error *err)
{
    load_wft(ms, from->wft);
    tn_reset_load(ms, from);
    tn_activity_load_extras(ms, (const Tenon__ActivityExtras *const *)from->activities,
                            from->n_activities);
    tn_ms_replace_str(ms, &ms->sticky_queue, tn_str_from(from->sticky_queue));
    ms->sticky_timeout_ns = from->sticky_timeout_ns;
    ms->held = from->held;
    ms->parent_told = from->parent_told;
    tn_ms_set_owner(ms, tn_str_from(from->owner), tn_str_from(from->owner_run_id), from->owner_ref);
    ms->children_settled = from->children_settled;
    for (size_t i = 0; i < from->n_attached_request_ids; i++)
        tn_ms_attach_request_id(ms, tn_str_from(from->attached_request_ids[i]),
                                i < from->n_attached_event_ids ? from->attached_event_ids[i] : 0);
    tn_nexus_load_extras(ms, from);
    ms->problem_count = from->problem_count;
    tn_ms_replace_str(ms, &ms->problem_cause, tn_str_from(from->problem_cause));
    tn_ms_replace_str(ms, &ms->sdk_name, tn_str_from(from->sdk_name));
    tn_ms_replace_str(ms, &ms->sdk_version, tn_str_from(from->sdk_version));
    tn_ms_replace_str(ms, &ms->last_build_id, tn_str_from(from->last_worker_build_id));
    if (from->object_kind &&
        tn_object_load(ms, (char)from->object_kind, in_bytes(from->object), err) != TN_OK)
        return TN_EDATALOSS;
    tn_versioning_load(ms, from->versioning);
    return load_buffered(ms, from, arena, err);
}

/* ---- records --------------------------------------------------------------------------------- */

static tn_status apply_packed(tn_ms *ms, tn_blob events, tn_arena *arena, tn_error *err)
{
    tn_wire_field field;
    tn_wire_iter it = tn_wire_begin(events);

    while (tn_wire_next(&it, &field)) {
        tn_event *event;
        tn_status status;

        if (field.number != 1 || field.wire_type != TN_WIRE_BYTES)
            return tn_error_set(err, TN_EDATALOSS, "a record's events are damaged");
        status = TN_PROTO_UNPACK(temporal__api__history__v1__history_event, field.bytes, arena,
                                 &event, err);
        if (status == TN_OK)
            status = tn_ms_apply(ms, event, field.bytes, err);
        if (status != TN_OK)
            return TN_EDATALOSS;
        tn_arena_reset(arena);
    }
    return it.damaged ? tn_error_set(err, TN_EDATALOSS, "a record's events are damaged") : TN_OK;
}

tn_status tn_ms_load_record(tn_ms *ms, const Tenon__Record *record, tn_error *err)
{
    tn_arena *arena = tn_arena_create(LOAD_ARENA_BYTES_MAX);
    tn_status status = apply_packed(ms, in_bytes(record->events), arena, err);
    Tenon__Extras *extras;

    if (status != TN_OK)
        goto out;
    if (record->has_extras) {
        status = TN_PROTO_UNPACK(tenon__extras, in_bytes(record->extras), arena, &extras, err);
        if (status == TN_OK)
            status = load_extras(ms, extras, arena, err);
        if (status != TN_OK) {
            status = TN_EDATALOSS;
            goto out;
        }
    }
    if (record->next_event_id && (int64_t)record->next_event_id != ms->next_event_id) {
        status = tn_error_set(
            err, TN_EDATALOSS, "a record should end before event %llu, ends before %lld",
            (unsigned long long)record->next_event_id, (long long)ms->next_event_id);
        goto out;
    }
    ms->transition = record->transition;
    if (record->retention_due_ns)
        ms->retention_due_ns = record->retention_due_ns;
out:
    tn_arena_destroy(arena);
    return status;
}

/* ---- snapshots: out -------------------------------------------------------------------------- */

static Tenon__NamedPayload **save_map(const tn_payload_map *map, tn_arena *arena)
{
    Tenon__NamedPayload **to = array_of(arena, map->count, sizeof(to[0]));

    for (size_t i = 0; i < map->count; i++) {
        to[i] = TN_MSG(arena, tenon__named_payload);
        to[i]->name = map->items[i].name;
        to[i]->payload = out_bytes(map->items[i].payload);
    }
    return to;
}

Temporal__Api__Workflow__V1__ResetPoints *tn_ms_reset_points(const tn_ms *ms, tn_arena *arena)
{
    Temporal__Api__Workflow__V1__ResetPoints *to;

    if (!ms->n_reset_points)
        return NULL;
    to = TN_MSG(arena, temporal__api__workflow__v1__reset_points);
    to->points = array_of(arena, ms->n_reset_points, sizeof(to->points[0]));
    for (size_t i = 0; i < ms->n_reset_points; i++) {
        const tn_reset_point *p = &ms->reset_points[i];
        Temporal__Api__Workflow__V1__ResetPointInfo *info =
            TN_MSG(arena, temporal__api__workflow__v1__reset_point_info);

        info->binary_checksum = out_text(p->checksum);
        info->build_id = out_text(p->build_id);
        info->run_id = out_text(p->run_id);
        info->first_workflow_task_completed_id = p->wft_completed_id;
        info->create_time = tn_ts_from_ns(arena, (int64_t)p->created_ns);
        if (p->expire_ns)
            info->expire_time = tn_ts_from_ns(arena, (int64_t)p->expire_ns);
        info->resettable = p->resettable;
        to->points[to->n_points++] = info;
    }
    return to;
}

static void save_pending(const tn_ms *ms, tn_arena *arena, Tenon__Snapshot *to)
{
    to->activities = array_of(arena, ms->n_activities, sizeof(to->activities[0]));
    if (!ms->kind)
        TN_LIST_FOREACH (link, &ms->activities)
            to->activities[to->n_activities++] =
                tn_activity_save(TN_CONTAINER_OF(link, tn_activity, link), arena);
    to->timers = array_of(arena, ms->n_timers, sizeof(to->timers[0]));
    TN_LIST_FOREACH (link, &ms->timers) {
        const tn_timer_info *from = TN_CONTAINER_OF(link, tn_timer_info, link);
        Tenon__TimerState *timer = TN_MSG(arena, tenon__timer_state);

        timer->timer_id = from->timer_id;
        timer->started_id = from->started_id;
        timer->fire_ns = from->fire_ns;
        to->timers[to->n_timers++] = timer;
    }
    to->children = array_of(arena, ms->n_children, sizeof(to->children[0]));
    TN_LIST_FOREACH (link, &ms->children) {
        const tn_child *from = TN_CONTAINER_OF(link, tn_child, link);
        Tenon__ChildState *child = TN_MSG(arena, tenon__child_state);

        child->initiated_id = from->initiated_id;
        child->attributes = out_bytes(from->attrs);
        child->started_id = from->started_id;
        child->run_id = out_text(from->run_id);
        child->request_id = out_text(from->request_id);
        to->children[to->n_children++] = child;
    }
    to->externals =
        array_of(arena, ms->n_signal_externals + ms->n_cancel_externals, sizeof(to->externals[0]));
    TN_LIST_FOREACH (link, &ms->externals) {
        const tn_external *from = TN_CONTAINER_OF(link, tn_external, link);
        Tenon__ExternalState *external = TN_MSG(arena, tenon__external_state);

        external->initiated_id = from->initiated_id;
        external->attributes = out_bytes(from->attrs);
        external->is_signal = from->is_signal;
        external->request_id = out_text(from->request_id);
        to->externals[to->n_externals++] = external;
    }
}

static void save_close(const tn_ms *ms, Tenon__Snapshot *to)
{
    to->close_ns = ms->close_ns;
    to->close_event_id = ms->close_event_id;
    to->close_batch_first_id = ms->close_batch_first_id;
    to->close_event = out_bytes(ms->close_event);
    to->new_run_id = out_text(ms->new_run_id);
    to->retention_due_ns = ms->retention_due_ns;
}

Tenon__Snapshot *tn_ms_snapshot(const tn_ms *ms, tn_arena *arena)
{
    Tenon__Snapshot *to = TN_MSG(arena, tenon__snapshot);
    Temporal__Api__Workflow__V1__ResetPoints *points = tn_ms_reset_points(ms, arena);

    to->ns_id = ms->ns_id;
    to->workflow_id = ms->workflow_id;
    to->run_id = (ProtobufCBinaryData){sizeof(ms->run_id), (uint8_t *)(uintptr_t)ms->run_id};
    to->transition = ms->transition;
    to->next_event_id = ms->next_event_id;
    to->started = out_bytes(ms->started);
    to->start_extra = out_bytes(ms->start_extra);
    to->start_ns = ms->start_ns;
    to->last_event_ns = ms->last_event_ns;
    to->status = ms->status;
    to->history_size_bytes = ms->history_size_bytes;
    to->last_completed_started_id = ms->last_completed_started_id;
    to->last_completed_wft_id = ms->last_completed_wft_id;
    to->first_wft_scheduled = ms->first_wft_scheduled_id;
    save_pending(ms, arena, to);
    to->n_memo = ms->memo.count;
    to->memo = save_map(&ms->memo, arena);
    to->n_search_attributes = ms->search_attributes.count;
    to->search_attributes = save_map(&ms->search_attributes, arena);
    to->cancel_requested_id =
        ms->cancel_requested_id == TN_ID_BUFFERED ? 0 : ms->cancel_requested_id;
    to->signal_count = ms->signal_count;
    to->n_signal_request_ids = ms->n_signal_request_ids;
    to->signal_request_ids = ms->signal_request_ids;
    save_close(ms, to);
    if (points)
        to->reset_points = out_bytes(tn_msg_pack(arena, points));
    to->extras = tn_ms_extras(ms, arena);
    to->create_request_id = out_text(ms->create_request_id);
    to->pause = tn_pause_save(ms->pause, arena);
    to->priority = out_bytes(ms->priority);
    tn_updates_save(ms, arena, to);
    tn_nexus_save(ms, arena, to);
    return to;
}

/* ---- snapshots: in --------------------------------------------------------------------------- */

/* The first event's attributes are in the snapshot whole: fold them again instead of saving each
 * field. */
static tn_status load_started(tn_ms *ms, const Tenon__Snapshot *from, tn_arena *arena,
                              tn_error *err)
{
    tn_event *event = TN_MSG(arena, temporal__api__history__v1__history_event);
    tn_event *extra = NULL;
    tn_started_attrs *attrs;
    tn_blob packed;

    if (TN_PROTO_UNPACK(temporal__api__history__v1__workflow_execution_started_event_attributes,
                        in_bytes(from->started), arena, &attrs, err) != TN_OK ||
        TN_PROTO_UNPACK(temporal__api__history__v1__history_event, in_bytes(from->start_extra),
                        arena, &extra, err) != TN_OK)
        return TN_EDATALOSS;
    event->event_id = 1;
    event->event_type = 1;
    event->event_time = tn_ts_from_ns(arena, (int64_t)from->start_ns);
    event->n_links = extra->n_links;
    event->links = extra->links;
    event->user_metadata = extra->user_metadata;
    event->attributes_case =
        TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_STARTED_EVENT_ATTRIBUTES;
    event->workflow_execution_started_event_attributes = attrs;
    packed = tn_msg_pack(arena, event);
    return tn_ms_apply(ms, event, packed, err);
}

static void clear_map(tn_ms *ms, tn_payload_map *map)
{
    while (map->count)
        tn_payload_map_put(ms, map, tn_str_from(map->items[map->count - 1].name),
                           (tn_blob){NULL, 0});
}

static tn_status load_map(tn_ms *ms, tn_payload_map *map, Tenon__NamedPayload *const *from,
                          size_t n, tn_arena *arena, tn_error *err)
{
    Temporal__Api__Common__V1__Payload *payload;

    clear_map(ms, map);
    for (size_t i = 0; i < n; i++) {
        if (TN_PROTO_UNPACK(temporal__api__common__v1__payload, in_bytes(from[i]->payload), arena,
                            &payload, err) != TN_OK)
            return TN_EDATALOSS;
        tn_payload_map_put(ms, map, tn_str_from(from[i]->name), in_bytes(from[i]->payload));
    }
    return TN_OK;
}

/* Replaces what the started event left by what became of it since. */
static tn_status load_maps(tn_ms *ms, const Tenon__Snapshot *from, tn_arena *arena, tn_error *err)
{
    Temporal__Api__Workflow__V1__ResetPoints *points;

    if (load_map(ms, &ms->memo, from->memo, from->n_memo, arena, err) != TN_OK ||
        load_map(ms, &ms->search_attributes, from->search_attributes, from->n_search_attributes,
                 arena, err) != TN_OK)
        return TN_EDATALOSS;
    for (size_t i = 0; i < from->n_signal_request_ids; i++)
        tn_ms_note_signal(ms, tn_str_from(from->signal_request_ids[i]));
    if (TN_PROTO_UNPACK(temporal__api__workflow__v1__reset_points, in_bytes(from->reset_points),
                        arena, &points, err) != TN_OK)
        return TN_EDATALOSS;
    while (ms->n_reset_points)
        tn_reset_point_clear(ms, &ms->reset_points[--ms->n_reset_points]);
    tn_ms_load_reset_points(ms, points);
    return TN_OK;
}

static tn_status load_pending(tn_ms *ms, const Tenon__Snapshot *from, tn_error *err)
{
    tn_status status = TN_OK;

    for (size_t i = 0; status == TN_OK && i < from->n_activities; i++)
        status = tn_activity_load(ms, from->activities[i], err);
    for (size_t i = 0; status == TN_OK && i < from->n_timers; i++)
        status = tn_timer_load(ms, from->timers[i], err);
    for (size_t i = 0; status == TN_OK && i < from->n_children; i++)
        status = tn_child_load(ms, from->children[i], err);
    for (size_t i = 0; status == TN_OK && i < from->n_externals; i++)
        status = tn_external_load(ms, from->externals[i], err);
    for (size_t i = 0; status == TN_OK && i < from->n_updates; i++)
        status = tn_update_load(ms, from->updates[i], err);
    return status == TN_OK ? tn_nexus_load(ms, from, err) : status;
}

static tn_status load_snapshot(tn_ms *ms, const Tenon__Snapshot *from, tn_arena *arena,
                               tn_error *err)
{
    tn_status status = load_started(ms, from, arena, err);

    if (status != TN_OK)
        return status;
    ms->transition = from->transition;
    ms->next_event_id = from->next_event_id;
    ms->last_event_ns = from->last_event_ns;
    ms->status = from->status;
    ms->history_size_bytes = from->history_size_bytes;
    ms->last_completed_started_id = from->last_completed_started_id;
    ms->last_completed_wft_id = from->last_completed_wft_id;
    ms->first_wft_scheduled_id = from->first_wft_scheduled;
    ms->cancel_requested_id = from->cancel_requested_id;
    ms->signal_count = from->signal_count;
    ms->close_ns = from->close_ns;
    ms->close_event_id = from->close_event_id;
    ms->close_batch_first_id = from->close_batch_first_id;
    ms->close_event = tn_ms_blobdup(ms, in_bytes(from->close_event));
    tn_ms_replace_str(ms, &ms->new_run_id, tn_str_from(from->new_run_id));
    ms->retention_due_ns = from->retention_due_ns;
    tn_ms_set_create_request_id(ms, tn_str_from(from->create_request_id));
    if (from->pause)
        tn_pause_set(ms, &ms->pause, from->pause->since_ns, from->pause->identity,
                     from->pause->reason, from->pause->request_id);
    tn_ms_replace_blob(ms, &ms->priority, in_bytes(from->priority));
    status = load_maps(ms, from, arena, err);
    if (status == TN_OK)
        status = load_pending(ms, from, err);
    if (status == TN_OK && from->extras)
        status = load_extras(ms, from->extras, arena, err);
    return status;
}

tn_ms *tn_ms_load_snapshot(const Tenon__Snapshot *snapshot, tn_error *err)
{
    tn_arena *arena;
    tn_ms *ms;

    if (snapshot->run_id.len != 16 || snapshot->next_event_id < 2 || !snapshot->started.len) {
        tn_error_set(err, TN_EDATALOSS, "a snapshot is incomplete");
        return NULL;
    }
    ms = tn_ms_create(tn_str_from(snapshot->ns_id), tn_str_from(snapshot->workflow_id),
                      snapshot->run_id.data);
    arena = tn_arena_create(LOAD_ARENA_BYTES_MAX);
    if (load_snapshot(ms, snapshot, arena, err) != TN_OK) {
        tn_ms_destroy(ms);
        ms = NULL;
    }
    tn_arena_destroy(arena);
    return ms;
}
