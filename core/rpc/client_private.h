/* SPDX-License-Identifier: MIT */
/* What the client's two files share: client.c (channels, links, time) and client_session.c (nghttp2). */
#ifndef TN_RPC_CLIENT_PRIVATE_H
#define TN_RPC_CLIENT_PRIVATE_H

#include "base/breaker.h"
#include "rpc/client.h"
#include "rpc/private.h"
#include "rpc/tls_private.h"

#define RPC_BACKOFF_MIN_NS (50 * TN_MS) /* doubled with each failure, to 6.4 s */
#define RPC_CONNECT_NS (3 * TN_SEC)
#define RPC_SILENCE_NS (10 * TN_SEC) /* then a ping */
#define RPC_PONG_NS (5 * TN_SEC)     /* then it is dead */
#define RPC_RESPONSE_BYTES_MAX (128u << 20)
#define RPC_UNREAD_BYTES_MAX \
    (16u << 20) /* of requests that wait for a host that doesn't take them, a connection */
#define RPC_OWED_NS \
    TN_SEC /* after a call's deadline its host owes an answer still, if only that it is over */

typedef struct rpc_link {
    tn_channel *channel;
    tn_list in_channel;
    tn_stream *stream;
    rpc_tls *tls;             /* NULL: plain, or not connected yet */
    nghttp2_session *session; /* NULL: not connected yet, or a pipe */
    struct rpc_pipe *pipe;
    tn_list calls;
    size_t n_calls, call_bytes; /* their messages' */
    tn_loop_timer tick;
    tn_msg flush;
    bool flush_queued, ping_out;
    bool leaving;  /* told to go away: takes no new calls */
    bool answered; /* a call */
    bool closed;
    uint64_t last_read_ns;
} rpc_link;

struct tn_channel {
    char ip[46], authority[64], secret[64];
    bool as_host;      /* the secret is what hosts say now... */
    rpc_saying saying; /* ...to that one */
    uint16_t port;
    tn_tls_side *tls; /* NULL: plain */
    rpc_tls_kept kept;
    tn_list links;
    rpc_link *current; /* NULL: none that takes calls */
    uint8_t host_id[16];
    bool by_pipe;      /* until the host turns out to be of an older release */
    bool shares_pipes; /* opens none, but uses what there is */
    uint32_t failures; /* to connect, or to say anything on a connection, in a row */
    uint64_t retry_at_ns;
    tn_breaker breaker;
    void (*broken)(void *user);
    void *user;
};

/* client.c */
void rpc_outcall_finish(tn_outcall *call, const tn_fault *fault, bool unsent);
/* The same, by an answer of the host. */
void rpc_outcall_answered(tn_outcall *call, const tn_fault *fault);
void rpc_link_flush_later(rpc_link *l);
void rpc_link_close(rpc_link *l, const char *why, bool broke);
void rpc_outcall_crowded(tn_outcall *call); /* too much waits for its host already */
void rpc_outcall_unreachable(tn_outcall *call, const char *why, bool unsent);
/* Of a pipe: its bytes, to the socket; the host has greeted; it takes no new calls. */
void rpc_link_put(rpc_link *l, const uint8_t *p, size_t n);
void rpc_link_greeted(rpc_link *l);
void rpc_link_leaving(rpc_link *l);
/* client_session.c */
void rpc_link_begin(rpc_link *l);
void rpc_link_submit(rpc_link *l, tn_outcall *call);

#endif
