/* SPDX-License-Identifier: MIT */
/* Gossip's rim: sockets, clock, MACs, and the snapshot of members and rings that each loop reads.  Gossip runs on loop
 * 0; after a change that matters it makes a new snapshot and posts a reference to every loop. */
#include "membership/agent.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "membership/keys.h"
#include "membership/reach.h"
#include "metrics/metrics.h"

#define MAC_BYTES 16
#define PACKET_BYTES_MAX (TN_SWIM_PACKET_MAX + MAC_BYTES)
#define LISTENERS_MAX 8
#define SETTLE_NS (60 * TN_MS)             /* changes that come together make one snapshot */
#define LET_GO_NS (SETTLE_NS + 40 * TN_MS) /* until others have let go of what is a newcomer's */
#define SLEPT_NS (3 * TN_SEC)    /* late by so much, a process reads anew what is in the store */
#define FAREWELL_NS (50 * TN_MS) /* between two farewells, in which we still answer */
#define REACH_NS (3 * TN_SEC)    /* and how long to be pinged by one of them */
#define FORM_NS (1500 * TN_MS)   /* how long a start waits for others to be heard of */

typedef struct snapshot {
    _Atomic uint32_t refs;
    tn_member *members; /* living, by host id */
    const tn_member **list;
    size_t n_members;
    tn_ring *rings[TN_SERVICE_COUNT];
    size_t n_all; /* with the dead */
    tn_member *all;
} snapshot;

typedef struct slot { /* a loop's */
    snapshot *now, *before;
} slot;

typedef struct delivery {
    tn_msg msg;
    snapshot *snap;
    uint32_t loop;
} delivery;

static struct {
    bool on;
    tn_swim *swim;
    tn_dgram *sockets[TN_SERVICE_COUNT];
    tn_loop_timer tick, settle;
    uint64_t tick_at_ns;
    tn_reach reach;
    slot *slots;
    uint8_t self_id[16];
    const tn_members_options *options; /* during the start */
    tn_status status;
    tn_error error;
    tn_gauge *living;
    tn_counter *packets_bad;
    size_t published;  /* members of the newest snapshot */
    uint64_t again_ns; /* when what others say is a reason again to read the store */
    uint64_t refused, tell_refused_ns; /* since it was told last, and when it is told again */
} m;

static void (*listeners[LISTENERS_MAX])(void);
static size_t n_listeners;
static void (*missed_listener)(void);

void tn_members_listen(void (*changed)(void))
{
    TN_ASSERT(n_listeners < LISTENERS_MAX);
    listeners[n_listeners++] = changed;
}

void tn_members_listen_missed(void (*missed)(void)) { missed_listener = missed; }

bool tn_members_on(void) { return m.on; }
const uint8_t *tn_members_self_id(void) { return m.self_id; }

void tn_members_begin(void)
{
    static const uint8_t none[16];
    tn_rng rng;
    if (memcmp(m.self_id, none, 16) != 0)
        return;
    tn_rng_seed_random(&rng);
    tn_uuid_v8(&rng, m.self_id);
}

/* ---- snapshots ---- */

static void snapshot_unref(snapshot *snap)
{
    if (!snap || atomic_fetch_sub(&snap->refs, 1) != 1)
        return;
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++)
        tn_ring_destroy(snap->rings[i]);
    free(snap->members);
    free(snap->list);
    free(snap->all);
    free(snap);
}

static void gather(void *user, const tn_member *member)
{
    snapshot *snap = user;
    snap->all[snap->n_all++] = *member;
    if (member->state == TN_MEMBER_ALIVE || member->state == TN_MEMBER_SUSPECT)
        snap->members[snap->n_members++] = *member;
}

static int by_host_id(const void *a, const void *b)
{
    return memcmp(((const tn_member *)a)->host_id, ((const tn_member *)b)->host_id, 16);
}

static snapshot *snapshot_make(void)
{
    tn_swim_stats stats;
    tn_swim_stats_get(m.swim, &stats);
    snapshot *snap = tn_xcalloc(1, sizeof(*snap));
    snap->members = tn_xcalloc(stats.remembered, sizeof(snap->members[0]));
    snap->all = tn_xcalloc(stats.remembered, sizeof(snap->all[0]));
    snap->list = tn_xcalloc(stats.remembered, sizeof(snap->list[0]));
    tn_swim_each(m.swim, gather, snap);
    qsort(snap->members, snap->n_members, sizeof(snap->members[0]), by_host_id);
    for (size_t i = 0; i < snap->n_members; i++)
        snap->list[i] = &snap->members[i];
    for (uint32_t role = 0; role < TN_SERVICE_COUNT; role++)
        snap->rings[role] = tn_ring_create(snap->list, snap->n_members, role);
    tn_gauge_set(m.living, (double)snap->n_members);
    m.published = snap->n_members;
    return snap;
}

static void take(uint32_t loop, snapshot *snap)
{
    snapshot_unref(m.slots[loop].before);
    m.slots[loop].before = m.slots[loop].now;
    m.slots[loop].now = snap;
}

static void installed(tn_msg *msg) /* before anybody asks: nobody is told */
{
    delivery *d = TN_CONTAINER_OF(msg, delivery, msg);
    take(d->loop, d->snap);
    free(d);
}

static void delivered(tn_msg *msg)
{
    installed(msg);
    for (size_t i = 0; i < n_listeners; i++)
        listeners[i]();
}

static void post_snapshot(void (*run)(tn_msg *msg))
{
    snapshot *snap = snapshot_make();
    uint32_t loops = tn_loops_count();
    atomic_init(&snap->refs, loops);
    for (uint32_t i = 0; i < loops; i++) {
        delivery *d = tn_xcalloc(1, sizeof(*d));
        d->msg.run = run;
        d->snap = snap;
        d->loop = i;
        tn_loop_post(tn_loops_get(i), &d->msg);
    }
}

static void publish(tn_loop_timer *timer)
{
    (void)timer;
    post_snapshot(delivered);
}

static snapshot *mine(void)
{
    tn_loop *loop = tn_loop_current();
    TN_ASSERT(loop);
    return m.slots[tn_loop_index(loop)].now;
}

const tn_member *tn_members_owner(uint32_t service, tn_blob key, bool *out_any)
{
    *out_any = true;
    if (!m.on)
        return NULL;
    const tn_member *owner = tn_ring_owner(mine()->rings[service], key);
    *out_any = owner != NULL;
    return owner && memcmp(owner->host_id, m.self_id, 16) != 0 ? owner : NULL;
}

const tn_member *tn_members_owner_now(uint32_t service, tn_blob key)
{
    return m.on ? tn_ring_owner(mine()->rings[service], key) : NULL;
}

size_t tn_members_count(uint32_t service)
{
    return m.on ? tn_ring_count(mine()->rings[service]) : 1;
}
const tn_member *tn_members_owner_before(uint32_t service, tn_blob key)
{
    const snapshot *before = m.on ? m.slots[tn_loop_index(tn_loop_current())].before : NULL;
    return before ? tn_ring_owner(before->rings[service], key) : NULL;
}

const tn_member *tn_members_find(const uint8_t host_id[16])
{
    const snapshot *snap = m.on ? mine() : NULL;
    for (size_t i = 0; snap && i < snap->n_all; i++)
        if (memcmp(snap->all[i].host_id, host_id, 16) == 0)
            return &snap->all[i];
    return NULL;
}

const tn_member *const *tn_members_list(size_t *out_count)
{
    const snapshot *snap = m.on ? mine() : NULL;
    *out_count = snap ? snap->n_members : 0;
    return snap ? snap->list : NULL;
}

/* ---- gossip [loop 0] ---- */

/* One that has left after it drained changes no ring, but is no member any more. */
static void note_leavers(uint64_t now)
{
    tn_swim_stats stats;
    tn_swim_stats_get(m.swim, &stats);
    if (m.on && stats.living != m.published && !tn_loop_timer_active(&m.settle))
        tn_loop_timer_start(&m.settle, now + SETTLE_NS);
}

static void tell_unreached(void)
{
    const tn_member *self = tn_swim_self(m.swim);
    TN_LOG(TN_LOG_WARN, "membership",
           "other members are heard, but none reaches this one: it takes no part until then; fix: "
           "let UDP through to its membership port, or see to global.membership.broadcastAddress",
           TN_LOG_Z("ip", self->ip), TN_LOG_U("port", self->port));
}

static void look_whether_reached(uint64_t now)
{
    tn_swim_stats stats;
    tn_swim_stats_get(m.swim, &stats);
    switch (tn_reach_look(&m.reach, now, stats.pinged, stats.living)) {
    case TN_REACH_LEAVE:
        tell_unreached();
        tn_swim_drain(m.swim, now);
        break;
    case TN_REACH_RETURN:
        TN_LOG(TN_LOG_INFO, "membership",
               stats.living > 1 ? "other members reach this one: it takes part"
                                : "this member is alone: it takes part");
        tn_swim_serve(m.swim, now);
        break;
    case TN_REACH_STAY:
        break;
    }
}

static void run_swim(void)
{
    uint64_t now = tn_now_mono_ns(), at = tn_swim_run(m.swim, now);
    look_whether_reached(now);
    note_leavers(now);
    if (at == UINT64_MAX)
        tn_loop_timer_stop(&m.tick);
    else
        tn_loop_timer_start(&m.tick, at > now ? at : now + TN_MS);
    m.tick_at_ns = at;
}

static void tick(tn_loop_timer *timer)
{
    (void)timer;
    if (tn_now_mono_ns() > m.tick_at_ns + SLEPT_NS)
        tn_records_again();
    run_swim();
}

static void send_packet(void *user, const char *ip, uint16_t port, tn_blob packet)
{
    (void)user;
    uint8_t bytes[PACKET_BYTES_MAX];
    memcpy(bytes, packet.p, packet.n);
    tn_keys_sign(tn_keys_now(), packet, bytes + packet.n);
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++) {
        if (!m.sockets[i])
            continue;
        tn_dgram_send(m.sockets[i], ip, port, bytes, packet.n + MAC_BYTES);
        return;
    }
}

/* Others may have gone on while we slept: they are met again. */
static void keys_read(void *user, uint64_t version)
{
    if (version != (uint64_t)(uintptr_t)user)
        tn_records_again();
}

/* Told now and then only, for whoever sends them can send many. */
static void refuse_packet(const char *ip, uint16_t port)
{
    uint64_t now = tn_now_mono_ns();
    tn_counter_inc(m.packets_bad);
    m.refused++;
    if (now >= m.again_ns) { /* perhaps it is ours that are old */
        m.again_ns = now + TN_SEC;
        tn_keys_refresh(keys_read, (void *)(uintptr_t)tn_keys_now()->version);
    }
    if (now < m.tell_refused_ns)
        return;
    TN_LOG(TN_LOG_WARN, "membership", "packets without this cluster's key are refused",
           TN_LOG_Z("ip", ip), TN_LOG_U("port", port), TN_LOG_U("packets", m.refused),
           TN_LOG_Z("fix", "if a member of another cluster lives there, its seeds or ours are "
                           "wrong, or it has taken over an "
                           "address; nothing of it is believed here"));
    m.tell_refused_ns = now + 60 * TN_SEC;
    m.refused = 0;
}

static void packet_came(void *user, const char *ip, uint16_t port, const uint8_t *p, size_t n)
{
    (void)user;
    if (n <= MAC_BYTES || n > PACKET_BYTES_MAX || !m.swim ||
        !tn_keys_believe(tn_keys_now(), tn_blob_from(p, n - MAC_BYTES), p + n - MAC_BYTES)) {
        refuse_packet(ip, port); /* another cluster's, or nobody's */
        return;
    }
    tn_swim_receive(m.swim, tn_now_mono_ns(), ip, port, tn_blob_from(p, n - MAC_BYTES));
    run_swim();
}

static void roles_of(const tn_member *member, char *text, size_t size)
{
    size_t n = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < TN_SERVICE_COUNT; i++)
        if (member->role_ports[i] && n < size)
            n += (size_t)snprintf(text + n, size - n, n ? ",%s" : "%s", tn_service_name(i));
}

static void changed(void *user, const tn_member *member, tn_member_state before)
{
    (void)user;
    char id[37], roles[64];
    tn_uuid_format(member->host_id, id);
    roles_of(member, roles, sizeof roles);
    TN_LOG(TN_LOG_INFO, "membership",
           tn_member_serves(member)   ? "member joined"
           : before == TN_MEMBER_LEFT ? "member comes"
                                      : "member serves no more",
           TN_LOG_Z("host_id", id), TN_LOG_Z("roles", roles), TN_LOG_Z("ip", member->ip),
           TN_LOG_U("port", member->port), TN_LOG_Z("state", tn_member_state_name(member->state)),
           TN_LOG_Z("before", tn_member_state_name(before)),
           TN_LOG_U("draining", member->draining));
    if (!tn_loop_timer_active(&m.settle))
        tn_loop_timer_start(&m.settle,
                            tn_now_mono_ns() + (tn_member_serves(member) ? SETTLE_NS : 0));
}

static void missed(tn_msg *msg)
{
    free(msg);
    missed_listener();
}

static void refuted(void *user)
{
    (void)user;
    tn_reach_refuted(&m.reach, tn_now_mono_ns());
    if (m.reach.out)
        return; /* that is known, and nobody has anything of it */
    TN_LOG(TN_LOG_WARN, "membership",
           "others have taken this process for dead, or nearly: it was slow, or cut off");
    for (uint32_t i = 0; missed_listener && i < tn_loops_count(); i++) {
        tn_msg *msg = tn_xcalloc(1, sizeof(*msg));
        msg->run = missed;
        tn_loop_post(tn_loops_get(i), msg);
    }
}

void tn_agent_meet(const char *ip, uint16_t port)
{
    tn_swim_join(m.swim, tn_now_mono_ns(), ip, port);
    run_swim();
}

void tn_agent_ask(const char *ip, uint16_t port)
{
    tn_swim_ask(m.swim, ip, port);
    run_swim();
}

bool tn_agent_alone(void)
{
    tn_swim_stats stats;
    tn_swim_stats_get(m.swim, &stats);
    return stats.living <= 1;
}

const tn_member *tn_agent_self(void) { return tn_swim_self(m.swim); }
bool tn_agent_knows(const uint8_t host_id[16])
{
    const tn_member *member = tn_swim_find(m.swim, host_id);
    return member && member->state <= TN_MEMBER_SUSPECT;
}

typedef struct doubt {
    tn_msg msg;
    uint8_t host_id[16];
} doubt;

static void doubted(tn_msg *msg)
{
    doubt *d = TN_CONTAINER_OF(msg, doubt, msg);
    if (m.swim) {
        tn_swim_doubt(m.swim, tn_now_mono_ns(), d->host_id);
        run_swim();
    }
    free(d);
}

void tn_members_doubt(const uint8_t host_id[16])
{
    if (!m.on)
        return;
    doubt *d = tn_xcalloc(1, sizeof(*d));
    d->msg.run = doubted;
    memcpy(d->host_id, host_id, 16);
    tn_loop_post(tn_loops_get(0), &d->msg);
}

bool tn_members_evict(const uint8_t host_id[16])
{
    bool done = m.swim && tn_swim_evict(m.swim, tn_now_mono_ns(), host_id);
    if (done)
        run_swim();
    return done;
}

void tn_members_rekey(void (*done)(void *user, uint64_t version), void *user)
{
    if (m.swim)
        tn_records_again();
    tn_keys_refresh(done, user);
}

/* ---- start and end ---- */

static bool open_sockets(const tn_members_options *o)
{
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++) {
        if (!o->ports[i])
            continue;
        m.status =
            tn_dgram_open(o->bind_ip, o->ports[i], packet_came, NULL, &m.sockets[i], &m.error);
        if (m.status != TN_OK)
            return false;
    }
    return true;
}

static void loop_start(void *arg)
{
    const tn_members_options *o = arg;
    tn_swim_options opt;
    tn_swim_options_default(&opt);
    if (!open_sockets(o))
        return;
    tn_rng rng;
    tn_rng_seed_random(&rng);
    tn_members_begin();
    memcpy(opt.self.host_id, m.self_id, 16);
    snprintf(opt.self.ip, sizeof(opt.self.ip), "%s",
             o->broadcast_ip ? o->broadcast_ip : o->bind_ip);
    snprintf(opt.self.version, sizeof(opt.self.version), "%.23s", o->version);
    opt.self.started_ms = tn_now_wall_ns() / TN_MS;
    for (size_t i = TN_SERVICE_COUNT; i > 0; i--)
        if (o->ports[i - 1])
            opt.self.port = o->ports[i - 1];
    memcpy(opt.self.role_ports, o->role_ports, sizeof(opt.self.role_ports));
    opt.self.draining = true; /* nobody asks it for anything before it is ready */
    opt.seed = tn_rng_next(&rng);
    opt.send = send_packet;
    opt.changed = changed;
    opt.refuted = refuted;
    tn_loop_timer_init(&m.tick, tick);
    tn_loop_timer_init(&m.settle, publish);
    m.swim = tn_swim_create(&opt, tn_now_mono_ns());
    tn_seeds_start();
    if (o->use_store)
        tn_records_start(!o->seeds_only);
}

/* By way of the mailboxes, as all others: one that came earlier may be on its way, or there already. */
static void first_snapshot(void *arg)
{
    (void)arg;
    post_snapshot(installed);
}

static void nothing(void *arg) { (void)arg; }

static void loop_serve(void *arg)
{
    const tn_swim_stats *stats = arg;
    if (tn_reach_serve(&m.reach, tn_now_mono_ns(), stats->pinged, stats->living))
        tn_swim_serve(m.swim, tn_now_mono_ns());
    else
        tell_unreached();
    run_swim();
}

static void get_stats(void *arg) { tn_swim_stats_get(m.swim, arg); }

/* Others are heard of within a round trip; a first ring with this process alone would take all from them.  They are to
 * have reached it, too. */
static void wait_for_others(const tn_members_options *options, tn_swim_stats *stats)
{
    uint64_t began = tn_now_mono_ns(), now = began;
    stats->living = 1;
    while (now < began + FORM_NS && (stats->living == 1 || now < began + FORM_NS / 2)) {
        if (!tn_records_hopeful() && !options->n_seeds)
            break;
        usleep(20000);
        tn_loop_call(tn_loops_get(0), get_stats, stats);
        now = tn_now_mono_ns();
    }
    for (; stats->living > 1 && !stats->pinged && now < began + REACH_NS; now = tn_now_mono_ns()) {
        usleep(20000);
        tn_loop_call(tn_loops_get(0), get_stats, stats);
    }
}

tn_status tn_members_start(const tn_members_options *options, tn_error *err)
{
    m.living = tn_metrics_gauge("tenon_members",
                                "living members of the cluster, this process included", NULL, 0);
    m.packets_bad = tn_metrics_counter("tenon_membership_packets_refused",
                                       "packets without the cluster's MAC", NULL, 0);
    m.slots = tn_xcalloc(tn_loops_count(), sizeof(m.slots[0]));
    m.status = TN_OK;
    tn_seeds_look_up(options);
    tn_loop_call(tn_loops_get(0), loop_start, (void *)(uintptr_t)options);
    if (m.status != TN_OK) {
        *err = m.error;
        return m.status;
    }
    tn_swim_stats stats = {.living = 1};
    wait_for_others(options, &stats);
    tn_loop_call(tn_loops_get(0), loop_serve, &stats);
    if (stats.living > 1)
        usleep(LET_GO_NS / TN_US);
    tn_loop_call(tn_loops_get(0), first_snapshot, NULL);
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(tn_loops_get(i), nothing, NULL); /* behind it in the mailbox */
    m.on = true;
    return TN_OK;
}

static void loop_drain(void *arg)
{
    (void)arg;
    tn_reach_end(&m.reach);
    tn_swim_drain(m.swim, tn_now_mono_ns());
    run_swim();
}

void tn_members_drain(void)
{
    if (m.on)
        tn_loop_call(tn_loops_get(0), loop_drain, NULL);
}

static void loop_leave(void *arg)
{
    (void)arg;
    tn_reach_end(&m.reach);
    tn_swim_leave(m.swim, tn_now_mono_ns());
    run_swim();
}

static void loop_stop(void *arg)
{
    (void)arg;
    tn_loop_timer_stop(&m.tick);
    tn_loop_timer_stop(&m.settle);
    tn_seeds_stop();
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++)
        if (m.sockets[i])
            tn_dgram_close(m.sockets[i]);
    memset(m.sockets, 0, sizeof(m.sockets));
    tn_swim_destroy(m.swim);
    m.swim = NULL;
}

void tn_members_stop(void)
{
    if (!m.on)
        return;
    tn_records_stop();
    /* a packet may be lost; those who have heard it tell the others */
    for (int i = 0; i < 2; i++) {
        tn_loop_call(tn_loops_get(0), loop_leave, NULL);
        usleep(FAREWELL_NS / TN_US);
    }
    tn_loop_call(tn_loops_get(0), loop_stop, NULL);
}

void tn_members_done(void)
{
    for (uint32_t i = 0; m.slots && i < tn_loops_count(); i++) {
        snapshot_unref(m.slots[i].before);
        snapshot_unref(m.slots[i].now);
    }
    free(m.slots);
    m.slots = NULL;
    m.on = false;
}
