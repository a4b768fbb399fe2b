/* SPDX-License-Identifier: MIT */
/* A run's history as it was written: its batches, packed, a page at a time.  Operators' tools read it so. */
#include "history/priv.h"

#include "admin/service.pb-c.h"
#include "proto/proto.h"

#define PAGE_BYTES_MAX (2u << 20) /* the last batch of a page may go past it */
#define PAGE_BATCHES_MAX 1000

typedef Temporal__Server__Api__Adminservice__V1__GetWorkflowExecutionRawHistoryV2Request
    raw_request;
typedef Temporal__Server__Api__Adminservice__V1__GetWorkflowExecutionRawHistoryV2Response
    raw_response;

typedef struct raw {
    tn_wf *wf;
    tn_hreq *req;
    Tenon__HistoryPageToken
        *token;      /* first_event_id: next to be read; next_event_id: past the last */
    int64_t last_id; /* of the run */
    char run_id[37];
    tn_read read;
} raw;

static void *make(tn_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = tn_arena_alloc(arena, descriptor->sizeof_message);
    descriptor->message_init(message);
    return message;
}

#define NEW(arena, c_name) make((arena), &temporal__server__api__##c_name##__descriptor)

static Temporal__Server__Api__History__V1__VersionHistory *version_history(const raw *r)
{
    tn_arena *arena = r->req->arena;
    Temporal__Server__Api__History__V1__VersionHistory *out =
        NEW(arena, history__v1__version_history);
    Temporal__Server__Api__History__V1__VersionHistoryItem *item =
        NEW(arena, history__v1__version_history_item);
    Temporal__Server__Api__Persistence__V1__HistoryBranch *branch =
        NEW(arena, persistence__v1__history_branch);
    tn_blob packed = {NULL, 0};
    branch->tree_id = branch->branch_id = tn_arena_strdup(arena, r->run_id);
    if (tn_proto_pack(&branch->base, arena, &packed) == TN_OK)
        out->branch_token = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    item->event_id = r->last_id;
    out->items = tn_arena_array(arena, 1, sizeof(out->items[0]));
    out->items[out->n_items++] = item;
    return out;
}

static void add_batches(raw *r, raw_response *out, tn_blob body, const tn_read_batch *batches,
                        size_t n)
{
    tn_arena *arena = r->req->arena;
    uint8_t *bytes = tn_arena_alloc(arena, body.n + 1);
    if (body.n)
        memcpy(bytes, body.p, body.n);
    out->history_batches = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__DataBlob *, n + 1);
    out->history_node_ids = TN_NEW_ARRAY(arena, int64_t, n + 1);
    for (size_t i = 0; i < n; i++) {
        size_t end = i + 1 < n ? batches[i + 1].at : body.n;
        Temporal__Api__Common__V1__DataBlob *blob =
            make(arena, &temporal__api__common__v1__data_blob__descriptor);
        blob->encoding_type = TEMPORAL__API__ENUMS__V1__ENCODING_TYPE__ENCODING_TYPE_PROTO3;
        blob->data = (ProtobufCBinaryData){end - batches[i].at, bytes + batches[i].at};
        out->history_batches[out->n_history_batches++] = blob;
        out->history_node_ids[out->n_history_node_ids++] = batches[i].first_id;
    }
}

static void answer(raw *r)
{
    tn_hreq *req = r->req;
    tn_read *read = &r->read;
    raw_response *out =
        NEW(req->arena, adminservice__v1__get_workflow_execution_raw_history_v2_response);
    add_batches(r, out, tn_buf_blob(&read->body),
                (const tn_read_batch *)(const void *)read->batches.p, read->n_batches);
    out->version_history = version_history(r);
    if (read->n_events && read->last_read + 1 < r->token->next_event_id) {
        r->token->first_event_id = read->last_read + 1;
        tn_blob sealed = tn_token_seal(req->arena, &r->token->base);
        out->next_page_token = (ProtobufCBinaryData){sealed.n, (uint8_t *)(uintptr_t)sealed.p};
    }
    req->response = &out->base;
}

static void came(tn_read *read)
{
    raw *r = read->user;
    tn_hreq *req = r->req;
    tn_wf *wf = r->wf;
    tn_buf body = read->body, batches = read->batches;
    const tn_fault *fault = NULL;
    if (read->status == TN_OK)
        answer(r);
    else
        fault = tn_fault_from_status(req->arena, read->status, &read->error);
    tn_buf_done(&body);
    tn_buf_done(&batches);
    tn_req_finish(req, fault);
    tn_wf_resume(wf, NULL);
}

/* NULL: it is not one of ours for that run. */
static Tenon__HistoryPageToken *open_token(tn_hreq *req, const tn_run *run,
                                           ProtobufCBinaryData bytes)
{
    Tenon__HistoryPageToken *token = (Tenon__HistoryPageToken *)tn_token_open(
        req->arena, tn_blob_from(bytes.data, bytes.len), &tenon__history_page_token__descriptor);
    if (!token || !tn_str_is(req->ns->id, token->ns_id) ||
        !tn_str_is(req->workflow_id, token->workflow_id) ||
        strcmp(token->run_id, run->ms->run_id_text) != 0 || token->first_event_id < 1)
        return NULL;
    return token;
}

static Tenon__HistoryPageToken *first_token(tn_hreq *req, const tn_run *run,
                                            const raw_request *request)
{
    Tenon__HistoryPageToken *token = tn_arena_alloc(req->arena, sizeof(*token));
    int64_t end = run->ms->next_event_id;
    tenon__history_page_token__init(token);
    token->ns_id = tn_arena_printf(req->arena, TN_STR_FMT, TN_STR_ARG(req->ns->id));
    token->workflow_id = tn_arena_printf(req->arena, TN_STR_FMT, TN_STR_ARG(req->workflow_id));
    token->run_id = tn_arena_strdup(req->arena, run->ms->run_id_text);
    token->first_event_id = request->start_event_id < end ? request->start_event_id + 1 : end;
    token->next_event_id =
        request->end_event_id > 0 && request->end_event_id < end ? request->end_event_id : end;
    return token;
}

/* Events after start_event_id and before end_event_id; 0: no bound.  Histories have one branch here, of version 0. */
void tn_op_raw_history(tn_wf *wf, tn_hreq *req)
{
    const raw_request *request = (const raw_request *)req->request;
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    tn_arena_set_limit(req->arena, 0);
    raw *r = TN_NEW(req->arena, raw);
    *r = (raw){.wf = wf, .req = req, .last_id = run->ms->next_event_id - 1};
    memcpy(r->run_id, run->ms->run_id_text, sizeof(r->run_id));
    r->token = request->next_page_token.len ? open_token(req, run, request->next_page_token)
                                            : first_token(req, run, request);
    if (!r->token) {
        tn_req_finish(
            req, tn_fault_make(req->arena, TN_GRPC_INVALID_ARGUMENT, "Invalid NextPageToken."));
        return;
    }
    r->read = (tn_read){.arena = req->arena,
                        .req = req,
                        .from = r->token->first_event_id,
                        .to = r->token->next_event_id - 1,
                        .events_max = SIZE_MAX,
                        .bytes_max = PAGE_BYTES_MAX,
                        .batches_max = request->maximum_page_size < PAGE_BATCHES_MAX
                                           ? (size_t)request->maximum_page_size
                                           : PAGE_BATCHES_MAX,
                        .done = came,
                        .user = r};
    wf->busy = true; /* the run must not change under the read */
    tn_read_events(&r->read, run);
}
