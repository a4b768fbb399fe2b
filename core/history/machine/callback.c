/* SPDX-License-Identifier: MIT */
/* Completion callbacks: attached at the start or later, carried on from run to run of a chain, sent when
 * its last run has closed, until they have arrived. */
#include <string.h>

#include "history/machine/nexus_priv.h"
#include "proto/proto.h"

typedef Temporal__Api__Common__V1__Callback callback_msg;

tn_nexus *tn_nexus_of(tn_ms *ms)
{
    if (!ms->nexus) {
        ms->nexus = tn_ms_alloc(ms, sizeof(*ms->nexus));
        tn_list_init(&ms->nexus->callbacks);
        tn_list_init(&ms->nexus->ops);
    }
    return ms->nexus;
}

/* ---- the fold -------------------------------------------------------------------------------- */

static tn_callback *attach(tn_ms *ms, tn_blob packed, tn_str request_id, uint64_t at_ns)
{
    tn_nexus *nexus = tn_nexus_of(ms);
    tn_callback *callback = tn_ms_alloc(ms, sizeof(*callback));

    callback->callback = tn_ms_blobdup(ms, packed);
    tn_ms_replace_str(ms, &callback->request_id, request_id);
    callback->registered_ns = at_ns;
    callback->state = TN_CALLBACK_STANDBY;
    tn_list_push_back(&nexus->callbacks, &callback->link);
    nexus->n_callbacks++;
    return callback;
}

/* The same call, made again after a reset, attaches nothing twice. */
static bool attached_already(const tn_ms *ms, const char *request_id)
{
    if (!ms->nexus || !request_id || !*request_id)
        return false;
    TN_LIST_FOREACH (link, &ms->nexus->callbacks) {
        const tn_callback *callback = TN_CONTAINER_OF(link, tn_callback, link);

        if (!callback->at_start && callback->request_id &&
            strcmp(callback->request_id, request_id) == 0)
            return true;
    }
    return false;
}

void tn_callbacks_attach(tn_ms *ms, size_t n, callback_msg *const *callbacks,
                         const char *request_id, uint64_t at_ns, bool at_start)
{
    tn_buf buf = {0};

    if (!n || (!at_start && attached_already(ms, request_id)))
        return;
    for (size_t i = 0; i < n; i++) {
        buf.n = 0;
        TN_ASSERT(tn_proto_pack_buf(&callbacks[i]->base, &buf) == TN_OK);
        attach(ms, tn_buf_blob(&buf), tn_str_from(request_id), at_ns)->at_start = at_start;
    }
    tn_buf_done(&buf);
}

void tn_callbacks_trigger(tn_ms *ms)
{
    if (!ms->nexus)
        return;
    TN_LIST_FOREACH (link, &ms->nexus->callbacks)
        TN_CONTAINER_OF(link, tn_callback, link)->state = TN_CALLBACK_SCHEDULED;
}

void tn_callback_destroy(tn_ms *ms, tn_callback *callback)
{
    tn_list_remove(&callback->link);
    ms->nexus->n_callbacks--;
    tn_ms_free_blob(ms, &callback->callback);
    tn_ms_free_blob(ms, &callback->attempts.last_failure);
    tn_ms_free(ms, callback->request_id);
    tn_ms_free(ms, callback);
}

/* ---- the store ------------------------------------------------------------------------------- */

void tn_callbacks_save(const tn_ms *ms, tn_arena *arena, Tenon__Snapshot *to)
{
    to->callbacks = tn_arena_array(arena, ms->nexus->n_callbacks + 1, sizeof(to->callbacks[0]));
    TN_ASSERT(to->callbacks);
    TN_LIST_FOREACH (link, &ms->nexus->callbacks) {
        const tn_callback *from = TN_CONTAINER_OF(link, tn_callback, link);
        Tenon__CallbackState *saved;

        if (from->at_start)
            continue;
        saved = TN_MSG(arena, tenon__callback_state);
        saved->callback =
            (ProtobufCBinaryData){from->callback.n, (uint8_t *)(uintptr_t)from->callback.p};
        saved->request_id = from->request_id ? from->request_id : (char *)(uintptr_t) "";
        saved->registered_ns = from->registered_ns;
        to->callbacks[to->n_callbacks++] = saved;
    }
}

tn_status tn_callbacks_load(tn_ms *ms, const Tenon__Snapshot *from, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    tn_status status = TN_OK;

    for (size_t i = 0; status == TN_OK && i < from->n_callbacks; i++) {
        const Tenon__CallbackState *saved = from->callbacks[i];
        tn_blob packed = {saved->callback.data, saved->callback.len};
        callback_msg *callback;

        status =
            TN_PROTO_UNPACK(temporal__api__common__v1__callback, packed, arena, &callback, err);
        if (status == TN_OK)
            attach(ms, packed, tn_str_from(saved->request_id), saved->registered_ns);
    }
    tn_arena_destroy(arena);
    return status == TN_OK ? TN_OK : TN_EDATALOSS;
}

void tn_callbacks_save_extras(const tn_ms *ms, tn_arena *arena, Tenon__Extras *to)
{
    uint32_t index = 0;

    to->callbacks = tn_arena_array(arena, ms->nexus->n_callbacks + 1, sizeof(to->callbacks[0]));
    TN_ASSERT(to->callbacks);
    TN_LIST_FOREACH (link, &ms->nexus->callbacks) {
        const tn_callback *from = TN_CONTAINER_OF(link, tn_callback, link);
        Tenon__CallbackExtras *saved;

        index++;
        if (!from->attempts.count)
            continue;
        saved = TN_MSG(arena, tenon__callback_extras);
        saved->index = index - 1;
        saved->state = from->state;
        saved->attempt = from->attempts.count;
        saved->last_attempt_ns = from->attempts.last_ns;
        saved->next_attempt_ns = from->attempts.next_ns;
        saved->last_failure = (ProtobufCBinaryData){
            from->attempts.last_failure.n, (uint8_t *)(uintptr_t)from->attempts.last_failure.p};
        to->callbacks[to->n_callbacks++] = saved;
    }
}

static tn_callback *at(const tn_ms *ms, size_t index)
{
    if (!ms->nexus)
        return NULL;
    TN_LIST_FOREACH (link, &ms->nexus->callbacks)
        if (index-- == 0)
            return TN_CONTAINER_OF(link, tn_callback, link);
    return NULL;
}

void tn_callbacks_load_extras(tn_ms *ms, const Tenon__Extras *from)
{
    for (size_t i = 0; i < from->n_callbacks; i++) {
        const Tenon__CallbackExtras *saved = from->callbacks[i];
        tn_callback *to = at(ms, saved->index);

        if (!to)
            continue;
        to->state = saved->state;
        to->attempts.count = saved->attempt;
        to->attempts.last_ns = saved->last_attempt_ns;
        to->attempts.next_ns = saved->next_attempt_ns;
        tn_ms_replace_blob(ms, &to->attempts.last_failure,
                           (tn_blob){saved->last_failure.data, saved->last_failure.len});
    }
}

/* ---- what is wanted -------------------------------------------------------------------------- */

static bool wants_sending(const tn_ms *ms, const tn_callback *callback)
{
    return callback->state == TN_CALLBACK_SCHEDULED && !ms->skip_close_policy;
}

void tn_callback_wants(tn_ms *ms, uint64_t now_ns,
                       void (*each)(void *user, tn_want want, void *item), void *user)
{
    if (!ms->nexus)
        return;
    TN_LIST_FOREACH_SAFE (link, &ms->nexus->callbacks) {
        tn_callback *callback = TN_CONTAINER_OF(link, tn_callback, link);

        if (wants_sending(ms, callback) && !callback->dispatched &&
            callback->attempts.next_ns <= now_ns)
            each(user, TN_WANT_CALLBACK, callback);
    }
}

uint64_t tn_callbacks_wake_ns(const tn_ms *ms, bool not_dispatched)
{
    uint64_t at_ns = UINT64_MAX;

    if (!ms->nexus)
        return at_ns;
    TN_LIST_FOREACH (link, &ms->nexus->callbacks) {
        const tn_callback *callback = TN_CONTAINER_OF(link, tn_callback, link);

        if (wants_sending(ms, callback) && !(not_dispatched && callback->dispatched) &&
            callback->attempts.next_ns < at_ns)
            at_ns = callback->attempts.next_ns;
    }
    return at_ns;
}

size_t tn_callback_index(const tn_ms *ms, const tn_callback *callback)
{
    size_t index = 0;

    TN_LIST_FOREACH (link, &ms->nexus->callbacks) {
        if (link == &callback->link)
            break;
        index++;
    }
    return index;
}

/* ---- transitions ----------------------------------------------------------------------------- */

static size_t count_waiting(const tn_tx *tx)
{
    size_t n = tx->ms->nexus ? tx->ms->nexus->n_callbacks : 0;
    tn_event *event;

    TN_LIST_FOREACH (link, &tx->ms->buffered) {
        const tn_buffered *buffered = TN_CONTAINER_OF(link, tn_buffered, link);

        if (buffered->event_type != 55)
            continue;
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, buffered->event,
                                  tx->arena, &event, NULL) == TN_OK);
        n += event->workflow_execution_options_updated_event_attributes
                 ->n_attached_completion_callbacks;
    }
    return n;
}

const tn_fault *tn_callbacks_too_many(const tn_tx *tx, size_t more)
{
    int64_t max = tx->env->limits->callbacks_max;
    size_t there = more ? count_waiting(tx) : 0;

    if (!more || max <= 0 || (int64_t)(there + more) <= max)
        return NULL;
    return tn_fault_make(
        tx->arena, TN_GRPC_FAILED_PRECONDITION,
        "cannot attach more than %lld callbacks to a workflow (%zu callbacks already attached)",
        (long long)max, there);
}

void tn_callback_undispatch(tn_ms *ms, size_t index)
{
    tn_callback *callback = at(ms, index);

    if (callback)
        callback->dispatched = false;
}

/* The first wait is `initial`, each further one twice as long; a fifth of it is left to chance. */
uint64_t tn_attempts_backoff_ns(tn_tx *tx, int32_t count, uint64_t initial_ns, uint64_t max_ns)
{
    uint64_t wait_ns = initial_ns;

    for (int32_t i = 1; i < count && wait_ns < max_ns; i++)
        wait_ns *= 2;
    if (max_ns && wait_ns > max_ns)
        wait_ns = max_ns;
    return wait_ns - (wait_ns >= 5 ? tn_rng_next(tx->rng) % (wait_ns / 5) : 0);
}

void tn_attempts_note(tn_tx *tx, tn_attempts *attempts,
                      const Temporal__Api__Failure__V1__Failure *failure)
{
    attempts->count++;
    attempts->last_ns = tx->now_ns;
    attempts->next_ns = 0;
    tn_ms_replace_blob(tx->ms, &attempts->last_failure,
                       failure ? tn_msg_pack(tx->arena, failure) : (tn_blob){NULL, 0});
    tx->extras_dirty = true;
}

void tn_machine_callback_answered(tn_tx *tx, size_t index, const char *message, bool again)
{
    const tn_machine_limits *limits = tx->env->limits;
    tn_callback *callback = at(tx->ms, index);
    Temporal__Api__Failure__V1__Failure *failure = NULL;

    if (!callback || callback->state != TN_CALLBACK_SCHEDULED)
        return;
    if (message) {
        failure = TN_MSG(tx->arena, temporal__api__failure__v1__failure);
        failure->message = tn_tx_text(tx, tn_str_from(message));
        failure->failure_info_case =
            TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO;
        failure->application_failure_info =
            TN_MSG(tx->arena, temporal__api__failure__v1__application_failure_info);
        failure->application_failure_info->non_retryable = !again;
    }
    tn_attempts_note(tx, &callback->attempts, failure);
    if (!message)
        callback->state = TN_CALLBACK_SUCCEEDED;
    else if (!again)
        callback->state = TN_CALLBACK_FAILED;
    else
        callback->attempts.next_ns =
            tx->now_ns + tn_attempts_backoff_ns(tx, callback->attempts.count,
                                                limits->callback_backoff_initial_ns,
                                                limits->callback_backoff_max_ns);
}

callback_msg **tn_callbacks_list(const tn_ms *ms, tn_arena *arena, size_t *out_n)
{
    callback_msg **list;

    *out_n = 0;
    if (!ms->nexus || !ms->nexus->n_callbacks)
        return NULL;
    list = tn_arena_array(arena, ms->nexus->n_callbacks, sizeof(list[0]));
    TN_ASSERT(list);
    TN_LIST_FOREACH (link, &ms->nexus->callbacks)
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__common__v1__callback,
                                  TN_CONTAINER_OF(link, tn_callback, link)->callback, arena,
                                  &list[(*out_n)++], NULL) == TN_OK);
    return list;
}

/* ---- what the receiver is told --------------------------------------------------------------- */

static tn_blob failure_of(tn_arena *arena, const char *message, int kind,
                          const Temporal__Api__Common__V1__Payloads *details)
{
    Temporal__Api__Failure__V1__Failure *failure =
        TN_MSG(arena, temporal__api__failure__v1__failure);

    failure->message = (char *)(uintptr_t)message;
    failure->failure_info_case = (Temporal__Api__Failure__V1__Failure__FailureInfoCase)kind;
    if (kind == TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_CANCELED_FAILURE_INFO) {
        failure->canceled_failure_info =
            TN_MSG(arena, temporal__api__failure__v1__canceled_failure_info);
        failure->canceled_failure_info->details =
            (Temporal__Api__Common__V1__Payloads *)(uintptr_t)details;
    } else if (kind == TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TERMINATED_FAILURE_INFO) {
        failure->terminated_failure_info =
            TN_MSG(arena, temporal__api__failure__v1__terminated_failure_info);
    } else {
        failure->timeout_failure_info =
            TN_MSG(arena, temporal__api__failure__v1__timeout_failure_info);
    }
    return tn_msg_pack(arena, failure);
}

#define INFO(UPPER) TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_##UPPER##_FAILURE_INFO

static tn_blob close_failure(const tn_event *close, tn_arena *arena)
{
    const Temporal__Api__Failure__V1__Failure *failure;

    switch ((int)close->event_type) {
    case 3:
        failure = close->workflow_execution_failed_event_attributes->failure;
        return failure ? tn_msg_pack(arena, failure) : (tn_blob){NULL, 0};
    case 21:
        return failure_of(arena, "operation canceled", INFO(CANCELED),
                          close->workflow_execution_canceled_event_attributes->details);
    case 27:
        return failure_of(arena, "operation terminated", INFO(TERMINATED), NULL);
    default:
        return failure_of(arena, "operation exceeded internal timeout", INFO(TIMEOUT), NULL);
    }
}

/* To the event that attached the callback: by its request, where it may still have waited for an id. */
static tn_blob link_to_start(const tn_ms *ms, const tn_callback *callback, tn_str ns_name,
                             tn_arena *arena)
{
    Temporal__Api__Common__V1__Link *link = TN_MSG(arena, temporal__api__common__v1__link);
    Temporal__Api__Common__V1__Link__WorkflowEvent *to =
        TN_MSG(arena, temporal__api__common__v1__link__workflow_event);

    link->variant_case = TEMPORAL__API__COMMON__V1__LINK__VARIANT_WORKFLOW_EVENT;
    link->workflow_event = to;
    to->namespace_ = (char *)(uintptr_t)tn_arena_str(arena, ns_name).p;
    to->workflow_id = ms->workflow_id;
    to->run_id = (char *)(uintptr_t)ms->run_id_text;
    if (callback->at_start) {
        to->reference_case = TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_EVENT_REF;
        to->event_ref =
            TN_MSG(arena, temporal__api__common__v1__link__workflow_event__event_reference);
        to->event_ref->event_id = 1;
        to->event_ref->event_type = (Temporal__Api__Enums__V1__EventType)1;
    } else {
        to->reference_case =
            TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_REQUEST_ID_REF;
        to->request_id_ref =
            TN_MSG(arena, temporal__api__common__v1__link__workflow_event__request_id_reference);
        to->request_id_ref->request_id = callback->request_id;
        to->request_id_ref->event_type = (Temporal__Api__Enums__V1__EventType)55;
    }
    return tn_msg_pack(arena, link);
}

Tenon__NexusCompletion *tn_machine_completion(const tn_ms *ms, const tn_callback *callback,
                                              tn_str ns_name, tn_arena *arena)
{
    Tenon__NexusCompletion *to = TN_MSG(arena, tenon__nexus_completion);
    const Temporal__Api__Common__V1__Payloads *result;
    tn_event *close;
    tn_blob packed;

    TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, ms->close_event, arena,
                              &close, NULL) == TN_OK);
    to->start_ns = ms->start_ns;
    to->links = tn_arena_array(arena, 1, sizeof(to->links[0]));
    TN_ASSERT(to->links);
    packed = link_to_start(ms, callback, ns_name, arena);
    to->links[to->n_links++] = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    to->canceled = close->event_type == 21;
    to->unsuccessful = close->event_type != 2;
    if (to->unsuccessful) {
        packed = close_failure(close, arena);
        to->failure = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
        return to;
    }
    result = close->workflow_execution_completed_event_attributes->result;
    to->has_payload = result && result->n_payloads;
    if (to->has_payload) {
        packed = tn_msg_pack(arena, result->payloads[0]);
        to->payload = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    }
    return to;
}

/* ---- describing ------------------------------------------------------------------------------ */

Temporal__Api__Failure__V1__Failure *tn_attempts_failure(const tn_attempts *attempts,
                                                         tn_arena *arena)
{
    Temporal__Api__Failure__V1__Failure *failure = NULL;

    if (attempts->last_failure.n)
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__failure__v1__failure, attempts->last_failure,
                                  arena, &failure, NULL) == TN_OK);
    return failure;
}

static void describe(const tn_callback *from, tn_arena *arena, uint64_t now_ns,
                     Temporal__Api__Workflow__V1__CallbackInfo *to)
{
    bool backing_off = from->state == TN_CALLBACK_SCHEDULED && from->attempts.next_ns > now_ns;

    TN_ASSERT(TN_PROTO_UNPACK(temporal__api__common__v1__callback, from->callback, arena,
                              &to->callback, NULL) == TN_OK);
    to->trigger = TN_MSG(arena, temporal__api__workflow__v1__callback_info__trigger);
    to->trigger->variant_case =
        TEMPORAL__API__WORKFLOW__V1__CALLBACK_INFO__TRIGGER__VARIANT_WORKFLOW_CLOSED;
    to->trigger->workflow_closed =
        TN_MSG(arena, temporal__api__workflow__v1__callback_info__workflow_closed);
    to->registration_time = tn_ts_from_ns(arena, (int64_t)from->registered_ns);
    to->state = (Temporal__Api__Enums__V1__CallbackState)(backing_off ? TN_CALLBACK_BACKING_OFF
                                                                      : from->state);
    to->attempt = from->attempts.count;
    if (from->attempts.last_ns)
        to->last_attempt_complete_time = tn_ts_from_ns(arena, (int64_t)from->attempts.last_ns);
    to->last_attempt_failure = tn_attempts_failure(&from->attempts, arena);
    if (backing_off)
        to->next_attempt_schedule_time = tn_ts_from_ns(arena, (int64_t)from->attempts.next_ns);
}

void tn_describe_callbacks(
    const tn_ms *ms, tn_arena *arena, uint64_t now_ns,
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out)
{
    if (!ms->nexus || !ms->nexus->n_callbacks)
        return;
    out->callbacks = tn_arena_array(arena, ms->nexus->n_callbacks, sizeof(out->callbacks[0]));
    TN_ASSERT(out->callbacks);
    TN_LIST_FOREACH (link, &ms->nexus->callbacks) {
        Temporal__Api__Workflow__V1__CallbackInfo *info =
            TN_MSG(arena, temporal__api__workflow__v1__callback_info);

        describe(TN_CONTAINER_OF(link, tn_callback, link), arena, now_ns, info);
        out->callbacks[out->n_callbacks++] = info;
    }
}
