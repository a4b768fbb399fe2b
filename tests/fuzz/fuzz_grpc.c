/* SPDX-License-Identifier: MIT */
/* A whole server connection without threads, sockets or clocks: the loop room's functions are played
 * here, so that an input always does the same.  It is the peer's bytes; its first two bytes choose how
 * they are cut, whether the socket takes our bytes, and when time passes and waiting calls are answered.
 *
 * At the end the peer goes; then every call must have been freed and every lent memory released, and
 * what we wrote must be whole frames. */
#include <stdio.h>
#include <stdlib.h>

#include "loop/stream.h"
#include "proto/proto.h"
#include "rpc/rpc.h"
#include "rpc/wire.h"
#include "temporal/api/common/v1/message.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

/* ---- the loop, played ---- */

struct tn_loop {
    int unused;
};
struct tn_stream {
    const tn_stream_events *events;
    void *user;
    tn_buf written;
    size_t pending;
    bool blocked, closing;
};

static struct tn_loop the_loop;
static uint64_t now_ns;
static tn_msg *deferred, **deferred_end = &deferred;
static tn_heap timers;
static void (*accept_fn)(void *user, tn_stream *stream);
static void *accept_user;

static uint64_t fake_now(void) { return now_ns; }

uint32_t tn_loops_count(void) { return 1; }
tn_loop *tn_loops_get(uint32_t index)
{
    (void)index;
    return &the_loop;
}
tn_loop *tn_loop_current(void) { return &the_loop; }
uint32_t tn_loop_index(const tn_loop *loop)
{
    (void)loop;
    return 0;
}
void tn_loop_call(tn_loop *loop, void (*fn)(void *arg), void *arg)
{
    (void)loop;
    fn(arg);
}
void tn_loop_defer(tn_msg *msg)
{
    msg->next = NULL;
    *deferred_end = msg;
    deferred_end = &msg->next;
}
void tn_loop_post(tn_loop *loop, tn_msg *msg)
{
    (void)loop;
    tn_loop_defer(msg);
}
void tn_loop_timer_init(tn_loop_timer *timer, void (*fire)(tn_loop_timer *timer))
{
    *timer = (tn_loop_timer){.fire = fire};
}
void tn_loop_timer_start(tn_loop_timer *timer, uint64_t at)
{
    tn_heap_remove(&timers, &timer->node);
    tn_heap_insert(&timers, &timer->node, at);
}
void tn_loop_timer_stop(tn_loop_timer *timer) { tn_heap_remove(&timers, &timer->node); }

tn_status tn_listener_open(const char *ip, uint16_t port,
                           void (*accepted)(void *user, tn_stream *stream), void *user,
                           tn_listener **out, tn_error *err)
{
    (void)ip, (void)port, (void)err;
    accept_fn = accepted;
    accept_user = user;
    *out = NULL;
    return TN_OK;
}
tn_status tn_listener_open_local(const char *name, void (*accepted)(void *user, tn_stream *stream), void *user,
                                 tn_listener **out, tn_error *err)
{
    (void)name, (void)accepted, (void)user, (void)out, (void)err;
    return TN_EUNAVAILABLE; /* one stream here, and it is the public one */
}
uint16_t tn_listener_port(const tn_listener *listener)
{
    (void)listener;
    return 1;
}
void tn_listener_close(tn_listener *listener) { (void)listener; }

void tn_stream_set(tn_stream *s, const tn_stream_events *events, void *user)
{
    s->events = events;
    s->user = user;
}
void *tn_stream_user(const tn_stream *s) { return s->user; }
void tn_stream_read_start(tn_stream *s) { (void)s; }
void tn_stream_read_stop(tn_stream *s) { (void)s; }
size_t tn_stream_write(tn_stream *s, const uint8_t *p, size_t n)
{
    check(!s->closing);
    tn_buf_put(&s->written, p, n);
    if (s->blocked)
        s->pending += n;
    return s->pending;
}
size_t tn_stream_pending_bytes(const tn_stream *s) { return s->pending; }
tn_stream *tn_stream_connect(const char *ip, uint16_t port, void (*connected)(tn_stream *stream),
                             const tn_stream_events *events, void *user)
{
    (void)ip, (void)port, (void)connected, (void)events, (void)user;
    abort(); /* a server calls nobody */
}
tn_stream *tn_stream_connect_local(const char *name, void (*connected)(tn_stream *stream),
                                   const tn_stream_events *events, void *user)
{
    (void)name, (void)connected, (void)events, (void)user;
    return NULL;
}
void tn_stream_close(tn_stream *s) { s->closing = true; }
void tn_stream_peer(const tn_stream *s, char *out, size_t size)
{
    (void)s;
    snprintf(out, size, "198.51.100.1:1");
}

/* Certificates are read on the pool; here there are none. */
tn_status tn_loop_offload(void (*work)(void *user), void (*done)(void *user), void *user)
{
    work(user);
    done(user);
    return TN_OK;
}

/* The metrics room shows the loops' figures. */
void tn_loop_stats_get(tn_loop *loop, tn_loop_stats *out)
{
    (void)loop;
    *out = (tn_loop_stats){0};
}

static void run_deferred(void)
{
    while (deferred) {
        tn_msg *msg = deferred;
        deferred = msg->next;
        if (!deferred)
            deferred_end = &deferred;
        msg->run(msg);
    }
}

static void pass_time(uint64_t ns)
{
    tn_heap_node *node;

    now_ns += ns;
    while ((node = tn_heap_min(&timers)) != NULL && node->key <= now_ns) {
        tn_loop_timer *timer = TN_CONTAINER_OF(node, tn_loop_timer, node);
        tn_heap_remove(&timers, node);
        timer->fire(timer);
    }
    run_deferred();
}

/* ---- methods ---- */

typedef struct waiting {
    tn_list link;
    tn_call *call;
} waiting;

static tn_list parked = {&parked, &parked};
static size_t lent;

static void give_back(void *user)
{
    (void)user;
    check(lent > 0);
    lent--;
}

static void echo(tn_call *call)
{
    tn_str peer = tn_call_peer(call), header = tn_call_header(call, "x-fuzz-bin");

    tn_call_add_header(call, "x-fuzz-bin", header);
    check(peer.n > 0);
    lent++;
    tn_call_reply_spliced(call, call->request, &call->message, 1, give_back, NULL);
}

static void fail(tn_call *call)
{
    const Temporal__Api__Common__V1__Payload *p = (const void *)call->request;

    tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_NOT_FOUND, "%.*s", (int)p->data.len,
                                     (const char *)p->data.data));
}

static void unpark(waiting *w)
{
    tn_list_remove(&w->link);
    w->call->on_cancel = NULL;
    tn_call_reply(w->call, NULL);
}

static void park_cancelled(tn_call *call) { unpark(call->user); }

static void park(tn_call *call)
{
    waiting *w = TN_NEW(call->arena, waiting);

    check(w != NULL);
    w->call = call;
    call->user = w;
    /* Some hear of their end, the others are answered late. */
    if (call->message.n % 2)
        call->on_cancel = park_cancelled;
    tn_list_push_back(&parked, &w->link);
}

#define METHOD(name, function) \
    { \
        .path = "/f.F/" name, .input = &temporal__api__common__v1__payload__descriptor, \
        .output = &temporal__api__common__v1__payload__descriptor, .handle = (function) \
    }
static const tn_rpc_method methods[] = {
    METHOD("Echo", echo),
    METHOD("Fail", fail),
    METHOD("Park", park),
};

/* ---- the codecs, by themselves ---- */

static void codecs(const uint8_t *data, size_t size)
{
    tn_str s = {(const char *)data, size};
    uint8_t *plain = malloc(RPC_BASE64_DECODED_MAX(size));
    char *text = malloc(size * 3 + 1),
         *again = malloc(RPC_BASE64_SIZE(RPC_BASE64_DECODED_MAX(size)));
    uint64_t ns;
    size_t n;

    check(plain && text && again);
    rpc_timeout_parse(s, &ns);
    rpc_content_type_ok(s);
    rpc_list_has(s, TN_STR("gzip"));
    n = rpc_percent_encode(s, text, size * 3);
    for (size_t i = 0; i < n; i++)
        check(text[i] >= 0x20 && text[i] <= 0x7e);
    if (rpc_base64_decode(s, plain, &n)) {
        size_t m = rpc_base64_encode(tn_blob_from(plain, n), again);
        check(m <= size && memcmp(again, data, m) == 0);
    }
    free(plain);
    free(text);
    free(again);
}

/* ---- a connection ---- */

static tn_rpc_server *server;

static void set_up(void)
{
    tn_rpc_options options;
    tn_error err;

    if (server)
        return;
    tn_log_configure(TN_LOG_NEVER, false);
    tn_clock_override(fake_now, fake_now);
    tn_heap_init(&timers);
    tn_rpc_register(methods, TN_COUNT_OF(methods));
    tn_rpc_register_builtin();
    tn_rpc_set_health("", TN_HEALTH_SERVING);
    tn_rpc_options_default(&options);
    options.streams_max = 20;
    check(tn_rpc_server_start(&options, &server, &err) == TN_OK);
}

static void let_go(tn_stream *s, uint32_t dice)
{
    tn_list *link;

    if (s->closing)
        return;
    if (dice % 3 == 0 && (link = tn_list_first(&parked)) != NULL)
        unpark(TN_CONTAINER_OF(link, waiting, link));
    if (s->blocked && dice % 5 == 0) {
        s->pending = 0;
        s->events->drained(s);
    }
    run_deferred();
    if (dice % 7 == 0)
        pass_time(dice % 2 ? 20 * TN_MS : 4 * TN_SEC);
}

static void frames_whole(const tn_buf *written)
{
    size_t at = 0;

    while (at < written->n) {
        const uint8_t *p = written->p + at;
        size_t n;
        check(written->n - at >= 9);
        n = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        check(n <= 16384 && n <= written->n - at - 9);
        at += 9 + n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_stream s = {0};
    uint32_t dice;
    tn_list *link;

    set_up();
    codecs(data, size);
    if (size < 2)
        return 0;
    now_ns = 1000 * TN_SEC;
    dice = data[0] * 2654435761u + data[1];
    s.blocked = data[1] & 1;
    accept_fn(accept_user, &s);
    for (size_t at = 2; at < size && !s.closing;) {
        size_t n = data[0] & 1 ? size - at : 1 + (dice >> 16) % (data[0] + 1u);
        if (n > size - at)
            n = size - at;
        s.events->read(&s, data + at, n);
        at += n;
        run_deferred();
        dice = dice * 1664525u + 1013904223u;
        if (!(data[1] & 2))
            let_go(&s, dice >> 8);
    }
    if (!s.closing)
        s.events->end(&s, 0);
    run_deferred();
    while ((link = tn_list_first(&parked)) != NULL)
        unpark(TN_CONTAINER_OF(link, waiting, link));
    check(s.closing);
    s.events->closed(&s);
    run_deferred();
    check(tn_heap_min(&timers) == NULL && lent == 0);
    frames_whole(&s.written);
    tn_buf_done(&s.written);
    return 0;
}
