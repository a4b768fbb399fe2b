/* SPDX-License-Identifier: MIT */
/* When a baton whose owner could not be found is sent again: soon at first, since owners change in a moment, then rarely,
 * never all together, and never more of them than a loop's budget allows: what is beyond it waits for long.  Pure. */
#ifndef TN_CLIENT_RETRY_H
#define TN_CLIENT_RETRY_H

#include "base/base.h"

#define TN_RETRY_TRIES_MAX 34
#define TN_RETRY_PER_S 2000u /* a loop's budget, ... */
#define TN_RETRY_BURST 4000u /* ... and what it saves up */

typedef struct tn_retry_budget { /* zeroed: full */
    uint64_t full_at_ns;         /* when it would be, if nobody took */
} tn_retry_budget;

/* The wait before that try (0: the first), or 0 when there have been enough. */
uint64_t tn_retry_wait_ns(tn_retry_budget *budget, uint32_t tries, uint64_t now_ns,
                          uint64_t chance);

#endif
