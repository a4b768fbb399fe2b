/* SPDX-License-Identifier: MIT */
/* The calls about worker deployments and their versions. */
#include "frontend/deployments.h"

#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)
#define RESPONSE(name, UPPER) \
    Temporal__Api__Workflowservice__V1__##name out = \
        TEMPORAL__API__WORKFLOWSERVICE__V1__##UPPER##__INIT
#define FIELD_MAX 480u /* of names and build ids: with a prefix, two of them make an id */

/* ---- checks ---------------------------------------------------------------------------------- */

static const tn_fault *invalid(tn_arena *arena, const char *what)
{
    return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "%s", what);
}

const tn_fault *tn_front_check_deployment_field(tn_arena *arena, const char *field, tn_str value)
{
    bool name = strcmp(field, TN_DEPLOYMENT_FIELD) == 0;
    if (!value.n)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "%s cannot be empty", field);
    if (value.n > FIELD_MAX)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "size of %s larger than the maximum allowed", field);
    if (name && memchr(value.p, '.', value.n))
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "worker deployment name cannot contain '.'");
    if (name && memchr(value.p, ':', value.n))
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "worker deployment name cannot contain ':'");
    if (value.n >= 2 && memcmp(value.p, "__", 2) == 0)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "%s cannot start with '__'", field);
    return NULL;
}

static const tn_fault *check_name(tn_arena *arena, const char *name)
{
    return tn_front_check_deployment_field(arena, TN_DEPLOYMENT_FIELD, tn_str_from(name));
}

static const tn_fault *disabled(const tn_fcall *f)
{
    Temporal__Api__Errordetails__V1__PermissionDeniedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__PERMISSION_DENIED_FAILURE__INIT;
    if (tn_dyn_bool(TN_DYN_SYSTEM_DEPLOYMENT_VERSIONS, f->ns->name, TN_STR("")))
        return NULL;
    return tn_fault_detailed(f->call->arena, TN_GRPC_PERMISSION_DENIED, &detail.base,
                             "Worker Deployment Versions are disabled on this namespace.");
}

static const tn_fault *version_text_fault(tn_arena *arena, const char *s)
{
    size_t i = strcspn(s, ".:");
    if (!s[i])
        return tn_fault_make(
            arena, TN_GRPC_INVALID_ARGUMENT,
            "invalid version string: expected delimiter ':' or '.' not found in version string %s",
            s);
    return i ? tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "invalid version string: build id is empty in version string %s", s)
             : tn_fault_make(
                   arena, TN_GRPC_INVALID_ARGUMENT,
                   "invalid version string: deployment name is empty in version string %s", s);
}

/* The version that a routing call names: by text (of before), or by build id; empty: unversioned. */
static const tn_fault *routed_version(tn_arena *arena, const char *name, const char *version,
                                      const char *build_id, tn_dver *out)
{
    *out = *build_id ? (tn_dver){tn_str_from(name), tn_str_from(build_id)} : (tn_dver){0};
    if (!*version)
        return NULL;
    if (!tn_dver_parse(tn_str_from(version), out))
        return version_text_fault(arena, version);
    if (tn_dver_is(*out) && !tn_str_is(out->deployment, name))
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "invalid version string '%s' does not match deployment name '%s'",
                             version, name);
    return NULL;
}

/* A version by message or text, both parts checked. */
static const tn_fault *named_version(
    tn_arena *arena, const Temporal__Api__Deployment__V1__WorkerDeploymentVersion *message,
    const char *version, tn_dver *out)
{
    const tn_fault *fault = NULL;
    if (message)
        *out = (tn_dver){tn_str_from(message->deployment_name), tn_str_from(message->build_id)};
    else if (!tn_dver_parse(tn_str_from(version), out))
        return tn_fault_make(
            arena, TN_GRPC_INVALID_ARGUMENT,
            "invalid version string \"%s\", expected format is \"<deployment_name>.<build_id>\"",
            version);
    if (!(fault = tn_front_check_deployment_field(arena, TN_DEPLOYMENT_FIELD, out->deployment)))
        fault = tn_front_check_deployment_field(arena, TN_BUILD_FIELD, out->build_id);
    return fault;
}

/* ---- reading --------------------------------------------------------------------------------- */

void tn_do_describe_deployment(tn_fcall *f)
{
    const char *name = REQUEST(f, DescribeWorkerDeploymentRequest)->deployment_name;
    tn_arena *arena = f->call->arena;
    RESPONSE(DescribeWorkerDeploymentResponse, DESCRIBE_WORKER_DEPLOYMENT_RESPONSE);
    const tn_fault *fault;
    if ((fault = disabled(f)) || (fault = tn_front_deployment_read_rate(f)) ||
        (fault = check_name(arena, name))) {
        tn_front_fail(f, fault);
        return;
    }
    const tn_deployment *d = tn_deployment_find(f->ns->id, tn_str_from(name));
    if (!d) {
        tn_front_fail(f, tn_fault_make(arena, TN_GRPC_NOT_FOUND,
                                       "no Worker Deployment found with name '%s'; does your "
                                       "Worker Deployment have pollers?",
                                       name));
        return;
    }
    tn_arena_set_limit(arena, 0);
    out.worker_deployment_info = tn_deployment_info(arena, d);
    out.conflict_token = tn_deployment_token(arena, d);
    tn_front_reply(f, &out.base);
}

static void show_version(tn_dcall *d)
{
    typedef Temporal__Api__Workflowservice__V1__DescribeWorkerDeploymentVersionResponse__VersionTaskQueue
        queue_info;
    RESPONSE(DescribeWorkerDeploymentVersionResponse, DESCRIBE_WORKER_DEPLOYMENT_VERSION_RESPONSE);
    const tn_deployment *deployment = tn_deployment_find(d->f->ns->id, d->change.name);
    const tn_deployment_version *v =
        deployment ? tn_deployment_version_find(deployment, d->change.build_id) : NULL;
    if (!v) {
        tn_front_fail(d->f, tn_fault_make(d->arena, TN_GRPC_NOT_FOUND,
                                          "Worker Deployment Version not found"));
        return;
    }
    Temporal__Api__Deployment__V1__WorkerDeploymentVersionInfo *info =
        tn_deployment_version_info(d->arena, deployment, v);
    out.worker_deployment_version_info = info;
    out.version_task_queues =
        tn_arena_array(d->arena, info->n_task_queue_infos + 1, sizeof(out.version_task_queues[0]));
    TN_ASSERT(out.version_task_queues);
    for (size_t i = 0; i < info->n_task_queue_infos; i++) {
        queue_info *q = TN_NEW(d->arena, queue_info);
        temporal__api__workflowservice__v1__describe_worker_deployment_version_response__version_task_queue__init(
            q);
        q->name = info->task_queue_infos[i]->name;
        q->type = info->task_queue_infos[i]->type;
        if (d->asked && i < d->n_stats)
            q->stats = d->stats[i];
        out.version_task_queues[out.n_version_task_queues++] = q;
    }
    tn_front_reply(d->f, &out.base);
}

void tn_do_describe_deployment_version(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__DescribeWorkerDeploymentVersionRequest *r =
        REQUEST(f, DescribeWorkerDeploymentVersionRequest);
    tn_arena *arena = f->call->arena;
    const tn_fault *fault = NULL;
    tn_dver version;
    if ((fault = disabled(f)) || (fault = tn_front_deployment_read_rate(f))) {
        tn_front_fail(f, fault);
        return;
    }
    if (!*r->version && !r->deployment_version) {
        tn_front_invalid(f, "deployment version cannot be empty");
        return;
    }
    if ((fault = named_version(arena, *r->version ? NULL : r->deployment_version, r->version,
                               &version))) {
        tn_front_fail(f, fault);
        return;
    }
    tn_dcall *d = tn_dcall_new(f, TN_DEPLOYMENT_REGISTER, "");
    d->change.name = tn_arena_str(arena, version.deployment);
    d->change.build_id = tn_arena_str(arena, version.build_id);
    const tn_deployment *deployment = tn_deployment_find(f->ns->id, version.deployment);
    const tn_deployment_version *v =
        deployment ? tn_deployment_version_find(deployment, version.build_id) : NULL;
    if (v && r->report_task_queue_stats)
        tn_dcall_ask_queues(d, deployment->name, v, NULL, show_version);
    else
        show_version(d);
}

static void show_summary(
    tn_arena *arena, const tn_deployment *d,
    Temporal__Api__Workflowservice__V1__ListWorkerDeploymentsResponse__WorkerDeploymentSummary *out)
{
    temporal__api__workflowservice__v1__list_worker_deployments_response__worker_deployment_summary__init(
        out);
    out->name = d->name;
    out->create_time = tn_ts_from_ns(arena, (int64_t)d->created_ns);
    out->routing_config = tn_deployment_routing_config(arena, d);
    if (d->n_versions)
        out->latest_version_summary =
            tn_deployment_version_summary(arena, d, d->versions[d->n_versions - 1]);
    out->current_version_summary = tn_deployment_version_summary(
        arena, d, tn_deployment_version_find(d, tn_str_from(d->current)));
    if (d->ramps)
        out->ramping_version_summary = tn_deployment_version_summary(
            arena, d, tn_deployment_version_find(d, tn_str_from(d->ramping)));
}

void tn_do_list_deployments(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ListWorkerDeploymentsRequest *r =
        REQUEST(f, ListWorkerDeploymentsRequest);
    tn_arena *arena = f->call->arena;
    RESPONSE(ListWorkerDeploymentsResponse, LIST_WORKER_DEPLOYMENTS_RESPONSE);
    int64_t max = tn_front_limit(f, TN_DYN_FRONTEND_VISIBILITY_PAGE);
    const tn_fault *fault = disabled(f);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    size_t n = (size_t)(r->page_size > 0 && r->page_size <= max ? r->page_size : max);
    tn_str after = {(const char *)r->next_page_token.data, r->next_page_token.len};
    tn_arena_set_limit(arena, 0);
    const tn_deployment **found = TN_NEW_ARRAY(arena, const tn_deployment *, n + 2);
    size_t count = tn_deployment_list(f->ns->id, after, n + 1, found);
    size_t shown = count > n ? n : count;
    out.worker_deployments = tn_arena_array(arena, shown + 1, sizeof(out.worker_deployments[0]));
    TN_ASSERT(out.worker_deployments);
    for (size_t i = 0; i < shown; i++) {
        out.worker_deployments[i] = TN_NEW(
            arena,
            Temporal__Api__Workflowservice__V1__ListWorkerDeploymentsResponse__WorkerDeploymentSummary);
        show_summary(arena, found[i], out.worker_deployments[i]);
    }
    out.n_worker_deployments = shown;
    if (count > shown) {
        out.next_page_token.data = (uint8_t *)(uintptr_t)found[shown - 1]->name;
        out.next_page_token.len = strlen(found[shown - 1]->name);
    }
    tn_front_reply(f, &out.base);
}

/* ---- routing --------------------------------------------------------------------------------- */

static tn_dver previous_of(const tn_deployment_change *c)
{
    return c->previous.n ? (tn_dver){c->name, c->previous} : (tn_dver){0};
}

static ProtobufCBinaryData token_of(tn_dcall *d)
{
    return d->change.now ? tn_deployment_token(d->arena, d->change.now) : (ProtobufCBinaryData){0};
}

static void current_set(tn_dcall *d)
{
    RESPONSE(SetWorkerDeploymentCurrentVersionResponse,
             SET_WORKER_DEPLOYMENT_CURRENT_VERSION_RESPONSE);
    tn_dver previous = previous_of(&d->change);
    out.conflict_token = token_of(d);
    out.previous_version = tn_dver_text_old(d->arena, previous);
    out.previous_deployment_version = tn_dver_message(d->arena, previous);
    tn_front_reply(d->f, &out.base);
}

static void ramping_set(tn_dcall *d)
{
    RESPONSE(SetWorkerDeploymentRampingVersionResponse,
             SET_WORKER_DEPLOYMENT_RAMPING_VERSION_RESPONSE);
    tn_dver previous = previous_of(&d->change);
    out.conflict_token = token_of(d);
    if (d->change.previous_ramped)
        out.previous_version = tn_dver_text_old(d->arena, previous);
    out.previous_deployment_version = tn_dver_message(d->arena, previous);
    out.previous_percentage = d->change.previous_percentage;
    tn_front_reply(d->f, &out.base);
}

static void go(tn_dcall *d)
{
    tn_dcall_submit(d, d->change.verb == TN_DEPLOYMENT_SET_CURRENT ? current_set : ramping_set);
}

/* A queue that the new version lacks, and that still follows this deployment's current version. */
static bool may_be_missed(tn_dcall *d, tn_str queue, uint32_t type)
{
    tn_dver next = {d->change.name, d->change.build_id};
    const tn_routing *routing = tn_deployment_routing(d->f->ns->id, queue, type);
    return !tn_deployment_has_queue(d->f->ns->id, next, queue, type) && routing &&
           tn_str_eq(routing->current.deployment, d->change.name) &&
           tn_str_is(routing->current.build_id, d->asked->build_id);
}

static void missed_asked(tn_dcall *d)
{
    bool current = d->change.verb == TN_DEPLOYMENT_SET_CURRENT;
    if (!d->busy) {
        go(d);
        return;
    }
    tn_front_fail(
        d->f, tn_fault_make(
                  d->arena, TN_GRPC_FAILED_PRECONDITION,
                  "proposed %s version '" TN_STR_FMT ":" TN_STR_FMT
                  "' is missing active task queues from the current version; these would become "
                  "unversioned if it is set as the %s version",
                  current ? "current" : "ramping", TN_STR_ARG(d->change.name),
                  TN_STR_ARG(d->change.build_id), current ? "current" : "ramping"));
}

static void route(tn_dcall *d, bool ignore_missing)
{
    tn_deployment_change *c = &d->change;
    const tn_deployment *now = tn_deployment_find(c->ns_id, c->name);
    tn_deployment_try(c);
    if (c->fault && !c->too_many_versions) {
        tn_front_fail(d->f, c->fault);
        return;
    }
    const tn_deployment_version *v =
        now ? tn_deployment_version_find(now, tn_str_from(now->current)) : NULL;
    bool same_ramp = c->verb == TN_DEPLOYMENT_SET_RAMPING && now && now->ramps &&
                     tn_str_is(c->build_id, now->ramping);
    if (c->unchanged || ignore_missing || !v || !c->build_id.n || same_ramp)
        go(d);
    else
        tn_dcall_ask_queues(d, now->name, v, may_be_missed, missed_asked);
}

void tn_do_set_current(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__SetWorkerDeploymentCurrentVersionRequest *r =
        REQUEST(f, SetWorkerDeploymentCurrentVersionRequest);
    tn_arena *arena = f->call->arena;
    const tn_fault *fault = disabled(f);
    tn_dver version;
    if (!fault && !*r->deployment_name)
        fault = invalid(arena, "deployment name cannot be empty");
    if (fault ||
        (fault = routed_version(arena, r->deployment_name, r->version, r->build_id, &version)) ||
        (fault = check_name(arena, r->deployment_name)) ||
        (r->allow_no_pollers && version.build_id.n &&
         (fault = tn_front_check_deployment_field(arena, TN_BUILD_FIELD, version.build_id)))) {
        tn_front_fail(f, fault);
        return;
    }
    tn_dcall *d = tn_dcall_new(f, TN_DEPLOYMENT_SET_CURRENT, r->deployment_name);
    d->change.build_id = tn_arena_str(arena, version.build_id);
    d->change.identity = tn_str_from(r->identity);
    d->change.token = tn_blob_from(r->conflict_token.data, r->conflict_token.len);
    d->change.allow_no_pollers = r->allow_no_pollers;
    route(d, r->ignore_missing_task_queues);
}

void tn_do_set_ramping(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__SetWorkerDeploymentRampingVersionRequest *r =
        REQUEST(f, SetWorkerDeploymentRampingVersionRequest);
    tn_arena *arena = f->call->arena;
    const tn_fault *fault = disabled(f);
    tn_dver version;
    bool unset = !*r->build_id && r->percentage <= 0 &&
                 (!*r->version || strcmp(r->version, "__unversioned__") == 0);
    if (!fault && (r->percentage < 0 || r->percentage > 100))
        fault = invalid(arena, "Percentage must be between 0 and 100 (inclusive)");
    if (fault ||
        (fault = routed_version(arena, r->deployment_name, r->version, r->build_id, &version)) ||
        (fault = check_name(arena, r->deployment_name)) ||
        (r->allow_no_pollers && version.build_id.n &&
         (fault = tn_front_check_deployment_field(arena, TN_BUILD_FIELD, version.build_id)))) {
        tn_front_fail(f, fault);
        return;
    }
    tn_dcall *d = tn_dcall_new(f, TN_DEPLOYMENT_SET_RAMPING, r->deployment_name);
    d->change.build_id = tn_arena_str(arena, version.build_id);
    d->change.unset = unset;
    d->change.percentage = r->percentage;
    d->change.identity = tn_str_from(r->identity);
    d->change.token = tn_blob_from(r->conflict_token.data, r->conflict_token.len);
    d->change.allow_no_pollers = r->allow_no_pollers;
    route(d, r->ignore_missing_task_queues);
}

/* ---- making ---------------------------------------------------------------------------------- */

static tn_str request_id_of(tn_fcall *f, const char *given)
{
    return tn_str_from(*given ? given : tn_fresh_uuid(f->call->arena));
}

static void created(tn_dcall *d)
{
    RESPONSE(CreateWorkerDeploymentResponse, CREATE_WORKER_DEPLOYMENT_RESPONSE);
    out.conflict_token = token_of(d);
    tn_front_reply(d->f, &out.base);
}

void tn_do_create_deployment(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__CreateWorkerDeploymentRequest *r =
        REQUEST(f, CreateWorkerDeploymentRequest);
    const tn_fault *fault;
    if (!*r->deployment_name) {
        tn_front_invalid(f, "deployment name cannot be empty");
        return;
    }
    if ((fault = disabled(f)) || (fault = check_name(f->call->arena, r->deployment_name))) {
        tn_front_fail(f, fault);
        return;
    }
    tn_dcall *d = tn_dcall_new(f, TN_DEPLOYMENT_CREATE, r->deployment_name);
    d->change.identity = tn_str_from(r->identity);
    d->change.request_id = request_id_of(f, r->request_id);
    tn_dcall_submit(d, created);
}

static void version_created(tn_dcall *d)
{
    RESPONSE(CreateWorkerDeploymentVersionResponse, CREATE_WORKER_DEPLOYMENT_VERSION_RESPONSE);
    tn_front_reply(d->f, &out.base);
}

void tn_do_create_deployment_version(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__CreateWorkerDeploymentVersionRequest *r =
        REQUEST(f, CreateWorkerDeploymentVersionRequest);
    tn_arena *arena = f->call->arena;
    const tn_fault *fault;
    if (!r->deployment_version || !*r->deployment_version->deployment_name) {
        tn_front_invalid(f, "deployment name cannot be empty");
        return;
    }
    if (!*r->deployment_version->build_id) {
        tn_front_invalid(f, "build ID cannot be empty");
        return;
    }
    if ((fault = disabled(f)) ||
        (fault = check_name(arena, r->deployment_version->deployment_name)) ||
        (fault = tn_front_check_deployment_field(arena, TN_BUILD_FIELD,
                                                 tn_str_from(r->deployment_version->build_id)))) {
        tn_front_fail(f, fault);
        return;
    }
    if (r->compute_config &&
        r->compute_config->n_scaling_groups) { /* workers that a cloud starts */
        tn_front_fail(
            f, tn_fault_make(arena, TN_GRPC_UNIMPLEMENTED,
                             "this server starts no workers: a compute config is not supported"));
        return;
    }
    tn_dcall *d =
        tn_dcall_new(f, TN_DEPLOYMENT_CREATE_VERSION, r->deployment_version->deployment_name);
    d->change.build_id = tn_str_from(r->deployment_version->build_id);
    d->change.identity = tn_str_from(r->identity);
    d->change.request_id = request_id_of(f, r->request_id);
    tn_dcall_submit(d, version_created);
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void manager_set(tn_dcall *d)
{
    RESPONSE(SetWorkerDeploymentManagerResponse, SET_WORKER_DEPLOYMENT_MANAGER_RESPONSE);
    out.conflict_token = token_of(d);
    out.previous_manager_identity =
        (char *)(uintptr_t)(d->change.previous_manager.n ? d->change.previous_manager.p : "");
    tn_front_reply(d->f, &out.base);
}

void tn_do_set_deployment_manager(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__SetWorkerDeploymentManagerRequest *r =
        REQUEST(f, SetWorkerDeploymentManagerRequest);
    const tn_fault *fault;
    bool self =
        r->new_manager_identity_case ==
            TEMPORAL__API__WORKFLOWSERVICE__V1__SET_WORKER_DEPLOYMENT_MANAGER_REQUEST__NEW_MANAGER_IDENTITY_SELF &&
        r->self;
    bool named =
        r->new_manager_identity_case ==
        TEMPORAL__API__WORKFLOWSERVICE__V1__SET_WORKER_DEPLOYMENT_MANAGER_REQUEST__NEW_MANAGER_IDENTITY_MANAGER_IDENTITY;
    if (!*r->identity) {
        tn_front_invalid(f, "Identity is required");
        return;
    }
    if ((fault = check_name(f->call->arena, r->deployment_name))) {
        tn_front_fail(f, fault);
        return;
    }
    tn_dcall *d = tn_dcall_new(f, TN_DEPLOYMENT_SET_MANAGER, r->deployment_name);
    d->change.identity = tn_str_from(r->identity);
    d->change.manager = tn_str_from(self ? r->identity : named ? r->manager_identity : "");
    d->change.token = tn_blob_from(r->conflict_token.data, r->conflict_token.len);
    tn_dcall_submit(d, manager_set);
}

static void deleted(tn_dcall *d)
{
    RESPONSE(DeleteWorkerDeploymentResponse, DELETE_WORKER_DEPLOYMENT_RESPONSE);
    tn_front_reply(d->f, &out.base);
}

void tn_do_delete_deployment(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__DeleteWorkerDeploymentRequest *r =
        REQUEST(f, DeleteWorkerDeploymentRequest);
    const tn_fault *fault = check_name(f->call->arena, r->deployment_name);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    tn_dcall *d = tn_dcall_new(f, TN_DEPLOYMENT_DELETE, r->deployment_name);
    d->change.identity = tn_str_from(r->identity);
    tn_dcall_submit(d, deleted);
}

static void version_deleted(tn_dcall *d)
{
    RESPONSE(DeleteWorkerDeploymentVersionResponse, DELETE_WORKER_DEPLOYMENT_VERSION_RESPONSE);
    tn_front_reply(d->f, &out.base);
}

static void pollers_asked(tn_dcall *d)
{
    if (!d->polled) {
        tn_dcall_submit(d, version_deleted);
        return;
    }
    tn_front_fail(d->f, tn_fault_make(d->arena, TN_GRPC_FAILED_PRECONDITION,
                                      "version '" TN_STR_FMT ":" TN_STR_FMT
                                      "' cannot be deleted since it has active pollers",
                                      TN_STR_ARG(d->change.name), TN_STR_ARG(d->change.build_id)));
}

void tn_do_delete_deployment_version(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__DeleteWorkerDeploymentVersionRequest *r =
        REQUEST(f, DeleteWorkerDeploymentVersionRequest);
    tn_arena *arena = f->call->arena;
    tn_dver version;
    const tn_fault *fault = named_version(arena, r->deployment_version, r->version, &version);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    tn_dcall *d = tn_dcall_new(f, TN_DEPLOYMENT_DELETE_VERSION, "");
    d->change.name = tn_arena_str(arena, version.deployment);
    d->change.build_id = tn_arena_str(arena, version.build_id);
    d->change.skip_drainage = r->skip_drainage;
    d->change.identity =
        *r->identity ? tn_str_from(r->identity) : tn_str_from(tn_fresh_uuid(arena));
    tn_deployment_try(&d->change);
    const tn_deployment *deployment = tn_deployment_find(f->ns->id, version.deployment);
    const tn_deployment_version *v =
        deployment ? tn_deployment_version_find(deployment, version.build_id) : NULL;
    if (d->change.fault)
        tn_front_fail(f, d->change.fault);
    else if (v)
        tn_dcall_ask_queues(d, deployment->name, v, NULL, pollers_asked);
    else
        version_deleted(d);
}

static void metadata_set(tn_dcall *d)
{
    RESPONSE(UpdateWorkerDeploymentVersionMetadataResponse,
             UPDATE_WORKER_DEPLOYMENT_VERSION_METADATA_RESPONSE);
    const tn_deployment_version *v =
        d->change.now ? tn_deployment_version_find(d->change.now, d->change.build_id) : NULL;
    if (v)
        out.metadata = tn_deployment_version_info(d->arena, d->change.now, v)->metadata;
    tn_front_reply(d->f, &out.base);
}

void tn_do_set_deployment_metadata(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__UpdateWorkerDeploymentVersionMetadataRequest *r =
        REQUEST(f, UpdateWorkerDeploymentVersionMetadataRequest);
    tn_arena *arena = f->call->arena;
    tn_dver version;
    if (!r->n_upsert_entries && !r->n_remove_entries) {
        tn_front_invalid(f, "At least one of remove_entries or upsert_entries must be provided");
        return;
    }
    const tn_fault *fault = named_version(arena, r->deployment_version, r->version, &version);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    tn_dcall *d = tn_dcall_new(f, TN_DEPLOYMENT_SET_METADATA, "");
    Tenon__NamedPayload **upserts =
        TN_NEW_ARRAY(arena, Tenon__NamedPayload *, r->n_upsert_entries + 1);
    for (size_t i = 0; i < r->n_upsert_entries; i++) {
        tn_blob packed = {0};
        upserts[i] = TN_NEW(arena, Tenon__NamedPayload);
        tenon__named_payload__init(upserts[i]);
        upserts[i]->name = r->upsert_entries[i]->key;
        if (r->upsert_entries[i]->value)
            TN_ASSERT(tn_proto_pack(&r->upsert_entries[i]->value->base, arena, &packed) == TN_OK);
        upserts[i]->payload = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    }
    d->change.name = tn_arena_str(arena, version.deployment);
    d->change.build_id = tn_arena_str(arena, version.build_id);
    d->change.upserts = (const Tenon__NamedPayload *const *)upserts;
    d->change.n_upserts = r->n_upsert_entries;
    d->change.removals = r->remove_entries;
    d->change.n_removals = r->n_remove_entries;
    d->change.identity = tn_str_from(r->identity);
    tn_dcall_submit(d, metadata_set);
}

/* There is nothing to take away: no version has a compute config here. */
void tn_do_set_deployment_compute(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__UpdateWorkerDeploymentVersionComputeConfigRequest *r =
        REQUEST(f, UpdateWorkerDeploymentVersionComputeConfigRequest);
    const Temporal__Api__Deployment__V1__WorkerDeploymentVersion *named = r->deployment_version;
    if (!named || !*named->deployment_name) {
        tn_front_invalid(f, "deployment name cannot be empty");
        return;
    }
    if (!*named->build_id) {
        tn_front_invalid(f, "build ID cannot be empty");
        return;
    }
    const tn_fault *fault = disabled(f);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    const tn_deployment *d = tn_deployment_find(f->ns->id, tn_str_from(named->deployment_name));
    if (!d || !tn_deployment_version_find(d, tn_str_from(named->build_id))) {
        tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_NOT_FOUND,
                                       "build ID '%s' not found in Worker Deployment '%s'",
                                       named->build_id, named->deployment_name));
        return;
    }
    if (r->n_compute_config_scaling_groups) { /* workers that a cloud starts */
        tn_front_fail(
            f, tn_fault_make(f->call->arena, TN_GRPC_UNIMPLEMENTED,
                             "this server starts no workers: a compute config is not supported"));
        return;
    }
    RESPONSE(UpdateWorkerDeploymentVersionComputeConfigResponse,
             UPDATE_WORKER_DEPLOYMENT_VERSION_COMPUTE_CONFIG_RESPONSE);
    tn_front_reply(f, &out.base);
}
