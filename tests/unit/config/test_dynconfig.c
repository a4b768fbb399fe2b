/* SPDX-License-Identifier: MIT */
/* Dynamic config: types, precedence, warnings, overrides, reading again, readers during changes. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/dynconfig.h"

#define NONE ((tn_str){0})

static size_t apply(const char *text)
{
    size_t warnings = 99;
    tn_config_problems *problems = tn_config_problems_create();
    tn_status status =
        tn_dynconfig_apply("d.yaml", tn_blob_of_str(tn_str_from(text)), problems, &warnings);
    if (status != TN_OK)
        fail_msg("%s", tn_config_problems_text(problems, 0));
    tn_config_problems_destroy(problems);
    return warnings;
}

static int quiet(void **state)
{
    (void)state;
    tn_log_configure(TN_LOG_NEVER, false);
    return 0;
}

static int reset(void **state)
{
    (void)state;
    tn_dynconfig_stop();
    return 0;
}

static void defaults_hold_without_a_file(void **state)
{
    (void)state;
    assert_int_equal(tn_dyn_i64(TN_DYN_LIMIT_BLOB_SIZE_ERROR, TN_STR("ns"), NONE), 2 * 1024 * 1024);
    assert_int_equal(tn_dyn_i64(TN_DYN_MATCHING_LONG_POLL, NONE, NONE), 60 * TN_DYN_SEC);
    assert_true(tn_dyn_bool(TN_DYN_SYSTEM_EAGER_START, NONE, NONE));
    assert_true(tn_dyn_f64(TN_DYN_SYSTEM_OPERATOR_RPS_RATIO, NONE, NONE) == 0.2);
    assert_string_equal(tn_dyn_key_name(TN_DYN_FRONTEND_RPS), "frontend.rps");
}

static void modes(void **state)
{
    (void)state;
    static const char key[] = "system.secondaryVisibilityWritingMode";
    static const struct {
        const char *value;
        int64_t want;
        size_t warnings;
    } tries[] = {{"off", TN_DYN_OFF, 0},   {"on", TN_DYN_ON, 0},    {"\"dual\"", TN_DYN_DUAL, 0},
                 {"Dual", TN_DYN_DUAL, 0}, {"both", TN_DYN_OFF, 1}, {"1", TN_DYN_OFF, 1}};
    for (size_t i = 0; i < TN_COUNT_OF(tries); i++) {
        char text[120];
        snprintf(text, sizeof text, "%s: [{value: %s}]\n", key, tries[i].value);
        assert_int_equal(apply(text), tries[i].warnings);
        assert_int_equal(tn_dyn_i64(TN_DYN_SYSTEM_SECOND_VISIBILITY_WRITE, NONE, NONE),
                         tries[i].want);
    }
}

static void values_of_every_type(void **state)
{
    (void)state;
    assert_int_equal(apply("Frontend.RPS:\n- value: 7\n"
                           "system.operatorRPSRatio: [{value: 1}]\n"
                           "system.disallowQuery: [{value: true}]\n"
                           "history.longPollExpirationInterval: [{value: 90s}]\n"
                           "frontend.keepAliveTime: [{value: 3}]\n"
                           "frontend.keepAliveTimeout: [{value: \"2.5\"}]\n"
                           "history.requestIDMaxAge: [{value: 1.5d}]\n"
                           "matching.rps:\n"),
                     3); /* that nobody reads three of them, so far */
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_RPS, NONE, NONE), 7);
    assert_true(tn_dyn_f64(TN_DYN_SYSTEM_OPERATOR_RPS_RATIO, NONE, NONE) == 1.0);
    assert_true(tn_dyn_bool(TN_DYN_SYSTEM_DISALLOW_QUERY, NONE, NONE));
    assert_int_equal(tn_dyn_i64(TN_DYN_HISTORY_LONG_POLL, NONE, NONE), 90 * TN_DYN_SEC);
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_KEEPALIVE_TIME, NONE, NONE), 3 * TN_DYN_SEC);
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_KEEPALIVE_TIMEOUT, NONE, NONE), 2500 * TN_DYN_MS);
    assert_int_equal(tn_dyn_i64(TN_DYN_HISTORY_REQUEST_ID_AGE, NONE, NONE), 36 * TN_DYN_HOUR);
    assert_int_equal(tn_dyn_i64(TN_DYN_MATCHING_RPS, NONE, NONE), 0);
}

static void the_most_specific_entry_wins(void **state)
{
    (void)state;
    assert_int_equal(
        apply("matching.longPollExpirationInterval:\n"
              "- {value: 1}\n"
              "- {value: 2, constraints: {namespace: n}}\n"
              "- {value: 3, constraints: {TASKQUEUENAME: q}}\n"
              "- {value: 4, constraints: {Namespace: n, taskQueueName: q}}\n"
              "- {value: 5, constraints: {namespace: n, taskQueueName: q, taskType: activity}}\n"
              "- {value: 6, constraints: {namespace: n, taskQueueName: q, taskType: 2}}\n"
              "- {value: 7}\n"),
        0);
    static const struct {
        const char *ns, *queue;
        int32_t type;
        int64_t want;
    } cases[] = {{"", "", 0, 1},   {"x", "", 0, 1},  {"n", "", 0, 2},  {"n", "r", 0, 2},
                 {"x", "q", 1, 3}, {"n", "q", 0, 4}, {"n", "q", 1, 4}, {"n", "q", 2, 5}};
    for (size_t i = 0; i < TN_COUNT_OF(cases); i++)
        assert_int_equal(tn_dyn_task_i64(TN_DYN_MATCHING_LONG_POLL, tn_str_from(cases[i].ns),
                                         tn_str_from(cases[i].queue), cases[i].type),
                         cases[i].want * TN_DYN_SEC);
}

static void what_is_wrong_is_skipped_with_a_warning(void **state)
{
    (void)state;
    assert_int_equal(
        apply("frontend.rps: [{value: \"7\"}]\n"
              "frontend.namespaceRPS: [{value: 1.5}, {value: 8, constraints: {taskQueueName: q}},"
              " {value: 9, constraints: {namespace: n}}]\n"
              "system.disallowQuery: 5\n"
              "frontend.keepAliveTime: [{value: -1s}]\n"
              "matching.syncMatchWaitDuration: [{value: 1, constraints: {namespace: n, taskType: "
              "1}}, {constraints: {}}]\n"
              "matching.rps: [{value: 1, constraints: {namespace: n}}]\n"
              "frontend.rsp: [{value: 1}]\n"
              "history.cacheTTL: [{value: 1h}]\n"),
        12); /* two of them since nobody reads the key */
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_RPS, NONE, NONE), 2400);
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_NAMESPACE_RPS, NONE, NONE), 2400);
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_NAMESPACE_RPS, TN_STR("n"), NONE), 9);
    assert_int_equal(tn_dyn_i64(TN_DYN_MATCHING_RPS, TN_STR("n"), NONE), 0);
    assert_int_equal(apply("[]\n"), 1);
}

static void overrides_win_and_are_checked(void **state)
{
    (void)state;
    const char *const good[] = {"frontend.RPS=5", "system.disallowQuery=true",
                                "frontend.keepAliveTime=\"4s\"", "history.cacheTTL=\"1h\""};
    tn_dynconfig_options o = {.overrides = good, .overrides_count = TN_COUNT_OF(good)};
    tn_config_problems *problems = tn_config_problems_create();
    assert_int_equal(tn_dynconfig_start(&o, problems), TN_OK);
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_RPS, NONE, NONE), 5);
    assert_true(tn_dyn_bool(TN_DYN_SYSTEM_DISALLOW_QUERY, TN_STR("n"), NONE));
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_KEEPALIVE_TIME, NONE, NONE), 4 * TN_DYN_SEC);
    const char *const bad[] = {"frontend.rps", "frontend.rps=x", "frontend.rsp=1", "frontend.rps=[",
                               "matching.rps=\"1\""};
    o = (tn_dynconfig_options){.overrides = bad, .overrides_count = TN_COUNT_OF(bad)};
    assert_int_equal(tn_dynconfig_start(&o, problems), TN_EINVALID);
    assert_int_equal(tn_config_problems_count(problems), TN_COUNT_OF(bad));
    assert_string_equal(
        tn_config_problems_text(problems, 2),
        "--dynamic-config-value frontend.rsp=1: unknown key (did you mean \"frontend.rps\"?)");
    o = (tn_dynconfig_options){.path = "/nonexistent.yaml"};
    assert_int_equal(tn_dynconfig_start(&o, problems), TN_ENOTFOUND);
    tn_config_problems_destroy(problems);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Looks until the value is there; the test hangs on to its own time-out otherwise. */
static void expect_rps(int64_t want)
{
    for (int i = 0; i < 1000 && tn_dyn_i64(TN_DYN_FRONTEND_RPS, NONE, NONE) != want; i++) {
        tn_loop_call(tn_loops_get(0), tn_dynconfig_look_now, NULL);
        usleep(5000);
    }
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_RPS, NONE, NONE), want);
}

static void the_file_is_read_again(void **state)
{
    (void)state;
    char path[] = "/tmp/tn_dyn_XXXXXX";
    close(mkstemp(path));
    write_file(path, "frontend.rps: [{value: 1}]\n");
    tn_error err;
    tn_config_problems *problems = tn_config_problems_create();
    tn_dynconfig_options o = {.path = path};
    assert_int_equal(tn_dynconfig_start(&o, problems), TN_OK);
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_RPS, NONE, NONE), 1);
    assert_int_equal(tn_loops_create(1, &err), TN_OK);
    tn_loops_run();
    tn_loop_call(tn_loops_get(0), tn_dynconfig_watch, NULL);
    write_file(path, "frontend.rps: [{value: 22}]\n");
    expect_rps(22);
    write_file(path, "frontend.rps: [{value: 333}\n"); /* broken: stays */
    tn_loop_call(tn_loops_get(0), tn_dynconfig_look_now, NULL);
    unlink(path); /* gone: stays */
    tn_loop_call(tn_loops_get(0), tn_dynconfig_look_now, NULL);
    assert_int_equal(tn_dyn_i64(TN_DYN_FRONTEND_RPS, NONE, NONE), 22);
    write_file(path, "frontend.rps: [{value: 4444}]\n");
    expect_rps(4444);
    tn_loop_call(tn_loops_get(0), tn_dynconfig_unwatch, NULL);
    tn_loops_destroy();
    unlink(path);
    tn_config_problems_destroy(problems);
}

static atomic_bool readers_end;
static void *reader_main(void *arg)
{
    (void)arg;
    uintptr_t odd = 0;
    while (!readers_end) {
        int64_t v = tn_dyn_i64(TN_DYN_FRONTEND_NAMESPACE_RPS, TN_STR("n"), NONE);
        odd += v != 2400 && v != 9;
    }
    return (void *)odd;
}

static void readers_see_old_or_new(void **state)
{
    (void)state;
    pthread_t t;
    readers_end = false;
    assert_int_equal(pthread_create(&t, NULL, reader_main, NULL), 0);
    for (int i = 0; i < 50; i++) {
        apply(i % 2 ? "{}" : "frontend.namespaceRPS: [{value: 9, constraints: {namespace: n}}]");
        usleep(1000); /* as in life, tables change more slowly than a lookup takes */
    }
    readers_end = true;
    void *odd;
    pthread_join(t, &odd);
    assert_null(odd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(defaults_hold_without_a_file, reset),
        cmocka_unit_test_teardown(modes, reset),
        cmocka_unit_test_teardown(values_of_every_type, reset),
        cmocka_unit_test_teardown(the_most_specific_entry_wins, reset),
        cmocka_unit_test_teardown(what_is_wrong_is_skipped_with_a_warning, reset),
        cmocka_unit_test_teardown(overrides_win_and_are_checked, reset),
        cmocka_unit_test_teardown(the_file_is_read_again, reset),
        cmocka_unit_test_teardown(readers_see_old_or_new, reset),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
