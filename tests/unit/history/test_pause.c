/* SPDX-License-Identifier: MIT */
/* What operators do to a run: it and its activities stand still and go on, begin again, get other options; what is
 * listed and described meanwhile; and that a crash forgets nothing of it. */
#include "machine_kit.h"

#include "history/machine/parts.h"

typedef Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse description;
typedef Temporal__Api__Workflow__V1__PendingActivityInfo pending_info;

static kit kit_, *k = &kit_;

/* ---- words ----------------------------------------------------------------------------------- */

static bool pause_run(const char *reason, const char *request_id)
{
    Temporal__Api__Workflowservice__V1__PauseWorkflowExecutionRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__pause_workflow_execution_request);
    tn_tx *tx = kit_begin(k);

    r->identity = (char *)"operator";
    r->reason = (char *)(uintptr_t)reason;
    r->request_id = (char *)(uintptr_t)request_id;
    return kit_end(k, tn_machine_pause(tx, r));
}

static bool unpause_run(void)
{
    Temporal__Api__Workflowservice__V1__UnpauseWorkflowExecutionRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__unpause_workflow_execution_request);
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_unpause(tx, r));
}

static bool pause_activity(const char *id, const char *request_id)
{
    Temporal__Api__Workflowservice__V1__PauseActivityRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__pause_activity_request);
    tn_tx *tx = kit_begin(k);

    r->activity_case = TEMPORAL__API__WORKFLOWSERVICE__V1__PAUSE_ACTIVITY_REQUEST__ACTIVITY_ID;
    r->id = (char *)(uintptr_t)id;
    r->identity = (char *)"operator";
    r->reason = (char *)"because";
    r->request_id = (char *)(uintptr_t)request_id;
    return kit_end(k, tn_machine_pause_activity(tx, r));
}

static bool unpause_activities(bool attempts, double jitter_s)
{
    Temporal__Api__Workflowservice__V1__UnpauseActivityRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__unpause_activity_request);
    tn_tx *tx = kit_begin(k);

    r->activity_case =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UNPAUSE_ACTIVITY_REQUEST__ACTIVITY_UNPAUSE_ALL;
    r->unpause_all = true;
    r->reset_attempts = attempts;
    r->jitter = kit_seconds(k, jitter_s);
    return kit_end(k, tn_machine_unpause_activity(tx, r));
}

static bool reset_activities(bool keep_paused, bool heartbeats)
{
    Temporal__Api__Workflowservice__V1__ResetActivityRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__reset_activity_request);
    tn_tx *tx = kit_begin(k);

    r->activity_case = TEMPORAL__API__WORKFLOWSERVICE__V1__RESET_ACTIVITY_REQUEST__ACTIVITY_TYPE;
    r->type = (char *)"A";
    r->keep_paused = keep_paused;
    r->reset_heartbeat = heartbeats;
    return kit_end(k, tn_machine_reset_activity(tx, r));
}

static tn_activity *activity(void)
{
    tn_list *link = tn_list_first(&k->ms->activities);

    return link ? TN_CONTAINER_OF(link, tn_activity, link) : NULL;
}

static size_t n_wanted;

static void count(void *user, tn_want want, void *item)
{
    (void)user;
    (void)item;
    n_wanted += want == TN_WANT_ACTIVITY || want == TN_WANT_WFT;
}

static size_t wanted(void)
{
    n_wanted = 0;
    tn_ms_wants(k->ms, k->now_ns, count, NULL);
    return n_wanted;
}

static description *describe(void)
{
    description *out =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__describe_workflow_execution_response);

    tn_machine_describe(k->ms, k->arena, k->now_ns, out);
    return out;
}

static const char *pause_info(void)
{
    Temporal__Api__Common__V1__SearchAttributes *attrs =
        tn_machine_search_attributes(k->ms, k->arena);

    for (size_t i = 0; i < attrs->n_indexed_fields; i++)
        if (strcmp(attrs->indexed_fields[i]->key, "TemporalPauseInfo") == 0)
            return tn_arena_printf(k->arena, "%.*s", (int)attrs->indexed_fields[i]->value->data.len,
                                   (const char *)attrs->indexed_fields[i]->value->data.data);
    return "";
}

static void with_activity(void)
{
    kit_command *c;

    kit_open(k, 7);
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
    c = kit_cmd_activity(k, "a", 10);
    c->schedule_activity_task_command_attributes->retry_policy =
        TN_MSG(k->arena, temporal__api__common__v1__retry_policy);
    c->schedule_activity_task_command_attributes->retry_policy->initial_interval =
        kit_seconds(k, 4);
    c->schedule_activity_task_command_attributes->retry_policy->backoff_coefficient = 2;
    assert_true(KIT_COMPLETE(k, c));
    k->now_ns += TN_SEC;
}

static bool start_activity(void)
{
    bool durable;
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_activity_start(
                          tx, activity()->scheduled_id, activity()->stamp,
                          &(tn_poller){.identity = TN_STR("w"), .request_id = TN_STR("poll")},
                          &durable));
}

static Tenon__TaskToken *token(void)
{
    Tenon__TaskToken *t = TN_MSG(k->arena, tenon__task_token);

    t->scheduled_id = activity()->scheduled_id;
    t->attempt = activity()->attempt;
    t->nonce = activity()->nonce;
    t->started_ns = activity()->started_ns;
    return t;
}

static Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatResponse *beat(
    const Tenon__TaskToken *t)
{
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__record_activity_task_heartbeat_request);
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatResponse *out = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__record_activity_task_heartbeat_response);
    tn_tx *tx = kit_begin(k);

    r->details = kit_payloads(k, "beat");
    assert_true(kit_end(k, tn_machine_activity_heartbeat(tx, t, (tn_str){NULL, 0}, r, out)));
    return out;
}

static bool fail_attempt(const Tenon__TaskToken *t)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__respond_activity_task_failed_request);
    tn_tx *tx = kit_begin(k);

    r->failure = kit_cmd_fail(k, "T")->fail_workflow_execution_command_attributes->failure;
    return kit_end(k, tn_machine_activity_failed(tx, t, (tn_str){NULL, 0}, r));
}

static int32_t last_type(int64_t before_end)
{
    tn_wire_field f;
    tn_event *event = NULL;

    for (tn_wire_iter it = tn_wire_begin(tn_buf_blob(&k->history)); tn_wire_next(&it, &f);) {
        assert_int_equal(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, f.bytes,
                                         k->arena, &event, NULL),
                         TN_OK);
        if (event->event_id == k->ms->next_event_id - 1 - before_end)
            return (int32_t)event->event_type;
    }
    return 0;
}

static void end(void)
{
    assert_null(k->trouble);
    kit_close(k);
}

/* ---- runs ------------------------------------------------------------------------------------ */

static void test_pause_waiting_task(void **state)
{
    (void)state;
    kit_open(k, 1);
    assert_true(kit_start(k));
    assert_int_equal(k->ms->wft.scheduled_id, 2);
    assert_true(pause_run("maintenance \"1\"", "r1"));
    assert_int_equal(last_type(1), 9);
    assert_int_equal(last_type(0), 58);
    assert_int_equal(k->ms->status, 8);
    assert_int_equal(k->ms->wft.scheduled_id, 0);
    assert_int_equal(k->ms->problem_count, 0);
    assert_int_equal(wanted(), 0);
    assert_int_equal(describe()->workflow_execution_info->status, 8);
    assert_string_equal(describe()->workflow_extended_info->pause_info->reason,
                        "maintenance \"1\"");
    assert_string_equal(pause_info(), "[\"Workflow:wf\",\"Reason:maintenance \\\"1\\\"\"]");
    assert_true(pause_run("maintenance", "r1")); /* the same request again */
    assert_false(pause_run("maintenance", "r2"));
    assert_int_equal(k->fault->code, TN_GRPC_FAILED_PRECONDITION);
    kit_crash(k);
    assert_int_equal(k->ms->status, 8);
    assert_true(kit_signal(k, "s", "")); /* recorded, and no task */
    assert_int_equal(last_type(0), 26);
    assert_int_equal(wanted(), 0);
    assert_true(unpause_run());
    assert_int_equal(last_type(1), 59);
    assert_int_equal(last_type(0), 5);
    assert_int_equal(k->ms->status, 1);
    assert_int_equal(k->ms->wft.attempt, 1);
    assert_int_equal(wanted(), 1);
    assert_string_equal(pause_info(), "");
    assert_false(unpause_run());
    end();
}

/* A task that is with a worker goes on; the pause counts at once, its event comes later. */
static void test_pause_under_way(void **state)
{
    (void)state;
    kit_open(k, 2);
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
    assert_true(pause_run("", ""));
    assert_int_equal(k->ms->status, 8);
    assert_false(pause_run("", ""));
    kit_crash(k); /* the event is in the buffer, and its pause in force */
    assert_int_equal(k->ms->status, 8);
    assert_true(KIT_COMPLETE(k, kit_cmd_timer(k, "t", 5)));
    assert_int_equal(last_type(0), 58);
    assert_int_equal(k->ms->status, 8);
    assert_int_equal(k->ms->wft.scheduled_id, 0);
    k->now_ns += 6 * TN_SEC;
    assert_true(kit_fire(k)); /* timers fire; nobody is told */
    assert_int_equal(last_type(0), 18);
    assert_int_equal(k->ms->wft.scheduled_id, 0);
    assert_int_equal(tn_ms_deadline_ns(k->ms), UINT64_MAX);
    assert_true(unpause_run());
    assert_int_equal(last_type(0), 5);
    end();
}

static void test_pause_and_unpause_under_way(void **state)
{
    (void)state;
    kit_open(k, 3);
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
    assert_true(pause_run("", ""));
    assert_true(unpause_run());
    assert_int_equal(k->ms->status, 1);
    assert_true(kit_complete_none(k));
    assert_int_equal(k->ms->status, 1);
    assert_int_equal(last_type(0), 5); /* the two events are news */
    end();
}

static void test_pause_and_close(void **state)
{
    (void)state;
    kit_open(k, 4);
    k->follow = true;
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
    assert_true(pause_run("", ""));
    assert_false(KIT_COMPLETE(k, kit_cmd_continue(k))); /* what waits in the buffer is news to it */
    assert_int_equal(k->ms->status, 8);
    assert_int_equal(last_type(0), 58);
    assert_true(kit_terminate(k));
    assert_int_equal(k->ms->status, 5);
    end();
}

static void test_pause_before_delay_is_over(void **state)
{
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r;

    (void)state;
    kit_open(k, 5);
    r = kit_start_request(k);
    r->workflow_start_delay = kit_seconds(k, 30);
    assert_true(kit_start_with(k, r));
    assert_true(pause_run("", ""));
    assert_int_equal(tn_ms_deadline_ns(k->ms), UINT64_MAX);
    k->now_ns += 10 * TN_SEC;
    assert_true(unpause_run());
    assert_int_equal(k->ms->wft.scheduled_id, 0); /* the delay goes on */
    assert_true(pause_run("", ""));
    k->now_ns += 60 * TN_SEC;
    assert_true(kit_fire(k));
    assert_true(unpause_run());
    assert_int_equal(last_type(0), 5);
    end();
}

static void test_paused_run_times_out(void **state)
{
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r;

    (void)state;
    kit_open(k, 6);
    r = kit_start_request(k);
    r->workflow_run_timeout = kit_seconds(k, 30);
    assert_true(kit_start_with(k, r));
    assert_true(pause_run("", ""));
    k->now_ns += 31 * TN_SEC;
    assert_true(kit_fire(k));
    assert_int_equal(k->ms->status, 7);
    end();
}

static void test_paused_run_holds_activities(void **state)
{
    tn_tx *tx;
    bool durable;
    uint64_t stamp;

    (void)state;
    with_activity();
    assert_int_equal(wanted(), 1);
    stamp = activity()->stamp;
    assert_true(pause_run("", ""));
    assert_int_equal(wanted(), 0);
    tx = kit_begin(k); /* matching had it already */
    assert_false(
        kit_end(k, tn_machine_activity_start(tx, activity()->scheduled_id, stamp,
                                             &(tn_poller){.identity = TN_STR("w")}, &durable)));
    assert_true(unpause_run());
    activity()->dispatched = false;
    assert_true(wanted() >= 1);
    assert_true(start_activity());
    end();
}

/* ---- activities ------------------------------------------------------------------------------ */

static void test_pause_waiting_activity(void **state)
{
    const pending_info *info;

    (void)state;
    with_activity();
    assert_true(pause_activity("a", "r1"));
    assert_int_equal(wanted(), 0);
    assert_false(start_activity());
    info = describe()->pending_activities[0];
    assert_true(info->paused);
    assert_int_equal(
        info->state,
        TEMPORAL__API__ENUMS__V1__PENDING_ACTIVITY_STATE__PENDING_ACTIVITY_STATE_PAUSED);
    assert_string_equal(info->pause_info->manual->reason, "because");
    assert_string_equal(pause_info(), "[\"property:activityType=A\"]");
    assert_true(pause_activity("a", "r1"));
    assert_false(pause_activity("a", "r2"));
    assert_false(pause_activity("nobody", "r1"));
    assert_int_equal(k->fault->code, TN_GRPC_NOT_FOUND);
    k->now_ns += 3600 * TN_SEC; /* its clocks stand still */
    assert_true(kit_fire(k));
    kit_crash(k);
    assert_non_null(activity()->pause);
    assert_true(unpause_activities(false, 5));
    assert_string_equal(pause_info(), "");
    assert_true(activity()->attempt_scheduled_ns >= k->now_ns);
    assert_true(activity()->attempt_scheduled_ns < k->now_ns + 5 * TN_SEC);
    k->now_ns += 5 * TN_SEC;
    assert_true(start_activity());
    end();
}

static void test_pause_running_activity(void **state)
{
    (void)state;
    with_activity();
    assert_true(start_activity());
    assert_true(pause_activity("a", "r1"));
    assert_true(beat(token())->activity_paused);
    assert_int_equal(
        describe()->pending_activities[0]->state,
        TEMPORAL__API__ENUMS__V1__PENDING_ACTIVITY_STATE__PENDING_ACTIVITY_STATE_PAUSE_REQUESTED);
    assert_true(fail_attempt(token()));
    assert_int_equal(activity()->attempt, 2);
    assert_non_null(describe()->pending_activities[0]->last_failure);
    assert_int_equal(tn_ms_deadline_ns(k->ms), UINT64_MAX);
    assert_true(unpause_activities(true, 0));
    assert_int_equal(activity()->attempt, 1);
    assert_int_equal(wanted(), 1);
    end();
}

static void test_reset_running_activity(void **state)
{
    Tenon__TaskToken *t;

    (void)state;
    with_activity();
    assert_true(start_activity());
    assert_true(fail_attempt(token()));
    k->now_ns += 5 * TN_SEC;
    assert_true(start_activity());
    assert_int_equal(activity()->attempt, 2);
    t = token();
    assert_false(beat(t)->activity_reset);
    assert_true(reset_activities(false, true));
    assert_int_equal(activity()->attempt, 1);
    kit_crash(k);
    assert_true(beat(t)->activity_reset); /* the attempt goes on under its old number */
    assert_true(fail_attempt(t));
    assert_int_equal(activity()->attempt, 2);
    assert_false(activity()->has_heartbeat);
    assert_false(activity()->reset);
    end();
}

static void test_reset_keeps_pause(void **state)
{
    (void)state;
    with_activity();
    assert_true(start_activity());
    assert_true(fail_attempt(token()));
    assert_true(pause_activity("a", ""));
    assert_true(reset_activities(true, false));
    assert_non_null(activity()->pause);
    assert_int_equal(activity()->attempt, 1);
    assert_int_equal(wanted(), 0);
    assert_true(reset_activities(false, false));
    assert_null(activity()->pause);
    assert_int_equal(wanted(), 1);
    end();
}

static void test_options(void **state)
{
    Temporal__Api__Workflowservice__V1__UpdateActivityOptionsRequest *r;
    static char *paths[] = {(char *)"task_queue.name", (char *)"start_to_close_timeout",
                            (char *)"retryPolicy.initialInterval", (char *)"priority.priority_key"};
    Temporal__Api__Activity__V1__ActivityOptions *out = NULL;
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse task =
        TEMPORAL__API__WORKFLOWSERVICE__V1__POLL_ACTIVITY_TASK_QUEUE_RESPONSE__INIT;
    const pending_info *info;
    tn_blob packed;
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *seen;
    uint64_t before;
    tn_tx *tx;

    (void)state;
    with_activity();
    r = TN_MSG(k->arena, temporal__api__workflowservice__v1__update_activity_options_request);
    r->activity_case =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_OPTIONS_REQUEST__ACTIVITY_ID;
    r->id = (char *)"a";
    tx = kit_begin(k);
    assert_false(kit_end(k, tn_machine_update_activity_options(tx, r, &out)));
    assert_int_equal(k->fault->code, TN_GRPC_INVALID_ARGUMENT);
    r->activity_options = TN_MSG(k->arena, temporal__api__activity__v1__activity_options);
    r->activity_options->task_queue = kit_queue(k, "other", 0);
    r->activity_options->start_to_close_timeout = kit_seconds(k, 3);
    r->activity_options->retry_policy = TN_MSG(k->arena, temporal__api__common__v1__retry_policy);
    r->activity_options->retry_policy->initial_interval = kit_seconds(k, 2);
    r->activity_options->priority = TN_MSG(k->arena, temporal__api__common__v1__priority);
    r->activity_options->priority->priority_key = 4;
    r->update_mask = TN_MSG(k->arena, google__protobuf__field_mask);
    r->update_mask->paths = paths;
    r->update_mask->n_paths = TN_COUNT_OF(paths);
    assert_true(start_activity());
    assert_true(fail_attempt(token()));
    before = activity()->attempt_scheduled_ns;
    tx = kit_begin(k);
    assert_true(kit_end(k, tn_machine_update_activity_options(tx, r, &out)));
    assert_int_equal(activity()->attempt_scheduled_ns, before - 2 * TN_SEC);
    kit_crash(k);
    assert_string_equal(activity()->task_queue, "other");
    info = describe()->pending_activities[0];
    assert_int_equal(info->activity_options->start_to_close_timeout->seconds, 3);
    assert_int_equal(info->priority->priority_key, 4);
    k->now_ns += 5 * TN_SEC;
    assert_true(start_activity());
    tn_machine_activity_task(k->ms, activity(), k->arena, TN_STR("default"), &task);
    assert_int_equal(tn_proto_pack(&task.base, k->arena, &packed), TN_OK);
    assert_int_equal(
        TN_PROTO_UNPACK(temporal__api__workflowservice__v1__poll_activity_task_queue_response,
                        packed, k->arena, &seen, NULL),
        TN_OK);
    assert_int_equal(seen->start_to_close_timeout->seconds, 3);
    assert_int_equal(seen->retry_policy->initial_interval->seconds, 2);
    assert_int_equal(seen->priority->priority_key, 4);
    r->restore_original = true;
    tx = kit_begin(k);
    assert_false(kit_end(k, tn_machine_update_activity_options(tx, r, &out)));
    r->update_mask = NULL;
    tx = kit_begin(k);
    assert_true(kit_end(k, tn_machine_update_activity_options(tx, r, &out)));
    assert_string_equal(activity()->task_queue, "tq");
    assert_int_equal(activity()->start_to_close_ns, 10 * TN_SEC);
    kit_crash(k);
    assert_string_equal(activity()->task_queue, "tq");
    end();
}

static void test_run_priority(void **state)
{
    Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionOptionsRequest *r;
    static char *paths[] = {(char *)"priority"};
    Temporal__Api__Workflow__V1__WorkflowExecutionOptions *out;
    int64_t next;
    tn_tx *tx;

    (void)state;
    with_activity();
    r = TN_MSG(k->arena,
               temporal__api__workflowservice__v1__update_workflow_execution_options_request);
    r->update_mask = TN_MSG(k->arena, google__protobuf__field_mask);
    r->update_mask->paths = paths;
    r->update_mask->n_paths = 1;
    r->workflow_execution_options =
        TN_MSG(k->arena, temporal__api__workflow__v1__workflow_execution_options);
    r->workflow_execution_options->priority = TN_MSG(k->arena, temporal__api__common__v1__priority);
    r->workflow_execution_options->priority->priority_key = 2;
    tx = kit_begin(k);
    assert_true(kit_end(k, tn_machine_update_options(tx, r, &out)));
    assert_int_equal(last_type(0), 55);
    next = k->ms->next_event_id;
    tx = kit_begin(k);
    assert_true(kit_end(k, tn_machine_update_options(tx, r, &out)));
    assert_int_equal(k->ms->next_event_id, next); /* nothing new */
    kit_crash(k);
    assert_int_equal(describe()->workflow_execution_info->priority->priority_key, 2);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pause_waiting_task),
        cmocka_unit_test(test_pause_under_way),
        cmocka_unit_test(test_pause_and_unpause_under_way),
        cmocka_unit_test(test_pause_and_close),
        cmocka_unit_test(test_pause_before_delay_is_over),
        cmocka_unit_test(test_paused_run_times_out),
        cmocka_unit_test(test_paused_run_holds_activities),
        cmocka_unit_test(test_pause_waiting_activity),
        cmocka_unit_test(test_pause_running_activity),
        cmocka_unit_test(test_reset_running_activity),
        cmocka_unit_test(test_reset_keeps_pause),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_run_priority),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
