/* SPDX-License-Identifier: MIT */
/* What reaches a run from outside: signals, cancel requests, termination, loss of stickiness; results and
 * closes of children; deletion when retention has passed. */
#include "history/priv.h"

#include <stdlib.h>

#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

static tn_external_source source_of(const tn_hreq *req)
{
    const tn_parent_ref *from = req->u.external.external;
    return (tn_external_source){.ns_name = from->ns_name,
                                .ns_id = from->ns_id,
                                .workflow_id = from->workflow_id,
                                .run_id = from->run_id,
                                .initiated_id = from->initiated_id};
}

static bool is_child_of(const tn_ms *ms, const tn_parent_ref *parent)
{
    return ms->parent.workflow_id && tn_str_is(parent->workflow_id, ms->parent.workflow_id) &&
           tn_str_is(parent->run_id, ms->parent.run_id);
}

static const tn_fault *check_target(const tn_hreq *req, const tn_ms *ms)
{
    if (!req->u.external.external || !req->u.external.child_only || is_child_of(ms, req->u.external.external))
        return NULL;
    return tn_fault_make(req->arena, TN_GRPC_NOT_FOUND, "workflow parent does not match");
}

/* The chain the caller means may have moved on: first_execution_run_id names its first run. */
static const tn_fault *check_chain(const tn_hreq *req, const tn_ms *ms, const char *first_run_id)
{
    /* What a closed run is told comes from the machine. */
    if (!first_run_id || !*first_run_id || !tn_ms_running(ms) || strcmp(first_run_id, ms->first_run_id) == 0)
        return NULL;
    Temporal__Api__Errordetails__V1__NotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;
    return tn_fault_detailed(req->arena, TN_GRPC_NOT_FOUND, &detail.base, "workflow execution not found");
}

static const tn_fault *apply_external(tn_txn *txn, tn_tx *tx, const tn_hreq *req)
{
    tn_external_source source;
    const tn_external_source *from = NULL;
    if (req->op != TN_HOP_RESET_STICKY && req->u.external.external) {
        source = source_of(req);
        from = &source;
    }
    const tn_fault *fault = req->op == TN_HOP_RESET_STICKY ? NULL : check_target(req, tx->ms);
    (void)txn;
    if (fault)
        return fault;
    switch ((int)req->op) {
    case TN_HOP_SIGNAL:
        return tn_machine_signal(
            tx, (const Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *)req->request, from);
    case TN_HOP_REQUEST_CANCEL: {
        const Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *request =
            (const Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *)req->request;
        fault = check_chain(req, tx->ms, request->first_execution_run_id);
        return fault ? fault : tn_machine_request_cancel(tx, request, from);
    }
    case TN_HOP_TERMINATE: {
        const Temporal__Api__Workflowservice__V1__TerminateWorkflowExecutionRequest *request =
            (const Temporal__Api__Workflowservice__V1__TerminateWorkflowExecutionRequest *)req->request;
        fault = check_chain(req, tx->ms, request->first_execution_run_id);
        return fault ? fault
                     : tn_machine_terminate(tx, tn_str_from(request->reason), request->details,
                                            tn_str_from(request->identity));
    }
    default:
        return tn_machine_reset_sticky(tx);
    }
}

static void signaled(tn_txn *txn)
{
    tn_hreq *req = txn->req;
    if (txn->fault || !req->call)
        return;
    Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionResponse *out =
        tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__signal_workflow_execution_response__init(out);
    out->link = tn_link_to_request(
        req, txn->changes[0].run->ms->run_id_text,
        ((const Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *)req->request)->request_id,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED);
    req->response = &out->base;
}

void tn_op_external(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (tn_doubt_was_made(req, run, NULL)) {
        tn_req_finish(req, NULL);
        return;
    }
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_tx *tx = tn_txn_change(txn, run);
    if (req->op == TN_HOP_SIGNAL)
        txn->after = signaled;
    tn_txn_commit(txn, apply_external(txn, tx, req));
}

/* ---- children: what the child tells the parent ---- */

void tn_op_child(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_tx *tx = tn_txn_change(txn, run);
    int64_t initiated_id = req->u.child.parent->initiated_id;
    const tn_fault *fault = NULL;
    if (req->op == TN_HOP_CHILD_STARTED) {
        fault = tn_machine_child_started(tx, initiated_id, req->u.child.child_run_id);
    } else {
        tn_event *event = NULL;
        tn_error err;
        tn_status status = tn_proto_unpack(&temporal__api__history__v1__history_event__descriptor,
                                           req->u.child.close_event, txn->arena,
                                           (ProtobufCMessage **)(void *)&event, &err);
        fault = status == TN_OK ? tn_machine_child_closed(tx, initiated_id, req->u.child.child_run_id,
                                                          req->u.child.child_first_run_id, event)
                                : tn_fault_from_status(txn->arena, status, &err);
    }
    tn_txn_commit(txn, fault);
}

/* ---- retention ---- */

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
    if (op->status == TN_EUNCERTAIN || (op->status == TN_EFENCED && del->fence_version == wf->shard->fence_version))
        tn_shard_doubt(wf->shard, op->error.text);
    if (op->status != TN_OK) {
        fault = tn_fault_from_status(req->arena, op->status, &op->error);
        if (del->wake_ns != UINT64_MAX) /* the row is still there */
            tn_shard_wake_again(wf->shard, del->wake_ns, tn_now_wall_ns() + RETRY_NS);
    } else {
        tn_visibility_remove(wf->shard, tn_str_from(wf->ns_id), tn_str_from(wf->workflow_id), del->run_id,
                             del->outbox_seq);
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
    uint32_t shard = wf->shard->id;
    tn_store_batch *batch = &del->batch;
    uint8_t end[16];
    memcpy(end, run->run_id, 16);
    for (int i = 15; i >= 0 && ++end[i] == 0; i--) {
    }
    del->fence_version = wf->shard->fence_version;
    tn_store_batch_cond(batch, TN_COND_FENCE, tn_store_key(arena, TN_TABLE_SHARD, shard, (tn_blob){NULL, 0}),
                        wf->shard->fence_version);
    tn_store_batch_delete_range(
        batch, tn_store_key(arena, TN_TABLE_RECORD, shard, tn_store_row_run(arena, run->run_id)),
        tn_arena_blob(arena, tn_blob_from(end, 16)));
    tn_store_batch_delete(batch,
                          tn_store_key(arena, TN_TABLE_SNAPSHOT, shard, tn_store_row_run(arena, run->run_id)));
    if (run->wake_stored_ns != UINT64_MAX)
        tn_store_batch_delete(batch, tn_store_key(arena, TN_TABLE_WAKE, shard,
                                                  tn_store_row_wake(arena, run->wake_stored_ns, run->run_id)));
    if (del->was_current)
        tn_store_batch_delete(batch, tn_store_key(arena, TN_TABLE_CURRENT, shard,
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
    tn_store_batch_put(batch, tn_store_key(arena, TN_TABLE_OUTBOX, shard, tn_store_row_u64(arena, del->outbox_seq)),
                       packed);
}

void tn_op_delete(tn_wf *wf, tn_hreq *req)
{
    if (!wf->current_known) {
        tn_load_current(wf, req);
        return;
    }
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (tn_ms_running(run->ms)) {
        tn_req_finish(req, tn_fault_make(req->arena, TN_GRPC_FAILED_PRECONDITION, "the run is still open"));
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
    tn_store_commit(&del->op);
}
