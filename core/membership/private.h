/* SPDX-License-Identifier: MIT */
/* What the files of SWIM share: swim.c (time: pings, suspicions, healing), merge.c (what news changes),
 * members.c (members, indices, the queue of news), packet.c (wire form, and which news travels in a packet). */
#ifndef TN_MEMBERSHIP_PRIVATE_H
#define TN_MEMBERSHIP_PRIVATE_H

#include "membership/swim.h"

#define SWIM_RELAYS 64
#define SWIM_BUCKETS 256
#define SWIM_SEEDS 8
#define SWIM_TOLD 16 /* members told at once that one drains or leaves */
#define SWIM_GOSSIP \
    3 /* members told beside the pings, each period, while there is more news than a packet holds */
#define SWIM_INDIRECT 3 /* members asked to ping for us; accusers that make a suspicion shortest */
#define SWIM_ASKED_AGAIN \
    6 /* in a large cluster, where with losses somebody misses every answer and all hear of it */
#define SWIM_HEALTH_MAX 4 /* a slow member's time-outs are at most 5 times as long */
#define SWIM_KNOWN_MAX 20000

enum { GOSSIP_PING = 1, GOSSIP_ACK, GOSSIP_PING_REQ, GOSSIP_SYNC_REQ, GOSSIP_SYNC_DATA };

/* What nearly every packet asks of a member, in a line of the cache: most of what comes is known already. */
typedef struct swim_member {
    uint8_t id[16];
    uint64_t incarnation;
    tn_heap_node end; /* in tn_swim.ends; SUSPECT: dead then; DEAD, LEFT: forgotten then */
    uint64_t suspect_at_ns;
    /* place in tn_swim.news while it is to be passed on; else SWIM_UNTOLD */
    uint32_t queued;
    uint16_t place, index; /* in tn_swim.known; in the chunks */
    uint8_t state, n_accusers;
    uint8_t last_words; /* its time is over: pings sent since */
    uint8_t tell;       /* times still */
} __attribute__((aligned(64))) swim_member;
_Static_assert(sizeof(swim_member) == 64, "a line of the cache");

typedef struct swim_cold {
    tn_member info; /* state and incarnation are kept equal */
    uint8_t accusers[SWIM_INDIRECT][16];
} swim_cold;

#define SWIM_CHUNK 64
#define SWIM_CHUNKS ((SWIM_KNOWN_MAX + SWIM_CHUNK - 1) / SWIM_CHUNK)
#define SWIM_UNTOLD UINT32_MAX
typedef struct swim_chunk {
    swim_member members[SWIM_CHUNK];
    swim_cold cold[SWIM_CHUNK];
} swim_chunk;

/* Hash to index of a member: open addressing, in the order of the hashes. */
typedef struct swim_index {
    uint32_t *slots; /* 16 bits of hash, index + 1; 0: empty */
    uint32_t count, bits;
} swim_index;

/* A ping that we made for another. */
typedef struct swim_relay {
    uint64_t asker_seq;
    char ip[46];
    uint16_t port;
} swim_relay;

struct tn_swim {
    tn_swim_options opt;
    tn_rng rng;
    swim_index by_id, by_address; /* by_id: in the order of the buckets */
    swim_chunk *chunks[SWIM_CHUNKS];
    uint16_t *unused; /* indices of the chunks */
    size_t n_unused, n_chunks;
    swim_member *self;
    swim_member **known; /* all, in an order that is shuffled after each round of pings */
    size_t n_known, cap_known, cursor, n_living, n_suspects;
    tn_heap ends;
    swim_member **news; /* a ring, with holes; the next to be told at news_head */
    uint32_t news_head, news_tail, news_cap, n_news;
    bool overfull; /* the last packet had no room for all of the news */
    uint64_t digest;
    uint32_t buckets[SWIM_BUCKETS];
    uint64_t seq;
    struct {
        bool out, acked;
        uint8_t asked; /* times that others were asked */
        uint8_t target[16];
        uint64_t seq, sent_ns;
    } probe;
    uint8_t doubted[16];
    bool has_doubt;
    uint64_t period_at_ns, heal_at_ns, synced_ns;
    size_t synced_living; /* how many were known then */
    uint64_t due_ns;      /* when tn_swim_run wanted to be called */
    uint32_t health;      /* 0: well */
    struct {
        char ip[46];
        uint16_t port;
    } seeds[SWIM_SEEDS]; /* asked while we are alone */
    size_t n_seeds;
    uint64_t seeds_at_ns, seeds_until_ns;
    swim_relay relays[SWIM_RELAYS];
    uint64_t relay_seqs[SWIM_RELAYS]; /* 0: answered */
    uint32_t next_relay;
    tn_swim_stats stats;
};

/* News takes several rounds to reach all. */
static inline bool swim_large(const tn_swim *s) { return s->n_living > 16; }
static inline bool swim_lives(const swim_member *m) { return m->state <= TN_MEMBER_SUSPECT; }
static inline swim_cold *swim_cold_of(const swim_member *m)
{
    swim_chunk *chunk = (swim_chunk *)(uintptr_t)(m - m->index % SWIM_CHUNK);
    return &chunk->cold[m->index % SWIM_CHUNK];
}
static inline tn_member *swim_info(const swim_member *m) { return &swim_cold_of(m)->info; }
static inline swim_member *swim_member_at(const tn_swim *s, uint32_t index)
{
    return &s->chunks[index / SWIM_CHUNK]->members[index % SWIM_CHUNK];
}
static inline uint32_t swim_bucket(const uint8_t host_id[16]) { return host_id[15] % SWIM_BUCKETS; }

/* members.c */
void swim_members_init(tn_swim *s);
void swim_members_done(tn_swim *s);
swim_member *swim_member_add(tn_swim *s, const uint8_t host_id[16]); /* NULL: too many */
swim_member *swim_member_find(const tn_swim *s, const uint8_t host_id[16]);
/* Who may have that id; it is fetched meanwhile. */
swim_member *swim_member_prefetch(const tn_swim *s, const uint8_t host_id[16]);
void swim_member_forget(tn_swim *s, swim_member *m);
/* Every change of the address goes through here. */
void swim_member_describe(tn_swim *s, swim_member *m, const tn_member *said);
/* One after the other at that address; *walk is 0 first.  NULL: no more. */
swim_member *swim_member_at_address(const tn_swim *s, const char *ip, uint16_t port,
                                    uint32_t *walk);
/* The members of a bucket, likewise. */
swim_member *swim_member_in_bucket(const tn_swim *s, uint32_t bucket, uint32_t *walk);
/* When its suspicion ends, or it is forgotten; UINT64_MAX: never. */
void swim_member_end(tn_swim *s, swim_member *m, uint64_t at_ns);
static inline uint64_t swim_next_end(const tn_swim *s)
{
    return s->ends.count ? s->ends.nodes[0]->key : UINT64_MAX;
}
/* In the queue of news, first or last; it leaves its former place there. */
void swim_news_put(tn_swim *s, swim_member *m, bool first);
void swim_news_remove(tn_swim *s, swim_member *m);

/* swim.c */
uint64_t swim_suspicion_ns(const tn_swim *s, uint32_t accusers);

/* packet.c: what came */
typedef struct swim_packet {
    uint32_t kind, target_port;
    uint64_t seq, digest;
    const uint8_t *from, *target; /* 16 bytes; target may be NULL */
    char target_ip[46];
    bool quiet, answer_only;
    const uint8_t *buckets; /* little-endian */
    size_t n_buckets;
    const uint8_t *news, *end; /* from the first piece of news on */
} swim_packet;

typedef struct swim_said {
    tn_member is;
    const uint8_t *accusers[2 * SWIM_INDIRECT];
    uint32_t n_accusers;
} swim_said;

/* One piece of news: what most often shows that it is old. */
typedef struct swim_item {
    const uint8_t *p, *id; /* id: NULL: not as we write it */
    size_t n;
    uint64_t incarnation;
    uint32_t state;
    swim_member *perhaps; /* who may be meant; it is on its way into the cache */
} swim_item;

bool swim_parse(tn_blob packet, swim_packet *out);
/* Up to n_max pieces of news; *at goes on. */
size_t swim_parse_news(const uint8_t **at, const uint8_t *end, swim_item *out, size_t n_max);
bool swim_parse_member(const swim_item *item, swim_said *out);

/* merge.c */
/* Nothing can come of it. */
bool swim_is_old(tn_swim *s, const swim_item *item);
/* Takes what a member is said to be into account. */
void swim_merge(tn_swim *s, uint64_t now_ns, const swim_said *said);
void swim_set_state(tn_swim *s, uint64_t now_ns, swim_member *m, tn_member_state state);
bool swim_accuses(const swim_member *m,
                  const uint8_t host_id[16]); /* whether that one accuses it */
void swim_accuse(tn_swim *s, uint64_t now_ns, swim_member *m, const uint8_t from[16]);
/* Self says something new of itself: a higher incarnation, told to all. */
void swim_announce_self(tn_swim *s, uint64_t incarnation);
void swim_digest_toggle(tn_swim *s, const swim_member *m);
void swim_tell(tn_swim *s, swim_member *m);

/* packet.c: what goes */
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

#endif
