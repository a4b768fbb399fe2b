/* SPDX-License-Identifier: MIT */
/* authorizer/default: the reference's rules.  A call needs the role of its class; roles come from the claims, for the
 * whole system or for the call's namespace.  Roles are numbers that are compared as such: worker 1, reader 2, writer 4,
 * admin 8, so that a writer may read and a worker alone may do nothing.  Nobody known, no scope, no class: denied, or
 * the administrator's. */
#include <tenon/plugin.h>

#include <string.h>

static tn_status open_authorizer(const tn_host *host, const tn_config *config, void **inst,
                                 tn_error *err)
{
    static const char nothing = 0;
    (void)host, (void)config, (void)err;
    *inst = (void *)(uintptr_t)&nothing;
    return TN_OK;
}

static void close_authorizer(void *inst) { (void)inst; }

static int same(tn_str a, const char *b) { return a.n == strlen(b) && memcmp(a.p, b, a.n) == 0; }

/* Clients ask these before they have anything to show. */
static int free_of_questions(tn_str api)
{
    return same(api, "/grpc.health.v1.Health/Check") ||
           same(api, "/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo");
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

static tn_status authorize(void *ctx, tn_op *op, const tn_claims *claims,
                           const tn_call_target *target, tn_decision *out)
{
    uint32_t roles;
    (void)ctx, (void)op;
    out->verdict = TN_DENY;
    if (free_of_questions(target->api_name)) {
        out->verdict = TN_ALLOW;
        return TN_OK;
    }
    if (!claims->present)
        return TN_OK;
    if (target->scope == TN_SCOPE_CLUSTER)
        roles = claims->system_roles;
    else if (target->scope == TN_SCOPE_NAMESPACE)
        roles = roles_in(claims, target->ns);
    else
        return TN_OK;
    if (roles < role_for(target->access))
        return TN_OK;
    out->verdict = TN_ALLOW;
    out->principal = claims->subject;
    return TN_OK;
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
    .config_keys = "",
    .open = open_authorizer,
    .close = close_authorizer,
    .ops = &OPS,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
