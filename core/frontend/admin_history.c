/* SPDX-License-Identifier: MIT */
/* What operators ask of workflows: their histories as they were written, their states made anew, their deletion, and that the
 * tasks of many are offered again. */
#include "frontend/admin.h"

typedef Temporal__Server__Api__Adminservice__V1__GetWorkflowExecutionRawHistoryRequest raw_request;
typedef Temporal__Server__Api__Adminservice__V1__GetWorkflowExecutionRawHistoryV2Request
    raw_request_v2;

/* ---- history ---- */

static void raw_history(tn_fcall *f, const raw_request_v2 *r)
{
    const tn_fault *fault = tn_front_check_execution(f->call->arena, r->execution);
    if (!fault && r->maximum_page_size <= 0)
        fault = tn_fault_make(f->call->arena, TN_GRPC_INVALID_ARGUMENT, "Invalid PageSize.");
    if (!fault && r->start_event_id < 0)
        fault = tn_fault_make(f->call->arena, TN_GRPC_INVALID_ARGUMENT,
                              "Invalid FirstEventID and NextEventID combination.");
    if (!fault && (r->start_event_version || r->end_event_version))
        fault =
            tn_fault_make(f->call->arena, TN_GRPC_INVALID_ARGUMENT,
                          "version histories does not contain given item: events have version 0 "
                          "here.");
    f->ns = fault ? NULL : tn_namespace_by_id(tn_str_from(r->namespace_id));
    if (!fault && !f->ns)
        fault = tn_namespace_not_found(f->call->arena, tn_str_from(r->namespace_id));
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_history(f, TN_HOP_RAW_HISTORY, r->execution->workflow_id, r->execution->run_id,
                         &r->base);
}

void tn_do_admin_raw_history_v2(tn_fcall *f)
{
    raw_history(f, TN_ADMIN_REQUEST(f, GetWorkflowExecutionRawHistoryV2Request));
}

/* The older one has its bounds inclusive, and the same answer. */
void tn_do_admin_raw_history(tn_fcall *f)
{
    const raw_request *r = TN_ADMIN_REQUEST(f, GetWorkflowExecutionRawHistoryRequest);
    raw_request_v2 *to =
        TN_ADMIN_NEW(f->call->arena, get_workflow_execution_raw_history_v2_request);
    to->namespace_id = r->namespace_id;
    to->execution = r->execution;
    to->start_event_id = r->start_event_id > 0 ? r->start_event_id - 1 : r->start_event_id;
    to->start_event_version = r->start_event_version;
    to->end_event_id =
        r->end_event_id > 0 && r->end_event_id < INT64_MAX ? r->end_event_id + 1 : r->end_event_id;
    to->end_event_version = r->end_event_version;
    to->maximum_page_size = r->maximum_page_size;
    to->next_page_token = r->next_page_token;
    raw_history(f, to);
}

/* ---- deletion: as a client's, a promise that is durable when it is acknowledged ---- */

void tn_do_admin_delete(tn_fcall *f)
{
    const Temporal__Server__Api__Adminservice__V1__DeleteWorkflowExecutionRequest *r =
        TN_ADMIN_REQUEST(f, DeleteWorkflowExecutionRequest);
    const tn_fault *fault = tn_front_check_execution(f->call->arena, r->execution);
    if (!fault)
        fault = tn_admin_check_archetype(f->call->arena, r->archetype, r->archetype_id,
                                         r->execution->workflow_id);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    Temporal__Api__Workflowservice__V1__DeleteWorkflowExecutionRequest *to = tn_admin_new(
        f->call->arena,
        &temporal__api__workflowservice__v1__delete_workflow_execution_request__descriptor);
    to->namespace_ = r->namespace_;
    to->workflow_execution = r->execution;
    tn_front_history(f, TN_HOP_DELETE, r->execution->workflow_id, r->execution->run_id, &to->base);
}

/* ---- a state made anew from its history ---- */

void tn_do_admin_rebuild(tn_fcall *f)
{
    const Temporal__Server__Api__Adminservice__V1__RebuildMutableStateRequest *r =
        TN_ADMIN_REQUEST(f, RebuildMutableStateRequest);
    const tn_fault *fault = tn_front_check_execution(f->call->arena, r->execution);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_front_history(f, TN_HOP_REBUILD, r->execution->workflow_id, r->execution->run_id,
                         &r->base);
}

/* ---- many runs ---- */

static const char *check_batch(
    const Temporal__Server__Api__Adminservice__V1__StartAdminBatchOperationRequest *r)
{
    bool refreshes =
        r->operation_case ==
        TEMPORAL__SERVER__API__ADMINSERVICE__V1__START_ADMIN_BATCH_OPERATION_REQUEST__OPERATION_REFRESH_TASKS_OPERATION;
    if (!refreshes || !*r->reason || (!*r->visibility_query && !r->n_executions))
        return "must provide required parameters: Operation, Reason, Namespace, AND one of (Query "
               "OR "
               "Executions)";
    if (!*r->job_id)
        return "JobId is not set on request.";
    if (*r->visibility_query && r->n_executions)
        return "batch query and executions are mutually exclusive";
    return strlen(r->job_id) > tn_front_id_max() ? "WorkflowId length exceeds limit." : NULL;
}

/* A batch job like a client's, without an operation of theirs: core/history/batch.c knows what that means. */
void tn_do_admin_start_batch(tn_fcall *f)
{
    Temporal__Server__Api__Adminservice__V1__StartAdminBatchOperationRequest *r =
        TN_ADMIN_REQUEST(f, StartAdminBatchOperationRequest);
    const char *wrong = check_batch(r);
    if (wrong) {
        tn_front_invalid(f, "%s", wrong);
        return;
    }
    Temporal__Api__Workflowservice__V1__StartBatchOperationRequest *to = tn_admin_new(
        f->call->arena,
        &temporal__api__workflowservice__v1__start_batch_operation_request__descriptor);
    to->namespace_ = r->namespace_;
    to->visibility_query = r->visibility_query;
    to->job_id = r->job_id;
    to->reason = r->reason;
    to->executions = r->executions;
    to->n_executions = r->n_executions;
    f->call->request = &to->base;
    tn_front_start_job(f);
}
