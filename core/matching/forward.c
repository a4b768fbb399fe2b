/* SPDX-License-Identifier: MIT */
/* Between the partitions of a queue: what meets nobody in a partition goes up the tree to where the others' leftovers meet.
 *
 * A poll that waited for a while without a task is asked again at the parent, in its own name; it is out of the
 * partition's line until the parent answers.  A task whose partition has no poll moves to the parent for good: nothing is
 * durable here, and its run offers it again should the parent's host die.  How many are out at once and how many
 * tasks go a second is bounded; the rest waits, so that a partition with workers of its own forwards next to nothing. */
#include "matching/priv.h"

#include <stdlib.h>

#include "client/partition.h"

#define POLL_PATIENCE_NS (20 * TN_MS)  /* so long a poll waits first */
#define TASK_PATIENCE_NS (100 * TN_MS) /* ... and a task for a poll that was here so lately */
#define REFUSED_NS TN_SEC              /* the parent took no task: again after this */

struct tn_tq_forward {
    tn_tq *tq;
    tn_str parent; /* its name; NUL-terminated */
    tn_list polls; /* tn_wpoll at the parent */
    size_t polls_out, tasks_out;
    uint64_t tasks_from_ns; /* refused: no task goes before */
    uint64_t next_task_ns;  /* by the rate */
    tn_loop_timer timer;
};

static void look_again(tn_loop_timer *timer)
{
    tn_forward_look(TN_CONTAINER_OF(timer, tn_tq_forward, timer)->tq);
}

void tn_forward_create(tn_tq *tq)
{
    uint32_t index;
    tn_str base = tn_partition_base(tn_str_from(tq->name), &index);
    if (tq->sticky || !index)
        return;
    uint64_t children = tn_tq_number(tq, TN_DYN_MATCHING_FORWARD_CHILDREN);
    uint32_t parent = (index - 1) / (uint32_t)(children ? children : 1);
    tn_arena *arena = tn_arena_create(0);
    tn_str name = tn_partition_name(arena, base, parent);
    tn_tq_forward *f = tn_xcalloc(1, sizeof(*f) + name.n + 1);
    memcpy(f + 1, name.p, name.n);
    tn_arena_destroy(arena);
    f->parent = (tn_str){(char *)(f + 1), name.n};
    f->tq = tq;
    tn_list_init(&f->polls);
    tn_loop_timer_init(&f->timer, look_again);
    tq->forward = f;
}

void tn_forward_destroy(tn_tq *tq)
{
    if (!tq->forward)
        return;
    TN_ASSERT(!tq->forward->polls_out && !tq->forward->tasks_out);
    tn_loop_timer_stop(&tq->forward->timer);
    free(tq->forward);
}

static void look_at(tn_tq_forward *f, uint64_t at_ns)
{
    if (!tn_loop_timer_active(&f->timer) || f->timer.node.key > at_ns)
        tn_loop_timer_start(&f->timer, at_ns);
}

static tn_mreq *to_parent(tn_tq_forward *f, tn_arena *arena, tn_mop op)
{
    tn_mreq *m = TN_NEW(arena, tn_mreq);
    *m = (tn_mreq){.arena = arena,
                   .home = f->tq->ml->loop,
                   .op = op,
                   .ns = f->tq->ns,
                   .queue = f->parent,
                   .type = f->tq->type,
                   .placed = true,
                   .forwarded = true};
    return m;
}

/* ---- polls ---- */

static void poll_back(tn_mreq *m)
{
    tn_wpoll *poll = m->user;
    tn_tq *tq = poll->tq;
    poll->asked = NULL;
    tn_list_remove(&poll->link);
    tq->forward->polls_out--;
    tq->n_out--;
    if (!m->fault && m->response) {
        tn_counter_inc(tq->polls_won);
        poll->mreq->response = m->response;
        tn_wpoll_finish(poll, NULL);
    } else if (poll->ending || tq->ml->stopping || tn_now_mono_ns() >= poll->until_mono_ns) {
        tn_counter_inc(tq->polls_timed_out);
        tn_wpoll_finish(poll, NULL);
    } else if (!tn_wpoll_usable(poll)) {
        tn_wpoll_finish(
            poll, tn_fault_make(poll->mreq->arena, TN_GRPC_CANCELLED, "the poll was cancelled"));
    } else { /* the parent moves or rests */
        tn_loop_timer_start(&poll->timer, poll->until_mono_ns);
        tn_wpoll_park(poll, true);
    }
    tn_match(tq);
}

static void send_poll(tn_tq_forward *f, tn_wpoll *poll)
{
    tn_wpoll_unpark(poll);
    tn_loop_timer_stop(&poll->timer);
    tn_arena_set_limit(poll->mreq->arena, 0);
    tn_mreq *m = to_parent(f, poll->mreq->arena, TN_MOP_POLL);
    m->request = poll->mreq->request;
    m->call = poll->mreq->call;
    m->poll_id = tn_client_next_poll_id();
    m->deadline_mono_ns = poll->until_mono_ns + TN_LONG_POLL_MARGIN_NS;
    m->pass_on = true;
    m->done = poll_back;
    m->user = poll;
    poll->asked = m;
    f->polls_out++;
    f->tq->n_out++;
    tn_list_push_back(&f->polls, &poll->link);
    tn_client_matching(m);
}

static void cancelled(tn_mreq *m)
{
    tn_namespace_unref(m->ns);
    tn_arena_destroy(m->arena);
}

/* The parent gives it back, or an answer that has been on its way. */
void tn_forward_cancel(tn_wpoll *poll)
{
    tn_tq_forward *f = poll->tq->forward;
    tn_mreq *m = to_parent(f, tn_arena_create(0), TN_MOP_CANCEL_POLL);
    m->ns = tn_namespace_ref(f->tq->ns);
    m->queue = tn_arena_str(m->arena, f->parent);
    m->poll_id = poll->asked->poll_id;
    m->done = cancelled;
    tn_client_matching(m);
}

void tn_forward_end_polls(tn_tq *tq)
{
    if (!tq->forward)
        return;
    TN_LIST_FOREACH (link, &tq->forward->polls) {
        tn_wpoll *poll = TN_CONTAINER_OF(link, tn_wpoll, link);
        if (!poll->ending)
            tn_forward_cancel(poll);
        poll->ending = true;
    }
}

static void look_polls(tn_tq_forward *f)
{
    tn_tq *tq = f->tq;
    while (!tn_list_empty(&tq->polls) && !tq->backlog.count && tn_list_empty(&tq->queries) &&
           f->polls_out < tn_tq_number(tq, TN_DYN_MATCHING_FORWARD_POLLS)) {
        tn_wpoll *poll = TN_CONTAINER_OF(tn_list_first(&tq->polls), tn_wpoll, link);
        if (tn_now_mono_ns() < poll->parked_mono_ns + POLL_PATIENCE_NS) {
            look_at(f, poll->parked_mono_ns + POLL_PATIENCE_NS);
            return;
        }
        send_poll(f, poll);
    }
}

/* ---- tasks ---- */

typedef struct sent_task {
    tn_mreq *mreq;
    tn_tq *tq;
    tn_wtask *task;
} sent_task;

static void task_back(tn_mreq *m)
{
    sent_task *sent = m->user;
    tn_tq *tq = sent->tq;
    tq->forward->tasks_out--;
    tq->n_out--;
    if (m->accepted && !m->fault) {
        tn_backlog_task_free(sent->task);
        tn_tq_give_credit(tq);
    } else if (tq->lost) { /* another host's by now, and so is the task */
        if (!tn_moved_send_on(tq, sent->task))
            tn_backlog_task_free(sent->task);
    } else {
        tq->forward->tasks_from_ns = tn_now_mono_ns() + REFUSED_NS;
        tn_match_put_back(tq, sent->task);
    }
    tn_namespace_unref(m->ns);
    tn_arena_destroy(m->arena);
    tn_match(tq);
}

static const tn_task_priority *priority_of(const tn_wtask *task, tn_arena *arena)
{
    tn_task_priority *out = TN_NEW(arena, tn_task_priority);
    *out = (tn_task_priority){.key = task->priority,
                              .fairness_weight = task->weight,
                              .fairness_key = tn_arena_str(arena, tn_wtask_fairness_key(task))};
    return out;
}

tn_mreq *tn_wtask_offer(const tn_wtask *task, tn_arena *arena)
{
    tn_mreq *m = TN_NEW(arena, tn_mreq);
    *m = (tn_mreq){.arena = arena,
                   .op = TN_MOP_ADD,
                   .placed = true,
                   .forwarded = true,
                   .deadline_mono_ns = UINT64_MAX,
                   .workflow_id = tn_arena_str(arena, tn_wtask_workflow_id(task)),
                   .paid = task->paid};
    m->priority = priority_of(task, arena);
    m->task = task->ref;
    m->expire_mono_ns = task->expire_mono_ns;
    tn_wtask_get_directive(task, &m->directive);
    return m;
}

static void send_task(tn_tq_forward *f, tn_wtask *task)
{
    tn_arena *arena = tn_arena_create(0);
    sent_task *sent = TN_NEW(arena, sent_task);
    tn_mreq *m = sent->mreq = tn_wtask_offer(task, arena);
    sent->tq = f->tq;
    sent->task = task;
    m->home = f->tq->ml->loop;
    m->ns = tn_namespace_ref(f->tq->ns);
    m->queue = f->parent;
    m->type = f->tq->type;
    m->done = task_back;
    m->user = sent;
    f->tasks_out++;
    f->tq->n_out++;
    tn_client_matching(m);
}

/* A poll of ours waits at the parent, or none has been here for a while. */
static uint64_t tasks_may_go_ns(const tn_tq_forward *f)
{
    uint64_t at = f->polls_out ? 0 : f->tq->last_poll_mono_ns + TASK_PATIENCE_NS;
    at = at > f->tasks_from_ns ? at : f->tasks_from_ns;
    return at > f->next_task_ns ? at : f->next_task_ns;
}

static void look_tasks(tn_tq_forward *f)
{
    tn_tq *tq = f->tq;
    uint64_t rate = tn_tq_number(tq, TN_DYN_MATCHING_FORWARD_RATE);
    while (rate && tq->backlog.count && tn_list_empty(&tq->polls) &&
           f->tasks_out < tn_tq_number(tq, TN_DYN_MATCHING_FORWARD_TASKS)) {
        uint64_t now = tn_now_mono_ns();
        if (now < tasks_may_go_ns(f)) {
            look_at(f, tasks_may_go_ns(f));
            return;
        }
        tn_wtask *task = tn_match_take_task(tq);
        if (!task)
            return;
        f->next_task_ns =
            (f->next_task_ns + TN_SEC > now ? f->next_task_ns : now - TN_SEC) + TN_SEC / rate;
        send_task(f, task);
    }
}

void tn_forward_look(tn_tq *tq)
{
    tn_tq_forward *f = tq->forward;
    if (!f || tq->ml->stopping || tq->lost)
        return;
    look_polls(f);
    look_tasks(f);
}

/* A query goes where polls are: up, unless one waits here. */
bool tn_forward_query(tn_tq *tq, tn_mreq *req)
{
    if (!tq->forward || tq->ml->stopping || !tn_list_empty(&tq->polls))
        return false;
    req->queue = tq->forward->parent;
    tn_arena_set_limit(req->arena, 0);
    req->queue = tn_arena_str(req->arena, req->queue);
    req->placed = true;
    tn_client_matching(req);
    return true;
}
