/* SPDX-License-Identifier: MIT */
/* Timers, children and requests to other runs: how they begin, end, meet a started workflow task,
 * and outlive a crash. */
#include "machine_kit.h"

#include "history/machine/parts.h"

#define BEGIN "Started WtScheduled WtStarted WtCompleted"
#define RUN_1 "11111111-1111-4111-8111-111111111111"
#define RUN_2 "22222222-2222-4222-8222-222222222222"

static kit kit_, *k = &kit_;

static void begin(void)
{
    kit_open(k, 5);
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
}

static int teardown(void **state)
{
    (void)state;
    kit_close(k);
    return 0;
}

static void expect_fault(tn_grpc_code code, const char *text)
{
    if (!k->fault || k->fault->code != code || !tn_str_is(k->fault->message, text))
        fail_msg("want: %s\n    got: " TN_STR_FMT, text,
                 TN_STR_ARG(k->fault ? k->fault->message : TN_STR("success")));
}

/* ---- timers ---------------------------------------------------------------------------------- */

static void timers_fire_together_in_order(void **state)
{
    size_t records;

    (void)state;
    begin();
    assert_true(KIT_COMPLETE(k, kit_cmd_timer(k, "late", 30), kit_cmd_timer(k, "b", 10),
                             kit_cmd_timer(k, "a", 5), kit_cmd_timer(k, "c", 10)));
    assert_int_equal(tn_ms_deadline_ns(k->ms), k->now_ns + 5 * TN_SEC);
    k->now_ns += 12 * TN_SEC;
    records = k->n_records;
    assert_true(kit_fire(k));
    assert_int_equal(k->n_records, records + 1);
    KIT_EXPECT(
        k, BEGIN
        " TimerStarted TimerStarted TimerStarted TimerStarted TimerFired TimerFired TimerFired "
        "WtScheduled");
    assert_string_equal(kit_event(k, 9)->timer_fired_event_attributes->timer_id, "a");
    assert_int_equal(kit_event(k, 9)->timer_fired_event_attributes->started_event_id, 7);
    assert_string_equal(kit_event(k, 10)->timer_fired_event_attributes->timer_id, "b");
    assert_string_equal(kit_event(k, 11)->timer_fired_event_attributes->timer_id, "c");
    assert_int_equal(k->ms->n_timers, 1);
    kit_crash(k);
    assert_int_equal(k->ms->n_timers, 1);
    assert_int_equal(tn_ms_deadline_ns(k->ms), k->now_ns + 18 * TN_SEC);
}

static void a_cancelled_timer_does_not_fire(void **state)
{
    (void)state;
    begin();
    assert_true(KIT_COMPLETE(k, kit_cmd_timer(k, "t", 5)));
    assert_true(kit_signal(k, "s", ""));
    assert_true(kit_poll(k));
    assert_true(KIT_COMPLETE(k, kit_cmd_cancel_timer(k, "t")));
    KIT_EXPECT(k, BEGIN " TimerStarted Signaled WtScheduled WtStarted WtCompleted TimerCanceled");
    assert_int_equal(kit_event(k, 10)->timer_canceled_event_attributes->started_event_id, 5);
    assert_string_equal(kit_event(k, 10)->timer_canceled_event_attributes->identity, "worker");
    kit_wait(k, 100);
    KIT_EXPECT(k, BEGIN " TimerStarted Signaled WtScheduled WtStarted WtCompleted TimerCanceled");
}

/* It has fired while the worker thought, and the worker uses its id again: two timers of one id for
 * a moment. */
static void an_id_is_used_again_over_a_firing(void **state)
{
    (void)state;
    begin();
    assert_true(KIT_COMPLETE(k, kit_cmd_timer(k, "t", 5)));
    assert_true(kit_signal(k, "s", ""));
    assert_true(kit_poll(k));
    kit_wait(k, 6);
    assert_true(KIT_COMPLETE(k, kit_cmd_timer(k, "t", 60), kit_cmd_marker(k)));
    KIT_EXPECT(
        k, BEGIN
        " TimerStarted Signaled WtScheduled WtStarted WtCompleted TimerStarted Marker TimerFired "
        "WtScheduled");
    assert_int_equal(kit_event(k, 12)->timer_fired_event_attributes->started_event_id, 5);
    assert_int_equal(k->ms->n_timers, 1);
    assert_int_equal(tn_ms_timer(k->ms, TN_STR("t"))->started_id, 10);
}

static void both_timers_of_an_id_are_cancelled(void **state)
{
    (void)state;
    begin();
    assert_true(KIT_COMPLETE(k, kit_cmd_timer(k, "t", 5)));
    assert_true(kit_signal(k, "s", ""));
    assert_true(kit_poll(k));
    kit_wait(k, 6);
    /* The new one first, then the firing leaves the buffer: nothing new is left, the run may
     * close. */
    assert_true(KIT_COMPLETE(k, kit_cmd_timer(k, "t", 60), kit_cmd_cancel_timer(k, "t"),
                             kit_cmd_cancel_timer(k, "t"), kit_cmd_complete(k)));
    KIT_EXPECT(
        k,
        BEGIN " TimerStarted Signaled WtScheduled WtStarted WtCompleted TimerStarted TimerCanceled "
              "TimerCanceled Completed");
    assert_int_equal(kit_event(k, 11)->timer_canceled_event_attributes->started_event_id, 10);
    assert_int_equal(kit_event(k, 12)->timer_canceled_event_attributes->started_event_id, 5);
}

/* Many: by an index, and without time that grows with their square. */
static void many_timers(void **state)
{
    enum { MANY = 20000 };
    kit_command **c;
    tn_wft_completed_out out;

    (void)state;
    begin();
    k->check = false;
    c = tn_arena_array(k->arena, MANY, sizeof(*c));
    for (int i = 0; i < MANY; i++)
        c[i] = kit_cmd_timer(k, tn_arena_printf(k->arena, "t%d", i),
                             1 + (double)tn_rng_below(&k->rng, 1000));
    assert_true(kit_complete_with(k, kit_token(k), kit_complete_request(k, MANY, c), &out));
    assert_int_equal(k->ms->n_timers, MANY);
    assert_int_equal(tn_ms_timer(k->ms, TN_STR("t777"))->started_id, 5 + 777);
    assert_null(tn_ms_timer(k->ms, TN_STR("nobody")));
    assert_true(kit_signal(k, "s", ""));
    assert_true(kit_poll(k));
    for (int i = 0; i < MANY / 2; i++)
        c[i] = kit_cmd_cancel_timer(k, tn_arena_printf(k->arena, "t%d", 2 * i));
    assert_true(kit_complete_with(k, kit_token(k), kit_complete_request(k, MANY / 2, c), &out));
    assert_int_equal(k->ms->n_timers, MANY / 2);
    assert_null(tn_ms_timer(k->ms, TN_STR("t778")));
    kit_crash(k);
    assert_int_equal(k->ms->n_timers, MANY / 2);
    k->now_ns += 2000 * TN_SEC;
    assert_true(kit_fire(k));
    assert_int_equal(k->ms->n_timers, 0);
    assert_null(k->ms->timer_index);
}

/* ---- children -------------------------------------------------------------------------------- */

static bool child_started(int64_t id, const char *run_id)
{
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_child_started(tx, id, tn_str_from(run_id)));
}

static bool child_start_failed(int64_t id, int cause)
{
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_child_start_failed(tx, id, cause));
}

static tn_event *closing(int type)
{
    tn_event *event = TN_MSG(k->arena, temporal__api__history__v1__history_event);

#define MAKE(upper, lower) \
    event->attributes_case = \
        TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_##upper##_EVENT_ATTRIBUTES; \
    event->lower##_event_attributes = \
        TN_MSG(k->arena, temporal__api__history__v1__##lower##_event_attributes)
    event->event_type = (Temporal__Api__Enums__V1__EventType)type;
    switch (type) {
    case 2:
        MAKE(WORKFLOW_EXECUTION_COMPLETED, workflow_execution_completed);
        event->workflow_execution_completed_event_attributes->result = kit_payloads(k, "out");
        break;
    case 3:
        MAKE(WORKFLOW_EXECUTION_FAILED, workflow_execution_failed);
        event->workflow_execution_failed_event_attributes->failure =
            TN_MSG(k->arena, temporal__api__failure__v1__failure);
        event->workflow_execution_failed_event_attributes->retry_state = 4;
        break;
    case 4:
        MAKE(WORKFLOW_EXECUTION_TIMED_OUT, workflow_execution_timed_out);
        event->workflow_execution_timed_out_event_attributes->retry_state = 3;
        break;
    case 21:
        MAKE(WORKFLOW_EXECUTION_CANCELED, workflow_execution_canceled);
        event->workflow_execution_canceled_event_attributes->details = kit_payloads(k, "why");
        break;
    case 27:
        MAKE(WORKFLOW_EXECUTION_TERMINATED, workflow_execution_terminated);
        break;
    default:
        MAKE(MARKER_RECORDED, marker_recorded);
        break;
    }
    return event;
}

static bool child_closed(int64_t id, const char *run_id, const char *first_run_id, int type)
{
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_child_closed(tx, id, tn_str_from(run_id),
                                              tn_str_from(first_run_id), closing(type)));
}

static void with_child(void)
{
    kit_command *c;

    begin();
    c = kit_cmd_child(k, "kid");
    c->start_child_workflow_execution_command_attributes->control = (char *)"ctl";
    assert_true(KIT_COMPLETE(k, c));
}

static void a_child_starts_and_closes(void **state)
{
    static const struct {
        int close, want;
        const char *word;
    } table[] = {{2, 32, "ChildCompleted"},
                 {3, 33, "ChildFailed"},
                 {21, 34, "ChildCanceled"},
                 {4, 35, "ChildTimedOut"},
                 {27, 36, "ChildTerminated"}};

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(table); i++) {
        if (i)
            kit_close(k);
        with_child();
        assert_true(child_started(5, RUN_1));
        assert_true(child_started(5, RUN_1)); /* told again */
        assert_false(child_started(5, RUN_2));
        expect_fault(TN_GRPC_NOT_FOUND, "Pending child execution not found.");
        KIT_EXPECT(k, BEGIN " ChildInitiated ChildStarted WtScheduled");
        assert_string_equal(
            kit_event(k, 6)->child_workflow_execution_started_event_attributes->workflow_type->name,
            "C");
        assert_string_equal(
            kit_event(k, 6)->child_workflow_execution_started_event_attributes->namespace_,
            "default");
        assert_true(kit_poll(k));
        assert_true(kit_complete_none(k));
        assert_false(child_closed(5, RUN_2, RUN_2, table[i].close)); /* another one's end */
        expect_fault(TN_GRPC_NOT_FOUND, "Pending child execution not found.");
        /* It went on as RUN_2 and closed there: the parent sees the last run. */
        assert_true(child_closed(5, RUN_2, RUN_1, table[i].close));
        KIT_EXPECT(k, tn_arena_printf(
                          k->arena,
                          BEGIN " ChildInitiated ChildStarted WtScheduled WtStarted WtCompleted "
                                "%s WtScheduled",
                          table[i].word));
        assert_int_equal(k->ms->n_children, 0);
        assert_false(child_closed(5, RUN_2, RUN_1, table[i].close));
        expect_fault(TN_GRPC_NOT_FOUND, "Pending child execution not found.");
    }
}

static void closings_carry_what_the_child_said(void **state)
{
    const Temporal__Api__History__V1__ChildWorkflowExecutionCompletedEventAttributes *done;
    const Temporal__Api__History__V1__ChildWorkflowExecutionFailedEventAttributes *failed;

    (void)state;
    with_child();
    /* The end may be told before the start was recorded. */
    assert_true(child_closed(5, RUN_2, RUN_1, 2));
    KIT_EXPECT(k, BEGIN " ChildInitiated ChildStarted ChildCompleted WtScheduled");
    assert_string_equal(
        kit_event(k, 6)
            ->child_workflow_execution_started_event_attributes->workflow_execution->run_id,
        RUN_1);
    done = kit_event(k, 7)->child_workflow_execution_completed_event_attributes;
    assert_int_equal(done->initiated_event_id, 5);
    assert_int_equal(done->started_event_id, 6);
    assert_string_equal(done->workflow_execution->workflow_id, "kid");
    assert_string_equal(done->workflow_execution->run_id, RUN_2);
    assert_string_equal(done->workflow_type->name, "C");
    assert_memory_equal(done->result->payloads[0]->data.data, "out", 3);
    kit_close(k);
    with_child();
    assert_false(child_closed(5, RUN_1, RUN_1, 25));
    assert_int_equal(k->fault->code, TN_GRPC_INVALID_ARGUMENT);
    KIT_EXPECT(k, BEGIN " ChildInitiated");
    assert_true(child_closed(5, RUN_1, "", 3));
    failed = kit_event(k, 7)->child_workflow_execution_failed_event_attributes;
    assert_int_equal(failed->retry_state, 4);
    assert_non_null(failed->failure);
}

static void a_child_cannot_start(void **state)
{
    const Temporal__Api__History__V1__StartChildWorkflowExecutionFailedEventAttributes *attrs;

    (void)state;
    with_child();
    assert_true(child_start_failed(5, 1));
    KIT_EXPECT(k, BEGIN " ChildInitiated ChildStartFailed WtScheduled");
    attrs = kit_event(k, 6)->start_child_workflow_execution_failed_event_attributes;
    assert_int_equal(attrs->cause, 1);
    assert_int_equal(attrs->initiated_event_id, 5);
    assert_int_equal(attrs->workflow_task_completed_event_id, 0);
    assert_string_equal(attrs->workflow_id, "kid");
    assert_string_equal(attrs->workflow_type->name, "C");
    assert_string_equal(attrs->control, "ctl");
    assert_false(child_start_failed(5, 1));
    assert_false(child_started(5, RUN_1));
    expect_fault(TN_GRPC_NOT_FOUND, "Pending child execution not found.");
}

/* Both events of a child wait in the buffer: the result gets the id that its start is given. */
static void a_short_child_meets_a_started_task(void **state)
{
    (void)state;
    with_child();
    assert_true(kit_signal(k, "s", ""));
    assert_true(kit_poll(k));
    assert_true(child_started(5, RUN_1));
    assert_true(child_started(5, RUN_1));
    assert_false(child_start_failed(5, 1));
    kit_crash(k);
    kit_poll(k);
    assert_true(child_closed(5, RUN_1, RUN_1, 2));
    assert_false(child_closed(5, RUN_1, RUN_1, 2));
    expect_fault(TN_GRPC_NOT_FOUND, "Pending child execution not found.");
    KIT_EXPECT(k, BEGIN " ChildInitiated Signaled WtScheduled WtStarted");
    assert_true(KIT_COMPLETE(k, kit_cmd_marker(k)));
    KIT_EXPECT(k, BEGIN " ChildInitiated Signaled WtScheduled WtStarted WtCompleted Marker "
                        "ChildStarted ChildCompleted "
                        "WtScheduled");
    assert_int_equal(
        kit_event(k, 12)->child_workflow_execution_completed_event_attributes->started_event_id,
        11);
}

static void request_ids_outlive_a_crash(void **state)
{
    char before[64];

    (void)state;
    with_child();
    snprintf(before, sizeof(before), "%s", tn_ms_child(k->ms, 5)->request_id);
    assert_string_equal(before, tn_arena_printf(k->arena, "%s:5:0", k->ms->run_id_text));
    kit_crash(k);
    assert_string_equal(tn_ms_child(k->ms, 5)->request_id, before);
}

static size_t wanted;

static void count_want(void *user, tn_want want, void *item)
{
    (void)item;
    if (want == *(tn_want *)user)
        wanted++;
}

static size_t wants(tn_want want)
{
    wanted = 0;
    tn_ms_wants(k->ms, k->now_ns, count_want, &want);
    return wanted;
}

static void a_closed_parent_starts_no_child(void **state)
{
    kit_command *c;

    (void)state;
    begin();
    c = kit_cmd_child(k, "kid");
    c->start_child_workflow_execution_command_attributes->parent_close_policy = 2;
    assert_true(KIT_COMPLETE(k, c, kit_cmd_complete(k)));
    assert_int_equal(wants(TN_WANT_CHILD_START), 0);
    assert_int_equal(wants(TN_WANT_SETTLE_CHILD), 0);
    assert_false(child_started(5, RUN_1));
    expect_fault(TN_GRPC_NOT_FOUND, "workflow execution already completed");
    kit_close(k);
    with_child();
    assert_int_equal(wants(TN_WANT_CHILD_START), 1);
    assert_true(child_started(5, RUN_1));
    assert_int_equal(wants(TN_WANT_CHILD_START), 0);
    assert_true(kit_terminate(k));
    assert_int_equal(wants(TN_WANT_SETTLE_CHILD), 1);
}

/* ---- requests to other runs ------------------------------------------------------------------ */

static bool external_done(int64_t id)
{
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_external_done(tx, id));
}

static bool external_failed(int64_t id, int cause)
{
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_external_failed(tx, id, cause));
}

static void with_requests(void)
{
    kit_command *c;

    begin();
    c = kit_cmd_signal_external(k, "x");
    c->signal_external_workflow_execution_command_attributes->control = (char *)"ctl";
    assert_true(KIT_COMPLETE(k, c, kit_cmd_cancel_external(k, "y")));
    KIT_EXPECT(k, BEGIN " SignalExtInitiated CancelExtInitiated");
}

static void requests_succeed(void **state)
{
    (void)state;
    with_requests();
    assert_int_equal(wants(TN_WANT_SIGNAL), 1);
    assert_int_equal(wants(TN_WANT_CANCEL), 1);
    assert_true(external_done(5));
    assert_true(external_done(6));
    KIT_EXPECT(k, BEGIN
               " SignalExtInitiated CancelExtInitiated ExtSignaled WtScheduled ExtCancelRequested");
    assert_string_equal(
        kit_event(k, 7)->external_workflow_execution_signaled_event_attributes->control, "ctl");
    /* The command named no namespace; its result does. */
    assert_string_equal(
        kit_event(k, 5)->signal_external_workflow_execution_initiated_event_attributes->namespace_,
        "");
    assert_string_equal(
        kit_event(k, 7)->external_workflow_execution_signaled_event_attributes->namespace_,
        "default");
    assert_string_equal(kit_event(k, 9)
                            ->external_workflow_execution_cancel_requested_event_attributes
                            ->workflow_execution->workflow_id,
                        "y");
    assert_false(external_done(5));
    assert_int_equal(k->fault->code, TN_GRPC_NOT_FOUND);
    assert_int_equal(k->ms->n_signal_externals + k->ms->n_cancel_externals, 0);
}

static void requests_fail(void **state)
{
    (void)state;
    with_requests();
    assert_true(external_failed(5, 3));
    assert_true(external_failed(6, 1));
    KIT_EXPECT(
        k,
        BEGIN " SignalExtInitiated CancelExtInitiated SignalExtFailed WtScheduled CancelExtFailed");
    assert_int_equal(
        kit_event(k, 7)->signal_external_workflow_execution_failed_event_attributes->cause, 3);
    assert_string_equal(
        kit_event(k, 7)->signal_external_workflow_execution_failed_event_attributes->control,
        "ctl");
    assert_int_equal(
        kit_event(k, 9)->request_cancel_external_workflow_execution_failed_event_attributes->cause,
        1);
    assert_int_equal(kit_event(k, 9)
                         ->request_cancel_external_workflow_execution_failed_event_attributes
                         ->initiated_event_id,
                     6);
}

static void requests_meet_a_started_task(void **state)
{
    char id[37];

    (void)state;
    with_requests();
    memcpy(id, tn_ms_external(k->ms, 5)->request_id, sizeof(id));
    assert_true(kit_signal(k, "s", ""));
    assert_true(kit_poll(k));
    assert_true(external_done(6));
    assert_false(external_done(6));
    kit_crash(k);
    assert_null(tn_ms_external(k->ms, 6));
    assert_string_equal(tn_ms_external(k->ms, 5)->request_id, id);
    assert_string_not_equal(tn_ms_external_any(k->ms, 6)->request_id, id);
    kit_poll(k);
    assert_true(kit_complete_none(k));
    KIT_EXPECT(k, BEGIN
               " SignalExtInitiated CancelExtInitiated Signaled WtScheduled WtStarted WtCompleted "
               "ExtCancelRequested WtScheduled");
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(timers_fire_together_in_order),
        TEST(a_cancelled_timer_does_not_fire),
        TEST(an_id_is_used_again_over_a_firing),
        TEST(both_timers_of_an_id_are_cancelled),
        TEST(many_timers),
        TEST(a_child_starts_and_closes),
        TEST(closings_carry_what_the_child_said),
        TEST(a_child_cannot_start),
        TEST(a_short_child_meets_a_started_task),
        TEST(request_ids_outlive_a_crash),
        TEST(a_closed_parent_starts_no_child),
        TEST(requests_succeed),
        TEST(requests_fail),
        TEST(requests_meet_a_started_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
