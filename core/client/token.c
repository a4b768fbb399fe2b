/* SPDX-License-Identifier: MIT */
/* Sealing and opening tokens: message bytes, then the MAC over the message's type name and the bytes,
 * so that a token of one kind never opens as another. */
#include "client/token.h"

#include "proto/proto.h"

#define MAC_BYTES 16u
#define TOKEN_BYTES_MAX 16384u

static uint8_t token_key[16];

void tn_token_set_key(const uint8_t key[16]) { memcpy(token_key, key, sizeof(token_key)); }

void tn_token_forget_key(void) { explicit_bzero(token_key, sizeof(token_key)); }

static void mac_of(const ProtobufCMessageDescriptor *type, tn_blob bytes, uint8_t out[MAC_BYTES])
{
    uint8_t inner[MAC_BYTES * 2];
    tn_mac128(token_key, tn_blob_of_str(tn_str_from(type->name)), inner);
    tn_mac128(token_key, bytes, inner + MAC_BYTES);
    tn_mac128(token_key, tn_blob_from(inner, sizeof(inner)), out);
}

tn_blob tn_token_seal(tn_arena *arena, const ProtobufCMessage *message)
{
    tn_blob packed;
    if (tn_proto_pack(message, arena, &packed) != TN_OK)
        return (tn_blob){NULL, 0};
    uint8_t *out = tn_arena_alloc(arena, packed.n + MAC_BYTES);
    if (!out)
        return (tn_blob){NULL, 0};
    memcpy(out, packed.p, packed.n);
    mac_of(message->descriptor, packed, out + packed.n);
    return tn_blob_from(out, packed.n + MAC_BYTES);
}

ProtobufCMessage *tn_token_open(tn_arena *arena, tn_blob token,
                                const ProtobufCMessageDescriptor *type)
{
    if (token.n <= MAC_BYTES || token.n > TOKEN_BYTES_MAX)
        return NULL;
    tn_blob bytes = tn_blob_from(token.p, token.n - MAC_BYTES);
    uint8_t mac[MAC_BYTES];
    mac_of(type, bytes, mac);
    uint8_t differ = 0; /* constant time: the first wrong byte must not show */
    for (size_t i = 0; i < MAC_BYTES; i++)
        differ |= (uint8_t)(mac[i] ^ token.p[bytes.n + i]);
    ProtobufCMessage *message = NULL;
    if (differ || tn_proto_unpack(type, bytes, arena, &message, NULL) != TN_OK)
        return NULL;
    return message;
}
