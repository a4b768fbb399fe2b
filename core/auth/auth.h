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

/* [main] The headers that a mapper sees as `authorization` and `extra_data`, in lower case; for the next start or replace.
 * Without it: authorization, authorization-extras. */
#define TN_AUTH_HEADER_MAX 63u
void tn_auth_set_headers(const char *header, const char *extras);
/* [main] What a mapper sees as `audience` of each call; for the next start or replace.  Empty: none. */
#define TN_AUTH_AUDIENCE_MAX 1023u
void tn_auth_set_audience(const char *audience);

/* [main] Attaches both plugins to every loop.  timeout_ns: for mapper and authorizer together. */
tn_status tn_auth_start(tn_plugin_instance *claim_mapper, tn_plugin_instance *authorizer,
                        uint64_t timeout_ns, tn_error *err) TN_WARN_UNUSED;
/* [main] The same while the server serves: attaches both and asks each a question (what answers none is not taken).  Then
 * every loop gives its next call to them; calls that have begun end with the old ones.  On failure the old ones stay,
 * and nothing has changed.  *out_idle: the pair that is not given calls (any more), the old one or the refused one, or
 * as it was when the new ones could not even be attached.  When it is idle, its instances may be closed and it be
 * forgotten. */
typedef struct tn_auth_pair tn_auth_pair;
tn_status tn_auth_replace(tn_plugin_instance *claim_mapper, tn_plugin_instance *authorizer,
                          uint64_t timeout_ns, tn_auth_pair **out_idle,
                          tn_error *err) TN_WARN_UNUSED;
bool tn_auth_idle(const tn_auth_pair *pair);
void tn_auth_forget(tn_auth_pair *pair);
void tn_auth_stop(void); /* after the last call was answered */

/* [home loop] Runs next(call), at once when both plugins answer at once, or answers the call with a fault.
 * Health Check and GetSystemInfo pass without a question. */
void tn_auth_check(tn_call *call, void (*next)(tn_call *call));

/* [main] How a task token tells the id of its namespace (empty: it is not ours); tokens are another room's. */
typedef tn_str tn_auth_token_reader(tn_arena *arena, tn_blob token);
void tn_auth_read_tokens(tn_auth_token_reader *reader);

/* Asks, on behalf of a caller that is being served, whether it may make another call in each of many namespaces. */
typedef struct tn_auth_filter {
    const char *path; /* of the other call, process lifetime */
    bool (*next)(struct tn_auth_filter *filter, tn_str *out_ns);  /* false: no more */
    void (*verdict)(struct tn_auth_filter *filter, bool allowed); /* about what next gave */
    void (*done)(struct tn_auth_filter *filter);
    bool failed; /* with done: an answer is missing, and none was asked for after it */
    void *user;
} tn_auth_filter;
/* [home loop, from within the handler of the call, at most once] `filter` lives until done, which may run before this
 * returns.  Only for methods whose answer spans namespaces (tn_auth_method.lists): claims are kept for those alone. */
void tn_auth_filter_run(tn_call *call, tn_auth_filter *filter);

/* What the default rules say of a method: TN_ACCESS_*, TN_SCOPE_*; false: unknown (0, 0: an authorizer
 * should deny it). */
/* [main] tn_auth_start does it; a program that starts nothing asks for it */
void tn_auth_methods_init(void);
bool tn_auth_rule(tn_str path, uint32_t *out_access, uint32_t *out_scope);

#endif
