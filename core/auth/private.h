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

struct tn_auth_node;

typedef struct tn_auth_method {
    tn_map_link link;
    uint32_t access, scope;
    bool free;       /* nobody is asked */
    bool lists;      /* ListNamespaces: its handler asks about each of them */
    bool names_more; /* its request may name namespaces besides its own */
    const ProtobufCMessageDescriptor *input;
    tn_auth_place ns, ns_id, workflow_id, workflow_type, task_queue, nexus_endpoint;
    const ProtobufCFieldDescriptor *task_token; /* NULL: none */
    struct tn_auth_node *fields;
} tn_auth_method;

/* rules.c [main] */
const tn_auth_method *tn_auth_method_find(tn_str path); /* [any] NULL: unknown */

/* target.c: fills target from the request.  false: the request names two namespaces at once. */
bool tn_auth_target(const tn_auth_method *method, const tn_call *call, tn_call_target *target);
/* The registered name of a namespace; empty when there is none.  It lives in the call. */
tn_str tn_auth_name_of_id(const tn_call *call, tn_str id);

/* fields.c: the further namespaces that a request would act on, one after the other. */
#define TN_AUTH_DEPTH_MAX 16u
typedef struct tn_auth_frame {
    const struct tn_auth_node *node;
    const ProtobufCMessage *message;
    size_t edge, index;
} tn_auth_frame;
typedef struct tn_auth_walk {
    const tn_auth_method *method;
    size_t depth;
    bool too_deep; /* not walked to its end: to be denied */
    tn_auth_frame stack[TN_AUTH_DEPTH_MAX];
} tn_auth_walk;
void tn_auth_fields_init(tn_auth_method *methods, size_t count); /* [main] */
bool tn_auth_names_more(const tn_auth_method *method);
void tn_auth_walk_begin(tn_auth_walk *walk, const tn_auth_method *method,
                        const ProtobufCMessage *request);
/* out_api: the path of the method that the field stands for. */
bool tn_auth_walk_next(tn_auth_walk *walk, const tn_call *call, tn_str own_ns, tn_str *out_ns,
                       tn_str *out_api);

/* probe.c [main] A question to each, on the first loop: whoever does not answer lawfully in time, or gives no verdict,
 * would deny every call. */
tn_status tn_auth_probe(tn_plugin_instance *mapper, tn_plugin_instance *authorizer,
                        uint64_t timeout_ns, tn_error *err) TN_WARN_UNUSED;

#endif
