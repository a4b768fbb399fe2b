/* SPDX-License-Identifier: MIT */
/* Which shards are this host's: the ring says so.  A shard that becomes ours is taken by raising its fence; one that
 * is another's from now on is let go at once, so that its callers are sent there.  Whoever is late, the fence decides.
 * Tasks whose queue has moved to another matching host are offered to that one. */
#include "history/priv.h"

bool tn_shard_is_ours(uint32_t id)
{
    bool any;
    return id <= tn_client_shard_count() && !tn_client_shard_owner(id, &any) && any;
}

bool tn_shard_elsewhere(const tn_shard *shard)
{
    return !shard->hl->stopping || !tn_shard_is_ours(shard->id);
}

void tn_shard_assign(tn_shard *shard)
{
    uint64_t map;
    bool ours = tn_shard_is_ours(shard->id);
    (void)tn_client_shard_map(&map);
    if (shard->owned ? !ours || shard->map != map : ours && !shard->renewing)
        shard->owned ? tn_shard_release(shard) : tn_shard_take_handed(shard);
}

static bool queue_moved(const tn_wf *wf, const char *queue, uint32_t type, bool sticky)
{
    return queue && tn_client_queue_moved(tn_str_from(wf->ns_id), tn_str_from(queue), type, sticky);
}

static bool withdraw(const tn_wf *wf, tn_ms *ms)
{
    bool any = false;
    if (ms->wft.scheduled_id && !ms->wft.started_id && ms->wft.dispatched &&
        (ms->wft.sticky && ms->sticky_queue
             ? queue_moved(wf, ms->sticky_queue, TN_TASK_WORKFLOW, true)
             : queue_moved(wf, ms->task_queue, TN_TASK_WORKFLOW, false))) {
        ms->wft.dispatched = false;
        any = true;
    }
    TN_LIST_FOREACH (link, &ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);
        if (activity->dispatched &&
            queue_moved(wf, activity->task_queue, TN_TASK_ACTIVITY, false)) {
            activity->dispatched = false;
            any = true;
        }
    }
    return any;
}

static void offer_again(void *user, tn_map_link *link)
{
    (void)user;
    tn_wf *wf = TN_CONTAINER_OF(link, tn_wf, link);
    if (!wf->shard->owned)
        return;
    TN_LIST_FOREACH (item, &wf->runs) {
        tn_run *run = TN_CONTAINER_OF(item, tn_run, in_wf);
        if (run->ms && !run->doomed && withdraw(wf, run->ms))
            tn_iop_send(tn_iop_create(wf, run->run_id, TN_IOP_WAKE));
    }
}

/* Another number of shards: what was taken under the former map is let go, what is ours by the new one is taken.  A
 * workflow's task that matching knows stays where it is: whoever has the workflow then is asked for it. */
void tn_history_map_changed(void)
{
    tn_hloop *hl = tn_hloop_current();
    if (!hl || hl->stopping)
        return;
    tn_shards_of_loop(hl);
    for (uint32_t id = tn_loop_index(hl->loop) + 1; tn_shard_find(id); id += tn_loops_count())
        tn_shard_assign(tn_shard_find(id));
}

void tn_history_members_changed(void)
{
    tn_hloop *hl = tn_hloop_current();
    if (!hl || hl->stopping)
        return;
    uint32_t loops = tn_loops_count(), first = tn_loop_index(hl->loop) + 1;
    for (uint32_t id = first; tn_shard_find(id); id += loops)
        tn_shard_assign(tn_shard_find(id));
    tn_map_each(&hl->wfs, offer_again, NULL);
    for (uint32_t id = first; tn_shard_find(id); id += loops)
        if (tn_shard_find(id)->owned)
            tn_wakes_scan_all(tn_shard_find(id)); /* tasks of runs that are not in memory */
}

/* ---- others may have had our shards ---- */

typedef struct check {
    tn_arena *arena;
    tn_shard *shard;
    tn_store_op op;
} check;

static void checked(tn_store_op *op)
{
    check *c = op->user;
    tn_shard *shard = c->shard;
    shard->hl->txns--;
    if (shard->owned && !shard->renewing &&
        (op->status != TN_OK || op->u.get.row.version != shard->fence_version)) {
        shard->missed = true;
        tn_shard_doubt(shard, "this host was taken for dead");
    }
    tn_arena_destroy(c->arena);
}

/* A host that was paused or cut off is back in the rings before it has written anything: only the fence tells that
 * another has served the shard meanwhile, and has left timers and tasks there that nobody else will look after. */
void tn_history_members_missed(void)
{
    tn_hloop *hl = tn_hloop_current();
    if (!hl || hl->stopping)
        return;
    uint32_t loops = tn_loops_count(), first = tn_loop_index(hl->loop) + 1;
    for (uint32_t id = first; tn_shard_find(id); id += loops) {
        tn_shard *shard = tn_shard_find(id);
        if (!shard->owned || shard->renewing)
            continue;
        tn_arena *arena = tn_arena_create(0);
        check *c = TN_NEW(arena, check);
        *c = (check){.arena = arena, .shard = shard};
        c->op = (tn_store_op){.arena = arena, .user = c, .done = checked};
        c->op.u.get.key = tn_shard_fence_key(shard, arena);
        hl->txns++;
        tn_store_get(&c->op);
    }
}
