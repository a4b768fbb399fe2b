/* SPDX-License-Identifier: MIT */
/* Circuit breakers, in memory, one set a loop: what they know is of little worth to another process. */
#include "history/breaker.h"

#include <stdlib.h>

#define FAILURES_MAX 5u
#define OPEN_NS (60 * TN_SEC)
#define OUT_MAX 100u
#define BUSY_NS (100 * TN_MS)
#define FORGET_ABOVE 1000u /* then quiet ones go */

typedef struct breaker {
    tn_map_link link;
    uint32_t failures, out;
    uint64_t open_until_ns; /* 0: closed */
    bool trying;            /* the one request that finds out */
    size_t key_n;
    char key[];
} breaker;

void tn_breakers_init(tn_breakers *all) { tn_map_init(&all->map); }

static tn_blob key_of(tn_buf *buf, tn_str ns_id, tn_str destination)
{
    tn_buf_put(buf, ns_id.p, ns_id.n);
    tn_buf_put_u8(buf, 0);
    tn_buf_put(buf, destination.p, destination.n);
    return tn_buf_blob(buf);
}

static breaker *find(const tn_breakers *all, tn_str ns_id, tn_str destination)
{
    tn_buf buf = {0};
    tn_map_link *link = tn_map_find(&all->map, key_of(&buf, ns_id, destination));
    tn_buf_done(&buf);
    return link ? TN_CONTAINER_OF(link, breaker, link) : NULL;
}

typedef struct quiet {
    tn_breakers *all;
    bool every;
} quiet;

static void forget(void *user, tn_map_link *link)
{
    quiet *q = user;
    breaker *b = TN_CONTAINER_OF(link, breaker, link);
    if (!q->every && (b->out || b->failures))
        return;
    tn_map_remove(&q->all->map, link);
    free(b);
}

void tn_breakers_done(tn_breakers *all)
{
    quiet q = {all, true};
    tn_map_each(&all->map, forget, &q);
    tn_map_done(&all->map);
}

static breaker *get(tn_breakers *all, tn_str ns_id, tn_str destination)
{
    breaker *b = find(all, ns_id, destination);
    if (b)
        return b;
    if (all->map.count >= FORGET_ABOVE) {
        quiet q = {all, false};
        tn_map_each(&all->map, forget, &q);
    }
    tn_buf buf = {0};
    tn_blob key = key_of(&buf, ns_id, destination);
    b = tn_xcalloc(1, sizeof(*b) + key.n);
    b->key_n = key.n;
    memcpy(b->key, key.p, key.n);
    tn_buf_done(&buf);
    tn_map_insert(&all->map, &b->link, tn_blob_from(b->key, b->key_n));
    return b;
}

uint64_t tn_breaker_wait_ns(tn_breakers *all, tn_str ns_id, tn_str destination, uint64_t now_ns)
{
    breaker *b = get(all, ns_id, destination);
    if (b->open_until_ns > now_ns)
        return b->open_until_ns - now_ns;
    if (b->trying || b->out >= OUT_MAX)
        return b->trying ? TN_SEC : BUSY_NS;
    b->trying = b->open_until_ns != 0;
    b->out++;
    return 0;
}

void tn_breaker_report(tn_breakers *all, tn_str ns_id, tn_str destination, bool down,
                       uint64_t now_ns)
{
    breaker *b = get(all, ns_id, destination);
    bool tried = b->trying;
    if (b->out)
        b->out--;
    b->trying = false;
    if (!down) {
        b->failures = 0;
        b->open_until_ns = 0;
        return;
    }
    b->failures++;
    if (tried || b->failures > FAILURES_MAX)
        b->open_until_ns = now_ns + OPEN_NS;
}

bool tn_breaker_is_open(const tn_breakers *all, tn_str ns_id, tn_str destination)
{
    const breaker *b = find(all, ns_id, destination);
    return b && b->open_until_ns != 0;
}
