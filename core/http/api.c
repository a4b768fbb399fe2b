/* SPDX-License-Identifier: MIT */
/* A request's way: is its host allowed, does a raw route have it, which method is it, what does it say; then it enters
 * the API, and what comes back becomes JSON. */
#include "http/private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "config/dynconfig.h"
#include "metrics/metrics.h"

typedef struct api_route {
    const tn_http_binding *binding;
    http_pattern *pattern;
    tn_counter *requests;
} api_route;

typedef struct raw_route {
    const tn_http_route *route;
    http_pattern *pattern;
} raw_route;

/* Made by tn_http_prepare, read-only afterwards. */
static api_route *routes; /* in the order of the files */
static raw_route *raws;
static size_t n_raws;
static char **forwarded; /* lower case */
static size_t n_forwarded;

/* ---- answers ---- */

/* The API's content types are matched as a whole: a list, or a type with a weight, asks for none of them. */
static bool style_of(tn_str type, http_style *out)
{
    static const struct {
        const char *type;
        http_style style;
    } types[] = {
        {"application/json", {.shorthand = true}},
        {"application/json+pretty", {.pretty = true, .shorthand = true}},
        {"application/json+no-payload-shorthand", {.pretty = false}},
        {"application/json+pretty+no-payload-shorthand", {.pretty = true}},
    };
    for (size_t i = 0; i < TN_COUNT_OF(types); i++) {
        if (tn_str_is(type, types[i].type)) {
            *out = types[i].style;
            return true;
        }
    }
    return false;
}

static http_style style_in(const tn_call *call)
{
    tn_str type = tn_http_header(call, "content-type");
    const char *semicolon = type.n ? memchr(type.p, ';', type.n) : NULL;
    http_style style = {.shorthand = true};

    if (semicolon)
        type.n = (size_t)(semicolon - type.p);
    while (type.n && type.p[type.n - 1] == ' ')
        type.n--;
    style_of(type, &style);
    return style;
}

static http_style style_out(const tn_call *call)
{
    const tn_http_request *r = tn_call_http(call);
    bool pretty = r->query.n && http_query_has(r->query, "pretty");
    bool full = r->query.n && http_query_has(r->query, "noPayloadShorthand");
    http_style style;

    if (pretty || full)
        return (http_style){.pretty = pretty, .shorthand = !full};
    if (style_of(tn_http_header(call, "accept"), &style))
        return style;
    return style_in(call);
}

static tn_str content_type(http_style style)
{
    if (style.shorthand)
        return style.pretty ? TN_STR("application/json+pretty") : TN_STR("application/json");
    return style.pretty ? TN_STR("application/json+pretty+no-payload-shorthand")
                        : TN_STR("application/json+no-payload-shorthand");
}

static void give(tn_call *call, tn_buf *text, tn_http_answer *out)
{
    out->body = tn_arena_blob(call->arena, tn_buf_blob(text));
    tn_buf_done(text);
}

static void render_reply(tn_call *call, const ProtobufCMessage *response, tn_http_answer *out)
{
    http_style style = style_out(call);
    tn_buf text = {0};

    http_encode(response, style, call->arena, &text);
    out->status = 200;
    out->content_type = content_type(style);
    give(call, &text, out);
}

static uint16_t status_of(tn_grpc_code code)
{
    static const uint16_t statuses[] = {
        [TN_GRPC_OK] = 200,
        [TN_GRPC_CANCELLED] = 499,
        [TN_GRPC_UNKNOWN] = 500,
        [TN_GRPC_INVALID_ARGUMENT] = 400,
        [TN_GRPC_DEADLINE_EXCEEDED] = 504,
        [TN_GRPC_NOT_FOUND] = 404,
        [TN_GRPC_ALREADY_EXISTS] = 409,
        [TN_GRPC_PERMISSION_DENIED] = 403,
        [TN_GRPC_RESOURCE_EXHAUSTED] = 429,
        [TN_GRPC_FAILED_PRECONDITION] = 400,
        [TN_GRPC_ABORTED] = 409,
        [TN_GRPC_OUT_OF_RANGE] = 400,
        [TN_GRPC_UNIMPLEMENTED] = 501,
        [TN_GRPC_INTERNAL] = 500,
        [TN_GRPC_UNAVAILABLE] = 503,
        [TN_GRPC_DATA_LOSS] = 500,
        [TN_GRPC_UNAUTHENTICATED] = 401,
    };
    return (size_t)code < TN_COUNT_OF(statuses) ? statuses[code] : 500;
}

/* google.rpc.Status; a fault without a detail needs no message made of it. */
static void render_fail(tn_call *call, const tn_fault *fault, tn_http_answer *out)
{
    http_style style = style_out(call);
    tn_blob bytes = tn_fault_status_details(call->arena, fault);
    ProtobufCMessage *status;
    tn_buf text = {0};

    if (!bytes.n || tn_proto_unpack(tn_proto_message(TN_STR("google.rpc.Status")), bytes,
                                    call->arena, &status, NULL) != TN_OK) {
        const char *line = style.pretty ? "\n  " : "", *space = style.pretty ? " " : "";
        tn_buf_printf(&text, "{%s\"code\":%s%d", line, space, (int)fault->code);
        if (fault->message.n) {
            tn_buf_printf(&text, ",%s\"message\":%s", line, space);
            tn_json_put_string(&text, fault->message);
        }
        tn_buf_printf(&text, "%s}", style.pretty ? "\n" : "");
    } else {
        http_encode(status, style, call->arena, &text);
    }
    out->status = status_of(fault->code);
    out->content_type = content_type(style);
    give(call, &text, out);
}

static const tn_http_render render = {.reply = render_reply, .fail = render_fail};

/* ---- headers that go into the API ---- */

static bool is_forwarded(tn_str name)
{
    static const char *const always[] = {"authorization", "authorization-extras", "client-name",
                                         "client-version"};
    for (size_t i = 0; i < TN_COUNT_OF(always); i++) {
        if (tn_str_is(name, always[i]))
            return true;
    }
    for (size_t i = 0; i < n_forwarded; i++) {
        size_t n = strlen(forwarded[i]);
        if (n && forwarded[i][n - 1] == '*' ? tn_str_starts(name, (tn_str){forwarded[i], n - 1})
                                            : tn_str_is(name, forwarded[i]))
            return true;
    }
    return false;
}

/* Where the request came through, and from whom we have it. */
static tn_str forwarded_for(const tn_call *call)
{
    tn_str came = tn_http_header(call, "x-forwarded-for"), peer = tn_call_peer(call);
    const char *colon = peer.n ? memrchr(peer.p, ':', peer.n) : NULL, *text;

    if (colon)
        peer.n = (size_t)(colon - peer.p);
    if (!came.n)
        return peer;
    text = tn_arena_printf(call->arena, TN_STR_FMT ", " TN_STR_FMT, TN_STR_ARG(came),
                           TN_STR_ARG(peer));
    return text ? tn_str_from(text) : peer;
}

static bool printable(tn_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if ((uint8_t)s.p[i] < 0x20 || (uint8_t)s.p[i] > 0x7e)
            return false;
    }
    return true;
}

static tn_str header(const tn_call *call, const char *lower_case_name)
{
    tn_str name = tn_str_from(lower_case_name), value = {NULL, 0};
    char prefixed[200];

    if (tn_str_is(name, "x-forwarded-for"))
        return forwarded_for(call);
    if (tn_str_is(name, "x-forwarded-host")) {
        value = tn_http_header(call, lower_case_name);
        return value.n ? value : tn_call_http(call)->host;
    }
    if (is_forwarded(name))
        value = tn_http_header(call, lower_case_name);
    if (!value.n && name.n < 160) {
        snprintf(prefixed, sizeof(prefixed), "grpc-metadata-%s", lower_case_name);
        value = tn_http_header(call, prefixed);
    }
    if (value.n)
        return printable(value) ? value : (tn_str){NULL, 0};
    if (tn_str_is(name, "client-name"))
        return TN_STR("temporal-server-http");
    return tn_str_is(name, "client-version") ? TN_STR(PACKAGE_VERSION) : value;
}

/* ---- the host ---- */

/* One pattern; '*' is any text. */
static bool wild_matches(tn_str pattern, tn_str text)
{
    size_t p = 0, h = 0, star = SIZE_MAX, mark = 0;

    while (h < text.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            mark = h;
        } else if (p < pattern.n && pattern.p[p] == text.p[h]) {
            p++, h++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            h = ++mark;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

bool tn_http_listed(tn_str all, tn_str text)
{
    while (all.n) {
        const char *comma = memchr(all.p, ',', all.n);
        tn_str one = {all.p, comma ? (size_t)(comma - all.p) : all.n};
        size_t used = one.n + (comma != NULL);
        if (wild_matches(one, text))
            return true;
        all.p += used;
        all.n -= used;
    }
    return false;
}

static bool host_allowed(tn_str host)
{
    return tn_http_listed(tn_dyn_text(TN_DYN_FRONTEND_HTTP_ALLOWED_HOSTS), host);
}

/* ---- the request ---- */

/* Ours, not the API's: without a detail. */
static void refuse(tn_call *call, tn_grpc_code code, const char *text)
{
    const tn_fault fault = {.code = code, .message = tn_str_from(text)};
    tn_call_fail(call, &fault);
}

static bool blank(tn_blob body)
{
    for (size_t i = 0; i < body.n; i++) {
        if (!memchr(" \t\r\n", body.p[i], 4))
            return false;
    }
    return true;
}

/* The request's fields, one after the other; unpacking merges them, and the last one of a field counts. */
static bool put_request(tn_call *call, const api_route *route, const tn_rpc_method *method,
                        const tn_http_pair *params, size_t n_params, tn_buf *out,
                        http_problem *problem)
{
    const tn_http_request *r = tn_call_http(call);
    const char *body = route->binding->body;
    bool shorthand = style_in(call).shorthand;
    tn_str json = tn_str_of_blob(r->body);

    if (strcmp(body, "*") == 0) {
        if (!blank(r->body) &&
            !http_decode(method->input, json, shorthand, call->arena, out, problem))
            return false;
    } else if (body[0] && !blank(r->body)) {
        const ProtobufCFieldDescriptor *f = http_field(method->input, tn_str_from(body));
        http_open open = http_begin(out, f->id, r->body.n);
        if (!http_decode(f->descriptor, json, shorthand, call->arena, out, problem))
            return false;
        http_end(out, open);
    }
    for (size_t i = 0; i < n_params; i++) {
        if (!http_put_path(method->input, params[i].name, &params[i].value, 1, out, problem))
            return false;
    }
    return strcmp(body, "*") == 0 || !r->query.n ||
           http_put_query(method->input, r->query, params, n_params, call->arena, out, problem);
}

static void enter(tn_call *call, const api_route *route, const tn_http_pair *params,
                  size_t n_params)
{
    const tn_rpc_method *method = tn_rpc_find(tn_str_from(route->binding->path));
    http_problem problem = {{0}};
    tn_buf message = {0};
    tn_blob packed;

    tn_counter_add(route->requests, 1);
    if (!host_allowed(tn_call_http(call)->host)) {
        refuse(call, TN_GRPC_PERMISSION_DENIED, "Host not allowed");
        return;
    }
    if (!method) {
        refuse(call, TN_GRPC_UNIMPLEMENTED, "unknown method");
        return;
    }
    if (!put_request(call, route, method, params, n_params, &message, &problem)) {
        tn_buf_done(&message);
        refuse(call, TN_GRPC_INVALID_ARGUMENT, problem.text);
        return;
    }
    packed = tn_arena_blob(call->arena, tn_buf_blob(&message));
    if (message.n && !packed.p) {
        tn_buf_done(&message);
        refuse(call, TN_GRPC_RESOURCE_EXHAUSTED, "the request takes too much memory");
        return;
    }
    tn_buf_done(&message);
    tn_http_enter(call, method, packed, NULL);
}

static bool raw(tn_call *call, const http_path *path)
{
    const tn_http_request *r = tn_call_http(call);
    tn_http_pair params[HTTP_PARAMS_MAX], *kept;
    size_t n = 0;

    for (size_t i = 0; i < n_raws; i++) {
        int matched;
        if (strcmp(raws[i].route->verb, "*") != 0 && !tn_str_is(r->verb, raws[i].route->verb))
            continue;
        matched = http_pattern_match(raws[i].pattern, path, call->arena, params, &n);
        if (!matched)
            continue;
        kept = matched > 0 ? TN_NEW_ARRAY(call->arena, tn_http_pair, n + 1) : NULL;
        if (!kept) {
            refuse(call, TN_GRPC_INVALID_ARGUMENT, "Bad Request");
            return true;
        }
        memcpy(kept, params, n * sizeof(params[0]));
        tn_http_set_params(call, kept, n);
        tn_http_set_route(call, raws[i].route);
        raws[i].route->handle(call);
        return true;
    }
    return false;
}

static void request(tn_call *call)
{
    const tn_http_request *r = tn_call_http(call);
    tn_http_pair params[HTTP_PARAMS_MAX];
    http_path path;
    bool other_verb = false;
    size_t n = 0;

    if (!http_path_cut(r->path, &path)) {
        refuse(call, TN_GRPC_NOT_FOUND, "Not Found");
        return;
    }
    if (raw(call, &path))
        return;
    for (size_t i = tn_http_binding_count; i-- > 0;) {
        bool verb = tn_str_is(r->verb, routes[i].binding->verb);
        int matched = 0;
        if (verb || !other_verb)
            matched = http_pattern_match(routes[i].pattern, &path, call->arena, params, &n);
        if (!matched)
            continue;
        if (!verb) {
            other_verb = true;
        } else if (matched < 0) {
            refuse(call, TN_GRPC_INVALID_ARGUMENT, "malformed escape in the path");
            return;
        } else {
            enter(call, &routes[i], params, n);
            return;
        }
    }
    if (other_verb)
        refuse(call, TN_GRPC_UNIMPLEMENTED, "Method Not Allowed");
    else
        refuse(call, TN_GRPC_NOT_FOUND, "Not Found");
}

/* ---- preparation ---- */

static void prepare_routes(void)
{
    routes = tn_xcalloc(tn_http_binding_count + 1, sizeof(routes[0]));
    for (size_t i = 0; i < tn_http_binding_count; i++) {
        tn_label operation =
            TN_LABEL_Z("operation", strrchr(tn_http_binding_table[i].path, '/') + 1);
        routes[i].binding = &tn_http_binding_table[i];
        routes[i].pattern = http_pattern_compile(tn_http_binding_table[i].pattern);
        routes[i].requests = tn_metrics_counter("http_service_requests",
                                                "API requests that came over HTTP", &operation, 1);
        TN_ASSERT(routes[i].pattern);
    }
}

static void prepare_raws(void)
{
    const tn_http_route *route;

    for (n_raws = 0; (route = tn_http_route_at(n_raws)) != NULL; n_raws++) {
        raws = tn_xreallocarray(raws, n_raws + 1, sizeof(raws[0]));
        raws[n_raws] = (raw_route){route, http_pattern_compile(route->pattern)};
        TN_ASSERT(raws[n_raws].pattern);
    }
}

void tn_http_prepare(const tn_http_settings *settings)
{
    static bool done;

    if (done)
        return;
    done = true;
    http_openapi_register();
    prepare_routes();
    prepare_raws();
    n_forwarded = settings->n_forwarded;
    forwarded = tn_xcalloc(n_forwarded + 1, sizeof(forwarded[0]));
    for (size_t i = 0; i < n_forwarded; i++) {
        forwarded[i] = tn_xstrdup(settings->forwarded[i]);
        for (char *p = forwarded[i]; *p; p++) {
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p + ('a' - 'A'));
        }
    }
}

const tn_http_hooks *tn_http_api(void)
{
    static const tn_http_hooks hooks = {.request = request, .header = header, .render = &render};
    return &hooks;
}
