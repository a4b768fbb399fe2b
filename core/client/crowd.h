/* SPDX-License-Identifier: MIT */
/* Polls that are more of the same: of one worker, on one queue, on their way to one partition. */
#ifndef TN_CLIENT_CROWD_H
#define TN_CLIENT_CROWD_H

#include "base/map.h"
#include "client/client.h"
#include "rpc/client.h"

struct tn_crowd;

typedef struct tn_crowd_poll {
    struct tn_crowd *crowd; /* NULL: it is in none */
    tn_outcall *out;
    tn_list held; /* linked while it waits for company */
} tn_crowd_poll;

/* What is said to the wire; a test puts its own here. */
typedef struct tn_crowd_wire {
    bool (*left)(const tn_outcall *call);
    void (*hurry)(tn_outcall *call);
} tn_crowd_wire;
extern tn_crowd_wire tn_crowd_says;

/* [loop] Before it is sent: sets out->unhurried where matching has enough others. */
void tn_crowd_join(tn_map *crowds, tn_crowd_poll *poll, tn_outcall *out, const tn_mreq *req);
void tn_crowd_leave(tn_map *crowds, tn_crowd_poll *poll); /* it has ended */

#endif
