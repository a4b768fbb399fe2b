/* SPDX-License-Identifier: MIT */
/* Copies of requests in the memory of their operation.  A batch is sized first and copied into one piece:
 * commits are the hot path. */
#include <string.h>

#include "store/private.h"

static bool copy_blob(tn_arena *arena, tn_blob from, tn_blob *out)
{
    *out = (tn_blob){0};
    if (!from.p)
        return from.n == 0;
    *out = tn_arena_blob(arena, from);
    return out->p != NULL;
}

bool tn_store_copy_key(tn_arena *arena, const tn_key *from, tn_key *out)
{
    *out = *from;
    return copy_blob(arena, from->partition, &out->partition) &&
           copy_blob(arena, from->row, &out->row);
}

bool tn_store_copy_range(tn_arena *arena, const tn_range *from, tn_range *out)
{
    *out = *from;
    out->struct_size = sizeof *out;
    return tn_store_copy_key(arena, &from->from, &out->from) &&
           copy_blob(arena, from->to_row, &out->to_row) && copy_blob(arena, from->page, &out->page);
}

typedef struct cursor {
    uint8_t *p;
    tn_blob last_from, last_to; /* a batch names one partition again and again */
} cursor;

static void move_blob(cursor *piece, tn_blob *blob)
{
    if (!blob->p)
        return;
    if (blob->n)
        memcpy(piece->p, blob->p, blob->n);
    blob->p = piece->p;
    piece->p += blob->n;
}

static void move_key(cursor *piece, tn_key *key)
{
    if (piece->last_from.p && tn_blob_eq(piece->last_from, key->partition)) {
        key->partition = piece->last_to;
    } else {
        piece->last_from = key->partition;
        move_blob(piece, &key->partition);
        piece->last_to = key->partition;
    }
    move_blob(piece, &key->row);
}

static bool add(size_t *sum, size_t n) { return !__builtin_add_overflow(*sum, n, sum); }

static bool batch_bytes(const tn_batch *batch, size_t *out)
{
    size_t n = 0;
    bool ok = true;
    for (size_t i = 0; i < batch->n_conds && ok; i++)
        ok = batch->conds[i].key.partition.p && add(&n, batch->conds[i].key.partition.n) &&
             add(&n, batch->conds[i].key.row.n);
    for (size_t i = 0; i < batch->n_muts && ok; i++) {
        const tn_mut *m = &batch->muts[i];
        ok = m->key.partition.p && add(&n, m->key.partition.n) && add(&n, m->key.row.n) &&
             add(&n, m->end.partition.n) && add(&n, m->end.row.n) && add(&n, m->value.n);
    }
    *out = n;
    return ok;
}

bool tn_store_copy_batch(tn_arena *arena, const tn_batch *from, tn_batch *out)
{
    size_t bytes;
    /* SIZE_MAX: a builder ran out of memory (keys.c). */
    if (from->n_conds == SIZE_MAX || from->n_muts == SIZE_MAX || !batch_bytes(from, &bytes))
        return false;
    tn_cond *conds = TN_NEW_ARRAY(arena, tn_cond, from->n_conds);
    tn_mut *muts = TN_NEW_ARRAY(arena, tn_mut, from->n_muts);
    cursor piece = {.p = tn_arena_alloc(arena, bytes)};
    if (!conds || !muts || !piece.p)
        return false;
    for (size_t i = 0; i < from->n_conds; i++) {
        conds[i] = from->conds[i];
        move_key(&piece, &conds[i].key);
    }
    for (size_t i = 0; i < from->n_muts; i++) {
        muts[i] = from->muts[i];
        move_key(&piece, &muts[i].key);
        if (muts[i].verb == TN_MUT_DELETE_RANGE)
            move_key(&piece, &muts[i].end);
        move_blob(&piece, &muts[i].value);
    }
    *out = (tn_batch){.struct_size = sizeof *out,
                      .flags = from->flags,
                      .conds = conds,
                      .n_conds = from->n_conds,
                      .muts = muts,
                      .n_muts = from->n_muts};
    return true;
}
