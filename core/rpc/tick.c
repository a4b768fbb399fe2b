/* SPDX-License-Identifier: MIT */
/* A connection's times: peers that are slow or silent, keepalive, idleness, age.
 *
 * One timer a connection.  Nothing moves it when frames come: it fires at the earliest moment that
 * may matter, looks at what is true by then, and sleeps until the next. */
#include "rpc/pipe.h"

void rpc_conn_tick_at(rpc_conn *conn, uint64_t at_ns)
{
    if (conn->state >= RPC_CONN_LINGER)
        return;
    if (!tn_loop_timer_active(&conn->tick) || conn->tick.node.key > at_ns)
        tn_loop_timer_start(&conn->tick, at_ns);
}

static uint64_t after(uint64_t since_ns, uint64_t delay_ns)
{
    uint64_t at;
    return __builtin_add_overflow(since_ns, delay_ns, &at) ? UINT64_MAX : at;
}

static void note(uint64_t *next, uint64_t at)
{
    if (at < *next)
        *next = at;
}

/* NULL, or why a peer that is slow to speak or to listen must go. */
static const char *slow_peer(rpc_conn *conn, uint64_t now, uint64_t *next)
{
    const rpc_guard *g = &conn->guard;
    const struct {
        uint64_t since, allowed;
        const char *why;
    } rules[] = {
        {g->settings_seen ? 0 : conn->accepted_ns, rpc_slow_ns(conn, 1), "handshake_timeout"},
        {g->block_since_ns, rpc_slow_ns(conn, 1), "headers_timeout"},
        {g->frame_since_ns, rpc_slow_ns(conn, RPC_SLOW_FRAME), "frame_timeout"},
        {conn->queued_bytes || tn_stream_pending_bytes(conn->stream) ? conn->progress_ns : 0,
         rpc_slow_ns(conn, RPC_SLOW_STALL), "write_stalled"},
    };

    for (size_t i = 0; i < TN_COUNT_OF(rules); i++) {
        uint64_t at;
        if (!rules[i].since)
            continue;
        at = after(rules[i].since, rules[i].allowed);
        if (at <= now)
            return rules[i].why;
        note(next, at);
    }
    return NULL;
}

/* Requests whose bytes have stopped coming are reset, one by one. */
static void slow_requests(rpc_conn *conn, uint64_t now, uint64_t *next)
{
    if (!conn->intake_count)
        return;
    TN_LIST_FOREACH_SAFE (link, &conn->calls) {
        rpc_call *call = TN_CONTAINER_OF(link, rpc_call, link);
        uint64_t at = after(call->body_seen_ns, rpc_slow_ns(conn, RPC_SLOW_BODY));

        if (!call->counted_intake)
            continue;
        if (call->http)
            note(&at, after(call->pub.received_mono_ns, rpc_slow_ns(conn, RPC_HTTP_BODY_SLOW)));
        if (at > now) {
            note(next, at);
            continue;
        }
        if (conn->h1) {
            rpc_h1_kill(conn, 408, "request_timeout");
            return;
        }
        nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                  NGHTTP2_CANCEL);
        rpc_call_intake_end(call);
        rpc_conn_flush_later(conn);
    }
}

/* False: the connection is gone. */
static bool keepalive(rpc_conn *conn, uint64_t now, uint64_t *next)
{
    static const uint8_t mark[8] = {'k', 'e', 'e', 'p'};
    const tn_rpc_options *o = &conn->worker->server->options;
    uint64_t at;

    if (!o->keepalive_ping_ns || (!conn->session && !conn->pipe))
        return true;
    if (conn->ping_out && conn->last_read_ns > conn->ping_sent_ns)
        conn->ping_out = false; /* anything that comes shows that the peer lives */
    if (conn->ping_out) {
        at = after(conn->ping_sent_ns, o->keepalive_timeout_ns);
        if (at <= now) {
            rpc_conn_close(conn);
            return false;
        }
    } else {
        at = after(conn->last_read_ns, o->keepalive_ping_ns);
        if (at <= now) {
            if (conn->pipe)
                rpc_pipe_ping(conn->pipe);
            else
                nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, mark);
            rpc_conn_flush_later(conn);
            conn->ping_out = true;
            conn->ping_sent_ns = now;
            at = after(now, o->keepalive_timeout_ns);
        }
    }
    note(next, at);
    return true;
}

/* Draining and its reasons.  False: the connection is gone. */
static bool ends_in_time(rpc_conn *conn, uint64_t now, uint64_t *next)
{
    const tn_rpc_options *o = &conn->worker->server->options;
    uint64_t at;

    if (conn->state == RPC_CONN_NOTICED) {
        at = after(conn->state_since_ns, RPC_DRAIN_NOTICE_NS);
        if (at <= now)
            rpc_conn_drain_final(conn);
        else
            note(next, at);
    }
    if (conn->state == RPC_CONN_DRAINING && o->age_grace_ns) {
        at = after(conn->state_since_ns, o->age_grace_ns);
        if (at <= now) {
            rpc_conn_close(conn);
            return false;
        }
        note(next, at);
    }
    if (conn->state != RPC_CONN_OPEN || conn->pipe) /* which stays as long as its hosts do */
        return true;
    at = conn->age_at_ns;
    if (o->idle_timeout_ns && !conn->call_count)
        note(&at, after(conn->idle_since_ns, o->idle_timeout_ns));
    if (at <= now) {
        rpc_conn_drain(conn);
        at = after(now, RPC_DRAIN_NOTICE_NS);
    }
    note(next, at);
    return conn->state < RPC_CONN_CLOSED;
}

void rpc_conn_tick(tn_loop_timer *timer)
{
    rpc_conn *conn = TN_CONTAINER_OF(timer, rpc_conn, tick);
    uint64_t now = tn_now_mono_ns(), next = UINT64_MAX;
    const char *why;

    conn->now_ns = now;
    if (conn->state == RPC_CONN_LINGER) {
        rpc_conn_close(conn);
        return;
    }
    why = slow_peer(conn, now, &next);
    if (why) {
        rpc_conn_kill(conn, NGHTTP2_ENHANCE_YOUR_CALM, why);
        return;
    }
    if (!ends_in_time(conn, now, &next) || !keepalive(conn, now, &next))
        return;
    if (conn->session || conn->h1)
        slow_requests(conn, now, &next);
    if (next != UINT64_MAX)
        rpc_conn_tick_at(conn, next);
}
