/* SPDX-License-Identifier: MIT */
/* What workflows decide: a few random things to do, and in the end to close, once nothing is pending. */
#include <stdio.h>
#include <string.h>

#include "sim.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

typedef Temporal__Api__Command__V1__Command command;
#define KIND(name) TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_##name
#define SET(c, Kind, KIND_, member, value) \
    ((c)->command_type = TEMPORAL__API__ENUMS__V1__COMMAND_TYPE__COMMAND_TYPE_##KIND_, \
     (c)->attributes_case = TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_##Kind, \
     (c)->member = (value))

static int serial;

static bool answered(const sim_run *run, size_t at, int64_t until)
{
    for (size_t i = at + 1; i < run->n && (int64_t)i < until; i++) {
        int type = run->items[i].type;
        if (run->items[i].ref == (int64_t)at + 1 && type != KIND(ACTIVITY_TASK_STARTED) &&
            type != KIND(CHILD_WORKFLOW_EXECUTION_STARTED) && type != KIND(WORKFLOW_TASK_COMPLETED))
            return true;
    }
    return false;
}

/* The index of a pending item of that type, or SIZE_MAX. */
static size_t pending(const sim_run *run, int type, int64_t until)
{
    for (size_t i = 0; i < run->n && (int64_t)i < until; i++)
        if (run->items[i].type == type && !answered(run, i, until))
            return i;
    return SIZE_MAX;
}

static bool nothing_pending(const sim_run *run, int64_t until)
{
    static const int types[] = {KIND(ACTIVITY_TASK_SCHEDULED), KIND(TIMER_STARTED),
                                KIND(START_CHILD_WORKFLOW_EXECUTION_INITIATED),
                                KIND(SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED),
                                KIND(REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED)};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (pending(run, types[i], until) != SIZE_MAX)
            return false;
    return true;
}

static void schedule_activity(tn_arena *arena, command *c)
{
    Temporal__Api__Command__V1__ScheduleActivityTaskCommandAttributes *a =
        MAKE(arena, command__v1__schedule_activity_task_command_attributes);
    a->activity_id = tn_arena_printf(arena, "a%d", ++serial);
    a->activity_type = MAKE(arena, common__v1__activity_type);
    a->activity_type->name = tn_arena_strdup(arena, "act");
    a->task_queue = MAKE(arena, taskqueue__v1__task_queue);
    a->task_queue->name = tn_arena_strdup(arena, "qa");
    a->start_to_close_timeout = sim_ms(arena, 1000 + sim_below(10000));
    a->schedule_to_close_timeout = sim_ms(arena, 5000 + sim_below(60000));
    if (sim_below(3) == 0)
        a->heartbeat_timeout = sim_ms(arena, 500 + sim_below(3000));
    a->retry_policy = MAKE(arena, common__v1__retry_policy);
    a->retry_policy->maximum_attempts = (int)sim_below(3); /* 0: any number */
    a->retry_policy->initial_interval = sim_ms(arena, 100 + sim_below(2000));
    a->retry_policy->backoff_coefficient = 2;
    a->retry_policy->maximum_interval = sim_ms(arena, 10000);
    SET(c, SCHEDULE_ACTIVITY_TASK_COMMAND_ATTRIBUTES, SCHEDULE_ACTIVITY_TASK,
        schedule_activity_task_command_attributes, a);
}

static void start_timer(tn_arena *arena, command *c)
{
    Temporal__Api__Command__V1__StartTimerCommandAttributes *a =
        MAKE(arena, command__v1__start_timer_command_attributes);
    a->timer_id = tn_arena_printf(arena, "t%d", ++serial);
    a->start_to_fire_timeout = sim_ms(arena, 1 + sim_below(sim_below(4) ? 3000 : 40000));
    SET(c, START_TIMER_COMMAND_ATTRIBUTES, START_TIMER, start_timer_command_attributes, a);
}

static void start_child(tn_arena *arena, command *c)
{
    Temporal__Api__Command__V1__StartChildWorkflowExecutionCommandAttributes *a =
        MAKE(arena, command__v1__start_child_workflow_execution_command_attributes);
    a->workflow_id = tn_arena_printf(arena, "ch-%d", (int)sim_below(6));
    a->workflow_type = MAKE(arena, common__v1__workflow_type);
    a->workflow_type->name = tn_arena_strdup(arena, "child");
    a->task_queue = MAKE(arena, taskqueue__v1__task_queue);
    a->task_queue->name = tn_arena_strdup(arena, "q");
    a->parent_close_policy = 1 + sim_below(3);
    a->workflow_id_reuse_policy = 1 + sim_below(2);
    SET(c, START_CHILD_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES, START_CHILD_WORKFLOW_EXECUTION,
        start_child_workflow_execution_command_attributes, a);
}

static void reach_out(tn_arena *arena, command *c)
{
    char *wid = tn_arena_printf(arena, sim_below(2) ? "wf-%d" : "ch-%d", (int)sim_below(mix.ids));
    Temporal__Api__Common__V1__WorkflowExecution *e = MAKE(arena, common__v1__workflow_execution);
    e->workflow_id = wid;
    if (sim_below(4)) {
        Temporal__Api__Command__V1__SignalExternalWorkflowExecutionCommandAttributes *a =
            MAKE(arena, command__v1__signal_external_workflow_execution_command_attributes);
        a->execution = e;
        a->signal_name = tn_arena_strdup(arena, "from-afar");
        SET(c, SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES,
            SIGNAL_EXTERNAL_WORKFLOW_EXECUTION,
            signal_external_workflow_execution_command_attributes, a);
        return;
    }
    Temporal__Api__Command__V1__RequestCancelExternalWorkflowExecutionCommandAttributes *a =
        MAKE(arena, command__v1__request_cancel_external_workflow_execution_command_attributes);
    a->workflow_id = wid;
    SET(c, REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES,
        REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION,
        request_cancel_external_workflow_execution_command_attributes, a);
}

static bool undo(tn_arena *arena, command *c, const sim_run *run, int64_t until)
{
    size_t timer = pending(run, KIND(TIMER_STARTED), until),
           activity = pending(run, KIND(ACTIVITY_TASK_SCHEDULED), until);
    if (timer != SIZE_MAX) {
        Temporal__Api__Command__V1__CancelTimerCommandAttributes *a =
            MAKE(arena, command__v1__cancel_timer_command_attributes);
        a->timer_id = tn_arena_strdup(arena, run->items[timer].name);
        SET(c, CANCEL_TIMER_COMMAND_ATTRIBUTES, CANCEL_TIMER, cancel_timer_command_attributes, a);
        return true;
    }
    if (activity == SIZE_MAX)
        return false;
    Temporal__Api__Command__V1__RequestCancelActivityTaskCommandAttributes *a =
        MAKE(arena, command__v1__request_cancel_activity_task_command_attributes);
    a->scheduled_event_id = (int64_t)activity + 1;
    SET(c, REQUEST_CANCEL_ACTIVITY_TASK_COMMAND_ATTRIBUTES, REQUEST_CANCEL_ACTIVITY_TASK,
        request_cancel_activity_task_command_attributes, a);
    return true;
}

static void close_run(tn_arena *arena, command *c)
{
    uint64_t dice = sim_below(sim_draining ? 4 : 6);
    if (dice == 0) {
        Temporal__Api__Command__V1__FailWorkflowExecutionCommandAttributes *a =
            MAKE(arena, command__v1__fail_workflow_execution_command_attributes);
        a->failure = MAKE(arena, failure__v1__failure);
        SET(c, FAIL_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES, FAIL_WORKFLOW_EXECUTION,
            fail_workflow_execution_command_attributes, a);
    } else if (dice < 4) {
        SET(c, COMPLETE_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES, COMPLETE_WORKFLOW_EXECUTION,
            complete_workflow_execution_command_attributes,
            MAKE(arena, command__v1__complete_workflow_execution_command_attributes));
    } else {
        Temporal__Api__Command__V1__ContinueAsNewWorkflowExecutionCommandAttributes *a =
            MAKE(arena, command__v1__continue_as_new_workflow_execution_command_attributes);
        a->workflow_type = MAKE(arena, common__v1__workflow_type);
        a->workflow_type->name = tn_arena_strdup(arena, "next");
        a->task_queue = MAKE(arena, taskqueue__v1__task_queue);
        a->task_queue->name = tn_arena_strdup(arena, "q");
        SET(c, CONTINUE_AS_NEW_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES,
            CONTINUE_AS_NEW_WORKFLOW_EXECUTION,
            continue_as_new_workflow_execution_command_attributes, a);
    }
}

static bool something(tn_arena *arena, command *c, const sim_run *run, int64_t until, bool *undone)
{
    uint64_t dice = sim_below(10);
    if (dice < 3 && mix.activities)
        schedule_activity(arena, c);
    else if (dice < 6)
        start_timer(arena, c);
    else if (dice < 7 && mix.children && strncmp(run->wid, "ch-", 3) != 0)
        start_child(arena, c);
    else if (dice < 8 && mix.children)
        reach_out(arena, c);
    else if (!*undone && undo(arena, c, run, until))
        *undone = true; /* once a task: a second one would find it gone */
    else
        return false;
    return true;
}

void sim_build_commands(
    tn_arena *arena, sim_run *run, int64_t until,
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *out)
{
    bool undone = false, idle = nothing_pending(run, until);
    bool enough = sim_draining || ++run->decisions > 6;
    bool ends = enough ? idle : sim_below(8) == 0;
    size_t n = enough ? 0 : sim_below(4);
    out->commands = TN_NEW_ARRAY(arena, command *, n + 2);
    for (size_t i = 0; i < n; i++) {
        command *c = MAKE(arena, command__v1__command);
        if (something(arena, c, run, until, &undone))
            out->commands[out->n_commands++] = c;
    }
    if (!enough && !ends &&
        (undone || (!out->n_commands && idle))) { /* it must have something to wait for */
        command *c = MAKE(arena, command__v1__command);
        start_timer(arena, c);
        out->commands[out->n_commands++] = c;
    }
    if (ends) {
        command *c = MAKE(arena, command__v1__command);
        close_run(arena, c);
        out->commands[out->n_commands++] = c;
    }
}
