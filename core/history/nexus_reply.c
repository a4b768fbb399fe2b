/* SPDX-License-Identifier: MIT */
/* What a worker answered to a Nexus task, as an answer over HTTP to who asked from outside (nexus_dispatch.c).  Who says
 * that it knows our failures gets them whole; others get the cause alone, as from older servers. */
#include <string.h>

#include "admin/nexus.pb-c.h"
#include "history/machine/command.h"
#include "history/nexus.h"
#include "proto/proto.h"

typedef Temporal__Api__Failure__V1__Failure failure_msg;
typedef Temporal__Api__Nexus__V1__Failure nexus_failure;
typedef Temporal__Api__Nexus__V1__HandlerError handler_error_msg;

typedef struct reply {
    tn_call *call;
    tn_http_answer *out;
    tn_http_pair *headers;
    size_t cap;
} reply;

static void put_header(reply *r, const char *name, const char *value)
{
    if (r->out->n_headers < r->cap)
        r->headers[r->out->n_headers++] = (tn_http_pair){tn_str_from(name), tn_str_from(value)};
    r->out->headers = r->headers;
}

static void by_worker(reply *r) { put_header(r, "temporal-nexus-failure-source", "worker"); }

bool tn_nexus_http_knows_failures(const tn_call *call)
{
    return tn_str_is(tn_http_header(call, "temporal-nexus-failure-support"), "true");
}

/* ---- failures -------------------------------------------------------------------------------- */

static void put_failure(reply *r, int status, const nexus_failure *failure)
{
    if (!tn_nexus_http_knows_failures(r->call) && failure->cause)
        failure = failure->cause;
    r->out->status = (uint16_t)status;
    r->out->content_type = TN_STR("application/json");
    r->out->body = tn_nexus_words_json(r->call->arena, failure);
}

static void put_retry(reply *r, int32_t retry)
{
    if (retry == TN_NEXUS_RETRY_YES || retry == TN_NEXUS_RETRY_NO)
        put_header(r, "nexus-request-retryable", retry == TN_NEXUS_RETRY_YES ? "true" : "false");
}

static void put_handler_error(reply *r, const char *type, const char *message, int32_t retry,
                              nexus_failure *cause)
{
    nexus_failure *failure = tn_nexus_words_make(
        r->call->arena, message, "nexus.HandlerError",
        tn_arena_printf(r->call->arena, "{\"type\":\"%s\"%s}", type,
                        retry == TN_NEXUS_RETRY_YES  ? ",\"retryableOverride\":true"
                        : retry == TN_NEXUS_RETRY_NO ? ",\"retryableOverride\":false"
                                                     : ""));
    failure->cause = cause;
    put_retry(r, retry);
    put_failure(r, tn_nexus_http_status(type), failure);
}

static void put_worker_error(reply *r, const char *type, const char *message)
{
    by_worker(r);
    put_handler_error(r, type, message, 0, NULL);
}

/* A failure that says which error of a handler it is. */
static void put_handler_failure(reply *r, tn_blob packed)
{
    failure_msg *failure;
    if (TN_PROTO_UNPACK(temporal__api__failure__v1__failure, packed, r->call->arena, &failure,
                        NULL) != TN_OK ||
        failure->failure_info_case !=
            TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_NEXUS_HANDLER_FAILURE_INFO) {
        put_worker_error(r, "INTERNAL", "internal error");
        return;
    }
    by_worker(r);
    put_retry(r, (int32_t)failure->nexus_handler_failure_info->retry_behavior);
    put_failure(r, tn_nexus_http_status(failure->nexus_handler_failure_info->type),
                tn_nexus_words_of(r->call->arena, failure));
}

/* As older workers say it. */
static void put_older_error(reply *r, tn_blob packed)
{
    handler_error_msg *error;
    if (TN_PROTO_UNPACK(temporal__api__nexus__v1__handler_error, packed, r->call->arena, &error,
                        NULL) != TN_OK) {
        put_worker_error(r, "INTERNAL", "internal error");
        return;
    }
    by_worker(r);
    put_handler_error(r, error->error_type, "", (int32_t)error->retry_behavior,
                      error->failure ? error->failure
                                     : TN_MSG(r->call->arena, temporal__api__nexus__v1__failure));
}

static void put_operation_error(reply *r, const char *state, nexus_failure *cause)
{
    tn_arena *arena = r->call->arena;
    if (strcmp(state, "failed") != 0 && strcmp(state, "canceled") != 0) {
        r->out->status = 500;
        return;
    }
    nexus_failure *failure =
        tn_nexus_words_make(arena, "operation error", "nexus.OperationError",
                            tn_arena_printf(arena, "{\"state\":\"%s\"}", state));
    tn_nexus_words_note(arena, failure, "unwrap-error", "true");
    failure->cause = cause ? cause : TN_MSG(arena, temporal__api__nexus__v1__failure);
    by_worker(r);
    put_header(r, "nexus-operation-state", tn_arena_strdup(arena, state));
    put_failure(r, 424, failure);
}

/* ---- results --------------------------------------------------------------------------------- */

static void put_links(reply *r, size_t n, Temporal__Api__Nexus__V1__Link *const *links)
{
    for (size_t i = 0; i < n; i++)
        put_header(
            r, "nexus-link",
            tn_arena_printf(r->call->arena, "<%s>; type=\"%s\"", links[i]->url, links[i]->type));
}

static void put_token(reply *r,
                      const Temporal__Api__Nexus__V1__StartOperationResponse__Async *async)
{
    tn_buf text = {0};
    tn_buf_printf(&text, "{\"token\":");
    tn_json_put_string(
        &text, tn_str_from(*async->operation_token ? async->operation_token : async->operation_id));
    tn_buf_printf(&text, ",\"state\":\"running\"}");
    put_links(r, async->n_links, async->links);
    r->out->status = 201;
    r->out->content_type = TN_STR("application/json");
    r->out->body = tn_arena_blob(r->call->arena, tn_buf_blob(&text));
    tn_buf_done(&text);
}

static void put_start(reply *r, const Temporal__Api__Nexus__V1__StartOperationResponse *start)
{
    bool canceled;
    switch ((int)start->variant_case) {
    case TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_SYNC_SUCCESS:
        put_links(r, start->sync_success->n_links, start->sync_success->links);
        r->out->status = 200;
        r->out->n_headers += tn_nexus_http_put_payload(r->call->arena, start->sync_success->payload,
                                                       r->headers + r->out->n_headers,
                                                       r->cap - r->out->n_headers, &r->out->body);
        r->out->headers = r->headers;
        return;
    case TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_ASYNC_SUCCESS:
        put_token(r, start->async_success);
        return;
    case TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_OPERATION_ERROR:
        put_operation_error(r, start->operation_error->operation_state,
                            start->operation_error->failure);
        return;
    case TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_FAILURE:
        canceled = start->failure->failure_info_case ==
                   TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_CANCELED_FAILURE_INFO;
        put_operation_error(r, canceled ? "canceled" : "failed",
                            tn_nexus_words_of(r->call->arena, start->failure));
        return;
    default:
        put_worker_error(r, "INTERNAL", "empty outcome");
    }
}

static size_t links_in(const Temporal__Api__Nexus__V1__Response *response)
{
    const Temporal__Api__Nexus__V1__StartOperationResponse *start =
        response->variant_case == TEMPORAL__API__NEXUS__V1__RESPONSE__VARIANT_START_OPERATION
            ? response->start_operation
            : NULL;
    size_t n = 16;
    if (start && start->variant_case ==
                     TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_SYNC_SUCCESS)
        n += start->sync_success->n_links +
             (start->sync_success->payload ? start->sync_success->payload->n_metadata : 0);
    if (start && start->variant_case ==
                     TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_ASYNC_SUCCESS)
        n += start->async_success->n_links;
    return n;
}

static void put_response(reply *r, tn_blob packed, bool cancel)
{
    Temporal__Api__Nexus__V1__Response *response;
    if (TN_PROTO_UNPACK(temporal__api__nexus__v1__response, packed, r->call->arena, &response,
                        NULL) != TN_OK) {
        put_worker_error(r, "INTERNAL", "empty outcome");
    } else if (cancel) {
        r->out->status = 202;
    } else if (response->variant_case !=
               TEMPORAL__API__NEXUS__V1__RESPONSE__VARIANT_START_OPERATION) {
        put_worker_error(r, "INTERNAL", "empty outcome");
    } else {
        r->cap = links_in(response);
        r->headers = TN_NEW_ARRAY(r->call->arena, tn_http_pair, r->cap);
        put_start(r, response->start_operation);
    }
}

static tn_blob blob(ProtobufCBinaryData b) { return (tn_blob){b.data, b.len}; }

static void answered(tn_call *call, const ProtobufCMessage *response, bool cancel,
                     tn_http_answer *out)
{
    const Temporal__Api__Nexusservice__V1__DispatchNexusTaskResponse *said =
        (const Temporal__Api__Nexusservice__V1__DispatchNexusTaskResponse *)(const void *)response;
    reply r = {.call = call, .out = out, .cap = 4};
    Tenon__NexusOutcome *outcome;
    tn_arena_set_limit(call->arena, 0);
    r.headers = TN_NEW_ARRAY(call->arena, tn_http_pair, r.cap);
    if (TN_PROTO_UNPACK(tenon__nexus_outcome, blob(said->outcome), call->arena, &outcome, NULL) !=
        TN_OK)
        put_worker_error(&r, "INTERNAL", "empty outcome");
    else if (outcome->timed_out)
        put_worker_error(&r, "UPSTREAM_TIMEOUT", "upstream timeout");
    else if (outcome->responded)
        put_response(&r, blob(outcome->response), cancel);
    else if (outcome->handler_error.len)
        put_older_error(&r, blob(outcome->handler_error));
    else
        put_handler_failure(&r, blob(outcome->failure));
}

static void started(tn_call *call, const ProtobufCMessage *response, tn_http_answer *out)
{
    answered(call, response, false, out);
}

static void canceled(tn_call *call, const ProtobufCMessage *response, tn_http_answer *out)
{
    answered(call, response, true, out);
}

/* Whoever hears it has passed the authorizer, or of no namespace either. */
static void failed(tn_call *call, const tn_fault *fault, tn_http_answer *out)
{
    tn_fault own = *fault;
    if (fault->code == TN_GRPC_NOT_FOUND)
        own.message =
            tn_str_from(tn_arena_printf(call->arena, "namespace not found: \"" TN_STR_FMT "\"",
                                        TN_STR_ARG(tn_http_param(call, "namespace"))));
    tn_nexus_http_render_fault(call, &own, out);
}

const tn_http_render *tn_nexus_http_render(bool cancel)
{
    static const tn_http_render start_render = {.reply = started, .fail = failed};
    static const tn_http_render cancel_render = {.reply = canceled, .fail = failed};
    return cancel ? &cancel_render : &start_render;
}
