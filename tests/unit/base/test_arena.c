/* SPDX-License-Identifier: MIT */
/* The arena: alignment, caps, reset, large pieces, the per-thread list of first chunks. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"

static void pieces_are_aligned_and_apart(void **state)
{
    (void)state;
    tn_arena *a = tn_arena_create(0);
    uint8_t *pieces[2000];
    size_t sizes[2000];
    tn_rng rng;
    tn_rng_seed(&rng, 1);
    for (size_t i = 0; i < 2000; i++) {
        sizes[i] = (size_t)tn_rng_below(&rng, i % 50 == 0 ? 100000 : 200);
        pieces[i] = tn_arena_alloc(a, sizes[i]);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)(i & 0xff), sizes[i]);
    }
    for (size_t i = 0; i < 2000; i++) {
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], i & 0xff);
    }
    tn_arena_destroy(a);
}

static void cap_refuses_and_leaves_the_rest(void **state)
{
    (void)state;
    tn_arena *a = tn_arena_create(4096);
    assert_non_null(tn_arena_alloc(a, 2000));
    assert_null(tn_arena_alloc(a, 4000));
    volatile size_t absurd = SIZE_MAX; /* volatile: the compiler would refuse it first */
    assert_null(tn_arena_alloc(a, absurd));
    assert_null(tn_arena_alloc(a, absurd - 8));
    assert_null(tn_arena_array(a, absurd / 2, 4));
    assert_null(tn_arena_memdup(a, "x", absurd));
    assert_non_null(tn_arena_alloc(a, 1000));
    assert_true(tn_arena_used_bytes(a) <= 4096);
    tn_arena_set_limit(a, 0);
    assert_non_null(tn_arena_alloc(a, 100000));
    tn_arena_destroy(a);
    tn_arena_destroy(NULL);
}

static void reset_starts_over(void **state)
{
    (void)state;
    tn_arena *a = tn_arena_create(0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) {
            uint8_t *p = tn_arena_zalloc(a, 1000);
            for (size_t k = 0; k < 1000; k++)
                assert_int_equal(p[k], 0);
            memset(p, 0xee, 1000);
        }
        assert_true(tn_arena_used_bytes(a) >= 100000);
        tn_arena_reset(a);
        assert_int_equal(tn_arena_used_bytes(a), 0);
    }
    tn_arena_destroy(a);
}

static void a_large_piece_keeps_the_current_chunk(void **state)
{
    (void)state;
    tn_arena *a = tn_arena_create(0);
    uint8_t *one = tn_arena_alloc(a, 16);
    assert_non_null(tn_arena_alloc(a, 1000000));
    uint8_t *two = tn_arena_alloc(a, 16);
    assert_true(two > one && two - one <= 64);
    assert_non_null(tn_arena_alloc(a, 1000000));
    uint8_t *three = tn_arena_alloc(a, 16);
    assert_true(three > two && three - two <= 64);
    tn_arena_destroy(a);
}

static void copies_are_terminated(void **state)
{
    (void)state;
    tn_arena *a = tn_arena_create(0);
    tn_str s = tn_arena_str(a, (tn_str){"hello world", 5});
    assert_int_equal(s.n, 5);
    assert_string_equal(s.p, "hello");
    tn_blob b = tn_arena_blob(a, (tn_blob){NULL, 0});
    assert_non_null(b.p);
    assert_int_equal(b.n, 0);
    assert_string_equal(tn_arena_printf(a, "%d-%s", 7, "x"), "7-x");
    char *lots = tn_arena_printf(a, "%0*d", 5000, 1);
    assert_int_equal(strlen(lots), 5000);
    uint8_t *aligned = tn_arena_alloc_aligned(a, 10, 256);
    assert_int_equal((uintptr_t)aligned % 256, 0);
    tn_arena_destroy(a);
}

static void *make_here(void *arg)
{
    tn_arena **out = arg;
    for (int i = 0; i < 300; i++)
        out[i] = tn_arena_create(0);
    for (int i = 300; i < 400; i++)
        tn_arena_destroy(tn_arena_create(0));
    return NULL;
}

static void an_arena_may_die_on_another_thread(void **state)
{
    (void)state;
    tn_arena *arenas[300];
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, make_here, arenas), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    for (int i = 0; i < 300; i++)
        tn_arena_destroy(arenas[i]);
    for (int i = 0; i < 300; i++)
        arenas[i] = tn_arena_create(0);
    for (int i = 0; i < 300; i++)
        tn_arena_destroy(arenas[i]);
}

static void give_back(void **state)
{
    (void)state;
    tn_arena *a = tn_arena_create(0);
    void *first = tn_arena_alloc(a, 100), *second = tn_arena_alloc(a, 50);
    size_t used = tn_arena_used_bytes(a);
    tn_arena_give_back(a, first, 100); /* not the last: stays */
    assert_int_equal(tn_arena_used_bytes(a), used);
    tn_arena_give_back(a, second, 50);
    assert_true(tn_arena_used_bytes(a) < used);
    assert_ptr_equal(tn_arena_alloc(a, 50), second);
    assert_int_equal(tn_arena_used_bytes(a), used);
    void *large = tn_arena_alloc(a, 100000); /* a chunk of its own: stays */
    used = tn_arena_used_bytes(a);
    tn_arena_give_back(a, large, 100000);
    assert_int_equal(tn_arena_used_bytes(a), used);
    memset(large, 1, 100000);
    tn_arena_destroy(a);
}

static void the_end_of_the_last_piece_goes_back(void **state)
{
    (void)state;
    tn_arena *a = tn_arena_create(0);
    uint8_t *first = tn_arena_alloc(a, 256);
    size_t before = tn_arena_used_bytes(a);
    memset(first, 1, 256);
    assert_false(tn_arena_trim(a, first, 256, 300)); /* that would be growth */
    assert_true(tn_arena_trim(a, first, 256, 20));
    assert_true(tn_arena_used_bytes(a) <= before - 256 + 48);
    uint8_t *second = tn_arena_alloc(a, 64);
    assert_true(second >= first + 20 && second < first + 256);
    memset(second, 2, 64);
    for (int i = 0; i < 20; i++)
        assert_int_equal(first[i], 1);
    assert_false(tn_arena_trim(a, first, 20, 1)); /* not the last any more */
    tn_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(give_back),
        cmocka_unit_test(the_end_of_the_last_piece_goes_back),
        cmocka_unit_test(pieces_are_aligned_and_apart),
        cmocka_unit_test(cap_refuses_and_leaves_the_rest),
        cmocka_unit_test(reset_starts_over),
        cmocka_unit_test(a_large_piece_keeps_the_current_chunk),
        cmocka_unit_test(copies_are_terminated),
        cmocka_unit_test(an_arena_may_die_on_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
