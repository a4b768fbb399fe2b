/* SPDX-License-Identifier: MIT */
/* Nexus over HTTP: requests to handlers at addresses outside, and completions to who waits there. */
#include <ctype.h>
#include <stdio.h>
#include <time.h>

#include "history/machine/command.h"
#include "history/nexus.h"
#include "http/client.h"
#include "http/json.h"
#include "proto/proto.h"

#define TEMPORAL_FAILURE "temporal.api.failure.v1.Failure"
#define HEADERS_MORE 24
#define CAUSES_MAX 80

typedef Temporal__Api__Common__V1__Payload payload_msg;
typedef Temporal__Api__Common__V1__Payload__MetadataEntry metadata_entry;
typedef Temporal__Api__Failure__V1__Failure failure_msg;
typedef Temporal__Api__Nexus__V1__Failure nexus_failure;
typedef Temporal__Api__Nexus__V1__Failure__MetadataEntry nexus_metadata;
typedef Temporal__Api__Nexus__V1__Request nexus_request;

typedef struct hcall {
    tn_http_out out;
    void *call;
    bool cancel;
    size_t cap;
    tn_http_pair *headers;
} hcall;

static hcall *begin(tn_arena *arena, void *call, size_t n_headers)
{
    hcall *h = TN_NEW(arena, hcall);
    h->call = call;
    h->cap = n_headers + HEADERS_MORE;
    h->headers = TN_NEW_ARRAY(arena, tn_http_pair, h->cap);
    h->out.arena = arena;
    h->out.headers = h->headers;
    return h;
}

static void put_header(hcall *h, const char *name, const char *value)
{
    if (h->out.n_headers < h->cap)
        h->headers[h->out.n_headers++] = (tn_http_pair){tn_str_from(name), tn_str_from(value)};
}

/* All but letters, digits and the marks that mean nothing in a path or a query. */
static const char *escaped(tn_arena *arena, const char *s)
{
    char *out = tn_arena_alloc(arena, 3 * strlen(s) + 1), *at = out;
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            strchr("-_.~", c))
            *at++ = (char)c;
        else
            at += sprintf(at, "%%%02X", c);
    }
    *at = '\0';
    return out;
}

/* ---- payloads as bodies ---------------------------------------------------------------------- */

static const char *text_of(tn_arena *arena, ProtobufCBinaryData b)
{
    return tn_arena_printf(arena, "%.*s", (int)b.len, (const char *)b.data);
}

static const char *metadata(tn_arena *arena, const payload_msg *payload, const char *key)
{
    for (size_t i = 0; i < payload->n_metadata; i++)
        if (strcmp(payload->metadata[i]->key, key) == 0)
            return text_of(arena, payload->metadata[i]->value);
    return "";
}

/* False: the whole message has to travel. */
static bool put_plain_payload(hcall *h, const payload_msg *payload)
{
    static const struct {
        const char *encoding, *type;
        size_t n;
    } kinds[] = {{"json/plain", "application/json", 1},
                 {"binary/plain", "application/octet-stream", 1},
                 {"json/protobuf", "application/json; format=protobuf; message-type=\"%s\"", 2},
                 {"binary/protobuf", "application/x-protobuf; message-type=\"%s\"", 2},
                 {"binary/null", "", 1}};
    tn_arena *arena = h->out.arena;
    const char *encoding = metadata(arena, payload, "encoding"),
               *message = metadata(arena, payload, "messageType");
    if (strcmp(encoding, "unknown/nexus-content") == 0) {
        for (size_t i = 0; i < payload->n_metadata; i++)
            if (strcmp(payload->metadata[i]->key, "encoding") != 0)
                put_header(h, tn_arena_printf(arena, "Content-%s", payload->metadata[i]->key),
                           text_of(arena, payload->metadata[i]->value));
        return true;
    }
    for (size_t i = 0; i < TN_COUNT_OF(kinds); i++) {
        if (strcmp(encoding, kinds[i].encoding) != 0)
            continue;
        if (payload->n_metadata != kinds[i].n ||
            (kinds[i].n == 2 && (!*message || strpbrk(message, "\"\\"))))
            return false;
        put_header(
            h, "Content-Type",
            kinds[i].n == 2
                ? tn_arena_printf(arena,
                                  i == 2 ? "application/json; format=protobuf; message-type=\"%s\""
                                         : "application/x-protobuf; message-type=\"%s\"",
                                  message)
                : kinds[i].type);
        return true;
    }
    return false;
}

static void put_payload(hcall *h, const payload_msg *payload)
{
    if (!payload) {
        put_header(h, "Content-Type", "");
        return;
    }
    h->out.body = (tn_blob){payload->data.data, payload->data.len};
    if (put_plain_payload(h, payload))
        return;
    tn_status status = tn_proto_pack(&payload->base, h->out.arena, &h->out.body);
    TN_ASSERT(status == TN_OK);
    put_header(h, "Content-Type", "application/x-temporal-payload");
}

size_t tn_nexus_http_put_payload(tn_arena *arena, const payload_msg *payload, tn_http_pair *headers,
                                 size_t headers_max, tn_blob *out_body)
{
    hcall h = {.out = {.arena = arena}, .cap = headers_max, .headers = headers};
    put_payload(&h, payload);
    for (size_t i = 0; i < h.out.n_headers; i++) {
        char *name = tn_arena_strdup(arena, headers[i].name.p);
        for (char *at = name; *at; at++)
            *at = (char)tolower((unsigned char)*at);
        headers[i].name = tn_str_from(name);
    }
    *out_body = h.out.body;
    return h.out.n_headers;
}

static void add_metadata(tn_arena *arena, payload_msg *to, const char *key, const char *value)
{
    metadata_entry *entry = TN_MSG(arena, temporal__api__common__v1__payload__metadata_entry);
    entry->key = (char *)(uintptr_t)key;
    entry->value = (ProtobufCBinaryData){strlen(value), (uint8_t *)(uintptr_t)value};
    to->metadata[to->n_metadata++] = entry;
}

/* The value of a parameter of a media type, without its quotes; NULL: there is none. */
static const char *type_parameter(tn_arena *arena, const char *type, const char *name)
{
    const char *at = strstr(type, name);
    if (!at)
        return NULL;
    at += strlen(name);
    if (*at != '"')
        return tn_arena_printf(arena, "%.*s", (int)strcspn(at, "; "), at);
    return tn_arena_printf(arena, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
}

payload_msg *tn_nexus_http_payload(const tn_http_out *out)
{
    tn_arena *arena = out->arena;
    payload_msg *to = TN_MSG(arena, temporal__api__common__v1__payload), *whole;
    const char *type =
        tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(tn_http_got(out, "content-type")));
    size_t n = strcspn(type, ";");
    const char *media = tn_arena_printf(arena, "%.*s", (int)n, type);
    const char *message = type[n] ? type_parameter(arena, type + n, "message-type=") : NULL;
    if (strcmp(media, "application/x-temporal-payload") == 0 &&
        TN_PROTO_UNPACK(temporal__api__common__v1__payload, out->answer, arena, &whole, NULL) ==
            TN_OK)
        return whole;
    to->metadata = TN_NEW_ARRAY(arena, metadata_entry *, 2);
    to->data = (ProtobufCBinaryData){out->answer.n, (uint8_t *)(uintptr_t)out->answer.p};
    if (!*type && !out->answer.n) {
        add_metadata(arena, to, "encoding", "binary/null");
    } else if (message && *message && strcmp(media, "application/json") == 0) {
        add_metadata(arena, to, "encoding", "json/protobuf");
        add_metadata(arena, to, "messageType", message);
    } else if (message && *message && strcmp(media, "application/x-protobuf") == 0) {
        add_metadata(arena, to, "encoding", "binary/protobuf");
        add_metadata(arena, to, "messageType", message);
    } else if (!type[n] && strcmp(media, "application/json") == 0) {
        add_metadata(arena, to, "encoding", "json/plain");
    } else if (!type[n] && strcmp(media, "application/octet-stream") == 0) {
        add_metadata(arena, to, "encoding", "binary/plain");
    } else {
        add_metadata(arena, to, "encoding", "unknown/nexus-content");
        add_metadata(arena, to, "type", type);
    }
    return to;
}

/* ---- failures as bodies ---------------------------------------------------------------------- */

const char *tn_nexus_json_text(const tn_json_tape *tape, uint32_t object, const char *name,
                               tn_arena *arena)
{
    uint32_t at = tn_json_member(tape, object, tn_str_from(name));
    tn_str text;
    if (!at || tape->nodes[at].kind != TN_JSON_STRING || !tn_json_string(tape, at, arena, &text))
        return "";
    return tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(text));
}

static char *member_text(const tn_json_tape *tape, uint32_t object, const char *name,
                         tn_arena *arena)
{
    return (char *)(uintptr_t)tn_nexus_json_text(tape, object, name, arena);
}

static void take_metadata(const tn_json_tape *tape, uint32_t object, tn_arena *arena,
                          nexus_failure *to)
{
    uint32_t meta = tn_json_member(tape, object, TN_STR("metadata"));
    if (!meta || tape->nodes[meta].kind != TN_JSON_OBJECT)
        return;
    to->metadata = TN_NEW_ARRAY(arena, nexus_metadata *, tn_json_count(tape, meta) + 1);
    for (uint32_t at = meta + 1; at < tape->nodes[meta].next; at = tape->nodes[at + 1].next) {
        tn_str key, value;
        if (tape->nodes[at + 1].kind != TN_JSON_STRING || !tn_json_string(tape, at, arena, &key) ||
            !tn_json_string(tape, at + 1, arena, &value))
            continue;
        nexus_metadata *entry = TN_MSG(arena, temporal__api__nexus__v1__failure__metadata_entry);
        entry->key = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(key));
        entry->value = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(value));
        to->metadata[to->n_metadata++] = entry;
    }
}

/* The failure that a body holds, and that have caused it; NULL: it holds none. */
failure_msg *tn_nexus_http_failure(const tn_http_out *out)
{
    tn_arena *arena = out->arena;
    nexus_failure *first = NULL, **at = &first;
    tn_json_tape tape;
    uint32_t object = 0;
    bool good = tn_json_tape_read(&tape, tn_str_of_blob(out->answer));
    for (int i = 0; good && i < CAUSES_MAX && tape.nodes[object].kind == TN_JSON_OBJECT; i++) {
        nexus_failure *one = TN_MSG(arena, temporal__api__nexus__v1__failure);
        uint32_t details = tn_json_member(&tape, object, TN_STR("details"));
        one->message = member_text(&tape, object, "message", arena);
        one->stack_trace = member_text(&tape, object, "stackTrace", arena);
        take_metadata(&tape, object, arena, one);
        if (details) {
            tn_str raw = tn_arena_str(arena, tn_json_raw(&tape, details));
            one->details = (ProtobufCBinaryData){raw.n, (uint8_t *)(uintptr_t)raw.p};
        }
        *at = one;
        at = &one->cause;
        object = tn_json_member(&tape, object, TN_STR("cause"));
        if (!object)
            break;
    }
    tn_json_tape_done(&tape);
    return tn_nexus_failure_of(arena, first);
}

static void put_failure(hcall *h, tn_blob packed)
{
    tn_arena *arena = h->out.arena;
    static char none[] = "";
    failure_msg *failure;
    tn_buf text = {0};
    put_header(h, "Content-Type", "application/json");
    if (TN_PROTO_UNPACK(temporal__api__failure__v1__failure, packed, arena, &failure, NULL) !=
        TN_OK)
        failure = TN_MSG(arena, temporal__api__failure__v1__failure);
    tn_buf_printf(&text, "{\"message\":");
    tn_json_put_string(&text, tn_str_from(failure->message));
    if (*failure->stack_trace) {
        tn_buf_printf(&text, ",\"stackTrace\":");
        tn_json_put_string(&text, tn_str_from(failure->stack_trace));
    }
    failure->message = failure->stack_trace = none;
    tn_buf_printf(&text, ",\"metadata\":{\"type\":\"" TEMPORAL_FAILURE "\"},\"details\":");
    tn_http_json_put(&failure->base, arena, &text);
    tn_buf_printf(&text, "}");
    h->out.body = tn_arena_blob(arena, tn_buf_blob(&text));
    tn_buf_done(&text);
}

/* ---- what an answer says --------------------------------------------------------------------- */

static const struct {
    int status;
    const char *type;
} error_types[] = {{400, "BAD_REQUEST"},        {401, "UNAUTHENTICATED"}, {403, "UNAUTHORIZED"},
                   {404, "NOT_FOUND"},          {408, "REQUEST_TIMEOUT"}, {409, "CONFLICT"},
                   {429, "RESOURCE_EXHAUSTED"}, {500, "INTERNAL"},        {501, "NOT_IMPLEMENTED"},
                   {503, "UNAVAILABLE"},        {520, "UPSTREAM_TIMEOUT"}};

static const char *error_type(int status)
{
    for (size_t i = 0; i < TN_COUNT_OF(error_types); i++)
        if (error_types[i].status == status)
            return error_types[i].type;
    return NULL;
}

int tn_nexus_http_status(const char *type)
{
    for (size_t i = 0; i < TN_COUNT_OF(error_types); i++)
        if (strcmp(error_types[i].type, type) == 0)
            return error_types[i].status;
    return 500;
}

static int32_t retry_of(const tn_http_out *out)
{
    tn_str said = tn_http_got(out, "nexus-request-retryable");
    if (tn_str_is(said, "true"))
        return TEMPORAL__API__ENUMS__V1__NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR__NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE;
    if (tn_str_is(said, "false"))
        return TEMPORAL__API__ENUMS__V1__NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR__NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE;
    return 0;
}

static void take_error(const tn_http_out *out, tn_nexus_result *result)
{
    tn_arena *arena = out->arena;
    const char *type = error_type(out->status);
    failure_msg *cause = type ? tn_nexus_http_failure(out) : NULL;
    int32_t retry = retry_of(out);
    if (!type) { /* a wrong address, a proxy: none of the protocol's words */
        bool again = out->status < 400 || out->status >= 500;
        result->kind = again ? TN_NEXUS_AGAIN : TN_NEXUS_REFUSED;
        result->failure = tn_nexus_call_failure(
            arena, tn_arena_printf(arena, "unexpected response status: %d", out->status), !again);
        return;
    }
    if (cause && cause->failure_info_case ==
                     TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_NEXUS_HANDLER_FAILURE_INFO) {
        result->failure = cause;
        retry = (int32_t)cause->nexus_handler_failure_info->retry_behavior;
    } else {
        result->failure = tn_nexus_handler_failure(arena, type, "");
        result->failure->nexus_handler_failure_info->retry_behavior =
            (Temporal__Api__Enums__V1__NexusHandlerErrorRetryBehavior)retry;
        result->failure->cause = cause;
    }
    result->kind = tn_nexus_retryable(type, retry) ? TN_NEXUS_AGAIN : TN_NEXUS_REFUSED;
}

/* Nexus-Link: <url>; type="t", <url>; type="t" */
void tn_nexus_http_links(const tn_http_out *out, tn_nexus_result *result)
{
    tn_arena *arena = out->arena;
    result->links = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Link *, out->n_got + 1);
    for (size_t i = 0; i < out->n_got; i++) {
        if (!tn_str_is(out->got[i].name, "nexus-link"))
            continue;
        const char *text = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(out->got[i].value));
        const char *open = strchr(text, '<'), *close = open ? strchr(open, '>') : NULL;
        const char *type = close ? type_parameter(arena, close, "type=") : NULL;
        Temporal__Api__Common__V1__Link *link =
            type ? tn_nexus_link_parse(
                       arena, tn_arena_printf(arena, "%.*s", (int)(close - open - 1), open + 1),
                       type)
                 : NULL;
        if (link)
            result->links[result->n_links++] = link;
    }
}

static void take_token(const tn_http_out *out, tn_nexus_result *result)
{
    tn_json_tape tape;
    result->kind = TN_NEXUS_ASYNC;
    result->token = "";
    if (tn_json_tape_read(&tape, tn_str_of_blob(out->answer)) &&
        tape.nodes[0].kind == TN_JSON_OBJECT) {
        result->token = member_text(&tape, 0, "token", out->arena);
        if (!*result->token)
            result->token = member_text(&tape, 0, "id", out->arena);
    }
    tn_json_tape_done(&tape);
    if (*result->token)
        return;
    result->kind = TN_NEXUS_REFUSED;
    result->failure =
        tn_nexus_call_failure(out->arena, "invalid response: the operation has no token", true);
}

static void handler_answered(tn_http_out *out)
{
    hcall *h = TN_CONTAINER_OF(out, hcall, out);
    tn_nexus_result result = {.kind = TN_NEXUS_AGAIN};
    if (!out->status) {
        result.failure = tn_nexus_call_failure(out->arena, out->problem, false);
    } else if (h->cancel && out->status >= 200 && out->status < 300) {
        result.kind = TN_NEXUS_CANCEL_OK;
    } else if (out->status == 200) {
        result.kind = TN_NEXUS_SYNC;
        result.payload = tn_nexus_http_payload(out);
        tn_nexus_http_links(out, &result);
    } else if (out->status == 201) {
        take_token(out, &result);
        tn_nexus_http_links(out, &result);
    } else if (out->status == 424 && !h->cancel) {
        result.kind = tn_str_is(tn_http_got(out, "nexus-operation-state"), "canceled")
                          ? TN_NEXUS_CANCELED
                          : TN_NEXUS_FAILED;
        result.failure = tn_nexus_http_failure(out);
        if (!result.failure)
            result.failure = TN_MSG(out->arena, temporal__api__failure__v1__failure);
    } else {
        take_error(out, &result);
    }
    tn_nexus_http_answered(h->call, &result);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void put_call_headers(hcall *h, const nexus_request *request, uint64_t timeout_ns)
{
    tn_arena *arena = h->out.arena;
    for (size_t i = 0; i < request->n_header; i++)
        put_header(h, request->header[i]->key, request->header[i]->value);
    if (!h->cancel)
        put_header(h, "temporal-nexus-failure-support", "true");
    put_header(h, "User-Agent", "tenon");
    put_header(h, "Request-Timeout",
               tn_arena_printf(arena, "%llums", (unsigned long long)(timeout_ns / TN_MS)));
}

static const char *base_of(tn_arena *arena, const char *url)
{
    size_t n = strlen(url);
    return tn_arena_printf(arena, "%.*s", (int)(n && url[n - 1] == '/' ? n - 1 : n), url);
}

void tn_nexus_to_url(tn_arena *arena, void *call, const nexus_request *request, const char *url,
                     uint64_t timeout_ns)
{
    bool cancel =
        request->variant_case == TEMPORAL__API__NEXUS__V1__REQUEST__VARIANT_CANCEL_OPERATION;
    hcall *h = begin(arena, call, request->n_header);
    h->cancel = cancel;
    h->out.timeout_ns = timeout_ns;
    h->out.done = handler_answered;
    put_call_headers(h, request, timeout_ns);
    if (cancel) {
        const Temporal__Api__Nexus__V1__CancelOperationRequest *c = request->cancel_operation;
        h->out.url = tn_arena_printf(arena, "%s/%s/%s/cancel", base_of(arena, url),
                                     escaped(arena, c->service), escaped(arena, c->operation));
        put_header(h, "Nexus-Operation-Token", c->operation_token);
        put_header(h, "Content-Type", "");
    } else {
        const Temporal__Api__Nexus__V1__StartOperationRequest *s = request->start_operation;
        h->out.url = tn_arena_printf(arena, "%s/%s/%s?callback=%s", base_of(arena, url),
                                     escaped(arena, s->service), escaped(arena, s->operation),
                                     escaped(arena, s->callback));
        put_header(h, "Nexus-Request-Id", s->request_id);
        for (size_t i = 0; i < s->n_callback_header; i++)
            put_header(h, tn_arena_printf(arena, "Nexus-Callback-%s", s->callback_header[i]->key),
                       s->callback_header[i]->value);
        for (size_t i = 0; i < s->n_links; i++)
            put_header(
                h, "Nexus-Link",
                tn_arena_printf(arena, "<%s>; type=\"%s\"", s->links[i]->url, s->links[i]->type));
        put_payload(h, s->payload);
    }
    tn_http_post(&h->out);
}

/* ---- completions ----------------------------------------------------------------------------- */

static const char *date(tn_arena *arena, uint64_t ns, const char *format)
{
    time_t seconds = (time_t)(ns / TN_SEC);
    struct tm parts;
    char text[64] = "";
    if (gmtime_r(&seconds, &parts))
        strftime(text, sizeof(text), format, &parts);
    return tn_arena_strdup(arena, text);
}

static void receiver_answered(tn_http_out *out)
{
    hcall *h = TN_CONTAINER_OF(out, hcall, out);
    tn_nexus_result result = {.kind = TN_NEXUS_SYNC};
    if (!out->status) {
        result.kind = TN_NEXUS_AGAIN;
        result.token = out->problem;
    } else if (out->status < 200 || out->status >= 300) {
        const char *type = error_type(out->status);
        bool again = type ? tn_nexus_retryable(type, retry_of(out))
                          : out->status < 400 || out->status >= 500;
        result.kind = again ? TN_NEXUS_AGAIN : TN_NEXUS_REFUSED;
        result.token =
            type ? tn_arena_printf(out->arena, "handler error (%s)", type)
                 : tn_arena_printf(out->arena, "unexpected response status: %d", out->status);
    }
    tn_nexus_http_answered(h->call, &result);
}

static void put_links(hcall *h, const Tenon__NexusCompletion *completion)
{
    Temporal__Api__Common__V1__Link *link;
    for (size_t i = 0; i < completion->n_links && h->out.n_headers + 8 < h->cap; i++) {
        tn_blob packed = {completion->links[i].data, completion->links[i].len};
        if (TN_PROTO_UNPACK(temporal__api__common__v1__link, packed, h->out.arena, &link, NULL) ==
                TN_OK &&
            link->variant_case == TEMPORAL__API__COMMON__V1__LINK__VARIANT_WORKFLOW_EVENT)
            put_header(h, "Nexus-Link",
                       tn_arena_printf(h->out.arena,
                                       "<%s>; type=\"temporal.api.common.v1.Link.WorkflowEvent\"",
                                       tn_nexus_link_url(h->out.arena, link->workflow_event)));
    }
}

void tn_nexus_post_completion(tn_arena *arena, void *call,
                              const Temporal__Api__Common__V1__Callback__Nexus *callback,
                              const Tenon__NexusCompletion *completion, uint64_t close_ns,
                              tn_str ns_name)
{
    hcall *h = begin(arena, call, callback->n_header + completion->n_links);
    bool named = false;
    payload_msg *payload = NULL;
    h->out.url = callback->url;
    h->out.timeout_ns = (uint64_t)tn_dyn_i64(TN_DYN_CALLBACK_TIMEOUT, ns_name, TN_STR(""));
    h->out.done = receiver_answered;
    for (size_t i = 0; i < callback->n_header; i++) {
        named = named || strcmp(callback->header[i]->key, "nexus-operation-token") == 0;
        put_header(h, callback->header[i]->key, callback->header[i]->value);
    }
    put_header(h, "User-Agent", "tenon");
    put_header(h, "Nexus-Operation-State",
               !completion->unsuccessful ? "succeeded"
               : completion->canceled    ? "canceled"
                                         : "failed");
    if (!named && *completion->token)
        put_header(h, "Nexus-Operation-Token", completion->token);
    if (completion->start_ns)
        put_header(h, "Nexus-Operation-Start-Time",
                   date(arena, completion->start_ns, "%a, %d %b %Y %H:%M:%S GMT"));
    if (close_ns)
        put_header(h, "Nexus-Operation-Close-Time",
                   tn_arena_printf(arena, "%s.%09lluZ", date(arena, close_ns, "%Y-%m-%dT%H:%M:%S"),
                                   (unsigned long long)(close_ns % TN_SEC)));
    put_links(h, completion);
    if (completion->unsuccessful) {
        put_failure(h, (tn_blob){completion->failure.data, completion->failure.len});
    } else {
        tn_blob packed = {completion->payload.data, completion->payload.len};
        if (completion->has_payload && TN_PROTO_UNPACK(temporal__api__common__v1__payload, packed,
                                                       arena, &payload, NULL) != TN_OK)
            payload = NULL;
        put_payload(h, payload);
    }
    tn_http_post(&h->out);
}
