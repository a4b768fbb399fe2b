/* SPDX-License-Identifier: MIT */
/* Objects in the history role: calls to them are transitions like those of runs; what they want is done here, and its
 * result comes back as an internal operation. */
#include "history/object.h"

#include "history/batch.h"

#include "proto/proto.h"

#define RETRY_NS TN_SEC

/* One line a kind. */
static const tn_object_rim *const rims[] = {
    &tn_batch_rim,
    &tn_schedule_rim,
};
static const tn_object_rim *added;

void tn_object_rim_add(const tn_object_rim *rim) { added = rim; }

static const tn_object_rim *rim_of(const tn_object_kind *kind)
{
    for (size_t i = 0; i < TN_COUNT_OF(rims); i++)
        if (rims[i] && rims[i]->letter == kind->letter)
            return rims[i];
    return added && added->letter == kind->letter ? added : NULL;
}

/* ---- effects ---- */

void tn_object_do(tn_run *run, tn_object_want *want)
{
    const tn_object_rim *rim = rim_of(run->ms->kind);
    TN_ASSERT(rim); /* a kind that wants something has a rim */
    want->dispatched = true;
    rim->effect(run, want);
}

tn_object_effect *tn_object_effect_begin(tn_run *run, const tn_object_want *want)
{
    tn_arena *arena = tn_arena_create(0);
    tn_object_effect *effect = TN_NEW(arena, tn_object_effect);
    effect->arena = arena;
    effect->shard = run->wf->shard;
    effect->ns_id = tn_arena_strdup(arena, run->wf->ns_id);
    effect->workflow_id = tn_arena_strdup(arena, run->wf->workflow_id);
    memcpy(effect->run_id, run->run_id, 16);
    effect->what = want->what;
    effect->id = want->id;
    return effect;
}

static bool may_pass(const tn_fault *fault)
{
    return fault && (fault->code == TN_GRPC_UNAVAILABLE ||
                     fault->code == TN_GRPC_RESOURCE_EXHAUSTED || fault->code == TN_GRPC_ABORTED ||
                     fault->code == TN_GRPC_DEADLINE_EXCEEDED || fault->code == TN_GRPC_INTERNAL);
}

void tn_object_effect_end(tn_object_effect *effect, const tn_fault *fault,
                          const ProtobufCMessage *response)
{
    tn_wf *wf =
        tn_wf_get(effect->shard, tn_str_from(effect->ns_id), tn_str_from(effect->workflow_id));
    tn_iop *iop = tn_iop_create(wf, effect->run_id, TN_IOP_OBJECT_RESULT);
    tn_arena *arena = iop->req.arena;
    iop->result = TN_NEW(arena, tn_object_result);
    *iop->result = (tn_object_result){
        .what = effect->what, .id = effect->id, .fault = fault, .response = response};
    iop->again = effect->slow_down && may_pass(fault);
    tn_arena_adopt(arena, effect->arena); /* fault and response lie there */
    if (iop->again)
        tn_iop_send_later(iop, RETRY_NS);
    else
        tn_iop_send(iop); /* not now: whoever wants it may still be in the middle of its effects */
    tn_wf_maybe_drop(wf);
}

static void effect_answered(tn_hreq *req)
{
    tn_object_effect *effect = TN_CONTAINER_OF(req, tn_object_effect, req);
    tn_namespace_unref(req->ns);
    req->ns = NULL;
    tn_object_effect_end(effect, req->fault, req->fault ? NULL : req->response);
}

void tn_object_effect_call(tn_object_effect *effect, tn_hop op, tn_str ns_id, tn_str workflow_id,
                           tn_str run_id, const ProtobufCMessage *request)
{
    tn_hreq *req = &effect->req;
    req->ns = tn_namespace_by_id(ns_id);
    if (!req->ns) {
        tn_object_effect_end(effect, tn_namespace_not_found(effect->arena, ns_id), NULL);
        return;
    }
    req->arena = effect->arena;
    req->home = tn_loop_current();
    req->op = op;
    req->workflow_id = tn_arena_str(effect->arena, workflow_id);
    req->run_id = tn_arena_str(effect->arena, run_id);
    req->request = request;
    req->deadline_mono_ns = UINT64_MAX;
    req->done = effect_answered;
    tn_client_history(req);
}

void tn_object_result_came(tn_wf *wf, tn_hreq *req, tn_run *run)
{
    tn_iop *iop = TN_CONTAINER_OF(req, tn_iop, req);
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_tx *tx = tn_txn_change(txn, run);
    if (run->ms->kind && run->ms->kind->result)
        run->ms->kind->result(tx, iop->result);
    tn_txn_commit(txn, NULL);
}

/* ---- calls ---- */

/* A call under way: the request's progress, so that a parked one is found by those who wake it. */
typedef struct object_call {
    tn_parked parked;
    uint64_t until; /* mono; 0: not parked yet */
    tn_object_reply reply;
} object_call;

static void called(tn_txn *txn)
{
    object_call *call = txn->user;
    tn_hreq *req = txn->req;
    if (call->reply.park && !txn->fault) {
        if (!call->until)
            call->until = tn_history_park_until(req);
        txn->keep_req = true;
        tn_history_park(&call->parked, txn->changes[txn->n_changes - 1].run, call->until);
        return;
    }
    req->progress = NULL;
    req->response = call->reply.response;
}

static object_call *begin_call(tn_wf *wf, tn_hreq *req)
{
    object_call *call = req->progress;
    if (!call) {
        tn_arena_set_limit(req->arena, 0);
        req->progress = call = TN_NEW(req->arena, object_call);
        tn_history_park_init(&call->parked, wf, req);
    }
    call->parked.wf = wf; /* it may have been served by another shard's before */
    call->reply = (tn_object_reply){.arena = req->arena, .waited = call->parked.timed_out};
    return call;
}

/* What the machine has said lies in the transaction's arena. */
static void own_response(object_call *call)
{
    if (call->reply.response)
        call->reply.response = tn_proto_copy(call->reply.response, call->reply.arena);
}

static void call_run(tn_wf *wf, tn_hreq *req, tn_run *run)
{
    object_call *call = begin_call(wf, req);
    tn_txn *txn = tn_txn_begin(wf, req);
    const tn_fault *fault =
        run->ms->kind->call(tn_txn_change(txn, run), req->request, &call->reply);
    own_response(call);
    txn->after = called;
    txn->user = call;
    if (fault)
        call->reply.park = false;
    tn_txn_commit(txn, fault);
}

/* replaced: the one that gives way, or NULL. */
static void create(tn_wf *wf, tn_hreq *req, const tn_object_kind *kind, tn_run *replaced)
{
    object_call *call = begin_call(wf, req);
    tn_txn *txn = tn_txn_begin(wf, req);
    uint8_t run_id[16];
    tn_uuid_v7(&txn->hl->rng, tn_now_wall_ns(), run_id);
    if (replaced)
        tn_object_give_way(tn_txn_change(txn, replaced));
    tn_ms *ms = tn_ms_create(tn_str_from(wf->ns_id), tn_str_from(wf->workflow_id), run_id);
    tn_run *run = tn_run_create(wf, ms);
    tn_tx *tx = tn_txn_change(txn, run);
    txn->changes[txn->n_changes - 1].created = true;
    const tn_fault *fault = kind->create(tx, req->request, &call->reply);
    own_response(call);
    if (fault) {
        if (replaced) { /* its memory is ahead of the store */
            replaced->doomed = true;
            tn_iop_send(tn_iop_create(wf, replaced->run_id, TN_IOP_WAKE));
        }
        req->progress = NULL;
        tn_txn_abandon(txn, fault);
        return;
    }
    TN_ASSERT(ms->kind == kind && ms->started.n); /* it has called tn_object_begin */
    txn->after = called;
    txn->user = call;
    tn_txn_commit(txn, NULL);
}

static void create_or_meet(tn_wf *wf, tn_hreq *req, const tn_object_kind *kind)
{
    const tn_namespace *now = tn_namespace_by_id(req->ns->id);
    bool ending =
        !now || now->reclaim; /* nothing may begin any more where everything is being deleted */
    tn_namespace_unref(now);
    if (ending) {
        tn_req_finish(req, tn_namespace_not_found(req->arena, req->ns->name));
        return;
    }
    if (!wf->current_known) {
        tn_load_current(wf, req);
        return;
    }
    tn_run *there = wf->current_exists ? tn_run_find(wf, wf->current_run_id) : NULL;
    if (wf->current_exists && !there) {
        tn_load_run(wf, wf->current_run_id, req);
        return;
    }
    const tn_fault *fault = NULL;
    object_call *call = begin_call(wf, req);
    tn_object_meet meet =
        there ? kind->meets(there->ms, req->request, &call->reply, &fault) : TN_OBJECT_CREATE;
    switch (meet) {
    case TN_OBJECT_CALL:
        call_run(wf, req, there);
        break;
    case TN_OBJECT_CREATE:
        create(wf, req, kind, NULL);
        break;
    case TN_OBJECT_REPLACE:
        create(wf, req, kind, there);
        break;
    case TN_OBJECT_ANSWER:
    default:
        req->progress = NULL;
        own_response(call);
        req->response = call->reply.response;
        tn_req_finish(req, fault);
        break;
    }
}

void tn_op_object(tn_wf *wf, tn_hreq *req)
{
    tn_str id = tn_str_from(wf->workflow_id);
    const tn_object_kind *kind = tn_object_kind_of(id);
    if (!req->request) {
        tn_req_finish(
            req, tn_fault_make(req->arena, TN_GRPC_INVALID_ARGUMENT, "a call without a request"));
        return;
    }
    if (kind->creates(req->request)) {
        create_or_meet(wf, req, kind);
        return;
    }
    if (!req->run_id.n && wf->current_known && !wf->current_exists) {
        tn_req_finish(req, kind->not_found(req->arena, tn_object_id_of(id), req->run_id));
        return;
    }
    tn_run *run = tn_resolve(wf, req);
    if (run && run->ms->kind == kind)
        call_run(wf, req, run);
    else if (run)
        tn_req_finish(req, kind->not_found(req->arena, tn_object_id_of(id), req->run_id));
}

void tn_object_owned_closed(tn_wf *wf, tn_hreq *req, tn_run *run)
{
    tn_event *event = NULL;
    if (req->op != TN_HOP_CHILD_CLOSED || !run->ms->kind->owned_closed ||
        TN_PROTO_UNPACK(temporal__api__history__v1__history_event, req->u.child.close_event,
                        req->arena, &event, NULL) != TN_OK) {
        tn_req_finish(req, NULL); /* nobody who would want to know */
        return;
    }
    tn_txn *txn = tn_txn_begin(wf, req);
    run->ms->kind->owned_closed(
        tn_txn_change(txn, run), (uint64_t)req->u.child.parent->initiated_id,
        req->u.child.child_workflow_id, req->u.child.child_first_run_id, event);
    tn_txn_commit(txn, NULL);
}
