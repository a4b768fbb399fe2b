/* SPDX-License-Identifier: MIT */
/* What the server says of itself: it claims exactly what works. */
#include "frontend/priv.h"

#define CLIENTS_MAX 16u

void tn_do_system_info(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__GetSystemInfoResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__GET_SYSTEM_INFO_RESPONSE__INIT;
    Temporal__Api__Workflowservice__V1__GetSystemInfoResponse__Capabilities can =
        TEMPORAL__API__WORKFLOWSERVICE__V1__GET_SYSTEM_INFO_RESPONSE__CAPABILITIES__INIT;
    can.signal_and_query_header = true;
    can.internal_error_differentiation = true;
    can.activity_failure_include_heartbeat = true;
    can.encoded_failure_attributes = true;
    can.upsert_memo = true;
    can.sdk_metadata = true;
    can.build_id_based_versioning = true; /* events name the build id of the worker */
    can.eager_workflow_start = tn_dyn_bool(TN_DYN_SYSTEM_EAGER_START, TN_STR(""), TN_STR(""));
    can.count_group_by_execution_status = true;
    can.nexus = true;
    out.server_version = (char *)TN_SERVER_VERSION;
    can.supports_schedules = true;
    out.capabilities = &can;
    tn_front_reply(f, &out.base);
}

void tn_do_cluster_info(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__GetClusterInfoResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__GET_CLUSTER_INFO_RESPONSE__INIT;
    typedef Temporal__Api__Workflowservice__V1__GetClusterInfoResponse__SupportedClientsEntry entry;
    TN_ASSERT(tn_supported_clients_count <= CLIENTS_MAX);
    entry entries[CLIENTS_MAX];
    entry *list[CLIENTS_MAX];
    for (size_t i = 0; i < tn_supported_clients_count; i++) {
        temporal__api__workflowservice__v1__get_cluster_info_response__supported_clients_entry__init(
            &entries[i]);
        entries[i].key = (char *)(uintptr_t)tn_supported_clients[i].name;
        entries[i].value = (char *)(uintptr_t)tn_supported_clients[i].range;
        list[i] = &entries[i];
    }
    out.supported_clients = list;
    out.n_supported_clients = tn_supported_clients_count;
    Temporal__Api__Version__V1__VersionInfo version =
        TEMPORAL__API__VERSION__V1__VERSION_INFO__INIT;
    out.server_version = (char *)TN_SERVER_VERSION;
    out.version_info = &version;
    out.cluster_id = (char *)(uintptr_t)tn_frontend.cluster_id;
    out.cluster_name = (char *)(uintptr_t)tn_frontend.cluster_name;
    out.history_shard_count = (int32_t)tn_client_shard_count();
    out.persistence_store = (char *)(uintptr_t)tn_frontend.persistence_name;
    out.visibility_store = (char *)(uintptr_t)tn_frontend.visibility_name;
    out.failover_version_increment = 10;
    out.initial_failover_version = 1;
    tn_front_reply(f, &out.base);
}
