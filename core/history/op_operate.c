/* SPDX-License-Identifier: MIT */
/* What clients do to a run or its activities from outside without the workflow taking part: pause and go on, begin
 * again, other options. */
#include "history/priv.h"

#include "history/machine/versioning.h"
#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__UpdateActivityOptionsRequest activity_options_request;
typedef Temporal__Api__Workflowservice__V1__UpdateActivityOptionsResponse activity_options_response;
typedef Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionOptionsRequest
    run_options_request;
typedef Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionOptionsResponse
    run_options_response;

/* Answers are copied: what they hold lies in the state or the transaction. */
static void answer(tn_txn *txn, const ProtobufCMessage *out)
{
    tn_arena_set_limit(txn->req->arena, 0);
    txn->user = tn_proto_copy(out, txn->req->arena);
    TN_ASSERT(txn->user);
}

static const tn_fault *activity_options(tn_txn *txn, tn_tx *tx)
{
    activity_options_response out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_OPTIONS_RESPONSE__INIT;
    const tn_fault *fault = tn_machine_update_activity_options(
        tx, (const activity_options_request *)txn->req->request, &out.activity_options);
    if (!fault)
        answer(txn, &out.base);
    return fault;
}

static const tn_fault *run_options(tn_txn *txn, tn_tx *tx)
{
    run_options_response out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_WORKFLOW_EXECUTION_OPTIONS_RESPONSE__INIT;
    const tn_fault *fault = tn_machine_update_options(
        tx, (const run_options_request *)txn->req->request, &out.workflow_execution_options);
    if (fault)
        return fault;
    answer(txn, &out.base);
    if (out.workflow_execution_options)
        tn_deployment_reactivate(
            txn->ns->id, tn_override_target(out.workflow_execution_options->versioning_override));
    return NULL;
}

static const tn_fault *operate(tn_txn *txn, tn_tx *tx)
{
    const ProtobufCMessage *request = txn->req->request;
#define IS(name) \
    (request->descriptor == &temporal__api__workflowservice__v1__##name##_request__descriptor)
    if (IS(pause_activity))
        return tn_machine_pause_activity(tx, (const void *)request);
    if (IS(unpause_activity))
        return tn_machine_unpause_activity(tx, (const void *)request);
    if (IS(reset_activity))
        return tn_machine_reset_activity(tx, (const void *)request);
    if (IS(update_activity_options))
        return activity_options(txn, tx);
    if (IS(pause_workflow_execution))
        return tn_machine_pause(tx, (const void *)request);
    if (IS(unpause_workflow_execution))
        return tn_machine_unpause(tx, (const void *)request);
    if (IS(update_workflow_execution_options))
        return run_options(txn, tx);
#undef IS
    return tn_fault_make(txn->arena, TN_GRPC_UNIMPLEMENTED,
                         "this host does not know the operation");
}

static void operated(tn_txn *txn)
{
    tn_run *run = txn->changes[0].run;
    if (!txn->fault)
        txn->req->response = txn->user;
    /* Who waits for a workflow task is told now that there will be none. */
    if (!txn->fault && run->ms->status == 8 && !run->ms->wft.started_id)
        tn_queries_wft_ended(run);
}

void tn_op_operate(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_tx *tx = tn_txn_change(txn, run);
    txn->after = operated;
    tn_txn_commit(txn, operate(txn, tx));
}
