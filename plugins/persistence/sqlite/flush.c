/* SPDX-License-Identifier: MIT */
/* From memory into the B-tree.  When the journal has grown enough (or the server is idle, or ends), the
 * active table is frozen and a fresh one takes the new groups; the frozen one is written into the tables
 * in slices between groups, in key order.  Rows that were replaced or deleted meanwhile never get there.
 *
 * The transaction of the last slice also notes up to which group the journal is obsolete: from then on its
 * rows may be written over.  After a crash, slices that were written are written again from the journal.
 *
 * The write-ahead log is copied into the file by a thread of its own; see also writer.c. */
#include "private.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_NS (4 * SQ_MS)
#define SLICE_BYTES ((size_t)1 << 20)
#define MERGE_BYTES ((size_t)128 << 10) /* of rows at a time: a fraction of a slice */

void sq_flush_freeze(sq_inst *inst)
{
    sq_writer *w = &inst->writer;
    pthread_rwlock_wrlock(&inst->view_lock);
    sq_table empty = inst->frozen;
    inst->frozen = inst->active;
    inst->active = empty;
    inst->has_frozen = true;
    pthread_rwlock_unlock(&inst->view_lock);
    sq_slots no_slots = w->frozen_slots;
    w->frozen_slots = w->active_slots;
    w->active_slots = no_slots;
    w->frozen_seq = w->seq;
    w->frozen_version = w->version;
    w->active_journal_bytes = 0;
    w->flush_at = sq_table_first(&inst->frozen);
}

/* ---- rows into leaves --------------------------------------------------------------------------- */

typedef struct merger { /* what one row of kv becomes */
    sq_inst *inst;
    sq_entry *list; /* in the leaf's memory and the frozen table's */
    size_t n, cap;
    size_t old_at; /* rows of the leaf that are in the list or gone */
    bool absorb;   /* the row of kv is written anew */
    bool changed, append;
    bool bounded; /* by the next key of kv: */
    sq_key next;
    sq_node *node;
    size_t bytes; /* of nodes */
} merger;

static int add_entry(merger *m, const sq_entry *entry)
{
    if (m->n == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 128;
        sq_entry *grown = realloc(m->list, cap * sizeof *grown);
        if (!grown)
            return SQLITE_NOMEM;
        m->list = grown;
        m->cap = cap;
    }
    m->list[m->n++] = *entry;
    return SQLITE_OK;
}

/* The key of kv that comes after the node's. */
static int find_next(merger *m)
{
    sqlite3_stmt *stmt = m->inst->writer.after;
    sqlite3_bind_blob(stmt, 1, sq_node_key(m->node), (int)m->node->key_n, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    m->bounded = rc == SQLITE_ROW;
    if (m->bounded) {
        size_t n = (size_t)sqlite3_column_bytes(stmt, 0);
        m->next.n = (uint16_t)(n < sizeof m->next.b ? n : sizeof m->next.b);
        memcpy(m->next.b, sqlite3_column_blob(stmt, 0), m->next.n);
    }
    sqlite3_reset(stmt);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* The row of kv that the node's key belongs to, and whether it is to be written anew: when the node lies
 * among its rows, or behind them and there is room. */
static int find_floor(merger *m)
{
    sq_writer *w = &m->inst->writer;
    sq_leaf *leaf = &w->leaf;
    const uint8_t *key = sq_node_key(m->node);
    size_t key_n = m->node->key_n;
    sqlite3_reset(w->floor);
    sqlite3_bind_blob(w->floor, 1, key, (int)key_n, SQLITE_STATIC);
    int rc = sqlite3_step(w->floor);
    leaf->n = 0;
    leaf->damaged = leaf->lost = leaf->single = false;
    leaf->key.n = 0;
    size_t stored = rc == SQLITE_ROW ? (size_t)sqlite3_column_bytes(w->floor, 2) : 0;
    if (rc == SQLITE_ROW && !sq_leaf_begin(leaf, w->floor)) {
        rc = SQLITE_NOMEM;
    } else if (rc == SQLITE_ROW) {
        bool same = sq_bytes_cmp(leaf->key.p, leaf->key.n, key, key_n) == 0;
        if (leaf->single && (same || stored > sq_leaf_target(&w->leaves) / 2))
            m->absorb = same; /* replaced, whatever it was, or large and left alone */
        else if (!sq_leaf_read(leaf, &w->zip, w->floor))
            rc = SQLITE_NOMEM;
        else if (leaf->n)
            m->absorb = sq_bytes_cmp(key, key_n, leaf->rows[leaf->n - 1].key,
                                     leaf->rows[leaf->n - 1].key_n) <= 0 ||
                        stored < w->leaves.cell_bytes / 2;
    }
    sqlite3_reset(w->floor);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static bool in_reach(const merger *m)
{
    return m->node && (!m->bounded || sq_bytes_cmp(sq_node_key(m->node), m->node->key_n, m->next.b,
                                                   m->next.n) < 0);
}

/* Takes the node in; `old` (may be NULL) has the same key. */
static int take_node(merger *m, const sq_entry *old)
{
    sq_node *node = m->node;
    m->node = node->next[0];
    m->bytes += node->key_n + node->value_n;
    sq_known_forget(&m->inst->writer, sq_node_key(node), node->key_n);
    if (node->tombstone) {
        /* Of a single row that is replaced nothing is read: it is the first node's key, and no row in `old`. */
        m->changed = m->changed || old || (m->absorb && m->inst->writer.leaf.n == 0);
        return SQLITE_OK;
    }
    m->changed = true;
    return add_entry(m, &(sq_entry){.version = node->version,
                                    .key = sq_node_key(node),
                                    .key_n = node->key_n,
                                    .value = sq_node_value(node),
                                    .value_n = node->value_n});
}

/* Old rows and nodes of one reach, in order; nodes only until their bytes are used up. */
static int merge_rows(merger *m, size_t bytes_max)
{
    const sq_leaf *leaf = &m->inst->writer.leaf;
    size_t n_old = m->absorb ? leaf->n : 0;
    int rc = SQLITE_OK;
    m->append = true;
    while (rc == SQLITE_OK) {
        const sq_entry *old = m->old_at < n_old ? &leaf->rows[m->old_at] : NULL;
        bool fresh = m->bytes < bytes_max && in_reach(m);
        if (!old && !fresh)
            break;
        int c = !old     ? -1
                : !fresh ? 1
                         : sq_bytes_cmp(sq_node_key(m->node), m->node->key_n, old->key, old->key_n);
        if (c < 0) {
            m->append = m->append && !old;
            rc = take_node(m, NULL);
            continue;
        }
        m->old_at++;
        rc = c > 0 ? add_entry(m, old) : take_node(m, old);
    }
    return rc;
}

/* What the rows of one row of kv, and the nodes that belong to it, become. */
static int merge_leaf(merger *m, size_t bytes_max)
{
    sq_writer *w = &m->inst->writer;
    const sq_bytes *key = &w->leaf.key;
    m->n = m->old_at = m->bytes = 0;
    m->absorb = m->changed = false;
    int rc = find_next(m);
    if (rc == SQLITE_OK)
        rc = find_floor(m);
    if (rc == SQLITE_OK)
        rc = merge_rows(m, bytes_max);
    if (rc != SQLITE_OK || !m->changed)
        return rc;
    if (m->absorb &&
        (m->n == 0 || sq_bytes_cmp(m->list->key, m->list->key_n, key->p, key->n) != 0)) {
        sqlite3_bind_blob(w->row_delete, 1, key->p, (int)key->n, SQLITE_STATIC);
        rc = sqlite3_step(w->row_delete);
        sqlite3_reset(w->row_delete);
        if (rc != SQLITE_DONE)
            return rc;
    }
    bool lost = w->leaf.lost || (w->leaf.damaged && !w->leaf.single);
    return sq_leaves_write(&w->leaves, m->list, m->n, m->bytes, m->append, lost);
}

/* Rows until the slice is full; *out_next is where the next one begins. */
static int put_slice(sq_inst *inst, sq_node **out_next)
{
    uint64_t until = inst->host->mono_ns() + SLICE_NS;
    merger m = {.inst = inst, .node = inst->writer.flush_at};
    size_t bytes = 0;
    int rc = SQLITE_OK;
    while (m.node && bytes < SLICE_BYTES && rc == SQLITE_OK) {
        rc = merge_leaf(&m, MERGE_BYTES);
        bytes += m.bytes;
        if (!inst->writer.draining && inst->host->mono_ns() >= until)
            break;
    }
    free(m.list);
    *out_next = m.node;
    return rc;
}

static void thaw(sq_inst *inst)
{
    sq_writer *w = &inst->writer;
    sq_table fresh;
    /* The nodes are freed outside the lock: there may be very many. */
    if (!sq_table_init(&fresh, w->version + 7)) {
        pthread_rwlock_wrlock(&inst->view_lock);
        sq_table_clear(&inst->frozen);
        inst->has_frozen = false;
        pthread_rwlock_unlock(&inst->view_lock);
        return;
    }
    pthread_rwlock_wrlock(&inst->view_lock);
    sq_table old = inst->frozen;
    inst->frozen = fresh;
    inst->has_frozen = false;
    pthread_rwlock_unlock(&inst->view_lock);
    sq_table_done(&old);
}

/* The frozen table is in the B-tree for good. */
static void flush_done(sq_inst *inst)
{
    sq_writer *w = &inst->writer;
    thaw(inst);
    /* A slot that finds no memory here is lost until the next start: it costs a page, nothing else. */
    for (size_t i = w->frozen_slots.n; i-- > 0;)
        if (!sq_slots_push(&w->free_slots, w->frozen_slots.p[i]))
            break;
    w->frozen_slots.n = 0;
    sq_metric(inst, inst->m_flushes, 1);
    if (!w->draining && !inst->active.count)
        malloc_trim(0); /* idle: what the load took goes back to the system */
}

tn_status sq_flush_slice(sq_inst *inst, tn_error *err)
{
    sq_writer *w = &inst->writer;
    sq_node *next = NULL;
    tn_status status = sq_writer_begin(inst, err);
    if (status != TN_OK)
        return status;
    int rc = put_slice(inst, &next);
    bool last = rc == SQLITE_OK && !next;
    if (rc != SQLITE_OK)
        status = sq_db_status(w->db, rc, "moving rows into the tables", err);
    if (status == TN_OK && last)
        status = sq_meta_put(w, "version", w->frozen_version, err);
    if (status == TN_OK && last)
        status = sq_meta_put(w, "applied", w->frozen_seq, err);
    if (status != TN_OK) {
        sq_writer_abort(inst);
        return status;
    }
    status = sq_writer_end(inst, err);
    if (status != TN_OK)
        return status;
    w->flush_at = next;
    if (last)
        flush_done(inst);
    return TN_OK;
}

/* ---- checkpoints -------------------------------------------------------------------------------- */

void sq_checkpoint_ask(sq_inst *inst)
{
    pthread_mutex_lock(&inst->checkpoint_lock);
    if (!inst->checkpoint_running && !inst->checkpoint_wanted) {
        inst->checkpoint_wanted = true;
        pthread_cond_signal(&inst->checkpoint_wake);
    }
    pthread_mutex_unlock(&inst->checkpoint_lock);
}

void *sq_checkpoint_main(void *arg)
{
    sq_inst *inst = arg;
    sqlite3 *db = NULL;
    pthread_mutex_lock(&inst->checkpoint_lock);
    for (;;) {
        while (!inst->checkpoint_wanted && !inst->checkpoint_stopping)
            pthread_cond_wait(&inst->checkpoint_wake, &inst->checkpoint_lock);
        if (inst->checkpoint_stopping)
            break;
        inst->checkpoint_wanted = false;
        inst->checkpoint_running = true;
        pthread_mutex_unlock(&inst->checkpoint_lock);
        int rc = SQLITE_CANTOPEN;
        if (db || sq_db_open(&inst->options, false, 64 * 1024, &db, NULL) == TN_OK)
            rc = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        pthread_mutex_lock(&inst->checkpoint_lock);
        inst->checkpoint_running = false;
        if (rc != SQLITE_OK)
            continue; /* the log grows until the next one; commits complain when space ends */
        pthread_mutex_lock(&inst->queue_lock);
        inst->checkpoint_ended = true;
        pthread_cond_signal(&inst->queue_wake);
        pthread_mutex_unlock(&inst->queue_lock);
    }
    pthread_mutex_unlock(&inst->checkpoint_lock);
    if (db)
        sqlite3_close(db);
    return NULL;
}
