/* SPDX-License-Identifier: MIT */
/* SHA-1 for name-based ids (UUID version 5) and for nothing else: it is no longer a safe digest. */
#include <string.h>

#include "base/base.h"

typedef struct sha1 {
    uint32_t h[5];
    uint8_t block[64];
    uint64_t length;
} sha1;

static inline uint32_t rotl32(uint32_t x, unsigned b) { return x << b | x >> (32 - b); }

static void sha1_block(sha1 *s)
{
    uint32_t w[80];
    for (size_t i = 0; i < 16; i++)
        w[i] = tn_get_u32be(s->block + 4 * i);
    for (size_t i = 16; i < 80; i++)
        w[i] = rotl32(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = s->h[0], b = s->h[1], c = s->h[2], d = s->h[3], e = s->h[4];
    for (size_t i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20)
            f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40)
            f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60)
            f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else
            f = b ^ c ^ d, k = 0xca62c1d6;
        uint32_t t = rotl32(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rotl32(b, 30), b = a, a = t;
    }
    s->h[0] += a, s->h[1] += b, s->h[2] += c, s->h[3] += d, s->h[4] += e;
}

static void sha1_put(sha1 *s, const uint8_t *p, size_t n)
{
    while (n) {
        size_t at = (size_t)(s->length % 64), piece = 64 - at < n ? 64 - at : n;
        memcpy(s->block + at, p, piece);
        s->length += piece;
        p += piece;
        n -= piece;
        if (s->length % 64 == 0)
            sha1_block(s);
    }
}

void tn_uuid_v5(const uint8_t space[16], tn_blob name, uint8_t out[16])
{
    sha1 s = {.h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}};
    sha1_put(&s, space, 16);
    sha1_put(&s, name.p, name.n);
    uint8_t tail[8];
    tn_put_u64be(tail, s.length * 8);
    sha1_put(&s, (const uint8_t[]){0x80}, 1);
    while (s.length % 64 != 56)
        sha1_put(&s, (const uint8_t[]){0}, 1);
    sha1_put(&s, tail, 8);
    for (size_t i = 0; i < 4; i++)
        tn_put_u32be(out + 4 * i, s.h[i]);
    out[6] = (uint8_t)((out[6] & 0x0f) | 0x50);
    out[8] = (uint8_t)((out[8] & 0x3f) | 0x80);
}
