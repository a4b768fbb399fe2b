/* SPDX-License-Identifier: MIT */
/* The way in: calls of other hosts' roles become batons here, are served as if they came from this process, and their
 * answers go back.  What this host does not own is said so and never sent on: the caller's ring is asked again. */
#include <stdatomic.h>

#include "client/load.h"
#include "client/remote.h"
#include "client/shardmap.h"
#include "client/wire.h"
#include "config/dynconfig.h"
#include "metrics/metrics.h"
#include "namespace/endpoint.h"
#include "proto/proto.h"
#include "rpc/secrets.h"

typedef struct intake {
    tn_call *call;
    tn_hreq hreq;
    tn_mreq mreq;
    tn_namespace_write refresh;
    void (*then)(struct intake *in);
} intake;

static atomic_bool ready;              /* pairs with whatever the roles did before */
static atomic_int_fast64_t in_service; /* history calls that count as load */
static atomic_uint_fast64_t taken;     /* calls to history and matching */
static tn_counter *shed_calls;

uint64_t tn_intake_calls(void) { return atomic_load_explicit(&taken, memory_order_relaxed); }

void tn_intake_ready(void) { atomic_store_explicit(&ready, true, memory_order_release); }

static intake *begin(tn_call *call)
{
    intake *in = TN_NEW(call->arena, intake);
    if (!in) {
        tn_call_fail(
            call, tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED, "no memory for the call"));
        return NULL;
    }
    tn_arena_set_limit(call->arena, 0);
    in->call = call;
    return in;
}

static void refuse(intake *in, const char *what)
{
    tn_call_fail(in->call, tn_fault_make(in->call->arena, TN_GRPC_INVALID_ARGUMENT, "%s", what));
}

/* ---- the namespace: one that another host made a moment ago is read ---- */

static void refreshed(tn_namespace_write *write)
{
    intake *in = write->user;
    in->then(in);
}

static void refresh_then(intake *in, void (*then)(intake *in))
{
    in->then = then;
    in->refresh = (tn_namespace_write){.arena = in->call->arena,
                                       .home = in->call->home,
                                       .verb = TN_NS_REFRESH,
                                       .done = refreshed,
                                       .user = in};
    tn_namespace_submit(&in->refresh);
}

static void with_namespace(intake *in, const char *ns_id, const tn_namespace **out,
                           void (*then)(intake *in))
{
    *out = tn_namespace_by_id(tn_str_from(ns_id));
    if (*out)
        then(in);
    else
        refresh_then(in, then);
}

static bool have_namespace(intake *in, const char *ns_id, const tn_namespace **ns)
{
    if (!*ns)
        *ns = tn_namespace_by_id(tn_str_from(ns_id));
    if (!*ns)
        tn_call_fail(in->call, tn_namespace_not_found(in->call->arena, tn_str_from(ns_id)));
    return *ns != NULL;
}

/* ---- history ---- */

/* temporal.api.enums.v1.ResourceExhausted... */
enum { CAUSE_SYSTEM_OVERLOADED = 3, SCOPE_SYSTEM = 2 };

static void too_large(tn_call *call)
{
    tn_call_fail(call,
                 tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED, "the answer is too large"));
}

/* Matching does not wait for its answer any more, or has gone: no worker has the task. */
static void task_undelivered(tn_call *call)
{
    const intake *in = call->user;
    tn_client_give_back(in->hreq.response,
                        in->hreq.op == TN_HOP_WFT_POLLED ? TN_TASK_WORKFLOW : TN_TASK_ACTIVITY,
                        call->home);
}

static void history_served(tn_hreq *req)
{
    intake *in = req->user;
    tn_call *call = in->call;
    Tenon__HistoryAnswer answer = TENON__HISTORY_ANSWER__INIT;
    if (tn_load_counts(req->op))
        atomic_fetch_sub_explicit(&in_service, 1, memory_order_relaxed);
    tn_namespace_unref(req->ns);
    answer.not_owner = req->not_owner;
    answer.taken_in = req->taken_in;
    if (!req->fault && req->response &&
        (req->op == TN_HOP_WFT_POLLED || req->op == TN_HOP_ACT_POLLED)) {
        call->user = in;
        call->on_undelivered = task_undelivered;
    }
    if (req->fault && !req->not_owner)
        tn_call_fail(call, req->fault);
    else if (!tn_wire_put_message(call->arena, req->fault ? NULL : req->response,
                                  &answer.response_type, &answer.response))
        too_large(call);
    else
        tn_call_reply(call, &answer.base);
}

static void history_go(intake *in)
{
    if (!atomic_load_explicit(&ready, memory_order_acquire)) {
        Tenon__HistoryAnswer not_yet = TENON__HISTORY_ANSWER__INIT;
        not_yet.not_owner = true;
        tn_namespace_unref(in->hreq.ns);
        tn_call_reply(in->call, &not_yet.base);
        return;
    }
    const Tenon__HistoryCall *call = (const Tenon__HistoryCall *)in->call->request;
    if (!have_namespace(in, call->ns_id, &in->hreq.ns))
        return;
    bool counts = tn_load_counts(in->hreq.op);
    int64_t n = counts ? atomic_fetch_add_explicit(&in_service, 1, memory_order_relaxed) + 1 : 0;
    if (!tn_load_sheds(in->hreq.op, call->by_call, n,
                       tn_dyn_i64(TN_DYN_HISTORY_CALLS_MAX, TN_STR(""), TN_STR("")))) {
        tn_client_history_here(&in->hreq);
        return;
    }
    tn_counter_inc(shed_calls);
    in->hreq.fault = tn_fault_exhausted(in->call->arena, CAUSE_SYSTEM_OVERLOADED, SCOPE_SYSTEM,
                                        "the history host has too many calls to answer");
    history_served(&in->hreq);
}

static void history_call(tn_call *call)
{
    const Tenon__HistoryCall *request = (const Tenon__HistoryCall *)call->request;
    intake *in = begin(call);
    atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
    if (!in)
        return;
    tn_hreq *h = &in->hreq;
    *h = (tn_hreq){.arena = call->arena,
                   .home = call->home,
                   .call = request->by_call ? call : NULL,
                   .deadline_mono_ns = call->deadline_mono_ns,
                   .final = true,
                   .done = history_served,
                   .user = in};
    if (!tn_wire_open_history(request, h))
        refuse(in, "the call is damaged, or of a later release");
    else
        with_namespace(in, request->ns_id, &h->ns, history_go);
}

static void done_reply(tn_call *call)
{
    Tenon__Done done = TENON__DONE__INIT;
    tn_call_reply(call, &done.base);
}

static void credit_call(tn_call *call)
{
    const Tenon__CreditCall *request = (const Tenon__CreditCall *)call->request;
    (void)tn_client_credit_here(request->shard, tn_str_from(request->ns_id),
                                tn_str_from(request->queue), request->type);
    done_reply(call);
}

static void close_shard_call(tn_call *call)
{
    (void)tn_client_close_shard_here(((const Tenon__ShardCall *)call->request)->shard);
    done_reply(call);
}

/* ---- matching ---- */

/* The host that asked has gone, or its caller: no worker has the task. */
static void poll_undelivered(tn_call *call)
{
    const intake *in = call->user;
    tn_client_give_back(in->mreq.response, in->mreq.type, call->home);
}

static void matching_served(tn_mreq *req)
{
    intake *in = req->user;
    tn_call *call = in->call;
    Tenon__MatchingAnswer answer = TENON__MATCHING_ANSWER__INIT;
    tn_namespace_unref(req->ns);
    answer.not_owner = req->not_owner;
    answer.accepted = req->accepted;
    call->on_cancel = NULL;
    if (req->op == TN_MOP_POLL && !req->fault && req->response)
        call->on_undelivered = poll_undelivered;
    if (req->fault && !req->not_owner)
        tn_call_fail(call, req->fault);
    else if (!tn_wire_put_message(call->arena, req->fault ? NULL : req->response,
                                  &answer.response_type, &answer.response) ||
             !tn_wire_put_match(call->arena, req, &answer))
        too_large(call);
    else
        tn_call_reply(call, &answer.base);
}

static void cancelled(tn_mreq *m)
{
    tn_namespace_unref(m->ns);
    tn_arena_destroy(m->arena);
}

/* The other host's caller went away: the poll leaves its queue. */
static void poll_cancelled(tn_call *call)
{
    const intake *in = call->user;
    tn_arena *arena = tn_arena_create(0);
    tn_mreq *m = TN_NEW(arena, tn_mreq);
    *m = (tn_mreq){.arena = arena,
                   .home = call->home,
                   .op = TN_MOP_CANCEL_POLL,
                   .ns = tn_namespace_ref(in->mreq.ns),
                   .queue = tn_arena_str(arena, in->mreq.queue),
                   .type = in->mreq.type,
                   .poll_id = in->mreq.poll_id,
                   .done = cancelled};
    tn_client_matching_here(m);
}

static void matching_go(intake *in)
{
    if (!atomic_load_explicit(&ready, memory_order_acquire)) {
        Tenon__MatchingAnswer not_yet = TENON__MATCHING_ANSWER__INIT;
        not_yet.not_owner = true;
        tn_namespace_unref(in->mreq.ns);
        tn_call_reply(in->call, &not_yet.base);
        return;
    }
    const Tenon__MatchingCall *request = (const Tenon__MatchingCall *)in->call->request;
    if (!have_namespace(in, request->ns_id, &in->mreq.ns))
        return;
    if (in->mreq.op == TN_MOP_POLL) {
        in->mreq.poll_id = tn_client_next_poll_id();
        in->call->user = in;
        in->call->on_cancel = poll_cancelled;
    }
    tn_client_matching_here(&in->mreq);
}

static void matching_call(tn_call *call)
{
    const Tenon__MatchingCall *request = (const Tenon__MatchingCall *)call->request;
    intake *in = begin(call);
    atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
    if (!in)
        return;
    tn_mreq *m = &in->mreq;
    *m = (tn_mreq){.arena = call->arena,
                   .home = call->home,
                   .call = call,
                   .deadline_mono_ns = call->deadline_mono_ns,
                   .final = true,
                   .done = matching_served,
                   .user = in};
    if (!tn_wire_open_matching(request, m))
        refuse(in, "the call is damaged, or of a later release");
    else
        with_namespace(in, request->ns_id, &m->ns, matching_go);
}

/* ---- any host ---- */

static void retire_call(tn_call *call)
{
    const Tenon__RetireCall *request = (const Tenon__RetireCall *)call->request;
    const tn_namespace *ns = tn_namespace_by_id(tn_str_from(request->ns_id));
    if (ns)
        (void)tn_client_retire_here(ns, tn_str_from(request->workflow_id),
                                    tn_str_from(request->run_id));
    tn_namespace_unref(ns);
    done_reply(call);
}

static void namespace_read(intake *in) { done_reply(in->call); }

static void deployments_read(void *user) { done_reply(user); }

static void namespace_call(tn_call *call)
{
    if (((const Tenon__NamespaceCall *)call->request)->deployments) {
        tn_deployments_refresh(deployments_read, call);
        return;
    }
    intake *in = begin(call);
    if (in)
        refresh_then(in, namespace_read);
}

/* ---- operators, and the shard map ---- */

static void shard_map_call(tn_call *call)
{
    tn_shardmap_refresh();
    done_reply(call);
}

static void endpoints_call(tn_call *call)
{
    tn_endpoints_refresh();
    done_reply(call);
}

static void shards_set(tn_shardmap_change *change)
{
    tn_call *call = change->user;
    Tenon__ShardsAnswer answer = TENON__SHARDS_ANSWER__INIT;
    answer.partitions = change->partitions;
    answer.before = change->before;
    answer.version = change->version;
    if (change->fault)
        tn_call_fail(call, change->fault);
    else
        tn_call_reply(call, &answer.base);
}

static void set_shards_call(tn_call *call)
{
    const Tenon__ShardsCall *request = (const Tenon__ShardsCall *)call->request;
    tn_shardmap_change *change = TN_NEW(call->arena, tn_shardmap_change);
    if (!change) {
        tn_call_fail(
            call, tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED, "no memory for the call"));
        return;
    }
    *change = (tn_shardmap_change){.arena = call->arena,
                                   .shards = request->shards,
                                   .dry_run = request->dry_run,
                                   .done = shards_set,
                                   .user = call};
    tn_shardmap_change_to(change);
}

typedef struct eviction {
    tn_msg msg;
    tn_call *call;
    uint8_t host_id[16];
    bool known;
} eviction;

static void evicted(tn_msg *msg)
{
    const eviction *e = TN_CONTAINER_OF(msg, eviction, msg);
    Tenon__EvictAnswer answer = TENON__EVICT_ANSWER__INIT;
    answer.known = e->known;
    tn_call_reply(e->call, &answer.base);
}

static void evict_there(tn_msg *msg)
{
    eviction *e = TN_CONTAINER_OF(msg, eviction, msg);
    e->known = tn_members_evict(e->host_id);
    e->msg.run = evicted;
    tn_loop_post(e->call->home, &e->msg);
}

static void evict_call(tn_call *call)
{
    const Tenon__EvictCall *request = (const Tenon__EvictCall *)call->request;
    eviction *e = TN_NEW(call->arena, eviction);
    if (!e || request->host_id.len != 16) {
        tn_call_fail(
            call, tn_fault_make(call->arena, TN_GRPC_INVALID_ARGUMENT, "a host id has 16 bytes"));
        return;
    }
    e->call = call;
    memcpy(e->host_id, request->host_id.data, 16);
    e->msg.run = evict_there;
    tn_loop_post(tn_loops_get(0), &e->msg);
}

/* ---- the door ---- */

/* Calls to history and matching are answered in their own way by a host that is not ready. */
static bool needs_roles(void (*handle)(tn_call *call))
{
    return handle == credit_call || handle == tn_intake_handover || handle == tn_intake_end_waits ||
           handle == close_shard_call || handle == retire_call || handle == evict_call ||
           handle == set_shards_call;
}

void tn_intake_dispatch(tn_call *call)
{
    bool known = tn_secret_known(tn_call_header(call, "tenon-internode"));
    /* Whoever watches this process may ask whether it lives, and nothing else. */
    if (!known && strcmp(call->method->path, "/grpc.health.v1.Health/Check") != 0)
        tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_PERMISSION_DENIED,
                                         "not a host of this cluster"));
    else if (!atomic_load_explicit(&ready, memory_order_acquire) &&
             needs_roles(call->method->handle))
        tn_call_fail(call,
                     tn_fault_make(call->arena, TN_GRPC_UNAVAILABLE, "this host is starting"));
    else
        call->method->handle(call);
}

static double served_now(void *user)
{
    (void)user;
    return (double)atomic_load_explicit(&in_service, memory_order_relaxed);
}

void tn_intake_register(void)
{
    static const tn_rpc_method methods[] = {
        {TN_INTERNAL_HISTORY, &tenon__history_call__descriptor, &tenon__history_answer__descriptor,
         TN_RPC_INTERNAL, history_call, NULL},
        {TN_INTERNAL_CREDIT, &tenon__credit_call__descriptor, &tenon__done__descriptor,
         TN_RPC_INTERNAL, credit_call, NULL},
        {TN_INTERNAL_HANDOVER, &tenon__handover_call__descriptor, &tenon__done__descriptor,
         TN_RPC_INTERNAL, tn_intake_handover, NULL},
        {TN_INTERNAL_CLOSE_SHARD, &tenon__shard_call__descriptor, &tenon__done__descriptor,
         TN_RPC_INTERNAL | TN_RPC_ANY_PORT, close_shard_call, NULL},
        {TN_INTERNAL_SHARD_MAP, &tenon__done__descriptor, &tenon__done__descriptor,
         TN_RPC_INTERNAL | TN_RPC_ANY_PORT, shard_map_call, NULL},
        {TN_INTERNAL_ENDPOINTS, &tenon__endpoints_call__descriptor, &tenon__done__descriptor,
         TN_RPC_INTERNAL | TN_RPC_ANY_PORT, endpoints_call, NULL},
        {TN_INTERNAL_SET_SHARDS, &tenon__shards_call__descriptor, &tenon__shards_answer__descriptor,
         TN_RPC_INTERNAL | TN_RPC_ANY_PORT, set_shards_call, NULL},
        {TN_INTERNAL_EVICT, &tenon__evict_call__descriptor, &tenon__evict_answer__descriptor,
         TN_RPC_INTERNAL | TN_RPC_ANY_PORT, evict_call, NULL},
        {TN_INTERNAL_KEYS, &tenon__done__descriptor, &tenon__keys_answer__descriptor,
         TN_RPC_INTERNAL | TN_RPC_ANY_PORT, tn_intake_keys, NULL},
        {TN_INTERNAL_MATCHING, &tenon__matching_call__descriptor,
         &tenon__matching_answer__descriptor, TN_RPC_INTERNAL, matching_call, NULL},
        {TN_INTERNAL_ANSWER_POLL, &tenon__poll_answer__descriptor, &tenon__done__descriptor,
         TN_RPC_INTERNAL | TN_RPC_ANY_PORT, tn_intake_answer_poll, NULL},
        {TN_INTERNAL_END_WAITS, &tenon__end_waits_call__descriptor, &tenon__done__descriptor,
         TN_RPC_INTERNAL | TN_RPC_ANY_PORT, tn_intake_end_waits, NULL},
        {TN_INTERNAL_RETIRE, &tenon__retire_call__descriptor, &tenon__done__descriptor,
         TN_RPC_INTERNAL, retire_call, NULL},
        {TN_INTERNAL_NAMESPACE, &tenon__namespace_call__descriptor, &tenon__done__descriptor,
         TN_RPC_INTERNAL | TN_RPC_ANY_PORT, namespace_call, NULL},
    };
    tn_metrics_gauge_fn("tenon_internode_calls_in_service",
                        "calls of other hosts that this one works on (history; without long polls)",
                        NULL, 0, served_now, NULL);
    shed_calls =
        tn_metrics_counter("tenon_internode_calls_shed",
                           "calls of other hosts that were refused since too many wait", NULL, 0);
    tn_rpc_register(methods, TN_COUNT_OF(methods));
}
