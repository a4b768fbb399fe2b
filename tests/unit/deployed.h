/* SPDX-License-Identifier: MIT */
/* The registry of worker deployments, played: one routing for all queues, and one version that serves them. */
#ifndef TN_TESTS_UNIT_DEPLOYED_H
#define TN_TESTS_UNIT_DEPLOYED_H

#include "deployment/deployment.h"

static struct {
    bool any;
    tn_routing routing;
    tn_dver serves;
    void (*changed)(void);
} deployed;

bool tn_deployments_any(void) { return deployed.any; }

const tn_deployment *tn_deployment_find(tn_str ns_id, tn_str name)
{
    (void)ns_id, (void)name;
    return NULL;
}

bool tn_deployment_has_queue(tn_str ns_id, tn_dver version, tn_str queue, uint32_t type)
{
    (void)ns_id, (void)queue, (void)type;
    return tn_dver_is(version) && tn_dver_eq(version, deployed.serves);
}

const tn_routing *tn_deployment_routing(tn_str ns_id, tn_str queue, uint32_t type)
{
    (void)ns_id, (void)queue, (void)type;
    return deployed.any ? &deployed.routing : NULL;
}

void tn_deployments_watch(void (*changed)(void)) { deployed.changed = changed; }

#endif
