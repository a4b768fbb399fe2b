/* SPDX-License-Identifier: MIT */
/* Time, randomness and ids.  All of them come through here so that tests and the simulator can
 * replay them; the state machine gets them as inputs and calls none of this. */
#ifndef TN_BASE_CLOCK_H
#define TN_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include <tenon/plugin.h>

#include "base/arena.h"

#define TN_US UINT64_C(1000)
#define TN_MS UINT64_C(1000000)
#define TN_SEC UINT64_C(1000000000)

uint64_t tn_now_wall_ns(void); /* since 1970; may jump */
uint64_t tn_now_mono_ns(void); /* never goes back; for deadlines and delays */
/* Replaces both clocks (tests); NULL restores the machine's. */
void tn_clock_override(uint64_t (*wall_ns)(void), uint64_t (*mono_ns)(void));

/* A small seedable generator (xoshiro256**) for jitter and choices; not for secrets. */
typedef struct tn_rng {
    uint64_t s[4];
} tn_rng;
void tn_rng_seed(tn_rng *rng, uint64_t seed);
void tn_rng_seed_random(tn_rng *rng);
uint64_t tn_rng_next(tn_rng *rng);
uint64_t tn_rng_below(tn_rng *rng, uint64_t bound); /* bound 0: 0 */

void tn_random_bytes(void *p, size_t n); /* from the kernel; for keys */

#define TN_UUID_TEXT_LEN 36
/* Writes 36 characters and a NUL. */
void tn_uuid_format(const uint8_t id[16], char out[37]);
bool tn_uuid_parse(tn_str text, uint8_t out[16]); /* lower or upper case; hyphens required */
void tn_uuid_v4(tn_rng *rng, uint8_t out[16]);
/* Time-ordered id (RFC 9562): new rows land together. */
void tn_uuid_v7(tn_rng *rng, uint64_t wall_ns, uint8_t out[16]);
/* Random but for what RFC 9562 leaves to whoever makes it: its version tells that a host made it that proves what it knows
 * (rpc/secrets.h). */
void tn_uuid_v8(tn_rng *rng, uint8_t out[16]);
/* Name-based from a 16-byte space and a name (SHA-1, RFC 9562 version 5): the same input gives the
 * same id. */
void tn_uuid_v5(const uint8_t space[16], tn_blob name, uint8_t out[16]);

/* SipHash-2-4 with a 128-bit result under a 16-byte key: the MAC of tokens. */
void tn_mac128(const uint8_t key[16], tn_blob bytes, uint8_t out[16]);

#endif
