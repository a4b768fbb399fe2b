/* SPDX-License-Identifier: MIT */
/* Channels and their connections.  A channel has one link that takes new calls; a link that was told to go away
 * finishes what it has beside the next one.  Frames are made and written at the end of the loop's iteration. */
#include "rpc/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/pipe.h"

static _Atomic uint64_t stat_calls, stat_failed, stat_bytes_out, stat_bytes_in, stat_connects,
    stat_connects_local, stat_writes, stat_reads, stat_refused, stat_crowded, stat_opened,
    stat_open;

static void count(_Atomic uint64_t *stat, uint64_t n)
{
    atomic_fetch_add_explicit(stat, n, memory_order_relaxed);
}

void tn_outcall_stats_get(tn_outcall_stats *out)
{
    *out = (tn_outcall_stats){
        .calls = atomic_load_explicit(&stat_calls, memory_order_relaxed),
        .failed = atomic_load_explicit(&stat_failed, memory_order_relaxed),
        .bytes_out = atomic_load_explicit(&stat_bytes_out, memory_order_relaxed),
        .bytes_in = atomic_load_explicit(&stat_bytes_in, memory_order_relaxed),
        .connects = atomic_load_explicit(&stat_connects, memory_order_relaxed),
        .connects_local = atomic_load_explicit(&stat_connects_local, memory_order_relaxed),
        .writes = atomic_load_explicit(&stat_writes, memory_order_relaxed),
        .reads = atomic_load_explicit(&stat_reads, memory_order_relaxed),
        .refused = atomic_load_explicit(&stat_refused, memory_order_relaxed),
        .crowded = atomic_load_explicit(&stat_crowded, memory_order_relaxed),
        .breakers_opened = atomic_load_explicit(&stat_opened, memory_order_relaxed),
        .breakers_open = atomic_load_explicit(&stat_open, memory_order_relaxed),
    };
}

/* ---- a call's end ---- */

static void tell(tn_msg *msg)
{
    tn_outcall *call = TN_CONTAINER_OF(msg, tn_outcall, msg);
    tn_buf_done(&call->body);
    call->done(call);
}

static void join_link(rpc_link *l, const tn_outcall *call)
{
    l->n_calls++;
    l->call_bytes += call->message.n;
}

static void leave_link(rpc_link *l, const tn_outcall *call)
{
    l->n_calls--;
    l->call_bytes -= call->message.n;
}

void rpc_outcall_finish(tn_outcall *call, const tn_fault *fault, bool unsent)
{
    if (call->finished)
        return;
    call->finished = true;
    call->fault = fault;
    call->unsent = unsent;
    tn_loop_timer_stop(&call->timer);
    tn_list_remove(&call->link);
    if (call->wire && call->stream_id && call->wire->session)
        nghttp2_session_set_stream_user_data(call->wire->session, call->stream_id, NULL);
    if (call->wire)
        leave_link(call->wire, call);
    if (call->pipe)
        rpc_pipe_forget(call);
    if (fault)
        count(&stat_failed, 1);
    call->msg.run = tell;
    tn_loop_defer(&call->msg);
}

static void fail_unreachable(tn_outcall *call, const tn_channel *ch, const char *why, bool unsent)
{
    if (!call->finished)
        call->broken = true;
    rpc_outcall_finish(
        call, tn_fault_make(call->arena, TN_GRPC_UNAVAILABLE, "%s:%u: %s", ch->ip, ch->port, why),
        unsent);
}

void rpc_outcall_unreachable(tn_outcall *call, const char *why, bool unsent)
{
    fail_unreachable(call, call->channel, why, unsent);
}

void rpc_outcall_crowded(tn_outcall *call)
{
    /* temporal.api.enums.v1.ResourceExhausted... */
    enum { CAUSE_SYSTEM_OVERLOADED = 3, SCOPE_SYSTEM = 2 };
    count(&stat_crowded, 1);
    rpc_outcall_finish(call,
                       tn_fault_exhausted(call->arena, CAUSE_SYSTEM_OVERLOADED, SCOPE_SYSTEM,
                                          "%s:%u: too much waits for it", call->channel->ip,
                                          call->channel->port),
                       true);
}

/* ---- the circuit breaker ----
 *
 * A host that can't be reached fails calls at once.  This is for one that can, and takes calls, and says nothing: five calls in a
 * row that it still owed an answer when their time had been over for a second, or connections in a row that broke before
 * anything was answered.  Any answer, an error too, shows that it works on what it is asked. */

static const tn_breaker_rule rule = {
    .failures_max = 4, .open_ns = TN_SEC, .open_max_ns = 30 * TN_SEC, .try_ns = TN_SEC};

static void host_is_silent(tn_channel *ch)
{
    if (!tn_breaker_failed(&ch->breaker, &rule, tn_now_mono_ns()))
        return;
    count(&stat_opened, 1);
    count(&stat_open, 1);
    TN_LOG(TN_LOG_WARN, "rpc", "a host leaves calls without an answer: it gets none for a while",
           TN_LOG_Z("ip", ch->ip), TN_LOG_U("port", ch->port),
           TN_LOG_U("silences", ch->breaker.failures));
}

static void breaker_closed(const tn_channel *ch, const char *why)
{
    atomic_fetch_sub_explicit(&stat_open, 1, memory_order_relaxed);
    TN_LOG(TN_LOG_INFO, "rpc", why, TN_LOG_Z("ip", ch->ip), TN_LOG_U("port", ch->port));
}

void rpc_outcall_answered(tn_outcall *call, const tn_fault *fault)
{
    tn_channel *ch = call->channel;
    ch->failures = 0;
    if (call->wire)
        call->wire->answered = true;
    else if (call->pipe && call->pipe->link)
        call->pipe->link->answered = true;
    if (ch->breaker.failures && tn_breaker_succeeded(&ch->breaker))
        breaker_closed(ch, "a host answers calls again");
    rpc_outcall_finish(call, fault, false);
}

static bool is_refused(tn_channel *ch, tn_outcall *call)
{
    if (!tn_breaker_is_open(&ch->breaker) ||
        !tn_breaker_wait_ns(&ch->breaker, &rule, tn_now_mono_ns()))
        return false;
    count(&stat_refused, 1);
    fail_unreachable(call, ch, "it leaves calls without an answer, and is tried again soon", true);
    return true;
}

/* ---- a link ---- */

static size_t calls_on(const rpc_link *l) { return l->n_calls + (l->pipe ? l->pipe->n_out : 0); }

static bool is_up(const rpc_link *l) { return l->session || (l->pipe && l->pipe->greeted); }

static void link_free(rpc_link *l)
{
    rpc_tls_destroy(l->tls);
    free(l);
}

static void write_out(rpc_link *l, tn_buf *out)
{
    if (!out->n)
        return;
    count(&stat_bytes_out, out->n);
    count(&stat_writes, 1);
    l->tls ? rpc_tls_write(l->tls, out->p, out->n) : tn_stream_write(l->stream, out->p, out->n);
    out->n = 0;
}

void rpc_link_put(rpc_link *l, const uint8_t *p, size_t n)
{
    count(&stat_bytes_out, n);
    count(&stat_writes, 1);
    l->tls ? rpc_tls_write(l->tls, p, n) : tn_stream_write(l->stream, p, n);
}

static void flush_pipe(rpc_link *l)
{
    rpc_pipe_flush(l->pipe);
    if (l->pipe->why)
        rpc_link_close(l, l->pipe->why, true);
    else if (l->leaving && rpc_pipe_idle(l->pipe))
        rpc_link_close(l, "the connection has drained", false);
}

static void link_flush(tn_msg *msg)
{
    rpc_link *l = TN_CONTAINER_OF(msg, rpc_link, flush);
    l->flush_queued = false;
    if (l->closed) {
        if (!l->stream)
            link_free(l);
        return;
    }
    if (!l->session) {
        if (l->pipe)
            flush_pipe(l);
        return;
    }
    tn_buf out = {0};
    for (ssize_t n = 1; n > 0;) {
        const uint8_t *p;
        if (tn_stream_pending_bytes(l->stream) + out.n >= RPC_SOCKET_MARK)
            /* what the socket takes at once leaves room: nobody would call again */
            write_out(l, &out);
        if (tn_stream_pending_bytes(l->stream) >= RPC_SOCKET_MARK)
            break;
        n = nghttp2_session_mem_send(l->session, &p);
        if (n > 0)
            tn_buf_put(&out, p, (size_t)n);
    }
    write_out(l, &out);
    tn_buf_done(&out);
    if (!nghttp2_session_want_read(l->session) && !nghttp2_session_want_write(l->session))
        /* its own GOAWAY is a farewell; ours says that it is no host that we can talk to */
        rpc_link_close(l, "the connection has ended", !l->leaving);
    else if (l->leaving && !l->n_calls)
        rpc_link_close(l, "the connection has drained", false);
}

void rpc_link_flush_later(rpc_link *l)
{
    if (l->flush_queued || l->closed)
        return;
    l->flush_queued = true;
    l->flush.run = link_flush;
    tn_loop_defer(&l->flush);
}

/* Everything on it ends; the stream's last callback frees it. */
void rpc_link_close(rpc_link *l, const char *why, bool broke)
{
    if (l->closed)
        return;
    l->closed = true;
    tn_channel *ch = l->channel;
    bool mute = broke && is_up(l) && !l->answered && calls_on(l);
    tn_loop_timer_stop(&l->tick);
    tn_list_remove(&l->in_channel);
    if (ch->current == l)
        ch->current = NULL;
    TN_LIST_FOREACH_SAFE (link, &l->calls) {
        tn_outcall *call = TN_CONTAINER_OF(link, tn_outcall, link);
        fail_unreachable(call, ch, why, !call->head_sent);
    }
    if (l->session)
        nghttp2_session_del(l->session);
    l->session = NULL;
    rpc_pipe_destroy(l->pipe, why);
    l->pipe = NULL;
    if (l->tls)
        rpc_tls_end(l->tls);
    tn_stream_close(l->stream);
    if (!broke)
        return;
    if (mute)
        host_is_silent(ch);
    uint64_t wait = RPC_BACKOFF_MIN_NS << (ch->failures < 7 ? ch->failures : 7), jitter;
    tn_random_bytes(&jitter, sizeof(jitter));
    ch->failures++;
    ch->retry_at_ns = tn_now_mono_ns() + wait / 2 + jitter % wait;
    if (ch->broken)
        ch->broken(ch->user);
}

static void link_closed(tn_stream *stream)
{
    rpc_link *l = tn_stream_user(stream);
    l->stream = NULL;
    if (!l->flush_queued)
        link_free(l);
}

static void link_end(tn_stream *stream, int status)
{
    rpc_link *l = tn_stream_user(stream);
    rpc_link_close(l, status ? strerror(-status) : "closed by the other side", !l->leaving);
}

static rpc_link *link_open(tn_channel *ch);

/* A host of an older release: what waits goes there by HTTP/2, by another connection. */
static void speak_http2(rpc_link *l)
{
    tn_channel *ch = l->channel;
    ch->by_pipe = false;
    rpc_link *next = ch->current = link_open(ch);
    TN_LIST_FOREACH_SAFE (link, &l->calls) {
        tn_outcall *call = TN_CONTAINER_OF(link, tn_outcall, link);
        tn_list_remove(&call->link);
        tn_list_push_back(&next->calls, &call->link);
        call->wire = next;
        leave_link(l, call);
        join_link(next, call);
    }
    tn_loop_timer_start(&next->tick, tn_now_mono_ns() + RPC_CONNECT_NS);
    rpc_link_close(l, "it is of an older release", false);
}

static bool feed_pipe(rpc_link *l, const uint8_t *p, size_t n)
{
    if (rpc_pipe_feed(l->pipe, p, n))
        return true;
    if (l->pipe->magic_n == 0 && !rpc_host_proves(l->channel->host_id))
        speak_http2(l);
    else
        rpc_link_close(l, l->pipe->why, true);
    return false;
}

void rpc_link_greeted(rpc_link *l)
{
    TN_LIST_FOREACH_SAFE (link, &l->calls) {
        tn_outcall *call = TN_CONTAINER_OF(link, tn_outcall, link);
        tn_list_remove(&call->link);
        leave_link(l, call);
        rpc_pipe_send(l->pipe, call);
    }
}

void rpc_link_leaving(rpc_link *l)
{
    l->leaving = true;
    if (l->channel->current == l)
        l->channel->current = NULL;
}

static bool link_clear(void *user, const uint8_t *p, size_t n)
{
    rpc_link *l = user;
    if (l->pipe)
        return feed_pipe(l, p, n);
    if (nghttp2_session_mem_recv(l->session, p, n) != (ssize_t)n)
        rpc_link_close(l, "it does not speak HTTP/2 as agreed", true);
    else
        rpc_link_flush_later(l);
    return !l->closed;
}

static void link_read(tn_stream *stream, const uint8_t *p, size_t n)
{
    rpc_link *l = tn_stream_user(stream);
    if (l->closed)
        return;
    l->last_read_ns = tn_now_mono_ns();
    l->ping_out = false;
    count(&stat_bytes_in, n);
    count(&stat_reads, 1);
    int rv = l->tls ? rpc_tls_read(l->tls, p, n) : 0;
    if (!l->tls)
        link_clear(l, p, n);
    else if (rv)
        rpc_link_close(l, rv < 0 ? rpc_tls_why(l->tls) : "closed by the other side", true);
}

static void link_drained(tn_stream *stream) { rpc_link_flush_later(tn_stream_user(stream)); }

/* While calls are out, silence is asked about. */
static void link_tick(tn_loop_timer *timer)
{
    rpc_link *l = TN_CONTAINER_OF(timer, rpc_link, tick);
    uint64_t now = tn_now_mono_ns();
    if (!calls_on(l))
        return; /* started again with the next call */
    if (!is_up(l) || (l->ping_out && now >= l->last_read_ns + RPC_SILENCE_NS + RPC_PONG_NS)) {
        rpc_link_close(l, is_up(l) ? "it does not answer" : "no connection in time", true);
        return;
    }
    if (!l->ping_out && now >= l->last_read_ns + RPC_SILENCE_NS) {
        l->ping_out = true;
        if (l->pipe)
            rpc_pipe_ping(l->pipe);
        else
            nghttp2_submit_ping(l->session, NGHTTP2_FLAG_NONE, NULL);
        rpc_link_flush_later(l);
    }
    tn_loop_timer_start(&l->tick,
                        l->ping_out ? now + RPC_PONG_NS : l->last_read_ns + RPC_SILENCE_NS);
}

static void link_ready(void *user)
{
    rpc_link *l = user;
    l->last_read_ns = tn_now_mono_ns();
    count(&stat_connects, 1);
    l->pipe = l->channel->by_pipe ? rpc_pipe_create(NULL, l) : NULL;
    if (l->pipe) {
        rpc_link_flush_later(l);
        return;
    }
    rpc_link_begin(l);
    TN_LIST_FOREACH_SAFE (link, &l->calls)
        rpc_link_submit(l, TN_CONTAINER_OF(link, tn_outcall, link));
    rpc_link_flush_later(l);
}

static void link_connected(tn_stream *stream)
{
    static const rpc_tls_events events = {.ready = link_ready, .clear = link_clear};
    rpc_link *l = tn_stream_user(stream);
    tn_channel *ch = l->channel;
    if (l->closed)
        return;
    if (ch->tls)
        l->tls = rpc_tls_connect(ch->tls, stream, ch->ip, &ch->kept, &events, l);
    else
        link_ready(l);
    tn_stream_read_start(stream);
}

static rpc_link *link_open(tn_channel *ch)
{
    static const tn_stream_events events = {
        .read = link_read, .end = link_end, .drained = link_drained, .closed = link_closed};
    rpc_link *l = tn_xcalloc(1, sizeof(*l));
    l->channel = ch;
    tn_list_init(&l->calls);
    tn_list_push_back(&ch->links, &l->in_channel);
    tn_loop_timer_init(&l->tick, link_tick);
    l->last_read_ns = tn_now_mono_ns();
    l->stream = rpc_pipe_local_connect(ch, link_connected, &events, l);
    if (l->stream) {
        count(&stat_connects_local, 1);
        return l;
    }
    l->stream = tn_stream_connect(ch->ip, ch->port, link_connected, &events, l);
    return l;
}

/* ---- channels ---- */

static tn_tls_side *roles_tls, *frontends_tls;

void tn_channels_use_tls(tn_tls_side *roles, tn_tls_side *frontends)
{
    roles_tls = roles;
    frontends_tls = frontends;
}

void tn_channel_to_host(tn_channel *channel, const uint8_t host_id[16])
{
    memcpy(channel->host_id, host_id, 16);
    channel->by_pipe = true;
}

void tn_channel_to_frontend(tn_channel *channel) { channel->tls = frontends_tls; }

void tn_channel_share_pipes(tn_channel *channel, const uint8_t host_id[16])
{
    memcpy(channel->host_id, host_id, 16);
    channel->shares_pipes = true;
}

tn_channel *tn_channel_create(const char *ip, uint16_t port, const char *secret,
                              void (*broken)(void *user), void *user)
{
    tn_channel *ch = tn_xcalloc(1, sizeof(*ch));
    snprintf(ch->ip, sizeof(ch->ip), "%s", ip);
    snprintf(ch->authority, sizeof(ch->authority), strchr(ip, ':') ? "[%s]:%u" : "%s:%u", ip, port);
    ch->as_host = !secret;
    snprintf(ch->secret, sizeof(ch->secret), "%s", secret ? secret : "");
    ch->port = port;
    ch->tls = roles_tls;
    ch->broken = broken;
    ch->user = user;
    tn_list_init(&ch->links);
    return ch;
}

void tn_channel_destroy(tn_channel *ch)
{
    if (!ch)
        return;
    ch->broken = NULL;
    if (tn_breaker_is_open(&ch->breaker))
        breaker_closed(ch, "a host that left calls without an answer has gone");
    /* what ends now says nothing */
    ch->breaker = (tn_breaker){.failures = UINT32_MAX / 2, .open_until_ns = 1};
    if (ch->by_pipe || ch->shares_pipes)
        rpc_pipe_channel_ends(ch);
    TN_LIST_FOREACH_SAFE (link, &ch->links)
        rpc_link_close(TN_CONTAINER_OF(link, rpc_link, in_channel), "the host has left", false);
    rpc_tls_kept_drop(&ch->kept);
    free(ch);
}

/* The other side is told that nobody waits. */
static void give_up(tn_outcall *call)
{
    rpc_link *l = call->wire;
    if (call->pipe) {
        rpc_pipe_cancel(call);
    } else if (l && l->session && call->stream_id) {
        nghttp2_submit_rst_stream(l->session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
        rpc_link_flush_later(l);
    }
}

static void watch(rpc_link *l)
{
    if (tn_loop_timer_active(&l->tick))
        return;
    if (!l->ping_out && is_up(l))
        l->last_read_ns = tn_now_mono_ns();
    tn_loop_timer_start(&l->tick, tn_now_mono_ns() + (is_up(l) ? RPC_SILENCE_NS : RPC_CONNECT_NS));
}

/* The deadline alone is no sign of anything: who asks may have little patience. */
static void wait_for_answer(tn_outcall *call)
{
    uint64_t until;
    if (__builtin_add_overflow(call->deadline_mono_ns, RPC_OWED_NS, &until))
        return;
    tn_loop_timer_start(&call->timer, until);
}

/* By a pipe to that host, whoever opened it.  False: there is none. */
static bool by_pipe(const tn_channel *ch, tn_outcall *call)
{
    rpc_pipe *p = ch->by_pipe || ch->shares_pipes ? rpc_pipe_to(ch->host_id) : NULL;
    if (!p)
        return false;
    wait_for_answer(call);
    rpc_pipe_send(p, call);
    if (p->link)
        watch(p->link);
    return true;
}

static void call_too_late(tn_loop_timer *timer)
{
    tn_outcall *call = TN_CONTAINER_OF(timer, tn_outcall, timer);
    give_up(call);
    host_is_silent(call->channel);
    rpc_outcall_finish(
        call, tn_fault_make(call->arena, TN_GRPC_DEADLINE_EXCEEDED, "context deadline exceeded"),
        false);
}

void tn_outcall_cancel(tn_outcall *call)
{
    if (call->finished)
        return;
    give_up(call);
    rpc_outcall_finish(call, tn_fault_make(call->arena, TN_GRPC_CANCELLED, "context canceled"),
                       false);
}

bool tn_outcall_settle(tn_outcall *call)
{
    if (call->finished)
        return false;
    if (call->pipe)
        rpc_pipe_cancel_unhurried(call);
    else
        give_up(call);
    rpc_outcall_finish(call, NULL, false);
    return true;
}

bool tn_outcall_left(const tn_outcall *call)
{
    return !call->pipe || call->frame_at < call->pipe->handed;
}

void tn_outcall_hurry(tn_outcall *call)
{
    if (call->pipe)
        rpc_pipe_hurry(call->pipe);
}

void tn_outcall_send(tn_channel *ch, tn_outcall *call)
{
    call->wire = NULL;
    call->pipe = NULL;
    call->has_slot = false;
    call->channel = ch;
    call->stream_id = 0;
    call->finished = call->head_sent = call->unsent = call->broken = false;
    call->sent = 0;
    call->body = (tn_buf){0};
    call->status = -1;
    call->status_message = (tn_str){0};
    call->status_details = (tn_blob){0};
    call->fault = NULL;
    tn_list_init(&call->link);
    tn_loop_timer_init(&call->timer, call_too_late);
    count(&stat_calls, 1);
    if (call->deadline_mono_ns != UINT64_MAX && call->deadline_mono_ns <= tn_now_mono_ns()) {
        rpc_outcall_finish(
            call,
            tn_fault_make(call->arena, TN_GRPC_DEADLINE_EXCEEDED, "context deadline exceeded"),
            true);
        return;
    }
    if (is_refused(ch, call) || by_pipe(ch, call))
        return;
    if (!ch->current && ch->failures && tn_now_mono_ns() < ch->retry_at_ns) {
        fail_unreachable(call, ch, "not reachable", true);
        return;
    }
    if (!ch->current)
        ch->current = link_open(ch);
    rpc_link *l = ch->current;
    wait_for_answer(call);
    if (l->pipe && l->pipe->greeted) { /* no one that is better */
        rpc_pipe_send(l->pipe, call);
        watch(l);
        return;
    }
    if (!is_up(l) && l->n_calls && l->call_bytes + call->message.n > RPC_UNREAD_BYTES_MAX) {
        rpc_outcall_crowded(call);
        return;
    }
    call->wire = l;
    join_link(l, call);
    tn_list_push_back(&l->calls, &call->link);
    if (l->session) {
        rpc_link_submit(l, call);
        rpc_link_flush_later(l);
    }
    watch(l);
}
