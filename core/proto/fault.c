/* SPDX-License-Identifier: MIT */
/* Faults: what a caller is told, and its form as google.rpc.Status for the trailers. */
#include "proto/fault.h"

#include <stdio.h>
#include <string.h>

#include "google/protobuf/any.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "temporal/api/failure/v1/message.pb-c.h"

#define MESSAGE_BYTES_MAX 4000

static const tn_fault out_of_memory = {
    .code = TN_GRPC_RESOURCE_EXHAUSTED,
    .message = {"the request needs more memory than it may take", 46},
};

/* The longest prefix of at most `max` bytes that ends between two characters. */
static size_t utf8_cut(const char *s, size_t n, size_t max)
{
    if (n <= max)
        return n;
    while (max > 0 && ((unsigned char)s[max] & 0xc0) == 0x80)
        max--;
    return max;
}

TN_PRINTF(3, 0)
static tn_fault *make(tn_arena *arena, tn_grpc_code code, const char *fmt, va_list args)
{
    tn_fault *fault = TN_NEW(arena, tn_fault);
    char text[MESSAGE_BYTES_MAX + 4];
    char *copy;
    size_t n;
    int written;

    if (!fault)
        return NULL;
    written = vsnprintf(text, sizeof(text), fmt, args);
    n = written < 0 ? 0 : utf8_cut(text, (size_t)written, MESSAGE_BYTES_MAX);
    copy = tn_arena_alloc(arena, n + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, n);
    copy[n] = '\0';
    fault->code = code;
    fault->message = (tn_str){copy, n};
    return fault;
}

const tn_fault *tn_fault_make(tn_arena *arena, tn_grpc_code code, const char *fmt, ...)
{
    tn_fault *fault;
    va_list args;

    va_start(args, fmt);
    fault = make(arena, code, fmt, args);
    va_end(args);
    if (!fault)
        return &out_of_memory;
    /* What is not there is told with an (empty) detail, by which SDKs know it from a proxy's NOT_FOUND. */
    if (code == TN_GRPC_NOT_FOUND)
        fault->detail_type = TN_STR("temporal.api.errordetails.v1.NotFoundFailure");
    return fault;
}

static const tn_fault *add_detail(tn_arena *arena, tn_fault *fault, const ProtobufCMessage *detail)
{
    if (!fault || tn_proto_pack(detail, arena, &fault->detail) != TN_OK)
        return &out_of_memory;
    fault->detail_type = tn_str_from(detail->descriptor->name);
    return fault;
}

const tn_fault *tn_fault_detailed(tn_arena *arena, tn_grpc_code code,
                                  const ProtobufCMessage *detail, const char *fmt, ...)
{
    tn_fault *fault;
    va_list args;

    va_start(args, fmt);
    fault = make(arena, code, fmt, args);
    va_end(args);
    return add_detail(arena, fault, detail);
}

const tn_fault *tn_fault_copy(tn_arena *arena, const tn_fault *fault)
{
    tn_fault *copy;

    if (fault == &out_of_memory)
        return fault;
    copy = TN_NEW(arena, tn_fault);
    if (!copy)
        return &out_of_memory;
    copy->code = fault->code;
    copy->message = tn_arena_str(arena, fault->message);
    copy->detail_type = tn_arena_str(arena, fault->detail_type);
    copy->detail = tn_arena_blob(arena, fault->detail);
    if ((fault->message.n && !copy->message.p) || (fault->detail_type.n && !copy->detail_type.p) ||
        (fault->detail.n && !copy->detail.p))
        return &out_of_memory;
    return copy;
}

/* false: out of memory */
static bool fill_any(tn_arena *arena, const tn_fault *fault, Google__Protobuf__Any *any)
{
    static const char prefix[] = "type.googleapis.com/";
    char *url = tn_arena_alloc(arena, sizeof(prefix) + fault->detail_type.n);

    if (!url)
        return false;
    memcpy(url, prefix, sizeof(prefix) - 1);
    memcpy(url + sizeof(prefix) - 1, fault->detail_type.p, fault->detail_type.n);
    url[sizeof(prefix) - 1 + fault->detail_type.n] = '\0';
    any->type_url = url;
    any->value.data = (uint8_t *)(uintptr_t)fault->detail.p;
    any->value.len = fault->detail.n;
    return true;
}

tn_blob tn_fault_status_details(tn_arena *arena, const tn_fault *fault)
{
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    Google__Protobuf__Any *details[] = {&any};
    char *message;
    tn_blob bytes = {NULL, 0};

    if (fault->detail_type.n == 0)
        return bytes;
    message = tn_arena_alloc(arena, fault->message.n + 1);
    if (!message || !fill_any(arena, fault, &any))
        return bytes;
    if (fault->message.n)
        memcpy(message, fault->message.p, fault->message.n);
    message[fault->message.n] = '\0';
    status.code = (int32_t)fault->code;
    status.message = message;
    status.n_details = 1;
    status.details = details;
    if (tn_proto_pack(&status.base, arena, &bytes) != TN_OK)
        return (tn_blob){NULL, 0};
    return bytes;
}

/* The code a client gets for a status of the lower rooms; what surely did not happen and may be tried
 * again is UNAVAILABLE, which every SDK retries by itself. */
static tn_grpc_code code_of(tn_status status)
{
    switch (status) {
    case TN_OK:
        return TN_GRPC_OK;
    case TN_ENOTFOUND:
        return TN_GRPC_NOT_FOUND;
    case TN_EINVALID:
        return TN_GRPC_INVALID_ARGUMENT;
    case TN_ETOOLARGE:
    case TN_ETHROTTLED:
        return TN_GRPC_RESOURCE_EXHAUSTED;
    case TN_ECONFLICT:
    case TN_EFENCED:
    case TN_EUNAVAILABLE:
    case TN_EUNCERTAIN:
        return TN_GRPC_UNAVAILABLE;
    case TN_EDENIED:
        return TN_GRPC_PERMISSION_DENIED;
    case TN_ECANCELLED:
        return TN_GRPC_CANCELLED;
    case TN_EDATALOSS:
        return TN_GRPC_DATA_LOSS;
    default:
        return TN_GRPC_INTERNAL;
    }
}

const tn_fault *tn_fault_from_status(tn_arena *arena, tn_status status, const tn_error *err)
{
    if (err && err->text[0])
        return tn_fault_make(arena, code_of(status), "%s", err->text);
    return tn_fault_make(arena, code_of(status), "%s", tn_status_name(status));
}

const tn_fault *tn_fault_exhausted(tn_arena *arena, int32_t cause, int32_t scope, const char *fmt,
                                   ...)
{
    Temporal__Api__Errordetails__V1__ResourceExhaustedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__RESOURCE_EXHAUSTED_FAILURE__INIT;
    tn_fault *fault;
    va_list args;

    detail.cause = (Temporal__Api__Enums__V1__ResourceExhaustedCause)cause;
    detail.scope = (Temporal__Api__Enums__V1__ResourceExhaustedScope)scope;
    va_start(args, fmt);
    fault = make(arena, TN_GRPC_RESOURCE_EXHAUSTED, fmt, args);
    va_end(args);
    return add_detail(arena, fault, &detail.base);
}

/* ---- several operations ---------------------------------------------------------------------- */

typedef Temporal__Api__Errordetails__V1__MultiOperationExecutionFailure__OperationStatus
    operation_status;

const tn_fault *tn_fault_operation_aborted(tn_arena *arena)
{
    Temporal__Api__Failure__V1__MultiOperationExecutionAborted detail =
        TEMPORAL__API__FAILURE__V1__MULTI_OPERATION_EXECUTION_ABORTED__INIT;

    return tn_fault_detailed(arena, TN_GRPC_ABORTED, &detail.base, "Operation was aborted.");
}

static bool is_aborted(const tn_fault *fault)
{
    return tn_str_is(
        fault->detail_type,
        temporal__api__failure__v1__multi_operation_execution_aborted__descriptor.name);
}

static operation_status *status_of(tn_arena *arena, const tn_fault *fault)
{
    operation_status *to = TN_NEW(arena, operation_status);

    if (!to)
        return NULL;
    temporal__api__errordetails__v1__multi_operation_execution_failure__operation_status__init(to);
    if (!fault)
        return to;
    to->code = (int32_t)fault->code;
    to->message = (char *)(uintptr_t)tn_arena_str(arena, fault->message).p;
    if (!fault->detail_type.n)
        return to->message ? to : NULL;
    to->details = TN_NEW_ARRAY(arena, Google__Protobuf__Any *, 1);
    if (!to->message || !to->details)
        return NULL;
    to->details[0] = TN_NEW(arena, Google__Protobuf__Any);
    if (!to->details[0])
        return NULL;
    google__protobuf__any__init(to->details[0]);
    to->n_details = 1;
    return fill_any(arena, fault, to->details[0]) ? to : NULL;
}

const tn_fault *tn_fault_operations(tn_arena *arena, const char *message,
                                    const tn_fault *const *faults, size_t n)
{
    Temporal__Api__Errordetails__V1__MultiOperationExecutionFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__MULTI_OPERATION_EXECUTION_FAILURE__INIT;
    tn_grpc_code code = TN_GRPC_OK;

    detail.statuses = TN_NEW_ARRAY(arena, operation_status *, n);
    if (!detail.statuses)
        return &out_of_memory;
    for (size_t i = 0; i < n; i++) {
        operation_status *status = status_of(arena, faults[i]);

        if (!status)
            return &out_of_memory;
        detail.statuses[detail.n_statuses++] = status;
        if (code == TN_GRPC_OK && faults[i] && !is_aborted(faults[i]))
            code = faults[i]->code;
    }
    return tn_fault_detailed(arena, code == TN_GRPC_OK ? TN_GRPC_ABORTED : code, &detail.base, "%s",
                             message);
}
