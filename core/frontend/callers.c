/* SPDX-License-Identifier: MIT */
/* Who calls, within a namespace: a small table of those that were heard of lately, so that a rate can be shared among
 * them.  A caller is whom authorization has recognised (the claims' subject), else the host that its connection comes from:
 * clients behind one proxy are one caller, as they always were. */
#include "frontend/callers.h"

#include "rpc/rpc.h"

/* Eight places to choose from for each; who has been silent for two seconds gives its own up.  When all eight are busy
 * the newcomer shares the last. */
#define WAYS 8u
#define SETS 512u
#define SILENT_WINDOWS 3u

static tn_caller callers[SETS][WAYS];

static tn_blob host_of(tn_str peer)
{
    size_t n = peer.n;
    while (n > 0 && peer.p[n - 1] != ':')
        n--;
    return tn_blob_from(peer.p, n ? n - 1 : peer.n);
}

static uint64_t key_of(const tn_call *call, tn_str ns_id)
{
    uint64_t known = call->caller;
    uint64_t who =
        known ? known : tn_hash64_stable(host_of(tn_call_peer(call)), (tn_blob){NULL, 0});
    uint64_t where = tn_hash64_stable(tn_blob_of_str(ns_id), (tn_blob){NULL, 0});
    return (who ^ (where * UINT64_C(0x9e3779b97f4a7c15))) | 1;
}

/* The place is its new owner's with empty buckets; calls of the old one that are under way count for the new one. */
static bool take_over(tn_caller *place, uint64_t held, uint64_t key)
{
    if (!atomic_compare_exchange_strong_explicit(&place->key, &held, key, memory_order_relaxed,
                                                 memory_order_relaxed))
        return held == key;
    for (size_t kind = 0; kind < TN_RATES; kind++) {
        for (size_t p = 0; p < TN_RATE_PRIORITIES; p++)
            atomic_store_explicit(&place->shares[kind].full_at_ns[p], 0, memory_order_relaxed);
        atomic_store_explicit(&place->shares[kind].operator_at_ns, 0, memory_order_relaxed);
    }
    return true;
}

tn_caller *tn_front_caller(const tn_call *call, tn_str ns_id, uint64_t now_ns)
{
    uint64_t key = key_of(call, ns_id), window = tn_rate_window(now_ns);
    tn_caller *set = callers[(key >> 16) % SETS];
    for (size_t i = 0; i < WAYS; i++)
        if (atomic_load_explicit(&set[i].key, memory_order_relaxed) == key)
            return &set[i];
    for (size_t i = 0; i < WAYS; i++) {
        uint64_t held = atomic_load_explicit(&set[i].key, memory_order_relaxed);
        uint64_t seen = atomic_load_explicit(&set[i].seen, memory_order_relaxed);
        if ((held == 0 || seen + SILENT_WINDOWS <= window) && take_over(&set[i], held, key))
            return &set[i];
    }
    return &set[WAYS - 1];
}
