/* SPDX-License-Identifier: MIT */
/* Hosts of our own cluster that have gone wrong: one that takes calls and says nothing, one that never greets, one that reads
 * nothing, ones whose answers are no answers.  What each does to its callers, and that it does nothing to calls of other hosts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rpc/client.h"

#define MAGIC "TENON-PIPE/1\r\n\r\n"
#define HELLO(id, word) \
    "\0\0\0\x1b\1\0\0\0\0" \
    "\1\1" id word
#define PATH "/test.T/Echo"

/* ---- the other host: one connection at a time ---- */

typedef enum manner {
    SERVE,  /* answers OK */
    MUTE,   /* greets and reads, answers nothing */
    SILENT, /* says nothing at all */
    DEAF,   /* greets, and reads nothing then */
    SAY,    /* answers with what it is told to say */
    STRANGE /* no host at all: talks as soon as somebody comes */
} manner;

typedef struct host {
    char id[17];
    int listener;
    uint16_t port;
    _Atomic int manner;
    _Atomic bool stop, hang_up;
    _Atomic uint32_t asked, met;
    const char *say; /* SAY: its id is put in at 5 */
    size_t say_n;
    bool keeps_id, closes;
    pthread_t thread;
} host;

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 10) > 0;
}

static bool say(int fd, const void *p, size_t n)
{
    return send(fd, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static bool greet(const host *h, int fd)
{
    char hello[] = MAGIC HELLO("0123456789abcdef", "word");
    memcpy(hello + 16 + 9 + 2, h->id, 16);
    return say(fd, hello, sizeof(hello) - 1);
}

/* False: the connection has had enough. */
static bool asked(host *h, int fd, const uint8_t *id)
{
    char ok[] = "\0\0\0\6\3\0\0\0\0\0";
    atomic_fetch_add(&h->asked, 1);
    if (atomic_load(&h->manner) == SERVE) {
        memcpy(ok + 5, id, 4);
        return say(fd, ok, sizeof(ok) - 1);
    }
    if (atomic_load(&h->manner) == SAY) {
        char *out = malloc(h->say_n + 1);
        memcpy(out, h->say, h->say_n);
        if (!h->keeps_id && h->say_n >= 9)
            memcpy(out + 5, id, 4);
        bool said = say(fd, out, h->say_n);
        free(out);
        return said && !h->closes;
    }
    return true;
}

static void converse(host *h, int fd)
{
    static uint8_t in[8 << 20];
    size_t n = 0, at = 16;
    atomic_fetch_add(&h->met, 1);
    if (atomic_load(&h->manner) == STRANGE)
        say(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28), at = sizeof(in);
    else if (atomic_load(&h->manner) != SILENT && !greet(h, fd))
        return;
    while (!atomic_load(&h->stop) && !atomic_load(&h->hang_up)) {
        if (atomic_load(&h->manner) == DEAF && n > 16) {
            usleep(5000);
            continue;
        }
        if (!readable(fd))
            continue;
        ssize_t got = recv(fd, in + n, sizeof(in) - n, 0);
        if (got <= 0)
            return;
        n += (size_t)got;
        while (n >= at + 9) {
            size_t size = 4 + ((size_t)in[at] << 24 | (size_t)in[at + 1] << 16 |
                               (size_t)in[at + 2] << 8 | in[at + 3]);
            if (n < at + size)
                break;
            if (in[at + 4] == 2 && !asked(h, fd, in + at + 5))
                return;
            memmove(in + at, in + at + size, n - at - size);
            n -= size;
        }
    }
}

static void *live(void *arg)
{
    host *h = arg;
    while (!atomic_load(&h->stop)) {
        if (!readable(h->listener))
            continue;
        int fd = accept(h->listener, NULL, NULL);
        atomic_store(&h->hang_up, false);
        if (fd >= 0)
            converse(h, fd);
        close(fd);
    }
    return NULL;
}

static void host_start(host *h, const char *id, manner how)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t size = sizeof(addr);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *h = (host){.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    memcpy(h->id, id, 16);
    atomic_store(&h->manner, how);
    assert_int_equal(bind(h->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(h->listener, 8), 0);
    assert_int_equal(getsockname(h->listener, (struct sockaddr *)&addr, &size), 0);
    h->port = ntohs(addr.sin_port);
    assert_int_equal(pthread_create(&h->thread, NULL, live, h), 0);
}

static void host_end(host *h)
{
    atomic_store(&h->stop, true);
    pthread_join(h->thread, NULL);
    close(h->listener);
}

/* ---- we ---- */

typedef struct way {
    const host *to;
    tn_channel *channel;
} way;

typedef struct attempt {
    tn_outcall out;
    sem_t done;
    tn_channel *channel;
} attempt;

static tn_loop *home(void) { return tn_loops_get(0); }

static void open_here(void *arg)
{
    way *w = arg;
    w->channel = tn_channel_create("127.0.0.1", w->to->port, NULL, NULL, NULL);
    tn_channel_to_host(w->channel, (const uint8_t *)w->to->id);
}

static void close_here(void *arg) { tn_channel_destroy(((way *)arg)->channel); }

static void way_open(way *w, const host *to)
{
    w->to = to;
    tn_loop_call(home(), open_here, w);
}

static void way_close(way *w) { tn_loop_call(home(), close_here, w); }

static void attempt_done(tn_outcall *out) { sem_post(&((attempt *)out)->done); }
static void send_here(void *arg)
{
    tn_outcall_send(((attempt *)arg)->channel, &((attempt *)arg)->out);
}

static void begin(attempt *a, const way *w, tn_blob message, uint64_t within_ns)
{
    memset(a, 0, sizeof(*a));
    sem_init(&a->done, 0, 0);
    a->channel = w->channel;
    a->out.arena = tn_arena_create(0);
    a->out.path = PATH;
    a->out.message = message;
    a->out.deadline_mono_ns = tn_now_mono_ns() + within_ns;
    a->out.done = attempt_done;
    tn_loop_call(home(), send_here, a);
}

static void await(attempt *a)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    assert_int_equal(sem_timedwait(&a->done, &until), 0);
}

static void end(attempt *a)
{
    sem_destroy(&a->done);
    tn_arena_destroy(a->out.arena);
}

static void call(attempt *a, const way *w, uint64_t within_ns)
{
    begin(a, w, (tn_blob){NULL, 0}, within_ns);
    await(a);
}

static void assert_well(const way *w)
{
    attempt a;
    call(&a, w, 30 * TN_SEC);
    assert_null(a.out.fault);
    end(&a);
}

static void assert_fault(const attempt *a, tn_grpc_code code, bool unsent)
{
    assert_non_null(a->out.fault);
    assert_int_equal(a->out.fault->code, code);
    assert_int_equal(a->out.unsent, unsent);
}

/* ---- cases ---- */

#define ID_WELL "well------------"
#define ID_ILL "ill-------------"

/* It gets no more calls, but for one now and then that tries; other hosts get theirs; well again, it gets all. */
static void mute(void **state)
{
    host ill, well;
    way to_ill, to_well;
    attempt a[6];
    tn_outcall_stats before, after;
    bool good = false;
    (void)state;
    host_start(&ill, ID_ILL, MUTE);
    host_start(&well, ID_WELL, SERVE);
    way_open(&to_ill, &ill);
    way_open(&to_well, &well);
    tn_outcall_stats_get(&before);
    after = before;
    for (int tries = 0; tries < 20 && after.breakers_opened == before.breakers_opened;
         tries++) { /* some may be late already */
        for (size_t i = 0; i < 5; i++)
            begin(&a[i], &to_ill, (tn_blob){NULL, 0}, 100 * TN_MS);
        for (size_t i = 0; i < 5; i++) {
            assert_well(&to_well);
            await(&a[i]);
            assert_non_null(a[i].out.fault);
            assert_true(a[i].out.fault->code == TN_GRPC_DEADLINE_EXCEEDED ||
                        a[i].out.fault->code == TN_GRPC_UNAVAILABLE);
            end(&a[i]);
        }
        tn_outcall_stats_get(&after);
    }
    assert_int_equal(after.breakers_opened, before.breakers_opened + 1);
    assert_int_equal(after.breakers_open, before.breakers_open + 1);
    for (bool refused = false;
         !refused;) { /* at once; on a slow machine it may be time for one that tries */
        call(&a[5], &to_ill, 100 * TN_MS);
        assert_non_null(a[5].out.fault);
        refused = a[5].out.unsent && memmem(a[5].out.fault->message.p, a[5].out.fault->message.n,
                                            "without an answer", 17);
        end(&a[5]);
    }
    assert_well(&to_well);
    atomic_store(&ill.manner, SERVE);
    for (int i = 0; !good && i < 3000; i++) {
        call(&a[5], &to_ill, 5 * TN_SEC);
        good = !a[5].out.fault;
        end(&a[5]);
        usleep(good ? 0 : 10000);
    }
    assert_true(good);
    assert_well(&to_ill);
    tn_outcall_stats_get(&after);
    assert_int_equal(after.breakers_open, before.breakers_open);
    assert_true(after.refused > before.refused);
    way_close(&to_ill);
    way_close(&to_well);
    host_end(&ill);
    host_end(&well);
}

#define LARGE (1u << 20)

static uint64_t crowded(void)
{
    tn_outcall_stats stats;
    tn_outcall_stats_get(&stats);
    return stats.crowded;
}

/* What waits for it is bounded; more is refused with the reason, and surely not begun.  How many were taken. */
static size_t fill(const way *w, attempt *a, size_t max)
{
    static uint8_t large[LARGE];
    uint64_t before = crowded();
    size_t n = 0;
    while (n < max && crowded() == before)
        begin(&a[n++], w, tn_blob_from(large, LARGE), 300 * TN_SEC);
    assert_int_equal(crowded(), before + 1);
    await(&a[--n]);
    assert_fault(&a[n], TN_GRPC_RESOURCE_EXHAUSTED, true);
    assert_true(a[n].out.fault->detail.n > 0);
    end(&a[n]);
    return n;
}

static void deaf(void **state)
{
    static attempt a[64];
    host ill, well;
    way to_ill, to_well;
    (void)state;
    host_start(&ill, ID_ILL, DEAF);
    host_start(&well, ID_WELL, SERVE);
    way_open(&to_ill, &ill);
    way_open(&to_well, &well);
    size_t n = fill(&to_ill, a, TN_COUNT_OF(a)); /* its socket takes some, too */
    assert_true(n >= 15);
    assert_well(&to_well);
    atomic_store(&ill.manner, MUTE);
    atomic_store(&ill.hang_up, true);
    for (size_t i = 0; i < n; i++) {
        await(&a[i]);
        assert_non_null(a[i].out.fault);
        if (a[i].out.fault->code !=
            TN_GRPC_UNAVAILABLE) /* it had waited for the greeting, and then for too many others */
            assert_fault(&a[i], TN_GRPC_RESOURCE_EXHAUSTED, true);
        end(&a[i]);
    }
    assert_true(a[n - 1].out.unsent); /* it had never left */
    way_close(&to_ill);
    way_close(&to_well);
    host_end(&ill);
    host_end(&well);
}

static void silent(void **state)
{
    static attempt a[64];
    host ill;
    way to_ill;
    (void)state;
    host_start(&ill, ID_ILL, SILENT);
    way_open(&to_ill, &ill);
    size_t n = fill(&to_ill, a, TN_COUNT_OF(a));
    assert_true(n >= 15 && n <= 17);
    for (size_t i = 0; i < n; i++) {
        await(&a[i]);
        assert_fault(&a[i], TN_GRPC_UNAVAILABLE, true);
        end(&a[i]);
    }
    way_close(&to_ill);
    host_end(&ill);
}

/* Whatever listens where a host was is not connected to again with each call. */
static void who_is_no_host_is_left_alone_for_a_while(void **state)
{
    host ill;
    way to_ill;
    attempt a;
    (void)state;
    host_start(&ill, ID_ILL, STRANGE);
    way_open(&to_ill, &ill);
    for (int i = 0; i < 100; i++) {
        call(&a, &to_ill, 120 * TN_SEC);
        assert_non_null(a.out.fault);
        assert_int_equal(a.out.fault->code, TN_GRPC_UNAVAILABLE);
        end(&a);
    }
    assert_in_range(atomic_load(&ill.met), 1, 20);
    way_close(&to_ill);
    host_end(&ill);
}

typedef struct nonsense {
    const char *what, *say;
    size_t n;
    bool keeps_id, closes;
    int code; /* that the caller sees */
    bool unsent;
} nonsense;

#define SAID(text) (text), sizeof(text) - 1

static const nonsense all_nonsense[] = {
    {"an answer of nothing", SAID("\0\0\0\5\3\0\0\0\0"), false, false, TN_GRPC_UNAVAILABLE, false},
    {"an answer to what never was", SAID("\0\0\0\6\3\0\x0f\xff\xff\0"), true, false,
     TN_GRPC_UNAVAILABLE, false},
    {"a use of the id that was never made, then the end", SAID("\0\0\0\6\3\0\x20\0\0\0"), true,
     true, TN_GRPC_UNAVAILABLE, false},
    {"no HTTP, no pipe", SAID("HTTP/1.1 400 Bad Request\r\n\r\n"), true, false, TN_GRPC_UNAVAILABLE,
     false},
    {"a frame of 4 GiB", SAID("\xff\xff\xff\xff\3\0\0\0\0"), false, false, TN_GRPC_UNAVAILABLE,
     false},
    {"a frame without a head", SAID("\0\0\0\0\3\0\0\0\0"), false, false, TN_GRPC_UNAVAILABLE,
     false},
    {"half a frame, then the end", SAID("\0\0\x10\0\3\0\0\0\0\0half"), false, true,
     TN_GRPC_UNAVAILABLE, false},
    {"another greeting", SAID("\0\0\0\x1b\1\0\0\0\0\1\1" ID_ILL "word"), true, false,
     TN_GRPC_UNAVAILABLE, false},
    {"another secret", SAID("\0\0\0\x9\x9\0\0\0\0wore"), true, false, TN_GRPC_UNAVAILABLE, false},
    {"a damaged request", SAID("\0\0\0\7\2\0\0\0\0\1\1"), false, false, TN_GRPC_UNAVAILABLE, false},
    {"nothing was done", SAID("\0\0\0\6\3\0\0\0\0\xff"), false, false, TN_GRPC_UNAVAILABLE, true},
    {"a status of none", SAID("\0\0\0\6\3\0\0\0\0\xc8"), false, false, TN_GRPC_UNKNOWN, false},
    {"an error whose text is not there", SAID("\0\0\0\x8\3\0\0\0\0\x0d\xff\xff"), false, false,
     TN_GRPC_INTERNAL, false},
    {"an error without a word", SAID("\0\0\0\6\3\0\0\0\0\x0d"), false, false, TN_GRPC_INTERNAL,
     false},
    {"an error whose detail's type is not there", SAID("\0\0\0\xc\3\0\0\0\0\x0d\0\2no\x7f\xff"),
     false, false, TN_GRPC_INTERNAL, false},
};

static void hostile(void **state)
{
    host well;
    way to_well;
    (void)state;
    host_start(&well, ID_WELL, SERVE);
    way_open(&to_well, &well);
    for (size_t i = 0; i < TN_COUNT_OF(all_nonsense); i++) {
        const nonsense *of = &all_nonsense[i];
        host ill;
        way to_ill;
        attempt a;
        print_message("           %s\n", of->what);
        host_start(&ill, ID_ILL, MUTE);
        ill.say = of->say, ill.say_n = of->n, ill.keeps_id = of->keeps_id, ill.closes = of->closes;
        atomic_store(&ill.manner, SAY);
        way_open(&to_ill, &ill);
        begin(&a, &to_ill, (tn_blob){NULL, 0}, 120 * TN_SEC);
        await(&a);
        assert_fault(&a, (tn_grpc_code)of->code, of->unsent);
        end(&a);
        assert_well(&to_well);
        way_close(&to_ill);
        host_end(&ill);
    }
    way_close(&to_well);
    host_end(&well);
}

static int start(void **state)
{
    static const uint8_t self[16] = "we-------------";
    tn_error err = {0};
    (void)state;
    if (tn_loops_create(1, &err) != TN_OK)
        return -1;
    tn_pipes_use_local(false);
    tn_pipes_identity(self, "word");
    tn_loops_run();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    tn_secrets_forget();
    tn_loops_stop();
    tn_loops_destroy();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mute),    cmocka_unit_test(deaf),
        cmocka_unit_test(silent),  cmocka_unit_test(who_is_no_host_is_left_alone_for_a_while),
        cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
