/* SPDX-License-Identifier: MIT */
/* JSON bodies and query strings on any bytes: a message or an error.  What comes out of a message goes in again and
 * says the same. */
#include "http/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void there_and_back(const ProtobufCMessageDescriptor *d, tn_blob wire, bool shorthand,
                           tn_arena *arena)
{
    const http_style style = {.pretty = wire.n & 1, .shorthand = shorthand};
    http_problem problem;
    tn_buf first = {0}, second = {0}, back = {0};
    ProtobufCMessage *msg, *again;

    if (tn_proto_unpack_peer(d, wire, arena, &msg, NULL) == TN_OK) {
        http_encode(msg, style, arena, &first);
        TN_ASSERT(
            http_decode(d, tn_str_of_blob(tn_buf_blob(&first)), shorthand, arena, &back, &problem));
        TN_ASSERT(tn_proto_unpack(d, tn_buf_blob(&back), arena, &again, NULL) == TN_OK);
        http_encode(again, style, arena, &second);
        TN_ASSERT(tn_blob_eq(tn_buf_blob(&first), tn_buf_blob(&second)));
    }
    tn_buf_done(&first);
    tn_buf_done(&second);
    tn_buf_done(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {
        "temporal.api.workflowservice.v1.StartWorkflowExecutionRequest",
        "temporal.api.history.v1.HistoryEvent",
        "google.rpc.Status",
        "temporal.api.workflowservice.v1.GetWorkflowExecutionHistoryRequest",
    };
    tn_arena *arena = tn_arena_create(64u << 20);
    const ProtobufCMessageDescriptor *d;
    http_problem problem = {{0}};
    tn_buf wire = {0};
    tn_str text;
    bool ok;

    if (size) {
        d = tn_proto_message(tn_str_from(types[data[0] & 3]));
        text = (tn_str){(const char *)data + 1, size - 1};
        if (data[0] & 8)
            ok = http_put_query(d, text, NULL, 0, arena, &wire, &problem);
        else
            ok = http_decode(d, text, data[0] & 4, arena, &wire, &problem);
        TN_ASSERT(ok || problem.text[0]);
        if (ok)
            there_and_back(d, tn_buf_blob(&wire), data[0] & 4, arena);
    }
    tn_buf_done(&wire);
    tn_arena_destroy(arena);
    return 0;
}
