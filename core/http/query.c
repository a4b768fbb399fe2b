/* SPDX-License-Identifier: MIT */
/* Parameters of a path or a query string to packed bytes: "execution.runId=x" is the field run_id of the field
 * execution. */
#include "http/private.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#define PATH_DEPTH_MAX 16
#define QUERY_PAIRS_MAX 256

/* ---- escapes ---- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        return (c | 0x20) - 'a' + 10;
    return -1;
}

bool http_unescape(tn_str s, bool plus, tn_arena *arena, tn_str *out)
{
    char *p;
    size_t n = 0;

    if (!memchr(s.p, '%', s.n) && !(plus && memchr(s.p, '+', s.n))) {
        *out = s;
        return tn_utf8_valid((const uint8_t *)s.p, s.n);
    }
    p = tn_arena_alloc(arena, s.n);
    if (!p)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '%') {
            if (s.n - i < 3 || hex(s.p[i + 1]) < 0 || hex(s.p[i + 2]) < 0)
                return false;
            p[n++] = (char)(hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]));
            i += 2;
        } else {
            p[n++] = plus && s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    *out = (tn_str){p, n};
    return tn_utf8_valid((const uint8_t *)p, n);
}

/* The next "name=value" of a query; false: no more. */
static bool next_pair(tn_str *rest, tn_str *name, tn_str *value)
{
    while (rest->n) {
        const char *amp = memchr(rest->p, '&', rest->n), *eq;
        tn_str pair = {rest->p, amp ? (size_t)(amp - rest->p) : rest->n};
        size_t used = pair.n + (amp != NULL);
        rest->p += used;
        rest->n -= used;
        if (!pair.n)
            continue;
        eq = memchr(pair.p, '=', pair.n);
        *name = (tn_str){pair.p, eq ? (size_t)(eq - pair.p) : pair.n};
        *value = eq ? (tn_str){eq + 1, pair.n - name->n - 1} : (tn_str){"", 0};
        return true;
    }
    return false;
}

bool http_query_has(tn_str query, const char *wanted)
{
    tn_str name, value;

    while (next_pair(&query, &name, &value)) {
        if (tn_str_is(name, wanted))
            return true;
    }
    return false;
}

/* ---- values ---- */

static const char *number_problem(const char *function, tn_str text, const char *why)
{
    static _Thread_local char buf[200];

    snprintf(buf, sizeof(buf), "strconv.%s: parsing \"%.*s\": %s", function,
             (int)(text.n > 80 ? 80 : text.n), text.p, why);
    return buf;
}

static bool digits_only(tn_str s)
{
    size_t i = s.n && (s.p[0] == '-' || s.p[0] == '+');

    if (i == s.n)
        return false;
    for (; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    }
    return true;
}

static const char *read_int(tn_str text, int64_t min, int64_t max, int64_t *out)
{
    tn_str s = text.n && text.p[0] == '+' ? (tn_str){text.p + 1, text.n - 1} : text;

    if (!digits_only(text) || (s.n < text.n && s.p[0] == '-'))
        return number_problem("ParseInt", text, "invalid syntax");
    if (!tn_parse_i64(s, out) || *out < min || *out > max)
        return number_problem("ParseInt", text, "value out of range");
    return NULL;
}

static const char *read_uint(tn_str text, uint64_t max, int64_t *out)
{
    uint64_t v;

    if (!digits_only(text) || text.p[0] == '-' || text.p[0] == '+')
        return number_problem("ParseUint", text, "invalid syntax");
    if (!tn_parse_u64(text, &v) || v > max)
        return number_problem("ParseUint", text, "value out of range");
    *out = (int64_t)v;
    return NULL;
}

static const char *read_bool(tn_str text, int64_t *out)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

    for (size_t i = 0; i < TN_COUNT_OF(yes); i++) {
        if (tn_str_is(text, yes[i]) || tn_str_is(text, no[i])) {
            *out = tn_str_is(text, yes[i]);
            return NULL;
        }
    }
    return number_problem("ParseBool", text, "invalid syntax");
}

static const char *read_enum(const ProtobufCEnumDescriptor *e, tn_str text, int64_t *out)
{
    static _Thread_local char buf[120];
    int32_t v;

    if (http_enum_value(e, text, &v)) {
        *out = v;
        return NULL;
    }
    if (tn_parse_i64(text, out) && *out >= INT32_MIN && *out <= INT32_MAX &&
        protobuf_c_enum_descriptor_get_value(e, (int)*out))
        return NULL;
    snprintf(buf, sizeof(buf), "\"%.*s\" is not a valid value", (int)(text.n > 80 ? 80 : text.n),
             text.p);
    return buf;
}

static const char *read_number(const ProtobufCFieldDescriptor *f, tn_str text, int64_t *out)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return read_bool(text, out);
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(f->descriptor, text, out);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return read_int(text, INT32_MIN, INT32_MAX, out);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return read_int(text, INT64_MIN, INT64_MAX, out);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return read_uint(text, UINT32_MAX, out);
    default:
        return read_uint(text, UINT64_MAX, out);
    }
}

static void put_fixed(tn_buf *buf, uint64_t v, size_t n)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(v >> 8 * i);
    tn_buf_put(buf, bytes, n);
}

static const char *put_real(tn_buf *buf, const ProtobufCFieldDescriptor *f, tn_str text)
{
    double v;
    float single;
    uint64_t bits = 0;

    if (!tn_parse_f64(text, &v))
        return number_problem("ParseFloat", text, "invalid syntax");
    if (f->type == PROTOBUF_C_TYPE_DOUBLE) {
        tn_proto_put_tag(buf, f->id, TN_WIRE_FIXED64);
        memcpy(&bits, &v, 8);
        put_fixed(buf, bits, 8);
        return NULL;
    }
    if (v > (double)FLT_MAX || v < -(double)FLT_MAX)
        return number_problem("ParseFloat", text, "value out of range");
    single = (float)v;
    memcpy(&bits, &single, 4);
    tn_proto_put_tag(buf, f->id, TN_WIRE_FIXED32);
    put_fixed(buf, bits, 4);
    return NULL;
}

static const char *put_scalar(tn_buf *buf, const ProtobufCFieldDescriptor *f, tn_str text)
{
    tn_buf bytes = {0};
    const char *why;
    int64_t v;

    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        tn_proto_put_bytes(buf, f->id, tn_blob_of_str(text));
        return NULL;
    case PROTOBUF_C_TYPE_BYTES:
        why = http_base64_decode(text, &bytes) ? NULL : "illegal base64 data";
        if (!why)
            tn_proto_put_bytes(buf, f->id, tn_buf_blob(&bytes));
        tn_buf_done(&bytes);
        return why;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        return put_real(buf, f, text);
    default:
        why = read_number(f, text, &v);
        if (why)
            return why;
        break;
    }
    switch (f->type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
        tn_proto_put_tag(buf, f->id, TN_WIRE_FIXED32);
        put_fixed(buf, (uint64_t)v, 4);
        return NULL;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
        tn_proto_put_tag(buf, f->id, TN_WIRE_FIXED64);
        put_fixed(buf, (uint64_t)v, 8);
        return NULL;
    default:
        tn_proto_put_tag(buf, f->id, TN_WIRE_VARINT);
        if (f->type == PROTOBUF_C_TYPE_SINT32 || f->type == PROTOBUF_C_TYPE_SINT64)
            v = (int64_t)((uint64_t)v << 1 ^ (uint64_t)(v >> 63));
        tn_proto_put_varint(buf, (uint64_t)v);
        return NULL;
    }
}

static const char *put_message(tn_buf *buf, const ProtobufCFieldDescriptor *f, tn_str text)
{
    const ProtobufCMessageDescriptor *d = f->descriptor;
    http_open open = http_begin(buf, f->id, 12);
    const char *why = NULL;
    int64_t ns;

    switch (http_known_of(d)) {
    case HTTP_KNOWN_TIMESTAMP:
        why = http_put_timestamp(buf, text) ? NULL : "parsing time: not RFC 3339";
        break;
    case HTTP_KNOWN_DURATION: /* Go's form here, or that of the JSON */
        if (tn_parse_duration_ns(text, &ns)) {
            tn_proto_put_uint(buf, 1, (uint64_t)(ns / (int64_t)TN_SEC));
            tn_proto_put_uint(buf, 2, (uint64_t)(ns % (int64_t)TN_SEC));
        } else if (!http_put_duration(buf, text)) {
            why = "time: invalid duration";
        }
        break;
    case HTTP_KNOWN_FIELD_MASK:
        for (size_t at = 0; text.n && at <= text.n;) {
            const char *comma = memchr(text.p + at, ',', text.n - at);
            size_t n = comma ? (size_t)(comma - text.p) - at : text.n - at;
            tn_proto_put_bytes(buf, 1, tn_blob_from(text.p + at, n));
            at += n + 1;
        }
        break;
    case HTTP_KNOWN_WRAPPER:
        why = put_scalar(buf, &d->fields[0], text);
        break;
    default:
        why = "unsupported message type";
        break;
    }
    http_end(buf, open);
    return why;
}

bool http_put_parameter(tn_buf *buf, const ProtobufCFieldDescriptor *f, tn_str text,
                        http_problem *problem)
{
    const char *why =
        f->type == PROTOBUF_C_TYPE_MESSAGE ? put_message(buf, f, text) : put_scalar(buf, f, text);
    if (!why)
        return true;
    return http_fail(problem, "parsing %s \"%s\": %s",
                     f->label == PROTOBUF_C_LABEL_REPEATED ? "list" : "field", f->name, why);
}

/* ---- paths ---- */

/* The fields that a dotted path goes through; false: no such field.  *out_n is 0 then. */
static bool resolve(const ProtobufCMessageDescriptor *d, tn_str path,
                    const ProtobufCFieldDescriptor **fields, size_t *out_n, http_problem *problem)
{
    const char *p = path.p, *end = path.p + path.n;

    *out_n = 0;
    for (;;) {
        const char *dot = p < end ? memchr(p, '.', (size_t)(end - p)) : NULL;
        tn_str name = {p, (size_t)((dot ? dot : end) - p)};
        const ProtobufCFieldDescriptor *f = *out_n < PATH_DEPTH_MAX ? http_field(d, name) : NULL;
        if (!f) {
            *out_n = 0; /* a parameter that is none of the request's */
            return true;
        }
        fields[(*out_n)++] = f;
        if (!dot)
            return true;
        if (f->type != PROTOBUF_C_TYPE_MESSAGE || f->label == PROTOBUF_C_LABEL_REPEATED)
            return http_fail(problem, "invalid path: \"%s\" is not a message", f->name);
        d = f->descriptor;
        p = dot + 1;
    }
}

static bool put_map(tn_buf *out, const ProtobufCFieldDescriptor *f, const tn_str *values, size_t n,
                    http_problem *problem)
{
    const ProtobufCMessageDescriptor *entry = f->descriptor;
    http_open open;

    if (n != 2)
        return http_fail(problem, "a value of map \"%s\" needs a key: %s[key]=value", f->name,
                         f->name);
    open = http_begin(out, f->id, values[0].n + values[1].n + 8);
    if (!http_put_parameter(out, &entry->fields[0], values[0], problem) ||
        !http_put_parameter(out, &entry->fields[1], values[1], problem))
        return false;
    http_end(out, open);
    return true;
}

bool http_put_path(const ProtobufCMessageDescriptor *d, tn_str path, const tn_str *values, size_t n,
                   tn_buf *out, http_problem *problem)
{
    const ProtobufCFieldDescriptor *fields[PATH_DEPTH_MAX], *last;
    http_open open[PATH_DEPTH_MAX];
    const ProtobufCMessageDescriptor *parent = d;
    size_t depth;
    bool ok = true;

    if (!resolve(d, path, fields, &depth, problem))
        return false;
    if (!depth)
        return true;
    for (size_t i = 0; i + 1 < depth; i++) {
        open[i] = http_begin(out, fields[i]->id, 32);
        parent = fields[i]->descriptor;
    }
    last = fields[depth - 1];
    if (http_is_map(parent, last))
        ok = put_map(out, last, values, n, problem);
    else if (n > 1 && last->label != PROTOBUF_C_LABEL_REPEATED)
        ok = http_fail(problem, "too many values for field \"%s\"", last->name);
    else
        for (size_t i = 0; i < n && ok; i++)
            ok = http_put_parameter(out, last, values[i], problem);
    for (size_t i = depth - 1; i-- > 0;)
        http_end(out, open[i]);
    return ok;
}

/* ---- the query ---- */

/* "a[b]": a map's key. */
static bool split_key(tn_str *name, tn_str *key)
{
    const char *bracket =
        name->n && name->p[name->n - 1] == ']' ? memchr(name->p, '[', name->n) : NULL;

    if (!bracket)
        return false;
    *key = (tn_str){bracket + 1, (size_t)(name->p + name->n - bracket) - 2};
    name->n = (size_t)(bracket - name->p);
    return true;
}

/* Does one path lead to the other's field or below it, whichever names it uses? */
static bool below(tn_str path, tn_str taken)
{
    size_t i = 0, k = 0;

    while (i < path.n && k < taken.n) {
        if (taken.p[k] == '_' && path.p[i] != '_') { /* "runId" against "run_id" */
            k++;
            if (k == taken.n || (taken.p[k] & ~0x20) != path.p[i])
                return false;
        } else if (taken.p[k] != path.p[i]) {
            return false;
        }
        i++, k++;
    }
    return k == taken.n && (i == path.n || path.p[i] == '.');
}

static bool is_taken(tn_str path, const tn_http_pair *taken, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (below(path, taken[i].name))
            return true;
    }
    return false;
}

bool http_put_query(const ProtobufCMessageDescriptor *d, tn_str query, const tn_http_pair *taken,
                    size_t n_taken, tn_arena *arena, tn_buf *out, http_problem *problem)
{
    tn_http_pair *pairs = TN_NEW_ARRAY(arena, tn_http_pair, QUERY_PAIRS_MAX);
    tn_str *values = TN_NEW_ARRAY(arena, tn_str, QUERY_PAIRS_MAX), name, value;
    size_t n = 0;

    if (!pairs || !values)
        return http_fail(problem, "the request takes too much memory");
    while (next_pair(&query, &name, &value)) {
        if (n == QUERY_PAIRS_MAX)
            return http_fail(problem, "too many parameters");
        if (!http_unescape(name, true, arena, &pairs[n].name) ||
            !http_unescape(value, true, arena, &pairs[n].value))
            return http_fail(problem, "invalid URL escape in the query");
        n++;
    }
    for (size_t i = 0; i < n; i++) {
        size_t count = 0;
        tn_str key;
        name = pairs[i].name;
        if (!name.p)
            continue;
        for (size_t k = i; k < n; k++) {
            if (!pairs[k].name.p || !tn_str_eq(pairs[k].name, name))
                continue;
            values[count++] = pairs[k].value;
            pairs[k].name.p = NULL;
        }
        if (split_key(&name, &key)) {
            values[1] = values[0];
            values[0] = key;
            count++;
        }
        if (is_taken(name, taken, n_taken))
            continue;
        if (!http_put_path(d, name, values, count, out, problem))
            return false;
    }
    return true;
}
