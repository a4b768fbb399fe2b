/* SPDX-License-Identifier: MIT */
/* Memory that goes all at once: of a group of commits, of a query. */
#include "ms.h"

#include <stdlib.h>

#define CHUNK ((size_t)64 << 10)

typedef struct ms_chunk {
    struct ms_chunk *next;
    size_t size;
    uint8_t p[];
} ms_chunk;

void *ms_pool_get(ms_pool *pool, size_t n)
{
    n = (n + 15) & ~(size_t)15;
    if (!pool->chunks || pool->chunks->size - pool->used < n) {
        size_t size = n > CHUNK ? n : CHUNK;
        ms_chunk *chunk = malloc(sizeof *chunk + size);
        if (!chunk) {
            pool->failed = true;
            return NULL;
        }
        chunk->size = size;
        chunk->next = pool->chunks;
        pool->chunks = chunk;
        pool->used = 0;
    }
    void *p = pool->chunks->p + pool->used;
    pool->used += n;
    return p;
}

void ms_pool_reset(ms_pool *pool)
{
    while (pool->chunks && pool->chunks->next) {
        ms_chunk *next = pool->chunks->next;
        free(pool->chunks);
        pool->chunks = next;
    }
    if (pool->chunks && pool->chunks->size > CHUNK) {
        free(pool->chunks);
        pool->chunks = NULL;
    }
    pool->used = 0;
    pool->failed = false;
}

void ms_pool_done(ms_pool *pool)
{
    ms_pool_reset(pool);
    free(pool->chunks);
    *pool = (ms_pool){0};
}
