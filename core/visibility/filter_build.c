/* SPDX-License-Identifier: MIT */
/* Gives the words of a list filter their meaning: which attribute a name is, whether its type takes the
 * operator, and what the value is in that type.  Texts are those that clients of the reference server
 * know. */
#include <math.h>
#include <stdio.h>

#include "visibility/filter.h"

#define DIVISION "TemporalNamespaceDivision"
#define TWO_63 9223372036854775808.0

static void mistake(tn_filter_build *b, const char *fmt, ...) TN_PRINTF(2, 3);

static void mistake(tn_filter_build *b, const char *fmt, ...)
{
    if (b->mistake)
        return;
    va_list args;
    va_start(args, fmt);
    char *text = tn_arena_vprintf(b->arena, fmt, args);
    va_end(args);
    if (!text)
        b->out_of_memory = true;
    b->mistake =
        tn_fault_make(b->arena, TN_GRPC_INVALID_ARGUMENT, "invalid query: %s", text ? text : "");
}

void tn_filter_mistake(tn_filter_build *b, const char *text) { mistake(b, "%s", text); }

/* ---- nodes ------------------------------------------------------------------------------------ */

static void add_node(tn_filter_build *b, const tn_vis_node *node)
{
    if (b->mistake || b->out_of_memory)
        return;
    if (b->n_nodes == b->cap_nodes) {
        size_t cap = b->cap_nodes ? b->cap_nodes * 2 : 16;
        tn_vis_node *grown = TN_NEW_ARRAY(b->arena, tn_vis_node, cap);
        if (!grown) {
            b->out_of_memory = true;
            return;
        }
        if (b->n_nodes)
            memcpy(grown, b->nodes, b->n_nodes * sizeof(*grown));
        b->nodes = grown, b->cap_nodes = cap;
    }
    b->nodes[b->n_nodes++] = *node;
}

void tn_filter_logic(tn_filter_build *b, uint32_t op, uint32_t arity)
{
    add_node(b, &(tn_vis_node){.op = op, .arity = arity});
}

static void add_test(tn_filter_build *b, uint32_t op, tn_str name, uint32_t type,
                     const tn_blob *values, size_t count)
{
    add_node(
        b,
        &(tn_vis_node){
            .op = op, .name = name, .type = type, .n_values = (uint32_t)count, .values = values});
}

/* A test that is false wherever the attribute is there (or true, negated), and unknown elsewhere. */
static void add_never(tn_filter_build *b, tn_str name, bool negated)
{
    tn_blob *ends = TN_NEW_ARRAY(b->arena, tn_blob, 2);
    if (!ends) {
        b->out_of_memory = true;
        return;
    }
    ends[0] = tn_vis_encode_i64(b->arena, 1);
    ends[1] = tn_vis_encode_i64(b->arena, 0);
    add_test(b, TN_VIS_BETWEEN, name, TN_ATTR_INT, ends, 2);
    if (negated)
        tn_filter_logic(b, TN_VIS_NOT, 1);
}

/* ---- names ------------------------------------------------------------------------------------ */

/* 0: unknown, and noted. */
static uint32_t resolve(tn_filter_build *b, tn_str *name)
{
    tn_str prefix = TN_STR("Temporal");
    uint32_t type = tn_search_attr_type(b->ns, *name);
    tn_str found = *name;
    if (!type && b->division && b->division->id_name && tn_str_is(*name, b->division->id_name)) {
        found = TN_STR("WorkflowId");
        type = TN_ATTR_KEYWORD;
    } else if (!type && b->division && b->division->type_name &&
               tn_str_is(*name, b->division->type_name)) {
        found = TN_STR("WorkflowType");
        type = TN_ATTR_KEYWORD;
    } else if (!type &&
               (tn_str_is(*name, "ScheduleId") || tn_str_is(*name, "TemporalScheduleId"))) {
        found = TN_STR("WorkflowId");
        type = TN_ATTR_KEYWORD;
    } else if (!type && tn_str_starts(*name, prefix)) {
        found = (tn_str){name->p + prefix.n, name->n - prefix.n};
        type = tn_search_attr_type(b->ns, found);
    } else if (!type && name->n <= 200) {
        char *longer = tn_arena_printf(b->arena, "Temporal" TN_STR_FMT, TN_STR_ARG(*name));
        found = tn_str_from(longer ? longer : "");
        type = tn_search_attr_type(b->ns, found);
    }
    if (!type) {
        mistake(b, "invalid search attribute: " TN_STR_FMT, TN_STR_ARG(*name));
        return 0;
    }
    if (tn_str_is(found, DIVISION))
        b->division_seen = true;
    *name = found;
    return type;
}

/* ---- values ----------------------------------------------------------------------------------- */

static const char *kind_name(tn_filter_kind kind)
{
    switch (kind) {
    case TN_FILTER_INT:
        return "int64";
    case TN_FILTER_FLOAT:
        return "float64";
    case TN_FILTER_STRING:
        return "string";
    case TN_FILTER_BOOL:
        return "bool";
    case TN_FILTER_NULL:
    case TN_FILTER_COLUMN:
    case TN_FILTER_UNREADABLE:
        break;
    }
    return "NULL";
}

/* As the reference's messages show a value: strings quoted, floats in the shortest form. */
static const char *value_text(tn_filter_build *b, const tn_filter_value *v)
{
    char number[40];
    switch (v->kind) {
    case TN_FILTER_STRING: {
        tn_str quoted = tn_json_quote(b->arena, v->text);
        return quoted.p ? quoted.p : "";
    }
    case TN_FILTER_BOOL:
        return v->b ? "true" : "false";
    case TN_FILTER_INT: {
        char *text = tn_arena_printf(b->arena, "%lld", (long long)v->i);
        return text ? text : "";
    }
    case TN_FILTER_FLOAT:
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(number, sizeof(number), "%.*g", digits, v->f);
            double back;
            if (tn_parse_f64(tn_str_from(number), &back) && back == v->f)
                break;
        }
        break;
    case TN_FILTER_NULL:
    case TN_FILTER_COLUMN:
    case TN_FILTER_UNREADABLE:
        return "";
    }
    char *text = tn_arena_strdup(b->arena, number);
    return text ? text : "";
}

static void wrong_type(tn_filter_build *b, tn_str name, uint32_t type, const tn_filter_value *v)
{
    mistake(b,
            "invalid expression: invalid value type for search attribute " TN_STR_FMT
            " of type %s: %s (type: %s)",
            TN_STR_ARG(name), tn_search_attr_type_name(type), value_text(b, v), kind_name(v->kind));
}

static tn_blob status_value(tn_filter_build *b, const tn_filter_value *v)
{
    const char *name = NULL;
    if (v->kind == TN_FILTER_INT) {
        if (v->i >= 0 && v->i <= INT32_MAX)
            name = tn_vis_status_name((int32_t)v->i);
        if (!name)
            mistake(b, "invalid expression: invalid ExecutionStatus value %lld", (long long)v->i);
    } else if (v->kind == TN_FILTER_STRING) {
        int32_t status = tn_vis_status_parse(v->text);
        if (status)
            name = tn_vis_status_name(status);
        else
            mistake(b, "invalid expression: invalid ExecutionStatus value '" TN_STR_FMT "'",
                    TN_STR_ARG(v->text));
    } else if (v->kind == TN_FILTER_BOOL) {
        wrong_type(b, TN_STR("ExecutionStatus"), TN_ATTR_KEYWORD, v);
    } else {
        mistake(b,
                "invalid expression: unexpected value type %s for search attribute ExecutionStatus",
                kind_name(v->kind));
    }
    return name ? tn_blob_from(name, strlen(name)) : (tn_blob){NULL, 0};
}

static tn_blob duration_value(tn_filter_build *b, const tn_filter_value *v)
{
    int64_t ns = v->i;
    if (v->kind == TN_FILTER_STRING) {
        if (!tn_vis_parse_execution_duration(v->text, &ns))
            mistake(b,
                    "invalid expression: invalid duration value for search attribute "
                    "ExecutionDuration: " TN_STR_FMT,
                    TN_STR_ARG(v->text));
    } else if (v->kind == TN_FILTER_BOOL) {
        wrong_type(b, TN_STR("ExecutionDuration"), TN_ATTR_INT, v);
    } else if (v->kind != TN_FILTER_INT) {
        mistake(
            b,
            "invalid expression: unexpected value type %s for search attribute ExecutionDuration",
            kind_name(v->kind));
    }
    return tn_vis_encode_i64(b->arena, ns);
}

static tn_blob datetime_value(tn_filter_build *b, tn_str name, const tn_filter_value *v)
{
    int64_t ns = v->i;
    if (v->kind == TN_FILTER_STRING) {
        if (!tn_parse_rfc3339_ns(v->text, &ns))
            mistake(b, "invalid expression: unable to parse datetime '" TN_STR_FMT "'",
                    TN_STR_ARG(v->text));
    } else if (v->kind != TN_FILTER_INT) {
        wrong_type(b, name, TN_ATTR_DATETIME, v);
    }
    return tn_vis_encode_i64(b->arena, ns);
}

/* True when the value is one at all. */
static bool check_value(tn_filter_build *b, const tn_filter_value *v)
{
    switch (v->kind) {
    case TN_FILTER_INT:
    case TN_FILTER_FLOAT:
    case TN_FILTER_STRING:
    case TN_FILTER_BOOL:
        return true;
    case TN_FILTER_NULL:
        mistake(b, "invalid expression: unexpected value type NULL");
        return false;
    case TN_FILTER_COLUMN:
        mistake(
            b,
            "operation is not supported: column name on the right side of comparison expression "
            "(did you forget to quote \"" TN_STR_FMT "\"?)",
            TN_STR_ARG(v->text));
        return false;
    case TN_FILTER_UNREADABLE:
        mistake(b, "invalid expression: unable to parse value \"" TN_STR_FMT "\"",
                TN_STR_ARG(v->text));
        return false;
    }
    return false;
}

/* The value in the attribute's type.  An Int takes a float too: that one is left to the caller
 * (p NULL, no mistake). */
static tn_blob convert(tn_filter_build *b, tn_str name, uint32_t type, const tn_filter_value *v)
{
    tn_blob none = {NULL, 0};
    if (!check_value(b, v))
        return none;
    if (tn_str_is(name, "ExecutionStatus"))
        return status_value(b, v);
    if (tn_str_is(name, "ExecutionDuration"))
        return duration_value(b, v);
    bool number = v->kind == TN_FILTER_INT || v->kind == TN_FILTER_FLOAT;
    switch (type) {
    case TN_ATTR_INT:
        if (!number)
            wrong_type(b, name, type, v);
        return v->kind == TN_FILTER_INT ? tn_vis_encode_i64(b->arena, v->i) : none;
    case TN_ATTR_DOUBLE:
        if (!number)
            wrong_type(b, name, type, v);
        return tn_vis_encode_f64(b->arena, v->kind == TN_FILTER_INT ? (double)v->i : v->f);
    case TN_ATTR_BOOL:
        if (v->kind != TN_FILTER_BOOL)
            wrong_type(b, name, type, v);
        return tn_vis_encode_bool(b->arena, v->b);
    case TN_ATTR_DATETIME:
        return datetime_value(b, name, v);
    default:
        if (v->kind != TN_FILTER_STRING)
            wrong_type(b, name, type, v);
        return (tn_blob){v->text.p ? (const uint8_t *)v->text.p : (const uint8_t *)"", v->text.n};
    }
}

/* ---- floats against Int attributes ------------------------------------------------------------ */

static double as_double(const tn_filter_value *v)
{
    return v->kind == TN_FILTER_INT ? (double)v->i : v->f;
}

/* Integral and in range: *out.  */
static bool as_integer(const tn_filter_value *v, int64_t *out)
{
    *out = v->i;
    if (v->kind == TN_FILTER_INT)
        return true;
    if (v->f != floor(v->f) || v->f < -TWO_63 || v->f >= TWO_63)
        return false;
    *out = (int64_t)v->f;
    return true;
}

/* x <op> f for integers x is x <= floor(f) or x >= ceil(f). */
static void compare_bound(tn_filter_build *b, tn_str name, tn_filter_op op,
                          const tn_filter_value *v)
{
    bool below = op == TN_FILTER_LT || op == TN_FILTER_LE;
    int64_t exact;
    tn_blob *one = TN_NEW(b->arena, tn_blob);
    if (!one) {
        b->out_of_memory = true;
        return;
    }
    static const uint32_t ops[] = {
        [TN_FILTER_LT] = TN_VIS_LT,
        [TN_FILTER_LE] = TN_VIS_LE,
        [TN_FILTER_GT] = TN_VIS_GT,
        [TN_FILTER_GE] = TN_VIS_GE,
    };
    if (as_integer(v, &exact)) {
        *one = tn_vis_encode_i64(b->arena, exact);
        add_test(b, ops[op], name, TN_ATTR_INT, one, 1);
        return;
    }
    double f = as_double(v);
    if (f >= TWO_63 || f < -TWO_63) {
        add_never(b, name, below == (f > 0));
        return;
    }
    *one = tn_vis_encode_i64(b->arena, (int64_t)(below ? floor(f) : ceil(f)));
    add_test(b, below ? TN_VIS_LE : TN_VIS_GE, name, TN_ATTR_INT, one, 1);
}

static void compare_int(tn_filter_build *b, tn_str name, tn_filter_op op,
                        const tn_filter_value *values, size_t count)
{
    if (op >= TN_FILTER_LT && op <= TN_FILTER_GE) {
        compare_bound(b, name, op, values);
        return;
    }
    bool negated = op == TN_FILTER_NE || op == TN_FILTER_NOT_IN;
    tn_blob *kept = TN_NEW_ARRAY(b->arena, tn_blob, count);
    size_t n = 0;
    if (!kept) {
        b->out_of_memory = true;
        return;
    }
    for (size_t i = 0; i < count; i++) { /* no integer equals a fraction */
        int64_t exact;
        if (as_integer(&values[i], &exact))
            kept[n++] = tn_vis_encode_i64(b->arena, exact);
    }
    if (n == 0)
        add_never(b, name, negated);
    else if (op == TN_FILTER_IN || op == TN_FILTER_NOT_IN)
        add_test(b, negated ? TN_VIS_NOT_IN : TN_VIS_IN, name, TN_ATTR_INT, kept, n);
    else
        add_test(b, negated ? TN_VIS_NE : TN_VIS_EQ, name, TN_ATTR_INT, kept, n);
}

/* ---- comparisons ------------------------------------------------------------------------------ */

static const struct {
    const char *text;
    uint32_t op; /* 0: no type takes it */
} operators[] = {
    [TN_FILTER_EQ] = {"=", TN_VIS_EQ},
    [TN_FILTER_NE] = {"!=", TN_VIS_NE},
    [TN_FILTER_LT] = {"<", TN_VIS_LT},
    [TN_FILTER_LE] = {"<=", TN_VIS_LE},
    [TN_FILTER_GT] = {">", TN_VIS_GT},
    [TN_FILTER_GE] = {">=", TN_VIS_GE},
    [TN_FILTER_IN] = {"IN", TN_VIS_IN},
    [TN_FILTER_NOT_IN] = {"NOT IN", TN_VIS_NOT_IN},
    [TN_FILTER_STARTS] = {"STARTS_WITH", TN_VIS_STARTS},
    [TN_FILTER_NOT_STARTS] = {"NOT STARTS_WITH", TN_VIS_NOT_STARTS},
    [TN_FILTER_LIKE] = {"LIKE", 0},
    [TN_FILTER_NOT_LIKE] = {"NOT LIKE", 0},
    [TN_FILTER_REGEXP] = {"REGEXP", 0},
    [TN_FILTER_NOT_REGEXP] = {"NOT REGEXP", 0},
    [TN_FILTER_NULL_SAFE_EQ] = {"<=>", 0},
};

static bool type_takes(uint32_t type, tn_filter_op op)
{
    switch (type) {
    case TN_ATTR_TEXT:
        return op == TN_FILTER_EQ || op == TN_FILTER_NE;
    case TN_ATTR_KEYWORD_LIST:
        return op == TN_FILTER_EQ || op == TN_FILTER_NE || op == TN_FILTER_IN ||
               op == TN_FILTER_NOT_IN;
    case TN_ATTR_KEYWORD:
        return operators[op].op != 0;
    default:
        return op <= TN_FILTER_NOT_IN;
    }
}

void tn_filter_compare(tn_filter_build *b, tn_str name, tn_filter_op op,
                       const tn_filter_value *values, size_t count)
{
    tn_str alias = name;
    uint32_t type = b->mistake ? 0 : resolve(b, &name);
    if (!type)
        return;
    tn_blob *blobs = TN_NEW_ARRAY(b->arena, tn_blob, count);
    if (!blobs) {
        b->out_of_memory = true;
        return;
    }
    for (size_t i = 0; i < count && !b->mistake; i++)
        blobs[i] = convert(b, name, type, &values[i]);
    if (!type_takes(type, op))
        mistake(b,
                "operation is not supported: operator '%s' not supported for %s type search "
                "attribute '" TN_STR_FMT "'",
                operators[op].text, tn_search_attr_type_name(type), TN_STR_ARG(alias));
    if (type == TN_ATTR_TEXT && !b->mistake && !tn_vis_has_word(values[0].text))
        mistake(b,
                "invalid expression: no tokens found filtering on Text type search "
                "attribute " TN_STR_FMT,
                TN_STR_ARG(alias));
    if (b->mistake)
        return;
    if (type == TN_ATTR_INT && !tn_str_is(name, "ExecutionDuration"))
        compare_int(b, name, op, values, count);
    else
        add_test(b, operators[op].op, name, type, blobs, count);
}

void tn_filter_between(tn_filter_build *b, tn_str name, bool negated, const tn_filter_value ends[2])
{
    tn_str alias = name;
    uint32_t type = b->mistake ? 0 : resolve(b, &name);
    if (!type)
        return;
    if (type != TN_ATTR_DATETIME && type != TN_ATTR_DOUBLE && type != TN_ATTR_INT &&
        type != TN_ATTR_KEYWORD) {
        mistake(b,
                "invalid expression: cannot do range condition on search attribute '" TN_STR_FMT
                "' of type %s",
                TN_STR_ARG(alias), tn_search_attr_type_name(type));
        return;
    }
    tn_blob *blobs = TN_NEW_ARRAY(b->arena, tn_blob, 2);
    if (!blobs) {
        b->out_of_memory = true;
        return;
    }
    for (size_t i = 0; i < 2 && !b->mistake; i++)
        blobs[i] = convert(b, name, type, &ends[i]);
    if (b->mistake)
        return;
    if (!blobs[0].p || !blobs[1].p) { /* a float against an Int */
        double low = ceil(as_double(&ends[0])), high = floor(as_double(&ends[1]));
        if (low >= TWO_63 || high < -TWO_63) {
            add_never(b, name, negated);
            return;
        }
        blobs[0] = tn_vis_encode_i64(b->arena, low < -TWO_63 ? INT64_MIN : (int64_t)low);
        blobs[1] = tn_vis_encode_i64(b->arena, high >= TWO_63 ? INT64_MAX : (int64_t)high);
    }
    add_test(b, TN_VIS_BETWEEN, name, type, blobs, 2);
    if (negated)
        tn_filter_logic(b, TN_VIS_NOT, 1);
}

void tn_filter_is_null(tn_filter_build *b, tn_str name, bool negated)
{
    uint32_t type = b->mistake ? 0 : resolve(b, &name);
    if (type)
        add_test(b, negated ? TN_VIS_NOT_NULL : TN_VIS_IS_NULL, name, type, NULL, 0);
}

/* ---- clauses ---------------------------------------------------------------------------------- */

void tn_filter_order(tn_filter_build *b, tn_str name, bool descending)
{
    uint32_t type = b->mistake ? 0 : resolve(b, &name);
    if (!type)
        return;
    if (type == TN_ATTR_TEXT) {
        mistake(b, "operation is not supported: unable to sort by search attribute type Text");
        return;
    }
    if (b->n_order == b->cap_order) {
        size_t cap = b->cap_order ? b->cap_order * 2 : 4;
        tn_vis_order *grown = TN_NEW_ARRAY(b->arena, tn_vis_order, cap);
        if (!grown) {
            b->out_of_memory = true;
            return;
        }
        if (b->n_order)
            memcpy(grown, b->order, b->n_order * sizeof(*grown));
        b->order = grown, b->cap_order = cap;
    }
    if (b->n_order == 16) {
        mistake(b, "operation is not supported: 'ORDER BY' clause of more than 16 fields");
        return;
    }
    b->order[b->n_order++] = (tn_vis_order){.name = name, .type = type, .descending = descending};
}

void tn_filter_group(tn_filter_build *b, tn_str name)
{
    static const char *const allowed[] = {"ExecutionStatus", DIVISION, "WorkflowType", "TaskQueue"};
    tn_str alias = name;
    if (b->n_group) {
        mistake(b, "operation is not supported: 'GROUP BY' clause supports only a single field");
        return;
    }
    uint32_t type = b->mistake ? 0 : resolve(b, &name);
    if (!type)
        return;
    bool ok = tn_str_starts(name, TN_STR("TemporalLowCardinalityKeyword"));
    for (size_t i = 0; i < TN_COUNT_OF(allowed); i++)
        ok = ok || tn_str_is(name, allowed[i]);
    if (!ok) {
        mistake(b,
                "operation is not supported: 'GROUP BY' clause is not supported for search "
                "attribute " TN_STR_FMT,
                TN_STR_ARG(alias));
        return;
    }
    b->group = TN_NEW(b->arena, tn_attr);
    if (!b->group) {
        b->out_of_memory = true;
        return;
    }
    *b->group = (tn_attr){.name = name, .type = type};
    b->n_group = 1;
}

static void add_division(tn_filter_build *b)
{
    tn_blob *value = TN_NEW(b->arena, tn_blob);

    if (!value) {
        b->out_of_memory = true;
        return;
    }
    *value = tn_blob_of_str(tn_str_from(b->division->value));
    add_test(b, TN_VIS_EQ, TN_STR(DIVISION), TN_ATTR_KEYWORD, value, 1);
}

const tn_fault *tn_filter_finish(tn_filter_build *b, uint32_t use, tn_vis_query *out)
{
    if (b->mistake)
        return b->mistake;
    if (!b->division_seen || b->division) {
        /* Runs of internal divisions show only where the query names them. */
        tn_vis_node root = {.op = TN_VIS_AND, .arity = 1};
        if (b->n_nodes && b->nodes[b->n_nodes - 1].op == TN_VIS_AND)
            root = b->nodes[--b->n_nodes];
        if (b->division)
            add_division(b);
        else
            add_test(b, TN_VIS_IS_NULL, TN_STR(DIVISION), TN_ATTR_KEYWORD, NULL, 0);
        if (b->has_filter)
            tn_filter_logic(b, TN_VIS_AND, root.arity + 1);
    }
    if (b->out_of_memory)
        return tn_fault_from_status(b->arena, TN_ETOOLARGE, NULL);
    out->struct_size = sizeof(*out);
    if (b->ns)
        out->ns_id = b->ns->id;
    out->filter = b->nodes, out->n_filter = b->n_nodes;
    out->order = b->order, out->n_order = b->n_order;
    bool grouped = use == TN_VIS_FOR_COUNT && b->n_group;
    out->group_by = grouped ? b->group : NULL, out->n_group_by = grouped ? 1 : 0;
    return NULL;
}
