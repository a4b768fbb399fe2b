/* SPDX-License-Identifier: MIT */
/* The frontend role: the public API.  It validates, resolves the namespace, keeps limits, and asks history,
 * matching, namespace and visibility; it keeps no state of its own but counters. */
#ifndef TN_FRONTEND_FRONTEND_H
#define TN_FRONTEND_FRONTEND_H

#include "base/base.h"
#include "rpc/rpc.h"

typedef struct tn_frontend_options {
    const char *cluster_id; /* made once, kept in the store */
    const char *cluster_name;
    const char *persistence_name, *visibility_name; /* as GetClusterInfo shows them */
    const char *ip; /* where it listens: the host's name among operators when there is no cluster */
    uint16_t port, http_port; /* http_port 0: no HTTP API */
} tn_frontend_options;

/* [main] Registers every method with rpc: before the port opens. */
void tn_frontend_register(void);
/* [main] Before the first call is dispatched. */
void tn_frontend_start(const tn_frontend_options *options);
/* What rpc's dispatch calls after authorization. */
void tn_frontend_dispatch(tn_call *call);

#endif
