/* SPDX-License-Identifier: MIT */
/* A task that finds a poll in the moment it comes, on its way between hosts: the poll is named in the answer to the
 * one who brings the task, and history, once the start is recorded, answers the poll's frontend itself.  That spares
 * two packets and a hop.
 *
 * From then on such a poll is history's: it gets no other task here, so that its end can never cross one.  The
 * frontend says, with its next poll or soon, that it has its answer.  If it doesn't, since the task's host has died or
 * stands still, the poll ends so that the frontend asks again under a new name; what then still comes for the old one
 * finds nobody, and the task goes back to its run. */
#include "matching/priv.h"

#include "client/partition.h"
#include "proto/proto.h"

#define PATIENCE_NS (3 * TN_SEC) /* frontends tell after one at the latest */

static void end(tn_wpoll *poll, const tn_fault *fault)
{
    poll->delegated = false;
    poll->tq->n_out--;
    tn_wpoll_finish(poll, fault);
}

void tn_direct_end(tn_wpoll *poll)
{
    end(poll, tn_fault_make(poll->mreq->arena, TN_GRPC_CANCELLED, "the poll was cancelled"));
}

static void unanswered(tn_loop_timer *timer)
{
    tn_wpoll *poll = TN_CONTAINER_OF(timer, tn_wpoll, timer);
    if (poll->tq->ml->stopping || tn_now_mono_ns() >= poll->until_mono_ns) {
        end(poll, NULL);
        return;
    }
    poll->mreq->not_owner = true;
    end(poll, tn_fault_make(poll->mreq->arena, TN_GRPC_UNAVAILABLE,
                            "the task's host does not answer, try again"));
}

/* The poll's request goes along as it came. */
static tn_poll_match *match_of(tn_arena *arena, tn_wpoll *poll)
{
    const tn_mreq *req = poll->mreq;
    if (!req->answer_to || !req->request || req->packed.of != req->request)
        return NULL;
    tn_blob packed = tn_arena_blob(arena, req->packed.bytes);
    tn_poll_match *match = TN_NEW(arena, tn_poll_match);
    if (!match || (req->packed.bytes.n && !packed.p))
        return NULL;
    size_t backlog;
    match->to = *req->answer_to;
    match->request = tn_proto_opaque(req->request->descriptor, packed, arena);
    match->advice = tn_rates_advice(poll, true, &backlog);
    match->backlog = (int64_t)backlog;
    return match->request ? match : NULL;
}

bool tn_direct_hand_out(tn_tq *tq, tn_wpoll *poll, tn_wtask *task)
{
    tn_mreq *add = tq->ml->adding;
    add->match = match_of(add->arena, poll);
    if (!add->match)
        return false;
    poll->delegated = true;
    tq->n_out++;
    tn_loop_timer_init(&poll->timer, unanswered);
    tn_loop_timer_start(&poll->timer, tn_now_mono_ns() + PATIENCE_NS);
    tn_match_count(tq, task, true);
    tn_backlog_task_free(task);
    tq->ml->added = NULL;
    return true;
}

static void end_one(void *user, tn_map_link *link)
{
    (void)user;
    tn_wpoll *poll = TN_CONTAINER_OF(link, tn_wpoll, by_id);
    if (poll->delegated)
        end(poll, NULL);
}

void tn_direct_end_all(tn_mloop *ml) { tn_map_each(&ml->polls, end_one, NULL); }
