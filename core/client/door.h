/* SPDX-License-Identifier: MIT */
/* The doors of history and matching: the rates of a host and of its namespaces (history.rps, matching.namespaceRPS ...), and
 * those at which it may ask the store (history.persistenceMaxQPS ...), by priority of who is behind a request.  What a
 * client asked for is refused beyond them, what the cluster does by itself waits for its turn, for a while. */
#ifndef TN_CLIENT_DOOR_H
#define TN_CLIENT_DOOR_H

#include "base/rate.h"
#include "client/client.h"
#include "store/store.h"

/* [any] A frontend's call that changes what frontends keep in the store; ns: its name.  NULL: it may. */
const tn_fault *tn_door_frontend(tn_arena *arena, tn_str ns, tn_caller_type caller);

/* Who is behind it: told by another host, by the header caller-type of its call, or by what it is. */
tn_caller_type tn_door_history_caller(const tn_hreq *req);
tn_caller_type tn_door_matching_caller(const tn_mreq *req);
/* In whose name it (NULL: the role by itself) asks the store.  The first request was paid for at the door. */
tn_store_account tn_door_account(tn_hreq *req, const tn_namespace *ns, uint32_t shard);

/* [main] count: of the hosts that have a role (tn_members_count). */
void tn_door_start(size_t (*count)(uint32_t service));
/* [loop] For tn_store_use_meter: a request is on its way to the store. */
void tn_door_meter(const tn_store_op *op, uint32_t table, bool writes);
/* likewise: it came back */
void tn_door_answered(const tn_store_op *op, uint32_t table, uint64_t latency_ns);

/* ---- pure, for tests ---- */
uint32_t tn_door_rank(tn_caller_type caller); /* among calls: 1 to 4, or TN_PRIORITY_OPERATOR */
/* among requests to the store: 1 to 6, or that */
uint32_t tn_door_store_rank(tn_caller_type caller, tn_hop op);
typedef enum tn_door_manner {
    TN_DOOR_REFUSE, /* whoever asked may ask again */
    TN_DOOR_WAIT,
    TN_DOOR_CREDIT, /* it goes on, and others wait for it: it ends what was begun */
} tn_door_manner;
tn_door_manner tn_door_history_manner(tn_hop op, bool by_call);
tn_door_manner tn_door_matching_manner(tn_mop op, bool forwarded);
uint64_t tn_door_patience_ns(tn_caller_type caller); /* what waits goes on then in any case */

#endif
