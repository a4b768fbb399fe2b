/* SPDX-License-Identifier: MIT */
/* Calls of operators about activities and runs: pause, go on, begin again, other options. */
#include "frontend/priv.h"
#include "history/machine/machine.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)

typedef Temporal__Api__Common__V1__WorkflowExecution execution_msg;

static void for_execution(tn_fcall *f, const execution_msg *execution,
                          const ProtobufCMessage *request)
{
    uint8_t id[16];
    if (*execution->run_id && !tn_uuid_parse(tn_str_from(execution->run_id), id))
        tn_front_invalid(f, "Invalid RunId.");
    else if (strlen(execution->workflow_id) > tn_front_id_max())
        tn_front_invalid(f, "WorkflowId length exceeds limit.");
    else
        tn_front_history(f, TN_HOP_OPERATE, execution->workflow_id, execution->run_id, request);
}

/* NULL: go on. */
static const char *wrong(const execution_msg *execution, bool has_target)
{
    if (!execution || !*execution->workflow_id)
        return "WorkflowId is not set on request.";
    return has_target ? NULL : "Either Activity.Id or Activity.Type should be set on request.";
}

const char *tn_front_wrong_priority(const Temporal__Api__Common__V1__Priority *priority)
{
    if (!priority)
        return NULL;
    if (priority->priority_key < 0)
        return "priority key can't be negative";
    if (strlen(priority->fairness_key) > 64)
        return "fairness key length exceeds limit";
    return priority->fairness_weight < 0 ? "must be greater than zero" : NULL;
}

static void activity_call(tn_fcall *f, const execution_msg *execution, bool has_target)
{
    const char *text = wrong(execution, has_target);
    if (text)
        tn_front_invalid(f, "%s", text);
    else
        for_execution(f, execution, f->call->request);
}

void tn_do_pause_activity(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__PauseActivityRequest *r =
        REQUEST(f, PauseActivityRequest);
    activity_call(f, r->execution, r->activity_case != 0);
}

void tn_do_unpause_activity(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__UnpauseActivityRequest *r =
        REQUEST(f, UnpauseActivityRequest);
    activity_call(f, r->execution, r->activity_case != 0);
}

void tn_do_reset_activity(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__ResetActivityRequest *r =
        REQUEST(f, ResetActivityRequest);
    activity_call(f, r->execution, r->activity_case != 0);
}

void tn_do_update_activity_options(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__UpdateActivityOptionsRequest *r =
        REQUEST(f, UpdateActivityOptionsRequest);
    const char *text = wrong(r->execution, r->activity_case != 0);
    if (!text && r->activity_options)
        text = tn_front_wrong_priority(r->activity_options->priority);
    if (text)
        tn_front_invalid(f, "%s", text);
    else
        for_execution(f, r->execution, &r->base);
}

/* ---- runs ---- */

static void run_call(tn_fcall *f, const char *workflow_id, const char *run_id)
{
    execution_msg execution = TEMPORAL__API__COMMON__V1__WORKFLOW_EXECUTION__INIT;
    execution.workflow_id = (char *)(uintptr_t)workflow_id;
    execution.run_id = (char *)(uintptr_t)run_id;
    const char *text = wrong(&execution, true);
    if (text)
        tn_front_invalid(f, "%s", text);
    else
        for_execution(f, &execution, f->call->request);
}

void tn_do_pause_workflow(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__PauseWorkflowExecutionRequest *r =
        REQUEST(f, PauseWorkflowExecutionRequest);
    if (!tn_dyn_bool(TN_DYN_FRONTEND_WORKFLOW_PAUSE, f->ns->name, TN_STR("")))
        tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_UNIMPLEMENTED,
                                       "workflow pause is not enabled for namespace: %s",
                                       r->namespace_));
    else
        run_call(f, r->workflow_id, r->run_id);
}

void tn_do_unpause_workflow(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__UnpauseWorkflowExecutionRequest *r =
        REQUEST(f, UnpauseWorkflowExecutionRequest);
    run_call(f, r->workflow_id, r->run_id);
}

/* The options that a client may name: paths as the API spells them. */
static const char *wrong_path(const Google__Protobuf__FieldMask *mask)
{
    static const char *const known[] = {
        "versioning_override",      "priority",
        "priority.priority_key",    "priority.fairness_key",
        "priority.fairness_weight", "time_skipping_config",
    };
    for (size_t i = 0; i < mask->n_paths; i++) {
        bool found = false;
        for (size_t k = 0; k < TN_COUNT_OF(known); k++)
            found = found || strcmp(mask->paths[i], known[k]) == 0;
        if (!found && strncmp(mask->paths[i], "versioning_override.", 20) != 0 &&
            strncmp(mask->paths[i], "time_skipping_config.", 21) != 0)
            return mask->paths[i];
    }
    return NULL;
}

void tn_do_update_workflow_options(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionOptionsRequest *r =
        REQUEST(f, UpdateWorkflowExecutionOptionsRequest);
    const Temporal__Api__Workflow__V1__WorkflowExecutionOptions *options =
        r->workflow_execution_options;
    const char *text = wrong(r->workflow_execution, true), *path;
    if (text)
        tn_front_invalid(f, "%s", text);
    else if (!r->update_mask)
        tn_front_invalid(f, "UpdateMask is required");
    else if (!options)
        tn_front_invalid(f, "WorkflowExecutionOptions is required");
    else if ((path = wrong_path(r->update_mask)))
        tn_front_invalid(f,
                         "error parsing UpdateMask: proto: invalid path \"%s\" for message "
                         "\"temporal.api.workflow.v1.WorkflowExecutionOptions\"",
                         path);
    else if ((text = tn_front_wrong_priority(options->priority)))
        tn_front_invalid(f, "%s", text);
    else if (options->time_skipping_config || tn_mask_has(r->update_mask, "time_skipping_config"))
        tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_UNIMPLEMENTED,
                                       "The Time-Skipping feature is not enabled for namespace."));
    else
        for_execution(f, r->workflow_execution, &r->base);
}
