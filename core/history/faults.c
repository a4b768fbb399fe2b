/* SPDX-License-Identifier: MIT */
/* The history role's faults, with the texts that clients know (behaviour.md 2.37). */
#include "history/priv.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

const tn_fault *tn_fault_workflow_not_found(tn_arena *arena, tn_str workflow_id)
{
    Temporal__Api__Errordetails__V1__NotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;
    return tn_fault_detailed(arena, TN_GRPC_NOT_FOUND, &detail.base,
                             "workflow not found for ID: " TN_STR_FMT, TN_STR_ARG(workflow_id));
}

const tn_fault *tn_fault_run_not_found(tn_arena *arena, tn_str workflow_id, tn_str run_id)
{
    Temporal__Api__Errordetails__V1__NotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;
    return tn_fault_detailed(arena, TN_GRPC_NOT_FOUND, &detail.base,
                             "workflow execution not found for workflow ID \"" TN_STR_FMT
                             "\" and run ID \"" TN_STR_FMT "\"",
                             TN_STR_ARG(workflow_id), TN_STR_ARG(run_id));
}

const tn_fault *tn_fault_closed(tn_arena *arena)
{
    Temporal__Api__Errordetails__V1__NotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;
    return tn_fault_detailed(arena, TN_GRPC_NOT_FOUND, &detail.base,
                             "workflow execution already completed");
}

const tn_fault *tn_fault_already_started(tn_arena *arena, const tn_wf *wf, const char *text)
{
    Temporal__Api__Errordetails__V1__WorkflowExecutionAlreadyStartedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__WORKFLOW_EXECUTION_ALREADY_STARTED_FAILURE__INIT;
    char run_id[37];
    tn_uuid_format(wf->current_run_id, run_id);
    detail.start_request_id = wf->current_request_id ? wf->current_request_id : (char *)"";
    detail.run_id = run_id;
    detail.first_execution_run_id = (char *)(uintptr_t)wf->current_first_run_id;
    return tn_fault_detailed(arena, TN_GRPC_ALREADY_EXISTS, &detail.base, text, wf->workflow_id,
                             run_id);
}

const tn_fault *tn_fault_unavailable(tn_arena *arena, const char *text)
{
    return tn_fault_make(arena, TN_GRPC_UNAVAILABLE, "%s", text);
}
