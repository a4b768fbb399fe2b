/* SPDX-License-Identifier: MIT */
/* Activities: attempts, the four time-outs, heartbeats, cancellation, answers by id, crashes in
 * between, and what workers and descriptions are told.
 * (One file, though long: every section leans on the helpers at its top.) */
#include "machine_kit.h"

#include "history/machine/parts.h"

typedef Temporal__Api__Command__V1__ScheduleActivityTaskCommandAttributes activity_attrs;
typedef Temporal__Api__Failure__V1__Failure failure_msg;

#define SCHEDULED 5 /* the first activity's scheduled event */

static kit kit_, *k = &kit_;

static void with_policy(activity_attrs *a, double initial_s, double coefficient, int attempts)
{
    a->retry_policy = TN_MSG(k->arena, temporal__api__common__v1__retry_policy);
    a->retry_policy->initial_interval = kit_seconds(k, initial_s);
    a->retry_policy->backoff_coefficient = coefficient;
    a->retry_policy->maximum_attempts = attempts;
}

/* A run that has scheduled this activity, and waits. */
static void schedule(void (*change)(activity_attrs *a))
{
    kit_command *c;

    kit_open(k, 3);
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
    c = kit_cmd_activity(k, "a", 10);
    if (change)
        change(c->schedule_activity_task_command_attributes);
    assert_true(KIT_COMPLETE(k, c));
    k->now_ns += TN_SEC / 10;
}

static const tn_activity *pending(void)
{
    const tn_activity *a = tn_ms_activity(k->ms, SCHEDULED);

    assert_non_null(a);
    return a;
}

static bool start_as(const char *worker, bool *out_durable)
{
    tn_activity *a = tn_ms_activity(k->ms, SCHEDULED);
    tn_tx *tx = kit_begin(k);
    bool durable = false;
    const tn_fault *fault;

    fault = tn_machine_activity_start(
        tx, SCHEDULED, a ? a->stamp : 0,
        &(tn_poller){.identity = tn_str_from(worker), .request_id = TN_STR("req")}, &durable);
    if (out_durable)
        *out_durable = durable;
    return kit_end(k, fault);
}

static void unstart(const char *request_id)
{
    tn_tx *tx = kit_begin(k);

    tn_machine_activity_unstart(tx, SCHEDULED, tn_str_from(request_id));
    assert_true(kit_end(k, NULL));
}

static Tenon__TaskToken *token(void)
{
    const tn_activity *a = pending();
    Tenon__TaskToken *t = TN_MSG(k->arena, tenon__task_token);

    t->scheduled_id = a->scheduled_id;
    t->attempt = a->attempt;
    t->started_ns = a->started_ns;
    t->nonce = a->nonce;
    t->identity = tn_arena_strdup(k->arena, a->identity ? a->identity : "");
    return t;
}

static Tenon__TaskToken *started(void)
{
    assert_true(start_as("w1", NULL));
    return token();
}

static bool complete(const Tenon__TaskToken *t, const char *id)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__respond_activity_task_completed_request);
    tn_tx *tx = kit_begin(k);

    r->identity = (char *)"w1";
    r->result = kit_payloads(k, "done");
    return kit_end(k, tn_machine_activity_completed(tx, t, tn_str_from(id), r));
}

static failure_msg *failure(const char *message, const char *type, bool last, double delay_s)
{
    failure_msg *f = TN_MSG(k->arena, temporal__api__failure__v1__failure);

    f->message = tn_arena_strdup(k->arena, message);
    f->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO;
    f->application_failure_info =
        TN_MSG(k->arena, temporal__api__failure__v1__application_failure_info);
    f->application_failure_info->type = tn_arena_strdup(k->arena, type);
    f->application_failure_info->non_retryable = last;
    if (delay_s >= 0)
        f->application_failure_info->next_retry_delay = kit_seconds(k, delay_s);
    return f;
}

static bool answer_failed(const Tenon__TaskToken *t, const char *id, failure_msg *f,
                          const char *details)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__respond_activity_task_failed_request);
    tn_tx *tx = kit_begin(k);

    r->identity = (char *)"w1";
    r->failure = f;
    r->last_heartbeat_details = details ? kit_payloads(k, details) : NULL;
    return kit_end(k, tn_machine_activity_failed(tx, t, tn_str_from(id), r));
}

static bool cancel_answer(const Tenon__TaskToken *t)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__respond_activity_task_canceled_request);
    tn_tx *tx = kit_begin(k);

    r->identity = (char *)"w1";
    r->details = kit_payloads(k, "stopped");
    return kit_end(k, tn_machine_activity_canceled(tx, t, TN_STR(""), r));
}

static bool heartbeat(const Tenon__TaskToken *t, const char *id, const char *details,
                      bool *out_cancel)
{
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__record_activity_task_heartbeat_request);
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatResponse *out = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__record_activity_task_heartbeat_response);
    size_t records = k->n_records;
    tn_tx *tx = kit_begin(k);
    bool ok;

    r->details = details ? kit_payloads(k, details) : NULL;
    ok = kit_end(k, tn_machine_activity_heartbeat(tx, t, tn_str_from(id), r, out));
    if (k->n_records == records)
        k->extras_pending = true; /* memory is ahead of the records, as it may be */
    if (out_cancel)
        *out_cancel = out->cancel_requested;
    return ok;
}

static void expect_fault(tn_grpc_code code, const char *text)
{
    if (!k->fault || k->fault->code != code || !tn_str_is(k->fault->message, text))
        fail_msg("want: %s\n    got: " TN_STR_FMT, text,
                 TN_STR_ARG(k->fault ? k->fault->message : TN_STR("success")));
}

#define GONE "invalid activityID or activity already timed out or invoking workflow is completed"
#define BEGIN "Started WtScheduled WtStarted WtCompleted ActScheduled"

static int teardown(void **state)
{
    (void)state;
    kit_close(k);
    return 0;
}

/* ---- one attempt ----------------------------------------------------------------------------- */

static void completes(void **state)
{
    Tenon__TaskToken *t;
    uint64_t started_ns;
    size_t records;

    (void)state;
    schedule(NULL);
    records = k->n_records;
    t = started();
    assert_int_equal(k->n_records, records); /* a start is not worth a commit */
    started_ns = k->now_ns;
    k->now_ns += 3 * TN_SEC;
    assert_true(complete(t, ""));
    KIT_EXPECT(k, BEGIN " ActStarted ActCompleted WtScheduled");
    assert_int_equal(tn_event_time_ns(kit_event(k, 6)), started_ns);
    assert_int_equal(kit_event(k, 6)->activity_task_started_event_attributes->attempt, 1);
    assert_int_equal(kit_event(k, 6)->activity_task_started_event_attributes->scheduled_event_id,
                     5);
    assert_string_equal(kit_event(k, 6)->activity_task_started_event_attributes->identity, "w1");
    assert_string_equal(kit_event(k, 6)->activity_task_started_event_attributes->request_id, "req");
    assert_int_equal(kit_event(k, 7)->activity_task_completed_event_attributes->scheduled_event_id,
                     5);
    assert_int_equal(kit_event(k, 7)->activity_task_completed_event_attributes->started_event_id,
                     6);
    assert_false(complete(t, ""));
    expect_fault(TN_GRPC_NOT_FOUND, GONE);
}

static void is_started_once(void **state)
{
    tn_activity *a;
    tn_tx *tx;
    bool durable;

    (void)state;
    schedule(NULL);
    a = tn_ms_activity(k->ms, SCHEDULED);
    tx = kit_begin(k);
    assert_false(kit_end(
        k, tn_machine_activity_start(tx, SCHEDULED, a->stamp + 1, &(tn_poller){0}, &durable)));
    assert_int_equal(k->fault->code, TN_GRPC_NOT_FOUND);
    assert_true(start_as("w1", &durable));
    assert_false(durable);
    assert_true(start_as("w1", NULL)); /* the same request again */
    tx = kit_begin(k);
    assert_false(kit_end(k, tn_machine_activity_start(tx, SCHEDULED, a->stamp,
                                                      &(tn_poller){.request_id = TN_STR("other")},
                                                      &durable)));
    assert_int_equal(k->fault->code, TN_GRPC_NOT_FOUND);
    tx = kit_begin(k);
    assert_false(kit_end(k, tn_machine_activity_start(tx, 99, 1, &(tn_poller){0}, &durable)));
    expect_fault(TN_GRPC_NOT_FOUND, GONE);
}

/* The host's clock was put back, or the shard's new host has one that is behind: matching has the task of an offer that is
 * made once, so to refuse it was to lose it. */
static void an_offer_holds_when_the_clock_goes_back(void **state)
{
    tn_activity *a;

    (void)state;
    schedule(NULL);
    a = tn_ms_activity(k->ms, SCHEDULED);
    k->now_ns -= 3 * TN_SEC;
    a->dispatched = false; /* it has not been offered: an old task of it is nobody's */
    assert_false(start_as("w1", NULL));
    a->dispatched = true;
    assert_true(start_as("w1", NULL));
    assert_true(pending()->started_ns >= pending()->attempt_scheduled_ns);
}

static void once_only(activity_attrs *a) { with_policy(a, 1, 2, 1); }

/* What may run once only is recorded before the worker has it, and is not handed out again. */
static void single_attempts_are_durable(void **state)
{
    bool durable;
    Tenon__TaskToken *t;

    (void)state;
    schedule(once_only);
    assert_true(start_as("w1", &durable));
    assert_true(durable);
    t = token();
    kit_crash(k);
    assert_int_equal(pending()->started_ns, t->started_ns);
    assert_string_equal(pending()->identity, "w1");
    assert_false(start_as("w2", NULL) && pending()->nonce != t->nonce);
    assert_true(answer_failed(t, "", failure("x", "T", false, -1), NULL));
    KIT_EXPECT(k, BEGIN " ActStarted ActFailed WtScheduled");
    assert_int_equal(kit_event(k, 7)->activity_task_failed_event_attributes->retry_state,
                     TN_RETRY_MAXIMUM_ATTEMPTS_REACHED);
}

/* ---- retries --------------------------------------------------------------------------------- */

static void quick(activity_attrs *a) { with_policy(a, 2, 3, 3); }

static void retries_until_attempts_run_out(void **state)
{
    Tenon__TaskToken *t;

    (void)state;
    schedule(quick);
    t = started();
    assert_true(answer_failed(t, "", failure("first", "T", false, -1), "progress"));
    KIT_EXPECT(k, BEGIN);
    assert_int_equal(pending()->attempt, 2);
    assert_int_equal(pending()->attempt_scheduled_ns, k->now_ns + 2 * TN_SEC);
    assert_int_equal(tn_ms_deadline_ns(k->ms), k->now_ns + 2 * TN_SEC);
    assert_false(start_as("w1", NULL)); /* not before its time */
    assert_false(complete(t, ""));      /* the old attempt's word no longer counts */
    expect_fault(TN_GRPC_NOT_FOUND, GONE);
    kit_crash(k); /* the second attempt is in the records */
    assert_int_equal(pending()->attempt, 2);
    k->now_ns += 2 * TN_SEC;
    t = started();
    assert_int_equal(t->attempt, 2);
    assert_true(answer_failed(t, "", failure("second", "T", false, 0.5), NULL));
    assert_int_equal(pending()->attempt_scheduled_ns,
                     k->now_ns + TN_SEC / 2); /* as the worker asked */
    k->now_ns += TN_SEC;
    t = started();
    assert_true(answer_failed(t, "", failure("third", "T", false, -1), NULL));
    KIT_EXPECT(k, BEGIN " ActStarted ActFailed WtScheduled");
    assert_int_equal(kit_event(k, 6)->activity_task_started_event_attributes->attempt, 3);
    assert_string_equal(
        kit_event(k, 6)->activity_task_started_event_attributes->last_failure->message, "second");
    assert_string_equal(kit_event(k, 7)->activity_task_failed_event_attributes->failure->message,
                        "third");
    assert_int_equal(kit_event(k, 7)->activity_task_failed_event_attributes->retry_state,
                     TN_RETRY_MAXIMUM_ATTEMPTS_REACHED);
}

static void short_total(activity_attrs *a)
{
    with_policy(a, 20, 1, 9);
    a->schedule_to_close_timeout = kit_seconds(k, 5);
}

static void retry_would_come_too_late(void **state)
{
    (void)state;
    schedule(short_total);
    assert_true(answer_failed(started(), "", failure("last", "T", false, -1), NULL));
    KIT_EXPECT(k, BEGIN " ActStarted ActFailed WtScheduled");
    assert_int_equal(kit_event(k, 7)->activity_task_failed_event_attributes->retry_state,
                     TN_RETRY_TIMEOUT);
}

static void non_retryable_failures_are_the_last(void **state)
{
    (void)state;
    schedule(quick);
    assert_true(answer_failed(started(), "", failure("no", "T", true, -1), NULL));
    KIT_EXPECT(k, BEGIN " ActStarted ActFailed WtScheduled");
    assert_int_equal(kit_event(k, 7)->activity_task_failed_event_attributes->retry_state,
                     TN_RETRY_NON_RETRYABLE_FAILURE);
}

static void large_answers_become_failures(void **state)
{
    char *text;

    (void)state;
    schedule(NULL);
    k->limits.blob_bytes_max = 1000;
    k->limits.blob_bytes_warn = 500;
    text = tn_arena_zalloc(k->arena, 2001);
    memset(text, 'x', 2000);
    assert_true(answer_failed(started(), "", failure(text, "T", true, -1), NULL));
    KIT_EXPECT(k, BEGIN " ActStarted ActFailed WtScheduled");
    assert_string_equal(kit_event(k, 7)->activity_task_failed_event_attributes->failure->message,
                        "Failure exceeds size limit.");
    assert_true(
        strlen(kit_event(k, 7)->activity_task_failed_event_attributes->failure->cause->message) <=
        500);
}

/* ---- time-outs ------------------------------------------------------------------------------- */

static const failure_msg *timed_out(int64_t id, int32_t want_type, int32_t want_state,
                                    const char *want_text)
{
    const Temporal__Api__History__V1__ActivityTaskTimedOutEventAttributes *attrs =
        kit_event(k, id)->activity_task_timed_out_event_attributes;

    assert_int_equal(attrs->retry_state, want_state);
    assert_int_equal(attrs->failure->timeout_failure_info->timeout_type, want_type);
    assert_string_equal(attrs->failure->message, want_text);
    assert_string_equal(attrs->failure->source, "Server");
    return attrs->failure;
}

static void waits_short(activity_attrs *a) { a->schedule_to_start_timeout = kit_seconds(k, 4); }

static void nobody_starts_it(void **state)
{
    (void)state;
    schedule(waits_short);
    kit_wait(k, 3);
    KIT_EXPECT(k, BEGIN);
    kit_wait(k, 1);
    KIT_EXPECT(k, BEGIN " ActTimedOut WtScheduled");
    timed_out(6, TN_TIMEOUT_SCHEDULE_TO_START, TN_RETRY_TIMEOUT,
              "activity ScheduleToStart timeout");
    assert_int_equal(kit_event(k, 6)->activity_task_timed_out_event_attributes->started_event_id,
                     0);
}

static void start_to_close_is_retried(void **state)
{
    Tenon__TaskToken *t;
    const failure_msg *f;

    (void)state;
    schedule(quick);
    t = started();
    kit_wait(k, 9.9);
    assert_int_equal(pending()->attempt, 1);
    kit_wait(k, 0.2);
    assert_int_equal(pending()->attempt, 2);
    assert_false(complete(t, ""));
    kit_wait(k, 2);
    started();
    kit_wait(k, 10);
    kit_wait(k, 6);
    started();
    kit_wait(k, 10);
    KIT_EXPECT(k, BEGIN " ActStarted ActTimedOut WtScheduled");
    f = timed_out(7, TN_TIMEOUT_START_TO_CLOSE, TN_RETRY_MAXIMUM_ATTEMPTS_REACHED,
                  "activity StartToClose timeout");
    assert_string_equal(f->cause->message, "activity StartToClose timeout");
    assert_int_equal(kit_event(k, 6)->activity_task_started_event_attributes->attempt, 3);
}

static void total_fifteen(activity_attrs *a)
{
    with_policy(a, 1, 1, 0);
    a->schedule_to_close_timeout = kit_seconds(k, 15);
    a->start_to_close_timeout = kit_seconds(k, 10);
}

static void total_time_runs_out(void **state)
{
    const failure_msg *f;

    (void)state;
    schedule(total_fifteen);
    assert_true(answer_failed(started(), "", failure("mine", "T", false, -1), NULL));
    kit_wait(k, 1);
    started();
    kit_wait(k, 10);
    assert_int_equal(pending()->attempt, 3);
    kit_wait(k, 1);
    started();
    kit_wait(k, 3);
    KIT_EXPECT(k, BEGIN " ActStarted ActTimedOut WtScheduled");
    f = timed_out(7, TN_TIMEOUT_SCHEDULE_TO_CLOSE, TN_RETRY_TIMEOUT,
                  "Not enough time to schedule next retry before activity ScheduleToClose timeout, "
                  "giving up retrying");
    assert_string_equal(f->cause->message, "activity StartToClose timeout");
}

static void beats(activity_attrs *a)
{
    with_policy(a, 1, 1, 2);
    a->start_to_close_timeout = kit_seconds(k, 1000);
    a->heartbeat_timeout = kit_seconds(k, 5);
}

static void heartbeats_keep_it_alive(void **state)
{
    Tenon__TaskToken *t;
    const failure_msg *f;
    bool cancel;

    (void)state;
    schedule(beats);
    t = started();
    for (int i = 0; i < 10; i++) {
        kit_wait(k, 4);
        assert_true(heartbeat(t, "", tn_arena_printf(k->arena, "%d", i), &cancel));
        assert_false(cancel);
    }
    kit_wait(k, 4.9);
    assert_int_equal(pending()->attempt, 1);
    kit_wait(k, 0.2);
    assert_int_equal(pending()->attempt, 2);
    assert_true(pending()->heartbeat_details.n > 0); /* for the next attempt */
    kit_wait(k, 1);
    started();
    kit_wait(k, 5);
    KIT_EXPECT(k, BEGIN " ActStarted ActTimedOut WtScheduled");
    f = timed_out(7, TN_TIMEOUT_HEARTBEAT, TN_RETRY_MAXIMUM_ATTEMPTS_REACHED,
                  "activity Heartbeat timeout");
    assert_memory_equal(f->timeout_failure_info->last_heartbeat_details->payloads[0]->data.data,
                        "9", 1);
}

/* Details are written now and then, not at every beat; the same ones never. */
static void heartbeats_are_written_lazily(void **state)
{
    Tenon__TaskToken *t;
    size_t records;

    (void)state;
    schedule(beats);
    t = started();
    records = k->n_records;
    for (int i = 0; i < 100; i++) {
        kit_wait(k, 0.1);
        assert_true(heartbeat(t, "", tn_arena_printf(k->arena, "%d", i), NULL));
    }
    assert_int_equal(k->n_records - records, 4); /* 10 s, every 2.5 s */
    records = k->n_records;
    for (int i = 0; i < 100; i++) {
        kit_wait(k, 0.1);
        assert_true(heartbeat(t, "", "99", NULL));
    }
    assert_int_equal(k->n_records, records);
}

/* After a crash the last beats are gone; the clock for the next one begins anew with the new
 * owner. */
static void lost_heartbeats_dont_time_out(void **state)
{
    Tenon__TaskToken *t;

    (void)state;
    schedule(beats);
    t = started();
    for (int i = 0; i < 5; i++) {
        kit_wait(k, 2.6);
        assert_true(heartbeat(t, "", tn_arena_printf(k->arena, "%d", i), NULL));
    }
    kit_wait(k, 4);
    kit_crash(k);
    tn_ms_set_owned_since(k->ms, k->now_ns);
    assert_int_equal(tn_ms_deadline_ns(k->ms), k->now_ns + 5 * TN_SEC);
    kit_wait(k, 4);
    assert_true(heartbeat(t, "", "after", NULL));
    kit_wait(k, 4);
    assert_int_equal(pending()->attempt, 1);
    assert_true(complete(t, ""));
    KIT_EXPECT(k, BEGIN " ActStarted ActCompleted WtScheduled");
}

/* Two time-outs at one moment: the smaller kind strikes, once. */
static void same(activity_attrs *a)
{
    with_policy(a, 1, 1, 1);
    a->schedule_to_close_timeout = kit_seconds(k, 5);
    a->start_to_close_timeout = kit_seconds(k, 5);
    a->heartbeat_timeout = kit_seconds(k, 5);
}

static void ties_go_by_kind(void **state)
{
    (void)state;
    schedule(same);
    started();
    k->now_ns += 20 * TN_SEC;
    assert_true(kit_fire(k));
    KIT_EXPECT(k, BEGIN " ActStarted ActTimedOut WtScheduled");
    /* schedule-to-close came due first, by a tenth of a second */
    timed_out(7, TN_TIMEOUT_SCHEDULE_TO_CLOSE, TN_RETRY_TIMEOUT,
              "Not enough time to schedule next retry before activity ScheduleToClose timeout, "
              "giving up retrying");
    kit_close(k);
    schedule(same);
    k->now_ns -= TN_SEC / 10;
    started();
    k->now_ns += 20 * TN_SEC;
    assert_true(kit_fire(k));
    timed_out(7, TN_TIMEOUT_START_TO_CLOSE, TN_RETRY_MAXIMUM_ATTEMPTS_REACHED,
              "activity StartToClose timeout");
}

/* ---- cancellation ---------------------------------------------------------------------------- */

static void request_cancel(void)
{
    assert_true(kit_signal(k, "s", ""));
    assert_true(kit_poll(k));
    assert_true(KIT_COMPLETE(k, kit_cmd_cancel_activity(k, SCHEDULED)));
}

#define ASKED BEGIN " Signaled WtScheduled WtStarted WtCompleted ActCancelRequested"

static void cancelled_before_any_worker(void **state)
{
    const Temporal__Api__History__V1__ActivityTaskCanceledEventAttributes *attrs;

    (void)state;
    schedule(NULL);
    request_cancel();
    KIT_EXPECT(k, ASKED " ActCanceled WtScheduled");
    attrs = kit_event(k, 11)->activity_task_canceled_event_attributes;
    assert_int_equal(attrs->latest_cancel_requested_event_id, 10);
    assert_int_equal(attrs->started_event_id, 0);
    assert_string_equal(attrs->identity, "worker");
    assert_memory_equal(attrs->details->payloads[0]->data.data, "\"ACTIVITY_ID_NOT_STARTED\"", 25);
}

static void cancelled_while_running(void **state)
{
    Tenon__TaskToken *t;
    bool cancel;

    (void)state;
    schedule(NULL);
    t = started();
    assert_false(cancel_answer(t));
    expect_fault(
        TN_GRPC_INVALID_ARGUMENT,
        "unable to mark activity as canceled without activity being request canceled first");
    request_cancel();
    KIT_EXPECT(k, ASKED);
    assert_true(heartbeat(t, "", NULL, &cancel));
    assert_true(cancel);
    assert_true(cancel_answer(t));
    KIT_EXPECT(k, ASKED " ActStarted ActCanceled WtScheduled");
    assert_int_equal(
        kit_event(k, 12)->activity_task_canceled_event_attributes->latest_cancel_requested_event_id,
        10);
    assert_int_equal(kit_event(k, 12)->activity_task_canceled_event_attributes->started_event_id,
                     11);
}

static void a_cancelled_attempt_is_the_last(void **state)
{
    (void)state;
    schedule(quick);
    started();
    request_cancel();
    assert_true(answer_failed(token(), "", failure("x", "T", false, -1), NULL));
    KIT_EXPECT(k, ASKED " ActStarted ActFailed WtScheduled");
    assert_int_equal(kit_event(k, 12)->activity_task_failed_event_attributes->retry_state,
                     TN_RETRY_CANCEL_REQUESTED);
}

static void cancelled_twice_fails_the_task(void **state)
{
    (void)state;
    schedule(NULL);
    started();
    request_cancel();
    assert_true(kit_signal(k, "s", ""));
    assert_true(kit_poll(k));
    assert_false(KIT_COMPLETE(k, kit_cmd_cancel_activity(k, SCHEDULED)));
    expect_fault(TN_GRPC_INVALID_ARGUMENT,
                 "BadRequestCancelActivityAttributes: invalid history builder state for action: "
                 "add-activitytask-cancel-requested-event, ScheduledEventID: 5");
}

/* Its end waits in the buffer when the workflow asks to cancel it: that is no mistake. */
static void cancelled_when_just_done(void **state)
{
    Tenon__TaskToken *t;

    (void)state;
    schedule(NULL);
    t = started();
    assert_true(kit_signal(k, "s", ""));
    assert_true(kit_poll(k));
    assert_true(complete(t, ""));
    KIT_EXPECT(k, BEGIN " Signaled WtScheduled WtStarted");
    assert_null(tn_ms_activity(k->ms, SCHEDULED));
    assert_false(complete(t, ""));
    expect_fault(TN_GRPC_NOT_FOUND, GONE);
    kit_crash(k);
    assert_null(tn_ms_activity(k->ms, SCHEDULED));
    kit_poll(k);
    assert_true(
        KIT_COMPLETE(k, kit_cmd_cancel_activity(k, SCHEDULED), kit_cmd_activity(k, "a", 1)));
    KIT_EXPECT(
        k, BEGIN
        " Signaled WtScheduled WtStarted WtCompleted ActCancelRequested ActScheduled ActStarted "
        "ActCompleted WtScheduled");
    assert_int_equal(kit_event(k, 13)->activity_task_completed_event_attributes->started_event_id,
                     12);
}

/* ---- by id ----------------------------------------------------------------------------------- */

static void answers_by_id(void **state)
{
    (void)state;
    schedule(quick);
    assert_false(answer_failed(NULL, "a", failure("x", "T", false, -1), NULL));
    expect_fault(TN_GRPC_NOT_FOUND, GONE); /* no worker has it */
    assert_false(heartbeat(NULL, "a", NULL, NULL));
    assert_false(complete(NULL, "b"));
    expect_fault(TN_GRPC_NOT_FOUND,
                 "cannot find pending activity with ActivityID b, check workflow execution history "
                 "for more details");
    assert_false(complete(NULL, ""));
    expect_fault(TN_GRPC_INVALID_ARGUMENT, "activityID cannot be empty");
    started();
    assert_true(heartbeat(NULL, "a", "h", NULL));
    assert_true(answer_failed(NULL, "a", failure("x", "T", false, -1), NULL));
    assert_int_equal(pending()->attempt, 2);
    assert_true(complete(NULL, "a")); /* also while it waits for its next attempt */
    KIT_EXPECT(k, BEGIN " ActStarted ActCompleted WtScheduled");
    assert_int_equal(kit_event(k, 6)->activity_task_started_event_attributes->attempt, 2);
    assert_string_equal(kit_event(k, 6)->activity_task_started_event_attributes->request_id, "");
}

/* ---- crashes --------------------------------------------------------------------------------- */

static void a_lost_start_is_believed_once(void **state)
{
    Tenon__TaskToken *first, *second;

    (void)state;
    schedule(NULL);
    first = started();
    kit_crash(k);
    assert_int_equal(pending()->started_ns, 0);
    assert_true(start_as("w2", NULL)); /* the same attempt goes out again */
    second = token();
    assert_int_equal(first->attempt, second->attempt);
    assert_true(complete(first, ""));
    KIT_EXPECT(k, BEGIN " ActStarted ActCompleted WtScheduled");
    assert_false(complete(second, ""));
    expect_fault(TN_GRPC_NOT_FOUND, GONE);
}

static void a_lost_start_lives_on_by_heartbeats(void **state)
{
    Tenon__TaskToken *t;

    (void)state;
    schedule(beats);
    t = started();
    kit_crash(k);
    k->now_ns += TN_SEC;
    assert_true(heartbeat(t, "", "h", NULL));
    assert_int_equal(pending()->started_ns, t->started_ns);
    assert_false(start_as("w2", NULL) && pending()->nonce != t->nonce);
    assert_true(answer_failed(t, "", failure("x", "T", false, -1), NULL));
    assert_int_equal(pending()->attempt, 2);
}

/* A write has failed and the run is read again: what was only in memory is laid over it. */
static void a_failed_write_forgets_no_heartbeat(void **state)
{
    Tenon__TaskToken *t;
    tn_blob unwritten;

    (void)state;
    schedule(beats);
    t = started();
    assert_true(heartbeat(t, "", "old", NULL)); /* neither start nor beat is in a record */
    unwritten = tn_ms_unwritten(k->ms, k->arena);
    assert_true(unwritten.n > 0);
    kit_crash(k);
    assert_int_equal(pending()->started_ns, 0);
    assert_true(tn_ms_recall(k->ms, unwritten));
    assert_int_equal(pending()->started_ns, t->started_ns);
    assert_int_equal(pending()->nonce, t->nonce);
    assert_true(pending()->dispatched && !pending()->started_durable);
    assert_true(heartbeat(t, "", NULL, NULL));
    assert_true(heartbeat(t, "", "new", NULL));
    /* the heartbeat time-out begins the next attempt, which sees the last details */
    kit_wait(k, 5);
    assert_int_equal(pending()->attempt, 2);
    assert_non_null(
        memmem(pending()->heartbeat_details.p, pending()->heartbeat_details.n, "new", 3));
    assert_false(tn_ms_recall(k->ms, unwritten)); /* of another attempt */
    assert_int_equal(pending()->started_ns, 0);
    assert_int_equal(tn_ms_unwritten(k->ms, k->arena).n, 0);
}

static void what_the_store_knows_better_stays(void **state)
{
    Tenon__TaskToken *t;
    tn_blob unwritten;

    (void)state;
    schedule(beats);
    t = started();
    assert_true(heartbeat(t, "", "old", NULL));
    unwritten = tn_ms_unwritten(k->ms, k->arena);
    kit_wait(k, 2.6);
    assert_true(heartbeat(t, "", "durable", NULL));
    kit_crash(k);
    assert_false(tn_ms_recall(k->ms, unwritten));
    assert_non_null(
        memmem(pending()->heartbeat_details.p, pending()->heartbeat_details.n, "durable", 7));
    assert_true(complete(t, ""));
    assert_false(tn_ms_recall(k->ms, unwritten)); /* it has ended */
}

/* Nobody has got the answer: a start that is durable is taken back, for its own request only. */
static void an_unanswered_start_goes_back(void **state)
{
    bool durable;

    (void)state;
    schedule(once_only);
    assert_true(start_as("w1", &durable));
    assert_true(durable);
    kit_crash(k);
    unstart("other");
    assert_true(pending()->started_ns);
    assert_true(start_as("w1", NULL)); /* the same request again: the same task */
    unstart("req");
    assert_false(pending()->started_ns);
    kit_crash(k);
    assert_false(pending()->started_ns);
    assert_int_equal(pending()->attempt, 1);
    assert_true(start_as("w2", NULL));
    assert_true(complete(token(), ""));
}

static void nothing_after_the_close(void **state)
{
    Tenon__TaskToken *t;

    (void)state;
    schedule(NULL);
    t = started();
    assert_true(kit_terminate(k));
    assert_false(complete(t, ""));
    expect_fault(TN_GRPC_NOT_FOUND, "workflow execution already completed");
    assert_false(heartbeat(t, "", NULL, NULL));
    expect_fault(TN_GRPC_NOT_FOUND, "workflow execution already completed");
}

/* ---- eager ----------------------------------------------------------------------------------- */

static void eager_activities_are_started_at_once(void **state)
{
    kit_command *c[20];
    tn_wft_completed_out out;
    Tenon__TaskToken *t;

    (void)state;
    kit_open(k, 3);
    kit_start(k);
    kit_poll(k);
    for (size_t i = 0; i < TN_COUNT_OF(c); i++) {
        c[i] = kit_cmd_activity(k, tn_arena_printf(k->arena, "a%zu", i), 10);
        c[i]->schedule_activity_task_command_attributes->request_eager_execution = i != 1;
    }
    assert_true(
        kit_complete_with(k, kit_token(k), kit_complete_request(k, TN_COUNT_OF(c), c), &out));
    assert_int_equal(out.n_eager_activities, 16);
    assert_int_equal(out.eager_activities[0], 5);
    assert_int_equal(out.eager_activities[1], 7);
    assert_int_not_equal(pending()->started_ns, 0);
    assert_string_equal(pending()->identity, "worker");
    assert_int_equal(tn_ms_activity(k->ms, 6)->started_ns, 0);
    kit_crash(k); /* the record that schedules them says that they are started */
    assert_int_not_equal(pending()->started_ns, 0);
    assert_int_equal(tn_ms_activity(k->ms, 6)->started_ns, 0);
    t = token();
    assert_true(complete(t, ""));
    /* Not when the run is over with the same task. */
    kit_close(k);
    kit_open(k, 3);
    kit_start(k);
    kit_poll(k);
    c[0] = kit_cmd_activity(k, "a", 10);
    c[0]->schedule_activity_task_command_attributes->request_eager_execution = true;
    c[1] = kit_cmd_complete(k);
    assert_true(kit_complete_with(k, kit_token(k), kit_complete_request(k, 2, c), &out));
    assert_int_equal(out.n_eager_activities, 0);
}

/* ---- what others are told -------------------------------------------------------------------- */

static void told(activity_attrs *a)
{
    with_policy(a, 2, 3, 3);
    a->input = kit_payloads(k, "in");
    a->heartbeat_timeout = kit_seconds(k, 3);
    a->priority = TN_MSG(k->arena, temporal__api__common__v1__priority);
    a->priority->priority_key = 4;
}

static void workers_get_the_whole_task(void **state)
{
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *out, *read;
    Tenon__TaskToken *t;

    (void)state;
    schedule(told);
    t = started();
    assert_true(heartbeat(t, "", "progress", NULL));
    assert_true(answer_failed(t, "", failure("x", "T", false, -1), NULL));
    k->now_ns += 2 * TN_SEC;
    started();
    out = TN_MSG(k->arena, temporal__api__workflowservice__v1__poll_activity_task_queue_response);
    tn_machine_activity_task(k->ms, pending(), k->arena, TN_STR("default"), out);
    assert_int_equal(
        TN_PROTO_UNPACK(temporal__api__workflowservice__v1__poll_activity_task_queue_response,
                        tn_msg_pack(k->arena, out), k->arena, &read, NULL),
        TN_OK);
    assert_string_equal(read->workflow_namespace, "default");
    assert_string_equal(read->workflow_type->name, "W");
    assert_string_equal(read->workflow_execution->workflow_id, "wf");
    assert_string_equal(read->workflow_execution->run_id, k->ms->run_id_text);
    assert_string_equal(read->activity_type->name, "A");
    assert_string_equal(read->activity_id, "a");
    assert_memory_equal(read->input->payloads[0]->data.data, "in", 2);
    assert_memory_equal(read->heartbeat_details->payloads[0]->data.data, "progress", 8);
    assert_int_equal(read->attempt, 2);
    assert_int_equal(tn_duration_ns(read->start_to_close_timeout), 10 * TN_SEC);
    assert_int_equal(tn_duration_ns(read->heartbeat_timeout), 3 * TN_SEC);
    assert_non_null(read->schedule_to_close_timeout);
    assert_int_equal(read->retry_policy->maximum_attempts, 3);
    assert_int_equal(read->priority->priority_key, 4);
    assert_non_null(read->scheduled_time);
    assert_int_equal(read->current_attempt_scheduled_time->seconds - read->scheduled_time->seconds,
                     2);
    assert_non_null(read->started_time);
}

static void descriptions_tell_the_state(void **state)
{
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out = NULL;
    Temporal__Api__Workflow__V1__PendingActivityInfo *info;
    Tenon__TaskToken *t;

    (void)state;
    schedule(told);
    t = started();
    assert_true(heartbeat(t, "", "progress", NULL));
    out =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__describe_workflow_execution_response);
    tn_describe_activities(k->ms, k->arena, k->now_ns, out);
    assert_int_equal(out->n_pending_activities, 1);
    info = out->pending_activities[0];
    assert_string_equal(info->activity_id, "a");
    assert_int_equal(info->state, 2); /* STARTED */
    assert_int_equal(info->attempt, 1);
    assert_int_equal(info->maximum_attempts, 3);
    assert_string_equal(info->last_worker_identity, "w1");
    assert_memory_equal(info->heartbeat_details->payloads[0]->data.data, "progress", 8);
    assert_non_null(info->last_started_time);
    assert_null(info->next_attempt_schedule_time);
    assert_true(answer_failed(t, "", failure("x", "T", false, -1), NULL));
    k->now_ns += TN_SEC;
    out =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__describe_workflow_execution_response);
    tn_describe_activities(k->ms, k->arena, k->now_ns, out);
    info = out->pending_activities[0];
    assert_int_equal(info->state, 1); /* SCHEDULED */
    assert_int_equal(info->attempt, 2);
    assert_string_equal(info->last_failure->message, "x");
    assert_int_equal(tn_duration_ns(info->current_retry_interval), 2 * TN_SEC);
    assert_non_null(info->next_attempt_schedule_time);
    assert_null(info->last_started_time);
    assert_string_equal(info->last_worker_identity, "w1");
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(completes),
        TEST(is_started_once),
        TEST(an_offer_holds_when_the_clock_goes_back),
        TEST(single_attempts_are_durable),
        TEST(retries_until_attempts_run_out),
        TEST(retry_would_come_too_late),
        TEST(non_retryable_failures_are_the_last),
        TEST(large_answers_become_failures),
        TEST(nobody_starts_it),
        TEST(start_to_close_is_retried),
        TEST(total_time_runs_out),
        TEST(heartbeats_keep_it_alive),
        TEST(heartbeats_are_written_lazily),
        TEST(lost_heartbeats_dont_time_out),
        TEST(ties_go_by_kind),
        TEST(cancelled_before_any_worker),
        TEST(cancelled_while_running),
        TEST(a_cancelled_attempt_is_the_last),
        TEST(cancelled_twice_fails_the_task),
        TEST(cancelled_when_just_done),
        TEST(answers_by_id),
        TEST(a_lost_start_is_believed_once),
        TEST(a_lost_start_lives_on_by_heartbeats),
        TEST(a_failed_write_forgets_no_heartbeat),
        TEST(what_the_store_knows_better_stays),
        TEST(an_unanswered_start_goes_back),
        TEST(nothing_after_the_close),
        TEST(eager_activities_are_started_at_once),
        TEST(workers_get_the_whole_task),
        TEST(descriptions_tell_the_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
