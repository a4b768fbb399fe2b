/* SPDX-License-Identifier: MIT */
/* global.membership.seeds: members whose addresses the configuration tells, beside those that have records in the store or
 * instead of them.  Names are looked up once, at the start.  Gossip asks each address again for a minute; from then on one
 * packet goes to each every 15 s, so that a host that was away at the start is met, and halves of a cluster that have never
 * heard of each other meet. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "membership/agent.h"

#define AGAIN_NS (15 * TN_SEC)

typedef struct address {
    char ip[INET6_ADDRSTRLEN];
    uint16_t port;
} address;

static struct {
    address *list;
    size_t count;
    tn_loop_timer timer;
    bool told;
} s;

/* This process itself: the list may be the same on all hosts. */
static bool is_own(const tn_members_options *o, const char *ip, uint16_t port)
{
    bool own = strcmp(ip, o->bind_ip) == 0 || (o->broadcast_ip && strcmp(ip, o->broadcast_ip) == 0);
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++)
        if (own && o->ports[i] == port)
            return true;
    return false;
}

static void add(const tn_members_options *o, const struct sockaddr *found, uint16_t port)
{
    address one = {.port = port};
    const void *bytes =
        found->sa_family == AF_INET6
            ? (const void *)&((const struct sockaddr_in6 *)(const void *)found)->sin6_addr
            : (const void *)&((const struct sockaddr_in *)(const void *)found)->sin_addr;
    if (!inet_ntop(found->sa_family, bytes, one.ip, sizeof(one.ip)) || is_own(o, one.ip, port))
        return;
    for (size_t i = 0; i < s.count; i++)
        if (s.list[i].port == port && strcmp(s.list[i].ip, one.ip) == 0)
            return;
    s.list = tn_xrealloc(s.list, (s.count + 1) * sizeof(s.list[0]));
    s.list[s.count++] = one;
}

static void look_up(const tn_members_options *o, const char *text)
{
    char host[256];
    const char *from = text, *colon = strrchr(text, ':'), *end = colon;
    uint64_t port = 0;
    if (!colon || !tn_parse_u64(tn_str_from(colon + 1), &port) || port == 0 || port > UINT16_MAX)
        return; /* which the configuration's check has refused */
    if (end > from && from[0] == '[' && end[-1] == ']')
        from++, end--;
    if (end <= from || (size_t)(end - from) >= sizeof(host))
        return;
    memcpy(host, from, (size_t)(end - from));
    host[end - from] = '\0';
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM}, *found = NULL;
    int failed = getaddrinfo(host, NULL, &hints, &found);
    if (failed) {
        TN_LOG(TN_LOG_WARN, "membership", "a seed's name is not known", TN_LOG_Z("seed", text),
               TN_LOG_Z("why", gai_strerror(failed)),
               TN_LOG_Z("fix", "global.membership.seeds: write addresses, or names that are known "
                               "when the process starts"));
        return;
    }
    for (const struct addrinfo *a = found; a; a = a->ai_next)
        if (a->ai_family == AF_INET || a->ai_family == AF_INET6)
            add(o, a->ai_addr, (uint16_t)port);
    freeaddrinfo(found);
}

void tn_seeds_look_up(const tn_members_options *options)
{
    for (size_t i = 0; i < options->n_seeds; i++)
        look_up(options, options->seeds[i]);
}

static void ask_again(tn_loop_timer *timer)
{
    if (tn_agent_alone() && !s.told) {
        char first[INET6_ADDRSTRLEN + 8];
        snprintf(first, sizeof(first), "%s:%u", s.list[0].ip, s.list[0].port);
        TN_LOG(
            TN_LOG_WARN, "membership", "no other member is known, and no seed answers",
            TN_LOG_U("seeds", s.count), TN_LOG_Z("first", first),
            TN_LOG_Z("fix",
                     "seeds are membership ports (UDP) of members with the same store; packets of "
                     "another "
                     "cluster are dropped there and counted in tenon_membership_packets_refused"));
        s.told = true;
    }
    for (size_t i = 0; i < s.count; i++)
        tn_agent_ask(s.list[i].ip, s.list[i].port);
    tn_loop_timer_start(timer, tn_now_mono_ns() + AGAIN_NS);
}

void tn_seeds_start(void)
{
    for (size_t i = 0; i < s.count; i++)
        tn_agent_meet(s.list[i].ip, s.list[i].port);
    tn_loop_timer_init(&s.timer, ask_again);
    if (s.count)
        tn_loop_timer_start(&s.timer, tn_now_mono_ns() + 3 * TN_SEC);
}

void tn_seeds_stop(void)
{
    if (s.timer.fire)
        tn_loop_timer_stop(&s.timer);
    free(s.list);
    s.list = NULL;
    s.count = 0;
}
