/* SPDX-License-Identifier: MIT */
/* Where a call between roles goes: the host that the ring names, and there the loop that owns the shard or the
 * partition.  A baton for the loop we are on is deferred, not called: the owner never runs inside its caller's stack.
 * A baton that comes back because its owner is another one by now is sent again, a little later. */
#include "client/client.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "client/partition.h"
#include "client/remote.h"
#include "client/retry.h"

#define LOOPS_MAX 64

static const tn_history_role *history_role;
static const tn_matching_role *matching_role;
static const tn_worker_role *worker_role;
static uint32_t partition_count;
static atomic_uint_fast64_t shard_map; /* version, shards: 32 bits each */
static atomic_uint_fast64_t poll_ids = 1;
static tn_list waiting[LOOPS_MAX];
static tn_retry_budget budgets[LOOPS_MAX];
static const tn_client_net *net; /* NULL: this process is all there is */

static const tn_client_doors *doors;

void tn_client_use_net(const tn_client_net *use) { net = use; }
void tn_client_use_doors(const tn_client_doors *use) { doors = use; }

bool tn_client_is_alone(void) { return !net; }

static const tn_member *owner_of(uint32_t service, tn_blob key, bool *out_any)
{
    *out_any = true;
    return net ? net->owner(service, key, out_any) : NULL;
}

void tn_client_wire(const tn_history_role *history, const tn_matching_role *matching,
                    const tn_worker_role *worker, uint32_t partitions)
{
    TN_ASSERT(partitions > 0);
    history_role = history;
    matching_role = matching;
    worker_role = worker;
    partition_count = partitions;
    atomic_store(&shard_map, partitions);
    for (uint32_t i = 0; i < LOOPS_MAX; i++)
        tn_list_init(&waiting[i]);
}

uint32_t tn_client_partition_count(void) { return partition_count; }

uint32_t tn_client_shard_map(uint64_t *out_version)
{
    uint64_t map = atomic_load_explicit(&shard_map, memory_order_acquire);
    *out_version = map >> 32;
    return (uint32_t)map;
}

uint32_t tn_client_shard_count(void)
{
    return (uint32_t)atomic_load_explicit(&shard_map, memory_order_acquire);
}

bool tn_client_set_shards(uint32_t shards, uint64_t version)
{
    uint64_t old = atomic_load(&shard_map);
    while (version > old >> 32)
        if (atomic_compare_exchange_weak(&shard_map, &old, version << 32 | shards))
            return true;
    return false;
}

uint32_t tn_client_shard_of(tn_str ns_id, tn_str workflow_id)
{
    uint64_t hash = tn_hash64_stable(tn_blob_of_str(ns_id), tn_blob_of_str(workflow_id));
    return (uint32_t)(hash % tn_client_shard_count()) + 1;
}

tn_loop *tn_client_shard_loop(uint32_t shard)
{
    return tn_loops_get((shard - 1) % tn_loops_count());
}

static void travel(tn_loop *to, tn_msg *msg)
{
    if (to == tn_loop_current())
        tn_loop_defer(msg);
    else
        tn_loop_post(to, msg);
}

/* ---- again ---- */

typedef struct again {
    tn_loop_timer timer;
    tn_list link; /* waiting[] of its loop */
    tn_hreq *hreq;
    tn_mreq *mreq;
} again;

static void send_again(tn_loop_timer *timer)
{
    again *a = TN_CONTAINER_OF(timer, again, timer);
    tn_list_remove(&a->link);
    if (a->hreq)
        tn_client_history(a->hreq);
    else
        tn_client_matching(a->mreq);
}

/* False: too late, or tried often enough.  nobody_ns: since when nobody has the role, 0: somebody has, or it is no matter. */
static bool later(tn_arena *arena, uint64_t deadline_mono_ns, uint64_t nobody_ns, uint8_t *tries,
                  tn_hreq *hreq, tn_mreq *mreq)
{
    uint64_t now = tn_now_mono_ns(), chance;
    tn_random_bytes(&chance, sizeof(chance));
    uint64_t wait =
        tn_retry_wait_ns(&budgets[tn_loop_index(tn_loop_current())], *tries, now, chance);
    uint64_t at = now + wait;
    if (nobody_ns) { /* the last try is at that moment, and not when the next would be due */
        uint64_t until = tn_retry_nobody_until_ns(nobody_ns, deadline_mono_ns);
        at = at < until ? at : until;
        wait = now < until ? wait : 0;
    }
    tn_arena_set_limit(arena, 0);
    again *a = wait && at < deadline_mono_ns ? TN_NEW(arena, again) : NULL;
    if (!a)
        return false;
    (*tries)++;
    a->hreq = hreq;
    a->mreq = mreq;
    tn_loop_timer_init(&a->timer, send_again);
    tn_loop_timer_start(&a->timer, at);
    tn_list_push_back(&waiting[tn_loop_index(tn_loop_current())], &a->link);
    return true;
}

static uint64_t nobody_since(bool any, uint64_t before_ns)
{
    return any ? 0 : before_ns ? before_ns : tn_now_mono_ns();
}

/* What a caller is told for whom there was nobody until its time was over. */
static const tn_fault *answer_of(tn_arena *arena, const tn_fault *fault, uint64_t nobody_ns,
                                 uint64_t deadline_mono_ns)
{
    if (!fault || !nobody_ns || !tn_retry_is_in_vain(nobody_ns, deadline_mono_ns) ||
        tn_now_mono_ns() < tn_retry_nobody_until_ns(nobody_ns, deadline_mono_ns))
        return fault;
    return tn_fault_make(arena, TN_GRPC_DEADLINE_EXCEEDED, TN_STR_FMT, TN_STR_ARG(fault->message));
}

/* Who waits for an owner need not wait longer than until there is one. */
void tn_client_ring_changed(void)
{
    tn_list *mine = &waiting[tn_loop_index(tn_loop_current())];
    TN_LIST_FOREACH (link, mine) {
        again *a = TN_CONTAINER_OF(link, again, link);
        *(a->hreq ? &a->hreq->tries : &a->mreq->tries) = 0;
        tn_loop_timer_start(&a->timer, tn_now_mono_ns());
    }
}

/* ---- history ---- */

/* Also of a task: the shard that offered it may not be the one that has its workflow by now. */
static uint32_t shard_of(const tn_hreq *req)
{
    return req->op == TN_HOP_SWEEP ? req->u.task.ref.shard
                                   : tn_client_shard_of(req->ns->id, req->workflow_id);
}

const tn_member *tn_client_shard_owner(uint32_t shard, bool *out_any)
{
    uint8_t key[4];
    tn_put_u32be(key, shard);
    return owner_of(TN_SERVICE_HISTORY, tn_blob_from(key, sizeof(key)), out_any);
}

static void history_arrive(tn_msg *msg)
{
    history_role->submit(TN_CONTAINER_OF(msg, tn_hreq, msg));
}

static void history_enter(tn_hreq *req)
{
    req->msg.run = history_arrive;
    travel(tn_client_shard_loop(shard_of(req)), &req->msg);
}

void tn_client_history_here(tn_hreq *req)
{
    if (!history_role) {
        req->not_owner = true;
        req->fault = tn_fault_make(req->arena, TN_GRPC_UNAVAILABLE, "this host has no such shard");
        req->done(req);
        return;
    }
    if (!doors || doors->history(req, history_enter))
        history_enter(req);
}

void tn_client_history(tn_hreq *req)
{
    bool any;
    const tn_member *owner = tn_client_shard_owner(shard_of(req), &any);
    req->fault = NULL;
    req->not_owner = false;
    req->nobody_ns = nobody_since(any, req->nobody_ns);
    if (owner) {
        net->history(owner, req);
    } else if (any) {
        tn_client_history_here(req);
    } else {
        req->not_owner = true;
        req->fault =
            tn_fault_make(req->arena, TN_GRPC_UNAVAILABLE, "no history host is known, try again");
        tn_client_history_done(req);
    }
}

static void history_return(tn_msg *msg)
{
    tn_hreq *req = TN_CONTAINER_OF(msg, tn_hreq, msg);
    if (req->not_owner && req->tries > 1 && net)
        net->lost(); /* it may be our map that is wrong, and not the ring */
    if (req->not_owner && !req->final &&
        later(req->arena, req->deadline_mono_ns, req->nobody_ns, &req->tries, req, NULL))
        return;
    req->fault = answer_of(req->arena, req->fault, req->nobody_ns, req->deadline_mono_ns);
    req->nobody_ns = 0; /* its holder may send it again */
    req->done(req);
}

void tn_client_history_done(tn_hreq *req)
{
    req->msg.run = history_return;
    travel(req->home, &req->msg);
}

void tn_client_reply_call(tn_hreq *req)
{
    if (req->fault)
        tn_call_fail(req->call, req->fault);
    else
        tn_call_reply(req->call, req->response);
}

/* ---- matching ---- */

static uint64_t partition_hash(const tn_mreq *req)
{
    return tn_hash64_stable(tn_blob_of_str(req->ns->id), tn_blob_of_str(req->queue));
}

static void queue_key(tn_str ns_id, tn_str queue, uint8_t out[8])
{
    tn_put_u64be(out, tn_hash64_stable(tn_blob_of_str(ns_id), tn_blob_of_str(queue)));
}

const tn_member *tn_client_queue_owner(tn_str ns_id, tn_str queue, bool *out_any)
{
    uint8_t key[8];
    *out_any = true;
    if (!net) /* the way of every task: not a hash for nothing */
        return NULL;
    queue_key(ns_id, queue, key);
    return owner_of(TN_SERVICE_MATCHING, tn_blob_from(key, sizeof(key)), out_any);
}

static bool one_moved(tn_str ns_id, tn_str queue)
{
    uint8_t key[8];
    queue_key(ns_id, queue, key);
    return net->moved(TN_SERVICE_MATCHING, tn_blob_from(key, sizeof(key)));
}

/* Which partition has the task is not remembered, and it may have been forwarded: one that moves is enough. */
bool tn_client_queue_moved(tn_str ns_id, tn_str queue, uint32_t type, bool sticky)
{
    if (!net)
        return false;
    if (one_moved(ns_id, queue))
        return true;
    const tn_namespace *ns = sticky ? NULL : tn_namespace_by_id(ns_id);
    if (!ns)
        return false;
    uint32_t read = tn_partitions_read(ns->name, queue, type),
             write = tn_partitions_write(ns->name, queue, type);
    tn_arena *arena = read > 1 || write > 1 ? tn_arena_create(0) : NULL;
    bool any = false;
    for (uint32_t i = 1; !any && (i < read || i < write); i++)
        any = one_moved(ns_id, tn_partition_name(arena, queue, i));
    tn_arena_destroy(arena);
    tn_namespace_unref(ns);
    return any;
}

const char *tn_client_queue_host(tn_arena *arena, tn_str ns_id, tn_str queue)
{
    uint8_t key[8];
    queue_key(ns_id, queue, key);
    const tn_member *owner =
        net && net->owner_now ? net->owner_now(TN_SERVICE_MATCHING, tn_blob_from(key, sizeof(key)))
                              : NULL;
    if (!owner)
        return NULL;
    return tn_arena_printf(arena, strchr(owner->ip, ':') ? "[%s]:%u" : "%s:%u", owner->ip,
                           owner->role_ports[TN_SERVICE_MATCHING]);
}

static void matching_arrive(tn_msg *msg)
{
    matching_role->submit(TN_CONTAINER_OF(msg, tn_mreq, msg));
}

static void matching_enter(tn_mreq *req)
{
    req->msg.run = matching_arrive;
    travel(tn_loops_get((uint32_t)(partition_hash(req) % tn_loops_count())), &req->msg);
}

static void matching_travel(tn_mreq *req)
{
    if (!doors || doors->matching(req, matching_enter))
        matching_enter(req);
}

void tn_client_matching_here(tn_mreq *req)
{
    bool any;
    /* A poll that is being cancelled is still where it was parked. */
    if (!matching_role ||
        (req->op != TN_MOP_CANCEL_POLL && tn_client_queue_owner(req->ns->id, req->queue, &any))) {
        req->not_owner = true;
        req->accepted = false;
        req->fault = tn_fault_make(req->arena, TN_GRPC_UNAVAILABLE,
                                   "this host does not have the task queue");
        req->done(req);
        return;
    }
    matching_travel(req);
}

void tn_client_matching(tn_mreq *req)
{
    bool any;
    tn_partition_place(req);
    const tn_member *owner = tn_client_queue_owner(req->ns->id, req->queue, &any);
    req->fault = NULL;
    req->not_owner = false;
    req->nobody_ns = nobody_since(any, req->nobody_ns);
    if (req->op == TN_MOP_CANCEL_POLL && net && net->cancel_poll(req->poll_id)) {
        tn_client_matching_done(req);
    } else if (owner && req->op != TN_MOP_CANCEL_POLL) {
        net->matching(owner, req);
    } else if (any && matching_role) {
        matching_travel(req); /* the ring has just been asked */
    } else {
        req->not_owner = true;
        req->accepted = false;
        req->fault =
            tn_fault_make(req->arena, TN_GRPC_UNAVAILABLE, "no matching host is known, try again");
        tn_client_matching_done(req);
    }
}

/* A worker's poll has time, and history's task no caller: for them a host that comes late is better than none. */
static bool may_wait(const tn_mreq *req) { return req->op == TN_MOP_POLL || req->op == TN_MOP_ADD; }

static void matching_return(tn_msg *msg)
{
    tn_mreq *req = TN_CONTAINER_OF(msg, tn_mreq, msg);
    if (req->not_owner && req->op != TN_MOP_CANCEL_POLL &&
        !(req->call && tn_call_cancelled(req->call)) && !req->final &&
        later(req->arena, req->op == TN_MOP_ADD ? UINT64_MAX : req->deadline_mono_ns,
              may_wait(req) ? 0 : req->nobody_ns, &req->tries, NULL, req))
        return;
    if (!may_wait(req))
        req->fault = answer_of(req->arena, req->fault, req->nobody_ns, req->deadline_mono_ns);
    req->nobody_ns = 0; /* its holder may send it again */
    req->done(req);
}

void tn_client_matching_done(tn_mreq *req)
{
    req->msg.run = matching_return;
    travel(req->home, &req->msg);
}

void tn_client_answer_poll(const tn_poll_ref *to, tn_arena *arena, uint32_t type,
                           ProtobufCMessage *response)
{
    TN_ASSERT(net && net->answer_poll); /* such a poll came from a net */
    net->answer_poll(to, arena, type, response);
}

uint64_t tn_client_next_poll_id(void)
{
    return atomic_fetch_add_explicit(&poll_ids, 1, memory_order_relaxed);
}

typedef struct credit {
    tn_msg msg;
    tn_arena *arena;
    uint32_t shard, type;
    tn_str ns_id, queue;
} credit;

static void credit_arrive(tn_msg *msg)
{
    credit *c = TN_CONTAINER_OF(msg, credit, msg);
    history_role->credit(c->shard, c->ns_id, c->queue, c->type);
    tn_arena_destroy(c->arena);
}

bool tn_client_credit_here(uint32_t shard, tn_str ns_id, tn_str queue, uint32_t type)
{
    if (!history_role || shard == 0 || shard > tn_client_shard_count())
        return false;
    tn_arena *arena = tn_arena_create(0);
    credit *c = TN_NEW(arena, credit);
    c->arena = arena;
    c->shard = shard;
    c->type = type;
    c->ns_id = tn_arena_str(arena, ns_id);
    c->queue = tn_arena_str(arena, queue);
    c->msg.run = credit_arrive;
    travel(tn_client_shard_loop(shard), &c->msg);
    return true;
}

void tn_client_end_waits_here(const uint8_t host_id[16])
{
    if (history_role)
        history_role->end_waits(host_id);
    if (matching_role)
        matching_role->end_polls(host_id);
}

void tn_client_credit(uint32_t shard, tn_str ns_id, tn_str queue, uint32_t type)
{
    bool any;
    const tn_member *owner = tn_client_shard_owner(shard, &any);
    if (owner)
        net->credit(owner, shard, ns_id, queue, type);
    else if (any)
        (void)tn_client_credit_here(shard, ns_id, queue, type);
}

/* ---- a shard is handed over ---- */

typedef struct handing {
    tn_msg msg;
    tn_arena *arena;
    uint32_t shard;
    const tn_run_key *runs;
    size_t n;
} handing;

static void handing_arrive(tn_msg *msg)
{
    handing *h = TN_CONTAINER_OF(msg, handing, msg);
    history_role->handed_over(h->shard, h->runs, h->n);
    tn_arena_destroy(h->arena);
}

bool tn_client_handed_over_here(tn_arena *arena, uint32_t shard, const tn_run_key *runs, size_t n)
{
    handing *h = history_role && shard > 0 && shard <= tn_client_shard_count()
                     ? TN_NEW(arena, handing)
                     : NULL;
    if (!h) {
        tn_arena_destroy(arena);
        return false;
    }
    *h = (handing){.msg.run = handing_arrive, .arena = arena, .shard = shard, .runs = runs, .n = n};
    travel(tn_client_shard_loop(shard), &h->msg);
    return true;
}

void tn_client_hand_over(uint32_t shard, const tn_run_key *runs, size_t n)
{
    bool any;
    const tn_member *owner = tn_client_shard_owner(shard, &any);
    if (owner && net->hand_over)
        net->hand_over(owner, shard, runs, n);
}

bool tn_client_shard_is_handed(uint32_t shard)
{
    uint8_t key[4];
    tn_put_u32be(key, shard);
    return net && net->handed && net->handed(TN_SERVICE_HISTORY, tn_blob_from(key, sizeof(key)));
}

/* ---- an operator closes a shard ---- */

typedef struct closing {
    tn_msg msg;
    uint32_t shard;
} closing;

static void closing_arrive(tn_msg *msg)
{
    closing *c = TN_CONTAINER_OF(msg, closing, msg);
    history_role->close_shard(c->shard);
    free(c);
}

bool tn_client_close_shard_here(uint32_t shard)
{
    if (!history_role || shard == 0 || shard > tn_client_shard_count())
        return false;
    closing *c = tn_xcalloc(1, sizeof(*c));
    c->shard = shard;
    c->msg.run = closing_arrive;
    travel(tn_client_shard_loop(shard), &c->msg);
    return true;
}

void tn_client_close_shard(uint32_t shard)
{
    bool any;
    const tn_member *owner = tn_client_shard_owner(shard, &any);
    if (owner)
        net->close_shard(owner, shard);
    else if (any)
        (void)tn_client_close_shard_here(shard);
}

/* ---- worker ---- */

bool tn_client_retire_here(const tn_namespace *ns, tn_str workflow_id, tn_str run_id)
{
    if (worker_role)
        worker_role->retire(ns, workflow_id, run_id);
    return worker_role != NULL;
}

/* A worker of this process first: what it is given it gives back to a shard of this host. */
void tn_client_retire(const tn_namespace *ns, tn_str workflow_id, tn_str run_id)
{
    bool any;
    if (tn_client_retire_here(ns, workflow_id, run_id))
        return;
    const tn_member *owner = owner_of(TN_SERVICE_WORKER, tn_blob_of_str(run_id), &any);
    if (owner)
        net->retire(owner, ns, workflow_id, run_id);
}

bool tn_client_worker_is_here(tn_blob key)
{
    bool any;
    return worker_role && !owner_of(TN_SERVICE_WORKER, key, &any);
}
