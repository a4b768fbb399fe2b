/* SPDX-License-Identifier: MIT */
/* Updates of workflows: update, poll for an update's outcome, and update-with-start, whose two parts are checked like
 * the calls that they stand for. */
#include "frontend/priv.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)

typedef Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionRequest update_request;
typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request;
typedef Temporal__Api__Workflowservice__V1__ExecuteMultiOperationRequest multi_request;

enum { STAGE_UNSPECIFIED, STAGE_ADMITTED, STAGE_ACCEPTED };

static const tn_fault *invalid(tn_fcall *f, const char *text)
{
    return tn_fault_make(f->call->arena, TN_GRPC_INVALID_ARGUMENT, "%s", text);
}

static const tn_fault *denied(tn_fcall *f, const char *text)
{
    Temporal__Api__Errordetails__V1__PermissionDeniedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__PERMISSION_DENIED_FAILURE__INIT;
    return tn_fault_detailed(f->call->arena, TN_GRPC_PERMISSION_DENIED, &detail.base, "%s", text);
}

static const tn_fault *check_enabled(tn_fcall *f)
{
    return tn_dyn_bool(TN_DYN_FRONTEND_UPDATES, f->ns->name, TN_STR(""))
               ? NULL
               : denied(f, "UpdateWorkflowExecution operation is disabled on this namespace.");
}

static const tn_fault *check_wait(tn_fcall *f, update_request *r)
{
    const tn_fault *fault = check_enabled(f);
    if (fault)
        return fault;
    if (!r->wait_policy) {
        r->wait_policy = TN_NEW(f->call->arena, Temporal__Api__Update__V1__WaitPolicy);
        temporal__api__update__v1__wait_policy__init(r->wait_policy);
    }
    int stage = (int)r->wait_policy->lifecycle_stage;
    if (stage == STAGE_UNSPECIFIED)
        r->wait_policy->lifecycle_stage =
            TEMPORAL__API__ENUMS__V1__UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE__UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED;
    if (stage == STAGE_ADMITTED)
        return denied(
            f,
            "UpdateWorkflowExecution issued asynchronously and waiting on update admitted is not "
            "supported.");
    if (stage == STAGE_ACCEPTED &&
        !tn_dyn_bool(TN_DYN_FRONTEND_ASYNC_UPDATES, f->ns->name, TN_STR("")))
        return denied(f, "UpdateWorkflowExecution issued asynchronously and waiting on update "
                         "accepted is disabled "
                         "on this namespace.");
    return NULL;
}

static const tn_fault *check_update(tn_fcall *f, update_request *r)
{
    const tn_fault *fault = tn_front_check_execution(f->call->arena, r->workflow_execution);
    Temporal__Api__Update__V1__Request *asked = r->request;
    if (fault)
        return fault;
    if (!asked || !asked->meta)
        return invalid(f, "Update meta is not set on request.");
    if (strlen(asked->meta->update_id) > tn_front_id_max())
        return invalid(f, "UpdateId length exceeds limit.");
    if (!*asked->meta->update_id)
        asked->meta->update_id = tn_fresh_uuid(f->call->arena);
    if (!asked->input)
        return invalid(f, "Update input is not set on request.");
    if (!*asked->input->name)
        return invalid(f, "Update name is not set on request.");
    fault = check_wait(f, r);
    if (fault)
        return fault;
    if (asked->n_completion_callbacks)
        return tn_fault_make(f->call->arena, TN_GRPC_UNIMPLEMENTED,
                             "completion callbacks of updates are not supported");
    return tn_front_check_links(f, asked->n_links, asked->links);
}

void tn_do_update(tn_fcall *f)
{
    update_request *r = REQUEST(f, UpdateWorkflowExecutionRequest);
    const tn_fault *fault = check_update(f, r);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_history(f, TN_HOP_UPDATE, r->workflow_execution->workflow_id,
                         r->workflow_execution->run_id, &r->base);
}

void tn_do_poll_update(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__PollWorkflowExecutionUpdateRequest *r =
        REQUEST(f, PollWorkflowExecutionUpdateRequest);
    const tn_fault *fault = r->update_ref ? NULL : invalid(f, "UpdateRef is not set on request.");
    if (!fault)
        fault = check_enabled(f);
    if (!fault)
        fault = tn_front_check_execution(f->call->arena, r->update_ref->workflow_execution);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_history(f, TN_HOP_POLL_UPDATE, r->update_ref->workflow_execution->workflow_id,
                         r->update_ref->workflow_execution->run_id, &r->base);
}

/* ---- update-with-start ---- */

static bool elsewhere(const tn_fcall *f, const char *namespace)
{
    return *namespace && !tn_str_is(f->ns->name, namespace);
}

static const tn_fault *check_start_part(tn_fcall *f, start_request *r)
{
    if (elsewhere(f, r->namespace_))
        return invalid(f, "Operation namespace did not match request's namespace.");
    const tn_fault *fault = tn_front_check_start(f, r);
    if (fault)
        return fault;
    if (*r->cron_schedule)
        return invalid(f, "CronSchedule is not allowed.");
    if (r->request_eager_execution)
        return invalid(f, "RequestEagerExecution is not supported.");
    if (r->workflow_start_delay &&
        (r->workflow_start_delay->seconds > 0 || r->workflow_start_delay->nanos > 0))
        return invalid(f, "WorkflowStartDelay is not supported.");
    return tn_front_use_override(f, r->versioning_override, r->task_queue->name);
}

static const tn_fault *check_update_part(tn_fcall *f, update_request *r)
{
    if (elsewhere(f, r->namespace_))
        return invalid(f, "Operation namespace did not match request's namespace.");
    const tn_fault *fault = check_update(f, r);
    if (fault)
        return fault;
    if (*r->first_execution_run_id)
        return invalid(f, "FirstExecutionRunId is not allowed.");
    if (*r->workflow_execution->run_id)
        return invalid(f, "RunId is not allowed.");
    return NULL;
}

static bool is_start_and_update(const multi_request *r)
{
    return r->n_operations == 2 &&
           r->operations[0]->operation_case ==
               TEMPORAL__API__WORKFLOWSERVICE__V1__EXECUTE_MULTI_OPERATION_REQUEST__OPERATION__OPERATION_START_WORKFLOW &&
           r->operations[1]->operation_case ==
               TEMPORAL__API__WORKFLOWSERVICE__V1__EXECUTE_MULTI_OPERATION_REQUEST__OPERATION__OPERATION_UPDATE_WORKFLOW;
}

void tn_do_multi_operation(tn_fcall *f)
{
    const multi_request *r = REQUEST(f, ExecuteMultiOperationRequest);
    tn_arena *arena = f->call->arena;
    if (!is_start_and_update(r)) {
        tn_front_invalid(f, "Operations have to be exactly [Start, Update].");
        return;
    }
    start_request *start = r->operations[0]->start_workflow;
    update_request *update = r->operations[1]->update_workflow;
    const tn_fault *faults[2] = {check_start_part(f, start), check_update_part(f, update)};
    if (!faults[0] && !faults[1] &&
        strcmp(start->workflow_id, update->workflow_execution->workflow_id) != 0)
        faults[1] = invalid(f, "WorkflowId is not consistent with previous operation(s).");
    if (!faults[0] && !faults[1]) {
        tn_front_history(f, TN_HOP_UPDATE_WITH_START, start->workflow_id, NULL, &r->base);
        return;
    }
    for (size_t i = 0; i < 2; i++)
        if (!faults[i])
            faults[i] = tn_fault_operation_aborted(arena);
    tn_front_fail(
        f, tn_fault_operations(arena, "Update-with-Start could not be executed.", faults, 2));
}
