/* SPDX-License-Identifier: MIT */
/* The members that SWIM knows: kept in chunks that never move, found by id and by address, in the order in which they
 * are pinged, and those of whom there is news in a queue.  A packet names dozens of members and nearly all it says is known:
 * one look into an index of 4 bytes each and one line of the member must do. */
#include <stdlib.h>

#include "membership/private.h"

/* ---- indices ---- */

static uint32_t hash_id(const uint8_t id[16])
{
    return (uint32_t)id[15] << 24 | (uint32_t)id[14] << 16 | (uint32_t)id[13] << 8 | id[12];
}

static uint32_t hash_address(const char *ip, uint16_t port)
{
    uint32_t h = 2166136261u ^ port;
    for (; *ip; ip++)
        h = (h ^ (uint8_t)*ip) * 16777619u;
    h = (h ^ h >> 15) * 0x85ebca6bu;
    return h ^ h >> 13;
}

static uint32_t hash_of(const tn_swim *s, const swim_index *index, const swim_member *m)
{
    return index == &s->by_id ? hash_id(m->id) : hash_address(swim_info(m)->ip, swim_info(m)->port);
}

static uint32_t home(const swim_index *x, uint32_t hash) { return hash >> (32 - x->bits); }
static uint32_t mask(const swim_index *x) { return (1u << x->bits) - 1; }

static void put(swim_index *x, uint32_t hash, uint32_t index)
{
    uint32_t at = home(x, hash);
    while (x->slots[at])
        at = (at + 1) & mask(x);
    x->slots[at] = hash << 16 | (index + 1);
}

static void index_add(tn_swim *s, swim_index *x, swim_member *m)
{
    if (2 * (x->count + 1) > 1u << x->bits) {
        swim_index old = *x;
        x->bits++;
        x->slots = tn_xcalloc((size_t)1 << x->bits, sizeof(x->slots[0]));
        for (uint32_t i = 0; i <= mask(&old); i++) {
            uint32_t slot = old.slots[i];
            if (slot)
                put(x, hash_of(s, x, swim_member_at(s, (slot & 0xffff) - 1)), (slot & 0xffff) - 1);
        }
        free(old.slots);
    }
    put(x, hash_of(s, x, m), m->index);
    x->count++;
}

/* Those behind it move up, unless they would come before their home. */
static void index_remove(tn_swim *s, swim_index *x, const swim_member *m)
{
    uint32_t hole = home(x, hash_of(s, x, m));
    while (x->slots[hole] && (x->slots[hole] & 0xffff) != m->index + 1u)
        hole = (hole + 1) & mask(x);
    TN_ASSERT(x->slots[hole]);
    for (uint32_t at = (hole + 1) & mask(x); x->slots[at]; at = (at + 1) & mask(x)) {
        uint32_t wants = home(x, hash_of(s, x, swim_member_at(s, (x->slots[at] & 0xffff) - 1)));
        if (((at - wants) & mask(x)) < ((at - hole) & mask(x)))
            continue;
        x->slots[hole] = x->slots[at];
        hole = at;
    }
    x->slots[hole] = 0;
    x->count--;
}

swim_member *swim_member_find(const tn_swim *s, const uint8_t host_id[16])
{
    uint32_t hash = hash_id(host_id), tag = hash & 0xffff;
    const swim_index *x = &s->by_id;
    for (uint32_t at = home(x, hash), slot; (slot = x->slots[at]); at = (at + 1) & mask(x)) {
        if (slot >> 16 != tag)
            continue;
        swim_member *m = swim_member_at(s, (slot & 0xffff) - 1);
        if (memcmp(m->id, host_id, 16) == 0)
            return m;
    }
    return NULL;
}

swim_member *swim_member_prefetch(const tn_swim *s, const uint8_t host_id[16])
{
    uint32_t hash = hash_id(host_id), tag = hash & 0xffff;
    const swim_index *x = &s->by_id;
    for (uint32_t at = home(x, hash), slot; (slot = x->slots[at]); at = (at + 1) & mask(x)) {
        if (slot >> 16 != tag)
            continue;
        swim_member *m = swim_member_at(s, (slot & 0xffff) - 1);
        __builtin_prefetch(m);
        return m;
    }
    return NULL;
}

swim_member *swim_member_at_address(const tn_swim *s, const char *ip, uint16_t port, uint32_t *walk)
{
    const swim_index *x = &s->by_address;
    uint32_t hash = hash_address(ip, port), slot;
    while ((slot = x->slots[(home(x, hash) + *walk) & mask(x)])) {
        ++*walk;
        if (slot >> 16 != (hash & 0xffff))
            continue;
        swim_member *m = swim_member_at(s, (slot & 0xffff) - 1);
        if (swim_info(m)->port == port && strcmp(swim_info(m)->ip, ip) == 0)
            return m;
    }
    return NULL;
}

/* The buckets are the first 8 bits of the hash: their members lie together, and a run may reach into the next. */
swim_member *swim_member_in_bucket(const tn_swim *s, uint32_t bucket, uint32_t *walk)
{
    const swim_index *x = &s->by_id;
    uint32_t first = home(x, bucket << 24), last = home(x, bucket << 24 | 0xffffff), slot;
    for (; first + *walk <= last || (x->slots[(first + *walk) & mask(x)] && *walk <= mask(x));) {
        slot = x->slots[(first + (*walk)++) & mask(x)];
        if (!slot)
            continue;
        swim_member *m = swim_member_at(s, (slot & 0xffff) - 1);
        if (swim_bucket(m->id) == bucket)
            return m;
    }
    return NULL;
}

/* ---- members ---- */

static swim_member *take_unused(tn_swim *s)
{
    if (!s->n_unused) {
        swim_chunk *chunk = aligned_alloc(64, (sizeof(*chunk) + 63) / 64 * 64);
        TN_ASSERT(chunk && s->n_chunks < SWIM_CHUNKS);
        memset(chunk, 0, sizeof(*chunk));
        s->unused =
            tn_xreallocarray(s->unused, (s->n_chunks + 1) * SWIM_CHUNK, sizeof(s->unused[0]));
        for (size_t i = SWIM_CHUNK; i-- > 0;)
            s->unused[s->n_unused++] = (uint16_t)(s->n_chunks * SWIM_CHUNK + i);
        s->chunks[s->n_chunks++] = chunk;
    }
    uint16_t index = s->unused[--s->n_unused];
    swim_member *m = swim_member_at(s, index);
    memset(m, 0, sizeof(*m));
    m->index = index;
    memset(swim_cold_of(m), 0, sizeof(swim_cold));
    return m;
}

static void swap_places(tn_swim *s, swim_member *m, size_t at)
{
    swim_member *other = s->known[at];
    s->known[m->place] = other;
    other->place = m->place;
    s->known[at] = m;
    m->place = (uint16_t)at;
}

/* A newcomer takes a place by chance among those still to be pinged in this round. */
swim_member *swim_member_add(tn_swim *s, const uint8_t host_id[16])
{
    if (s->n_known >= SWIM_KNOWN_MAX)
        return NULL;
    if (s->n_known == s->cap_known) {
        s->cap_known = s->cap_known ? 2 * s->cap_known : 16;
        s->known = tn_xreallocarray(s->known, s->cap_known, sizeof(s->known[0]));
    }
    swim_member *m = take_unused(s);
    memcpy(m->id, host_id, 16);
    memcpy(swim_info(m)->host_id, host_id, 16);
    m->queued = SWIM_UNTOLD;
    index_add(s, &s->by_id, m);
    size_t at = (size_t)tn_rng_below(&s->rng, s->n_known + 1);
    m->place = (uint16_t)s->n_known;
    s->known[s->n_known++] = m;
    swap_places(s, m, at);
    return m;
}

void swim_member_forget(tn_swim *s, swim_member *m)
{
    swim_news_remove(s, m);
    swim_member_end(s, m, UINT64_MAX);
    index_remove(s, &s->by_id, m);
    if (swim_info(m)->port)
        index_remove(s, &s->by_address, m);
    swim_member *last = s->known[--s->n_known];
    s->known[m->place] = last;
    last->place = m->place;
    s->unused[s->n_unused++] = m->index;
}

void swim_member_describe(tn_swim *s, swim_member *m, const tn_member *said)
{
    tn_member *info = swim_info(m);
    bool moved = info->port != said->port || strcmp(info->ip, said->ip) != 0;
    if (moved && info->port)
        index_remove(s, &s->by_address, m);
    *info = *said;
    info->state = m->state;
    m->incarnation = said->incarnation;
    if (moved && info->port)
        index_add(s, &s->by_address, m);
}

void swim_member_end(tn_swim *s, swim_member *m, uint64_t at_ns)
{
    if (at_ns == UINT64_MAX)
        tn_heap_remove(&s->ends, &m->end);
    else if (m->end.place)
        tn_heap_change(&s->ends, &m->end, at_ns);
    else
        tn_heap_insert(&s->ends, &m->end, at_ns);
}

/* ---- news ---- */

void swim_news_remove(tn_swim *s, swim_member *m)
{
    if (m->queued == SWIM_UNTOLD)
        return;
    s->news[m->queued] = NULL;
    m->queued = SWIM_UNTOLD;
    s->n_news--;
}

/* Without its holes, and twice as large where that was not enough. */
static void news_grow(tn_swim *s)
{
    uint32_t cap = s->n_news < s->news_cap / 2 ? s->news_cap
                   : s->news_cap               ? 2 * s->news_cap
                                               : 16,
             n = 0;
    swim_member **news = tn_xcalloc(cap, sizeof(news[0]));
    for (uint32_t at = s->news_head; at != s->news_tail; at++) {
        swim_member *m = s->news[at & (s->news_cap - 1)];
        if (!m)
            continue;
        m->queued = n;
        news[n++] = m;
    }
    free(s->news);
    s->news = news;
    s->news_cap = cap;
    s->news_head = 0;
    s->news_tail = n;
}

void swim_news_put(tn_swim *s, swim_member *m, bool first)
{
    swim_news_remove(s, m);
    if (s->news_tail - s->news_head >= s->news_cap)
        news_grow(s);
    m->queued = (first ? --s->news_head : s->news_tail++) & (s->news_cap - 1);
    s->news[m->queued] = m;
    s->n_news++;
}

/* ---- life ---- */

void swim_members_init(tn_swim *s)
{
    tn_heap_init(&s->ends);
    s->by_id.bits = s->by_address.bits = 8;
    s->by_id.slots = tn_xcalloc(256, sizeof(s->by_id.slots[0]));
    s->by_address.slots = tn_xcalloc(256, sizeof(s->by_address.slots[0]));
}

void swim_members_done(tn_swim *s)
{
    for (size_t i = 0; i < s->n_chunks; i++)
        free(s->chunks[i]);
    free(s->unused);
    free(s->known);
    free(s->news);
    free(s->by_id.slots);
    free(s->by_address.slots);
    tn_heap_done(&s->ends);
}
