/* SPDX-License-Identifier: MIT */
/* What handlers outside report about operations of ours:
 *   POST /namespaces/{namespace}/nexus/callback, and /nexus/callback
 * The token in the headers, which we have sealed when the operation was asked for, says which operation it is, and is the
 * permission to complete it. */
#include <stdlib.h>
#include <time.h>

#include "history/nexus.h"
#include "history/machine/command.h"
#include "http/client.h"
#include "http/json.h"
#include "proto/proto.h"

#define HEADERS_MAX 100

typedef struct report {
    tn_hreq hreq;
    tn_call *call;
    tn_http_out in; /* the request, as if it were an answer */
    bool retried;
} report;

static void answer(tn_call *call, const char *type, const char *message)
{
    tn_http_answer out = {.status = 200};
    tn_buf text = {0};
    if (type) {
        out.status = (uint16_t)tn_nexus_http_status(type);
        out.content_type = TN_STR("application/json");
        tn_buf_printf(&text, "{\"message\":");
        tn_json_put_string(&text, tn_str_from(message));
        tn_buf_printf(&text, ",\"metadata\":{\"type\":\"nexus.HandlerError\"},\"details\":{\"type\":\"%s\"}}", type);
        out.body = tn_arena_blob(call->arena, tn_buf_blob(&text));
        tn_buf_done(&text);
    }
    tn_http_respond(call, &out);
}

static void bad(tn_call *call, const char *message) { answer(call, "BAD_REQUEST", message); }

static void completed(tn_hreq *hreq)
{
    report *r = TN_CONTAINER_OF(hreq, report, hreq);
    const char *type, *text;
    if (hreq->fault && hreq->fault->code == TN_GRPC_NOT_FOUND && hreq->run_id.n && !r->retried) {
        r->retried = true; /* the run may have been reset: then the one that followed waits */
        hreq->run_id = TN_STR("");
        hreq->fault = NULL;
        hreq->response = NULL;
        hreq->tries = 0;
        tn_client_history(hreq);
        return;
    }
    tn_namespace_unref(hreq->ns);
    if (!hreq->fault) {
        answer(r->call, NULL, NULL);
        return;
    }
    tn_nexus_fault_words(r->call->arena, hreq->fault, &type, &text);
    answer(r->call, type, text);
}

/* ---- the request ----------------------------------------------------------------------------- */

static char *text_of(tn_arena *arena, tn_str s) { return tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(s)); }

static void take_request(report *r)
{
    tn_arena *arena = r->call->arena;
    size_t at = 0;
    r->in.arena = arena;
    r->in.got = TN_NEW_ARRAY(arena, tn_http_pair, HEADERS_MAX);
    while (r->in.n_got < HEADERS_MAX && tn_http_next_header(r->call, &at, &r->in.got[r->in.n_got]))
        r->in.n_got++;
    r->in.answer = tn_call_http(r->call)->body;
}

static uint64_t start_of(tn_arena *arena, tn_str date)
{
    struct tm parts = {0};
    time_t seconds;
    if (!date.n || !strptime(text_of(arena, date), "%a, %d %b %Y %H:%M:%S GMT", &parts))
        return 0;
    seconds = timegm(&parts);
    return seconds > 0 ? (uint64_t)seconds * TN_SEC : 0;
}

static ProtobufCBinaryData packed(tn_arena *arena, const ProtobufCMessage *message)
{
    tn_blob out = {NULL, 0};
    tn_status status = tn_proto_pack(message, arena, &out);
    TN_ASSERT(status == TN_OK);
    return (ProtobufCBinaryData){out.n, (uint8_t *)(uintptr_t)out.p};
}

/* False: it has been answered. */
static bool take_state(report *r, tn_str ns, Tenon__NexusCompletion *completion)
{
    tn_arena *arena = r->call->arena;
    tn_str state = tn_http_got(&r->in, "nexus-operation-state");
    if (tn_str_is(state, "succeeded")) {
        Temporal__Api__Common__V1__Payload *payload = tn_nexus_http_payload(&r->in);
        completion->payload = packed(arena, &payload->base);
        completion->has_payload = true;
        if ((int64_t)completion->payload.len > tn_dyn_i64(TN_DYN_LIMIT_BLOB_SIZE_ERROR, ns, TN_STR(""))) {
            bad(r->call, "result exceeds size limit");
            return false;
        }
        return true;
    }
    completion->unsuccessful = true;
    completion->canceled = tn_str_is(state, "canceled");
    if (!completion->canceled && !tn_str_is(state, "failed")) {
        bad(r->call, tn_arena_printf(arena, "invalid request operation state: \"" TN_STR_FMT "\"", TN_STR_ARG(state)));
        return false;
    }
    Temporal__Api__Failure__V1__Failure *failure = tn_nexus_http_failure(&r->in);
    if (!failure) {
        bad(r->call, "invalid failure content");
        return false;
    }
    completion->failure = packed(arena, &failure->base);
    return true;
}

static void take_links(report *r, Tenon__NexusCompletion *completion)
{
    tn_nexus_result links = {0};
    tn_nexus_http_links(&r->in, &links);
    completion->links = TN_NEW_ARRAY(r->call->arena, ProtobufCBinaryData, links.n_links + 1);
    for (size_t i = 0; i < links.n_links; i++)
        completion->links[completion->n_links++] = packed(r->call->arena, &links.links[i]->base);
}

static void complete(report *r, const Tenon__NexusCallbackToken *token, const tn_namespace *ns)
{
    tn_arena *arena = r->call->arena;
    Tenon__NexusCompletion *completion = TN_MSG(arena, tenon__nexus_completion);
    tn_str operation = tn_http_got(&r->in, "nexus-operation-token");
    int64_t max = tn_dyn_i64(TN_DYN_NEXUS_TOKEN_LENGTH, ns->name, TN_STR(""));
    if ((int64_t)operation.n > max) {
        bad(r->call, tn_arena_printf(arena, "operation token length exceeds allowed limit (%zu/%lld)", operation.n,
                                     (long long)max));
        tn_namespace_unref(ns);
        return;
    }
    if (!take_state(r, ns->name, completion)) {
        tn_namespace_unref(ns);
        return;
    }
    take_links(r, completion);
    completion->scheduled_id = token->scheduled_id;
    completion->request_id = token->request_id;
    completion->token = text_of(arena, operation);
    completion->start_ns = start_of(arena, tn_http_got(&r->in, "nexus-operation-start-time"));
    r->hreq = (tn_hreq){.arena = arena,
                        .home = r->call->home,
                        .op = TN_HOP_NEXUS_COMPLETE,
                        .ns = ns,
                        .workflow_id = tn_str_from(token->workflow_id),
                        .run_id = tn_str_from(token->run_id),
                        .request = &completion->base,
                        .deadline_mono_ns = tn_now_mono_ns() + 10 * TN_SEC,
                        .done = completed};
    tn_client_history(&r->hreq);
}

static void handle(tn_call *call)
{
    tn_arena_set_limit(call->arena, 0); /* the body's size has been checked */
    report *r = TN_NEW(call->arena, report);
    r->call = call;
    take_request(r);
    tn_str named = tn_http_param(call, "namespace");
    const Tenon__NexusCallbackToken *token = tn_nexus_open_token(
        call->arena, text_of(call->arena, tn_http_got(&r->in, "temporal-callback-token")));
    const tn_namespace *ns = token ? tn_namespace_by_id(tn_str_from(token->ns_id)) : NULL;
    if (!token) {
        bad(call, "invalid callback token");
    } else if (!ns) {
        answer(call, "NOT_FOUND", tn_arena_printf(call->arena, "namespace \"%s\" not found", token->ns_id));
    } else if (named.n && !tn_str_eq(named, ns->name)) {
        tn_namespace_unref(ns);
        bad(call, "invalid callback token");
    } else {
        complete(r, token, ns);
    }
}

void tn_history_register_http(void)
{
    static const tn_http_route routes[] = {{"POST", "/namespaces/{namespace}/nexus/callback", handle, NULL},
                                           {"POST", "/nexus/callback", handle, NULL}};
    tn_http_register(routes, TN_COUNT_OF(routes));
}
