/* SPDX-License-Identifier: MIT */
/* Workers: each asks for a task, thinks, and answers; some are late, answer twice, fail or never answer.  A worker
 * outlives the server's crash and then answers what it was given before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"
#include "sim.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

#define WORKERS_MAX 24u

typedef enum kind { WORKFLOW, STICKY, ACTIVITY } kind;
typedef struct worker {
    sim_event event;
    int index;
    kind what;
    char sticky[16];
    bool busy;
    /* the task in hand */
    bool has_task, again, direct_query;
    uint8_t token[1024];
    size_t token_n;
    char queue[32];
    uint64_t query_id;
    sim_run *run;
    int64_t started, scheduled;
    char activity[48];
    int attempt;
    int oks; /* how many answers to this task were taken */
    unsigned tries;
    /* the poll that is out, when it takes an answer of history's; turn 0: it doesn't */
    tn_poll_ref to;
    char partition[48];       /* where it waits */
    bool settled;             /* by history, with... */
    ProtobufCMessage *answer; /* ...this (NULL: it must ask again), in... */
    tn_arena *answer_arena;
} worker;
static worker workers[WORKERS_MAX];
static size_t n_workers;

typedef struct once { /* an attempt of an activity that has only one */
    char run_id[37], activity[48];
} once;
static once *seen;
static size_t n_seen;

static void poll_now(sim_event *event);
static void work(sim_event *event);

static Temporal__Api__Taskqueue__V1__TaskQueue *queue_of(tn_arena *arena, const char *name,
                                                         bool sticky)
{
    Temporal__Api__Taskqueue__V1__TaskQueue *q = MAKE(arena, taskqueue__v1__task_queue);
    q->name = tn_arena_strdup(arena, name);
    q->kind = sticky ? 2 : 1;
    if (sticky)
        q->normal_name = tn_arena_strdup(arena, "q");
    return q;
}

/* ---- getting a task ---- */

static bool good(void) { return sim_draining || !sim_chance(mix.bad_worker_permille); }

static void keep_token(worker *w, ProtobufCBinaryData token)
{
    TN_ASSERT(token.len && token.len <= sizeof(w->token));
    memcpy(w->token, token.data, token.len);
    w->token_n = token.len;
    w->has_task = true;
    w->oks = 0;
    w->tries = 0;
    w->again = !good() && sim_below(2);
}

static bool took_workflow(worker *w, tn_mreq *m)
{
    const Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *r =
        (const void *)sim_reply(m->arena, m->response);
    if (!r->task_token.len)
        return false;
    keep_token(w, r->task_token);
    w->direct_query = r->query != NULL;
    w->run = sim_run_get(r->workflow_execution->workflow_id, r->workflow_execution->run_id);
    w->started = r->started_event_id;
    if (w->direct_query) {
        const Tenon__TaskToken *token = (const void *)tn_token_open(
            m->arena, tn_blob_from(w->token, w->token_n), &tenon__task_token__descriptor);
        TN_ASSERT(token);
        snprintf(w->queue, sizeof(w->queue), "%s", token->task_queue);
        w->query_id = token->query_id;
    }
    tn_blob body = {NULL, 0};
    if (r->history && !w->answer && tn_proto_pack(&r->history->base, m->arena, &body) == TN_OK)
        sim_run_saw(w->run, body, false);
    sim_trace("worker %d: task %lld of %s %.8s, attempt %d%s", w->index, (long long)w->started,
              w->run->wid, w->run->run_id, r->attempt, w->direct_query ? ", a query" : "");
    return true;
}

static void saw_once(worker *w)
{
    for (size_t i = 0; i < n_seen; i++)
        if (strcmp(seen[i].run_id, w->run->run_id) == 0 &&
            strcmp(seen[i].activity, w->activity) == 0)
            sim_violation("R8", "%s/%s: activity %s of one attempt was given out twice",
                          w->run->wid, w->run->run_id, w->activity);
    seen = tn_xreallocarray(seen, n_seen + 1, sizeof(*seen));
    memcpy(seen[n_seen].run_id, w->run->run_id, 37);
    memcpy(seen[n_seen++].activity, w->activity, 48);
}

static bool took_activity(worker *w, tn_mreq *m)
{
    const Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *r =
        (const void *)sim_reply(m->arena, m->response);
    if (!r->task_token.len)
        return false;
    keep_token(w, r->task_token);
    w->direct_query = false;
    w->run = sim_run_get(r->workflow_execution->workflow_id, r->workflow_execution->run_id);
    snprintf(w->activity, sizeof(w->activity), "%s", r->activity_id);
    w->attempt = r->attempt;
    const Tenon__TaskToken *token = (const void *)tn_token_open(
        m->arena, tn_blob_from(w->token, w->token_n), &tenon__task_token__descriptor);
    TN_ASSERT(token);
    w->scheduled = token->scheduled_id;
    if (r->retry_policy && r->retry_policy->maximum_attempts == 1)
        saw_once(w);
    sim_trace("worker %d: activity %s of %s, attempt %d", w->index, w->activity, w->run->wid,
              w->attempt);
    return true;
}

static void polled(tn_mreq *m)
{
    worker *w = m->user;
    bool asks_again = m->not_owner || w->settled;
    w->to.turn = 0;
    w->settled = false;
    if (w->answer) {
        m->response = w->answer;
        m->fault = NULL;
    }
    bool task = m->response && !m->fault &&
                (w->what == ACTIVITY ? took_activity(w, m) : took_workflow(w, m));
    bool refused = m->fault && !asks_again;
    w->busy = false;
    tn_arena_destroy(m->arena);
    tn_arena_destroy(w->answer_arena);
    w->answer_arena = NULL;
    w->answer = NULL;
    if (!task) {
        if (!sim_draining || !refused)
            sim_at(&w->event, 10 * TN_MS + sim_below(200 * TN_MS), poll_now);
        return;
    }
    bool late = !good();
    sim_at(&w->event, late ? sim_below(30 * TN_SEC) : sim_below(50 * TN_MS), work);
}

/* A frontend's part of it (core/client/direct.c, remote.c): the poll ends with this, or it comes too late. */
typedef struct settling {
    tn_msg msg;
    sim_event event;
    tn_list link; /* slow, while it is on its way */
    tn_poll_ref to;
    tn_arena *arena;
    uint32_t type;
    ProtobufCMessage *answer;
} settling;

static tn_list slow = {&slow, &slow};

static void cancelled(tn_mreq *m) { tn_arena_destroy(m->arena); }

static void leave_queue(const worker *w)
{
    tn_arena *arena = tn_arena_create(0);
    tn_mreq *m = TN_NEW(arena, tn_mreq);
    m->arena = arena;
    m->home = tn_loop_current();
    m->op = TN_MOP_CANCEL_POLL;
    m->ns = &sim_ns;
    m->queue = tn_str_from(w->partition);
    m->type = w->what == ACTIVITY ? TN_TASK_ACTIVITY : TN_TASK_WORKFLOW;
    m->poll_id = w->to.poll_id;
    m->done = cancelled;
    tn_client_matching(m);
}

static void settle(tn_msg *msg)
{
    settling *s = TN_CONTAINER_OF(msg, settling, msg);
    worker *w = NULL;
    for (size_t i = 0; i < n_workers && !w; i++)
        if (workers[i].to.turn && workers[i].to.poll_id == s->to.poll_id &&
            workers[i].to.turn == s->to.turn)
            w = &workers[i];
    sim_trace("direct answer of poll %llu: %s", (unsigned long long)s->to.poll_id,
              !w          ? "too late"
              : s->answer ? "task"
                          : "again");
    if (w) {
        leave_queue(w);
        w->settled = true;
        w->to.turn = 0;
    }
    if (w && s->answer) {
        w->answer = s->answer;
        w->answer_arena = s->arena;
        return;
    }
    if (s->answer)
        tn_client_give_back(s->answer, s->type, tn_loop_current());
    tn_arena_destroy(s->arena);
}

static void settle_later(sim_event *event)
{
    settling *s = TN_CONTAINER_OF(event, settling, event);
    tn_list_remove(&s->link);
    tn_loop_post(tn_loops_get(s->to.loop), &s->msg);
}

/* Of a slow one, what was only in memory may have been taken back when it arrives: it is looked at when it is made. */
static void look_at(tn_arena *arena, const ProtobufCMessage *answer)
{
    const Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *r =
        (const void *)sim_reply(arena, answer);
    tn_blob body;
    if (r->history && tn_proto_pack(&r->history->base, arena, &body) == TN_OK)
        sim_run_saw(sim_run_get(r->workflow_execution->workflow_id, r->workflow_execution->run_id),
                    body, false);
}

/* The net's: such an answer may be lost, or slow. */
void sim_answer_poll(const tn_poll_ref *to, tn_arena *arena, uint32_t type,
                     ProtobufCMessage *answer)
{
    tn_arena_set_limit(arena, 0);
    settling *s = TN_NEW(arena, settling);
    *s = (settling){.msg.run = settle, .to = *to, .arena = arena, .type = type, .answer = answer};
    uint64_t dice = good() ? 0 : sim_below(3);
    if (answer && type == TN_TASK_WORKFLOW)
        look_at(arena, answer);
    if (dice == 0)
        tn_loop_post(tn_loops_get(to->loop), &s->msg);
    else if (dice == 1) {
        tn_list_push_back(&slow, &s->link);
        sim_at(&s->event, sim_below(6 * TN_SEC), settle_later);
    } else
        tn_arena_destroy(arena);
}

/* Half the polls may be answered by history itself, as between hosts. */
static void may_be_answered(worker *w, tn_mreq *m)
{
    static uint64_t turns;
    tn_blob packed;
    if (sim_below(2))
        return;
    w->to = (tn_poll_ref){
        .loop = tn_loop_index(tn_loop_current()), .poll_id = m->poll_id, .turn = ++turns};
    TN_ASSERT(tn_proto_pack(m->request, m->arena, &packed) == TN_OK);
    m->packed = (tn_packed){m->request, packed};
    m->answer_to = &w->to;
    m->final = true;
}

static void send_poll(void *arg)
{
    worker *w = arg;
    tn_arena *arena = tn_arena_create(0);
    tn_mreq *m = TN_NEW(arena, tn_mreq);
    const char *name = w->what == STICKY ? w->sticky : w->what == ACTIVITY ? "qa" : "q";
    m->arena = arena;
    m->home = tn_loop_current();
    m->op = TN_MOP_POLL;
    m->ns = &sim_ns;
    m->queue = tn_str_from(name);
    m->type = w->what == ACTIVITY ? TN_TASK_ACTIVITY : TN_TASK_WORKFLOW;
    m->sticky = w->what == STICKY;
    m->normal_queue = m->sticky ? TN_STR("q") : TN_STR("");
    if (w->what == ACTIVITY) {
        Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest *r =
            MAKE(arena, workflowservice__v1__poll_activity_task_queue_request);
        r->task_queue = queue_of(arena, name, false);
        r->identity = tn_arena_printf(arena, "worker-%d", w->index);
        m->request = &r->base;
    } else {
        Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest *r =
            MAKE(arena, workflowservice__v1__poll_workflow_task_queue_request);
        r->task_queue = queue_of(arena, name, m->sticky);
        r->identity = tn_arena_printf(arena, "worker-%d", w->index);
        m->request = &r->base;
    }
    m->deadline_mono_ns = sim_now_ns + 20 * TN_SEC;
    m->poll_id = tn_client_next_poll_id();
    m->done = polled;
    m->user = w;
    w->busy = true;
    may_be_answered(w, m);
    tn_client_matching(m);
    snprintf(w->partition, sizeof(w->partition), TN_STR_FMT, TN_STR_ARG(m->queue));
}

static void poll_now(sim_event *event)
{
    worker *w = TN_CONTAINER_OF(event, worker, event);
    w->has_task = false;
    if (sim_closing)
        return;
    tn_loop_call(tn_loops_get((uint32_t)w->index % mix.loops), send_poll, w);
}

/* ---- answering it ---- */

static void note_done(worker *w)
{
    sim_ack *ack = sim_ack_add();
    ack->kind = w->what == ACTIVITY ? ACK_ACT : ACK_WFT;
    memcpy(ack->wid, w->run->wid, sizeof(ack->wid));
    memcpy(ack->run_id, w->run->run_id, sizeof(ack->run_id));
    ack->started = w->started;
    ack->scheduled = w->scheduled;
    memcpy(ack->name, w->activity, sizeof(ack->name));
    if (++w->oks > 1)
        sim_violation("R8", "%s/%s: two answers to one task (%s %lld) were taken", w->run->wid,
                      w->run->run_id, w->what == ACTIVITY ? w->activity : "started",
                      (long long)w->started);
}

static void answered(tn_hreq *h)
{
    worker *w = h->user;
    bool unknown = h->fault && h->fault->code == TN_GRPC_UNAVAILABLE;
    sim_trace("worker %d: answer %d gets %d %.*s", w->index, h->op,
              h->fault ? (int)h->fault->code : 0, h->fault ? (int)h->fault->message.n : 0,
              h->fault ? h->fault->message.p : "");
    if (h->fault && (h->fault->code == TN_GRPC_INTERNAL || h->fault->code == TN_GRPC_DATA_LOSS))
        sim_violation("R1", "%s: an answer (%d) gets %d %.*s", w->run->wid, h->op, h->fault->code,
                      (int)h->fault->message.n, h->fault->message.p);
    if (!h->fault && (h->op == TN_HOP_WFT_COMPLETED || h->op == TN_HOP_ACT_COMPLETED))
        note_done(w);
    bool heartbeat = h->op == TN_HOP_ACT_HEARTBEAT && !h->fault;
    w->busy = false;
    tn_arena_destroy(h->arena);
    bool more = (unknown && w->tries++ < 5) || heartbeat || w->again;
    if (!unknown && !heartbeat)
        w->again = false;
    sim_at(&w->event, sim_below(200 * TN_MS), more ? work : poll_now);
}

static void query_answered(tn_mreq *m)
{
    worker *w = m->user;
    w->busy = false;
    tn_arena_destroy(m->arena);
    sim_at(&w->event, sim_below(100 * TN_MS), poll_now);
}

static void answer_query(worker *w)
{
    tn_arena *arena = tn_arena_create(0);
    tn_mreq *m = TN_NEW(arena, tn_mreq);
    Temporal__Api__Workflowservice__V1__RespondQueryTaskCompletedRequest *r =
        MAKE(arena, workflowservice__v1__respond_query_task_completed_request);
    r->completed_type = 1;
    m->arena = arena;
    m->home = tn_loop_current();
    m->op = TN_MOP_QUERY_DONE;
    m->ns = &sim_ns;
    m->queue = tn_str_from(tn_arena_strdup(arena, w->queue));
    m->type = TN_TASK_WORKFLOW;
    m->query.id = w->query_id;
    m->request = &r->base;
    m->deadline_mono_ns = UINT64_MAX;
    m->done = query_answered;
    m->user = w;
    w->busy = true;
    tn_client_matching(m);
}

static void workflow_answer(worker *w, tn_hreq *h)
{
    tn_arena *arena = h->arena;
    if (!good() && sim_below(3) == 0) {
        Temporal__Api__Workflowservice__V1__RespondWorkflowTaskFailedRequest *r =
            MAKE(arena, workflowservice__v1__respond_workflow_task_failed_request);
        r->task_token = (ProtobufCBinaryData){w->token_n, w->token};
        r->cause = 23; /* non-deterministic */
        h->op = TN_HOP_WFT_FAILED;
        h->request = &r->base;
        return;
    }
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r =
        MAKE(arena, workflowservice__v1__respond_workflow_task_completed_request);
    r->task_token = (ProtobufCBinaryData){w->token_n, w->token};
    if (mix.sticky && sim_below(2)) {
        r->sticky_attributes = MAKE(arena, taskqueue__v1__sticky_execution_attributes);
        r->sticky_attributes->worker_task_queue =
            queue_of(arena, tn_arena_printf(arena, "sticky-%d", (int)sim_below(2)), true);
        r->sticky_attributes->schedule_to_start_timeout = sim_ms(arena, 5000);
    }
    sim_build_commands(arena, w->run, w->started, r);
    h->op = TN_HOP_WFT_COMPLETED;
    h->request = &r->base;
}

static void activity_answer(worker *w, tn_hreq *h)
{
    tn_arena *arena = h->arena;
    ProtobufCBinaryData token = {w->token_n, w->token};
    uint64_t dice = good() ? 0 : sim_below(4);
    if (dice == 1) {
        Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *r =
            MAKE(arena, workflowservice__v1__respond_activity_task_failed_request);
        r->task_token = token;
        r->failure = MAKE(arena, failure__v1__failure);
        r->failure->message = tn_arena_strdup(arena, "simulated");
        h->op = TN_HOP_ACT_FAILED;
        h->request = &r->base;
    } else if (dice == 2) {
        Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *r =
            MAKE(arena, workflowservice__v1__record_activity_task_heartbeat_request);
        r->task_token = token;
        h->op = TN_HOP_ACT_HEARTBEAT;
        h->request = &r->base;
    } else {
        Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *r =
            MAKE(arena, workflowservice__v1__respond_activity_task_completed_request);
        r->task_token = token;
        h->op = TN_HOP_ACT_COMPLETED;
        h->request = &r->base;
    }
}

static void send_answer(void *arg)
{
    worker *w = arg;
    if (w->direct_query) {
        answer_query(w);
        return;
    }
    tn_arena *arena = tn_arena_create(0);
    tn_hreq *h = TN_NEW(arena, tn_hreq);
    tn_task_token *token = TN_NEW(arena, tn_task_token);
    token->msg = (Tenon__TaskToken *)(void *)tn_token_open(
        arena, tn_blob_from(w->token, w->token_n), &tenon__task_token__descriptor);
    h->arena = arena;
    h->home = tn_loop_current();
    h->ns = &sim_ns;
    h->token = token;
    h->workflow_id = tn_str_from(token->msg->workflow_id);
    h->run_id = tn_str_from(token->msg->run_id);
    h->deadline_mono_ns = sim_now_ns + 15 * TN_SEC;
    h->done = answered;
    h->user = w;
    if (w->what == ACTIVITY)
        activity_answer(w, h);
    else
        workflow_answer(w, h);
    w->busy = true;
    tn_client_history(h);
}

static void work(sim_event *event)
{
    worker *w = TN_CONTAINER_OF(event, worker, event);
    if (!good() && sim_below(3) == 0) { /* never answers */
        sim_at(&w->event, sim_below(TN_SEC), poll_now);
        return;
    }
    tn_loop_call(tn_loops_get((uint32_t)w->index % mix.loops), send_answer, w);
}

/* ---- life ---- */

void sim_workers_start(void)
{
    n_workers = mix.workers * 2 + 2;
    for (size_t i = 0; i < n_workers; i++) {
        worker *w = &workers[i];
        w->index = (int)i;
        w->what = i < 2 ? STICKY : i % 2 ? WORKFLOW : ACTIVITY;
        snprintf(w->sticky, sizeof(w->sticky), "sticky-%d", (int)i);
        sim_at(&w->event, sim_below(TN_SEC), poll_now);
    }
}

void sim_workers_crash(void)
{
    for (size_t i = 0; i < n_workers; i++)
        if (!workers[i].busy)
            sim_cancel(&workers[i].event);
    TN_LIST_FOREACH_SAFE (link, &slow) {
        sim_cancel(&TN_CONTAINER_OF(link, settling, link)->event);
        tn_list_remove(link);
    }
}

void sim_workers_resume(void)
{
    for (size_t i = 0; i < n_workers; i++) {
        worker *w = &workers[i];
        w->busy = false;
        w->to.turn = 0;
        w->settled = false;
        w->answer = NULL;
        w->answer_arena = NULL;
        sim_at(&w->event, sim_below(500 * TN_MS), w->has_task ? work : poll_now);
    }
}

size_t sim_workers_open(void)
{
    size_t n = 0;
    for (size_t i = 0; i < n_workers; i++)
        n += workers[i].busy;
    return n;
}
