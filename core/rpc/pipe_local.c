/* SPDX-License-Identifier: MIT */
/* Processes on one machine: a pipe between them runs over a local socket, where a packet costs half of what it does over TCP's
 * loopback.  Its name is made of the host id that the members announce, which no other process ever has; it is an abstract
 * one, so that what lies in another network namespace is never found by it, and goes by TCP.  Each loop that serves
 * listens beside its TCP port.  Whoever connects looks there first: to the loop of some number, then to the first. */
#include <stdio.h>

#include "rpc/pipe.h"

#define NAME_BYTES 64

static bool off;

void tn_pipes_use_local(bool on) { off = !on; }

static void name_make(char out[NAME_BYTES], const uint8_t host_id[16], uint16_t port, uint32_t loop)
{
    char id[33];
    for (size_t i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", host_id[i]);
    snprintf(out, NAME_BYTES, "tenon/%s/%u/%u", id, port, loop);
}

void rpc_pipe_local_listen(rpc_worker *worker, uint16_t port)
{
    const uint8_t *self = rpc_pipe_self();
    char name[NAME_BYTES];
    tn_error err = {0};
    if (off || !self || worker->server->options.tls)
        return;
    name_make(name, self, port, tn_loop_index(worker->loop));
    if (tn_listener_open_local(name, rpc_conn_accept, worker, &worker->local, &err) != TN_OK)
        TN_LOG(TN_LOG_WARN, "rpc",
               "no local socket for other processes of this machine: they use TCP",
               TN_LOG_Z("why", err.text));
}

tn_stream *rpc_pipe_local_connect(const tn_channel *ch, void (*connected)(tn_stream *stream),
                                  const tn_stream_events *events, void *user)
{
    char name[NAME_BYTES];
    uint32_t loop;
    if (off || !ch->by_pipe || ch->tls || !rpc_pipe_self())
        return NULL;
    tn_random_bytes(&loop, sizeof(loop));
    loop %= tn_loops_count();
    name_make(name, ch->host_id, ch->port, loop);
    tn_stream *s = tn_stream_connect_local(name, connected, events, user);
    if (s || !loop)
        return s;
    name_make(name, ch->host_id, ch->port, 0); /* it may have fewer loops than we have */
    return tn_stream_connect_local(name, connected, events, user);
}
