/* SPDX-License-Identifier: MIT */
/* What the files of this room share.
 *
 *   server.c   a server: a worker a loop, listeners, drain
 *   conn.c     a connection: nghttp2 session, reading, flushing, closing
 *   session.c  nghttp2's callbacks
 *   tick.c     a connection's times: slow peers, keepalive, idle, age
 *   call.c     a call: intake of headers and messages, dispatch, cancellation, the end
 *   answer.c   replies and failures, from any loop
 *   head.c     request headers kept and read
 *   gzip.c     message compression
 *   http.c     requests that are no gRPC: intake, entering the API, answers
 *   http1.c    HTTP/1.1 of such a port (http1_head.c: its request heads)
 *   tls*.c     between the socket and HTTP/2 (tls_private.h)
 *   pipe*.c    calls between our own hosts without HTTP/2 (pipe.h)
 *
 * Everything but the answers' making runs on the connection's loop. */
#ifndef TN_RPC_PRIVATE_H
#define TN_RPC_PRIVATE_H

#include <nghttp2/nghttp2.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "loop/stream.h"
#include "metrics/metrics.h"
#include "proto/proto.h"
#include "rpc/guard.h"
#include "rpc/http.h"
#include "rpc/method.h"
#include "rpc/rpc.h"
#include "rpc/wire.h"

struct rpc_tls;

/* ---- limits ---- */
#define RPC_HEADERS_MAX 128
#define RPC_HEADER_BYTES_MAX (16u * 1024u) /* names, values and 32 each, as HPACK counts */
#define RPC_STREAM_WINDOW (1 << 20)
#define RPC_CONN_WINDOW (4 << 20)
#define RPC_INTAKE_BYTES_MAX (64u << 20) /* of requests that are not whole, a connection */
#define RPC_QUEUED_BYTES_MAX (64u << 20) /* of answers that the peer does not take, a connection */
#define RPC_STREAM_QUEUED_MAX (4u << 20) /* the same of one stream of messages */
#define RPC_STREAM_WAITING_MAX 64        /* messages of a stream that its handler can't take yet */
#define RPC_SOCKET_MARK (256u * 1024u)   /* unsent bytes above which no more frames are made */
#define RPC_WRITE_BYTES (128u * 1024u)   /* gathered for one write */
#define RPC_DISCARD_BYTES_MAX (1u << 20) /* read and dropped before a refused call is answered */
#define RPC_HTTP_DISCARD_BYTES_MAX \
    (16u << 20) /* over HTTP/1.1, whose clients seldom look for an answer while they send */
#define RPC_STATUS_BYTES_MAX 7000u /* grpc-message and details, encoded */
#define RPC_BRIEF_MESSAGE 500u
#define RPC_EXTRA_BYTES_MAX 512u /* of a value in tn_call_add_header */
#define RPC_EXTRA_HEADERS_MAX 8  /* tn_call_add_header and _trailer */
/* Times options.slow_ns. */
#define RPC_SLOW_FRAME 3
#define RPC_SLOW_BODY 3
#define RPC_SLOW_STALL 6
#define RPC_LINGER_NS (500 * TN_MS)
#define RPC_DRAIN_NOTICE_NS TN_SEC
#define RPC_HTTP_BODY_SLOW 12 /* the whole of an HTTP request's body, times slow_ns */
#define RPC_PONG_WAIT_NS (20 * TN_MS)
#define RPC_GZIP_MIN 1024                  /* smaller answers are not compressed */
#define RPC_GZIP_UNASKED_MIN (16u * 1024u) /* for a client that accepts gzip but didn't use it */
#define RPC_GZIP_UNASKED_MAX (64u * 1024u)
#define RPC_GZIP_MAX (256u * 1024u) /* a larger one would hold the loop too long */

typedef struct rpc_worker rpc_worker;
typedef struct rpc_conn rpc_conn;
typedef struct rpc_call rpc_call;

struct tn_rpc_server {
    tn_rpc_options options;
    char *bind_ip;
    uint16_t port;
    rpc_worker **workers; /* by loop index */
    uint32_t worker_count;
    _Atomic uint32_t connections; /* of all workers */
    _Atomic uint32_t alive;       /* workers not freed yet, and the owner */
    sem_t drained, ended;
};

struct rpc_worker {
    tn_rpc_server *server;
    tn_loop *loop;
    tn_listener *listener, *local; /* local: for processes of this machine; may be NULL */
    tn_list conns;
    uint32_t conn_count, call_count;
    bool draining; /* `drained` is posted when the last call and connection have gone */
    bool ending;   /* `ended` is posted when the last connection has gone */
    bool orphan;   /* the server is being destroyed: free me with my last call and connection */
    tn_buf out;    /* a flush gathers here */
    struct rpc_gzip *gzip;
    uint64_t log_next_ns;
    uint32_t log_held_back;
};

typedef enum rpc_conn_state {
    RPC_CONN_OPEN,
    RPC_CONN_NOTICED,  /* draining: the first GOAWAY has left, new streams are still taken */
    RPC_CONN_DRAINING, /* the second has left: ends with its last stream */
    RPC_CONN_LINGER,   /* no session any more: what is unsent leaves, what comes is dropped */
    RPC_CONN_CLOSED,   /* waits for the stream's closed() */
    RPC_CONN_GONE,
} rpc_conn_state;

/* A connection's, and its calls', which may outlive it; counted on the home loop. */
typedef struct rpc_peer {
    uint32_t refs;
    uint32_t n;
    char text[56];
    uint8_t *cert; /* verified; the subject's text stands behind it; NULL: none */
    size_t cert_n, subject_n;
} rpc_peer;

#define RPC_CLOSED_IDS 16

struct rpc_conn {
    tn_list link;
    rpc_worker *worker;
    tn_stream *stream;
    struct rpc_tls *tls;      /* NULL: plain */
    struct rpc_pipe *pipe;    /* instead of a session */
    nghttp2_session *session; /* made with the first bytes; NULL again from LINGER on */
    struct rpc_h1 *h1;        /* HTTP/1.1 instead; NULL again from LINGER on */
    tn_list calls;            /* attached to a stream, any phase */
    uint32_t call_count, intake_count;
    rpc_call *incoming;              /* whose header block is being read */
    uint32_t head_count, head_bytes; /* of that block */
    rpc_conn_state state;
    bool in_session; /* a callback of nghttp2 may be on the stack */
    bool flush_queued;
    bool ping_out;      /* a keepalive ping waits for its answer */
    bool pong_held;     /* the answer to the peer's: waits for company */
    bool ping_forgiven; /* we have sent HEADERS or DATA since the last ping came */
    uint8_t ping_strikes;
    uint8_t pong[8];
    tn_loop_timer pong_late;
    uint8_t rst_counted; /* glitches counted when they came: not again when the RST leaves */
    tn_msg flush;
    tn_loop_timer tick;
    rpc_guard guard;
    uint64_t now_ns; /* of the read that is being worked on */
    uint64_t accepted_ns, last_read_ns, progress_ns, idle_since_ns, ping_sent_ns, last_ping_ns;
    uint64_t age_at_ns, state_since_ns;
    size_t queued_bytes, intake_bytes, linger_bytes;
    /* Set inside callbacks, carried out after mem_recv. */
    uint32_t kill_code;
    const char *kill_why;
    int32_t stream_id_max;
    int32_t closed_ids[RPC_CLOSED_IDS]; /* by us, while the peer was sending */
    uint8_t closed_next;
    rpc_peer *peer;
};

/* Bytes of an answer, in the order they leave. */
typedef struct rpc_piece {
    struct rpc_piece *next;
    const uint8_t *p;
    size_t n;
    uint8_t own;
} rpc_piece;
#define RPC_PIECE_LENT 0  /* the arena's or the handler's */
#define RPC_PIECE_BYTES 1 /* p is freed when it has left */
#define RPC_PIECE_WHOLE 2 /* the piece is freed, its bytes lie behind it */

typedef struct rpc_header {
    struct rpc_header *next;
    tn_str name, value;
    bool trailer;
} rpc_header;

/* A kept request header: sizes, then the name's and the value's bytes. */
typedef struct rpc_head_block {
    struct rpc_head_block *next;
    uint32_t n, cap;
    uint8_t bytes[];
} rpc_head_block;

/* A message that came before its handler could take it. */
typedef struct rpc_waiting {
    struct rpc_waiting *next;
    size_t n; /* SIZE_MAX: the end of the stream */
    bool compressed;
    uint8_t bytes[];
} rpc_waiting;

/* What only requests over HTTP have; in the call's arena. */
typedef struct rpc_http {
    tn_http_request pub;
    /* One header, its name in lower case. */
    void (*head)(struct rpc_call *call, tn_str name, tn_str value);
    const tn_http_render *render;
    const tn_http_route *route;
    const tn_http_pair *params;
    size_t n_params;
    tn_buf body;
    tn_http_answer answer;
    bool bad_head; /* the head says what no request may say */
} rpc_http;

/* What only calls with a stream of requests need; in the call's arena. */
typedef struct rpc_inbox {
    rpc_call *call;
    tn_arena *arena; /* the current message's */
    rpc_waiting *waiting, **waiting_end, *partial;
    uint32_t count;
    bool pump_queued;
    tn_msg pump;
} rpc_inbox;

void rpc_peer_unref(rpc_peer *peer);

typedef enum rpc_phase {
    RPC_INTAKE,   /* headers and messages are coming */
    RPC_REFUSED,  /* a fault is known; the rest of the request is dropped, then it is sent */
    RPC_HANDED,   /* the baton is out (a stream's messages may still come) */
    RPC_ANSWERED, /* the answer is with nghttp2 */
} rpc_phase;

struct rpc_call {
    tn_call pub; /* first */
    /* ---- home loop ---- */
    rpc_conn *conn; /* NULL: the stream has gone */
    rpc_worker *worker;
    tn_list link; /* conn->calls */
    tn_loop_timer deadline;
    int32_t stream_id;
    uint8_t phase;     /* rpc_phase */
    bool headers_over; /* too many */
    bool eof;          /* the peer has ended its side */
    bool request_gzip, accept_gzip, bad_encoding;
    bool content_type_seen, content_type_ok, bad_timeout, post;
    bool counted_intake;
    bool stream_begun;    /* a stream's response headers have been submitted */
    bool stream_deferred; /* nghttp2 waits for resume_data */
    bool sent_all;
    bool deaf; /* a stream that has been reset for what it sent */
    uint32_t discarded;
    uint64_t body_seen_ns;
    tn_str path; /* kept when no method has it */
    rpc_peer *peer;
    rpc_head_block *heads, *heads_last;
    rpc_framer framer;
    bool body_whole, body_gzip; /* of the one message of a unary call; the framer holds it */
    size_t intake_bytes;
    rpc_inbox *inbox; /* STREAM_IN */
    const tn_fault *refusal;
    struct rpc_pipe *pipe; /* it came on one; NULL: not, or nobody waits any more */
    uint64_t answer_end;   /* on the pipe: has left when that much has */
    uint16_t http_status;  /* of a refusal outside gRPC, 0: a gRPC status */
    rpc_http *http;        /* NULL: gRPC */
    /* ---- the answer: whoever holds the baton, then home ---- */
    bool answered, ended; /* ended: no more pieces will come */
    bool answer_gzip;
    uint8_t extra_count;
    rpc_piece *pieces, **pieces_end;
    size_t piece_offset, piece_bytes; /* of the first piece; not sent yet in all */
    int code;
    tn_str message, details; /* encoded */
    rpc_header *extra;       /* headers and trailers */
    void (*release)(void *user);
    void *release_user;
    /* ---- any ---- */
    bool by_pipe;           /* from its making on */
    _Atomic bool cancelled; /* set at home, looked at anywhere: a hint, relaxed */
};

static inline rpc_call *rpc_call_of(const tn_call *call) { return (rpc_call *)(uintptr_t)call; }

/* ---- counters, [any] ---- */
typedef enum rpc_count_id {
    RPC_COUNT_CONNECTIONS,
    RPC_COUNT_REQUESTS,
    RPC_COUNT_REFUSED,
    RPC_COUNT_RESETS_SENT,
    RPC_COUNT_RESETS_RECEIVED,
    RPC_COUNT_DEADLINES,
    RPC_COUNT_UNDELIVERED,
    RPC_COUNT_GOAWAYS_CALM,
    RPC_COUNT_GOAWAYS_ERROR,
    RPC_COUNT_GOAWAYS_DRAIN,
    RPC_COUNT_BYTES_IN,
    RPC_COUNT_BYTES_OUT,
    RPC_COUNT_WRITES,
    RPC_COUNT_COUNT,
} rpc_count_id;
extern tn_counter *rpc_counts[RPC_COUNT_COUNT]; /* made with the first server */
static inline void rpc_count(rpc_count_id id, uint64_t n) { tn_counter_add(rpc_counts[id], n); }

/* ---- server.c ---- */
void rpc_worker_maybe_done(rpc_worker *worker);

/* ---- session.c ---- */
/* Made once; read-only afterwards. */
const nghttp2_session_callbacks *rpc_session_callbacks(void);

/* ---- conn.c ---- */
void rpc_conn_accept(void *worker, tn_stream *stream);
void rpc_conn_flush_later(rpc_conn *conn);
/* pong.c */
void rpc_pong_init(rpc_conn *conn);
/* in a callback of nghttp2, whose result it is */
int rpc_pong_owed(rpc_conn *conn, const uint8_t data[8]);
/* frames leave; true: there is one more */
bool rpc_pong_goes_along(rpc_conn *conn);
void rpc_pong_forget(rpc_conn *conn);
void rpc_conn_put(rpc_conn *conn, const uint8_t *p, size_t n); /* a pipe's bytes, to the socket */
/* GOAWAY with the code, then the end.  Not from inside nghttp2's callbacks: see rpc_conn_condemn. */
void rpc_conn_kill(rpc_conn *conn, uint32_t code, const char *why);
/* Inside callbacks: remembered, carried out afterwards.  Returns what the callback should return. */
int rpc_conn_condemn(rpc_conn *conn, uint32_t code, const char *why);
void rpc_conn_close(rpc_conn *conn);
void rpc_conn_drain(rpc_conn *conn);
void rpc_conn_drain_final(rpc_conn *conn);
/* A stream has ended, or one is refused. */
void rpc_conn_stream_ended(rpc_conn *conn);
int rpc_conn_glitch(rpc_conn *conn);

/* ---- tick.c ---- */
static inline uint64_t rpc_slow_ns(const rpc_conn *conn, unsigned times)
{
    return conn->worker->server->options.slow_ns * times;
}
void rpc_conn_tick_at(rpc_conn *conn, uint64_t at_ns); /* at that time or before */
void rpc_conn_tick(tn_loop_timer *timer);

/* ---- call.c ---- */
rpc_call *rpc_call_create(rpc_conn *conn, int32_t stream_id);
void rpc_call_headers_done(rpc_call *call);
int rpc_call_data(rpc_call *call, const uint8_t *p, size_t n);
void rpc_call_eof(rpc_call *call);
/* The stream has gone; frees the call unless its baton is out. */
void rpc_call_detach(rpc_call *call);
/* Answered, and its stream is gone. */
void rpc_call_done(rpc_call *call);
void rpc_call_refuse(rpc_call *call, tn_grpc_code code, const char *fmt, ...) TN_PRINTF(3, 4);
/* Leaves the group of calls whose request is not whole. */
void rpc_call_intake_end(rpc_call *call);
/* Further messages of a stream, once the handler can take them. */
void rpc_call_pump_later(rpc_call *call);

/* ---- head.c ---- */
void rpc_head_take(rpc_call *call, tn_str name, tn_str value);
/* The block is whole: what was taken ahead for more of it goes back, for a call may live long. */
void rpc_head_end(rpc_call *call);
int rpc_head_keep(rpc_call *call, tn_str name, tn_str value);
void rpc_head_timeout(rpc_call *call, tn_str value);

/* ---- answer.c ---- */
/* [home] What the call holds goes out; the stream must be there. */
void rpc_answer_submit(rpc_call *call);
void rpc_answer_deadline(rpc_conn *conn, int32_t stream_id);
void rpc_answer_drop_pieces(rpc_call *call);
ssize_t rpc_answer_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
                        uint32_t *data_flags, nghttp2_data_source *source, void *user);
int rpc_answer_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd,
                         size_t length, nghttp2_data_source *source, void *user);

/* ---- http.c ---- */
rpc_http *rpc_http_create(rpc_call *call);
void rpc_http_head_done(rpc_call *call);
void rpc_http_data(rpc_call *call, const uint8_t *p, size_t n);
void rpc_http_eof(rpc_call *call);
/* [holder] */
tn_status rpc_http_reply(rpc_call *call);
void rpc_http_fail(rpc_call *call, const tn_fault *fault);
void rpc_http_submit(rpc_call *call); /* [home] */
/* [home] answers 504 while the baton is out */
void rpc_http_deadline(rpc_conn *conn, rpc_call *call);
void rpc_http_call_free(rpc_call *call);

/* ---- http1.c ---- */
/* Bytes of a connection that has not said HTTP/2's preface.  False: it takes no more. */
bool rpc_h1_read(rpc_conn *conn, const uint8_t *p, size_t n);
void rpc_h1_flush(rpc_conn *conn);
void rpc_h1_answer(rpc_call *call, tn_str head); /* head in the arena; the pieces follow it */
void rpc_h1_drain(rpc_conn *conn);
/* Answers with that status, if nothing has been answered, and ends the connection. */
void rpc_h1_kill(rpc_conn *conn, uint16_t status, const char *why);
void rpc_h1_forget(rpc_conn *conn); /* the calls are detached already */
const char *rpc_http_reason(unsigned status);

/* ---- conn.c, for http1.c ---- */
size_t rpc_conn_write(rpc_conn *conn, const uint8_t *p, size_t n);
void rpc_conn_linger(rpc_conn *conn);
bool rpc_conn_clear_h2(rpc_conn *conn, const uint8_t *p, size_t n);

/* ---- answer.c, for http.c ---- */
void rpc_answer_piece(rpc_call *call, rpc_piece *piece);
void rpc_answer_queue(rpc_conn *conn, size_t n);
void rpc_answer_take(rpc_call *call); /* the baton's one answer begins */
void rpc_answer_hand_back(rpc_call *call);
/* Moves up to `length` bytes of the pieces into out. */
void rpc_answer_move(rpc_call *call, tn_buf *out, size_t length);

/* ---- gzip.c ---- */
struct rpc_gzip *rpc_gzip_create(void);
void rpc_gzip_destroy(struct rpc_gzip *gzip);
/* TN_ETOOLARGE: more than out_max bytes come out or the arena is full; TN_EINVALID: no gzip. */
tn_status rpc_gunzip(struct rpc_gzip *gzip, tn_blob in, size_t out_max, tn_arena *arena,
                     tn_blob *out) TN_WARN_UNUSED;
/* Appends to buf.  The pieces are taken as one, from `skip` bytes in. */
tn_status rpc_gzip_pieces(struct rpc_gzip *gzip, const rpc_piece *pieces, size_t skip,
                          tn_buf *buf) TN_WARN_UNUSED;

#endif
