/* SPDX-License-Identifier: MIT */
/* Retry policies: their defaults and checks (also the frontend's), when the next attempt may begin,
 * which failures end the row of attempts, and how a failure is cut to what the state may hold. */
#include "history/machine/machine.h"

#include <string.h>

#include "history/machine/parts.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

typedef Temporal__Api__Common__V1__RetryPolicy retry_policy;
typedef Temporal__Api__Failure__V1__Failure failure_msg;

#define DURATION_MAX_S INT64_C(3153600000) /* 100 years of 365 days */
#define RETRY_INITIAL_DEFAULT_NS TN_SEC
#define RETRY_COEFFICIENT_DEFAULT 2.0
#define RETRY_MAX_FACTOR 100
#define TIMEOUT_TYPE_PREFIX "TemporalTimeout:"
#define FAILURE_DEPTH_MAX 20

/* ---- durations ------------------------------------------------------------------------------- */

/* Seconds and nanos as 64 bits of nanoseconds, the nearest that fits. */
static int64_t saturated_ns(const tn_pb_duration *duration)
{
    int64_t ns;

    if (!duration)
        return 0;
    if (__builtin_mul_overflow(duration->seconds, INT64_C(1000000000), &ns) ||
        __builtin_add_overflow(ns, (int64_t)duration->nanos, &ns))
        return duration->seconds < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

const char *tn_duration_settle(tn_pb_duration *duration)
{
    if (!duration)
        return NULL;
    if ((duration->seconds > 0 && duration->nanos < 0) ||
        (duration->seconds < 0 && duration->nanos > 0))
        return "duration has seconds and nanos with different signs";
    if (saturated_ns(duration) < 0)
        return "negative duration";
    if (saturated_ns(duration) > DURATION_MAX_S * INT64_C(1000000000)) {
        duration->seconds = DURATION_MAX_S;
        duration->nanos = 0;
    }
    return NULL;
}

uint64_t tn_duration_ns(const tn_pb_duration *duration)
{
    int64_t ns = saturated_ns(duration);

    return ns < 0 ? 0 : (uint64_t)ns;
}

/* ---- policies -------------------------------------------------------------------------------- */

static const char *const timeout_type_names[] = {"StartToClose", "ScheduleToStart",
                                                 "ScheduleToClose", "Heartbeat"};
static const char *const timeout_type_long_names[] = {
    "TIMEOUT_TYPE_START_TO_CLOSE", "TIMEOUT_TYPE_SCHEDULE_TO_START",
    "TIMEOUT_TYPE_SCHEDULE_TO_CLOSE", "TIMEOUT_TYPE_HEARTBEAT"};

const char *tn_timeout_type_name(int32_t timeout_type)
{
    return timeout_type >= 1 && timeout_type <= 4 ? timeout_type_names[timeout_type - 1]
                                                  : "Unspecified";
}

static bool is_timeout_type(const char *name)
{
    for (size_t i = 0; i < TN_COUNT_OF(timeout_type_names); i++)
        if (strcmp(name, timeout_type_names[i]) == 0 ||
            strcmp(name, timeout_type_long_names[i]) == 0)
            return true;
    return false;
}

static void fill_defaults(tn_arena *arena, retry_policy *policy)
{
    if (saturated_ns(policy->initial_interval) == 0)
        policy->initial_interval = tn_duration_from_ns(arena, (int64_t)RETRY_INITIAL_DEFAULT_NS);
    if (saturated_ns(policy->maximum_interval) == 0) {
        int64_t initial_ns = saturated_ns(policy->initial_interval), ns;

        if (__builtin_mul_overflow(initial_ns, RETRY_MAX_FACTOR, &ns))
            ns = initial_ns < 0 ? INT64_MIN : INT64_MAX;
        policy->maximum_interval = tn_duration_from_ns(arena, ns);
    }
    if (policy->backoff_coefficient == 0)
        policy->backoff_coefficient = RETRY_COEFFICIENT_DEFAULT;
}

const char *tn_retry_policy_settle(tn_arena *arena, retry_policy *policy)
{
    const char *text;

    if (!policy)
        return NULL;
    fill_defaults(arena, policy);
    if (policy->maximum_attempts == 1) /* never tried again: the rest doesn't matter */
        return NULL;
    if ((text = tn_duration_settle(policy->initial_interval)))
        return tn_arena_printf(arena, "invalid InitialInterval set on retry policy: %s", text);
    if (!(policy->backoff_coefficient >= 1))
        return "BackoffCoefficient cannot be less than 1 on retry policy.";
    if ((text = tn_duration_settle(policy->maximum_interval)))
        return tn_arena_printf(arena, "invalid MaximumInterval set on retry policy: %s", text);
    if (saturated_ns(policy->maximum_interval) > 0 &&
        saturated_ns(policy->maximum_interval) < saturated_ns(policy->initial_interval))
        return "MaximumInterval cannot be less than InitialInterval on retry policy.";
    if (policy->maximum_attempts < 0)
        return "MaximumAttempts cannot be negative on retry policy.";
    for (size_t i = 0; i < policy->n_non_retryable_error_types; i++) {
        const char *type = policy->non_retryable_error_types[i];
        size_t n = strlen(TIMEOUT_TYPE_PREFIX);

        if (strncmp(type, TIMEOUT_TYPE_PREFIX, n) == 0 && !is_timeout_type(type + n))
            return tn_arena_printf(arena, "Invalid timeout type value: %s.", type + n);
    }
    return NULL;
}

void tn_retry_load(tn_ms *ms, tn_retry *out, const retry_policy *policy)
{
    tn_retry_clear(ms, out);
    if (!policy)
        return;
    out->present = true;
    out->initial_ns = tn_duration_ns(policy->initial_interval);
    out->max_ns = tn_duration_ns(policy->maximum_interval);
    out->coefficient = policy->backoff_coefficient;
    out->max_attempts = policy->maximum_attempts;
    if (policy->n_non_retryable_error_types == 0)
        return;
    out->non_retryable =
        tn_ms_alloc(ms, (policy->n_non_retryable_error_types + 1) * sizeof(char *));
    for (size_t i = 0; i < policy->n_non_retryable_error_types; i++)
        out->non_retryable[i] = tn_ms_strdup(ms, tn_str_from(policy->non_retryable_error_types[i]));
}

/* ---- is a failure the last one? -------------------------------------------------------------- */

static bool is_listed(const tn_retry *retry, const char *prefix, const char *type)
{
    size_t n = strlen(prefix);

    if (!retry->non_retryable)
        return false;
    for (char *const *s = retry->non_retryable; *s; s++)
        if (strncmp(*s, prefix, n) == 0 && strcmp(*s + n, type ? type : "") == 0)
            return true;
    return false;
}

bool tn_retry_allows(const tn_retry *retry, const failure_msg *failure)
{
    if (!failure)
        return true;
    switch ((int)failure->failure_info_case) {
    case TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TERMINATED_FAILURE_INFO:
    case TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_CANCELED_FAILURE_INFO:
        return false;
    case TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TIMEOUT_FAILURE_INFO: {
        int32_t type = (int32_t)failure->timeout_failure_info->timeout_type;

        if (type == TN_TIMEOUT_START_TO_CLOSE || type == TN_TIMEOUT_HEARTBEAT)
            return !is_listed(retry, TIMEOUT_TYPE_PREFIX, tn_timeout_type_name(type));
        return false;
    }
    case TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_SERVER_FAILURE_INFO:
        return !failure->server_failure_info->non_retryable;
    case TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO:
        return !failure->application_failure_info->non_retryable &&
               !is_listed(retry, "", failure->application_failure_info->type);
    default:
        return true;
    }
}

/* ---- when ------------------------------------------------------------------------------------ */

/* The delay that the application asked for; false: none. */
static bool delay_asked(const failure_msg *failure, int64_t *out_ns)
{
    if (!failure ||
        failure->failure_info_case !=
            TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO ||
        !failure->application_failure_info->next_retry_delay)
        return false;
    *out_ns = saturated_ns(failure->application_failure_info->next_retry_delay);
    return true;
}

static double power(double base, uint32_t exponent)
{
    double out = 1;

    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            out *= base;
    return out;
}

static int64_t exponential_ns(const tn_retry *retry, int32_t attempt)
{
    double ns = (double)retry->initial_ns * power(retry->coefficient, (uint32_t)(attempt - 1));

    if (ns >= 9223372036854775807.0)
        return INT64_MAX;
    return ns > 0 ? (int64_t)ns : 0; /* a NaN too */
}

static uint64_t backoff_ns(const tn_retry *retry, int32_t attempt, uint64_t now_ns,
                           uint64_t expire_ns, int64_t interval_ns, uint64_t max_ns,
                           int32_t *out_state)
{
    if (max_ns > INT64_MAX)
        max_ns = INT64_MAX;
    if (retry->max_attempts > 0 && attempt >= retry->max_attempts) {
        *out_state = TN_RETRY_MAXIMUM_ATTEMPTS_REACHED;
        return UINT64_MAX;
    }
    if (max_ns == 0 && interval_ns <= 0) {
        *out_state = TN_RETRY_TIMEOUT;
        return UINT64_MAX;
    }
    if (max_ns != 0 && (interval_ns <= 0 || (uint64_t)interval_ns > max_ns))
        interval_ns = (int64_t)max_ns;
    if (expire_ns != 0 && (now_ns > expire_ns || (uint64_t)interval_ns > expire_ns - now_ns)) {
        *out_state = TN_RETRY_TIMEOUT;
        return UINT64_MAX;
    }
    *out_state = TN_RETRY_IN_PROGRESS;
    return (uint64_t)interval_ns;
}

uint64_t tn_retry_backoff_ns(const tn_retry *retry, int32_t attempt, uint64_t now_ns,
                             uint64_t expire_ns, const failure_msg *failure, int32_t *out_state)
{
    int64_t interval_ns;

    if (!retry || !retry->present) {
        *out_state = TN_RETRY_POLICY_NOT_SET;
        return UINT64_MAX;
    }
    if (attempt < 1)
        attempt = 1;
    if (!tn_retry_allows(retry, failure)) {
        *out_state = TN_RETRY_NON_RETRYABLE_FAILURE;
        return UINT64_MAX;
    }
    if (!delay_asked(failure, &interval_ns))
        interval_ns = exponential_ns(retry, attempt);
    return backoff_ns(retry, attempt, now_ns, expire_ns, interval_ns, retry->max_ns, out_state);
}

uint64_t tn_retry_activity_backoff_ns(const tn_retry *retry, int32_t attempt, uint64_t now_ns,
                                      uint64_t expire_ns, const failure_msg *failure,
                                      int32_t *out_state)
{
    int64_t delay_ns;

    if (attempt < 1)
        attempt = 1;
    /* A delay that an activity asks for may pass the policy's longest interval, a workflow's may
     * not. */
    if (delay_asked(failure, &delay_ns))
        return backoff_ns(retry, attempt, now_ns, expire_ns, delay_ns,
                          delay_ns > 0 ? (uint64_t)delay_ns : 0, out_state);
    return backoff_ns(retry, attempt, now_ns, expire_ns, exponential_ns(retry, attempt),
                      retry->max_ns, out_state);
}

/* ---- failures of the server's own, and cutting ----------------------------------------------- */

failure_msg *tn_failure_server(tn_arena *arena, const char *message, bool non_retryable)
{
    failure_msg *failure = TN_MSG(arena, temporal__api__failure__v1__failure);

    failure->message = tn_arena_strdup(arena, message);
    failure->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_SERVER_FAILURE_INFO;
    failure->server_failure_info = TN_MSG(arena, temporal__api__failure__v1__server_failure_info);
    failure->server_failure_info->non_retryable = non_retryable;
    return failure;
}

failure_msg *tn_failure_timeout(tn_arena *arena, const char *message, int32_t timeout_type)
{
    failure_msg *failure = TN_MSG(arena, temporal__api__failure__v1__failure);

    failure->message = tn_arena_strdup(arena, message);
    failure->source = tn_arena_strdup(arena, "Server");
    failure->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TIMEOUT_FAILURE_INFO;
    failure->timeout_failure_info = TN_MSG(arena, temporal__api__failure__v1__timeout_failure_info);
    failure->timeout_failure_info->timeout_type =
        (Temporal__Api__Enums__V1__TimeoutType)timeout_type;
    return failure;
}

/* As much of s as *room allows, cut on a UTF-8 border; takes it (and its place on the wire) from
 * the room. */
static char *cut(tn_arena *arena, const char *s, int64_t *room)
{
    size_t n = s ? strlen(s) : 0;

    if ((int64_t)n > *room) {
        n = *room > 0 ? (size_t)*room : 0;
        while (n > 0 && ((uint8_t)s[n] & 0xc0) == 0x80)
            n--;
    }
    *room -= (int64_t)n;
    if (n)
        *room -= 4;
    return (char *)(uintptr_t)tn_arena_str(arena, (tn_str){s ? s : "", n}).p;
}

failure_msg *tn_failure_cut(tn_arena *arena, const failure_msg *failure, int64_t room)
{
    failure_msg *first = NULL, **slot = &first;

    for (int depth = 0; failure; depth++) {
        failure_msg *out = TN_MSG(arena, temporal__api__failure__v1__failure);

        if (failure->failure_info_case ==
            TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO) {
            const Temporal__Api__Failure__V1__ApplicationFailureInfo *info =
                failure->application_failure_info;

            out->failure_info_case = failure->failure_info_case;
            out->application_failure_info =
                TN_MSG(arena, temporal__api__failure__v1__application_failure_info);
            out->application_failure_info->non_retryable = info->non_retryable;
            out->application_failure_info->type = cut(arena, info->type, &room);
            room -= 8;
        } else if (failure->failure_info_case ==
                   TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_SERVER_FAILURE_INFO) {
            out->failure_info_case = failure->failure_info_case;
            out->server_failure_info =
                TN_MSG(arena, temporal__api__failure__v1__server_failure_info);
            out->server_failure_info->non_retryable = failure->server_failure_info->non_retryable;
            room -= 4;
        }
        out->source = cut(arena, failure->source, &room);
        out->message = cut(arena, failure->message, &room);
        out->stack_trace = cut(arena, failure->stack_trace, &room);
        *slot = out;
        slot = &out->cause;
        failure = room > 4 && depth < FAILURE_DEPTH_MAX ? failure->cause : NULL;
        room -= 4;
    }
    return first;
}

const failure_msg *tn_failure_for_state(tn_arena *arena, const failure_msg *failure,
                                        int64_t bytes_max)
{
    failure_msg *out;

    if (!failure || (int64_t)protobuf_c_message_get_packed_size(&failure->base) <= bytes_max)
        return failure;
    out = tn_failure_server(arena, "Failure exceeds size limit.", false);
    out->cause = tn_failure_cut(arena, failure, bytes_max);
    return out;
}
