/* SPDX-License-Identifier: MIT */
/* An activity of its own as clients see it: its description and its outcome. */
#include "history/machine/solo.h"

#include "history/machine/parts.h"
#include "proto/proto.h"

typedef Temporal__Api__Activity__V1__ActivityExecutionInfo info_msg;
typedef Temporal__Api__History__V1__ActivityTaskScheduledEventAttributes scheduled_attrs;
typedef Temporal__Api__Workflowservice__V1__DescribeActivityExecutionRequest describe_request;
typedef Temporal__Api__Workflowservice__V1__DescribeActivityExecutionResponse describe_response;

static char *text_of(const char *s) { return (char *)(uintptr_t)(s ? s : ""); }

static tn_pb_timestamp *time_of(tn_arena *arena, uint64_t ns)
{
    return ns ? tn_ts_from_ns(arena, (int64_t)ns) : NULL;
}

Temporal__Api__Workflowservice__V1__StartActivityExecutionRequest *tn_solo_request(const tn_ms *ms,
                                                                                   tn_arena *arena)
{
    Temporal__Api__Workflowservice__V1__StartActivityExecutionRequest *request;

    TN_ASSERT(TN_PROTO_UNPACK(temporal__api__workflowservice__v1__start_activity_execution_request,
                              tn_solo_of(ms)->request, arena, &request, NULL) == TN_OK);
    return request;
}

Temporal__Api__Activity__V1__ActivityExecutionOutcome *tn_solo_outcome(const tn_ms *ms,
                                                                       tn_arena *arena)
{
    Temporal__Api__Activity__V1__ActivityExecutionOutcome *outcome;

    if (!tn_solo_of(ms)->outcome.n ||
        TN_PROTO_UNPACK(temporal__api__activity__v1__activity_execution_outcome,
                        tn_solo_of(ms)->outcome, arena, &outcome, NULL) != TN_OK)
        return NULL;
    return outcome;
}

/* temporal.api.enums.v1.ActivityExecutionStatus, of that of runs. */
static int32_t status_of(const tn_ms *ms, const tn_activity *activity)
{
    static const int32_t closed[] = {[2] = 2, [3] = 3, [4] = 4, [5] = 5, [7] = 6};

    if (tn_ms_running(ms))
        return activity->pause && !activity->started_ns ? 7 : 1;
    return ms->status > 0 && (size_t)ms->status < TN_COUNT_OF(closed) ? closed[ms->status] : 0;
}

enum { SCHEDULED = 1, STARTED, CANCEL_REQUESTED, PAUSED, PAUSE_REQUESTED };

static int32_t run_state(const tn_ms *ms, const tn_activity *activity)
{
    if (!tn_ms_running(ms))
        return 0;
    if (tn_solo_of(ms)->cancel)
        return CANCEL_REQUESTED;
    if (activity->pause)
        return activity->started_ns ? PAUSE_REQUESTED : PAUSED;
    return activity->started_ns ? STARTED : SCHEDULED;
}

static void fill_options(const tn_activity *activity, tn_arena *arena, const scheduled_attrs *attrs,
                         info_msg *out)
{
    const tn_activity_options *now = tn_activity_options_now(activity, arena);

    out->task_queue = now->task_queue->name;
    out->schedule_to_close_timeout = now->schedule_to_close_timeout;
    out->schedule_to_start_timeout = now->schedule_to_start_timeout;
    out->start_to_close_timeout = now->start_to_close_timeout;
    out->heartbeat_timeout = now->heartbeat_timeout;
    out->retry_policy = now->retry_policy;
    if (attrs->retry_policy) {
        now->retry_policy->non_retryable_error_types =
            attrs->retry_policy->non_retryable_error_types;
        now->retry_policy->n_non_retryable_error_types =
            attrs->retry_policy->n_non_retryable_error_types;
    }
    out->priority = now->priority;
}

static void fill_times(const tn_ms *ms, const tn_activity *activity, tn_arena *arena,
                       uint64_t now_ns, info_msg *out)
{
    const tn_solo *solo = tn_solo_of(ms);
    bool waits = tn_ms_running(ms) && !activity->started_ns && !activity->pause;

    out->schedule_time = time_of(arena, activity->scheduled_ns);
    out->execution_time = time_of(arena, solo->dispatch_ns);
    out->last_started_time = time_of(arena, solo->last_started_ns);
    out->last_attempt_complete_time = time_of(arena, activity->last_attempt_complete_ns);
    if (activity->schedule_to_close_ns)
        out->expiration_time =
            time_of(arena, activity->first_scheduled_ns + activity->schedule_to_close_ns);
    if (activity->has_heartbeat)
        out->last_heartbeat_time = time_of(arena, activity->heartbeat_at_ns);
    if (waits && activity->attempt_scheduled_ns > now_ns) {
        out->next_attempt_schedule_time = time_of(arena, activity->attempt_scheduled_ns);
        if (activity->retry_interval_ns)
            out->current_retry_interval =
                tn_duration_from_ns(arena, (int64_t)activity->retry_interval_ns);
    }
    if (tn_ms_running(ms))
        return;
    out->close_time = time_of(arena, ms->close_ns);
    out->execution_duration =
        tn_duration_from_ns(arena, (int64_t)ms->close_ns - (int64_t)activity->scheduled_ns);
}

/* Those of its start, and those that were attached to it later. */
static void fill_links(
    const tn_ms *ms, tn_arena *arena,
    const Temporal__Api__Workflowservice__V1__StartActivityExecutionRequest *request, info_msg *out)
{
    const tn_solo *solo = tn_solo_of(ms);

    out->links = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Link *,
                              request->n_links + solo->n_attached_links + 1);
    TN_ASSERT(out->links);
    for (size_t i = 0; i < request->n_links; i++)
        out->links[out->n_links++] = request->links[i];
    for (size_t i = 0; i < solo->n_attached_links; i++)
        if (TN_PROTO_UNPACK(temporal__api__common__v1__link, solo->attached_links[i], arena,
                            &out->links[out->n_links], NULL) == TN_OK)
            out->n_links++;
}

static void fill_who(const tn_ms *ms, const tn_activity *activity, info_msg *out)
{
    const tn_solo *solo = tn_solo_of(ms);

    out->attempt = activity->attempt;
    out->last_worker_identity =
        text_of(activity->identity ? activity->identity : activity->last_worker_identity);
    out->canceled_reason = text_of(solo->cancel ? solo->cancel->reason : NULL);
    out->total_heartbeat_count = solo->heartbeats;
    out->sdk_name = text_of(ms->sdk_name);
    out->sdk_version = text_of(ms->sdk_version);
    out->state_transition_count = (int64_t)solo->changes;
    out->state_size_bytes =
        (int64_t)(activity->attrs.n + solo->request.n + solo->outcome.n +
                  activity->heartbeat_details.n + activity->last_failure.n + activity->options.n);
}

static info_msg *info_of(const tn_ms *ms, tn_arena *arena, uint64_t now_ns,
                         const scheduled_attrs *attrs, const describe_request *request)
{
    const tn_activity *activity = tn_solo_activity(ms);
    const Temporal__Api__Workflowservice__V1__StartActivityExecutionRequest *start =
        tn_solo_request(ms, arena);
    info_msg *out = TN_MSG(arena, temporal__api__activity__v1__activity_execution_info);

    out->activity_id = activity->activity_id;
    out->run_id = text_of(ms->run_id_text);
    out->activity_type = attrs->activity_type;
    out->status = (Temporal__Api__Enums__V1__ActivityExecutionStatus)status_of(ms, activity);
    out->run_state = (Temporal__Api__Enums__V1__PendingActivityState)run_state(ms, activity);
    fill_options(activity, arena, attrs, out);
    fill_times(ms, activity, arena, now_ns, out);
    fill_who(ms, activity, out);
    fill_links(ms, arena, start, out);
    out->header = attrs->header;
    out->user_metadata = start->user_metadata;
    if (start->start_delay || tn_solo_of(ms)->dispatch_ns != ms->start_ns)
        out->start_delay =
            tn_duration_from_ns(arena, (int64_t)(tn_solo_of(ms)->dispatch_ns - ms->start_ns));
    out->search_attributes = tn_machine_search_attributes(ms, arena);
    if (request->include_heartbeat_details && activity->heartbeat_details.n)
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__common__v1__payloads, activity->heartbeat_details,
                                  arena, &out->heartbeat_details, NULL) == TN_OK);
    if (request->include_last_failure && activity->last_failure.n)
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__failure__v1__failure, activity->last_failure,
                                  arena, &out->last_failure, NULL) == TN_OK);
    return out;
}

ProtobufCMessage *tn_solo_describe(const tn_tx *tx, const describe_request *request,
                                   tn_arena *arena)
{
    const tn_ms *ms = tx->ms;
    describe_response *out =
        TN_MSG(arena, temporal__api__workflowservice__v1__describe_activity_execution_response);
    Tenon__SoloActivityWatch *watch = TN_MSG(arena, tenon__solo_activity_watch);
    scheduled_attrs *attrs;
    tn_blob token;

    TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__activity_task_scheduled_event_attributes,
                              tn_solo_activity(ms)->attrs, arena, &attrs, NULL) == TN_OK);
    out->run_id = text_of(ms->run_id_text);
    out->info = info_of(ms, arena, tx->now_ns, attrs, request);
    if (request->include_input)
        out->input = attrs->input;
    if (request->include_outcome)
        out->outcome = tn_solo_outcome(ms, arena);
    watch->run_id = text_of(ms->run_id_text);
    watch->changes = tn_solo_of(ms)->changes;
    token = tn_msg_pack(arena, watch);
    out->long_poll_token = (ProtobufCBinaryData){token.n, (uint8_t *)(uintptr_t)token.p};
    return &out->base;
}
