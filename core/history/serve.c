/* SPDX-License-Identifier: MIT */
/* How requests are served: one workflow id at a time, in order of arrival.  A request that must wait for the
 * store is served again from its beginning; until it has changed a state, that costs nothing. */
#include "history/nexus.h"
#include "history/object.h"

/* An object is reached by the calls of its kind, and by what all runs share; a workflow never has such an id. */
static bool may_serve(const tn_wf *wf, const tn_hreq *req)
{
    bool is_object = wf->workflow_id[0] == TN_OBJECT_MARK;
    switch ((int)req->op) {
    case TN_HOP_OBJECT:
        return tn_object_kind_of(tn_str_from(wf->workflow_id)) != NULL;
    case TN_HOP_ACT_POLLED:
    case TN_HOP_ACT_COMPLETED:
    case TN_HOP_ACT_FAILED:
    case TN_HOP_ACT_CANCELED:
    case TN_HOP_ACT_HEARTBEAT:
    case TN_HOP_UNDELIVERED:
    case TN_HOP_DELETE:
    case TN_HOP_DELETE_RUN:
    case TN_HOP_REFRESH:
    case TN_HOP_CHILD_CLOSED: /* a chain of runs that an object owns */
        return true;
    default:
        return !is_object || req->op >= 100;
    }
}

/* What other runs, handlers and operators want. */
static void serve_others(tn_wf *wf, tn_hreq *req)
{
    switch ((int)req->op) {
    case TN_HOP_CHILD_STARTED:
    case TN_HOP_CHILD_CLOSED:
        tn_op_child(wf, req);
        break;
    case TN_HOP_UNDELIVERED:
        tn_op_undelivered(wf, req);
        break;
    case TN_HOP_DELETE:
        tn_op_delete(wf, req);
        break;
    case TN_HOP_DELETE_RUN:
        tn_op_delete_run(wf, req);
        break;
    case TN_HOP_OBJECT:
        tn_op_object(wf, req);
        break;
    case TN_HOP_TELL_AGAIN:
        tn_op_tell_again(wf, req);
        break;
    case TN_HOP_RESET:
        tn_op_reset(wf, req);
        break;
    case TN_HOP_MUTABLE_STATE:
        tn_op_mutable_state(wf, req);
        break;
    case TN_HOP_REBUILD:
        tn_op_rebuild(wf, req);
        break;
    case TN_HOP_RAW_HISTORY:
        tn_op_raw_history(wf, req);
        break;
    case TN_HOP_REFRESH:
        tn_op_refresh(wf, req);
        break;
    case TN_HOP_OPERATE:
        tn_op_operate(wf, req);
        break;
    case TN_HOP_NEXUS_COMPLETE:
        tn_op_nexus_complete(wf, req);
        break;
    default:
        tn_op_internal(wf, req);
        break;
    }
}

/* What clients and workers want of a run. */
static void serve(tn_wf *wf, tn_hreq *req)
{
    if (!may_serve(wf, req)) {
        tn_req_finish(req, tn_fault_workflow_not_found(req->arena, tn_str_from(wf->workflow_id)));
        return;
    }
    switch ((int)req->op) {
    case TN_HOP_START:
    case TN_HOP_SIGNAL_WITH_START:
        tn_op_start(wf, req);
        break;
    case TN_HOP_SIGNAL:
    case TN_HOP_REQUEST_CANCEL:
    case TN_HOP_TERMINATE:
    case TN_HOP_RESET_STICKY:
        tn_op_external(wf, req);
        break;
    case TN_HOP_WFT_POLLED:
        tn_op_wft_polled(wf, req);
        break;
    case TN_HOP_WFT_COMPLETED:
    case TN_HOP_WFT_FAILED:
        tn_op_wft_respond(wf, req);
        break;
    case TN_HOP_ACT_POLLED:
        tn_op_activity_polled(wf, req);
        break;
    case TN_HOP_ACT_COMPLETED:
    case TN_HOP_ACT_FAILED:
    case TN_HOP_ACT_CANCELED:
    case TN_HOP_ACT_HEARTBEAT:
        tn_op_activity_respond(wf, req);
        break;
    case TN_HOP_GET_HISTORY:
    case TN_HOP_GET_HISTORY_REVERSE:
        tn_op_read_history(wf, req);
        break;
    case TN_HOP_DESCRIBE:
        tn_op_describe(wf, req);
        break;
    case TN_HOP_QUERY:
        tn_op_query(wf, req);
        break;
    case TN_HOP_UPDATE:
    case TN_HOP_POLL_UPDATE:
        tn_op_update(wf, req);
        break;
    case TN_HOP_UPDATE_WITH_START:
        tn_op_update_with_start(wf, req);
        break;
    case TN_HOP_QUERY_POLLED:
        tn_op_query_polled(wf, req);
        break;
    default:
        serve_others(wf, req);
        break;
    }
}

static void drop_doomed(tn_wf *wf)
{
    TN_LIST_FOREACH_SAFE (link, &wf->runs) {
        tn_run *run = TN_CONTAINER_OF(link, tn_run, in_wf);
        if (run->doomed)
            tn_run_drop(run);
    }
}

/* Its turn has come too late, after others or the store, and nothing of it has been done.  Tasks on their way to a worker
 * say themselves what becomes of them, and so do updates. */
static bool turn_is_late(const tn_hreq *req)
{
    switch ((int)req->op) {
    case TN_HOP_WFT_POLLED:
    case TN_HOP_ACT_POLLED:
    case TN_HOP_UPDATE:
    case TN_HOP_POLL_UPDATE:
    case TN_HOP_UPDATE_WITH_START:
        return false;
    default:
        return !req->progress && tn_req_late(req);
    }
}

/* Never nested: what ends inside is gone on with by the loop further out, so that a long queue needs no stack. */
void tn_wf_step(tn_wf *wf)
{
    if (wf->stepping)
        return;
    if (wf->shard->renewing && !wf->shard->hl->stopping) {
        tn_shard_pause(wf);
        tn_late_watch(wf);
        return;
    }
    wf->stepping = true;
    /* Whose the workflow is may have changed since it came here, and the shard have been taken again since. */
    bool ours = wf->shard->of && wf->hash % wf->shard->of + 1 == wf->shard->id;
    while (!wf->busy && (!wf->shard->renewing || wf->shard->hl->stopping)) {
        drop_doomed(wf);
        tn_list *link = tn_list_pop_front(&wf->queue);
        if (!link)
            break;
        tn_hreq *req = TN_CONTAINER_OF(link, tn_hreq, link);
        /* stopping in doubt: a write now could part the truth */
        if (!wf->shard->owned || wf->shard->renewing || !ours ||
            (wf->shard->closing && req->op < 100)) {
            req->not_owner = true;
            tn_req_finish(req, tn_fault_unavailable(req->arena,
                                                    "shard is not owned by this host, try again"));
        } else if (turn_is_late(req))
            tn_req_finish(req, tn_req_nobody_waits(req));
        else if (req->ns)
            serve(wf, req);
        else /* the namespace is gone, and its runs with it */
            tn_req_finish(req, NULL);
    }
    wf->stepping = false;
    if (wf->shard->renewing && !wf->busy && !wf->shard->hl->stopping)
        tn_shard_pause(wf);
    tn_late_watch(wf);
    tn_wf_maybe_drop(wf);
}

void tn_wf_enqueue(tn_wf *wf, tn_hreq *req)
{
    tn_list_push_back(&wf->queue, &req->link);
    tn_wf_step(wf);
}

void tn_wf_resume(tn_wf *wf, tn_hreq *req_again)
{
    TN_ASSERT(wf->busy);
    wf->busy = false;
    if (req_again)
        tn_list_push_front(&wf->queue, &req_again->link);
    tn_hloop *hl = wf->shard->hl;
    bool outermost = !wf->stepping;
    tn_wf_step(wf);
    if (outermost)
        tn_cache_shrink(hl);
}

void tn_offer_withdrawn(tn_run *run, const tn_hreq *req)
{
    const tn_task_ref *ref = &req->u.task.ref;
    if (req->op == TN_HOP_WFT_POLLED) {
        if (run->ms->wft.stamp == ref->stamp && !run->ms->wft.started_id)
            run->ms->wft.dispatched = false;
    } else if (req->op == TN_HOP_ACT_POLLED) {
        tn_activity *activity = tn_ms_activity(run->ms, ref->scheduled_id);
        if (activity && activity->stamp == ref->stamp && !activity->started_ns)
            activity->dispatched = false;
    }
}

/* Matching has let go of a task for a poll that will not get it: its run, in memory or not, offers it anew. */
static void offer_again(tn_shard *shard, const tn_hreq *req)
{
    uint8_t run_id[16];
    if ((req->op != TN_HOP_WFT_POLLED && req->op != TN_HOP_ACT_POLLED) ||
        !tn_uuid_parse(req->run_id, run_id))
        return;
    tn_wf *wf = tn_wf_get(shard, req->ns->id, req->workflow_id);
    tn_run *run = tn_run_find(wf, run_id);
    if (run)
        tn_offer_withdrawn(run, req);
    tn_iop_send(tn_iop_create(wf, run_id, TN_IOP_WAKE));
    tn_wf_maybe_drop(wf);
}

void tn_history_submit(tn_hreq *req)
{
    tn_list_init(&req->link);
    req->progress = NULL;
    bool whole = req->op == TN_HOP_SWEEP;
    tn_shard *shard =
        whole ? tn_shard_find(req->u.task.ref.shard) : tn_shard_here(req->ns->id, req->workflow_id);
    if (whole && shard && (shard->hl != tn_hloop_current() || shard->map != req->u.task.ref.stamp))
        shard = NULL; /* a shard of another map is not what was meant */
    if (!shard || !shard->owned || shard->closing || shard->hl->stopping) {
        req->not_owner = !tn_hloop_current()->stopping || !shard || !tn_shard_is_ours(shard->id);
        tn_req_finish(
            req, tn_fault_unavailable(req->arena, "shard is not owned by this host, try again"));
        return;
    }
    if (tn_req_expired(req)) {
        offer_again(shard, req);
        tn_req_finish(req, tn_req_nobody_waits(req));
        return;
    }
    if (whole)
        tn_shard_sweep(shard, req);
    else
        tn_wf_enqueue(tn_wf_get(shard, req->ns->id, req->workflow_id), req);
}

static void iop_free(tn_iop *iop)
{
    bool counted = iop->counted;
    tn_namespace_unref(iop->req.ns);
    tn_arena_destroy(iop->req.arena);
    if (counted)
        tn_wake_served(tn_hloop_current());
}

void tn_req_finish(tn_hreq *req, const tn_fault *fault)
{
    if (req->op >= 100) { /* ours: nobody waits for it */
        iop_free(TN_CONTAINER_OF(req, tn_iop, req));
        return;
    }
    if (fault && req->op == TN_HOP_UPDATE_WITH_START)
        fault = tn_update_start_fault(req, fault);
    req->fault = fault;
    tn_client_history_done(req);
}

/* What a run does may end it, and then the current-run row must say so: that row is known before the run is looked
 * at, whichever way it was reached. */
static tn_run *resolve_by_id(tn_wf *wf, tn_hreq *req, const uint8_t run_id[16])
{
    if (!wf->current_known) {
        tn_load_current(wf, req);
        return NULL;
    }
    tn_run *run = tn_run_find(wf, run_id);
    if (!run) {
        tn_load_run(wf, run_id, req);
        return NULL;
    }
    tn_run_touch(run);
    return run;
}

tn_run *tn_resolve(tn_wf *wf, tn_hreq *req)
{
    if (req->run_id.n) {
        uint8_t run_id[16];
        if (!tn_uuid_parse(req->run_id, run_id)) {
            tn_req_finish(req,
                          tn_fault_make(req->arena, TN_GRPC_INVALID_ARGUMENT, "Invalid RunId."));
            return NULL;
        }
        return resolve_by_id(wf, req, run_id);
    }
    if (wf->current_known && !wf->current_exists) {
        const tn_object_kind *kind = tn_object_kind_of(tn_str_from(wf->workflow_id));
        tn_req_finish(
            req, kind ? kind->not_found(req->arena, tn_object_id_of(tn_str_from(wf->workflow_id)),
                                        req->run_id)
                      : tn_fault_workflow_not_found(req->arena, tn_str_from(wf->workflow_id)));
        return NULL;
    }
    return resolve_by_id(wf, req, wf->current_run_id);
}

tn_iop *tn_iop_create(const tn_wf *wf, const uint8_t run_id[16], int op)
{
    tn_arena *arena = tn_arena_create(0);
    tn_iop *iop = TN_NEW(arena, tn_iop);
    iop->req.arena = arena;
    iop->req.op = (tn_hop)op;
    iop->req.home = wf->shard->hl->loop;
    iop->req.deadline_mono_ns = UINT64_MAX;
    iop->req.ns = tn_namespace_by_id(tn_str_from(wf->ns_id));
    iop->req.workflow_id = tn_arena_str(arena, tn_str_from(wf->workflow_id));
    char *text = tn_arena_alloc(arena, 37);
    tn_uuid_format(run_id, text);
    iop->req.run_id = tn_str_from(text);
    tn_list_init(&iop->req.link);
    return iop;
}

static void iop_submit(tn_iop *iop)
{
    if (!iop->req.ns) { /* the namespace is gone, and its runs with it */
        tn_req_finish(&iop->req, NULL);
        return;
    }
    tn_history_submit(&iop->req);
}

static void iop_arrive(tn_msg *msg)
{
    iop_submit(TN_CONTAINER_OF(TN_CONTAINER_OF(msg, tn_hreq, msg), tn_iop, req));
}

void tn_iop_send(tn_iop *iop)
{
    iop->req.msg.run = iop_arrive;
    tn_loop_defer(&iop->req.msg);
}

static void iop_delay_over(tn_loop_timer *timer)
{
    iop_submit(TN_CONTAINER_OF(timer, tn_iop, delay));
}

void tn_iop_send_later(tn_iop *iop, uint64_t delay_ns)
{
    tn_loop_timer_init(&iop->delay, iop_delay_over);
    tn_loop_timer_start(&iop->delay, tn_now_mono_ns() + delay_ns);
}
