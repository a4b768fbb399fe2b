/* SPDX-License-Identifier: MIT */
/* grpc.testing.TestService, which gRPC's interoperability clients call.  Its messages are few and are
 * read and made by hand: to the descriptor tables they are empty messages with unknown fields. */
#include "wire/test_service.h"

#include "google/protobuf/empty.pb-c.h"
#include "proto/proto.h"

enum { PAYLOAD_BODY = 2 };
enum { SIMPLE_SIZE = 2, SIMPLE_STATUS = 7 };
enum { STREAM_PARAMETERS = 2, STREAM_STATUS = 7, PARAMETERS_SIZE = 1, INPUT_PAYLOAD = 1 };
enum { STATUS_CODE = 1, STATUS_MESSAGE = 2 };
#define PAYLOAD_MAX (8u << 20)

static void echo_metadata(tn_call *call)
{
    tn_str header = tn_call_header(call, "x-grpc-test-echo-initial");
    tn_str trailer = tn_call_header(call, "x-grpc-test-echo-trailing-bin");

    if (header.n)
        tn_call_add_header(call, "x-grpc-test-echo-initial", header);
    if (trailer.n)
        tn_call_add_trailer(call, "x-grpc-test-echo-trailing-bin", trailer);
}

/* The status that a request asks for, NULL: none. */
static const tn_fault *asked_fault(const tn_call *call)
{
    tn_wire_field status, code, text;

    if (!tn_wire_find(call->message, SIMPLE_STATUS, &status) ||
        !tn_wire_find(status.bytes, STATUS_CODE, &code) || code.value == 0)
        return NULL;
    if (!tn_wire_find(status.bytes, STATUS_MESSAGE, &text))
        text.bytes = tn_blob_from("", 0);
    return tn_fault_make(call->arena, (tn_grpc_code)code.value, "%.*s", (int)text.bytes.n,
                         (const char *)text.bytes.p);
}

static const uint8_t *zeros(tn_arena *arena, size_t n)
{
    return n > PAYLOAD_MAX ? NULL : tn_arena_zalloc(arena, n ? n : 1);
}

/* A message whose field 1 is a Payload of n zeros. */
static bool payload_message(tn_arena *arena, uint64_t n, Google__Protobuf__Empty *out)
{
    Google__Protobuf__Empty *body = TN_NEW(arena, Google__Protobuf__Empty);
    const uint8_t *bytes = zeros(arena, (size_t)n);
    tn_blob packed;

    if (!body || !bytes)
        return false;
    google__protobuf__empty__init(body);
    google__protobuf__empty__init(out);
    return tn_proto_attach(&body->base, arena, PAYLOAD_BODY, tn_blob_from(bytes, (size_t)n)) &&
           tn_proto_pack(&body->base, arena, &packed) == TN_OK &&
           tn_proto_attach(&out->base, arena, 1, packed);
}

static const tn_fault *too_much(tn_call *call)
{
    return tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED, "too large a payload");
}

static void empty_call(tn_call *call)
{
    echo_metadata(call);
    tn_call_reply(call, NULL);
}

static void unary_call(tn_call *call)
{
    const tn_fault *fault = asked_fault(call);
    Google__Protobuf__Empty response;
    tn_wire_field size = {0};

    echo_metadata(call);
    tn_wire_find(call->message, SIMPLE_SIZE, &size);
    if (fault)
        tn_call_fail(call, fault);
    else if (payload_message(call->arena, size.value, &response))
        tn_call_reply(call, &response.base);
    else
        tn_call_fail(call, too_much(call));
}

/* Answers one request of a stream with as many messages as it asks for.  False: the call has ended. */
static bool stream_answers(tn_call *call)
{
    const tn_fault *fault = asked_fault(call);
    tn_wire_field f, size = {0};

    if (fault) {
        tn_call_end(call, fault);
        return false;
    }
    for (tn_wire_iter it = tn_wire_begin(call->message); tn_wire_next(&it, &f);) {
        Google__Protobuf__Empty response;
        if (f.number != STREAM_PARAMETERS || f.wire_type != TN_WIRE_BYTES)
            continue;
        size.value = 0;
        tn_wire_find(f.bytes, PARAMETERS_SIZE, &size);
        if (!payload_message(call->arena, size.value, &response)) {
            tn_call_end(call, too_much(call));
            return false;
        }
        tn_call_send(call, &response.base);
    }
    return true;
}

static void streaming_output_call(tn_call *call)
{
    echo_metadata(call);
    if (stream_answers(call))
        tn_call_end(call, NULL);
}

static void stream_cancelled(tn_call *call)
{
    tn_call_end(call, tn_fault_make(call->arena, TN_GRPC_CANCELLED, "cancelled"));
}

static void full_duplex_message(tn_call *call)
{
    if (!call->request)
        tn_call_end(call, NULL);
    else
        stream_answers(call);
}

static void full_duplex_call(tn_call *call)
{
    echo_metadata(call);
    call->on_cancel = stream_cancelled;
    call->on_message = full_duplex_message;
    full_duplex_message(call);
}

static void streaming_input_message(tn_call *call)
{
    uint64_t *total = call->user;
    Google__Protobuf__Empty response;
    tn_wire_field body, bytes;
    uint8_t varint[TN_VARINT_MAX + 1];

    if (call->request) {
        if (tn_wire_find(call->message, INPUT_PAYLOAD, &body) &&
            tn_wire_find(body.bytes, PAYLOAD_BODY, &bytes))
            *total += bytes.bytes.n;
        return;
    }
    google__protobuf__empty__init(&response);
    ProtobufCMessageUnknownField sum = {
        .tag = 1, .wire_type = PROTOBUF_C_WIRE_TYPE_VARINT, .data = varint};
    sum.len = (size_t)(tn_wire_write_varint(varint, *total) - varint);
    response.base.n_unknown_fields = 1;
    response.base.unknown_fields = &sum;
    tn_call_send(call, &response.base);
    tn_call_end(call, NULL);
}

static void streaming_input_call(tn_call *call)
{
    echo_metadata(call);
    call->user = TN_NEW(call->arena, uint64_t);
    call->on_cancel = stream_cancelled;
    call->on_message = streaming_input_message;
    streaming_input_message(call);
}

#define TEST(name, flags_, function) \
    { \
        .path = "/grpc.testing.TestService/" name, .input = &google__protobuf__empty__descriptor, \
        .output = &google__protobuf__empty__descriptor, .flags = (flags_), .handle = (function) \
    }

void wire_test_service_register(void)
{
    static const tn_rpc_method methods[] = {
        TEST("EmptyCall", 0, empty_call),
        TEST("UnaryCall", 0, unary_call),
        TEST("StreamingOutputCall", TN_RPC_STREAM_OUT, streaming_output_call),
        TEST("StreamingInputCall", TN_RPC_STREAM_OUT | TN_RPC_STREAM_IN, streaming_input_call),
        TEST("FullDuplexCall", TN_RPC_STREAM_OUT | TN_RPC_STREAM_IN, full_duplex_call),
    };
    tn_rpc_register(methods, TN_COUNT_OF(methods));
}
