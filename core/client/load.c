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
    return (op >= TN_HOP_WFT_COMPLETED && op <= TN_HOP_ACT_HEARTBEAT) || op == TN_HOP_TERMINATE ||
           op == TN_HOP_REQUEST_CANCEL;
}

bool tn_load_has_task(tn_hop op) { return op >= TN_HOP_WFT_POLLED && op <= TN_HOP_UNDELIVERED; }

bool tn_load_sheds(tn_hop op, bool by_call, int64_t in_service, int64_t max)
{
    if (max <= 0 || !by_call || !tn_load_counts(op) || tn_load_has_task(op))
        return false;
    return in_service > (ends_work(op) ? 2 * max : max);
}
