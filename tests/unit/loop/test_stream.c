/* SPDX-License-Identifier: MIT */
/* Listeners and streams: an echo server on two loops with clients that send more than the kernel
 * buffers, failures to listen and to connect, closing at awkward moments. */
#include <errno.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop/stream.h"

enum { CLIENTS = 8, BYTES = 1 << 20, PIECE = 70000 };

static tn_listener *listeners[2];
static uint16_t port;
static atomic_int server_closed, clients_closed, server_accepts[2], bad_bytes;
static sem_t done;

static void start_loops(uint32_t count)
{
    tn_error err = {0};
    sem_init(&done, 0, 0);
    assert_int_equal(tn_loops_create(count, &err), TN_OK);
    tn_loops_run();
}

/* ---- echo server ---- */
static void echo_read(tn_stream *s, const uint8_t *p, size_t n)
{
    if (tn_stream_write(s, p, n) > 100000)
        tn_stream_read_stop(s);
}
static void echo_drained(tn_stream *s) { tn_stream_read_start(s); }
static void echo_end(tn_stream *s, int status)
{
    (void)status;
    tn_stream_close(s);
    tn_stream_close(s); /* a second time: nothing */
}
static void echo_closed(tn_stream *s)
{
    (void)s;
    server_closed++;
}
static const tn_stream_events echo_events = {echo_read, echo_end, echo_drained, echo_closed};

static void accepted(void *user, tn_stream *s)
{
    char peer[64];
    server_accepts[tn_loop_index(tn_loop_current())]++;
    tn_stream_peer(s, peer, sizeof peer); /* empty when the peer has gone already */
    assert_true(!peer[0] || strncmp(peer, "127.0.0.1:", 10) == 0);
    tn_stream_set(s, &echo_events, user);
    tn_stream_read_start(s);
}

static void listen_here(void *arg)
{
    (void)arg;
    tn_error err = {0};
    tn_listener **l = &listeners[tn_loop_index(tn_loop_current())];
    assert_int_equal(tn_listener_open("127.0.0.1", port, accepted, NULL, l, &err), TN_OK);
    port = tn_listener_port(*l);
    assert_int_not_equal(port, 0);
}

static void close_listener(void *arg)
{
    (void)arg;
    tn_listener_close(listeners[tn_loop_index(tn_loop_current())]);
}

/* ---- clients ---- */
struct client {
    size_t sent, got;
    uint8_t seed;
};

static uint8_t byte_at(const struct client *c, size_t i)
{
    return (uint8_t)(c->seed + i * 7 + i / 251);
}

static void client_pump(tn_stream *s)
{
    struct client *c = tn_stream_user(s);
    uint8_t *piece = tn_xmalloc(PIECE);
    while (c->sent < BYTES) {
        size_t n = BYTES - c->sent < PIECE ? BYTES - c->sent : PIECE;
        for (size_t i = 0; i < n; i++)
            piece[i] = byte_at(c, c->sent + i);
        c->sent += n;
        if (tn_stream_write(s, piece, n) > 0)
            break; /* goes on when drained */
    }
    free(piece);
}

static void client_read(tn_stream *s, const uint8_t *p, size_t n)
{
    struct client *c = tn_stream_user(s);
    for (size_t i = 0; i < n; i++)
        bad_bytes += p[i] != byte_at(c, c->got + i);
    c->got += n;
    if (c->got == BYTES)
        tn_stream_close(s);
}
static void client_end(tn_stream *s, int status)
{
    (void)s;
    (void)status;
    bad_bytes++;
}
static void client_closed(tn_stream *s)
{
    struct client *c = tn_stream_user(s);
    assert_int_equal(c->got, BYTES);
    free(c);
    clients_closed++;
    sem_post(&done);
}
static const tn_stream_events client_events = {client_read, client_end, client_pump, client_closed};

static void client_connected(tn_stream *s)
{
    tn_stream_read_start(s);
    client_pump(s);
}

static void connect_clients(void *arg)
{
    (void)arg;
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = tn_xcalloc(1, sizeof *c);
        c->seed = (uint8_t)(i * 31);
        tn_stream_connect("127.0.0.1", port, client_connected, &client_events, c);
    }
}

static void echo_on_two_loops(void **state)
{
    (void)state;
    port = 0;
    server_closed = clients_closed = bad_bytes = 0;
    start_loops(2);
    for (uint32_t i = 0; i < 2; i++)
        tn_loop_call(tn_loops_get(i), listen_here, NULL);
    assert_int_equal(tn_listener_port(listeners[0]), tn_listener_port(listeners[1]));
    for (uint32_t i = 0; i < 2; i++)
        tn_loop_call(tn_loops_get(i), connect_clients, NULL);
    for (int i = 0; i < 2 * CLIENTS; i++)
        sem_wait(&done);
    for (uint32_t i = 0; i < 2; i++)
        tn_loop_call(tn_loops_get(i), close_listener, NULL);
    tn_loops_destroy();
    assert_int_equal(bad_bytes, 0);
    assert_int_equal(clients_closed, 2 * CLIENTS);
    assert_int_equal(server_accepts[0] + server_accepts[1], 2 * CLIENTS);
}

/* ---- failures ---- */
static int taken_port;
static void listen_fails(void *arg)
{
    tn_error *err = arg;
    tn_listener *l = NULL;
    assert_int_equal(tn_listener_open("127.0.0.1", (uint16_t)taken_port, accepted, NULL, &l, err),
                     TN_EUNAVAILABLE);
    assert_non_null(strstr(err->text, "another process has that port"));
    assert_int_equal(tn_listener_open("localhorse", 1, accepted, NULL, &l, err), TN_EINVALID);
    assert_null(l);
}

static void a_taken_port_is_refused_even_with_reuseport(void **state)
{
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on); /* as another tenond would */
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(fd, 1), 0);
    getsockname(fd, (struct sockaddr *)&in, &len);
    taken_port = ntohs(in.sin_port);
    tn_error err = {0};
    start_loops(1);
    tn_loop_call(tn_loops_get(0), listen_fails, &err);
    tn_loops_destroy();
    close(fd);
}

static int end_status;
static void fail_end(tn_stream *s, int status)
{
    end_status = status;
    tn_stream_close(s);
}
static void fail_closed(tn_stream *s)
{
    (void)s;
    sem_post(&done);
}
static const tn_stream_events fail_events = {.end = fail_end, .closed = fail_closed};
static void never_connected(tn_stream *s)
{
    (void)s;
    bad_bytes++;
}
static void connect_nowhere(void *arg)
{
    tn_stream *s =
        tn_stream_connect(arg, (uint16_t)taken_port, never_connected, &fail_events, NULL);
    tn_stream_write(s, (const uint8_t *)"early", 5);
}

static void a_failed_connect_ends_with_its_errno(void **state)
{
    (void)state;
    bad_bytes = 0;
    start_loops(1);
    tn_loop_call(tn_loops_get(0), connect_nowhere,
                 (char[]){"127.0.0.1"}); /* nobody listens any more */
    sem_wait(&done);
    assert_int_equal(end_status, -ECONNREFUSED);
    tn_loop_call(tn_loops_get(0), connect_nowhere, (char[]){"not an address"});
    sem_wait(&done);
    assert_int_equal(end_status, -EINVAL);
    tn_loops_destroy();
    assert_int_equal(bad_bytes, 0);
}

/* ---- local sockets ---- */
static char local_name[64];
static atomic_bool again_refused, nobody_there;

static void local_accepted(void *user, tn_stream *s)
{
    char peer[64], me[64];
    snprintf(me, sizeof me, "process %ld of this host", (long)getpid());
    tn_stream_peer(s, peer, sizeof peer);
    bad_bytes += strcmp(peer, me) != 0;
    server_accepts[0]++;
    tn_stream_set(s, &echo_events, user);
    tn_stream_read_start(s);
}

static void listen_locally(void *arg)
{
    (void)arg;
    tn_error err = {0};
    tn_listener *second = NULL;
    assert_int_equal(tn_listener_open_local(local_name, local_accepted, NULL, &listeners[0], &err),
                     TN_OK);
    again_refused = tn_listener_open_local(local_name, local_accepted, NULL, &second, &err) ==
                        TN_EUNAVAILABLE &&
                    !second && strstr(err.text, local_name);
}

static bool connect_local(void)
{
    struct client *c = tn_xcalloc(1, sizeof *c);
    c->seed = 5;
    if (tn_stream_connect_local(local_name, client_connected, &client_events, c))
        return true;
    free(c);
    return false;
}

static void connect_locally(void *arg)
{
    (void)arg;
    for (int i = 0; i < CLIENTS; i++)
        assert_true(connect_local());
}

static void connect_to_nobody(void *arg)
{
    (void)arg;
    nobody_there = !connect_local();
}

static void echo_on_a_local_socket(void **state)
{
    (void)state;
    server_closed = clients_closed = bad_bytes = server_accepts[0] = 0;
    snprintf(local_name, sizeof local_name, "tenon-test/%ld", (long)getpid());
    start_loops(2);
    tn_loop_call(tn_loops_get(1), connect_to_nobody, NULL);
    assert_true(nobody_there);
    tn_loop_call(tn_loops_get(0), listen_locally, NULL);
    assert_true(again_refused);
    for (uint32_t i = 0; i < 2; i++)
        tn_loop_call(tn_loops_get(i), connect_locally, NULL);
    for (int i = 0; i < 2 * CLIENTS; i++)
        sem_wait(&done);
    tn_loop_call(tn_loops_get(0), close_listener, NULL);
    tn_loops_destroy();
    assert_int_equal(bad_bytes, 0);
    assert_int_equal(clients_closed, 2 * CLIENTS);
    assert_int_equal(server_accepts[0], 2 * CLIENTS);
}

static void connect_and_close(void *arg)
{
    (void)arg;
    tn_stream *s = tn_stream_connect_local(local_name, never_connected, &fail_events, NULL);
    assert_non_null(s);
    tn_stream_close(s); /* before it could be told that it is connected */
}

static void a_local_connection_closed_at_once(void **state)
{
    (void)state;
    bad_bytes = 0;
    start_loops(1);
    tn_loop_call(tn_loops_get(0), listen_locally, NULL);
    tn_loop_call(tn_loops_get(0), connect_and_close, NULL);
    sem_wait(&done);
    tn_loop_call(tn_loops_get(0), close_listener, NULL);
    tn_loops_destroy();
    assert_int_equal(bad_bytes, 0);
}

/* ---- awkward moments ---- */
static void flood_then_close(tn_stream *s)
{
    enum { MIB = 1 << 20 };
    uint8_t *zeros = tn_xcalloc(1, MIB);
    size_t pending = 0;
    for (int i = 0; i < 20; i++)
        pending = tn_stream_write(s, zeros, MIB);
    assert_true(pending > 0);
    assert_int_equal(pending, tn_stream_pending_bytes(s));
    tn_stream_close(s);
    assert_int_equal(tn_stream_write(s, zeros, 10), 0);
    tn_stream_read_start(s);
    free(zeros);
}
static void connect_flood(void *arg)
{
    (void)arg;
    tn_stream_connect("127.0.0.1", port, flood_then_close, &fail_events, NULL);
}
static void connect_and_close_at_once(void *arg)
{
    (void)arg;
    tn_stream_close(tn_stream_connect("127.0.0.1", port, never_connected, &fail_events, NULL));
    tn_stream_close(tn_stream_connect("bad", port, never_connected, &fail_events, NULL));
}
static void connect_and_leave(void *arg)
{
    (void)arg;
    struct client *c = arg;
    tn_stream_connect("127.0.0.1", port, client_connected, &client_events, c);
}

static void closing_at_awkward_moments(void **state)
{
    (void)state;
    port = 0;
    bad_bytes = 0;
    start_loops(1);
    tn_loop_call(tn_loops_get(0), listen_here, NULL);
    tn_loop_call(tn_loops_get(0), connect_flood, NULL);
    sem_wait(&done);
    tn_loop_call(tn_loops_get(0), connect_and_close_at_once, NULL);
    sem_wait(&done);
    sem_wait(&done);
    /* Streams and a listener that are open when the loops end: freed without callbacks. */
    struct client left = {0};
    tn_loop_call(tn_loops_get(0), connect_and_leave, &left);
    tn_loops_destroy();
    assert_int_equal(bad_bytes, 0);
}

/* Peers that send, do not read, and break off with a reset while they are written to. */
static void peers_that_break_off(void **state)
{
    (void)state;
    enum { PEERS = 200, SEND = 300000 };
    port = 0;
    server_accepts[0] = server_accepts[1] = server_closed = 0;
    start_loops(2);
    for (uint32_t i = 0; i < 2; i++)
        tn_loop_call(tn_loops_get(i), listen_here, NULL);
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint8_t *bytes = tn_xcalloc(1, SEND);
    for (int i = 0; i < PEERS; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct linger reset = {.l_onoff = i % 4 != 0, .l_linger = 0};
        assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
        ssize_t n = send(fd, bytes, (size_t)(i * 1500 % SEND), MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)n; /* as much as it takes */
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    /* A reset may reach a connection before it is accepted; those that were must all be closed. */
    for (int i = 0; i < 2000 && (server_closed < server_accepts[0] + server_accepts[1] ||
                                 server_accepts[0] + server_accepts[1] < PEERS);
         i++)
        usleep(1000);
    assert_int_equal(server_closed, server_accepts[0] + server_accepts[1]);
    assert_true(server_closed >= PEERS / 4);
    free(bytes);
    tn_loops_destroy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_on_two_loops),
        cmocka_unit_test(echo_on_a_local_socket),
        cmocka_unit_test(a_local_connection_closed_at_once),
        cmocka_unit_test(a_taken_port_is_refused_even_with_reuseport),
        cmocka_unit_test(a_failed_connect_ends_with_its_errno),
        cmocka_unit_test(closing_at_awkward_moments),
        cmocka_unit_test(peers_that_break_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
