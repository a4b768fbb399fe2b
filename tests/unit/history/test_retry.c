/* SPDX-License-Identifier: MIT */
/* Retry policies: defaults, checks, back-off, failures that end the row, and cutting failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "history/machine/parts.h"
#include "proto/proto.h"

typedef Temporal__Api__Failure__V1__Failure failure_msg;
typedef Temporal__Api__Common__V1__RetryPolicy policy_msg;

static tn_arena *arena;

static int setup(void **state)
{
    (void)state;
    arena = tn_arena_create(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tn_arena_destroy(arena);
    return 0;
}

static failure_msg *application_failure(const char *type, bool non_retryable, int64_t delay_ns)
{
    failure_msg *f = TN_MSG(arena, temporal__api__failure__v1__failure);

    f->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO;
    f->application_failure_info =
        TN_MSG(arena, temporal__api__failure__v1__application_failure_info);
    f->application_failure_info->type = tn_arena_strdup(arena, type);
    f->application_failure_info->non_retryable = non_retryable;
    if (delay_ns >= 0)
        f->application_failure_info->next_retry_delay = tn_duration_from_ns(arena, delay_ns);
    return f;
}

/* ---- back-off -------------------------------------------------------------------------------- */

#define S(n) ((uint64_t)(n)*TN_SEC)

static void backoff_follows_the_policy(void **state)
{
    static const struct {
        uint64_t initial_ns, max_ns;
        double coefficient;
        int32_t max_attempts, attempt;
        uint64_t now_ns, expire_ns;
        uint64_t want_ns;
        int32_t want_state;
    } table[] = {
        {S(1), S(100), 2, 0, 1, S(50), 0, S(1), TN_RETRY_IN_PROGRESS},
        {S(1), S(100), 2, 0, 2, S(50), 0, S(2), TN_RETRY_IN_PROGRESS},
        {S(1), S(100), 2, 0, 7, S(50), 0, S(64), TN_RETRY_IN_PROGRESS},
        {S(1), S(100), 2, 0, 8, S(50), 0, S(100), TN_RETRY_IN_PROGRESS},
        {S(1), S(100), 2, 0, INT32_MAX, S(50), 0, S(100), TN_RETRY_IN_PROGRESS},
        {S(1), 0, 2, 0, 3, S(50), 0, S(4), TN_RETRY_IN_PROGRESS},
        {S(1), 0, 2, 0, 4000, S(50), 0, INT64_MAX, TN_RETRY_IN_PROGRESS},
        {S(1), 0, 1.5, 0, 3, S(50), 0, S(2) + S(1) / 4, TN_RETRY_IN_PROGRESS},
        {S(3), S(3), 1, 0, 1000000, S(50), 0, S(3), TN_RETRY_IN_PROGRESS},
        {0, 0, 2, 0, 1, S(50), 0, UINT64_MAX, TN_RETRY_TIMEOUT},
        {0, S(5), 2, 0, 1, S(50), 0, S(5), TN_RETRY_IN_PROGRESS},
        {S(1), S(100), 2, 3, 2, S(50), 0, S(2), TN_RETRY_IN_PROGRESS},
        {S(1), S(100), 2, 3, 3, S(50), 0, UINT64_MAX, TN_RETRY_MAXIMUM_ATTEMPTS_REACHED},
        {S(1), S(100), 2, 1, 1, S(50), 0, UINT64_MAX, TN_RETRY_MAXIMUM_ATTEMPTS_REACHED},
        {S(1), S(100), 2, 0, 1, S(50), S(51), S(1), TN_RETRY_IN_PROGRESS},
        {S(1), S(100), 2, 0, 1, S(50), S(51) - 1, UINT64_MAX, TN_RETRY_TIMEOUT},
        {S(1), S(100), 2, 0, 1, S(50), S(49), UINT64_MAX, TN_RETRY_TIMEOUT},
        {S(1), S(100), 2, 0, 0, S(50), 0, S(1), TN_RETRY_IN_PROGRESS},
    };

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(table); i++) {
        tn_retry retry = {
            true, table[i].initial_ns, table[i].max_ns, table[i].coefficient, table[i].max_attempts,
            NULL};
        int32_t got = 0;

        assert_int_equal(tn_retry_backoff_ns(&retry, table[i].attempt, table[i].now_ns,
                                             table[i].expire_ns, NULL, &got),
                         table[i].want_ns);
        assert_int_equal(got, table[i].want_state);
        assert_int_equal(tn_retry_activity_backoff_ns(&retry, table[i].attempt, table[i].now_ns,
                                                      table[i].expire_ns, NULL, &got),
                         table[i].want_ns);
        assert_int_equal(got, table[i].want_state);
    }
}

static void no_policy_no_retry(void **state)
{
    tn_retry none = {0};
    int32_t got;

    (void)state;
    assert_int_equal(tn_retry_backoff_ns(NULL, 1, 0, 0, NULL, &got), UINT64_MAX);
    assert_int_equal(got, TN_RETRY_POLICY_NOT_SET);
    assert_int_equal(tn_retry_backoff_ns(&none, 1, 0, 0, NULL, &got), UINT64_MAX);
    assert_int_equal(got, TN_RETRY_POLICY_NOT_SET);
}

static void asked_delay_passes_the_limit_for_activities_only(void **state)
{
    tn_retry retry = {true, S(1), S(10), 2, 0, NULL};
    failure_msg *hour = application_failure("T", false, (int64_t)S(3600));
    failure_msg *zero = application_failure("T", false, 0);
    int32_t got;

    (void)state;
    assert_int_equal(tn_retry_activity_backoff_ns(&retry, 5, S(1), 0, hour, &got), S(3600));
    assert_int_equal(got, TN_RETRY_IN_PROGRESS);
    assert_int_equal(tn_retry_backoff_ns(&retry, 5, S(1), 0, hour, &got), S(10));
    assert_int_equal(tn_retry_activity_backoff_ns(&retry, 5, S(1), S(3600), hour, &got),
                     UINT64_MAX);
    assert_int_equal(got, TN_RETRY_TIMEOUT);
    assert_int_equal(tn_retry_activity_backoff_ns(&retry, 5, S(1), 0, zero, &got), UINT64_MAX);
    assert_int_equal(got, TN_RETRY_TIMEOUT);
}

/* ---- which failures -------------------------------------------------------------------------- */

static failure_msg *bare(int info_case)
{
    failure_msg *f = TN_MSG(arena, temporal__api__failure__v1__failure);

    f->failure_info_case = (Temporal__Api__Failure__V1__Failure__FailureInfoCase)info_case;
    /* All are messages behind a pointer; the ones asked here read nothing of them. */
    f->canceled_failure_info = TN_MSG(arena, temporal__api__failure__v1__canceled_failure_info);
    return f;
}

static void some_failures_are_the_last(void **state)
{
    char *listed[] = {(char *)"Bad", (char *)"TemporalTimeout:Heartbeat", NULL};
    tn_retry retry = {true, S(1), S(10), 2, 0, listed};
    int32_t got;

    (void)state;
    assert_true(tn_retry_allows(&retry, NULL));
    assert_true(tn_retry_allows(&retry, TN_MSG(arena, temporal__api__failure__v1__failure)));
    assert_true(tn_retry_allows(&retry, application_failure("Good", false, -1)));
    assert_true(tn_retry_allows(&retry, application_failure("Ba", false, -1)));
    assert_false(tn_retry_allows(&retry, application_failure("Bad", false, -1)));
    assert_false(tn_retry_allows(&retry, application_failure("Good", true, -1)));
    assert_false(tn_retry_allows(
        &retry, bare(TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_CANCELED_FAILURE_INFO)));
    assert_false(tn_retry_allows(
        &retry, bare(TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TERMINATED_FAILURE_INFO)));
    assert_true(tn_retry_allows(
        &retry, bare(TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_ACTIVITY_FAILURE_INFO)));
    assert_true(tn_retry_allows(&retry, tn_failure_server(arena, "x", false)));
    assert_false(tn_retry_allows(&retry, tn_failure_server(arena, "x", true)));
    assert_true(tn_retry_allows(&retry, tn_failure_timeout(arena, "x", TN_TIMEOUT_START_TO_CLOSE)));
    assert_false(tn_retry_allows(&retry, tn_failure_timeout(arena, "x", TN_TIMEOUT_HEARTBEAT)));
    assert_false(
        tn_retry_allows(&retry, tn_failure_timeout(arena, "x", TN_TIMEOUT_SCHEDULE_TO_START)));
    assert_false(
        tn_retry_allows(&retry, tn_failure_timeout(arena, "x", TN_TIMEOUT_SCHEDULE_TO_CLOSE)));
    assert_int_equal(
        tn_retry_backoff_ns(&retry, 1, S(1), 0, application_failure("Bad", false, -1), &got),
        UINT64_MAX);
    assert_int_equal(got, TN_RETRY_NON_RETRYABLE_FAILURE);
}

/* ---- policies -------------------------------------------------------------------------------- */

static policy_msg *policy(int64_t initial_ns, int64_t max_ns, double coefficient, int32_t attempts,
                          const char *type)
{
    policy_msg *p = TN_MSG(arena, temporal__api__common__v1__retry_policy);

    if (initial_ns)
        p->initial_interval = tn_duration_from_ns(arena, initial_ns);
    if (max_ns)
        p->maximum_interval = tn_duration_from_ns(arena, max_ns);
    p->backoff_coefficient = coefficient;
    p->maximum_attempts = attempts;
    if (type) {
        p->non_retryable_error_types = tn_arena_array(arena, 1, sizeof(char *));
        p->non_retryable_error_types[0] = tn_arena_strdup(arena, type);
        p->n_non_retryable_error_types = 1;
    }
    return p;
}

static void policies_are_completed(void **state)
{
    policy_msg *p = policy(0, 0, 0, 0, NULL);

    (void)state;
    assert_null(tn_retry_policy_settle(arena, NULL));
    assert_null(tn_retry_policy_settle(arena, p));
    assert_int_equal(tn_duration_ns(p->initial_interval), S(1));
    assert_int_equal(tn_duration_ns(p->maximum_interval), S(100));
    assert_true(p->backoff_coefficient == 2);
    assert_int_equal(p->maximum_attempts, 0);
    p = policy((int64_t)S(3), 0, 1, 4, NULL);
    assert_null(tn_retry_policy_settle(arena, p));
    assert_int_equal(tn_duration_ns(p->maximum_interval), S(300));
    assert_true(p->backoff_coefficient == 1);
}

static void policies_are_checked(void **state)
{
    static const struct {
        int64_t initial_ns, max_ns;
        double coefficient;
        int32_t attempts;
        const char *type, *want;
    } table[] = {
        {0, 0, 0, 0, NULL, NULL},
        {-1, 0, 0, 1, NULL, NULL}, /* one attempt: the rest doesn't matter */
        {-1, 0, 0, 0, NULL, "invalid InitialInterval set on retry policy: negative duration"},
        {0, -1, 0, 0, NULL, "invalid MaximumInterval set on retry policy: negative duration"},
        {0, 0, 0.5, 0, NULL, "BackoffCoefficient cannot be less than 1 on retry policy."},
        {0, 0, -2, 0, NULL, "BackoffCoefficient cannot be less than 1 on retry policy."},
        {2000000000, 1000000000, 0, 0, NULL,
         "MaximumInterval cannot be less than InitialInterval on retry policy."},
        {0, 0, 0, -1, NULL, "MaximumAttempts cannot be negative on retry policy."},
        {0, 0, 0, 0, "Anything", NULL},
        {0, 0, 0, 0, "TemporalTimeout:StartToClose", NULL},
        {0, 0, 0, 0, "TemporalTimeout:Heartbeat", NULL},
        {0, 0, 0, 0, "TemporalTimeout:Never", "Invalid timeout type value: Never."},
        {0, 0, 0, 0, "TemporalTimeout:Unspecified", "Invalid timeout type value: Unspecified."},
    };

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(table); i++) {
        const char *got = tn_retry_policy_settle(arena, policy(table[i].initial_ns, table[i].max_ns,
                                                               table[i].coefficient,
                                                               table[i].attempts, table[i].type));

        if (table[i].want)
            assert_string_equal(got, table[i].want);
        else
            assert_null(got);
    }
}

static void durations_are_checked_and_cut(void **state)
{
    tn_pb_duration d = GOOGLE__PROTOBUF__DURATION__INIT;

    (void)state;
    assert_null(tn_duration_settle(NULL));
    d.seconds = 1, d.nanos = -1;
    assert_string_equal(tn_duration_settle(&d),
                        "duration has seconds and nanos with different signs");
    d.seconds = -1, d.nanos = 1;
    assert_string_equal(tn_duration_settle(&d),
                        "duration has seconds and nanos with different signs");
    d.seconds = 0, d.nanos = -1;
    assert_string_equal(tn_duration_settle(&d), "negative duration");
    d.seconds = INT64_MIN, d.nanos = 0;
    assert_string_equal(tn_duration_settle(&d), "negative duration");
    assert_int_equal(tn_duration_ns(&d), 0);
    d.seconds = INT64_MAX, d.nanos = 5;
    assert_int_equal(tn_duration_ns(&d), INT64_MAX);
    assert_null(tn_duration_settle(&d));
    assert_int_equal(d.seconds, INT64_C(100) * 365 * 24 * 3600);
    assert_int_equal(d.nanos, 0);
}

/* ---- cutting --------------------------------------------------------------------------------- */

static void long_failures_are_cut(void **state)
{
    char *text = tn_arena_zalloc(arena, 9001);
    failure_msg *f = application_failure("T", true, -1),
                *cause = TN_MSG(arena, temporal__api__failure__v1__failure);
    const failure_msg *out;

    (void)state;
    f->message = tn_arena_strdup(arena, "short");
    assert_ptr_equal(tn_failure_for_state(arena, f, 4096), f);
    assert_null(tn_failure_for_state(arena, NULL, 4096));
    for (size_t i = 0; i < 9000; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3);
    f->stack_trace = text;
    f->cause = cause;
    cause->message = tn_arena_strdup(arena, "deep");
    out = tn_failure_for_state(arena, f, 4096);
    assert_ptr_not_equal(out, f);
    assert_string_equal(out->message, "Failure exceeds size limit.");
    assert_int_equal(out->failure_info_case,
                     TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_SERVER_FAILURE_INFO);
    assert_false(out->server_failure_info->non_retryable);
    assert_string_equal(out->cause->message, "short");
    assert_true(out->cause->application_failure_info->non_retryable);
    assert_true(protobuf_c_message_get_packed_size(&out->cause->base) <= 4096);
    assert_true(strlen(out->cause->stack_trace) > 3900);
    assert_true(
        tn_utf8_valid((const uint8_t *)out->cause->stack_trace, strlen(out->cause->stack_trace)));
    assert_null(out->cause->cause); /* no room is left */
    f->stack_trace = tn_arena_strdup(arena, "here");
    out = tn_failure_cut(arena, f, 1000);
    assert_string_equal(out->stack_trace, "here");
    assert_string_equal(out->cause->message, "deep");
}

static void chains_of_causes_are_cut(void **state)
{
    failure_msg *first = NULL;
    const failure_msg *out;
    int depth = 0;

    (void)state;
    for (int i = 0; i < 90; i++) {
        failure_msg *f = TN_MSG(arena, temporal__api__failure__v1__failure);

        f->message = tn_arena_strdup(arena, "m");
        f->cause = first;
        first = f;
    }
    for (out = tn_failure_cut(arena, first, 100000); out; out = out->cause)
        depth++;
    assert_int_equal(depth, 21);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(backoff_follows_the_policy, setup, teardown),
        cmocka_unit_test_setup_teardown(no_policy_no_retry, setup, teardown),
        cmocka_unit_test_setup_teardown(asked_delay_passes_the_limit_for_activities_only, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(some_failures_are_the_last, setup, teardown),
        cmocka_unit_test_setup_teardown(policies_are_completed, setup, teardown),
        cmocka_unit_test_setup_teardown(policies_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(durations_are_checked_and_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(long_failures_are_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(chains_of_causes_are_cut, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
