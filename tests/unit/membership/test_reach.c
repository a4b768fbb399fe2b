/* SPDX-License-Identifier: MIT */
/* Who is heard but not reached takes no part, however often it refutes its death, and takes part again when it is reached. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "membership/reach.h"

#define START (1000 * TN_SEC)

/* From one moment to another, each 100 ms: pings every so often (0: none).  The turn that came, and when. */
static tn_reach_turn play(tn_reach *reach, uint64_t *now, uint64_t ns, uint64_t *pings,
                          uint64_t ping_each_ns, uint64_t refuted_each_ns, uint32_t living)
{
    for (uint64_t end = *now + ns; *now < end; *now += 100 * TN_MS) {
        if (ping_each_ns && *now % ping_each_ns == 0)
            ++*pings;
        if (refuted_each_ns && *now % refuted_each_ns == 0)
            tn_reach_refuted(reach, *now);
        tn_reach_turn turn = tn_reach_look(reach, *now, *pings, living);
        if (turn != TN_REACH_STAY)
            return turn;
    }
    return TN_REACH_STAY;
}

static void one_that_nobody_pings_does_not_begin(void **state)
{
    (void)state;
    tn_reach reach = {0};
    uint64_t now = START, pings = 0;
    assert_false(tn_reach_serve(&reach, now, 0, 2));
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, 0, TN_SEC, 2), TN_REACH_STAY);
    uint64_t began = now;
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, 500 * TN_MS, 0, 2), TN_REACH_RETURN);
    assert_true(now - began >= TN_REACH_STEADY_NS && now - began <= 2 * TN_REACH_STEADY_NS);
}

static void one_alone_begins_and_so_does_one_that_is_pinged(void **state)
{
    (void)state;
    tn_reach alone = {0}, pinged = {0};
    assert_true(tn_reach_serve(&alone, START, 0, 1));
    assert_true(tn_reach_serve(&pinged, START, 1, 13));
}

static void who_was_alone_is_not_out_when_another_comes(void **state)
{
    (void)state;
    tn_reach reach = {0};
    uint64_t now = START, pings = 0;
    assert_true(tn_reach_serve(&reach, now, 0, 1));
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, 0, 0, 1), TN_REACH_STAY);
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, 0, 0, 2), TN_REACH_STAY);
}

static void silence_and_accusations_together_are_needed(void **state)
{
    (void)state;
    tn_reach reach = {0};
    uint64_t now = START, pings = 1;
    assert_true(tn_reach_serve(&reach, now, pings, 13));
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, TN_SEC, TN_SEC, 13), TN_REACH_STAY);
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, TN_SEC, 0, 13), TN_REACH_STAY);
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, 0, 8 * TN_SEC, 13), TN_REACH_STAY);
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, 0, TN_SEC, 13), TN_REACH_LEAVE);
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, 0, TN_SEC, 13), TN_REACH_STAY);
}

/* A ping now and then, as one by a wrong path may come, is not enough; nor is it ever alone in vain. */
static void it_returns_when_steadily_pinged_or_alone(void **state)
{
    (void)state;
    tn_reach reach = {0};
    uint64_t now = START, pings = 0;
    assert_false(tn_reach_serve(&reach, now, 0, 3));
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, 3 * TN_SEC, 0, 3), TN_REACH_STAY);
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, 0, 0, 1), TN_REACH_RETURN);
}

static void who_ends_does_not_return(void **state)
{
    (void)state;
    tn_reach reach = {0};
    uint64_t now = START, pings = 0;
    assert_false(tn_reach_serve(&reach, now, 0, 3));
    tn_reach_end(&reach);
    assert_int_equal(play(&reach, &now, 60 * TN_SEC, &pings, 100 * TN_MS, 0, 3), TN_REACH_STAY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_nobody_pings_does_not_begin),
        cmocka_unit_test(one_alone_begins_and_so_does_one_that_is_pinged),
        cmocka_unit_test(who_was_alone_is_not_out_when_another_comes),
        cmocka_unit_test(silence_and_accusations_together_are_needed),
        cmocka_unit_test(it_returns_when_steadily_pinged_or_alone),
        cmocka_unit_test(who_ends_does_not_return),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
