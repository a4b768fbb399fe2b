/* SPDX-License-Identifier: MIT */
/* Rates that all loops share, without a lock: a bucket is one number, the time at which it would be full of room
 * again (the generic cell rate algorithm).  Time comes from the caller. */
#ifndef TN_BASE_RATE_H
#define TN_BASE_RATE_H

#include <stdatomic.h>

#include "base/base.h"

#define TN_RATE_PRIORITIES 7u

/* One bucket a priority.  A call takes from its own bucket, which decides, and from those of all lower priorities:
 * so the urgent ones leave less for the others, never the other way round. */
typedef struct tn_rate_buckets {
    atomic_uint_fast64_t full_at_ns[TN_RATE_PRIORITIES];
    atomic_uint_fast64_t operator_at_ns; /* calls of operators have a share of their own */
} tn_rate_buckets;

typedef struct tn_rate {
    double per_second; /* 0 or less: no limit */
    double burst;
} tn_rate;

/* Who has called in this second and the one before, to share a rate among. */
typedef struct tn_rate_callers {
    atomic_uint_fast64_t window;
    atomic_uint now, before;
} tn_rate_callers;
uint64_t tn_rate_window(uint64_t now_ns);
/* [any] Counts a caller (`seen` is its own, 0 at first); how many there are. */
uint32_t tn_rate_callers_count(tn_rate_callers *callers, atomic_uint_fast64_t *seen,
                               uint64_t now_ns);

#define TN_PRIORITY_OPERATOR UINT32_MAX
/* [any] False: too many. */
bool tn_rate_allows(tn_rate_buckets *buckets, tn_rate rate, double operator_ratio,
                    uint32_t priority, uint64_t now_ns);
/* The same for one of several callers: what its share of the rate (`own`) has room for is let through whatever the
 * others have taken; beyond it goes what they leave. */
bool tn_rate_allows_one_of(tn_rate_buckets *buckets, tn_rate_buckets *own, uint32_t callers,
                           tn_rate rate, double operator_ratio, uint32_t priority, uint64_t now_ns);

/* [any] How long until the same would be let through; 0: now.  Takes nothing. */
uint64_t tn_rate_wait_ns(const tn_rate_buckets *buckets, tn_rate rate, double operator_ratio,
                         uint32_t priority, uint64_t now_ns);
/* [any] Takes what is due in any case, on credit if need be: of debt_ns at most, beside the burst. */
void tn_rate_charge(tn_rate_buckets *buckets, tn_rate rate, double operator_ratio,
                    uint32_t priority, uint64_t debt_ns, uint64_t now_ns);

/* For whom something is done, the urgent first.  The numbers travel between hosts. */
typedef enum tn_caller_type {
    TN_CALLER_UNKNOWN,
    TN_CALLER_OPERATOR,
    TN_CALLER_API,
    TN_CALLER_BACKGROUND_HIGH, /* what workflows wait for */
    TN_CALLER_BACKGROUND_LOW,
    TN_CALLER_PREEMPTABLE, /* nobody waits for it */
} tn_caller_type;
#define TN_CALLER_LAST TN_CALLER_PREEMPTABLE
/* of the header caller-type; API for any other word */
tn_caller_type tn_caller_type_of(tn_str word);

/* Buckets by name.  A table never shrinks and never moves; when it is full, further names share its last place. */
typedef struct tn_rate_named {
    atomic_uint_fast64_t key; /* 0: free */
    tn_rate_buckets buckets;
} tn_rate_named;
/* [any] never NULL */
tn_rate_buckets *tn_rate_of_name(tn_rate_named *places, size_t n, uint64_t hash);

#endif
