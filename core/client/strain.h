/* SPDX-License-Identifier: MIT */
/* The rates of the store give way while it is slow or fails (....persistenceDynamicRateLimitingParams), and come back. */
#ifndef TN_CLIENT_STRAIN_H
#define TN_CLIENT_STRAIN_H

#include <stdatomic.h>

#include "base/base.h"

typedef struct tn_strain_params {
    bool enabled;
    uint64_t refresh_ns;
    double latency_ms, error_ratio; /* thresholds; 0: not looked at */
    double step_down, step_up, min, max;
} tn_strain_params;

typedef struct tn_strain {
    atomic_uint_fast64_t refresh_at_ns;
    atomic_uint_fast64_t requests, errors, latency_ns; /* since the last refresh */
    /* of a million: what the rate is multiplied by; 0: by 1 */
    atomic_uint_fast64_t parts;
} tn_strain;

/* Pure.  "name=value,...", names in lower case; what is not there, or can't be read, has the reference's default. */
tn_strain_params tn_strain_parse(tn_str text);
/* Pure.  The multiplier that comes after `now`. */
double tn_strain_step(const tn_strain_params *params, double now, double latency_ms,
                      double error_ratio);
/* [any] The multiplier of a rate; looks at what was counted when it is time. */
double tn_strain_multiplier(tn_strain *strain, tn_str params, uint64_t now_ns);
void tn_strain_count(tn_strain *strain, uint64_t latency_ns, bool failed); /* [any] */

#endif
