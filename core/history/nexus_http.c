/* SPDX-License-Identifier: MIT */
/* Requests and callbacks to addresses outside. */
#include "history/nexus.h"

void tn_nexus_to_url(tn_arena *arena, void *call, const tn_run *run, const tn_nexus_op *op,
                     const Tenon__NexusEndpointRecord *endpoint, tn_str ns_name, bool cancel, uint64_t timeout_ns)
{
    (void)run, (void)op, (void)endpoint, (void)ns_name, (void)cancel, (void)timeout_ns;
    tn_nexus_result result = {.kind = TN_NEXUS_AGAIN};
    result.failure = tn_nexus_call_failure(arena, "addresses outside are not served yet", false);
    tn_nexus_http_answered(call, &result);
}

void tn_nexus_post_completion(tn_arena *arena, void *call, const Temporal__Api__Common__V1__Callback__Nexus *callback,
                              const Tenon__NexusCompletion *completion, uint64_t close_ns, tn_str ns_name)
{
    (void)arena, (void)callback, (void)completion, (void)close_ns, (void)ns_name;
    tn_nexus_result result = {.kind = TN_NEXUS_AGAIN, .token = "addresses outside are not served yet"};
    tn_nexus_http_answered(call, &result);
}
