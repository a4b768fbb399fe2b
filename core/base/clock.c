/* SPDX-License-Identifier: MIT */
/* Clocks, random numbers and UUIDs. */
#include "base/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/base.h"

typedef uint64_t (*clock_fn)(void);
/* Set by tests before threads look; relaxed is enough, nothing else is published with them. */
static _Atomic(clock_fn) wall_override, mono_override;

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    TN_ASSERT(clock_gettime(id, &ts) == 0);
    return (uint64_t)ts.tv_sec * TN_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t tn_now_wall_ns(void)
{
    clock_fn fn = atomic_load_explicit(&wall_override, memory_order_relaxed);
    return fn ? fn() : read_clock(CLOCK_REALTIME);
}

uint64_t tn_now_mono_ns(void)
{
    clock_fn fn = atomic_load_explicit(&mono_override, memory_order_relaxed);
    return fn ? fn() : read_clock(CLOCK_MONOTONIC);
}

void tn_clock_override(uint64_t (*wall_ns)(void), uint64_t (*mono_ns)(void))
{
    atomic_store_explicit(&wall_override, wall_ns, memory_order_relaxed);
    atomic_store_explicit(&mono_override, mono_ns, memory_order_relaxed);
}

static inline uint64_t rotl(uint64_t x, unsigned b) { return x << b | x >> (64 - b); }

/* The seed is stretched by splitmix64, as the generator's authors advise: a state of zeros would
 * never leave zero. */
void tn_rng_seed(tn_rng *rng, uint64_t seed)
{
    for (size_t i = 0; i < 4; i++) {
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        rng->s[i] = z ^ z >> 31;
    }
}

void tn_rng_seed_random(tn_rng *rng)
{
    do
        tn_random_bytes(rng->s, sizeof rng->s);
    while (!(rng->s[0] | rng->s[1] | rng->s[2] | rng->s[3]));
}

uint64_t tn_rng_next(tn_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* Lemire's multiply method: the low half tells the few draws that would favour small results. */
uint64_t tn_rng_below(tn_rng *rng, uint64_t bound)
{
    if (bound == 0)
        return 0;
    unsigned __int128 m = (unsigned __int128)tn_rng_next(rng) * bound;
    if ((uint64_t)m < bound) {
        uint64_t refuse = (0 - bound) % bound;
        while ((uint64_t)m < refuse)
            m = (unsigned __int128)tn_rng_next(rng) * bound;
    }
    return (uint64_t)(m >> 64);
}

void tn_random_bytes(void *p, size_t n)
{
    uint8_t *at = p;
    while (n) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        TN_ASSERT(got > 0); /* without the kernel's randomness no key is a key */
        at += got;
        n -= (size_t)got;
    }
}

void tn_uuid_format(const uint8_t id[16], char out[37])
{
    static const char digits[] = "0123456789abcdef";
    char *o = out;
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *o++ = '-';
        *o++ = digits[id[i] >> 4];
        *o++ = digits[id[i] & 15];
    }
    *o = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool tn_uuid_parse(tn_str text, uint8_t out[16])
{
    if (text.n != TN_UUID_TEXT_LEN)
        return false;
    uint8_t id[16];
    size_t at = 0;
    for (size_t i = 0; i < 16; i++) {
        if (at == 8 || at == 13 || at == 18 || at == 23) {
            if (text.p[at++] != '-')
                return false;
        }
        int hi = hex_digit(text.p[at]), lo = hex_digit(text.p[at + 1]);
        if (hi < 0 || lo < 0)
            return false;
        id[i] = (uint8_t)(hi << 4 | lo);
        at += 2;
    }
    memcpy(out, id, 16);
    return true;
}

static void uuid_mark(uint8_t id[16], uint8_t version)
{
    id[6] = (uint8_t)((id[6] & 0x0f) | version << 4);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
}

static void uuid_random(tn_rng *rng, uint8_t version, uint8_t out[16])
{
    tn_put_u64be(out, tn_rng_next(rng));
    tn_put_u64be(out + 8, tn_rng_next(rng));
    uuid_mark(out, version);
}

void tn_uuid_v4(tn_rng *rng, uint8_t out[16]) { uuid_random(rng, 4, out); }
void tn_uuid_v8(tn_rng *rng, uint8_t out[16]) { uuid_random(rng, 8, out); }

/* 48 bits of milliseconds, then 12 bits of the fraction (RFC 9562 6.2, method 3), then
 * randomness. */
void tn_uuid_v7(tn_rng *rng, uint64_t wall_ns, uint8_t out[16])
{
    uint64_t ms = wall_ns / TN_MS, fraction = wall_ns % TN_MS * 4096 / TN_MS;
    tn_put_u64be(out, ms << 16 | fraction);
    tn_put_u64be(out + 8, tn_rng_next(rng));
    uuid_mark(out, 7);
}
