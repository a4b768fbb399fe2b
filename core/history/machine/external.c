/* SPDX-License-Identifier: MIT */
/* Signals and cancel requests on their way from this run to another one. */
#include "history/machine/parts.h"
#include "proto/proto.h"

typedef Temporal__Api__History__V1__SignalExternalWorkflowExecutionInitiatedEventAttributes
    signal_attrs;
typedef Temporal__Api__History__V1__RequestCancelExternalWorkflowExecutionInitiatedEventAttributes
    cancel_attrs;

#define CASE(UPPER) \
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_##UPPER##_EVENT_ATTRIBUTES

/* From the run's id and the initiated event's: the same after a crash. */
static void derive_request_id(const tn_ms *ms, int64_t event_id, char out[37])
{
    uint8_t name[8], id[16];

    tn_put_u64be(name, (uint64_t)event_id);
    tn_uuid_v5(ms->run_id, tn_blob_from(name, sizeof(name)), id);
    tn_uuid_format(id, out);
}

static void external_create(tn_ms *ms, int64_t initiated_id, bool is_signal, tn_blob packed)
{
    tn_external *external = tn_ms_alloc(ms, sizeof(*external));

    external->initiated_id = initiated_id;
    external->is_signal = is_signal;
    external->attrs = tn_ms_blobdup(ms, packed);
    derive_request_id(ms, initiated_id, external->request_id);
    tn_list_push_back(&ms->externals, &external->link);
    if (is_signal)
        ms->n_signal_externals++;
    else
        ms->n_cancel_externals++;
}

void tn_external_destroy(tn_ms *ms, tn_external *external)
{
    tn_list_remove(&external->link);
    if (external->is_signal)
        ms->n_signal_externals--;
    else
        ms->n_cancel_externals--;
    tn_ms_free_blob(ms, &external->attrs);
    tn_ms_free(ms, external);
}

/* ---- the fold -------------------------------------------------------------------------------- */

static tn_status apply_initiated(tn_ms *ms, const tn_event *event, bool is_signal,
                                 const void *attrs, tn_error *err)
{
    tn_arena *arena;

    if (tn_ms_external_any(ms, event->event_id))
        return tn_error_set(err, TN_EDATALOSS, "request %lld is initiated twice",
                            (long long)event->event_id);
    arena = tn_arena_create(0);
    external_create(ms, event->event_id, is_signal, tn_msg_pack(arena, attrs));
    tn_arena_destroy(arena);
    return TN_OK;
}

tn_status tn_apply_external(tn_ms *ms, const tn_event *event, tn_error *err)
{
    tn_external *external;
    int64_t initiated_id;

    switch ((int)event->attributes_case) {
        CASE(SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED)
            : return apply_initiated(
                  ms, event, true,
                  event->signal_external_workflow_execution_initiated_event_attributes, err);
        CASE(REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED)
            : return apply_initiated(
                  ms, event, false,
                  event->request_cancel_external_workflow_execution_initiated_event_attributes,
                  err);
        CASE(SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
            : initiated_id = event->signal_external_workflow_execution_failed_event_attributes
                                 ->initiated_event_id;
        break;
        CASE(EXTERNAL_WORKFLOW_EXECUTION_SIGNALED)
            : initiated_id =
                  event->external_workflow_execution_signaled_event_attributes->initiated_event_id;
        break;
        CASE(REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
            : initiated_id =
                  event->request_cancel_external_workflow_execution_failed_event_attributes
                      ->initiated_event_id;
        break;
        CASE(EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
            : initiated_id = event->external_workflow_execution_cancel_requested_event_attributes
                                 ->initiated_event_id;
        break;
    default:
        return tn_error_set(err, TN_EDATALOSS, "event %lld is not of a request to another run",
                            (long long)event->event_id);
    }
    external = tn_ms_external_any(ms, initiated_id);
    if (!external)
        return tn_error_set(err, TN_EDATALOSS, "event %lld is of a request that is not pending",
                            (long long)event->event_id);
    tn_external_destroy(ms, external);
    return TN_OK;
}

tn_status tn_external_load(tn_ms *ms, const Tenon__ExternalState *saved, tn_error *err)
{
    tn_blob packed = {saved->attributes.data, saved->attributes.len};
    tn_arena *arena = tn_arena_create(0);
    ProtobufCMessage *attrs;
    tn_status status = tn_proto_unpack(
        saved->is_signal
            ? &temporal__api__history__v1__signal_external_workflow_execution_initiated_event_attributes__descriptor
            : &temporal__api__history__v1__request_cancel_external_workflow_execution_initiated_event_attributes__descriptor,
        packed, arena, &attrs, err);

    if (status == TN_OK && tn_ms_external_any(ms, saved->initiated_id))
        status = tn_error_set(err, TN_EDATALOSS, "request %lld is kept twice",
                              (long long)saved->initiated_id);
    if (status == TN_OK)
        external_create(ms, saved->initiated_id, saved->is_signal, packed);
    tn_arena_destroy(arena);
    return status == TN_OK ? TN_OK : TN_EDATALOSS;
}

/* ---- how it ended ---------------------------------------------------------------------------- */

static const tn_fault *find(tn_tx *tx, int64_t initiated_id, tn_external **out)
{
    if (!tn_ms_running(tx->ms))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "workflow execution already completed");
    *out = tn_ms_external(tx->ms, initiated_id);
    if (!*out)
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND,
                             "pending request to another workflow not found");
    return NULL;
}

static signal_attrs *unpack_signal(tn_tx *tx, const tn_external *external)
{
    signal_attrs *attrs = NULL;

    /* The fold or the load has read it before; same below. */
    TN_ASSERT(
        TN_PROTO_UNPACK(
            temporal__api__history__v1__signal_external_workflow_execution_initiated_event_attributes,
            external->attrs, tx->arena, &attrs, NULL) == TN_OK);
    return attrs;
}

static cancel_attrs *unpack_cancel(tn_tx *tx, const tn_external *external)
{
    cancel_attrs *attrs = NULL;

    TN_ASSERT(
        TN_PROTO_UNPACK(
            temporal__api__history__v1__request_cancel_external_workflow_execution_initiated_event_attributes,
            external->attrs, tx->arena, &attrs, NULL) == TN_OK);
    return attrs;
}

/* The initiated event keeps the command's namespace, which may be empty for the run's own; these
 * name it. */
#define FILL(attrs) \
    do { \
        (attrs)->initiated_event_id = initiated_id; \
        (attrs)->namespace_ = \
            *initiated->namespace_ ? initiated->namespace_ : tn_tx_text(tx, tx->env->ns_name); \
        (attrs)->namespace_id = initiated->namespace_id; \
        (attrs)->workflow_execution = initiated->workflow_execution; \
    } while (0)

static tn_event *signal_done(tn_tx *tx, const tn_external *external)
{
    int64_t initiated_id = external->initiated_id;
    const signal_attrs *initiated = unpack_signal(tx, external);
    tn_event *event = tn_tx_event(
        tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED);
    Temporal__Api__History__V1__ExternalWorkflowExecutionSignaledEventAttributes *attrs =
        TN_EVENT_ATTRS(tx, event, EXTERNAL_WORKFLOW_EXECUTION_SIGNALED,
                       external_workflow_execution_signaled);

    FILL(attrs);
    attrs->control = initiated->control;
    return event;
}

static tn_event *cancel_done(tn_tx *tx, const tn_external *external)
{
    int64_t initiated_id = external->initiated_id;
    const cancel_attrs *initiated = unpack_cancel(tx, external);
    tn_event *event = tn_tx_event(
        tx,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED);
    Temporal__Api__History__V1__ExternalWorkflowExecutionCancelRequestedEventAttributes *attrs =
        TN_EVENT_ATTRS(tx, event, EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
                       external_workflow_execution_cancel_requested);

    FILL(attrs);
    return event;
}

static tn_event *signal_failed(tn_tx *tx, const tn_external *external, int32_t cause)
{
    int64_t initiated_id = external->initiated_id;
    const signal_attrs *initiated = unpack_signal(tx, external);
    tn_event *event = tn_tx_event(
        tx,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED);
    Temporal__Api__History__V1__SignalExternalWorkflowExecutionFailedEventAttributes *attrs =
        TN_EVENT_ATTRS(tx, event, SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED,
                       signal_external_workflow_execution_failed);

    FILL(attrs);
    attrs->control = initiated->control;
    attrs->cause = (Temporal__Api__Enums__V1__SignalExternalWorkflowExecutionFailedCause)cause;
    return event;
}

static tn_event *cancel_failed(tn_tx *tx, const tn_external *external, int32_t cause)
{
    int64_t initiated_id = external->initiated_id;
    const cancel_attrs *initiated = unpack_cancel(tx, external);
    tn_event *event = tn_tx_event(
        tx,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED);
    Temporal__Api__History__V1__RequestCancelExternalWorkflowExecutionFailedEventAttributes *attrs =
        TN_EVENT_ATTRS(tx, event, REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED,
                       request_cancel_external_workflow_execution_failed);

    FILL(attrs);
    attrs->cause = (Temporal__Api__Enums__V1__CancelExternalWorkflowExecutionFailedCause)cause;
    return event;
}

const tn_fault *tn_machine_external_done(tn_tx *tx, int64_t initiated_id)
{
    tn_external *external;
    const tn_fault *fault = find(tx, initiated_id, &external);

    if (fault)
        return fault;
    tn_tx_add(tx, external->is_signal ? signal_done(tx, external) : cancel_done(tx, external));
    tn_tx_schedule_wft(tx);
    return NULL;
}

const tn_fault *tn_machine_external_failed(tn_tx *tx, int64_t initiated_id, int32_t cause)
{
    tn_external *external;
    const tn_fault *fault = find(tx, initiated_id, &external);

    if (fault)
        return fault;
    tn_tx_add(tx, external->is_signal ? signal_failed(tx, external, cause)
                                      : cancel_failed(tx, external, cause));
    tn_tx_schedule_wft(tx);
    return NULL;
}
