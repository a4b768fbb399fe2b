/* SPDX-License-Identifier: MIT */
/* Direct queries: parked like tasks until a poll comes, then outstanding until the worker answers.  Nothing of them
 * is kept: when the process ends, the caller asks again. */
#include "matching/priv.h"

#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__RespondQueryTaskCompletedRequest answer_request;
typedef Temporal__Api__Workflowservice__V1__QueryWorkflowResponse query_response;

#define MOVED_NS (5 * TN_SEC) /* after a queue has come here, within which its workers do */

void tn_query_end(tn_wquery *query)
{
    tn_loop_timer_stop(&query->timer);
    if (query->handed_out) {
        query->tq->n_out--;
        tn_map_remove(&query->tq->ml->queries, &query->by_id);
    } else {
        tn_list_remove(&query->link);
    }
    tn_client_matching_done(query->mreq);
}

void tn_query_refuse(tn_wquery *query, const tn_fault *fault)
{
    query->mreq->accepted = false;
    query->mreq->fault = fault;
    tn_query_end(query);
}

static uint64_t answer_until(const tn_mreq *req)
{
    return req->deadline_mono_ns != UINT64_MAX ? req->deadline_mono_ns
                                               : tn_now_mono_ns() + 60 * TN_SEC;
}

static void query_waited(tn_loop_timer *timer)
{
    tn_wquery *query = TN_CONTAINER_OF(timer, tn_wquery, timer);
    bool no_poller = !query->handed_out && tn_list_empty(&query->tq->polls) &&
                     tn_now_mono_ns() - query->tq->last_poll_mono_ns >
                         tn_tq_number(query->tq, TN_DYN_MATCHING_QUERY_POLLER_WINDOW);
    /* workers have come, but are busy */
    if (!no_poller && tn_now_mono_ns() < query->until_mono_ns) {
        tn_loop_timer_start(timer, query->until_mono_ns);
        return;
    }
    tn_query_refuse(
        query, no_poller
                   ? tn_fault_make(query->mreq->arena, TN_GRPC_FAILED_PRECONDITION,
                                   "no poller seen for task queue recently, worker may be down")
                   : tn_fault_make(query->mreq->arena, TN_GRPC_DEADLINE_EXCEEDED,
                                   "context deadline exceeded"));
}

static bool poller_seen(const tn_tq *tq, uint64_t window_ns)
{
    return !tn_list_empty(&tq->polls) ||
           (tq->last_poll_mono_ns && tn_now_mono_ns() - tq->last_poll_mono_ns <= window_ns);
}

/* The queue may have been another host's until now: its workers ask here with their next polls. */
static bool pollers_may_come(const tn_tq *tq)
{
    return !tq->sticky && !tn_client_is_alone() && tn_now_mono_ns() - tq->ours_mono_ns < MOVED_NS;
}

/* Another host has the queue now: who asks, asks there.  A worker may have it already; another answer does no harm. */
void tn_query_send_on(tn_wquery *query)
{
    query->mreq->not_owner = true;
    tn_query_refuse(query, tn_fault_make(query->mreq->arena, TN_GRPC_UNAVAILABLE,
                                         "task queue is moving to another host, try again"));
}

static void send_on_handed_out(void *user, tn_map_link *link)
{
    (void)user;
    tn_wquery *query = TN_CONTAINER_OF(link, tn_wquery, by_id);
    if (query->tq->lost && query->mreq->op == TN_MOP_QUERY)
        tn_query_send_on(query);
}

void tn_queries_send_on_lost(tn_mloop *ml) { tn_map_each(&ml->queries, send_on_handed_out, NULL); }

void tn_match_query(tn_mloop *ml, tn_mreq *req)
{
    tn_tq *tq = tn_tq_for_task(ml, req);
    if (tq && tn_forward_query(tq, req))
        return;
    req->fault = tn_query_blackholed(ml, req, tq);
    if (req->fault) {
        req->accepted = true; /* no other queue would do better */
        tn_client_matching_done(req);
        return;
    }
    bool seen =
        tq && poller_seen(tq, tn_tq_number(tq, req->sticky ? TN_DYN_MATCHING_STICKY_TTL
                                                           : TN_DYN_MATCHING_QUERY_POLLER_WINDOW));
    if (ml->stopping || !tq || (!seen && !pollers_may_come(tq))) {
        req->accepted = false;
        req->fault = tn_fault_make(req->arena, TN_GRPC_FAILED_PRECONDITION,
                                   "no poller seen for task queue recently, worker may be down");
        tn_client_matching_done(req);
        return;
    }
    tn_arena_set_limit(req->arena, 0);
    tn_wquery *query = TN_NEW(req->arena, tn_wquery);
    query->mreq = req;
    query->tq = tq;
    req->query.id = ml->next_query_id++;
    tn_loop_timer_init(&query->timer, query_waited);
    uint64_t until = answer_until(req);
    if (req->sticky && until > tn_now_mono_ns() + TN_STICKY_QUERY_NS)
        until = tn_now_mono_ns() + TN_STICKY_QUERY_NS;
    query->until_mono_ns = until;
    if (!seen && until > tq->ours_mono_ns + MOVED_NS)
        until = tq->ours_mono_ns + MOVED_NS;
    tn_loop_timer_start(&query->timer, until);
    tn_list_push_back(&tq->queries, &query->link);
    tn_match(tq);
}

static void query_handed_out(tn_hreq *hreq)
{
    tn_wpoll *poll = hreq->user;
    poll->tq->n_out--;
    if (!hreq->fault && hreq->response) {
        tn_tq_count(poll->tq, TN_PRIORITY_DEFAULT, true);
        poll->mreq->response = hreq->response;
        tn_wpoll_finish(poll, NULL);
        return;
    }
    /* The run could not be read: tell the one who asks, keep the poll. */
    uint64_t id = ((const tn_mquery *)hreq->u.task.query)->id;
    tn_map_link *found = tn_map_find(&poll->tq->ml->queries, tn_blob_from(&id, sizeof(id)));
    if (found) {
        tn_wquery *query = TN_CONTAINER_OF(found, tn_wquery, by_id);
        query->mreq->fault = hreq->fault ? tn_fault_copy(query->mreq->arena, hreq->fault) : NULL;
        query->mreq->accepted = true;
        tn_query_end(query);
    }
    if (!tn_wpoll_usable(poll)) {
        tn_wpoll_finish(
            poll, tn_fault_make(poll->mreq->arena, TN_GRPC_CANCELLED, "the poll was cancelled"));
        return;
    }
    tn_wpoll_finish(poll, NULL);
}

bool tn_match_hand_out_query(tn_tq *tq, tn_wpoll *poll)
{
    if (tq->type == TN_TASK_NEXUS)
        return tn_match_hand_out_nexus(tq, poll);
    tn_list *link = tn_list_pop_front(&tq->queries);
    if (!link)
        return false;
    tn_wquery *query = TN_CONTAINER_OF(link, tn_wquery, link);
    tn_mreq *asked = query->mreq;
    query->handed_out = true;
    tq->n_out += 2; /* the query, and the poll that takes it */
    asked->accepted = true;
    tn_map_insert(&tq->ml->queries, &query->by_id,
                  tn_blob_from(&asked->query.id, sizeof(asked->query.id)));
    tn_loop_timer_start(&query->timer, answer_until(asked));
    tn_loop_timer_stop(&poll->timer);
    tn_mreq *req = poll->mreq;
    /* The poll outlives the query's arena in no case that matters, yet its copy costs little. */
    tn_arena_set_limit(req->arena, 0);
    tn_mquery *copy = TN_NEW(req->arena, tn_mquery);
    copy->id = asked->query.id;
    copy->query = tn_proto_copy(asked->query.query, req->arena);
    tn_hreq *h = &tn_wpoll_handout(poll)->hreq;
    *h = (tn_hreq){
        .user = poll,
        .arena = req->arena,
        .home = tq->ml->loop,
        .op = TN_HOP_QUERY_POLLED,
        .ns = tq->ns,
        .workflow_id = tn_arena_str(req->arena, asked->query.workflow_id),
        .run_id = tn_arena_str(req->arena, asked->query.run_id),
        .request = req->request,
        .call = req->call,
        .deadline_mono_ns = req->deadline_mono_ns,
        .pass_on = true,
        .done = query_handed_out,
    };
    h->u.task.query = copy;
    h->u.task.sticky = tq->sticky;
    h->u.task.queue = tn_str_from(tq->name);
    tn_client_history(h);
    return true;
}

static const tn_fault *failed(tn_arena *arena, const answer_request *answer)
{
    Temporal__Api__Errordetails__V1__QueryFailedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__QUERY_FAILED_FAILURE__INIT;
    detail.failure = answer->failure;
    return tn_fault_detailed(arena, TN_GRPC_INVALID_ARGUMENT, &detail.base, "%s",
                             answer->error_message);
}

void tn_match_query_done(tn_mloop *ml, tn_mreq *req)
{
    const answer_request *answer = (const answer_request *)req->request;
    tn_map_link *found =
        tn_map_find(&ml->queries, tn_blob_from(&req->query.id, sizeof(req->query.id)));
    if (!found) {
        Temporal__Api__Errordetails__V1__NotFoundFailure detail =
            TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;
        req->fault = tn_fault_detailed(req->arena, TN_GRPC_NOT_FOUND, &detail.base,
                                       "query task not found, or already expired");
        tn_client_matching_done(req);
        return;
    }
    tn_wquery *query = TN_CONTAINER_OF(found, tn_wquery, by_id);
    tn_mreq *asked = query->mreq;
    tn_arena_set_limit(asked->arena, 0);
    if ((int)answer->completed_type == 1) {
        query_response *out = tn_arena_alloc(asked->arena, sizeof(*out));
        temporal__api__workflowservice__v1__query_workflow_response__init(out);
        if (answer->query_result)
            out->query_result = (Temporal__Api__Common__V1__Payloads *)(void *)tn_proto_copy(
                &answer->query_result->base, asked->arena);
        asked->response = &out->base;
    } else {
        asked->fault = failed(asked->arena, answer);
    }
    tn_query_end(query);
    tn_client_matching_done(req);
}
