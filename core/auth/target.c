/* SPDX-License-Identifier: MIT */
/* What a call acts on, read from its request by the fields' descriptors.  A namespace that is named by its
 * id is told by its name: an authorizer that knows names must not be passed by. */
#include "auth/private.h"
#include "namespace/namespace.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

#define WORKFLOW_SERVICE "/temporal.api.workflowservice.v1.WorkflowService/"

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

/* The registered name of a namespace; empty when there is none.  It lives in the call. */
static tn_str name_of_id(const tn_call *call, tn_str id)
{
    const tn_namespace *ns = tn_namespace_by_id(id);
    tn_str name = {0};
    if (ns)
        name = tn_arena_str(call->arena, ns->name);
    tn_namespace_unref(ns);
    return name;
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
    if (id.n == 0)
        return true;
    tn_str name = name_of_id(call, id);
    if (target->ns.n == 0) {
        target->ns = name;
        return true;
    }
    return name.n == 0 || tn_str_eq(name, target->ns);
}

bool tn_auth_further_target(const tn_call *call, size_t *index, tn_str own_ns, tn_str *out_ns,
                            tn_str *out_api)
{
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request =
        (const void *)call->request;
    while (*index < request->n_commands) {
        const Temporal__Api__Command__V1__Command *command = request->commands[(*index)++];
        const char *ns = NULL;
        switch (command->attributes_case) {
        case TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES:
            ns = command->signal_external_workflow_execution_command_attributes->namespace_;
            *out_api = TN_STR(WORKFLOW_SERVICE "SignalWorkflowExecution");
            break;
        case TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_START_CHILD_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES:
            ns = command->start_child_workflow_execution_command_attributes->namespace_;
            *out_api = TN_STR(WORKFLOW_SERVICE "StartWorkflowExecution");
            break;
        case TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES:
            ns = command->request_cancel_external_workflow_execution_command_attributes->namespace_;
            *out_api = TN_STR(WORKFLOW_SERVICE "RequestCancelWorkflowExecution");
            break;
        default:
            break;
        }
        if (!ns || !ns[0] || tn_str_is(own_ns, ns))
            continue;
        *out_ns = tn_str_from(ns);
        return true;
    }
    return false;
}
