/* SPDX-License-Identifier: MIT */
/* The protobuf wire format by hand: reading fields of packed bytes one by one, and writing them, so
 * that events which are packed once can be moved without being unpacked. */
#include "proto/proto.h"

const uint8_t *tn_wire_get_varint(const uint8_t *p, const uint8_t *end, uint64_t *out)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64 && p < end; shift += 7) {
        uint8_t b = *p++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            /* The tenth byte has room for one bit. */
            if (shift == 63 && b > 1)
                return NULL;
            *out = v;
            return p;
        }
    }
    return NULL;
}

uint8_t *tn_wire_write_varint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static const uint8_t *read_value(tn_wire_iter *it, const uint8_t *p, tn_wire_field *f)
{
    size_t left;

    switch (f->wire_type) {
    case TN_WIRE_VARINT:
        return tn_wire_get_varint(p, it->end, &f->value);
    case TN_WIRE_FIXED64:
        if (it->end - p < 8)
            return NULL;
        for (unsigned i = 8; i-- > 0;)
            f->value = f->value << 8 | p[i];
        return p + 8;
    case TN_WIRE_BYTES:
        p = tn_wire_get_varint(p, it->end, &f->value);
        if (!p)
            return NULL;
        left = (size_t)(it->end - p);
        if (f->value > left)
            return NULL;
        f->bytes = tn_blob_from(p, (size_t)f->value);
        return p + f->bytes.n;
    case TN_WIRE_FIXED32:
        if (it->end - p < 4)
            return NULL;
        for (unsigned i = 4; i-- > 0;)
            f->value = f->value << 8 | p[i];
        return p + 4;
    default:
        return NULL;
    }
}

bool tn_wire_next(tn_wire_iter *it, tn_wire_field *out)
{
    tn_wire_field f = {0};
    const uint8_t *start = it->p, *p;
    uint64_t tag = 0;

    if (it->damaged || start == it->end)
        return false;
    p = tn_wire_get_varint(start, it->end, &tag);
    if (p && tag <= UINT32_MAX && tag >> 3 != 0) {
        f.number = (uint32_t)(tag >> 3);
        f.wire_type = (uint32_t)(tag & 7);
        p = read_value(it, p, &f);
    } else {
        p = NULL;
    }
    if (!p) {
        it->damaged = true;
        return false;
    }
    f.raw = tn_blob_from(start, (size_t)(p - start));
    it->p = p;
    *out = f;
    return true;
}

bool tn_wire_find(tn_blob bytes, uint32_t number, tn_wire_field *out)
{
    tn_wire_iter it = tn_wire_begin(bytes);
    tn_wire_field f, found = {0};

    while (tn_wire_next(&it, &f))
        if (f.number == number)
            found = f;
    if (it.damaged || found.number == 0)
        return false;
    *out = found;
    return true;
}

void tn_proto_put_varint(tn_buf *buf, uint64_t v)
{
    uint8_t bytes[TN_VARINT_MAX];
    tn_buf_put(buf, bytes, (size_t)(tn_wire_write_varint(bytes, v) - bytes));
}

void tn_proto_put_tag(tn_buf *buf, uint32_t number, uint32_t wire_type)
{
    tn_proto_put_varint(buf, (uint64_t)number << 3 | wire_type);
}

void tn_proto_put_uint(tn_buf *buf, uint32_t number, uint64_t v)
{
    if (v == 0)
        return;
    tn_proto_put_tag(buf, number, TN_WIRE_VARINT);
    tn_proto_put_varint(buf, v);
}

void tn_proto_put_bytes(tn_buf *buf, uint32_t number, tn_blob bytes)
{
    tn_proto_put_tag(buf, number, TN_WIRE_BYTES);
    tn_proto_put_varint(buf, bytes.n);
    if (bytes.n)
        tn_buf_put(buf, bytes.p, bytes.n);
}
