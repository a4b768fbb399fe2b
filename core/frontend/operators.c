/* SPDX-License-Identifier: MIT */
/* The admin service: what tdbg and its like ask for.  Hosts and rings come from gossip, shards and lists of tasks are
 * read from the store, runs are asked of their owner.  Only system admins get here (auth's rules).  A server without a
 * cluster shows itself as the one host of every role. */
#include "admin/service.pb-c.h"
#include "admin/shards.pb-c.h"
#include "client/shardmap.h"
#include "frontend/admin.h"
#include "frontend/priv.h"
#include "membership/membership.h"
#include "store/store.h"
#include "tenon/store.pb-c.h"

#define REQUEST(f, type) \
    ((const Temporal__Server__Api__Adminservice__V1__##type *)(const void *)(f)->call->request)
#define A(name) (&temporal__server__api__adminservice__v1__##name##__descriptor)
#define MAKE(arena, c_name) make((arena), &c_name##__descriptor)
#define PAGE_MAX 1000
#define RECORD_LIFE_NS (3600 * TN_SEC)

enum { CATEGORY_TIMER = 2, CATEGORY_VISIBILITY = 4 };

static void *make(tn_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = tn_arena_alloc(arena, descriptor->sizeof_message);
    descriptor->message_init(message);
    return message;
}

/* ---- hosts ---- */

/* A server alone: all roles, one address. */
static const tn_member *const *hosts(size_t *out_count)
{
    static tn_member self;
    static const tn_member *alone[] = {&self};
    if (tn_members_on())
        return tn_members_list(out_count);
    *out_count = 1;
    return alone;
}

static bool has_role(const tn_member *member, uint32_t role)
{
    return !tn_members_on() || member->role_ports[role];
}

static char *address_of(tn_arena *arena, const tn_member *member, uint32_t role)
{
    if (!tn_members_on())
        return tn_arena_printf(arena, "%s:%u", tn_frontend.ip, tn_frontend.port);
    return tn_arena_printf(arena, strchr(member->ip, ':') ? "[%s]:%u" : "%s:%u", member->ip,
                           member->role_ports[role]);
}

static uint32_t first_role(const tn_member *member)
{
    uint32_t role = 0;
    while (role + 1 < TN_SERVICE_COUNT && !has_role(member, role))
        role++;
    return role;
}

static Temporal__Server__Api__Cluster__V1__HostInfo *host_info(tn_arena *arena,
                                                               const tn_member *member,
                                                               uint32_t role)
{
    Temporal__Server__Api__Cluster__V1__HostInfo *host =
        MAKE(arena, temporal__server__api__cluster__v1__host_info);
    host->identity = address_of(arena, member, role);
    return host;
}

static Temporal__Server__Api__Cluster__V1__RingInfo *ring_info(tn_arena *arena, uint32_t role)
{
    size_t count;
    const tn_member *const *all = hosts(&count);
    Temporal__Server__Api__Cluster__V1__RingInfo *ring =
        MAKE(arena, temporal__server__api__cluster__v1__ring_info);
    ring->role = (char *)(uintptr_t)tn_service_name(role);
    ring->members = tn_arena_array(arena, count, sizeof(ring->members[0]));
    for (size_t i = 0; i < count; i++)
        if (has_role(all[i], role) && (!tn_members_on() || tn_member_serves(all[i])))
            ring->members[ring->n_members++] = host_info(arena, all[i], role);
    ring->member_count = (int32_t)ring->n_members;
    return ring;
}

static Temporal__Server__Api__Cluster__V1__MembershipInfo *membership_info(tn_arena *arena)
{
    size_t count;
    const tn_member *const *all = hosts(&count);
    Temporal__Server__Api__Cluster__V1__MembershipInfo *info =
        MAKE(arena, temporal__server__api__cluster__v1__membership_info);
    info->reachable_members = tn_arena_array(arena, count, sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        uint32_t role = first_role(all[i]);
        info->reachable_members[info->n_reachable_members++] = address_of(arena, all[i], role);
        if (!tn_members_on() || memcmp(all[i]->host_id, tn_members_self_id(), 16) == 0)
            info->current_host = host_info(arena, all[i], role);
    }
    info->rings = tn_arena_array(arena, TN_SERVICE_COUNT, sizeof(info->rings[0]));
    for (uint32_t role = 0; role < TN_SERVICE_COUNT; role++)
        info->rings[info->n_rings++] = ring_info(arena, role);
    return info;
}

void tn_do_admin_describe_cluster(tn_fcall *f)
{
    tn_arena *arena = f->call->arena;
    const Temporal__Server__Api__Adminservice__V1__DescribeClusterRequest *r =
        REQUEST(f, DescribeClusterRequest);
    Temporal__Server__Api__Adminservice__V1__DescribeClusterResponse *out =
        make(arena, A(describe_cluster_response));
    if (*r->cluster_name && strcmp(r->cluster_name, tn_frontend.cluster_name) != 0) {
        tn_front_fail(
            f, tn_fault_make(arena, TN_GRPC_NOT_FOUND, "cluster %s is not known", r->cluster_name));
        return;
    }
    out->supported_clients =
        tn_arena_array(arena, tn_supported_clients_count, sizeof(out->supported_clients[0]));
    for (size_t i = 0; i < tn_supported_clients_count; i++) {
        Temporal__Server__Api__Adminservice__V1__DescribeClusterResponse__SupportedClientsEntry
            *entry = make(arena, A(describe_cluster_response__supported_clients_entry));
        entry->key = (char *)(uintptr_t)tn_supported_clients[i].name;
        entry->value = (char *)(uintptr_t)tn_supported_clients[i].range;
        out->supported_clients[out->n_supported_clients++] = entry;
    }
    out->server_version = (char *)(uintptr_t)TN_SERVER_VERSION;
    out->version_info = MAKE(arena, temporal__api__version__v1__version_info);
    out->membership_info = membership_info(arena);
    out->cluster_id = (char *)(uintptr_t)tn_frontend.cluster_id;
    out->cluster_name = (char *)(uintptr_t)tn_frontend.cluster_name;
    out->history_shard_count = (int32_t)tn_client_shard_count();
    out->persistence_store = (char *)(uintptr_t)tn_frontend.persistence_name;
    out->visibility_store = (char *)(uintptr_t)tn_frontend.visibility_name;
    out->failover_version_increment = 10;
    out->initial_failover_version = 1;
    tn_front_reply(f, &out->base);
}

/* ---- reading the store ---- */

typedef struct reading {
    tn_fcall *f;
    tn_store_op op;
} reading;

static tn_store_op *read_op(tn_fcall *f, void (*done)(tn_store_op *op))
{
    reading *rd = TN_NEW(f->call->arena, reading);
    rd->f = f;
    rd->op = (tn_store_op){.arena = f->call->arena, .user = rd, .done = done};
    return &rd->op;
}

/* The call behind a finished read; NULL: the read failed and the caller has been told. */
static tn_fcall *read_done(tn_store_op *op)
{
    tn_fcall *f = ((reading *)op->user)->f;
    if (op->status == TN_OK)
        return f;
    tn_front_fail(
        f, op->status == TN_ENOTFOUND
               ? tn_fault_make(f->call->arena, TN_GRPC_NOT_FOUND, "the shard has never been taken")
               : tn_fault_from_status(f->call->arena, op->status, &op->error));
    return NULL;
}

/* ---- members ---- */

static bool wanted(const Temporal__Server__Api__Adminservice__V1__ListClusterMembersRequest *r,
                   const Temporal__Server__Api__Cluster__V1__ClusterMember *m, uint64_t seen_ns)
{
    int64_t within = 0;
    if (r->last_heartbeat_within && tn_ns_from_duration(r->last_heartbeat_within, &within) &&
        within > 0 && seen_ns + (uint64_t)within < tn_now_wall_ns())
        return false;
    return (!r->role || r->role == m->role) &&
           (!*r->host_id || strcmp(r->host_id, m->host_id) == 0) &&
           (!*r->rpc_address || strcmp(r->rpc_address, m->rpc_address) == 0);
}

static void add_member(tn_fcall *f,
                       Temporal__Server__Api__Adminservice__V1__ListClusterMembersResponse *out,
                       const uint8_t host_id[16], const char *ip, uint32_t port, uint32_t role,
                       uint64_t seen_ns)
{
    tn_arena *arena = f->call->arena;
    Temporal__Server__Api__Cluster__V1__ClusterMember *m =
        MAKE(arena, temporal__server__api__cluster__v1__cluster_member);
    const tn_member *known = tn_members_on() ? tn_members_find(host_id) : NULL;
    m->role = (Temporal__Server__Api__Enums__V1__ClusterMemberRole)(role + 1);
    m->host_id = tn_arena_alloc(arena, 37);
    tn_uuid_format(host_id, m->host_id);
    m->rpc_address = tn_arena_strdup(arena, ip);
    m->rpc_port = (int32_t)port;
    m->last_heartbit_time = tn_ts_from_ns(arena, (int64_t)seen_ns);
    m->record_expiry_time = tn_ts_from_ns(arena, (int64_t)(seen_ns + RECORD_LIFE_NS));
    if (known)
        m->session_start_time = tn_ts_from_ns(arena, (int64_t)(known->started_ms * TN_MS));
    if (wanted(REQUEST(f, ListClusterMembersRequest), m, seen_ns))
        out->active_members[out->n_active_members++] = m;
}

static void members_came(tn_store_op *op)
{
    tn_fcall *f = read_done(op);
    if (!f)
        return;
    tn_arena *arena = f->call->arena;
    const tn_page *page = &op->u.scan.page;
    Temporal__Server__Api__Adminservice__V1__ListClusterMembersResponse *out =
        make(arena, A(list_cluster_members_response));
    out->active_members = tn_arena_array(arena, (page->n_rows + 1) * TN_SERVICE_COUNT,
                                         sizeof(out->active_members[0]));
    for (size_t i = 0; i < page->n_rows; i++) {
        Tenon__MemberRecord *record = NULL;
        if (page->rows[i].key.row.n != 16 ||
            tn_proto_unpack(&tenon__member_record__descriptor, page->rows[i].value, arena,
                            (ProtobufCMessage **)(void *)&record, NULL) != TN_OK)
            continue;
        for (uint32_t role = 0; role < record->n_role_ports && role < TN_SERVICE_COUNT; role++)
            if (record->role_ports[role])
                add_member(f, out, page->rows[i].key.row.p, record->ip, record->role_ports[role],
                           role, record->seen_ns);
    }
    static const uint8_t nobody[16];
    for (uint32_t role = 0; !tn_members_on() && role < TN_SERVICE_COUNT; role++)
        add_member(f, out, nobody, tn_frontend.ip, tn_frontend.port, role, tn_now_wall_ns());
    tn_front_reply(f, &out->base);
}

/* All of them in one page: their number is that of processes. */
void tn_do_admin_list_members(tn_fcall *f)
{
    tn_store_op *op = read_op(f, members_came);
    op->u.scan.range = (tn_range){.struct_size = sizeof(tn_range), .limit = 10000};
    op->u.scan.range.from =
        tn_store_key(f->call->arena, TN_TABLE_MEMBER, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    tn_store_scan(op);
}

/* ---- shards ---- */

static bool check_shard(tn_fcall *f, int32_t shard)
{
    if (shard >= 1 && (uint32_t)shard <= tn_client_shard_count())
        return true;
    tn_front_invalid(f, "ShardId %d is not one of 1 to %u.", shard, tn_client_shard_count());
    return false;
}

static void shard_came(tn_store_op *op)
{
    tn_fcall *f = read_done(op);
    Tenon__ShardRecord *record = NULL;
    if (!f)
        return;
    tn_arena *arena = f->call->arena;
    if (tn_proto_unpack(&tenon__shard_record__descriptor, op->u.get.row.value, arena,
                        (ProtobufCMessage **)(void *)&record, &op->error) != TN_OK) {
        tn_front_fail(f, tn_fault_from_status(arena, TN_EDATALOSS, &op->error));
        return;
    }
    Temporal__Server__Api__Adminservice__V1__GetShardResponse *out =
        make(arena, A(get_shard_response));
    out->shard_info = MAKE(arena, temporal__server__api__persistence__v1__shard_info);
    out->shard_info->shard_id = REQUEST(f, GetShardRequest)->shard_id;
    out->shard_info->range_id = (int64_t)record->range_id;
    out->shard_info->owner = record->owner;
    out->shard_info->update_time = tn_ts_from_ns(arena, (int64_t)record->acquired_ns);
    tn_front_reply(f, &out->base);
}

void tn_do_admin_get_shard(tn_fcall *f)
{
    int32_t shard = REQUEST(f, GetShardRequest)->shard_id;
    if (!check_shard(f, shard))
        return;
    tn_store_op *op = read_op(f, shard_came);
    uint32_t partitions = tn_client_partition_count(), place = (uint32_t)shard - 1;
    op->u.get.key = tn_store_key(f->call->arena, TN_TABLE_SHARD, place % partitions + 1,
                                 tn_store_row_shard(f->call->arena, place / partitions));
    tn_store_get(op);
}

void tn_do_admin_close_shard(tn_fcall *f)
{
    int32_t shard = REQUEST(f, CloseShardRequest)->shard_id;
    if (!check_shard(f, shard))
        return;
    tn_client_close_shard((uint32_t)shard);
    tn_front_reply(f, NULL);
}

/* The host that a request means, by a shard, a workflow or its address; NULL and the caller has been told. */
static const tn_member *meant_host(tn_fcall *f)
{
    const Temporal__Server__Api__Adminservice__V1__DescribeHistoryHostRequest *r =
        REQUEST(f, DescribeHistoryHostRequest);
    size_t count;
    bool any = true;
    const tn_member *const *all = hosts(&count), *found = NULL;
    uint32_t shard = (uint32_t)r->shard_id;
    for (size_t i = 0; *r->host_address && i < count && !found; i++)
        if (has_role(all[i], TN_SERVICE_HISTORY) &&
            strcmp(address_of(f->call->arena, all[i], TN_SERVICE_HISTORY), r->host_address) == 0)
            found = all[i];
    if (*r->host_address) {
        if (!found)
            tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_NOT_FOUND,
                                           "no history host has the address %s", r->host_address));
        return found;
    }
    if (r->workflow_execution) {
        f->ns = tn_namespace_by_name(tn_str_from(r->namespace_));
        if (!f->ns) {
            tn_front_fail(f, tn_namespace_not_found(f->call->arena, tn_str_from(r->namespace_)));
            return NULL;
        }
        shard = tn_client_shard_of(f->ns->id, tn_str_from(r->workflow_execution->workflow_id));
    } else if (!check_shard(f, r->shard_id)) {
        return NULL;
    }
    found = tn_client_shard_owner(shard, &any);
    if (!any)
        tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_UNAVAILABLE,
                                       "no history host is known, try again"));
    if (found || !any)
        return found;
    return tn_members_on() ? tn_members_find(tn_members_self_id()) : all[0];
}

static bool owns(const tn_member *host, uint32_t shard)
{
    bool any;
    const tn_member *owner = tn_client_shard_owner(shard, &any);
    if (!tn_members_on())
        return true;
    return any && memcmp(owner ? owner->host_id : tn_members_self_id(), host->host_id, 16) == 0;
}

void tn_do_admin_describe_host(tn_fcall *f)
{
    tn_arena *arena = f->call->arena;
    const tn_member *host = meant_host(f);
    if (!host)
        return;
    Temporal__Server__Api__Adminservice__V1__DescribeHistoryHostResponse *out =
        make(arena, A(describe_history_host_response));
    uint32_t shards = tn_client_shard_count();
    out->address = address_of(arena, host, TN_SERVICE_HISTORY);
    out->shard_ids = tn_arena_array(arena, shards, sizeof(int32_t));
    for (uint32_t id = 1; id <= shards; id++)
        if (owns(host, id))
            out->shard_ids[out->n_shard_ids++] = (int32_t)id;
    out->shards_number = (int32_t)out->n_shard_ids;
    const tn_namespace_list *list = tn_namespace_list_acquire();
    out->namespace_cache = MAKE(arena, temporal__server__api__namespace__v1__namespace_cache_info);
    out->namespace_cache->items_in_cache_by_id_count = (int64_t)list->count;
    out->namespace_cache->items_in_cache_by_name_count = (int64_t)list->count;
    tn_namespace_list_release(list);
    tn_front_reply(f, &out->base);
}

/* ---- tasks of a shard: rows of the wake index, rows of the outbox ---- */

static char *uuid_text(tn_arena *arena, tn_blob id)
{
    char *text = tn_arena_alloc(arena, 37);
    if (id.n == 16)
        tn_uuid_format(id.p, text);
    return text;
}

static Temporal__Server__Api__Adminservice__V1__Task *timer_task(tn_arena *arena, const tn_row *row)
{
    Temporal__Server__Api__Adminservice__V1__Task *task = make(arena, A(task));
    Tenon__Wake *wake = NULL;
    if (row->key.row.n != 24 || tn_proto_unpack(&tenon__wake__descriptor, row->value, arena,
                                                (ProtobufCMessage **)(void *)&wake, NULL) != TN_OK)
        return NULL;
    task->namespace_id = uuid_text(arena, tn_blob_from(wake->ns_id.data, wake->ns_id.len));
    task->workflow_id = wake->workflow_id;
    task->run_id = uuid_text(arena, tn_blob_from(row->key.row.p + 8, 16));
    task->task_type = TEMPORAL__SERVER__API__ENUMS__V1__TASK_TYPE__TASK_TYPE_USER_TIMER;
    task->fire_time = tn_ts_from_ns(arena, (int64_t)tn_get_u64be(row->key.row.p));
    return task;
}

static Temporal__Server__Api__Adminservice__V1__Task *outbox_task(tn_arena *arena,
                                                                  const tn_row *row)
{
    Temporal__Server__Api__Adminservice__V1__Task *task = make(arena, A(task));
    Tenon__Outbox *item = NULL;
    if (row->key.row.n != 8 || tn_proto_unpack(&tenon__outbox__descriptor, row->value, arena,
                                               (ProtobufCMessage **)(void *)&item, NULL) != TN_OK)
        return NULL;
    task->namespace_id = uuid_text(arena, tn_blob_from(item->ns_id.data, item->ns_id.len));
    task->workflow_id = item->workflow_id;
    task->run_id = uuid_text(arena, tn_blob_from(item->run_id.data, item->run_id.len));
    task->task_id = (int64_t)tn_get_u64be(row->key.row.p);
    task->task_type =
        item->remove
            ? TEMPORAL__SERVER__API__ENUMS__V1__TASK_TYPE__TASK_TYPE_VISIBILITY_DELETE_EXECUTION
            : TEMPORAL__SERVER__API__ENUMS__V1__TASK_TYPE__TASK_TYPE_VISIBILITY_UPSERT_EXECUTION;
    task->version = (int64_t)item->doc_version;
    return task;
}

static void tasks_came(tn_store_op *op)
{
    tn_fcall *f = read_done(op);
    if (!f)
        return;
    tn_arena *arena = f->call->arena;
    const tn_page *page = &op->u.scan.page;
    bool timers = REQUEST(f, ListHistoryTasksRequest)->category == CATEGORY_TIMER;
    Temporal__Server__Api__Adminservice__V1__ListHistoryTasksResponse *out =
        make(arena, A(list_history_tasks_response));
    out->tasks = tn_arena_array(arena, page->n_rows, sizeof(out->tasks[0]));
    for (size_t i = 0; i < page->n_rows; i++) {
        Temporal__Server__Api__Adminservice__V1__Task *task =
            timers ? timer_task(arena, &page->rows[i]) : outbox_task(arena, &page->rows[i]);
        if (task &&
            tn_client_shard_of(tn_str_from(task->namespace_id), tn_str_from(task->workflow_id)) ==
                (uint32_t)REQUEST(f, ListHistoryTasksRequest)->shard_id)
            out->tasks[out->n_tasks++] = task;
    }
    if (page->next.n && page->n_rows) { /* the least row behind the last */
        tn_blob last = page->rows[page->n_rows - 1].key.row;
        uint8_t *token = tn_arena_alloc(arena, last.n + 1);
        memcpy(token, last.p, last.n);
        token[last.n] = 0;
        out->next_page_token = (ProtobufCBinaryData){last.n + 1, token};
    }
    tn_front_reply(f, &out->base);
}

static uint64_t bound(const Temporal__Server__Api__History__V1__TaskKey *key, bool timers,
                      uint64_t none)
{
    int64_t ns = 0;
    if (!key)
        return none;
    if (!timers)
        return key->task_id > 0 ? (uint64_t)key->task_id : none;
    return key->fire_time && tn_ns_from_ts(key->fire_time, &ns) && ns > 0 ? (uint64_t)ns : none;
}

void tn_do_admin_list_tasks(tn_fcall *f)
{
    const Temporal__Server__Api__Adminservice__V1__ListHistoryTasksRequest *r =
        REQUEST(f, ListHistoryTasksRequest);
    const Temporal__Server__Api__History__V1__TaskRange *span = r->task_range;
    tn_arena *arena = f->call->arena;
    bool timers = r->category == CATEGORY_TIMER;
    if (!check_shard(f, r->shard_id))
        return;
    if (!timers && r->category != CATEGORY_VISIBILITY) {
        tn_front_invalid(
            f, "Category %d has no rows of its own here: ask for 2 (timers) or 4 (visibility).",
            r->category);
        return;
    }
    if (r->next_page_token.len > 64) {
        tn_front_invalid(f, "Invalid NextPageToken.");
        return;
    }
    uint64_t from = bound(span ? span->inclusive_min_task_key : NULL, timers, 0);
    uint64_t to = bound(span ? span->exclusive_max_task_key : NULL, timers, 0);
    tn_blob first = r->next_page_token.len
                        ? tn_blob_from(r->next_page_token.data, r->next_page_token.len)
                        : tn_store_row_u64(arena, from);
    tn_store_op *op = read_op(f, tasks_came);
    op->u.scan.range =
        (tn_range){.struct_size = sizeof(tn_range),
                   .limit = r->batch_size > 0 && r->batch_size < PAGE_MAX ? (uint32_t)r->batch_size
                                                                          : PAGE_MAX};
    op->u.scan.range.from =
        tn_store_key(arena, timers ? TN_TABLE_WAKE : TN_TABLE_OUTBOX,
                     ((uint32_t)r->shard_id - 1) % tn_client_partition_count() + 1, first);
    if (to)
        op->u.scan.range.to_row = tn_store_row_u64(arena, to);
    tn_store_scan(op);
}

static void shards_set(tn_shardmap_change *change)
{
    tn_fcall *f = change->user;
    Tenon__Admin__V1__SetShardsResponse *out =
        make(change->arena, &tenon__admin__v1__set_shards_response__descriptor);
    out->partitions = change->partitions;
    out->before = change->before;
    out->version = change->version;
    size_t count;
    const tn_member *const *all = hosts(&count);
    for (size_t i = 0; i < count; i++)
        out->history_hosts +=
            has_role(all[i], TN_SERVICE_HISTORY) && (!tn_members_on() || tn_member_serves(all[i]));
    if (change->fault)
        tn_front_fail(f, change->fault);
    else
        tn_front_reply(f, &out->base);
}

void tn_do_admin_set_shards(tn_fcall *f)
{
    const Tenon__Admin__V1__SetShardsRequest *r = (const void *)f->call->request;
    tn_shardmap_change *change = TN_NEW(f->call->arena, tn_shardmap_change);
    *change = (tn_shardmap_change){.arena = f->call->arena,
                                   .shards = r->shards,
                                   .dry_run = r->dry_run,
                                   .done = shards_set,
                                   .user = f};
    tn_shardmap_change_to(change);
}

/* ---- runs ---- */

void tn_do_admin_mutable_state(tn_fcall *f)
{
    const Temporal__Server__Api__Adminservice__V1__DescribeMutableStateRequest *r =
        REQUEST(f, DescribeMutableStateRequest);
    const tn_fault *fault = tn_front_check_execution(f->call->arena, r->execution);
    if (!fault)
        fault = tn_admin_check_archetype(f->call->arena, r->archetype, r->archetype_id,
                                         r->execution->workflow_id);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_history(f, TN_HOP_MUTABLE_STATE, r->execution->workflow_id, r->execution->run_id,
                         &r->base);
}

void tn_do_admin_refresh_tasks(tn_fcall *f)
{
    const Temporal__Server__Api__Adminservice__V1__RefreshWorkflowTasksRequest *r =
        REQUEST(f, RefreshWorkflowTasksRequest);
    const tn_fault *fault = tn_front_check_execution(f->call->arena, r->execution);
    if (!fault)
        fault = tn_admin_check_archetype(f->call->arena, r->archetype, r->archetype_id,
                                         r->execution->workflow_id);
    f->ns = fault ? NULL : tn_namespace_by_id(tn_str_from(r->namespace_id));
    if (!fault && !f->ns)
        fault = tn_namespace_not_found(f->call->arena, tn_str_from(r->namespace_id));
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_history(f, TN_HOP_REFRESH, r->execution->workflow_id, r->execution->run_id,
                         &r->base);
}

/* ---- health ---- */

#define SERVING TEMPORAL__SERVER__API__ENUMS__V1__HEALTH_STATE__HEALTH_STATE_SERVING
#define NOT_SERVING TEMPORAL__SERVER__API__ENUMS__V1__HEALTH_STATE__HEALTH_STATE_NOT_SERVING

static Temporal__Server__Api__Health__V1__HealthCheck *check(tn_arena *arena, const char *type,
                                                             bool well, double value,
                                                             const char *message)
{
    Temporal__Server__Api__Health__V1__HealthCheck *c =
        MAKE(arena, temporal__server__api__health__v1__health_check);
    c->check_type = (char *)(uintptr_t)type;
    c->state = well ? SERVING : NOT_SERVING;
    c->value = value;
    c->message = (char *)(uintptr_t)message;
    return c;
}

static Temporal__Server__Api__Health__V1__HostHealthDetail *host_health(tn_arena *arena,
                                                                        const tn_member *host,
                                                                        uint32_t role)
{
    Temporal__Server__Api__Health__V1__HostHealthDetail *out =
        MAKE(arena, temporal__server__api__health__v1__host_health_detail);
    bool answers = !tn_members_on() || host->state == TN_MEMBER_ALIVE,
         stays = !tn_members_on() || !host->draining;
    out->address = address_of(arena, host, role);
    out->state = answers && stays ? SERVING : NOT_SERVING;
    out->checks = tn_arena_array(arena, 2, sizeof(out->checks[0]));
    out->checks[out->n_checks++] =
        check(arena, "gossip", answers, 0, answers ? "" : "it does not answer");
    if (!stays)
        out->checks[out->n_checks++] = check(arena, "draining", false, 0, "it is about to end");
    return out;
}

static Temporal__Server__Api__Health__V1__ServiceHealthDetail *role_health(tn_arena *arena,
                                                                           uint32_t role)
{
    size_t count;
    const tn_member *const *all = hosts(&count);
    Temporal__Server__Api__Health__V1__ServiceHealthDetail *out =
        MAKE(arena, temporal__server__api__health__v1__service_health_detail);
    out->service = (char *)(uintptr_t)tn_service_name(role);
    out->hosts = tn_arena_array(arena, count, sizeof(out->hosts[0]));
    out->state = NOT_SERVING;
    for (size_t i = 0; i < count; i++) {
        if (!has_role(all[i], role))
            continue;
        out->hosts[out->n_hosts] = host_health(arena, all[i], role);
        if (out->hosts[out->n_hosts++]->state == SERVING)
            out->state = SERVING;
    }
    if (out->state != SERVING)
        out->message = (char *)(uintptr_t) "no host of this role serves";
    return out;
}

typedef struct deep {
    tn_fcall *f;
    uint64_t since_ns;
    tn_store_op op;
} deep;

/* A read of the cluster's own row tells whether the store answers, and how fast. */
static void store_answered(tn_store_op *op)
{
    deep *d = op->user;
    tn_arena *arena = d->f->call->arena;
    Temporal__Server__Api__Adminservice__V1__DeepHealthCheckResponse *out =
        make(arena, A(deep_health_check_response));
    out->services = tn_arena_array(arena, TN_SERVICE_COUNT + 1, sizeof(out->services[0]));
    out->state = op->status == TN_OK ? SERVING : NOT_SERVING;
    for (uint32_t role = 0; role < TN_SERVICE_COUNT; role++) {
        out->services[out->n_services] = role_health(arena, role);
        if (out->services[out->n_services++]->state != SERVING)
            out->state = NOT_SERVING;
    }
    Temporal__Server__Api__Health__V1__ServiceHealthDetail *store =
        MAKE(arena, temporal__server__api__health__v1__service_health_detail);
    Temporal__Server__Api__Health__V1__HostHealthDetail *seen =
        MAKE(arena, temporal__server__api__health__v1__host_health_detail);
    double ms = (double)(tn_now_mono_ns() - d->since_ns) / 1e6;
    store->service = (char *)(uintptr_t) "persistence";
    seen->address = (char *)(uintptr_t)tn_frontend.persistence_name;
    seen->state = store->state = op->status == TN_OK ? SERVING : NOT_SERVING;
    seen->checks = tn_arena_array(arena, 1, sizeof(seen->checks[0]));
    seen->checks[seen->n_checks++] = check(arena, "read_latency_ms", op->status == TN_OK, ms,
                                           op->status == TN_OK ? "" : op->error.text);
    store->hosts = tn_arena_array(arena, 1, sizeof(store->hosts[0]));
    store->hosts[store->n_hosts++] = seen;
    out->services[out->n_services++] = store;
    tn_front_reply(d->f, &out->base);
}

void tn_do_admin_deep_health(tn_fcall *f)
{
    deep *d = TN_NEW(f->call->arena, deep);
    *d = (deep){.f = f, .since_ns = tn_now_mono_ns()};
    d->op = (tn_store_op){
        .arena = f->call->arena, .user = d, .done = store_answered, .timeout_ns = 2 * TN_SEC};
    d->op.u.get.key = tn_store_key(f->call->arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                                   tn_blob_of_str(TN_STR("cluster")));
    tn_store_get(&d->op);
}
