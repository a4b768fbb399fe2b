/* SPDX-License-Identifier: MIT */
/* What is known of a version's task queues: who polls them, what waits there.  And room for a new version: the oldest that may
 * go is one whose workers are gone. */
#include "frontend/deployments.h"

#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__DescribeTaskQueueRequest describe_request;
typedef Temporal__Api__Workflowservice__V1__DescribeTaskQueueResponse describe_response;

/* ---- asking ---------------------------------------------------------------------------------- */

typedef struct question {
    tn_mreq mreq;
    tn_dcall *d;
    size_t index;
} question;

static void *message(tn_arena *arena, const ProtobufCMessageDescriptor *type)
{
    void *out = tn_arena_alloc(arena, type->sizeof_message);
    TN_ASSERT(out);
    protobuf_c_message_init(type, out);
    return out;
}

static void one_told(tn_dcall *d)
{
    if (--d->waiting == 0)
        d->told(d);
}

static void take(tn_dcall *d, size_t index, const describe_response *r)
{
    for (size_t i = 0; i < r->n_versions_info; i++) {
        const Temporal__Api__Taskqueue__V1__TaskQueueVersionInfo *info = r->versions_info[i]->value;
        for (size_t j = 0; info && j < info->n_types_info; j++) {
            const Temporal__Api__Taskqueue__V1__TaskQueueTypeInfo *type =
                info->types_info[j]->value;
            if (!type)
                continue;
            d->polled = d->polled || type->n_pollers;
            if (!type->stats)
                continue;
            d->stats[index] = (Temporal__Api__Taskqueue__V1__TaskQueueStats *)(void *)tn_proto_copy(
                &type->stats->base, d->arena);
            d->busy = d->busy || type->stats->approximate_backlog_count ||
                      type->stats->tasks_add_rate > 0;
        }
    }
}

static void answered(tn_mreq *m)
{
    question *q = TN_CONTAINER_OF(m, question, mreq);
    tn_dcall *d = q->d;
    if (m->fault || !m->response) /* who cannot be asked may have them */
        d->polled = d->busy = true;
    else
        take(d, q->index, (const describe_response *)m->response);
    tn_namespace_unref(m->ns);
    tn_arena_destroy(m->arena);
    one_told(d);
}

static const ProtobufCMessage *question_of(tn_arena *arena, tn_dver version, uint32_t type)
{
    describe_request *r = message(
        arena, &temporal__api__workflowservice__v1__describe_task_queue_request__descriptor);
    r->api_mode = 1;
    r->task_queue_types = tn_arena_array(arena, 1, sizeof(r->task_queue_types[0]));
    r->versions =
        message(arena, &temporal__api__taskqueue__v1__task_queue_version_selection__descriptor);
    r->versions->build_ids = tn_arena_array(arena, 1, sizeof(r->versions->build_ids[0]));
    TN_ASSERT(r->task_queue_types && r->versions->build_ids);
    r->task_queue_types[r->n_task_queue_types++] = (Temporal__Api__Enums__V1__TaskQueueType)type;
    r->versions->build_ids[r->versions->n_build_ids++] = tn_dver_text(arena, version);
    r->report_pollers = r->report_stats = true;
    return &r->base;
}

static void ask(tn_dcall *d, tn_dver version, tn_str queue, uint32_t type, size_t index)
{
    tn_arena *arena = tn_arena_create(0);
    question *q = TN_NEW(arena, question);
    q->d = d;
    q->index = index;
    q->mreq = (tn_mreq){.arena = arena,
                        .home = d->f->call->home,
                        .op = TN_MOP_DESCRIBE,
                        .ns = tn_namespace_ref(d->f->ns),
                        .queue = tn_arena_str(arena, queue),
                        .type = type,
                        .request = question_of(arena, version, type),
                        .deadline_mono_ns = d->f->call->deadline_mono_ns,
                        .done = answered};
    d->waiting++;
    tn_client_matching(&q->mreq);
}

void tn_dcall_ask_queues(tn_dcall *d, const char *name, const tn_deployment_version *v,
                         bool (*wanted)(tn_dcall *d, tn_str queue, uint32_t type),
                         void (*told)(tn_dcall *d))
{
    size_t n = 0;
    v = (const tn_deployment_version *)(const void *)tn_proto_copy(&v->base,
                                                                   d->arena); /* of the snapshot */
    tn_dver version = {tn_str_from(name), tn_str_from(v->build_id)};
    d->asked = v;
    d->polled = d->busy = false;
    d->told = told;
    d->waiting = 1;
    for (size_t i = 0; i < v->n_queues; i++)
        n += (size_t)__builtin_popcount(v->queues[i]->types);
    d->stats = tn_arena_array(d->arena, n + 1, sizeof(d->stats[0]));
    TN_ASSERT(d->stats);
    memset(d->stats, 0, (n + 1) * sizeof(d->stats[0]));
    d->n_stats = 0;
    for (size_t i = 0; i < v->n_queues; i++)
        for (uint32_t type = 1; type < 32 && v->queues[i]->types >> type; type++) {
            tn_str queue = tn_str_from(v->queues[i]->name);
            if (!(v->queues[i]->types & 1u << type))
                continue;
            if (!wanted || wanted(d, queue, type))
                ask(d, version, queue, type, d->n_stats);
            d->n_stats++;
        }
    one_told(d);
}

/* ---- changing -------------------------------------------------------------------------------- */

tn_dcall *tn_dcall_new(tn_fcall *f, tn_deployment_verb verb, const char *name)
{
    tn_arena *arena = f->call->arena;
    tn_arena_set_limit(arena, 0);
    tn_dcall *d = TN_NEW(arena, tn_dcall);
    *d = (tn_dcall){.f = f, .arena = arena};
    d->change = (tn_deployment_change){
        .arena = arena,
        .home = f->call->home,
        .verb = verb,
        .ns_id = f->ns->id,
        .name = tn_arena_str(arena, tn_str_from(name)),
        .max_deployments = tn_dyn_i64(TN_DYN_MATCHING_MAX_DEPLOYMENTS, f->ns->name, TN_STR("")),
        .max_versions = tn_dyn_i64(TN_DYN_MATCHING_MAX_VERSIONS, f->ns->name, TN_STR("")),
        .max_queues = tn_dyn_i64(TN_DYN_MATCHING_MAX_VERSION_QUEUES, f->ns->name, TN_STR("")),
    };
    return d;
}

static void make_room(tn_dcall *d);

static void changed(tn_deployment_change *c)
{
    tn_dcall *d = c->user;
    if (c->fault && c->too_many_versions)
        make_room(d);
    else if (c->fault)
        tn_front_fail(d->f, c->fault);
    else
        d->then(d);
}

static void send(tn_dcall *d)
{
    d->change.done = changed;
    d->change.user = d;
    tn_deployment_submit(&d->change);
}

void tn_dcall_submit(tn_dcall *d, void (*then)(tn_dcall *d))
{
    d->then = then;
    send(d);
}

typedef struct removal {
    tn_deployment_change change;
    tn_dcall *d;
} removal;

static void removed(tn_deployment_change *c)
{
    tn_dcall *d = TN_CONTAINER_OF(c, removal, change)->d;
    if (c->fault)
        make_room(d);
    else
        send(d);
}

static void victim_asked(tn_dcall *d)
{
    if (d->polled) {
        make_room(d);
        return;
    }
    removal *r = TN_NEW(d->arena, removal);
    *r = (removal){.d = d};
    r->change = (tn_deployment_change){.arena = d->arena,
                                       .home = d->f->call->home,
                                       .verb = TN_DEPLOYMENT_DELETE_VERSION,
                                       .ns_id = d->change.ns_id,
                                       .name = d->change.name,
                                       .build_id = tn_str_from(d->asked->build_id),
                                       .identity = TN_STR("try-delete-for-add-version"),
                                       .by_server = true,
                                       .done = removed};
    tn_deployment_submit(&r->change);
}

/* The next version, from the oldest, that takes no tasks any more. */
static void make_room(tn_dcall *d)
{
    const tn_deployment *now = tn_deployment_find(d->change.ns_id, d->change.name);
    while (now && d->next_victim < now->n_versions) {
        const tn_deployment_version *v = now->versions[d->next_victim++];
        if (v->status == TN_DEPLOYED_CURRENT || v->status == TN_DEPLOYED_RAMPING ||
            v->drainage == 1)
            continue;
        tn_dcall_ask_queues(d, now->name, v, NULL, victim_asked);
        return;
    }
    tn_front_fail(d->f, d->change.fault);
}
