/* SPDX-License-Identifier: MIT */
/* The circuit breaker: when it opens, whom it lets try, and for how long it stays open. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "base/breaker.h"

static const tn_breaker_rule rule = {
    .failures_max = 2, .open_ns = 100, .open_max_ns = 400, .try_ns = 50};

static void fail_times(tn_breaker *b, unsigned times, uint64_t now)
{
    for (unsigned i = 0; i < times; i++)
        (void)tn_breaker_failed(b, &rule, now);
}

static void it_opens_after_too_many_in_a_row(void **state)
{
    (void)state;
    tn_breaker b = {0};
    assert_false(tn_breaker_failed(&b, &rule, 1000));
    assert_false(tn_breaker_failed(&b, &rule, 1000));
    assert_false(tn_breaker_succeeded(&b)); /* it was not open */
    fail_times(&b, 2, 1000);
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1000), 0);
    assert_true(tn_breaker_failed(&b, &rule, 1000));
    assert_true(tn_breaker_is_open(&b));
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1000), 100);
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1099), 1);
}

static void one_tries_and_closes_it(void **state)
{
    (void)state;
    tn_breaker b = {0};
    fail_times(&b, 3, 1000);
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1100), 0);
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1100), 50); /* not two at once */
    assert_true(tn_breaker_succeeded(&b));
    assert_false(tn_breaker_is_open(&b));
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1100), 0);
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1100), 0);
}

static void each_failed_try_doubles_the_wait(void **state)
{
    (void)state;
    tn_breaker b = {0};
    uint64_t now = 1000;
    fail_times(&b, 3, now);
    for (uint64_t wait = 100; wait < 3200; wait *= 2) {
        now += wait < 400 ? wait : 400;
        assert_int_equal(tn_breaker_wait_ns(&b, &rule, now), 0);
        assert_false(tn_breaker_failed(&b, &rule, now)); /* it stays open: nothing to tell */
        assert_int_equal(tn_breaker_wait_ns(&b, &rule, now), 2 * wait < 400 ? 2 * wait : 400);
    }
}

/* Calls that were out when it opened end one after the other. */
static void late_failures_keep_it_open_no_longer(void **state)
{
    (void)state;
    tn_breaker b = {0};
    fail_times(&b, 3, 1000);
    fail_times(&b, 20, 1090);
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1100), 0);
}

static void a_try_of_which_nothing_is_heard_makes_room(void **state)
{
    (void)state;
    tn_breaker b = {0};
    fail_times(&b, 3, 1000);
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1100), 0);
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1149), 1);
    assert_int_equal(tn_breaker_wait_ns(&b, &rule, 1150), 0);
    assert_true(tn_breaker_succeeded(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_after_too_many_in_a_row),
        cmocka_unit_test(one_tries_and_closes_it),
        cmocka_unit_test(each_failed_try_doubles_the_wait),
        cmocka_unit_test(late_failures_keep_it_open_no_longer),
        cmocka_unit_test(a_try_of_which_nothing_is_heard_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
