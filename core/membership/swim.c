/* SPDX-License-Identifier: MIT */
/* SWIM's time: a round of pings in shuffled order, indirect pings, suspicions that end, the dead that are
 * tried again and forgotten.  The other halves are merge.c and packet.c. */
#include <stdio.h>
#include <stdlib.h>

#include "membership/private.h"

const char *tn_member_state_name(tn_member_state state)
{
    static const char *const names[] = {"unknown", "alive", "suspect", "dead", "left"};
    return names[state <= TN_MEMBER_LEFT ? state : 0];
}

void tn_swim_options_default(tn_swim_options *options)
{
    *options = (tn_swim_options){
        .period_ns = 250 * TN_MS,
        .ping_timeout_ns = 100 * TN_MS,
        .suspect_ns = 1000 * TN_MS,
        .heal_ns = 5 * TN_SEC,
        .forget_ns = 3600 * TN_SEC,
    };
}

/* ---- how long ---- */

static uint64_t patience(const tn_swim *s, uint64_t ns) { return ns * (s->health + 1); }

static void health_move(tn_swim *s, int by)
{
    if (by > 0 && s->health < SWIM_HEALTH_MAX)
        s->health++;
    else if (by < 0 && s->health > 0)
        s->health--;
}

/* Twice the shortest with one accuser, the shortest with SWIM_INDIRECT (or all, in a small cluster);
 * longer in a large cluster, where a refutation has farther to go. */
uint64_t swim_suspicion_ns(const tn_swim *s, uint32_t accusers)
{
    static const uint32_t extra_percent[SWIM_INDIRECT + 1] = {100, 100, 37, 0};
    uint64_t percent = 100;
    for (size_t n = s->n_living; n > 16; n /= 4)
        percent += 33;
    uint64_t least = s->opt.suspect_ns * percent / 100;
    /* self included; of two, nobody can second the accuser */
    size_t possible = s->n_living > 1 ? s->n_living - 1 : 1;
    if (accusers > SWIM_INDIRECT || (possible > 1 && accusers >= possible))
        accusers = SWIM_INDIRECT;
    return least + least * extra_percent[accusers] / 100;
}

/* ---- pings ---- */

/* In a small cluster: whom others accuse, all ask next, so that one that has died has three accusers soon, and one that lives is
 * heard of by all. */
static swim_member *accused_by_others(const tn_swim *s)
{
    for (size_t i = 0; s->n_suspects && !swim_large(s) && i < s->n_known; i++) {
        swim_member *m = s->known[i];
        if (m->state == TN_MEMBER_SUSPECT && m->n_accusers < SWIM_INDIRECT &&
            !swim_accuses(m, s->self->id))
            return m;
    }
    return NULL;
}

static swim_member *next_target(tn_swim *s)
{
    swim_member *accused = accused_by_others(s);
    if (accused)
        return accused;
    if (s->has_doubt) {
        s->has_doubt = false;
        swim_member *m = swim_member_find(s, s->doubted);
        if (m && m != s->self && swim_lives(m))
            return m;
    }
    for (size_t looked = 0; looked < s->n_known; looked++) {
        if (s->cursor >= s->n_known) {
            s->cursor = 0;
            for (size_t i = s->n_known - 1; i > 0; i--) {
                size_t j = (size_t)tn_rng_below(&s->rng, i + 1);
                swim_member *m = s->known[i];
                s->known[i] = s->known[j];
                s->known[j] = m;
                s->known[i]->place = (uint16_t)i;
                s->known[j]->place = (uint16_t)j;
            }
        }
        swim_member *m = s->known[s->cursor++];
        if (m != s->self && swim_lives(m))
            return m;
    }
    return NULL;
}

static void ping(tn_swim *s, uint64_t now_ns, swim_member *m)
{
    s->probe.out = true;
    s->probe.acked = false;
    s->probe.asked = 0;
    memcpy(s->probe.target, m->id, 16);
    s->probe.seq = ++s->seq;
    s->probe.sent_ns = now_ns;
    s->stats.pings++;
    swim_out out = {.kind = GOSSIP_PING, .seq = s->probe.seq, .target = m->id};
    swim_send(s, swim_info(m)->ip, swim_info(m)->port, &out, m);
}

/* Not the one of the period: nobody waits for its answer. */
static void ping_beside(tn_swim *s, swim_member *m)
{
    swim_out out = {.kind = GOSSIP_PING, .seq = ++s->seq, .target = m->id};
    s->stats.pings++;
    swim_send(s, swim_info(m)->ip, swim_info(m)->port, &out, m);
}

/* Whoever is accused is pinged beside the round, so that it hears of it and its answer clears it: by all in a small
 * cluster, by about ten in a large one. */
static void ping_a_suspect(tn_swim *s)
{
    if (!s->n_suspects || tn_rng_below(&s->rng, s->n_living) >= 10)
        return;
    size_t start = (size_t)tn_rng_below(&s->rng, s->n_known);
    for (size_t i = 0; i < s->n_known; i++) {
        swim_member *m = s->known[(start + i) % s->n_known];
        if (m->state != TN_MEMBER_SUSPECT)
            continue;
        ping_beside(s, m);
        return;
    }
}

/* When others are to be asked, next; UINT64_MAX: no more.  In a large cluster more are asked once again. */
static uint64_t ask_at(const tn_swim *s)
{
    if (!s->probe.out || s->probe.acked || s->probe.asked > (swim_large(s) ? 1 : 0))
        return UINT64_MAX;
    return s->probe.sent_ns + patience(s, s->opt.ping_timeout_ns) * (s->probe.asked ? 7 : 4) / 4;
}

static void ask_others(tn_swim *s)
{
    size_t ask = s->probe.asked++ ? SWIM_ASKED_AGAIN : SWIM_INDIRECT;
    swim_member *m = swim_member_find(s, s->probe.target);
    if (!m || !swim_lives(m))
        return;
    swim_out again = {.kind = GOSSIP_PING, .seq = s->probe.seq, .target = m->id};
    swim_send(s, swim_info(m)->ip, swim_info(m)->port, &again, m);
    swim_out out = {.kind = GOSSIP_PING_REQ,
                    .seq = s->probe.seq,
                    .target = m->id,
                    .target_ip = swim_info(m)->ip,
                    .target_port = swim_info(m)->port};
    size_t start = (size_t)tn_rng_below(&s->rng, s->n_known);
    for (size_t i = 0, asked = 0; i < s->n_known && asked < ask; i++) {
        swim_member *other = s->known[(start + i) % s->n_known];
        if (other == s->self || other == m || other->state != TN_MEMBER_ALIVE)
            continue;
        s->stats.ping_reqs++;
        swim_send(s, swim_info(other)->ip, swim_info(other)->port, &out, NULL);
        asked++;
    }
}

static void end_probe(tn_swim *s, uint64_t now_ns)
{
    if (!s->probe.out)
        return;
    s->probe.out = false;
    swim_member *m = swim_member_find(s, s->probe.target);
    /* That others miss it, too, is no sign that we are slow. */
    if (s->probe.acked || swim_large(s) || !m || m->state == TN_MEMBER_ALIVE)
        health_move(s, s->probe.acked ? -1 : 1);
    if (!s->probe.acked && m && swim_lives(m))
        swim_accuse(s, now_ns, m, s->self->id);
}

/* ---- what time brings ---- */

/* What that one is now, ourselves or another: what it owned waits for its next owner.  The rest hear it from those. */
static void tell_at_once(tn_swim *s, swim_member *about)
{
    size_t start = (size_t)tn_rng_below(&s->rng, s->n_known);
    for (size_t i = 0, told = 0; i < s->n_known && told < SWIM_TOLD; i++) {
        swim_member *m = s->known[(start + i) % s->n_known];
        if (m == s->self || !swim_lives(m))
            continue;
        swim_out out = {.kind = GOSSIP_SYNC_DATA};
        swim_send(s, swim_info(m)->ip, swim_info(m)->port, &out, about);
        told++;
    }
}

/* How often one is asked before it is given up.  In a large cluster with losses somebody misses nearly every answer. */
static uint8_t last_words(const tn_swim *s) { return swim_large(s) ? 3 : 1; }

static void end_what_is_due(tn_swim *s, uint64_t now_ns)
{
    while (swim_next_end(s) <= now_ns) {
        swim_member *m = TN_CONTAINER_OF(tn_heap_min(&s->ends), swim_member, end);
        if (m->state == TN_MEMBER_SUSPECT && m->last_words < last_words(s)) {
            /* A refutation may be known to others and not yet here: who lives can still say so. */
            m->last_words++;
            swim_member_end(s, m, now_ns + 2 * patience(s, s->opt.ping_timeout_ns));
            ping_beside(s, m);
        } else if (m->state == TN_MEMBER_SUSPECT) {
            s->stats.deaths++;
            swim_set_state(s, now_ns, m, TN_MEMBER_DEAD);
            if (!swim_large(s))
                tell_at_once(s, m);
        } else {
            swim_member_forget(s, m);
        }
    }
}

/* One of the dead is told that it is dead: should it live, behind a partition, it refutes and both sides meet. */
static void heal(tn_swim *s)
{
    if (s->n_known == s->n_living)
        return;
    size_t start = (size_t)tn_rng_below(&s->rng, s->n_known);
    for (size_t i = 0; i < s->n_known; i++) {
        swim_member *m = s->known[(start + i) % s->n_known];
        if (m->state != TN_MEMBER_DEAD || !swim_info(m)->port)
            continue;
        ping_beside(s, m);
        return;
    }
}

/* A process that was stopped or starved has heard nothing meanwhile: whom it accuses gets that time back. */
static void forgive_lost_time(tn_swim *s, uint64_t now_ns)
{
    uint64_t late = now_ns > s->due_ns ? now_ns - s->due_ns : 0;
    if (late < 2 * s->opt.period_ns)
        return;
    health_move(s, 1);
    s->probe.out = false;
    for (size_t i = 0; i < s->n_known; i++)
        if (s->known[i]->state == TN_MEMBER_SUSPECT && s->known[i]->end.place)
            swim_member_end(s, s->known[i], s->known[i]->end.key + late);
}

/* While news comes faster than pings and acks carry it, some goes without them. */
static void gossip(tn_swim *s)
{
    for (size_t tries = 0, told = 0; s->overfull && told < SWIM_GOSSIP && tries < 4 * SWIM_GOSSIP;
         tries++) {
        swim_member *m = s->known[tn_rng_below(&s->rng, s->n_known)];
        if (m == s->self || !swim_lives(m))
            continue;
        swim_out out = {.kind = GOSSIP_SYNC_DATA};
        swim_send(s, swim_info(m)->ip, swim_info(m)->port, &out, NULL);
        told++;
    }
}

static void run_period(tn_swim *s, uint64_t now_ns)
{
    end_probe(s, now_ns);
    swim_member *target = next_target(s);
    if (target)
        ping(s, now_ns, target);
    ping_a_suspect(s);
    gossip(s);
    s->period_at_ns = now_ns + patience(s, s->opt.period_ns);
}

static void ask_for_all(tn_swim *s, const char *ip, uint16_t port, bool answer_only)
{
    swim_out out = {.kind = GOSSIP_SYNC_REQ, .answer_only = answer_only};
    s->stats.syncs++;
    swim_send(s, ip, port, &out, s->self);
}

static bool known_at(const tn_swim *s, const char *ip, uint16_t port)
{
    uint32_t walk = 0;
    return swim_member_at_address(s, ip, port, &walk) != NULL;
}

/* Those we were told of are asked until we know who lives there: the first words may have been lost, and a newcomer
 * may have met only other newcomers. */
static void ask_seeds(tn_swim *s, uint64_t now_ns)
{
    if (now_ns >= s->seeds_until_ns)
        s->n_seeds = 0;
    for (size_t i = 0; i < s->n_seeds;) {
        if (known_at(s, s->seeds[i].ip, s->seeds[i].port)) {
            s->seeds[i] = s->seeds[--s->n_seeds];
        } else {
            ask_for_all(s, s->seeds[i].ip, s->seeds[i].port, false);
            i++;
        }
    }
    s->seeds_at_ns = now_ns + TN_SEC;
}

static uint64_t next_due(const tn_swim *s)
{
    uint64_t end = swim_next_end(s), next = s->heal_at_ns < end ? s->heal_at_ns : end;
    if (s->n_living > 1 && s->period_at_ns < next)
        next = s->period_at_ns;
    if (s->n_seeds && s->seeds_at_ns < next)
        next = s->seeds_at_ns;
    uint64_t ask = ask_at(s);
    return ask < next ? ask : next;
}

uint64_t tn_swim_run(tn_swim *s, uint64_t now_ns)
{
    if (s->n_seeds && now_ns >= s->seeds_at_ns)
        ask_seeds(s, now_ns);
    if (s->n_known == 1) { /* alone: nobody to watch */
        s->probe.out = false;
        return s->due_ns = s->n_seeds ? s->seeds_at_ns : UINT64_MAX;
    }
    forgive_lost_time(s, now_ns);
    end_what_is_due(s, now_ns);
    if (now_ns >= s->heal_at_ns) {
        heal(s);
        s->heal_at_ns = now_ns + s->opt.heal_ns;
    }
    if (now_ns >= s->period_at_ns)
        run_period(s, now_ns);
    else if (now_ns >= ask_at(s))
        ask_others(s);
    return s->due_ns = next_due(s);
}

/* ---- packets ---- */

static void answer_ping(tn_swim *s, const swim_packet *in, const char *ip, uint16_t port,
                        swim_member *sender)
{
    /* The address may have had another tenant before us. */
    if (in->target && memcmp(in->target, s->self->id, 16) != 0)
        return;
    s->stats.pinged += in->target != NULL;
    swim_out out = {.kind = GOSSIP_ACK, .seq = in->seq};
    swim_send(s, ip, port, &out, sender);
}

static void relay_ping(tn_swim *s, const swim_packet *in, const char *ip, uint16_t port)
{
    if (!in->target || !in->target_ip[0] || in->target_port == 0 || in->target_port > UINT16_MAX)
        return;
    size_t i = s->next_relay++ % SWIM_RELAYS;
    swim_relay *relay = &s->relays[i];
    *relay = (swim_relay){.asker_seq = in->seq, .port = port};
    s->relay_seqs[i] = ++s->seq;
    snprintf(relay->ip, sizeof(relay->ip), "%s", ip);
    swim_out out = {.kind = GOSSIP_PING, .seq = s->seq, .target = in->target};
    swim_send(s, in->target_ip, (uint16_t)in->target_port, &out, swim_member_find(s, in->target));
}

static void take_ack(tn_swim *s, const swim_packet *in)
{
    if (s->probe.out && in->seq == s->probe.seq) {
        s->probe.acked = true;
        return;
    }
    for (size_t i = 0; i < SWIM_RELAYS; i++) {
        if (!s->relay_seqs[i] || s->relay_seqs[i] != in->seq)
            continue;
        const swim_relay *relay = &s->relays[i];
        swim_out out = {.kind = GOSSIP_ACK, .seq = relay->asker_seq};
        swim_send(s, relay->ip, relay->port, &out, NULL);
        s->relay_seqs[i] = 0;
        return;
    }
}

static void answer_sync(tn_swim *s, uint64_t now_ns, const swim_packet *in, const char *ip,
                        uint16_t port)
{
    bool differ[SWIM_BUCKETS], any = false;
    for (size_t i = 0; i < SWIM_BUCKETS; i++) {
        const uint8_t *theirs = in->buckets + 4 * i;
        differ[i] = i >= in->n_buckets || ((uint32_t)theirs[3] << 24 | (uint32_t)theirs[2] << 16 |
                                           (uint32_t)theirs[1] << 8 | theirs[0]) != s->buckets[i];
        any = any || differ[i];
    }
    if (!any)
        return;
    swim_send_members(s, ip, port, differ);
    if (!in->answer_only) {
        s->synced_ns = now_ns;
        ask_for_all(s, ip, port, true);
    }
}

/* Two that see different worlds exchange what differs: at once when neither has news on its way, else now and
 * then, since news may be too much for the packets that carry it. */
static void compare(tn_swim *s, uint64_t now_ns, const swim_packet *in, const char *ip,
                    uint16_t port, const swim_member *sender)
{
    if ((sender && in->digest == s->digest) || in->kind >= GOSSIP_PING_REQ)
        return;
    /* While the known world grows fast, many have started together: then whoever is met knows of many more, and news alone
     * would carry them one by one. */
    bool quiet = in->quiet && s->n_news == 0, fresh = quiet || !sender;
    size_t more = s->n_living > s->synced_living ? s->n_living - s->synced_living : 0;
    uint64_t wait = s->opt.period_ns * (8 * more > s->n_living             ? 1
                                        : fresh || 64 * more > s->n_living ? 2
                                                                           : 8);
    if (now_ns < s->synced_ns + wait)
        return;
    s->synced_ns = now_ns;
    s->synced_living = s->n_living;
    ask_for_all(s, ip, port, false);
}

/* Looked for together, so that memory answers all at once. */
static void take_news(tn_swim *s, uint64_t now_ns, const swim_packet *in)
{
    swim_item items[64];
    const uint8_t *at = in->news;
    for (size_t n; (n = swim_parse_news(&at, in->end, items, TN_COUNT_OF(items))) > 0;) {
        for (size_t i = 0; i < n; i++)
            if (items[i].id)
                items[i].perhaps = swim_member_prefetch(s, items[i].id);
        for (size_t i = 0; i < n; i++) {
            swim_said said;
            if (!swim_is_old(s, &items[i]) && swim_parse_member(&items[i], &said))
                swim_merge(s, now_ns, &said);
        }
    }
}

void tn_swim_receive(tn_swim *s, uint64_t now_ns, const char *ip, uint16_t port, tn_blob packet)
{
    swim_packet in;
    s->stats.packets_in++;
    if (!swim_parse(packet, &in)) {
        s->stats.nonsense++;
        return;
    }
    if (memcmp(in.from, s->self->id, 16) == 0)
        return;
    take_news(s, now_ns, &in);
    swim_member *sender = swim_member_find(s, in.from);
    if (in.kind == GOSSIP_PING)
        answer_ping(s, &in, ip, port, sender);
    else if (in.kind == GOSSIP_PING_REQ)
        relay_ping(s, &in, ip, port);
    else if (in.kind == GOSSIP_ACK)
        take_ack(s, &in);
    else if (in.kind == GOSSIP_SYNC_REQ)
        answer_sync(s, now_ns, &in, ip, port);
    compare(s, now_ns, &in, ip, port, sender);
}

/* ---- an operator's and the server's wishes ---- */

void tn_swim_join(tn_swim *s, uint64_t now_ns, const char *ip, uint16_t port)
{
    size_t i = 0;
    while (i < s->n_seeds && (s->seeds[i].port != port || strcmp(s->seeds[i].ip, ip) != 0))
        i++;
    if (i == s->n_seeds && i < SWIM_SEEDS) {
        snprintf(s->seeds[i].ip, sizeof(s->seeds[i].ip), "%s", ip);
        s->seeds[i].port = port;
        s->n_seeds++;
    }
    s->seeds_at_ns = now_ns + TN_SEC;
    s->seeds_until_ns = now_ns + 60 * TN_SEC;
    ask_for_all(s, ip, port, false);
}

void tn_swim_ask(tn_swim *s, const char *ip, uint16_t port) { ask_for_all(s, ip, port, false); }

static void take_part(tn_swim *s, bool part)
{
    tn_member *info = swim_info(s->self);
    if (info->draining != part || info->state != TN_MEMBER_ALIVE)
        return;
    info->draining = !part;
    swim_announce_self(s, info->incarnation + 1);
    if (s->opt.changed)
        s->opt.changed(s->opt.user, info, TN_MEMBER_ALIVE);
    tell_at_once(s, s->self);
}
void tn_swim_drain(tn_swim *s, uint64_t now_ns)
{
    (void)now_ns;
    take_part(s, false);
}
void tn_swim_serve(tn_swim *s, uint64_t now_ns)
{
    (void)now_ns;
    take_part(s, true);
}

void tn_swim_leave(tn_swim *s, uint64_t now_ns)
{
    if (s->self->state != TN_MEMBER_LEFT) {
        swim_set_state(s, now_ns, s->self, TN_MEMBER_LEFT);
        swim_member_end(s, s->self, UINT64_MAX);
    }
    tell_at_once(s, s->self);
}

bool tn_swim_evict(tn_swim *s, uint64_t now_ns, const uint8_t host_id[16])
{
    swim_member *m = swim_member_find(s, host_id);
    if (!m || m == s->self || !swim_lives(m))
        return false;
    swim_set_state(s, now_ns, m, TN_MEMBER_DEAD);
    return true;
}

void tn_swim_doubt(tn_swim *s, uint64_t now_ns, const uint8_t host_id[16])
{
    memcpy(s->doubted, host_id, 16);
    s->has_doubt = true;
    if (!s->probe.out && s->period_at_ns > now_ns)
        s->period_at_ns = now_ns;
}

/* ---- life ---- */

tn_swim *tn_swim_create(const tn_swim_options *options, uint64_t now_ns)
{
    tn_swim *s = tn_xcalloc(1, sizeof(*s));
    s->opt = *options;
    tn_rng_seed(&s->rng, options->seed);
    swim_members_init(s);
    s->due_ns = UINT64_MAX;
    s->self = swim_member_add(s, options->self.host_id);
    tn_member self = options->self;
    self.incarnation = 1;
    s->self->state = TN_MEMBER_ALIVE;
    swim_member_describe(s, s->self, &self);
    s->n_living = 1;
    swim_digest_toggle(s, s->self);
    /* Not all at once when a cluster starts. */
    s->period_at_ns = now_ns + tn_rng_below(&s->rng, options->period_ns);
    s->heal_at_ns = now_ns + options->heal_ns / 2 + tn_rng_below(&s->rng, options->heal_ns);
    return s;
}

void tn_swim_destroy(tn_swim *s)
{
    if (!s)
        return;
    swim_members_done(s);
    free(s);
}

const tn_member *tn_swim_self(const tn_swim *s) { return swim_info(s->self); }

const tn_member *tn_swim_find(const tn_swim *s, const uint8_t host_id[16])
{
    const swim_member *m = swim_member_find(s, host_id);
    return m ? swim_info(m) : NULL;
}

void tn_swim_each(tn_swim *s, void (*each)(void *user, const tn_member *member), void *user)
{
    for (size_t i = 0; i < s->n_known; i++)
        each(user, swim_info(s->known[i]));
}

uint64_t tn_swim_digest(const tn_swim *s) { return s->digest; }

void tn_swim_stats_get(const tn_swim *s, tn_swim_stats *out)
{
    *out = s->stats;
    out->living = (uint32_t)s->n_living;
    out->remembered = (uint32_t)s->n_known;
}
