/* SPDX-License-Identifier: MIT */
/* A connection that speaks HTTP/1.1: one request at a time.  What comes while one is being answered is kept, up to a
 * bound, and read when the answer has left: pipelined requests are answered one by one in their order.  We go on
 * reading meanwhile, so that a client that goes away is noticed and its call cancelled.
 *
 * The first bytes decide whether a connection speaks HTTP/1.1 or HTTP/2 (whose preface no method begins with). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/http1.h"
#include "rpc/private.h"

#define AHEAD_BYTES_MAX (64u * 1024u) /* kept while a request is being answered */
#define IDLE_BYTES_MAX (8u * 1024u)   /* of room that a connection keeps between requests */
#define EMPTY_LINES_MAX 4             /* before a request line */

typedef enum h1_state { H1_HEAD, H1_BODY, H1_CHUNKS, H1_ANSWER } h1_state;

struct rpc_h1 {
    h1_state state;
    tn_buf in;
    size_t at, looked; /* in `in`: eaten; searched for the head's end */
    rpc_call *call;
    uint64_t body_left;
    rpc_h1_chunks chunks;
    tn_str head;    /* of the answer, what has not left; in the call's arena */
    bool first;     /* nothing has been read yet */
    bool answering; /* the call's answer may leave */
    bool keep;      /* after this request */
    bool stopped;   /* reading waits until the answer has left */
    bool in_feed;   /* `in` is being walked through */
    uint8_t empty_lines;
};

const char *rpc_http_reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {424, "Failed Dependency"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {520, "Handler Timeout"},
    };
    for (size_t i = 0; i < TN_COUNT_OF(reasons); i++) {
        if (reasons[i].status == status)
            return reasons[i].text;
    }
    return "Status";
}

/* ---- the end ---- */

void rpc_h1_forget(rpc_conn *conn)
{
    struct rpc_h1 *h1 = conn->h1;

    if (!h1)
        return;
    h1->call = NULL;
    h1->answering = false;
    if (h1->in_feed)
        return; /* whose end frees it */
    conn->h1 = NULL;
    tn_buf_done(&h1->in);
    free(h1);
}

void rpc_h1_kill(rpc_conn *conn, uint16_t status, const char *why)
{
    struct rpc_h1 *h1 = conn->h1;
    char text[512];
    int n;

    if (conn->state >= RPC_CONN_LINGER)
        return;
    /* Of an answer that has begun to leave the peer could not tell a second one apart. */
    if (!h1->answering && !tn_stream_pending_bytes(conn->stream) && !(h1->first && !h1->in.n)) {
        unsigned code = status == 504   ? TN_GRPC_DEADLINE_EXCEEDED
                        : status == 501 ? TN_GRPC_UNIMPLEMENTED
                                        : TN_GRPC_INVALID_ARGUMENT;
        char body[160];
        int body_n = snprintf(body, sizeof(body), "{\"code\":%u,\"message\":\"%s\"}", code, why);
        n = snprintf(text, sizeof(text),
                     "HTTP/1.1 %u %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                     "connection: close\r\n\r\n%s",
                     (unsigned)status, rpc_http_reason(status), body_n, body);
        rpc_conn_write(conn, (const uint8_t *)text, (size_t)n);
    }
    if (!h1->call)
        rpc_count(RPC_COUNT_REFUSED, 1);
    rpc_conn_linger(conn);
}

void rpc_h1_drain(rpc_conn *conn)
{
    if (!conn->call_count) {
        rpc_conn_close(conn);
        return;
    }
    conn->h1->keep = false;
    conn->state = RPC_CONN_DRAINING;
    conn->state_since_ns = tn_now_mono_ns();
    rpc_conn_tick_at(conn, conn->state_since_ns + conn->worker->server->options.age_grace_ns);
}

/* ---- in ---- */

static void take_header(void *user, tn_str name, tn_str value)
{
    rpc_call *call = user;

    call->conn->head_count++;
    call->conn->head_bytes += (uint32_t)(name.n + value.n + 32);
    rpc_head_take(call, name, value);
}

static void head_whole(rpc_conn *conn, size_t n)
{
    struct rpc_h1 *h1 = conn->h1;
    rpc_h1_head head;
    rpc_call *call;

    conn->guard.block_since_ns = 0;
    conn->head_count = conn->head_bytes = 0;
    call = h1->call = rpc_call_create(conn, 0);
    h1->answering = false;
    rpc_h1_head_read(h1->in.p + h1->at, n, &head, take_header, call);
    h1->at += n;
    h1->looked = 0;
    h1->empty_lines = 0;
    if (head.status) {
        rpc_h1_kill(conn, (uint16_t)head.status, head.why);
        return;
    }
    h1->keep = head.keep_alive && conn->state == RPC_CONN_OPEN;
    h1->body_left = head.length;
    h1->chunks = (rpc_h1_chunks){0};
    h1->state = head.chunked ? H1_CHUNKS : H1_BODY;
    rpc_call_headers_done(call);
    if (call->phase == RPC_INTAKE && head.length > conn->worker->server->options.message_bytes_max)
        rpc_call_refuse(call, TN_GRPC_INVALID_ARGUMENT, "http: request body too large");
    if (call->phase == RPC_REFUSED && (head.expect || head.length > RPC_HTTP_DISCARD_BYTES_MAX)) {
        h1->keep = false; /* nobody waits for the body */
        rpc_answer_submit(call);
    } else if (head.expect && call->phase == RPC_INTAKE && (head.length || head.chunked)) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        rpc_conn_write(conn, (const uint8_t *)go_on, sizeof(go_on) - 1);
    }
}

/* False: more bytes must come. */
static bool feed_head(rpc_conn *conn)
{
    struct rpc_h1 *h1 = conn->h1;
    const uint8_t *p = h1->in.p + h1->at;
    size_t n = h1->in.n - h1->at, end;

    if (!n) {
        conn->guard.block_since_ns = 0;
        return false;
    }
    if (!conn->guard.block_since_ns) {
        conn->guard.block_since_ns = conn->now_ns;
        rpc_conn_tick_at(conn, conn->now_ns + rpc_slow_ns(conn, 1));
    }
    if (n >= 2 && p[0] == '\r' && p[1] == '\n' && h1->empty_lines++ < EMPTY_LINES_MAX) {
        h1->at += 2;
        h1->looked = 0;
        return true;
    }
    end = rpc_h1_head_end(p, n, &h1->looked);
    if (!end && n <= RPC_HEADER_BYTES_MAX)
        return false;
    if (!end || end > RPC_HEADER_BYTES_MAX)
        rpc_h1_kill(conn, 431, "request headers larger than max");
    else
        head_whole(conn, end);
    return true;
}

static void body_whole(rpc_conn *conn)
{
    struct rpc_h1 *h1 = conn->h1;

    h1->state = H1_ANSWER;
    if (h1->call)
        rpc_call_eof(h1->call);
}

static bool feed_body(rpc_conn *conn)
{
    struct rpc_h1 *h1 = conn->h1;
    size_t n = h1->in.n - h1->at;

    if (n > h1->body_left)
        n = (size_t)h1->body_left;
    if (n)
        rpc_call_data(h1->call, h1->in.p + h1->at, n);
    h1->at += n;
    h1->body_left -= n;
    if (!h1->body_left)
        body_whole(conn);
    return n || !h1->body_left;
}

static bool feed_chunks(rpc_conn *conn)
{
    struct rpc_h1 *h1 = conn->h1;
    size_t used = 0;
    tn_blob data = {NULL, 0};

    switch (rpc_h1_chunks_feed(&h1->chunks, h1->in.p + h1->at, h1->in.n - h1->at, &used, &data)) {
    case RPC_H1_MORE:
        h1->at += used;
        return false;
    case RPC_H1_DATA:
        h1->at += used;
        rpc_call_data(h1->call, data.p, data.n);
        return true;
    case RPC_H1_END:
        h1->at += used;
        body_whole(conn);
        return true;
    case RPC_H1_BAD:
        break;
    }
    rpc_h1_kill(conn, 400, "malformed chunk");
    return false;
}

/* An answer that came before its request's end: the rest is not read. */
static bool cut_short(const struct rpc_h1 *h1) { return h1->answering && h1->state != H1_ANSWER; }

static void feed(rpc_conn *conn)
{
    struct rpc_h1 *h1 = conn->h1;
    bool more = true;

    if (h1->in_feed)
        return;
    h1->in_feed = true;
    while (more && conn->state < RPC_CONN_LINGER && h1->state != H1_ANSWER && !cut_short(h1)) {
        switch (h1->state) {
        case H1_HEAD:
            more = feed_head(conn);
            break;
        case H1_BODY:
            more = feed_body(conn);
            break;
        case H1_CHUNKS:
            more = feed_chunks(conn);
            break;
        case H1_ANSWER:
            break;
        }
    }
    h1->in_feed = false;
    if (conn->state >= RPC_CONN_LINGER) {
        rpc_h1_forget(conn);
        return;
    }
    if (cut_short(h1)) {
        h1->keep = false;
        h1->in.n = h1->at = 0;
    }
    if (h1->at)
        memmove(h1->in.p, h1->in.p + h1->at, h1->in.n - h1->at);
    h1->in.n -= h1->at;
    h1->at = 0;
    if (!h1->in.n && h1->in.cap > IDLE_BYTES_MAX)
        tn_buf_done(&h1->in);
}

/* What is kept goes to HTTP/2, which begins with these bytes. */
static bool become_h2(rpc_conn *conn)
{
    tn_buf in = conn->h1->in;
    bool more;

    conn->h1->in = (tn_buf){0};
    rpc_h1_forget(conn);
    conn->guard.settings_seen = false;
    conn->guard.block_since_ns = 0;
    more = rpc_conn_clear_h2(conn, in.p, in.n);
    tn_buf_done(&in);
    return more;
}

bool rpc_h1_read(rpc_conn *conn, const uint8_t *p, size_t n)
{
    struct rpc_h1 *h1 = conn->h1;

    if (!h1) {
        h1 = conn->h1 = tn_xcalloc(1, sizeof(*h1));
        h1->first = h1->keep = true;
        conn->guard.settings_seen = true;
        conn->guard.block_since_ns = conn->now_ns;
        rpc_conn_tick_at(conn, conn->now_ns + rpc_slow_ns(conn, 1));
    }
    tn_buf_put(&h1->in, p, n);
    if (h1->first) {
        if (memcmp(h1->in.p, "PRI", h1->in.n < 3 ? h1->in.n : 3) == 0) {
            if (h1->in.n < 3)
                return true;
            return become_h2(conn);
        }
        h1->first = false;
    }
    feed(conn);
    if (conn->state >= RPC_CONN_LINGER)
        return false;
    if (h1->in.n > AHEAD_BYTES_MAX && h1->state == H1_ANSWER && !h1->stopped) {
        h1->stopped = true;
        tn_stream_read_stop(conn->stream);
    }
    return true;
}

/* ---- out ---- */

void rpc_h1_answer(rpc_call *call, tn_str head)
{
    rpc_conn *conn = call->conn;
    struct rpc_h1 *h1 = conn->h1;
    bool keep = h1->keep && h1->state == H1_ANSWER && conn->state == RPC_CONN_OPEN;
    tn_buf buf = {0};
    tn_blob kept;

    h1->keep = keep;
    tn_buf_put(&buf, head.p, head.n);
    tn_buf_printf(&buf, "%s\r\n", keep ? "" : "connection: close\r\n");
    kept = tn_arena_blob(call->pub.arena, tn_buf_blob(&buf));
    tn_buf_done(&buf);
    h1->head = tn_str_of_blob(kept);
    h1->answering = true;
    rpc_answer_queue(conn, call->piece_bytes);
    rpc_conn_flush_later(conn);
}

/* The answer has left. */
static void answered(rpc_conn *conn)
{
    struct rpc_h1 *h1 = conn->h1;
    rpc_call *call = h1->call;

    call->sent_all = true;
    h1->call = NULL;
    h1->answering = false;
    rpc_call_detach(call);
    if (!h1->keep || conn->state != RPC_CONN_OPEN) {
        rpc_conn_linger(conn);
        return;
    }
    h1->state = H1_HEAD;
    if (h1->stopped) {
        h1->stopped = false;
        tn_stream_read_start(conn->stream);
    }
    feed(conn);
}

void rpc_h1_flush(rpc_conn *conn)
{
    tn_buf *out = &conn->worker->out;

    if (conn->state >= RPC_CONN_LINGER)
        return;
    conn->now_ns = tn_now_mono_ns();
    while (conn->h1 && conn->h1->answering &&
           tn_stream_pending_bytes(conn->stream) < RPC_SOCKET_MARK) {
        struct rpc_h1 *h1 = conn->h1;
        rpc_call *call = h1->call;
        size_t n = call->piece_bytes < RPC_WRITE_BYTES ? call->piece_bytes : RPC_WRITE_BYTES;

        out->n = 0;
        tn_buf_put(out, h1->head.p, h1->head.n);
        h1->head.n = 0;
        rpc_answer_move(call, out, n);
        rpc_count(RPC_COUNT_BYTES_OUT, out->n);
        rpc_count(RPC_COUNT_WRITES, 1);
        conn->progress_ns = conn->now_ns;
        if (rpc_conn_write(conn, out->p, out->n))
            rpc_conn_tick_at(conn, conn->now_ns + rpc_slow_ns(conn, RPC_SLOW_STALL));
        if (conn->state >= RPC_CONN_LINGER)
            return; /* the write has found the connection broken */
        if (!call->piece_bytes)
            answered(conn);
    }
}
