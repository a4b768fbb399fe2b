/* SPDX-License-Identifier: MIT */
/* Calls about one workflow: start, signal, cancel, terminate, describe, history, query. */
#include "frontend/priv.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)

void tn_do_start(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r =
        REQUEST(f, StartWorkflowExecutionRequest);
    const tn_fault *fault = tn_front_check_start(f, r);
    if (!fault)
        fault = tn_front_use_override(f, r->versioning_override, r->task_queue->name);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_history(f, TN_HOP_START, r->workflow_id, NULL, &r->base);
}

void tn_do_signal_with_start(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest *r =
        REQUEST(f, SignalWithStartWorkflowExecutionRequest);
    const tn_fault *fault = tn_front_check_signal_with_start(f, r);
    if (!fault)
        fault = tn_front_use_override(f, r->versioning_override, r->task_queue->name);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_history(f, TN_HOP_SIGNAL_WITH_START, r->workflow_id, NULL, &r->base);
}

static void for_execution(tn_fcall *f, tn_hop op,
                          const Temporal__Api__Common__V1__WorkflowExecution *execution)
{
    const tn_fault *fault = tn_front_check_execution(f->call->arena, execution);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_history(f, op, execution->workflow_id, execution->run_id, f->call->request);
}

/* With the first run of a chain given, the chain is meant and not one run of it. */
static void for_chain(tn_fcall *f, tn_hop op,
                      const Temporal__Api__Common__V1__WorkflowExecution *execution,
                      const char *first_run_id)
{
    const tn_fault *fault = tn_front_check_execution(f->call->arena, execution);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_history(f, op, execution->workflow_id, *first_run_id ? NULL : execution->run_id,
                         f->call->request);
}

void tn_do_signal(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *r =
        REQUEST(f, SignalWorkflowExecutionRequest);
    const tn_fault *fault = tn_front_check_execution(f->call->arena, r->workflow_execution);
    if (fault)
        tn_front_fail(f, fault);
    else if (!*r->signal_name)
        tn_front_invalid(f, "SignalName is not set on request.");
    else if (strlen(r->signal_name) > tn_front_id_max())
        tn_front_invalid(f, "SignalName length exceeds limit.");
    else if (strlen(r->request_id) > tn_front_id_max())
        tn_front_invalid(f, "RequestId length exceeds limit.");
    else if ((fault = tn_front_check_links(f, r->n_links, r->links)))
        tn_front_fail(f, fault);
    else if (tn_front_blob_too_large(f, r->input ? &r->input->base : NULL))
        tn_front_invalid(f, "Blob data size exceeds limit.");
    else
        for_execution(f, TN_HOP_SIGNAL, r->workflow_execution);
}

void tn_do_request_cancel(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *r =
        REQUEST(f, RequestCancelWorkflowExecutionRequest);
    const tn_fault *fault = tn_front_check_links(f, r->n_links, r->links);
    if (fault)
        tn_front_fail(f, fault);
    else if (strlen(r->request_id) > tn_front_id_max())
        tn_front_invalid(f, "RequestId length exceeds limit.");
    else
        for_chain(f, TN_HOP_REQUEST_CANCEL, r->workflow_execution, r->first_execution_run_id);
}

void tn_do_terminate(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__TerminateWorkflowExecutionRequest *r =
        REQUEST(f, TerminateWorkflowExecutionRequest);
    const tn_fault *fault = tn_front_check_links(f, r->n_links, r->links);
    if (!*r->reason)
        r->reason = (char *)"terminated by user via frontend";
    if (!*r->identity)
        r->identity = (char *)"frontend-service";
    if (fault)
        tn_front_fail(f, fault);
    else
        for_chain(f, TN_HOP_TERMINATE, r->workflow_execution, r->first_execution_run_id);
}

void tn_do_delete(tn_fcall *f)
{
    for_execution(f, TN_HOP_DELETE, REQUEST(f, DeleteWorkflowExecutionRequest)->workflow_execution);
}

void tn_do_reset(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ResetWorkflowExecutionRequest *r =
        REQUEST(f, ResetWorkflowExecutionRequest);
    if (!*r->request_id)
        tn_front_invalid(f, "RequestId is not set on request.");
    else if (strlen(r->request_id) > tn_front_id_max())
        tn_front_invalid(f, "RequestId length exceeds limit.");
    else if (tn_front_check_execution(f->call->arena, r->workflow_execution) == NULL &&
             ((int)r->reset_reapply_type < 0 || (int)r->reset_reapply_type > 3))
        tn_front_fail(f,
                      tn_fault_make(f->call->arena, TN_GRPC_INTERNAL,
                                    "unknown reset reapply type: %d", (int)r->reset_reapply_type));
    else
        for_execution(f, TN_HOP_RESET, r->workflow_execution);
}

void tn_do_describe(tn_fcall *f)
{
    for_execution(f, TN_HOP_DESCRIBE, REQUEST(f, DescribeWorkflowExecutionRequest)->execution);
}

void tn_do_get_history(tn_fcall *f)
{
    for_execution(f, TN_HOP_GET_HISTORY, REQUEST(f, GetWorkflowExecutionHistoryRequest)->execution);
}

void tn_do_get_history_reverse(tn_fcall *f)
{
    for_execution(f, TN_HOP_GET_HISTORY_REVERSE,
                  REQUEST(f, GetWorkflowExecutionHistoryReverseRequest)->execution);
}

void tn_do_query(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__QueryWorkflowRequest *r = REQUEST(f, QueryWorkflowRequest);
    const tn_fault *fault = tn_front_check_execution(f->call->arena, r->execution);
    if (fault)
        tn_front_fail(f, fault);
    else if (tn_dyn_bool(TN_DYN_SYSTEM_DISALLOW_QUERY, f->ns->name, TN_STR("")))
        tn_front_invalid(f, "Namespace is not allowed to query, please contact temporal team to "
                            "re-enable queries.");
    else if (!r->query)
        tn_front_invalid(f, "WorkflowQuery is not set on request.");
    else if (!*r->query->query_type)
        tn_front_invalid(f, "QueryType is not set on request.");
    else
        for_execution(f, TN_HOP_QUERY, r->execution);
}

void tn_do_reset_sticky(tn_fcall *f)
{
    const Temporal__Api__Common__V1__WorkflowExecution *execution =
        REQUEST(f, ResetStickyTaskQueueRequest)->execution;
    for_execution(f, TN_HOP_RESET_STICKY, execution);
}
