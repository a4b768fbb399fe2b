/* SPDX-License-Identifier: MIT */
/* A call's way in: headers, messages, unpacking, dispatch; and its end when the stream goes.
 *
 * A call and all that it needs lie in its arena.  While the baton is out, only the marked part of the
 * struct belongs to its holder; the rest stays the home loop's, which may detach the call from its
 * stream at any time (reset, deadline, connection lost).  A detached call lives until it is answered. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/pipe.h"

static void deadline_fired(tn_loop_timer *timer);
static void pump_run(tn_msg *msg);

/* ---- birth and end ---- */

rpc_call *rpc_call_create(rpc_conn *conn, int32_t stream_id)
{
    rpc_worker *worker = conn->worker;
    tn_arena *arena = tn_arena_create(worker->server->options.arena_bytes_max);
    rpc_call *call = tn_arena_zalloc(arena, sizeof(*call));

    TN_ASSERT(call);
    call->pub.arena = arena;
    call->pub.home = worker->loop;
    call->pub.deadline_mono_ns = UINT64_MAX;
    call->pub.received_mono_ns = conn->now_ns;
    call->conn = conn;
    call->worker = worker;
    call->stream_id = stream_id;
    call->body_seen_ns = conn->now_ns;
    call->peer = conn->peer;
    call->peer->refs++;
    call->pieces_end = &call->pieces;
    if (worker->server->options.http)
        call->http = rpc_http_create(call);
    tn_loop_timer_init(&call->deadline, deadline_fired);
    tn_list_push_back(&conn->calls, &call->link);
    conn->call_count++;
    conn->intake_count++;
    call->counted_intake = true;
    worker->call_count++;
    rpc_conn_tick_at(conn, conn->now_ns + rpc_slow_ns(conn, RPC_SLOW_BODY));
    rpc_count(RPC_COUNT_REQUESTS, 1);
    return call;
}

static void release_intake(rpc_call *call)
{
    call->conn->intake_bytes -= call->intake_bytes;
    call->intake_bytes = 0;
}

void rpc_call_intake_end(rpc_call *call)
{
    release_intake(call);
    if (!call->counted_intake)
        return;
    call->counted_intake = false;
    call->conn->intake_count--;
}

static bool inbox_create(rpc_call *call)
{
    rpc_inbox *in = TN_NEW(call->pub.arena, rpc_inbox);

    if (!in)
        return false;
    in->call = call;
    in->waiting_end = &in->waiting;
    in->pump.run = pump_run;
    call->inbox = in;
    return true;
}

static void inbox_done(rpc_inbox *in)
{
    if (!in)
        return;
    while (in->waiting) {
        rpc_waiting *w = in->waiting;
        in->waiting = w->next;
        free(w);
    }
    free(in->partial);
    tn_arena_destroy(in->arena);
}

static void call_free(rpc_call *call)
{
    rpc_worker *worker = call->worker;

    TN_ASSERT(!call->conn);
    if (call->release)
        call->release(call->release_user);
    rpc_answer_drop_pieces(call);
    inbox_done(call->inbox);
    rpc_http_call_free(call);
    rpc_peer_unref(call->peer);
    worker->call_count--;
    tn_arena_destroy(call->pub.arena);
    rpc_worker_maybe_done(worker);
}

void rpc_call_detach(rpc_call *call)
{
    rpc_conn *conn = call->conn;

    TN_ASSERT(conn);
    rpc_call_intake_end(call);
    /* While the baton of a unary call is out its pieces are being made, perhaps at this moment. */
    if (call->phase == RPC_ANSWERED || call->stream_begun)
        conn->queued_bytes -= call->piece_bytes;
    conn->call_count--;
    tn_list_remove(&call->link);
    tn_loop_timer_stop(&call->deadline);
    call->conn = NULL;
    rpc_conn_stream_ended(conn);
    switch ((rpc_phase)call->phase) {
    case RPC_HANDED:
        atomic_store_explicit(&call->cancelled, true, memory_order_relaxed);
        if (call->pub.on_cancel)
            call->pub.on_cancel(&call->pub); /* may answer, which frees the call */
        return;
    case RPC_ANSWERED:
        if (!call->sent_all) {
            rpc_count(RPC_COUNT_UNDELIVERED, 1);
            if (call->pub.on_undelivered)
                call->pub.on_undelivered(&call->pub);
        }
        break;
    case RPC_INTAKE:
    case RPC_REFUSED:
        break;
    }
    rpc_call_done(call);
}

void rpc_call_done(rpc_call *call)
{
    call->phase = RPC_ANSWERED;
    if (!call->inbox || !call->inbox->pump_queued) /* which holds on to the call */
        call_free(call);
}

/* ---- refusals ---- */

/* Sent when the request has been read to its end: some clients lose an answer that comes before. */
static void refusal_ready(rpc_call *call, bool at_once)
{
    call->phase = RPC_REFUSED;
    if (call->eof || at_once)
        rpc_answer_submit(call);
}

void rpc_call_refuse(rpc_call *call, tn_grpc_code code, const char *fmt, ...)
{
    va_list args;
    char *text;

    rpc_count(RPC_COUNT_REFUSED, 1);
    if (call->phase == RPC_HANDED) {
        /* A stream's handler has the baton: it hears of the reset. */
        call->deaf = true;
        nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                  NGHTTP2_INTERNAL_ERROR);
        rpc_conn_flush_later(call->conn);
        return;
    }
    va_start(args, fmt);
    tn_arena_set_limit(call->pub.arena, 0);
    text = tn_arena_vprintf(call->pub.arena, fmt, args);
    va_end(args);
    call->refusal = tn_fault_make(call->pub.arena, code, "%s", text ? text : "");
    refusal_ready(call, false);
}

static void refuse_http(rpc_call *call, uint16_t status, const char *text)
{
    static const tn_fault none = {.code = TN_GRPC_UNKNOWN};

    rpc_count(RPC_COUNT_REFUSED, 1);
    call->refusal = &none;
    call->http_status = status;
    call->message = tn_str_from(text);
    refusal_ready(call, false);
}

static void refuse_method(rpc_call *call)
{
    tn_str path = call->path, service;
    const char *slash =
        path.n > 1 && path.p[0] == '/' ? memrchr(path.p + 1, '/', path.n - 1) : NULL;

    if (!slash) {
        rpc_call_refuse(call, TN_GRPC_UNIMPLEMENTED, "malformed method name: \"" TN_STR_FMT "\"",
                        TN_STR_ARG(path));
        return;
    }
    service = (tn_str){path.p + 1, (size_t)(slash - path.p) - 1};
    if (!rpc_service_known(service))
        rpc_call_refuse(call, TN_GRPC_UNIMPLEMENTED, "unknown service " TN_STR_FMT,
                        TN_STR_ARG(service));
    else
        rpc_call_refuse(call, TN_GRPC_UNIMPLEMENTED,
                        "unknown method " TN_STR_FMT " for service " TN_STR_FMT,
                        (int)(path.p + path.n - slash - 1), slash + 1, TN_STR_ARG(service));
}

/* ---- headers ---- */

static bool takes_stream(const rpc_call *call)
{
    return !call->http && call->pub.method->flags & TN_RPC_STREAM_IN;
}

void rpc_call_headers_done(rpc_call *call)
{
    rpc_head_end(call);
    if (call->http) {
        rpc_http_head_done(call);
        return;
    }
    if (call->headers_over) {
        rpc_call_refuse(call, TN_GRPC_RESOURCE_EXHAUSTED,
                        "request headers larger than max (%u headers, %u bytes)", RPC_HEADERS_MAX,
                        RPC_HEADER_BYTES_MAX);
        return;
    }
    if (!call->post) {
        refuse_http(call, 405, "gRPC requests use POST\n");
        return;
    }
    if (!call->content_type_ok) {
        refuse_http(call, 415, "gRPC requests have the content-type application/grpc\n");
        return;
    }
    if (call->bad_timeout) {
        rpc_call_refuse(call, TN_GRPC_INTERNAL, "malformed grpc-timeout");
        return;
    }
    if (call->pub.deadline_mono_ns != UINT64_MAX)
        tn_loop_timer_start(&call->deadline, call->pub.deadline_mono_ns);
    if (!call->pub.method) {
        refuse_method(call);
    } else if (call->bad_encoding) {
        tn_call_add_header(&call->pub, "grpc-accept-encoding", TN_STR("gzip"));
        rpc_call_refuse(call, TN_GRPC_UNIMPLEMENTED,
                        "grpc: Decompressor is not installed for the request's grpc-encoding");
    } else if (takes_stream(call) && !inbox_create(call)) {
        rpc_call_refuse(call, TN_GRPC_RESOURCE_EXHAUSTED, "the request takes too much memory");
    }
}

/* ---- messages ---- */

/* What a host of the cluster says on a public port wraps a public message. */
static size_t message_max(const rpc_call *call)
{
    const tn_rpc_options *o = &call->worker->server->options;
    const tn_rpc_method *method = call->pub.method;
    if (!method || !(method->flags & TN_RPC_INTERNAL) || o->internal ||
        !tn_secret_known(tn_call_header(&call->pub, "tenon-internode")))
        return o->message_bytes_max;
    return RPC_WRAPPED_MAX(o->message_bytes_max);
}

/* A message's length is known. */
static bool message_begins(rpc_call *call)
{
    size_t max = message_max(call);
    rpc_framer *f = &call->framer;
    bool compressed = rpc_framer_compressed(f);

    if (f->head[0] > 1 || (compressed && !call->request_gzip)) {
        rpc_call_refuse(call, TN_GRPC_INTERNAL,
                        f->head[0] > 1
                            ? "grpc: received unexpected payload format"
                            : "grpc: compressed flag set with identity or empty encoding");
        return false;
    }
    if (f->need > max) {
        rpc_call_refuse(call, TN_GRPC_RESOURCE_EXHAUSTED,
                        "grpc: received message larger than max (%u vs. %zu)", f->need, max);
        if (call->phase == RPC_REFUSED && f->need > RPC_DISCARD_BYTES_MAX)
            rpc_answer_submit(call);
        return false;
    }
    if (takes_stream(call)) {
        rpc_waiting *w = malloc(sizeof(*w) + f->need);
        if (w) {
            *w = (rpc_waiting){.n = f->need, .compressed = compressed};
            f->body = w->bytes;
        }
        call->inbox->partial = w;
    } else if (call->body_whole) {
        rpc_call_refuse(call, TN_GRPC_UNIMPLEMENTED,
                        "request cardinality violation: more than one message");
        return false;
    } else {
        f->body = tn_arena_alloc(call->pub.arena, f->need);
        call->body_gzip = compressed;
    }
    if (!f->body)
        rpc_call_refuse(call, TN_GRPC_RESOURCE_EXHAUSTED, "the request takes too much memory");
    return f->body != NULL;
}

static void stream_queue(rpc_call *call, rpc_waiting *w)
{
    rpc_inbox *in = call->inbox;

    *in->waiting_end = w;
    in->waiting_end = &w->next;
    in->count++;
    rpc_call_pump_later(call);
}

static void message_ends(rpc_call *call)
{
    rpc_inbox *in = call->inbox;
    rpc_waiting *w;

    if (!in) {
        call->body_whole = true;
        return;
    }
    w = in->partial;
    in->partial = NULL;
    stream_queue(call, w);
    if (in->count > RPC_STREAM_WAITING_MAX)
        rpc_call_refuse(call, TN_GRPC_RESOURCE_EXHAUSTED, "too many messages wait on this stream");
}

int rpc_call_data(rpc_call *call, const uint8_t *p, size_t n)
{
    rpc_conn *conn = call->conn;
    rpc_framer_event event;
    size_t used;

    call->body_seen_ns = conn->now_ns;
    if (call->phase == RPC_REFUSED) {
        call->discarded += (uint32_t)n;
        if (call->discarded > (conn->h1 ? RPC_HTTP_DISCARD_BYTES_MAX : RPC_DISCARD_BYTES_MAX))
            rpc_answer_submit(call);
        return 0;
    }
    if (call->deaf || call->phase == RPC_ANSWERED ||
        (call->phase == RPC_HANDED && !takes_stream(call)))
        return 0;
    call->intake_bytes += n;
    conn->intake_bytes += n;
    if (conn->intake_bytes > RPC_INTAKE_BYTES_MAX) {
        rpc_call_refuse(call, TN_GRPC_RESOURCE_EXHAUSTED,
                        "too many bytes of unfinished requests on this connection");
        return 0;
    }
    if (call->http) {
        rpc_http_data(call, p, n);
        return 0;
    }
    do {
        event = rpc_framer_feed(&call->framer, p, n, &used);
        p += used;
        n -= used;
        if (event == RPC_FRAMER_HEAD && !message_begins(call))
            return 0;
        if (event == RPC_FRAMER_MESSAGE)
            message_ends(call);
    } while ((n || event == RPC_FRAMER_HEAD) && !call->deaf && call->phase != RPC_REFUSED &&
             call->phase != RPC_ANSWERED);
    return 0;
}

/* Sets message and request.  False: the call has been refused. */
static bool open_message(rpc_call *call, tn_blob body, bool compressed, tn_arena *arena)
{
    size_t max = message_max(call);
    ProtobufCMessage *request = NULL;
    tn_error err = {0};
    tn_status status = TN_OK;

    if (compressed) {
        if (!call->worker->gzip)
            call->worker->gzip = rpc_gzip_create();
        status = rpc_gunzip(call->worker->gzip, body, max, arena, &body);
        if (status == TN_ETOOLARGE) {
            rpc_call_refuse(call, TN_GRPC_RESOURCE_EXHAUSTED,
                            "grpc: received message after decompression larger than max %zu", max);
            return false;
        }
        if (status != TN_OK) {
            rpc_call_refuse(call, TN_GRPC_INTERNAL,
                            "grpc: failed to decompress the received message");
            return false;
        }
    }
    status = tn_proto_unpack_peer(call->pub.method->input, body, arena, &request, &err);
    if (status != TN_OK) {
        rpc_call_refuse(call,
                        status == TN_ETOOLARGE ? TN_GRPC_RESOURCE_EXHAUSTED : TN_GRPC_INTERNAL,
                        "grpc: error unmarshalling request: %s", err.text);
        return false;
    }
    call->pub.message = body;
    call->pub.request = request;
    return true;
}

/* ---- dispatch ---- */

static void dispatch(rpc_call *call)
{
    const tn_rpc_options *o = &call->worker->server->options;

    rpc_call_intake_end(call);
    call->phase = RPC_HANDED;
    if (o->dispatch)
        o->dispatch(&call->pub);
    else
        call->pub.method->handle(&call->pub);
}

static void unary_whole(rpc_call *call)
{
    if (!rpc_framer_at_border(&call->framer)) {
        rpc_call_refuse(call, TN_GRPC_INTERNAL, "unexpected EOF");
        return;
    }
    if (!call->body_whole) {
        rpc_call_refuse(call, TN_GRPC_UNIMPLEMENTED, "request cardinality violation: no message");
        return;
    }
    if (open_message(call, tn_blob_from(call->framer.body, call->framer.need), call->body_gzip,
                     call->pub.arena))
        dispatch(call);
}

void rpc_call_eof(rpc_call *call)
{
    if (call->eof)
        return;
    call->eof = true;
    if (call->phase == RPC_REFUSED) {
        rpc_answer_submit(call);
    } else if (call->http) {
        if (call->phase == RPC_INTAKE)
            rpc_http_eof(call);
    } else if (call->phase == RPC_INTAKE && !takes_stream(call)) {
        unary_whole(call);
    } else if (call->phase <= RPC_HANDED && takes_stream(call)) {
        rpc_waiting *end;
        if (!rpc_framer_at_border(&call->framer) && call->phase == RPC_INTAKE) {
            rpc_call_refuse(call, TN_GRPC_INTERNAL, "unexpected EOF");
            return;
        }
        end = tn_xmalloc(sizeof(*end));
        *end = (rpc_waiting){.n = SIZE_MAX};
        stream_queue(call, end);
    }
}

/* ---- a stream's messages ---- */

void rpc_call_pump_later(rpc_call *call)
{
    rpc_inbox *in = call->inbox;

    if (!in || in->pump_queued || !in->waiting)
        return;
    in->pump_queued = true;
    tn_loop_defer(&in->pump);
}

static bool pump_one(rpc_call *call, rpc_inbox *in)
{
    rpc_waiting *w = in->waiting;
    bool opened = true;

    in->waiting = w->next;
    if (!in->waiting)
        in->waiting_end = &in->waiting;
    if (!in->waiting && !in->partial)
        release_intake(call);
    in->count--;
    call->pub.request = NULL;
    call->pub.message = tn_blob_from(NULL, 0);
    if (w->n != SIZE_MAX) {
        if (in->arena)
            tn_arena_reset(in->arena);
        else
            in->arena = tn_arena_create(call->worker->server->options.arena_bytes_max);
        tn_blob body = tn_arena_blob(in->arena, tn_blob_from(w->bytes, w->n));
        opened = open_message(call, body, w->compressed, in->arena);
    }
    free(w);
    return opened;
}

static void pump_run(tn_msg *msg)
{
    rpc_inbox *in = TN_CONTAINER_OF(msg, rpc_inbox, pump);
    rpc_call *call = in->call;

    while (call->conn && in->waiting && !call->deaf) {
        if (call->phase == RPC_INTAKE) {
            if (pump_one(call, in))
                dispatch(call);
        } else if (call->phase == RPC_HANDED && call->pub.on_message) {
            /* A later message that can't be opened ends the stream under its handler. */
            if (pump_one(call, in))
                call->pub.on_message(&call->pub);
        } else {
            break;
        }
    }
    in->pump_queued = false;
    if (!call->conn && call->phase != RPC_HANDED)
        call_free(call);
}

/* ---- deadline ---- */

static void deadline_fired(tn_loop_timer *timer)
{
    rpc_call *call = TN_CONTAINER_OF(timer, rpc_call, deadline);
    rpc_conn *conn = call->conn;

    TN_ASSERT(conn);
    rpc_count(RPC_COUNT_DEADLINES, 1);
    conn->now_ns = tn_now_mono_ns();
    rpc_conn_flush_later(conn);
    switch ((rpc_phase)call->phase) {
    case RPC_INTAKE:
    case RPC_REFUSED:
        rpc_call_refuse(call, TN_GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
        if (call->phase == RPC_REFUSED)
            rpc_answer_submit(call);
        return;
    case RPC_HANDED:
        if (call->stream_begun)
            break;
        if (call->http) {
            rpc_http_deadline(conn, call);
            return;
        }
        rpc_answer_deadline(conn, call->stream_id);
        nghttp2_session_set_stream_user_data(conn->session, call->stream_id, NULL);
        rpc_call_detach(call);
        return;
    case RPC_ANSWERED:
        if (call->http)
            return; /* it is on its way */
        break;
    }
    nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
}
