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

/* Later than a restart, earlier than a client gives up, and in any case before it does. */
static void nobody_is_waited_for(void **state)
{
    (void)state;
    uint64_t now = 7 * TN_SEC;
    assert_int_equal(tn_retry_nobody_until_ns(now, UINT64_MAX), now + 5 * TN_SEC);
    assert_int_equal(tn_retry_nobody_until_ns(now, now + 10 * TN_SEC), now + 5 * TN_SEC);
    assert_int_equal(tn_retry_nobody_until_ns(now, now + 5 * TN_SEC), now + 4500 * TN_MS);
    assert_int_equal(tn_retry_nobody_until_ns(now, now + 2 * TN_SEC), now + 1800 * TN_MS);
    assert_int_equal(tn_retry_nobody_until_ns(now, now), now);
    assert_int_equal(tn_retry_nobody_until_ns(now, now - TN_SEC), now);
}

static void trying_again_is_in_vain(void **state)
{
    (void)state;
    uint64_t now = 7 * TN_SEC;
    assert_false(tn_retry_is_in_vain(now, UINT64_MAX));
    assert_false(tn_retry_is_in_vain(now, now + 6 * TN_SEC));
    assert_true(tn_retry_is_in_vain(now, now + 5 * TN_SEC));
    assert_true(tn_retry_is_in_vain(now, now + 4 * TN_SEC));
    assert_false(
        tn_retry_is_in_vain(now, now + 3 * TN_SEC)); /* once more, and the host may be back */
    assert_false(tn_retry_is_in_vain(now, now - TN_SEC));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_and_rarer), cmocka_unit_test(within_a_budget),
        cmocka_unit_test(nobody_is_waited_for), cmocka_unit_test(trying_again_is_in_vain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
