/* SPDX-License-Identifier: MIT */
/* Activity tasks between matching, workers and the machine. */
#include "history/priv.h"

#include <stdlib.h>

#include "config/dynconfig.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

tn_blob tn_activity_token(const tn_ms *ms, const tn_activity *activity, tn_arena *arena)
{
    Tenon__TaskToken token = TENON__TASK_TOKEN__INIT;
    token.kind = 2;
    token.ns_id = ms->ns_id;
    token.workflow_id = ms->workflow_id;
    token.run_id = (char *)(uintptr_t)ms->run_id_text;
    token.scheduled_id = activity->scheduled_id;
    token.attempt = activity->attempt;
    token.activity_id = activity->activity_id;
    token.activity_type = activity->type;
    token.started_ns = activity->started_ns;
    token.nonce = activity->nonce;
    return tn_token_seal(arena, &token.base);
}

/* ---- handing out ---- */

static void handed_out(tn_txn *txn)
{
    tn_hreq *req = txn->req;
    if (txn->fault)
        return;
    tn_run *run = txn->changes[0].run;
    tn_activity *activity = tn_ms_activity(run->ms, txn->activity_id);
    if (!activity) {
        txn->fault = tn_fault_make(txn->arena, TN_GRPC_NOT_FOUND, "activity is gone");
        return;
    }
    tn_arena_set_limit(req->arena, 0);
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *out =
        tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__poll_activity_task_queue_response__init(out);
    tn_machine_activity_task(run->ms, activity, req->arena, txn->ns->name, out);
    tn_blob token = tn_activity_token(run->ms, activity, req->arena);
    out->task_token = (ProtobufCBinaryData){token.n, (uint8_t *)(uintptr_t)token.p};
    req->response = &out->base;
    if (run->ms->kind && req->call) {
        tn_ms_replace_str(run->ms, &run->ms->sdk_name, tn_call_header(req->call, "client-name"));
        tn_ms_replace_str(run->ms, &run->ms->sdk_version,
                          tn_call_header(req->call, "client-version"));
    }
    if (run->ms->kind)
        tn_history_notify(run); /* who watches it is told, though nothing was written */
}

void tn_op_activity_polled(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    const Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest *poll =
        (const Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest *)req->request;
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_tx *tx = tn_txn_change(txn, run);
    if (req->progress && req->call && tn_call_cancelled(req->call)) {
        tn_offer_withdrawn(run, req);
        tn_machine_activity_unstart(tx, req->u.task.ref.scheduled_id, tn_str_from(req->progress));
        tn_txn_commit(txn, tn_fault_make(txn->arena, TN_GRPC_CANCELLED, "the poll was cancelled"));
        return;
    }
    if (!req->progress) { /* else: served again after a write in doubt, under the same name */
        uint8_t id[16];
        req->progress = tn_arena_alloc(req->arena, 37);
        tn_uuid_v4(&txn->hl->rng, id);
        tn_uuid_format(id, req->progress);
    }
    tn_poller poller = {.identity = tn_str_from(poll->identity),
                        .request_id = tn_str_from(req->progress)};
    tn_poller_set_build(&poller, poll->worker_version_capabilities, poll->deployment_options);
    tn_poller_set_version(&poller, req->ns, run->ms, false, poll->deployment_options);
    bool durable = false;
    txn->activity_id = req->u.task.ref.scheduled_id;
    const tn_fault *fault =
        tn_machine_activity_start(tx, txn->activity_id, req->u.task.ref.stamp, &poller, &durable);
    if (!fault) {
        run->extras_pending = true;
        if (!durable && !tx->n_events)
            tx->extras_dirty = false; /* rides along with the next record */
        else
            tx->extras_dirty = true;
    }
    txn->after = handed_out;
    tn_txn_commit(txn, fault);
}

/* ---- answers ---- */

static void heartbeat_after(tn_txn *txn)
{
    if (txn->fault)
        return;
    txn->req->response = txn->user;
    if (txn->changes[0].run->ms->kind)
        tn_history_notify(txn->changes[0].run);
}

static void warn_of_failure(
    const tn_txn *txn,
    const Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *request)
{
    if (request->failure)
        tn_dyn_warn(TN_DYN_LIMIT_ACTIVITY_FAILURE_SIZE_WARN, txn->ns->name,
                    tn_str_from(txn->wf->workflow_id),
                    (int64_t)protobuf_c_message_get_packed_size(&request->failure->base));
}

static const tn_fault *respond(tn_txn *txn, tn_tx *tx, tn_run *run, tn_hreq *req)
{
    const Tenon__TaskToken *token = req->token ? req->token->msg : NULL;
    tn_str id = req->u.activity.activity_id;
    switch ((int)req->op) {
    case TN_HOP_ACT_COMPLETED:
        return tn_machine_activity_completed(
            tx, token, id,
            (const Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *)
                req->request);
    case TN_HOP_ACT_FAILED:
        warn_of_failure(
            txn, (const Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *)
                     req->request);
        return tn_machine_activity_failed(
            tx, token, id,
            (const Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *)
                req->request);
    case TN_HOP_ACT_CANCELED:
        return tn_machine_activity_canceled(
            tx, token, id,
            (const Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest *)
                req->request);
    default: {
        Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatResponse *out =
            tn_arena_alloc(req->arena, sizeof(*out));
        temporal__api__workflowservice__v1__record_activity_task_heartbeat_response__init(out);
        txn->user = out;
        txn->after = heartbeat_after;
        const tn_fault *fault = tn_machine_activity_heartbeat(
            tx, token, id,
            (const Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *)
                req->request,
            out);
        if (!fault)
            run->extras_pending = true;
        return fault;
    }
    }
}

static void set_response(tn_hreq *req)
{
    if (req->op != TN_HOP_ACT_FAILED)
        return;
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedResponse *out =
        tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__respond_activity_task_failed_response__init(out);
    req->response = &out->base;
}

static void responded(tn_txn *txn)
{
    if (!txn->fault)
        set_response(txn->req);
}

void tn_op_activity_respond(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (tn_doubt_was_made(req, run, NULL)) {
        set_response(req);
        tn_req_finish(req, NULL);
        return;
    }
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_tx *tx = tn_txn_change(txn, run);
    txn->after = responded;
    tn_txn_commit(txn, respond(txn, tx, run, req));
}
