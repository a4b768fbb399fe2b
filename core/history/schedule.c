/* SPDX-License-Identifier: MIT */
/* What schedules want of the world: runs started, cancelled and terminated (machine/schedule.h decides). */
#include "history/machine/schedule.h"
#include "history/object.h"
#include "proto/proto.h"
#include "visibility/visibility.h"

/* Only the run's chain that the action began is meant, whichever of its runs is there now. */
static Temporal__Api__Common__V1__WorkflowExecution *execution_of(const tn_schedule_action *action,
                                                                  tn_arena *arena)
{
    Temporal__Api__Common__V1__WorkflowExecution *out = tn_arena_alloc(arena, sizeof(*out));
    temporal__api__common__v1__workflow_execution__init(out);
    out->workflow_id = tn_arena_strdup(arena, action->workflow_id);
    return out;
}

static char *request_id_of(const tn_schedule_action *action, const char *what, tn_arena *arena)
{
    return tn_arena_printf(arena, "%s-%s", action->run_id ? action->run_id : "", what);
}

static void end(tn_run *run, const tn_schedule_action *action, tn_object_effect *effect,
                tn_str ns_name)
{
    tn_arena *arena = effect->arena;
    tn_str workflow_id = tn_str_from(action->workflow_id), ns_id = tn_str_from(run->wf->ns_id);
    char *first_run_id = tn_arena_strdup(arena, action->run_id ? action->run_id : "");
    if (effect->what == TN_SCHEDULE_CANCEL) {
        Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *r =
            tn_arena_alloc(arena, sizeof(*r));
        temporal__api__workflowservice__v1__request_cancel_workflow_execution_request__init(r);
        r->workflow_execution = execution_of(action, arena);
        r->first_execution_run_id = first_run_id;
        r->identity = tn_schedule_identity(run->ms, ns_name, arena);
        r->request_id = request_id_of(action, "cancel", arena);
        r->reason = (char *)(uintptr_t) "cancelled by schedule overlap policy";
        tn_object_effect_call(effect, TN_HOP_REQUEST_CANCEL, ns_id, workflow_id, TN_STR(""),
                              &r->base);
        return;
    }
    Temporal__Api__Workflowservice__V1__TerminateWorkflowExecutionRequest *r =
        tn_arena_alloc(arena, sizeof(*r));
    temporal__api__workflowservice__v1__terminate_workflow_execution_request__init(r);
    r->workflow_execution = execution_of(action, arena);
    r->first_execution_run_id = first_run_id;
    r->identity = tn_schedule_identity(run->ms, ns_name, arena);
    r->reason = (char *)(uintptr_t) "terminated by schedule overlap policy";
    tn_object_effect_call(effect, TN_HOP_TERMINATE, ns_id, workflow_id, TN_STR(""), &r->base);
}

/* What the frontend fills in for a client's start. */
static void settle(const tn_namespace *ns,
                   Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r,
                   tn_arena *arena)
{
    (void)tn_duration_settle(r->workflow_execution_timeout);
    (void)tn_duration_settle(r->workflow_run_timeout);
    (void)tn_duration_settle(r->workflow_task_timeout);
    (void)tn_retry_policy_settle(arena, r->retry_policy);
    tn_search_attrs_add_types(arena, ns, r->search_attributes);
}

static void start(tn_run *run, const tn_schedule_action *action, tn_object_effect *effect,
                  const tn_namespace *ns)
{
    tn_arena *arena = effect->arena;
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r =
        tn_schedule_start_request(run->ms, action, ns->name, arena);
    tn_parent_ref *owner = TN_NEW(arena, tn_parent_ref);
    if (!r) {
        tn_object_effect_end(effect,
                             tn_fault_make(arena, TN_GRPC_FAILED_PRECONDITION,
                                           "the schedule has no action any more"),
                             NULL);
        return;
    }
    settle(ns, r, arena);
    owner->workflow_id = tn_str_from(effect->workflow_id);
    owner->run_id = tn_arena_str(arena, tn_str_from(run->ms->run_id_text));
    owner->initiated_id = (int64_t)action->id;
    effect->req.u.start.parent = owner;
    tn_object_effect_call(effect, TN_HOP_START, tn_str_from(run->wf->ns_id),
                          tn_str_from(r->workflow_id), TN_STR(""), &r->base);
}

static void effect_wanted(tn_run *run, const tn_object_want *want)
{
    const tn_schedule_action *action = tn_schedule_action_by_id(tn_schedule_of(run->ms), want->id);
    tn_object_effect *effect = tn_object_effect_begin(run, want);
    const tn_namespace *ns = tn_namespace_by_id(tn_str_from(run->wf->ns_id));
    effect->slow_down = true;
    if (!ns || !action)
        tn_object_effect_end(
            effect, tn_fault_make(effect->arena, TN_GRPC_NOT_FOUND, "namespace not found"), NULL);
    else if (want->what == TN_SCHEDULE_START)
        start(run, action, effect, ns);
    else
        end(run, action, effect, ns->name);
    tn_namespace_unref(ns);
}

const tn_object_rim tn_schedule_rim = {.letter = 's', .effect = effect_wanted};
