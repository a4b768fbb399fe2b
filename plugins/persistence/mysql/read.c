/* SPDX-License-Identifier: MIT */
/* get and scan.  Requests wait in one queue; threads with a connection each take them, gets several at a
 * time.  A thread is started when a request comes and none is free, up to the connections there may
 * be.  A read is repeated on a new connection when the old one turns out to be dead. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

#define TOKEN_MARK 0x6d /* opens a page token; then the last row */
#define GETS_AT_ONCE 32u
#define READ_NS (30 * MS_SEC)

static tn_status out_of_arena(tn_error *err)
{
    return ms_error(err, TN_ETOOLARGE, 0, "the result does not fit the operation's memory");
}

static bool copy_blob(const tn_host *host, tn_op *op, const void *p, size_t n, tn_blob *out)
{
    uint8_t *copy = host->op_alloc(op, n ? n : 1, 1);
    if (!copy)
        return false;
    if (n)
        memcpy(copy, p, n);
    *out = (tn_blob){copy, n};
    return true;
}

/* ---- the threads' side -------------------------------------------------------------------------- */

typedef struct reader { /* [its thread] */
    my_inst *inst;
    ms_conn conn;
    ms_text sql;
} reader;

static uint64_t until(const reader *r, const tn_op *op)
{
    uint64_t most = r->inst->host->mono_ns() + READ_NS, given = r->inst->host->op_deadline_ns(op);
    return given < most ? given : most;
}

/* A statement that may be repeated: once more when the connection was a dead one. */
static tn_status query(reader *r, uint64_t deadline_ns, ms_reply *reply, tn_error *err)
{
    for (int tries = 0;; tries++) {
        bool fresh = !r->conn.my;
        uint64_t now = r->inst->host->mono_ns();
        /* A connection is of use beyond this read. */
        tn_status status = ms_connect(&r->conn, now + r->inst->options.connect_timeout_ns, err);
        *reply = (ms_reply){0};
        if (status != TN_OK)
            return status == TN_EINVALID || status == TN_EDENIED ? TN_EUNAVAILABLE : status;
        ms_fault f = ms_run(&r->conn, &r->sql, deadline_ns, reply, err);
        if (f == MS_FINE)
            return TN_OK;
        ms_reply_done(reply);
        bool again = f == MS_LOST ? !fresh : ms_is_retry(err);
        if (!again || tries == 3 || r->inst->host->mono_ns() >= deadline_ns)
            return err->code;
        *err = (tn_error){0};
    }
}

static void finish(reader *r, tn_op *op, tn_status status, const tn_error *err)
{
    tn_error copy = *err;
    copy.code = status;
    r->inst->host->op_finish(op, status, status < 0 && err->code ? &copy : NULL);
}

static tn_status give_row(reader *r, const my_read *read, MYSQL_RES *rows, const uint8_t *key,
                          size_t key_n, tn_error *err)
{
    mysql_data_seek(rows, 0);
    for (MYSQL_ROW row; (row = mysql_fetch_row(rows));) {
        const unsigned long *n = mysql_fetch_lengths(rows);
        if (n[0] != key_n || memcmp(row[0], key, key_n) != 0)
            continue;
        *read->row = (tn_row){.key = *read->key, .version = ms_u64(row, 1)};
        if (!copy_blob(r->inst->host, read->op, row[2], n[2], &read->row->value))
            return out_of_arena(err);
        return TN_OK;
    }
    return TN_ENOTFOUND;
}

static void serve_gets(reader *r, my_read *list)
{
    uint8_t key[MY_KEY_MAX];
    uint64_t deadline = 0;
    size_t n = 0;
    tn_error err = {0};
    ms_reply reply;
    r->sql.n = 0;
    r->sql.failed = false;
    for (const my_read *read = list; read; read = read->next) {
        ms_puts(&r->sql, n++ ? "," : "SELECT k,ver,val FROM tenon_kv WHERE k IN (");
        ms_put_bytes(&r->sql, key, my_key_write(key, read->key));
        uint64_t one = until(r, read->op);
        deadline = one > deadline ? one : deadline;
    }
    ms_put(&r->sql, ")", 1);
    tn_status status = query(r, deadline, &reply, &err);
    for (my_read *read = list, *next; read; read = next) {
        next = read->next;
        tn_error own = err;
        tn_status one = status;
        if (status == TN_OK)
            one = give_row(r, read, reply.rows[0], key, my_key_write(key, read->key), &own);
        finish(r, read->op, one, &own);
    }
    ms_reply_done(&reply);
}

/* ---- scan --------------------------------------------------------------------------------------- */

typedef struct scan {
    const my_read *read;
    bool reverse, keys_only;
    uint8_t from[MY_KEY_MAX + 1], to[MY_KEY_MAX + 1]; /* from <= k < to */
    size_t from_n, to_n, prefix_n;
    tn_blob partition;
    tn_row *rows;
    size_t n_rows, cap_rows, bytes;
    bool more;
} scan;

/* The smallest key above every row of the partition; the same length byte keeps it below the next. */
static size_t partition_end(uint8_t *out, const tn_key *key)
{
    tn_key prefix = {.table = key->table, .partition = key->partition};
    size_t n = my_key_write(out, &prefix);
    for (size_t at = n; at-- > 0;)
        if (++out[at] != 0)
            return at + 1;
    return n; /* not reached: the first byte is at most 63 */
}

static tn_status scan_bounds(scan *s, tn_error *err)
{
    const tn_range *range = s->read->range;
    tn_key to = {
        .table = range->from.table, .partition = range->from.partition, .row = range->to_row};
    if (!my_key_lawful(&range->from) || range->limit < 1 || range->limit > 10000 ||
        (range->flags & ~(TN_RANGE_REVERSE | TN_RANGE_KEYS_ONLY)) ||
        (range->to_row.p && !my_key_lawful(&to)))
        return ms_error(err, TN_EINVALID, 0, "range out of limits");
    s->from_n = my_key_write(s->from, &range->from);
    s->to_n = range->to_row.p ? my_key_write(s->to, &to) : partition_end(s->to, &range->from);
    s->reverse = range->flags & TN_RANGE_REVERSE;
    s->keys_only = range->flags & TN_RANGE_KEYS_ONLY;
    s->prefix_n = 2 + range->from.partition.n;
    if (range->page.n == 0)
        return TN_OK;
    uint8_t last[MY_KEY_MAX + 1];
    tn_key token = {.table = range->from.table,
                    .partition = range->from.partition,
                    .row = {range->page.p + 1, range->page.n - 1}};
    my_key from = {s->from, (uint32_t)s->from_n}, end = {s->to, (uint32_t)s->to_n};
    bool fits = range->page.p[0] == TOKEN_MARK && my_key_lawful(&token);
    my_key at = {last, fits ? (uint32_t)my_key_write(last, &token) : 0};
    if (!fits || my_key_cmp(at, from) < 0 || my_key_cmp(at, end) >= 0)
        return ms_error(err, TN_EINVALID, 0, "the page token is not from this range");
    if (s->reverse) {
        memcpy(s->to, last, at.n);
        s->to_n = at.n;
    } else {
        last[at.n] = 0; /* the smallest key above it */
        memcpy(s->from, last, at.n + 1);
        s->from_n = at.n + 1;
    }
    return TN_OK;
}

static bool is_full(const scan *s)
{
    const tn_range *range = s->read->range;
    return s->n_rows >= range->limit ||
           (range->bytes_max && s->n_rows && s->bytes >= range->bytes_max);
}

static bool emit(reader *r, scan *s, MYSQL_ROW row, const unsigned long *n)
{
    const tn_host *host = r->inst->host;
    if (s->n_rows == s->cap_rows) {
        size_t cap = s->cap_rows ? s->cap_rows * 2 : 64;
        tn_row *grown = realloc(s->rows, cap * sizeof *grown);
        if (!grown)
            return false;
        s->rows = grown;
        s->cap_rows = cap;
    }
    tn_row *out = &s->rows[s->n_rows];
    *out = (tn_row){.key = {.table = s->read->range->from.table, .partition = s->partition},
                    .version = ms_u64(row, 1)};
    if (!copy_blob(host, s->read->op, row[0] + s->prefix_n, n[0] - s->prefix_n, &out->key.row) ||
        (!s->keys_only && !copy_blob(host, s->read->op, row[2], n[2], &out->value)))
        return false;
    s->bytes += out->value.n;
    s->n_rows++;
    return true;
}

static void put_scan(reader *r, const scan *s, size_t limit)
{
    r->sql.n = 0;
    r->sql.failed = false;
    ms_puts(&r->sql, s->keys_only ? "SELECT k,ver FROM tenon_kv WHERE k>="
                                  : "SELECT k,ver,val FROM tenon_kv WHERE k>=");
    ms_put_bytes(&r->sql, s->from, s->from_n);
    ms_puts(&r->sql, " AND k<");
    ms_put_bytes(&r->sql, s->to, s->to_n);
    ms_puts(&r->sql, s->reverse ? " ORDER BY k DESC LIMIT " : " ORDER BY k LIMIT ");
    ms_put_u64(&r->sql, limit);
}

/* A limit in bytes cannot be told to the database: it is asked for a few rows at a time. */
static size_t rows_to_ask(const scan *s)
{
    const tn_range *range = s->read->range;
    size_t left = range->limit - s->n_rows + 1;
    if (!range->bytes_max || s->keys_only)
        return left;
    size_t average = s->n_rows ? s->bytes / s->n_rows + 1 : 1024;
    size_t guess = (range->bytes_max - (s->bytes < range->bytes_max ? s->bytes : 0)) / average + 2;
    return guess < left ? guess : left;
}

static tn_status run_scan(reader *r, scan *s, tn_error *err)
{
    uint64_t deadline = until(r, s->read->op);
    for (;;) {
        size_t asked = rows_to_ask(s), got = 0;
        ms_reply reply;
        put_scan(r, s, asked);
        tn_status status = query(r, deadline, &reply, err);
        if (status != TN_OK)
            return status;
        for (MYSQL_ROW row; (row = mysql_fetch_row(reply.rows[0])); got++) {
            const unsigned long *n = mysql_fetch_lengths(reply.rows[0]);
            if (is_full(s)) {
                s->more = true;
                break;
            }
            if (n[0] < s->prefix_n || n[0] > MY_KEY_MAX)
                status = ms_error(err, TN_EDATALOSS, 0, "a stored key is damaged");
            else if (!emit(r, s, row, n))
                status = out_of_arena(err);
            if (status != TN_OK)
                break;
            memcpy(s->reverse ? s->to : s->from, row[0], n[0]);
            if (s->reverse) {
                s->to_n = n[0];
            } else {
                s->from[n[0]] = 0;
                s->from_n = n[0] + 1;
            }
        }
        ms_reply_done(&reply);
        if (status != TN_OK || s->more || got < asked)
            return status;
    }
}

static tn_status give_page(reader *r, scan *s, tn_error *err)
{
    const tn_host *host = r->inst->host;
    tn_op *op = s->read->op;
    tn_row *rows = host->op_alloc(op, (s->n_rows + 1) * sizeof *rows, _Alignof(tn_row));
    if (!rows)
        return out_of_arena(err);
    if (s->n_rows)
        memcpy(rows, s->rows, s->n_rows * sizeof *rows);
    tn_page *page = s->read->page;
    page->next = (tn_blob){0};
    if (s->more) {
        tn_blob last = s->rows[s->n_rows - 1].key.row;
        uint8_t *token = host->op_alloc(op, last.n + 1, 1);
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

static void serve_scan(reader *r, const my_read *read)
{
    scan s = {.read = read};
    tn_error err = {0};
    const tn_blob *partition = &read->range->from.partition;
    tn_status status = scan_bounds(&s, &err);
    if (status == TN_OK &&
        !copy_blob(r->inst->host, read->op, partition->p, partition->n, &s.partition))
        status = out_of_arena(&err);
    if (status == TN_OK)
        status = run_scan(r, &s, &err);
    if (status == TN_OK)
        status = give_page(r, &s, &err);
    free(s.rows);
    finish(r, read->op, status, &err);
}

static void serve_ping(reader *r, const my_read *read)
{
    tn_error err = {0};
    ms_reply reply;
    r->sql.n = 0;
    r->sql.failed = false;
    ms_puts(&r->sql, "SELECT 1 FROM tenon_partition LIMIT 1");
    tn_status status = query(r, until(r, read->op), &reply, &err);
    ms_reply_done(&reply);
    finish(r, read->op, status, &err);
}

/* ---- the queue ---------------------------------------------------------------------------------- */

/* With the lock: the next request; gets come with others behind them. */
static my_read *take(my_inst *inst)
{
    my_read *first = inst->read_head, *last = first;
    for (unsigned n = 1; first->key && last->next && last->next->key && n < GETS_AT_ONCE; n++)
        last = last->next;
    inst->read_head = last->next;
    last->next = NULL;
    return first;
}

static void serve(reader *r, my_read *list)
{
    if (list->key)
        serve_gets(r, list);
    else if (list->range)
        serve_scan(r, list);
    else
        serve_ping(r, list);
}

static void *reader_main(void *arg)
{
    my_inst *inst = arg;
    reader r = {.inst = inst};
    ms_conn_init(&r.conn, inst->host, inst, &inst->options);
    r.conn.durable_reported = true;
    pthread_mutex_lock(&inst->read_lock);
    for (;;) {
        inst->readers_idle++;
        while (!inst->read_head && !inst->read_stopping)
            pthread_cond_wait(&inst->read_wake, &inst->read_lock);
        inst->readers_idle--;
        if (!inst->read_head)
            break;
        my_read *list = take(inst);
        pthread_mutex_unlock(&inst->read_lock);
        serve(&r, list);
        pthread_mutex_lock(&inst->read_lock);
    }
    pthread_mutex_unlock(&inst->read_lock);
    ms_disconnect(&r.conn);
    ms_text_done(&r.sql);
    return NULL;
}

static tn_status explained(my_inst *inst, tn_op *op, tn_status status, const tn_error *err)
{
    if (status < 0 && err->code)
        inst->host->op_explain(op, err);
    return status;
}

static tn_status enqueue(my_inst *inst, const my_read *what)
{
    tn_error err = {0};
    my_read *read = inst->host->op_alloc(what->op, sizeof *read, _Alignof(my_read));
    if (!read)
        return explained(inst, what->op, out_of_arena(&err), &err);
    *read = *what;
    read->next = NULL;
    pthread_mutex_lock(&inst->read_lock);
    bool started = inst->readers > 0;
    if (!inst->readers_idle && inst->readers < inst->readers_most &&
        pthread_create(&inst->reader_threads[inst->readers], NULL, reader_main, inst) == 0) {
        inst->readers++;
        started = true;
    }
    if (started) {
        if (inst->read_head)
            inst->read_tail->next = read;
        else
            inst->read_head = read;
        inst->read_tail = read;
        pthread_cond_signal(&inst->read_wake);
    }
    pthread_mutex_unlock(&inst->read_lock);
    if (started)
        return TN_PENDING;
    ms_error(&err, TN_EUNAVAILABLE, 0, "cannot start a thread");
    return explained(inst, what->op, TN_EUNAVAILABLE, &err);
}

/* ---- [loop] ------------------------------------------------------------------------------------- */

tn_status my_get(void *ctx, tn_op *op, const tn_key *key, tn_row *out)
{
    my_inst *inst = ctx;
    tn_error err = {0};
    if (!my_key_lawful(key)) {
        ms_error(&err, TN_EINVALID, 0, "key out of limits");
        return explained(inst, op, TN_EINVALID, &err);
    }
    return enqueue(inst, &(my_read){.op = op, .key = key, .row = out});
}

tn_status my_scan(void *ctx, tn_op *op, const tn_range *range, tn_page *out)
{
    return enqueue(ctx, &(my_read){.op = op, .range = range, .page = out});
}

tn_status my_ping(void *ctx, tn_op *op) { return enqueue(ctx, &(my_read){.op = op}); }
