/* SPDX-License-Identifier: MIT */
/* Workflow tasks between matching, workers and the machine: handing out, completing, failing.
 *
 * Handing one out writes nothing: the started event waits in the run's tail for the next record.  If the process
 * dies before, the task is simply handed out again. */
#include "history/priv.h"

#include <stdlib.h>

#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest completed_request;
typedef Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedResponse completed_response;

/* The machine has made a start: keep its event back for the next record. */
static void keep_in_tail(tn_run *run, tn_tx *tx)
{
    if (!tx->n_events)
        return;
    if (!run->tail_events)
        run->tail_first_id = tx->first_event_id;
    tn_buf_put(&run->tail, tx->events.p, tx->events.n);
    run->tail_events += tx->n_events;
    tx->n_events = 0;
    tn_buf_done(&tx->events);
}

/* The build id that the poll names, which the started event tells; a worker of a versioned deployment tells its
 * version with the completion. */
void tn_poller_set_build(tn_poller *poller,
                         const Temporal__Api__Common__V1__WorkerVersionCapabilities *can,
                         const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options)
{
    if (options && options->worker_versioning_mode == 2 && options->deployment_name &&
        *options->deployment_name)
        return;
    if (!can ||
        (can->use_versioning && can->deployment_series_name && *can->deployment_series_name))
        return;
    poller->build_id = tn_str_from(can->build_id);
    poller->use_versioning = can->use_versioning;
}

static const tn_fault *start_wft(tn_txn *txn, tn_run *run, int64_t scheduled_id, uint64_t stamp,
                                 const tn_poller *poller)
{
    tn_tx *tx = tn_txn_change(txn, run);
    const tn_fault *fault = tn_machine_wft_start(tx, scheduled_id, stamp, poller);
    if (fault)
        return fault;
    keep_in_tail(run, tx);
    tx->extras_dirty = false; /* the state knows what the next record must carry */
    run->extras_pending = run->extras_pending || run->ms->extras_stale;
    return NULL;
}

static void polled(tn_txn *txn)
{
    tn_hreq *req = txn->req;
    if (txn->fault)
        return; /* stale: matching hands the poll on */
    tn_run *run = txn->changes[0].run;
    txn->keep_req = true;
    tn_history_notify(run);
    tn_arena_set_limit(req->arena, 0);
    Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *out =
        tn_wft_response(run, req->arena, txn->ns->name);
    tn_queries_attach(run, req->arena, out);
    tn_updates_attach(run, req->arena, true, out);
    tn_reply_wft_poll(run, req, req->u.task.sticky, out);
}

void tn_op_wft_polled(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    const Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest *poll =
        (const Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest *)req->request;
    tn_txn *txn = tn_txn_begin(wf, req);
    char request_id[37];
    uint8_t id[16];
    tn_uuid_v4(&txn->hl->rng, id);
    tn_uuid_format(id, request_id);
    tn_poller poller = {.identity = tn_str_from(poll->identity),
                        .request_id = tn_str_from(request_id)};
    tn_poller_set_build(&poller, poll->worker_version_capabilities, poll->deployment_options);
    tn_poller_set_version(&poller, req->ns, run->ms, true, poll->deployment_options);
    const tn_fault *fault =
        start_wft(txn, run, req->u.task.ref.scheduled_id, req->u.task.ref.stamp, &poller);
    txn->after = polled;
    tn_txn_commit(txn, fault);
}

/* ---- completion ---- */

static Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *eager_task(
    tn_txn *txn, tn_run *run, int64_t scheduled_id)
{
    tn_arena *arena = txn->req->arena;
    tn_activity *activity = tn_ms_activity(run->ms, scheduled_id);
    if (!activity || !activity->started_ns)
        return NULL;
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *task =
        tn_arena_alloc(arena, sizeof(*task));
    temporal__api__workflowservice__v1__poll_activity_task_queue_response__init(task);
    tn_machine_activity_task(run->ms, activity, arena, txn->ns->name, task);
    tn_blob token = tn_activity_token(run->ms, activity, arena);
    task->task_token = (ProtobufCBinaryData){token.n, (uint8_t *)(uintptr_t)token.p};
    return task;
}

static void inline_read(tn_hreq *req, const tn_fault *fault, void *user)
{
    completed_response *out = user;
    req->response = &out->base;
    tn_req_finish(req, fault);
}

/* return_new_workflow_task: the next task, which the machine has started, rides in this answer. */
static bool hand_out_inline(tn_txn *txn, tn_run *run, bool heartbeat, completed_response *out)
{
    if (!txn->wft_out.new_wft_wanted_inline || !run->ms->wft.started_id)
        return false;
    run->ms->wft.dispatched = true;
    out->workflow_task = tn_wft_response(run, txn->req->arena, txn->ns->name);
    tn_queries_attach(run, txn->req->arena, out->workflow_task);
    tn_updates_attach(run, txn->req->arena, !heartbeat, out->workflow_task);
    txn->keep_req = true;
    tn_wft_history(run, txn->req, true, out->workflow_task, inline_read, out);
    return true;
}

static void completed(tn_txn *txn)
{
    tn_hreq *req = txn->req;
    tn_run *run = txn->changes[0].run;
    const completed_request *request = (const completed_request *)req->request;
    if (!txn->fault)
        tn_queries_answer(run, request);
    if (!txn->fault) {
        completed_response *out = tn_arena_alloc(req->arena, sizeof(*out));
        temporal__api__workflowservice__v1__respond_workflow_task_completed_response__init(out);
        out->reset_history_event_id = txn->wft_out.reset_history_event_id;
        tn_arena_set_limit(req->arena, 0);
        out->activity_tasks = TN_NEW_ARRAY(
            req->arena, Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *,
            txn->wft_out.n_eager_activities + 1);
        for (size_t i = 0; i < txn->wft_out.n_eager_activities; i++) {
            Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *task =
                eager_task(txn, run, txn->wft_out.eager_activities[i]);
            if (task)
                out->activity_tasks[out->n_activity_tasks++] = task;
        }
        req->response = &out->base;
        tn_updates_speculate(txn, run, request);
        hand_out_inline(txn, run, request->force_create_new_workflow_task, out);
    }
    tn_queries_wft_ended(run);
}

void tn_op_wft_respond(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    tn_wft_completed_out known = {0};
    bool made = tn_doubt_was_made(req, run, &known);
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_tx *tx = tn_txn_change(txn, run);
    const tn_fault *fault = NULL;
    if (made) { /* nothing is left to write: what remains is its answer */
        txn->wft_out = known;
    } else if (req->op == TN_HOP_WFT_COMPLETED) {
        const completed_request *request = (const completed_request *)req->request;
        fault = tn_machine_wft_completed(tx, req->token->msg, request, &txn->wft_out);
    } else {
        fault = tn_machine_wft_failed(
            tx, req->token->msg,
            (const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskFailedRequest *)
                req->request);
    }
    txn->after = completed;
    if (req->op == TN_HOP_WFT_FAILED)
        txn->after = tn_wft_failed_after;
    tn_txn_commit(txn, fault);
}

void tn_wft_failed_after(tn_txn *txn) { tn_queries_wft_ended(txn->changes[0].run); }
