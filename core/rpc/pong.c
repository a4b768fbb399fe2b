/* SPDX-License-Identifier: MIT */
/* The answers to a client's PINGs.  gRPC's clients send one with each answer that they read, to learn how much a
 * connection can take; answered at once, it is a packet of its own that wakes the client for nothing, as often as there
 * are calls.  So it waits for the next frames that leave, for RPC_PONG_WAIT_NS at most.  What is sent in bulk always has
 * frames that leave, and sees no difference. */
#include <string.h>

#include "rpc/private.h"

static int submit(rpc_conn *conn)
{
    conn->pong_held = false;
    tn_loop_timer_stop(&conn->pong_late);
    if (nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_ACK, conn->pong) == 0)
        return 0;
    return rpc_conn_condemn(conn, NGHTTP2_ENHANCE_YOUR_CALM, "flood"); /* they are not read */
}

static void late(tn_loop_timer *timer)
{
    rpc_conn *conn = TN_CONTAINER_OF(timer, rpc_conn, pong_late);
    (void)submit(conn);
    rpc_conn_flush_later(conn);
}

void rpc_pong_init(rpc_conn *conn) { tn_loop_timer_init(&conn->pong_late, late); }

int rpc_pong_owed(rpc_conn *conn, const uint8_t data[8])
{
    if (conn->pong_held && submit(conn) != 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    memcpy(conn->pong, data, sizeof(conn->pong));
    conn->pong_held = true;
    if (conn->state != RPC_CONN_OPEN)
        return submit(conn);
    tn_loop_timer_start(&conn->pong_late, conn->now_ns + RPC_PONG_WAIT_NS);
    return 0;
}

bool rpc_pong_goes_along(rpc_conn *conn) { return conn->pong_held && submit(conn) == 0; }

void rpc_pong_forget(rpc_conn *conn)
{
    conn->pong_held = false;
    tn_loop_timer_stop(&conn->pong_late);
}
