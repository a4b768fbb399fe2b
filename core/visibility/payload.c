/* SPDX-License-Identifier: MIT */
/* A search attribute's value: from the JSON payload that a client sends to the typed bytes that a driver
 * stores, and back.  Payloads are read and written packed, without building messages. */
#include <math.h>
#include <stdio.h>

#include "proto/proto.h"
#include "temporal/api/common/v1/message.pb-c.h"
#include "visibility/payload.h"

tn_status tn_vis_payload_read(tn_blob packed, tn_vis_payload *out)
{
    memset(out, 0, sizeof(*out));
    tn_wire_field field;
    tn_wire_iter it = tn_wire_begin(packed);
    while (tn_wire_next(&it, &field)) {
        if (field.number == 2 && field.wire_type == TN_WIRE_BYTES) {
            out->data = tn_str_of_blob(field.bytes);
        } else if (field.number == 1 && field.wire_type == TN_WIRE_BYTES) {
            tn_wire_field key, value;
            if (!tn_wire_find(field.bytes, 1, &key))
                continue;
            tn_str name = tn_str_of_blob(key.bytes), text = {NULL, 0};
            if (tn_wire_find(field.bytes, 2, &value))
                text = tn_str_of_blob(value.bytes);
            if (tn_str_is(name, "encoding"))
                out->encoding = text;
            else if (tn_str_is(name, "type"))
                out->type = text;
        }
    }
    return it.damaged ? TN_EINVALID : TN_OK;
}

bool tn_search_attr_payload_is_nil(tn_blob packed)
{
    tn_vis_payload payload;
    if (tn_vis_payload_read(packed, &payload) != TN_OK)
        return false;
    if (packed.n == 0 || tn_str_is(payload.encoding, "binary/null"))
        return true;
    return tn_str_is(payload.encoding, "json/plain") &&
           (tn_str_is(payload.data, "null") || tn_str_is(payload.data, "[]"));
}

/* ---- reading ---------------------------------------------------------------------------------- */

static tn_status encode_list(tn_arena *arena, const tn_json *json, tn_blob *out)
{
    size_t size = 0;
    for (size_t i = 0; i < json->count; i++) {
        if (json->items[i].kind != TN_JSON_STRING && json->items[i].kind != TN_JSON_NULL)
            return TN_EINVALID;
        size += 4 + json->items[i].text.n;
    }
    uint8_t *p = tn_arena_alloc(arena, size + 1);
    if (!p)
        return TN_ETOOLARGE;
    *out = (tn_blob){p, size};
    for (size_t i = 0; i < json->count; i++) {
        tn_str text = json->items[i].text;
        tn_put_u32be(p, (uint32_t)text.n);
        if (text.n)
            memcpy(p + 4, text.p, text.n);
        p += 4 + text.n;
    }
    return TN_OK;
}

static tn_status encode_scalar(tn_arena *arena, uint32_t type, const tn_json *json, tn_blob *out)
{
    int64_t i;
    double d;
    bool number = json->kind == TN_JSON_NUMBER, string = json->kind == TN_JSON_STRING;
    switch (type) {
    case TN_ATTR_TEXT:
    case TN_ATTR_KEYWORD:
        *out = (tn_blob){json->text.p ? (const uint8_t *)json->text.p : (const uint8_t *)"",
                         json->text.n};
        return string ? TN_OK : TN_EINVALID;
    case TN_ATTR_INT:
        if (!number || !tn_parse_i64(json->text, &i))
            return TN_EINVALID;
        *out = tn_vis_encode_i64(arena, i);
        break;
    case TN_ATTR_DOUBLE:
        if (!number || !tn_parse_f64(json->text, &d) || !isfinite(d))
            return TN_EINVALID;
        *out = tn_vis_encode_f64(arena, d);
        break;
    case TN_ATTR_BOOL:
        if (json->kind != TN_JSON_BOOL)
            return TN_EINVALID;
        *out = tn_vis_encode_bool(arena, json->boolean);
        break;
    case TN_ATTR_DATETIME:
        if (!string || !tn_parse_rfc3339_ns(json->text, &i))
            return TN_EINVALID;
        *out = tn_vis_encode_i64(arena, i);
        break;
    default:
        return TN_EINVALID;
    }
    return out->p ? TN_OK : TN_ETOOLARGE;
}

tn_status tn_search_attr_from_payload(tn_arena *arena, uint32_t type, tn_blob packed,
                                      tn_blob *out_value, bool *out_null)
{
    tn_vis_payload payload;
    *out_null = tn_search_attr_payload_is_nil(packed);
    if (*out_null)
        return TN_OK;
    tn_status status = tn_vis_payload_read(packed, &payload);
    if (status != TN_OK || !tn_str_is(payload.encoding, "json/plain"))
        return TN_EINVALID;
    tn_json json;
    status = tn_json_read(arena, payload.data, &json);
    if (status != TN_OK)
        return status;
    if (json.kind == TN_JSON_NULL || (json.kind == TN_JSON_ARRAY && json.count == 0)) {
        *out_null = true;
        return TN_OK;
    }
    if (type == TN_ATTR_KEYWORD_LIST)
        return json.kind == TN_JSON_ARRAY ? encode_list(arena, &json, out_value) : TN_EINVALID;
    if (json.kind == TN_JSON_ARRAY) {
        if (json.count != 1) /* one value in a list passes for the value */
            return TN_EINVALID;
        return encode_scalar(arena, type, &json.items[0], out_value);
    }
    return encode_scalar(arena, type, &json, out_value);
}

/* ---- showing a value in a message ------------------------------------------------------------- */

static void show_json(tn_buf *buf, const tn_json *json)
{
    double d;
    switch (json->kind) {
    case TN_JSON_NULL:
        tn_buf_printf(buf, "<nil>");
        break;
    case TN_JSON_BOOL:
        tn_buf_printf(buf, "%s", json->boolean ? "true" : "false");
        break;
    case TN_JSON_STRING:
        tn_buf_put(buf, json->text.p, json->text.n);
        break;
    case TN_JSON_NUMBER:
        if (tn_parse_f64(json->text, &d) && fabs(d) < 1e6 && d == floor(d))
            tn_buf_printf(buf, "%.0f", d);
        else
            tn_buf_put(buf, json->text.p, json->text.n);
        break;
    case TN_JSON_ARRAY:
        break;
    }
}

tn_str tn_vis_payload_show(tn_arena *arena, tn_blob packed)
{
    tn_vis_payload payload;
    tn_json json;
    if (tn_vis_payload_read(packed, &payload) != TN_OK ||
        !tn_str_is(payload.encoding, "json/plain") ||
        tn_json_read(arena, payload.data, &json) != TN_OK) {
        char *text = tn_arena_printf(arena, "value from <encoding:\"" TN_STR_FMT "\" %zu bytes>",
                                     TN_STR_ARG(payload.encoding), payload.data.n);
        return tn_str_from(text ? text : "");
    }
    tn_buf buf = {0};
    if (json.kind == TN_JSON_ARRAY) {
        tn_buf_put_u8(&buf, '[');
        for (size_t i = 0; i < json.count && buf.n < 1000; i++) {
            if (i)
                tn_buf_put_u8(&buf, ' ');
            show_json(&buf, &json.items[i]);
        }
        tn_buf_put_u8(&buf, ']');
    } else {
        show_json(&buf, &json);
    }
    tn_str out = tn_arena_str(arena, (tn_str){(const char *)buf.p, buf.n});
    tn_buf_done(&buf);
    return out;
}

/* ---- writing ---------------------------------------------------------------------------------- */

/* The shortest form that reads back the same. */
static char *format_double(tn_arena *arena, double d)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        double back;
        snprintf(text, sizeof(text), "%.*g", digits, d);
        if (tn_parse_f64(tn_str_from(text), &back) && back == d)
            break;
    }
    return tn_arena_strdup(arena, text);
}

static tn_str list_json(tn_arena *arena, tn_blob list)
{
    tn_buf buf = {0};
    tn_str item, none = {NULL, 0};
    tn_buf_put_u8(&buf, '[');
    for (tn_blob rest = list; tn_vis_list_next(&rest, &item);) {
        tn_str quoted = tn_json_quote(arena, item);
        if (!quoted.p) {
            tn_buf_done(&buf);
            return none;
        }
        if (buf.n > 1)
            tn_buf_put_u8(&buf, ',');
        tn_buf_put(&buf, quoted.p, quoted.n);
    }
    tn_buf_put_u8(&buf, ']');
    tn_str out = tn_arena_str(arena, (tn_str){(const char *)buf.p, buf.n});
    tn_buf_done(&buf);
    return out;
}

bool tn_vis_list_next(tn_blob *rest, tn_str *out)
{
    if (rest->n < 4)
        return false;
    uint32_t size = tn_get_u32be(rest->p);
    if (size > rest->n - 4)
        return false;
    *out = (tn_str){(const char *)rest->p + 4, size};
    rest->p += 4 + size;
    rest->n -= 4 + size;
    return true;
}

static tn_str value_json(tn_arena *arena, const tn_attr *attr)
{
    tn_blob v = attr->value;
    bool wide =
        attr->type == TN_ATTR_INT || attr->type == TN_ATTR_DOUBLE || attr->type == TN_ATTR_DATETIME;
    if ((wide && v.n != 8) || (attr->type == TN_ATTR_BOOL && v.n != 1))
        return (tn_str){NULL, 0};
    int64_t i = wide ? (int64_t)tn_get_u64be(v.p) : 0;
    double d;
    memcpy(&d, &i, sizeof(d));
    switch (attr->type) {
    case TN_ATTR_INT:
        return tn_str_from(tn_arena_printf(arena, "%lld", (long long)i));
    case TN_ATTR_DOUBLE:
        return tn_str_from(format_double(arena, d));
    case TN_ATTR_BOOL:
        return v.p[0] ? TN_STR("true") : TN_STR("false");
    case TN_ATTR_DATETIME: {
        char *text = tn_format_rfc3339_ns(arena, i);
        return text ? tn_json_quote(arena, tn_str_from(text)) : (tn_str){NULL, 0};
    }
    case TN_ATTR_KEYWORD_LIST:
        return list_json(arena, v);
    default:
        return tn_json_quote(arena, tn_str_of_blob(v));
    }
}

static bool add_metadata(tn_arena *arena, Temporal__Api__Common__V1__Payload *payload,
                         const char *key, const char *value)
{
    Temporal__Api__Common__V1__Payload__MetadataEntry *entry =
        TN_NEW(arena, Temporal__Api__Common__V1__Payload__MetadataEntry);
    if (!entry)
        return false;
    temporal__api__common__v1__payload__metadata_entry__init(entry);
    entry->key = (char *)(uintptr_t)key;
    entry->value.data = (uint8_t *)(uintptr_t)value;
    entry->value.len = strlen(value);
    payload->metadata[payload->n_metadata++] = entry;
    return true;
}

Temporal__Api__Common__V1__Payload *tn_search_attr_to_payload(tn_arena *arena, const tn_attr *attr)
{
    Temporal__Api__Common__V1__Payload *payload = TN_NEW(arena, Temporal__Api__Common__V1__Payload);
    bool null = attr->value.p == NULL; /* a group of runs that lack the attribute */
    tn_str json = null ? TN_STR("") : value_json(arena, attr);
    if (!payload || !json.p)
        return NULL;
    temporal__api__common__v1__payload__init(payload);
    payload->metadata = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload__MetadataEntry *, 2);
    if (!payload->metadata ||
        !add_metadata(arena, payload, "encoding", null ? "binary/null" : "json/plain") ||
        !add_metadata(arena, payload, "type", tn_search_attr_type_name(attr->type)))
        return NULL;
    payload->data.data = (uint8_t *)(uintptr_t)json.p;
    payload->data.len = json.n;
    return payload;
}

static bool has_metadata(const Temporal__Api__Common__V1__Payload *payload, const char *key)
{
    for (size_t i = 0; i < payload->n_metadata; i++)
        if (strcmp(payload->metadata[i]->key, key) == 0)
            return true;
    return false;
}

void tn_search_attrs_add_types(tn_arena *arena, const tn_namespace *ns,
                               Temporal__Api__Common__V1__SearchAttributes *attrs)
{
    for (size_t i = 0; attrs && i < attrs->n_indexed_fields; i++) {
        Temporal__Api__Common__V1__Payload *payload = attrs->indexed_fields[i]->value;
        uint32_t type = tn_search_attr_type(ns, tn_str_from(attrs->indexed_fields[i]->key));
        Temporal__Api__Common__V1__Payload__MetadataEntry **more;
        if (!payload || !type || has_metadata(payload, "type"))
            continue;
        more = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload__MetadataEntry *,
                            payload->n_metadata + 1);
        if (!more)
            return; /* without the hint a reader has to know the type itself */
        if (payload->n_metadata)
            memcpy(more, payload->metadata, payload->n_metadata * sizeof(*more));
        payload->metadata = more;
        (void)add_metadata(arena, payload, "type", tn_search_attr_type_name(type));
    }
}
