/* SPDX-License-Identifier: MIT */
/* SipHash (Aumasson, Bernstein 2012), 64 and 128 bits: keyed hashing for maps, for placing keys on
 * shards and for the MAC of tokens. */
#include "base/siphash.h"

#include <string.h>

#include "base/base.h"

static inline uint64_t rotl(uint64_t x, unsigned b) { return x << b | x >> (64 - b); }

static inline uint64_t load64le(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

typedef struct sip {
    uint64_t v0, v1, v2, v3;
} sip;

static inline void sip_rounds(sip *s, int count)
{
    for (int i = 0; i < count; i++) {
        s->v0 += s->v1, s->v1 = rotl(s->v1, 13), s->v1 ^= s->v0, s->v0 = rotl(s->v0, 32);
        s->v2 += s->v3, s->v3 = rotl(s->v3, 16), s->v3 ^= s->v2;
        s->v0 += s->v3, s->v3 = rotl(s->v3, 21), s->v3 ^= s->v0;
        s->v2 += s->v1, s->v1 = rotl(s->v1, 17), s->v1 ^= s->v2, s->v2 = rotl(s->v2, 32);
    }
}

static inline sip sip_absorb(sip s, const uint8_t *p, size_t n, int rounds)
{
    size_t whole = n & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t m = load64le(p + i);
        s.v3 ^= m;
        sip_rounds(&s, rounds);
        s.v0 ^= m;
    }
    uint64_t m = (uint64_t)n << 56;
    for (size_t i = whole; i < n; i++)
        m |= (uint64_t)p[i] << (8 * (i - whole));
    s.v3 ^= m;
    sip_rounds(&s, rounds);
    s.v0 ^= m;
    return s;
}

static inline sip sip_begin(uint64_t k0, uint64_t k1)
{
    return (sip){k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d),
                 k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573)};
}

static inline uint64_t sip_fold(const sip *s) { return s->v0 ^ s->v1 ^ s->v2 ^ s->v3; }

uint64_t tn_siphash13(uint64_t k0, uint64_t k1, const uint8_t *p, size_t n)
{
    sip s = sip_absorb(sip_begin(k0, k1), p, n, 1);
    s.v2 ^= 0xff;
    sip_rounds(&s, 3);
    return sip_fold(&s);
}

uint64_t tn_siphash24(uint64_t k0, uint64_t k1, const uint8_t *p, size_t n)
{
    sip s = sip_absorb(sip_begin(k0, k1), p, n, 2);
    s.v2 ^= 0xff;
    sip_rounds(&s, 4);
    return sip_fold(&s);
}

void tn_siphash24_128(uint64_t k0, uint64_t k1, const uint8_t *p, size_t n, uint64_t out[2])
{
    sip s = sip_begin(k0, k1);
    s.v1 ^= 0xee;
    s = sip_absorb(s, p, n, 2);
    s.v2 ^= 0xee;
    sip_rounds(&s, 4);
    out[0] = sip_fold(&s);
    s.v1 ^= 0xdd;
    sip_rounds(&s, 4);
    out[1] = sip_fold(&s);
}

static void store64le(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void tn_mac128(const uint8_t key[16], tn_blob bytes, uint8_t out[16])
{
    uint64_t h[2];
    tn_siphash24_128(load64le(key), load64le(key + 8), bytes.p, bytes.n, h);
    store64le(out, h[0]);
    store64le(out + 8, h[1]);
}
