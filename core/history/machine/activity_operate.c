/* SPDX-License-Identifier: MIT */
/* What operators do to pending activities: pause, go on, begin again, change options.  No event tells of it: all of it
 * is extras.  A running attempt goes on; it hears with its next heartbeat that its activity was paused or reset. */
#include <stdlib.h>

#include "history/machine/parts.h"
#include "proto/proto.h"

/* Which activities are meant. */
typedef struct target {
    const char *id, *type; /* NULL both: all */
} target;

static const tn_fault *not_found(tn_tx *tx)
{
    return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND,
                         "Can't find pending activity with such ID. Invalid activityID or activity "
                         "already completed");
}

static const tn_fault *check_run(tn_tx *tx)
{
    return tn_ms_running(tx->ms) ? NULL
                                 : tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND,
                                                 "workflow execution already completed");
}

static bool is_meant(const tn_activity *activity, const target *which)
{
    if (activity->closing)
        return false;
    if (which->id)
        return strcmp(activity->activity_id, which->id) == 0;
    return !which->type || strcmp(activity->type, which->type) == 0;
}

/* In the transition's arena; 0: there are none. */
static size_t find_all(tn_tx *tx, const target *which, tn_activity ***out)
{
    size_t n = 0;

    *out = tn_tx_alloc(tx, (tx->ms->n_activities + 1) * sizeof(**out));
    TN_LIST_FOREACH (link, &tx->ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (is_meant(activity, which))
            (*out)[n++] = activity;
    }
    return n;
}

static bool is_waiting(const tn_activity *activity)
{
    return !activity->started_ns && !activity->cancel_requested_id;
}

/* It goes out at that time, under the number that it has. */
static void offer_at(tn_tx *tx, tn_activity *activity, uint64_t at_ns)
{
    activity->attempt_scheduled_ns = at_ns;
    tn_ms_free_blob(tx->ms, &activity->last_failure);
    tn_activity_wait_again(tx, activity);
}

static uint64_t soon(tn_tx *tx, const Google__Protobuf__Duration *jitter)
{
    uint64_t span_ns = tn_duration_ns(jitter);

    return tx->now_ns + (span_ns ? tn_rng_below(tx->rng, span_ns) : 0);
}

static void go_on(tn_tx *tx, tn_activity *activity)
{
    tn_pause_clear(tx->ms, &activity->pause);
    activity->stamp = ++tx->ms->next_stamp;
    activity->dispatched = activity->started_ns != 0;
    tx->extras_dirty = tx->visibility_dirty = true;
}

/* ---- pause ----------------------------------------------------------------------------------- */

static const tn_fault *pause_one(
    tn_tx *tx, tn_activity *activity,
    const Temporal__Api__Workflowservice__V1__PauseActivityRequest *request)
{
    if (activity->pause)
        return tn_str_eq(tn_str_from(activity->pause->request_id), tn_str_from(request->request_id))
                   ? NULL
                   : tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                                   "activity is already paused");
    if (is_waiting(activity)) { /* who was offered it, comes too late */
        activity->stamp = ++tx->ms->next_stamp;
        activity->dispatched = false;
    }
    tn_pause_set(tx->ms, &activity->pause, tx->now_ns, request->identity, request->reason,
                 request->request_id);
    tx->extras_dirty = tx->visibility_dirty = true;
    return NULL;
}

const tn_fault *tn_machine_pause_activity(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__PauseActivityRequest *request)
{
    target which = {0};
    tn_activity **found;
    const tn_fault *fault = check_run(tx);
    size_t n;

    if (fault)
        return fault;
    if (request->activity_case ==
        TEMPORAL__API__WORKFLOWSERVICE__V1__PAUSE_ACTIVITY_REQUEST__ACTIVITY_ID)
        which.id = request->id;
    else
        which.type = request->type;
    n = find_all(tx, &which, &found);
    if (!n)
        return not_found(tx);
    /* All or none: one that is paused under another request stands against the whole. */
    for (size_t i = 0; i < n; i++)
        if (found[i]->pause &&
            !tn_str_eq(tn_str_from(found[i]->pause->request_id), tn_str_from(request->request_id)))
            return pause_one(tx, found[i], request);
    for (size_t i = 0; i < n; i++)
        (void)pause_one(tx, found[i], request);
    return NULL;
}

/* ---- unpause --------------------------------------------------------------------------------- */

static void unpause_one(tn_tx *tx, tn_activity *activity,
                        const Temporal__Api__Workflowservice__V1__UnpauseActivityRequest *request)
{
    if (!activity->pause)
        return;
    go_on(tx, activity);
    if (request->reset_attempts)
        activity->attempt = 1;
    if (request->reset_heartbeat)
        tn_activity_forget_heartbeats(tx->ms, activity);
    if (is_waiting(activity))
        offer_at(tx, activity, soon(tx, request->jitter));
}

const tn_fault *tn_machine_unpause_activity(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__UnpauseActivityRequest *request)
{
    target which = {0};
    tn_activity **found;
    const tn_fault *fault = check_run(tx);
    size_t n;

    if (fault)
        return fault;
    if (request->activity_case ==
        TEMPORAL__API__WORKFLOWSERVICE__V1__UNPAUSE_ACTIVITY_REQUEST__ACTIVITY_ID)
        which.id = request->id;
    else if (request->activity_case ==
             TEMPORAL__API__WORKFLOWSERVICE__V1__UNPAUSE_ACTIVITY_REQUEST__ACTIVITY_TYPE)
        which.type = request->type;
    n = find_all(tx, &which, &found);
    for (size_t i = 0; i < n; i++)
        unpause_one(tx, found[i], request);
    return n ? NULL : not_found(tx);
}

/* ---- reset ----------------------------------------------------------------------------------- */

static void reset_one(tn_tx *tx, tn_activity *activity,
                      const Temporal__Api__Workflowservice__V1__ResetActivityRequest *request)
{
    tn_ms *ms = tx->ms;

    activity->attempt = 1;
    activity->reset = true;
    if (request->reset_heartbeat)
        activity->reset_heartbeats = true;
    tx->extras_dirty = true;
    if (request->restore_original_options)
        tn_activity_restore_options(ms, activity);
    if (activity->pause && !request->keep_paused)
        go_on(tx, activity);
    if (activity->started_ns || activity->pause || !is_waiting(activity))
        return;
    if (request->reset_heartbeat)
        tn_activity_forget_heartbeats(ms, activity);
    offer_at(tx, activity, soon(tx, request->jitter));
}

const tn_fault *tn_machine_reset_activity(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__ResetActivityRequest *request)
{
    target which = {0};
    tn_activity **found;
    const tn_fault *fault = check_run(tx);
    size_t n;

    if (fault)
        return fault;
    if (request->activity_case ==
        TEMPORAL__API__WORKFLOWSERVICE__V1__RESET_ACTIVITY_REQUEST__ACTIVITY_ID)
        which.id = request->id;
    else if (request->activity_case ==
             TEMPORAL__API__WORKFLOWSERVICE__V1__RESET_ACTIVITY_REQUEST__ACTIVITY_TYPE)
        which.type = request->type;
    n = find_all(tx, &which, &found);
    for (size_t i = 0; i < n; i++)
        reset_one(tx, found[i], request);
    return n ? NULL : not_found(tx);
}

/* ---- options --------------------------------------------------------------------------------- */

typedef Temporal__Api__Workflowservice__V1__UpdateActivityOptionsRequest update_request;

/* When the attempt that waits is to go out, by the policy as it is now. */
static uint64_t next_ns(tn_tx *tx, const tn_activity *activity)
{
    int32_t state;
    uint64_t interval_ns;

    if (activity->attempt <= 1 || !activity->last_attempt_complete_ns || !activity->retry.present)
        return activity->attempt_scheduled_ns;
    interval_ns =
        tn_retry_activity_backoff_ns(&(tn_retry){.present = true,
                                                 .initial_ns = activity->retry.initial_ns,
                                                 .max_ns = activity->retry.max_ns,
                                                 .coefficient = activity->retry.coefficient},
                                     activity->attempt - 1, tx->now_ns, 0, NULL, &state);
    if (state != TN_RETRY_IN_PROGRESS || !interval_ns)
        return activity->attempt_scheduled_ns;
    return activity->last_attempt_complete_ns + interval_ns;
}

static const tn_fault *merge_one(tn_tx *tx, const tn_activity *activity,
                                 const update_request *request, tn_activity_options **out)
{
    const char *text;

    if (request->restore_original) {
        *out = tn_activity_options_scheduled(activity, tx->arena);
        return NULL;
    }
    *out = tn_activity_options_now(activity, tx->arena);
    text =
        tn_activity_options_merge(tx->arena, request->update_mask, request->activity_options, *out);
    if (!text)
        text = tn_activity_options_settle(tx->arena, activity, tx->ms->task_queue, 0,
                                          tx->env->limits->id_bytes_max, *out);
    return text ? tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, "%s", text) : NULL;
}

static void change_one(tn_tx *tx, tn_activity *activity, const update_request *request,
                       const tn_activity_options *options)
{
    if (request->restore_original)
        tn_activity_restore_options(tx->ms, activity);
    else
        tn_activity_set_options(tx->ms, activity, options);
    tx->extras_dirty = true;
    if (is_waiting(activity))
        offer_at(tx, activity, next_ns(tx, activity));
}

static const tn_fault *check_update(tn_tx *tx, const update_request *request)
{
    const char *text = NULL;

    if (request->restore_original && request->update_mask && request->update_mask->n_paths)
        text = "Both UpdateMask and RestoreOriginal are provided";
    else if (!request->restore_original && !request->activity_options)
        text = "ActivityOptions are not provided";
    return text ? tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, "%s", text) : check_run(tx);
}

const tn_fault *tn_machine_update_activity_options(tn_tx *tx, const update_request *request,
                                                   tn_activity_options **out)
{
    target which = {0};
    tn_activity **found;
    tn_activity_options **options;
    const tn_fault *fault = check_update(tx, request);
    size_t n;

    if (fault)
        return fault;
    if (request->activity_case ==
        TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_OPTIONS_REQUEST__ACTIVITY_ID)
        which.id = request->id;
    else if (request->activity_case ==
             TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_OPTIONS_REQUEST__ACTIVITY_TYPE)
        which.type = request->type;
    n = find_all(tx, &which, &found);
    if (!n)
        return not_found(tx);
    if (!request->restore_original && !request->update_mask)
        return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, "UpdateMask is not provided");
    options = tn_tx_alloc(tx, n * sizeof(*options));
    for (size_t i = 0; i < n && !fault; i++)
        fault = merge_one(tx, found[i], request, &options[i]);
    if (fault)
        return fault;
    for (size_t i = 0; i < n; i++)
        change_one(tx, found[i], request, options[i]);
    *out = options[n - 1];
    return NULL;
}
