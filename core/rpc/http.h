/* SPDX-License-Identifier: MIT */
/* HTTP on a port of its own: HTTP/1.1 and HTTP/2, in the clear or over TLS, for requests that are no gRPC.  A server
 * whose options have `http` speaks it and nothing else.
 *
 * A request is a tn_call like any other: the same baton, arena, deadline, cancellation, limits and drain.  When it is
 * whole, hooks->request gets it, with call->method and call->request NULL, and does one of two things:
 *
 *   - it answers by itself: tn_http_respond, or tn_call_fail;
 *   - it enters the API: tn_http_enter(call, method, message, render) makes it the call of that method.  From there on
 *     it goes the way of gRPC's calls (unpacking with the same limits, options.dispatch: authorization, rates,
 *     handler), and what the handler answers is made into bytes by `render`.
 *
 * A raw route (one that takes and gives bodies of its own) is a row of tn_http_register; core/http matches it before
 * the API's routes.  Its handler sees the body as it came (tn_call_http), all headers (tn_http_header), what its
 * pattern has taken (tn_http_param), and answers in one of the two ways. */
#ifndef TN_RPC_HTTP_H
#define TN_RPC_HTTP_H

#include "rpc/rpc.h"

typedef struct tn_http_request {
    tn_str verb;  /* "GET" */
    tn_str path;  /* as sent, %-encoded, without the query; begins with '/' */
    tn_str query; /* behind the '?', as sent; without one p is NULL */
    tn_str host;  /* Host or :authority, as sent; may be empty */
    tn_blob body; /* whole; until the answer, or until tn_http_enter */
} tn_http_request;

typedef struct tn_http_pair {
    tn_str name, value; /* names of headers: lower case */
} tn_http_pair;

typedef struct tn_http_answer {
    uint16_t status;
    tn_str content_type; /* empty: none is sent */
    const tn_http_pair *headers;
    size_t n_headers;
    tn_blob body; /* in the call's arena, or static */
} tn_http_answer;

/* How answers become bytes [whoever holds the baton].  Everything in *out must live as long as the call. */
typedef struct tn_http_render {
    /* response: the whole of it, unpacked. */
    void (*reply)(tn_call *call, const ProtobufCMessage *response, tn_http_answer *out);
    void (*fail)(tn_call *call, const tn_fault *fault, tn_http_answer *out);
} tn_http_render;

struct tn_http_hooks {
    void (*request)(tn_call *call); /* [home] must answer or enter */
    /* What tn_call_header says of a request that came over HTTP: which headers a caller may forward into the API. */
    tn_str (*header)(const tn_call *call, const char *lower_case_name);
    const tn_http_render
        *render; /* of refusals that come before a route is known, and of tn_call_fail */
};

/* NULL: the call came over gRPC. */
const tn_http_request *tn_call_http(const tn_call *call);
/* A header as it came; two of a name: both with a comma between.  Empty when absent. */
tn_str tn_http_header(const tn_call *call, const char *lower_case_name);
/* All of them, in their order; *at begins as 0. */
bool tn_http_next_header(const tn_call *call, size_t *at, tn_http_pair *out);
/* [home] See above.  message: packed, in the call's arena.  render NULL: that of the hooks. */
void tn_http_enter(tn_call *call, const tn_rpc_method *method, tn_blob message,
                   const tn_http_render *render);
/* [any loop that holds the baton] The one answer. */
void tn_http_respond(tn_call *call, const tn_http_answer *answer);
/* What the router found in the path, decoded (core/http sets it); empty when there is no such name. */
tn_str tn_http_param(const tn_call *call, const char *name);
void tn_http_set_params(tn_call *call, const tn_http_pair *params, size_t n);

/* ---- raw routes ---- */
typedef struct tn_http_route {
    const char *verb;              /* "POST"; "*": any */
    const char *pattern;           /* "/a/{b}/c", the last segment may be "**" or "{rest=**}" */
    void (*handle)(tn_call *call); /* [home] */
    const void *user;              /* tn_http_route_user */
} tn_http_route;

/* [main] Before the port is opened; the rows must live as long as the process. */
void tn_http_register(const tn_http_route *routes, size_t count);
const tn_http_route *tn_http_route_at(
    size_t index); /* in the order of registration; NULL: no more */
const void *tn_http_route_user(const tn_call *call);
void tn_http_set_route(tn_call *call, const tn_http_route *route);

#endif
