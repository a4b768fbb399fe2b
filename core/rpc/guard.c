/* SPDX-License-Identifier: MIT */
/* Token buckets and the walk over raw frame heads; see guard.h. */
#include "rpc/guard.h"

#include <string.h>

#define PREFACE_BYTES 24
#define FRAME_HEAD_BYTES 9

enum { FRAME_DATA, FRAME_HEADERS, FRAME_PRIORITY, FRAME_RST_STREAM, FRAME_CONTINUATION = 9 };
enum { CODE_PROTOCOL_ERROR = 1, CODE_STREAM_CLOSED = 5, CODE_ENHANCE_YOUR_CALM = 11 };
#define FLAG_END_STREAM 1u
#define FLAG_END_HEADERS 4u

bool rpc_bucket_take(rpc_bucket *b, uint64_t now_ns, uint64_t cost_ns, uint32_t burst)
{
    if (b->full_at_ns < now_ns)
        b->full_at_ns = now_ns;
    if (b->full_at_ns - now_ns > cost_ns * (burst - 1))
        return false;
    b->full_at_ns += cost_ns;
    return true;
}

void rpc_bucket_give(rpc_bucket *b, uint64_t cost_ns, uint32_t tokens)
{
    uint64_t gain = cost_ns * tokens;
    b->full_at_ns = b->full_at_ns > gain ? b->full_at_ns - gain : 0;
}

bool rpc_guard_reset(rpc_guard *g, uint64_t now_ns)
{
    return rpc_bucket_take(&g->resets, now_ns, RPC_RESET_COST_NS, RPC_RESET_BURST + g->reset_room);
}

void rpc_guard_completed(rpc_guard *g)
{
    rpc_bucket_give(&g->resets, RPC_RESET_COST_NS, RPC_RESET_PER_ANSWER);
    if (g->reset_room < RPC_RESET_ROOM_MAX)
        g->reset_room += RPC_RESET_PER_ANSWER;
}

static bool is_control(const rpc_guard *g)
{
    switch (g->type) {
    case FRAME_HEADERS:
    case FRAME_CONTINUATION: /* bounded by block_frames */
    case FRAME_RST_STREAM:   /* has a bucket of its own */
        return false;
    case FRAME_DATA:
        return g->left == 0 && !(g->flags & FLAG_END_STREAM);
    default:
        return true;
    }
}

static const rpc_verdict fine = {NULL, 0};

static rpc_verdict calm(const char *why) { return (rpc_verdict){why, CODE_ENHANCE_YOUR_CALM}; }

static int32_t *ended_as(rpc_guard *g, int32_t id)
{
    for (size_t i = 0; i < RPC_ENDED_IDS; i++) {
        if (g->ended[i] == id)
            return &g->ended[i];
    }
    return NULL;
}

/* The library forgets streams that are closed, which saves memory; what must not come for them is
 * seen here.  DATA that follows the peer's own reset is a fault that clients of good will have: gRPC's Java
 * (netty) writes a cancelled call's RST_STREAM at once and what waits for the flow control after it, and all
 * other calls of its connection would pay for that.  It costs what a control frame does, is answered
 * by a reset, and otherwise passed over. */
static rpc_verdict stream_frame(rpc_guard *g, uint64_t now_ns)
{
    bool resets = g->type == FRAME_RST_STREAM, ends = resets || (g->flags & FLAG_END_STREAM);
    int32_t id = (int32_t)g->stream_id;

    if (!id)
        return fine; /* the library's to refuse */
    if (ended_as(g, id))
        return resets ? fine : (rpc_verdict){"frame_on_ended_stream", CODE_STREAM_CLOSED};
    if (ended_as(g, -id)) {
        if (resets)
            return fine;
        if (g->type != FRAME_DATA)
            return (rpc_verdict){"frame_on_ended_stream", CODE_STREAM_CLOSED};
        g->late_id = g->stream_id;
        return rpc_bucket_take(&g->control, now_ns, RPC_CONTROL_COST_NS, RPC_CONTROL_BURST)
                   ? fine
                   : calm("late_data_flood");
    }
    if (ends)
        g->ended[g->ended_next++ % RPC_ENDED_IDS] = resets ? -id : id;
    return fine;
}

static rpc_verdict block_frame(rpc_guard *g, uint64_t now_ns)
{
    if (g->type == FRAME_HEADERS) {
        g->in_block = true;
        g->block_frames = 0;
        g->block_bytes = 0;
        g->block_since_ns = now_ns;
    }
    g->block_bytes += g->left;
    if (g->block_bytes > RPC_BLOCK_BYTES_MAX || g->block_frames++ > RPC_BLOCK_FRAMES_MAX)
        return calm("header_block_too_large");
    if (g->flags & FLAG_END_HEADERS)
        g->in_block = false;
    return fine;
}

static rpc_verdict frame_begin(rpc_guard *g, uint64_t now_ns)
{
    rpc_verdict v = fine;

    g->left = (uint32_t)g->head[0] << 16 | (uint32_t)g->head[1] << 8 | g->head[2];
    g->type = g->head[3];
    g->flags = g->head[4];
    g->stream_id = tn_get_u32be(g->head + 5) & INT32_MAX;
    g->head_n = 0;
    if (is_control(g) &&
        !rpc_bucket_take(&g->control, now_ns, RPC_CONTROL_COST_NS, RPC_CONTROL_BURST))
        return calm("control_frame_flood");
    switch (g->type) {
    case FRAME_HEADERS:
        /* Clients open a stream's window and measure the path along with a request. */
        rpc_bucket_give(&g->control, RPC_CONTROL_COST_NS, RPC_CONTROL_PER_HEADERS);
        v = stream_frame(g, now_ns);
        return v.why ? v : block_frame(g, now_ns);
    case FRAME_CONTINUATION:
        return block_frame(g, now_ns);
    case FRAME_DATA:
    case FRAME_RST_STREAM:
        return stream_frame(g, now_ns);
    case FRAME_PRIORITY:
        g->priority = g->priority_n = 0;
        if (!g->stream_id)
            return (rpc_verdict){"priority_without_stream", CODE_PROTOCOL_ERROR};
        return fine;
    default:
        return fine;
    }
}

/* Priorities are switched off, so that the library passes their frames over. */
static rpc_verdict priority_bytes(rpc_guard *g, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n && g->priority_n < 4; i++, g->priority_n++)
        g->priority = g->priority << 8 | p[i];
    if (g->priority_n == 4 && (g->priority & INT32_MAX) == g->stream_id)
        return (rpc_verdict){"priority_on_itself", CODE_PROTOCOL_ERROR};
    return fine;
}

static void frame_end(rpc_guard *g)
{
    g->frame_since_ns = 0;
    g->settings_seen = true; /* nghttp2 refuses any other frame in that place */
    if (!g->in_block)
        g->block_since_ns = 0;
}

/* Returns the bytes of the frame head that were taken. */
static size_t head_bytes(rpc_guard *g, const uint8_t *p, size_t n, uint64_t now_ns)
{
    size_t take = FRAME_HEAD_BYTES - (size_t)g->head_n;

    if (take > n)
        take = n;
    memcpy(g->head + g->head_n, p, take);
    g->head_n = (uint8_t)(g->head_n + take);
    if (!g->frame_since_ns)
        g->frame_since_ns = now_ns;
    return take;
}

rpc_verdict rpc_guard_walk(rpc_guard *g, const uint8_t *p, size_t n, uint64_t now_ns)
{
    rpc_verdict v = fine;
    size_t take;

    take = PREFACE_BYTES - (size_t)g->preface_n;
    if (take > n)
        take = n;
    g->preface_n = (uint8_t)(g->preface_n + take);
    for (p += take, n -= take; n && !v.why; p += take, n -= take) {
        if (!g->left) {
            take = head_bytes(g, p, n, now_ns);
            if (g->head_n < FRAME_HEAD_BYTES)
                continue;
            v = frame_begin(g, now_ns);
        } else {
            take = g->left < n ? g->left : n;
            if (g->type == FRAME_PRIORITY)
                v = priority_bytes(g, p, take);
            g->left -= (uint32_t)take;
        }
        if (!g->left)
            frame_end(g);
    }
    return v;
}
