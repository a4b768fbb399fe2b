/* SPDX-License-Identifier: MIT */
/* The method table, and the way of every call: admitted, its namespace found, handed to its handler. */
#include "frontend/frontend.h"

#include <stdarg.h>

#include "frontend/admin.h"
#include "frontend/priv.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

#define WF(name) "/temporal.api.workflowservice.v1.WorkflowService/" name
#define OP(name) "/temporal.api.operatorservice.v1.OperatorService/" name
#define ADMIN(name) "/temporal.server.api.adminservice.v1.AdminService/" name

tn_frontend_options tn_frontend;

/* Priorities and limiters as in behaviour.md 1.1. */
/* clang-format off */
const tn_fmethod tn_fmethods[] = {
    {WF("GetSystemInfo"), tn_do_system_info, 0, 0, TN_WAIT_NONE},
    {WF("GetClusterInfo"), tn_do_cluster_info, 0, 0, TN_WAIT_NONE},
    {WF("RegisterNamespace"), tn_do_register_namespace, TN_FM_NS_CHANGE, 1, TN_WAIT_NONE},
    {WF("DescribeNamespace"), tn_do_describe_namespace, 0, 0, TN_WAIT_NONE},
    {WF("ListNamespaces"), tn_do_list_namespaces, 0, 0, TN_WAIT_NONE},
    {WF("UpdateNamespace"), tn_do_update_namespace, TN_FM_NS_CHANGE, 1, TN_WAIT_NONE},
    {WF("DeprecateNamespace"), tn_do_deprecate_namespace, 0, 0, TN_WAIT_NONE},
    {WF("StartWorkflowExecution"), tn_do_start, TN_FM_NAMESPACE | TN_FM_START, 1, TN_WAIT_NONE},
    {WF("SignalWithStartWorkflowExecution"), tn_do_signal_with_start, TN_FM_NAMESPACE | TN_FM_START, 1, TN_WAIT_NONE},
    {WF("SignalWorkflowExecution"), tn_do_signal, TN_FM_NAMESPACE, 1, TN_WAIT_NONE},
    {WF("RequestCancelWorkflowExecution"), tn_do_request_cancel, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("TerminateWorkflowExecution"), tn_do_terminate, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("DeleteWorkflowExecution"), tn_do_delete, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("ResetWorkflowExecution"), tn_do_reset, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("StartBatchOperation"), tn_do_start_batch, TN_FM_NAMESPACE, 1, TN_WAIT_NONE},
    {WF("StopBatchOperation"), tn_do_stop_batch, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("DescribeBatchOperation"), tn_do_describe_batch, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("ListBatchOperations"), tn_do_list_batches, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {WF("DescribeWorkflowExecution"), tn_do_describe, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("GetWorkflowExecutionHistory"), tn_do_get_history, TN_FM_NAMESPACE, 2, TN_WAIT_HISTORY},
    {WF("GetWorkflowExecutionHistoryReverse"), tn_do_get_history_reverse, TN_FM_NAMESPACE, 4, TN_WAIT_NONE},
    {WF("QueryWorkflow"), tn_do_query, TN_FM_NAMESPACE, 3, TN_WAIT_QUERY},
    {WF("UpdateWorkflowExecution"), tn_do_update, TN_FM_NAMESPACE, 1, TN_WAIT_UPDATE},
    {WF("PollWorkflowExecutionUpdate"), tn_do_poll_update, TN_FM_NAMESPACE, 4, TN_WAIT_UPDATE},
    {WF("ExecuteMultiOperation"), tn_do_multi_operation, TN_FM_NAMESPACE | TN_FM_START, 1, TN_WAIT_UPDATE},
    {WF("ResetStickyTaskQueue"), tn_do_reset_sticky, TN_FM_NAMESPACE, 4, TN_WAIT_NONE},
    {WF("PollWorkflowTaskQueue"), tn_do_poll_workflow, TN_FM_NAMESPACE, 4, TN_WAIT_POLL_WORKFLOW},
    {WF("PollActivityTaskQueue"), tn_do_poll_activity, TN_FM_NAMESPACE, 4, TN_WAIT_POLL_ACTIVITY},
    {WF("RespondWorkflowTaskCompleted"), tn_do_wft_completed, TN_FM_NAMESPACE | TN_FM_TOKEN, 1, TN_WAIT_NONE},
    {WF("RespondWorkflowTaskFailed"), tn_do_wft_failed, TN_FM_NAMESPACE | TN_FM_TOKEN, 3, TN_WAIT_NONE},
    {WF("RespondQueryTaskCompleted"), tn_do_query_completed, TN_FM_NAMESPACE | TN_FM_TOKEN, 1, TN_WAIT_NONE},
    {WF("RespondActivityTaskCompleted"), tn_do_activity_completed, TN_FM_NAMESPACE | TN_FM_TOKEN, 1, TN_WAIT_NONE},
    {WF("RespondActivityTaskFailed"), tn_do_activity_failed, TN_FM_NAMESPACE | TN_FM_TOKEN, 3, TN_WAIT_NONE},
    {WF("RespondActivityTaskCanceled"), tn_do_activity_canceled, TN_FM_NAMESPACE | TN_FM_TOKEN, 3, TN_WAIT_NONE},
    {WF("RecordActivityTaskHeartbeat"), tn_do_activity_heartbeat, TN_FM_NAMESPACE | TN_FM_TOKEN, 1, TN_WAIT_NONE},
    {WF("RespondActivityTaskCompletedById"), tn_do_activity_completed_by_id, TN_FM_NAMESPACE, 1, TN_WAIT_NONE},
    {WF("RespondActivityTaskFailedById"), tn_do_activity_failed_by_id, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("RespondActivityTaskCanceledById"), tn_do_activity_canceled_by_id, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("RecordActivityTaskHeartbeatById"), tn_do_activity_heartbeat_by_id, TN_FM_NAMESPACE, 1, TN_WAIT_NONE},
    {WF("DescribeTaskQueue"), tn_do_describe_task_queue, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("ListTaskQueuePartitions"), tn_do_list_partitions, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("ShutdownWorker"), tn_do_shutdown_worker, TN_FM_NAMESPACE, 4, TN_WAIT_NONE},
    {WF("RecordWorkerHeartbeat"), tn_do_worker_heartbeat, TN_FM_NAMESPACE, 4, TN_WAIT_NONE},
    {WF("UpdateTaskQueueConfig"), tn_do_update_task_queue_config, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("ListWorkers"), tn_do_list_workers, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("CountWorkers"), tn_do_count_workers, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("DescribeWorker"), tn_do_describe_worker, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("FetchWorkerConfig"), tn_do_fetch_worker_config, TN_FM_NAMESPACE, 4, TN_WAIT_NONE},
    {WF("UpdateWorkerConfig"), tn_do_update_worker_config, TN_FM_NAMESPACE, 4, TN_WAIT_NONE},
    {WF("UpdateWorkerBuildIdCompatibility"), tn_do_update_build_ids, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("GetWorkerBuildIdCompatibility"), tn_do_get_build_ids, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("UpdateWorkerVersioningRules"), tn_do_update_versioning_rules, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("GetWorkerVersioningRules"), tn_do_get_versioning_rules, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("GetWorkerTaskReachability"), tn_do_task_reachability, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("DescribeWorkerDeployment"), tn_do_describe_deployment, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("DescribeWorkerDeploymentVersion"), tn_do_describe_deployment_version, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("ListWorkerDeployments"), tn_do_list_deployments, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {WF("SetWorkerDeploymentCurrentVersion"), tn_do_set_current, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("SetWorkerDeploymentRampingVersion"), tn_do_set_ramping, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("SetWorkerDeploymentManager"), tn_do_set_deployment_manager, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("CreateWorkerDeployment"), tn_do_create_deployment, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("CreateWorkerDeploymentVersion"), tn_do_create_deployment_version, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("DeleteWorkerDeployment"), tn_do_delete_deployment, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("DeleteWorkerDeploymentVersion"), tn_do_delete_deployment_version, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("UpdateWorkerDeploymentVersionMetadata"), tn_do_set_deployment_metadata, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("UpdateWorkerDeploymentVersionComputeConfig"), tn_do_set_deployment_compute, TN_FM_NAMESPACE, 3,
     TN_WAIT_NONE},
    {WF("DescribeDeployment"), tn_do_old_deployments, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("GetCurrentDeployment"), tn_do_old_deployments, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("GetDeploymentReachability"), tn_do_old_deployments, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("ListDeployments"), tn_do_old_deployments, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("SetCurrentDeployment"), tn_do_old_deployments, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("ListWorkflowExecutions"), tn_do_list, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {WF("ScanWorkflowExecutions"), tn_do_scan, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {WF("ListOpenWorkflowExecutions"), tn_do_list_open, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {WF("ListClosedWorkflowExecutions"), tn_do_list_closed, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {WF("CountWorkflowExecutions"), tn_do_count, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {WF("GetSearchAttributes"), tn_do_get_search_attributes, 0, 0, TN_WAIT_NONE},
    {WF("StartActivityExecution"), tn_do_start_activity, TN_FM_NAMESPACE | TN_FM_START, 1, TN_WAIT_NONE},
    {WF("DescribeActivityExecution"), tn_do_describe_activity, TN_FM_NAMESPACE, 3, TN_WAIT_HISTORY},
    {WF("PollActivityExecution"), tn_do_poll_activity_execution, TN_FM_NAMESPACE, 4, TN_WAIT_HISTORY},
    {WF("ListActivityExecutions"), tn_do_list_activities, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {WF("CountActivityExecutions"), tn_do_count_activities, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {WF("RequestCancelActivityExecution"), tn_do_cancel_activity, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("TerminateActivityExecution"), tn_do_terminate_activity, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("DeleteActivityExecution"), tn_do_delete_activity, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("PauseActivityExecution"), tn_do_pause_activity_execution, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("UnpauseActivityExecution"), tn_do_unpause_activity_execution, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("ResetActivityExecution"), tn_do_reset_activity_execution, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("UpdateActivityExecutionOptions"), tn_do_update_activity_execution_options, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("PauseActivity"), tn_do_pause_activity, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("UnpauseActivity"), tn_do_unpause_activity, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("ResetActivity"), tn_do_reset_activity, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("UpdateActivityOptions"), tn_do_update_activity_options, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("PauseWorkflowExecution"), tn_do_pause_workflow, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("UnpauseWorkflowExecution"), tn_do_unpause_workflow, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("UpdateWorkflowExecutionOptions"), tn_do_update_workflow_options, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("CreateSchedule"), tn_do_create_schedule, TN_FM_NAMESPACE | TN_FM_START, 1, TN_WAIT_NONE},
    {WF("DescribeSchedule"), tn_do_describe_schedule, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("UpdateSchedule"), tn_do_update_schedule, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("PatchSchedule"), tn_do_patch_schedule, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("ListScheduleMatchingTimes"), tn_do_schedule_times, TN_FM_NAMESPACE, 3, TN_WAIT_NONE},
    {WF("DeleteSchedule"), tn_do_delete_schedule, TN_FM_NAMESPACE, 2, TN_WAIT_NONE},
    {WF("ListSchedules"), tn_do_list_schedules, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {WF("CountSchedules"), tn_do_count_schedules, TN_FM_NAMESPACE | TN_FM_VISIBILITY, 1, TN_WAIT_NONE},
    {OP("DeleteNamespace"), tn_do_delete_namespace, 0, 0, TN_WAIT_NONE},
    {OP("AddSearchAttributes"), tn_do_add_search_attributes, 0, 0, TN_WAIT_NONE},
    {OP("RemoveSearchAttributes"), tn_do_remove_search_attributes, 0, 0, TN_WAIT_NONE},
    {OP("ListSearchAttributes"), tn_do_list_search_attributes, 0, 0, TN_WAIT_NONE},
    {OP("CreateNexusEndpoint"), tn_do_create_endpoint, 0, 0, TN_WAIT_NONE},
    {OP("UpdateNexusEndpoint"), tn_do_update_endpoint, 0, 0, TN_WAIT_NONE},
    {OP("DeleteNexusEndpoint"), tn_do_delete_endpoint, 0, 0, TN_WAIT_NONE},
    {OP("GetNexusEndpoint"), tn_do_get_endpoint, 0, 0, TN_WAIT_NONE},
    {OP("ListNexusEndpoints"), tn_do_list_endpoints, 0, 0, TN_WAIT_NONE},
    {OP("ListClusters"), tn_do_list_clusters, 0, 0, TN_WAIT_NONE},
    {OP("RemoveRemoteCluster"), tn_do_remove_cluster, 0, 0, TN_WAIT_NONE},
    {OP("AddOrUpdateRemoteCluster"), tn_do_upsert_cluster, 0, 0, TN_WAIT_NONE},
    {WF("PollNexusTaskQueue"), tn_do_poll_nexus, TN_FM_NAMESPACE, 4, TN_WAIT_POLL_NEXUS},
    {WF("RespondNexusTaskCompleted"), tn_do_nexus_completed, TN_FM_NAMESPACE | TN_FM_TOKEN, 1, TN_WAIT_NONE},
    {WF("RespondNexusTaskFailed"), tn_do_nexus_failed, TN_FM_NAMESPACE | TN_FM_TOKEN, 3, TN_WAIT_NONE},
    {"/temporal.api.nexusservice.v1.NexusService/CompleteNexusOperation", tn_do_nexus_complete,
     TN_FM_NAMESPACE | TN_FM_HTTP, 1, TN_WAIT_NONE},
    {"/temporal.api.nexusservice.v1.NexusService/DispatchByEndpoint", tn_do_nexus_dispatch,
     TN_FM_NAMESPACE | TN_FM_HTTP, 1, TN_WAIT_QUERY},
    {"/temporal.api.nexusservice.v1.NexusService/DispatchByNamespaceAndTaskQueue", tn_do_nexus_dispatch,
     TN_FM_NAMESPACE | TN_FM_HTTP, 1, TN_WAIT_QUERY},
    {ADMIN("CloseShard"), tn_do_admin_close_shard, 0, 0, TN_WAIT_NONE},
    {ADMIN("DeepHealthCheck"), tn_do_admin_deep_health, 0, 0, TN_WAIT_NONE},
    {ADMIN("DescribeCluster"), tn_do_admin_describe_cluster, 0, 0, TN_WAIT_NONE},
    {ADMIN("DescribeHistoryHost"), tn_do_admin_describe_host, 0, 0, TN_WAIT_NONE},
    {ADMIN("DescribeMutableState"), tn_do_admin_mutable_state, TN_FM_NAMESPACE, 0, TN_WAIT_NONE},
    {ADMIN("GetShard"), tn_do_admin_get_shard, 0, 0, TN_WAIT_NONE},
    {ADMIN("ListClusterMembers"), tn_do_admin_list_members, 0, 0, TN_WAIT_NONE},
    {ADMIN("ListHistoryTasks"), tn_do_admin_list_tasks, 0, 0, TN_WAIT_NONE},
    {"/tenon.admin.v1.ShardService/SetShards", tn_do_admin_set_shards, 0, 0, TN_WAIT_NONE},
    {ADMIN("RefreshWorkflowTasks"), tn_do_admin_refresh_tasks, 0, 0, TN_WAIT_NONE},
    {ADMIN("AddSearchAttributes"), tn_do_admin_add_attributes, TN_FM_NS_CHANGE, 0, TN_WAIT_NONE},
    {ADMIN("DeleteWorkflowExecution"), tn_do_admin_delete, TN_FM_NAMESPACE, 0, TN_WAIT_NONE},
    {ADMIN("DescribeTaskQueuePartition"), tn_do_admin_describe_partition, TN_FM_NAMESPACE, 0, TN_WAIT_NONE},
    {ADMIN("ForceUnloadTaskQueuePartition"), tn_do_admin_unload_partition, TN_FM_NAMESPACE, 0, TN_WAIT_NONE},
    {ADMIN("GetNamespace"), tn_do_admin_get_namespace, 0, 0, TN_WAIT_NONE},
    {ADMIN("GetSearchAttributes"), tn_do_admin_get_attributes, 0, 0, TN_WAIT_NONE},
    {ADMIN("GetTaskQueueTasks"), tn_do_admin_queue_tasks, TN_FM_NAMESPACE, 0, TN_WAIT_NONE},
    {ADMIN("GetTaskQueueUserData"), tn_do_admin_queue_data, TN_FM_NAMESPACE, 0, TN_WAIT_NONE},
    {ADMIN("GetWorkflowExecutionRawHistory"), tn_do_admin_raw_history, 0, 0, TN_WAIT_NONE},
    {ADMIN("GetWorkflowExecutionRawHistoryV2"), tn_do_admin_raw_history_v2, 0, 0, TN_WAIT_NONE},
    {ADMIN("ListClusters"), tn_do_admin_list_clusters, 0, 0, TN_WAIT_NONE},
    {ADMIN("RebuildMutableState"), tn_do_admin_rebuild, TN_FM_NAMESPACE, 0, TN_WAIT_NONE},
    {ADMIN("StartAdminBatchOperation"), tn_do_admin_start_batch, TN_FM_NAMESPACE, 0, TN_WAIT_NONE},
    {ADMIN("RemoveSearchAttributes"), tn_do_admin_remove_attributes, TN_FM_NS_CHANGE, 0, TN_WAIT_NONE},
    {ADMIN("CancelDLQJob"), tn_do_admin_dlq_job, 0, 0, TN_WAIT_NONE},
    {ADMIN("DescribeDLQJob"), tn_do_admin_dlq_job, 0, 0, TN_WAIT_NONE},
    {ADMIN("GetDLQMessages"), tn_do_admin_dlq_messages, 0, 0, TN_WAIT_NONE},
    {ADMIN("GetDLQTasks"), tn_do_admin_dlq_tasks, 0, 0, TN_WAIT_NONE},
    {ADMIN("ListQueues"), tn_do_admin_dlq_queues, 0, 0, TN_WAIT_NONE},
    {ADMIN("MergeDLQMessages"), tn_do_admin_dlq_messages, 0, 0, TN_WAIT_NONE},
    {ADMIN("MergeDLQTasks"), tn_do_admin_dlq_tasks, 0, 0, TN_WAIT_NONE},
    {ADMIN("PurgeDLQMessages"), tn_do_admin_dlq_messages, 0, 0, TN_WAIT_NONE},
    {ADMIN("PurgeDLQTasks"), tn_do_admin_dlq_tasks, 0, 0, TN_WAIT_NONE},
    {ADMIN("AddOrUpdateRemoteCluster"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("AddTasks"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("GenerateLastHistoryReplicationTasks"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("GetDLQReplicationMessages"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("GetNamespaceReplicationMessages"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("GetReplicationMessages"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("ImportWorkflowExecution"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("MigrateSchedule"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("ReapplyEvents"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("RemoveRemoteCluster"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("RemoveTask"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("ResendReplicationTasks"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
    {ADMIN("SyncWorkflowState"), tn_do_admin_refused, 0, 0, TN_WAIT_NONE},
};
/* clang-format on */
const size_t tn_fmethods_count = TN_COUNT_OF(tn_fmethods);

/* ---- answers ---- */

static void let_go(tn_fcall *f)
{
    tn_front_count_end(f);
    tn_front_release(f);
    tn_namespace_unref(f->ns);
    f->ns = NULL;
    f->call->on_cancel = NULL;
}

void tn_front_fail(tn_fcall *f, const tn_fault *fault)
{
    tn_call *call = f->call;
    tn_front_count_error(f, fault);
    let_go(f);
    tn_front_exhausted_headers(call, fault);
    tn_call_fail(call, fault);
}

void tn_front_invalid(tn_fcall *f, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = tn_arena_vprintf(f->call->arena, fmt, args);
    va_end(args);
    tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_INVALID_ARGUMENT, "%s",
                                   text ? text : "invalid request"));
}

void tn_front_reply(tn_fcall *f, const ProtobufCMessage *response)
{
    tn_call *call = f->call;
    let_go(f);
    tn_call_reply(call, response);
}

static void history_answered(tn_hreq *req)
{
    tn_fcall *f = req->user;
    if (req->fault) {
        tn_front_count_error(f, req->fault);
        tn_front_exhausted_headers(req->call, req->fault);
    }
    let_go(f);
    tn_client_reply_call(req);
}

void tn_front_history(tn_fcall *f, tn_hop op, const char *workflow_id, const char *run_id,
                      const ProtobufCMessage *request)
{
    tn_hreq *h = &f->hreq;
    h->arena = f->call->arena;
    h->home = f->call->home;
    h->op = op;
    h->ns = f->ns;
    h->workflow_id = tn_str_from(workflow_id);
    h->run_id = tn_str_from(run_id);
    h->request = request;
    h->call = f->call;
    h->deadline_mono_ns = f->call->deadline_mono_ns;
    h->pass_on = true;
    h->done = history_answered;
    h->user = f;
    tn_client_history(h);
}

/* ---- the way in ---- */

/* The request's `namespace` field; NULL when it has none. */
static const char *namespace_of(const tn_call *call)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(call->method->input, "namespace");
    if (!field || field->type != PROTOBUF_C_TYPE_STRING ||
        field->label == PROTOBUF_C_LABEL_REPEATED)
        return NULL;
    return *(char *const *)(const void *)((const char *)call->request + field->offset);
}

/* A worker may leave the namespace out: its token knows it. */
static const tn_fault *namespace_of_token(tn_fcall *f)
{
    tn_arena *arena = f->call->arena;
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(f->call->method->input, "task_token");
    const ProtobufCBinaryData *bytes =
        (const void *)((const char *)f->call->request + field->offset);
    if (!bytes->len)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "Task token not set on request.");
    const Tenon__TaskToken *token = tn_front_token(f, *bytes);
    if (!token)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "Error deserializing task token.");
    f->ns = tn_namespace_by_id(tn_str_from(token->ns_id));
    return f->ns ? NULL : tn_namespace_not_found(arena, tn_str_from(token->ns_id));
}

static const tn_fault *find_namespace(tn_fcall *f, const tn_fmethod *method)
{
    tn_arena *arena = f->call->arena;
    const char *name = namespace_of(f->call);
    bool empty = !name || !*name;
    if (empty && (method->flags & TN_FM_TOKEN))
        return namespace_of_token(f);
    if (empty)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "Namespace is empty.");
    if (strlen(name) > tn_front_id_max())
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "Namespace length exceeds limit.");
    f->ns = tn_namespace_by_name(tn_str_from(name));
    return f->ns ? NULL : tn_namespace_not_found(arena, tn_str_from(name));
}

static const tn_fault *check_state(tn_fcall *f, const tn_fmethod *method)
{
    static const char *const names[] = {"Unspecified", "Registered", "Deprecated", "Deleted"};
    int32_t allowed[] = {TN_NS_REGISTERED, TN_NS_DEPRECATED};
    Temporal__Api__Errordetails__V1__NamespaceInvalidStateFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NAMESPACE_INVALID_STATE_FAILURE__INIT;
    bool start = method->flags & TN_FM_START;
    int32_t state = f->ns->state;
    if (state == TN_NS_REGISTERED || (state == TN_NS_DEPRECATED && !start))
        return NULL;
    detail.namespace_ = (char *)(uintptr_t)tn_arena_str(f->call->arena, f->ns->name).p;
    detail.state = (Temporal__Api__Enums__V1__NamespaceState)state;
    detail.n_allowed_states = start ? 1 : 2;
    detail.allowed_states = (Temporal__Api__Enums__V1__NamespaceState *)(void *)allowed;
    return tn_fault_detailed(f->call->arena, TN_GRPC_FAILED_PRECONDITION, &detail.base,
                             "Namespace has invalid state: %s. Must be %s.",
                             names[state > 0 && state < 4 ? state : 0],
                             start ? "Registered" : "Registered or Deprecated");
}

static void handle_in(tn_fcall *f, const tn_fault *fault)
{
    const tn_fmethod *method = f->call->method->user;
    tn_front_count_begin(f, method);
    if (!fault)
        fault = tn_front_admit(f, method);
    if (!fault && f->ns)
        fault = check_state(f, method);
    if (fault)
        tn_front_fail(f, fault);
    else
        method->handle(f);
}

static void looked_again(void *user)
{
    tn_fcall *f = user;
    const tn_fmethod *method = f->call->method->user;
    handle_in(f, method->flags & TN_FM_NAMESPACE ? find_namespace(f, method) : NULL);
}

/* Not so of a name that is registered just now: it is unknown, and the store refuses it a second time. */
static bool names_unknown(const tn_call *call, const tn_fmethod *method)
{
    const char *name = method->handle == tn_do_register_namespace ? NULL : namespace_of(call);
    const tn_namespace *ns = name && *name ? tn_namespace_by_name(tn_str_from(name)) : NULL;
    tn_namespace_unref(ns);
    return name && *name && !ns;
}

static void handle(tn_call *call)
{
    const tn_fmethod *method = call->method->user;
    tn_fcall *f = TN_NEW(call->arena, tn_fcall);
    if (!f) {
        tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED,
                                         "the request takes too much memory"));
        return;
    }
    f->call = call;
    call->user = f;
    /* The cap was for what the peer had made us unpack; what comes now is of our own measure. */
    tn_arena_set_limit(call->arena, 0);
    bool named = method->flags & TN_FM_NAMESPACE;
    const tn_fault *fault = named ? find_namespace(f, method) : NULL;
    bool unknown = named ? fault && fault->code == TN_GRPC_NOT_FOUND : names_unknown(call, method);
    if (!unknown || !tn_namespace_reread_for(looked_again, f))
        handle_in(f, fault);
}

void tn_frontend_dispatch(tn_call *call) { call->method->handle(call); }

void tn_frontend_start(const tn_frontend_options *options) { tn_frontend = *options; }

/* Methods of the API that this release has no handler for: the verdict comes first there too, so that what a caller
 * may learn of a method does not change on the day it is served. */
static void unimplemented(tn_call *call)
{
    const tn_method *method = call->method->user;
    tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_UNIMPLEMENTED, "%s",
                                     tn_front_closed_text(call->arena, method->name)));
}

static void register_served(void)
{
    static tn_rpc_method methods[TN_COUNT_OF(tn_fmethods)];
    for (size_t i = 0; i < tn_fmethods_count; i++) {
        const tn_method *known = tn_proto_method(tn_str_from(tn_fmethods[i].path));
        TN_ASSERT(known);
        methods[i] =
            (tn_rpc_method){.path = tn_fmethods[i].path,
                            .input = known->input,
                            .output = known->output,
                            .flags = tn_fmethods[i].flags & TN_FM_HTTP ? TN_RPC_HTTP_ONLY : 0,
                            .handle = handle,
                            .user = &tn_fmethods[i]};
    }
    tn_rpc_register(methods, tn_fmethods_count);
}

static void register_unserved(void)
{
    tn_rpc_method *methods =
        tn_xcalloc(tn_method_count, sizeof(*methods)); /* for the process's life */
    size_t count = 0;
    for (size_t i = 0; i < tn_method_count; i++) {
        const tn_method *method = &tn_method_table[i];
        bool ours = !tn_str_starts(tn_str_from(method->service), TN_STR("grpc."));
        if (ours && !tn_rpc_find(tn_str_from(method->path)))
            methods[count++] = (tn_rpc_method){.path = method->path,
                                               .input = method->input,
                                               .output = method->output,
                                               .handle = unimplemented,
                                               .user = method};
    }
    tn_rpc_register(methods, count);
}

void tn_frontend_register(void)
{
    tn_front_counts_start();
    register_served();
    register_unserved();
}
