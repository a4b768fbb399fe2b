/* SPDX-License-Identifier: MIT */
/* Activities as others see them: the task that a worker is given, and the pending ones in a
 * description. */
#include "history/machine/parts.h"
#include "history/machine/solo.h"
#include "proto/proto.h"

/* Field numbers: of the scheduled event's attributes, of the same thing in the worker's task, and
 * in the options (0: no option). */
static const struct {
    uint32_t attrs, task, option;
} shared_fields[] = {
    {2, 5, 0},   /* activity type */
    {5, 7, 0},   /* header */
    {6, 8, 0},   /* input */
    {7, 14, 2},  /* schedule to close */
    {9, 15, 4},  /* start to close */
    {10, 16, 5}, /* heartbeat */
    {12, 17, 6}, /* retry policy */
};
#define ATTRS_SCHEDULE_TO_CLOSE 7
#define TASK_HEARTBEAT_DETAILS 9

/* ---- the worker's task ----------------------------------------------------------------------- */

static void attach(ProtobufCMessage *msg, tn_arena *arena, uint32_t number, tn_blob bytes)
{
    TN_ASSERT(tn_proto_attach(msg, arena, number, bytes));
}

static char *copy_text(tn_arena *arena, const char *s)
{
    return tn_arena_strdup(arena, s ? s : "");
}

/* An operator has changed them. */
static void attach_options(const tn_activity *activity, tn_arena *arena,
                           Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *out)
{
    tn_blob options = tn_arena_blob(arena, activity->options);
    tn_wire_field field;

    for (size_t i = 0; i < TN_COUNT_OF(shared_fields); i++)
        if (shared_fields[i].option && tn_wire_find(options, shared_fields[i].option, &field))
            attach(&out->base, arena, shared_fields[i].task, field.bytes);
}

void tn_machine_activity_task(
    const tn_ms *ms, const tn_activity *activity, tn_arena *arena, tn_str ns_name,
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *out)
{
    /* The state may change before the response is packed: its bytes are copied, once. */
    tn_blob attrs = tn_arena_blob(arena, activity->attrs);
    bool has_schedule_to_close = false;
    tn_wire_field field;

    out->workflow_namespace = (char *)(uintptr_t)tn_arena_str(arena, ns_name).p;
    out->workflow_execution = TN_MSG(arena, temporal__api__common__v1__workflow_execution);
    if (ms->kind) {
        out->activity_run_id = copy_text(arena, ms->run_id_text);
    } else {
        out->workflow_type = TN_MSG(arena, temporal__api__common__v1__workflow_type);
        out->workflow_type->name = copy_text(arena, ms->type);
        out->workflow_execution->workflow_id = copy_text(arena, ms->workflow_id);
        out->workflow_execution->run_id = copy_text(arena, ms->run_id_text);
    }
    out->activity_id = copy_text(arena, activity->activity_id);
    out->attempt = activity->attempt;
    out->scheduled_time = tn_ts_from_ns(arena, (int64_t)activity->scheduled_ns);
    out->current_attempt_scheduled_time =
        tn_ts_from_ns(arena, (int64_t)activity->attempt_scheduled_ns);
    out->started_time = tn_ts_from_ns(arena, (int64_t)activity->started_ns);
    out->priority = tn_machine_activity_priority(ms, activity, arena);
    for (tn_wire_iter it = tn_wire_begin(attrs); tn_wire_next(&it, &field);) {
        for (size_t i = 0; i < TN_COUNT_OF(shared_fields); i++)
            if (shared_fields[i].attrs == field.number && field.wire_type == TN_WIRE_BYTES &&
                !(activity->options.n && shared_fields[i].option))
                attach(&out->base, arena, shared_fields[i].task, field.bytes);
        has_schedule_to_close |= field.number == ATTRS_SCHEDULE_TO_CLOSE;
    }
    if (activity->options.n)
        attach_options(activity, arena, out);
    else if (!has_schedule_to_close) /* an SDK reads it without asking */
        out->schedule_to_close_timeout = tn_duration_from_ns(arena, 0);
    if (activity->heartbeat_details.n)
        attach(&out->base, arena, TASK_HEARTBEAT_DETAILS,
               tn_arena_blob(arena, activity->heartbeat_details));
}

/* ---- descriptions ---------------------------------------------------------------------------- */

static tn_activity_options *options_of(const tn_activity *activity, tn_arena *arena)
{
    tn_activity_options *out = tn_activity_options_now(activity, arena);

    out->task_queue->normal_name = out->task_queue->name;
    return out;
}

static void fill_pause(const tn_activity *activity, tn_arena *arena,
                       Temporal__Api__Workflow__V1__PendingActivityInfo *out)
{
    Temporal__Api__Workflow__V1__PendingActivityInfo__PauseInfo *info =
        TN_MSG(arena, temporal__api__workflow__v1__pending_activity_info__pause_info);

    if (out->state ==
        TEMPORAL__API__ENUMS__V1__PENDING_ACTIVITY_STATE__PENDING_ACTIVITY_STATE_SCHEDULED)
        out->state =
            TEMPORAL__API__ENUMS__V1__PENDING_ACTIVITY_STATE__PENDING_ACTIVITY_STATE_PAUSED;
    else if (out->state ==
             TEMPORAL__API__ENUMS__V1__PENDING_ACTIVITY_STATE__PENDING_ACTIVITY_STATE_STARTED)
        out->state =
            TEMPORAL__API__ENUMS__V1__PENDING_ACTIVITY_STATE__PENDING_ACTIVITY_STATE_PAUSE_REQUESTED;
    out->paused = true;
    info->pause_time = tn_ts_from_ns(arena, (int64_t)activity->pause->since_ns);
    info->paused_by_case =
        TEMPORAL__API__WORKFLOW__V1__PENDING_ACTIVITY_INFO__PAUSE_INFO__PAUSED_BY_MANUAL;
    info->manual =
        TN_MSG(arena, temporal__api__workflow__v1__pending_activity_info__pause_info__manual);
    info->manual->identity = copy_text(arena, activity->pause->identity);
    info->manual->reason = copy_text(arena, activity->pause->reason);
    out->pause_info = info;
}

static void fill_retry(const tn_activity *activity, tn_arena *arena, uint64_t now_ns,
                       Temporal__Api__Workflow__V1__PendingActivityInfo *out)
{
    Temporal__Api__Failure__V1__Failure *failure;

    out->attempt = activity->attempt;
    out->maximum_attempts = activity->retry.max_attempts;
    if (activity->expire_ns)
        out->expiration_time = tn_ts_from_ns(arena, (int64_t)activity->expire_ns);
    if (out->state ==
            TEMPORAL__API__ENUMS__V1__PENDING_ACTIVITY_STATE__PENDING_ACTIVITY_STATE_SCHEDULED &&
        now_ns < activity->attempt_scheduled_ns && !activity->pause) {
        out->next_attempt_schedule_time =
            tn_ts_from_ns(arena, (int64_t)activity->attempt_scheduled_ns);
        out->current_retry_interval = tn_duration_from_ns(
            arena, (int64_t)(activity->attempt_scheduled_ns - activity->last_attempt_complete_ns));
    }
    if (activity->last_failure.n &&
        TN_PROTO_UNPACK(temporal__api__failure__v1__failure, activity->last_failure, arena,
                        &failure, NULL) == TN_OK)
        out->last_failure = failure;
}

static Temporal__Api__Workflow__V1__PendingActivityInfo *describe(const tn_activity *activity,
                                                                  tn_arena *arena, uint64_t now_ns)
{
    Temporal__Api__Workflow__V1__PendingActivityInfo *out =
        TN_MSG(arena, temporal__api__workflow__v1__pending_activity_info);
    Temporal__Api__Common__V1__Payloads *details;

    out->activity_id = copy_text(arena, activity->activity_id);
    out->activity_type = TN_MSG(arena, temporal__api__common__v1__activity_type);
    out->activity_type->name = copy_text(arena, activity->type);
    if (activity->cancel_requested_id)
        out->state =
            TEMPORAL__API__ENUMS__V1__PENDING_ACTIVITY_STATE__PENDING_ACTIVITY_STATE_CANCEL_REQUESTED;
    else if (activity->started_ns)
        out->state =
            TEMPORAL__API__ENUMS__V1__PENDING_ACTIVITY_STATE__PENDING_ACTIVITY_STATE_STARTED;
    else
        out->state =
            TEMPORAL__API__ENUMS__V1__PENDING_ACTIVITY_STATE__PENDING_ACTIVITY_STATE_SCHEDULED;
    out->attempt = 1;
    out->scheduled_time = tn_ts_from_ns(arena, (int64_t)activity->attempt_scheduled_ns);
    out->last_worker_identity =
        copy_text(arena, activity->identity ? activity->identity : activity->last_worker_identity);
    out->priority = tn_activity_priority(activity, arena);
    out->activity_options = options_of(activity, arena);
    if (activity->started_ns)
        out->last_started_time = tn_ts_from_ns(arena, (int64_t)activity->started_ns);
    if (activity->last_attempt_complete_ns)
        out->last_attempt_complete_time =
            tn_ts_from_ns(arena, (int64_t)activity->last_attempt_complete_ns);
    if (activity->has_heartbeat) {
        out->last_heartbeat_time = tn_ts_from_ns(arena, (int64_t)activity->heartbeat_at_ns);
        if (activity->heartbeat_details.n &&
            TN_PROTO_UNPACK(temporal__api__common__v1__payloads, activity->heartbeat_details, arena,
                            &details, NULL) == TN_OK)
            out->heartbeat_details = details;
    }
    if (activity->retry.present)
        fill_retry(activity, arena, now_ns, out);
    if (activity->pause)
        fill_pause(activity, arena, out);
    return out;
}

void tn_describe_activities(
    const tn_ms *ms, tn_arena *arena, uint64_t now_ns,
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out)
{
    if (ms->n_activities == 0)
        return;
    out->pending_activities =
        TN_NEW_ARRAY(arena, Temporal__Api__Workflow__V1__PendingActivityInfo *, ms->n_activities);
    TN_ASSERT(out->pending_activities);
    TN_LIST_FOREACH (link, &ms->activities) {
        const tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (!activity->closing)
            out->pending_activities[out->n_pending_activities++] =
                describe(activity, arena, now_ns);
    }
}
