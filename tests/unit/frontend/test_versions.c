/* SPDX-License-Identifier: MIT */
/* Semantic versions, their ranges, and who is let in by them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "frontend/priv.h"

static tn_version version(const char *s)
{
    tn_version v;
    if (!tn_version_parse(tn_str_from(s), &v))
        fail_msg("%s is a version", s);
    return v;
}

static void parses_versions(void **state)
{
    static const char *const bad[] = {
        "",       "1",      "1.2",   "1.2.",   "1.2.3.4", "01.2.3",    "1.2.3-",
        "1.2.3+", "v1.2.3", "1.2.x", "1.2.3 ", "-1.2.3",  "1.2.3-a b", "99999999999999999999.0.0"};
    tn_version v;
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++)
        if (tn_version_parse(tn_str_from(bad[i]), &v))
            fail_msg("\"%s\" is no version", bad[i]);
    v = version("1.20.300-rc.1+build.5");
    assert_int_equal(v.part[0], 1);
    assert_int_equal(v.part[1], 20);
    assert_int_equal(v.part[2], 300);
    assert_true(tn_str_is(v.pre, "rc.1"));
}

static void orders_versions(void **state)
{
    static const char *const rising[] = {"0.9.9",       "1.0.0-1",       "1.0.0-2",    "1.0.0-10",
                                         "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0",
                                         "1.0.1",       "1.2.0",         "2.0.0"};
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(rising); i++)
        for (size_t k = 0; k < TN_COUNT_OF(rising); k++) {
            tn_version a = version(rising[i]), b = version(rising[k]);
            int order = tn_version_compare(&a, &b), wanted = i < k ? -1 : i > k;
            if ((order > 0) - (order < 0) != wanted)
                fail_msg("%s against %s: %d", rising[i], rising[k], order);
        }
}

static void knows_ranges(void **state)
{
    static const struct {
        const char *version, *range;
        bool inside;
    } rows[] = {
        {"1.9.0", "<2.0.0", true},
        {"2.0.0", "<2.0.0", false},
        {"2.0.0-rc.1", "<2.0.0", true},
        {"1.5.0", ">=1.0.0 <2.0.0", true},
        {"2.5.0", ">=1.0.0 <2.0.0", false},
        {"2.5.0", ">=1.0.0 <2.0.0 || >2.4.0", true},
        {"1.0.0", "1.0.0", true},
        {"1.0.0", "==1.0.1", false},
        {"1.0.0", "!1.0.1", true},
        {"1.0.0", ">= 1.0.0", true},
        {"1.0.0", "<=0.9.0 || >1.0.0", false},
    };
    static const char *const bad[] = {"",          "||",       "<",        "<2",     "=>1.0.0",
                                      "<2.0.0 ||", "<2.0.0 |", "nonsense", "<2.0.0,"};
    bool inside;
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(rows); i++) {
        tn_version v = version(rows[i].version);
        if (!tn_version_in_range(&v, tn_str_from(rows[i].range), &inside) ||
            inside != rows[i].inside)
            fail_msg("%s in %s", rows[i].version, rows[i].range);
    }
    tn_version one = version("1.0.0");
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++)
        if (tn_version_in_range(&one, tn_str_from(bad[i]), &inside))
            fail_msg("\"%s\" is no range", bad[i]);
}

static void judges_clients(void **state)
{
    static const struct {
        const char *name, *version, *server;
        tn_grpc_code code;
        const char *detail;
    } rows[] = {
        {"temporal-go", "1.50.0", ">=1.0.0 <2.0.0", TN_GRPC_OK, ""},
        {"", "", "nonsense", TN_GRPC_OK, ""},
        {"temporal-go", "", "", TN_GRPC_OK, ""},
        {"temporal-brainfuck", "7.0.0", "", TN_GRPC_OK, ""},
        {"temporal-go", "2.0.0", "", TN_GRPC_FAILED_PRECONDITION,
         "ClientVersionNotSupportedFailure"},
        {"temporal-ui", "2.9.0", "", TN_GRPC_OK, ""},
        {"temporal-go", "one", "", TN_GRPC_INVALID_ARGUMENT, ""},
        {"temporal-go", "1.0.0", ">9.0.0", TN_GRPC_FAILED_PRECONDITION,
         "ServerVersionNotSupportedFailure"},
        {"temporal-go", "1.0.0", "whatever", TN_GRPC_INVALID_ARGUMENT, ""},
    };
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(rows); i++) {
        tn_arena *arena = tn_arena_create(0);
        const tn_fault *fault =
            tn_versions_check(arena, tn_str_from(rows[i].name), tn_str_from(rows[i].version),
                              tn_str_from(rows[i].server));
        assert_int_equal(fault ? fault->code : TN_GRPC_OK, rows[i].code);
        if (*rows[i].detail) {
            tn_str type = fault->detail_type, end = tn_str_from(rows[i].detail);
            assert_true(type.n > end.n && memcmp(type.p + type.n - end.n, end.p, end.n) == 0);
        }
        tn_arena_destroy(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_versions),
        cmocka_unit_test(orders_versions),
        cmocka_unit_test(knows_ranges),
        cmocka_unit_test(judges_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
