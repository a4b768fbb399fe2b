/* SPDX-License-Identifier: MIT */
/* Callers that wait for an update: until it is accepted or completed, until the run has no more use for it, or until
 * they have waited long enough and are told how far it has come.  After every transition of the run all of them are
 * looked at; what they are told is durable by then. */
#include "history/update.h"

#include "config/dynconfig.h"
#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "temporal/api/update/v1/message.pb-c.h"

typedef Temporal__Api__Update__V1__Outcome outcome_msg;
typedef Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionResponse update_response;
typedef Temporal__Api__Workflowservice__V1__PollWorkflowExecutionUpdateResponse poll_response;

enum { STAGE_ADMITTED = 1, STAGE_ACCEPTED, STAGE_COMPLETED };

/* ---- answers ---- */

static Temporal__Api__Update__V1__UpdateRef *reference(const tn_waiting_update *w)
{
    tn_arena *arena = w->req->arena;
    Temporal__Api__Update__V1__UpdateRef *ref = TN_NEW(arena, Temporal__Api__Update__V1__UpdateRef);
    temporal__api__update__v1__update_ref__init(ref);
    ref->workflow_execution = TN_NEW(arena, Temporal__Api__Common__V1__WorkflowExecution);
    temporal__api__common__v1__workflow_execution__init(ref->workflow_execution);
    ref->workflow_execution->workflow_id =
        (char *)(uintptr_t)tn_arena_str(arena, w->req->workflow_id).p;
    ref->workflow_execution->run_id = tn_arena_strdup(arena, w->run_id);
    ref->update_id = (char *)(uintptr_t)tn_arena_str(arena, w->id).p;
    return ref;
}

static Temporal__Api__Common__V1__Link *link_of(const tn_waiting_update *w,
                                                const outcome_msg *outcome, int stage)
{
    if (w->known)
        return NULL;
    if (stage == STAGE_COMPLETED && outcome &&
        outcome->value_case == TEMPORAL__API__UPDATE__V1__OUTCOME__VALUE_FAILURE)
        return tn_link_to_workflow(w->req, w->run_id, "Update rejected");
    if (stage < STAGE_ACCEPTED)
        return NULL;
    return tn_link_to_request(
        w->req, w->run_id, w->request_id,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED);
}

static update_response *response_of(const tn_waiting_update *w, outcome_msg *outcome, int stage)
{
    update_response *out = TN_NEW(w->req->arena, update_response);
    temporal__api__workflowservice__v1__update_workflow_execution_response__init(out);
    out->update_ref = reference(w);
    out->outcome = outcome;
    out->stage = (Temporal__Api__Enums__V1__UpdateWorkflowExecutionLifecycleStage)stage;
    out->link = link_of(w, outcome, stage);
    return out;
}

static void answer(tn_waiting_update *w, outcome_msg *outcome, int stage)
{
    tn_hreq *req = w->req;
    tn_arena_set_limit(req->arena, 0);
    if (req->op == TN_HOP_POLL_UPDATE) {
        poll_response *out = TN_NEW(req->arena, poll_response);
        temporal__api__workflowservice__v1__poll_workflow_execution_update_response__init(out);
        out->update_ref = reference(w);
        out->outcome = outcome;
        out->stage = (Temporal__Api__Enums__V1__UpdateWorkflowExecutionLifecycleStage)stage;
        req->response = &out->base;
    } else if (req->op == TN_HOP_UPDATE_WITH_START) {
        req->response = tn_update_start_response(w, response_of(w, outcome, stage));
    } else {
        req->response = &response_of(w, outcome, stage)->base;
    }
    tn_req_finish(req, NULL);
}

static void answer_failure(tn_waiting_update *w, const Temporal__Api__Failure__V1__Failure *failure)
{
    tn_arena_set_limit(w->req->arena, 0);
    outcome_msg *outcome = TN_NEW(w->req->arena, outcome_msg);
    temporal__api__update__v1__outcome__init(outcome);
    outcome->value_case = TEMPORAL__API__UPDATE__V1__OUTCOME__VALUE_FAILURE;
    outcome->failure =
        (Temporal__Api__Failure__V1__Failure *)(void *)tn_proto_copy(&failure->base, w->req->arena);
    answer(w, outcome, STAGE_COMPLETED);
}

/* It was accepted, so its caller expects an outcome; there will never be another. */
static void answer_closed(tn_waiting_update *w)
{
    Temporal__Api__Failure__V1__Failure failure = TEMPORAL__API__FAILURE__V1__FAILURE__INIT;
    Temporal__Api__Failure__V1__ApplicationFailureInfo info =
        TEMPORAL__API__FAILURE__V1__APPLICATION_FAILURE_INFO__INIT;
    failure.message =
        (char
             *)"Workflow Update failed because the Workflow completed before the Update completed.";
    failure.source = (char *)"Server";
    failure.failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO;
    failure.application_failure_info = &info;
    info.type = (char *)"AcceptedUpdateCompletedWorkflow";
    info.non_retryable = true;
    answer_failure(w, &failure);
}

static outcome_msg *outcome_in(tn_arena *arena, tn_blob body)
{
    tn_wire_field field;
    Temporal__Api__History__V1__HistoryEvent *event = NULL;
    tn_wire_iter it = tn_wire_begin(body);
    if (!tn_wire_next(&it, &field) ||
        TN_PROTO_UNPACK(temporal__api__history__v1__history_event, field.bytes, arena, &event,
                        NULL) != TN_OK ||
        event->attributes_case !=
            TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_UPDATE_COMPLETED_EVENT_ATTRIBUTES)
        return NULL;
    return event->workflow_execution_update_completed_event_attributes->outcome;
}

static void outcome_read(tn_read *read)
{
    tn_waiting_update *w = read->user;
    tn_hreq *req = w->req;
    const tn_fault *fault = NULL;
    outcome_msg *outcome = NULL;
    if (read->status != TN_OK) {
        fault = tn_fault_from_status(req->arena, read->status, &read->error);
    } else {
        tn_blob kept = tn_arena_blob(req->arena, tn_buf_blob(&read->body));
        outcome = outcome_in(req->arena, kept);
        if (!outcome)
            fault = tn_fault_make(req->arena, TN_GRPC_DATA_LOSS,
                                  "the outcome of the update can't be read");
    }
    tn_buf_done(&read->body);
    if (fault)
        tn_req_finish(req, fault);
    else
        answer(w, outcome, STAGE_COMPLETED);
}

static void answer_outcome(tn_waiting_update *w, tn_run *run, const tn_update *update)
{
    tn_arena_set_limit(w->req->arena, 0);
    w->read = (tn_read){.arena = w->req->arena,
                        .req = w->req,
                        .from = update->completed_id,
                        .to = update->completed_id,
                        .events_max = 1,
                        .done = outcome_read,
                        .user = w};
    tn_read_events(&w->read, run);
}

static const tn_fault *task_failed(tn_arena *arena)
{
    Temporal__Api__Errordetails__V1__WorkflowNotReadyFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__WORKFLOW_NOT_READY_FAILURE__INIT;
    return tn_fault_detailed(
        arena, TN_GRPC_FAILED_PRECONDITION, &detail.base,
        "Unable to perform workflow execution update due to unexpected workflow task failure.");
}

static const tn_fault *aborted(tn_arena *arena, tn_grpc_code code)
{
    return tn_fault_make(arena, code, "workflow update was aborted by closing workflow");
}

/* ---- waiting ---- */

static void stop_waiting(tn_waiting_update *w)
{
    tn_loop_timer_stop(&w->timer);
    tn_list_remove(&w->req->link);
}

static void serve_again(tn_waiting_update *w, tn_run *run)
{
    tn_list_push_back(&run->wf->queue, &w->req->link);
}

/* The run has let go of it before it was accepted. */
static void let_go(tn_waiting_update *w, tn_run *run)
{
    bool followed = run->ms->new_run_id && *run->ms->new_run_id;
    w->taken_in = false;
    if (tn_ms_running(run->ms) || followed) {
        serve_again(
            w,
            /* a poll finds nothing; an update goes to the run that the workflow id means now */
            run);
    } else if (w->req->op == TN_HOP_POLL_UPDATE) {
        tn_req_finish(w->req, aborted(w->req->arena, TN_GRPC_NOT_FOUND));
    } else if (w->req->op == TN_HOP_UPDATE_WITH_START && !w->started && !w->again) {
        w->again = true; /* it can start what it needs */
        serve_again(w, run);
    } else {
        tn_req_finish(w->req,
                      aborted(w->req->arena, w->again ? TN_GRPC_ABORTED : TN_GRPC_NOT_FOUND));
    }
}

static const tn_update_end *end_of(const tn_tx *tx, tn_str id)
{
    for (size_t i = 0; tx && i < tx->n_update_ends; i++)
        if (tn_str_eq(tx->update_ends[i].id, id))
            return &tx->update_ends[i];
    return NULL;
}

static int stage_of(const tn_update *update)
{
    return update->stage == TN_UPDATE_ACCEPTED    ? STAGE_ACCEPTED
           : update->stage == TN_UPDATE_COMPLETED ? STAGE_COMPLETED
                                                  : STAGE_ADMITTED;
}

/* It has come as far as the caller wants, or will not. */
static bool is_settled(const tn_waiting_update *w, const tn_ms *ms, const tn_update *update,
                       const tn_update_end *end)
{
    return end || !update || !tn_ms_running(ms) || update->stage == TN_UPDATE_COMPLETED ||
           stage_of(update) >= w->stage;
}

static void settle(tn_waiting_update *w, tn_run *run, const tn_update *update,
                   const tn_update_end *end)
{
    stop_waiting(w);
    memcpy(w->run_id, run->ms->run_id_text, sizeof(w->run_id));
    if (end && end->rejection)
        answer_failure(w, end->rejection);
    else if (end)
        tn_req_finish(w->req, task_failed(w->req->arena));
    else if (!update)
        let_go(w, run);
    else if (update->stage == TN_UPDATE_COMPLETED)
        answer_outcome(w, run, update);
    else if (!tn_ms_running(run->ms))
        answer_closed(w); /* accepted: what was not has been let go of */
    else
        answer(w, NULL, stage_of(update));
}

void tn_updates_settle(tn_run *run, const tn_tx *tx)
{
    TN_LIST_FOREACH_SAFE (link, &run->updates) {
        tn_waiting_update *w = TN_CONTAINER_OF(link, tn_hreq, link)->progress;
        const tn_update *update = tn_ms_update(run->ms, w->id);
        const tn_update_end *end = end_of(tx, w->id);
        if (is_settled(w, run->ms, update, end))
            settle(w, run, update, end);
    }
}

/* The update goes on without its caller, who is told how far it has come and may ask again. */
static void waited_enough(tn_loop_timer *timer)
{
    tn_waiting_update *w = TN_CONTAINER_OF(timer, tn_waiting_update, timer);
    tn_run *run = w->run;
    const tn_update *update = tn_ms_update(run->ms, w->id);
    stop_waiting(w);
    if (w->ends_with_deadline) {
        tn_req_finish(w->req, tn_fault_make(w->req->arena, TN_GRPC_DEADLINE_EXCEEDED,
                                            "context deadline exceeded"));
        return;
    }
    memcpy(w->run_id, run->ms->run_id_text, sizeof(w->run_id));
    answer(w, NULL,
           update && update->stage == TN_UPDATE_ACCEPTED ? STAGE_ACCEPTED : STAGE_ADMITTED);
}

tn_waiting_update *tn_update_waiting(tn_hreq *req,
                                     const Temporal__Api__Update__V1__WaitPolicy *policy,
                                     const char *id, const char *request_id)
{
    tn_waiting_update *w = req->progress;
    if (w)
        return w;
    w = TN_NEW(req->arena, tn_waiting_update);
    w->req = req;
    w->id = tn_str_from(id);
    w->request_id = request_id;
    w->stage = policy ? (int)policy->lifecycle_stage : 0;
    w->taken_in = req->taken_in;
    uint64_t until = tn_now_mono_ns() +
                     (uint64_t)tn_dyn_i64(TN_DYN_HISTORY_LONG_POLL, req->ns->name, TN_STR(""));
    w->ends_with_deadline = req->deadline_mono_ns < until;
    w->until_ns = w->ends_with_deadline ? req->deadline_mono_ns : until;
    tn_loop_timer_init(&w->timer, waited_enough);
    req->progress = w;
    return w;
}

static void end_wait(tn_waiting_update *w)
{
    w->ends_with_deadline = false;
    tn_loop_timer_start(&w->timer, tn_now_mono_ns());
}

void tn_update_wait(tn_waiting_update *w, tn_run *run)
{
    w->run = run;
    tn_list_push_back(&run->updates, &w->req->link);
    if (run->wf->shard->hl->draining)
        end_wait(w);
    else
        tn_loop_timer_start(&w->timer, w->until_ns);
}

void tn_updates_end_waits(tn_run *run, const uint8_t *host_id)
{
    TN_LIST_FOREACH (link, &run->updates) {
        const tn_hreq *req = TN_CONTAINER_OF(link, tn_hreq, link);
        if (tn_history_waits_for(req, host_id))
            end_wait(req->progress);
    }
}

void tn_updates_send_on(tn_run *run, bool over)
{
    while (!tn_list_empty(&run->updates)) {
        tn_waiting_update *w =
            TN_CONTAINER_OF(tn_list_first(&run->updates), tn_hreq, link)->progress;
        stop_waiting(w);
        if (over) {
            /* Asked again where the shard is now: by its id an update is not taken in twice. */
            w->req->not_owner = !run->wf->shard->hl->stopping;
            w->req->taken_in = w->taken_in;
            tn_req_finish(w->req, tn_fault_unavailable(
                                      w->req->arena, "shard is not owned by this host, try again"));
        } else {
            serve_again(w, run);
        }
    }
}

/* ---- the operations ---- */

static const tn_fault *check_chain(const tn_hreq *req, const tn_ms *ms, const char *first_run_id)
{
    if (!*first_run_id || strcmp(first_run_id, ms->first_run_id) == 0)
        return NULL;
    return tn_fault_make(req->arena, TN_GRPC_NOT_FOUND, "workflow execution not found");
}

static void admitted(tn_txn *txn)
{
    tn_waiting_update *w = txn->req->progress;
    if (txn->fault)
        return;
    txn->keep_req = true;
    w->taken_in = true;
    tn_update_wait(w, txn->changes[0].run);
}

void tn_update_admit(
    tn_wf *wf, tn_hreq *req, tn_run *run,
    const Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionRequest *request)
{
    const tn_fault *fault = check_chain(req, run->ms, request->first_execution_run_id);
    if (fault) {
        tn_req_finish(req, fault);
        return;
    }
    tn_txn *txn = tn_txn_begin(wf, req);
    const tn_waiting_update *w = req->progress;
    fault = tn_machine_update_admit(tn_txn_change(txn, run), request, w->taken_in);
    txn->after = admitted;
    tn_txn_commit(txn, fault);
}

static void poll(tn_hreq *req, tn_run *run)
{
    const Temporal__Api__Workflowservice__V1__PollWorkflowExecutionUpdateRequest *request =
        (const Temporal__Api__Workflowservice__V1__PollWorkflowExecutionUpdateRequest *)
            req->request;
    tn_waiting_update *w =
        tn_update_waiting(req, request->wait_policy, request->update_ref->update_id, "");
    if (!tn_ms_update(run->ms, w->id)) {
        tn_req_finish(req, tn_fault_make(req->arena, TN_GRPC_NOT_FOUND, "update \"%s\" not found",
                                         request->update_ref->update_id));
        return;
    }
    tn_update_wait(w, run);
    tn_updates_settle(run, NULL);
}

void tn_op_update(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (req->op == TN_HOP_POLL_UPDATE) {
        poll(req, run);
        return;
    }
    const Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionRequest *request =
        (const Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionRequest *)req->request;
    tn_update_waiting(req, request->wait_policy, request->request->meta->update_id,
                      request->request->request_id);
    tn_update_admit(wf, req, run, request);
}

/* ---- with workflow tasks ---- */

void tn_updates_attach(tn_run *run, tn_arena *arena, bool again,
                       Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *out)
{
    if (run->ms->updates)
        out->n_messages = tn_machine_update_messages(run->ms, arena, again, &out->messages);
}

void tn_updates_speculate(
    tn_txn *txn, tn_run *run,
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request)
{
    tn_tx tx;
    if (!txn->wft_out.speculate)
        return;
    tn_tx_init(&tx, run->ms, &txn->env, txn->arena, tn_now_wall_ns(), &txn->hl->rng);
    tn_machine_wft_speculate(&tx, request);
    tn_tx_done(&tx);
    txn->wft_out.new_wft_wanted_inline = run->ms->wft.started_id != 0;
}
