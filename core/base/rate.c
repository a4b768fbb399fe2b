/* SPDX-License-Identifier: MIT */
/* Rates: buckets by priority, shares of several callers, places by name. */
#include "base/rate.h"

/* ---- buckets ---- */

static uint64_t room_of(double per_second, double burst)
{
    return burst > 1 ? (uint64_t)((burst - 1) * 1e9 / per_second) : 0;
}

static bool take(atomic_uint_fast64_t *full_at_ns, double per_second, double burst, uint64_t now_ns)
{
    uint64_t step = (uint64_t)(1e9 / per_second);
    uint64_t room = room_of(per_second, burst);
    uint64_t at = atomic_load_explicit(full_at_ns, memory_order_relaxed);
    for (;;) {
        uint64_t from = at > now_ns ? at : now_ns;
        if (from - now_ns > room)
            return false;
        if (atomic_compare_exchange_weak_explicit(full_at_ns, &at, from + step,
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    }
}

bool tn_rate_allows(tn_rate_buckets *buckets, tn_rate rate, double operator_ratio,
                    uint32_t priority, uint64_t now_ns)
{
    uint32_t lower = priority + 1;
    if (rate.per_second <= 0)
        return true;
    if (priority == TN_PRIORITY_OPERATOR) {
        double share = operator_ratio > 0 ? operator_ratio : 1;
        if (!take(&buckets->operator_at_ns, rate.per_second * share, rate.burst * share, now_ns))
            return false;
        lower = 0;
    } else {
        priority = priority < TN_RATE_PRIORITIES ? priority : TN_RATE_PRIORITIES - 1;
        if (!take(&buckets->full_at_ns[priority], rate.per_second, rate.burst, now_ns))
            return false;
    }
    for (; lower < TN_RATE_PRIORITIES; lower++)
        (void)take(&buckets->full_at_ns[lower], rate.per_second, rate.burst, now_ns);
    return true;
}

uint64_t tn_rate_wait_ns(const tn_rate_buckets *buckets, tn_rate rate, double operator_ratio,
                         uint32_t priority, uint64_t now_ns)
{
    if (rate.per_second <= 0)
        return 0;
    bool is_operator = priority == TN_PRIORITY_OPERATOR;
    double share = is_operator && operator_ratio > 0 ? operator_ratio : 1;
    const atomic_uint_fast64_t *bucket =
        is_operator
            ? &buckets->operator_at_ns
            : &buckets
                   ->full_at_ns[priority < TN_RATE_PRIORITIES ? priority : TN_RATE_PRIORITIES - 1];
    uint64_t at = atomic_load_explicit(bucket, memory_order_relaxed);
    uint64_t room = room_of(rate.per_second * share, rate.burst * share);
    return at > now_ns + room ? at - now_ns - room : 0;
}

/* ---- who calls ---- */

tn_caller_type tn_caller_type_of(tn_str word)
{
    static const char *const words[] = {[TN_CALLER_OPERATOR] = "operator",
                                        [TN_CALLER_API] = "api",
                                        [TN_CALLER_BACKGROUND_HIGH] = "background_high",
                                        [TN_CALLER_BACKGROUND_LOW] = "background_low",
                                        [TN_CALLER_PREEMPTABLE] = "preemptable"};
    for (unsigned i = TN_CALLER_OPERATOR; i < TN_COUNT_OF(words); i++)
        if (tn_str_is(word, words[i]))
            return (tn_caller_type)i;
    return TN_CALLER_API;
}

/* ---- places ---- */

tn_rate_buckets *tn_rate_of_name(tn_rate_named *places, size_t n, uint64_t hash)
{
    uint64_t key = hash | 1;
    for (size_t i = 0; i + 1 < n; i++) {
        tn_rate_named *place = &places[(key + i) % (n - 1)];
        uint64_t held = atomic_load_explicit(&place->key, memory_order_relaxed);
        if (held == 0 && atomic_compare_exchange_strong_explicit(
                             &place->key, &held, key, memory_order_relaxed, memory_order_relaxed))
            return &place->buckets;
        if (held == key)
            return &place->buckets;
    }
    return &places[n - 1].buckets;
}

/* ---- several callers ---- */

#define DEBT_NS (2 * TN_SEC) /* at most, beside the burst */

uint64_t tn_rate_window(uint64_t now_ns) { return now_ns / TN_SEC + 1; }

uint32_t tn_rate_callers_count(tn_rate_callers *c, atomic_uint_fast64_t *seen, uint64_t now_ns)
{
    uint64_t window = tn_rate_window(now_ns);
    uint64_t held = atomic_load_explicit(&c->window, memory_order_relaxed);
    if (held != window &&
        atomic_compare_exchange_strong_explicit(&c->window, &held, window, memory_order_relaxed,
                                                memory_order_relaxed)) {
        unsigned last = atomic_exchange_explicit(&c->now, 0, memory_order_relaxed);
        atomic_store_explicit(&c->before, held + 1 == window ? last : 0, memory_order_relaxed);
    }
    if (atomic_load_explicit(seen, memory_order_relaxed) != window &&
        atomic_exchange_explicit(seen, window, memory_order_relaxed) != window)
        atomic_fetch_add_explicit(&c->now, 1, memory_order_relaxed);
    unsigned now = atomic_load_explicit(&c->now, memory_order_relaxed);
    unsigned before = atomic_load_explicit(&c->before, memory_order_relaxed);
    unsigned n = now > before ? now : before;
    return n ? n : 1;
}

/* Up to `last` and no further. */
static void advance(atomic_uint_fast64_t *full_at_ns, uint64_t step, uint64_t last, uint64_t now_ns)
{
    uint64_t at = atomic_load_explicit(full_at_ns, memory_order_relaxed), then;
    do {
        then = (at > now_ns ? at : now_ns) + step;
    } while (then <= last &&
             !atomic_compare_exchange_weak_explicit(full_at_ns, &at, then, memory_order_relaxed,
                                                    memory_order_relaxed));
}

void tn_rate_charge(tn_rate_buckets *buckets, tn_rate rate, double operator_ratio,
                    uint32_t priority, uint64_t debt_ns, uint64_t now_ns)
{
    if (rate.per_second <= 0)
        return;
    uint64_t step = (uint64_t)(1e9 / rate.per_second);
    uint64_t last = now_ns + (uint64_t)(rate.burst * 1e9 / rate.per_second) + debt_ns;
    uint32_t p = priority < TN_RATE_PRIORITIES ? priority : TN_RATE_PRIORITIES - 1;
    if (priority == TN_PRIORITY_OPERATOR) {
        double share = operator_ratio > 0 ? operator_ratio : 1;
        advance(&buckets->operator_at_ns, (uint64_t)(1e9 / (rate.per_second * share)), last,
                now_ns);
        p = 0;
    }
    for (; p < TN_RATE_PRIORITIES; p++)
        advance(&buckets->full_at_ns[p], step, last, now_ns);
}

bool tn_rate_allows_one_of(tn_rate_buckets *buckets, tn_rate_buckets *own, uint32_t n, tn_rate rate,
                           double operator_ratio, uint32_t priority, uint64_t now_ns)
{
    if (rate.per_second <= 0)
        return true;
    double share = rate.per_second / n;
    if (priority == TN_PRIORITY_OPERATOR ||
        !tn_rate_allows(own, (tn_rate){share, share}, operator_ratio, priority, now_ns))
        return tn_rate_allows(buckets, rate, operator_ratio, priority, now_ns);
    tn_rate_charge(buckets, rate, operator_ratio, priority, DEBT_NS, now_ns);
    return true;
}
