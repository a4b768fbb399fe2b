/* SPDX-License-Identifier: MIT */
/* What handlers outside report about operations of ours:
 *   POST /namespaces/{namespace}/nexus/callback, and /nexus/callback
 * The token in the headers, which we have sealed when the operation was asked for, says which operation it is; a report
 * with another one goes no further. From here it enters the API as a call of CompleteNexusOperation: claim mapper,
 * authorizer, audit, limits and metrics meet it as any other (core/frontend/nexus.c is its handler). */
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "admin/nexus.pb-c.h"
#include "history/history.h"
#include "history/nexus.h"
#include "history/machine/command.h"
#include "http/client.h"
#include "http/json.h"
#include "proto/proto.h"

#define HEADERS_MAX 100
#define METHOD "/temporal.api.nexusservice.v1.NexusService/CompleteNexusOperation"

typedef struct report {
    tn_call *call;
    tn_http_out in; /* the request, as if it were an answer */
} report;

static atomic_bool is_open;

/* ---- answers --------------------------------------------------------------------------------- */

static void put_error(tn_call *call, const char *type, const char *message, int retry,
                      tn_http_answer *out)
{
    tn_buf text = {0};
    static const tn_http_pair retries[] = {{{NULL, 0}, {NULL, 0}},
                                           {{"nexus-request-retryable", 23}, {"true", 4}},
                                           {{"nexus-request-retryable", 23}, {"false", 5}}};
    out->headers = &retries[retry];
    out->n_headers = retry ? 1 : 0;
    out->status = (uint16_t)tn_nexus_http_status(type);
    out->content_type = TN_STR("application/json");
    tn_buf_printf(&text, "{\"message\":");
    tn_json_put_string(&text, tn_str_from(message));
    tn_buf_printf(
        &text, ",\"metadata\":{\"type\":\"nexus.HandlerError\"},\"details\":{\"type\":\"%s\"%s}}",
        type,
        retry == TN_NEXUS_RETRY_YES  ? ",\"retryableOverride\":true"
        : retry == TN_NEXUS_RETRY_NO ? ",\"retryableOverride\":false"
                                     : "");
    out->body = tn_arena_blob(call->arena, tn_buf_blob(&text));
    tn_buf_done(&text);
}

void tn_nexus_http_refuse(tn_call *call, const char *type, const char *message, int retry)
{
    tn_http_answer out = {0};
    put_error(call, type, message, retry, &out);
    tn_http_respond(call, &out);
}

static void answer(tn_call *call, const char *type, const char *message)
{
    tn_nexus_http_refuse(call, type, message, 0);
}

static void bad(tn_call *call, const char *message) { answer(call, "BAD_REQUEST", message); }

static void render_reply(tn_call *call, const ProtobufCMessage *response, tn_http_answer *out)
{
    (void)call, (void)response;
    out->status = 200;
}

/* Of refusals on the way in the reason is told where the reference tells it. */
void tn_nexus_http_render_fault(tn_call *call, const tn_fault *fault, tn_http_answer *out)
{
    const char *type, *text;
    tn_wire_field reason;
    tn_nexus_fault_words(call->arena, fault, &type, &text);
    if (fault->code == TN_GRPC_RESOURCE_EXHAUSTED || fault->code == TN_GRPC_INVALID_ARGUMENT)
        text = tn_arena_printf(call->arena, TN_STR_FMT, TN_STR_ARG(fault->message));
    else if (fault->code == TN_GRPC_PERMISSION_DENIED && fault->detail.n &&
             tn_wire_find(fault->detail, 1, &reason) && reason.bytes.n)
        text = tn_arena_printf(call->arena, "%s: " TN_STR_FMT, text,
                               TN_STR_ARG(tn_str_of_blob(reason.bytes)));
    put_error(call, type, text, 0, out);
}

static const tn_http_render render = {.reply = render_reply, .fail = tn_nexus_http_render_fault};

/* ---- the request ----------------------------------------------------------------------------- */

static char *text_of(tn_arena *arena, tn_str s)
{
    return tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(s));
}

void tn_nexus_http_take(tn_call *call, tn_http_out *in)
{
    size_t at = 0;
    in->arena = call->arena;
    in->got = TN_NEW_ARRAY(call->arena, tn_http_pair, HEADERS_MAX);
    while (in->n_got < HEADERS_MAX && tn_http_next_header(call, &at, &in->got[in->n_got]))
        in->n_got++;
    in->answer = tn_call_http(call)->body;
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
        if ((int64_t)completion->payload.len >
            tn_dyn_i64(TN_DYN_LIMIT_BLOB_SIZE_ERROR, ns, TN_STR(""))) {
            bad(r->call, "result exceeds size limit");
            return false;
        }
        return true;
    }
    completion->unsuccessful = true;
    completion->canceled = tn_str_is(state, "canceled");
    if (!completion->canceled && !tn_str_is(state, "failed")) {
        bad(r->call, tn_arena_printf(arena, "invalid request operation state: \"" TN_STR_FMT "\"",
                                     TN_STR_ARG(state)));
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

static void enter(report *r, const Tenon__NexusCallbackToken *token, tn_str ns)
{
    tn_arena *arena = r->call->arena;
    Tenon__NexusCompletion *completion = TN_MSG(arena, tenon__nexus_completion);
    Temporal__Api__Nexusservice__V1__CompleteNexusOperationRequest *request =
        TN_MSG(arena, temporal__api__nexusservice__v1__complete_nexus_operation_request);
    if (!take_state(r, ns, completion))
        return;
    take_links(r, completion);
    completion->scheduled_id = token->scheduled_id;
    completion->request_id = token->request_id;
    completion->token = text_of(arena, tn_http_got(&r->in, "nexus-operation-token"));
    completion->start_ns = start_of(arena, tn_http_got(&r->in, "nexus-operation-start-time"));
    request->namespace_ = text_of(arena, ns);
    request->workflow_id = token->workflow_id;
    request->run_id = token->run_id;
    request->completion = packed(arena, &completion->base);
    ProtobufCBinaryData message = packed(arena, &request->base);
    const tn_rpc_method *method = tn_rpc_find(TN_STR(METHOD));
    TN_ASSERT(method);
    tn_http_enter(r->call, method, tn_blob_from(message.data, message.len), &render);
}

static void handle(tn_call *call)
{
    if (!tn_nexus_http_is_open()) {
        /* a token could not be told from a forged one */
        answer(call, "UNAVAILABLE", "service unavailable");
        return;
    }
    tn_arena_set_limit(call->arena, 0); /* the body's size has been checked */
    report *r = TN_NEW(call->arena, report);
    r->call = call;
    tn_nexus_http_take(call, &r->in);
    tn_str named = tn_http_param(call, "namespace");
    const Tenon__NexusCallbackToken *token = tn_nexus_open_token(
        call->arena, text_of(call->arena, tn_http_got(&r->in, "temporal-callback-token")));
    const tn_namespace *ns = token ? tn_namespace_by_id(tn_str_from(token->ns_id)) : NULL;
    if (!token)
        bad(call, "invalid callback token");
    else if (!ns)
        answer(call, "NOT_FOUND",
               tn_arena_printf(call->arena, "namespace \"%s\" not found", token->ns_id));
    else if (named.n && !tn_str_eq(named, ns->name))
        bad(call, "invalid callback token");
    else
        enter(r, token, ns->name);
    tn_namespace_unref(ns);
}

bool tn_nexus_http_is_open(void) { return atomic_load_explicit(&is_open, memory_order_acquire); }

void tn_history_open_http(void) { atomic_store_explicit(&is_open, true, memory_order_release); }

void tn_history_register_http(void)
{
    static const tn_http_route routes[] = {
        {"POST", "/namespaces/{namespace}/nexus/callback", handle, NULL},
        {"POST", "/nexus/callback", handle, NULL}};
    tn_http_register(routes, TN_COUNT_OF(routes));
    tn_nexus_register_dispatch();
}
