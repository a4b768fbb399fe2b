/* SPDX-License-Identifier: MIT */
/* The matching role: task queues bring waiting tasks and waiting polls together.  Nothing about single tasks is
 * durable here: that a task waits is part of its run's state, and history offers it again after a restart or when a
 * full window has room (credit).  A queue belongs to one loop. */
#ifndef TN_MATCHING_MATCHING_H
#define TN_MATCHING_MATCHING_H

#include "client/client.h"

/* [main, loops created] */
void tn_matching_start(const char *host_name);
const tn_matching_role *tn_matching_role_table(void);
/* [loop] Members have changed: queues that are another host's now are let go; their polls end empty, and history
 * offers their tasks to the new owner. */
void tn_matching_members_changed(void);
/* [main] Ends every parked poll with an empty answer, so that workers ask elsewhere. */
void tn_matching_stop(void);

#endif
