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

/* Nobody has the role at all, since then: whoever asks waits until that moment for a host, and is answered with the cause.  For
 * longer than the only host takes to be restarted, well within what clients wait for by themselves, and a little before
 * the caller's own deadline. */
#define TN_RETRY_NOBODY_NS (5 * TN_SEC)
#define TN_RETRY_BEFORE_NS (TN_SEC / 2) /* ... or a tenth of the time there is */
uint64_t tn_retry_nobody_until_ns(uint64_t since_ns, uint64_t deadline_ns);
/* It is the caller's deadline that ends the wait, and a restart would have been over by then.  To try again in what is left is
 * in vain, and would hide the cause: Go's SDK, and so the CLI, does, and says no more than that its time is over. */
#define TN_RETRY_RESTART_NS (3 * TN_SEC)
bool tn_retry_is_in_vain(uint64_t since_ns, uint64_t deadline_ns);

/* The wait before that try (0: the first), or 0 when there have been enough. */
uint64_t tn_retry_wait_ns(tn_retry_budget *budget, uint32_t tries, uint64_t now_ns,
                          uint64_t chance);

#endif
