/* SPDX-License-Identifier: MIT */
/* Who calls: a place each, and who must share when there are too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frontend/callers.h"
#include "rpc/rpc.h"

#define T0 (UINT64_C(1000) * TN_SEC)

/* `who` as authorization would tell it. */
static tn_caller *place(uint64_t who, const char *ns, uint64_t now_ns)
{
    uint8_t name[8];
    tn_put_u64be(name, who);
    tn_call call = {.caller =
                        tn_hash64_stable(tn_blob_from(name, sizeof(name)), (tn_blob){NULL, 0}) | 1};
    return tn_front_caller(&call, tn_str_from(ns), now_ns);
}

static void heard(tn_caller *caller, uint64_t now_ns)
{
    atomic_store(&caller->seen, tn_rate_window(now_ns));
}

static void a_caller_has_a_place_in_each_namespace(void **state)
{
    (void)state;
    tn_caller *one = place(17, "a", T0);
    heard(one, T0);
    tn_caller *two = place(19, "a", T0), *elsewhere = place(17, "b", T0);
    assert_ptr_not_equal(one, two);
    assert_ptr_not_equal(one, elsewhere);
    assert_ptr_equal(place(17, "a", T0 + 100 * TN_SEC), one);
}

/* So many that not all have a place: the busy keep theirs, the rest share; once they are silent others come in, and begin
 * with a whole share. */
static void the_silent_make_room(void **state)
{
    enum { MANY = 20000 };
    const tn_rate rate = {.per_second = 10, .burst = 10};
    tn_caller *busy = place(23, "a", T0);
    (void)state;
    heard(busy, T0);
    for (uint64_t who = 100; who < 100 + MANY; who++) {
        tn_caller *caller = place(who, "a", T0);
        assert_non_null(caller);
        heard(caller, T0);
        while (tn_rate_allows(&caller->shares[TN_RATE_CALLS], rate, 0.2, 0, T0))
            continue;
    }
    assert_ptr_equal(place(23, "a", T0), busy);
    uint64_t later = T0 + 10 * TN_SEC;
    heard(busy, later);
    for (uint64_t who = 100000; who < 100000 + MANY; who++) {
        tn_caller *caller = place(who, "a", later);
        if (atomic_load(&caller->seen) == tn_rate_window(later))
            continue; /* shared with another newcomer */
        heard(caller, later);
        assert_true(tn_rate_allows(&caller->shares[TN_RATE_CALLS], rate, 0.2, 0, later));
    }
    assert_ptr_equal(place(23, "a", later), busy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_caller_has_a_place_in_each_namespace),
        cmocka_unit_test(the_silent_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
