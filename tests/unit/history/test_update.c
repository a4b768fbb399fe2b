/* SPDX-License-Identifier: MIT */
/* Updates, event by event: what is written, and what is not.  The histories are those that the
 * reference server makes. */
#include "machine_kit.h"

#include "temporal/api/protocol/v1/message.pb-c.h"
#include "temporal/api/update/v1/message.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest complete_request;
typedef Temporal__Api__Protocol__V1__Message message;

#define FIRST_TASK "Started WtScheduled WtStarted WtCompleted"

/* ---- words ----------------------------------------------------------------------------------- */

static bool admit_anew(kit *k, const char *id, bool again)
{
    Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__update_workflow_execution_request);
    tn_tx *tx = kit_begin(k);

    r->request = TN_MSG(k->arena, temporal__api__update__v1__request);
    r->request->meta = TN_MSG(k->arena, temporal__api__update__v1__meta);
    r->request->meta->update_id = (char *)(uintptr_t)id;
    r->request->input = TN_MSG(k->arena, temporal__api__update__v1__input);
    r->request->input->name = (char *)"change";
    return kit_end(k, tn_machine_update_admit(tx, r, again));
}

static bool admit(kit *k, const char *id) { return admit_anew(k, id, false); }

static size_t sent(kit *k, bool again)
{
    message **messages = NULL;
    size_t n = tn_machine_update_messages(k->ms, k->arena, again, &messages);

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(messages[i]->event_id, k->ms->wft.started_id - 1);
        assert_string_equal(messages[i]->body->type_url,
                            "type.googleapis.com/temporal.api.update.v1.Request");
    }
    return n;
}

static void say(kit *k, complete_request *r, const char *id, const char *type, const void *body)
{
    message *m = TN_MSG(k->arena, temporal__api__protocol__v1__message);
    tn_blob packed = tn_msg_pack(k->arena, body);
    message **grown = tn_arena_array(k->arena, r->n_messages + 1, sizeof(message *));

    if (r->n_messages)
        memcpy(grown, r->messages, r->n_messages * sizeof(message *));
    r->messages = grown;
    r->messages[r->n_messages++] = m;
    m->id = tn_arena_printf(k->arena, "%s/%s", id, type);
    m->protocol_instance_id = (char *)(uintptr_t)id;
    m->body = TN_MSG(k->arena, google__protobuf__any);
    m->body->type_url =
        tn_arena_printf(k->arena, "type.googleapis.com/temporal.api.update.v1.%s", type);
    m->body->value = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
}

static void say_accept(kit *k, complete_request *r, const char *id)
{
    Temporal__Api__Update__V1__Acceptance a = TEMPORAL__API__UPDATE__V1__ACCEPTANCE__INIT;

    a.accepted_request_message_id = (char *)"request";
    a.accepted_request_sequencing_event_id = 4;
    say(k, r, id, "Acceptance", &a);
}

static void say_reject(kit *k, complete_request *r, const char *id)
{
    Temporal__Api__Update__V1__Rejection rejection = TEMPORAL__API__UPDATE__V1__REJECTION__INIT;
    Temporal__Api__Failure__V1__Failure failure = TEMPORAL__API__FAILURE__V1__FAILURE__INIT;

    failure.message = (char *)"not now";
    rejection.failure = &failure;
    say(k, r, id, "Rejection", &rejection);
}

static void say_complete(kit *k, complete_request *r, const char *id)
{
    Temporal__Api__Update__V1__Response response = TEMPORAL__API__UPDATE__V1__RESPONSE__INIT;
    Temporal__Api__Update__V1__Meta meta = TEMPORAL__API__UPDATE__V1__META__INIT;
    Temporal__Api__Update__V1__Outcome outcome = TEMPORAL__API__UPDATE__V1__OUTCOME__INIT;

    meta.update_id = (char *)(uintptr_t)id;
    response.meta = &meta;
    outcome.value_case = TEMPORAL__API__UPDATE__V1__OUTCOME__VALUE_SUCCESS;
    outcome.success = kit_payloads(k, "done");
    response.outcome = &outcome;
    say(k, r, id, "Response", &response);
}

/* Ends of updates that came with the last completion. */
static size_t n_ends;
static bool all_rejected;

static bool complete(kit *k, complete_request *r, tn_wft_completed_out *out)
{
    Tenon__TaskToken *token = kit_token(k);
    tn_wft_completed_out own;
    tn_tx *tx = kit_begin(k);
    const tn_fault *fault = tn_machine_wft_completed(tx, token, r, out ? out : &own);

    n_ends = tx->n_update_ends;
    all_rejected = true;
    for (size_t i = 0; i < n_ends; i++)
        all_rejected = all_rejected && tx->update_ends[i].rejection;
    return kit_end(k, fault);
}

static complete_request *answer_of(kit *k) { return kit_complete_request(k, 0, NULL); }

/* A run that waits for something to happen. */
static void open_idle(kit *k)
{
    kit_open(k, 1);
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
    assert_true(kit_complete_none(k));
    KIT_EXPECT(k, FIRST_TASK);
}

static const tn_update *known(kit *k, const char *id)
{
    return tn_ms_update(k->ms, tn_str_from(id));
}

/* ---- the plain ways -------------------------------------------------------------------------- */

static void accepted_and_completed(void **state)
{
    kit kit_, *k = &kit_;
    complete_request *r;
    (void)state;

    open_idle(k);
    size_t records = k->n_records;
    assert_true(admit(k, "u"));
    assert_true(k->ms->wft.speculative);
    assert_int_equal(tn_ms_deadline_ns(k->ms), k->ms->wft.scheduled_ns + 5 * TN_SEC);
    assert_true(kit_poll(k));
    assert_int_equal(sent(k, true), 1);
    assert_int_equal(k->n_records, records);
    KIT_EXPECT(k, FIRST_TASK);
    r = answer_of(k);
    say_accept(k, r, "u");
    say_complete(k, r, "u");
    assert_true(complete(k, r, NULL));
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtStarted WtCompleted UpdAccepted UpdCompleted");
    assert_int_equal(k->n_records, records + 1);
    assert_int_equal(known(k, "u")->stage, TN_UPDATE_COMPLETED);
    assert_int_equal(known(k, "u")->completed_id, 9);
    assert_int_equal(
        kit_event(k, 9)->workflow_execution_update_completed_event_attributes->accepted_event_id,
        8);
    assert_string_equal(
        kit_event(k, 8)
            ->workflow_execution_update_accepted_event_attributes->accepted_request->input->name,
        "change");
    /* the same id again: nothing more happens */
    assert_true(admit(k, "u"));
    assert_false(tn_ms_wft_pending(k->ms));
    kit_close(k);
}

static void rejection_leaves_nothing(void **state)
{
    kit kit_, *k = &kit_;
    complete_request *r;
    tn_wft_completed_out out;
    (void)state;

    open_idle(k);
    size_t records = k->n_records;
    assert_true(admit(k, "u"));
    assert_true(kit_poll(k));
    assert_int_equal(sent(k, true), 1);
    r = answer_of(k);
    say_reject(k, r, "u");
    assert_true(complete(k, r, &out));
    assert_int_equal(out.reset_history_event_id, 3);
    assert_int_equal(n_ends, 1);
    assert_true(all_rejected);
    assert_null(known(k, "u"));
    assert_int_equal(k->n_records, records);
    assert_false(tn_ms_wft_pending(k->ms));
    KIT_EXPECT(k, FIRST_TASK);
    assert_true(kit_signal(k, "s", ""));
    KIT_EXPECT(k, FIRST_TASK " Signaled WtScheduled");
    kit_close(k);
}

static void unprocessed_is_rejected(void **state)
{
    kit kit_, *k = &kit_;
    (void)state;

    open_idle(k);
    admit(k, "u");
    kit_poll(k);
    sent(k, true);
    assert_true(complete(k, answer_of(k), NULL));
    assert_int_equal(n_ends, 1);
    assert_true(all_rejected);
    KIT_EXPECT(k, FIRST_TASK);
    kit_close(k);
}

static void completed_by_a_later_task(void **state)
{
    kit kit_, *k = &kit_;
    complete_request *r;
    tn_error err;
    tn_ms *again;
    (void)state;

    open_idle(k);
    admit(k, "u");
    kit_poll(k);
    sent(k, true);
    r = answer_of(k);
    say_accept(k, r, "u");
    assert_true(complete(k, r, NULL));
    assert_int_equal(known(k, "u")->stage, TN_UPDATE_ACCEPTED);
    kit_crash(k);
    assert_int_equal(known(k, "u")->stage, TN_UPDATE_ACCEPTED);
    again = kit_through_snapshot(k->ms, &err);
    assert_int_equal(tn_ms_update(again, TN_STR("u"))->accepted_id, 8);
    tn_ms_destroy(again);
    kit_signal(k, "s", "");
    kit_poll(k);
    assert_int_equal(sent(k, true), 0);
    r = answer_of(k);
    say_complete(k, r, "u");
    assert_true(complete(k, r, NULL));
    KIT_EXPECT(k, FIRST_TASK
               " WtScheduled WtStarted WtCompleted UpdAccepted Signaled WtScheduled WtStarted "
               "WtCompleted UpdCompleted");
    kit_close(k);
}

/* ---- the speculative task becomes an ordinary one --------------------------------------------- */

static void signal_before_its_start(void **state)
{
    kit kit_, *k = &kit_;
    complete_request *r;
    (void)state;

    open_idle(k);
    admit(k, "u");
    kit_signal(k, "s", "");
    KIT_EXPECT(k, FIRST_TASK " WtScheduled Signaled");
    kit_poll(k);
    assert_int_equal(sent(k, true), 1);
    r = answer_of(k);
    say_reject(k, r, "u");
    assert_true(complete(k, r, NULL));
    KIT_EXPECT(k, FIRST_TASK " WtScheduled Signaled WtStarted WtCompleted");
    kit_close(k);
}

static void signal_while_it_runs(void **state)
{
    kit kit_, *k = &kit_;
    complete_request *r;
    (void)state;

    open_idle(k);
    admit(k, "u");
    kit_poll(k);
    sent(k, true);
    r = answer_of(k);
    Tenon__TaskToken *token = kit_token(k);
    kit_signal(k, "s", "");
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtStarted");
    say_reject(k, r, "u");
    assert_true(kit_complete_with(k, token, r, NULL));
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtStarted WtCompleted Signaled WtScheduled");
    kit_close(k);
}

static void nobody_takes_it(void **state)
{
    kit kit_, *k = &kit_;
    (void)state;

    open_idle(k);
    admit(k, "u");
    kit_wait(k, 6);
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtTimedOut WtScheduled");
    kit_poll(k);
    assert_int_equal(sent(k, true), 1);
    kit_close(k);
}

static void times_out(void **state)
{
    kit kit_, *k = &kit_;
    (void)state;

    open_idle(k);
    admit(k, "u");
    kit_poll(k);
    sent(k, true);
    kit_wait(k, 11);
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtStarted WtTimedOut");
    assert_int_equal(k->ms->wft.attempt, 2);
    kit_poll(k);
    assert_int_equal(sent(k, true), 1); /* once more */
    kit_close(k);
}

static void fails(void **state)
{
    kit kit_, *k = &kit_;
    complete_request *r;
    (void)state;

    open_idle(k);
    admit(k, "u");
    kit_poll(k);
    sent(k, true);
    assert_true(kit_fail_wft(k));
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtStarted WtFailed");
    kit_poll(k);
    assert_int_equal(sent(k, true), 1);
    r = answer_of(k);
    say_accept(k, r, "u");
    say_complete(k, r, "u");
    assert_true(complete(k, r, NULL));
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtStarted WtFailed WtScheduled WtStarted WtCompleted "
                             "UpdAccepted UpdCompleted");
    kit_close(k);
}

/* ---- the run ends ---------------------------------------------------------------------------- */

static void terminated(void **state)
{
    kit kit_, *k = &kit_;
    (void)state;

    open_idle(k);
    admit(k, "u");
    assert_true(kit_terminate(k));
    KIT_EXPECT(k, FIRST_TASK " Terminated");
    assert_null(known(k, "u"));
    assert_false(admit(k, "v"));
    assert_int_equal(k->fault->code, TN_GRPC_NOT_FOUND);
    kit_close(k);
    open_idle(k);
    admit(k, "u");
    kit_poll(k);
    assert_true(kit_terminate(k));
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtStarted WtFailed Terminated");
    kit_close(k);
}

static void closes_over_an_accepted_one(void **state)
{
    kit kit_, *k = &kit_;
    complete_request *r;
    (void)state;

    open_idle(k);
    admit(k, "u");
    admit(k, "v");
    kit_poll(k);
    assert_int_equal(sent(k, true), 2);
    r = kit_complete_request(k, 1, (kit_command *[]){kit_cmd_complete(k)});
    say_accept(k, r, "u"); /* behind the closing command: too late */
    assert_true(complete(k, r, NULL));
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtStarted WtCompleted Completed");
    assert_null(known(k, "u"));
    assert_null(known(k, "v"));
    kit_close(k);
}

/* ---- mistakes and limits --------------------------------------------------------------------- */

static void wrong_messages(void **state)
{
    kit kit_, *k = &kit_;
    complete_request *r;
    (void)state;

    open_idle(k);
    admit(k, "u");
    kit_poll(k);
    sent(k, true);
    r = answer_of(k);
    say_complete(k, r, "u");
    assert_false(complete(k, r, NULL));
    assert_true(tn_str_is(
        k->fault->message,
        "BadUpdateWorkflowExecutionMessage: invalid state transition attempted for Update u: "
        "received *update.Response message while in state Sent"));
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtStarted WtFailed");
    assert_int_equal(n_ends, 1);
    assert_false(all_rejected); /* its caller is told that the task failed */
    assert_null(known(k, "u"));
    kit_close(k);
}

static void limits_hold(void **state)
{
    static const char *const ids[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    kit kit_, *k = &kit_;
    (void)state;

    open_idle(k);
    for (size_t i = 0; i < TN_COUNT_OF(ids); i++)
        assert_true(admit(k, ids[i]));
    assert_false(admit(k, "a"));
    assert_int_equal(k->fault->code, TN_GRPC_RESOURCE_EXHAUSTED);
    assert_true(tn_str_is(k->fault->message,
                          "limit on number of concurrent in-flight updates has been reached (10)"));
    assert_true(admit(k, "3"));
    k->limits.updates_in_flight_max = 100;
    k->limits.updates_max = 10;
    assert_false(admit(k, "a"));
    assert_int_equal(k->fault->code, TN_GRPC_FAILED_PRECONDITION);
    k->limits.updates_max = 0;
    k->limits.updates_in_flight_bytes_max = 100;
    assert_false(admit(k, "a"));
    assert_int_equal(k->fault->code, TN_GRPC_RESOURCE_EXHAUSTED);
    kit_close(k);
}

static void a_failing_run_takes_none(void **state)
{
    kit kit_, *k = &kit_;
    (void)state;

    kit_open(k, 1);
    kit_start(k);
    for (int i = 0; i < 2; i++) {
        kit_poll(k);
        kit_fail_wft(k);
    }
    assert_false(admit(k, "u"));
    assert_int_equal(k->fault->code, TN_GRPC_FAILED_PRECONDITION);
    assert_true(admit_anew(k, "v", true)); /* it was taken in before the task failed */
    assert_true(kit_poll(k));
    assert_int_equal(sent(k, true), 1);
    kit_close(k);
}

static void a_crash_forgets_what_is_not_accepted(void **state)
{
    kit kit_, *k = &kit_;
    (void)state;

    open_idle(k);
    admit(k, "u");
    kit_poll(k);
    kit_crash(k);
    assert_null(known(k, "u"));
    assert_false(tn_ms_wft_pending(k->ms));
    KIT_EXPECT(k, FIRST_TASK);
    kit_close(k);
}

static void what_came_meanwhile_rides_on(void **state)
{
    kit kit_, *k = &kit_;
    complete_request *r;
    tn_wft_completed_out out;
    (void)state;

    open_idle(k);
    admit(k, "u");
    kit_poll(k);
    sent(k, true);
    admit(k, "v"); /* behind its task's start */
    r = answer_of(k);
    r->return_new_workflow_task = true;
    say_reject(k, r, "u");
    assert_true(complete(k, r, &out));
    assert_true(out.speculate);
    tn_tx *tx = kit_begin(k);
    tn_machine_wft_speculate(tx, r);
    kit_end(k, NULL);
    assert_int_equal(sent(k, true), 1);
    KIT_EXPECT(k, FIRST_TASK);
    r = answer_of(k);
    say_accept(k, r, "v");
    assert_true(complete(k, r, NULL));
    KIT_EXPECT(k, FIRST_TASK " WtScheduled WtStarted WtCompleted UpdAccepted");
    kit_close(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_and_completed),
        cmocka_unit_test(rejection_leaves_nothing),
        cmocka_unit_test(unprocessed_is_rejected),
        cmocka_unit_test(completed_by_a_later_task),
        cmocka_unit_test(signal_before_its_start),
        cmocka_unit_test(signal_while_it_runs),
        cmocka_unit_test(nobody_takes_it),
        cmocka_unit_test(times_out),
        cmocka_unit_test(fails),
        cmocka_unit_test(terminated),
        cmocka_unit_test(closes_over_an_accepted_one),
        cmocka_unit_test(wrong_messages),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_failing_run_takes_none),
        cmocka_unit_test(a_crash_forgets_what_is_not_accepted),
        cmocka_unit_test(what_came_meanwhile_rides_on),
    };

    return cmocka_run_group_tests_name("update", tests, NULL, NULL);
}
