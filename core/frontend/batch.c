/* SPDX-License-Identifier: MIT */
/* Batch operations: jobs that are objects of the history role (history/machine/batch.h); what they are to do is checked here. */
#include "frontend/priv.h"
#include "history/machine/batch.h"
#include "history/machine/solo.h"
#include "visibility/visibility.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)
#define OP(UPPER) \
    TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION_##UPPER##_OPERATION
#define DIVISION "TemporalNamespaceDivision = '" TN_BATCH_DIVISION "'"

typedef Temporal__Api__Workflowservice__V1__StartBatchOperationRequest start_request;

/* ---- what may be asked ------------------------------------------------------------------------- */

static const char *go_name(const start_request *r)
{
    static const struct {
        int operation;
        const char *name;
    } names[] = {
        {OP(TERMINATION), "TerminationOperation"},
        {OP(SIGNAL), "SignalOperation"},
        {OP(CANCELLATION), "CancellationOperation"},
        {OP(DELETION), "DeletionOperation"},
        {OP(RESET), "ResetOperation"},
        {OP(UPDATE_WORKFLOW_OPTIONS), "UpdateWorkflowOptionsOperation"},
        {OP(UNPAUSE_ACTIVITIES), "UnpauseActivitiesOperation"},
        {OP(RESET_ACTIVITIES), "ResetActivitiesOperation"},
        {OP(UPDATE_ACTIVITY_OPTIONS), "UpdateActivityOptionsOperation"},
        {OP(CANCEL_ACTIVITIES), "CancelActivitiesOperation"},
        {OP(TERMINATE_ACTIVITIES), "TerminateActivitiesOperation"},
        {OP(DELETE_ACTIVITIES), "DeleteActivitiesOperation"},
    };
    for (size_t i = 0; i < TN_COUNT_OF(names); i++)
        if (names[i].operation == (int)r->operation_case)
            return names[i].name;
    return "";
}

static const char *check_targets(tn_arena *arena, const start_request *r)
{
    static const char *const types[] = {"Unspecified", "Workflow", "Activity"};
    int selectors =
        (*r->visibility_query != '\0') + (r->n_executions != 0) + (r->n_target_executions != 0);
    if (r->operation_case ==
            TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION__NOT_SET ||
        !*r->reason || selectors == 0)
        return "must provide required parameters: BatchType,Reason,Namespace, AND one of (Query OR "
               "Executions OR "
               "TargetExecutions)";
    if (!*r->job_id)
        return "JobId is not set on request.";
    if (selectors > 1)
        return "visibility query, executions, and target executions are mutually exclusive";
    unsigned expected = tn_batch_of_activities(r)
                            ? TEMPORAL__API__ENUMS__V1__EXECUTION_TYPE__EXECUTION_TYPE_ACTIVITY
                            : TEMPORAL__API__ENUMS__V1__EXECUTION_TYPE__EXECUTION_TYPE_WORKFLOW;
    for (size_t i = 0; i < r->n_target_executions; i++) {
        unsigned type = (unsigned)r->target_executions[i]->type;
        if (type != expected)
            return tn_arena_printf(arena,
                                   "target_executions[%zu] has type %s, but operation "
                                   "*workflowservice.StartBatchOperationRequest_%s requires %s",
                                   i, type < TN_COUNT_OF(types) ? types[type] : "Unspecified",
                                   go_name(r), types[expected]);
    }
    if (strlen(r->job_id) > tn_front_id_max())
        return "WorkflowId length exceeds limit.";
    return NULL;
}

#define TYPE_OR_ALL "Either activity type must be set, or match all should be set to true"

static const char *check_reset(tn_arena *arena,
                               const Temporal__Api__Batch__V1__BatchOperationReset *op)
{
    int type = (int)op->reset_type;
    if (op->options)
        return op->options->target_case == TEMPORAL__API__COMMON__V1__RESET_OPTIONS__TARGET__NOT_SET
                   ? "batch reset missing target"
                   : NULL;
    if (type == 1 || type == 2)
        return NULL;
    return type ? tn_arena_printf(arena, "unknown batch reset type %d", type)
                : "unknown batch reset type Unspecified";
}

static const char *check_unpause(
    const Temporal__Api__Batch__V1__BatchOperationUnpauseActivities *op)
{
    switch ((int)op->activity_case) {
    case TEMPORAL__API__BATCH__V1__BATCH_OPERATION_UNPAUSE_ACTIVITIES__ACTIVITY__NOT_SET:
        return "activity filter must be set";
    case TEMPORAL__API__BATCH__V1__BATCH_OPERATION_UNPAUSE_ACTIVITIES__ACTIVITY_TYPE:
        return *op->type ? NULL : TYPE_OR_ALL;
    default:
        return op->match_all ? NULL : TYPE_OR_ALL;
    }
}

static const char *check_reset_activities(
    const Temporal__Api__Batch__V1__BatchOperationResetActivities *op)
{
    switch ((int)op->activity_case) {
    case TEMPORAL__API__BATCH__V1__BATCH_OPERATION_RESET_ACTIVITIES__ACTIVITY__NOT_SET:
        return "must provide ActivityType or MatchAll";
    case TEMPORAL__API__BATCH__V1__BATCH_OPERATION_RESET_ACTIVITIES__ACTIVITY_TYPE:
        return *op->type ? NULL : TYPE_OR_ALL;
    default:
        return op->match_all ? NULL : TYPE_OR_ALL;
    }
}

static const char *check_activity_options(
    const Temporal__Api__Batch__V1__BatchOperationUpdateActivityOptions *op)
{
    if (op->activity_options && op->restore_original)
        return "cannot set both activity options and restore original";
    if (!op->activity_options && !op->restore_original)
        return "Either activity type must be set, or restore original should be set to true";
    switch ((int)op->activity_case) {
    case TEMPORAL__API__BATCH__V1__BATCH_OPERATION_UPDATE_ACTIVITY_OPTIONS__ACTIVITY_TYPE:
        return *op->type ? NULL : TYPE_OR_ALL;
    case TEMPORAL__API__BATCH__V1__BATCH_OPERATION_UPDATE_ACTIVITY_OPTIONS__ACTIVITY_MATCH_ALL:
        return op->match_all ? NULL : TYPE_OR_ALL;
    default: /* the reference takes it and fails with every run: better now */
        return TYPE_OR_ALL;
    }
}

static const char *check_operation(tn_arena *arena, const start_request *r)
{
    switch ((int)r->operation_case) {
    case OP(SIGNAL):
        return *r->signal_operation->signal ? NULL : "must provide signal name";
    case OP(UPDATE_WORKFLOW_OPTIONS):
        if (!r->update_workflow_options_operation->workflow_execution_options)
            return "must provide UpdateOptions";
        return r->update_workflow_options_operation->update_mask ? NULL : "must provide UpdateMask";
    case OP(RESET):
        return check_reset(arena, r->reset_operation);
    case OP(UNPAUSE_ACTIVITIES):
        return check_unpause(r->unpause_activities_operation);
    case OP(RESET_ACTIVITIES):
        return check_reset_activities(r->reset_activities_operation);
    case OP(UPDATE_ACTIVITY_OPTIONS):
        return check_activity_options(r->update_activity_options_operation);
    default:
        return NULL;
    }
}

static bool disabled(tn_fcall *f)
{
    if (tn_dyn_bool(TN_DYN_FRONTEND_BATCHER, f->ns->name, TN_STR("")))
        return false;
    tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_PERMISSION_DENIED,
                                   "Batch operation feature are disabled on this namespace."));
    return true;
}

static void to_job(tn_fcall *f, const char *job_id)
{
    tn_str id = tn_object_workflow_id(f->call->arena, &tn_batch_kind, tn_str_from(job_id));
    tn_front_history(f, TN_HOP_OBJECT, id.p, NULL, f->call->request);
}

/* ---- start ------------------------------------------------------------------------------------ */

typedef struct visible {
    tn_fcall *f;
    tn_vis_op op;
} visible;

static void counted(tn_vis_op *op)
{
    visible *v = op->user;
    tn_fcall *f = v->f;
    int64_t max = tn_front_limit(f, TN_DYN_FRONTEND_BATCHES);
    if (op->status != TN_OK)
        tn_front_fail(f, tn_fault_from_status(f->call->arena, op->status, &op->error));
    else if ((int64_t)op->u.list.page.count >= max)
        tn_front_fail(f, tn_fault_exhausted(f->call->arena, 2, 1, /* CONCURRENT_LIMIT, NAMESPACE */
                                            "Max concurrent batch operations is reached"));
    else
        to_job(f, REQUEST(f, StartBatchOperationRequest)->job_id);
}

static const tn_fault *check_query(tn_fcall *f, const start_request *r)
{
    const char *query = r->visibility_query;
    tn_vis_query parsed = {0};
    if (!*query)
        return NULL;
    const tn_fault *fault =
        tn_vis_query_parse_in(f->call->arena, f->ns, tn_str_from(query), TN_VIS_FOR_COUNT,
                              tn_batch_of_activities(r) ? &tn_solo_division : NULL, &parsed);
    if (!fault)
        return NULL;
    return tn_fault_make(f->call->arena, TN_GRPC_INVALID_ARGUMENT,
                         "invalid visibility query: " TN_STR_FMT, TN_STR_ARG(fault->message));
}

void tn_do_start_batch(tn_fcall *f)
{
    start_request *r = REQUEST(f, StartBatchOperationRequest);
    tn_arena *arena = f->call->arena;
    if (disabled(f))
        return;
    if (tn_batch_of_activities(r) &&
        !(tn_dyn_bool(TN_DYN_FRONTEND_BATCH_ACTIVITIES, f->ns->name, TN_STR("")) &&
          tn_dyn_bool(TN_DYN_ACTIVITY_STANDALONE, f->ns->name, TN_STR("")))) {
        tn_front_invalid(f,
                         "The operation type *workflowservice.StartBatchOperationRequest_%s is not "
                         "supported for this "
                         "namespace",
                         go_name(r));
        return;
    }
    const char *wrong = check_targets(arena, r);
    if (!wrong)
        wrong = check_operation(arena, r);
    if (wrong) {
        tn_front_invalid(f, "%s", wrong);
        return;
    }
    tn_front_start_job(f);
}

void tn_front_start_job(tn_fcall *f)
{
    const start_request *r = REQUEST(f, StartBatchOperationRequest);
    tn_arena *arena = f->call->arena;
    visible *v = TN_NEW(arena, visible);
    v->f = f;
    v->op.arena = arena;
    v->op.user = v;
    v->op.done = counted;
    const tn_fault *fault = check_query(f, r);
    if (!fault)
        fault =
            tn_vis_query_parse(arena, f->ns, TN_STR(DIVISION " AND ExecutionStatus = 'Running'"),
                               TN_VIS_FOR_COUNT, &v->op.u.list.query);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_vis_count(&v->op);
}

/* ---- one job ----------------------------------------------------------------------------------- */

void tn_do_stop_batch(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__StopBatchOperationRequest *r =
        REQUEST(f, StopBatchOperationRequest);
    if (!*r->job_id)
        tn_front_invalid(f, "JobId is not set on request.");
    else if (!*r->reason)
        tn_front_invalid(f, "Reason is not set on request.");
    else if (!disabled(f))
        to_job(f, r->job_id);
}

void tn_do_describe_batch(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__DescribeBatchOperationRequest *r =
        REQUEST(f, DescribeBatchOperationRequest);
    if (!*r->job_id)
        tn_front_invalid(f, "JobId is not set on request.");
    else if (!disabled(f))
        to_job(f, r->job_id);
}

/* ---- all of them ------------------------------------------------------------------------------- */

static int32_t type_in(tn_arena *arena, tn_blob packed)
{
    Temporal__Api__Common__V1__Memo *memo = NULL;
    if (TN_PROTO_UNPACK(temporal__api__common__v1__memo, packed, arena, &memo, NULL) != TN_OK)
        return 0;
    for (size_t i = 0; i < memo->n_fields; i++) {
        const ProtobufCBinaryData *json =
            memo->fields[i]->value ? &memo->fields[i]->value->data : NULL;
        if (json && json->len > 2 && strcmp(memo->fields[i]->key, "batch_operation_type") == 0)
            return tn_batch_type_of((tn_str){(const char *)json->data + 1, json->len - 2});
    }
    return 0;
}

static Temporal__Api__Batch__V1__BatchOperationInfo *info_of(tn_arena *arena, const tn_vis_doc *doc)
{
    const Temporal__Api__Workflow__V1__WorkflowExecutionInfo *from = tn_vis_doc_to_info(arena, doc);
    Temporal__Api__Batch__V1__BatchOperationInfo *to =
        TN_NEW(arena, Temporal__Api__Batch__V1__BatchOperationInfo);
    temporal__api__batch__v1__batch_operation_info__init(to);
    to->job_id = from->execution->workflow_id;
    to->state =
        (Temporal__Api__Enums__V1__BatchOperationState)tn_batch_state((int32_t)from->status);
    to->start_time = from->start_time;
    to->close_time = from->close_time;
    to->operation_type = (Temporal__Api__Enums__V1__BatchOperationType)type_in(arena, doc->memo);
    return to;
}

static void listed(tn_vis_op *op)
{
    visible *v = op->user;
    tn_fcall *f = v->f;
    tn_arena *arena = f->call->arena;
    const tn_vis_page *page = &op->u.list.page;
    if (op->status != TN_OK) {
        tn_front_fail(f, tn_fault_from_status(arena, op->status, &op->error));
        return;
    }
    Temporal__Api__Workflowservice__V1__ListBatchOperationsResponse *out =
        TN_NEW(arena, Temporal__Api__Workflowservice__V1__ListBatchOperationsResponse);
    temporal__api__workflowservice__v1__list_batch_operations_response__init(out);
    out->operation_info =
        TN_NEW_ARRAY(arena, Temporal__Api__Batch__V1__BatchOperationInfo *, page->n_docs + 1);
    for (size_t i = 0; i < page->n_docs; i++)
        out->operation_info[out->n_operation_info++] = info_of(arena, &page->docs[i]);
    tn_blob token = tn_vis_page_seal(arena, &op->u.list.query, page->next);
    out->next_page_token = (ProtobufCBinaryData){token.n, (uint8_t *)(uintptr_t)token.p};
    tn_front_reply(f, &out->base);
}

void tn_do_list_batches(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__ListBatchOperationsRequest *r =
        REQUEST(f, ListBatchOperationsRequest);
    tn_arena *arena = f->call->arena;
    int64_t max = tn_front_limit(f, TN_DYN_FRONTEND_VISIBILITY_PAGE);
    visible *v = TN_NEW(arena, visible);
    if (disabled(f))
        return;
    v->f = f;
    v->op.arena = arena;
    v->op.user = v;
    v->op.done = listed;
    tn_vis_query *query = &v->op.u.list.query;
    const tn_fault *fault =
        tn_vis_query_parse(arena, f->ns, TN_STR(DIVISION), TN_VIS_FOR_LIST, query);
    if (!fault)
        fault = tn_vis_page_open(
            arena, tn_blob_from(r->next_page_token.data, r->next_page_token.len), query);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    max = max > 0 && max <= UINT32_MAX ? max : 1;
    query->limit = (uint32_t)(r->page_size > 0 && r->page_size < max ? r->page_size : max);
    tn_vis_list(&v->op);
}
