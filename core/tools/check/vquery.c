/* SPDX-License-Identifier: MIT */
/* Cases of visibility plugins: filters, orders and pages, each held against a plain walk over the same documents. */
#include <stdio.h>
#include <stdlib.h>

#include "tools/check/vkit.h"

#define S INT64_C(1000000000) /* a second */

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
    vk_put_all(field, n_field);
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

void vk_case_every_operator_on_every_type(void)
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

void vk_case_unknown_is_no_match(void)
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

void vk_case_logic_of_any_shape(void)
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

void vk_case_broad_filters(void)
{
    enum { N = 8000 };
    static tn_vis_node nodes[N + 1];
    static tn_blob values[N];
    vk_open();
    vk_doc *d = vk_make(77, "Running", VK_T0, 0, 1);
    vk_add(d, "CI", TN_ATTR_INT, vk_i64(77));
    vk_put_ok(d);
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

void vk_case_beginnings(void)
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
    vk_put_all(field, n_field);
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

void vk_case_text_is_matched_by_words(void)
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
    vk_put_ok(d);
    vk_put_ok(vk_make(2, "Running", VK_T0, 0, 1));
    for (size_t i = 0; i < TN_COUNT_OF(found); i++) {
        KIT_EQUAL(vk_count_leaf(TN_VIS_EQ, "CT", TN_ATTR_TEXT, kit_text(found[i])), 1);
        KIT_EQUAL(vk_count_leaf(TN_VIS_NE, "CT", TN_ATTR_TEXT, kit_text(found[i])), 0);
    }
    for (size_t i = 0; i < TN_COUNT_OF(missed); i++) {
        KIT_EQUAL(vk_count_leaf(TN_VIS_EQ, "CT", TN_ATTR_TEXT, kit_text(missed[i])), 0);
        KIT_EQUAL(vk_count_leaf(TN_VIS_NE, "CT", TN_ATTR_TEXT, kit_text(missed[i])), 1);
    }
    vk_doc *next = vk_make(1, "Running", VK_T0, 0, 2);
    vk_add(next, "CT", TN_ATTR_TEXT, kit_text("other"));
    vk_put_ok(next);
    KIT_EQUAL(vk_count_leaf(TN_VIS_EQ, "CT", TN_ATTR_TEXT, kit_text("hello")), 0);
    KIT_EQUAL(vk_count_leaf(TN_VIS_EQ, "CT", TN_ATTR_TEXT, kit_text("other")), 1);
    vk_close();
}

void vk_case_wrong_queries_are_refused(void)
{
    vk_open();
    vk_put_ok(vk_make(1, "Running", VK_T0, 0, 1));
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

void vk_case_pages_that_are_none(void)
{
    vk_open();
    vk_put_ok(vk_make(1, "Running", VK_T0, 0, 1));
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
void vk_case_default_order(void)
{
    vk_open();
    n_field = 0;
    for (uint64_t i = 0; i < 40; i++)
        keep(vk_make(i * 7919 % 40, i % 4 ? "Completed" : "Running",
                     VK_T0 + (int64_t)(i / 8 % 3) * S,
                     i % 4 ? VK_T0 + (int64_t)(4 + i / 10) * S : 0, 1));
    vk_put_all(field, n_field);
    for (uint32_t limit = 1; limit < 45; limit += limit < 8 ? 1 : 9)
        check_order(NULL, 0, limit);
    vk_close();
}

void vk_case_order_by_anything(void)
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
void vk_case_pages_are_stable_under_writes(void)
{
    enum { N = 60 };
    vk_open();
    vk_doc *docs[N];
    for (uint64_t i = 0; i < N; i++)
        docs[i] = vk_make(100 + i, "Completed", VK_T0, VK_T0 + (int64_t)(i / 3) * S, 1);
    vk_put_all(docs, N);
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
            vk_put_ok(vk_make(fresh++, "Running", VK_T0, 0, 1));
            vk_put_ok(vk_make(fresh++, "Completed", VK_T0, VK_T0 + 100 * S, 1));
            vk_put_ok(vk_make(fresh, "Completed", VK_T0, VK_T0 + (int64_t)(fresh % 20) * S, 1));
            fresh++;
            q.page = page.next;
        } while (q.page.n);
        for (size_t k = 0; k < N; k++)
            KIT_EQUAL(seen[k], 1);
        vk_put_all(docs, N); /* the removed ones again */
    }
    vk_close();
}
