/* SPDX-License-Identifier: MIT */
/* Listeners and byte streams, TCP or local, on a loop, for the rpc and metrics rooms: non-blocking sockets
 * behind callbacks.  All [loop]. */
#ifndef TN_LOOP_STREAM_H
#define TN_LOOP_STREAM_H

#include "loop/loop.h"

typedef struct tn_listener tn_listener;
typedef struct tn_stream tn_stream;

typedef struct tn_stream_events {
    /* Bytes came; they live until the callback returns. */
    void (*read)(tn_stream *stream, const uint8_t *p, size_t n);
    /* The peer ended its side (status 0) or the connection broke (negative errno).  Close it. */
    void (*end)(tn_stream *stream, int status);
    /* All bytes handed to tn_stream_write have left; more may be produced. */
    void (*drained)(tn_stream *stream);
    /* After tn_stream_close: last callback, the stream is gone when it returns. */
    void (*closed)(tn_stream *stream);
} tn_stream_events;

/* Listens on this loop.  Every loop of a process may listen on the same address (SO_REUSEPORT), so
 * that the kernel spreads the connections.  port 0: any; asked for with tn_listener_port. */
tn_status tn_listener_open(const char *ip, uint16_t port,
                           void (*accepted)(void *user, tn_stream *stream), void *user,
                           tn_listener **out, tn_error *err) TN_WARN_UNUSED;
uint16_t tn_listener_port(const tn_listener *listener);
/* The same on a local socket of that name (up to 100 characters), for other processes of this user's or root's on this
 * machine, in this network namespace. */
tn_status tn_listener_open_local(const char *name, void (*accepted)(void *user, tn_stream *stream),
                                 void *user, tn_listener **out, tn_error *err) TN_WARN_UNUSED;
void tn_listener_close(tn_listener *listener); /* established streams stay */

/* Connects (role to role, tests); events.end with an errno when it fails, `connected` else. */
tn_stream *tn_stream_connect(const char *ip, uint16_t port, void (*connected)(tn_stream *stream),
                             const tn_stream_events *events, void *user);
/* To a local socket; NULL: nobody of this user's or root's listens there, nothing happened. */
tn_stream *tn_stream_connect_local(const char *name, void (*connected)(tn_stream *stream),
                                   const tn_stream_events *events, void *user);
void tn_stream_set(tn_stream *stream, const tn_stream_events *events, void *user);
void *tn_stream_user(const tn_stream *stream);
void tn_stream_read_start(tn_stream *stream);
void tn_stream_read_stop(tn_stream *stream);
/* Tries to write at once; what does not fit is copied and sent when the socket is ready.  Returns
 * the bytes that still wait: a producer stops above its own mark until `drained`. */
size_t tn_stream_write(tn_stream *stream, const uint8_t *p, size_t n);
size_t tn_stream_pending_bytes(const tn_stream *stream);
/* Drops what is pending; closing twice does nothing. */
void tn_stream_close(tn_stream *stream);
/* "ip:port" of the peer, or which process of this host it is. */
void tn_stream_peer(const tn_stream *stream, char *out, size_t size);

#endif
