/* SPDX-License-Identifier: MIT */
/* Children of a run that was reset: they go on under the run that the reset has made. */
#include "history/priv.h"

/* A child tells the run that started it; that run is closed, and a reset has made another that has the child now. */
bool tn_reset_redirect(tn_hreq *req, const tn_run *run)
{
    const char *to = run->ms->reset_run_id;
    if (tn_ms_running(run->ms) || !to || !*to)
        return false;
    req->run_id =
        tn_arena_str(req->arena, tn_str_from(to)); /* always a younger run: there is an end to it */
    return true;
}

/* The run in whose name the child is started: those that may have started it before come first. */
static const char *starter(const tn_ms *ms, const tn_child *child)
{
    const char *runs[2] = {ms->reset.base_run_id, ms->original_run_id};
    int n = ms->reset.base_run_id && child->initiated_id <= ms->reset.base_event_id ? 2 : 0;
    if (n && strcmp(runs[0], runs[1]) == 0)
        n = 1;
    return child->lookups < n ? runs[child->lookups] : NULL;
}

char *tn_reset_child_request(tn_arena *arena, const tn_ms *ms, const tn_child *child)
{
    const char *run_id = starter(ms, child);
    if (!run_id)
        return tn_arena_strdup(arena, child->request_id);
    return tn_arena_printf(arena, "%s:%lld:0", run_id, (long long)child->initiated_id);
}

/* ALREADY_EXISTS may mean: under another of the request ids.  One that has closed has told the base run, in vain. */
bool tn_reset_child_again(const tn_ms *ms, tn_child *child, int32_t cause, int32_t status)
{
    if (!starter(ms, child) || (!cause && status <= 1))
        return false;
    child->lookups++;
    return true;
}

/* ---- children that have ended already ------------------------------------------------------------ */

typedef struct question {
    tn_hreq req;
    tn_shard *shard;
    char *ns_id, *workflow_id; /* of the run that asks */
    uint8_t run_id[16];
    tn_parent_ref self;
    int64_t initiated_id;
} question;

static void answered(tn_hreq *req)
{
    question *q = TN_CONTAINER_OF(req, question, req);
    tn_wf *wf = tn_wf_get(q->shard, tn_str_from(q->ns_id), tn_str_from(q->workflow_id));
    tn_run *run = tn_run_find(wf, q->run_id);
    tn_child *child = run ? tn_ms_child(run->ms, q->initiated_id) : NULL;
    if (child && req->fault && req->fault->code != TN_GRPC_NOT_FOUND && !q->shard->hl->stopping) {
        child->asked = false; /* later */
        tn_iop_send_later(tn_iop_create(wf, q->run_id, TN_IOP_WAKE), TN_SEC);
    }
    tn_wf_maybe_drop(wf);
    tn_namespace_unref(req->ns);
    tn_arena_destroy(req->arena);
}

static void ask(tn_run *run, tn_child *child)
{
    const tn_namespace *ns = tn_namespace_by_id(tn_str_from(child->ns_id));
    child->asked = true;
    if (!ns)
        return;
    tn_arena *arena = tn_arena_create(0);
    question *q = TN_NEW(arena, question);
    q->shard = run->wf->shard;
    q->ns_id = tn_arena_strdup(arena, run->wf->ns_id);
    q->workflow_id = tn_arena_strdup(arena, run->wf->workflow_id);
    memcpy(q->run_id, run->run_id, 16);
    q->initiated_id = child->initiated_id;
    q->self = (tn_parent_ref){.ns_id = tn_str_from(q->ns_id),
                              .workflow_id = tn_str_from(q->workflow_id),
                              .initiated_id = child->initiated_id};
    q->req.arena = arena;
    q->req.home = tn_loop_current();
    q->req.ns = ns;
    q->req.op = TN_HOP_TELL_AGAIN;
    q->req.workflow_id = tn_arena_str(arena, tn_str_from(child->workflow_id));
    q->req.u.child.parent = &q->self;
    q->req.u.child.child_run_id = tn_arena_str(arena, tn_str_from(child->run_id));
    q->req.deadline_mono_ns = UINT64_MAX;
    q->req.done = answered;
    tn_client_history(&q->req);
}

void tn_reset_ask_children(tn_run *run)
{
    const tn_ms *ms = run->ms;
    if (!ms->reset.base_run_id || !tn_ms_running(ms))
        return;
    TN_LIST_FOREACH_SAFE (link, &ms->children) {
        tn_child *child = TN_CONTAINER_OF(link, tn_child, link);
        if (!child->asked && !child->closing && child->started_id && child->run_id)
            ask(run, child);
    }
}

void tn_op_tell_again(tn_wf *wf, tn_hreq *req)
{
    const tn_parent_ref *parent = req->u.child.parent;
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (!run->ms->parent.workflow_id ||
        !tn_str_is(parent->workflow_id, run->ms->parent.workflow_id) ||
        run->ms->parent.initiated_id != parent->initiated_id ||
        !tn_str_is(req->u.child.child_run_id, run->ms->first_run_id)) { /* another of that id */
        tn_req_finish(req, NULL);
        return;
    }
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_machine_tell_again(tn_txn_change(txn, run));
    tn_txn_commit(txn, NULL);
}
