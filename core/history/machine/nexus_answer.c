/* SPDX-License-Identifier: MIT */
/* What a worker answered to a Nexus task, in the words of the operation's run: a result, a token, a failure
 * for good, or one that is worth another try. */
#include <string.h>

#include "history/machine/nexus.h"
#include "history/machine/parts.h"
#include "proto/proto.h"

typedef Temporal__Api__Failure__V1__Failure failure_msg;

#define INFO(UPPER) TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_##UPPER

static tn_blob blob(ProtobufCBinaryData b) { return (tn_blob){b.data, b.len}; }

static void handler_error(tn_arena *arena, const char *type, const char *message,
                          tn_nexus_result *out)
{
    out->failure = tn_nexus_handler_failure(arena, type, message);
    out->kind = tn_nexus_retryable(type, 0) ? TN_NEXUS_AGAIN : TN_NEXUS_REFUSED;
}

/* ---- answers to a start ---------------------------------------------------------------------- */

static void take_links(tn_arena *arena, size_t n, Temporal__Api__Nexus__V1__Link *const *links,
                       tn_nexus_result *out)
{
    out->links = tn_arena_array(arena, n + 1, sizeof(out->links[0]));
    TN_ASSERT(out->links);
    for (size_t i = 0; i < n; i++) {
        Temporal__Api__Common__V1__Link *link =
            tn_nexus_link_parse(arena, links[i]->url, links[i]->type);

        if (link)
            out->links[out->n_links++] = link;
    }
}

static void take_start(tn_arena *arena, Temporal__Api__Nexus__V1__StartOperationResponse *from,
                       tn_nexus_words *words, tn_nexus_result *out)
{
    switch ((int)from->variant_case) {
    case TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_SYNC_SUCCESS:
        out->kind = TN_NEXUS_SYNC;
        out->payload = from->sync_success->payload;
        take_links(arena, from->sync_success->n_links, from->sync_success->links, out);
        return;
    case TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_ASYNC_SUCCESS:
        out->kind = TN_NEXUS_ASYNC;
        out->token = *from->async_success->operation_token ? from->async_success->operation_token
                                                           : from->async_success->operation_id;
        take_links(arena, from->async_success->n_links, from->async_success->links, out);
        return;
    case TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_OPERATION_ERROR:
        out->kind = strcmp(from->operation_error->operation_state, "canceled") == 0
                        ? TN_NEXUS_CANCELED
                        : TN_NEXUS_FAILED;
        out->failure = words(arena, from->operation_error->failure);
        return;
    case TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_FAILURE:
        out->failure = from->failure;
        out->kind = from->failure->failure_info_case == INFO(CANCELED_FAILURE_INFO)
                        ? TN_NEXUS_CANCELED
                        : TN_NEXUS_FAILED;
        return;
    default:
        handler_error(arena, "INTERNAL", "empty outcome", out);
        return;
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void take_response(tn_arena *arena, tn_blob packed, bool cancel, tn_nexus_words *words,
                          tn_nexus_result *out)
{
    Temporal__Api__Nexus__V1__Response *response;

    if (TN_PROTO_UNPACK(temporal__api__nexus__v1__response, packed, arena, &response, NULL) !=
        TN_OK)
        handler_error(arena, "INTERNAL", "empty outcome", out);
    else if (cancel)
        out->kind = TN_NEXUS_CANCEL_OK;
    else if (response->variant_case == TEMPORAL__API__NEXUS__V1__RESPONSE__VARIANT_START_OPERATION)
        take_start(arena, response->start_operation, words, out);
    else
        handler_error(arena, "INTERNAL", "empty outcome", out);
}

static void take_handler_failure(tn_arena *arena, failure_msg *from, tn_nexus_result *out)
{
    const Temporal__Api__Failure__V1__NexusHandlerFailureInfo *info =
        from->failure_info_case == INFO(NEXUS_HANDLER_FAILURE_INFO)
            ? from->nexus_handler_failure_info
            : NULL;

    if (!info) {
        handler_error(arena, "INTERNAL", "internal error", out);
        return;
    }
    from->source = (char *)(uintptr_t) ""; /* it does not travel */
    out->failure = from;
    out->kind = tn_nexus_retryable(info->type, (int32_t)info->retry_behavior) ? TN_NEXUS_AGAIN
                                                                              : TN_NEXUS_REFUSED;
}

static void take_handler_error(tn_arena *arena, const Temporal__Api__Nexus__V1__HandlerError *from,
                               tn_nexus_words *words, tn_nexus_result *out)
{
    out->failure = tn_nexus_handler_failure(arena, from->error_type, "");
    out->failure->nexus_handler_failure_info->retry_behavior = from->retry_behavior;
    out->failure->cause = words(arena, from->failure);
    out->kind = tn_nexus_retryable(from->error_type, (int32_t)from->retry_behavior)
                    ? TN_NEXUS_AGAIN
                    : TN_NEXUS_REFUSED;
}

void tn_nexus_answer(tn_arena *arena, const Tenon__NexusOutcome *outcome, bool cancel,
                     tn_nexus_words *words, tn_nexus_result *out)
{
    Temporal__Api__Nexus__V1__HandlerError *error;
    failure_msg *failure;

    *out = (tn_nexus_result){.kind = TN_NEXUS_AGAIN};
    if (outcome->timed_out)
        handler_error(arena, "UPSTREAM_TIMEOUT", "upstream timeout", out);
    else if (outcome->responded)
        take_response(arena, blob(outcome->response), cancel, words, out);
    else if (outcome->handler_error.len &&
             TN_PROTO_UNPACK(temporal__api__nexus__v1__handler_error, blob(outcome->handler_error),
                             arena, &error, NULL) == TN_OK)
        take_handler_error(arena, error, words, out);
    else if (TN_PROTO_UNPACK(temporal__api__failure__v1__failure, blob(outcome->failure), arena,
                             &failure, NULL) == TN_OK)
        take_handler_failure(arena, failure, out);
    else
        handler_error(arena, "INTERNAL", "internal error", out);
}
