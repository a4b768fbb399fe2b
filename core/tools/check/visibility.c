/* SPDX-License-Identifier: MIT */
/* The contract of a visibility plugin as cases that any driver must pass.  Each case uses namespaces of its own, so that
 * a database server may be shared. */
#include <stdio.h>
#include <stdlib.h>

#include "tools/check/vkit.h"

#define S INT64_C(1000000000) /* a second */

static void put_ok(const vk_doc *d) { KIT_EQUAL(vk_put(&d->doc), TN_OK); }

static void put_all(vk_doc **docs, size_t n)
{
    vk_op *ops = tn_xcalloc(n, sizeof *ops);
    for (size_t i = 0; i < n; i++) {
        ops[i].verb = VK_PUT;
        ops[i].op.u.put.doc = docs[i]->doc;
    }
    vk_run(0, ops, n);
    for (size_t i = 0; i < n; i++)
        KIT_EQUAL(ops[i].op.status, TN_OK);
    free(ops);
}

static uint64_t count_is(const char *name, const char *keyword)
{
    tn_vis_node node = vk_is(name, keyword);
    return vk_matches(&node, 1);
}

static uint64_t count_leaf(uint32_t op, const char *name, uint32_t type, tn_blob value)
{
    tn_vis_node node =
        vk_leaf(op, name, type, op == TN_VIS_IS_NULL || op == TN_VIS_NOT_NULL ? 0 : 1, &value);
    return vk_matches(&node, 1);
}

static uint64_t count_list(const char *name, const char *keyword)
{
    return count_leaf(TN_VIS_EQ, name, TN_ATTR_KEYWORD_LIST, kit_text(keyword));
}

/* ---- documents ---------------------------------------------------------------------------------- */

static void add_everything(vk_doc *d)
{
    static const char *const items[] = {"b", "", "a \"quoted\" one", "b", "\xc3\xa9"};
    vk_add(d, "TaskQueue", TN_ATTR_KEYWORD, kit_text("main"));
    vk_add(d, "ExecutionDuration", TN_ATTR_INT, vk_i64(5 * S));
    vk_add(d, "HistoryLength", TN_ATTR_INT, vk_i64(17));
    vk_add(d, "HistorySizeBytes", TN_ATTR_INT, vk_i64(INT64_C(1) << 40));
    vk_add(d, "StateTransitionCount", TN_ATTR_INT, vk_i64(6));
    vk_add(d, "ParentWorkflowId", TN_ATTR_KEYWORD, kit_text("the parent"));
    vk_add(d, "ParentRunId", TN_ATTR_KEYWORD, kit_text(vk_run_id(99)));
    vk_add(d, "RootWorkflowId", TN_ATTR_KEYWORD, kit_text("the root"));
    vk_add(d, "RootRunId", TN_ATTR_KEYWORD, kit_text("no-uuid"));
    vk_add(d, "CK", TN_ATTR_KEYWORD, kit_text("x'; DROP TABLE doc; -- $1 %s \\ \"\n\t\x01\x7f"));
    vk_add(d, "Empty", TN_ATTR_KEYWORD, kit_text(""));
    vk_add(d, "Least", TN_ATTR_INT, vk_i64(INT64_MIN));
    vk_add(d, "Most", TN_ATTR_INT, vk_i64(INT64_MAX));
    vk_add(d, "Tenth", TN_ATTR_DOUBLE, vk_f64(0.1));
    vk_add(d, "Large", TN_ATTR_DOUBLE, vk_f64(-1.7976931348623157e308));
    vk_add(d, "Small", TN_ATTR_DOUBLE, vk_f64(4.9406564584124654e-324));
    vk_add(d, "Zero", TN_ATTR_DOUBLE, vk_f64(-0.0));
    vk_add(d, "Yes", TN_ATTR_BOOL, vk_bool(1));
    vk_add(d, "No", TN_ATTR_BOOL, vk_bool(0));
    vk_add(d, "When", TN_ATTR_DATETIME, vk_i64(VK_T0 + 1));
    vk_add(d, "CL", TN_ATTR_KEYWORD_LIST, vk_keywords(items, TN_COUNT_OF(items)));
    vk_add(d, "CT", TN_ATTR_TEXT, kit_text("Some words \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x98\x80"));
    vk_add(d, "It's \"an\" odd $1 name; \xc3\xa9", TN_ATTR_KEYWORD, kit_text("odd"));
}

static void same_doc(const tn_vis_doc *got, const tn_vis_doc *want)
{
    KIT_CHECK(tn_str_eq(got->run_id, want->run_id));
    KIT_CHECK(tn_str_eq(got->workflow_id, want->workflow_id));
    KIT_EQUAL(got->version, want->version);
    KIT_CHECK(tn_blob_eq(got->memo, want->memo));
    KIT_EQUAL(got->n_attrs, want->n_attrs);
    for (size_t i = 0; i < want->n_attrs; i++) {
        const tn_attr *a = vk_find(got, want->attrs[i].name);
        if (!a || a->type != want->attrs[i].type || !a->value.p ||
            !tn_blob_eq(a->value, want->attrs[i].value))
            kit_fail(__FILE__, __LINE__, "attribute " TN_STR_FMT " is %s",
                     TN_STR_ARG(want->attrs[i].name), a ? "another" : "missing");
    }
}

static void documents_come_back_whole(void)
{
    vk_open();
    vk_doc *d = vk_make(1, "Completed", VK_T0, VK_T0 + 5 * S, 3);
    add_everything(d);
    uint8_t memo[300];
    for (size_t i = 0; i < sizeof memo; i++)
        memo[i] = (uint8_t)i;
    d->doc.memo = tn_arena_blob(kit_arena(), tn_blob_from(memo, sizeof memo));
    put_ok(d);
    vk_doc *bare = vk_make(2, "Running", VK_T0, 0, 1);
    put_ok(bare);
    tn_vis_query q = vk_query(NULL, 0);
    tn_vis_page page;
    KIT_EQUAL(vk_list(&q, &page), TN_OK);
    KIT_EQUAL(page.n_docs, 2);
    same_doc(&page.docs[0], &bare->doc);
    same_doc(&page.docs[1], &d->doc);
    KIT_EQUAL(page.next.n, 0);
    /* Each value is found by what it is. */
    for (size_t i = 0; i < d->doc.n_attrs; i++) {
        const tn_attr *a = &d->attrs[i];
        if (a->type == TN_ATTR_KEYWORD_LIST || a->type == TN_ATTR_TEXT)
            continue;
        tn_vis_node node = {
            .op = TN_VIS_EQ, .name = a->name, .type = a->type, .n_values = 1, .values = &a->value};
        uint64_t n = vk_matches(&node, 1);
        bool both = tn_str_is(a->name, "WorkflowType") || tn_str_is(a->name, "StartTime") ||
                    tn_str_is(a->name, "ExecutionTime");
        if (n != (both ? 2u : 1u))
            kit_fail(__FILE__, __LINE__, TN_STR_FMT " found %llu times", TN_STR_ARG(a->name),
                     (unsigned long long)n);
    }
    vk_close();
}

static void documents_outlive_a_close(void)
{
    vk_open();
    vk_doc *d = vk_make(1, "Completed", VK_T0, VK_T0 + 5 * S, 3);
    add_everything(d);
    put_ok(d);
    vk_close();
    vk_open();
    d = vk_make(1, "Completed", VK_T0, VK_T0 + 5 * S, 3);
    add_everything(d);
    tn_vis_query q = vk_query(NULL, 0);
    tn_vis_page page;
    KIT_EQUAL(vk_list(&q, &page), TN_OK);
    KIT_EQUAL(page.n_docs, 1);
    same_doc(&page.docs[0], &d->doc);
    KIT_EQUAL(count_is("CK", "nothing"), 0);
    vk_close();
}

/* What only one version had is gone with it. */
static void a_version_replaces_all(void)
{
    vk_open();
    vk_doc *d = vk_make(1, "Running", VK_T0, 0, 1);
    add_everything(d);
    d->doc.memo = kit_text("memo");
    put_ok(d);
    vk_doc *next = vk_make(1, "Completed", VK_T0, VK_T0 + S, 2);
    vk_add(next, "CK", TN_ATTR_KEYWORD, kit_text("new"));
    put_ok(next);
    tn_vis_query q = vk_query(NULL, 0);
    tn_vis_page page;
    KIT_EQUAL(vk_list(&q, &page), TN_OK);
    KIT_EQUAL(page.n_docs, 1);
    same_doc(&page.docs[0], &next->doc);
    KIT_EQUAL(count_is("CK", "new"), 1);
    KIT_EQUAL(count_list("CL", "b") + count_is("ParentWorkflowId", "the parent"), 0);
    KIT_EQUAL(count_leaf(TN_VIS_EQ, "CT", TN_ATTR_TEXT, kit_text("words")), 0);
    KIT_EQUAL(count_leaf(TN_VIS_EQ, "Yes", TN_ATTR_BOOL, vk_bool(1)), 0);
    KIT_EQUAL(count_leaf(TN_VIS_NOT_NULL, "Most", TN_ATTR_INT, kit_text("")), 0);
    KIT_EQUAL(count_is("ExecutionStatus", "Running"), 0);
    KIT_EQUAL(count_is("ExecutionStatus", "Completed"), 1);
    vk_close();
}

/* ---- filters ------------------------------------------------------------------------------------ */

static vk_doc *field[64]; /* what is stored, for the plain walk */
static size_t n_field;

static void keep(vk_doc *d) { field[n_field++] = d; }

/* The driver and the plain walk agree. */
static void check_filter(const tn_vis_node *nodes, size_t n)
{
    uint64_t want = 0;
    for (size_t i = 0; i < n_field; i++)
        want += vk_model_matches(&field[i]->doc, nodes, n);
    uint64_t got = vk_matches(nodes, n);
    if (got != want)
        kit_fail(__FILE__, __LINE__,
                 "operator %u on " TN_STR_FMT " (type %u), %zu nodes: %llu of %llu", nodes[0].op,
                 TN_STR_ARG(nodes[0].name), nodes[0].type, n, (unsigned long long)got,
                 (unsigned long long)want);
}

/* Three values of each type, a lack, and the same for the system's own attributes. */
static void make_field(void)
{
    static const char *const lists[3][2] = {{"a", "b"}, {"b", "c"}, {"c", "c"}};
    static const char *const texts[] = {"red Green", "blue, x1", "Yellow"};
    static const char *const keywords[] = {"a", "ab", "b"};
    n_field = 0;
    for (uint64_t i = 0; i < 8; i++) {
        vk_doc *d = vk_make(i, i % 2 ? "Completed" : "Running", VK_T0 + (int64_t)(i / 2) * S,
                            i % 2 ? VK_T0 + (int64_t)i * S : 0, 1);
        size_t v = i % 4;
        keep(d);
        if (i % 2)
            vk_add(d, "HistoryLength", TN_ATTR_INT, vk_i64((int64_t)i));
        if (i % 3 == 0)
            vk_add(d, "TemporalNamespaceDivision", TN_ATTR_KEYWORD, kit_text(i ? "two" : "one"));
        if (i % 3 == 1)
            vk_add(d, "ParentWorkflowId", TN_ATTR_KEYWORD, kit_text(keywords[i % 2]));
        if (v == 3)
            continue;
        vk_add(d, "TaskQueue", TN_ATTR_KEYWORD, kit_text(keywords[v]));
        vk_add(d, "CK", TN_ATTR_KEYWORD, kit_text(keywords[v]));
        vk_add(d, "CI", TN_ATTR_INT, vk_i64((int64_t)v - 1));
        vk_add(d, "CD", TN_ATTR_DOUBLE, vk_f64((double)v - 0.5));
        vk_add(d, "CB", TN_ATTR_BOOL, vk_bool(v % 2));
        vk_add(d, "CDT", TN_ATTR_DATETIME, vk_i64(VK_T0 + (int64_t)v));
        vk_add(d, "CL", TN_ATTR_KEYWORD_LIST, vk_keywords(lists[v], 2));
        vk_add(d, "CT", TN_ATTR_TEXT, kit_text(texts[v]));
    }
    put_all(field, n_field);
}

static const struct {
    const char *name;
    uint32_t type;
} tried[] = {
    {"WorkflowType", TN_ATTR_KEYWORD},
    {"ExecutionStatus", TN_ATTR_KEYWORD},
    {"TaskQueue", TN_ATTR_KEYWORD},
    {"WorkflowId", TN_ATTR_KEYWORD},
    {"RunId", TN_ATTR_KEYWORD},
    {"ParentWorkflowId", TN_ATTR_KEYWORD},
    {"TemporalNamespaceDivision", TN_ATTR_KEYWORD},
    {"StartTime", TN_ATTR_DATETIME},
    {"CloseTime", TN_ATTR_DATETIME},
    {"HistoryLength", TN_ATTR_INT},
    {"CK", TN_ATTR_KEYWORD},
    {"CI", TN_ATTR_INT},
    {"CD", TN_ATTR_DOUBLE},
    {"CB", TN_ATTR_BOOL},
    {"CDT", TN_ATTR_DATETIME},
    {"CL", TN_ATTR_KEYWORD_LIST},
    {"CT", TN_ATTR_TEXT},
    {"NeverSet", TN_ATTR_KEYWORD},
    {"NeverSetInt", TN_ATTR_INT},
};

static bool op_fits(uint32_t op, uint32_t type)
{
    bool listed = type == TN_ATTR_KEYWORD_LIST || type == TN_ATTR_TEXT;
    if (op == TN_VIS_STARTS || op == TN_VIS_NOT_STARTS)
        return type == TN_ATTR_KEYWORD;
    return !listed || op == TN_VIS_EQ || op == TN_VIS_NE || op == TN_VIS_IN ||
           op == TN_VIS_NOT_IN || op == TN_VIS_IS_NULL || op == TN_VIS_NOT_NULL;
}

static size_t values_for(size_t a, tn_blob *out)
{
    size_t n = 0;
    switch (tried[a].type) {
    case TN_ATTR_KEYWORD_LIST:
        out[n++] = kit_text("b"), out[n++] = kit_text("c"), out[n++] = kit_text("z");
        return n;
    case TN_ATTR_TEXT:
        out[n++] = kit_text("GREEN"), out[n++] = kit_text("blue yellow");
        return n;
    default:
        for (size_t i = 0; i < n_field; i++) {
            const tn_attr *attr = vk_find(&field[i]->doc, tn_str_from(tried[a].name));
            if (attr && n < 4)
                out[n++] = attr->value;
        }
        if (tried[a].type == TN_ATTR_KEYWORD)
            out[n++] = kit_text("nobody");
        else if (tried[a].type == TN_ATTR_INT)
            out[n++] = vk_i64(1000);
        return n;
    }
}

static void every_operator_on_every_type(void)
{
    vk_open();
    make_field();
    for (size_t a = 0; a < TN_COUNT_OF(tried); a++) {
        tn_blob values[8];
        size_t n = values_for(a, values);
        for (uint32_t op = TN_VIS_EQ; op <= TN_VIS_NOT_STARTS; op++) {
            if (!op_fits(op, tried[a].type))
                continue;
            bool none = op == TN_VIS_IS_NULL || op == TN_VIS_NOT_NULL;
            size_t width = none                                     ? 0
                           : op == TN_VIS_BETWEEN                   ? 2
                           : op == TN_VIS_IN || op == TN_VIS_NOT_IN ? n
                                                                    : 1;
            for (size_t at = 0; width ? at + width <= n : at == 0; at++) {
                tn_vis_node nodes[2] = {
                    vk_leaf(op, tried[a].name, tried[a].type, width, values + at),
                    vk_logic(TN_VIS_NOT, 1)};
                check_filter(nodes, 1);
                check_filter(nodes, 2);
            }
        }
    }
    vk_close();
}

static void unknown_is_no_match(void)
{
    vk_open();
    make_field(); /* two of eight have no CK, two have "a" */
    tn_vis_node ck = vk_is("CK", "a"), never = vk_is("NeverSet", "a");
    tn_vis_node not = vk_logic(TN_VIS_NOT, 1);
    tn_vis_node twice[] = {ck, not, not }, none[] = {never, not };
    tn_vis_node ne = ck;
    ne.op = TN_VIS_NE;
    tn_vis_node negated[] = {ck, not }, either[] = {ck, ck, not, vk_logic(TN_VIS_OR, 2)};
    tn_vis_node rescued[] = {never, vk_leaf(TN_VIS_IS_NULL, "CK", TN_ATTR_KEYWORD, 0, NULL),
                             vk_logic(TN_VIS_OR, 2), not };
    KIT_EQUAL(vk_matches(&ck, 1), 2);
    KIT_EQUAL(vk_matches(twice, 3), 2);
    KIT_EQUAL(vk_matches(&ne, 1), 4);
    KIT_EQUAL(vk_matches(negated, 2), 4);
    KIT_EQUAL(vk_matches(either, 4), 6);
    KIT_EQUAL(vk_matches(none, 2), 0);
    KIT_EQUAL(vk_matches(rescued, 4), 0);
    vk_close();
}

static void logic_of_any_shape(void)
{
    vk_open();
    make_field();
    tn_vis_node nodes[700];
    size_t n = 0;
    for (int i = 0; i < 300; i++) {
        tn_blob value = kit_text(tn_arena_printf(kit_arena(), "wf-%d", i * 3));
        nodes[n++] = vk_leaf(TN_VIS_EQ, "WorkflowId", TN_ATTR_KEYWORD, 1, &value);
    }
    nodes[n++] = vk_logic(TN_VIS_OR, 300);
    check_filter(nodes, n);
    nodes[n++] = vk_is("CK", "ab");
    nodes[n++] = vk_logic(TN_VIS_AND, 2);
    check_filter(nodes, n);
    n = 0;
    nodes[n++] = vk_is("CK", "a");
    for (int i = 0; i < 20; i++) { /* NOT (... AND x) of 20 levels */
        nodes[n++] = vk_is(i % 2 ? "TaskQueue" : "ExecutionStatus", i % 2 ? "ab" : "Running");
        nodes[n++] = vk_logic(i % 3 ? TN_VIS_AND : TN_VIS_OR, 2);
        nodes[n++] = vk_logic(TN_VIS_NOT, 1);
        check_filter(nodes, n);
    }
    nodes[0] = vk_is("CK", "a"), nodes[1] = vk_logic(TN_VIS_AND, 1);
    nodes[2] = vk_logic(TN_VIS_OR, 1);
    check_filter(nodes, 3);
    vk_close();
}

static void broad_filters(void)
{
    enum { N = 8000 };
    static tn_vis_node nodes[N + 1];
    static tn_blob values[N];
    vk_open();
    vk_doc *d = vk_make(77, "Running", VK_T0, 0, 1);
    vk_add(d, "CI", TN_ATTR_INT, vk_i64(77));
    put_ok(d);
    for (size_t i = 0; i < N; i++) {
        values[i] = kit_text(tn_arena_printf(kit_arena(), "wf-%zu", i));
        nodes[i] = vk_leaf(TN_VIS_EQ, "WorkflowId", TN_ATTR_KEYWORD, 1, &values[i]);
    }
    nodes[N] = vk_logic(TN_VIS_OR, N);
    tn_vis_query q = vk_query(nodes, N + 1);
    tn_vis_page page;
    KIT_EQUAL(vk_count(&q, &page), TN_OK);
    KIT_EQUAL(page.count, 1);
    tn_vis_node in = vk_leaf(TN_VIS_IN, "WorkflowId", TN_ATTR_KEYWORD, N, values);
    KIT_EQUAL(vk_matches(&in, 1), 1);
    for (size_t i = 0; i < N; i++)
        values[i] = vk_i64((int64_t)i);
    in = vk_leaf(TN_VIS_IN, "CI", TN_ATTR_INT, N, values);
    KIT_EQUAL(vk_matches(&in, 1), 1);
    in.op = TN_VIS_NOT_IN;
    KIT_EQUAL(vk_matches(&in, 1), 0);
    vk_close();
}

static void beginnings(void)
{
    static const char *const values[] = {"",
                                         "a",
                                         "a%b",
                                         "a_b",
                                         "axb",
                                         "a\\b",
                                         "\xc3\xa9",
                                         "a'b",
                                         "\xc3\xa9t",
                                         "A",
                                         "\xf4\x8f\xbf\xbf",
                                         "\x7f"};
    vk_open();
    n_field = 0;
    for (size_t i = 0; i < TN_COUNT_OF(values); i++) {
        vk_doc *d = vk_make(i, "Running", VK_T0, 0, 1);
        d->doc.workflow_id = tn_str_from(tn_arena_printf(kit_arena(), "w%s", values[i]));
        d->attrs[0].value = tn_blob_of_str(d->doc.workflow_id);
        vk_add(d, "CK", TN_ATTR_KEYWORD, kit_text(values[i]));
        keep(d);
    }
    put_all(field, n_field);
    for (size_t i = 0; i < TN_COUNT_OF(values); i++) {
        tn_blob wf = tn_blob_of_str(field[i]->doc.workflow_id), ck = kit_text(values[i]);
        for (uint32_t op = TN_VIS_STARTS; op <= TN_VIS_NOT_STARTS; op++) {
            tn_vis_node node = vk_leaf(op, "CK", TN_ATTR_KEYWORD, 1, &ck);
            check_filter(&node, 1);
            node = vk_leaf(op, "WorkflowId", TN_ATTR_KEYWORD, 1, &wf);
            check_filter(&node, 1);
        }
    }
    vk_close();
}

static void text_is_matched_by_words(void)
{
    static const char *const found[] = {"hello",
                                        "HELLO there",
                                        "world",
                                        "big",
                                        "2",
                                        "\xc3\xa9t\xc3\xa9",
                                        "\xd0\xbc\xd0\xb8\xd1\x80",
                                        "\xe6\x97\xa5"};
    static const char *const missed[] = {"hell", "worlds", "22", "...", "\xe6\x9c\xa8"};
    vk_open();
    vk_doc *d = vk_make(1, "Running", VK_T0, 0, 1);
    vk_add(d, "CT", TN_ATTR_TEXT,
           kit_text("Hello, big-World_2 \xc3\x89T\xc3\x89 \xd0\x9c\xd0\xb8\xd1\x80 "
                    "\xe6\x97\xa5\xe6\x9c\xac"));
    put_ok(d);
    put_ok(vk_make(2, "Running", VK_T0, 0, 1));
    for (size_t i = 0; i < TN_COUNT_OF(found); i++) {
        KIT_EQUAL(count_leaf(TN_VIS_EQ, "CT", TN_ATTR_TEXT, kit_text(found[i])), 1);
        KIT_EQUAL(count_leaf(TN_VIS_NE, "CT", TN_ATTR_TEXT, kit_text(found[i])), 0);
    }
    for (size_t i = 0; i < TN_COUNT_OF(missed); i++) {
        KIT_EQUAL(count_leaf(TN_VIS_EQ, "CT", TN_ATTR_TEXT, kit_text(missed[i])), 0);
        KIT_EQUAL(count_leaf(TN_VIS_NE, "CT", TN_ATTR_TEXT, kit_text(missed[i])), 1);
    }
    vk_doc *next = vk_make(1, "Running", VK_T0, 0, 2);
    vk_add(next, "CT", TN_ATTR_TEXT, kit_text("other"));
    put_ok(next);
    KIT_EQUAL(count_leaf(TN_VIS_EQ, "CT", TN_ATTR_TEXT, kit_text("hello")), 0);
    KIT_EQUAL(count_leaf(TN_VIS_EQ, "CT", TN_ATTR_TEXT, kit_text("other")), 1);
    vk_close();
}

static void wrong_queries_are_refused(void)
{
    vk_open();
    put_ok(vk_make(1, "Running", VK_T0, 0, 1));
    tn_blob v = kit_text("x");
    const tn_vis_node nodes[] = {
        vk_leaf(99, "CK", TN_ATTR_KEYWORD, 1, &v),
        vk_leaf(TN_VIS_EQ, "CK", 42, 1, &v),
        vk_leaf(TN_VIS_EQ, "CI", TN_ATTR_INT, 1, &v),
        vk_leaf(TN_VIS_EQ, "CI", TN_ATTR_INT, 0, &v),
        vk_leaf(TN_VIS_BETWEEN, "CK", TN_ATTR_KEYWORD, 1, &v),
        vk_leaf(TN_VIS_IN, "CK", TN_ATTR_KEYWORD, 0, &v),
        vk_leaf(TN_VIS_EQ, "StartTime", TN_ATTR_KEYWORD, 1, &v),
        vk_leaf(TN_VIS_LT, "CL", TN_ATTR_KEYWORD_LIST, 1, &v),
        vk_leaf(TN_VIS_STARTS, "CT", TN_ATTR_TEXT, 1, &v),
        vk_logic(TN_VIS_AND, 2),
        vk_logic(TN_VIS_NOT, 1),
    };
    tn_vis_page page;
    for (size_t i = 0; i < TN_COUNT_OF(nodes); i++) {
        tn_vis_query q = vk_query(&nodes[i], 1);
        if (vk_list(&q, &page) != TN_EINVALID || vk_count(&q, &page) != TN_EINVALID)
            kit_fail(__FILE__, __LINE__, "filter %zu is not refused", i);
    }
    const tn_vis_node two[] = {vk_is("CK", "a"), vk_is("CK", "b")};
    tn_vis_query q = vk_query(two, 2);
    KIT_EQUAL(vk_list(&q, &page), TN_EINVALID);
    const tn_vis_order by_text = {.name = TN_STR("CT"), .type = TN_ATTR_TEXT};
    q = vk_query(NULL, 0);
    q.order = &by_text, q.n_order = 1;
    KIT_EQUAL(vk_list(&q, &page), TN_EINVALID);
    q = vk_query(NULL, 0);
    q.limit = 1001;
    KIT_EQUAL(vk_list(&q, &page), TN_EINVALID);
    const tn_attr by_list = {.name = TN_STR("CL"), .type = TN_ATTR_KEYWORD_LIST};
    q = vk_query(NULL, 0);
    q.group_by = &by_list, q.n_group_by = 1;
    KIT_EQUAL(vk_count(&q, &page), TN_EINVALID);
    vk_close();
}

static void pages_that_are_none(void)
{
    vk_open();
    put_ok(vk_make(1, "Running", VK_T0, 0, 1));
    const tn_vis_order by = {.name = TN_STR("CK"), .type = TN_ATTR_KEYWORD};
    uint8_t junk[80];
    for (size_t round = 0; round < 300; round++) {
        size_t n = 1 + tn_rng_below(kit_rng(), sizeof junk - 1);
        for (size_t i = 0; i < n; i++)
            junk[i] = (uint8_t)tn_rng_below(kit_rng(), round % 2 ? 8 : 256);
        junk[0] = 0; /* of the first store: what follows is the driver's */
        if (round % 3 && n > 1)
            junk[1] = round % 2 ? 'D' : 'O';
        tn_vis_page page;
        tn_vis_query q = vk_query(NULL, 0);
        q.page = tn_blob_from(junk, n);
        q.order = &by, q.n_order = round % 4 == 0;
        tn_status status = vk_list(&q, &page);
        KIT_CHECK(status == TN_EINVALID || (status == TN_OK && page.n_docs <= 1));
    }
    vk_close();
}

/* ---- orders and pages --------------------------------------------------------------------------- */

static void check_order(const tn_vis_order *order, size_t n_order, uint32_t limit)
{
    const tn_vis_doc *want[64];
    tn_vis_query q = vk_query(NULL, 0);
    q.order = order, q.n_order = n_order, q.limit = limit;
    for (size_t i = 0; i < n_field; i++)
        want[i] = &field[i]->doc;
    vk_model_sort(&q, want, n_field);
    size_t at = 0;
    do {
        tn_vis_page page;
        KIT_EQUAL(vk_list(&q, &page), TN_OK);
        for (size_t i = 0; i < page.n_docs; i++, at++)
            if (at >= n_field || !tn_str_eq(page.docs[i].run_id, want[at]->run_id))
                kit_fail(__FILE__, __LINE__, "by %s %s: place %zu",
                         n_order ? (const char *)order[0].name.p : "default",
                         n_order && order[0].descending ? "desc" : "asc", at);
        q.page = page.next;
    } while (q.page.n);
    KIT_EQUAL(at, n_field);
}

/* Running ones first, then the last closed, then the last started, then the greater run id. */
static void default_order(void)
{
    vk_open();
    n_field = 0;
    for (uint64_t i = 0; i < 40; i++)
        keep(vk_make(i * 7919 % 40, i % 4 ? "Completed" : "Running",
                     VK_T0 + (int64_t)(i / 8 % 3) * S,
                     i % 4 ? VK_T0 + (int64_t)(4 + i / 10) * S : 0, 1));
    put_all(field, n_field);
    for (uint32_t limit = 1; limit < 45; limit += limit < 8 ? 1 : 9)
        check_order(NULL, 0, limit);
    vk_close();
}

static void order_by_anything(void)
{
    vk_open();
    make_field();
    for (size_t a = 0; a < TN_COUNT_OF(tried); a++) {
        if (tried[a].type == TN_ATTR_TEXT)
            continue;
        for (uint32_t down = 0; down < 2; down++) {
            const tn_vis_order order[] = {
                {.name = tn_str_from(tried[a].name), .type = tried[a].type, .descending = down},
                {.name = TN_STR("CI"), .type = TN_ATTR_INT, .descending = !down}};
            check_order(order, 1, 1000);
            check_order(order, 1, 3);
            check_order(order, 2, 1);
        }
    }
    vk_close();
}

/* Whatever is written meanwhile, what was there and stays is seen exactly once. */
static void pages_are_stable_under_writes(void)
{
    enum { N = 60 };
    vk_open();
    vk_doc *docs[N];
    for (uint64_t i = 0; i < N; i++)
        docs[i] = vk_make(100 + i, "Completed", VK_T0, VK_T0 + (int64_t)(i / 3) * S, 1);
    put_all(docs, N);
    const tn_vis_order by_id = {.name = TN_STR("WorkflowId"), .type = TN_ATTR_KEYWORD};
    for (int ordered = 0; ordered < 2; ordered++) {
        unsigned seen[N] = {0};
        tn_vis_query q = vk_query(NULL, 0);
        q.limit = 7;
        q.order = &by_id, q.n_order = (size_t)ordered;
        uint64_t fresh = 1000 + 1000 * (uint64_t)ordered;
        do {
            tn_vis_page page;
            KIT_EQUAL(vk_list(&q, &page), TN_OK);
            for (size_t i = 0; i < page.n_docs; i++)
                for (size_t k = 0; k < N; k++)
                    seen[k] += tn_str_eq(page.docs[i].run_id, docs[k]->doc.run_id);
            if (page.n_docs) /* what was seen goes away, others come */
                KIT_EQUAL(vk_remove(vk_ns(), page.docs[page.n_docs - 1].run_id), TN_OK);
            put_ok(vk_make(fresh++, "Running", VK_T0, 0, 1));
            put_ok(vk_make(fresh++, "Completed", VK_T0, VK_T0 + 100 * S, 1));
            put_ok(vk_make(fresh, "Completed", VK_T0, VK_T0 + (int64_t)(fresh % 20) * S, 1));
            fresh++;
            q.page = page.next;
        } while (q.page.n);
        for (size_t k = 0; k < N; k++)
            KIT_EQUAL(seen[k], 1);
        put_all(docs, N); /* the removed ones again */
    }
    vk_close();
}

/* ---- versions ----------------------------------------------------------------------------------- */

static void older_versions_are_dropped(void)
{
    vk_open();
    put_ok(vk_make(1, "Running", VK_T0, 0, 5));
    put_ok(vk_make(1, "Completed", VK_T0, VK_T0 + S, 6));
    put_ok(vk_make(1, "Failed", VK_T0, VK_T0 + S, 6)); /* equal and older ones change nothing */
    put_ok(vk_make(1, "Running", VK_T0, 0, 5));
    KIT_EQUAL(count_is("ExecutionStatus", "Completed"), 1);
    KIT_EQUAL(vk_matches(NULL, 0), 1);
    vk_doc *top = vk_make(1, "Failed", VK_T0, VK_T0 + S, INT64_MAX);
    put_ok(top);
    put_ok(vk_make(1, "Completed", VK_T0, VK_T0 + S, INT64_MAX - 1));
    KIT_EQUAL(count_is("ExecutionStatus", "Failed"), 1);
    vk_close();
}

static void a_group_keeps_its_order(void)
{
    vk_open();
    vk_doc *a = vk_make(1, "Completed", VK_T0, VK_T0 + S, 9),
           *b = vk_make(1, "Running", VK_T0, 0, 1), *c = vk_make(1, "Failed", VK_T0, VK_T0 + S, 2);
    vk_op ops[4] = {{.verb = VK_PUT}, {.verb = VK_REMOVE}, {.verb = VK_PUT}, {.verb = VK_PUT}};
    ops[0].op.u.put.doc = a->doc;
    ops[1].op.u.put.doc = a->doc;
    ops[2].op.u.put.doc = b->doc;
    ops[3].op.u.put.doc = c->doc;
    vk_run(0, ops, 4);
    for (int i = 0; i < 4; i++)
        KIT_EQUAL(ops[i].op.status, TN_OK);
    KIT_EQUAL(vk_matches(NULL, 0), 1);
    KIT_EQUAL(count_is("ExecutionStatus", "Failed"), 1);
    vk_op again[3] = {{.verb = VK_REMOVE}, {.verb = VK_PUT}, {.verb = VK_REMOVE}};
    for (int i = 0; i < 3; i++)
        again[i].op.u.put.doc = a->doc;
    vk_run(0, again, 3);
    KIT_EQUAL(vk_matches(NULL, 0), 0);
    vk_close();
}

/* A list or count on a loop sees the writes that came before it there, also those under way. */
static void a_read_sees_what_was_written_before(void)
{
    enum { N = 50 };
    vk_open();
    vk_op *ops = tn_xcalloc(2 * N + 1, sizeof *ops);
    for (uint64_t i = 0; i < 2 * N; i++) {
        ops[i].verb = VK_PUT;
        ops[i].op.u.put.doc =
            vk_make(i / 2, i % 2 ? "Completed" : "Running", VK_T0, i % 2 ? VK_T0 + S : 0, i % 2 + 1)
                ->doc;
    }
    tn_vis_node done = vk_is("ExecutionStatus", "Completed");
    ops[2 * N].verb = VK_COUNT;
    ops[2 * N].op.u.list.query = vk_query(&done, 1);
    vk_run(0, ops, 2 * N + 1);
    for (size_t i = 0; i <= 2 * N; i++)
        KIT_EQUAL(ops[i].op.status, TN_OK);
    KIT_EQUAL(ops[2 * N].op.u.list.page.count, N);
    free(ops);
    vk_close();
}

static void one_bad_member_fails_alone(void)
{
    vk_open();
    vk_op ops[4] = {{.verb = VK_PUT}, {.verb = VK_PUT}, {.verb = VK_PUT}, {.verb = VK_PUT}};
    for (uint64_t i = 0; i < 4; i++) {
        vk_doc *d = vk_make(i, "Running", VK_T0, 0, 1);
        if (i == 1)
            vk_add(d, "CI", TN_ATTR_INT, kit_text("short"));
        if (i == 2)
            d->doc.run_id = tn_str_from("");
        ops[i].op.u.put.doc = d->doc;
    }
    vk_run(0, ops, 4);
    KIT_EQUAL(ops[0].op.status, TN_OK);
    KIT_EQUAL(ops[1].op.status, TN_EINVALID);
    KIT_EQUAL(ops[2].op.status, TN_EINVALID);
    KIT_EQUAL(ops[3].op.status, TN_OK);
    KIT_EQUAL(vk_matches(NULL, 0), 2);
    vk_close();
}

/* Both loops write versions of the same runs at once: the last one stands, and counts agree with lists. */
static void two_loops_write_the_same_runs(void)
{
    enum { RUNS = 20, VERSIONS = 20 };
    vk_open();
    vk_op *ops = tn_xcalloc(RUNS * VERSIONS, sizeof *ops);
    static const char *const states[] = {"Running", "Completed", "Failed"};
    for (uint64_t i = 0; i < RUNS * VERSIONS; i++) {
        uint64_t version = 1 + (i * 7 % VERSIONS);
        ops[i].verb = VK_PUT;
        ops[i].op.u.put.doc = vk_make(i / VERSIONS, version == VERSIONS ? "Failed" : states[i % 3],
                                      VK_T0, i % 3 ? VK_T0 + S : 0, version)
                                  ->doc;
    }
    vk_run_both(ops, RUNS * VERSIONS);
    for (size_t i = 0; i < RUNS * VERSIONS; i++)
        KIT_EQUAL(ops[i].op.status, TN_OK);
    KIT_EQUAL(vk_matches(NULL, 0), RUNS);
    KIT_EQUAL(count_is("ExecutionStatus", "Failed"), RUNS);
    KIT_EQUAL(count_is("ExecutionStatus", "Running") + count_is("ExecutionStatus", "Completed"), 0);
    free(ops);
    vk_close();
}

/* ---- removing, namespaces, names ---------------------------------------------------------------- */

static void remove_takes_away(void)
{
    vk_open();
    vk_doc *d = vk_make(1, "Running", VK_T0, 0, 1);
    add_everything(d);
    put_ok(d);
    put_ok(vk_make(2, "Running", VK_T0, 0, 1));
    KIT_EQUAL(vk_remove(vk_ns(), tn_str_from(vk_run_id(3))), TN_OK); /* never was */
    KIT_EQUAL(vk_remove(vk_ns(), d->doc.run_id), TN_OK);
    KIT_EQUAL(vk_remove(vk_ns(), d->doc.run_id), TN_OK);
    KIT_EQUAL(vk_matches(NULL, 0), 1);
    KIT_EQUAL(count_is("Empty", "") + count_list("CL", "b"), 0);
    KIT_EQUAL(count_is("ExecutionStatus", "Running"), 1);
    put_ok(d); /* and it may come again, with any version */
    KIT_EQUAL(vk_matches(NULL, 0), 2);
    KIT_EQUAL(count_list("CL", "b"), 1);
    vk_close();
}

static void namespaces_are_apart(void)
{
    vk_open();
    vk_doc *mine = vk_make(1, "Running", VK_T0, 0, 5);
    vk_add(mine, "CK", TN_ATTR_KEYWORD, kit_text("x"));
    vk_doc *theirs = vk_make(1, "Failed", VK_T0, VK_T0 + S, 1);
    theirs->doc.ns_id = tn_str_from(vk_other_ns());
    vk_add(theirs, "CK", TN_ATTR_INT, vk_i64(7)); /* the same name, another type */
    put_ok(mine);
    tn_vis_page page;
    tn_vis_query q = vk_query(NULL, 0);
    q.ns_id = tn_str_from(vk_other_ns());
    KIT_EQUAL(vk_count(&q, &page), TN_OK);
    KIT_EQUAL(page.count, 0);
    put_ok(theirs);
    KIT_EQUAL(vk_matches(NULL, 0), 1);
    KIT_EQUAL(count_is("CK", "x"), 1);
    KIT_EQUAL(vk_list(&q, &page), TN_OK);
    KIT_EQUAL(page.n_docs, 1);
    same_doc(&page.docs[0], &theirs->doc);
    KIT_CHECK(tn_str_is(page.docs[0].ns_id, vk_other_ns()));
    tn_vis_node ck = vk_is("CK", "x");
    q.filter = &ck, q.n_filter = 1;
    KIT_EQUAL(vk_count(&q, &page), TN_OK);
    KIT_EQUAL(page.count, 0);
    KIT_EQUAL(vk_remove(vk_ns(), mine->doc.run_id), TN_OK);
    KIT_EQUAL(vk_matches(NULL, 0), 0);
    q.n_filter = 0;
    KIT_EQUAL(vk_count(&q, &page), TN_OK);
    KIT_EQUAL(page.count, 1);
    vk_close();
}

static void define_is_idempotent(void)
{
    vk_open();
    tn_attr attrs[40];
    for (size_t i = 0; i < TN_COUNT_OF(attrs); i++)
        attrs[i] = (tn_attr){.name = tn_str_from(tn_arena_printf(kit_arena(), "Def%zu", i)),
                             .type = 1 + (uint32_t)(i % 7)};
    KIT_EQUAL(vk_define(attrs, TN_COUNT_OF(attrs)), TN_OK);
    KIT_EQUAL(vk_define(attrs, TN_COUNT_OF(attrs)), TN_OK);
    KIT_EQUAL(vk_define(attrs, 0), TN_OK);
    KIT_EQUAL(count_is("Def1", "x"), 0);
    attrs[3].type = 99;
    KIT_EQUAL(vk_define(attrs, TN_COUNT_OF(attrs)), TN_EINVALID);
    vk_close();
}

static void any_number_of_attributes(void)
{
    enum { RUNS = 30, EACH = 12 };
    vk_open();
    for (uint64_t i = 0; i < RUNS; i++) {
        vk_doc *d = vk_make(i, "Running", VK_T0, 0, 1);
        for (size_t k = 0; k < EACH; k++)
            vk_add(d, tn_arena_printf(kit_arena(), "Own%llu", (unsigned long long)(i * EACH + k)),
                   k % 2 ? TN_ATTR_KEYWORD : TN_ATTR_INT,
                   k % 2 ? kit_text("v") : vk_i64((int64_t)i));
        put_ok(d);
    }
    for (uint64_t i = 0; i < RUNS * EACH; i += 7) {
        const char *name = tn_arena_printf(kit_arena(), "Own%llu", (unsigned long long)i);
        bool keyword = i % EACH % 2;
        KIT_EQUAL(count_leaf(TN_VIS_EQ, name, keyword ? TN_ATTR_KEYWORD : TN_ATTR_INT,
                             keyword ? kit_text("v") : vk_i64((int64_t)(i / EACH))),
                  1);
    }
    vk_doc *wide = vk_make(1000, "Running", VK_T0, 0, 1);
    tn_attr *attrs = TN_NEW_ARRAY(kit_arena(), tn_attr, 500);
    for (size_t k = 0; k < 500; k++)
        attrs[k] = (tn_attr){.name = tn_str_from(tn_arena_printf(kit_arena(), "Wide%zu", k)),
                             .type = TN_ATTR_KEYWORD,
                             .value = kit_text("w")};
    wide->doc.attrs = attrs, wide->doc.n_attrs = 500;
    put_ok(wide);
    KIT_EQUAL(count_is("Wide499", "w"), 1);
    vk_close();
}

static void run_ids_of_any_form(void)
{
    static const char *const ids[] = {"run-1",
                                      "x",
                                      "fifteen-letters",
                                      "sixteen--letters",
                                      "01990000-0001-7000-8000-000000000001",
                                      "01990000-0001-7000-8000-000000000002",
                                      "01990000-0001-7000-9000-000000000003",
                                      "01990000-0001-7000-8000-00000000000A",
                                      "ffffffff-ffff-ffff-ffff-ffffffffffff"};
    vk_open();
    for (uint64_t version = 1; version <= 2; version++) {
        for (size_t i = 0; i < TN_COUNT_OF(ids); i++) {
            vk_doc *d = vk_make(i, version == 1 ? "Running" : "Completed", VK_T0,
                                version == 1 ? 0 : VK_T0 + S, version);
            d->doc.run_id = tn_str_from(ids[i]);
            d->attrs[1].value = kit_text(ids[i]);
            put_ok(d);
        }
        KIT_EQUAL(vk_matches(NULL, 0), TN_COUNT_OF(ids));
    }
    for (size_t i = 0; i < TN_COUNT_OF(ids); i++) {
        KIT_EQUAL(count_is("RunId", ids[i]), 1);
        KIT_EQUAL(vk_remove(vk_ns(), tn_str_from(ids[i])), TN_OK);
        KIT_EQUAL(count_is("RunId", ids[i]), 0);
    }
    vk_close();
}

/* ---- counting ----------------------------------------------------------------------------------- */

static uint64_t group_count(const tn_vis_page *page, const char *first, const char *second)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < page->n_groups; i++) {
        const tn_attr *v = page->groups[i].values;
        bool one = first ? v[0].value.p && tn_str_is(tn_str_of_blob(v[0].value), first)
                         : v[0].value.p == NULL;
        if (one && (!second || (v[1].value.p && tn_str_is(tn_str_of_blob(v[1].value), second))))
            sum += page->groups[i].count;
    }
    return sum;
}

static void counts_by_groups(void)
{
    vk_open();
    for (uint64_t i = 0; i < 30; i++) {
        vk_doc *d = vk_make(i, i % 3 ? "Completed" : "Running", VK_T0, i % 3 ? VK_T0 + S : 0, 1);
        if (i % 5)
            vk_add(d, "CK", TN_ATTR_KEYWORD, kit_text(i % 2 ? "odd" : "even"));
        put_ok(d);
    }
    tn_attr by[] = {{.name = TN_STR("ExecutionStatus"), .type = TN_ATTR_KEYWORD},
                    {.name = TN_STR("CK"), .type = TN_ATTR_KEYWORD}};
    tn_vis_page page;
    tn_vis_query q = vk_query(NULL, 0);
    q.group_by = by, q.n_group_by = 1;
    KIT_EQUAL(vk_count(&q, &page), TN_OK);
    KIT_EQUAL(page.count, 30);
    KIT_EQUAL(page.n_groups, 2);
    KIT_EQUAL(group_count(&page, "Running", NULL), 10);
    KIT_EQUAL(group_count(&page, "Completed", NULL), 20);
    KIT_CHECK(tn_str_is(page.groups[0].values[0].name, "ExecutionStatus"));
    q.group_by = by + 1;
    KIT_EQUAL(vk_count(&q, &page), TN_OK);
    KIT_EQUAL(page.n_groups, 3);
    KIT_EQUAL(group_count(&page, NULL, NULL), 6);
    KIT_EQUAL(group_count(&page, "odd", NULL), 12);
    q.group_by = by, q.n_group_by = 2;
    KIT_EQUAL(vk_count(&q, &page), TN_OK);
    KIT_EQUAL(page.count, 30);
    KIT_EQUAL(group_count(&page, "Running", "odd"), 4);
    tn_vis_node filter = vk_is("CK", "even");
    q.filter = &filter, q.n_filter = 1, q.n_group_by = 1;
    KIT_EQUAL(vk_count(&q, &page), TN_OK);
    KIT_EQUAL(page.count, 12);
    KIT_EQUAL(group_count(&page, "Running", NULL), 4);
    vk_close();
}

/* ---- deadlines ---------------------------------------------------------------------------------- */

static void a_deadline_spoils_nothing(void)
{
    vk_open();
    vk_doc *docs[64];
    for (uint64_t i = 0; i < 64; i++)
        docs[i] = vk_make(i, "Running", VK_T0, 0, 1);
    put_all(docs, 64);
    const tn_vis_order by = {.name = TN_STR("TaskQueue"), .type = TN_ATTR_KEYWORD};
    for (int i = 0; i < 20; i++) {
        vk_op op = {.verb = VK_LIST};
        op.op.u.list.query = vk_query(NULL, 0);
        op.op.u.list.query.order = &by, op.op.u.list.query.n_order = 1;
        op.op.timeout_ns = 1 + (uint64_t)i * 20000;
        vk_run(0, &op, 1);
        KIT_CHECK(op.op.status == TN_OK || op.op.status == TN_EUNAVAILABLE);
    }
    KIT_EQUAL(vk_matches(NULL, 0), 64);
    for (int i = 0; i < 20; i++) {
        vk_op op = {.verb = VK_PUT};
        op.op.u.put.doc = vk_make((uint64_t)i, "Failed", VK_T0, VK_T0 + S, 2)->doc;
        op.op.timeout_ns = 1 + (uint64_t)i * 20000;
        vk_run(0, &op, 1);
        KIT_CHECK(op.op.status == TN_OK || op.op.status == TN_EUNAVAILABLE ||
                  op.op.status == TN_EUNCERTAIN);
        KIT_EQUAL(vk_put(&vk_make((uint64_t)i, "Failed", VK_T0, VK_T0 + S, 2)->doc), TN_OK);
    }
    KIT_EQUAL(count_is("ExecutionStatus", "Failed"), 20);
    vk_close();
}

const kit_case kit_visibility_cases[] = {
    {"documents come back whole", documents_come_back_whole},
    {"documents outlive a close", documents_outlive_a_close},
    {"a version replaces all of the one before", a_version_replaces_all},
    {"every operator on every type", every_operator_on_every_type},
    {"unknown is no match", unknown_is_no_match},
    {"logic of any shape", logic_of_any_shape},
    {"broad filters", broad_filters},
    {"beginnings", beginnings},
    {"text is matched by words", text_is_matched_by_words},
    {"wrong queries are refused", wrong_queries_are_refused},
    {"pages that are none", pages_that_are_none},
    {"default order", default_order},
    {"order by anything", order_by_anything},
    {"pages are stable under writes", pages_are_stable_under_writes},
    {"older versions are dropped", older_versions_are_dropped},
    {"a group keeps its order", a_group_keeps_its_order},
    {"a read sees what was written before", a_read_sees_what_was_written_before},
    {"one bad member fails alone", one_bad_member_fails_alone},
    {"two loops write the same runs", two_loops_write_the_same_runs},
    {"remove takes away", remove_takes_away},
    {"namespaces are apart", namespaces_are_apart},
    {"define is idempotent", define_is_idempotent},
    {"any number of attributes", any_number_of_attributes},
    {"run ids of any form", run_ids_of_any_form},
    {"counts by groups", counts_by_groups},
    {"a deadline spoils nothing", a_deadline_spoils_nothing},
    {"random documents and queries", vk_case_random},
};

const size_t kit_visibility_count = TN_COUNT_OF(kit_visibility_cases);
