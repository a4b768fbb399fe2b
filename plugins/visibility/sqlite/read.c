/* SPDX-License-Identifier: MIT */
/* Lists and counts, each in one read transaction: numbers of the rows first, in order, then the rows
 * themselves back to documents in the operation's memory. */
#include "private.h"

#include <stdlib.h>

#define LIMIT_MAX 1000
#define KEYS_MAX 16
#define GROUPS_MAX 10000

typedef struct reading {
    vs_conn *conn;
    const vs_read *read;
    vs_query q;
    vs_plan plan;
    tn_error *err;
} reading;

static const tn_host *host_of(const reading *r) { return r->conn->inst->host; }

static void *alloc(reading *r, size_t n, size_t align)
{
    void *p = host_of(r)->op_alloc(r->read->op, n ? n : 1, align);
    if (!p)
        vs_error(r->err, TN_ETOOLARGE, 0, "the answer does not fit the operation's memory");
    return p;
}

static bool copy(reading *r, const void *p, size_t n, tn_blob *out)
{
    uint8_t *to = alloc(r, n, 1);
    if (!to)
        return false;
    if (n)
        memcpy(to, p, n);
    *out = (tn_blob){to, n};
    return true;
}

static tn_status sql_status(const reading *r, int rc, const char *doing)
{
    return vs_sql_error(r->conn->db, rc, doing, r->err);
}

/* ---- documents -------------------------------------------------------------------------------- */

enum { /* columns of VS_DOC_GET */
       C_PART,
       C_STATUS,
       C_TYPE,
       C_START,
       C_CLOSE,
       C_VER,
       C_TQ,
       C_EXEC,
       C_DUR,
       C_LEN,
       C_SIZE,
       C_TRANS,
       C_PWF,
       C_PRUN,
       C_RWF,
       C_RRUN,
       C_DIV,
       C_SA,
       C_MEMO,
       C_RUN,
       C_WF,
};

typedef struct doc_out {
    reading *r;
    sqlite3_stmt *stmt;
    tn_vis_doc *doc;
    tn_attr *attrs;
    size_t n;
    tn_status status;
} doc_out;

static void add(doc_out *d, const char *name, uint32_t type, tn_blob value)
{
    d->attrs[d->n++] = (tn_attr){.name = {name, strlen(name)}, .type = type, .value = value};
}

static void add_text(doc_out *d, const char *name, const void *p, size_t n)
{
    tn_blob value;
    if (copy(d->r, p, n, &value))
        add(d, name, TN_ATTR_KEYWORD, value);
    else
        d->status = TN_ETOOLARGE;
}

static bool is_null(const doc_out *d, int at)
{
    return sqlite3_column_type(d->stmt, at) == SQLITE_NULL;
}

static void add_name(doc_out *d, const char *name, int at)
{
    int64_t id = sqlite3_column_int64(d->stmt, at);
    tn_str text;
    if (!id || d->status != TN_OK)
        return;
    d->status = vs_name_text(d->r->conn, id, &text, d->r->err);
    if (d->status == TN_OK)
        add_text(d, name, text.p, text.n);
}

static void add_number(doc_out *d, const char *name, uint32_t type, int64_t v)
{
    uint8_t *p = alloc(d->r, 8, 1);
    if (!p) {
        d->status = TN_ETOOLARGE;
        return;
    }
    tn_vd_set_i64(p, v);
    add(d, name, type, (tn_blob){p, 8});
}

static void add_int(doc_out *d, const char *name, int at)
{
    if (!is_null(d, at))
        add_number(d, name, TN_ATTR_INT, sqlite3_column_int64(d->stmt, at));
}

static bool run_text(doc_out *d, int at, tn_str *out)
{
    tn_blob value;
    char text[36];
    const void *p = sqlite3_column_blob(d->stmt, at);
    size_t n = (size_t)sqlite3_column_bytes(d->stmt, at);
    if (sqlite3_column_type(d->stmt, at) == SQLITE_BLOB && n == 16) {
        vs_uuid_text(p, text);
        p = text, n = sizeof text;
    }
    if (!copy(d->r, p, n, &value)) {
        d->status = TN_ETOOLARGE;
        return false;
    }
    *out = (tn_str){(const char *)value.p, value.n};
    return true;
}

/* A text or run id that is the run's own when it is empty; own.p NULL: it never is. */
static void add_related(doc_out *d, const char *name, int at, tn_str own, bool run)
{
    tn_str text;
    if (is_null(d, at))
        return;
    if (own.p && sqlite3_column_bytes(d->stmt, at) == 0) {
        add(d, name, TN_ATTR_KEYWORD, (tn_blob){(const uint8_t *)own.p, own.n});
    } else if (run) {
        if (run_text(d, at, &text))
            add(d, name, TN_ATTR_KEYWORD, (tn_blob){(const uint8_t *)text.p, text.n});
    } else {
        add_text(d, name, sqlite3_column_blob(d->stmt, at),
                 (size_t)sqlite3_column_bytes(d->stmt, at));
    }
}

static void add_custom(doc_out *d, tn_blob attrs)
{
    vs_attr attr;
    tn_blob rest = attrs;
    while (d->status == TN_OK && vs_attrs_next(&rest, &attr)) {
        tn_str name;
        tn_blob kept, value;
        d->status = vs_attr_name(d->r->conn, attr.id, &name, d->r->err);
        if (d->status != TN_OK)
            return;
        if (!copy(d->r, name.p, name.n, &kept) || !copy(d->r, attr.value.p, attr.value.n, &value))
            d->status = TN_ETOOLARGE;
        else
            d->attrs[d->n++] = (tn_attr){
                .name = {(const char *)kept.p, kept.n}, .type = attr.type, .value = value};
    }
    if (d->status == TN_OK && rest.n)
        d->status = vs_error(d->r->err, TN_EDATALOSS, 0, "attributes of a run are damaged");
}

static void add_times(doc_out *d)
{
    int64_t start = sqlite3_column_int64(d->stmt, C_START),
            close = sqlite3_column_int64(d->stmt, C_CLOSE);
    int64_t exec = sqlite3_column_int64(d->stmt, C_EXEC);
    if (start != VS_START_NONE)
        add_number(d, "StartTime", TN_ATTR_DATETIME, start);
    if (!is_null(d, C_EXEC))
        add_number(d, "ExecutionTime", TN_ATTR_DATETIME,
                   start == VS_START_NONE ? exec : start + exec);
    if (close != VS_CLOSE_OPEN)
        add_number(d, "CloseTime", TN_ATTR_DATETIME, close);
}

static void fill_doc(doc_out *d)
{
    tn_vis_doc *doc = d->doc;
    tn_blob wf, none = {NULL, 0};
    tn_blob sa = {sqlite3_column_blob(d->stmt, C_SA), (size_t)sqlite3_column_bytes(d->stmt, C_SA)};
    size_t custom = 0;
    vs_attr attr;
    for (tn_blob rest = sa; vs_attrs_next(&rest, &attr);)
        custom++;
    d->attrs = alloc(d->r, (custom + 20) * sizeof(tn_attr), _Alignof(tn_attr));
    if (!d->attrs || !run_text(d, C_RUN, &doc->run_id) ||
        !copy(d->r, sqlite3_column_blob(d->stmt, C_WF), (size_t)sqlite3_column_bytes(d->stmt, C_WF),
              &wf)) {
        d->status = TN_ETOOLARGE;
        return;
    }
    doc->struct_size = sizeof *doc;
    doc->ns_id = d->r->read->query->ns_id;
    doc->workflow_id = (tn_str){(const char *)wf.p, wf.n};
    doc->version = (uint64_t)sqlite3_column_int64(d->stmt, C_VER);
    add(d, "WorkflowId", TN_ATTR_KEYWORD, wf);
    add(d, "RunId", TN_ATTR_KEYWORD, (tn_blob){(const uint8_t *)doc->run_id.p, doc->run_id.n});
    add_name(d, "WorkflowType", C_TYPE);
    add_name(d, "ExecutionStatus", C_STATUS);
    add_name(d, "TaskQueue", C_TQ);
    add_name(d, "TemporalNamespaceDivision", C_DIV);
    add_times(d);
    add_int(d, "ExecutionDuration", C_DUR);
    add_int(d, "HistoryLength", C_LEN);
    add_int(d, "HistorySizeBytes", C_SIZE);
    add_int(d, "StateTransitionCount", C_TRANS);
    add_related(d, "ParentWorkflowId", C_PWF, (tn_str){NULL, 0}, false);
    add_related(d, "ParentRunId", C_PRUN, (tn_str){NULL, 0}, true);
    add_related(d, "RootWorkflowId", C_RWF, doc->workflow_id, false);
    add_related(d, "RootRunId", C_RRUN, doc->run_id, true);
    add_custom(d, sa);
    doc->memo = none;
    if (d->status == TN_OK && !is_null(d, C_MEMO) &&
        !copy(d->r, sqlite3_column_blob(d->stmt, C_MEMO),
              (size_t)sqlite3_column_bytes(d->stmt, C_MEMO), &doc->memo))
        d->status = TN_ETOOLARGE;
    doc->attrs = d->attrs;
    doc->n_attrs = d->n;
}

static tn_status read_doc(reading *r, int64_t id, tn_vis_doc *doc)
{
    doc_out d = {.r = r, .doc = doc};
    d.stmt = vs_stmt(r->conn, VS_DOC_GET, r->err);
    if (!d.stmt)
        return r->err->code;
    sqlite3_bind_int64(d.stmt, 1, id);
    int rc = sqlite3_step(d.stmt);
    if (rc == SQLITE_ROW)
        fill_doc(&d);
    else
        d.status = rc == SQLITE_DONE
                       ? vs_error(r->err, TN_EDATALOSS, 0, "an index names a run that is not there")
                       : sql_status(r, rc, "read a run");
    sqlite3_reset(d.stmt);
    return d.status;
}

/* ---- positions -------------------------------------------------------------------------------- */

/* "D" or "O", the sort keys of another order (type and value each), then close, start and id. */
static void put_key(vs_bytes *b, sqlite3_stmt *stmt, int at)
{
    uint8_t type = (uint8_t)sqlite3_column_type(stmt, at), wide[8];
    double d = sqlite3_column_double(stmt, at);
    int64_t i = sqlite3_column_int64(stmt, at);
    vs_put(b, &type, 1);
    if (type == SQLITE_FLOAT)
        memcpy(&i, &d, sizeof i);
    tn_vd_set_i64(wide, i);
    if (type == SQLITE_INTEGER || type == SQLITE_FLOAT) {
        vs_put(b, wide, 8);
    } else if (type != SQLITE_NULL) {
        const void *p = sqlite3_column_blob(stmt, at);
        size_t n = (size_t)sqlite3_column_bytes(stmt, at);
        tn_vd_set_i64(wide, (int64_t)n);
        vs_put(b, wide, 8);
        vs_put(b, p, n);
    }
}

static bool get_key(tn_blob *rest, vs_param *out)
{
    memset(out, 0, sizeof *out);
    if (rest->n < 1)
        return false;
    out->type = *rest->p++;
    rest->n--;
    if (out->type == SQLITE_NULL)
        return true;
    if (rest->n < 8)
        return false;
    out->i = tn_vd_get_i64(rest->p);
    rest->p += 8, rest->n -= 8;
    if (out->type == SQLITE_FLOAT)
        memcpy(&out->d, &out->i, sizeof out->d);
    if (out->type == SQLITE_INTEGER || out->type == SQLITE_FLOAT)
        return true;
    if (out->type != SQLITE_TEXT || out->i < 0 || (uint64_t)out->i > rest->n)
        return false;
    out->bytes = (tn_blob){rest->p, (size_t)out->i};
    rest->p += out->i, rest->n -= (size_t)out->i;
    return true;
}

typedef struct position {
    bool given;
    vs_param keys[KEYS_MAX];
    int64_t close, start, id;
} position;

static tn_status read_position(reading *r, position *p)
{
    const tn_vis_query *query = r->read->query;
    tn_blob rest = query->page;
    memset(p, 0, sizeof *p);
    if (rest.n == 0)
        return TN_OK;
    bool ok = rest.p[0] == (query->n_order ? 'O' : 'D');
    rest.p++, rest.n--;
    for (size_t i = 0; i < query->n_order && ok; i++)
        ok = get_key(&rest, &p->keys[i]);
    if (!ok || rest.n != 24)
        return vs_error(r->err, TN_EINVALID, 0, "the page token is not of this query");
    p->close = tn_vd_get_i64(rest.p);
    p->start = tn_vd_get_i64(rest.p + 8);
    p->id = tn_vd_get_i64(rest.p + 16);
    p->given = true;
    return TN_OK;
}

static tn_status write_position(reading *r, sqlite3_stmt *stmt, vs_bytes *out)
{
    size_t n_order = r->read->query->n_order;
    uint8_t tail[24], kind = n_order ? 'O' : 'D';
    out->n = 0;
    vs_put(out, &kind, 1);
    for (size_t i = 0; i < n_order; i++)
        put_key(out, stmt, 3 + (int)i);
    tn_vd_set_i64(tail, sqlite3_column_int64(stmt, 1));
    tn_vd_set_i64(tail + 8, sqlite3_column_int64(stmt, 2));
    tn_vd_set_i64(tail + 16, sqlite3_column_int64(stmt, 0));
    vs_put(out, tail, sizeof tail);
    return out->failed ? vs_error(r->err, TN_EUNAVAILABLE, 0, "out of memory") : TN_OK;
}

/* ---- orders ----------------------------------------------------------------------------------- */

static char *param_sql(vs_query *q, const vs_param *p)
{
    switch (p->type) {
    case SQLITE_INTEGER:
        return vs_int(q, p->i);
    case SQLITE_FLOAT:
        return vs_real(q, p->d);
    case SQLITE_TEXT:
        return vs_text(q, (tn_str){(const char *)p->bytes.p, p->bytes.n});
    default:
        return vs_format(q, "NULL");
    }
}

/* Rows after the position.  What a document lacks counts as greater than everything: it comes last
 * ascending and first descending, as open runs do by CloseTime. */
static char *after_position(vs_query *q, const tn_vis_query *query, const position *p)
{
    char *sql = vs_format(q, "(c,s,i)<(%s,%s,%s)", vs_int(q, p->close), vs_int(q, p->start),
                          vs_int(q, p->id));
    for (size_t k = query->n_order; k-- > 0;) {
        const vs_param *key = &p->keys[k];
        bool null = key->type == SQLITE_NULL, down = query->order[k].descending != 0;
        char *value = param_sql(q, key);
        char *beyond = null   ? vs_format(q, down ? "k%zu IS NOT NULL" : "0", k)
                       : down ? vs_format(q, "k%zu<%s", k, value)
                              : vs_format(q, "(k%zu>%s OR k%zu IS NULL)", k, value, k);
        sql = vs_format(q, "(%s OR (k%zu IS %s AND %s))", beyond, k, value, sql);
    }
    return sql;
}

static tn_status ordered_sql(reading *r, const position *p, char **out)
{
    vs_query *q = &r->q;
    const tn_vis_query *query = r->read->query;
    char *columns = vs_format(q, "%s", ""), *names = columns, *order = columns;
    for (size_t k = 0; k < query->n_order; k++) {
        vs_column column;
        tn_status status = vs_column_find(r->conn, q, r->plan.ns, query->order[k].name,
                                          query->order[k].type, &column, r->err);
        if (status != TN_OK)
            return status;
        bool down = query->order[k].descending != 0;
        const char *scalar = vs_column_scalar(q, &column, down);
        if (!scalar)
            return vs_error(r->err, TN_EINVALID, 0, "a Text has no order");
        columns = vs_format(q, "%s, (%s) AS k%zu", columns, scalar, k);
        names = vs_format(q, "%s, k%zu", names, k);
        order = vs_format(q, "%sk%zu %s, ", order, k, down ? "DESC NULLS FIRST" : "ASC NULLS LAST");
    }
    *out = vs_format(
        q,
        "SELECT i, c, s%s FROM (SELECT d.id AS i, d.close AS c, d.start AS s%s FROM doc d WHERE %s)"
        " WHERE %s ORDER BY %sc DESC, s DESC, i DESC",
        names, columns, vs_plan_condition(q, &r->plan),
        p->given ? after_position(q, query, p) : "1", order);
    return TN_OK;
}

static tn_status list_sql(reading *r, char **out)
{
    position p;
    const tn_vis_query *query = r->read->query;
    if (query->n_order > KEYS_MAX)
        return vs_error(r->err, TN_EINVALID, 0, "too many fields to sort by");
    tn_status status = read_position(r, &p);
    if (status != TN_OK)
        return status;
    if (query->n_order)
        return ordered_sql(r, &p, out);
    char *position_sql = vs_format(&r->q, "%s", "");
    if (p.given)
        position_sql =
            vs_format(&r->q, " AND (d.close,d.start,d.id)<(%s,%s,%s)", vs_int(&r->q, p.close),
                      vs_int(&r->q, p.start), vs_int(&r->q, p.id));
    *out = vs_plan_ordered(&r->q, &r->plan, position_sql);
    return TN_OK;
}

/* ---- list ------------------------------------------------------------------------------------- */

/* One page of numbers.  TN_ENOTFOUND: patience ended first. */
static tn_status list_once(reading *r, int64_t *ids, size_t limit, size_t *out_count,
                           vs_bytes *next)
{
    sqlite3_stmt *stmt = NULL;
    char *sql = NULL;
    tn_status status = list_sql(r, &sql);
    if (status == TN_OK)
        status = vs_query_prepare(r->conn, &r->q, vs_format(&r->q, "%s LIMIT %zu", sql, limit + 1),
                                  &stmt, r->err);
    if (status != TN_OK)
        return status;
    size_t n = 0;
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW && n < limit && status == TN_OK) {
        ids[n++] = sqlite3_column_int64(stmt, 0);
        if (n == limit)
            status = write_position(r, stmt, next);
    }
    if (rc == SQLITE_DONE)
        next->n = 0; /* the page is the last one */
    else if ((rc & 0xff) == SQLITE_INTERRUPT && r->conn->patience_ns < r->conn->deadline_ns)
        status = TN_ENOTFOUND;
    else if (rc != SQLITE_ROW)
        status = sql_status(r, rc, "list");
    sqlite3_finalize(stmt);
    *out_count = n;
    return status;
}

static tn_status list_ids(reading *r, int64_t *ids, size_t limit, size_t *out_count, vs_bytes *next)
{
    bool by_arms = !r->read->query->n_order && r->plan.broad && !r->plan.filter.tally_only;
    if (by_arms)
        r->conn->patience_ns = host_of(r)->mono_ns() + r->conn->inst->options.patience_ns;
    else
        r->plan.scan = r->plan.broad && r->read->query->n_order;
    tn_status status = list_once(r, ids, limit, out_count, next);
    r->conn->patience_ns = UINT64_MAX;
    if (status != TN_ENOTFOUND)
        return status;
    r->plan.scan = true;
    return list_once(r, ids, limit, out_count, next);
}

static tn_status run_list(reading *r)
{
    const tn_vis_query *query = r->read->query;
    tn_vis_page *out = r->read->out;
    size_t limit = query->limit ? query->limit : LIMIT_MAX, count = 0;
    if (limit > LIMIT_MAX)
        return vs_error(r->err, TN_EINVALID, 0, "a page holds %d documents at most", LIMIT_MAX);
    int64_t *ids = vs_query_alloc(&r->q, limit * sizeof *ids);
    if (!ids)
        return vs_error(r->err, TN_EUNAVAILABLE, 0, "out of memory");
    vs_bytes next = {0};
    tn_status status = TN_OK;
    if (r->plan.ns && r->plan.reach > 0)
        status = list_ids(r, ids, limit, &count, &next);
    else if (query->page.n)
        status = read_position(r, &(position){0});
    tn_vis_doc *docs =
        status == TN_OK ? alloc(r, count * sizeof *docs, _Alignof(tn_vis_doc)) : NULL;
    if (status == TN_OK && !docs)
        status = TN_ETOOLARGE;
    for (size_t i = 0; i < count && status == TN_OK; i++)
        status = read_doc(r, ids[i], &docs[i]);
    if (status == TN_OK) {
        out->docs = docs, out->n_docs = count;
        if (next.n && !copy(r, next.p, next.n, &out->next))
            status = TN_ETOOLARGE;
    }
    vs_done(&next);
    return status;
}

/* ---- count ------------------------------------------------------------------------------------ */

typedef struct grouping {
    vs_column columns[KEYS_MAX];
    size_t n;
    char *sql; /* "a, b, " */
    char *by;  /* " GROUP BY 1, 2" */
    bool in_tally;
} grouping;

static tn_status find_grouping(reading *r, grouping *g)
{
    const tn_vis_query *query = r->read->query;
    memset(g, 0, sizeof *g);
    g->sql = g->by = vs_format(&r->q, "%s", "");
    g->in_tally = true;
    if (query->n_group_by > KEYS_MAX)
        return vs_error(r->err, TN_EINVALID, 0, "too many fields to group by");
    for (; g->n < query->n_group_by; g->n++) {
        const tn_attr *attr = &query->group_by[g->n];
        vs_column *c = &g->columns[g->n];
        tn_status status =
            vs_column_find(r->conn, &r->q, r->plan.ns, attr->name, attr->type, c, r->err);
        if (status != TN_OK)
            return status;
        if (c->type == TN_ATTR_TEXT || c->type == TN_ATTR_KEYWORD_LIST)
            return vs_error(r->err, TN_EINVALID, 0, "a Text or KeywordList can't be grouped by");
        const char *sql = c->kind == VS_INTERNED ? c->sql : vs_column_scalar(&r->q, c, false);
        g->sql = vs_format(&r->q, "%s(%s), ", g->sql, sql);
        g->by = vs_format(&r->q, "%s%s%zu", g->by, g->n ? ", " : " GROUP BY ", g->n + 1);
        g->in_tally = g->in_tally && (tn_vd_str_is(attr->name, "WorkflowType") ||
                                      tn_vd_str_is(attr->name, "ExecutionStatus"));
    }
    return TN_OK;
}

static tn_status group_value(reading *r, sqlite3_stmt *stmt, int at, const vs_column *c,
                             tn_attr *out)
{
    const tn_attr *asked = &r->read->query->group_by[at];
    uint8_t wide[8];
    *out = (tn_attr){.name = asked->name, .type = asked->type};
    if (sqlite3_column_type(stmt, at) == SQLITE_NULL)
        return TN_OK;
    int64_t i = sqlite3_column_int64(stmt, at);
    tn_blob from = {sqlite3_column_blob(stmt, at), (size_t)sqlite3_column_bytes(stmt, at)};
    if (c->kind == VS_INTERNED) {
        tn_str text;
        tn_status status = vs_name_text(r->conn, i, &text, r->err);
        if (status != TN_OK)
            return status;
        from = (tn_blob){(const uint8_t *)text.p, text.n};
    } else if (c->type == TN_ATTR_BOOL) {
        wide[0] = i != 0;
        from = (tn_blob){wide, 1};
    } else if (c->type != TN_ATTR_KEYWORD) {
        double d = sqlite3_column_double(stmt, at);
        if (c->type == TN_ATTR_DOUBLE)
            memcpy(&i, &d, sizeof i);
        tn_vd_set_i64(wide, i);
        from = (tn_blob){wide, 8};
    }
    return copy(r, from.p, from.n, &out->value) ? TN_OK : TN_ETOOLARGE;
}

static tn_status read_counts(reading *r, sqlite3_stmt *stmt, const grouping *g)
{
    tn_vis_page *out = r->read->out;
    tn_vis_group *groups = NULL;
    size_t n = 0, cap = 0;
    tn_status status = TN_OK;
    int rc;
    while (status == TN_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        uint64_t count = (uint64_t)sqlite3_column_int64(stmt, (int)g->n);
        out->count += count;
        if (g->n == 0)
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 16;
            tn_vis_group *grown = alloc(r, cap * sizeof *grown, _Alignof(tn_vis_group));
            if (!grown)
                return TN_ETOOLARGE;
            if (n)
                memcpy(grown, groups, n * sizeof *grown);
            groups = grown;
        }
        tn_attr *values = alloc(r, g->n * sizeof *values, _Alignof(tn_attr));
        if (!values)
            return TN_ETOOLARGE;
        for (size_t i = 0; i < g->n && status == TN_OK; i++)
            status = group_value(r, stmt, (int)i, &g->columns[i], &values[i]);
        groups[n++] = (tn_vis_group){.values = values, .count = count};
    }
    if (status == TN_OK && rc != SQLITE_DONE)
        status = sql_status(r, rc, "count");
    out->groups = groups, out->n_groups = n;
    return status;
}

static tn_status run_count(reading *r)
{
    grouping g;
    tn_status status = find_grouping(r, &g);
    if (status != TN_OK || !r->plan.ns || r->plan.reach == 0)
        return status;
    vs_query *q = &r->q;
    char *sql;
    r->plan.scan = r->plan.broad;
    if (r->plan.filter.tally_only && g.in_tally)
        sql = vs_format(q,
                        "SELECT %ssum(d.n) FROM tally d WHERE d.part IN (%lld,%lld) AND d.n>0 AND "
                        "%s%s LIMIT %d",
                        g.sql, (long long)r->plan.ns * 2, (long long)r->plan.ns * 2 + 1,
                        r->plan.filter.sql ? r->plan.filter.sql : "1", g.by, GROUPS_MAX);
    else
        sql = vs_format(q, "SELECT %scount(*) FROM doc d WHERE %s%s LIMIT %d", g.sql,
                        vs_plan_condition(q, &r->plan), g.by, GROUPS_MAX);
    sqlite3_stmt *stmt = NULL;
    status = vs_query_prepare(r->conn, q, sql, &stmt, r->err);
    if (status == TN_OK)
        status = read_counts(r, stmt, &g);
    sqlite3_finalize(stmt);
    return status;
}

tn_status vs_read_run(vs_conn *conn, const vs_read *read, tn_error *err)
{
    reading r = {.conn = conn, .read = read, .err = err};
    conn->deadline_ns = conn->inst->host->op_deadline_ns(read->op);
    if (!vs_stmt(conn, VS_BEGIN_READ, err))
        return err->code;
    tn_status status = vs_run_stmt(conn, VS_BEGIN_READ, "begin", err);
    if (status == TN_OK)
        status = vs_plan_make(conn, &r.q, read->query, &r.plan, err);
    if (status == TN_OK)
        status = read->count ? run_count(&r) : run_list(&r);
    vs_query_done(&r.q);
    conn->deadline_ns = UINT64_MAX;
    tn_error ignored;
    for (size_t i = 0; i < VS_STATEMENTS; i++)
        sqlite3_reset(conn->stmt[i]); /* an open one would keep the transaction */
    if (!sqlite3_get_autocommit(conn->db) && vs_stmt(conn, VS_ROLLBACK, &ignored))
        (void)vs_run_stmt(conn, VS_ROLLBACK, "end", &ignored);
    if (status != TN_OK && err->code != status)
        err->code = status;
    return status;
}
