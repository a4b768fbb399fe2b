/* SPDX-License-Identifier: MIT */
/* The postfix filter as an SQL condition over a row d.  It is written from its root to its leaves: read
 * backwards, postfix is prefix, and the order of operands means nothing to AND and OR.
 *
 * What a document lacks is neither a match nor its negation.  So NOT is carried down to the comparisons, which are
 * turned round (< into >=, ...): each condition in the text is then true or not, and none needs a third
 * value.  Values are parameters, never text; attributes are known by number. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>

#define NO_START "(-9223372036854775808)::int8"
#define NO_CLOSE "9223372036854775807"

static const vp_column system_columns[] = {
    {"WorkflowType", TN_ATTR_KEYWORD, VP_NAME, "d.type", NULL, 0},
    {"ExecutionStatus", TN_ATTR_KEYWORD, VP_NAME, "d.status", NULL, 0},
    {"TemporalNamespaceDivision", TN_ATTR_KEYWORD, VP_NAME, "d.div", NULL, 0},
    {"TaskQueue", TN_ATTR_KEYWORD, VP_NAME, "d.tq", NULL, 0},
    {"WorkflowId", TN_ATTR_KEYWORD, VP_TEXT, "d.wf", NULL, 0},
    {"ParentWorkflowId", TN_ATTR_KEYWORD, VP_PARENT, "d.pwf", NULL, 0},
    {"RootWorkflowId", TN_ATTR_KEYWORD, VP_ROOT, "CASE WHEN d.rwf = '' THEN d.wf ELSE d.rwf END",
     NULL, 0},
    {"RunId", TN_ATTR_KEYWORD, VP_RUN, "d.run", NULL, 0},
    {"ParentRunId", TN_ATTR_KEYWORD, VP_RUN, "d.prun", NULL, 0},
    {"RootRunId", TN_ATTR_KEYWORD, VP_RUN, "CASE WHEN d.rrun = '' THEN d.run ELSE d.rrun END", NULL,
     0},
    {"StartTime", TN_ATTR_DATETIME, VP_NUMBER, "d.start", NO_START, 0},
    {"CloseTime", TN_ATTR_DATETIME, VP_NUMBER, "d.close", NO_CLOSE, 0},
    {"ExecutionTime", TN_ATTR_DATETIME, VP_NUMBER,
     "CASE WHEN d.start = " NO_START " THEN d.exec ELSE d.exec + d.start END", NULL, 0},
    {"ExecutionDuration", TN_ATTR_INT, VP_NUMBER, "d.dur", NULL, 0},
    {"HistoryLength", TN_ATTR_INT, VP_NUMBER, "d.len", NULL, 0},
    {"HistorySizeBytes", TN_ATTR_INT, VP_NUMBER, "d.size", NULL, 0},
    {"StateTransitionCount", TN_ATTR_INT, VP_NUMBER, "d.trans", NULL, 0},
};

/* ---- queries under way -------------------------------------------------------------------------- */

void vp_query_done(vp_query *q)
{
    vp_mem_done(&q->mem);
    vp_text_done(&q->sql);
    free(q->values);
    free(q->lengths);
    free(q->formats);
    *q = (vp_query){0};
}

bool vp_query_failed(const vp_query *q) { return q->mem.failed || q->sql.failed; }

static bool more_params(vp_query *q)
{
    int cap = q->cap_params ? q->cap_params * 2 : 16;
    const char **values = realloc(q->values, (size_t)cap * sizeof *values);
    if (values)
        q->values = values;
    int *lengths = realloc(q->lengths, (size_t)cap * sizeof *lengths);
    if (lengths)
        q->lengths = lengths;
    int *formats = realloc(q->formats, (size_t)cap * sizeof *formats);
    if (formats)
        q->formats = formats;
    if (!values || !lengths || !formats)
        return false;
    q->cap_params = cap;
    return true;
}

int vp_param(vp_query *q, const void *p, size_t n)
{
    if (n > (size_t)1 << 29 || q->n_params >= 60000 ||
        (q->n_params == q->cap_params && !more_params(q))) {
        q->mem.failed = true;
        return 1;
    }
    q->values[q->n_params] = n ? p : "";
    q->lengths[q->n_params] = (int)n;
    q->formats[q->n_params] = 1;
    return ++q->n_params;
}

static int param_copy(vp_query *q, const void *p, size_t n)
{
    void *copy = vp_alloc(&q->mem, n);
    if (!copy)
        return 1;
    memcpy(copy, p, n);
    return vp_param(q, copy, n);
}

int vp_param_i64(vp_query *q, int64_t v)
{
    uint8_t wide[8];
    tn_vd_set_i64(wide, v);
    return param_copy(q, wide, sizeof wide);
}

int vp_param_i32(vp_query *q, int32_t v)
{
    uint32_t u = (uint32_t)v;
    uint8_t wide[4] = {(uint8_t)(u >> 24), (uint8_t)(u >> 16), (uint8_t)(u >> 8), (uint8_t)u};
    return param_copy(q, wide, sizeof wide);
}

/* An array in PostgreSQL's binary format, from values that are in it themselves. */
static int param_array(vp_query *q, uint32_t oid, const tn_blob *values, size_t n)
{
    vp_text t = {0};
    const uint32_t head[5] = {1, 0, oid, (uint32_t)n, 1};
    for (size_t i = 0; i < 5; i++)
        vp_put(&t,
               (const uint8_t[4]){(uint8_t)(head[i] >> 24), (uint8_t)(head[i] >> 16),
                                  (uint8_t)(head[i] >> 8), (uint8_t)head[i]},
               4);
    for (size_t i = 0; i < n; i++) {
        uint32_t size = (uint32_t)values[i].n;
        vp_put(&t,
               (const uint8_t[4]){(uint8_t)(size >> 24), (uint8_t)(size >> 16),
                                  (uint8_t)(size >> 8), (uint8_t)size},
               4);
        vp_put(&t, values[i].p, values[i].n);
    }
    int at = t.failed ? 1 : param_copy(q, t.p, t.n);
    q->mem.failed = q->mem.failed || t.failed;
    vp_text_done(&t);
    return at;
}

/* ---- columns ------------------------------------------------------------------------------------ */

tn_status vp_column_find(const vp_names *names, tn_str name, uint32_t type, vp_column *out,
                         tn_error *err)
{
    for (size_t i = 0; i < VP_COUNT(system_columns); i++) {
        if (!tn_vd_str_is(name, system_columns[i].name))
            continue;
        *out = system_columns[i];
        if (type != out->type)
            return tn_pg_error(err, TN_EINVALID, "%s is of another type", out->name);
        return TN_OK;
    }
    if (type < TN_ATTR_TEXT || type > TN_ATTR_KEYWORD_LIST)
        return tn_pg_error(err, TN_EINVALID, "an attribute of the query has no known type");
    *out = (vp_column){.name = "", .type = type, .kind = VP_CUSTOM};
    out->attr = vp_attr_find(names, name, type);
    return TN_OK;
}

const char *vp_column_cast(uint32_t type)
{
    switch (type) {
    case TN_ATTR_INT:
    case TN_ATTR_DATETIME:
        return "int8";
    case TN_ATTR_DOUBLE:
        return "float8";
    case TN_ATTR_BOOL:
        return "bool";
    default:
        return "text";
    }
}

static const char *format(vp_query *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#include <stdarg.h>
static const char *format(vp_query *q, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    char *copy = n < 0 || (size_t)n >= sizeof text ? NULL : vp_alloc(&q->mem, (size_t)n + 1);
    q->mem.failed = q->mem.failed || !copy;
    return copy ? memcpy(copy, text, (size_t)n + 1) : "NULL";
}

const char *vp_column_scalar(vp_query *q, const vp_column *c, bool highest)
{
    switch (c->kind) {
    case VP_NAME:
        return format(q, "(SELECT s FROM tn_vis_name WHERE id = %s)", c->sql);
    case VP_RUN:
        return format(q, "tn_vis_run(%s) COLLATE \"C\"", c->sql);
    case VP_NUMBER:
        return c->lack ? format(q, "nullif(%s, %s)", c->sql, c->lack) : c->sql;
    case VP_TEXT:
    case VP_PARENT:
    case VP_ROOT:
        return c->sql;
    case VP_CUSTOM:
        break;
    }
    if (c->type == TN_ATTR_TEXT)
        return NULL;
    if (!c->attr)
        return format(q, "NULL::%s", vp_column_cast(c->type));
    if (c->type == TN_ATTR_KEYWORD_LIST)
        return format(q,
                      "(SELECT %s(x COLLATE \"C\") FROM jsonb_array_elements_text(d.sa->'%d') x)",
                      highest ? "max" : "min", c->attr);
    if (c->type == TN_ATTR_KEYWORD)
        return format(q, "(d.sa->>'%d') COLLATE \"C\"", c->attr);
    return format(q, "(d.sa->>'%d')::%s", c->attr, vp_column_cast(c->type));
}

/* ---- comparisons -------------------------------------------------------------------------------- */

static bool is_negated(uint32_t op)
{
    return op == TN_VIS_NE || op == TN_VIS_NOT_IN || op == TN_VIS_NOT_STARTS;
}

static bool is_equality(uint32_t op)
{
    return op == TN_VIS_EQ || op == TN_VIS_NE || op == TN_VIS_IN || op == TN_VIS_NOT_IN;
}

#define NOT_BETWEEN 100u /* of our own: BETWEEN turned round */
static uint32_t turned(uint32_t op)
{
    static const uint32_t pairs[][2] = {{TN_VIS_EQ, TN_VIS_NE},
                                        {TN_VIS_LT, TN_VIS_GE},
                                        {TN_VIS_GT, TN_VIS_LE},
                                        {TN_VIS_IN, TN_VIS_NOT_IN},
                                        {TN_VIS_IS_NULL, TN_VIS_NOT_NULL},
                                        {TN_VIS_STARTS, TN_VIS_NOT_STARTS},
                                        {TN_VIS_BETWEEN, NOT_BETWEEN}};
    for (size_t i = 0; i < VP_COUNT(pairs); i++)
        for (size_t k = 0; k < 2; k++)
            if (pairs[i][k] == op)
                return pairs[i][1 - k];
    return op;
}

static tn_status check_node(const tn_vis_node *node, tn_error *err)
{
    bool list = node->op == TN_VIS_IN || node->op == TN_VIS_NOT_IN;
    bool none = node->op == TN_VIS_IS_NULL || node->op == TN_VIS_NOT_NULL;
    size_t wanted = node->op == TN_VIS_BETWEEN ? 2 : none ? 0 : 1;
    uint32_t type = node->type == TN_ATTR_KEYWORD_LIST ? TN_ATTR_KEYWORD : node->type;
    bool text = type == TN_ATTR_KEYWORD || type == TN_ATTR_TEXT;
    bool listed = node->type == TN_ATTR_KEYWORD_LIST || node->type == TN_ATTR_TEXT;
    if (node->op < TN_VIS_EQ || node->op > TN_VIS_NOT_STARTS ||
        (list ? node->n_values == 0 : node->n_values != wanted))
        return tn_pg_error(err, TN_EINVALID, "the filter holds an unknown test");
    for (size_t i = 0; i < node->n_values; i++)
        if (!tn_vd_value_valid(type, node->values[i]) ||
            (text && !tn_vd_utf8_valid(node->values[i])))
            return tn_pg_error(err, TN_EINVALID, "a value of the filter is not of its type");
    if (listed && !is_equality(node->op) && !none)
        return tn_pg_error(err, TN_EINVALID,
                           "the filter asks what a Text or KeywordList can't answer");
    if ((node->op == TN_VIS_STARTS || node->op == TN_VIS_NOT_STARTS) && type != TN_ATTR_KEYWORD)
        return tn_pg_error(err, TN_EINVALID,
                           "the filter asks for the beginning of what is no text");
    return TN_OK;
}

/* The least text after all that begin like this one; NULL: there is none. */
static tn_blob after_prefix(vp_query *q, tn_blob v)
{
    uint8_t *p = vp_alloc(&q->mem, v.n + 4);
    size_t n = v.n;
    while (p && n) {
        size_t at = n - 1;
        while (at && (v.p[at] & 0xc0) == 0x80)
            at--;
        uint32_t lead = v.p[at], c = lead < 0x80   ? lead
                                     : lead < 0xe0 ? lead & 0x1f
                                     : lead < 0xf0 ? lead & 0x0f
                                                   : lead & 0x07;
        for (size_t i = at + 1; i < n; i++)
            c = c << 6 | (v.p[i] & 0x3fu);
        n = at;
        if (c == 0x10ffff)
            continue;
        c = c == 0xd7ff ? 0xe000 : c + 1;
        memcpy(p, v.p, n);
        if (c < 0x80) {
            p[n++] = (uint8_t)c;
        } else if (c < 0x800) {
            p[n++] = (uint8_t)(0xc0 | c >> 6), p[n++] = (uint8_t)(0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
            p[n++] = (uint8_t)(0xe0 | c >> 12), p[n++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            p[n++] = (uint8_t)(0x80 | (c & 0x3f));
        } else {
            p[n++] = (uint8_t)(0xf0 | c >> 18), p[n++] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
            p[n++] = (uint8_t)(0x80 | (c >> 6 & 0x3f)), p[n++] = (uint8_t)(0x80 | (c & 0x3f));
        }
        return (tn_blob){p, n};
    }
    return (tn_blob){NULL, 0};
}

typedef struct leaf {
    uint32_t op, type;
    const tn_blob *values;
    size_t n;
} leaf;

static int param_value(vp_query *q, tn_blob v) { return vp_param(q, v.p, v.n); }

static uint32_t oid_of(uint32_t type)
{
    switch (type) {
    case TN_ATTR_INT:
    case TN_ATTR_DATETIME:
        return TN_PG_OID_INT8;
    case TN_ATTR_DOUBLE:
        return TN_PG_OID_FLOAT8;
    case TN_ATTR_BOOL:
        return 16;
    default:
        return TN_PG_OID_TEXT;
    }
}

/* A comparison of an SQL expression that is NULL where the attribute is missing. */
static void scalar_test(vp_query *q, const char *x, const leaf *l)
{
    static const char *const signs[] = {[TN_VIS_EQ] = "=",  [TN_VIS_NE] = "<>", [TN_VIS_LT] = "<",
                                        [TN_VIS_LE] = "<=", [TN_VIS_GT] = ">",  [TN_VIS_GE] = ">="};
    const char *cast = vp_column_cast(l->type);
    tn_blob end;
    switch (l->op) {
    case TN_VIS_IN:
    case TN_VIS_NOT_IN:
        vp_say(&q->sql, "%s %s ($%d::%s[])", x, l->op == TN_VIS_IN ? "= ANY" : "<> ALL",
               param_array(q, oid_of(l->type), l->values, l->n), cast);
        break;
    case TN_VIS_BETWEEN:
    case NOT_BETWEEN: {
        int low = param_value(q, l->values[0]), high = param_value(q, l->values[1]);
        vp_say(&q->sql, "%s %sBETWEEN $%d::%s AND $%d::%s", x, l->op == NOT_BETWEEN ? "NOT " : "",
               low, cast, high, cast);
        break;
    }
    case TN_VIS_IS_NULL:
    case TN_VIS_NOT_NULL:
        vp_say(&q->sql, "%s IS %sNULL", x, l->op == TN_VIS_NOT_NULL ? "NOT " : "");
        break;
    case TN_VIS_STARTS:
    case TN_VIS_NOT_STARTS: {
        int low = param_value(q, l->values[0]);
        end = after_prefix(q, l->values[0]);
        vp_say(&q->sql, "%s(%s >= $%d::text", is_negated(l->op) ? "NOT " : "", x, low);
        if (end.p)
            vp_say(&q->sql, " AND %s < $%d::text", x, param_value(q, end));
        vp_say(&q->sql, ")");
        break;
    }
    default:
        vp_say(&q->sql, "%s %s $%d::%s", x, signs[l->op], param_value(q, l->values[0]), cast);
    }
}

/* A number of tn_vis_name, 0 for what is missing. */
static void name_test(vp_query *q, const vp_column *c, const leaf *l)
{
    if (l->op == TN_VIS_IS_NULL || l->op == TN_VIS_NOT_NULL) {
        vp_say(&q->sql, "%s %s 0", c->sql, l->op == TN_VIS_IS_NULL ? "=" : "<>");
        return;
    }
    if (!is_equality(l->op)) {
        vp_say(&q->sql, "%s IN (SELECT id FROM tn_vis_name WHERE ", c->sql);
        scalar_test(q, "s", l);
        vp_say(&q->sql, ")");
        return;
    }
    tn_blob *ids = vp_alloc(&q->mem, l->n * sizeof *ids);
    uint8_t *bytes = vp_alloc(&q->mem, l->n * 4);
    if (!ids || !bytes)
        return;
    int32_t id = 0;
    for (size_t i = 0; i < l->n; i++) {
        id = vp_name_find(q->names, (tn_str){(const char *)l->values[i].p, l->values[i].n});
        id = id ? id : -1; /* a text that no row has */
        for (int k = 0; k < 4; k++)
            bytes[4 * i + (size_t)k] = (uint8_t)((uint32_t)id >> (24 - 8 * k));
        ids[i] = (tn_blob){bytes + 4 * i, 4};
    }
    const char *and_there = is_negated(l->op) ? " AND " : "";
    if (l->n == 1)
        vp_say(&q->sql, "%s %s $%d::int4", c->sql, is_negated(l->op) ? "<>" : "=",
               vp_param_i32(q, id));
    else
        vp_say(&q->sql, "%s %s ($%d::int4[])", c->sql, is_negated(l->op) ? "<> ALL" : "= ANY",
               param_array(q, TN_PG_OID_INT4, ids, l->n));
    if (*and_there)
        vp_say(&q->sql, "%s%s <> 0", and_there, c->sql);
}

static void run_test(vp_query *q, const vp_column *c, const leaf *l)
{
    if (!is_equality(l->op)) {
        bool null = l->op == TN_VIS_IS_NULL || l->op == TN_VIS_NOT_NULL;
        scalar_test(q, null ? c->sql : vp_column_scalar(q, c, false), l);
        return;
    }
    tn_blob *runs = vp_alloc(&q->mem, l->n * sizeof *runs);
    for (size_t i = 0; runs && i < l->n; i++)
        runs[i] = vp_run_encode(&q->mem, (tn_str){(const char *)l->values[i].p, l->values[i].n});
    if (runs && !q->mem.failed)
        vp_say(&q->sql, "%s %s ($%d::bytea[])", c->sql, is_negated(l->op) ? "<> ALL" : "= ANY",
               param_array(q, TN_PG_OID_BYTEA, runs, l->n));
}

/* "d.keys && $n": has any of the values' keys; of a Text of their words'.  By the tally of common values: a row
 * of one of them. */
static void keys_test(vp_query *q, int32_t attr, const leaf *l)
{
    vp_text keys = {0};
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        tn_vd_words it;
        tn_blob v = l->values[i];
        bool text = l->type == TN_ATTR_TEXT;
        tn_vd_words_begin(&it, v);
        while (text ? tn_vd_words_next(&it) : true) {
            uint8_t wide[8];
            if (text)
                v = (tn_blob){(const uint8_t *)it.word, it.n};
            tn_vd_set_i64(wide, vp_key(q->ns, attr, v));
            vp_put(&keys, wide, 8);
            n++;
            if (!text)
                break;
        }
    }
    tn_blob *values = vp_alloc(&q->mem, (n + 1) * sizeof *values);
    q->mem.failed = q->mem.failed || keys.failed;
    for (size_t i = 0; values && !keys.failed && i < n; i++)
        values[i] = (tn_blob){(const uint8_t *)keys.p + 8 * i, 8};
    if (values && !keys.failed) {
        q->keys_at = param_array(q, TN_PG_OID_INT8, values, n);
        q->n_keys = n;
        if (q->by_key)
            vp_say(&q->sql, "d.key = ANY ($%d::int8[])", q->keys_at);
        else
            vp_say(&q->sql, "d.keys %s $%d::int8[]", n == 1 ? "@>" : "&&", q->keys_at);
    }
    vp_text_done(&keys);
}

static void custom_test(vp_query *q, const vp_column *c, const leaf *l)
{
    if (!c->attr) { /* no document has it */
        vp_say(&q->sql, l->op == TN_VIS_IS_NULL ? "true" : "false");
        return;
    }
    bool keyed = c->type != TN_ATTR_DOUBLE && c->type != TN_ATTR_DATETIME;
    if (l->op == TN_VIS_NOT_NULL) {
        vp_say(&q->sql, "d.sa ? '%d'", c->attr);
    } else if (l->op == TN_VIS_IS_NULL) {
        vp_say(&q->sql, "(d.sa ? '%d') IS NOT TRUE", c->attr);
    } else if (keyed && is_equality(l->op) && is_negated(l->op)) {
        vp_say(&q->sql, "d.sa ? '%d' AND (", c->attr);
        keys_test(q, c->attr, l);
        vp_say(&q->sql, ") IS NOT TRUE");
    } else if (keyed && is_equality(l->op)) {
        keys_test(q, c->attr, l);
    } else {
        scalar_test(q, vp_column_scalar(q, c, false), l);
    }
}

/* Children are found by the key that their row has of it. */
static void relative_test(vp_query *q, const vp_column *c, const leaf *l)
{
    bool found = l->op == TN_VIS_EQ || l->op == TN_VIS_IN;
    if (found && c->kind == VP_ROOT) { /* the root itself, or what comes of it */
        scalar_test(q, "d.rwf = '' AND d.wf", l);
        vp_say(&q->sql, " OR ");
    }
    if (found) {
        keys_test(q, c->kind == VP_ROOT ? VP_KEY_ROOT : VP_KEY_PARENT, l);
        vp_say(&q->sql, " AND ");
    }
    scalar_test(q, found && c->kind == VP_ROOT ? "d.rwf" : c->sql, l);
}

static void number_test(vp_query *q, const vp_column *c, const leaf *l)
{
    if (c->lack && (l->op == TN_VIS_IS_NULL || l->op == TN_VIS_NOT_NULL)) {
        vp_say(&q->sql, "%s %s %s", c->sql, l->op == TN_VIS_IS_NULL ? "=" : "<>", c->lack);
        return;
    }
    const char *x = c->lack ? c->sql : format(q, "(%s)", c->sql);
    scalar_test(q, x, l);
    if (c->lack)
        vp_say(&q->sql, " AND %s <> %s", c->sql, c->lack);
}

static tn_status put_leaf(vp_query *q, const tn_vis_node *node, uint32_t op, const tn_blob *values,
                          size_t n, tn_error *err)
{
    vp_column c;
    tn_status status = vp_column_find(q->names, node->name, node->type, &c, err);
    if (status != TN_OK)
        return status;
    const leaf l = {.op = op, .type = node->type, .values = values, .n = n};
    vp_say(&q->sql, "(");
    switch (c.kind) {
    case VP_NAME:
        name_test(q, &c, &l);
        break;
    case VP_RUN:
        run_test(q, &c, &l);
        break;
    case VP_NUMBER:
        number_test(q, &c, &l);
        break;
    case VP_TEXT:
        scalar_test(q, c.sql, &l);
        break;
    case VP_PARENT:
    case VP_ROOT:
        relative_test(q, &c, &l);
        break;
    case VP_CUSTOM:
        custom_test(q, &c, &l);
        break;
    }
    vp_say(&q->sql, ")");
    return TN_OK;
}

/* ---- the tree ----------------------------------------------------------------------------------- */

typedef struct frame { /* an AND, OR or NOT whose operands are being written */
    uint32_t arity, left;
    bool turn, any; /* operands are turned round; they are joined by OR */
} frame;

static bool is_logic(const tn_vis_node *node)
{
    return node->op >= TN_VIS_AND && node->op <= TN_VIS_NOT;
}

static bool same_test(const tn_vis_node *a, const tn_vis_node *b, bool turn)
{
    uint32_t x = turn ? turned(a->op) : a->op, y = turn ? turned(b->op) : b->op;
    return !is_logic(b) && (x == TN_VIS_EQ || x == TN_VIS_IN) &&
           (y == TN_VIS_EQ || y == TN_VIS_IN) && a->type == b->type && a->name.n == b->name.n &&
           memcmp(a->name.p, b->name.p, a->name.n) == 0;
}

/* x = 1 OR x = 2 OR ... becomes x IN (1, 2, ...): as many nodes as `most`, from `at` backwards. */
static tn_status put_run(vp_query *q, const tn_vis_node *nodes, size_t at, size_t most, bool turn,
                         size_t *out_taken, tn_error *err)
{
    size_t taken = 1, n = nodes[at].n_values;
    while (taken < most && taken <= at && same_test(&nodes[at], &nodes[at - taken], turn))
        n += nodes[at - taken++].n_values;
    uint32_t op = turn ? turned(nodes[at].op) : nodes[at].op;
    *out_taken = taken;
    for (size_t i = 0; i < taken; i++) {
        tn_status status = check_node(&nodes[at - i], err);
        if (status != TN_OK)
            return status;
    }
    if (taken == 1)
        return put_leaf(q, &nodes[at], op, nodes[at].values, n, err);
    tn_blob *values = vp_alloc(&q->mem, n * sizeof *values);
    if (!values)
        return TN_OK; /* the query has failed, and its end sees that */
    n = 0;
    for (size_t i = 0; i < taken; i++)
        for (size_t k = 0; k < nodes[at - i].n_values; k++)
            values[n++] = nodes[at - i].values[k];
    return put_leaf(q, &nodes[at], TN_VIS_IN, values, n, err);
}

static bool in_tally(const tn_vis_node *node)
{
    return tn_vd_str_is(node->name, "WorkflowType") ||
           tn_vd_str_is(node->name, "ExecutionStatus") ||
           tn_vd_str_is(node->name, "TemporalNamespaceDivision");
}

/* Whether the leaf just written (as `taken` operands of the innermost frame) is one that all matches pass and whose runs
 * are those of its keys' tallies: the values of one attribute that has one value a run don't overlap. */
static bool in_common_tally(const vp_query *q, const frame *stack, size_t depth,
                            const tn_vis_node *node, uint32_t taken)
{
    vp_column c;
    tn_error ignored;
    bool turn = depth && stack[depth - 1].turn;
    uint32_t op = turn ? turned(node->op) : node->op;
    bool single =
        node->type == TN_ATTR_KEYWORD || node->type == TN_ATTR_INT || node->type == TN_ATTR_BOOL;
    if ((op != TN_VIS_EQ && op != TN_VIS_IN) ||
        vp_column_find(q->names, node->name, node->type, &c, &ignored) != TN_OK ||
        c.kind != VP_CUSTOM || !c.attr || node->type == TN_ATTR_DOUBLE ||
        node->type == TN_ATTR_DATETIME || (q->n_keys != 1 && !single) || !q->n_keys)
        return false;
    for (size_t i = 0; i < depth; i++)
        if (stack[i].any && (i + 1 < depth || stack[i].arity != taken))
            return false;
    return true;
}

/* `n` operands of the innermost frame are written: what follows them. */
static void operands_end(vp_query *q, frame *stack, size_t *depth, uint32_t n)
{
    while (*depth) {
        frame *f = &stack[*depth - 1];
        f->left -= n;
        if (f->left) {
            vp_say(&q->sql, f->any ? " OR " : " AND ");
            return;
        }
        vp_say(&q->sql, ")");
        --*depth;
        n = 1;
    }
}

static tn_status put_tree(vp_query *q, const tn_vis_node *nodes, size_t n, frame *stack,
                          vp_tally *out_tally, tn_error *err)
{
    size_t depth = 0, at = n, others = 0;
    do {
        const tn_vis_node *node = &nodes[--at];
        const frame *top = depth ? &stack[depth - 1] : NULL;
        bool turn = top && top->turn;
        if (is_logic(node)) {
            uint32_t arity = node->op == TN_VIS_NOT ? 1 : node->arity;
            if (arity == 0 || arity > at)
                return tn_pg_error(err, TN_EINVALID, "the filter is not a tree");
            stack[depth++] = (frame){.arity = arity,
                                     .left = arity,
                                     .turn = turn != (node->op == TN_VIS_NOT),
                                     .any = (node->op == TN_VIS_OR) != turn};
            vp_say(&q->sql, "(");
            continue;
        }
        size_t taken = 1, most = top && top->any ? top->left : 1;
        tn_status status = put_run(q, nodes, at, most, turn, &taken, err);
        if (status != TN_OK)
            return status;
        if (!in_tally(node))
            *out_tally = others++ == 0 && in_common_tally(q, stack, depth, node, (uint32_t)taken)
                             ? VP_TALLY_COMMON
                             : VP_TALLY_NONE;
        at -= taken - 1;
        operands_end(q, stack, &depth, (uint32_t)taken);
    } while (at && depth);
    if (at || depth)
        return tn_pg_error(err, TN_EINVALID, "the filter is not a tree");
    return TN_OK;
}

tn_status vp_filter_put(vp_query *q, const tn_vis_query *query, vp_tally *out_tally, tn_error *err)
{
    *out_tally = VP_TALLY_ALL;
    if (query->n_filter == 0)
        return TN_OK;
    frame *stack = calloc(query->n_filter, sizeof *stack);
    if (!stack) {
        q->mem.failed = true;
        return TN_OK;
    }
    vp_say(&q->sql, " AND ");
    tn_status status = put_tree(q, query->filter, query->n_filter, stack, out_tally, err);
    free(stack);
    return status;
}

void vp_filter_wants(vp_wants *wants, const vp_names *names, const tn_vis_query *query)
{
    vp_column c;
    tn_error ignored;
    vp_want_name(wants, names, query->ns_id);
    for (size_t i = 0; i < query->n_filter; i++) {
        const tn_vis_node *node = &query->filter[i];
        if (is_logic(node) || check_node(node, &ignored) != TN_OK ||
            vp_column_find(names, node->name, node->type, &c, &ignored) != TN_OK)
            continue;
        if (c.kind == VP_CUSTOM && !c.attr)
            vp_want_attr(wants, names, node->name, node->type);
        for (size_t k = 0; c.kind == VP_NAME && is_equality(node->op) && k < node->n_values; k++)
            vp_want_name(wants, names,
                         (tn_str){(const char *)node->values[k].p, node->values[k].n});
    }
    for (size_t i = 0; i < query->n_order; i++)
        if (vp_column_find(names, query->order[i].name, query->order[i].type, &c, &ignored) ==
                TN_OK &&
            c.kind == VP_CUSTOM)
            vp_want_attr(wants, names, query->order[i].name, query->order[i].type);
    for (size_t i = 0; i < query->n_group_by; i++)
        if (vp_column_find(names, query->group_by[i].name, query->group_by[i].type, &c, &ignored) ==
                TN_OK &&
            c.kind == VP_CUSTOM)
            vp_want_attr(wants, names, query->group_by[i].name, query->group_by[i].type);
}
