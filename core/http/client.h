/* SPDX-License-Identifier: MIT */
/* Requests of ours to HTTP servers outside, without blocking: libcurl on the loops, or nothing where the build has no
 * libcurl (every request then fails, and says so). */
#ifndef TN_HTTP_CLIENT_H
#define TN_HTTP_CLIENT_H

#include "rpc/http.h"

typedef struct tn_http_out {
    /* given; all of it stays until done */
    tn_arena *arena;
    const char *url; /* http or https; redirects are not followed */
    const tn_http_pair *headers;
    size_t n_headers;
    tn_blob body;
    uint64_t timeout_ns;
    void (*done)(
        struct tn_http_out *out); /* [the loop that sent it], maybe before tn_http_post returns */
    void *user;
    /* answered, in the arena */
    int status;          /* 0: none came */
    const char *problem; /* why */
    tn_http_pair *got;   /* names in lower case */
    size_t n_got;
    tn_blob answer;
} tn_http_out;

void tn_http_post(tn_http_out *out); /* [loop] */
/* The header's value; empty: there is none. */
tn_str tn_http_got(const tn_http_out *out, const char *lower_case_name);

/* ---- messages as JSON, for bodies that hold them ---- */
void tn_http_json_put(const ProtobufCMessage *message, tn_arena *arena, tn_buf *out);
/* NULL: it is none of that kind. */
ProtobufCMessage *tn_http_json_message(const ProtobufCMessageDescriptor *d, tn_str json,
                                       tn_arena *arena);

#endif
