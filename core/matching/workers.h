/* SPDX-License-Identifier: MIT */
/* The workers that are alive: the last heartbeat of each, in memory.  The host and loop that the ring gives a namespace
 * keep its workers; after a move or a restart the next heartbeats bring them back.  One owner, no locks. */
#ifndef TN_MATCHING_WORKERS_H
#define TN_MATCHING_WORKERS_H

#include "client/client.h"
#include "temporal/api/worker/v1/message.pb-c.h"

#define TN_WORKERS_BYTES_MAX (64u << 20) /* of a loop */

typedef struct tn_workers {
    tn_map by_key;  /* namespace id + worker instance key */
    tn_list recent; /* oldest first */
    size_t bytes;
    tn_loop_timer timer;
} tn_workers;

void tn_workers_init(tn_workers *workers);
void tn_workers_serve(tn_workers *workers, tn_mreq *req); /* the four operations on workers */
void tn_workers_done(tn_workers *workers);

/* workers_query.c: the filter of ListWorkers and CountWorkers, parsed once. */
typedef struct tn_workers_query tn_workers_query;
/* A fault: it is no filter at all.  Names and values that fit nothing are no fault: such a filter fits no worker. */
const tn_fault *tn_workers_query_parse(tn_arena *arena, tn_str text, tn_workers_query **out);
bool tn_workers_query_fits(const tn_workers_query *query,
                           const Temporal__Api__Worker__V1__WorkerHeartbeat *worker);

#endif
