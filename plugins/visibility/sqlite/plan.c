/* SPDX-License-Identifier: MIT */
/* Which index answers a query.  Three ways, none of which changes what the answer is, since the whole
 * filter is always tested:
 *   - a driver: a comparison that few rows pass (probed up to a bound) names them; they are then sorted;
 *   - arms: the tally says which statuses and types there are; each is read from an index in the default
 *     order and the arms are merged, so that the first page costs a page;
 *   - a scan, for orders of other kinds and for counts that the tally can't give; and for lists whose
 *     arms have found too little for too long. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>

#define GROUPS_MAX 4096
#define ARMS_MAX 200
#define ARMS_BYTES_MAX ((size_t)2 << 20)
#define DRIVER_ROWS_MAX 2000
#define DRIVER_VALUES_MAX 200

/* ---- what the comparisons that must hold say -------------------------------------------------- */

static int64_t value_i64(const tn_vis_node *node, size_t i)
{
    return tn_vd_get_i64(node->values[i].p);
}

static void raise_low(vs_plan *plan, int64_t v)
{
    if (v > plan->close_low)
        plan->close_low = v;
}

static void lower_high(vs_plan *plan, int64_t v)
{
    if (v < plan->close_high)
        plan->close_high = v;
}

static void bound_close(vs_plan *plan, const tn_vis_node *node)
{
    switch (node->op) {
    case TN_VIS_EQ:
        raise_low(plan, value_i64(node, 0));
        lower_high(plan, value_i64(node, 0));
        break;
    case TN_VIS_LT:
    case TN_VIS_LE:
        lower_high(plan, value_i64(node, 0));
        break;
    case TN_VIS_GT:
    case TN_VIS_GE:
        raise_low(plan, value_i64(node, 0));
        break;
    case TN_VIS_BETWEEN:
        raise_low(plan, value_i64(node, 0));
        lower_high(plan, value_i64(node, 1));
        break;
    case TN_VIS_IS_NULL:
        raise_low(plan, VS_CLOSE_OPEN);
        return;
    default:
        break;
    }
    lower_high(plan, VS_CLOSE_OPEN - 1);
}

/* What started later closed later; open ones count as closed at the end of time. */
static void bound_start(vs_plan *plan, const tn_vis_node *node)
{
    if (node->op == TN_VIS_EQ || node->op == TN_VIS_GT || node->op == TN_VIS_GE ||
        node->op == TN_VIS_BETWEEN)
        raise_low(plan, value_i64(node, 0));
}

static bool names_ids(const tn_vis_node *node)
{
    return node->op == TN_VIS_EQ || node->op == TN_VIS_IN;
}

static void read_must(vs_plan *plan)
{
    for (size_t i = 0; i < plan->filter.n_must; i++) {
        const tn_vis_node *node = plan->filter.must[i];
        if (tn_vd_str_is(node->name, "CloseTime"))
            bound_close(plan, node);
        else if (tn_vd_str_is(node->name, "StartTime"))
            bound_start(plan, node);
        else if (tn_vd_str_is(node->name, "WorkflowType") && names_ids(node))
            plan->by_type = true;
        else if (tn_vd_str_is(node->name, "TemporalNamespaceDivision"))
            plan->parts[node->op == TN_VIS_IS_NULL ? 1 : 0] = false;
    }
}

/* ---- groups ----------------------------------------------------------------------------------- */

/* Whether the group's status or type passes the comparison; ids: of its values. */
static bool passes(const tn_vis_node *node, int64_t id, const int64_t *ids)
{
    if (!names_ids(node))
        return true;
    for (size_t i = 0; i < node->n_values; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static tn_status keep_passing(vs_conn *conn, vs_query *q, vs_plan *plan, const tn_vis_node *node,
                              bool type, tn_error *err)
{
    int64_t *ids = vs_query_alloc(q, (node->n_values + 1) * sizeof *ids);
    if (!ids)
        return vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    for (size_t i = 0; i < node->n_values; i++) {
        tn_str text = {(const char *)node->values[i].p, node->values[i].n};
        tn_status status = vs_name_find(conn, text, &ids[i], err);
        if (status != TN_OK)
            return status;
        if (!ids[i])
            ids[i] = -1;
    }
    size_t n = 0;
    for (size_t i = 0; i < plan->n_groups; i++)
        if (passes(node, type ? plan->groups[i].type : plan->groups[i].status, ids))
            plan->groups[n++] = plan->groups[i];
    plan->n_groups = n;
    return TN_OK;
}

static void take_group(vs_plan *plan, const vs_group *group)
{
    if (plan->parts[group->part & 1])
        plan->groups[plan->n_groups++] = *group;
}

static tn_status read_groups(vs_conn *conn, vs_plan *plan, bool *out_many, tn_error *err)
{
    sqlite3_stmt *stmt = vs_stmt(conn, VS_TALLY_ROWS, err);
    if (!stmt)
        return err->code;
    size_t rows = 0;
    int rc;
    sqlite3_bind_int64(stmt, 1, plan->ns * 2);
    sqlite3_bind_int64(stmt, 2, GROUPS_MAX + 1);
    plan->n_groups = 0;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW && rows++ < GROUPS_MAX)
        take_group(plan, &(vs_group){sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1),
                                     sqlite3_column_int64(stmt, 2), sqlite3_column_int64(stmt, 3)});
    *out_many = rows > GROUPS_MAX;
    tn_status status =
        rc == SQLITE_ROW || rc == SQLITE_DONE ? TN_OK : vs_sql_error(conn->db, rc, "query", err);
    sqlite3_reset(stmt);
    return status;
}

/* Too many types: one group a status. */
static tn_status read_statuses(vs_conn *conn, vs_plan *plan, tn_error *err)
{
    sqlite3_stmt *stmt = NULL;
    char sql[160];
    snprintf(sql, sizeof sql,
             "SELECT part, status, sum(n) FROM tally WHERE part IN (%lld, %lld) AND n > 0"
             " GROUP BY part, status LIMIT %d",
             (long long)plan->ns * 2, (long long)plan->ns * 2 + 1, GROUPS_MAX);
    vs_query none = {0};

    tn_status status = vs_query_prepare(conn, &none, sql, &stmt, err);
    if (status != TN_OK)
        return status;
    int rc;
    plan->n_groups = 0;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
        take_group(plan, &(vs_group){sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1),
                                     0, sqlite3_column_int64(stmt, 2)});
    status = rc == SQLITE_DONE ? TN_OK : vs_sql_error(conn->db, rc, "query", err);
    sqlite3_finalize(stmt);
    return status;
}

static tn_status find_groups(vs_conn *conn, vs_query *q, vs_plan *plan, tn_error *err)
{
    bool many = false;
    plan->groups = vs_query_alloc(q, GROUPS_MAX * sizeof *plan->groups);
    if (!plan->groups)
        return vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    tn_status status = read_groups(conn, plan, &many, err);
    if (status == TN_OK && many) {
        plan->by_type = false;
        status = read_statuses(conn, plan, err);
    }
    for (size_t i = 0; i < plan->filter.n_must && status == TN_OK; i++) {
        const tn_vis_node *node = plan->filter.must[i];
        bool type = tn_vd_str_is(node->name, "WorkflowType");
        if ((type && !many) || tn_vd_str_is(node->name, "ExecutionStatus"))
            status = keep_passing(conn, q, plan, node, type, err);
    }
    for (size_t i = 0; i < plan->n_groups; i++)
        plan->reach += plan->groups[i].count;
    return status;
}

/* Whether the index would lead to most rows anyway, one by one. */
static tn_status find_broad(vs_conn *conn, vs_plan *plan, tn_error *err)
{
    if (plan->driver || plan->close_low > INT64_MIN || plan->reach < 200)
        return TN_OK;
    sqlite3_stmt *stmt = vs_stmt(conn, VS_TALLY_ALL, err);
    if (!stmt)
        return err->code;
    sqlite3_bind_int64(stmt, 1, 4 * GROUPS_MAX);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        plan->broad = plan->reach > sqlite3_column_int64(stmt, 0) / 4;
    tn_status status = rc == SQLITE_ROW ? TN_OK : vs_sql_error(conn->db, rc, "query", err);
    sqlite3_reset(stmt);
    return status;
}

/* ---- drivers ---------------------------------------------------------------------------------- */

/* "val=?1", "val IN (...)", "val>=?1 AND val<?2": NULL when the index does not help. */
static char *index_condition(vs_query *q, const char *column, const tn_vis_node *node,
                             uint32_t type)
{
    static const char *const signs[] = {
        [TN_VIS_LT] = "<", [TN_VIS_LE] = "<=", [TN_VIS_GT] = ">", [TN_VIS_GE] = ">="};
    switch (node->op) {
    case TN_VIS_EQ:
    case TN_VIS_IN: {
        if (node->n_values > DRIVER_VALUES_MAX)
            return NULL;
        char *list = vs_format(q, "%s", "");
        for (size_t i = 0; i < node->n_values; i++)
            list = vs_format(q, "%s%s%s", list, i ? "," : "", vs_value(q, type, node->values[i]));
        return vs_format(q, "%s IN (%s)", column, list);
    }
    case TN_VIS_LT:
    case TN_VIS_LE:
    case TN_VIS_GT:
    case TN_VIS_GE:
        return vs_format(q, "%s%s%s", column, signs[node->op], vs_value(q, type, node->values[0]));
    case TN_VIS_BETWEEN:
        return vs_format(q, "%s BETWEEN %s AND %s", column, vs_value(q, type, node->values[0]),
                         vs_value(q, type, node->values[1]));
    case TN_VIS_STARTS: {
        tn_blob v = node->values[0];
        uint8_t *end = vs_query_alloc(q, v.n + 1);
        if (!end || v.n == 0 || v.p[v.n - 1] == 0xff)
            return NULL;
        memcpy(end, v.p, v.n);
        end[v.n - 1]++;
        return vs_format(q, "%s>=%s AND %s<%s", column, vs_value(q, TN_ATTR_KEYWORD, v), column,
                         vs_text(q, (tn_str){(char *)end, v.n}));
    }
    default:
        return NULL;
    }
}

static char *words_condition(vs_query *q, const tn_vis_node *node)
{
    if (node->op != TN_VIS_EQ)
        return NULL;
    tn_vd_words it;
    char *list = vs_format(q, "%s", "");
    size_t n = 0;
    tn_vd_words_begin(&it, node->values[0]);
    while (n < DRIVER_VALUES_MAX && tn_vd_words_next(&it)) {
        char *copy = vs_query_alloc(q, it.n);
        if (!copy)
            return NULL;
        memcpy(copy, it.word, it.n);
        list = vs_format(q, "%s%s%s", list, n++ ? "," : "", vs_text(q, (tn_str){copy, it.n}));
    }
    return n < DRIVER_VALUES_MAX ? vs_format(q, "val IN (%s)", list) : NULL;
}

static char *run_driver(vs_query *q, const tn_vis_node *node)
{
    if (!names_ids(node) || node->n_values > DRIVER_VALUES_MAX)
        return NULL;
    char *sql = NULL;
    for (size_t i = 0; i < node->n_values; i++) {
        tn_str text = {(const char *)node->values[i].p, node->values[i].n};
        vs_run run;
        vs_run_parse(text, &run);
        sql = vs_format(q, "%s%sSELECT id FROM doc WHERE id BETWEEN %lld AND %lld AND run=%s",
                        sql ? sql : "", sql ? " UNION ALL " : "", (long long)run.slot,
                        (long long)run.slot + VS_SLOTS - 1, vs_run_param(q, text));
    }
    return sql;
}

/* SQL of the rows that may pass the comparison, by an index; NULL: none helps. */
static tn_status driver_for(vs_conn *conn, vs_query *q, const vs_plan *plan,
                            const tn_vis_node *node, char **out, tn_error *err)
{
    vs_column column;
    *out = NULL;
    tn_status status = vs_column_find(conn, q, plan->ns, node->name, node->type, &column, err);
    if (status != TN_OK)
        return status;
    if (tn_vd_str_is(node->name, "RunId")) {
        *out = run_driver(q, node);
        return TN_OK;
    }
    if (tn_vd_str_is(node->name, "WorkflowId")) {
        char *condition = index_condition(q, "wf", node, TN_ATTR_KEYWORD);
        if (condition)
            *out = vs_format(
                q, "SELECT id FROM doc INDEXED BY doc_wf WHERE part IN (%lld,%lld) AND %s",
                (long long)plan->ns * 2, (long long)plan->ns * 2 + 1, condition);
        return TN_OK;
    }
    int64_t attr = column.attr;
    if (tn_vd_str_is(node->name, "ParentWorkflowId"))
        status = vs_attr_find(conn, plan->ns, node->name, TN_ATTR_KEYWORD, &attr, err);
    if (status != TN_OK || !attr)
        return status;
    if (node->op == TN_VIS_NOT_NULL && node->type != TN_ATTR_KEYWORD_LIST &&
        node->type != TN_ATTR_TEXT) {
        *out = vs_format(q, "SELECT doc FROM kv WHERE attr=%lld", (long long)attr);
        return TN_OK;
    }
    char *condition =
        node->type == TN_ATTR_TEXT ? words_condition(q, node)
        : node->type == TN_ATTR_KEYWORD_LIST
            ? names_ids(node) ? index_condition(q, "val", node, TN_ATTR_KEYWORD) : NULL
            : index_condition(q, "val", node, node->type);
    if (condition)
        *out =
            vs_format(q, "SELECT doc FROM kv WHERE attr=%lld AND %s", (long long)attr, condition);
    return TN_OK;
}

/* Rows that the driver gives, counted no further than the bound. */
static tn_status probe(vs_conn *conn, vs_query *q, const char *driver, int64_t bound, int64_t *out,
                       tn_error *err)
{
    sqlite3_stmt *stmt = NULL;
    char *sql = vs_format(q, "SELECT count(*) FROM (SELECT 1 FROM (%s) LIMIT %lld)", driver,
                          (long long)bound);
    tn_status status = vs_query_prepare(conn, q, sql, &stmt, err);
    if (status != TN_OK)
        return status;
    int rc = sqlite3_step(stmt);
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : bound;
    status = rc == SQLITE_ROW ? TN_OK : vs_sql_error(conn->db, rc, "query", err);
    sqlite3_finalize(stmt);
    return status;
}

static tn_status find_driver(vs_conn *conn, vs_query *q, vs_plan *plan, tn_error *err)
{
    int64_t best = DRIVER_ROWS_MAX + 1;
    for (size_t i = 0; i < plan->filter.n_must && i < 20 && best > 10; i++) {
        char *driver = NULL;
        int64_t rows;
        tn_status status = driver_for(conn, q, plan, plan->filter.must[i], &driver, err);
        if (status == TN_OK && driver)
            status = probe(conn, q, driver, best, &rows, err);
        if (status != TN_OK)
            return status;
        if (driver && rows < best)
            best = rows, plan->driver = driver;
    }
    return TN_OK;
}

/* ---- the plan --------------------------------------------------------------------------------- */

tn_status vs_plan_make(vs_conn *conn, vs_query *q, const tn_vis_query *query, vs_plan *out,
                       tn_error *err)
{
    memset(out, 0, sizeof *out);
    out->parts[0] = out->parts[1] = true;
    out->close_low = INT64_MIN;
    out->close_high = INT64_MAX;
    tn_status status = vs_name_find(conn, query->ns_id, &out->ns, err);
    if (status != TN_OK)
        return status;
    /* The filter is built also when there is nothing to find, for the sake of its faults. */
    status = vs_filter_build(conn, q, out->ns, query, &out->filter, err);
    if (status != TN_OK || !out->ns)
        return status;
    read_must(out);
    status = find_groups(conn, q, out, err);
    if (status == TN_OK && out->reach > 0 && !out->filter.tally_only)
        status = find_driver(conn, q, out, err);
    return status == TN_OK ? find_broad(conn, out, err) : status;
}

static char *bounds(vs_query *q, const vs_plan *plan, const char *plus)
{
    char *sql = vs_format(q, "%s", "");
    if (plan->close_low > INT64_MIN)
        sql = vs_format(q, " AND %sd.close>=%s", plus, vs_int(q, plan->close_low));
    if (plan->close_high < INT64_MAX)
        sql = vs_format(q, "%s AND %sd.close<=%s", sql, plus, vs_int(q, plan->close_high));
    return sql;
}

static char *residue(vs_query *q, const vs_plan *plan)
{
    return plan->filter.sql ? vs_format(q, " AND %s", plan->filter.sql) : vs_format(q, "%s", "");
}

/* "1,2,5": the distinct statuses or types of the groups. */
static char *distinct(vs_query *q, const vs_plan *plan, bool type)
{
    char *list = vs_format(q, "%s", "");
    for (size_t i = 0; i < plan->n_groups; i++) {
        int64_t id = type ? plan->groups[i].type : plan->groups[i].status;
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++)
            seen = (type ? plan->groups[k].type : plan->groups[k].status) == id;
        if (!seen)
            list = vs_format(q, "%s%s%lld", list, *list ? "," : "", (long long)id);
    }
    return list;
}

char *vs_plan_condition(vs_query *q, const vs_plan *plan)
{
    char *parts =
        vs_format(q, "%s%s%s", plan->parts[0] ? vs_format(q, "%lld", (long long)plan->ns * 2) : "",
                  plan->parts[0] && plan->parts[1] ? "," : "",
                  plan->parts[1] ? vs_format(q, "%lld", (long long)plan->ns * 2 + 1) : "");
    if (plan->scan) /* the pluses keep SQLite from walking an index instead */
        return vs_format(q, "+d.part IN (%s)%s%s", parts, bounds(q, plan, "+"), residue(q, plan));
    if (plan->driver)
        return vs_format(q, "d.id IN (%s) AND +d.part IN (%s)%s%s", plan->driver, parts,
                         bounds(q, plan, "+"), residue(q, plan));
    char *types = plan->by_type && plan->n_groups <= ARMS_MAX
                      ? vs_format(q, " AND d.type IN (%s)", distinct(q, plan, true))
                      : vs_format(q, "%s", "");
    return vs_format(q, "d.part IN (%s)%s AND d.status IN (%s)%s%s", parts, types,
                     distinct(q, plan, false), bounds(q, plan, ""), residue(q, plan));
}

/* ---- arms ------------------------------------------------------------------------------------- */

/* One arm a part and status (and type): the conditions on the index's columns. */
static char **arms(vs_query *q, const vs_plan *plan, size_t *out_count, bool *out_types)
{
    bool types = plan->by_type && plan->n_groups <= ARMS_MAX;
    char **list = vs_query_alloc(q, (plan->n_groups + 1) * sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < plan->n_groups && list; i++) {
        const vs_group *g = &plan->groups[i];
        bool seen = false;
        for (size_t k = 0; k < i && !seen && !types; k++)
            seen = plan->groups[k].part == g->part && plan->groups[k].status == g->status;
        if (seen)
            continue;
        list[n++] = types ? vs_format(q, "d.part=%lld AND d.type=%lld AND d.status=%lld",
                                      (long long)g->part, (long long)g->type, (long long)g->status)
                          : vs_format(q, "d.part=%lld AND d.status=%lld", (long long)g->part,
                                      (long long)g->status);
    }
    *out_count = n;
    *out_types = types;
    return list;
}

char *vs_plan_ordered(vs_query *q, const vs_plan *plan, const char *position)
{
    static const char select[] = "SELECT d.id, d.close, d.start FROM doc d";
    size_t n = 0;
    bool types = false;
    char **list = plan->driver || plan->scan ? NULL : arms(q, plan, &n, &types);
    char *rest = vs_format(q, "%s%s%s", bounds(q, plan, plan->driver ? "+" : ""), position,
                           residue(q, plan));
    if (n == 0 || n > ARMS_MAX || n * strlen(rest) > ARMS_BYTES_MAX)
        return vs_format(q, "%s WHERE %s %s ORDER BY 2 DESC, 3 DESC, 1 DESC", select,
                         vs_plan_condition(q, plan), position);
    vs_bytes sql = {0};
    for (size_t i = 0; i < n; i++) {
        char *arm = vs_format(q, "%s%s INDEXED BY %s WHERE %s%s", i ? " UNION ALL " : "", select,
                              types ? "doc_type" : "doc_status", list[i], rest);
        vs_put(&sql, arm, strlen(arm));
    }
    static const char order[] = " ORDER BY 2 DESC, 3 DESC, 1 DESC";
    vs_put(&sql, order, sizeof order);
    char *text = vs_query_alloc(q, sql.n + 1);
    q->failed = q->failed || sql.failed;
    if (text && sql.n)
        memcpy(text, sql.p, sql.n);
    vs_done(&sql);
    return text ? text : vs_format(q, "%s", "");
}
