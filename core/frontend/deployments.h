/* SPDX-License-Identifier: MIT */
/* Worker deployments at the frontend: what the files of their calls share. */
#ifndef TN_FRONTEND_DEPLOYMENTS_H
#define TN_FRONTEND_DEPLOYMENTS_H

#include "frontend/priv.h"

/* One call that changes a deployment, or asks the queues of a version. */
typedef struct tn_dcall {
    tn_fcall *f;
    tn_deployment_change change;
    void (*then)(struct tn_dcall *d); /* change->fault NULL, and the limits kept */
    /* queues asked */
    tn_arena *arena;
    const tn_deployment_version *asked;                   /* a copy, in the call's arena */
    Temporal__Api__Taskqueue__V1__TaskQueueStats **stats; /* one a queue and type, in their order */
    size_t n_stats, waiting;
    bool polled, busy; /* some queue has a poller; a backlog, or tasks that come */
    void (*told)(struct tn_dcall *d);
    size_t next_victim; /* of the versions that may give room to a new one */
} tn_dcall;

tn_dcall *tn_dcall_new(tn_fcall *f, tn_deployment_verb verb, const char *name);
/* Makes the change; a version too many makes room first, if one may go. */
void tn_dcall_submit(tn_dcall *d, void (*then)(tn_dcall *d));
/* Asks matching about queues of a version (bit i of `which`... of all: NULL); `told` when all have answered. */
void tn_dcall_ask_queues(tn_dcall *d, const char *name, const tn_deployment_version *v,
                         bool (*wanted)(tn_dcall *d, tn_str queue, uint32_t type),
                         void (*told)(tn_dcall *d));

#define TN_DEPLOYMENT_FIELD "WorkerDeploymentName"
#define TN_BUILD_FIELD "BuildID"
const tn_fault *tn_front_check_deployment_field(tn_arena *arena, const char *field, tn_str value);

#endif
