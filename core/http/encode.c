/* SPDX-License-Identifier: MIT */
/* Messages to JSON, by the descriptors: only what is set, enum values by their names, 64-bit numbers as strings, and
 * payloads as the plain JSON that they hold where they hold some.  No recursion: an explicit stack. */
#include "http/private.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX (TN_PROTO_DEPTH_MAX + 8)

typedef struct frame {
    const ProtobufCMessage *msg;
    unsigned field;
    size_t element; /* of a list or map that is open */
    bool in_list;
    bool any_member; /* something stands in this object */
    bool is_any;     /* its "@type" stands there already */
} frame;

typedef struct encoder {
    tn_buf *out;
    tn_arena *arena;
    http_style style;
    unsigned depth;  /* of frames */
    unsigned indent; /* of open brackets */
    frame stack[DEPTH_MAX];
} encoder;

static void line(encoder *e)
{
    if (!e->style.pretty)
        return;
    tn_buf_put_u8(e->out, '\n');
    for (unsigned i = 0; i < e->indent; i++)
        tn_buf_put(e->out, "  ", 2);
}

static void put_z(encoder *e, const char *text) { tn_buf_put(e->out, text, strlen(text)); }

static void open_bracket(encoder *e, char c)
{
    tn_buf_put_u8(e->out, (uint8_t)c);
    e->indent++;
}

static void close_bracket(encoder *e, char c, bool any)
{
    e->indent--;
    if (any)
        line(e);
    tn_buf_put_u8(e->out, (uint8_t)c);
}

/* Before a member or an element. */
static void part(encoder *e, bool first)
{
    if (!first)
        tn_buf_put_u8(e->out, ',');
    line(e);
}

static void colon(encoder *e) { put_z(e, e->style.pretty ? ": " : ":"); }

/* ---- members of structs ---- */

static const void *member_of(const ProtobufCMessage *msg, size_t offset)
{
    return (const char *)msg + offset;
}

static size_t count_of(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *f)
{
    size_t n;
    memcpy(&n, member_of(msg, f->quantifier_offset), sizeof(n));
    return n;
}

static size_t element_size(ProtobufCType type)
{
    switch (type) {
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
    default:
        return 4;
    }
}

static const void *pointer_at(const void *member)
{
    const void *p;
    memcpy(&p, member, sizeof(p));
    return p;
}

/* Has a value that JSON shows: singular fields only. */
static bool is_set(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *f)
{
    static const uint8_t zero[sizeof(uint64_t)];
    const void *member = member_of(msg, f->offset);
    ProtobufCBinaryData bytes;
    const char *text;
    uint32_t which;
    protobuf_c_boolean has;

    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        memcpy(&which, member_of(msg, f->quantifier_offset), sizeof(which));
        return which == f->id && (f->type != PROTOBUF_C_TYPE_MESSAGE || pointer_at(member));
    }
    switch (f->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return pointer_at(member) != NULL;
    case PROTOBUF_C_TYPE_STRING:
        text = pointer_at(member);
        return text && (f->label == PROTOBUF_C_LABEL_OPTIONAL || text[0]);
    default:
        break;
    }
    if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->quantifier_offset) {
        memcpy(&has, member_of(msg, f->quantifier_offset), sizeof(has));
        return has;
    }
    if (f->type == PROTOBUF_C_TYPE_BYTES) {
        memcpy(&bytes, member, sizeof(bytes));
        return bytes.len > 0;
    }
    return memcmp(member, zero, element_size(f->type)) != 0;
}

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

static void put_enum(encoder *e, const ProtobufCEnumDescriptor *d, int32_t v)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(d, v);

    if (value)
        tn_buf_printf(e->out, "\"%s\"", value->name);
    else
        tn_buf_printf(e->out, "%d", v);
}

/* Not messages. */
static void put_scalar(encoder *e, const ProtobufCFieldDescriptor *f, const void *member)
{
    ProtobufCBinaryData bytes;
    protobuf_c_boolean flag;
    double real;
    float single;

    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        tn_json_put_string(e->out, tn_str_from(pointer_at(member)));
        return;
    case PROTOBUF_C_TYPE_BYTES:
        memcpy(&bytes, member, sizeof(bytes));
        tn_buf_put_u8(e->out, '"');
        http_put_base64(e->out, bytes.data, bytes.len);
        tn_buf_put_u8(e->out, '"');
        return;
    case PROTOBUF_C_TYPE_BOOL:
        memcpy(&flag, member, sizeof(flag));
        put_z(e, flag ? "true" : "false");
        return;
    case PROTOBUF_C_TYPE_ENUM:
        put_enum(e, f->descriptor, (int32_t)load32(member));
        return;
    case PROTOBUF_C_TYPE_FLOAT:
        memcpy(&single, member, sizeof(single));
        http_print_double(e->out, (double)single, true);
        return;
    case PROTOBUF_C_TYPE_DOUBLE:
        memcpy(&real, member, sizeof(real));
        http_print_double(e->out, real, false);
        return;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        tn_buf_printf(e->out, "%u", load32(member));
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        tn_buf_printf(e->out, "\"%lld\"", (long long)load64(member));
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        tn_buf_printf(e->out, "\"%llu\"", (unsigned long long)load64(member));
        return;
    default:
        tn_buf_printf(e->out, "%d", (int32_t)load32(member));
        return;
    }
}

/* ---- payloads ---- */

/* Both messages are known by their fields: 1 a map<string, bytes> metadata, 2 bytes data; 1 a list of payloads. */
static tn_str metadata(const ProtobufCMessage *payload, const char *key, size_t *out_count)
{
    const ProtobufCFieldDescriptor *f = &payload->descriptor->fields[0];
    size_t n = count_of(payload, f);
    ProtobufCMessage *const *entries = pointer_at(member_of(payload, f->offset));
    ProtobufCBinaryData value;

    *out_count = n;
    for (size_t i = 0; i < n; i++) {
        const ProtobufCMessageDescriptor *d = entries[i]->descriptor;
        const char *name = pointer_at(member_of(entries[i], d->fields[0].offset));
        if (strcmp(name, key) != 0)
            continue;
        memcpy(&value, member_of(entries[i], d->fields[1].offset), sizeof(value));
        return (tn_str){(const char *)value.data, value.len};
    }
    return (tn_str){NULL, 0};
}

static bool extras(const ProtobufCMessage *payload)
{
    for (unsigned i = 2; i < payload->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &payload->descriptor->fields[i];
        if (f->label == PROTOBUF_C_LABEL_REPEATED ? count_of(payload, f) > 0 : is_set(payload, f))
            return true;
    }
    return payload->n_unknown_fields > 0;
}

/* Appends a payload as what it holds; false: it has to be shown in full, nothing has been appended. */
static bool put_short(encoder *e, const ProtobufCMessage *payload)
{
    size_t count;
    tn_str encoding = metadata(payload, "encoding", &count), type, first = {NULL, 0};
    tn_buf member = {0};
    ProtobufCBinaryData data;
    tn_json_tape tape;
    bool ok;

    if (extras(payload))
        return false;
    memcpy(&data, member_of(payload, payload->descriptor->fields[1].offset), sizeof(data));
    if (tn_str_is(encoding, "binary/null")) {
        if (count != 1 || data.len)
            return false;
        put_z(e, "null");
        return true;
    }
    type = metadata(payload, "messageType", &count);
    if (!(tn_str_is(encoding, "json/plain") && count == 1) &&
        !(tn_str_is(encoding, "json/protobuf") && type.n && count == 2 &&
          tn_utf8_valid((const uint8_t *)type.p, type.n)))
        return false;
    ok = tn_json_tape_read(&tape, (tn_str){(const char *)data.data, data.len}) &&
         (!type.n || tape.nodes[0].kind == TN_JSON_OBJECT) &&
         /* what would be read back as something else */
         !(!type.n && tape.nodes[0].kind == TN_JSON_OBJECT &&
           (tn_json_member(&tape, 0, TN_STR("_protoMessageType")) ||
            tn_json_member(&tape, 0, TN_STR("metadata")))) &&
         !(!type.n && tape.nodes[0].kind == TN_JSON_NULL);
    if (ok) {
        if (type.n) {
            tn_buf_printf(&member, "\"_protoMessageType\"%s", e->style.pretty ? ": " : ":");
            tn_json_put_string(&member, type);
            first = tn_str_of_blob(tn_buf_blob(&member));
        }
        tn_json_put_node(e->out, &tape, 0, e->style.pretty ? (int)e->indent : -1, 0, first);
        tn_buf_done(&member);
    }
    tn_json_tape_done(&tape);
    return ok;
}

/* All of them short, or none. */
static bool put_short_list(encoder *e, const ProtobufCMessage *payloads)
{
    const ProtobufCFieldDescriptor *f = &payloads->descriptor->fields[0];
    size_t n = count_of(payloads, f), before = e->out->n;
    ProtobufCMessage *const *all = pointer_at(member_of(payloads, f->offset));

    open_bracket(e, '[');
    for (size_t i = 0; i < n; i++) {
        part(e, i == 0);
        if (!put_short(e, all[i])) {
            e->indent--;
            e->out->n = before;
            return false;
        }
    }
    close_bracket(e, ']', n > 0);
    return true;
}

/* ---- messages ---- */

/* Types whose value is no object.  False: the message is to be shown field by field. */
static bool put_known(encoder *e, const ProtobufCMessage *msg, http_known known)
{
    const ProtobufCFieldDescriptor *f = msg->descriptor->fields;

    switch (known) {
    case HTTP_KNOWN_TIMESTAMP:
        http_print_timestamp(e->out, (int64_t)load64(member_of(msg, f[0].offset)),
                             (int32_t)load32(member_of(msg, f[1].offset)));
        return true;
    case HTTP_KNOWN_DURATION:
        http_print_duration(e->out, (int64_t)load64(member_of(msg, f[0].offset)),
                            (int32_t)load32(member_of(msg, f[1].offset)));
        return true;
    case HTTP_KNOWN_FIELD_MASK:
        http_print_field_mask(e->out, pointer_at(member_of(msg, f[0].offset)), count_of(msg, f));
        return true;
    case HTTP_KNOWN_WRAPPER:
        put_scalar(e, f, member_of(msg, f->offset));
        return true;
    case HTTP_KNOWN_PAYLOAD:
        return e->style.shorthand && put_short(e, msg);
    case HTTP_KNOWN_PAYLOADS:
        return e->style.shorthand && put_short_list(e, msg);
    case HTTP_KNOWN_ANY:
    case HTTP_KNOWN_NONE:
        break;
    }
    return false;
}

/* What an Any holds, NULL: a type that we don't know, or damaged. */
static const ProtobufCMessage *open_any(encoder *e, const ProtobufCMessage *msg)
{
    const ProtobufCFieldDescriptor *f = msg->descriptor->fields;
    const char *url = pointer_at(member_of(msg, f[0].offset)), *slash = strrchr(url, '/');
    const ProtobufCMessageDescriptor *d = slash ? tn_proto_message(tn_str_from(slash + 1)) : NULL;
    ProtobufCBinaryData value;
    ProtobufCMessage *held = NULL;

    memcpy(&value, member_of(msg, f[1].offset), sizeof(value));
    if (!d ||
        tn_proto_unpack(d, tn_blob_from(value.data, value.len), e->arena, &held, NULL) != TN_OK)
        return NULL;
    return held;
}

static void begin(encoder *e, const ProtobufCMessage *msg)
{
    http_known known = http_known_of(msg->descriptor);
    const ProtobufCMessage *held = known == HTTP_KNOWN_ANY ? open_any(e, msg) : NULL;
    frame *f;

    if (known != HTTP_KNOWN_NONE && put_known(e, msg, known))
        return;
    if (e->depth == DEPTH_MAX) {
        put_z(e, "{}");
        return;
    }
    f = &e->stack[e->depth++];
    *f = (frame){.msg = held ? held : msg};
    open_bracket(e, '{');
    if (!held)
        return;
    part(e, true);
    put_z(e, "\"@type\"");
    colon(e);
    tn_json_put_string(e->out,
                       tn_str_from(pointer_at(member_of(msg, msg->descriptor->fields[0].offset))));
    f->any_member = true;
    known = http_known_of(held->descriptor);
    if (known == HTTP_KNOWN_NONE)
        return;
    part(e, false);
    put_z(e, "\"value\"");
    colon(e);
    if (!put_known(e, held, known))
        put_z(e, "null");
    f->field = held->descriptor->n_fields;
}

static void name(encoder *e, frame *f, const ProtobufCFieldDescriptor *field)
{
    part(e, !f->any_member);
    f->any_member = true;
    http_put_json_name(e->out, field->name);
    colon(e);
}

static void map_key(encoder *e, const ProtobufCMessage *entry)
{
    const ProtobufCFieldDescriptor *key = &entry->descriptor->fields[0];
    bool quote = element_size(key->type) == 4 || key->type == PROTOBUF_C_TYPE_BOOL;

    if (quote)
        tn_buf_put_u8(e->out, '"');
    put_scalar(e, key, member_of(entry, key->offset));
    if (quote)
        tn_buf_put_u8(e->out, '"');
    colon(e);
}

/* A map's value of its default is not on the wire, but is shown. */
static void map_value(encoder *e, const ProtobufCMessage *entry)
{
    const ProtobufCFieldDescriptor *value = &entry->descriptor->fields[1];
    const void *member = member_of(entry, value->offset);

    if (value->type != PROTOBUF_C_TYPE_MESSAGE)
        put_scalar(e, value, member);
    else if (pointer_at(member))
        begin(e, pointer_at(member));
    else
        put_z(e, "{}");
}

static void list_step(encoder *e, frame *f, const ProtobufCFieldDescriptor *field)
{
    size_t n = count_of(f->msg, field);
    bool map = http_is_map(f->msg->descriptor, field);
    const char *elements = pointer_at(member_of(f->msg, field->offset));

    if (f->element == n) {
        close_bracket(e, map ? '}' : ']', n > 0);
        f->in_list = false;
        f->field++;
        return;
    }
    part(e, f->element == 0);
    elements += f->element++ * element_size(field->type);
    if (map) {
        map_key(e, pointer_at(elements));
        map_value(e, pointer_at(elements));
    } else if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        begin(e, pointer_at(elements));
    } else {
        put_scalar(e, field, elements);
    }
}

static void step(encoder *e)
{
    frame *f = &e->stack[e->depth - 1];
    const ProtobufCFieldDescriptor *field;

    if (f->field == f->msg->descriptor->n_fields) {
        close_bracket(e, '}', f->any_member);
        e->depth--;
        return;
    }
    field = &f->msg->descriptor->fields[f->field];
    if (f->in_list) {
        list_step(e, f, field);
        return;
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        if (count_of(f->msg, field) == 0) {
            f->field++;
            return;
        }
        name(e, f, field);
        open_bracket(e, http_is_map(f->msg->descriptor, field) ? '{' : '[');
        f->in_list = true;
        f->element = 0;
        return;
    }
    f->field++;
    if (!is_set(f->msg, field) &&
        /* The shorthand knows a payload in full by having both members. */
        !(e->style.shorthand && f->field == 2 &&
          http_known_of(f->msg->descriptor) == HTTP_KNOWN_PAYLOAD && f->any_member))
        return;
    name(e, f, field);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        begin(e, pointer_at(member_of(f->msg, field->offset)));
    else
        put_scalar(e, field, member_of(f->msg, field->offset));
}

void http_encode(const ProtobufCMessage *msg, http_style style, tn_arena *arena, tn_buf *out)
{
    encoder *e = tn_xcalloc(1, sizeof(*e));

    e->out = out;
    e->arena = arena;
    e->style = style;
    begin(e, msg);
    while (e->depth)
        step(e);
    free(e);
}
