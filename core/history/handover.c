/* SPDX-License-Identifier: MIT */
/* A shard moves to another host that lives, as planned: the old owner stops to serve, writes what only its memory knows (a
 * task that was handed out is then still known where the shard goes), lets go, and tells the new one, with the
 * runs that were in use.  The new one waits for that word, for a while: an owner that says nothing is fenced off. */
#include "history/priv.h"

#define SETTLE_NS (3 * TN_MS)       /* between two looks whether all is written */
#define SETTLE_MAX_NS (200 * TN_MS) /* then it is let go as it is */
#define HANDOVER_NS (250 * TN_MS)   /* how long a new owner waits for the old one's word */
#define RUNS_MAX 256                /* named in it: those used last */

/* ---- the old owner ---- */

/* To that shard, although by a newer map the workflow may be another's already. */
typedef struct flushing {
    tn_msg msg;
    tn_shard *shard;
    tn_iop *iop;
} flushing;

static void flush_arrive(tn_msg *msg)
{
    flushing *f = TN_CONTAINER_OF(msg, flushing, msg);
    tn_hreq *req = &f->iop->req;
    if (!req->ns || !f->shard->owned) {
        tn_req_finish(req, NULL);
        return;
    }
    tn_wf_enqueue(tn_wf_get(f->shard, req->ns->id, req->workflow_id), req);
}

static void flush_run(tn_wf *wf, const tn_run *run)
{
    tn_iop *iop = tn_iop_create(wf, run->run_id, TN_IOP_FLUSH);
    flushing *f = TN_NEW(iop->req.arena, flushing);
    *f = (flushing){.msg.run = flush_arrive, .shard = wf->shard, .iop = iop};
    tn_loop_defer(&f->msg);
}

/* Of a speculative task nothing is written, but its worker may be about to end it. */
static bool unsaved(const tn_run *run)
{
    return !run->doomed && (run->tail_events || run->extras_pending ||
                            (run->ms && run->ms->wft.speculative && run->ms->wft.started_id));
}

static void flush(void *user, tn_map_link *link)
{
    tn_wf *wf = TN_CONTAINER_OF(link, tn_wf, link);
    if (wf->shard != user)
        return;
    TN_LIST_FOREACH (item, &wf->runs) {
        const tn_run *run = TN_CONTAINER_OF(item, tn_run, in_wf);
        if (unsaved(run))
            flush_run(wf, run);
    }
}

void tn_shard_flush(tn_shard *shard) { tn_map_each(&shard->hl->wfs, flush, shard); }

typedef struct looking {
    const tn_shard *shard;
    bool busy;
} looking;

static void look(void *user, tn_map_link *link)
{
    looking *l = user;
    const tn_wf *wf = TN_CONTAINER_OF(link, tn_wf, link);
    if (wf->shard != l->shard)
        return;
    l->busy = l->busy || wf->busy;
    TN_LIST_FOREACH (item, &wf->runs) {
        const tn_run *run = TN_CONTAINER_OF(item, tn_run, in_wf);
        l->busy = l->busy || unsaved(run);
    }
}

bool tn_shard_settles(tn_shard *shard)
{
    uint64_t now = tn_now_mono_ns();
    looking l = {.shard = shard};
    if (!shard->closing) {
        shard->closing = true;
        shard->closing_until_ns = now + SETTLE_MAX_NS;
        tn_shard_flush(shard);
    }
    tn_map_each(&shard->hl->wfs, look, &l);
    if (!l.busy || now >= shard->closing_until_ns)
        return true;
    tn_loop_timer_start(&shard->release_timer, now + SETTLE_NS);
    return false;
}

void tn_shard_hand_over(tn_shard *shard)
{
    tn_run_key runs[RUNS_MAX];
    size_t n = 0;
    for (const tn_list *at = shard->hl->open.prev; at != &shard->hl->open && n < RUNS_MAX;
         at = at->prev) {
        const tn_run *run = TN_CONTAINER_OF(at, tn_run, lru);
        if (run->wf->shard != shard || run->doomed || !run->ms)
            continue;
        runs[n].ns_id = tn_str_from(run->wf->ns_id);
        runs[n].workflow_id = tn_str_from(run->wf->workflow_id);
        memcpy(runs[n++].run_id, run->run_id, 16);
    }
    tn_client_hand_over(shard->id, runs, n);
}

/* ---- the new one ---- */

void tn_shard_drop_handed(tn_shard *shard)
{
    tn_arena_destroy(shard->handed);
    shard->handed = NULL;
    shard->n_handed = 0;
}

void tn_shard_take_handed(tn_shard *shard)
{
    uint64_t at = tn_now_mono_ns();
    if (!shard->handed && tn_client_shard_is_handed(shard->id))
        at += HANDOVER_NS;
    if (!tn_loop_timer_active(&shard->regain_timer) || shard->regain_timer.node.key > at)
        tn_loop_timer_start(&shard->regain_timer, at);
}

/* They are read now rather than when somebody waits for them. */
void tn_shard_read_handed(tn_shard *shard)
{
    if (!shard->handed)
        return;
    for (size_t i = 0; i < shard->n_handed && shard->owned && !shard->hl->stopping; i++) {
        const tn_run_key *key = &shard->handed_runs[i];
        if (tn_shard_here(key->ns_id, key->workflow_id) != shard)
            continue;
        tn_wf *wf = tn_wf_get(shard, key->ns_id, key->workflow_id);
        tn_iop_send(tn_iop_create(wf, key->run_id, TN_IOP_WAKE));
        tn_wf_maybe_drop(wf);
    }
    tn_shard_drop_handed(shard);
}

void tn_history_handed_over(uint32_t shard_id, const tn_run_key *runs, size_t n)
{
    tn_shard *shard = tn_shard_find(shard_id);
    if (!shard || shard->hl != tn_hloop_current() || shard->owned || shard->hl->stopping)
        return;
    tn_shard_drop_handed(shard);
    shard->handed = tn_arena_create(0);
    tn_run_key *kept = tn_arena_array(shard->handed, n + 1, sizeof(*kept));
    for (size_t i = 0; kept && i < n; i++) {
        kept[i] = runs[i];
        kept[i].ns_id = tn_arena_str(shard->handed, runs[i].ns_id);
        kept[i].workflow_id = tn_arena_str(shard->handed, runs[i].workflow_id);
    }
    shard->handed_runs = kept;
    shard->n_handed = kept ? n : 0;
    if (tn_shard_is_ours(shard_id) && !shard->renewing)
        tn_shard_regain_now(shard);
}
