/* SPDX-License-Identifier: MIT */
/* What a change of the number of shards asks of a persistence plugin (tenon-cluster(7)): a partition with a fence for each
 * of up to 256 shards, all of them raised and some of them removed by one commit on the condition of all, against owners
 * that write under their own fence.
 *
 * The race is the server's own protocol in small, with owners that know nothing of each other: each reads the fences,
 * takes a shard, reads what is there and counts from memory, until a write is refused; now and then one changes the number
 * of shards.  A counter is right at the end only if no owner of before has written after somebody else had read, and if
 * whoever has raised a fence reads all that was acknowledged before. */
#include <pthread.h>
#include <stdio.h>

#include "loop/loop.h"
#include "tools/check/kit.h"

#define FENCES 2u
#define COUNTERS 5u
#define MANY 256u /* as many as a partition may have: TN_FENCES_MAX */
#define WORKFLOWS 12u
#define OWNERS 12u
#define OWNER_STEPS 250

static tn_key fence_key(tn_arena *arena, uint32_t sub)
{
    return tn_store_key(arena, FENCES, 1, tn_store_row_shard(arena, sub));
}

/* ---- as many fences as there may be ---- */

/* Raises, on the condition that they are as known, the fences below `after`, and removes the others. */
static tn_status change_all(uint32_t before, uint32_t after, const uint64_t *versions,
                            tn_commit *out)
{
    tn_store_batch batch = kit_batch();
    uint32_t most = before > after ? before : after;
    for (uint32_t sub = 0; sub < most; sub++) {
        tn_key key = fence_key(kit_arena(), sub);
        tn_store_batch_cond(&batch, sub < before ? TN_COND_VERSION : TN_COND_ABSENT, key,
                            sub < before ? versions[sub] : 0);
        if (sub < after)
            tn_store_batch_put(&batch, key, kit_text("a fence"));
        else
            tn_store_batch_delete(&batch, key);
    }
    return kit_commit(&batch, out);
}

static tn_status write_as(uint32_t sub, uint64_t version, const char *value)
{
    tn_commit out;
    tn_store_batch batch = kit_batch();
    tn_store_batch_cond(&batch, TN_COND_FENCE, fence_key(kit_arena(), sub), version);
    tn_store_batch_put(&batch, tn_store_key(kit_arena(), COUNTERS, 1, (tn_blob){0}),
                       kit_text(value));
    return kit_commit(&batch, &out);
}

static uint32_t fences_there(uint64_t *versions)
{
    tn_range range = {.struct_size = sizeof range, .from = fence_key(kit_arena(), 0), .limit = 100};
    tn_page page;
    uint32_t count = 0;
    do {
        KIT_EQUAL(kit_scan(&range, &page), TN_OK);
        for (size_t i = 0; i < page.n_rows; i++, count++) {
            const tn_blob row = page.rows[i].key.row;
            KIT_CHECK(count < MANY &&
                      (count ? row.n == 4 && tn_get_u32be(row.p) == count : row.n == 0));
            versions[count] = page.rows[i].version;
        }
        range.page = page.next;
    } while (page.next.n);
    return count;
}

void kit_many_fences(void)
{
    static const uint32_t counts[] = {1, MANY, 3, 64, 2, MANY, 1};
    static uint64_t versions[MANY], old[MANY];
    tn_commit out;
    uint32_t before = 0;
    kit_open();
    for (size_t i = 0; i < TN_COUNT_OF(counts); i++) {
        uint32_t after = counts[i];
        memcpy(old, versions, sizeof old);
        KIT_EQUAL(change_all(before, after, versions, &out), TN_OK);
        KIT_EQUAL(fences_there(versions), after);
        for (uint32_t sub = 0; sub < after; sub++)
            KIT_EQUAL(versions[sub], out.version);
        /* whoever comes with what was known before changes nothing, also where one row alone differs */
        if (before) {
            KIT_EQUAL(change_all(before, after, old, &out), TN_ECONFLICT);
            KIT_EQUAL(write_as(0, old[0], "late"), TN_EFENCED);
            KIT_EQUAL(write_as(before - 1, old[before - 1], "late"), TN_EFENCED);
        }
        versions[after - 1]++;
        KIT_EQUAL(change_all(after, after, versions, &out), TN_ECONFLICT);
        KIT_EQUAL(out.failed_cond, after - 1);
        versions[after - 1]--;
        KIT_EQUAL(fences_there(versions), after);
        KIT_EQUAL(write_as(0, versions[0], "mine"), TN_OK);
        KIT_EQUAL(write_as(after - 1, versions[after - 1], "mine"), TN_OK);
        before = after;
    }
    kit_close();
}

/* ---- owners that race ---- */

typedef struct owner {
    tn_store_op op;
    tn_arena *arena;
    tn_rng rng;
    uint32_t count, sub;          /* shards, and which is its own */
    uint64_t versions[MANY];      /* of all fences, as read */
    uint64_t fence;               /* of its own, raised */
    uint64_t counters[WORKFLOWS]; /* as this owner knows them */
    uint64_t acked[WORKFLOWS], doubt[WORKFLOWS];
    uint64_t refused, lost, changes;
    uint32_t target; /* the workflow that is written to, or how many shards there are to be */
    int steps;
} owner;

static owner *owners;
static uint32_t owners_left;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

static void read_fences(owner *o);
static void write_next(owner *o);

static void begin_op(owner *o, void (*done)(tn_store_op *op))
{
    tn_arena_reset(o->arena);
    memset(&o->op.u, 0, sizeof o->op.u);
    o->op.done = done;
}

static bool is_over(owner *o)
{
    if (o->steps-- > 0)
        return false;
    pthread_mutex_lock(&lock);
    if (--owners_left == 0)
        pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
    return true;
}

static bool must_repeat(const tn_store_op *op)
{
    return op->status == TN_EUNAVAILABLE || op->status == TN_ETHROTTLED ||
           op->status == TN_EUNCERTAIN;
}

static void counters_came(tn_store_op *op)
{
    owner *o = op->user;
    const tn_page *page = &op->u.scan.page;
    if (must_repeat(op)) {
        read_fences(o);
        return;
    }
    KIT_EQUAL(op->status, TN_OK);
    memset(o->counters, 0, sizeof o->counters);
    for (size_t i = 0; i < page->n_rows; i++) {
        uint64_t workflow = tn_get_u64be(page->rows[i].key.row.p);
        KIT_CHECK(workflow < WORKFLOWS && page->rows[i].value.n == 8);
        o->counters[workflow] = tn_get_u64be(page->rows[i].value.p);
    }
    write_next(o);
}

static void raised(tn_store_op *op)
{
    owner *o = op->user;
    if (op->status == TN_ECONFLICT || must_repeat(op)) { /* somebody was faster */
        o->lost += op->status == TN_ECONFLICT;
        read_fences(o);
        return;
    }
    if (op->status != TN_OK)
        kit_fail(__FILE__, __LINE__, "raising a fence: %s %s", tn_status_name(op->status),
                 op->error.text);
    o->fence = op->u.commit.commit.version;
    o->changes += o->target != o->count;
    o->count = o->target;
    begin_op(o, counters_came);
    op->u.scan.range = (tn_range){.struct_size = sizeof(tn_range), .limit = 100};
    op->u.scan.range.from = tn_store_key(o->arena, COUNTERS, 1, (tn_blob){NULL, 0});
    tn_store_scan(op);
}

static void raise_fence(owner *o)
{
    tn_store_batch batch;
    begin_op(o, raised);
    tn_store_batch_init(&batch, o->arena);
    bool all = tn_rng_below(&o->rng, 3) == 0;
    o->target = all ? 1 + (uint32_t)tn_rng_below(&o->rng, 8) : o->count;
    o->sub = (uint32_t)tn_rng_below(&o->rng, o->target);
    uint32_t most = o->target > o->count ? o->target : o->count;
    for (uint32_t sub = 0; sub < most; sub++) {
        tn_key key = fence_key(o->arena, sub);
        if (!all && sub != o->sub)
            continue;
        tn_store_batch_cond(&batch, sub < o->count ? TN_COND_VERSION : TN_COND_ABSENT, key,
                            sub < o->count ? o->versions[sub] : 0);
        if (sub < o->target)
            tn_store_batch_put(&batch, key, kit_text("raised"));
        else
            tn_store_batch_delete(&batch, key);
    }
    o->op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&o->op);
}

static void fences_came(tn_store_op *op)
{
    owner *o = op->user;
    const tn_page *page = &op->u.scan.page;
    if (must_repeat(op)) {
        read_fences(o);
        return;
    }
    KIT_EQUAL(op->status, TN_OK);
    o->count = (uint32_t)page->n_rows;
    KIT_CHECK(o->count > 0 && o->count <= 8 && page->next.n == 0);
    for (uint32_t i = 0; i < o->count; i++) {
        const tn_blob row = page->rows[i].key.row;
        /* of one map, all of them */
        KIT_CHECK(i ? row.n == 4 && tn_get_u32be(row.p) == i : row.n == 0);
        o->versions[i] = page->rows[i].version;
    }
    raise_fence(o);
}

static void read_fences(owner *o)
{
    if (is_over(o))
        return;
    begin_op(o, fences_came);
    o->op.u.scan.range = (tn_range){.struct_size = sizeof(tn_range), .limit = 100};
    o->op.u.scan.range.from = tn_store_key(o->arena, FENCES, 1, (tn_blob){NULL, 0});
    tn_store_scan(&o->op);
}

static void written(tn_store_op *op)
{
    owner *o = op->user;
    if (op->status == TN_OK) {
        o->acked[o->target]++;
        o->counters[o->target]++;
        write_next(o);
        return;
    }
    o->doubt[o->target] += op->status == TN_EUNCERTAIN;
    o->refused += op->status == TN_EFENCED;
    if (op->status != TN_EFENCED && !must_repeat(op))
        kit_fail(__FILE__, __LINE__, "an owner's write: %s %s", tn_status_name(op->status),
                 op->error.text);
    read_fences(o);
}

static void write_next(owner *o)
{
    tn_store_batch batch;
    /* as many workflows as are this shard's */
    uint32_t own = (WORKFLOWS - 1 - o->sub) / o->count + 1;
    if (tn_rng_below(&o->rng, 40) == 0) { /* as if the process had died */
        read_fences(o);
        return;
    }
    if (is_over(o))
        return;
    begin_op(o, written);
    tn_store_batch_init(&batch, o->arena);
    o->target = o->sub + o->count * (uint32_t)tn_rng_below(&o->rng, own);
    tn_store_batch_cond(&batch, TN_COND_FENCE, fence_key(o->arena, o->sub), o->fence);
    uint8_t value[8];
    tn_put_u64be(value, o->counters[o->target] + 1);
    tn_store_batch_put(&batch,
                       tn_store_key(o->arena, COUNTERS, 1, tn_store_row_u64(o->arena, o->target)),
                       tn_arena_blob(o->arena, tn_blob_from(value, sizeof value)));
    o->op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&o->op);
}

static void begin(void *arg) { read_fences(arg); }

static void compare(void)
{
    uint64_t refused = 0, lost = 0, changes = 0, all = 0;
    for (uint32_t w = 0; w < WORKFLOWS; w++) {
        tn_row row;
        uint64_t acked = 0, doubt = 0, there = 0;
        for (uint32_t i = 0; i < OWNERS; i++)
            acked += owners[i].acked[w], doubt += owners[i].doubt[w];
        tn_status status =
            kit_get(tn_store_key(kit_arena(), COUNTERS, 1, tn_store_row_u64(kit_arena(), w)), &row);
        KIT_CHECK(status == TN_OK || status == TN_ENOTFOUND);
        if (status == TN_OK)
            there = tn_get_u64be(row.value.p);
        if (there < acked || there > acked + doubt)
            kit_fail(__FILE__, __LINE__,
                     "rule: a raised fence keeps former owners out: %llu writes acknowledged, %llu "
                     "are there",
                     (unsigned long long)acked, (unsigned long long)there);
        all += acked;
    }
    for (uint32_t i = 0; i < OWNERS; i++)
        refused += owners[i].refused, lost += owners[i].lost, changes += owners[i].changes;
    KIT_CHECK(all > 0 && refused > 0 && lost > 0 && changes > 0);
}

void kit_shards_race(void)
{
    kit_open();
    kit_put(fence_key(kit_arena(), 0), "start");
    owners = tn_xcalloc(OWNERS, sizeof *owners);
    owners_left = OWNERS;
    for (uint32_t i = 0; i < OWNERS; i++) {
        owner *o = &owners[i];
        o->arena = tn_arena_create(0);
        o->steps = OWNER_STEPS;
        o->op.arena = o->arena;
        o->op.user = o;
        tn_rng_seed(&o->rng, tn_rng_next(kit_rng()));
    }
    for (uint32_t i = 0; i < OWNERS; i++)
        tn_loop_call(tn_loops_get(i % 2), begin, &owners[i]);
    pthread_mutex_lock(&lock);
    while (owners_left)
        pthread_cond_wait(&wake, &lock);
    pthread_mutex_unlock(&lock);
    compare();
    for (uint32_t i = 0; i < OWNERS; i++)
        tn_arena_destroy(owners[i].arena);
    kit_close();
}
