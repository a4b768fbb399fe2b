/* SPDX-License-Identifier: MIT */
/* gRPC towards another host: unary calls of one role to another's.  A channel is one loop's way to one address:
 * connected when first used, again after it broke, with back-off; while it can't be reached calls fail at once, so
 * that nobody queues for a dead host; and so they do while its circuit breaker is open, since it takes calls and doesn't
 * answer.  All [loop], the loop that made the channel. */
#ifndef TN_RPC_CLIENT_H
#define TN_RPC_CLIENT_H

#include "base/base.h"
#include "loop/loop.h"
#include "proto/fault.h"
#include "rpc/secrets.h"
#include "rpc/tls.h"

typedef struct tn_channel tn_channel;

#define TN_OUTCALL_HEADERS_MAX 8

typedef struct tn_outcall_header {
    tn_str name, value; /* lower-case name; must live until done */
} tn_outcall_header;

/* One call; the caller's memory until `done`. */
typedef struct tn_outcall {
    tn_arena *arena;  /* the answer is made in it */
    const char *path; /* "/pkg.Service/Method" */
    tn_blob message;  /* packed; must live until done */
    /* travels along, and is waited for a second longer; UINT64_MAX: none */
    uint64_t deadline_mono_ns;
    tn_outcall_header headers[TN_OUTCALL_HEADERS_MAX];
    size_t n_headers;
    /* on a pipe it may wait for up to a second for something to share a packet with */
    bool unhurried;
    void (*done)(struct tn_outcall *call); /* exactly once, never inside a call of the user's */
    void *user;
    /* answer */
    const tn_fault *fault; /* NULL: OK, and the response is there */
    bool unsent;           /* with a fault: the other side surely did nothing with it */
    /* with a fault: its connection broke, so what the other side did is not known unless `unsent` */
    bool broken;
    tn_blob response; /* packed, in the arena */
    /* ---- the room's ---- */
    struct rpc_link *wire;
    struct rpc_pipe *pipe;
    uint64_t frame_at; /* on a pipe: where its request begins */
    tn_channel *channel;
    tn_list link;
    tn_loop_timer timer;
    tn_msg msg;
    int32_t stream_id;
    bool finished, head_sent, has_slot;
    size_t sent;
    tn_buf body;
    int status; /* grpc-status, -1: not seen */
    tn_str status_message;
    tn_blob status_details;
} tn_outcall;

/* secret: sent as "tenon-internode" with each call, checked by whoever dispatches there; may be empty; NULL:
 * the one that is shown by hosts at the time of the call (rpc/secrets.h).
 * broken: the connection broke or could not be made (may be NULL). */
tn_channel *tn_channel_create(const char *ip, uint16_t port, const char *secret,
                              void (*broken)(void *user), void *user);
/* [main] before the first channel: how roles' ports are called, and public ones (NULL: plain). */
void tn_channels_use_tls(tn_tls_side *roles, tn_tls_side *frontends);
/* Before its first call: it leads to a public port. */
void tn_channel_to_frontend(tn_channel *channel);
/* ... of that host, and what pipes this loop has with it are used first. */
void tn_channel_share_pipes(tn_channel *channel, const uint8_t host_id[16]);
/* Before its first call: it leads to a role's port of that host, with which this one shares pipes (tn_pipes_identity): one
 * connection for both ways where there is one already. */
void tn_channel_to_host(tn_channel *channel, const uint8_t host_id[16]);
/* [main] before servers and channels: who this is in greetings, and the secret that all hosts know; NULL: as they are
 * (tn_secrets_use). */
void tn_pipes_identity(const uint8_t host_id[16], const char *secret);
/* [main] before servers and channels: whether hosts on this machine are called by local sockets, where there's no TLS;
 * without this call they are. */
void tn_pipes_use_local(bool on);
/* Calls on their way end with UNAVAILABLE. */
void tn_channel_destroy(tn_channel *channel);
void tn_outcall_send(tn_channel *channel, tn_outcall *call);
/* Nobody waits any more: `done` comes with CANCELLED, the other side is told. */
void tn_outcall_cancel(tn_outcall *call);
/* Nobody needs its answer any more: `done` comes with an empty one, and the other side is told when there is more to say
 * to it (on a pipe, within a second).  False: it had finished. */
bool tn_outcall_settle(tn_outcall *call);

/* Whether its bytes are with the socket; and: they shall be now, unhurried or not. */
bool tn_outcall_left(const tn_outcall *call);
void tn_outcall_hurry(tn_outcall *call);

typedef struct tn_outcall_stats { /* [any] of all channels of the process */
    uint64_t calls, failed, bytes_out, bytes_in, connects, connects_local;
    uint64_t writes, reads;                  /* of sockets: a packet each, as a rule */
    uint64_t refused;                        /* calls that a circuit breaker kept back */
    uint64_t crowded;                        /* refused, since too much waited for their host */
    uint64_t breakers_opened, breakers_open; /* so far, and now; one a loop, host and role */
} tn_outcall_stats;
void tn_outcall_stats_get(tn_outcall_stats *out);

#endif
