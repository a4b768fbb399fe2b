/* SPDX-License-Identifier: MIT */
/* Assertions that stay in release builds.  They test our own state, never what a peer sent and
 * never the result of I/O: a false assertion is a bug of ours, and going on could damage data. */
#ifndef TN_BASE_ASSERT_H
#define TN_BASE_ASSERT_H

_Noreturn void tn_assert_failed(const char *expr, const char *file, int line);

#define TN_ASSERT(expr) ((expr) ? (void)0 : tn_assert_failed(#expr, __FILE__, __LINE__))

#ifdef TN_DEBUG
#define TN_DEBUG_ASSERT(expr) TN_ASSERT(expr)
#else
#define TN_DEBUG_ASSERT(expr) ((void)sizeof(expr))
#endif

#define TN_WARN_UNUSED __attribute__((warn_unused_result))
#define TN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define TN_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define TN_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
