/* SPDX-License-Identifier: MIT */
/* Operations that the role sends to itself: deadlines, wake-ups, answers of other runs. */
#include "history/nexus.h"
#include "history/object.h"

#include <stdlib.h>

#include "proto/proto.h"

static void fired(tn_txn *txn)
{
    /* A workflow task may have timed out: its queries go on without it. */
    tn_run *run = txn->changes[0].run;
    if (!run->ms->wft.started_id)
        tn_queries_wft_ended(run);
}

static void commit(tn_wf *wf, tn_hreq *req, tn_run *run,
                   const tn_fault *(*machine)(tn_tx *tx, tn_iop *iop), void (*after)(tn_txn *txn))
{
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_tx *tx = tn_txn_change(txn, run);
    const tn_fault *fault = machine(tx, TN_CONTAINER_OF(req, tn_iop, req));
    txn->after = after;
    tn_txn_commit(txn, fault);
}

static const tn_fault *machine_fire(tn_tx *tx, tn_iop *iop)
{
    (void)iop;
    return tn_machine_fire(tx);
}

static const tn_fault *machine_flush(tn_tx *tx, tn_iop *iop)
{
    (void)iop;
    tx->extras_dirty = true; /* a record of what only memory knows */
    return NULL;
}

static const tn_fault *machine_unstick(tn_tx *tx, tn_iop *iop)
{
    if (tx->ms->wft.stamp != iop->nonce || tx->ms->wft.started_id)
        /* a newer offer is on its way: two refused ones would else call each other for ever */
        return NULL;
    tx->ms->wft.dispatched = false;
    return tn_machine_wft_unstick(tx);
}

static const tn_fault *machine_child_result(tn_tx *tx, tn_iop *iop)
{
    tn_child *child = tn_ms_child(tx->ms, iop->initiated_id);
    if (!child)
        return NULL;
    child->dispatched = false; /* again: the effects of this empty transition send it once more */
    if (iop->again || tn_reset_child_again(tx->ms, child, iop->cause, (int32_t)iop->nonce))
        return NULL;
    return iop->cause
               ? tn_machine_child_start_failed(tx, iop->initiated_id, iop->cause)
               : tn_machine_child_started(tx, iop->initiated_id, tn_str_from(iop->result_run_id));
}

static const tn_fault *machine_external_result(tn_tx *tx, tn_iop *iop)
{
    tn_external *external = tn_ms_external(tx->ms, iop->initiated_id);
    if (!external)
        return NULL;
    if (iop->again) {
        external->dispatched = false;
        return NULL;
    }
    return iop->cause ? tn_machine_external_failed(tx, iop->initiated_id, iop->cause)
                      : tn_machine_external_done(tx, iop->initiated_id);
}

static const tn_fault *machine_release(tn_tx *tx, tn_iop *iop)
{
    if (iop->again) {
        tx->ms->parent_dispatched = false;
        return NULL;
    }
    tx->ms->parent_dispatched = false;
    return tx->ms->held ? tn_machine_release(tx) : NULL;
}

static const tn_fault *machine_parent_told(tn_tx *tx, tn_iop *iop)
{
    tx->ms->parent_dispatched = false;
    return iop->again || tx->ms->parent_told ? NULL : tn_machine_parent_told(tx);
}

static const tn_fault *machine_settled(tn_tx *tx, tn_iop *iop)
{
    tn_child *child = tn_ms_child(tx->ms, iop->initiated_id);
    if (!child || tx->ms->children_settled)
        return NULL;
    child->dispatched = false;
    if (iop->again)
        return NULL;
    child->settled = true;
    TN_LIST_FOREACH (link, &tx->ms->children) {
        const tn_child *other = TN_CONTAINER_OF(link, tn_child, link);
        bool concerned = other->parent_close_policy != 2; /* ABANDON */
        if (concerned && !other->settled && other->started_id)
            return NULL;
    }
    return tn_machine_children_settled(tx);
}

/* ---- waking up ---- */

static void wake(tn_wf *wf, tn_hreq *req, tn_run *run)
{
    tn_ms *ms = run->ms;
    run->wake_queued = false;
    if (!tn_ms_running(ms) && run->wake_stored_ns != 0 && run->wake_stored_ns != UINT64_MAX) {
        if (ms->retention_due_ns && ms->retention_due_ns <= tn_now_wall_ns()) {
            /* The row stays until it is deleted; should that fail, it is found again in a while. */
            tn_client_retire(req->ns, req->workflow_id, req->run_id);
            tn_shard_wake_again(wf->shard, run->wake_stored_ns, tn_now_wall_ns() + 60 * TN_SEC);
            tn_req_finish(req, NULL);
            return;
        }
        if (run->wake_stored_ns == ms->retention_due_ns) { /* else a callback is due, or will be */
            tn_req_finish(req, NULL);
            return;
        }
    }
    if (tn_ms_deadline_ns(ms) <= tn_now_wall_ns()) {
        commit(wf, req, run, machine_fire, fired);
        return;
    }
    /* A record of nothing new, when the wake row claims more than the run wants. */
    if (run->wake_stored_ns == 0 && tn_ms_wake_ns(ms) != 0) {
        commit(wf, req, run, machine_flush, NULL);
        return;
    }
    tn_run_effects(run);
    tn_req_finish(req, NULL);
}

static void flush(tn_wf *wf, tn_hreq *req, tn_run *run)
{
    if (run->tail_events || run->extras_pending)
        commit(wf, req, run, machine_flush, NULL);
    else
        tn_req_finish(req, NULL);
}

/* A workflow task that no worker has seen is offered again at once, instead of when it times out.  Its started event
 * is still in memory alone, or it is too late. */
static void take_back(tn_wf *wf, tn_hreq *req, tn_run *run, uint64_t nonce)
{
    (void)wf;
    if (run->tail_events <= 1 && tn_machine_wft_unstart(run->ms, nonce)) {
        tn_buf_done(&run->tail);
        run->tail_events = 0;
        tn_queries_wft_ended(run);
        tn_run_effects(run);
    }
    tn_req_finish(req, NULL);
}

/* The attempt of an activity goes back likewise; when it has been written, so is this. */
static void give_back_activity(tn_wf *wf, tn_hreq *req, tn_run *run, const Tenon__TaskToken *token)
{
    tn_activity *activity = tn_ms_activity(run->ms, token->scheduled_id);
    if (!activity || !activity->started_ns || activity->nonce != token->nonce ||
        !activity->request_id) {
        tn_req_finish(req, NULL);
        return;
    }
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_machine_activity_unstart(tn_txn_change(txn, run), token->scheduled_id,
                                tn_str_from(activity->request_id));
    tn_txn_commit(txn, NULL);
}

void tn_op_undelivered(tn_wf *wf, tn_hreq *req)
{
    const Tenon__TaskToken *token = req->token->msg;
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (token->kind == 1)
        take_back(wf, req, run, token->nonce);
    else
        give_back_activity(wf, req, run, token);
}

void tn_op_internal(tn_wf *wf, tn_hreq *req)
{
    tn_iop *iop = TN_CONTAINER_OF(req, tn_iop, req);
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    switch ((int)req->op) {
    case TN_IOP_FIRE:
        run->fire_queued = false;
        commit(wf, req, run, machine_fire, fired);
        break;
    case TN_IOP_WAKE:
        wake(wf, req, run);
        break;
    case TN_IOP_FLUSH:
        flush(wf, req, run);
        break;
    case TN_IOP_UNSTICK:
        commit(wf, req, run, machine_unstick, NULL);
        break;
    case TN_IOP_CHILD_RESULT:
        commit(wf, req, run, machine_child_result, NULL);
        break;
    case TN_IOP_EXTERNAL_RESULT:
        commit(wf, req, run, machine_external_result, NULL);
        break;
    case TN_IOP_RELEASE:
        commit(wf, req, run, machine_release, NULL);
        break;
    case TN_IOP_PARENT_TOLD:
        commit(wf, req, run, machine_parent_told, NULL);
        break;
    case TN_IOP_SETTLED:
        commit(wf, req, run, machine_settled, NULL);
        break;
    case TN_IOP_UNDELIVERED:
        take_back(wf, req, run, iop->nonce);
        break;
    case TN_IOP_NEXUS_STARTED:
    case TN_IOP_NEXUS_CANCELED:
    case TN_IOP_CALLBACK_ANSWERED:
        tn_op_nexus_answer(wf, req, run);
        break;
    case TN_IOP_DELETE:
        tn_run_delete(wf, req, run);
        break;
    case TN_IOP_OBJECT_RESULT:
        tn_object_result_came(wf, req, run);
        break;
    case TN_IOP_OUTBOX:
        tn_visibility_write(run, iop->outbox_seq);
        tn_req_finish(req, NULL);
        break;
    default:
        TN_ASSERT(!"unknown internal operation");
    }
}
