/* SPDX-License-Identifier: MIT */
/* A group of commits as calls of tn_commit.  One call decides many members at once; that is right as long as
 * nothing a member asks or writes is written by another member of the call.  Where it is, a new wave begins:
 * a further call in the same transaction, which sees what the earlier ones did.
 *
 * Within a member only the last word on each key is sent: ranges first, then one put or delete a key. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

static bool grow(void **p, size_t *cap, size_t wanted, size_t size)
{
    if (wanted <= *cap)
        return true;
    size_t more = *cap ? *cap : 64;
    while (more < wanted)
        more *= 2;
    void *grown = realloc(*p, more * size);
    if (!grown)
        return false;
    *p = grown;
    *cap = more;
    return true;
}

static uint64_t hash_key(const tn_key *key)
{
    return pp_hash(pp_hash(key->table, key->partition.p, key->partition.n), key->row.p, key->row.n);
}

/* The slot of the key: empty, or of an op with this key. */
static uint32_t *slot_of(pp_waves *w, const tn_key *key)
{
    size_t mask = w->cap_table - 1;
    for (size_t at = hash_key(key) & mask;; at = (at + 1) & mask) {
        uint32_t *slot = &w->table[at];
        if (!*slot || pp_key_equal(w->ops[*slot - 1].key, key))
            return slot;
    }
}

static void rehash(pp_waves *w)
{
    memset(w->table, 0, w->cap_table * sizeof *w->table);
    for (size_t i = 0; i < w->n_ops; i++)
        *slot_of(w, w->ops[i].key) = (uint32_t)i + 1;
}

static bool room(pp_waves *w, size_t more)
{
    if (!grow((void **)&w->ops, &w->cap_ops, w->n_ops + more, sizeof *w->ops))
        return false;
    if ((w->n_ops + more) * 2 <= w->cap_table)
        return true;
    if (!grow((void **)&w->table, &w->cap_table, (w->n_ops + more) * 2, sizeof *w->table))
        return false;
    rehash(w);
    return true;
}

static void begin(pp_waves *w, uint32_t first)
{
    w->first = first;
    w->n_ops = w->n_ranges = 0;
    if (w->table)
        memset(w->table, 0, w->cap_table * sizeof *w->table);
}

/* ---- members into a wave ------------------------------------------------------------------------ */

static bool has_range(const tn_batch *batch)
{
    for (size_t i = 0; i < batch->n_muts; i++)
        if (batch->muts[i].verb == TN_MUT_DELETE_RANGE)
            return true;
    return false;
}

static bool fits(pp_waves *w, const tn_batch *batch, uint32_t member)
{
    if (member == w->first)
        return true;
    if (w->n_ranges || has_range(batch))
        return false;
    if (!w->n_ops)
        return true;
    for (size_t i = 0; i < batch->n_conds; i++)
        if (*slot_of(w, &batch->conds[i].key))
            return false;
    for (size_t i = 0; i < batch->n_muts; i++)
        if (*slot_of(w, &batch->muts[i].key))
            return false;
    return true;
}

static bool in_range(const tn_mut *range, const tn_key *key)
{
    return key->table == range->key.table &&
           pp_row_compare(key->partition, range->key.partition) == 0 &&
           pp_row_compare(key->row, range->key.row) >= 0 &&
           pp_row_compare(key->row, range->end.row) < 0;
}

static bool add_range(pp_waves *w, const tn_mut *mut)
{
    if (pp_row_compare(mut->key.row, mut->end.row) >= 0)
        return true;
    if (!grow((void **)&w->ranges, &w->cap_ranges, w->n_ranges + 1, sizeof *w->ranges))
        return false;
    w->ranges[w->n_ranges++] = mut;
    for (size_t i = 0; i < w->n_ops; i++) /* what the member did there before */
        if (in_range(mut, w->ops[i].key))
            w->ops[i].dead = true;
    return true;
}

static bool add(pp_waves *w, const tn_batch *batch, uint32_t member)
{
    if (!room(w, batch->n_muts))
        return false;
    for (size_t i = 0; i < batch->n_muts; i++) {
        const tn_mut *mut = &batch->muts[i];
        if (mut->verb == TN_MUT_DELETE_RANGE) {
            if (!add_range(w, mut))
                return false;
            continue;
        }
        uint32_t *slot = slot_of(w, &mut->key);
        if (!*slot) {
            w->n_ops++;
            *slot = (uint32_t)w->n_ops;
        }
        w->ops[*slot - 1] = (pp_op){.key = &mut->key, .mut = mut, .member = member};
    }
    return true;
}

/* ---- a wave as parameters ----------------------------------------------------------------------- */

static void put_key(tn_pg_params *p, const tn_key *key)
{
    uint8_t head[2] = {(uint8_t)key->table, (uint8_t)key->partition.n};
    tn_pg_array_start(p, pp_key_size(key));
    tn_pg_array_bytes(p, head, 2);
    tn_pg_array_bytes(p, key->partition.p, key->partition.n);
    tn_pg_array_bytes(p, key->row.p, key->row.n);
}

static void put_conds(pp_waves *w, pp_member *const *members, uint32_t end)
{
    tn_pg_params *p = &w->params;
    for (int column = 0; column < 5; column++) {
        tn_pg_array_begin(p, column == 4   ? TN_PG_OID_BYTEA
                             : column == 3 ? TN_PG_OID_INT8
                                           : TN_PG_OID_INT4);
        for (uint32_t m = w->first; m < end; m++) {
            const tn_batch *batch = members[m]->req->batch;
            for (size_t i = 0; i < batch->n_conds; i++) {
                const tn_cond *cond = &batch->conds[i];
                switch (column) {
                case 0:
                    tn_pg_array_i32(p, (int32_t)m);
                    break;
                case 1:
                    tn_pg_array_i32(p, (int32_t)i);
                    break;
                case 2:
                    tn_pg_array_i32(p, (int32_t)cond->test);
                    break;
                case 3: /* no row has version -1 */
                    tn_pg_array_i64(p, cond->version > INT64_MAX ? -1 : (int64_t)cond->version);
                    break;
                default:
                    put_key(p, &cond->key);
                }
            }
        }
        tn_pg_array_end(p);
    }
}

static bool is_put(const pp_op *op, pp_relation relation)
{
    return !op->dead && op->mut->verb == TN_MUT_PUT && pp_relation_of(op->key->table) == relation;
}

static void put_puts(pp_waves *w, pp_relation relation)
{
    tn_pg_params *p = &w->params;
    tn_pg_array_begin(p, TN_PG_OID_INT4);
    for (size_t i = 0; i < w->n_ops; i++)
        if (is_put(&w->ops[i], relation))
            tn_pg_array_i32(p, (int32_t)w->ops[i].member);
    tn_pg_array_end(p);
    tn_pg_array_begin(p, TN_PG_OID_BYTEA);
    for (size_t i = 0; i < w->n_ops; i++)
        if (is_put(&w->ops[i], relation))
            put_key(p, w->ops[i].key);
    tn_pg_array_end(p);
    tn_pg_array_begin(p, TN_PG_OID_BYTEA);
    for (size_t i = 0; i < w->n_ops; i++)
        if (is_put(&w->ops[i], relation))
            tn_pg_array_blob(p, w->ops[i].mut->value.p, w->ops[i].mut->value.n);
    tn_pg_array_end(p);
}

static void put_deletes(pp_waves *w)
{
    tn_pg_params *p = &w->params;
    int32_t mask = 0;
    tn_pg_array_begin(p, TN_PG_OID_INT4);
    for (size_t i = 0; i < w->n_ops; i++)
        if (!w->ops[i].dead && w->ops[i].mut->verb == TN_MUT_DELETE)
            tn_pg_array_i32(p, (int32_t)w->ops[i].member);
    tn_pg_array_end(p);
    tn_pg_array_begin(p, TN_PG_OID_BYTEA);
    for (size_t i = 0; i < w->n_ops; i++)
        if (!w->ops[i].dead && w->ops[i].mut->verb == TN_MUT_DELETE) {
            put_key(p, w->ops[i].key);
            mask |= 1 << pp_relation_of(w->ops[i].key->table);
        }
    tn_pg_array_end(p);
    tn_pg_put_i32(p, mask);
}

static void put_ranges(pp_waves *w)
{
    tn_pg_params *p = &w->params;
    tn_pg_array_begin(p, TN_PG_OID_INT4);
    for (size_t i = 0; i < w->n_ranges; i++)
        tn_pg_array_i32(p, (int32_t)w->first);
    tn_pg_array_end(p);
    tn_pg_array_begin(p, TN_PG_OID_BYTEA);
    for (size_t i = 0; i < w->n_ranges; i++)
        put_key(p, &w->ranges[i]->key);
    tn_pg_array_end(p);
    tn_pg_array_begin(p, TN_PG_OID_BYTEA);
    for (size_t i = 0; i < w->n_ranges; i++) {
        tn_key end = w->ranges[i]->key;
        end.row = w->ranges[i]->end.row;
        put_key(p, &end);
    }
    tn_pg_array_end(p);
}

/* ---- locks -------------------------------------------------------------------------------------- */

static int compare_locks(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool add_lock(pp_waves *w, uint64_t seed, const tn_key *key)
{
    int64_t lock = (int64_t)pp_hash(seed, key->partition.p, key->partition.n);
    if (w->n_locks && w->locks[w->n_locks - 1] == lock)
        return true;
    if (!grow((void **)&w->locks, &w->cap_locks, w->n_locks + 1, sizeof *w->locks))
        return false;
    w->locks[w->n_locks++] = lock;
    return true;
}

/* Of all partitions of the group, ascending: two groups that share some can't wait for each other. */
static bool collect_locks(pp_waves *w, uint64_t seed, pp_member *const *members, uint32_t n)
{
    w->n_locks = 0;
    for (uint32_t m = 0; m < n; m++) {
        const tn_batch *batch = members[m]->req->batch;
        for (size_t i = 0; i < batch->n_conds; i++)
            if (!add_lock(w, seed, &batch->conds[i].key))
                return false;
        for (size_t i = 0; i < batch->n_muts; i++)
            if (!add_lock(w, seed, &batch->muts[i].key))
                return false;
    }
    if (w->n_locks)
        qsort(w->locks, w->n_locks, sizeof *w->locks, compare_locks);
    return true;
}

static void put_locks(pp_waves *w, bool wanted)
{
    tn_pg_array_begin(&w->params, TN_PG_OID_INT8);
    for (size_t i = 0; wanted && i < w->n_locks; i++)
        if (i == 0 || w->locks[i] != w->locks[i - 1])
            tn_pg_array_i64(&w->params, w->locks[i]);
    tn_pg_array_end(&w->params);
}

/* ---- sending ------------------------------------------------------------------------------------ */

static bool send_wave(pp_waves *w, const pp_session *session, pp_member *const *members,
                      uint32_t end, int32_t number, PGconn *db)
{
    tn_pg_params *p = &w->params;
    tn_pg_params_clear(p);
    tn_pg_put_i64(p, session->id);
    tn_pg_put_i64(p, session->seq);
    tn_pg_put_i32(p, number);
    put_locks(w, number == 0);
    put_conds(w, members, end);
    put_puts(w, PP_ROWS);
    put_puts(w, PP_RECORDS);
    put_puts(w, PP_QUEUE);
    put_deletes(w);
    put_ranges(w);
    return tn_pg_params_send(p, db, "commit");
}

bool pp_waves_send(pp_waves *w, const pp_session *session, pp_member *const *members, uint32_t n,
                   PGconn *db)
{
    int32_t number = 0;
    if (!collect_locks(w, session->lock_seed, members, n))
        return false;
    begin(w, 0);
    for (uint32_t m = 0; m < n; m++) {
        const tn_batch *batch = members[m]->req->batch;
        if (!fits(w, batch, m)) {
            if (!send_wave(w, session, members, m, number++, db))
                return false;
            begin(w, m);
        }
        if (!add(w, batch, m))
            return false;
    }
    bool sent = send_wave(w, session, members, n, number, db);
    if (w->params.cap > 2 * PP_GROUP_BYTES_MAX)
        tn_pg_params_done(&w->params);
    return sent;
}

void pp_waves_done(pp_waves *w)
{
    tn_pg_params_done(&w->params);
    free(w->ops);
    free((void *)w->ranges);
    free(w->table);
    free(w->locks);
    *w = (pp_waves){0};
}
