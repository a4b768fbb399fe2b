/* SPDX-License-Identifier: MIT */
/* The contract of claim mappers and authorizers: an answer to whatever comes, once, from any thread, within the deadline's
 * memory, and nothing that the server would have to refuse. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "loop/loop.h"
#include "tools/check/kit.h"

#define ROLES_ALL (TN_ROLE_WORKER | TN_ROLE_READER | TN_ROLE_WRITER | TN_ROLE_ADMIN)
#define LONG_N (64u << 10)
#define PATIENCE_NS (30 * TN_SEC)

/* ---- calls that wait ---- */

typedef struct auth_call {
    tn_msg msg;
    tn_kind kind;
    tn_auth_info info;
    tn_claims claims; /* in for an authorizer, out of a mapper */
    tn_call_target target;
    tn_decision decision;
    uint64_t timeout_ns;
    size_t arena_max; /* 0: the usual */
    tn_plugin_call *call;
    tn_status status;
    tn_error err;
    bool late;
    bool counted;
    char name_in_claims[64];
} auth_call;

static tn_plugin_instance *inst;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static size_t left;

static void open_kind(tn_kind kind)
{
    const char *why;
    tn_error err = {0};
    inst = kit_open_kind(kind, &why);
    if (!inst)
        kit_fail(__FILE__, __LINE__, "it does not open: %s", why);
    if (tn_plugin_attach(inst, &err) != TN_OK)
        kit_fail(__FILE__, __LINE__, "%s", err.text);
}

static void check_stats(void)
{
    tn_plugin_stats stats;
    uint64_t until = tn_now_mono_ns() + PATIENCE_NS;
    do {
        tn_plugin_stats_get(inst, &stats);
        if (!stats.in_flight && !stats.stuck)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    } while (tn_now_mono_ns() < until);
    if (stats.in_flight || stats.stuck)
        kit_fail(__FILE__, __LINE__, "rule: every operation ends: %llu never did",
                 (unsigned long long)stats.in_flight);
    if (stats.violations)
        kit_fail(__FILE__, __LINE__,
                 "rule: an operation ends exactly once, with a lawful status: %llu breaches",
                 (unsigned long long)stats.violations);
}

static void close_kind(void)
{
    check_stats();
    tn_plugin_detach(inst, TN_SEC);
    kit_close_plugin();
}

static bool utf8(tn_str s) { return (!s.n || s.p) && tn_utf8_valid((const uint8_t *)s.p, s.n); }

static void check_claims(const tn_claims *c)
{
    KIT_CHECK(utf8(c->subject));
    KIT_CHECK(utf8(c->auth_type));
    KIT_CHECK(!c->n_grants || c->grants);
    if (c->n_grants > 100000)
        kit_fail(__FILE__, __LINE__, "rule: claims have a bounded size: %zu grants", c->n_grants);
    if (c->subject.n > (1u << 20))
        kit_fail(__FILE__, __LINE__, "rule: claims have a bounded size: a subject of %zu bytes",
                 c->subject.n);
    if (c->system_roles & ~ROLES_ALL)
        kit_fail(__FILE__, __LINE__, "rule: roles are bits of TN_ROLE_*: system roles %#x",
                 c->system_roles);
    for (size_t i = 0; i < c->n_grants; i++) {
        KIT_CHECK(utf8(c->grants[i].ns));
        if (c->grants[i].roles & ~ROLES_ALL)
            kit_fail(__FILE__, __LINE__, "rule: roles are bits of TN_ROLE_*: grant %zu has %#x", i,
                     c->grants[i].roles);
    }
}

static void check_decision(const tn_decision *d)
{
    if (d->verdict != TN_ALLOW && d->verdict != TN_DENY)
        kit_fail(__FILE__, __LINE__,
                 "rule: TN_OK comes with a verdict; %u is none, and the host denies", d->verdict);
    KIT_CHECK(utf8(d->reason));
    KIT_CHECK(utf8(d->principal));
}

static void finished(tn_plugin_call *call)
{
    auth_call *a = call->user;
    a->status = call->status;
    a->err = call->err;
    a->late = call->late;
    if (a->status == TN_OK && !a->late) {
        if (a->kind == TN_KIND_AUTHORIZER)
            check_decision(&a->decision);
        else
            check_claims(&a->claims);
    }
    tn_plugin_call_end(call);
    pthread_mutex_lock(&lock);
    if (--left == 0)
        pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
}

static void begin(tn_msg *msg)
{
    auth_call *a = TN_CONTAINER_OF(msg, auth_call, msg);
    void *ctx = tn_plugin_ctx(inst);
    tn_status status;
    tn_plugin_call *call = tn_plugin_call_begin(inst, 0, a->timeout_ns, finished, a);
    a->call = call;
    if (a->arena_max)
        tn_arena_set_limit(call->arena, a->arena_max);
    uint64_t entered = tn_plugin_enter();
    if (a->kind == TN_KIND_AUTHORIZER) {
        a->decision = (tn_decision){.struct_size = sizeof a->decision};
        status = ((const tn_authorizer_ops *)tn_plugin_ops(inst))
                     ->authorize(ctx, call->op, &a->claims, &a->target, &a->decision);
    } else {
        a->claims = (tn_claims){.struct_size = sizeof a->claims};
        status = ((const tn_claim_mapper_ops *)tn_plugin_ops(inst))
                     ->map(ctx, call->op, &a->info, &a->claims);
    }
    tn_plugin_left(inst, "auth", entered);
    if (status > TN_PENDING || status < TN_EDATALOSS)
        kit_fail(__FILE__, __LINE__, "rule: a function returns TN_OK, TN_PENDING or a TN_E...: %d",
                 status);
    if (tn_plugin_call_returned(call, status) != TN_PENDING)
        finished(call);
}

/* All at once, the even ones on one loop, the odd ones on the other; waits. */
static void run_calls(auth_call *calls, size_t n)
{
    pthread_mutex_lock(&lock);
    left = n;
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < n; i++) {
        calls[i].msg.run = begin;
        tn_loop_post(tn_loops_get((uint32_t)(i % 2)), &calls[i].msg);
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(PATIENCE_NS / TN_SEC);
    pthread_mutex_lock(&lock);
    while (left) {
        if (pthread_cond_timedwait(&wake, &lock, &until) != 0) {
            size_t lost = left;
            pthread_mutex_unlock(&lock);
            kit_fail(__FILE__, __LINE__,
                     "rule: every operation ends: %zu of %zu have not within 30 s", lost, n);
        }
    }
    pthread_mutex_unlock(&lock);
}

/* ---- inputs ---- */

static tn_str long_text(char c)
{
    static char texts[256][LONG_N];
    char *text = texts[(unsigned char)c];
    memset(text, c, LONG_N);
    return (tn_str){text, LONG_N};
}

static auth_call plain(tn_kind kind)
{
    static const tn_role_grant grant = {.ns = {"default", 7}, .roles = TN_ROLE_READER};
    auth_call a = {.kind = kind, .timeout_ns = 5 * TN_SEC};
    a.info = (tn_auth_info){.struct_size = sizeof a.info,
                            .authorization = TN_STR("Bearer a.b.c"),
                            .audience = TN_STR("tenon"),
                            .peer_address = TN_STR("127.0.0.1:4711")};
    a.claims = (tn_claims){.struct_size = sizeof a.claims,
                           .present = 1,
                           .subject = TN_STR("someone"),
                           .auth_type = TN_STR("test"),
                           .grants = &grant,
                           .n_grants = 1};
    a.target = (tn_call_target){
        .struct_size = sizeof a.target,
        .access = TN_ACCESS_WRITE,
        .scope = TN_SCOPE_NAMESPACE,
        .api_name =
            TN_STR("/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution"),
        .ns = TN_STR("default"),
        .workflow_id = TN_STR("order-1"),
        .workflow_type = TN_STR("Order"),
        .task_queue = TN_STR("orders"),
        .message_type = TN_STR("temporal.api.workflowservice.v1.StartWorkflowExecutionRequest")};
    return a;
}

static auth_call one(auth_call a)
{
    static auth_call kept;
    kept = a;
    run_calls(&kept, 1);
    return kept;
}

static void shapes_of_headers(auth_call *out, size_t *n)
{
    static const char *const headers[] = {
        "",
        "Bearer",
        "Bearer ",
        "bearer x",
        "Basic dXNlcjpwYXNz",
        "Bearer  two",
        "Bearer a.b",
        "Bearer a.b.c.d",
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
        "Bearer \xff\xfe",
        "\t",
        "Bearer a b c",
        "Bearer %00",
        "Digest x",
        "Bearer {}",
        "Bearer ....",
    };
    for (size_t i = 0; i < TN_COUNT_OF(headers); i++) {
        auth_call a = plain(TN_KIND_CLAIM_MAPPER);
        a.info.authorization = tn_str_from(headers[i]);
        a.info.extra_data = tn_str_from(headers[TN_COUNT_OF(headers) - 1 - i]);
        out[(*n)++] = a;
    }
    auth_call a = plain(TN_KIND_CLAIM_MAPPER);
    a.info.authorization = long_text('b');
    out[(*n)++] = a;
    a.info.extra_data = a.info.audience = a.info.tls_subject = a.info.peer_address = long_text('x');
    out[(*n)++] = a;
    a = plain(TN_KIND_CLAIM_MAPPER);
    a.info.tls_subject = TN_STR("CN=client,O=Acme");
    a.info.peer_cert_der = tn_blob_of_str(TN_STR("not a certificate"));
    out[(*n)++] = a;
    a.info.peer_cert_der = tn_blob_of_str(long_text('0'));
    out[(*n)++] = a;
}

static void shapes_of_calls(auth_call *out, size_t *n)
{
    static const char *const paths[] = {
        "",
        "/",
        "nonsense",
        "/a/b",
        "//",
        "/grpc.health.v1.Health/Check",
        "/temporal.api.operatorservice.v1.OperatorService/DeleteNamespace",
        "/temporal.api.workflowservice.v1.WorkflowService/NoSuchMethod"};
    const uint32_t numbers[] = {0, 1, 2, 3, 4, 255, UINT32_MAX};
    static tn_role_grant many[10000];
    for (size_t i = 0; i < TN_COUNT_OF(many); i++)
        many[i] = (tn_role_grant){.ns = TN_STR("other"), .roles = (uint32_t)i};
    for (size_t i = 0; i < TN_COUNT_OF(paths); i++) {
        auth_call a = plain(TN_KIND_AUTHORIZER);
        a.target.api_name = tn_str_from(paths[i]);
        out[(*n)++] = a;
        a.target.ns = (tn_str){NULL, 0};
        out[(*n)++] = a;
    }
    for (size_t i = 0; i < TN_COUNT_OF(numbers); i++) {
        auth_call a = plain(TN_KIND_AUTHORIZER);
        a.target.access = a.target.scope = numbers[i];
        out[(*n)++] = a;
        a.claims.system_roles = numbers[i];
        out[(*n)++] = a;
    }
    auth_call a = plain(TN_KIND_AUTHORIZER);
    a.claims = (tn_claims){.struct_size = sizeof a.claims};
    out[(*n)++] = a;
    a.target = (tn_call_target){.struct_size = sizeof a.target};
    out[(*n)++] = a;
    a = plain(TN_KIND_AUTHORIZER);
    a.claims.grants = many;
    a.claims.n_grants = TN_COUNT_OF(many);
    out[(*n)++] = a;
    a.claims.subject = a.target.ns = a.target.workflow_id = a.target.task_queue =
        a.target.api_name = long_text('n');
    a.target.message = tn_blob_of_str(long_text('m'));
    out[(*n)++] = a;
}

static size_t shapes(tn_kind kind, auth_call *out)
{
    size_t n = 0;
    if (kind == TN_KIND_AUTHORIZER)
        shapes_of_calls(out, &n);
    else
        shapes_of_headers(out, &n);
    return n;
}

/* ---- cases; kind is the child's ---- */

static void answers_everything(tn_kind kind)
{
    static auth_call calls[64];
    open_kind(kind);
    size_t n = shapes(kind, calls);
    run_calls(calls, n);
    for (size_t i = 0; i < n; i++)
        if (calls[i].late)
            kit_fail(__FILE__, __LINE__, "rule: an answer within the deadline (5 s)");
    close_kind();
}

static void many_at_once(tn_kind kind)
{
    enum { N = 4000 };
    static auth_call calls[N];
    open_kind(kind);
    for (size_t i = 0; i < N; i++)
        calls[i] = plain(kind);
    run_calls(calls, N);
    tn_status first = calls[0].status;
    for (size_t i = 0; i < N; i++) {
        KIT_EQUAL(calls[i].status, first);
        if (kind == TN_KIND_AUTHORIZER && first == TN_OK)
            KIT_EQUAL(calls[i].decision.verdict, calls[0].decision.verdict);
    }
    close_kind();
}

static void deadlines(tn_kind kind)
{
    enum { N = 200 };
    static auth_call calls[N];
    open_kind(kind);
    for (size_t i = 0; i < N; i++) {
        calls[i] = plain(kind);
        calls[i].timeout_ns = 1 + i * 5000;
    }
    run_calls(calls, N);
    check_stats(); /* those that were late end all the same */
    auth_call after = one(plain(kind));
    KIT_CHECK(!after.late);
    close_kind();
}

static void little_memory(tn_kind kind)
{
    open_kind(kind);
    for (size_t bytes = 1; bytes <= 65536; bytes *= 4) {
        auth_call a = plain(kind);
        a.arena_max = bytes;
        one(a);
    }
    auth_call after = one(plain(kind));
    KIT_CHECK(!after.late);
    close_kind();
}

/* A newer host's structs are longer: what a plugin does not know it must not look at. */
static void longer_structs(tn_kind kind)
{
    open_kind(kind);
    auth_call a = one(plain(kind)), b = plain(kind);
    b.info.struct_size += 64;
    b.claims.struct_size += 64;
    b.target.struct_size += 64;
    b = one(b);
    KIT_EQUAL(b.status, a.status);
    if (a.status == TN_OK && kind == TN_KIND_AUTHORIZER)
        KIT_EQUAL(b.decision.verdict, a.decision.verdict);
    close_kind();
}

static void leaves_inputs_alone(tn_kind kind)
{
    char header[] = "Bearer some-token", ns[] = "default", subject[] = "someone";
    open_kind(kind);
    auth_call a = plain(kind);
    a.info.authorization = (tn_str){header, sizeof header - 1};
    a.target.ns = (tn_str){ns, sizeof ns - 1};
    if (kind == TN_KIND_AUTHORIZER)
        a.claims.subject = (tn_str){subject, sizeof subject - 1};
    tn_call_target before = a.target;
    tn_auth_info info = a.info;
    a = one(a);
    KIT_CHECK(strcmp(header, "Bearer some-token") == 0 && strcmp(ns, "default") == 0 &&
              strcmp(subject, "someone") == 0);
    KIT_CHECK(memcmp(&before, &a.target, sizeof before) == 0);
    KIT_CHECK(memcmp(&info, &a.info, sizeof info) == 0);
    close_kind();
}

static void again_after_close(tn_kind kind)
{
    for (int i = 0; i < 3; i++) {
        open_kind(kind);
        auth_call a = one(plain(kind));
        KIT_CHECK(!a.late);
        close_kind();
    }
}

/* A reload: the new instance is opened while the old one serves, both answer, the old one goes. */
static void side_by_side(tn_kind kind)
{
    tn_plugin_instance *first, *second = NULL;
    tn_error err = {0};
    open_kind(kind);
    first = inst;
    auth_call alone = one(plain(kind));
    const char *why = kit_open_beside(kind, &second);
    if (why)
        kit_fail(
            __FILE__, __LINE__,
            "rule: a reload opens an instance beside the one that serves: it does not open: %s",
            why);
    if (tn_plugin_attach(second, &err) != TN_OK)
        kit_fail(__FILE__, __LINE__,
                 "rule: a reload attaches an instance beside the one that serves: %s", err.text);
    for (int i = 0; i < 3; i++) {
        inst = i % 2 ? second : first;
        auth_call a = one(plain(kind));
        if (a.late || a.status != alone.status || a.decision.verdict != alone.decision.verdict)
            kit_fail(__FILE__, __LINE__, "rule: instances side by side answer as each alone would");
    }
    inst = first;
    check_stats();
    tn_plugin_detach(first, TN_SEC);
    kit_close_first(second);
    inst = second;
    auth_call after = one(plain(kind));
    if (after.late || after.status != alone.status ||
        after.decision.verdict != alone.decision.verdict)
        kit_fail(__FILE__, __LINE__, "rule: an instance answers on when another one is closed");
    close_kind();
}

/* Nothing was shown: such a call has no rights by default. */
static void nothing_shown(void)
{
    open_kind(TN_KIND_CLAIM_MAPPER);
    if (!(tn_plugin_caps(inst) & TN_CAP_MAP_ANONYMOUS))
        kit_skip("it does not map anonymous callers: the host does not ask it");
    auth_call a = plain(TN_KIND_CLAIM_MAPPER);
    a.info = (tn_auth_info){.struct_size = sizeof a.info};
    a = one(a);
    KIT_CHECK(!a.late);
    close_kind();
}

#define BOTH(name) \
    static void m_##name(void) { name(TN_KIND_CLAIM_MAPPER); } \
    static void a_##name(void) { name(TN_KIND_AUTHORIZER); }
BOTH(answers_everything)
BOTH(many_at_once)
BOTH(deadlines)
BOTH(little_memory)
BOTH(longer_structs)
BOTH(leaves_inputs_alone)
BOTH(again_after_close)
BOTH(side_by_side)

const kit_case kit_mapper_cases[] = {
    {"lawful claims for whatever is shown", m_answers_everything},
    {"a caller that shows nothing", nothing_shown},
    {"many calls on two loops, each ends once", m_many_at_once},
    {"deadlines that pass", m_deadlines},
    {"an operation's memory that is full", m_little_memory},
    {"structs of a newer host", m_longer_structs},
    {"inputs are left alone", m_leaves_inputs_alone},
    {"opened again", m_again_after_close},
    {"two instances side by side, as in a reload", m_side_by_side},
};
const size_t kit_mapper_count = TN_COUNT_OF(kit_mapper_cases);

const kit_case kit_authorizer_cases[] = {
    {"a verdict for whatever is called", a_answers_everything},
    {"many calls on two loops, each ends once", a_many_at_once},
    {"deadlines that pass", a_deadlines},
    {"an operation's memory that is full", a_little_memory},
    {"structs of a newer host", a_longer_structs},
    {"inputs are left alone", a_leaves_inputs_alone},
    {"opened again", a_again_after_close},
    {"two instances side by side, as in a reload", a_side_by_side},
};
const size_t kit_authorizer_count = TN_COUNT_OF(kit_authorizer_cases);
