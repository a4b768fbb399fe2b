/* SPDX-License-Identifier: MIT */
/* Nexus operations and completion callbacks: events, tries, time-outs, what waits in the buffer, what a crash leaves.
 * Every commit of the kit checks that records and snapshot fold to the state. */
#include "machine_kit.h"

#include "history/breaker.h"
#include "history/machine/nexus.h"
#include "history/nexus.h"
#include "history/machine/parts.h"

typedef Temporal__Api__Common__V1__Callback callback_msg;

static kit kit_, *k = &kit_;

static tn_str endpoint_id(void *user, tn_str name)
{
    (void)user;
    return tn_str_is(name, "ep") ? TN_STR("33333333-3333-4333-8333-333333333333")
                                 : (tn_str){NULL, 0};
}

static bool header_allowed(void *user, tn_str name)
{
    (void)user;
    return !tn_str_is(name, "request-timeout");
}

static void open_run(void)
{
    kit_open(k, 5);
    k->env.nexus_endpoint = endpoint_id;
    k->env.nexus_header_allowed = header_allowed;
}

static void begin(void)
{
    open_run();
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
}

static int teardown(void **state)
{
    (void)state;
    kit_close(k);
    return 0;
}

static kit_command *schedule(const char *endpoint)
{
    KIT_COMMAND(k, c, 17, SCHEDULE_NEXUS_OPERATION, schedule_nexus_operation);
    Temporal__Api__Command__V1__ScheduleNexusOperationCommandAttributes *a =
        c->schedule_nexus_operation_command_attributes;

    a->endpoint = (char *)(uintptr_t)endpoint;
    a->service = (char *)"svc";
    a->operation = (char *)"op";
    return c;
}

static kit_command *cancel(int64_t id)
{
    KIT_COMMAND(k, c, 18, REQUEST_CANCEL_NEXUS_OPERATION, request_cancel_nexus_operation);

    c->request_cancel_nexus_operation_command_attributes->scheduled_event_id = id;
    return c;
}

/* The types of the events from the given id on. */
static void expect_types(int64_t from, const char *want)
{
    tn_buf got = {0};

    for (int64_t id = from; id < k->ms->next_event_id; id++)
        tn_buf_printf(&got, "%s%d", got.n ? " " : "", (int)kit_event(k, id)->event_type);
    if (!tn_str_is(tn_str_of_blob(tn_buf_blob(&got)), want))
        fail_msg("want %s, got %.*s", want, (int)got.n, (const char *)got.p);
    tn_buf_done(&got);
}

static bool answer(int64_t id, tn_nexus_kind kind, const char *text)
{
    tn_tx *tx = kit_begin(k);
    tn_nexus_result r = {.kind = kind, .token = text};

    if (kind == TN_NEXUS_SYNC) {
        r.payload = TN_MSG(tx->arena, temporal__api__common__v1__payload);
        r.payload->data = (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
    } else if (kind != TN_NEXUS_ASYNC) {
        r.failure = tn_nexus_handler_failure(tx->arena, "INTERNAL", text ? text : "");
    }
    r.timeout_type = TN_TIMEOUT_SCHEDULE_TO_CLOSE;
    return kit_end(k, tn_machine_nexus_started(tx, id, &r));
}

static bool cancel_answer(int64_t id, tn_nexus_kind kind)
{
    tn_tx *tx = kit_begin(k);
    tn_nexus_result r = {.kind = kind};

    r.failure = tn_nexus_handler_failure(tx->arena, "NOT_FOUND", "gone");
    return kit_end(k, tn_machine_nexus_cancel_answered(tx, id, &r));
}

static bool complete_op(int64_t id, bool ok)
{
    tn_tx *tx = kit_begin(k);
    Tenon__NexusCompletion c = TENON__NEXUS_COMPLETION__INIT;
    Temporal__Api__Failure__V1__Failure *f = tn_nexus_call_failure(tx->arena, "bad", true);
    tn_blob packed = tn_msg_pack(tx->arena, f);

    c.scheduled_id = id;
    c.token = (char *)"tok";
    c.unsuccessful = !ok;
    c.failure = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    return kit_end(k, tn_machine_nexus_completed(tx, &c));
}

static tn_nexus_op *op_of(int64_t id) { return tn_ms_nexus_op(k->ms, id); }

static size_t wanted[3];
static void note_want(void *user, tn_want want, void *item)
{
    (void)user, (void)item;
    if (want >= TN_WANT_NEXUS_START && want <= TN_WANT_CALLBACK)
        wanted[want - TN_WANT_NEXUS_START]++;
}

static size_t wants(tn_want want)
{
    memset(wanted, 0, sizeof(wanted));
    tn_ms_wants(k->ms, k->now_ns, note_want, NULL);
    return wanted[want - TN_WANT_NEXUS_START];
}

/* ---- operations ------------------------------------------------------------------------------ */

static void an_operation_answers_at_once(void **state)
{
    const tn_event *e;

    (void)state;
    begin();
    assert_true(KIT_COMPLETE(k, schedule("ep")));
    assert_int_equal(wants(TN_WANT_NEXUS_START), 1);
    assert_int_equal(tn_ms_wake_ns(k->ms), 0);
    assert_true(answer(5, TN_NEXUS_SYNC, "r"));
    expect_types(5, "48 50 5");
    e = kit_event(k, 5);
    assert_string_equal(e->nexus_operation_scheduled_event_attributes->endpoint_id,
                        "33333333-3333-4333-8333-333333333333");
    assert_string_equal(kit_event(k, 6)->nexus_operation_completed_event_attributes->request_id,
                        e->nexus_operation_scheduled_event_attributes->request_id);
    assert_null(op_of(5));
    assert_true(answer(5, TN_NEXUS_SYNC, "again")); /* nobody waits for it */
    expect_types(5, "48 50 5");
}

static void an_operation_completes_later(void **state)
{
    (void)state;
    begin();
    assert_true(KIT_COMPLETE(k, schedule("ep")));
    assert_true(answer(5, TN_NEXUS_ASYNC, "token"));
    assert_int_equal(wants(TN_WANT_NEXUS_START), 0);
    kit_crash(k);
    assert_string_equal(op_of(5)->token, "token");
    assert_true(complete_op(5, false));
    expect_types(5, "48 49 5 51");
    assert_string_equal(
        kit_event(k, 8)->nexus_operation_failed_event_attributes->failure->cause->message, "bad");
    assert_false(complete_op(5, true));
    assert_int_equal(k->fault->code, TN_GRPC_NOT_FOUND);
}

/* Its end arrives before the answer to its start: a started event is made for it. */
static void a_completion_may_come_first(void **state)
{
    (void)state;
    begin();
    assert_true(KIT_COMPLETE(k, schedule("ep")));
    assert_true(complete_op(5, true));
    assert_true(answer(5, TN_NEXUS_ASYNC, "token"));
    expect_types(5, "48 49 50 5");
    assert_string_equal(kit_event(k, 6)->nexus_operation_started_event_attributes->operation_token,
                        "tok");
}

static void results_wait_in_the_buffer(void **state)
{
    (void)state;
    begin();
    assert_true(KIT_COMPLETE(k, schedule("ep"), schedule("ep")));
    assert_true(kit_signal(k, "s", ""));
    assert_true(kit_poll(k));
    assert_true(complete_op(6, true));
    assert_true(answer(5, TN_NEXUS_ASYNC, "token"));
    assert_null(op_of(6));
    assert_int_equal(op_of(5)->started_ns != 0, 1);
    assert_int_equal(wants(TN_WANT_NEXUS_START), 0);
    kit_crash(k);
    assert_null(op_of(6));
    assert_string_equal(op_of(5)->token, "token");
    /* The worker cannot know of the end that waits: asking to cancel it is no mistake. */
    if (!k->ms->wft.started_id)
        assert_true(kit_poll(k));
    assert_true(KIT_COMPLETE(k, cancel(6)));
    expect_types(7, "26 5 6 7 54 49 49 50 5");
    kit_crash(k);
    assert_null(op_of(6));
}

static void tries_back_off(void **state)
{
    (void)state;
    begin();
    assert_true(KIT_COMPLETE(k, schedule("ep")));
    for (int i = 1; i <= 5; i++) {
        uint64_t wait_ns, step_ns = TN_SEC << (i - 1);

        assert_true(answer(5, TN_NEXUS_AGAIN, "later"));
        wait_ns = op_of(5)->attempts.next_ns - k->now_ns;
        assert_true(wait_ns <= step_ns && wait_ns >= step_ns * 4 / 5);
        assert_int_equal(wants(TN_WANT_NEXUS_START), 0);
        assert_int_equal(tn_ms_deadline_ns(k->ms), op_of(5)->attempts.next_ns);
        kit_crash(k);
        assert_int_equal(op_of(5)->attempts.count, i);
        assert_true(op_of(5)->attempts.last_failure.n > 0);
        k->now_ns += wait_ns;
        assert_int_equal(wants(TN_WANT_NEXUS_START), 1);
    }
    expect_types(5, "48");
    assert_true(answer(5, TN_NEXUS_REFUSED, "no"));
    expect_types(5, "48 51 5");
}

static void each_time_out_strikes(void **state)
{
    kit_command *c;
    static const int types[] = {TN_TIMEOUT_SCHEDULE_TO_CLOSE, TN_TIMEOUT_SCHEDULE_TO_START,
                                TN_TIMEOUT_START_TO_CLOSE};

    (void)state;
    for (int i = 0; i < 3; i++) {
        if (i)
            kit_close(k);
        begin();
        c = schedule("ep");
        c->schedule_nexus_operation_command_attributes->schedule_to_close_timeout =
            kit_seconds(k, i ? 60 : 10);
        c->schedule_nexus_operation_command_attributes->schedule_to_start_timeout =
            kit_seconds(k, i == 1 ? 10 : 90);
        c->schedule_nexus_operation_command_attributes->start_to_close_timeout = kit_seconds(k, 10);
        assert_true(KIT_COMPLETE(k, c));
        assert_int_equal(
            tn_duration_ns(
                kit_event(k, 5)
                    ->nexus_operation_scheduled_event_attributes->schedule_to_start_timeout),
            /* none longer than the whole */
            (i == 0   ? 10
             : i == 1 ? 10
                      : 60) *
                TN_SEC);
        op_of(5)->dispatched = true;
        if (i == 2)
            assert_true(answer(5, TN_NEXUS_ASYNC, "t"));
        k->now_ns = tn_ms_deadline_ns(k->ms);
        assert_true(kit_fire(k));
        expect_types(5, i == 2 ? "48 49 5 53" : "48 53 5");
        assert_int_equal(kit_event(k, i == 2 ? 8 : 6)
                             ->nexus_operation_timed_out_event_attributes->failure->cause
                             ->timeout_failure_info->timeout_type,
                         types[i]);
    }
}

static void cancelling(void **state)
{
    (void)state;
    begin();
    assert_true(KIT_COMPLETE(k, schedule("ep"), cancel(5))); /* of this very task */
    expect_types(5, "48 54");
    assert_int_equal(wants(TN_WANT_NEXUS_CANCEL), 0); /* it waits for the start */
    assert_true(answer(5, TN_NEXUS_ASYNC, "t"));
    assert_int_equal(wants(TN_WANT_NEXUS_CANCEL), 1);
    assert_true(cancel_answer(5, TN_NEXUS_AGAIN));
    assert_int_equal(wants(TN_WANT_NEXUS_CANCEL), 0);
    kit_crash(k);
    assert_int_equal(op_of(5)->cancel_attempts.count, 1);
    k->now_ns += 2 * TN_SEC;
    assert_int_equal(wants(TN_WANT_NEXUS_CANCEL), 1);
    assert_true(cancel_answer(5, TN_NEXUS_REFUSED));
    expect_types(5, "48 54 49 5 57");
    assert_int_equal(wants(TN_WANT_NEXUS_CANCEL), 0);
    kit_crash(k);
    assert_true(op_of(5)->cancel_failed);
    assert_true(answer(5, TN_NEXUS_CANCELED, "x")); /* it has started: only a completion ends it */
    assert_non_null(op_of(5));
}

static void bad_commands_fail_the_task(void **state)
{
    static const struct {
        const char *text;
        int cause;
    } want[] = {{"BadScheduleNexusOperationAttributes: endpoint \"nobody\" not found", 32},
                {"BadScheduleNexusOperationAttributes: "
                 "ScheduleNexusOperationCommandAttributes.NexusHeader contains "
                 "a disallowed header key: \"Request-Timeout\"",
                 32},
                {"BadRequestCancelNexusOperationAttributes: requested cancelation for a "
                 "non-existing or already "
                 "completed operation with scheduled event ID of 99",
                 34},
                {"BadRequestCancelNexusOperationAttributes: cancelation was already requested for "
                 "an operation with "
                 "scheduled event ID 5",
                 34},
                {"PendingNexusOperationsLimitExceeded: workflow has reached the pending nexus "
                 "operation limit of 1 "
                 "for this namespace",
                 33}};

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(want); i++) {
        kit_command *c = NULL;

        if (i)
            kit_close(k);
        begin();
        k->limits.nexus_operations_max = 1;
        if (i == 1) {
            c = schedule("ep");
            c->schedule_nexus_operation_command_attributes->nexus_header =
                tn_arena_array(k->arena, 1, sizeof(void *));
            c->schedule_nexus_operation_command_attributes->nexus_header[0] = TN_MSG(
                k->arena,
                temporal__api__command__v1__schedule_nexus_operation_command_attributes__nexus_header_entry);
            c->schedule_nexus_operation_command_attributes->nexus_header[0]->key =
                tn_arena_strdup(k->arena, "Request-Timeout");
            c->schedule_nexus_operation_command_attributes->n_nexus_header = 1;
        }
        switch (i) {
        case 0:
            assert_false(KIT_COMPLETE(k, schedule("nobody")));
            break;
        case 1:
            assert_false(KIT_COMPLETE(k, c));
            break;
        case 2:
            assert_false(KIT_COMPLETE(k, cancel(99)));
            break;
        case 3:
            assert_false(KIT_COMPLETE(k, schedule("ep"), cancel(5), cancel(5)));
            break;
        default:
            assert_false(KIT_COMPLETE(k, schedule("ep"), schedule("ep")));
        }
        assert_string_equal(tn_arena_printf(k->arena, TN_STR_FMT, TN_STR_ARG(k->fault->message)),
                            want[i].text);
        assert_int_equal(kit_event(k, 4)->workflow_task_failed_event_attributes->cause,
                         want[i].cause);
        assert_int_equal(k->ms->nexus ? k->ms->nexus->n_ops : 0, 0);
    }
}

/* ---- completion callbacks -------------------------------------------------------------------- */

static callback_msg **callbacks(size_t n)
{
    callback_msg **list = tn_arena_array(k->arena, n, sizeof(*list));

    for (size_t i = 0; i < n; i++) {
        list[i] = TN_MSG(k->arena, temporal__api__common__v1__callback);
        list[i]->variant_case = TEMPORAL__API__COMMON__V1__CALLBACK__VARIANT_NEXUS;
        list[i]->nexus = TN_MSG(k->arena, temporal__api__common__v1__callback__nexus);
        list[i]->nexus->url = (char *)"temporal://system";
    }
    return list;
}

static bool attach(const char *request_id, size_t n)
{
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r = kit_start_request(k);
    tn_tx *tx = kit_begin(k);

    r->request_id = (char *)(uintptr_t)request_id;
    r->n_completion_callbacks = n;
    r->completion_callbacks = callbacks(n);
    r->on_conflict_options = TN_MSG(k->arena, temporal__api__workflow__v1__on_conflict_options);
    r->on_conflict_options->attach_request_id = true;
    r->on_conflict_options->attach_completion_callbacks = true;
    return kit_end(k, tn_machine_attach(tx, r));
}

static void begin_with_callbacks(size_t n)
{
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r;

    open_run();
    r = kit_start_request(k);
    r->n_completion_callbacks = n;
    r->completion_callbacks = callbacks(n);
    assert_true(kit_start_with(k, r));
    assert_true(kit_poll(k));
}

static bool callback_answer(size_t index, const char *message, bool again)
{
    tn_tx *tx = kit_begin(k);

    tn_machine_callback_answered(tx, index, message, again);
    return kit_end(k, NULL);
}

static tn_callback *callback_at(size_t index)
{
    TN_LIST_FOREACH (link, &k->ms->nexus->callbacks)
        if (index-- == 0)
            return TN_CONTAINER_OF(link, tn_callback, link);
    return NULL;
}

static void callbacks_are_sent_when_all_is_over(void **state)
{
    (void)state;
    begin_with_callbacks(1);
    assert_true(attach("r2", 2)); /* it waits in the buffer */
    assert_int_equal(k->ms->nexus->n_callbacks, 1);
    assert_true(attach("r2", 2)); /* the same call again */
    assert_true(KIT_COMPLETE(k, kit_cmd_marker(k)));
    assert_int_equal(k->ms->nexus->n_callbacks, 3);
    kit_crash(k);
    assert_int_equal(k->ms->nexus->n_callbacks, 3);
    assert_int_equal(callback_at(2)->state, TN_CALLBACK_STANDBY);
    assert_true(kit_terminate(k));
    assert_int_equal(wants(TN_WANT_CALLBACK), 3);
    assert_int_equal(tn_ms_wake_ns(k->ms), 0);
    assert_true(callback_answer(0, NULL, false));
    assert_true(callback_answer(1, "no", false));
    assert_true(callback_answer(2, "later", true));
    kit_crash(k);
    assert_int_equal(callback_at(0)->state, TN_CALLBACK_SUCCEEDED);
    assert_int_equal(callback_at(1)->state, TN_CALLBACK_FAILED);
    assert_int_equal(callback_at(2)->state, TN_CALLBACK_SCHEDULED);
    assert_int_equal(wants(TN_WANT_CALLBACK), 0);
    assert_int_equal(tn_ms_wake_ns(k->ms), callback_at(2)->attempts.next_ns);
    k->now_ns += 2 * TN_SEC;
    assert_int_equal(wants(TN_WANT_CALLBACK), 1);
    assert_true(callback_answer(2, NULL, false));
    assert_int_equal(tn_ms_wake_ns(k->ms), k->ms->retention_due_ns);
}

static void callbacks_go_on_with_the_chain(void **state)
{
    (void)state;
    begin_with_callbacks(2);
    k->follow = true;
    assert_true(KIT_COMPLETE(k, kit_cmd_continue(k)));
    assert_non_null(k->closed);
    TN_LIST_FOREACH (link, &k->closed->nexus->callbacks)
        assert_int_equal(TN_CONTAINER_OF(link, tn_callback, link)->state, TN_CALLBACK_STANDBY);
    assert_int_equal(k->ms->nexus->n_callbacks, 2);
    assert_int_equal(callback_at(0)->state, TN_CALLBACK_STANDBY);
    assert_true(kit_terminate(k));
    assert_int_equal(wants(TN_WANT_CALLBACK), 2);
}

static void there_is_a_most_of_callbacks(void **state)
{
    (void)state;
    begin_with_callbacks(1);
    k->limits.callbacks_max = 3;
    assert_true(attach("r2", 2));
    assert_false(attach("r3", 1));
    assert_int_equal(k->fault->code, TN_GRPC_FAILED_PRECONDITION);
    assert_true(tn_str_is(
        k->fault->message,
        "cannot attach more than 3 callbacks to a workflow (3 callbacks already attached)"));
}

static void a_completion_says_how_it_ended(void **state)
{
    Tenon__NexusCompletion *c;
    Temporal__Api__Failure__V1__Failure *failure;

    (void)state;
    begin_with_callbacks(1);
    assert_true(kit_terminate(k));
    c = tn_machine_completion(k->ms, callback_at(0), TN_STR("default"), k->arena);
    assert_true(c->unsuccessful && !c->canceled);
    assert_int_equal(c->start_ns, k->ms->start_ns);
    assert_int_equal(c->n_links, 1);
    assert_int_equal(TN_PROTO_UNPACK(temporal__api__failure__v1__failure,
                                     ((tn_blob){c->failure.data, c->failure.len}), k->arena,
                                     &failure, NULL),
                     TN_OK);
    assert_string_equal(failure->message, "operation terminated");
}

/* ---- links, answers, breakers ---------------------------------------------------------------- */

static void links_travel_as_urls(void **state)
{
    Temporal__Api__Common__V1__Link__WorkflowEvent link =
        TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__INIT;
    Temporal__Api__Common__V1__Link__WorkflowEvent__EventReference ref =
        TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__EVENT_REFERENCE__INIT;
    Temporal__Api__Common__V1__Link *back;
    const char *type = "temporal.api.common.v1.Link.WorkflowEvent";
    static const char *const bad[] = {
        "",
        "http://x",
        "temporal:///namespaces/n/workflows/w/r/history",
        "temporal:///namespaces/n/workflows/w/r/"
        "other?eventType=WorkflowExecutionStarted&referenceType=EventReference",
        "temporal:///namespaces//workflows/w/r/"
        "history?eventType=WorkflowExecutionStarted&referenceType=EventReference",
        "temporal:///namespaces/n/workflows/%zz/r/"
        "history?eventType=WorkflowExecutionStarted&referenceType=EventReference",
        "temporal:///namespaces/n/workflows/%00/r/"
        "history?eventType=WorkflowExecutionStarted&referenceType=EventReference",
        "temporal:///namespaces/n/workflows/w/r/"
        "history?eventType=Nonsense&referenceType=EventReference",
        "temporal:///namespaces/n/workflows/w/r/"
        "history?eventID=x&eventType=WorkflowExecutionStarted&referenceType="
        "EventReference"};

    (void)state;
    open_run();
    link.namespace_ = (char *)"n s";
    link.workflow_id = (char *)"a/b?c%d";
    link.run_id = (char *)"run";
    link.reference_case = TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_EVENT_REF;
    link.event_ref = &ref;
    ref.event_id = 5;
    ref.event_type = (Temporal__Api__Enums__V1__EventType)48;
    assert_string_equal(
        tn_nexus_link_url(k->arena, &link),
        "temporal:///namespaces/n%20s/workflows/a%2Fb%3Fc%25d/run/history?eventID=5&eventType="
        "NexusOperationScheduled&referenceType=EventReference");
    back = tn_nexus_link_parse(k->arena, tn_nexus_link_url(k->arena, &link), type);
    assert_non_null(back);
    assert_string_equal(back->workflow_event->workflow_id, "a/b?c%d");
    assert_int_equal(back->workflow_event->event_ref->event_id, 5);
    assert_int_equal(back->workflow_event->event_ref->event_type, 48);
    assert_null(tn_nexus_link_parse(k->arena, tn_nexus_link_url(k->arena, &link), "other"));
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++)
        assert_null(tn_nexus_link_parse(k->arena, bad[i], type));
}

static void answers_are_understood(void **state)
{
    Tenon__NexusOutcome o = TENON__NEXUS_OUTCOME__INIT;
    tn_nexus_result r;

    (void)state;
    open_run();
    o.timed_out = true;
    tn_nexus_answer(k->arena, &o, false, tn_nexus_failure_of, &r);
    assert_int_equal(r.kind, TN_NEXUS_AGAIN);
    assert_string_equal(r.failure->nexus_handler_failure_info->type, "UPSTREAM_TIMEOUT");
    o = (Tenon__NexusOutcome)TENON__NEXUS_OUTCOME__INIT;
    o.responded = true; /* an empty response */
    tn_nexus_answer(k->arena, &o, false, tn_nexus_failure_of, &r);
    assert_int_equal(r.kind, TN_NEXUS_AGAIN);
    assert_string_equal(r.failure->message, "empty outcome");
    tn_nexus_answer(k->arena, &o, true, tn_nexus_failure_of, &r);
    assert_int_equal(r.kind, TN_NEXUS_CANCEL_OK);
    assert_false(tn_nexus_retryable("BAD_REQUEST", 0));
    assert_true(tn_nexus_retryable("BAD_REQUEST", 1));
    assert_true(tn_nexus_retryable("INTERNAL", 0));
    assert_false(tn_nexus_retryable("INTERNAL", 2));
}

static void a_breaker_opens_and_tries(void **state)
{
    tn_breakers all;
    uint64_t now = TN_SEC;

    (void)state;
    open_run();
    tn_breakers_init(&all);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(tn_breakers_wait_ns(&all, TN_STR("ns"), TN_STR("d"), now), 0);
        tn_breakers_report(&all, TN_STR("ns"), TN_STR("d"), true, now);
    }
    assert_true(tn_breakers_are_open(&all, TN_STR("ns"), TN_STR("d")));
    assert_false(tn_breakers_are_open(&all, TN_STR("ns"), TN_STR("other")));
    assert_int_equal(tn_breakers_wait_ns(&all, TN_STR("ns"), TN_STR("d"), now), 60 * TN_SEC);
    now += 60 * TN_SEC;
    /* one finds out */
    assert_int_equal(tn_breakers_wait_ns(&all, TN_STR("ns"), TN_STR("d"), now), 0);
    assert_true(tn_breakers_wait_ns(&all, TN_STR("ns"), TN_STR("d"), now) > 0);
    tn_breakers_report(&all, TN_STR("ns"), TN_STR("d"), true, now);
    assert_int_equal(tn_breakers_wait_ns(&all, TN_STR("ns"), TN_STR("d"), now), 60 * TN_SEC);
    now += 60 * TN_SEC;
    assert_int_equal(tn_breakers_wait_ns(&all, TN_STR("ns"), TN_STR("d"), now), 0);
    tn_breakers_report(&all, TN_STR("ns"), TN_STR("d"), false, now);
    assert_false(tn_breakers_are_open(&all, TN_STR("ns"), TN_STR("d")));
    for (int i = 0; i < 100; i++)
        assert_int_equal(tn_breakers_wait_ns(&all, TN_STR("ns"), TN_STR("d"), now), 0);
    assert_true(tn_breakers_wait_ns(&all, TN_STR("ns"), TN_STR("d"), now) > 0); /* enough are out */
    tn_breakers_done(&all);
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, teardown)
    const struct CMUnitTest tests[] = {
        T(an_operation_answers_at_once),
        T(an_operation_completes_later),
        T(a_completion_may_come_first),
        T(results_wait_in_the_buffer),
        T(tries_back_off),
        T(each_time_out_strikes),
        T(cancelling),
        T(bad_commands_fail_the_task),
        T(callbacks_are_sent_when_all_is_over),
        T(callbacks_go_on_with_the_chain),
        T(there_is_a_most_of_callbacks),
        T(a_completion_says_how_it_ended),
        T(links_travel_as_urls),
        T(answers_are_understood),
        T(a_breaker_opens_and_tries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
