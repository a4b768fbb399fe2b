/* SPDX-License-Identifier: MIT */
/* Reads the JSON that search attributes hold: a scalar or an array of scalars.  Anything deeper is not a
 * search attribute, so nothing recurses. */
#include <stdio.h>

#include "visibility/private.h"

typedef struct reader {
    tn_arena *arena;
    const char *p, *end;
    bool full; /* the arena is */
} reader;

static void skip_blank(reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool take_word(reader *r, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
        return false;
    r->p += n;
    return true;
}

static bool read_hex4(reader *r, uint32_t *out)
{
    if (r->end - r->p < 4)
        return false;
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = *r->p++;
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16)
            return false;
        v = v << 4 | digit;
    }
    *out = v;
    return true;
}

static size_t put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f));
    to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* After "\u".  A surrogate without its mate becomes U+FFFD, as Go's decoder does. */
static bool read_unicode(reader *r, char *to, size_t *n)
{
    uint32_t c, low;
    if (!read_hex4(r, &c))
        return false;
    if (c >= 0xd800 && c < 0xdc00 && r->end - r->p >= 6 && r->p[0] == '\\' && r->p[1] == 'u') {
        const char *mark = r->p;
        r->p += 2;
        if (!read_hex4(r, &low))
            return false;
        if (low >= 0xdc00 && low < 0xe000)
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        else
            r->p = mark;
    }
    if (c >= 0xd800 && c < 0xe000)
        c = 0xfffd;
    *n += put_utf8(to + *n, c);
    return true;
}

static bool read_escape(reader *r, char *to, size_t *n)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (r->p == r->end)
        return false;
    char c = *r->p++;
    if (c == 'u')
        return read_unicode(r, to, n);
    const char *known = c ? strchr(from, c) : NULL;
    if (!known)
        return false;
    to[(*n)++] = into[known - from];
    return true;
}

static bool read_string(reader *r, tn_str *out)
{
    const char *close = ++r->p;
    while (close < r->end && *close != '"')
        close += *close == '\\' && close + 1 < r->end ? 2 : 1;
    if (close >= r->end)
        return false;
    /* An escape is never shorter than what it stands for. */
    char *to = tn_arena_alloc(r->arena, (size_t)(close - r->p) + 1);
    size_t n = 0;
    if (!to) {
        r->full = true;
        return false;
    }
    while (r->p < close) {
        char c = *r->p++;
        if ((unsigned char)c < 0x20)
            return false;
        if (c != '\\')
            to[n++] = c;
        else if (!read_escape(r, to, &n))
            return false;
    }
    r->p = close + 1;
    *out = (tn_str){to, n};
    return true;
}

static bool read_number(reader *r, tn_str *out)
{
    const char *begin = r->p;
    if (r->p < r->end && *r->p == '-')
        r->p++;
    const char *digits = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    if (r->p == digits || (*digits == '0' && r->p - digits > 1))
        return false;
    if (r->p < r->end && *r->p == '.') {
        const char *fraction = ++r->p;
        while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
            r->p++;
        if (r->p == fraction)
            return false;
    }
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
        r->p++;
        if (r->p < r->end && (*r->p == '+' || *r->p == '-'))
            r->p++;
        const char *exponent = r->p;
        while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
            r->p++;
        if (r->p == exponent)
            return false;
    }
    *out = (tn_str){begin, (size_t)(r->p - begin)};
    return true;
}

static bool read_scalar(reader *r, tn_json *out)
{
    memset(out, 0, sizeof(*out));
    skip_blank(r);
    if (r->p == r->end)
        return false;
    switch (*r->p) {
    case '"':
        out->kind = TN_JSON_STRING;
        return read_string(r, &out->text);
    case 'n':
        out->kind = TN_JSON_NULL;
        return take_word(r, "null");
    case 't':
        out->kind = TN_JSON_BOOL;
        out->boolean = true;
        return take_word(r, "true");
    case 'f':
        out->kind = TN_JSON_BOOL;
        return take_word(r, "false");
    default:
        out->kind = TN_JSON_NUMBER;
        return read_number(r, &out->text);
    }
}

static bool read_array(reader *r, tn_json *out)
{
    memset(out, 0, sizeof(*out));
    out->kind = TN_JSON_ARRAY;
    tn_json *items = NULL;
    size_t cap = 0;
    r->p++;
    skip_blank(r);
    if (r->p < r->end && *r->p == ']') {
        r->p++;
        return true;
    }
    for (;;) {
        if (out->count == cap) {
            cap = cap ? cap * 2 : 8;
            tn_json *grown = TN_NEW_ARRAY(r->arena, tn_json, cap);
            if (!grown) {
                r->full = true;
                return false;
            }
            if (out->count)
                memcpy(grown, items, out->count * sizeof(*items));
            items = grown;
        }
        if (!read_scalar(r, &items[out->count]))
            return false;
        out->items = items;
        out->count++;
        skip_blank(r);
        if (r->p == r->end || (*r->p != ',' && *r->p != ']'))
            return false;
        if (*r->p++ == ']')
            return true;
    }
}

tn_status tn_json_read(tn_arena *arena, tn_str text, tn_json *out)
{
    reader r = {.arena = arena, .p = text.p, .end = text.p + text.n};
    if (text.n == 0 || !tn_utf8_valid((const uint8_t *)text.p, text.n))
        return TN_EINVALID;
    tn_json value;
    skip_blank(&r);
    bool ok = r.p < r.end && (*r.p == '[' ? read_array(&r, &value) : read_scalar(&r, &value));
    skip_blank(&r);
    if (r.full)
        return TN_ETOOLARGE;
    if (!ok || r.p != r.end)
        return TN_EINVALID;
    *out = value;
    return TN_OK;
}

tn_str tn_json_quote(tn_arena *arena, tn_str s)
{
    if (s.n > (SIZE_MAX - 3) / 6)
        return (tn_str){NULL, 0};
    size_t need = 3;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        need += c < 0x20 ? 6 : c == '"' || c == '\\' ? 2 : 1;
    }
    char *to = tn_arena_alloc(arena, need);
    if (!to)
        return (tn_str){NULL, 0};
    size_t n = 0;
    to[n++] = '"';
    for (size_t i = 0; i < s.n; i++) {
        static const char hex[] = "0123456789abcdef";
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20) {
            memcpy(to + n, "\\u00", 4);
            to[n + 4] = hex[c >> 4];
            to[n + 5] = hex[c & 15];
            n += 6;
            continue;
        }
        if (c == '"' || c == '\\')
            to[n++] = '\\';
        to[n++] = (char)c;
    }
    to[n++] = '"';
    to[n] = '\0';
    return (tn_str){to, n};
}
