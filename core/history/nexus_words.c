/* SPDX-License-Identifier: MIT */
/* Failures as Nexus writes them - a message, text about it, details in JSON - and as workflows know them.  Older SDKs
 * answer so, and all that comes over HTTP: a kind that we know is read again from its details, any other one becomes a
 * failure of the application that holds them. */
#include <stdlib.h>

#include "history/machine/command.h"
#include "history/nexus.h"
#include "http/client.h"
#include "http/json.h"

#define TEMPORAL_FAILURE "temporal.api.failure.v1.Failure"
#define CAUSES_MAX 80
#define INFO(UPPER) TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_##UPPER

typedef Temporal__Api__Failure__V1__Failure failure_msg;
typedef Temporal__Api__Nexus__V1__Failure nexus_failure;
typedef Temporal__Api__Nexus__V1__Failure__MetadataEntry metadata_entry;

static tn_str details_of(const nexus_failure *from)
{
    return (tn_str){(const char *)from->details.data, from->details.len};
}

static const char *type_of(const nexus_failure *from)
{
    for (size_t i = 0; i < from->n_metadata; i++)
        if (strcmp(from->metadata[i]->key, "type") == 0)
            return from->metadata[i]->value;
    return "";
}

/* ---- kinds that we know ---------------------------------------------------------------------- */

static failure_msg *temporal_failure(tn_arena *arena, const nexus_failure *from)
{
    return (failure_msg *)(void *)tn_http_json_message(
        &temporal__api__failure__v1__failure__descriptor,
        /* a cause beside it goes before one in it */
        details_of(from), arena);
}

static failure_msg *operation_error(tn_arena *arena, const tn_json_tape *tape)
{
    failure_msg *to = TN_MSG(arena, temporal__api__failure__v1__failure);
    if (strcmp(tn_nexus_json_text(tape, 0, "state", arena), "canceled") == 0) {
        to->failure_info_case = INFO(CANCELED_FAILURE_INFO);
        to->canceled_failure_info =
            TN_MSG(arena, temporal__api__failure__v1__canceled_failure_info);
        return to;
    }
    to->failure_info_case = INFO(APPLICATION_FAILURE_INFO);
    to->application_failure_info =
        TN_MSG(arena, temporal__api__failure__v1__application_failure_info);
    to->application_failure_info->type = tn_arena_strdup(arena, "OperationError");
    to->application_failure_info->non_retryable = true;
    return to;
}

static failure_msg *handler_error(tn_arena *arena, const tn_json_tape *tape)
{
    uint32_t again = tn_json_member(tape, 0, TN_STR("retryableOverride"));
    failure_msg *to =
        tn_nexus_handler_failure(arena, tn_nexus_json_text(tape, 0, "type", arena), "");
    if (again && tape->nodes[again].kind == TN_JSON_TRUE)
        to->nexus_handler_failure_info->retry_behavior =
            TEMPORAL__API__ENUMS__V1__NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR__NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE;
    else if (again && tape->nodes[again].kind == TN_JSON_FALSE)
        to->nexus_handler_failure_info->retry_behavior =
            TEMPORAL__API__ENUMS__V1__NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR__NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE;
    return to;
}

/* NULL: none that we know, or not well made. */
static failure_msg *known(tn_arena *arena, const nexus_failure *from)
{
    const char *type = type_of(from);
    bool operation = strcmp(type, "nexus.OperationError") == 0;
    failure_msg *to = NULL;
    tn_json_tape tape;
    if (strcmp(type, TEMPORAL_FAILURE) == 0)
        return temporal_failure(arena, from);
    if (!operation && strcmp(type, "nexus.HandlerError") != 0)
        return NULL;
    if (tn_json_tape_read(&tape, details_of(from)) && tape.nodes[0].kind == TN_JSON_OBJECT)
        to = operation ? operation_error(arena, &tape) : handler_error(arena, &tape);
    tn_json_tape_done(&tape);
    return to;
}

/* ---- any other ------------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    return strcmp((*(metadata_entry *const *)a)->key, (*(metadata_entry *const *)b)->key);
}

static void put_text(tn_buf *out, const char *name, const char *text)
{
    if (!*text)
        return;
    tn_buf_printf(out, "%s\"%s\":", out->p[out->n - 1] == '{' ? "" : ",", name);
    tn_json_put_string(out, tn_str_from(text));
}

static void put_about(tn_arena *arena, tn_buf *out, const nexus_failure *from)
{
    metadata_entry **sorted = TN_NEW_ARRAY(arena, metadata_entry *, from->n_metadata + 1);
    tn_json_tape tape;
    for (size_t i = 0; i < from->n_metadata; i++)
        sorted[i] = from->metadata[i];
    qsort(sorted, from->n_metadata, sizeof(*sorted), by_key);
    for (size_t i = 0; i < from->n_metadata; i++) {
        tn_buf_printf(out, i                           ? ","
                           : out->p[out->n - 1] == '{' ? "\"metadata\":{"
                                                       : ",\"metadata\":{");
        tn_json_put_string(out, tn_str_from(sorted[i]->key));
        tn_buf_printf(out, ":");
        tn_json_put_string(out, tn_str_from(sorted[i]->value));
    }
    if (from->n_metadata)
        tn_buf_printf(out, "}");
    if (!from->details.len)
        return;
    tn_buf_printf(out, out->p[out->n - 1] == '{' ? "\"details\":" : ",\"details\":");
    if (tn_json_tape_read(&tape, details_of(from)))
        tn_json_put_node(out, &tape, 0, -1, 0, TN_STR(""));
    else
        tn_json_put_string(out, details_of(from)); /* no JSON: a text */
    tn_json_tape_done(&tape);
}

/* whole: with the message and the stack, which have places of their own in a failure that holds the rest. */
static tn_blob json_of(tn_arena *arena, const nexus_failure *from, bool whole)
{
    tn_buf out = {0};
    int open = 1;
    tn_buf_printf(&out, "{");
    if (whole) {
        put_text(&out, "message", from->message);
        put_text(&out, "stackTrace", from->stack_trace);
    }
    put_about(arena, &out, from);
    for (from = from->cause; from && open < CAUSES_MAX; from = from->cause, open++) {
        tn_buf_printf(&out, "%s\"cause\":{", out.p[out.n - 1] == '{' ? "" : ",");
        put_text(&out, "message", from->message);
        put_text(&out, "stackTrace", from->stack_trace);
        put_about(arena, &out, from);
    }
    while (open--)
        tn_buf_printf(&out, "}");
    tn_blob kept = tn_arena_blob(arena, tn_buf_blob(&out));
    tn_buf_done(&out);
    return kept;
}

static failure_msg *unknown(tn_arena *arena, const nexus_failure *from)
{
    failure_msg *to = TN_MSG(arena, temporal__api__failure__v1__failure);
    if (!from->n_metadata && !from->details.len)
        return to;
    Temporal__Api__Failure__V1__ApplicationFailureInfo *info =
        TN_MSG(arena, temporal__api__failure__v1__application_failure_info);
    Temporal__Api__Common__V1__Payload *payload = TN_MSG(arena, temporal__api__common__v1__payload);
    Temporal__Api__Common__V1__Payload__MetadataEntry *encoding =
        TN_MSG(arena, temporal__api__common__v1__payload__metadata_entry);
    to->failure_info_case = INFO(APPLICATION_FAILURE_INFO);
    to->application_failure_info = info;
    info->type = tn_arena_strdup(arena, "NexusFailure");
    info->details = TN_MSG(arena, temporal__api__common__v1__payloads);
    info->details->payloads = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload *, 1);
    info->details->payloads[info->details->n_payloads++] = payload;
    payload->metadata = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload__MetadataEntry *, 1);
    payload->metadata[payload->n_metadata++] = encoding;
    encoding->key = tn_arena_strdup(arena, "encoding");
    encoding->value = (ProtobufCBinaryData){10, (uint8_t *)(uintptr_t) "json/plain"};
    tn_blob rest = json_of(arena, from, false);
    payload->data = (ProtobufCBinaryData){rest.n, (uint8_t *)(uintptr_t)rest.p};
    return to;
}

failure_msg *tn_nexus_failure_of(tn_arena *arena, const nexus_failure *from)
{
    failure_msg *first = NULL, **at = &first;
    for (int i = 0; from && i < CAUSES_MAX; i++, from = from->cause) {
        failure_msg *one = known(arena, from);
        *at = one ? one : unknown(arena, from);
        (*at)->message = from->message;
        (*at)->stack_trace = from->stack_trace;
        at = &(*at)->cause;
    }
    return first;
}

/* ---- the other way --------------------------------------------------------------------------- */

tn_blob tn_nexus_words_json(tn_arena *arena, const nexus_failure *from)
{
    return json_of(arena, from, true);
}

void tn_nexus_words_note(tn_arena *arena, nexus_failure *to, const char *key, const char *value)
{
    metadata_entry **more = TN_NEW_ARRAY(arena, metadata_entry *, to->n_metadata + 1);
    for (size_t i = 0; i < to->n_metadata; i++)
        more[i] = to->metadata[i];
    to->metadata = more;
    more[to->n_metadata] = TN_MSG(arena, temporal__api__nexus__v1__failure__metadata_entry);
    more[to->n_metadata]->key = tn_arena_strdup(arena, key);
    more[to->n_metadata++]->value = tn_arena_strdup(arena, value);
}

nexus_failure *tn_nexus_words_make(tn_arena *arena, const char *message, const char *type,
                                   const char *details)
{
    nexus_failure *to = TN_MSG(arena, temporal__api__nexus__v1__failure);
    to->message = tn_arena_strdup(arena, message);
    to->details = (ProtobufCBinaryData){strlen(details), (uint8_t *)(uintptr_t)details};
    tn_nexus_words_note(arena, to, "type", type);
    return to;
}

static const char *handler_details(tn_arena *arena, const failure_msg *from)
{
    const Temporal__Api__Failure__V1__NexusHandlerFailureInfo *info =
        from->nexus_handler_failure_info;
    tn_buf out = {0};
    tn_buf_printf(&out, "{");
    put_text(&out, "type", info->type);
    if (info->retry_behavior)
        tn_buf_printf(&out, "%s\"retryableOverride\":%s", out.p[out.n - 1] == '{' ? "" : ",",
                      (int)info->retry_behavior == TN_NEXUS_RETRY_YES ? "true" : "false");
    tn_buf_printf(&out, "}");
    const char *kept = tn_arena_printf(arena, "%.*s", (int)out.n, (const char *)out.p);
    tn_buf_done(&out);
    return kept;
}

/* Of the one failure alone: its message, its stack and its cause have places of their own. */
static const char *failure_details(tn_arena *arena, const failure_msg *from)
{
    static char none[] = "";
    failure_msg alone = *from;
    tn_buf out = {0};
    alone.message = alone.stack_trace = none;
    alone.cause = NULL;
    tn_http_json_put(&alone.base, arena, &out);
    const char *kept = tn_arena_printf(arena, "%.*s", (int)out.n, (const char *)out.p);
    tn_buf_done(&out);
    return kept;
}

nexus_failure *tn_nexus_words_of(tn_arena *arena, const failure_msg *from)
{
    nexus_failure *first = NULL, **at = &first;
    for (int i = 0; from && i < CAUSES_MAX; i++, from = from->cause) {
        bool handler = from->failure_info_case == INFO(NEXUS_HANDLER_FAILURE_INFO);
        *at = tn_nexus_words_make(
            arena, from->message, handler ? "nexus.HandlerError" : TEMPORAL_FAILURE,
            handler ? handler_details(arena, from) : failure_details(arena, from));
        (*at)->stack_trace = from->stack_trace;
        at = &(*at)->cause;
    }
    return first;
}
