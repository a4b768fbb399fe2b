/* SPDX-License-Identifier: MIT */
/* Unpacking: the first byte chooses a message type, the rest is its wire.  What is accepted must pack,
 * unpack again to the same bytes, and be accepted by protobuf-c too once packed by us (given twice, a
 * singular message can make protobuf-c's merge fail). */
#include <stdlib.h>

#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* By name: places in the table move when the API grows.  Append only, for the corpus' sake. */
static const char *const types[] = {
    "temporal.api.workflowservice.v1.StartWorkflowExecutionRequest",
    "temporal.api.workflowservice.v1.RespondWorkflowTaskCompletedRequest",
    "temporal.api.workflowservice.v1.RespondActivityTaskFailedRequest",
    "temporal.api.workflowservice.v1.SignalWithStartWorkflowExecutionRequest",
    "temporal.api.workflowservice.v1.PollWorkflowTaskQueueResponse",
    "temporal.api.workflowservice.v1.ExecuteMultiOperationRequest",
    "temporal.api.history.v1.HistoryEvent",
    "temporal.api.failure.v1.Failure",
    "temporal.api.common.v1.Payloads",
    "grpc.reflection.v1.ServerReflectionRequest",
    "google.protobuf.FileDescriptorProto",
};

static void check(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const ProtobufCMessageDescriptor *d;
    ProtobufCMessage *msg, *again, *reference;
    tn_blob wire, first, second;
    tn_arena *arena;
    tn_error err;

    if (size < 1)
        return 0;
    d = tn_proto_message(tn_str_from(types[data[0] % TN_COUNT_OF(types)]));
    check(d != NULL);
    wire = tn_blob_from(data + 1, size - 1);
    arena = tn_arena_create(0);
    if (tn_proto_unpack_peer(d, wire, arena, &msg, &err) == TN_OK) {
        check(tn_proto_pack(msg, arena, &first) == TN_OK);
        check(tn_proto_unpack(d, first, arena, &again, &err) == TN_OK);
        check(tn_proto_pack(again, arena, &second) == TN_OK);
        check(tn_blob_eq(first, second));
        /* protobuf-c asks for proto2's required fields, which no peer sends us. */
        reference = protobuf_c_message_unpack(d, NULL, first.n, first.p);
        check(reference || tn_str_starts(tn_str_from(d->name), TN_STR("google.protobuf.")));
        if (reference)
            protobuf_c_message_free_unpacked(reference, NULL);
    } else {
        check(err.code == TN_EINVALID || err.code == TN_ETOOLARGE);
    }
    for (tn_wire_iter it = tn_wire_begin(wire); tn_wire_next(&it, &(tn_wire_field){0});)
        continue;
    tn_arena_destroy(arena);
    return 0;
}
