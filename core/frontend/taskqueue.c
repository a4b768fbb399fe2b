/* SPDX-License-Identifier: MIT */
/* Calls about task queues, their settings, and the workers that poll them. */
#include "client/partition.h"
#include "frontend/priv.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)
#define STICKY TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_STICKY
#define INVALID(f, ...) tn_fault_make((f)->call->arena, TN_GRPC_INVALID_ARGUMENT, __VA_ARGS__)
#define REASON_MAX 1000
#define FAIRNESS_KEY_MAX 64

typedef Temporal__Api__Workflowservice__V1__UpdateTaskQueueConfigRequest config_request;
typedef Temporal__Api__Workflowservice__V1__UpdateTaskQueueConfigRequest__RateLimitUpdate
    rate_update;
typedef Temporal__Api__Taskqueue__V1__TaskQueue task_queue;

/* ---- what they are ---- */

void tn_do_describe_task_queue(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__DescribeTaskQueueRequest *r =
        REQUEST(f, DescribeTaskQueueRequest);
    const tn_fault *fault = tn_front_check_task_queue(f->call->arena, r->task_queue);
    uint32_t index = 0;
    if (!fault)
        (void)tn_partition_base(tn_str_from(r->task_queue->name), &index);
    bool enhanced = (int)r->api_mode == 1;
    if (fault)
        tn_front_fail(f, fault);
    else if (enhanced && r->task_queue->kind == STICKY)
        tn_front_invalid(f, "Enhanced DescribeTaskQueue is not valid for a sticky queue, use "
                            "api_mode=UNSPECIFIED or "
                            "a normal queue.");
    else if (enhanced && index)
        tn_front_invalid(
            f, "Enhanced DescribeTaskQueue is not valid for non-root queue partitions, use "
               "api_mode=UNSPECIFIED or a normal queue root name.");
    else
        tn_front_matching(f, TN_MOP_DESCRIBE, r->task_queue, TN_TASK_WORKFLOW);
}

void tn_do_list_partitions(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ListTaskQueuePartitionsRequest *r =
        REQUEST(f, ListTaskQueuePartitionsRequest);
    const tn_fault *fault = tn_front_check_task_queue(f->call->arena, r->task_queue);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_matching(f, TN_MOP_PARTITIONS, r->task_queue, TN_TASK_WORKFLOW);
}

/* ---- their settings ---- */

static const tn_fault *check_text(const tn_fcall *f, const char *name, const char *text,
                                  size_t most)
{
    return strlen(text) > most ? INVALID(f, "%s field too long (max %zu characters).", name, most)
                               : NULL;
}

static const tn_fault *check_rate(const tn_fcall *f, const rate_update *update, const char *label,
                                  const char *what, bool of_workflows)
{
    if (!update || !update->rate_limit)
        return NULL;
    if (of_workflows)
        return INVALID(f, "Setting %s on workflow task queues is not allowed.", what);
    if (!(update->rate_limit->requests_per_second >= 0))
        return INVALID(f, "RequestsPerSecond for %s rate limit must be non-negative.", label);
    return check_text(f, tn_arena_printf(f->call->arena, "%s.Reason", label), update->reason,
                      REASON_MAX);
}

static const tn_fault *check_key(const tn_fcall *f, const char *key)
{
    if (!*key)
        return INVALID(f, "fairness weight override key must not be empty");
    return strlen(key) > FAIRNESS_KEY_MAX ? INVALID(f, "fairness key length exceeds limit") : NULL;
}

static const tn_fault *check_weights(const tn_fcall *f, const config_request *r)
{
    const tn_fault *fault;
    size_t n_set = r->n_set_fairness_weight_overrides,
           n_unset = r->n_unset_fairness_weight_overrides;
    int64_t most = tn_dyn_task_i64(TN_DYN_MATCHING_WEIGHTS_MAX, f->ns->name,
                                   tn_str_from(r->task_queue), (int32_t)r->task_queue_type);
    if ((int64_t)(n_set + n_unset) > most)
        return INVALID(f, "too many fairness weight overrides in request: got %zu, maximum %lld",
                       n_set + n_unset, (long long)most);
    for (size_t i = 0; i < n_set; i++) {
        const char *key = r->set_fairness_weight_overrides[i]->key;
        if ((fault = check_key(f, key)))
            return fault;
        if (!(r->set_fairness_weight_overrides[i]->value > 0))
            return INVALID(
                f, "invalid fairness weight weight for key \"%s\": must be greater than zero", key);
    }
    for (size_t i = 0; i < n_unset; i++)
        if ((fault = check_key(f, r->unset_fairness_weight_overrides[i])))
            return fault;
    for (size_t i = 0; i < n_unset; i++)
        for (size_t j = 0; j < n_set; j++)
            if (strcmp(r->unset_fairness_weight_overrides[i],
                       r->set_fairness_weight_overrides[j]->key) == 0)
                return INVALID(
                    f, "fairness weight override key \"%s\" present in both set and unset lists",
                    r->unset_fairness_weight_overrides[i]);
    return NULL;
}

void tn_do_update_task_queue_config(tn_fcall *f)
{
    config_request *r = REQUEST(f, UpdateTaskQueueConfigRequest);
    task_queue queue = TEMPORAL__API__TASKQUEUE__V1__TASK_QUEUE__INIT;
    bool of_workflows = (uint32_t)r->task_queue_type == TN_TASK_WORKFLOW;
    const tn_fault *fault;
    queue.name = r->task_queue;
    queue.kind = TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_NORMAL;
    if ((fault = check_rate(f, r->update_queue_rate_limit, "UpdateQueueRateLimit", "rate limit",
                            of_workflows)) ||
        (fault = check_rate(f, r->update_fairness_key_rate_limit_default,
                            "UpdateFairnessKeyRateLimitDefault", "fairness key rate limit",
                            of_workflows)) ||
        (fault = check_text(f, "Identity", r->identity, tn_front_id_max())) ||
        (fault = check_weights(f, r)) ||
        (fault = tn_front_check_task_queue(f->call->arena, &queue))) {
        tn_front_fail(f, fault);
        return;
    }
    uint32_t index;
    tn_str base = tn_partition_base(tn_str_from(queue.name), &index);
    queue.name = tn_arena_printf(f->call->arena, TN_STR_FMT,
                                 TN_STR_ARG(base)); /* settings are the whole queue's */
    tn_front_matching(f, TN_MOP_UPDATE_CONFIG, &queue, TN_TASK_WORKFLOW);
}

/* ---- workers ---- */

static void to_workers(tn_fcall *f, tn_mop op)
{
    task_queue queue = TEMPORAL__API__TASKQUEUE__V1__TASK_QUEUE__INIT;
    queue.name = (char *)TN_WORKERS_QUEUE;
    tn_front_matching(f, op, &queue, TN_TASK_WORKFLOW);
}

static bool heartbeats_are_kept(const tn_fcall *f)
{
    return tn_dyn_bool(TN_DYN_FRONTEND_WORKER_HEARTBEATS, f->ns->name, TN_STR(""));
}

void tn_do_worker_heartbeat(tn_fcall *f)
{
    if (heartbeats_are_kept(f))
        to_workers(f, TN_MOP_WORKER_HEARTBEAT);
    else
        tn_front_reply(f, NULL);
}

void tn_do_list_workers(tn_fcall *f) { to_workers(f, TN_MOP_LIST_WORKERS); }
void tn_do_count_workers(tn_fcall *f) { to_workers(f, TN_MOP_COUNT_WORKERS); }
void tn_do_describe_worker(tn_fcall *f) { to_workers(f, TN_MOP_DESCRIBE_WORKER); }

/* Commands to workers are off at the reference, and have no effect there when they are on. */
static void not_enabled(tn_fcall *f, const char *name)
{
    tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_UNIMPLEMENTED,
                                   "%s command is not enabled.", name));
}

void tn_do_fetch_worker_config(tn_fcall *f) { not_enabled(f, "FetchWorkerConfig"); }
void tn_do_update_worker_config(tn_fcall *f) { not_enabled(f, "UpdateWorkerConfig"); }

/* ---- a worker's end: its polls, its heartbeat, its sticky queue, one after the other ---- */

static void leave_sticky_queue(tn_mreq *m);

static void worker_shut_down(tn_mreq *m)
{
    Temporal__Api__Workflowservice__V1__ShutdownWorkerResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__SHUTDOWN_WORKER_RESPONSE__INIT;
    tn_front_reply(m->user, &out.base);
}

static void forget_worker(tn_mreq *m)
{
    tn_fcall *f = m->user;
    Temporal__Api__Workflowservice__V1__ShutdownWorkerRequest *r =
        REQUEST(f, ShutdownWorkerRequest);
    if (!r->worker_heartbeat || !heartbeats_are_kept(f)) {
        leave_sticky_queue(m);
        return;
    }
    Temporal__Api__Workflowservice__V1__RecordWorkerHeartbeatRequest *beat =
        TN_NEW(f->call->arena, Temporal__Api__Workflowservice__V1__RecordWorkerHeartbeatRequest);
    temporal__api__workflowservice__v1__record_worker_heartbeat_request__init(beat);
    beat->namespace_ = r->namespace_;
    beat->identity = r->identity;
    beat->worker_heartbeat = &r->worker_heartbeat;
    beat->n_worker_heartbeat = 1;
    task_queue queue = TEMPORAL__API__TASKQUEUE__V1__TASK_QUEUE__INIT;
    queue.name = (char *)TN_WORKERS_QUEUE;
    tn_front_matching_step(f, TN_MOP_WORKER_HEARTBEAT, &queue, &beat->base, leave_sticky_queue);
}

static void leave_sticky_queue(tn_mreq *m)
{
    tn_fcall *f = m->user;
    Temporal__Api__Workflowservice__V1__ShutdownWorkerRequest *r =
        REQUEST(f, ShutdownWorkerRequest);
    if (!*r->sticky_task_queue) {
        worker_shut_down(m);
        return;
    }
    task_queue queue = TEMPORAL__API__TASKQUEUE__V1__TASK_QUEUE__INIT;
    queue.name = r->sticky_task_queue;
    queue.kind = STICKY;
    tn_front_matching_step(f, TN_MOP_SHUTDOWN_WORKER, &queue, f->call->request, worker_shut_down);
}

void tn_do_shutdown_worker(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ShutdownWorkerRequest *r =
        REQUEST(f, ShutdownWorkerRequest);
    if (!*r->worker_instance_key || !*r->task_queue ||
        !tn_dyn_bool(TN_DYN_FRONTEND_CANCEL_POLLS_ON_SHUTDOWN, f->ns->name, TN_STR(""))) {
        forget_worker(&(tn_mreq){.user = f});
        return;
    }
    task_queue queue = TEMPORAL__API__TASKQUEUE__V1__TASK_QUEUE__INIT;
    queue.name = r->task_queue;
    tn_front_matching_step(f, TN_MOP_CANCEL_WORKER_POLLS, &queue, f->call->request, forget_worker);
}

/* ---- versions by sets and rules, which the reference has switched off ---- */

static void refuse_sets(tn_fcall *f)
{
    tn_front_fail(
        f,
        tn_fault_make(f->call->arena, TN_GRPC_PERMISSION_DENIED,
                      "Worker versioning v0.1 (Version Set-based, deprecated) is disabled on this "
                      "namespace."));
}

static void refuse_rules(tn_fcall *f)
{
    tn_front_fail(
        f, tn_fault_make(
               f->call->arena, TN_GRPC_PERMISSION_DENIED,
               "Worker versioning v0.2 (Rules-based, deprecated) is disabled on this namespace."));
}

void tn_do_update_build_ids(tn_fcall *f) { refuse_sets(f); }
void tn_do_get_build_ids(tn_fcall *f) { refuse_sets(f); }
void tn_do_update_versioning_rules(tn_fcall *f) { refuse_rules(f); }
void tn_do_get_versioning_rules(tn_fcall *f) { refuse_rules(f); }
void tn_do_task_reachability(tn_fcall *f) { refuse_rules(f); }
