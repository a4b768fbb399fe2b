/* SPDX-License-Identifier: MIT */
/* Activities and time: the four time-outs, in the order in which they strike, and the next
 * attempt. */
#include <stdlib.h>

#include "history/machine/parts.h"
#include "history/machine/solo.h"
#include "proto/proto.h"

#define DEADLINES_MAX 4
#define BACKOFF_MAX_NS \
    (UINT64_C(3153600000) * TN_SEC) /* 100 years: what a time on the wire can hold */

typedef struct deadline {
    uint64_t at_ns;
    int64_t scheduled_id;
    int32_t timeout_type, attempt;
} deadline;

/* A time-out of 0 is none. */
static void put_deadline(deadline *out, size_t *n, const tn_activity *activity, int32_t type,
                         uint64_t from_ns, uint64_t timeout_ns)
{
    if (timeout_ns == 0)
        return;
    out[(*n)++] = (deadline){
        .at_ns = timeout_ns > UINT64_MAX - 1 - from_ns ? UINT64_MAX - 1 : from_ns + timeout_ns,
        .scheduled_id = activity->scheduled_id,
        .timeout_type = type,
        .attempt = activity->attempt,
    };
}

static size_t list_deadlines(const tn_activity *activity, deadline out[DEADLINES_MAX])
{
    uint64_t seen_ns = activity->started_ns;
    size_t n = 0;

    if (activity->pause)
        return 0; /* its clocks stand still until it goes on */
    put_deadline(out, &n, activity, TN_TIMEOUT_SCHEDULE_TO_CLOSE, activity->first_scheduled_ns,
                 activity->schedule_to_close_ns);
    if (activity->started_ns == 0) {
        put_deadline(out, &n, activity, TN_TIMEOUT_SCHEDULE_TO_START,
                     activity->attempt_scheduled_ns, activity->schedule_to_start_ns);
        return n;
    }
    put_deadline(out, &n, activity, TN_TIMEOUT_START_TO_CLOSE, activity->started_ns,
                 activity->start_to_close_ns);
    if (activity->has_heartbeat && activity->heartbeat_at_ns > seen_ns)
        seen_ns = activity->heartbeat_at_ns;
    if (activity->owned_since_ns > seen_ns)
        seen_ns = activity->owned_since_ns;
    put_deadline(out, &n, activity, TN_TIMEOUT_HEARTBEAT, seen_ns, activity->heartbeat_ns);
    return n;
}

/* By time, then by scheduled id, then by type. */
static int compare_deadlines(const void *a, const void *b)
{
    const deadline *x = a, *y = b;

    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    if (x->scheduled_id != y->scheduled_id)
        return x->scheduled_id < y->scheduled_id ? -1 : 1;
    return (x->timeout_type > y->timeout_type) - (x->timeout_type < y->timeout_type);
}

uint64_t tn_activity_deadline_ns(const tn_activity *activity, int32_t *out_timeout_type)
{
    deadline deadlines[DEADLINES_MAX];
    size_t n = list_deadlines(activity, deadlines), first = 0;

    if (out_timeout_type)
        *out_timeout_type = 0;
    if (n == 0)
        return UINT64_MAX;
    for (size_t i = 1; i < n; i++)
        if (compare_deadlines(&deadlines[i], &deadlines[first]) < 0)
            first = i;
    if (out_timeout_type)
        *out_timeout_type = deadlines[first].timeout_type;
    return deadlines[first].at_ns;
}

/* ---- the next attempt ------------------------------------------------------------------------ */

static void set_up_attempt(tn_tx *tx, tn_activity *activity, uint64_t interval_ns,
                           const Temporal__Api__Failure__V1__Failure *failure)
{
    tn_ms *ms = tx->ms;
    const Temporal__Api__Failure__V1__Failure *kept =
        tn_failure_for_state(tx->arena, failure, tx->env->limits->failure_bytes_max);

    if (interval_ns > BACKOFF_MAX_NS)
        interval_ns = BACKOFF_MAX_NS;
    activity->attempt++;
    if (!activity->pause) { /* else: when it goes on */
        activity->attempt_scheduled_ns = tx->now_ns + interval_ns;
        activity->retry_interval_ns = interval_ns;
    }
    tn_activity_wait_again(tx, activity);
    tn_ms_replace_blob(ms, &activity->last_failure,
                       kept ? tn_msg_pack(tx->arena, kept) : (tn_blob){NULL, 0});
    activity->last_attempt_complete_ns = tx->now_ns;
    if (ms->kind)
        tn_solo_waits_again(tx, activity);
}

void tn_activity_wait_again(tn_tx *tx, tn_activity *activity)
{
    tn_ms *ms = tx->ms;

    activity->started_ns = 0;
    activity->started_id = 0;
    activity->nonce = 0;
    activity->started_durable = activity->dispatched = false;
    activity->stamp = ++ms->next_stamp;
    if (activity->identity)
        tn_ms_replace_str(ms, &activity->last_worker_identity, tn_str_from(activity->identity));
    tn_ms_replace_str(ms, &activity->request_id, TN_STR(""));
    tn_ms_free_blob(ms, &activity->worker_version);
    if (!activity->pause) {
        if (activity->reset_heartbeats)
            tn_activity_forget_heartbeats(ms, activity);
        activity->reset = activity->reset_heartbeats = false;
    }
    tx->extras_dirty = true;
}

void tn_activity_forget_heartbeats(tn_ms *ms, tn_activity *activity)
{
    tn_ms_free_blob(ms, &activity->heartbeat_details);
    activity->has_heartbeat = false;
    activity->heartbeat_at_ns = 0;
}

/* The server's own, not a failed attempt. */
static bool is_end_of_patience(const Temporal__Api__Failure__V1__Failure *failure)
{
    return failure &&
           failure->failure_info_case ==
               TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TIMEOUT_FAILURE_INFO &&
           (failure->timeout_failure_info->timeout_type == TN_TIMEOUT_SCHEDULE_TO_START ||
            failure->timeout_failure_info->timeout_type == TN_TIMEOUT_SCHEDULE_TO_CLOSE);
}

int32_t tn_activity_retry(tn_tx *tx, tn_activity *activity,
                          const Temporal__Api__Failure__V1__Failure *failure)
{
    int32_t state;
    uint64_t interval_ns;

    if (!activity->retry.present)
        return TN_RETRY_POLICY_NOT_SET;
    if (activity->cancel_requested_id)
        return TN_RETRY_CANCEL_REQUESTED;
    if (tx->ms->kind && activity->reset && activity->started_ns &&
        !is_end_of_patience(failure)) { /* it begins again, whatever the attempt came to */
        set_up_attempt(tx, activity, 0, failure);
        activity->attempt = 1;
        return TN_RETRY_IN_PROGRESS;
    }
    if (is_end_of_patience(failure))
        return TN_RETRY_TIMEOUT;
    if (!tn_retry_allows(&activity->retry, failure))
        return TN_RETRY_NON_RETRYABLE_FAILURE;
    if (activity->pause) { /* whether there is another one is not asked before it goes on */
        set_up_attempt(tx, activity, 0, failure);
        return TN_RETRY_IN_PROGRESS;
    }
    interval_ns = tn_retry_activity_backoff_ns(&activity->retry, activity->attempt, tx->now_ns,
                                               activity->expire_ns, failure, &state);
    if (state == TN_RETRY_IN_PROGRESS)
        set_up_attempt(tx, activity, interval_ns, failure);
    return state;
}

/* ---- time-outs ------------------------------------------------------------------------------- */

static Temporal__Api__Failure__V1__Failure *unpack_failure(tn_arena *arena, tn_blob packed)
{
    Temporal__Api__Failure__V1__Failure *failure;

    if (packed.n == 0 || TN_PROTO_UNPACK(temporal__api__failure__v1__failure, packed, arena,
                                         &failure, NULL) != TN_OK)
        return NULL;
    return failure;
}

/* Of an activity of its own a time-out does not say that the server told it. */
static void nameless(const tn_tx *tx, Temporal__Api__Failure__V1__Failure *failure)
{
    if (tx->ms->kind)
        failure->source = (char *)(uintptr_t) "";
}

/* True when the activity has ended. */
static bool time_out(tn_tx *tx, tn_activity *activity, int32_t type)
{
    Temporal__Api__Failure__V1__Failure *failure = tn_failure_timeout(
        tx->arena, tn_arena_printf(tx->arena, "activity %s timeout", tn_timeout_type_name(type)),
        type);
    int32_t state;
    Temporal__Api__History__V1__ActivityTaskTimedOutEventAttributes *attrs;
    Temporal__Api__Common__V1__Payloads *details;
    int64_t started_id;
    tn_event *event;

    nameless(tx, failure);
    state = tn_activity_retry(tx, activity, failure);
    if (state == TN_RETRY_IN_PROGRESS)
        return false;
    /* No time for another attempt is told as schedule-to-close, whatever struck. */
    if (state == TN_RETRY_TIMEOUT && type != TN_TIMEOUT_SCHEDULE_TO_START)
        failure = tn_failure_timeout(
            tx->arena,
            "Not enough time to schedule next retry before activity ScheduleToClose "
            "timeout, giving up retrying",
            TN_TIMEOUT_SCHEDULE_TO_CLOSE);
    if (activity->heartbeat_details.n &&
        TN_PROTO_UNPACK(temporal__api__common__v1__payloads, activity->heartbeat_details, tx->arena,
                        &details, NULL) == TN_OK)
        failure->timeout_failure_info->last_heartbeat_details = details;
    failure->cause = unpack_failure(tx->arena, activity->last_failure);
    nameless(tx, failure);
    if (tx->ms->kind) {
        tn_solo_timed_out(tx, activity, failure, state,
                          type == TN_TIMEOUT_START_TO_CLOSE || type == TN_TIMEOUT_HEARTBEAT);
        return true;
    }
    started_id = tn_activity_record_start(tx, activity, NULL);
    event =
        tn_tx_event(tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT);
    attrs = TN_EVENT_ATTRS(tx, event, ACTIVITY_TASK_TIMED_OUT, activity_task_timed_out);
    attrs->scheduled_event_id = activity->scheduled_id;
    attrs->started_event_id = started_id;
    attrs->failure = failure;
    attrs->retry_state = (Temporal__Api__Enums__V1__RetryState)state;
    tn_tx_add(tx, event);
    return true;
}

bool tn_fire_activities(tn_tx *tx)
{
    tn_ms *ms = tx->ms;
    deadline one[DEADLINES_MAX], *due;
    size_t n_due = 0;
    bool ended = false;

    TN_LIST_FOREACH (link, &ms->activities) {
        const tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (!activity->closing && tn_activity_deadline_ns(activity, NULL) <= tx->now_ns)
            n_due++;
    }
    if (n_due == 0)
        return false;
    due = tn_tx_alloc(tx, n_due * DEADLINES_MAX * sizeof(*due));
    n_due = 0;
    TN_LIST_FOREACH (link, &ms->activities) {
        const tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);
        size_t n = activity->closing ? 0 : list_deadlines(activity, one);

        for (size_t i = 0; i < n; i++)
            if (one[i].at_ns <= tx->now_ns)
                due[n_due++] = one[i];
    }
    qsort(due, n_due, sizeof(*due), compare_deadlines);
    for (size_t i = 0; i < n_due; i++) {
        tn_activity *activity = tn_ms_activity(ms, due[i].scheduled_id);

        /* Gone, or an earlier one of its time-outs has begun the next attempt. */
        if (activity && activity->attempt == due[i].attempt && tn_ms_running(ms))
            ended |= time_out(tx, activity, due[i].timeout_type);
    }
    return ended;
}
