/* SPDX-License-Identifier: MIT */
/* What news changes.  A higher incarnation wins; within one, left beats dead beats suspect beats alive.  Only the
 * member itself raises its incarnation: that is how it refutes. */
#include <stdio.h>

#include "membership/private.h"

/* ---- digests ---- */

/* Suspicion is not part of it: it comes and goes, and is the accusers' affair. */
void swim_digest_toggle(tn_swim *s, const swim_member *m)
{
    uint8_t key[24];
    memcpy(key, m->info.host_id, 16);
    tn_put_u64be(key + 16, m->info.incarnation);
    uint64_t h = tn_hash64_stable(tn_blob_from(key, sizeof(key)), (tn_blob){0});
    s->digest ^= h;
    s->buckets[swim_bucket(m->info.host_id)] ^= (uint32_t)h;
}

/* ---- telling ---- */

static uint32_t times_to_tell(const tn_swim *s)
{
    uint32_t digits = 1;
    for (size_t n = s->n_known; n >= 10; n /= 10)
        digits++;
    return 4 * digits;
}

/* It takes the place of what was said of that member before.  Newcomers wait behind: accusations and refutations must
 * be heard in time, newcomers also travel by exchange. */
void swim_tell(tn_swim *s, swim_member *m)
{
    if (s->n_known == 1)
        return;
    tn_list_remove(&m->news);
    m->tell = times_to_tell(s);
    if (m->info.state == TN_MEMBER_ALIVE && m->info.incarnation == 1)
        tn_list_push_back(&s->news, &m->news);
    else
        tn_list_push_front(&s->news, &m->news);
}

/* ---- one member ---- */

static void report(tn_swim *s, const swim_member *m, tn_member_state before, bool served)
{
    if (s->opt.changed && (tn_member_serves(&m->info) != served || before == TN_MEMBER_LEFT))
        s->opt.changed(s->opt.user, &m->info, before);
}

/* served: before its description was taken over, which may say that it drains now. */
static void set_state(tn_swim *s, uint64_t now_ns, swim_member *m, tn_member_state state, bool served)
{
    tn_member_state before = m->info.state;
    bool lived = swim_lives(m);
    m->info.state = state;
    if (before == TN_MEMBER_SUSPECT)
        s->n_suspects--;
    if (state == TN_MEMBER_SUSPECT)
        s->n_suspects++;
    bool lives = swim_lives(m);
    if (lived && !lives) {
        swim_digest_toggle(s, m);
        s->n_living--;
        m->until_ns = now_ns + s->opt.forget_ns;
        swim_watch(s, m->until_ns);
    } else if (!lived && lives) {
        swim_digest_toggle(s, m);
        s->n_living++;
    }
    if (state == TN_MEMBER_ALIVE) {
        m->accusers = 0;
        m->until_ns = UINT64_MAX;
    }
    swim_tell(s, m);
    report(s, m, before, served);
}

void swim_set_state(tn_swim *s, uint64_t now_ns, swim_member *m, tn_member_state state)
{
    set_state(s, now_ns, m, state, tn_member_serves(&m->info));
}

static bool accuses(const swim_member *m, const uint8_t host_id[16])
{
    for (uint32_t i = 0; i < m->accusers; i++)
        if (memcmp(m->accuser_ids[i], host_id, 16) == 0)
            return true;
    return false;
}

/* from says that m does not answer.  Each new accuser shortens what is left, and is worth telling. */
void swim_accuse(tn_swim *s, uint64_t now_ns, swim_member *m, const uint8_t from[16])
{
    if (m->info.state == TN_MEMBER_ALIVE) {
        m->accusers = 0;
        m->last_words = 0;
        m->suspect_at_ns = now_ns;
        s->stats.suspicions++;
        swim_set_state(s, now_ns, m, TN_MEMBER_SUSPECT);
    }
    if (m->info.state != TN_MEMBER_SUSPECT || m->accusers >= SWIM_INDIRECT || m->last_words)
        return;
    if (accuses(m, from))
        return;
    memcpy(m->accuser_ids[m->accusers++], from, 16);
    uint64_t until = m->suspect_at_ns + swim_suspicion_ns(s, m->accusers);
    if (swim_large(s) && !accuses(m, s->self->info.host_id))
        until += s->opt.suspect_ns; /* the accusers have asked it themselves: theirs is the first word */
    m->until_ns = m->accusers == 1 || until < m->until_ns ? until : m->until_ns;
    swim_watch(s, m->until_ns);
    swim_tell(s, m);
}

void swim_announce_self(tn_swim *s, uint64_t incarnation)
{
    swim_digest_toggle(s, s->self);
    s->self->info.incarnation = incarnation;
    swim_digest_toggle(s, s->self);
    swim_tell(s, s->self);
}

/* ---- news ---- */

static void merge_self(tn_swim *s, const tn_member *said)
{
    const tn_member *self = &s->self->info;
    if (self->state == TN_MEMBER_LEFT)
        return;
    if (said->incarnation < self->incarnation) {
        if (said->state != TN_MEMBER_ALIVE)
            swim_tell(s, s->self); /* refuted already, and not heard everywhere */
        return;
    }
    if (said->state == TN_MEMBER_ALIVE && said->incarnation == self->incarnation)
        return;
    s->stats.refutations++;
    if (s->health < SWIM_HEALTH_MAX && said->state != TN_MEMBER_ALIVE)
        s->health++; /* somebody did not hear us in time: perhaps we are slow */
    swim_announce_self(s, said->incarnation + 1);
    if (said->state != TN_MEMBER_ALIVE && s->opt.refuted)
        s->opt.refuted(s->opt.user);
}

/* Two cannot live at one address: the one that started first is gone. */
static void evict_tenant(tn_swim *s, uint64_t now_ns, const swim_member *m)
{
    for (size_t i = 0; i < s->n_known; i++) {
        swim_member *other = s->known[i];
        if (other == m || other == s->self || !swim_lives(other) ||
            other->info.port != m->info.port || strcmp(other->info.ip, m->info.ip) != 0)
            continue;
        if (other->info.started_ms <= m->info.started_ms)
            swim_set_state(s, now_ns, other, TN_MEMBER_DEAD);
        return;
    }
}

static void take_description(swim_member *m, const tn_member *said)
{
    tn_member_state state = m->info.state;
    m->info = *said;
    m->info.state = state;
}

/* The member's own word, or one that repeats it: it lived at that incarnation. */
static void merge_alive(tn_swim *s, uint64_t now_ns, swim_member *m, const tn_member *said)
{
    bool moved = m->info.port != said->port || strcmp(m->info.ip, said->ip) != 0;
    tn_member_state before = m->info.state;
    bool served = tn_member_serves(&m->info);
    bool counted = swim_lives(m);
    if (counted)
        swim_digest_toggle(s, m);
    take_description(m, said);
    if (counted)
        swim_digest_toggle(s, m);
    if (before == TN_MEMBER_ALIVE) { /* same state, new description */
        swim_tell(s, m);
        report(s, m, before, served);
    } else {
        set_state(s, now_ns, m, TN_MEMBER_ALIVE, served);
    }
    if (moved)
        evict_tenant(s, now_ns, m);
}

static void add_stranger(tn_swim *s, uint64_t now_ns, const tn_member *said)
{
    swim_member *m = swim_member_add(s, said->host_id);
    if (!m)
        return;
    m->info.state = TN_MEMBER_LEFT; /* until now it was not there */
    merge_alive(s, now_ns, m, said);
}

static void take_accusers(tn_swim *s, uint64_t now_ns, swim_member *m,
                          const Tenon__GossipMember *wire)
{
    for (size_t i = 0; i < wire->n_accusers; i++)
        if (wire->accusers[i].len == 16)
            swim_accuse(s, now_ns, m, wire->accusers[i].data);
}

void swim_merge(tn_swim *s, uint64_t now_ns, const tn_member *said,
                const Tenon__GossipMember *wire)
{
    swim_member *m = swim_member_find(s, said->host_id);
    if (m == s->self) {
        merge_self(s, said);
        return;
    }
    if (!m) {
        if (said->state == TN_MEMBER_ALIVE || (said->state == TN_MEMBER_SUSPECT && said->port))
            add_stranger(s, now_ns, said);
        m = swim_member_find(s, said->host_id);
        if (!m || said->state == TN_MEMBER_ALIVE)
            return;
    }
    if (said->incarnation < m->info.incarnation)
        return;
    bool newer = said->incarnation > m->info.incarnation;
    if (said->state == TN_MEMBER_ALIVE) {
        if (newer)
            merge_alive(s, now_ns, m, said);
        return;
    }
    if (newer && swim_lives(m)) {
        swim_digest_toggle(s, m);
        m->info.incarnation = said->incarnation;
        swim_digest_toggle(s, m);
    } else if (newer) {
        m->info.incarnation = said->incarnation;
    }
    if (said->state == TN_MEMBER_SUSPECT && swim_lives(m))
        take_accusers(s, now_ns, m, wire);
    else if (said->state > m->info.state && said->state != TN_MEMBER_SUSPECT)
        swim_set_state(s, now_ns, m, said->state);
}
