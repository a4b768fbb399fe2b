/* SPDX-License-Identifier: MIT */
/* Tokens of strangers: any bytes are refused without harm; a token that we have sealed opens as what it was, and no
 * longer once a bit of it is turned, or as a token of another kind. */
#include <stdlib.h>

#include "client/token.h"
#include "proto/proto.h"
#include "visibility/visibility.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void round_trip(tn_arena *arena, const ProtobufCMessageDescriptor *type,
                       const ProtobufCMessageDescriptor *other, tn_blob wire)
{
    ProtobufCMessage *message, *opened;
    if (tn_proto_unpack_peer(type, wire, arena, &message, NULL) != TN_OK)
        return;
    tn_blob sealed = tn_token_seal(arena, message);
    opened = sealed.n ? tn_token_open(arena, sealed, type) : NULL;
    if (!opened)
        return; /* too long for a token */
    check(tn_proto_equal(message, opened));
    check(!tn_token_open(arena, sealed, other));
    uint8_t *bytes = tn_arena_alloc(arena, sealed.n);
    memcpy(bytes, sealed.p, sealed.n);
    bytes[wire.n % sealed.n] ^= 1;
    check(!tn_token_open(arena, tn_blob_from(bytes, sealed.n), type));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[16] = {1, 2, 3};
    tn_arena *arena = tn_arena_create(0);
    tn_blob wire = tn_blob_from(data, size);
    tn_vis_query query = {.struct_size = sizeof(query), .ns_id = {"n", 1}};

    tn_token_set_key(key);
    check(!tn_token_open(arena, wire, &tenon__task_token__descriptor));
    check(!tn_token_open(arena, wire, &tenon__history_page_token__descriptor));
    if (size)
        check(tn_vis_page_open(arena, wire, &query) != NULL);
    round_trip(arena, &tenon__task_token__descriptor, &tenon__history_page_token__descriptor, wire);
    round_trip(arena, &tenon__history_page_token__descriptor, &tenon__task_token__descriptor, wire);
    tn_arena_destroy(arena);
    return 0;
}
