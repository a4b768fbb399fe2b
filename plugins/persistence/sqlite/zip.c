/* SPDX-License-Identifier: MIT */
/* Compression of journal groups and of rows.  What is decompressed had its checksum verified before, and its
 * size is known and bounded, so a damaged length can't ask for more memory than a sound one. */
#include "private.h"

#include <zstd.h>

/* The fastest form that still finds the repetitions: level 1 writes a tenth less for half as much time again. */
#define LEVEL (-1)

bool sq_zip(sq_zipper *zip, const uint8_t *p, size_t n, sq_bytes *out)
{
    if (!zip->out && !(zip->out = ZSTD_createCCtx()))
        return false;
    uint8_t *room = sq_bytes_room(out, ZSTD_compressBound(n));
    if (!room)
        return false;
    size_t got = ZSTD_compressCCtx(zip->out, room, out->cap - out->n, p, n, LEVEL);
    if (ZSTD_isError(got))
        return false;
    out->n += got;
    return true;
}

bool sq_unzip(sq_zipper *zip, const uint8_t *p, size_t n, size_t raw_n, sq_bytes *out)
{
    if (raw_n > SQ_ZIP_MAX || (!zip->in && !(zip->in = ZSTD_createDCtx())))
        return false;
    uint8_t *room = sq_bytes_room(out, raw_n);
    if (!room)
        return false;
    if (ZSTD_decompressDCtx(zip->in, room, raw_n, p, n) != raw_n) /* an error is no such number */
        return false;
    out->n += raw_n;
    return true;
}

void sq_zip_done(sq_zipper *zip)
{
    ZSTD_freeCCtx(zip->out);
    ZSTD_freeDCtx(zip->in);
    *zip = (sq_zipper){0};
}
