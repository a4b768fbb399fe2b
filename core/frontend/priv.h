/* SPDX-License-Identifier: MIT */
/* Private to the frontend: one row a method, one tn_fcall a call. */
#ifndef TN_FRONTEND_PRIV_H
#define TN_FRONTEND_PRIV_H

#include <stdatomic.h>

#include "client/client.h"
#include "client/token.h"
#include "config/dynconfig.h"
#include "frontend/frontend.h"
#include "proto/proto.h"
#include "temporal/api/operatorservice/v1/request_response.pb-c.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

typedef struct tn_fcall {
    tn_call *call;
    const tn_namespace *ns; /* +1; NULL where the method has none */
    union { /* a call asks one of them; thousands of polls are parked with this in their arenas */
        tn_hreq hreq;
        tn_mreq mreq;
    };
    tn_task_token token;
    atomic_int *waiting;             /* the count that this call is in; NULL: none */
    const struct tn_fseries *series; /* metrics of its namespace */
    void *user;
} tn_fcall;

typedef struct tn_fmethod {
    const char *path;
    void (*handle)(tn_fcall *f);
    uint32_t flags;
    uint32_t priority; /* of the rate limiter: 0 first */
    uint32_t waits;    /* TN_WAIT_*: may wait long for a worker or an event, and is counted */
} tn_fmethod;
enum {
    TN_WAIT_NONE,
    TN_WAIT_POLL_WORKFLOW,
    TN_WAIT_POLL_ACTIVITY,
    TN_WAIT_HISTORY,
    TN_WAIT_QUERY,
    TN_WAIT_UPDATE,
    TN_WAIT_POLL_NEXUS,
    TN_WAITS
};
#define TN_FM_NAMESPACE 1u  /* `namespace` must name a namespace that exists */
#define TN_FM_START 2u      /* ... and is not deprecated */
#define TN_FM_VISIBILITY 8u /* the visibility limiter */
#define TN_FM_NS_CHANGE 16u /* namespace changes: their own limiter */
#define TN_FM_TOKEN 32u     /* an empty `namespace` is that of the task token */
#define TN_FM_HTTP 64u      /* only raw routes of HTTP enter it */

extern const tn_fmethod tn_fmethods[];
extern const size_t tn_fmethods_count;
extern tn_frontend_options tn_frontend;

/* Answers and lets go of the namespace. */
void tn_front_fail(tn_fcall *f, const tn_fault *fault);
void tn_front_invalid(tn_fcall *f, const char *fmt, ...) TN_PRINTF(2, 3);
void tn_front_reply(tn_fcall *f, const ProtobufCMessage *response); /* NULL: empty */
/* To history; its answer is the call's. */
void tn_front_history(tn_fcall *f, tn_hop op, const char *workflow_id, const char *run_id,
                      const ProtobufCMessage *request);

/* poll.c: to matching; its answer is the call's, or `done` goes on (and sees to the answer). */
void tn_front_matching(tn_fcall *f, tn_mop op, const Temporal__Api__Taskqueue__V1__TaskQueue *queue,
                       uint32_t type);
void tn_front_matching_step(tn_fcall *f, tn_mop op,
                            const Temporal__Api__Taskqueue__V1__TaskQueue *queue,
                            const ProtobufCMessage *request, void (*done)(tn_mreq *m));

/* limits.c: what must hold before a method runs.  NULL: go on. */
const tn_fault *tn_front_admit(tn_fcall *f, const tn_fmethod *method);
void tn_front_release(tn_fcall *f); /* concurrency counts */
void tn_front_exhausted_headers(tn_call *call, const tn_fault *fault);

/* counts.c */
void tn_front_counts_start(void); /* [main] */
void tn_front_count_begin(tn_fcall *f, const tn_fmethod *method);
void tn_front_count_end(tn_fcall *f);
void tn_front_count_error(const tn_fcall *f, const tn_fault *fault);

/* versions.c */
#define TN_SERVER_VERSION "1.32.0" /* the reference whose behaviour clients may expect */
typedef struct tn_supported_client {
    const char *name, *range;
} tn_supported_client;
extern const tn_supported_client tn_supported_clients[];
extern const size_t tn_supported_clients_count;
typedef struct tn_version {
    uint64_t part[3];
    tn_str pre;
} tn_version;
bool tn_version_parse(tn_str s, tn_version *out);
int tn_version_compare(const tn_version *a, const tn_version *b);
bool tn_version_in_range(const tn_version *v, tn_str range,
                         bool *out_inside); /* false: not a range */
/* NULL, or why this client and this server do not fit. */
const tn_fault *tn_versions_check(tn_arena *arena, tn_str client_name, tn_str client_version,
                                  tn_str server_range);

/* validate.c: NULL or an INVALID_ARGUMENT fault with the reference's text. */
const tn_fault *tn_front_check_execution(
    tn_arena *arena, const Temporal__Api__Common__V1__WorkflowExecution *execution);
const tn_fault *tn_front_check_task_queue(tn_arena *arena,
                                          Temporal__Api__Taskqueue__V1__TaskQueue *queue);
const tn_fault *tn_front_check_retry_policy(tn_arena *arena,
                                            Temporal__Api__Common__V1__RetryPolicy *policy);
const tn_fault *tn_front_check_start(
    tn_fcall *f, Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r);
const tn_fault *tn_front_check_signal_with_start(
    tn_fcall *f, Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest *r);
/* versioning.c: is it one, and does its version serve the queue?  Then that version is taken as in use again. */
const tn_fault *tn_front_use_override(
    tn_fcall *f, const Temporal__Api__Workflow__V1__VersioningOverride *override,
    const char *queue);
const tn_fault *tn_front_check_override(
    tn_arena *arena, const Temporal__Api__Workflow__V1__VersioningOverride *override);
/* NULL, or why such a worker may not poll. */
const tn_fault *tn_front_check_worker(
    const tn_fcall *f, const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options);
/* Goes on when the worker's version is known to serve the queue, or fails the call. */
void tn_front_poll_version(tn_fcall *f,
                           const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options,
                           const Temporal__Api__Taskqueue__V1__TaskQueue *queue, uint32_t type,
                           void (*go)(tn_fcall *f));
/* limits.c: reading of worker deployments has a rate of its own. */
const tn_fault *tn_front_deployment_read_rate(tn_fcall *f);
/* Against limit.blobSize.error of the call's namespace. */
bool tn_front_blob_too_large(const tn_fcall *f, const ProtobufCMessage *blob);
/* A worker's version: what a poll or an answer says of build id and deployment. */
const tn_fault *tn_front_check_version(
    const tn_fcall *f, const char *build_id, bool use_versioning,
    const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options,
    const Temporal__Api__Taskqueue__V1__TaskQueue *queue);
const tn_fault *tn_front_check_identity(tn_arena *arena, const char *identity);
const tn_fault *tn_front_check_links(const tn_fcall *f, size_t n,
                                     Temporal__Api__Common__V1__Link *const *links);
/* Dynamic numbers: limit.maxIDLength; any key, for the call's namespace. */
size_t tn_front_id_max(void);
int64_t tn_front_limit(const tn_fcall *f, tn_dyn_key key);
enum { TN_TOKEN_WORKFLOW = 1, TN_TOKEN_ACTIVITY = 2, TN_TOKEN_QUERY = 3, TN_TOKEN_NEXUS = 4 };
/* respond.c: the token of a request, NULL when it is not ours. */
Tenon__TaskToken *tn_front_token(const tn_fcall *f, ProtobufCBinaryData bytes);
char *tn_fresh_uuid(tn_arena *arena);
/* namespaces.c: writes the record of f's namespace (expect_version 0: a new one) through the registry. */
void tn_front_write_namespace(tn_fcall *f, Tenon__NamespaceRecord *record, uint64_t expect_version,
                              void (*done)(tn_namespace_write *write));
Temporal__Api__Workflowservice__V1__DescribeNamespaceResponse *tn_front_describe_namespace(
    const tn_namespace *ns, tn_arena *arena);

/* handlers, by file */
void tn_do_start(tn_fcall *f);
void tn_do_signal_with_start(tn_fcall *f);
void tn_do_signal(tn_fcall *f);
void tn_do_request_cancel(tn_fcall *f);
void tn_do_terminate(tn_fcall *f);
void tn_do_delete(tn_fcall *f);
void tn_do_reset(tn_fcall *f);
void tn_do_start_batch(tn_fcall *f);
/* batch.c: of a StartBatchOperationRequest that has been checked */
void tn_front_start_job(tn_fcall *f);
void tn_do_stop_batch(tn_fcall *f);
void tn_do_describe_batch(tn_fcall *f);
void tn_do_list_batches(tn_fcall *f);
void tn_do_describe(tn_fcall *f);
void tn_do_get_history(tn_fcall *f);
void tn_do_get_history_reverse(tn_fcall *f);
void tn_do_query(tn_fcall *f);
void tn_do_update(tn_fcall *f);
void tn_do_poll_update(tn_fcall *f);
void tn_do_multi_operation(tn_fcall *f);
void tn_do_reset_sticky(tn_fcall *f);
void tn_do_create_schedule(tn_fcall *f); /* schedules.c */
void tn_do_describe_schedule(tn_fcall *f);
void tn_do_update_schedule(tn_fcall *f);
void tn_do_patch_schedule(tn_fcall *f);
void tn_do_schedule_times(tn_fcall *f);
void tn_do_delete_schedule(tn_fcall *f);
void tn_do_list_schedules(tn_fcall *f);
void tn_do_count_schedules(tn_fcall *f);
void tn_do_poll_workflow(tn_fcall *f);
void tn_do_poll_activity(tn_fcall *f);
void tn_do_wft_completed(tn_fcall *f);
void tn_do_wft_failed(tn_fcall *f);
void tn_do_query_completed(tn_fcall *f);
void tn_do_activity_completed(tn_fcall *f);
void tn_do_activity_failed(tn_fcall *f);
void tn_do_activity_canceled(tn_fcall *f);
void tn_do_activity_heartbeat(tn_fcall *f);
void tn_do_activity_completed_by_id(tn_fcall *f);
void tn_do_activity_failed_by_id(tn_fcall *f);
void tn_do_activity_canceled_by_id(tn_fcall *f);
void tn_do_activity_heartbeat_by_id(tn_fcall *f);
void tn_do_describe_task_queue(tn_fcall *f);
void tn_do_list_partitions(tn_fcall *f);
void tn_do_shutdown_worker(tn_fcall *f);
void tn_do_worker_heartbeat(tn_fcall *f);
void tn_do_update_task_queue_config(tn_fcall *f);
void tn_do_list_workers(tn_fcall *f);
void tn_do_count_workers(tn_fcall *f);
void tn_do_describe_worker(tn_fcall *f);
void tn_do_fetch_worker_config(tn_fcall *f);
void tn_do_update_worker_config(tn_fcall *f);
void tn_do_update_build_ids(tn_fcall *f);
void tn_do_get_build_ids(tn_fcall *f);
void tn_do_update_versioning_rules(tn_fcall *f);
void tn_do_get_versioning_rules(tn_fcall *f);
void tn_do_task_reachability(tn_fcall *f);
void tn_do_system_info(tn_fcall *f);
void tn_do_cluster_info(tn_fcall *f);
void tn_do_register_namespace(tn_fcall *f);
void tn_do_describe_namespace(tn_fcall *f);
void tn_do_list_namespaces(tn_fcall *f);
void tn_do_update_namespace(tn_fcall *f);
void tn_do_deprecate_namespace(tn_fcall *f);
void tn_do_delete_namespace(tn_fcall *f);
void tn_do_describe_deployment(tn_fcall *f);
void tn_do_describe_deployment_version(tn_fcall *f);
void tn_do_list_deployments(tn_fcall *f);
void tn_do_set_current(tn_fcall *f);
void tn_do_set_ramping(tn_fcall *f);
void tn_do_set_deployment_manager(tn_fcall *f);
void tn_do_create_deployment(tn_fcall *f);
void tn_do_create_deployment_version(tn_fcall *f);
void tn_do_delete_deployment(tn_fcall *f);
void tn_do_delete_deployment_version(tn_fcall *f);
void tn_do_set_deployment_metadata(tn_fcall *f);
void tn_do_set_deployment_compute(tn_fcall *f);
void tn_do_old_deployments(tn_fcall *f);
void tn_do_list(tn_fcall *f);
void tn_do_scan(tn_fcall *f);
void tn_do_list_open(tn_fcall *f);
void tn_do_list_closed(tn_fcall *f);
void tn_do_count(tn_fcall *f);
void tn_do_get_search_attributes(tn_fcall *f);
void tn_do_add_search_attributes(tn_fcall *f);
void tn_do_remove_search_attributes(tn_fcall *f);
void tn_do_list_search_attributes(tn_fcall *f);
void tn_do_admin_close_shard(tn_fcall *f);
void tn_do_admin_deep_health(tn_fcall *f);
void tn_do_admin_describe_cluster(tn_fcall *f);
void tn_do_admin_describe_host(tn_fcall *f);
void tn_do_admin_get_shard(tn_fcall *f);
void tn_do_admin_list_members(tn_fcall *f);
void tn_do_admin_list_tasks(tn_fcall *f);
void tn_do_admin_mutable_state(tn_fcall *f);
void tn_do_admin_refresh_tasks(tn_fcall *f);
void tn_do_admin_set_shards(tn_fcall *f);
/* Adds their types. */
const tn_fault *tn_front_check_search_attributes(
    tn_fcall *f, Temporal__Api__Common__V1__SearchAttributes *attributes);
/* activities.c */
void tn_do_start_activity(tn_fcall *f);
void tn_do_describe_activity(tn_fcall *f);
void tn_do_poll_activity_execution(tn_fcall *f);
void tn_do_list_activities(tn_fcall *f);
void tn_do_count_activities(tn_fcall *f);
void tn_do_cancel_activity(tn_fcall *f);
void tn_do_terminate_activity(tn_fcall *f);
void tn_do_delete_activity(tn_fcall *f);
void tn_do_pause_activity_execution(tn_fcall *f);
void tn_do_unpause_activity_execution(tn_fcall *f);
void tn_do_reset_activity_execution(tn_fcall *f);
void tn_do_update_activity_execution_options(tn_fcall *f);
/* operate.c */
/* NULL: none, or fine */
const char *tn_front_wrong_priority(const Temporal__Api__Common__V1__Priority *priority);
void tn_do_pause_activity(tn_fcall *f);
void tn_do_unpause_activity(tn_fcall *f);
void tn_do_reset_activity(tn_fcall *f);
void tn_do_update_activity_options(tn_fcall *f);
void tn_do_pause_workflow(tn_fcall *f);
void tn_do_unpause_workflow(tn_fcall *f);
void tn_do_update_workflow_options(tn_fcall *f);
void tn_do_create_endpoint(tn_fcall *f);
void tn_do_update_endpoint(tn_fcall *f);
void tn_do_delete_endpoint(tn_fcall *f);
void tn_do_get_endpoint(tn_fcall *f);
void tn_do_list_endpoints(tn_fcall *f);
void tn_do_poll_nexus(tn_fcall *f);
void tn_do_nexus_completed(tn_fcall *f);
void tn_do_nexus_failed(tn_fcall *f);
void tn_do_nexus_complete(tn_fcall *f);
void tn_do_nexus_dispatch(tn_fcall *f);
/* callbacks.c: completion callbacks of a start; keys of their headers are in lower case afterwards. */
const tn_fault *tn_front_check_callbacks(tn_fcall *f, size_t n,
                                         Temporal__Api__Common__V1__Callback *const *callbacks);
/* The links that no callback carries already, and whether all of them together are fit. */
const tn_fault *tn_front_check_all_links(
    tn_fcall *f, Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r);

/* ---- clusters.c ---- */
void tn_do_list_clusters(tn_fcall *f);
void tn_do_remove_cluster(tn_fcall *f);
void tn_do_upsert_cluster(tn_fcall *f);
/* What a call is told that this release does not serve. */
const char *tn_front_closed_text(tn_arena *arena, const char *method);

#endif
