/* SPDX-License-Identifier: MIT */
/* Small helpers over tn_str and tn_blob (pointer + length, see <tenon/plugin.h>), a growing byte
 * buffer, big-endian codecs for keys, hex, UTF-8 and number parsing without surprises. */
#ifndef TN_BASE_STR_H
#define TN_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tenon/plugin.h>

#include "base/arena.h"

#define TN_STR(literal) ((tn_str){(literal), sizeof(literal) - 1})
#define TN_STR_FMT "%.*s"
#define TN_STR_ARG(s) (int)(s).n, (s).p ? (s).p : ""

static inline tn_str tn_str_from(const char *s) { return (tn_str){s, s ? strlen(s) : 0}; }
static inline tn_blob tn_blob_from(const void *p, size_t n) { return (tn_blob){p, n}; }
static inline tn_blob tn_blob_of_str(tn_str s) { return (tn_blob){(const uint8_t *)s.p, s.n}; }
static inline tn_str tn_str_of_blob(tn_blob b) { return (tn_str){(const char *)b.p, b.n}; }
static inline bool tn_str_eq(tn_str a, tn_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool tn_str_is(tn_str a, const char *b) { return tn_str_eq(a, tn_str_from(b)); }
static inline bool tn_blob_eq(tn_blob a, tn_blob b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
int tn_blob_cmp(tn_blob a, tn_blob b); /* memcmp order, shorter first */
bool tn_str_starts(tn_str s, tn_str prefix);
bool tn_str_caseeq(tn_str a, tn_str b); /* ASCII */
bool tn_utf8_valid(const uint8_t *p, size_t n);

/* Whole string or failure; no white space, no locale. */
bool tn_parse_i64(tn_str s, int64_t *out);
bool tn_parse_u64(tn_str s, uint64_t *out);
bool tn_parse_f64(tn_str s, double *out);
/* Go's time.ParseDuration grammar ("1h30m", "250ms", "1.5s"); nanoseconds. */
bool tn_parse_duration_ns(tn_str s, int64_t *out);
/* RFC 3339 both ways, nanoseconds since 1970. */
bool tn_parse_rfc3339_ns(tn_str s, int64_t *out);
char *tn_format_rfc3339_ns(tn_arena *arena, int64_t ns);

/* Growing bytes on the heap; aborts the process only when memory is really gone. */
typedef struct tn_buf {
    uint8_t *p;
    size_t n, cap;
} tn_buf;
void tn_buf_reserve(tn_buf *buf, size_t more);
void tn_buf_put(tn_buf *buf, const void *p, size_t n);
void tn_buf_put_u8(tn_buf *buf, uint8_t v);
void tn_buf_put_u32be(tn_buf *buf, uint32_t v);
void tn_buf_put_u64be(tn_buf *buf, uint64_t v);
void tn_buf_printf(tn_buf *buf, const char *fmt, ...) TN_PRINTF(2, 3);
void tn_buf_done(tn_buf *buf); /* frees, zeroes */
static inline tn_blob tn_buf_blob(const tn_buf *buf) { return (tn_blob){buf->p, buf->n}; }

static inline void tn_put_u32be(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8),
    p[3] = (uint8_t)v;
}
static inline void tn_put_u64be(uint8_t *p, uint64_t v)
{
    tn_put_u32be(p, (uint32_t)(v >> 32)), tn_put_u32be(p + 4, (uint32_t)v);
}
static inline uint32_t tn_get_u32be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint64_t tn_get_u64be(const uint8_t *p)
{
    return (uint64_t)tn_get_u32be(p) << 32 | tn_get_u32be(p + 4);
}

#endif
