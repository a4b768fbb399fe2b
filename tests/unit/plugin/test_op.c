/* SPDX-License-Identifier: MIT */
/* Operations: every way to end one, lawful and not, and the deadline. */
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "metrics/metrics.h"
#include "plugin/plugin.h"

static tn_plugin_instance *inst;
static tn_config_tree *tree;

static int setup(void **state)
{
    (void)state;
    char dir[PATH_MAX], yaml[3 * PATH_MAX];
    const char *build = getenv("TN_BUILDDIR");
    tn_error err;
    tn_log_configure(TN_LOG_NEVER, false);
    if (!realpath(build ? build : ".", dir) || tn_loops_create(2, &err) != TN_OK)
        return -1;
    tn_loops_run();
    snprintf(yaml, sizeof yaml,
             "plugins:\n  dirs: [\"%s\"]\np:\n  plugin: \"%s/tests/unit/plugin/odd.so\"\n", dir,
             dir);
    tn_config_problems *problems = tn_config_problems_create();
    if (tn_config_parse("t.yaml", tn_blob_of_str(tn_str_from(yaml)), problems, &tree) != TN_OK)
        return -1;
    tn_plugin_options options = {.root = tn_config_root(tree), .own_files = true};
    tn_status status = tn_plugin_open(&options, TN_KIND_AUTHORIZER,
                                      tn_config_get(tn_config_root(tree), "p"), problems, &inst);
    if (status != TN_OK)
        tn_config_problems_print(problems);
    tn_config_problems_destroy(problems);
    if (status != TN_OK)
        return -1;
    setenv("TN_ODD", "attach-fails", 1);
    if (tn_plugin_attach(inst, &err) != TN_EUNAVAILABLE || !strstr(err.text, "attach"))
        return -1;
    setenv("TN_ODD", "", 1);
    return tn_plugin_attach(inst, &err) == TN_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    tn_plugin_detach(inst, 5 * TN_SEC);
    tn_plugin_close(inst);
    tn_config_tree_destroy(tree);
    tn_loops_stop();
    tn_loops_destroy();
    return 0;
}

/* ---- one question, asked from loop 0 ------------------------------------------------------------ */

typedef struct question {
    uint64_t timeout_ns;
    uint32_t flags;
    /* answer */
    tn_status returned, status;
    bool late;
    char text[248];
    uint32_t verdict;
    int answers;
    tn_decision *decision;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} question;

static void answered(question *q, tn_plugin_call *call)
{
    pthread_mutex_lock(&q->lock);
    q->status = call->status;
    q->late = call->late;
    snprintf(q->text, sizeof q->text, "%s", call->err.text);
    q->verdict = call->late ? 0 : q->decision->verdict;
    q->answers++;
    tn_plugin_call_end(call);
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
}

static void done(tn_plugin_call *call) { answered(call->user, call); }

static void ask_here(void *arg)
{
    question *q = arg;
    const tn_authorizer_ops *ops = tn_plugin_ops(inst);
    tn_plugin_call *call = tn_plugin_call_begin(inst, q->flags, q->timeout_ns, done, q);
    tn_claims *claims = TN_NEW(call->arena, tn_claims);
    tn_call_target *target = TN_NEW(call->arena, tn_call_target);
    q->decision = TN_NEW(call->arena, tn_decision);
    uint64_t entered = tn_plugin_enter();
    tn_status status = ops->authorize(tn_plugin_ctx(inst), call->op, claims, target, q->decision);
    tn_plugin_left(inst, "authorize", entered);
    q->returned = tn_plugin_call_returned(call, status);
    if (q->returned != TN_PENDING)
        answered(q, call);
}

static question ask(const char *odd, uint32_t flags, uint64_t timeout_ns)
{
    question q = {.flags = flags,
                  .timeout_ns = timeout_ns,
                  .lock = PTHREAD_MUTEX_INITIALIZER,
                  .wake = PTHREAD_COND_INITIALIZER};
    setenv("TN_ODD", odd, 1);
    tn_loop_call(tn_loops_get(0), ask_here, &q);
    pthread_mutex_lock(&q.lock);
    while (!q.answers)
        pthread_cond_wait(&q.wake, &q.lock);
    pthread_mutex_unlock(&q.lock);
    return q;
}

static tn_plugin_stats stats(void)
{
    tn_plugin_stats s;
    tn_plugin_stats_get(inst, &s);
    return s;
}

/* Waits until what the plugin's threads still do has arrived. */
static void settle(bool (*reached)(const tn_plugin_stats *, uint64_t), uint64_t want)
{
    for (int i = 0; i < 5000; i++) {
        tn_plugin_stats s = stats();
        if (reached(&s, want))
            return;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    fail_msg("never reached %llu", (unsigned long long)want);
}
static bool violations_reached(const tn_plugin_stats *s, uint64_t want)
{
    return s->violations >= want;
}
static bool in_flight_is(const tn_plugin_stats *s, uint64_t want) { return s->in_flight == want; }

/* ---- lawful ------------------------------------------------------------------------------------- */

static void answers_at_once(void **state)
{
    (void)state;
    question q = ask("", 0, TN_SEC);
    assert_int_equal(q.returned, TN_OK);
    assert_int_equal(q.verdict, TN_ALLOW);
    assert_int_equal(stats().in_flight, 0);
    q = ask("error", 0, TN_SEC);
    assert_int_equal(q.returned, TN_EINTERNAL);
    assert_string_equal(q.text, "no mood today");
}

static void answers_later(void **state)
{
    (void)state;
    question q = ask("later", 0, TN_SEC);
    assert_int_equal(q.returned, TN_PENDING);
    assert_int_equal(q.status, TN_OK);
    assert_int_equal(q.verdict, TN_ALLOW);
    assert_false(q.late);
    q = ask("finish-error", 0, TN_SEC);
    assert_int_equal(q.status, TN_EDENIED);
    assert_string_equal(q.text, "from a thread");
    q = ask("inside", 0, TN_SEC);
    assert_int_equal(q.returned, TN_PENDING);
    assert_int_equal(q.status, TN_OK);
    assert_int_equal(stats().violations, 0);
}

static void memory_is_bounded(void **state)
{
    (void)state;
    question q = ask("memory", 0, TN_SEC);
    assert_int_equal(q.verdict, TN_ALLOW);
    assert_int_equal(stats().in_flight, 0);
}

static void long_holds_are_counted(void **state)
{
    (void)state;
    uint64_t before = stats().holds;
    ask("hold", 0, TN_SEC);
    assert_int_equal(stats().holds, before + 1);
}

static void time_is_accounted_for_by_function(void **state)
{
    (void)state;
    tn_label labels[] = {TN_LABEL_Z("kind", "authorizer"),
                         TN_LABEL_Z("plugin", tn_plugin_name(inst)),
                         TN_LABEL_Z("function", "authorize")};
    tn_histogram *seconds =
        tn_metrics_histogram("tenon_plugin_function_seconds", "", TN_BUCKETS_CALLS, labels, 3);
    uint64_t before = tn_histogram_count(seconds);
    assert_true(before > 0);
    for (int i = 0; i < 3; i++)
        ask("", 0, TN_SEC);
    assert_int_equal(tn_histogram_count(seconds), before + 3);
    labels[2].value = TN_STR("attach");
    seconds =
        tn_metrics_histogram("tenon_plugin_function_seconds", "", TN_BUCKETS_CALLS, labels, 3);
    assert_true(tn_histogram_count(seconds) >= tn_loops_count());
}

/* ---- unlawful ----------------------------------------------------------------------------------- */

static void finishing_twice_is_caught(void **state)
{
    (void)state;
    uint64_t before = stats().violations;
    question q = ask("twice", 0, TN_SEC);
    assert_int_equal(q.status, TN_OK);
    settle(violations_reached, before + 2);
    assert_int_equal(q.answers, 1);
    assert_int_equal(stats().violations, before + 2);
}

static void finishing_and_returning_is_caught(void **state)
{
    (void)state;
    uint64_t before = stats().violations;
    question q = ask("both", 0, TN_SEC);
    assert_int_equal(q.returned, TN_OK);
    assert_int_equal(q.verdict, TN_ALLOW);
    settle(in_flight_is, 0);
    assert_int_equal(q.answers, 1);
    assert_int_equal(stats().violations, before + 1);
}

static void stale_tokens_are_caught(void **state)
{
    (void)state;
    ask("", 0, TN_SEC);
    uint64_t before = stats().violations;
    question q = ask("stale", 0, TN_SEC);
    assert_int_equal(q.returned, TN_OK); /* op_alloc on the old one gave nothing */
    assert_int_equal(q.verdict, TN_ALLOW);
    assert_int_equal(stats().violations, before + 2);
}

static void nonsense_statuses_become_errors(void **state)
{
    (void)state;
    question q = ask("nonsense", 0, TN_SEC);
    assert_int_equal(q.returned, TN_EINTERNAL);
    q = ask("finish-nonsense", 0, TN_SEC);
    assert_int_equal(q.status, TN_EINTERNAL);
}

/* ---- deadlines ---------------------------------------------------------------------------------- */

static void deadlines_answer_and_keep_the_memory(void **state)
{
    (void)state;
    tn_plugin_stats before = stats();
    uint64_t began = tn_now_mono_ns();
    question q = ask("too-late", 0, 30 * TN_MS);
    uint64_t took = tn_now_mono_ns() - began;
    assert_true(took >= 30 * TN_MS && took < 250 * TN_MS);
    assert_true(q.late);
    assert_int_equal(q.status, TN_EUNAVAILABLE);
    assert_int_equal(stats().late, before.late + 1);
    assert_int_equal(stats().stuck, 1);
    assert_int_equal(stats().in_flight, 1);
    settle(in_flight_is, 0); /* the plugin wrote its verdict into memory that was still there */
    assert_int_equal(stats().stuck, 0);
    assert_int_equal(q.answers, 1);
    assert_int_equal(stats().violations, before.violations);
    q = ask("too-late", TN_PLUGIN_WRITE, 30 * TN_MS);
    assert_int_equal(q.status, TN_EUNCERTAIN);
    settle(in_flight_is, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_at_once),
        cmocka_unit_test(answers_later),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(long_holds_are_counted),
        cmocka_unit_test(time_is_accounted_for_by_function),
        cmocka_unit_test(finishing_twice_is_caught),
        cmocka_unit_test(finishing_and_returning_is_caught),
        cmocka_unit_test(stale_tokens_are_caught),
        cmocka_unit_test(nonsense_statuses_become_errors),
        cmocka_unit_test(deadlines_answer_and_keep_the_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
