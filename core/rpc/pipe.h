/* SPDX-License-Identifier: MIT */
/* A pipe: one connection between two loops of two hosts of a cluster, on which both call each other.  Calls and answers
 * are frames of our own, many a write, without HTTP/2's streams and headers, which cost more than the calls themselves.
 * The one that connects begins with a magic in place of HTTP/2's preface, so that both share a port; a host of an older
 * release answers that with HTTP/2, and is then spoken to so (client.c).
 *
 * A pipe belongs to its connection: an rpc_conn where it was accepted, an rpc_link where it was opened, which have the
 * socket, TLS and the times.
 *
 *   magic, HELLO: version u8 (2), flags u8 (1: I serve calls), host id 16, nonce 32; who accepted adds its proof, 32 (secrets.h);
 *                 with a host of an older release: version 1, and the cluster's word in the place of all that follows the id
 *   PROOF      that of who connected: its calls may follow at once
 *   a frame: u32 size of what follows, u8 kind, u32 id, body; big-endian
 *   REQUEST    u64 ns left (all ones: no deadline), u8 + path, u8 count of headers: u8 + name, u16 + value; message
 *   ANSWER     u8 gRPC status; 0: message; 255: nothing was done with it; else u16 + text, u16 + type of the detail, detail
 *   CANCEL     nobody waits for that answer any more
 *   PING, PONG
 *   GOAWAY     I take no new calls; answered by
 *   GOAWAY_ACK after which none comes
 *   SHOW       a proof under another word, which holds from now on in the place of the one before; version 1: the word
 *
 * The asking side chooses ids: a slot that is free and a number that changes with each use of it. */
#ifndef TN_RPC_PIPE_H
#define TN_RPC_PIPE_H

#include "rpc/client_private.h"
#include "rpc/private.h"
#include "rpc/secrets.h"

#define RPC_PIPE_MAGIC "TENON-PIPE/1\r\n\r\n"
#define RPC_PIPE_MAGIC_N 16u
#define RPC_PIPE_FRAME_HEAD 9u
#define RPC_PIPE_HELLO_MAX 128u
#define RPC_PIPE_UNSERVED 255u
#define RPC_PIPE_CALLS_MAX (1u << 20) /* at once, each way */
#define RPC_PIPE_COMPANY_NS TN_SEC
#define RPC_PIPE_COMPANY_BYTES (16u * 1024u) /* as much is company enough */
#define RPC_PIPE_ID_SLOT (RPC_PIPE_CALLS_MAX - 1)

typedef enum rpc_pipe_kind {
    RPC_PIPE_HELLO = 1,
    RPC_PIPE_REQUEST,
    RPC_PIPE_ANSWER,
    RPC_PIPE_CANCEL,
    RPC_PIPE_PING,
    RPC_PIPE_PONG,
    RPC_PIPE_GOAWAY,
    RPC_PIPE_GOAWAY_ACK,
    RPC_PIPE_SHOW,
    RPC_PIPE_PROOF,
} rpc_pipe_kind;

typedef struct rpc_pipe_slot { /* of a call that we made */
    tn_outcall *call;          /* NULL: free */
    uint32_t turn;             /* how often it was used */
    uint32_t next_free;
} rpc_pipe_slot;

typedef struct rpc_pipe {
    tn_list in_loop;
    rpc_conn *conn; /* one of these two has it */
    rpc_link *link;
    rpc_worker *worker; /* serves what the other side asks; NULL: nobody */
    rpc_peer *peer;
    uint8_t host_id[16]; /* the other side's */
    rpc_shown shown;     /* what it has shown of the secrets */
    bool proves; /* both ends do; else it is of an older release, and they show the word itself */
    rpc_meeting meeting;    /* of which they prove it */
    bool greeted;           /* its HELLO, or its proof, was right */
    bool serves;            /* it takes calls */
    bool leaving;           /* it takes no new ones */
    bool draining, drained; /* we take no new ones; it knows */
    const char *why;        /* it must end */
    uint32_t magic_n;       /* bytes of it seen */
    tn_buf in;              /* a frame that is not whole */
    tn_buf out;
    size_t out_at;             /* what of it has left */
    uint64_t appended, handed; /* bytes made, and given to the socket, in all */
    tn_loop_timer company; /* what is in no hurry has waited long enough for something to go with */
    rpc_pipe_slot *slots;
    uint32_t n_slots, free_slot; /* UINT32_MAX: none is free */
    tn_list outcalls;
    size_t n_out;
    rpc_call **calls; /* that it made, by slot */
    uint32_t n_calls;
    tn_list handed_calls; /* whose baton is out */
    tn_list answered;     /* in the order in which their answers leave */
} rpc_pipe;

/* pipe.c */
rpc_pipe *rpc_pipe_create(rpc_conn *conn, rpc_link *link);
/* Everything on it ends. */
void rpc_pipe_destroy(rpc_pipe *p, const char *why);
/* Bytes of the socket.  False: it must end (p->why); nothing of it is called from inside but handlers. */
bool rpc_pipe_feed(rpc_pipe *p, const uint8_t *bytes, size_t n);
void rpc_pipe_flush(rpc_pipe *p);      /* at the end of the loop's iteration */
bool rpc_pipe_idle(const rpc_pipe *p); /* no call either way, nothing unsent */
void rpc_pipe_ping(rpc_pipe *p);
void rpc_pipe_drain(rpc_pipe *p);
/* A frame's head is made and its body follows; size is the body's. */
uint8_t *rpc_pipe_frame(rpc_pipe *p, rpc_pipe_kind kind, uint32_t id, size_t size);
/* The same, but it may wait for other frames, for RPC_PIPE_COMPANY_NS at most. */
uint8_t *rpc_pipe_frame_unhurried(rpc_pipe *p, rpc_pipe_kind kind, uint32_t id, size_t size);
void rpc_pipe_hurry(rpc_pipe *p); /* nothing waits for company any more */
/* The best one to that host that takes calls now; NULL: none. */
rpc_pipe *rpc_pipe_to(const uint8_t host_id[16]);
void rpc_pipe_worker_starts(rpc_worker *worker); /* [its loop] of an internal server */
void rpc_pipe_worker_drains(rpc_worker *worker);
void rpc_pipe_worker_ends(rpc_worker *worker);
void rpc_pipe_channel_ends(const tn_channel *ch);
void rpc_pipes_show(void); /* [loop] the secrets have changed */
/* A public message, wrapped, on a public port. */
#define RPC_WRAPPED_MAX(public_max) (4 * (public_max) + (1u << 20))
extern tn_str (*rpc_head_secret)(void); /* head.c */

const uint8_t *rpc_pipe_self(void); /* our host id; NULL: a lone server */

/* pipe_local.c */
/* [its loop] of an internal server */
void rpc_pipe_local_listen(rpc_worker *worker, uint16_t port);
/* NULL: not on this machine, or not wanted. */
tn_stream *rpc_pipe_local_connect(const tn_channel *ch, void (*connected)(tn_stream *stream),
                                  const tn_stream_events *events, void *user);

/* pipe_calls.c */
bool rpc_pipe_take_request(rpc_pipe *p, uint32_t id, tn_blob body);
bool rpc_pipe_take_answer(rpc_pipe *p, uint32_t id, tn_blob body);
void rpc_pipe_take_cancel(rpc_pipe *p, uint32_t id);
void rpc_pipe_detach(rpc_call *call); /* the pipe or the asker has gone */
void rpc_pipe_answer(rpc_call *call); /* [home] */
void rpc_pipe_encode_fault(rpc_call *call, const tn_fault *fault); /* [holder] */
void rpc_pipe_send(rpc_pipe *p, tn_outcall *call);
void rpc_pipe_cancel(tn_outcall *call);
void rpc_pipe_cancel_unhurried(tn_outcall *call);
void rpc_pipe_forget(tn_outcall *call); /* it has finished */

#endif
