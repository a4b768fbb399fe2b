/* SPDX-License-Identifier: MIT */
/* The ring: the same owner whatever the order, fair shares, small moves, and placement that never changes
 * between releases. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "membership/ring.h"

#define N 10

static void make(tn_member members[N], const tn_member *list[N])
{
    for (size_t i = 0; i < N; i++) {
        members[i] = (tn_member){.state = TN_MEMBER_ALIVE, .port = 6934};
        memset(members[i].host_id, (int)(i * 17 + 1), 16);
        members[i].role_ports[TN_SERVICE_HISTORY] = 7234;
        list[i] = &members[i];
    }
}

static const tn_member *owner_of(const tn_ring *ring, uint32_t key)
{
    uint8_t bytes[4];
    tn_put_u32be(bytes, key);
    return tn_ring_owner(ring, tn_blob_from(bytes, 4));
}

static void order_does_not_matter(void **state)
{
    (void)state;
    tn_member members[N];
    const tn_member *list[N], *back[N];
    make(members, list);
    for (size_t i = 0; i < N; i++)
        back[i] = list[N - 1 - i];
    tn_ring *a = tn_ring_create(list, N, TN_SERVICE_HISTORY);
    tn_ring *b = tn_ring_create(back, N, TN_SERVICE_HISTORY);
    for (uint32_t key = 0; key < 1000; key++)
        assert_memory_equal(owner_of(a, key)->host_id, owner_of(b, key)->host_id, 16);
    tn_ring_destroy(a);
    tn_ring_destroy(b);
}

static void shares_are_fair_and_moves_small(void **state)
{
    (void)state;
    tn_member members[N];
    const tn_member *list[N];
    make(members, list);
    tn_ring *all = tn_ring_create(list, N, TN_SERVICE_HISTORY);
    tn_ring *without = tn_ring_create(list, N - 1, TN_SERVICE_HISTORY);
    size_t share[N] = {0}, moved = 0;
    for (uint32_t key = 0; key < 20000; key++) {
        const tn_member *a = owner_of(all, key), *b = owner_of(without, key);
        share[a->host_id[0] / 17]++;
        bool was_last = a->host_id[0] == list[N - 1]->host_id[0];
        if (!was_last)
            assert_memory_equal(a->host_id, b->host_id, 16); /* only the leaver's keys move */
        moved += was_last;
    }
    for (size_t i = 0; i < N; i++)
        assert_in_range(share[i], 1200, 2900);
    assert_int_equal(moved, share[N - 1]);
    tn_ring_destroy(all);
    tn_ring_destroy(without);
}

static void only_those_who_serve(void **state)
{
    (void)state;
    tn_member members[N];
    const tn_member *list[N];
    make(members, list);
    members[0].state = TN_MEMBER_DEAD;
    members[1].draining = true;
    members[2].role_ports[TN_SERVICE_HISTORY] = 0;
    members[3].state = TN_MEMBER_SUSPECT; /* may still refute */
    tn_ring *ring = tn_ring_create(list, N, TN_SERVICE_HISTORY);
    assert_int_equal(tn_ring_count(ring), N - 3);
    const tn_member *owners[N];
    assert_int_equal(tn_ring_owners(ring, tn_blob_from("key", 3), owners, N), N - 3);
    assert_ptr_equal(owners[0], tn_ring_owner(ring, tn_blob_from("key", 3)));
    for (size_t i = 0; i < N - 3; i++)
        for (size_t j = 0; j < i; j++)
            assert_ptr_not_equal(owners[i], owners[j]);
    tn_ring_destroy(ring);
    ring = tn_ring_create(list, N, TN_SERVICE_MATCHING);
    assert_null(tn_ring_owner(ring, tn_blob_from("key", 3)));
    tn_ring_destroy(ring);
}

/* Two releases side by side must agree. */
static void placement_is_fixed(void **state)
{
    (void)state;
    tn_member members[N];
    const tn_member *list[N];
    make(members, list);
    tn_ring *ring = tn_ring_create(list, N, TN_SERVICE_HISTORY);
    char got[33] = "";
    for (uint32_t key = 0; key < 16; key++)
        snprintf(got + 2 * key, 3, "%02x", owner_of(ring, key)->host_id[0]);
    assert_string_equal(got, "45231201456789786756785623121267");
    tn_ring_destroy(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(shares_are_fair_and_moves_small),
        cmocka_unit_test(only_those_who_serve),
        cmocka_unit_test(placement_is_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
