/* SPDX-License-Identifier: MIT */
/* What a request of ours needs with or without libcurl. */
#include "http/client.h"

#include <string.h>

#include "http/private.h"

tn_str tn_http_got(const tn_http_out *out, const char *lower_case_name)
{
    for (size_t i = 0; i < out->n_got; i++) {
        if (tn_str_is(out->got[i].name, lower_case_name))
            return out->got[i].value;
    }
    return (tn_str){"", 0};
}

void tn_http_json_put(const ProtobufCMessage *message, tn_arena *arena, tn_buf *out)
{
    http_encode(message, (http_style){.pretty = false}, arena, out);
}

ProtobufCMessage *tn_http_json_message(const ProtobufCMessageDescriptor *d, tn_str json,
                                       tn_arena *arena)
{
    http_problem problem = {{0}};
    ProtobufCMessage *message = NULL;
    tn_buf packed = {0};
    tn_blob bytes;

    if (http_decode(d, json, false, arena, &packed, &problem)) {
        bytes = tn_arena_blob(arena, tn_buf_blob(&packed));
        if (tn_proto_unpack(d, bytes, arena, &message, NULL) != TN_OK)
            message = NULL;
    }
    tn_buf_done(&packed);
    return message;
}
