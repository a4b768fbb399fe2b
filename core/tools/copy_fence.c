/* SPDX-License-Identifier: MIT */
/* Taking a shard away from the servers of the source: its fence is raised, so that no commit of theirs succeeds any more,
 * and its record says that it has moved, so that none takes it back. */
#include "tools/copy.h"

#include <stdio.h>

#include "proto/proto.h"
#include "tenon/store.pb-c.h"

#define OWNER "tenonctl store copy"
#define TRIES 50

bool tn_copy_shard_value(tn_arena *arena, tn_blob value, tn_blob *out)
{
    Tenon__ShardRecord *record = NULL;
    if (TN_PROTO_UNPACK(tenon__shard_record, value, arena, &record, NULL) != TN_OK)
        return false;
    record->moved = false;
    return tn_proto_pack(&record->base, arena, out) == TN_OK;
}

/* The rows of a partition: one for each shard that lives in it.  They are raised together: *out_version is that of all,
 * 0 when there are none or they differ. */
static bool read_rows(tn_copy *c, tn_arena *arena, uint32_t partition, tn_page *out,
                      uint64_t *out_version)
{
    tn_error err = {0};
    tn_range range = {.struct_size = sizeof(range), .limit = 1000};
    range.from = tn_store_key(arena, TN_TABLE_SHARD, partition, (tn_blob){NULL, 0});
    *out = (tn_page){.struct_size = sizeof(*out)};
    *out_version = 0;
    if (tn_tool_scan(&c->from, arena, &range, out, &err) != TN_OK)
        return tn_copy_fail(c, "a shard's record could not be read", &err);
    for (size_t i = 0; i < out->n_rows; i++)
        *out_version = i == 0 || out->rows[i].version == *out_version ? out->rows[i].version : 0;
    return true;
}

static bool read_record(tn_copy *c, tn_arena *arena, const tn_row *row, Tenon__ShardRecord **out)
{
    tn_error err = {0};
    return TN_PROTO_UNPACK(tenon__shard_record, row->value, arena, out, &err) == TN_OK ||
           tn_copy_fail(c, "a shard's record cannot be read", &err);
}

static bool put_record(tn_arena *arena, tn_store_batch *batch, tn_key key, uint64_t version,
                       Tenon__ShardRecord *record, bool moved)
{
    tn_blob packed;
    record->owner = (char *)(uintptr_t)OWNER;
    record->acquired_ns = tn_now_wall_ns();
    record->moved = moved;
    if (tn_proto_pack(&record->base, arena, &packed) != TN_OK)
        return false;
    tn_store_batch_cond(batch, version ? TN_COND_VERSION : TN_COND_ABSENT, key, version);
    tn_store_batch_put(batch, key, packed);
    return true;
}

/* All rows anew, their range ids by one step of all of them: they stay as different as they are. */
static bool build(tn_copy *c, tn_arena *arena, uint32_t partition, const tn_page *page, bool moved,
                  tn_store_batch *batch, bool *out_changes)
{
    tn_store_batch_init(batch, arena);
    bool all = page->n_rows > 0;
    for (size_t i = 0; i < page->n_rows; i++) {
        Tenon__ShardRecord *record = NULL;
        if (!read_record(c, arena, &page->rows[i], &record))
            return false;
        all = all && record->moved == moved && (!moved || strcmp(record->owner, OWNER) == 0);
        record->range_id += page->n_rows;
        tn_key key = tn_store_key(arena, TN_TABLE_SHARD, partition,
                                  tn_arena_blob(arena, page->rows[i].key.row));
        if (!put_record(arena, batch, key, page->rows[i].version, record, moved))
            return false;
    }
    *out_changes = !all && (page->n_rows || moved);
    if (page->n_rows || !moved)
        return true;
    Tenon__ShardRecord first = TENON__SHARD_RECORD__INIT;
    first.range_id = 1;
    return put_record(arena, batch,
                      tn_store_key(arena, TN_TABLE_SHARD, partition, (tn_blob){NULL, 0}), 0, &first,
                      true);
}

/* One try; TN_ECONFLICT: a server was faster. */
static tn_status raise(tn_copy *c, uint32_t partition, bool moved)
{
    tn_arena *arena = tn_arena_create(0);
    uint64_t version;
    bool changes = false;
    tn_page page;
    tn_store_batch batch;
    tn_error err = {0};
    tn_commit commit;
    tn_status status = TN_EUNAVAILABLE;
    if (!read_rows(c, arena, partition, &page, &version) ||
        !build(c, arena, partition, &page, moved, &batch, &changes))
        goto out;
    if (!changes) { /* ours already: an answer that was lost, or a copy that is taken up again */
        c->parts[partition].fence = version;
        status = TN_OK;
        goto out;
    }
    tn_batch ready = tn_store_batch_finish(&batch);
    status = tn_tool_commit(&c->from, arena, &ready, &commit, &err);
    if (status == TN_OK)
        c->parts[partition].fence = commit.version;
    else if (status != TN_ECONFLICT)
        tn_copy_fail(c, "a shard's fence could not be raised", &err);
out:
    tn_arena_destroy(arena);
    return status;
}

bool tn_copy_fence(tn_copy *c, uint32_t shard)
{
    for (int i = 0; i < TRIES; i++) {
        tn_status status = raise(c, shard, true);
        if (status != TN_ECONFLICT)
            return status == TN_OK;
    }
    return tn_copy_fail(c, "a shard's fence could not be raised: a server raises it all the time",
                        NULL);
}

bool tn_copy_unfence(tn_copy *c, uint32_t shard)
{
    for (int i = 0; i < TRIES; i++) {
        tn_status status = raise(c, shard, false);
        if (status != TN_ECONFLICT)
            return status == TN_OK;
    }
    return tn_copy_fail(c, "a shard's record could not be written", NULL);
}

bool tn_copy_still_fenced(tn_copy *c, uint32_t shard)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__ShardRecord *record = NULL;
    uint64_t version;
    tn_page page;
    bool good = read_rows(c, arena, shard, &page, &version);
    if (good && version != c->parts[shard].fence) {
        char what[200];
        for (size_t i = 0; i < page.n_rows && (!record || strcmp(record->owner, OWNER) == 0); i++)
            if (TN_PROTO_UNPACK(tenon__shard_record, page.rows[i].value, arena, &record, NULL) !=
                TN_OK)
                record = NULL;
        snprintf(what, sizeof what, "shard %u was taken back by \"%.100s\" while it was copied",
                 shard, record ? record->owner : "?");
        good = tn_copy_fail(c, what, NULL);
    }
    tn_arena_destroy(arena);
    return good;
}
