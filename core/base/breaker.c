/* SPDX-License-Identifier: MIT */
/* The circuit breaker's three states: closed, open until a time, and a try on its way. */
#include "base/breaker.h"

uint64_t tn_breaker_wait_ns(tn_breaker *b, const tn_breaker_rule *rule, uint64_t now_ns)
{
    if (!tn_breaker_is_open(b))
        return 0;
    if (b->open_until_ns > now_ns)
        return b->open_until_ns - now_ns;
    if (b->tried_ns && now_ns - b->tried_ns < rule->try_ns)
        return rule->try_ns - (now_ns - b->tried_ns);
    b->tried_ns = now_ns;
    return 0;
}

bool tn_breaker_succeeded(tn_breaker *b)
{
    bool was_open = tn_breaker_is_open(b);
    *b = (tn_breaker){0};
    return was_open;
}

bool tn_breaker_failed(tn_breaker *b, const tn_breaker_rule *rule, uint64_t now_ns)
{
    bool was_open = tn_breaker_is_open(b);
    if (b->failures < UINT32_MAX)
        b->failures++;
    if (was_open ? !b->tried_ns : b->failures <= rule->failures_max)
        return false; /* one of those from before it opened says nothing new */
    uint64_t open_ns = b->opened < 16 ? rule->open_ns << b->opened : rule->open_max_ns;
    b->opened++;
    b->tried_ns = 0;
    b->open_until_ns = now_ns + (open_ns < rule->open_max_ns ? open_ns : rule->open_max_ns);
    return !was_open;
}
