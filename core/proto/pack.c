/* SPDX-License-Identifier: MIT */
/* Packs messages in one pass.
 *
 * The length of a nested message stands in front of it, so protobuf-c first walks the whole message
 * to measure it.  Writing from the end to the front instead, the length is known when it is due.  The
 * bytes come out as protobuf-c would write them: fields by number, then unknown ones, then what
 * tn_proto_attach hung on.  No recursion: an explicit stack. */
#include "proto/proto.h"

#include <stdlib.h>
#include <string.h>

/* A wire type that is never on the wire: an unknown field whose data lacks tag and length. */
#define WIRE_ATTACHED ((ProtobufCWireType)0x42)
/* The whole message, packed already. */
#define WIRE_OPAQUE ((ProtobufCWireType)0x43)

typedef struct pack_frame {
    const ProtobufCMessage *msg;
    unsigned field; /* fields still to write, those below this index */
    size_t elem;    /* elements of fields[field] still to write; used while in_array */
    bool in_array;
    size_t end;      /* bytes written when this message began */
    uint32_t number; /* field of the parent that this message is */
} pack_frame;

typedef struct packer {
    uint8_t *base, *p, *end; /* written: p..end */
    bool on_heap;
    unsigned depth;
    pack_frame stack[TN_PROTO_DEPTH_MAX];
    uint8_t small[4096];
} packer;

/* ---- writing backwards ------------------------------------------------------------------------- */

static size_t written(const packer *w) { return (size_t)(w->end - w->p); }

static void grow(packer *w, size_t n)
{
    size_t used = written(w), cap = (size_t)(w->end - w->base);
    uint8_t *base;

    cap = cap > (used + n) ? cap * 2 : (used + n) * 2;
    base = tn_xmalloc(cap);
    memcpy(base + cap - used, w->p, used);
    if (w->on_heap)
        free(w->base);
    w->base = base;
    w->end = base + cap;
    w->p = w->end - used;
    w->on_heap = true;
}

static inline void reserve(packer *w, size_t n)
{
    if ((size_t)(w->p - w->base) < n)
        grow(w, n);
}

static inline void put_varint(packer *w, uint64_t v)
{
    size_t n;

    reserve(w, TN_VARINT_MAX);
    if (v < 0x80) {
        *--w->p = (uint8_t)v;
        return;
    }
    n = tn_wire_varint_size(v);
    w->p -= n;
    tn_wire_write_varint(w->p, v);
}

static inline void put_tag(packer *w, uint32_t number, uint32_t wire_type)
{
    put_varint(w, (uint64_t)number << 3 | wire_type);
}

static void put_raw(packer *w, const void *p, size_t n)
{
    if (n == 0)
        return;
    reserve(w, n);
    w->p -= n;
    memcpy(w->p, p, n);
}

static void put_fixed(packer *w, uint64_t v, size_t n)
{
    reserve(w, n);
    w->p -= n;
    for (size_t i = 0; i < n; i++)
        w->p[i] = (uint8_t)(v >> 8 * i);
}

/* ---- values ------------------------------------------------------------------------------------ */

static uint32_t load32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static uint64_t load64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* Size of a number's C type; 0: the type is no number. */
static size_t number_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_BOOL:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    return 0;
}

/* Writes a number without its tag; returns its wire type. */
static uint32_t put_number(packer *w, ProtobufCType type, const void *v)
{
    uint32_t u32;
    uint64_t u64;

    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_ENUM:
        put_varint(w, (uint64_t)(int64_t)(int32_t)load32(v));
        return TN_WIRE_VARINT;
    case PROTOBUF_C_TYPE_UINT32:
        put_varint(w, load32(v));
        return TN_WIRE_VARINT;
    case PROTOBUF_C_TYPE_BOOL:
        put_varint(w, load32(v) != 0);
        return TN_WIRE_VARINT;
    case PROTOBUF_C_TYPE_SINT32:
        u32 = load32(v);
        put_varint(w, u32 << 1 ^ (0u - (u32 >> 31)));
        return TN_WIRE_VARINT;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        put_varint(w, load64(v));
        return TN_WIRE_VARINT;
    case PROTOBUF_C_TYPE_SINT64:
        u64 = load64(v);
        put_varint(w, u64 << 1 ^ (0u - (u64 >> 63)));
        return TN_WIRE_VARINT;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        put_fixed(w, load32(v), 4);
        return TN_WIRE_FIXED32;
    default:
        put_fixed(w, load64(v), 8);
        return TN_WIRE_FIXED64;
    }
}

static const void *member(const ProtobufCMessage *msg, unsigned offset)
{
    return (const char *)msg + offset;
}

static const ProtobufCMessage *sub_message(const void *v)
{
    const ProtobufCMessage *sub;
    memcpy(&sub, v, sizeof(sub));
    return sub;
}

static tn_status enter(packer *w, const ProtobufCMessage *msg, uint32_t number)
{
    pack_frame *f;

    if (w->depth == TN_PROTO_DEPTH_MAX)
        return TN_EINVALID;
    f = &w->stack[w->depth++];
    f->msg = msg;
    f->field = msg->descriptor->n_fields;
    f->in_array = false;
    f->end = written(w);
    f->number = number;
    /* What follows the known fields is written first. */
    for (unsigned i = msg->n_unknown_fields; i-- > 0;) {
        const ProtobufCMessageUnknownField *x = &msg->unknown_fields[i];
        put_raw(w, x->data, x->len);
        if (x->wire_type == WIRE_ATTACHED) {
            put_varint(w, x->len);
            put_tag(w, x->tag, TN_WIRE_BYTES);
        } else if (x->wire_type != WIRE_OPAQUE) {
            put_tag(w, x->tag, (uint32_t)x->wire_type);
        }
    }
    return TN_OK;
}

/* Writes one value with its tag; a message only begins here, and is closed by pack_all. */
static tn_status put_value(packer *w, const ProtobufCFieldDescriptor *field, const void *v)
{
    const ProtobufCBinaryData *bytes;
    const char *s;
    size_t n;

    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        memcpy(&s, v, sizeof(s));
        n = s ? strlen(s) : 0;
        put_raw(w, s, n);
        put_varint(w, n);
        put_tag(w, field->id, TN_WIRE_BYTES);
        return TN_OK;
    case PROTOBUF_C_TYPE_BYTES:
        bytes = v;
        put_raw(w, bytes->data, bytes->len);
        put_varint(w, bytes->len);
        put_tag(w, field->id, TN_WIRE_BYTES);
        return TN_OK;
    case PROTOBUF_C_TYPE_MESSAGE:
        return enter(w, sub_message(v), field->id);
    default:
        put_tag(w, field->id, put_number(w, field->type, v));
        return TN_OK;
    }
}

/* Whether a singular field is to be written. */
static inline bool is_present(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *msg)
{
    const void *v = member(msg, field->offset);
    const char *s;

    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        if (load32(member(msg, field->quantifier_offset)) != field->id)
            return false;
        return field->type != PROTOBUF_C_TYPE_MESSAGE || sub_message(v);
    }
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return sub_message(v) != NULL;
    case PROTOBUF_C_TYPE_STRING:
        memcpy(&s, v, sizeof(s));
        if (field->label == PROTOBUF_C_LABEL_NONE)
            return s && *s;
        return s && (s != field->default_value || field->label == PROTOBUF_C_LABEL_REQUIRED);
    default:
        break;
    }
    if (field->label == PROTOBUF_C_LABEL_REQUIRED)
        return true;
    if (field->label == PROTOBUF_C_LABEL_OPTIONAL)
        return load32(member(msg, field->quantifier_offset)) != 0;
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        return ((const ProtobufCBinaryData *)v)->len != 0;
    return number_size(field->type) == 4 ? load32(v) != 0 : load64(v) != 0;
}

static size_t value_size(ProtobufCType type)
{
    size_t n = number_size(type);
    if (n)
        return n;
    return type == PROTOBUF_C_TYPE_BYTES ? sizeof(ProtobufCBinaryData) : sizeof(void *);
}

static void put_packed(packer *w, const ProtobufCFieldDescriptor *field, const char *array,
                       size_t count)
{
    size_t end = written(w), size = value_size(field->type);

    while (count-- > 0)
        (void)put_number(w, field->type, array + count * size);
    put_varint(w, written(w) - end);
    put_tag(w, field->id, TN_WIRE_BYTES);
}

static const char *array_of(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *msg,
                            size_t *out_count)
{
    const char *array;

    memcpy(out_count, member(msg, field->quantifier_offset), sizeof(*out_count));
    memcpy(&array, member(msg, field->offset), sizeof(array));
    return array;
}

/* ---- the walk ---------------------------------------------------------------------------------- */

/* Writes elements of a repeated field, last first; stops when a message was begun. */
static tn_status put_elements(packer *w, pack_frame *f, const ProtobufCFieldDescriptor *field)
{
    size_t count, size = value_size(field->type);
    const char *array = array_of(field, f->msg, &count);
    unsigned depth = w->depth;
    tn_status status = TN_OK;

    while (f->elem && status == TN_OK && w->depth == depth)
        status = put_value(w, field, array + --f->elem * size);
    f->in_array = f->elem != 0;
    return status;
}

/* Writes fields of a message, last first; stops when a message was begun. */
static tn_status put_fields(packer *w, pack_frame *f)
{
    const ProtobufCFieldDescriptor *fields = f->msg->descriptor->fields, *field;
    unsigned depth = w->depth;
    tn_status status = TN_OK;
    const char *array;

    if (f->in_array)
        status = put_elements(w, f, &fields[f->field]);
    while (f->field && status == TN_OK && w->depth == depth) {
        field = &fields[--f->field];
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            if (is_present(field, f->msg))
                status = put_value(w, field, member(f->msg, field->offset));
            continue;
        }
        array = array_of(field, f->msg, &f->elem);
        if (f->elem == 0)
            continue;
        if (field->flags & PROTOBUF_C_FIELD_FLAG_PACKED)
            put_packed(w, field, array, f->elem);
        else
            status = put_elements(w, f, field);
    }
    return status;
}

static tn_status pack_all(packer *w, const ProtobufCMessage *msg)
{
    tn_status status;

    w->base = w->small;
    w->end = w->p = w->small + sizeof(w->small);
    w->on_heap = false;
    w->depth = 0;
    status = enter(w, msg, 0);
    while (status == TN_OK && w->depth) {
        pack_frame *f = &w->stack[w->depth - 1];
        if (f->field || f->in_array) {
            status = put_fields(w, f);
            continue;
        }
        w->depth--;
        if (w->depth) {
            put_varint(w, written(w) - f->end);
            put_tag(w, f->number, TN_WIRE_BYTES);
        }
    }
    return status;
}

static void packer_done(packer *w)
{
    if (w->on_heap)
        free(w->base);
}

tn_status tn_proto_pack_headroom(const ProtobufCMessage *msg, tn_arena *arena, size_t headroom,
                                 tn_blob *out)
{
    packer w;
    uint8_t *p;
    tn_status status = pack_all(&w, msg);

    if (status != TN_OK)
        goto out;
    /* A byte more than needed, so that empty messages have an address too. */
    p = tn_arena_alloc(arena, headroom + written(&w) + 1);
    if (!p) {
        status = TN_ETOOLARGE;
        goto out;
    }
    memcpy(p + headroom, w.p, written(&w));
    *out = tn_blob_from(p + headroom, written(&w));
out:
    packer_done(&w);
    return status;
}

tn_status tn_proto_pack(const ProtobufCMessage *msg, tn_arena *arena, tn_blob *out)
{
    return tn_proto_pack_headroom(msg, arena, 0, out);
}

tn_status tn_proto_pack_buf(const ProtobufCMessage *msg, tn_buf *buf)
{
    packer w;
    tn_status status = pack_all(&w, msg);

    if (status == TN_OK && written(&w))
        tn_buf_put(buf, w.p, written(&w));
    packer_done(&w);
    return status;
}

tn_status tn_proto_put_message(tn_buf *buf, uint32_t number, const ProtobufCMessage *msg)
{
    packer w;
    tn_status status = pack_all(&w, msg);

    if (status == TN_OK)
        tn_proto_put_bytes(buf, number, tn_blob_from(w.p, written(&w)));
    packer_done(&w);
    return status;
}

bool tn_proto_attach(ProtobufCMessage *msg, tn_arena *arena, uint32_t number, tn_blob bytes)
{
    unsigned n = msg->n_unknown_fields;
    ProtobufCMessageUnknownField *fields;

    /* Full at each power of two: doubling keeps many attached events linear. */
    fields = msg->unknown_fields;
    if ((n & (n - 1)) == 0) {
        fields = tn_arena_array(arena, n ? 2 * (size_t)n : 1, sizeof(*fields));
        if (!fields)
            return false;
        if (n)
            memcpy(fields, msg->unknown_fields, n * sizeof(*fields));
        msg->unknown_fields = fields;
    }
    fields[n].tag = number;
    fields[n].wire_type = WIRE_ATTACHED;
    fields[n].len = bytes.n;
    fields[n].data = (uint8_t *)(uintptr_t)bytes.p;
    msg->n_unknown_fields = n + 1;
    return true;
}

ProtobufCMessage *tn_proto_opaque(const ProtobufCMessageDescriptor *descriptor, tn_blob bytes,
                                  tn_arena *arena)
{
    ProtobufCMessage *msg = tn_arena_alloc(arena, descriptor->sizeof_message);
    ProtobufCMessageUnknownField *whole = TN_NEW(arena, ProtobufCMessageUnknownField);

    if (!msg || !whole)
        return NULL;
    descriptor->message_init(msg);
    whole->wire_type = WIRE_OPAQUE;
    whole->len = bytes.n;
    whole->data = (uint8_t *)(uintptr_t)bytes.p;
    msg->unknown_fields = whole;
    msg->n_unknown_fields = 1;
    return msg;
}

bool tn_proto_is_opaque(const ProtobufCMessage *msg, tn_blob *out)
{
    if (msg->n_unknown_fields != 1 || msg->unknown_fields[0].wire_type != WIRE_OPAQUE)
        return false;
    *out = tn_blob_from(msg->unknown_fields[0].data, msg->unknown_fields[0].len);
    return true;
}

/* ---- copies and comparison --------------------------------------------------------------------- */

ProtobufCMessage *tn_proto_copy(const ProtobufCMessage *msg, tn_arena *arena)
{
    packer w;
    ProtobufCMessage *copy = NULL;

    if (pack_all(&w, msg) == TN_OK &&
        tn_proto_unpack(msg->descriptor, tn_blob_from(w.p, written(&w)), arena, &copy, NULL) !=
            TN_OK)
        copy = NULL;
    packer_done(&w);
    return copy;
}

bool tn_proto_equal(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    packer x, y;
    bool equal = false;

    if (a->descriptor != b->descriptor)
        return false;
    if (pack_all(&x, a) == TN_OK) {
        equal = pack_all(&y, b) == TN_OK &&
                tn_blob_eq(tn_blob_from(x.p, written(&x)), tn_blob_from(y.p, written(&y)));
        packer_done(&y);
    }
    packer_done(&x);
    return equal;
}
