/* SPDX-License-Identifier: MIT */
/* Reads over the merged view: the active table, the frozen one, the B-tree; the first that knows a key is
 * right.  What memory knows is answered at once on the loop; whatever may wait for the disk goes to a
 * reader thread with a connection of its own.
 *
 * A scan takes one consistent picture: with the view locked it copies the rows that memory has for this
 * page and pins the B-tree's snapshot; then it merges without a lock. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_MARK 1u /* first byte of a page token; the last row follows */

static tn_status out_of_arena(tn_error *err)
{
    return sq_error(err, TN_ETOOLARGE, 0, "the result does not fit the operation's memory");
}

static bool copy_blob(const tn_host *host, tn_op *op, const uint8_t *p, size_t n, tn_blob *out)
{
    uint8_t *copy = host->op_alloc(op, n ? n : 1, 1);
    if (!copy)
        return false;
    if (n)
        memcpy(copy, p, n);
    *out = (tn_blob){copy, n};
    return true;
}

/* ---- get ---------------------------------------------------------------------------------------- */

static tn_status give_row(const sq_inst *inst, tn_op *op, const tn_key *key, uint64_t version,
                          const uint8_t *p, size_t n, tn_row *out, tn_error *err)
{
    tn_row row = {.key = {.table = key->table}, .version = version};
    if (!copy_blob(inst->host, op, key->partition.p, key->partition.n, &row.key.partition) ||
        !copy_blob(inst->host, op, key->row.p, key->row.n, &row.key.row) ||
        !copy_blob(inst->host, op, p, n, &row.value))
        return out_of_arena(err);
    *out = row;
    return TN_OK;
}

/* TN_PENDING: memory does not know the key. */
static tn_status get_from_memory(sq_inst *inst, tn_op *op, const tn_key *key, const sq_key *packed,
                                 tn_row *out, tn_error *err)
{
    tn_status status = inst->options.memory ? TN_ENOTFOUND : TN_PENDING;
    pthread_rwlock_rdlock(&inst->view_lock);
    const sq_node *node = sq_table_find(&inst->active, packed->b, packed->n);
    if (!node && inst->has_frozen)
        node = sq_table_find(&inst->frozen, packed->b, packed->n);
    if (node && node->tombstone)
        status = TN_ENOTFOUND;
    else if (node)
        status =
            give_row(inst, op, key, node->version, sq_node_value(node), node->value_n, out, err);
    pthread_rwlock_unlock(&inst->view_lock);
    return status;
}

static bool enqueue(sq_inst *inst, const sq_read *what)
{
    sq_read *read = inst->host->op_alloc(what->op, sizeof *read, _Alignof(sq_read));
    if (!read)
        return false;
    *read = *what;
    read->next = NULL;
    pthread_mutex_lock(&inst->read_lock);
    if (inst->read_head)
        inst->read_tail->next = read;
    else
        inst->read_head = read;
    inst->read_tail = read;
    pthread_cond_signal(&inst->read_wake);
    pthread_mutex_unlock(&inst->read_lock);
    return true;
}

static tn_status explained(sq_inst *inst, tn_op *op, tn_status status, const tn_error *err)
{
    if (status < 0 && err->code)
        inst->host->op_explain(op, err);
    return status;
}

tn_status sq_get(void *ctx, tn_op *op, const tn_key *key, tn_row *out)
{
    sq_inst *inst = ctx;
    tn_error err = {0};
    sq_key packed;
    if (!sq_key_make(&packed, key))
        return explained(inst, op, sq_error(&err, TN_EINVALID, 0, "key out of limits"), &err);
    tn_status status = get_from_memory(inst, op, key, &packed, out, &err);
    if (status == TN_PENDING && !enqueue(inst, &(sq_read){.op = op, .key = key, .row = out}))
        status = out_of_arena(&err);
    return explained(inst, op, status, &err);
}

typedef struct reader { /* [its thread] */
    sqlite3 *db;
    sqlite3_stmt *floor, *begin, *pin, *end, *up, *down;
    sq_zipper zip;
    sq_leaf leaf;
} reader;

static tn_status get_from_file(sq_inst *inst, reader *r, const sq_read *read, tn_error *err)
{
    sq_key packed;
    sq_key_make(&packed, read->key);
    /* Looked at again: it may have come while the request waited.  Missing here and then in the file
     * is an answer that was true at this moment. */
    tn_status status = get_from_memory(inst, read->op, read->key, &packed, read->row, err);
    if (status != TN_PENDING)
        return status;
    const sq_entry *row = NULL;
    status = sq_file_find(r->db, r->floor, &r->zip, &r->leaf, &packed, &row, err);
    if (status == TN_OK)
        status = give_row(inst, read->op, read->key, row->version, row->value, row->value_n,
                          read->row, err);
    sqlite3_reset(r->floor);
    return status;
}

/* ---- scan --------------------------------------------------------------------------------------- */

typedef struct item { /* a row that memory knows */
    tn_blob key;      /* packed; in the op's arena */
    tn_blob value;
    uint64_t version; /* 0: deleted */
} item;

typedef struct scan {
    sq_inst *inst;
    const sq_read *read;
    bool reverse, keys_only;
    bool cut; /* memory has more rows than were copied: the page ends with the last of them */
    sq_key from, to; /* from <= key < to */
    size_t prefix_n;
    item *items;
    size_t n_items, cap_items, at;
    tn_row *rows;
    size_t n_rows, cap_rows, bytes;
    tn_blob partition;
} scan;

static tn_status scan_bounds(scan *s, tn_error *err)
{
    const tn_range *range = s->read->range;
    tn_key to = {
        .table = range->from.table, .partition = range->from.partition, .row = range->to_row};
    if (!sq_key_make(&s->from, &range->from) || range->limit < 1 || range->limit > 10000 ||
        (range->flags & ~(TN_RANGE_REVERSE | TN_RANGE_KEYS_ONLY)))
        return sq_error(err, TN_EINVALID, 0, "range out of limits");
    if (!range->to_row.p)
        sq_key_partition_end(&s->to, &range->from);
    else if (!sq_key_make(&s->to, &to))
        return sq_error(err, TN_EINVALID, 0, "range out of limits");
    s->reverse = range->flags & TN_RANGE_REVERSE;
    s->keys_only = range->flags & TN_RANGE_KEYS_ONLY;
    s->prefix_n = sq_key_prefix(s->from.b);
    if (range->page.n == 0)
        return TN_OK;
    sq_key last;
    tn_key token = {.table = range->from.table,
                    .partition = range->from.partition,
                    .row = {range->page.p + 1, range->page.n - 1}};
    if (range->page.p[0] != TOKEN_MARK || !sq_key_make(&last, &token) ||
        sq_bytes_cmp(last.b, last.n, s->from.b, s->from.n) < 0 ||
        sq_bytes_cmp(last.b, last.n, s->to.b, s->to.n) >= 0)
        return sq_error(err, TN_EINVALID, 0, "the page token is not from this range");
    if (s->reverse) {
        s->to = last;
    } else {
        s->from = last;
        s->from.b[s->from.n++] = 0; /* the smallest key above it */
    }
    return TN_OK;
}

static bool keep_item(scan *s, const sq_node *node)
{
    if (s->n_items == s->cap_items) {
        size_t cap = s->cap_items ? s->cap_items * 2 : 64;
        item *grown = realloc(s->items, cap * sizeof *grown);
        if (!grown)
            return false;
        s->items = grown;
        s->cap_items = cap;
    }
    item *one = &s->items[s->n_items];
    *one = (item){.version = node->tombstone ? 0 : node->version};
    const tn_host *host = s->inst->host;
    if (!copy_blob(host, s->read->op, sq_node_key(node), node->key_n, &one->key))
        return false;
    if (!node->tombstone && !s->keys_only &&
        !copy_blob(host, s->read->op, sq_node_value(node), node->value_n, &one->value))
        return false;
    s->n_items++;
    return true;
}

static const sq_node *first_node(const scan *s, const sq_table *table)
{
    if (table->count == 0)
        return NULL;
    return s->reverse ? sq_table_seek_before(table, s->to.b, s->to.n)
                      : sq_table_seek(table, s->from.b, s->from.n);
}

static const sq_node *next_node(const scan *s, const sq_table *table, const sq_node *node)
{
    node = s->reverse ? sq_node_prev(table, node) : node->next[0];
    return node;
}

static bool in_range(const scan *s, const sq_node *n)
{
    return s->reverse ? sq_bytes_cmp(sq_node_key(n), n->key_n, s->from.b, s->from.n) >= 0
                      : sq_bytes_cmp(sq_node_key(n), n->key_n, s->to.b, s->to.n) < 0;
}

/* <0: a comes first in the order of the scan. */
static int scan_order(const scan *s, const uint8_t *a, size_t an, const uint8_t *b, size_t bn)
{
    int c = sq_bytes_cmp(a, an, b, bn);
    return s->reverse ? -c : c;
}

/* Copies what memory has for this page, one living row more than can be needed. */
static bool collect(scan *s)
{
    const sq_table *active = &s->inst->active, *frozen = &s->inst->frozen;
    const tn_range *range = s->read->range;
    const sq_node *a = first_node(s, active);
    const sq_node *f = s->inst->has_frozen ? first_node(s, frozen) : NULL;
    size_t living = 0, bytes = 0, last = 0;
    for (;;) {
        if (a && !in_range(s, a))
            a = NULL;
        if (f && !in_range(s, f))
            f = NULL;
        bool full = living > range->limit || (range->bytes_max && bytes >= range->bytes_max);
        if ((!a && !f) || full) {
            s->cut = a || f;
            return true;
        }
        int c = !a   ? 1
                : !f ? -1
                     : scan_order(s, sq_node_key(a), a->key_n, sq_node_key(f), f->key_n);
        const sq_node *node = c <= 0 ? a : f;
        if (!keep_item(s, node))
            return false;
        if (!node->tombstone) {
            living++;
            bytes += last; /* one behind: the row that fills the page is followed by one more */
            last = s->keys_only ? 0 : node->value_n;
        }
        if (c >= 0)
            f = next_node(s, frozen, f);
        if (c <= 0)
            a = next_node(s, active, a);
    }
}

static bool page_full(const scan *s)
{
    const tn_range *range = s->read->range;
    return s->n_rows >= range->limit ||
           (range->bytes_max && s->n_rows && s->bytes >= range->bytes_max);
}

static bool emit(scan *s, tn_blob row, tn_blob value, uint64_t version)
{
    if (s->n_rows == s->cap_rows) {
        size_t cap = s->cap_rows ? s->cap_rows * 2 : 32;
        tn_row *grown = realloc(s->rows, cap * sizeof *grown);
        if (!grown)
            return false;
        s->rows = grown;
        s->cap_rows = cap;
    }
    s->rows[s->n_rows++] = (tn_row){
        .key = {.table = s->read->range->from.table, .partition = s->partition, .row = row},
        .value = value,
        .version = version};
    s->bytes += value.n;
    return true;
}

static tn_status emit_from_file(scan *s, const sq_entry *from, tn_error *err)
{
    tn_blob row, value = {0};
    const tn_host *host = s->inst->host;
    tn_op *op = s->read->op;
    if (!copy_blob(host, op, from->key + s->prefix_n, from->key_n - s->prefix_n, &row) ||
        (!s->keys_only && !copy_blob(host, op, from->value, from->value_n, &value)) ||
        !emit(s, row, value, from->version))
        return out_of_arena(err);
    return TN_OK;
}

static tn_status emit_item(scan *s, const item *one, tn_error *err)
{
    if (!one->version)
        return TN_OK;
    tn_blob row = {one->key.p + s->prefix_n, one->key.n - s->prefix_n};
    return emit(s, row, one->value, one->version) ? TN_OK : out_of_arena(err);
}

/* Merges until the page is full; *out_more: something living is left. */
static tn_status merge(scan *s, sq_cursor *file, bool *out_more, tn_error *err)
{
    const sq_entry *row;
    *out_more = false;
    tn_status status = sq_cursor_next(file, &row, err);
    while (status == TN_OK) {
        const item *mem = s->at < s->n_items ? &s->items[s->at] : NULL;
        if (!mem && (!row || s->cut)) {
            *out_more = s->cut && s->n_rows > 0;
            return TN_OK;
        }
        int c = !mem ? 1 : !row ? -1 : scan_order(s, mem->key.p, mem->key.n, row->key, row->key_n);
        bool living = c > 0 || mem->version != 0;
        if (living && page_full(s)) {
            *out_more = true;
            return TN_OK;
        }
        status = c > 0 ? emit_from_file(s, row, err) : emit_item(s, mem, err);
        if (c <= 0)
            s->at++;
        if (c >= 0 && status == TN_OK)
            status = sq_cursor_next(file, &row, err);
    }
    return status;
}

static tn_status give_page(scan *s, bool more, tn_error *err)
{
    const tn_host *host = s->inst->host;
    tn_row *rows = host->op_alloc(s->read->op, (s->n_rows + 1) * sizeof *rows, _Alignof(tn_row));
    if (!rows)
        return out_of_arena(err);
    if (s->n_rows)
        memcpy(rows, s->rows, s->n_rows * sizeof *rows);
    tn_page *page = s->read->page;
    page->next = (tn_blob){0};
    if (more) {
        tn_blob last = s->rows[s->n_rows - 1].key.row;
        uint8_t *token = host->op_alloc(s->read->op, last.n + 1, 1);
        if (!token)
            return out_of_arena(err);
        token[0] = TOKEN_MARK;
        if (last.n)
            memcpy(token + 1, last.p, last.n);
        page->next = (tn_blob){token, last.n + 1};
    }
    page->rows = rows;
    page->n_rows = s->n_rows;
    return TN_OK;
}

/* r NULL: there is no file. */
static tn_status run_scan(sq_inst *inst, reader *r, const sq_read *read, tn_error *err)
{
    scan s = {.inst = inst, .read = read};
    tn_status status = scan_bounds(&s, err);
    if (status != TN_OK)
        return status;
    const tn_blob *partition = &read->range->from.partition;
    if (!copy_blob(inst->host, read->op, partition->p, partition->n, &s.partition))
        return out_of_arena(err);
    sq_leaf no_leaf = {0};
    sq_cursor file = {
        .leaf = r ? &r->leaf : &no_leaf, .reverse = s.reverse, .keys_only = s.keys_only};
    int pinned = SQLITE_ROW;
    pthread_rwlock_rdlock(&inst->view_lock);
    bool collected = collect(&s);
    if (r && collected) {
        sqlite3_step(r->begin);
        sqlite3_reset(r->begin);
        pinned = sqlite3_step(r->pin);
        sqlite3_reset(r->pin);
    }
    pthread_rwlock_unlock(&inst->view_lock);
    if (!collected) {
        status = out_of_arena(err);
    } else if (pinned != SQLITE_ROW) {
        status = sq_db_status(r->db, pinned, "reading a range", err);
    } else {
        if (r) {
            file.db = r->db;
            file.stmt = s.reverse ? r->down : r->up;
            file.zip = &r->zip;
        }
        sq_cursor_open(&file, &s.from, &s.to);
        bool more = false;
        status = merge(&s, &file, &more, err);
        if (status == TN_OK)
            status = give_page(&s, more, err);
    }
    if (r) {
        if (file.stmt)
            sqlite3_reset(file.stmt);
        sqlite3_step(r->end);
        sqlite3_reset(r->end);
    }
    free(s.items);
    free(s.rows);
    return status;
}

tn_status sq_scan(void *ctx, tn_op *op, const tn_range *range, tn_page *out)
{
    sq_inst *inst = ctx;
    tn_error err = {0};
    sq_read read = {.op = op, .range = range, .page = out};
    tn_status status = TN_PENDING;
    if (inst->options.memory)
        status = run_scan(inst, NULL, &read, &err);
    else if (!enqueue(inst, &read))
        status = out_of_arena(&err);
    return explained(inst, op, status, &err);
}

tn_status sq_ping(void *ctx, tn_op *op)
{
    sq_inst *inst = ctx;
    tn_error err = {0};
    if (inst->options.memory)
        return TN_OK;
    tn_status status = enqueue(inst, &(sq_read){.op = op}) ? TN_PENDING : out_of_arena(&err);
    return explained(inst, op, status, &err);
}

/* ---- threads ------------------------------------------------------------------------------------ */

static void reader_close(reader *r)
{
    sqlite3_stmt *all[] = {r->floor, r->begin, r->pin, r->end, r->up, r->down};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sqlite3_finalize(all[i]);
    if (r->db)
        sqlite3_close(r->db);
    sq_zip_done(&r->zip);
    sq_leaf_done(&r->leaf);
    *r = (reader){0};
}

static tn_status reader_open(sq_inst *inst, reader *r, tn_error *err)
{
    if (r->db)
        return TN_OK;
    int64_t cache = inst->options.cache_bytes / 2 / (int64_t)inst->options.readers;
    tn_status status = sq_db_open(&inst->options, false, cache, &r->db, err);
    const struct {
        sqlite3_stmt **out;
        const char *sql;
    } all[] = {
        {&r->floor, SQ_FLOOR_SQL},
        {&r->begin, "BEGIN"},
        {&r->pin, "SELECT value FROM meta WHERE name='applied'"},
        {&r->end, "COMMIT"},
        {&r->up, SQ_RANGE_SQL},
        {&r->down, SQ_RANGE_SQL " DESC"},
    };
    for (size_t i = 0; status == TN_OK && i < sizeof all / sizeof all[0]; i++)
        status = sq_db_prepare(r->db, all[i].sql, all[i].out, err);
    if (status != TN_OK)
        reader_close(r);
    return status;
}

static tn_status ping_file(reader *r, tn_error *err)
{
    int rc = sqlite3_step(r->pin);
    tn_status status = rc == SQLITE_ROW ? TN_OK : sq_db_status(r->db, rc, "ping", err);
    sqlite3_reset(r->pin);
    return status;
}

static void serve(sq_inst *inst, reader *r, const sq_read *read)
{
    tn_error err = {0};
    tn_op *op = read->op;
    tn_status status;
    if (inst->host->op_deadline_ns(op) <= inst->host->mono_ns())
        status = sq_error(&err, TN_EUNAVAILABLE, 0, "the deadline passed before the read began");
    else
        status = reader_open(inst, r, &err);
    if (status == TN_OK)
        status = read->key     ? get_from_file(inst, r, read, &err)
                 : read->range ? run_scan(inst, r, read, &err)
                               : ping_file(r, &err);
    inst->host->op_finish(op, status, status < 0 && err.code ? &err : NULL);
}

void *sq_reader_main(void *arg)
{
    sq_inst *inst = arg;
    reader r = {0};
    pthread_mutex_lock(&inst->read_lock);
    for (;;) {
        while (!inst->read_head && !inst->read_stopping)
            pthread_cond_wait(&inst->read_wake, &inst->read_lock);
        sq_read *read = inst->read_head;
        if (!read)
            break;
        inst->read_head = read->next;
        pthread_mutex_unlock(&inst->read_lock);
        serve(inst, &r, read);
        pthread_mutex_lock(&inst->read_lock);
    }
    pthread_mutex_unlock(&inst->read_lock);
    reader_close(&r);
    return NULL;
}
