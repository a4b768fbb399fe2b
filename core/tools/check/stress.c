/* SPDX-License-Identifier: MIT */
/* Persistence under load: many partitions, each with a model of its own in memory, on two loops at a time, with random
 * batches of puts, deletes, ranges, conditions and fences in groups; every answer is compared with the model's, and at the
 * end every row. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "loop/loop.h"
#include "tools/check/kit.h"

#define ACTORS 64u
#define ROWS 48u
#define VALUE_MAX 3000u
#define TABLES 3u

typedef struct cell {
    bool there;
    uint64_t version;
    uint32_t seed; /* of its value */
    uint32_t n;
} cell;

typedef struct actor {
    tn_store_op op;
    tn_arena *arena;
    tn_rng rng;
    uint32_t partition;
    cell now[TABLES][ROWS], next[TABLES][ROWS];
    bool put[TABLES][ROWS];
    tn_status want;
    uint64_t fence, last_version, steps, conflicts, fenced, reads;
    bool doubt; /* an answer was uncertain: what is there decides */
} actor;

static actor *actors;
static uint64_t until_ns;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static uint32_t left;

static tn_key key_of(actor *a, uint32_t table, uint32_t row)
{
    return tn_store_key(a->arena, table + 5, a->partition, tn_store_row_u64(a->arena, row));
}

static tn_blob value_of(actor *a, uint32_t seed, uint32_t n)
{
    uint8_t *p = tn_arena_alloc(a->arena, n ? n : 1);
    for (uint32_t i = 0; i < n; i++)
        p[i] = (uint8_t)((seed + i * 2654435761u) >> 11);
    return tn_blob_from(p, n);
}

static void over(void)
{
    pthread_mutex_lock(&lock);
    if (--left == 0)
        pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
}

static void step(actor *a);

/* ---- reads ---- */

static void read_came(tn_store_op *op)
{
    actor *a = op->user;
    const tn_page *page = &op->u.scan.page;
    uint32_t table = op->u.scan.range.from.table - 5;
    if (op->status == TN_EUNAVAILABLE || op->status == TN_ETHROTTLED) {
        step(a);
        return;
    }
    if (op->status != TN_OK)
        kit_fail(__FILE__, __LINE__, "scan: %s %s", tn_status_name(op->status), op->error.text);
    uint32_t row = 0;
    for (size_t i = 0; i < page->n_rows; i++) {
        while (row < ROWS && !a->now[table][row].there)
            row++;
        KIT_CHECK(row < ROWS);
        const cell *c = &a->now[table][row];
        KIT_EQUAL(tn_get_u64be(page->rows[i].key.row.p), row);
        KIT_EQUAL(page->rows[i].version, c->version);
        KIT_CHECK(tn_blob_eq(page->rows[i].value, value_of(a, c->seed, c->n)));
        row++;
    }
    while (row < ROWS && !a->now[table][row].there)
        row++;
    KIT_EQUAL(row, ROWS); /* none was left out: a page holds them all */
    a->reads++;
    step(a);
}

static void read_table(actor *a)
{
    uint32_t table = (uint32_t)tn_rng_below(&a->rng, TABLES);
    a->op.done = read_came;
    a->op.u.scan.range = (tn_range){.struct_size = sizeof(tn_range), .limit = 1000};
    a->op.u.scan.range.from = tn_store_key(a->arena, table + 5, a->partition, (tn_blob){NULL, 0});
    tn_store_scan(&a->op);
}

/* ---- commits ---- */

static void random_mutation(actor *a, tn_store_batch *batch)
{
    uint32_t table = (uint32_t)tn_rng_below(&a->rng, TABLES),
             row = (uint32_t)tn_rng_below(&a->rng, ROWS);
    uint64_t what = tn_rng_below(&a->rng, 12);
    cell *c = &a->next[table][row];
    if (what < 8) {
        *c = (cell){
            .there = true,
            .seed = (uint32_t)tn_rng_next(&a->rng),
            .n = (uint32_t)tn_rng_below(&a->rng, tn_rng_below(&a->rng, 8) ? 200 : VALUE_MAX)};
        a->put[table][row] = true;
        tn_store_batch_put(batch, key_of(a, table, row), value_of(a, c->seed, c->n));
    } else if (what < 11) {
        c->there = a->put[table][row] = false;
        tn_store_batch_delete(batch, key_of(a, table, row));
    } else {
        uint32_t end = row + (uint32_t)tn_rng_below(&a->rng, 6);
        for (uint32_t k = row; k < end && k < ROWS; k++)
            a->next[table][k].there = a->put[table][k] = false;
        tn_store_batch_delete_range(batch, key_of(a, table, row), tn_store_row_u64(a->arena, end));
    }
}

static void random_condition(actor *a, tn_store_batch *batch)
{
    uint32_t table = (uint32_t)tn_rng_below(&a->rng, TABLES),
             row = (uint32_t)tn_rng_below(&a->rng, ROWS);
    const cell *c = &a->now[table][row];
    if (tn_rng_below(&a->rng, 2)) {
        tn_store_batch_cond(batch, TN_COND_ABSENT, key_of(a, table, row), 0);
        if (c->there && a->want == TN_OK)
            a->want = TN_ECONFLICT;
    } else {
        uint64_t version = c->version + (tn_rng_below(&a->rng, 5) == 0);
        tn_store_batch_cond(batch, TN_COND_VERSION, key_of(a, table, row), version ? version : 1);
        if ((!c->there || c->version != (version ? version : 1)) && a->want == TN_OK)
            a->want = TN_ECONFLICT;
    }
}

static void fence_condition(actor *a, tn_store_batch *batch)
{
    bool wrong = tn_rng_below(&a->rng, 20) == 0;
    tn_store_batch_cond(batch, TN_COND_FENCE,
                        tn_store_key(a->arena, 2, a->partition, (tn_blob){NULL, 0}),
                        a->fence + wrong);
    if (wrong)
        a->want = TN_EFENCED; /* and wins over a conflict */
}

static void take_committed(actor *a)
{
    uint64_t version = a->op.u.commit.commit.version;
    bool any = false;
    for (uint32_t t = 0; t < TABLES; t++) {
        for (uint32_t r = 0; r < ROWS; r++) {
            if (a->put[t][r])
                a->next[t][r].version = version, any = true;
        }
    }
    if (any && version <= a->last_version)
        kit_fail(__FILE__, __LINE__, "rule: versions rise within a partition: %llu after %llu",
                 (unsigned long long)version, (unsigned long long)a->last_version);
    if (any)
        a->last_version = version;
    memcpy(a->now, a->next, sizeof a->now);
}

static void committed(tn_store_op *op)
{
    actor *a = op->user;
    if (op->status == TN_EUNCERTAIN) { /* lawful; but then this actor's model is of no use */
        a->doubt = true;
        over();
        return;
    }
    if (op->status == TN_EUNAVAILABLE || op->status == TN_ETHROTTLED) {
        step(a);
        return;
    }
    if (op->status != a->want)
        kit_fail(__FILE__, __LINE__, "a commit ended with %s, the model says %s (%s)",
                 tn_status_name(op->status), tn_status_name(a->want), op->error.text);
    if (op->status == TN_OK)
        take_committed(a);
    a->conflicts += op->status == TN_ECONFLICT;
    a->fenced += op->status == TN_EFENCED;
    step(a);
}

static void step(actor *a)
{
    if (tn_now_mono_ns() >= until_ns) {
        over();
        return;
    }
    a->steps++;
    tn_arena_reset(a->arena);
    memset(&a->op.u, 0, sizeof a->op.u);
    if (tn_rng_below(&a->rng, 5) == 0) {
        read_table(a);
        return;
    }
    tn_store_batch batch;
    tn_store_batch_init(&batch, a->arena);
    memcpy(a->next, a->now, sizeof a->next);
    memset(a->put, 0, sizeof a->put);
    a->want = TN_OK;
    if (tn_rng_below(&a->rng, 3) == 0)
        random_condition(a, &batch);
    if (tn_rng_below(&a->rng, 2))
        fence_condition(a, &batch);
    for (uint64_t i = 1 + tn_rng_below(&a->rng, 6); i-- > 0;)
        random_mutation(a, &batch);
    a->op.done = committed;
    a->op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&a->op);
}

static void begin(void *arg) { step(arg); }

static void wait_for_all(void)
{
    pthread_mutex_lock(&lock);
    while (left)
        pthread_cond_wait(&wake, &lock);
    pthread_mutex_unlock(&lock);
}

/* Every row, after the plugin was opened anew. */
static void compare(actor *a)
{
    tn_error err = {0};
    for (uint32_t t = 0; t < TABLES && !a->doubt; t++) {
        for (uint32_t r = 0; r < ROWS; r++) {
            tn_row row;
            const cell *c = &a->now[t][r];
            tn_arena_reset(a->arena);
            tn_status status = tn_store_get_sync(a->arena, key_of(a, t, r), &row, &err);
            KIT_EQUAL(status, c->there ? TN_OK : TN_ENOTFOUND);
            if (c->there)
                KIT_CHECK(row.version == c->version &&
                          tn_blob_eq(row.value, value_of(a, c->seed, c->n)));
        }
    }
}

static void random_load(void)
{
    uint64_t steps = 0, conflicts = 0, fenced = 0, reads = 0, doubts = 0;
    kit_open();
    actors = tn_xcalloc(ACTORS, sizeof *actors);
    for (uint32_t i = 0; i < ACTORS; i++) {
        actor *a = &actors[i];
        a->arena = tn_arena_create(0);
        a->partition = 1000 + i;
        tn_rng_seed(&a->rng, tn_rng_next(kit_rng()));
        a->fence = kit_put(tn_store_key(kit_arena(), 2, a->partition, (tn_blob){NULL, 0}), "owner");
        a->last_version = a->fence;
        a->op.arena = a->arena;
        a->op.user = a;
    }
    until_ns = tn_now_mono_ns() + kit_stress_seconds * TN_SEC;
    left = ACTORS;
    for (uint32_t i = 0; i < ACTORS; i++)
        tn_loop_call(tn_loops_get(i % 2), begin, &actors[i]);
    wait_for_all();
    kit_close();
    kit_open();
    for (uint32_t i = 0; i < ACTORS; i++) {
        compare(&actors[i]);
        steps += actors[i].steps;
        conflicts += actors[i].conflicts;
        fenced += actors[i].fenced;
        reads += actors[i].reads;
        doubts += actors[i].doubt;
    }
    kit_close();
    fprintf(stderr,
            "%llu steps (%llu a second): %llu scans, %llu conflicts, %llu fenced; %llu partitions "
            "in doubt\n",
            (unsigned long long)steps,
            (unsigned long long)(steps / (kit_stress_seconds ? kit_stress_seconds : 1)),
            (unsigned long long)reads, (unsigned long long)conflicts, (unsigned long long)fenced,
            (unsigned long long)doubts);
    KIT_CHECK(steps > ACTORS * 4 && conflicts > 0 && fenced > 0 && reads > 0);
    KIT_CHECK(doubts < ACTORS / 2);
}

const kit_case kit_stress_cases[] = {
    {"random batches on 64 partitions and two loops against models", random_load},
};
const size_t kit_stress_count = TN_COUNT_OF(kit_stress_cases);
