/* SPDX-License-Identifier: MIT */
/* The metrics port: HTTP/1.1 over a listener of one loop.  A connection is either reading a
 * request's head, waiting for the text that a pool thread makes, or sending it. */
#include <stdio.h>
#include <stdlib.h>

#include "loop/stream.h"
#include "metrics/private.h"

#define CONNECTIONS_MAX 64u
#define IDLE_NS (300 * TN_SEC) /* longer than any sensible scrape interval */
#define HEAD_NS (10 * TN_SEC)  /* from a request's first byte to its last */
#define SEND_NS (60 * TN_SEC)

struct tn_metrics_server {
    tn_listener *listener;
    tn_list connections;
    size_t count;
    bool closing;
};

struct connection {
    tn_list link;
    tn_metrics_server *server;
    tn_stream *stream; /* NULL: closed */
    tn_loop_timer timer;
    uint8_t head[TN_HTTP_HEAD_MAX];
    size_t head_n;
    bool rendering, sending, keep_alive, dropped;
    tn_buf text; /* the pool thread's while rendering */
};

static void advance(struct connection *c);

static void free_when_over(struct connection *c)
{
    if (c->stream || c->rendering)
        return;
    tn_metrics_server *server = c->server;
    tn_list_remove(&c->link);
    tn_buf_done(&c->text);
    free(c);
    if (--server->count == 0 && server->closing)
        free(server);
}

static void drop(struct connection *c)
{
    c->dropped = true;
    tn_loop_timer_stop(&c->timer);
    if (c->stream)
        tn_stream_close(c->stream);
}

static void on_timer(tn_loop_timer *timer)
{
    drop(TN_CONTAINER_OF(timer, struct connection, timer));
}

static void set_timer(struct connection *c, uint64_t delay_ns)
{
    tn_loop_timer_start(&c->timer, tn_now_mono_ns() + delay_ns);
}

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 431:
        return "Request Header Fields Too Large";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Bad Request";
    }
}

static void sent(struct connection *c)
{
    c->sending = false;
    if (!c->keep_alive) {
        drop(c);
        return;
    }
    set_timer(c, IDLE_NS);
    tn_stream_read_start(c->stream);
}

static void respond(struct connection *c, int status, const char *type, tn_blob body)
{
    char head[320];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n",
                     status, reason(status), type, body.n, status == 405 ? "Allow: GET\r\n" : "",
                     c->keep_alive ? "" : "Connection: close\r\n");
    TN_ASSERT(n > 0 && (size_t)n < sizeof head);
    c->sending = true;
    set_timer(c, SEND_NS);
    tn_stream_write(c->stream, (const uint8_t *)head, (size_t)n);
    if (tn_stream_write(c->stream, body.p, body.n) == 0)
        sent(c);
}

static void respond_error(struct connection *c, int status)
{
    char body[80];
    int n = snprintf(body, sizeof body, "%d %s\n", status, reason(status));
    respond(c, status, "text/plain; charset=utf-8", tn_blob_from(body, (size_t)n));
}

/* Pool thread. */
static void render(void *user) { tn_metrics_render(&((struct connection *)user)->text); }

static void rendered(void *user)
{
    struct connection *c = user;
    c->rendering = false;
    if (c->dropped) {
        free_when_over(c);
        return;
    }
    respond(c, 200, "text/plain; version=0.0.4; charset=utf-8", tn_buf_blob(&c->text));
    tn_buf_done(&c->text);
    advance(c);
}

static void answer(struct connection *c, const tn_http_request *request)
{
    c->keep_alive = request->keep_alive;
    tn_str path = request->target;
    const char *query = memchr(path.p, '?', path.n);
    if (query)
        path.n = (size_t)(query - path.p);
    if (!tn_str_is(request->method, "GET")) {
        c->keep_alive = false; /* a HEAD must not be followed by a body it did not ask for */
        respond_error(c, 405);
    } else if (!tn_str_is(path, "/metrics")) {
        respond_error(c, 404);
    } else {
        tn_loop_timer_stop(&c->timer);
        c->rendering = tn_loop_offload(render, rendered, c) == TN_OK;
        if (!c->rendering)
            drop(c);
    }
}

/* Takes requests out of the buffer as long as there is one and nothing is under way. */
static void advance(struct connection *c)
{
    while (!c->dropped && !c->rendering && !c->sending && c->head_n) {
        tn_http_request request = {0};
        int taken = tn_http_parse(c->head, c->head_n, &request);
        if (taken == 0)
            return;
        if (taken < 0) {
            c->head_n = 0;
            c->keep_alive = false;
            respond_error(c, -taken);
            return;
        }
        answer(c, &request); /* the request points into head: before it moves */
        c->head_n -= (size_t)taken;
        memmove(c->head, c->head + taken, c->head_n);
    }
}

static void on_read(tn_stream *stream, const uint8_t *p, size_t n)
{
    struct connection *c = tn_stream_user(stream);
    while (n && !c->dropped) {
        if (!c->keep_alive && (c->rendering || c->sending))
            return; /* the last answer of this connection is under way */
        size_t piece = sizeof c->head - c->head_n < n ? sizeof c->head - c->head_n : n;
        if (piece == 0) { /* pipelined without end while an answer is under way */
            drop(c);
            return;
        }
        if (!c->head_n && !c->rendering && !c->sending)
            set_timer(c, HEAD_NS);
        memcpy(c->head + c->head_n, p, piece);
        c->head_n += piece;
        p += piece;
        n -= piece;
        advance(c);
    }
}

static void on_end(tn_stream *stream, int status)
{
    (void)status;
    drop(tn_stream_user(stream));
}

static void on_drained(tn_stream *stream)
{
    struct connection *c = tn_stream_user(stream);
    if (!c->sending)
        return;
    sent(c);
    advance(c);
}

static void on_closed(tn_stream *stream)
{
    struct connection *c = tn_stream_user(stream);
    c->stream = NULL;
    c->dropped = true;
    tn_loop_timer_stop(&c->timer);
    free_when_over(c);
}

static const tn_stream_events events = {on_read, on_end, on_drained, on_closed};

static void on_accepted(void *user, tn_stream *stream)
{
    tn_metrics_server *server = user;
    if (server->count >= CONNECTIONS_MAX) {
        tn_stream_close(stream);
        return;
    }
    struct connection *c = tn_xcalloc(1, sizeof *c);
    c->server = server;
    c->stream = stream;
    c->keep_alive = true;
    tn_list_push_back(&server->connections, &c->link);
    server->count++;
    tn_loop_timer_init(&c->timer, on_timer);
    tn_stream_set(stream, &events, c);
    set_timer(c, HEAD_NS);
    tn_stream_read_start(stream);
}

tn_status tn_metrics_server_open(const char *ip, uint16_t port, tn_metrics_server **out,
                                 tn_error *err)
{
    tn_metrics_server *server = tn_xcalloc(1, sizeof *server);
    tn_list_init(&server->connections);
    tn_status status = tn_listener_open(ip, port, on_accepted, server, &server->listener, err);
    if (status != TN_OK) {
        free(server);
        return status;
    }
    *out = server;
    return TN_OK;
}

uint16_t tn_metrics_server_port(const tn_metrics_server *server)
{
    return tn_listener_port(server->listener);
}

void tn_metrics_server_close(tn_metrics_server *server)
{
    if (!server)
        return;
    tn_listener_close(server->listener);
    server->closing = true;
    if (server->count == 0) {
        free(server);
        return;
    }
    TN_LIST_FOREACH (link, &server->connections)
        drop(TN_CONTAINER_OF(link, struct connection, link));
}
