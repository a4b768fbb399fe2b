/* SPDX-License-Identifier: MIT */
/* Long polls for tasks. */
#include "frontend/priv.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)
#define STICKY TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_STICKY

static void matching_answered(tn_mreq *m)
{
    tn_fcall *f = m->user;
    if (m->fault)
        tn_front_fail(f, m->fault);
    else
        tn_front_reply(f, m->response);
}

static void to_matching(tn_fcall *f, tn_mop op,
                        const Temporal__Api__Taskqueue__V1__TaskQueue *queue, uint32_t type,
                        const ProtobufCMessage *request, void (*done)(tn_mreq *m))
{
    tn_mreq *m = &f->mreq;
    m->arena = f->call->arena;
    m->home = f->call->home;
    m->op = op;
    m->ns = f->ns;
    m->queue = tn_str_from(queue->name);
    m->sticky = queue->kind == STICKY;
    m->normal_queue = tn_str_from(queue->normal_name);
    m->type = type;
    m->request = request;
    m->call = f->call;
    m->deadline_mono_ns = f->call->deadline_mono_ns;
    m->pass_on = true;
    m->done = done;
    m->user = f;
    tn_client_matching(m);
}

void tn_front_matching(tn_fcall *f, tn_mop op, const Temporal__Api__Taskqueue__V1__TaskQueue *queue,
                       uint32_t type)
{
    to_matching(f, op, queue, type, f->call->request, matching_answered);
}

void tn_front_matching_step(tn_fcall *f, tn_mop op,
                            const Temporal__Api__Taskqueue__V1__TaskQueue *queue,
                            const ProtobufCMessage *request, void (*done)(tn_mreq *m))
{
    f->mreq = (tn_mreq){0}; /* it may have been at another step's */
    to_matching(f, op, queue, TN_TASK_WORKFLOW, request, done);
}

/* ---- polls ---- */

/* A task was found, but its worker had gone when the answer was to leave: it need not wait for its time-out. */
static void poll_undelivered(tn_call *call)
{
    const tn_fcall *f = call->user;
    tn_client_give_back(f->mreq.response, f->mreq.type, call->home);
}

static void poll_answered(tn_mreq *m)
{
    tn_fcall *f = m->user;
    if (!m->fault && m->response)
        f->call->on_undelivered = poll_undelivered;
    matching_answered(m);
}

typedef struct cancellation {
    tn_mreq mreq;
} cancellation;

static void cancelled(tn_mreq *m)
{
    tn_namespace_unref(m->ns);
    tn_arena_destroy(m->arena);
}

/* The peer went away: take the poll out of its queue, so that no task is given to nobody. */
static void poll_cancelled(tn_call *call)
{
    tn_fcall *f = call->user;
    tn_arena *arena = tn_arena_create(0);
    cancellation *c = TN_NEW(arena, cancellation);
    tn_mreq *m = &c->mreq;
    m->arena = arena;
    m->home = call->home;
    m->op = TN_MOP_CANCEL_POLL;
    m->ns = tn_namespace_ref(f->ns);
    m->queue = tn_arena_str(arena, f->mreq.queue);
    m->type = f->mreq.type;
    m->poll_id = f->mreq.poll_id;
    m->done = cancelled;
    tn_client_matching(m);
}

#define POLL_MIN_NS (2 * TN_SEC)

/* A poll must wait for a while, or it would only come back again. */
static const tn_fault *check_wait(const tn_fcall *f)
{
    uint64_t deadline = f->call->deadline_mono_ns;
    if (deadline == UINT64_MAX)
        return tn_fault_make(f->call->arena, TN_GRPC_INVALID_ARGUMENT,
                             "Context timeout is not set.");
    if (deadline < tn_now_mono_ns() + POLL_MIN_NS)
        return tn_fault_make(f->call->arena, TN_GRPC_INVALID_ARGUMENT,
                             "Context timeout is too short.");
    return NULL;
}

typedef struct polling {
    Temporal__Api__Taskqueue__V1__TaskQueue *queue;
    uint32_t type;
    const char *identity;
    const Temporal__Api__Common__V1__WorkerVersionCapabilities *version;
    const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *deployment;
} polling;

static void poll_go(tn_fcall *f, const polling *p)
{
    f->mreq.poll_id = tn_client_next_poll_id();
    f->call->on_cancel = poll_cancelled;
    tn_front_matching(f, TN_MOP_POLL, p->queue, p->type);
    f->mreq.done = poll_answered;
}

static void poll_workflow_go(tn_fcall *f)
{
    poll_go(f, &(polling){.queue = REQUEST(f, PollWorkflowTaskQueueRequest)->task_queue,
                          .type = TN_TASK_WORKFLOW});
}

static void poll_activity_go(tn_fcall *f)
{
    poll_go(f, &(polling){.queue = REQUEST(f, PollActivityTaskQueueRequest)->task_queue,
                          .type = TN_TASK_ACTIVITY});
}

static void poll_nexus_go(tn_fcall *f)
{
    poll_go(f, &(polling){.queue = REQUEST(f, PollNexusTaskQueueRequest)->task_queue,
                          .type = TN_TASK_NEXUS});
}

static void poll(tn_fcall *f, const polling *p)
{
    tn_arena *arena = f->call->arena;
    const tn_fault *fault = NULL;
    bool whole = p->queue && p->queue->kind; /* no default is to be filled in */
    if ((fault = check_wait(f)) || (fault = tn_front_check_identity(arena, p->identity)) ||
        (fault = tn_front_check_version(f, p->version ? p->version->build_id : "",
                                        p->version && p->version->use_versioning, p->deployment,
                                        p->queue)) ||
        (fault = tn_front_check_task_queue(arena, p->queue))) {
        tn_front_fail(f, fault);
        return;
    }
    if (whole)
        f->mreq.packed = (tn_packed){f->call->request, f->call->message};
    tn_front_poll_version(f, p->deployment, p->queue, p->type,
                          p->type == TN_TASK_WORKFLOW ? poll_workflow_go
                          : p->type == TN_TASK_NEXUS  ? poll_nexus_go
                                                      : poll_activity_go);
}

void tn_do_poll_workflow(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest *r =
        REQUEST(f, PollWorkflowTaskQueueRequest);
    poll(f, &(polling){r->task_queue, TN_TASK_WORKFLOW, r->identity, r->worker_version_capabilities,
                       r->deployment_options});
}

void tn_do_poll_activity(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest *r =
        REQUEST(f, PollActivityTaskQueueRequest);
    poll(f, &(polling){r->task_queue, TN_TASK_ACTIVITY, r->identity, r->worker_version_capabilities,
                       r->deployment_options});
}

void tn_do_poll_nexus(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__PollNexusTaskQueueRequest *r =
        REQUEST(f, PollNexusTaskQueueRequest);
    poll(f, &(polling){r->task_queue, TN_TASK_NEXUS, r->identity, r->worker_version_capabilities,
                       r->deployment_options});
}
