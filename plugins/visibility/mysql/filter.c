/* SPDX-License-Identifier: MIT */
/* The postfix filter as an SQL condition over a row d of tenon_vis_run.  SQL's three-valued logic is the
 * contract's: a test of what is not there is NULL. */
#include "private.h"

#include <stdlib.h>

#define NO_START "-9223372036854775808"
#define NO_CLOSE "9223372036854775807"

static const mv_column system_columns[] = {
    {"WorkflowType", TN_ATTR_KEYWORD, MV_TEXT, "d.type", 0},
    {"ExecutionStatus", TN_ATTR_KEYWORD, MV_TEXT, "d.status", 0},
    {"TaskQueue", TN_ATTR_KEYWORD, MV_TEXT, "d.tq", 0},
    {"TemporalNamespaceDivision", TN_ATTR_KEYWORD, MV_TEXT, "d.division", 0},
    {"WorkflowId", TN_ATTR_KEYWORD, MV_TEXT, "d.wf", 0},
    {"RunId", TN_ATTR_KEYWORD, MV_RUN, "d.run", 0},
    {"ParentWorkflowId", TN_ATTR_KEYWORD, MV_TEXT, "d.pwf", 0},
    {"ParentRunId", TN_ATTR_KEYWORD, MV_RUN, "d.prun", 0},
    {"RootWorkflowId", TN_ATTR_KEYWORD, MV_TEXT, "IF(d.rwf='',d.wf,d.rwf)", 0},
    {"RootRunId", TN_ATTR_KEYWORD, MV_RUN, "IF(d.rrun='',d.run,d.rrun)", 0},
    {"StartTime", TN_ATTR_DATETIME, MV_NUMBER, "NULLIF(d.start," NO_START ")", 0},
    {"ExecutionTime", TN_ATTR_DATETIME, MV_NUMBER, "d.exec", 0},
    {"CloseTime", TN_ATTR_DATETIME, MV_NUMBER, "NULLIF(d.close," NO_CLOSE ")", 0},
    {"ExecutionDuration", TN_ATTR_INT, MV_NUMBER, "d.dur", 0},
    {"HistoryLength", TN_ATTR_INT, MV_NUMBER, "d.len", 0},
    {"HistorySizeBytes", TN_ATTR_INT, MV_NUMBER, "d.size", 0},
    {"StateTransitionCount", TN_ATTR_INT, MV_NUMBER, "d.trans", 0},
};

tn_status mv_no_memory(mv_query *q)
{
    return ms_error(q->err, TN_EUNAVAILABLE, 0, "out of memory");
}

char *mv_keep(mv_query *q, ms_text *text)
{
    char *kept = text->failed ? NULL : ms_pool_get(&q->pool, text->n + 1);
    if (kept) {
        if (text->n)
            memcpy(kept, text->p, text->n);
        kept[text->n] = '\0';
    }
    ms_text_done(text);
    return kept;
}

/* ---- columns ------------------------------------------------------------------------------------ */

static bool is_listed(const mv_column *c)
{
    return c->kind == MV_CUSTOM && (c->type == TN_ATTR_TEXT || c->type == TN_ATTR_KEYWORD_LIST);
}

/* what: "MIN" or "MAX".  listed: without the empty value, which says only that the list is there. */
static const char *own_value(mv_query *q, uint32_t attr, const char *what, bool listed)
{
    ms_text t = {0};
    ms_putf(&t, "(SELECT %s(a.val) FROM tenon_vis_attr a WHERE a.run=d.run AND a.attr=%u%s)", what,
            attr, listed ? " AND a.val>''" : "");
    return mv_keep(q, &t);
}

tn_status mv_column_find(mv_query *q, tn_str name, uint32_t type, mv_column *out)
{
    for (size_t i = 0; i < MV_COUNT(system_columns); i++) {
        if (!tn_vd_str_is(name, system_columns[i].name))
            continue;
        *out = system_columns[i];
        if (type != out->type)
            return ms_error(q->err, TN_EINVALID, 0, "%s is of another type", out->name);
        return TN_OK;
    }
    *out = (mv_column){.name = "", .type = type, .kind = MV_CUSTOM, .sql = "NULL"};
    if (type < TN_ATTR_TEXT || type > TN_ATTR_KEYWORD_LIST)
        return ms_error(q->err, TN_EINVALID, 0, "an attribute of the query has no known type");
    if (!q->ns)
        return TN_OK;
    tn_status status =
        mv_name_find(q->inst, q->conn, q->ns, type, name, q->deadline_ns, &out->attr, q->err);
    if (status == TN_OK && out->attr)
        out->sql = own_value(q, out->attr, "MIN", false);
    return status == TN_OK && !out->sql ? mv_no_memory(q) : status;
}

/* The text of a run id that is stored in its short form. */
static const char *run_text(mv_query *q, const char *e)
{
    static const char *const cuts[] = {"1,4", "5,2", "7,2", "9,2", "11,6"};
    ms_text t = {0};
    ms_putf(&t, "IF(LENGTH(%s)=16,CAST(LOWER(CONVERT(CONCAT(", e);
    for (size_t i = 0; i < MV_COUNT(cuts); i++)
        ms_putf(&t, "%sHEX(SUBSTR(%s,%s))", i ? ",'-'," : "", e, cuts[i]);
    ms_putf(&t, ") USING latin1)) AS BINARY),SUBSTR(%s,17))", e);
    return mv_keep(q, &t);
}

const char *mv_column_scalar(mv_query *q, const mv_column *c, bool highest)
{
    if (c->kind == MV_RUN)
        return run_text(q, c->sql);
    if (!is_listed(c) || (c->type == TN_ATTR_KEYWORD_LIST && !c->attr))
        return c->sql;
    if (c->type == TN_ATTR_TEXT)
        return NULL;
    return own_value(q, c->attr, highest ? "MAX" : "MIN", true);
}

/* ---- values ------------------------------------------------------------------------------------- */

static bool is_equality(uint32_t op)
{
    return op == TN_VIS_EQ || op == TN_VIS_NE || op == TN_VIS_IN || op == TN_VIS_NOT_IN;
}

static bool is_negated(uint32_t op)
{
    return op == TN_VIS_NE || op == TN_VIS_NOT_IN || op == TN_VIS_NOT_STARTS;
}

static tn_status check_node(mv_query *q, const tn_vis_node *node)
{
    bool list = node->op == TN_VIS_IN || node->op == TN_VIS_NOT_IN;
    size_t wanted = node->op == TN_VIS_BETWEEN                                  ? 2
                    : node->op == TN_VIS_IS_NULL || node->op == TN_VIS_NOT_NULL ? 0
                                                                                : 1;
    uint32_t type = node->type == TN_ATTR_KEYWORD_LIST ? TN_ATTR_KEYWORD : node->type;
    if (node->op < TN_VIS_EQ || node->op > TN_VIS_NOT_STARTS || (list && node->n_values == 0) ||
        (!list && node->n_values != wanted))
        return ms_error(q->err, TN_EINVALID, 0, "the filter holds an unknown test");
    for (size_t i = 0; i < node->n_values; i++)
        if (!tn_vd_value_valid(type, node->values[i]))
            return ms_error(q->err, TN_EINVALID, 0, "a value of the filter is not of its type");
    return TN_OK;
}

static void put_number(ms_text *t, int64_t v)
{
    if (v < 0)
        ms_put(t, "-", 1);
    ms_put_u64(t, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

/* A value of the filter in the form of the column; run ids as text where they are compared by order. */
static void put_value(ms_text *t, const mv_column *c, tn_blob v, bool run_form)
{
    uint8_t val[MV_VAL_MAX];
    uint8_t run[MV_RUN_BYTES];
    if (c->kind == MV_NUMBER)
        put_number(t, tn_vd_get_i64(v.p));
    else if (c->kind == MV_CUSTOM)
        ms_put_bytes(t, val, mv_value_encode(c->type, v, val));
    else if (c->kind == MV_RUN && run_form && v.n <= MV_RUN_MAX)
        ms_put_bytes(t, run, mv_run_encode((tn_str){(const char *)v.p, v.n}, run));
    else
        ms_put_bytes(t, v.p, v.n);
}

static void put_equality(ms_text *t, const mv_column *c, const char *sql, const tn_vis_node *node)
{
    bool not = is_negated(node->op);
    ms_puts(t, sql);
    if (node->n_values == 1) {
        ms_puts(t, not ? "<>" : "=");
        put_value(t, c, node->values[0], true);
        return;
    }
    for (size_t i = 0; i < node->n_values; i++) {
        ms_puts(t, i ? "," : not ? " NOT IN (" : " IN (");
        put_value(t, c, node->values[i], true);
    }
    ms_put(t, ")", 1);
}

/* "IN (...)" of the keywords or words of the values; false: there are none. */
static bool put_items(ms_text *t, const mv_column *c, const tn_vis_node *node)
{
    uint8_t val[MV_VAL_MAX];
    size_t n = 0;
    for (size_t i = 0; i < node->n_values; i++) {
        tn_blob v = node->values[i];
        if (c->type == TN_ATTR_KEYWORD_LIST) {
            ms_puts(t, n++ ? "," : " IN (");
            ms_put_bytes(t, val, mv_item_encode(v.p, v.n, val));
            continue;
        }
        tn_vd_words it;
        for (tn_vd_words_begin(&it, v); tn_vd_words_next(&it);) {
            ms_puts(t, n++ ? "," : " IN (");
            ms_put_bytes(t, val, mv_item_encode(it.word, it.n, val));
        }
    }
    if (n)
        ms_put(t, ")", 1);
    return n > 0;
}

/* Does the attribute hold any of these keywords or words?  NULL when it is not there. */
static void put_membership(ms_text *t, const mv_column *c, const tn_vis_node *node)
{
    ms_text items = {0};
    bool any = put_items(&items, c, node);
    ms_putf(t,
            "CASE WHEN EXISTS(SELECT 1 FROM tenon_vis_attr a WHERE a.run=d.run AND a.attr=%u) "
            "THEN %s",
            c->attr, is_negated(node->op) ? "NOT " : "");
    if (any) {
        ms_putf(t,
                "EXISTS(SELECT 1 FROM tenon_vis_attr a WHERE a.run=d.run AND a.attr=%u AND a.val",
                c->attr);
        ms_put(t, items.p, items.n);
        ms_put(t, ")", 1);
    } else {
        ms_puts(t, "(1=0)");
    }
    ms_puts(t, " END");
    t->failed = t->failed || items.failed;
    ms_text_done(&items);
}

/* x >= 'abc' AND x < 'abd'. */
static void put_prefix(ms_text *t, const char *sql, tn_blob v)
{
    size_t n = v.n;
    ms_puts(t, "(");
    ms_puts(t, sql);
    ms_puts(t, ">=");
    ms_put_bytes(t, v.p, v.n);
    while (n && v.p[n - 1] == 0xff)
        n--;
    uint8_t *end = n ? malloc(n) : NULL;
    if (end) {
        memcpy(end, v.p, n);
        end[n - 1]++;
        ms_puts(t, " AND ");
        ms_puts(t, sql);
        ms_puts(t, "<");
        ms_put_bytes(t, end, n);
    } else if (n) {
        t->failed = true;
    }
    ms_puts(t, ")");
    free(end);
}

static void put_order(ms_text *t, const mv_column *c, const char *sql, const tn_vis_node *node)
{
    static const char *const signs[] = {
        [TN_VIS_LT] = "<", [TN_VIS_LE] = "<=", [TN_VIS_GT] = ">", [TN_VIS_GE] = ">="};
    ms_puts(t, sql);
    ms_puts(t, node->op == TN_VIS_BETWEEN ? " BETWEEN " : signs[node->op]);
    put_value(t, c, node->values[0], false);
    if (node->op != TN_VIS_BETWEEN)
        return;
    ms_puts(t, " AND ");
    put_value(t, c, node->values[1], false);
}

/* ---- a comparison ------------------------------------------------------------------------------- */

static void put_null(ms_text *t, const mv_column *c, uint32_t op)
{
    bool null = op == TN_VIS_IS_NULL;
    if (c->kind == MV_CUSTOM && !c->attr)
        ms_puts(t, null ? "1=1" : "1=0");
    else if (c->kind == MV_CUSTOM)
        ms_putf(t, "%sEXISTS(SELECT 1 FROM tenon_vis_attr a WHERE a.run=d.run AND a.attr=%u)",
                null ? "NOT " : "", c->attr);
    else if (strcmp(c->name, "TemporalNamespaceDivision") == 0)
        ms_puts(t, null ? "d.part=0" : "d.part=1");
    else
        ms_putf(t, "%s IS %sNULL", c->sql, null ? "" : "NOT ");
}

static tn_status put_comparison(mv_query *q, ms_text *t, const mv_column *c,
                                const tn_vis_node *node)
{
    if (node->op == TN_VIS_IS_NULL || node->op == TN_VIS_NOT_NULL) {
        put_null(t, c, node->op);
        return TN_OK;
    }
    if (is_listed(c) && !is_equality(node->op))
        return ms_error(q->err, TN_EINVALID, 0,
                        "the filter asks what a Text or KeywordList can't answer");
    bool starts = node->op == TN_VIS_STARTS || node->op == TN_VIS_NOT_STARTS;
    if (starts && c->type != TN_ATTR_KEYWORD)
        return ms_error(q->err, TN_EINVALID, 0,
                        "the filter asks for the beginning of what is no text");
    if (c->kind == MV_CUSTOM && !c->attr) { /* no document has it */
        ms_puts(t, "NULL");
        return TN_OK;
    }
    if (is_listed(c)) {
        put_membership(t, c, node);
        return TN_OK;
    }
    if (is_equality(node->op)) {
        put_equality(t, c, c->sql, node);
        return TN_OK;
    }
    const char *sql = mv_column_scalar(q, c, false);
    if (!sql)
        return mv_no_memory(q);
    if (starts && is_negated(node->op))
        ms_puts(t, "NOT ");
    if (starts)
        put_prefix(t, sql, node->values[0]);
    else
        put_order(t, c, sql, node);
    return TN_OK;
}

const char *mv_filter_probe(mv_query *q, const tn_vis_node *node)
{
    mv_column c;
    bool parent = tn_vd_str_is(node->name, "ParentWorkflowId");
    if (node->op == TN_VIS_IS_NULL || node->op == TN_VIS_NOT_NULL || is_negated(node->op))
        return NULL;
    if (mv_column_find(q, node->name, node->type, &c) != TN_OK)
        return NULL;
    if (parent) {
        if (mv_name_find(q->inst, q->conn, q->ns, TN_ATTR_KEYWORD, node->name, q->deadline_ns,
                         &c.attr, q->err) != TN_OK)
            return NULL;
        c.kind = MV_CUSTOM;
    }
    if (c.kind != MV_CUSTOM || !c.attr)
        return NULL;
    ms_text t = {0};
    ms_putf(&t, "x.attr=%u AND ", c.attr);
    bool said = true;
    if (is_listed(&c)) {
        ms_puts(&t, "x.val");
        said = put_items(&t, &c, node);
    } else if (is_equality(node->op)) {
        put_equality(&t, &c, "x.val", node);
    } else if (node->op == TN_VIS_STARTS) {
        put_prefix(&t, "x.val", node->values[0]);
    } else {
        put_order(&t, &c, "x.val", node);
    }
    if (said)
        return mv_keep(q, &t);
    ms_text_done(&t);
    return NULL;
}

/* ---- the tree ----------------------------------------------------------------------------------- */

/* An operand on the stack: its SQL, and the comparisons that must hold where it does (a chain). */
typedef struct must {
    const tn_vis_node *node;
    struct must *next, *last;
} must;
typedef struct operand {
    char *sql;
    size_t n;
    must *chain;
} operand;

static tn_status push_leaf(mv_query *q, const tn_vis_node *node, operand *out)
{
    mv_column column;
    ms_text t = {0};
    tn_status status = check_node(q, node);
    if (status == TN_OK)
        status = mv_column_find(q, node->name, node->type, &column);
    ms_put(&t, "(", 1);
    if (status == TN_OK)
        status = put_comparison(q, &t, &column, node);
    ms_put(&t, ")", 1);
    out->n = t.n;
    out->sql = mv_keep(q, &t);
    out->chain = ms_pool_get(&q->pool, sizeof *out->chain);
    if (status != TN_OK)
        return status;
    if (!out->sql || !out->chain)
        return mv_no_memory(q);
    *out->chain = (must){.node = node, .last = out->chain};
    return TN_OK;
}

static must *join_chains(operand *first, size_t arity)
{
    must *chain = first[0].chain;
    for (size_t i = 1; i < arity; i++) {
        if (chain && first[i].chain) {
            chain->last->next = first[i].chain;
            chain->last = first[i].chain->last;
        } else if (!chain) {
            chain = first[i].chain;
        }
    }
    return chain;
}

static tn_status push_logic(mv_query *q, const tn_vis_node *node, operand *stack, size_t *depth)
{
    size_t arity = node->op == TN_VIS_NOT ? 1 : node->arity;
    if (arity == 0 || arity > *depth)
        return ms_error(q->err, TN_EINVALID, 0, "the filter is not a tree");
    operand *first = &stack[*depth - arity];
    ms_text t = {0};
    ms_puts(&t, node->op == TN_VIS_NOT ? "(NOT " : "(");
    for (size_t i = 0; i < arity; i++) {
        if (i)
            ms_puts(&t, node->op == TN_VIS_AND ? " AND " : " OR ");
        ms_put(&t, first[i].sql, first[i].n);
    }
    ms_put(&t, ")", 1);
    must *chain = NULL;
    if (node->op == TN_VIS_AND || (node->op == TN_VIS_OR && arity == 1))
        chain = join_chains(first, arity);
    first[0] = (operand){.n = t.n, .chain = chain};
    first[0].sql = mv_keep(q, &t);
    *depth -= arity - 1;
    return first[0].sql ? TN_OK : mv_no_memory(q);
}

tn_status mv_filter_build(mv_query *q)
{
    const tn_vis_query *query = q->read->query;
    size_t depth = 0;
    operand *stack = ms_pool_get(&q->pool, (query->n_filter + 1) * sizeof *stack);
    q->must = ms_pool_get(&q->pool, (query->n_filter + 1) * sizeof(const tn_vis_node *));
    if (!stack || !q->must)
        return mv_no_memory(q);
    for (size_t i = 0; i < query->n_filter; i++) {
        const tn_vis_node *node = &query->filter[i];
        bool logic = node->op >= TN_VIS_AND && node->op <= TN_VIS_NOT;
        tn_status status =
            logic ? push_logic(q, node, stack, &depth) : push_leaf(q, node, &stack[depth]);
        if (status != TN_OK)
            return status;
        depth += !logic;
    }
    if (depth != (query->n_filter ? 1u : 0u))
        return ms_error(q->err, TN_EINVALID, 0, "the filter is not a tree");
    if (depth) {
        q->condition = stack[0].sql;
        for (const must *m = stack[0].chain; m; m = m->next)
            q->must[q->n_must++] = m->node;
    }
    return TN_OK;
}
