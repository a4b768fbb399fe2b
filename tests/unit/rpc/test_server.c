/* SPDX-License-Identifier: MIT */
/* A server on real loops and sockets, and a client that is nothing but bytes.  Above all the orders in
 * which an answer, a deadline, a reset and a lost connection can meet: every call must be freed once
 * (the sanitizer watches), cancelled at most once, and its lent memory released once. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/proto.h"
#include "rpc/rpc.h"
#include "temporal/api/common/v1/message.pb-c.h"

static tn_rpc_server *server;
static _Atomic uint64_t handled, released, cancelled, undelivered;

/* ---- methods ---- */

typedef struct trip {
    uint64_t hops;
    tn_rng rng;
    bool was_cancelled;
    tn_loop_timer timer;
    tn_call *call;
} trip;

static void on_release(void *user)
{
    (void)user;
    atomic_fetch_add(&released, 1);
}

static void on_undelivered(tn_call *call)
{
    (void)call;
    atomic_fetch_add(&undelivered, 1);
}

static void finish(tn_call *call)
{
    tn_call_reply_spliced(call, call->request, NULL, 0, on_release, NULL);
}

static void travel(tn_msg *msg)
{
    tn_call *call = TN_CONTAINER_OF(msg, tn_call, msg);
    trip *t = call->user;

    if (!t->hops--) {
        finish(call);
        return;
    }
    tn_loop_post(tn_loops_get((uint32_t)tn_rng_below(&t->rng, tn_loops_count())), &call->msg);
}

/* The baton is elsewhere: a hint only. */
static void travel_cancelled(tn_call *call)
{
    trip *t = call->user;
    assert_false(t->was_cancelled);
    t->was_cancelled = true;
    assert_true(tn_call_cancelled(call));
    atomic_fetch_add(&cancelled, 1);
}

static trip *trip_begin(tn_call *call)
{
    trip *t = TN_NEW(call->arena, trip);
    const Temporal__Api__Common__V1__Payload *p = (const void *)call->request;

    atomic_fetch_add(&handled, 1);
    tn_rng_seed(&t->rng, (uint64_t)(uintptr_t)call ^ call->received_mono_ns);
    t->hops = p->data.len ? p->data.data[0] : 0;
    t->call = call;
    call->user = t;
    call->on_undelivered = on_undelivered;
    return t;
}

static void do_echo(tn_call *call)
{
    trip_begin(call);
    finish(call);
}

static void do_travel(tn_call *call)
{
    trip_begin(call);
    call->on_cancel = travel_cancelled;
    travel((call->msg.run = travel, &call->msg));
}

static void wait_over(tn_loop_timer *timer)
{
    trip *t = TN_CONTAINER_OF(timer, trip, timer);
    t->call->on_cancel = NULL;
    finish(t->call);
}

static void wait_cancelled(tn_call *call)
{
    trip *t = call->user;
    tn_loop_timer_stop(&t->timer);
    atomic_fetch_add(&cancelled, 1);
    finish(call);
}

/* Waits for as many milliseconds as there are hops. */
static void do_wait(tn_call *call)
{
    trip *t = trip_begin(call);

    call->on_cancel = wait_cancelled;
    tn_loop_timer_init(&t->timer, wait_over);
    tn_loop_timer_start(&t->timer, tn_now_mono_ns() + t->hops * TN_MS);
}

#define METHOD(name, function) \
    { \
        .path = "/test.T/" name, .input = &temporal__api__common__v1__payload__descriptor, \
        .output = &temporal__api__common__v1__payload__descriptor, .handle = (function) \
    }
static const tn_rpc_method methods[] = {
    METHOD("Echo", do_echo),
    METHOD("Travel", do_travel),
    METHOD("Wait", do_wait),
};

/* ---- a client ---- */

static int client_open_at(const tn_rpc_server *where)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(tn_rpc_server_port(where))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static int client_open(void) { return client_open_at(server); }

static void put_frame(tn_buf *out, uint8_t type, uint8_t flags, uint32_t stream, tn_blob payload)
{
    tn_buf_put_u8(out, (uint8_t)(payload.n >> 16));
    tn_buf_put_u8(out, (uint8_t)(payload.n >> 8));
    tn_buf_put_u8(out, (uint8_t)payload.n);
    tn_buf_put_u8(out, type);
    tn_buf_put_u8(out, flags);
    tn_buf_put_u32be(out, stream);
    tn_buf_put(out, payload.p, payload.n);
}

static void put_begin(tn_buf *out)
{
    tn_buf_put(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(out, 4, 0, 0, (tn_blob){NULL, 0});
}

/* A header as a literal that is not indexed. */
static void put_header(tn_buf *out, const char *name, const char *value)
{
    tn_buf_put_u8(out, 0);
    tn_buf_put_u8(out, (uint8_t)strlen(name));
    tn_buf_put(out, name, strlen(name));
    tn_buf_put_u8(out, (uint8_t)strlen(value));
    tn_buf_put(out, value, strlen(value));
}

static void put_request(tn_buf *out, uint32_t stream, const char *method, uint8_t hops,
                        const char *timeout)
{
    const uint8_t message[] = {0, 0, 0, 0, 3, 0x12, 1, hops};
    tn_buf block = {0};
    char path[64];

    snprintf(path, sizeof(path), "/test.T/%s", method);
    put_header(&block, ":method", "POST");
    put_header(&block, ":scheme", "http");
    put_header(&block, ":authority", "test");
    put_header(&block, ":path", path);
    put_header(&block, "content-type", "application/grpc");
    if (timeout)
        put_header(&block, "grpc-timeout", timeout);
    put_frame(out, 1, 4, stream, tn_buf_blob(&block));
    put_frame(out, 0, 1, stream, tn_blob_from(message, sizeof(message)));
    tn_buf_done(&block);
}

static void send_all(int fd, tn_buf *out)
{
    for (size_t at = 0; at < out->n;) {
        ssize_t n = send(fd, out->p + at, out->n - at, MSG_NOSIGNAL);
        if (n <= 0)
            break; /* the server may have hung up: some cases want that */
        at += (size_t)n;
    }
    tn_buf_done(out);
}

typedef struct heard {
    unsigned goaways, streams_ended, resets, data_bytes;
    uint32_t last_stream; /* of the last GOAWAY */
    bool closed;
} heard;

/* Reads frames until the peer closes, `streams` have ended, or the time is over. */
static heard listen_for(int fd, unsigned streams, int ms)
{
    heard h = {0};
    tn_buf in = {0};
    uint64_t end = tn_now_mono_ns() + (uint64_t)ms * TN_MS;
    size_t at = 0;

    while (h.streams_ended < streams && tn_now_mono_ns() < end) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint8_t bytes[65536];
        ssize_t n;

        if (poll(&p, 1, 50) <= 0)
            continue;
        n = recv(fd, bytes, sizeof(bytes), 0);
        if (n <= 0) {
            h.closed = true;
            break;
        }
        tn_buf_put(&in, bytes, (size_t)n);
        while (in.n - at >= 9) {
            const uint8_t *f = in.p + at;
            size_t size = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];
            if (in.n - at < 9 + size)
                break;
            if (f[3] == 0)
                h.data_bytes += (unsigned)size;
            if (f[3] <= 1 && (f[4] & 1))
                h.streams_ended++;
            h.resets += f[3] == 3;
            if (f[3] == 7) {
                h.goaways++;
                h.last_stream = tn_get_u32be(f + 9);
            }
            at += 9 + size;
        }
    }
    tn_buf_done(&in);
    return h;
}

static void until_settled(void)
{
    for (int i = 0; i < 2000 && atomic_load(&released) != atomic_load(&handled); i++)
        usleep(5000);
    assert_int_equal(atomic_load(&released), atomic_load(&handled));
}

/* ---- cases ---- */

static void answers(void **state)
{
    int fd = client_open();
    tn_buf out = {0};
    heard h;

    (void)state;
    put_begin(&out);
    for (uint32_t i = 0; i < 200; i++)
        put_request(&out, 2 * i + 1, i % 2 ? "Echo" : "Travel", 5, "5S");
    send_all(fd, &out);
    h = listen_for(fd, 200, 10000);
    assert_int_equal(h.streams_ended, 200);
    assert_int_equal(h.data_bytes, 200 * 8);
    assert_int_equal(h.resets, 0);
    close(fd);
    until_settled();
}

/* Every order of answer, deadline, reset and loss, at random. */
static void collisions(void **state)
{
    static const char *const names[] = {"Echo", "Travel", "Wait", "Travel"};
    static const char *const timeouts[] = {NULL, "5S", "1m", "300u", "3m", "1n"};
    uint64_t seed;
    tn_rng rng;

    (void)state;
    tn_random_bytes(&seed, sizeof(seed));
    printf("seed %llu\n", (unsigned long long)seed);
    tn_rng_seed(&rng, seed);
    for (int round = 0; round < 300; round++) {
        int fd = client_open();
        tn_buf out = {0};
        uint32_t count = 1 + (uint32_t)tn_rng_below(&rng, 60);

        put_begin(&out);
        for (uint32_t i = 0; i < count; i++) {
            put_request(&out, 2 * i + 1, names[tn_rng_below(&rng, 4)],
                        (uint8_t)tn_rng_below(&rng, 9), timeouts[tn_rng_below(&rng, 6)]);
            if (!tn_rng_below(&rng, 4))
                put_frame(&out, 3, 0, 2 * i + 1, tn_blob_from("\0\0\0\10", 4));
        }
        send_all(fd, &out);
        if (tn_rng_below(&rng, 2))
            listen_for(fd, (unsigned)tn_rng_below(&rng, count + 1), (int)tn_rng_below(&rng, 6));
        if (!tn_rng_below(&rng, 3)) {
            for (uint32_t i = 0; i < count; i += 3)
                put_frame(&out, 3, 0, 2 * i + 1, tn_blob_from("\0\0\0\10", 4));
            send_all(fd, &out);
        }
        close(fd);
    }
    until_settled();
    assert_true(atomic_load(&cancelled) > 0);
    assert_true(atomic_load(&undelivered) > 0);
}

static void drain_loses_nothing(void **state)
{
    int fd = client_open(), idle = client_open();
    uint64_t start;
    tn_buf out = {0};
    heard h;

    (void)state;
    put_begin(&out);
    put_request(&out, 1, "Wait", 200, "5S");
    put_request(&out, 3, "Travel", 200, "5S");
    send_all(fd, &out);
    usleep(50000);
    start = tn_now_mono_ns();
    tn_rpc_server_drain(server, 10 * TN_SEC);
    assert_true(tn_now_mono_ns() - start < 5 * TN_SEC);
    h = listen_for(fd, 99, 1000);
    assert_int_equal(h.streams_ended, 2);
    assert_int_equal(h.goaways, 2);
    assert_int_equal(h.last_stream, 3);
    assert_true(h.closed);
    close(fd);
    close(idle);
    until_settled();
}

/* Of three on a port for two, one is closed, whichever comes last to the loops. */
static void one_connection_too_many(void **state)
{
    tn_rpc_options options;
    tn_rpc_server *small;
    tn_error err = {0};
    int fds[3], closed = 0;

    (void)state;
    tn_rpc_options_default(&options);
    options.port = 0;
    options.connections_max = 2;
    assert_int_equal(tn_rpc_server_start(&options, &small, &err), TN_OK);
    for (size_t i = 0; i < 3; i++)
        fds[i] = client_open_at(small);
    for (uint64_t end = tn_now_mono_ns() + 30 * TN_SEC; !closed && tn_now_mono_ns() < end;
         usleep(1000)) {
        for (size_t i = 0; i < 3; i++) {
            char bytes[256];
            ssize_t n = recv(fds[i], bytes, sizeof(bytes), MSG_DONTWAIT);
            closed += n == 0 || (n < 0 && errno == ECONNRESET);
        }
    }
    assert_int_equal(closed, 1);
    for (size_t i = 0; i < 3; i++)
        close(fds[i]);
    tn_rpc_server_destroy(small);
}

static int start(void **state)
{
    tn_rpc_options options;
    tn_error err = {0};

    (void)state;
    tn_rpc_options_default(&options);
    options.port = 0;
    if (tn_loops_create(3, &err) != TN_OK ||
        tn_rpc_server_start(&options, &server, &err) != TN_OK) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    tn_rpc_server_destroy(server);
    tn_loops_stop();
    tn_loops_destroy();
    return 0;
}

static int start_all(void **state)
{
    tn_rpc_register(methods, TN_COUNT_OF(methods));
    if (start(state) != 0)
        return -1;
    tn_loops_run();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(collisions),
        cmocka_unit_test(one_connection_too_many),
        cmocka_unit_test(drain_loses_nothing),
    };
    return cmocka_run_group_tests(tests, start_all, stop);
}
