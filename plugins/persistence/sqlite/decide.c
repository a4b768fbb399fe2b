/* SPDX-License-Identifier: MIT */
/* Deciding one commit [writer thread]: are its keys lawful, do its conditions hold against all that was
 * committed before it (this group's earlier members included), and which rows does it leave?  What it
 * leaves goes into the delta and the journal's buffer; nobody else sees it before the group is safe. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

typedef struct seen { /* what is there now */
    bool found;
    uint64_t version;
    tn_blob value; /* valid until the next look */
} seen;

/* ---- what the B-tree was last seen to hold ------------------------------------------------------ */

static sq_known *known_slot(sq_writer *w, const uint8_t *key, size_t key_n)
{
    if (!w->known || key_n > sizeof w->known->key)
        return NULL;
    return &w->known[sq_crc32c(0, key, key_n) % SQ_KNOWN_SLOTS];
}

static bool known_is(const sq_known *slot, const uint8_t *key, size_t key_n)
{
    return slot && slot->key_n == key_n && memcmp(slot->key, key, key_n) == 0;
}

void sq_known_forget(sq_writer *w, const uint8_t *key, size_t key_n)
{
    sq_known *slot = known_slot(w, key, key_n);
    if (known_is(slot, key, key_n))
        slot->key_n = 0;
}

static void known_set(sq_writer *w, const uint8_t *key, size_t key_n, uint64_t version)
{
    sq_known *slot = known_slot(w, key, key_n);
    if (!slot)
        return;
    slot->key_n = (uint8_t)key_n;
    memcpy(slot->key, key, key_n);
    slot->version = version;
}

/* ---- looking ------------------------------------------------------------------------------------ */

static tn_status look_in_file(sq_inst *inst, const sq_key *key, seen *out, tn_error *err)
{
    sq_writer *w = &inst->writer;
    const sq_entry *row = NULL;
    if (!w->floor)
        return TN_OK;
    sqlite3_reset(w->floor);
    tn_status status = sq_file_find(w->db, w->floor, &w->zip, &w->leaf, key, &row, err);
    if (status != TN_OK && status != TN_ENOTFOUND) {
        sqlite3_reset(w->floor);
        return status;
    }
    /* The statement stays open: the next look's need begin no new read transaction. */
    out->found = row != NULL;
    out->version = row ? row->version : 0;
    if (row)
        out->value = (tn_blob){row->value, row->value_n};
    known_set(w, key->b, key->n, out->version);
    return TN_OK;
}

static tn_status look(sq_inst *inst, const sq_key *key, bool need_value, seen *out, tn_error *err)
{
    *out = (seen){0};
    sq_node *node = sq_table_find(&inst->writer.delta, key->b, key->n);
    if (!node)
        node = sq_table_find(&inst->active, key->b, key->n);
    if (!node && inst->has_frozen)
        node = sq_table_find(&inst->frozen, key->b, key->n);
    if (node) {
        out->found = !node->tombstone;
        out->version = node->tombstone ? 0 : node->version;
        out->value = (tn_blob){sq_node_value(node), node->value_n};
        return TN_OK;
    }
    const sq_known *slot = known_slot(&inst->writer, key->b, key->n);
    if (known_is(slot, key->b, key->n) && (slot->version == 0 || !need_value)) {
        out->found = slot->version != 0;
        out->version = slot->version;
        return TN_OK;
    }
    return look_in_file(inst, key, out, err);
}

/* ---- conditions --------------------------------------------------------------------------------- */

static tn_status tell_conflict(sq_inst *inst, tn_commit_req *req, uint32_t index, const sq_key *key,
                               tn_error *err)
{
    seen now;
    tn_status status = look(inst, key, true, &now, err);
    if (status != TN_OK)
        return status;
    tn_row *current = &req->out->current;
    *current = (tn_row){.key = req->batch->conds[index].key};
    if (now.found) {
        uint8_t *copy = inst->host->op_alloc(req->op, now.value.n ? now.value.n : 1, 1);
        if (!copy)
            return sq_error(err, TN_ETOOLARGE, 0,
                            "the conflicting row does not fit the operation's memory");
        if (now.value.n)
            memcpy(copy, now.value.p, now.value.n);
        current->value = (tn_blob){copy, now.value.n};
        current->version = now.version;
    }
    return sq_error(err, TN_ECONFLICT, 0, "condition %u failed", index);
}

static tn_status test_conditions(sq_inst *inst, tn_commit_req *req, tn_error *err)
{
    const tn_batch *batch = req->batch;
    size_t conflict = SIZE_MAX;
    sq_key key, conflict_key;
    for (size_t i = 0; i < batch->n_conds; i++) {
        const tn_cond *cond = &batch->conds[i];
        if (conflict != SIZE_MAX && cond->test != TN_COND_FENCE)
            continue; /* the first conflict is told; only a fence can still win over it */
        if (!sq_key_make(&key, &cond->key))
            return sq_error(err, TN_EINVALID, 0, "condition %zu: key out of limits", i);
        seen now;
        tn_status status = look(inst, &key, false, &now, err);
        if (status != TN_OK)
            return status;
        bool holds;
        switch (cond->test) {
        case TN_COND_VERSION:
        case TN_COND_FENCE:
            holds = now.found && now.version == cond->version;
            break;
        case TN_COND_ABSENT:
            holds = !now.found;
            break;
        default:
            return sq_error(err, TN_EINVALID, 0, "condition %zu: unknown test %u", i, cond->test);
        }
        if (holds)
            continue;
        req->out->failed_cond = (uint32_t)i;
        if (cond->test == TN_COND_FENCE)
            return sq_error(err, TN_EFENCED, 0, "condition %zu: the fence has moved", i);
        conflict = i;
        conflict_key = key;
    }
    if (conflict == SIZE_MAX)
        return TN_OK;
    req->out->failed_cond = (uint32_t)conflict;
    return tell_conflict(inst, req, (uint32_t)conflict, &conflict_key, err);
}

/* ---- mutations ---------------------------------------------------------------------------------- */

static tn_status check_batch(const tn_batch *batch, tn_error *err)
{
    size_t bytes = 0;
    sq_key key;
    for (size_t i = 0; i < batch->n_muts; i++) {
        const tn_mut *mut = &batch->muts[i];
        if (mut->verb < TN_MUT_PUT || mut->verb > TN_MUT_DELETE_RANGE)
            return sq_error(err, TN_EINVALID, 0, "mutation %zu: unknown verb %u", i, mut->verb);
        if (!sq_key_make(&key, &mut->key) ||
            (mut->verb == TN_MUT_DELETE_RANGE && mut->end.row.n > SQ_ROW_MAX))
            return sq_error(err, TN_EINVALID, 0, "mutation %zu: key out of limits", i);
        if (mut->ttl_ns)
            return sq_error(err, TN_EINVALID, 0, "mutation %zu: this driver has no TTL", i);
        if (mut->value.n > SQ_VALUE_MAX)
            return sq_error(err, TN_ETOOLARGE, 0, "mutation %zu: %zu bytes, the limit is %zu", i,
                            mut->value.n, SQ_VALUE_MAX);
        bytes += mut->value.n;
    }
    if (bytes > SQ_BATCH_BYTES_MAX)
        return sq_error(err, TN_ETOOLARGE, 0, "a batch of %zu bytes, the limit is %zu", bytes,
                        SQ_BATCH_BYTES_MAX);
    return TN_OK;
}

/* Everything a member put into the delta, so that it can be taken out when a later step fails. */
typedef struct undo {
    struct {
        sq_node *in, *out;
    } * steps;
    size_t n, cap;
} undo;

static bool leave(sq_inst *inst, undo *u, const uint8_t *key, size_t key_n, const tn_blob *value)
{
    sq_writer *w = &inst->writer;
    if (u->n == u->cap) {
        size_t cap = u->cap ? u->cap * 2 : 16;
        void *grown = realloc(u->steps, cap * sizeof *u->steps);
        if (!grown)
            return false;
        u->steps = grown;
        u->cap = cap;
    }
    sq_node *node = sq_table_node(&w->delta, key, key_n, w->version, value ? value->p : NULL,
                                  value ? value->n : 0, !value);
    if (!node)
        return false;
    u->steps[u->n].in = node;
    u->steps[u->n++].out = sq_table_insert(&w->delta, node);
    if (value)
        sq_journal_put(&w->journal, w->version, key, key_n, value->p, value->n);
    else
        sq_journal_delete(&w->journal, w->version, key, key_n);
    return !w->journal.failed;
}

static void take_back(sq_inst *inst, undo *u)
{
    while (u->n-- > 0) {
        if (u->steps[u->n].out) {
            sq_node *same = sq_table_insert(&inst->writer.delta, u->steps[u->n].out);
            free(same);
        } else {
            sq_table_remove(&inst->writer.delta, u->steps[u->n].in);
            free(u->steps[u->n].in);
        }
    }
    u->n = 0;
}

/* Keys of a table in memory that lie in the range and are not yet in `keys`. */
static void collect_from_table(const sq_table *table, const sq_key *from, const sq_key *to,
                               sq_bytes *keys)
{
    if (table->count == 0)
        return;
    for (sq_node *n = sq_table_seek(table, from->b, from->n); n; n = n->next[0]) {
        if (sq_bytes_cmp(sq_node_key(n), n->key_n, to->b, to->n) >= 0)
            return;
        if (n->tombstone)
            continue;
        uint16_t length = (uint16_t)n->key_n;
        sq_bytes_put(keys, &length, sizeof length);
        sq_bytes_put(keys, sq_node_key(n), n->key_n);
    }
}

static tn_status collect_from_file(sq_inst *inst, const sq_key *from, const sq_key *to,
                                   sq_bytes *keys, tn_error *err)
{
    sq_writer *w = &inst->writer;
    const sq_entry *row = NULL;
    tn_status status;
    sq_cursor cursor = {
        .db = w->db, .stmt = w->range, .zip = &w->zip, .leaf = &w->leaf, .keys_only = true};
    sq_cursor_open(&cursor, from, to);
    while ((status = sq_cursor_next(&cursor, &row, err)) == TN_OK && row) {
        uint16_t length = (uint16_t)row->key_n;
        sq_bytes_put(keys, &length, sizeof length);
        sq_bytes_put(keys, row->key, length);
    }
    if (w->range)
        sqlite3_reset(w->range);
    return status;
}

/* A range delete becomes a delete of each row that the merged view has there. */
static tn_status leave_range(sq_inst *inst, undo *u, const tn_mut *mut, tn_error *err)
{
    sq_key from, to;
    tn_key end = {.table = mut->key.table, .partition = mut->key.partition, .row = mut->end.row};
    if (!sq_key_make(&from, &mut->key) || !sq_key_make(&to, &end))
        return sq_error(err, TN_EINVALID, 0, "range delete: key out of limits");
    if (sq_bytes_cmp(from.b, from.n, to.b, to.n) >= 0)
        return TN_OK;
    sq_bytes keys = {0};
    collect_from_table(&inst->writer.delta, &from, &to, &keys);
    collect_from_table(&inst->active, &from, &to, &keys);
    if (inst->has_frozen)
        collect_from_table(&inst->frozen, &from, &to, &keys);
    tn_status status = collect_from_file(inst, &from, &to, &keys, err);
    if (status == TN_OK && keys.failed)
        status = sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    for (size_t at = 0; status == TN_OK && at < keys.n;) {
        uint16_t length;
        memcpy(&length, keys.p + at, sizeof length);
        const uint8_t *key = keys.p + at + sizeof length;
        at += sizeof length + length;
        const sq_node *now = sq_table_find(&inst->writer.delta, key, length);
        if (now && now->tombstone)
            continue; /* met in two layers */
        if (!leave(inst, u, key, length, NULL))
            status = sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    }
    free(keys.p);
    return status;
}

static tn_status apply(sq_inst *inst, const tn_batch *batch, undo *u, tn_error *err)
{
    sq_key key;
    for (size_t i = 0; i < batch->n_muts; i++) {
        const tn_mut *mut = &batch->muts[i];
        if (mut->verb == TN_MUT_DELETE_RANGE) {
            tn_status status = leave_range(inst, u, mut, err);
            if (status != TN_OK)
                return status;
            continue;
        }
        if (!sq_key_make(&key, &mut->key))
            return sq_error(err, TN_EINVALID, 0, "mutation %zu: key out of limits", i);
        if (!leave(inst, u, key.b, key.n, mut->verb == TN_MUT_PUT ? &mut->value : NULL))
            return sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    }
    return TN_OK;
}

tn_status sq_decide(sq_inst *inst, tn_commit_req *req, tn_error *err)
{
    sq_writer *w = &inst->writer;
    if (req->batch->flags)
        return sq_error(err, TN_EINVALID, 0, "unknown batch flags %#x", req->batch->flags);
    if (inst->host->op_deadline_ns(req->op) <= inst->host->mono_ns())
        return sq_error(err, TN_EUNAVAILABLE, 0,
                        "the deadline passed before the commit was looked at");
    tn_status status = check_batch(req->batch, err);
    if (status == TN_OK)
        status = test_conditions(inst, req, err);
    if (status != TN_OK)
        return status;
    undo u = {0};
    size_t journal_before = w->journal.n;
    w->version++;
    status = apply(inst, req->batch, &u, err);
    if (status == TN_OK) {
        req->out->version = w->version;
        while (u.n-- > 0)
            free(u.steps[u.n].out);
    } else {
        take_back(inst, &u);
        w->journal.n = journal_before;
        w->journal.failed = false;
    }
    free(u.steps);
    return status;
}
