/* SPDX-License-Identifier: MIT */
/* Intrusive hash map with byte-string keys.  The object embeds a tn_map_link; the map holds only an
 * array of buckets, seeded SipHash keeps a peer from choosing collisions.  One owner, no locks. */
#ifndef TN_BASE_MAP_H
#define TN_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include <tenon/plugin.h>

typedef struct tn_map_link {
    struct tn_map_link *next;
    uint64_t hash;
    tn_blob key; /* points into the embedding object; must stay valid while linked */
} tn_map_link;

typedef struct tn_map {
    tn_map_link **buckets;
    size_t bucket_count; /* 0 until the first insert, then a power of two */
    size_t count;
    uint32_t walking; /* inside tn_map_each: the table keeps its size */
} tn_map;

void tn_map_init(tn_map *map);
void tn_map_done(tn_map *map); /* frees the buckets, not the objects */
tn_map_link *tn_map_find(const tn_map *map, tn_blob key);
/* The key must not be in the map (asserted in debug builds). */
void tn_map_insert(tn_map *map, tn_map_link *link, tn_blob key);
void tn_map_remove(tn_map *map, tn_map_link *link);
/* Walks every link; the callback may remove the link it is given and no other,
 * and inserts nothing. */
void tn_map_each(tn_map *map, void (*each)(void *user, tn_map_link *link), void *user);

uint64_t tn_hash64(tn_blob bytes);               /* seeded per process: for maps          */
uint64_t tn_hash64_stable(tn_blob a, tn_blob b); /* never changes: for shards, partitions */

#endif
