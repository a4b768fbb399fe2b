/* SPDX-License-Identifier: MIT */
/* Deletion of runs: asked for by a caller, or come with the end of retention.  Both go the same way: a run that is to be
 * deleted is a closed run whose retention has ended.  Its wake row says so, so that a deletion that was promised is done
 * by whoever has the shard then; the worker role sets the pace. */
#include "history/priv.h"

#include "proto/proto.h"

/* ---- asked for ---- */

static void promised(tn_txn *txn)
{
    tn_iop_send(tn_iop_create(txn->wf, txn->changes[0].run->run_id, TN_IOP_WAKE));
}

void tn_op_delete(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (run)
        tn_run_delete(wf, req, run);
}

void tn_run_delete(tn_wf *wf, tn_hreq *req, tn_run *run)
{
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_machine_delete(tn_txn_change(txn, run));
    txn->after = promised;
    tn_txn_commit(txn, NULL);
}

/* ---- the rows go ---- */

#define RETRY_NS (5 * TN_SEC)

typedef struct deletion {
    tn_arena *arena;
    tn_wf *wf;
    tn_hreq *req;
    tn_store_op op;
    tn_store_batch batch;
    bool was_current;
    tn_str run_id;
    uint64_t outbox_seq, wake_ns, fence_version;
} deletion;

static void deleted(tn_store_op *op)
{
    deletion *del = op->user;
    tn_wf *wf = del->wf;
    tn_hreq *req = del->req;
    const tn_fault *fault = NULL;
    if (op->status == TN_EUNCERTAIN ||
        (op->status == TN_EFENCED && del->fence_version == wf->shard->fence_version))
        tn_shard_doubt(wf->shard, op->error.text);
    if (op->status != TN_OK) {
        fault = tn_fault_from_status(req->arena, op->status, &op->error);
        if (del->wake_ns != UINT64_MAX) /* the row is still there */
            tn_shard_wake_again(wf->shard, del->wake_ns, tn_now_wall_ns() + RETRY_NS);
    } else {
        tn_visibility_remove(wf->shard, tn_str_from(wf->ns_id), tn_str_from(wf->workflow_id),
                             del->run_id, del->outbox_seq);
    }
    if (del->was_current)
        wf->current_known = false;
    wf->shard->hl->txns--;
    tn_arena_destroy(del->arena);
    tn_req_finish(req, fault);
    tn_wf_resume(wf, NULL);
}

static void delete_rows(deletion *del, tn_run *run)
{
    tn_wf *wf = del->wf;
    tn_arena *arena = del->arena;
    uint32_t shard = wf->shard->partition;
    tn_store_batch *batch = &del->batch;
    uint8_t end[16];
    memcpy(end, run->run_id, 16);
    for (int i = 15; i >= 0 && ++end[i] == 0; i--) {
    }
    del->fence_version = wf->shard->fence_version;
    tn_store_batch_cond(batch, TN_COND_FENCE, tn_shard_fence_key(wf->shard, arena),
                        wf->shard->fence_version);
    tn_store_batch_delete_range(
        batch, tn_store_key(arena, TN_TABLE_RECORD, shard, tn_store_row_run(arena, run->run_id)),
        tn_arena_blob(arena, tn_blob_from(end, 16)));
    tn_store_batch_delete(
        batch, tn_store_key(arena, TN_TABLE_SNAPSHOT, shard, tn_store_row_run(arena, run->run_id)));
    if (run->wake_stored_ns != UINT64_MAX)
        tn_store_batch_delete(
            batch, tn_store_key(arena, TN_TABLE_WAKE, shard,
                                tn_store_row_wake(arena, run->wake_stored_ns, run->run_id)));
    if (del->was_current)
        tn_store_batch_delete(batch,
                              tn_store_key(arena, TN_TABLE_CURRENT, shard,
                                           tn_store_row_current(arena, tn_str_from(wf->ns_id),
                                                                tn_str_from(wf->workflow_id))));
    /* The removal from visibility is an outbox row too: it is repeated until it is known done. */
    Tenon__Outbox row = TENON__OUTBOX__INIT;
    row.run_id.data = run->run_id;
    row.run_id.len = 16;
    row.remove = true;
    uint8_t ns_id[16];
    if (tn_uuid_parse(tn_str_from(wf->ns_id), ns_id))
        row.ns_id = (ProtobufCBinaryData){16, ns_id};
    row.workflow_id = wf->workflow_id;
    tn_blob packed = {NULL, 0};
    tn_status status = tn_proto_pack(&row.base, arena, &packed);
    TN_ASSERT(status == TN_OK);
    del->outbox_seq = wf->shard->outbox_next++;
    tn_store_batch_put(
        batch,
        tn_store_key(arena, TN_TABLE_OUTBOX, shard, tn_store_row_u64(arena, del->outbox_seq)),
        packed);
}

void tn_op_delete_run(tn_wf *wf, tn_hreq *req)
{
    if (!wf->current_known) {
        tn_load_current(wf, req);
        return;
    }
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (tn_ms_running(run->ms)) {
        tn_req_finish(
            req, tn_fault_make(req->arena, TN_GRPC_FAILED_PRECONDITION, "the run is still open"));
        return;
    }
    tn_arena *arena = tn_arena_create(0);
    deletion *del = TN_NEW(arena, deletion);
    del->arena = arena;
    del->wf = wf;
    del->req = req;
    del->was_current = wf->current_exists && memcmp(wf->current_run_id, run->run_id, 16) == 0;
    del->run_id = tn_arena_str(arena, tn_str_from(run->ms->run_id_text));
    del->wake_ns = run->wake_stored_ns;
    tn_store_batch_init(&del->batch, arena);
    wf->busy = true;
    wf->shard->hl->txns++;
    delete_rows(del, run);
    run->doomed = true;
    del->op.arena = arena;
    del->op.user = del;
    del->op.done = deleted;
    del->op.u.commit.batch = tn_store_batch_finish(&del->batch);
    del->op.account = tn_door_account(req, req->ns, wf->shard->id);
    tn_store_commit(&del->op);
}
