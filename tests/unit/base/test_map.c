/* SPDX-License-Identifier: MIT */
/* Map and heap against simple models; the stable hash against fixed values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/siphash.h"

struct thing {
    tn_map_link link;
    char key[16];
    bool in;
};

static void count_and_remove_even(void *user, tn_map_link *link)
{
    struct thing *t = TN_CONTAINER_OF(link, struct thing, link);
    tn_map *map = user;
    if ((t->key[0] & 1) == 0) {
        tn_map_remove(map, link);
        t->in = false;
    }
}

static void map_agrees_with_a_model(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static struct thing things[COUNT];
    tn_map map;
    tn_map_init(&map);
    tn_rng rng;
    tn_rng_seed(&rng, 7);
    size_t count = 0;
    for (size_t i = 0; i < COUNT; i++)
        snprintf(things[i].key, sizeof things[i].key, "%zu", i);
    for (int round = 0; round < 20000; round++) {
        struct thing *t = &things[tn_rng_below(&rng, COUNT)];
        tn_blob key = tn_blob_of_str(tn_str_from(t->key));
        assert_ptr_equal(tn_map_find(&map, key), t->in ? &t->link : NULL);
        if (t->in)
            tn_map_remove(&map, &t->link), count--;
        else
            tn_map_insert(&map, &t->link, key), count++;
        t->in = !t->in;
        assert_int_equal(map.count, count);
    }
    tn_map_each(&map, count_and_remove_even, &map);
    for (size_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(tn_map_find(&map, tn_blob_of_str(tn_str_from(things[i].key))),
                         things[i].in ? &things[i].link : NULL);
        if (things[i].in) {
            assert_true(things[i].key[0] & 1);
            tn_map_remove(&map, &things[i].link);
        }
    }
    assert_int_equal(map.count, 0);
    assert_true(map.bucket_count <= 16);
    tn_map_done(&map);
}

static void stable_hash_never_changes(void **state)
{
    (void)state;
    uint8_t message[15], key[16];
    for (uint8_t i = 0; i < 16; i++)
        key[i] = i;
    memcpy(message, key, 15);
    /* The vectors of SipHash's authors. */
    uint64_t k0 = UINT64_C(0x0706050403020100), k1 = UINT64_C(0x0f0e0d0c0b0a0908);
    assert_true(tn_siphash24(k0, k1, message, 15) == UINT64_C(0xa129ca6149be45e5));
    assert_true(tn_siphash24(k0, k1, NULL, 0) == UINT64_C(0x726fdb47dd0e0e31));
    static const uint8_t want[16] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
                                     0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
    uint8_t mac[16];
    tn_mac128(key, (tn_blob){NULL, 0}, mac);
    assert_memory_equal(mac, want, 16);
    /* Ours: what stores hold on disk depends on them. */
    assert_true(tn_hash64_stable((tn_blob){0}, (tn_blob){0}) == UINT64_C(0x7703f30c7e85f6e7));
    assert_true(tn_hash64_stable(tn_blob_of_str(TN_STR("ns")), tn_blob_of_str(TN_STR("wf"))) ==
                UINT64_C(0x04a0dafd5ed9d704));
    assert_true(tn_hash64_stable(tn_blob_of_str(TN_STR("nsw")), tn_blob_of_str(TN_STR("f"))) !=
                UINT64_C(0x04a0dafd5ed9d704));
}

static void heap_pops_in_order(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static tn_heap_node nodes[COUNT];
    tn_heap heap;
    tn_heap_init(&heap);
    tn_rng rng;
    tn_rng_seed(&rng, 9);
    for (size_t i = 0; i < COUNT; i++)
        tn_heap_insert(&heap, &nodes[i], tn_rng_below(&rng, 500));
    for (int round = 0; round < 5000; round++) {
        tn_heap_node *node = &nodes[tn_rng_below(&rng, COUNT)];
        if (!tn_heap_linked(node))
            tn_heap_insert(&heap, node, tn_rng_below(&rng, 500));
        else if (round % 3 == 0)
            tn_heap_remove(&heap, node);
        else
            tn_heap_change(&heap, node, tn_rng_below(&rng, 500));
    }
    uint64_t last = 0;
    while (heap.count) {
        tn_heap_node *min = tn_heap_min(&heap);
        assert_true(min->key >= last);
        last = min->key;
        tn_heap_remove(&heap, min);
        assert_false(tn_heap_linked(min));
        tn_heap_remove(&heap, min);
    }
    assert_null(tn_heap_min(&heap));
    assert_true(heap.cap <= 64);
    tn_heap_done(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_agrees_with_a_model),
        cmocka_unit_test(stable_hash_never_changes),
        cmocka_unit_test(heap_pops_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
