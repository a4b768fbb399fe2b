/* SPDX-License-Identifier: MIT */
/* Error texts, assertions and heap memory that cannot fail softly. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void tn_assert_failed(const char *expr, const char *file, int line)
{
    char text[512];
    int n = snprintf(text, sizeof text, "tenon: %s:%d: assertion failed: %s\n", file, line, expr);
    if (n > 0) {
        size_t len = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
        ssize_t written = write(STDERR_FILENO, text, len);
        (void)written; /* there is nobody left to tell */
    }
    abort();
}

tn_status tn_error_set(tn_error *err, tn_status code, const char *fmt, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, fmt);
    err->code = code;
    err->vendor_code = 0;
    int n = vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    if (n < 0) {
        err->text[0] = 0;
    } else if ((size_t)n >= sizeof err->text) {
        /* Cut on a character's border: the text may become a gRPC message, which must be UTF-8. */
        size_t len = sizeof err->text - 1;
        while (len && !tn_utf8_valid((const uint8_t *)err->text, len) && len > sizeof err->text - 5)
            len--;
        err->text[len] = 0;
    }
    return code;
}

const char *tn_status_name(tn_status status)
{
    switch (status) {
    case TN_OK:
        return "ok";
    case TN_PENDING:
        return "pending";
    case TN_ENOTFOUND:
        return "not found";
    case TN_ECONFLICT:
        return "conflict";
    case TN_EFENCED:
        return "fenced";
    case TN_EINVALID:
        return "invalid";
    case TN_ETOOLARGE:
        return "too large";
    case TN_ETHROTTLED:
        return "throttled";
    case TN_EUNAVAILABLE:
        return "unavailable";
    case TN_EDENIED:
        return "denied";
    case TN_EUNCERTAIN:
        return "uncertain";
    case TN_ECANCELLED:
        return "cancelled";
    case TN_EINTERNAL:
        return "internal";
    case TN_EDATALOSS:
        return "data loss";
    default:
        return "unknown status";
    }
}

static _Noreturn void out_of_memory(size_t n)
{
    char text[96];
    int len = snprintf(text, sizeof text, "tenon: out of memory (asked for %zu bytes)\n", n);
    ssize_t written = len > 0 ? write(STDERR_FILENO, text, (size_t)len) : 0;
    (void)written;
    abort();
}

void *tn_xmalloc(size_t n)
{
    void *p = malloc(n ? n : 1);
    if (!p)
        out_of_memory(n);
    return p;
}

void *tn_xcalloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        out_of_memory(count);
    return p;
}

void *tn_xrealloc(void *p, size_t n)
{
    void *q = realloc(p, n ? n : 1);
    if (!q)
        out_of_memory(n);
    return q;
}

void *tn_xreallocarray(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        out_of_memory(SIZE_MAX);
    return tn_xrealloc(p, bytes);
}

char *tn_xstrdup(const char *s)
{
    size_t n = strlen(s) + 1;
    return memcpy(tn_xmalloc(n), s, n);
}
