/* SPDX-License-Identifier: MIT */
/* A version of a worker deployment, by deployment name and build id.  Both empty: unversioned workers. */
#ifndef TN_BASE_DVER_H
#define TN_BASE_DVER_H

#include "base/str.h"

typedef struct tn_dver {
    tn_str deployment, build_id;
} tn_dver;

/* temporal.api.enums.v1.VersioningBehavior */
#define TN_BEHAVIOR_NONE 0
#define TN_BEHAVIOR_PINNED 1
#define TN_BEHAVIOR_AUTO_UPGRADE 2

static inline bool tn_dver_is(tn_dver v) { return v.deployment.n != 0; }
static inline bool tn_dver_eq(tn_dver a, tn_dver b)
{
    return tn_str_eq(a.deployment, b.deployment) && tn_str_eq(a.build_id, b.build_id);
}

#endif
