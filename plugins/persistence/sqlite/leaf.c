/* SPDX-License-Identifier: MIT */
/* Rows as the B-tree holds them.  A row of the table kv is one row of ours, or a leaf: some that follow each
 * other, compressed together, under the key of the first.  ver tells them apart, a leaf's is 0.  What kv has
 * between two of its keys belongs to the first of them: the row of a key is in the leaf of the greatest key of
 * kv that is not above it, or nowhere.
 *
 *   val of a leaf: checksum (u32) over key and rest, form (u8: 1, or 3 where rows were lost), entries as in journal.c
 *
 * A leaf of form 3 was written where a damaged one stood: what it holds is right, what it lacks may have been
 * lost.  So it answers DATA_LOSS for every key in its reach that it has not. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

#define FORM 1u
#define FORM_LOST 3u
#define SCRATCH_KEPT ((size_t)1 << 20)

void sq_leaf_done(sq_leaf *leaf)
{
    free(leaf->key.p);
    free(leaf->raw.p);
    free(leaf->rows);
    *leaf = (sq_leaf){0};
}

static bool keep(sq_bytes *to, const void *p, size_t n)
{
    if (to->cap > SCRATCH_KEPT && n < SCRATCH_KEPT) {
        free(to->p);
        *to = (sq_bytes){0};
    }
    to->n = 0;
    to->failed = false;
    sq_bytes_put(to, p, n);
    return !to->failed;
}

static bool add_row(sq_leaf *leaf, const sq_entry *row)
{
    if (leaf->n == leaf->cap) {
        size_t cap = leaf->cap ? leaf->cap * 2 : 32;
        sq_entry *grown = realloc(leaf->rows, cap * sizeof *grown);
        if (!grown)
            return false;
        leaf->rows = grown;
        leaf->cap = cap;
    }
    leaf->rows[leaf->n++] = *row;
    return true;
}

/* Rows in rising order, from the leaf's key on; *sound turns false where they are not. */
static bool read_rows(sq_leaf *leaf, tn_blob entries, bool *sound)
{
    sq_entry row, last = {.key = leaf->key.p, .key_n = leaf->key.n};
    while (sq_entries_next(&entries, &row)) {
        int c = sq_bytes_cmp(row.key, row.key_n, last.key, last.key_n);
        if (row.tombstone || row.version == 0 || (leaf->n == 0 ? c != 0 : c <= 0)) {
            *sound = false;
            return true;
        }
        if (!add_row(leaf, &row))
            return false;
        last = row;
    }
    *sound = entries.n == 0 && leaf->n > 0;
    return true;
}

static bool read_leaf(sq_leaf *leaf, sq_zipper *zip, const uint8_t *p, size_t n)
{
    tn_blob entries;
    bool sound = false;
    if (n < 6 || (p[4] != FORM && p[4] != FORM_LOST) ||
        sq_get_u32(p) != sq_row_sum(leaf->key.p, leaf->key.n, 0, p + 4, n - 4)) {
        leaf->damaged = true;
        return true;
    }
    leaf->lost = p[4] == FORM_LOST;
    leaf->raw.n = 0;
    leaf->raw.failed = false;
    if (!sq_entries_open(zip, p + 5, n - 5, &leaf->raw, &entries)) {
        leaf->damaged = true;
        return !leaf->raw.failed;
    }
    if (entries.p != leaf->raw.p) { /* not compressed: it lies in the statement's memory */
        if (!keep(&leaf->raw, entries.p, entries.n))
            return false;
        entries.p = leaf->raw.p;
    }
    if (!read_rows(leaf, entries, &sound))
        return false;
    if (!sound) {
        leaf->damaged = true;
        leaf->n = 0;
    }
    return true;
}

bool sq_leaf_begin(sq_leaf *leaf, sqlite3_stmt *stmt)
{
    leaf->n = 0;
    leaf->damaged = leaf->lost = false;
    leaf->version = (uint64_t)sqlite3_column_int64(stmt, 1);
    leaf->single = leaf->version != 0;
    const void *key = sqlite3_column_blob(stmt, 0);
    return keep(&leaf->key, key, (size_t)sqlite3_column_bytes(stmt, 0));
}

bool sq_leaf_read(sq_leaf *leaf, sq_zipper *zip, sqlite3_stmt *stmt)
{
    const uint8_t *p = sqlite3_column_blob(stmt, 2);
    size_t n = (size_t)sqlite3_column_bytes(stmt, 2);
    if (!p || sqlite3_column_type(stmt, 2) != SQLITE_BLOB || leaf->key.n < 3 ||
        leaf->key.n > SQ_KEY_MAX) {
        leaf->damaged = true;
        return true;
    }
    if (!leaf->single)
        return read_leaf(leaf, zip, p, n);
    if (n < 4 ||
        sq_get_u32(p) != sq_row_sum(leaf->key.p, leaf->key.n, leaf->version, p + 4, n - 4)) {
        leaf->damaged = true;
        return true;
    }
    if (!keep(&leaf->raw, p + 4, n - 4))
        return false;
    return add_row(leaf, &(sq_entry){.version = leaf->version,
                                     .key = leaf->key.p,
                                     .key_n = leaf->key.n,
                                     .value = leaf->raw.p,
                                     .value_n = n - 4});
}

size_t sq_leaf_seek(const sq_leaf *leaf, const uint8_t *key, size_t key_n)
{
    size_t low = 0, high = leaf->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const sq_entry *row = &leaf->rows[middle];
        if (sq_bytes_cmp(row->key, row->key_n, key, key_n) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- looking for one row ------------------------------------------------------------------------ */

static tn_status damaged(tn_error *err)
{
    return sq_error(err, TN_EDATALOSS, 0, "a stored row is damaged (checksum)");
}

tn_status sq_file_find(sqlite3 *db, sqlite3_stmt *floor, sq_zipper *zip, sq_leaf *leaf,
                       const sq_key *key, const sq_entry **out, tn_error *err)
{
    sqlite3_bind_blob(floor, 1, key->b, key->n, SQLITE_STATIC);
    int rc = sqlite3_step(floor);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? TN_ENOTFOUND : sq_db_status(db, rc, "reading a row", err);
    if (!sq_leaf_begin(leaf, floor))
        return sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    if (leaf->single && sq_bytes_cmp(leaf->key.p, leaf->key.n, key->b, key->n) != 0)
        return TN_ENOTFOUND;
    if (!sq_leaf_read(leaf, zip, floor))
        return sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    if (leaf->damaged)
        return damaged(err);
    size_t at = sq_leaf_seek(leaf, key->b, key->n);
    if (at == leaf->n ||
        sq_bytes_cmp(leaf->rows[at].key, leaf->rows[at].key_n, key->b, key->n) != 0)
        return leaf->lost ? damaged(err) : TN_ENOTFOUND;
    *out = &leaf->rows[at];
    return TN_OK;
}

/* ---- a range ------------------------------------------------------------------------------------ */

void sq_cursor_open(sq_cursor *c, const sq_key *from, const sq_key *to)
{
    c->from = from;
    c->to = to;
    c->left = 0;
    c->leaf->n = 0;
    if (!c->stmt) /* there is no file */
        return;
    sqlite3_bind_blob(c->stmt, 1, from->b, from->n, SQLITE_STATIC);
    sqlite3_bind_blob(c->stmt, 2, to->b, to->n, SQLITE_STATIC);
}

/* The next row of kv that may hold something of the range: sets left and at. */
static tn_status next_leaf(sq_cursor *c, bool *out_end, tn_error *err)
{
    sq_leaf *leaf = c->leaf;
    int rc = c->stmt ? sqlite3_step(c->stmt) : SQLITE_DONE;
    *out_end = rc == SQLITE_DONE;
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? TN_OK : sq_db_status(c->db, rc, "reading a range", err);
    if (!sq_leaf_begin(leaf, c->stmt))
        return sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    if (leaf->single && sq_bytes_cmp(leaf->key.p, leaf->key.n, c->from->b, c->from->n) < 0)
        return TN_OK;
    if (leaf->single && c->keys_only) {
        c->bare = (sq_entry){.version = leaf->version, .key = leaf->key.p, .key_n = leaf->key.n};
        c->left = 1;
        return TN_OK;
    }
    if (!sq_leaf_read(leaf, c->zip, c->stmt))
        return sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    if (leaf->damaged || leaf->lost)
        return damaged(err);
    c->bare = (sq_entry){0};
    size_t first = sq_leaf_seek(leaf, c->from->b, c->from->n);
    size_t end = sq_leaf_seek(leaf, c->to->b, c->to->n);
    c->left = end > first ? end - first : 0; /* the range may be upside down */
    c->at = c->reverse ? end : first;
    return TN_OK;
}

tn_status sq_cursor_next(sq_cursor *c, const sq_entry **out, tn_error *err)
{
    *out = NULL;
    for (bool end = false; !c->left;) {
        tn_status status = next_leaf(c, &end, err);
        if (status != TN_OK || end)
            return status;
    }
    c->left--;
    if (c->bare.key)
        *out = &c->bare;
    else
        *out = &c->leaf->rows[c->reverse ? --c->at : c->at++];
    return TN_OK;
}

/* ---- writing ------------------------------------------------------------------------------------ */

static bool encode(sq_leaf_writer *lw, const sq_entry *rows, size_t n, bool lost)
{
    lw->plain.n = lw->out.n = 0;
    lw->plain.failed = lw->out.failed = false;
    for (size_t i = 0; i < n; i++)
        sq_journal_put(&lw->plain, rows[i].version, rows[i].key, rows[i].key_n, rows[i].value,
                       rows[i].value_n);
    const sq_bytes *packed = sq_journal_pack(lw->zip, &lw->plain, &lw->packed);
    uint8_t head[5] = {0, 0, 0, 0, lost ? FORM_LOST : FORM};
    sq_bytes_put(&lw->out, head, sizeof head);
    sq_bytes_put(&lw->out, packed->p, packed->n);
    if (lw->plain.failed || lw->out.failed)
        return false;
    sq_set_u32(lw->out.p, sq_row_sum(rows->key, rows->key_n, 0, lw->out.p + 4, lw->out.n - 4));
    return true;
}

static bool encode_single(sq_leaf_writer *lw, const sq_entry *row)
{
    uint8_t head[4];
    sq_set_u32(head, sq_row_sum(row->key, row->key_n, row->version, row->value, row->value_n));
    lw->out.n = 0;
    lw->out.failed = false;
    sq_bytes_put(&lw->out, head, sizeof head);
    sq_bytes_put(&lw->out, row->value, row->value_n);
    return !lw->out.failed;
}

static size_t rows_up_to(const sq_entry *rows, size_t n, size_t bytes)
{
    size_t i = 0, sum = 0;
    while (i < n && (i == 0 || sum + sq_entry_bytes(&rows[i]) <= bytes))
        sum += sq_entry_bytes(&rows[i++]);
    return i;
}

static bool try_size(sq_leaf_writer *lw, const sq_entry *rows, size_t n, bool lost, size_t *ratio)
{
    if (!encode(lw, rows, n, lost))
        return false;
    *ratio = (*ratio * 7 + lw->out.n * 256 / (lw->plain.n + 1) + 7) / 8; /* never 0 */
    return true;
}

/* How many of the rows fill one leaf; what is to be stored is in lw->out then.  0: no memory. */
static size_t cut(sq_leaf_writer *lw, const sq_entry *rows, size_t n, size_t raw_bytes, bool lost,
                  uint64_t *out_version)
{
    size_t take = rows_up_to(rows, n, raw_bytes);
    size_t room = lw->cell_bytes > rows->key_n ? lw->cell_bytes - rows->key_n : 1;
    *out_version = 0;
    for (;;) {
        if (!try_size(lw, rows, take, lost, &lw->ratio))
            return 0;
        if (take == 1 || lw->out.n <= room)
            break;
        size_t fewer = take * room / lw->out.n;
        take = fewer < 1 ? 1 : fewer < take ? fewer : take - 1;
    }
    if (take > 1 || lost || lw->out.n < rows->value_n / 4 * 3)
        return take;
    *out_version = rows->version; /* alone, and compression gains little */
    return encode_single(lw, rows) ? 1 : 0;
}

/* The same for a leaf that fills a page of its own beside its place in the tree: several times the rows
 * compress to half.  0: there are not enough of them, or no memory, or it does not come out even. */
static size_t cut_large(sq_leaf_writer *lw, const sq_entry *rows, size_t n, bool lost)
{
    size_t most = lw->page_bytes + lw->cell_bytes - rows->key_n, least = most / 4 * 3;
    size_t take = n;
    for (int tries = 0; tries < 3; tries++) {
        size_t fits = rows_up_to(rows, n, most / 16 * 15 * 256 / lw->ratio_large);
        take = tries == 0 || fits < take ? fits : take;
        if (take < 8 || take == n)
            return 0;
        if (!try_size(lw, rows, take, lost, &lw->ratio_large))
            return 0;
        if (lw->out.n <= most)
            return lw->out.n >= least ? take : 0;
        take = take * most / lw->out.n;
    }
    return 0;
}

size_t sq_leaf_target(const sq_leaf_writer *lw) { return lw->cell_bytes * 256 / lw->ratio; }

static int put_leaf(sq_leaf_writer *lw, const sq_entry *first, uint64_t version)
{
    sqlite3_bind_blob(lw->put, 1, first->key, (int)first->key_n, SQLITE_STATIC);
    sqlite3_bind_int64(lw->put, 2, (sqlite3_int64)version);
    sqlite3_bind_blob64(lw->put, 3, lw->out.p, lw->out.n, SQLITE_STATIC);
    int rc = sqlite3_step(lw->put);
    sqlite3_reset(lw->put);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int sq_leaves_write(sq_leaf_writer *lw, const sq_entry *rows, size_t n, size_t fresh_bytes,
                    bool append, bool lost)
{
    size_t raw = 0, target = sq_leaf_target(lw);
    for (size_t i = 0; i < n; i++)
        raw += sq_entry_bytes(&rows[i]);
    bool large = fresh_bytes >= raw / 4; /* else a few rows would cost a page each time */
    size_t pieces = (raw + target - 1) / target;
    if (!append && pieces > 1 && pieces < 5) /* room on both sides of where a leaf is split */
        target = raw / pieces + raw / n;
    int rc = SQLITE_OK;
    while (n && rc == SQLITE_OK) {
        uint64_t version = 0;
        size_t took = large ? cut_large(lw, rows, n, lost) : 0;
        if (!took) {
            large = false; /* nor will what is left make one */
            took = cut(lw, rows, n, target, lost, &version);
        }
        if (!took)
            return SQLITE_NOMEM;
        rc = put_leaf(lw, rows, version);
        rows += took;
        n -= took;
    }
    return rc;
}

void sq_leaf_writer_done(sq_leaf_writer *lw)
{
    free(lw->plain.p);
    free(lw->packed.p);
    free(lw->out.p);
}
