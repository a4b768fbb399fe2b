/* SPDX-License-Identifier: MIT */
/* Circuit breakers, in memory, one set a loop: what they know is of little worth to another process. */
#include "history/breaker.h"

#include <stdlib.h>

#define OUT_MAX 100u
#define BUSY_NS (100 * TN_MS)
#define FORGET_ABOVE 1000u /* then quiet ones go */

static const tn_breaker_rule rule = {
    .failures_max = 5, .open_ns = 60 * TN_SEC, .open_max_ns = 60 * TN_SEC, .try_ns = UINT64_MAX};

typedef struct breaker {
    tn_map_link link;
    tn_breaker state;
    uint32_t out;
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
    if (!q->every && (b->out || b->state.failures))
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

uint64_t tn_breakers_wait_ns(tn_breakers *all, tn_str ns_id, tn_str destination, uint64_t now_ns)
{
    breaker *b = get(all, ns_id, destination);
    if (b->out >= OUT_MAX && !tn_breaker_is_open(&b->state))
        return BUSY_NS;
    uint64_t wait_ns = tn_breaker_wait_ns(&b->state, &rule, now_ns);
    if (wait_ns)
        return b->state.tried_ns ? TN_SEC : wait_ns;
    b->out++;
    return 0;
}

void tn_breakers_report(tn_breakers *all, tn_str ns_id, tn_str destination, bool down,
                        uint64_t now_ns)
{
    breaker *b = get(all, ns_id, destination);
    if (b->out)
        b->out--;
    if (down)
        (void)tn_breaker_failed(&b->state, &rule, now_ns);
    else
        (void)tn_breaker_succeeded(&b->state);
}

bool tn_breakers_are_open(const tn_breakers *all, tn_str ns_id, tn_str destination)
{
    const breaker *b = find(all, ns_id, destination);
    return b && tn_breaker_is_open(&b->state);
}
