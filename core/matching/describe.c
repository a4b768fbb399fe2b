/* SPDX-License-Identifier: MIT */
/* What DescribeTaskQueue and ListTaskQueuePartitions show of a queue, in both of the API's modes. */
#include "matching/priv.h"

#include "client/partition.h"
#include "proto/proto.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__DescribeTaskQueueRequest describe_request;
typedef Temporal__Api__Workflowservice__V1__DescribeTaskQueueResponse describe_response;
typedef Temporal__Api__Workflowservice__V1__DescribeTaskQueueResponse__StatsByPriorityKeyEntry
    priority_entry;
typedef Temporal__Api__Taskqueue__V1__PollerInfo poller_info;
typedef Temporal__Api__Taskqueue__V1__TaskQueueStats stats_info;

/* What is shown of a queue: its unversioned line and those of all versions, or one of them. */
typedef struct lines {
    const tn_tq *plain; /* NULL: there is none */
    const tn_tq *one;   /* only that; NULL with `only`: it does not exist */
    bool only;
} lines;

static lines all_lines(const tn_tq *plain) { return (lines){.plain = plain}; }

static lines one_line(const tn_tq *plain, tn_dver version)
{
    lines out = {.plain = plain, .only = true};
    if (!tn_dver_is(version))
        out.one = plain;
    else if (plain)
        TN_LIST_FOREACH (link, &plain->versions)
            if (tn_dver_eq(TN_CONTAINER_OF(link, tn_tq, in_versions)->version, version))
                out.one = TN_CONTAINER_OF(link, tn_tq, in_versions);
    return out;
}

static void each_line(const lines *l, void (*each)(void *user, const tn_tq *tq), void *user)
{
    const tn_tq *first = l->only ? l->one : l->plain;
    if (first)
        each(user, first);
    if (l->only || !l->plain)
        return;
    TN_LIST_FOREACH (link, &l->plain->versions)
        each(user, TN_CONTAINER_OF(link, tn_tq, in_versions));
}

static void show_options(tn_arena *arena, const tn_poller_seen *seen, poller_info *info)
{
    if (!seen->mode)
        return;
    info->deployment_options = tn_arena_alloc(arena, sizeof(*info->deployment_options));
    temporal__api__deployment__v1__worker_deployment_options__init(info->deployment_options);
    info->deployment_options->deployment_name = tn_arena_strdup(arena, seen->deployment);
    info->deployment_options->build_id = tn_arena_strdup(arena, seen->build_id);
    info->deployment_options->worker_versioning_mode =
        (Temporal__Api__Enums__V1__WorkerVersioningMode)seen->mode;
}

static poller_info **pollers_of_one(const tn_tq *tq, tn_arena *arena, size_t *out_count)
{
    *out_count = 0;
    if (!tq || !tq->n_pollers)
        return NULL;
    poller_info **out = TN_NEW_ARRAY(arena, poller_info *, tq->n_pollers);
    uint64_t wall = tn_now_wall_ns();
    for (tn_list *link = tq->pollers.prev; link != &tq->pollers;
         link = link->prev) { /* newest first */
        const tn_poller_seen *seen = TN_CONTAINER_OF(link, tn_poller_seen, link);
        if (seen->last_wall_ns + tn_tq_number(tq, TN_DYN_MATCHING_POLLER_TTL) < wall)
            continue;
        poller_info *info = tn_arena_alloc(arena, sizeof(*info));
        temporal__api__taskqueue__v1__poller_info__init(info);
        info->identity = tn_arena_strdup(arena, seen->identity);
        info->last_access_time = tn_ts_from_ns(arena, (int64_t)seen->last_wall_ns);
        info->rate_per_second = seen->rate > 0 ? seen->rate : 100000;
        show_options(arena, seen, info);
        out[(*out_count)++] = info;
    }
    return out;
}

typedef struct pollers_sum {
    tn_arena *arena;
    poller_info **items;
    size_t count;
} pollers_sum;

static void add_pollers_of(void *user, const tn_tq *tq)
{
    pollers_sum *sum = user;
    size_t n;
    poller_info **more = pollers_of_one(tq, sum->arena, &n);
    if (!sum->count) {
        sum->items = more;
        sum->count = n;
        return;
    }
    poller_info **both = TN_NEW_ARRAY(sum->arena, poller_info *, sum->count + n);
    memcpy(both, sum->items, sum->count * sizeof(both[0]));
    for (size_t i = 0; i < n; i++)
        both[sum->count++] = more[i];
    sum->items = both;
}

static poller_info **pollers_of(lines l, tn_arena *arena, size_t *out_count)
{
    pollers_sum sum = {.arena = arena};
    each_line(&l, add_pollers_of, &sum);
    *out_count = sum.count;
    return sum.items;
}

typedef struct stats_sum {
    stats_info *out;
    uint32_t priority;
    uint64_t age_ns;
} stats_sum;

static void add_stats_of(void *user, const tn_tq *tq)
{
    stats_sum *sum = user;
    stats_info *out = sum->out;
    uint64_t now = tn_now_mono_ns(), oldest = tn_backlog_oldest_ns(&tq->backlog, sum->priority);
    uint64_t age_ns = oldest < now ? now - oldest : 0;
    out->approximate_backlog_count += (int64_t)tn_backlog_count(&tq->backlog, sum->priority);
    out->tasks_add_rate += tn_tq_rate(tq, sum->priority, false);
    out->tasks_dispatch_rate += tn_tq_rate(tq, sum->priority, true);
    out->rate_limiting_active = out->rate_limiting_active || tn_rates_limited(tq);
    sum->age_ns = age_ns > sum->age_ns ? age_ns : sum->age_ns;
}

/* Of one priority, or of all (0). */
static stats_info *stats_of(lines l, uint32_t priority, tn_arena *arena)
{
    stats_sum sum = {.out = tn_arena_alloc(arena, sizeof(*sum.out)), .priority = priority};
    temporal__api__taskqueue__v1__task_queue_stats__init(sum.out);
    each_line(&l, add_stats_of, &sum);
    sum.out->approximate_backlog_age = tn_duration_from_ns(arena, (int64_t)sum.age_ns);
    return sum.out;
}

poller_info **tn_tq_pollers(const tn_tq *tq, tn_arena *arena, size_t *out_count)
{
    return pollers_of_one(tq, arena, out_count);
}

stats_info *tn_tq_stats(const tn_tq *tq, uint32_t priority, tn_arena *arena)
{
    return stats_of((lines){.one = tq, .only = true}, priority, arena);
}

/* The default priority always, the others where something is or has been. */
static void stats_by_priority(lines tq, tn_arena *arena, describe_response *out)
{
    out->stats_by_priority_key = TN_NEW_ARRAY(arena, priority_entry *, TN_PRIORITIES);
    for (uint32_t priority = 1; priority <= TN_PRIORITIES; priority++) {
        stats_info *stats = stats_of(tq, priority, arena);
        if (priority != TN_PRIORITY_DEFAULT && !stats->approximate_backlog_count &&
            stats->tasks_add_rate <= 0 && stats->tasks_dispatch_rate <= 0)
            continue;
        priority_entry *entry = tn_arena_alloc(arena, sizeof(*entry));
        temporal__api__workflowservice__v1__describe_task_queue_response__stats_by_priority_key_entry__init(
            entry);
        entry->key = (int32_t)priority;
        entry->value = stats;
        out->stats_by_priority_key[out->n_stats_by_priority_key++] = entry;
    }
}

static Temporal__Api__Taskqueue__V1__TaskQueueStatus *status_of(const tn_tq *tq, tn_arena *arena)
{
    Temporal__Api__Taskqueue__V1__TaskQueueStatus *out = tn_arena_alloc(arena, sizeof(*out));
    temporal__api__taskqueue__v1__task_queue_status__init(out);
    int32_t source;
    out->backlog_count_hint = tq ? (int64_t)tq->backlog.count : 0;
    out->rate_per_second = tq ? tn_rates_limit(tq, &source) : TN_RATE_NONE;
    out->task_id_block = tn_arena_alloc(arena, sizeof(*out->task_id_block));
    temporal__api__taskqueue__v1__task_id_block__init(out->task_id_block);
    return out;
}

static void settings_of(const tn_tq *tq, const describe_request *request, tn_arena *arena,
                        describe_response *out)
{
    int32_t source = 0;
    if (request->report_config)
        out->config =
            (Temporal__Api__Taskqueue__V1__TaskQueueConfig *)(uintptr_t)tn_tq_config_message(tq,
                                                                                             arena);
    out->effective_rate_limit = tn_arena_alloc(arena, sizeof(*out->effective_rate_limit));
    temporal__api__workflowservice__v1__describe_task_queue_response__effective_rate_limit__init(
        out->effective_rate_limit);
    out->effective_rate_limit->requests_per_second = (float)tn_rates_limit(tq, &source);
    out->effective_rate_limit->rate_limit_source =
        (Temporal__Api__Enums__V1__RateLimitSource)source;
}

/* The enhanced mode: a map of versions, the unversioned one is "". */
static void describe_version(tn_mloop *ml, tn_mreq *req, const describe_request *request,
                             char *name, describe_response *out)
{
    tn_arena *arena = req->arena;
    tn_dver version = {0};
    bool known = !*name || tn_dver_parse(tn_str_from(name), &version);
    Temporal__Api__Taskqueue__V1__TaskQueueVersionInfo *info = tn_arena_alloc(arena, sizeof(*info));
    temporal__api__taskqueue__v1__task_queue_version_info__init(info);
    size_t n = request->n_task_queue_types ? request->n_task_queue_types : 2;
    info->types_info = TN_NEW_ARRAY(
        arena, Temporal__Api__Taskqueue__V1__TaskQueueVersionInfo__TypesInfoEntry *, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t type = request->n_task_queue_types ? (uint32_t)request->task_queue_types[i]
                                                    : (uint32_t)(i + 1);
        lines tq = one_line(known ? tn_tq_find(ml, req->ns, req->queue, type) : NULL, version);
        Temporal__Api__Taskqueue__V1__TaskQueueVersionInfo__TypesInfoEntry *entry =
            tn_arena_alloc(arena, sizeof(*entry));
        temporal__api__taskqueue__v1__task_queue_version_info__types_info_entry__init(entry);
        entry->key = (int32_t)type;
        entry->value = tn_arena_alloc(arena, sizeof(*entry->value));
        temporal__api__taskqueue__v1__task_queue_type_info__init(entry->value);
        if (request->report_pollers)
            entry->value->pollers = pollers_of(tq, arena, &entry->value->n_pollers);
        if (request->report_stats)
            entry->value->stats = stats_of(tq, 0, arena);
        info->types_info[info->n_types_info++] = entry;
    }
    Temporal__Api__Workflowservice__V1__DescribeTaskQueueResponse__VersionsInfoEntry *item =
        tn_arena_alloc(arena, sizeof(*item));
    temporal__api__workflowservice__v1__describe_task_queue_response__versions_info_entry__init(
        item);
    item->key = name;
    item->value = info;
    out->versions_info[out->n_versions_info++] = item;
}

static void describe_versions(tn_mloop *ml, tn_mreq *req, const describe_request *request,
                              describe_response *out)
{
    const Temporal__Api__Taskqueue__V1__TaskQueueVersionSelection *wanted = request->versions;
    size_t n = wanted ? wanted->n_build_ids : 0;
    out->versions_info = TN_NEW_ARRAY(
        req->arena,
        Temporal__Api__Workflowservice__V1__DescribeTaskQueueResponse__VersionsInfoEntry *, n + 1);
    for (size_t i = 0; i < n; i++)
        describe_version(ml, req, request, wanted->build_ids[i], out);
    if (!n || wanted->unversioned)
        describe_version(ml, req, request, (char *)(uintptr_t) "", out);
}

static Temporal__Api__Taskqueue__V1__TaskQueueVersioningInfo *versioning_of(const tn_mreq *req,
                                                                            uint32_t type)
{
    tn_arena *arena = req->arena;
    Temporal__Api__Taskqueue__V1__TaskQueueVersioningInfo *out =
        tn_arena_alloc(arena, sizeof(*out));
    temporal__api__taskqueue__v1__task_queue_versioning_info__init(out);
    const tn_routing *r = tn_deployment_routing(req->ns->id, req->queue, type);
    out->current_version = (char *)"__unversioned__";
    if (!r)
        return out;
    uint64_t changed_ns = r->current_changed_ns;
    out->current_version = tn_dver_text_old(arena, r->current);
    out->current_deployment_version = tn_dver_message(arena, r->current);
    if (r->ramps) {
        out->ramping_version = tn_dver_text_old(arena, r->ramping);
        out->ramping_deployment_version = tn_dver_message(arena, r->ramping);
        out->ramping_version_percentage = r->percentage;
        changed_ns = r->ramping_changed_ns > changed_ns ? r->ramping_changed_ns : changed_ns;
    }
    out->update_time = tn_ts_from_ns(arena, (int64_t)changed_ns);
    return out;
}

static uint32_t partitions_of(const tn_mreq *req, uint32_t type)
{
    uint32_t index;
    tn_str base = tn_partition_base(req->queue, &index);
    uint32_t read = tn_partitions_read(req->ns->name, base, type),
             write = tn_partitions_write(req->ns->name, base, type);
    return req->sticky ? 1 : read > write ? read : write;
}

/* The legacy mode; false: it is served again when the queue's settings are known. */
static bool describe_one(tn_mloop *ml, tn_mreq *req, const describe_request *request,
                         describe_response *out)
{
    tn_arena *arena = req->arena;
    uint32_t type =
        request->task_queue_type ? (uint32_t)request->task_queue_type : TN_TASK_WORKFLOW;
    tn_tq *tq = req->forwarded ? tn_tq_find(ml, req->ns, req->queue, type)
                               : tn_tq_get(ml, req->ns, req->queue, type, req->sticky);
    if (tq && !req->forwarded && tn_tq_config_wait(tq, req))
        return false;
    out->pollers = pollers_of(all_lines(tq), arena, &out->n_pollers);
    if (!req->sticky)
        out->versioning_info = versioning_of(req, type);
    if (request->include_task_queue_status)
        out->task_queue_status = status_of(tq, arena);
    if (request->report_stats) {
        out->stats = stats_of(all_lines(tq), 0, arena);
        stats_by_priority(all_lines(tq), arena, out);
    }
    if (!req->forwarded)
        settings_of(tq, request, arena, out);
    return true;
}

void tn_match_describe(tn_mloop *ml, tn_mreq *req)
{
    const describe_request *request = (const describe_request *)req->request;
    uint32_t index;
    (void)tn_partition_base(req->queue, &index);
    tn_arena_set_limit(req->arena, 0);
    describe_response *out = tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__describe_task_queue_response__init(out);
    if ((int)request->api_mode == 1) {
        describe_versions(ml, req, request, out);
    } else if (index && request->report_stats && !req->forwarded) {
        req->fault =
            tn_fault_make(req->arena, TN_GRPC_INVALID_ARGUMENT,
                          "DescribeTaskQueue stats are only supported for the root partition");
        tn_client_matching_done(req);
        return;
    } else if (!describe_one(ml, req, request, out)) {
        return;
    }
    req->response = &out->base;
    uint32_t workflow = partitions_of(req, TN_TASK_WORKFLOW),
             activity = partitions_of(req, TN_TASK_ACTIVITY);
    uint32_t partitions = workflow > activity ? workflow : activity;
    if (partitions > 1 && !req->forwarded && !req->sticky && !index)
        tn_match_gather(ml, req, partitions);
    else
        tn_client_matching_done(req);
}

static char *host_of(tn_mreq *req, tn_str partition)
{
    const char *other = tn_client_queue_host(req->arena, req->ns->id, partition);
    return tn_arena_strdup(req->arena, other ? other : tn_matching_host_name());
}

static Temporal__Api__Taskqueue__V1__TaskQueuePartitionMetadata **list_of(tn_mreq *req, size_t n)
{
    tn_arena *arena = req->arena;
    Temporal__Api__Taskqueue__V1__TaskQueuePartitionMetadata **list =
        TN_NEW_ARRAY(arena, Temporal__Api__Taskqueue__V1__TaskQueuePartitionMetadata *, n);
    for (uint32_t i = 0; i < n; i++) {
        Temporal__Api__Taskqueue__V1__TaskQueuePartitionMetadata *one =
            tn_arena_alloc(arena, sizeof(*one));
        temporal__api__taskqueue__v1__task_queue_partition_metadata__init(one);
        tn_str name = tn_partition_name(arena, req->queue, i);
        one->key = (char *)(uintptr_t)name.p;
        one->owner_host_name = host_of(req, name);
        list[i] = one;
    }
    return list;
}

void tn_match_partitions(tn_mloop *ml, tn_mreq *req)
{
    (void)ml;
    Temporal__Api__Workflowservice__V1__ListTaskQueuePartitionsResponse *out =
        tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__list_task_queue_partitions_response__init(out);
    tn_arena_set_limit(req->arena, 0);
    out->n_activity_task_queue_partitions = partitions_of(req, TN_TASK_ACTIVITY);
    out->activity_task_queue_partitions = list_of(req, out->n_activity_task_queue_partitions);
    out->n_workflow_task_queue_partitions = partitions_of(req, TN_TASK_WORKFLOW);
    out->workflow_task_queue_partitions = list_of(req, out->n_workflow_task_queue_partitions);
    req->response = &out->base;
    tn_client_matching_done(req);
}
