/* SPDX-License-Identifier: MIT */
/* What a host that is behind refuses of what other hosts ask for their clients: what begins work goes first, what ends it
 * later, what the cluster itself needs never.  Pure. */
#ifndef TN_CLIENT_LOAD_H
#define TN_CLIENT_LOAD_H

#include <stdatomic.h>

#include "client/client.h"

/* Answers of such calls come soon or not at all for lack of room: they count.  Those that wait for events do not. */
bool tn_load_counts(tn_hop op);
/* A host's rate (history.rps, matching.rps; 0 or less: none), with a burst of two seconds; false: too many.  full_at_ns: the
 * bucket, 0 at first. */
bool tn_load_rate(atomic_uint_fast64_t *full_at_ns, int64_t per_second, uint64_t now_ns);
/* The rate decides about calls that a client asked for and may ask for again. */
bool tn_load_rated(tn_hop op, bool by_call);
/* in_service: calls that count, that one included; max 0: no limit. */
bool tn_load_sheds(tn_hop op, bool by_call, int64_t in_service, int64_t max);

#endif
