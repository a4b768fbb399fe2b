/* SPDX-License-Identifier: MIT */
/* Lists and counts.  A list asks for run ids in order first, then for the rows.  Which index the server
 * takes is said where it would guess badly: few runs that an own attribute names are gone through
 * themselves; else an index in the default order is, of a status or type when there is one. */
#include "private.h"

#include <stdlib.h>

#define LIMIT_MAX 1000u
#define KEYS_MAX 16u
#define GROUPS_MAX 10000u
#define FEW 2000u /* runs that are looked at one by one */

void *mv_alloc(mv_query *q, size_t n, size_t align)
{
    void *p = q->inst->host->op_alloc(q->read->op, n ? n : 1, align);
    if (!p)
        ms_error(q->err, TN_ETOOLARGE, 0, "the answer does not fit the operation's memory");
    return p;
}

bool mv_copy(mv_query *q, const void *p, size_t n, tn_blob *out)
{
    uint8_t *to = mv_alloc(q, n, 1);
    if (!to)
        return false;
    if (n)
        memcpy(to, p, n);
    *out = (tn_blob){to, n};
    return true;
}

/* ---- asking ------------------------------------------------------------------------------------- */

/* The statement's own limit ends it at the server too. */
static void put_limit(mv_query *q, ms_text *t)
{
    uint64_t now = q->inst->host->mono_ns();
    uint64_t ms = q->limit_ns > now ? (q->limit_ns - now) / MS_MS + 1 : 1;
    if (q->conn->mariadb)
        ms_putf(t, "SET SESSION max_statement_time=%llu.%03u;", (unsigned long long)(ms / 1000),
                (unsigned)(ms % 1000));
    else
        ms_putf(t, "SET SESSION max_execution_time=%llu;", (unsigned long long)ms);
}

static tn_status ask(mv_query *q, ms_text *t, ms_reply *reply)
{
    ms_fault f = t->n > q->conn->packet_max ? MS_SQL : MS_FINE;
    *reply = (ms_reply){0};
    if (f != MS_FINE)
        return ms_error(q->err, TN_ETOOLARGE, 0, "the query exceeds max_allowed_packet");
    f = ms_run(q->conn, t, q->deadline_ns, reply, q->err);
    return f == MS_FINE ? TN_OK : q->err->code;
}

/* ---- where to look ------------------------------------------------------------------------------ */

static bool is_few(mv_query *q, const char *probe, tn_status *status)
{
    ms_text t = {0};
    ms_reply reply;
    put_limit(q, &t);
    ms_puts(&t, "SELECT COUNT(*) FROM (SELECT 1 FROM tenon_vis_attr x WHERE ");
    ms_puts(&t, probe);
    ms_putf(&t, " LIMIT %u) y", FEW);
    *status = ask(q, &t, &reply);
    MYSQL_ROW row = *status == TN_OK ? mysql_fetch_row(reply.rows[1]) : NULL;
    bool few = row && ms_u64(row, 0) < FEW;
    ms_reply_done(&reply);
    ms_text_done(&t);
    return few;
}

static bool is_equal(const tn_vis_node *node, const char *name)
{
    return tn_vd_str_is(node->name, name) && (node->op == TN_VIS_EQ || node->op == TN_VIS_IN);
}

static const char *pick_index(const mv_query *q, bool ordered)
{
    const char *index = ordered ? "by_close" : NULL;
    for (size_t i = 0; i < q->n_must; i++) {
        const tn_vis_node *node = q->must[i];
        if (is_equal(node, "RunId"))
            return "PRIMARY";
        if (is_equal(node, "WorkflowId") ||
            (tn_vd_str_is(node->name, "WorkflowId") && node->op == TN_VIS_STARTS))
            return "by_wf";
        if (!ordered || node->op != TN_VIS_EQ)
            continue;
        if (tn_vd_str_is(node->name, "WorkflowType"))
            index = "by_type";
        else if (tn_vd_str_is(node->name, "ExecutionStatus") && strcmp(index, "by_type") != 0)
            index = "by_status";
    }
    return index;
}

/* Does another index narrow it down, when nothing has to come in order? */
static bool is_narrow(const mv_query *q)
{
    for (size_t i = 0; i < q->n_must; i++)
        if (is_equal(q->must[i], "WorkflowType") || is_equal(q->must[i], "WorkflowId") ||
            is_equal(q->must[i], "RunId"))
            return true;
    return false;
}

/* The test of an own attribute to go by: one that few runs pass; for a count, any rather than none. */
static tn_status find_driver(mv_query *q, const char **out)
{
    tn_status status = TN_OK;
    const char *broad = NULL;
    *out = NULL;
    for (size_t i = 0; i < q->n_must && status == TN_OK; i++) {
        const char *probe = mv_filter_probe(q, q->must[i]);
        if (probe && is_few(q, probe, &status)) {
            *out = probe;
            return status;
        }
        if (probe && !broad)
            broad = probe;
    }
    if (q->read->count && !is_narrow(q))
        *out = broad;
    return status;
}

/* " FROM ... WHERE ...".  ordered: in the default order. */
static tn_status put_from(mv_query *q, ms_text *t, bool ordered)
{
    const char *driver;
    tn_status status = find_driver(q, &driver);
    if (status != TN_OK)
        return status;
    if (driver) {
        ms_puts(t, " FROM (SELECT DISTINCT x.run FROM tenon_vis_attr x WHERE ");
        ms_puts(t, driver);
        ms_putf(t, ") y STRAIGHT_JOIN tenon_vis_run d ON d.ns=%u AND d.run=y.run WHERE ", q->ns);
        ms_puts(t, q->condition);
        return TN_OK;
    }
    const char *index = pick_index(q, ordered);
    ms_puts(t, " FROM tenon_vis_run d");
    if (index)
        ms_putf(t, " FORCE INDEX (%s)", index);
    ms_putf(t, " WHERE d.ns=%u", q->ns);
    if (q->condition) {
        ms_puts(t, " AND ");
        ms_puts(t, q->condition);
    }
    return TN_OK;
}

/* ---- positions ---------------------------------------------------------------------------------- */

typedef struct sort_key {
    mv_column column;
    const char *sql;
    bool down;
    /* of the position */
    bool null;
    tn_blob value; /* a number as decimal text */
} sort_key;

typedef struct listing {
    mv_query *q;
    sort_key keys[KEYS_MAX];
    size_t n_keys;
    bool given; /* the position */
    int64_t close, start;
    tn_blob run;
} listing;

static bool is_number(tn_blob v)
{
    size_t at = v.n && v.p[0] == '-';
    if (v.n == at || v.n > 20)
        return false;
    for (; at < v.n; at++)
        if (v.p[at] < '0' || v.p[at] > '9')
            return false;
    return true;
}

/* "D" or "O", the keys of another order (1 and a length and bytes, or 0), then close, start and run. */
static tn_status read_position(listing *l)
{
    tn_blob rest = l->q->read->query->page;
    if (rest.n == 0)
        return TN_OK;
    bool ok = rest.p[0] == (l->n_keys ? 'O' : 'D');
    rest.p++, rest.n--;
    for (size_t i = 0; i < l->n_keys && ok; i++) {
        sort_key *key = &l->keys[i];
        ok = rest.n >= 1 && rest.p[0] <= 1;
        if (!ok)
            break;
        key->null = rest.p[0] == 0;
        rest.p++, rest.n--;
        if (key->null)
            continue;
        size_t n = rest.n >= 4 ? (size_t)rest.p[0] << 24 | (size_t)rest.p[1] << 16 |
                                     (size_t)rest.p[2] << 8 | rest.p[3]
                               : SIZE_MAX;
        ok = n <= rest.n - 4 && rest.n >= 4;
        if (!ok)
            break;
        key->value = (tn_blob){rest.p + 4, n};
        ok = key->column.kind != MV_NUMBER || is_number(key->value);
        rest.p += 4 + n, rest.n -= 4 + n;
    }
    if (!ok || rest.n < 16 + 16 || rest.n > 16 + MV_RUN_BYTES)
        return ms_error(l->q->err, TN_EINVALID, 0, "the page token is not of this query");
    l->close = tn_vd_get_i64(rest.p);
    l->start = tn_vd_get_i64(rest.p + 8);
    l->run = (tn_blob){rest.p + 16, rest.n - 16};
    l->given = true;
    return TN_OK;
}

static tn_status write_position(listing *l, MYSQL_ROW row, const unsigned long *n, tn_blob *out)
{
    ms_text t = {0};
    uint8_t wide[8];
    ms_puts(&t, l->n_keys ? "O" : "D");
    for (size_t i = 0; i < l->n_keys; i++) {
        const uint8_t head[5] = {row[3 + i] != NULL, (uint8_t)(n[3 + i] >> 24),
                                 (uint8_t)(n[3 + i] >> 16), (uint8_t)(n[3 + i] >> 8),
                                 (uint8_t)n[3 + i]};
        ms_put(&t, (const char *)head, row[3 + i] ? 5 : 1);
        if (row[3 + i])
            ms_put(&t, row[3 + i], n[3 + i]);
    }
    for (int i = 1; i <= 2; i++) {
        tn_vd_set_i64(wide, strtoll(row[i], NULL, 10));
        ms_put(&t, (const char *)wide, 8);
    }
    ms_put(&t, row[0], n[0]);
    tn_status status = t.failed                       ? mv_no_memory(l->q)
                       : mv_copy(l->q, t.p, t.n, out) ? TN_OK
                                                      : TN_ETOOLARGE;
    ms_text_done(&t);
    return status;
}

static void put_i64(ms_text *t, int64_t v)
{
    if (v < 0)
        ms_put(t, "-", 1);
    ms_put_u64(t, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

/* c, s, r: names of the columns of the default order. */
static void put_default_after(const listing *l, ms_text *t, const char *c, const char *s,
                              const char *r)
{
    ms_putf(t, "(%s<=", c); /* bounds the index */
    put_i64(t, l->close);
    ms_putf(t, " AND (%s<", c);
    put_i64(t, l->close);
    ms_putf(t, " OR %s<", s);
    put_i64(t, l->start);
    ms_putf(t, " OR (%s=", s);
    put_i64(t, l->start);
    ms_putf(t, " AND %s<", r);
    ms_put_bytes(t, l->run.p, l->run.n);
    ms_puts(t, ")))");
}

static void put_key_value(ms_text *t, const sort_key *key)
{
    if (key->null)
        ms_puts(t, "NULL");
    else if (key->column.kind == MV_NUMBER)
        ms_put(t, (const char *)key->value.p, key->value.n);
    else
        ms_put_bytes(t, key->value.p, key->value.n);
}

/* Rows after the position.  What a document lacks counts as greater than everything: it comes last
 * ascending and first descending, as open runs do by CloseTime. */
static void put_after(const listing *l, ms_text *t)
{
    for (size_t k = 0; k < l->n_keys; k++) {
        const sort_key *key = &l->keys[k];
        ms_put(t, "(", 1);
        if (key->null) {
            ms_putf(t, key->down ? "k%zu IS NOT NULL" : "(1=0 AND k%zu IS NULL)", k);
        } else {
            ms_putf(t, key->down ? "(k%zu<" : "(k%zu>", k);
            put_key_value(t, key);
            if (!key->down)
                ms_putf(t, " OR k%zu IS NULL", k);
            ms_put(t, ")", 1);
        }
        ms_putf(t, " OR (k%zu<=>", k);
        put_key_value(t, key);
        ms_puts(t, " AND ");
    }
    put_default_after(l, t, "c", "s", "r");
    for (size_t k = 0; k < l->n_keys; k++)
        ms_puts(t, "))");
}

/* ---- list --------------------------------------------------------------------------------------- */

static tn_status find_keys(listing *l)
{
    const tn_vis_query *query = l->q->read->query;
    if (query->n_order > KEYS_MAX)
        return ms_error(l->q->err, TN_EINVALID, 0, "too many fields to sort by");
    for (; l->n_keys < query->n_order; l->n_keys++) {
        const tn_vis_order *order = &query->order[l->n_keys];
        sort_key *key = &l->keys[l->n_keys];
        tn_status status = mv_column_find(l->q, order->name, order->type, &key->column);
        if (status != TN_OK)
            return status;
        key->down = order->descending != 0;
        if (key->column.type == TN_ATTR_TEXT)
            return ms_error(l->q->err, TN_EINVALID, 0, "a Text has no order");
        key->sql = mv_column_scalar(l->q, &key->column, key->down);
        if (!key->sql)
            return mv_no_memory(l->q);
    }
    return TN_OK;
}

static tn_status put_ordered(listing *l, ms_text *t)
{
    ms_puts(t, "SELECT r,c,s");
    for (size_t k = 0; k < l->n_keys; k++)
        ms_putf(t, ",k%zu", k);
    ms_puts(t, " FROM (SELECT d.run AS r,d.close AS c,d.start AS s");
    for (size_t k = 0; k < l->n_keys; k++) {
        ms_put(t, ",", 1);
        ms_puts(t, l->keys[k].sql);
        ms_putf(t, " AS k%zu", k);
    }
    tn_status status = put_from(l->q, t, false);
    ms_puts(t, ") t");
    if (l->given) {
        ms_puts(t, " WHERE ");
        put_after(l, t);
    }
    ms_puts(t, " ORDER BY ");
    for (size_t k = 0; k < l->n_keys; k++)
        ms_putf(t, l->keys[k].down ? "(k%zu IS NULL) DESC,k%zu DESC," : "(k%zu IS NULL),k%zu,", k,
                k);
    ms_puts(t, "c DESC,s DESC,r DESC");
    return status;
}

static tn_status put_list(listing *l, ms_text *t)
{
    if (l->n_keys)
        return put_ordered(l, t);
    ms_puts(t, "SELECT d.run,d.close,d.start");
    tn_status status = put_from(l->q, t, true);
    if (l->given) {
        ms_puts(t, " AND ");
        put_default_after(l, t, "d.close", "d.start", "d.run");
    }
    ms_puts(t, " ORDER BY d.close DESC,d.start DESC,d.run DESC");
    return status;
}

/* The rows of these run ids, in their order; one that went away meanwhile is left out. */
static tn_status fetch_docs(mv_query *q, MYSQL_RES *ids, size_t count)
{
    ms_text t = {0};
    ms_reply reply;
    tn_vis_page *out = q->read->out;
    tn_vis_doc *docs = mv_alloc(q, count * sizeof *docs, _Alignof(tn_vis_doc));
    if (!docs)
        return TN_ETOOLARGE;
    ms_puts(&t, "SELECT " MV_DOC_COLUMNS " FROM tenon_vis_run WHERE ");
    ms_putf(&t, "ns=%u AND run IN (", q->ns);
    mysql_data_seek(ids, 0);
    for (size_t i = 0; i < count; i++) {
        MYSQL_ROW id = mysql_fetch_row(ids);
        if (i)
            ms_put(&t, ",", 1);
        ms_put_bytes(&t, id[0], mysql_fetch_lengths(ids)[0]);
    }
    ms_put(&t, ")", 1);
    tn_status status = ask(q, &t, &reply);
    ms_text_done(&t);
    mysql_data_seek(ids, 0);
    for (size_t i = 0; i < count && status == TN_OK; i++) {
        MYSQL_ROW id = mysql_fetch_row(ids), row;
        unsigned long n = mysql_fetch_lengths(ids)[0];
        mysql_data_seek(reply.rows[0], 0);
        while ((row = mysql_fetch_row(reply.rows[0]))) {
            const unsigned long *lengths = mysql_fetch_lengths(reply.rows[0]);
            if (lengths[0] == n && memcmp(row[0], id[0], n) == 0) {
                status = mv_doc_read(q, row, lengths, &docs[out->n_docs]);
                out->n_docs += status == TN_OK;
                break;
            }
        }
    }
    ms_reply_done(&reply);
    out->docs = docs;
    return status;
}

static tn_status run_list(mv_query *q)
{
    const tn_vis_query *query = q->read->query;
    listing l = {.q = q};
    size_t limit = query->limit ? query->limit : LIMIT_MAX;
    if (limit > LIMIT_MAX)
        return ms_error(q->err, TN_EINVALID, 0, "a page holds %u documents at most", LIMIT_MAX);
    tn_status status = find_keys(&l);
    if (status == TN_OK)
        status = read_position(&l);
    if (status != TN_OK || !q->ns)
        return status;
    ms_text t = {0};
    ms_reply reply = {0};
    put_limit(q, &t);
    status = put_list(&l, &t);
    ms_putf(&t, " LIMIT %zu", limit + 1);
    if (status == TN_OK)
        status = ask(q, &t, &reply);
    ms_text_done(&t);
    if (status == TN_OK) {
        size_t n = (size_t)mysql_num_rows(reply.rows[1]);
        if (n > limit) {
            mysql_data_seek(reply.rows[1], limit - 1);
            MYSQL_ROW row = mysql_fetch_row(reply.rows[1]);
            status =
                write_position(&l, row, mysql_fetch_lengths(reply.rows[1]), &q->read->out->next);
            n = limit;
        }
        if (status == TN_OK && n)
            status = fetch_docs(q, reply.rows[1], n);
    }
    ms_reply_done(&reply);
    return status;
}

/* ---- count -------------------------------------------------------------------------------------- */

static tn_status group_value(mv_query *q, const mv_column *c, const tn_attr *asked, const char *p,
                             size_t n, tn_attr *out)
{
    uint8_t wide[8];
    tn_blob value = {(const uint8_t *)p, n};
    *out = (tn_attr){.name = asked->name, .type = asked->type};
    if (!p)
        return TN_OK;
    if (c->kind == MV_NUMBER) {
        tn_vd_set_i64(wide, strtoll(p, NULL, 10));
        value = (tn_blob){wide, 8};
    } else if (c->kind == MV_CUSTOM) {
        value = mv_value_decode(c->type, value, wide);
    }
    return mv_copy(q, value.p, value.n, &out->value) ? TN_OK : TN_ETOOLARGE;
}

static tn_status give_groups(mv_query *q, MYSQL_RES *rows, const mv_column *columns, size_t n)
{
    tn_vis_page *out = q->read->out;
    size_t count = (size_t)mysql_num_rows(rows);
    tn_vis_group *groups = mv_alloc(q, count * sizeof *groups, _Alignof(tn_vis_group));
    tn_attr *values = mv_alloc(q, count * n * sizeof *values, _Alignof(tn_attr));
    if (!groups || !values)
        return TN_ETOOLARGE;
    for (MYSQL_ROW row; (row = mysql_fetch_row(rows)); out->n_groups++) {
        const unsigned long *lengths = mysql_fetch_lengths(rows);
        groups[out->n_groups] = (tn_vis_group){.values = values, .count = ms_u64(row, (unsigned)n)};
        out->count += ms_u64(row, (unsigned)n);
        for (size_t i = 0; i < n; i++, values++) {
            tn_status status = group_value(q, &columns[i], &q->read->query->group_by[i], row[i],
                                           lengths[i], values);
            if (status != TN_OK)
                return status;
        }
    }
    out->groups = groups;
    return TN_OK;
}

/* Whether the values of one attribute say it all: every match passes a test of it that a run has one row for at most, and
 * nothing else is asked but that there be no division.  NULL: no. */
static const char *single_probe(mv_query *q, bool *no_division)
{
    const tn_vis_query *query = q->read->query;
    const tn_vis_node *own = NULL;
    size_t leaves = 0;
    *no_division = false;
    for (size_t i = 0; i < query->n_filter; i++)
        leaves += query->filter[i].op < TN_VIS_AND || query->filter[i].op > TN_VIS_NOT;
    if (query->n_group_by || leaves != q->n_must)
        return NULL;
    for (size_t i = 0; i < q->n_must; i++) {
        const tn_vis_node *node = q->must[i];
        if (tn_vd_str_is(node->name, "TemporalNamespaceDivision") && node->op == TN_VIS_IS_NULL)
            *no_division = true;
        else if (own)
            return NULL;
        else
            own = node;
    }
    if (!own || own->type == TN_ATTR_TEXT ||
        (own->type == TN_ATTR_KEYWORD_LIST && (own->op != TN_VIS_EQ || own->n_values != 1)))
        return NULL;
    return mv_filter_probe(q, own);
}

/* Entries of an index, less those of runs that have a division: these are few, and one statement is one snapshot. */
static tn_status count_values(mv_query *q, const char *probe, bool no_division)
{
    ms_text t = {0};
    ms_reply reply;
    put_limit(q, &t);
    ms_puts(&t, "SELECT (SELECT COUNT(*) FROM tenon_vis_attr x FORCE INDEX (by_val) WHERE ");
    ms_puts(&t, probe);
    ms_puts(&t, ")");
    if (no_division) {
        ms_putf(&t,
                "-(SELECT COUNT(*) FROM tenon_vis_run d FORCE INDEX (by_close) STRAIGHT_JOIN "
                "tenon_vis_attr x FORCE INDEX (PRIMARY) ON x.run=d.run WHERE d.ns=%u AND d.part=1 "
                "AND ",
                q->ns);
        ms_puts(&t, probe);
        ms_puts(&t, ")");
    }
    tn_status status = ask(q, &t, &reply);
    MYSQL_ROW row = status == TN_OK ? mysql_fetch_row(reply.rows[1]) : NULL;
    if (row)
        q->read->out->count = ms_u64(row, 0);
    ms_reply_done(&reply);
    ms_text_done(&t);
    return status;
}

static tn_status run_count(mv_query *q)
{
    const tn_vis_query *query = q->read->query;
    mv_column columns[KEYS_MAX];
    size_t n = 0;
    ms_text t = {0};
    ms_reply reply = {0};
    tn_status status = TN_OK;
    if (query->n_group_by > KEYS_MAX)
        return ms_error(q->err, TN_EINVALID, 0, "too many fields to group by");
    bool no_division;
    const char *probe = q->ns ? single_probe(q, &no_division) : NULL;
    if (probe)
        return count_values(q, probe, no_division);
    put_limit(q, &t);
    ms_puts(&t, "SELECT ");
    for (; n < query->n_group_by && status == TN_OK; n++) {
        const tn_attr *attr = &query->group_by[n];
        status = mv_column_find(q, attr->name, attr->type, &columns[n]);
        if (status == TN_OK && (attr->type == TN_ATTR_TEXT || attr->type == TN_ATTR_KEYWORD_LIST))
            status = ms_error(q->err, TN_EINVALID, 0, "a Text or KeywordList can't be grouped by");
        const char *sql = status == TN_OK ? mv_column_scalar(q, &columns[n], false) : NULL;
        if (status == TN_OK && !sql)
            status = mv_no_memory(q);
        if (status == TN_OK) {
            ms_puts(&t, sql);
            ms_putf(&t, " AS g%zu,", n);
        }
    }
    bool tally = mv_tally_knows(query);
    ms_puts(&t, tally ? "COALESCE(SUM(d.n),0) AS c" : "COUNT(*)");
    if (status == TN_OK && q->ns && tally) {
        ms_putf(&t, " FROM tenon_vis_tally d WHERE d.ns=%u", q->ns);
        if (q->condition) {
            ms_puts(&t, " AND ");
            ms_puts(&t, q->condition);
        }
    } else if (status == TN_OK && q->ns) {
        status = put_from(q, &t, false);
    }
    for (size_t i = 0; i < n; i++)
        ms_putf(&t, "%sg%zu", i ? "," : " GROUP BY ", i);
    if (tally && n)
        ms_puts(&t, " HAVING c>0");
    ms_putf(&t, " LIMIT %u", GROUPS_MAX);
    if (status == TN_OK && q->ns) {
        status = ask(q, &t, &reply);
        MYSQL_ROW row;
        if (status == TN_OK && n)
            status = give_groups(q, reply.rows[1], columns, n);
        else if (status == TN_OK && (row = mysql_fetch_row(reply.rows[1])))
            q->read->out->count = ms_u64(row, 0);
    }
    ms_reply_done(&reply);
    ms_text_done(&t);
    return status;
}

tn_status mv_read_run(mv_inst *inst, ms_conn *conn, const mv_read *read, tn_error *err)
{
    uint64_t most = inst->host->mono_ns() + 60 * MS_SEC;
    mv_query q = {.inst = inst,
                  .conn = conn,
                  .read = read,
                  .err = err,
                  .limit_ns = inst->host->op_deadline_ns(read->op)};
    if (q.limit_ns > most)
        q.limit_ns = most;
    q.deadline_ns =
        q.limit_ns + 1 * MS_SEC; /* the server ends it; else the connection is given up */
    read->out->n_docs = read->out->n_groups = 0;
    read->out->count = 0;
    read->out->next = (tn_blob){0};
    tn_status status =
        mv_name_find(inst, conn, 0, 0, read->query->ns_id, q.deadline_ns, &q.ns, err);
    if (status == TN_OK)
        status = mv_filter_build(&q);
    if (status == TN_OK)
        status = read->count ? run_count(&q) : run_list(&q);
    ms_pool_done(&q.pool);
    return status;
}
