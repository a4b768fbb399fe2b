/* SPDX-License-Identifier: MIT */
/* Tasks of a queue that is another host's from now on.  Its runs offer them there when they see it move.  But a run may have
 * seen that before this host did: what it offered here since (straight, or by a partition of a host that was late, too)
 * nobody would offer again, and it would wait for a time-out, or for ever.  So what came of late goes on to the next owner from
 * here.  A task that arrives there twice is refused by its run the second time. */
#include "matching/priv.h"

#include <stdlib.h>

#define LATE_S 10u      /* by so much a host may lag behind others' rings, and more */
#define AGAIN_NS TN_SEC /* the next owner has no room, ... */
#define SOON 30u        /* ...so many times... */
#define LATER_NS (15 * TN_SEC)

typedef struct moved_task {
    tn_list link; /* ml->moved */
    tn_mloop *ml;
    tn_wtask *task;
    const tn_namespace *ns;
    tn_loop_timer again;
    uint32_t type, tries;
    char queue[];
} moved_task;

static void drop(moved_task *moved)
{
    tn_list_remove(&moved->link);
    tn_loop_timer_stop(&moved->again);
    tn_namespace_unref(moved->ns);
    tn_backlog_task_free(moved->task);
    free(moved);
}

static void back(tn_mreq *m)
{
    moved_task *moved = m->user;
    bool accepted = m->accepted && !m->fault;
    tn_arena_destroy(m->arena);
    if (accepted || moved->ml->stopping)
        drop(moved);
    else
        tn_loop_timer_start(&moved->again,
                            tn_now_mono_ns() + (++moved->tries < SOON ? AGAIN_NS : LATER_NS));
}

static void offer(tn_loop_timer *timer)
{
    moved_task *moved = TN_CONTAINER_OF(timer, moved_task, again);
    tn_arena *arena = tn_arena_create(0);
    tn_mreq *m = tn_wtask_offer(moved->task, arena);
    m->home = moved->ml->loop;
    m->ns = moved->ns;
    m->queue = tn_str_from(moved->queue);
    m->type = moved->type;
    m->done = back;
    m->user = moved;
    tn_client_matching(m);
}

bool tn_moved_send_on(tn_tq *tq, tn_wtask *task)
{
    uint32_t now_s = (uint32_t)(tn_now_mono_ns() / TN_SEC);
    if (tq->ml->stopping || tq->sticky || now_s - task->taken_s > LATE_S)
        return false; /* a sticky task has a time-out of some seconds */
    size_t n = strlen(tq->name);
    moved_task *moved = tn_xcalloc(1, sizeof(*moved) + n + 1);
    memcpy(moved->queue, tq->name, n);
    moved->ml = tq->ml;
    moved->task = task;
    moved->ns = tn_namespace_ref(tq->ns);
    moved->type = tq->type;
    tn_list_push_back(&tq->ml->moved, &moved->link);
    tn_loop_timer_init(&moved->again, offer);
    offer(&moved->again);
    return true;
}

/* Those who wait to be offered again; what is on its way comes back. */
void tn_moved_stop(tn_mloop *ml)
{
    TN_LIST_FOREACH_SAFE (link, &ml->moved) {
        moved_task *moved = TN_CONTAINER_OF(link, moved_task, link);
        if (tn_loop_timer_active(&moved->again))
            drop(moved);
    }
}
