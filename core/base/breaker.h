/* SPDX-License-Identifier: MIT */
/* A circuit breaker: after so many failures in a row nothing is let through for a while; then one try finds out, and its
 * success closes it, its failure opens it for twice as long.  Pure: time comes in.  One owner, no locks. */
#ifndef TN_BASE_BREAKER_H
#define TN_BASE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tn_breaker_rule {
    uint32_t failures_max;         /* in a row; one more opens it */
    uint64_t open_ns, open_max_ns; /* the first time, and at most */
    /* a try that has not been heard of for so long makes room for another */
    uint64_t try_ns;
} tn_breaker_rule;

typedef struct tn_breaker { /* {0} is closed */
    uint32_t failures;
    uint32_t opened;        /* in a row, without a success */
    uint64_t open_until_ns; /* 0: closed; past: the next one is a try */
    uint64_t tried_ns;      /* 0: no try is out */
} tn_breaker;

static inline bool tn_breaker_is_open(const tn_breaker *b) { return b->open_until_ns != 0; }
/* 0: go ahead, and say how it went; else ask again in so long. */
uint64_t tn_breaker_wait_ns(tn_breaker *b, const tn_breaker_rule *rule, uint64_t now_ns);
/* What became of one that was let through; true: the breaker has closed, or opened.  Neither is said of one of which it cannot be
 * known. */
bool tn_breaker_succeeded(tn_breaker *b);
bool tn_breaker_failed(tn_breaker *b, const tn_breaker_rule *rule, uint64_t now_ns);

#endif
