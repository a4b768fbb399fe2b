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

static int put_row(sq_writer *w, const sq_node *node, sq_bytes *scratch)
{
    const uint8_t *key = sq_node_key(node);
    sqlite3_stmt *stmt = node->tombstone ? w->row_delete : w->row_put;
    sqlite3_bind_blob(stmt, 1, key, (int)node->key_n, SQLITE_STATIC);
    if (!node->tombstone) {
        uint32_t sum =
            sq_row_sum(key, node->key_n, node->version, sq_node_value(node), node->value_n);
        uint8_t head[4] = {(uint8_t)(sum >> 24), (uint8_t)(sum >> 16), (uint8_t)(sum >> 8),
                           (uint8_t)sum};
        scratch->n = 0;
        sq_bytes_put(scratch, head, sizeof head);
        sq_bytes_put(scratch, sq_node_value(node), node->value_n);
        if (scratch->failed)
            return SQLITE_NOMEM;
        sqlite3_bind_int64(stmt, 2, (sqlite3_int64)node->version);
        sqlite3_bind_blob64(stmt, 3, scratch->p, scratch->n, SQLITE_STATIC);
    }
    int rc = sqlite3_step(stmt);
    sqlite3_reset(stmt);
    sq_known_forget(w, key, node->key_n);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Rows until the slice is full; *out_next is where the next one begins. */
static int put_slice(sq_inst *inst, sq_node **out_next)
{
    sq_writer *w = &inst->writer;
    sq_bytes scratch = {0};
    uint64_t until = inst->host->mono_ns() + SLICE_NS;
    size_t bytes = 0, rows = 0;
    int rc = SQLITE_OK;
    sq_node *node = w->flush_at;
    for (; node && bytes < SLICE_BYTES && rc == SQLITE_OK; node = node->next[0]) {
        rc = put_row(w, node, &scratch);
        bytes += node->key_n + node->value_n;
        if (++rows % 16 == 0 && !w->draining && inst->host->mono_ns() >= until) {
            node = node->next[0];
            break;
        }
    }
    free(scratch.p);
    *out_next = node;
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
