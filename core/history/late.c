/* SPDX-License-Identifier: MIT */
/* Requests whose time is over, or whose caller has gone, while they stand in front of a store that is slow or hangs.
 * Whoever asked over the wire has his answer from core/rpc at that moment; here the request itself leaves its queue,
 * so that what a host holds is bounded by what is still wanted, however long the store takes.
 *
 * Looked for ten times a second, while anybody waits.  What has been begun stays: a write on its way is done or not,
 * and a load goes on, for those who come next. */
#include "history/priv.h"

#define LOOK_NS (100 * TN_MS)

/* Ours have no deadline: none, or that of nobody. */
bool tn_req_late(const tn_hreq *req)
{
    return req->op < 100 && req->deadline_mono_ns && req->deadline_mono_ns != UINT64_MAX &&
           req->deadline_mono_ns <= tn_now_mono_ns();
}

bool tn_req_expired(const tn_hreq *req)
{
    return (req->op < 100 && req->call && tn_call_cancelled(req->call)) || tn_req_late(req);
}

const tn_fault *tn_req_nobody_waits(const tn_hreq *req)
{
    return tn_req_late(req)
               ? tn_fault_make(req->arena, TN_GRPC_DEADLINE_EXCEEDED, "context deadline exceeded")
               : tn_fault_make(req->arena, TN_GRPC_CANCELLED, "the caller has gone");
}

bool tn_req_in_vain(const tn_hreq *req)
{
    switch ((int)req->op) {
    case TN_HOP_WFT_POLLED: /* tasks on their way to a worker say themselves what becomes of them */
    case TN_HOP_ACT_POLLED:
        return false;
    default:
        /* An update that another host had taken in goes on without its caller. */
        return !req->progress && !req->taken_in && tn_req_expired(req);
    }
}

static void look_at(tn_wf *wf)
{
    TN_LIST_FOREACH_SAFE (link, &wf->queue) {
        tn_hreq *req = TN_CONTAINER_OF(link, tn_hreq, link);
        if (!tn_req_in_vain(req))
            continue;
        tn_list_remove(&req->link);
        tn_req_finish(req, tn_req_nobody_waits(req));
    }
    tn_load_leave(wf);
    if (tn_list_empty(&wf->queue) && !wf->load)
        tn_late_forget(wf);
}

static void look(tn_loop_timer *timer)
{
    tn_hloop *hl = TN_CONTAINER_OF(timer, tn_hloop, late_timer);
    TN_LIST_FOREACH_SAFE (link, &hl->late) {
        tn_wf *wf = TN_CONTAINER_OF(link, tn_wf, late);
        look_at(wf);
        tn_wf_maybe_drop(wf);
    }
    if (!tn_list_empty(&hl->late))
        tn_loop_timer_start(timer, tn_now_mono_ns() + LOOK_NS);
}

void tn_late_watch(tn_wf *wf)
{
    tn_hloop *hl = wf->shard->hl;
    if ((tn_list_empty(&wf->queue) && !wf->load) || !tn_list_empty(&wf->late))
        return;
    tn_list_push_back(&hl->late, &wf->late);
    if (!tn_loop_timer_active(&hl->late_timer))
        tn_loop_timer_start(&hl->late_timer, tn_now_mono_ns() + LOOK_NS);
}

void tn_late_forget(tn_wf *wf)
{
    if (tn_list_empty(&wf->late))
        return;
    tn_list_remove(&wf->late);
    tn_list_init(&wf->late);
}

void tn_late_init(tn_hloop *hl)
{
    tn_list_init(&hl->late);
    tn_loop_timer_init(&hl->late_timer, look);
}
