/* SPDX-License-Identifier: MIT */
/* Message compression: one inflate and one deflate state a loop, since each costs tens of KiB and a
 * message is never worked on in parts. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "rpc/private.h"

#define SCRATCH_BYTES (64u * 1024u)
#define GZIP_WINDOW (15 + 16) /* zlib's way to ask for the gzip wrapping */

struct rpc_gzip {
    z_stream inflate, deflate;
    bool inflate_ready, deflate_ready;
    tn_buf text; /* of a message that is being inflated; kept small between messages */
};

struct rpc_gzip *rpc_gzip_create(void) { return tn_xcalloc(1, sizeof(struct rpc_gzip)); }

void rpc_gzip_destroy(struct rpc_gzip *gzip)
{
    if (!gzip)
        return;
    if (gzip->inflate_ready)
        inflateEnd(&gzip->inflate);
    if (gzip->deflate_ready)
        deflateEnd(&gzip->deflate);
    tn_buf_done(&gzip->text);
    free(gzip);
}

static bool inflate_begin(struct rpc_gzip *gzip, tn_blob in)
{
    if (!gzip->inflate_ready && inflateInit2(&gzip->inflate, GZIP_WINDOW) != Z_OK)
        return false;
    if (gzip->inflate_ready && inflateReset(&gzip->inflate) != Z_OK)
        return false;
    gzip->inflate_ready = true;
    gzip->inflate.next_in = (Bytef *)(uintptr_t)in.p;
    gzip->inflate.avail_in = (uInt)in.n;
    return true;
}

/* Into gzip->text, at most one byte more than allowed. */
static tn_status inflate_all(struct rpc_gzip *gzip, size_t out_max)
{
    z_stream *z = &gzip->inflate;
    int rv;

    gzip->text.n = 0;
    for (;;) {
        size_t room = out_max + 1 - gzip->text.n;
        if (room > SCRATCH_BYTES)
            room = SCRATCH_BYTES;
        tn_buf_reserve(&gzip->text, room);
        z->next_out = gzip->text.p + gzip->text.n;
        z->avail_out = (uInt)room;
        rv = inflate(z, Z_NO_FLUSH);
        gzip->text.n += room - z->avail_out;
        if (gzip->text.n > out_max)
            return TN_ETOOLARGE;
        if (rv == Z_STREAM_END)
            /* What follows the end would be a second member: no client writes one. */
            return z->avail_in ? TN_EINVALID : TN_OK;
        if (rv != Z_OK)
            return TN_EINVALID;
        if (z->avail_out && !z->avail_in)
            return TN_EINVALID; /* truncated */
    }
}

tn_status rpc_gunzip(struct rpc_gzip *gzip, tn_blob in, size_t out_max, tn_arena *arena,
                     tn_blob *out)
{
    tn_status status = TN_EINVALID;
    tn_blob copy;

    if (!inflate_begin(gzip, in))
        return TN_EINVALID;
    status = inflate_all(gzip, out_max);
    if (status == TN_OK) {
        copy = tn_arena_blob(arena, tn_buf_blob(&gzip->text));
        if (copy.p)
            *out = copy;
        else
            status = TN_ETOOLARGE;
    }
    if (gzip->text.cap > 4 * SCRATCH_BYTES)
        tn_buf_done(&gzip->text);
    return status;
}

static bool deflate_begin(struct rpc_gzip *gzip)
{
    /* The cheapest level: this saves bytes of a local network, not of a disk. */
    if (!gzip->deflate_ready &&
        deflateInit2(&gzip->deflate, 1, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    if (gzip->deflate_ready && deflateReset(&gzip->deflate) != Z_OK)
        return false;
    gzip->deflate_ready = true;
    return true;
}

static tn_status deflate_some(z_stream *z, int flush, tn_buf *buf)
{
    int rv;

    do {
        tn_buf_reserve(buf, 4096);
        z->next_out = buf->p + buf->n;
        z->avail_out = (uInt)(buf->cap - buf->n > UINT32_MAX ? UINT32_MAX : buf->cap - buf->n);
        uInt room = z->avail_out;
        rv = deflate(z, flush);
        buf->n += room - z->avail_out;
        if (rv == Z_STREAM_ERROR)
            return TN_EINTERNAL;
    } while (flush == Z_FINISH ? rv != Z_STREAM_END : z->avail_in != 0);
    return TN_OK;
}

tn_status rpc_gzip_pieces(struct rpc_gzip *gzip, const rpc_piece *pieces, size_t skip, tn_buf *buf)
{
    tn_status status = TN_OK;

    if (!deflate_begin(gzip))
        return TN_EINTERNAL;
    for (const rpc_piece *piece = pieces; piece && status == TN_OK; piece = piece->next) {
        size_t from = skip < piece->n ? skip : piece->n;
        skip -= from;
        gzip->deflate.next_in = (Bytef *)(uintptr_t)(piece->p + from);
        gzip->deflate.avail_in = (uInt)(piece->n - from);
        if (gzip->deflate.avail_in)
            status = deflate_some(&gzip->deflate, Z_NO_FLUSH, buf);
    }
    if (status == TN_OK) {
        gzip->deflate.avail_in = 0;
        status = deflate_some(&gzip->deflate, Z_FINISH, buf);
    }
    return status;
}
