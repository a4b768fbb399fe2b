/* SPDX-License-Identifier: MIT */
/* Calls to another host: what comes back, and above all whether a call that failed was surely never begun there.  Played
 * twice: by HTTP/2, as to a host of an older release, and by a pipe (core/rpc/pipe.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/proto.h"
#include "rpc/client.h"
#include "rpc/rpc.h"
#include "temporal/api/common/v1/message.pb-c.h"

#define DESCRIPTOR temporal__api__common__v1__payload__descriptor

static tn_rpc_server *server;
static uint16_t port;
static _Atomic uint64_t cancelled, broken_count, undelivered, echoed;
static bool piped;
static const uint8_t host_id[16] = {7}, other_id[16] = {9};
/* the channel's; ours: pipes that the server has accepted lead there, too */
static const uint8_t *whose = other_id;

/* ---- the other host ---- */

typedef struct waiting {
    tn_loop_timer timer;
    tn_call *call;
} waiting;

static void do_echo(tn_call *call)
{
    atomic_fetch_add(&echoed, 1);
    tn_call_reply(call, call->request);
}

static void do_fail(tn_call *call)
{
    tn_call_fail(call, tn_fault_detailed(call->arena, TN_GRPC_NOT_FOUND, call->request,
                                         "100 %% \xc3\xa4 \n gone"));
}

static void do_secret(tn_call *call)
{
    Temporal__Api__Common__V1__Payload out = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT;
    tn_str secret = tn_call_header(call, "tenon-internode"),
           more = tn_call_header(call, "client-name");
    char *text = tn_arena_printf(call->arena, TN_STR_FMT "/" TN_STR_FMT, TN_STR_ARG(secret),
                                 TN_STR_ARG(more));
    out.data = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
    tn_call_reply(call, &out.base);
}

static void wait_over(tn_loop_timer *timer)
{
    waiting *w = TN_CONTAINER_OF(timer, waiting, timer);
    w->call->on_cancel = NULL;
    tn_call_reply(w->call, w->call->request);
}

static void wait_cancelled(tn_call *call)
{
    waiting *w = call->user;
    tn_loop_timer_stop(&w->timer);
    atomic_fetch_add(&cancelled, 1);
    tn_call_reply(call, NULL);
}

static void lost(tn_call *call)
{
    (void)call;
    atomic_fetch_add(&undelivered, 1);
}

static void do_lose(tn_call *call) /* answers when nobody waits any more */
{
    call->on_undelivered = lost;
    waiting *w = TN_NEW(call->arena, waiting);
    w->call = call;
    tn_loop_timer_init(&w->timer, wait_over);
    tn_loop_timer_start(&w->timer, tn_now_mono_ns() + 1500 * TN_MS);
}

static void do_wait(tn_call *call) /* 300 ms */
{
    waiting *w = TN_NEW(call->arena, waiting);
    w->call = call;
    call->user = w;
    call->on_cancel = wait_cancelled;
    tn_loop_timer_init(&w->timer, wait_over);
    tn_loop_timer_start(&w->timer, tn_now_mono_ns() + 300 * TN_MS);
}

static void stay_cancelled(tn_call *call)
{
    atomic_fetch_add(&cancelled, 1);
    tn_call_reply(call, NULL);
}

static void do_stay(tn_call *call) { call->on_cancel = stay_cancelled; } /* until nobody waits */

static void do_easy(tn_call *call)
{
    call->unhurried = true;
    tn_call_reply(call, call->request);
}

#define METHOD(name, function) \
    { \
        .path = "/test.T/" name, .input = &DESCRIPTOR, .output = &DESCRIPTOR, \
        .handle = (function), .flags = TN_RPC_INTERNAL | TN_RPC_ANY_PORT \
    }
static const tn_rpc_method methods[] = {METHOD("Echo", do_echo),     METHOD("Fail", do_fail),
                                        METHOD("Secret", do_secret), METHOD("Wait", do_wait),
                                        METHOD("Lose", do_lose),     METHOD("Stay", do_stay),
                                        METHOD("Easy", do_easy)};

static void serve(uint16_t at)
{
    tn_rpc_options options;
    tn_error err = {0};
    tn_rpc_options_default(&options);
    options.port = at;
    options.internal = piped;
    if (piped)
        options.slow_ns = TN_SEC;
    assert_int_equal(tn_rpc_server_start(&options, &server, &err), TN_OK);
    port = tn_rpc_server_port(server);
}

/* A host that is nothing but frames: answers the first request as it is told, then closes. */
typedef struct fake {
    int listener;
    uint16_t port;
    const char *answer;
    size_t answer_n;
    pthread_t thread;
} fake;

static void *fake_run(void *arg)
{
    fake *f = arg;
    int fd = accept(f->listener, NULL, NULL);
    uint8_t in[4096];
    size_t n = 0, at = 24;
    bool asked = false;
    while (!asked && n < sizeof(in)) {
        ssize_t got = recv(fd, in + n, sizeof(in) - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        while (!asked && n >= at + 9) {
            size_t size = (size_t)in[at] << 16 | (size_t)in[at + 1] << 8 | in[at + 2];
            asked = in[at + 3] == 1;
            at += 9 + size;
        }
    }
    if (f->answer_n)
        assert_true(send(fd, f->answer, f->answer_n, MSG_NOSIGNAL) > 0);
    usleep(100000);
    close(fd);
    return NULL;
}

static void fake_start(fake *f, const char *answer, size_t n)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t size = sizeof(addr);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *f = (fake){.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                .answer = answer,
                .answer_n = n};
    assert_int_equal(bind(f->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(f->listener, 1), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&addr, &size), 0);
    f->port = ntohs(addr.sin_port);
    pthread_create(&f->thread, NULL, fake_run, f);
}

static void fake_end(fake *f)
{
    close(f->listener);
    pthread_join(f->thread, NULL);
}

/* ---- this host ---- */

typedef struct attempt {
    tn_outcall out;
    sem_t done;
} attempt;

static tn_channel *channel;

static void open_channel(void *arg)
{
    channel = tn_channel_create("127.0.0.1", *(uint16_t *)arg, "word", NULL, NULL);
    if (piped)
        tn_channel_to_host(channel, whose);
}

static void count_broken(void *user)
{
    (void)user;
    atomic_fetch_add(&broken_count, 1);
}

static void open_watched(void *arg)
{
    channel = tn_channel_create("127.0.0.1", *(uint16_t *)arg, "", count_broken, NULL);
    if (piped)
        tn_channel_to_host(channel, whose);
}

static void close_channel(void *arg)
{
    (void)arg;
    tn_channel_destroy(channel);
    channel = NULL;
}

static tn_loop *home(void) { return tn_loops_get(1); }
static void connect_to(uint16_t at) { tn_loop_call(home(), open_channel, &at); }
static void hang_up(void) { tn_loop_call(home(), close_channel, NULL); }

static void attempt_done(tn_outcall *out) { sem_post(&((attempt *)out)->done); }
static void attempt_send(void *arg) { tn_outcall_send(channel, &((attempt *)arg)->out); }
static void attempt_cancel(void *arg) { tn_outcall_cancel(&((attempt *)arg)->out); }

static void begin(attempt *a, const char *path, const char *data, uint64_t within_ns)
{
    Temporal__Api__Common__V1__Payload in = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT;
    memset(a, 0, sizeof(*a));
    sem_init(&a->done, 0, 0);
    a->out.arena = tn_arena_create(0);
    in.data = (ProtobufCBinaryData){strlen(data), (uint8_t *)(uintptr_t)data};
    assert_int_equal(tn_proto_pack(&in.base, a->out.arena, &a->out.message), TN_OK);
    a->out.path = path;
    a->out.deadline_mono_ns = within_ns ? tn_now_mono_ns() + within_ns : UINT64_MAX;
    a->out.headers[a->out.n_headers++] = (tn_outcall_header){TN_STR("client-name"), TN_STR("me")};
    a->out.done = attempt_done;
    tn_loop_call(home(), attempt_send, a);
}

static void end(attempt *a) { tn_arena_destroy(a->out.arena); }

static void await(attempt *a)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    assert_int_equal(sem_timedwait(&a->done, &until), 0);
}

static void call(attempt *a, const char *path, const char *data, uint64_t within_ns)
{
    begin(a, path, data, within_ns);
    await(a);
}

static void assert_answer(const attempt *a, const char *data)
{
    Temporal__Api__Common__V1__Payload *p = NULL;
    if (a->out.fault)
        fprintf(stderr, "%d: " TN_STR_FMT "\n", a->out.fault->code,
                TN_STR_ARG(a->out.fault->message));
    assert_null(a->out.fault);
    assert_int_equal(tn_proto_unpack(&DESCRIPTOR, a->out.response, a->out.arena,
                                     (ProtobufCMessage **)(void *)&p, NULL),
                     TN_OK);
    assert_int_equal(p->data.len, strlen(data));
    assert_memory_equal(p->data.data, data, p->data.len);
}

static void assert_fault(const attempt *a, tn_grpc_code code, bool unsent)
{
    assert_non_null(a->out.fault);
    assert_int_equal(a->out.fault->code, code);
    assert_int_equal(a->out.unsent, unsent);
}

/* ---- cases ---- */

static void answers(void **state)
{
    (void)state;
    attempt a[50];
    connect_to(port);
    for (size_t i = 0; i < TN_COUNT_OF(a); i++)
        begin(&a[i], i % 5 ? "/test.T/Echo" : "/test.T/Wait", "hello", 0);
    for (size_t i = 0; i < TN_COUNT_OF(a); i++) {
        await(&a[i]);
        assert_answer(&a[i], "hello");
        end(&a[i]);
    }
    call(&a[0], "/test.T/Secret", "", 5 * TN_SEC);
    assert_answer(&a[0], "word/me");
    end(&a[0]);
    hang_up();
}

static void large_answers(void **state)
{
    (void)state;
    static char data[3 << 20];
    attempt a;
    memset(data, 'x', sizeof(data) - 1);
    connect_to(port);
    call(&a, "/test.T/Echo", data, 10 * TN_SEC);
    assert_answer(&a, data);
    end(&a);
    hang_up();
}

static void faults_with_details(void **state)
{
    (void)state;
    attempt a;
    connect_to(port);
    call(&a, "/test.T/Fail", "why", 5 * TN_SEC);
    assert_fault(&a, TN_GRPC_NOT_FOUND, false);
    assert_true(tn_str_is(a.out.fault->message, "100 % \xc3\xa4 \n gone"));
    assert_true(tn_str_is(a.out.fault->detail_type, DESCRIPTOR.name));
    assert_int_equal(a.out.fault->detail.n, a.out.message.n);
    assert_memory_equal(a.out.fault->detail.p, a.out.message.p, a.out.message.n);
    end(&a);
    call(&a, "/test.T/Nothing", "", 5 * TN_SEC);
    assert_fault(&a, TN_GRPC_UNIMPLEMENTED, false);
    end(&a);
    hang_up();
}

static void until_cancelled(uint64_t count)
{
    for (int i = 0; i < 1000 && atomic_load(&cancelled) < count; i++)
        usleep(5000);
    assert_true(atomic_load(&cancelled) >= count);
}

static void deadline(void **state)
{
    (void)state;
    attempt a;
    uint64_t before = atomic_load(&cancelled);
    bool sent = false;
    connect_to(port);
    while (!sent) { /* on a slow machine its time may be over before it leaves */
        call(&a, "/test.T/Stay", "", 50 * TN_MS);
        assert_non_null(a.out.fault);
        assert_int_equal(a.out.fault->code, TN_GRPC_DEADLINE_EXCEEDED);
        sent = !a.out.unsent;
        end(&a);
    }
    until_cancelled(before + 1);
    hang_up();
}

static void a_call_whose_time_is_over_is_not_sent(void **state)
{
    (void)state;
    attempt a;
    connect_to(port);
    call(&a, "/test.T/Echo", "x", 5 * TN_SEC);
    end(&a);
    uint64_t before = atomic_load(&echoed);
    call(&a, "/test.T/Echo", "x", 1); /* a nanosecond has passed when it is sent */
    assert_fault(&a, TN_GRPC_DEADLINE_EXCEEDED, true);
    end(&a);
    call(&a, "/test.T/Echo", "x", 5 * TN_SEC);
    assert_answer(&a, "x");
    assert_int_equal(atomic_load(&echoed), before + 1);
    end(&a);
    hang_up();
}

/* Its role says nothing in time, its rpc does: it lives. */
static void a_slow_host_is_not_a_silent_one(void **state)
{
    (void)state;
    attempt a;
    tn_outcall_stats before, after;
    tn_outcall_stats_get(&before);
    connect_to(port);
    for (size_t i = 0; i < 6; i++) {
        call(&a, "/test.T/Stay", "", 100 * TN_MS);
        assert_non_null(a.out.fault);
        assert_int_equal(a.out.fault->code, TN_GRPC_DEADLINE_EXCEEDED);
        end(&a);
    }
    call(&a, "/test.T/Echo", "x", 5 * TN_SEC);
    assert_answer(&a, "x");
    end(&a);
    tn_outcall_stats_get(&after);
    assert_int_equal(after.breakers_opened, before.breakers_opened);
    assert_int_equal(after.refused, before.refused);
    hang_up();
}

static void cancel(void **state)
{
    (void)state;
    attempt a;
    uint64_t before = atomic_load(&cancelled);
    connect_to(port);
    begin(&a, "/test.T/Wait", "", 5 * TN_SEC);
    usleep(50000);
    tn_loop_call(home(), attempt_cancel, &a);
    await(&a);
    assert_fault(&a, TN_GRPC_CANCELLED, false);
    until_cancelled(before + 1);
    end(&a);
    hang_up();
}

static void nobody_waits(void **state)
{
    (void)state;
    attempt a;
    uint64_t before = atomic_load(&undelivered);
    connect_to(port);
    do {
        call(&a, "/test.T/Lose", "", 50 * TN_MS);
        assert_int_equal(a.out.fault ? a.out.fault->code : TN_GRPC_OK, TN_GRPC_DEADLINE_EXCEEDED);
    } while (a.out.unsent && (end(&a), true));
    for (int i = 0; i < 1000 && atomic_load(&undelivered) == before; i++)
        usleep(5000);
    assert_int_equal(atomic_load(&undelivered), before + 1);
    end(&a);
    hang_up();
}

static void channel_ends_its_calls(void **state)
{
    (void)state;
    attempt a;
    connect_to(port);
    begin(&a, "/test.T/Wait", "", 5 * TN_SEC);
    usleep(50000);
    hang_up();
    await(&a);
    assert_fault(&a, TN_GRPC_UNAVAILABLE, false);
    end(&a);
}

static void unreachable(void **state)
{
    (void)state;
    attempt a;
    fake f;
    uint16_t nobody;
    uint64_t before = atomic_load(&broken_count);
    fake_start(&f, NULL, 0); /* a port that was free a moment ago */
    nobody = f.port;
    shutdown(f.listener, SHUT_RDWR);
    fake_end(&f);
    tn_loop_call(home(), open_watched, &nobody);
    for (int i = 0; i < 5; i++) { /* the later ones at once, while it is waited */
        call(&a, "/test.T/Echo", "", 5 * TN_SEC);
        assert_fault(&a, TN_GRPC_UNAVAILABLE, true);
        end(&a);
    }
    assert_true(atomic_load(&broken_count) > before);
    hang_up();
}

static void drained(void **state)
{
    (void)state;
    attempt a, b;
    tn_outcall_stats before, after;
    uint16_t same = port;
    connect_to(port);
    call(&a, "/test.T/Echo", "x", 5 * TN_SEC);
    end(&a);
    tn_outcall_stats_get(&before);
    begin(&a, "/test.T/Wait", "y", 5 * TN_SEC);
    usleep(50000);
    tn_rpc_server_drain(server, 5 * TN_SEC); /* what is out is answered */
    await(&a);
    assert_answer(&a, "y");
    end(&a);
    tn_rpc_server_destroy(server);
    serve(same);
    call(&b, "/test.T/Echo", "z", 5 * TN_SEC);
    assert_answer(&b, "z");
    end(&b);
    tn_outcall_stats_get(&after);
    assert_int_equal(after.connects, before.connects + 1);
    hang_up();
}

#define SETTINGS "\0\0\0\4\0\0\0\0\0"

static void refused_stream(void **state)
{
    (void)state;
    static const char answer[] = SETTINGS "\0\0\4\3\0\0\0\0\1\0\0\0\7";
    attempt a;
    fake f;
    fake_start(&f, answer, sizeof(answer) - 1);
    connect_to(f.port);
    call(&a, "/test.T/Echo", "", 5 * TN_SEC);
    assert_fault(&a, TN_GRPC_UNAVAILABLE, true);
    end(&a);
    hang_up();
    fake_end(&f);
}

static void going_away_unseen(void **state)
{
    (void)state;
    /* last stream: 0 */
    static const char answer[] = SETTINGS "\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\0";
    attempt a;
    fake f;
    fake_start(&f, answer, sizeof(answer) - 1);
    connect_to(f.port);
    call(&a, "/test.T/Echo", "", 5 * TN_SEC);
    assert_fault(&a, TN_GRPC_UNAVAILABLE, true);
    end(&a);
    hang_up();
    fake_end(&f);
}

static void broken(void **state)
{
    (void)state;
    attempt a;
    fake f;
    uint64_t before = atomic_load(&broken_count);
    fake_start(&f, NULL, 0);
    tn_loop_call(home(), open_watched, &f.port);
    call(&a, "/test.T/Echo", "", 5 * TN_SEC); /* it was read, and may have been obeyed */
    assert_fault(&a, TN_GRPC_UNAVAILABLE, false);
    assert_int_equal(atomic_load(&broken_count), before + 1);
    end(&a);
    hang_up();
    fake_end(&f);
}

/* ---- what is in no hurry ---- */

static void attempt_settle(void *arg)
{
    attempt *a = arg;
    assert_true(tn_outcall_settle(&a->out));
    assert_false(tn_outcall_settle(&a->out));
}

static void settled(void **state)
{
    (void)state;
    attempt a, b;
    uint64_t before = atomic_load(&cancelled);
    connect_to(port);
    call(&b, "/test.T/Echo", "up", 0);
    end(&b);
    begin(&a, "/test.T/Stay", "", 0);
    call(&b, "/test.T/Echo", "it is there", 0);
    end(&b);
    tn_loop_call(home(), attempt_settle, &a);
    await(&a);
    assert_true(!a.out.fault && !a.out.response.n);
    end(&a);
    /* by which the other side has heard of it; on a pipe of itself after a second */
    call(&b, "/test.T/Echo", "company", 0);
    if (piped)
        assert_true(atomic_load(&cancelled) >= before + 1);
    end(&b);
    begin(&a, "/test.T/Stay", "", 0);
    call(&b, "/test.T/Echo", "it is there", 0);
    end(&b);
    tn_loop_call(home(), attempt_settle, &a);
    await(&a);
    end(&a);
    until_cancelled(before + 2);
    hang_up();
}

static void easy_answers(void **state)
{
    (void)state;
    attempt a, b;
    connect_to(port);
    call(&b, "/test.T/Echo", "up", 0);
    end(&b);
    begin(&a, "/test.T/Easy", "no hurry", 0);
    call(&b, "/test.T/Echo", "company", 0);
    if (piped)
        assert_int_equal(sem_trywait(&a.done), 0); /* it came before the other */
    else
        await(&a);
    assert_answer(&a, "no hurry");
    end(&a);
    end(&b);
    call(&a, "/test.T/Easy", "alone", 0);
    assert_answer(&a, "alone");
    end(&a);
    hang_up();
}

/* ---- a pipe's own ---- */

static int dial(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}

/* Says it a byte at a time or at once; how many bytes come back until the other side ends it. */
static size_t told(const void *p, size_t n, bool slowly)
{
    int fd = dial();
    size_t back = 0;
    char in[512];
    for (size_t i = 0; i < n; i += slowly ? 1 : n)
        if (send(fd, (const char *)p + i, slowly ? 1 : n, MSG_NOSIGNAL) < 0)
            break;
    for (ssize_t got; (got = recv(fd, in, sizeof(in), 0)) > 0;)
        back += (size_t)got;
    close(fd);
    return back;
}

#define MAGIC "TENON-PIPE/1\r\n\r\n"
#define HELLO(word) \
    "\0\0\0\x1b\1\0\0\0\0" \
    "\1\0" \
    "0123456789abcdef" word
#define GREETED (16 + 9 + 18 + 4) /* bytes that greet us */

static void strangers(void **state)
{
    static const char wrong[] = MAGIC HELLO("wore"), none[] = MAGIC "\0\0\0\5\2\0\0\0\0",
                      huge[] = MAGIC "\0\1\0\0\1";
    static const char small[] = MAGIC "\0\0\0\4\1\0\0\0",
                      twice[] = MAGIC HELLO("word") HELLO("word");
    (void)state;
    assert_int_equal(told(wrong, sizeof(wrong) - 1, false), 0);
    assert_int_equal(told(wrong, sizeof(wrong) - 1, true), 0);
    assert_int_equal(told(none, sizeof(none) - 1, false), 0);
    assert_int_equal(told(huge, sizeof(huge) - 1, false), 0);
    assert_int_equal(told(small, sizeof(small) - 1, false), 0);
    /* the first after a second */
    assert_int_equal(told("TENON", 5, false) + told("TEN\n", 4, false), 0);
    /* the end may overtake the greeting */
    assert_true(told(twice, sizeof(twice) - 1, false) <= GREETED);
}

static void damaged_frames(void **state)
{
    static const char *const frames[] = {"\0\0\0\x6\2\0\0\0\0\0",
                                         "\0\0\0\xf\2\0\0\0\0\0\0\0\0\0\0\0\1\xff\0",
                                         "\0\0\0\5\3\0\0\0\0", "\x7f\xff\xff\xff\2\0\0\0\0"};
    static const size_t sizes[] = {10, 19, 9, 9};
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(frames); i++) {
        char said[128] = MAGIC HELLO("word");
        size_t n = sizeof(MAGIC HELLO("word")) - 1;
        memcpy(said + n, frames[i], sizes[i]);
        assert_true(told(said, n + sizes[i], i % 2) <= GREETED);
    }
}

static void expect(int fd, const char *bytes, size_t n)
{
    char in[256];
    size_t got = 0;
    assert_true(n <= sizeof(in));
    for (ssize_t more; got < n && (more = recv(fd, in + got, n - got, 0)) > 0;)
        got += (size_t)more;
    assert_int_equal(got, n);
    if (bytes)
        assert_memory_equal(in, bytes, n);
}

static int greet_with(const char *hello, size_t n)
{
    int fd = dial();
    assert_int_equal(send(fd, hello, n, MSG_NOSIGNAL), n);
    expect(fd, NULL, GREETED);
    return fd;
}

#define SHOW(word) "\0\0\0\x9\x9\0\0\0\0" word
#define PING "\0\0\0\5\5\0\0\0\0"
#define PONG "\0\0\0\5\6\0\0\0\0"

static void nothing(void *arg) { (void)arg; }

static void use_secrets(const char *shown, const char *believed)
{
    const char *list[] = {shown, believed};
    tn_secrets_use(list, believed ? 2 : 1);
    for (uint32_t i = 0; i < tn_loops_count(); i++) /* each has it among what it sends next */
        tn_loop_call(tn_loops_get(i), nothing, NULL);
}

/* The secret is changed while connections last: who shows the new one stays, who does not is sent away. */
static void rekeyed(void **state)
{
    tn_outcall_stats before, after;
    attempt a;
    char rest[64];
    (void)state;
    whose = other_id; /* a connection of its own */
    connect_to(port);
    call(&a, "/test.T/Secret", "", 5 * TN_SEC);
    assert_answer(&a, "word/me");
    end(&a);
    int honest = greet_with(MAGIC HELLO("word"), 16 + 31),
        stuck = greet_with(MAGIC HELLO("word"), 16 + 31);
    tn_outcall_stats_get(&before);
    assert_int_equal(told(MAGIC HELLO("bowl"), 16 + 31, false), 0);
    use_secrets("word", "bowl");
    expect(honest, SHOW("word"), 13);
    expect(stuck, SHOW("word"), 13);
    int early = greet_with(MAGIC HELLO("bowl"), 16 + 31);
    use_secrets("bowl", "word");
    expect(honest, SHOW("bowl"), 13);
    expect(stuck, SHOW("bowl"), 13);
    call(&a, "/test.T/Secret", "", 5 * TN_SEC);
    assert_answer(&a, "bowl/me");
    end(&a);
    assert_int_equal(send(honest, SHOW("bowl") PING, 13 + 9, MSG_NOSIGNAL), 22);
    expect(honest, PONG, 9);
    rpc_secrets_grace_ns = 0;
    use_secrets("bowl", NULL);
    expect(honest, SHOW("bowl"), 13);
    expect(stuck, SHOW("bowl"), 13);
    expect(early, SHOW("bowl") SHOW("bowl"), 26);
    assert_int_equal(send(stuck, PING, 9, MSG_NOSIGNAL), 9);
    assert_true(recv(stuck, rest, sizeof(rest), 0) <= 0);
    assert_int_equal(send(honest, PING, 9, MSG_NOSIGNAL), 9);
    expect(honest, PONG, 9);
    assert_int_equal(send(early, PING, 9, MSG_NOSIGNAL), 9);
    expect(early, PONG, 9);
    assert_int_equal(send(early, SHOW("word"), 13, MSG_NOSIGNAL), 13);
    assert_true(recv(early, rest, sizeof(rest), 0) <= 0);
    assert_int_equal(told(MAGIC HELLO("word"), 16 + 31, false), 0);
    call(&a, "/test.T/Secret", "", 5 * TN_SEC);
    assert_answer(&a, "bowl/me");
    end(&a);
    tn_outcall_stats_get(&after);
    assert_int_equal(after.connects, before.connects);
    rpc_secrets_grace_ns = 5 * TN_SEC;
    use_secrets("word", NULL);
    hang_up();
    close(honest);
    close(stuck);
    close(early);
}

/* A request in small pieces, one for a method that is not there, a cancelled one, frames of a later release. */
static void frames_in_pieces(void **state)
{
    static const char said[] = MAGIC HELLO("word") "\0\0\0\x1e\2\0\0\0\1"
                                                   "\xff\xff\xff\xff\xff\xff\xff\xff"
                                                   "\x0c/test.T/Echo"
                                                   "\0"
                                                   "\x12\1x"
                                                   "\0\0\0\7\x33\0\0\0\1hi"
                                                   "\0\0\0\x1b\2\0\0\0\2"
                                                   "\xff\xff\xff\xff\xff\xff\xff\xff"
                                                   "\x0c/test.T/Nope"
                                                   "\0"
                                                   "\0\0\0\5\4\0\0\0\3"
                                                   "\0\0\0\5\5\0\0\0\0";
    int fd = dial();
    uint8_t in[512];
    size_t n = 0, whole = GREETED + 13 + 9;
    (void)state;
    for (size_t i = 0; i < sizeof(said) - 1; i++)
        assert_int_equal(send(fd, said + i, 1, MSG_NOSIGNAL), 1);
    for (ssize_t got = 1; got > 0 && (n < whole || in[n - 5] != 6);
         n += (size_t)(got > 0 ? got : 0))
        got = recv(fd, in + n, sizeof(in) - n, 0);
    assert_memory_equal(in, MAGIC, 16);
    assert_memory_equal(in + GREETED, "\0\0\0\x9\3\0\0\0\1\0\x12\1x", 13); /* the echo */
    assert_int_equal(in[GREETED + 13 + 4], 3);
    assert_int_equal(in[GREETED + 13 + 9], TN_GRPC_UNIMPLEMENTED);
    assert_memory_equal(in + n - 9, "\0\0\0\5\6\0\0\0\0", 9); /* the pong */
    close(fd);
}

/* A host of an older release speaks HTTP/2 only: what was asked of it meanwhile arrives. */
static void older_release(void **state)
{
    tn_rpc_server *newer = server;
    uint16_t at = port;
    attempt a[8];
    (void)state;
    piped = false;
    serve(0);
    piped = true;
    connect_to(port);
    for (size_t i = 0; i < TN_COUNT_OF(a); i++)
        begin(&a[i], "/test.T/Echo", "old", 10 * TN_SEC);
    for (size_t i = 0; i < TN_COUNT_OF(a); i++) {
        await(&a[i]);
        assert_answer(&a[i], "old");
        end(&a[i]);
    }
    hang_up();
    tn_rpc_server_destroy(server);
    server = newer;
    port = at;
}

/* One connection is enough for many channels to a host, whoever opened it. */
static void shared(void **state)
{
    tn_outcall_stats before, after;
    static const uint8_t fresh[16] = {11};
    attempt a;
    (void)state;
    tn_pipes_identity(fresh, "word");
    whose = fresh;
    connect_to(port);
    call(&a, "/test.T/Echo", "x", 5 * TN_SEC);
    end(&a);
    tn_channel *first = channel;
    tn_outcall_stats_get(&before);
    connect_to(port);
    call(&a, "/test.T/Secret", "", 5 * TN_SEC);
    assert_answer(&a, "word/me");
    end(&a);
    tn_outcall_stats_get(&after);
    assert_int_equal(after.connects, before.connects);
    hang_up();
    channel = first;
    hang_up();
}

static int start_http2(void **state)
{
    tn_error err = {0};
    (void)state;
    tn_rpc_register(methods, TN_COUNT_OF(methods));
    if (tn_loops_create(2, &err) != TN_OK)
        return -1;
    serve(0);
    tn_loops_run();
    return 0;
}

static int stop_http2(void **state)
{
    (void)state;
    tn_rpc_server_destroy(server);
    return 0;
}

static int start_pipes(void **state)
{
    (void)state;
    piped = true;
    tn_pipes_identity(host_id, "word");
    serve(0);
    return 0;
}

/* To a host whose server listens on a local socket, too. */
static int start_local(void **state)
{
    (void)state;
    whose = other_id;
    tn_pipes_identity(other_id, "word");
    serve(0);
    tn_pipes_identity(host_id, "word");
    return 0;
}

static uint64_t locally_connected(void)
{
    tn_outcall_stats stats;
    tn_outcall_stats_get(&stats);
    return stats.connects_local;
}

static void by_local_socket(void **state)
{
    attempt a;
    (void)state;
    uint64_t before = locally_connected();
    connect_to(port);
    call(&a, "/test.T/Secret", "", 5 * TN_SEC);
    assert_answer(&a, "word/me");
    end(&a);
    hang_up();
    assert_int_equal(locally_connected(), before + 1);
    tn_pipes_use_local(false);
    connect_to(port);
    call(&a, "/test.T/Secret", "", 5 * TN_SEC);
    assert_answer(&a, "word/me");
    end(&a);
    hang_up();
    tn_pipes_use_local(true);
    assert_int_equal(locally_connected(), before + 1);
}

static int stop(void **state)
{
    stop_http2(state);
    tn_secrets_forget();
    tn_loops_stop();
    tn_loops_destroy();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(large_answers),
        cmocka_unit_test(faults_with_details),
        cmocka_unit_test(deadline),
        cmocka_unit_test(a_slow_host_is_not_a_silent_one),
        cmocka_unit_test(a_call_whose_time_is_over_is_not_sent),
        cmocka_unit_test(cancel),
        cmocka_unit_test(nobody_waits),
        cmocka_unit_test(channel_ends_its_calls),
        cmocka_unit_test(unreachable),
        cmocka_unit_test(drained),
        cmocka_unit_test(refused_stream),
        cmocka_unit_test(settled),
        cmocka_unit_test(easy_answers),
        cmocka_unit_test(going_away_unseen),
        cmocka_unit_test(broken),
    };
    const struct CMUnitTest by_pipe[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(large_answers),
        cmocka_unit_test(faults_with_details),
        cmocka_unit_test(deadline),
        cmocka_unit_test(a_slow_host_is_not_a_silent_one),
        cmocka_unit_test(a_call_whose_time_is_over_is_not_sent),
        cmocka_unit_test(cancel),
        cmocka_unit_test(nobody_waits),
        cmocka_unit_test(channel_ends_its_calls),
        cmocka_unit_test(unreachable),
        cmocka_unit_test(drained),
        cmocka_unit_test(strangers),
        cmocka_unit_test(damaged_frames),
        cmocka_unit_test(frames_in_pieces),
        cmocka_unit_test(settled),
        cmocka_unit_test(easy_answers),
        cmocka_unit_test(older_release),
        cmocka_unit_test(shared),
        cmocka_unit_test(rekeyed),
    };
    const struct CMUnitTest locally[] = {
        cmocka_unit_test(by_local_socket),
        cmocka_unit_test(answers),
        cmocka_unit_test(large_answers),
        cmocka_unit_test(faults_with_details),
        cmocka_unit_test(deadline),
        cmocka_unit_test(a_slow_host_is_not_a_silent_one),
        cmocka_unit_test(a_call_whose_time_is_over_is_not_sent),
        cmocka_unit_test(cancel),
        cmocka_unit_test(nobody_waits),
        cmocka_unit_test(channel_ends_its_calls),
        cmocka_unit_test(drained),
    };
    int failed = cmocka_run_group_tests(tests, start_http2, stop_http2);
    failed += cmocka_run_group_tests(by_pipe, start_pipes, stop_http2);
    return failed + cmocka_run_group_tests(locally, start_local, stop);
}
