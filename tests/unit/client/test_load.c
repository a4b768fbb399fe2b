/* SPDX-License-Identifier: MIT */
/* What a host that is behind refuses, and in which order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/load.h"

static void order(void **state)
{
    (void)state;
    static const struct {
        tn_hop op;
        bool by_call;
        int64_t refused_from; /* of a limit of 10; 0: never */
    } cases[] = {
        {TN_HOP_START, true, 11},        {TN_HOP_SIGNAL, true, 11},
        {TN_HOP_DESCRIBE, true, 11},     {TN_HOP_WFT_COMPLETED, true, 21},
        {TN_HOP_ACT_FAILED, true, 21},   {TN_HOP_TERMINATE, true, 21},
        {TN_HOP_WFT_POLLED, true, 0},    {TN_HOP_ACT_POLLED, true, 0},
        {TN_HOP_UNDELIVERED, true, 0},   {TN_HOP_SIGNAL, false, 0},
        {TN_HOP_CHILD_CLOSED, false, 0}, {TN_HOP_START, false, 0},
        {TN_HOP_GET_HISTORY, true, 0},   {TN_HOP_POLL_UPDATE, true, 0},
    };
    for (size_t i = 0; i < TN_COUNT_OF(cases); i++)
        for (int64_t n = 1; n < 40; n++) {
            assert_int_equal(tn_load_sheds(cases[i].op, cases[i].by_call, n, 10),
                             cases[i].refused_from && n >= cases[i].refused_from);
            assert_false(tn_load_sheds(cases[i].op, cases[i].by_call, n, 0));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
