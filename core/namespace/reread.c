/* SPDX-License-Identifier: MIT */
/* In a cluster a host hears of another's writes to namespaces from the writer.  Who was away, or was not known to the writer
 * yet, has heard nothing: so all records are read again when members come and go, now and then in any case, and before a
 * caller is told that there is no such namespace. */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "namespace/namespace.h"

#define SOON_NS (50 * TN_MS) /* members often come together */
#define EACH_NS (10 * TN_SEC)
#define SETTLED_NS \
    (2 * TN_SEC) /* by then all members know of each other what one of them knows now */
#define LEAST_NS (500 * TN_MS) /* between two that callers ask for: they may ask for anything */
#define STOP_NS (10 * TN_SEC)

static atomic_bool watching;

static struct {
    tn_loop_timer timer;
    tn_namespace_write read;
    bool running, again, soon;
    uint64_t begun_ns;
    tn_list askers; /* of the read under way */
    tn_list later;  /* who came since it began: it may be older than what they ask for */
} reread;           /* loop 0 only */

typedef struct asker {
    tn_msg msg;
    tn_list link;
    tn_loop *home;
    void (*done)(void *user);
    void *user;
} asker;

static void read_again(void);

static void tell(tn_msg *msg)
{
    asker *a = TN_CONTAINER_OF(msg, asker, msg);
    a->done(a->user);
    free(a);
}

static void send_home(asker *a)
{
    a->msg.run = tell;
    tn_loop_post(a->home, &a->msg);
}

static void answer_askers(void)
{
    tn_list *link;
    while ((link = tn_list_pop_front(&reread.askers)) != NULL)
        send_home(TN_CONTAINER_OF(link, asker, link));
}

static void came(tn_namespace_write *write)
{
    tn_list *link;
    tn_arena_destroy(write->arena); /* that it failed is no news: the next comes */
    reread.running = false;
    answer_askers();
    while ((link = tn_list_pop_front(&reread.later)) != NULL)
        tn_list_push_back(&reread.askers, link);
    if (reread.again || !tn_list_empty(&reread.askers))
        read_again();
    if (!reread.running) /* nobody reads any more */
        answer_askers();
}

static void read_again(void)
{
    reread.again = reread.running;
    if (reread.running || !atomic_load(&watching))
        return;
    reread.running = true;
    reread.begun_ns = tn_now_mono_ns();
    reread.read = (tn_namespace_write){
        .arena = tn_arena_create(0), .home = tn_loops_get(0), .verb = TN_NS_REFRESH, .done = came};
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

static void asked(tn_msg *msg)
{
    asker *a = TN_CONTAINER_OF(msg, asker, msg);
    bool lately = tn_now_mono_ns() - reread.begun_ns < LEAST_NS;
    if (!reread.running && (lately || !atomic_load(&watching))) {
        send_home(a);
        return;
    }
    tn_list_push_back(reread.running ? &reread.later : &reread.askers, &a->link);
    if (!reread.running)
        read_again();
}

bool tn_namespace_reread_for(void (*done)(void *user), void *user)
{
    if (!atomic_load(&watching))
        return false;
    asker *a = tn_xcalloc(1, sizeof(*a));
    *a = (asker){.msg.run = asked, .home = tn_loop_current(), .done = done, .user = user};
    tn_loop_post(tn_loops_get(0), &a->msg);
    return true;
}

static void watch(void *arg)
{
    (void)arg;
    tn_list_init(&reread.askers);
    tn_list_init(&reread.later);
    reread.begun_ns = 0;
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
