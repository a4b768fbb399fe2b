/* SPDX-License-Identifier: MIT */
/* Activities of their own: how one is made and kept, and how it ends. */
#include "history/machine/solo.h"

#include <string.h>

#include "history/machine/command.h"
#include "history/machine/parts.h"
#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__StartActivityExecutionRequest start_request;
typedef Temporal__Api__History__V1__ActivityTaskScheduledEventAttributes scheduled_attrs;
typedef Temporal__Api__Activity__V1__ActivityExecutionOutcome outcome_msg;
typedef Temporal__Api__Failure__V1__Failure failure_msg;

enum { COMPLETED = 2, FAILED = 3, CANCELED = 4, TERMINATED = 5, TIMED_OUT = 7 };

static tn_blob blob_of(ProtobufCBinaryData b) { return (tn_blob){b.data, b.len}; }

static ProtobufCBinaryData bytes_of(tn_blob b)
{
    return (ProtobufCBinaryData){b.n, (uint8_t *)(uintptr_t)b.p};
}

static char *text_of(const char *s) { return (char *)(uintptr_t)(s ? s : ""); }

tn_activity *tn_solo_activity(const tn_ms *ms)
{
    tn_list *link = tn_list_first(&ms->activities);

    TN_ASSERT(link);
    return TN_CONTAINER_OF(link, tn_activity, link);
}

const tn_fault *tn_solo_not_found(tn_arena *arena, tn_str id)
{
    Temporal__Api__Errordetails__V1__NotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;

    return tn_fault_detailed(arena, TN_GRPC_NOT_FOUND, &detail.base,
                             "activity not found for ID: " TN_STR_FMT, TN_STR_ARG(id));
}

static const tn_fault *not_found(tn_arena *arena, tn_str id, tn_str run_id)
{
    (void)run_id;
    return tn_solo_not_found(arena, id);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void clear(tn_ms *ms, tn_solo *solo)
{
    tn_ms_free_blob(ms, &solo->request);
    tn_ms_free_blob(ms, &solo->outcome);
    tn_pause_clear(ms, &solo->cancel);
    tn_ms_free(ms, solo->terminate_request_id);
    for (size_t i = 0; i < solo->n_attached_request_ids; i++)
        tn_ms_free(ms, solo->attached_request_ids[i]);
    for (size_t i = 0; i < solo->n_attached_links; i++)
        tn_ms_free_blob(ms, &solo->attached_links[i]);
    tn_ms_free(ms, solo->attached_request_ids);
    tn_ms_free(ms, solo->attached_links);
    *solo = (tn_solo){0};
}

static void destroy(tn_ms *ms)
{
    tn_solo *solo = ms->object;

    if (!solo)
        return;
    clear(ms, solo);
    tn_ms_free(ms, solo);
    ms->object = NULL;
}

void tn_solo_attach_link(tn_ms *ms, tn_blob packed)
{
    tn_solo *solo = tn_solo_of(ms);
    tn_blob *grown = tn_ms_alloc(ms, (solo->n_attached_links + 1) * sizeof(*grown));

    if (solo->n_attached_links)
        memcpy(grown, solo->attached_links, solo->n_attached_links * sizeof(*grown));
    tn_ms_free(ms, solo->attached_links);
    solo->attached_links = grown;
    grown[solo->n_attached_links++] = tn_ms_blobdup(ms, packed);
}

/* ---- in and out of the store ------------------------------------------------------------------ */

static tn_blob save(const tn_ms *ms, tn_arena *arena)
{
    const tn_solo *solo = tn_solo_of(ms);
    const tn_activity *activity = tn_solo_activity(ms);
    Tenon__SoloActivity *to = TN_MSG(arena, tenon__solo_activity);

    to->activity = tn_activity_save(activity, arena);
    to->attempt = tn_activity_save_extras(activity, arena);
    to->dispatch_ns = solo->dispatch_ns;
    to->request = bytes_of(solo->request);
    to->outcome = bytes_of(solo->outcome);
    to->changes = solo->changes;
    to->heartbeats = solo->heartbeats;
    to->last_started_ns = solo->last_started_ns;
    to->cancel = tn_pause_save(solo->cancel, arena);
    to->terminate_request_id = text_of(solo->terminate_request_id);
    to->attached_request_ids = solo->attached_request_ids;
    to->n_attached_request_ids = solo->n_attached_request_ids;
    to->attached_links = TN_NEW_ARRAY(arena, ProtobufCBinaryData, solo->n_attached_links + 1);
    for (size_t i = 0; i < solo->n_attached_links; i++)
        to->attached_links[to->n_attached_links++] = bytes_of(solo->attached_links[i]);
    to->begun = solo->begun;
    return tn_msg_pack(arena, to);
}

/* The start delay counts for the total time-out and for the first attempt. */
static void delay(tn_activity *activity, uint64_t dispatch_ns)
{
    activity->first_scheduled_ns = dispatch_ns;
    activity->attempt_scheduled_ns = dispatch_ns;
    if (activity->retry.present && activity->schedule_to_close_ns)
        activity->expire_ns = dispatch_ns + activity->schedule_to_close_ns;
}

static tn_status load_activity(tn_ms *ms, const Tenon__SoloActivity *from, tn_error *err)
{
    const Tenon__ActivityExtras *attempt = from->attempt;
    tn_status status;

    while (!tn_list_empty(&ms->activities))
        tn_activity_destroy(ms, tn_solo_activity(ms));
    if (!from->activity || from->activity->scheduled_id != TN_SOLO_SCHEDULED_ID)
        return tn_error_set(err, TN_EDATALOSS, "an activity of its own is kept without itself");
    status = tn_activity_load(ms, from->activity, err);
    if (status != TN_OK)
        return status;
    delay(tn_solo_activity(ms), from->dispatch_ns);
    if (attempt)
        tn_activity_load_extras(ms, &attempt, 1);
    return TN_OK;
}

static tn_status load(tn_ms *ms, tn_blob packed, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__SoloActivity *from;
    tn_status status = TN_PROTO_UNPACK(tenon__solo_activity, packed, arena, &from, err);
    tn_solo *solo = ms->object;

    if (status == TN_OK)
        status = load_activity(ms, from, err);
    if (status != TN_OK) {
        tn_arena_destroy(arena);
        return TN_EDATALOSS;
    }
    if (!solo)
        ms->object = solo = tn_ms_alloc(ms, sizeof(*solo));
    clear(ms, solo);
    solo->dispatch_ns = from->dispatch_ns;
    solo->request = tn_ms_blobdup(ms, blob_of(from->request));
    solo->outcome = tn_ms_blobdup(ms, blob_of(from->outcome));
    solo->changes = from->changes;
    solo->heartbeats = from->heartbeats;
    solo->last_started_ns = from->last_started_ns;
    if (from->cancel)
        tn_pause_set(ms, &solo->cancel, from->cancel->since_ns, from->cancel->identity,
                     from->cancel->reason, from->cancel->request_id);
    tn_ms_replace_str(ms, &solo->terminate_request_id, tn_str_from(from->terminate_request_id));
    solo->attached_request_ids =
        tn_ms_alloc(ms, (from->n_attached_request_ids + 1) * sizeof(solo->attached_request_ids[0]));
    for (size_t i = 0; i < from->n_attached_request_ids; i++)
        solo->attached_request_ids[solo->n_attached_request_ids++] =
            tn_ms_strdup(ms, tn_str_from(from->attached_request_ids[i]));
    for (size_t i = 0; i < from->n_attached_links; i++)
        tn_solo_attach_link(ms, blob_of(from->attached_links[i]));
    solo->begun = from->begun;
    tn_arena_destroy(arena);
    return TN_OK;
}

/* ---- checks ----------------------------------------------------------------------------------- */

static const char *settle_names(tn_arena *arena, int64_t id_bytes_max, start_request *r)
{
    const char *text = tn_task_queue_settle(arena, r->task_queue, "", "", id_bytes_max);

    if (text)
        return text;
    if (!*r->activity_id)
        return "activityId is not set";
    if (!r->activity_type || !*r->activity_type->name)
        return "activityType is not set";
    if (!r->retry_policy)
        r->retry_policy = TN_MSG(arena, temporal__api__common__v1__retry_policy);
    if ((text = tn_retry_policy_settle(arena, r->retry_policy)))
        return text;
    if ((int64_t)strlen(r->activity_id) > id_bytes_max)
        return tn_arena_printf(arena, "activityId exceeds length limit. Length=%zu Limit=%lld",
                               strlen(r->activity_id), (long long)id_bytes_max);
    if ((int64_t)strlen(r->activity_type->name) > id_bytes_max)
        return tn_arena_printf(arena, "activityType exceeds length limit. Length=%zu Limit=%lld",
                               strlen(r->activity_type->name), (long long)id_bytes_max);
    if ((text = tn_priority_check(r->priority)))
        return tn_arena_printf(arena, "invalid priorities: %s", text);
    return NULL;
}

const char *tn_activity_start_settle(tn_arena *arena, int64_t id_bytes_max, start_request *r)
{
    tn_schedule_activity attrs =
        TEMPORAL__API__COMMAND__V1__SCHEDULE_ACTIVITY_TASK_COMMAND_ATTRIBUTES__INIT;
    const char *text = r->start_delay ? tn_duration_settle(r->start_delay) : NULL;

    if (text)
        return tn_arena_printf(arena, "invalid StartDelay: %s", text);
    if ((text = settle_names(arena, id_bytes_max, r)))
        return text;
    attrs.activity_id = r->activity_id;
    attrs.activity_type = r->activity_type;
    attrs.schedule_to_close_timeout = r->schedule_to_close_timeout;
    attrs.schedule_to_start_timeout = r->schedule_to_start_timeout;
    attrs.start_to_close_timeout = r->start_to_close_timeout;
    attrs.heartbeat_timeout = r->heartbeat_timeout;
    if ((text = tn_activity_timeouts_settle(arena, 0, &attrs)))
        return text;
    r->schedule_to_close_timeout = attrs.schedule_to_close_timeout;
    r->schedule_to_start_timeout = attrs.schedule_to_start_timeout;
    r->start_to_close_timeout = attrs.start_to_close_timeout;
    r->heartbeat_timeout = attrs.heartbeat_timeout;
    return NULL;
}

/* ---- create ---------------------------------------------------------------------------------- */

static bool creates(const ProtobufCMessage *request)
{
    return request->descriptor ==
           &temporal__api__workflowservice__v1__start_activity_execution_request__descriptor;
}

static tn_blob pack_attrs(tn_tx *tx, const start_request *r)
{
    scheduled_attrs *attrs =
        TN_MSG(tx->arena, temporal__api__history__v1__activity_task_scheduled_event_attributes);

    attrs->activity_id = r->activity_id;
    attrs->activity_type = r->activity_type;
    attrs->task_queue = r->task_queue;
    attrs->header = r->header;
    attrs->input = r->input;
    attrs->schedule_to_close_timeout = r->schedule_to_close_timeout;
    attrs->schedule_to_start_timeout = r->schedule_to_start_timeout;
    attrs->start_to_close_timeout = r->start_to_close_timeout;
    attrs->heartbeat_timeout = r->heartbeat_timeout;
    attrs->retry_policy = r->retry_policy;
    attrs->priority = r->priority;
    return tn_msg_pack(tx->arena, attrs);
}

/* What the attributes do not have. */
static tn_blob pack_rest(tn_tx *tx, const start_request *r)
{
    start_request rest = TEMPORAL__API__WORKFLOWSERVICE__V1__START_ACTIVITY_EXECUTION_REQUEST__INIT;

    rest.identity = r->identity;
    rest.request_id = r->request_id;
    rest.user_metadata = r->user_metadata;
    rest.links = r->links;
    rest.n_links = r->n_links;
    rest.start_delay = r->start_delay;
    return tn_msg_pack(tx->arena, &rest);
}

static const tn_fault *create(tn_tx *tx, const ProtobufCMessage *request, tn_object_reply *reply)
{
    const start_request *r = (const start_request *)request;
    Tenon__ActivityState *state = TN_MSG(tx->arena, tenon__activity_state);
    tn_ms *ms = tx->ms;
    tn_error err = {0};
    tn_solo *solo;

    tn_object_begin(tx, &tn_solo_kind,
                    &(tn_object_start){
                        .type = r->activity_type->name,
                        .task_queue = r->task_queue->name,
                        .identity = r->identity,
                        .request_id = r->request_id,
                        .attributes = r->search_attributes,
                    });
    ms->object = solo = tn_ms_alloc(ms, sizeof(*solo));
    state->scheduled_id = TN_SOLO_SCHEDULED_ID;
    state->scheduled_ns = ms->start_ns;
    state->attributes = bytes_of(pack_attrs(tx, r));
    TN_ASSERT(tn_activity_load(ms, state, &err) == TN_OK); /* our own message */
    solo->dispatch_ns = ms->start_ns + tn_duration_ns(r->start_delay);
    delay(tn_solo_activity(ms), solo->dispatch_ns);
    solo->request = tn_ms_blobdup(ms, pack_rest(tx, r));
    solo->changes = 1;
    reply->response = tn_solo_started_response(ms, r->namespace_, true, tx->arena);
    return NULL;
}

/* ---- ends ------------------------------------------------------------------------------------- */

static void end(tn_tx *tx, int32_t status, const outcome_msg *outcome)
{
    tn_solo *solo = tn_solo_of(tx->ms);

    tn_ms_replace_blob(tx->ms, &solo->outcome, tn_msg_pack(tx->arena, outcome));
    solo->changes++;
    tn_object_close(tx, status, tx->env->retention_ns);
}

static void end_with_failure(tn_tx *tx, int32_t status, const failure_msg *failure,
                             int32_t retry_state)
{
    outcome_msg *outcome =
        TN_MSG(tx->arena, temporal__api__activity__v1__activity_execution_outcome);

    outcome->value_case = TEMPORAL__API__ACTIVITY__V1__ACTIVITY_EXECUTION_OUTCOME__VALUE_FAILURE;
    outcome->failure = (failure_msg *)(uintptr_t)failure;
    outcome->retry_state = (Temporal__Api__Enums__V1__RetryState)retry_state;
    end(tx, status, outcome);
}

static void end_attempt(tn_tx *tx, tn_activity *activity, const char *identity)
{
    activity->last_attempt_complete_ns = tx->now_ns;
    if (identity)
        tn_ms_replace_str(tx->ms, &activity->identity, tn_str_from(identity));
}

void tn_solo_completed(tn_tx *tx, tn_activity *activity,
                       const Temporal__Api__Common__V1__Payloads *result, const char *identity)
{
    outcome_msg *outcome =
        TN_MSG(tx->arena, temporal__api__activity__v1__activity_execution_outcome);
    tn_solo *solo = tn_solo_of(tx->ms);

    if (activity->started_ns) /* completed by its id before any worker has seen it: just now */
        solo->last_started_ns = activity->started_ns;
    outcome->value_case = TEMPORAL__API__ACTIVITY__V1__ACTIVITY_EXECUTION_OUTCOME__VALUE_RESULT;
    outcome->result = result ? (Temporal__Api__Common__V1__Payloads *)(uintptr_t)result
                             : TN_MSG(tx->arena, temporal__api__common__v1__payloads);
    end_attempt(tx, activity, identity);
    end(tx, COMPLETED, outcome);
}

void tn_solo_failed(tn_tx *tx, tn_activity *activity, const failure_msg *failure,
                    int32_t retry_state, const char *identity)
{
    failure_msg *none;

    if (!failure) { /* or a client could not tell it from one that has no outcome yet */
        none = TN_MSG(tx->arena, temporal__api__failure__v1__failure);
        none->message = (char *)(uintptr_t) "activity task failed without failure details";
        failure = none;
    }
    tn_ms_replace_blob(tx->ms, &activity->last_failure, tn_msg_pack(tx->arena, failure));
    end_attempt(tx, activity, identity);
    end_with_failure(tx, FAILED, failure, retry_state);
}

void tn_solo_timed_out(tn_tx *tx, tn_activity *activity, const failure_msg *failure,
                       int32_t retry_state, bool ends_attempt)
{
    if (ends_attempt) {
        tn_ms_replace_blob(tx->ms, &activity->last_failure, tn_msg_pack(tx->arena, failure));
        end_attempt(tx, activity, NULL);
    }
    end_with_failure(tx, TIMED_OUT, failure, retry_state);
}

void tn_solo_canceled(tn_tx *tx, const Temporal__Api__Common__V1__Payloads *details)
{
    const tn_solo *solo = tn_solo_of(tx->ms);
    failure_msg *failure = TN_MSG(tx->arena, temporal__api__failure__v1__failure);

    failure->message = (char *)(uintptr_t) "Activity canceled";
    failure->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_CANCELED_FAILURE_INFO;
    failure->canceled_failure_info =
        TN_MSG(tx->arena, temporal__api__failure__v1__canceled_failure_info);
    failure->canceled_failure_info->details =
        (Temporal__Api__Common__V1__Payloads *)(uintptr_t)details;
    if (solo->cancel)
        failure->canceled_failure_info->identity = text_of(solo->cancel->identity);
    end_with_failure(tx, CANCELED, failure, 0);
}

/* It is to be deleted. */
static void terminate(tn_tx *tx)
{
    failure_msg *failure = TN_MSG(tx->arena, temporal__api__failure__v1__failure);

    failure->message = (char *)(uintptr_t) "Delete activity execution";
    failure->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TERMINATED_FAILURE_INFO;
    failure->terminated_failure_info =
        TN_MSG(tx->arena, temporal__api__failure__v1__terminated_failure_info);
    end_with_failure(tx, TERMINATED, failure, 0);
}

/* ---- on the way ------------------------------------------------------------------------------- */

void tn_solo_started(tn_tx *tx, tn_activity *activity)
{
    tn_solo *solo = tn_solo_of(tx->ms);

    solo->begun = true;
    solo->last_started_ns = activity->started_ns;
    solo->changes++;
}

void tn_solo_beaten(tn_ms *ms)
{
    tn_solo_of(ms)->heartbeats++;
    tn_solo_of(ms)->changes++;
}

void tn_solo_waits_again(tn_tx *tx, const tn_activity *activity)
{
    tn_solo_of(tx->ms)->changes++;
    if (activity->pause)
        tx->visibility_dirty = true; /* only now nobody works on it */
}

/* ---- the kind --------------------------------------------------------------------------------- */

static uint64_t deadline_ns(const tn_ms *ms)
{
    (void)ms;
    return UINT64_MAX; /* the activity's own count */
}

static void fire(tn_tx *tx) { (void)tn_fire_activities(tx); }

static void listing(const tn_ms *ms, tn_arena *arena, tn_object_listing *inout)
{
    const tn_activity *activity = tn_solo_activity(ms);

    inout->task_queue = tn_arena_str(arena, tn_str_from(activity->task_queue));
    inout->execution_ns = tn_solo_of(ms)->dispatch_ns;
    inout->transitions = (int64_t)tn_solo_of(ms)->changes;
    if (tn_ms_running(ms) && activity->pause && !activity->started_ns)
        inout->status = TN_STATUS_PAUSED;
}

const tn_object_kind tn_solo_kind = {
    .letter = TN_SOLO_LETTER,
    .division = TN_SOLO_DIVISION,
    .load = load,
    .save = save,
    .destroy = destroy,
    .creates = creates,
    .meets = tn_solo_meets,
    .create = create,
    .call = tn_solo_call,
    .not_found = not_found,
    .deadline_ns = deadline_ns,
    .fire = fire,
    .listing = listing,
    .terminate = terminate,
};
