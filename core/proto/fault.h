/* SPDX-License-Identifier: MIT */
/* What a caller is told when a call fails: the gRPC code, the text and at most one typed detail of
 * temporal.api.errordetails.v1 (SDKs switch on it).  Lives in the call's arena. */
#ifndef TN_PROTO_FAULT_H
#define TN_PROTO_FAULT_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"

typedef enum tn_grpc_code {
    TN_GRPC_OK = 0,
    TN_GRPC_CANCELLED = 1,
    TN_GRPC_UNKNOWN = 2,
    TN_GRPC_INVALID_ARGUMENT = 3,
    TN_GRPC_DEADLINE_EXCEEDED = 4,
    TN_GRPC_NOT_FOUND = 5,
    TN_GRPC_ALREADY_EXISTS = 6,
    TN_GRPC_PERMISSION_DENIED = 7,
    TN_GRPC_RESOURCE_EXHAUSTED = 8,
    TN_GRPC_FAILED_PRECONDITION = 9,
    TN_GRPC_ABORTED = 10,
    TN_GRPC_OUT_OF_RANGE = 11,
    TN_GRPC_UNIMPLEMENTED = 12,
    TN_GRPC_INTERNAL = 13,
    TN_GRPC_UNAVAILABLE = 14,
    TN_GRPC_DATA_LOSS = 15,
    TN_GRPC_UNAUTHENTICATED = 16,
} tn_grpc_code;

typedef struct tn_fault {
    tn_grpc_code code;
    tn_str message;
    tn_str detail_type; /* full message name, empty: no detail */
    tn_blob detail;     /* packed */
} tn_fault;

/* Never NULL: falls back to a static RESOURCE_EXHAUSTED fault when the arena is full.  Messages are
 * cut at 4,000 bytes on a UTF-8 border. */
const tn_fault *tn_fault_make(tn_arena *arena, tn_grpc_code code, const char *fmt, ...)
    TN_PRINTF(3, 4);
const tn_fault *tn_fault_detailed(tn_arena *arena, tn_grpc_code code,
                                  const ProtobufCMessage *detail, const char *fmt, ...)
    TN_PRINTF(4, 5);
/* Copies into another arena (faults that outlive the operation that made them). */
const tn_fault *tn_fault_copy(tn_arena *arena, const tn_fault *fault);
/* google.rpc.Status bytes for grpc-status-details-bin; empty when there is no detail. */
tn_blob tn_fault_status_details(tn_arena *arena, const tn_fault *fault);
/* A store's or plugin's status as a fault: UNAVAILABLE for what a client may retry. */
const tn_fault *tn_fault_from_status(tn_arena *arena, tn_status status, const tn_error *err);
/* A call of several operations has failed: what became of each (NULL: it was done).  Its code is that
 * of the first that failed by itself; aborted ones are named by tn_fault_operation_aborted. */
const tn_fault *tn_fault_operations(tn_arena *arena, const char *message,
                                    const tn_fault *const *faults, size_t n);
const tn_fault *tn_fault_operation_aborted(tn_arena *arena);
/* ResourceExhausted with cause and scope (numbers of temporal.api.enums.v1). */
const tn_fault *tn_fault_exhausted(tn_arena *arena, int32_t cause, int32_t scope, const char *fmt,
                                   ...) TN_PRINTF(4, 5);

#endif
