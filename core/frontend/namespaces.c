/* SPDX-License-Identifier: MIT */
/* Namespaces: register, describe, list, update, deprecate, delete.  A change is seen at once: the registry's snapshot is
 * replaced when the write is durable. */
#include "auth/auth.h"
#include "frontend/priv.h"
#include "namespace/endpoint.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "temporal/api/operatorservice/v1/request_response.pb-c.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)
#define PAGE_DEFAULT 100

typedef Temporal__Api__Workflowservice__V1__DescribeNamespaceResponse describe_response;

/* ---- showing one ---- */

static Temporal__Api__Namespace__V1__NamespaceInfo *info_of(const tn_namespace *ns, tn_arena *arena)
{
    Temporal__Api__Namespace__V1__NamespaceInfo *info = tn_arena_alloc(arena, sizeof(*info));
    temporal__api__namespace__v1__namespace_info__init(info);
    info->name = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns->name));
    info->id = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns->id));
    info->state = (Temporal__Api__Enums__V1__NamespaceState)ns->state;
    info->description = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns->description));
    info->owner_email = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns->owner_email));
    info->data = TN_NEW_ARRAY(arena, Temporal__Api__Namespace__V1__NamespaceInfo__DataEntry *,
                              ns->n_data + 1);
    for (size_t i = 0; i < ns->n_data; i++) {
        Temporal__Api__Namespace__V1__NamespaceInfo__DataEntry *entry =
            tn_arena_alloc(arena, sizeof(*entry));
        temporal__api__namespace__v1__namespace_info__data_entry__init(entry);
        entry->key = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns->data_keys[i]));
        entry->value = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns->data_values[i]));
        info->data[info->n_data++] = entry;
    }
    info->capabilities = tn_arena_alloc(arena, sizeof(*info->capabilities));
    temporal__api__namespace__v1__namespace_info__capabilities__init(info->capabilities);
    info->limits = tn_arena_alloc(arena, sizeof(*info->limits));
    temporal__api__namespace__v1__namespace_info__limits__init(info->limits);
    info->supports_schedules = true;
    info->capabilities->eager_workflow_start =
        tn_dyn_bool(TN_DYN_SYSTEM_EAGER_START, ns->name, TN_STR(""));
    info->capabilities->sync_update = tn_dyn_bool(TN_DYN_FRONTEND_UPDATES, ns->name, TN_STR(""));
    info->capabilities->async_update =
        tn_dyn_bool(TN_DYN_FRONTEND_ASYNC_UPDATES, ns->name, TN_STR(""));
    info->capabilities->standalone_activities =
        tn_dyn_bool(TN_DYN_ACTIVITY_STANDALONE, ns->name, TN_STR(""));
    if (info->capabilities->standalone_activities) {
        info->capabilities->standalone_activity_start_delay =
            tn_dyn_bool(TN_DYN_ACTIVITY_START_DELAY, ns->name, TN_STR(""));
        info->capabilities->standalone_activity_operator_commands =
            tn_dyn_bool(TN_DYN_ACTIVITY_OPERATORS, ns->name, TN_STR(""));
        info->capabilities->standalone_activity_batch_operations =
            tn_dyn_bool(TN_DYN_FRONTEND_BATCH_ACTIVITIES, ns->name, TN_STR(""));
    }
    info->capabilities->workflow_pause =
        tn_dyn_bool(TN_DYN_FRONTEND_WORKFLOW_PAUSE, ns->name, TN_STR(""));
    info->capabilities->worker_heartbeats =
        tn_dyn_bool(TN_DYN_FRONTEND_WORKER_HEARTBEATS, ns->name, TN_STR(""));
    info->capabilities->worker_poll_complete_on_shutdown =
        tn_dyn_bool(TN_DYN_FRONTEND_CANCEL_POLLS_ON_SHUTDOWN, ns->name, TN_STR(""));
    info->capabilities->poller_autoscaling = true;
    info->capabilities->reported_problems_search_attribute = true;
    info->limits->blob_size_limit_error =
        tn_dyn_i64(TN_DYN_LIMIT_BLOB_SIZE_ERROR, ns->name, TN_STR(""));
    info->limits->memo_size_limit_error =
        tn_dyn_i64(TN_DYN_LIMIT_MEMO_SIZE_ERROR, ns->name, TN_STR(""));
    return info;
}

static Temporal__Api__Namespace__V1__NamespaceConfig *config_of(const tn_namespace *ns,
                                                                tn_arena *arena)
{
    Temporal__Api__Namespace__V1__NamespaceConfig *config = tn_arena_alloc(arena, sizeof(*config));
    temporal__api__namespace__v1__namespace_config__init(config);
    config->workflow_execution_retention_ttl =
        tn_duration_from_ns(arena, (int64_t)ns->retention_ns);
    config->history_archival_state =
        TEMPORAL__API__ENUMS__V1__ARCHIVAL_STATE__ARCHIVAL_STATE_DISABLED;
    config->visibility_archival_state =
        TEMPORAL__API__ENUMS__V1__ARCHIVAL_STATE__ARCHIVAL_STATE_DISABLED;
    config->bad_binaries = tn_arena_alloc(arena, sizeof(*config->bad_binaries));
    temporal__api__namespace__v1__bad_binaries__init(config->bad_binaries);
    config->custom_search_attribute_aliases = NULL;
    return config;
}

static Temporal__Api__Replication__V1__NamespaceReplicationConfig *replication_of(tn_arena *arena)
{
    Temporal__Api__Replication__V1__NamespaceReplicationConfig *out =
        tn_arena_alloc(arena, sizeof(*out));
    temporal__api__replication__v1__namespace_replication_config__init(out);
    Temporal__Api__Replication__V1__ClusterReplicationConfig *cluster =
        tn_arena_alloc(arena, sizeof(*cluster));
    temporal__api__replication__v1__cluster_replication_config__init(cluster);
    cluster->cluster_name = tn_arena_strdup(arena, tn_frontend.cluster_name);
    out->active_cluster_name = cluster->cluster_name;
    out->clusters =
        TN_NEW_ARRAY(arena, Temporal__Api__Replication__V1__ClusterReplicationConfig *, 1);
    out->clusters[0] = cluster;
    out->n_clusters = 1;
    out->state = TEMPORAL__API__ENUMS__V1__REPLICATION_STATE__REPLICATION_STATE_NORMAL;
    return out;
}

describe_response *tn_front_describe_namespace(const tn_namespace *ns, tn_arena *arena)
{
    describe_response *out = tn_arena_alloc(arena, sizeof(*out));
    temporal__api__workflowservice__v1__describe_namespace_response__init(out);
    out->namespace_info = info_of(ns, arena);
    out->config = config_of(ns, arena);
    out->replication_config = replication_of(arena);
    return out;
}

void tn_do_describe_namespace(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__DescribeNamespaceRequest *r =
        REQUEST(f, DescribeNamespaceRequest);
    tn_arena *arena = f->call->arena;
    if (!*r->namespace_ && !*r->id) {
        tn_front_invalid(f, "Namespace not set on request.");
        return;
    }
    f->ns = *r->id ? tn_namespace_by_id(tn_str_from(r->id))
                   : tn_namespace_by_name(tn_str_from(r->namespace_));
    if (!f->ns) {
        tn_front_fail(f,
                      tn_namespace_not_found(arena, tn_str_from(*r->id ? r->id : r->namespace_)));
        return;
    }
    tn_arena_set_limit(arena, 0);
    tn_front_reply(f, &tn_front_describe_namespace(f->ns, arena)->base);
}

/* ---- list: the page token is the name of the last one shown ----
 * Shown is what the caller may describe: the authorizer is asked about one after the other. */

typedef struct ns_listing {
    tn_fcall *f;
    tn_auth_filter filter;
    const tn_namespace_list *list;
    size_t at; /* the one that is asked about */
    size_t page;
    tn_str after;
    bool deleted, more;
    Temporal__Api__Workflowservice__V1__ListNamespacesResponse *out;
} ns_listing;

static bool candidate(const ns_listing *l, const tn_namespace *ns)
{
    return (ns->state != TN_NS_DELETED || l->deleted) &&
           (l->after.n == 0 || tn_blob_cmp(tn_blob_of_str(ns->name), tn_blob_of_str(l->after)) > 0);
}

static bool next_namespace(tn_auth_filter *filter, tn_str *out_ns)
{
    ns_listing *l = filter->user;
    while (l->at < l->list->count && !candidate(l, l->list->items[l->at]))
        l->at++;
    if (l->at >= l->list->count || l->more)
        return false;
    *out_ns = l->list->items[l->at]->name;
    return true;
}

static void namespace_verdict(tn_auth_filter *filter, bool allowed)
{
    ns_listing *l = filter->user;
    const tn_namespace *ns = l->list->items[l->at++];
    if (!allowed)
        return;
    l->more = l->out->n_namespaces == l->page; /* there is one more to show */
    if (!l->more)
        l->out->namespaces[l->out->n_namespaces++] =
            tn_front_describe_namespace(ns, l->f->call->arena);
}

static void namespaces_listed(tn_auth_filter *filter)
{
    ns_listing *l = filter->user;
    tn_fcall *f = l->f;
    tn_namespace_list_release(l->list);
    if (filter->failed) { /* a list that is short without saying so would be believed */
        tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_UNAVAILABLE,
                                       "the authorizer gives no answer"));
        return;
    }
    if (l->more) {
        const char *last = l->out->namespaces[l->page - 1]->namespace_info->name;
        l->out->next_page_token = (ProtobufCBinaryData){strlen(last), (uint8_t *)(uintptr_t)last};
    }
    tn_front_reply(f, &l->out->base);
}

void tn_do_list_namespaces(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ListNamespacesRequest *r =
        REQUEST(f, ListNamespacesRequest);
    tn_arena *arena = f->call->arena;
    tn_arena_set_limit(arena, 0);
    ns_listing *l = TN_NEW(arena, ns_listing);
    l->f = f;
    l->page = r->page_size > 0 && r->page_size < 1000 ? (size_t)r->page_size : PAGE_DEFAULT;
    l->deleted = r->namespace_filter && r->namespace_filter->include_deleted;
    l->after = (tn_str){(const char *)r->next_page_token.data, r->next_page_token.len};
    l->out = tn_arena_alloc(arena, sizeof(*l->out));
    temporal__api__workflowservice__v1__list_namespaces_response__init(l->out);
    l->out->namespaces = TN_NEW_ARRAY(arena, describe_response *, l->page);
    l->list = tn_namespace_list_acquire();
    l->filter = (tn_auth_filter){
        .path = "/temporal.api.workflowservice.v1.WorkflowService/DescribeNamespace",
        .next = next_namespace,
        .verdict = namespace_verdict,
        .done = namespaces_listed,
        .user = l};
    tn_auth_filter_run(f->call, &l->filter);
}

/* ---- changes ---- */

static Tenon__NamespaceRecord *record_of(const tn_namespace *ns, tn_arena *arena)
{
    Tenon__NamespaceRecord *record = NULL;
    tn_error err;
    tn_status status = tn_proto_unpack(&tenon__namespace_record__descriptor, ns->record, arena,
                                       (ProtobufCMessage **)(void *)&record, &err);
    return status == TN_OK ? record : NULL;
}

void tn_front_write_namespace(tn_fcall *f, Tenon__NamespaceRecord *record, uint64_t expect_version,
                              void (*done)(tn_namespace_write *write))
{
    tn_arena *arena = f->call->arena;
    tn_namespace_write *write = TN_NEW(arena, tn_namespace_write);
    write->arena = arena;
    write->home = f->call->home;
    write->verb = expect_version ? TN_NS_UPDATE : TN_NS_CREATE;
    write->expect_version = expect_version;
    write->done = done;
    write->user = f;
    if (tn_proto_pack(&record->base, arena, &write->record) != TN_OK) {
        tn_front_fail(f, tn_fault_make(arena, TN_GRPC_RESOURCE_EXHAUSTED,
                                       "the namespace takes too much memory"));
        return;
    }
    tn_namespace_submit(write);
}

static void registered(tn_namespace_write *write)
{
    tn_fcall *f = write->user;
    tn_namespace_unref(write->result);
    if (write->fault)
        tn_front_fail(f, write->fault);
    else
        tn_front_reply(f, NULL);
}

/* 0: it is not a retention that a namespace may have. */
static uint64_t retention_of(const Google__Protobuf__Duration *duration)
{
    int64_t min = tn_dyn_i64(TN_DYN_SYSTEM_RETENTION_MIN_LOCAL, TN_STR(""), TN_STR("")), ns;
    return duration && tn_ns_from_duration(duration, &ns) && ns > 0 && ns >= min ? (uint64_t)ns : 0;
}

void tn_do_register_namespace(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RegisterNamespaceRequest *r =
        REQUEST(f, RegisterNamespaceRequest);
    tn_arena *arena = f->call->arena;
    if (!*r->namespace_) {
        tn_front_invalid(f, "Namespace not set on request.");
        return;
    }
    if (strlen(r->namespace_) > tn_front_id_max()) {
        tn_front_invalid(f, "Namespace length exceeds limit.");
        return;
    }
    if (r->is_global_namespace) {
        tn_front_invalid(f, "Cannot register global namespace when not enabled");
        return;
    }
    uint64_t retention = retention_of(r->workflow_execution_retention_period);
    if (!retention) {
        tn_front_invalid(f, "A valid retention period is not set on request.");
        return;
    }
    Tenon__NamespaceRecord *record = tn_arena_alloc(arena, sizeof(*record));
    tenon__namespace_record__init(record);
    record->id = tn_fresh_uuid(arena);
    record->name = r->namespace_;
    record->state = TN_NS_REGISTERED;
    record->retention_ns = retention;
    record->description = r->description;
    record->owner_email = r->owner_email;
    record->created_ns = tn_now_wall_ns();
    record->data_keys = TN_NEW_ARRAY(arena, char *, r->n_data + 1);
    record->data_values = TN_NEW_ARRAY(arena, char *, r->n_data + 1);
    for (size_t i = 0; i < r->n_data; i++) {
        record->data_keys[record->n_data_keys++] = r->data[i]->key;
        record->data_values[record->n_data_values++] = r->data[i]->value;
    }
    tn_front_write_namespace(f, record, 0, registered);
}

static void updated(tn_namespace_write *write)
{
    tn_fcall *f = write->user;
    tn_arena *arena = f->call->arena;
    if (write->fault) {
        tn_front_fail(f, write->fault);
        return;
    }
    tn_arena_set_limit(arena, 0);
    Temporal__Api__Workflowservice__V1__UpdateNamespaceResponse *out =
        tn_arena_alloc(arena, sizeof(*out));
    temporal__api__workflowservice__v1__update_namespace_response__init(out);
    out->namespace_info = info_of(write->result, arena);
    out->config = config_of(write->result, arena);
    out->replication_config = replication_of(arena);
    tn_namespace_unref(write->result);
    tn_front_reply(f, &out->base);
}

/* Data is merged: given keys win, the others stay. */
static void merge_data(Tenon__NamespaceRecord *record, tn_arena *arena,
                       const Temporal__Api__Namespace__V1__UpdateNamespaceInfo *info)
{
    char **keys = TN_NEW_ARRAY(arena, char *, record->n_data_keys + info->n_data + 1);
    char **values = TN_NEW_ARRAY(arena, char *, record->n_data_keys + info->n_data + 1);
    size_t n = 0;
    for (size_t i = 0; i < record->n_data_keys; i++)
        keys[n] = record->data_keys[i], values[n++] = record->data_values[i];
    for (size_t i = 0; i < info->n_data; i++) {
        size_t at = 0;
        while (at < n && strcmp(keys[at], info->data[i]->key) != 0)
            at++;
        keys[at] = info->data[i]->key;
        values[at] = info->data[i]->value;
        if (at == n)
            n++;
    }
    record->data_keys = keys;
    record->data_values = values;
    record->n_data_keys = record->n_data_values = n;
}

/* Registered, deprecated, deleted: never back. */
static bool may_become(int32_t from, int32_t to)
{
    return to == 0 || (to >= from && to <= TN_NS_DELETED);
}

/* What this release has no use for is refused, not forgotten.  NULL: nothing of that kind is asked. */
static const char *refused_update(
    const Temporal__Api__Workflowservice__V1__UpdateNamespaceRequest *r)
{
    const Temporal__Api__Namespace__V1__NamespaceConfig *config = r->config;
    if (r->promote_namespace ||
        (r->replication_config &&
         (*r->replication_config->active_cluster_name || r->replication_config->n_clusters)))
        return "global namespace is not enabled on this cluster, cannot update global namespace or "
               "promote local "
               "namespace";
    if (config && config->n_custom_search_attribute_aliases)
        return "search attributes have no aliases here: add them by name";
    if ((config && config->bad_binaries && config->bad_binaries->n_binaries) ||
        *r->delete_bad_binary)
        return "bad binaries are not supported";
    if (config && (config->history_archival_state ==
                       TEMPORAL__API__ENUMS__V1__ARCHIVAL_STATE__ARCHIVAL_STATE_ENABLED ||
                   config->visibility_archival_state ==
                       TEMPORAL__API__ENUMS__V1__ARCHIVAL_STATE__ARCHIVAL_STATE_ENABLED))
        return "Cluster is not configured for archival.";
    return NULL;
}

static const char *apply_update(tn_arena *arena, Tenon__NamespaceRecord *record,
                                const Temporal__Api__Workflowservice__V1__UpdateNamespaceRequest *r)
{
    const Temporal__Api__Namespace__V1__UpdateNamespaceInfo *info = r->update_info;
    if (info && !may_become(record->state, (int32_t)info->state))
        return "Invalid namespace state update.";
    if (info) {
        if (*info->description)
            record->description = info->description;
        if (*info->owner_email)
            record->owner_email = info->owner_email;
        if (info->state)
            record->state = (int32_t)info->state;
        merge_data(record, arena, info);
    }
    if (r->config && r->config->workflow_execution_retention_ttl) {
        record->retention_ns = retention_of(r->config->workflow_execution_retention_ttl);
        if (!record->retention_ns)
            return "A valid retention period is not set on request.";
    }
    return NULL;
}

void tn_do_update_namespace(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__UpdateNamespaceRequest *r =
        REQUEST(f, UpdateNamespaceRequest);
    tn_arena *arena = f->call->arena;
    if (!*r->namespace_) {
        tn_front_invalid(f, "Namespace is empty.");
        return;
    }
    f->ns = tn_namespace_by_name(tn_str_from(r->namespace_));
    Tenon__NamespaceRecord *record = f->ns ? record_of(f->ns, arena) : NULL;
    if (!record) {
        tn_front_fail(f, tn_namespace_not_found(arena, tn_str_from(r->namespace_)));
        return;
    }
    const char *why = refused_update(r);
    if (!why)
        why = apply_update(arena, record, r);
    if (why)
        tn_front_invalid(f, "%s", why);
    else
        tn_front_write_namespace(f, record, f->ns->row_version, updated);
}

void tn_do_deprecate_namespace(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__DeprecateNamespaceRequest *r =
        REQUEST(f, DeprecateNamespaceRequest);
    tn_arena *arena = f->call->arena;
    f->ns = tn_namespace_by_name(tn_str_from(r->namespace_));
    Tenon__NamespaceRecord *record = f->ns ? record_of(f->ns, arena) : NULL;
    if (!record) {
        tn_front_fail(f, tn_namespace_not_found(arena, tn_str_from(r->namespace_)));
        return;
    }
    record->state = TN_NS_DEPRECATED;
    tn_front_write_namespace(f, record, f->ns->row_version, registered);
}

/* ---- deletion: the name is free at once, the runs go later (worker/reclaim.c) ---- */

typedef Temporal__Api__Operatorservice__V1__DeleteNamespaceRequest delete_request;

static void deleted(tn_namespace_write *write)
{
    tn_fcall *f = write->user;
    if (write->fault) {
        tn_front_fail(f, write->fault);
        return;
    }
    Temporal__Api__Operatorservice__V1__DeleteNamespaceResponse *out =
        tn_arena_alloc(f->call->arena, sizeof(*out));
    temporal__api__operatorservice__v1__delete_namespace_response__init(out);
    out->deleted_namespace =
        tn_arena_printf(f->call->arena, TN_STR_FMT, TN_STR_ARG(write->result->name));
    tn_namespace_unref(write->result);
    tn_front_reply(f, &out->base);
}

/* name-deleted-<as much of the id as makes it new>; the name itself when that is what it is already. */
static char *deleted_name(tn_arena *arena, const tn_namespace *ns)
{
    for (size_t n = 5; n < ns->id.n; n++) {
        char *suffix = tn_arena_printf(arena, "-deleted-%.*s", (int)n, ns->id.p);
        size_t len = strlen(suffix);
        if (ns->name.n >= len && memcmp(ns->name.p + ns->name.n - len, suffix, len) == 0)
            return tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns->name));
        char *name = tn_arena_printf(arena, TN_STR_FMT "%s", TN_STR_ARG(ns->name), suffix);
        const tn_namespace *other = tn_namespace_by_name(tn_str_from(name));
        tn_namespace_unref(other);
        if (!other)
            return name;
    }
    return NULL;
}

static const tn_fault *find_to_delete(tn_fcall *f, const delete_request *r)
{
    tn_arena *arena = f->call->arena;
    if (!*r->namespace_ && !*r->namespace_id)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "namespace or namespace ID is required");
    if (*r->namespace_ && *r->namespace_id)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "only one of namespace or namespace ID must be set");
    f->ns = *r->namespace_ ? tn_namespace_by_name(tn_str_from(r->namespace_))
                           : tn_namespace_by_id(tn_str_from(r->namespace_id));
    if (!f->ns)
        return tn_namespace_not_found(
            arena, tn_str_from(*r->namespace_ ? r->namespace_ : r->namespace_id));
    if (tn_str_is(f->ns->name, TN_NS_SYSTEM))
        return tn_fault_make(arena, TN_GRPC_FAILED_PRECONDITION,
                             "unable to delete system namespace");
    return NULL;
}

/* A Nexus endpoint leads to it. */
static const tn_fault *check_not_a_target(const tn_fcall *f)
{
    const tn_fault *fault = NULL;
    if (tn_dyn_bool(TN_DYN_FRONTEND_NS_DELETE_NEXUS_TARGET, TN_STR(""), TN_STR("")))
        return NULL;
    const tn_endpoints *list = tn_endpoints_acquire();
    for (size_t i = 0; !fault && i < list->count; i++)
        if (tn_str_is(f->ns->id, list->items[i]->ns_id))
            fault =
                tn_fault_make(f->call->arena, TN_GRPC_FAILED_PRECONDITION,
                              "cannot delete a namespace that is a target of a Nexus endpoint %s",
                              list->items[i]->name);
    tn_endpoints_release(list);
    return fault;
}

void tn_do_delete_namespace(tn_fcall *f)
{
    const delete_request *r = (const delete_request *)(void *)f->call->request;
    tn_arena *arena = f->call->arena;
    tn_arena_set_limit(arena, 0);
    const tn_fault *fault = find_to_delete(f, r);
    if (!fault)
        fault = check_not_a_target(f);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    int64_t delay = tn_dyn_i64(TN_DYN_FRONTEND_NS_DELETE_DELAY, TN_STR(""), TN_STR(""));
    if (r->namespace_delete_delay && !tn_ns_from_duration(r->namespace_delete_delay, &delay)) {
        tn_front_invalid(f, "namespace_delete_delay is not a duration");
        return;
    }
    Tenon__NamespaceRecord *record = record_of(f->ns, arena);
    if (record)
        record->name = deleted_name(arena, f->ns);
    if (!record || !record->name) {
        tn_front_fail(f, tn_fault_make(arena, TN_GRPC_INTERNAL,
                                       "unable to generate new name for deleted namespace"));
        return;
    }
    record->state = TN_NS_DELETED;
    record->reclaim = true;
    record->delete_delay_ns = delay > 0 ? (uint64_t)delay : 0;
    tn_front_write_namespace(f, record, f->ns->row_version, deleted);
}
