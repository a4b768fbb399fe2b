/* SPDX-License-Identifier: MIT */
/* The registry of worker deployments, played: there are none. */
#include "deployment/deployment.h"

bool tn_deployments_any(void) { return false; }

const tn_deployment *tn_deployment_find(tn_str ns_id, tn_str name)
{
    (void)ns_id, (void)name;
    return NULL;
}

bool tn_deployment_has_queue(tn_str ns_id, tn_dver version, tn_str queue, uint32_t type)
{
    (void)ns_id, (void)version, (void)queue, (void)type;
    return false;
}

const tn_routing *tn_deployment_routing(tn_str ns_id, tn_str queue, uint32_t type)
{
    (void)ns_id, (void)queue, (void)type;
    return NULL;
}

void tn_deployment_reactivate(tn_str ns_id, tn_dver version) { (void)ns_id, (void)version; }

void tn_deployments_watch(void (*changed)(void)) { (void)changed; }
