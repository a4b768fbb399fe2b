/* SPDX-License-Identifier: MIT */
/* What the files of SWIM share: swim.c (time: pings, suspicions, healing), merge.c (what news changes),
 * packet.c (wire form, and which news travels in a packet). */
#ifndef TN_MEMBERSHIP_PRIVATE_H
#define TN_MEMBERSHIP_PRIVATE_H

#include "membership/swim.h"
#include "proto/proto.h"
#include "tenon/gossip.pb-c.h"

#define SWIM_RELAYS 64
#define SWIM_BUCKETS 256
#define SWIM_SEEDS 8
#define SWIM_TOLD 16    /* members told at once that one drains or leaves */
#define SWIM_GOSSIP 3     /* members told beside the pings, each period, while there is more news than a packet holds */
#define SWIM_INDIRECT 3 /* members asked to ping for us; accusers that make a suspicion shortest */
#define SWIM_HEALTH_MAX 4 /* a slow member's time-outs are at most 5 times as long */
#define SWIM_KNOWN_MAX 20000

enum { GOSSIP_PING = 1, GOSSIP_ACK, GOSSIP_PING_REQ, GOSSIP_SYNC_REQ, GOSSIP_SYNC_DATA };

typedef struct swim_member {
    tn_member info;
    tn_map_link by_id;
    tn_list news;      /* in tn_swim.news while it is to be passed on */
    uint32_t tell;     /* times still */
    size_t place;      /* in tn_swim.known */
    uint64_t until_ns; /* SUSPECT: dead then; DEAD, LEFT: forgotten then */
    uint64_t suspect_at_ns;
    uint32_t last_words; /* its time is over: pings sent since */
    uint32_t accusers;
    uint8_t accuser_ids[SWIM_INDIRECT][16];
} swim_member;

/* A ping that we made for another. */
typedef struct swim_relay {
    uint64_t seq, asker_seq;
    char ip[46];
    uint16_t port;
} swim_relay;

struct tn_swim {
    tn_swim_options opt;
    tn_rng rng;
    tn_map by_id;
    swim_member *self;
    swim_member **known; /* all, in an order that is shuffled after each round of pings */
    size_t n_known, cap_known, cursor, n_living, n_suspects;
    tn_list news;
    bool overfull; /* the last packet had no room for all of the news */
    uint64_t digest;
    uint32_t buckets[SWIM_BUCKETS];
    uint64_t seq;
    struct {
        bool out, acked, asked;
        uint8_t target[16];
        uint64_t seq, sent_ns;
    } probe;
    uint8_t doubted[16];
    bool has_doubt;
    uint64_t period_at_ns, heal_at_ns, synced_ns;
    size_t synced_living; /* how many were known then */
    uint64_t due_ns;      /* when tn_swim_run wanted to be called */
    uint64_t
        watch_at_ns; /* the next suspicion that ends or death that is forgotten; UINT64_MAX: none */
    uint32_t health; /* 0: well */
    struct {
        char ip[46];
        uint16_t port;
    } seeds[SWIM_SEEDS]; /* asked while we are alone */
    size_t n_seeds;
    uint64_t seeds_at_ns, seeds_until_ns;
    swim_relay relays[SWIM_RELAYS];
    uint32_t next_relay;
    tn_swim_stats stats;
    tn_arena *arena; /* of the packet in work */
};

/* News takes several rounds to reach all. */
static inline bool swim_large(const tn_swim *s) { return s->n_living > 16; }
static inline bool swim_lives(const swim_member *m) { return m->info.state <= TN_MEMBER_SUSPECT; }

/* swim.c */
swim_member *swim_member_add(tn_swim *s, const uint8_t host_id[16]);
swim_member *swim_member_find(const tn_swim *s, const uint8_t host_id[16]);
void swim_watch(tn_swim *s, uint64_t at_ns);
uint64_t swim_suspicion_ns(const tn_swim *s, uint32_t accusers);

/* merge.c */
/* Takes what a member is said to be into account; wire: the same, with its accusers. */
void swim_merge(tn_swim *s, uint64_t now_ns, const tn_member *said,
                const Tenon__GossipMember *wire);
void swim_set_state(tn_swim *s, uint64_t now_ns, swim_member *m, tn_member_state state);
void swim_accuse(tn_swim *s, uint64_t now_ns, swim_member *m, const uint8_t from[16]);
/* Self says something new of itself: a higher incarnation, told to all. */
void swim_announce_self(tn_swim *s, uint64_t incarnation);
void swim_digest_toggle(tn_swim *s, const swim_member *m);
void swim_tell(tn_swim *s, swim_member *m);

/* packet.c */
typedef struct swim_out {
    uint32_t kind;
    uint64_t seq;
    const uint8_t *target; /* 16 bytes or NULL */
    const char *target_ip;
    uint16_t target_port;
    bool answer_only;
} swim_out;
/* One packet with as much news as fits; about: told first (the receiver itself when it is accused), may be NULL. */
void swim_send(tn_swim *s, const char *ip, uint16_t port, const swim_out *out, swim_member *about);
/* All members of the buckets that are marked, in as many packets as it takes. */
void swim_send_members(tn_swim *s, const char *ip, uint16_t port, const bool marked[SWIM_BUCKETS]);
Tenon__GossipPacket *swim_parse(tn_swim *s, tn_blob packet);
bool swim_parse_member(const Tenon__GossipMember *in, tn_member *out);
static inline uint32_t swim_bucket(const uint8_t host_id[16]) { return host_id[15] % SWIM_BUCKETS; }

#endif
