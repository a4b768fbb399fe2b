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
    uv_async_t wake;
    uv_prepare_t end_phase; /* runs right before the loop would wait: the end of an iteration */
    uv_idle_t no_wait;      /* active: the next poll does not wait */
    uv_timer_t alarm;
    uint32_t index;
    pthread_t thread;

    /* Newest first; a sender that finds it empty wakes the loop.  Release on push pairs with
     * acquire on take. */
    _Atomic(tn_msg *) mailbox;
    atomic_bool stopping;
    bool waiting; /* no_wait is inactive */

    tn_msg *deferred, **deferred_tail;
    tn_heap timers;
    uint64_t alarm_at_ns; /* key the alarm is set for; UINT64_MAX: not set */
    tn_list handles;      /* streams, listeners and watches that nobody closed: freed at the end */
    size_t offloads;      /* on their way */
    uint8_t *read_buf;    /* one for all streams: bytes live only inside the read callback */

    struct tn_loop_early *early; /* a tn_loop_call before tn_loops_run; under the gate's lock */
    uint64_t last_end_ns, last_idle_ns;
    _Atomic uint64_t iterations, messages, wakeups, hold_max_ns; /* relaxed: statistics */
};

/* Something with a uv handle that has to be closed at the loop's end. */
typedef struct tn_loop_handle {
    tn_list link;
    void (*abandon)(struct tn_loop_handle *handle); /* closes it without telling its user */
} tn_loop_handle;

tn_loop *tn_loop_current_checked(void);
void tn_loop_timers_init(tn_loop *loop);
void tn_loop_timers_arm(tn_loop *loop);

#endif
