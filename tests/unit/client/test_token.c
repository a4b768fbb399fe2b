/* SPDX-License-Identifier: MIT */
/* Tokens: what we have sealed opens again, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/token.h"
#include "proto/proto.h"

static tn_blob seal(tn_arena *arena)
{
    Tenon__TaskToken token = TENON__TASK_TOKEN__INIT;
    token.workflow_id = (char *)"w";
    token.scheduled_id = 5;
    token.kind = 1;
    return tn_token_seal(arena, &token.base);
}

static void opens_what_was_sealed(void **state)
{
    tn_arena *arena = tn_arena_create(0);
    (void)state;
    tn_blob sealed = seal(arena);
    const Tenon__TaskToken *token =
        (const void *)tn_token_open(arena, sealed, &tenon__task_token__descriptor);
    assert_non_null(token);
    assert_string_equal(token->workflow_id, "w");
    assert_int_equal(token->scheduled_id, 5);
    tn_arena_destroy(arena);
}

static void refuses_every_turned_bit(void **state)
{
    tn_arena *arena = tn_arena_create(0);
    (void)state;
    tn_blob sealed = seal(arena);
    uint8_t *bytes = tn_arena_alloc(arena, sealed.n);
    for (size_t bit = 0; bit < sealed.n * 8; bit++) {
        memcpy(bytes, sealed.p, sealed.n);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_null(
            tn_token_open(arena, tn_blob_from(bytes, sealed.n), &tenon__task_token__descriptor));
    }
    for (size_t n = 0; n < sealed.n; n++)
        assert_null(
            tn_token_open(arena, tn_blob_from(sealed.p, n), &tenon__task_token__descriptor));
    tn_arena_destroy(arena);
}

static void refuses_another_kind_and_another_key(void **state)
{
    static const uint8_t other[16] = {9}, usual[16] = {1};
    tn_arena *arena = tn_arena_create(0);
    (void)state;
    tn_blob sealed = seal(arena);
    assert_null(tn_token_open(arena, sealed, &tenon__history_page_token__descriptor));
    tn_token_set_key(other);
    assert_null(tn_token_open(arena, sealed, &tenon__task_token__descriptor));
    tn_token_set_key(usual);
    assert_non_null(tn_token_open(arena, sealed, &tenon__task_token__descriptor));
    tn_arena_destroy(arena);
}

static void refuses_what_is_too_long(void **state)
{
    tn_arena *arena = tn_arena_create(0);
    uint8_t *bytes = tn_arena_zalloc(arena, 100000);
    (void)state;
    assert_null(tn_token_open(arena, tn_blob_from(bytes, 100000), &tenon__task_token__descriptor));
    tn_arena_destroy(arena);
}

int main(void)
{
    static const uint8_t key[16] = {1};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_what_was_sealed),
        cmocka_unit_test(refuses_every_turned_bit),
        cmocka_unit_test(refuses_another_kind_and_another_key),
        cmocka_unit_test(refuses_what_is_too_long),
    };
    tn_token_set_key(key);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
