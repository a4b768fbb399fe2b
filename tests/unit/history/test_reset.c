/* SPDX-License-Identifier: MIT */
/* Resets, event by event: the new run's history, what is told to it again, and that its records and its snapshot fold
 * to the state that it has.  The histories are those that the reference server makes. */
#include "machine_kit.h"

#include "temporal/api/update/v1/message.pb-c.h"

#define FIRST_TASK "Started WtScheduled WtStarted WtCompleted"
#define RESET_AT_4 "Started WtScheduled WtStarted WtFailed"

/* ---- words ----------------------------------------------------------------------------------- */

/* The base run's events before `finish_id`, in the new run's first record. */
static void share(kit *base, kit *k, int64_t finish_id)
{
    tn_event *events[512];
    size_t n = kit_events(base, events, TN_COUNT_OF(events));
    tn_buf common = {0};
    tn_error err = {0};

    assert_true((size_t)finish_id - 1 <= n);
    for (int64_t i = 0; i < finish_id - 1; i++) {
        size_t start = common.n;
        tn_wire_field field;
        tn_wire_iter it;

        assert_int_equal(tn_proto_put_message(&common, 1, &events[i]->base), TN_OK);
        it = tn_wire_begin((tn_blob){common.p + start, common.n - start});
        assert_true(tn_wire_next(&it, &field));
        assert_int_equal(tn_ms_apply(k->ms, events[i], field.bytes, &err), TN_OK);
    }
    k->ms->transition = 1;
    k->tx_arena = tn_arena_create(0);
    kit_store(k, k->ms, tn_buf_blob(&common), false, k->now_ns);
    tn_arena_destroy(k->tx_arena);
    tn_buf_put(&k->history, common.p, common.n);
    k->last_event_ns = k->ms->last_event_ns;
    tn_buf_done(&common);
}

static bool reset(kit *base, kit *k, int64_t finish_id, uint32_t excluded)
{
    tn_event *events[512];
    size_t n = kit_events(base, events, TN_COUNT_OF(events));
    const tn_fault *fault;
    tn_reset how = {.base_run_id = tn_str_from(base->ms->run_id_text),
                    .reason = TN_STR("again"),
                    .request_id = TN_STR("reset-1")};
    tn_tx *tx;

    kit_open(k, 77);
    k->now_ns = base->now_ns + 3600 * TN_SEC;
    share(base, k, finish_id);
    tx = kit_begin(k);
    fault = tn_machine_reset(tx, &how);
    for (size_t i = (size_t)finish_id - 1; !fault && i < n; i++)
        fault = tn_machine_reapply(tx, events[i], excluded);
    if (!fault)
        tn_machine_reset_end(tx);
    return kit_end(k, fault);
}

static void open_idle(kit *k)
{
    kit_open(k, 1);
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
    assert_true(kit_complete_none(k));
}

static void task(kit *k, kit_command *command)
{
    assert_true(kit_poll(k));
    assert_true(command ? KIT_COMPLETE(k, command) : kit_complete_none(k));
}

static const Temporal__Api__History__V1__WorkflowTaskFailedEventAttributes *failed(kit *k,
                                                                                   int64_t id)
{
    const tn_event *event = kit_event(k, id);

    assert_int_equal(event->event_type, 9);
    return event->workflow_task_failed_event_attributes;
}

/* An event of the base run that this test makes up. */
static tn_event *made_up(kit *k, int32_t type, int attributes_case, void *attributes)
{
    tn_event *event = TN_MSG(k->arena, temporal__api__history__v1__history_event);

    event->event_type = (Temporal__Api__Enums__V1__EventType)type;
    event->attributes_case =
        (Temporal__Api__History__V1__HistoryEvent__AttributesCase)attributes_case;
    event->workflow_execution_started_event_attributes = attributes;
    return event;
}

/* ---- where ----------------------------------------------------------------------------------- */

static void legal(void **state)
{
    static const struct {
        int64_t at;
        bool ok;
    } rows[] = {{2, false}, {3, true}, {4, true}, {5, false}, {6, false}, {7, true}, {8, true}};
    kit base, k;

    (void)state;
    open_idle(&base);
    assert_true(kit_signal(&base, "s", "1")); /* 5, 6 */
    task(&base, kit_cmd_complete(&base));     /* 7, 8, 9 */
    for (size_t i = 0; i < TN_COUNT_OF(rows); i++) {
        assert_int_equal(reset(&base, &k, rows[i].at, TN_REAPPLY_NOTHING), rows[i].ok);
        if (!rows[i].ok)
            assert_int_equal(k.fault->code, TN_GRPC_INVALID_ARGUMENT);
        kit_close(&k);
    }
    kit_close(&base);
}

static void history(void **state)
{
    const Temporal__Api__History__V1__WorkflowTaskFailedEventAttributes *a;
    kit base, k;

    (void)state;
    open_idle(&base);
    assert_true(reset(&base, &k, 4, 0));
    KIT_EXPECT(&k, RESET_AT_4 " WtScheduled");
    a = failed(&k, 4);
    assert_int_equal(a->cause, 20);
    assert_string_equal(a->base_run_id, base.ms->run_id_text);
    assert_string_equal(a->new_run_id, k.ms->run_id_text);
    assert_string_equal(a->failure->message, "again");
    assert_int_equal(k.ms->wft.attempt, 1);
    assert_string_equal(k.ms->original_run_id, base.ms->run_id_text);
    task(&k, kit_cmd_complete(&k));
    KIT_EXPECT(&k, RESET_AT_4 " WtScheduled WtStarted WtCompleted Completed");
    kit_close(&k);
    kit_close(&base);
}

static void waiting_task_is_started(void **state)
{
    kit base, k;

    (void)state;
    kit_open(&base, 1);
    assert_true(kit_start(&base));
    assert_true(kit_signal(&base, "s", "1"));
    assert_true(reset(&base, &k, 3, 0));
    KIT_EXPECT(&k, RESET_AT_4 " Signaled WtScheduled");
    kit_close(&k);
    kit_close(&base);
}

/* After a task that has failed there is a second attempt, which no event tells of: it is written here. */
static void after_a_failed_task(void **state)
{
    kit base, k;

    (void)state;
    kit_open(&base, 1);
    assert_true(kit_start(&base));
    assert_true(kit_poll(&base));
    assert_true(kit_fail_wft(&base));
    task(&base, NULL);
    KIT_EXPECT(&base, "Started WtScheduled WtStarted WtFailed WtScheduled WtStarted WtCompleted");
    assert_true(reset(&base, &k, 5, 0));
    KIT_EXPECT(&k, RESET_AT_4 " WtScheduled WtStarted WtFailed WtScheduled");
    kit_close(&k);
    kit_close(&base);
}

/* ---- what is told again ------------------------------------------------------------------------ */

static void signals(void **state)
{
    kit base, k;

    (void)state;
    open_idle(&base);
    assert_true(kit_signal(&base, "one", "1"));
    task(&base, NULL);
    assert_true(kit_signal(&base, "two", "2"));
    assert_true(kit_cancel(&base));
    assert_true(kit_terminate(&base));
    assert_true(reset(&base, &k, 4, 0));
    KIT_EXPECT(&k, RESET_AT_4 " Signaled Signaled WtScheduled");
    assert_string_equal(kit_event(&k, 6)->workflow_execution_signaled_event_attributes->signal_name,
                        "two");
    assert_int_equal(k.ms->signal_count, 2);
    kit_close(&k);
    assert_true(reset(&base, &k, 4, TN_REAPPLY_NO_SIGNALS));
    KIT_EXPECT(&k, RESET_AT_4 " WtScheduled");
    kit_close(&k);
    kit_close(&base);
}

static tn_event *accepted(kit *k, const char *id, bool with_request)
{
    Temporal__Api__History__V1__WorkflowExecutionUpdateAcceptedEventAttributes *a = TN_MSG(
        k->arena, temporal__api__history__v1__workflow_execution_update_accepted_event_attributes);

    a->protocol_instance_id = (char *)(uintptr_t)id;
    if (with_request) {
        a->accepted_request = TN_MSG(k->arena, temporal__api__update__v1__request);
        a->accepted_request->meta = TN_MSG(k->arena, temporal__api__update__v1__meta);
        a->accepted_request->meta->update_id = (char *)(uintptr_t)id;
    }
    return made_up(
        k, 41,
        TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_UPDATE_ACCEPTED_EVENT_ATTRIBUTES,
        a);
}

/* An accepted update is admitted to the new run; the worker finds it in the history and may accept or reject it. */
static void updates(void **state)
{
    kit base, k;
    tn_reset how = {.base_run_id = TN_STR("11111111-1111-4111-8111-111111111111")};
    tn_tx *tx;

    (void)state;
    open_idle(&base);
    kit_open(&k, 77);
    share(&base, &k, 4);
    tx = kit_begin(&k);
    assert_null(tn_machine_reset(tx, &how));
    assert_null(tn_machine_reapply(tx, accepted(&k, "u1", true), 0));
    assert_null(
        tn_machine_reapply(tx, accepted(&k, "u1", true), 0)); /* of a later run of the chain */
    assert_null(tn_machine_reapply(tx, accepted(&k, "u2", true), 0));
    assert_null(tn_machine_reapply(tx, accepted(&k, "u3", false), 0));
    assert_null(tn_machine_reapply(tx, accepted(&k, "u4", true), TN_REAPPLY_NO_UPDATES));
    tn_machine_reset_end(tx);
    assert_true(kit_end(&k, NULL));
    assert_int_equal(k.ms->updates->count, 2);
    assert_int_equal(kit_event(&k, 5)->event_type, 47);
    assert_int_equal(kit_event(&k, 5)->workflow_execution_update_admitted_event_attributes->origin,
                     1);
    assert_int_equal(kit_event(&k, 7)->event_type, 5);
    kit_crash(&k);
    assert_int_equal(tn_ms_update(k.ms, TN_STR("u2"))->stage, TN_UPDATE_ADMITTED);
    assert_true(tn_ms_update(k.ms, TN_STR("u2"))->request.n != 0);
    /* rejected: no event says so, and it stays away */
    tx = kit_begin(&k);
    tn_tx_end_update(tx, TN_STR("u1"), NULL);
    assert_true(kit_end(&k, NULL));
    assert_null(tn_ms_update(k.ms, TN_STR("u1")));
    kit_crash(&k);
    assert_null(tn_ms_update(k.ms, TN_STR("u1")));
    assert_int_equal(k.ms->updates->in_flight, 1);
    assert_null(k.trouble);
    kit_close(&k);
    kit_close(&base);
}

/* ---- what goes on ------------------------------------------------------------------------------ */

/* An activity that waited begins anew with the reset, in time too; a timer keeps its time. */
static void activities_and_timers(void **state)
{
    kit base, k;
    tn_activity *activity;

    (void)state;
    kit_open(&base, 1);
    assert_true(kit_start(&base));
    task(&base, kit_cmd_activity(&base, "a", 10)); /* 5 */
    assert_true(kit_signal(&base, "s", "1"));
    task(&base, kit_cmd_timer(&base, "t", 60)); /* 9, 10 */
    assert_true(kit_signal(&base, "s", "2"));
    task(&base, NULL);
    assert_true(reset(&base, &k, 9, TN_REAPPLY_NO_SIGNALS));
    KIT_EXPECT(&k, FIRST_TASK " ActScheduled Signaled WtScheduled WtStarted WtFailed WtScheduled");
    activity = tn_ms_activity(k.ms, 5);
    assert_non_null(activity);
    assert_int_equal(activity->attempt_scheduled_ns, k.now_ns);
    assert_int_equal(activity->first_scheduled_ns, k.now_ns);
    kit_crash(&k);
    activity = tn_ms_activity(k.ms, 5);
    assert_int_equal(activity->attempt_scheduled_ns, k.now_ns);
    assert_int_equal(activity->first_scheduled_ns, k.now_ns);
    kit_close(&k);
    assert_true(reset(&base, &k, 13, 0));
    assert_non_null(tn_ms_timer(k.ms, TN_STR("t")));
    assert_true(tn_ms_timer(k.ms, TN_STR("t"))->fire_ns < k.now_ns);
    assert_true(kit_fire(&k));
    assert_null(tn_ms_timer(k.ms, TN_STR("t")));
    kit_close(&k);
    kit_close(&base);
}

static void time_outs_count_anew(void **state)
{
    kit base, k;
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r;

    (void)state;
    kit_open(&base, 1);
    r = kit_start_request(&base);
    r->workflow_run_timeout = kit_seconds(&base, 100);
    r->workflow_execution_timeout = kit_seconds(&base, 150);
    assert_true(kit_start_with(&base, r));
    task(&base, NULL);
    assert_true(reset(&base, &k, 4, 0));
    assert_int_equal(k.ms->run_expire_ns, k.now_ns + 100 * TN_SEC);
    assert_int_equal(k.ms->execution_expire_ns, k.now_ns + 150 * TN_SEC);
    assert_int_equal(tn_ms_shown_start_ns(k.ms), k.now_ns);
    kit_crash(&k);
    assert_int_equal(k.ms->run_expire_ns, k.now_ns + 100 * TN_SEC);
    kit_close(&k);
    kit_close(&base);
}

/* Children go on under the new run: the old one, ended by a reset, settles none of them. */
static void children(void **state)
{
    kit base, k;
    tn_child *child;
    tn_tx *tx;

    (void)state;
    kit_open(&base, 1);
    assert_true(kit_start(&base));
    task(&base, kit_cmd_child(&base, "kid")); /* 5 */
    tx = kit_begin(&base);
    assert_true(kit_end(
        &base, tn_machine_child_started(tx, 5, TN_STR("33333333-3333-4333-8333-333333333333"))));
    task(&base, NULL); /* 6, 7, 8, 9 */
    assert_true(reset(&base, &k, 9, 0));
    child = tn_ms_child(k.ms, 5);
    assert_non_null(child);
    assert_int_equal(child->started_id, 6);
    kit_close(&k);
    assert_true(reset(&base, &k, 4, 0)); /* its own workflow has not asked for it yet */
    KIT_EXPECT(&k, RESET_AT_4 " WtScheduled");
    kit_close(&k);
    tx = kit_begin(&base);
    tn_machine_was_reset(tx, TN_STR("44444444-4444-4444-8444-444444444444"));
    assert_true(
        kit_end(&base, tn_machine_terminate(tx, TN_STR("again"), NULL, TN_STR(TN_RESETTER))));
    assert_true(base.ms->skip_close_policy);
    assert_string_equal(base.ms->reset_run_id, "44444444-4444-4444-8444-444444444444");
    assert_true(tn_ms_wake_ns(base.ms) != 0);
    assert_null(base.trouble);
    kit_close(&base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legal),
        cmocka_unit_test(history),
        cmocka_unit_test(waiting_task_is_started),
        cmocka_unit_test(after_a_failed_task),
        cmocka_unit_test(signals),
        cmocka_unit_test(updates),
        cmocka_unit_test(activities_and_timers),
        cmocka_unit_test(time_outs_count_anew),
        cmocka_unit_test(children),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
