/* SPDX-License-Identifier: MIT */
/* Random documents and random filters: what a driver lists and counts must be what a plain walk over the
 * documents finds, in the same order, page by page. */
#include "tools/check/vkit.h"

#include <stdio.h>
#include <stdlib.h>

#define DOCS_MAX 600

typedef struct model {
    tn_vis_doc docs[DOCS_MAX];
    size_t n;
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

static size_t below(size_t bound) { return (size_t)tn_rng_below(kit_rng(), bound); }

static tn_attr attr_of(const char *name, uint32_t type, tn_blob value)
{
    return (tn_attr){.name = tn_str_from(name), .type = type, .value = value};
}

static const char *pick(const char *const *from, size_t count) { return from[below(count)]; }

static const char *random_text(void)
{
    char *text = tn_arena_alloc(kit_arena(), 64);
    snprintf(text, 64, "%s, %s!", pick(words, 5), pick(words, 5));
    return text;
}

static tn_blob random_list(void)
{
    const char *items[3];
    size_t n = 1 + below(3);
    for (size_t i = 0; i < n; i++)
        items[i] = pick(keys, TN_COUNT_OF(keys));
    return vk_keywords(items, n);
}

static tn_blob random_custom(uint32_t type)
{
    uint8_t *flag;
    switch (type) {
    case TN_ATTR_INT:
        return vk_i64((int64_t)below(7) - 3);
    case TN_ATTR_DOUBLE:
        return vk_f64(((double)below(7) - 3) / 2);
    case TN_ATTR_DATETIME:
        return vk_i64(VK_T0 + (int64_t)below(5) * 1000);
    case TN_ATTR_BOOL:
        flag = tn_arena_alloc(kit_arena(), 1);
        *flag = (uint8_t)below(2);
        return tn_blob_from(flag, 1);
    case TN_ATTR_KEYWORD_LIST:
        return random_list();
    case TN_ATTR_TEXT:
        return kit_text(random_text());
    default:
        return kit_text(pick(keys, TN_COUNT_OF(keys)));
    }
}

static char *workflow_id(size_t n)
{
    char *text = tn_arena_alloc(kit_arena(), 32);
    snprintf(text, 32, "wf-%zu", n);
    return text;
}

/* Numbers of rows come from the first 63 bits of the run id, so their order is the ids' order. */
static char *run_id(size_t n)
{
    uint8_t id[16] = {0x01, 0x99};
    tn_put_u32be(id + 2, (uint32_t)(n * 2654435761u));
    id[6] = 0x70, id[7] = (uint8_t)(n << 1), id[8] = 0x80;
    char *text = tn_arena_alloc(kit_arena(), 40);
    tn_uuid_format(id, text);
    return text;
}

static void fill(size_t version, tn_vis_doc *doc)
{
    tn_attr *attrs = TN_NEW_ARRAY(kit_arena(), tn_attr, 32);
    size_t k = 0;
    int64_t start = VK_T0 + (int64_t)below(20) * 1000000;
    bool open = below(4) == 0;
    attrs[k++] =
        attr_of("WorkflowType", TN_ATTR_KEYWORD, kit_text(types[below(20) ? below(3) : 3]));
    attrs[k++] = attr_of("ExecutionStatus", TN_ATTR_KEYWORD,
                         kit_text(open ? states[0] : states[1 + below(3)]));
    if (below(5))
        attrs[k++] = attr_of("TaskQueue", TN_ATTR_KEYWORD, kit_text(pick(queues, 2)));
    attrs[k++] = attr_of("WorkflowId", TN_ATTR_KEYWORD, tn_blob_of_str(doc->workflow_id));
    attrs[k++] = attr_of("RunId", TN_ATTR_KEYWORD, tn_blob_of_str(doc->run_id));
    attrs[k++] = attr_of("StartTime", TN_ATTR_DATETIME, vk_i64(start));
    attrs[k++] =
        attr_of("ExecutionTime", TN_ATTR_DATETIME, vk_i64(start + (int64_t)below(2) * 500));
    bool child = below(6) == 0;
    const char *parent = workflow_id(below(10));
    if (child)
        attrs[k++] = attr_of("ParentWorkflowId", TN_ATTR_KEYWORD, kit_text(parent));
    attrs[k++] = attr_of("RootWorkflowId", TN_ATTR_KEYWORD,
                         child ? kit_text(parent) : tn_blob_of_str(doc->workflow_id));
    if (!open) {
        int64_t took = (int64_t)below(5) * 1000000;
        attrs[k++] = attr_of("CloseTime", TN_ATTR_DATETIME, vk_i64(start + took));
        attrs[k++] = attr_of("ExecutionDuration", TN_ATTR_INT, vk_i64(took));
        attrs[k++] = attr_of("HistoryLength", TN_ATTR_INT, vk_i64((int64_t)below(30)));
    }
    if (below(10) == 0)
        attrs[k++] =
            attr_of("TemporalNamespaceDivision", TN_ATTR_KEYWORD, kit_text(pick(queues, 2)));
    for (size_t i = 13; i < ATTRIBUTES - 1; i++)
        if (below(3) == 0)
            attrs[k++] =
                attr_of(attributes[i].name, attributes[i].type, random_custom(attributes[i].type));
    doc->attrs = attrs;
    doc->n_attrs = k;
    doc->version = version;
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
    const tn_attr *attr = vk_find(doc, node->name);
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
        kit_fail(__FILE__, __LINE__, "operator %u", node->op);
        return NO;
    }
}

bool vk_model_matches(const tn_vis_doc *doc, const tn_vis_node *nodes, size_t count)
{
    truth stack[1024];
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

static int compare_by(const tn_vis_doc *a, const tn_vis_doc *b, tn_str name, bool down)
{
    const tn_attr *x = vk_find(a, name), *y = vk_find(b, name);
    int order;
    tn_blob v, w;
    if (!x || !y) {
        order = (x == NULL) - (y == NULL);
    } else if (x->type == TN_ATTR_KEYWORD_LIST) {
        KIT_CHECK(list_end(x, down, &v) && list_end(y, down, &w));
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
    for (size_t i = 0; i < sorting->n_order && !order; i++)
        order = compare_by(a, b, sorting->order[i].name, sorting->order[i].descending);
    if (!order)
        order = compare_by(a, b, TN_STR("CloseTime"), true);
    if (!order)
        order = compare_by(a, b, TN_STR("StartTime"), true);
    return order ? order : -tn_blob_cmp(tn_blob_of_str(a->run_id), tn_blob_of_str(b->run_id));
}

void vk_model_sort(const tn_vis_query *query, const tn_vis_doc **docs, size_t n)
{
    sorting = query;
    if (n)
        qsort(docs, n, sizeof(*docs), compare_docs);
}

/* ---- random queries --------------------------------------------------------------------------- */

static tn_blob random_value(model *m, size_t attribute)
{
    const tn_vis_doc *doc = &m->docs[below(m->n)];
    const tn_attr *attr = vk_find(doc, tn_str_from(attributes[attribute].name));
    uint32_t type = attributes[attribute].type;
    if (type == TN_ATTR_KEYWORD_LIST)
        return kit_text(pick(keys, TN_COUNT_OF(keys)));
    if (attr && below(4))
        return attr->value;
    return random_custom(type);
}

static tn_vis_node random_leaf(model *m)
{
    size_t a = below(ATTRIBUTES);
    uint32_t type = attributes[a].type, op = TN_VIS_EQ + (uint32_t)below(13);
    bool listed = type == TN_ATTR_KEYWORD_LIST || type == TN_ATTR_TEXT;
    bool equality = op == TN_VIS_EQ || op == TN_VIS_NE || op >= TN_VIS_IS_NULL || op == TN_VIS_IN ||
                    op == TN_VIS_NOT_IN;
    bool starts = op == TN_VIS_STARTS || op == TN_VIS_NOT_STARTS;
    if ((listed && (!equality || starts)) || (starts && type != TN_ATTR_KEYWORD))
        op = TN_VIS_EQ + (uint32_t)below(2);
    starts = op == TN_VIS_STARTS || op == TN_VIS_NOT_STARTS;
    size_t n = op == TN_VIS_BETWEEN                            ? 2
               : op == TN_VIS_IN || op == TN_VIS_NOT_IN        ? 1 + below(3)
               : op == TN_VIS_IS_NULL || op == TN_VIS_NOT_NULL ? 0
                                                               : 1;
    tn_blob *values = TN_NEW_ARRAY(kit_arena(), tn_blob, 3);
    for (size_t i = 0; i < n; i++) {
        values[i] = random_value(m, a);
        if (starts && values[i].n > 1 && values[i].p[1] < 0x80) /* strings stay UTF-8 */
            values[i].n = 1 + below(values[i].n - 1);
    }
    return (tn_vis_node){.op = op,
                         .name = tn_str_from(attributes[a].name),
                         .type = type,
                         .n_values = (uint32_t)n,
                         .values = values};
}

static void random_filter(model *m, tn_vis_query *q)
{
    tn_vis_node *nodes = TN_NEW_ARRAY(kit_arena(), tn_vis_node, 64);
    size_t n = 0, depth = 0, leaves = below(5);
    for (size_t i = 0; i < leaves; i++) {
        nodes[n++] = random_leaf(m);
        depth++;
        if (below(5) == 0)
            nodes[n++] = (tn_vis_node){.op = TN_VIS_NOT, .arity = 1};
        if (depth > 1 && below(2)) {
            nodes[n++] =
                (tn_vis_node){.op = below(3) ? TN_VIS_AND : TN_VIS_OR, .arity = (uint32_t)depth};
            depth = 1;
        }
    }
    if (depth > 1)
        nodes[n++] =
            (tn_vis_node){.op = below(3) ? TN_VIS_AND : TN_VIS_OR, .arity = (uint32_t)depth};
    q->filter = nodes;
    q->n_filter = n;
}

static void random_order(tn_vis_query *q)
{
    tn_vis_order *order = TN_NEW_ARRAY(kit_arena(), tn_vis_order, 3);
    q->n_order = below(3) ? 0 : 1 + below(2);
    for (size_t i = 0; i < q->n_order; i++) {
        size_t a = below(ATTRIBUTES - 2);
        order[i] = (tn_vis_order){.name = tn_str_from(attributes[a].name),
                                  .type = attributes[a].type,
                                  .descending = (uint32_t)below(2)};
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

static void check_doc(const tn_vis_doc *got, const tn_vis_doc *want)
{
    KIT_EQUAL(got->version, want->version);
    KIT_EQUAL(got->n_attrs, want->n_attrs);
    KIT_CHECK(tn_str_eq(got->workflow_id, want->workflow_id));
    for (size_t k = 0; k < want->n_attrs; k++) {
        const tn_attr *attr = vk_find(got, want->attrs[k].name);
        KIT_CHECK(attr && attr->type == want->attrs[k].type);
        KIT_CHECK(tn_blob_eq(attr->value, want->attrs[k].value));
    }
}

static void check_list(tn_vis_query *q, const tn_vis_doc **expected, size_t count)
{
    size_t at = 0;
    q->page = tn_blob_from(NULL, 0);
    do {
        tn_vis_page page;
        KIT_EQUAL(vk_list(q, &page), TN_OK);
        KIT_CHECK(page.n_docs <= q->limit);
        for (size_t i = 0; i < page.n_docs; i++, at++) {
            if (at >= count || !tn_str_eq(page.docs[i].run_id, expected[at]->run_id)) {
                explain(q);
                kit_fail(__FILE__, __LINE__, "row %zu of %zu differs", at, count);
            }
            check_doc(&page.docs[i], expected[at]);
        }
        KIT_CHECK(page.next.n == 0 || page.n_docs == q->limit);
        q->page = page.next;
    } while (q->page.n);
    if (at != count) {
        explain(q);
        kit_fail(__FILE__, __LINE__, "%zu rows of %zu", at, count);
    }
}

static void check_groups(const tn_vis_page *page, tn_str by, const tn_vis_doc **expected,
                         size_t count)
{
    for (size_t i = 0; i < page->n_groups; i++) {
        size_t same = 0;
        for (size_t k = 0; k < count; k++) {
            const tn_attr *attr = vk_find(expected[k], by);
            tn_blob v = page->groups[i].values[0].value;
            same += attr ? v.p && tn_blob_eq(v, attr->value) : v.p == NULL;
        }
        KIT_CHECK(same > 0);
        KIT_EQUAL(page->groups[i].count, same);
    }
}

static void check_count(tn_vis_query *q, const tn_vis_doc **expected, size_t count)
{
    static const struct {
        const char *name;
        uint32_t type;
    } by[] = {{"ExecutionStatus", TN_ATTR_KEYWORD},
              {"WorkflowType", TN_ATTR_KEYWORD},
              {"TaskQueue", TN_ATTR_KEYWORD},
              {"CI", TN_ATTR_INT},
              {"CB", TN_ATTR_BOOL},
              {"CK", TN_ATTR_KEYWORD}};
    tn_vis_page page;
    KIT_EQUAL(vk_count(q, &page), TN_OK);
    if (page.count != count) {
        explain(q);
        kit_fail(__FILE__, __LINE__, "counted %zu of %zu", (size_t)page.count, count);
    }
    for (size_t b = 0; b < TN_COUNT_OF(by); b++) {
        tn_attr group = {.name = tn_str_from(by[b].name), .type = by[b].type};
        q->group_by = &group, q->n_group_by = 1;
        KIT_EQUAL(vk_count(q, &page), TN_OK);
        KIT_EQUAL(page.count, count);
        check_groups(&page, group.name, expected, count);
    }
    q->n_group_by = 0;
}

static void check_queries(model *m, size_t count)
{
    const tn_vis_doc **expected = tn_xcalloc(DOCS_MAX, sizeof(*expected));
    size_t answered = 0;
    for (size_t i = 0; i < count; i++) {
        tn_vis_query q = vk_query(NULL, 0);
        random_filter(m, &q);
        random_order(&q);
        q.limit = (uint32_t)(below(3) ? 7 + below(60) : 1000);
        size_t n = 0;
        for (size_t k = 0; k < m->n; k++)
            if (vk_model_matches(&m->docs[k], q.filter, q.n_filter))
                expected[n++] = &m->docs[k];
        vk_model_sort(&q, expected, n);
        answered += n > 0;
        check_list(&q, expected, n);
        check_count(&q, expected, n);
    }
    KIT_CHECK(answered * 3 > count); /* else the case asks nothing */
    free(expected);
}

static void add_docs(model *m, size_t first, size_t count, size_t version)
{
    vk_op *ops = tn_xcalloc(count, sizeof(*ops));
    for (size_t i = 0; i < count; i++) {
        tn_vis_doc *doc = &m->docs[first + i];
        *doc = (tn_vis_doc){.struct_size = sizeof(*doc),
                            .ns_id = tn_str_from(vk_ns()),
                            .workflow_id = tn_str_from(workflow_id((first + i) % 90)),
                            .run_id = tn_str_from(run_id(first + i))};
        fill(version, doc);
        ops[i].verb = VK_PUT;
        ops[i].op.u.put.doc = *doc;
    }
    if (first + count > m->n)
        m->n = first + count;
    vk_run(0, ops, count);
    for (size_t i = 0; i < count; i++)
        KIT_EQUAL(ops[i].op.status, TN_OK);
    free(ops);
}

void vk_case_random(void)
{
    const char *rounds = getenv("TN_KIT_ROUNDS");
    size_t queries = rounds ? strtoull(rounds, NULL, 10) : 60;
    model *m = tn_xcalloc(1, sizeof(*m));
    vk_open();
    add_docs(m, 0, 300, 1);
    check_queries(m, queries);
    add_docs(m, 100, 350, 2); /* half of them changed, others new */
    check_queries(m, queries);
    for (size_t i = 0; i < 200; i++) { /* some removed */
        size_t k = below(m->n);
        KIT_EQUAL(vk_remove(vk_ns(), m->docs[k].run_id), TN_OK);
        m->docs[k] = m->docs[--m->n];
    }
    check_queries(m, queries);
    vk_close();
    free(m);
}
