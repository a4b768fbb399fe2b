/* SPDX-License-Identifier: MIT */
/* The list filter: what each form means, and what is said of the forms that mean nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "visibility/visibility.h"

static const tn_search_attr custom[] = {
    {{"CB", 2}, TN_ATTR_BOOL},      {{"CD", 2}, TN_ATTR_DOUBLE},
    {{"CDT", 3}, TN_ATTR_DATETIME}, {{"CI", 2}, TN_ATTR_INT},
    {{"CK", 2}, TN_ATTR_KEYWORD},   {{"CL", 2}, TN_ATTR_KEYWORD_LIST},
    {{"CT", 2}, TN_ATTR_TEXT},      {{"odd-name", 8}, TN_ATTR_KEYWORD},
};
static const tn_namespace ns = {
    .name = {"test", 4},
    .id = {"11111111-1111-4111-8111-111111111111", 36},
    .custom_attrs = custom,
    .n_custom_attrs = TN_COUNT_OF(custom),
};

static const char *op_name(uint32_t op)
{
    switch (op) {
    case TN_VIS_AND:
        return "and";
    case TN_VIS_OR:
        return "or";
    case TN_VIS_NOT:
        return "not";
    case TN_VIS_EQ:
        return "=";
    case TN_VIS_NE:
        return "!=";
    case TN_VIS_LT:
        return "<";
    case TN_VIS_LE:
        return "<=";
    case TN_VIS_GT:
        return ">";
    case TN_VIS_GE:
        return ">=";
    case TN_VIS_IN:
        return "in";
    case TN_VIS_NOT_IN:
        return "not-in";
    case TN_VIS_BETWEEN:
        return "between";
    case TN_VIS_IS_NULL:
        return "null";
    case TN_VIS_NOT_NULL:
        return "not-null";
    case TN_VIS_STARTS:
        return "starts";
    case TN_VIS_NOT_STARTS:
        return "not-starts";
    default:
        return "?";
    }
}

static char *show_value(tn_arena *arena, uint32_t type, tn_blob v)
{
    double d;
    uint64_t bits;
    switch (type) {
    case TN_ATTR_INT:
    case TN_ATTR_DATETIME:
        return tn_arena_printf(arena, "%lld", (long long)tn_get_u64be(v.p));
    case TN_ATTR_BOOL:
        return tn_arena_printf(arena, "%s", v.p[0] ? "true" : "false");
    case TN_ATTR_DOUBLE:
        bits = tn_get_u64be(v.p);
        memcpy(&d, &bits, sizeof(d));
        return tn_arena_printf(arena, "%g", d);
    default:
        return tn_arena_printf(arena, "'%.*s'", (int)v.n, (const char *)v.p);
    }
}

/* The tree as nested lists; the division rule, which stands in nearly every query, is left away. */
static const char *show(tn_arena *arena, const tn_vis_query *q)
{
    const char *stack[4096];
    size_t depth = 0;
    for (size_t i = 0; i < q->n_filter; i++) {
        const tn_vis_node *node = &q->filter[i];
        char *text = tn_arena_printf(arena, "(%s", op_name(node->op));
        size_t arity = node->op == TN_VIS_NOT ? 1 : node->op <= TN_VIS_OR ? node->arity : 0;
        assert_true(depth >= arity);
        for (size_t k = 0; k < arity; k++)
            text = tn_arena_printf(arena, "%s %s", text, stack[depth - arity + k]);
        if (!arity)
            text = tn_arena_printf(arena, "%s %.*s", text, (int)node->name.n, node->name.p);
        for (size_t k = 0; k < node->n_values; k++)
            text = tn_arena_printf(arena, "%s %s", text,
                                   show_value(arena, node->type, node->values[k]));
        depth -= arity;
        assert_true(depth < TN_COUNT_OF(stack));
        stack[depth++] = tn_arena_printf(arena, "%s)", text);
    }
    assert_int_equal(depth, q->n_filter ? 1 : 0);
    return depth ? stack[0] : "";
}

#define DIVISION_RULE "(null TemporalNamespaceDivision)"

static void means(const char *text, const char *tree)
{
    tn_arena *arena = tn_arena_create(0);
    tn_vis_query q = {0};
    const tn_fault *fault = tn_vis_query_parse(arena, &ns, tn_str_from(text), TN_VIS_FOR_COUNT, &q);
    if (fault)
        fail_msg("%s: %.*s", text, (int)fault->message.n, fault->message.p);
    assert_string_equal(show(arena, &q), tree);
    assert_true(tn_str_eq(q.ns_id, ns.id));
    tn_arena_destroy(arena);
}

/* One comparison: the division rule is added here. */
static void tests(const char *text, const char *tree)
{
    char whole[2048];
    snprintf(whole, sizeof(whole), "(and %s " DIVISION_RULE ")", tree);
    means(text, whole);
}

static void refused(const char *text, const char *message)
{
    tn_arena *arena = tn_arena_create(0);
    tn_vis_query q = {0};
    const tn_fault *fault = tn_vis_query_parse(arena, &ns, tn_str_from(text), TN_VIS_FOR_COUNT, &q);
    if (!fault)
        fail_msg("%s: was taken", text);
    assert_int_equal(fault->code, TN_GRPC_INVALID_ARGUMENT);
    char *got = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(fault->message));
    char *want = tn_arena_printf(arena, "invalid query: %s", message);
    assert_string_equal(got, want);
    tn_arena_destroy(arena);
}

static void test_comparisons(void **state)
{
    (void)state;
    means("", DIVISION_RULE);
    means("  \n", DIVISION_RULE);
    tests("WorkflowType = 'a'", "(= WorkflowType 'a')");
    tests("`WorkflowType` = \"a\"", "(= WorkflowType 'a')");
    tests("CK <> 'a'", "(!= CK 'a')");
    tests("CK != 'a'", "(!= CK 'a')");
    tests("`odd-name`>='x'", "(>= odd-name 'x')");
    tests("CK in ('a' , 'b','c')", "(in CK 'a' 'b' 'c')");
    tests("CK NOT IN ('a')", "(not-in CK 'a')");
    tests("CK STARTS_WITH 'a'", "(starts CK 'a')");
    tests("CK not starts_with 'a'", "(not-starts CK 'a')");
    tests("CI BETWEEN 1 AND 2", "(between CI 1 2)");
    tests("CK NOT BETWEEN 'a' AND 'b'", "(not (between CK 'a' 'b'))");
    tests("CK IS NULL", "(null CK)");
    tests("CK is not null", "(not-null CK)");
    tests("CL = 'x'", "(= CL 'x')");
    tests("CL IN ('x', 'y')", "(in CL 'x' 'y')");
    tests("CT = 'some words'", "(= CT 'some words')");
    tests("CB = true", "(= CB true)");
    tests("CB IN (TRUE, false)", "(in CB true false)");
    tests("CK = 'a' -- a remark", "(= CK 'a')");
    tests("/* a remark */ CK = 'a'", "(= CK 'a')");
}

static void test_values(void **state)
{
    (void)state;
    tests("CK = 'it''s'", "(= CK 'it's')");
    tests("CK = 'it\\'s'", "(= CK 'it's')");
    tests("CK = 'a\\\\b'", "(= CK 'a\\b')");
    tests("CK = ''", "(= CK '')");
    tests("CI = -5", "(= CI -5)");
    tests("CI = +5", "(= CI 5)");
    tests("CI = -9223372036854775808", "(= CI -9223372036854775808)");
    tests("CD > 1e3", "(> CD 1000)");
    tests("CD = 5", "(= CD 5)");
    tests("CD = .5", "(= CD 0.5)");
    tests("CDT = 5", "(= CDT 5)");
    tests("StartTime > '2020-01-01T00:00:00+02:00'", "(> StartTime 1577829600000000000)");
    tests("StartTime BETWEEN '1970-01-01T00:00:01Z' AND '1970-01-01T00:00:02.5Z'",
          "(between StartTime 1000000000 2500000000)");
    tests("ExecutionStatus = 'Running'", "(= ExecutionStatus 'Running')");
    tests("ExecutionStatus = 'WORKFLOW_EXECUTION_STATUS_TIMED_OUT'",
          "(= ExecutionStatus 'TimedOut')");
    tests("ExecutionStatus IN (1, 'Failed')", "(in ExecutionStatus 'Running' 'Failed')");
    tests("ExecutionDuration > '1h'", "(> ExecutionDuration 3600000000000)");
    tests("ExecutionDuration > '1d'", "(> ExecutionDuration 86400000000000)");
    tests("ExecutionDuration > '1d12h'", "(> ExecutionDuration 129600000000000)");
    tests("ExecutionDuration < '01:02:03'", "(< ExecutionDuration 3723000000000)");
    tests("ExecutionDuration = '5'", "(= ExecutionDuration 5)");
    tests("ExecutionDuration = 5", "(= ExecutionDuration 5)");
    tests("HistoryLength >= 10", "(>= HistoryLength 10)");
}

static void test_floats_against_ints(void **state)
{
    (void)state;
    tests("CI = 2.0", "(= CI 2)");
    tests("CI = 1.5", "(between CI 1 0)");
    tests("CI != 1.5", "(not (between CI 1 0))");
    tests("CI < 1.5", "(<= CI 1)");
    tests("CI <= 1.5", "(<= CI 1)");
    tests("CI > 1.5", "(>= CI 2)");
    tests("CI > -1.5", "(>= CI -1)");
    tests("CI < 1e30", "(not (between CI 1 0))");
    tests("CI > 1e30", "(between CI 1 0)");
    tests("CI > -1e30", "(not (between CI 1 0))");
    tests("CI = 99999999999999999999", "(between CI 1 0)");
    tests("CI IN (1, 1.5, 2)", "(in CI 1 2)");
    tests("CI NOT IN (1.5)", "(not (between CI 1 0))");
    tests("CI BETWEEN 0.5 AND 2.5", "(between CI 1 2)");
    tests("CI BETWEEN -1e30 AND 2.5", "(between CI -9223372036854775808 2)");
    tests("CI BETWEEN 1e30 AND 2e30", "(between CI 1 0)");
}

static void test_logic(void **state)
{
    (void)state;
    means("CI=1 AND CI=2 AND CI=3", "(and (= CI 1) (= CI 2) (= CI 3) " DIVISION_RULE ")");
    means("CI=1 and CI=2 or CI=3", "(and (or (and (= CI 1) (= CI 2)) (= CI 3)) " DIVISION_RULE ")");
    means("CI=1 || CI=2 && CI=3", "(and (or (= CI 1) (and (= CI 2) (= CI 3))) " DIVISION_RULE ")");
    means("(CI=1 OR CI=2) AND NOT CI=3",
          "(and (or (= CI 1) (= CI 2)) (not (= CI 3)) " DIVISION_RULE ")");
    means("NOT NOT (CI=1)", "(and (not (not (= CI 1))) " DIVISION_RULE ")");
    means("NOT (CI=1 AND CI=2) OR CI=3 OR CI=4",
          "(and (or (not (and (= CI 1) (= CI 2))) (= CI 3) (= CI 4)) " DIVISION_RULE ")");
    means("CI BETWEEN 1 AND 2 AND CK='x'", "(and (between CI 1 2) (= CK 'x') " DIVISION_RULE ")");
    means("((((CI=1))))", "(and (= CI 1) " DIVISION_RULE ")");
    /* The last AND of a parenthesis is not the whole query's. */
    means("CI=1 OR (CI=2 AND CI=3)",
          "(and (or (= CI 1) (and (= CI 2) (= CI 3))) " DIVISION_RULE ")");
}

static void test_names(void **state)
{
    (void)state;
    tests("ScheduleId = 'x'", "(= WorkflowId 'x')");
    tests("TemporalScheduleId = 'x'", "(= WorkflowId 'x')");
    tests("ChangeVersion = 'x'", "(= TemporalChangeVersion 'x')");
    means("TemporalNamespaceDivision = 'x'", "(= TemporalNamespaceDivision 'x')");
    means("NamespaceDivision IS NOT NULL", "(not-null TemporalNamespaceDivision)");
    refused("Nope = 'a'", "invalid search attribute: Nope");
    refused("workflowtype = 'a'", "invalid search attribute: workflowtype");
}

static void test_clauses(void **state)
{
    (void)state;
    tn_arena *arena = tn_arena_create(0);
    tn_vis_query q = {0};
    const char *text = "CK='a' ORDER BY CI DESC, CloseTime asc, WorkflowId";
    assert_null(tn_vis_query_parse(arena, &ns, tn_str_from(text), TN_VIS_FOR_LIST, &q));
    assert_int_equal(q.n_order, 3);
    assert_true(tn_str_is(q.order[0].name, "CI") && q.order[0].descending);
    assert_int_equal(q.order[0].type, TN_ATTR_INT);
    assert_true(tn_str_is(q.order[1].name, "CloseTime") && !q.order[1].descending);
    assert_true(tn_str_is(q.order[2].name, "WorkflowId") && !q.order[2].descending);

    memset(&q, 0, sizeof(q));
    text = "GROUP BY ExecutionStatus";
    assert_null(tn_vis_query_parse(arena, &ns, tn_str_from(text), TN_VIS_FOR_COUNT, &q));
    assert_int_equal(q.n_group_by, 1);
    assert_true(tn_str_is(q.group_by[0].name, "ExecutionStatus"));
    assert_string_equal(show(arena, &q), DIVISION_RULE);
    assert_null(tn_vis_query_parse(arena, &ns, tn_str_from(text), TN_VIS_FOR_LIST, &q));
    assert_int_equal(q.n_group_by, 0);
    tn_arena_destroy(arena);

    refused("CK = 'a' LIMIT 10", "operation is not supported: 'LIMIT' clause");
    refused("GROUP BY CI",
            "operation is not supported: 'GROUP BY' clause is not supported for search "
            "attribute CI");
    refused("GROUP BY ExecutionStatus, WorkflowType",
            "operation is not supported: 'GROUP BY' clause supports only a single field");
    refused("ORDER BY CT",
            "operation is not supported: unable to sort by search attribute type Text");
    refused("ORDER BY Nope", "invalid search attribute: Nope");
}

static void test_types_refused(void **state)
{
    (void)state;
    refused("WorkflowType > 1",
            "invalid expression: invalid value type for search attribute WorkflowType "
            "of type Keyword: 1 (type: int64)");
    refused("CI = 'x'",
            "invalid expression: invalid value type for search attribute CI of type Int: "
            "\"x\" (type: string)");
    refused("CB = 1",
            "invalid expression: invalid value type for search attribute CB of type Bool: 1 "
            "(type: int64)");
    refused("CK = true",
            "invalid expression: invalid value type for search attribute CK of type Keyword: "
            "true (type: bool)");
    refused("StartTime > 1e18",
            "invalid expression: invalid value type for search attribute StartTime of "
            "type Datetime: 1e+18 (type: float64)");
    refused("CI IN (1, 'a')",
            "invalid expression: invalid value type for search attribute CI of type "
            "Int: \"a\" (type: string)");
    refused("StartTime > 'yesterday'", "invalid expression: unable to parse datetime 'yesterday'");
    refused("StartTime > '2020-01-01'",
            "invalid expression: unable to parse datetime '2020-01-01'");
    refused("ExecutionStatus = 'running'",
            "invalid expression: invalid ExecutionStatus value 'running'");
    refused("ExecutionStatus = 99", "invalid expression: invalid ExecutionStatus value 99");
    refused("ExecutionDuration > 'foo'",
            "invalid expression: invalid duration value for search attribute "
            "ExecutionDuration: foo");
    refused("ExecutionDuration > 10.5",
            "invalid expression: unexpected value type float64 for search "
            "attribute ExecutionDuration");
    refused("CT > 'x'",
            "operation is not supported: operator '>' not supported for Text type search "
            "attribute 'CT'");
    refused("CL STARTS_WITH 'a'",
            "operation is not supported: operator 'STARTS_WITH' not supported for "
            "KeywordList type search attribute 'CL'");
    refused("CK LIKE 'a%'",
            "operation is not supported: operator 'LIKE' not supported for Keyword type "
            "search attribute 'CK'");
    refused("CK <=> 'a'",
            "operation is not supported: operator '<=>' not supported for Keyword type "
            "search attribute 'CK'");
    refused("CB BETWEEN true AND false", "invalid expression: cannot do range condition on search "
                                         "attribute 'CB' of type Bool");
    refused("CT = ''",
            "invalid expression: no tokens found filtering on Text type search attribute CT");
    refused("CK = 5",
            "invalid expression: invalid value type for search attribute CK of type Keyword: 5 "
            "(type: int64)");
    refused("CK = CI",
            "operation is not supported: column name on the right side of comparison expression "
            "(did you forget to quote \"CI\"?)");
    refused("CK IS TRUE",
            "invalid expression: 'IS' operator can only be used as 'IS NULL' or 'IS NOT "
            "NULL'");
    refused("CI = 0x10", "invalid expression: unable to parse value \"0x10\"");
    refused("CK = NULL", "invalid expression: unexpected value type NULL");
    refused("foo", "invalid expression: incomplete expression");
    refused("1 = 1", "invalid expression: must be a column name but was a value");
    refused("CK = 'a' OR 1", "operation is not supported: a value alone is no condition");
}

/* Positions and texts as clients of the reference server see them. */
static void test_grammar_refused(void **state)
{
    (void)state;
    refused("WorkflowType = ", "malformed SQL query: syntax error at position 42");
    refused("WorkflowType = 'a' AND", "malformed SQL query: syntax error at position 50");
    refused("(WorkflowType = 'a'", "malformed SQL query: syntax error at position 47");
    refused("WorkflowType = 'a)", "malformed SQL query: syntax error at position 46 near 'a)'");
    refused("WorkflowType IN ()", "malformed SQL query: syntax error at position 46");
    refused("WorkflowType IN 'a'", "malformed SQL query: syntax error at position 47 near 'a'");
    refused("NOT", "malformed SQL query: syntax error at position 31");
    refused("CK = 'a' @", "malformed SQL query: syntax error at position 38 near '@'");
    refused("CK = 'a' CI = 5", "malformed SQL query: syntax error at position 39 near 'CI'");
    refused("CK = 'a')", "malformed SQL query: syntax error at position 37");
    /* The grammar counts before the meaning. */
    refused("Nope = 'a' AND", "malformed SQL query: syntax error at position 42");
    refused("CI + 1 = 5", "malformed SQL query: arithmetic is not supported");
    refused("upper(CK) = 'a'", "malformed SQL query: functions are not supported");
}

static void test_bounds(void **state)
{
    (void)state;
    tn_buf text = {0};
    for (int i = 0; i < 101; i++)
        tn_buf_put_u8(&text, '(');
    tn_buf_printf(&text, "CI=1");
    for (int i = 0; i < 101; i++)
        tn_buf_put_u8(&text, ')');
    tn_buf_put_u8(&text, 0);
    refused((const char *)text.p, "malformed SQL query: nested too deep");
    text.p[text.n - 2] = '\0';
    means((const char *)text.p + 1, "(and (= CI 1) " DIVISION_RULE ")");

    text.n = 0;
    for (int i = 0; i < 101; i++)
        tn_buf_printf(&text, "NOT ");
    tn_buf_printf(&text, "CI=1");
    tn_buf_put_u8(&text, 0);
    refused((const char *)text.p, "malformed SQL query: nested too deep");

    text.n = 0;
    tn_buf_printf(&text, "CI IN (1");
    for (int i = 0; i < 10000; i++)
        tn_buf_printf(&text, ",1");
    tn_buf_printf(&text, ")");
    tn_buf_put_u8(&text, 0);
    refused((const char *)text.p, "malformed SQL query: too many words");

    /* A long flat query is fine. */
    tn_arena *arena = tn_arena_create(0);
    tn_vis_query q = {0};
    text.n = 0;
    tn_buf_printf(&text, "CI=1");
    for (int i = 0; i < 3000; i++)
        tn_buf_printf(&text, " OR CI=%d", i);
    tn_str all = {(const char *)text.p, text.n};
    assert_null(tn_vis_query_parse(arena, &ns, all, TN_VIS_FOR_LIST, &q));
    assert_int_equal(q.n_filter, 3004);
    assert_int_equal(q.filter[3001].arity, 3001);

    /* An arena that is full is a fault, not a crash. */
    for (size_t limit = 2000; limit < 60000; limit += 1500) {
        tn_arena *small = tn_arena_create(limit);
        const tn_fault *fault = tn_vis_query_parse(small, &ns, all, TN_VIS_FOR_LIST, &q);
        assert_non_null(fault);
        tn_arena_destroy(small);
    }
    tn_arena_destroy(arena);
    tn_buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(test_comparisons),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_floats_against_ints),
        cmocka_unit_test(test_logic),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_clauses),
        cmocka_unit_test(test_types_refused),
        cmocka_unit_test(test_grammar_refused),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
