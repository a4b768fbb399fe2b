/* SPDX-License-Identifier: MIT */
/* The close event as older clients understand it: one that does not say that it follows the next run of a chain
 * by itself (header supported-features: the Java SDK is one of them) would take the failure of a run that is
 * tried again for the end.  It is shown a continue-as-new instead, which every client follows. */
#include "history/priv.h"

#include "proto/proto.h"

#define FEATURE "follows-next-run-id"
#define TIMEOUT_START_TO_CLOSE 1

typedef Temporal__Api__History__V1__WorkflowExecutionContinuedAsNewEventAttributes continued_attrs;

static bool client_follows(const tn_hreq *req)
{
    if (!req->call)
        return true;
    tn_str features = tn_call_header(req->call, "supported-features");
    size_t wanted = sizeof(FEATURE) - 1;
    for (size_t i = 0; i + wanted <= features.n; i++)
        if (memcmp(features.p + i, FEATURE, wanted) == 0)
            return true;
    return false;
}

static bool set(const char *text) { return text && *text; }

static Temporal__Api__Failure__V1__Failure *timed_out(tn_arena *arena)
{
    Temporal__Api__Failure__V1__Failure *failure = tn_arena_alloc(arena, sizeof(*failure));
    temporal__api__failure__v1__failure__init(failure);
    Temporal__Api__Failure__V1__TimeoutFailureInfo *info = tn_arena_alloc(arena, sizeof(*info));
    temporal__api__failure__v1__timeout_failure_info__init(info);
    info->timeout_type = (Temporal__Api__Enums__V1__TimeoutType)TIMEOUT_START_TO_CLOSE;
    failure->message = (char *)"workflow timeout";
    failure->source = (char *)"Server";
    failure->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TIMEOUT_FAILURE_INFO;
    failure->timeout_failure_info = info;
    return failure;
}

/* The next run and how this one ended; false when no run follows. */
static bool next_run(tn_arena *arena, const Temporal__Api__History__V1__HistoryEvent *event,
                     continued_attrs *out)
{
    switch (event->attributes_case) {
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_COMPLETED_EVENT_ATTRIBUTES:
        out->new_execution_run_id =
            event->workflow_execution_completed_event_attributes->new_execution_run_id;
        out->last_completion_result = event->workflow_execution_completed_event_attributes->result;
        break;
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_FAILED_EVENT_ATTRIBUTES:
        out->new_execution_run_id =
            event->workflow_execution_failed_event_attributes->new_execution_run_id;
        out->failure = event->workflow_execution_failed_event_attributes->failure;
        break;
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_TIMED_OUT_EVENT_ATTRIBUTES:
        out->new_execution_run_id =
            event->workflow_execution_timed_out_event_attributes->new_execution_run_id;
        out->failure = timed_out(arena);
        break;
    default:
        return false;
    }
    return set(out->new_execution_run_id);
}

tn_blob tn_close_event_for_client(const tn_hreq *req, tn_blob body)
{
    if (!body.n || client_follows(req))
        return body;
    ProtobufCMessage *unpacked = NULL;
    tn_error err;
    tn_status status = tn_proto_unpack(&temporal__api__history__v1__history__descriptor, body,
                                       req->arena, &unpacked, &err);
    TN_ASSERT(status == TN_OK); /* our own bytes */
    const Temporal__Api__History__V1__History *history =
        (const Temporal__Api__History__V1__History *)unpacked;
    if (history->n_events == 0)
        return body;
    Temporal__Api__History__V1__HistoryEvent *event = history->events[history->n_events - 1];
    continued_attrs *attrs = tn_arena_alloc(req->arena, sizeof(*attrs));
    temporal__api__history__v1__workflow_execution_continued_as_new_event_attributes__init(attrs);
    if (!next_run(req->arena, event, attrs))
        return body;
    event->event_type =
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW;
    event->attributes_case =
        TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_CONTINUED_AS_NEW_EVENT_ATTRIBUTES;
    event->workflow_execution_continued_as_new_event_attributes = attrs;
    tn_blob packed = {NULL, 0};
    status = tn_proto_pack(unpacked, req->arena, &packed);
    return status == TN_OK ? packed : body;
}
