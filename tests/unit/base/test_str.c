/* SPDX-License-Identifier: MIT */
/* Strings, numbers, durations, times, buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

static void numbers_whole_or_nothing(void **state)
{
    (void)state;
    int64_t i;
    uint64_t u;
    assert_true(tn_parse_i64(TN_STR("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(tn_parse_i64(TN_STR("9223372036854775807"), &i) && i == INT64_MAX);
    assert_true(tn_parse_i64(TN_STR("0"), &i) && i == 0);
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.0",
                                      "0x1",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "99999999999999999999"};
    for (size_t k = 0; k < TN_COUNT_OF(bad); k++)
        assert_false(tn_parse_i64(tn_str_from(bad[k]), &i));
    assert_true(tn_parse_u64(TN_STR("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(tn_parse_u64(TN_STR("18446744073709551616"), &u));
    assert_false(tn_parse_u64(TN_STR("-1"), &u));
}

static void floats_follow_a_grammar(void **state)
{
    (void)state;
    double f;
    assert_true(tn_parse_f64(TN_STR("-1.5e3"), &f) && f == -1500.0);
    assert_true(tn_parse_f64(TN_STR(".5"), &f) && f == 0.5);
    static const char *const bad[] = {"",   ".",     "nan", "inf", "0x1p3",
                                      "1e", "1e999", "1,5", " 1",  "1f"};
    for (size_t k = 0; k < TN_COUNT_OF(bad); k++)
        assert_false(tn_parse_f64(tn_str_from(bad[k]), &f));
}

static void durations_as_in_go(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"0", 0},
        {"5s", 5000000000},
        {"1h30m", 5400000000000},
        {"250ms", 250000000},
        {"1.5s", 1500000000},
        {"-1.5h", -5400000000000},
        {"+5s", 5000000000},
        {".5s", 500000000},
        {"1.s", 1000000000},
        {"10us", 10000},
        {"10\xc2\xb5s", 10000},
        {"7ns", 7},
        {"0.3333333333333333333h", 1200000000000},
        {"9223372036854775807ns", INT64_MAX},
        {"-9223372036854775808ns", INT64_MIN},
        {"100ms200us", 100200000},
    };
    int64_t ns = 0;
    for (size_t k = 0; k < TN_COUNT_OF(good); k++) {
        assert_true(tn_parse_duration_ns(tn_str_from(good[k].text), &ns));
        if (k != 12)
            assert_int_equal(ns, good[k].ns);
        else
            assert_true(ns <= good[k].ns && ns >= good[k].ns - 1);
    }
    static const char *const bad[] = {"",
                                      "-",
                                      "3",
                                      "1d",
                                      "s",
                                      ".s",
                                      "1 s",
                                      "1s ",
                                      "1h-1m",
                                      "--1s",
                                      "9223372036854775808ns",
                                      "99999999999999999999999999h",
                                      "1.5"};
    for (size_t k = 0; k < TN_COUNT_OF(bad); k++)
        assert_false(tn_parse_duration_ns(tn_str_from(bad[k]), &ns));
}

static void rfc3339_both_ways(void **state)
{
    (void)state;
    static const struct {
        const char *text, *back;
        int64_t ns;
    } good[] = {
        {"1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", 0},
        {"2024-02-29T23:59:59.123456789Z", "2024-02-29T23:59:59.123456789Z", 1709251199123456789},
        {"2021-03-04T05:06:07.5+02:00", "2021-03-04T03:06:07.5Z", 1614827167500000000},
        {"1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z", -500000000},
        {"1900-03-01T00:00:00Z", "1900-03-01T00:00:00Z", -2203891200000000000},
        {"2000-12-31T23:59:60Z", NULL, 0},
    };
    tn_arena *a = tn_arena_create(0);
    int64_t ns;
    for (size_t k = 0; k < TN_COUNT_OF(good) - 1; k++) {
        assert_true(tn_parse_rfc3339_ns(tn_str_from(good[k].text), &ns));
        assert_int_equal(ns, good[k].ns);
        assert_string_equal(tn_format_rfc3339_ns(a, ns), good[k].back);
    }
    static const char *const bad[] = {"",
                                      "2021-03-04",
                                      "2021-03-04T05:06:07",
                                      "2021-02-29T00:00:00Z",
                                      "2021-13-01T00:00:00Z",
                                      "2021-00-01T00:00:00Z",
                                      "2021-01-01T24:00:00Z",
                                      "2000-12-31T23:59:60Z",
                                      "2021-01-01T00:00:00.Z",
                                      "2021-01-01T00:00:00Zx",
                                      "2021-01-01 00:00:00Z",
                                      "9999-01-01T00:00:00Z",
                                      "2021-01-01T00:00:00+24:00",
                                      "2021-1-01T00:00:00Z",
                                      "2021-01-01T00:00:00+0100"};
    for (size_t k = 0; k < TN_COUNT_OF(bad); k++)
        assert_false(tn_parse_rfc3339_ns(tn_str_from(bad[k]), &ns));
    tn_rng rng;
    tn_rng_seed(&rng, 42);
    for (int k = 0; k < 2000; k++) {
        int64_t want = (int64_t)tn_rng_next(&rng);
        assert_true(tn_parse_rfc3339_ns(tn_str_from(tn_format_rfc3339_ns(a, want)), &ns));
        assert_int_equal(ns, want);
    }
    tn_arena_destroy(a);
}

static void utf8_strict(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "plain ascii, long enough for words",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xed\x9f\xbf",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\xaf",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "abcdefgh\xc3",
                                      "\xe2\x82",
                                      "\xff",
                                      "\xf0\x8f\xbf\xbf"};
    for (size_t k = 0; k < TN_COUNT_OF(good); k++)
        assert_true(tn_utf8_valid((const uint8_t *)good[k], strlen(good[k])));
    for (size_t k = 0; k < TN_COUNT_OF(bad); k++)
        assert_false(tn_utf8_valid((const uint8_t *)bad[k], strlen(bad[k])));
}

static void compare_and_prefix(void **state)
{
    (void)state;
    assert_true(tn_blob_cmp(tn_blob_of_str(TN_STR("ab")), tn_blob_of_str(TN_STR("abc"))) < 0);
    assert_true(tn_blob_cmp(tn_blob_of_str(TN_STR("b")), tn_blob_of_str(TN_STR("abc"))) > 0);
    assert_true(tn_blob_cmp((tn_blob){0}, (tn_blob){0}) == 0);
    assert_true(tn_str_caseeq(TN_STR("FooBar"), TN_STR("fOObAR")));
    assert_false(tn_str_caseeq(TN_STR("a@"), TN_STR("a`")));
    assert_true(tn_str_starts(TN_STR("abc"), TN_STR("ab")));
    assert_false(tn_str_starts(TN_STR("a"), TN_STR("ab")));
}

static void buffer_grows(void **state)
{
    (void)state;
    tn_buf b = {0};
    for (uint32_t i = 0; i < 1000; i++) {
        tn_buf_put_u32be(&b, i);
        tn_buf_put_u64be(&b, i);
        tn_buf_put_u8(&b, 1);
    }
    assert_int_equal(b.n, 13000);
    assert_int_equal(tn_get_u32be(b.p + 13 * 999), 999);
    assert_int_equal(tn_get_u64be(b.p + 13 * 999 + 4), 999);
    size_t before = b.n;
    tn_buf_printf(&b, "%s=%d", "x", 12);
    assert_memory_equal(b.p + before, "x=12", 4);
    assert_int_equal(b.n, before + 4);
    tn_buf_done(&b);
    assert_null(b.p);
}

static void error_text_is_cut_on_a_border(void **state)
{
    (void)state;
    tn_error err = {0};
    char lots[400];
    for (size_t i = 0; i + 1 < sizeof lots; i += 2)
        memcpy(lots + i, "\xc3\xa9", 2);
    lots[398] = 0;
    assert_int_equal(tn_error_set(&err, TN_EINVALID, "%s", lots), TN_EINVALID);
    assert_int_equal(err.code, TN_EINVALID);
    assert_true(tn_utf8_valid((uint8_t *)err.text, strlen(err.text)));
    assert_true(strlen(err.text) >= 246);
    assert_int_equal(tn_error_set(NULL, TN_EFENCED, "x"), TN_EFENCED);
    assert_string_equal(tn_status_name(TN_EFENCED), "fenced");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_whole_or_nothing),
        cmocka_unit_test(floats_follow_a_grammar),
        cmocka_unit_test(durations_as_in_go),
        cmocka_unit_test(rfc3339_both_ways),
        cmocka_unit_test(utf8_strict),
        cmocka_unit_test(compare_and_prefix),
        cmocka_unit_test(buffer_grows),
        cmocka_unit_test(error_text_is_cut_on_a_border),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
