/* SPDX-License-Identifier: MIT */
/* Reads: one row by HGET, a page of rows by a script.  They only read, so a connection that breaks costs one more
 * attempt, not an error. */
#include "private.h"

#include <string.h>

#define REDIRECTS_MAX 5u

typedef enum verb { VERB_GET, VERB_SCAN, VERB_PING } verb;

typedef struct reading { /* in the operation's memory */
    rd_request request;
    tn_op *op;
    verb verb;
    uint16_t slot;
    bool asking, whole;
    uint32_t redirects;
    const tn_key *key;
    tn_row *row;
    const tn_range *range;
    tn_page *page;
} reading;

/* ---- asking ------------------------------------------------------------------------------------- */

static void put_name(const reading *r, const tn_key *key, rd_part what, rd_buf *out)
{
    char name[RD_KEY_MAX];
    size_t n = rd_key_name(&r->request.ctx->inst->options, key->partition, key->table, what, name);
    rd_put_arg(out, name, n);
}

/* '[' with, '(' without the row; p NULL: the end. */
static void put_bound(rd_buf *out, char mark, tn_blob row)
{
    char text[1 + RD_ROW_MAX];
    text[0] = mark;
    if (row.n)
        memcpy(text + 1, row.p, row.n);
    rd_put_arg(out, text, 1 + row.n);
}

static void put_scan(const reading *r, rd_buf *out)
{
    const tn_range *range = r->range;
    const rd_inst *inst = r->request.ctx->inst;
    bool reverse = range->flags & TN_RANGE_REVERSE;
    tn_blob after = range->page.n ? (tn_blob){range->page.p + 1, range->page.n - 1} : range->page;
    rd_put_command(out, 11);
    rd_put_word(out, r->whole ? "EVAL" : "EVALSHA");
    rd_put_word(out, r->whole ? rd_script_text[RD_SCRIPT_SCAN] : inst->sha[RD_SCRIPT_SCAN]);
    rd_put_word(out, "2");
    put_name(r, &range->from, RD_ROWS, out);
    put_name(r, &range->from, RD_ORDER, out);
    rd_put_word(out, reverse ? "1" : "0");
    if (!reverse && range->page.n)
        put_bound(out, '(', after);
    else
        put_bound(out, '[', range->from.row);
    if (reverse && range->page.n)
        put_bound(out, '(', after);
    else if (range->to_row.p)
        put_bound(out, '(', range->to_row);
    else
        rd_put_word(out, "+");
    rd_put_number(out, range->limit);
    rd_put_number(out, range->bytes_max && range->bytes_max < RD_PAGE_BYTES_MAX
                           ? range->bytes_max
                           : RD_PAGE_BYTES_MAX);
    rd_put_word(out, range->flags & TN_RANGE_KEYS_ONLY ? "1" : "0");
}

static uint32_t put_reading(rd_request *request, rd_buf *out)
{
    const reading *r = (const reading *)request;
    if (r->asking) {
        rd_put_command(out, 1);
        rd_put_word(out, "ASKING");
    }
    switch (r->verb) {
    case VERB_GET:
        rd_put_command(out, 3);
        rd_put_word(out, "HGET");
        put_name(r, r->key, RD_ROWS, out);
        rd_put_arg(out, r->key->row.p, r->key->row.n);
        break;
    case VERB_SCAN:
        put_scan(r, out);
        break;
    case VERB_PING:
        rd_put_command(out, 1);
        rd_put_word(out, "PING");
        break;
    }
    return r->asking ? 2 : 1;
}

/* ---- answers ------------------------------------------------------------------------------------ */

static const uint8_t *keep(uint8_t **at, const void *p, size_t n)
{
    uint8_t *here = *at;
    if (n)
        memcpy(here, p, n);
    *at += n;
    return here;
}

static tn_status take_row(reading *r, const redisReply *reply, tn_error *err)
{
    const tn_host *host = r->request.ctx->inst->host;
    const tn_key *key = r->key;
    tn_blob value;
    uint64_t version;
    if (reply->type == REDIS_REPLY_NIL)
        return rd_error(err, TN_ENOTFOUND, 0, "there is no such row");
    if (reply->type != REDIS_REPLY_STRING)
        return rd_reply_error(reply, "get", err);
    if (!rd_row_open(key, (uint8_t *)reply->str, (size_t)reply->len, &version, &value))
        return rd_error(err, TN_EDATALOSS, 0, "a stored row is damaged (checksum)");
    uint8_t *at = host->op_alloc(r->op, value.n + key->row.n + key->partition.n + 1, 1);
    if (!at)
        return rd_error(err, TN_ETOOLARGE, 0, "the row does not fit the operation's memory");
    *r->row = (tn_row){.key = *key, .version = version};
    r->row->value = (tn_blob){keep(&at, value.p, value.n), value.n};
    r->row->key.row.p = keep(&at, key->row.p, key->row.n);
    r->row->key.partition.p = keep(&at, key->partition.p, key->partition.n);
    return TN_OK;
}

static bool open_row(const reading *r, const redisReply *row, const redisReply *bytes, tn_row *out)
{
    if (row->type != REDIS_REPLY_STRING || bytes->type != REDIS_REPLY_STRING)
        return false; /* in the order, yet not among the rows */
    out->key = r->range->from;
    out->key.row = (tn_blob){(uint8_t *)row->str, (size_t)row->len};
    if (!(r->range->flags & TN_RANGE_KEYS_ONLY))
        return rd_row_open(&out->key, (uint8_t *)bytes->str, (size_t)bytes->len, &out->version,
                           &out->value);
    if (bytes->len != 8)
        return false;
    out->version = rd_from_be64((uint8_t *)bytes->str);
    return out->version != 0;
}

static tn_status take_page(reading *r, const redisReply *reply, tn_error *err)
{
    const tn_host *host = r->request.ctx->inst->host;
    tn_blob partition = r->range->from.partition;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements % 2 == 0)
        return rd_reply_error(reply, "scan", err);
    size_t n = (reply->elements - 1) / 2, bytes = partition.n + RD_ROW_MAX + 1;
    tn_row *rows = n ? host->op_alloc(r->op, n * sizeof *rows, sizeof(void *)) : NULL;
    if (n && !rows)
        return rd_error(err, TN_ETOOLARGE, 0, "the page does not fit the operation's memory");
    for (size_t i = 0; i < n; i++) {
        if (!open_row(r, reply->element[1 + 2 * i], reply->element[2 + 2 * i], &rows[i]))
            return rd_error(err, TN_EDATALOSS, 0, "a stored row is damaged");
        bytes += rows[i].key.row.n + rows[i].value.n;
    }
    uint8_t *at = host->op_alloc(r->op, bytes, 1);
    if (!at)
        return rd_error(err, TN_ETOOLARGE, 0, "the page does not fit the operation's memory");
    const uint8_t *kept_partition = keep(&at, partition.p, partition.n);
    for (size_t i = 0; i < n; i++) {
        rows[i].key.partition.p = kept_partition;
        rows[i].key.row.p = keep(&at, rows[i].key.row.p, rows[i].key.row.n);
        rows[i].value.p = keep(&at, rows[i].value.p, rows[i].value.n);
    }
    r->page->rows = rows;
    r->page->n_rows = n;
    r->page->next = (tn_blob){0};
    if (n && reply->element[0]->integer == 1) {
        uint8_t *token = at;
        keep(&at, "\x01", 1);
        keep(&at, rows[n - 1].key.row.p, rows[n - 1].key.row.n);
        r->page->next = (tn_blob){token, rows[n - 1].key.row.n + 1};
    }
    return TN_OK;
}

static tn_status take(reading *r, const redisReply *reply, tn_error *err)
{
    switch (r->verb) {
    case VERB_GET:
        return take_row(r, reply, err);
    case VERB_SCAN:
        return take_page(r, reply, err);
    case VERB_PING:
        break;
    }
    return rd_is(reply, "PONG") ? TN_OK : rd_reply_error(reply, "ping", err);
}

static bool goes_on(reading *r, rd_link *from, const redisReply *reply)
{
    if (rd_begins(reply, "NOSCRIPT") && !r->whole) {
        r->whole = true;
        rd_link_submit(from, &r->request);
        return true;
    }
    if (!(rd_begins(reply, "MOVED ") || rd_begins(reply, "ASK ")) ||
        r->redirects++ == REDIRECTS_MAX)
        return false;
    rd_link *to = rd_redirect(r->request.ctx, reply, from, RD_LANE_READ, &r->asking);
    if (to)
        rd_link_submit(to, &r->request);
    return to != NULL;
}

static void reading_reply(rd_request *request, rd_link *from, uint32_t index, redisReply **reply)
{
    reading *r = (reading *)request;
    (void)index;
    if (request->left || goes_on(r, from, *reply))
        return;
    tn_error err = {0};
    tn_status status = take(r, *reply, &err);
    if (rd_reply_wrong_server(*reply))
        rd_link_doom(from, &err);
    request->ctx->inst->host->op_finish(r->op, status, status == TN_OK ? NULL : &err);
}

static void reading_failed(rd_request *request, bool sent, const tn_error *err)
{
    reading *r = (reading *)request;
    tn_error told = *err;
    (void)sent; /* a read that was not answered is as good as one that was not made */
    told.code = TN_EUNAVAILABLE;
    request->ctx->inst->host->op_finish(r->op, told.code, &told);
}

/* ---- entry -------------------------------------------------------------------------------------- */

static reading *reading_new(rd_ctx *ctx, tn_op *op, verb what)
{
    const tn_host *host = ctx->inst->host;
    reading *r = host->op_alloc(op, sizeof *r, _Alignof(reading));
    if (!r)
        return NULL;
    r->request = (rd_request){.ctx = ctx,
                              .put = put_reading,
                              .reply = reading_reply,
                              .failed = reading_failed,
                              .deadline_ns = host->op_deadline_ns(op),
                              .repeats = 1};
    r->op = op;
    r->verb = what;
    return r;
}

static tn_status explain(const rd_ctx *ctx, tn_op *op, tn_status status, const char *text)
{
    tn_error err;
    rd_error(&err, status, 0, "%s", text);
    ctx->inst->host->op_explain(op, &err);
    return status;
}

static tn_status submit(reading *r, tn_blob partition)
{
    rd_ctx *ctx = r->request.ctx;
    r->slot = ctx->slots && partition.n ? rd_slot_of(partition.p, partition.n) : 0;
    rd_link *link = rd_route(ctx, r->slot, RD_LANE_READ);
    if (!link)
        return explain(ctx, r->op, TN_EUNAVAILABLE, "out of memory");
    rd_link_submit(link, &r->request);
    return TN_PENDING;
}

tn_status rd_get(void *arg, tn_op *op, const tn_key *key, tn_row *out)
{
    rd_ctx *ctx = arg;
    if (!rd_key_lawful(key))
        return explain(ctx, op, TN_EINVALID, "key out of limits");
    reading *r = reading_new(ctx, op, VERB_GET);
    if (!r)
        return explain(ctx, op, TN_EUNAVAILABLE, "out of memory");
    r->key = key;
    r->row = out;
    return submit(r, key->partition);
}

tn_status rd_scan(void *arg, tn_op *op, const tn_range *range, tn_page *out)
{
    rd_ctx *ctx = arg;
    if (!rd_key_lawful(&range->from) || range->to_row.n > RD_ROW_MAX)
        return explain(ctx, op, TN_EINVALID, "range: key out of limits");
    if (range->limit < 1 || range->limit > 10000)
        return explain(ctx, op, TN_EINVALID, "range: limit is not within 1 to 10000");
    if (range->flags & ~(TN_RANGE_REVERSE | TN_RANGE_KEYS_ONLY))
        return explain(ctx, op, TN_EINVALID, "range: unknown flags");
    if (range->page.n && (range->page.p[0] != 1 || range->page.n > RD_ROW_MAX + 1))
        return explain(ctx, op, TN_EINVALID, "range: not a page token");
    reading *r = reading_new(ctx, op, VERB_SCAN);
    if (!r)
        return explain(ctx, op, TN_EUNAVAILABLE, "out of memory");
    r->range = range;
    r->page = out;
    return submit(r, range->from.partition);
}

tn_status rd_ping(void *arg, tn_op *op)
{
    rd_ctx *ctx = arg;
    reading *r = reading_new(ctx, op, VERB_PING);
    if (!r)
        return explain(ctx, op, TN_EUNAVAILABLE, "out of memory");
    return submit(r, (tn_blob){0});
}
