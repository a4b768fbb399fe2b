/* SPDX-License-Identifier: MIT */
/* The contract of a visibility plugin as cases that any driver must pass; filters, orders and pages are in vquery.c.  Each case uses namespaces of its own, so that
 * a database server may be shared. */
#include <stdio.h>
#include <stdlib.h>

#include "tools/check/vkit.h"

#define S INT64_C(1000000000) /* a second */

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
    vk_put_ok(d);
    vk_doc *bare = vk_make(2, "Running", VK_T0, 0, 1);
    vk_put_ok(bare);
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
    vk_put_ok(d);
    vk_close();
    vk_open();
    d = vk_make(1, "Completed", VK_T0, VK_T0 + 5 * S, 3);
    add_everything(d);
    tn_vis_query q = vk_query(NULL, 0);
    tn_vis_page page;
    KIT_EQUAL(vk_list(&q, &page), TN_OK);
    KIT_EQUAL(page.n_docs, 1);
    same_doc(&page.docs[0], &d->doc);
    KIT_EQUAL(vk_count_is("CK", "nothing"), 0);
    vk_close();
}

/* What only one version had is gone with it. */
static void a_version_replaces_all(void)
{
    vk_open();
    vk_doc *d = vk_make(1, "Running", VK_T0, 0, 1);
    add_everything(d);
    d->doc.memo = kit_text("memo");
    vk_put_ok(d);
    vk_doc *next = vk_make(1, "Completed", VK_T0, VK_T0 + S, 2);
    vk_add(next, "CK", TN_ATTR_KEYWORD, kit_text("new"));
    vk_put_ok(next);
    tn_vis_query q = vk_query(NULL, 0);
    tn_vis_page page;
    KIT_EQUAL(vk_list(&q, &page), TN_OK);
    KIT_EQUAL(page.n_docs, 1);
    same_doc(&page.docs[0], &next->doc);
    KIT_EQUAL(vk_count_is("CK", "new"), 1);
    KIT_EQUAL(vk_count_list("CL", "b") + vk_count_is("ParentWorkflowId", "the parent"), 0);
    KIT_EQUAL(vk_count_leaf(TN_VIS_EQ, "CT", TN_ATTR_TEXT, kit_text("words")), 0);
    KIT_EQUAL(vk_count_leaf(TN_VIS_EQ, "Yes", TN_ATTR_BOOL, vk_bool(1)), 0);
    KIT_EQUAL(vk_count_leaf(TN_VIS_NOT_NULL, "Most", TN_ATTR_INT, kit_text("")), 0);
    KIT_EQUAL(vk_count_is("ExecutionStatus", "Running"), 0);
    KIT_EQUAL(vk_count_is("ExecutionStatus", "Completed"), 1);
    vk_close();
}

/* ---- versions ----------------------------------------------------------------------------------- */

static void older_versions_are_dropped(void)
{
    vk_open();
    vk_put_ok(vk_make(1, "Running", VK_T0, 0, 5));
    vk_put_ok(vk_make(1, "Completed", VK_T0, VK_T0 + S, 6));
    vk_put_ok(vk_make(1, "Failed", VK_T0, VK_T0 + S, 6)); /* equal and older ones change nothing */
    vk_put_ok(vk_make(1, "Running", VK_T0, 0, 5));
    KIT_EQUAL(vk_count_is("ExecutionStatus", "Completed"), 1);
    KIT_EQUAL(vk_matches(NULL, 0), 1);
    vk_doc *top = vk_make(1, "Failed", VK_T0, VK_T0 + S, INT64_MAX);
    vk_put_ok(top);
    vk_put_ok(vk_make(1, "Completed", VK_T0, VK_T0 + S, INT64_MAX - 1));
    KIT_EQUAL(vk_count_is("ExecutionStatus", "Failed"), 1);
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
    KIT_EQUAL(vk_count_is("ExecutionStatus", "Failed"), 1);
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
    KIT_EQUAL(vk_count_is("ExecutionStatus", "Failed"), RUNS);
    KIT_EQUAL(
        vk_count_is("ExecutionStatus", "Running") + vk_count_is("ExecutionStatus", "Completed"), 0);
    free(ops);
    vk_close();
}

/* ---- removing, namespaces, names ---------------------------------------------------------------- */

static void remove_takes_away(void)
{
    vk_open();
    vk_doc *d = vk_make(1, "Running", VK_T0, 0, 1);
    add_everything(d);
    vk_put_ok(d);
    vk_put_ok(vk_make(2, "Running", VK_T0, 0, 1));
    KIT_EQUAL(vk_remove(vk_ns(), tn_str_from(vk_run_id(3))), TN_OK); /* never was */
    KIT_EQUAL(vk_remove(vk_ns(), d->doc.run_id), TN_OK);
    KIT_EQUAL(vk_remove(vk_ns(), d->doc.run_id), TN_OK);
    KIT_EQUAL(vk_matches(NULL, 0), 1);
    KIT_EQUAL(vk_count_is("Empty", "") + vk_count_list("CL", "b"), 0);
    KIT_EQUAL(vk_count_is("ExecutionStatus", "Running"), 1);
    vk_put_ok(d); /* and it may come again, with any version */
    KIT_EQUAL(vk_matches(NULL, 0), 2);
    KIT_EQUAL(vk_count_list("CL", "b"), 1);
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
    vk_put_ok(mine);
    tn_vis_page page;
    tn_vis_query q = vk_query(NULL, 0);
    q.ns_id = tn_str_from(vk_other_ns());
    KIT_EQUAL(vk_count(&q, &page), TN_OK);
    KIT_EQUAL(page.count, 0);
    vk_put_ok(theirs);
    KIT_EQUAL(vk_matches(NULL, 0), 1);
    KIT_EQUAL(vk_count_is("CK", "x"), 1);
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
    KIT_EQUAL(vk_count_is("Def1", "x"), 0);
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
        vk_put_ok(d);
    }
    for (uint64_t i = 0; i < RUNS * EACH; i += 7) {
        const char *name = tn_arena_printf(kit_arena(), "Own%llu", (unsigned long long)i);
        bool keyword = i % EACH % 2;
        KIT_EQUAL(vk_count_leaf(TN_VIS_EQ, name, keyword ? TN_ATTR_KEYWORD : TN_ATTR_INT,
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
    vk_put_ok(wide);
    KIT_EQUAL(vk_count_is("Wide499", "w"), 1);
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
            vk_put_ok(d);
        }
        KIT_EQUAL(vk_matches(NULL, 0), TN_COUNT_OF(ids));
    }
    for (size_t i = 0; i < TN_COUNT_OF(ids); i++) {
        KIT_EQUAL(vk_count_is("RunId", ids[i]), 1);
        KIT_EQUAL(vk_remove(vk_ns(), tn_str_from(ids[i])), TN_OK);
        KIT_EQUAL(vk_count_is("RunId", ids[i]), 0);
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
        vk_put_ok(d);
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

/* A connection may have been given up for an answer that did not come in time: until there is a new one, a driver may
 * say that it is not available, which is worth trying again. */
static void put_at_last(const vk_doc *d)
{
    uint64_t end = tn_now_mono_ns() + 60 * TN_SEC;
    tn_status status;
    do
        status = vk_put(&d->doc);
    while (status == TN_EUNAVAILABLE && tn_now_mono_ns() < end);
    KIT_EQUAL(status, TN_OK);
}

static void a_deadline_spoils_nothing(void)
{
    vk_open();
    vk_doc *docs[64];
    for (uint64_t i = 0; i < 64; i++)
        docs[i] = vk_make(i, "Running", VK_T0, 0, 1);
    vk_put_all(docs, 64);
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
        put_at_last(vk_make((uint64_t)i, "Failed", VK_T0, VK_T0 + S, 2));
    }
    KIT_EQUAL(vk_count_is("ExecutionStatus", "Failed"), 20);
    vk_close();
}

const kit_case kit_visibility_cases[] = {
    {"documents come back whole", documents_come_back_whole},
    {"documents outlive a close", documents_outlive_a_close},
    {"a version replaces all of the one before", a_version_replaces_all},
    {"every operator on every type", vk_case_every_operator_on_every_type},
    {"unknown is no match", vk_case_unknown_is_no_match},
    {"logic of any shape", vk_case_logic_of_any_shape},
    {"broad filters", vk_case_broad_filters},
    {"beginnings", vk_case_beginnings},
    {"text is matched by words", vk_case_text_is_matched_by_words},
    {"wrong queries are refused", vk_case_wrong_queries_are_refused},
    {"pages that are none", vk_case_pages_that_are_none},
    {"default order", vk_case_default_order},
    {"order by anything", vk_case_order_by_anything},
    {"pages are stable under writes", vk_case_pages_are_stable_under_writes},
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
