/* SPDX-License-Identifier: MIT */
/* Values in the form that is stored: as bytes whose order is the values' order, so that one column and one
 * index serve every type. */
#include "private.h"

/* ---- run ids ------------------------------------------------------------------------------------ */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_uuid(tn_str text, uint8_t out[16])
{
    if (text.n != 36)
        return false;
    size_t digits = 0;
    for (size_t i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text.p[i] != '-')
                return false;
            continue;
        }
        int d = hex_digit(text.p[i]);
        if (d < 0)
            return false;
        out[digits / 2] = (uint8_t)(digits % 2 ? out[digits / 2] | d : d << 4);
        digits++;
    }
    return true;
}

size_t mv_run_encode(tn_str text, uint8_t out[MV_RUN_BYTES])
{
    if (parse_uuid(text, out))
        return 16;
    memset(out, 0, 16);
    memcpy(out + 16, text.p, text.n);
    return 16 + text.n;
}

tn_str mv_run_decode(const void *p, size_t n, char text[36])
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *b = p;
    if (n != 16)
        return (tn_str){(const char *)b + (n > 16 ? 16 : n), n > 16 ? n - 16 : 0};
    size_t at = 0;
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[at++] = '-';
        text[at++] = digits[b[i] >> 4];
        text[at++] = digits[b[i] & 15];
    }
    return (tn_str){text, 36};
}

/* ---- values ------------------------------------------------------------------------------------- */

/* A value that is too long for the index: its beginning, and what tells it from others that begin so. */
static size_t shorten(const uint8_t *p, size_t n, uint8_t *out, size_t room)
{
    if (n <= room) {
        if (n)
            memcpy(out, p, n);
        return n;
    }
    uint64_t a = UINT64_C(0xcbf29ce484222325), b = n;
    for (size_t i = 0; i < n; i++) {
        a = (a ^ p[i]) * UINT64_C(0x100000001b3);
        b = (b << 7 | b >> 57) + (a ^ p[i]) * UINT64_C(0x9e3779b97f4a7c15);
    }
    memcpy(out, p, room - 16);
    tn_vd_set_i64(out + room - 16, (int64_t)a);
    tn_vd_set_i64(out + room - 8, (int64_t)b);
    return room;
}

size_t mv_item_encode(const void *p, size_t n, uint8_t out[MV_VAL_MAX])
{
    out[0] = 1;
    return 1 + shorten(p, n, out + 1, MV_VAL_MAX - 1);
}

#define SIGN (UINT64_C(1) << 63)

size_t mv_value_encode(uint32_t type, tn_blob value, uint8_t out[MV_VAL_MAX])
{
    uint64_t v;
    switch (type) {
    case TN_ATTR_INT:
    case TN_ATTR_DATETIME:
        tn_vd_set_i64(out, (int64_t)((uint64_t)tn_vd_get_i64(value.p) ^ SIGN));
        return 8;
    case TN_ATTR_DOUBLE:
        v = (uint64_t)tn_vd_get_i64(value.p);
        if (v == SIGN) /* -0.0 is 0.0 */
            v = 0;
        tn_vd_set_i64(out, (int64_t)(v & SIGN ? ~v : v | SIGN));
        return 8;
    case TN_ATTR_BOOL:
        out[0] = value.p[0] != 0;
        return 1;
    default:
        return shorten(value.p, value.n, out, MV_VAL_MAX);
    }
}

tn_blob mv_value_decode(uint32_t type, tn_blob stored, uint8_t wide[8])
{
    if (type == TN_ATTR_KEYWORD || (type == TN_ATTR_BOOL && stored.n == 1) || stored.n != 8)
        return stored;
    uint64_t v = (uint64_t)tn_vd_get_i64(stored.p);
    if (type == TN_ATTR_DOUBLE)
        v = v & SIGN ? v & ~SIGN : ~v;
    else
        v ^= SIGN;
    tn_vd_set_i64(wide, (int64_t)v);
    return (tn_blob){wide, 8};
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

bool mv_own_next(tn_blob *rest, uint32_t *attr, uint32_t *type, tn_blob *value)
{
    if (rest->n < 9)
        return false;
    uint32_t n = get_u32(rest->p + 5);
    if (n > rest->n - 9)
        return false;
    *attr = get_u32(rest->p);
    *type = rest->p[4];
    *value = (tn_blob){rest->p + 9, n};
    *rest = (tn_blob){rest->p + 9 + n, rest->n - 9 - n};
    return true;
}
