/* SPDX-License-Identifier: MIT */
/* The timers that workflows start: their fold, their place in snapshots, and firing them. */
#include "history/machine/parts.h"
#include "proto/proto.h"

/* By the time they fire at, then by started id: the list's order is the order in which they
 * fire. */
static bool fires_after(const tn_timer_info *timer, uint64_t fire_ns, int64_t started_id)
{
    return timer->fire_ns != fire_ns ? timer->fire_ns > fire_ns : timer->started_id > started_id;
}

static void timer_create(tn_ms *ms, tn_str timer_id, int64_t started_id, uint64_t fire_ns)
{
    tn_timer_info *timer = tn_ms_alloc(ms, sizeof(*timer));
    tn_list *at = &ms->timers;

    timer->timer_id = tn_ms_strdup(ms, timer_id);
    timer->started_id = started_id;
    timer->fire_ns = fire_ns;
    while (at->prev != &ms->timers &&
           fires_after(TN_CONTAINER_OF(at->prev, tn_timer_info, link), fire_ns, started_id))
        at = at->prev;
    tn_list_insert_before(at, &timer->link);
    ms->n_timers++;
}

void tn_timer_info_destroy(tn_ms *ms, tn_timer_info *timer)
{
    tn_list_remove(&timer->link);
    ms->n_timers--;
    tn_ms_free(ms, timer->timer_id);
    tn_ms_free(ms, timer);
}

/* An id may be used again while the firing of the timer that had it waits in the buffer: the
 * started event tells them apart. */
static tn_timer_info *by_started_id(const tn_ms *ms, int64_t started_id)
{
    TN_LIST_FOREACH (link, &ms->timers) {
        tn_timer_info *timer = TN_CONTAINER_OF(link, tn_timer_info, link);

        if (timer->started_id == started_id)
            return timer;
    }
    return NULL;
}

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

bool tn_fire_timers(tn_tx *tx)
{
    tn_ms *ms = tx->ms;
    bool fired = false;

    TN_LIST_FOREACH_SAFE (link, &ms->timers) {
        tn_timer_info *timer = TN_CONTAINER_OF(link, tn_timer_info, link);
        Temporal__Api__History__V1__TimerFiredEventAttributes *attrs;
        tn_event *event;

        if (timer->fire_ns > tx->now_ns)
            break;
        if (timer->closing)
            continue;
        event = tn_tx_event(tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_TIMER_FIRED);
        attrs = TN_EVENT_ATTRS(tx, event, TIMER_FIRED, timer_fired);
        attrs->timer_id = tn_tx_text(tx, tn_str_from(timer->timer_id));
        attrs->started_event_id = timer->started_id;
        tn_tx_add(tx, event);
        fired = true;
    }
    return fired;
}
