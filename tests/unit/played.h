/* SPDX-License-Identifier: MIT */
/* The loop room, namespaces' references and the clock, played: no threads and no waiting, so that a test of a role
 * passes an hour in no time and always does the same.  Included by one source a program, before which nothing
 * of core/loop is linked: the functions here stand for it. */
#ifndef TN_TESTS_UNIT_PLAYED_H
#define TN_TESTS_UNIT_PLAYED_H

#include "loop/loop.h"
#include "namespace/namespace.h"

#define PLAYED_LOOPS 2u

struct tn_loop {
    uint32_t index;
    tn_msg *first, **last;
};

static struct tn_loop played_loops[PLAYED_LOOPS];
static tn_loop *played_current;
static tn_heap played_timers;
static uint64_t played_now_ns;
static long played_ns_refs; /* references that were taken and not given back */

static uint64_t played_now(void) { return played_now_ns; }

uint32_t tn_loops_count(void) { return PLAYED_LOOPS; }
tn_loop *tn_loops_get(uint32_t index)
{
    TN_ASSERT(index < PLAYED_LOOPS);
    return &played_loops[index];
}
tn_loop *tn_loop_current(void) { return played_current; }
uint32_t tn_loop_index(const tn_loop *loop) { return loop->index; }
void tn_loop_call(tn_loop *loop, void (*fn)(void *arg), void *arg)
{
    tn_loop *before = played_current;
    played_current = loop;
    fn(arg);
    played_current = before;
}
void tn_loop_post(tn_loop *loop, tn_msg *msg)
{
    msg->next = NULL;
    *loop->last = msg;
    loop->last = &msg->next;
}
void tn_loop_defer(tn_msg *msg) { tn_loop_post(played_current, msg); }
void tn_loop_timer_init(tn_loop_timer *timer, void (*fire)(tn_loop_timer *timer))
{
    *timer = (tn_loop_timer){.fire = fire};
}
void tn_loop_timer_start(tn_loop_timer *timer, uint64_t at_mono_ns)
{
    timer->loop = played_current;
    tn_heap_remove(&played_timers, &timer->node);
    tn_heap_insert(&played_timers, &timer->node, at_mono_ns);
}
void tn_loop_timer_stop(tn_loop_timer *timer) { tn_heap_remove(&played_timers, &timer->node); }
void tn_loop_stats_get(tn_loop *loop, tn_loop_stats *out)
{
    (void)loop;
    *out = (tn_loop_stats){0};
}

const tn_namespace *tn_namespace_ref(const tn_namespace *ns)
{
    played_ns_refs++;
    return ns;
}
const tn_namespace *tn_namespace_by_id(tn_str id)
{
    (void)id;
    return NULL;
}
void tn_namespace_unref(const tn_namespace *ns)
{
    if (ns)
        played_ns_refs--;
}

static void played_start(void)
{
    played_now_ns = 1000 * TN_SEC;
    tn_clock_override(played_now, played_now);
    tn_log_configure(TN_LOG_NEVER, false);
    tn_heap_init(&played_timers);
    for (uint32_t i = 0; i < PLAYED_LOOPS; i++)
        played_loops[i] = (struct tn_loop){.index = i, .last = &played_loops[i].first};
    played_current = &played_loops[0];
}

/* One message of one loop; false: there is none. */
static bool played_step(void)
{
    for (uint32_t i = 0; i < PLAYED_LOOPS; i++) {
        tn_loop *loop = &played_loops[i];
        tn_msg *msg = loop->first;
        if (!msg)
            continue;
        loop->first = msg->next;
        if (!loop->first)
            loop->last = &loop->first;
        tn_loop *before = played_current;
        played_current = loop;
        msg->run(msg);
        played_current = before;
        return true;
    }
    return false;
}

static void played_run(void)
{
    while (played_step())
        ;
}

/* Every timer fires at its own moment, and what it set off has happened before the next one. */
static void played_pass(uint64_t ns)
{
    uint64_t until_ns = played_now_ns + ns;
    tn_heap_node *node;
    played_run();
    while ((node = tn_heap_min(&played_timers)) != NULL && node->key <= until_ns) {
        tn_loop_timer *timer = TN_CONTAINER_OF(node, tn_loop_timer, node);
        if (node->key > played_now_ns)
            played_now_ns = node->key;
        tn_heap_remove(&played_timers, node);
        played_current = timer->loop;
        timer->fire(timer);
        played_run();
    }
    played_now_ns = until_ns;
    played_current = &played_loops[0];
}

#endif
