/* SPDX-License-Identifier: MIT */
/* Lists and counts: they wait for the writes that came before them on their loop, turn names into numbers, and
 * go out as one statement.  The text of a statement depends on the filter's shape only, but it is planned for
 * its values each time: which index serves a filter depends on how many rows its values have. */
#include "private.h"

#include <stdlib.h>

#define LIMIT_MAX 1000
#define GROUPS_MAX 10000
#define TRIES_MAX 10

static void start(vp_read *r);

static void finish(vp_read *r, tn_status status)
{
    const tn_host *host = r->inst->host;
    tn_error err = r->err;
    err.code = status;
    vp_query_done(&r->q);
    vp_wants_done(&r->unknown);
    vp_wants_done(&r->resolve.wants);
    host->op_finish(r->op, status, status == TN_OK ? NULL : &err);
}

static uint64_t deadline(const vp_read *r) { return r->inst->host->op_deadline_ns(r->op); }

/* ---- SQL ---------------------------------------------------------------------------------------- */

/* What comes after the position in this order.  What a document lacks counts as greater than everything: it comes
 * last ascending and first descending, as PostgreSQL sorts NULLs. */
static void put_after(vp_query *q, const tn_vis_query *query, const vp_position *p)
{
    size_t open = 0;
    vp_say(&q->sql, " WHERE ");
    for (size_t k = 0; k < query->n_order; k++) {
        const vp_value *v = &p->keys[k];
        bool down = query->order[k].descending != 0;
        if (v->tag == 'N' && down) {
            vp_say(&q->sql, "(k%zu IS NOT NULL OR (k%zu IS NULL AND ", k, k);
        } else if (v->tag == 'N') {
            vp_say(&q->sql, "(false OR (k%zu IS NULL AND ", k);
        } else {
            const char *cast = vp_column_cast(query->order[k].type);
            int at = vp_param(q, v->bytes.p, v->bytes.n);
            if (down)
                vp_say(&q->sql, "(k%zu < $%d::%s OR (k%zu = $%d::%s AND ", k, at, cast, k, at,
                       cast);
            else
                vp_say(&q->sql, "(k%zu > $%d::%s OR k%zu IS NULL OR (k%zu = $%d::%s AND ", k, at,
                       cast, k, k, at, cast);
        }
        open += 2;
    }
    int close = vp_param_i64(q, p->close), begin = vp_param_i64(q, p->start);
    vp_say(&q->sql, "(d.close, d.start, d.run) < ($%d::int8, $%d::int8, $%d::bytea)", close, begin,
           vp_param(q, p->run.p, p->run.n));
    while (open--)
        vp_say(&q->sql, ")");
}

static tn_status list_by_order(vp_read *r, const vp_position *p)
{
    vp_query *q = &r->q;
    const tn_vis_query *query = r->query;
    vp_tally tally;
    vp_say(&q->sql, "SELECT %s", vp_doc_columns);
    for (size_t k = 0; k < query->n_order; k++)
        vp_say(&q->sql, ", k%zu", k);
    vp_say(&q->sql, " FROM (SELECT d.*");
    for (size_t k = 0; k < query->n_order; k++) {
        vp_column c;
        tn_status status =
            vp_column_find(q->names, query->order[k].name, query->order[k].type, &c, &r->err);
        if (status != TN_OK)
            return status;
        const char *sql = vp_column_scalar(q, &c, query->order[k].descending != 0);
        if (!sql)
            return tn_pg_error(&r->err, TN_EINVALID, "a Text has no order");
        vp_say(&q->sql, ", %s AS k%zu", sql, k);
    }
    vp_say(&q->sql, " FROM tn_vis_doc d WHERE d.ns = $%d::int4", vp_param_i32(q, q->ns));
    tn_status status = vp_filter_put(q, query, &tally, &r->err);
    vp_say(&q->sql, ") d");
    if (p->given)
        put_after(q, query, p);
    vp_say(&q->sql, " ORDER BY ");
    for (size_t k = 0; k < query->n_order; k++)
        vp_say(&q->sql, "k%zu %s, ", k, query->order[k].descending ? "DESC" : "ASC");
    return status;
}

static tn_status list_sql(vp_read *r)
{
    vp_query *q = &r->q;
    vp_position p;
    vp_tally tally;
    if (r->query->n_order > VP_KEYS_MAX)
        return tn_pg_error(&r->err, TN_EINVALID, "too many fields to sort by");
    r->limit = r->query->limit ? r->query->limit : LIMIT_MAX;
    if (r->limit > LIMIT_MAX)
        return tn_pg_error(&r->err, TN_EINVALID, "a page holds %d documents at most", LIMIT_MAX);
    tn_status status = vp_position_read(r->query, &p, &r->err);
    if (status != TN_OK)
        return status;
    if (r->query->n_order) {
        status = list_by_order(r, &p);
    } else {
        vp_say(&q->sql, "SELECT %s FROM tn_vis_doc d WHERE d.ns = $%d::int4", vp_doc_columns,
               vp_param_i32(q, q->ns));
        status = vp_filter_put(q, r->query, &tally, &r->err);
        if (p.given) {
            int close = vp_param_i64(q, p.close), begin = vp_param_i64(q, p.start);
            vp_say(&q->sql, " AND (d.close, d.start, d.run) < ($%d::int8, $%d::int8, $%d::bytea)",
                   close, begin, vp_param(q, p.run.p, p.run.n));
        }
        vp_say(&q->sql, " ORDER BY ");
    }
    vp_say(&q->sql, "d.close DESC, d.start DESC, d.run DESC LIMIT %zu", r->limit + 1);
    return status;
}

/* What groups are made by, and whether the tallies know it. */
static tn_status put_groups(vp_query *q, const tn_vis_query *query, vp_text *columns,
                            vp_tally *tally, tn_error *err)
{
    if (query->n_group_by > VP_KEYS_MAX)
        return tn_pg_error(err, TN_EINVALID, "too many fields to group by");
    for (size_t k = 0; k < query->n_group_by; k++) {
        vp_column c;
        tn_status status =
            vp_column_find(q->names, query->group_by[k].name, query->group_by[k].type, &c, err);
        if (status == TN_OK && (c.type == TN_ATTR_TEXT || c.type == TN_ATTR_KEYWORD_LIST))
            status = tn_pg_error(err, TN_EINVALID, "a Text or KeywordList can't be grouped by");
        if (status != TN_OK)
            return status;
        bool name = c.kind == VP_NAME;
        if (!name || strcmp(c.sql, "d.tq") == 0)
            *tally = VP_TALLY_NONE;
        vp_say(columns, "%s AS g%zu, ", name ? c.sql : vp_column_scalar(q, &c, false), k);
        if (name)
            vp_say(&q->sql, "(SELECT s FROM tn_vis_name WHERE id = g%zu), ", k);
        else
            vp_say(&q->sql, "g%zu, ", k);
    }
    return TN_OK;
}

/* Whether all keys of the filter are counted by the tally of common values. */
#define ARE_COMMON \
    "(SELECT %sEXISTS (SELECT FROM unnest($%d::int8[]) u WHERE NOT EXISTS (SELECT FROM " \
    "tn_vis_common c WHERE c.key = u AND c.ready)))"

/* SELECT ... FROM one of the three tables.  For a value that may be common or not there are two of them, of which the
 * database does the one that fits: both are decided by one snapshot, so the number is exact. */
static tn_status put_count(vp_query *q, const tn_vis_query *query, const vp_text *columns,
                           const char *table, const char *many, tn_error *err)
{
    vp_tally ignored;
    bool rows = strcmp(table, "tn_vis_doc") == 0;
    vp_say(&q->sql, "SELECT ");
    vp_put(&q->sql, columns->p, columns->n);
    vp_say(&q->sql, "%s AS n, %s AS many FROM %s d WHERE d.ns = $%d::int4",
           rows ? "count(*)" : "sum(d.n)::int8", many, table, vp_param_i32(q, q->ns));
    q->by_key = strcmp(table, "tn_vis_common_tally") == 0;
    tn_status status = vp_filter_put(q, query, &ignored, err);
    if (q->by_key)
        vp_say(&q->sql, " AND " ARE_COMMON, "NOT ", q->keys_at);
    q->by_key = false;
    for (size_t k = 0; k < query->n_group_by; k++)
        vp_say(&q->sql, "%s%zu", k ? ", " : " GROUP BY ", k + 1);
    return status;
}

static tn_status count_sql(vp_read *r)
{
    vp_query *q = &r->q, filter = {.names = q->names, .ns = q->ns};
    const tn_vis_query *query = r->query;
    vp_tally tally;
    vp_text columns = {0};
    /* Which tally answers is known when the filter is written, which stands behind its table. */
    tn_status status = vp_filter_put(&filter, query, &tally, &r->err);
    vp_query_done(&filter);
    vp_say(&q->sql, "SELECT ");
    if (status == TN_OK)
        status = put_groups(q, query, &columns, &tally, &r->err);
    vp_say(&q->sql, "n, many FROM (");
    if (status == TN_OK && tally == VP_TALLY_COMMON && r->inst->common_rows) {
        status = put_count(q, query, &columns, "tn_vis_common_tally", "false", &r->err);
        vp_say(&q->sql, " UNION ALL SELECT * FROM (");
        if (status == TN_OK)
            status = put_count(q, query, &columns, "tn_vis_doc", "true", &r->err);
        /* Outside, so that what is not wanted starts no parallel workers. */
        vp_say(&q->sql, ") y WHERE " ARE_COMMON, "", q->keys_at);
    } else if (status == TN_OK) {
        status = put_count(q, query, &columns,
                           tally == VP_TALLY_ALL ? "tn_vis_tally" : "tn_vis_doc", "false", &r->err);
    }
    vp_say(&q->sql, ") x WHERE n > 0 LIMIT %d", GROUPS_MAX);
    q->sql.failed = q->sql.failed || columns.failed;
    vp_text_done(&columns);
    return status;
}

/* ---- the statement ------------------------------------------------------------------------------ */

static vp_read *read_of(tn_pg_req *req)
{
    return (vp_read *)((char *)req - offsetof(vp_read, req));
}

static bool send(tn_pg_req *req, PGconn *db)
{
    vp_read *r = read_of(req);
    vp_query *q = &r->q;
    return PQsendQueryParams(db, q->sql.p, q->n_params, NULL, q->values, q->lengths, q->formats,
                             1) == 1;
}

static void take(tn_pg_req *req, uint32_t index, PGresult *result)
{
    (void)index;
    vp_read *r = read_of(req);
    r->status = TN_OK;
    vp_wants_done(&r->unknown);
    if (r->count)
        vp_answer_count(r, result);
    else
        vp_answer_list(r, result);
}

/* A cancel that was meant for the statement before, and came late; or the connection died while the request
 * was handed over. */
static bool by_mistake(const vp_read *r, tn_pg_end end, const tn_error *err, const char *sqlstate)
{
    bool dead = end == TN_PG_FAILED && !sqlstate[0] && err->code == TN_EUNAVAILABLE;
    return end != TN_PG_DONE && (dead || strcmp(sqlstate, "57014") == 0) && r->tries < TRIES_MAX &&
           r->inst->host->mono_ns() < deadline(r);
}

static void again(vp_resolve *resolve, tn_pg_end end, const tn_error *err, const char *sqlstate)
{
    vp_read *r = (vp_read *)((char *)resolve - offsetof(vp_read, resolve));
    if (end == TN_PG_DONE || by_mistake(r, end, err, sqlstate)) {
        start(r);
        return;
    }
    r->err = *err;
    finish(r, end == TN_PG_FAILED ? err->code : TN_EUNAVAILABLE);
}

static void answered(tn_pg_req *req, tn_pg_end end, const tn_error *err, const char *sqlstate)
{
    vp_read *r = read_of(req);
    if (by_mistake(r, end, err, sqlstate)) {
        start(r);
        return;
    }
    if (end != TN_PG_DONE) {
        r->err = *err;
        if (strcmp(sqlstate, "57014") == 0)
            tn_pg_error(&r->err, TN_EUNAVAILABLE, "did not end in time");
        finish(r,
               end == TN_PG_FAILED && r->err.code != TN_EUNCERTAIN ? r->err.code : TN_EUNAVAILABLE);
        return;
    }
    if (r->status == TN_OK && r->unknown.n_ids && r->tries < TRIES_MAX) {
        /* Attributes that another server has made: ask for them, and then once more. */
        r->resolve.wants = r->unknown;
        r->unknown = (vp_wants){0};
        r->resolve.make = false;
        r->resolve.then = again;
        vp_resolve_start(&r->resolve, r->side, 0, deadline(r));
        return;
    }
    if (r->status == TN_OK && r->unknown.n_ids)
        r->status =
            tn_pg_error(&r->err, TN_EDATALOSS, "a run has an attribute that the database lacks");
    if (r->many)
        vp_common_look(r->side);
    finish(r, r->status);
}

static void ask(vp_read *r)
{
    vp_query_done(&r->q);
    r->q.names = &r->side->names;
    r->q.ns = vp_name_find(&r->side->names, r->query->ns_id);
    tn_status status = r->count ? count_sql(r) : list_sql(r);
    vp_put(&r->q.sql, "", 1);
    if (status == TN_OK && vp_query_failed(&r->q))
        status = tn_pg_error(&r->err, TN_EUNAVAILABLE, "out of memory");
    if (status != TN_OK || r->q.ns == 0) { /* a namespace without documents: no rows */
        finish(r, status);
        return;
    }
    r->req = (tn_pg_req){.flags = TN_PG_REPEAT | TN_PG_CANCEL,
                         .deadline_ns = deadline(r),
                         .send = send,
                         .result = take,
                         .done = answered};
    tn_pg_submit(r->side->conn, &r->req);
}

static void resolved(vp_resolve *resolve, tn_pg_end end, const tn_error *err, const char *sqlstate)
{
    vp_read *r = (vp_read *)((char *)resolve - offsetof(vp_read, resolve));
    if (end == TN_PG_DONE && r->epoch == r->side->names.epoch)
        ask(r); /* what is not known now does not exist */
    else
        again(resolve, end, err, sqlstate);
}

/* [owner's loop of the connection that reads] */
static void start(vp_read *r)
{
    vp_side *side = r->side;
    if (r->tries == 0)
        vp_names_trim(&side->names);
    vp_filter_wants(&r->resolve.wants, &side->names, r->query);
    if (r->resolve.wants.failed || r->tries++ >= TRIES_MAX) {
        tn_pg_error(&r->err, TN_EUNAVAILABLE, "out of memory");
        finish(r, TN_EUNAVAILABLE);
        return;
    }
    if (r->resolve.wants.n == 0) {
        ask(r);
        return;
    }
    r->epoch = side->names.epoch;
    r->resolve.make = false;
    r->resolve.then = resolved;
    vp_resolve_start(&r->resolve, side, 0, deadline(r));
}

/* ---- before it ---------------------------------------------------------------------------------- */

static void arrive(void *arg) { start(arg); }

/* [loop of the op] */
static void to_reader(void *arg)
{
    vp_read *r = arg;
    tn_pg_link *link = r->ctx->read ? r->ctx->read : r->ctx->write;
    r->side = vp_side_of(link);
    if (tn_pg_run(link, arrive, r) != TN_OK) {
        tn_pg_error(&r->err, TN_EUNAVAILABLE, "the server is going down");
        finish(r, TN_EUNAVAILABLE);
    }
}

/* [owner's loop of the connection that writes] */
static void go_on(vp_read *r)
{
    if (r->ctx->loop == tn_pg_loop(r->side->conn)) {
        to_reader(r);
    } else if (r->inst->host->post(r->ctx->loop, to_reader, r) != TN_OK) {
        tn_pg_error(&r->err, TN_EUNAVAILABLE, "the server is going down");
        finish(r, TN_EUNAVAILABLE);
    }
}

void vp_reads_go_on(vp_side *side)
{
    vp_read *all = side->reads, *next;
    side->reads = NULL;
    for (vp_read *r = all; r; r = next) {
        next = r->next;
        r->next = NULL;
        if (r->barrier <= side->settled) {
            go_on(r);
        } else {
            r->next = side->reads;
            side->reads = r;
        }
    }
}

static void wait_for_writes(void *arg)
{
    vp_read *r = arg;
    vp_side *side = r->side;
    r->barrier = side->taken;
    if (side->settled >= r->barrier) {
        go_on(r);
        return;
    }
    r->next = side->reads;
    side->reads = r;
    vp_write_hurry(side);
}

void vp_read_begin(vp_read *r)
{
    r->side = vp_side_of(r->ctx->write);
    if (tn_pg_run(r->ctx->write, wait_for_writes, r) != TN_OK) {
        tn_pg_error(&r->err, TN_EUNAVAILABLE, "the server is going down");
        finish(r, TN_EUNAVAILABLE);
    }
}
