/* SPDX-License-Identifier: MIT */
/* Circuit breakers, one a destination of requests that leave the server: after more than five failures in a row nothing
 * is sent there for a minute, then one request tries.  Besides, so many are out at once at most. */
#ifndef TN_HISTORY_BREAKER_H
#define TN_HISTORY_BREAKER_H

#include "base/base.h"
#include "base/breaker.h"

typedef struct tn_breakers {
    tn_map map;
} tn_breakers;
void tn_breakers_init(tn_breakers *all);
void tn_breakers_done(tn_breakers *all);
/* 0: go ahead, and say how it went; else ask again in so long. */
uint64_t tn_breakers_wait_ns(tn_breakers *all, tn_str ns_id, tn_str destination,
                             uint64_t now_mono_ns);
void tn_breakers_report(tn_breakers *all, tn_str ns_id, tn_str destination, bool down,
                        uint64_t now_mono_ns);
/* For who describes what waits. */
bool tn_breakers_are_open(const tn_breakers *all, tn_str ns_id, tn_str destination);

#endif
