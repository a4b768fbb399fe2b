/* SPDX-License-Identifier: MIT */
/* SipHash, private to this room: rounds are parameters so that the map's fast variant (1-3) and the
 * strong one (2-4) share one body. */
#ifndef TN_BASE_SIPHASH_H
#define TN_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t tn_siphash13(uint64_t k0, uint64_t k1, const uint8_t *p, size_t n);
uint64_t tn_siphash24(uint64_t k0, uint64_t k1, const uint8_t *p, size_t n);
void tn_siphash24_128(uint64_t k0, uint64_t k1, const uint8_t *p, size_t n, uint64_t out[2]);

#endif
