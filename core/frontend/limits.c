/* SPDX-License-Identifier: MIT */
/* Before a method runs: client versions, request rates of the host and of the namespace, and how many calls that wait
 * for long may wait at once.  Numbers are read from dynamic config at every call, so a change holds at once. */
#include "frontend/limits.h"

#include <math.h>

#include "client/door.h"
#include "frontend/callers.h"
#include "frontend/priv.h"
#include "membership/membership.h"
#include "metrics/metrics.h"
#include "proto/proto.h"

enum {
    CAUSE_RPS_LIMIT = 1,
    CAUSE_CONCURRENT_LIMIT = 2
};                                              /* temporal.api.enums.v1.ResourceExhaustedCause */
enum { SCOPE_NAMESPACE = 1, SCOPE_SYSTEM = 2 }; /* ...ResourceExhaustedScope */
#define HOST_BURST 2.0

/* What is counted for one namespace.  The table never shrinks and never moves; when it is full, further namespaces
 * share the last place (and its numbers). */
typedef struct ns_place {
    atomic_uint_fast64_t key; /* hash of the namespace's id; 0: free */
    tn_rate_buckets rates[TN_RATES];
    tn_rate_buckets shares[TN_RATES]; /* of the host's rates */
    tn_rate_buckets deployments;      /* being read */
    atomic_uint_fast64_t seen;
    tn_rate_callers callers; /* of this namespace: callers.h */
    atomic_int waiting[TN_WAITS];
} ns_place;
#define PLACES 4096u

static ns_place places[PLACES];
static tn_rate_buckets host_rates[TN_RATES];
static tn_rate_callers callers;

/* ---- namespaces ---- */

static ns_place *place_of(const tn_namespace *ns)
{
    uint64_t key = tn_hash64_stable(tn_blob_of_str(ns->id), (tn_blob){NULL, 0}) | 1;
    for (size_t i = 0; i + 1 < PLACES; i++) {
        ns_place *place = &places[(key + i) % (PLACES - 1)];
        uint64_t held = atomic_load_explicit(&place->key, memory_order_relaxed);
        if (held == key)
            return place;
        if (held == 0 &&
            (atomic_compare_exchange_strong_explicit(&place->key, &held, key, memory_order_relaxed,
                                                     memory_order_relaxed) ||
             held == key))
            return place;
    }
    return &places[PLACES - 1];
}

/* A number for the whole cluster goes before that of a host: each frontend has its part. */
static double of_cluster(tn_dyn_key global, tn_dyn_key own, tn_str ns)
{
    int64_t whole = tn_dyn_i64(global, ns, TN_STR(""));
    if (whole <= 0)
        return (double)tn_dyn_i64(own, ns, TN_STR(""));
    size_t frontends = tn_members_count(TN_SERVICE_FRONTEND);
    return (double)whole / (double)(frontends ? frontends : 1);
}

static tn_rate rate_of(int kind, tn_str ns)
{
    static const struct {
        tn_dyn_key rps, global, burst;
    } keys[TN_RATES] = {
        [TN_RATE_CALLS] = {TN_DYN_FRONTEND_NAMESPACE_RPS, TN_DYN_FRONTEND_GLOBAL_NAMESPACE_RPS,
                           TN_DYN_FRONTEND_NAMESPACE_BURST},
        [TN_RATE_VISIBILITY] = {TN_DYN_FRONTEND_VISIBILITY_RPS,
                                TN_DYN_FRONTEND_GLOBAL_VISIBILITY_RPS,
                                TN_DYN_FRONTEND_VISIBILITY_BURST},
        [TN_RATE_NS_CHANGES] = {TN_DYN_FRONTEND_NAMESPACE_REPLICATION_RPS,
                                TN_DYN_FRONTEND_GLOBAL_REPLICATION_RPS,
                                TN_DYN_FRONTEND_NAMESPACE_REPLICATION_BURST},
    };
    double rps = of_cluster(keys[kind].global, keys[kind].rps, ns);
    return (tn_rate){rps, rps * tn_dyn_f64(keys[kind].burst, ns, TN_STR(""))};
}

static tn_rate host_rate_of(int kind)
{
    double rps = kind == TN_RATE_NS_CHANGES
                     ? (double)tn_dyn_i64(TN_DYN_FRONTEND_REPLICATION_RPS, TN_STR(""), TN_STR(""))
                     : of_cluster(TN_DYN_FRONTEND_GLOBAL_RPS, TN_DYN_FRONTEND_RPS, TN_STR(""));
    return (tn_rate){rps, rps * HOST_BURST};
}

/* ---- admission ---- */

static bool waits_for_events(const tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryRequest *r =
        (const void *)f->call->request;
    return r->wait_new_event;
}

static uint32_t priority_of(const tn_fcall *f, const tn_fmethod *method)
{
    if (tn_str_is(tn_call_header(f->call, "caller-type"), "operator"))
        return TN_PRIORITY_OPERATOR;
    if (method->waits == TN_WAIT_HISTORY && waits_for_events(f))
        return 5; /* a long poll for events yields to the polls that workers live by */
    return method->priority;
}

/* The namespace's rate, of which each that calls has an equal share first. */
static bool namespace_has_room(tn_fcall *f, ns_place *place, int kind, double ratio,
                               uint32_t priority, uint64_t now)
{
    tn_rate rate = rate_of(kind, f->ns->name);
    if (rate.per_second <= 0)
        return true;
    if (!tn_dyn_bool(TN_DYN_FRONTEND_CALLER_FAIRNESS, f->ns->name, TN_STR("")))
        return tn_rate_allows(&place->rates[kind], rate, ratio, priority, now);
    tn_caller *caller = tn_front_caller(f->call, f->ns->id, now);
    uint32_t n = tn_rate_callers_count(&place->callers, &caller->seen, now);
    if (tn_rate_allows_one_of(&place->rates[kind], &caller->shares[kind], n, rate, ratio, priority,
                              now))
        return true;
    if (n > 1)
        tn_counter_inc(tn_metrics_counter("caller_share_refusals",
                                          "calls refused of callers that had taken their share of "
                                          "a namespace's rate beside others",
                                          &TN_LABEL("namespace", f->ns->name), 1));
    return false;
}

static tn_str changed_name(const ProtobufCMessage *request)
{
    if (request->descriptor ==
        &temporal__api__workflowservice__v1__update_namespace_request__descriptor)
        return tn_str_from(
            ((const Temporal__Api__Workflowservice__V1__UpdateNamespaceRequest *)request)
                ->namespace_);
    if (request->descriptor ==
        &temporal__api__workflowservice__v1__register_namespace_request__descriptor)
        return tn_str_from(
            ((const Temporal__Api__Workflowservice__V1__RegisterNamespaceRequest *)request)
                ->namespace_);
    return (tn_str){NULL, 0};
}

static const tn_fault *check_rates(tn_fcall *f, const tn_fmethod *method, ns_place *place)
{
    int kind = method->flags & TN_FM_VISIBILITY  ? TN_RATE_VISIBILITY
               : method->flags & TN_FM_NS_CHANGE ? TN_RATE_NS_CHANGES
                                                 : TN_RATE_CALLS;
    uint64_t now = tn_now_mono_ns();
    double ratio = tn_dyn_f64(TN_DYN_SYSTEM_OPERATOR_RPS_RATIO, TN_STR(""), TN_STR(""));
    uint32_t priority = priority_of(f, method);
    if (place && !namespace_has_room(f, place, kind, ratio, priority, now))
        return tn_fault_exhausted(f->call->arena, CAUSE_RPS_LIMIT, SCOPE_NAMESPACE,
                                  "namespace rate limit exceeded");
    tn_rate rate = host_rate_of(kind);
    bool room = place ? tn_rate_allows_one_of(&host_rates[kind], &place->shares[kind],
                                              tn_rate_callers_count(&callers, &place->seen, now),
                                              rate, ratio, priority, now)
                      : tn_rate_allows(&host_rates[kind], rate, ratio, priority, now);
    if (!room)
        return tn_fault_exhausted(f->call->arena, CAUSE_RPS_LIMIT, SCOPE_SYSTEM,
                                  "service rate limit exceeded");
    if (kind == TN_RATE_NS_CHANGES)
        return tn_door_frontend(f->call->arena, changed_name(f->call->request),
                                tn_caller_type_of(tn_call_header(f->call, "caller-type")));
    return NULL;
}

/* One more that waits; let_go gives the place back. */
static const tn_fault *check_waiting(tn_fcall *f, const tn_fmethod *method, ns_place *place)
{
    int64_t max;
    if (!place || method->waits == TN_WAIT_NONE ||
        (method->waits == TN_WAIT_HISTORY && !waits_for_events(f)))
        return NULL;
    f->waiting = &place->waiting[method->waits];
    int before = atomic_fetch_add_explicit(f->waiting, 1, memory_order_relaxed);
    max = (int64_t)ceil(of_cluster(TN_DYN_FRONTEND_GLOBAL_NAMESPACE_COUNT,
                                   TN_DYN_FRONTEND_NAMESPACE_COUNT, f->ns->name));
    if (max <= 0 || before < max)
        return NULL;
    tn_front_release(f);
    return tn_fault_exhausted(f->call->arena, CAUSE_CONCURRENT_LIMIT, SCOPE_NAMESPACE,
                              "namespace concurrent poller limit exceeded");
}

const tn_fault *tn_front_admit(tn_fcall *f, const tn_fmethod *method)
{
    tn_call *call = f->call;
    ns_place *place = f->ns ? place_of(f->ns) : NULL;
    const tn_fault *fault = check_waiting(f, method, place);
    if (!fault)
        fault = check_rates(f, method, place);
    if (!fault)
        fault = tn_versions_check(call->arena, tn_call_header(call, "client-name"),
                                  tn_call_header(call, "client-version"),
                                  tn_call_header(call, "supported-server-versions"));
    if (fault)
        tn_front_release(f);
    return fault;
}

const tn_fault *tn_front_deployment_read_rate(tn_fcall *f)
{
    size_t frontends = tn_members_count(TN_SERVICE_FRONTEND);
    double rps = (double)tn_dyn_i64(TN_DYN_FRONTEND_DEPLOYMENT_READ_RPS, f->ns->name, TN_STR("")) /
                 (double)(frontends ? frontends : 1);
    tn_rate rate = {
        rps, rps * tn_dyn_f64(TN_DYN_FRONTEND_DEPLOYMENT_READ_BURST, f->ns->name, TN_STR(""))};
    if (tn_rate_allows(&place_of(f->ns)->deployments, rate, 1, 0, tn_now_mono_ns()))
        return NULL;
    return tn_fault_exhausted(
        f->call->arena, CAUSE_RPS_LIMIT, SCOPE_NAMESPACE,
        "Worker Deployment Read API rate limit exceeded for namespace \"" TN_STR_FMT "\"",
        TN_STR_ARG(f->ns->name));
}

void tn_front_release(tn_fcall *f)
{
    if (f->waiting)
        atomic_fetch_sub_explicit(f->waiting, 1, memory_order_relaxed);
    f->waiting = NULL;
}

/* ---- what a refused caller reads from headers ---- */

static const char *enum_word(const ProtobufCEnumDescriptor *type, int32_t value, const char *prefix,
                             char out[64])
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, value);
    size_t n = 0, skip = strlen(prefix);
    bool upper = true;
    if (!known || strncmp(known->name, prefix, skip) != 0)
        return "Unspecified";
    for (const char *s = known->name + skip; *s && n < 63; s++) {
        if (*s == '_') {
            upper = true;
            continue;
        }
        out[n++] = upper || *s < 'A' || *s > 'Z' ? *s : (char)(*s + ('a' - 'A'));
        upper = false;
    }
    out[n] = '\0';
    return out;
}

void tn_front_exhausted_headers(tn_call *call, const tn_fault *fault)
{
    char cause[64], scope[64];
    tn_wire_field field;
    if (fault->code != TN_GRPC_RESOURCE_EXHAUSTED || !fault->detail.n)
        return;
    int32_t cause_no = tn_wire_find(fault->detail, 1, &field) ? (int32_t)field.value : 0;
    int32_t scope_no = tn_wire_find(fault->detail, 2, &field) ? (int32_t)field.value : 0;
    const char *c = enum_word(&temporal__api__enums__v1__resource_exhausted_cause__descriptor,
                              cause_no, "RESOURCE_EXHAUSTED_CAUSE_", cause);
    const char *s = enum_word(&temporal__api__enums__v1__resource_exhausted_scope__descriptor,
                              scope_no, "RESOURCE_EXHAUSTED_SCOPE_", scope);
    tn_call_add_header(call, "x-resource-exhausted-cause",
                       tn_arena_str(call->arena, tn_str_from(c)));
    tn_call_add_header(call, "x-resource-exhausted-scope",
                       tn_arena_str(call->arena, tn_str_from(s)));
}
