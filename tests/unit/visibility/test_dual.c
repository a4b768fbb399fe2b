/* SPDX-License-Identifier: MIT */
/* Two visibility stores: who is written and read by the dynamic settings, and pages that go on where they
 * began. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/dynconfig.h"
#include "plugin/plugin.h"
#include "visibility/visibility.h"

#define NS TN_STR("0b7a1e2c-7f64-4d3e-9a55-6f1f0c9d8e01")
#define WRITE "system.secondaryVisibilityWritingMode="
#define READ "system.enableReadFromSecondaryVisibility="

static char folder[] = "/tmp/tenon-dual-XXXXXX";
static tn_config_tree *tree;
static tn_plugin_instance *instances[2];
static tn_arena *arena;

/* ---- the stores ------------------------------------------------------------------------------- */

static void open_stores(void)
{
    char so[PATH_MAX], dir[PATH_MAX];
    tn_error err = {0};
    if (!realpath("plugins/visibility/sqlite.so", so) || !realpath("plugins/visibility", dir))
        fail_msg("plugins/visibility/sqlite.so is not built");
    tn_buf yaml = {0};
    tn_buf_printf(&yaml,
                  "plugins: {dirs: [\"%s\"]}\n"
                  "a: {plugin: \"%s\", path: %s/a.db, linger: 0s}\n"
                  "b: {plugin: \"%s\", path: %s/b.db, linger: 0s}\n",
                  dir, so, folder, so, folder);
    tn_config_problems *problems = tn_config_problems_create();
    assert_int_equal(tn_config_parse("dual.yaml", tn_buf_blob(&yaml), problems, &tree), TN_OK);
    tn_buf_done(&yaml);
    tn_plugin_options options = {.root = tn_config_root(tree), .own_files = true};
    for (int i = 0; i < 2; i++)
        if (tn_plugin_open(&options, TN_KIND_VISIBILITY,
                           tn_config_get(tn_config_root(tree), i ? "b" : "a"), problems,
                           &instances[i]) != TN_OK)
            fail_msg("%s", tn_config_problems_text(problems, 0));
    tn_config_problems_destroy(problems);
    static const uint8_t key[16] = {1};
    assert_int_equal(tn_vis_start(instances[0], key, &err), TN_OK);
    assert_int_equal(tn_vis_start_second(instances[1], &err), TN_OK);
}

static void configure(const char *write, const char *read)
{
    char texts[2][120];
    const char *overrides[2] = {texts[0], texts[1]};
    snprintf(texts[0], sizeof(texts[0]), "%s\"%s\"", WRITE, write);
    snprintf(texts[1], sizeof(texts[1]), "%s%s", READ, read);
    tn_config_problems *problems = tn_config_problems_create();
    tn_dynconfig_stop();
    if (tn_dynconfig_start(&(tn_dynconfig_options){.overrides = overrides, .overrides_count = 2},
                           problems) != TN_OK)
        fail_msg("%s", tn_config_problems_text(problems, 0));
    tn_config_problems_destroy(problems);
}

/* ---- operations ------------------------------------------------------------------------------- */

typedef struct waiting {
    tn_vis_op op;
    void (*verb)(tn_vis_op *op);
    unsigned done;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} waiting;

static void op_done(tn_vis_op *op)
{
    waiting *w = op->user;
    pthread_mutex_lock(&w->lock);
    w->done++;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

static void start(void *arg)
{
    waiting *w = arg;
    w->verb(&w->op);
}

static tn_status run(waiting *w, void (*verb)(tn_vis_op *op))
{
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    w->verb = verb;
    w->op.arena = arena;
    w->op.user = w;
    w->op.done = op_done;
    tn_loop_call(tn_loops_get(0), start, w);
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->wake, &w->lock);
    pthread_mutex_unlock(&w->lock);
    assert_int_equal(w->done, 1);
    return w->op.status;
}

static tn_status put_size(unsigned n, size_t int_bytes)
{
    static const uint8_t number[8] = {0};
    waiting w = {0};
    const tn_attr attr = {.name = TN_STR("CI"), .type = TN_ATTR_INT, .value = {number, int_bytes}};
    w.op.u.put.doc = (tn_vis_doc){
        .struct_size = sizeof(tn_vis_doc),
        .ns_id = NS,
        .workflow_id = tn_str_from(tn_arena_printf(arena, "wf-%u", n)),
        .run_id = tn_str_from(tn_arena_printf(arena, "01990000-0000-7000-8000-%012u", n)),
        .version = 1,
        .attrs = &attr,
        .n_attrs = 1};
    return run(&w, tn_vis_put);
}

static void put(unsigned n) { assert_int_equal(put_size(n, 8), TN_OK); }

static uint64_t count(void)
{
    waiting w = {0};
    w.op.u.list.query = (tn_vis_query){.struct_size = sizeof(tn_vis_query), .ns_id = NS};
    assert_int_equal(run(&w, tn_vis_count), TN_OK);
    return w.op.u.list.page.count;
}

static tn_vis_page list(tn_blob page)
{
    waiting w = {0};
    w.op.u.list.query =
        (tn_vis_query){.struct_size = sizeof(tn_vis_query), .ns_id = NS, .limit = 1, .page = page};
    assert_int_equal(run(&w, tn_vis_list), TN_OK);
    return w.op.u.list.page;
}

/* ---- the tests -------------------------------------------------------------------------------- */

static void counts_are(uint64_t first, uint64_t second)
{
    configure("off", "false");
    assert_int_equal(count(), first);
    configure("off", "true");
    assert_int_equal(count(), second);
}

static void modes_say_who_is_written(void **state)
{
    (void)state;
    counts_are(0, 0);
    configure("off", "true");
    put(1);
    counts_are(1, 0);
    configure("dual", "false");
    put(2);
    put(1); /* the second store gets it now: putting again is how it is filled */
    counts_are(2, 2);
    configure("on", "false");
    put(3);
    counts_are(2, 3);
    configure("dual", "false");
    waiting w = {0};
    w.op.u.put.doc =
        (tn_vis_doc){.ns_id = NS, .run_id = TN_STR("01990000-0000-7000-8000-000000000002")};
    assert_int_equal(run(&w, tn_vis_remove), TN_OK);
    counts_are(1, 2);
}

static void a_failure_is_told_once(void **state)
{
    (void)state;
    configure("dual", "false");
    assert_int_equal(put_size(9, 3), TN_EINVALID);
    counts_are(1, 2);
    const tn_attr attr = {.name = TN_STR("CK"), .type = TN_ATTR_KEYWORD};
    waiting w = {0};
    w.op.u.define.attrs = &attr;
    w.op.u.define.count = 1;
    assert_int_equal(run(&w, tn_vis_define), TN_OK);
}

static void pages_go_on_where_they_began(void **state)
{
    (void)state;
    configure("dual", "false");
    for (unsigned n = 10; n < 20; n++)
        put(n);
    configure("on", "false");
    put(20); /* in the second store only, where it would be the first of a list */
    tn_vis_page page = list((tn_blob){NULL, 0});
    size_t n = page.n_docs;
    assert_true(tn_str_is(page.docs[0].workflow_id, "wf-19"));
    configure("on", "true");
    while (page.next.n) {
        page = list(tn_arena_blob(arena, page.next));
        n += page.n_docs;
        assert_false(tn_str_is(page.docs[0].workflow_id, "wf-20"));
    }
    assert_int_equal(n, 11);
    page = list((tn_blob){NULL, 0});
    assert_true(tn_str_is(page.docs[0].workflow_id, "wf-20"));
    waiting w = {0};
    static const uint8_t odd[] = {7, 'D'};
    w.op.u.list.query = (tn_vis_query){
        .struct_size = sizeof(tn_vis_query), .ns_id = NS, .limit = 1, .page = {odd, sizeof(odd)}};
    assert_int_equal(run(&w, tn_vis_list), TN_EINVALID);
}

static int setup(void **state)
{
    tn_error err = {0};
    (void)state;
    arena = tn_arena_create(0);
    assert_non_null(mkdtemp(folder));
    assert_int_equal(tn_loops_create(1, &err), TN_OK);
    tn_loops_run();
    open_stores();
    return 0;
}

static int teardown(void **state)
{
    char command[80];
    (void)state;
    tn_vis_stop();
    tn_plugin_close(instances[1]);
    tn_plugin_close(instances[0]);
    tn_config_tree_destroy(tree);
    tn_loops_stop();
    tn_loops_destroy();
    tn_dynconfig_stop();
    tn_arena_destroy(arena);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest cases[] = {cmocka_unit_test(modes_say_who_is_written),
                                       cmocka_unit_test(a_failure_is_told_once),
                                       cmocka_unit_test(pages_go_on_where_they_began)};
    tn_log_configure(TN_LOG_NEVER, false);
    return cmocka_run_group_tests(cases, setup, teardown);
}
