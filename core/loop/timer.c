/* SPDX-License-Identifier: MIT */
/* Timers, watches and offload.
 *
 * All timers of a loop share one libuv timer, set for the earliest of them.  libuv counts in
 * milliseconds of a cached clock; the alarm is therefore rounded up, and what is due is judged by
 * the real monotonic clock when it rings: never early, at most about a millisecond late by
 * rounding. */
#include <stdlib.h>

#include "loop/internal.h"

/* An alarm further away than this is set again half a day later: libuv takes an int of ms for
 * epoll. */
#define ALARM_MS_MAX (UINT64_C(12) * 3600 * 1000)

static void on_alarm(uv_timer_t *alarm)
{
    tn_loop *loop = alarm->data;
    tn_loop_busy(loop);
    loop->alarm_at_ns = UINT64_MAX;
    uint64_t now = tn_now_mono_ns();
    /* A timer that starts itself again in the past must not keep the loop here. */
    size_t left = loop->timers.count;
    tn_heap_node *node;
    while (left-- && (node = tn_heap_min(&loop->timers)) && node->key <= now) {
        tn_loop_timer *timer = TN_CONTAINER_OF(node, tn_loop_timer, node);
        tn_heap_remove(&loop->timers, node);
        timer->fire(timer);
    }
}

void tn_loop_timers_init(tn_loop *loop)
{
    tn_heap_init(&loop->timers);
    loop->alarm_at_ns = UINT64_MAX;
}

void tn_loop_timers_arm(tn_loop *loop)
{
    tn_heap_node *min = tn_heap_min(&loop->timers);
    if (!min) {
        if (loop->alarm_at_ns != UINT64_MAX)
            uv_timer_stop(&loop->alarm);
        loop->alarm_at_ns = UINT64_MAX;
        return;
    }
    if (min->key == loop->alarm_at_ns)
        return;
    uint64_t now = tn_now_mono_ns(), delay = min->key > now ? min->key - now : 0, ms = 0;
    uv_update_time(&loop->uv);
    if (delay / TN_MS >= ALARM_MS_MAX) {
        ms = ALARM_MS_MAX;
    } else if (delay) {
        /* The first whole millisecond of libuv's clock (uv_hrtime / 10^6) at or after the time. */
        uint64_t due_ms = (uv_hrtime() + delay + TN_MS - 1) / TN_MS, now_ms = uv_now(&loop->uv);
        ms = due_ms > now_ms ? due_ms - now_ms : 0;
    }
    uv_timer_start(&loop->alarm, on_alarm, ms, 0);
    loop->alarm_at_ns = min->key;
}

void tn_loop_timer_init(tn_loop_timer *timer, void (*fire)(tn_loop_timer *timer))
{
    *timer = (tn_loop_timer){.fire = fire};
}

void tn_loop_timer_start(tn_loop_timer *timer, uint64_t at_mono_ns)
{
    tn_loop *loop = tn_loop_current_checked();
    if (at_mono_ns == UINT64_MAX)
        at_mono_ns--; /* that value means "no alarm" */
    if (tn_heap_linked(&timer->node)) {
        TN_ASSERT(timer->loop == loop);
        tn_heap_change(&loop->timers, &timer->node, at_mono_ns);
    } else {
        timer->loop = loop;
        tn_heap_insert(&loop->timers, &timer->node, at_mono_ns);
    }
}

void tn_loop_timer_stop(tn_loop_timer *timer)
{
    if (!tn_heap_linked(&timer->node))
        return;
    TN_ASSERT(timer->loop == tn_loop_current());
    tn_heap_remove(&timer->loop->timers, &timer->node);
}

/* ---- file descriptors ---- */

struct tn_loop_watch {
    uv_poll_t poll;
    tn_loop_handle handle;
    void (*ready)(void *user, uint32_t events);
    void *user;
    uint32_t events;
};

static void watch_closed(uv_handle_t *handle) { free(handle->data); }

static void watch_abandon(tn_loop_handle *handle)
{
    tn_loop_watch *watch = TN_CONTAINER_OF(handle, tn_loop_watch, handle);
    uv_close((uv_handle_t *)&watch->poll, watch_closed);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    tn_loop_watch *watch = poll->data;
    tn_loop_busy(tn_loop_current_checked());
    uint32_t ready = 0;
    if (status < 0)
        ready = watch->events; /* the owner's next read or write tells what is wrong */
    else
        ready = ((events & UV_READABLE) ? TN_WATCH_READ : 0) |
                ((events & UV_WRITABLE) ? TN_WATCH_WRITE : 0);
    if (ready)
        watch->ready(watch->user, ready);
}

tn_loop_watch *tn_loop_watch_create(int fd, uint32_t events,
                                    void (*ready)(void *user, uint32_t events), void *user)
{
    tn_loop *loop = tn_loop_current_checked();
    tn_loop_watch *watch = tn_xcalloc(1, sizeof *watch);
    if (uv_poll_init(&loop->uv, &watch->poll, fd) != 0) {
        free(watch);
        return NULL;
    }
    watch->poll.data = watch;
    watch->ready = ready;
    watch->user = user;
    watch->handle.abandon = watch_abandon;
    tn_list_push_back(&loop->handles, &watch->handle.link);
    tn_loop_watch_set(watch, events);
    return watch;
}

void tn_loop_watch_set(tn_loop_watch *watch, uint32_t events)
{
    watch->events = events;
    int uv_events = ((events & TN_WATCH_READ) ? UV_READABLE : 0) |
                    ((events & TN_WATCH_WRITE) ? UV_WRITABLE : 0);
    if (uv_events)
        uv_poll_start(&watch->poll, uv_events, on_poll);
    else
        uv_poll_stop(&watch->poll);
}

void tn_loop_watch_destroy(tn_loop_watch *watch)
{
    if (!watch)
        return;
    tn_list_remove(&watch->handle.link);
    uv_close((uv_handle_t *)&watch->poll, watch_closed);
}

/* ---- blocking work ---- */

struct offload {
    uv_work_t req;
    void (*work)(void *user);
    void (*done)(void *user);
    void *user;
};

static void offload_work(uv_work_t *req)
{
    struct offload *o = req->data;
    o->work(o->user);
}

static void offload_done(uv_work_t *req, int status)
{
    (void)status; /* never cancelled */
    struct offload *o = req->data;
    tn_loop *loop = tn_loop_current_checked();
    tn_loop_busy(loop);
    loop->offloads--;
    if (o->done)
        o->done(o->user);
    free(o);
}

tn_status tn_loop_offload(void (*work)(void *user), void (*done)(void *user), void *user)
{
    tn_loop *loop = tn_loop_current_checked();
    struct offload *o = malloc(sizeof *o);
    if (!o)
        return TN_EUNAVAILABLE;
    *o = (struct offload){.work = work, .done = done, .user = user};
    o->req.data = o;
    if (uv_queue_work(&loop->uv, &o->req, offload_work, offload_done) != 0) {
        free(o);
        return TN_EUNAVAILABLE;
    }
    loop->offloads++;
    return TN_OK;
}
