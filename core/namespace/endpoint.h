/* SPDX-License-Identifier: MIT */
/* The registry of Nexus endpoints: a name for a worker's task queue or an address outside, the same for the whole
 * cluster.  Records live in the store (TN_TABLE_NEXUS, the cluster's partition), with a version of the whole table
 * beside them, on which every write stands; loop 0 writes; every loop reads an immutable list that is replaced when a
 * write is durable, here, and as soon as this host hears of one elsewhere. */
#ifndef TN_NAMESPACE_ENDPOINT_H
#define TN_NAMESPACE_ENDPOINT_H

#include "base/base.h"
#include "loop/loop.h"
#include "proto/fault.h"
#include "tenon/store.pb-c.h"

typedef struct tn_endpoints { /* immutable, sorted by id */
    const Tenon__NexusEndpointRecord *const *items;
    size_t count;
} tn_endpoints;
/* [loop] The list of now: +1 reference, to be released on any thread.  Never NULL. */
const tn_endpoints *tn_endpoints_acquire(void);
void tn_endpoints_release(const tn_endpoints *list);
/* NULL: none of that id, of that name. */
const Tenon__NexusEndpointRecord *tn_endpoints_by_id(const tn_endpoints *list, tn_str id);
const Tenon__NexusEndpointRecord *tn_endpoints_by_name(const tn_endpoints *list, tn_str name);

/* One write at a time through loop 0; `done` runs on `home`. */
typedef struct tn_endpoint_write {
    tn_msg msg;
    tn_arena *arena;
    tn_loop *home;
    enum {
        TN_ENDPOINT_CREATE = 1,
        TN_ENDPOINT_UPDATE,
        TN_ENDPOINT_DELETE,
        TN_ENDPOINT_REFRESH
    } verb;
    /* as it shall be; update, delete: its id, and for an update the version that the caller has seen */
    Tenon__NexusEndpointRecord *record;
    const tn_fault *fault;
    void (*done)(struct tn_endpoint_write *write);
    void *user;
    /* private */
    int tries;
} tn_endpoint_write;
void tn_endpoint_submit(tn_endpoint_write *write);
/* [main, before serving] Called on loop 0 after each write of this host. */
void tn_endpoint_announce(void (*announce)(uint64_t version));
/* [any] Another host says that it has written. */
void tn_endpoints_refresh(void);

tn_status tn_endpoints_start(
    bool cluster, tn_error *err); /* [main, with loops running]; cluster: others write too */
void tn_endpoints_stop(void);     /* [main, loops running] */

#endif
