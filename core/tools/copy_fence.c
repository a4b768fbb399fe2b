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

/* Reads the shard's row: *out_version 0 when there is none. */
static bool read_row(tn_copy *c, tn_arena *arena, uint32_t shard, tn_key *key,
                     Tenon__ShardRecord **out, uint64_t *out_version)
{
    tn_row row;
    tn_error err = {0};
    *key = tn_store_key(arena, TN_TABLE_SHARD, shard, (tn_blob){NULL, 0});
    tn_status status = tn_tool_get(&c->from, arena, key, &row, &err);
    *out_version = 0;
    *out = NULL;
    if (status == TN_ENOTFOUND)
        return true;
    if (status == TN_OK)
        status = TN_PROTO_UNPACK(tenon__shard_record, row.value, arena, out, &err);
    if (status != TN_OK)
        return tn_copy_fail(c, "a shard's record could not be read", &err);
    *out_version = row.version;
    return true;
}

/* One try; TN_ECONFLICT: a server was faster. */
static tn_status raise(tn_copy *c, uint32_t shard, bool moved)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__ShardRecord *old = NULL, record = TENON__SHARD_RECORD__INIT;
    uint64_t version;
    tn_key key;
    tn_error err = {0};
    tn_blob packed;
    tn_commit commit;
    tn_status status = TN_EUNAVAILABLE;
    if (!read_row(c, arena, shard, &key, &old, &version))
        goto out;
    /* Ours already: an answer that was lost, or a copy that is taken up again. */
    if (old && old->moved && moved && strcmp(old->owner, OWNER) == 0) {
        c->parts[shard].fence = version;
        status = TN_OK;
        goto out;
    }
    status = TN_OK;
    if (!moved && (!old || !old->moved))
        goto out;
    record.range_id = old ? old->range_id + 1 : 1;
    record.owner = (char *)(uintptr_t)OWNER;
    record.acquired_ns = tn_now_wall_ns();
    record.moved = moved;
    status = tn_proto_pack(&record.base, arena, &packed);
    if (status != TN_OK)
        goto out;
    tn_store_batch batch;
    tn_store_batch_init(&batch, arena);
    tn_store_batch_cond(&batch, version ? TN_COND_VERSION : TN_COND_ABSENT, key, version);
    tn_store_batch_put(&batch, key, packed);
    tn_batch ready = tn_store_batch_finish(&batch);
    status = tn_tool_commit(&c->from, arena, &ready, &commit, &err);
    if (status == TN_OK)
        c->parts[shard].fence = commit.version;
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
    Tenon__ShardRecord *record;
    uint64_t version;
    tn_key key;
    bool good = read_row(c, arena, shard, &key, &record, &version);
    if (good && version != c->parts[shard].fence) {
        char what[200];
        snprintf(what, sizeof what, "shard %u was taken back by \"%.100s\" while it was copied",
                 shard, record ? record->owner : "?");
        good = tn_copy_fail(c, what, NULL);
    }
    tn_arena_destroy(arena);
    return good;
}
