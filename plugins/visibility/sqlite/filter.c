/* SPDX-License-Identifier: MIT */
/* The postfix filter as an SQL condition over a row d of doc (or of tally, when it asks for no more than
 * that has).  SQL's three-valued logic is the contract's: a test of what is not there is NULL. */
#include "private.h"

#include <stdlib.h>

static const vs_column system_columns[] = {
    {"WorkflowType", TN_ATTR_KEYWORD, VS_INTERNED, "nullif(d.type,0)", 0},
    {"ExecutionStatus", TN_ATTR_KEYWORD, VS_INTERNED, "nullif(d.status,0)", 0},
    {"TaskQueue", TN_ATTR_KEYWORD, VS_INTERNED, "d.tq", 0},
    {"TemporalNamespaceDivision", TN_ATTR_KEYWORD, VS_INTERNED, "d.div", 0},
    {"WorkflowId", TN_ATTR_KEYWORD, VS_TEXT, "d.wf", 0},
    {"RunId", TN_ATTR_KEYWORD, VS_RUN, "d.run", 0},
    {"ParentWorkflowId", TN_ATTR_KEYWORD, VS_TEXT, "d.pwf", 0},
    {"ParentRunId", TN_ATTR_KEYWORD, VS_RUN, "d.prun", 0},
    {"RootWorkflowId", TN_ATTR_KEYWORD, VS_TEXT, "CASE WHEN d.rwf='' THEN d.wf ELSE d.rwf END", 0},
    {"RootRunId", TN_ATTR_KEYWORD, VS_RUN, "CASE WHEN d.rrun='' THEN d.run ELSE d.rrun END", 0},
    {"StartTime", TN_ATTR_DATETIME, VS_NUMBER, "nullif(d.start,-9223372036854775808)", 0},
    {"ExecutionTime", TN_ATTR_DATETIME, VS_NUMBER,
     "CASE WHEN d.start=-9223372036854775808 THEN d.exec ELSE d.start+d.exec END", 0},
    {"CloseTime", TN_ATTR_DATETIME, VS_NUMBER, "nullif(d.close,9223372036854775807)", 0},
    {"ExecutionDuration", TN_ATTR_INT, VS_NUMBER, "d.dur", 0},
    {"HistoryLength", TN_ATTR_INT, VS_NUMBER, "d.len", 0},
    {"HistorySizeBytes", TN_ATTR_INT, VS_NUMBER, "d.size", 0},
    {"StateTransitionCount", TN_ATTR_INT, VS_NUMBER, "d.trans", 0},
};

tn_status vs_column_find(vs_conn *conn, vs_query *q, int64_t ns, tn_str name, uint32_t type,
                         vs_column *out, tn_error *err)
{
    for (size_t i = 0; i < VS_COUNT(system_columns); i++) {
        if (!tn_vd_str_is(name, system_columns[i].name))
            continue;
        *out = system_columns[i];
        if (type != out->type)
            return vs_error(err, TN_EINVALID, 0, "%s is of another type", out->name);
        return TN_OK;
    }
    *out = (vs_column){.name = "", .type = type, .kind = VS_CUSTOM};
    if (type < TN_ATTR_TEXT || type > TN_ATTR_KEYWORD_LIST)
        return vs_error(err, TN_EINVALID, 0, "an attribute of the query has no known type");
    tn_status status = vs_attr_find(conn, ns, name, type, &out->attr, err);
    out->sql = out->attr ? vs_format(q, "vget(d.sa,%lld)", (long long)out->attr) : "NULL";
    return status;
}

const char *vs_column_scalar(vs_query *q, const vs_column *c, bool highest)
{
    switch (c->kind) {
    case VS_INTERNED:
        return vs_format(q, "(SELECT s FROM name WHERE id=%s)", c->sql);
    case VS_RUN:
        return vs_format(q, "vrun(%s)", c->sql);
    case VS_TEXT:
    case VS_NUMBER:
        return c->sql;
    case VS_CUSTOM:
        if (c->type == TN_ATTR_TEXT)
            return NULL;
        if (c->type != TN_ATTR_KEYWORD_LIST || !c->attr)
            return c->sql;
        return vs_format(q, "vend(d.sa,%lld,%d)", (long long)c->attr, highest);
    }
    return NULL;
}

/* ---- comparisons ------------------------------------------------------------------------------ */

static bool is_equality(uint32_t op)
{
    return op == TN_VIS_EQ || op == TN_VIS_NE || op == TN_VIS_IN || op == TN_VIS_NOT_IN;
}

static bool is_negated(uint32_t op)
{
    return op == TN_VIS_NE || op == TN_VIS_NOT_IN || op == TN_VIS_NOT_STARTS;
}

static size_t values_wanted(uint32_t op)
{
    return op == TN_VIS_BETWEEN ? 2 : op == TN_VIS_IS_NULL || op == TN_VIS_NOT_NULL ? 0 : 1;
}

static tn_status check_node(const tn_vis_node *node, tn_error *err)
{
    bool list = node->op == TN_VIS_IN || node->op == TN_VIS_NOT_IN;
    uint32_t type = node->type == TN_ATTR_KEYWORD_LIST ? TN_ATTR_KEYWORD : node->type;
    if (node->op < TN_VIS_EQ || node->op > TN_VIS_NOT_STARTS || (list && node->n_values == 0) ||
        (!list && node->n_values != values_wanted(node->op)))
        return vs_error(err, TN_EINVALID, 0, "the filter holds an unknown test");
    for (size_t i = 0; i < node->n_values; i++)
        if (!tn_vd_value_valid(type, node->values[i]))
            return vs_error(err, TN_EINVALID, 0, "a value of the filter is not of its type");
    return TN_OK;
}

/* "x = ?1", "x NOT IN (?1,?2)" ... of parameters that stand for the values. */
static char *equality(vs_query *q, const char *sql, uint32_t op, char *const *params, size_t count)
{
    if (count == 1)
        return vs_format(q, "%s%s%s", sql, is_negated(op) ? "<>" : "=", params[0]);
    size_t size = 1;
    for (size_t i = 0; i < count; i++)
        size += strlen(params[i]) + 1;
    char *list = vs_query_alloc(q, size), *at = list;
    for (size_t i = 0; i < count && list; i++) {
        if (i)
            *at++ = ',';
        at = stpcpy(at, params[i]);
    }
    return vs_format(q, "%s %sIN (%s)", sql, is_negated(op) ? "NOT " : "", list ? list : "NULL");
}

/* Equality of what is stored in a short form: the values are brought into that form. */
static tn_status short_equality(vs_conn *conn, vs_query *q, const vs_column *c,
                                const tn_vis_node *node, char **out, tn_error *err)
{
    char **params = vs_query_alloc(q, node->n_values * sizeof *params);
    if (!params)
        return vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    for (size_t i = 0; i < node->n_values; i++) {
        tn_str text = {(const char *)node->values[i].p, node->values[i].n};
        int64_t id = 0;
        if (c->kind == VS_RUN) {
            params[i] = vs_run_param(q, text);
            continue;
        }
        tn_status status = vs_name_find(conn, text, &id, err);
        if (status != TN_OK)
            return status;
        params[i] = vs_int(q, id ? id : -1); /* a text that no row has */
    }
    *out = equality(q, c->sql, node->op, params, node->n_values);
    return TN_OK;
}

/* Does the attribute hold any of these keywords or words? */
static char *membership(vs_query *q, const vs_column *c, const tn_vis_node *node)
{
    vs_bytes list = {0};
    for (size_t i = 0; i < node->n_values; i++) {
        tn_vd_words it;
        tn_blob item = node->values[i];
        bool text = c->type == TN_ATTR_TEXT;
        tn_vd_words_begin(&it, item);
        while (text ? tn_vd_words_next(&it) : item.p != NULL || item.n == 0) {
            if (text)
                item = (tn_blob){(const uint8_t *)it.word, it.n};
            uint8_t head[4] = {(uint8_t)(item.n >> 24), (uint8_t)(item.n >> 16),
                               (uint8_t)(item.n >> 8), (uint8_t)item.n};
            vs_put(&list, head, 4);
            vs_put(&list, item.p, item.n);
            if (!text)
                break;
        }
    }
    uint8_t *kept = vs_query_alloc(q, list.n);
    if (kept && list.n)
        memcpy(kept, list.p, list.n);
    q->failed = q->failed || list.failed;
    char *param = vs_blob(q, (tn_blob){kept, kept ? list.n : 0});
    vs_done(&list);
    return vs_format(q, "%svhas(d.sa,%lld,%s)", is_negated(node->op) ? "NOT " : "",
                     (long long)c->attr, param);
}

/* x >= 'abc' AND x < 'abd': the end is the prefix with its last byte raised, which is no UTF-8 perhaps
 * but only compared. */
static char *prefix(vs_query *q, const char *sql, const tn_vis_node *node)
{
    tn_blob v = node->values[0];
    const char *not = is_negated(node->op) ? "NOT " : "";
    char *low = vs_value(q, TN_ATTR_KEYWORD, v);
    uint8_t *end = vs_query_alloc(q, v.n + 1);
    size_t n = v.n;
    if (end && n)
        memcpy(end, v.p, n);
    while (end && n && end[n - 1] == 0xff)
        n--;
    if (!end || n == 0)
        return vs_format(q, "%s(%s>=%s)", not, sql, low);
    end[n - 1]++;
    char *high = vs_text(q, (tn_str){(char *)end, n});
    return vs_format(q, "%s(%s>=%s AND %s<%s)", not, sql, low, sql, high);
}

static tn_status comparison(vs_conn *conn, vs_query *q, const vs_column *c, const tn_vis_node *node,
                            char **out, tn_error *err)
{
    static const char *const signs[] = {
        [TN_VIS_LT] = "<", [TN_VIS_LE] = "<=", [TN_VIS_GT] = ">", [TN_VIS_GE] = ">="};
    bool listed =
        c->kind == VS_CUSTOM && (c->type == TN_ATTR_TEXT || c->type == TN_ATTR_KEYWORD_LIST);
    if (node->op == TN_VIS_IS_NULL || node->op == TN_VIS_NOT_NULL) {
        /* Whether there is a division is also known to the tally. */
        bool division = strcmp(c->name, "TemporalNamespaceDivision") == 0;
        const char *null = node->op == TN_VIS_IS_NULL ? "IS NULL" : "IS NOT NULL";
        *out = division ? vs_format(q, "(d.part & 1)=%d", node->op == TN_VIS_NOT_NULL)
                        : vs_format(q, "(%s) %s", c->sql, null);
        return TN_OK;
    }
    if (listed && !is_equality(node->op))
        return vs_error(err, TN_EINVALID, 0,
                        "the filter asks what a Text or KeywordList can't answer");
    if (c->kind == VS_CUSTOM && !c->attr) { /* no document has it */
        *out = vs_format(q, "NULL");
        return TN_OK;
    }
    if (listed) {
        *out = membership(q, c, node);
        return TN_OK;
    }
    if ((c->kind == VS_INTERNED || c->kind == VS_RUN) && is_equality(node->op))
        return short_equality(conn, q, c, node, out, err);
    const char *sql = vs_column_scalar(q, c, false);
    if (node->op == TN_VIS_STARTS || node->op == TN_VIS_NOT_STARTS) {
        if (c->type != TN_ATTR_KEYWORD)
            return vs_error(err, TN_EINVALID, 0,
                            "the filter asks for the beginning of what is no text");
        *out = prefix(q, sql, node);
        return TN_OK;
    }
    char **params = vs_query_alloc(q, node->n_values * sizeof *params);
    for (size_t i = 0; params && i < node->n_values; i++)
        params[i] = vs_value(q, c->type, node->values[i]);
    if (!params)
        return vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    if (is_equality(node->op))
        *out = equality(q, vs_format(q, "(%s)", sql), node->op, params, node->n_values);
    else if (node->op == TN_VIS_BETWEEN)
        *out = vs_format(q, "((%s) BETWEEN %s AND %s)", sql, params[0], params[1]);
    else
        *out = vs_format(q, "(%s)%s%s", sql, signs[node->op], params[0]);
    return TN_OK;
}

/* ---- the tree --------------------------------------------------------------------------------- */

/* An operand on the stack: its SQL, and the comparisons that must hold where it does (a chain). */
typedef struct must {
    const tn_vis_node *node;
    struct must *next, *last;
} must;
typedef struct operand {
    char *sql;
    must *chain;
} operand;

static bool in_tally(const tn_vis_node *node)
{
    return tn_vd_str_is(node->name, "WorkflowType") ||
           tn_vd_str_is(node->name, "ExecutionStatus") ||
           (tn_vd_str_is(node->name, "TemporalNamespaceDivision") &&
            (node->op == TN_VIS_IS_NULL || node->op == TN_VIS_NOT_NULL));
}

static tn_status push_leaf(vs_conn *conn, vs_query *q, int64_t ns, const tn_vis_node *node,
                           operand *out, tn_error *err)
{
    vs_column column;
    tn_status status = check_node(node, err);
    if (status == TN_OK)
        status = vs_column_find(conn, q, ns, node->name, node->type, &column, err);
    char *sql = NULL;
    if (status == TN_OK)
        status = comparison(conn, q, &column, node, &sql, err);
    if (status != TN_OK)
        return status;
    out->sql = vs_format(q, "(%s)", sql);
    out->chain = vs_query_alloc(q, sizeof *out->chain);
    if (out->chain)
        *out->chain = (must){.node = node, .last = out->chain};
    return TN_OK;
}

static tn_status push_logic(vs_query *q, const tn_vis_node *node, operand *stack, size_t *depth,
                            tn_error *err)
{
    size_t arity = node->op == TN_VIS_NOT ? 1 : node->arity;
    if (arity == 0 || arity > *depth)
        return vs_error(err, TN_EINVALID, 0, "the filter is not a tree");
    operand *first = &stack[*depth - arity];
    char **texts = vs_query_alloc(q, arity * sizeof *texts);
    if (!texts)
        return vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    for (size_t i = 0; i < arity; i++)
        texts[i] = first[i].sql;
    must *chain = node->op == TN_VIS_OR && arity > 1 ? NULL : first[0].chain;
    if (node->op == TN_VIS_NOT) {
        first[0].sql = vs_format(q, "(NOT %s)", texts[0]);
        chain = NULL;
    } else {
        first[0].sql = vs_join(q, texts, arity, node->op == TN_VIS_AND ? "AND" : "OR");
        for (size_t i = 1; i < arity && node->op == TN_VIS_AND; i++) {
            if (chain && first[i].chain) {
                chain->last->next = first[i].chain;
                chain->last = first[i].chain->last;
            } else if (!chain) {
                chain = first[i].chain;
            }
        }
    }
    first[0].chain = chain;
    *depth -= arity - 1;
    return TN_OK;
}

tn_status vs_filter_build(vs_conn *conn, vs_query *q, int64_t ns, const tn_vis_query *query,
                          vs_filter *out, tn_error *err)
{
    memset(out, 0, sizeof *out);
    out->tally_only = true;
    size_t depth = 0;
    operand *stack = vs_query_alloc(q, (query->n_filter + 1) * sizeof *stack);
    out->must = vs_query_alloc(q, (query->n_filter + 1) * sizeof(const tn_vis_node *));
    if (!stack || !out->must)
        return vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    for (size_t i = 0; i < query->n_filter; i++) {
        const tn_vis_node *node = &query->filter[i];
        bool logic = node->op >= TN_VIS_AND && node->op <= TN_VIS_NOT;
        tn_status status = logic ? push_logic(q, node, stack, &depth, err)
                                 : push_leaf(conn, q, ns, node, &stack[depth], err);
        if (status != TN_OK)
            return status;
        depth += !logic;
        out->tally_only = out->tally_only && (logic || in_tally(node));
    }
    if (depth != (query->n_filter ? 1u : 0u))
        return vs_error(err, TN_EINVALID, 0, "the filter is not a tree");
    if (q->failed)
        return vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    if (depth) {
        out->sql = stack[0].sql;
        for (const must *m = stack[0].chain; m; m = m->next)
            out->must[out->n_must++] = m->node;
    }
    return TN_OK;
}
