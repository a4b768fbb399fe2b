/* SPDX-License-Identifier: MIT */
/* Calls to an activity of its own: start it once more, look at it, wait for it, ask it to end, and what operators do. */
#include "history/machine/solo.h"

#include <string.h>

#include "history/machine/parts.h"
#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__StartActivityExecutionRequest start_request;
typedef Temporal__Api__Workflowservice__V1__DescribeActivityExecutionRequest describe_request;
typedef Temporal__Api__Workflowservice__V1__RequestCancelActivityExecutionRequest cancel_request;
typedef Temporal__Api__Workflowservice__V1__TerminateActivityExecutionRequest terminate_request;

enum { REUSE_FAILED_ONLY = 2, REUSE_REJECT = 3, CONFLICT_USE_EXISTING = 2 };

static const char *const state_names[] = {[1] = "Running",  [2] = "Completed",  [3] = "Failed",
                                          [4] = "Canceled", [5] = "Terminated", [7] = "TimedOut"};

static const char *state_name(const tn_ms *ms)
{
    bool known = ms->status > 0 && (size_t)ms->status < TN_COUNT_OF(state_names);

    return known && state_names[ms->status] ? state_names[ms->status] : "Unspecified";
}

const tn_fault *tn_solo_over(tn_tx *tx)
{
    return tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION, "invalid transition from %s",
                         state_name(tx->ms));
}

static const tn_fault *refuse(tn_arena *arena, const char *text)
{
    return tn_fault_make(arena, TN_GRPC_FAILED_PRECONDITION, "%s", text);
}

static void changed(tn_tx *tx)
{
    tn_solo_of(tx->ms)->changes++;
    tx->extras_dirty = true;
}

/* ---- start ------------------------------------------------------------------------------------ */

ProtobufCMessage *tn_solo_started_response(const tn_ms *ms, const char *ns_name, bool started,
                                           tn_arena *arena)
{
    Temporal__Api__Workflowservice__V1__StartActivityExecutionResponse *out =
        TN_MSG(arena, temporal__api__workflowservice__v1__start_activity_execution_response);

    out->run_id = tn_arena_strdup(arena, ms->run_id_text);
    out->started = started;
    out->link = TN_MSG(arena, temporal__api__common__v1__link);
    out->link->variant_case = TEMPORAL__API__COMMON__V1__LINK__VARIANT_ACTIVITY;
    out->link->activity = TN_MSG(arena, temporal__api__common__v1__link__activity);
    out->link->activity->namespace_ = tn_arena_strdup(arena, ns_name);
    out->link->activity->activity_id = tn_arena_strdup(arena, tn_solo_activity(ms)->activity_id);
    out->link->activity->run_id = out->run_id;
    return &out->base;
}

static bool knows_request(const tn_ms *ms, const char *request_id)
{
    const tn_solo *solo = tn_solo_of(ms);

    if (!*request_id)
        return false;
    if (ms->create_request_id && strcmp(ms->create_request_id, request_id) == 0)
        return true;
    for (size_t i = 0; i < solo->n_attached_request_ids; i++)
        if (strcmp(solo->attached_request_ids[i], request_id) == 0)
            return true;
    return false;
}

static const tn_fault *already_started(const tn_ms *there, tn_arena *arena)
{
    Temporal__Api__Errordetails__V1__ActivityExecutionAlreadyStartedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__ACTIVITY_EXECUTION_ALREADY_STARTED_FAILURE__INIT;

    detail.start_request_id =
        (char *)(uintptr_t)(there->create_request_id ? there->create_request_id : "");
    detail.run_id = (char *)(uintptr_t)there->run_id_text;
    return tn_fault_detailed(arena, TN_GRPC_ALREADY_EXISTS, &detail.base,
                             "activity execution already started");
}

static bool attaches(const start_request *r)
{
    return r->on_conflict_options && r->on_conflict_options->attach_links && r->n_links;
}

tn_object_meet tn_solo_meets(const tn_ms *there, const ProtobufCMessage *request,
                             tn_object_reply *reply, const tn_fault **out_fault)
{
    const start_request *r = (const start_request *)request;
    int reuse = (int)r->id_reuse_policy;

    *out_fault = NULL;
    if (knows_request(there, r->request_id)) {
        reply->response = tn_solo_started_response(there, r->namespace_, false, reply->arena);
        return TN_OBJECT_ANSWER;
    }
    if (tn_ms_running(there)) {
        if ((int)r->id_conflict_policy != CONFLICT_USE_EXISTING) {
            *out_fault = already_started(there, reply->arena);
            return TN_OBJECT_ANSWER;
        }
        if (attaches(r))
            return TN_OBJECT_CALL;
        reply->response = tn_solo_started_response(there, r->namespace_, false, reply->arena);
        return TN_OBJECT_ANSWER;
    }
    if (reuse == REUSE_REJECT || (reuse == REUSE_FAILED_ONLY && there->status == 2)) {
        *out_fault = already_started(there, reply->arena);
        return TN_OBJECT_ANSWER;
    }
    return TN_OBJECT_CREATE;
}

#define LINKS_MAX 100u

/* One that runs already is given what this start brings. */
static const tn_fault *attach(tn_tx *tx, const start_request *r, tn_object_reply *reply)
{
    tn_ms *ms = tx->ms;
    tn_solo *solo = tn_solo_of(ms);
    char **grown;

    if (solo->n_attached_links + r->n_links > LINKS_MAX)
        return tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                             "cannot attach more than %u links to an activity (%zu links already "
                             "attached)",
                             LINKS_MAX, solo->n_attached_links);
    for (size_t i = 0; i < r->n_links; i++)
        tn_solo_attach_link(ms, tn_msg_pack(tx->arena, r->links[i]));
    grown = tn_ms_alloc(ms, (solo->n_attached_request_ids + 2) * sizeof(*grown));
    if (solo->n_attached_request_ids)
        memcpy(grown, solo->attached_request_ids, solo->n_attached_request_ids * sizeof(*grown));
    tn_ms_free(ms, solo->attached_request_ids);
    solo->attached_request_ids = grown;
    grown[solo->n_attached_request_ids++] = tn_ms_strdup(ms, tn_str_from(r->request_id));
    changed(tx);
    reply->response = tn_solo_started_response(ms, r->namespace_, false, tx->arena);
    return NULL;
}

/* ---- look and wait ---------------------------------------------------------------------------- */

static const tn_fault *describe(tn_tx *tx, const describe_request *r, tn_object_reply *reply)
{
    Tenon__SoloActivityWatch *watch;
    tn_blob token = {r->long_poll_token.data, r->long_poll_token.len};

    if (token.n) {
        if (TN_PROTO_UNPACK(tenon__solo_activity_watch, token, tx->arena, &watch, NULL) != TN_OK)
            return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, "invalid long poll token");
        if (strcmp(watch->run_id, tx->ms->run_id_text) != 0)
            return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT,
                                 "long poll token does not match execution");
        if (watch->changes == tn_solo_of(tx->ms)->changes && reply->waited) { /* ask again */
            reply->response = tn_msg_new(
                tx->arena,
                &temporal__api__workflowservice__v1__describe_activity_execution_response__descriptor);
            return NULL;
        }
        if (watch->changes == tn_solo_of(tx->ms)->changes) {
            reply->park = true;
            return NULL;
        }
    }
    reply->response = tn_solo_describe(tx, r, tx->arena);
    return NULL;
}

static const tn_fault *poll(tn_tx *tx, tn_object_reply *reply)
{
    Temporal__Api__Workflowservice__V1__PollActivityExecutionResponse *out =
        TN_MSG(tx->arena, temporal__api__workflowservice__v1__poll_activity_execution_response);

    reply->park = tn_ms_running(tx->ms) && !reply->waited;
    if (!tn_ms_running(tx->ms)) {
        out->run_id = tx->ms->run_id_text;
        out->outcome = tn_solo_outcome(tx->ms, tx->arena);
    }
    reply->response = &out->base;
    return NULL;
}

/* ---- ends ------------------------------------------------------------------------------------- */

/* A text as a payload: JSON, with what needs it escaped. */
static Temporal__Api__Common__V1__Payloads *payloads_of(tn_tx *tx, const char *text)
{
    Temporal__Api__Common__V1__Payloads *out = tn_payloads_of_text(tx->arena, TN_STR(""));
    tn_buf json = {0};
    tn_blob kept;

    tn_buf_put_u8(&json, '"');
    tn_put_json_text(&json, text);
    tn_buf_put_u8(&json, '"');
    kept = tn_arena_blob(tx->arena, tn_buf_blob(&json));
    tn_buf_done(&json);
    out->payloads[0]->data = (ProtobufCBinaryData){kept.n, (uint8_t *)(uintptr_t)kept.p};
    return out;
}

static const tn_fault *request_cancel(tn_tx *tx, const cancel_request *r)
{
    tn_ms *ms = tx->ms;
    tn_solo *solo = tn_solo_of(ms);
    tn_activity *activity = tn_solo_activity(ms);

    if (solo->cancel && *r->request_id && solo->cancel->request_id &&
        strcmp(solo->cancel->request_id, r->request_id) == 0)
        return NULL;
    if (!tn_ms_running(ms))
        return tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                             "activity is in terminal state %s", state_name(ms));
    if (solo->cancel)
        return tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                             "cancellation already requested with request ID %s",
                             solo->cancel->request_id ? solo->cancel->request_id : "");
    tn_pause_set(ms, &solo->cancel, tx->now_ns, r->identity, r->reason, r->request_id);
    activity->cancel_requested_id = TN_SOLO_SCHEDULED_ID;
    activity->reset = activity->reset_heartbeats = false; /* the end comes first */
    if (activity->started_ns)
        changed(tx);
    else /* no worker has to agree */
        tn_solo_canceled(tx, payloads_of(tx, r->reason));
    return NULL;
}

static const tn_fault *terminate(tn_tx *tx, const terminate_request *r)
{
    tn_ms *ms = tx->ms;
    tn_solo *solo = tn_solo_of(ms);
    Temporal__Api__Failure__V1__Failure *failure;
    Temporal__Api__Activity__V1__ActivityExecutionOutcome *outcome;

    if (ms->status == 5)
        return tn_str_eq(tn_str_from(solo->terminate_request_id), tn_str_from(r->request_id))
                   ? NULL
                   : tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                                   "already terminated with request ID %s",
                                   solo->terminate_request_id ? solo->terminate_request_id : "");
    if (!tn_ms_running(ms))
        return tn_solo_over(tx);
    failure = TN_MSG(tx->arena, temporal__api__failure__v1__failure);
    failure->message = r->reason;
    failure->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TERMINATED_FAILURE_INFO;
    failure->terminated_failure_info =
        TN_MSG(tx->arena, temporal__api__failure__v1__terminated_failure_info);
    failure->terminated_failure_info->identity = r->identity;
    outcome = TN_MSG(tx->arena, temporal__api__activity__v1__activity_execution_outcome);
    outcome->value_case = TEMPORAL__API__ACTIVITY__V1__ACTIVITY_EXECUTION_OUTCOME__VALUE_FAILURE;
    outcome->failure = failure;
    tn_ms_replace_blob(ms, &solo->outcome, tn_msg_pack(tx->arena, outcome));
    tn_ms_replace_str(ms, &solo->terminate_request_id, tn_str_from(r->request_id));
    changed(tx);
    tn_object_close(tx, 5, tx->env->retention_ns);
    return NULL;
}

/* ---- operators -------------------------------------------------------------------------------- */

static const tn_fault *open_only(tn_tx *tx)
{
    return tn_ms_running(tx->ms)
               ? NULL
               : tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                               "activity is in terminal state %s", state_name(tx->ms));
}

static const tn_fault *pause_it(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__PauseActivityExecutionRequest *r)
{
    Temporal__Api__Workflowservice__V1__PauseActivityRequest as =
        TEMPORAL__API__WORKFLOWSERVICE__V1__PAUSE_ACTIVITY_REQUEST__INIT;
    const tn_fault *fault = open_only(tx);

    if (fault)
        return fault;
    if (tn_solo_of(tx->ms)->cancel)
        return refuse(tx->arena, "activity is in non-pausable state CancelRequested");
    as.activity_case = TEMPORAL__API__WORKFLOWSERVICE__V1__PAUSE_ACTIVITY_REQUEST__ACTIVITY_ID;
    as.id = r->activity_id;
    as.identity = r->identity;
    as.reason = r->reason;
    as.request_id = r->request_id;
    fault = tn_machine_pause_activity(tx, &as);
    if (!fault)
        changed(tx);
    return fault;
}

static const tn_fault *unpause_it(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__UnpauseActivityExecutionRequest *r)
{
    Temporal__Api__Workflowservice__V1__UnpauseActivityRequest as =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UNPAUSE_ACTIVITY_REQUEST__INIT;
    tn_activity *activity = tn_solo_activity(tx->ms);
    uint64_t planned_ns = activity->last_attempt_complete_ns + activity->retry_interval_ns;
    const tn_fault *fault = open_only(tx);

    if (fault)
        return fault;
    if (!activity->pause)
        return refuse(tx->arena, "activity is in non-unpausable state");
    as.activity_case = TEMPORAL__API__WORKFLOWSERVICE__V1__UNPAUSE_ACTIVITY_REQUEST__ACTIVITY_ID;
    as.id = r->activity_id;
    as.jitter = r->jitter;
    fault = tn_machine_unpause_activity(tx, &as);
    if (fault)
        return fault;
    /* A start delay and a retry's pause go on. */
    if (!tn_solo_of(tx->ms)->begun &&
        activity->attempt_scheduled_ns < tn_solo_of(tx->ms)->dispatch_ns)
        activity->attempt_scheduled_ns = tn_solo_of(tx->ms)->dispatch_ns;
    if (!activity->started_ns && activity->last_attempt_complete_ns &&
        activity->attempt_scheduled_ns < planned_ns)
        activity->attempt_scheduled_ns = planned_ns;
    changed(tx);
    return NULL;
}

static const tn_fault *reset_it(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__ResetActivityExecutionRequest *r)
{
    Temporal__Api__Workflowservice__V1__ResetActivityRequest as =
        TEMPORAL__API__WORKFLOWSERVICE__V1__RESET_ACTIVITY_REQUEST__INIT;
    tn_activity *activity = tn_solo_activity(tx->ms);
    const tn_fault *fault;

    if (!tn_ms_running(tx->ms))
        return refuse(tx->arena, "activity execution is not running");
    if (tn_solo_of(tx->ms)->cancel)
        return refuse(tx->arena, "cannot reset an activity with a pending cancellation");
    if (activity->reset && activity->started_ns)
        return refuse(tx->arena, "cannot reset an activity with a pending reset");
    as.activity_case = TEMPORAL__API__WORKFLOWSERVICE__V1__RESET_ACTIVITY_REQUEST__ACTIVITY_ID;
    as.id = r->activity_id;
    as.reset_heartbeat = r->reset_heartbeat;
    as.keep_paused = r->keep_paused;
    as.restore_original_options = r->restore_original_options;
    as.jitter = r->jitter;
    fault = tn_machine_reset_activity(tx, &as);
    if (fault)
        return fault;
    activity->retry_interval_ns = 0;
    if (!tn_solo_of(tx->ms)->begun &&
        activity->attempt_scheduled_ns < tn_solo_of(tx->ms)->dispatch_ns)
        activity->attempt_scheduled_ns = tn_solo_of(tx->ms)->dispatch_ns;
    changed(tx);
    return NULL;
}

/* The start delay counts until some worker has had it, or would have: dispatch_ns and what follows from it. */
static void set_dispatch(tn_tx *tx, uint64_t delay_ns)
{
    tn_solo *solo = tn_solo_of(tx->ms);
    tn_activity *activity = tn_solo_activity(tx->ms);

    solo->dispatch_ns = tx->ms->start_ns + delay_ns;
    activity->first_scheduled_ns = solo->dispatch_ns;
    activity->attempt_scheduled_ns =
        solo->dispatch_ns > tx->now_ns ? solo->dispatch_ns : tx->now_ns;
    if (activity->expire_ns)
        activity->expire_ns = solo->dispatch_ns + activity->schedule_to_close_ns;
    activity->dispatched = false;
}

static const tn_fault *check_delay(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__UpdateActivityExecutionOptionsRequest *r)
{
    const tn_solo *solo = tn_solo_of(tx->ms);
    const char *text = r->activity_options && r->activity_options->start_delay
                           ? tn_duration_settle(r->activity_options->start_delay)
                           : NULL;

    if (text)
        return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, "invalid StartDelay: %s", text);
    if (solo->begun || (solo->dispatch_ns <= tx->now_ns && !tn_solo_activity(tx->ms)->pause))
        return refuse(tx->arena,
                      "cannot update start_delay: the first activity attempt has already "
                      "been dispatched");
    return NULL;
}

static const tn_fault *update_it(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__UpdateActivityExecutionOptionsRequest *r,
    tn_object_reply *reply)
{
    Temporal__Api__Workflowservice__V1__UpdateActivityOptionsRequest as =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_OPTIONS_REQUEST__INIT;
    Temporal__Api__Workflowservice__V1__UpdateActivityExecutionOptionsResponse *out = TN_MSG(
        tx->arena, temporal__api__workflowservice__v1__update_activity_execution_options_response);
    bool delayed = tn_mask_has(r->update_mask, "start_delay");
    const tn_fault *fault;

    if (!tn_ms_running(tx->ms) || tn_solo_of(tx->ms)->cancel)
        return tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                             "Cannot update options for activity in state %s",
                             tn_ms_running(tx->ms) ? "CancelRequested" : state_name(tx->ms));
    as.activity_case =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_OPTIONS_REQUEST__ACTIVITY_ID;
    as.id = r->activity_id;
    as.activity_options = r->activity_options;
    as.update_mask = r->update_mask;
    as.restore_original = r->restore_original;
    fault = delayed ? check_delay(tx, r) : NULL;
    if (!fault)
        fault = tn_machine_update_activity_options(tx, &as, &out->activity_options);
    if (fault)
        return fault;
    if (delayed)
        set_dispatch(tx, tn_duration_ns(r->activity_options->start_delay));
    else if (r->restore_original && !tn_solo_of(tx->ms)->begun)
        set_dispatch(tx, tn_duration_ns(tn_solo_request(tx->ms, tx->arena)->start_delay));
    out->activity_options->start_delay = tn_duration_from_ns(
        tx->arena, (int64_t)(tn_solo_of(tx->ms)->dispatch_ns - tx->ms->start_ns));
    changed(tx);
    tx->visibility_dirty = true; /* the task queue is listed */
    reply->response = &out->base;
    return NULL;
}

/* ---- all -------------------------------------------------------------------------------------- */

const tn_fault *tn_solo_call(tn_tx *tx, const ProtobufCMessage *request, tn_object_reply *reply)
{
#define IS(name) \
    (request->descriptor == &temporal__api__workflowservice__v1__##name##_request__descriptor)
    if (IS(start_activity_execution))
        return attach(tx, (const void *)request, reply);
    if (IS(describe_activity_execution))
        return describe(tx, (const void *)request, reply);
    if (IS(poll_activity_execution))
        return poll(tx, reply);
    if (IS(request_cancel_activity_execution))
        return request_cancel(tx, (const void *)request);
    if (IS(terminate_activity_execution))
        return terminate(tx, (const void *)request);
    if (IS(pause_activity_execution))
        return pause_it(tx, (const void *)request);
    if (IS(unpause_activity_execution))
        return unpause_it(tx, (const void *)request);
    if (IS(reset_activity_execution))
        return reset_it(tx, (const void *)request);
    if (IS(update_activity_execution_options))
        return update_it(tx, (const void *)request, reply);
#undef IS
    return tn_fault_make(tx->arena, TN_GRPC_UNIMPLEMENTED, "this host does not know the operation");
}
