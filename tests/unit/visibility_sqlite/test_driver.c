/* SPDX-License-Identifier: MIT */
/* What the sqlite visibility driver promises beyond answering queries: versions, gathering, durability of
 * what it reports, and clear words when the file can't be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "host.h"

#define NS "0b7a1e2c-7f64-4d3e-9a55-6f1f0c9d8e01"
#define OTHER_NS "0b7a1e2c-7f64-4d3e-9a55-6f1f0c9d8e02"

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/tenon-visibility-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/v.db", folder);
    return 0;
}

static int drop_folder(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static void open_driver(test_driver *driver, const char *linger)
{
    const test_setting settings[] = {{"path", path}, {"linger", linger}, {NULL, NULL}};
    tn_error err = {0};
    if (test_driver_open(settings, driver, &err) != TN_OK)
        fail_msg("%s", err.text);
}

typedef struct sample {
    tn_vis_doc doc;
    tn_attr attrs[12];
    char run[40];
} sample;

static void make(tn_arena *arena, sample *s, const char *ns, const char *workflow, unsigned n,
                 const char *status, uint64_t version)
{
    size_t k = 0;
    int64_t start = INT64_C(1790000000000000000) + n;
    memset(s, 0, sizeof(*s));
    snprintf(s->run, sizeof(s->run), "01990000-%04x-7000-8000-%012x", n & 0xffff, n);
    s->attrs[k++] = test_attr("WorkflowType", TN_ATTR_KEYWORD, test_text("T"));
    s->attrs[k++] = test_attr("ExecutionStatus", TN_ATTR_KEYWORD, test_text(status));
    s->attrs[k++] = test_attr("StartTime", TN_ATTR_DATETIME, test_i64(arena, start));
    if (strcmp(status, "Running") != 0)
        s->attrs[k++] = test_attr("CloseTime", TN_ATTR_DATETIME, test_i64(arena, start + 5));
    s->doc = (tn_vis_doc){.struct_size = sizeof(tn_vis_doc),
                          .ns_id = tn_str_from(ns),
                          .workflow_id = tn_str_from(workflow),
                          .run_id = tn_str_from(s->run),
                          .version = version,
                          .attrs = s->attrs,
                          .n_attrs = k};
}

static void add_attr(sample *s, const char *name, uint32_t type, tn_blob value)
{
    s->attrs[s->doc.n_attrs++] = test_attr(name, type, value);
}

static uint64_t count_where(test_driver *driver, const char *ns, const tn_vis_node *nodes, size_t n)
{
    test_op *op = test_op_create();
    tn_vis_page page;
    tn_vis_query q = {
        .struct_size = sizeof(q), .ns_id = tn_str_from(ns), .filter = nodes, .n_filter = n};
    assert_int_equal(test_count(driver, op, &q, &page), TN_OK);
    uint64_t count = page.count;
    test_op_destroy(op);
    return count;
}

static uint64_t count_eq(test_driver *driver, const char *ns, const char *name, uint32_t type,
                         const char *value)
{
    tn_blob v = test_text(value);
    tn_vis_node node = {
        .op = TN_VIS_EQ, .name = tn_str_from(name), .type = type, .n_values = 1, .values = &v};
    return count_where(driver, ns, &node, 1);
}

static void test_versions(void **state)
{
    (void)state;
    test_driver driver;
    sample s;
    tn_arena *arena = tn_arena_create(0);
    open_driver(&driver, "0s");
    make(arena, &s, NS, "wf", 1, "Running", 5);
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    make(arena, &s, NS, "wf", 1, "Completed", 6);
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    make(arena, &s, NS, "wf", 1, "Failed", 6); /* equal and older ones change nothing */
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    make(arena, &s, NS, "wf", 1, "Running", 5);
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    assert_int_equal(count_eq(&driver, NS, "ExecutionStatus", TN_ATTR_KEYWORD, "Completed"), 1);
    assert_int_equal(count_where(&driver, NS, NULL, 0), 1);
    /* Namespaces don't see each other, though the run id be the same. */
    assert_int_equal(count_where(&driver, OTHER_NS, NULL, 0), 0);
    make(arena, &s, OTHER_NS, "wf", 1, "Failed", 1);
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    assert_int_equal(count_where(&driver, OTHER_NS, NULL, 0), 1);
    assert_int_equal(count_where(&driver, NS, NULL, 0), 1);
    assert_int_equal(test_remove(&driver, NS, s.doc.run_id), TN_OK);
    assert_int_equal(test_remove(&driver, NS, s.doc.run_id), TN_OK); /* idempotent */
    assert_int_equal(count_where(&driver, NS, NULL, 0), 0);
    assert_int_equal(count_where(&driver, OTHER_NS, NULL, 0), 1);
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

/* A run's versions that come within the linger are written once; a read does not wait for the linger. */
static void test_gathering(void **state)
{
    enum { N = 50 };
    static sample s[N * 2];
    test_op *ops[N * 2];
    tn_status begun[N * 2];
    test_driver driver;
    tn_arena *arena = tn_arena_create(0);
    (void)state;
    open_driver(&driver, "9s");
    uint64_t began = tn_now_mono_ns();
    for (unsigned i = 0; i < N * 2; i++) {
        make(arena, &s[i], NS, "wf", i / 2, i % 2 ? "Completed" : "Running", i % 2 + 1);
        ops[i] = test_op_create();
        begun[i] = driver.ops->put(driver.ctx, test_op_handle(ops[i]), &s[i].doc);
        assert_int_equal(begun[i], TN_PENDING);
    }
    assert_int_equal(count_where(&driver, NS, NULL, 0), N);
    assert_int_equal(count_eq(&driver, NS, "ExecutionStatus", TN_ATTR_KEYWORD, "Completed"), N);
    for (unsigned i = 0; i < N * 2; i++) {
        assert_int_equal(test_op_wait(ops[i], begun[i], NULL), TN_OK);
        test_op_destroy(ops[i]);
    }
    assert_true(tn_now_mono_ns() - began < 5 * TN_SEC);
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

/* remove, put and remove of one run in one batch keep their order. */
static void test_order_in_batch(void **state)
{
    test_driver driver;
    sample s[3];
    test_op *ops[4];
    tn_status begun[4];
    tn_arena *arena = tn_arena_create(0);
    (void)state;
    open_driver(&driver, "9s");
    make(arena, &s[0], NS, "wf", 1, "Completed", 9);
    make(arena, &s[1], NS, "wf", 1, "Running", 1);
    make(arena, &s[2], NS, "wf", 1, "Failed", 2);
    for (int i = 0; i < 4; i++) {
        ops[i] = test_op_create();
        begun[i] = i == 1
                       ? driver.ops->remove(driver.ctx, test_op_handle(ops[i]), &s[0].doc)
                       : driver.ops->put(driver.ctx, test_op_handle(ops[i]), &s[i ? i - 1 : 0].doc);
    }
    assert_int_equal(count_eq(&driver, NS, "ExecutionStatus", TN_ATTR_KEYWORD, "Failed"), 1);
    assert_int_equal(count_where(&driver, NS, NULL, 0), 1);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(test_op_wait(ops[i], begun[i], NULL), TN_OK);
        test_op_destroy(ops[i]);
    }
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

static void test_reopening(void **state)
{
    (void)state;
    test_driver driver;
    sample s;
    tn_arena *arena = tn_arena_create(0);
    open_driver(&driver, "0s");
    make(arena, &s, NS, "wf", 1, "Completed", 1);
    add_attr(&s, "CK", TN_ATTR_KEYWORD, test_text("value"));
    add_attr(&s, "Empty", TN_ATTR_KEYWORD, test_text(""));
    s.doc.memo = test_text("memo bytes");
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    test_driver_close(&driver);
    assert_int_equal(access(path, F_OK), 0);

    open_driver(&driver, "0s");
    test_op *op = test_op_create();
    tn_vis_page page;
    tn_vis_query q = {.struct_size = sizeof(q), .ns_id = TN_STR(NS), .limit = 10};
    assert_int_equal(test_list(&driver, op, &q, &page), TN_OK);
    assert_int_equal(page.n_docs, 1);
    assert_true(tn_str_is(page.docs[0].workflow_id, "wf"));
    assert_true(tn_str_eq(page.docs[0].run_id, s.doc.run_id));
    assert_true(tn_blob_eq(page.docs[0].memo, s.doc.memo));
    assert_true(tn_str_is(tn_str_of_blob(test_find(&page.docs[0], "CK")->value), "value"));
    assert_int_equal(test_find(&page.docs[0], "Empty")->value.n, 0);
    assert_non_null(test_find(&page.docs[0], "Empty")->value.p);
    assert_int_equal(page.next.n, 0);
    test_op_destroy(op);
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

/* Run ids that are no UUIDs, or whose first halves are alike, are runs like others. */
static void test_run_ids(void **state)
{
    static const char *const ids[] = {"run-1",
                                      "x",
                                      "01990000-0001-7000-8000-000000000001",
                                      "01990000-0001-7000-8000-000000000002",
                                      "01990000-0001-7000-9000-000000000003",
                                      "01990000-0001-7000-8000-00000000000A",
                                      "ffffffff-ffff-ffff-ffff-ffffffffffff",
                                      "ffffffff-ffff-ffff-ffff-fffffffffffe"};
    test_driver driver;
    tn_arena *arena = tn_arena_create(0);
    (void)state;
    open_driver(&driver, "0s");
    for (uint64_t version = 1; version <= 2; version++) {
        for (size_t i = 0; i < TN_COUNT_OF(ids); i++) {
            sample s;
            make(arena, &s, NS, ids[i], (unsigned)i, version == 1 ? "Running" : "Completed",
                 version);
            s.doc.run_id = tn_str_from(ids[i]);
            assert_int_equal(test_put(&driver, &s.doc), TN_OK);
        }
        assert_int_equal(count_where(&driver, NS, NULL, 0), TN_COUNT_OF(ids));
    }
    assert_int_equal(count_eq(&driver, NS, "ExecutionStatus", TN_ATTR_KEYWORD, "Completed"),
                     TN_COUNT_OF(ids));
    for (size_t i = 0; i < TN_COUNT_OF(ids); i++) {
        assert_int_equal(count_eq(&driver, NS, "RunId", TN_ATTR_KEYWORD, ids[i]), 1);
        assert_int_equal(test_remove(&driver, NS, tn_str_from(ids[i])), TN_OK);
        assert_int_equal(count_eq(&driver, NS, "RunId", TN_ATTR_KEYWORD, ids[i]), 0);
    }
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

static void test_words(void **state)
{
    (void)state;
    test_driver driver;
    sample s;
    tn_arena *arena = tn_arena_create(0);
    open_driver(&driver, "0s");
    make(arena, &s, NS, "wf", 1, "Running", 1);
    add_attr(&s, "CT", TN_ATTR_TEXT,
             test_text("Hello, big-World_2 \xc3\x89T\xc3\x89 \xd0\x9c\xd0\xb8\xd1\x80 "
                       "\xe6\x97\xa5\xe6\x9c\xac"));
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    static const char *const found[] = {"hello",
                                        "HELLO there",
                                        "world",
                                        "big",
                                        "2",
                                        "\xc3\xa9t\xc3\xa9",
                                        "\xd0\xbc\xd0\xb8\xd1\x80",
                                        "\xe6\x97\xa5"};
    static const char *const missed[] = {"hell", "worlds", "22", "...", "\xe6\x9c\xa8"};
    for (size_t i = 0; i < TN_COUNT_OF(found); i++)
        assert_int_equal(count_eq(&driver, NS, "CT", TN_ATTR_TEXT, found[i]), 1);
    for (size_t i = 0; i < TN_COUNT_OF(missed); i++)
        assert_int_equal(count_eq(&driver, NS, "CT", TN_ATTR_TEXT, missed[i]), 0);
    /* A new version takes the old words away. */
    make(arena, &s, NS, "wf", 1, "Running", 2);
    add_attr(&s, "CT", TN_ATTR_TEXT, test_text("other"));
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    assert_int_equal(count_eq(&driver, NS, "CT", TN_ATTR_TEXT, "hello"), 0);
    assert_int_equal(count_eq(&driver, NS, "CT", TN_ATTR_TEXT, "other"), 1);
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

/* One bad document does not keep its batch from being stored. */
static void test_bad_member(void **state)
{
    test_driver driver;
    sample s[3];
    test_op *ops[3];
    tn_status begun[3];
    tn_arena *arena = tn_arena_create(0);
    (void)state;
    open_driver(&driver, "50ms");
    for (unsigned i = 0; i < 3; i++) {
        make(arena, &s[i], NS, "wf", i, "Running", 1);
        if (i == 1)
            add_attr(&s[i], "CI", TN_ATTR_INT, test_text("short"));
        ops[i] = test_op_create();
        begun[i] = driver.ops->put(driver.ctx, test_op_handle(ops[i]), &s[i].doc);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(test_op_wait(ops[i], begun[i], NULL), i == 1 ? TN_EINVALID : TN_OK);
        test_op_destroy(ops[i]);
    }
    assert_int_equal(count_where(&driver, NS, NULL, 0), 2);
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

static void test_bad_queries(void **state)
{
    (void)state;
    test_driver driver;
    tn_vis_page page;
    tn_arena *arena = tn_arena_create(0);
    sample s;
    open_driver(&driver, "0s");
    make(arena, &s, NS, "wf", 1, "Running", 1);
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    tn_blob v = test_text("x");
    const tn_vis_node nodes[] = {
        {.op = 99, .name = TN_STR("CK"), .type = TN_ATTR_KEYWORD, .n_values = 1, .values = &v},
        {.op = TN_VIS_EQ, .name = TN_STR("CK"), .type = 42, .n_values = 1, .values = &v},
        {.op = TN_VIS_EQ, .name = TN_STR("CI"), .type = TN_ATTR_INT, .n_values = 1, .values = &v},
        {.op = TN_VIS_EQ,
         .name = TN_STR("StartTime"),
         .type = TN_ATTR_KEYWORD,
         .n_values = 1,
         .values = &v},
        {.op = TN_VIS_LT,
         .name = TN_STR("CL"),
         .type = TN_ATTR_KEYWORD_LIST,
         .n_values = 1,
         .values = &v},
        {.op = TN_VIS_AND, .arity = 2},
    };
    for (size_t i = 0; i < TN_COUNT_OF(nodes); i++) {
        test_op *op = test_op_create();
        tn_vis_query q = {.struct_size = sizeof(q),
                          .ns_id = TN_STR(NS),
                          .limit = 10,
                          .filter = &nodes[i],
                          .n_filter = 1};
        assert_int_equal(test_list(&driver, op, &q, &page), TN_EINVALID);
        test_op_destroy(op);
    }
    uint8_t junk[64];
    for (size_t n = 1; n < sizeof(junk); n++) { /* pages that are none */
        test_op *op = test_op_create();
        memset(junk, n % 2 ? 'D' : 'O', sizeof(junk));
        const tn_vis_order by = {.name = TN_STR("CK"), .type = TN_ATTR_KEYWORD};
        tn_vis_query q = {.struct_size = sizeof(q),
                          .ns_id = TN_STR(NS),
                          .limit = 10,
                          .page = {junk, n},
                          .order = &by,
                          .n_order = n % 3 ? 0 : 1};
        tn_status status = test_list(&driver, op, &q, &page);
        assert_true(status == TN_OK || status == TN_EINVALID);
        assert_true(status == TN_EINVALID || n == 25);
        test_op_destroy(op);
    }
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

/* A filter as broad as the core lets through does not run into SQLite's limits. */
static void test_broad_filter(void **state)
{
    enum { N = 8000 };
    static tn_vis_node nodes[N + 1];
    static tn_blob values[N];
    test_driver driver;
    tn_arena *arena = tn_arena_create(0);
    sample s;
    (void)state;
    open_driver(&driver, "0s");
    make(arena, &s, NS, "wf-77", 1, "Running", 1);
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    for (size_t i = 0; i < N; i++) {
        char *text = tn_arena_alloc(arena, 16);
        snprintf(text, 16, "wf-%zu", i);
        values[i] = test_text(text);
        nodes[i] = (tn_vis_node){.op = TN_VIS_EQ,
                                 .name = TN_STR("WorkflowId"),
                                 .type = TN_ATTR_KEYWORD,
                                 .n_values = 1,
                                 .values = &values[i]};
    }
    nodes[N] = (tn_vis_node){.op = TN_VIS_OR, .arity = N};
    assert_int_equal(count_where(&driver, NS, nodes, N + 1), 1);
    tn_vis_node in = {.op = TN_VIS_IN,
                      .name = TN_STR("WorkflowId"),
                      .type = TN_ATTR_KEYWORD,
                      .n_values = N,
                      .values = values};
    assert_int_equal(count_where(&driver, NS, &in, 1), 1);
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

static void test_past_deadline(void **state)
{
    (void)state;
    test_driver driver;
    tn_arena *arena = tn_arena_create(0);
    open_driver(&driver, "9s");
    test_op *ops[3000];
    tn_status begun[3000];
    sample *all = tn_xcalloc(3000, sizeof(*all));
    for (unsigned i = 0; i < 3000; i++) {
        make(arena, &all[i], NS, "wf", i, "Running", 1);
        ops[i] = test_op_create();
        begun[i] = driver.ops->put(driver.ctx, test_op_handle(ops[i]), &all[i].doc);
    }
    test_op *op = test_op_create();
    test_op_deadline(op, 1);
    tn_vis_page page;
    tn_vis_order by = {.name = TN_STR("TaskQueue"), .type = TN_ATTR_KEYWORD};
    tn_vis_query q = {
        .struct_size = sizeof(q), .ns_id = TN_STR(NS), .limit = 10, .order = &by, .n_order = 1};
    assert_int_equal(test_list(&driver, op, &q, &page), TN_EUNAVAILABLE);
    test_op_destroy(op);
    assert_int_equal(count_where(&driver, NS, NULL, 0), 3000); /* and the next one is served */
    for (unsigned i = 0; i < 3000; i++) {
        assert_int_equal(test_op_wait(ops[i], begun[i], NULL), TN_OK);
        test_op_destroy(ops[i]);
    }
    free(all);
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

/* ---- the file --------------------------------------------------------------------------------- */

static void refuses(const char *words)
{
    const test_setting settings[] = {{"path", path}, {NULL, NULL}};
    test_driver driver;
    tn_error err = {0};
    assert_true(test_driver_open(settings, &driver, &err) < 0);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void write_file(const char *text, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
    close(fd);
}

static void test_files_refused(void **state)
{
    (void)state;
    test_driver driver;
    open_driver(&driver, "0s");
    refuses("is in use by another server");
    test_driver_close(&driver);

    write_file("this is certainly not a database, but long enough to be taken for one "
               "......................"
               "................................................................................",
               170);
    refuses("damaged");

    sqlite3 *db;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE t(x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    refuses("another program");

    assert_int_equal(unlink(path), 0);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db,
                     "CREATE TABLE t(x); PRAGMA application_id=1414420051; PRAGMA user_version=99",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    refuses("version 99");

    snprintf(path, sizeof(path), "%s/no/such/folder.db", folder);
    refuses("No such file or directory");
    snprintf(path, sizeof(path), "%s/v.db", folder);
}

static void test_settings_refused(void **state)
{
    (void)state;
    const test_setting wrong[][3] = {
        {{"linger", "1s"}, {NULL, NULL}},
        {{"path", path}, {"batchMax", "0"}, {NULL, NULL}},
        {{"path", path}, {"pageSize", "1000"}, {NULL, NULL}},
        {{"path", path}, {"linger", "1h"}, {NULL, NULL}},
        {{"path", path}, {"readers", "many"}, {NULL, NULL}},
    };
    for (size_t i = 0; i < TN_COUNT_OF(wrong); i++) {
        test_driver driver;
        tn_error err = {0};
        assert_int_equal(test_driver_open(wrong[i], &driver, &err), TN_EINVALID);
        assert_true(err.text[0]);
    }
}

/* A full disk refuses writes in plain words, what was acknowledged stays, and it goes on when there is
 * space again. */
static void test_full_disk(void **state)
{
    test_driver driver;
    tn_arena *arena = tn_arena_create(0);
    sample s;
    struct rlimit all, little = {.rlim_cur = 300000, .rlim_max = RLIM_INFINITY};
    unsigned stored = 0, n = 0;
    tn_status status = TN_OK;
    (void)state;
    char *memo = tn_arena_zalloc(arena, 5000);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &all), 0);
    little.rlim_max = all.rlim_max;
    open_driver(&driver, "0s");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    for (; status == TN_OK && n < 1000; n++) {
        make(arena, &s, NS, "wf", n, "Running", 1);
        s.doc.memo = tn_blob_from(memo, 5000);
        test_op *op = test_op_create();
        tn_error err = {0};
        status = test_op_wait(op, driver.ops->put(driver.ctx, test_op_handle(op), &s.doc), &err);
        stored += status == TN_OK;
        assert_true(status == TN_OK || err.text[0]);
        test_op_destroy(op);
    }
    assert_true(stored > 10 && stored < 1000);
    assert_true(status == TN_EUNAVAILABLE || status == TN_EUNCERTAIN);
    assert_true(strstr(test_last_log(), "documents were not stored") != NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
    assert_int_equal(test_put(&driver, &s.doc), TN_OK);
    uint64_t count = count_where(&driver, NS, NULL, 0);
    assert_int_equal(count, stored + 1);
    test_driver_close(&driver);
    tn_arena_destroy(arena);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)
    const struct CMUnitTest cases[] = {
        CASE(test_versions),      CASE(test_gathering),     CASE(test_order_in_batch),
        CASE(test_reopening),     CASE(test_run_ids),       CASE(test_words),
        CASE(test_bad_member),    CASE(test_bad_queries),   CASE(test_broad_filter),
        CASE(test_past_deadline), CASE(test_files_refused), CASE(test_settings_refused),
        CASE(test_full_disk),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
