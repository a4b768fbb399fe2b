/* SPDX-License-Identifier: MIT */
/* The waits between tries, by the number of tries, chance and what is left of the budget. */
#include "client/retry.h"

#define MIN_NS (20 * TN_MS)
#define SOON 24       /* tries of the first two seconds, in which an owner changes, ... */
#define SOON_SHIFT 2u /* ... at most 4 times as far apart, the others 64 times */
#define LATE_SHIFT 6u
#define STEP_NS (TN_SEC / TN_RETRY_PER_S)

static bool take(tn_retry_budget *b, uint64_t now_ns)
{
    uint64_t from = b->full_at_ns > now_ns ? b->full_at_ns : now_ns;
    if (from - now_ns > (TN_RETRY_BURST - 1) * STEP_NS)
        return false;
    b->full_at_ns = from + STEP_NS;
    return true;
}

uint64_t tn_retry_wait_ns(tn_retry_budget *budget, uint32_t tries, uint64_t now_ns, uint64_t chance)
{
    if (tries >= TN_RETRY_TRIES_MAX)
        return 0;
    uint32_t shift = tries < SOON_SHIFT ? tries : tries < SOON ? SOON_SHIFT : LATE_SHIFT;
    if (!take(budget, now_ns))
        shift = LATE_SHIFT;
    uint64_t wait = MIN_NS << shift;
    return wait - wait / 4 + chance % (wait / 2);
}

uint64_t tn_retry_nobody_until_ns(uint64_t since_ns, uint64_t deadline_ns)
{
    uint64_t left = deadline_ns > since_ns ? deadline_ns - since_ns : 0;
    uint64_t before = left / 10 < TN_RETRY_BEFORE_NS ? left / 10 : TN_RETRY_BEFORE_NS;
    return since_ns + (left - before < TN_RETRY_NOBODY_NS ? left - before : TN_RETRY_NOBODY_NS);
}

bool tn_retry_is_in_vain(uint64_t since_ns, uint64_t deadline_ns)
{
    uint64_t waited = tn_retry_nobody_until_ns(since_ns, deadline_ns) - since_ns;
    return waited >= TN_RETRY_RESTART_NS && waited < TN_RETRY_NOBODY_NS;
}
