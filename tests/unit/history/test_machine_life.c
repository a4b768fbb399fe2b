/* SPDX-License-Identifier: MIT */
/* Stickiness, heartbeats, the ends of a run and the runs that follow, event by event.  What is
 * expected here was compared with the reference server. */
#include "machine_kit.h"

/* ---- heartbeats, stickiness, inline tasks ---------------------------------------------------- */

static void set_sticky(kit *k,
                       Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r)
{
    r->sticky_attributes =
        TN_MSG(k->arena, temporal__api__taskqueue__v1__sticky_execution_attributes);
    r->sticky_attributes->worker_task_queue = kit_queue(k, "sticky", 2);
    r->sticky_attributes->schedule_to_start_timeout = kit_seconds(k, 5);
}

static void test_sticky(void **state)
{
    kit k;
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r;
    const Temporal__Api__Taskqueue__V1__TaskQueue *q;
    (void)state;

    kit_open(&k, 17);
    kit_start(&k);
    kit_poll(&k);
    r = kit_complete_request(&k, 0, NULL);
    set_sticky(&k, r);
    kit_complete_with(&k, kit_token(&k), r, NULL);
    kit_signal(&k, "a", "");
    q = kit_event(&k, 6)->workflow_task_scheduled_event_attributes->task_queue;
    assert_string_equal(q->name, "sticky");
    assert_string_equal(q->normal_name, "tq");
    assert_int_equal(q->kind, 2);
    assert_true(k.ms->wft.sticky);
    kit_wait(&k, 6);
    KIT_EXPECT(
        &k,
        "Started WtScheduled WtStarted WtCompleted Signaled WtScheduled WtTimedOut WtScheduled");
    assert_int_equal(kit_event(&k, 7)->workflow_task_timed_out_event_attributes->timeout_type, 2);
    assert_int_equal(kit_event(&k, 8)->workflow_task_scheduled_event_attributes->task_queue->kind,
                     1);
    assert_int_equal(kit_event(&k, 8)->workflow_task_scheduled_event_attributes->attempt, 1);
    assert_null(k.ms->sticky_queue);
    /* a failure on the sticky queue isn't counted */
    kit_poll(&k);
    r = kit_complete_request(&k, 0, NULL);
    set_sticky(&k, r);
    kit_complete_with(&k, kit_token(&k), r, NULL);
    kit_signal(&k, "b", "");
    kit_poll(&k);
    kit_fail_wft(&k);
    assert_int_equal(k.ms->wft.attempt, 1);
    assert_false(k.ms->wft.transient);
    assert_null(k.ms->sticky_queue);
    kit_close(&k);
}

static void test_unstick(void **state)
{
    kit k;
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r;
    tn_tx *tx;
    (void)state;

    kit_open(&k, 18);
    kit_start(&k);
    kit_poll(&k);
    r = kit_complete_request(&k, 0, NULL);
    set_sticky(&k, r);
    kit_complete_with(&k, kit_token(&k), r, NULL);
    kit_signal(&k, "a", "");
    tx = kit_begin(&k);
    kit_end(&k, tn_machine_wft_unstick(tx));
    assert_false(k.ms->wft.sticky);
    assert_non_null(k.ms->sticky_queue); /* until somebody else takes it */
    kit_poll(&k);
    assert_null(k.ms->sticky_queue);
    kit_complete_none(&k); /* its record says that the stickiness is gone */
    KIT_EXPECT(
        &k, "Started WtScheduled WtStarted WtCompleted Signaled WtScheduled WtStarted WtCompleted");
    kit_crash(&k);
    assert_null(k.ms->sticky_queue);
    kit_close(&k);
}

static void test_heartbeat(void **state)
{
    kit k;
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r;
    tn_wft_completed_out out;
    uint64_t since;
    (void)state;

    kit_open(&k, 19);
    kit_start(&k);
    since = k.now_ns;
    kit_poll(&k);
    r = kit_complete_request(&k, 0, NULL);
    r->force_create_new_workflow_task = true;
    r->return_new_workflow_task = true;
    k.now_ns += 8 * TN_SEC;
    assert_true(kit_complete_with(&k, kit_token(&k), r, &out));
    assert_true(out.new_wft_wanted_inline);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted WtScheduled WtStarted");
    assert_string_equal(kit_event(&k, 6)->workflow_task_started_event_attributes->request_id,
                        "request-from-RespondWorkflowTaskCompleted");
    kit_crash(&k); /* that start was committed */
    assert_true(tn_ms_wft_started(k.ms));
    assert_int_equal(k.ms->wft.original_scheduled_ns, since);
    k.now_ns = since + 31 * 60 * TN_SEC;
    assert_false(kit_complete_with(&k, kit_token(&k), r, &out));
    assert_true(tn_str_is(k.fault->message, "workflow task heartbeat timeout"));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted WtScheduled WtStarted WtTimedOut");
    assert_int_equal(k.ms->wft.attempt, 2);
    kit_close(&k);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void test_terminate(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 20);
    kit_start(&k);
    kit_terminate(&k);
    KIT_EXPECT(&k, "Started WtScheduled Terminated");
    kit_close(&k);
    kit_open(&k, 20);
    kit_start(&k);
    kit_poll(&k);
    kit_signal(&k, "a", "");
    kit_terminate(&k);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed Signaled Terminated");
    assert_int_equal(kit_event(&k, 4)->workflow_task_failed_event_attributes->cause, 17);
    assert_string_equal(kit_event(&k, 4)->workflow_task_failed_event_attributes->identity,
                        "history-service");
    kit_close(&k);
}

static void test_delete(void **state)
{
    kit k;
    uint64_t due;
    (void)state;

    kit_open(&k, 20);
    kit_start(&k);
    kit_poll(&k);
    kit_delete(&k);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed Terminated");
    assert_string_equal(kit_event(&k, 5)->workflow_execution_terminated_event_attributes->reason,
                        "Delete workflow execution");
    due = k.ms->retention_due_ns;
    assert_true(due <= k.now_ns);
    assert_int_equal(tn_ms_wake_ns(k.ms), due);
    kit_wait(&k, 5);
    kit_delete(&k); /* once more changes nothing */
    assert_int_equal(k.ms->retention_due_ns, due);
    kit_close(&k);

    kit_open(&k, 20);
    kit_start(&k);
    kit_terminate(&k);
    assert_true(k.ms->retention_due_ns > k.now_ns);
    kit_delete(&k);
    KIT_EXPECT(&k, "Started WtScheduled Terminated");
    assert_true(k.ms->retention_due_ns <= k.now_ns);
    kit_close(&k);
}

static void test_run_timeout(void **state)
{
    kit k;
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r;
    (void)state;

    kit_open(&k, 21);
    r = kit_start_request(&k);
    r->workflow_run_timeout = kit_seconds(&k, 20);
    kit_start_with(&k, r);
    kit_wait(&k, 15);
    kit_poll(&k);
    kit_wait(&k, 6);
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed TimedOut");
    assert_int_equal(k.ms->status, 7);
    assert_int_equal(kit_event(&k, 5)->workflow_execution_timed_out_event_attributes->retry_state,
                     5);
    kit_close(&k);
    kit_open(&k, 21);
    r = kit_start_request(&k);
    r->workflow_execution_timeout = kit_seconds(&k, 20);
    r->workflow_run_timeout = kit_seconds(&k, 20);
    kit_start_with(&k, r);
    kit_wait(&k, 21);
    KIT_EXPECT(&k, "Started WtScheduled TimedOut");
    assert_int_equal(kit_event(&k, 3)->workflow_execution_timed_out_event_attributes->retry_state,
                     3);
    kit_close(&k);
}

static void test_continue_as_new(void **state)
{
    kit k;
    const tn_started_attrs *a;
    char first[37];
    (void)state;

    kit_open(&k, 22);
    k.follow = true;
    kit_start(&k);
    memcpy(first, k.ms->run_id_text, sizeof(first));
    kit_wait(&k, 5);
    kit_poll(&k);
    assert_true(KIT_COMPLETE(&k, kit_cmd_continue(&k)));
    assert_int_equal(k.closed->status, 6);
    assert_string_equal(k.closed->new_run_id, k.ms->run_id_text);
    KIT_EXPECT(&k, "Started WtScheduled");
    a = kit_event(&k, 1)->workflow_execution_started_event_attributes;
    assert_string_equal(a->continued_execution_run_id, first);
    assert_string_equal(a->first_execution_run_id, first);
    assert_string_equal(a->original_execution_run_id, k.ms->run_id_text);
    assert_int_equal(a->initiator, 1);
    assert_string_equal(a->workflow_type->name, "W");
    assert_int_equal(a->prev_auto_reset_points->n_points, 1);
    assert_int_equal(a->prev_auto_reset_points->points[0]->first_workflow_task_completed_id, 4);
    assert_non_null(a->prev_auto_reset_points->points[0]->expire_time);
    kit_check_fold(&k);
    /* at once: slowed down to one run a second */
    kit_poll(&k);
    k.now_ns += TN_SEC / 4;
    assert_true(KIT_COMPLETE(&k, kit_cmd_continue(&k)));
    KIT_EXPECT(&k, "Started");
    a = kit_event(&k, 1)->workflow_execution_started_event_attributes;
    assert_int_equal(tn_duration_ns(a->first_workflow_task_backoff), TN_SEC * 3 / 4);
    assert_int_equal(a->prev_auto_reset_points->n_points, 1);
    kit_wait(&k, 1);
    KIT_EXPECT(&k, "Started WtScheduled");
    kit_close(&k);
}

static void test_retry(void **state)
{
    kit k;
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r;
    const tn_started_attrs *a;
    tn_event *last;
    (void)state;

    kit_open(&k, 23);
    k.follow = true;
    r = kit_start_request(&k);
    r->retry_policy = TN_MSG(k.arena, temporal__api__common__v1__retry_policy);
    r->retry_policy->initial_interval = kit_seconds(&k, 4);
    r->retry_policy->backoff_coefficient = 2;
    r->retry_policy->maximum_attempts = 2;
    kit_start_with(&k, r);
    kit_poll(&k);
    assert_true(KIT_COMPLETE(&k, kit_cmd_fail(&k, "T")));
    assert_int_equal(k.closed->status, 3);
    assert_string_equal(k.closed->new_run_id, k.ms->run_id_text);
    KIT_EXPECT(&k, "Started");
    a = kit_event(&k, 1)->workflow_execution_started_event_attributes;
    assert_int_equal(a->attempt, 2);
    assert_int_equal(a->initiator, 2);
    assert_string_equal(a->continued_failure->message, "no");
    assert_int_equal(tn_duration_ns(a->first_workflow_task_backoff), 4 * TN_SEC);
    kit_wait(&k, 5);
    kit_poll(&k);
    assert_true(KIT_COMPLETE(&k, kit_cmd_fail(&k, "T")));
    last = kit_event(&k, 5);
    assert_int_equal(last->workflow_execution_failed_event_attributes->retry_state, 4);
    assert_int_equal(k.ms->status, 3);
    kit_close(&k);
}

static void test_cron(void **state)
{
    kit k;
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r;
    const tn_started_attrs *a;
    (void)state;

    kit_open(&k, 24);
    k.follow = true;
    r = kit_start_request(&k);
    r->cron_schedule = (char *)"@every 10s";
    kit_start_with(&k, r);
    a = kit_event(&k, 1)->workflow_execution_started_event_attributes;
    assert_int_equal(a->initiator, 3);
    assert_int_equal(tn_duration_ns(a->first_workflow_task_backoff), 10 * TN_SEC);
    kit_wait(&k, 11);
    kit_poll(&k);
    assert_true(KIT_COMPLETE(&k, kit_cmd_complete(&k)));
    assert_int_equal(k.closed->status, 2);
    a = kit_event(&k, 1)->workflow_execution_started_event_attributes;
    assert_int_equal(a->initiator, 3);
    assert_int_equal(a->attempt, 1);
    assert_non_null(a->last_completion_result);
    assert_string_equal(a->continued_execution_run_id, k.closed->run_id_text);
    kit_close(&k);
}

static void test_limits(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 25);
    k.limits.history_count_max = 6;
    kit_start(&k);
    for (int i = 0; i < 8 && tn_ms_running(k.ms); i++)
        kit_signal(&k, "a", "");
    KIT_EXPECT(&k, "Started WtScheduled Signaled Signaled Signaled Signaled Signaled Terminated");
    assert_string_equal(kit_event(&k, 8)->workflow_execution_terminated_event_attributes->reason,
                        "Workflow history count exceeds limit.");
    kit_close(&k);
    kit_open(&k, 26);
    k.limits.signals_max = 2;
    kit_start(&k);
    assert_true(kit_signal(&k, "a", ""));
    kit_poll(&k);
    assert_true(kit_signal(&k, "a", ""));
    assert_false(kit_signal(&k, "a", ""));
    assert_true(tn_str_is(k.fault->message, "exceeded workflow execution limit for signal events"));
    kit_close(&k);
}

static void test_transaction_limit(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 31);
    k.limits.transaction_bytes_max = 100;
    kit_start(&k);
    kit_poll(&k);
    assert_false(KIT_COMPLETE(&k, kit_cmd_timer(&k, "a", 5), kit_cmd_timer(&k, "b", 5),
                              kit_cmd_timer(&k, "c", 5), kit_cmd_timer(&k, "d", 5),
                              kit_cmd_timer(&k, "e", 5), kit_cmd_timer(&k, "f", 5),
                              kit_cmd_timer(&k, "g", 5), kit_cmd_timer(&k, "h", 5)));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtFailed Terminated");
    assert_string_equal(kit_event(&k, 5)->workflow_execution_terminated_event_attributes->reason,
                        "Transaction size exceeds limit.");
    kit_close(&k);
}

static void test_memo(void **state)
{
    kit k;
    (void)state;

    kit_open(&k, 27);
    kit_start(&k);
    kit_poll(&k);
    assert_true(KIT_COMPLETE(&k, kit_cmd_memo(&k, "b", "1"), kit_cmd_memo(&k, "a", "2")));
    KIT_EXPECT(&k, "Started WtScheduled WtStarted WtCompleted Properties Properties");
    assert_int_equal(k.ms->memo.count, 2);
    assert_string_equal(k.ms->memo.items[0].name, "a");
    kit_signal(&k, "s", "");
    kit_poll(&k);
    assert_true(KIT_COMPLETE(&k, kit_cmd_memo(&k, "b", "null")));
    assert_int_equal(k.ms->memo.count, 1);
    kit_close(&k);
}

static void test_held_child(void **state)
{
    kit k;
    tn_tx *tx;
    (void)state;

    kit_open(&k, 28);
    tx = kit_begin(&k);
    kit_end(&k, tn_machine_start(
                    tx, &(tn_start){.request = kit_start_request(&k),
                                    .hold = true,
                                    .parent_ns_id = k.env.ns_id,
                                    .parent_ns_name = k.env.ns_name,
                                    .parent_workflow_id = TN_STR("p"),
                                    .parent_run_id = TN_STR("11111111-1111-4111-8111-111111111111"),
                                    .root_workflow_id = TN_STR("p"),
                                    .root_run_id = TN_STR("11111111-1111-4111-8111-111111111111"),
                                    .parent_initiated_id = 5}));
    KIT_EXPECT(&k, "Started");
    assert_int_equal(tn_ms_wake_ns(k.ms), 0);
    kit_signal(&k, "early", "");
    KIT_EXPECT(&k, "Started Signaled");
    tx = kit_begin(&k);
    kit_end(&k, tn_machine_release(tx));
    KIT_EXPECT(&k, "Started Signaled WtScheduled");
    tx = kit_begin(&k);
    kit_end(&k, tn_machine_release(tx));
    KIT_EXPECT(&k, "Started Signaled WtScheduled");
    kit_close(&k);
}

static void test_describe(void **state)
{
    kit k;
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__DESCRIBE_WORKFLOW_EXECUTION_RESPONSE__INIT;
    (void)state;

    kit_open(&k, 29);
    kit_start(&k);
    kit_poll(&k);
    tn_machine_describe(k.ms, k.arena, k.now_ns, &out);
    assert_string_equal(out.workflow_execution_info->type->name, "W");
    assert_int_equal(out.workflow_execution_info->status, 1);
    assert_int_equal(out.workflow_execution_info->history_length, 3);
    assert_int_equal(out.pending_workflow_task->state, 2);
    assert_string_equal(out.execution_config->task_queue->name, "tq");
    assert_string_equal(out.workflow_extended_info->request_id_infos[0]->key, "start-1");
    KIT_COMPLETE(&k, kit_cmd_complete(&k));
    out = (Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse)
        TEMPORAL__API__WORKFLOWSERVICE__V1__DESCRIBE_WORKFLOW_EXECUTION_RESPONSE__INIT;
    tn_machine_describe(k.ms, k.arena, k.now_ns, &out);
    assert_int_equal(out.workflow_execution_info->status, 2);
    assert_non_null(out.workflow_execution_info->close_time);
    assert_null(out.pending_workflow_task);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sticky),      cmocka_unit_test(test_unstick),
        cmocka_unit_test(test_heartbeat),   cmocka_unit_test(test_terminate),
        cmocka_unit_test(test_run_timeout), cmocka_unit_test(test_continue_as_new),
        cmocka_unit_test(test_retry),       cmocka_unit_test(test_cron),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_transaction_limit),
        cmocka_unit_test(test_memo),        cmocka_unit_test(test_held_child),
        cmocka_unit_test(test_describe),    cmocka_unit_test(test_delete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
