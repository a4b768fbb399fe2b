/* SPDX-License-Identifier: MIT */
/* In a cluster a host hears of another's writes to namespaces from the writer.  Who was away, or was not known to the writer
 * yet, has heard nothing: so all records are read again when members come and go, and now and then in any case. */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "namespace/namespace.h"

#define SOON_NS (50 * TN_MS) /* members often come together */
#define EACH_NS (10 * TN_SEC)
#define SETTLED_NS (2 * TN_SEC) /* by then all members know of each other what one of them knows now */
#define STOP_NS (10 * TN_SEC)

static atomic_bool watching;

static struct {
    tn_loop_timer timer;
    tn_namespace_write read;
    bool running, again, soon;
} reread; /* loop 0 only */

static void read_again(void);

static void came(tn_namespace_write *write)
{
    tn_arena_destroy(write->arena); /* that it failed is no news: the next comes */
    reread.running = false;
    if (reread.again)
        read_again();
}

static void read_again(void)
{
    reread.again = reread.running;
    if (reread.running || !atomic_load(&watching))
        return;
    reread.running = true;
    reread.read = (tn_namespace_write){.arena = tn_arena_create(0),
                                       .home = tn_loops_get(0),
                                       .verb = TN_NS_REFRESH,
                                       .done = came};
    tn_namespace_submit(&reread.read);
}

static void timed(tn_loop_timer *timer)
{
    read_again();
    tn_loop_timer_start(timer, tn_now_mono_ns() + (reread.soon ? SETTLED_NS : EACH_NS));
    reread.soon = false;
}

void tn_namespace_reread(void)
{
    if (!atomic_load(&watching) || reread.soon)
        return;
    reread.soon = true;
    tn_loop_timer_start(&reread.timer, tn_now_mono_ns() + SOON_NS);
}

static void watch(void *arg)
{
    (void)arg;
    tn_loop_timer_init(&reread.timer, timed);
    tn_loop_timer_start(&reread.timer, tn_now_mono_ns() + EACH_NS);
    reread.soon = reread.again = false;
    atomic_store(&watching, true);
}

void tn_namespace_reread_start(void) { tn_loop_call(tn_loops_get(0), watch, NULL); }

static void unwatch(void *arg)
{
    atomic_store(&watching, false);
    tn_loop_timer_stop(&reread.timer);
    *(bool *)arg = reread.running;
}

void tn_namespace_reread_stop(void)
{
    bool running = atomic_load(&watching);
    if (!running)
        return;
    uint64_t end_ns = tn_now_mono_ns() + STOP_NS;
    while (tn_loop_call(tn_loops_get(0), unwatch, &running), running && tn_now_mono_ns() < end_ns)
        usleep(1000);
}
