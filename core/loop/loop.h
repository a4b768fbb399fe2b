/* SPDX-License-Identifier: MIT */
/* Event loops: one thread each, with timers, mailboxes and offload.  This is the only room that
 * sees <uv.h> in its private header; rpc asks it for sockets (loop/stream.h).
 *
 * A loop owns its objects; other threads send it messages.  A message is an object that travels
 * (a baton): whoever holds it owns it and all it points to. */
#ifndef TN_LOOP_LOOP_H
#define TN_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

/* tn_loop is declared by <tenon/plugin.h>: plugins hold it as an opaque handle. */

typedef struct tn_msg {
    struct tn_msg *next;
    void (*run)(struct tn_msg *msg);
} tn_msg;

/* ---- process [main thread] ---- */
/* Makes `count` loops and their threads (1..64).  The threads wait until tn_loops_run. */
tn_status tn_loops_create(uint32_t count, tn_error *err) TN_WARN_UNUSED;
void tn_loops_run(void);
uint32_t tn_loops_count(void);
tn_loop *tn_loops_get(uint32_t index);
/* Runs fn on the loop's thread and waits for it (start-up and shut-down; never from a loop). */
void tn_loop_call(tn_loop *loop, void (*fn)(void *arg), void *arg);
/* Asks every loop to end after its current iteration and joins the threads. */
void tn_loops_stop(void);
void tn_loops_destroy(void);
/* Waits in the main thread for SIGTERM/SIGINT (returns the number) or SIGHUP; signals are blocked
 * in all other threads. */
int tn_main_wait_signal(void);
/* The same for a while: 0 when none came. */
int tn_main_wait_signal_for(uint64_t ns);
void tn_main_wake(int as_signal); /* [any] ends the wait as if that signal had come */

/* ---- messages ---- */
uint32_t tn_loop_index(const tn_loop *loop);
tn_loop *tn_loop_current(void); /* NULL outside loop threads */
/* [any] Runs msg->run(msg) on the loop, in the order posted by one sender.  Never allocates; wakes
 * the loop only when its mailbox was empty. */
void tn_loop_post(tn_loop *loop, tn_msg *msg);
/* [loop] Runs msg on this loop at the end of the current iteration, after all that is ready now:
 * the place where a group of commits leaves and where written sockets are flushed.  Deferring
 * again from inside a deferred message runs in the same end-of-iteration phase. */
void tn_loop_defer(tn_msg *msg);

/* ---- timers [loop] ---- */
typedef struct tn_loop_timer {
    tn_heap_node node; /* key: monotonic ns */
    tn_loop *loop;
    void (*fire)(struct tn_loop_timer *timer);
} tn_loop_timer;
void tn_loop_timer_init(tn_loop_timer *timer, void (*fire)(tn_loop_timer *timer));
/* Fires once, not before the monotonic clock reaches at_mono_ns.  Starting a running one moves
 * it. */
void tn_loop_timer_start(tn_loop_timer *timer, uint64_t at_mono_ns);
void tn_loop_timer_stop(tn_loop_timer *timer);
static inline bool tn_loop_timer_active(const tn_loop_timer *timer)
{
    return tn_heap_linked(&timer->node);
}

/* ---- file descriptors and blocking work [loop] ---- */
typedef struct tn_loop_watch tn_loop_watch;
#define TN_WATCH_READ 1u
#define TN_WATCH_WRITE 2u
tn_loop_watch *tn_loop_watch_create(int fd, uint32_t events,
                                    void (*ready)(void *user, uint32_t events), void *user);
void tn_loop_watch_set(tn_loop_watch *watch, uint32_t events);
void tn_loop_watch_destroy(tn_loop_watch *watch);
/* work runs on a pool thread, then done on this loop. */
tn_status tn_loop_offload(void (*work)(void *user), void (*done)(void *user), void *user);

/* Counters for metrics [any]: iterations, messages, wake-ups, longest hold in ns since last
 * asked. */
typedef struct tn_loop_stats {
    uint64_t iterations, messages, wakeups, hold_max_ns;
} tn_loop_stats;
void tn_loop_stats_get(tn_loop *loop, tn_loop_stats *out);

#endif
