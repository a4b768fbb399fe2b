/* SPDX-License-Identifier: MIT */
/* The cluster's keys: what each step of a change signs and believes, that no two members one step apart refuse each other,
 * that two steps apart they do, and what of a row is taken. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "membership/keys.h"
#include "proto/proto.h"
#include "tenon/store.pb-c.h"

#define STEPS 7 /* two changes */

static const uint8_t first[16] = {1}, second[16] = {2}, third[16] = {3};

/* All states of two changes, one after the other. */
static void make(tn_keys out[STEPS])
{
    tn_keys_first(&out[0], first);
    for (size_t i = 1; i < STEPS; i++) {
        out[i] = out[i - 1];
        tn_keys_step(&out[i], i <= 3 ? second : third);
    }
}

static bool believes(const tn_keys *who, const tn_keys *signer)
{
    uint8_t mac[16];
    tn_blob bytes = tn_blob_of_str(TN_STR("a packet"));
    tn_keys_sign(signer, bytes, mac);
    return tn_keys_believe(who, bytes, mac);
}

static void steps(void **state)
{
    tn_keys k[STEPS];
    (void)state;
    make(k);
    for (size_t i = 0; i < STEPS; i++) {
        assert_int_equal(k[i].version, i);
        assert_int_equal(k[i].phase, i % 3);
        assert_int_equal(k[i].n, i % 3 == 0 ? 1 : 2);
    }
    assert_memory_equal(k[1].key[0], first, 16);
    assert_memory_equal(k[1].key[1], second, 16);
    assert_memory_equal(k[2].key[0], second, 16);
    assert_memory_equal(k[2].key[1], first, 16);
    assert_memory_equal(k[3].key[0], second, 16);
    static const uint8_t none[16];
    assert_memory_equal(k[3].key[1], none, 16); /* nothing is left of the old one */
    assert_memory_equal(k[6].key[0], third, 16);
}

static void neighbours_believe_each_other(void **state)
{
    tn_keys k[STEPS];
    (void)state;
    make(k);
    for (size_t i = 0; i < STEPS; i++) {
        assert_true(believes(&k[i], &k[i]));
        if (i + 1 < STEPS) {
            assert_true(believes(&k[i], &k[i + 1]));
            assert_true(believes(&k[i + 1], &k[i]));
        }
    }
}

static void the_old_key_is_refused_at_the_end(void **state)
{
    tn_keys k[STEPS];
    (void)state;
    make(k);
    assert_false(believes(&k[3], &k[0]));
    assert_false(believes(&k[0], &k[3]));
    assert_false(believes(&k[3], &k[1])); /* who has missed that the new one signs */
    assert_false(believes(&k[6], &k[3]));
    uint8_t mac[16];
    tn_keys_sign(&k[2], tn_blob_of_str(TN_STR("a packet")), mac);
    mac[15] ^= 1;
    assert_false(tn_keys_believe(&k[2], tn_blob_of_str(TN_STR("a packet")), mac));
    mac[15] ^= 1;
    assert_false(tn_keys_believe(&k[2], tn_blob_of_str(TN_STR("a Packet")), mac));
}

static void rows(void **state)
{
    tn_keys k[STEPS], back;
    tn_arena *arena = tn_arena_create(0);
    (void)state;
    make(k);
    for (size_t i = 1; i < STEPS; i++) {
        memset(&back, 0, sizeof(back));
        assert_true(tn_keys_unpack(arena, tn_keys_pack(arena, &k[i]), &back));
        assert_int_equal(back.version, k[i].version);
        assert_int_equal(back.phase, k[i].phase);
        assert_int_equal(back.n, k[i].n);
        assert_memory_equal(back.key, k[i].key, 16 * back.n);
    }
    tn_arena_destroy(arena);
}

static bool taken(uint64_t version, uint32_t phase, size_t n, size_t size)
{
    Tenon__KeysRecord record = TENON__KEYS_RECORD__INIT;
    uint8_t bytes[32] = {9};
    ProtobufCBinaryData list[3] = {{size, bytes}, {16, bytes}, {16, bytes}};
    tn_arena *arena = tn_arena_create(0);
    tn_blob packed;
    tn_keys out = {.version = 77};
    record.version = version;
    record.phase = phase;
    record.keys = list;
    record.n_keys = n;
    assert_int_equal(tn_proto_pack(&record.base, arena, &packed), TN_OK);
    bool good = tn_keys_unpack(arena, packed, &out);
    if (!good)
        assert_int_equal(out.version, 77);
    tn_arena_destroy(arena);
    return good;
}

static void damaged_rows(void **state)
{
    tn_keys out;
    tn_arena *arena = tn_arena_create(0);
    (void)state;
    assert_true(taken(3, TN_KEYS_SETTLED, 1, 16));
    assert_true(taken(1, TN_KEYS_BELIEVED, 2, 16));
    assert_false(taken(0, TN_KEYS_SETTLED, 1, 16));
    assert_false(taken(3, TN_KEYS_SETTLED, 0, 16));
    assert_false(taken(3, TN_KEYS_SETTLED, 2, 16));
    assert_false(taken(3, TN_KEYS_SIGNING, 1, 16));
    assert_false(taken(3, TN_KEYS_SIGNING, 3, 16));
    assert_false(taken(3, 3, 2, 16));
    assert_false(taken(3, TN_KEYS_SETTLED, 1, 15));
    assert_false(taken(3, TN_KEYS_SIGNING, 2, 32));
    assert_false(tn_keys_unpack(arena, tn_blob_of_str(TN_STR("\xff\xff")), &out));
    assert_false(tn_keys_unpack(arena, (tn_blob){NULL, 0}, &out));
    tn_arena_destroy(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps),
        cmocka_unit_test(neighbours_believe_each_other),
        cmocka_unit_test(the_old_key_is_refused_at_the_end),
        cmocka_unit_test(rows),
        cmocka_unit_test(damaged_rows),
    };
    return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
