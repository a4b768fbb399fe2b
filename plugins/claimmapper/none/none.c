/* SPDX-License-Identifier: MIT */
/* claimmapper/none: no claims for anybody.  It goes with an authorizer that asks for none; with any other
 * one every call is denied.  Says so at every start. */
#include <tenon/plugin.h>

static const char WARNING[] =
    "the claim mapper \"none\" recognises nobody: callers are not authenticated";

static tn_status open_mapper(const tn_host *host, const tn_config *config, void **inst,
                             tn_error *err)
{
    static const char nothing = 0;
    (void)config, (void)err;
    host->log(NULL, TN_LEVEL_WARN, WARNING, sizeof WARNING - 1);
    *inst = (void *)(uintptr_t)&nothing;
    return TN_OK;
}

static void close_mapper(void *inst) { (void)inst; }

static tn_status map(void *ctx, tn_op *op, const tn_auth_info *info, tn_claims *out)
{
    (void)ctx, (void)op, (void)info;
    out->present = 0;
    return TN_OK;
}

static const tn_claim_mapper_ops OPS = {.map = map};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_CLAIM_MAPPER,
    .ops_size = sizeof(tn_claim_mapper_ops),
    .name = "none",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys = "",
    .open = open_mapper,
    .close = close_mapper,
    .ops = &OPS,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
