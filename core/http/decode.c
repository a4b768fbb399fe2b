/* SPDX-License-Identifier: MIT */
/* JSON to packed bytes, by the descriptors, as protobuf's JSON mapping says, with the API's additions: enum values by
 * their short names, and payloads as the plain JSON that they hold.  No recursion: the tape's depth bounds a stack. */
#include "http/private.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX (2 * TN_JSON_DEPTH_MAX)
#define SEEN_WORDS 4

typedef enum frame_kind { IN_MESSAGE, IN_LIST, IN_MAP } frame_kind;

typedef struct frame {
    frame_kind kind;
    const ProtobufCMessageDescriptor
        *d; /* of the message, or of the one that the list or map is in */
    const ProtobufCFieldDescriptor *field; /* of a list or map */
    uint32_t node, at;                     /* the value, and what comes next of it */
    http_open open[2];                     /* lengths to be written at the end */
    uint8_t n_open;
    bool any; /* a message inside an Any: "@type" is no field */
    uint64_t seen[SEEN_WORDS];
} frame;

typedef struct decoder {
    const tn_json_tape *tape;
    tn_arena *arena;
    tn_buf *out;
    http_problem *problem;
    bool shorthand;
    unsigned depth;
    frame stack[DEPTH_MAX];
} decoder;

static bool problem_at(decoder *dec, uint32_t node, const char *what, tn_str detail)
{
    unsigned line, column;

    tn_json_place(dec->tape->text, dec->tape->nodes[node].at, &line, &column);
    if (detail.n > 100)
        detail.n = 100;
    return http_fail(dec->problem, "temporalproto: (line %u:%u): %s" TN_STR_FMT, line, column, what,
                     TN_STR_ARG(detail));
}

static bool invalid(decoder *dec, uint32_t node, const ProtobufCFieldDescriptor *f)
{
    tn_str raw = tn_json_raw(dec->tape, node);
    unsigned line, column;

    tn_json_place(dec->tape->text, dec->tape->nodes[node].at, &line, &column);
    return http_fail(dec->problem,
                     "temporalproto: (line %u:%u): invalid value for field %s: " TN_STR_FMT, line,
                     column, f->name, (int)(raw.n > 100 ? 100 : raw.n), raw.p);
}

static bool full(decoder *dec)
{
    return http_fail(dec->problem, "the request takes too much memory");
}

static tn_json_kind kind_of(const decoder *dec, uint32_t node)
{
    return (tn_json_kind)dec->tape->nodes[node].kind;
}

static bool text_of(decoder *dec, uint32_t node, tn_str *out)
{
    return tn_json_string(dec->tape, node, dec->arena, out) || full(dec);
}

/* ---- scalars ---- */

/* A number, or a string that holds one. */
static bool number_text(decoder *dec, uint32_t node, tn_str *out)
{
    if (kind_of(dec, node) == TN_JSON_NUMBER) {
        *out = tn_json_raw(dec->tape, node);
        return true;
    }
    return kind_of(dec, node) == TN_JSON_STRING && text_of(dec, node, out) && out->n &&
           (out->p[0] == '-' || (out->p[0] >= '0' && out->p[0] <= '9'));
}

static bool read_whole(decoder *dec, uint32_t node, uint64_t max, uint64_t min_size, int64_t *out)
{
    tn_str text;
    uint64_t size;
    bool minus;

    if (!number_text(dec, node, &text) || !http_whole_number(text, &minus, &size) ||
        size > (minus ? min_size : max))
        return false;
    *out = minus ? (int64_t)(0 - size) : (int64_t)size;
    return true;
}

static bool read_double(decoder *dec, uint32_t node, bool is_float, double *out)
{
    tn_str text;

    if (kind_of(dec, node) == TN_JSON_STRING && text_of(dec, node, &text)) {
        if (tn_str_is(text, "NaN"))
            return *out = __builtin_nan(""), true;
        if (tn_str_is(text, "Infinity") || tn_str_is(text, "-Infinity"))
            return *out = text.p[0] == '-' ? -__builtin_inf() : __builtin_inf(), true;
    }
    if (!number_text(dec, node, &text) || !tn_parse_f64(text, out) || __builtin_isinf(*out))
        return false;
    return !is_float || (*out <= (double)FLT_MAX && *out >= -(double)FLT_MAX);
}

static bool read_enum(decoder *dec, uint32_t node, const ProtobufCEnumDescriptor *e, int64_t *out)
{
    tn_str text;
    int32_t v;

    if (kind_of(dec, node) == TN_JSON_NUMBER)
        return read_whole(dec, node, INT32_MAX, (uint64_t)INT32_MAX + 1, out);
    if (kind_of(dec, node) != TN_JSON_STRING || !text_of(dec, node, &text) ||
        !http_enum_value(e, text, &v))
        return false;
    *out = v;
    return true;
}

static void put_fixed(tn_buf *buf, uint64_t v, size_t n)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(v >> 8 * i);
    tn_buf_put(buf, bytes, n);
}

static uint64_t zigzag(int64_t v) { return (uint64_t)v << 1 ^ (uint64_t)(v >> 63); }

static uint32_t wire_type(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return TN_WIRE_FIXED32;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return TN_WIRE_FIXED64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return TN_WIRE_BYTES;
    default:
        return TN_WIRE_VARINT;
    }
}

static bool read_number(decoder *dec, const ProtobufCFieldDescriptor *f, uint32_t node, int64_t *v)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return read_whole(dec, node, INT32_MAX, (uint64_t)INT32_MAX + 1, v);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return read_whole(dec, node, UINT32_MAX, 0, v);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return read_whole(dec, node, INT64_MAX, (uint64_t)INT64_MAX + 1, v);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return read_whole(dec, node, UINT64_MAX, 0, v);
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(dec, node, f->descriptor, v);
    default:
        *v = kind_of(dec, node) == TN_JSON_TRUE;
        return kind_of(dec, node) == TN_JSON_TRUE || kind_of(dec, node) == TN_JSON_FALSE;
    }
}

/* The value without its tag: numbers, strings, bytes. */
static bool put_scalar(decoder *dec, const ProtobufCFieldDescriptor *f, uint32_t node)
{
    tn_buf bytes = {0};
    double real;
    float single;
    uint64_t bits;
    uint32_t bits32;
    int64_t v;
    tn_str text;
    bool ok;

    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
        if (kind_of(dec, node) != TN_JSON_STRING)
            return invalid(dec, node, f);
        if (!text_of(dec, node, &text))
            return false;
        if (f->type == PROTOBUF_C_TYPE_BYTES) {
            ok = http_base64_decode(text, &bytes);
            text = tn_str_of_blob(tn_buf_blob(&bytes));
            if (ok) {
                tn_proto_put_varint(dec->out, text.n);
                tn_buf_put(dec->out, text.p, text.n);
            }
            tn_buf_done(&bytes);
            return ok || invalid(dec, node, f);
        }
        tn_proto_put_varint(dec->out, text.n);
        tn_buf_put(dec->out, text.p, text.n);
        return true;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        if (!read_double(dec, node, f->type == PROTOBUF_C_TYPE_FLOAT, &real))
            return invalid(dec, node, f);
        single = (float)real;
        memcpy(&bits, &real, 8);
        memcpy(&bits32, &single, 4);
        if (f->type == PROTOBUF_C_TYPE_FLOAT)
            put_fixed(dec->out, bits32, 4);
        else
            put_fixed(dec->out, bits, 8);
        return true;
    default:
        if (!read_number(dec, f, node, &v))
            return invalid(dec, node, f);
        if (wire_type(f->type) != TN_WIRE_VARINT)
            put_fixed(dec->out, (uint64_t)v, wire_type(f->type) == TN_WIRE_FIXED32 ? 4 : 8);
        else if (f->type == PROTOBUF_C_TYPE_SINT32 || f->type == PROTOBUF_C_TYPE_SINT64)
            tn_proto_put_varint(dec->out, zigzag(v));
        else
            tn_proto_put_varint(dec->out, (uint64_t)v);
        return true;
    }
}

/* ---- payloads ---- */

static void put_entry(tn_buf *buf, tn_str key, tn_blob value)
{
    http_open open = http_begin(buf, 1, key.n + value.n + 8);

    tn_proto_put_bytes(buf, 1, tn_blob_of_str(key));
    tn_proto_put_bytes(buf, 2, value);
    http_end(buf, open);
}

/* {"metadata": {"encoding": base64, ...}, "data": base64} and nothing else.  False: it is something else. */
static bool put_standard(decoder *dec, uint32_t node)
{
    const tn_json_tape *tape = dec->tape;
    uint32_t meta = tn_json_member(tape, node, TN_STR("metadata"));
    uint32_t data = tn_json_member(tape, node, TN_STR("data"));
    size_t before = dec->out->n;
    tn_buf bytes = {0};
    uint32_t encoding;
    bool ok = true;
    tn_str key, text;

    if (!meta || kind_of(dec, meta) != TN_JSON_OBJECT ||
        (encoding = tn_json_member(tape, meta, TN_STR("encoding"))) == 0)
        return false;
    if (!data && !tn_str_is(tn_json_raw(tape, encoding), "\"YmluYXJ5L251bGw=\""))
        return false;
    if (data && (tn_json_count(tape, node) != 2 || kind_of(dec, data) != TN_JSON_STRING))
        return false;
    for (uint32_t i = meta + 1; ok && i < tape->nodes[meta].next; i = tape->nodes[i + 1].next) {
        bytes.n = 0;
        ok = kind_of(dec, i + 1) == TN_JSON_STRING && tn_json_string(tape, i, dec->arena, &key) &&
             tn_json_string(tape, i + 1, dec->arena, &text) && http_base64_decode(text, &bytes);
        if (ok)
            put_entry(dec->out, key, tn_buf_blob(&bytes));
    }
    bytes.n = 0;
    if (ok && data) {
        ok = tn_json_string(tape, data, dec->arena, &text) && http_base64_decode(text, &bytes);
        if (ok && bytes.n)
            tn_proto_put_bytes(dec->out, 2, tn_buf_blob(&bytes));
    }
    if (!ok)
        dec->out->n = before;
    tn_buf_done(&bytes);
    return ok;
}

/* The fields of a payload from whatever JSON stands there. */
static bool put_payload(decoder *dec, uint32_t node)
{
    static const char type_name[] = "_protoMessageType";
    uint32_t type = 0;
    tn_buf data = {0};
    tn_str text;

    if (kind_of(dec, node) == TN_JSON_NULL) {
        put_entry(dec->out, TN_STR("encoding"), tn_blob_of_str(TN_STR("binary/null")));
        return true;
    }
    if (kind_of(dec, node) == TN_JSON_OBJECT) {
        if (put_standard(dec, node))
            return true;
        type = tn_json_member(dec->tape, node, TN_STR(type_name));
    }
    if (type) {
        if (kind_of(dec, type) != TN_JSON_STRING)
            return problem_at(dec, type, "internal key \"_protoMessageType\" should be a string",
                              (tn_str){NULL, 0});
        if (!text_of(dec, type, &text))
            return false;
        put_entry(dec->out, TN_STR("encoding"), tn_blob_of_str(TN_STR("json/protobuf")));
        put_entry(dec->out, TN_STR("messageType"), tn_blob_of_str(text));
    } else {
        put_entry(dec->out, TN_STR("encoding"), tn_blob_of_str(TN_STR("json/plain")));
    }
    tn_json_put_node(&data, dec->tape, node, -1, type ? type - 1 : 0, (tn_str){NULL, 0});
    tn_proto_put_bytes(dec->out, 2, tn_buf_blob(&data));
    tn_buf_done(&data);
    return true;
}

/* ---- messages ---- */

static frame *push(decoder *dec, frame_kind kind, const ProtobufCMessageDescriptor *d,
                   uint32_t node)
{
    frame *f;

    if (dec->depth == DEPTH_MAX) {
        problem_at(dec, node, "exceeded max recursion depth", (tn_str){NULL, 0});
        return NULL;
    }
    f = &dec->stack[dec->depth++];
    memset(f, 0, sizeof(*f));
    f->kind = kind;
    f->d = d;
    f->node = node;
    f->at = node + 1;
    return f;
}

static bool put_known(decoder *dec, const ProtobufCMessageDescriptor *d, uint32_t node,
                      http_known known, bool *out_done)
{
    tn_str text;
    bool ok;

    *out_done = true;
    switch (known) {
    case HTTP_KNOWN_TIMESTAMP:
    case HTTP_KNOWN_DURATION:
    case HTTP_KNOWN_FIELD_MASK:
        if (kind_of(dec, node) != TN_JSON_STRING)
            return problem_at(dec, node, "unexpected token ", tn_json_raw(dec->tape, node));
        if (!text_of(dec, node, &text))
            return false;
        ok = known == HTTP_KNOWN_TIMESTAMP  ? http_put_timestamp(dec->out, text)
             : known == HTTP_KNOWN_DURATION ? http_put_duration(dec->out, text)
                                            : http_put_field_mask(dec->out, text);
        if (!ok)
            return http_fail(dec->problem, "temporalproto: invalid %s value " TN_STR_FMT, d->name,
                             (int)(dec->tape->nodes[node].n > 100 ? 100 : dec->tape->nodes[node].n),
                             tn_json_raw(dec->tape, node).p);
        return true;
    case HTTP_KNOWN_WRAPPER:
        tn_proto_put_tag(dec->out, 1, wire_type(d->fields[0].type));
        return put_scalar(dec, &d->fields[0], node);
    case HTTP_KNOWN_PAYLOAD:
        if (!dec->shorthand)
            break;
        return put_payload(dec, node);
    case HTTP_KNOWN_PAYLOADS:
        if (!dec->shorthand || kind_of(dec, node) != TN_JSON_ARRAY)
            break;
        for (uint32_t i = node + 1; i < dec->tape->nodes[node].next; i = dec->tape->nodes[i].next) {
            http_open open = http_begin(dec->out, 1, dec->tape->nodes[i].n + 40);
            if (!put_payload(dec, i))
                return false;
            http_end(dec->out, open);
        }
        return true;
    case HTTP_KNOWN_ANY:
    case HTTP_KNOWN_NONE:
        break;
    }
    *out_done = false;
    return true;
}

/* The type that an Any's "@type" names; its length is left open in *out_open. */
static bool begin_any(decoder *dec, uint32_t node, const ProtobufCMessageDescriptor **d,
                      http_open *out_open)
{
    uint32_t type = tn_json_member(dec->tape, node, TN_STR("@type"));
    const char *slash;
    tn_str text;

    if (!type || kind_of(dec, type) != TN_JSON_STRING)
        return problem_at(dec, node, "missing \"@type\" field", (tn_str){NULL, 0});
    if (!text_of(dec, type, &text))
        return false;
    slash = text.n ? memrchr(text.p, '/', text.n) : NULL;
    *d =
        slash ? tn_proto_message((tn_str){slash + 1, (size_t)(text.p + text.n - slash) - 1}) : NULL;
    if (!*d)
        return problem_at(dec, type, "unable to resolve ", tn_json_raw(dec->tape, type));
    tn_proto_put_bytes(dec->out, 1, tn_blob_of_str(text));
    *out_open = http_begin(dec->out, 2, dec->tape->nodes[node].n);
    return true;
}

/* A message's fields; `open` (its own length, n 0: none) is ended with it. */
static bool begin_message(decoder *dec, const ProtobufCMessageDescriptor *d, uint32_t node,
                          const http_open *opens, unsigned n_opens)
{
    http_open all[2];
    unsigned n = 0;
    bool any = false, done = false;
    frame *f;

    if (n_opens)
        all[n++] = opens[0];
    if (http_known_of(d) == HTTP_KNOWN_ANY && kind_of(dec, node) == TN_JSON_OBJECT &&
        dec->tape->nodes[node].next > node + 1) {
        if (!begin_any(dec, node, &d, &all[n++]))
            return false;
        any = true;
        if (http_known_of(d) != HTTP_KNOWN_NONE) {
            node = tn_json_member(dec->tape, node, TN_STR("value"));
            if (!node)
                return http_fail(dec->problem, "temporalproto: missing \"value\" field");
        }
    }
    if (!put_known(dec, d, node, http_known_of(d), &done))
        return false;
    if (done) {
        while (n)
            http_end(dec->out, all[--n]);
        return true;
    }
    if (kind_of(dec, node) != TN_JSON_OBJECT)
        return problem_at(dec, node, "unexpected token ", tn_json_raw(dec->tape, node));
    f = push(dec, IN_MESSAGE, d, node);
    if (!f)
        return false;
    f->any = any;
    memcpy(f->open, all, sizeof(all));
    f->n_open = (uint8_t)n;
    return true;
}

static bool put_element(decoder *dec, const ProtobufCFieldDescriptor *f, uint32_t node)
{
    http_open open;

    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        open = http_begin(dec->out, f->id, dec->tape->nodes[node].n);
        return begin_message(dec, f->descriptor, node, &open, 1);
    }
    tn_proto_put_tag(dec->out, f->id, wire_type(f->type));
    return put_scalar(dec, f, node);
}

static bool put_field(decoder *dec, const ProtobufCMessageDescriptor *d,
                      const ProtobufCFieldDescriptor *f, uint32_t node)
{
    frame *list;

    if (f->label != PROTOBUF_C_LABEL_REPEATED)
        return put_element(dec, f, node);
    if (http_is_map(d, f)) {
        if (kind_of(dec, node) != TN_JSON_OBJECT)
            return problem_at(dec, node, "unexpected token ", tn_json_raw(dec->tape, node));
        list = push(dec, IN_MAP, d, node);
    } else {
        if (kind_of(dec, node) != TN_JSON_ARRAY)
            return problem_at(dec, node, "unexpected token ", tn_json_raw(dec->tape, node));
        list = push(dec, IN_LIST, d, node);
        if (list && f->flags & PROTOBUF_C_FIELD_FLAG_PACKED) {
            list->open[0] = http_begin(dec->out, f->id, dec->tape->nodes[node].n);
            list->n_open = 1;
        }
    }
    if (list)
        list->field = f;
    return list != NULL;
}

static bool take_once(decoder *dec, frame *top, const ProtobufCFieldDescriptor *f, uint32_t name)
{
    unsigned index = (unsigned)(f - top->d->fields);

    if (index >= 64 * SEEN_WORDS)
        return true;
    if (top->seen[index / 64] >> index % 64 & 1)
        return problem_at(dec, name, "duplicate field ", tn_json_raw(dec->tape, name));
    top->seen[index / 64] |= UINT64_C(1) << index % 64;
    if (!(f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
        return true;
    for (unsigned i = 0; i < top->d->n_fields && i < 64 * SEEN_WORDS; i++) {
        const ProtobufCFieldDescriptor *other = &top->d->fields[i];
        if (i != index && top->seen[i / 64] >> i % 64 & 1 &&
            other->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
            other->quantifier_offset == f->quantifier_offset)
            return problem_at(dec, name, "another of the same oneof is already set: ",
                              tn_json_raw(dec->tape, name));
    }
    return true;
}

static bool message_step(decoder *dec, frame *top)
{
    uint32_t name = top->at, value = name + 1;
    const ProtobufCFieldDescriptor *f;
    tn_str text;

    top->at = dec->tape->nodes[value].next;
    if (!text_of(dec, name, &text))
        return false;
    if (top->any && tn_str_is(text, "@type"))
        return true;
    f = http_field(top->d, text);
    if (!f)
        return problem_at(dec, name, "unknown field ", tn_json_raw(dec->tape, name));
    if (kind_of(dec, value) == TN_JSON_NULL)
        return true; /* as if it were not there */
    return take_once(dec, top, f, name) && put_field(dec, top->d, f, value);
}

static bool list_step(decoder *dec, frame *top)
{
    uint32_t node = top->at;

    top->at = dec->tape->nodes[node].next;
    if (top->n_open)
        return put_scalar(dec, top->field, node);
    return put_element(dec, top->field, node);
}

static bool map_step(decoder *dec, frame *top)
{
    const ProtobufCMessageDescriptor *entry = top->field->descriptor;
    uint32_t name = top->at, value = name + 1;
    http_open opens[2];
    tn_str key;

    top->at = dec->tape->nodes[value].next;
    if (!text_of(dec, name, &key))
        return false;
    opens[0] =
        http_begin(dec->out, top->field->id, dec->tape->nodes[name].n + dec->tape->nodes[value].n);
    tn_proto_put_tag(dec->out, 1, wire_type(entry->fields[0].type));
    if (!put_scalar(dec, &entry->fields[0], name))
        return false;
    if (entry->fields[1].type != PROTOBUF_C_TYPE_MESSAGE) {
        if (!put_element(dec, &entry->fields[1], value))
            return false;
        http_end(dec->out, opens[0]);
        return true;
    }
    /* The entry ends with its value: a map frame's own open lengths hold the entry's until then. */
    top->open[0] = opens[0];
    top->n_open = 1;
    opens[1] = http_begin(dec->out, 2, dec->tape->nodes[value].n);
    return begin_message(dec, entry->fields[1].descriptor, value, &opens[1], 1);
}

static bool step(decoder *dec, frame *top)
{
    if (top->kind == IN_MAP && top->n_open) { /* a value has just ended */
        http_end(dec->out, top->open[0]);
        top->n_open = 0;
        return true;
    }
    if (top->at == dec->tape->nodes[top->node].next) {
        while (top->n_open)
            http_end(dec->out, top->open[--top->n_open]);
        dec->depth--;
        return true;
    }
    switch (top->kind) {
    case IN_MESSAGE:
        return message_step(dec, top);
    case IN_LIST:
        return list_step(dec, top);
    case IN_MAP:
        return map_step(dec, top);
    }
    return false;
}

static bool walk(decoder *dec, const ProtobufCMessageDescriptor *d)
{
    if (!begin_message(dec, d, 0, NULL, 0))
        return false;
    while (dec->depth) {
        if (!step(dec, &dec->stack[dec->depth - 1]))
            return false;
    }
    return true;
}

bool http_decode(const ProtobufCMessageDescriptor *d, tn_str json, bool shorthand, tn_arena *arena,
                 tn_buf *out, http_problem *problem)
{
    tn_json_tape tape;
    decoder *dec;
    bool ok;

    if (!tn_json_tape_read(&tape, json)) {
        http_fail(problem, "%s", tape.problem);
        tn_json_tape_done(&tape);
        return false;
    }
    dec = tn_xcalloc(1, sizeof(*dec));
    dec->tape = &tape;
    dec->arena = arena;
    dec->out = out;
    dec->problem = problem;
    dec->shorthand = shorthand;
    ok = walk(dec, d);
    free(dec);
    tn_json_tape_done(&tape);
    return ok;
}
