/* SPDX-License-Identifier: MIT */
/* The options of activities: how missing time-outs are filled in, what operators change while an activity is pending,
 * and how that is kept.  As long as nobody has changed them they are those of the scheduled event. */
#include <ctype.h>
#include <string.h>

#include "history/machine/command.h"
#include "history/machine/parts.h"
#include "proto/proto.h"

typedef Temporal__Api__History__V1__ActivityTaskScheduledEventAttributes scheduled_attrs;
typedef Temporal__Api__Common__V1__RetryPolicy retry_policy;
typedef Google__Protobuf__Duration duration;

#define OPTIONS_PRIORITY \
    7 /* field numbers: of ActivityOptions, of the scheduled event's attributes */
#define ATTRS_PRIORITY 14

/* ---- time-outs ------------------------------------------------------------------------------- */

static duration *shorter(tn_arena *arena, const duration *a, const duration *b)
{
    uint64_t x = tn_duration_ns(a), y = tn_duration_ns(b);

    return tn_duration_from_ns(arena, (int64_t)(x < y ? x : y));
}

/* One from the other: the total is known, or only an attempt's. */
static bool deduce(tn_arena *arena, duration *run, tn_schedule_activity *attrs)
{
    if (tn_duration_ns(attrs->schedule_to_close_timeout)) {
        attrs->schedule_to_start_timeout =
            tn_duration_ns(attrs->schedule_to_start_timeout)
                ? shorter(arena, attrs->schedule_to_start_timeout, attrs->schedule_to_close_timeout)
                : attrs->schedule_to_close_timeout;
        attrs->start_to_close_timeout =
            tn_duration_ns(attrs->start_to_close_timeout)
                ? shorter(arena, attrs->start_to_close_timeout, attrs->schedule_to_close_timeout)
                : attrs->schedule_to_close_timeout;
        return true;
    }
    if (!tn_duration_ns(attrs->start_to_close_timeout))
        return false;
    attrs->schedule_to_close_timeout = run;
    if (!tn_duration_ns(attrs->schedule_to_start_timeout))
        attrs->schedule_to_start_timeout = run;
    return true;
}

const char *tn_activity_timeouts_settle(tn_arena *arena, uint64_t run_timeout_ns,
                                        tn_schedule_activity *attrs)
{
    duration *run = tn_duration_from_ns(arena, (int64_t)run_timeout_ns);
    duration **all[] = {&attrs->schedule_to_close_timeout, &attrs->schedule_to_start_timeout,
                        &attrs->start_to_close_timeout, &attrs->heartbeat_timeout};
    static const char *const names[] = {"ScheduleToCloseTimeout", "ScheduleToStartTimeout",
                                        "StartToCloseTimeout", "HeartbeatTimeout"};
    const char *text;

    for (size_t i = 0; i < TN_COUNT_OF(all); i++)
        if ((text = tn_duration_settle(*all[i])))
            return tn_arena_printf(arena, "invalid %s: %s", names[i], text);
    if (!deduce(arena, run, attrs))
        return tn_arena_printf(
            arena,
            "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity. "
            "ActivityId=%s ActivityType=%s",
            attrs->activity_id, attrs->activity_type->name);
    for (size_t i = 0; run_timeout_ns && i < TN_COUNT_OF(all); i++)
        if (tn_duration_ns(*all[i]) > run_timeout_ns)
            *all[i] = run;
    attrs->heartbeat_timeout =
        shorter(arena, attrs->heartbeat_timeout, attrs->start_to_close_timeout);
    return NULL;
}

/* ---- in force -------------------------------------------------------------------------------- */

static char *copy_text(tn_arena *arena, const char *s)
{
    return tn_arena_strdup(arena, s ? s : "");
}

static duration *duration_of(tn_arena *arena, uint64_t ns)
{
    return tn_duration_from_ns(arena, (int64_t)ns);
}

Temporal__Api__Common__V1__Priority *tn_activity_priority(const tn_activity *activity,
                                                          tn_arena *arena)
{
    Temporal__Api__Common__V1__Priority *priority;
    tn_blob from = activity->options.n ? activity->options : activity->attrs;
    tn_wire_field field;

    if (!tn_wire_find(from, activity->options.n ? OPTIONS_PRIORITY : ATTRS_PRIORITY, &field) ||
        TN_PROTO_UNPACK(temporal__api__common__v1__priority, tn_arena_blob(arena, field.bytes),
                        arena, &priority, NULL) != TN_OK)
        return NULL;
    return priority;
}

tn_activity_options *tn_activity_options_now(const tn_activity *activity, tn_arena *arena)
{
    tn_activity_options *out = TN_MSG(arena, temporal__api__activity__v1__activity_options);
    retry_policy *retry = TN_MSG(arena, temporal__api__common__v1__retry_policy);

    out->task_queue = TN_MSG(arena, temporal__api__taskqueue__v1__task_queue);
    out->task_queue->name = copy_text(arena, activity->task_queue);
    out->schedule_to_close_timeout = duration_of(arena, activity->schedule_to_close_ns);
    out->schedule_to_start_timeout = duration_of(arena, activity->schedule_to_start_ns);
    out->start_to_close_timeout = duration_of(arena, activity->start_to_close_ns);
    out->heartbeat_timeout = duration_of(arena, activity->heartbeat_ns);
    out->priority = tn_activity_priority(activity, arena);
    retry->initial_interval = duration_of(arena, activity->retry.initial_ns);
    retry->backoff_coefficient = activity->retry.coefficient;
    retry->maximum_interval = duration_of(arena, activity->retry.max_ns);
    retry->maximum_attempts = activity->retry.max_attempts;
    out->retry_policy = retry;
    return out;
}

static void take_retry(tn_ms *ms, tn_activity *activity, const retry_policy *policy)
{
    char **kept = activity->retry.non_retryable;

    activity->retry.non_retryable = NULL;
    tn_retry_load(ms, &activity->retry, policy);
    if (activity->retry.non_retryable) {
        tn_retry other = {.non_retryable = kept};
        tn_retry_clear(ms, &other);
    } else {
        activity->retry.non_retryable = kept; /* they are not an operator's to change */
    }
}

static void take_options(tn_ms *ms, tn_activity *activity, const tn_activity_options *options)
{
    tn_ms_replace_str(ms, &activity->task_queue,
                      tn_str_from(options->task_queue ? options->task_queue->name : NULL));
    activity->schedule_to_close_ns = tn_duration_ns(options->schedule_to_close_timeout);
    activity->schedule_to_start_ns = tn_duration_ns(options->schedule_to_start_timeout);
    activity->start_to_close_ns = tn_duration_ns(options->start_to_close_timeout);
    activity->heartbeat_ns = tn_duration_ns(options->heartbeat_timeout);
    if (options->retry_policy)
        take_retry(ms, activity, options->retry_policy);
    activity->expire_ns = activity->retry.present && activity->schedule_to_close_ns
                              ? activity->first_scheduled_ns + activity->schedule_to_close_ns
                              : 0;
}

void tn_activity_set_options(tn_ms *ms, tn_activity *activity, const tn_activity_options *options)
{
    tn_activity_options whole = *options;
    retry_policy retry = TEMPORAL__API__COMMON__V1__RETRY_POLICY__INIT;
    tn_buf packed = {0};

    take_options(ms, activity, options);
    if (options->retry_policy)
        retry = *options->retry_policy;
    retry.non_retryable_error_types = activity->retry.non_retryable;
    retry.n_non_retryable_error_types = 0;
    while (retry.non_retryable_error_types &&
           retry.non_retryable_error_types[retry.n_non_retryable_error_types])
        retry.n_non_retryable_error_types++;
    whole.retry_policy = &retry;
    TN_ASSERT(tn_proto_pack_buf(&whole.base, &packed) == TN_OK);
    tn_ms_replace_blob(ms, &activity->options, tn_buf_blob(&packed));
    tn_buf_done(&packed);
}

void tn_activity_load_options(tn_ms *ms, tn_activity *activity, tn_blob packed)
{
    tn_arena *arena = tn_arena_create(0);
    tn_activity_options *options;

    if (TN_PROTO_UNPACK(temporal__api__activity__v1__activity_options, packed, arena, &options,
                        NULL) == TN_OK) {
        take_options(ms, activity, options);
        tn_ms_replace_blob(ms, &activity->options, packed);
    }
    tn_arena_destroy(arena);
}

static tn_activity_options *scheduled_options(const tn_activity *activity, tn_arena *arena)
{
    tn_activity_options *out = TN_MSG(arena, temporal__api__activity__v1__activity_options);
    scheduled_attrs *attrs;

    /* Folded before, so that they can be read. */
    TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__activity_task_scheduled_event_attributes,
                              tn_arena_blob(arena, activity->attrs), arena, &attrs, NULL) == TN_OK);
    out->task_queue = TN_MSG(arena, temporal__api__taskqueue__v1__task_queue);
    out->task_queue->name = copy_text(arena, attrs->task_queue ? attrs->task_queue->name : "");
    out->schedule_to_close_timeout = attrs->schedule_to_close_timeout;
    out->schedule_to_start_timeout = attrs->schedule_to_start_timeout;
    out->start_to_close_timeout = attrs->start_to_close_timeout;
    out->heartbeat_timeout = attrs->heartbeat_timeout;
    out->priority = attrs->priority;
    out->retry_policy = attrs->retry_policy;
    return out;
}

void tn_activity_restore_options(tn_ms *ms, tn_activity *activity)
{
    tn_arena *arena;

    if (!activity->options.n)
        return;
    arena = tn_arena_create(0);
    take_options(ms, activity, scheduled_options(activity, arena));
    tn_ms_free_blob(ms, &activity->options);
    tn_arena_destroy(arena);
}

tn_activity_options *tn_activity_options_scheduled(const tn_activity *activity, tn_arena *arena)
{
    return scheduled_options(activity, arena);
}

/* ---- changes --------------------------------------------------------------------------------- */

/* "scheduleToCloseTimeout", "schedule_to_close_timeout" and the like are one. */
static bool same_path(const char *a, const char *b)
{
    for (;;) {
        while (*a == '_')
            a++;
        while (*b == '_')
            b++;
        if (!*a || !*b)
            return *a == *b;
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
            return false;
        a++;
        b++;
    }
}

bool tn_mask_has(const Google__Protobuf__FieldMask *mask, const char *path)
{
    for (size_t i = 0; mask && i < mask->n_paths; i++)
        if (same_path(mask->paths[i], path))
            return true;
    return false;
}

static Temporal__Api__Common__V1__Priority *own_priority(tn_arena *arena, tn_activity_options *into)
{
    if (!into->priority)
        into->priority = TN_MSG(arena, temporal__api__common__v1__priority);
    return into->priority;
}

static const char *merge_priority(tn_arena *arena, const Google__Protobuf__FieldMask *mask,
                                  const tn_activity_options *from, tn_activity_options *into)
{
    bool key = tn_mask_has(mask, "priority.priority_key"),
         fairness_key = tn_mask_has(mask, "priority.fairness_key"),
         weight = tn_mask_has(mask, "priority.fairness_weight");

    if (tn_mask_has(mask, "priority"))
        into->priority = from->priority;
    if ((key || fairness_key || weight) && !from->priority)
        return "Priority is not provided";
    if (key)
        own_priority(arena, into)->priority_key = from->priority->priority_key;
    if (fairness_key)
        own_priority(arena, into)->fairness_key = from->priority->fairness_key;
    if (weight)
        own_priority(arena, into)->fairness_weight = from->priority->fairness_weight;
    return NULL;
}

static const char *merge_retry(tn_arena *arena, const Google__Protobuf__FieldMask *mask,
                               const tn_activity_options *from, tn_activity_options *into)
{
    bool whole = tn_mask_has(mask, "retry_policy"),
         initial = tn_mask_has(mask, "retry_policy.initial_interval"),
         coefficient = tn_mask_has(mask, "retry_policy.backoff_coefficient"),
         maximum = tn_mask_has(mask, "retry_policy.maximum_interval"),
         attempts = tn_mask_has(mask, "retry_policy.maximum_attempts");

    if (!whole && !initial && !coefficient && !maximum && !attempts)
        return NULL;
    if (!from->retry_policy)
        return "RetryPolicy is not provided";
    if (whole)
        into->retry_policy = from->retry_policy;
    if (initial)
        into->retry_policy->initial_interval = from->retry_policy->initial_interval;
    if (coefficient)
        into->retry_policy->backoff_coefficient = from->retry_policy->backoff_coefficient;
    if (maximum)
        into->retry_policy->maximum_interval = from->retry_policy->maximum_interval;
    if (attempts)
        into->retry_policy->maximum_attempts = from->retry_policy->maximum_attempts;
    if (!whole && !(into->retry_policy->backoff_coefficient >= 1) &&
        into->retry_policy->maximum_attempts != 1)
        return "BackoffCoefficient cannot be less than 1 on retry policy.";
    return tn_retry_policy_settle(arena, into->retry_policy);
}

const char *tn_activity_options_merge(tn_arena *arena, const Google__Protobuf__FieldMask *mask,
                                      const tn_activity_options *from, tn_activity_options *into)
{
    const char *text;

    if (tn_mask_has(mask, "task_queue.name")) {
        if (!from->task_queue)
            return "TaskQueue is not provided";
        into->task_queue->name = from->task_queue->name;
    }
    if (tn_mask_has(mask, "schedule_to_close_timeout"))
        into->schedule_to_close_timeout = from->schedule_to_close_timeout;
    if (tn_mask_has(mask, "schedule_to_start_timeout"))
        into->schedule_to_start_timeout = from->schedule_to_start_timeout;
    if (tn_mask_has(mask, "start_to_close_timeout"))
        into->start_to_close_timeout = from->start_to_close_timeout;
    if (tn_mask_has(mask, "heartbeat_timeout"))
        into->heartbeat_timeout = from->heartbeat_timeout;
    if (tn_mask_has(mask, "start_delay"))
        into->start_delay = from->start_delay;
    text = merge_priority(arena, mask, from, into);
    return text ? text : merge_retry(arena, mask, from, into);
}

const char *tn_activity_options_settle(tn_arena *arena, const tn_activity *activity,
                                       const char *default_queue, uint64_t run_timeout_ns,
                                       int64_t id_bytes_max, tn_activity_options *options)
{
    tn_schedule_activity attrs =
        TEMPORAL__API__COMMAND__V1__SCHEDULE_ACTIVITY_TASK_COMMAND_ATTRIBUTES__INIT;
    Temporal__Api__Common__V1__ActivityType type = TEMPORAL__API__COMMON__V1__ACTIVITY_TYPE__INIT;
    const char *text =
        tn_task_queue_settle(arena, options->task_queue, "", default_queue, id_bytes_max);

    if (text)
        return text;
    attrs.activity_id = activity->activity_id;
    attrs.activity_type = &type;
    type.name = activity->type;
    attrs.schedule_to_close_timeout = options->schedule_to_close_timeout;
    attrs.schedule_to_start_timeout = options->schedule_to_start_timeout;
    attrs.start_to_close_timeout = options->start_to_close_timeout;
    attrs.heartbeat_timeout = options->heartbeat_timeout;
    text = tn_activity_timeouts_settle(arena, run_timeout_ns, &attrs);
    options->schedule_to_close_timeout = attrs.schedule_to_close_timeout;
    options->schedule_to_start_timeout = attrs.schedule_to_start_timeout;
    options->start_to_close_timeout = attrs.start_to_close_timeout;
    options->heartbeat_timeout = attrs.heartbeat_timeout;
    return text;
}
