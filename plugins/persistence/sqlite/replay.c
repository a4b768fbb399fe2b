/* SPDX-License-Identifier: MIT */
/* Opening and closing [main]: the writer's statements, and the groups that the journal holds beyond what
 * the B-tree has.  A damaged block, or a missing one between the first and the last group, stops the start: serving
 * without an acknowledged commit would be a wrong answer. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

typedef struct piece {
    sq_block block;
    int64_t slot;
    uint8_t *p; /* block.n bytes */
} piece;

typedef struct pieces {
    piece *p;
    size_t n, cap;
} pieces;

static bool pieces_push(pieces *all, const piece *one)
{
    if (all->n == all->cap) {
        size_t cap = all->cap ? all->cap * 2 : 256;
        piece *grown = realloc(all->p, cap * sizeof *grown);
        if (!grown)
            return false;
        all->p = grown;
        all->cap = cap;
    }
    all->p[all->n++] = *one;
    return true;
}

static void pieces_done(pieces *all)
{
    for (size_t i = 0; i < all->n; i++)
        free(all->p[i].p);
    free(all->p);
}

static int by_place(const void *a, const void *b)
{
    const sq_block *x = &((const piece *)a)->block, *y = &((const piece *)b)->block;
    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return x->part < y->part ? -1 : x->part > y->part;
}

static tn_status read_meta(sq_inst *inst, const char *name, uint64_t *out, tn_error *err)
{
    sqlite3_stmt *stmt = NULL;
    tn_status status =
        sq_db_prepare(inst->writer.db, "SELECT value FROM meta WHERE name=?", &stmt, err);
    if (status != TN_OK)
        return status;
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *out = (uint64_t)sqlite3_column_int64(stmt, 0);
    else if (rc == SQLITE_DONE)
        status = sq_error(err, TN_EDATALOSS, 0, "the database lacks its \"%s\" mark", name);
    else
        status = sq_db_status(inst->writer.db, rc, "opening", err);
    sqlite3_finalize(stmt);
    return status;
}

/* All blocks: obsolete ones become free slots, the others are copied. */
static tn_status read_blocks(sq_inst *inst, uint64_t applied, pieces *all, tn_error *err)
{
    sq_writer *w = &inst->writer;
    sqlite3_stmt *stmt = NULL;
    tn_status status = sq_db_prepare(w->db, "SELECT slot, data FROM journal", &stmt, err);
    if (status != TN_OK)
        return status;
    int rc;
    while (status == TN_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        piece one = {.slot = sqlite3_column_int64(stmt, 0)};
        const uint8_t *p = sqlite3_column_blob(stmt, 1);
        size_t size = (size_t)sqlite3_column_bytes(stmt, 1);
        bool memory = true;
        if (!p || size != w->block_bytes || !sq_block_read(p, size, &one.block)) {
            status = sq_error(err, TN_EDATALOSS, 0,
                              "row %lld of the journal is damaged\n  fix: restore "
                              "the database from a backup",
                              (long long)one.slot);
        } else if (one.block.seq <= applied) {
            memory = sq_slots_push(&w->free_slots, one.slot);
        } else {
            one.p = malloc(one.block.n + 1);
            memory = one.p && sq_slots_push(&w->active_slots, one.slot);
            if (one.p)
                memcpy(one.p, p + SQ_BLOCK_HEAD, one.block.n);
            if (memory)
                memory = pieces_push(all, &one);
        }
        if (!memory)
            status = sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
        w->slots = one.slot > w->slots ? one.slot : w->slots;
    }
    if (status == TN_OK && rc != SQLITE_DONE)
        status = sq_db_status(w->db, rc, "reading the journal", err);
    sqlite3_finalize(stmt);
    return status;
}

static bool replay_entry(void *user, const sq_entry *entry)
{
    sq_inst *inst = user;
    sq_node *node = sq_table_node(&inst->active, entry->key, entry->key_n, entry->version,
                                  entry->value, entry->value_n, entry->tombstone);
    if (!node)
        return false;
    inst->writer.active_journal_bytes += 15 + entry->key_n + entry->value_n;
    free(sq_table_insert(&inst->active, node));
    if (entry->version > inst->writer.version)
        inst->writer.version = entry->version;
    return true;
}

static tn_status replay_groups(sq_inst *inst, const pieces *all, tn_error *err)
{
    sq_writer *w = &inst->writer;
    tn_status status = TN_OK;
    sq_bytes group = {0};
    for (size_t i = 0; i < all->n && status == TN_OK;) {
        uint32_t parts = all->p[i].block.parts;
        bool whole = all->p[i].block.seq == w->seq + 1 && all->n - i >= parts;
        group.n = 0;
        for (uint32_t part = 0; whole && part < parts; part++, i++) {
            const piece *one = &all->p[i];
            whole = one->block.seq == w->seq + 1 && one->block.part == part &&
                    one->block.parts == parts;
            sq_bytes_put(&group, one->p, one->block.n);
        }
        if (!whole || group.failed ||
            !sq_journal_read(&w->zip, group.p, group.n, replay_entry, inst))
            status = sq_error(err, TN_EDATALOSS, 0,
                              "group %llu of the journal is damaged or missing\n"
                              "  fix: restore the database from a backup",
                              (unsigned long long)(w->seq + 1));
        w->seq++;
    }
    free(group.p);
    return status;
}

/* After a clean stop there is nothing to read: every row of the journal may be written over. */
static tn_status trust_clean(sq_inst *inst, tn_error *err)
{
    sq_writer *w = &inst->writer;
    sqlite3_stmt *stmt = NULL;
    tn_status status =
        sq_db_prepare(w->db, "SELECT coalesce(max(slot),0) FROM journal", &stmt, err);
    if (status != TN_OK)
        return status;
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        w->slots = sqlite3_column_int64(stmt, 0);
    else
        status = sq_db_status(w->db, rc, "opening", err);
    sqlite3_finalize(stmt);
    for (int64_t slot = w->slots; slot > 0 && status == TN_OK; slot--)
        if (!sq_slots_push(&w->free_slots, slot))
            status = sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    return status;
}

static tn_status replay(sq_inst *inst, tn_error *err)
{
    sq_writer *w = &inst->writer;
    uint64_t clean = 0;
    tn_status status = read_meta(inst, "version", &w->version, err);
    if (status == TN_OK)
        status = read_meta(inst, "applied", &w->seq, err);
    if (status == TN_OK)
        status = read_meta(inst, "clean", &clean, err);
    if (status != TN_OK)
        return status;
    w->clean = clean != 0;
    if (w->clean)
        return trust_clean(inst, err);
    pieces all = {0};
    status = read_blocks(inst, w->seq, &all, err);
    if (status == TN_OK && all.n) {
        qsort(all.p, all.n, sizeof *all.p, by_place);
        status = replay_groups(inst, &all, err);
    }
    pieces_done(&all);
    return status;
}

/* ---- the writer's connection -------------------------------------------------------------------- */

static int on_wal(void *user, sqlite3 *db, const char *name, int pages)
{
    sq_inst *inst = user;
    (void)db, (void)name;
    int64_t bytes = (int64_t)pages * inst->options.page_bytes, most = inst->options.wal_bytes;
    if (bytes < most) {
        inst->checkpoint_at_bytes = most;
    } else if (bytes >= inst->checkpoint_at_bytes) {
        sq_checkpoint_ask(inst);
        /* A reader can keep the log from starting over; don't try again with every commit. */
        inst->checkpoint_at_bytes = bytes + most / 4;
    }
    return SQLITE_OK;
}

static tn_status prepare_all(sq_writer *w, tn_error *err)
{
    const struct {
        sqlite3_stmt **out;
        const char *sql;
    } all[] = {
        {&w->begin, "BEGIN IMMEDIATE"},
        {&w->commit, "COMMIT"},
        {&w->rollback, "ROLLBACK"},
        {&w->journal_add, "INSERT INTO journal(slot,data) VALUES(?,?)"},
        {&w->journal_set, "UPDATE journal SET data=?2 WHERE slot=?1"},
        {&w->floor, SQ_FLOOR_SQL},
        {&w->after, "SELECT k FROM kv WHERE k>? ORDER BY k LIMIT 1"},
        {&w->row_put, "INSERT OR REPLACE INTO kv(k,ver,val) VALUES(?,?,?)"},
        {&w->row_delete, "DELETE FROM kv WHERE k=?"},
        {&w->range, SQ_RANGE_SQL},
        {&w->meta_put, "INSERT OR REPLACE INTO meta(name,value) VALUES(?,?)"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        tn_status status = sq_db_prepare(w->db, all[i].sql, all[i].out, err);
        if (status != TN_OK)
            return status;
    }
    w->leaves.put = w->row_put;
    return TN_OK;
}

/* A row of the journal fills its leaf page: SQLite keeps up to page - 35 bytes of a row there, four of
 * them describe the two columns. */
static tn_status size_blocks(sq_inst *inst, tn_error *err)
{
    sq_writer *w = &inst->writer;
    sqlite3_stmt *stmt = NULL;
    tn_status status = sq_db_prepare(w->db, "PRAGMA page_size", &stmt, err);
    if (status != TN_OK)
        return status;
    if (sqlite3_step(stmt) == SQLITE_ROW)
        inst->options.page_bytes = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    /* Of a row of a table without rowids SQLite keeps so much in the page, and eight bytes describe it. */
    size_t local_bytes = ((size_t)inst->options.page_bytes - 12) * 64 / 255 - 23 - 8;
    w->block_bytes = (size_t)inst->options.page_bytes - 40;
    w->block = malloc(w->block_bytes);
    w->leaves = (sq_leaf_writer){.zip = &w->zip,
                                 .cell_bytes = local_bytes,
                                 .page_bytes = (size_t)inst->options.page_bytes - 4,
                                 .ratio = 96,
                                 .ratio_large = 64};
    w->known = calloc(SQ_KNOWN_SLOTS, sizeof *w->known);
    return w->block && w->known ? TN_OK : sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
}

tn_status sq_writer_open(sq_inst *inst, tn_error *err)
{
    sq_writer *w = &inst->writer;
    tn_status status = sq_db_open(&inst->options, true, inst->options.cache_bytes / 2, &w->db, err);
    if (status == TN_OK)
        status = size_blocks(inst, err);
    if (status == TN_OK)
        status = prepare_all(w, err);
    if (status == TN_OK)
        status = replay(inst, err);
    if (status == TN_OK) {
        sqlite3_wal_hook(w->db, on_wal, inst);
        w->idle_at_ns = inst->host->mono_ns() + inst->options.idle_flush_ns;
    }
    return status;
}

void sq_writer_close(sq_inst *inst)
{
    sq_writer *w = &inst->writer;
    sqlite3_stmt *all[] = {w->begin,       w->commit, w->rollback, w->journal_add,
                           w->journal_set, w->floor,  w->after,    w->row_put,
                           w->row_delete,  w->range,  w->meta_put};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sqlite3_finalize(all[i]);
    if (w->db)
        sqlite3_close(w->db); /* the last connection copies the log into the file and removes it */
    free(w->free_slots.p);
    free(w->active_slots.p);
    free(w->frozen_slots.p);
    free(w->journal.p);
    free(w->packed.p);
    sq_zip_done(&w->zip);
    sq_leaf_done(&w->leaf);
    sq_leaf_writer_done(&w->leaves);
    free(w->block);
    free(w->known);
    w->db = NULL;
}
