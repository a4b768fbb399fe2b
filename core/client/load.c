/* SPDX-License-Identifier: MIT */
/* Which calls between hosts count as load, and which are refused when there is too much of it. */
#include "client/load.h"

bool tn_load_counts(tn_hop op)
{
    switch (op) {
    case TN_HOP_GET_HISTORY:
    case TN_HOP_QUERY:
    case TN_HOP_UPDATE:
    case TN_HOP_POLL_UPDATE:
    case TN_HOP_UPDATE_WITH_START:
    case TN_HOP_SWEEP:
        return false;
    default:
        return true;
    }
}

static bool ends_work(tn_hop op)
{
    return (op >= TN_HOP_WFT_COMPLETED && op <= TN_HOP_ACT_HEARTBEAT) || op == TN_HOP_TERMINATE || op == TN_HOP_REQUEST_CANCEL;
}

/* A poll has its task already: refused, it would be handed out in vain. */
static bool has_task(tn_hop op) { return op >= TN_HOP_WFT_POLLED && op <= TN_HOP_UNDELIVERED; }

bool tn_load_rated(tn_hop op, bool by_call) { return by_call && tn_load_counts(op) && !has_task(op); }

bool tn_load_rate(atomic_uint_fast64_t *full_at_ns, int64_t per_second, uint64_t now_ns)
{
    if (per_second <= 0)
        return true;
    uint64_t step = per_second < (int64_t)TN_SEC ? TN_SEC / (uint64_t)per_second : 1;
    uint64_t room = 2 * TN_SEC > step ? 2 * TN_SEC - step : 0;
    uint64_t at = atomic_load_explicit(full_at_ns, memory_order_relaxed);
    for (;;) {
        uint64_t from = at > now_ns ? at : now_ns;
        if (from - now_ns > room)
            return false;
        if (atomic_compare_exchange_weak_explicit(full_at_ns, &at, from + step, memory_order_relaxed, memory_order_relaxed))
            return true;
    }
}

bool tn_load_sheds(tn_hop op, bool by_call, int64_t in_service, int64_t max)
{
    if (max <= 0 || !tn_load_rated(op, by_call))
        return false;
    return in_service > (ends_work(op) ? 2 * max : max);
}
