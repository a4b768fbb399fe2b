/* SPDX-License-Identifier: MIT */
/* Who may call what: every call passes here before its handler (tn_rpc_options.dispatch).  The claim mapper
 * plugin turns what the caller showed into claims, the authorizer plugin decides about claims and target.
 *
 * It fails closed: a verdict that is not "allow", an error, a missing answer in time are all told as
 * PERMISSION_DENIED "Request unauthorized.". */
#ifndef TN_AUTH_AUTH_H
#define TN_AUTH_AUTH_H

#include "base/base.h"
#include "plugin/plugin.h"
#include "rpc/rpc.h"

/* [main] Attaches both plugins to every loop.  timeout_ns: for mapper and authorizer together. */
tn_status tn_auth_start(tn_plugin_instance *claim_mapper, tn_plugin_instance *authorizer,
                        uint64_t timeout_ns, tn_error *err) TN_WARN_UNUSED;
/* [main] The same while the server serves: attaches both and asks each a question (what answers none is not taken).  Then
 * every loop gives its next call to them; calls that have begun end with the old ones.  On failure the old ones stay,
 * and nothing has changed.  *out_old: when it is idle, its instances may be closed and it be forgotten. */
typedef struct tn_auth_pair tn_auth_pair;
tn_status tn_auth_replace(tn_plugin_instance *claim_mapper, tn_plugin_instance *authorizer,
                          uint64_t timeout_ns, tn_auth_pair **out_old,
                          tn_error *err) TN_WARN_UNUSED;
bool tn_auth_idle(const tn_auth_pair *old);
void tn_auth_forget(tn_auth_pair *old);
void tn_auth_stop(void); /* after the last call was answered */

/* [home loop] Runs next(call), at once when both plugins answer at once, or answers the call with a fault.
 * Health Check and GetSystemInfo pass without a question. */
void tn_auth_check(tn_call *call, void (*next)(tn_call *call));

/* What the default rules say of a method: TN_ACCESS_*, TN_SCOPE_*; false: unknown (0, 0: an authorizer
 * should deny it). */
bool tn_auth_rule(tn_str path, uint32_t *out_access, uint32_t *out_scope);

#endif
