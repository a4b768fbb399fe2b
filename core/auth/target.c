/* SPDX-License-Identifier: MIT */
/* What a call acts on, read from its request by the fields' descriptors.  A namespace that is named by its
 * id is told by its name: an authorizer that knows names must not be passed by. */
#include "auth/private.h"
#include "namespace/namespace.h"

static tn_str text_at(const tn_auth_place *place, const ProtobufCMessage *request)
{
    if (!place->outer || !request)
        return (tn_str){0};
    const void *member = (const char *)request + place->outer->offset;
    if (place->inner) {
        const ProtobufCMessage *sub = *(ProtobufCMessage *const *)member;
        if (!sub)
            return (tn_str){0};
        member = (const char *)sub + place->inner->offset;
    }
    return tn_str_from(*(char *const *)member);
}

tn_str tn_auth_name_of_id(const tn_call *call, tn_str id)
{
    const tn_namespace *ns = tn_namespace_by_id(id);
    tn_str name = {0};
    if (ns)
        name = tn_arena_str(call->arena, ns->name);
    tn_namespace_unref(ns);
    return name;
}

static tn_auth_token_reader *read_token;

void tn_auth_read_tokens(tn_auth_token_reader *reader) { read_token = reader; }

/* A worker may leave the namespace out: the call acts in the one of its token. */
static tn_str name_of_token(const tn_auth_method *method, const tn_call *call)
{
    if (!method->task_token || !read_token)
        return (tn_str){0};
    const ProtobufCBinaryData *token =
        (const void *)((const char *)call->request + method->task_token->offset);
    tn_str id =
        token->len ? read_token(call->arena, tn_blob_from(token->data, token->len)) : (tn_str){0};
    return id.n ? tn_auth_name_of_id(call, id) : id;
}

bool tn_auth_target(const tn_auth_method *method, const tn_call *call, tn_call_target *target)
{
    *target = (tn_call_target){.struct_size = sizeof *target,
                               .api_name = tn_str_from(call->method->path),
                               .message = call->message};
    if (call->method->input)
        target->message_type = tn_str_from(call->method->input->name);
    if (!method)
        return true;
    target->access = method->access;
    target->scope = method->scope;
    if (!call->request || call->request->descriptor != method->input)
        return true; /* a stream before its first message */
    target->ns = text_at(&method->ns, call->request);
    target->workflow_id = text_at(&method->workflow_id, call->request);
    target->workflow_type = text_at(&method->workflow_type, call->request);
    target->task_queue = text_at(&method->task_queue, call->request);
    target->nexus_endpoint = text_at(&method->nexus_endpoint, call->request);
    tn_str id = text_at(&method->ns_id, call->request);
    if (id.n == 0) {
        if (target->ns.n == 0)
            target->ns = name_of_token(method, call);
        return true;
    }
    tn_str name = tn_auth_name_of_id(call, id);
    if (target->ns.n == 0) {
        target->ns = name;
        return true;
    }
    return name.n == 0 || tn_str_eq(name, target->ns);
}
