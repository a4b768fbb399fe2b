/* SPDX-License-Identifier: MIT */
/* Who asks our workers for Nexus operations from outside:
 *   POST /nexus/endpoints/{id}/services/{service}/{operation}, and there /cancel
 *   POST /namespaces/{namespace}/task-queues/{queue}/nexus-services/{service}/{operation}, and there /cancel
 * From here a request enters the API as a call of DispatchByEndpoint or DispatchByNamespaceAndTaskQueue: claim mapper,
 * authorizer, audit, limits and metrics meet it as any other (core/frontend/nexus.c is its handler), and what a worker
 * answers goes back in the words of the Nexus protocol. */
#include <ctype.h>
#include <stdlib.h>

#include "admin/nexus.pb-c.h"
#include "history/history.h"
#include "history/machine/command.h"
#include "history/nexus.h"
#include "http/http.h"
#include "namespace/endpoint.h"
#include "proto/proto.h"

#define SERVICE "/temporal.api.nexusservice.v1.NexusService/"
#define BODY_MAX ((size_t)2 << 20)

typedef Temporal__Api__Nexus__V1__Request nexus_request;
typedef Temporal__Api__Nexus__V1__StartOperationRequest start_request;
typedef Temporal__Api__Nexus__V1__Link nexus_link;
typedef Temporal__Api__Nexusservice__V1__DispatchNexusTaskRequest dispatch_request;

typedef struct way {
    bool by_endpoint;
    enum { START, CANCEL, NOWHERE } what;
} way;

static void refuse(tn_call *call, const char *type, const char *message)
{
    tn_nexus_http_refuse(call, type, message, 0);
}

static char *text_of(tn_arena *arena, tn_str s)
{
    return tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(s));
}

static char *header_text(tn_call *call, const char *name)
{
    return text_of(call->arena, tn_http_header(call, name));
}

static char *param_text(tn_call *call, const char *name)
{
    return text_of(call->arena, tn_http_param(call, name));
}

/* ---- the request: where to ------------------------------------------------------------------- */

/* False: it has been answered. */
static bool to_endpoint(tn_call *call, dispatch_request *to)
{
    const tn_endpoints *list = tn_endpoints_acquire();
    const Tenon__NexusEndpointRecord *endpoint =
        tn_endpoints_by_id(list, tn_http_param(call, "endpoint"));
    const tn_namespace *ns = endpoint ? tn_namespace_by_id(tn_str_from(endpoint->ns_id)) : NULL;
    if (!endpoint)
        tn_nexus_http_refuse(call, "NOT_FOUND", "nexus endpoint not found", TN_NEXUS_RETRY_NO);
    else if (*endpoint->url) /* we are nobody's proxy */
        refuse(call, "BAD_REQUEST", "invalid endpoint target");
    else if (!ns)
        tn_nexus_http_refuse(call, "NOT_FOUND", "invalid endpoint target", TN_NEXUS_RETRY_YES);
    if (ns) {
        to->namespace_ = text_of(call->arena, ns->name);
        to->task_queue = tn_arena_strdup(call->arena, endpoint->task_queue);
        to->endpoint = tn_arena_strdup(call->arena, endpoint->name);
    }
    tn_namespace_unref(ns);
    tn_endpoints_release(list);
    return ns != NULL;
}

/* Digits, and maybe more behind a point, of ms, s or m.  False: none. */
static bool duration_of(const char *text, uint64_t *out_ns)
{
    size_t n = strspn(text, "0123456789"), whole = n;
    if (text[n] == '.')
        n += 1 + strspn(text + n + 1, "0123456789");
    const char *unit = text + n;
    double ms = strcmp(unit, "ms") == 0  ? 1
                : strcmp(unit, "s") == 0 ? 1e3
                : strcmp(unit, "m") == 0 ? 60e3
                                         : 0;
    if (!whole || n == whole + 1 || ms == 0)
        return false;
    double all = strtod(text, NULL) * ms;
    *out_ns = all < 1e12 ? (uint64_t)all * TN_MS : UINT64_MAX / 2;
    return true;
}

/* ---- the request: what it says --------------------------------------------------------------- */

static bool starts(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

/* Of the connection, or given in another place. */
static bool is_ours(const way *w, const char *name)
{
    static const char *const names[] = {"host", "connection", "transfer-encoding",
                                        "request-timeout"};
    for (size_t i = 0; i < TN_COUNT_OF(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    if (w->what == CANCEL)
        return strcmp(name, "nexus-operation-token") == 0;
    return starts(name, "content-") || starts(name, "nexus-callback-");
}

static void take_headers(tn_call *call, const way *w, const tn_http_out *in, nexus_request *to)
{
    tn_str hidden = tn_dyn_text(TN_DYN_FRONTEND_NEXUS_HIDDEN_HEADERS);
    to->header =
        TN_NEW_ARRAY(call->arena, Temporal__Api__Nexus__V1__Request__HeaderEntry *, in->n_got + 1);
    for (size_t i = 0; i < in->n_got; i++) {
        char *name = text_of(call->arena, in->got[i].name);
        bool again = false;
        for (size_t k = 0; k < i; k++)
            again = again || tn_str_eq(in->got[k].name, in->got[i].name); /* the first one counts */
        if (again || is_ours(w, name) || tn_http_listed(hidden, in->got[i].name))
            continue;
        Temporal__Api__Nexus__V1__Request__HeaderEntry *entry =
            TN_MSG(call->arena, temporal__api__nexus__v1__request__header_entry);
        entry->key = name;
        entry->value = text_of(call->arena, in->got[i].value);
        to->header[to->n_header++] = entry;
    }
}

static void take_callback_headers(tn_call *call, const tn_http_out *in, start_request *to)
{
    static const char prefix[] = "nexus-callback-";
    to->callback_header = TN_NEW_ARRAY(
        call->arena, Temporal__Api__Nexus__V1__StartOperationRequest__CallbackHeaderEntry *,
        in->n_got + 1);
    for (size_t i = 0; i < in->n_got; i++) {
        char *name = text_of(call->arena, in->got[i].name);
        if (!starts(name, prefix))
            continue;
        Temporal__Api__Nexus__V1__StartOperationRequest__CallbackHeaderEntry *entry = TN_MSG(
            call->arena, temporal__api__nexus__v1__start_operation_request__callback_header_entry);
        entry->key = name + strlen(prefix);
        entry->value = text_of(call->arena, in->got[i].value);
        to->callback_header[to->n_callback_header++] = entry;
    }
}

/* "<url>; type="t"", which is one of several with commas between them.  NULL: it is none. */
static nexus_link *link_of(tn_arena *arena, char *text)
{
    char *end, *type, *close;
    text += strspn(text, " ");
    if (*text != '<' || !(end = strchr(text, '>')) || end == text + 1)
        return NULL;
    *end++ = '\0';
    type = strstr(end, "type=");
    if (*(end + strspn(end, " ")) != ';' || !type)
        return NULL;
    type += 5;
    type += *type == '"';
    close =
        type + strspn(type, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./");
    if (close == type || (*close && !strchr("\"; ", *close)))
        return NULL;
    *close = '\0';
    nexus_link *out = TN_MSG(arena, temporal__api__nexus__v1__link);
    out->url = text + 1;
    out->type = type;
    return out;
}

static bool take_links(tn_call *call, const tn_http_out *in, start_request *to)
{
    for (size_t i = 0; i < in->n_got; i++) {
        if (!tn_str_is(in->got[i].name, "nexus-link"))
            continue;
        char *at = text_of(call->arena, in->got[i].value), *next;
        for (; at; at = next) {
            next = strchr(at, ',');
            if (next)
                *next++ = '\0';
            nexus_link **more = TN_NEW_ARRAY(call->arena, nexus_link *, to->n_links + 1);
            if (to->n_links)
                memcpy(more, to->links, to->n_links * sizeof(*more));
            to->links = more;
            if (!(to->links[to->n_links] = link_of(call->arena, at)))
                return false;
            to->n_links++;
        }
    }
    return true;
}

/* The value of a name in the query, decoded; "": it has none. */
static char *query_text(tn_call *call, const char *name)
{
    char *at = text_of(call->arena, tn_call_http(call)->query), *pair;
    size_t n = strlen(name);
    while ((pair = strsep(&at, "&"))) {
        if (strncmp(pair, name, n) != 0 || pair[n] != '=')
            continue;
        char *out = pair += n + 1, *to = out;
        for (; *pair; pair++) {
            char hex[3] = {0};
            if (*pair == '%' && isxdigit((unsigned char)pair[1]) &&
                isxdigit((unsigned char)pair[2])) {
                memcpy(hex, pair + 1, 2);
                *to++ = (char)strtol(hex, NULL, 16);
                pair += 2;
            } else {
                *to++ = *pair == '+' ? ' ' : *pair;
            }
        }
        *to = '\0';
        return out;
    }
    return tn_arena_strdup(call->arena, "");
}

static bool take_start(tn_call *call, const tn_http_out *in, nexus_request *to)
{
    start_request *start = to->start_operation =
        TN_MSG(call->arena, temporal__api__nexus__v1__start_operation_request);
    to->variant_case = TEMPORAL__API__NEXUS__V1__REQUEST__VARIANT_START_OPERATION;
    if (!take_links(call, in, start)) {
        refuse(call, "BAD_REQUEST", "invalid \"nexus-link\" header");
        return false;
    }
    if (in->answer.n > BODY_MAX) {
        refuse(call, "BAD_REQUEST", "invalid input");
        return false;
    }
    start->service = param_text(call, "service");
    start->operation = param_text(call, "operation");
    start->request_id = header_text(call, "nexus-request-id");
    start->callback = query_text(call, "callback");
    start->payload = tn_nexus_http_payload(in);
    take_callback_headers(call, in, start);
    return true;
}

static bool take_cancel(tn_call *call, nexus_request *to)
{
    Temporal__Api__Nexus__V1__CancelOperationRequest *cancel = to->cancel_operation =
        TN_MSG(call->arena, temporal__api__nexus__v1__cancel_operation_request);
    char *token = param_text(call, "token");
    to->variant_case = TEMPORAL__API__NEXUS__V1__REQUEST__VARIANT_CANCEL_OPERATION;
    cancel->service = param_text(call, "service");
    cancel->operation = param_text(call, "operation");
    if (!*token)
        token = header_text(call, "nexus-operation-token");
    if (!*token)
        token = query_text(call, "token");
    cancel->operation_token = cancel->operation_id = token;
    if (!*token)
        refuse(call, "BAD_REQUEST", "missing operation token");
    return *token;
}

static void enter(tn_call *call, const way *w, dispatch_request *request)
{
    nexus_request *inner = TN_MSG(call->arena, temporal__api__nexus__v1__request);
    const char *timeout = header_text(call, "request-timeout");
    tn_blob packed = {NULL, 0};
    tn_http_out in = {0};
    uint64_t timeout_ns = 0;
    if (*timeout && !duration_of(timeout, &timeout_ns)) {
        refuse(call, "BAD_REQUEST", "invalid request timeout header");
        return;
    }
    tn_nexus_http_take(call, &in);
    take_headers(call, w, &in, inner);
    if (!(w->what == START ? take_start(call, &in, inner) : take_cancel(call, inner)))
        return;
    inner->endpoint = request->endpoint;
    inner->scheduled_time = tn_ts_from_ns(call->arena, (int64_t)tn_now_wall_ns());
    inner->capabilities = TN_MSG(call->arena, temporal__api__nexus__v1__request__capabilities);
    inner->capabilities->temporal_failure_responses = tn_nexus_http_knows_failures(call);
    request->timeout_ns = (int64_t)timeout_ns;
    tn_status status = tn_proto_pack(&inner->base, call->arena, &packed);
    TN_ASSERT(status == TN_OK);
    request->request = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    status = tn_proto_pack(&request->base, call->arena, &packed);
    TN_ASSERT(status == TN_OK);
    const tn_rpc_method *method =
        tn_rpc_find(w->by_endpoint ? TN_STR(SERVICE "DispatchByEndpoint")
                                   : TN_STR(SERVICE "DispatchByNamespaceAndTaskQueue"));
    TN_ASSERT(method);
    tn_http_enter(call, method, packed, tn_nexus_http_render(w->what == CANCEL));
}

static void handle(tn_call *call)
{
    const way *w = tn_http_route_user(call);
    if (!tn_nexus_http_is_open()) {
        refuse(call, "UNAVAILABLE", "service unavailable");
        return;
    }
    tn_arena_set_limit(call->arena, 0); /* the body's size has been checked */
    dispatch_request *request =
        TN_MSG(call->arena, temporal__api__nexusservice__v1__dispatch_nexus_task_request);
    tn_str verb = tn_call_http(call)->verb;
    if (w->by_endpoint && !to_endpoint(call, request))
        return;
    if (!w->by_endpoint) {
        request->namespace_ = param_text(call, "namespace");
        request->task_queue = param_text(call, "task_queue");
    }
    if (!tn_str_is(verb, "POST"))
        refuse(call, "BAD_REQUEST",
               tn_arena_printf(call->arena,
                               "invalid request method: expected POST, got \"" TN_STR_FMT "\"",
                               TN_STR_ARG(verb)));
    else if (w->what == NOWHERE)
        refuse(call, "NOT_FOUND", "not found");
    else
        enter(call, w, request);
}

void tn_nexus_register_dispatch(void)
{
#define ENDPOINT "/nexus/endpoints/{endpoint}/services/"
#define QUEUE "/namespaces/{namespace}/task-queues/{task_queue}/nexus-services/"
    static const way ways[] = {{true, START},  {true, CANCEL},  {true, NOWHERE},
                               {false, START}, {false, CANCEL}, {false, NOWHERE}};
    static const tn_http_route routes[] = {
        {"*", ENDPOINT "{service}/{operation}", handle, &ways[0]},
        {"*", ENDPOINT "{service}/{operation}/cancel", handle, &ways[1]},
        {"*", ENDPOINT "{service}/{operation}/{token}/cancel", handle, &ways[1]},
        {"*", ENDPOINT "**", handle, &ways[2]},
        {"*", QUEUE "{service}/{operation}", handle, &ways[3]},
        {"*", QUEUE "{service}/{operation}/cancel", handle, &ways[4]},
        {"*", QUEUE "{service}/{operation}/{token}/cancel", handle, &ways[4]},
        {"*", QUEUE "**", handle, &ways[5]}};
    tn_http_register(routes, TN_COUNT_OF(routes));
}
