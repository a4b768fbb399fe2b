/* SPDX-License-Identifier: MIT */
/* Bringing a task and a poll together.  The task is taken to its run, which decides whether it still waits and
 * makes the poll's answer; a stale one is dropped and the poll goes on waiting. */
#include "matching/priv.h"

#include <stdlib.h>

#include "client/partition.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest poll_wft;
typedef Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest poll_activity;
typedef Temporal__Api__Workflowservice__V1__PollNexusTaskQueueRequest poll_nexus;

/* ---- tasks ---- */

static bool sticky_worker_gone(const tn_tq *tq)
{
    return tn_list_empty(&tq->polls) &&
           (!tq->last_poll_mono_ns || tn_now_mono_ns() - tq->last_poll_mono_ns >
                                          tn_tq_number(tq, TN_DYN_MATCHING_STICKY_TTL));
}

void tn_match_add(tn_mloop *ml, tn_mreq *req)
{
    tn_tq *tq = tn_tq_for_task(ml, req);
    req->accepted = true;
    if (ml->stopping || !tq || (req->sticky && sticky_worker_gone(tq))) {
        req->accepted = false;
    } else if (tq->backlog.count >= TN_TASKS_WINDOW_MAX) {
        req->accepted = false;
        if (!req->forwarded) /* who forwards tries again by itself */
            tn_tq_starve(tq, req->task.shard);
    }
    if (!req->accepted) {
        tn_client_matching_done(req);
        return;
    }
    tn_wtask *task = tn_backlog_task(req);
    tn_backlog_add(&tq->backlog, task);
    tn_gauge_add(tq->backlog_series, 1);
    if (!req->forwarded)
        tn_tq_count(tq, task->priority, false);
    /* then it may meet a poll that history answers, which is said with the answer */
    bool takes_match = req->takes_match;
    if (!takes_match)
        tn_client_matching_done(req); /* and it may be gone */
    ml->adding = takes_match ? req : NULL;
    ml->added = takes_match ? task : NULL;
    tq->adding = true;
    tn_match(tq);
    tq->adding = false;
    ml->added = NULL;
    ml->adding = NULL;
    if (takes_match)
        tn_client_matching_done(req);
}

/* ---- polls ---- */

bool tn_wpoll_usable(const tn_wpoll *poll)
{
    return !poll->cancelled && !tn_call_cancelled(poll->mreq->call);
}

static void poll_waited(tn_loop_timer *timer)
{
    tn_wpoll *poll = TN_CONTAINER_OF(timer, tn_wpoll, timer);
    tn_counter_inc(poll->tq->polls_timed_out);
    tn_wpoll_finish(poll, NULL);
}

static uint64_t poll_until(const tn_tq *tq, const tn_mreq *req)
{
    uint64_t now = tn_now_mono_ns(), until = now + tn_tq_number(tq, TN_DYN_MATCHING_LONG_POLL);
    if (req->deadline_mono_ns != UINT64_MAX &&
        req->deadline_mono_ns < until + TN_LONG_POLL_MARGIN_NS)
        until = req->deadline_mono_ns > now + TN_LONG_POLL_MARGIN_NS
                    ? req->deadline_mono_ns - TN_LONG_POLL_MARGIN_NS
                    : now;
    return until;
}

void tn_wpoll_park(tn_wpoll *poll, bool first)
{
    poll->parked = true;
    poll->parked_mono_ns = tn_now_mono_ns();
    poll->tq->n_polls++;
    if (first)
        tn_list_push_front(&poll->tq->polls, &poll->link);
    else
        tn_list_push_back(&poll->tq->polls, &poll->link);
}

void tn_wpoll_unpark(tn_wpoll *poll)
{
    if (!poll->parked)
        return;
    poll->parked = false;
    poll->tq->n_polls--;
    tn_list_remove(&poll->link);
}

/* fault NULL: the response if there is one, else an empty answer. */
void tn_wpoll_finish(tn_wpoll *poll, const tn_fault *fault)
{
    tn_mreq *req = poll->mreq;
    tn_tq *tq = poll->tq;
    tn_wpoll_unpark(poll);
    tn_loop_timer_stop(&poll->timer);
    tn_map_remove(&tq->ml->polls, &poll->by_id);
    tq->used_mono_ns = tq->last_poll_mono_ns ? tn_now_mono_ns() : tq->used_mono_ns;
    if (tq->last_poll_mono_ns)
        tq->last_poll_mono_ns = tq->used_mono_ns;
    req->fault = fault;
    tn_client_matching_done(req);
}

static double rate_asked(const tn_mreq *req)
{
    if (req->type != TN_TASK_ACTIVITY)
        return -1;
    const poll_activity *poll = (const poll_activity *)req->request;
    if (!poll->task_queue_metadata || !poll->task_queue_metadata->max_tasks_per_second)
        return -1;
    double rate = poll->task_queue_metadata->max_tasks_per_second->value;
    return rate >= 0 && rate < TN_RATE_NONE ? rate : -1;
}

static const char *identity_of(const tn_mreq *req)
{
    if (req->type == TN_TASK_WORKFLOW)
        return ((const poll_wft *)req->request)->identity;
    if (req->type == TN_TASK_NEXUS)
        return ((const poll_nexus *)req->request)->identity;
    return ((const poll_activity *)req->request)->identity;
}

void tn_match_poll(tn_mloop *ml, tn_mreq *req)
{
    tn_tq *tq = tn_tq_for_poll(ml, req);
    tq->sticky = req->sticky;
    const char *identity = identity_of(req);
    double rate = rate_asked(req);
    tn_rates_set_worker(tq, rate);
    tn_tq_saw_poller(tq, req->forwarded ? (tn_str){0} : tn_str_from(identity), rate,
                     tn_poll_options(req));
    tn_wpoll *poll = TN_NEW(req->arena, tn_wpoll);
    if (!poll || ml->stopping || tn_worker_is_gone(ml, req)) {
        req->fault = poll ? NULL
                          : tn_fault_make(req->arena, TN_GRPC_RESOURCE_EXHAUSTED,
                                          "poll request is too large");
        tn_client_matching_done(req);
        return;
    }
    poll->id = req->poll_id;
    poll->mreq = req;
    poll->tq = tq;
    tn_list_init(&poll->link);
    tn_map_insert(&ml->polls, &poll->by_id, tn_blob_from(&poll->id, sizeof(poll->id)));
    tn_loop_timer_init(&poll->timer, poll_waited);
    poll->until_mono_ns = poll_until(tq, req);
    poll->came_mono_ns = tn_now_mono_ns();
    tn_loop_timer_start(&poll->timer, poll->until_mono_ns);
    tn_wpoll_park(poll, false);
    tn_match(tq);
}

void tn_match_cancel_poll(tn_mloop *ml, tn_mreq *req)
{
    tn_map_link *found = tn_map_find(&ml->polls, tn_blob_from(&req->poll_id, sizeof(req->poll_id)));
    if (found) {
        tn_wpoll *poll = TN_CONTAINER_OF(found, tn_wpoll, by_id);
        poll->cancelled = true;
        if (poll->delegated)
            tn_direct_end(poll);
        else if (poll->asked)
            tn_forward_cancel(poll);
        else if (poll->parked)
            tn_wpoll_finish(poll, tn_fault_make(poll->mreq->arena, TN_GRPC_CANCELLED,
                                                "the poll was cancelled"));
    }
    if (req->done)
        tn_client_matching_done(req);
}

void tn_match_end_polls(tn_tq *tq)
{
    TN_LIST_FOREACH_SAFE (link, &tq->polls)
        tn_wpoll_finish(TN_CONTAINER_OF(link, tn_wpoll, link), NULL);
    tn_forward_end_polls(tq);
}

/* ---- handing out ---- */

void tn_match_count(tn_tq *tq, const tn_wtask *task, bool sync)
{
    tn_tq_count_match(tq, task, sync);
    tn_tq_count(tq, task->priority, true);
    tn_counter_inc(tq->polls_won);
    if (sync)
        tn_counter_inc(tq->polls_won_sync);
}

static void handed_out(tn_hreq *hreq)
{
    tn_wpoll *poll = hreq->user;
    tn_tq *tq = poll->tq;
    bool matched = !hreq->fault && hreq->response;
    tq->n_out--;
    if (matched)
        tn_match_count(tq, poll->task, poll->sync);
    tn_backlog_task_free(poll->task);
    poll->task = NULL;
    if (matched) {
        poll->mreq->response = hreq->response;
        tn_rates_advise(poll, poll->sync);
        tn_wpoll_finish(poll, NULL);
    } else if (!tn_wpoll_usable(poll)) {
        tn_wpoll_finish(
            poll, tn_fault_make(poll->mreq->arena, TN_GRPC_CANCELLED, "the poll was cancelled"));
    } else if (tq->ml->stopping || tn_now_mono_ns() >= poll->until_mono_ns) {
        tn_wpoll_finish(poll, NULL);
    } else { /* the task was stale, or its run could not be reached and will offer it again */
        tn_loop_timer_start(&poll->timer, poll->until_mono_ns);
        tn_wpoll_park(poll, true);
        tn_match(tq);
    }
    tn_tq_give_credit(tq);
}

tn_handout *tn_wpoll_handout(tn_wpoll *poll)
{
    if (!poll->handout) {
        tn_arena_set_limit(poll->mreq->arena, 0);
        poll->handout = TN_NEW(poll->mreq->arena, tn_handout);
        TN_ASSERT(poll->handout);
    }
    return poll->handout;
}

static void hand_out(tn_tq *tq, tn_wpoll *poll, tn_wtask *task)
{
    tn_mreq *req = poll->mreq;
    tn_loop_timer_stop(&poll->timer);
    if (task == tq->ml->added && tn_direct_hand_out(tq, poll, task))
        return;
    poll->task = task;
    tq->n_out++;
    poll->sync = tq->adding;
    tn_handout *out = tn_wpoll_handout(poll);
    tn_hreq *h = &out->hreq;
    tn_uuid_format(task->ref.run_id, out->run_id);
    *h = (tn_hreq){
        .user = poll,
        .arena = req->arena,
        .home = tq->ml->loop,
        .op = tq->type == TN_TASK_WORKFLOW ? TN_HOP_WFT_POLLED : TN_HOP_ACT_POLLED,
        .ns = tq->ns,
        .workflow_id = tn_wtask_workflow_id(task),
        .run_id = {out->run_id, 36},
        .request = req->request,
        .packed = req->packed,
        .call = req->call,
        .deadline_mono_ns = req->deadline_mono_ns,
        .pass_on = true,
        .done = handed_out,
    };
    h->u.task.ref = task->ref;
    h->u.task.sticky = tq->sticky;
    h->u.task.poll_id = poll->id;
    tn_client_history(h);
}

static tn_wpoll *take_poll(tn_tq *tq)
{
    while (!tn_list_empty(&tq->polls)) {
        tn_wpoll *poll = TN_CONTAINER_OF(tn_list_first(&tq->polls), tn_wpoll, link);
        tn_wpoll_unpark(poll);
        if (tn_wpoll_usable(poll))
            return poll;
        tn_wpoll_finish(
            poll, tn_fault_make(poll->mreq->arena, TN_GRPC_CANCELLED, "the poll was cancelled"));
    }
    return NULL;
}

/* The task whose turn it is, left where it is; expired ones go. */
static tn_wtask *next_task(tn_tq *tq, uint64_t now)
{
    uint64_t wait_until;
    bool dropped = false;
    tn_wtask *task;
    while ((task = tn_backlog_next(&tq->backlog, now, &wait_until)) &&
           task->expire_mono_ns <= now) {
        tn_backlog_take(&tq->backlog, task, now, false);
        tn_gauge_add(tq->backlog_series, -1);
        tn_backlog_task_free(task);
        dropped = true;
    }
    if (!task && wait_until != UINT64_MAX)
        tn_rates_look_at(tq, wait_until);
    if (dropped)
        tn_tq_give_credit(tq);
    return task;
}

static void take(tn_tq *tq, tn_wtask *task, uint64_t now)
{
    tn_backlog_take(&tq->backlog, task, now, true);
    tn_gauge_add(tq->backlog_series, -1);
}

tn_wtask *tn_match_take_task(tn_tq *tq)
{
    uint64_t now = tn_now_mono_ns();
    tn_wtask *task = tn_tq_config_known(tq) ? next_task(tq, now) : NULL;
    if (!task || (!task->paid && !tn_rates_may_dispatch(tq)))
        return NULL;
    take(tq, task, now);
    task->paid = true;
    return task;
}

void tn_match_put_back(tn_tq *tq, tn_wtask *task)
{
    tn_backlog_put_back(&tq->backlog, task);
    tn_gauge_add(tq->backlog_series, 1);
}

static void meet(tn_tq *tq)
{
    while (!tn_list_empty(&tq->polls) && (!tn_list_empty(&tq->queries) || tq->backlog.count)) {
        bool query = !tn_list_empty(&tq->queries);
        uint64_t now = query ? 0 : tn_now_mono_ns();
        if (!query && !tn_tq_config_known(tq))
            return;
        tn_wtask *task = query ? NULL : next_task(tq, now);
        if (!query && (!task || (!task->paid && !tn_rates_may_dispatch(tq))))
            return;
        tn_wpoll *poll = take_poll(tq);
        if (!poll) {
            if (task && !task->paid)
                tn_rates_keep_token(tq);
            return;
        }
        if (query && tn_match_hand_out_query(tq, poll))
            continue;
        take(tq, task, now);
        hand_out(tq, poll, task);
    }
}

void tn_match(tn_tq *tq)
{
    meet(tq);
    if (tq->forward)
        tn_forward_look(tq);
}
