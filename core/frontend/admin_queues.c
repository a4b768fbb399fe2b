/* SPDX-License-Identifier: MIT */
/* What operators ask of one partition of a task queue: checked here, answered by its owner (matching/admin.c). */
#include "client/partition.h"
#include "deployment/deployment.h"
#include "frontend/admin.h"
#include "proto/proto.h"
#include "store/store.h"
#include "tenon/store.pb-c.h"

typedef Temporal__Server__Api__Taskqueue__V1__TaskQueuePartition partition_message;

typedef Temporal__Server__Api__Persistence__V1__TaskQueueTypeUserData user_data;
typedef Temporal__Server__Api__Persistence__V1__DeploymentData__DeploymentsDataEntry
    deployment_entry;

#define HAS_STICKY \
    TEMPORAL__SERVER__API__TASKQUEUE__V1__TASK_QUEUE_PARTITION__PARTITION_ID_STICKY_NAME
#define HAS_COMMANDS \
    TEMPORAL__SERVER__API__TASKQUEUE__V1__TASK_QUEUE_PARTITION__PARTITION_ID_WORKER_COMMANDS
#define HAS_NUMBER \
    TEMPORAL__SERVER__API__TASKQUEUE__V1__TASK_QUEUE_PARTITION__PARTITION_ID_NORMAL_PARTITION_ID

static void answered(tn_mreq *m)
{
    tn_fcall *f = m->user;
    if (m->fault)
        tn_front_fail(f, m->fault);
    else
        tn_front_reply(f, m->response);
}

static void ask(tn_fcall *f, tn_str queue, uint32_t type, bool sticky)
{
    f->mreq = (tn_mreq){.arena = f->call->arena,
                        .home = f->call->home,
                        .op = TN_MOP_ADMIN,
                        .ns = f->ns,
                        .queue = queue,
                        .type = type,
                        .sticky = sticky,
                        .placed = true,
                        .request = f->call->request,
                        .call = f->call,
                        .deadline_mono_ns = f->call->deadline_mono_ns,
                        .pass_on = true,
                        .done = answered,
                        .user = f};
    tn_client_matching(&f->mreq);
}

/* The name of the queue or partition; false: the caller has been told what is wrong. */
static bool check(tn_fcall *f, const char *name, int64_t type, int64_t number, tn_str *out)
{
    uint32_t index = 0;
    if (!*name) {
        tn_front_invalid(f, "TaskQueue is not set on request.");
        return false;
    }
    if (strlen(name) > tn_front_id_max()) {
        tn_front_invalid(f, "TaskQueue length exceeds limit.");
        return false;
    }
    if (type < TN_TASK_WORKFLOW || type > TN_TASK_NEXUS) {
        tn_front_invalid(f, "TaskQueueType is not one of workflow, activity and nexus.");
        return false;
    }
    tn_str base = tn_partition_base(tn_str_from(name), &index);
    if (number < 0 || number >= TN_PARTITIONS_MAX || (index && number)) {
        tn_front_invalid(f, "Partition %lld of task queue %s is not one of 0 to %u.",
                         (long long)number, name, TN_PARTITIONS_MAX - 1);
        return false;
    }
    if (index)
        number = index;
    tn_arena_set_limit(f->call->arena, 0);
    *out = tn_partition_name(f->call->arena, base, (uint32_t)number);
    return true;
}

static void ask_partition(tn_fcall *f, const partition_message *p)
{
    tn_str name;
    if (!p) {
        tn_front_invalid(f, "TaskQueuePartition is not set on request.");
        return;
    }
    if (p->partition_id_case == HAS_COMMANDS) {
        tn_front_invalid(f, "Worker commands have no queue of their own here.");
        return;
    }
    int64_t number = p->partition_id_case == HAS_NUMBER ? p->normal_partition_id : 0;
    bool sticky = p->partition_id_case == HAS_STICKY;
    if (!check(f, sticky ? p->sticky_name : p->task_queue, (int64_t)p->task_queue_type, number,
               &name))
        return;
    ask(f, name, (uint32_t)p->task_queue_type, sticky);
}

void tn_do_admin_describe_partition(tn_fcall *f)
{
    ask_partition(f, TN_ADMIN_REQUEST(f, DescribeTaskQueuePartitionRequest)->task_queue_partition);
}

void tn_do_admin_unload_partition(tn_fcall *f)
{
    ask_partition(f,
                  TN_ADMIN_REQUEST(f, ForceUnloadTaskQueuePartitionRequest)->task_queue_partition);
}

void tn_do_admin_queue_tasks(tn_fcall *f)
{
    const Temporal__Server__Api__Adminservice__V1__GetTaskQueueTasksRequest *r =
        TN_ADMIN_REQUEST(f, GetTaskQueueTasksRequest);
    tn_str name;
    if (r->next_page_token.len && r->next_page_token.len != 8)
        tn_front_invalid(f, "Invalid NextPageToken.");
    else if (r->batch_size < 0)
        tn_front_invalid(f, "Invalid PageSize.");
    else if (r->subqueue < 0)
        tn_front_invalid(f, "Subqueue must not be negative.");
    else if (check(f, r->task_queue, (int64_t)r->task_queue_type, 0, &name))
        ask(f, name, (uint32_t)r->task_queue_type, false);
}

/* ---- settings: the row that all partitions read, and the routing that all hosts know ---- */

typedef struct reading {
    tn_fcall *f;
    tn_str queue;
    tn_store_op op;
} reading;

static void add_routing(tn_arena *arena, user_data *out, const tn_routing *r)
{
    if (!r || (!tn_dver_is(r->current) && !r->ramps))
        return;
    tn_str name = tn_dver_is(r->current) ? r->current.deployment : r->ramping.deployment;
    Temporal__Api__Deployment__V1__RoutingConfig *config =
        tn_admin_new(arena, &temporal__api__deployment__v1__routing_config__descriptor);
    if (tn_dver_is(r->current))
        config->current_deployment_version = tn_dver_message(arena, r->current);
    config->current_version = tn_dver_text_old(arena, r->current);
    if (r->ramps) {
        config->ramping_version = tn_dver_text_old(arena, r->ramping);
        if (tn_dver_is(r->ramping))
            config->ramping_deployment_version = tn_dver_message(arena, r->ramping);
        config->ramping_version_percentage = r->percentage;
    }
    deployment_entry *entry = tn_admin_new(
        arena,
        &temporal__server__api__persistence__v1__deployment_data__deployments_data_entry__descriptor);
    entry->key = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(name));
    entry->value = tn_admin_new(
        arena, &temporal__server__api__persistence__v1__worker_deployment_data__descriptor);
    entry->value->routing_config = config;
    out->deployment_data =
        tn_admin_new(arena, &temporal__server__api__persistence__v1__deployment_data__descriptor);
    out->deployment_data->deployments_data = TN_NEW_ARRAY(arena, deployment_entry *, 1);
    out->deployment_data->deployments_data[out->deployment_data->n_deployments_data++] = entry;
}

static tn_status add_config(tn_arena *arena, user_data *out, tn_blob row, int32_t type,
                            tn_error *err)
{
    Tenon__TaskQueueRecord *record = NULL;
    tn_status status = TN_PROTO_UNPACK(tenon__task_queue_record, row, arena, &record, err);
    for (size_t i = 0; status == TN_OK && i < record->n_types; i++)
        if (record->types[i]->type == type)
            status = TN_PROTO_UNPACK(
                temporal__api__taskqueue__v1__task_queue_config,
                tn_blob_from(record->types[i]->config.data, record->types[i]->config.len), arena,
                &out->config, err);
    return status;
}

static void row_came(tn_store_op *op)
{
    reading *rd = op->user;
    tn_fcall *f = rd->f;
    tn_arena *arena = f->call->arena;
    int32_t type = (int32_t)TN_ADMIN_REQUEST(f, GetTaskQueueUserDataRequest)->task_queue_type;
    tn_status status = op->status == TN_ENOTFOUND ? TN_OK : op->status;
    Temporal__Server__Api__Adminservice__V1__GetTaskQueueUserDataResponse *out =
        TN_ADMIN_NEW(arena, get_task_queue_user_data_response);
    user_data *data = tn_admin_new(
        arena, &temporal__server__api__persistence__v1__task_queue_type_user_data__descriptor);
    if (op->status == TN_OK) {
        out->version = (int64_t)op->u.get.row.version;
        status = add_config(arena, data, op->u.get.row.value, type, &op->error);
    }
    if (status != TN_OK) {
        tn_front_fail(f, tn_fault_from_status(arena, status, &op->error));
        return;
    }
    add_routing(arena, data, tn_deployment_routing(f->ns->id, rd->queue, (uint32_t)type));
    if (data->config || data->deployment_data)
        out->user_data = data;
    tn_front_reply(f, &out->base);
}

void tn_do_admin_queue_data(tn_fcall *f)
{
    Temporal__Server__Api__Adminservice__V1__GetTaskQueueUserDataRequest *r =
        TN_ADMIN_REQUEST(f, GetTaskQueueUserDataRequest);
    tn_arena *arena = f->call->arena;
    uint32_t index;
    tn_str name;
    if (!r->task_queue_type)
        r->task_queue_type = TEMPORAL__API__ENUMS__V1__TASK_QUEUE_TYPE__TASK_QUEUE_TYPE_WORKFLOW;
    if (!check(f, r->task_queue, (int64_t)r->task_queue_type, r->partition_id, &name))
        return;
    reading *rd = TN_NEW(arena, reading);
    *rd = (reading){.f = f, .queue = tn_partition_base(name, &index)};
    rd->op = (tn_store_op){.arena = arena, .user = rd, .done = row_came};
    rd->op.u.get.key = tn_store_key(arena, TN_TABLE_TASKQUEUE, TN_PARTITION_CLUSTER,
                                    tn_store_row_current(arena, f->ns->id, rd->queue));
    tn_store_get(&rd->op);
}
