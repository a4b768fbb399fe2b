/* SPDX-License-Identifier: MIT */
/* The answer to a workflow task poll: the task's facts, the history that the worker lacks, queries. */
#include "history/priv.h"

#include <stdlib.h>

#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse poll_response;

#define FIRST_PAGE_EVENTS 1000u
#define FIRST_PAGE_BYTES (2u << 20)

static char *keep(tn_arena *arena, const char *s) { return tn_arena_strdup(arena, s ? s : ""); }

static Temporal__Api__Common__V1__WorkflowExecution *execution_of(const tn_ms *ms, tn_arena *arena)
{
    Temporal__Api__Common__V1__WorkflowExecution *execution =
        tn_arena_alloc(arena, sizeof(*execution));
    temporal__api__common__v1__workflow_execution__init(execution);
    execution->workflow_id = keep(arena, ms->workflow_id);
    execution->run_id = keep(arena, ms->run_id_text);
    return execution;
}

poll_response *tn_wft_base_response(const tn_ms *ms, tn_arena *arena)
{
    poll_response *out = tn_arena_alloc(arena, sizeof(*out));
    temporal__api__workflowservice__v1__poll_workflow_task_queue_response__init(out);
    out->workflow_execution = execution_of(ms, arena);
    out->workflow_type = tn_arena_alloc(arena, sizeof(*out->workflow_type));
    temporal__api__common__v1__workflow_type__init(out->workflow_type);
    out->workflow_type->name = keep(arena, ms->type);
    out->workflow_execution_task_queue =
        tn_arena_alloc(arena, sizeof(*out->workflow_execution_task_queue));
    temporal__api__taskqueue__v1__task_queue__init(out->workflow_execution_task_queue);
    out->workflow_execution_task_queue->name = keep(arena, ms->task_queue);
    out->workflow_execution_task_queue->kind =
        TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_NORMAL;
    out->previous_started_event_id = ms->last_completed_started_id;
    return out;
}

poll_response *tn_wft_response(tn_run *run, tn_arena *arena, tn_str ns_name)
{
    (void)ns_name;
    tn_ms *ms = run->ms;
    poll_response *out = tn_wft_base_response(ms, arena);
    Tenon__TaskToken token = TENON__TASK_TOKEN__INIT;
    token.kind = 1;
    token.ns_id = ms->ns_id;
    token.workflow_id = ms->workflow_id;
    token.run_id = ms->run_id_text;
    token.scheduled_id = ms->wft.scheduled_id;
    token.started_id = ms->wft.started_id;
    token.attempt = ms->wft.attempt;
    token.started_ns = ms->wft.started_ns;
    token.nonce = ms->wft.nonce;
    token.identity = ms->wft.identity ? ms->wft.identity : (char *)"";
    tn_blob sealed = tn_token_seal(arena, &token.base);
    out->task_token = (ProtobufCBinaryData){sealed.n, (uint8_t *)(uintptr_t)sealed.p};
    out->started_event_id = ms->wft.started_id;
    out->attempt = ms->wft.attempt;
    out->scheduled_time = tn_ts_from_ns(arena, (int64_t)ms->wft.scheduled_ns);
    out->started_time = tn_ts_from_ns(arena, (int64_t)ms->wft.started_ns);
    return out;
}

/* ---- its history ---- */

typedef struct filling {
    tn_hreq *req;
    poll_response *out;
    tn_blob transient;
    Tenon__HistoryPageToken token;
    tn_read read;
    void (*done)(tn_hreq *req, const tn_fault *fault, void *user);
    void *user;
} filling;

static void filled(tn_read *read)
{
    filling *f = read->user;
    tn_hreq *req = f->req;
    const tn_fault *fault = NULL;
    if (read->status != TN_OK) {
        fault = tn_fault_from_status(req->arena, read->status, &read->error);
    } else {
        bool last_page = read->last_read >= read->to || !read->n_events;
        size_t extra = last_page ? f->transient.n : 0;
        uint8_t *bytes = tn_arena_alloc(req->arena, read->body.n + extra + 1);
        if (read->body.n)
            memcpy(bytes, read->body.p, read->body.n);
        if (extra)
            memcpy(bytes + read->body.n, f->transient.p, extra);
        bool attached = tn_proto_attach(&f->out->base, req->arena, 8,
                                        tn_blob_from(bytes, read->body.n + extra));
        TN_ASSERT(attached);
        if (!last_page) {
            f->token.last_event_id = read->last_read + 1;
            tn_blob sealed = tn_token_seal(req->arena, &f->token.base);
            f->out->next_page_token =
                (ProtobufCBinaryData){sealed.n, (uint8_t *)(uintptr_t)sealed.p};
        }
    }
    tn_buf_done(&read->body);
    f->done(req, fault, f->user);
}

void tn_wft_history(tn_run *run, tn_hreq *req, bool sticky, poll_response *out,
                    void (*done)(tn_hreq *req, const tn_fault *fault, void *user), void *user)
{
    tn_ms *ms = run->ms;
    filling *f = TN_NEW(req->arena, filling);
    f->req = req;
    f->out = out;
    f->done = done;
    f->user = user;
    f->transient = tn_machine_wft_transient_events(ms, req->arena, true);
    tenon__history_page_token__init(&f->token);
    f->token.ns_id = keep(req->arena, ms->ns_id);
    f->token.workflow_id = keep(req->arena, ms->workflow_id);
    f->token.run_id = keep(req->arena, ms->run_id_text);
    f->token.first_event_id = 1;
    f->token.next_event_id = ms->next_event_id;
    f->token.running = tn_ms_running(ms);
    int64_t from = sticky ? ms->last_completed_started_id + 1 : 1;
    f->read = (tn_read){.arena = req->arena,
                        .req = req,
                        .from = from,
                        .to = ms->next_event_id - 1,
                        .events_max = FIRST_PAGE_EVENTS,
                        .bytes_max = FIRST_PAGE_BYTES,
                        .done = filled,
                        .user = f};
    tn_read_events(&f->read, run);
}

/* The answer of a poll, until its history is there. */
typedef struct answer {
    poll_response *out;
    uint64_t nonce; /* of the task's start; 0: a query, nothing was started */
} answer;

/* The history could not be read: the task has not been handed out after all. */
static void take_back(const tn_hreq *req, uint64_t nonce)
{
    uint8_t run_id[16];
    tn_shard *shard = tn_shard_here(req->ns->id, req->workflow_id);
    if (!shard || !tn_uuid_parse(req->run_id, run_id))
        return;
    tn_wf *wf = tn_wf_get(shard, req->ns->id, req->workflow_id);
    tn_iop *iop = tn_iop_create(wf, run_id, TN_IOP_UNDELIVERED);
    iop->nonce = nonce;
    tn_iop_send(iop);
    tn_wf_maybe_drop(wf);
}

static void reply(tn_hreq *req, const tn_fault *fault, void *user)
{
    answer *a = user;
    if (fault && a->nonce)
        take_back(req, a->nonce);
    req->response = &a->out->base;
    tn_req_finish(req, fault);
}

void tn_reply_wft_poll(tn_run *run, tn_hreq *req, bool sticky, poll_response *out)
{
    answer *a = TN_NEW(req->arena, answer);
    a->out = out;
    a->nonce = out->started_event_id ? run->ms->wft.nonce : 0;
    tn_wft_history(run, req, sticky, out, reply, a);
}
