/* SPDX-License-Identifier: MIT */
/* What a request must fulfil, with the texts that clients know.  Defaults are filled in on the way. */
#include "config/dynconfig.h"
#include "frontend/priv.h"
#include "history/machine/machine.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "visibility/visibility.h"

#define INVALID(arena, ...) tn_fault_make((arena), TN_GRPC_INVALID_ARGUMENT, __VA_ARGS__)

typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request;
typedef Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest sws_request;

size_t tn_front_id_max(void)
{
    int64_t max = tn_dyn_i64(TN_DYN_LIMIT_ID_LENGTH, TN_STR(""), TN_STR(""));
    return max > 0 ? (size_t)max : 0;
}

int64_t tn_front_limit(const tn_fcall *f, tn_dyn_key key)
{
    return tn_dyn_i64(key, f->ns ? f->ns->name : TN_STR(""), TN_STR(""));
}

char *tn_fresh_uuid(tn_arena *arena)
{
    static __thread tn_rng rng;
    static __thread bool seeded;
    if (!seeded) {
        tn_rng_seed_random(&rng);
        seeded = true;
    }
    uint8_t id[16];
    char *text = tn_arena_alloc(arena, 37);
    tn_uuid_v4(&rng, id);
    if (text)
        tn_uuid_format(id, text);
    return text ? text : (char *)"";
}

const tn_fault *tn_front_check_execution(
    tn_arena *arena, const Temporal__Api__Common__V1__WorkflowExecution *execution)
{
    uint8_t id[16];
    if (!execution)
        return INVALID(arena, "Execution is not set on request.");
    if (!*execution->workflow_id)
        return INVALID(arena, "WorkflowId is not set on request.");
    if (*execution->run_id && !tn_uuid_parse(tn_str_from(execution->run_id), id))
        return INVALID(arena, "Invalid RunId.");
    return NULL;
}

static const tn_fault *check_queue_name(tn_arena *arena, const char *name)
{
    if (strlen(name) > tn_front_id_max())
        return INVALID(arena, "taskQueue length exceeds limit");
    if (strncmp(name, "/_sys/", 6) == 0)
        return INVALID(arena, "task queue name cannot start with reserved prefix /_sys/");
    return NULL;
}

const tn_fault *tn_front_check_task_queue(tn_arena *arena,
                                          Temporal__Api__Taskqueue__V1__TaskQueue *queue)
{
    if (!queue)
        return INVALID(arena, "taskQueue is not set");
    if (!*queue->name)
        return INVALID(arena, "missing task queue name");
    if (!queue->kind)
        queue->kind = TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_NORMAL;
    const tn_fault *fault = check_queue_name(arena, queue->name);
    if (!fault &&
        queue->kind == TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_STICKY &&
        *queue->normal_name)
        fault = check_queue_name(arena, queue->normal_name);
    return fault;
}

const tn_fault *tn_front_check_retry_policy(tn_arena *arena,
                                            Temporal__Api__Common__V1__RetryPolicy *policy)
{
    const char *why = tn_retry_policy_settle(arena, policy);
    return why ? INVALID(arena, "%s", why) : NULL;
}

bool tn_front_blob_too_large(const tn_fcall *f, const ProtobufCMessage *blob)
{
    int64_t max = tn_front_limit(f, TN_DYN_LIMIT_BLOB_SIZE_ERROR);
    return blob && max > 0 && protobuf_c_message_get_packed_size(blob) > (size_t)max;
}

const tn_fault *tn_front_check_identity(tn_arena *arena, const char *identity)
{
    return strlen(identity) > tn_front_id_max() ? INVALID(arena, "Identity length exceeds limit.")
                                                : NULL;
}

/* Versioning by build id alone is over: a worker that asks for it is refused, as where it is switched off. */
const tn_fault *tn_front_check_version(
    const tn_fcall *f, const char *build_id, bool use_versioning,
    const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options,
    const Temporal__Api__Taskqueue__V1__TaskQueue *queue)
{
    tn_arena *arena = f->call->arena;
    int64_t build_max = tn_front_limit(f, TN_DYN_LIMIT_BUILD_ID_LENGTH);
    Temporal__Api__Errordetails__V1__PermissionDeniedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__PERMISSION_DENIED_FAILURE__INIT;
    if (use_versioning && !(options && (int)options->worker_versioning_mode == 2))
        return tn_fault_detailed(
            arena, TN_GRPC_PERMISSION_DENIED, &detail.base,
            "Worker versioning in workflow progress APIs is disabled on this namespace.");
    if (queue && queue->kind == TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_STICKY &&
        !*queue->normal_name && options)
        return INVALID(arena, "NormalName must be set on sticky queue when UseVersioning is true "
                              "or DeploymentOptions "
                              "are set.");
    if (build_id && (int64_t)strlen(build_id) > build_max)
        return INVALID(
            arena, "Build ID exceeds configured limit.workerBuildIdSize, use a shorter build ID.");
    if (options && (int)options->worker_versioning_mode == 2 &&
        (!*options->deployment_name || !*options->build_id))
        return INVALID(arena, "Deployment name and build id must be set together.");
    return tn_front_check_worker(f, options);
}

/* ---- links and priority ---- */

static const tn_fault *check_event_link(tn_arena *arena,
                                        const Temporal__Api__Common__V1__Link__WorkflowEvent *event)
{
    const Temporal__Api__Common__V1__Link__WorkflowEvent__EventReference *ref =
        event->reference_case ==
                TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_EVENT_REF
            ? event->event_ref
            : NULL;
    if (!*event->namespace_)
        return INVALID(arena, "workflow event link must not have an empty namespace field");
    if (!*event->workflow_id)
        return INVALID(arena, "workflow event link must not have an empty workflow ID field");
    if (!*event->run_id)
        return INVALID(arena, "workflow event link must not have an empty run ID field");
    if (ref && !ref->event_type && ref->event_id)
        return INVALID(arena, "workflow event link ref cannot have an unspecified event type and a "
                              "non-zero event ID");
    return NULL;
}

const tn_fault *tn_front_check_links(const tn_fcall *f, size_t n,
                                     Temporal__Api__Common__V1__Link *const *links)
{
    tn_arena *arena = f->call->arena;
    int64_t count_max = tn_front_limit(f, TN_DYN_FRONTEND_LINKS),
            size_max = tn_front_limit(f, TN_DYN_FRONTEND_LINK_SIZE);
    if ((int64_t)n > count_max)
        return INVALID(arena, "cannot attach more than %lld links per request, got %zu",
                       (long long)count_max, n);
    for (size_t i = 0; i < n; i++) {
        size_t size = protobuf_c_message_get_packed_size(&links[i]->base);
        const tn_fault *fault = NULL;
        if ((int64_t)size > size_max)
            return INVALID(arena, "link exceeds allowed size of %lld, got %zu", (long long)size_max,
                           size);
        if (links[i]->variant_case == TEMPORAL__API__COMMON__V1__LINK__VARIANT_WORKFLOW_EVENT)
            fault = check_event_link(arena, links[i]->workflow_event);
        else if (links[i]->variant_case == TEMPORAL__API__COMMON__V1__LINK__VARIANT_BATCH_JOB &&
                 !*links[i]->batch_job->job_id)
            fault = INVALID(arena, "batch job link must not have an empty job ID");
        if (fault)
            return fault;
    }
    return NULL;
}

static const tn_fault *check_priority(tn_arena *arena,
                                      const Temporal__Api__Common__V1__Priority *priority)
{
    if (!priority)
        return NULL;
    if (priority->priority_key < 0)
        return INVALID(arena, "priority key can't be negative");
    if (strlen(priority->fairness_key) > 64)
        return INVALID(arena, "fairness key length exceeds limit");
    if (priority->fairness_weight < 0)
        return INVALID(arena, "must be greater than zero");
    return NULL;
}

/* ---- start ---- */

static const tn_fault *check_timeouts(tn_arena *arena, const start_request *r)
{
    const char *why;
    if ((why = tn_duration_settle(r->workflow_execution_timeout)))
        return INVALID(
            arena, "An invalid WorkflowExecutionTimeoutSeconds is set on request. cause: %s", why);
    if ((why = tn_duration_settle(r->workflow_run_timeout)))
        return INVALID(arena, "An invalid WorkflowRunTimeoutSeconds is set on request. cause: %s",
                       why);
    if ((why = tn_duration_settle(r->workflow_task_timeout)))
        return INVALID(arena, "An invalid WorkflowTaskTimeoutSeconds is set on request. cause: %s",
                       why);
    return NULL;
}

static const tn_fault *check_policies(tn_arena *arena, start_request *r, int default_conflict)
{
    int reuse = (int)r->workflow_id_reuse_policy, conflict = (int)r->workflow_id_conflict_policy;
    if (conflict != 0 && reuse == 4)
        return INVALID(
            arena,
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot "
            "be used together with a WorkflowIDConflictPolicy");
    if (conflict == 3 && reuse == 3)
        return INVALID(
            arena,
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE cannot be "
            "used together with WorkflowIdConflictPolicy "
            "WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING");
    if (reuse == 4) { /* the old way of saying terminate-existing */
        r->workflow_id_reuse_policy = 1;
        r->workflow_id_conflict_policy = 3;
        return NULL;
    }
    if (reuse == 0)
        r->workflow_id_reuse_policy = 1;
    if (conflict == 0)
        r->workflow_id_conflict_policy =
            (Temporal__Api__Enums__V1__WorkflowIdConflictPolicy)default_conflict;
    return NULL;
}

static const tn_fault *check_cron(tn_arena *arena, const char *spec)
{
    char why[200];
    uint64_t next;
    if (!*spec || tn_cron_next(tn_str_from(spec), tn_now_wall_ns(), tn_now_wall_ns(), &next, why,
                               sizeof(why)))
        return NULL;
    return INVALID(arena, "invalid CronSchedule.");
}

static const tn_fault *check_delay(tn_arena *arena, const start_request *r)
{
    const char *why;
    if (r->workflow_start_delay && *r->cron_schedule)
        return INVALID(arena, "CronSchedule and WorkflowStartDelay may not be used together.");
    if ((why = tn_duration_settle(r->workflow_start_delay)))
        return INVALID(arena, "An invalid WorkflowStartDelaySeconds is set on request. cause: %s",
                       why);
    return NULL;
}

const tn_fault *tn_front_check_search_attributes(
    tn_fcall *f, Temporal__Api__Common__V1__SearchAttributes *attributes)
{
    tn_arena *arena = f->call->arena;
    tn_search_attr_limits limits = {
        .count_max = (uint32_t)tn_front_limit(f, TN_DYN_FRONTEND_SA_KEYS),
        .value_bytes_max = (uint32_t)tn_front_limit(f, TN_DYN_FRONTEND_SA_VALUE_SIZE),
        .total_bytes_max = (uint32_t)tn_front_limit(f, TN_DYN_FRONTEND_SA_TOTAL_SIZE),
    };
    tn_blob packed;
    if (!attributes)
        return NULL;
    if (tn_proto_pack(&attributes->base, arena, &packed) != TN_OK)
        return tn_fault_make(arena, TN_GRPC_RESOURCE_EXHAUSTED,
                             "search attributes take too much memory");
    const tn_fault *fault = tn_search_attrs_validate(arena, f->ns, packed, &limits);
    if (!fault)
        tn_search_attrs_add_types(arena, f->ns, attributes);
    return fault;
}

static bool larger(const ProtobufCMessage *message, int64_t max)
{
    return message && max > 0 && protobuf_c_message_get_packed_size(message) > (size_t)max;
}

static const tn_fault *check_sizes(tn_fcall *f, const start_request *r)
{
    tn_arena *arena = f->call->arena;
    const Temporal__Api__Sdk__V1__UserMetadata *meta = r->user_metadata;
    int64_t summary_max = tn_front_limit(f, TN_DYN_LIMIT_SUMMARY_SIZE);
    int64_t details_max = tn_front_limit(f, TN_DYN_LIMIT_DETAILS_SIZE);
    if (tn_front_blob_too_large(f, r->input ? &r->input->base : NULL))
        return INVALID(arena, "Blob data size exceeds limit.");
    if (larger(r->memo ? &r->memo->base : NULL, tn_front_limit(f, TN_DYN_LIMIT_MEMO_SIZE_ERROR)))
        return INVALID(arena, "Memo size exceeds limit.");
    if (meta && larger(meta->summary ? &meta->summary->base : NULL, summary_max))
        return INVALID(arena, "Workflow start user metadata summary exceeds limit of %lld bytes",
                       (long long)summary_max);
    if (meta && larger(meta->details ? &meta->details->base : NULL, details_max))
        return INVALID(arena, "Workflow start user metadata details exceeds limit of %lld bytes",
                       (long long)details_max);
    return NULL;
}

static const tn_fault *check_workflow_id(tn_arena *arena, const char *id)
{
    if (!*id)
        return INVALID(arena, "WorkflowId is not set on request.");
    if (strlen(id) > tn_front_id_max())
        return INVALID(arena, "WorkflowId exceeds maximum allowed length (%zu/%zu)", strlen(id),
                       tn_front_id_max());
    return NULL;
}

/* What a start and a signal-with-start have in common, last. */
static const tn_fault *check_rest(tn_fcall *f, start_request *r)
{
    tn_arena *arena = f->call->arena;
    const tn_fault *fault = NULL;
    if ((fault = tn_front_check_search_attributes(f, r->search_attributes)) ||
        (fault = check_priority(arena, r->priority)) ||
        (fault = tn_front_check_callbacks(f, r->n_completion_callbacks, r->completion_callbacks)) ||
        (fault = tn_front_check_all_links(f, r)) ||
        (fault = tn_front_check_identity(arena, r->identity)))
        return fault;
    return check_sizes(f, r);
}

const tn_fault *tn_front_check_start(tn_fcall *f, start_request *r)
{
    tn_arena *arena = f->call->arena;
    const tn_fault *fault = NULL;
    if ((fault = check_workflow_id(arena, r->workflow_id)) ||
        (fault = tn_front_check_retry_policy(arena, r->retry_policy)) ||
        (fault = check_delay(arena, r)) || (fault = check_cron(arena, r->cron_schedule)))
        return fault;
    if (!r->workflow_type || !*r->workflow_type->name)
        return INVALID(arena, "WorkflowType is not set on request.");
    if (strlen(r->workflow_type->name) > tn_front_id_max())
        return INVALID(arena, "WorkflowType length exceeds limit.");
    if ((fault = tn_front_check_task_queue(arena, r->task_queue)) ||
        (fault = check_timeouts(arena, r)))
        return fault;
    if (!*r->request_id)
        r->request_id = tn_fresh_uuid(arena);
    if (strlen(r->request_id) > tn_front_id_max())
        return INVALID(arena, "RequestId length exceeds limit.");
    if ((fault = check_policies(arena, r, 1)))
        return fault;
    if (r->on_conflict_options && r->on_conflict_options->attach_completion_callbacks &&
        !r->on_conflict_options->attach_request_id)
        return INVALID(arena,
                       "attaching request ID is required for attaching completion callbacks");
    return check_rest(f, r);
}

static void start_of_signal(const sws_request *s, start_request *r)
{
    temporal__api__workflowservice__v1__start_workflow_execution_request__init(r);
    r->workflow_id = s->workflow_id;
    r->workflow_type = s->workflow_type;
    r->task_queue = s->task_queue;
    r->input = s->input;
    r->workflow_execution_timeout = s->workflow_execution_timeout;
    r->workflow_run_timeout = s->workflow_run_timeout;
    r->workflow_task_timeout = s->workflow_task_timeout;
    r->identity = s->identity;
    r->request_id = s->request_id;
    r->workflow_id_reuse_policy = s->workflow_id_reuse_policy;
    r->workflow_id_conflict_policy = s->workflow_id_conflict_policy;
    r->retry_policy = s->retry_policy;
    r->cron_schedule = s->cron_schedule;
    r->memo = s->memo;
    r->search_attributes = s->search_attributes;
    r->workflow_start_delay = s->workflow_start_delay;
    r->user_metadata = s->user_metadata;
    r->priority = s->priority;
    r->n_links = s->n_links;
    r->links = s->links;
}

static const tn_fault *check_signal_names(tn_arena *arena, const sws_request *s)
{
    size_t max = tn_front_id_max();
    if (!*s->signal_name)
        return INVALID(arena, "signal not set");
    if (strlen(s->signal_name) > max)
        return INVALID(arena, "signal name exceeds maximum allowed length (%zu/%zu)",
                       strlen(s->signal_name), max);
    if (!s->workflow_type || !*s->workflow_type->name)
        return INVALID(arena, "workflow type not set");
    if (strlen(s->workflow_type->name) > max)
        return INVALID(arena, "workflow type name exceeds maximum allowed length (%zu/%zu)",
                       strlen(s->workflow_type->name), max);
    return NULL;
}

const tn_fault *tn_front_check_signal_with_start(tn_fcall *f, sws_request *s)
{
    tn_arena *arena = f->call->arena;
    const tn_fault *fault = NULL;
    start_request r;
    if ((fault = check_cron(arena, s->cron_schedule)) ||
        (fault = check_workflow_id(arena, s->workflow_id)) ||
        (fault = check_signal_names(arena, s)) ||
        (fault = tn_front_check_task_queue(arena, s->task_queue)))
        return fault;
    if (!*s->request_id)
        s->request_id = tn_fresh_uuid(arena);
    if (strlen(s->request_id) > tn_front_id_max())
        return INVALID(arena, "Request ID exceeds maximum allowed length (%zu/%zu)",
                       strlen(s->request_id), tn_front_id_max());
    start_of_signal(s, &r);
    if ((fault = check_timeouts(arena, &r)) ||
        (fault = tn_front_check_retry_policy(arena, r.retry_policy)) ||
        (fault = check_delay(arena, &r)))
        return fault;
    if ((int)s->workflow_id_conflict_policy == 1)
        return INVALID(
            arena,
            "Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported "
            "for this operation.");
    if ((fault = check_policies(arena, &r, 2)))
        return fault;
    s->workflow_id_reuse_policy = r.workflow_id_reuse_policy;
    s->workflow_id_conflict_policy = r.workflow_id_conflict_policy;
    if ((fault = check_rest(f, &r)))
        return fault;
    if (tn_front_blob_too_large(f, s->signal_input ? &s->signal_input->base : NULL))
        return INVALID(arena, "Blob data size exceeds limit.");
    return NULL;
}
