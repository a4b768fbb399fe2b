/* SPDX-License-Identifier: MIT */
/* Whether others reach this process at the address that it tells them.  One that is heard but not reached (a wrong
 * broadcastAddress, a firewall, a network that is cut one way) is taken for dead and refutes it, again and again, and with each
 * turn all hosts move its shards and task queues.  So it takes no part in the rings before somebody has pinged it, and leaves them when
 * nobody does any more.  No clock, no I/O: agent.c asks. */
#ifndef TN_MEMBERSHIP_REACH_H
#define TN_MEMBERSHIP_REACH_H

#include "base/base.h"

#define TN_REACH_SILENCE_NS \
    (4 * TN_SEC) /* without a ping: each other member sends four a second, to one by chance */
#define TN_REACH_REFUTED 3u /* times in TN_REACH_WINDOW_NS: nobody is accused so often by chance */
#define TN_REACH_WINDOW_NS (10 * TN_SEC)
#define TN_REACH_STEADY_NS (2 * TN_SEC) /* of pings, before it takes part again */
#define TN_REACH_PAUSE_NS TN_SEC        /* between two pings, at most, to be steady */

typedef enum tn_reach_turn { TN_REACH_STAY, TN_REACH_LEAVE, TN_REACH_RETURN } tn_reach_turn;

typedef struct tn_reach { /* zero: nothing heard, no part taken */
    uint64_t pings, heard_ns, since_ns;
    uint64_t refuted_ns[TN_REACH_REFUTED]; /* the last times, round and round */
    uint32_t refuted;
    bool serving; /* it is to take part: from tn_reach_serve on */
    bool out;
} tn_reach;

/* The server is ready; false: others live and none has pinged it: it is to stay out for now. */
bool tn_reach_serve(tn_reach *reach, uint64_t now_ns, uint64_t pings, uint32_t living);
void tn_reach_end(tn_reach *reach); /* it is to take no part any more, whatever is heard */
void tn_reach_refuted(tn_reach *reach, uint64_t now_ns);
/* pings: how many have come so far; living: members, self included.  What the caller is to do now. */
tn_reach_turn tn_reach_look(tn_reach *reach, uint64_t now_ns, uint64_t pings, uint32_t living);

#endif
