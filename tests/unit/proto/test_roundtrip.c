/* SPDX-License-Identifier: MIT */
/* Every message type, filled at random: our unpack and pack against protobuf-c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/proto.h"
#include "random_message.h"

static void check_one(const ProtobufCMessageDescriptor *d, tn_blob wire, tn_arena *arena)
{
    ProtobufCMessage *ours = NULL, *theirs, *copy;
    tn_blob packed = {0}, again;
    tn_error err = {0};
    uint8_t *reference;
    size_t n;

    theirs = protobuf_c_message_unpack(d, NULL, wire.n, wire.p);
    assert_non_null(theirs);
    n = protobuf_c_message_get_packed_size(theirs);
    reference = malloc(n + 1);
    assert_int_equal(protobuf_c_message_pack(theirs, reference), n);

    if (tn_proto_unpack(d, wire, arena, &ours, &err) != TN_OK)
        fail_msg("%s: %s", d->name, err.text);
    assert_int_equal(tn_proto_pack(ours, arena, &packed), TN_OK);
    if (packed.n != n || memcmp(packed.p, reference, n) != 0)
        fail_msg("%s: packed differently (%zu and %zu bytes)", d->name, packed.n, n);
    /* protobuf-c reads our structs as its own. */
    assert_int_equal(protobuf_c_message_get_packed_size(ours), n);
    /* Both ways of filling a struct agree with each other. */
    assert_true(tn_proto_equal(ours, theirs));
    copy = tn_proto_copy(ours, arena);
    assert_non_null(copy);
    assert_int_equal(tn_proto_pack(copy, arena, &again), TN_OK);
    assert_true(tn_blob_eq(packed, again));

    free(reference);
    protobuf_c_message_free_unpacked(theirs, NULL);
}

static void every_message_type_survives(void **state)
{
    const uint64_t seed = 20240607;
    tn_rng rng;
    tn_buf wire = {0};
    tn_arena *arena = tn_arena_create(0);

    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    tn_rng_seed(&rng, seed);
    for (size_t i = 0; i < tn_message_count; i++) {
        for (int k = 0; k < 12; k++) {
            wire.n = 0;
            random_message(&rng, tn_message_table[i].descriptor, 0, &wire);
            check_one(tn_message_table[i].descriptor, tn_buf_blob(&wire), arena);
            tn_arena_reset(arena);
        }
    }
    tn_buf_done(&wire);
    tn_arena_destroy(arena);
}

/* Bytes that are damaged at random never crash, and what we accept protobuf-c accepts too, once packed
 * again (its merging of a singular message that comes twice fails now and then). */
static void damaged_bytes_are_refused_or_agreed_on(void **state)
{
    const uint64_t seed = 7;
    tn_rng rng;
    tn_buf wire = {0};
    tn_arena *arena = tn_arena_create(0);
    size_t accepted = 0, refused = 0;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    tn_rng_seed(&rng, seed);
    for (size_t i = 0; i < 20000; i++) {
        const ProtobufCMessageDescriptor *d =
            tn_message_table[tn_rng_below(&rng, tn_message_count)].descriptor;
        ProtobufCMessage *ours, *theirs;
        tn_error err = {0};
        tn_blob packed;
        wire.n = 0;
        random_message(&rng, d, 1, &wire);
        if (wire.n == 0)
            continue;
        for (uint64_t n = 1 + tn_rng_below(&rng, 3); n > 0; n--)
            wire.p[tn_rng_below(&rng, wire.n)] = (uint8_t)tn_rng_next(&rng);
        wire.n -= (size_t)tn_rng_below(&rng, 2);
        if (tn_proto_unpack(d, tn_buf_blob(&wire), arena, &ours, &err) == TN_OK) {
            accepted++;
            assert_int_equal(tn_proto_pack(ours, arena, &packed), TN_OK);
            theirs = protobuf_c_message_unpack(d, NULL, packed.n, packed.p);
            if (!theirs && strncmp(d->name, "google.protobuf.", 16) != 0)
                fail_msg("%s: accepted what protobuf-c refuses", d->name);
            if (theirs)
                protobuf_c_message_free_unpacked(theirs, NULL);
        } else {
            refused++;
            assert_int_not_equal(err.code, TN_OK);
            assert_true(err.text[0] != '\0');
        }
        tn_arena_reset(arena);
    }
    assert_true(accepted > 100);
    assert_true(refused > 100);
    tn_buf_done(&wire);
    tn_arena_destroy(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_type_survives),
        cmocka_unit_test(damaged_bytes_are_refused_or_agreed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
