/* SPDX-License-Identifier: MIT */
/* Who owns a key: consistent hashing with virtual nodes.  Every host that sees the same members finds the same
 * owner; when a member comes or goes, only its share of the keys moves. */
#ifndef TN_MEMBERSHIP_RING_H
#define TN_MEMBERSHIP_RING_H

#include "membership/swim.h"

#define TN_RING_POINTS 100 /* of each member: shares then differ by about a tenth */

typedef struct tn_ring tn_ring;
/* Of those members that serve the role (copied); the order they are given in does not matter. */
tn_ring *tn_ring_create(const tn_member *const *members, size_t count, uint32_t role);
void tn_ring_destroy(tn_ring *ring); /* NULL allowed */
/* NULL: nobody has that role. Valid while the ring lives. */
const tn_member *tn_ring_owner(const tn_ring *ring, tn_blob key);
/* The first `want` different members for a key: the owner, then those who would be next. */
size_t tn_ring_owners(const tn_ring *ring, tn_blob key, const tn_member **out, size_t want);
size_t tn_ring_count(const tn_ring *ring);
const tn_member *tn_ring_at(const tn_ring *ring, size_t index); /* by host id */

#endif
