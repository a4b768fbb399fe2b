/* SPDX-License-Identifier: MIT */
/* Packets: their wire form (tenon.GossipPacket), and which news travels with them: the newest first, each so many
 * times as makes it near certain that all hear of it.  Written and read by hand, without memory of its own: packets name
 * dozens of members, and of most of these nothing but the incarnation is looked at. */
#include "membership/private.h"

/* ---- in ---- */

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

typedef struct field {
    uint32_t number, type;
    uint64_t value; /* of a varint; the length of bytes */
    const uint8_t *p;
} field;

static bool get_varint(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t byte = *(*p)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool get_field(const uint8_t **p, const uint8_t *end, field *out)
{
    uint64_t tag;
    if (!get_varint(p, end, &tag) || tag >> 3 == 0 || tag > UINT32_MAX)
        return false;
    out->number = (uint32_t)tag >> 3;
    out->type = tag & 7;
    if (out->type == WIRE_VARINT)
        return get_varint(p, end, &out->value);
    if (out->type == WIRE_BYTES) {
        if (!get_varint(p, end, &out->value))
            return false;
    } else if (out->type == WIRE_64 || out->type == WIRE_32) {
        out->value = out->type == WIRE_64 ? 8 : 4;
    } else {
        return false;
    }
    out->p = *p;
    if (out->value > (uint64_t)(end - *p))
        return false;
    *p += out->value;
    return true;
}

static uint64_t get_u64le(const uint8_t *p)
{
    uint64_t value = 0;
    for (unsigned i = 8; i-- > 0;)
        value = value << 8 | p[i];
    return value;
}

/* Text without NUL, terminated. */
static bool get_text(const field *f, char *out, size_t size)
{
    if (f->type != WIRE_BYTES || f->value >= size || memchr(f->p, 0, f->value) ||
        !tn_utf8_valid(f->p, f->value))
        return false;
    memcpy(out, f->p, f->value);
    out[f->value] = 0;
    return true;
}

/* Of a packet, without its news; fields that a later release has are passed over. */
static bool take_field(swim_packet *out, const field *f)
{
    static const uint8_t types[] = {0,           WIRE_VARINT, WIRE_VARINT, WIRE_BYTES,
                                    WIRE_BYTES,  WIRE_BYTES,  WIRE_VARINT, WIRE_64,
                                    WIRE_VARINT, WIRE_BYTES,  WIRE_BYTES,  WIRE_VARINT};
    if (f->number >= TN_COUNT_OF(types))
        return true;
    if (f->type != types[f->number])
        return false;
    switch (f->number) {
    case 1:
        out->kind = f->value <= UINT32_MAX ? (uint32_t)f->value : 0;
        break;
    case 2:
        out->seq = f->value;
        break;
    case 3:
        out->from = f->value == 16 ? f->p : NULL;
        break;
    case 4:
        out->target = f->value == 16 ? f->p : NULL;
        break;
    case 5:
        return get_text(f, out->target_ip, sizeof(out->target_ip));
    case 6:
        out->target_port = f->value <= UINT32_MAX ? (uint32_t)f->value : 0;
        break;
    case 7:
        out->digest = get_u64le(f->p);
        break;
    case 8:
        out->quiet = f->value != 0;
        break;
    case 9:
        out->buckets = f->p;
        out->n_buckets = f->value / 4;
        return f->value % 4 == 0;
    case 11:
        out->answer_only = f->value != 0;
        break;
    default:
        break;
    }
    return true;
}

bool swim_parse(tn_blob packet, swim_packet *out)
{
    const uint8_t *p = packet.p, *end = p + packet.n;
    memset(out, 0, sizeof(*out));
    out->end = end;
    while (p < end) {
        const uint8_t *start = p;
        field f;
        if (!get_field(&p, end, &f) || !take_field(out, &f))
            return false;
        if (f.number == 10 && !out->news)
            out->news = start;
    }
    if (!out->news)
        out->news = end;
    return out->from != NULL;
}

/* The head of a piece of news as every release has written it: id, incarnation, state. */
static void read_head(swim_item *item)
{
    const uint8_t *p = item->p, *end = p + item->n;
    uint64_t incarnation;
    if (item->n < 22 || p[0] != (1 << 3 | WIRE_BYTES) || p[1] != 16 ||
        p[18] != (2 << 3 | WIRE_VARINT))
        return;
    const uint8_t *id = p + 2;
    p += 19;
    if (!get_varint(&p, end, &incarnation) || end - p < 2 || p[0] != (3 << 3 | WIRE_VARINT) ||
        p[1] >= 0x80)
        return;
    item->id = id;
    item->incarnation = incarnation;
    item->state = p[1];
}

size_t swim_parse_news(const uint8_t **at, const uint8_t *end, swim_item *out, size_t n_max)
{
    size_t n = 0;
    field f;
    while (n < n_max && *at < end && get_field(at, end, &f)) {
        if (f.number != 10)
            continue;
        out[n] = (swim_item){.p = f.p, .n = f.value};
        read_head(&out[n++]);
    }
    return n;
}

static void take_port(tn_member *is, size_t *n, uint64_t port)
{
    if (*n < TN_SERVICE_COUNT)
        is->role_ports[*n] = port <= UINT16_MAX ? (uint16_t)port : 0;
    ++*n;
}

static bool take_ports(tn_member *is, size_t *n, const field *f)
{
    if (f->type == WIRE_VARINT) { /* not packed */
        take_port(is, n, f->value);
        return true;
    }
    const uint8_t *p = f->p;
    for (const uint8_t *end = p + f->value; p < end;) {
        uint64_t port;
        if (!get_varint(&p, end, &port))
            return false;
        take_port(is, n, port);
    }
    return f->type == WIRE_BYTES;
}

static bool take_member_field(swim_said *out, const field *f, size_t *n_ports)
{
    static const uint8_t types[] = {0,           WIRE_BYTES,  WIRE_VARINT, WIRE_VARINT,
                                    WIRE_BYTES,  WIRE_VARINT, WIRE_BYTES,  WIRE_BYTES,
                                    WIRE_VARINT, WIRE_VARINT, WIRE_BYTES};
    tn_member *is = &out->is;
    if (f->number >= TN_COUNT_OF(types))
        return true;
    if (f->number == 6)
        return f->type != WIRE_32 && f->type != WIRE_64 && take_ports(is, n_ports, f);
    if (f->type != types[f->number])
        return false;
    switch (f->number) {
    case 1:
        if (f->value != 16)
            return false;
        memcpy(is->host_id, f->p, 16);
        break;
    case 2:
        is->incarnation = f->value;
        break;
    case 3:
        is->state = f->value <= TN_MEMBER_LEFT ? (tn_member_state)f->value : 0;
        break;
    case 4:
        return get_text(f, is->ip, sizeof(is->ip));
    case 5:
        is->port = (uint16_t)f->value;
        return f->value <= UINT16_MAX;
    case 7:
        return get_text(f, is->version, sizeof(is->version));
    case 8:
        is->started_ms = f->value;
        break;
    case 9:
        is->draining = f->value != 0;
        break;
    case 10:
        if (f->value == 16 && out->n_accusers < TN_COUNT_OF(out->accusers))
            out->accusers[out->n_accusers++] = f->p;
        break;
    default:
        break;
    }
    return true;
}

/* Of one that is said to live, all must be there; of others the id is enough. */
bool swim_parse_member(const swim_item *item, swim_said *out)
{
    const uint8_t *p = item->p, *end = p + item->n;
    bool has_id = false;
    size_t n_ports = 0;
    memset(&out->is, 0, sizeof(out->is));
    out->n_accusers = 0;
    while (p < end) {
        field f;
        if (!get_field(&p, end, &f) || !take_member_field(out, &f, &n_ports))
            return false;
        has_id = has_id || f.number == 1;
    }
    const tn_member *is = &out->is;
    return has_id && is->state >= TN_MEMBER_ALIVE &&
           (is->state != TN_MEMBER_ALIVE || (is->ip[0] && is->port));
}

/* ---- out ---- */

#define HEAD_MAX (160 + 3 + 4 * SWIM_BUCKETS) /* everything of a packet but the news */
#define ITEM_MAX 256

static uint8_t *put_varint(uint8_t *p, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *p++ = (uint8_t)(value | 0x80);
    *p++ = (uint8_t)value;
    return p;
}

static uint8_t *put_number(uint8_t *p, uint32_t field_number, uint64_t value)
{
    if (!value)
        return p;
    *p++ = (uint8_t)(field_number << 3 | WIRE_VARINT);
    return put_varint(p, value);
}

/* Up to 127 bytes. */
static uint8_t *put_bytes(uint8_t *p, uint32_t field_number, const void *bytes, size_t n)
{
    *p++ = (uint8_t)(field_number << 3 | WIRE_BYTES);
    *p++ = (uint8_t)n;
    memcpy(p, bytes, n);
    return p + n;
}

static uint8_t *put_text(uint8_t *p, uint32_t field_number, const char *text)
{
    size_t n = strlen(text);
    return n ? put_bytes(p, field_number, text, n) : p;
}

static uint8_t *put_ports(uint8_t *p, const tn_member *info)
{
    uint8_t ports[3 * TN_SERVICE_COUNT], *end = ports;
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++)
        end = put_varint(end, info->role_ports[i]);
    return put_bytes(p, 6, ports, (size_t)(end - ports));
}

static uint8_t *put_description(uint8_t *p, const tn_member *info)
{
    p = put_text(p, 4, info->ip);
    p = put_number(p, 5, info->port);
    p = put_ports(p, info);
    p = put_text(p, 7, info->version);
    p = put_number(p, 8, info->started_ms);
    return put_number(p, 9, info->draining);
}

/* whole: for one who may not know it; else of an accused the accusers are enough. */
static uint8_t *put_member(uint8_t *out, const swim_member *m, bool whole)
{
    const swim_cold *cold = swim_cold_of(m);
    uint8_t *p = put_bytes(out + 2, 1, m->id, 16);
    p = put_number(p, 2, m->incarnation);
    p = put_number(p, 3, m->state);
    if (m->state == TN_MEMBER_ALIVE || (m->state == TN_MEMBER_SUSPECT && whole))
        p = put_description(p, &cold->info);
    for (uint32_t i = 0; m->state == TN_MEMBER_SUSPECT && i < m->n_accusers; i++)
        p = put_bytes(p, 10, cold->accusers[i], 16);
    size_t n = (size_t)(p - out) - 2;
    TN_DEBUG_ASSERT(n + 4 <= ITEM_MAX);
    out[0] = 10 << 3 | WIRE_BYTES;
    if (n >= 0x80) {
        memmove(out + 3, out + 2, n);
        out[2] = (uint8_t)(n >> 7);
        out[1] = (uint8_t)(n | 0x80);
        return p + 1;
    }
    out[1] = (uint8_t)n;
    return p;
}

/* The news is written first, for the head tells whether some remains. */
typedef struct filling {
    uint8_t bytes[HEAD_MAX + TN_SWIM_PACKET_MAX + ITEM_MAX];
    uint8_t *p, *end; /* the next piece of news; as much as the head leaves free */
} filling;

static size_t put_head(tn_swim *s, const swim_out *out, uint8_t head[HEAD_MAX])
{
    uint8_t *p = put_number(head, 1, out->kind);
    p = put_number(p, 2, out->seq);
    p = put_bytes(p, 3, s->self->id, 16);
    if (out->target)
        p = put_bytes(p, 4, out->target, 16);
    if (out->target_ip) {
        p = put_text(p, 5, out->target_ip);
        p = put_number(p, 6, out->target_port);
    }
    if (s->digest) {
        *p++ = 7 << 3 | WIRE_64;
        for (unsigned i = 0; i < 8; i++)
            *p++ = (uint8_t)(s->digest >> 8 * i);
    }
    p = put_number(p, 8, s->n_news == 0);
    if (out->kind == GOSSIP_SYNC_REQ) {
        *p++ = 9 << 3 | WIRE_BYTES;
        p = put_varint(p, 4 * SWIM_BUCKETS);
        for (size_t b = 0; b < SWIM_BUCKETS; b++)
            for (unsigned i = 0; i < 4; i++)
                *p++ = (uint8_t)(s->buckets[b] >> 8 * i);
    }
    return (size_t)(p - head);
}

static void begin(filling *f, const swim_out *out)
{
    size_t head = 2 + 11 + 18 + 9 + 2; /* kind, seq, from, digest, quiet */
    head += out->answer_only ? 2u : 0u;
    head += out->kind == GOSSIP_SYNC_REQ ? 3u + 4u * SWIM_BUCKETS : 0u;
    head += out->target ? 18u : 0u;
    head += out->target_ip ? 2 + strlen(out->target_ip) + 4 : 0;
    f->p = f->bytes + HEAD_MAX;
    f->end = f->p + TN_SWIM_PACKET_MAX - head;
}

static bool add(filling *f, const swim_member *m, bool whole)
{
    uint8_t *p = put_member(f->p, m, whole);
    if (p > f->end)
        return false;
    f->p = p;
    return true;
}

static void put(tn_swim *s, const char *ip, uint16_t port, const swim_out *out, filling *f)
{
    uint8_t head[HEAD_MAX];
    size_t n = put_head(s, out, head);
    uint8_t *start = f->bytes + HEAD_MAX - n;
    memcpy(start, head, n);
    f->p = put_number(f->p, 11, out->answer_only);
    tn_blob bytes = tn_blob_from(start, (size_t)(f->p - start));
    TN_ASSERT(bytes.n <= TN_SWIM_PACKET_MAX);
    s->stats.packets_out++;
    s->stats.bytes_out += bytes.n;
    s->opt.send(s->opt.user, ip, port, bytes);
}

#define NEWS_MAX 64 /* in a packet */

/* Each piece of news that goes along moves to the end, so that all get their turn. */
static void add_news(tn_swim *s, filling *f, const swim_member *but)
{
    swim_member *told[NEWS_MAX];
    size_t n_told = 0, n = 0;
    s->overfull = false;
    while (s->n_news) {
        swim_member *m = s->news[s->news_head & (s->news_cap - 1)];
        if (m) {
            __builtin_prefetch(s->news[(s->news_head + 6) & (s->news_cap - 1)]);
            if (m != but && (n == NEWS_MAX || !add(f, m, false))) {
                s->overfull = true;
                break;
            }
            if (m != but)
                n++;
            swim_news_remove(s, m);
            if (--m->tell > 0)
                told[n_told++] = m;
        }
        s->news_head++;
    }
    if (!s->n_news)
        s->news_head = s->news_tail;
    for (size_t i = 0; i < n_told; i++)
        swim_news_put(s, told[i], false);
}

void swim_send(tn_swim *s, const char *ip, uint16_t port, const swim_out *out, swim_member *about)
{
    filling f;
    begin(&f, out);
    bool first = about && (about == s->self || about->state != TN_MEMBER_ALIVE);
    if (first)
        (void)add(&f, about, true);
    add_news(s, &f, first ? about : NULL);
    put(s, ip, port, out, &f);
}

void swim_send_members(tn_swim *s, const char *ip, uint16_t port, const bool marked[SWIM_BUCKETS])
{
    const swim_out out = {.kind = GOSSIP_SYNC_DATA};
    filling f;
    begin(&f, &out);
    uint8_t *first = f.p;
    for (uint32_t i = 0; i < SWIM_BUCKETS; i++) {
        uint32_t walk = 0;
        for (const swim_member *m; marked[i] && (m = swim_member_in_bucket(s, i, &walk));) {
            if (add(&f, m, true))
                continue;
            put(s, ip, port, &out, &f);
            begin(&f, &out);
            (void)add(&f, m, true);
        }
    }
    if (f.p > first)
        put(s, ip, port, &out, &f);
}
