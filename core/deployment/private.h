/* SPDX-License-Identifier: MIT */
/* Private to the room: a record, its place in a snapshot, what becomes of a version's status. */
#ifndef TN_DEPLOYMENT_PRIVATE_H
#define TN_DEPLOYMENT_PRIVATE_H

#include "deployment/deployment.h"

/* ---- status.c ---- */
tn_deployment_version *tn_deployment_version_at(tn_deployment *d, tn_str build_id);
/* The routing has changed: every version's status follows. */
void tn_deployment_settle(tn_deployment *d, uint64_t now_ns);
void tn_deployment_drain(tn_deployment_version *v, uint64_t now_ns);

/* ---- routing.c: the index of a snapshot ---- */
typedef struct tn_deployment_index tn_deployment_index;
tn_deployment_index *tn_deployment_index_create(const tn_deployment *const *sorted, size_t n);
void tn_deployment_index_destroy(tn_deployment_index *index);
const tn_routing *tn_deployment_index_find(const tn_deployment_index *index, tn_str ns_id,
                                           tn_str queue, uint32_t type, size_t *out_versions);
int tn_deployment_order(tn_str ns_a, tn_str name_a, tn_str ns_b, tn_str name_b);

#endif
