/* SPDX-License-Identifier: MIT */
/* Statements as text that grows.  Every value that goes into a statement passes through ms_put_bytes or
 * a number's function: there is no other way a stranger's bytes get there. */
#include "ms.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(ms_text *t, size_t n)
{
    if (t->failed)
        return false;
    if (t->cap - t->n > n)
        return true;
    size_t cap = t->cap ? t->cap : 4096;
    while (cap - t->n <= n)
        cap *= 2;
    char *grown = realloc(t->p, cap);
    if (!grown) {
        t->failed = true;
        return false;
    }
    t->p = grown;
    t->cap = cap;
    return true;
}

void ms_put(ms_text *t, const char *p, size_t n)
{
    if (!n || !reserve(t, n))
        return;
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

void ms_puts(ms_text *t, const char *s) { ms_put(t, s, strlen(s)); }

void ms_putf(ms_text *t, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text)
        t->failed = true; /* for short fixed texts only */
    else
        ms_put(t, text, (size_t)n);
}

void ms_put_u64(ms_text *t, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    ms_put(t, digits + at, sizeof digits - at);
}

/* What stands after the backslash; 0: the byte stands for itself. */
static const char ESCAPED[256] = {['\0'] = '0',  ['\n'] = 'n', ['\r'] = 'r', ['\\'] = '\\',
                                  ['\''] = '\'', ['"'] = '"',  [0x1a] = 'Z'};

size_t ms_bytes_size(const void *p, size_t n)
{
    const uint8_t *b = p;
    size_t size = n + 2;
    for (size_t i = 0; i < n; i++)
        size += ESCAPED[b[i]] != 0;
    return size;
}

void ms_put_bytes(ms_text *t, const void *p, size_t n)
{
    const uint8_t *b = p;
    if (!reserve(t, 2 * n + 2))
        return;
    char *out = t->p + t->n;
    *out++ = '\'';
    for (size_t i = 0; i < n; i++) {
        char e = ESCAPED[b[i]];
        if (e) {
            *out++ = '\\';
            *out++ = e;
        } else {
            *out++ = (char)b[i];
        }
    }
    *out++ = '\'';
    t->n = (size_t)(out - t->p);
}

void ms_text_done(ms_text *t)
{
    free(t->p);
    *t = (ms_text){0};
}
