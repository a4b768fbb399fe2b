/* SPDX-License-Identifier: MIT */
/* A connection: bytes in, frames out, and its end.
 *
 * Answers are only submitted to nghttp2 where they arise; frames are made and written once, when the
 * loop's iteration ends (flush), so that answers that were ready together share a system call.
 *
 * The session is never entered again once the connection is condemned: what is left to say is one
 * GOAWAY frame, which is made by hand. */
#include <stdlib.h>
#include <string.h>

#include "rpc/pipe.h"
#include "rpc/tls_private.h"

#define LINGER_BYTES_MAX (1u << 20)
#define LOG_EVERY_NS TN_SEC

static void conn_read(tn_stream *stream, const uint8_t *p, size_t n);
static void conn_end(tn_stream *stream, int status);
static void conn_drained(tn_stream *stream);
static void conn_closed(tn_stream *stream);
static void conn_flush(tn_msg *msg);
static void conn_ready(void *user);
static bool conn_clear(void *user, const uint8_t *p, size_t n);

static const rpc_tls_events tls_events = {.ready = conn_ready, .clear = conn_clear};
static const tn_stream_events stream_events = {
    .read = conn_read,
    .end = conn_end,
    .drained = conn_drained,
    .closed = conn_closed,
};

/* ---- birth ---- */

void rpc_peer_unref(rpc_peer *peer)
{
    if (--peer->refs > 0)
        return;
    free(peer->cert);
    free(peer);
}

size_t rpc_conn_write(rpc_conn *conn, const uint8_t *p, size_t n)
{
    return conn->tls ? rpc_tls_write(conn->tls, p, n) : tn_stream_write(conn->stream, p, n);
}

void rpc_conn_accept(void *user, tn_stream *stream)
{
    rpc_worker *worker = user;
    const tn_rpc_options *o = &worker->server->options;
    uint64_t now = tn_now_mono_ns();
    uint32_t others =
        atomic_fetch_add_explicit(&worker->server->connections, 1, memory_order_relaxed);
    if (o->connections_max && others >= o->connections_max) {
        atomic_fetch_sub_explicit(&worker->server->connections, 1, memory_order_relaxed);
        rpc_count(RPC_COUNT_REFUSED, 1);
        tn_stream_close(stream);
        return;
    }
    rpc_conn *conn = tn_xcalloc(1, sizeof(*conn));

    conn->worker = worker;
    conn->stream = stream;
    conn->flush.run = conn_flush;
    conn->accepted_ns = conn->last_read_ns = conn->idle_since_ns = conn->now_ns = now;
    conn->age_at_ns = UINT64_MAX;
    if (o->age_max_ns) {
        /* Up to a tenth more or less, so that connections made together don't end together. */
        uint64_t tenth = o->age_max_ns / 10, jitter;
        tn_random_bytes(&jitter, sizeof(jitter));
        conn->age_at_ns = now + o->age_max_ns - tenth + jitter % (2 * tenth + 1);
    }
    tn_list_init(&conn->calls);
    tn_list_push_back(&worker->conns, &conn->link);
    worker->conn_count++;
    conn->peer = tn_xcalloc(1, sizeof(*conn->peer));
    conn->peer->refs = 1;
    tn_stream_peer(stream, conn->peer->text, sizeof(conn->peer->text));
    conn->peer->n = (uint32_t)strlen(conn->peer->text);
    tn_loop_timer_init(&conn->tick, rpc_conn_tick);
    rpc_pong_init(conn);
    tn_stream_set(stream, &stream_events, conn);
    if (o->tls)
        conn->tls = rpc_tls_accept(o->tls, stream, o->http != NULL, &tls_events, conn);
    rpc_count(RPC_COUNT_CONNECTIONS, 1);
    rpc_conn_tick_at(conn, now + rpc_slow_ns(conn, 1));
    tn_stream_read_start(stream);
}

static nghttp2_option *session_options(const tn_rpc_options *o)
{
    nghttp2_option *option;

    TN_ASSERT(nghttp2_option_new(&option) == 0);
    /* What is suspicious has a stricter bucket of ours; this one bounds the rest, and must let a worker
     * with many parked polls go. */
    nghttp2_option_set_stream_reset_rate_limit(option, 2 * (uint64_t)o->streams_max + 1000,
                                               (uint64_t)o->streams_max + 1000);
    nghttp2_option_set_max_continuations(option, RPC_BLOCK_FRAMES_MAX);
    nghttp2_option_set_max_settings(option, 32);
    nghttp2_option_set_max_outbound_ack(option, 1000);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_no_auto_ping_ack(option, 1); /* pong.c */
    return option;
}

static void session_create(rpc_conn *conn)
{
    const tn_rpc_options *o = &conn->worker->server->options;
    nghttp2_option *option = session_options(o);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, RPC_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, RPC_HEADER_BYTES_MAX},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };

    TN_ASSERT(nghttp2_session_server_new2(&conn->session, rpc_session_callbacks(), conn, option) ==
              0);
    nghttp2_option_del(option);
    TN_ASSERT(nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings,
                                      TN_COUNT_OF(settings)) == 0);
    TN_ASSERT(nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0,
                                                    RPC_CONN_WINDOW) == 0);
    rpc_conn_tick_at(conn, conn->now_ns); /* finds out when it is next needed */
}

/* ---- the end ---- */

static void log_end(rpc_conn *conn, const char *what, const char *why)
{
    rpc_worker *worker = conn->worker;
    uint64_t now = tn_now_mono_ns();

    if (now < worker->log_next_ns) {
        worker->log_held_back++;
        return;
    }
    TN_LOG(TN_LOG_WARN, "rpc", what, TN_LOG_Z("peer", conn->peer->text), TN_LOG_Z("why", why),
           TN_LOG_U("held_back", worker->log_held_back));
    worker->log_next_ns = now + LOG_EVERY_NS;
    worker->log_held_back = 0;
}

static void session_end(rpc_conn *conn)
{
    nghttp2_session *session = conn->session;
    tn_list *link;

    TN_ASSERT(!conn->in_session);
    while ((link = tn_list_first(&conn->calls)) != NULL)
        rpc_call_detach(TN_CONTAINER_OF(link, rpc_call, link));
    rpc_pong_forget(conn);
    conn->session = NULL;
    conn->incoming = NULL;
    rpc_h1_forget(conn);
    rpc_pipe_destroy(conn->pipe, "the connection has ended");
    conn->pipe = NULL;
    if (session)
        nghttp2_session_del(session);
}

static void conn_free(rpc_conn *conn)
{
    rpc_worker *worker = conn->worker;

    rpc_tls_destroy(conn->tls);
    rpc_peer_unref(conn->peer);
    free(conn);
    atomic_fetch_sub_explicit(&worker->server->connections, 1, memory_order_relaxed);
    worker
        /* not before: a flush that waits for the end of the turn still comes back to the worker */
        ->conn_count--;
    rpc_worker_maybe_done(worker);
}

void rpc_conn_close(rpc_conn *conn)
{
    if (conn->state >= RPC_CONN_CLOSED)
        return;
    session_end(conn);
    if (conn->tls && conn->state < RPC_CONN_LINGER)
        rpc_tls_end(conn->tls);
    conn->state = RPC_CONN_CLOSED;
    tn_loop_timer_stop(&conn->tick);
    tn_stream_close(conn->stream);
}

static void conn_closed(tn_stream *stream)
{
    rpc_conn *conn = tn_stream_user(stream);

    session_end(conn);
    tn_loop_timer_stop(&conn->tick);
    conn->state = RPC_CONN_GONE;
    conn->stream = NULL;
    tn_list_remove(&conn->link);
    if (!conn->flush_queued)
        conn_free(conn);
}

/* Closing a socket with bytes unread makes the kernel send a reset, which may overtake the GOAWAY:
 * so what still comes is read and dropped for a moment. */
void rpc_conn_linger(rpc_conn *conn)
{
    if (conn->state >= RPC_CONN_LINGER)
        return;
    session_end(conn);
    if (conn->tls)
        rpc_tls_end(conn->tls);
    conn->state = RPC_CONN_LINGER;
    conn->state_since_ns = tn_now_mono_ns();
    tn_loop_timer_start(&conn->tick, conn->state_since_ns + RPC_LINGER_NS);
}

void rpc_conn_kill(rpc_conn *conn, uint32_t code, const char *why)
{
    uint8_t frame[9 + 8 + 64] = {0};
    size_t why_n = strlen(why);
    int32_t last = conn->session ? nghttp2_session_get_last_proc_stream_id(conn->session) : 0;

    if (conn->state >= RPC_CONN_LINGER)
        return;
    if (conn->h1) {
        rpc_h1_kill(conn, 408, why);
        return;
    }
    if (conn->worker->server->options.http && !conn->session) {
        log_end(conn, "connection ended for breaking a rule", why);
        rpc_conn_close(conn); /* it has said nothing, and would not understand a GOAWAY */
        return;
    }
    TN_ASSERT(!conn->in_session);
    if (conn->pipe) { /* on which nothing of HTTP/2 may be said */
        log_end(conn, "a host's connection ended for breaking a rule", why);
        rpc_conn_close(conn);
        return;
    }
    if (why_n > 64)
        why_n = 64;
    frame[2] = (uint8_t)(8 + why_n);
    frame[3] = NGHTTP2_GOAWAY;
    tn_put_u32be(frame + 9, (uint32_t)last);
    tn_put_u32be(frame + 13, code);
    memcpy(frame + 17, why, why_n);
    rpc_count(code == NGHTTP2_ENHANCE_YOUR_CALM ? RPC_COUNT_GOAWAYS_CALM : RPC_COUNT_GOAWAYS_ERROR,
              1);
    log_end(conn, "connection ended for breaking a rule", why);
    if (tn_stream_pending_bytes(conn->stream) <= RPC_SOCKET_MARK)
        rpc_conn_write(conn, frame, 17 + why_n);
    rpc_conn_linger(conn);
}

int rpc_conn_condemn(rpc_conn *conn, uint32_t code, const char *why)
{
    if (!conn->kill_why) {
        conn->kill_why = why;
        conn->kill_code = code;
    }
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

int rpc_conn_glitch(rpc_conn *conn)
{
    if (rpc_bucket_take(&conn->guard.glitches, conn->now_ns, RPC_GLITCH_COST_NS, RPC_GLITCH_BURST))
        return 0;
    return rpc_conn_condemn(conn, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_refused_streams");
}

/* After nghttp2 has said no: rv is its error. */
static void session_failed(rpc_conn *conn, int rv)
{
    if (conn->kill_why)
        rpc_conn_kill(conn, conn->kill_code, conn->kill_why);
    else if (rv == NGHTTP2_ERR_FLOODED)
        rpc_conn_kill(conn, NGHTTP2_ENHANCE_YOUR_CALM, "flood");
    else if (rv == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
        rpc_conn_kill(conn, NGHTTP2_PROTOCOL_ERROR, "not_http2");
    else
        rpc_conn_kill(conn, NGHTTP2_INTERNAL_ERROR, "internal");
}

/* ---- in ---- */

static void begin_pipe(rpc_conn *conn) { conn->pipe = rpc_pipe_create(conn, NULL); }

static bool feed_pipe(rpc_conn *conn, const uint8_t *p, size_t n)
{
    bool fed = rpc_pipe_feed(conn->pipe, p, n);
    conn->guard.settings_seen = conn->pipe->greeted; /* as far as a slow beginning is concerned */
    if (fed)
        return true;
    log_end(conn, "a host's connection ended for breaking a rule", conn->pipe->why);
    rpc_conn_close(conn);
    return false;
}

/* False: the connection takes no more. */
static bool conn_clear(void *user, const uint8_t *p, size_t n)
{
    rpc_conn *conn = user;

    if (conn->h1 || (conn->worker->server->options.http && !conn->session))
        return rpc_h1_read(conn, p, n);
    return rpc_conn_clear_h2(conn, p, n);
}

/* See guard.c.  It has been paid for there, so that it is no glitch. */
static void answer_late_data(rpc_conn *conn)
{
    if (conn->rst_counted < UINT8_MAX) {
        conn->rst_counted++;
        nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, (int32_t)conn->guard.late_id,
                                  NGHTTP2_STREAM_CLOSED);
    }
    conn->guard.late_id = 0;
}

bool rpc_conn_clear_h2(rpc_conn *conn, const uint8_t *p, size_t n)
{
    rpc_verdict verdict;
    ssize_t rv;

    if (!conn->session && !conn->pipe && n && *p == (uint8_t)RPC_PIPE_MAGIC[0] &&
        conn->worker->server->options.internal)
        begin_pipe(conn);
    if (conn->pipe)
        return feed_pipe(conn, p, n);
    if (!conn->session)
        session_create(conn);
    verdict = rpc_guard_walk(&conn->guard, p, n, conn->now_ns);
    if (verdict.why) {
        rpc_conn_kill(conn, verdict.code, verdict.why);
        return false;
    }
    if (conn->guard.frame_since_ns || conn->guard.block_since_ns)
        rpc_conn_tick_at(conn, conn->now_ns + rpc_slow_ns(conn, 1));
    if (!nghttp2_session_want_read(conn->session))
        return true; /* it has given up; the flush that is due ends the connection */
    conn->in_session = true;
    rv = nghttp2_session_mem_recv(conn->session, p, n);
    conn->in_session = false;
    if (rv < 0 || conn->kill_why) {
        session_failed(conn, (int)rv);
        return false;
    }
    if (conn->guard.late_id)
        answer_late_data(conn);
    rpc_conn_flush_later(conn);
    return conn->state < RPC_CONN_LINGER;
}

/* TLS has shaken hands. */
static void conn_ready(void *user)
{
    rpc_conn *conn = user;
    rpc_peer *peer = conn->peer;

    rpc_tls_peer_text(conn->tls, &peer->cert, &peer->cert_n, &peer->subject_n);
}

static void conn_read_tls(rpc_conn *conn, const uint8_t *p, size_t n)
{
    int rv = rpc_tls_read(conn->tls, p, n);

    if (rv > 0) {
        rpc_conn_close(conn);
    } else if (rv < 0 && conn->state < RPC_CONN_LINGER) {
        log_end(conn, "TLS failed", rpc_tls_why(conn->tls));
        rpc_conn_linger(conn); /* so that the alert arrives */
    }
    if (conn->state == RPC_CONN_LINGER) { /* what it holds is not needed any more */
        rpc_tls_destroy(conn->tls);
        conn->tls = NULL;
    }
}

static void conn_read(tn_stream *stream, const uint8_t *p, size_t n)
{
    rpc_conn *conn = tn_stream_user(stream);

    conn->now_ns = conn->last_read_ns = tn_now_mono_ns();
    rpc_count(RPC_COUNT_BYTES_IN, n);
    if (conn->state >= RPC_CONN_LINGER) {
        conn->linger_bytes += n;
        if (conn->linger_bytes > LINGER_BYTES_MAX)
            rpc_conn_close(conn);
    } else if (conn->tls) {
        conn_read_tls(conn, p, n);
    } else {
        conn_clear(conn, p, n);
    }
}

static void conn_end(tn_stream *stream, int status)
{
    (void)status;
    rpc_conn_close(tn_stream_user(stream));
}

/* ---- out ---- */

void rpc_conn_flush_later(rpc_conn *conn)
{
    if (conn->flush_queued)
        return;
    conn->flush_queued = true;
    tn_loop_defer(&conn->flush);
}

/* Gathers frames into the worker's buffer.  Data goes there directly (rpc_answer_send_data). */
static int gather(rpc_conn *conn, tn_buf *out)
{
    const uint8_t *p;
    ssize_t n = 0;

    out->n = 0;
    conn->in_session = true;
    while (out->n < RPC_WRITE_BYTES) {
        n = nghttp2_session_mem_send(conn->session, &p);
        if (n == 0 && out->n && rpc_pong_goes_along(conn))
            continue;
        if (n <= 0)
            break;
        tn_buf_put(out, p, (size_t)n);
    }
    conn->in_session = false;
    return n < 0 ? (int)n : 0;
}

void rpc_conn_put(rpc_conn *conn, const uint8_t *p, size_t n)
{
    rpc_count(RPC_COUNT_BYTES_OUT, n);
    rpc_count(RPC_COUNT_WRITES, 1);
    if (!tn_stream_pending_bytes(conn->stream))
        conn->progress_ns = tn_now_mono_ns();
    if (rpc_conn_write(conn, p, n))
        rpc_conn_tick_at(conn, conn->progress_ns + rpc_slow_ns(conn, RPC_SLOW_STALL));
}

static void flush_pipe(rpc_conn *conn)
{
    rpc_pipe *p = conn->pipe;
    rpc_pipe_flush(p);
    if (p->why) {
        log_end(conn, "a host's connection ended", p->why);
        rpc_conn_close(conn);
    } else if (p->draining && (p->drained || conn->state == RPC_CONN_DRAINING) &&
               rpc_pipe_idle(p)) {
        rpc_conn_close(conn);
    }
}

static void conn_flush(tn_msg *msg)
{
    rpc_conn *conn = TN_CONTAINER_OF(msg, rpc_conn, flush);
    tn_buf *out = &conn->worker->out;
    int rv = 0;

    conn->flush_queued = false;
    if (conn->state == RPC_CONN_GONE) {
        conn_free(conn);
        return;
    }
    if (conn->h1) {
        rpc_h1_flush(conn);
        return;
    }
    if (conn->state < RPC_CONN_LINGER && conn->pipe)
        flush_pipe(conn);
    if (conn->state >= RPC_CONN_LINGER || !conn->session)
        return;
    conn->now_ns = tn_now_mono_ns();
    while (rv == 0 && tn_stream_pending_bytes(conn->stream) < RPC_SOCKET_MARK) {
        rv = gather(conn, out);
        if (!out->n)
            break;
        rpc_count(RPC_COUNT_BYTES_OUT, out->n);
        rpc_count(RPC_COUNT_WRITES, 1);
        if (!tn_stream_pending_bytes(conn->stream))
            conn->progress_ns = conn->now_ns;
        if (rpc_conn_write(conn, out->p, out->n))
            rpc_conn_tick_at(conn, conn->now_ns + rpc_slow_ns(conn, RPC_SLOW_STALL));
        if (conn->state >= RPC_CONN_LINGER)
            return; /* the write has found the connection broken */
    }
    if (rv < 0 || conn->kill_why)
        session_failed(conn, rv);
    else if (!nghttp2_session_want_read(conn->session) &&
             !nghttp2_session_want_write(conn->session))
        rpc_conn_linger(conn);
    else if (conn->state == RPC_CONN_DRAINING && !conn->call_count &&
             !nghttp2_session_want_write(conn->session))
        rpc_conn_linger(conn);
}

static void conn_drained(tn_stream *stream)
{
    rpc_conn *conn = tn_stream_user(stream);

    conn->progress_ns = tn_now_mono_ns();
    if (conn->state < RPC_CONN_LINGER)
        rpc_conn_flush_later(conn);
}

void rpc_conn_stream_ended(rpc_conn *conn)
{
    if (conn->call_count)
        return;
    conn->idle_since_ns = conn->now_ns;
    if (conn->state == RPC_CONN_DRAINING)
        rpc_conn_flush_later(conn);
    else if (conn->worker->server->options.idle_timeout_ns)
        rpc_conn_tick_at(conn, conn->now_ns + conn->worker->server->options.idle_timeout_ns);
}

/* ---- drain ----
 * Two GOAWAYs: the first says "open no more" and still takes what is on its way; the second, when the
 * peer has answered a ping (or a second has passed), names the last stream that will be answered. */

void rpc_conn_drain(rpc_conn *conn)
{
    static const uint8_t mark[8] = {'d', 'r', 'a', 'i', 'n'};

    if (conn->state != RPC_CONN_OPEN)
        return;
    if (conn->h1) {
        rpc_h1_drain(conn);
        return;
    }
    if (conn->pipe) {
        conn->state = RPC_CONN_NOTICED;
        conn->state_since_ns = tn_now_mono_ns();
        rpc_conn_tick_at(conn, conn->state_since_ns + RPC_DRAIN_NOTICE_NS);
        rpc_pipe_drain(conn->pipe);
        return;
    }
    if (!conn->session) { /* nothing has been asked yet */
        rpc_conn_close(conn);
        return;
    }
    rpc_count(RPC_COUNT_GOAWAYS_DRAIN, 1);
    conn->state = RPC_CONN_NOTICED;
    conn->state_since_ns = tn_now_mono_ns();
    nghttp2_submit_shutdown_notice(conn->session);
    nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, mark);
    rpc_conn_tick_at(conn, conn->state_since_ns + RPC_DRAIN_NOTICE_NS);
    rpc_conn_flush_later(conn);
}

void rpc_conn_drain_final(rpc_conn *conn)
{
    uint64_t grace = conn->worker->server->options.age_grace_ns;

    if (conn->state != RPC_CONN_NOTICED)
        return;
    conn->state = RPC_CONN_DRAINING;
    conn->state_since_ns = tn_now_mono_ns();
    if (conn->pipe) {
        rpc_conn_flush_later(conn);
        return;
    }
    nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(conn->session), NGHTTP2_NO_ERROR,
                          NULL, 0);
    if (grace)
        rpc_conn_tick_at(conn, conn->state_since_ns + grace);
    rpc_conn_flush_later(conn);
}
