/* SPDX-License-Identifier: MIT */
/* gRPC over HTTP/2 (nghttp2) on our loops: the server side of every role.  A connection belongs to the
 * loop that accepted it.  One request is one tn_call, a baton: it is handed to the dispatcher on its
 * home loop, may travel to other loops (whoever holds it owns it and its arena), and must be answered
 * exactly once, from any loop.  The answer is sent on the home loop.
 *
 * What reaches a handler has passed: method table (exact match), message size, gzip, wire guard (depth,
 * UTF-8, memory), unpack.  Unknown methods are answered UNIMPLEMENTED here. */
#ifndef TN_RPC_RPC_H
#define TN_RPC_RPC_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "loop/loop.h"
#include "proto/fault.h"
#include "rpc/tls.h"

typedef struct tn_call tn_call;
typedef struct tn_rpc_server tn_rpc_server;
typedef struct tn_http_hooks tn_http_hooks; /* rpc/http.h */

#define TN_RPC_STREAM_OUT 1u /* answered with tn_call_send ... tn_call_end */
#define TN_RPC_STREAM_IN 2u  /* each message comes through call->on_message */
#define TN_RPC_INTERNAL \
    4u /* between our own hosts: only servers with options.internal have it, and not in reflection */
#define TN_RPC_ANY_PORT 8u /* ... and the others have it too; its handler checks who calls */
#define TN_RPC_HTTP_ONLY \
    16u /* for tn_http_enter alone: no caller over gRPC or a pipe has it, reflection is silent */

typedef struct tn_rpc_method {
    const char *path; /* "/pkg.Service/Method", process lifetime */
    const ProtobufCMessageDescriptor *input, *output;
    uint32_t flags;
    void (*handle)(tn_call *call); /* [home loop] */
    const void *user;              /* the owner's row about this method */
} tn_rpc_method;

struct tn_call {
    tn_arena *arena; /* request, response and all between; destroyed after the answer has left */
    tn_loop *home;
    const tn_rpc_method *method;
    tn_blob message;           /* the request as it came (after gunzip) */
    ProtobufCMessage *request; /* unpacked; NULL until the first message of a stream */
    uint64_t deadline_mono_ns; /* from grpc-timeout; UINT64_MAX: none */
    uint64_t received_mono_ns;
    uint64_t caller; /* whom authorization has recognised, as a hash of the name; 0: nobody */
    void *user;      /* the handler's */
    tn_msg msg;      /* for posting the baton */
    /* [home loop] The peer went away (RST_STREAM, connection lost) or the deadline passed before the
     * answer.  A hint: the call must still be answered, and the answer will be dropped (deadline: rpc
     * has told the peer DEADLINE_EXCEEDED already).  May be NULL.  Set and cleared on the home loop only. */
    void (*on_cancel)(tn_call *call);
    /* [home loop] STREAM_IN only: a further message (request, message replaced) or the end (request NULL). */
    void (*on_message)(tn_call *call);
    /* [home loop] The answer could not be delivered since the peer had gone (may be NULL); runs before
     * the arena is destroyed. */
    void (*on_undelivered)(tn_call *call);
    /* Before the answer: on a pipe it may wait for company, for up to a second. */
    bool unhurried;
    uint8_t from_host[16]; /* of a call on a pipe: whose it is; else zeros */
};

/* ---- what a handler asks ---- */
/* Empty when absent; "-bin" decoded; two of a name: both with a comma between. */
tn_str tn_call_header(const tn_call *call, const char *lower_case_name);
tn_str tn_call_peer(const tn_call *call);    /* "ip:port" */
bool tn_call_cancelled(const tn_call *call); /* [any] a relaxed look */
/* TLS peer, for auth: DER and RFC 2253 text of the verified client certificate; empty when there is none. */
tn_blob tn_call_peer_cert(const tn_call *call);
tn_str tn_call_tls_subject(const tn_call *call);

/* ---- answers [any loop that holds the baton], exactly one of reply/fail ---- */
/* The message is packed at once (response may be NULL: empty message); `spliced` are packed fields
 * appended as they are, e.g. a history that was encoded when its events were made; they must live in
 * the arena or be retained through `release`, called on the home loop after sending (may be NULL). */
void tn_call_reply(tn_call *call, const ProtobufCMessage *response);
void tn_call_reply_spliced(tn_call *call, const ProtobufCMessage *response, const tn_blob *spliced,
                           size_t n_spliced, void (*release)(void *user), void *user);
void tn_call_fail(tn_call *call, const tn_fault *fault);
/* Response metadata besides (before the answer): resource-exhausted cause and the like. */
void tn_call_add_header(tn_call *call, const char *name, tn_str value);
void tn_call_add_trailer(tn_call *call, const char *name, tn_str value); /* after the message */
/* Streams [home loop]: messages, then one end (NULL fault: OK). */
void tn_call_send(tn_call *call, const ProtobufCMessage *message);
void tn_call_end(tn_call *call, const tn_fault *fault);

/* ---- server ---- */
typedef struct tn_rpc_options {
    const char *bind_ip;
    uint16_t port;            /* 0: any */
    size_t message_bytes_max; /* 4 MiB */
    uint32_t connections_max; /* of the port; one more is closed at once; 0: no limit */
    uint32_t streams_max;     /* at once on a connection; 1,000 allows many parked polls an SDK */
    uint64_t idle_timeout_ns; /* connection without streams; 0: none */
    uint64_t keepalive_ping_ns, keepalive_timeout_ns; /* server pings, 1 min / 10 s */
    uint64_t keepalive_min_ns; /* a client pinging more often gets GOAWAY too_many_pings, 10 s */
    uint64_t age_max_ns, age_grace_ns; /* connection age until GOAWAY; 0: none */
    /* How long a peer may dally: the connection's preface and a header block must be whole within
     * this time (10 s), a frame and the next byte of a request's body within 3 times, and unread answers
     * may wait 6 times as long. */
    uint64_t slow_ns;
    size_t arena_bytes_max; /* cap of one request's arena */
    tn_tls_side *tls;       /* NULL: plain */
    /* in a cluster: serves what any host takes on connections that this process has opened, where no internal one does */
    bool on_pipes;
    /* serves methods with TN_RPC_INTERNAL, health and reflection; others serve all but those */
    bool internal;
    /* Every call passes here first (authorization, limits); it ends in method->handle(call) or a fault. */
    void (*dispatch)(tn_call *call);
    const tn_http_hooks *http; /* the port speaks HTTP instead of gRPC (rpc/http.h); NULL: gRPC */
} tn_rpc_options;
void tn_rpc_options_default(tn_rpc_options *options);

/* [main] before tn_loops_run or from start-up: the table is then read-only.  Methods must have unique paths. */
void tn_rpc_register(const tn_rpc_method *methods, size_t count);
const tn_rpc_method *tn_rpc_find(tn_str path);
/* Health and reflection services of this process (implemented in this room). */
void tn_rpc_register_builtin(void);
#define TN_HEALTH_UNKNOWN 0
#define TN_HEALTH_SERVING 1
#define TN_HEALTH_NOT_SERVING 2
/* [any] service: full name; "" is the whole server. */
void tn_rpc_set_health(const char *service, int status);

/* [main] Listens on every loop. */
tn_status tn_rpc_server_start(const tn_rpc_options *options, tn_rpc_server **out,
                              tn_error *err) TN_WARN_UNUSED;
uint16_t tn_rpc_server_port(const tn_rpc_server *server);
/* [main] Drain: health NOT_SERVING, GOAWAY to every connection, no new ones; returns when all calls are
 * answered or grace_ns has passed, then closes what is left. */
void tn_rpc_server_drain(tn_rpc_server *server, uint64_t grace_ns);
/* The same; `again` is called once connections have been told, and then every quarter of a second. */
void tn_rpc_server_drain_with(tn_rpc_server *server, uint64_t grace_ns, void (*again)(void));
void tn_rpc_server_destroy(tn_rpc_server *server);

/* [any] What all servers of the process have done so far. */
typedef struct tn_rpc_stats {
    uint64_t connections, requests;
    uint64_t refused; /* answered or reset before dispatch */
    uint64_t resets_sent, resets_received;
    uint64_t deadlines;   /* passed before the answer had left */
    uint64_t undelivered; /* answers whose stream had gone */
    uint64_t goaways_calm, goaways_error, goaways_drain;
    uint64_t bytes_in, bytes_out, writes;
} tn_rpc_stats;
void tn_rpc_stats_get(tn_rpc_stats *out);

#endif
