/* SPDX-License-Identifier: MIT */
/* authorizer/allow_all: everybody may do everything.  For development, or behind something else that
 * decides.  Says so at every start. */
#include <tenon/plugin.h>

static const char WARNING[] =
    "the authorizer \"allow_all\" lets everybody do everything: use it for development only";

static tn_status open_authorizer(const tn_host *host, const tn_config *config, void **inst,
                                 tn_error *err)
{
    static const char nothing = 0;
    (void)config, (void)err;
    host->log(NULL, TN_LEVEL_WARN, WARNING, sizeof WARNING - 1);
    *inst = (void *)(uintptr_t)&nothing;
    return TN_OK;
}

static void close_authorizer(void *inst) { (void)inst; }

static tn_status authorize(void *ctx, tn_op *op, const tn_claims *claims,
                           const tn_call_target *target, tn_decision *out)
{
    (void)ctx, (void)op, (void)claims, (void)target;
    out->verdict = TN_ALLOW;
    out->rule = (tn_str){"allow_all", sizeof "allow_all" - 1};
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
    .name = "allow_all",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys = "",
    .open = open_authorizer,
    .close = close_authorizer,
    .ops = &OPS,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
