/* SPDX-License-Identifier: MIT */
/* What a request must fulfil, with the texts that clients know.  Defaults are filled in on the way. */
#include "frontend/priv.h"
#include "history/machine/machine.h"
#include "visibility/visibility.h"

#define INVALID(arena, ...) tn_fault_make((arena), TN_GRPC_INVALID_ARGUMENT, __VA_ARGS__)
#define BLOB_BYTES_MAX (2u << 20)
#define MEMO_BYTES_MAX (2u << 20)

typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request;
typedef Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest sws_request;

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

const tn_fault *tn_front_check_execution(tn_arena *arena, const Temporal__Api__Common__V1__WorkflowExecution *execution)
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
    if (strlen(name) > TN_ID_BYTES_MAX)
        return INVALID(arena, "taskQueue length exceeds limit");
    if (strncmp(name, "/_sys/", 6) == 0)
        return INVALID(arena, "task queue family name cannot have prefix /_sys/: %s", name);
    return NULL;
}

const tn_fault *tn_front_check_task_queue(tn_arena *arena, Temporal__Api__Taskqueue__V1__TaskQueue *queue)
{
    if (!queue)
        return INVALID(arena, "taskQueue is not set");
    if (!*queue->name)
        return INVALID(arena, "missing task queue name");
    if (!queue->kind)
        queue->kind = TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_NORMAL;
    const tn_fault *fault = check_queue_name(arena, queue->name);
    if (!fault && queue->kind == TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_STICKY &&
        *queue->normal_name)
        fault = check_queue_name(arena, queue->normal_name);
    return fault;
}

static bool duration_ok(const Google__Protobuf__Duration *duration, int64_t *out_ns)
{
    *out_ns = 0;
    return !duration || (tn_ns_from_duration(duration, out_ns) && *out_ns >= 0);
}

const tn_fault *tn_front_check_retry_policy(tn_arena *arena, Temporal__Api__Common__V1__RetryPolicy *policy)
{
    int64_t initial = 0, max = 0;
    if (!policy)
        return NULL;
    if (!policy->initial_interval)
        policy->initial_interval = tn_duration_from_ns(arena, (int64_t)TN_SEC);
    if (policy->backoff_coefficient == 0)
        policy->backoff_coefficient = 2.0;
    if (!duration_ok(policy->initial_interval, &initial))
        return policy->maximum_attempts == 1
                   ? NULL
                   : INVALID(arena, "invalid InitialInterval set on retry policy: negative duration");
    if (initial == 0)
        policy->initial_interval = tn_duration_from_ns(arena, initial = (int64_t)TN_SEC);
    if (!duration_ok(policy->maximum_interval, &max))
        return policy->maximum_attempts == 1
                   ? NULL
                   : INVALID(arena, "invalid MaximumInterval set on retry policy: negative duration");
    if (max == 0)
        policy->maximum_interval = tn_duration_from_ns(arena, max = initial > INT64_MAX / 100 ? INT64_MAX : initial * 100);
    if (policy->maximum_attempts == 1)
        return NULL;
    if (policy->backoff_coefficient < 1)
        return INVALID(arena, "BackoffCoefficient cannot be less than 1 on retry policy.");
    if (max < initial)
        return INVALID(arena, "MaximumInterval cannot be less than InitialInterval on retry policy.");
    if (policy->maximum_attempts < 0)
        return INVALID(arena, "MaximumAttempts cannot be negative on retry policy.");
    for (size_t i = 0; i < policy->n_non_retryable_error_types; i++) {
        static const char prefix[] = "TemporalTimeout:";
        const char *type = policy->non_retryable_error_types[i];
        if (strncmp(type, prefix, sizeof(prefix) - 1) != 0)
            continue;
        const char *kind = type + sizeof(prefix) - 1;
        if (strcmp(kind, "StartToClose") && strcmp(kind, "ScheduleToStart") && strcmp(kind, "ScheduleToClose") &&
            strcmp(kind, "Heartbeat"))
            return INVALID(arena, "Invalid timeout type value: %s.", kind);
    }
    return NULL;
}

const tn_fault *tn_front_check_blob(tn_fcall *f, const ProtobufCMessage *blob, const char *what)
{
    if (!blob || protobuf_c_message_get_packed_size(blob) <= BLOB_BYTES_MAX)
        return NULL;
    return INVALID(f->call->arena, "%s exceeds size limit.", what);
}

/* ---- start ---- */

static const tn_fault *check_timeouts(tn_arena *arena, const start_request *r)
{
    int64_t ns;
    if (!duration_ok(r->workflow_execution_timeout, &ns))
        return INVALID(arena, "An invalid WorkflowExecutionTimeoutSeconds is set on request.");
    if (!duration_ok(r->workflow_run_timeout, &ns))
        return INVALID(arena, "An invalid WorkflowRunTimeoutSeconds is set on request.");
    if (!duration_ok(r->workflow_task_timeout, &ns))
        return INVALID(arena, "An invalid WorkflowTaskTimeoutSeconds is set on request.");
    return NULL;
}

static const tn_fault *check_policies(tn_arena *arena, start_request *r, int default_conflict)
{
    int reuse = (int)r->workflow_id_reuse_policy, conflict = (int)r->workflow_id_conflict_policy;
    if (conflict != 0 && reuse == 4)
        return INVALID(arena, "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot "
                              "be used together with a WorkflowIDConflictPolicy");
    if (conflict == 3 && reuse == 3)
        return INVALID(arena, "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE cannot be "
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
        r->workflow_id_conflict_policy = (Temporal__Api__Enums__V1__WorkflowIdConflictPolicy)default_conflict;
    return NULL;
}

static const tn_fault *check_cron(tn_arena *arena, const char *spec)
{
    char why[200];
    uint64_t next;
    if (!*spec || tn_cron_next(tn_str_from(spec), tn_now_wall_ns(), tn_now_wall_ns(), &next, why, sizeof(why)))
        return NULL;
    return INVALID(arena, "invalid CronSchedule: %s", why);
}

static const tn_fault *check_sizes(tn_fcall *f, const start_request *r)
{
    tn_arena *arena = f->call->arena;
    const tn_fault *fault = tn_front_check_blob(f, r->input ? &r->input->base : NULL, "Blob data size");
    if (fault)
        return INVALID(arena, "Blob data size exceeds limit.");
    if (r->memo && protobuf_c_message_get_packed_size(&r->memo->base) > MEMO_BYTES_MAX)
        return INVALID(arena, "Memo size exceeds limit.");
    const Temporal__Api__Sdk__V1__UserMetadata *meta = r->user_metadata;
    if (meta && meta->summary && protobuf_c_message_get_packed_size(&meta->summary->base) > 400)
        return INVALID(arena, "Workflow start user metadata summary exceeds limit of 400 bytes");
    if (meta && meta->details && protobuf_c_message_get_packed_size(&meta->details->base) > 20000)
        return INVALID(arena, "Workflow start user metadata details exceeds limit of 20000 bytes");
    if (!r->search_attributes)
        return NULL;
    tn_blob packed;
    if (tn_proto_pack(&r->search_attributes->base, arena, &packed) != TN_OK)
        return tn_fault_make(arena, TN_GRPC_RESOURCE_EXHAUSTED, "search attributes take too much memory");
    fault = tn_search_attrs_validate(arena, f->ns, packed, NULL);
    if (!fault)
        tn_search_attrs_add_types(arena, f->ns, r->search_attributes);
    return fault;
}

static const tn_fault *check_common(tn_fcall *f, start_request *r, int default_conflict)
{
    tn_arena *arena = f->call->arena;
    const tn_fault *fault = NULL;
    if (!*r->workflow_id)
        return INVALID(arena, "WorkflowId is not set on request.");
    if (strlen(r->workflow_id) > TN_ID_BYTES_MAX)
        return INVALID(arena, "WorkflowId exceeds maximum allowed length (%zu/%u)", strlen(r->workflow_id),
                       TN_ID_BYTES_MAX);
    int64_t delay;
    if ((fault = tn_front_check_retry_policy(arena, r->retry_policy)))
        return fault;
    if (r->workflow_start_delay && *r->cron_schedule)
        return INVALID(arena, "CronSchedule and WorkflowStartDelay may not be used together.");
    if (!duration_ok(r->workflow_start_delay, &delay))
        return INVALID(arena, "An invalid WorkflowStartDelaySeconds is set on request.");
    if ((fault = check_cron(arena, r->cron_schedule)))
        return fault;
    if (!r->workflow_type || !*r->workflow_type->name)
        return INVALID(arena, "WorkflowType is not set on request.");
    if (strlen(r->workflow_type->name) > TN_ID_BYTES_MAX)
        return INVALID(arena, "WorkflowType length exceeds limit.");
    if ((fault = tn_front_check_task_queue(arena, r->task_queue)) || (fault = check_timeouts(arena, r)))
        return fault;
    if (!*r->request_id)
        r->request_id = tn_fresh_uuid(arena);
    if (strlen(r->request_id) > TN_ID_BYTES_MAX)
        return INVALID(arena, "RequestId length exceeds limit.");
    if (strlen(r->identity) > TN_ID_BYTES_MAX)
        return INVALID(arena, "Identity length exceeds limit.");
    if ((fault = check_policies(arena, r, default_conflict)))
        return fault;
    return check_sizes(f, r);
}

const tn_fault *tn_front_check_start(tn_fcall *f, start_request *r) { return check_common(f, r, 1); }

const tn_fault *tn_front_check_signal_with_start(tn_fcall *f, sws_request *s)
{
    tn_arena *arena = f->call->arena;
    if (!*s->signal_name)
        return INVALID(arena, "signal not set");
    if (strlen(s->signal_name) > TN_ID_BYTES_MAX)
        return INVALID(arena, "signal name exceeds maximum allowed length (%zu/%u)", strlen(s->signal_name),
                       TN_ID_BYTES_MAX);
    if (!s->workflow_type || !*s->workflow_type->name)
        return INVALID(arena, "workflow type not set");
    if ((int)s->workflow_id_conflict_policy == 1)
        return INVALID(arena, "Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported "
                              "for this operation.");
    start_request r = TEMPORAL__API__WORKFLOWSERVICE__V1__START_WORKFLOW_EXECUTION_REQUEST__INIT;
    r.workflow_id = s->workflow_id;
    r.workflow_type = s->workflow_type;
    r.task_queue = s->task_queue;
    r.input = s->input;
    r.workflow_execution_timeout = s->workflow_execution_timeout;
    r.workflow_run_timeout = s->workflow_run_timeout;
    r.workflow_task_timeout = s->workflow_task_timeout;
    r.identity = s->identity;
    r.request_id = s->request_id;
    r.workflow_id_reuse_policy = s->workflow_id_reuse_policy;
    r.workflow_id_conflict_policy = s->workflow_id_conflict_policy;
    r.retry_policy = s->retry_policy;
    r.cron_schedule = s->cron_schedule;
    r.memo = s->memo;
    r.search_attributes = s->search_attributes;
    r.workflow_start_delay = s->workflow_start_delay;
    r.user_metadata = s->user_metadata;
    const tn_fault *fault = check_common(f, &r, 2);
    s->request_id = r.request_id;
    s->workflow_id_reuse_policy = r.workflow_id_reuse_policy;
    s->workflow_id_conflict_policy = r.workflow_id_conflict_policy;
    if (!fault && s->signal_input)
        fault = tn_front_check_blob(f, &s->signal_input->base, "Blob data size");
    return fault;
}
