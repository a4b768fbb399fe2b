/* SPDX-License-Identifier: MIT */
/* nghttp2's callbacks: from frames to calls, and the rules about what a peer may send. */
#include <string.h>

#include "rpc/private.h"

static rpc_call *call_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

/* A HEADERS frame on a stream that is not there, with an id that has been passed.  It may be a trailer
 * that crossed our RST_STREAM: those streams are remembered; anything else is an error. */
static int old_stream(rpc_conn *conn, int32_t stream_id)
{
    for (size_t i = 0; i < RPC_CLOSED_IDS; i++) {
        if (conn->closed_ids[i] == stream_id)
            return 0;
    }
    return rpc_conn_condemn(conn, NGHTTP2_PROTOCOL_ERROR, "stream_id_too_low");
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
    rpc_conn *conn = user;

    if (hd->type != NGHTTP2_HEADERS || hd->stream_id <= 0)
        return 0;
    if (hd->stream_id > conn->stream_id_max) {
        conn->stream_id_max = hd->stream_id;
        return 0;
    }
    return nghttp2_session_find_stream(session, hd->stream_id) ? 0
                                                               : old_stream(conn, hd->stream_id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    rpc_conn *conn = user;
    rpc_call *call;

    conn->incoming = NULL;
    conn->head_count = 0;
    conn->head_bytes = 0;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    if (conn->queued_bytes > RPC_QUEUED_BYTES_MAX) {
        rpc_count(RPC_COUNT_REFUSED, 1);
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                         NGHTTP2_REFUSED_STREAM);
    }
    call = rpc_call_create(conn, frame->hd.stream_id);
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    conn->incoming = call;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    rpc_conn *conn = user;
    nghttp2_vec n = nghttp2_rcbuf_get_buf(name), v = nghttp2_rcbuf_get_buf(value);

    (void)session, (void)frame, (void)flags;
    conn->head_count++;
    conn->head_bytes += (uint32_t)(n.len + v.len + 32);
    /* A little above the limit is answered; this far above it is a bomb, and decoding the rest of it
     * would be the harm. */
    if (conn->head_count > 4 * RPC_HEADERS_MAX || conn->head_bytes > 4 * RPC_HEADER_BYTES_MAX)
        return rpc_conn_condemn(conn, NGHTTP2_ENHANCE_YOUR_CALM, "header_list_too_large");
    if (!conn->incoming)
        return 0;
    rpc_head_take(conn->incoming, (tn_str){(const char *)n.base, n.len},
                  (tn_str){(const char *)v.base, v.len});
    return 0;
}

/* The rule of grpc-go's servers, which clients are tuned to: a ping sooner than the minimum after the
 * last one is a strike unless we have sent something meanwhile; the third strike ends it. */
static int ping_came(rpc_conn *conn)
{
    uint64_t last = conn->last_ping_ns, min = conn->worker->server->options.keepalive_min_ns;

    conn->last_ping_ns = conn->now_ns;
    if (conn->ping_forgiven) {
        conn->ping_forgiven = false;
        conn->ping_strikes = 0;
        return 0;
    }
    if (last && conn->now_ns - last < min)
        conn->ping_strikes++;
    if (conn->ping_strikes > 2)
        return rpc_conn_condemn(conn, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
    return 0;
}

/* Rapid resets make us begin work that nobody waits for.  A worker that shuts down cancels its polls all at
 * once (young ones, too, where workers are short-lived, and nothing is under way for a poll that is
 * parked), and a client gives calls up when their deadline comes: that is no attack, and to end
 * connections for it would make an overload worse. */
static bool reset_is_fair(const rpc_conn *conn, const rpc_call *call)
{
    uint64_t age = conn->now_ns - call->pub.received_mono_ns;

    if (age >= (call->pub.on_cancel ? RPC_RESET_PARKED_NS : RPC_RESET_YOUNG_NS))
        return true;
    return age >= RPC_RESET_YOUNG_NS / 10 &&
           age >= (call->pub.deadline_mono_ns - call->pub.received_mono_ns) / 10 * 9;
}

static int reset_came(rpc_conn *conn, nghttp2_session *session, int32_t stream_id)
{
    rpc_call *call = call_of(session, stream_id);
    rpc_guard *g = &conn->guard;

    rpc_count(RPC_COUNT_RESETS_RECEIVED, 1);
    if (!call) { /* answered already: a frame like others */
        if (rpc_bucket_take(&g->control, conn->now_ns, RPC_CONTROL_COST_NS, RPC_CONTROL_BURST))
            return 0;
    } else if (reset_is_fair(conn, call) || rpc_guard_reset(g, conn->now_ns)) {
        return 0;
    }
    return rpc_conn_condemn(conn, NGHTTP2_ENHANCE_YOUR_CALM, "reset_flood");
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    rpc_conn *conn = user;
    rpc_call *call;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        call = call_of(session, frame->hd.stream_id);
        if (!call)
            return 0;
        if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            conn->incoming = NULL;
            rpc_call_headers_done(call);
            if (call->headers_over && rpc_conn_glitch(conn))
                return NGHTTP2_ERR_CALLBACK_FAILURE;
        }
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            rpc_call_eof(call);
        return 0;
    case NGHTTP2_RST_STREAM:
        return reset_came(conn, session, frame->hd.stream_id);
    case NGHTTP2_PING:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
            return ping_came(conn) ? NGHTTP2_ERR_CALLBACK_FAILURE
                                   : rpc_pong_owed(conn, frame->ping.opaque_data);
        conn->ping_out = false;
        /* The peer has seen the first GOAWAY: streams that it opened before that have arrived. */
        if (conn->state == RPC_CONN_NOTICED && frame->ping.opaque_data[0] == 'd')
            rpc_conn_drain_final(conn);
        return 0;
    default:
        return 0;
    }
}

static int on_invalid_frame_recv(nghttp2_session *session, const nghttp2_frame *frame,
                                 int lib_error, void *user)
{
    rpc_conn *conn = user;

    (void)session, (void)frame, (void)lib_error;
    if (conn->rst_counted < UINT8_MAX)
        conn->rst_counted++;
    return rpc_conn_glitch(conn);
}

static int on_data_chunk_recv(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                              const uint8_t *p, size_t n, void *user)
{
    rpc_call *call = call_of(session, stream_id);

    (void)flags, (void)user;
    return call ? rpc_call_data(call, p, n) : 0;
}

/* END_STREAM has left.  While the peer is still sending it may stop; an answer without a message (`bare`) is a fault. */
static void answer_left(rpc_conn *conn, nghttp2_session *session, int32_t stream_id, bool bare)
{
    rpc_call *call = call_of(session, stream_id);

    if (call)
        call->sent_all = true;
    if (nghttp2_session_get_stream_remote_close(session, stream_id) == 0)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_NO_ERROR);
    else if (call && !bare)
        rpc_guard_completed(&conn->guard);
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    rpc_conn *conn = user;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        conn->ping_forgiven = true;
        /* The peer answers what we send with WINDOW_UPDATE and PING frames: they are paid for here. */
        rpc_bucket_give(&conn->guard.control, RPC_CONTROL_COST_NS, RPC_CONTROL_PER_HEADERS);
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            answer_left(conn, session, frame->hd.stream_id,
                        frame->hd.type == NGHTTP2_HEADERS &&
                            frame->headers.cat == NGHTTP2_HCAT_RESPONSE);
        return 0;
    case NGHTTP2_RST_STREAM:
        rpc_count(RPC_COUNT_RESETS_SENT, 1);
        if (frame->rst_stream.error_code == NGHTTP2_NO_ERROR)
            return 0; /* after a whole answer, see answer_left */
        if (conn->rst_counted) {
            conn->rst_counted--;
            return 0;
        }
        return rpc_conn_glitch(conn);
    case NGHTTP2_GOAWAY:
        if (frame->goaway.error_code != NGHTTP2_NO_ERROR)
            rpc_count(RPC_COUNT_GOAWAYS_ERROR, 1);
        return 0;
    default:
        return 0;
    }
}

/* An answer that nghttp2 can't send would leave its stream open for ever. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int lib_error,
                             void *user)
{
    (void)user;
    if (frame->hd.type == NGHTTP2_HEADERS && lib_error != NGHTTP2_ERR_STREAM_CLOSED &&
        lib_error != NGHTTP2_ERR_STREAM_CLOSING)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                  NGHTTP2_INTERNAL_ERROR);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
                           void *user)
{
    rpc_conn *conn = user;
    rpc_call *call = call_of(session, stream_id);

    (void)error_code;
    if (nghttp2_session_get_stream_remote_close(session, stream_id) != 1)
        conn->closed_ids[conn->closed_next++ % RPC_CLOSED_IDS] = stream_id;
    if (conn->incoming == call)
        conn->incoming = NULL;
    if (call)
        rpc_call_detach(call);
    return 0;
}

const nghttp2_session_callbacks *rpc_session_callbacks(void)
{
    static nghttp2_session_callbacks *made;

    if (made)
        return made;
    TN_ASSERT(nghttp2_session_callbacks_new(&made) == 0);
    nghttp2_session_callbacks_set_on_begin_frame_callback(made, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(made, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, on_frame_recv);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(made, on_invalid_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, on_data_chunk_recv);
    nghttp2_session_callbacks_set_on_frame_send_callback(made, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(made, on_frame_not_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(made, rpc_answer_send_data);
    return made;
}
