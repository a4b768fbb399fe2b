/* SPDX-License-Identifier: MIT */
/* A run's state made anew: folded from all of its records, from the first event on, without the snapshot and without what
 * memory holds; then written as its snapshot, and read by everybody from there.  What is to be replaced is not needed for
 * it, so it helps a run whose snapshot can't be read; a history that can't be folded leaves everything as it is. */
#include "history/priv.h"

#include "admin/service.pb-c.h"
#include "proto/proto.h"

#define READ_ROWS 200u
#define READ_BYTES (1u << 20)

typedef struct rebuild {
    tn_arena *arena;
    tn_wf *wf;
    tn_hreq *req;
    uint8_t run_id[16];
    tn_ms *ms;
    bool elsewhere;         /* the run is another workflow's */
    uint64_t wake_ns;       /* of the last record */
    uint64_t fence_version; /* that the commit stands on */
    tn_store_op op;
    tn_store_batch batch;
} rebuild;

static void rebuild_end(rebuild *rb, const tn_fault *fault)
{
    tn_wf *wf = rb->wf;
    tn_hreq *req = rb->req;
    const tn_fault *kept = fault ? tn_fault_copy(req->arena, fault) : NULL;
    tn_ms_destroy(rb->ms);
    wf->shard->hl->txns--;
    tn_arena_destroy(rb->arena);
    tn_req_finish(req, kept);
    tn_wf_resume(wf, NULL);
}

/* ---- writing ---- */

static void written(tn_store_op *op)
{
    rebuild *rb = op->user;
    tn_wf *wf = rb->wf;
    tn_run *run = tn_run_find(wf, rb->run_id);
    if (op->status == TN_EUNCERTAIN ||
        (op->status == TN_EFENCED && rb->fence_version == wf->shard->fence_version))
        tn_shard_doubt(wf->shard, op->error.text);
    if (op->status != TN_OK) {
        rebuild_end(rb, tn_fault_from_status(
                            rb->arena, op->status == TN_EFENCED ? TN_EUNAVAILABLE : op->status,
                            &op->error));
        return;
    }
    if (run)
        run->doomed = true; /* it is read again */
    if (!wf->shard->hl->stopping)
        tn_iop_send(tn_iop_create(wf, rb->run_id, TN_IOP_WAKE));
    rebuild_end(rb, NULL);
}

static void write_snapshot(rebuild *rb)
{
    tn_shard *shard = rb->wf->shard;
    tn_blob packed = {NULL, 0};
    Tenon__Snapshot *snapshot = tn_ms_snapshot(rb->ms, rb->arena);
    snapshot->wake_ns = rb->wake_ns;
    if (tn_proto_pack(&snapshot->base, rb->arena, &packed) != TN_OK) {
        rebuild_end(rb, tn_fault_make(rb->arena, TN_GRPC_INTERNAL, "the state can't be packed"));
        return;
    }
    rb->fence_version = shard->fence_version;
    tn_store_batch_init(&rb->batch, rb->arena);
    tn_store_batch_cond(&rb->batch, TN_COND_FENCE, tn_shard_fence_key(shard, rb->arena),
                        shard->fence_version);
    tn_store_batch_put(&rb->batch,
                       tn_store_key(rb->arena, TN_TABLE_SNAPSHOT, shard->partition,
                                    tn_store_row_run(rb->arena, rb->run_id)),
                       packed);
    rb->op = (tn_store_op){.arena = rb->arena, .user = rb, .done = written};
    rb->op.u.commit.batch = tn_store_batch_finish(&rb->batch);
    tn_store_commit(&rb->op);
}

/* ---- folding ---- */

static tn_status fold(rebuild *rb, const tn_row *row, tn_error *err)
{
    Tenon__Record *record = NULL;
    uint8_t home[TN_HOME_BYTES];
    tn_arena *arena = tn_arena_create(0);
    tn_status status = tn_proto_unpack(&tenon__record__descriptor, row->value, arena,
                                       (ProtobufCMessage **)(void *)&record, err);
    if (status == TN_OK && record->home.len == sizeof(home)) {
        tn_wf_home(rb->wf, home);
        rb->elsewhere = memcmp(home, record->home.data, sizeof(home)) != 0;
    }
    if (status == TN_OK && !rb->elsewhere)
        status = tn_ms_load_record(rb->ms, record, err);
    if (status == TN_OK)
        rb->wake_ns = record->wake_ns;
    tn_arena_destroy(arena);
    return status;
}

static void records_came(tn_store_op *op)
{
    rebuild *rb = op->user;
    tn_error err = op->error;
    tn_status status = op->status;
    const tn_page *page = &op->u.scan.page;
    for (size_t i = 0; status == TN_OK && !rb->elsewhere && i < page->n_rows; i++)
        status = fold(rb, &page->rows[i], &err);
    if (status == TN_OK && !rb->elsewhere && page->next.n) {
        op->u.scan.range.page = tn_arena_blob(rb->arena, page->next);
        tn_store_scan(op);
        return;
    }
    if (status != TN_OK) {
        rebuild_end(rb, tn_fault_from_status(rb->arena, status, &err));
    } else if (rb->elsewhere || rb->ms->next_event_id <= 1) {
        char text[37];
        tn_uuid_format(rb->run_id, text);
        rebuild_end(rb, tn_fault_run_not_found(rb->arena, tn_str_from(rb->wf->workflow_id),
                                               tn_str_from(text)));
    } else {
        if (rb->wf->current_exists && memcmp(rb->wf->current_run_id, rb->run_id, 16) == 0 &&
            rb->wf->current_request_id && !rb->ms->create_request_id)
            tn_ms_set_create_request_id(rb->ms, tn_str_from(rb->wf->current_request_id));
        write_snapshot(rb);
    }
}

static void begin(tn_wf *wf, tn_hreq *req, const uint8_t run_id[16])
{
    tn_arena *arena = tn_arena_create(0);
    rebuild *rb = TN_NEW(arena, rebuild);
    *rb = (rebuild){.arena = arena, .wf = wf, .req = req, .wake_ns = UINT64_MAX};
    memcpy(rb->run_id, run_id, 16);
    rb->ms = tn_ms_create(tn_str_from(wf->ns_id), tn_str_from(wf->workflow_id), run_id);
    uint8_t end[16];
    memcpy(end, run_id, 16);
    for (int i = 15; i >= 0 && ++end[i] == 0; i--) {
    }
    rb->op = (tn_store_op){.arena = arena, .user = rb, .done = records_came};
    tn_range *range = &rb->op.u.scan.range;
    *range = (tn_range){.struct_size = sizeof(*range), .limit = READ_ROWS, .bytes_max = READ_BYTES};
    range->from =
        tn_store_key(arena, TN_TABLE_RECORD, wf->shard->partition, tn_store_row_run(arena, run_id));
    range->to_row = tn_arena_blob(arena, tn_blob_from(end, 16));
    wf->busy = true; /* nothing is written to the run meanwhile */
    wf->shard->hl->txns++;
    tn_store_scan(&rb->op);
}

/* ---- the operation ---- */

/* What only memory knows has been written: the request goes on. */
static void flushed(tn_txn *txn)
{
    txn->keep_req = true;
    tn_list_push_front(&txn->wf->queue, &txn->req->link);
}

void tn_op_rebuild(tn_wf *wf, tn_hreq *req)
{
    uint8_t run_id[16];
    if (!wf->current_known) {
        tn_load_current(wf, req);
        return;
    }
    if (req->run_id.n ? !tn_uuid_parse(req->run_id, run_id) : !wf->current_exists) {
        tn_req_finish(req, tn_fault_workflow_not_found(req->arena, tn_str_from(wf->workflow_id)));
        return;
    }
    if (!req->run_id.n)
        memcpy(run_id, wf->current_run_id, 16);
    tn_run *run = tn_run_find(wf, run_id);
    if (run && !run->doomed && (run->tail_events || run->extras_pending)) {
        tn_txn *txn = tn_txn_begin(wf, req);
        tn_txn_change(txn, run)->extras_dirty = true;
        txn->after = flushed;
        tn_txn_commit(txn, NULL);
        return;
    }
    begin(wf, req, run_id);
}
