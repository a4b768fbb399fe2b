/* SPDX-License-Identifier: MIT */
/* Queries.  While a workflow task is pending a query waits for it and travels with it, so that it sees every signal
 * acknowledged before; otherwise it goes to a worker directly, as a task of its own that writes nothing. */
#include "history/priv.h"

#include <stdlib.h>

#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__QueryWorkflowRequest query_request;
typedef Temporal__Api__Workflowservice__V1__QueryWorkflowResponse query_response;
typedef Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse poll_response;

#define QUERIES_PER_RUN_MAX 64u

/* In the request's arena, reached by req->progress. */
typedef struct waiting {
    char id[37];
    bool attached; /* on its way with the started workflow task */
    bool tried_sticky;
    tn_hreq *req;
    tn_loop_timer timer; /* nobody waits for an answer past the deadline */
} waiting;

#define WITHOUT_DEADLINE_NS (60 * TN_SEC)

static void waited_too_long(tn_loop_timer *timer)
{
    waiting *w = TN_CONTAINER_OF(timer, waiting, timer);
    tn_list_remove(&w->req->link);
    tn_req_finish(w->req, tn_fault_make(w->req->arena, TN_GRPC_DEADLINE_EXCEEDED,
                                        "context deadline exceeded"));
}

static tn_hreq *take(tn_list *link)
{
    tn_hreq *req = TN_CONTAINER_OF(link, tn_hreq, link);
    tn_loop_timer_stop(&((waiting *)req->progress)->timer);
    tn_list_remove(&req->link);
    return req;
}

static const tn_fault *not_ready(tn_arena *arena, const char *text)
{
    Temporal__Api__Errordetails__V1__WorkflowNotReadyFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__WORKFLOW_NOT_READY_FAILURE__INIT;
    return tn_fault_detailed(arena, TN_GRPC_FAILED_PRECONDITION, &detail.base, "%s", text);
}

static void answer_payloads(tn_hreq *req, const Temporal__Api__Common__V1__Payloads *answer)
{
    tn_arena_set_limit(req->arena, 0);
    query_response *out = tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__query_workflow_response__init(out);
    if (answer)
        out->query_result =
            (Temporal__Api__Common__V1__Payloads *)(void *)tn_proto_copy(&answer->base, req->arena);
    req->response = &out->base;
    tn_req_finish(req, NULL);
}

static const tn_fault *query_failed(tn_arena *arena, const char *text,
                                    const Temporal__Api__Failure__V1__Failure *failure)
{
    Temporal__Api__Errordetails__V1__QueryFailedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__QUERY_FAILED_FAILURE__INIT;
    detail.failure = (Temporal__Api__Failure__V1__Failure *)(uintptr_t)failure;
    return tn_fault_detailed(arena, TN_GRPC_INVALID_ARGUMENT, &detail.base, "%s", text);
}

/* ---- direct ---- */

typedef struct direct {
    tn_mreq mreq;
    tn_hreq *req;
    bool sticky;
} direct;

static void direct_done(tn_mreq *mreq);

static void send_direct(tn_hreq *req, const tn_ms *ms, bool sticky)
{
    direct *d = TN_NEW(req->arena, direct);
    const query_request *request = (const query_request *)req->request;
    d->req = req;
    d->sticky = sticky;
    tn_mreq *m = &d->mreq;
    m->arena = req->arena;
    m->home = req->home == tn_loop_current() ? req->home : tn_loop_current();
    m->op = TN_MOP_QUERY;
    m->ns = req->ns;
    m->queue = tn_arena_str(req->arena, tn_str_from(sticky ? ms->sticky_queue : ms->task_queue));
    m->normal_queue = tn_arena_str(req->arena, tn_str_from(ms->task_queue));
    m->type = TN_TASK_WORKFLOW;
    m->sticky = sticky;
    m->request = req->request;
    m->call = req->call;
    m->deadline_mono_ns = req->deadline_mono_ns;
    m->workflow_id = tn_arena_str(req->arena, tn_str_from(ms->workflow_id));
    m->run_id = tn_arena_str(req->arena, tn_str_from(ms->run_id_text));
    m->directive = tn_run_directive(ms, req->arena, false);
    m->query.ns_id = req->ns->id;
    m->query.workflow_id = m->workflow_id;
    m->query.run_id = m->run_id;
    m->query.query = &request->query->base;
    m->done = direct_done;
    req->run_id = m->run_id;
    tn_client_matching(m);
}

static void direct_done(tn_mreq *mreq)
{
    direct *d = TN_CONTAINER_OF(mreq, direct, mreq);
    tn_hreq *req = d->req;
    if (d->sticky && !mreq->accepted && (mreq->fault || !mreq->response)) {
        /* The sticky worker is gone or silent: once more, to any worker of the normal queue. */
        waiting *w = req->progress;
        w->tried_sticky = true;
        tn_shard *shard = tn_shard_here(req->ns->id, req->workflow_id);
        if (shard && shard->owned) {
            tn_wf_enqueue(tn_wf_get(shard, req->ns->id, req->workflow_id), req);
            return;
        }
    }
    req->response = mreq->response;
    tn_req_finish(req, mreq->fault);
}

/* ---- the operation ---- */

static bool rejected(tn_hreq *req, const tn_ms *ms)
{
    const query_request *request = (const query_request *)req->request;
    /* 2: not open, 3: not completed cleanly */
    int condition = (int)request->query_reject_condition;
    bool running = tn_ms_running(ms);
    if (running ? ms->status != 8 : condition < 2 || (condition == 3 && ms->status == 2))
        return false;
    query_response *out = tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__query_workflow_response__init(out);
    out->query_rejected = tn_arena_alloc(req->arena, sizeof(*out->query_rejected));
    temporal__api__query__v1__query_rejected__init(out->query_rejected);
    out->query_rejected->status = (Temporal__Api__Enums__V1__WorkflowExecutionStatus)ms->status;
    req->response = &out->base;
    tn_req_finish(req, NULL);
    return true;
}

static bool deadline_before_wall(const tn_hreq *req, uint64_t wall_ns)
{
    if (req->deadline_mono_ns == UINT64_MAX)
        return false;
    uint64_t mono = tn_now_mono_ns(), wall = tn_now_wall_ns();
    uint64_t left = req->deadline_mono_ns > mono ? req->deadline_mono_ns - mono : 0;
    return wall_ns > wall + left;
}

static const tn_fault *check_ready(tn_hreq *req, const tn_ms *ms)
{
    if (!tn_ms_running(ms)) {
        return ms->last_completed_started_id
                   ? NULL
                   : not_ready(req->arena,
                               "Workflow execution closed before WorkflowTaskStarted event");
    }
    if (ms->first_wft_backoff_until_ns && !ms->first_wft_scheduled_id &&
        deadline_before_wall(req, ms->first_wft_backoff_until_ns))
        return not_ready(req->arena, "Workflow task is not scheduled yet.");
    if (ms->wft.scheduled_id && ms->wft.attempt >= 3)
        return not_ready(req->arena,
                         "Unable to query workflow due to Workflow Task in failed state.");
    return NULL;
}

static void wait_for_task(tn_run *run, tn_hreq *req)
{
    size_t n = 0;
    TN_LIST_FOREACH (link, &run->queries)
        n++;
    if (n >= QUERIES_PER_RUN_MAX) {
        tn_req_finish(req, tn_fault_exhausted(
                               req->arena, 6, 1,
                               "consistent query buffer is full, this may be caused by too many "
                               "queries and workflow not able to process query fast enough"));
        return;
    }
    waiting *w = req->progress;
    tn_list_push_back(&run->queries, &req->link);
    tn_loop_timer_start(&w->timer, req->deadline_mono_ns != UINT64_MAX
                                       ? req->deadline_mono_ns
                                       : tn_now_mono_ns() + WITHOUT_DEADLINE_NS);
}

void tn_op_query(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    tn_ms *ms = run->ms;
    if (!req->progress) {
        waiting *w = TN_NEW(req->arena, waiting);
        uint8_t id[16];
        tn_uuid_v4(&wf->shard->hl->rng, id);
        tn_uuid_format(id, w->id);
        w->req = req;
        tn_loop_timer_init(&w->timer, waited_too_long);
        req->progress = w;
    }
    if (rejected(req, ms))
        return;
    const tn_fault *fault = check_ready(req, ms);
    if (fault) {
        tn_req_finish(req, fault);
        return;
    }
    waiting *w = req->progress;
    if (tn_ms_running(ms) && (!ms->last_completed_started_id || ms->wft.scheduled_id)) {
        wait_for_task(run, req);
        return;
    }
    bool sticky = ms->sticky_queue && !w->tried_sticky && tn_ms_running(ms);
    if (w->tried_sticky && tn_machine_forget_sticky(run->ms))
        run->extras_pending = true;
    send_direct(req, ms, sticky);
}

/* ---- with workflow tasks ---- */

void tn_queries_attach(tn_run *run, tn_arena *arena, poll_response *out)
{
    size_t n = 0;
    TN_LIST_FOREACH (link, &run->queries)
        n++;
    if (!n)
        return;
    out->queries = TN_NEW_ARRAY(
        arena, Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse__QueriesEntry *,
        n);
    TN_LIST_FOREACH (link, &run->queries) {
        tn_hreq *req = TN_CONTAINER_OF(link, tn_hreq, link);
        waiting *w = req->progress;
        const query_request *request = (const query_request *)req->request;
        Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse__QueriesEntry *entry =
            tn_arena_alloc(arena, sizeof(*entry));
        temporal__api__workflowservice__v1__poll_workflow_task_queue_response__queries_entry__init(
            entry);
        entry->key = tn_arena_strdup(arena, w->id);
        entry->value = (Temporal__Api__Query__V1__WorkflowQuery *)(void *)tn_proto_copy(
            &request->query->base, arena);
        w->attached = true;
        out->queries[out->n_queries++] = entry;
    }
}

static void answer_one(tn_hreq *req, const Temporal__Api__Query__V1__WorkflowQueryResult *result)
{
    if (result->result_type == 1) {
        answer_payloads(req, result->answer);
        return;
    }
    tn_arena_set_limit(req->arena, 0);
    tn_req_finish(req, query_failed(req->arena, result->error_message, result->failure));
}

void tn_queries_answer(
    tn_run *run,
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request)
{
    for (size_t i = 0; i < request->n_query_results; i++) {
        const char *id = request->query_results[i]->key;
        TN_LIST_FOREACH_SAFE (link, &run->queries) {
            tn_hreq *req = TN_CONTAINER_OF(link, tn_hreq, link);
            waiting *w = req->progress;
            if (strcmp(w->id, id) != 0 || !request->query_results[i]->value)
                continue;
            take(&req->link);
            answer_one(req, request->query_results[i]->value);
            break;
        }
    }
}

void tn_queries_wft_ended(tn_run *run)
{
    tn_list again;
    tn_list_init(&again);
    while (!tn_list_empty(&run->queries))
        tn_list_push_back(&again, &take(tn_list_first(&run->queries))->link);
    /* Each is looked at anew: with the next task when one is pending, directly otherwise. */
    while (!tn_list_empty(&again)) {
        tn_hreq *req = TN_CONTAINER_OF(tn_list_pop_front(&again), tn_hreq, link);
        waiting *w = req->progress;
        w->attached = false;
        tn_wf_enqueue(run->wf, req);
    }
}

void tn_queries_send_on(tn_run *run, bool over)
{
    while (!tn_list_empty(&run->queries)) {
        tn_hreq *req = take(tn_list_first(&run->queries));
        ((waiting *)req->progress)->attached = false;
        if (over) {
            /* asked again where the shard is now */
            req->not_owner = tn_shard_elsewhere(run->wf->shard);
            tn_req_finish(req, tn_fault_unavailable(req->arena,
                                                    "shard is not owned by this host, try again"));
        } else {
            tn_list_push_back(&run->wf->queue, &req->link);
        }
    }
}

/* ---- a direct query reaches a worker ---- */

void tn_op_query_polled(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    tn_arena_set_limit(req->arena, 0);
    const tn_mquery *query = req->u.task.query;
    poll_response *out = tn_wft_base_response(run->ms, req->arena);
    out->query =
        (Temporal__Api__Query__V1__WorkflowQuery *)(void *)tn_proto_copy(query->query, req->arena);
    Tenon__TaskToken token = TENON__TASK_TOKEN__INIT;
    token.kind = 3;
    token.ns_id = run->ms->ns_id;
    token.workflow_id = run->ms->workflow_id;
    token.run_id = run->ms->run_id_text;
    token.query_id = query->id;
    token.task_queue = tn_arena_strdup(req->arena, req->u.task.queue.n ? req->u.task.queue.p : "");
    tn_blob sealed = tn_token_seal(req->arena, &token.base);
    out->task_token = (ProtobufCBinaryData){sealed.n, (uint8_t *)(uintptr_t)sealed.p};
    out->attempt = 1;         /* and no started event: SDKs know a query task by that */
    if (req->u.task.sticky) { /* the worker has the history */
        Temporal__Api__History__V1__History *none = tn_arena_alloc(req->arena, sizeof(*none));
        temporal__api__history__v1__history__init(none);
        out->history = none;
        req->response = &out->base;
        tn_req_finish(req, NULL);
        return;
    }
    tn_reply_wft_poll(run, req, false, out);
}
