/* SPDX-License-Identifier: MIT */
/* The small codecs of gRPC's protocol over HTTP/2: time-outs, status messages, binary headers and the
 * five-byte frames.  Pure functions over bytes that a peer chose; no I/O, no allocation. */
#ifndef TN_RPC_WIRE_H
#define TN_RPC_WIRE_H

#include "base/base.h"

/* grpc-timeout: 1 to 8 digits and one of H M S m u n. */
bool rpc_timeout_parse(tn_str s, uint64_t *out_ns);

/* grpc-message: what is outside printable ASCII, and the percent sign, as %XX.  Writes at most `cap`
 * bytes, never half of an escape nor a part of a UTF-8 sequence; returns the length. */
size_t rpc_percent_encode(tn_str s, char *out, size_t cap);

/* Binary headers: encoded without padding; decoded with or without, from the standard alphabet. */
#define RPC_BASE64_SIZE(n) (((n)*4 + 2) / 3)
size_t rpc_base64_encode(tn_blob in, char *out);
#define RPC_BASE64_DECODED_MAX(n) ((n) / 4 * 3 + 3)
bool rpc_base64_decode(tn_str in, uint8_t *out, size_t *out_n);

/* "application/grpc", with "+proto" or parameters after it. */
bool rpc_content_type_ok(tn_str s);

/* True when a comma-separated list holds the word. */
bool rpc_list_has(tn_str list, tn_str word);

/* Messages from a stream of bytes cut anywhere. */
#define RPC_FRAME_HEAD 5
typedef struct rpc_framer {
    uint8_t head[RPC_FRAME_HEAD];
    uint8_t head_n;
    bool in_body;
    uint32_t need, have; /* of the body */
    uint8_t *body;       /* the caller's, `need` bytes */
} rpc_framer;

typedef enum rpc_framer_event {
    RPC_FRAMER_MORE,    /* all is eaten */
    RPC_FRAMER_HEAD,    /* a length is known: look at it and set `body` before the next call */
    RPC_FRAMER_MESSAGE, /* body is whole; the next call begins a new message */
} rpc_framer_event;

static inline bool rpc_framer_compressed(const rpc_framer *f) { return f->head[0] != 0; }
/* True between messages: here the stream may end. */
static inline bool rpc_framer_at_border(const rpc_framer *f)
{
    return !f->in_body && f->head_n == 0;
}
rpc_framer_event rpc_framer_feed(rpc_framer *f, const uint8_t *p, size_t n, size_t *out_used);

#endif
