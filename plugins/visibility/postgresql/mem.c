/* SPDX-License-Identifier: MIT */
/* Memory of one batch or query, given back at once, and texts that grow. */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_BYTES ((size_t)16 << 10)

typedef struct vp_block {
    struct vp_block *next;
    size_t n, cap;
    _Alignas(max_align_t) uint8_t bytes[];
} vp_block;

void *vp_alloc(vp_mem *mem, size_t n)
{
    if (n > (size_t)1 << 30) {
        mem->failed = true;
        return NULL;
    }
    n = (n + 15) & ~(size_t)15;
    vp_block *b = mem->blocks;
    if (!b || b->cap - b->n < n) {
        size_t cap = n > BLOCK_BYTES / 4 ? n : BLOCK_BYTES;
        vp_block *fresh = calloc(1, sizeof *fresh + cap);
        if (!fresh) {
            mem->failed = true;
            return NULL;
        }
        fresh->cap = cap;
        if (b && n > BLOCK_BYTES / 4) { /* the block with room stays in front */
            fresh->next = b->next;
            b->next = fresh;
        } else {
            fresh->next = b;
            mem->blocks = fresh;
        }
        b = fresh;
    }
    b->n += n;
    return b->bytes + b->n - n;
}

void vp_mem_done(vp_mem *mem)
{
    for (vp_block *b = mem->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *mem = (vp_mem){0};
}

static bool grow(vp_text *t, size_t n)
{
    if (t->failed)
        return false;
    if (n <= t->cap - t->n)
        return true;
    size_t cap = t->cap ? t->cap : 512;
    while (cap - t->n < n && cap < (size_t)1 << 30)
        cap *= 2;
    char *grown = cap - t->n < n ? NULL : realloc(t->p, cap);
    if (!grown) {
        t->failed = true;
        return false;
    }
    t->p = grown;
    t->cap = cap;
    return true;
}

void vp_put(vp_text *t, const void *p, size_t n)
{
    if (n == 0 || !grow(t, n))
        return;
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

void vp_say(vp_text *t, const char *fmt, ...)
{
    char small[256];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    if (n < 0) {
        t->failed = true;
    } else if ((size_t)n < sizeof small) {
        vp_put(t, small, (size_t)n);
    } else if (grow(t, (size_t)n + 1)) {
        va_start(args, fmt);
        vsnprintf(t->p + t->n, (size_t)n + 1, fmt, args);
        va_end(args);
        t->n += (size_t)n;
    }
}

void vp_text_done(vp_text *t)
{
    free(t->p);
    *t = (vp_text){0};
}
