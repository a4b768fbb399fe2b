/* SPDX-License-Identifier: MIT */
/* Reading a run: its history in pages (with the long poll for what comes next), newest first, and its description. */
#include "history/nexus.h"

#include <stdlib.h>

#include "config/dynconfig.h"
#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryRequest history_request;
typedef Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryResponse history_response;
typedef Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryReverseRequest
    reverse_request;
typedef Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryReverseResponse
    reverse_response;

#define PAGE_BYTES_MAX (2u << 20)
#define FILTER_CLOSE_EVENT 2
#define LONG_POLL_MARGIN_NS (1 * TN_SEC) /* answer before the caller's own deadline */

/* A read in progress, or parked: in the request's arena, so it needs no freeing. */
typedef struct reading {
    tn_parked parked;
    Tenon__HistoryPageToken *token;
    bool long_poll, reverse;
    tn_blob transient; /* appended after the last page */
    tn_read read;
} reading;

static void set_token(reading *rd, ProtobufCBinaryData *out)
{
    tn_blob sealed = tn_token_seal(rd->parked.req->arena, &rd->token->base);
    *out = (ProtobufCBinaryData){sealed.n, (uint8_t *)(uintptr_t)sealed.p};
}

static void answer(reading *rd, tn_blob body, bool with_token)
{
    tn_hreq *req = rd->parked.req;
    tn_arena_set_limit(req->arena, 0);
    Temporal__Api__History__V1__History *history = tn_arena_alloc(req->arena, sizeof(*history));
    temporal__api__history__v1__history__init(history);
    uint8_t *bytes = tn_arena_alloc(req->arena, body.n + rd->transient.n + 1);
    if (body.n)
        memcpy(bytes, body.p, body.n);
    size_t n = body.n;
    if (rd->transient.n) {
        memcpy(bytes + n, rd->transient.p, rd->transient.n);
        n += rd->transient.n;
    }
    ProtobufCMessage *message;
    if (rd->reverse) {
        reverse_response *out = tn_arena_alloc(req->arena, sizeof(*out));
        temporal__api__workflowservice__v1__get_workflow_execution_history_reverse_response__init(
            out);
        if (with_token)
            set_token(rd, &out->next_page_token);
        message = &out->base;
    } else {
        history_response *out = tn_arena_alloc(req->arena, sizeof(*out));
        temporal__api__workflowservice__v1__get_workflow_execution_history_response__init(out);
        if (with_token)
            set_token(rd, &out->next_page_token);
        message = &out->base;
    }
    bool attached = tn_proto_attach(message, req->arena, 1, tn_blob_from(bytes, n));
    TN_ASSERT(attached);
    req->response = message;
    tn_req_finish(req, NULL);
}

/* ---- pages ---- */

static void page_read(tn_read *read)
{
    reading *rd = read->user;
    tn_hreq *req = rd->parked.req;
    tn_wf *wf = rd->parked.wf;
    Tenon__HistoryPageToken *token = rd->token;
    tn_buf body = read->body; /* an answered request may be gone at once, and this read with it */
    if (read->status != TN_OK) {
        tn_req_finish(req, tn_fault_from_status(req->arena, read->status, &read->error));
    } else if (rd->reverse) {
        token->next_event_id = read->last_read - 1;
        rd->transient = (tn_blob){NULL, 0};
        answer(rd, tn_buf_blob(&body), read->n_events && token->next_event_id >= 1);
    } else {
        bool last_page = read->last_read >= token->next_event_id - 1 || !read->n_events;
        token->last_event_id = last_page ? 0 : read->last_read + 1;
        if (!last_page || rd->parked.close_only)
            rd->transient = (tn_blob){NULL, 0};
        bool more = !last_page || (token->running && rd->long_poll);
        tn_blob events = tn_buf_blob(&body);
        answer(rd, rd->parked.close_only ? tn_close_event_for_client(req, events) : events,
               more && !rd->parked.close_only);
    }
    tn_buf_done(&body);
    tn_wf_resume(wf, NULL);
}

static size_t page_events(const tn_namespace *ns, int32_t page_size)
{
    int64_t max = tn_dyn_i64(TN_DYN_LIMIT_HISTORY_PAGE, ns->name, TN_STR(""));
    max = max > 0 ? max : 1;
    return page_size > 0 && page_size < max ? (size_t)page_size : (size_t)max;
}

static void read_page(reading *rd, tn_run *run, int64_t from, int64_t to, int32_t page_size)
{
    rd->parked.wf->busy = true; /* the run must not change under the read */
    rd->read = (tn_read){.arena = rd->parked.req->arena,
                         .req = rd->parked.req,
                         .from = from,
                         .to = to,
                         .events_max = page_events(rd->parked.req->ns, page_size),
                         .bytes_max = PAGE_BYTES_MAX,
                         .reverse = rd->reverse,
                         .done = page_read,
                         .user = rd};
    tn_arena_set_limit(rd->parked.req->arena, 0);
    tn_read_events(&rd->read, run);
}

static bool shows_transient(const tn_hreq *req)
{
    if (!req->call)
        return false;
    tn_str client = tn_call_header(req->call, "client-name");
    return !tn_str_is(client, "temporal-cli") && !tn_str_is(client, "temporal-ui");
}

static void read_now(reading *rd, tn_run *run)
{
    const history_request *request = (const history_request *)rd->parked.req->request;
    Tenon__HistoryPageToken *token = rd->token;
    tn_ms *ms = run->ms;
    if (shows_transient(rd->parked.req))
        rd->transient = tn_machine_wft_transient_events(ms, rd->parked.req->arena, false);
    if (token->last_event_id) { /* in the middle of pages: the range stays what it was */
        read_page(rd, run, token->last_event_id, token->next_event_id - 1,
                  request->maximum_page_size);
        return;
    }
    token->first_event_id = token->next_event_id;
    token->next_event_id = ms->next_event_id;
    token->running = tn_ms_running(ms);
    if (rd->parked.close_only) {
        if (token->running) {
            rd->transient = (tn_blob){NULL, 0};
            token->next_event_id = token->first_event_id;
            answer(rd, (tn_blob){NULL, 0}, rd->long_poll);
        } else {
            read_page(rd, run, ms->next_event_id - 1, ms->next_event_id - 1, 1);
        }
        return;
    }
    if (token->first_event_id >= token->next_event_id) {
        rd->transient = (tn_blob){NULL, 0};
        answer(rd, (tn_blob){NULL, 0}, token->running);
        return;
    }
    read_page(rd, run, token->first_event_id, token->next_event_id - 1, request->maximum_page_size);
}

/* ---- the long poll ---- */

void tn_history_unpark(tn_hreq *req)
{
    tn_parked *parked = req->progress;
    tn_loop_timer_stop(&parked->timer);
    tn_list_remove(&req->link);
    parked->waited = true;
}

static void waited_enough(tn_loop_timer *timer)
{
    tn_parked *parked = TN_CONTAINER_OF(timer, tn_parked, timer);
    tn_history_unpark(parked->req);
    parked->timed_out = true;
    tn_wf_enqueue(parked->wf, parked->req);
}

void tn_history_notify(tn_run *run)
{
    TN_LIST_FOREACH_SAFE (link, &run->parked) {
        tn_hreq *req = TN_CONTAINER_OF(link, tn_hreq, link);
        tn_parked *parked = req->progress;
        if (parked->close_only && tn_ms_running(run->ms))
            continue;
        tn_history_unpark(req);
        tn_list_push_back(&parked->wf->queue,
                          &req->link); /* whoever notifies has the workflow and goes on with it */
    }
}

static bool must_wait(const reading *rd, const tn_ms *ms)
{
    if (!rd->long_poll || rd->parked.waited || !tn_ms_running(ms) || rd->token->last_event_id)
        return false;
    return rd->parked.close_only || rd->token->next_event_id >= ms->next_event_id;
}

void tn_history_park_init(tn_parked *parked, tn_wf *wf, tn_hreq *req)
{
    parked->req = req;
    parked->wf = wf;
    tn_loop_timer_init(&parked->timer, waited_enough);
}

uint64_t tn_history_park_until(const tn_hreq *req)
{
    uint64_t now = tn_now_mono_ns(), deadline = req->deadline_mono_ns;
    uint64_t until =
        now + (uint64_t)tn_dyn_i64(TN_DYN_HISTORY_LONG_POLL, req->ns->name, TN_STR(""));
    if (deadline != UINT64_MAX && deadline < until + LONG_POLL_MARGIN_NS)
        until = deadline > now + LONG_POLL_MARGIN_NS ? deadline - LONG_POLL_MARGIN_NS : now;
    return until;
}

void tn_history_park(tn_parked *parked, tn_run *run, uint64_t until)
{
    tn_list_push_back(&run->parked, &parked->req->link);
    tn_loop_timer_start(&parked->timer, run->wf->shard->hl->draining ? tn_now_mono_ns() : until);
}

bool tn_history_waits_for(const tn_hreq *req, const uint8_t *host_id)
{
    return !host_id || (req->call && memcmp(req->call->from_host, host_id, 16) == 0);
}

void tn_history_end_waits(tn_run *run, const uint8_t *host_id)
{
    TN_LIST_FOREACH (link, &run->parked) {
        const tn_hreq *req = TN_CONTAINER_OF(link, tn_hreq, link);
        tn_parked *parked = req->progress;
        if (tn_history_waits_for(req, host_id))
            tn_loop_timer_start(&parked->timer, tn_now_mono_ns());
    }
}

/* ---- the operation ---- */

static Tenon__HistoryPageToken *open_token(tn_hreq *req, ProtobufCBinaryData token,
                                           const tn_fault **out_fault)
{
    Tenon__HistoryPageToken *opened = (Tenon__HistoryPageToken *)tn_token_open(
        req->arena, tn_blob_from(token.data, token.len), &tenon__history_page_token__descriptor);
    if (!opened || !tn_str_is(req->ns->id, opened->ns_id) ||
        !tn_str_is(req->workflow_id, opened->workflow_id)) {
        *out_fault = tn_fault_make(req->arena, TN_GRPC_INVALID_ARGUMENT, "Invalid NextPageToken.");
        return NULL;
    }
    if (req->run_id.n && !tn_str_is(req->run_id, opened->run_id)) {
        *out_fault = tn_fault_make(req->arena, TN_GRPC_INVALID_ARGUMENT,
                                   "RunId in the request does not match the NextPageToken.");
        return NULL;
    }
    return opened;
}

static reading *begin(tn_wf *wf, tn_hreq *req, const tn_fault **out_fault)
{
    reading *rd = TN_NEW(req->arena, reading);
    tn_history_park_init(&rd->parked, wf, req);
    rd->reverse = req->op == TN_HOP_GET_HISTORY_REVERSE;
    ProtobufCBinaryData token;
    if (rd->reverse) {
        token = ((const reverse_request *)req->request)->next_page_token;
    } else {
        const history_request *request = (const history_request *)req->request;
        token = request->next_page_token;
        rd->parked.close_only = request->history_event_filter_type == FILTER_CLOSE_EVENT;
        rd->long_poll = request->wait_new_event;
    }
    if (token.len) {
        rd->token = open_token(req, token, out_fault);
        if (rd->token)
            req->run_id = tn_str_from(rd->token->run_id);
        return rd->token ? rd : NULL;
    }
    rd->token = tn_arena_alloc(req->arena, sizeof(*rd->token));
    tenon__history_page_token__init(rd->token);
    rd->token->ns_id = (char *)(uintptr_t)tn_arena_str(req->arena, req->ns->id).p;
    rd->token->workflow_id = (char *)(uintptr_t)tn_arena_str(req->arena, req->workflow_id).p;
    rd->token->next_event_id = rd->reverse ? 0 : 1;
    return rd;
}

static void read_reverse(reading *rd, tn_run *run)
{
    const reverse_request *request = (const reverse_request *)rd->parked.req->request;
    int64_t newest =
        rd->token->next_event_id ? rd->token->next_event_id : run->ms->next_event_id - 1;
    read_page(rd, run, 1, newest, request->maximum_page_size);
}

void tn_op_read_history(tn_wf *wf, tn_hreq *req)
{
    reading *rd = req->progress;
    const tn_fault *fault = NULL;
    if (!rd)
        req->progress = rd = begin(wf, req, &fault);
    if (!rd) {
        tn_req_finish(req, fault);
        return;
    }
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (!rd->token->run_id || !*rd->token->run_id) {
        rd->token->run_id = tn_arena_strdup(req->arena, run->ms->run_id_text);
        req->run_id = tn_str_from(rd->token->run_id); /* a long poll stays with this run */
    }
    if (rd->reverse)
        read_reverse(rd, run);
    else if (must_wait(rd, run->ms))
        tn_history_park(&rd->parked, run, tn_history_park_until(req));
    else
        read_now(rd, run);
}

void tn_op_describe(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    tn_arena_set_limit(req->arena, 0);
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out =
        tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__describe_workflow_execution_response__init(out);
    tn_machine_describe(run->ms, req->arena, tn_now_wall_ns(), out);
    tn_nexus_describe_blocked(run, out);
    /* The description points into the state, which goes on changing while the answer travels. */
    req->response = tn_proto_copy(&out->base, req->arena);
    TN_ASSERT(req->response);
    tn_req_finish(req, NULL);
}
