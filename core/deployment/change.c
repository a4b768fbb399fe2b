/* SPDX-License-Identifier: MIT */
/* What the calls about worker deployments do to a record: pure functions, with the reference's texts. */
#include "deployment/private.h"

#include <stdio.h>

#include "proto/proto.h"

#define LIMIT_CAUSE 10 /* RESOURCE_EXHAUSTED_CAUSE_WORKER_DEPLOYMENT_LIMITS */
#define NAMESPACE_SCOPE 1

static void fail(tn_deployment_change *c, tn_grpc_code code, const char *fmt, ...) TN_PRINTF(3, 4);

static void fail(tn_deployment_change *c, tn_grpc_code code, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    c->fault = tn_fault_make(c->arena, code, "%s", text);
}

static char *text(tn_arena *arena, tn_str s)
{
    char *out = tn_arena_alloc(arena, s.n + 1);
    TN_ASSERT(out); /* no cap: our own arena, or a call's that was raised */
    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return out;
}

static void *grown(tn_arena *arena, const void *old, size_t n, size_t size)
{
    uint8_t *out = tn_arena_array(arena, n + 1, size);
    TN_ASSERT(out);
    if (n)
        memcpy(out, old, n * size);
    return out;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static bool manager_mismatch(const tn_deployment *d, tn_deployment_change *c)
{
    if (!*d->manager || tn_str_is(c->identity, d->manager))
        return false;
    fail(c, TN_GRPC_FAILED_PRECONDITION,
         "ManagerIdentity '%s' is set and does not match user identity '" TN_STR_FMT
         "'; to proceed, set your own identity as the ManagerIdentity, remove the ManagerIdentity, "
         "or wait for the other "
         "client to do so",
         d->manager, TN_STR_ARG(c->identity));
    return true;
}

static bool token_mismatch(const tn_deployment *d, tn_deployment_change *c)
{
    if (!c->token.n || (c->token.n == 8 && tn_get_u64be(c->token.p) == d->token_ns))
        return false;
    fail(c, TN_GRPC_FAILED_PRECONDITION, "conflict token mismatch");
    return true;
}

/* A deployment exists by its first poll, or by somebody who may not wait for one. */
static tn_deployment *made(tn_deployment_change *c, size_t others, uint64_t now_ns)
{
    tn_deployment *d = tn_arena_alloc(c->arena, sizeof(*d));
    if (c->max_deployments > 0 && others >= (size_t)c->max_deployments) {
        c->fault = tn_fault_exhausted(c->arena, LIMIT_CAUSE, NAMESPACE_SCOPE,
                                      "reached maximum deployments in namespace (%lld)",
                                      (long long)c->max_deployments);
        return NULL;
    }
    TN_ASSERT(d);
    tenon__deployment_record__init(d);
    d->ns_id = text(c->arena, c->ns_id);
    d->name = text(c->arena, c->name);
    d->created_ns = d->token_ns = now_ns;
    return d;
}

static tn_deployment_version *add_version(tn_deployment *d, tn_deployment_change *c, int32_t status,
                                          uint64_t now_ns)
{
    tn_deployment_version *v = tn_arena_alloc(c->arena, sizeof(*v));
    if (c->max_versions > 0 && d->n_versions >= (size_t)c->max_versions) {
        c->too_many_versions = true;
        c->fault = tn_fault_exhausted(
            c->arena, LIMIT_CAUSE, NAMESPACE_SCOPE,
            "cannot add version " TN_STR_FMT "." TN_STR_FMT
            " since maximum number of versions (%lld) have been registered in the deployment",
            TN_STR_ARG(c->name), TN_STR_ARG(c->build_id), (long long)c->max_versions);
        return NULL;
    }
    TN_ASSERT(v);
    tenon__deployment_version_record__init(v);
    v->build_id = text(c->arena, c->build_id);
    v->status = status;
    v->created_ns = now_ns;
    d->versions = grown(c->arena, d->versions, d->n_versions, sizeof(d->versions[0]));
    d->versions[d->n_versions++] = v;
    return v;
}

static void drop_version(tn_deployment *d, const tn_deployment_version *v)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_versions; i++)
        if (d->versions[i] != v)
            d->versions[n++] = d->versions[i];
    d->n_versions = n;
}

/* ---- registering ----------------------------------------------------------------------------- */

static void add_queue(tn_deployment_version *v, tn_deployment_change *c)
{
    for (size_t i = 0; i < v->n_queues; i++) {
        if (!tn_str_is(c->queue, v->queues[i]->name))
            continue;
        c->unchanged = v->queues[i]->types & 1u << c->type;
        v->queues[i]->types |= 1u << c->type;
        return;
    }
    if (c->max_queues > 0 && v->n_queues >= (size_t)c->max_queues) {
        c->fault = tn_fault_exhausted(
            c->arena, LIMIT_CAUSE, NAMESPACE_SCOPE,
            "cannot add task queue " TN_STR_FMT
            " since maximum number of task queues (%lld) have been registered in deployment",
            TN_STR_ARG(c->queue), (long long)c->max_queues);
        return;
    }
    Tenon__DeploymentQueue *q = tn_arena_alloc(c->arena, sizeof(*q));
    TN_ASSERT(q);
    tenon__deployment_queue__init(q);
    q->name = text(c->arena, c->queue);
    q->types = 1u << c->type;
    v->queues = grown(c->arena, v->queues, v->n_queues, sizeof(v->queues[0]));
    v->queues[v->n_queues++] = q;
}

static tn_deployment *do_register(tn_deployment *d, tn_deployment_change *c, size_t others,
                                  uint64_t now_ns)
{
    if (!d && (d = made(c, others, now_ns)))
        d->auto_created = true;
    tn_deployment_version *v = d ? tn_deployment_version_at(d, c->build_id) : NULL;
    if (d && !v)
        v = add_version(d, c, TN_DEPLOYED_INACTIVE, now_ns);
    if (!v)
        return d;
    add_queue(v, c);
    if (v->status == TN_DEPLOYED_CREATED)
        v->status = TN_DEPLOYED_INACTIVE;
    return d;
}

static tn_deployment *do_create(tn_deployment *d, tn_deployment_change *c, size_t others,
                                uint64_t now_ns)
{
    if (d && tn_str_is(c->request_id, d->create_request_id)) {
        c->unchanged = true;
    } else if (d) {
        fail(c, TN_GRPC_ALREADY_EXISTS,
             "Worker Deployment with name \"" TN_STR_FMT "\" already exists%s", TN_STR_ARG(c->name),
             d->auto_created ? " (auto-created from worker polls)" : "");
    } else if ((d = made(c, others, now_ns))) {
        d->create_request_id = text(c->arena, c->request_id);
        d->last_modifier = text(c->arena, c->identity);
    }
    return d;
}

static void not_found(tn_deployment_change *c)
{
    fail(c, TN_GRPC_NOT_FOUND,
         "no Worker Deployment found with name '" TN_STR_FMT
         "'; does your Worker Deployment have pollers?",
         TN_STR_ARG(c->name));
}

static void version_not_found(tn_deployment_change *c)
{
    fail(c, TN_GRPC_NOT_FOUND,
         "build ID '" TN_STR_FMT "' not found in Worker Deployment '" TN_STR_FMT "'",
         TN_STR_ARG(c->build_id), TN_STR_ARG(c->name));
}

static void do_create_version(tn_deployment *d, tn_deployment_change *c, uint64_t now_ns)
{
    tn_deployment_version *v = tn_deployment_version_at(d, c->build_id);
    if (v && tn_str_is(c->request_id, v->create_request_id)) {
        c->unchanged = true;
    } else if (v) {
        fail(c, TN_GRPC_ALREADY_EXISTS,
             "Worker Deployment Version \"" TN_STR_FMT "." TN_STR_FMT "\" already exists",
             TN_STR_ARG(c->name), TN_STR_ARG(c->build_id));
    } else if ((v = add_version(d, c, TN_DEPLOYED_CREATED, now_ns))) {
        v->create_request_id = text(c->arena, c->request_id);
        v->last_modifier = text(c->arena, c->identity);
    }
}

/* ---- routing --------------------------------------------------------------------------------- */

static bool knows_or_may_make(tn_deployment *d, tn_deployment_change *c, uint64_t now_ns)
{
    if (!c->build_id.n || tn_deployment_version_at(d, c->build_id))
        return true;
    if (!c->allow_no_pollers)
        version_not_found(c);
    else
        (void)add_version(d, c, TN_DEPLOYED_INACTIVE, now_ns);
    return !c->fault;
}

static void sign(tn_deployment *d, tn_deployment_change *c, uint64_t now_ns)
{
    d->token_ns = now_ns > d->token_ns ? now_ns : d->token_ns + 1;
    d->last_modifier = text(c->arena, c->identity);
}

static void do_set_current(tn_deployment *d, tn_deployment_change *c, uint64_t now_ns)
{
    c->previous = tn_arena_str(c->arena, tn_str_from(d->current));
    bool same = tn_str_is(c->build_id, d->current);
    if (same && tn_str_is(c->identity, d->last_modifier)) {
        c->unchanged = true;
        return;
    }
    if (token_mismatch(d, c))
        return;
    if (c->build_id.n && !tn_deployment_version_at(d, c->build_id) && !c->allow_no_pollers) {
        version_not_found(c);
        return;
    }
    if (manager_mismatch(d, c) || !knows_or_may_make(d, c, now_ns))
        return;
    if (!same) {
        bool promoted = c->build_id.n ? d->ramps && tn_str_is(c->build_id, d->ramping)
                                      : d->ramps && !*d->ramping;
        d->current = text(c->arena, c->build_id);
        d->current_changed_ns = now_ns;
        d->revision++;
        if (promoted) {
            d->ramping = text(c->arena, (tn_str){0});
            d->ramps = false;
            d->percentage = 0;
            d->ramping_changed_ns = d->percentage_changed_ns = now_ns;
        }
        tn_deployment_settle(d, now_ns);
    }
    sign(d, c, now_ns);
}

static void set_ramp(tn_deployment *d, tn_deployment_change *c, bool same, uint64_t now_ns)
{
    if (c->unset || !same)
        d->ramping_changed_ns = now_ns;
    d->ramping = text(c->arena, c->unset ? (tn_str){0} : c->build_id);
    d->ramps = !c->unset;
    d->percentage = c->unset ? 0 : c->percentage;
    d->percentage_changed_ns = now_ns;
    d->revision++;
    tn_deployment_settle(d, now_ns);
}

static void do_set_ramping(tn_deployment *d, tn_deployment_change *c, uint64_t now_ns)
{
    bool same = c->unset ? !d->ramps : d->ramps && tn_str_is(c->build_id, d->ramping);
    bool same_share = (c->unset ? 0 : c->percentage) == d->percentage;
    c->previous = tn_arena_str(c->arena, tn_str_from(d->ramping));
    c->previous_ramped = d->ramps;
    c->previous_percentage = d->percentage;
    if (same && same_share && tn_str_is(c->identity, d->last_modifier)) {
        c->unchanged = true;
        return;
    }
    if (token_mismatch(d, c))
        return;
    if (!c->unset && tn_str_is(c->build_id, d->current)) {
        fail(c, TN_GRPC_FAILED_PRECONDITION, "requested ramping version %s is already current",
             tn_dver_text_old(c->arena,
                              c->build_id.n ? (tn_dver){c->name, c->build_id} : (tn_dver){0}));
        return;
    }
    if (!c->unset && c->build_id.n && !tn_deployment_version_at(d, c->build_id) &&
        !c->allow_no_pollers) {
        version_not_found(c);
        return;
    }
    if (manager_mismatch(d, c) || (!c->unset && !knows_or_may_make(d, c, now_ns)))
        return;
    if (!same || !same_share)
        set_ramp(d, c, same, now_ns);
    sign(d, c, now_ns);
}

/* ---- deleting -------------------------------------------------------------------------------- */

static void do_delete_version(tn_deployment *d, tn_deployment_change *c)
{
    const tn_deployment_version *v = tn_deployment_version_at(d, c->build_id);
    if (!v) { /* it is gone: as was wished */
        c->unchanged = true;
        return;
    }
    char *shown = tn_dver_text(c->arena, (tn_dver){c->name, c->build_id});
    if (tn_str_is(c->build_id, d->current) || (d->ramps && tn_str_is(c->build_id, d->ramping))) {
        fail(c, TN_GRPC_FAILED_PRECONDITION,
             "version '%s' cannot be deleted since it is current or ramping", shown);
        return;
    }
    if (!c->by_server && manager_mismatch(d, c))
        return;
    if (!c->skip_drainage && v->drainage == 1) {
        fail(c, TN_GRPC_FAILED_PRECONDITION, "version '%s' cannot be deleted since it is draining",
             shown);
        return;
    }
    drop_version(d, v);
    if (!c->by_server)
        d->last_modifier = text(c->arena, c->identity);
}

static void do_set_manager(tn_deployment *d, tn_deployment_change *c, uint64_t now_ns)
{
    c->previous_manager = tn_arena_str(c->arena, tn_str_from(d->manager));
    if (tn_str_is(c->manager, d->manager) && tn_str_is(c->identity, d->last_modifier)) {
        c->unchanged = true;
        return;
    }
    if (token_mismatch(d, c))
        return;
    d->manager = text(c->arena, c->manager);
    sign(d, c, now_ns);
}

/* ---- metadata -------------------------------------------------------------------------------- */

static void remove_entry(tn_deployment_version *v, const char *key)
{
    size_t n = 0;
    for (size_t i = 0; i < v->n_metadata; i++)
        if (strcmp(v->metadata[i]->name, key) != 0)
            v->metadata[n++] = v->metadata[i];
    v->n_metadata = n;
}

static void no_version_to_describe(tn_deployment_change *c)
{
    fail(c, TN_GRPC_NOT_FOUND,
         "workflow not found for ID: temporal-sys-worker-deployment-version:" TN_STR_FMT
         ":" TN_STR_FMT,
         TN_STR_ARG(c->name), TN_STR_ARG(c->build_id));
}

static void do_set_metadata(tn_deployment *d, tn_deployment_change *c)
{
    tn_deployment_version *v = tn_deployment_version_at(d, c->build_id);
    if (!v) {
        no_version_to_describe(c);
        return;
    }
    for (size_t i = 0; i < c->n_upserts; i++) {
        remove_entry(v, c->upserts[i]->name);
        v->metadata = grown(c->arena, v->metadata, v->n_metadata, sizeof(v->metadata[0]));
        v->metadata[v->n_metadata++] =
            (Tenon__NamedPayload *)(void *)tn_proto_copy(&c->upserts[i]->base, c->arena);
    }
    for (size_t i = 0; i < c->n_removals; i++)
        remove_entry(v, c->removals[i]);
    v->last_modifier = text(c->arena, c->identity);
}

/* ---- drainage -------------------------------------------------------------------------------- */

static void do_reactivate(tn_deployment *d, tn_deployment_change *c, uint64_t now_ns)
{
    tn_deployment_version *v = tn_deployment_version_at(d, c->build_id);
    c->unchanged = !v || (v->status != TN_DEPLOYED_DRAINED && v->status != TN_DEPLOYED_INACTIVE);
    if (!c->unchanged)
        tn_deployment_drain(v, now_ns);
}

static void do_drainage(tn_deployment *d, tn_deployment_change *c, uint64_t now_ns)
{
    tn_deployment_version *v = tn_deployment_version_at(d, c->build_id);
    c->unchanged = !v || v->drainage != 1; /* it is active again */
    if (c->unchanged)
        return;
    v->drainage_checked_ns = now_ns;
    if (!c->drained)
        return;
    v->drainage = 2;
    v->drainage_changed_ns = now_ns;
    v->status = TN_DEPLOYED_DRAINED;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static tn_deployment *without_record(tn_deployment_change *c, size_t others, uint64_t now_ns)
{
    switch (c->verb) {
    case TN_DEPLOYMENT_REGISTER:
        return do_register(NULL, c, others, now_ns);
    case TN_DEPLOYMENT_CREATE:
        return do_create(NULL, c, others, now_ns);
    case TN_DEPLOYMENT_SET_CURRENT:
    case TN_DEPLOYMENT_SET_RAMPING:
        if (c->allow_no_pollers)
            return made(c, others, now_ns);
        not_found(c);
        return NULL;
    case TN_DEPLOYMENT_CREATE_VERSION:
        not_found(c);
        return NULL;
    case TN_DEPLOYMENT_SET_MANAGER:
    case TN_DEPLOYMENT_DELETE_VERSION:
        fail(c, TN_GRPC_NOT_FOUND,
             "workflow not found for ID: temporal-sys-worker-deployment:" TN_STR_FMT,
             TN_STR_ARG(c->name));
        return NULL;
    case TN_DEPLOYMENT_SET_METADATA:
        no_version_to_describe(c);
        return NULL;
    default:
        c->unchanged = true;
        return NULL;
    }
}

static tn_deployment *with_record(tn_deployment *d, tn_deployment_change *c, uint64_t now_ns)
{
    switch (c->verb) {
    case TN_DEPLOYMENT_REGISTER:
        return do_register(d, c, 0, now_ns);
    case TN_DEPLOYMENT_CREATE:
        return do_create(d, c, 0, now_ns);
    case TN_DEPLOYMENT_CREATE_VERSION:
        do_create_version(d, c, now_ns);
        return d;
    case TN_DEPLOYMENT_SET_CURRENT:
        do_set_current(d, c, now_ns);
        return d;
    case TN_DEPLOYMENT_SET_RAMPING:
        do_set_ramping(d, c, now_ns);
        return d;
    case TN_DEPLOYMENT_DELETE_VERSION:
        do_delete_version(d, c);
        return d;
    case TN_DEPLOYMENT_DELETE:
        if (d->n_versions)
            fail(c, TN_GRPC_FAILED_PRECONDITION, "deployment has versions, can't be deleted");
        return NULL;
    case TN_DEPLOYMENT_SET_MANAGER:
        do_set_manager(d, c, now_ns);
        return d;
    case TN_DEPLOYMENT_SET_METADATA:
        do_set_metadata(d, c);
        return d;
    case TN_DEPLOYMENT_REACTIVATE:
        do_reactivate(d, c, now_ns);
        return d;
    case TN_DEPLOYMENT_DRAINAGE:
        do_drainage(d, c, now_ns);
        return d;
    case TN_DEPLOYMENT_FORGET:
        return NULL;
    }
    return d;
}

tn_deployment *tn_deployment_apply(const tn_deployment *before, tn_deployment_change *c,
                                   size_t others, uint64_t now_ns)
{
    tn_deployment *d =
        before ? (tn_deployment *)(void *)tn_proto_copy(&before->base, c->arena) : NULL;
    c->fault = NULL;
    c->unchanged = c->too_many_versions = false;
    if (!d) {
        d = without_record(c, others, now_ns);
        if (!d || c->fault ||
            (c->verb != TN_DEPLOYMENT_SET_CURRENT && c->verb != TN_DEPLOYMENT_SET_RAMPING))
            return c->fault ? NULL : d;
    }
    d = with_record(d, c, now_ns);
    return c->fault ? NULL : d;
}
