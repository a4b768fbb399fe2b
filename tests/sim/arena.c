/* SPDX-License-Identifier: MIT */
/* The memory of a simulated world, kept in one piece, so that it can be laid aside and brought back: the linker sends here
 * whatever the program itself allocates (the C library keeps its own).  Large pages: a world of a thousand views is
 * 300 MB, looked at all over, and would spend its time on translating addresses. */
#include "arena.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"

#define REGION ((size_t)4 << 30)
#define HUGE ((size_t)2 << 20)
#define CLASSES 1024 /* multiples of 64 bytes; larger blocks are a power of two */

typedef struct block { /* before what is handed out */
    uint64_t size;     /* whole, with what stands before */
    uint32_t before, magic;
} block;

typedef struct region {
    size_t used;
    void *unused[CLASSES + 64];
} region;

static region *arena;
static struct {
    void *copy, *also, *also_copy;
    size_t n, also_n;
} aside;

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
void __wrap_free(void *p);

static void *map(void *at, size_t n)
{
    void *p = mmap(at, n, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

static void begin(void)
{
    uint8_t *p = map(NULL, REGION + HUGE);
    p += HUGE - (uintptr_t)p % HUGE;
    (void)madvise(p, REGION, MADV_HUGEPAGE);
    arena = (region *)(void *)p;
    arena->used = (sizeof(*arena) + 63) / 64 * 64;
}

static size_t class_of(size_t size)
{
    return size / 64 < CLASSES ? size / 64 : CLASSES + (size_t)(64 - __builtin_clzll(size - 1));
}

static void *take(size_t n, uint32_t before)
{
    if (!arena)
        begin();
    size_t size = (n + before + 63) / 64 * 64;
    if (size / 64 >= CLASSES)
        size = (size_t)1 << (64 - __builtin_clzll(size - 1));
    size_t class = class_of(size);
    uint8_t *p = arena->unused[class];
    if (p) {
        memcpy(&arena->unused[class], p, sizeof(void *));
    } else {
        if (size > REGION - arena->used)
            abort();
        p = (uint8_t *)arena + arena->used;
        arena->used += size;
    }
    block *b = (block *)(void *)(p + before - sizeof(block));
    *b = (block){.size = size, .before = before, .magic = 0x51317};
    return p + before;
}

void *__wrap_malloc(size_t n) { return take(n, sizeof(block)); }
void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
    return alignment <= 64 ? take(n, 64) : NULL;
}
void *__wrap_calloc(size_t count, size_t size)
{
    void *p = size && count > SIZE_MAX / size ? NULL : take(count * size, sizeof(block));
    return p ? memset(p, 0, count * size) : NULL;
}

/* What the C library gave (strdup and the like) is its own, and stays: the program ends soon. */
static block *ours(void *p)
{
    if (!p || !arena || (uint8_t *)p < (uint8_t *)arena ||
        (uint8_t *)p >= (uint8_t *)arena + REGION)
        return NULL;
    block *b = (block *)p - 1;
    TN_ASSERT(b->magic == 0x51317);
    return b;
}

void __wrap_free(void *p)
{
    block *b = ours(p);
    if (!b)
        return;
    uint8_t *start = (uint8_t *)p - b->before;
    size_t class = class_of(b->size);
    b->magic = 0;
    memcpy(start, &arena->unused[class], sizeof(void *));
    arena->unused[class] = start;
}

void *__wrap_realloc(void *p, size_t n)
{
    const block *b = ours(p);
    size_t had = b ? b->size - b->before : 0;
    if (n && had >= n)
        return p;
    void *q = take(n, sizeof(block));
    if (b)
        memcpy(q, p, had);
    __wrap_free(p);
    return q;
}
void *__wrap_reallocarray(void *p, size_t count, size_t size)
{
    return size && count > SIZE_MAX / size ? NULL : __wrap_realloc(p, count * size);
}

void sim_arena_lay_aside(void *also, size_t n)
{
    int flags = MAP_SHARED | MAP_ANONYMOUS; /* one copy for all processes */
    aside.n = arena->used;
    aside.copy = mmap(NULL, aside.n, PROT_READ | PROT_WRITE, flags, -1, 0);
    aside.also = also;
    aside.also_n = n;
    aside.also_copy = mmap(NULL, n, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (aside.copy == MAP_FAILED || aside.also_copy == MAP_FAILED)
        abort();
    memcpy(aside.copy, arena, aside.n);
    memcpy(aside.also_copy, also, n);
}

void sim_arena_own(void)
{
    map(arena, REGION);
    (void)madvise(arena, REGION, MADV_HUGEPAGE);
    sim_arena_bring_back();
}

void sim_arena_bring_back(void)
{
    memcpy(arena, aside.copy, aside.n);
    memcpy(aside.also, aside.also_copy, aside.also_n);
}
