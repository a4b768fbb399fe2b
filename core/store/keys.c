/* SPDX-License-Identifier: MIT */
/* The layouts of partitions and rows (store.h lists them), and batches that grow in an arena.
 *
 * When an arena is full, a key or a batch is spoilt in a way that submitting it recognises: the operation
 * then fails as too large, and callers need not look at each step. */
#include <string.h>

#include "store/private.h"

#define NO_ROOM ((tn_blob){NULL, SIZE_MAX}) /* copy.c refuses it */

tn_blob tn_store_partition(tn_arena *arena, uint32_t partition)
{
    uint8_t *p = tn_arena_alloc(arena, 4);
    if (!p)
        return NO_ROOM;
    tn_put_u32be(p, partition);
    return (tn_blob){p, 4};
}

tn_key tn_store_key(tn_arena *arena, uint32_t table, uint32_t partition, tn_blob row)
{
    return (tn_key){.table = table, .partition = tn_store_partition(arena, partition), .row = row};
}

tn_blob tn_store_row_current(tn_arena *arena, tn_str ns_id, tn_str workflow_id)
{
    uint8_t *p = tn_arena_alloc(arena, 16 + workflow_id.n);
    if (!p)
        return NO_ROOM;
    bool parsed = tn_uuid_parse(ns_id, p);
    TN_ASSERT(parsed);
    if (workflow_id.n)
        memcpy(p + 16, workflow_id.p, workflow_id.n);
    return (tn_blob){p, 16 + workflow_id.n};
}

tn_blob tn_store_row_record(tn_arena *arena, const uint8_t run_id[16], uint64_t first_event_id,
                            uint64_t transition)
{
    uint8_t *p = tn_arena_alloc(arena, 32);
    if (!p)
        return NO_ROOM;
    memcpy(p, run_id, 16);
    tn_put_u64be(p + 16, first_event_id);
    tn_put_u64be(p + 24, transition);
    return (tn_blob){p, 32};
}

tn_blob tn_store_row_run(tn_arena *arena, const uint8_t run_id[16])
{
    uint8_t *p = tn_arena_alloc(arena, 16);
    if (!p)
        return NO_ROOM;
    memcpy(p, run_id, 16);
    return (tn_blob){p, 16};
}

tn_blob tn_store_row_wake(tn_arena *arena, uint64_t wall_ns, const uint8_t run_id[16])
{
    uint8_t *p = tn_arena_alloc(arena, 24);
    if (!p)
        return NO_ROOM;
    tn_put_u64be(p, wall_ns);
    memcpy(p + 8, run_id, 16);
    return (tn_blob){p, 24};
}

tn_blob tn_store_row_u64(tn_arena *arena, uint64_t n)
{
    uint8_t *p = tn_arena_alloc(arena, 8);
    if (!p)
        return NO_ROOM;
    tn_put_u64be(p, n);
    return (tn_blob){p, 8};
}

tn_blob tn_store_row_shard(tn_arena *arena, uint32_t sub)
{
    uint8_t *p = sub ? tn_arena_alloc(arena, 4) : NULL;
    if (!sub)
        return (tn_blob){NULL, 0};
    if (!p)
        return NO_ROOM;
    tn_put_u32be(p, sub);
    return (tn_blob){p, 4};
}

/* ---- batches ------------------------------------------------------------------------------------ */

void tn_store_batch_init(tn_store_batch *batch, tn_arena *arena)
{
    *batch = (tn_store_batch){.arena = arena};
}

/* Room for one more; false: the batch is spoilt and says so with a count that no array backs. */
static bool room(tn_arena *arena, void **array, size_t *count, size_t *cap, size_t size)
{
    if (*count == SIZE_MAX)
        return false;
    if (*count < *cap)
        return true;
    size_t more = *cap ? *cap * 2 : 8;
    void *grown = tn_arena_array(arena, more, size);
    if (!grown) {
        *count = SIZE_MAX;
        return false;
    }
    if (*count)
        memcpy(grown, *array, *count * size);
    *array = grown;
    *cap = more;
    return true;
}

void tn_store_batch_cond(tn_store_batch *batch, uint32_t test, tn_key key, uint64_t version)
{
    void *array = batch->conds;
    if (!room(batch->arena, &array, &batch->n_conds, &batch->cap_conds, sizeof *batch->conds))
        return;
    batch->conds = array;
    batch->conds[batch->n_conds++] = (tn_cond){.test = test, .key = key, .version = version};
}

static void add_mut(tn_store_batch *batch, const tn_mut *mut)
{
    void *array = batch->muts;
    if (!room(batch->arena, &array, &batch->n_muts, &batch->cap_muts, sizeof *batch->muts))
        return;
    batch->muts = array;
    batch->muts[batch->n_muts++] = *mut;
}

void tn_store_batch_put(tn_store_batch *batch, tn_key key, tn_blob value)
{
    add_mut(batch, &(tn_mut){.verb = TN_MUT_PUT, .key = key, .value = value});
}

void tn_store_batch_delete(tn_store_batch *batch, tn_key key)
{
    add_mut(batch, &(tn_mut){.verb = TN_MUT_DELETE, .key = key});
}

void tn_store_batch_delete_range(tn_store_batch *batch, tn_key from, tn_blob end_row)
{
    add_mut(batch,
            &(tn_mut){.verb = TN_MUT_DELETE_RANGE,
                      .key = from,
                      .end = {.table = from.table, .partition = from.partition, .row = end_row}});
}

tn_batch tn_store_batch_finish(const tn_store_batch *batch)
{
    return (tn_batch){.struct_size = sizeof(tn_batch),
                      .conds = batch->conds,
                      .n_conds = batch->n_conds,
                      .muts = batch->muts,
                      .n_muts = batch->n_muts};
}
