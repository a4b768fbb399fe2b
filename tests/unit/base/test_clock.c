/* SPDX-License-Identifier: MIT */
/* Clocks, random numbers, UUIDs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

static uint64_t fixed_wall(void) { return 123; }
static uint64_t fixed_mono(void) { return 456; }

static void clocks_can_be_replaced(void **state)
{
    (void)state;
    uint64_t one = tn_now_mono_ns(), two = tn_now_mono_ns();
    assert_true(two >= one);
    assert_true(tn_now_wall_ns() > UINT64_C(1600000000) * TN_SEC);
    tn_clock_override(fixed_wall, fixed_mono);
    assert_int_equal(tn_now_wall_ns(), 123);
    assert_int_equal(tn_now_mono_ns(), 456);
    tn_clock_override(NULL, NULL);
    assert_true(tn_now_mono_ns() >= two);
}

static void generator_is_repeatable_and_even(void **state)
{
    (void)state;
    tn_rng a, b;
    tn_rng_seed(&a, 5);
    tn_rng_seed(&b, 5);
    size_t counts[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint64_t x = tn_rng_below(&a, 7);
        assert_int_equal(x, tn_rng_below(&b, 7));
        assert_true(x < 7);
        counts[x]++;
    }
    for (size_t i = 0; i < 7; i++)
        assert_in_range(counts[i], 9500, 10500);
    assert_int_equal(tn_rng_below(&a, 0), 0);
    assert_int_equal(tn_rng_below(&a, 1), 0);
    assert_true(tn_rng_below(&a, UINT64_MAX) < UINT64_MAX);
    /* First output of xoshiro256** from the state 1, 2, 3, 4. */
    tn_rng known = {{1, 2, 3, 4}};
    assert_int_equal(tn_rng_next(&known), 11520);
    assert_int_equal(tn_rng_next(&known), 0);
    assert_int_equal(tn_rng_next(&known), 1509978240);
}

static void uuid_text_both_ways(void **state)
{
    (void)state;
    uint8_t id[16], back[16];
    char text[37];
    tn_random_bytes(id, sizeof id);
    tn_uuid_format(id, text);
    assert_int_equal(strlen(text), 36);
    assert_true(tn_uuid_parse(tn_str_from(text), back));
    assert_memory_equal(id, back, 16);
    assert_true(tn_uuid_parse(TN_STR("6BA7B810-9DAD-11D1-80B4-00C04FD430C8"), back));
    assert_int_equal(back[0], 0x6b);
    static const char *const bad[] = {
        "", "6ba7b8109dad11d180b400c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430cg",
        "6ba7b810-9dad-11d1-80b4_00c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8 "};
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++)
        assert_false(tn_uuid_parse(tn_str_from(bad[i]), back));
}

static void uuid_versions(void **state)
{
    (void)state;
    uint8_t dns[16], id[16], later[16];
    char text[37];
    assert_true(tn_uuid_parse(TN_STR("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), dns));
    tn_uuid_v5(dns, tn_blob_of_str(TN_STR("www.example.com")), id);
    tn_uuid_format(id, text);
    assert_string_equal(text, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    char lots[200];
    for (size_t n = 0; n < sizeof lots; n++) { /* every padding case gives another id */
        memset(lots, 'a', sizeof lots);
        tn_uuid_v5(dns, tn_blob_from(lots, n), later);
        assert_memory_not_equal(id, later, 16);
        memcpy(id, later, 16);
    }
    tn_rng rng;
    tn_rng_seed(&rng, 3);
    tn_uuid_v4(&rng, id);
    assert_int_equal(id[6] >> 4, 4);
    assert_int_equal(id[8] >> 6, 2);
    uint64_t at = UINT64_C(1700000000123456789);
    tn_uuid_v7(&rng, at, id);
    tn_uuid_v7(&rng, at + 1000, later);
    assert_int_equal(id[6] >> 4, 7);
    assert_true(memcmp(id, later, 16) < 0);
    assert_int_equal(tn_get_u64be(id) >> 16, at / TN_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_can_be_replaced),
        cmocka_unit_test(generator_is_repeatable_and_even),
        cmocka_unit_test(uuid_text_both_ways),
        cmocka_unit_test(uuid_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
