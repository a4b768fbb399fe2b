/* SPDX-License-Identifier: MIT */
/* Between runs and the worker deployments that this host knows: what matching is told of a task, what the machine is told of
 * the worker that takes it, and what a child has of its parent. */
#include "history/priv.h"
#include "history/machine/versioning.h"

tn_directive tn_run_directive(const tn_ms *ms, tn_arena *arena, bool workflow_task)
{
    if (!ms->versioning)
        return (tn_directive){0};
    tn_dver version = tn_ms_version(ms);
    return (tn_directive){
        .behavior = tn_ms_behavior(ms),
        .version = {tn_arena_str(arena, version.deployment), tn_arena_str(arena, version.build_id)},
        .revision = tn_ms_revision(ms),
        .use_ramping = workflow_task && tn_ms_uses_ramping(ms)};
}

void tn_poller_set_version(tn_poller *poller, const tn_namespace *ns, const tn_ms *ms,
                           bool workflow_task,
                           const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options)
{
    poller->version = tn_dver_of_options(options);
    if (!tn_deployments_any())
        return;
    const tn_routing *routing =
        tn_deployment_routing(ns->id, tn_str_from(ms->task_queue), TN_TASK_WORKFLOW);
    poller->target =
        tn_routing_target(routing, tn_str_from(ms->workflow_id),
                          workflow_task && tn_ms_uses_ramping(ms), &poller->target_revision);
    poller->version_revision =
        tn_dver_eq(poller->version, poller->target) ? poller->target_revision : tn_ms_revision(ms);
}

bool tn_history_queue_in_version(void *user, tn_str ns_id, tn_str queue, tn_dver version)
{
    (void)user;
    return tn_deployment_has_queue(ns_id, version, queue, TN_TASK_WORKFLOW);
}

bool tn_child_versioning(
    const tn_ms *ms, tn_parent_ref *self,
    const Temporal__Api__History__V1__StartChildWorkflowExecutionInitiatedEventAttributes *a,
    tn_str ns_id, tn_arena *arena,
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r)
{
    tn_heritage heritage;
    r->versioning_override = a->versioning_override;
    if (a->versioning_override) {
        tn_dver target = tn_override_target(a->versioning_override);
        return !tn_dver_is(target) ||
               tn_deployment_has_queue(ns_id, target, tn_str_from(a->task_queue->name),
                                       TN_TASK_WORKFLOW);
    }
    if (!ms->versioning)
        return true;
    tn_ms_heritage_of_child(ms, arena, ns_id, tn_str_from(a->task_queue->name),
                            tn_history_queue_in_version, NULL, &heritage);
    r->versioning_override = heritage.override;
    self->pinned = heritage.pinned;
    self->upgrade = heritage.upgrade;
    self->upgrade_revision = heritage.upgrade_revision;
    return true;
}
