/* SPDX-License-Identifier: MIT */
/* What operators ask of a partition of a task queue: who polls it and what waits, its tasks one by one, and that it be
 * unloaded.  Asking makes no queue: one that is not in memory has nothing. */
#include "admin/service.pb-c.h"
#include "matching/priv.h"
#include "proto/proto.h"

#define PAGE_MAX 1000u

typedef Temporal__Server__Api__Adminservice__V1__DescribeTaskQueuePartitionRequest describe_request;
typedef Temporal__Server__Api__Adminservice__V1__DescribeTaskQueuePartitionResponse
    describe_response;
typedef Temporal__Server__Api__Adminservice__V1__DescribeTaskQueuePartitionResponse__VersionsInfoInternalEntry
    version_entry;
typedef Temporal__Server__Api__Adminservice__V1__ForceUnloadTaskQueuePartitionResponse
    unload_response;
typedef Temporal__Server__Api__Adminservice__V1__GetTaskQueueTasksRequest tasks_request;
typedef Temporal__Server__Api__Adminservice__V1__GetTaskQueueTasksResponse tasks_response;
typedef Temporal__Server__Api__Persistence__V1__AllocatedTaskInfo task_info;
typedef Temporal__Server__Api__Taskqueue__V1__PhysicalTaskQueueInfo physical_info;
typedef Temporal__Server__Api__Taskqueue__V1__PhysicalTaskQueueInfo__TaskQueueStatsByPriorityKeyEntry
    priority_entry;

#define A(name) (&temporal__server__api__adminservice__v1__##name##__descriptor)
#define NEW(arena, c_name) make((arena), &temporal__server__api__##c_name##__descriptor)

static void *make(tn_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = tn_arena_alloc(arena, descriptor->sizeof_message);
    descriptor->message_init(message);
    return message;
}

/* ---- description ---- */

static void stats_by_priority(const tn_tq *tq, tn_arena *arena, physical_info *out)
{
    out->task_queue_stats_by_priority_key = TN_NEW_ARRAY(arena, priority_entry *, TN_PRIORITIES);
    for (uint32_t priority = 1; priority <= TN_PRIORITIES; priority++) {
        if (priority != TN_PRIORITY_DEFAULT && (!tq || !tn_backlog_count(&tq->backlog, priority)))
            continue;
        priority_entry *entry = NEW(
            arena, taskqueue__v1__physical_task_queue_info__task_queue_stats_by_priority_key_entry);
        entry->key = (int32_t)priority;
        entry->value = tn_tq_stats(tq, priority, arena);
        out->task_queue_stats_by_priority_key[out->n_task_queue_stats_by_priority_key++] = entry;
    }
}

static physical_info *describe_line(const tn_tq *tq, tn_arena *arena)
{
    physical_info *out = NEW(arena, taskqueue__v1__physical_task_queue_info);
    Temporal__Server__Api__Taskqueue__V1__InternalTaskQueueStatus *status =
        NEW(arena, taskqueue__v1__internal_task_queue_status);
    out->pollers = tn_tq_pollers(tq, arena, &out->n_pollers);
    out->task_queue_stats = tn_tq_stats(tq, 0, arena);
    stats_by_priority(tq, arena, out);
    status->loaded_tasks = tq ? (int64_t)tq->backlog.count : 0;
    status->approximate_backlog_count = status->loaded_tasks;
    status->backlog_drained = !status->loaded_tasks;
    out->internal_task_queue_status =
        tn_arena_array(arena, 1, sizeof(out->internal_task_queue_status[0]));
    out->internal_task_queue_status[out->n_internal_task_queue_status++] = status;
    return out;
}

static const tn_tq *line_of(const tn_tq *plain, const char *name)
{
    tn_dver version;
    if (!plain || !tn_dver_parse(tn_str_from(name), &version))
        return NULL;
    TN_LIST_FOREACH (link, &plain->versions) {
        const tn_tq *tq = TN_CONTAINER_OF(link, tn_tq, in_versions);
        if (tn_dver_eq(tq->version, version))
            return tq;
    }
    return NULL;
}

static void add_line(describe_response *out, tn_arena *arena, char *name, const tn_tq *tq)
{
    version_entry *entry =
        NEW(arena,
            adminservice__v1__describe_task_queue_partition_response__versions_info_internal_entry);
    for (size_t i = 0; i < out->n_versions_info_internal; i++)
        if (strcmp(out->versions_info_internal[i]->key, name) == 0)
            return;
    entry->key = name;
    entry->value = NEW(arena, taskqueue__v1__task_queue_version_info_internal);
    entry->value->physical_task_queue_info = describe_line(tq, arena);
    out->versions_info_internal[out->n_versions_info_internal++] = entry;
}

static ProtobufCMessage *describe(const tn_tq *tq, const tn_mreq *req)
{
    const describe_request *request = (const describe_request *)req->request;
    const Temporal__Api__Taskqueue__V1__TaskQueueVersionSelection *wanted = request->build_ids;
    tn_arena *arena = req->arena;
    describe_response *out = make(arena, A(describe_task_queue_partition_response));
    bool all = wanted && wanted->all_active && tq;
    size_t n = 1 + (wanted ? wanted->n_build_ids : 0);
    if (all)
        TN_LIST_FOREACH (link, &tq->versions)
            n++;
    out->versions_info_internal = TN_NEW_ARRAY(arena, version_entry *, n);
    if (!wanted || wanted->unversioned || req->sticky)
        add_line(out, arena, (char *)(uintptr_t) "", tq);
    for (size_t i = 0; wanted && !req->sticky && i < wanted->n_build_ids; i++)
        add_line(out, arena, wanted->build_ids[i], line_of(tq, wanted->build_ids[i]));
    if (all)
        TN_LIST_FOREACH (link, &tq->versions) {
            const tn_tq *line = TN_CONTAINER_OF(link, tn_tq, in_versions);
            add_line(out, arena, tn_dver_text(arena, line->version), line);
        }
    return &out->base;
}

/* ---- tasks ---- */

typedef struct listing {
    tn_arena *arena;
    const tn_namespace *ns;
    const tasks_request *request;
    tasks_response *out;
    uint64_t at; /* of the task that is looked at: its place in the line, from 1 */
    uint64_t from;
    size_t most;
    uint64_t mono_ns, wall_ns;
    bool more;
} listing;

static Temporal__Api__Common__V1__Priority *priority_of(tn_arena *arena, const tn_wtask *task)
{
    Temporal__Api__Common__V1__Priority *out =
        make(arena, &temporal__api__common__v1__priority__descriptor);
    out->priority_key = task->priority;
    out->fairness_weight = task->weight;
    out->fairness_key = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(tn_wtask_fairness_key(task)));
    return out;
}

static bool list_one(void *user, const tn_wtask *task)
{
    listing *l = user;
    tn_arena *arena = l->arena;
    int64_t max = l->request->max_task_id;
    if (++l->at < l->from ||
        (l->request->min_task_id > 0 && l->at < (uint64_t)l->request->min_task_id))
        return true;
    if (max > 0 && l->at >= (uint64_t)max)
        return false;
    if (l->out->n_tasks == l->most) {
        l->more = true;
        return false;
    }
    task_info *info = NEW(arena, persistence__v1__allocated_task_info);
    Temporal__Server__Api__Persistence__V1__TaskInfo *data = NEW(arena, persistence__v1__task_info);
    uint64_t age_ns =
        l->mono_ns > task->ref.created_mono_ns ? l->mono_ns - task->ref.created_mono_ns : 0;
    data->namespace_id = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(l->ns->id));
    data->workflow_id = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(tn_wtask_workflow_id(task)));
    data->run_id = tn_arena_alloc(arena, 37);
    tn_uuid_format(task->ref.run_id, data->run_id);
    data->scheduled_event_id = task->ref.scheduled_id;
    data->create_time = tn_ts_from_ns(arena, (int64_t)(l->wall_ns - age_ns));
    if (task->expire_mono_ns != UINT64_MAX)
        data->expiry_time =
            tn_ts_from_ns(arena, (int64_t)(l->wall_ns + (task->expire_mono_ns > l->mono_ns
                                                             ? task->expire_mono_ns - l->mono_ns
                                                             : 0)));
    data->stamp = (int32_t)(task->ref.stamp & INT32_MAX);
    data->priority = priority_of(arena, task);
    info->data = data;
    info->task_id = (int64_t)l->at;
    l->out->tasks[l->out->n_tasks++] = info;
    return true;
}

static void list_line(listing *l, const tn_tq *tq)
{
    if (!l->more)
        tn_backlog_each(&tq->backlog, list_one, l);
}

/* The line moves between pages: a task may be seen twice or not at all, as in any list of what is being worked off. */
static ProtobufCMessage *list(const tn_tq *tq, const tn_mreq *req)
{
    const tasks_request *request = (const tasks_request *)req->request;
    tn_arena *arena = req->arena;
    listing l = {.arena = arena,
                 .ns = req->ns,
                 .request = request,
                 .out = make(arena, A(get_task_queue_tasks_response)),
                 .from = 1,
                 .most = request->batch_size > 0 && (uint32_t)request->batch_size < PAGE_MAX
                             ? (size_t)request->batch_size
                             : PAGE_MAX,
                 .mono_ns = tn_now_mono_ns(),
                 .wall_ns = tn_now_wall_ns()};
    if (request->next_page_token.len == 8)
        l.from = tn_get_u64be(request->next_page_token.data);
    if (!tq || request->subqueue)
        return &l.out->base;
    l.out->tasks = TN_NEW_ARRAY(arena, task_info *, l.most);
    list_line(&l, tq);
    TN_LIST_FOREACH (link, &tq->versions)
        list_line(&l, TN_CONTAINER_OF(link, tn_tq, in_versions));
    if (l.more) {
        uint8_t *token = tn_arena_alloc(arena, 8);
        tn_put_u64be(token, l.at);
        l.out->next_page_token = (ProtobufCBinaryData){8, token};
    }
    return &l.out->base;
}

/* ---- unloading ---- */

static ProtobufCMessage *unload(tn_tq *tq, const tn_mreq *req)
{
    unload_response *out = make(req->arena, A(force_unload_task_queue_partition_response));
    out->was_loaded = tq != NULL;
    if (!tq)
        return &out->base;
    TN_LIST_FOREACH_SAFE (link, &tq->versions)
        tn_tq_unload(TN_CONTAINER_OF(link, tn_tq, in_versions));
    tn_tq_unload(tq);
    return &out->base;
}

void tn_match_admin(tn_mloop *ml, tn_mreq *req)
{
    const ProtobufCMessageDescriptor *asked = req->request ? req->request->descriptor : NULL;
    tn_tq *tq = tn_tq_find(ml, req->ns, req->queue, req->type);
    tn_arena_set_limit(req->arena, 0);
    if (asked == A(describe_task_queue_partition_request))
        req->response = describe(tq, req);
    else if (asked == A(get_task_queue_tasks_request))
        req->response = list(tq, req);
    else if (asked == A(force_unload_task_queue_partition_request) && !ml->stopping)
        req->response = unload(tq, req);
    else
        req->fault = tn_fault_make(req->arena, TN_GRPC_UNIMPLEMENTED, "not asked of task queues");
    tn_client_matching_done(req);
}
