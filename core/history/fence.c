/* SPDX-License-Identifier: MIT */
/* The fences of a partition, and taking a shard by raising its own.
 *
 * A partition has a row in the shard table for each shard that lives in it.  While all are of the shard map that this
 * process follows, a shard is taken by its own row.  When they are of an older map, or there are none, one commit on the
 * condition of all of them writes all of them anew: from that moment every owner under the older map is fenced off, and
 * nobody can take a shard under it any more, for his conditions no longer hold.  Rows of a newer map say that ours is
 * old.
 *
 * Range ids are never used twice in a partition, by whichever of its shards: the id of the j-th of m shards is j modulo
 * m, and a new map begins above all ids of the one before.  Outbox rows, whose keys begin with it, cannot collide. */
#include "history/priv.h"

#include "proto/proto.h"

void tn_shard_place(tn_shard *shard, uint32_t id)
{
    uint32_t partitions = tn_client_partition_count();
    shard->id = id;
    shard->partition = (id - 1) % partitions + 1;
    shard->sub = (id - 1) / partitions;
}

tn_key tn_shard_fence_key(const tn_shard *shard, tn_arena *arena)
{
    return tn_store_key(arena, TN_TABLE_SHARD, shard->partition,
                        tn_store_row_shard(arena, shard->sub));
}

bool tn_shard_has(const tn_shard *shard, tn_str ns_id, tn_str workflow_id)
{
    uint64_t hash = tn_hash64_stable(tn_blob_of_str(ns_id), tn_blob_of_str(workflow_id));
    return shard->of && (uint32_t)(hash % shard->of) + 1 == shard->id;
}

void tn_fence_begin(tn_fence *fence, const tn_shard *shard, tn_arena *arena, tn_store_op *op)
{
    *fence = (tn_fence){.arena = arena};
    fence->shards = tn_client_shard_map(&fence->map);
    op->arena = arena;
    op->u.scan.range = (tn_range){.struct_size = sizeof(tn_range), .limit = 1000};
    op->u.scan.range.from =
        tn_store_key(arena, TN_TABLE_SHARD, shard->partition, (tn_blob){NULL, 0});
}

static tn_status add_row(tn_fence *fence, const tn_row *row, tn_error *err)
{
    Tenon__ShardRecord *record = NULL;
    tn_status status = tn_proto_unpack(&tenon__shard_record__descriptor, row->value, fence->arena,
                                       (ProtobufCMessage **)(void *)&record, err);
    uint32_t sub = row->key.row.n == 4 ? tn_get_u32be(row->key.row.p) : 0;
    if (status == TN_OK &&
        (sub >= TN_FENCES_MAX || (row->key.row.n && (row->key.row.n != 4 || !sub))))
        status = tn_error_set(err, TN_EDATALOSS, "a row of the shard table has a strange key");
    if (status != TN_OK)
        return status;
    fence->rows[sub] = (tn_fence_row){row->version, record};
    if (sub >= fence->count)
        fence->count = sub + 1;
    if (record->map_version > fence->map)
        fence->outdated = true;
    if (record->map_version != fence->map)
        fence->whole = true;
    if (record->range_id > fence->last_range)
        fence->last_range = record->range_id;
    fence->moved = fence->moved || record->moved;
    return TN_OK;
}

tn_status tn_fence_read(tn_fence *fence, const tn_shard *shard, tn_store_op *op, bool *out_more,
                        tn_error *err)
{
    const tn_page *page = &op->u.scan.page;
    *out_more = false;
    for (size_t i = 0; i < page->n_rows; i++) {
        tn_status status = add_row(fence, &page->rows[i], err);
        if (status != TN_OK)
            return status;
    }
    if (page->next.n) {
        op->u.scan.range.page = tn_arena_blob(fence->arena, page->next);
        *out_more = true;
        return TN_OK;
    }
    if (!fence->rows[shard->sub].record)
        fence->whole = true;
    return TN_OK;
}

static uint64_t next_range(uint64_t last, uint32_t many, uint32_t sub)
{
    uint64_t next = last + 1;
    return next + (sub + many - next % many) % many;
}

static void put_record(tn_fence *fence, const tn_shard *shard, tn_store_batch *batch, uint32_t sub,
                       uint64_t range_id, const char *owner)
{
    Tenon__ShardRecord record = TENON__SHARD_RECORD__INIT;
    tn_shard place = {.partition = shard->partition, .sub = sub};
    tn_blob packed = {NULL, 0};
    tn_key key = tn_shard_fence_key(&place, fence->arena);
    record.range_id = range_id;
    record.owner = (char *)(uintptr_t)owner;
    record.acquired_ns = fence->acquired_ns;
    record.map_version = fence->map;
    record.shards = fence->map ? fence->shards : 0;
    tn_status status = tn_proto_pack(&record.base, fence->arena, &packed);
    TN_ASSERT(status == TN_OK);
    const tn_fence_row *old = &fence->rows[sub];
    tn_store_batch_cond(batch, old->record ? TN_COND_VERSION : TN_COND_ABSENT, key, old->version);
    tn_store_batch_put(batch, key, packed);
}

tn_batch tn_fence_raise(tn_fence *fence, const tn_shard *shard)
{
    tn_store_batch batch;
    uint32_t many = fence->shards / tn_client_partition_count();
    fence->acquired_ns = tn_now_wall_ns();
    tn_store_batch_init(&batch, fence->arena);
    uint64_t last = fence->whole ? fence->last_range : fence->rows[shard->sub].record->range_id;
    fence->range_id = next_range(last, many, shard->sub);
    for (uint32_t sub = 0; sub < many; sub++)
        if (fence->whole || sub == shard->sub)
            put_record(fence, shard, &batch, sub, next_range(last, many, sub),
                       sub == shard->sub ? tn_shard_owner_name() : "");
    for (uint32_t sub = many; fence->whole && sub < fence->count;
         sub++) { /* fewer shards than before */
        tn_shard place = {.partition = shard->partition, .sub = sub};
        if (!fence->rows[sub].record)
            continue;
        tn_store_batch_cond(&batch, TN_COND_VERSION, tn_shard_fence_key(&place, fence->arena),
                            fence->rows[sub].version);
        tn_store_batch_delete(&batch, tn_shard_fence_key(&place, fence->arena));
    }
    return tn_store_batch_finish(&batch);
}

void tn_fence_taken(const tn_fence *fence, tn_shard *shard, uint64_t version)
{
    shard->fence_version = version;
    shard->range_id = fence->range_id;
    shard->owned_since_ns = fence->acquired_ns;
    shard->outbox_next = (fence->range_id << 40) + 1; /* never a number used before */
    shard->map = fence->map;
    shard->of = fence->shards;
}
