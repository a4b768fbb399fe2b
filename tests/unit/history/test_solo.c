/* SPDX-License-Identifier: MIT */
/* An activity of its own: start and ids, attempts, time-outs, cancellation, operators; after every step what the store
 * would have reads as the same, from the first record and from a snapshot. */
#include "machine_kit.h"

#include "history/machine/parts.h"
#include "history/machine/solo.h"

typedef Temporal__Api__Workflowservice__V1__StartActivityExecutionRequest start_request;
typedef Temporal__Api__Workflowservice__V1__DescribeActivityExecutionResponse description;
typedef Temporal__Api__Activity__V1__ActivityExecutionOutcome outcome_msg;

static kit kit_, *k = &kit_;
static tn_object_reply reply;

/* ---- words ----------------------------------------------------------------------------------- */

static start_request *request(void)
{
    start_request *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__start_activity_execution_request);

    r->namespace_ = (char *)"default";
    r->activity_id = (char *)"solo";
    r->activity_type = TN_MSG(k->arena, temporal__api__common__v1__activity_type);
    r->activity_type->name = (char *)"A";
    r->task_queue = kit_queue(k, "tq", 1);
    r->start_to_close_timeout = kit_seconds(k, 10);
    r->input = kit_payloads(k, "in");
    r->request_id = (char *)"r1";
    r->id_reuse_policy = 1;
    r->id_conflict_policy = 1;
    return r;
}

static tn_activity *activity(void) { return tn_solo_activity(k->ms); }

/* Reads what the store would have, and goes on with that. */
static void reload(bool first)
{
    tn_arena *arena = tn_arena_create(0);
    tn_error err = {0};
    tn_ms *out;

    if (first) {
        Tenon__Record record = TENON__RECORD__INIT;
        tn_blob extras = tn_msg_pack(arena, tn_ms_extras(k->ms, arena));

        record.events = (ProtobufCBinaryData){k->tx.events.n, k->tx.events.p};
        record.has_extras = true;
        record.extras = (ProtobufCBinaryData){extras.n, (uint8_t *)(uintptr_t)extras.p};
        record.transition = k->ms->transition;
        out =
            tn_ms_create(tn_str_from(k->ms->ns_id), tn_str_from(k->ms->workflow_id), k->ms->run_id);
        assert_int_equal(tn_ms_load_record(out, &record, &err), TN_OK);
        tn_ms_set_create_request_id(out, tn_str_from(k->ms->create_request_id));
    } else {
        out = kit_through_snapshot(k->ms, &err);
        assert_non_null(out);
    }
    assert_true(kit_same(k, k->ms, out, "it reads as something else"));
    tn_arena_destroy(arena);
    tn_ms_destroy(k->ms);
    k->ms = out;
}

static tn_tx *begin(void) { return kit_begin(k); }

static bool end(const tn_fault *fault)
{
    bool wrote = k->tx.extras_dirty;

    k->fault = fault ? tn_fault_copy(k->arena, fault) : NULL;
    if (reply.response)
        reply.response = tn_proto_copy(reply.response, k->arena);
    tn_tx_finish(&k->tx);
    if (wrote)
        k->ms->transition++;
    tn_tx_done(&k->tx);
    tn_arena_destroy(k->tx_arena);
    if (wrote)
        reload(false);
    return !k->fault;
}

static void start_with(const start_request *r)
{
    const char *text;
    tn_tx *tx;

    text = tn_activity_start_settle(k->arena, 1000, (start_request *)(uintptr_t)r);
    assert_null(text);
    reply = (tn_object_reply){.arena = k->arena};
    tx = begin();
    assert_null(tn_solo_kind.create(tx, &r->base, &reply));
    tn_tx_finish(tx);
    assert_int_equal(tx->n_events, 1);
    k->ms->transition++;
    if (reply.response)
        reply.response = tn_proto_copy(reply.response, k->arena);
    reload(true);
    tn_tx_done(&k->tx);
    tn_arena_destroy(k->tx_arena);
}

static void start(void)
{
    kit_open(k, 5);
    start_with(request());
    k->now_ns += TN_SEC;
}

static bool poll_task(void)
{
    bool durable;
    tn_tx *tx = begin();

    tx->rides_along = false;
    return end(tn_machine_activity_start(
        tx, TN_SOLO_SCHEDULED_ID, activity()->stamp,
        &(tn_poller){.identity = TN_STR("w"), .request_id = TN_STR("poll")}, &durable));
}

static Tenon__TaskToken *token(void)
{
    Tenon__TaskToken *t = TN_MSG(k->arena, tenon__task_token);

    t->scheduled_id = TN_SOLO_SCHEDULED_ID;
    t->attempt = activity()->attempt;
    t->nonce = activity()->nonce;
    t->started_ns = activity()->started_ns;
    return t;
}

static bool complete(const Tenon__TaskToken *t)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__respond_activity_task_completed_request);
    tn_tx *tx = begin();

    r->result = kit_payloads(k, "out");
    r->identity = (char *)"w2";
    return end(tn_machine_activity_completed(tx, t, t ? TN_STR("") : TN_STR("solo"), r));
}

static bool report_failure(const char *type, bool final)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__respond_activity_task_failed_request);
    Tenon__TaskToken *t = token();
    tn_tx *tx = begin();

    r->failure = kit_cmd_fail(k, type)->fail_workflow_execution_command_attributes->failure;
    r->failure->application_failure_info->non_retryable = final;
    return end(tn_machine_activity_failed(tx, t, TN_STR(""), r));
}

static bool beat(bool *out_cancel, bool *out_paused)
{
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__record_activity_task_heartbeat_request);
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__RECORD_ACTIVITY_TASK_HEARTBEAT_RESPONSE__INIT;
    Tenon__TaskToken *t = token();
    tn_tx *tx = begin();
    bool ok;

    r->details = kit_payloads(k, "beat");
    ok = end(tn_machine_activity_heartbeat(tx, t, TN_STR(""), r, &out));
    if (out_cancel)
        *out_cancel = out.cancel_requested;
    if (out_paused)
        *out_paused = out.activity_paused;
    return ok;
}

static bool ask(const ProtobufCMessage *r)
{
    tn_tx *tx;

    reply = (tn_object_reply){.arena = k->arena};
    tx = begin();
    return end(tn_solo_kind.call(tx, r, &reply));
}

static bool cancel(const char *request_id)
{
    Temporal__Api__Workflowservice__V1__RequestCancelActivityExecutionRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__request_cancel_activity_execution_request);

    r->request_id = (char *)(uintptr_t)request_id;
    r->reason = (char *)"a \"reason\"";
    r->identity = (char *)"op";
    return ask(&r->base);
}

static bool terminate(const char *request_id)
{
    Temporal__Api__Workflowservice__V1__TerminateActivityExecutionRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__terminate_activity_execution_request);

    r->request_id = (char *)(uintptr_t)request_id;
    r->reason = (char *)"enough";
    return ask(&r->base);
}

static description *describe(ProtobufCBinaryData watch)
{
    Temporal__Api__Workflowservice__V1__DescribeActivityExecutionRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__describe_activity_execution_request);

    r->include_input = r->include_outcome = r->include_last_failure = true;
    r->long_poll_token = watch;
    assert_true(ask(&r->base));
    return (description *)reply.response;
}

static description *look(void) { return describe((ProtobufCBinaryData){0, NULL}); }

static outcome_msg *outcome(void)
{
    Temporal__Api__Workflowservice__V1__PollActivityExecutionRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__poll_activity_execution_request);

    assert_true(ask(&r->base));
    assert_false(reply.park);
    return ((Temporal__Api__Workflowservice__V1__PollActivityExecutionResponse *)reply.response)
        ->outcome;
}

static void fire(void)
{
    tn_tx *tx = begin();

    assert_true(end(tn_machine_fire(tx)));
}

static void over(void)
{
    assert_null(k->trouble);
    kit_close(k);
}

/* ---- cases ------------------------------------------------------------------------------------ */

static void test_completes(void **state)
{
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse task =
        TEMPORAL__API__WORKFLOWSERVICE__V1__POLL_ACTIVITY_TASK_QUEUE_RESPONSE__INIT;
    Temporal__Api__Workflowservice__V1__PollActivityExecutionRequest poll =
        TEMPORAL__API__WORKFLOWSERVICE__V1__POLL_ACTIVITY_EXECUTION_REQUEST__INIT;

    (void)state;
    start();
    assert_int_equal(look()->info->status, 1);
    assert_int_equal(look()->info->run_state, 1);
    assert_true(ask(&poll.base));
    assert_true(reply.park);
    assert_true(poll_task());
    tn_machine_activity_task(k->ms, activity(), k->arena, TN_STR("default"), &task);
    assert_string_equal(task.activity_run_id, k->ms->run_id_text);
    assert_null(task.workflow_type);
    assert_true(complete(token()));
    assert_int_equal(outcome()->value_case,
                     TEMPORAL__API__ACTIVITY__V1__ACTIVITY_EXECUTION_OUTCOME__VALUE_RESULT);
    assert_int_equal(look()->info->status, 2);
    assert_string_equal(look()->info->last_worker_identity, "w2");
    assert_memory_equal(look()->input->payloads[0]->data.data, "in", 2);
    assert_false(complete(token()));
    assert_int_equal(k->fault->code, TN_GRPC_NOT_FOUND);
    assert_false(complete(NULL));
    assert_int_equal(k->fault->code, TN_GRPC_FAILED_PRECONDITION);
    assert_int_equal(tn_ms_wake_ns(k->ms), k->ms->close_ns + k->env.retention_ns);
    over();
}

static void test_completes_by_id_unseen(void **state)
{
    (void)state;
    start();
    assert_true(complete(NULL));
    assert_int_equal(look()->info->status, 2);
    assert_non_null(look()->info->last_started_time);
    over();
}

static void test_retries_and_fails(void **state)
{
    start_request *r;

    (void)state;
    kit_open(k, 6);
    r = request();
    r->retry_policy = TN_MSG(k->arena, temporal__api__common__v1__retry_policy);
    r->retry_policy->maximum_attempts = 2;
    start_with(r);
    assert_true(poll_task());
    assert_true(beat(NULL, NULL));
    assert_true(report_failure("T", false));
    assert_int_equal(look()->info->attempt, 2);
    assert_non_null(look()->info->next_attempt_schedule_time);
    assert_int_equal(look()->info->current_retry_interval->seconds, 1);
    assert_false(poll_task());
    k->now_ns += 2 * TN_SEC;
    assert_true(poll_task());
    assert_true(report_failure("T", false));
    assert_int_equal(look()->info->status, 3);
    assert_int_equal(outcome()->retry_state, 4);
    assert_int_equal(look()->info->total_heartbeat_count, 1);
    over();
}

static void test_times_out(void **state)
{
    static const struct {
        double start_to_close, schedule_to_close, schedule_to_start, heartbeat, wait;
        bool begins;
        int type;
    } cases[] = {
        {5, 0, 0, 0, 6, true, TN_TIMEOUT_START_TO_CLOSE},
        {5, 3, 0, 0, 4, false,
         TN_TIMEOUT_SCHEDULE_TO_START}, /* filled in from the total one, and first */
        {5, 0, 2, 0, 3, false, TN_TIMEOUT_SCHEDULE_TO_START},
        {5, 0, 0, 2, 3, true, TN_TIMEOUT_HEARTBEAT},
    };

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(cases); i++) {
        start_request *r;

        kit_open(k, 7 + i);
        r = request();
        r->start_to_close_timeout = kit_seconds(k, cases[i].start_to_close);
        r->schedule_to_close_timeout = kit_seconds(k, cases[i].schedule_to_close);
        r->schedule_to_start_timeout = kit_seconds(k, cases[i].schedule_to_start);
        r->heartbeat_timeout = kit_seconds(k, cases[i].heartbeat);
        r->retry_policy = TN_MSG(k->arena, temporal__api__common__v1__retry_policy);
        r->retry_policy->maximum_attempts = 1;
        start_with(r);
        if (cases[i].begins)
            assert_true(poll_task());
        k->now_ns += (uint64_t)(cases[i].wait * 1e9);
        assert_true(tn_ms_deadline_ns(k->ms) <= k->now_ns);
        fire();
        assert_int_equal(look()->info->status, 6);
        assert_int_equal(outcome()->failure->timeout_failure_info->timeout_type, cases[i].type);
        over();
    }
}

static void test_start_delay(void **state)
{
    start_request *r;

    (void)state;
    kit_open(k, 8);
    r = request();
    r->start_delay = kit_seconds(k, 30);
    r->schedule_to_close_timeout = kit_seconds(k, 20);
    start_with(r);
    assert_false(poll_task());
    assert_int_equal(tn_ms_deadline_ns(k->ms), k->now_ns + 30 * TN_SEC);
    k->now_ns += 31 * TN_SEC;
    fire();
    assert_int_equal(look()->info->status, 1);
    assert_true(poll_task());
    assert_true(complete(token()));
    over();
}

static void test_start_delay_changed(void **state)
{
    Temporal__Api__Workflowservice__V1__UpdateActivityExecutionOptionsRequest update =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_EXECUTION_OPTIONS_REQUEST__INIT;
    static char *paths[] = {(char *)"start_delay"};
    start_request *r;

    (void)state;
    kit_open(k, 11);
    r = request();
    r->start_delay = kit_seconds(k, 3600);
    start_with(r);
    update.activity_id = (char *)"solo";
    update.update_mask = TN_MSG(k->arena, google__protobuf__field_mask);
    update.update_mask->paths = paths;
    update.update_mask->n_paths = 1;
    update.activity_options = TN_MSG(k->arena, temporal__api__activity__v1__activity_options);
    update.activity_options->start_delay = kit_seconds(k, 5);
    assert_true(ask(&update.base));
    assert_int_equal(look()->info->start_delay->seconds, 5);
    assert_false(poll_task());
    k->now_ns += 6 * TN_SEC;
    assert_false(ask(&update.base)); /* it has gone out */
    assert_true(poll_task());
    over();
}

static void test_cancel(void **state)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest *r;
    bool cancelled = false;
    Tenon__TaskToken *t;
    tn_tx *tx;

    (void)state;
    start();
    assert_true(cancel("c1"));
    assert_int_equal(look()->info->status, 4);
    assert_memory_equal(outcome()->failure->canceled_failure_info->details->payloads[0]->data.data,
                        "\"a \\\"reason\\\"\"", 14);
    assert_true(cancel("c1"));
    assert_false(cancel("c2"));
    over();

    start();
    assert_true(poll_task());
    assert_true(cancel("c1"));
    assert_false(cancel("c2"));
    assert_int_equal(look()->info->run_state, 3);
    assert_true(beat(&cancelled, NULL));
    assert_true(cancelled);
    r = TN_MSG(k->arena,
               temporal__api__workflowservice__v1__respond_activity_task_canceled_request);
    t = token();
    tx = begin();
    assert_true(end(tn_machine_activity_canceled(tx, t, TN_STR(""), r)));
    assert_int_equal(look()->info->status, 4);
    assert_string_equal(outcome()->failure->canceled_failure_info->identity, "op");
    over();

    start();
    assert_true(poll_task());
    assert_true(cancel("c1"));
    assert_true(report_failure("T", false)); /* no further attempt */
    assert_int_equal(look()->info->status, 3);
    over();
}

static void test_terminate(void **state)
{
    (void)state;
    start();
    assert_true(terminate("t1"));
    assert_true(terminate("t1"));
    assert_false(terminate("t2"));
    assert_string_equal(outcome()->failure->message, "enough");
    assert_int_equal(look()->info->status, 5);
    over();
}

static void test_watch(void **state)
{
    ProtobufCBinaryData seen;

    (void)state;
    start();
    seen = look()->long_poll_token;
    (void)describe(seen);
    assert_true(reply.park);
    assert_true(poll_task());
    seen = describe(seen)->long_poll_token;
    assert_false(reply.park);
    assert_true(beat(NULL, NULL));
    seen = describe(seen)->long_poll_token;
    assert_false(reply.park);
    (void)describe(seen);
    assert_true(reply.park);
    over();
}

static void test_ids(void **state)
{
    const tn_fault *fault;
    start_request *r;

    (void)state;
    start();
    reply = (tn_object_reply){.arena = k->arena};
    r = request();
    assert_int_equal(tn_solo_meets(k->ms, &r->base, &reply, &fault), TN_OBJECT_ANSWER);
    assert_null(fault); /* the same request */
    r->request_id = (char *)"r2";
    assert_int_equal(tn_solo_meets(k->ms, &r->base, &reply, &fault), TN_OBJECT_ANSWER);
    assert_int_equal(fault->code, TN_GRPC_ALREADY_EXISTS);
    r->id_conflict_policy = 2;
    assert_int_equal(tn_solo_meets(k->ms, &r->base, &reply, &fault), TN_OBJECT_ANSWER);
    assert_null(fault);
    r->on_conflict_options = TN_MSG(k->arena, temporal__api__common__v1__on_conflict_options);
    r->on_conflict_options->attach_links = r->on_conflict_options->attach_request_id = true;
    r->n_links = 1;
    r->links = TN_NEW_ARRAY(k->arena, Temporal__Api__Common__V1__Link *, 1);
    r->links[0] = TN_MSG(k->arena, temporal__api__common__v1__link);
    assert_int_equal(tn_solo_meets(k->ms, &r->base, &reply, &fault), TN_OBJECT_CALL);
    assert_true(ask(&r->base));
    assert_int_equal(look()->info->n_links, 1);
    assert_int_equal(tn_solo_meets(k->ms, &r->base, &reply, &fault), TN_OBJECT_ANSWER);
    assert_null(fault); /* known by now */
    assert_true(complete(NULL));
    r->request_id = (char *)"r3";
    assert_int_equal(tn_solo_meets(k->ms, &r->base, &reply, &fault), TN_OBJECT_CREATE);
    r->id_reuse_policy = 2;
    assert_int_equal(tn_solo_meets(k->ms, &r->base, &reply, &fault), TN_OBJECT_ANSWER);
    r->id_reuse_policy = 3;
    assert_int_equal(tn_solo_meets(k->ms, &r->base, &reply, &fault), TN_OBJECT_ANSWER);
    assert_int_equal(fault->code, TN_GRPC_ALREADY_EXISTS);
    over();
}

static void test_operators(void **state)
{
    Temporal__Api__Workflowservice__V1__PauseActivityExecutionRequest pause =
        TEMPORAL__API__WORKFLOWSERVICE__V1__PAUSE_ACTIVITY_EXECUTION_REQUEST__INIT;
    Temporal__Api__Workflowservice__V1__UnpauseActivityExecutionRequest unpause =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UNPAUSE_ACTIVITY_EXECUTION_REQUEST__INIT;
    Temporal__Api__Workflowservice__V1__ResetActivityExecutionRequest reset =
        TEMPORAL__API__WORKFLOWSERVICE__V1__RESET_ACTIVITY_EXECUTION_REQUEST__INIT;
    tn_object_listing listing = {.status = 1};
    bool paused = false;

    (void)state;
    start();
    pause.activity_id = unpause.activity_id = reset.activity_id = (char *)"solo";
    assert_true(ask(&pause.base));
    assert_int_equal(look()->info->status, 7);
    tn_solo_kind.listing(k->ms, k->arena, &listing);
    assert_int_equal(listing.status, 8);
    assert_false(poll_task());
    assert_int_equal(tn_ms_deadline_ns(k->ms), UINT64_MAX);
    assert_true(ask(&unpause.base));
    assert_false(ask(&unpause.base));
    assert_true(poll_task());
    assert_true(ask(&pause.base));
    assert_true(beat(NULL, &paused));
    assert_true(paused);
    assert_true(report_failure("T", false));
    assert_int_equal(look()->info->status, 7);
    assert_int_equal(look()->info->attempt, 2);
    assert_true(ask(&reset.base));
    assert_int_equal(look()->info->attempt, 1);
    assert_true(poll_task());
    assert_true(ask(&reset.base));
    assert_true(
        report_failure("T", true)); /* reset while it ran: it begins again, whatever came of it */
    assert_int_equal(look()->info->attempt, 1);
    assert_true(poll_task());
    assert_true(complete(token()));
    assert_false(ask(&pause.base));
    over();
}

static void test_refused(void **state)
{
    start_request *r;

    (void)state;
    kit_open(k, 9);
    r = request();
    r->activity_id = (char *)"";
    assert_string_equal(tn_activity_start_settle(k->arena, 1000, r), "activityId is not set");
    r = request();
    r->task_queue = NULL;
    assert_string_equal(tn_activity_start_settle(k->arena, 1000, r), "taskQueue is not set");
    r = request();
    r->start_to_close_timeout = NULL;
    assert_non_null(
        strstr(tn_activity_start_settle(k->arena, 1000, r), "a valid StartToCloseTimeout"));
    r = request();
    r->start_delay = kit_seconds(k, -1);
    assert_string_equal(tn_activity_start_settle(k->arena, 1000, r),
                        "invalid StartDelay: negative duration");
    r = request();
    assert_non_null(
        strstr(tn_activity_start_settle(k->arena, 2, r), "activityId exceeds length limit"));
    kit_close(k);
}

static void test_delete(void **state)
{
    tn_tx *tx;

    (void)state;
    start();
    tx = begin();
    tn_machine_delete(tx);
    assert_true(end(NULL));
    assert_int_equal(k->ms->status, 5);
    assert_int_equal(tn_ms_wake_ns(k->ms), k->now_ns);
    assert_string_equal(outcome()->failure->message, "Delete activity execution");
    over();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completes),
        cmocka_unit_test(test_completes_by_id_unseen),
        cmocka_unit_test(test_retries_and_fails),
        cmocka_unit_test(test_times_out),
        cmocka_unit_test(test_start_delay),
        cmocka_unit_test(test_start_delay_changed),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_terminate),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_operators),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_delete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
