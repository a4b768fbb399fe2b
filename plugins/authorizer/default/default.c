/* SPDX-License-Identifier: MIT */
/* authorizer/default: the reference's rules.  A call needs the role of its class; roles come from the claims, for the
 * whole system or for the call's namespace.  Roles are numbers that are compared as such: worker 1, reader 2, writer 4,
 * admin 8, so that a writer may read and a worker alone may do nothing.  Nobody known, no scope, no class: denied, or
 * the administrator's. */
#include <tenon/plugin.h>

#include <string.h>

#define WORKFLOW_SERVICE "/temporal.api.workflowservice.v1.WorkflowService/"

/* Instances are constants: there is one setting, of two values. */
typedef struct settings {
    int own_namespaces; /* whoever may read in some namespace may list, and is shown those */
} settings;

static int same(tn_str a, const char *b) { return a.n == strlen(b) && memcmp(a.p, b, a.n) == 0; }

static tn_status open_authorizer(const tn_host *host, const tn_config *config, void **inst,
                                 tn_error *err)
{
    static const settings by_system = {0}, by_namespace = {1};
    tn_str word = {"system", 6};
    tn_status status = host->cfg_str(config, "listNamespaces", &word, err);
    if (status != TN_OK && status != TN_ENOTFOUND)
        return status;
    if (!same(word, "system") && !same(word, "own")) {
        host->cfg_complain(config, "listNamespaces", "wants system or own", err);
        return TN_EINVALID;
    }
    *inst = (void *)(uintptr_t)(same(word, "own") ? &by_namespace : &by_system);
    return TN_OK;
}

static void close_authorizer(void *inst) { (void)inst; }

/* Clients ask these before they have anything to show. */
static int free_of_questions(tn_str api)
{
    return same(api, "/grpc.health.v1.Health/Check") || same(api, WORKFLOW_SERVICE "GetSystemInfo");
}

static uint32_t roles_in(const tn_claims *claims, tn_str ns)
{
    uint32_t roles = claims->system_roles;
    for (size_t i = 0; i < claims->n_grants; i++) {
        const tn_role_grant *grant = &claims->grants[i];
        if (grant->ns.n == ns.n && (ns.n == 0 || memcmp(grant->ns.p, ns.p, ns.n) == 0))
            roles |= grant->roles;
    }
    return roles;
}

static uint32_t role_for(uint32_t access)
{
    switch (access) {
    case TN_ACCESS_READ:
        return TN_ROLE_READER;
    case TN_ACCESS_WRITE:
        return TN_ROLE_WRITER;
    default: /* a class that is not known is the administrator's */
        return TN_ROLE_ADMIN;
    }
}

static tn_status decide(tn_decision *out, uint32_t verdict, const char *rule)
{
    out->verdict = verdict;
    out->rule = (tn_str){rule, strlen(rule)};
    return TN_OK;
}

/* The host shows a caller only the namespaces that it may describe. */
static int lists_its_own(const settings *set, const tn_claims *claims, tn_str api)
{
    if (!set->own_namespaces || !same(api, WORKFLOW_SERVICE "ListNamespaces"))
        return 0;
    for (size_t i = 0; i < claims->n_grants; i++)
        if (claims->grants[i].roles >= TN_ROLE_READER)
            return 1;
    return 0;
}

static tn_status authorize(void *ctx, tn_op *op, const tn_claims *claims,
                           const tn_call_target *target, tn_decision *out)
{
    uint32_t roles, needed = role_for(target->access);
    (void)op;
    if (free_of_questions(target->api_name))
        return decide(out, TN_ALLOW, "free of questions");
    if (!claims->present)
        return decide(out, TN_DENY, "no claims");
    if (target->scope == TN_SCOPE_CLUSTER)
        roles = claims->system_roles;
    else if (target->scope == TN_SCOPE_NAMESPACE)
        roles = roles_in(claims, target->ns);
    else
        return decide(out, TN_DENY, "unknown scope");
    out->principal = claims->subject;
    if (claims->system_roles >= needed)
        return decide(out, TN_ALLOW, "system role");
    if (roles >= needed)
        return decide(out, TN_ALLOW, "namespace role");
    if (lists_its_own(ctx, claims, target->api_name))
        return decide(out, TN_ALLOW, "own namespaces");
    out->principal = (tn_str){0};
    return decide(out, TN_DENY, target->scope == TN_SCOPE_CLUSTER ? "no system role" : "no role");
}

static const tn_authorizer_ops OPS = {.authorize = authorize};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_AUTHORIZER,
    .ops_size = sizeof(tn_authorizer_ops),
    .name = "default",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys =
        "listNamespaces string system - who may list namespaces: system, callers with a role for "
        "the system; own, also callers with one for some namespace\n",
    .open = open_authorizer,
    .close = close_authorizer,
    .ops = &OPS,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
