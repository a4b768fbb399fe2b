/* SPDX-License-Identifier: MIT */
/* What passes the doors of history and matching, and when.  A call pays for its first request to the store at the door,
 * for further ones when they are made: how many there will be is not known before.  So nothing that has begun is ever
 * refused its commit, and whoever comes next pays for what it took. */
#include "client/door.h"

#include <stdlib.h>

#include "client/remote.h"
#include "client/strain.h"
#include "config/dynconfig.h"
#include "membership/membership.h"
#include "metrics/metrics.h"

/* temporal.api.enums.v1.ResourceExhaustedCause */
enum { CAUSE_RPS_LIMIT = 1, CAUSE_PERSISTENCE_LIMIT = 4 };
enum { SCOPE_NAMESPACE = 1, SCOPE_SYSTEM = 2 }; /* ...ResourceExhaustedScope */

enum { DOOR_FRONTEND, DOOR_HISTORY, DOOR_MATCHING, DOORS };
static const char *const door_names[DOORS] = {"frontend", "history", "matching"};
static const uint32_t services[DOORS] = {TN_SERVICE_FRONTEND, TN_SERVICE_HISTORY,
                                         TN_SERVICE_MATCHING};

#define CALLS_BURST 2.0         /* seconds */
#define CREDIT_NS (10 * TN_SEC) /* of a rate, beside its burst */
#define NAMES 2048u             /* namespaces (or those of a shard) with buckets of their own */
#define LOOPS_MAX 64u

static tn_rate_buckets calls[DOORS], requests[DOORS];
static tn_strain strains[DOORS];
static tn_rate_named ns_calls[DOORS][NAMES], ns_requests[DOORS][NAMES], shard_requests[NAMES];
static tn_counter *refused[DOORS], *delayed[DOORS];

static size_t (*members)(uint32_t service);

/* ---- who is behind it ---- */

static tn_caller_type caller_of_call(const tn_call *call)
{
    return tn_caller_type_of(tn_call_header(call, "caller-type"));
}

tn_caller_type tn_door_history_caller(const tn_hreq *req)
{
    if (req->caller != TN_CALLER_UNKNOWN)
        return req->caller;
    if (req->call)
        return caller_of_call(req->call);
    return req->op == TN_HOP_DELETE_RUN || req->op == TN_HOP_SWEEP ? TN_CALLER_PREEMPTABLE
                                                                   : TN_CALLER_BACKGROUND_HIGH;
}

tn_caller_type tn_door_matching_caller(const tn_mreq *req)
{
    if (req->caller != TN_CALLER_UNKNOWN)
        return req->caller;
    return req->call ? caller_of_call(req->call) : TN_CALLER_BACKGROUND_HIGH;
}

/* ---- the limits in force ---- */

typedef struct limit {
    tn_rate_buckets *buckets;
    tn_rate rate;
    uint32_t priority;
    int32_t cause, scope;
    const char *text;
} limit;
#define LIMITS_MAX 5u

static double number(tn_dyn_key key, tn_str ns) { return (double)tn_dyn_i64(key, ns, TN_STR("")); }

/* A number for the whole cluster goes before that of a host: each of the role's hosts has its part. */
static double part_of(tn_dyn_key global, tn_dyn_key own, tn_str ns, uint32_t service)
{
    double whole = number(global, ns);
    if (whole <= 0)
        return number(own, ns);
    size_t hosts = members ? members(service) : 1;
    return whole / (double)(hosts ? hosts : 1);
}

static uint64_t hash_of(tn_str ns, uint32_t shard)
{
    return tn_hash64_stable(tn_blob_of_str(ns), tn_blob_from(&shard, sizeof(shard)));
}

static size_t call_limits(int door, tn_str ns, uint32_t priority, limit *out)
{
    static const tn_dyn_key of_host[DOORS] = {
        [DOOR_HISTORY] = TN_DYN_HISTORY_RPS, [DOOR_MATCHING] = TN_DYN_MATCHING_RPS};
    static const tn_dyn_key of_ns[DOORS] = {[DOOR_HISTORY] = TN_DYN_HISTORY_NAMESPACE_RPS,
                                            [DOOR_MATCHING] = TN_DYN_MATCHING_NAMESPACE_RPS};
    size_t n = 0;
    double rate = number(of_ns[door], ns);
    if (rate > 0)
        out[n++] = (limit){tn_rate_of_name(ns_calls[door], NAMES, hash_of(ns, 0)),
                           {rate, rate * CALLS_BURST},
                           priority,
                           CAUSE_RPS_LIMIT,
                           SCOPE_NAMESPACE,
                           "namespace rate limit exceeded"};
    rate = number(of_host[door], TN_STR(""));
    if (rate > 0)
        out[n++] = (limit){&calls[door], {rate, rate * CALLS_BURST},   priority, CAUSE_RPS_LIMIT,
                           SCOPE_SYSTEM, "service rate limit exceeded"};
    return n;
}

static size_t store_limits(int door, tn_str ns, uint32_t shard, uint32_t priority, limit *out)
{
    static const struct {
        tn_dyn_key host, global, ns, global_ns, strain;
    } keys[DOORS] = {
        [DOOR_FRONTEND] = {TN_DYN_FRONTEND_STORE_QPS, TN_DYN_FRONTEND_STORE_GLOBAL_QPS,
                           TN_DYN_FRONTEND_STORE_NS_QPS, TN_DYN_FRONTEND_STORE_GLOBAL_NS_QPS,
                           TN_DYN_FRONTEND_STORE_STRAIN},
        [DOOR_HISTORY] = {TN_DYN_HISTORY_STORE_QPS, TN_DYN_HISTORY_STORE_GLOBAL_QPS,
                          TN_DYN_HISTORY_STORE_NS_QPS, TN_DYN_HISTORY_STORE_GLOBAL_NS_QPS,
                          TN_DYN_HISTORY_STORE_STRAIN},
        [DOOR_MATCHING] = {TN_DYN_MATCHING_STORE_QPS, TN_DYN_MATCHING_STORE_GLOBAL_QPS,
                           TN_DYN_MATCHING_STORE_NS_QPS, TN_DYN_MATCHING_STORE_GLOBAL_NS_QPS,
                           TN_DYN_MATCHING_STORE_STRAIN},
    };
    size_t n = 0;
    double rate =
        ns.n && shard && door == DOOR_HISTORY ? number(TN_DYN_HISTORY_STORE_SHARD_NS_QPS, ns) : 0;
    if (rate > 0)
        out[n++] = (limit){tn_rate_of_name(shard_requests, NAMES, hash_of(ns, shard)),
                           {rate, rate},
                           priority,
                           CAUSE_PERSISTENCE_LIMIT,
                           SCOPE_NAMESPACE,
                           "Namespace Per-Shard Persistence Max QPS Reached."};
    rate = ns.n ? part_of(keys[door].global_ns, keys[door].ns, ns, services[door]) : 0;
    if (rate > 0)
        out[n++] = (limit){tn_rate_of_name(ns_requests[door], NAMES, hash_of(ns, 0)),
                           {rate, rate},
                           priority,
                           CAUSE_PERSISTENCE_LIMIT,
                           SCOPE_NAMESPACE,
                           "Namespace Persistence Max QPS Reached."};
    rate = part_of(keys[door].global, keys[door].host, TN_STR(""), services[door]);
    if (rate > 0)
        rate *=
            tn_strain_multiplier(&strains[door], tn_dyn_text(keys[door].strain), tn_now_mono_ns());
    if (rate > 0)
        out[n++] =
            (limit){&requests[door],         {rate, rate}, priority,
                    CAUSE_PERSISTENCE_LIMIT, SCOPE_SYSTEM, "System Persistence Max QPS Reached."};
    double burst = n ? tn_dyn_f64(TN_DYN_SYSTEM_STORE_BURST, TN_STR(""), TN_STR("")) : 1;
    for (size_t i = 0; i < n; i++)
        out[i].rate.burst *= burst;
    return n;
}

static double operator_ratio(void)
{
    return tn_dyn_f64(TN_DYN_SYSTEM_OPERATOR_RPS_RATIO, TN_STR(""), TN_STR(""));
}

static void charge(const limit *limits, size_t n)
{
    uint64_t now = tn_now_mono_ns();
    double ratio = operator_ratio();
    for (size_t i = 0; i < n; i++)
        tn_rate_charge(limits[i].buckets, limits[i].rate, ratio, limits[i].priority, CREDIT_NS,
                       now);
}

/* How long until all of them have room, and which one (the first that has none) has not; 0: it has passed. */
static uint64_t pass(const limit *limits, size_t n, const limit **out_full)
{
    uint64_t now = tn_now_mono_ns(), longest = 0;
    double ratio = n ? operator_ratio() : 1;
    *out_full = NULL;
    for (size_t i = 0; i < n; i++) {
        uint64_t wait =
            tn_rate_wait_ns(limits[i].buckets, limits[i].rate, ratio, limits[i].priority, now);
        if (wait && !*out_full)
            *out_full = &limits[i];
        longest = wait > longest ? wait : longest;
    }
    if (!longest)
        charge(limits, n);
    return longest;
}

static const tn_fault *fault_of(tn_arena *arena, int door, const limit *full)
{
    tn_counter_inc(refused[door]);
    return tn_fault_exhausted(arena, full->cause, full->scope, "%s", full->text);
}

/* ---- those that wait: in the order in which they came, by namespace and kind of caller ---- */

typedef struct waiter {
    tn_list link;
    uint64_t until_ns; /* it goes on then whatever the rates say */
    tn_hreq *hreq;     /* or ... */
    tn_mreq *mreq;
    void (*go_history)(tn_hreq *req);
    void (*go_matching)(tn_mreq *req);
} waiter;

#define SLOTS 64u /* namespaces that share one do not pass each other */
#define KINDS 6u  /* tn_caller_type */

typedef struct line {
    tn_list waiting;
    tn_loop_timer timer;
} line;

typedef struct lines {
    line of[DOORS][KINDS][SLOTS];
} lines;
static lines *waiting[LOOPS_MAX]; /* each by its loop; made when first needed, kept for good */

static size_t limits_of_history(const tn_hreq *req, limit *out)
{
    tn_caller_type caller = tn_door_history_caller(req);
    size_t n = call_limits(DOOR_HISTORY, req->ns->name, tn_door_rank(caller), out);
    bool by_shard = number(TN_DYN_HISTORY_STORE_SHARD_NS_QPS, req->ns->name) > 0;
    return n + store_limits(DOOR_HISTORY, req->ns->name,
                            by_shard ? tn_client_shard_of(req->ns->id, req->workflow_id) : 0,
                            tn_door_store_rank(caller, req->op), out + n);
}

/* The reference's matching knows two: operators, and all others. */
static size_t limits_of_matching(const tn_mreq *req, limit *out)
{
    tn_caller_type caller = tn_door_matching_caller(req);
    uint32_t rank = caller == TN_CALLER_OPERATOR            ? TN_PRIORITY_OPERATOR
                    : req->op == TN_MOP_CANCEL_WORKER_POLLS ? 2
                                                            : 1;
    size_t n = call_limits(DOOR_MATCHING, req->ns->name, rank, out);
    if (req->op == TN_MOP_UPDATE_CONFIG)
        n += store_limits(DOOR_MATCHING, req->ns->name, 0, tn_door_store_rank(caller, 0), out + n);
    return n;
}

static void release(line *l)
{
    while (!tn_list_empty(&l->waiting)) {
        waiter *w = TN_CONTAINER_OF(l->waiting.next, waiter, link);
        limit limits[LIMITS_MAX];
        const limit *full;
        size_t n =
            w->hreq ? limits_of_history(w->hreq, limits) : limits_of_matching(w->mreq, limits);
        uint64_t now = tn_now_mono_ns(), wait = pass(limits, n, &full);
        if (wait && now < w->until_ns) {
            uint64_t at = now + wait;
            tn_loop_timer_start(&l->timer, at < w->until_ns ? at : w->until_ns);
            return;
        }
        if (wait)
            charge(limits, n);
        tn_list_remove(&w->link);
        if (w->hreq)
            w->hreq->paid = n > 0, w->go_history(w->hreq);
        else
            w->go_matching(w->mreq);
    }
}

static void turn_came(tn_loop_timer *timer) { release(TN_CONTAINER_OF(timer, line, timer)); }

static line *line_of(int door, tn_caller_type caller, tn_str ns)
{
    lines **mine = &waiting[tn_loop_index(tn_loop_current())];
    if (!*mine) {
        *mine = tn_xcalloc(1, sizeof(**mine));
        for (size_t d = 0; d < DOORS; d++)
            for (size_t k = 0; k < KINDS; k++)
                for (size_t s = 0; s < SLOTS; s++) {
                    tn_list_init(&(*mine)->of[d][k][s].waiting);
                    tn_loop_timer_init(&(*mine)->of[d][k][s].timer, turn_came);
                }
    }
    return &(*mine)->of[door][caller][hash_of(ns, 0) % SLOTS];
}

/* Not past half of the time that its sender waits for the answer. */
static uint64_t until(tn_caller_type caller, uint64_t deadline_mono_ns)
{
    uint64_t now = tn_now_mono_ns(), patience = tn_door_patience_ns(caller);
    uint64_t left = deadline_mono_ns > now ? (deadline_mono_ns - now) / 2 : 0;
    return now + (deadline_mono_ns && left < patience ? left : patience);
}

/* False: no memory; it need not wait then. */
static bool stand(int door, tn_caller_type caller, const tn_namespace *ns, tn_arena *arena,
                  uint64_t deadline_mono_ns, waiter what)
{
    waiter *w = TN_NEW(arena, waiter);
    if (!w)
        return false;
    line *l = line_of(door, caller, ns->name);
    bool first = tn_list_empty(&l->waiting);
    *w = what;
    w->until_ns = until(caller, deadline_mono_ns);
    tn_list_push_back(&l->waiting, &w->link);
    tn_counter_inc(delayed[door]);
    if (first)
        release(l);
    return true;
}

static bool others_wait(int door, tn_caller_type caller, const tn_namespace *ns)
{
    return waiting[tn_loop_index(tn_loop_current())] &&
           !tn_list_empty(&line_of(door, caller, ns->name)->waiting);
}

/* ---- the doors ---- */

static bool pass_history(tn_hreq *req, void (*go)(tn_hreq *req))
{
    limit limits[LIMITS_MAX];
    const limit *full = NULL;
    tn_caller_type caller = req->caller = tn_door_history_caller(req);
    size_t n = limits_of_history(req, limits);
    /* What a host has admitted, and lost, is not refused by the next. */
    tn_door_manner manner =
        req->taken_in ? TN_DOOR_CREDIT : tn_door_history_manner(req->op, req->call != NULL);
    bool in_line = manner == TN_DOOR_WAIT && others_wait(DOOR_HISTORY, caller, req->ns);
    if (!in_line && (!n || !pass(limits, n, &full))) {
        req->paid = n > 0;
        return true;
    }
    if (manner == TN_DOOR_REFUSE) {
        req->fault = fault_of(req->arena, DOOR_HISTORY, full);
        tn_client_history_done(req);
        return false;
    }
    if (manner == TN_DOOR_WAIT &&
        stand(DOOR_HISTORY, caller, req->ns, req->arena, req->deadline_mono_ns,
              (waiter){.hreq = req, .go_history = go}))
        return false;
    charge(limits, n);
    req->paid = n > 0;
    return true;
}

static bool pass_matching(tn_mreq *req, void (*go)(tn_mreq *req))
{
    limit limits[LIMITS_MAX];
    const limit *full = NULL;
    size_t n = limits_of_matching(req, limits);
    tn_caller_type caller = tn_door_matching_caller(req);
    tn_door_manner manner = tn_door_matching_manner(req->op, req->forwarded);
    bool in_line = manner == TN_DOOR_WAIT && others_wait(DOOR_MATCHING, caller, req->ns);
    if (!in_line && (!n || !pass(limits, n, &full)))
        return true;
    if (manner == TN_DOOR_REFUSE) {
        req->fault = fault_of(req->arena, DOOR_MATCHING, full);
        tn_client_matching_done(req);
        return false;
    }
    if (manner == TN_DOOR_WAIT && stand(DOOR_MATCHING, caller, req->ns, req->arena, 0,
                                        (waiter){.mreq = req, .go_matching = go}))
        return false;
    charge(limits, n);
    return true;
}

const tn_fault *tn_door_frontend(tn_arena *arena, tn_str ns, tn_caller_type caller)
{
    limit limits[LIMITS_MAX];
    const limit *full;
    size_t n = store_limits(DOOR_FRONTEND, ns, 0, tn_door_store_rank(caller, 0), limits);
    return n && pass(limits, n, &full) ? fault_of(arena, DOOR_FRONTEND, full) : NULL;
}

/* ---- what the store is asked ---- */

static int door_of(uint32_t table)
{
    switch (table) {
    case TN_TABLE_SHARD:
    case TN_TABLE_CURRENT:
    case TN_TABLE_RECORD:
    case TN_TABLE_SNAPSHOT:
    case TN_TABLE_WAKE:
    case TN_TABLE_OUTBOX:
        return DOOR_HISTORY;
    case TN_TABLE_TASKQUEUE:
        return DOOR_MATCHING;
    case TN_TABLE_NAMESPACE:
    case TN_TABLE_NEXUS:
    case TN_TABLE_DEPLOYMENT:
        return DOOR_FRONTEND;
    default:
        return DOORS; /* who is a member, and what the cluster is: never held against anybody */
    }
}

/* Of what is not done for a call: shards that change hands go first, then timers. */
static uint32_t default_rank(int door, uint32_t table)
{
    if (door != DOOR_HISTORY)
        return 4;
    return table == TN_TABLE_SHARD ? 1 : table == TN_TABLE_WAKE || table == TN_TABLE_OUTBOX ? 3 : 4;
}

void tn_door_meter(const tn_store_op *op, uint32_t table, bool writes)
{
    int door = door_of(table);
    limit limits[LIMITS_MAX];
    bool at_the_door = writes && (table == TN_TABLE_NAMESPACE || table == TN_TABLE_TASKQUEUE);
    if (door == DOORS || op->account.paid || at_the_door)
        return;
    uint32_t priority = op->account.priority ? op->account.priority : default_rank(door, table);
    size_t n = store_limits(door, op->account.ns, op->account.shard, priority, limits);
    if (n)
        charge(limits, n);
}

void tn_door_answered(const tn_store_op *op, uint32_t table, uint64_t latency_ns)
{
    int door = door_of(table);
    bool failed = op->status != TN_OK && op->status != TN_ENOTFOUND && op->status != TN_ECONFLICT &&
                  op->status != TN_EFENCED;
    if (door != DOORS)
        tn_strain_count(&strains[door], latency_ns, failed);
}

static double multiplier_of(void *user)
{
    uint64_t parts = atomic_load_explicit(&((tn_strain *)user)->parts, memory_order_relaxed);
    return parts ? (double)parts / 1e6 : 1;
}

void tn_door_start(size_t (*count)(uint32_t service))
{
    static const tn_client_doors doors = {.history = pass_history, .matching = pass_matching};
    members = count;
    tn_client_use_doors(&doors);
    for (int door = 0; door < DOORS; door++) {
        tn_label label = TN_LABEL_Z("role", door_names[door]);
        refused[door] = tn_metrics_counter("tenon_door_refused",
                                           "calls that a role's rates refused", &label, 1);
        delayed[door] =
            tn_metrics_counter("tenon_door_delayed",
                               "the cluster's own calls that waited for a role's rates", &label, 1);
        tn_metrics_gauge_fn("tenon_door_store_multiplier",
                            "what a role's rate of requests to the store is multiplied by", &label,
                            1, multiplier_of, &strains[door]);
    }
}
