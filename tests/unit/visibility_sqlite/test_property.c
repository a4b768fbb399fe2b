/* SPDX-License-Identifier: MIT */
/* Random documents and random filters: what the driver lists and counts must be what a plain walk over the
 * documents finds, in the same order, page by page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "host.h"

#define NS "0b7a1e2c-7f64-4d3e-9a55-6f1f0c9d8e01"
#define DOCS_MAX 600
#define T0 INT64_C(1790000000000000000)

typedef struct model {
    tn_arena *arena;
    tn_vis_doc docs[DOCS_MAX];
    size_t n;
    tn_rng rng;
} model;

static const char *const types[] = {"Order", "Payment", "Shipment", "a-rare-type"};
static const char *const states[] = {"Running", "Completed", "Failed", "TimedOut"};
static const char *const queues[] = {"main", "other"};
static const char *const words[] = {"red", "Green", "blue", "Yellow", "x1"};
static const char *const keys[] = {"", "a", "ab", "abc", "b", "\xc3\xa9t\xc3\xa9", "Z"};
static const struct {
    const char *name;
    uint32_t type;
} attributes[] = {
    {"WorkflowType", TN_ATTR_KEYWORD},
    {"ExecutionStatus", TN_ATTR_KEYWORD},
    {"TaskQueue", TN_ATTR_KEYWORD},
    {"WorkflowId", TN_ATTR_KEYWORD},
    {"RunId", TN_ATTR_KEYWORD},
    {"ParentWorkflowId", TN_ATTR_KEYWORD},
    {"RootWorkflowId", TN_ATTR_KEYWORD},
    {"StartTime", TN_ATTR_DATETIME},
    {"ExecutionTime", TN_ATTR_DATETIME},
    {"CloseTime", TN_ATTR_DATETIME},
    {"ExecutionDuration", TN_ATTR_INT},
    {"HistoryLength", TN_ATTR_INT},
    {"TemporalNamespaceDivision", TN_ATTR_KEYWORD},
    {"CK", TN_ATTR_KEYWORD},
    {"CI", TN_ATTR_INT},
    {"CD", TN_ATTR_DOUBLE},
    {"CB", TN_ATTR_BOOL},
    {"CDT", TN_ATTR_DATETIME},
    {"CL", TN_ATTR_KEYWORD_LIST},
    {"CT", TN_ATTR_TEXT},
    {"NeverSet", TN_ATTR_KEYWORD},
};
#define ATTRIBUTES TN_COUNT_OF(attributes)

static size_t below(model *m, size_t bound) { return (size_t)tn_rng_below(&m->rng, bound); }

static const char *pick(model *m, const char *const *from, size_t count)
{
    return from[below(m, count)];
}

static const char *random_text(model *m)
{
    char *text = tn_arena_alloc(m->arena, 64);
    snprintf(text, 64, "%s, %s!", pick(m, words, 5), pick(m, words, 5));
    return text;
}

static tn_blob random_list(model *m)
{
    const char *items[3];
    size_t n = 1 + below(m, 3);
    for (size_t i = 0; i < n; i++)
        items[i] = pick(m, keys, TN_COUNT_OF(keys));
    return test_list_value(m->arena, items, n);
}

static tn_blob random_custom(model *m, uint32_t type)
{
    uint8_t *flag;
    switch (type) {
    case TN_ATTR_INT:
        return test_i64(m->arena, (int64_t)below(m, 7) - 3);
    case TN_ATTR_DOUBLE:
        return test_f64(m->arena, ((double)below(m, 7) - 3) / 2);
    case TN_ATTR_DATETIME:
        return test_i64(m->arena, T0 + (int64_t)below(m, 5) * 1000);
    case TN_ATTR_BOOL:
        flag = tn_arena_alloc(m->arena, 1);
        *flag = (uint8_t)below(m, 2);
        return tn_blob_from(flag, 1);
    case TN_ATTR_KEYWORD_LIST:
        return random_list(m);
    case TN_ATTR_TEXT:
        return test_text(random_text(m));
    default:
        return test_text(pick(m, keys, TN_COUNT_OF(keys)));
    }
}

static char *workflow_id(model *m, size_t n)
{
    char *text = tn_arena_alloc(m->arena, 32);
    snprintf(text, 32, "wf-%zu", n);
    return text;
}

/* Numbers of rows come from the first 63 bits of the run id, so their order is the ids' order. */
static char *run_id(model *m, size_t n)
{
    uint8_t id[16] = {0x01, 0x99};
    tn_put_u32be(id + 2, (uint32_t)(n * 2654435761u));
    id[6] = 0x70, id[7] = (uint8_t)(n << 1), id[8] = 0x80;
    char *text = tn_arena_alloc(m->arena, 40);
    tn_uuid_format(id, text);
    return text;
}

static void fill(model *m, size_t n, tn_vis_doc *doc)
{
    tn_attr *attrs = TN_NEW_ARRAY(m->arena, tn_attr, 32);
    size_t k = 0;
    int64_t start = T0 + (int64_t)below(m, 20) * 1000000;
    bool open = below(m, 4) == 0;
    attrs[k++] = test_attr("WorkflowType", TN_ATTR_KEYWORD,
                           test_text(types[below(m, 20) ? below(m, 3) : 3]));
    attrs[k++] = test_attr("ExecutionStatus", TN_ATTR_KEYWORD,
                           test_text(open ? states[0] : states[1 + below(m, 3)]));
    if (below(m, 5))
        attrs[k++] = test_attr("TaskQueue", TN_ATTR_KEYWORD, test_text(pick(m, queues, 2)));
    attrs[k++] = test_attr("WorkflowId", TN_ATTR_KEYWORD, tn_blob_of_str(doc->workflow_id));
    attrs[k++] = test_attr("RunId", TN_ATTR_KEYWORD, tn_blob_of_str(doc->run_id));
    attrs[k++] = test_attr("StartTime", TN_ATTR_DATETIME, test_i64(m->arena, start));
    attrs[k++] = test_attr("ExecutionTime", TN_ATTR_DATETIME,
                           test_i64(m->arena, start + (int64_t)below(m, 2) * 500));
    bool child = below(m, 6) == 0;
    const char *parent = workflow_id(m, below(m, 10));
    if (child)
        attrs[k++] = test_attr("ParentWorkflowId", TN_ATTR_KEYWORD, test_text(parent));
    attrs[k++] = test_attr("RootWorkflowId", TN_ATTR_KEYWORD,
                           child ? test_text(parent) : tn_blob_of_str(doc->workflow_id));
    if (!open) {
        int64_t took = (int64_t)below(m, 5) * 1000000;
        attrs[k++] = test_attr("CloseTime", TN_ATTR_DATETIME, test_i64(m->arena, start + took));
        attrs[k++] = test_attr("ExecutionDuration", TN_ATTR_INT, test_i64(m->arena, took));
        attrs[k++] =
            test_attr("HistoryLength", TN_ATTR_INT, test_i64(m->arena, (int64_t)below(m, 30)));
    }
    if (below(m, 10) == 0)
        attrs[k++] =
            test_attr("TemporalNamespaceDivision", TN_ATTR_KEYWORD, test_text(pick(m, queues, 2)));
    for (size_t i = 13; i < ATTRIBUTES - 1; i++)
        if (below(m, 3) == 0)
            attrs[k++] = test_attr(attributes[i].name, attributes[i].type,
                                   random_custom(m, attributes[i].type));
    doc->attrs = attrs;
    doc->n_attrs = k;
    doc->version = n;
}

/* ---- the plain walk --------------------------------------------------------------------------- */

typedef enum truth { NO, YES, UNKNOWN } truth;

static int compare_values(uint32_t type, tn_blob a, tn_blob b)
{
    int64_t x, y;
    double d, e;
    switch (type) {
    case TN_ATTR_INT:
    case TN_ATTR_DATETIME:
        x = (int64_t)tn_get_u64be(a.p), y = (int64_t)tn_get_u64be(b.p);
        return (x > y) - (x < y);
    case TN_ATTR_DOUBLE:
        x = (int64_t)tn_get_u64be(a.p), y = (int64_t)tn_get_u64be(b.p);
        memcpy(&d, &x, 8), memcpy(&e, &y, 8);
        return (d > e) - (d < e);
    default:
        return tn_blob_cmp(a, b);
    }
}

static bool list_has(tn_blob list, tn_blob wanted)
{
    for (size_t at = 0; at < list.n;) {
        size_t n = tn_get_u32be(list.p + at);
        if (tn_blob_eq(tn_blob_from(list.p + at + 4, n), wanted))
            return true;
        at += 4 + n;
    }
    return false;
}

/* The words of these tests are of ASCII letters and digits. */
static bool text_has(tn_blob text, tn_blob query)
{
    for (size_t i = 0; i < TN_COUNT_OF(words); i++) {
        size_t n = strlen(words[i]);
        bool in[2] = {false, false};
        const tn_blob both[2] = {text, query};
        for (int b = 0; b < 2; b++)
            for (size_t at = 0; at + n <= both[b].n && !in[b]; at++)
                in[b] =
                    tn_str_caseeq((tn_str){(const char *)both[b].p + at, n}, tn_str_from(words[i]));
        if (in[0] && in[1])
            return true;
    }
    return false;
}

static bool equals(const tn_attr *attr, tn_blob value)
{
    if (attr->type == TN_ATTR_KEYWORD_LIST)
        return list_has(attr->value, value);
    if (attr->type == TN_ATTR_TEXT)
        return text_has(attr->value, value);
    return compare_values(attr->type, attr->value, value) == 0;
}

static truth test_node(const tn_vis_doc *doc, const tn_vis_node *node)
{
    char name[64];
    snprintf(name, sizeof(name), TN_STR_FMT, TN_STR_ARG(node->name));
    const tn_attr *attr = test_find(doc, name);
    if (node->op == TN_VIS_IS_NULL)
        return attr ? NO : YES;
    if (node->op == TN_VIS_NOT_NULL)
        return attr ? YES : NO;
    if (!attr)
        return UNKNOWN;
    bool any = false;
    for (size_t i = 0; i < node->n_values; i++)
        any = any || equals(attr, node->values[i]);
    int order = node->n_values && attr->type != TN_ATTR_KEYWORD_LIST && attr->type != TN_ATTR_TEXT
                    ? compare_values(attr->type, attr->value, node->values[0])
                    : 0;
    bool starts = tn_str_starts(tn_str_of_blob(attr->value), tn_str_of_blob(node->values[0]));
    switch (node->op) {
    case TN_VIS_EQ:
    case TN_VIS_IN:
        return any ? YES : NO;
    case TN_VIS_NE:
    case TN_VIS_NOT_IN:
        return any ? NO : YES;
    case TN_VIS_LT:
        return order < 0 ? YES : NO;
    case TN_VIS_LE:
        return order <= 0 ? YES : NO;
    case TN_VIS_GT:
        return order > 0 ? YES : NO;
    case TN_VIS_GE:
        return order >= 0 ? YES : NO;
    case TN_VIS_BETWEEN:
        return order >= 0 && compare_values(attr->type, attr->value, node->values[1]) <= 0 ? YES
                                                                                           : NO;
    case TN_VIS_STARTS:
        return starts ? YES : NO;
    case TN_VIS_NOT_STARTS:
        return starts ? NO : YES;
    default:
        fail();
        return NO;
    }
}

static bool matches(const tn_vis_doc *doc, const tn_vis_node *nodes, size_t count)
{
    truth stack[64];
    size_t depth = 0;
    for (size_t i = 0; i < count; i++) {
        const tn_vis_node *node = &nodes[i];
        if (node->op > TN_VIS_NOT) {
            stack[depth++] = test_node(doc, node);
            continue;
        }
        size_t arity = node->op == TN_VIS_NOT ? 1 : node->arity;
        truth result = node->op == TN_VIS_OR ? NO : YES;
        truth strong = node->op == TN_VIS_OR ? YES : NO; /* decides by itself */
        for (size_t k = depth - arity; k < depth; k++)
            result = result == strong || stack[k] == strong     ? strong
                     : result == UNKNOWN || stack[k] == UNKNOWN ? UNKNOWN
                                                                : result;
        if (node->op == TN_VIS_NOT)
            result = stack[depth - 1] == UNKNOWN ? UNKNOWN : stack[depth - 1] == YES ? NO : YES;
        depth -= arity;
        stack[depth++] = result;
    }
    return depth == 0 || stack[0] == YES;
}

/* ---- orders ----------------------------------------------------------------------------------- */

static const tn_vis_query *sorting; /* qsort takes no context */

static bool list_end(const tn_attr *attr, bool high, tn_blob *out)
{
    bool found = false;
    for (size_t at = 0; at < attr->value.n;) {
        tn_blob item = tn_blob_from(attr->value.p + at + 4, tn_get_u32be(attr->value.p + at));
        if (!found || (tn_blob_cmp(item, *out) > 0) == high)
            *out = item;
        found = true;
        at += 4 + item.n;
    }
    return found;
}

static int compare_by(const tn_vis_doc *a, const tn_vis_doc *b, const char *name, bool down)
{
    const tn_attr *x = test_find(a, name), *y = test_find(b, name);
    int order;
    tn_blob v, w;
    if (!x || !y) {
        order = (x == NULL) - (y == NULL);
    } else if (x->type == TN_ATTR_KEYWORD_LIST) {
        assert_true(list_end(x, down, &v) && list_end(y, down, &w));
        order = tn_blob_cmp(v, w);
    } else {
        order = compare_values(x->type, x->value, y->value);
    }
    return down ? -order : order;
}

static int compare_docs(const void *p, const void *q)
{
    const tn_vis_doc *a = *(const tn_vis_doc *const *)p, *b = *(const tn_vis_doc *const *)q;
    int order = 0;
    for (size_t i = 0; i < sorting->n_order && !order; i++) {
        char name[64];
        snprintf(name, sizeof(name), TN_STR_FMT, TN_STR_ARG(sorting->order[i].name));
        order = compare_by(a, b, name, sorting->order[i].descending);
    }
    if (!order)
        order = compare_by(a, b, "CloseTime", true);
    if (!order)
        order = compare_by(a, b, "StartTime", true);
    return order ? order : -tn_blob_cmp(tn_blob_of_str(a->run_id), tn_blob_of_str(b->run_id));
}

/* ---- random queries --------------------------------------------------------------------------- */

static tn_blob random_value(model *m, size_t attribute)
{
    const tn_vis_doc *doc = &m->docs[below(m, m->n)];
    const tn_attr *attr = test_find(doc, attributes[attribute].name);
    uint32_t type = attributes[attribute].type;
    if (type == TN_ATTR_KEYWORD_LIST)
        return test_text(pick(m, keys, TN_COUNT_OF(keys)));
    if (attr && below(m, 4))
        return attr->value;
    return random_custom(m, type);
}

static tn_vis_node random_leaf(model *m)
{
    size_t a = below(m, ATTRIBUTES);
    uint32_t type = attributes[a].type, op = TN_VIS_EQ + (uint32_t)below(m, 13);
    bool listed = type == TN_ATTR_KEYWORD_LIST || type == TN_ATTR_TEXT;
    bool equality = op == TN_VIS_EQ || op == TN_VIS_NE || op >= TN_VIS_IS_NULL || op == TN_VIS_IN ||
                    op == TN_VIS_NOT_IN;
    bool starts = op == TN_VIS_STARTS || op == TN_VIS_NOT_STARTS;
    if ((listed && (!equality || starts)) || (starts && type != TN_ATTR_KEYWORD))
        op = TN_VIS_EQ + (uint32_t)below(m, 2);
    starts = op == TN_VIS_STARTS || op == TN_VIS_NOT_STARTS;
    size_t n = op == TN_VIS_BETWEEN                            ? 2
               : op == TN_VIS_IN || op == TN_VIS_NOT_IN        ? 1 + below(m, 3)
               : op == TN_VIS_IS_NULL || op == TN_VIS_NOT_NULL ? 0
                                                               : 1;
    tn_blob *values = TN_NEW_ARRAY(m->arena, tn_blob, 3);
    for (size_t i = 0; i < n; i++) {
        values[i] = random_value(m, a);
        if (starts && values[i].n > 1)
            values[i].n = 1 + below(m, values[i].n);
    }
    return (tn_vis_node){.op = op,
                         .name = tn_str_from(attributes[a].name),
                         .type = type,
                         .n_values = (uint32_t)n,
                         .values = values};
}

static void random_filter(model *m, tn_vis_query *q)
{
    tn_vis_node *nodes = TN_NEW_ARRAY(m->arena, tn_vis_node, 64);
    size_t n = 0, depth = 0, leaves = below(m, 5);
    for (size_t i = 0; i < leaves; i++) {
        nodes[n++] = random_leaf(m);
        depth++;
        if (below(m, 5) == 0)
            nodes[n++] = (tn_vis_node){.op = TN_VIS_NOT, .arity = 1};
        if (depth > 1 && below(m, 2)) {
            nodes[n++] =
                (tn_vis_node){.op = below(m, 3) ? TN_VIS_AND : TN_VIS_OR, .arity = (uint32_t)depth};
            depth = 1;
        }
    }
    if (depth > 1)
        nodes[n++] =
            (tn_vis_node){.op = below(m, 3) ? TN_VIS_AND : TN_VIS_OR, .arity = (uint32_t)depth};
    q->filter = nodes;
    q->n_filter = n;
}

static void random_order(model *m, tn_vis_query *q)
{
    tn_vis_order *order = TN_NEW_ARRAY(m->arena, tn_vis_order, 3);
    q->n_order = below(m, 3) ? 0 : 1 + below(m, 2);
    for (size_t i = 0; i < q->n_order; i++) {
        size_t a = below(m, ATTRIBUTES - 2);
        order[i] = (tn_vis_order){.name = tn_str_from(attributes[a].name),
                                  .type = attributes[a].type,
                                  .descending = (uint32_t)below(m, 2)};
    }
    q->order = order;
}

static void explain(const tn_vis_query *q)
{
    for (size_t i = 0; i < q->n_filter; i++)
        fprintf(stderr, "  %u/%u " TN_STR_FMT " %u values\n", q->filter[i].op, q->filter[i].arity,
                TN_STR_ARG(q->filter[i].name), q->filter[i].n_values);
    for (size_t i = 0; i < q->n_order; i++)
        fprintf(stderr, "  by " TN_STR_FMT " %s\n", TN_STR_ARG(q->order[i].name),
                q->order[i].descending ? "desc" : "asc");
}

/* ---- comparing -------------------------------------------------------------------------------- */

static void check_list(test_driver *driver, tn_vis_query *q, const tn_vis_doc **expected,
                       size_t count)
{
    size_t at = 0;
    tn_arena *arena = tn_arena_create(0);
    q->page = tn_blob_from(NULL, 0);
    do {
        test_op *op = test_op_create();
        tn_vis_page page;
        assert_int_equal(test_list(driver, op, q, &page), TN_OK);
        assert_true(page.n_docs <= q->limit);
        for (size_t i = 0; i < page.n_docs; i++, at++) {
            if (at >= count || !tn_str_eq(page.docs[i].run_id, expected[at]->run_id)) {
                explain(q);
                fail_msg("row %zu of %zu differs", at, count);
            }
            assert_int_equal(page.docs[i].version, expected[at]->version);
            assert_int_equal(page.docs[i].n_attrs, expected[at]->n_attrs);
            for (size_t k = 0; k < expected[at]->n_attrs; k++) {
                char name[64];
                const tn_attr *want = &expected[at]->attrs[k];
                snprintf(name, sizeof(name), TN_STR_FMT, TN_STR_ARG(want->name));
                const tn_attr *got = test_find(&page.docs[i], name);
                assert_non_null(got);
                assert_int_equal(got->type, want->type);
                assert_true(tn_blob_eq(got->value, want->value));
            }
        }
        assert_true(page.next.n == 0 || page.n_docs == q->limit);
        q->page = page.next.n ? tn_arena_blob(arena, page.next) : page.next;
        test_op_destroy(op);
    } while (q->page.n);
    if (at != count) {
        explain(q);
        fail_msg("%zu rows of %zu", at, count);
    }
    tn_arena_destroy(arena);
}

static void check_count(test_driver *driver, tn_vis_query *q, const tn_vis_doc **expected,
                        size_t count)
{
    static const char *const by[] = {
        "ExecutionStatus", "WorkflowType", "TaskQueue", "CI", "CB", "CK"};
    static const uint32_t by_type[] = {TN_ATTR_KEYWORD, TN_ATTR_KEYWORD, TN_ATTR_KEYWORD,
                                       TN_ATTR_INT,     TN_ATTR_BOOL,    TN_ATTR_KEYWORD};
    tn_vis_page page;
    test_op *op = test_op_create();
    assert_int_equal(test_count(driver, op, q, &page), TN_OK);
    if (page.count != count) {
        explain(q);
        fail_msg("counted %zu of %zu", (size_t)page.count, count);
    }
    test_op_destroy(op);
    for (size_t b = 0; b < TN_COUNT_OF(by); b++) {
        tn_attr group = {.name = tn_str_from(by[b]), .type = by_type[b]};
        q->group_by = &group, q->n_group_by = 1;
        op = test_op_create();
        assert_int_equal(test_count(driver, op, q, &page), TN_OK);
        assert_int_equal(page.count, count);
        for (size_t i = 0; i < page.n_groups; i++) {
            size_t same = 0;
            for (size_t k = 0; k < count; k++) {
                const tn_attr *attr = test_find(expected[k], by[b]);
                tn_blob v = page.groups[i].values[0].value;
                same += attr ? v.p && tn_blob_eq(v, attr->value) : v.p == NULL;
            }
            assert_true(same > 0);
            assert_int_equal(page.groups[i].count, same);
        }
        test_op_destroy(op);
    }
    q->n_group_by = 0;
}

static void check_queries(test_driver *driver, model *m, size_t count)
{
    const tn_vis_doc **expected = tn_xcalloc(DOCS_MAX, sizeof(*expected));
    size_t answered = 0;
    for (size_t i = 0; i < count; i++) {
        tn_vis_query q = {.struct_size = sizeof(q), .ns_id = TN_STR(NS)};
        random_filter(m, &q);
        random_order(m, &q);
        q.limit = (uint32_t)(below(m, 3) ? 7 + below(m, 60) : 1000);
        size_t n = 0;
        for (size_t k = 0; k < m->n; k++)
            if (matches(&m->docs[k], q.filter, q.n_filter))
                expected[n++] = &m->docs[k];
        sorting = &q;
        if (n)
            qsort(expected, n, sizeof(*expected), compare_docs);
        answered += n > 0;
        check_list(driver, &q, expected, n);
        check_count(driver, &q, expected, n);
    }
    assert_true(answered * 3 > count); /* else the test asks nothing */
    free(expected);
}

static void add_docs(test_driver *driver, model *m, size_t first, size_t count, size_t version)
{
    test_op *ops[DOCS_MAX];
    tn_status begun[DOCS_MAX];
    for (size_t i = first; i < first + count; i++) {
        tn_vis_doc *doc = &m->docs[i];
        *doc = (tn_vis_doc){.struct_size = sizeof(*doc),
                            .ns_id = TN_STR(NS),
                            .workflow_id = tn_str_from(workflow_id(m, i % 90)),
                            .run_id = tn_str_from(run_id(m, i))};
        fill(m, version, doc);
        ops[i] = test_op_create();
        begun[i] = driver->ops->put(driver->ctx, test_op_handle(ops[i]), doc);
    }
    if (first + count > m->n)
        m->n = first + count;
    for (size_t i = first; i < first + count; i++) {
        assert_int_equal(test_op_wait(ops[i], begun[i], NULL), TN_OK);
        test_op_destroy(ops[i]);
    }
}

static void run(const char *path, const char *patience, const char *seed_text)
{
    const test_setting settings[] = {
        {"path", path}, {"linger", "2ms"}, {"patience", patience}, {NULL, NULL}};
    test_driver driver;
    tn_error err = {0};
    model *m = tn_xcalloc(1, sizeof(*m));
    int64_t seed = 1;
    assert_true(tn_parse_i64(tn_str_from(seed_text), &seed));
    m->arena = tn_arena_create(0);
    tn_rng_seed(&m->rng, (uint64_t)seed);
    if (test_driver_open(settings, &driver, &err) != TN_OK)
        fail_msg("%s", err.text);
    add_docs(&driver, m, 0, 300, 1);
    check_queries(&driver, m, 150);
    add_docs(&driver, m, 100, 350, 2); /* half of them changed, others new */
    check_queries(&driver, m, 150);
    for (size_t i = 0; i < 200; i++) { /* some removed */
        size_t k = below(m, m->n);
        assert_int_equal(test_remove(&driver, NS, m->docs[k].run_id), TN_OK);
        m->docs[k] = m->docs[--m->n];
    }
    check_queries(&driver, m, 150);
    test_driver_close(&driver);
    tn_arena_destroy(m->arena);
    free(m);
}

static const char *seed(void)
{
    const char *given = getenv("TEST_SEED");
    return given ? given : "7";
}

static void test_in_memory(void **state)
{
    (void)state;
    run(":memory:", "0s", seed()); /* lists by arms are given up at once */
}

static void test_in_file(void **state)
{
    (void)state;
    char folder[] = "/tmp/tenon-visibility-XXXXXX", path[64], command[80];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/v.db", folder);
    run(path, "1s", seed());
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest cases[] = {cmocka_unit_test(test_in_memory),
                                       cmocka_unit_test(test_in_file)};
    return cmocka_run_group_tests(cases, NULL, NULL);
}
