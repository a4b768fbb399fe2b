/* SPDX-License-Identifier: MIT */
/* What reaches a run from outside: signals, cancel requests, termination, loss of stickiness; results and
 * closes of children. */
#include "history/object.h"

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
           (tn_str_is(parent->run_id, ms->parent.run_id) ||
            (parent->original_run_id.n && tn_str_is(parent->original_run_id, ms->parent.run_id)));
}

static const tn_fault *check_target(const tn_hreq *req, const tn_ms *ms)
{
    if (!req->u.external.external || !req->u.external.child_only ||
        is_child_of(ms, req->u.external.external))
        return NULL;
    return tn_fault_make(req->arena, TN_GRPC_NOT_FOUND, "workflow parent does not match");
}

/* The chain the caller means may have moved on: first_execution_run_id names its first run. */
static const tn_fault *check_chain(const tn_hreq *req, const tn_ms *ms, const char *first_run_id)
{
    /* What a closed run is told comes from the machine. */
    if (!first_run_id || !*first_run_id || !tn_ms_running(ms) ||
        strcmp(first_run_id, ms->first_run_id) == 0)
        return NULL;
    Temporal__Api__Errordetails__V1__NotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;
    return tn_fault_detailed(req->arena, TN_GRPC_NOT_FOUND, &detail.base,
                             "workflow execution not found");
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
            tx,
            (const Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *)
                req->request,
            from);
    case TN_HOP_REQUEST_CANCEL: {
        const Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *request =
            (const Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *)
                req->request;
        fault = check_chain(req, tx->ms, request->first_execution_run_id);
        return fault ? fault : tn_machine_request_cancel(tx, request, from);
    }
    case TN_HOP_TERMINATE: {
        const Temporal__Api__Workflowservice__V1__TerminateWorkflowExecutionRequest *request =
            (const Temporal__Api__Workflowservice__V1__TerminateWorkflowExecutionRequest *)
                req->request;
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
        ((const Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *)req->request)
            ->request_id,
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
    tn_run *run;
    do {
        run = tn_resolve(wf, req);
        if (!run)
            return;
    } while (tn_reset_redirect(req, run));
    if (run->ms->kind) {
        tn_object_owned_closed(wf, req, run);
        return;
    }
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
        fault = status == TN_OK
                    ? tn_machine_child_closed(tx, initiated_id, req->u.child.child_run_id,
                                              req->u.child.child_first_run_id, event)
                    : tn_fault_from_status(txn->arena, status, &err);
    }
    tn_txn_commit(txn, fault);
}
