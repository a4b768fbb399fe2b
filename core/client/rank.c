/* SPDX-License-Identifier: MIT */
/* Who is behind a request, how urgent that makes it among others, and whether it may be refused.  Pure. */
#include "client/door.h"
#include "client/load.h"

uint32_t tn_door_rank(tn_caller_type caller)
{
    switch (caller) {
    case TN_CALLER_OPERATOR:
        return TN_PRIORITY_OPERATOR;
    case TN_CALLER_BACKGROUND_HIGH:
        return 2;
    case TN_CALLER_BACKGROUND_LOW:
        return 3;
    case TN_CALLER_PREEMPTABLE:
        return 4;
    case TN_CALLER_UNKNOWN:
    case TN_CALLER_API:
        break;
    }
    return 1;
}

/* The calls that applications live by go before those that only look. */
static bool is_vital(tn_hop op)
{
    switch (op) {
    case TN_HOP_START:
    case TN_HOP_SIGNAL_WITH_START:
    case TN_HOP_SIGNAL:
    case TN_HOP_REQUEST_CANCEL:
    case TN_HOP_TERMINATE:
    case TN_HOP_GET_HISTORY:
    case TN_HOP_UPDATE:
    case TN_HOP_UPDATE_WITH_START:
        return true;
    default:
        return false;
    }
}

uint32_t tn_door_store_rank(tn_caller_type caller, tn_hop op)
{
    switch (caller) {
    case TN_CALLER_OPERATOR:
        return TN_PRIORITY_OPERATOR;
    case TN_CALLER_BACKGROUND_HIGH:
        return 4;
    case TN_CALLER_BACKGROUND_LOW:
        return 5;
    case TN_CALLER_PREEMPTABLE:
        return 6;
    case TN_CALLER_UNKNOWN:
    case TN_CALLER_API:
        break;
    }
    return is_vital(op) ? 1 : 2;
}

tn_store_account tn_door_account(tn_hreq *req, const tn_namespace *ns, uint32_t shard)
{
    tn_store_account account = {.ns = ns ? ns->name : (tn_str){NULL, 0}, .shard = shard};
    if (!req)
        return account;
    tn_caller_type caller =
        req->caller == TN_CALLER_UNKNOWN && !req->call ? TN_CALLER_BACKGROUND_HIGH : req->caller;
    account.priority = tn_door_store_rank(caller, req->op);
    account.paid = req->paid;
    req->paid = false;
    return account;
}

tn_door_manner tn_door_history_manner(tn_hop op, bool by_call)
{
    if (tn_load_has_task(op))
        return TN_DOOR_CREDIT;
    return by_call ? TN_DOOR_REFUSE : TN_DOOR_WAIT;
}

tn_door_manner tn_door_matching_manner(tn_mop op, bool forwarded)
{
    switch (op) {
    case TN_MOP_POLL:
        return forwarded ? TN_DOOR_CREDIT : TN_DOOR_REFUSE;
    case TN_MOP_DESCRIBE:
    case TN_MOP_PARTITIONS:
    case TN_MOP_UPDATE_CONFIG:
    case TN_MOP_LIST_WORKERS:
    case TN_MOP_COUNT_WORKERS:
    case TN_MOP_DESCRIBE_WORKER:
        return TN_DOOR_REFUSE;
    case TN_MOP_ADD:
        return forwarded ? TN_DOOR_CREDIT : TN_DOOR_WAIT;
    default:
        return TN_DOOR_CREDIT;
    }
}

uint64_t tn_door_patience_ns(tn_caller_type caller)
{
    return caller == TN_CALLER_PREEMPTABLE      ? 5 * TN_SEC
           : caller == TN_CALLER_BACKGROUND_LOW ? 3 * TN_SEC
                                                : TN_SEC;
}
