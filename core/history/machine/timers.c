/* SPDX-License-Identifier: MIT */
/* The timers that workflows start: their fold, their place in snapshots, and firing them. */
#include <stdlib.h>

#include "history/machine/parts.h"
#include "proto/proto.h"

/* A run may have as many timers as its history has events; past a few they are found by an index. */
#define INDEX_FROM 32

typedef struct tn_timer_entry {
    tn_map_link by_event, by_id;
    uint8_t event_key[8];
    tn_timer_info *timer;
    bool in_ids;
} timer_entry;

typedef struct tn_timer_index {
    tn_map events; /* by started id */
    tn_map ids;    /* by timer id: of two of one id the later, the earlier one is closing */
} timer_index;

/* ---- finding --------------------------------------------------------------------------------- */

static timer_entry *entry_of_id(const tn_ms *ms, tn_str timer_id)
{
    tn_map_link *link = tn_map_find(&ms->timer_index->ids, tn_blob_of_str(timer_id));

    return link ? TN_CONTAINER_OF(link, timer_entry, by_id) : NULL;
}

static void index_add(tn_ms *ms, tn_timer_info *timer)
{
    tn_str id = tn_str_from(timer->timer_id);
    timer_entry *entry = tn_ms_alloc(ms, sizeof(*entry)), *earlier = entry_of_id(ms, id);

    entry->timer = timer;
    timer->entry = entry;
    tn_put_u64be(entry->event_key, (uint64_t)timer->started_id);
    tn_map_insert(&ms->timer_index->events, &entry->by_event, tn_blob_from(entry->event_key, 8));
    if (earlier) {
        tn_map_remove(&ms->timer_index->ids, &earlier->by_id);
        earlier->in_ids = false;
    }
    tn_map_insert(&ms->timer_index->ids, &entry->by_id, tn_blob_of_str(id));
    entry->in_ids = true;
}

static void index_remove(tn_ms *ms, tn_timer_info *timer)
{
    tn_map_remove(&ms->timer_index->events, &timer->entry->by_event);
    if (timer->entry->in_ids)
        tn_map_remove(&ms->timer_index->ids, &timer->entry->by_id);
    tn_ms_free(ms, timer->entry);
    if (ms->n_timers)
        return;
    tn_map_done(&ms->timer_index->events);
    tn_map_done(&ms->timer_index->ids);
    tn_ms_free(ms, ms->timer_index);
    ms->timer_index = NULL;
}

static void index_make(tn_ms *ms)
{
    ms->timer_index = tn_ms_alloc(ms, sizeof(*ms->timer_index));
    tn_map_init(&ms->timer_index->events);
    tn_map_init(&ms->timer_index->ids);
    TN_LIST_FOREACH (link, &ms->timers)
        index_add(ms, TN_CONTAINER_OF(link, tn_timer_info, link));
}

/* An id may be used again while the firing of the timer that had it waits in the buffer: the
 * started event tells them apart. */
static tn_timer_info *by_started_id(const tn_ms *ms, int64_t started_id)
{
    uint8_t key[8];
    tn_map_link *found;

    if (ms->timer_index) {
        tn_put_u64be(key, (uint64_t)started_id);
        found = tn_map_find(&ms->timer_index->events, tn_blob_from(key, 8));
        return found ? TN_CONTAINER_OF(found, timer_entry, by_event)->timer : NULL;
    }
    TN_LIST_FOREACH (link, &ms->timers) {
        tn_timer_info *timer = TN_CONTAINER_OF(link, tn_timer_info, link);

        if (timer->started_id == started_id)
            return timer;
    }
    return NULL;
}

static tn_timer_info *find_in_list(const tn_ms *ms, tn_str timer_id, bool closing_too)
{
    TN_LIST_FOREACH (link, &ms->timers) {
        tn_timer_info *timer = TN_CONTAINER_OF(link, tn_timer_info, link);

        if ((closing_too || !timer->closing) && tn_str_is(timer_id, timer->timer_id))
            return timer;
    }
    return NULL;
}

tn_timer_info *tn_ms_timer_any(const tn_ms *ms, tn_str timer_id)
{
    timer_entry *entry = ms->timer_index ? entry_of_id(ms, timer_id) : NULL;

    /* One that has lost its id to a later one is in the list only; that is rare. */
    return entry ? entry->timer : find_in_list(ms, timer_id, true);
}

tn_timer_info *tn_ms_timer(const tn_ms *ms, tn_str timer_id)
{
    timer_entry *entry;

    if (!ms->timer_index)
        return find_in_list(ms, timer_id, false);
    entry = entry_of_id(ms, timer_id);
    if (entry)
        return entry->timer->closing ? NULL : entry->timer;
    return find_in_list(ms, timer_id, false);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void timer_create(tn_ms *ms, tn_str timer_id, int64_t started_id, uint64_t fire_ns)
{
    tn_timer_info *timer = tn_ms_alloc(ms, sizeof(*timer));

    timer->timer_id = tn_ms_strdup(ms, timer_id);
    timer->started_id = started_id;
    timer->fire_ns = fire_ns;
    tn_list_push_back(&ms->timers, &timer->link);
    ms->n_timers++;
    if (ms->timer_index)
        index_add(ms, timer);
    else if (ms->n_timers > INDEX_FROM)
        index_make(ms);
}

void tn_timer_info_destroy(tn_ms *ms, tn_timer_info *timer)
{
    tn_list_remove(&timer->link);
    ms->n_timers--;
    if (ms->timer_index)
        index_remove(ms, timer);
    tn_ms_free(ms, timer->timer_id);
    tn_ms_free(ms, timer);
}

/* ---- the fold -------------------------------------------------------------------------------- */

static tn_status apply_started(tn_ms *ms, const tn_event *event, tn_error *err)
{
    const Temporal__Api__History__V1__TimerStartedEventAttributes *attrs =
        event->timer_started_event_attributes;
    uint64_t timeout_ns = tn_duration_ns(attrs->start_to_fire_timeout);
    int64_t at_ns;

    if (!tn_ns_from_ts(event->event_time, &at_ns) || at_ns < 0)
        return tn_error_set(err, TN_EDATALOSS, "event %lld has no time",
                            (long long)event->event_id);
    timer_create(ms, tn_str_from(attrs->timer_id), event->event_id,
                 timeout_ns > UINT64_MAX - 1 - (uint64_t)at_ns ? UINT64_MAX - 1
                                                               : (uint64_t)at_ns + timeout_ns);
    return TN_OK;
}

tn_status tn_apply_timer(tn_ms *ms, const tn_event *event, tn_error *err)
{
    tn_timer_info *timer;

    switch ((int)event->attributes_case) {
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_TIMER_STARTED_EVENT_ATTRIBUTES:
        return apply_started(ms, event, err);
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_TIMER_FIRED_EVENT_ATTRIBUTES:
        timer = by_started_id(ms, event->timer_fired_event_attributes->started_event_id);
        break;
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_TIMER_CANCELED_EVENT_ATTRIBUTES:
        timer = by_started_id(ms, event->timer_canceled_event_attributes->started_event_id);
        break;
    default:
        return tn_error_set(err, TN_EDATALOSS, "event %lld is not of a timer",
                            (long long)event->event_id);
    }
    if (!timer)
        return tn_error_set(err, TN_EDATALOSS, "event %lld is of a timer that is not pending",
                            (long long)event->event_id);
    tn_timer_info_destroy(ms, timer);
    return TN_OK;
}

tn_status tn_timer_load(tn_ms *ms, const Tenon__TimerState *saved, tn_error *err)
{
    if (by_started_id(ms, saved->started_id))
        return tn_error_set(err, TN_EDATALOSS, "timer %lld is kept twice",
                            (long long)saved->started_id);
    timer_create(ms, tn_str_from(saved->timer_id), saved->started_id, saved->fire_ns);
    return TN_OK;
}

/* ---- firing ---------------------------------------------------------------------------------- */

/* By the time they fire at, then by started id. */
static int compare_timers(const void *a, const void *b)
{
    const tn_timer_info *x = *(tn_timer_info *const *)a, *y = *(tn_timer_info *const *)b;

    if (x->fire_ns != y->fire_ns)
        return x->fire_ns < y->fire_ns ? -1 : 1;
    return (x->started_id > y->started_id) - (x->started_id < y->started_id);
}

static size_t list_due(const tn_tx *tx, tn_timer_info **out)
{
    size_t n = 0;

    TN_LIST_FOREACH (link, &tx->ms->timers) {
        tn_timer_info *timer = TN_CONTAINER_OF(link, tn_timer_info, link);

        if (timer->closing || timer->fire_ns > tx->now_ns)
            continue;
        if (out)
            out[n] = timer;
        n++;
    }
    return n;
}

bool tn_fire_timers(tn_tx *tx)
{
    size_t n = list_due(tx, NULL);
    tn_timer_info **due;

    if (n == 0)
        return false;
    due = tn_tx_alloc(tx, n * sizeof(*due));
    list_due(tx, due);
    qsort(due, n, sizeof(*due), compare_timers);
    for (size_t i = 0; i < n; i++) {
        tn_event *event =
            tn_tx_event(tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_TIMER_FIRED);
        Temporal__Api__History__V1__TimerFiredEventAttributes *attrs =
            TN_EVENT_ATTRS(tx, event, TIMER_FIRED, timer_fired);

        attrs->timer_id = tn_tx_text(tx, tn_str_from(due[i]->timer_id));
        attrs->started_event_id = due[i]->started_id;
        tn_tx_add(tx, event);
    }
    return true;
}
