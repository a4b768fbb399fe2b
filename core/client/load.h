/* SPDX-License-Identifier: MIT */
/* What a host that is behind refuses of what other hosts ask for their clients: what begins work goes first, what ends it
 * later, what the cluster itself needs never.  Pure. */
#ifndef TN_CLIENT_LOAD_H
#define TN_CLIENT_LOAD_H

#include "client/client.h"

/* Answers of such calls come soon or not at all for lack of room: they count.  Those that wait for events do not. */
bool tn_load_counts(tn_hop op);
/* A poll has its task already: refused, it would be handed out in vain. */
bool tn_load_has_task(tn_hop op);
/* in_service: calls that count, that one included; max 0: no limit. */
bool tn_load_sheds(tn_hop op, bool by_call, int64_t in_service, int64_t max);

#endif
