/* SPDX-License-Identifier: MIT */
/* Unpacks messages that a peer sent.
 *
 * protobuf-c's own unpack recurses without a limit, takes invalid UTF-8, cuts strings at a NUL and
 * lets 4 MB of wire become 200 MB of structs.  So this is a decoder of our own over protobuf-c's
 * descriptors: one pass, an explicit stack, a budget of memory, every refusal with the field's path.
 * A singular message that comes twice is merged, as the specification asks.
 *
 * Arrays of repeated fields carry their capacity in a header in front (array_grow): the structs
 * have a place for the count only. */
#include "proto/proto.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct frame {
    ProtobufCMessage *msg;
    const uint8_t *end;
    const ProtobufCFieldDescriptor *field; /* of the parent, that led here */
    unsigned next;                         /* index of the field that likely comes next */
} frame;

typedef struct unpacker {
    tn_arena *arena;
    tn_error *err;
    const uint8_t *start, *p, *end;        /* end: of the frame on top */
    size_t budget;                         /* bytes of memory that may still be taken */
    const ProtobufCFieldDescriptor *field; /* being read, NULL: between fields */
    unsigned depth, depth_max;             /* frames in use; and at most */
    frame stack[TN_PROTO_DEPTH_MAX];
} unpacker;

/* ---- complaints -------------------------------------------------------------------------------- */

static void path_add(char *path, size_t cap, const char *name)
{
    size_t n = strlen(path);
    snprintf(path + n, cap - n, "%s%s", n ? "." : "", name);
}

TN_PRINTF(3, 4)
static tn_status refuse(unpacker *u, tn_status status, const char *fmt, ...)
{
    char path[120] = "", what[96];
    va_list args;

    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    /* A deep path is cut in the middle of nowhere; its head is what tells. */
    for (unsigned i = 1; i < u->depth; i++)
        path_add(path, sizeof(path), u->stack[i].field->name);
    if (u->field)
        path_add(path, sizeof(path), u->field->name);
    return tn_error_set(u->err, status, "%s%s%s: %s (at byte %zu)",
                        u->stack[0].msg ? u->stack[0].msg->descriptor->short_name : "message",
                        path[0] ? "." : "", path, what, (size_t)(u->p - u->start));
}

static tn_status refuse_truncated(unpacker *u)
{
    return refuse(u, TN_EINVALID, "malformed or truncated");
}

static tn_status refuse_full(unpacker *u)
{
    return refuse(u, TN_ETOOLARGE, "the message takes too much memory for its size");
}

/* ---- memory ------------------------------------------------------------------------------------ */

static void *take(unpacker *u, size_t size)
{
    size_t rounded = (size + 15) & ~(size_t)15; /* what the arena really gives */
    void *p;

    if (size > u->budget || rounded > u->budget)
        return NULL;
    p = tn_arena_alloc(u->arena, size);
    if (p)
        u->budget -= rounded;
    return p;
}

typedef struct array_head {
    size_t cap;
    size_t pad; /* keeps the elements aligned to 16 */
} array_head;

/* Room for `more` elements after the `count` that `array` (NULL: none yet) holds. */
static void *array_grow(unpacker *u, void *array, size_t count, size_t more, size_t elem_size)
{
    array_head *old = array ? (array_head *)array - 1 : NULL, *head;
    size_t cap = count + more;

    if (old && old->cap >= cap)
        return array;
    if (old && cap < 2 * count)
        cap = 2 * count;
    if (cap > u->budget / elem_size)
        return NULL;
    head = take(u, sizeof(*head) + cap * elem_size);
    if (!head)
        return NULL;
    head->cap = cap;
    if (count)
        memcpy(head + 1, array, count * elem_size);
    return head + 1;
}

static ProtobufCMessage *message_new(unpacker *u, const ProtobufCMessageDescriptor *descriptor)
{
    ProtobufCMessage *msg = take(u, descriptor->sizeof_message);
    if (msg)
        descriptor->message_init(msg);
    return msg;
}

/* ---- values ------------------------------------------------------------------------------------ */

static size_t elem_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    }
    return 0;
}

static uint32_t wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return TN_WIRE_FIXED32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return TN_WIRE_FIXED64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return TN_WIRE_BYTES;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
        break;
    }
    return TN_WIRE_VARINT;
}

/* Reads one number of a field's type at u->p into `out`; false: truncated or overlong. */
static bool read_number(unpacker *u, const uint8_t *end, ProtobufCType type, void *out)
{
    const uint8_t *p = u->p;
    uint32_t wire_type = wire_type_of(type), v32;
    uint64_t v = 0;

    if (wire_type != TN_WIRE_VARINT) {
        size_t n = wire_type == TN_WIRE_FIXED32 ? 4 : 8;
        if ((size_t)(end - p) < n)
            return false;
        for (size_t i = n; i-- > 0;)
            v = v << 8 | p[i];
        p += n;
    } else if (p < end && *p < 0x80) {
        v = *p++;
    } else {
        p = tn_wire_get_varint(p, end, &v);
        if (!p)
            return false;
    }
    u->p = p;
    v32 = (uint32_t)v;
    if (type == PROTOBUF_C_TYPE_SINT32)
        v32 = v32 >> 1 ^ (0u - (v32 & 1));
    else if (type == PROTOBUF_C_TYPE_SINT64)
        v = v >> 1 ^ (0u - (v & 1));
    else if (type == PROTOBUF_C_TYPE_BOOL)
        v32 = v != 0;
    if (elem_size(type) == 4)
        memcpy(out, &v32, 4);
    else
        memcpy(out, &v, 8);
    return true;
}

/* Reads the length of a length-prefixed value; false: truncated. */
static bool read_length(unpacker *u, size_t *out)
{
    uint64_t n = 0;
    const uint8_t *p = tn_wire_get_varint(u->p, u->end, &n);

    if (!p || n > (uint64_t)(u->end - p))
        return false;
    u->p = p;
    *out = (size_t)n;
    return true;
}

static tn_status read_string(unpacker *u, char **out)
{
    size_t n;
    char *s;

    if (!read_length(u, &n))
        return refuse_truncated(u);
    if (!tn_utf8_valid(u->p, n))
        return refuse(u, TN_EINVALID, "string is not valid UTF-8");
    if (n && memchr(u->p, 0, n))
        return refuse(u, TN_EINVALID, "string holds a NUL");
    s = take(u, n + 1);
    if (!s)
        return refuse_full(u);
    if (n)
        memcpy(s, u->p, n);
    s[n] = '\0';
    u->p += n;
    *out = s;
    return TN_OK;
}

static tn_status read_bytes(unpacker *u, ProtobufCBinaryData *out)
{
    ProtobufCBinaryData bytes = {0, NULL};

    if (!read_length(u, &bytes.len))
        return refuse_truncated(u);
    if (bytes.len) {
        bytes.data = take(u, bytes.len);
        if (!bytes.data)
            return refuse_full(u);
        memcpy(bytes.data, u->p, bytes.len);
    }
    u->p += bytes.len;
    *out = bytes;
    return TN_OK;
}

/* Makes the message at u->p the frame on top.  *slot is the message to merge into, or NULL. */
static tn_status enter(unpacker *u, ProtobufCMessage **slot)
{
    size_t n;
    frame *f;

    if (!read_length(u, &n))
        return refuse_truncated(u);
    if (u->depth == u->depth_max)
        return refuse(u, TN_EINVALID, "nested deeper than %u", u->depth_max);
    if (!*slot) {
        *slot = message_new(u, u->field->descriptor);
        if (!*slot)
            return refuse_full(u);
    }
    f = &u->stack[u->depth++];
    f->msg = *slot;
    f->end = u->p + n;
    f->field = u->field;
    f->next = 0;
    u->end = f->end;
    return TN_OK;
}

static tn_status read_element(unpacker *u, ProtobufCType type, void *out)
{
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
        return read_string(u, out);
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(u, out);
    case PROTOBUF_C_TYPE_MESSAGE:
        return enter(u, out);
    default:
        return read_number(u, u->end, type, out) ? TN_OK : refuse_truncated(u);
    }
}

/* ---- fields ------------------------------------------------------------------------------------ */

static void *member(ProtobufCMessage *msg, unsigned offset) { return (char *)msg + offset; }

/* How many fields with this very tag follow one another from here, this one included: encoders write a
 * repeated field in one run, so that its array can be made in the right size at once. */
static size_t count_run(const unpacker *u, const uint8_t *tag, size_t tag_size)
{
    tn_wire_iter it = {tag, u->end, false};
    tn_wire_field f;
    size_t count = 0;

    while ((size_t)(it.end - it.p) > tag_size && memcmp(it.p, tag, tag_size) == 0 &&
           tn_wire_next(&it, &f))
        count++;
    return count ? count : 1;
}

static tn_status read_packed(unpacker *u, ProtobufCMessage *msg)
{
    const ProtobufCFieldDescriptor *field = u->field;
    size_t size = elem_size(field->type), n, more = 0;
    size_t *count = member(msg, field->quantifier_offset);
    void **array = member(msg, field->offset), *grown;
    const uint8_t *end;

    if (!read_length(u, &n))
        return refuse_truncated(u);
    if (n == 0)
        return TN_OK;
    end = u->p + n;
    if (wire_type_of(field->type) == TN_WIRE_VARINT) {
        for (const uint8_t *p = u->p; p < end; p++)
            more += *p < 0x80;
    } else {
        more = n / size;
    }
    grown = array_grow(u, *array, *count, more, size);
    if (!grown)
        return refuse_full(u);
    *array = grown;
    while (u->p < end) {
        /* More elements than counted can't come: each ends with a byte that was. */
        if (!read_number(u, end, field->type, (char *)*array + *count * size))
            return refuse_truncated(u);
        ++*count;
    }
    return TN_OK;
}

static tn_status read_repeated(unpacker *u, ProtobufCMessage *msg, const uint8_t *tag)
{
    const ProtobufCFieldDescriptor *field = u->field;
    size_t size = elem_size(field->type);
    size_t *count = member(msg, field->quantifier_offset);
    void **array = member(msg, field->offset), *grown, *elem;
    array_head *head = *array ? (array_head *)*array - 1 : NULL;
    tn_status status;

    if (!head || head->cap == *count) {
        size_t run = count_run(u, tag, (size_t)(u->p - tag));
        grown = array_grow(u, *array, *count, run, size);
        if (!grown)
            return refuse_full(u);
        *array = grown;
    }
    elem = (char *)*array + *count * size;
    memset(elem, 0, size);
    status = read_element(u, field->type, elem);
    if (status == TN_OK)
        ++*count;
    return status;
}

/* Says that the field is there, in the way of its label; a member of a oneof displaces the others. */
static void mark_present(const ProtobufCFieldDescriptor *field, ProtobufCMessage *msg)
{
    uint32_t *which;

    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        which = member(msg, field->quantifier_offset);
        if (*which != field->id)
            memset(member(msg, field->offset), 0, elem_size(field->type));
        *which = field->id;
    } else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset) {
        *(protobuf_c_boolean *)member(msg, field->quantifier_offset) = 1;
    }
}

static tn_status keep_unknown(unpacker *u, ProtobufCMessage *msg, const uint8_t *tag)
{
    tn_wire_iter it = {tag, u->end, false};
    tn_wire_field f;
    ProtobufCMessageUnknownField *fields;
    const uint8_t *value = u->p;
    size_t n;

    if (!tn_wire_next(&it, &f))
        return refuse_truncated(u);
    fields = array_grow(u, msg->unknown_fields, msg->n_unknown_fields, 1, sizeof(*fields));
    if (!fields)
        return refuse_full(u);
    msg->unknown_fields = fields;
    n = (size_t)(it.p - value);
    fields += msg->n_unknown_fields;
    fields->tag = f.number;
    fields->wire_type = (ProtobufCWireType)f.wire_type;
    fields->len = n;
    fields->data = take(u, n);
    if (!fields->data)
        return refuse_full(u);
    memcpy(fields->data, value, n);
    msg->n_unknown_fields++;
    u->p = it.p;
    return TN_OK;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *descriptor,
                                                  frame *f, uint32_t number)
{
    const ProtobufCIntRange *ranges = descriptor->field_ranges;
    unsigned lo = 0, hi = descriptor->n_field_ranges, index;

    /* Fields come in order, so the guess is mostly right. */
    for (unsigned i = f->next; i < descriptor->n_fields && i < f->next + 3; i++)
        if (descriptor->fields[i].id == number) {
            f->next = i;
            return &descriptor->fields[i];
        }
    /* The range whose start is the last at or below the number. */
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if ((uint32_t)ranges[mid].start_value <= number)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return NULL;
    index = ranges[lo - 1].orig_index + (number - (uint32_t)ranges[lo - 1].start_value);
    if (index >= ranges[lo].orig_index)
        return NULL;
    f->next = index;
    return &descriptor->fields[index];
}

static tn_status read_field(unpacker *u, frame *f)
{
    const uint8_t *tag_start = u->p, *p = u->p;
    const ProtobufCFieldDescriptor *field;
    uint64_t tag = 0;
    uint32_t wire_type;
    bool repeated;

    u->field = NULL;
    if (*p < 0x80)
        tag = *p++;
    else
        p = tn_wire_get_varint(p, u->end, &tag);
    if (!p || tag > UINT32_MAX || tag >> 3 == 0)
        return refuse(u, TN_EINVALID, "malformed field tag");
    u->p = p;
    wire_type = (uint32_t)(tag & 7);
    field = find_field(f->msg->descriptor, f, (uint32_t)(tag >> 3));
    if (!field) {
        if (wire_type == 3 || wire_type == 4)
            return refuse(u, TN_EINVALID, "groups are not supported");
        return keep_unknown(u, f->msg, tag_start);
    }
    u->field = field;
    repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    if (wire_type != wire_type_of(field->type)) {
        if (repeated && wire_type == TN_WIRE_BYTES)
            return read_packed(u, f->msg);
        return refuse(u, TN_EINVALID, "wire type %" PRIu32 " instead of %" PRIu32, wire_type,
                      wire_type_of(field->type));
    }
    if (repeated)
        return read_repeated(u, f->msg, tag_start);
    mark_present(field, f->msg);
    return read_element(u, field->type, member(f->msg, field->offset));
}

static tn_status unpack(const ProtobufCMessageDescriptor *descriptor, tn_blob bytes,
                        tn_arena *arena, unsigned depth_max, size_t budget, ProtobufCMessage **out,
                        tn_error *err)
{
    unpacker u;
    ProtobufCMessage *root;

    u.arena = arena;
    u.err = err;
    u.start = u.p = bytes.p;
    u.end = bytes.n ? bytes.p + bytes.n : bytes.p;
    u.field = NULL;
    u.depth = 1;
    u.depth_max = depth_max;
    u.budget = budget;
    u.stack[0].msg = NULL;
    root = message_new(&u, descriptor);
    if (!root)
        return refuse_full(&u);
    u.stack[0] = (frame){root, u.end, NULL, 0};

    while (u.depth) {
        frame *f = &u.stack[u.depth - 1];
        tn_status status;
        if (u.p == f->end) {
            if (--u.depth)
                u.end = u.stack[u.depth - 1].end;
            continue;
        }
        status = read_field(&u, f);
        if (status != TN_OK)
            return status;
    }
    *out = root;
    return TN_OK;
}

tn_status tn_proto_unpack(const ProtobufCMessageDescriptor *descriptor, tn_blob bytes,
                          tn_arena *arena, ProtobufCMessage **out, tn_error *err)
{
    return unpack(descriptor, bytes, arena, TN_PROTO_DEPTH_MAX, SIZE_MAX - 15, out, err);
}

tn_status tn_proto_unpack_peer(const ProtobufCMessageDescriptor *descriptor, tn_blob bytes,
                               tn_arena *arena, ProtobufCMessage **out, tn_error *err)
{
    size_t budget = SIZE_MAX - 15;

    if (bytes.n <= (budget - TN_PROTO_PEER_GROWTH_BASE) / TN_PROTO_PEER_GROWTH_MAX)
        budget = bytes.n * TN_PROTO_PEER_GROWTH_MAX + TN_PROTO_PEER_GROWTH_BASE;
    return unpack(descriptor, bytes, arena, TN_PROTO_PEER_DEPTH_MAX, budget, out, err);
}
