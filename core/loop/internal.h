/* SPDX-License-Identifier: MIT */
/* The inside of a loop, shared by this room's sources only: the one place with <uv.h>. */
#ifndef TN_LOOP_INTERNAL_H
#define TN_LOOP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "loop/loop.h"

#define TN_LOOP_READ_BYTES 65536u

struct tn_loop {
    uv_loop_t uv;
    uv_poll_t wake;         /* on wake_fd */
    int wake_fd;            /* an eventfd; see loop.c about why not uv_async */
    bool wake_edge;         /* it is edge-triggered and need not be read */
    uv_prepare_t end_phase; /* runs right before the loop would wait: the end of an iteration */
    uv_idle_t no_wait;      /* active: the next poll does not wait */
    uv_timer_t alarm;
    uint32_t index;
    pthread_t thread;

    /* Newest first.  A sender that finds it empty, and the loop asleep, wakes the loop. */
    _Atomic(tn_msg *) mailbox;
    atomic_bool asleep; /* it may be waiting in the kernel: a post must wake it */
    atomic_bool stopping;
    bool waiting; /* no_wait is inactive */

    tn_msg *deferred, **deferred_tail;
    tn_heap timers;
    uint64_t alarm_at_ns; /* key the alarm is set for; UINT64_MAX: not set */
    tn_list handles;      /* streams, listeners and watches that nobody closed: freed at the end */
    size_t offloads;      /* on their way */
    uint8_t *read_buf;    /* one for all streams: bytes live only inside the read callback */

    struct tn_loop_early *early; /* a tn_loop_call before tn_loops_run; under the gate's lock */
    uint64_t busy_since_ns;      /* 0: nothing has run yet in this iteration */
    _Atomic uint64_t iterations, messages, wakeups, hold_max_ns; /* relaxed: statistics */
};

/* Something with a uv handle that has to be closed at the loop's end. */
typedef struct tn_loop_handle {
    tn_list link;
    void (*abandon)(struct tn_loop_handle *handle); /* closes it without telling its user */
} tn_loop_handle;

tn_loop *tn_loop_current_checked(void);
/* First thing in every callback of libuv's: the loop is awake, its turn begins. */
void tn_loop_busy(tn_loop *loop);
void tn_loop_timers_init(tn_loop *loop);
void tn_loop_timers_arm(tn_loop *loop);

#endif
