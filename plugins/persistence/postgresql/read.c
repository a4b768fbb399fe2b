/* SPDX-License-Identifier: MIT */
/* Get, scan and ping: one statement each, so that each sees one consistent state.  They share the connection's
 * pipeline with the commits and are sent again when it breaks. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_MARK 1u /* first byte of a page token; the last row follows */

typedef struct reading { /* in the memory of its operation */
    tn_pg_req req;
    const pp_inst *inst;
    tn_pg_link *link;
    tn_op *op;
    const tn_key *key; /* get */
    tn_row *row;
    const tn_range *range; /* scan */
    tn_page *page;
    pp_key from, to;
    tn_status status; /* of the answer */
} reading;

static reading *of(tn_pg_req *req) { return (reading *)((char *)req - offsetof(reading, req)); }

static bool copy_blob(const reading *r, tn_blob from, tn_blob *out)
{
    uint8_t *copy = r->inst->host->op_alloc(r->op, from.n ? from.n : 1, 1);
    if (!copy)
        return false;
    if (from.n)
        memcpy(copy, from.p, from.n);
    *out = (tn_blob){copy, from.n};
    return true;
}

static void reading_done(tn_pg_req *req, tn_pg_end end, const tn_error *err, const char *sqlstate)
{
    (void)sqlstate;
    reading *r = of(req);
    const tn_host *host = r->inst->host;
    if (end != TN_PG_DONE) {
        host->op_finish(r->op, err->code, err);
        return;
    }
    tn_error own = {0};
    if (r->status == TN_ETOOLARGE)
        tn_pg_error(&own, r->status, "the result does not fit the operation's memory");
    else if (r->status == TN_EDATALOSS)
        tn_pg_error(&own, r->status, "a stored key is damaged");
    host->op_finish(r->op, r->status, own.code ? &own : NULL);
}

static void submit(void *arg)
{
    reading *r = arg;
    tn_pg_submit(tn_pg_conn_of(r->link), &r->req);
}

static tn_status go(pp_ctx *at, tn_op *op, reading *r,
                    void (*result)(tn_pg_req *, uint32_t, PGresult *),
                    bool (*send)(tn_pg_req *, PGconn *))
{
    r->inst = at->inst;
    r->link = at->link;
    r->op = op;
    uint64_t deadline = pp_deadline(at->inst, op), now = at->inst->host->mono_ns();
    r->req = (tn_pg_req){.flags = TN_PG_REPEAT | TN_PG_CANCEL,
                         .deadline_ns = deadline,
                         .patience_ns = deadline == UINT64_MAX ? 30 * TN_PG_SEC
                                        : deadline > now       ? (deadline - now) / 2 + 1
                                                               : 1,
                         .send = send,
                         .result = result,
                         .done = reading_done};
    if (tn_pg_run(at->link, submit, r) == TN_OK)
        return TN_PENDING;
    return pp_refuse(at->inst, op, TN_EUNAVAILABLE, "the connection's loop is gone");
}

/* ---- get ---------------------------------------------------------------------------------------- */

static bool get_send(tn_pg_req *req, PGconn *db)
{
    static const char *const names[PP_RELATIONS] = {"get0", "get1", "get2"};
    reading *r = of(req);
    tn_pg_params params = {0};
    tn_pg_put_blob(&params, r->from.b, r->from.n);
    bool sent = tn_pg_params_send(&params, db, names[pp_relation_of(r->key->table)]);
    tn_pg_params_done(&params);
    return sent;
}

static void get_result(tn_pg_req *req, uint32_t index, PGresult *result)
{
    (void)index;
    reading *r = of(req);
    if (PQntuples(result) == 0) {
        r->status = TN_ENOTFOUND;
        return;
    }
    tn_row row = {.version = (uint64_t)tn_pg_result_int(result, 0, 0)};
    row.key.table = r->key->table;
    if (!copy_blob(r, r->key->partition, &row.key.partition) ||
        !copy_blob(r, r->key->row, &row.key.row) ||
        !copy_blob(r, tn_pg_result_blob(result, 0, 1), &row.value)) {
        r->status = TN_ETOOLARGE;
        return;
    }
    r->status = TN_OK;
    *r->row = row;
}

static reading *make(const pp_inst *inst, tn_op *op)
{
    return inst->host->op_alloc(op, sizeof(reading), _Alignof(reading));
}

tn_status pp_get(void *ctx, tn_op *op, const tn_key *key, tn_row *out)
{
    pp_ctx *at = ctx;
    if (!pp_key_lawful(key))
        return pp_refuse(at->inst, op, TN_EINVALID, "key out of limits");
    reading *r = make(at->inst, op);
    if (!r)
        return pp_refuse(at->inst, op, TN_ETOOLARGE, "no room in the operation's memory");
    r->key = key;
    r->row = out;
    pp_key_pack(&r->from, key);
    return go(at, op, r, get_result, get_send);
}

/* ---- scan --------------------------------------------------------------------------------------- */

static bool scan_bounds(reading *r)
{
    const tn_range *range = r->range;
    tn_key to = range->from;
    to.row = range->to_row;
    if (!pp_key_lawful(&range->from) || range->limit < 1 || range->limit > 10000 ||
        (range->flags & ~(TN_RANGE_REVERSE | TN_RANGE_KEYS_ONLY)) ||
        (range->to_row.p && !pp_key_lawful(&to)))
        return false;
    pp_key_pack(&r->from, &range->from);
    if (range->to_row.p)
        pp_key_pack(&r->to, &to);
    else
        pp_key_partition_end(&r->to, &range->from);
    if (range->page.n == 0)
        return true;
    tn_key last = range->from;
    last.row = (tn_blob){range->page.p + 1, range->page.n - 1};
    pp_key at;
    if (range->page.p[0] != TOKEN_MARK || !pp_key_lawful(&last))
        return false;
    pp_key_pack(&at, &last);
    tn_blob a = {at.b, at.n};
    if (pp_row_compare(a, (tn_blob){r->from.b, r->from.n}) < 0 ||
        pp_row_compare(a, (tn_blob){r->to.b, r->to.n}) >= 0)
        return false;
    if (range->flags & TN_RANGE_REVERSE) {
        r->to = at;
    } else {
        r->from = at;
        r->from.b[r->from.n++] = 0; /* the smallest key above it */
    }
    return true;
}

static bool scan_send(tn_pg_req *req, PGconn *db)
{
    reading *r = of(req);
    const tn_range *range = r->range;
    bool keys = range->flags & TN_RANGE_KEYS_ONLY, bytes = range->bytes_max && !keys;
    char name[16];
    snprintf(name, sizeof name, "%s%s%d",
             keys    ? "keys"
             : bytes ? "bytes"
                     : "rows",
             range->flags & TN_RANGE_REVERSE ? "down" : "up",
             (int)pp_relation_of(range->from.table));
    tn_pg_params params = {0};
    tn_pg_put_blob(&params, r->from.b, r->from.n);
    tn_pg_put_blob(&params, r->to.b, r->to.n);
    tn_pg_put_i64(&params, (int64_t)range->limit + 1); /* one more tells whether there is more */
    if (bytes)
        tn_pg_put_i64(&params, range->bytes_max);
    bool sent = tn_pg_params_send(&params, db, name);
    tn_pg_params_done(&params);
    return sent;
}

/* How many of the result's rows belong to the page. */
static int page_rows(const reading *r, const PGresult *result)
{
    const tn_range *range = r->range;
    bool keys = range->flags & TN_RANGE_KEYS_ONLY;
    size_t bytes = 0;
    int n = 0, most = PQntuples(result);
    while (n < most && (uint32_t)n < range->limit &&
           (n == 0 || keys || !range->bytes_max || bytes < range->bytes_max)) {
        bytes += keys ? 0 : (size_t)PQgetlength(result, n, 2);
        n++;
    }
    return n;
}

static bool take_row(reading *r, const PGresult *result, int at, tn_row *out)
{
    tn_blob key = tn_pg_result_blob(result, at, 0), row;
    size_t prefix = 2 + r->range->from.partition.n;
    if (key.n < prefix) {
        r->status = TN_EDATALOSS;
        return false;
    }
    r->status = TN_ETOOLARGE;
    if (!copy_blob(r, (tn_blob){key.p + prefix, key.n - prefix}, &row) ||
        (!(r->range->flags & TN_RANGE_KEYS_ONLY) &&
         !copy_blob(r, tn_pg_result_blob(result, at, 2), &out->value)))
        return false;
    out->key.table = r->range->from.table;
    out->key.row = row;
    out->version = (uint64_t)tn_pg_result_int(result, at, 1);
    return true;
}

static void scan_result(tn_pg_req *req, uint32_t index, PGresult *result)
{
    (void)index;
    reading *r = of(req);
    int n = page_rows(r, result);
    tn_blob partition, next = {0};
    tn_row *rows = r->inst->host->op_alloc(r->op, ((size_t)n + 1) * sizeof *rows, _Alignof(tn_row));
    r->status = TN_ETOOLARGE;
    if (!rows || !copy_blob(r, r->range->from.partition, &partition))
        return;
    for (int i = 0; i < n; i++) {
        if (!take_row(r, result, i, &rows[i]))
            return;
        rows[i].key.partition = partition;
    }
    if (n < PQntuples(result)) {
        tn_blob last = rows[n - 1].key.row;
        uint8_t *token = r->inst->host->op_alloc(r->op, last.n + 1, 1);
        r->status = TN_ETOOLARGE;
        if (!token)
            return;
        token[0] = TOKEN_MARK;
        if (last.n)
            memcpy(token + 1, last.p, last.n);
        next = (tn_blob){token, last.n + 1};
    }
    r->page->rows = rows;
    r->page->n_rows = (size_t)n;
    r->page->next = next;
    r->status = TN_OK;
}

tn_status pp_scan(void *ctx, tn_op *op, const tn_range *range, tn_page *out)
{
    pp_ctx *at = ctx;
    reading *r = make(at->inst, op);
    if (!r)
        return pp_refuse(at->inst, op, TN_ETOOLARGE, "no room in the operation's memory");
    r->range = range;
    r->page = out;
    if (!scan_bounds(r))
        return pp_refuse(at->inst, op, TN_EINVALID,
                         "range out of limits, or a page token that is not from it");
    return go(at, op, r, scan_result, scan_send);
}

/* ---- ping --------------------------------------------------------------------------------------- */

static bool ping_send(tn_pg_req *req, PGconn *db)
{
    (void)req;
    tn_pg_params params = {0};
    return tn_pg_params_send(&params, db, "ping");
}

tn_status pp_ping(void *ctx, tn_op *op)
{
    pp_ctx *at = ctx;
    reading *r = make(at->inst, op);
    if (!r)
        return pp_refuse(at->inst, op, TN_ETOOLARGE, "no room in the operation's memory");
    return go(at, op, r, NULL, ping_send);
}
