/* SPDX-License-Identifier: MIT */
/* Who is alive, told by gossip: SWIM (Das, Gupta, Motivala 2002) with suspicion, refutation by incarnation
 * numbers, and three things of Lifeguard (Dadgar, Phillips, Currey 2017): a suspicion shortens with each
 * independent accuser, the accused hears of it first, and a member that is slow itself waits longer
 * before it accuses.  Members also compare digests with each ping and exchange what differs, so
 * that lost packets and healed partitions need no luck.
 *
 * Pure: no clock, no socket, no randomness of its own.  Time and packets come in as arguments, packets and
 * changes go out through the two callbacks, chance comes from the seed.  One owner, no locks. */
#ifndef TN_MEMBERSHIP_SWIM_H
#define TN_MEMBERSHIP_SWIM_H

#include "base/base.h"
#include "config/settings.h"

typedef enum tn_member_state {
    TN_MEMBER_ALIVE = 1,
    TN_MEMBER_SUSPECT, /* did not answer; still counts until its time is over */
    TN_MEMBER_DEAD,    /* did not refute in time */
    TN_MEMBER_LEFT,    /* said so itself */
} tn_member_state;
const char *tn_member_state_name(tn_member_state state);

typedef struct tn_member { /* copied by value */
    uint8_t host_id[16];
    tn_member_state state;
    bool draining;
    uint64_t incarnation;
    uint64_t started_ms;
    char ip[46]; /* NUL-terminated, numeric */
    uint16_t port;
    uint16_t role_ports[TN_SERVICE_COUNT]; /* gRPC; 0: not that role */
    char version[24];
} tn_member;
/* Lives and takes part in the rings. */
static inline bool tn_member_serves(const tn_member *m)
{
    return (m->state == TN_MEMBER_ALIVE || m->state == TN_MEMBER_SUSPECT) && !m->draining;
}

#define TN_SWIM_PACKET_MAX \
    1344 /* bytes handed to send: below an Ethernet frame with IPv6, UDP and a MAC */

typedef struct tn_swim_options {
    tn_member self; /* state and incarnation are set by tn_swim_create */
    uint64_t seed;
    uint64_t period_ns;       /* a ping each; 250 ms */
    uint64_t ping_timeout_ns; /* then others are asked to ping; 100 ms */
    /* from suspect to dead with three accusers, longer beyond 16 members; 1 s */
    uint64_t suspect_ns;
    uint64_t heal_ns;   /* a dead one is tried again each; 5 s */
    uint64_t forget_ns; /* how long the dead are remembered; 1 h */
    void (*send)(void *user, const char *ip, uint16_t port, tn_blob packet);
    /* After a member came, changed its state or what it serves.  before: TN_MEMBER_LEFT for a new one.  Not called
     * for SUSPECT of and from, which change no ring. */
    void (*changed)(void *user, const tn_member *member, tn_member_state before);
    /* Others have said that this one is suspect or dead, which is now refuted: some may have acted on it.  May be NULL. */
    void (*refuted)(void *user);
    void *user;
} tn_swim_options;
void tn_swim_options_default(tn_swim_options *options);

typedef struct tn_swim tn_swim;
tn_swim *tn_swim_create(const tn_swim_options *options, uint64_t now_ns);
void tn_swim_destroy(tn_swim *swim);
/* Does what is due; returns when to call again: UINT64_MAX while there is nobody to watch, so that a server alone
 * never wakes for this. */
uint64_t tn_swim_run(tn_swim *swim, uint64_t now_ns);
/* A packet that came (authentic: the transport has checked its MAC).  Nonsense is dropped.  Afterwards call
 * tn_swim_run: there may be something to watch now. */
void tn_swim_receive(tn_swim *swim, uint64_t now_ns, const char *ip, uint16_t port, tn_blob packet);
/* Tells an address that we are here, and asks for all it knows; again each second, for a minute at
 * most, until we know who lives there. */
void tn_swim_join(tn_swim *swim, uint64_t now_ns, const char *ip, uint16_t port);
/* The same once. */
void tn_swim_ask(tn_swim *swim, const char *ip, uint16_t port);
/* Out of the rings, still answering: what this member owns goes to others. */
void tn_swim_drain(tn_swim *swim, uint64_t now_ns);
/* Into the rings: it began as draining, or drains no more. */
void tn_swim_serve(tn_swim *swim, uint64_t now_ns);
/* Says farewell, and again with each call, for packets may be lost. */
void tn_swim_leave(tn_swim *swim, uint64_t now_ns);
/* Declares a member dead (an operator's word); one that lives refutes it. */
bool tn_swim_evict(tn_swim *swim, uint64_t now_ns, const uint8_t host_id[16]);
/* Somebody had trouble with that member (a connection broke): it is pinged next. */
void tn_swim_doubt(tn_swim *swim, uint64_t now_ns, const uint8_t host_id[16]);

const tn_member *tn_swim_self(const tn_swim *swim);
const tn_member *tn_swim_find(const tn_swim *swim, const uint8_t host_id[16]);
/* All that are known, the dead of the last hour and self included. */
void tn_swim_each(tn_swim *swim, void (*each)(void *user, const tn_member *member), void *user);
uint64_t tn_swim_digest(const tn_swim *swim);

typedef struct tn_swim_stats {
    uint64_t pings, ping_reqs, syncs, packets_out, bytes_out, packets_in, nonsense, suspicions,
        deaths, refutations;
    uint64_t pinged;             /* how often others have pinged this one, by its own address */
    uint32_t living, remembered; /* self included; all that are known */
} tn_swim_stats;
void tn_swim_stats_get(const tn_swim *swim, tn_swim_stats *out);

#endif
