/* SPDX-License-Identifier: MIT */
/* Requests that are no gRPC, on a port that speaks HTTP: their intake, their way into the API, and their answers, over
 * HTTP/2 (here) and HTTP/1.1 (http1.c).  What stands in them is hooks->request's matter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rpc/private.h"

#define ANSWER_HEADERS_MAX 32

static const tn_http_route *const *routes;
static size_t route_count;

void tn_http_register(const tn_http_route *rows, size_t count)
{
    const tn_http_route **all =
        tn_xreallocarray((void *)(uintptr_t)routes, route_count + count, sizeof(all[0]));

    for (size_t i = 0; i < count; i++)
        all[route_count++] = &rows[i];
    routes = all;
}

const tn_http_route *tn_http_route_at(size_t index)
{
    return index < route_count ? routes[index] : NULL;
}

/* ---- what handlers ask ---- */

const tn_http_request *tn_call_http(const tn_call *call)
{
    const rpc_http *http = rpc_call_of(call)->http;
    return http ? &http->pub : NULL;
}

tn_str tn_http_param(const tn_call *call, const char *name)
{
    const rpc_http *http = rpc_call_of(call)->http;

    for (size_t i = 0; i < http->n_params; i++) {
        if (tn_str_is(http->params[i].name, name))
            return http->params[i].value;
    }
    return (tn_str){NULL, 0};
}

void tn_http_set_params(tn_call *call, const tn_http_pair *params, size_t n)
{
    rpc_http *http = rpc_call_of(call)->http;
    http->params = params;
    http->n_params = n;
}

void tn_http_set_route(tn_call *call, const tn_http_route *route)
{
    rpc_call_of(call)->http->route = route;
}

const void *tn_http_route_user(const tn_call *call)
{
    const tn_http_route *route = rpc_call_of(call)->http->route;
    return route ? route->user : NULL;
}

/* ---- in ---- */

void rpc_http_call_free(rpc_call *call)
{
    /* The arena holds the struct: this comes before its end. */
    if (call->http)
        tn_buf_done(&call->http->body);
}

/* "/path?query", or what a proxy is told: "http://host/path?query". */
static void take_target(rpc_call *call, tn_str target)
{
    rpc_http *http = call->http;
    const char *rest, *mark, *end;
    size_t scheme = tn_str_starts(target, TN_STR("http://"))    ? 7
                    : tn_str_starts(target, TN_STR("https://")) ? 8
                                                                : 0;

    target = tn_arena_str(call->pub.arena, target);
    end = target.p + target.n;
    rest = target.p;
    if (scheme) {
        rest = memchr(target.p + scheme, '/', target.n - scheme);
        if (rest)
            http->pub.host = (tn_str){target.p + scheme, (size_t)(rest - target.p) - scheme};
    }
    if (!target.n || !rest || *rest != '/') {
        http->bad_head = true;
        return;
    }
    mark = memchr(rest, '?', (size_t)(end - rest));
    http->pub.path = (tn_str){rest, (size_t)((mark ? mark : end) - rest)};
    if (mark)
        http->pub.query = (tn_str){mark + 1, (size_t)(end - mark) - 1};
}

static void take_head(rpc_call *call, tn_str name, tn_str value)
{
    rpc_http *http = call->http;

    if (name.n && name.p[0] == ':') {
        if (tn_str_is(name, ":method"))
            http->pub.verb = tn_arena_str(call->pub.arena, value);
        else if (tn_str_is(name, ":path"))
            take_target(call, value);
        else if (tn_str_is(name, ":authority"))
            http->pub.host = tn_arena_str(call->pub.arena, value);
        return;
    }
    if (tn_str_is(name, "host")) {
        if (!http->pub.host.n)
            http->pub.host = tn_arena_str(call->pub.arena, value);
        return;
    }
    if (tn_str_is(name, "grpc-timeout"))
        rpc_head_timeout(call, value);
    if (rpc_head_keep(call, name, value) < 0)
        call->headers_over = true;
}

rpc_http *rpc_http_create(rpc_call *call)
{
    rpc_http *http = TN_NEW(call->pub.arena, rpc_http);

    TN_ASSERT(http);
    http->head = take_head;
    http->render = call->worker->server->options.http->render;
    return http;
}

void rpc_http_head_done(rpc_call *call)
{
    if (call->headers_over)
        rpc_call_refuse(call, TN_GRPC_RESOURCE_EXHAUSTED,
                        "request headers larger than max (%u headers, %u bytes)", RPC_HEADERS_MAX,
                        RPC_HEADER_BYTES_MAX);
    else if (call->http->bad_head || !call->http->pub.path.n || !call->http->pub.verb.n)
        rpc_call_refuse(call, TN_GRPC_INVALID_ARGUMENT, "Bad Request");
    else if (call->bad_timeout)
        rpc_call_refuse(call, TN_GRPC_INVALID_ARGUMENT, "invalid grpc-timeout: " TN_STR_FMT,
                        TN_STR_ARG(tn_http_header(&call->pub, "grpc-timeout")));
    else if (call->pub.deadline_mono_ns != UINT64_MAX)
        tn_loop_timer_start(&call->deadline, call->pub.deadline_mono_ns);
}

void rpc_http_data(rpc_call *call, const uint8_t *p, size_t n)
{
    rpc_http *http = call->http;

    if (n > call->worker->server->options.message_bytes_max - http->body.n) {
        tn_buf_done(&http->body);
        rpc_call_refuse(call, TN_GRPC_INVALID_ARGUMENT, "http: request body too large");
        return;
    }
    tn_buf_put(&http->body, p, n);
}

void rpc_http_eof(rpc_call *call)
{
    call->http->pub.body = tn_buf_blob(&call->http->body);
    rpc_call_intake_end(call);
    call->phase = RPC_HANDED;
    call->worker->server->options.http->request(&call->pub);
}

void tn_http_enter(tn_call *pub, const tn_rpc_method *method, tn_blob message,
                   const tn_http_render *render)
{
    rpc_call *call = rpc_call_of(pub);
    const tn_rpc_options *o = &call->worker->server->options;
    ProtobufCMessage *request;
    tn_error err = {0};
    tn_status status;

    TN_ASSERT(call->http && call->phase == RPC_HANDED && !call->answered);
    TN_ASSERT(!(method->flags & (TN_RPC_STREAM_IN | TN_RPC_STREAM_OUT)));
    call->http->pub.body = tn_blob_from(NULL, 0);
    tn_buf_done(&call->http->body);
    if (render)
        call->http->render = render;
    pub->method = method;
    status = message.n > o->message_bytes_max
                 ? TN_ETOOLARGE
                 : tn_proto_unpack_peer(method->input, message, pub->arena, &request, &err);
    if (status != TN_OK) {
        tn_call_fail(pub, tn_fault_make(pub->arena,
                                        status == TN_ETOOLARGE ? TN_GRPC_RESOURCE_EXHAUSTED
                                                               : TN_GRPC_INVALID_ARGUMENT,
                                        "error unmarshalling request: %s",
                                        err.text[0] ? err.text : "it is too large"));
        return;
    }
    pub->message = message;
    pub->request = request;
    if (o->dispatch)
        o->dispatch(pub);
    else
        method->handle(pub);
}

/* ---- the answer's bytes [holder] ---- */

static void take_answer(rpc_call *call, const tn_http_answer *answer)
{
    rpc_piece *piece = answer->body.n ? TN_NEW(call->pub.arena, rpc_piece) : NULL;

    call->http->answer = *answer;
    call->pieces = NULL;
    call->pieces_end = &call->pieces;
    call->piece_bytes = 0;
    if (!piece)
        return;
    piece->p = answer->body.p;
    piece->n = answer->body.n;
    rpc_answer_piece(call, piece);
}

/* The pieces hold gRPC's frame of the response: what is behind its head becomes a message, and that the answer. */
tn_status rpc_http_reply(rpc_call *call)
{
    size_t n = call->piece_bytes - RPC_FRAME_HEAD, at = 0, skip = RPC_FRAME_HEAD;
    tn_http_answer answer = {.status = 200};
    ProtobufCMessage *response;
    uint8_t *bytes;
    tn_blob packed;
    tn_status status;

    if (call->pieces->n == call->piece_bytes) {
        packed = tn_blob_from(call->pieces->p + skip, n);
    } else {
        bytes = tn_arena_alloc(call->pub.arena, n);
        if (!bytes)
            return TN_ETOOLARGE;
        for (const rpc_piece *piece = call->pieces; piece; piece = piece->next) {
            memcpy(bytes + at, piece->p + skip, piece->n - skip);
            at += piece->n - skip;
            skip = 0;
        }
        packed = tn_blob_from(bytes, n);
    }
    status = tn_proto_unpack(call->pub.method->output, packed, call->pub.arena, &response, NULL);
    if (status != TN_OK)
        return status;
    call->http->render->reply(&call->pub, response, &answer);
    take_answer(call, &answer);
    return TN_OK;
}

void rpc_http_fail(rpc_call *call, const tn_fault *fault)
{
    tn_http_answer answer = {.status = 500};

    call->http->render->fail(&call->pub, fault, &answer);
    if (call->headers_over)
        answer.status = 431;
    take_answer(call, &answer);
}

void tn_http_respond(tn_call *pub, const tn_http_answer *answer)
{
    rpc_call *call = rpc_call_of(pub);

    TN_ASSERT(call->http);
    rpc_answer_take(call);
    take_answer(call, answer);
    rpc_answer_hand_back(call);
}

/* ---- home: the answer leaves ---- */

static nghttp2_nv nv_of(tn_str name, tn_str value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name.p, (uint8_t *)(uintptr_t)value.p, name.n,
                        value.n, NGHTTP2_NV_FLAG_NONE};
}

/* Response metadata of the API's, under the names that gateways give it. */
static tn_str metadata_name(rpc_call *call, tn_str name)
{
    const char *p = tn_arena_printf(call->pub.arena, "grpc-metadata-" TN_STR_FMT, TN_STR_ARG(name));
    return p ? tn_str_from(p) : name;
}

static bool bodiless(const rpc_call *call)
{
    return tn_str_is(call->http->pub.verb, "HEAD") || call->http->answer.status == 204 ||
           call->http->answer.status == 304;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static tn_str date_now(rpc_call *call)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t now = (time_t)(tn_now_wall_ns() / (int64_t)TN_SEC);
    struct tm tm;
    const char *text;

    gmtime_r(&now, &tm);
    text = tn_arena_printf(call->pub.arena, "%.3s, %02d %.3s %d %02d:%02d:%02d GMT",
                           days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon,
                           tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return text ? tn_str_from(text) : (tn_str){"", 0};
}

/* Everything but the status; at most ANSWER_HEADERS_MAX. */
static size_t put_headers(rpc_call *call, tn_http_pair *out)
{
    const tn_http_answer *a = &call->http->answer;
    const char *length = tn_arena_printf(call->pub.arena, "%zu", call->piece_bytes);
    size_t n = 0;

    if (a->content_type.n)
        out[n++] = (tn_http_pair){TN_STR("content-type"), a->content_type};
    if (a->status != 204 && length)
        out[n++] = (tn_http_pair){TN_STR("content-length"), tn_str_from(length)};
    out[n++] = (tn_http_pair){TN_STR("date"), date_now(call)};
    for (size_t i = 0; i < a->n_headers && n < ANSWER_HEADERS_MAX - RPC_EXTRA_HEADERS_MAX; i++)
        out[n++] = a->headers[i];
    for (const rpc_header *h = call->extra; h; h = h->next)
        out[n++] = (tn_http_pair){metadata_name(call, h->name), h->value};
    return n;
}

/* A line break in a value would begin a header of its own. */
static bool plain(tn_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if ((uint8_t)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    }
    return true;
}

static void drop_body(rpc_call *call)
{
    call->pieces = NULL;
    call->pieces_end = &call->pieces;
    call->piece_bytes = 0;
}

static void submit_h2(rpc_call *call)
{
    const nghttp2_data_provider provider = {.source = {.ptr = NULL},
                                            .read_callback = rpc_answer_read};
    tn_http_pair headers[ANSWER_HEADERS_MAX];
    nghttp2_nv nv[ANSWER_HEADERS_MAX + 1];
    char status[8];
    size_t n = put_headers(call, headers);

    snprintf(status, sizeof(status), "%u", (unsigned)call->http->answer.status);
    nv[0] = nv_of(TN_STR(":status"), tn_str_from(status));
    for (size_t i = 0; i < n; i++)
        nv[i + 1] = nv_of(headers[i].name, headers[i].value);
    if (bodiless(call))
        drop_body(call);
    call->http_status = call->http->answer.status; /* no trailers */
    rpc_answer_queue(call->conn, call->piece_bytes);
    if (nghttp2_submit_response(call->conn->session, call->stream_id, nv, n + 1,
                                call->piece_bytes ? &provider : NULL) != 0)
        nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                  NGHTTP2_INTERNAL_ERROR);
    rpc_conn_flush_later(call->conn);
}

static void submit_h1(rpc_call *call)
{
    tn_http_pair headers[ANSWER_HEADERS_MAX];
    unsigned status = call->http->answer.status;
    size_t n = put_headers(call, headers);
    tn_buf head = {0};
    tn_blob kept;

    tn_buf_printf(&head, "HTTP/1.1 %u %s\r\n", status, rpc_http_reason(status));
    for (size_t i = 0; i < n; i++) {
        if (!plain(headers[i].name) || !plain(headers[i].value))
            continue;
        tn_buf_printf(&head, TN_STR_FMT ": " TN_STR_FMT "\r\n", TN_STR_ARG(headers[i].name),
                      TN_STR_ARG(headers[i].value));
    }
    if (bodiless(call))
        drop_body(call);
    kept = tn_arena_blob(call->pub.arena, tn_buf_blob(&head));
    tn_buf_done(&head);
    rpc_h1_answer(call, tn_str_of_blob(kept));
}

void rpc_http_submit(rpc_call *call)
{
    if (call->conn->h1)
        submit_h1(call);
    else
        submit_h2(call);
}

/* ---- a deadline that passes while the baton is out ---- */

static const char late[] = "{\"code\":4,\"message\":\"context deadline exceeded\"}";

static ssize_t late_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)session, (void)stream_id, (void)source, (void)user;
    TN_ASSERT(length >= sizeof(late) - 1);
    memcpy(buf, late, sizeof(late) - 1);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return sizeof(late) - 1;
}

void rpc_http_deadline(rpc_conn *conn, rpc_call *call)
{
    const nghttp2_data_provider provider = {.source = {.ptr = NULL}, .read_callback = late_read};
    const nghttp2_nv nv[] = {nv_of(TN_STR(":status"), TN_STR("504")),
                             nv_of(TN_STR("content-type"), TN_STR("application/json"))};

    if (conn->h1) {
        rpc_h1_kill(conn, 504, "context deadline exceeded");
        return;
    }
    if (nghttp2_submit_response(conn->session, call->stream_id, nv, TN_COUNT_OF(nv), &provider) !=
        0)
        nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                  NGHTTP2_CANCEL);
    nghttp2_session_set_stream_user_data(conn->session, call->stream_id, NULL);
    rpc_call_detach(call);
}
