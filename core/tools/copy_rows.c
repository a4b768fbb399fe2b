/* SPDX-License-Identifier: MIT */
/* A pass over one partition, and its sum. */
#include "tools/copy.h"

#include <stdlib.h>

#define PAGE_ROWS 1000u
#define PAGE_BYTES (2u << 20)
#define BATCH_ROWS 500u
#define BATCH_BYTES (2u << 20)

/* ---- rows of a table in order ---- */

typedef struct reader {
    tn_copy *c;
    tn_tool_db *db;
    tn_arena *arena;
    tn_range range;
    tn_buf next;
    tn_page page;
    size_t at;
    bool started, failed;
} reader;

static void reader_open(reader *r, tn_copy *c, tn_tool_db *db, uint32_t table, uint32_t partition,
                        uint32_t flags)
{
    *r = (reader){.c = c, .db = db, .arena = tn_arena_create(0)};
    r->range = (tn_range){.struct_size = sizeof r->range,
                          .flags = flags,
                          .limit = PAGE_ROWS,
                          .bytes_max = PAGE_BYTES};
    r->range.from.table = table;
    uint8_t *p = tn_xmalloc(4);
    tn_put_u32be(p, partition);
    r->range.from.partition = tn_blob_from(p, 4);
}

static void reader_close(reader *r)
{
    free((void *)(uintptr_t)r->range.from.partition.p);
    tn_buf_done(&r->next);
    tn_arena_destroy(r->arena);
}

static bool turn_page(reader *r)
{
    tn_error err = {0};
    if (r->started && !r->next.n)
        return false;
    r->started = true;
    tn_arena_reset(r->arena);
    r->range.page = tn_arena_blob(r->arena, tn_buf_blob(&r->next));
    r->at = 0;
    if (tn_tool_scan(r->db, r->arena, &r->range, &r->page, &err) != TN_OK) {
        r->failed = true;
        r->page.n_rows = 0;
        return tn_copy_fail(r->c, "rows could not be read", &err);
    }
    r->next.n = 0;
    tn_buf_put(&r->next, r->page.next.p, r->page.next.n);
    return true;
}

/* The row at hand; NULL: no more, or failed. */
static const tn_row *peek(reader *r)
{
    for (;;) {
        while (r->at >= r->page.n_rows)
            if (!turn_page(r))
                return NULL;
        const tn_row *row = &r->page.rows[r->at];
        if (!tn_copy_is_own(r->range.from.table, row->key.row))
            return row;
        r->at++;
    }
}

/* ---- writing in batches ---- */

typedef struct writer {
    tn_copy *c;
    uint32_t table, partition;
    tn_arena *arena;
    tn_store_batch batch;
    size_t rows, bytes;
} writer;

static void writer_reset(writer *w)
{
    tn_arena_reset(w->arena);
    tn_store_batch_init(&w->batch, w->arena);
    w->rows = w->bytes = 0;
}

static bool writer_flush(writer *w)
{
    tn_error err = {0};
    if (!w->rows)
        return true;
    tn_batch batch = tn_store_batch_finish(&w->batch);
    tn_copy_pace(w->c, w->rows);
    if (tn_tool_commit(&w->c->to, w->arena, &batch, NULL, &err) != TN_OK)
        return tn_copy_fail(w->c, "rows could not be written", &err);
    writer_reset(w);
    return true;
}

static bool writer_put(writer *w, tn_blob row, tn_blob value)
{
    tn_key key = tn_store_key(w->arena, w->table, w->partition, tn_arena_blob(w->arena, row));
    if (w->table == TN_TABLE_SHARD) {
        if (!tn_copy_shard_value(w->arena, value, &value))
            return tn_copy_fail(w->c, "a shard's record cannot be read", NULL);
    } else {
        value = tn_arena_blob(w->arena, value);
    }
    tn_store_batch_put(&w->batch, key, value);
    w->c->rows++;
    w->c->bytes += row.n + value.n;
    w->rows++;
    w->bytes += row.n + value.n;
    return w->rows < BATCH_ROWS && w->bytes < BATCH_BYTES ? true : writer_flush(w);
}

static bool writer_delete(writer *w, tn_blob row)
{
    tn_store_batch_delete(
        &w->batch, tn_store_key(w->arena, w->table, w->partition, tn_arena_blob(w->arena, row)));
    w->c->deleted++;
    return ++w->rows < BATCH_ROWS ? true : writer_flush(w);
}

bool tn_copy_put(tn_copy *c, tn_tool_db *db, uint32_t table, uint32_t partition, tn_blob row,
                 const tn_blob *value)
{
    tn_arena *arena = tn_arena_create(0);
    tn_store_batch batch;
    tn_error err = {0};
    tn_store_batch_init(&batch, arena);
    tn_key key = tn_store_key(arena, table, partition, row);
    if (value)
        tn_store_batch_put(&batch, key, *value);
    else
        tn_store_batch_delete(&batch, key);
    tn_batch ready = tn_store_batch_finish(&batch);
    tn_status status = tn_tool_commit(db, arena, &ready, NULL, &err);
    tn_arena_destroy(arena);
    return status == TN_OK || tn_copy_fail(c, "a row could not be written", &err);
}

/* ---- one table ---- */

typedef struct table_pass {
    tn_copy *c;
    tn_copy_part *part;
    reader from, to;
    writer out;
    uint64_t changed;
    uint8_t (*runs)[16]; /* whose records changed, each once: they come in order */
    size_t n_runs, cap_runs;
    uint8_t gone[16]; /* the last one that was noted */
    bool any_gone;
} table_pass;

static bool concerns_docs(const table_pass *t, tn_blob row)
{
    return t->c->with_docs && t->c->pass > 1 && t->c->cutover && t->out.table == TN_TABLE_RECORD &&
           row.n >= 16;
}

static void note_changed(table_pass *t, tn_blob row)
{
    if (!concerns_docs(t, row) || (t->n_runs && memcmp(t->runs[t->n_runs - 1], row.p, 16) == 0))
        return;
    if (t->n_runs == t->cap_runs) {
        t->cap_runs = t->cap_runs ? t->cap_runs * 2 : 64;
        t->runs = tn_xreallocarray(t->runs, t->cap_runs, sizeof t->runs[0]);
    }
    memcpy(t->runs[t->n_runs++], row.p, 16);
}

static bool note_gone(table_pass *t, tn_blob row)
{
    if (!concerns_docs(t, row) || (t->any_gone && memcmp(t->gone, row.p, 16) == 0))
        return true;
    memcpy(t->gone, row.p, 16);
    t->any_gone = true;
    return tn_copy_note_gone(t->c, t->out.partition, t->gone);
}

static bool take(table_pass *t, const tn_row *row)
{
    t->changed++;
    note_changed(t, row->key.row);
    if (!(t->from.range.flags & TN_RANGE_KEYS_ONLY))
        return writer_put(&t->out, row->key.row, row->value);
    tn_arena *arena = tn_arena_create(0);
    tn_key key = {
        .table = t->out.table, .partition = t->from.range.from.partition, .row = row->key.row};
    tn_row now;
    tn_error err = {0};
    tn_status status = tn_tool_get(&t->c->from, arena, &key, &now, &err);
    bool good = true;
    if (status == TN_OK)
        good = writer_put(&t->out, row->key.row, now.value);
    else if (status != TN_ENOTFOUND) /* gone since: the next pass sees to it */
        good = tn_copy_fail(t->c, "a row could not be read", &err);
    tn_arena_destroy(arena);
    return good;
}

static bool drop(table_pass *t, const tn_row *row)
{
    t->changed++;
    return note_gone(t, row->key.row) && writer_delete(&t->out, row->key.row);
}

static void see(table_pass *t, const tn_row *row)
{
    if (row->version > t->part->seen)
        t->part->seen = row->version;
}

static bool merge(table_pass *t, uint64_t mark)
{
    bool good = true;
    while (good) {
        const tn_row *a = peek(&t->from), *b = peek(&t->to);
        if (t->from.failed || t->to.failed || atomic_load(&t->c->failed))
            return false;
        if (!a && !b)
            return true;
        int order = !a ? 1 : !b ? -1 : tn_blob_cmp(a->key.row, b->key.row);
        if (a && order <= 0)
            see(t, a);
        if (order < 0 || (order == 0 && a->version > mark))
            good = take(t, a);
        else if (order > 0)
            good = drop(t, b);
        t->from.at += order <= 0;
        t->to.at += order >= 0;
    }
    return false;
}

static bool copy_table(tn_copy *c, uint32_t partition, uint32_t table, uint64_t mark,
                       uint64_t *changed)
{
    table_pass t = {.c = c, .part = &c->parts[partition]};
    t.out = (writer){.c = c, .table = table, .partition = partition, .arena = tn_arena_create(0)};
    writer_reset(&t.out);
    reader_open(&t.from, c, &c->from, table, partition,
                mark && !c->values ? TN_RANGE_KEYS_ONLY : 0);
    reader_open(&t.to, c, &c->to, table, partition, TN_RANGE_KEYS_ONLY);
    bool good =
        merge(&t, mark) && writer_flush(&t.out) &&
        (!t.n_runs || tn_copy_note_runs(c, partition, (const uint8_t(*)[16])t.runs, t.n_runs));
    free(t.runs);
    reader_close(&t.from);
    reader_close(&t.to);
    tn_arena_destroy(t.out.arena);
    *changed += t.changed;
    return good;
}

/* The greatest version there is before the first pass begins. */
static bool look_ahead(tn_copy *c, uint32_t partition)
{
    tn_copy_part *part = &c->parts[partition];
    bool good = true;
    for (uint32_t table = 1; good && table <= TN_COPY_TABLES; table++) {
        reader r;
        reader_open(&r, c, &c->from, table, partition, TN_RANGE_KEYS_ONLY);
        for (const tn_row *row; (row = peek(&r)); r.at++)
            if (row->version > part->seen)
                part->seen = row->version;
        good = !r.failed;
        reader_close(&r);
    }
    return good;
}

static bool save_mark(tn_copy *c, uint32_t partition)
{
    uint8_t row[sizeof(TN_COPY_MARK) - 1 + 4], value[16];
    memcpy(row, TN_COPY_MARK, sizeof(TN_COPY_MARK) - 1);
    tn_put_u32be(row + sizeof(TN_COPY_MARK) - 1, partition);
    tn_put_u64be(value, c->parts[partition].mark);
    tn_put_u64be(value + 8, c->parts[partition].seen);
    tn_blob blob = tn_blob_from(value, sizeof value);
    return tn_copy_put(c, &c->to, TN_TABLE_META, TN_PARTITION_CLUSTER,
                       tn_blob_from(row, sizeof row), &blob);
}

bool tn_copy_partition(tn_copy *c, uint32_t partition, uint64_t *out_changed)
{
    tn_copy_part *part = &c->parts[partition];
    if (!part->begun && c->cutover && !look_ahead(c, partition))
        return false;
    uint64_t mark = part->mark, before = part->seen;
    *out_changed = 0;
    for (uint32_t table = 1; table <= TN_COPY_TABLES; table++)
        if (!copy_table(c, partition, table, mark, out_changed))
            return false;
    /* Nobody wrote to a stopped source: all that was seen is there. */
    part->mark = c->cutover ? before : part->seen;
    part->begun = true;
    return save_mark(c, partition);
}

/* ---- sums ---- */

bool tn_copy_sum_of(tn_copy *c, tn_tool_db *db, uint32_t partition, tn_copy_sum *out)
{
    bool good = true;
    *out = (tn_copy_sum){0};
    for (uint32_t table = 1; good && table <= TN_COPY_TABLES; table++) {
        if (table == TN_TABLE_SHARD)
            continue; /* whose it is differs on purpose */
        reader r;
        reader_open(&r, c, db, table, partition, 0);
        for (const tn_row *row; (row = peek(&r)); r.at++) {
            tn_arena *arena = tn_arena_create(0);
            uint8_t *key = tn_arena_alloc(arena, 4 + row->key.row.n);
            tn_put_u32be(key, table);
            if (row->key.row.n)
                memcpy(key + 4, row->key.row.p, row->key.row.n);
            out->sum += tn_hash64_stable(tn_blob_from(key, 4 + row->key.row.n), row->value);
            out->rows++;
            tn_arena_destroy(arena);
        }
        good = !r.failed;
        reader_close(&r);
    }
    return good;
}
