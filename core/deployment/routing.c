/* SPDX-License-Identifier: MIT */
/* Where a task goes: by the routing of the deployments that have its queue, by what its run is pinned to, and, while a
 * version ramps up, by the workflow id. */
#include "deployment/private.h"

#include <stdlib.h>

struct tn_deployment_index {
    tn_map queues;
};

typedef struct queue_entry {
    tn_map_link link;
    tn_routing routing, unversioned; /* the newest of each kind; merged at the end */
    size_t versions;
    uint8_t key[]; /* namespace id, type, name */
} queue_entry;

int tn_deployment_order(tn_str ns_a, tn_str name_a, tn_str ns_b, tn_str name_b)
{
    int order = tn_blob_cmp(tn_blob_of_str(ns_a), tn_blob_of_str(ns_b));
    return order ? order : tn_blob_cmp(tn_blob_of_str(name_a), tn_blob_of_str(name_b));
}

static tn_blob key_of(tn_buf *buf, tn_str ns_id, tn_str queue, uint32_t type)
{
    tn_buf_put(buf, ns_id.p, ns_id.n);
    tn_buf_put_u8(buf, (uint8_t)type);
    tn_buf_put(buf, queue.p, queue.n);
    return tn_buf_blob(buf);
}

static queue_entry *entry_of(tn_deployment_index *index, tn_str ns_id, tn_str queue, uint32_t type)
{
    tn_buf buf = {0};
    tn_blob key = key_of(&buf, ns_id, queue, type);
    tn_map_link *found = tn_map_find(&index->queues, key);
    queue_entry *e = found ? TN_CONTAINER_OF(found, queue_entry, link) : NULL;
    if (!e) {
        e = tn_xcalloc(1, sizeof(*e) + key.n);
        memcpy(e->key, key.p, key.n);
        tn_map_insert(&index->queues, &e->link, tn_blob_from(e->key, key.n));
    }
    tn_buf_done(&buf);
    return e;
}

/* A queue that is in the current version of several deployments follows the one that was set last; one whose version is not the current
 * one follows nobody, unless a deployment that it is in has become unversioned. */
static void note_current(queue_entry *e, const tn_deployment *d, tn_str queue, uint32_t type)
{
    const tn_deployment_version *v = tn_deployment_version_find(d, tn_str_from(d->current));
    if (*d->current && v && tn_deployment_version_has(v, queue, type)) {
        if (d->current_changed_ns <= e->routing.current_changed_ns &&
            tn_dver_is(e->routing.current))
            return;
        e->routing.current = (tn_dver){tn_str_from(d->name), tn_str_from(d->current)};
        e->routing.current_changed_ns = d->current_changed_ns;
        e->routing.current_revision = d->revision;
    } else if (!*d->current && d->current_changed_ns > e->unversioned.current_changed_ns) {
        e->unversioned.current_changed_ns = d->current_changed_ns;
        e->unversioned.current_revision = d->revision;
    }
}

static void note_ramping(queue_entry *e, const tn_deployment *d, tn_str queue, uint32_t type)
{
    const tn_deployment_version *v = tn_deployment_version_find(d, tn_str_from(d->ramping));
    if (d->ramps && *d->ramping && v && tn_deployment_version_has(v, queue, type)) {
        if (d->percentage_changed_ns <= e->routing.ramping_changed_ns &&
            tn_dver_is(e->routing.ramping))
            return;
        e->routing.ramping = (tn_dver){tn_str_from(d->name), tn_str_from(d->ramping)};
        e->routing.ramps = true;
        e->routing.percentage = d->percentage;
        e->routing.ramping_changed_ns = d->percentage_changed_ns;
        e->routing.ramping_revision = d->revision;
    } else if (!*d->ramping && d->percentage_changed_ns > e->unversioned.ramping_changed_ns) {
        e->unversioned.ramps = d->ramps;
        e->unversioned.percentage = d->ramps ? d->percentage : 0;
        e->unversioned.ramping_changed_ns = d->percentage_changed_ns;
        e->unversioned.ramping_revision = d->revision;
    }
}

static void note_version(tn_deployment_index *index, const tn_deployment *d,
                         const tn_deployment_version *v)
{
    for (size_t i = 0; i < v->n_queues; i++) {
        tn_str queue = tn_str_from(v->queues[i]->name);
        for (uint32_t type = 1; type < 32 && v->queues[i]->types >> type; type++) {
            if (!(v->queues[i]->types & 1u << type))
                continue;
            queue_entry *e = entry_of(index, tn_str_from(d->ns_id), queue, type);
            e->versions++;
            note_current(e, d, queue, type);
            note_ramping(e, d, queue, type);
        }
    }
}

static void merge(void *user, tn_map_link *link)
{
    queue_entry *e = TN_CONTAINER_OF(link, queue_entry, link);
    (void)user;
    if (!tn_dver_is(e->routing.current)) {
        e->routing.current_changed_ns = e->unversioned.current_changed_ns;
        e->routing.current_revision = e->unversioned.current_revision;
    }
    if (!tn_dver_is(e->routing.ramping)) {
        e->routing.ramps = e->unversioned.ramps;
        e->routing.percentage = e->unversioned.percentage;
        e->routing.ramping_changed_ns = e->unversioned.ramping_changed_ns;
        e->routing.ramping_revision = e->unversioned.ramping_revision;
    }
}

tn_deployment_index *tn_deployment_index_create(const tn_deployment *const *sorted, size_t n)
{
    tn_deployment_index *index = tn_xcalloc(1, sizeof(*index));
    tn_map_init(&index->queues);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < sorted[i]->n_versions; j++)
            note_version(index, sorted[i], sorted[i]->versions[j]);
    tn_map_each(&index->queues, merge, NULL);
    return index;
}

static void destroy_entry(void *user, tn_map_link *link)
{
    tn_deployment_index *index = user;
    queue_entry *e = TN_CONTAINER_OF(link, queue_entry, link);
    tn_map_remove(&index->queues, link);
    free(e);
}

void tn_deployment_index_destroy(tn_deployment_index *index)
{
    if (!index)
        return;
    tn_map_each(&index->queues, destroy_entry, index);
    tn_map_done(&index->queues);
    free(index);
}

const tn_routing *tn_deployment_index_find(const tn_deployment_index *index, tn_str ns_id,
                                           tn_str queue, uint32_t type, size_t *out_versions)
{
    tn_buf buf = {0};
    tn_map_link *found = tn_map_find(&index->queues, key_of(&buf, ns_id, queue, type));
    tn_buf_done(&buf);
    queue_entry *e = found ? TN_CONTAINER_OF(found, queue_entry, link) : NULL;
    *out_versions = e ? e->versions : 0;
    return e ? &e->routing : NULL;
}

/* ---- decisions ------------------------------------------------------------------------------- */

/* Where in [0, 100) a workflow id stands, for ever and on every host. */
static double ramp_threshold(tn_str workflow_id)
{
    uint64_t hash = tn_hash64_stable(tn_blob_of_str(TN_STR("ramp")), tn_blob_of_str(workflow_id));
    return 100.0 * ((double)(hash >> 11) / 9007199254740992.0);
}

tn_dver tn_routing_target(const tn_routing *routing, tn_str workflow_id, bool use_ramping,
                          int64_t *out_revision)
{
    bool ramped = false;
    *out_revision = 0;
    if (!routing)
        return (tn_dver){0};
    if (use_ramping && tn_dver_is(routing->ramping))
        ramped = true;
    else if (routing->percentage >= 100)
        ramped = true;
    else if (routing->percentage > 0)
        ramped = ramp_threshold(workflow_id) <= (double)routing->percentage;
    *out_revision = ramped ? routing->ramping_revision : routing->current_revision;
    return ramped ? routing->ramping : routing->current;
}

tn_placement tn_deployment_place(tn_str ns_id, tn_str queue, uint32_t type, tn_str workflow_id,
                                 const tn_directive *directive)
{
    tn_placement out = {0};
    if (directive->behavior == TN_BEHAVIOR_PINNED && tn_dver_is(directive->version)) {
        /* An activity on a queue that the run's version does not serve stands by itself. */
        if (type != 2 || tn_deployment_has_queue(ns_id, directive->version, queue, type))
            return (tn_placement){
                .version = directive->version, .revision = directive->revision, .pinned = true};
    }
    const tn_routing *routing = tn_deployment_routing(ns_id, queue, type);
    out.version = tn_routing_target(routing, workflow_id, directive->use_ramping, &out.revision);
    /* The run has come to its version by a newer revision than this host knows of: there it stays. */
    if (tn_dver_is(out.version) &&
        tn_str_eq(out.version.deployment, directive->version.deployment) &&
        directive->behavior != TN_BEHAVIOR_PINNED && out.revision < directive->revision) {
        out.version = directive->version;
        out.revision = directive->revision;
    }
    return out;
}

bool tn_deployment_sticky_fits(tn_str ns_id, tn_str queue, tn_str workflow_id,
                               const tn_directive *directive)
{
    int64_t revision;
    if (!tn_deployments_any() || directive->behavior == TN_BEHAVIOR_PINNED)
        return true;
    const tn_routing *routing = tn_deployment_routing(ns_id, queue, 1);
    tn_dver target = tn_routing_target(routing, workflow_id, directive->use_ramping, &revision);
    return !tn_dver_is(target) || tn_dver_eq(target, directive->version);
}

tn_dver tn_dver_of_options(const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options)
{
    if (!options || (int)options->worker_versioning_mode != 2)
        return (tn_dver){0};
    return (tn_dver){tn_str_from(options->deployment_name), tn_str_from(options->build_id)};
}
