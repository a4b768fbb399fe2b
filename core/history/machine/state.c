/* SPDX-License-Identifier: MIT */
/* The state's memory and its small look-ups.  Everything that a state owns comes from
 * tn_ms_alloc, so that ms->bytes tells the cache what it would win by dropping the run. */
#include "history/machine/state.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "history/machine/nexus.h"
#include "history/machine/object.h"
#include "history/machine/priv.h"

void *tn_ms_alloc(tn_ms *ms, size_t n)
{
    void *p = tn_xcalloc(1, n ? n : 1);

    ms->bytes += malloc_usable_size(p);
    return p;
}

char *tn_ms_strdup(tn_ms *ms, tn_str s)
{
    char *p = tn_ms_alloc(ms, s.n + 1);

    if (s.n)
        memcpy(p, s.p, s.n);
    return p;
}

char *tn_ms_cstrdup(tn_ms *ms, const char *s)
{
    return s ? tn_ms_strdup(ms, tn_str_from(s)) : NULL;
}

tn_blob tn_ms_blobdup(tn_ms *ms, tn_blob b)
{
    uint8_t *p;

    if (b.n == 0)
        return (tn_blob){NULL, 0};
    p = tn_ms_alloc(ms, b.n);
    memcpy(p, b.p, b.n);
    return (tn_blob){p, b.n};
}

void tn_ms_free(tn_ms *ms, void *p)
{
    if (!p)
        return;
    ms->bytes -= malloc_usable_size(p);
    free(p);
}

void tn_ms_free_blob(tn_ms *ms, tn_blob *b)
{
    tn_ms_free(ms, (void *)(uintptr_t)b->p);
    *b = (tn_blob){NULL, 0};
}

void tn_ms_replace_str(tn_ms *ms, char **slot, tn_str s)
{
    char *fresh = s.n ? tn_ms_strdup(ms, s) : NULL; /* s may point into the old value */

    tn_ms_free(ms, *slot);
    *slot = fresh;
}

void tn_ms_replace_blob(tn_ms *ms, tn_blob *slot, tn_blob b)
{
    tn_blob fresh = tn_ms_blobdup(ms, b);

    tn_ms_free_blob(ms, slot);
    *slot = fresh;
}

/* ---- payload maps ---------------------------------------------------------------------------- */

static size_t map_place(const tn_payload_map *map, tn_str name, bool *out_found)
{
    size_t lo = 0, hi = map->count;

    *out_found = false;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int cmp =
            tn_blob_cmp(tn_blob_of_str(tn_str_from(map->items[mid].name)), tn_blob_of_str(name));

        if (cmp == 0) {
            *out_found = true;
            return mid;
        }
        if (cmp < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void tn_payload_map_put(tn_ms *ms, tn_payload_map *map, tn_str name, tn_blob payload)
{
    bool found;
    size_t at = map_place(map, name, &found);

    if (found && payload.n) {
        tn_ms_replace_blob(ms, &map->items[at].payload, payload);
        return;
    }
    if (found) {
        tn_ms_free(ms, map->items[at].name);
        tn_ms_free_blob(ms, &map->items[at].payload);
        map->count--;
        memmove(&map->items[at], &map->items[at + 1], (map->count - at) * sizeof(map->items[0]));
        return;
    }
    if (payload.n == 0)
        return;
    if (map->count == map->cap) {
        size_t cap = map->cap ? map->cap * 2 : 4;
        tn_named_payload *grown = tn_ms_alloc(ms, cap * sizeof(*grown));

        if (map->count)
            memcpy(grown, map->items, map->count * sizeof(*grown));
        tn_ms_free(ms, map->items);
        map->items = grown;
        map->cap = cap;
    }
    memmove(&map->items[at + 1], &map->items[at], (map->count - at) * sizeof(map->items[0]));
    map->items[at] = (tn_named_payload){tn_ms_strdup(ms, name), tn_ms_blobdup(ms, payload)};
    map->count++;
}

const tn_named_payload *tn_payload_map_find(const tn_payload_map *map, tn_str name)
{
    bool found;
    size_t at = map_place(map, name, &found);

    return found ? &map->items[at] : NULL;
}

static void map_destroy(tn_ms *ms, tn_payload_map *map)
{
    for (size_t i = 0; i < map->count; i++) {
        tn_ms_free(ms, map->items[i].name);
        tn_ms_free_blob(ms, &map->items[i].payload);
    }
    tn_ms_free(ms, map->items);
    *map = (tn_payload_map){0};
}

/* ---- retry policies -------------------------------------------------------------------------- */

void tn_retry_clear(tn_ms *ms, tn_retry *retry)
{
    if (retry->non_retryable)
        for (char **s = retry->non_retryable; *s; s++)
            tn_ms_free(ms, *s);
    tn_ms_free(ms, retry->non_retryable);
    *retry = (tn_retry){0};
}

/* ---- life ------------------------------------------------------------------------------------ */

tn_ms *tn_ms_create(tn_str ns_id, tn_str workflow_id, const uint8_t run_id[16])
{
    tn_ms *ms = tn_xcalloc(1, sizeof(*ms));

    ms->bytes = malloc_usable_size(ms);
    memcpy(ms->run_id, run_id, sizeof(ms->run_id));
    tn_uuid_format(run_id, ms->run_id_text);
    ms->ns_id = tn_ms_strdup(ms, ns_id);
    ms->workflow_id = tn_ms_strdup(ms, workflow_id);
    ms->next_event_id = 1;
    ms->wft.attempt = 1;
    ms->attempt = 1;
    tn_list_init(&ms->activities);
    tn_list_init(&ms->timers);
    tn_list_init(&ms->children);
    tn_list_init(&ms->externals);
    tn_list_init(&ms->buffered);
    return ms;
}

void tn_ms_set_create_request_id(tn_ms *ms, tn_str request_id)
{
    tn_ms_replace_str(ms, &ms->create_request_id, request_id);
}

void tn_ms_clear_pending(tn_ms *ms)
{
    tn_list *link;

    while ((link = tn_list_first(&ms->activities)))
        tn_activity_destroy(ms, TN_CONTAINER_OF(link, tn_activity, link));
    while ((link = tn_list_first(&ms->timers)))
        tn_timer_info_destroy(ms, TN_CONTAINER_OF(link, tn_timer_info, link));
    while ((link = tn_list_first(&ms->buffered)))
        tn_buffered_destroy(ms, TN_CONTAINER_OF(link, tn_buffered, link));
}

void tn_ms_clear_wft(tn_ms *ms)
{
    tn_wft *wft = &ms->wft;

    tn_ms_free(ms, wft->request_id);
    tn_ms_free(ms, wft->identity);
    *wft = (tn_wft){.attempt = wft->attempt};
}

tn_reset_point *tn_reset_point_new(tn_ms *ms)
{
    size_t cap = ms->cap_reset_points ? ms->cap_reset_points * 2 : 1;
    tn_reset_point *grown;

    if (ms->n_reset_points == ms->cap_reset_points) {
        grown = tn_ms_alloc(ms, cap * sizeof(*grown));
        if (ms->n_reset_points)
            memcpy(grown, ms->reset_points, ms->n_reset_points * sizeof(*grown));
        tn_ms_free(ms, ms->reset_points);
        ms->reset_points = grown;
        ms->cap_reset_points = cap;
    }
    return &ms->reset_points[ms->n_reset_points++];
}

void tn_reset_point_clear(tn_ms *ms, tn_reset_point *point)
{
    tn_ms_free(ms, point->checksum);
    tn_ms_free(ms, point->build_id);
    tn_ms_free(ms, point->run_id);
    *point = (tn_reset_point){0};
}

static void free_texts(tn_ms *ms)
{
    char **texts[] = {
        &ms->ns_id,
        &ms->workflow_id,
        &ms->type,
        &ms->task_queue,
        &ms->cron_schedule,
        &ms->create_request_id,
        &ms->identity,
        &ms->parent.ns_id,
        &ms->parent.ns_name,
        &ms->parent.workflow_id,
        &ms->parent.run_id,
        &ms->parent.root_workflow_id,
        &ms->parent.root_run_id,
        &ms->cancel_request_id,
        &ms->new_run_id,
        &ms->sticky_queue,
        &ms->sdk_name,
        &ms->sdk_version,
        &ms->reset.base_run_id,
        &ms->reset.request_id,
        &ms->reset_run_id,
        &ms->problem_cause,
        &ms->last_build_id,
        &ms->owner,
        &ms->owner_run_id,
    };

    for (size_t i = 0; i < TN_COUNT_OF(texts); i++)
        tn_ms_free(ms, *texts[i]);
    for (size_t i = 0; i < ms->n_signal_request_ids; i++)
        tn_ms_free(ms, ms->signal_request_ids[i]);
    tn_ms_free(ms, ms->signal_request_ids);
    for (size_t i = 0; i < ms->n_attached_request_ids; i++)
        tn_ms_free(ms, ms->attached_request_ids[i]);
    for (size_t i = 0; i < ms->n_ended_updates; i++)
        tn_ms_free(ms, ms->ended_updates[i]);
    tn_ms_free(ms, ms->ended_updates);
    tn_ms_free(ms, ms->attached_request_ids);
    tn_ms_free(ms, ms->attached_event_ids);
    tn_pause_clear(ms, &ms->pause);
    tn_ms_free_blob(ms, &ms->priority);
}

void tn_ms_destroy(tn_ms *ms)
{
    tn_list *link;

    if (!ms)
        return;
    if (ms->kind)
        ms->kind->destroy(ms);
    tn_ms_clear_pending(ms);
    while ((link = tn_list_first(&ms->children)))
        tn_child_destroy(ms, TN_CONTAINER_OF(link, tn_child, link));
    while ((link = tn_list_first(&ms->externals)))
        tn_external_destroy(ms, TN_CONTAINER_OF(link, tn_external, link));
    tn_ms_clear_wft(ms);
    tn_updates_destroy(ms);
    tn_nexus_destroy(ms);
    tn_versioning_destroy(ms);
    map_destroy(ms, &ms->memo);
    map_destroy(ms, &ms->search_attributes);
    tn_retry_clear(ms, &ms->retry);
    for (size_t i = 0; i < ms->n_reset_points; i++)
        tn_reset_point_clear(ms, &ms->reset_points[i]);
    tn_ms_free(ms, ms->reset_points);
    tn_ms_free_blob(ms, &ms->started);
    tn_ms_free_blob(ms, &ms->start_extra);
    tn_ms_free_blob(ms, &ms->close_event);
    free_texts(ms);
    TN_DEBUG_ASSERT(ms->bytes == malloc_usable_size(ms));
    free(ms);
}

/* ---- look-ups -------------------------------------------------------------------------------- */

tn_activity *tn_ms_activity_any(const tn_ms *ms, int64_t scheduled_id)
{
    TN_LIST_FOREACH (link, &ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (activity->scheduled_id == scheduled_id)
            return activity;
    }
    return NULL;
}

tn_activity *tn_ms_activity(const tn_ms *ms, int64_t scheduled_id)
{
    tn_activity *activity = tn_ms_activity_any(ms, scheduled_id);

    return activity && !activity->closing ? activity : NULL;
}

tn_activity *tn_ms_activity_by_id(const tn_ms *ms, tn_str activity_id)
{
    TN_LIST_FOREACH (link, &ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (!activity->closing && tn_str_is(activity_id, activity->activity_id))
            return activity;
    }
    return NULL;
}

tn_child *tn_ms_child_any(const tn_ms *ms, int64_t initiated_id)
{
    TN_LIST_FOREACH (link, &ms->children) {
        tn_child *child = TN_CONTAINER_OF(link, tn_child, link);

        if (child->initiated_id == initiated_id)
            return child;
    }
    return NULL;
}

tn_child *tn_ms_child(const tn_ms *ms, int64_t initiated_id)
{
    tn_child *child = tn_ms_child_any(ms, initiated_id);

    return child && !child->closing ? child : NULL;
}

tn_external *tn_ms_external_any(const tn_ms *ms, int64_t initiated_id)
{
    TN_LIST_FOREACH (link, &ms->externals) {
        tn_external *external = TN_CONTAINER_OF(link, tn_external, link);

        if (external->initiated_id == initiated_id)
            return external;
    }
    return NULL;
}

tn_external *tn_ms_external(const tn_ms *ms, int64_t initiated_id)
{
    tn_external *external = tn_ms_external_any(ms, initiated_id);

    return external && !external->closing ? external : NULL;
}
