/* SPDX-License-Identifier: MIT */
/* What the admin service has no counterpart for: queues of what could not be done (there are none: the truth is that they
 * are empty), and calls that are refused with the reason. */
#include "frontend/admin.h"
#include "proto/proto.h"

#define NO_QUEUES "queue not found: no task is put aside here, its run tries it again"
#define NO_REPLICATION "This server does not replicate to other clusters"

/* ---- queues of what could not be done ---- */

/* Reading, purging and merging. */
void tn_do_admin_dlq_tasks(tn_fcall *f)
{
    /* The key is the first field of the three requests. */
    const Temporal__Server__Api__Adminservice__V1__GetDLQTasksRequest *r =
        (const void *)f->call->request;
    const Temporal__Server__Api__Common__V1__HistoryDLQKey *key = r->dlq_key;
    if (!key)
        tn_front_invalid(f, "must supply a DLQ key");
    else if (!*key->source_cluster)
        tn_front_invalid(f, "must supply source cluster");
    else if (!*key->target_cluster)
        tn_front_invalid(f, "must supply target cluster");
    else
        tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_NOT_FOUND, "%s", NO_QUEUES));
}

/* Describing and cancelling; the token is the first field of both. */
void tn_do_admin_dlq_job(tn_fcall *f)
{
    const Temporal__Server__Api__Adminservice__V1__DescribeDLQJobRequest *r =
        (const void *)f->call->request;
    Temporal__Server__Api__Adminservice__V1__DLQJobToken *token = NULL;
    if (!r->job_token.len || TN_PROTO_UNPACK(temporal__server__api__adminservice__v1__dlqjob_token,
                                             tn_blob_from(r->job_token.data, r->job_token.len),
                                             f->call->arena, &token, NULL) != TN_OK)
        tn_front_invalid(f, "Invalid DLQ job token.");
    else
        tn_front_fail(
            f, tn_fault_make(f->call->arena, TN_GRPC_NOT_FOUND, "no such job: %s", NO_QUEUES));
}

void tn_do_admin_dlq_queues(tn_fcall *f)
{
    if (TN_ADMIN_REQUEST(f, ListQueuesRequest)->page_size < 0)
        tn_front_invalid(f, "Invalid PageSize.");
    else
        tn_front_reply(f, NULL);
}

/* The older queues, of replication and of namespaces: an empty one is read, purged and merged at once. */
void tn_do_admin_dlq_messages(tn_fcall *f)
{
    int32_t type = TN_ADMIN_REQUEST(f, GetDLQMessagesRequest)->type;
    if (type != 1 && type != 2) {
        tn_front_invalid(f, "The DLQ type is not supported.");
        return;
    }
    Temporal__Server__Api__Adminservice__V1__GetDLQMessagesResponse *out =
        TN_ADMIN_NEW(f->call->arena, get_dlqmessages_response);
    out->type = type;
    tn_front_reply(f, strstr(f->call->method->path, "/GetDLQMessages") ? &out->base : NULL);
}

/* ---- refused ---- */

static const struct {
    const char *name, *why;
    tn_grpc_code code;
} refused[] = {
    {"RemoveTask",
     "A row of the wake index or the outbox belongs to its run and goes when the run no longer "
     "wants it; "
     "RefreshWorkflowTasks has the run's tasks offered again.",
     TN_GRPC_UNIMPLEMENTED},
    {"AddTasks", "Tasks are no rows of a queue here: what a run wants follows from its state.",
     TN_GRPC_UNIMPLEMENTED},
    {"MigrateSchedule", "Schedules have one form here: there is nothing to migrate to.",
     TN_GRPC_UNIMPLEMENTED},
    {"ImportWorkflowExecution",
     "ImportWorkflowExecution must be used in global namespace mode, and namespaces are this "
     "cluster's own here.",
     TN_GRPC_UNIMPLEMENTED},
    {"AddOrUpdateRemoteCluster", NO_REPLICATION ": none can be added.",
     TN_GRPC_FAILED_PRECONDITION},
    {"RemoveRemoteCluster", "The cluster to be deleted cannot be found in clusters cache.",
     TN_GRPC_NOT_FOUND},
};

void tn_do_admin_refused(tn_fcall *f)
{
    tn_arena *arena = f->call->arena;
    const char *name = strrchr(f->call->method->path, '/') + 1;
    for (size_t i = 0; i < TN_COUNT_OF(refused); i++) {
        if (strcmp(refused[i].name, name) == 0) {
            tn_front_fail(f, tn_fault_make(arena, refused[i].code, "%s", refused[i].why));
            return;
        }
    }
    tn_front_fail(f, tn_fault_make(arena, TN_GRPC_FAILED_PRECONDITION, "%s.", NO_REPLICATION));
}
