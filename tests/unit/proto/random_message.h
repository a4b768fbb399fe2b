/* SPDX-License-Identifier: MIT */
/* Random, valid wire bytes for any message type, from its descriptor and a seed. */
#ifndef TEST_RANDOM_MESSAGE_H
#define TEST_RANDOM_MESSAGE_H

#include "proto/proto.h"

static inline uint64_t random_number(tn_rng *rng)
{
    switch (tn_rng_below(rng, 5)) {
    case 0:
        return tn_rng_below(rng, 3);
    case 1:
        return tn_rng_below(rng, 100000);
    case 2:
        return UINT64_MAX - tn_rng_below(rng, 3);
    case 3:
        return UINT64_C(1) << tn_rng_below(rng, 64);
    default:
        return tn_rng_next(rng);
    }
}

static inline void random_text(tn_rng *rng, tn_buf *out)
{
    static const char *const pieces[] = {
        "a", "workflow", "\xc3\xa9",  "\xe2\x82\xac",     "\xf0\x9f\x8e\x89",
        " ", "Z",        "{\"x\":1}", "\xf4\x8f\xbf\xbf", "\x7f"};
    for (uint64_t n = tn_rng_below(rng, 6); n > 0; n--) {
        const char *s = pieces[tn_rng_below(rng, TN_COUNT_OF(pieces))];
        tn_buf_put(out, s, strlen(s));
    }
}

static inline void random_message(tn_rng *rng, const ProtobufCMessageDescriptor *d, unsigned depth,
                                  tn_buf *out);

/* One value without its tag; returns its wire type. */
static inline uint32_t random_value(tn_rng *rng, const ProtobufCFieldDescriptor *f, unsigned depth,
                                    tn_buf *out)
{
    tn_buf inner = {0};
    uint64_t v = random_number(rng);

    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        random_text(rng, &inner);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        for (uint64_t n = tn_rng_below(rng, 20); n > 0; n--)
            tn_buf_put_u8(&inner, (uint8_t)tn_rng_next(rng));
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        random_message(rng, f->descriptor, depth + 1, &inner);
        break;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        v |= 1; /* protobuf-c loses a negative zero */
        tn_buf_put(out, &v, 4);
        return TN_WIRE_FIXED32;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        v |= 1;
        tn_buf_put(out, &v, 8);
        return TN_WIRE_FIXED64;
    default:
        tn_proto_put_varint(out, v);
        return TN_WIRE_VARINT;
    }
    tn_proto_put_varint(out, inner.n);
    if (inner.n)
        tn_buf_put(out, inner.p, inner.n);
    tn_buf_done(&inner);
    return TN_WIRE_BYTES;
}

static inline void random_field(tn_rng *rng, const ProtobufCFieldDescriptor *f, unsigned depth,
                                tn_buf *out)
{
    tn_buf value = {0};
    uint32_t wire_type;
    uint64_t count = f->label == PROTOBUF_C_LABEL_REPEATED ? 1 + tn_rng_below(rng, 4) : 1;

    if (f->label == PROTOBUF_C_LABEL_REPEATED && f->type != PROTOBUF_C_TYPE_STRING &&
        f->type != PROTOBUF_C_TYPE_BYTES && f->type != PROTOBUF_C_TYPE_MESSAGE &&
        tn_rng_below(rng, 2)) {
        while (count-- > 0)
            random_value(rng, f, depth, &value);
        tn_proto_put_bytes(out, f->id, tn_buf_blob(&value));
        tn_buf_done(&value);
        return;
    }
    while (count-- > 0) {
        value.n = 0;
        wire_type = random_value(rng, f, depth, &value);
        tn_proto_put_tag(out, f->id, wire_type);
        tn_buf_put(out, value.p, value.n);
    }
    tn_buf_done(&value);
}

static inline void random_message(tn_rng *rng, const ProtobufCMessageDescriptor *d, unsigned depth,
                                  tn_buf *out)
{
    unsigned oneof_seen[8] = {0}, n_oneofs = 0;

    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        if (f->label != PROTOBUF_C_LABEL_REQUIRED &&
            tn_rng_below(rng, depth < 3 ? 2 : 4 * depth) != 0)
            continue;
        if (f->type == PROTOBUF_C_TYPE_MESSAGE && depth > 12)
            continue;
        if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            bool seen = false;
            for (unsigned k = 0; k < n_oneofs; k++)
                seen |= oneof_seen[k] == f->quantifier_offset;
            if (seen || n_oneofs == TN_COUNT_OF(oneof_seen))
                continue;
            oneof_seen[n_oneofs++] = f->quantifier_offset;
        }
        random_field(rng, f, depth, out);
    }
    if (tn_rng_below(rng, 10) == 0) {
        tn_proto_put_uint(out, 50000 + (uint32_t)tn_rng_below(rng, 1000),
                          1 + tn_rng_below(rng, 1000));
        tn_proto_put_bytes(out, 60000, tn_blob_of_str(TN_STR("unknown")));
    }
}

#endif
