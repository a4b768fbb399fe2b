/* SPDX-License-Identifier: MIT */
/* What news changes.  A higher incarnation wins; within one, left beats dead beats suspect beats alive.  Only the
 * member itself raises its incarnation: that is how it refutes. */

#include "membership/private.h"

/* ---- digests ---- */

/* Suspicion is not part of it: it comes and goes, and is the accusers' affair. */
void swim_digest_toggle(tn_swim *s, const swim_member *m)
{
    uint8_t key[24];
    memcpy(key, m->id, 16);
    tn_put_u64be(key + 16, m->incarnation);
    uint64_t h = tn_hash64_stable(tn_blob_from(key, sizeof(key)), (tn_blob){0});
    s->digest ^= h;
    s->buckets[swim_bucket(m->id)] ^= (uint32_t)h;
}

/* ---- telling ---- */

static uint8_t times_to_tell(const tn_swim *s)
{
    uint8_t digits = 1;
    for (size_t n = s->n_known; n >= 10; n /= 10)
        digits++;
    return (uint8_t)(4 * digits);
}

/* It takes the place of what was said of that member before.  Newcomers wait behind: accusations and refutations must
 * be heard in time, newcomers also travel by exchange. */
void swim_tell(tn_swim *s, swim_member *m)
{
    if (s->n_known == 1)
        return;
    m->tell = times_to_tell(s);
    swim_news_put(s, m, m->state != TN_MEMBER_ALIVE || m->incarnation != 1);
}

/* ---- one member ---- */

static void report(tn_swim *s, const swim_member *m, tn_member_state before, bool served)
{
    const tn_member *info = swim_info(m);
    if (s->opt.changed && (tn_member_serves(info) != served || before == TN_MEMBER_LEFT))
        s->opt.changed(s->opt.user, info, before);
}

/* served: before its description was taken over, which may say that it drains now. */
static void set_state(tn_swim *s, uint64_t now_ns, swim_member *m, tn_member_state state,
                      bool served)
{
    tn_member_state before = m->state;
    bool lived = swim_lives(m);
    m->state = (uint8_t)state;
    swim_info(m)->state = state;
    if (before == TN_MEMBER_SUSPECT)
        s->n_suspects--;
    if (state == TN_MEMBER_SUSPECT)
        s->n_suspects++;
    bool lives = swim_lives(m);
    if (lived && !lives) {
        swim_digest_toggle(s, m);
        s->n_living--;
        swim_member_end(s, m, now_ns + s->opt.forget_ns);
    } else if (!lived && lives) {
        swim_digest_toggle(s, m);
        s->n_living++;
    }
    if (state == TN_MEMBER_ALIVE) {
        m->n_accusers = 0;
        swim_member_end(s, m, UINT64_MAX);
    }
    swim_tell(s, m);
    report(s, m, before, served);
}

void swim_set_state(tn_swim *s, uint64_t now_ns, swim_member *m, tn_member_state state)
{
    set_state(s, now_ns, m, state, tn_member_serves(swim_info(m)));
}

bool swim_accuses(const swim_member *m, const uint8_t host_id[16])
{
    for (uint32_t i = 0; i < m->n_accusers; i++)
        if (memcmp(swim_cold_of(m)->accusers[i], host_id, 16) == 0)
            return true;
    return false;
}

/* from says that m does not answer.  Each new accuser shortens what is left, and is worth telling. */
void swim_accuse(tn_swim *s, uint64_t now_ns, swim_member *m, const uint8_t from[16])
{
    if (m->state == TN_MEMBER_ALIVE) {
        m->n_accusers = 0;
        m->last_words = 0;
        m->suspect_at_ns = now_ns;
        s->stats.suspicions++;
        swim_set_state(s, now_ns, m, TN_MEMBER_SUSPECT);
    }
    if (m->state != TN_MEMBER_SUSPECT || m->n_accusers >= SWIM_INDIRECT || m->last_words)
        return;
    if (swim_accuses(m, from))
        return;
    memcpy(swim_cold_of(m)->accusers[m->n_accusers++], from, 16);
    uint64_t until = m->suspect_at_ns + swim_suspicion_ns(s, m->n_accusers);
    if (swim_large(s) && !swim_accuses(m, s->self->id))
        /* the accusers have asked it themselves: theirs is the first word */
        until += s->opt.suspect_ns;
    if (m->n_accusers == 1 || until < m->end.key)
        swim_member_end(s, m, until);
    swim_tell(s, m);
}

void swim_announce_self(tn_swim *s, uint64_t incarnation)
{
    swim_digest_toggle(s, s->self);
    s->self->incarnation = swim_info(s->self)->incarnation = incarnation;
    swim_digest_toggle(s, s->self);
    swim_tell(s, s->self);
}

/* ---- news ---- */

static void merge_self(tn_swim *s, const tn_member *said)
{
    const tn_member *self = swim_info(s->self);
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
    const tn_member *info = swim_info(m);
    uint32_t walk = 0;
    for (swim_member *other; (other = swim_member_at_address(s, info->ip, info->port, &walk));) {
        if (other == m || other == s->self || !swim_lives(other))
            continue;
        if (swim_info(other)->started_ms <= info->started_ms)
            swim_set_state(s, now_ns, other, TN_MEMBER_DEAD);
        return;
    }
}

/* The member's own word, or one that repeats it: it lived at that incarnation. */
static void merge_alive(tn_swim *s, uint64_t now_ns, swim_member *m, const tn_member *said)
{
    const tn_member *info = swim_info(m);
    bool moved = info->port != said->port || strcmp(info->ip, said->ip) != 0;
    tn_member_state before = m->state;
    bool served = tn_member_serves(swim_info(m));
    bool counted = swim_lives(m);
    if (counted)
        swim_digest_toggle(s, m);
    swim_member_describe(s, m, said);
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
    m->state = TN_MEMBER_LEFT; /* until now it was not there */
    merge_alive(s, now_ns, m, said);
}

static void raise_incarnation(tn_swim *s, swim_member *m, uint64_t incarnation)
{
    bool counted = swim_lives(m);
    if (counted)
        swim_digest_toggle(s, m);
    m->incarnation = swim_info(m)->incarnation = incarnation;
    if (counted)
        swim_digest_toggle(s, m);
}

/* Most of what comes has come before; what is heard again others tell too, and needs to be told here once less.  Whoever is accused keeps at most so many accusers, and hears nothing more when its
 * time is over. */
bool swim_is_old(tn_swim *s, const swim_item *item)
{
    if (!item->id)
        return false;
    swim_member *m = item->perhaps;
    if (!m || memcmp(m->id, item->id, 16) != 0)
        m = swim_member_find(s, item->id);
    if (!m)
        return item->state > TN_MEMBER_SUSPECT;
    if (m == s->self)
        return item->state == TN_MEMBER_ALIVE && item->incarnation <= m->incarnation;
    if (item->incarnation != m->incarnation)
        return item->incarnation < m->incarnation;
    if (item->state == m->state && m->queued != SWIM_UNTOLD && --m->tell == 0)
        swim_news_remove(s, m);
    if (item->state == TN_MEMBER_SUSPECT && m->state == TN_MEMBER_SUSPECT)
        return m->n_accusers >= SWIM_INDIRECT || m->last_words;
    return item->state <= m->state;
}

void swim_merge(tn_swim *s, uint64_t now_ns, const swim_said *what)
{
    const tn_member *said = &what->is;
    swim_member *m = swim_member_find(s, said->host_id);
    if (m == s->self) {
        merge_self(s, said);
        return;
    }
    if (!m) {
        if (said->state == TN_MEMBER_ALIVE ||
            (said->state == TN_MEMBER_SUSPECT && said->ip[0] && said->port))
            add_stranger(s, now_ns, said);
        m = swim_member_find(s, said->host_id);
        if (!m || said->state == TN_MEMBER_ALIVE)
            return;
    }
    if (said->incarnation < m->incarnation)
        return;
    bool newer = said->incarnation > m->incarnation;
    if (said->state == TN_MEMBER_ALIVE) {
        if (newer)
            merge_alive(s, now_ns, m, said);
        return;
    }
    if (newer)
        raise_incarnation(s, m, said->incarnation);
    if (said->state == TN_MEMBER_SUSPECT && swim_lives(m))
        for (uint32_t i = 0; i < what->n_accusers; i++)
            swim_accuse(s, now_ns, m, what->accusers[i]);
    else if (said->state > m->state && said->state != TN_MEMBER_SUSPECT)
        swim_set_state(s, now_ns, m, said->state);
}
