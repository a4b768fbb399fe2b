/* SPDX-License-Identifier: MIT */
/* Task and page tokens: opaque to clients, ours to believe.  A token is a packed tenon message and a
 * 16-byte MAC under the cluster's key (made once, kept in the store).  What fails the MAC was not made by us. */
#ifndef TN_CLIENT_TOKEN_H
#define TN_CLIENT_TOKEN_H

#include "base/base.h"
#include "tenon/store.pb-c.h"

struct tn_task_token {
    Tenon__TaskToken *msg; /* unpacked in the caller's arena */
};

void tn_token_set_key(const uint8_t key[16]); /* [main] once, before serving */
void tn_token_forget_key(void);               /* [main] at the end */
tn_blob tn_token_seal(tn_arena *arena, const ProtobufCMessage *message);
/* NULL when the MAC or the message is wrong. */
ProtobufCMessage *tn_token_open(tn_arena *arena, tn_blob token,
                                const ProtobufCMessageDescriptor *type);

#endif
