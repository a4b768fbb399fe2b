/* SPDX-License-Identifier: MIT */
/* The admin service's words for namespaces, search attributes and clusters: other shapes for what the public services
 * answer as well. */
#include "frontend/admin.h"

typedef Temporal__Server__Api__Persistence__V1__ClusterMetadata cluster_metadata;

void *tn_admin_new(tn_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = tn_arena_alloc(arena, descriptor->sizeof_message);
    descriptor->message_init(message);
    return message;
}

const tn_fault *tn_admin_check_archetype(tn_arena *arena, const char *name, uint32_t id,
                                         const char *workflow_id)
{
    static const struct {
        const char *name;
        uint32_t id;
    } known[] = {{"workflow.workflow", 2918170192u},
                 {"scheduler.scheduler", 403648407u},
                 {"activity.activity", 3332429922u},
                 {"nexusoperation.operation", 131748067u},
                 {"callback.callback", 4052090371u}};
    if (!id && !*name)
        return NULL;
    for (size_t i = 0; i < TN_COUNT_OF(known); i++) {
        if (id ? known[i].id != id : strcmp(known[i].name, name) != 0)
            continue;
        return i == 0 ? NULL
                      : tn_fault_make(arena, TN_GRPC_NOT_FOUND, "workflow not found for ID: %s",
                                      workflow_id);
    }
    return id ? tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "unknown archetype ID: %u", id)
              : tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "unknown archetype: %s", name);
}

/* ---- namespaces ---- */

void tn_do_admin_get_namespace(tn_fcall *f)
{
    const Temporal__Server__Api__Adminservice__V1__GetNamespaceRequest *r =
        TN_ADMIN_REQUEST(f, GetNamespaceRequest);
    tn_arena *arena = f->call->arena;
    bool by_id = r->attributes_case ==
                 TEMPORAL__SERVER__API__ADMINSERVICE__V1__GET_NAMESPACE_REQUEST__ATTRIBUTES_ID;
    bool by_name =
        r->attributes_case ==
        TEMPORAL__SERVER__API__ADMINSERVICE__V1__GET_NAMESPACE_REQUEST__ATTRIBUTES_NAMESPACE;
    const char *wanted = by_id ? r->id : by_name ? r->namespace_ : "";
    if (!*wanted) {
        tn_front_invalid(f, "Request is nil.");
        return;
    }
    f->ns =
        by_id ? tn_namespace_by_id(tn_str_from(wanted)) : tn_namespace_by_name(tn_str_from(wanted));
    if (!f->ns) {
        tn_front_fail(f, tn_namespace_not_found(arena, tn_str_from(wanted)));
        return;
    }
    tn_arena_set_limit(arena, 0);
    Temporal__Api__Workflowservice__V1__DescribeNamespaceResponse *seen =
        tn_front_describe_namespace(f->ns, arena);
    Temporal__Server__Api__Adminservice__V1__GetNamespaceResponse *out =
        TN_ADMIN_NEW(arena, get_namespace_response);
    out->info = seen->namespace_info;
    out->config = seen->config;
    out->replication_config = seen->replication_config;
    out->config_version = (int64_t)f->ns->row_version;
    out->failover_version = seen->failover_version;
    out->is_global_namespace = seen->is_global_namespace;
    tn_front_reply(f, &out->base);
}

/* ---- search attributes: the operator service's calls, whose answers have the same fields ---- */

static void as_operator(tn_fcall *f, ProtobufCMessage *request, void (*handle)(tn_fcall *f))
{
    f->call->request = request;
    handle(f);
}

void tn_do_admin_add_attributes(tn_fcall *f)
{
    typedef Temporal__Api__Operatorservice__V1__AddSearchAttributesRequest__SearchAttributesEntry
        entry;
    const Temporal__Server__Api__Adminservice__V1__AddSearchAttributesRequest *r =
        TN_ADMIN_REQUEST(f, AddSearchAttributesRequest);
    tn_arena *arena = f->call->arena;
    Temporal__Api__Operatorservice__V1__AddSearchAttributesRequest *to = tn_admin_new(
        arena, &temporal__api__operatorservice__v1__add_search_attributes_request__descriptor);
    to->namespace_ = r->namespace_;
    to->search_attributes = TN_NEW_ARRAY(arena, entry *, r->n_search_attributes + 1);
    for (size_t i = 0; i < r->n_search_attributes; i++) {
        entry *one = tn_admin_new(
            arena,
            &temporal__api__operatorservice__v1__add_search_attributes_request__search_attributes_entry__descriptor);
        one->key = r->search_attributes[i]->key;
        one->value = r->search_attributes[i]->value;
        to->search_attributes[to->n_search_attributes++] = one;
    }
    as_operator(f, &to->base, tn_do_add_search_attributes);
}

void tn_do_admin_remove_attributes(tn_fcall *f)
{
    const Temporal__Server__Api__Adminservice__V1__RemoveSearchAttributesRequest *r =
        TN_ADMIN_REQUEST(f, RemoveSearchAttributesRequest);
    Temporal__Api__Operatorservice__V1__RemoveSearchAttributesRequest *to = tn_admin_new(
        f->call->arena,
        &temporal__api__operatorservice__v1__remove_search_attributes_request__descriptor);
    to->namespace_ = r->namespace_;
    to->search_attributes = r->search_attributes;
    to->n_search_attributes = r->n_search_attributes;
    as_operator(f, &to->base, tn_do_remove_search_attributes);
}

void tn_do_admin_get_attributes(tn_fcall *f)
{
    Temporal__Api__Operatorservice__V1__ListSearchAttributesRequest *to = tn_admin_new(
        f->call->arena,
        &temporal__api__operatorservice__v1__list_search_attributes_request__descriptor);
    to->namespace_ = TN_ADMIN_REQUEST(f, GetSearchAttributesRequest)->namespace_;
    as_operator(f, &to->base, tn_do_list_search_attributes);
}

/* ---- clusters ---- */

void tn_do_admin_list_clusters(tn_fcall *f)
{
    tn_arena *arena = f->call->arena;
    cluster_metadata *own =
        tn_admin_new(arena, &temporal__server__api__persistence__v1__cluster_metadata__descriptor);
    Temporal__Server__Api__Adminservice__V1__ListClustersResponse *out =
        TN_ADMIN_NEW(arena, list_clusters_response);
    own->cluster_name = (char *)(uintptr_t)tn_frontend.cluster_name;
    own->cluster_id = (char *)(uintptr_t)tn_frontend.cluster_id;
    own->history_shard_count = (int32_t)tn_client_shard_count();
    own->cluster_address = tn_arena_printf(arena, "%s:%u", tn_frontend.ip, tn_frontend.port);
    if (tn_frontend.http_port)
        own->http_address = tn_arena_printf(arena, "%s:%u", tn_frontend.ip, tn_frontend.http_port);
    own->failover_version_increment = 10;
    own->initial_failover_version = 1;
    own->is_connection_enabled = true;
    out->clusters = TN_NEW_ARRAY(arena, cluster_metadata *, 1);
    out->clusters[out->n_clusters++] = own;
    tn_front_reply(f, &out->base);
}
