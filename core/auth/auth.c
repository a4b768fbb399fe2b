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
#include <stdio.h>
#include <string.h>

#include "auth/audit.h"
#include "auth/private.h"
#include "config/dynconfig.h"
#include "metrics/metrics.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

#define ASKED_MAX 8u

typedef enum step { STEP_MAP, STEP_MAPPED, STEP_ASK, STEP_DECIDED, STEP_ALLOWED, STEP_DENIED } step;

#define LOOPS_MAX 64u

struct tn_auth_pair {
    tn_plugin_instance *mapper, *authorizer;
    const tn_claim_mapper_ops *map_ops;
    const tn_authorizer_ops *auth_ops;
    uint64_t timeout_ns;
    char header[TN_AUTH_HEADER_MAX + 1], extras[TN_AUTH_HEADER_MAX + 1];
    char audience[TN_AUTH_AUDIENCE_MAX + 1];
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
    tn_auth_walk *walk; /* over the further namespaces; NULL: not begun */
    struct asked {
        tn_str ns, api;
    } asked[ASKED_MAX]; /* further ones that were allowed, the last of them */
    size_t n_asked;
    uint64_t began_ns;
    tn_str own_ns, reason;
    bool further; /* target stands for a further namespace */
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

/* A call that is being decided keeps its pair. */
static tn_auth_pair *pair_enter(void)
{
    uint32_t loop = tn_loop_index(tn_loop_current());
    here[loop].pair->on[loop].checks++;
    return here[loop].pair;
}

static void pair_leave(tn_auth_pair *pair) { pair->on[tn_loop_index(tn_loop_current())].checks--; }

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

/* decision NULL: it was not the authorizer who decided, `cause` says what. */
static void audit(const check *c, bool is_allowed, const tn_decision *decision, const char *cause)
{
    const tn_call *call = c->call;
    if (!tn_audit_wants(is_allowed))
        return;
    const tn_claims *claims = c->claims;
    tn_audit_event event = {.allowed = is_allowed,
                            .method = tn_str_from(call->method->path),
                            .ns = c->own_ns,
                            .workflow_id = c->target.workflow_id,
                            .workflow_type = c->target.workflow_type,
                            .task_queue = c->target.task_queue,
                            .peer = tn_call_peer(call),
                            .tls_subject = tn_call_tls_subject(call),
                            .cause = tn_str_from(cause),
                            .latency_ns = tn_now_mono_ns() - c->began_ns};
    if (c->further) {
        event.as_method = c->target.api_name;
        event.target_ns = c->target.ns;
    }
    if (claims) {
        event.subject = claims->subject;
        event.auth_type = claims->auth_type;
    }
    if (decision) {
        event.rule = decision->rule;
        event.reason = decision->reason;
        event.principal = decision->principal;
    }
    tn_audit_write(&event);
}

static bool shows_nothing(const tn_auth_info *info)
{
    return info->authorization.n == 0 && info->peer_cert_der.n == 0 && info->tls_subject.n == 0;
}

static void step_map(check *c)
{
    const tn_call *call = c->call;
    tn_auth_info info = {.struct_size = sizeof info,
                         .authorization = tn_call_header(call, c->pair->header),
                         .extra_data = tn_call_header(call, c->pair->extras),
                         .audience = tn_str_from(c->pair->audience),
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
        c->claims = NULL;
        audit(c, false, NULL, "the claim mapper failed");
        tn_plugin_call_end(op);
        deny(c);
        return;
    }
    if (c->claims->present) {
        if (c->claims->subject.n)
            c->call->caller =
                tn_hash64_stable(tn_blob_of_str(c->claims->subject), (tn_blob){NULL, 0}) | 1;
        c->claims_home = tn_arena_create(0);
        tn_plugin_call_take(op, c->claims_home);
    } else {
        c->claims = NULL;
    }
    tn_plugin_call_end(op);
    c->step = STEP_ASK;
}

static const tn_claims no_claims = {.struct_size = sizeof(tn_claims)};

/* Begins the question; the claims' memory goes with it. */
static tn_plugin_call *ask(const tn_auth_pair *pair, tn_arena **claims_home,
                           const tn_claims *claims, const tn_call_target *about,
                           uint64_t deadline_ns, void (*done)(tn_plugin_call *call), void *user,
                           tn_decision **out)
{
    tn_plugin_call *op = tn_plugin_call_begin_at(pair->authorizer, 0, deadline_ns, done, user);
    tn_call_target *target = copy_target(op->arena, about);
    tn_decision *decision = TN_NEW(op->arena, tn_decision);
    *out = decision;
    if (*claims_home)
        tn_arena_adopt(op->arena, *claims_home);
    *claims_home = NULL;
    tn_status status = TN_ETOOLARGE;
    if (target && decision) {
        decision->struct_size = sizeof *decision;
        uint64_t entered = tn_plugin_enter();
        status = pair->auth_ops->authorize(tn_plugin_ctx(pair->authorizer), op->op, claims, target,
                                           decision);
        tn_plugin_left(pair->authorizer, "authorize", entered);
    }
    tn_plugin_call_returned(op, status);
    return op;
}

static void step_ask(check *c)
{
    c->step = STEP_DECIDED;
    c->pending = ask(c->pair, &c->claims_home, c->claims ? c->claims : &no_claims, &c->target,
                     c->deadline_ns, plugin_done, c, &c->decision);
}

static bool was_asked(const check *c, tn_str ns, tn_str api)
{
    for (size_t i = 0; i < c->n_asked && i < ASKED_MAX; i++)
        if (tn_str_eq(c->asked[i].ns, ns) && tn_str_eq(c->asked[i].api, api))
            return true;
    return false;
}

/* Is there another namespace to ask about?  Then target stands for it. */
static bool next_target(check *c)
{
    tn_str ns, api;
    if (!c->method || !c->method->names_more || !c->call->request)
        return false;
    if (!c->walk) {
        c->walk = TN_NEW(c->call->arena, tn_auth_walk);
        if (!c->walk)
            return false;
        tn_auth_walk_begin(c->walk, c->method, c->call->request);
    } else if (c->further) {
        c->asked[c->n_asked++ % ASKED_MAX] = (struct asked){c->target.ns, c->target.api_name};
    }
    do {
        if (!tn_auth_walk_next(c->walk, c->call, c->own_ns, &ns, &api))
            return false;
    } while (was_asked(c, ns, api));
    c->further = true;
    c->target.ns = ns;
    c->target.api_name = api;
    tn_auth_rule(api, &c->target.access, &c->target.scope);
    c->target.workflow_id = c->target.workflow_type = c->target.task_queue = (tn_str){0};
    return true;
}

/* All of the request was looked at: not so when there was no memory for it, or it nests deeper than we go. */
static bool walked(const check *c)
{
    if (!c->method || !c->method->names_more || !c->call->request)
        return true;
    return c->walk && !c->walk->too_deep;
}

static void keep_reason(check *c, tn_str reason)
{
    reason.n = reason.n < 1000 ? reason.n : 1000;
    if (reason.n && tn_utf8_valid((const uint8_t *)reason.p, reason.n))
        c->reason = tn_arena_str(c->call->arena, reason);
}

static bool verdict(check *c, const tn_plugin_call *op)
{
    if (op->status != TN_OK) {
        say_failed(op, c->pair->authorizer);
        if (!op->late &&
            tn_dyn_bool(TN_DYN_FRONTEND_EXPOSE_AUTHORIZER_ERRORS, TN_STR(""), TN_STR("")))
            keep_reason(c, tn_str_from(op->err.text));
        audit(c, false, NULL, "the authorizer failed");
        return false;
    }
    bool is_allowed = c->decision->verdict == TN_ALLOW;
    if (!is_allowed && c->decision->verdict != TN_DENY)
        TN_LOG(TN_LOG_WARN, "auth", "no verdict: denied",
               TN_LOG_Z("plugin", tn_plugin_name(c->pair->authorizer)));
    if (!is_allowed)
        keep_reason(c, c->decision->reason);
    audit(c, is_allowed, c->decision, "");
    return is_allowed;
}

static void step_decided(check *c)
{
    tn_plugin_call *op = c->pending;
    c->pending = NULL;
    if (!verdict(c, op)) {
        deny(c);
        tn_plugin_call_end(op);
        return;
    }
    bool more = next_target(c);
    if (more || (c->method && c->method->lists)) { /* the claims are asked about again */
        c->claims_home = tn_arena_create(0);
        tn_plugin_call_take(op, c->claims_home);
    }
    if (more) {
        c->step = STEP_ASK;
    } else if (walked(c)) {
        c->step = STEP_ALLOWED;
    } else {
        audit(c, false, NULL, "the request could not be looked at whole");
        deny(c);
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

/* What the handler of a call that spans namespaces may ask with, for as long as it runs. */
static _Thread_local struct kept {
    const tn_call *call;
    tn_auth_pair *pair;
    const tn_claims *claims;
    tn_arena *home;
} kept;

static void allowed_with_claims(check *c)
{
    struct kept before = kept;
    kept = (struct kept){c->call, c->pair, c->claims, c->claims_home};
    c->next(c->call);
    if (kept.pair) { /* it had no use for them */
        tn_arena_destroy(kept.home);
        pair_leave(kept.pair);
    }
    kept = before;
}

/* The call may be parked for a minute with what is in its arena: the check need not be. */
static void allowed(check *c)
{
    tn_call *call = c->call;
    void (*next)(tn_call * call) = c->next;

    if (c->walk)
        tn_arena_give_back(call->arena, c->walk, sizeof(*c->walk));
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
            if (c->step == STEP_ALLOWED && c->method && c->method->lists) {
                allowed_with_claims(c);
                return;
            }
            tn_arena_destroy(c->claims_home);
            pair_leave(c->pair);
            if (c->step == STEP_ALLOWED)
                allowed(c);
            else
                answer_denied(c);
            return;
        }
    }
}

static uint64_t deadline_of(const tn_call *call, const tn_auth_pair *pair, uint64_t now_ns)
{
    uint64_t own = now_ns + pair->timeout_ns;
    return call->deadline_mono_ns < own ? call->deadline_mono_ns : own;
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
    c->pair = pair_enter();
    c->began_ns = tn_now_mono_ns();
    c->deadline_ns = deadline_of(call, c->pair, c->began_ns);
    bool one = tn_auth_target(method, call, &c->target);
    c->own_ns = c->target.ns;
    if (!one) { /* nobody could decide that rightly */
        audit(c, false, NULL, "the request names two namespaces");
        deny(c);
    }
    run(c);
}

/* ---- what spans namespaces ---------------------------------------------------------------------- */

typedef struct filtering {
    tn_call *call;
    tn_auth_pair *pair;
    tn_auth_filter *filter;
    tn_call_target target;
    const tn_claims *claims;
    tn_arena *claims_home;
    tn_decision *decision;
} filtering;

static void filter_go(filtering *f);

/* True: go on. */
static bool filter_answered(filtering *f, tn_plugin_call *op)
{
    bool answered = op->status == TN_OK;
    if (!answered)
        say_failed(op, f->pair->authorizer);
    f->filter->verdict(f->filter, answered && f->decision->verdict == TN_ALLOW);
    if (answered) {
        f->claims_home = tn_arena_create(0);
        tn_plugin_call_take(op, f->claims_home);
    }
    tn_plugin_call_end(op); /* with the claims, when it has failed */
    f->filter->failed = !answered;
    return answered;
}

static void filter_end(const filtering *f)
{
    tn_arena_destroy(f->claims_home);
    pair_leave(f->pair);
    f->filter->done(f->filter);
}

static void filter_later(tn_plugin_call *op)
{
    filtering *f = op->user;
    if (filter_answered(f, op))
        filter_go(f);
    else
        filter_end(f);
}

static void filter_go(filtering *f)
{
    while (f->filter->next(f->filter, &f->target.ns)) {
        tn_plugin_call *op =
            ask(f->pair, &f->claims_home, f->claims ? f->claims : &no_claims, &f->target,
                deadline_of(f->call, f->pair, tn_now_mono_ns()), filter_later, f, &f->decision);
        if (op->status == TN_PENDING)
            return;
        if (!filter_answered(f, op))
            break;
    }
    filter_end(f);
}

void tn_auth_filter_run(tn_call *call, tn_auth_filter *filter)
{
    filtering *f = TN_NEW(call->arena, filtering);
    TN_ASSERT(kept.call == call);
    filter->failed = !f;
    if (!f) {
        filter->done(filter);
        return;
    }
    f->call = call;
    f->filter = filter;
    f->pair = kept.pair;
    f->claims = kept.claims;
    f->claims_home = kept.home;
    kept = (struct kept){NULL};
    f->target =
        (tn_call_target){.struct_size = sizeof f->target, .api_name = tn_str_from(filter->path)};
    tn_auth_rule(f->target.api_name, &f->target.access, &f->target.scope);
    filter_go(f);
}

/* ---- life [main] -------------------------------------------------------------------------------- */

static char header_name[TN_AUTH_HEADER_MAX + 1] = "authorization",
                                             extras_name[TN_AUTH_HEADER_MAX + 1] =
                                                 "authorization-extras"; /* of the next pair */

void tn_auth_set_headers(const char *header, const char *extras)
{
    snprintf(header_name, sizeof header_name, "%s", header);
    snprintf(extras_name, sizeof extras_name, "%s", extras);
}

static char audience_text[TN_AUTH_AUDIENCE_MAX + 1];

void tn_auth_set_audience(const char *audience)
{
    snprintf(audience_text, sizeof audience_text, "%s", audience);
}

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
    memcpy(pair->header, header_name, sizeof pair->header);
    memcpy(pair->extras, extras_name, sizeof pair->extras);
    memcpy(pair->audience, audience_text, sizeof pair->audience);
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
                          uint64_t timeout_ns, tn_auth_pair **out_idle, tn_error *err)
{
    TN_ASSERT(auth.pair);
    tn_status status = attach_both(claim_mapper, authorizer, err);
    if (status != TN_OK)
        return status;
    tn_auth_pair *pair = make_pair(claim_mapper, authorizer, timeout_ns), *old = auth.pair;
    status = tn_auth_probe(claim_mapper, authorizer, pair->timeout_ns, err);
    if (status == TN_OK)
        hand_out(pair);
    *out_idle = status == TN_OK ? old : pair; /* which may still be at the question */
    return status;
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

bool tn_auth_idle(const tn_auth_pair *pair)
{
    count c = {.pair = pair};
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(tn_loops_get(i), count_here, &c);
    return c.checks == 0 && !in_flight(pair->mapper) && !in_flight(pair->authorizer);
}

void tn_auth_forget(tn_auth_pair *pair) { free(pair); }

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
