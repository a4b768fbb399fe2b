/* SPDX-License-Identifier: MIT */
/* One call's way through the plugins: map, authorize, and authorize again for each further namespace that
 * the request would act on.  Each step may answer at once or later; `run` goes on from where it stopped.
 *
 * What a plugin looks at is copied into its operation first: it may go on looking when the deadline has
 * passed and the call is answered.  The mapper's memory (the claims) moves into the authorizer's.
 *
 * A call is decided by one pair of plugins from its beginning to its end, also while a reload gives its loop another
 * pair: claims may hold what only the authorizer beside the mapper can read. */
#include "auth/auth.h"

#include <stdlib.h>
#include <string.h>

#include "auth/private.h"
#include "metrics/metrics.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

typedef enum step { STEP_MAP, STEP_MAPPED, STEP_ASK, STEP_DECIDED, STEP_ALLOWED, STEP_DENIED } step;

#define LOOPS_MAX 64u

struct tn_auth_pair {
    tn_plugin_instance *mapper, *authorizer;
    const tn_claim_mapper_ops *map_ops;
    const tn_authorizer_ops *auth_ops;
    uint64_t timeout_ns;
    struct {
        uint64_t checks; /* [that loop] calls that are being decided by this pair */
        uint8_t apart[56];
    } on[LOOPS_MAX];
};

typedef struct check { /* in the call's arena */
    tn_call *call;
    tn_auth_pair *pair;
    void (*next)(tn_call *call);
    const tn_auth_method *method;
    tn_call_target target;
    step step;
    uint64_t deadline_ns;
    tn_plugin_call *pending;
    tn_claims *claims;     /* in the mapper's memory, then in the authorizer's */
    tn_arena *claims_home; /* whose memory the claims live in, when no operation owns it */
    tn_decision *decision;
    size_t further; /* commands looked at */
    tn_str own_ns, reason;
} check;

static struct {
    tn_auth_pair *pair; /* [main] */
    tn_counter *unauthorized, *failed;
} auth;

/* [that loop] The pair that its next call gets; written by a visit of main. */
static struct {
    tn_auth_pair *pair;
    uint8_t apart[56];
} here[LOOPS_MAX];

static void run(check *c);

/* ---- copies ------------------------------------------------------------------------------------- */

static bool copy_str(tn_arena *arena, tn_str *s)
{
    if (s->n == 0) {
        *s = (tn_str){0};
        return true;
    }
    *s = tn_arena_str(arena, *s);
    return s->p != NULL;
}

static bool copy_blob(tn_arena *arena, tn_blob *b)
{
    tn_str s = tn_str_of_blob(*b);
    bool ok = copy_str(arena, &s);
    *b = tn_blob_of_str(s);
    return ok;
}

static tn_call_target *copy_target(tn_arena *arena, const tn_call_target *from)
{
    tn_call_target *t = TN_NEW(arena, tn_call_target);
    if (!t)
        return NULL;
    *t = *from;
    bool ok = copy_str(arena, &t->ns) && copy_str(arena, &t->nexus_endpoint) &&
              copy_str(arena, &t->workflow_id) && copy_str(arena, &t->workflow_type) &&
              copy_str(arena, &t->task_queue) && copy_blob(arena, &t->message);
    return ok ? t : NULL; /* api_name and message_type are static */
}

/* ---- steps -------------------------------------------------------------------------------------- */

static void deny(check *c) { c->step = STEP_DENIED; }

static void plugin_done(tn_plugin_call *call) { run(call->user); }

static bool shows_nothing(const tn_auth_info *info)
{
    return info->authorization.n == 0 && info->peer_cert_der.n == 0 && info->tls_subject.n == 0;
}

static void step_map(check *c)
{
    const tn_call *call = c->call;
    tn_auth_info info = {.struct_size = sizeof info,
                         .authorization = tn_call_header(call, "authorization"),
                         .extra_data = tn_call_header(call, "authorization-extras"),
                         .peer_cert_der = tn_call_peer_cert(call),
                         .tls_subject = tn_call_tls_subject(call),
                         .peer_address = tn_call_peer(call)};
    tn_plugin_instance *mapper = c->pair->mapper;
    if (shows_nothing(&info) && !(tn_plugin_caps(mapper) & TN_CAP_MAP_ANONYMOUS)) {
        c->step = STEP_ASK;
        return;
    }
    tn_plugin_call *op = tn_plugin_call_begin_at(mapper, 0, c->deadline_ns, plugin_done, c);
    tn_auth_info *copy = TN_NEW(op->arena, tn_auth_info);
    tn_claims *claims = TN_NEW(op->arena, tn_claims);
    tn_status status = TN_ETOOLARGE;
    c->step = STEP_MAPPED;
    c->pending = op;
    c->claims = claims;
    if (copy && claims) {
        *copy = info;
        claims->struct_size = sizeof *claims;
        claims->present = 1; /* a mapper that knows the caller need not say so */
        bool ok =
            copy_str(op->arena, &copy->authorization) && copy_str(op->arena, &copy->extra_data) &&
            copy_blob(op->arena, &copy->peer_cert_der) && copy_str(op->arena, &copy->tls_subject) &&
            copy_str(op->arena, &copy->peer_address);
        uint64_t entered = tn_plugin_enter();
        if (ok)
            status = c->pair->map_ops->map(tn_plugin_ctx(mapper), op->op, copy, claims);
        tn_plugin_left(mapper, "map", entered);
    }
    tn_plugin_call_returned(op, status);
}

static void say_failed(const tn_plugin_call *op, tn_plugin_instance *plugin)
{
    tn_counter_inc(auth.failed);
    TN_LOG(TN_LOG_WARN, "auth", "plugin failed: denied", TN_LOG_Z("plugin", tn_plugin_name(plugin)),
           TN_LOG_Z("status", tn_status_name(op->status)), TN_LOG_Z("error", op->err.text));
}

static void step_mapped(check *c)
{
    tn_plugin_call *op = c->pending;
    c->pending = NULL;
    if (op->status != TN_OK) {
        say_failed(op, c->pair->mapper);
        tn_plugin_call_end(op);
        deny(c);
        return;
    }
    if (c->claims->present) {
        c->claims_home = tn_arena_create(0);
        tn_plugin_call_take(op, c->claims_home);
    } else {
        c->claims = NULL;
    }
    tn_plugin_call_end(op);
    c->step = STEP_ASK;
}

static const tn_claims no_claims = {.struct_size = sizeof(tn_claims)};

static void step_ask(check *c)
{
    tn_plugin_instance *authorizer = c->pair->authorizer;
    tn_plugin_call *op = tn_plugin_call_begin_at(authorizer, 0, c->deadline_ns, plugin_done, c);
    tn_call_target *target = copy_target(op->arena, &c->target);
    tn_decision *decision = TN_NEW(op->arena, tn_decision);
    tn_status status = TN_ETOOLARGE;
    c->step = STEP_DECIDED;
    c->pending = op;
    c->decision = decision;
    if (c->claims_home) {
        tn_arena_adopt(op->arena, c->claims_home);
        c->claims_home = NULL;
    }
    if (target && decision) {
        decision->struct_size = sizeof *decision;
        uint64_t entered = tn_plugin_enter();
        status = c->pair->auth_ops->authorize(tn_plugin_ctx(authorizer), op->op,
                                              c->claims ? c->claims : &no_claims, target, decision);
        tn_plugin_left(authorizer, "authorize", entered);
    }
    tn_plugin_call_returned(op, status);
}

/* Is there another namespace to ask about?  Then target stands for it. */
static bool next_target(check *c)
{
    tn_str ns, api;
    if (!c->method || !c->method->names_targets || !c->call->request)
        return false;
    if (!tn_auth_further_target(c->call, &c->further, c->own_ns, &ns, &api))
        return false;
    c->target.ns = ns;
    c->target.api_name = api;
    tn_auth_rule(api, &c->target.access, &c->target.scope);
    c->target.workflow_id = c->target.workflow_type = c->target.task_queue = (tn_str){0};
    return true;
}

static void step_decided(check *c)
{
    tn_plugin_call *op = c->pending;
    c->pending = NULL;
    bool allowed = op->status == TN_OK && c->decision->verdict == TN_ALLOW;
    if (op->status != TN_OK)
        say_failed(op, c->pair->authorizer);
    else if (!allowed && c->decision->verdict != TN_DENY)
        TN_LOG(TN_LOG_WARN, "auth", "no verdict: denied",
               TN_LOG_Z("plugin", tn_plugin_name(c->pair->authorizer)));
    if (op->status == TN_OK && !allowed && c->decision->reason.n) {
        tn_str reason = c->decision->reason;
        reason.n = reason.n < 1000 ? reason.n : 1000;
        if (tn_utf8_valid((const uint8_t *)reason.p, reason.n))
            c->reason = tn_arena_str(c->call->arena, reason);
    }
    if (!allowed) {
        deny(c);
    } else if (next_target(c)) {
        c->claims_home = tn_arena_create(0); /* the claims are asked about again */
        tn_plugin_call_take(op, c->claims_home);
        c->step = STEP_ASK;
    } else {
        c->step = STEP_ALLOWED;
    }
    tn_plugin_call_end(op);
}

static void answer_denied(check *c)
{
    Temporal__Api__Errordetails__V1__PermissionDeniedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__PERMISSION_DENIED_FAILURE__INIT;
    if (c->reason.n)
        detail.reason = (char *)(uintptr_t)c->reason.p;
    tn_counter_inc(auth.unauthorized);
    tn_call_fail(c->call, tn_fault_detailed(c->call->arena, TN_GRPC_PERMISSION_DENIED, &detail.base,
                                            "Request unauthorized."));
}

/* The call may be parked for a minute with what is in its arena: the check need not be. */
static void allowed(check *c)
{
    tn_call *call = c->call;
    void (*next)(tn_call * call) = c->next;

    tn_arena_give_back(call->arena, c, sizeof(*c));
    next(call);
}

/* Goes on until a plugin makes it wait or the call is decided. */
static void run(check *c)
{
    for (;;) {
        if (c->pending && c->pending->status == TN_PENDING)
            return;
        switch (c->step) {
        case STEP_MAP:
            step_map(c);
            break;
        case STEP_MAPPED:
            step_mapped(c);
            break;
        case STEP_ASK:
            step_ask(c);
            break;
        case STEP_DECIDED:
            step_decided(c);
            break;
        case STEP_ALLOWED:
        case STEP_DENIED:
            if (c->claims_home)
                tn_arena_destroy(c->claims_home);
            c->pair->on[tn_loop_index(tn_loop_current())].checks--;
            if (c->step == STEP_ALLOWED)
                allowed(c);
            else
                answer_denied(c);
            return;
        }
    }
}

void tn_auth_check(tn_call *call, void (*next)(tn_call *call))
{
    const tn_auth_method *method = tn_auth_method_find(tn_str_from(call->method->path));
    if (method && method->free) {
        next(call);
        return;
    }
    check *c = TN_NEW(call->arena, check);
    if (!c) {
        tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED,
                                         "the request needs too much memory"));
        return;
    }
    c->call = call;
    c->next = next;
    c->method = method;
    c->step = STEP_MAP;
    uint32_t loop = tn_loop_index(tn_loop_current());
    c->pair = here[loop].pair;
    c->pair->on[loop].checks++;
    c->deadline_ns = tn_now_mono_ns() + c->pair->timeout_ns;
    if (call->deadline_mono_ns < c->deadline_ns)
        c->deadline_ns = call->deadline_mono_ns;
    if (!tn_auth_target(method, call, &c->target))
        deny(c); /* two namespaces in one request: nobody could decide that rightly */
    c->own_ns = c->target.ns;
    run(c);
}

/* ---- life [main] -------------------------------------------------------------------------------- */

static tn_auth_pair *make_pair(tn_plugin_instance *mapper, tn_plugin_instance *authorizer,
                               uint64_t timeout_ns)
{
    TN_ASSERT(tn_plugin_kind(mapper) == TN_KIND_CLAIM_MAPPER);
    TN_ASSERT(tn_plugin_kind(authorizer) == TN_KIND_AUTHORIZER);
    tn_auth_pair *pair = tn_xcalloc(1, sizeof *pair);
    pair->mapper = mapper;
    pair->authorizer = authorizer;
    pair->map_ops = tn_plugin_ops(mapper);
    pair->auth_ops = tn_plugin_ops(authorizer);
    pair->timeout_ns = timeout_ns ? timeout_ns : 5 * TN_SEC;
    return pair;
}

static void take_here(void *pair) { here[tn_loop_index(tn_loop_current())].pair = pair; }

static void hand_out(tn_auth_pair *pair)
{
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(tn_loops_get(i), take_here, pair);
    auth.pair = pair;
}

static tn_status attach_both(tn_plugin_instance *mapper, tn_plugin_instance *authorizer,
                             tn_error *err)
{
    tn_status status = tn_plugin_attach(mapper, err);
    if (status != TN_OK)
        return status;
    status = tn_plugin_attach(authorizer, err);
    if (status != TN_OK)
        tn_plugin_detach(mapper, 0);
    return status;
}

tn_status tn_auth_start(tn_plugin_instance *claim_mapper, tn_plugin_instance *authorizer,
                        uint64_t timeout_ns, tn_error *err)
{
    TN_ASSERT(!auth.pair && tn_loops_count() <= LOOPS_MAX);
    tn_auth_methods_init();
    tn_status status = attach_both(claim_mapper, authorizer, err);
    if (status != TN_OK)
        return status;
    auth.unauthorized =
        tn_metrics_counter("service_errors_unauthorized", "Calls that were denied", NULL, 0);
    auth.failed = tn_metrics_counter("service_errors_authorize_failed",
                                     "Calls denied since a plugin failed", NULL, 0);
    hand_out(make_pair(claim_mapper, authorizer, timeout_ns));
    return TN_OK;
}

tn_status tn_auth_replace(tn_plugin_instance *claim_mapper, tn_plugin_instance *authorizer,
                          uint64_t timeout_ns, tn_auth_pair **out_old, tn_error *err)
{
    TN_ASSERT(auth.pair);
    tn_status status = attach_both(claim_mapper, authorizer, err);
    if (status != TN_OK)
        return status;
    tn_auth_pair *pair = make_pair(claim_mapper, authorizer, timeout_ns), *old = auth.pair;
    status = tn_auth_probe(claim_mapper, authorizer, pair->timeout_ns, err);
    if (status != TN_OK) {
        tn_plugin_detach(claim_mapper, 0);
        tn_plugin_detach(authorizer, 0);
        free(pair);
        return status;
    }
    hand_out(pair);
    *out_old = old;
    return TN_OK;
}

typedef struct count {
    const tn_auth_pair *pair;
    uint64_t checks;
} count;

static void count_here(void *arg)
{
    count *c = arg;
    c->checks += c->pair->on[tn_loop_index(tn_loop_current())].checks;
}

static bool in_flight(const tn_plugin_instance *inst)
{
    tn_plugin_stats stats;
    tn_plugin_stats_get(inst, &stats);
    return stats.in_flight > 0;
}

bool tn_auth_idle(const tn_auth_pair *old)
{
    count c = {.pair = old};
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(tn_loops_get(i), count_here, &c);
    return c.checks == 0 && !in_flight(old->mapper) && !in_flight(old->authorizer);
}

void tn_auth_forget(tn_auth_pair *old) { free(old); }

void tn_auth_stop(void)
{
    tn_auth_pair *pair = auth.pair;
    if (!pair)
        return;
    tn_plugin_detach(pair->mapper, pair->timeout_ns);
    tn_plugin_detach(pair->authorizer, pair->timeout_ns);
    hand_out(NULL);
    free(pair);
    memset(&auth, 0, sizeof auth);
}
