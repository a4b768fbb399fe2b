/* SPDX-License-Identifier: MIT */
/* Commands that are wrong: each fails its workflow task with the protocol's cause and text, and
 * leaves no trace of the right ones before it.  And what the right ones leave to default.
 * (One file, though long: every section leans on the helpers at its top.) */
#include "machine_kit.h"

#include "history/machine/command.h"

typedef Temporal__Api__Command__V1__ScheduleActivityTaskCommandAttributes activity_attrs;
typedef Temporal__Api__Command__V1__StartChildWorkflowExecutionCommandAttributes child_attrs;
typedef Temporal__Api__Command__V1__ContinueAsNewWorkflowExecutionCommandAttributes new_attrs;

#define LONG_ID_BYTES 1001

static char *long_text(kit *k, size_t n)
{
    char *text = tn_arena_zalloc(k->arena, n + 1);

    memset(text, 'x', n);
    return text;
}

static kit_command *bare(kit *k, int type)
{
    kit_command *c = TN_MSG(k->arena, temporal__api__command__v1__command);

    c->command_type = (Temporal__Api__Enums__V1__CommandType)type;
    return c;
}

/* A run with a started workflow task. */
static void begin(kit *k)
{
    kit_open(k, 1);
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
}

static void expect_failed(kit *k, const char *want, bool terminated)
{
    char cause[100];
    tn_event *failed = kit_event(k, 4);

    if (!k->fault || !tn_str_is(k->fault->message, want))
        fail_msg("want: %s\n    got: " TN_STR_FMT, want,
                 TN_STR_ARG(k->fault ? k->fault->message : TN_STR("success")));
    assert_int_equal(k->fault->code, TN_GRPC_INVALID_ARGUMENT);
    if (k->trouble)
        fail_msg("%s: %s", want, k->trouble);
    assert_string_equal(kit_history(k), terminated
                                            ? "Started WtScheduled WtStarted WtFailed Terminated"
                                            : "Started WtScheduled WtStarted WtFailed");
    snprintf(
        cause, sizeof(cause), "%s",
        tn_cause_name(k->arena, (int32_t)failed->workflow_task_failed_event_attributes->cause));
    assert_int_equal(strncmp(want, cause, strlen(cause)), 0);
    assert_string_equal(failed->workflow_task_failed_event_attributes->failure->message, want);
    if (terminated)
        assert_string_equal(kit_event(k, 5)->workflow_execution_terminated_event_attributes->reason,
                            want);
}

/* A marker goes before the bad one: it must not be seen. */
#define EXPECT_BAD(command_expr, want) \
    do { \
        begin(k); \
        kit_command *bad_ = (command_expr); \
        assert_false(KIT_COMPLETE(k, kit_cmd_marker(k), bad_)); \
        expect_failed(k, (want), false); \
        kit_close(k); \
    } while (0)
#define EXPECT_DOOM(command_expr, want) \
    do { \
        begin(k); \
        k->limits.blob_bytes_max = 1000; \
        k->limits.memo_bytes_max = 2000; \
        kit_command *bad_ = (command_expr); \
        assert_false(KIT_COMPLETE(k, kit_cmd_marker(k), bad_)); \
        expect_failed(k, (want), true); \
        kit_close(k); \
    } while (0)

/* ---- no attributes --------------------------------------------------------------------------- */

static void commands_without_attributes(void **state)
{
    kit kit_, *k = &kit_;
    static const struct {
        int type;
        const char *want;
    } table[] = {
        {1, "BadScheduleActivityAttributes: ScheduleActivityTaskCommandAttributes is not set on "
            "ScheduleActivityTaskCommand."},
        {2, "BadRequestCancelActivityAttributes: RequestCancelActivityTaskCommandAttributes is not "
            "set on "
            "RequestCancelActivityTaskCommand."},
        {3,
         "BadStartTimerAttributes: StartTimerCommandAttributes is not set on StartTimerCommand."},
        {4, "BadCompleteWorkflowExecutionAttributes: CompleteWorkflowExecutionCommandAttributes is "
            "not set on "
            "CompleteWorkflowExecutionCommand."},
        {5,
         "BadFailWorkflowExecutionAttributes: FailWorkflowExecutionCommandAttributes is not set on "
         "FailWorkflowExecutionCommand."},
        {6, "BadCancelTimerAttributes: CancelTimerCommandAttributes is not set on "
            "CancelTimerCommand."},
        {7, "BadCancelWorkflowExecutionAttributes: CancelWorkflowExecutionCommandAttributes is not "
            "set on "
            "CancelWorkflowExecutionCommand."},
        {8, "BadRequestCancelExternalWorkflowExecutionAttributes: "
            "RequestCancelExternalWorkflowExecutionCommandAttributes is not set on "
            "RequestCancelExternalWorkflowExecutionCommand."},
        {9, "BadRecordMarkerAttributes: RecordMarkerCommandAttributes is not set on "
            "RecordMarkerCommand."},
        {10, "BadContinueAsNewAttributes: ContinueAsNewWorkflowExecutionCommandAttributes is not "
             "set on "
             "ContinueAsNewWorkflowExecutionCommand."},
        {11, "BadStartChildExecutionAttributes: StartChildWorkflowExecutionCommandAttributes is "
             "not set on "
             "StartChildWorkflowExecutionCommand."},
        {12, "BadSignalWorkflowExecutionAttributes: "
             "SignalExternalWorkflowExecutionCommandAttributes is not set on "
             "SignalExternalWorkflowExecutionCommand."},
        {13, "BadSearchAttributes: UpsertWorkflowSearchAttributesCommandAttributes is not set on "
             "UpsertWorkflowSearchAttributesCommand."},
        {14, "BadUpdateWorkflowExecutionMessage: ProtocolMessageCommandAttributes is not set on "
             "ProtocolMessageCommand."},
        {16, "BadModifyWorkflowPropertiesAttributes: ModifyWorkflowPropertiesCommandAttributes is "
             "not set on "
             "ModifyWorkflowPropertiesCommand."},
        {17, "BadScheduleNexusOperationAttributes: empty ScheduleNexusOperationCommandAttributes"},
        {18,
         "BadRequestCancelNexusOperationAttributes: empty CancelNexusOperationCommandAttributes"},
    };

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(table); i++)
        EXPECT_BAD(bare(k, table[i].type), table[i].want);
}

/* ---- the sequence ---------------------------------------------------------------------------- */

static void misplaced_commands_fail_the_call(void **state)
{
    kit kit_, *k = &kit_;

    (void)state;
    begin(k);
    assert_false(KIT_COMPLETE(k, kit_cmd_complete(k), kit_cmd_marker(k)));
    assert_true(tn_str_is(k->fault->message,
                          "invalid command sequence: [CompleteWorkflowExecution, RecordMarker], "
                          "command CompleteWorkflowExecution must be the last command."));
    assert_int_equal(k->fault->code, TN_GRPC_INVALID_ARGUMENT);
    assert_false(KIT_COMPLETE(k, kit_cmd_marker(k), bare(k, 99)));
    assert_true(tn_str_is(k->fault->message, "unknown command type: 99"));
    assert_false(KIT_COMPLETE(k, bare(k, 0)));
    assert_true(tn_str_is(k->fault->message, "unknown command type: Unspecified"));
    /* Nothing was written, the task is still the worker's. */
    assert_true(KIT_COMPLETE(k, kit_cmd_marker(k), kit_cmd_complete(k)));
    KIT_EXPECT(k, "Started WtScheduled WtStarted WtCompleted Marker Completed");
    kit_close(k);
}

/* ---- activities ------------------------------------------------------------------------------ */

static kit_command *activity_with(kit *k, void (*change)(kit *k, activity_attrs *a))
{
    kit_command *c = kit_cmd_activity(k, "a", 10);

    change(k, c->schedule_activity_task_command_attributes);
    return c;
}

static void no_queue(kit *k, activity_attrs *a) { (void)k, a->task_queue = NULL; }
static void empty_queue(kit *k, activity_attrs *a) { a->task_queue = kit_queue(k, "", 1); }
static void long_queue(kit *k, activity_attrs *a)
{
    a->task_queue = kit_queue(k, long_text(k, LONG_ID_BYTES), 1);
}
static void reserved_queue(kit *k, activity_attrs *a)
{
    a->task_queue = kit_queue(k, "/_sys/x", 1);
}
static void system_queue(kit *k, activity_attrs *a)
{
    a->task_queue = kit_queue(k, "temporal-sys-per-ns-tq", 1);
}
static void no_id(kit *k, activity_attrs *a) { (void)k, a->activity_id = (char *)""; }
static void no_type(kit *k, activity_attrs *a) { (void)k, a->activity_type = NULL; }
static void long_id(kit *k, activity_attrs *a) { a->activity_id = long_text(k, LONG_ID_BYTES); }
static void long_type(kit *k, activity_attrs *a)
{
    a->activity_type->name = long_text(k, LONG_ID_BYTES);
}
static void no_timeout(kit *k, activity_attrs *a) { (void)k, a->start_to_close_timeout = NULL; }
static void negative_close(kit *k, activity_attrs *a)
{
    a->start_to_close_timeout = kit_seconds(k, -1);
}
static void negative_total(kit *k, activity_attrs *a)
{
    a->schedule_to_close_timeout = kit_seconds(k, -1);
}
static void negative_start(kit *k, activity_attrs *a)
{
    a->schedule_to_start_timeout = kit_seconds(k, -1);
}
static void negative_heartbeat(kit *k, activity_attrs *a)
{
    a->heartbeat_timeout = kit_seconds(k, -1);
}
static void bad_retry(kit *k, activity_attrs *a)
{
    a->retry_policy = TN_MSG(k->arena, temporal__api__common__v1__retry_policy);
    a->retry_policy->maximum_attempts = -1;
}
static void bad_priority(kit *k, activity_attrs *a)
{
    a->priority = TN_MSG(k->arena, temporal__api__common__v1__priority);
    a->priority->priority_key = -1;
}
static void other_build(kit *k, activity_attrs *a)
{
    a->task_queue = kit_queue(k, "other", 1);
    a->use_workflow_build_id = true;
}

static void bad_activities(void **state)
{
    kit kit_, *k = &kit_;
    static const struct {
        void (*change)(kit *k, activity_attrs *a);
        const char *want;
    } table[] = {
        {no_queue, "taskQueue is not set"},
        {empty_queue, "missing task queue name"},
        {long_queue, "taskQueue length exceeds limit"},
        {reserved_queue, "task queue name cannot start with reserved prefix /_sys/"},
        {system_queue, "cannot use internal per-namespace task queue:temporal-sys-per-ns-tq (in "
                       "parent component task "
                       "queue: tq)"},
        {no_id, "activityId is not set"},
        {no_type, "activityType is not set"},
        {long_id, "activityId exceeds length limit. Length=1001 Limit=1000"},
        {long_type, "activityType exceeds length limit. Length=1001 Limit=1000"},
        {no_timeout, "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the "
                     "activity. ActivityId=a "
                     "ActivityType=A"},
        {negative_close, "invalid StartToCloseTimeout: negative duration"},
        {negative_total, "invalid ScheduleToCloseTimeout: negative duration"},
        {negative_start, "invalid ScheduleToStartTimeout: negative duration"},
        {negative_heartbeat, "invalid HeartbeatTimeout: negative duration"},
        {bad_retry, "MaximumAttempts cannot be negative on retry policy."},
        {bad_priority, "invalid priorities: priority key can't be negative"},
        {other_build, "Activity with UseCompatibleVersion cannot run on different task queue."},
    };
    char want[300];

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(table); i++) {
        snprintf(want, sizeof(want), "BadScheduleActivityAttributes: %s", table[i].want);
        EXPECT_BAD(activity_with(k, table[i].change), want);
    }
}

static void ids_are_used_once(void **state)
{
    kit kit_, *k = &kit_;

    (void)state;
    begin(k);
    assert_false(KIT_COMPLETE(k, kit_cmd_activity(k, "a", 9), kit_cmd_activity(k, "a", 9)));
    expect_failed(k,
                  "ScheduleActivityDuplicateId: invalid history builder state for action: "
                  "add-activitytask-scheduled-event, ActivityID: a",
                  false);
    kit_close(k);
    begin(k);
    assert_false(KIT_COMPLETE(k, kit_cmd_timer(k, "t", 9), kit_cmd_timer(k, "t", 9)));
    expect_failed(
        k,
        "StartTimerDuplicateId: invalid history builder state for action: add-timer-started-event, "
        "TimerID: t",
        false);
    kit_close(k);
    /* Free again once cancelled: a timer at once, an activity that no worker has had. */
    begin(k);
    assert_true(KIT_COMPLETE(k, kit_cmd_timer(k, "t", 9), kit_cmd_cancel_timer(k, "t"),
                             kit_cmd_timer(k, "t", 9), kit_cmd_activity(k, "a", 9),
                             kit_cmd_cancel_activity(k, 8), kit_cmd_activity(k, "a", 9)));
    KIT_EXPECT(k, "Started WtScheduled WtStarted WtCompleted TimerStarted TimerCanceled "
                  "TimerStarted ActScheduled "
                  "ActCancelRequested ActScheduled ActCanceled WtScheduled");
    assert_int_equal(k->ms->n_activities, 1);
    assert_int_equal(k->ms->n_timers, 1);
    kit_close(k);
}

static void cancels_need_their_object(void **state)
{
    kit kit_, *k = &kit_;

    (void)state;
    EXPECT_BAD(kit_cmd_cancel_activity(k, 0),
               "BadRequestCancelActivityAttributes: ScheduledEventId is not set on "
               "RequestCancelActivityTaskCommand.");
    EXPECT_BAD(kit_cmd_cancel_activity(k, 77),
               "BadRequestCancelActivityAttributes: invalid history builder state for action: "
               "add-activitytask-cancel-requested-event, ScheduledEventID: 77");
    EXPECT_BAD(kit_cmd_cancel_timer(k, ""),
               "BadCancelTimerAttributes: TimerId is not set on CancelTimerCommand.");
    EXPECT_BAD(kit_cmd_cancel_timer(k, "t"), "BadCancelTimerAttributes: invalid history builder "
                                             "state for action: add-timer-canceled-event, "
                                             "TimerID: t");
    begin(k);
    assert_false(KIT_COMPLETE(k, kit_cmd_timer(k, "t", 9), kit_cmd_cancel_timer(k, "t"),
                              kit_cmd_cancel_timer(k, "t")));
    expect_failed(k,
                  "BadCancelTimerAttributes: invalid history builder state for action: "
                  "add-timer-canceled-event, "
                  "TimerID: t",
                  false);
    kit_close(k);
}

static void timeouts_are_filled_in(void **state)
{
    static const struct {
        double run, total, to_start, to_close, heartbeat; /* as asked, -1: not at all */
        uint64_t want_total, want_to_start, want_to_close, want_heartbeat; /* seconds */
    } table[] = {
        {0, 20, -1, -1, -1, 20, 20, 20, 0},
        {0, 20, 30, 30, 30, 20, 20, 20, 20},
        {0, 20, 5, 6, 2, 20, 5, 6, 2},
        {0, -1, -1, 10, -1, 0, 0, 10, 0},
        {0, -1, 7, 10, 60, 0, 7, 10, 10},
        {40, -1, -1, 10, -1, 40, 40, 10, 0},
        {40, 100, 100, 100, 100, 40, 40, 40, 40},
        {40, -1, 60, 60, 50, 40, 40, 40, 40},
    };

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(table); i++) {
        kit kit_, *k = &kit_;
        Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *start;
        Temporal__Api__History__V1__ActivityTaskScheduledEventAttributes *got;
        kit_command *c;
        activity_attrs *a;

        kit_open(k, 1);
        start = kit_start_request(k);
        if (table[i].run > 0)
            start->workflow_run_timeout = kit_seconds(k, table[i].run);
        assert_true(kit_start_with(k, start));
        assert_true(kit_poll(k));
        c = kit_cmd_activity(k, "a", 1);
        a = c->schedule_activity_task_command_attributes;
        a->schedule_to_close_timeout = table[i].total < 0 ? NULL : kit_seconds(k, table[i].total);
        a->schedule_to_start_timeout =
            table[i].to_start < 0 ? NULL : kit_seconds(k, table[i].to_start);
        a->start_to_close_timeout =
            table[i].to_close < 0 ? NULL : kit_seconds(k, table[i].to_close);
        a->heartbeat_timeout = table[i].heartbeat < 0 ? NULL : kit_seconds(k, table[i].heartbeat);
        assert_true(KIT_COMPLETE(k, c));
        got = kit_event(k, 5)->activity_task_scheduled_event_attributes;
        assert_int_equal(tn_duration_ns(got->schedule_to_close_timeout) / TN_SEC,
                         table[i].want_total);
        assert_int_equal(tn_duration_ns(got->schedule_to_start_timeout) / TN_SEC,
                         table[i].want_to_start);
        assert_int_equal(tn_duration_ns(got->start_to_close_timeout) / TN_SEC,
                         table[i].want_to_close);
        assert_int_equal(tn_duration_ns(got->heartbeat_timeout) / TN_SEC, table[i].want_heartbeat);
        /* All are there, also the empty ones, and so is a policy. */
        assert_non_null(got->schedule_to_close_timeout);
        assert_non_null(got->schedule_to_start_timeout);
        assert_non_null(got->heartbeat_timeout);
        assert_int_equal(tn_duration_ns(got->retry_policy->initial_interval), TN_SEC);
        assert_int_equal(tn_duration_ns(got->retry_policy->maximum_interval), 100 * TN_SEC);
        kit_close(k);
    }
}

/* ---- timers and markers ---------------------------------------------------------------------- */

static void bad_timers_and_markers(void **state)
{
    kit kit_, *k = &kit_;
    char want[4096];

    (void)state;
    EXPECT_BAD(kit_cmd_timer(k, "", 9),
               "BadStartTimerAttributes: TimerId is not set on StartTimerCommand.");
    EXPECT_BAD(kit_cmd_timer(k, "t", -1),
               "BadStartTimerAttributes: An invalid StartToFireTimeout is set on "
               "StartTimerCommand: negative duration. TimerId=t");
    EXPECT_BAD((snprintf(want, sizeof(want),
                         "BadStartTimerAttributes: TimerId on StartTimerCommand exceeds length "
                         "limit. TimerId=%s Length=1001 Limit=1000",
                         long_text(k, LONG_ID_BYTES)),
                kit_cmd_timer(k, long_text(k, LONG_ID_BYTES), 9)),
               want);
    EXPECT_BAD(({
                   kit_command *c = kit_cmd_marker(k);
                   c->record_marker_command_attributes->marker_name = (char *)"";
                   c;
               }),
               "BadRecordMarkerAttributes: MarkerName is not set on RecordMarkerCommand.");
}

/* ---- limits ---------------------------------------------------------------------------------- */

static kit_command *big(kit *k, int which)
{
    Temporal__Api__Common__V1__Payloads *input = kit_payloads(k, long_text(k, 1200));
    kit_command *c;

    switch (which) {
    case 0:
        c = kit_cmd_activity(k, "a", 9);
        c->schedule_activity_task_command_attributes->input = input;
        return c;
    case 1:
        c = kit_cmd_complete(k);
        c->complete_workflow_execution_command_attributes->result = input;
        return c;
    case 2:
        c = kit_cmd_fail(k, "T");
        c->fail_workflow_execution_command_attributes->failure->message = long_text(k, 1200);
        return c;
    case 3:
        c = kit_cmd_continue(k);
        c->continue_as_new_workflow_execution_command_attributes->input = input;
        return c;
    case 4:
        c = kit_cmd_child(k, "kid");
        c->start_child_workflow_execution_command_attributes->input = input;
        return c;
    case 5:
        c = kit_cmd_signal_external(k, "x");
        c->signal_external_workflow_execution_command_attributes->input = input;
        return c;
    case 6:
        return kit_cmd_memo(k, "key", long_text(k, 1200));
    default:
        c = kit_cmd_marker(k);
        c->record_marker_command_attributes->n_details = 1;
        c->record_marker_command_attributes->details = tn_arena_array(k->arena, 1, sizeof(void *));
        c->record_marker_command_attributes->details[0] = TN_MSG(
            k->arena, temporal__api__command__v1__record_marker_command_attributes__details_entry);
        c->record_marker_command_attributes->details[0]->key = (char *)"d";
        c->record_marker_command_attributes->details[0]->value = input;
        return c;
    }
}

static void payloads_too_large_end_the_run(void **state)
{
    kit kit_, *k = &kit_;
    static const char *const want[] = {
        "BadScheduleActivityAttributes: ScheduleActivityTaskCommandAttributes.Input exceeds size "
        "limit.",
        "BadScheduleActivityAttributes: CompleteWorkflowExecutionCommandAttributes.Result exceeds "
        "size limit.",
        "BadFailWorkflowExecutionAttributes: FailWorkflowExecutionCommandAttributes.Failure "
        "exceeds size limit.",
        "BadContinueAsNewAttributes: ContinueAsNewWorkflowExecutionCommandAttributes. Input "
        "exceeds size limit.",
        "BadStartChildExecutionAttributes: StartChildWorkflowExecutionCommandAttributes. Input "
        "exceeds size limit.",
        "BadSignalWorkflowExecutionAttributes: "
        "SignalExternalWorkflowExecutionCommandAttributes.Input exceeds size "
        "limit.",
        "BadModifyWorkflowPropertiesAttributes: ModifyWorkflowPropertiesCommandAttributes exceeds "
        "size limit.",
        "BadRecordMarkerAttributes: RecordMarkerCommandAttributes.Details exceeds size limit.",
    };

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(want); i++)
        EXPECT_DOOM(big(k, (int)i), want[i]);
}

/* The memo that the run would have counts, not only what is new. */
static void memos_add_up(void **state)
{
    kit kit_, *k = &kit_;

    (void)state;
    begin(k);
    k->limits.memo_bytes_max = 1000;
    assert_true(KIT_COMPLETE(k, kit_cmd_memo(k, "a", long_text(k, 600)),
                             kit_cmd_memo(k, "a", long_text(k, 700))));
    assert_true(kit_signal(k, "s", "r"));
    assert_true(kit_poll(k));
    assert_false(KIT_COMPLETE(k, kit_cmd_memo(k, "b", long_text(k, 400))));
    assert_true(tn_str_is(k->fault->message,
                          "BadModifyWorkflowPropertiesAttributes: "
                          "ModifyWorkflowPropertiesCommandAttributes. Memo exceeds size limit."));
    assert_false(tn_ms_running(k->ms));
    kit_close(k);
    begin(k);
    k->limits.memo_bytes_max = 1000;
    assert_true(KIT_COMPLETE(k, kit_cmd_memo(k, "a", long_text(k, 700)),
                             kit_cmd_memo(k, "a", "null"),
                             kit_cmd_memo(k, "b", long_text(k, 700))));
    assert_int_equal(k->ms->memo.count, 1);
    kit_close(k);
}

static void pending_things_are_limited(void **state)
{
    static const char *const want[] = {
        "PendingActivitiesLimitExceeded: the number of pending activities, 2, has reached the "
        "per-workflow limit of 2",
        "PendingChildWorkflowsLimitExceeded: the number of pending child workflow executions, 2, "
        "has reached the "
        "per-workflow limit of 2",
        "PendingSignalsLimitExceeded: the number of pending signals to external workflows, 2, has "
        "reached the "
        "per-workflow limit of 2",
        "PendingRequestCancelLimitExceeded: the number of pending requests to cancel external "
        "workflows, 2, has "
        "reached the per-workflow limit of 2",
    };

    (void)state;
    for (int i = 0; i < 4; i++) {
        kit kit_, *k = &kit_;
        kit_command *c[3];

        begin(k);
        k->limits.pending_activities_max = k->limits.pending_children_max = 2;
        k->limits.pending_signals_max = k->limits.pending_cancels_max = 2;
        for (int n = 0; n < 3; n++) {
            const char *id = tn_arena_printf(k->arena, "id%d", n);

            c[n] = i == 0   ? kit_cmd_activity(k, id, 9)
                   : i == 1 ? kit_cmd_child(k, id)
                   : i == 2 ? kit_cmd_signal_external(k, id)
                            : kit_cmd_cancel_external(k, id);
        }
        assert_false(KIT_COMPLETE(k, c[0], c[1], c[2]));
        expect_failed(k, want[i], false);
        kit_close(k);
    }
}

/* ---- other runs ------------------------------------------------------------------------------ */

static kit_command *child_with(kit *k, int which)
{
    kit_command *c = kit_cmd_child(k, "kid");
    child_attrs *a = c->start_child_workflow_execution_command_attributes;

    switch (which) {
    case 0:
        a->workflow_id = (char *)"";
        break;
    case 1:
        a->workflow_type = NULL;
        break;
    case 2:
        a->namespace_ = (char *)"other";
        break;
    case 3:
        a->workflow_run_timeout = kit_seconds(k, -1);
        break;
    case 4:
        a->workflow_task_timeout = kit_seconds(k, -1);
        break;
    case 5:
        a->workflow_execution_timeout = kit_seconds(k, -1);
        break;
    case 6:
        a->cron_schedule = (char *)"* * *";
        break;
    case 7:
        a->cron_schedule = (char *)"0 0 30 2 *";
        break;
    case 8:
        a->retry_policy = TN_MSG(k->arena, temporal__api__common__v1__retry_policy);
        a->retry_policy->backoff_coefficient = 0.1;
        break;
    default:
        a->task_queue = kit_queue(k, "/_sys/x", 1);
        break;
    }
    return c;
}

static void bad_children(void **state)
{
    kit kit_, *k = &kit_;
    static const char *const want[] = {
        "Required field WorkflowId is not set on StartChildWorkflowExecutionCommand. "
        "WorkflowType=C Namespace=default",
        "Required field WorkflowType is not set on StartChildWorkflowExecutionCommand. "
        "WorkflowId=kid "
        "Namespace=default",
        NULL,
        "Invalid WorkflowRunTimeout on StartChildWorkflowExecutionCommand: negative duration. "
        "WorkflowId=kid "
        "WorkflowType=C Namespace=default",
        "Invalid WorkflowTaskTimeout on StartChildWorkflowExecutionCommand: negative duration. "
        "WorkflowId=kid "
        "WorkflowType=C Namespace=default",
        "Invalid WorkflowExecutionTimeout on StartChildWorkflowExecutionCommand: negative "
        "duration. WorkflowId=kid "
        "WorkflowType=C Namespace=default",
        "invalid CronSchedule on StartChildWorkflowExecutionCommand: invalid CronSchedule.. "
        "WorkflowId=kid "
        "WorkflowType=C Namespace=default",
        "invalid CronSchedule on StartChildWorkflowExecutionCommand: invalid CronSchedule, no time "
        "can be found to "
        "satisfy the schedule. WorkflowId=kid WorkflowType=C Namespace=default",
        "invalid WorkflowRetryPolicy on StartChildWorkflowExecutionCommand: BackoffCoefficient "
        "cannot be less than 1 "
        "on retry policy.. WorkflowId=kid WorkflowType=C Namespace=default",
        "invalid TaskQueue on StartChildWorkflowExecutionCommand: task queue name cannot start "
        "with reserved prefix "
        "/_sys/. WorkflowId=kid WorkflowType=C Namespace=default TaskQueue=name:\"/_sys/x\"  "
        "kind:TASK_QUEUE_KIND_NORMAL",
    };
    char text[400];

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(want); i++) {
        if (!want[i])
            continue;
        snprintf(text, sizeof(text), "BadStartChildExecutionAttributes: %s", want[i]);
        EXPECT_BAD(child_with(k, (int)i), text);
    }
}

static kit_command *signal_with(kit *k, const char *id, const char *run_id, const char *name,
                                const char *ns)
{
    kit_command *c = kit_cmd_signal_external(k, id);
    Temporal__Api__Command__V1__SignalExternalWorkflowExecutionCommandAttributes *a =
        c->signal_external_workflow_execution_command_attributes;

    a->execution->run_id = (char *)(uintptr_t)run_id;
    a->signal_name = (char *)(uintptr_t)name;
    a->namespace_ = (char *)(uintptr_t)ns;
    return c;
}

static kit_command *cancel_with(kit *k, const char *id, const char *run_id)
{
    kit_command *c = kit_cmd_cancel_external(k, id);

    c->request_cancel_external_workflow_execution_command_attributes->run_id =
        (char *)(uintptr_t)run_id;
    return c;
}

static void bad_requests_to_other_runs(void **state)
{
    kit kit_, *k = &kit_;

    (void)state;
    EXPECT_BAD(signal_with(k, "", "", "s", ""),
               "BadSignalWorkflowExecutionAttributes: WorkflowId is not set on "
               "SignalExternalWorkflowExecutionCommand. "
               "Namespace= RunId= SignalName=s");
    EXPECT_BAD(signal_with(k, "x", "no", "s", "default"),
               "BadSignalWorkflowExecutionAttributes: Invalid RunId set on "
               "SignalExternalWorkflowExecutionCommand. "
               "WorkflowId=x Namespace=default RunId=no SignalName=s");
    EXPECT_BAD(signal_with(k, "x", "", "", ""),
               "BadSignalWorkflowExecutionAttributes: SignalName is not set on "
               "SignalExternalWorkflowExecutionCommand. "
               "WorkflowId=x Namespace= RunId=");
    EXPECT_BAD(({
                   kit_command *c = signal_with(k, "x", "", "s", "");
                   c->signal_external_workflow_execution_command_attributes->execution = NULL;
                   c;
               }),
               "BadSignalWorkflowExecutionAttributes: Execution is not set on "
               "SignalExternalWorkflowExecutionCommand.");
    EXPECT_BAD(cancel_with(k, "", ""),
               "BadRequestCancelExternalWorkflowExecutionAttributes: WorkflowId is not set on "
               "RequestCancelExternalWorkflowExecutionCommand. Namespace= RunId=");
    EXPECT_BAD(cancel_with(k, "x", "no"),
               "BadRequestCancelExternalWorkflowExecutionAttributes: Invalid RunId set on "
               "RequestCancelExternalWorkflowExecutionCommand. WorkflowId=x RunId=no Namespace=");
    begin(k);
    assert_false(KIT_COMPLETE(k, kit_cmd_child(k, "kid"), cancel_with(k, "kid", "")));
    expect_failed(k,
                  "BadRequestCancelExternalWorkflowExecutionAttributes: Start and RequestCancel "
                  "for child workflow "
                  "is not allowed in same workflow task. WorkflowId=kid RunId= Namespace=",
                  false);
    kit_close(k);
    /* A namespace that is not there fails the call, not the task. */
    begin(k);
    assert_false(KIT_COMPLETE(k, signal_with(k, "x", "", "s", "nowhere")));
    assert_int_equal(k->fault->code, TN_GRPC_NOT_FOUND);
    assert_true(tn_str_is(k->fault->message, "Namespace nowhere is not found."));
    assert_true(
        tn_str_is(k->fault->detail_type, "temporal.api.errordetails.v1.NamespaceNotFoundFailure"));
    KIT_EXPECT(k, "Started WtScheduled WtStarted");
    kit_close(k);
}

static tn_str two_namespaces(void *user, tn_str name)
{
    (void)user;
    return tn_str_is(name, "other") ? TN_STR("33333333-3333-4333-8333-333333333333")
                                    : (tn_str){NULL, 0};
}

static void namespaces_are_not_crossed(void **state)
{
    static const char *const causes[] = {"BadStartChildExecutionAttributes",
                                         "BadSignalWorkflowExecutionAttributes",
                                         "BadRequestCancelExternalWorkflowExecutionAttributes"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        kit kit_, *k = &kit_;
        kit_command *c;

        begin(k);
        k->env.namespace_id = two_namespaces;
        c = i == 0   ? child_with(k, 2)
            : i == 1 ? signal_with(k, "x", "", "s", "other")
                     : cancel_with(k, "x", "");
        if (i == 2)
            c->request_cancel_external_workflow_execution_command_attributes->namespace_ =
                (char *)"other";
        assert_false(KIT_COMPLETE(k, c));
        expect_failed(
            k, tn_arena_printf(k->arena, "%s: cross namespace commands are not allowed", causes[i]),
            false);
        kit_close(k);
    }
}

/* Where they may be, the events name the other namespace. */
static void namespaces_may_be_crossed(void **state)
{
    (void)state;
    kit kit_, *k = &kit_;

    begin(k);
    k->env.namespace_id = two_namespaces;
    k->env.cross_namespace = true;
    kit_command *cancel = cancel_with(k, "x", "");
    cancel->request_cancel_external_workflow_execution_command_attributes->namespace_ =
        (char *)"other";
    assert_true(KIT_COMPLETE(k, child_with(k, 2), signal_with(k, "x", "", "s", "other"), cancel));
    const Temporal__Api__History__V1__StartChildWorkflowExecutionInitiatedEventAttributes *child =
        kit_event(k, 5)->start_child_workflow_execution_initiated_event_attributes;
    assert_string_equal(child->namespace_, "other");
    assert_string_equal(child->namespace_id, "33333333-3333-4333-8333-333333333333");
    assert_string_equal(
        kit_event(k, 6)
            ->signal_external_workflow_execution_initiated_event_attributes->namespace_id,
        "33333333-3333-4333-8333-333333333333");
    assert_string_equal(
        kit_event(k, 7)
            ->request_cancel_external_workflow_execution_initiated_event_attributes->namespace_id,
        "33333333-3333-4333-8333-333333333333");
    kit_close(k);
}

static void children_get_their_defaults(void **state)
{
    kit kit_, *k = &kit_;
    Temporal__Api__History__V1__StartChildWorkflowExecutionInitiatedEventAttributes *got;
    kit_command *c;

    (void)state;
    begin(k);
    c = kit_cmd_child(k, "kid");
    c->start_child_workflow_execution_command_attributes->task_queue = NULL;
    c->start_child_workflow_execution_command_attributes->workflow_execution_timeout =
        kit_seconds(k, 5);
    c->start_child_workflow_execution_command_attributes->control = (char *)"ctl";
    assert_true(KIT_COMPLETE(k, c));
    got = kit_event(k, 5)->start_child_workflow_execution_initiated_event_attributes;
    assert_string_equal(got->namespace_, "default");
    assert_string_equal(got->namespace_id, "22222222-2222-4222-8222-222222222222");
    assert_string_equal(got->task_queue->name, "tq");
    assert_int_equal(got->task_queue->kind, 1);
    assert_int_equal(tn_duration_ns(got->workflow_run_timeout), 5 * TN_SEC);
    assert_int_equal(tn_duration_ns(got->workflow_task_timeout), 5 * TN_SEC);
    assert_int_equal(got->parent_close_policy, 1);
    assert_int_equal(got->workflow_id_reuse_policy, 1);
    assert_string_equal(got->control, "ctl");
    assert_null(got->retry_policy);
    assert_int_equal(got->workflow_task_completed_event_id, 4);
    kit_close(k);
}

/* ---- search attributes ----------------------------------------------------------------------- */

static kit_command *upsert(kit *k, const char *name, const char *value)
{
    KIT_COMMAND(k, c, 13, UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, upsert_workflow_search_attributes);
    Temporal__Api__Common__V1__SearchAttributes *attrs =
        TN_MSG(k->arena, temporal__api__common__v1__search_attributes);

    attrs->n_indexed_fields = name ? 1 : 0;
    attrs->indexed_fields = tn_arena_array(k->arena, 1, sizeof(void *));
    if (name) {
        attrs->indexed_fields[0] =
            TN_MSG(k->arena, temporal__api__common__v1__search_attributes__indexed_fields_entry);
        attrs->indexed_fields[0]->key = (char *)(uintptr_t)name;
        attrs->indexed_fields[0]->value = kit_payloads(k, value)->payloads[0];
    }
    c->upsert_workflow_search_attributes_command_attributes->search_attributes = attrs;
    return c;
}

static const tn_fault *only_good(void *user, tn_str ns_id, tn_arena *arena,
                                 Temporal__Api__Common__V1__SearchAttributes *attrs)
{
    (void)user, (void)ns_id;
    for (size_t i = 0; i < attrs->n_indexed_fields; i++)
        if (strncmp(attrs->indexed_fields[i]->key, "Good", 4) != 0)
            return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                                 "search attribute %s is not defined",
                                 attrs->indexed_fields[i]->key);
    return NULL;
}

static void search_attributes_are_checked(void **state)
{
    kit kit_, *k = &kit_;
    kit_command *c;

    (void)state;
    EXPECT_BAD(
        (k->env.check_search_attributes = only_good, upsert(k, NULL, "")),
        "BadSearchAttributes: IndexedFields is not set on UpsertWorkflowSearchAttributesCommand.");
    EXPECT_BAD((k->env.check_search_attributes = only_good, upsert(k, "Bad", "1")),
               "BadSearchAttributes: search attribute Bad is not defined");
    EXPECT_BAD((k->env.check_search_attributes = only_good, c = kit_cmd_child(k, "kid"),
                c->start_child_workflow_execution_command_attributes->search_attributes =
                    upsert(k, "Bad", "1")
                        ->upsert_workflow_search_attributes_command_attributes->search_attributes,
                c),
               "BadSearchAttributes: invalid SearchAttributes on StartChildWorkflowCommand: search "
               "attribute Bad is not "
               "defined. WorkflowId=kid WorkflowType=C Namespace=default");
    begin(k);
    k->env.check_search_attributes = only_good;
    assert_false(KIT_COMPLETE(k, upsert(k, "Good", long_text(k, 2049))));
    expect_failed(
        k, "BadSearchAttributes: search attribute Good value size 2049 exceeds size limit 2048",
        true);
    kit_close(k);
    begin(k);
    assert_true(KIT_COMPLETE(k, upsert(k, "Good", "1"), upsert(k, "Good2", "2"),
                             upsert(k, "Good", "null")));
    assert_int_equal(k->ms->search_attributes.count, 2);
    assert_true(kit_signal(k, "s", "r"));
    assert_true(kit_poll(k));
    /* 2,048 bytes each: twenty are too much. */
    for (int i = 0; i < 19; i++) {
        assert_true(KIT_COMPLETE(
            k, upsert(k, tn_arena_printf(k->arena, "Good%d", 10 + i), long_text(k, 2048))));
        assert_true(kit_signal(k, "s", tn_arena_printf(k->arena, "r%d", i)));
        assert_true(kit_poll(k));
    }
    assert_false(KIT_COMPLETE(k, upsert(k, "Good99", long_text(k, 2048))));
    assert_true(tn_str_starts(k->fault->message,
                              TN_STR("BadSearchAttributes: total size of search attributes ")));
    assert_false(tn_ms_running(k->ms));
    kit_close(k);
}

/* ---- what is not offered --------------------------------------------------------------------- */

static void updates_and_operations_fail_the_task(void **state)
{
    kit kit_, *k = &kit_;
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r;

    (void)state;
    EXPECT_BAD(({
                   KIT_COMMAND(k, c, 14, PROTOCOL_MESSAGE, protocol_message);
                   c->protocol_message_command_attributes->message_id = (char *)"m1";
                   c;
               }),
               "BadUpdateWorkflowExecutionMessage: ProtocolMessageCommand referenced absent "
               "message ID m1");
    EXPECT_BAD(({
                   KIT_COMMAND(k, c, 17, SCHEDULE_NEXUS_OPERATION, schedule_nexus_operation);
                   c->schedule_nexus_operation_command_attributes->endpoint = (char *)"e";
                   c;
               }),
               "BadScheduleNexusOperationAttributes: endpoint \"e\" not found");
    EXPECT_BAD(({
                   KIT_COMMAND(k, c, 18, REQUEST_CANCEL_NEXUS_OPERATION,
                               request_cancel_nexus_operation);
                   c->request_cancel_nexus_operation_command_attributes->scheduled_event_id = 5;
                   c;
               }),
               "BadRequestCancelNexusOperationAttributes: requested cancelation for a non-existing "
               "or already completed "
               "operation with scheduled event ID of 5");
    begin(k);
    r = kit_complete_request(k, 0, NULL);
    r->n_messages = 1;
    r->messages = tn_arena_array(k->arena, 1, sizeof(r->messages[0]));
    r->messages[0] = TN_MSG(k->arena, temporal__api__protocol__v1__message);
    r->messages[0]->protocol_instance_id = (char *)"u1";
    r->messages[0]->body = TN_MSG(k->arena, google__protobuf__any);
    r->messages[0]->body->type_url = (char *)"type.googleapis.com/temporal.api.update.v1.Response";
    assert_false(kit_complete_with(k, kit_token(k), r, NULL));
    expect_failed(k,
                  "BadUpdateWorkflowExecutionMessage: update u1 wasn't found on the server. This "
                  "is most likely a "
                  "transient error which will be resolved automatically by retries",
                  false);
    kit_close(k);
}

/* ---- metadata -------------------------------------------------------------------------------- */

static void events_carry_the_commands_metadata(void **state)
{
    kit kit_, *k = &kit_;
    kit_command *c;

    (void)state;
    begin(k);
    c = kit_cmd_timer(k, "t", 9);
    c->user_metadata = TN_MSG(k->arena, temporal__api__sdk__v1__user_metadata);
    c->user_metadata->summary = kit_payloads(k, "sum")->payloads[0];
    assert_true(KIT_COMPLETE(k, c));
    assert_non_null(kit_event(k, 5)->user_metadata);
    assert_memory_equal(kit_event(k, 5)->user_metadata->summary->data.data, "sum", 3);
    kit_close(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_without_attributes),
        cmocka_unit_test(misplaced_commands_fail_the_call),
        cmocka_unit_test(bad_activities),
        cmocka_unit_test(ids_are_used_once),
        cmocka_unit_test(cancels_need_their_object),
        cmocka_unit_test(timeouts_are_filled_in),
        cmocka_unit_test(bad_timers_and_markers),
        cmocka_unit_test(payloads_too_large_end_the_run),
        cmocka_unit_test(memos_add_up),
        cmocka_unit_test(pending_things_are_limited),
        cmocka_unit_test(bad_children),
        cmocka_unit_test(bad_requests_to_other_runs),
        cmocka_unit_test(namespaces_are_not_crossed),
        cmocka_unit_test(namespaces_may_be_crossed),
        cmocka_unit_test(children_get_their_defaults),
        cmocka_unit_test(search_attributes_are_checked),
        cmocka_unit_test(updates_and_operations_fail_the_task),
        cmocka_unit_test(events_carry_the_commands_metadata),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
