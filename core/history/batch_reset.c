/* SPDX-License-Identifier: MIT */
/* A batch job's reset of one run: which event its words mean is found by reading the run's history or its reset points,
 * as a client would; then the run is reset. */
#include "history/batch.h"

#include "proto/proto.h"

#define PAGE_EVENTS 1000

typedef Temporal__Api__Workflowservice__V1__StartBatchOperationRequest start_request;
typedef Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryRequest history_request;
typedef Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryReverseRequest
    reverse_request;

typedef struct locating {
    tn_object_effect *effect;
    const start_request *job;
    Temporal__Api__Common__V1__WorkflowExecution *execution;
    char *asked_run_id;   /* the target's, as the job names it */
    bool newest;          /* the last workflow task; else the first */
    int64_t scheduled_id; /* of the task that counts when none has completed */
    tn_hreq req;
} locating;

static const tn_fault *no_point(tn_arena *arena, const char *text, const char *build_id)
{
    return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, text, build_id);
}

static void reset_at(locating *loc, int64_t event_id)
{
    tn_arena *arena = loc->effect->arena;
    const Temporal__Api__Batch__V1__BatchOperationReset *op = loc->job->reset_operation;
    Temporal__Api__Workflowservice__V1__ResetWorkflowExecutionRequest *r =
        TN_NEW(arena, Temporal__Api__Workflowservice__V1__ResetWorkflowExecutionRequest);
    temporal__api__workflowservice__v1__reset_workflow_execution_request__init(r);
    r->workflow_execution = loc->execution;
    r->reason = loc->job->reason;
    r->workflow_task_finish_event_id = event_id;
    r->request_id = tn_batch_request_id(arena, loc->effect, "reset", loc->execution->workflow_id,
                                        loc->asked_run_id);
    r->reset_reapply_type = op->options ? op->options->reset_reapply_type : op->reset_reapply_type;
    if (op->options) {
        r->n_reset_reapply_exclude_types = op->options->n_reset_reapply_exclude_types;
        r->reset_reapply_exclude_types = op->options->reset_reapply_exclude_types;
    }
    r->n_post_reset_operations = op->n_post_reset_operations;
    r->post_reset_operations = op->post_reset_operations;
    r->identity = op->identity;
    tn_object_effect_call(loc->effect, TN_HOP_RESET, tn_str_from(loc->effect->ns_id),
                          tn_str_from(loc->execution->workflow_id),
                          tn_str_from(loc->execution->run_id), &r->base);
}

/* ---- by history ------------------------------------------------------------------------------- */

static void ask_page(locating *loc, ProtobufCBinaryData token);

/* True: found. */
static bool look_at(locating *loc, tn_blob event, int64_t *out_id)
{
    tn_wire_field id, type;
    if (!tn_wire_find(event, 1, &id) || !tn_wire_find(event, 3, &type))
        return false;
    if (type.value == 7) { /* WORKFLOW_TASK_COMPLETED */
        *out_id = (int64_t)id.value;
        return true;
    }
    if (type.value == 5 &&
        (loc->newest || !loc->scheduled_id)) /* read backwards, the first is met last */
        loc->scheduled_id = (int64_t)id.value;
    return false;
}

static bool search(locating *loc, tn_blob answer, int64_t *out_id)
{
    tn_wire_field history, event;
    if (!tn_wire_find(answer, 1, &history))
        return false;
    for (tn_wire_iter it = tn_wire_begin(history.bytes); tn_wire_next(&it, &event);)
        if (event.number == 1 && look_at(loc, event.bytes, out_id))
            return true;
    return false;
}

static ProtobufCBinaryData token_of(tn_arena *arena, tn_blob answer, uint32_t number)
{
    tn_wire_field field;
    if (!tn_wire_find(answer, number, &field))
        return (ProtobufCBinaryData){0, NULL};
    tn_blob token = tn_arena_blob(arena, field.bytes);
    return (ProtobufCBinaryData){token.n, (uint8_t *)(uintptr_t)token.p};
}

static void page_came(tn_hreq *req)
{
    locating *loc = TN_CONTAINER_OF(req, locating, req);
    tn_arena *arena = loc->effect->arena;
    tn_blob answer = {NULL, 0};
    int64_t event_id = 0;
    tn_namespace_unref(req->ns);
    req->ns = NULL;
    if (req->fault) {
        tn_object_effect_end(loc->effect, req->fault, NULL);
        return;
    }
    if (req->response && tn_proto_pack(req->response, arena, &answer) != TN_OK) {
        tn_object_effect_end(
            loc->effect, tn_fault_unavailable(arena, "failed to get workflow execution history"),
            NULL);
        return;
    }
    if (search(loc, answer, &event_id)) {
        reset_at(loc, event_id);
        return;
    }
    ProtobufCBinaryData token = token_of(arena, answer, 3);
    if (token.len)
        ask_page(loc, token);
    else if (loc->scheduled_id)
        reset_at(loc, loc->scheduled_id + 1);
    else
        tn_object_effect_end(
            loc->effect, no_point(arena, "unable to find any scheduled or completed task%s", ""),
            NULL);
}

static bool ask(locating *loc, tn_hop op, const ProtobufCMessage *request,
                void (*done)(tn_hreq *req))
{
    tn_arena *arena = loc->effect->arena;
    tn_hreq *req = &loc->req;
    *req = (tn_hreq){
        .arena = arena, .home = tn_loop_current(), .op = op, .deadline_mono_ns = UINT64_MAX};
    req->ns = tn_namespace_by_id(tn_str_from(loc->effect->ns_id));
    if (!req->ns) {
        tn_object_effect_end(loc->effect,
                             tn_namespace_not_found(arena, tn_str_from(loc->effect->ns_id)), NULL);
        return false;
    }
    req->workflow_id = tn_str_from(loc->execution->workflow_id);
    req->run_id = tn_str_from(loc->execution->run_id);
    req->request = request;
    req->done = done;
    tn_client_history(req);
    return true;
}

static void ask_page(locating *loc, ProtobufCBinaryData token)
{
    tn_arena *arena = loc->effect->arena;
    if (loc->newest) {
        reverse_request *r = TN_NEW(arena, reverse_request);
        temporal__api__workflowservice__v1__get_workflow_execution_history_reverse_request__init(r);
        r->execution = loc->execution;
        r->maximum_page_size = PAGE_EVENTS;
        r->next_page_token = token;
        ask(loc, TN_HOP_GET_HISTORY_REVERSE, &r->base, page_came);
    } else {
        history_request *r = TN_NEW(arena, history_request);
        temporal__api__workflowservice__v1__get_workflow_execution_history_request__init(r);
        r->execution = loc->execution;
        r->maximum_page_size = PAGE_EVENTS;
        r->next_page_token = token;
        ask(loc, TN_HOP_GET_HISTORY, &r->base, page_came);
    }
}

/* ---- by build id ------------------------------------------------------------------------------ */

static const tn_fault *choose_point(locating *loc,
                                    const Temporal__Api__Workflow__V1__ResetPoints *points,
                                    int64_t *out_id)
{
    const Temporal__Api__Common__V1__ResetOptions *options = loc->job->reset_operation->options;
    tn_arena *arena = loc->effect->arena;
    const char *build_id = options->build_id;
    for (size_t i = 0; points && i < points->n_points; i++) {
        const Temporal__Api__Workflow__V1__ResetPointInfo *p = points->points[i];
        int64_t expire_ns = 0;
        if (strcmp(p->build_id, build_id) != 0)
            continue;
        if (!p->resettable)
            return no_point(arena, "Reset point for %s is not resettable", build_id);
        if (p->expire_time && tn_ns_from_ts(p->expire_time, &expire_ns) && expire_ns > 0 &&
            (uint64_t)expire_ns < tn_now_wall_ns())
            return no_point(arena, "Reset point for %s is expired", build_id);
        if (options->current_run_only && strcmp(p->run_id, loc->execution->run_id) != 0)
            return no_point(arena,
                            "Reset point for %s points to previous run and CurrentRunOnly is set",
                            build_id);
        loc->execution->run_id = tn_arena_strdup(arena, p->run_id);
        *out_id = p->first_workflow_task_completed_id;
        return NULL;
    }
    return no_point(arena, "Can't find reset point for %s", build_id);
}

static void described(tn_hreq *req)
{
    locating *loc = TN_CONTAINER_OF(req, locating, req);
    int64_t event_id = 0;
    tn_namespace_unref(req->ns);
    req->ns = NULL;
    const tn_fault *fault = req->fault;
    if (!fault) {
        const Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *answer =
            (const Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *)
                req->response;
        fault = choose_point(loc,
                             answer->workflow_execution_info
                                 ? answer->workflow_execution_info->auto_reset_points
                                 : NULL,
                             &event_id);
    }
    if (fault)
        tn_object_effect_end(loc->effect, fault, NULL);
    else
        reset_at(loc, event_id);
}

static void ask_points(locating *loc)
{
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionRequest *r = TN_NEW(
        loc->effect->arena, Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionRequest);
    temporal__api__workflowservice__v1__describe_workflow_execution_request__init(r);
    r->execution = loc->execution;
    ask(loc, TN_HOP_DESCRIBE, &r->base, described);
}

void tn_batch_reset(tn_object_effect *effect, const start_request *job,
                    Temporal__Api__Common__V1__WorkflowExecution *execution)
{
    const Temporal__Api__Batch__V1__BatchOperationReset *op = job->reset_operation;
    ProtobufCBinaryData none = {0, NULL};
    locating *loc = TN_NEW(effect->arena, locating);
    loc->effect = effect;
    loc->job = job;
    loc->execution = execution;
    loc->asked_run_id = execution->run_id;
    if (!op->options) {
        loc->newest = (int)op->reset_type == 2; /* RESET_TYPE_LAST_WORKFLOW_TASK */
        ask_page(loc, none);
        return;
    }
    switch ((int)op->options->target_case) {
    case TEMPORAL__API__COMMON__V1__RESET_OPTIONS__TARGET_FIRST_WORKFLOW_TASK:
    case TEMPORAL__API__COMMON__V1__RESET_OPTIONS__TARGET_LAST_WORKFLOW_TASK:
        loc->newest = op->options->target_case ==
                      TEMPORAL__API__COMMON__V1__RESET_OPTIONS__TARGET_LAST_WORKFLOW_TASK;
        ask_page(loc, none);
        break;
    case TEMPORAL__API__COMMON__V1__RESET_OPTIONS__TARGET_WORKFLOW_TASK_ID:
        reset_at(loc, op->options->workflow_task_id);
        break;
    case TEMPORAL__API__COMMON__V1__RESET_OPTIONS__TARGET_BUILD_ID:
        ask_points(loc);
        break;
    default:
        tn_object_effect_end(
            effect, no_point(effect->arena, "provided reset target is not supported.%s", ""), NULL);
        break;
    }
}
