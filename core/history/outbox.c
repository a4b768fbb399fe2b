/* SPDX-License-Identifier: MIT */
/* The visibility record of a run, written after the commit that changed it.  The commit left a row in the outbox; when
 * the write is done, the row may go: with the shard's next commit, or with one of its own.  A write that is not known
 * to be done is repeated by the shard's next owner, which does no harm: records have versions. */
#include "history/history.h"
#include "history/priv.h"

#include "proto/proto.h"
#include "visibility/visibility.h"

#define RETRY_NS TN_SEC

/* ---- the outbox ---- */

void tn_outbox_ack(tn_shard *shard, uint64_t seq)
{
    if (shard->n_outbox_acked == shard->cap_outbox_acked) {
        shard->cap_outbox_acked = shard->cap_outbox_acked ? shard->cap_outbox_acked * 2 : 16;
        shard->outbox_acked =
            tn_xreallocarray(shard->outbox_acked, shard->cap_outbox_acked, sizeof(uint64_t));
    }
    shard->outbox_acked[shard->n_outbox_acked++] = seq;
}

typedef struct outbox_flush {
    tn_arena *arena;
    tn_shard *shard;
    tn_store_op op;
} outbox_flush;

static void outbox_flushed(tn_store_op *op)
{
    outbox_flush *flush = op->user;
    flush->shard->hl
        ->txns--; /* failed: the rows are repeated by the next take-over, which does no harm */
    tn_arena_destroy(flush->arena);
}

void tn_outbox_flush(tn_shard *shard)
{
    if (!shard->n_outbox_acked || !shard->owned)
        return;
    tn_arena *arena = tn_arena_create(0);
    outbox_flush *flush = TN_NEW(arena, outbox_flush);
    tn_store_batch batch;
    flush->arena = arena;
    flush->shard = shard;
    tn_store_batch_init(&batch, arena);
    tn_store_batch_cond(&batch, TN_COND_FENCE, tn_shard_fence_key(shard, arena),
                        shard->fence_version);
    for (size_t i = 0; i < shard->n_outbox_acked; i++)
        tn_store_batch_delete(&batch,
                              tn_store_key(arena, TN_TABLE_OUTBOX, shard->partition,
                                           tn_store_row_u64(arena, shard->outbox_acked[i])));
    shard->n_outbox_acked = 0;
    flush->op.arena = arena;
    flush->op.user = flush;
    flush->op.done = outbox_flushed;
    flush->op.u.commit.batch = tn_store_batch_finish(&batch);
    shard->hl->txns++;
    tn_store_commit(&flush->op);
}

/* ---- writes ---- */

typedef struct vis_write {
    tn_list link; /* shard->vis_writes */
    uint8_t run_id[16];
    bool waits; /* a removal: a document of the run is still on its way */
    tn_arena *arena;
    tn_shard *shard;
    uint64_t seq;
    bool remove;
    tn_vis_op op;
    tn_loop_timer again;
} vis_write;

static void vis_send(vis_write *w)
{
    if (w->remove)
        tn_vis_remove(&w->op);
    else
        tn_vis_put(&w->op);
}

static void vis_again(tn_loop_timer *timer) { vis_send(TN_CONTAINER_OF(timer, vis_write, again)); }

/* A document that arrives after its removal would stay for ever. */
static bool document_on_its_way(const tn_shard *shard, const uint8_t run_id[16])
{
    TN_LIST_FOREACH (link, &shard->vis_writes) {
        const vis_write *w = TN_CONTAINER_OF(link, vis_write, link);
        if (!w->remove && memcmp(w->run_id, run_id, 16) == 0)
            return true;
    }
    return false;
}

static void vis_end(vis_write *w)
{
    tn_shard *shard = w->shard;
    tn_list_remove(&w->link);
    if (!w->remove && shard->removals_waiting && !document_on_its_way(shard, w->run_id)) {
        TN_LIST_FOREACH_SAFE (link, &shard->vis_writes) {
            vis_write *other = TN_CONTAINER_OF(link, vis_write, link);
            if (!other->waits || memcmp(other->run_id, w->run_id, 16) != 0)
                continue;
            other->waits = false;
            shard->removals_waiting--;
            vis_send(other);
        }
    }
    shard->hl->txns--;
    tn_arena_destroy(w->arena);
}

static void vis_done(tn_vis_op *op)
{
    vis_write *w = op->user;
    tn_shard *shard = w->shard;
    if (op->status != TN_OK && op->status != TN_ENOTFOUND && !shard->hl->stopping) {
        TN_LOG(TN_LOG_WARN, "history", "a visibility write failed, trying again",
               TN_LOG_Z("status", tn_status_name(op->status)), TN_LOG_Z("why", op->error.text));
        tn_loop_timer_start(&w->again, tn_now_mono_ns() + RETRY_NS);
        return;
    }
    if (op->status == TN_OK || op->status == TN_ENOTFOUND)
        tn_outbox_ack(shard, w->seq);
    vis_end(w);
}

static vis_write *vis_begin(tn_shard *shard, const uint8_t run_id[16], uint64_t seq)
{
    tn_arena *arena = tn_arena_create(0);
    vis_write *w = TN_NEW(arena, vis_write);
    w->arena = arena;
    w->shard = shard;
    w->seq = seq;
    w->op.arena = arena;
    w->op.user = w;
    w->op.done = vis_done;
    if (run_id)
        memcpy(w->run_id, run_id, 16);
    tn_list_push_back(&shard->vis_writes, &w->link);
    tn_loop_timer_init(&w->again, vis_again);
    shard->hl->txns++;
    return w;
}

void tn_visibility_write(tn_run *run, uint64_t outbox_seq)
{
    vis_write *w = vis_begin(run->wf->shard, run->run_id, outbox_seq);
    const tn_namespace *ns = tn_namespace_by_id(tn_str_from(run->ms->ns_id));
    tn_history_document(w->arena, ns, run->ms, &w->op.u.put.doc);
    tn_namespace_unref(ns);
    vis_send(w);
}

void tn_visibility_remove(tn_shard *shard, tn_str ns_id, tn_str workflow_id, tn_str run_id,
                          uint64_t outbox_seq)
{
    uint8_t id[16];
    bool known = tn_uuid_parse(run_id, id);
    vis_write *w = vis_begin(shard, known ? id : NULL, outbox_seq);
    w->remove = true;
    w->op.u.put.doc.struct_size = sizeof(tn_vis_doc);
    w->op.u.put.doc.ns_id = tn_arena_str(w->arena, ns_id);
    w->op.u.put.doc.workflow_id = tn_arena_str(w->arena, workflow_id);
    w->op.u.put.doc.run_id = tn_arena_str(w->arena, run_id);
    w->waits = document_on_its_way(shard, w->run_id);
    shard->removals_waiting += w->waits;
    if (!w->waits)
        vis_send(w);
}
