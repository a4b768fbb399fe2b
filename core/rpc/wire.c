/* SPDX-License-Identifier: MIT */
/* The small codecs of gRPC's protocol over HTTP/2; see wire.h. */
#include "rpc/wire.h"

#include <string.h>

bool rpc_timeout_parse(tn_str s, uint64_t *out_ns)
{
    uint64_t value = 0, unit;

    if (s.n < 2 || s.n > 9)
        return false;
    for (size_t i = 0; i + 1 < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(s.p[i] - '0');
    }
    switch (s.p[s.n - 1]) {
    case 'H':
        unit = 3600 * TN_SEC;
        break;
    case 'M':
        unit = 60 * TN_SEC;
        break;
    case 'S':
        unit = TN_SEC;
        break;
    case 'm':
        unit = TN_MS;
        break;
    case 'u':
        unit = TN_US;
        break;
    case 'n':
        unit = 1;
        break;
    default:
        return false;
    }
    /* 99,999,999 hours are more than 64 bits of nanoseconds. */
    if (__builtin_mul_overflow(value, unit, out_ns))
        *out_ns = UINT64_MAX;
    return true;
}

/* Bytes of the UTF-8 sequence that begins with this byte; 1 for what begins none. */
static size_t sequence_size(uint8_t lead)
{
    if (lead >= 0xf0)
        return 4;
    if (lead >= 0xe0)
        return 3;
    return lead >= 0xc0 ? 2 : 1;
}

size_t rpc_percent_encode(tn_str s, char *out, size_t cap)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;

    for (size_t i = 0; i < s.n;) {
        uint8_t c = (uint8_t)s.p[i];
        size_t size = sequence_size(c);

        if (c >= 0x20 && c <= 0x7e && c != '%') {
            if (n == cap)
                break;
            out[n++] = (char)c;
            i++;
            continue;
        }
        if (size > s.n - i)
            size = s.n - i;
        if (size * 3 > cap - n)
            break;
        for (size_t k = 0; k < size; k++, i++) {
            out[n++] = '%';
            out[n++] = hex[(uint8_t)s.p[i] >> 4];
            out[n++] = hex[(uint8_t)s.p[i] & 15];
        }
    }
    return n;
}

size_t rpc_base64_encode(tn_blob in, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0, i = 0;

    for (; i + 3 <= in.n; i += 3) {
        uint32_t v = (uint32_t)in.p[i] << 16 | (uint32_t)in.p[i + 1] << 8 | in.p[i + 2];
        out[n++] = digits[v >> 18];
        out[n++] = digits[v >> 12 & 63];
        out[n++] = digits[v >> 6 & 63];
        out[n++] = digits[v & 63];
    }
    if (in.n - i == 1) {
        out[n++] = digits[in.p[i] >> 2];
        out[n++] = digits[(in.p[i] & 3) << 4];
    } else if (in.n - i == 2) {
        uint32_t v = (uint32_t)in.p[i] << 8 | in.p[i + 1];
        out[n++] = digits[v >> 10];
        out[n++] = digits[v >> 4 & 63];
        out[n++] = digits[(v & 15) << 2];
    }
    return n;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

bool rpc_base64_decode(tn_str in, uint8_t *out, size_t *out_n)
{
    size_t n = 0;
    uint32_t bits = 0;
    unsigned have = 0;

    if (in.n % 4 == 0) {
        for (int pad = 0; pad < 2 && in.n && in.p[in.n - 1] == '='; pad++)
            in.n--;
    }
    if (in.n % 4 == 1)
        return false;
    for (size_t i = 0; i < in.n; i++) {
        int digit = base64_digit(in.p[i]);
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (uint8_t)(bits >> have);
        }
    }
    /* Bits beyond the last byte must be zero, so that one value has one spelling. */
    if (bits & ((1u << have) - 1))
        return false;
    *out_n = n;
    return true;
}

bool rpc_content_type_ok(tn_str s)
{
    tn_str base = TN_STR("application/grpc");

    if (s.n < base.n || !tn_str_caseeq((tn_str){s.p, base.n}, base))
        return false;
    if (s.n == base.n || s.p[base.n] == ';')
        return true;
    /* Other codecs than protobuf are not spoken here. */
    tn_str rest = {s.p + base.n, s.n - base.n};
    tn_str proto = TN_STR("+proto");
    return rest.n >= proto.n && tn_str_caseeq((tn_str){rest.p, proto.n}, proto) &&
           (rest.n == proto.n || rest.p[proto.n] == ';');
}

bool rpc_list_has(tn_str list, tn_str word)
{
    size_t i = 0;

    while (i < list.n) {
        size_t from, to;

        while (i < list.n && (list.p[i] == ' ' || list.p[i] == ','))
            i++;
        for (from = i; i < list.n && list.p[i] != ',';)
            i++;
        for (to = i; to > from && list.p[to - 1] == ' ';)
            to--;
        if (tn_str_eq((tn_str){list.p + from, to - from}, word))
            return true;
    }
    return false;
}

rpc_framer_event rpc_framer_feed(rpc_framer *f, const uint8_t *p, size_t n, size_t *out_used)
{
    size_t take;

    *out_used = 0;
    if (!f->in_body) {
        take = RPC_FRAME_HEAD - (size_t)f->head_n;
        if (take > n)
            take = n;
        memcpy(f->head + f->head_n, p, take);
        f->head_n = (uint8_t)(f->head_n + take);
        *out_used = take;
        if (f->head_n < RPC_FRAME_HEAD)
            return RPC_FRAMER_MORE;
        f->in_body = true;
        f->need = tn_get_u32be(f->head + 1);
        f->have = 0;
        f->body = NULL;
        return RPC_FRAMER_HEAD;
    }
    take = f->need - f->have;
    if (take > n)
        take = n;
    if (take)
        memcpy(f->body + f->have, p, take);
    f->have += (uint32_t)take;
    *out_used = take;
    if (f->have < f->need)
        return RPC_FRAMER_MORE;
    f->in_body = false;
    f->head_n = 0;
    return RPC_FRAMER_MESSAGE;
}
