/* SPDX-License-Identifier: MIT */
/* What workers tell of activities: an attempt begins, lives, ends well, fails, is cancelled.
 *
 * The start of an attempt is not written by itself unless the attempt is the only one that may run.
 * After a crash such an attempt waits again and may be handed out a second time under the same
 * number; the worker that had it before is still heard, and whoever reports first wins. */
#include "history/machine/parts.h"
#include "history/machine/solo.h"
#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest failed_request;

#define HEARTBEAT_DURABLE_EVERY_NS (30 * TN_SEC)

static const tn_fault *not_found(tn_tx *tx)
{
    if (tx->ms->kind)
        return tn_solo_not_found(tx->arena, tn_str_from(tn_solo_activity(tx->ms)->activity_id));
    return tn_fault_make(
        tx->arena, TN_GRPC_NOT_FOUND,
        "invalid activityID or activity already timed out or invoking workflow is completed");
}

static const tn_fault *closed_fault(tn_tx *tx)
{
    if (tx->ms->kind)
        return tn_solo_not_found(tx->arena, tn_str_from(tn_solo_activity(tx->ms)->activity_id));
    return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "workflow execution already completed");
}

/* ---- start ----------------------------------------------------------------------------------- */

void tn_activity_mark_started(tn_tx *tx, tn_activity *activity, uint64_t started_ns,
                              tn_str identity, tn_str request_id, uint64_t nonce)
{
    tn_ms *ms = tx->ms;

    activity->started_ns = started_ns;
    activity->started_id = TN_ID_TRANSIENT;
    activity->nonce = nonce;
    activity->heartbeat_durable_ns = 0;
    ms->extras_stale = true; /* not worth a commit by itself: rides along with the next record */
    tn_ms_replace_str(ms, &activity->identity, identity);
    tn_ms_replace_str(ms, &activity->request_id, request_id);
}

/* The build that the worker of this attempt says it is: its started event will tell. */
static void note_version(tn_tx *tx, tn_activity *activity, const tn_poller *poller)
{
    Temporal__Api__Common__V1__WorkerVersionStamp *version;

    if (!poller->build_id.n) {
        tn_ms_free_blob(tx->ms, &activity->worker_version);
        return;
    }
    version = TN_MSG(tx->arena, temporal__api__common__v1__worker_version_stamp);
    version->build_id = tn_tx_text(tx, poller->build_id);
    version->use_versioning = poller->use_versioning;
    tn_ms_replace_blob(tx->ms, &activity->worker_version, tn_msg_pack(tx->arena, version));
}

const tn_fault *tn_machine_activity_start(tn_tx *tx, int64_t scheduled_id, uint64_t stamp,
                                          const tn_poller *poller, bool *out_durable)
{
    tn_activity *activity = tn_ms_activity(tx->ms, scheduled_id);

    *out_durable = false;
    if (!tn_ms_running(tx->ms))
        return closed_fault(tx);
    if (!activity)
        return not_found(tx);
    if (activity->started_ns) {
        if (poller->request_id.n && activity->request_id &&
            tn_str_is(poller->request_id, activity->request_id))
            return NULL; /* the same hand-out again */
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "Activity task already started.");
    }
    /* What has been offered was due then: that the clock has been put back since is no reason to refuse it. */
    if (stamp != activity->stamp ||
        (activity->attempt_scheduled_ns > tx->now_ns && !activity->dispatched) ||
        tn_activity_held(tx->ms, activity))
        return tn_fault_make(
            tx->arena, TN_GRPC_NOT_FOUND,
            "Activity task rejected; stamp has changed. Id: %s,: type: %s, current stamp: %llu",
            activity->activity_id, activity->type, (unsigned long long)activity->stamp);
    if (!tn_tx_activity_may_start(tx, poller))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND,
                             "the workflow moves to another version of its workers");
    tn_activity_mark_started(
        tx, activity,
        tx->now_ns > activity->attempt_scheduled_ns ? tx->now_ns : activity->attempt_scheduled_ns,
        poller->identity, poller->request_id, tn_rng_next(tx->rng));
    activity->dispatched = true;
    note_version(tx, activity, poller);
    if (tx->ms->kind)
        tn_solo_started(tx, activity);
    if (!activity->retry.present || activity->retry.max_attempts == 1)
        activity->started_durable = *out_durable = tx->extras_dirty = true;
    return NULL;
}

void tn_machine_activity_unstart(tn_tx *tx, int64_t scheduled_id, tn_str request_id)
{
    tn_activity *activity = tn_ms_activity(tx->ms, scheduled_id);

    if (!activity || !activity->started_ns || activity->started_id != TN_ID_TRANSIENT ||
        !request_id.n || !activity->request_id || !tn_str_is(request_id, activity->request_id))
        return;
    activity->started_ns = 0;
    activity->started_id = 0;
    activity->nonce = 0;
    activity->started_durable = activity->dispatched = false;
    activity->stamp = ++tx->ms->next_stamp;
    tn_ms_replace_str(tx->ms, &activity->request_id, TN_STR(""));
    tn_ms_free_blob(tx->ms, &activity->worker_version);
    tx->extras_dirty = true;
}

int64_t tn_activity_record_start(tn_tx *tx, tn_activity *activity,
                                 const Temporal__Api__Common__V1__WorkerVersionStamp *stamp)
{
    Temporal__Api__History__V1__ActivityTaskStartedEventAttributes *attrs;
    Temporal__Api__Common__V1__WorkerVersionStamp *version;
    Temporal__Api__Failure__V1__Failure *failure;
    tn_event *event;
    int64_t id;

    if (activity->pause)
        tx->visibility_dirty = true; /* one paused activity less */
    if (activity->started_id != TN_ID_TRANSIENT)
        return activity->started_id > 0 ? activity->started_id : 0;
    event = tn_tx_event(tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_ACTIVITY_TASK_STARTED);
    event->event_time = tn_ts_from_ns(tx->arena, (int64_t)activity->started_ns);
    attrs = TN_EVENT_ATTRS(tx, event, ACTIVITY_TASK_STARTED, activity_task_started);
    attrs->scheduled_event_id = activity->scheduled_id;
    attrs->attempt = activity->attempt;
    attrs->identity = tn_tx_text(tx, tn_str_from(activity->identity));
    attrs->request_id = tn_tx_text(tx, tn_str_from(activity->request_id));
    attrs->worker_version = (Temporal__Api__Common__V1__WorkerVersionStamp *)(uintptr_t)stamp;
    if (activity->worker_version.n &&
        TN_PROTO_UNPACK(temporal__api__common__v1__worker_version_stamp, activity->worker_version,
                        tx->arena, &version, NULL) == TN_OK)
        attrs->worker_version = version;
    if (activity->last_failure.n &&
        TN_PROTO_UNPACK(temporal__api__failure__v1__failure, activity->last_failure, tx->arena,
                        &failure, NULL) == TN_OK)
        attrs->last_failure = failure;
    id = tn_tx_add(tx, event);
    return id > 0 ? id : 0;
}

/* ---- finding the attempt that a report is about ---------------------------------------------- */

/* A report under a token of the present attempt when the state says that it waits: its start was
 * lost with the last owner of the shard.  It did start, so say the token's bearer and our seal on
 * it. */
static void adopt(tn_tx *tx, tn_activity *activity, const Tenon__TaskToken *token)
{
    uint64_t started_ns = token->started_ns;

    if (started_ns < activity->attempt_scheduled_ns || started_ns > tx->now_ns)
        started_ns = tx->now_ns;
    tn_activity_mark_started(tx, activity, started_ns, tn_str_from(token->identity), TN_STR(""),
                             token->nonce);
}

static const tn_fault *find(tn_tx *tx, const Tenon__TaskToken *token, tn_str activity_id,
                            tn_activity **out)
{
    bool by_id = !token || token->scheduled_id == 0;

    if (!tn_ms_running(tx->ms))
        return closed_fault(tx);
    if (by_id) {
        if (activity_id.n == 0)
            return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, "activityID cannot be empty");
        *out = tn_ms_activity_by_id(tx->ms, activity_id);
        if (!*out)
            return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND,
                                 "cannot find pending activity with ActivityID " TN_STR_FMT
                                 ", check workflow execution history for more details",
                                 TN_STR_ARG(activity_id));
        return NULL;
    }
    *out = tn_ms_activity(tx->ms, token->scheduled_id);
    /* An operator may have set the attempt back since it began: it is known by its start, then. */
    if (!*out || (token->attempt != (*out)->attempt &&
                  !((*out)->started_ns && token->nonce && token->nonce == (*out)->nonce)))
        return not_found(tx);
    return NULL;
}

/* Same, and the attempt must have started. */
static const tn_fault *find_started(tn_tx *tx, const Tenon__TaskToken *token, tn_str activity_id,
                                    tn_activity **out)
{
    const tn_fault *fault = find(tx, token, activity_id, out);

    if (fault || (*out)->started_ns)
        return fault;
    if (!token || token->scheduled_id == 0)
        return not_found(tx);
    adopt(tx, *out, token);
    return NULL;
}

/* ---- heartbeats ------------------------------------------------------------------------------ */

static bool too_large(const tn_tx *tx, const Temporal__Api__Common__V1__Payloads *payloads)
{
    return payloads && (int64_t)protobuf_c_message_get_packed_size(&payloads->base) >
                           tx->env->limits->blob_bytes_max;
}

/* True: the details are others than before. */
static bool note_progress(tn_tx *tx, tn_activity *activity,
                          const Temporal__Api__Common__V1__Payloads *details, const char *identity)
{
    tn_ms *ms = tx->ms;
    tn_blob packed = details ? tn_msg_pack(tx->arena, details) : (tn_blob){NULL, 0};
    bool changed = !tn_blob_eq(packed, activity->heartbeat_details);

    if (changed)
        tn_ms_replace_blob(ms, &activity->heartbeat_details, packed);
    if (identity && *identity)
        tn_ms_replace_str(ms, &activity->last_worker_identity, tn_str_from(identity));
    activity->has_heartbeat = true;
    activity->heartbeat_at_ns = tx->now_ns;
    tx->ms->extras_stale = true;
    return changed;
}

/* Details are worth a commit when the last ones in the store are old. */
static bool is_stale(const tn_tx *tx, const tn_activity *activity)
{
    uint64_t every_ns = HEARTBEAT_DURABLE_EVERY_NS, last_ns = activity->heartbeat_durable_ns;

    if (activity->heartbeat_ns && activity->heartbeat_ns / 2 < every_ns)
        every_ns = activity->heartbeat_ns / 2;
    if (last_ns < activity->started_ns)
        last_ns = activity->started_ns;
    return tx->now_ns >= last_ns && tx->now_ns - last_ns >= every_ns;
}

static const tn_fault *fail(tn_tx *tx, tn_activity *activity,
                            const Temporal__Api__Failure__V1__Failure *failure,
                            const char *identity,
                            const Temporal__Api__Common__V1__WorkerVersionStamp *stamp);

const tn_fault *tn_machine_activity_heartbeat(
    tn_tx *tx, const Tenon__TaskToken *token, tn_str activity_id,
    const Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *request,
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatResponse *out)
{
    tn_activity *activity;
    const tn_fault *fault = find_started(tx, token, activity_id, &activity);

    if (fault)
        return fault;
    if (too_large(tx, request->details)) {
        out->cancel_requested = true;
        return fail(tx, activity,
                    tn_failure_server(tx->arena, "Heartbeat details exceed size limit.", true),
                    request->identity, NULL);
    }
    out->cancel_requested = activity->cancel_requested_id != 0;
    out->activity_paused = activity->pause != NULL;
    out->activity_reset = activity->reset;
    if (tx->ms->kind)
        tn_solo_beaten(tx->ms);
    if (note_progress(tx, activity, request->details, request->identity) &&
        is_stale(tx, activity)) {
        activity->heartbeat_durable_ns = tx->now_ns;
        tx->extras_dirty = true;
    }
    return NULL;
}

/* ---- ends ------------------------------------------------------------------------------------ */

static const tn_fault *fail(tn_tx *tx, tn_activity *activity,
                            const Temporal__Api__Failure__V1__Failure *failure,
                            const char *identity,
                            const Temporal__Api__Common__V1__WorkerVersionStamp *stamp)
{
    int32_t state = tn_activity_retry(tx, activity, failure);
    Temporal__Api__History__V1__ActivityTaskFailedEventAttributes *attrs;
    int64_t started_id;
    tn_event *event;

    if (state == TN_RETRY_IN_PROGRESS)
        return NULL;
    if (tx->ms->kind) {
        tn_solo_failed(tx, activity, failure, state, identity);
        return NULL;
    }
    started_id = tn_activity_record_start(tx, activity, stamp);
    event = tn_tx_event(tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_ACTIVITY_TASK_FAILED);
    attrs = TN_EVENT_ATTRS(tx, event, ACTIVITY_TASK_FAILED, activity_task_failed);
    attrs->scheduled_event_id = activity->scheduled_id;
    attrs->started_event_id = started_id;
    attrs->failure = (Temporal__Api__Failure__V1__Failure *)(uintptr_t)failure;
    attrs->retry_state = (Temporal__Api__Enums__V1__RetryState)state;
    attrs->identity = (char *)(uintptr_t)identity;
    tn_tx_add(tx, event);
    tn_tx_schedule_wft(tx);
    return NULL;
}

const tn_fault *tn_machine_activity_completed(
    tn_tx *tx, const Tenon__TaskToken *token, tn_str activity_id,
    const Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *request)
{
    Temporal__Api__History__V1__ActivityTaskCompletedEventAttributes *attrs;
    tn_activity *activity;
    const tn_fault *fault;
    int64_t started_id;
    tn_event *event;

    if (tx->ms->kind && !tn_ms_running(tx->ms) && !(token && token->scheduled_id))
        return tn_solo_over(tx);
    if (too_large(tx, request->result)) {
        fault = find_started(tx, token, activity_id, &activity);
        return fault
                   ? fault
                   : fail(tx, activity,
                          tn_failure_server(tx->arena, "Complete result exceeds size limit.", true),
                          request->identity, NULL);
    }
    fault = find(tx, token, activity_id, &activity);
    if (fault)
        return fault;
    if (!activity->started_ns) {
        /* By id it may be completed before any worker has seen it: it then started just now. */
        if (token && token->scheduled_id)
            adopt(tx, activity, token);
        else
            tn_activity_mark_started(tx, activity, tx->now_ns, tn_str_from(request->identity),
                                     TN_STR(""), 0);
    }
    if (tx->ms->kind) {
        tn_solo_completed(tx, activity, request->result, request->identity);
        return NULL;
    }
    started_id = tn_activity_record_start(tx, activity, request->worker_version);
    event =
        tn_tx_event(tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_ACTIVITY_TASK_COMPLETED);
    attrs = TN_EVENT_ATTRS(tx, event, ACTIVITY_TASK_COMPLETED, activity_task_completed);
    attrs->scheduled_event_id = activity->scheduled_id;
    attrs->started_event_id = started_id;
    attrs->result = request->result;
    attrs->identity = request->identity;
    tn_tx_add(tx, event);
    tn_tx_schedule_wft(tx);
    return NULL;
}

const tn_fault *tn_machine_activity_failed(tn_tx *tx, const Tenon__TaskToken *token,
                                           tn_str activity_id, const failed_request *request)
{
    const Temporal__Api__Failure__V1__Failure *failure = request->failure;
    Temporal__Api__Failure__V1__Failure *shorter;
    tn_activity *activity;
    const tn_fault *fault = find_started(tx, token, activity_id, &activity);

    if (fault)
        return fault;
    if (request->last_heartbeat_details && !too_large(tx, request->last_heartbeat_details))
        note_progress(tx, activity, request->last_heartbeat_details, request->identity);
    if (failure && (int64_t)protobuf_c_message_get_packed_size(&failure->base) >
                       tx->env->limits->blob_bytes_max) {
        shorter = tn_failure_server(tx->arena, "Failure exceeds size limit.", true);
        shorter->cause = tn_failure_cut(tx->arena, failure, tx->env->limits->blob_bytes_warn);
        failure = shorter;
    }
    return fail(tx, activity, failure, request->identity, request->worker_version);
}

const tn_fault *tn_machine_activity_canceled(
    tn_tx *tx, const Tenon__TaskToken *token, tn_str activity_id,
    const Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest *request)
{
    Temporal__Api__History__V1__ActivityTaskCanceledEventAttributes *attrs;
    tn_activity *activity;
    const tn_fault *fault = find_started(tx, token, activity_id, &activity);
    int64_t started_id;
    tn_event *event;

    if (fault)
        return fault;
    if (too_large(tx, request->details))
        return fail(tx, activity,
                    tn_failure_server(tx->arena, "Cancel details exceed size limit.", true),
                    request->identity, NULL);
    if (!activity->cancel_requested_id)
        return tn_fault_make(
            tx->arena, TN_GRPC_INVALID_ARGUMENT,
            "unable to mark activity as canceled without activity being request canceled first");
    if (tx->ms->kind) {
        tn_solo_canceled(tx, request->details);
        return NULL;
    }
    started_id = tn_activity_record_start(tx, activity, NULL);
    event =
        tn_tx_event(tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_ACTIVITY_TASK_CANCELED);
    attrs = TN_EVENT_ATTRS(tx, event, ACTIVITY_TASK_CANCELED, activity_task_canceled);
    attrs->scheduled_event_id = activity->scheduled_id;
    attrs->started_event_id = started_id;
    attrs->latest_cancel_requested_event_id = activity->cancel_requested_id;
    attrs->details = request->details;
    attrs->identity = request->identity;
    tn_tx_add(tx, event);
    tn_tx_schedule_wft(tx);
    return NULL;
}
