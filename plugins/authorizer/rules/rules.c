/* SPDX-License-Identifier: MIT */
/* authorizer/rules: who may, by a policy that an administrator writes: the first rule that takes a call decides, and a call
 * that none takes is denied.  This file has the configuration, the life of an instance, the plugin's table, and the way of
 * one call. */
#include "private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char CONFIG_KEYS[] =
    "policyFile string - - absolute path of the policy (YAML); read again when it changes\n"
    "checkInterval duration 10s - how often the file is looked at besides, for changes that its "
    "folder does not "
    "tell; 0: never\n";

typedef struct rl_ctx { /* of a loop */
    rl_inst *inst;
    rl_memory memory;
    bool watches;
} rl_ctx;

rl_policy *rl_policy_now(rl_inst *inst)
{
    pthread_mutex_lock(&inst->lock);
    rl_policy *policy = inst->policy;
    atomic_fetch_add(&policy->refs, 1);
    pthread_mutex_unlock(&inst->lock);
    return policy;
}

/* ---- one call ---- */

static tn_str keep(const rl_inst *inst, tn_op *op, const char *text, size_t n)
{
    char *p = inst->host->op_alloc(op, n, 1);
    if (!p)
        return (tn_str){0}; /* the verdict stands without it */
    memcpy(p, text, n);
    return (tn_str){p, n};
}

/* "policy.yaml:12 name" */
static tn_str name_rule(const rl_inst *inst, tn_op *op, const rl_policy *policy,
                        const rl_rule *rule)
{
    char text[480];
    int n = rule ? snprintf(text, sizeof text, "%.200s:%u%s%s", policy->base, rule->line,
                            rule->name ? " " : "", rule->name ? rule->name : "")
                 : snprintf(text, sizeof text, "%.200s: no rule", policy->base);
    return n > 0 ? keep(inst, op, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1)
                 : (tn_str){0};
}

static bool refresh(rl_ctx *ctx)
{
    rl_inst *inst = ctx->inst;
    if (ctx->memory.policy && ctx->memory.policy->generation ==
                                  atomic_load_explicit(&inst->generation, memory_order_acquire))
        return true;
    rl_memory fresh;
    rl_policy *policy = rl_policy_now(inst);
    if (!rl_memory_init(&fresh, policy)) {
        rl_policy_unref(policy);
        return false;
    }
    rl_memory_done(&ctx->memory);
    ctx->memory = fresh;
    return true;
}

typedef struct listener {
    const tn_explain *explain;
    tn_op *op;
} listener;

static void tell(void *user, const char *text, size_t n)
{
    const listener *l = user;
    l->explain->line(l->op, text, n);
}

static tn_status authorize(void *arg, tn_op *op, const tn_claims *claims,
                           const tn_call_target *target, tn_decision *out)
{
    rl_ctx *ctx = arg;
    const rl_inst *inst = ctx->inst;
    out->verdict = TN_DENY;
    if (!refresh(ctx)) {
        tn_error err = {0};
        rl_error(&err, TN_EUNAVAILABLE, "out of memory");
        inst->host->op_explain(op, &err);
        return TN_EUNAVAILABLE;
    }
    const rl_policy *policy = ctx->memory.policy;
    size_t at = rl_decide(&ctx->memory, claims, target);
    const rl_rule *rule = at == RL_NONE ? NULL : &policy->rules[at];
    if (inst->explain)
        rl_explain(policy, claims, target, tell, &(listener){inst->explain, op});
    if (out->struct_size >= offsetof(tn_decision, rule) + sizeof out->rule) /* since 0.2 */
        out->rule = name_rule(inst, op, policy, rule);
    if (rule && rule->allow) {
        out->verdict = TN_ALLOW;
        out->principal = claims->present ? claims->subject : (tn_str){0};
        inst->host->metric_add(inst->m_allowed, 1);
        return TN_OK;
    }
    if (rule && rule->reason)
        out->reason = keep(inst, op, rule->reason, strlen(rule->reason));
    inst->host->metric_add(inst->m_denied, 1);
    return TN_OK;
}

/* ---- life ---- */

static void destroy(rl_inst *inst)
{
    rl_policy_unref(inst->policy);
    pthread_mutex_destroy(&inst->lock);
    free(inst->path);
    free(inst);
}

static tn_status read_options(rl_inst *inst, const tn_config *cfg, tn_error *err)
{
    const tn_host *host = inst->host;
    tn_str path = {0};
    tn_status status = host->cfg_str(cfg, "policyFile", &path, err);
    if (status == TN_EINVALID)
        return status;
    if (status == TN_ENOTFOUND || path.n < 2 || path.p[0] != '/' || path.n > 4000) {
        host->cfg_complain(
            cfg, "policyFile",
            "must be the absolute path of a policy\n    fix: policyFile: /etc/tenon/policy.yaml",
            err);
        return TN_EINVALID;
    }
    inst->path = strndup(path.p, path.n);
    if (!inst->path)
        return rl_error(err, TN_EUNAVAILABLE, "out of memory");
    inst->check_ns = UINT64_C(10000000000);
    status = host->cfg_dur_ns(cfg, "checkInterval", &inst->check_ns, err);
    if (status == TN_EINVALID)
        return status;
    if (inst->check_ns && inst->check_ns < UINT64_C(100000000)) {
        host->cfg_complain(cfg, "checkInterval",
                           "is shorter than 100ms\n    fix: 10s, or 0 for never", err);
        return TN_EINVALID;
    }
    return TN_OK;
}

static void make_metrics(rl_inst *inst)
{
    const tn_host *h = inst->host;
    inst->m_allowed = h->metric(inst, "allowed", TN_METRIC_COUNTER, "Calls allowed by a rule");
    inst->m_denied =
        h->metric(inst, "denied", TN_METRIC_COUNTER, "Calls denied, by a rule or for lack of one");
    inst->m_reloads =
        h->metric(inst, "reloads", TN_METRIC_COUNTER, "Times a changed policy was taken into use");
    inst->m_reload_errors = h->metric(inst, "reload_errors", TN_METRIC_COUNTER,
                                      "Times a changed policy was bad and not taken");
    inst->m_rules = h->metric(inst, "rules", TN_METRIC_GAUGE, "Rules in use");
}

static tn_status open_authorizer(const tn_host *host, const tn_config *cfg, void **out,
                                 tn_error *err)
{
    rl_inst *inst = calloc(1, sizeof *inst);
    if (!inst)
        return rl_error(err, TN_EUNAVAILABLE, "out of memory");
    inst->host = host;
    pthread_mutex_init(&inst->lock, NULL);
    if (TN_HAS(host, host->struct_size, tn_host, extension))
        inst->explain = host->extension(TN_EXPLAIN_ID);
    tn_status status = read_options(inst, cfg, err);
    if (status == TN_OK)
        status = rl_policy_read(inst->path, &inst->seen, &inst->policy, err);
    if (status != TN_OK) {
        destroy(inst);
        return status;
    }
    static const char loose[] = "others than its owner may write the policy file: chmod go-w it";
    if (inst->seen.st_mode & (S_IWGRP | S_IWOTH))
        host->log(inst, TN_LEVEL_WARN, loose, sizeof loose - 1);
    inst->policy->generation = 1;
    atomic_store(&inst->generation, 1);
    make_metrics(inst);
    host->metric_add(inst->m_rules, (double)inst->policy->n_rules);
    *out = inst;
    return TN_OK;
}

static tn_status attach(void *arg, tn_loop *loop, void **out, tn_error *err)
{
    rl_inst *inst = arg;
    rl_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return rl_error(err, TN_EUNAVAILABLE, "out of memory");
    ctx->inst = inst;
    pthread_mutex_lock(&inst->lock);
    ctx->watches = !inst->watched;
    inst->watched = true;
    pthread_mutex_unlock(&inst->lock);
    if (ctx->watches)
        inst->watch = rl_watch_start(inst, loop);
    *out = ctx;
    return TN_OK;
}

static void detach(void *arg, void *ctx_arg)
{
    rl_inst *inst = arg;
    rl_ctx *ctx = ctx_arg;
    if (ctx->watches) {
        if (inst->watch)
            rl_watch_stop(inst->watch);
        pthread_mutex_lock(&inst->lock);
        inst->watch = NULL;
        inst->watched = false;
        pthread_mutex_unlock(&inst->lock);
    }
    rl_memory_done(&ctx->memory);
    free(ctx);
}

static void close_authorizer(void *arg)
{
    rl_inst *inst = arg;
    inst->host->metric_add(inst->m_rules, -(double)inst->policy->n_rules);
    destroy(inst);
}

static const tn_authorizer_ops OPS = {.authorize = authorize};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_AUTHORIZER,
    .ops_size = sizeof(tn_authorizer_ops),
    .name = "rules",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys = CONFIG_KEYS,
    .open = open_authorizer,
    .attach = attach,
    .detach = detach,
    .close = close_authorizer,
    .ops = &OPS,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
