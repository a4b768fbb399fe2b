/* SPDX-License-Identifier: MIT */
/* Everything of the base room: what the C library lacks, with one lifetime and one owner each. */
#ifndef TN_BASE_BASE_H
#define TN_BASE_BASE_H

#include "base/arena.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"

/* Fills a tn_error (any of them may be NULL) and returns its code, so that a function can say
 * `return tn_error_set(err, TN_EINVALID, "...")`. */
tn_status tn_error_set(tn_error *err, tn_status code, const char *fmt, ...) TN_PRINTF(3, 4);
const char *tn_status_name(tn_status status);

/* Heap memory that cannot fail softly: process-lifetime objects and growing tables. */
void *tn_xmalloc(size_t n) __attribute__((malloc, alloc_size(1), returns_nonnull));
void *tn_xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *tn_xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
void *tn_xreallocarray(void *p, size_t count, size_t size) __attribute__((returns_nonnull));
char *tn_xstrdup(const char *s) __attribute__((malloc, returns_nonnull));

#endif
