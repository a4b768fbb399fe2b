/* SPDX-License-Identifier: MIT */
/* Update-with-start: an update of the running workflow, or of one that is started for it in the same commit.  Its
 * faults say which of the two parts they are of. */
#include "history/update.h"

#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__ExecuteMultiOperationRequest multi_request;
typedef Temporal__Api__Workflowservice__V1__ExecuteMultiOperationResponse multi_response;
typedef Temporal__Api__Workflowservice__V1__ExecuteMultiOperationResponse__Response part;
typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request;
typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionResponse start_response;
typedef Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionRequest update_request;
typedef Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionResponse update_response;

#define CONFLICT_USE_EXISTING 2

const start_request *tn_update_start_request(const tn_hreq *req)
{
    return ((const multi_request *)req->request)->operations[0]->start_workflow;
}

static const update_request *update_of(const tn_hreq *req)
{
    return ((const multi_request *)req->request)->operations[1]->update_workflow;
}

/* ---- the answer ---- */

static start_response *start_part(const tn_waiting_update *w)
{
    start_response *out = TN_NEW(w->req->arena, start_response);
    temporal__api__workflowservice__v1__start_workflow_execution_response__init(out);
    out->run_id = tn_arena_strdup(w->req->arena, w->run_id);
    out->started = w->started;
    if (w->started)
        out->first_execution_run_id = out->run_id;
    out->status = (Temporal__Api__Enums__V1__WorkflowExecutionStatus)w->status;
    out->link = w->known ? NULL : tn_link_to_start(w->req, w->run_id);
    return out;
}

ProtobufCMessage *tn_update_start_response(tn_waiting_update *w, update_response *update)
{
    tn_arena *arena = w->req->arena;
    multi_response *out = TN_NEW(arena, multi_response);
    part *parts = TN_NEW_ARRAY(arena, part, 2);
    temporal__api__workflowservice__v1__execute_multi_operation_response__init(out);
    out->responses = TN_NEW_ARRAY(arena, part *, 2);
    for (size_t i = 0; i < 2; i++) {
        temporal__api__workflowservice__v1__execute_multi_operation_response__response__init(
            &parts[i]);
        out->responses[out->n_responses++] = &parts[i];
    }
    parts[0].response_case =
        TEMPORAL__API__WORKFLOWSERVICE__V1__EXECUTE_MULTI_OPERATION_RESPONSE__RESPONSE__RESPONSE_START_WORKFLOW;
    parts[0].start_workflow = start_part(w);
    parts[1].response_case =
        TEMPORAL__API__WORKFLOWSERVICE__V1__EXECUTE_MULTI_OPERATION_RESPONSE__RESPONSE__RESPONSE_UPDATE_WORKFLOW;
    parts[1].update_workflow = update;
    return &out->base;
}

const tn_fault *tn_update_start_fault(const tn_hreq *req, const tn_fault *fault)
{
    const tn_waiting_update *w = req->progress;
    const tn_fault *aborted = tn_fault_operation_aborted(req->arena);
    const tn_fault *faults[2] = {fault, aborted};
    if (w && w->updating) {
        faults[0] = w->started ? NULL : aborted;
        faults[1] = fault;
    }
    tn_arena_set_limit(req->arena, 0);
    return tn_fault_operations(req->arena, "Update-with-Start could not be executed.", faults, 2);
}

/* ---- the operation ---- */

const tn_fault *tn_update_start_admit(tn_hreq *req, tn_tx *tx)
{
    tn_waiting_update *w = req->progress;
    const tn_fault *fault = tn_machine_update_admit(tx, update_of(req), false);
    w->updating = fault != NULL;
    return fault;
}

void tn_update_start_started(tn_txn *txn, tn_run *run)
{
    tn_waiting_update *w = txn->req->progress;
    w->started = w->updating = true;
    w->status = run->ms->status ? run->ms->status : 1;
    txn->keep_req = true;
    tn_update_wait(w, run);
}

static bool same_start(const tn_wf *wf, const start_request *start)
{
    return wf->current_request_id && *start->request_id &&
           strcmp(wf->current_request_id, start->request_id) == 0;
}

/* The update of the run that is there already; false: one must be started. */
static bool update_current(tn_wf *wf, tn_hreq *req, tn_waiting_update *w, tn_run *run)
{
    const start_request *start = tn_update_start_request(req);
    const tn_update *known = tn_ms_update(run->ms, w->id);
    bool completed = known && known->stage == TN_UPDATE_COMPLETED;
    bool usable =
        tn_ms_running(run->ms) && (known || same_start(wf, start) ||
                                   start->workflow_id_conflict_policy == CONFLICT_USE_EXISTING);
    if (!completed && !usable)
        return false;
    w->updating = true;
    w->known = completed;
    w->status = tn_ms_running(run->ms) ? 1 : run->ms->status;
    tn_update_admit(wf, req, run, update_of(req));
    return true;
}

void tn_op_update_with_start(tn_wf *wf, tn_hreq *req)
{
    const update_request *update = update_of(req);
    tn_waiting_update *w = tn_update_waiting(
        req, update->wait_policy, update->request->meta->update_id, update->request->request_id);
    if (!wf->current_known) {
        tn_load_current(wf, req);
        return;
    }
    if (wf->current_exists) {
        tn_run *run = tn_run_find(wf, wf->current_run_id);
        if (!run) {
            tn_load_run(wf, wf->current_run_id, req);
            return;
        }
        tn_run_touch(run);
        if (update_current(wf, req, w, run))
            return;
        if (same_start(wf, tn_update_start_request(req))) {
            tn_req_finish(
                req, tn_fault_unavailable(req->arena, "Workflow was not started: StartDeduped"));
            return;
        }
    }
    w->updating = w->started = false;
    tn_op_start(wf, req);
}
