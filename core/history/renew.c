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

#include "proto/proto.h"

#define AGAIN_NS (200 * TN_MS)
#define RELEASE_NS (100 * TN_MS)
#define REGAIN_MIN_NS TN_SEC
#define REGAIN_MISSED_NS (3 * RELEASE_NS) /* the other one has let it go by then */
#define REGAIN_MAX_NS (60 * TN_SEC)

typedef struct renewal {
    tn_arena *arena; /* of one try */
    tn_shard *shard;
    uint64_t since_ns; /* wall: a raise of ours, made in doubt, is not older */
    bool regain;       /* whoever has it: it is to be ours */
    Tenon__ShardRecord record;
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
    tn_arena_destroy(renew->arena);
    free(renew);
    shard->renewing = false;
    shard->hl->txns--;
    if (shard->owned && !shard->hl->stopping)
        tn_shard_take_over(shard); /* an outbox row that was written after all, runs nobody has told us of */
    tn_shard_go_on(shard);
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
    tn_loop_timer_start(&shard->regain_timer, now + delay + tn_rng_below(&shard->hl->rng, delay / 2));
}

static void lost(renewal *renew)
{
    tn_shard *shard = renew->shard;
    shard->owned = false;
    shard->epoch++;
    TN_LOG(TN_LOG_ERROR, "history",
           "another process has taken this shard; in a cluster it has moved, else fix: let one server use a store",
           TN_LOG_U("shard", shard->id));
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
    tn_map_each(&shard->hl->wfs, doom, shard);
    tn_memories_clear(shard->hl, shard);
    if (!shard->renewing)
        tn_shard_go_on(shard);
}

static void release_now(tn_loop_timer *timer)
{
    tn_shard *shard = TN_CONTAINER_OF(timer, tn_shard, release_timer);
    if (shard->owned && !shard->hl->stopping && !tn_shard_is_ours(shard->id))
        release(shard);
}

static void flush(void *user, tn_map_link *link)
{
    tn_wf *wf = TN_CONTAINER_OF(link, tn_wf, link);
    if (wf->shard != user)
        return;
    TN_LIST_FOREACH (item, &wf->runs) {
        const tn_run *run = TN_CONTAINER_OF(item, tn_run, in_wf);
        if (run->tail_events || run->extras_pending)
            tn_iop_send(tn_iop_create(wf, run->run_id, TN_IOP_FLUSH));
    }
}

/* First what is only in memory is written: a task that was handed out is then still known where the shard goes. */
void tn_shard_release(tn_shard *shard)
{
    if (tn_loop_timer_active(&shard->release_timer))
        return;
    tn_map_each(&shard->hl->wfs, flush, shard);
    tn_loop_timer_start(&shard->release_timer, tn_now_mono_ns() + RELEASE_NS);
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

static void raised(tn_store_op *op)
{
    renewal *renew = op->user;
    tn_shard *shard = renew->shard;
    if (op->status != TN_OK) { /* made or not, or another was faster: the row says */
        try_later(renew);
        return;
    }
    shard->fence_version = op->u.commit.commit.version;
    shard->range_id = renew->record.range_id;
    shard->owned_since_ns = renew->record.acquired_ns;
    shard->outbox_next = (renew->record.range_id << 40) + 1;
    if (renew->regain) {
        shard->owned = true;
        shard->scanned_ns = 0; /* of the runs that were known no memory is left */
        shard->regained_ns = tn_now_mono_ns();
        TN_LOG(TN_LOG_WARN, "history", "the shard has been taken again", TN_LOG_U("shard", shard->id));
    }
    finish(renew);
}

static bool ours(const renewal *renew, const tn_row *row, const Tenon__ShardRecord *record)
{
    if (row->version == renew->shard->fence_version)
        return true;
    return strcmp(record->owner, tn_shard_owner_name()) == 0 && record->acquired_ns >= renew->since_ns;
}

static void row_came(tn_store_op *op)
{
    renewal *renew = op->user;
    tn_shard *shard = renew->shard;
    Tenon__ShardRecord *old = NULL;
    tn_error err;
    bool fresh = op->status == TN_ENOTFOUND && renew->regain; /* nobody has ever had it */
    if (renew->regain && !tn_shard_is_ours(shard->id)) { /* the ring has turned meanwhile */
        finish(renew);
        return;
    }
    if (!fresh && (op->status != TN_OK || tn_proto_unpack(&tenon__shard_record__descriptor, op->u.get.row.value, renew->arena,
                                               (ProtobufCMessage **)(void *)&old, &err) != TN_OK)) {
        try_later(renew);
        return;
    }
    if (!renew->regain && !ours(renew, &op->u.get.row, old)) {
        lost(renew);
        return;
    }
    if (old && old->moved) { /* `tenonctl store copy` has it, and its rows are served elsewhere from now on */
        TN_LOG(TN_LOG_ERROR, "history", "the shard has been moved to another store; fix: start servers on that one",
               TN_LOG_U("shard", shard->id));
        finish(renew);
        return;
    }
    uint64_t version = fresh ? 0 : op->u.get.row.version;
    tn_key key = tn_store_key(renew->arena, TN_TABLE_SHARD, shard->id, (tn_blob){NULL, 0});
    tn_blob packed = {NULL, 0};
    tenon__shard_record__init(&renew->record);
    renew->record.range_id = old ? old->range_id + 1 : 1;
    renew->record.owner = (char *)(uintptr_t)tn_shard_owner_name();
    renew->record.acquired_ns = tn_now_wall_ns();
    if (renew->record.acquired_ns < renew->since_ns)
        renew->since_ns = renew->record.acquired_ns; /* the clock went back */
    tn_status status = tn_proto_pack(&renew->record.base, renew->arena, &packed);
    TN_ASSERT(status == TN_OK);
    tn_store_batch batch;
    tn_store_batch_init(&batch, renew->arena);
    tn_store_batch_cond(&batch, fresh ? TN_COND_ABSENT : TN_COND_VERSION, key, version);
    tn_store_batch_put(&batch, key, packed);
    memset(op, 0, sizeof(*op));
    op->arena = renew->arena;
    op->user = renew;
    op->done = raised;
    op->u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(op);
}

static void try(renewal *renew)
{
    if (renew->arena)
        tn_arena_destroy(renew->arena);
    renew->arena = tn_arena_create(0);
    memset(&renew->op, 0, sizeof(renew->op));
    renew->op.arena = renew->arena;
    renew->op.user = renew;
    renew->op.done = row_came;
    renew->op.u.get.key = tn_store_key(renew->arena, TN_TABLE_SHARD, renew->shard->id, (tn_blob){NULL, 0});
    tn_store_get(&renew->op);
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
    if (shard->hl->stopping) { /* too late to settle it: the next owner does, and nothing is written till then */
        shard->owned = false;
        return;
    }
    TN_LOG(TN_LOG_WARN, "history", "a write is in doubt: raising the shard's fence", TN_LOG_U("shard", shard->id),
           TN_LOG_Z("why", why));
    begin(shard, false);
}

void tn_shard_regain_now(tn_shard *shard) { tn_loop_timer_start(&shard->regain_timer, tn_now_mono_ns()); }

static void regain(tn_loop_timer *timer)
{
    tn_shard *shard = TN_CONTAINER_OF(timer, tn_shard, regain_timer);
    if (!tn_shard_is_ours(shard->id))
        return;
    if (!shard->owned && !shard->renewing && !shard->hl->stopping)
        begin(shard, true);
}

void tn_shard_regain_init(tn_shard *shard)
{
    tn_loop_timer_init(&shard->regain_timer, regain);
    tn_loop_timer_init(&shard->release_timer, release_now);
}
