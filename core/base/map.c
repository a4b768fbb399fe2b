/* SPDX-License-Identifier: MIT */
/* The hash map: chains in a table of a power of two, doubled at load 1, halved at load 1/8. */
#include "base/map.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/siphash.h"

#define BUCKETS_MIN 8u

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void seed_make(void) { tn_random_bytes(seed, sizeof seed); }

uint64_t tn_hash64(tn_blob bytes)
{
    pthread_once(&seed_once, seed_make);
    return tn_siphash13(seed[0], seed[1], bytes.p, bytes.n);
}

/* The definition, for ever: h = SipHash-2-4 of a under the zero key; the result is SipHash-2-4 of b
 * under the key (h, length of a).  Keys of stores and the ring depend on it. */
uint64_t tn_hash64_stable(tn_blob a, tn_blob b)
{
    uint64_t h = tn_siphash24(0, 0, a.p, a.n);
    return tn_siphash24(h, (uint64_t)a.n, b.p, b.n);
}

void tn_map_init(tn_map *map) { *map = (tn_map){0}; }

void tn_map_done(tn_map *map)
{
    free(map->buckets);
    *map = (tn_map){0};
}

static void resize(tn_map *map, size_t bucket_count)
{
    tn_map_link **buckets = tn_xcalloc(bucket_count, sizeof *buckets);
    for (size_t i = 0; i < map->bucket_count; i++) {
        for (tn_map_link *link = map->buckets[i], *next; link; link = next) {
            next = link->next;
            tn_map_link **at = &buckets[link->hash & (bucket_count - 1)];
            link->next = *at;
            *at = link;
        }
    }
    free(map->buckets);
    map->buckets = buckets;
    map->bucket_count = bucket_count;
}

static tn_map_link *find_hashed(const tn_map *map, tn_blob key, uint64_t hash)
{
    if (!map->bucket_count)
        return NULL;
    tn_map_link *link = map->buckets[hash & (map->bucket_count - 1)];
    while (link && !(link->hash == hash && tn_blob_eq(link->key, key)))
        link = link->next;
    return link;
}

tn_map_link *tn_map_find(const tn_map *map, tn_blob key)
{
    return map->count ? find_hashed(map, key, tn_hash64(key)) : NULL;
}

void tn_map_insert(tn_map *map, tn_map_link *link, tn_blob key)
{
    link->key = key;
    link->hash = tn_hash64(key);
    TN_DEBUG_ASSERT(!find_hashed(map, key, link->hash));
    if (map->count >= map->bucket_count)
        resize(map, map->bucket_count ? map->bucket_count * 2 : BUCKETS_MIN);
    tn_map_link **at = &map->buckets[link->hash & (map->bucket_count - 1)];
    link->next = *at;
    *at = link;
    map->count++;
}

static void unlink_from_chain(tn_map *map, tn_map_link *link)
{
    TN_ASSERT(map->bucket_count);
    tn_map_link **at = &map->buckets[link->hash & (map->bucket_count - 1)];
    while (*at && *at != link)
        at = &(*at)->next;
    TN_ASSERT(*at == link);
    *at = link->next;
    link->next = NULL;
    map->count--;
}

static void shrink(tn_map *map)
{
    size_t bucket_count = map->bucket_count;
    while (bucket_count > BUCKETS_MIN && map->count < bucket_count / 8)
        bucket_count /= 2;
    if (bucket_count < map->bucket_count)
        resize(map, bucket_count);
}

void tn_map_remove(tn_map *map, tn_map_link *link)
{
    unlink_from_chain(map, link);
    if (!map->walking)
        shrink(map);
}

void tn_map_each(tn_map *map, void (*each)(void *user, tn_map_link *link), void *user)
{
    map->walking++; /* no change of the table under the walk */
    for (size_t i = 0; i < map->bucket_count; i++) {
        for (tn_map_link *link = map->buckets[i], *next; link; link = next) {
            next = link->next;
            each(user, link);
        }
    }
    if (--map->walking == 0 && map->bucket_count)
        shrink(map);
}
