/* SPDX-License-Identifier: MIT */
/* A queue in its versions: the workers of each version of a deployment have a line of their own, and so have the
 * unversioned ones.  A task stands in the line of the version that may have it now; when a deployment changes, what waits is looked
 * at again and goes where it belongs.  Where nothing is versioned there is one line, as there always was. */
#include "matching/priv.h"

#include <stdlib.h>

#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest poll_wft;
typedef Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest poll_activity;
typedef Temporal__Api__Workflowservice__V1__PollNexusTaskQueueRequest poll_nexus;

const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *tn_poll_options(const tn_mreq *req)
{
    const ProtobufCMessageDescriptor *type = req->request ? req->request->descriptor : NULL;
    if (type == &temporal__api__workflowservice__v1__poll_workflow_task_queue_request__descriptor)
        return ((const poll_wft *)req->request)->deployment_options;
    if (type == &temporal__api__workflowservice__v1__poll_activity_task_queue_request__descriptor)
        return ((const poll_activity *)req->request)->deployment_options;
    if (type == &temporal__api__workflowservice__v1__poll_nexus_task_queue_request__descriptor)
        return ((const poll_nexus *)req->request)->deployment_options;
    return NULL;
}

tn_tq *tn_tq_for_poll(tn_mloop *ml, const tn_mreq *req)
{
    if (req->sticky)
        return tn_tq_get(ml, req->ns, req->queue, req->type, true);
    return tn_tq_get_version(ml, req->ns, req->queue, req->type,
                             tn_dver_of_options(tn_poll_options(req)));
}

static tn_dver place(const tn_namespace *ns, tn_str base, uint32_t type, tn_str workflow_id,
                     const tn_directive *directive)
{
    if (!tn_deployments_any() && !directive->behavior)
        return (tn_dver){0};
    return tn_deployment_place(ns->id, base, type, workflow_id, directive).version;
}

tn_tq *tn_tq_for_task(tn_mloop *ml, const tn_mreq *req)
{
    tn_tq *plain = tn_tq_get(ml, req->ns, req->queue, req->type, req->sticky);
    if (req->sticky)
        return tn_deployment_sticky_fits(req->ns->id, req->normal_queue, req->workflow_id,
                                         &req->directive)
                   ? plain
                   : NULL;
    tn_dver version = place(req->ns, plain->base, req->type, req->workflow_id, &req->directive);
    return tn_dver_is(version) ? tn_tq_get_version(ml, req->ns, req->queue, req->type, version)
                               : plain;
}

/* ---- the directive of a waiting task ---- */

typedef struct kept_directive {
    int64_t revision;
    int32_t behavior;
    uint16_t deployment_n, build_id_n;
    bool use_ramping;
} kept_directive; /* and the two texts */

static bool kept(const tn_directive *directive) { return directive->behavior != TN_BEHAVIOR_NONE; }

size_t tn_wtask_directive_size(const tn_directive *directive)
{
    return kept(directive) ? sizeof(kept_directive) + directive->version.deployment.n +
                                 directive->version.build_id.n
                           : 0;
}

void tn_wtask_put_directive(tn_wtask *task, const tn_directive *directive)
{
    char *p = task->text + task->workflow_id_n + task->fairness_key_n + 2;
    tn_dver v = directive->version;
    kept_directive k = {.revision = directive->revision,
                        .behavior = directive->behavior,
                        .deployment_n = (uint16_t)v.deployment.n,
                        .build_id_n = (uint16_t)v.build_id.n,
                        .use_ramping = directive->use_ramping};
    task->versioned = kept(directive);
    if (!task->versioned)
        return;
    memcpy(p, &k, sizeof(k));
    if (v.deployment.n)
        memcpy(p + sizeof(k), v.deployment.p, v.deployment.n);
    if (v.build_id.n)
        memcpy(p + sizeof(k) + v.deployment.n, v.build_id.p, v.build_id.n);
}

void tn_wtask_get_directive(const tn_wtask *task, tn_directive *out)
{
    const char *p = task->text + task->workflow_id_n + task->fairness_key_n + 2;
    kept_directive k;
    *out = (tn_directive){0};
    if (!task->versioned)
        return;
    memcpy(&k, p, sizeof(k));
    p += sizeof(k);
    *out = (tn_directive){.behavior = k.behavior,
                          .version = {{p, k.deployment_n}, {p + k.deployment_n, k.build_id_n}},
                          .revision = k.revision,
                          .use_ramping = k.use_ramping};
}

/* ---- a deployment has changed ---- */

typedef struct gathered {
    tn_tq **items;
    size_t count, cap;
} gathered;

static void gather(void *user, tn_map_link *link)
{
    gathered *g = user;
    tn_tq *tq = TN_CONTAINER_OF(link, tn_tq, link);
    if (tq->sticky || !tq->backlog.count || tq->lost)
        return;
    if (g->count == g->cap) {
        g->cap = g->cap ? 2 * g->cap : 16;
        g->items = tn_xreallocarray(g->items, g->cap, sizeof(g->items[0]));
    }
    g->items[g->count++] = tq;
}

static tn_dver place_of(const tn_tq *tq, const tn_wtask *task)
{
    tn_directive directive;
    tn_wtask_get_directive(task, &directive);
    return place(tq->ns, tq->base, tq->type, tn_wtask_workflow_id(task), &directive);
}

/* All are taken out and put where they belong: those that stay keep their order. */
static void move_tasks(tn_tq *from)
{
    tn_list all;
    size_t before = from->backlog.count;
    tn_list_init(&all);
    for (tn_wtask *task; (task = tn_backlog_pop(&from->backlog));)
        tn_list_push_back(&all, &task->link);
    for (tn_list *link; (link = tn_list_pop_front(&all));) {
        tn_wtask *task = TN_CONTAINER_OF(link, tn_wtask, link);
        tn_dver version = place_of(from, task);
        tn_tq *to = tn_dver_eq(version, from->version)
                        ? from
                        : tn_tq_get_version(from->ml, from->ns, tn_str_from(from->name), from->type,
                                            version);
        tn_backlog_add(&to->backlog, task);
        if (to == from)
            continue;
        tn_gauge_add(from->backlog_series, -1);
        tn_gauge_add(to->backlog_series, 1);
        tn_match(to);
    }
    if (from->backlog.count != before)
        tn_tq_give_credit(from);
}

void tn_versions_changed(void)
{
    if (!tn_matching_is_here() || tn_mloop_current()->stopping)
        return;
    gathered g = {0};
    tn_map_each(&tn_mloop_current()->queues, gather, &g);
    for (size_t i = 0; i < g.count; i++)
        move_tasks(g.items[i]);
    free(g.items);
}

/* ---- queries that nobody will ever answer ---- */

static bool any_poller(const tn_tq *plain)
{
    bool any = plain->n_pollers != 0;
    TN_LIST_FOREACH (link, &plain->versions)
        any = any || TN_CONTAINER_OF(link, tn_tq, in_versions)->n_pollers != 0;
    return any;
}

const tn_fault *tn_query_blackholed(tn_mloop *ml, const tn_mreq *req, const tn_tq *tq)
{
    const tn_directive *directive = &req->directive;
    if (req->sticky || !tq || directive->behavior != TN_BEHAVIOR_PINNED ||
        !tn_str_eq(tq->base, tn_str_from(tq->name)))
        return NULL;
    const tn_deployment *d = tn_deployment_find(req->ns->id, directive->version.deployment);
    const tn_deployment_version *v =
        d ? tn_deployment_version_find(d, directive->version.build_id) : NULL;
    const tn_tq *plain = tn_tq_find(ml, req->ns, req->queue, req->type);
    if (!v || v->status != TN_DEPLOYED_DRAINED || (plain && any_poller(plain)))
        return NULL;
    return tn_fault_make(req->arena, TN_GRPC_FAILED_PRECONDITION,
                         "You are trying to query a closed Workflow that is PINNED to Worker "
                         "Deployment Version %s, but %s is drained and has "
                         "no pollers to answer the query. Immediately: You can re-deploy Workers "
                         "in this Deployment Version to take those "
                         "queries, or you can workflow update-options to change your workflow to "
                         "AUTO_UPGRADE. For the future: In your "
                         "infrastructure, consider waiting longer after the last queried timestamp "
                         "as reported in Describe Deployment before "
                         "you sunset Workers. Or mark this workflow as AUTO_UPGRADE.",
                         v->build_id, v->build_id);
}
