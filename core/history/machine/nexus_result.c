/* SPDX-License-Identifier: MIT */
/* What becomes of Nexus operations: answers of their handlers, completions that come later, time-outs; and
 * how pending ones are described. */
#include <string.h>

#include "history/machine/nexus_priv.h"
#include "proto/proto.h"

typedef Temporal__Api__Failure__V1__Failure failure_msg;

#define INFO(UPPER) TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_##UPPER

/* ---- failures -------------------------------------------------------------------------------- */

failure_msg *tn_nexus_handler_failure(tn_arena *arena, const char *type, const char *message)
{
    failure_msg *failure = TN_MSG(arena, temporal__api__failure__v1__failure);

    failure->message = tn_arena_strdup(arena, message);
    failure->failure_info_case = INFO(NEXUS_HANDLER_FAILURE_INFO);
    failure->nexus_handler_failure_info =
        TN_MSG(arena, temporal__api__failure__v1__nexus_handler_failure_info);
    failure->nexus_handler_failure_info->type = tn_arena_strdup(arena, type);
    return failure;
}

failure_msg *tn_nexus_call_failure(tn_arena *arena, const char *message, bool non_retryable)
{
    failure_msg *failure = TN_MSG(arena, temporal__api__failure__v1__failure);

    failure->message = tn_arena_strdup(arena, message);
    failure->failure_info_case = INFO(APPLICATION_FAILURE_INFO);
    failure->application_failure_info =
        TN_MSG(arena, temporal__api__failure__v1__application_failure_info);
    failure->application_failure_info->type = (char *)(uintptr_t) "CallError";
    failure->application_failure_info->non_retryable = non_retryable;
    return failure;
}

bool tn_nexus_retryable(const char *type, int32_t retry_behavior)
{
    static const char *const final[] = {"BAD_REQUEST", "UNAUTHENTICATED", "UNAUTHORIZED",
                                        "NOT_FOUND",   "CONFLICT",        "NOT_IMPLEMENTED"};

    if (retry_behavior == 1 || retry_behavior == 2)
        return retry_behavior == 1;
    for (size_t i = 0; i < TN_COUNT_OF(final); i++)
        if (strcmp(type, final[i]) == 0)
            return false;
    return true;
}

static failure_msg *operation_failure(tn_tx *tx, const tn_nexus_op *op, failure_msg *cause)
{
    failure_msg *failure = TN_MSG(tx->arena, temporal__api__failure__v1__failure);
    Temporal__Api__Failure__V1__NexusOperationFailureInfo *info =
        TN_MSG(tx->arena, temporal__api__failure__v1__nexus_operation_failure_info);

    failure->message = (char *)(uintptr_t) "nexus operation completed unsuccessfully";
    failure->failure_info_case = INFO(NEXUS_OPERATION_EXECUTION_FAILURE_INFO);
    failure->nexus_operation_execution_failure_info = info;
    info->scheduled_event_id = op->scheduled_id;
    info->endpoint = tn_tx_text(tx, tn_str_from(op->endpoint));
    info->service = tn_tx_text(tx, tn_str_from(op->service));
    info->operation = tn_tx_text(tx, tn_str_from(op->operation));
    info->operation_token = info->operation_id = tn_tx_text(tx, tn_str_from(op->token));
    failure->cause = cause;
    return failure;
}

/* ---- events ---------------------------------------------------------------------------------- */

#define FILL(attrs) \
    ((attrs)->scheduled_event_id = op->scheduled_id, \
     (attrs)->request_id = tn_tx_text(tx, tn_str_from(op->request_id)))

static void add_started(tn_tx *tx, const tn_nexus_op *op, const char *token, uint64_t at_ns,
                        size_t n_links, Temporal__Api__Common__V1__Link **links)
{
    tn_event *event = tn_tx_event(tx, 49);
    Temporal__Api__History__V1__NexusOperationStartedEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, NEXUS_OPERATION_STARTED, nexus_operation_started);

    FILL(a);
    a->operation_token = a->operation_id = tn_tx_text(tx, tn_str_from(token));
    event->n_links = n_links;
    event->links = links;
    if (at_ns)
        event->event_time = tn_ts_from_ns(tx->arena, (int64_t)at_ns);
    tn_tx_add(tx, event);
}

static void add_completed(tn_tx *tx, const tn_nexus_op *op,
                          Temporal__Api__Common__V1__Payload *result, size_t n_links,
                          Temporal__Api__Common__V1__Link **links)
{
    tn_event *event = tn_tx_event(tx, 50);
    Temporal__Api__History__V1__NexusOperationCompletedEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, NEXUS_OPERATION_COMPLETED, nexus_operation_completed);

    FILL(a);
    a->result = result;
    event->n_links = n_links;
    event->links = links;
    tn_tx_add(tx, event);
}

static void add_failed(tn_tx *tx, const tn_nexus_op *op, failure_msg *cause)
{
    tn_event *event = tn_tx_event(tx, 51);
    Temporal__Api__History__V1__NexusOperationFailedEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, NEXUS_OPERATION_FAILED, nexus_operation_failed);

    FILL(a);
    a->failure = operation_failure(tx, op, cause);
    tn_tx_add(tx, event);
}

/* Its cause is always a cancellation, whatever older SDKs say. */
static void add_canceled(tn_tx *tx, const tn_nexus_op *op, failure_msg *cause)
{
    tn_event *event = tn_tx_event(tx, 52);
    Temporal__Api__History__V1__NexusOperationCanceledEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, NEXUS_OPERATION_CANCELED, nexus_operation_canceled);
    failure_msg *canceled = cause;

    if (!cause || cause->failure_info_case != INFO(CANCELED_FAILURE_INFO)) {
        canceled = TN_MSG(tx->arena, temporal__api__failure__v1__failure);
        canceled->failure_info_case = INFO(CANCELED_FAILURE_INFO);
        canceled->canceled_failure_info =
            TN_MSG(tx->arena, temporal__api__failure__v1__canceled_failure_info);
        if (cause) {
            canceled->message = cause->message;
            canceled->stack_trace = cause->stack_trace;
            canceled->cause = cause->cause;
        }
    }
    FILL(a);
    a->failure = operation_failure(tx, op, canceled);
    tn_tx_add(tx, event);
}

static void add_timed_out(tn_tx *tx, const tn_nexus_op *op, int32_t timeout_type)
{
    tn_event *event = tn_tx_event(tx, 53);
    Temporal__Api__History__V1__NexusOperationTimedOutEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, NEXUS_OPERATION_TIMED_OUT, nexus_operation_timed_out);
    failure_msg *cause = TN_MSG(tx->arena, temporal__api__failure__v1__failure);

    cause->message = (char *)(uintptr_t) "operation timed out";
    cause->failure_info_case = INFO(TIMEOUT_FAILURE_INFO);
    cause->timeout_failure_info =
        TN_MSG(tx->arena, temporal__api__failure__v1__timeout_failure_info);
    cause->timeout_failure_info->timeout_type = (Temporal__Api__Enums__V1__TimeoutType)timeout_type;
    FILL(a);
    a->failure = operation_failure(tx, op, cause);
    tn_tx_add(tx, event);
}

/* ---- answers to a start request -------------------------------------------------------------- */

/* What an answer may not be: too long a token, too large a result.  NULL: it is fine. */
static const char *unfit(const tn_tx *tx, const tn_nexus_result *result)
{
    const tn_machine_limits *limits = tx->env->limits;
    size_t n = result->kind == TN_NEXUS_ASYNC && result->token ? strlen(result->token) : 0;

    if (limits->nexus_token_bytes_max > 0 && (int64_t)n > limits->nexus_token_bytes_max)
        return tn_arena_printf(tx->arena,
                               "invalid operation token: length exceeds allowed limit (%zu/%lld)",
                               n, (long long)limits->nexus_token_bytes_max);
    n = result->kind == TN_NEXUS_SYNC && result->payload
            ? protobuf_c_message_get_packed_size(&result->payload->base)
            : 0;
    if (limits->blob_bytes_max > 0 && (int64_t)n > limits->blob_bytes_max)
        return "http: response body too large";
    return NULL;
}

static void try_again(tn_tx *tx, tn_attempts *attempts, const failure_msg *failure)
{
    tn_attempts_note(tx, attempts, failure);
    attempts->next_ns =
        tx->now_ns + tn_attempts_backoff_ns(tx, attempts->count,
                                            tx->env->limits->nexus_backoff_initial_ns,
                                            tx->env->limits->nexus_backoff_max_ns);
}

const tn_fault *tn_machine_nexus_started(tn_tx *tx, int64_t scheduled_id,
                                         const tn_nexus_result *result)
{
    tn_nexus_op *op = tn_ms_running(tx->ms) ? tn_ms_nexus_op(tx->ms, scheduled_id) : NULL;
    const char *why = unfit(tx, result);

    if (!op || op->started_ns)
        return NULL; /* its completion, or a time-out, was here before */
    if (why) {
        add_failed(tx, op, tn_nexus_call_failure(tx->arena, why, true));
        tn_tx_schedule_wft(tx);
        return NULL;
    }
    switch (result->kind) {
    case TN_NEXUS_SYNC:
        add_completed(tx, op, result->payload, result->n_links, result->links);
        break;
    case TN_NEXUS_ASYNC:
        tn_attempts_note(tx, &op->attempts, NULL);
        add_started(tx, op, result->token, 0, result->n_links, result->links);
        break;
    case TN_NEXUS_FAILED:
    case TN_NEXUS_REFUSED:
        add_failed(tx, op, result->failure);
        break;
    case TN_NEXUS_CANCELED:
        add_canceled(tx, op, result->failure);
        break;
    case TN_NEXUS_TOO_LATE:
        add_timed_out(tx, op, result->timeout_type);
        break;
    default:
        try_again(tx, &op->attempts, result->failure);
        return NULL;
    }
    tn_tx_schedule_wft(tx);
    return NULL;
}

/* ---- answers to a cancel request ------------------------------------------------------------- */

const tn_fault *tn_machine_nexus_cancel_answered(tn_tx *tx, int64_t scheduled_id,
                                                 const tn_nexus_result *result)
{
    tn_nexus_op *op = tn_ms_running(tx->ms) ? tn_ms_nexus_op(tx->ms, scheduled_id) : NULL;
    tn_event *event;

    if (!op || op->cancel_done || !op->cancel_requested_id)
        return NULL;
    if (result->kind == TN_NEXUS_AGAIN) {
        try_again(tx, &op->cancel_attempts, result->failure);
        return NULL;
    }
    tn_attempts_note(tx, &op->cancel_attempts,
                     result->kind == TN_NEXUS_CANCEL_OK ? NULL : result->failure);
    if (result->kind == TN_NEXUS_CANCEL_OK) {
        Temporal__Api__History__V1__NexusOperationCancelRequestCompletedEventAttributes *a;

        event = tn_tx_event(tx, 56);
        a = TN_EVENT_ATTRS(tx, event, NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED,
                           nexus_operation_cancel_request_completed);
        a->scheduled_event_id = op->scheduled_id;
        a->requested_event_id = op->cancel_requested_id;
    } else {
        Temporal__Api__History__V1__NexusOperationCancelRequestFailedEventAttributes *a;

        event = tn_tx_event(tx, 57);
        a = TN_EVENT_ATTRS(tx, event, NEXUS_OPERATION_CANCEL_REQUEST_FAILED,
                           nexus_operation_cancel_request_failed);
        a->scheduled_event_id = op->scheduled_id;
        a->requested_event_id = op->cancel_requested_id;
        a->failure = result->failure;
    }
    event->worker_may_ignore = true;
    tn_tx_add(tx, event);
    tn_tx_schedule_wft(tx);
    return NULL;
}

/* ---- completions ----------------------------------------------------------------------------- */

static const tn_fault *malformed(tn_tx *tx, const char *what)
{
    return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, "Malformed %s", what);
}

static Temporal__Api__Common__V1__Link **links_of(tn_tx *tx, const Tenon__NexusCompletion *from,
                                                  size_t *out_n)
{
    Temporal__Api__Common__V1__Link **links =
        tn_tx_alloc(tx, (from->n_links + 1) * sizeof(links[0]));

    *out_n = 0;
    for (size_t i = 0; i < from->n_links; i++)
        if (TN_PROTO_UNPACK(temporal__api__common__v1__link,
                            ((tn_blob){from->links[i].data, from->links[i].len}), tx->arena,
                            &links[*out_n], NULL) == TN_OK)
            ++*out_n;
    return links;
}

const tn_fault *tn_machine_nexus_completed(tn_tx *tx, const Tenon__NexusCompletion *from)
{
    Temporal__Api__Common__V1__Payload *payload = NULL;
    failure_msg *failure = NULL;
    tn_nexus_op *op;
    size_t n_links;
    Temporal__Api__Common__V1__Link **links;

    if (!tn_ms_running(tx->ms))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "workflow execution already completed");
    op = tn_ms_nexus_op(tx->ms, from->scheduled_id);
    if (!op || (*from->request_id && strcmp(from->request_id, op->request_id) != 0))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "operation not found");
    if (from->unsuccessful && TN_PROTO_UNPACK(temporal__api__failure__v1__failure,
                                              ((tn_blob){from->failure.data, from->failure.len}),
                                              tx->arena, &failure, NULL) != TN_OK)
        return malformed(tx, "failure");
    if (from->has_payload && TN_PROTO_UNPACK(temporal__api__common__v1__payload,
                                             ((tn_blob){from->payload.data, from->payload.len}),
                                             tx->arena, &payload, NULL) != TN_OK)
        return malformed(tx, "payload");
    if (!op->started_ns) {
        links = links_of(tx, from, &n_links);
        add_started(tx, op, from->token, from->start_ns, n_links, links);
    }
    if (!from->unsuccessful)
        add_completed(tx, op, payload, 0, NULL);
    else if (from->canceled)
        add_canceled(tx, op, failure);
    else
        add_failed(tx, op, failure);
    tn_tx_schedule_wft(tx);
    return NULL;
}

/* ---- time ------------------------------------------------------------------------------------ */

bool tn_fire_nexus(tn_tx *tx)
{
    tn_ms *ms = tx->ms;
    bool fired = false;

    if (!ms->nexus)
        return false;
    TN_LIST_FOREACH_SAFE (link, &ms->nexus->ops) {
        tn_nexus_op *op = TN_CONTAINER_OF(link, tn_nexus_op, link);
        int32_t type = op->closing ? 0 : tn_nexus_op_timed_out(op, tx->now_ns);

        if (!type)
            continue;
        add_timed_out(tx, op, type);
        fired = true;
    }
    return fired;
}

/* ---- describing ------------------------------------------------------------------------------ */

static Temporal__Api__Workflow__V1__NexusOperationCancellationInfo *cancellation(
    const tn_nexus_op *op, tn_arena *arena, uint64_t now_ns)
{
    Temporal__Api__Workflow__V1__NexusOperationCancellationInfo *to;
    const tn_attempts *attempts = &op->cancel_attempts;
    int32_t state = 0; /* it waits for the start */

    if (!op->cancel_requested_id)
        return NULL;
    to = TN_MSG(arena, temporal__api__workflow__v1__nexus_operation_cancellation_info);
    if (op->cancel_done)
        state = op->cancel_failed ? 4 : 3;
    else if (op->started_ns)
        state = attempts->next_ns > now_ns ? 2 : 1;
    if (op->started_ns)
        to->requested_time = tn_ts_from_ns(arena, (int64_t)op->cancel_requested_ns);
    to->state = (Temporal__Api__Enums__V1__NexusOperationCancellationState)state;
    to->attempt = attempts->count;
    if (attempts->last_ns)
        to->last_attempt_complete_time = tn_ts_from_ns(arena, (int64_t)attempts->last_ns);
    to->last_attempt_failure = tn_attempts_failure(attempts, arena);
    if (attempts->next_ns > now_ns && !op->cancel_done)
        to->next_attempt_schedule_time = tn_ts_from_ns(arena, (int64_t)attempts->next_ns);
    return to;
}

static Temporal__Api__Workflow__V1__PendingNexusOperationInfo *pending(const tn_nexus_op *op,
                                                                       tn_arena *arena,
                                                                       uint64_t now_ns)
{
    Temporal__Api__Workflow__V1__PendingNexusOperationInfo *to =
        TN_MSG(arena, temporal__api__workflow__v1__pending_nexus_operation_info);
    Temporal__Api__History__V1__NexusOperationScheduledEventAttributes *a;
    bool backing_off = !op->started_ns && op->attempts.next_ns > now_ns;

    TN_ASSERT(
        TN_PROTO_UNPACK(temporal__api__history__v1__nexus_operation_scheduled_event_attributes,
                        op->attrs, arena, &a, NULL) == TN_OK);
    to->endpoint = op->endpoint;
    to->service = op->service;
    to->operation = op->operation;
    if (op->token)
        to->operation_id = to->operation_token = op->token;
    to->scheduled_event_id = op->scheduled_id;
    to->schedule_to_close_timeout = a->schedule_to_close_timeout;
    to->schedule_to_start_timeout = a->schedule_to_start_timeout;
    to->start_to_close_timeout = a->start_to_close_timeout;
    to->scheduled_time = tn_ts_from_ns(arena, (int64_t)op->scheduled_ns);
    to->state = op->started_ns ? 3 : backing_off ? 2 : 1;
    to->attempt = op->attempts.count;
    if (op->attempts.last_ns)
        to->last_attempt_complete_time = tn_ts_from_ns(arena, (int64_t)op->attempts.last_ns);
    to->last_attempt_failure = tn_attempts_failure(&op->attempts, arena);
    if (backing_off)
        to->next_attempt_schedule_time = tn_ts_from_ns(arena, (int64_t)op->attempts.next_ns);
    to->cancellation_info = cancellation(op, arena, now_ns);
    return to;
}

void tn_describe_nexus(const tn_ms *ms, tn_arena *arena, uint64_t now_ns,
                       Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out)
{
    if (!ms->nexus || !ms->nexus->n_ops)
        return;
    out->pending_nexus_operations =
        tn_arena_array(arena, ms->nexus->n_ops, sizeof(out->pending_nexus_operations[0]));
    TN_ASSERT(out->pending_nexus_operations);
    TN_LIST_FOREACH (link, &ms->nexus->ops) {
        const tn_nexus_op *op = TN_CONTAINER_OF(link, tn_nexus_op, link);

        if (!op->closing)
            out->pending_nexus_operations[out->n_pending_nexus_operations++] =
                pending(op, arena, now_ns);
    }
}
