/* SPDX-License-Identifier: MIT */
/* Deciding the members of a group, in order: do a member's conditions hold against what the database has
 * and what earlier members leave, and what does it leave itself?
 *
 * The long way asks the database first.  The short way takes every condition for true and lets the
 * transaction fail when one is not; then the long way follows, which knows who failed and why. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

#define SCRATCH_SQL 256u /* of a statement beside its keys and values */

/* ---- the request alone -------------------------------------------------------------------------- */

static bool note_part(my_lane *lane, const tn_key *key)
{
    my_group *g = &lane->group;
    my_part *part = my_part_get(lane, key->partition.p, key->partition.n);
    if (!part)
        return false;
    if (part->mark == lane->mark)
        return true;
    if (g->n_parts == g->cap_parts) {
        size_t cap = g->cap_parts ? g->cap_parts * 2 : 64;
        my_part **grown = realloc(g->parts, cap * sizeof *grown);
        if (!grown)
            return false;
        g->parts = grown;
        g->cap_parts = cap;
    }
    part->mark = lane->mark;
    part->is_new = part->changed = false;
    g->parts[g->n_parts++] = part;
    return true;
}

static tn_status check_mut(const my_lane *lane, const tn_mut *mut, size_t i, size_t *bytes,
                           tn_error *err)
{
    if (mut->verb < TN_MUT_PUT || mut->verb > TN_MUT_DELETE_RANGE)
        return ms_error(err, TN_EINVALID, 0, "mutation %zu: unknown verb %u", i, mut->verb);
    if (!my_key_lawful(&mut->key) ||
        (mut->verb == TN_MUT_DELETE_RANGE && mut->end.row.n > MY_ROW_MAX))
        return ms_error(err, TN_EINVALID, 0, "mutation %zu: key out of limits", i);
    if (mut->ttl_ns)
        return ms_error(err, TN_EINVALID, 0, "mutation %zu: this driver has no TTL", i);
    if (mut->value.n > MY_VALUE_MAX)
        return ms_error(err, TN_ETOOLARGE, 0, "mutation %zu: %zu bytes, the limit is %zu", i,
                        mut->value.n, MY_VALUE_MAX);
    size_t most = 2 * (mut->value.n + MY_KEY_MAX) + SCRATCH_SQL, packet = lane->conn.packet_max;
    if (mut->verb == TN_MUT_PUT && packet && most > packet &&
        ms_bytes_size(mut->value.p, mut->value.n) + 2 * MY_KEY_MAX + SCRATCH_SQL > packet)
        return ms_error(
            err, TN_ETOOLARGE, 0,
            "mutation %zu: %zu bytes don't fit the database's max_allowed_packet of %zu", i,
            mut->value.n, packet);
    *bytes += 2 * (mut->value.n + mut->key.row.n + mut->end.row.n) + 256;
    return TN_OK;
}

tn_status my_member_check(my_lane *lane, my_member *member, tn_error *err)
{
    const tn_batch *batch = member->req->batch;
    size_t bytes = 0;
    if (batch->flags)
        return ms_error(err, TN_EINVALID, 0, "unknown batch flags %#x", batch->flags);
    for (size_t i = 0; i < batch->n_conds; i++) {
        const tn_cond *cond = &batch->conds[i];
        if (cond->test < TN_COND_VERSION || cond->test > TN_COND_FENCE)
            return ms_error(err, TN_EINVALID, 0, "condition %zu: unknown test %u", i, cond->test);
        if (!my_key_lawful(&cond->key))
            return ms_error(err, TN_EINVALID, 0, "condition %zu: key out of limits", i);
        bytes += 2 * cond->key.row.n + 256;
    }
    for (size_t i = 0; i < batch->n_muts; i++) {
        tn_status status = check_mut(lane, &batch->muts[i], i, &bytes, err);
        if (status != TN_OK)
            return status;
    }
    member->bytes = bytes;
    bool known = true;
    for (size_t i = 0; i < batch->n_conds && known; i++)
        known = note_part(lane, &batch->conds[i].key);
    for (size_t i = 0; i < batch->n_muts && known; i++)
        known = note_part(lane, &batch->muts[i].key);
    return known ? TN_OK : ms_error(err, TN_EUNAVAILABLE, 0, "out of memory");
}

/* ---- partitions --------------------------------------------------------------------------------- */

static bool grow_parts(my_lane *lane)
{
    size_t n = lane->n_part_buckets ? lane->n_part_buckets * 2 : 256;
    my_part **buckets = calloc(n, sizeof *buckets);
    if (!buckets)
        return false;
    for (size_t i = 0; i < lane->n_part_buckets; i++)
        for (my_part *part = lane->parts[i], *next; part; part = next) {
            next = part->next;
            part->next = buckets[part->hash % n];
            buckets[part->hash % n] = part;
        }
    free(lane->parts);
    lane->parts = buckets;
    lane->n_part_buckets = n;
    return true;
}

my_part *my_part_get(my_lane *lane, const uint8_t *p, size_t n)
{
    uint64_t hash = my_hash(p, n);
    if (lane->n_parts >= lane->n_part_buckets && !grow_parts(lane))
        return NULL;
    my_part **bucket = &lane->parts[hash % lane->n_part_buckets];
    for (my_part *part = *bucket; part; part = part->next)
        if (part->hash == hash && part->n == n && memcmp(part->p, p, n) == 0)
            return part;
    my_part *part = calloc(1, sizeof *part);
    if (!part)
        return NULL;
    part->hash = hash;
    part->n = (uint8_t)n;
    memcpy(part->p, p, n);
    part->next = *bucket;
    *bucket = part;
    lane->n_parts++;
    return part;
}

/* Is there already: note_part. */
static my_part *part_of(my_lane *lane, const tn_key *key)
{
    my_part *part = lane->last_part;
    if (!part || part->n != key->partition.n || memcmp(part->p, key->partition.p, part->n) != 0)
        lane->last_part = part = my_part_get(lane, key->partition.p, key->partition.n);
    return part;
}

/* One version for all that the member puts, greater than any in its partitions. */
static void give_version(my_lane *lane, my_member *m)
{
    const tn_batch *batch = m->req->batch;
    uint64_t version = 1;
    for (size_t i = 0; i < batch->n_muts; i++) {
        const my_part *part = part_of(lane, &batch->muts[i].key);
        if (part->last >= version)
            version = part->last + 1;
    }
    for (size_t i = 0; i < batch->n_muts; i++) {
        my_part *part = part_of(lane, &batch->muts[i].key);
        part->last = version;
        if (version > part->ceiling || !part->ours)
            lane->group.must_look = true;
    }
    m->version = version;
}

/* ---- rows --------------------------------------------------------------------------------------- */

bool my_group_begin(my_lane *lane, bool looked)
{
    my_group *g = &lane->group;
    size_t keys = 1, bytes = 0;
    ms_pool_reset(&g->pool);
    for (size_t i = 0; i < g->n; i++) {
        const tn_batch *batch = g->members[i]->req->batch;
        keys += batch->n_conds + batch->n_muts;
        bytes += g->members[i]->bytes;
    }
    g->text_most = bytes + g->n_parts * 512 + 4096;
    for (g->n_buckets = 64; g->n_buckets < keys; g->n_buckets *= 2)
        ;
    g->buckets = ms_pool_get(&g->pool, g->n_buckets * sizeof *g->buckets);
    g->rows = ms_pool_get(&g->pool, keys * sizeof(my_row *));
    g->spans = ms_pool_get(&g->pool, keys * sizeof *g->spans);
    g->n_rows = g->n_spans = g->order = 0;
    g->looked = looked;
    g->must_look = g->writes = false;
    if (g->pool.failed)
        return false;
    memset(g->buckets, 0, g->n_buckets * sizeof *g->buckets);
    return true;
}

my_row *my_group_row(my_group *g, my_key key)
{
    uint64_t hash = my_hash(key.p, key.n);
    my_row **bucket = &g->buckets[hash & (g->n_buckets - 1)];
    for (my_row *row = *bucket; row; row = row->next)
        if (row->hash == hash && my_key_cmp(row->key, key) == 0)
            return row;
    my_row *row = ms_pool_get(&g->pool, sizeof *row);
    if (!row)
        return NULL;
    *row = (my_row){.next = *bucket, .key = key, .hash = hash};
    *bucket = row;
    g->rows[g->n_rows++] = row;
    return row;
}

/* Has a range delete after the row's last change taken it? */
static bool is_swept(const my_group *g, const my_row *row)
{
    for (size_t i = 0; i < g->n_spans; i++) {
        const my_span *span = &g->spans[i];
        if (span->order > row->order && my_key_cmp(span->from, row->key) <= 0 &&
            my_key_cmp(row->key, span->to) < 0)
            return true;
    }
    return false;
}

typedef struct seen {
    uint64_t version;     /* 0: no row */
    const tn_blob *value; /* NULL: only the database has it */
    bool based;
} seen;

static seen look(const my_group *g, const my_row *row)
{
    if (g->n_spans && is_swept(g, row))
        return (seen){0};
    if (row->touched)
        return row->removed ? (seen){0} : (seen){.version = row->version, .value = &row->value};
    return (seen){.version = row->base, .based = true};
}

/* ---- conditions --------------------------------------------------------------------------------- */

static tn_status tell_conflict(my_lane *lane, my_member *m, size_t index, my_row *row)
{
    const tn_host *host = lane->inst->host;
    tn_commit *out = m->req->out;
    seen now = look(&lane->group, row);
    out->failed_cond = (uint32_t)index;
    out->current = (tn_row){.key = m->req->batch->conds[index].key, .version = now.version};
    if (now.version && now.based) {
        m->wanted = row->key;
    } else if (now.version) {
        uint8_t *copy = host->op_alloc(m->req->op, now.value->n ? now.value->n : 1, 1);
        if (!copy)
            return ms_error(&m->err, TN_ETOOLARGE, 0,
                            "the conflicting row does not fit the operation's memory");
        if (now.value->n)
            memcpy(copy, now.value->p, now.value->n);
        out->current.value = (tn_blob){copy, now.value->n};
    }
    return ms_error(&m->err, TN_ECONFLICT, 0, "condition %zu failed", index);
}

static bool holds(my_group *g, const tn_cond *cond, my_row *row)
{
    uint64_t want = cond->test == TN_COND_ABSENT ? 0 : cond->version;
    if (want == 0 && cond->test != TN_COND_ABSENT)
        return false; /* no row has version 0 */
    if (!g->looked && !row->based && !row->touched && !(g->n_spans && is_swept(g, row))) {
        row->based = true; /* taken for true; the transaction fails when it is not */
        row->base = want;
        return true;
    }
    return look(g, row).version == want;
}

static tn_status test(my_lane *lane, my_member *m)
{
    my_group *g = &lane->group;
    const tn_batch *batch = m->req->batch;
    size_t conflict = SIZE_MAX;
    my_row *conflict_row = NULL;
    for (size_t i = 0; i < batch->n_conds; i++) {
        const tn_cond *cond = &batch->conds[i];
        if (conflict != SIZE_MAX && cond->test != TN_COND_FENCE)
            continue; /* the first conflict is told; only a fence can still win over it */
        my_key key = my_key_make(&g->pool, &cond->key);
        my_row *row = key.n ? my_group_row(g, key) : NULL;
        if (!row)
            return ms_error(&m->err, TN_EUNAVAILABLE, 0, "out of memory");
        if (holds(g, cond, row))
            continue;
        if (cond->test == TN_COND_FENCE) {
            m->req->out->failed_cond = (uint32_t)i;
            return ms_error(&m->err, TN_EFENCED, 0, "condition %zu: the fence has moved", i);
        }
        conflict = i;
        conflict_row = row;
    }
    return conflict == SIZE_MAX ? TN_OK : tell_conflict(lane, m, conflict, conflict_row);
}

/* ---- mutations ---------------------------------------------------------------------------------- */

static bool leave(my_lane *lane, my_member *m)
{
    my_group *g = &lane->group;
    const tn_batch *batch = m->req->batch;
    for (size_t i = 0; i < batch->n_muts; i++) {
        const tn_mut *mut = &batch->muts[i];
        my_key key = my_key_make(&g->pool, &mut->key);
        if (!key.n)
            return false;
        g->order++;
        if (mut->verb == TN_MUT_DELETE_RANGE) {
            tn_key end = {
                .table = mut->key.table, .partition = mut->key.partition, .row = mut->end.row};
            my_key to = my_key_make(&g->pool, &end);
            if (!to.n)
                return false;
            if (my_key_cmp(key, to) < 0)
                g->spans[g->n_spans++] = (my_span){key, to, g->order};
            continue;
        }
        my_row *row = my_group_row(g, key);
        if (!row)
            return false;
        row->touched = true;
        row->removed = mut->verb == TN_MUT_DELETE;
        row->order = g->order;
        row->version = m->version;
        row->value = mut->value;
    }
    return true;
}

void my_group_decide(my_lane *lane)
{
    my_group *g = &lane->group;
    for (size_t i = 0; i < g->n; i++) {
        my_member *m = g->members[i];
        m->wanted = (my_key){0};
        m->status = test(lane, m);
        if (m->status != TN_OK) {
            g->must_look = g->must_look || !g->looked;
            continue;
        }
        give_version(lane, m);
        if (!leave(lane, m)) {
            /* Half of it may be noted: nothing of this group can be written. */
            g->pool.failed = true;
            return;
        }
        g->writes = g->writes || m->req->batch->n_muts > 0;
    }
}
