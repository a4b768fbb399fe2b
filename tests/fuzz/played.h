/* SPDX-License-Identifier: MIT */
/* The loop room, played for fuzz targets of connections: no threads, sockets or clocks, so that an input always does the
 * same.  Included by one file of a program. */
#ifndef TN_TESTS_FUZZ_PLAYED_H
#define TN_TESTS_FUZZ_PLAYED_H

#include <stdio.h>
#include <stdlib.h>

#include "loop/loop.h"
#include "loop/stream.h"

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
tn_status tn_listener_open_local(const char *name, void (*accepted)(void *user, tn_stream *stream),
                                 void *user, tn_listener **out, tn_error *err)
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
static tn_stream *(*next_stream)(void); /* for a connection that is asked for; NULL: none will be */
static void (*connected_fn)(tn_stream *stream); /* of the first */
tn_stream *tn_stream_connect(const char *ip, uint16_t port, void (*connected)(tn_stream *stream),
                             const tn_stream_events *events, void *user)
{
    (void)ip, (void)port;
    check(next_stream != NULL);
    tn_stream *s = next_stream();
    s->events = events;
    s->user = user;
    if (!connected_fn)
        connected_fn = connected;
    return s;
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

#endif
