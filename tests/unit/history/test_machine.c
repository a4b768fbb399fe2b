/* SPDX-License-Identifier: MIT */
/* The life of a run and of its workflow tasks, event by event.  What is expected here was
 * compared with the reference server. */
#include "machine_kit.h"

/* ---- start and plain tasks ------------------------------------------------------------------- */

static void test_noop(void **state)
{
    kit k;
    tn_event *e;
    (void)state;

    kit_open(&k, 1);
    assert_true(kit_start(&k));
    KIT_EXPECT(&k, "Started WtScheduled");
    assert_true(kit_poll(&k));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted");
    assert_int_equal(k.n_records, 1); /* a start is not worth a commit */
    assert_true(KIT_COMPLETE(&k, kit_cmd_complete(&k)));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted Completed");
    assert_int_equal(k.n_records, 2);
    assert_int_equal(k.ms->status, 2);
    assert_int_equal(tn_ms_deadline_ns(k.ms), UINT64_MAX);
    assert_int_equal(tn_ms_wake_ns(k.ms), k.ms->retention_due_ns);
    e = kit_event(&k, 1);
    assert_string_equal(e->workflow_execution_started_event_attributes->first_execution_run_id,
                        k.ms->run_id_text);
    assert_non_null(e->workflow_execution_started_event_attributes->first_workflow_task_backoff);
    assert_int_equal(e->workflow_execution_started_event_attributes->attempt, 1);
    assert_int_equal(e->workflow_execution_started_event_attributes->workflow_task_timeout->seconds,
                     10);
    e = kit_event(&k, 3);
    assert_int_equal(e->workflow_task_started_event_attributes->scheduled_event_id, 2);
    assert_true(e->workflow_task_started_event_attributes->history_size_bytes > 0);
    e = kit_event(&k, 5);
    assert_int_equal(
        e->workflow_execution_completed_event_attributes->workflow_task_completed_event_id, 4);
    /* closed: nothing more */
    assert_false(kit_signal(&k, "s", ""));
    assert_int_equal(k.fault->code, TN_GRPC_NOT_FOUND);
    assert_true(tn_str_is(k.fault->message, "workflow execution already completed"));
    assert_true(kit_cancel(&k));
    assert_false(kit_terminate(&k));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted Completed");
    kit_close(&k);
}

static void test_activity(void **state)
{
    kit k;
    bool durable;
    tn_activity *a;
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *r;
    Tenon__TaskToken *token;
    (void)state;

    kit_open(&k, 2);
    kit_start(&k);
    kit_poll(&k);
    assert_true(KIT_COMPLETE(&k, kit_cmd_activity(&k, "a", 5)));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted ActScheduled");
    a = tn_ms_activity(k.ms, 5);
    assert_non_null(a);
    tn_tx *tx = kit_begin(&k);
    assert_true(kit_end(&k, tn_machine_activity_start(
                                tx, 5, a->stamp, &(tn_poller){.identity = TN_STR("w")}, &durable)));
    assert_false(durable);
    token = TN_MSG(k.arena, tenon__task_token);
    token->scheduled_id = 5;
    token->attempt = 1;
    token->nonce = a->nonce;
    token->started_ns = a->started_ns;
    r = TN_MSG(k.arena,
               temporal__api__workflowservice__v1__respond_activity_task_completed_request);
    r->identity = (char *)"w";
    tx = kit_begin(&k);
    assert_true(kit_end(&k, tn_machine_activity_completed(tx, token, (tn_str){NULL, 0}, r)));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted ActScheduled ActStarted ActCompleted "
                   "WtScheduled");
    kit_poll(&k);
    assert_true(KIT_COMPLETE(&k, kit_cmd_complete(&k)));
    assert_int_equal(k.n_records, 4);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted ActScheduled ActStarted ActCompleted "
                   "WtScheduled "
                   "WtStarted WtCompleted Completed");
    kit_close(&k);
}

static void test_signal_with_start(void **state)
{
    kit k;
    Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest *s;
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r;
    tn_tx *tx;
    (void)state;

    kit_open(&k, 3);
    r = kit_start_request(&k);
    s = TN_MSG(k.arena,
               temporal__api__workflowservice__v1__signal_with_start_workflow_execution_request);
    s->workflow_type = r->workflow_type;
    s->task_queue = r->task_queue;
    s->signal_name = (char *)"hello";
    s->request_id = (char *)"both";
    s->workflow_start_delay = kit_seconds(&k, 30);
    tx = kit_begin(&k);
    assert_true(kit_end(&k, tn_machine_start(tx, &(tn_start){.signal = s})));
    KIT_EXPECT(&k, "Started Signaled"); /* the delay holds */
    kit_signal(&k, "more", "");
    KIT_EXPECT(&k, "Started Signaled Signaled");
    tx = kit_begin(&k);
    assert_true(kit_end(&k, tn_machine_signal_with_start(tx, s))); /* seen: nothing */
    KIT_EXPECT(&k, "Started Signaled Signaled");
    s->request_id = (char *)"again";
    tx = kit_begin(&k);
    assert_true(kit_end(&k, tn_machine_signal_with_start(tx, s)));
    KIT_EXPECT(&k, "Started Signaled Signaled Signaled WtScheduled");
    kit_close(&k);
}

static void test_start_delay(void **state)
{
    kit k;
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r;
    (void)state;

    kit_open(&k, 4);
    r = kit_start_request(&k);
    r->workflow_start_delay = kit_seconds(&k, 30);
    r->workflow_run_timeout = kit_seconds(&k, 60);
    kit_start_with(&k, r);
    assert_int_equal(tn_ms_deadline_ns(k.ms), k.now_ns + 30 * TN_SEC);
    kit_wait(&k, 29);
    KIT_EXPECT(&k, "Started");
    kit_wait(&k, 2);
    KIT_EXPECT(&k, "Started WtScheduled");
    assert_int_equal(k.ms->run_expire_ns, k.ms->start_ns + 90 * TN_SEC);
    kit_close(&k);
    /* a cancel request doesn't wait */
    kit_open(&k, 4);
    r = kit_start_request(&k);
    r->workflow_start_delay = kit_seconds(&k, 30);
    kit_start_with(&k, r);
    kit_cancel(&k);
    KIT_EXPECT(&k, "Started CancelRequested WtScheduled");
    kit_wait(&k, 31);
    KIT_EXPECT(&k, "Started CancelRequested WtScheduled");
    kit_close(&k);
}

static void test_cancel(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 5);
    kit_start(&k);
    kit_poll(&k);
    kit_cancel(&k);
    assert_true(k.ms->cancel_requested_id == TN_ID_BUFFERED);
    kit_cancel(&k);
    kit_complete_none(&k);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted CancelRequested WtScheduled");
    assert_int_equal(k.ms->cancel_requested_id, 5);
    kit_poll(&k);
    KIT_COMPLETE(&k, kit_cmd_cancel(&k));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted CancelRequested WtScheduled "
                   "WtStarted WtCompleted "
                   "Canceled");
    assert_int_equal(k.ms->status, 4);
    kit_close(&k);
}

/* ---- the buffer ------------------------------------------------------------------------------ */

static void test_buffered_signal(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 6);
    kit_start(&k);
    kit_poll(&k);
    kit_signal(&k, "a", "id-a");
    kit_signal(&k, "a", "id-a"); /* the same: once */
    kit_signal(&k, "b", "id-b");
    assert_int_equal(k.ms->n_buffered, 2);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted");
    assert_true(KIT_COMPLETE(&k, kit_cmd_timer(&k, "t", 60)));
    KIT_EXPECT(
        &k, "Started WtScheduled WtStarted WtCompleted TimerStarted Signaled Signaled WtScheduled");
    assert_int_equal(k.ms->signal_count, 2);
    kit_signal(&k, "a", "id-a");
    KIT_EXPECT(
        &k, "Started WtScheduled WtStarted WtCompleted TimerStarted Signaled Signaled WtScheduled");
    kit_close(&k);
}

static void test_unhandled_command(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 7);
    kit_start(&k);
    kit_poll(&k);
    kit_signal(&k, "a", "");
    assert_false(KIT_COMPLETE(&k, kit_cmd_complete(&k)));
    assert_int_equal(k.fault->code, TN_GRPC_INVALID_ARGUMENT);
    assert_true(tn_str_is(k.fault->message, "UnhandledCommand"));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed Signaled WtScheduled");
    assert_int_equal(kit_event(&k, 4)->workflow_task_failed_event_attributes->cause, 1);
    assert_string_equal(kit_event(&k, 4)->workflow_task_failed_event_attributes->failure->message,
                        "UnhandledCommand");
    assert_int_equal(kit_event(&k, 6)->workflow_task_scheduled_event_attributes->attempt, 1);
    /* it wants to close: signals are sent away while it tries again */
    kit_poll(&k);
    assert_false(kit_signal(&k, "late", ""));
    assert_int_equal(k.fault->code, TN_GRPC_RESOURCE_EXHAUSTED);
    assert_true(KIT_COMPLETE(&k, kit_cmd_complete(&k)));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed Signaled WtScheduled WtStarted "
                   "WtCompleted Completed");
    kit_close(&k);
}

static void test_buffered_timer_cancelled(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 8);
    kit_start(&k);
    kit_poll(&k);
    KIT_COMPLETE(&k, kit_cmd_timer(&k, "t", 5));
    kit_signal(&k, "a", "");
    kit_poll(&k);
    kit_wait(&k, 6);
    assert_int_equal(k.ms->n_buffered, 1);
    assert_null(tn_ms_timer(k.ms, TN_STR("t")));
    assert_true(KIT_COMPLETE(&k, kit_cmd_cancel_timer(&k, "t"), kit_cmd_complete(&k)));
    KIT_EXPECT(
        &k, "Started WtScheduled WtStarted WtCompleted TimerStarted Signaled WtScheduled WtStarted "
            "WtCompleted TimerCanceled Completed");
    kit_close(&k);
}

static void test_buffer_limit(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 9);
    k.limits.buffered_events_max = 3;
    kit_start(&k);
    kit_poll(&k);
    for (int i = 0; i < 4; i++)
        kit_signal(&k, "a", "");
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed Signaled Signaled Signaled Signaled");
    assert_true(k.ms->wft.transient);
    assert_int_equal(k.ms->wft.attempt, 2);
    assert_int_equal(kit_event(&k, 4)->workflow_task_failed_event_attributes->cause, 17);
    kit_close(&k);
}

/* ---- failing tasks --------------------------------------------------------------------------- */

static void test_transient(void **state)
{
    kit k;
    tn_blob suffix;
    (void)state;

    kit_open(&k, 10);
    kit_start(&k);
    kit_poll(&k);
    kit_fail_wft(&k);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed");
    assert_true(k.ms->wft.transient);
    assert_int_equal(k.ms->wft.attempt, 2);
    assert_int_equal(k.ms->wft.scheduled_id, 5);
    suffix = tn_machine_wft_transient_events(k.ms, k.arena, true);
    assert_true(suffix.n > 0);
    kit_poll(&k);
    assert_int_equal(k.ms->wft.started_id, 6);
    kit_fail_wft(&k);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed");
    assert_int_equal(k.ms->wft.attempt, 3);
    kit_poll(&k);
    assert_true(KIT_COMPLETE(&k, kit_cmd_complete(&k)));
    KIT_EXPECT(
        &k, "Started WtScheduled WtStarted WtFailed WtScheduled WtStarted WtCompleted Completed");
    assert_int_equal(kit_event(&k, 5)->workflow_task_scheduled_event_attributes->attempt, 3);
    kit_close(&k);
}

static void test_transient_meets_signal(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 11);
    kit_start(&k);
    kit_poll(&k);
    kit_fail_wft(&k);
    kit_signal(&k, "a", ""); /* takes the id that the transient task had in mind */
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed Signaled");
    kit_poll(&k);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed Signaled WtScheduled WtStarted");
    assert_int_equal(k.ms->wft.attempt, 1);
    assert_int_equal(k.ms->wft.scheduled_id, 6);
    assert_true(KIT_COMPLETE(&k, kit_cmd_complete(&k)));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed Signaled WtScheduled WtStarted "
                   "WtCompleted Completed");
    kit_close(&k);
    /* a signal while the second attempt is with a worker */
    kit_open(&k, 11);
    kit_start(&k);
    kit_poll(&k);
    kit_fail_wft(&k);
    kit_poll(&k);
    kit_signal(&k, "a", "");
    kit_fail_wft(&k);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed Signaled WtScheduled");
    kit_close(&k);
}

static void test_wft_timeouts(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 12);
    kit_start(&k);
    kit_poll(&k);
    kit_wait(&k, 11);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtTimedOut");
    assert_int_equal(k.ms->wft.attempt, 2);
    for (int i = 0; i < 4; i++) {
        kit_poll(&k);
        kit_wait(&k, 1000);
    }
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtTimedOut");
    assert_int_equal(k.ms->wft.attempt, 6);
    assert_true(k.ms->wft.timeout_ns > 24 * TN_SEC && k.ms->wft.timeout_ns <= 30 * TN_SEC);
    assert_int_equal(k.ms->problem_count, 5);
    assert_string_equal(k.ms->problem_cause, "TimedOutCauseStartToClose");
    assert_int_equal(tn_machine_search_attributes(k.ms, k.arena)->n_indexed_fields, 1);
    kit_poll(&k);
    kit_complete_none(&k);
    assert_int_equal(tn_machine_search_attributes(k.ms, k.arena)->n_indexed_fields,
                     1); /* BuildIds */
    kit_close(&k);
}

static void test_bad_command(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 13);
    kit_start(&k);
    kit_poll(&k);
    /* the first command is fine, the second is not: nothing of either is left */
    assert_false(KIT_COMPLETE(&k, kit_cmd_timer(&k, "t", 5), kit_cmd_timer(&k, "t", 5)));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed");
    assert_int_equal(kit_event(&k, 4)->workflow_task_failed_event_attributes->cause, 12);
    assert_int_equal(k.ms->n_timers, 0);
    /* again: not even counted, the task times out */
    kit_poll(&k);
    assert_false(KIT_COMPLETE(&k, kit_cmd_timer(&k, "", 5)));
    assert_int_equal(k.fault->code, TN_GRPC_INVALID_ARGUMENT);
    assert_true(tn_ms_wft_started(k.ms));
    assert_int_equal(k.ms->wft.attempt, 2);
    kit_wait(&k, 11);
    assert_int_equal(k.ms->wft.attempt, 3);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed");
    kit_close(&k);
}

static void test_stale_tokens(void **state)
{
    kit k;
    Tenon__TaskToken *token;
    (void)state;

    kit_open(&k, 14);
    kit_start(&k);
    kit_poll(&k);
    token = kit_token(&k);
    kit_wait(&k, 11);
    assert_false(kit_complete_with(&k, token, kit_complete_request(&k, 0, NULL), NULL));
    assert_true(tn_str_is(k.fault->message, "Workflow task not found."));
    kit_poll(&k);
    assert_false(kit_complete_with(&k, token, kit_complete_request(&k, 0, NULL), NULL));
    token = kit_token(&k);
    token->nonce ^= 2;
    assert_false(kit_complete_with(&k, token, kit_complete_request(&k, 0, NULL), NULL));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtTimedOut");
    kit_close(&k);
}

/* ---- a start that a crash has lost ----------------------------------------------------------- */

static void test_lost_start(void **state)
{
    kit k;
    Tenon__TaskToken *token;
    (void)state;

    kit_open(&k, 15);
    kit_start(&k);
    kit_poll(&k);
    token = kit_token(&k);
    kit_crash(&k);
    KIT_EXPECT(&k, "Started WtScheduled");
    assert_false(tn_ms_wft_started(k.ms));
    assert_int_equal(tn_ms_wake_ns(k.ms), 0);
    k.now_ns += TN_SEC;
    assert_true(kit_complete_with(
        &k, token, kit_complete_request(&k, 1, (kit_command *[]){kit_cmd_complete(&k)}), NULL));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted Completed");
    assert_int_equal(tn_event_time_ns(kit_event(&k, 3)), token->started_ns);
    assert_false(kit_complete_with(&k, token, kit_complete_request(&k, 0, NULL), NULL));
    kit_close(&k);
    /* handed out again meanwhile: the first worker is too late */
    kit_open(&k, 15);
    kit_start(&k);
    kit_poll(&k);
    token = kit_token(&k);
    kit_crash(&k);
    k.now_ns += TN_SEC;
    kit_poll(&k);
    assert_false(kit_complete_with(&k, token, kit_complete_request(&k, 0, NULL), NULL));
    assert_true(kit_complete_none(&k));
    kit_close(&k);
    /* something has happened meanwhile */
    kit_open(&k, 15);
    kit_start(&k);
    kit_poll(&k);
    token = kit_token(&k);
    kit_crash(&k);
    kit_signal(&k, "a", "");
    assert_false(kit_complete_with(&k, token, kit_complete_request(&k, 0, NULL), NULL));
    KIT_EXPECT(&k, "Started WtScheduled Signaled");
    kit_close(&k);
}

static void test_unstart(void **state)
{
    kit k;
    uint64_t nonce;
    (void)state;

    kit_open(&k, 16);
    kit_start(&k);
    kit_poll(&k);
    nonce = k.ms->wft.nonce;
    assert_false(tn_machine_wft_unstart(k.ms, nonce + 2));
    assert_true(tn_machine_wft_unstart(k.ms, nonce));
    k.history.n -= k.tail.n;
    k.tail.n = 0;
    k.held_back = false;
    assert_int_equal(k.ms->next_event_id, 3);
    kit_check_fold(&k);
    kit_signal(&k, "a", "");
    KIT_EXPECT(&k, "Started WtScheduled Signaled");
    kit_poll(&k);
    kit_signal(&k, "b", ""); /* committed with the start */
    assert_false(tn_machine_wft_unstart(k.ms, k.ms->wft.nonce));
    kit_close(&k);
}

/* ---- damaged records ------------------------------------------------------------------------- */

static void test_damage(void **state)
{
    kit k;
    tn_error err = {0};
    (void)state;

    kit_open(&k, 30);
    kit_start(&k);
    kit_poll(&k);
    KIT_COMPLETE(&k, kit_cmd_timer(&k, "t", 5));
    kit_signal(&k, "a", "");
    /* a record is missing */
    tn_blob gone = k.records[1];
    memmove(&k.records[1], &k.records[2], (k.n_records - 2) * sizeof(k.records[0]));
    k.n_records--;
    assert_null(kit_fold(&k, &err));
    assert_int_equal(err.code, TN_EDATALOSS);
    free((void *)(uintptr_t)gone.p);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noop),
        cmocka_unit_test(test_activity),
        cmocka_unit_test(test_signal_with_start),
        cmocka_unit_test(test_start_delay),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_buffered_signal),
        cmocka_unit_test(test_unhandled_command),
        cmocka_unit_test(test_buffered_timer_cancelled),
        cmocka_unit_test(test_buffer_limit),
        cmocka_unit_test(test_transient),
        cmocka_unit_test(test_transient_meets_signal),
        cmocka_unit_test(test_wft_timeouts),
        cmocka_unit_test(test_bad_command),
        cmocka_unit_test(test_stale_tokens),
        cmocka_unit_test(test_lost_start),
        cmocka_unit_test(test_unstart),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
