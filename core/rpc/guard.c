/* SPDX-License-Identifier: MIT */
/* Token buckets and the walk over raw frame heads; see guard.h. */
#include "rpc/guard.h"

#include <string.h>

#define PREFACE_BYTES 24
#define FRAME_HEAD_BYTES 9

enum { FRAME_DATA, FRAME_HEADERS, FRAME_PRIORITY, FRAME_RST_STREAM, FRAME_CONTINUATION = 9 };
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

static const char *frame_begin(rpc_guard *g, uint64_t now_ns)
{
    g->left = (uint32_t)g->head[0] << 16 | (uint32_t)g->head[1] << 8 | g->head[2];
    g->type = g->head[3];
    g->flags = g->head[4];
    g->head_n = 0;
    if (is_control(g) && !rpc_bucket_take(&g->control, now_ns, RPC_CONTROL_COST_NS, RPC_CONTROL_BURST))
        return "control_frame_flood";
    if (g->type == FRAME_HEADERS) {
        g->in_block = true;
        g->block_frames = 0;
        g->block_bytes = 0;
        g->block_since_ns = now_ns;
    }
    if (g->type == FRAME_HEADERS || g->type == FRAME_CONTINUATION) {
        g->block_bytes += g->left;
        if (g->block_bytes > RPC_BLOCK_BYTES_MAX || g->block_frames++ > RPC_BLOCK_FRAMES_MAX)
            return "header_block_too_large";
        if (g->flags & FLAG_END_HEADERS)
            g->in_block = false;
    }
    return NULL;
}

static void frame_end(rpc_guard *g)
{
    g->frame_since_ns = 0;
    g->settings_seen = true; /* nghttp2 refuses any other frame in that place */
    if (!g->in_block)
        g->block_since_ns = 0;
}

const char *rpc_guard_walk(rpc_guard *g, const uint8_t *p, size_t n, uint64_t now_ns)
{
    const char *why;
    size_t take;

    take = PREFACE_BYTES - (size_t)g->preface_n;
    if (take > n)
        take = n;
    g->preface_n = (uint8_t)(g->preface_n + take);
    p += take;
    n -= take;
    while (n) {
        if (!g->left) {
            take = FRAME_HEAD_BYTES - (size_t)g->head_n;
            if (take > n)
                take = n;
            memcpy(g->head + g->head_n, p, take);
            if (!g->frame_since_ns)
                g->frame_since_ns = now_ns;
            g->head_n = (uint8_t)(g->head_n + take);
            p += take;
            n -= take;
            if (g->head_n < FRAME_HEAD_BYTES)
                break;
            why = frame_begin(g, now_ns);
            if (why)
                return why;
            if (!g->left)
                frame_end(g);
            continue;
        }
        take = g->left < n ? g->left : n;
        g->left -= (uint32_t)take;
        p += take;
        n -= take;
        if (!g->left)
            frame_end(g);
    }
    return NULL;
}
