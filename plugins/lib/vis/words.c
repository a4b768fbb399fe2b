/* SPDX-License-Identifier: MIT */
/* The values of documents, as the contract encodes them, and the words that Text is matched by. */
#include "vis.h"

#include <string.h>

bool tn_vd_list_next(tn_blob *rest, tn_str *out)
{
    if (rest->n < 4)
        return false;
    size_t n =
        (size_t)rest->p[0] << 24 | (size_t)rest->p[1] << 16 | (size_t)rest->p[2] << 8 | rest->p[3];
    if (n > rest->n - 4)
        return false;
    *out = (tn_str){(const char *)rest->p + 4, n};
    rest->p += 4 + n, rest->n -= 4 + n;
    return true;
}

bool tn_vd_value_valid(uint32_t type, tn_blob value)
{
    tn_str item;
    switch (type) {
    case TN_ATTR_TEXT:
    case TN_ATTR_KEYWORD:
        return value.n < (size_t)1 << 28;
    case TN_ATTR_INT:
    case TN_ATTR_DOUBLE:
    case TN_ATTR_DATETIME:
        return value.n == 8;
    case TN_ATTR_BOOL:
        return value.n == 1 && value.p[0] <= 1;
    case TN_ATTR_KEYWORD_LIST:
        if (value.n >= (size_t)1 << 28)
            return false;
        while (tn_vd_list_next(&value, &item))
            ;
        return value.n == 0;
    default:
        return false;
    }
}

/* True for UTF-8 without NUL, surrogates and overlong forms. */
bool tn_vd_utf8_valid(tn_blob text)
{
    const uint8_t *p = text.p, *end = p ? p + text.n : p;
    while (p < end) {
        uint8_t lead = *p++;
        if (lead == 0)
            return false;
        if (lead < 0x80)
            continue;
        size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || (size_t)(end - p) < more)
            return false;
        if ((lead == 0xe0 && *p < 0xa0) || (lead == 0xed && *p > 0x9f) ||
            (lead == 0xf0 && *p < 0x90) || (lead == 0xf4 && *p > 0x8f))
            return false;
        while (more--)
            if ((*p++ & 0xc0) != 0x80)
                return false;
    }
    return true;
}

/* ---- words ------------------------------------------------------------------------------------ */

static uint32_t next_char(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *p = *at;
    uint32_t c = *p++;
    int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
    if (c >= 0x80)
        c &= more == 3 ? 0x07u : more == 2 ? 0x0fu : 0x1fu;
    while (more-- > 0 && p < end && (*p & 0xc0) == 0x80)
        c = c << 6 | (*p++ & 0x3fu);
    *at = p;
    return c;
}

static bool between(uint32_t c, uint32_t low, uint32_t high) { return c >= low && c <= high; }

static bool in_word(uint32_t c)
{
    if (c < 0x80)
        return between(c, '0', '9') || between(c, 'a', 'z') || between(c, 'A', 'Z');
    if (c <= 0xbf)
        return c == 0xaa || c == 0xb5 || c == 0xba;
    return c != 0xd7 && c != 0xf7 && !between(c, 0x2000, 0x206f) && !between(c, 0x2e00, 0x2e7f) &&
           !between(c, 0x3000, 0x303f) && !between(c, 0xff00, 0xff0f) &&
           !between(c, 0xff1a, 0xff20) && !between(c, 0xfe30, 0xfe4f) && c != 0xfffd;
}

static bool is_ideograph(uint32_t c)
{
    return between(c, 0x3400, 0x4dbf) || between(c, 0x4e00, 0x9fff) || between(c, 0xf900, 0xfaff) ||
           between(c, 0x3041, 0x309f) || between(c, 0x20000, 0x3ffff);
}

/* Simple folding for the scripts that have case and are much written in; others stay as they are. */
static uint32_t fold(uint32_t c)
{
    if (between(c, 'A', 'Z') || (between(c, 0xc0, 0xde) && c != 0xd7) || between(c, 0x391, 0x3a9) ||
        between(c, 0x410, 0x42f))
        return c + 32;
    if (between(c, 0x400, 0x40f))
        return c + 80;
    if (c == 0x178)
        return 0xff;
    if (between(c, 0x100, 0x137) || between(c, 0x14a, 0x177) || between(c, 0x1e00, 0x1eff))
        return c | 1;
    if (between(c, 0x139, 0x148) || between(c, 0x179, 0x17e))
        return c + (c & 1);
    return c;
}

static size_t put_char(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6), to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12), to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18), to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f)), to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

void tn_vd_words_begin(tn_vd_words *it, tn_blob text)
{
    it->p = text.p;
    it->end = text.p ? text.p + text.n : NULL;
    it->n = 0;
}

bool tn_vd_words_next(tn_vd_words *it)
{
    it->n = 0;
    while (it->p < it->end) {
        const uint8_t *before = it->p;
        uint32_t c = next_char(&it->p, it->end);
        if (!in_word(c)) {
            if (it->n)
                return true;
        } else if (is_ideograph(c)) {
            if (it->n) {
                it->p = before;
                return true;
            }
            it->n = put_char(it->word, c);
            return true;
        } else if (it->n < TN_VD_WORD_MAX) { /* what is longer is known by its beginning */
            it->n += put_char(it->word + it->n, fold(c));
        }
    }
    return it->n > 0;
}
