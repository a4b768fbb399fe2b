/* SPDX-License-Identifier: MIT */
/* The life of a version: created, inactive, current or ramping, draining, drained. */
#include "deployment/private.h"

tn_deployment_version *tn_deployment_version_at(tn_deployment *d, tn_str build_id)
{
    for (size_t i = 0; i < d->n_versions; i++)
        if (tn_str_is(build_id, d->versions[i]->build_id))
            return d->versions[i];
    return NULL;
}

const tn_deployment_version *tn_deployment_version_find(const tn_deployment *d, tn_str build_id)
{
    for (size_t i = 0; i < d->n_versions; i++)
        if (tn_str_is(build_id, d->versions[i]->build_id))
            return d->versions[i];
    return NULL;
}

bool tn_deployment_version_has(const tn_deployment_version *v, tn_str queue, uint32_t type)
{
    for (size_t i = 0; i < v->n_queues; i++)
        if (tn_str_is(queue, v->queues[i]->name))
            return v->queues[i]->types & 1u << type;
    return false;
}

void tn_deployment_drain(tn_deployment_version *v, uint64_t now_ns)
{
    v->status = TN_DEPLOYED_DRAINING;
    v->drainage = 1;
    v->drainage_changed_ns = v->drainage_checked_ns = now_ns;
}

static void activate(tn_deployment_version *v, uint64_t now_ns)
{
    if (!v->first_active_ns)
        v->first_active_ns = now_ns;
    v->last_inactive_ns = 0;
    v->drainage = 0;
    v->drainage_changed_ns = v->drainage_checked_ns = 0;
}

static void settle(const tn_deployment *d, tn_deployment_version *v, uint64_t now_ns)
{
    bool was_active = v->current_since_ns || v->ramping_since_ns;
    bool current = strcmp(d->current, v->build_id) == 0;
    bool ramping = d->ramps && strcmp(d->ramping, v->build_id) == 0;
    if (current) {
        v->status = TN_DEPLOYED_CURRENT;
        v->current_since_ns = v->last_current_ns = v->routing_ns = d->current_changed_ns;
        v->ramping_since_ns = 0;
        activate(v, now_ns);
    } else if (ramping) {
        v->status = TN_DEPLOYED_RAMPING;
        v->current_since_ns = 0;
        v->ramping_since_ns = d->ramping_changed_ns;
        v->routing_ns = d->percentage_changed_ns;
        activate(v, now_ns);
    } else if (was_active) {
        v->current_since_ns = v->ramping_since_ns = 0;
        v->routing_ns = v->last_inactive_ns = now_ns;
        tn_deployment_drain(v, now_ns);
    }
}

void tn_deployment_settle(tn_deployment *d, uint64_t now_ns)
{
    for (size_t i = 0; i < d->n_versions; i++)
        settle(d, d->versions[i], now_ns);
}
