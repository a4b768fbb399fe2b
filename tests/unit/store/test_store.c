/* SPDX-License-Identifier: MIT */
/* Keys and batches, what happens when their memory ends, groups of one loop iteration, answers that come
 * from the loop and never from inside the call.  The driver is sqlite in memory; tests/plugin has the
 * contract itself. */
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "metrics/metrics.h"
#include "plugin/plugin.h"
#include "store/store.h"

static tn_config_tree *tree;
static tn_plugin_instance *inst;

static char rate_file[] = "/tmp/tenon-test-rate.XXXXXX";

static int setup_with(const char *driver)
{
    char real[PATH_MAX];
    const char *given = getenv("TN_BUILDDIR");
    tn_error err = {0};
    tn_buf yaml = {0};
    tn_log_configure(TN_LOG_NEVER, false);
    if (!realpath(given ? given : ".", real) || tn_loops_create(2, &err) != TN_OK)
        return -1;
    tn_loops_run();
    tn_buf_printf(&yaml,
                  "plugins:\n  dirs: [\"%s\"]\np:\n  plugin: \"%s/%s\"\n"
                  "  path: \":memory:\"\n",
                  real, real, driver);
    if (strstr(driver, "faulty"))
        tn_buf_printf(&yaml,
                      "  inner: \"%s/plugins/persistence/sqlite.so\"\n  rateFile: \"%s\"\n  seed: "
                      "7\n  lateMs: 100\n",
                      real, rate_file);
    tn_config_problems *problems = tn_config_problems_create();
    if (tn_config_parse("t.yaml", tn_buf_blob(&yaml), problems, &tree) != TN_OK)
        return -1;
    tn_buf_done(&yaml);
    tn_plugin_options options = {.root = tn_config_root(tree), .own_files = true};
    tn_status status = tn_plugin_open(&options, TN_KIND_PERSISTENCE,
                                      tn_config_get(tn_config_root(tree), "p"), problems, &inst);
    tn_config_problems_print(problems);
    tn_config_problems_destroy(problems);
    return status == TN_OK && tn_store_start(inst, &err) == TN_OK ? 0 : -1;
}

static int setup(void **state)
{
    (void)state;
    return setup_with("plugins/persistence/sqlite.so");
}

/* A driver that fails 200 of 1,000 requests. */
static int setup_faulty(void **state)
{
    (void)state;
    int fd = mkstemp(rate_file);
    if (fd < 0 || write(fd, "200\n", 4) != 4 || close(fd) != 0)
        return -1;
    return setup_with("tests/plugin/persistence/faulty.so");
}

static int teardown(void **state)
{
    (void)state;
    tn_store_stop();
    tn_plugin_close(inst);
    tn_config_tree_destroy(tree);
    tn_loops_stop();
    tn_loops_destroy();
    return 0;
}

static void rows_are_ordered_as_their_numbers(void **state)
{
    (void)state;
    tn_arena *a = tn_arena_create(0);
    static const uint8_t run[16] = {9, 8, 7};
    assert_true(tn_blob_cmp(tn_store_row_wake(a, 255, run), tn_store_row_wake(a, 256, run)) < 0);
    assert_true(tn_blob_cmp(tn_store_row_u64(a, 1), tn_store_row_u64(a, UINT64_C(1) << 40)) < 0);
    assert_true(tn_blob_cmp(tn_store_row_record(a, run, 5, 9), tn_store_row_record(a, run, 6, 1)) <
                0);
    assert_true(tn_blob_cmp(tn_store_row_record(a, run, 5, 9), tn_store_row_record(a, run, 5, 10)) <
                0);
    tn_blob current =
        tn_store_row_current(a, TN_STR("00112233-4455-6677-8899-aabbccddeeff"), TN_STR("wf"));
    assert_int_equal(current.n, 18);
    assert_int_equal(current.p[0], 0);
    assert_int_equal(current.p[15], 0xff);
    assert_memory_equal(current.p + 16, "wf", 2);
    tn_key key = tn_store_key(a, TN_TABLE_SHARD, 258, (tn_blob){0});
    assert_int_equal(key.partition.n, 4);
    assert_memory_equal(key.partition.p, "\0\0\1\2", 4);
    tn_arena_destroy(a);
}

static void a_full_arena_spoils_the_request_only(void **state)
{
    (void)state;
    tn_arena *a = tn_arena_create(0), *small = tn_arena_create(64);
    while (tn_arena_alloc(small, 16))
        ;
    static const uint8_t run[16];
    tn_error err = {0};
    tn_row row;
    /* a key without its bytes must not become another key */
    tn_key key = tn_store_key(small, TN_TABLE_SHARD, 1, (tn_blob){0});
    assert_int_equal(tn_store_get_sync(a, key, &row, &err), TN_ETOOLARGE);
    key = tn_store_key(a, TN_TABLE_RECORD, 1, tn_store_row_run(small, run));
    assert_int_equal(tn_store_get_sync(a, key, &row, &err), TN_ETOOLARGE);
    tn_store_batch batch;
    tn_store_batch_init(&batch, a);
    tn_store_batch_delete(&batch, key);
    tn_batch b = tn_store_batch_finish(&batch);
    assert_int_equal(tn_store_commit_sync(a, &b, NULL, &err), TN_ETOOLARGE);
    /* a batch that lost a mutation must not be committed without it */
    tn_store_batch_init(&batch, small);
    key = tn_store_key(a, TN_TABLE_META, 1, tn_blob_of_str(TN_STR("x")));
    tn_store_batch_put(&batch, key, tn_blob_of_str(TN_STR("v")));
    tn_store_batch_put(&batch, key, tn_blob_of_str(TN_STR("w")));
    b = tn_store_batch_finish(&batch);
    assert_int_equal(tn_store_commit_sync(a, &b, NULL, &err), TN_ETOOLARGE);
    assert_int_equal(tn_store_get_sync(a, key, &row, &err), TN_ENOTFOUND);
    tn_arena_destroy(small);
    tn_arena_destroy(a);
}

/* ---- one iteration, one group ------------------------------------------------------------------- */

#define MANY 600
static tn_store_op ops[MANY];
static int done_count;
static bool inside;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

static void note(tn_store_op *op)
{
    assert_false(inside); /* not from inside the call that asked */
    assert_int_equal(op->status, TN_OK);
    pthread_mutex_lock(&lock);
    done_count++;
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
}

static void wait_done(int want)
{
    pthread_mutex_lock(&lock);
    while (done_count < want)
        pthread_cond_wait(&wake, &lock);
    pthread_mutex_unlock(&lock);
}

static void submit_many(void *arg)
{
    tn_arena *a = arg;
    inside = true;
    for (int i = 0; i < MANY; i++) {
        tn_store_batch batch;
        tn_store_batch_init(&batch, a);
        tn_store_batch_put(&batch,
                           tn_store_key(a, TN_TABLE_META, 1, tn_store_row_u64(a, (uint64_t)i)),
                           tn_blob_of_str(TN_STR("v")));
        ops[i] = (tn_store_op){.arena = a, .done = note};
        ops[i].u.commit.batch = tn_store_batch_finish(&batch);
        tn_store_commit(&ops[i]);
    }
    inside = false;
}

static void commits_of_an_iteration_leave_together(void **state)
{
    (void)state;
    tn_counter *groups = tn_metrics_counter("tenon_store_groups", "", NULL, 0);
    tn_arena *a = tn_arena_create(0);
    uint64_t before = tn_counter_value(groups);
    done_count = 0;
    tn_loop_call(tn_loops_get(1), submit_many, a);
    wait_done(MANY);
    assert_int_equal(tn_counter_value(groups) - before, 3); /* 256 members at most */
    for (int i = 1; i < MANY; i++)
        assert_true(ops[i].u.commit.commit.version > ops[i - 1].u.commit.commit.version);
    tn_range range = {.struct_size = sizeof range,
                      .from = tn_store_key(a, TN_TABLE_META, 1, (tn_blob){0}),
                      .limit = 10000};
    tn_page page;
    assert_int_equal(tn_store_scan_sync(a, &range, &page, NULL), TN_OK);
    assert_int_equal(page.n_rows, MANY);
    tn_arena_destroy(a);
}

/* A chain of reads that are each answered at once must not deepen the stack. */
#define CHAIN 200000
static int chain_left;

static void chain(tn_store_op *op)
{
    assert_false(inside);
    if (--chain_left == 0) {
        note(op);
        return;
    }
    inside = true;
    tn_arena_reset(op->arena);
    op->u.get.key = tn_store_key(op->arena, TN_TABLE_META, 1, tn_store_row_u64(op->arena, 3));
    tn_store_get(op);
    inside = false;
}

static void start_chain(void *arg)
{
    tn_store_op *op = arg;
    op->u.get.key = tn_store_key(op->arena, TN_TABLE_META, 1, tn_store_row_u64(op->arena, 3));
    tn_store_get(op);
}

static void answers_do_not_nest(void **state)
{
    (void)state;
    tn_store_op op = {.arena = tn_arena_create(0), .done = chain};
    chain_left = CHAIN;
    done_count = 0;
    tn_loop_call(tn_loops_get(0), start_chain, &op);
    wait_done(1);
    tn_arena_destroy(op.arena);
}

/* ---- faults that pass --------------------------------------------------------------------------- */

/* What was surely not done is asked again before anyone is told; what is uncertain is told at once. */
static void passing_faults_are_not_told(void **state)
{
    (void)state;
    tn_arena *a = tn_arena_create(0);
    tn_key key = tn_store_key(a, TN_TABLE_META, 1, tn_blob_of_str(TN_STR("x")));
    tn_error err = {0};
    tn_row row;
    int uncertain = 0;
    for (int i = 0; i < 100; i++)
        assert_int_equal(tn_store_get_sync(a, key, &row, &err), TN_ENOTFOUND);
    for (int i = 0; i < 60; i++) {
        tn_store_batch batch;
        tn_store_batch_init(&batch, a);
        tn_store_batch_put(&batch, key, tn_blob_of_str(TN_STR("v")));
        tn_batch b = tn_store_batch_finish(&batch);
        tn_status status = tn_store_commit_sync(a, &b, NULL, &err);
        assert_true(status == TN_OK || status == TN_EUNCERTAIN);
        uncertain += status == TN_EUNCERTAIN;
    }
    assert_true(uncertain > 0); /* the driver does fail */
    tn_arena_destroy(a);
}

static int teardown_faulty(void **state)
{
    unlink(rate_file);
    return teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_ordered_as_their_numbers),
        cmocka_unit_test(a_full_arena_spoils_the_request_only),
        cmocka_unit_test(commits_of_an_iteration_leave_together),
        cmocka_unit_test(answers_do_not_nest),
    };
    const struct CMUnitTest faulty[] = {cmocka_unit_test(passing_faults_are_not_told)};
    int bad = cmocka_run_group_tests(faulty, setup_faulty, teardown_faulty);
    return bad + cmocka_run_group_tests(tests, setup, teardown);
}
