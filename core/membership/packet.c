/* SPDX-License-Identifier: MIT */
/* Packets: their wire form (tenon.GossipPacket), and which news travels with them: the newest first, each so many
 * times as makes it near certain that all hear of it. */
#include <stdio.h>

#include "membership/private.h"

/* ---- in ---- */

Tenon__GossipPacket *swim_parse(tn_swim *s, tn_blob packet)
{
    Tenon__GossipPacket *in = NULL;
    if (tn_proto_unpack_peer(&tenon__gossip_packet__descriptor, packet, s->arena,
                             (ProtobufCMessage **)(void *)&in, NULL) != TN_OK)
        return NULL;
    return in->from.len == 16 ? in : NULL;
}

/* Of one that is said to live, all must be there; of others the id is enough. */
bool swim_parse_member(const Tenon__GossipMember *in, tn_member *out)
{
    size_t ip = strlen(in->ip), version = strlen(in->version);
    if (in->host_id.len != 16 || in->state < TN_MEMBER_ALIVE || in->state > TN_MEMBER_LEFT ||
        ip >= sizeof(out->ip) || version >= sizeof(out->version) || in->port > UINT16_MAX ||
        (in->state == TN_MEMBER_ALIVE && (ip == 0 || in->port == 0)))
        return false;
    *out = (tn_member){.state = (tn_member_state)in->state,
                       .draining = in->draining,
                       .incarnation = in->incarnation,
                       .started_ms = in->started_ms,
                       .port = (uint16_t)in->port};
    memcpy(out->host_id, in->host_id.data, 16);
    memcpy(out->ip, in->ip, ip);
    memcpy(out->version, in->version, version);
    for (size_t i = 0; i < in->n_role_ports && i < TN_SERVICE_COUNT; i++)
        out->role_ports[i] = in->role_ports[i] <= UINT16_MAX ? (uint16_t)in->role_ports[i] : 0;
    return true;
}

/* ---- out ---- */

/* Everything of a packet but the news; a SYNC_REQ carries the buckets besides. */
#define FRAME_MAX 160
#define SYNC_FRAME_MAX (FRAME_MAX + 4 * SWIM_BUCKETS)

static bool name_accusers(tn_swim *s, Tenon__GossipMember *out, const swim_member *m)
{
    out->accusers = TN_NEW_ARRAY(s->arena, ProtobufCBinaryData, SWIM_INDIRECT);
    if (!out->accusers)
        return false;
    for (uint32_t i = 0; i < m->accusers; i++) {
        out->accusers[i].data = (uint8_t *)(uintptr_t)m->accuser_ids[i];
        out->accusers[i].len = 16;
    }
    out->n_accusers = m->accusers;
    return true;
}

static Tenon__GossipMember *describe(tn_swim *s, const swim_member *m)
{
    Tenon__GossipMember *out = tn_arena_alloc(s->arena, sizeof(*out));
    uint32_t *ports = TN_NEW_ARRAY(s->arena, uint32_t, TN_SERVICE_COUNT);
    if (!out || !ports)
        return NULL;
    tenon__gossip_member__init(out);
    out->host_id.data = (uint8_t *)(uintptr_t)m->info.host_id;
    out->host_id.len = 16;
    out->incarnation = m->info.incarnation;
    out->state = m->info.state;
    if (!swim_lives(m))
        return out;
    out->ip = (char *)(uintptr_t)m->info.ip;
    out->port = m->info.port;
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++)
        ports[i] = m->info.role_ports[i];
    out->role_ports = ports;
    out->n_role_ports = TN_SERVICE_COUNT;
    out->version = (char *)(uintptr_t)m->info.version;
    out->started_ms = m->info.started_ms;
    out->draining = m->info.draining;
    if (m->info.state == TN_MEMBER_SUSPECT && !name_accusers(s, out, m))
        return NULL;
    return out;
}

static size_t varint_size(uint64_t n)
{
    size_t size = 1;
    for (; n >= 0x80; n >>= 7)
        size++;
    return size;
}

/* What a member takes in a packet, at most, without packing it twice: tags, lengths, id, state, draining; numbers; texts. */
static size_t size_of(const swim_member *m)
{
    size_t size = 3 + 18 + 1 + varint_size(m->info.incarnation) + 2;
    if (!swim_lives(m))
        return size;
    size += 2 + strlen(m->info.ip) + 1 + varint_size(m->info.port) + 2 + 2 + strlen(m->info.version) + 1 +
            varint_size(m->info.started_ms) + 2;
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++)
        size += varint_size(m->info.role_ports[i]);
    return size + (m->info.state == TN_MEMBER_SUSPECT ? 18 * m->accusers : 0);
}

typedef struct filling {
    Tenon__GossipMember *members[64];
    size_t n, bytes, bytes_max;
} filling;

static bool add(tn_swim *s, filling *f, const swim_member *m)
{
    size_t most = size_of(m);
    if (f->n == TN_COUNT_OF(f->members) || f->bytes + most > f->bytes_max)
        return false;
    Tenon__GossipMember *out = describe(s, m);
    if (!out)
        return false;
    f->members[f->n++] = out;
    f->bytes += most;
    return true;
}

/* Each piece of news that goes along moves to the end, so that all get their turn. */
static void add_news(tn_swim *s, filling *f, const swim_member *but)
{
    tn_list told;
    tn_list_init(&told);
    s->overfull = false;
    for (tn_list *link = tn_list_first(&s->news); link; link = tn_list_first(&s->news)) {
        swim_member *m = (swim_member *)((char *)link - offsetof(swim_member, news));
        if (m != but && !add(s, f, m)) {
            s->overfull = true;
            break;
        }
        tn_list_remove(link);
        if (--m->tell > 0)
            tn_list_push_back(&told, link);
    }
    for (tn_list *link = tn_list_pop_front(&told); link; link = tn_list_pop_front(&told))
        tn_list_push_back(&s->news, link);
}

static void put(tn_swim *s, const char *ip, uint16_t port, const swim_out *out, filling *f)
{
    Tenon__GossipPacket packet = TENON__GOSSIP_PACKET__INIT;
    packet.kind = out->kind;
    packet.seq = out->seq;
    packet.from.data = s->self->info.host_id;
    packet.from.len = 16;
    if (out->target) {
        packet.target.data = (uint8_t *)(uintptr_t)out->target;
        packet.target.len = 16;
    }
    if (out->target_ip) {
        packet.target_ip = (char *)(uintptr_t)out->target_ip;
        packet.target_port = out->target_port;
    }
    packet.digest = s->digest;
    packet.quiet = tn_list_empty(&s->news);
    packet.answer_only = out->answer_only;
    if (out->kind == GOSSIP_SYNC_REQ) {
        packet.buckets = s->buckets;
        packet.n_buckets = SWIM_BUCKETS;
    }
    packet.news = f->members;
    packet.n_news = f->n;
    tn_blob bytes;
    if (tn_proto_pack(&packet.base, s->arena, &bytes) != TN_OK)
        return;
    TN_ASSERT(bytes.n <= TN_SWIM_PACKET_MAX);
    s->stats.packets_out++;
    s->stats.bytes_out += bytes.n;
    s->opt.send(s->opt.user, ip, port, bytes);
}

void swim_send(tn_swim *s, const char *ip, uint16_t port, const swim_out *out, swim_member *about)
{
    filling f = {.bytes_max = TN_SWIM_PACKET_MAX -
                              (out->kind == GOSSIP_SYNC_REQ ? SYNC_FRAME_MAX : FRAME_MAX)};
    bool first = about && (about == s->self || about->info.state != TN_MEMBER_ALIVE);
    if (first)
        (void)add(s, &f, about);
    add_news(s, &f, first ? about : NULL);
    put(s, ip, port, out, &f);
}

void swim_send_members(tn_swim *s, const char *ip, uint16_t port, const bool marked[SWIM_BUCKETS])
{
    const swim_out out = {.kind = GOSSIP_SYNC_DATA};
    filling f = {.bytes_max = TN_SWIM_PACKET_MAX - FRAME_MAX};
    for (size_t i = 0; i < s->n_known; i++) {
        const swim_member *m = s->known[i];
        if (!marked[swim_bucket(m->info.host_id)])
            continue;
        if (add(s, &f, m))
            continue;
        put(s, ip, port, &out, &f);
        f.n = f.bytes = 0;
        (void)add(s, &f, m);
    }
    if (f.n)
        put(s, ip, port, &out, &f);
}
