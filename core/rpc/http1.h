/* SPDX-License-Identifier: MIT */
/* HTTP/1.1 as bytes: heads of requests and bodies in chunks.  Pure functions over bytes that a peer chose.
 *
 * http-parser reads the heads.  It is lenient in places where two readers of the same bytes could come to think
 * differently of where a request ends (bare line feeds, folded lines, blanks before a colon, two lengths, anything but
 * "chunked"): a walk of ours over the raw head refuses those first.  It reads no bodies: its chunks are lenient too. */
#ifndef TN_RPC_HTTP1_H
#define TN_RPC_HTTP1_H

#include "base/base.h"

typedef struct rpc_h1_head {
    unsigned status; /* 0: fine; else what to refuse it with */
    const char *why;
    bool chunked, expect, keep_alive;
    uint64_t length; /* of the body when it is not chunked */
} rpc_h1_head;

/* Where a head that begins at p ends (behind its empty line); 0: not whole yet.  from: bytes that were looked at
 * before, for the next call. */
size_t rpc_h1_head_end(const uint8_t *p, size_t n, size_t *from);
/* p, n: a whole head.  Names are made lower case in place.  take is called with ":method", ":path" and each header as
 * long as the head is fine; what it was given is good for as long as p. */
void rpc_h1_head_read(uint8_t *p, size_t n, rpc_h1_head *out,
                      void (*take)(void *user, tn_str name, tn_str value), void *user);

#define RPC_H1_CHUNK_EXTRAS_MAX 4096 /* bytes of extensions and trailers of one body */

typedef struct rpc_h1_chunks {
    uint8_t state;
    uint8_t digits;
    uint32_t extras;
    uint64_t left;
} rpc_h1_chunks;

typedef enum rpc_h1_chunk_event {
    RPC_H1_MORE, /* all is eaten */
    RPC_H1_DATA, /* *out_data holds some of the body; go on behind *out_used */
    RPC_H1_END,  /* the body is whole */
    RPC_H1_BAD,
} rpc_h1_chunk_event;
rpc_h1_chunk_event rpc_h1_chunks_feed(rpc_h1_chunks *c, const uint8_t *p, size_t n,
                                      size_t *out_used, tn_blob *out_data);

#endif
