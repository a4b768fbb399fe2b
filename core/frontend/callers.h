/* SPDX-License-Identifier: MIT */
/* The callers of a namespace, to share its rates among them. */
#ifndef TN_FRONTEND_CALLERS_H
#define TN_FRONTEND_CALLERS_H

#include "frontend/limits.h"

typedef struct tn_call tn_call;

enum { TN_RATE_CALLS, TN_RATE_VISIBILITY, TN_RATE_NS_CHANGES, TN_RATES };

typedef struct tn_caller {
    atomic_uint_fast64_t key;  /* hash of the namespace and the caller; 0: free */
    atomic_uint_fast64_t seen; /* the window of tn_rate_callers_count in which it called last */
    tn_rate_buckets shares[TN_RATES];
} tn_caller;

/* [any] The place of whoever makes this call; never NULL, valid for the process's life. */
tn_caller *tn_front_caller(const tn_call *call, tn_str ns_id, uint64_t now_ns);

#endif
