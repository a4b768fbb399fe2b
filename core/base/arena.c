/* SPDX-License-Identifier: MIT */
/* The arena: chunks in a list, the newest first, and a bump pointer into the current one.  The
 * arena's own header sits in its first chunk, so that a small request costs one piece of memory,
 * which comes from the thread's free lists, as the next ones do.  Under AddressSanitizer the free lists are off and the
 * unused bytes are poisoned, so that stale pointers and overruns inside an arena are caught as
 * well. */
#include "base/arena.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#ifndef ARENA_ASAN
#define ARENA_ASAN 0
#endif

#if ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#define RED_ZONE 16u
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#define RED_ZONE 0u
#endif

/* A parked poll with all that the roles hang on it fits into the first chunk, one that says much into both: there may
 * be tens of thousands. */
#define FIRST_CHUNK_BYTES 1400u
#define SECOND_CHUNK_BYTES 1024u /* which malloc keeps for the thread */
#define THIRD_CHUNK_BYTES 4096u
#define CHUNK_BYTES_MAX 65536u
/* Chunks of the regular sizes are kept for the thread's next arenas: given to malloc, those above a KiB are joined with
 * their neighbours and cut out again, request after request.  At most 415 KiB a thread. */
#define KEPT_SIZES 5u
static const struct {
    uint32_t bytes;
    int max;
} kept_sizes[KEPT_SIZES] = {
    {FIRST_CHUNK_BYTES, 128},
    {SECOND_CHUNK_BYTES, 48},
    {THIRD_CHUNK_BYTES, 24},
    {8192, 8},
    {16384, 2},
};

struct chunk {
    struct chunk *next;
    size_t size; /* with this header */
};
#define CHUNK_HEAD 16u
_Static_assert(sizeof(struct chunk) <= CHUNK_HEAD, "chunk header");

struct tn_arena {
    struct chunk *chunks; /* the current one first, the one that holds this header last */
    uint8_t *cur, *end;
    size_t used, max;
    size_t chunk_next; /* size of the next regular chunk */
};
#define ARENA_HEAD ((sizeof(struct tn_arena) + 15u) & ~(size_t)15)

typedef struct free_list {
    struct chunk *chunks;
    int count;
} free_list;

static _Thread_local free_list free_lists[KEPT_SIZES];
static _Thread_local bool free_registered, free_ended;
static pthread_key_t free_key;
static pthread_once_t free_once = PTHREAD_ONCE_INIT;

static void free_list_end(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < KEPT_SIZES; i++) {
        while (free_lists[i].chunks) {
            struct chunk *c = free_lists[i].chunks;
            free_lists[i].chunks = c->next;
            free(c);
        }
    }
    free_ended = true; /* what is destroyed after this goes to the heap */
}

static void free_list_make_key(void)
{
    TN_ASSERT(pthread_key_create(&free_key, free_list_end) == 0);
}

/* The list of chunks of that size; KEPT_SIZES: they are not kept. */
static unsigned kept_index(size_t bytes)
{
    unsigned i = 0;
    while (i < KEPT_SIZES && kept_sizes[i].bytes != bytes)
        i++;
    return i;
}

static struct chunk *chunk_take(unsigned i)
{
    struct chunk *c = free_lists[i].chunks;
    if (c) {
        free_lists[i].chunks = c->next;
        free_lists[i].count--;
    }
    return c;
}

static struct chunk *first_chunk_take(void)
{
    struct chunk *c = chunk_take(0);
    if (!c) {
        c = tn_xmalloc(FIRST_CHUNK_BYTES);
        c->size = FIRST_CHUNK_BYTES;
    }
    return c;
}

/* NULL: no memory. */
static struct chunk *chunk_make(size_t bytes)
{
    unsigned i = kept_index(bytes);
    struct chunk *c = i < KEPT_SIZES ? chunk_take(i) : NULL;
    if (!c)
        c = malloc(bytes);
    if (c)
        c->size = bytes;
    return c;
}

static void chunk_give(struct chunk *c)
{
    unsigned i = kept_index(c->size);
    UNPOISON(c, c->size);
    if (ARENA_ASAN || free_ended || i == KEPT_SIZES || free_lists[i].count >= kept_sizes[i].max) {
        free(c);
        return;
    }
    if (!free_registered) {
        pthread_once(&free_once, free_list_make_key);
        pthread_setspecific(free_key, &free_key); /* any non-NULL value: makes the destructor run */
        free_registered = true;
    }
    c->next = free_lists[i].chunks;
    free_lists[i].chunks = c;
    free_lists[i].count++;
}

static void arena_init(tn_arena *a, struct chunk *first)
{
    a->chunks = first;
    a->cur = (uint8_t *)first + CHUNK_HEAD + ARENA_HEAD;
    a->end = (uint8_t *)first + first->size;
    a->used = 0;
    a->chunk_next = SECOND_CHUNK_BYTES;
    POISON(a->cur, (size_t)(a->end - a->cur));
}

tn_arena *tn_arena_create(size_t bytes_max)
{
    struct chunk *c = first_chunk_take();
    c->next = NULL;
    tn_arena *a = (tn_arena *)(void *)((uint8_t *)c + CHUNK_HEAD);
    arena_init(a, c);
    tn_arena_set_limit(a, bytes_max);
    return a;
}

static struct chunk *drop_later_chunks(tn_arena *arena)
{
    struct chunk *c = arena->chunks;
    while (c->next) {
        struct chunk *next = c->next;
        chunk_give(c);
        c = next;
    }
    return c;
}

void tn_arena_destroy(tn_arena *arena)
{
    if (arena)
        chunk_give(drop_later_chunks(arena));
}

void tn_arena_adopt(tn_arena *into, tn_arena *from)
{
    struct chunk *last = from->chunks; /* it holds from's header, which nobody reads again */
    while (last->next)
        last = last->next;
    struct chunk *first = from->chunks;
    into->used += from->used;
    last->next = into->chunks;
    into->chunks = first;
}

void tn_arena_reset(tn_arena *arena) { arena_init(arena, drop_later_chunks(arena)); }

void tn_arena_set_limit(tn_arena *arena, size_t bytes_max)
{
    arena->max = bytes_max ? bytes_max : SIZE_MAX;
}

size_t tn_arena_used_bytes(const tn_arena *arena) { return arena->used; }

/* The piece does not fit into the current chunk.  A piece that is large beside a regular chunk
 * gets a chunk of its own behind the current one, so that the rest of the current one stays in
 * use. */
static void *alloc_slow(tn_arena *arena, size_t size, size_t need)
{
    bool alone = need > arena->chunk_next / (arena->chunk_next < THIRD_CHUNK_BYTES ? 2 : 4);
    size_t bytes = alone ? need + CHUNK_HEAD : arena->chunk_next;
    struct chunk *c = chunk_make(bytes);
    if (!c)
        return NULL;
    uint8_t *p = (uint8_t *)c + CHUNK_HEAD;
    POISON(p, bytes - CHUNK_HEAD);
    if (alone && arena->chunks->next) {
        c->next = arena->chunks->next;
        arena->chunks->next = c;
    } else {
        /* The first chunk must stay last: with one chunk only, the new one goes before it but the
         * bump pointer may stay where it was. */
        c->next = arena->chunks;
        arena->chunks = c;
        if (!alone) {
            arena->cur = p + need;
            arena->end = (uint8_t *)c + bytes;
        }
    }
    if (!alone && arena->chunk_next < THIRD_CHUNK_BYTES)
        arena->chunk_next = THIRD_CHUNK_BYTES;
    else if (!alone && arena->chunk_next < CHUNK_BYTES_MAX)
        arena->chunk_next *= 2;
    arena->used += need;
    UNPOISON(p, size);
    return p;
}

static size_t piece_bytes(size_t size)
{
    return ((size ? size : 1u) + 15u + RED_ZONE) & ~(size_t)15;
}

void tn_arena_give_back(tn_arena *arena, void *p, size_t size)
{
    size_t bytes = piece_bytes(size);

    if ((uint8_t *)p + bytes != arena->cur)
        return;
    arena->cur = p;
    arena->used -= bytes;
    POISON(p, bytes);
}

bool tn_arena_trim(tn_arena *arena, void *p, size_t size, size_t keep)
{
    size_t bytes = piece_bytes(size), kept = piece_bytes(keep);

    if ((uint8_t *)p + bytes != arena->cur || keep > size)
        return false;
    arena->cur = (uint8_t *)p + kept;
    arena->used -= bytes - kept;
    POISON((uint8_t *)p + keep, bytes - keep);
    return true;
}

void *tn_arena_alloc(tn_arena *arena, size_t size)
{
    if (size > SIZE_MAX / 4)
        return NULL;
    size_t need = piece_bytes(size);
    if (need > arena->max || arena->used > arena->max - need)
        return NULL;
    if (need > (size_t)(arena->end - arena->cur))
        return alloc_slow(arena, size, need);
    void *p = arena->cur;
    arena->cur += need;
    arena->used += need;
    UNPOISON(p, size);
    return p;
}

void *tn_arena_zalloc(tn_arena *arena, size_t size)
{
    void *p = tn_arena_alloc(arena, size);
    if (p)
        memset(p, 0, size);
    return p;
}

void *tn_arena_alloc_aligned(tn_arena *arena, size_t size, size_t align)
{
    TN_ASSERT(align && (align & (align - 1)) == 0);
    if (align <= 16)
        return tn_arena_alloc(arena, size);
    if (size > SIZE_MAX / 4 || align > SIZE_MAX / 4)
        return NULL;
    uint8_t *p = tn_arena_alloc(arena, size + align - 1);
    return p ? p + (-(uintptr_t)p & (align - 1)) : NULL;
}

void *tn_arena_array(tn_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return tn_arena_zalloc(arena, bytes);
}

void *tn_arena_memdup(tn_arena *arena, const void *p, size_t n)
{
    if (n > SIZE_MAX / 4)
        return NULL;
    char *copy = tn_arena_alloc(arena, n + 1);
    if (!copy)
        return NULL;
    if (n)
        memcpy(copy, p, n);
    copy[n] = 0;
    return copy;
}

char *tn_arena_strdup(tn_arena *arena, const char *s)
{
    return tn_arena_memdup(arena, s, strlen(s));
}

tn_str tn_arena_str(tn_arena *arena, tn_str s)
{
    char *p = tn_arena_memdup(arena, s.p, s.n);
    return (tn_str){p, p ? s.n : 0};
}

tn_blob tn_arena_blob(tn_arena *arena, tn_blob b)
{
    uint8_t *p = tn_arena_memdup(arena, b.p, b.n);
    return (tn_blob){p, p ? b.n : 0};
}

char *tn_arena_vprintf(tn_arena *arena, const char *fmt, va_list args)
{
    char small[256];
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(small, sizeof small, fmt, args);
    char *p = NULL;
    if (n >= 0 && (size_t)n < sizeof small) {
        p = tn_arena_memdup(arena, small, (size_t)n);
    } else if (n >= 0) {
        p = tn_arena_alloc(arena, (size_t)n + 1);
        if (p)
            vsnprintf(p, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    return p;
}

char *tn_arena_printf(tn_arena *arena, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *p = tn_arena_vprintf(arena, fmt, args);
    va_end(args);
    return p;
}
