/* SPDX-License-Identifier: MIT */
/* A bump allocator with one lifetime: a request's or an operation's memory is taken from an arena
 * piece by piece and given back all at once.  An arena has one owner at a time (it travels with the
 * baton it belongs to) and a byte cap: past the cap tn_arena_alloc returns NULL and the request
 * fails, not the server. */
#ifndef TN_BASE_ARENA_H
#define TN_BASE_ARENA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/plugin.h>

#include "base/assert.h"

typedef struct tn_arena tn_arena;

/* The first chunk is small (1.4 KiB with the header) and later ones double up to 64 KiB, those
 * up to 16 KiB from per-thread free lists; larger pieces get a chunk of their own. bytes_max 0: no cap.
 * Never returns NULL (dies when the machine has no memory at start of a request). */
tn_arena *tn_arena_create(size_t bytes_max);
void tn_arena_destroy(tn_arena *arena); /* NULL allowed */
void tn_arena_reset(tn_arena *arena);   /* keeps the first chunk */
void tn_arena_set_limit(tn_arena *arena, size_t bytes_max);
size_t tn_arena_used_bytes(const tn_arena *arena);
/* Everything of `from` lives on in `into`, whose cap it may exceed; `from` itself is gone. */
void tn_arena_adopt(tn_arena *into, tn_arena *from);

/* Aligned to 16, not zeroed; NULL past the cap.  tn_arena_zalloc is zeroed. */
void *tn_arena_alloc(tn_arena *arena, size_t size) __attribute__((malloc, alloc_size(2)));
void *tn_arena_zalloc(tn_arena *arena, size_t size) __attribute__((malloc, alloc_size(2)));
void *tn_arena_alloc_aligned(tn_arena *arena, size_t size, size_t align);
/* count * size with overflow check; zeroed. */
void *tn_arena_array(tn_arena *arena, size_t count, size_t size);
#define TN_NEW(arena, type) ((type *)tn_arena_zalloc((arena), sizeof(type)))
#define TN_NEW_ARRAY(arena, type, count) ((type *)tn_arena_array((arena), (count), sizeof(type)))

/* Takes back the piece that was allocated last (any other: nothing happens), which nobody uses any
 * more: for scratch memory at the start of an object that may live long. */
void tn_arena_give_back(tn_arena *arena, void *p, size_t size);
/* The same of its end: `keep` of its `size` bytes stay.  False: it was not the last, nothing happened. */
bool tn_arena_trim(tn_arena *arena, void *p, size_t size, size_t keep);

/* Copies; the string ones are NUL-terminated besides (n does not count the NUL). */
void *tn_arena_memdup(tn_arena *arena, const void *p, size_t n);
char *tn_arena_strdup(tn_arena *arena, const char *s);
tn_str tn_arena_str(tn_arena *arena, tn_str s);
tn_blob tn_arena_blob(tn_arena *arena, tn_blob b);
char *tn_arena_printf(tn_arena *arena, const char *fmt, ...) TN_PRINTF(2, 3);
char *tn_arena_vprintf(tn_arena *arena, const char *fmt, va_list args) TN_PRINTF(2, 0);

#endif
