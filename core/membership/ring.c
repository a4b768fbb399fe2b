/* SPDX-License-Identifier: MIT */
/* The ring: the members' points, sorted by hash.  A point is the hash of a host id and a number, a key belongs to the
 * first point at or after its own hash. */
#include <stdlib.h>

#include "membership/ring.h"

typedef struct point {
    uint64_t hash;
    uint32_t member;
} point;

struct tn_ring {
    tn_member *members;
    size_t n_members;
    point *points;
    size_t n_points;
};

static int by_host_id(const void *a, const void *b)
{
    return memcmp(((const tn_member *)a)->host_id, ((const tn_member *)b)->host_id, 16);
}

/* Equal hashes are settled by the host id, alike everywhere. */
static int by_hash(const void *a, const void *b)
{
    const point *p = a, *q = b;
    if (p->hash != q->hash)
        return p->hash < q->hash ? -1 : 1;
    return p->member < q->member ? -1 : p->member > q->member;
}

tn_ring *tn_ring_create(const tn_member *const *members, size_t count, uint32_t role)
{
    TN_ASSERT(role < TN_SERVICE_COUNT);
    tn_ring *ring = tn_xcalloc(1, sizeof(*ring));
    ring->members = tn_xcalloc(count + 1, sizeof(ring->members[0]));
    for (size_t i = 0; i < count; i++)
        if (tn_member_serves(members[i]) && members[i]->role_ports[role])
            ring->members[ring->n_members++] = *members[i];
    qsort(ring->members, ring->n_members, sizeof(ring->members[0]), by_host_id);
    ring->points = tn_xcalloc(ring->n_members * TN_RING_POINTS + 1, sizeof(ring->points[0]));
    for (size_t i = 0; i < ring->n_members; i++) {
        for (uint32_t n = 0; n < TN_RING_POINTS; n++) {
            uint8_t number[4];
            tn_put_u32be(number, n);
            ring->points[ring->n_points++] =
                (point){.hash = tn_hash64_stable(tn_blob_from(ring->members[i].host_id, 16),
                                                 tn_blob_from(number, sizeof(number))),
                        .member = (uint32_t)i};
        }
    }
    qsort(ring->points, ring->n_points, sizeof(ring->points[0]), by_hash);
    return ring;
}

void tn_ring_destroy(tn_ring *ring)
{
    if (!ring)
        return;
    free(ring->points);
    free(ring->members);
    free(ring);
}

static size_t first_at(const tn_ring *ring, uint64_t hash)
{
    size_t low = 0, high = ring->n_points;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (ring->points[mid].hash < hash)
            low = mid + 1;
        else
            high = mid;
    }
    return low == ring->n_points ? 0 : low;
}

const tn_member *tn_ring_owner(const tn_ring *ring, tn_blob key)
{
    if (!ring || !ring->n_points)
        return NULL;
    size_t at = first_at(ring, tn_hash64_stable(key, (tn_blob){0}));
    return &ring->members[ring->points[at].member];
}

size_t tn_ring_owners(const tn_ring *ring, tn_blob key, const tn_member **out, size_t want)
{
    if (!ring || !ring->n_points)
        return 0;
    size_t found = 0, at = first_at(ring, tn_hash64_stable(key, (tn_blob){0}));
    for (size_t i = 0; i < ring->n_points && found < want && found < ring->n_members; i++) {
        const tn_member *m = &ring->members[ring->points[(at + i) % ring->n_points].member];
        size_t seen = 0;
        while (seen < found && out[seen] != m)
            seen++;
        if (seen == found)
            out[found++] = m;
    }
    return found;
}

size_t tn_ring_count(const tn_ring *ring) { return ring ? ring->n_members : 0; }

const tn_member *tn_ring_at(const tn_ring *ring, size_t index) { return &ring->members[index]; }
