/* SPDX-License-Identifier: MIT */
/* Where a call between roles goes: the loop of this process that owns the shard or the partition.
 * A baton for the loop we are on is deferred, not called: the owner never runs inside its caller's stack. */
#include "client/client.h"

#include <stdatomic.h>

#include "client/token.h"
#include "proto/proto.h"

static const tn_history_role *history_role;
static const tn_matching_role *matching_role;
static const tn_worker_role *worker_role;
static uint32_t shard_count;
static atomic_uint_fast64_t poll_ids = 1;

void tn_client_wire(const tn_history_role *history, const tn_matching_role *matching,
                    const tn_worker_role *worker, uint32_t shards)
{
    TN_ASSERT(shards > 0);
    history_role = history;
    matching_role = matching;
    worker_role = worker;
    shard_count = shards;
}

uint32_t tn_client_shard_count(void) { return shard_count; }

uint32_t tn_client_shard_of(tn_str ns_id, tn_str workflow_id)
{
    uint64_t hash = tn_hash64_stable(tn_blob_of_str(ns_id), tn_blob_of_str(workflow_id));
    return (uint32_t)(hash % shard_count) + 1;
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

/* ---- history ---- */

static void history_arrive(tn_msg *msg)
{
    history_role->submit(TN_CONTAINER_OF(msg, tn_hreq, msg));
}

void tn_client_history(tn_hreq *req)
{
    uint32_t shard = req->op == TN_HOP_WFT_POLLED || req->op == TN_HOP_ACT_POLLED
                         ? req->u.task.ref.shard
                         : tn_client_shard_of(req->ns->id, req->workflow_id);
    req->msg.run = history_arrive;
    travel(tn_client_shard_loop(shard), &req->msg);
}

static void history_return(tn_msg *msg)
{
    tn_hreq *req = TN_CONTAINER_OF(msg, tn_hreq, msg);
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

static tn_loop *partition_loop(const tn_mreq *req)
{
    uint64_t hash = tn_hash64_stable(tn_blob_of_str(req->ns->id), tn_blob_of_str(req->queue));
    return tn_loops_get((uint32_t)(hash % tn_loops_count()));
}

static void matching_arrive(tn_msg *msg)
{
    matching_role->submit(TN_CONTAINER_OF(msg, tn_mreq, msg));
}

void tn_client_matching(tn_mreq *req)
{
    req->msg.run = matching_arrive;
    travel(partition_loop(req), &req->msg);
}

static void matching_return(tn_msg *msg)
{
    tn_mreq *req = TN_CONTAINER_OF(msg, tn_mreq, msg);
    req->done(req);
}

void tn_client_matching_done(tn_mreq *req)
{
    req->msg.run = matching_return;
    travel(req->home, &req->msg);
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

void tn_client_credit(uint32_t shard, tn_str ns_id, tn_str queue, uint32_t type)
{
    tn_arena *arena = tn_arena_create(0);
    credit *c = TN_NEW(arena, credit);
    c->arena = arena;
    c->shard = shard;
    c->type = type;
    c->ns_id = tn_arena_str(arena, ns_id);
    c->queue = tn_arena_str(arena, queue);
    c->msg.run = credit_arrive;
    travel(tn_client_shard_loop(shard), &c->msg);
}

void tn_client_retire(const tn_namespace *ns, tn_str workflow_id, tn_str run_id)
{
    worker_role->retire(ns, workflow_id, run_id);
}
