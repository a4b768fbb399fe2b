/* SPDX-License-Identifier: MIT */
/* The inside of the auth room, for its sources. */
#ifndef TN_AUTH_PRIVATE_H
#define TN_AUTH_PRIVATE_H

#include "auth/auth.h"
#include "proto/proto.h"

/* What is known of a method before a call comes: its class, and where its request keeps what a target
 * names.  A path of at most two fields: "workflow_execution.workflow_id". */
typedef struct tn_auth_place {
    const ProtobufCFieldDescriptor *outer, *inner; /* outer NULL: not in this request */
} tn_auth_place;

typedef struct tn_auth_method {
    tn_map_link link;
    uint32_t access, scope;
    bool free;          /* nobody is asked */
    bool names_targets; /* RespondWorkflowTaskCompleted: its commands may act on other namespaces */
    const ProtobufCMessageDescriptor *input;
    tn_auth_place ns, ns_id, workflow_id, workflow_type, task_queue, nexus_endpoint;
} tn_auth_method;

/* rules.c [main] */
void tn_auth_methods_init(void);
const tn_auth_method *tn_auth_method_find(tn_str path); /* [any] NULL: unknown */

/* target.c: fills target from the request.  false: the request names two namespaces at once. */
bool tn_auth_target(const tn_auth_method *method, const tn_call *call, tn_call_target *target);
/* The index-th further namespace that the request would act on, with the method that stands for it. */
bool tn_auth_further_target(const tn_call *call, size_t *index, tn_str own_ns, tn_str *out_ns,
                            tn_str *out_api);

/* probe.c [main] A question to each, on the first loop: whoever does not answer lawfully in time, or gives no verdict,
 * would deny every call. */
tn_status tn_auth_probe(tn_plugin_instance *mapper, tn_plugin_instance *authorizer,
                        uint64_t timeout_ns, tn_error *err) TN_WARN_UNUSED;

#endif
