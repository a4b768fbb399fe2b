/* SPDX-License-Identifier: MIT */
/* The small things between protobuf and JSON: names of fields and enum values, base64, lengths that come late. */
#include "http/private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool http_fail(http_problem *problem, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(problem->text, sizeof(problem->text), fmt, args);
    va_end(args);
    return false;
}

/* ---- names ---- */

static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

bool http_json_name_is(const char *proto_name, tn_str json_name)
{
    bool raise = false;
    size_t i = 0;

    for (; *proto_name; proto_name++) {
        if (*proto_name == '_') {
            raise = true;
            continue;
        }
        if (i == json_name.n || json_name.p[i++] != (raise ? upper(*proto_name) : *proto_name))
            return false;
        raise = false;
    }
    return i == json_name.n;
}

void http_put_json_name(tn_buf *buf, const char *proto_name)
{
    bool raise = false;

    tn_buf_put_u8(buf, '"');
    for (; *proto_name; proto_name++) {
        if (*proto_name == '_') {
            raise = true;
            continue;
        }
        tn_buf_put_u8(buf, (uint8_t)(raise ? upper(*proto_name) : *proto_name));
        raise = false;
    }
    tn_buf_put_u8(buf, '"');
}

const ProtobufCFieldDescriptor *http_field(const ProtobufCMessageDescriptor *d, tn_str name)
{
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        if (http_json_name_is(f->name, name) || tn_str_is(name, f->name))
            return f;
    }
    return NULL;
}

/* protoc names the entry of map `foo_bar` in message M "M.FooBarEntry"; no message of the API is called so. */
bool http_is_map(const ProtobufCMessageDescriptor *parent, const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *d = field->descriptor;
    size_t n = strlen(parent->name);

    if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE ||
        d->n_fields != 2 || strcmp(d->fields[0].name, "key") != 0 ||
        strcmp(d->fields[1].name, "value") != 0)
        return false;
    return strncmp(d->name, parent->name, n) == 0 && d->name[n] == '.' &&
           strlen(d->short_name) > 5 &&
           strcmp(d->short_name + strlen(d->short_name) - 5, "Entry") == 0;
}

/* As the upper-case name of a value is made from that of its enum: a border before each capital. */
static size_t screaming(const char *p, size_t n, char *out, size_t cap)
{
    size_t used = 0;

    for (size_t i = 0; i < n && used + 2 < cap; i++) {
        bool capital = p[i] >= 'A' && p[i] <= 'Z';
        bool before_lower = i && p[i - 1] >= 'a' && p[i - 1] <= 'z';
        bool after_lower = i + 1 < n && p[i + 1] >= 'a' && p[i + 1] <= 'z';
        if (i && capital && p[i - 1] != '_' && (before_lower || after_lower))
            out[used++] = '_';
        out[used++] = p[i] == ' ' || p[i] == '-' || p[i] == '.' ? '_' : upper(p[i]);
    }
    return used;
}

bool http_enum_value(const ProtobufCEnumDescriptor *e, tn_str name, int32_t *out)
{
    char text[160];
    const ProtobufCEnumValue *v;
    size_t n;

    if (!name.n || name.n > 80 || memchr(name.p, 0, name.n))
        return false;
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    v = protobuf_c_enum_descriptor_get_value_by_name(e, text);
    if (!v) {
        n = screaming(e->short_name, strlen(e->short_name), text, sizeof(text) / 2);
        text[n++] = '_';
        n += screaming(name.p, name.n, text + n, sizeof(text) - n - 1);
        text[n] = '\0';
        v = protobuf_c_enum_descriptor_get_value_by_name(e, text);
    }
    if (v)
        *out = v->value;
    return v != NULL;
}

/* ---- base64 ---- */

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

bool http_base64_decode(tn_str s, tn_buf *out)
{
    bool url = memchr(s.p, '-', s.n) || memchr(s.p, '_', s.n);
    uint32_t bits = 0;
    size_t n = 0;

    if (url && (memchr(s.p, '+', s.n) || memchr(s.p, '/', s.n)))
        return false;
    if (s.n && s.n % 4 == 0) {
        for (int i = 0; i < 2 && s.p[s.n - 1] == '='; i++)
            s.n--;
    }
    if (s.n % 4 == 1)
        return false;
    tn_buf_reserve(out, s.n / 4 * 3 + 3);
    for (size_t i = 0; i < s.n; i++) {
        int v = digit(s.p[i]);
        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        if (++n == 4) {
            uint8_t three[3] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
            tn_buf_put(out, three, 3);
            n = 0;
        }
    }
    if (n == 2)
        tn_buf_put_u8(out, (uint8_t)(bits >> 4));
    if (n == 3) {
        tn_buf_put_u8(out, (uint8_t)(bits >> 10));
        tn_buf_put_u8(out, (uint8_t)(bits >> 2));
    }
    return true;
}

void http_put_base64(tn_buf *buf, const uint8_t *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    tn_buf_reserve(buf, n / 3 * 4 + 4);
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) |
                     (i + 2 < n ? p[i + 2] : 0u);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63],
                        i + 1 < n ? digits[v >> 6 & 63] : '=', i + 2 < n ? digits[v & 63] : '='};
        tn_buf_put(buf, four, 4);
    }
}

/* ---- lengths that come late ---- */

http_open http_begin(tn_buf *buf, uint32_t number, size_t guess)
{
    static const uint8_t blank[TN_VARINT_MAX];
    http_open open;

    tn_proto_put_tag(buf, number, TN_WIRE_BYTES);
    open.width = (uint8_t)tn_wire_varint_size(guess);
    tn_buf_put(buf, blank, open.width);
    open.start = buf->n;
    return open;
}

void http_end(tn_buf *buf, http_open open)
{
    size_t n = buf->n - open.start, width = tn_wire_varint_size(n);

    if (width > open.width)
        tn_buf_reserve(buf, width - open.width);
    if (width != open.width)
        memmove(buf->p + open.start - open.width + width, buf->p + open.start, n);
    tn_wire_write_varint(buf->p + open.start - open.width, n);
    buf->n = open.start - open.width + width + n;
}

/* ---- whole numbers ---- */

bool http_whole_number(tn_str text, bool *out_minus, uint64_t *out_size)
{
    char digits[24];
    size_t n = 0, i = 0, point;
    int64_t exponent = 0;
    bool fraction = false, zero = true;

    *out_minus = text.n && text.p[0] == '-';
    i = *out_minus;
    point = SIZE_MAX;
    for (; i < text.n && (text.p[i] | 0x20) != 'e'; i++) {
        if (text.p[i] == '.') {
            point = n;
            fraction = true;
            continue;
        }
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        if (n == 0 && text.p[i] == '0') {
            /* Leading zeroes: of a fraction they move its point. */
            exponent -= fraction;
            continue;
        }
        zero = false;
        if (n == sizeof(digits))
            return false;
        digits[n++] = text.p[i];
    }
    if (i < text.n) {
        int64_t e;
        tn_str rest = {text.p + i + 1, text.n - i - 1};
        if (rest.n && rest.p[0] == '+')
            rest = (tn_str){rest.p + 1, rest.n - 1};
        if (!tn_parse_i64(rest, &e) || e > 400 || e < -400)
            return false;
        exponent += e;
    }
    *out_size = 0;
    if (zero)
        return true;
    if (point != SIZE_MAX)
        exponent -= (int64_t)(n - point);
    for (; exponent < 0 && n && digits[n - 1] == '0'; exponent++)
        n--;
    if (exponent < 0 || exponent + (int64_t)n > 20)
        return false;
    for (size_t k = 0; k < n + (size_t)exponent; k++) {
        uint64_t d = k < n ? (uint64_t)(digits[k] - '0') : 0;
        if (__builtin_mul_overflow(*out_size, 10, out_size) ||
            __builtin_add_overflow(*out_size, d, out_size))
            return false;
    }
    return true;
}
