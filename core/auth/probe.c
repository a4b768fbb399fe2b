/* SPDX-License-Identifier: MIT */
/* A question to a mapper and an authorizer before they are used: a plugin that fails, answers too late or gives no
 * verdict would deny every call, and the ones that serve are better than that. */
#include <pthread.h>
#include <string.h>

#include "auth/private.h"

typedef struct probe {
    tn_plugin_instance *inst;
    uint64_t timeout_ns;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool answered;
    tn_status status;
    uint32_t verdict;
    tn_error err;
    const tn_decision *decision;
} probe;

static void note(probe *p, tn_plugin_call *call)
{
    pthread_mutex_lock(&p->lock);
    p->status = call->status;
    p->err = call->err;
    p->verdict = p->decision && call->status == TN_OK ? p->decision->verdict : 0;
    p->answered = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

static void answered(tn_plugin_call *call)
{
    probe *p = call->user;
    note(p, call);
    tn_plugin_call_end(call);
}

static tn_status ask_mapper(const probe *p, tn_plugin_call *call)
{
    const tn_claim_mapper_ops *ops = tn_plugin_ops(p->inst);
    tn_auth_info *info = TN_NEW(call->arena, tn_auth_info);
    tn_claims *claims = TN_NEW(call->arena, tn_claims);
    if (!info || !claims)
        return TN_ETOOLARGE;
    *info = (tn_auth_info){.struct_size = sizeof *info, .peer_address = TN_STR("127.0.0.1:0")};
    *claims = (tn_claims){.struct_size = sizeof *claims, .present = 1};
    uint64_t entered = tn_plugin_enter();
    tn_status status = ops->map(tn_plugin_ctx(p->inst), call->op, info, claims);
    tn_plugin_left(p->inst, "map", entered);
    return status;
}

/* A call that changes nothing, by nobody; either verdict will do. */
static tn_status ask_authorizer(probe *p, tn_plugin_call *call)
{
    static const tn_claims nobody = {.struct_size = sizeof nobody};
    const tn_authorizer_ops *ops = tn_plugin_ops(p->inst);
    tn_call_target *target = TN_NEW(call->arena, tn_call_target);
    tn_decision *decision = TN_NEW(call->arena, tn_decision);
    if (!target || !decision)
        return TN_ETOOLARGE;
    *target = (tn_call_target){
        .struct_size = sizeof *target,
        .api_name = TN_STR("/temporal.api.workflowservice.v1.WorkflowService/GetClusterInfo"),
        .message_type = TN_STR("temporal.api.workflowservice.v1.GetClusterInfoRequest")};
    tn_auth_rule(target->api_name, &target->access, &target->scope);
    decision->struct_size = sizeof *decision;
    p->decision = decision;
    uint64_t entered = tn_plugin_enter();
    tn_status status = ops->authorize(tn_plugin_ctx(p->inst), call->op, &nobody, target, decision);
    tn_plugin_left(p->inst, "authorize", entered);
    return status;
}

static void ask_here(void *arg)
{
    probe *p = arg;
    bool mapper = tn_plugin_kind(p->inst) == TN_KIND_CLAIM_MAPPER;
    tn_plugin_call *call = tn_plugin_call_begin(p->inst, 0, p->timeout_ns, answered, p);
    tn_status status = mapper ? ask_mapper(p, call) : ask_authorizer(p, call);
    if (tn_plugin_call_returned(call, status) != TN_PENDING)
        answered(call);
}

static tn_status ask(tn_plugin_instance *inst, uint64_t timeout_ns, tn_error *err)
{
    probe p = {.inst = inst, .timeout_ns = timeout_ns};
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.wake, NULL);
    tn_loop_call(tn_loops_get(0), ask_here, &p);
    pthread_mutex_lock(&p.lock);
    while (!p.answered)
        pthread_cond_wait(&p.wake, &p.lock);
    pthread_mutex_unlock(&p.lock);
    pthread_mutex_destroy(&p.lock);
    pthread_cond_destroy(&p.wake);
    const char *kind = tn_plugin_kind_name(tn_plugin_kind(inst)), *name = tn_plugin_name(inst);
    bool mapper = tn_plugin_kind(inst) == TN_KIND_CLAIM_MAPPER;
    /* A mapper may refuse who shows nothing. */
    if (p.status != TN_OK && !(mapper && (p.status == TN_EDENIED || p.status == TN_ENOTFOUND ||
                                          p.status == TN_EINVALID)))
        return tn_error_set(err, p.status, "%s plugin \"%s\" failed the first question: %s: %s",
                            kind, name, tn_status_name(p.status),
                            p.err.text[0] ? p.err.text : "it gave no reason");
    if (!mapper && p.verdict != TN_ALLOW && p.verdict != TN_DENY)
        return tn_error_set(err, TN_EINVALID,
                            "%s plugin \"%s\" gave no verdict to the first question", kind, name);
    return TN_OK;
}

tn_status tn_auth_probe(tn_plugin_instance *mapper, tn_plugin_instance *authorizer,
                        uint64_t timeout_ns, tn_error *err)
{
    if (tn_plugin_caps(mapper) & TN_CAP_MAP_ANONYMOUS) { /* others are never asked about nobody */
        tn_status status = ask(mapper, timeout_ns, err);
        if (status != TN_OK)
            return status;
    }
    return ask(authorizer, timeout_ns, err);
}
