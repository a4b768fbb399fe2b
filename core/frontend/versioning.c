/* SPDX-License-Identifier: MIT */
/* Versioning beside the calls about deployments: overrides that a start brings, the first poll of a version, and the
 * calls of versioning's earlier forms, which answer as where they are switched off. */
#include "frontend/deployments.h"

#include "history/machine/versioning.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

/* ---- overrides ------------------------------------------------------------------------------- */

static const tn_fault *wrong(tn_arena *arena, const char *text)
{
    return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "%s", text);
}

static const tn_fault *check_old_form(tn_arena *arena, const tn_override *o)
{
    tn_dver parsed;
    bool pinned_version = *o->pinned_version;
    switch ((int)o->behavior) {
    case TN_BEHAVIOR_PINNED:
        if (o->deployment && !*o->deployment->series_name)
            return wrong(arena, "deployment name cannot be empty");
        if (o->deployment && strpbrk(o->deployment->series_name, ".:"))
            return wrong(arena, "deployment name cannot contain '.' or ':'");
        if (o->deployment && !*o->deployment->build_id)
            return wrong(arena, "deployment build ID cannot be empty");
        if (o->deployment)
            return NULL;
        if (!pinned_version)
            return wrong(
                arena,
                "must provide deployment (deprecated) or pinned version if behavior is 'PINNED'");
        if (!tn_dver_parse(tn_str_from(o->pinned_version), &parsed))
            return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                                 "invalid version string \"%s\", expected format is "
                                 "\"<deployment_name>.<build_id>\"",
                                 o->pinned_version);
        return NULL;
    case TN_BEHAVIOR_AUTO_UPGRADE:
        if (o->deployment)
            return wrong(arena, "only provide deployment if behavior is 'PINNED'");
        return pinned_version ? wrong(arena, "only provide pinned version if behavior is 'PINNED'")
                              : NULL;
    case TN_BEHAVIOR_NONE:
        return wrong(arena, "override behavior is required");
    default:
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "override behavior %d not recognized",
                             (int)o->behavior);
    }
}

static const tn_fault *check_named(tn_arena *arena,
                                   const Temporal__Api__Deployment__V1__WorkerDeploymentVersion *v)
{
    const tn_fault *fault = tn_front_check_deployment_field(arena, TN_DEPLOYMENT_FIELD,
                                                            tn_str_from(v->deployment_name));
    return fault ? fault
                 : tn_front_check_deployment_field(arena, TN_BUILD_FIELD, tn_str_from(v->build_id));
}

const tn_fault *tn_front_check_override(tn_arena *arena, const tn_override *o)
{
    if (!o)
        return NULL;
    switch ((int)o->override_case) {
    case TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_AUTO_UPGRADE:
        return o->auto_upgrade ? NULL : wrong(arena, "auto-upgrade override must be true");
    case TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_PINNED:
        if (!o->pinned->version)
            return wrong(arena, "must provide version if override is pinned.");
        if (!o->pinned->behavior)
            return wrong(arena, "must specify pinned override behavior if override is pinned.");
        return check_named(arena, o->pinned->version);
    case TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_ONE_TIME:
        if (!o->one_time->target_deployment_version)
            return wrong(arena, "must provide target deployment version if override is one-time.");
        return check_named(arena, o->one_time->target_deployment_version);
    default:
        return check_old_form(arena, o);
    }
}

const tn_fault *tn_front_use_override(tn_fcall *f, const tn_override *o, const char *queue)
{
    tn_arena *arena = f->call->arena;
    const tn_fault *fault = tn_front_check_override(arena, o);
    if (!o || fault)
        return fault;
    tn_dver target = tn_override_target(o);
    if (!tn_dver_is(target) || o->deployment)
        return NULL;
    if (!tn_deployment_has_queue(f->ns->id, target, tn_str_from(queue), TN_TASK_WORKFLOW))
        return tn_fault_make(arena, TN_GRPC_FAILED_PRECONDITION,
                             "Pinned version '" TN_STR_FMT ":" TN_STR_FMT
                             "' is not present in task queue '%s' of type 'Workflow'",
                             TN_STR_ARG(target.deployment), TN_STR_ARG(target.build_id), queue);
    tn_deployment_reactivate(f->ns->id, target);
    return NULL;
}

/* ---- the first poll of a version ------------------------------------------------------------- */

typedef struct poll_registration {
    tn_dcall *d;
    void (*go)(tn_fcall *f);
} poll_registration;

static void registered(tn_dcall *d)
{
    poll_registration *p = d->f->user;
    p->go(d->f);
}

const tn_fault *tn_front_check_worker(
    const tn_fcall *f, const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options)
{
    tn_dver version = tn_dver_of_options(options);
    tn_arena *arena = f->call->arena;
    const tn_fault *fault;
    if (!options || (int)options->worker_versioning_mode != 2)
        return NULL;
    if ((fault = tn_front_check_deployment_field(arena, TN_DEPLOYMENT_FIELD, version.deployment)))
        return fault;
    return tn_front_check_deployment_field(arena, TN_BUILD_FIELD, version.build_id);
}

void tn_front_poll_version(tn_fcall *f,
                           const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options,
                           const Temporal__Api__Taskqueue__V1__TaskQueue *queue, uint32_t type,
                           void (*go)(tn_fcall *f))
{
    tn_dver version = tn_dver_of_options(options);
    tn_str name = tn_str_from(queue->name);
    int64_t limit = tn_dyn_i64(TN_DYN_MATCHING_MAX_QUEUE_VERSIONS, f->ns->name, TN_STR(""));
    if (!tn_dver_is(version) || (int)queue->kind == 2 ||
        tn_deployment_has_queue(f->ns->id, version, name, type)) {
        go(f);
        return;
    }
    if (limit > 0 && tn_deployment_queue_versions(f->ns->id, name, type) > (size_t)limit) {
        tn_front_fail(
            f, tn_fault_exhausted(
                   f->call->arena, 10, 1,
                   "exceeding maximum number of Deployment Versions in this task queue (limit = "
                   "%lld)",
                   (long long)limit));
        return;
    }
    f->mreq.packed = (tn_packed){0}; /* the call's bytes may not outlive this turn of the loop */
    tn_dcall *d = tn_dcall_new(f, TN_DEPLOYMENT_REGISTER, options->deployment_name);
    poll_registration *p = TN_NEW(f->call->arena, poll_registration);
    *p = (poll_registration){.d = d, .go = go};
    f->user = p;
    d->change.build_id = tn_arena_str(f->call->arena, version.build_id);
    d->change.queue = tn_arena_str(f->call->arena, name);
    d->change.type = type;
    tn_dcall_submit(d, registered);
}

/* ---- the earlier forms ----------------------------------------------------------------------- */

void tn_do_old_deployments(tn_fcall *f)
{
    tn_front_fail(
        f,
        tn_fault_make(
            f->call->arena, TN_GRPC_UNIMPLEMENTED,
            "Deployments are deprecated and no longer supported, use Worker Deployments instead"));
}
