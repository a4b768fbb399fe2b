/* SPDX-License-Identifier: MIT */
/* The worker role: background work that nobody waits for.  Today that is retention: a closed run whose time has come is
 * retired, meaning that its state, history and visibility record are deleted, at a bounded rate.  What is to be done
 * is not kept here: a run that was not retired is found again by its shard's wake index, after a restart too. */
#ifndef TN_WORKER_WORKER_H
#define TN_WORKER_WORKER_H

#include "client/client.h"

void tn_worker_start(void); /* [main, loops created] */
const tn_worker_role *tn_worker_role_table(void);
void tn_worker_stop(void); /* [main] drops what waits */

/* Deleted namespaces: their runs, then their records (reclaim.c). */
void tn_reclaim_start(void); /* [main, after the roles are wired and namespaces read] */
void tn_reclaim_stop(void);  /* [main, before the namespaces stop] */

/* Versions of worker deployments: when those that take no new runs have none left (drainage.c). */
void tn_drainage_watch(void); /* [main, before serving] */
void tn_drainage_start(void); /* [main, as tn_reclaim_start] */
void tn_drainage_stop(void);  /* [main, as tn_reclaim_stop] */

#endif
