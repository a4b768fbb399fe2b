/* SPDX-License-Identifier: MIT */
/* The operator service's words on clusters.  This release replicates to no other: there is one cluster in the list, none can be
 * removed, and none can be added, which is said instead of accepted. */
#include "frontend/priv.h"
#include "temporal/api/operatorservice/v1/request_response.pb-c.h"

void tn_do_list_clusters(tn_fcall *f)
{
    tn_arena *arena = f->call->arena;
    Temporal__Api__Operatorservice__V1__ClusterMetadata *own = tn_arena_alloc(arena, sizeof(*own));
    temporal__api__operatorservice__v1__cluster_metadata__init(own);
    own->cluster_name = (char *)(uintptr_t)tn_frontend.cluster_name;
    own->cluster_id = (char *)(uintptr_t)tn_frontend.cluster_id;
    own->address = tn_arena_printf(arena, "%s:%u", tn_frontend.ip, tn_frontend.port);
    if (tn_frontend.http_port)
        own->http_address = tn_arena_printf(arena, "%s:%u", tn_frontend.ip, tn_frontend.http_port);
    own->initial_failover_version = 1;
    own->history_shard_count = (int32_t)tn_client_shard_count();
    own->is_connection_enabled = true;
    Temporal__Api__Operatorservice__V1__ListClustersResponse out =
        TEMPORAL__API__OPERATORSERVICE__V1__LIST_CLUSTERS_RESPONSE__INIT;
    out.n_clusters = 1;
    out.clusters = &own;
    tn_front_reply(f, &out.base);
}

void tn_do_remove_cluster(tn_fcall *f)
{
    tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_NOT_FOUND,
                                   "The cluster to be deleted cannot be found in clusters cache."));
}

void tn_do_upsert_cluster(tn_fcall *f)
{
    tn_front_fail(
        f, tn_fault_make(f->call->arena, TN_GRPC_FAILED_PRECONDITION,
                         "This server does not replicate to other clusters: none can be added."));
}

/* ---- what stands behind a gate that is closed ---- */

/* These calls exist in the API, and are switched off in the reference server as it comes; they are refused in its words. */
static const struct {
    const char *names, *text; /* names: each followed by a space */
} closed[] = {
    {"StartNexusOperationExecution DescribeNexusOperationExecution PollNexusOperationExecution "
     "ListNexusOperationExecutions CountNexusOperationExecutions "
     "RequestCancelNexusOperationExecution "
     "TerminateNexusOperationExecution DeleteNexusOperationExecution ",
     "Standalone Nexus operation is disabled"},
    {"DescribeDeployment ListDeployments GetDeploymentReachability GetCurrentDeployment "
     "SetCurrentDeployment ",
     "Deployments are deprecated and no longer supported, use Worker Deployments instead"},
    {"CreateWorkflowRule DescribeWorkflowRule DeleteWorkflowRule ListWorkflowRules "
     "TriggerWorkflowRule ",
     "method %s not supported"},
};

const char *tn_front_closed_text(tn_arena *arena, const char *method)
{
    const char *name = tn_arena_printf(arena, "%s ", method);
    for (size_t i = 0; i < TN_COUNT_OF(closed); i++) {
        const char *at = strstr(closed[i].names, name);
        if (!at || (at != closed[i].names && at[-1] != ' '))
            continue;
        const char *gap = strstr(closed[i].text, "%s");
        return gap ? tn_arena_printf(arena, "%.*s%s%s", (int)(gap - closed[i].text), closed[i].text,
                                     method, gap + 2)
                   : closed[i].text;
    }
    return tn_arena_printf(arena, "method %s not implemented", method);
}
