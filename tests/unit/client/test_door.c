/* SPDX-License-Identifier: MIT */
/* Who goes before whom at the doors of history and matching, and what may be refused there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/door.h"

#define T0 (1000 * TN_SEC)

static void words(void **state)
{
    (void)state;
    assert_int_equal(tn_caller_type_of(TN_STR("operator")), TN_CALLER_OPERATOR);
    assert_int_equal(tn_caller_type_of(TN_STR("api")), TN_CALLER_API);
    assert_int_equal(tn_caller_type_of(TN_STR("background_high")), TN_CALLER_BACKGROUND_HIGH);
    assert_int_equal(tn_caller_type_of(TN_STR("background_low")), TN_CALLER_BACKGROUND_LOW);
    assert_int_equal(tn_caller_type_of(TN_STR("preemptable")), TN_CALLER_PREEMPTABLE);
    assert_int_equal(tn_caller_type_of(TN_STR("")), TN_CALLER_API);
    assert_int_equal(tn_caller_type_of(TN_STR("Operator")), TN_CALLER_API);
}

/* As in the reference server's service/history/configs and common/persistence/client. */
static void ranks(void **state)
{
    static const struct {
        tn_caller_type caller;
        uint32_t rank, store, store_vital;
    } cases[] = {
        {TN_CALLER_OPERATOR, TN_PRIORITY_OPERATOR, TN_PRIORITY_OPERATOR, TN_PRIORITY_OPERATOR},
        {TN_CALLER_API, 1, 2, 1},
        {TN_CALLER_BACKGROUND_HIGH, 2, 4, 4},
        {TN_CALLER_BACKGROUND_LOW, 3, 5, 5},
        {TN_CALLER_PREEMPTABLE, 4, 6, 6},
        {TN_CALLER_UNKNOWN, 1, 2, 1},
    };
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(cases); i++) {
        assert_int_equal(tn_door_rank(cases[i].caller), cases[i].rank);
        assert_int_equal(tn_door_store_rank(cases[i].caller, TN_HOP_DESCRIBE), cases[i].store);
        assert_int_equal(tn_door_store_rank(cases[i].caller, TN_HOP_SIGNAL), cases[i].store_vital);
    }
}

/* What the cluster does by itself is never refused, and a task that was handed out neither. */
static void manners(void **state)
{
    (void)state;
    for (int op = TN_HOP_START; op <= TN_HOP_LAST; op++) {
        bool has_task = op == TN_HOP_WFT_POLLED || op == TN_HOP_ACT_POLLED ||
                        op == TN_HOP_QUERY_POLLED || op == TN_HOP_UNDELIVERED;
        assert_int_equal(tn_door_history_manner((tn_hop)op, true),
                         has_task ? TN_DOOR_CREDIT : TN_DOOR_REFUSE);
        assert_int_equal(tn_door_history_manner((tn_hop)op, false),
                         has_task ? TN_DOOR_CREDIT : TN_DOOR_WAIT);
    }
    assert_int_equal(tn_door_matching_manner(TN_MOP_POLL, false), TN_DOOR_REFUSE);
    assert_int_equal(tn_door_matching_manner(TN_MOP_POLL, true), TN_DOOR_CREDIT);
    assert_int_equal(tn_door_matching_manner(TN_MOP_DESCRIBE, false), TN_DOOR_REFUSE);
    assert_int_equal(tn_door_matching_manner(TN_MOP_ADD, false), TN_DOOR_WAIT);
    assert_int_equal(tn_door_matching_manner(TN_MOP_CANCEL_POLL, false), TN_DOOR_CREDIT);
    assert_int_equal(tn_door_matching_manner(TN_MOP_QUERY_DONE, false), TN_DOOR_CREDIT);
}

static void patience(void **state)
{
    (void)state;
    assert_true(tn_door_patience_ns(TN_CALLER_BACKGROUND_HIGH) <
                tn_door_patience_ns(TN_CALLER_BACKGROUND_LOW));
    assert_true(tn_door_patience_ns(TN_CALLER_BACKGROUND_LOW) <
                tn_door_patience_ns(TN_CALLER_PREEMPTABLE));
    /* a sender gives up then */
    assert_true(tn_door_patience_ns(TN_CALLER_PREEMPTABLE) < 10 * TN_SEC);
}

static size_t take_all(tn_rate_buckets *buckets, tn_rate rate, uint32_t priority, uint64_t now_ns)
{
    size_t n = 0;
    while (n < 100000 && tn_rate_allows(buckets, rate, 0.2, priority, now_ns))
        n++;
    return n;
}

/* The urgent take from what the others have, never the other way round. */
static void shares(void **state)
{
    const tn_rate rate = {100, 100};
    (void)state;
    for (uint32_t first = 1; first <= 4; first++)
        for (uint32_t then = 1; then <= 4; then++) {
            tn_rate_buckets buckets = {0};
            for (int i = 0; i < 60; i++)
                assert_true(tn_rate_allows(&buckets, rate, 0.2, first, T0));
            assert_int_equal(take_all(&buckets, rate, then, T0), first <= then ? 40 : 100);
            assert_int_equal(take_all(&buckets, rate, TN_PRIORITY_OPERATOR, T0), 20);
        }
}

static void looking_takes_nothing(void **state)
{
    tn_rate_buckets buckets = {0};
    const tn_rate rate = {10, 10};
    (void)state;
    for (int i = 0; i < 50; i++)
        assert_int_equal(tn_rate_wait_ns(&buckets, rate, 0.2, 1, T0), 0);
    assert_int_equal(take_all(&buckets, rate, 1, T0), 10);
    uint64_t wait = tn_rate_wait_ns(&buckets, rate, 0.2, 1, T0);
    assert_int_equal(wait, TN_SEC / 10);
    assert_int_equal(tn_rate_wait_ns(&buckets, rate, 0.2, 1, T0 + wait), 0);
    assert_true(tn_rate_allows(&buckets, rate, 0.2, 1, T0 + wait));
    assert_int_equal(tn_rate_wait_ns(&buckets, (tn_rate){0, 0}, 0.2, 1, T0), 0);
    assert_int_equal(tn_rate_wait_ns(&buckets, rate, 0.2, TN_PRIORITY_OPERATOR, T0), 0);
}

/* What must go on takes on credit, and those that come later pay: up to an end. */
static void credit(void **state)
{
    tn_rate_buckets buckets = {0};
    const tn_rate rate = {10, 10};
    (void)state;
    for (int i = 0; i < 25; i++)
        tn_rate_charge(&buckets, rate, 0.2, 2, 10 * TN_SEC, T0);
    assert_int_equal(take_all(&buckets, rate, 1, T0), 10); /* the more urgent feel nothing */
    assert_int_equal(tn_rate_wait_ns(&buckets, rate, 0.2, 2, T0), 16 * TN_SEC / 10);
    assert_int_equal(take_all(&buckets, rate, 2, T0 + TN_SEC), 0);
    assert_int_equal(take_all(&buckets, rate, 2, T0 + 2 * TN_SEC), 5);
    for (int i = 0; i < 100000; i++)
        tn_rate_charge(&buckets, rate, 0.2, 2, 10 * TN_SEC, T0);
    assert_true(tn_rate_wait_ns(&buckets, rate, 0.2, 2, T0) <= 10 * TN_SEC + TN_SEC / 5);
    for (int i = 0; i < 2; i++)
        tn_rate_charge(&buckets, rate, 0.2, TN_PRIORITY_OPERATOR, 10 * TN_SEC, T0);
    assert_true(tn_rate_wait_ns(&buckets, rate, 0.2, TN_PRIORITY_OPERATOR, T0) > 0);
}

static void names(void **state)
{
    static tn_rate_named places[4];
    (void)state;
    tn_rate_buckets *a = tn_rate_of_name(places, 4, 10), *b = tn_rate_of_name(places, 4, 20),
                    *c = tn_rate_of_name(places, 4, 30);
    assert_ptr_equal(tn_rate_of_name(places, 4, 10), a);
    assert_ptr_equal(tn_rate_of_name(places, 4, 20), b);
    assert_ptr_equal(tn_rate_of_name(places, 4, 30), c);
    assert_true(a != b && b != c && a != c);
    /* full: they share the last */
    assert_ptr_equal(tn_rate_of_name(places, 4, 40), &places[3].buckets);
    assert_ptr_equal(tn_rate_of_name(places, 4, 50), &places[3].buckets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),   cmocka_unit_test(ranks),
        cmocka_unit_test(manners), cmocka_unit_test(patience),
        cmocka_unit_test(shares),  cmocka_unit_test(looking_takes_nothing),
        cmocka_unit_test(credit),  cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
