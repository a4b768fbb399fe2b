/* SPDX-License-Identifier: MIT */
/* Strings, UTF-8 and the growing buffer. */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

int tn_blob_cmp(tn_blob a, tn_blob b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.p, b.p, n) : 0;
    if (order)
        return order;
    return (a.n > b.n) - (a.n < b.n);
}

bool tn_str_starts(tn_str s, tn_str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

bool tn_str_caseeq(tn_str a, tn_str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++) {
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    }
    return true;
}

/* Bytes of the character at p, 0 when it is not one: no overlong forms, no surrogates, nothing past
 * U+10FFFF. */
static size_t multibyte_len(const uint8_t *p, size_t n)
{
    uint8_t c = p[0];
    if (c >= 0xc2 && c <= 0xdf)
        return n >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (c >= 0xe0 && c <= 0xef) {
        if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
            return 0;
        return (c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) ? 0 : 3;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        if (n < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
            return 0;
        return (c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f) ? 0 : 4;
    }
    return 0;
}

bool tn_utf8_valid(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if (n - i >= 8) {
            uint64_t word;
            memcpy(&word, p + i, 8);
            if (!(word & UINT64_C(0x8080808080808080))) {
                i += 8;
                continue;
            }
        }
        if (p[i] < 0x80) {
            i++;
            continue;
        }
        size_t len = multibyte_len(p + i, n - i);
        if (!len)
            return false;
        i += len;
    }
    return true;
}

void tn_buf_reserve(tn_buf *buf, size_t more)
{
    size_t need;
    TN_ASSERT(!__builtin_add_overflow(buf->n, more, &need));
    if (need <= buf->cap && buf->p)
        return;
    size_t cap = buf->cap ? buf->cap : 64;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    buf->p = tn_xrealloc(buf->p, cap);
    buf->cap = cap;
}

void tn_buf_put(tn_buf *buf, const void *p, size_t n)
{
    if (!n)
        return;
    tn_buf_reserve(buf, n);
    memcpy(buf->p + buf->n, p, n);
    buf->n += n;
}

void tn_buf_put_u8(tn_buf *buf, uint8_t v) { tn_buf_put(buf, &v, 1); }

void tn_buf_put_u32be(tn_buf *buf, uint32_t v)
{
    uint8_t bytes[4];
    tn_put_u32be(bytes, v);
    tn_buf_put(buf, bytes, sizeof bytes);
}

void tn_buf_put_u64be(tn_buf *buf, uint64_t v)
{
    uint8_t bytes[8];
    tn_put_u64be(bytes, v);
    tn_buf_put(buf, bytes, sizeof bytes);
}

void tn_buf_printf(tn_buf *buf, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    char small[256];
    int n = vsnprintf(small, sizeof small, fmt, args);
    if (n > 0 && (size_t)n < sizeof small) {
        tn_buf_put(buf, small, (size_t)n);
    } else if (n > 0) {
        tn_buf_reserve(buf, (size_t)n + 1);
        vsnprintf((char *)buf->p + buf->n, (size_t)n + 1, fmt, again);
        buf->n += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void tn_buf_done(tn_buf *buf)
{
    free(buf->p);
    *buf = (tn_buf){0};
}
