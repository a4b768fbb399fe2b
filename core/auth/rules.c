/* SPDX-License-Identifier: MIT */
/* The class of every public method: what it needs (read, write, admin) and of what (a namespace, the
 * cluster).  A method that no list names has no class; authorizers deny that. */
#include <stdlib.h>
#include <string.h>

#include "auth/private.h"

static const char workflow_read_namespace[] =
    "CountActivityExecutions CountNexusOperationExecutions CountSchedules CountWorkers "
    "CountWorkflowExecutions DescribeActivityExecution DescribeBatchOperation "
    "DescribeDeployment DescribeNamespace DescribeNexusOperationExecution "
    "DescribeSchedule DescribeTaskQueue DescribeWorker DescribeWorkerDeployment "
    "DescribeWorkerDeploymentVersion DescribeWorkflowExecution DescribeWorkflowRule "
    "FetchWorkerConfig GetCurrentDeployment GetDeploymentReachability "
    "GetWorkerBuildIdCompatibility GetWorkerTaskReachability GetWorkerVersioningRules "
    "GetWorkflowExecutionHistory GetWorkflowExecutionHistoryReverse "
    "ListActivityExecutions ListArchivedWorkflowExecutions ListBatchOperations "
    "ListClosedWorkflowExecutions ListDeployments ListNexusOperationExecutions "
    "ListOpenWorkflowExecutions ListScheduleMatchingTimes ListSchedules "
    "ListTaskQueuePartitions ListWorkerDeployments ListWorkers ListWorkflowExecutions "
    "ListWorkflowRules PollActivityExecution PollNexusOperationExecution "
    "PollWorkflowExecutionTimeSkipping PollWorkflowExecutionUpdate QueryWorkflow "
    "ScanWorkflowExecutions ValidateWorkerDeploymentVersionComputeConfig ";
static const char workflow_read_cluster[] =
    "GetClusterInfo GetSearchAttributes GetSystemInfo ListNamespaces ";
static const char workflow_write_namespace[] =
    "CreateSchedule CreateWorkerDeployment CreateWorkerDeploymentVersion "
    "CreateWorkflowRule DeleteActivityExecution DeleteNexusOperationExecution "
    "DeleteSchedule DeleteWorkerDeployment DeleteWorkerDeploymentVersion "
    "DeleteWorkflowExecution DeleteWorkflowRule ExecuteMultiOperation PatchSchedule "
    "PauseActivity PauseActivityExecution PauseWorkflowExecution PollActivityTaskQueue "
    "PollNexusTaskQueue PollWorkflowTaskQueue RecordActivityTaskHeartbeat "
    "RecordActivityTaskHeartbeatById RecordWorkerHeartbeat RequestCancelActivityExecution "
    "RequestCancelNexusOperationExecution RequestCancelWorkflowExecution ResetActivity "
    "ResetActivityExecution ResetStickyTaskQueue ResetWorkflowExecution "
    "RespondActivityTaskCanceled RespondActivityTaskCanceledById "
    "RespondActivityTaskCompleted RespondActivityTaskCompletedById "
    "RespondActivityTaskFailed RespondActivityTaskFailedById RespondNexusTaskCompleted "
    "RespondNexusTaskFailed RespondQueryTaskCompleted RespondWorkflowTaskCompleted "
    "RespondWorkflowTaskFailed SetCurrentDeployment SetWorkerDeploymentCurrentVersion "
    "SetWorkerDeploymentManager SetWorkerDeploymentRampingVersion ShutdownWorker "
    "SignalWithStartWorkflowExecution SignalWorkflowExecution StartActivityExecution "
    "StartBatchOperation StartNexusOperationExecution StartWorkflowExecution "
    "StopBatchOperation TerminateActivityExecution TerminateNexusOperationExecution "
    "TerminateWorkflowExecution TriggerWorkflowRule UnpauseActivity "
    "UnpauseActivityExecution UnpauseWorkflowExecution UpdateActivityExecutionOptions "
    "UpdateActivityOptions UpdateSchedule UpdateTaskQueueConfig "
    "UpdateWorkerBuildIdCompatibility UpdateWorkerConfig "
    "UpdateWorkerDeploymentVersionComputeConfig UpdateWorkerDeploymentVersionMetadata "
    "UpdateWorkerVersioningRules UpdateWorkflowExecution UpdateWorkflowExecutionOptions ";
static const char workflow_admin_namespace[] =
    "DeprecateNamespace RegisterNamespace UpdateNamespace ";
static const char operator_read_namespace[] = "ListSearchAttributes ";
static const char operator_admin_namespace[] =
    "AddSearchAttributes DeleteNamespace RemoveSearchAttributes ";
static const char operator_admin_cluster[] =
    "AddOrUpdateRemoteCluster CreateNexusEndpoint DeleteNexusEndpoint GetNexusEndpoint "
    "ListClusters ListNexusEndpoints RemoveRemoteCluster UpdateNexusEndpoint ";
static const char admin_admin_cluster[] =
    "AddOrUpdateRemoteCluster AddSearchAttributes AddTasks CancelDLQJob CloseShard "
    "DeepHealthCheck DeleteWorkflowExecution DescribeCluster DescribeDLQJob "
    "DescribeHistoryHost DescribeMutableState DescribeTaskQueuePartition "
    "ForceUnloadTaskQueuePartition GenerateLastHistoryReplicationTasks GetDLQMessages "
    "GetDLQReplicationMessages GetDLQTasks GetNamespace GetNamespaceReplicationMessages "
    "GetReplicationMessages GetSearchAttributes GetShard GetTaskQueueTasks "
    "GetTaskQueueUserData GetWorkflowExecutionRawHistory "
    "GetWorkflowExecutionRawHistoryV2 ImportWorkflowExecution ListClusterMembers "
    "ListClusters ListHistoryTasks ListQueues MergeDLQMessages MergeDLQTasks "
    "MigrateSchedule PurgeDLQMessages PurgeDLQTasks ReapplyEvents RebuildMutableState "
    "RefreshWorkflowTasks RemoveRemoteCluster RemoveSearchAttributes RemoveTask "
    "ResendReplicationTasks StartAdminBatchOperation SyncWorkflowState ";

typedef struct class_row {
    const char *service, *names; /* names: each followed by a space */
    uint32_t access, scope;
} class_row;
static const class_row classes[] = {
    {"temporal.api.workflowservice.v1.WorkflowService", workflow_read_namespace, TN_ACCESS_READ,
     TN_SCOPE_NAMESPACE},
    {"temporal.api.workflowservice.v1.WorkflowService", workflow_read_cluster, TN_ACCESS_READ,
     TN_SCOPE_CLUSTER},
    {"temporal.api.workflowservice.v1.WorkflowService", workflow_write_namespace, TN_ACCESS_WRITE,
     TN_SCOPE_NAMESPACE},
    {"temporal.api.workflowservice.v1.WorkflowService", workflow_admin_namespace, TN_ACCESS_ADMIN,
     TN_SCOPE_NAMESPACE},
    {"temporal.api.operatorservice.v1.OperatorService", operator_read_namespace, TN_ACCESS_READ,
     TN_SCOPE_NAMESPACE},
    {"temporal.api.operatorservice.v1.OperatorService", operator_admin_namespace, TN_ACCESS_ADMIN,
     TN_SCOPE_NAMESPACE},
    {"temporal.api.operatorservice.v1.OperatorService", operator_admin_cluster, TN_ACCESS_ADMIN,
     TN_SCOPE_CLUSTER},
    {"temporal.server.api.adminservice.v1.AdminService", admin_admin_cluster, TN_ACCESS_ADMIN,
     TN_SCOPE_CLUSTER},
    {"temporal.api.nexusservice.v1.NexusService",
     "CompleteNexusOperation DispatchByEndpoint DispatchByNamespaceAndTaskQueue ", TN_ACCESS_WRITE,
     TN_SCOPE_NAMESPACE},
    {"tenon.admin.v1.ShardService", "SetShards ", TN_ACCESS_ADMIN, TN_SCOPE_CLUSTER},
    {"grpc.health.v1.Health", "Check Watch List ", TN_ACCESS_READ, TN_SCOPE_CLUSTER},
    {"grpc.reflection.v1.ServerReflection", "ServerReflectionInfo ", TN_ACCESS_READ,
     TN_SCOPE_CLUSTER},
    {"grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo ", TN_ACCESS_READ,
     TN_SCOPE_CLUSTER},
};

static tn_map methods;
static tn_auth_method *rows;

static bool has_name(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = names; (p = strstr(p, name)); p += n)
        if ((p == names || p[-1] == ' ') && p[n] == ' ')
            return true;
    return false;
}

static void classify(tn_auth_method *row, const tn_method *method)
{
    for (size_t i = 0; i < TN_COUNT_OF(classes); i++) {
        if (strcmp(classes[i].service, method->service) == 0 &&
            has_name(classes[i].names, method->name)) {
            row->access = classes[i].access;
            row->scope = classes[i].scope;
        }
    }
    row->free =
        strcmp(method->path, "/grpc.health.v1.Health/Check") == 0 ||
        strcmp(method->path, "/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo") == 0;
    row->lists = strcmp(method->name, "ListNamespaces") == 0;
}

static const ProtobufCFieldDescriptor *field_of(const ProtobufCMessageDescriptor *message,
                                                const char *name, ProtobufCType type)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message, name);
    bool plain = field && field->type == type && field->label != PROTOBUF_C_LABEL_REPEATED &&
                 !(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF);
    return plain ? field : NULL;
}

static bool place(tn_auth_place *out, const ProtobufCMessageDescriptor *input, const char *outer,
                  const char *inner)
{
    if (!inner) {
        out->outer = field_of(input, outer, PROTOBUF_C_TYPE_STRING);
        return out->outer != NULL;
    }
    const ProtobufCFieldDescriptor *o = field_of(input, outer, PROTOBUF_C_TYPE_MESSAGE);
    const ProtobufCFieldDescriptor *i =
        o ? field_of(o->descriptor, inner, PROTOBUF_C_TYPE_STRING) : NULL;
    if (!i)
        return false;
    out->outer = o;
    out->inner = i;
    return true;
}

static void find_places(tn_auth_method *row, const ProtobufCMessageDescriptor *in)
{
    row->input = in;
    place(&row->ns, in, "namespace", NULL);
    if (!place(&row->ns_id, in, "namespace_id", NULL) &&
        strcmp(in->short_name, "DescribeNamespaceRequest") == 0)
        place(&row->ns_id, in, "id", NULL);
    if (!place(&row->workflow_id, in, "workflow_id", NULL) &&
        !place(&row->workflow_id, in, "workflow_execution", "workflow_id"))
        place(&row->workflow_id, in, "execution", "workflow_id");
    place(&row->workflow_type, in, "workflow_type", "name");
    if (!place(&row->task_queue, in, "task_queue", "name"))
        place(&row->task_queue, in, "task_queue", NULL);
    place(&row->nexus_endpoint, in, "endpoint", NULL);
    row->task_token = field_of(in, "task_token", PROTOBUF_C_TYPE_BYTES);
}

void tn_auth_methods_init(void)
{
    if (rows)
        return;
    rows = tn_xcalloc(tn_method_count, sizeof *rows);
    tn_map_init(&methods);
    for (size_t i = 0; i < tn_method_count; i++) {
        const tn_method *method = &tn_method_table[i];
        classify(&rows[i], method);
        find_places(&rows[i], method->input);
        tn_map_insert(&methods, &rows[i].link, tn_blob_of_str(tn_str_from(method->path)));
    }
    tn_auth_fields_init(rows, tn_method_count);
    for (size_t i = 0; i < tn_method_count; i++)
        rows[i].names_more = tn_auth_names_more(&rows[i]);
}

const tn_auth_method *tn_auth_method_find(tn_str path)
{
    tn_map_link *link = tn_map_find(&methods, tn_blob_of_str(path));
    return link ? TN_CONTAINER_OF(link, tn_auth_method, link) : NULL;
}

bool tn_auth_rule(tn_str path, uint32_t *out_access, uint32_t *out_scope)
{
    const tn_auth_method *method = tn_auth_method_find(path);
    *out_access = method ? method->access : 0;
    *out_scope = method ? method->scope : 0;
    return method && method->access && method->scope;
}
