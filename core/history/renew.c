/* SPDX-License-Identifier: MIT */
/* A shard in doubt, or lost.  A commit of which the store cannot say whether it was made may still be made after its run has
 * been read again, and two truths would part; a refusal by the fence may come from another owner or be a mistake.
 * Both are settled the same way: the shard serves nothing until its fence has been raised.  What was on its way is
 * then in the store or never will be, and what is read afterwards is the truth.
 *
 * A shard that another process has taken is let go: nothing is served, nothing of it believed any more.  After a while
 * it is taken again, for the other one may have gone; two that live and both want it hand it to and fro ever more
 * slowly, each fenced off while it is the other's. */
#include "history/priv.h"

#include <stdlib.h>

#include "client/shardmap.h"

#define AGAIN_NS (200 * TN_MS)
#define TELL_NS (500 * TN_MS)
#define RELEASE_NS (100 * TN_MS)
/* Under a new map a partition changes over with the first shard that is taken there.  That waits until its former owners
 * have heard of the map and written what they had in memory: whoever is later is fenced off. */
#define MAP_SPREAD_NS (300 * TN_MS)
#define REGAIN_MIN_NS TN_SEC
#define REGAIN_MISSED_NS (3 * RELEASE_NS) /* the other one has let it go by then */
#define REGAIN_MAX_NS (60 * TN_SEC)

typedef struct renewal {
    tn_arena *arena; /* of one try */
    tn_shard *shard;
    uint64_t since_ns; /* wall: a raise of ours, made in doubt, is not older */
    bool regain;       /* whoever has it: it is to be ours */
    tn_fence *fence;
    tn_loop_timer again;
    tn_store_op op;
} renewal;

void tn_shard_pause(tn_wf *wf)
{
    if (tn_list_empty(&wf->paused))
        tn_list_push_back(&wf->shard->paused, &wf->paused);
}

void tn_shard_go_on(tn_shard *shard)
{
    while (!tn_list_empty(&shard->paused)) {
        tn_wf *wf = TN_CONTAINER_OF(tn_list_pop_front(&shard->paused), tn_wf, paused);
        tn_list_init(&wf->paused);
        tn_wf_step(wf);
        if (shard->renewing && !shard->hl->stopping)
            break; /* in doubt again */
    }
}

static void finish(renewal *renew)
{
    tn_shard *shard = renew->shard;
    bool moved = renew->fence->moved;
    tn_arena_destroy(renew->arena);
    free(renew);
    shard->renewing = false;
    shard->hl->txns--;
    if (shard->owned && !shard->hl->stopping)
        tn_shard_take_over(
            shard); /* an outbox row that was written after all, runs nobody has told us of */
    tn_shard_read_handed(shard);
    tn_shard_go_on(shard);
    /* Ring and map may have changed meanwhile. */
    if (!shard->hl->stopping &&
        (shard->owned || (!moved && !tn_loop_timer_active(&shard->regain_timer))))
        tn_shard_assign(shard);
}

/* Every run of the shard goes, and whoever waits for one is told. */
static void doom(void *user, tn_map_link *link)
{
    tn_wf *wf = TN_CONTAINER_OF(link, tn_wf, link);
    if (wf->shard != user)
        return;
    TN_LIST_FOREACH (item, &wf->runs)
        TN_CONTAINER_OF(item, tn_run, in_wf)->doomed = true;
    wf->current_known = false;
    tn_shard_pause(wf);
}

static void regain_later(tn_shard *shard)
{
    uint64_t now = tn_now_mono_ns(), delay = shard->regain_delay_ns;
    if (!delay || now - shard->regained_ns > 2 * REGAIN_MAX_NS)
        delay = REGAIN_MIN_NS;
    if (shard->missed)
        delay = REGAIN_MISSED_NS;
    shard->missed = false;
    shard->regain_delay_ns = 2 * delay < REGAIN_MAX_NS ? 2 * delay : REGAIN_MAX_NS;
    tn_loop_timer_start(&shard->regain_timer,
                        now + delay + tn_rng_below(&shard->hl->rng, delay / 2));
}

static void lost(renewal *renew)
{
    tn_shard *shard = renew->shard;
    shard->owned = false;
    shard->epoch++;
    if (renew->fence->outdated || renew->fence->map != shard->map) {
        TN_LOG(TN_LOG_INFO, "history", "the number of shards has been changed",
               TN_LOG_U("shard", shard->id));
        shard->missed = true;
    } else {
        TN_LOG(TN_LOG_ERROR, "history",
               "another process has taken this shard; in a cluster it has moved, else fix: let one "
               "server use a store",
               TN_LOG_U("shard", shard->id));
    }
    if (!shard->hl->stopping && tn_shard_is_ours(shard->id))
        regain_later(shard);
    tn_map_each(&shard->hl->wfs, doom, shard);
    tn_memories_clear(shard->hl, shard);
    finish(renew);
}

static void release(tn_shard *shard)
{
    shard->owned = false;
    shard->epoch++;
    tn_loop_timer_stop(&shard->wake_timer);
    shard->next_wake_ns =
        UINT64_MAX; /* else whoever wants to be woken later would rely on that timer */
    tn_map_each(&shard->hl->wfs, doom, shard);
    tn_memories_clear(shard->hl, shard);
    if (!shard->renewing)
        tn_shard_go_on(shard);
}

static void release_now(tn_loop_timer *timer)
{
    tn_shard *shard = TN_CONTAINER_OF(timer, tn_shard, release_timer);
    uint64_t map;
    bool reopen = shard->reopening && !shard->renewing, ours = tn_shard_is_ours(shard->id);
    (void)tn_client_shard_map(&map);
    if (!shard->owned || shard->hl->stopping || (ours && !reopen && shard->map == map)) {
        shard->reopening = shard->closing = false;
        return;
    }
    if (!tn_shard_settles(shard))
        return; /* it comes back here */
    shard->reopening = shard->closing = false;
    if (!ours)
        tn_shard_hand_over(shard);
    release(shard);
    if (ours)
        tn_shard_regain_now(shard);
}

/* To another host: at once, since that one waits for it.  Else what is only in memory is written first, while it still serves. */
void tn_shard_release(tn_shard *shard)
{
    if (tn_loop_timer_active(&shard->release_timer))
        return;
    bool ours = tn_shard_is_ours(shard->id);
    if (ours)
        tn_shard_flush(shard);
    tn_loop_timer_start(&shard->release_timer, tn_now_mono_ns() + (ours ? RELEASE_NS : 0));
}

void tn_shard_reopen(tn_shard *shard)
{
    shard->reopening = true;
    tn_shard_release(shard);
}

static void try(renewal *renew);

static void try_again(tn_loop_timer *timer) { try(TN_CONTAINER_OF(timer, renewal, again)); }

static void try_later(renewal *renew)
{
    if (renew->shard->hl->stopping)
        finish(renew);
    else
        tn_loop_timer_start(&renew->again, tn_now_mono_ns() + AGAIN_NS);
}

/* Where hosts come and go many shards do at a time, and that is what a cluster is for; in a store of one process it is a
 * sign of a second one. */
static void tell(tn_loop_timer *timer)
{
    tn_hloop *hl = TN_CONTAINER_OF(timer, tn_hloop, regained_timer);
    TN_LOG(tn_client_is_alone() ? TN_LOG_WARN : TN_LOG_INFO, "history",
           "shards of before have been taken again", TN_LOG_U("shards", hl->regained));
    hl->regained = 0;
}

static void tell_soon(tn_hloop *hl)
{
    if (!hl->regained++)
        tn_loop_timer_start(&hl->regained_timer, tn_now_mono_ns() + TELL_NS);
}

void tn_shard_tell_init(tn_hloop *hl) { tn_loop_timer_init(&hl->regained_timer, tell); }

static void raised(tn_store_op *op)
{
    renewal *renew = op->user;
    tn_shard *shard = renew->shard;
    if (op->status != TN_OK) { /* made or not, or another was faster: the rows say */
        try_later(renew);
        return;
    }
    tn_fence_taken(renew->fence, shard, op->u.commit.commit.version);
    if (renew->regain) {
        shard->owned = true;
        shard->scanned_ns = 0; /* of the runs that were known no memory is left */
        shard->regained_ns = tn_now_mono_ns();
        TN_LOG(TN_LOG_DEBUG, "history", "the shard has been taken again",
               TN_LOG_U("shard", shard->id));
        tell_soon(shard->hl);
    }
    finish(renew);
}

static bool ours(const renewal *renew)
{
    const tn_fence_row *row = &renew->fence->rows[renew->shard->sub];
    if (!row->record || renew->fence->whole || renew->fence->map != renew->shard->map)
        return false;
    if (row->version == renew->shard->fence_version)
        return true;
    return strcmp(row->record->owner, tn_shard_owner_name()) == 0 &&
           row->record->acquired_ns >= renew->since_ns;
}

/* Whether the fence may be raised now; else the renewal has ended, or waits. */
static bool may_raise(renewal *renew)
{
    tn_shard *shard = renew->shard;
    const tn_fence *fence = renew->fence;
    if (fence->outdated)
        tn_shardmap_refresh();
    if (renew->regain && !tn_shard_is_ours(shard->id)) /* the ring has turned meanwhile */
        finish(renew);
    else if (!renew->regain && !ours(renew))
        lost(renew);
    else if (fence
                 /* `tenonctl store copy` has it, and its rows are served elsewhere from now on */
                 ->moved) {
        TN_LOG(TN_LOG_ERROR, "history",
               "the shard has been moved to another store; fix: start servers on that one",
               TN_LOG_U("shard", shard->id));
        finish(renew);
    } else if (fence->outdated || (fence->whole && fence->count &&
                                   tn_now_mono_ns() < tn_shard_map_since_ns() + MAP_SPREAD_NS))
        try_later(renew);
    else
        return true;
    return false;
}

static void rows_came(tn_store_op *op)
{
    renewal *renew = op->user;
    tn_error err;
    bool more = false;
    if (op->status != TN_OK ||
        tn_fence_read(renew->fence, renew->shard, op, &more, &err) != TN_OK) {
        try_later(renew);
        return;
    }
    if (more) {
        tn_store_scan(op);
        return;
    }
    if (!may_raise(renew))
        return;
    tn_batch batch = tn_fence_raise(renew->fence, renew->shard);
    if (renew->fence->acquired_ns < renew->since_ns)
        renew->since_ns = renew->fence->acquired_ns; /* the clock went back */
    memset(op, 0, sizeof(*op));
    op->arena = renew->arena;
    op->user = renew;
    op->done = raised;
    op->u.commit.batch = batch;
    tn_store_commit(op);
}

static void try(renewal *renew)
{
    if (renew->arena)
        tn_arena_destroy(renew->arena);
    renew->arena = tn_arena_create(0);
    renew->fence = TN_NEW(renew->arena, tn_fence);
    memset(&renew->op, 0, sizeof(renew->op));
    renew->op.user = renew;
    renew->op.done = rows_came;
    tn_fence_begin(renew->fence, renew->shard, renew->arena, &renew->op);
    tn_store_scan(&renew->op);
}

static void begin(tn_shard *shard, bool again)
{
    renewal *renew = tn_xcalloc(1, sizeof(*renew));
    renew->shard = shard;
    renew->since_ns = tn_now_wall_ns();
    renew->regain = again;
    tn_loop_timer_init(&renew->again, try_again);
    shard->renewing = true;
    shard->hl->txns++;
    try(renew);
}

void tn_shard_doubt(tn_shard *shard, const char *why)
{
    if (shard->renewing || !shard->owned)
        return;
    if (shard
            ->hl
            /* too late to settle it: the next owner does, and nothing is written till then */
            ->stopping) {
        shard->owned = false;
        return;
    }
    TN_LOG(TN_LOG_WARN, "history", "a write is in doubt: raising the shard's fence",
           TN_LOG_U("shard", shard->id), TN_LOG_Z("why", why));
    begin(shard, false);
}

void tn_shard_regain_now(tn_shard *shard)
{
    tn_loop_timer_start(&shard->regain_timer, tn_now_mono_ns());
}

static void regain(tn_loop_timer *timer)
{
    tn_shard *shard = TN_CONTAINER_OF(timer, tn_shard, regain_timer);
    if (!tn_shard_is_ours(shard->id))
        return;
    if (shard->owned || shard->hl->stopping)
        return;
    if (shard->renewing) /* a doubt of before it was let go is being settled */
        tn_loop_timer_start(timer, tn_now_mono_ns() + AGAIN_NS);
    else
        begin(shard, true);
}

void tn_shard_regain_init(tn_shard *shard)
{
    tn_loop_timer_init(&shard->regain_timer, regain);
    tn_loop_timer_init(&shard->release_timer, release_now);
}
