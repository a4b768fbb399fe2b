/* SPDX-License-Identifier: MIT */
/* Clients: each does one thing after another, of some workflow id, and asks again when it was told nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"
#include "sim.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

#define CLIENTS_MAX 8u
#define QUEUE "q"

typedef enum deed {
    START,
    SIGNAL,
    SIGNAL_START,
    CANCEL,
    TERMINATE,
    DESCRIBE,
    READ,
    LONG_READ,
    QUERY,
    RESET
} deed;

typedef struct client {
    sim_event event;
    int index;
    deed what;
    char wid[24], request_id[48];
    int number, tries;
    bool busy;
    uint64_t seed; /* the same request again has the same contents */
    tn_hreq *req;
} client;
static client clients[CLIENTS_MAX];
bool sim_draining;

static char *text(tn_arena *arena, const char *s) { return tn_arena_strdup(arena, s); }

static Temporal__Api__Common__V1__WorkflowExecution *execution(tn_arena *arena, const char *wid)
{
    Temporal__Api__Common__V1__WorkflowExecution *e = MAKE(arena, common__v1__workflow_execution);
    e->workflow_id = text(arena, wid);
    return e;
}

static const ProtobufCMessage *start_request(client *c, tn_arena *arena)
{
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r =
        MAKE(arena, workflowservice__v1__start_workflow_execution_request);
    r->namespace_ = text(arena, "sim");
    r->workflow_id = text(arena, c->wid);
    r->workflow_type = MAKE(arena, common__v1__workflow_type);
    r->workflow_type->name = text(arena, "type");
    r->task_queue = MAKE(arena, taskqueue__v1__task_queue);
    r->task_queue->name = text(arena, QUEUE);
    r->workflow_task_timeout = sim_ms(arena, 10000);
    if (c->seed % 8 == 0)
        r->workflow_run_timeout = sim_ms(arena, 5000 + c->seed % 60000);
    if (c->seed % 16 == 1)
        r->workflow_start_delay = sim_ms(arena, c->seed % 20000);
    if (c->seed % 8 == 2) {
        r->retry_policy = MAKE(arena, common__v1__retry_policy);
        r->retry_policy->initial_interval = sim_ms(arena, 500);
        r->retry_policy->backoff_coefficient = 2;
        r->retry_policy->maximum_attempts = 3;
    }
    if (c->seed % 16 == 3) { /* for ever, but for its time-out */
        r->cron_schedule = text(arena, "@every 7s");
        r->workflow_execution_timeout = sim_ms(arena, 10000 + c->seed % 40000);
    }
    r->request_id = text(arena, c->request_id);
    r->identity = text(arena, "client");
    r->workflow_id_reuse_policy = 1 + (c->seed >> 8) % 3;
    r->workflow_id_conflict_policy = 1 + (c->seed >> 16) % 3;
    if (r->workflow_id_reuse_policy == 3)
        r->workflow_id_conflict_policy = 1;
    return &r->base;
}

static const ProtobufCMessage *signal_start_request(client *c, tn_arena *arena)
{
    Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest *r =
        MAKE(arena, workflowservice__v1__signal_with_start_workflow_execution_request);
    r->namespace_ = text(arena, "sim");
    r->workflow_id = text(arena, c->wid);
    r->workflow_type = MAKE(arena, common__v1__workflow_type);
    r->workflow_type->name = text(arena, "type");
    r->task_queue = MAKE(arena, taskqueue__v1__task_queue);
    r->task_queue->name = text(arena, QUEUE);
    r->workflow_task_timeout = sim_ms(arena, 10000);
    r->request_id = text(arena, c->request_id);
    r->identity = text(arena, "client");
    r->signal_name = text(arena, "s");
    r->workflow_id_reuse_policy = 1;
    r->workflow_id_conflict_policy = 2;
    return &r->base;
}

static const ProtobufCMessage *external_request(client *c, tn_arena *arena)
{
    if (c->what == SIGNAL) {
        Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *r =
            MAKE(arena, workflowservice__v1__signal_workflow_execution_request);
        r->workflow_execution = execution(arena, c->wid);
        r->signal_name = text(arena, "s");
        r->request_id = text(arena, c->request_id);
        return &r->base;
    }
    if (c->what == CANCEL) {
        Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *r =
            MAKE(arena, workflowservice__v1__request_cancel_workflow_execution_request);
        r->workflow_execution = execution(arena, c->wid);
        r->request_id = text(arena, c->request_id);
        return &r->base;
    }
    Temporal__Api__Workflowservice__V1__TerminateWorkflowExecutionRequest *r =
        MAKE(arena, workflowservice__v1__terminate_workflow_execution_request);
    r->workflow_execution = execution(arena, c->wid);
    r->reason = text(arena, "client");
    return &r->base;
}

/* To where it may go, or not: the machine says. */
static const ProtobufCMessage *reset_request(client *c, tn_arena *arena)
{
    Temporal__Api__Workflowservice__V1__ResetWorkflowExecutionRequest *r =
        MAKE(arena, workflowservice__v1__reset_workflow_execution_request);
    r->workflow_execution = execution(arena, c->wid);
    r->workflow_task_finish_event_id = 3 + (int64_t)(c->seed % 4 ? c->seed % 24 : 0);
    r->request_id = text(arena, c->request_id);
    r->reason = text(arena, "again");
    return &r->base;
}

static const ProtobufCMessage *read_request(client *c, tn_arena *arena)
{
    if (c->what == DESCRIBE) {
        Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionRequest *r =
            MAKE(arena, workflowservice__v1__describe_workflow_execution_request);
        r->execution = execution(arena, c->wid);
        return &r->base;
    }
    if (c->what == QUERY) {
        Temporal__Api__Workflowservice__V1__QueryWorkflowRequest *r =
            MAKE(arena, workflowservice__v1__query_workflow_request);
        r->execution = execution(arena, c->wid);
        r->query = MAKE(arena, query__v1__workflow_query);
        r->query->query_type = text(arena, "state");
        return &r->base;
    }
    Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryRequest *r =
        MAKE(arena, workflowservice__v1__get_workflow_execution_history_request);
    r->execution = execution(arena, c->wid);
    r->maximum_page_size = 1000;
    r->wait_new_event = c->what == LONG_READ;
    if (c->what == READ) { /* of a known run: then its answer says whose history it is */
        size_t n = 0, pick = sim_below(sim_n_runs + 1);
        for (size_t i = 0; i < sim_n_runs; i++, n++)
            if (i == pick)
                snprintf(c->wid, sizeof(c->wid), "%s", sim_runs[i]->wid);
        r->execution = execution(arena, c->wid);
        if (pick < n)
            r->execution->run_id = text(arena, sim_runs[pick]->run_id);
    }
    return &r->base;
}

static void act(sim_event *event);

static void remember(client *c, tn_hreq *req)
{
    const ProtobufCMessage *reply = req->response ? sim_reply(req->arena, req->response) : NULL;
    if (c->what == START && reply) {
        const Temporal__Api__Workflowservice__V1__StartWorkflowExecutionResponse *r =
            (const void *)reply;
        sim_run_get(c->wid, r->run_id)->acked = true;
    } else if (c->what == SIGNAL_START && reply) {
        const Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionResponse *r =
            (const void *)reply;
        sim_run_get(c->wid, r->run_id)->acked = true;
    } else if (c->what == RESET && reply) {
        const Temporal__Api__Workflowservice__V1__ResetWorkflowExecutionResponse *r =
            (const void *)reply;
        sim_run_get(c->wid, r->run_id)->acked = true;
    } else if (c->what == READ && reply) {
        const Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryRequest *q =
            (const void *)req->request;
        Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryResponse *r =
            (Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryResponse *)(uintptr_t)
                reply;
        tn_blob body;
        if (q->execution->run_id[0] && r->history &&
            tn_proto_pack(&r->history->base, req->arena, &body) == TN_OK)
            sim_run_saw(sim_run_get(c->wid, q->execution->run_id), body, false);
    }
    if (c->what == SIGNAL || c->what == SIGNAL_START) {
        sim_ack *ack = sim_ack_add();
        ack->kind = ACK_SIGNAL;
        ack->client = c->index;
        ack->number = c->number;
        memcpy(ack->name, c->request_id, sizeof(ack->name));
        memcpy(ack->wid, c->wid, sizeof(ack->wid));
    }
}

static bool unknown(const tn_fault *fault)
{
    return fault && (fault->code == TN_GRPC_UNAVAILABLE ||
                     fault->code == TN_GRPC_DEADLINE_EXCEEDED || fault->code == TN_GRPC_UNKNOWN);
}

static void answered(tn_hreq *req)
{
    client *c = req->user;
    sim_trace("client %d: %d of %s answered %d %.*s", c->index, c->what, c->wid,
              req->fault ? (int)req->fault->code : 0, req->fault ? (int)req->fault->message.n : 0,
              req->fault ? req->fault->message.p : "");
    bool again = unknown(req->fault) && c->tries < 6;
    if (req->fault &&
        (req->fault->code == TN_GRPC_INTERNAL || req->fault->code == TN_GRPC_DATA_LOSS))
        sim_violation("R1", "%s: deed %d answered %d %.*s", c->wid, c->what, req->fault->code,
                      TN_STR_ARG(req->fault->message));
    if (!req->fault)
        remember(c, req);
    c->busy = false;
    c->req = NULL;
    if (!again)
        c->tries = 0;
    tn_arena_destroy(req->arena);
    sim_at(&c->event, again ? 10 * TN_MS + sim_below(TN_SEC) : sim_below(800 * TN_MS), act);
}

static const tn_hop hops[] = {TN_HOP_START,          TN_HOP_SIGNAL,      TN_HOP_SIGNAL_WITH_START,
                              TN_HOP_REQUEST_CANCEL, TN_HOP_TERMINATE,   TN_HOP_DESCRIBE,
                              TN_HOP_GET_HISTORY,    TN_HOP_GET_HISTORY, TN_HOP_QUERY,
                              TN_HOP_RESET};

static void send_it(void *arg)
{
    client *c = arg;
    tn_arena *arena = tn_arena_create(0);
    tn_hreq *req = TN_NEW(arena, tn_hreq);
    req->arena = arena;
    req->home = tn_loop_current();
    req->op = hops[c->what];
    req->ns = &sim_ns;
    req->request = c->what == START          ? start_request(c, arena)
                   : c->what == SIGNAL_START ? signal_start_request(c, arena)
                   : c->what <= TERMINATE    ? external_request(c, arena)
                   : c->what == RESET        ? reset_request(c, arena)
                                             : read_request(c, arena);
    req->workflow_id = tn_str_from(text(arena, c->wid));
    if (c->what == READ)
        req->run_id = tn_str_from(
            ((const Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryRequest *)
                 req->request)
                ->execution->run_id);
    req->deadline_mono_ns = sim_now_ns + 15 * TN_SEC;
    req->done = answered;
    req->user = c;
    c->req = req;
    c->busy = true;
    tn_client_history(req);
}

static void choose(client *c)
{
    static const uint8_t weights[] = {25, 25, 12, 5, 3, 8, 15, 4, 5, 6};
    uint64_t at = sim_below(108);
    size_t what = 0;
    while (what + 1 < sizeof(weights) && at >= weights[what])
        at -= weights[what++];
    c->what = (deed)what;
    if (c->what == QUERY && !mix.queries)
        c->what = DESCRIBE;
    snprintf(c->wid, sizeof(c->wid), "wf-%d", (int)sim_below(mix.ids));
    c->number++;
    snprintf(c->request_id, sizeof(c->request_id), "c%d-%06d", c->index, c->number);
    c->seed = sim_below(UINT64_MAX);
}

static void act(sim_event *event)
{
    client *c = TN_CONTAINER_OF(event, client, event);
    if (sim_draining)
        return;
    if (!c->tries++)
        choose(c);
    tn_loop_call(tn_loops_get((uint32_t)sim_below(mix.loops)), send_it, c);
}

void sim_world_start(void)
{
    for (uint32_t i = 0; i < mix.clients; i++) {
        clients[i].index = (int)i;
        sim_at(&clients[i].event, sim_below(TN_SEC), act);
    }
}

void sim_world_crash(void)
{
    for (uint32_t i = 0; i < mix.clients; i++)
        if (!clients[i].busy)
            sim_cancel(&clients[i].event);
}

void sim_world_resume(void)
{
    for (uint32_t i = 0; i < mix.clients; i++) {
        if (clients[i].busy && clients[i].tries >= 6)
            clients[i].tries = 0;
        clients[i].busy = false;
        sim_at(&clients[i].event, sim_below(TN_SEC), act);
    }
}

size_t sim_calls_open(void)
{
    size_t n = 0;
    for (uint32_t i = 0; i < mix.clients; i++)
        n += clients[i].busy;
    return n;
}
