/* SPDX-License-Identifier: MIT */
/* What the files of this room share.
 *
 *   api.c      a request's way: hosts, raw routes, the API's routes, answers
 *   route.c    path patterns
 *   json.c     JSON text
 *   decode.c   JSON to packed messages       well_known.c  the types with a JSON form of their own
 *   query.c    path and query parameters to packed messages
 *   encode.c   messages to JSON
 *   openapi.c  the API's description
 *
 * A request's fields (body, path, query) become packed bytes, one behind the other; unpacking merges them, with the
 * limits that hold for gRPC. */
#ifndef TN_HTTP_PRIVATE_H
#define TN_HTTP_PRIVATE_H

#include "http/http.h"
#include "http/json.h"
#include "proto/proto.h"
#include "rpc/http.h"

typedef struct http_problem {
    char text[400];
} http_problem;
bool http_fail(http_problem *problem, const char *fmt, ...) TN_PRINTF(2, 3); /* false */

/* ---- names ---- */
/* "workflow_id" is "workflowId" in JSON. */
bool http_json_name_is(const char *proto_name, tn_str json_name);
void http_put_json_name(tn_buf *buf, const char *proto_name);
/* By its JSON name or its own; NULL: none. */
const ProtobufCFieldDescriptor *http_field(const ProtobufCMessageDescriptor *d, tn_str name);
/* A map's entry: its fields are key and value. */
bool http_is_map(const ProtobufCMessageDescriptor *parent, const ProtobufCFieldDescriptor *field);
/* By name, or by what follows the enum's prefix in any case ("Running"). */
bool http_enum_value(const ProtobufCEnumDescriptor *e, tn_str name, int32_t *out);

/* ---- bytes ---- */
/* Standard or URL alphabet, padded or not. */
bool http_base64_decode(tn_str s, tn_buf *out);
void http_put_base64(tn_buf *buf, const uint8_t *p, size_t n);

/* A length-prefixed field whose length is not known yet. */
typedef struct http_open {
    size_t start;
    uint8_t width;
} http_open;
http_open http_begin(tn_buf *buf, uint32_t number, size_t guess);
void http_end(tn_buf *buf, http_open open);

/* ---- scalars from text ---- */
/* A number as JSON writes it ("1e3", "10.0") when it is whole. */
bool http_whole_number(tn_str text, bool *out_minus, uint64_t *out_size);
/* Appends a scalar field from the text of a parameter (strconv's grammar). */
bool http_put_parameter(tn_buf *buf, const ProtobufCFieldDescriptor *f, tn_str text,
                        http_problem *problem);

/* ---- well_known.c ---- */
typedef enum http_known {
    HTTP_KNOWN_NONE,
    HTTP_KNOWN_TIMESTAMP,
    HTTP_KNOWN_DURATION,
    HTTP_KNOWN_FIELD_MASK,
    HTTP_KNOWN_WRAPPER, /* of one scalar field `value` */
    HTTP_KNOWN_ANY,
    HTTP_KNOWN_PAYLOAD,
    HTTP_KNOWN_PAYLOADS,
} http_known;
http_known http_known_of(const ProtobufCMessageDescriptor *d);
/* Appends the fields of a message (not its tag). */
bool http_put_timestamp(tn_buf *buf, tn_str text);
bool http_put_duration(tn_buf *buf, tn_str text);
bool http_put_field_mask(tn_buf *buf, tn_str text);
void http_print_timestamp(tn_buf *buf, int64_t seconds, int32_t nanos);
void http_print_duration(tn_buf *buf, int64_t seconds, int32_t nanos);
void http_print_field_mask(tn_buf *buf, char *const *paths, size_t n);
void http_print_double(tn_buf *buf, double v, bool is_float);

/* ---- decode.c ---- */
/* Appends the packed message that the JSON text says.  shorthand: payloads may stand there as plain JSON. */
bool http_decode(const ProtobufCMessageDescriptor *d, tn_str json, bool shorthand, tn_arena *arena,
                 tn_buf *out, http_problem *problem) TN_WARN_UNUSED;

/* ---- encode.c ---- */
typedef struct http_style {
    bool pretty, shorthand;
} http_style;
void http_encode(const ProtobufCMessage *msg, http_style style, tn_arena *arena, tn_buf *out);

/* ---- query.c ---- */
/* A field's path in a message ("workflow_id", "execution.runId"), value by value. */
bool http_put_path(const ProtobufCMessageDescriptor *d, tn_str path, const tn_str *values, size_t n,
                   tn_buf *out, http_problem *problem) TN_WARN_UNUSED;
/* All of a query string but the fields below one of `taken`. */
bool http_put_query(const ProtobufCMessageDescriptor *d, tn_str query, const tn_http_pair *taken,
                    size_t n_taken, tn_arena *arena, tn_buf *out,
                    http_problem *problem) TN_WARN_UNUSED;
/* "%2F" and, if plus, "+".  False: not UTF-8, or a broken escape. */
bool http_unescape(tn_str s, bool plus, tn_arena *arena, tn_str *out);
bool http_query_has(tn_str query, const char *name);

/* ---- route.c ---- */
#define HTTP_PARAMS_MAX 8
#define HTTP_SEGMENTS_MAX 24
typedef struct http_pattern http_pattern;
http_pattern *http_pattern_compile(
    const char *pattern);  /* NULL: malformed; lives as long as the process */
typedef struct http_path { /* a request's, cut at its slashes */
    tn_str segments[HTTP_SEGMENTS_MAX];
    size_t n;
    tn_str whole;
} http_path;
bool http_path_cut(tn_str path, http_path *out);
/* 1: it matches; 0: it does not; -1: it does, but what it holds is badly escaped. */
int http_pattern_match(const http_pattern *pattern, const http_path *path, tn_arena *arena,
                       tn_http_pair *params, size_t *n_params);

/* ---- openapi.c ---- */
void http_openapi_register(void);

#endif
