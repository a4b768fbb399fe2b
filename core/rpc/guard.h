/* SPDX-License-Identifier: MIT */
/* What one connection may ask of us: token buckets and a walk over the raw frame heads that runs
 * before nghttp2 sees the bytes.  The library has limits of its own, but none on unknown frames, empty
 * DATA or WINDOW_UPDATE floods, and it does not tell slow peers from idle ones. */
#ifndef TN_RPC_GUARD_H
#define TN_RPC_GUARD_H

#include "base/base.h"

/* A bucket of `burst` tokens that gains one each cost_ns.  Kept as a time: the moment at which the
 * bucket would be full again. */
typedef struct rpc_bucket {
    uint64_t full_at_ns;
} rpc_bucket;
/* False: the bucket is empty. */
bool rpc_bucket_take(rpc_bucket *b, uint64_t now_ns, uint64_t cost_ns, uint32_t burst);
void rpc_bucket_give(rpc_bucket *b, uint64_t cost_ns, uint32_t tokens);

/* Frames that ask for work and bring none: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown. */
#define RPC_CONTROL_BURST 1000
#define RPC_CONTROL_COST_NS (TN_SEC / 1000)
#define RPC_CONTROL_PER_HEADERS 4
/* Streams that the peer resets soon after it opened them.  Each call that it lets come to its end earns it some more, and
 * room for as many at once as it may have open at all: who works with us may also change its mind. */
#define RPC_RESET_BURST 100
#define RPC_RESET_COST_NS (TN_SEC / 33)
#define RPC_RESET_PER_ANSWER 4
#define RPC_RESET_ROOM_MAX 900 /* beside the burst: nghttp2's own default, together */
#define RPC_RESET_YOUNG_NS TN_SEC
#define RPC_RESET_PARKED_NS \
    (TN_SEC / 100) /* of calls that wait for an event, and are told of a reset */
/* Streams that we had to reset or refuse. */
#define RPC_GLITCH_BURST 50
#define RPC_GLITCH_COST_NS (TN_SEC / 5)
#define RPC_ENDED_IDS 16
#define RPC_BLOCK_FRAMES_MAX 8
#define RPC_BLOCK_BYTES_MAX (64u * 1024u)

typedef struct rpc_guard {
    uint8_t head[9];
    uint8_t head_n, preface_n; /* bytes seen */
    uint8_t type, flags;
    bool settings_seen; /* the first frame is whole: the connection is up */
    bool in_block;      /* HEADERS without END_HEADERS yet */
    uint8_t block_frames;
    uint8_t ended_next;
    int32_t ended[RPC_ENDED_IDS]; /* streams that the peer has ended: it may send no more there;
                                     below zero: that it has reset, to which DATA may be late */
    uint32_t stream_id;
    uint32_t
        late_id; /* 0, or one of the latter on which DATA has come; whoever answers clears it */
    uint32_t block_bytes;
    uint32_t priority, priority_n;           /* PRIORITY's first bytes */
    uint32_t left;                           /* of the current frame's payload */
    uint64_t block_since_ns, frame_since_ns; /* of what is not whole, 0: nothing */
    rpc_bucket control, resets, glitches;
    uint32_t reset_room; /* earned */
} rpc_guard;
/* False: the peer has reset too many young calls. */
bool rpc_guard_reset(rpc_guard *g, uint64_t now_ns);
/* A call was answered with what it asked for. */
void rpc_guard_completed(rpc_guard *g);

typedef struct rpc_verdict {
    const char *why; /* NULL: go on; else why the connection must end, as GOAWAY's debug data */
    uint32_t code;   /* HTTP/2's */
} rpc_verdict;
rpc_verdict rpc_guard_walk(rpc_guard *g, const uint8_t *p, size_t n, uint64_t now_ns);

#endif
