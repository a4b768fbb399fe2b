/* SPDX-License-Identifier: MIT */
/* Rate buckets: burst, refill, priorities, the operators' share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frontend/limits.h"

#define T0 (1000 * TN_SEC)

static size_t take_all(tn_rate_buckets *buckets, tn_rate rate, uint32_t priority, uint64_t now_ns)
{
    size_t n = 0;
    while (n < 100000 && tn_rate_allows(buckets, rate, 0.2, priority, now_ns))
        n++;
    return n;
}

static void gives_a_burst_and_refills(void **state)
{
    tn_rate_buckets buckets = {0};
    const tn_rate rate = {.per_second = 10, .burst = 20};
    (void)state;
    assert_int_equal(take_all(&buckets, rate, 0, T0), 20);
    assert_int_equal(take_all(&buckets, rate, 0, T0 + TN_SEC / 20), 0); /* half a call's time */
    assert_int_equal(take_all(&buckets, rate, 0, T0 + TN_SEC), 10);
    assert_int_equal(take_all(&buckets, rate, 0, T0 + 100 * TN_SEC), 20);
}

static void no_rate_is_no_limit(void **state)
{
    tn_rate_buckets buckets = {0};
    (void)state;
    assert_int_equal(take_all(&buckets, (tn_rate){0, 0}, 0, T0), 100000);
    assert_int_equal(take_all(&buckets, (tn_rate){-1, -1}, 5, T0), 100000);
}

static void a_burst_below_one_lets_one_through(void **state)
{
    tn_rate_buckets buckets = {0};
    const tn_rate rate = {.per_second = 1, .burst = 0.5};
    (void)state;
    assert_int_equal(take_all(&buckets, rate, 0, T0), 1);
    assert_int_equal(take_all(&buckets, rate, 0, T0 + TN_SEC), 1);
}

static void the_urgent_go_first(void **state)
{
    tn_rate_buckets buckets = {0};
    const tn_rate rate = {.per_second = 10, .burst = 10};
    (void)state;
    /* What lower priorities use up is not taken from the higher. */
    assert_int_equal(take_all(&buckets, rate, 5, T0), 10);
    assert_int_equal(take_all(&buckets, rate, 1, T0), 10);
    assert_int_equal(take_all(&buckets, rate, 0, T0), 10);
    /* What the higher use up, is. */
    tn_rate_buckets fresh = {0};
    assert_int_equal(take_all(&fresh, rate, 0, T0), 10);
    for (uint32_t priority = 0; priority < TN_RATE_PRIORITIES; priority++)
        assert_int_equal(take_all(&fresh, rate, priority, T0), 0);
    assert_int_equal(take_all(&fresh, rate, 1000, T0), 0); /* as the last */
}

static void operators_have_a_share(void **state)
{
    tn_rate_buckets buckets = {0};
    const tn_rate rate = {.per_second = 100, .burst = 100};
    (void)state;
    assert_int_equal(take_all(&buckets, rate, 0, T0), 100);
    assert_int_equal(take_all(&buckets, rate, TN_PRIORITY_OPERATOR, T0), 20);
}

static void callers_are_those_of_two_seconds(void **state)
{
    tn_rate_callers callers = {0};
    atomic_uint_fast64_t seen[3] = {0};
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(tn_rate_callers_count(&callers, &seen[0], T0), 1);
    assert_int_equal(tn_rate_callers_count(&callers, &seen[1], T0), 2);
    assert_int_equal(tn_rate_callers_count(&callers, &seen[2], T0), 3);
    assert_int_equal(tn_rate_callers_count(&callers, &seen[0], T0 + TN_SEC), 3);
    assert_int_equal(tn_rate_callers_count(&callers, &seen[0], T0 + 2 * TN_SEC), 1);
    assert_int_equal(tn_rate_callers_count(&callers, &seen[1], T0 + 60 * TN_SEC), 1);
}

/* One that calls without end, beside one that calls as often as its share: the second never waits, and both together
 * get no more than the rate. */
static void the_noisy_does_not_starve_the_others(void **state)
{
    tn_rate_buckets host = {0}, noisy = {0}, calm = {0};
    const tn_rate rate = {.per_second = 100, .burst = 200};
    size_t loud = 0, refused = 0, calls = 0;
    (void)state;
    for (uint64_t ms = 0; ms < 20000; ms++) {
        uint64_t now = T0 + ms * TN_MS;
        while (tn_rate_allows_one_of(&host, &noisy, 2, rate, 0.2, 1, now))
            loud++;
        if (ms % 20 == 0) { /* 50 a second */
            calls++;
            refused += !tn_rate_allows_one_of(&host, &calm, 2, rate, 0.2, 1, now);
        }
    }
    assert_int_equal(calls, 1000);
    assert_int_equal(refused, 0);
    assert_in_range(loud, 990, 1300); /* half the rate for 20 s, and the bursts */
}

static void what_one_leaves_another_gets(void **state)
{
    tn_rate_buckets host = {0}, noisy = {0};
    const tn_rate rate = {.per_second = 100, .burst = 200};
    size_t n = 0;
    (void)state;
    for (uint64_t ms = 0; ms < 10000; ms++)
        while (tn_rate_allows_one_of(&host, &noisy, 4, rate, 0.2, 1, T0 + ms * TN_MS))
            n++;
    assert_in_range(n, 1150, 1250); /* all of it, though four are about */
    assert_true(tn_rate_allows_one_of(&host, &noisy, 4, (tn_rate){0, 0}, 0.2, 1, T0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callers_are_those_of_two_seconds),
        cmocka_unit_test(the_noisy_does_not_starve_the_others),
        cmocka_unit_test(what_one_leaves_another_gets),
        cmocka_unit_test(gives_a_burst_and_refills),
        cmocka_unit_test(no_rate_is_no_limit),
        cmocka_unit_test(a_burst_below_one_lets_one_through),
        cmocka_unit_test(the_urgent_go_first),
        cmocka_unit_test(operators_have_a_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
