/* SPDX-License-Identifier: MIT */
/* Any bytes as HTTP/1.1: a head, then a body in chunks.  What is accepted has one length and lines without surprises;
 * the bytes in pieces give the same body as the bytes at once. */
#include <stdlib.h>
#include <string.h>

#include "rpc/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(void *user, tn_str name, tn_str value)
{
    (void)user;
    for (size_t i = 0; i < name.n; i++)
        TN_ASSERT(name.p[i] > ' ' && !(name.p[i] >= 'A' && name.p[i] <= 'Z'));
    for (size_t i = 0; i < value.n; i++)
        TN_ASSERT(value.p[i] != '\r' && value.p[i] != '\n' && value.p[i] != '\0');
}

static size_t feed(const uint8_t *p, size_t n, size_t step, tn_buf *body)
{
    rpc_h1_chunks chunks = {0};
    size_t at = 0, used;

    while (at < n) {
        tn_blob data = {NULL, 0};
        rpc_h1_chunk_event event =
            rpc_h1_chunks_feed(&chunks, p + at, n - at < step ? n - at : step, &used, &data);
        if (event == RPC_H1_BAD)
            return SIZE_MAX;
        if (event == RPC_H1_DATA)
            tn_buf_put(body, data.p, data.n);
        at += used;
        if (event == RPC_H1_END)
            return at;
    }
    return SIZE_MAX - 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_buf whole = {0}, pieces = {0};
    size_t from = 0, end = rpc_h1_head_end(data, size, &from);

    if (end) {
        uint8_t *copy = malloc(end);
        rpc_h1_head head;
        memcpy(copy, data, end);
        rpc_h1_head_read(copy, end, &head, take, NULL);
        TN_ASSERT(!head.status || head.why);
        TN_ASSERT(!head.chunked || !head.length || head.status);
        free(copy);
        data += end;
        size -= end;
    }
    TN_ASSERT(feed(data, size, SIZE_MAX, &whole) == feed(data, size, 3, &pieces));
    TN_ASSERT(tn_blob_eq(tn_buf_blob(&whole), tn_buf_blob(&pieces)));
    tn_buf_done(&whole);
    tn_buf_done(&pieces);
    return 0;
}
