/* SPDX-License-Identifier: MIT */
/* Everything in the plugin header, as abidw sees it: one function a struct that a plugin or the server meets. */
#include <tenon/plugin.h>

#define SHOWN __attribute__((visibility("default"), used))

SHOWN void abi_host(const tn_host *p);
SHOWN void abi_host(const tn_host *p) { (void)p; }
SHOWN void abi_plugin(const tn_plugin *p);
SHOWN void abi_plugin(const tn_plugin *p) { (void)p; }
SHOWN void abi_explain(const tn_explain *p);
SHOWN void abi_explain(const tn_explain *p) { (void)p; }
SHOWN void abi_authorizer(const tn_authorizer_ops *p);
SHOWN void abi_authorizer(const tn_authorizer_ops *p) { (void)p; }
SHOWN void abi_claim_mapper(const tn_claim_mapper_ops *p);
SHOWN void abi_claim_mapper(const tn_claim_mapper_ops *p) { (void)p; }
SHOWN void abi_persistence(const tn_persistence_ops *p);
SHOWN void abi_persistence(const tn_persistence_ops *p) { (void)p; }
SHOWN void abi_visibility(const tn_visibility_ops *p);
SHOWN void abi_visibility(const tn_visibility_ops *p) { (void)p; }

const tn_plugin *tn_plugin_v0(uint32_t index)
{
    (void)index;
    return NULL;
}
