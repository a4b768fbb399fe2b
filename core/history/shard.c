/* SPDX-License-Identifier: MIT */
/* Shards: taking them over, and the role's start and end.
 *
 * A shard is taken by raising its range id; every commit is fenced by the version of that row, so a former owner can
 * write nothing any more.  Then the outbox is repeated, the runs that want attention at once are woken, and a timer
 * is set for the next one: a shard whose runs all sleep costs a row and this struct. */
#include "history/history.h"

#include <inttypes.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/shardmap.h"
#include "history/priv.h"
#include "proto/proto.h"

/* By id; each made by its loop when a map first has it, and kept until the end: a later map may have it again. */
static _Atomic(tn_shard *) shards[TN_SHARDS_MAX + 1];
static atomic_uint_fast64_t map_since_ns;
/* NULL until all of them are made: rings change while the server still starts */
static tn_hloop *_Atomic hloops;
static char owner_name[300]; /* the host, and which of its processes this is */

tn_hloop *tn_hloop_current(void)
{
    tn_loop *loop = tn_loop_current();
    tn_hloop *all = atomic_load_explicit(&hloops, memory_order_acquire);
    return loop && all ? &all[tn_loop_index(loop)] : NULL;
}

tn_shard *tn_shard_find(uint32_t id)
{
    return id >= 1 && id <= TN_SHARDS_MAX ? atomic_load_explicit(&shards[id], memory_order_acquire)
                                          : NULL;
}

tn_shard *tn_shard_here(tn_str ns_id, tn_str workflow_id)
{
    tn_shard *shard = tn_shard_find(tn_client_shard_of(ns_id, workflow_id));
    return shard && shard->hl == tn_hloop_current() ? shard : NULL;
}

uint64_t tn_shard_map_since_ns(void) { return atomic_load(&map_since_ns); }

/* ---- taking a shard ---- */

const char *tn_shard_owner_name(void) { return owner_name; }

/* Taking over the shards of a loop: first every row is read, then all are raised in one loop iteration, so that the
 * store sees one group and the disk one fsync.  What could not be read or raised is left for the next round: among
 * many shards on a store that stutters there is always one that fails. */
typedef struct acquire {
    tn_arena *arena;
    struct takeover *all;
    tn_shard *shard;
    tn_fence *fence;
    bool read;
    tn_store_op op;
} acquire;

typedef struct takeover {
    tn_hloop *hl;
    acquire *items;
    size_t count, waiting, taken;
    tn_status status; /* of one that could not be taken: the worst */
    tn_error error;
    sem_t done;
} takeover;

static bool may_pass(tn_status status)
{
    return status == TN_EUNAVAILABLE || status == TN_EUNCERTAIN || status == TN_ETHROTTLED ||
           status == TN_ECONFLICT;
}

static void acquire_failed(takeover *all, tn_status status, const tn_error *error)
{
    if (all->status == TN_OK || (may_pass(all->status) && !may_pass(status))) {
        all->status = status;
        all->error = *error;
    }
}

static void raised(tn_store_op *op)
{
    acquire *item = op->user;
    takeover *all = item->all;
    if (op->status != TN_OK) {
        acquire_failed(all, op->status, &op->error);
    } else {
        tn_fence_taken(item->fence, item->shard, op->u.commit.commit.version);
        item->shard->owned = true;
        all->taken++;
    }
    if (--all->waiting == 0)
        sem_post(&all->done);
}

static void raise_one(acquire *item)
{
    tn_batch batch = tn_fence_raise(item->fence, item->shard);
    memset(&item->op, 0, sizeof(item->op));
    item->op.arena = item->arena;
    item->op.user = item;
    item->op.done = raised;
    item->op.u.commit.batch = batch;
    tn_store_commit(&item->op);
}

static void raise_all(takeover *all)
{
    all->waiting = 1; /* for ourselves: answers may come at once */
    for (size_t i = 0; i < all->count; i++) {
        if (!all->items[i].read)
            continue;
        all->waiting++;
        raise_one(&all->items[i]);
    }
    if (--all->waiting == 0)
        sem_post(&all->done);
}

static void fences_came(tn_store_op *op)
{
    acquire *item = op->user;
    takeover *all = item->all;
    bool more = false;
    if (op->status == TN_OK)
        op->status = tn_fence_read(item->fence, item->shard, op, &more, &op->error);
    if (op->status == TN_OK && more) {
        tn_store_scan(op);
        return;
    }
    if (op->status == TN_OK && item->fence->moved)
        op->status = tn_error_set(&op->error, TN_EINVALID,
                                  "shard %u has been moved to another store", item->shard->id);
    if (op->status == TN_OK && item->fence->outdated) {
        tn_shardmap_refresh();
        op->status =
            tn_error_set(&op->error, TN_EUNAVAILABLE, "the number of shards has just been changed");
    }
    if (op->status != TN_OK)
        acquire_failed(all, op->status, &op->error);
    item->read = op->status == TN_OK;
    if (--all->waiting == 0)
        raise_all(all);
}

static void loop_acquire(void *arg)
{
    takeover *all = arg;
    tn_shards_of_loop(all->hl);
    all->items = tn_xcalloc(tn_client_shard_count() + 1, sizeof(acquire));
    for (uint32_t id = tn_loop_index(all->hl->loop) + 1; tn_shard_find(id);
         id += tn_loops_count()) {
        tn_shard *shard = tn_shard_find(id);
        if (shard->owned || !tn_shard_is_ours(id))
            continue;
        acquire *item = &all->items[all->count++];
        item->arena = tn_arena_create(0);
        item->all = all;
        item->shard = shard;
    }
    all->waiting = all->count + 1; /* one for ourselves: answers may come at once */
    for (size_t i = 0; i < all->count; i++) {
        acquire *item = &all->items[i];
        item->fence = TN_NEW(item->arena, tn_fence);
        item->op.user = item;
        item->op.done = fences_came;
        tn_fence_begin(item->fence, item->shard, item->arena, &item->op);
        tn_store_scan(&item->op);
    }
    if (--all->waiting == 0)
        raise_all(all);
}

static void round_begin(takeover *all, tn_hloop *hl)
{
    *all = (takeover){.hl = hl};
    sem_init(&all->done, 0, 0);
    tn_loop_call(hl->loop, loop_acquire, all);
}

static void round_end(takeover *all)
{
    while (sem_wait(&all->done) != 0) {
    }
    for (size_t i = 0; i < all->count; i++)
        tn_arena_destroy(all->items[i].arena);
    free(all->items);
    sem_destroy(&all->done);
}

/* One round of all loops at once.  TN_OK: every shard is owned. */
static tn_status acquire_round(size_t *out_missing, tn_error *err)
{
    uint32_t loops = tn_loops_count();
    takeover *rounds = tn_xcalloc(loops, sizeof(*rounds));
    tn_status status = TN_OK;
    *out_missing = 0;
    for (uint32_t i = 0; i < loops; i++)
        round_begin(&rounds[i], &hloops[i]);
    for (uint32_t i = 0; i < loops; i++) {
        round_end(&rounds[i]);
        *out_missing += rounds[i].count - rounds[i].taken;
        if (rounds[i].status == TN_OK || (status != TN_OK && may_pass(rounds[i].status)))
            continue;
        status = rounds[i].status;
        *err = rounds[i].error;
    }
    free(rounds);
    return status;
}

/* A store that stutters while the process starts is asked again, about the shards that are missing, for as long as
 * it may recover. */
static tn_status acquire_patiently(const tn_history_options *options, tn_error *err)
{
    for (;;) {
        tn_error why = {0};
        size_t missing;
        char what[64];
        tn_status status = acquire_round(&missing, &why);
        if (status == TN_OK)
            return TN_OK;
        snprintf(what, sizeof(what), "%zu of %" PRIu32 " shards", missing, tn_client_shard_count());
        bool go_on = may_pass(status);
        if (go_on && options->wait)
            go_on = options->wait(options->user, what, &why);
        else if (go_on)
            usleep(100000);
        if (!go_on) {
            if (err)
                *err = why;
            return status;
        }
    }
}

/* ---- the outbox, repeated ---- */

typedef struct outbox_scan {
    tn_arena *arena;
    tn_shard *shard;
    tn_loop_timer again;
    tn_store_op op;
} outbox_scan;

static void outbox_again(tn_loop_timer *timer)
{
    outbox_scan *scan = TN_CONTAINER_OF(timer, outbox_scan, again);
    tn_store_scan(&scan->op);
}

static void outbox_row(tn_shard *shard, uint64_t seq, const Tenon__Outbox *row)
{
    char ns_id[37], run_id[37];
    if (row->ns_id.len != 16 || row->run_id.len != 16)
        return;
    tn_uuid_format(row->ns_id.data, ns_id);
    tn_uuid_format(row->run_id.data, run_id);
    if (!tn_shard_has(shard, tn_str_from(ns_id), tn_str_from(row->workflow_id)))
        return; /* a neighbour's in the partition */
    if (row->remove) {
        tn_visibility_remove(shard, tn_str_from(ns_id), tn_str_from(row->workflow_id),
                             tn_str_from(run_id), seq);
        return;
    }
    tn_wf *wf = tn_wf_get(shard, tn_str_from(ns_id), tn_str_from(row->workflow_id));
    tn_iop *iop = tn_iop_create(wf, row->run_id.data, TN_IOP_OUTBOX);
    iop->outbox_seq = seq;
    tn_iop_send(iop);
    tn_wf_maybe_drop(wf);
}

static void outbox_came(tn_store_op *op)
{
    outbox_scan *scan = op->user;
    tn_shard *shard = scan->shard;
    const tn_page *page = &op->u.scan.page;
    for (size_t i = 0; op->status == TN_OK && i < page->n_rows; i++) {
        Tenon__Outbox *row = NULL;
        tn_error err;
        uint64_t seq = tn_get_u64be(page->rows[i].key.row.p);
        if (tn_proto_unpack(&tenon__outbox__descriptor, page->rows[i].value, scan->arena,
                            (ProtobufCMessage **)(void *)&row, &err) == TN_OK)
            outbox_row(shard, seq, row);
    }
    if (op->status == TN_OK && page->next.n) {
        op->u.scan.range.page = tn_arena_blob(scan->arena, page->next);
        tn_store_scan(op);
        return;
    }
    if (op->status != TN_OK) {
        TN_LOG(TN_LOG_WARN, "history", "the outbox could not be read", TN_LOG_U("shard", shard->id),
               TN_LOG_Z("why", op->error.text));
        if (!shard->hl->stopping) { /* from where it stopped */
            tn_loop_timer_start(&scan->again, tn_now_mono_ns() + TN_SEC);
            return;
        }
    }
    shard->hl->txns--;
    tn_arena_destroy(scan->arena);
    tn_wakes_scan_all(shard);
}

void tn_shard_take_over(tn_shard *shard)
{
    tn_arena *arena = tn_arena_create(0);
    outbox_scan *scan = TN_NEW(arena, outbox_scan);
    scan->arena = arena;
    scan->shard = shard;
    scan->op.arena = arena;
    scan->op.user = scan;
    scan->op.done = outbox_came;
    tn_loop_timer_init(&scan->again, outbox_again);
    scan->op.u.scan.range = (tn_range){.struct_size = sizeof(tn_range), .limit = 500};
    scan->op.u.scan.range.from =
        tn_store_key(arena, TN_TABLE_OUTBOX, shard->partition, (tn_blob){NULL, 0});
    shard->hl->txns++;
    tn_store_scan(&scan->op);
}

/* ---- start and end ---- */

static void loop_start(void *arg)
{
    tn_hloop *hl = arg;
    for (uint32_t id = tn_loop_index(hl->loop) + 1; tn_shard_find(id); id += tn_loops_count())
        if (tn_shard_find(id)->owned) {
            tn_shard_take_over(tn_shard_find(id));
            tn_shard_assign(tn_shard_find(id)); /* the map may have changed while it was taken */
        }
}

void tn_shards_of_loop(tn_hloop *hl)
{
    uint32_t count = tn_client_shard_count();
    for (uint32_t id = tn_loop_index(hl->loop) + 1; id <= count; id += tn_loops_count()) {
        if (tn_shard_find(id))
            continue;
        tn_shard *shard = tn_xcalloc(1, sizeof(*shard));
        tn_shard_place(shard, id);
        shard->hl = hl;
        tn_list_init(&shard->paused);
        tn_list_init(&shard->vis_writes);
        tn_wakes_init(shard);
        tn_shard_regain_init(shard);
        atomic_store_explicit(&shards[id], shard, memory_order_release);
    }
    atomic_store(&map_since_ns, tn_now_mono_ns());
}

static void name_owner(const char *host, const uint8_t *host_id)
{
    uint8_t id[16];
    char text[37];
    if (host_id)
        memcpy(id, host_id, sizeof(id));
    else
        tn_random_bytes(id, sizeof(id));
    tn_uuid_format(id, text);
    snprintf(owner_name, sizeof(owner_name), "%.250s %s", host, text);
}

tn_status tn_history_start(const tn_history_options *options, tn_error *err)
{
    uint32_t loops = tn_loops_count();
    name_owner(options->owner ? options->owner : "", options->host_id);
    for (uint32_t id = 1; id <= TN_SHARDS_MAX; id++)
        /* the simulator starts again after a crash */
        atomic_store_explicit(&shards[id], NULL, memory_order_relaxed);
    tn_hloop *all = tn_xcalloc(loops, sizeof(*all));
    for (uint32_t i = 0; i < loops; i++) {
        tn_hloop *hl = &all[i];
        hl->loop = tn_loops_get(i);
        hl->bytes_max = options->cache_bytes_max / loops;
        tn_map_init(&hl->wfs);
        tn_map_init(&hl->sleepers);
        tn_map_init(&hl->memories);
        tn_breakers_init(&hl->breakers);
        tn_shard_tell_init(hl);
        tn_list_init(&hl->open);
        tn_list_init(&hl->closed);
        tn_list_init(&hl->paused_scans);
        tn_late_init(hl);
        tn_rng_seed_random(&hl->rng);
    }
    atomic_store_explicit(&hloops, all, memory_order_release);
    tn_status status = acquire_patiently(options, err);
    if (status != TN_OK)
        return status;
    for (uint32_t i = 0; i < loops; i++)
        tn_loop_call(hloops[i].loop, loop_start, &hloops[i]);
    return TN_OK;
}

static void credit(uint32_t shard_id, tn_str ns_id, tn_str queue, uint32_t type)
{
    (void)ns_id, (void)queue, (void)type;
    tn_shard *shard = tn_shard_find(shard_id);
    if (!shard || shard->hl != tn_hloop_current() || !shard->owned || !shard->rejected)
        return;
    shard->rejected = false;
    tn_wakes_scan_all(shard);
}

static void close_shard(uint32_t shard_id)
{
    tn_shard *shard = tn_shard_find(shard_id);
    if (shard && shard->owned && !shard->hl->stopping)
        tn_shard_reopen(shard);
}

static void end_waits_of(tn_hloop *hl, const uint8_t *host_id)
{
    TN_LIST_FOREACH (link, &hl->open) {
        tn_run *run = TN_CONTAINER_OF(link, tn_run, lru);
        tn_history_end_waits(run, host_id);
        tn_updates_end_waits(run, host_id);
    }
}

static void end_waits(const uint8_t host_id[16]) { end_waits_of(tn_hloop_current(), host_id); }

const tn_history_role *tn_history_role_table(void)
{
    static const tn_history_role role = {.submit = tn_history_submit,
                                         .credit = credit,
                                         .close_shard = close_shard,
                                         .handed_over = tn_history_handed_over,
                                         .end_waits = end_waits};
    return &role;
}

static void flush_run(tn_run *run)
{
    if (!run->tail_events && !run->extras_pending)
        return;
    tn_iop *iop = tn_iop_create(run->wf, run->run_id, TN_IOP_FLUSH);
    if (!iop->req.ns)
        tn_req_finish(&iop->req, NULL);
    else
        tn_wf_enqueue(run->wf, &iop->req);
}

static void flush_runs(tn_list *lru)
{
    TN_LIST_FOREACH_SAFE (link, lru) {
        tn_run *run = TN_CONTAINER_OF(link, tn_run, lru);
        tn_loop_timer_stop(&run->timer);
        flush_run(run);
    }
}

static void loop_drain(void *arg)
{
    tn_hloop *hl = arg;
    hl->draining = true;
    end_waits_of(hl, NULL);
}

void tn_history_drain(void)
{
    for (uint32_t i = 0; hloops && i < tn_loops_count(); i++)
        tn_loop_call(hloops[i].loop, loop_drain, &hloops[i]);
}

static void loop_stop(void *arg)
{
    tn_hloop *hl = arg;
    hl->stopping = true;
    for (uint32_t id = tn_loop_index(hl->loop) + 1; tn_shard_find(id); id += tn_loops_count())
        tn_shard_go_on(tn_shard_find(id));
    flush_runs(&hl->open);
    flush_runs(&hl->closed);
}

static void loop_flush_outbox(void *arg)
{
    const tn_hloop *hl = arg;
    for (uint32_t id = tn_loop_index(hl->loop) + 1; tn_shard_find(id); id += tn_loops_count())
        tn_outbox_flush(tn_shard_find(id));
}

static void loop_busy(void *arg)
{
    size_t *busy = arg;
    *busy += tn_hloop_current()->txns;
}

/* Commits on their way end by themselves: the store answers each, at its deadline at the latest. */
static void wait_until_idle(void)
{
    for (int tries = 0; tries < 1500; tries++) {
        size_t busy = 0;
        for (uint32_t i = 0; i < tn_loops_count(); i++)
            tn_loop_call(hloops[i].loop, loop_busy, &busy);
        if (!busy)
            return;
        usleep(10000);
    }
}

static void drop_runs(tn_list *lru)
{
    while (!tn_list_empty(lru)) {
        tn_run *run = TN_CONTAINER_OF(tn_list_first(lru), tn_run, lru);
        tn_wf *wf = run->wf;
        tn_run_drop(run);
        tn_wf_maybe_drop(wf);
    }
}

static void loop_clear(void *arg)
{
    tn_hloop *hl = arg;
    drop_runs(&hl->open);
    drop_runs(&hl->closed);
    tn_wakes_clear(hl);
    tn_memories_clear(hl, NULL);
    tn_map_done(&hl->memories);
    tn_breakers_done(&hl->breakers);
    tn_loop_timer_stop(&hl->regained_timer);
    tn_loop_timer_stop(&hl->late_timer);
    for (uint32_t id = tn_loop_index(hl->loop) + 1; tn_shard_find(id); id += tn_loops_count()) {
        tn_loop_timer_stop(&tn_shard_find(id)->wake_timer);
        tn_loop_timer_stop(&tn_shard_find(id)->regain_timer);
        tn_loop_timer_stop(&tn_shard_find(id)->release_timer);
        tn_shard_drop_handed(tn_shard_find(id));
    }
}

void tn_history_stop(void)
{
    if (!hloops)
        return;
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(hloops[i].loop, loop_stop, &hloops[i]);
    wait_until_idle();
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(hloops[i].loop, loop_flush_outbox, &hloops[i]);
    wait_until_idle();
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(hloops[i].loop, loop_clear, &hloops[i]);
}
