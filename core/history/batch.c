/* SPDX-License-Identifier: MIT */
/* What batch jobs want of the world: counts and pages of the runs that a query finds, and the operation on each of them, which
 * is the call that a client would make for one run. */
#include "history/batch.h"

#include "admin/service.pb-c.h"
#include "config/dynconfig.h"
#include "history/machine/solo.h"
#include "proto/proto.h"
#include "visibility/visibility.h"

#define PAGE_TARGETS 200u

typedef Temporal__Api__Workflowservice__V1__StartBatchOperationRequest start_request;

/* ---- the runs ---------------------------------------------------------------------------------- */

typedef struct lookup {
    tn_object_effect *effect;
    const tn_namespace *ns; /* +1 */
    tn_vis_op op;
    Tenon__BatchPage page;
} lookup;

static void set_pace(lookup *l, const start_request *request)
{
    int64_t rps = tn_dyn_i64(TN_DYN_WORKER_BATCHER_RPS, l->ns->name, TN_STR(""));
    int64_t hands = tn_dyn_i64(TN_DYN_WORKER_BATCHER_CONCURRENCY, l->ns->name, TN_STR(""));
    double asked = (double)request->max_operations_per_second;
    l->page.rate = rps > 0 ? (double)rps : 1;
    if (asked > 0 && asked < l->page.rate)
        l->page.rate = asked;
    l->page.concurrency = hands > 0 && hands < 1000 ? (uint32_t)hands : hands > 0 ? 1000 : 1;
}

static void lookup_end(lookup *l, const tn_fault *fault)
{
    tn_namespace_unref(l->ns);
    tn_object_effect_end(l->effect, fault, fault ? NULL : &l->page.base);
}

const tn_vis_division tn_solo_division = {
    .value = TN_SOLO_DIVISION, .id_name = "ActivityId", .type_name = "ActivityType"};

/* Operations on what runs find nothing to do in a closed run. */
static bool wants_running(const start_request *request)
{
    return request->operation_case !=
               TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION__NOT_SET &&
           request->operation_case !=
               TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION_DELETION_OPERATION &&
           request->operation_case !=
               TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION_RESET_OPERATION &&
           request->operation_case !=
               TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION_DELETE_ACTIVITIES_OPERATION;
}

static char *quoted(tn_arena *arena, const char *s)
{
    tn_buf out = {0};
    for (; *s; s++) {
        if (*s == '\'' || *s == '\\')
            tn_buf_put_u8(&out, '\\');
        tn_buf_put_u8(&out, (uint8_t)*s);
    }
    tn_buf_put_u8(&out, 0);
    char *text = tn_arena_strdup(arena, (const char *)out.p);
    tn_buf_done(&out);
    return text;
}

static const char *query_of(tn_arena *arena, const start_request *request)
{
    const Temporal__Api__Batch__V1__BatchOperationUnpauseActivities *unpause =
        request->operation_case ==
                TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION_UNPAUSE_ACTIVITIES_OPERATION
            ? request->unpause_activities_operation
            : NULL;
    const char *query = request->visibility_query;
    if (unpause && unpause->activity_case ==
                       TEMPORAL__API__BATCH__V1__BATCH_OPERATION_UNPAUSE_ACTIVITIES__ACTIVITY_TYPE)
        query = tn_arena_printf(arena, "TemporalPauseInfo = 'property:activityType=%s'",
                                quoted(arena, unpause->type));
    if (!wants_running(request))
        return query;
    return tn_arena_printf(
        arena, "(%s) AND (ExecutionStatus='Running' OR ExecutionStatus='Paused')", query);
}

static void counted(tn_vis_op *op)
{
    lookup *l = op->user;
    l->page.count = (int64_t)op->u.list.page.count;
    lookup_end(l, op->status == TN_OK
                      ? NULL
                      : tn_fault_from_status(l->effect->arena, op->status, &op->error));
}

static Tenon__BatchTarget *target_new(tn_arena *arena, tn_str workflow_id, tn_str run_id)
{
    Tenon__BatchTarget *target = TN_NEW(arena, Tenon__BatchTarget);
    tenon__batch_target__init(target);
    target->workflow_id = (char *)(uintptr_t)tn_arena_str(arena, workflow_id).p;
    target->run_id = (char *)(uintptr_t)tn_arena_str(arena, run_id).p;
    return target;
}

static void targets_begin(lookup *l, size_t n)
{
    l->page.targets = TN_NEW_ARRAY(l->effect->arena, Tenon__BatchTarget *, n + 1);
}

static void listed(tn_vis_op *op)
{
    lookup *l = op->user;
    const tn_vis_page *page = &op->u.list.page;
    if (op->status != TN_OK) {
        lookup_end(l, tn_fault_from_status(l->effect->arena, op->status, &op->error));
        return;
    }
    targets_begin(l, page->n_docs);
    for (size_t i = 0; i < page->n_docs; i++)
        l->page.targets[l->page.n_targets++] =
            target_new(l->effect->arena, page->docs[i].workflow_id, page->docs[i].run_id);
    l->page.next_page = (ProtobufCBinaryData){page->next.n, (uint8_t *)(uintptr_t)page->next.p};
    lookup_end(l, NULL);
}

static void ask_visibility(lookup *l, const tn_batch_job *batch, const start_request *request,
                           bool count)
{
    tn_arena *arena = l->effect->arena;
    const char *text = query_of(arena, request);
    tn_vis_query *query = &l->op.u.list.query;
    const tn_fault *fault = tn_vis_query_parse_in(
        arena, l->ns, tn_str_from(text), count ? TN_VIS_FOR_COUNT : TN_VIS_FOR_LIST,
        tn_batch_of_activities(request) ? &tn_solo_division : NULL, query);
    if (fault) {
        lookup_end(l, fault);
        return;
    }
    l->op.arena = arena;
    l->op.user = l;
    l->op.done = count ? counted : listed;
    if (count) {
        tn_vis_count(&l->op);
        return;
    }
    query->limit = PAGE_TARGETS;
    query->page = tn_arena_blob(arena, batch->next_page);
    tn_vis_list(&l->op);
}

/* The runs that the request names are one page. */
static void take_list(lookup *l, const start_request *request, bool count)
{
    l->page.count = (int64_t)(request->n_executions + request->n_target_executions);
    if (!count) {
        targets_begin(l, request->n_executions + request->n_target_executions);
        for (size_t i = 0; i < request->n_executions; i++)
            l->page.targets[l->page.n_targets++] =
                target_new(l->effect->arena, tn_str_from(request->executions[i]->workflow_id),
                           tn_str_from(request->executions[i]->run_id));
        for (size_t i = 0; i < request->n_target_executions; i++)
            l->page.targets[l->page.n_targets++] = target_new(
                l->effect->arena, tn_str_from(request->target_executions[i]->business_id),
                tn_str_from(request->target_executions[i]->run_id));
    }
    lookup_end(l, NULL);
}

static void look_up(tn_object_effect *effect, const tn_batch_job *batch, bool count)
{
    const start_request *request = tn_batch_request(batch, effect->arena);
    lookup *l = TN_NEW(effect->arena, lookup);
    l->effect = effect;
    tenon__batch_page__init(&l->page);
    l->ns = tn_namespace_by_id(tn_str_from(effect->ns_id));
    if (!l->ns) {
        tn_object_effect_end(
            effect, tn_namespace_not_found(effect->arena, tn_str_from(effect->ns_id)), NULL);
        return;
    }
    set_pace(l, request);
    if (*request->visibility_query)
        ask_visibility(l, batch, request, count);
    else
        take_list(l, request, count);
}

/* ---- the operation ------------------------------------------------------------------------------ */

char *tn_batch_request_id(tn_arena *arena, const tn_object_effect *effect, const char *what,
                          const char *workflow_id, const char *run_id)
{
    static const uint8_t key[16] = "batch operation";
    uint8_t id[16];
    char *text = tn_arena_alloc(arena, 37);
    const char *parts[] = {effect->ns_id, effect->workflow_id, what, workflow_id, run_id};
    tn_buf buf = {0};
    tn_buf_put(&buf, effect->run_id, sizeof(effect->run_id));
    for (size_t i = 0; i < TN_COUNT_OF(parts); i++)
        tn_buf_put(&buf, parts[i], strlen(parts[i]) + 1);
    tn_mac128(key, tn_buf_blob(&buf), id);
    tn_buf_done(&buf);
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x80); /* version 8: of one's own */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    tn_uuid_format(id, text);
    return text;
}

Temporal__Api__Common__V1__WorkflowExecution *tn_batch_execution(tn_arena *arena,
                                                                 const char *workflow_id,
                                                                 const char *run_id)
{
    Temporal__Api__Common__V1__WorkflowExecution *execution =
        TN_NEW(arena, Temporal__Api__Common__V1__WorkflowExecution);
    temporal__api__common__v1__workflow_execution__init(execution);
    execution->workflow_id = tn_arena_strdup(arena, workflow_id);
    execution->run_id = tn_arena_strdup(arena, run_id);
    return execution;
}

#define NEW(arena, var, Type, c_name) \
    Temporal__Api__Workflowservice__V1__##Type *var = \
        TN_NEW(arena, Temporal__Api__Workflowservice__V1__##Type); \
    temporal__api__workflowservice__v1__##c_name##__init(var)

typedef struct action {
    tn_arena *arena;
    const tn_object_effect *effect;
    const start_request *job;
    const tn_batch_target *target;
    Temporal__Api__Common__V1__WorkflowExecution *execution;
    tn_hop op;
} action;

static const ProtobufCMessage *terminate_request(action *a)
{
    NEW(a->arena, r, TerminateWorkflowExecutionRequest, terminate_workflow_execution_request);
    r->workflow_execution = a->execution;
    r->reason = a->job->reason;
    r->details = a->job->termination_operation->details;
    r->identity = a->job->termination_operation->identity;
    a->op = TN_HOP_TERMINATE;
    return &r->base;
}

static const ProtobufCMessage *cancel_request(action *a)
{
    NEW(a->arena, r, RequestCancelWorkflowExecutionRequest,
        request_cancel_workflow_execution_request);
    r->workflow_execution = a->execution;
    r->reason = a->job->reason;
    r->identity = a->job->cancellation_operation->identity;
    r->request_id = tn_batch_request_id(a->arena, a->effect, "cancel", a->target->workflow_id,
                                        a->target->run_id);
    a->op = TN_HOP_REQUEST_CANCEL;
    return &r->base;
}

static const ProtobufCMessage *signal_request(action *a)
{
    const Temporal__Api__Batch__V1__BatchOperationSignal *op = a->job->signal_operation;
    NEW(a->arena, r, SignalWorkflowExecutionRequest, signal_workflow_execution_request);
    r->workflow_execution = a->execution;
    r->signal_name = op->signal;
    r->input = op->input;
    r->header = op->header;
    r->identity = op->identity;
    r->request_id = tn_batch_request_id(a->arena, a->effect, "signal", a->target->workflow_id,
                                        a->target->run_id);
    a->op = TN_HOP_SIGNAL;
    return &r->base;
}

static const ProtobufCMessage *delete_request(action *a)
{
    NEW(a->arena, r, DeleteWorkflowExecutionRequest, delete_workflow_execution_request);
    r->workflow_execution = a->execution;
    a->op = TN_HOP_DELETE;
    return &r->base;
}

static const ProtobufCMessage *options_request(action *a)
{
    const Temporal__Api__Batch__V1__BatchOperationUpdateWorkflowExecutionOptions *op =
        a->job->update_workflow_options_operation;
    NEW(a->arena, r, UpdateWorkflowExecutionOptionsRequest,
        update_workflow_execution_options_request);
    r->workflow_execution = a->execution;
    r->workflow_execution_options = op->workflow_execution_options;
    r->update_mask = op->update_mask;
    r->identity = op->identity;
    a->op = TN_HOP_OPERATE;
    return &r->base;
}

static const ProtobufCMessage *unpause_request(action *a)
{
    const Temporal__Api__Batch__V1__BatchOperationUnpauseActivities *op =
        a->job->unpause_activities_operation;
    NEW(a->arena, r, UnpauseActivityRequest, unpause_activity_request);
    r->execution = a->execution;
    r->identity = op->identity;
    r->reset_attempts = op->reset_attempts;
    r->reset_heartbeat = op->reset_heartbeat;
    r->jitter = op->jitter;
    if (op->activity_case ==
        TEMPORAL__API__BATCH__V1__BATCH_OPERATION_UNPAUSE_ACTIVITIES__ACTIVITY_TYPE) {
        r->activity_case =
            TEMPORAL__API__WORKFLOWSERVICE__V1__UNPAUSE_ACTIVITY_REQUEST__ACTIVITY_TYPE;
        r->type = op->type;
    } else {
        r->activity_case =
            TEMPORAL__API__WORKFLOWSERVICE__V1__UNPAUSE_ACTIVITY_REQUEST__ACTIVITY_UNPAUSE_ALL;
        r->unpause_all = true;
    }
    a->op = TN_HOP_OPERATE;
    return &r->base;
}

static const ProtobufCMessage *reset_activity_request(action *a)
{
    const Temporal__Api__Batch__V1__BatchOperationResetActivities *op =
        a->job->reset_activities_operation;
    NEW(a->arena, r, ResetActivityRequest, reset_activity_request);
    r->execution = a->execution;
    r->identity = op->identity;
    r->reset_heartbeat = op->reset_heartbeat;
    r->jitter = op->jitter;
    r->keep_paused = op->keep_paused;
    r->restore_original_options = op->restore_original_options;
    if (op->activity_case ==
        TEMPORAL__API__BATCH__V1__BATCH_OPERATION_RESET_ACTIVITIES__ACTIVITY_TYPE) {
        r->activity_case =
            TEMPORAL__API__WORKFLOWSERVICE__V1__RESET_ACTIVITY_REQUEST__ACTIVITY_TYPE;
        r->type = op->type;
    } else {
        r->activity_case =
            TEMPORAL__API__WORKFLOWSERVICE__V1__RESET_ACTIVITY_REQUEST__ACTIVITY_MATCH_ALL;
        r->match_all = true;
    }
    a->op = TN_HOP_OPERATE;
    return &r->base;
}

static const ProtobufCMessage *activity_options_request(action *a)
{
    const Temporal__Api__Batch__V1__BatchOperationUpdateActivityOptions *op =
        a->job->update_activity_options_operation;
    NEW(a->arena, r, UpdateActivityOptionsRequest, update_activity_options_request);
    r->execution = a->execution;
    r->identity = op->identity;
    r->activity_options = op->activity_options;
    r->update_mask = op->update_mask;
    r->restore_original = op->restore_original;
    if (op->activity_case ==
        TEMPORAL__API__BATCH__V1__BATCH_OPERATION_UPDATE_ACTIVITY_OPTIONS__ACTIVITY_TYPE) {
        r->activity_case =
            TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_OPTIONS_REQUEST__ACTIVITY_TYPE;
        r->type = op->type;
    } else {
        r->activity_case =
            TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_OPTIONS_REQUEST__ACTIVITY_MATCH_ALL;
        r->match_all = true;
    }
    a->op = TN_HOP_OPERATE;
    return &r->base;
}

static const ProtobufCMessage *terminate_activity_request(action *a)
{
    NEW(a->arena, r, TerminateActivityExecutionRequest, terminate_activity_execution_request);
    r->activity_id = a->execution->workflow_id;
    r->run_id = a->execution->run_id;
    r->identity = a->job->terminate_activities_operation->identity;
    r->reason = a->job->terminate_activities_operation->reason;
    r->request_id = tn_batch_request_id(a->arena, a->effect, "terminate activity",
                                        a->target->workflow_id, a->target->run_id);
    a->op = TN_HOP_OBJECT;
    return &r->base;
}

static const ProtobufCMessage *cancel_activity_request(action *a)
{
    NEW(a->arena, r, RequestCancelActivityExecutionRequest,
        request_cancel_activity_execution_request);
    r->activity_id = a->execution->workflow_id;
    r->run_id = a->execution->run_id;
    r->identity = a->job->cancel_activities_operation->identity;
    r->reason = a->job->cancel_activities_operation->reason;
    r->request_id = tn_batch_request_id(a->arena, a->effect, "cancel activity",
                                        a->target->workflow_id, a->target->run_id);
    a->op = TN_HOP_OBJECT;
    return &r->base;
}

static const ProtobufCMessage *delete_activity_request(action *a)
{
    NEW(a->arena, r, DeleteActivityExecutionRequest, delete_activity_execution_request);
    r->activity_id = a->execution->workflow_id;
    r->run_id = a->execution->run_id;
    a->op = TN_HOP_DELETE;
    return &r->base;
}

static const ProtobufCMessage *refresh_request(action *a)
{
    Temporal__Server__Api__Adminservice__V1__RefreshWorkflowTasksRequest *r =
        TN_NEW(a->arena, Temporal__Server__Api__Adminservice__V1__RefreshWorkflowTasksRequest);
    temporal__server__api__adminservice__v1__refresh_workflow_tasks_request__init(r);
    r->execution = a->execution;
    a->op = TN_HOP_REFRESH;
    return &r->base;
}

#define OP(UPPER) \
    TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION_##UPPER##_OPERATION

static const ProtobufCMessage *request_of(action *a)
{
    switch ((int)a->job->operation_case) {
    case TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION__NOT_SET:
        return refresh_request(a);
    case OP(TERMINATION):
        return terminate_request(a);
    case OP(CANCELLATION):
        return cancel_request(a);
    case OP(SIGNAL):
        return signal_request(a);
    case OP(DELETION):
        return delete_request(a);
    case OP(UPDATE_WORKFLOW_OPTIONS):
        return options_request(a);
    case OP(UNPAUSE_ACTIVITIES):
        return unpause_request(a);
    case OP(RESET_ACTIVITIES):
        return reset_activity_request(a);
    case OP(UPDATE_ACTIVITY_OPTIONS):
        return activity_options_request(a);
    case OP(TERMINATE_ACTIVITIES):
        return terminate_activity_request(a);
    case OP(CANCEL_ACTIVITIES):
        return cancel_activity_request(a);
    case OP(DELETE_ACTIVITIES):
        return delete_activity_request(a);
    default:
        return NULL;
    }
}

static void act(tn_object_effect *effect, const tn_batch_job *batch, const tn_batch_target *target)
{
    tn_arena *arena = effect->arena;
    action a = {.arena = arena,
                .effect = effect,
                .job = tn_batch_request(batch, arena),
                .target = target,
                .execution = tn_batch_execution(arena, target->workflow_id, target->run_id)};
    effect->slow_down = true;
    if (a.job->operation_case == OP(RESET)) {
        tn_batch_reset(effect, a.job, a.execution);
        return;
    }
    const ProtobufCMessage *request = request_of(&a);
    if (!request) {
        tn_object_effect_end(
            effect, tn_fault_make(arena, TN_GRPC_UNIMPLEMENTED, "unknown batch type"), NULL);
        return;
    }
    tn_str id = tn_str_from(a.execution->workflow_id);
    if (tn_batch_of_activities(a.job))
        id = tn_object_workflow_id(arena, &tn_solo_kind, id);
    tn_object_effect_call(effect, a.op, tn_str_from(effect->ns_id), id,
                          tn_str_from(a.execution->run_id), request);
}

static void effect(tn_run *run, const tn_object_want *want)
{
    tn_object_effect *effect = tn_object_effect_begin(run, want);
    const tn_batch_job *batch = run->ms->object;
    const tn_batch_target *target =
        want->what == TN_BATCH_TARGET ? tn_batch_target_of(batch, want->id) : NULL;
    effect->slow_down = true;
    if (target)
        act(effect, batch, target);
    else
        look_up(effect, batch, want->what == TN_BATCH_COUNT);
}

const tn_object_rim tn_batch_rim = {.letter = TN_BATCH_LETTER, .effect = effect};
