/* SPDX-License-Identifier: MIT */
/* Deployments and versions as the API shows them, and the two ways to write a version as text. */
#include "deployment/private.h"

#include <stdlib.h>

#include "proto/proto.h"

typedef Temporal__Api__Deployment__V1__WorkerDeploymentVersion version_message;
typedef Temporal__Api__Deployment__V1__VersionDrainageInfo drainage_info;

static void *message(tn_arena *arena, const ProtobufCMessageDescriptor *type)
{
    void *out = tn_arena_alloc(arena, type->sizeof_message);
    TN_ASSERT(out);
    protobuf_c_message_init(type, out);
    return out;
}
#define NEW(arena, c_name) message((arena), &temporal__api__deployment__v1__##c_name##__descriptor)

static char *text(tn_arena *arena, tn_str s)
{
    char *out = tn_arena_alloc(arena, s.n + 1);
    TN_ASSERT(out);
    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return out;
}

static Google__Protobuf__Timestamp *at(tn_arena *arena, uint64_t ns)
{
    return ns ? tn_ts_from_ns(arena, (int64_t)ns) : NULL;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static char *joined(tn_arena *arena, tn_dver v, char delimiter)
{
    char *out = tn_arena_printf(arena, TN_STR_FMT "%c" TN_STR_FMT, TN_STR_ARG(v.deployment),
                                delimiter, TN_STR_ARG(v.build_id));
    TN_ASSERT(out);
    return out;
}

char *tn_dver_text(tn_arena *arena, tn_dver v)
{
    return tn_dver_is(v) ? joined(arena, v, ':') : (char *)(uintptr_t) "";
}

char *tn_dver_text_old(tn_arena *arena, tn_dver v)
{
    return tn_dver_is(v) ? joined(arena, v, '.') : (char *)(uintptr_t) "__unversioned__";
}

bool tn_dver_parse(tn_str s, tn_dver *out)
{
    size_t i = 0;
    *out = (tn_dver){0};
    if (tn_str_is(s, "__unversioned__"))
        return true;
    while (i < s.n && s.p[i] != '.' && s.p[i] != ':')
        i++;
    if (i == 0 || i + 1 >= s.n)
        return false;
    *out = (tn_dver){{s.p, i}, {s.p + i + 1, s.n - i - 1}};
    return true;
}

version_message *tn_dver_message(tn_arena *arena, tn_dver v)
{
    version_message *out = tn_dver_is(v) ? NEW(arena, worker_deployment_version) : NULL;
    if (!out)
        return NULL;
    out->deployment_name = text(arena, v.deployment);
    out->build_id = text(arena, v.build_id);
    return out;
}

/* ---- messages -------------------------------------------------------------------------------- */

static tn_dver version_of(const tn_deployment *d, const char *build_id)
{
    return *build_id ? (tn_dver){tn_str_from(d->name), tn_str_from(build_id)} : (tn_dver){0};
}

ProtobufCBinaryData tn_deployment_token(tn_arena *arena, const tn_deployment *d)
{
    uint8_t *p = tn_arena_alloc(arena, 8);
    TN_ASSERT(p);
    tn_put_u64be(p, d->token_ns);
    return (ProtobufCBinaryData){8, p};
}

Temporal__Api__Deployment__V1__RoutingConfig *tn_deployment_routing_config(tn_arena *arena,
                                                                           const tn_deployment *d)
{
    Temporal__Api__Deployment__V1__RoutingConfig *out = NEW(arena, routing_config);
    tn_dver current = version_of(d, d->current), ramping = version_of(d, d->ramping);
    out->current_deployment_version = tn_dver_message(arena, current);
    out->current_version = tn_dver_text_old(arena, current);
    out->ramping_deployment_version = tn_dver_message(arena, ramping);
    if (d->ramps)
        out->ramping_version = tn_dver_text_old(arena, ramping);
    out->ramping_version_percentage = d->percentage;
    out->current_version_changed_time = at(arena, d->current_changed_ns);
    out->ramping_version_changed_time = at(arena, d->ramping_changed_ns);
    out->ramping_version_percentage_changed_time = at(arena, d->percentage_changed_ns);
    out->revision_number = d->revision;
    return out;
}

static drainage_info *drainage_of(tn_arena *arena, const tn_deployment_version *v)
{
    drainage_info *out = v->drainage ? NEW(arena, version_drainage_info) : NULL;
    if (!out)
        return NULL;
    out->status = (Temporal__Api__Enums__V1__VersionDrainageStatus)v->drainage;
    out->last_changed_time = at(arena, v->drainage_changed_ns);
    out->last_checked_time = at(arena, v->drainage_checked_ns);
    return out;
}

tn_deployment_summary *tn_deployment_version_summary(tn_arena *arena, const tn_deployment *d,
                                                     const tn_deployment_version *v)
{
    if (!v)
        return NULL;
    tn_deployment_summary *out = message(
        arena,
        &temporal__api__deployment__v1__worker_deployment_info__worker_deployment_version_summary__descriptor);
    tn_dver version = version_of(d, v->build_id);
    out->version = tn_dver_text_old(arena, version);
    out->deployment_version = tn_dver_message(arena, version);
    out->status = (Temporal__Api__Enums__V1__WorkerDeploymentVersionStatus)v->status;
    out->create_time = at(arena, v->created_ns);
    out->drainage_status = (Temporal__Api__Enums__V1__VersionDrainageStatus)v->drainage;
    out->drainage_info = drainage_of(arena, v);
    if (!out->drainage_info && v->current_since_ns) { /* not draining any more, since then */
        out->drainage_info = NEW(arena, version_drainage_info);
        out->drainage_info->last_changed_time = out->drainage_info->last_checked_time =
            at(arena, v->current_since_ns);
    }
    out->current_since_time = at(arena, v->current_since_ns);
    out->ramping_since_time = at(arena, v->ramping_since_ns);
    out->routing_update_time = at(arena, v->routing_ns);
    out->first_activation_time = at(arena, v->first_active_ns);
    out->last_current_time = at(arena, v->last_current_ns);
    out->last_deactivation_time = at(arena, v->last_inactive_ns);
    return out;
}

Temporal__Api__Deployment__V1__WorkerDeploymentInfo *tn_deployment_info(tn_arena *arena,
                                                                        const tn_deployment *d)
{
    Temporal__Api__Deployment__V1__WorkerDeploymentInfo *out = NEW(arena, worker_deployment_info);
    out->name = text(arena, tn_str_from(d->name));
    out->create_time = at(arena, d->created_ns);
    out->routing_config = tn_deployment_routing_config(arena, d);
    out->last_modifier_identity = text(arena, tn_str_from(d->last_modifier));
    out->manager_identity = text(arena, tn_str_from(d->manager));
    out->routing_config_update_state =
        2; /* COMPLETED: nobody hears of a change before all hosts know it */
    out->version_summaries =
        tn_arena_array(arena, d->n_versions + 1, sizeof(out->version_summaries[0]));
    TN_ASSERT(out->version_summaries);
    for (size_t i = d->n_versions; i-- > 0;) /* newest first */
        out->version_summaries[out->n_version_summaries++] =
            tn_deployment_version_summary(arena, d, d->versions[i]);
    return out;
}

static Temporal__Api__Deployment__V1__VersionMetadata *metadata_of(tn_arena *arena,
                                                                   const tn_deployment_version *v)
{
    typedef Temporal__Api__Deployment__V1__VersionMetadata__EntriesEntry entry;
    if (!v->n_metadata)
        return NULL;
    Temporal__Api__Deployment__V1__VersionMetadata *out = NEW(arena, version_metadata);
    out->entries = tn_arena_array(arena, v->n_metadata, sizeof(out->entries[0]));
    TN_ASSERT(out->entries);
    for (size_t i = 0; i < v->n_metadata; i++) {
        entry *e = message(
            arena, &temporal__api__deployment__v1__version_metadata__entries_entry__descriptor);
        const ProtobufCBinaryData *packed = &v->metadata[i]->payload;
        e->key = text(arena, tn_str_from(v->metadata[i]->name));
        if (TN_PROTO_UNPACK(temporal__api__common__v1__payload,
                            tn_blob_from(packed->data, packed->len), arena, &e->value,
                            NULL) == TN_OK)
            out->entries[out->n_entries++] = e;
    }
    return out;
}

static void put_queues(tn_arena *arena, const tn_deployment_version *v,
                       Temporal__Api__Deployment__V1__WorkerDeploymentVersionInfo *out)
{
    size_t n = 0;
    for (size_t i = 0; i < v->n_queues; i++)
        n += (size_t)__builtin_popcount(v->queues[i]->types);
    out->task_queue_infos = tn_arena_array(arena, n + 1, sizeof(out->task_queue_infos[0]));
    TN_ASSERT(out->task_queue_infos);
    for (size_t i = 0; i < v->n_queues; i++)
        for (uint32_t type = 1; type < 32 && v->queues[i]->types >> type; type++) {
            if (!(v->queues[i]->types & 1u << type))
                continue;
            Temporal__Api__Deployment__V1__WorkerDeploymentVersionInfo__VersionTaskQueueInfo *info =
                message(
                    arena,
                    &temporal__api__deployment__v1__worker_deployment_version_info__version_task_queue_info__descriptor);
            info->name = text(arena, tn_str_from(v->queues[i]->name));
            info->type = (Temporal__Api__Enums__V1__TaskQueueType)type;
            out->task_queue_infos[out->n_task_queue_infos++] = info;
        }
}

Temporal__Api__Deployment__V1__WorkerDeploymentVersionInfo *tn_deployment_version_info(
    tn_arena *arena, const tn_deployment *d, const tn_deployment_version *v)
{
    Temporal__Api__Deployment__V1__WorkerDeploymentVersionInfo *out =
        NEW(arena, worker_deployment_version_info);
    tn_dver version = version_of(d, v->build_id);
    out->version = tn_dver_text_old(arena, version);
    out->deployment_version = tn_dver_message(arena, version);
    out->status = (Temporal__Api__Enums__V1__WorkerDeploymentVersionStatus)v->status;
    out->create_time = at(arena, v->created_ns);
    out->routing_changed_time = at(arena, v->routing_ns);
    out->current_since_time = at(arena, v->current_since_ns);
    out->ramping_since_time = at(arena, v->ramping_since_ns);
    if (v->ramping_since_ns)
        out->ramp_percentage = d->percentage;
    put_queues(arena, v, out);
    out->drainage_info = drainage_of(arena, v);
    out->metadata = metadata_of(arena, v);
    out->last_modifier_identity = text(arena, tn_str_from(v->last_modifier));
    return out;
}
