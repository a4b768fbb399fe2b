/* SPDX-License-Identifier: MIT */
/* The API's description, made from the bindings and the descriptors: Swagger 2.0 at /swagger.json, OpenAPI 3.0 at
 * /openapi.yaml (JSON, which is YAML).  Made when it is first asked for, kept for good. */
#include "http/private.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "config.h"

#define SCHEMAS_MAX 2000
#define QUERY_DEPTH_MAX 3
/* A document is large: this many of them a second, with some ahead. */
#define PER_SECOND 10
#define AHEAD 20

typedef struct maker {
    tn_buf *out;
    bool v3;
    const ProtobufCMessageDescriptor *schemas[SCHEMAS_MAX]; /* that something has referred to */
    size_t n_schemas;
} maker;

static void put(maker *m, const char *text) { tn_buf_put(m->out, text, strlen(text)); }

static void quoted(maker *m, const char *text) { tn_json_put_string(m->out, tn_str_from(text)); }

/* ---- types ---- */

static void note(maker *m, const ProtobufCMessageDescriptor *d)
{
    for (size_t i = 0; i < m->n_schemas; i++) {
        if (m->schemas[i] == d)
            return;
    }
    if (m->n_schemas < SCHEMAS_MAX)
        m->schemas[m->n_schemas++] = d;
}

static void reference(maker *m, const ProtobufCMessageDescriptor *d)
{
    note(m, d);
    tn_buf_printf(m->out, "{\"$ref\":\"#/%s/%s\"}", m->v3 ? "components/schemas" : "definitions",
                  d->name);
}

static void scalar_members(maker *m, const ProtobufCFieldDescriptor *f)
{
    const ProtobufCEnumDescriptor *e = f->descriptor;

    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        put(m, "\"type\":\"string\"");
        return;
    case PROTOBUF_C_TYPE_BYTES:
        put(m, "\"type\":\"string\",\"format\":\"byte\"");
        return;
    case PROTOBUF_C_TYPE_BOOL:
        put(m, "\"type\":\"boolean\"");
        return;
    case PROTOBUF_C_TYPE_FLOAT:
        put(m, "\"type\":\"number\",\"format\":\"float\"");
        return;
    case PROTOBUF_C_TYPE_DOUBLE:
        put(m, "\"type\":\"number\",\"format\":\"double\"");
        return;
    case PROTOBUF_C_TYPE_ENUM:
        put(m, "\"type\":\"string\",\"enum\":[");
        for (unsigned i = 0; i < e->n_values; i++) {
            if (i)
                put(m, ",");
            quoted(m, e->values[i].name);
        }
        put(m, "]");
        return;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        put(m, "\"type\":\"integer\",\"format\":\"int32\"");
        return;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        put(m, "\"type\":\"integer\",\"format\":\"int64\"");
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        put(m, "\"type\":\"string\",\"format\":\"uint64\"");
        return;
    default:
        put(m, "\"type\":\"string\",\"format\":\"int64\"");
        return;
    }
}

/* The members of a type that has a form of its own; false: it is an object. */
static bool known_members(maker *m, const ProtobufCMessageDescriptor *d)
{
    switch (http_known_of(d)) {
    case HTTP_KNOWN_TIMESTAMP:
        put(m, "\"type\":\"string\",\"format\":\"date-time\"");
        return true;
    case HTTP_KNOWN_DURATION:
        put(m, "\"type\":\"string\",\"pattern\":\"^-?[0-9]+([.][0-9]{1,9})?s$\"");
        return true;
    case HTTP_KNOWN_FIELD_MASK:
        put(m, "\"type\":\"string\",\"format\":\"field-mask\"");
        return true;
    case HTTP_KNOWN_WRAPPER:
        scalar_members(m, &d->fields[0]);
        return true;
    case HTTP_KNOWN_ANY:
        put(m, "\"type\":\"object\",\"properties\":{\"@type\":{\"type\":\"string\"}},"
               "\"additionalProperties\":true");
        return true;
    case HTTP_KNOWN_PAYLOAD:
        put(m, "\"description\":\"Any JSON; or an object of metadata (base64 by name) and data "
               "(base64).\"");
        return true;
    case HTTP_KNOWN_PAYLOADS:
        put(m, "\"description\":\"An array of payloads; or an object with one in its member "
               "payloads.\"");
        return true;
    case HTTP_KNOWN_NONE:
        break;
    }
    return false;
}

static void element(maker *m, const ProtobufCFieldDescriptor *f)
{
    if (f->type == PROTOBUF_C_TYPE_MESSAGE && http_known_of(f->descriptor) == HTTP_KNOWN_NONE) {
        reference(m, f->descriptor);
        return;
    }
    put(m, "{");
    if (f->type != PROTOBUF_C_TYPE_MESSAGE)
        scalar_members(m, f);
    else
        known_members(m, f->descriptor);
    put(m, "}");
}

static void field_type(maker *m, const ProtobufCMessageDescriptor *parent,
                       const ProtobufCFieldDescriptor *f)
{
    if (http_is_map(parent, f)) {
        const ProtobufCMessageDescriptor *entry = f->descriptor;
        put(m, "{\"type\":\"object\",\"additionalProperties\":");
        element(m, &entry->fields[1]);
        put(m, "}");
    } else if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        put(m, "{\"type\":\"array\",\"items\":");
        element(m, f);
        put(m, "}");
    } else {
        element(m, f);
    }
}

static void schema(maker *m, const ProtobufCMessageDescriptor *d)
{
    quoted(m, d->name);
    put(m, ":{\"type\":\"object\",\"properties\":{");
    for (unsigned i = 0; i < d->n_fields; i++) {
        if (i)
            put(m, ",");
        http_put_json_name(m->out, d->fields[i].name);
        put(m, ":");
        field_type(m, d, &d->fields[i]);
    }
    put(m, "}}");
}

/* ---- operations ---- */

static void parameter(maker *m, bool *any, tn_str name, bool in_path,
                      const ProtobufCFieldDescriptor *f)
{
    bool list = f && f->label == PROTOBUF_C_LABEL_REPEATED;

    if (*any)
        put(m, ",");
    *any = true;
    put(m, "{\"name\":");
    tn_json_put_string(m->out, name);
    tn_buf_printf(m->out, ",\"in\":\"%s\",\"required\":%s,", in_path ? "path" : "query",
                  in_path ? "true" : "false");
    if (m->v3)
        put(m, "\"schema\":{");
    if (list)
        put(m, m->v3 ? "\"type\":\"array\",\"items\":{"
                     : "\"type\":\"array\",\"collectionFormat\":\"multi\",\"items\":{");
    if (!f)
        put(m, "\"type\":\"string\"");
    else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        known_members(m, f->descriptor);
    else
        scalar_members(m, f);
    put(m, list ? "}" : "");
    put(m, m->v3 ? "}}" : "}");
}

static void path_parameters(maker *m, const char *pattern, bool *any)
{
    for (const char *p = strchr(pattern, '{'); p; p = strchr(p, '{')) {
        size_t n = strcspn(++p, "=}");
        parameter(m, any, (tn_str){p, n}, true, NULL);
    }
}

static bool in_pattern(const char *pattern, const char *name)
{
    char braced[170];

    snprintf(braced, sizeof(braced), "{%s}", name);
    return strstr(pattern, braced) != NULL;
}

/* Fields of the request, and of its messages, that a query may name. */
static void query_parameters(maker *m, const char *pattern, const ProtobufCMessageDescriptor *top,
                             bool *any)
{
    struct {
        const ProtobufCMessageDescriptor *d;
        unsigned at;
        size_t prefix;
    } stack[QUERY_DEPTH_MAX];
    char name[160] = "";
    unsigned depth = 1;

    stack[0].d = top;
    stack[0].at = 0;
    stack[0].prefix = 0;
    while (depth) {
        const ProtobufCMessageDescriptor *d = stack[depth - 1].d;
        size_t prefix = stack[depth - 1].prefix;
        const ProtobufCFieldDescriptor *f;
        http_known known;
        if (stack[depth - 1].at == d->n_fields) {
            depth--;
            continue;
        }
        f = &d->fields[stack[depth - 1].at++];
        if (http_is_map(d, f) || prefix + strlen(f->name) + 2 > sizeof(name))
            continue;
        memcpy(name + prefix, f->name, strlen(f->name) + 1);
        if (in_pattern(pattern, name))
            continue;
        known = f->type == PROTOBUF_C_TYPE_MESSAGE ? http_known_of(f->descriptor) : HTTP_KNOWN_NONE;
        if (f->type != PROTOBUF_C_TYPE_MESSAGE ||
            (known != HTTP_KNOWN_NONE && known < HTTP_KNOWN_ANY)) {
            parameter(m, any, tn_str_from(name), false, f);
        } else if (known == HTTP_KNOWN_NONE && f->label != PROTOBUF_C_LABEL_REPEATED &&
                   depth < QUERY_DEPTH_MAX) {
            strcat(name, ".");
            stack[depth].d = f->descriptor;
            stack[depth].at = 0;
            stack[depth++].prefix = strlen(name);
        }
    }
}

static void body(maker *m, const ProtobufCMessageDescriptor *input, bool *any)
{
    if (m->v3) {
        put(m,
            ",\"requestBody\":{\"required\":true,\"content\":{\"application/json\":{\"schema\":");
        reference(m, input);
        put(m, "}}}");
        return;
    }
    put(m, *any ? "," : "");
    put(m, "{\"name\":\"body\",\"in\":\"body\",\"required\":true,\"schema\":");
    reference(m, input);
    put(m, "}");
}

static void response(maker *m, const char *code, const char *text,
                     const ProtobufCMessageDescriptor *d)
{
    tn_buf_printf(m->out, "\"%s\":{\"description\":\"%s\",%s", code, text,
                  m->v3 ? "\"content\":{\"application/json\":{\"schema\":" : "\"schema\":");
    reference(m, d);
    put(m, m->v3 ? "}}}" : "}");
}

static void operation(maker *m, size_t index)
{
    const tn_http_binding *b = &tn_http_binding_table[index];
    const tn_method *method = tn_proto_method(tn_str_from(b->path));
    unsigned nth = 1;
    bool any = false, has_body = b->body[0] != '\0';

    for (size_t i = 0; i < index; i++)
        nth += strcmp(tn_http_binding_table[i].path, b->path) == 0;
    for (const char *p = b->verb; *p; p++)
        tn_buf_put_u8(m->out, (uint8_t)(p == b->verb ? '"' : p[-1] | 0x20));
    tn_buf_printf(m->out, "%c\":{\"operationId\":\"%s", b->verb[strlen(b->verb) - 1] | 0x20,
                  method->name);
    if (nth > 1)
        tn_buf_printf(m->out, "%u", nth);
    put(m, "\",\"tags\":[");
    quoted(m, strrchr(method->service, '.') + 1);
    put(m, "],\"parameters\":[");
    path_parameters(m, b->pattern, &any);
    if (!has_body)
        query_parameters(m, b->pattern, method->input, &any);
    if (has_body && !m->v3)
        body(m, method->input, &any);
    put(m, "]");
    if (has_body && m->v3)
        body(m, method->input, &any);
    put(m, ",\"responses\":{");
    response(m, "200", "OK", method->output);
    put(m, ",");
    response(m, "default", "An error", tn_proto_message(TN_STR("google.rpc.Status")));
    put(m, "}}");
}

static void paths(maker *m)
{
    bool any_path = false;

    for (size_t i = 0; i < tn_http_binding_count; i++) {
        const char *pattern = tn_http_binding_table[i].pattern;
        bool seen = false, any = false;
        for (size_t k = 0; k < i && !seen; k++)
            seen = strcmp(tn_http_binding_table[k].pattern, pattern) == 0;
        if (seen)
            continue;
        put(m, any_path ? "," : "");
        any_path = true;
        quoted(m, pattern);
        put(m, ":{");
        for (size_t k = i; k < tn_http_binding_count; k++) {
            if (strcmp(tn_http_binding_table[k].pattern, pattern) != 0)
                continue;
            put(m, any ? "," : "");
            any = true;
            operation(m, k);
        }
        put(m, "}");
    }
}

static void make(tn_buf *out, bool v3)
{
    maker *m = tn_xcalloc(1, sizeof(*m));

    m->out = out;
    m->v3 = v3;
    put(m, v3 ? "{\"openapi\":\"3.0.3\","
              : "{\"swagger\":\"2.0\",\"consumes\":[\"application/json\"],"
                "\"produces\":[\"application/json\"],");
    put(m, "\"info\":{\"title\":\"Temporal API, as Tenon serves it\",\"version\":");
    quoted(m, PACKAGE_VERSION);
    put(m, "},\"paths\":{");
    paths(m);
    put(m, v3 ? "},\"components\":{\"schemas\":{" : "},\"definitions\":{");
    for (size_t i = 0; i < m->n_schemas; i++) { /* which grows meanwhile */
        put(m, i ? "," : "");
        schema(m, m->schemas[i]);
    }
    put(m, v3 ? "}}}\n" : "}}\n");
    free(m);
}

/* ---- serving ---- */

static tn_buf documents[2];
static pthread_once_t made = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t full_at_ns; /* of a bucket that gains PER_SECOND */

static void make_both(void)
{
    make(&documents[0], false);
    make(&documents[1], true);
}

static bool allowed(void)
{
    uint64_t now = tn_now_mono_ns(), cost = TN_SEC / PER_SECOND;
    bool ok;

    pthread_mutex_lock(&lock);
    if (full_at_ns < now)
        full_at_ns = now;
    ok = full_at_ns - now <= (AHEAD - 1) * cost;
    if (ok)
        full_at_ns += cost;
    pthread_mutex_unlock(&lock);
    return ok;
}

static void serve(tn_call *call)
{
    size_t which = (size_t)(uintptr_t)tn_http_route_user(call);
    tn_http_answer answer = {.status = 200,
                             .content_type =
                                 which ? TN_STR("application/vnd.oai.openapi;version=3.0")
                                       : TN_STR("application/vnd.oai.openapi+json;version=2.0")};

    if (!allowed()) {
        tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED,
                                         "too many requests for this document"));
        return;
    }
    pthread_once(&made, make_both);
    answer.body = tn_buf_blob(&documents[which]);
    tn_http_respond(call, &answer);
}

void http_openapi_register(void)
{
    static const tn_http_route routes[] = {
        {.verb = "GET", .pattern = "/swagger.json", .handle = serve, .user = (void *)0},
        {.verb = "GET", .pattern = "/openapi.yaml", .handle = serve, .user = (void *)1},
    };
    tn_http_register(routes, TN_COUNT_OF(routes));
}
