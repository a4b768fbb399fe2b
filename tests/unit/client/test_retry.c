/* SPDX-License-Identifier: MIT */
/* Waits between tries: their order, their end, chance, and the budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/retry.h"

static void later_and_rarer(void **state)
{
    (void)state;
    tn_retry_budget budget = {0};
    uint64_t now = 5 * TN_SEC, sum = 0;
    for (uint32_t i = 0; i < TN_RETRY_TRIES_MAX; i++) {
        uint64_t mean = (20 * TN_MS) << (i < 2 ? i : i < 24 ? 2 : 6);
        uint64_t least = tn_retry_wait_ns(&budget, i, now, 0),
                 most = tn_retry_wait_ns(&budget, i, now, mean / 2 - 1);
        assert_true(least == mean - mean / 4 && most > mean && most <= mean + mean / 4);
        sum += mean;
        now += most;
    }
    assert_true(sum > 10 * TN_SEC && sum < 20 * TN_SEC);
    assert_int_equal(tn_retry_wait_ns(&budget, TN_RETRY_TRIES_MAX, now, 7), 0);
}

static void within_a_budget(void **state)
{
    (void)state;
    tn_retry_budget budget = {0};
    uint64_t now = TN_SEC;
    uint32_t soon = 0;
    for (uint32_t i = 0; i < 3 * TN_RETRY_BURST; i++)
        soon += tn_retry_wait_ns(&budget, 0, now, i) < 100 * TN_MS;
    assert_int_equal(soon, TN_RETRY_BURST);
    soon = 0;
    now += TN_SEC / 2;
    for (uint32_t i = 0; i < 3 * TN_RETRY_BURST; i++)
        soon += tn_retry_wait_ns(&budget, 0, now, i) < 100 * TN_MS;
    assert_int_equal(soon, TN_RETRY_PER_S / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(later_and_rarer),
                                       cmocka_unit_test(within_a_budget)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
