/* SPDX-License-Identifier: MIT */
/* Updates of a run: taken in, carried to a worker by a workflow task, and ended.  What is not yet
 * accepted is in memory alone: its caller asks again when the memory is lost.  From its acceptance
 * on an update is a fold of the history, and its outcome is read from there.
 *
 * An update for which no workflow task is on its way gets a speculative one.  Nothing of that task
 * is written as long as nothing else is: when all that it carried is rejected, it was never there. */
#include "history/machine/machine.h"

#include <string.h>

#include "history/machine/priv.h"
#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "temporal/api/protocol/v1/message.pb-c.h"
#include "temporal/api/update/v1/message.pb-c.h"

#define FAILING_FROM_ATTEMPT 3 /* of the workflow task: an update could not mend it */
#define REQUEST_URL "type.googleapis.com/temporal.api.update.v1.Request"

typedef Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionRequest update_request;
typedef Temporal__Api__Protocol__V1__Message message;

/* ---- memory ---------------------------------------------------------------------------------- */

tn_update *tn_ms_update(const tn_ms *ms, tn_str id)
{
    if (!ms->updates)
        return NULL;
    TN_LIST_FOREACH (link, &ms->updates->list) {
        tn_update *update = TN_CONTAINER_OF(link, tn_update, link);

        if (tn_str_is(id, update->id))
            return update;
    }
    return NULL;
}

static tn_update *create(tn_ms *ms, tn_str id)
{
    tn_update *update = tn_ms_alloc(ms, sizeof(*update));

    if (!ms->updates) {
        ms->updates = tn_ms_alloc(ms, sizeof(*ms->updates));
        tn_list_init(&ms->updates->list);
    }
    update->id = tn_ms_strdup(ms, id);
    update->stage = TN_UPDATE_ADMITTED;
    tn_list_push_back(&ms->updates->list, &update->link);
    ms->updates->count++;
    ms->updates->in_flight++;
    return update;
}

static void forget_request(tn_ms *ms, tn_update *update)
{
    ms->updates->in_flight_bytes -= update->request.n;
    tn_ms_free_blob(ms, &update->request);
}

static void destroy(tn_ms *ms, tn_update *update)
{
    forget_request(ms, update);
    if (update->stage != TN_UPDATE_COMPLETED)
        ms->updates->in_flight--;
    ms->updates->count--;
    tn_list_remove(&update->link);
    tn_ms_free(ms, update->id);
    tn_ms_free(ms, update);
}

void tn_updates_destroy(tn_ms *ms)
{
    if (!ms->updates)
        return;
    TN_LIST_FOREACH_SAFE (link, &ms->updates->list)
        destroy(ms, TN_CONTAINER_OF(link, tn_update, link));
    tn_ms_free(ms, ms->updates);
    ms->updates = NULL;
}

void tn_updates_drop_unaccepted(tn_ms *ms)
{
    if (!ms->updates)
        return;
    TN_LIST_FOREACH_SAFE (link, &ms->updates->list) {
        tn_update *update = TN_CONTAINER_OF(link, tn_update, link);

        if (update->stage < TN_UPDATE_ACCEPTED)
            destroy(ms, update);
    }
}

bool tn_ms_updates_wait(const tn_ms *ms)
{
    if (!ms->updates || !ms->updates->in_flight)
        return false;
    TN_LIST_FOREACH (link, &ms->updates->list) {
        const tn_update *update = TN_CONTAINER_OF(link, tn_update, link);

        if (update->stage == TN_UPDATE_ADMITTED && !update->admitted_id)
            return true;
    }
    return false;
}

/* ---- taking one in --------------------------------------------------------------------------- */

static const tn_fault *not_ready(tn_tx *tx)
{
    Temporal__Api__Errordetails__V1__WorkflowNotReadyFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__WORKFLOW_NOT_READY_FAILURE__INIT;

    return tn_fault_detailed(
        tx->arena, TN_GRPC_FAILED_PRECONDITION, &detail.base,
        "Unable to perform workflow execution update due to Workflow Task in failed state.");
}

const tn_fault *tn_updates_too_many(tn_tx *tx)
{
    int64_t max = tx->env->limits->updates_max;

    if (max <= 0 || !tx->ms->updates || (int64_t)tx->ms->updates->count < max)
        return NULL;
    return tn_fault_make(
        tx->arena, TN_GRPC_FAILED_PRECONDITION,
        "The limit on the total number of distinct updates in this workflow has been reached "
        "(%lld). Make sure any duplicate updates share an Update ID so the server can deduplicate "
        "them, and consider rejecting updates that you aren't going to process. You can also "
        "Continue-as-New to avoid this; we recommend you check Continue-as-New Suggested in your "
        "Workflow.",
        (long long)max);
}

static const tn_fault *over_limits(tn_tx *tx, size_t bytes)
{
    const tn_machine_limits *limits = tx->env->limits;
    const tn_updates *updates = tx->ms->updates;
    int64_t in_flight = updates ? (int64_t)updates->in_flight : 0;
    int64_t held = updates ? (int64_t)updates->in_flight_bytes : 0;
    const tn_fault *fault;

    if (limits->updates_in_flight_max > 0 && in_flight >= limits->updates_in_flight_max)
        return tn_fault_exhausted(
            tx->arena, 2, 1, /* CONCURRENT_LIMIT, NAMESPACE */
            "limit on number of concurrent in-flight updates has been reached (%lld)",
            (long long)limits->updates_in_flight_max);
    fault = tn_updates_too_many(tx);
    if (fault)
        return fault;
    if (limits->updates_in_flight_bytes_max > 0 &&
        held + (int64_t)bytes >= limits->updates_in_flight_bytes_max)
        return tn_fault_exhausted(
            tx->arena, 2, 1,
            "limit on total payload size of in-flight updates has been reached (%lld bytes)",
            (long long)limits->updates_in_flight_bytes_max);
    return NULL;
}

/* What stands against any update of this run, known or new. */
static const tn_fault *refused(tn_tx *tx)
{
    tn_ms *ms = tx->ms;

    if (ms->status == 8)
        return tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                             "Workflow is paused. Cannot update the workflow.");
    if (ms->wft.attempt >= FAILING_FROM_ATTEMPT)
        return not_ready(tx);
    if (ms->close_attempted && tn_ms_wft_started(ms))
        return tn_fault_exhausted(
            tx->arena, 5, 1, /* BUSY_WORKFLOW, NAMESPACE */
            "workflow operation can not be applied because workflow is closing");
    return NULL;
}

const tn_fault *tn_machine_update_admit(tn_tx *tx, const update_request *request, bool again)
{
    const Temporal__Api__Update__V1__Request *asked = request->request;
    tn_str id = tn_str_from(asked->meta->update_id);
    tn_ms *ms = tx->ms;
    tn_update *update = tn_ms_update(ms, id);
    const tn_fault *fault;
    tn_blob packed;

    if (!tn_ms_running(ms))
        return update ? NULL
                      : tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND,
                                      "workflow execution already completed");
    fault = again ? NULL : refused(tx);
    if (fault || update)
        return fault;
    packed = tn_msg_pack(tx->arena, asked);
    fault = over_limits(tx, packed.n);
    if (fault)
        return fault;
    if (asked->n_completion_callbacks && !*asked->request_id)
        return tn_fault_make(
            tx->arena, TN_GRPC_INVALID_ARGUMENT,
            "invalid *update.Request: request_id is required when completion_callbacks are set");
    update = create(ms, id);
    update->request = tn_ms_blobdup(ms, packed);
    ms->updates->in_flight_bytes += packed.n;
    tn_tx_schedule_speculative(tx);
    return NULL;
}

/* ---- the speculative task -------------------------------------------------------------------- */

void tn_tx_schedule_speculative(tn_tx *tx)
{
    tn_ms *ms = tx->ms;
    tn_wft *wft = &ms->wft;

    if (tn_ms_wft_pending(ms) || ms->held || !tn_ms_running(ms) || ms->status == 8)
        return;
    if (wft->attempt > 1 || tn_ms_has_buffered(ms)) {
        tn_tx_schedule_wft_anyhow(tx);
        return;
    }
    wft->transient = wft->speculative = true;
    wft->attempt = 1;
    wft->scheduled_id = ms->next_event_id;
    wft->scheduled_ns = wft->original_scheduled_ns = tn_tx_event_time(tx);
    wft->timeout_ns = tn_tx_wft_timeout_ns(tx, 1);
    wft->sticky = wft->scheduled_sticky = ms->sticky_queue != NULL;
}

void tn_machine_wft_speculate(
    tn_tx *tx,
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request)
{
    tn_ms *ms = tx->ms;

    if (!tn_ms_running(ms) || tn_ms_wft_pending(ms) || !tn_ms_updates_wait(ms))
        return;
    tn_tx_schedule_speculative(tx);
    if (!ms->wft.speculative)
        return;
    tn_tx_start_wft(tx, &(tn_wft_start){
                            .identity = tn_str_from(request->identity),
                            .request_id = TN_STR("request-from-RespondWorkflowTaskCompleted"),
                            .at_ns = tn_tx_event_time(tx),
                        });
}

/* ---- to the worker --------------------------------------------------------------------------- */

static message *message_of(const tn_ms *ms, tn_arena *arena, const tn_update *update)
{
    message *out = TN_MSG(arena, temporal__api__protocol__v1__message);
    tn_blob body = tn_arena_blob(arena, update->request);

    out->body = TN_MSG(arena, google__protobuf__any);
    out->id = tn_arena_printf(arena, "%s/request", update->id);
    out->protocol_instance_id = tn_arena_strdup(arena, update->id);
    TN_ASSERT(out->id && out->protocol_instance_id && body.p);
    /* Behind everything that the worker can have seen before it. */
    out->sequencing_id_case = TEMPORAL__API__PROTOCOL__V1__MESSAGE__SEQUENCING_ID_EVENT_ID;
    out->event_id = ms->wft.started_id - 1;
    out->body->type_url = (char *)(uintptr_t)REQUEST_URL;
    out->body->value = (ProtobufCBinaryData){body.n, (uint8_t *)(uintptr_t)body.p};
    return out;
}

size_t tn_machine_update_messages(tn_ms *ms, tn_arena *arena, bool again, message ***out)
{
    size_t n = 0;

    if (!ms->updates || !ms->updates->in_flight)
        return 0;
    *out = tn_arena_array(arena, ms->updates->in_flight, sizeof(**out));
    TN_ASSERT(*out);
    TN_LIST_FOREACH (link, &ms->updates->list) {
        tn_update *update = TN_CONTAINER_OF(link, tn_update, link);

        if (update->stage > TN_UPDATE_SENT || (update->stage == TN_UPDATE_SENT && !again))
            continue;
        update->stage = TN_UPDATE_SENT;
        if (update->admitted_id)
            continue; /* the worker finds it in the history */
        (*out)[n++] = message_of(ms, arena, update);
    }
    return n;
}

/* ---- ends without an event ------------------------------------------------------------------- */

void tn_tx_end_update(tn_tx *tx, tn_str id, const Temporal__Api__Failure__V1__Failure *rejection)
{
    tn_update *update = tn_ms_update(tx->ms, id);
    tn_update_end *grown;

    if (tx->n_update_ends == tx->cap_update_ends) {
        tx->cap_update_ends = tx->cap_update_ends ? tx->cap_update_ends * 2 : 4;
        grown = tn_tx_alloc(tx, tx->cap_update_ends * sizeof(*grown));
        if (tx->n_update_ends)
            memcpy(grown, tx->update_ends, tx->n_update_ends * sizeof(*grown));
        tx->update_ends = grown;
    }
    tx->update_ends[tx->n_update_ends++] = (tn_update_end){
        .id = tn_str_from(tn_tx_text(tx, id)),
        .rejection = rejection,
    };
    if (update && update->admitted_id) {
        tn_update_note_ended(tx->ms, tx->update_ends[tx->n_update_ends - 1].id);
        tx->extras_dirty = true;
    } else if (update) {
        destroy(tx->ms, update);
    }
}

static void end_sent(tn_tx *tx, const Temporal__Api__Failure__V1__Failure *rejection)
{
    if (!tx->ms->updates)
        return;
    TN_LIST_FOREACH_SAFE (link, &tx->ms->updates->list) {
        tn_update *update = TN_CONTAINER_OF(link, tn_update, link);

        if (update->stage == TN_UPDATE_SENT && update->admitted_id)
            update->stage = TN_UPDATE_ADMITTED; /* the next task's history has it still */
        else if (update->stage == TN_UPDATE_SENT)
            tn_tx_end_update(tx, tn_str_from(update->id), rejection);
    }
}

void tn_tx_end_sent_updates(tn_tx *tx) { end_sent(tx, NULL); }

void tn_tx_reject_unprocessed(tn_tx *tx)
{
    Temporal__Api__Failure__V1__Failure *failure;

    if (!tx->ms->updates || !tx->ms->updates->in_flight)
        return;
    failure = TN_MSG(tx->arena, temporal__api__failure__v1__failure);
    failure->message = tn_tx_text(
        tx, TN_STR("Workflow Update is rejected because it wasn't processed by worker. Probably, "
                   "Workflow Update is not supported by the worker."));
    failure->source = tn_tx_text(tx, TN_STR("Server"));
    failure->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO;
    failure->application_failure_info =
        TN_MSG(tx->arena, temporal__api__failure__v1__application_failure_info);
    failure->application_failure_info->type = tn_tx_text(tx, TN_STR("UnprocessedUpdate"));
    failure->application_failure_info->non_retryable = true;
    end_sent(tx, failure);
}

/* ---- the fold -------------------------------------------------------------------------------- */

static tn_status apply_accepted(tn_ms *ms, const tn_event *event, tn_error *err)
{
    const Temporal__Api__History__V1__WorkflowExecutionUpdateAcceptedEventAttributes *a =
        event->workflow_execution_update_accepted_event_attributes;
    tn_str id = tn_str_from(a->protocol_instance_id);
    tn_update *update = tn_ms_update(ms, id);

    if (update && update->stage >= TN_UPDATE_ACCEPTED)
        return tn_error_set(err, TN_EDATALOSS, "event %lld accepts an update for the second time",
                            (long long)event->event_id);
    if (!update)
        update = create(ms, id);
    forget_request(ms, update);
    update->stage = TN_UPDATE_ACCEPTED;
    update->accepted_id = event->event_id;
    return TN_OK;
}

/* A reset has taken it over from another run: its request is in the history before a worker has seen it. */
static tn_status apply_admitted(tn_ms *ms, const tn_event *event, tn_error *err)
{
    const Temporal__Api__History__V1__WorkflowExecutionUpdateAdmittedEventAttributes *a =
        event->workflow_execution_update_admitted_event_attributes;
    tn_update *update;
    tn_buf packed = {0};

    if (!a->request || !a->request->meta || !*a->request->meta->update_id ||
        tn_ms_update(ms, tn_str_from(a->request->meta->update_id)))
        return tn_error_set(err, TN_EDATALOSS, "event %lld admits no update, or one that is there",
                            (long long)event->event_id);
    update = create(ms, tn_str_from(a->request->meta->update_id));
    update->admitted_id = event->event_id;
    TN_ASSERT(tn_proto_pack_buf(&a->request->base, &packed) == TN_OK);
    update->request = tn_ms_blobdup(ms, tn_buf_blob(&packed));
    ms->updates->in_flight_bytes += update->request.n;
    tn_buf_done(&packed);
    return TN_OK;
}

void tn_update_note_ended(tn_ms *ms, tn_str id)
{
    tn_update *update = tn_ms_update(ms, id);
    char **grown;

    if (update && update->admitted_id && update->stage < TN_UPDATE_ACCEPTED)
        destroy(ms, update);
    for (size_t i = 0; i < ms->n_ended_updates; i++)
        if (tn_str_is(id, ms->ended_updates[i]))
            return;
    grown = tn_ms_alloc(ms, (ms->n_ended_updates + 1) * sizeof(*grown));
    if (ms->n_ended_updates)
        memcpy(grown, ms->ended_updates, ms->n_ended_updates * sizeof(*grown));
    tn_ms_free(ms, ms->ended_updates);
    ms->ended_updates = grown;
    grown[ms->n_ended_updates++] = tn_ms_strdup(ms, id);
}

tn_status tn_apply_update(tn_ms *ms, const tn_event *event, tn_error *err)
{
    const Temporal__Api__History__V1__WorkflowExecutionUpdateCompletedEventAttributes *a;
    tn_update *update;

    if (event->event_type == 47)
        return apply_admitted(ms, event, err);
    if (event->event_type == 41)
        return apply_accepted(ms, event, err);
    a = event->workflow_execution_update_completed_event_attributes;
    update = tn_ms_update(ms, tn_str_from(a->meta ? a->meta->update_id : NULL));
    if (!update || update->stage != TN_UPDATE_ACCEPTED)
        return tn_error_set(err, TN_EDATALOSS,
                            "event %lld completes an update that is not accepted",
                            (long long)event->event_id);
    update->stage = TN_UPDATE_COMPLETED;
    update->completed_id = event->event_id;
    ms->updates->in_flight--;
    return TN_OK;
}

/* ---- snapshots ------------------------------------------------------------------------------- */

void tn_updates_save(const tn_ms *ms, tn_arena *arena, Tenon__Snapshot *to)
{
    if (!ms->updates || !ms->updates->count)
        return;
    to->updates = tn_arena_array(arena, ms->updates->count, sizeof(to->updates[0]));
    TN_ASSERT(to->updates);
    TN_LIST_FOREACH (link, &ms->updates->list) {
        const tn_update *from = TN_CONTAINER_OF(link, tn_update, link);
        Tenon__UpdateState *update;

        if (from->stage < TN_UPDATE_ACCEPTED && !from->admitted_id)
            continue;
        update = TN_MSG(arena, tenon__update_state);
        update->id = from->id;
        update->admitted_id = from->admitted_id;
        update->request =
            (ProtobufCBinaryData){from->request.n, (uint8_t *)(uintptr_t)from->request.p};
        update->accepted_id = from->accepted_id;
        update->completed_id = from->completed_id;
        to->updates[to->n_updates++] = update;
    }
}

tn_status tn_update_load(tn_ms *ms, const Tenon__UpdateState *saved, tn_error *err)
{
    tn_update *update;

    if (tn_ms_update(ms, tn_str_from(saved->id)))
        return tn_error_set(err, TN_EDATALOSS, "an update is kept twice");
    update = create(ms, tn_str_from(saved->id));
    update->stage = saved->completed_id  ? TN_UPDATE_COMPLETED
                    : saved->accepted_id ? TN_UPDATE_ACCEPTED
                                         : TN_UPDATE_ADMITTED;
    update->admitted_id = saved->admitted_id;
    if (saved->request.len)
        update->request = tn_ms_blobdup(ms, (tn_blob){saved->request.data, saved->request.len});
    ms->updates->in_flight_bytes += saved->request.len;
    update->accepted_id = saved->accepted_id;
    update->completed_id = saved->completed_id;
    if (saved->completed_id)
        ms->updates->in_flight--;
    return TN_OK;
}
