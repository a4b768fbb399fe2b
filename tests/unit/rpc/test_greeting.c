/* SPDX-License-Identifier: MIT */
/* What hosts show each other (core/rpc/secrets.h, pipe.c): a word bound to whom it is said to, so that whatever listens where a host
 * was learns nothing with which it could pass as a host; the word itself for hosts of older releases only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/client.h"
#include "rpc/rpc.h"
#include "rpc/secrets.h"
#include "temporal/api/common/v1/message.pb-c.h"

#define WORD "0123456789abcdef"
#define MAGIC "TENON-PIPE/1\r\n\r\n"
#define DESCRIPTOR temporal__api__common__v1__payload__descriptor

/* Ids of version 8 and 4. */
static const uint8_t us[16] = {1, 2, 3, 4, 5, 6, 0x80, 8, 0x80, 1},
                     peer[16] = {9, 9, 9, 9, 9, 9, 0x8f, 9, 0x80},
                     older[16] = {7, 7, 7, 7, 7, 7, 0x4f, 7, 0x80};
static tn_rpc_server *server;
static uint16_t port;

static void reply(tn_call *call) { tn_call_reply(call, call->request); }

static void check_secret(tn_call *call)
{
    if (tn_secret_known(tn_call_header(call, "tenon-internode")))
        tn_call_reply(call, call->request);
    else
        tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_PERMISSION_DENIED, "who is it"));
}

static const tn_rpc_method methods[] = {{.path = "/test.G/Echo",
                                         .input = &DESCRIPTOR,
                                         .output = &DESCRIPTOR,
                                         .handle = reply,
                                         .flags = TN_RPC_INTERNAL | TN_RPC_ANY_PORT},
                                        {.path = "/test.G/Known",
                                         .input = &DESCRIPTOR,
                                         .output = &DESCRIPTOR,
                                         .handle = check_secret,
                                         .flags = TN_RPC_INTERNAL | TN_RPC_ANY_PORT}};

/* ---- by hand ---- */

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

static size_t hello(uint8_t *out, const uint8_t id[16], const char *word)
{
    size_t n = strlen(word);
    memcpy(out, MAGIC, 16);
    tn_put_u32be(out + 16, (uint32_t)(5 + 18 + n));
    memcpy(out + 20, "\1\0\0\0\0\1\0", 7);
    memcpy(out + 27, id, 16);
    memcpy(out + 43, word, n);
    return 43 + n;
}

/* The word that is shown back; empty: the connection was ended. */
static void greeted_back(const uint8_t id[16], const char *word, char out[128])
{
    uint8_t bytes[256];
    size_t n = hello(bytes, id, word), got = 0, want = 16 + 4;
    int fd = dial();
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
    for (ssize_t more; got < want && (more = recv(fd, bytes + got, sizeof(bytes) - got, 0)) > 0;) {
        got += (size_t)more;
        if (got >= 20)
            want = 20 + tn_get_u32be(bytes + 16);
    }
    close(fd);
    n = got > 43 ? got - 43 : 0;
    memcpy(out, bytes + 43, n);
    out[n] = '\0';
    if (n) {
        assert_int_equal(got, want);
        assert_memory_equal(bytes + 27, us, 16);
    }
}

static const char *bound_to(const uint8_t id[16])
{
    static rpc_showing showing[4];
    static size_t next;
    rpc_showing *s = &showing[next++ % 4];
    s->set = NULL;
    return rpc_showing_to(s, id, true).p;
}

static void a_word_is_good_at_its_host_alone(void **state)
{
    char said[128];
    (void)state;
    assert_string_not_equal(bound_to(us), bound_to(peer));
    assert_null(strstr(bound_to(us), WORD));
    greeted_back(peer, bound_to(us), said);
    assert_string_equal(said, bound_to(peer));
    greeted_back(peer, bound_to(peer), said); /* what a host has shown to it, or we have */
    assert_string_equal(said, "");
    greeted_back(us, bound_to(peer), said);
    assert_string_equal(said, "");
}

static void a_damaged_word_is_refused(void **state)
{
    char said[128], word[64];
    (void)state;
    for (size_t n = 0; n < strlen(bound_to(us)); n++) {
        snprintf(word, sizeof(word), "%s", bound_to(us));
        word[n] = n % 2 ? '\0' : (char)(word[n] ^ 1);
        greeted_back(peer, word, said);
        assert_string_equal(said, "");
    }
    snprintf(word, sizeof(word), "%s0", bound_to(us));
    greeted_back(peer, word, said);
    assert_string_equal(said, "");
}

/* One of an older release is told apart by what it shows, too: its id alone could be anybody's. */
static void the_word_itself_is_for_older_hosts(void **state)
{
    char said[128];
    (void)state;
    greeted_back(older, WORD, said);
    assert_string_equal(said, WORD);
    greeted_back(older, bound_to(us), said);
    assert_string_equal(said, bound_to(older));
    greeted_back(peer, WORD, said);
    assert_string_equal(said, bound_to(peer));
}

static void a_changed_word_is_shown_bound(void **state)
{
    static const char *const words[] = {"another word", WORD};
    uint8_t bytes[256], show[256];
    size_t got = 0, n = hello(bytes, peer, bound_to(us)), greeting = 43 + strlen(bound_to(peer));
    int fd = dial();
    (void)state;
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
    for (ssize_t more; got < greeting && (more = recv(fd, show + got, greeting - got, 0)) > 0;)
        got += (size_t)more;
    assert_int_equal(got, greeting);
    tn_secrets_use(words, 2);
    const char *fresh = bound_to(peer);
    n = 9 + strlen(fresh), got = 0;
    for (ssize_t more; got < n && (more = recv(fd, show + got, n - got, 0)) > 0;)
        got += (size_t)more;
    assert_int_equal(got, n);
    assert_int_equal(show[4], 9); /* SHOW */
    assert_memory_equal(show + 9, fresh, n - 9);
    close(fd);
    tn_secrets_use(words + 1, 1);
}

/* ---- by a channel ---- */

typedef struct attempt {
    tn_outcall out;
    sem_t done;
    tn_channel *channel;
    const uint8_t *to;
    bool to_frontend;
    uint16_t port;
} attempt;

static void came(tn_outcall *out) { sem_post(&((attempt *)out)->done); }

static void begin(void *arg)
{
    attempt *a = arg;
    a->channel = tn_channel_create("127.0.0.1", a->port, NULL, NULL, NULL);
    if (a->to_frontend)
        tn_channel_share_pipes(a->channel, a->to);
    else
        tn_channel_to_host(a->channel, a->to);
    tn_outcall_send(a->channel, &a->out);
}

static void attempt_begin(attempt *a, const char *path, const uint8_t *to, uint16_t at)
{
    sem_init(&a->done, 0, 0);
    a->out = (tn_outcall){.arena = tn_arena_create(0),
                          .path = path,
                          .message = tn_blob_of_str(TN_STR("\x12\x07request")),
                          .deadline_mono_ns = tn_now_mono_ns() + 20 * TN_SEC,
                          .done = came};
    a->to = to;
    a->port = at;
    tn_loop_call(tn_loops_get(0), begin, a);
}

static void close_channel(void *arg) { tn_channel_destroy(((attempt *)arg)->channel); }

static void attempt_end(attempt *a)
{
    while (sem_wait(&a->done) != 0) {
    }
    tn_loop_call(tn_loops_get(0), close_channel, a);
}

static int listen_as_dead_host(uint16_t *out_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t size = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &size), 0);
    *out_port = ntohs(addr.sin_port);
    return fd;
}

/* All that an impostor is told, of a call to `to`; it answers `answer` to the first bytes. */
static size_t overheard(const uint8_t *to, bool to_frontend, const char *answer, size_t answer_n,
                        uint8_t *all, size_t size)
{
    attempt a = {.to_frontend = to_frontend};
    struct timeval patience = {.tv_usec = 300000};
    uint16_t at;
    size_t n = 0;
    int listener = listen_as_dead_host(&at);
    attempt_begin(&a, "/test.G/Echo", to, at);
    for (int i = 0; i < (answer_n ? 2 : 1); i++) {
        setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            break; /* nobody comes a second time */
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        for (ssize_t more; n < size && (more = recv(fd, all + n, size - n, 0)) > 0;) {
            n += (size_t)more;
            if (answer_n && i == 0)
                (void)!send(fd, answer, answer_n, MSG_NOSIGNAL);
        }
        close(fd);
    }
    close(listener);
    tn_loop_call(tn_loops_get(0), close_channel, &a);
    while (sem_wait(&a.done) != 0) {
    }
    assert_non_null(a.out.fault);
    tn_arena_destroy(a.out.arena);
    return n;
}

static bool tells(const uint8_t *all, size_t n, const char *text)
{
    return memmem(all, n, text, strlen(text)) != NULL;
}

static void who_listens_where_a_host_was_learns_nothing(void **state)
{
    static const char preface[] = "\0\0\0\4\0\0\0\0\0"; /* as if it were of an older release */
    uint8_t all[4096];
    (void)state;
    size_t n = overheard(peer, false, NULL, 0, all, sizeof(all));
    assert_true(n > 0 && tells(all, n, bound_to(peer)));
    assert_false(tells(all, n, WORD) || tells(all, n, bound_to(us)) || tells(all, n, "request"));
    n = overheard(peer, false, preface, sizeof(preface) - 1, all, sizeof(all));
    assert_true(n > 0 && tells(all, n, bound_to(peer)));
    assert_false(tells(all, n, WORD) || tells(all, n, bound_to(us)) || tells(all, n, "request"));
    n = overheard(peer, true, NULL, 0, all, sizeof(all)); /* HTTP/2, on a public port */
    assert_true(n > 0);
    assert_false(tells(all, n, WORD));
}

static void calls_get_through(void **state)
{
    const uint8_t *const to[] = {us, older}; /* the server is us by either name */
    (void)state;
    for (int i = 0; i < 4; i++) {
        attempt a = {.to_frontend = i % 2 == 0}; /* first by HTTP/2 */
        attempt_begin(&a, "/test.G/Known", to[i / 2], port);
        attempt_end(&a);
        assert_null(a.out.fault);
        tn_arena_destroy(a.out.arena);
        sem_destroy(&a.done);
    }
}

static int start(void **state)
{
    tn_rpc_options options;
    tn_error err = {0};
    static const char *const words[] = {WORD};
    (void)state;
    tn_pipes_use_local(false);
    tn_rpc_register(methods, TN_COUNT_OF(methods));
    if (tn_loops_create(1, &err) != TN_OK)
        return -1;
    tn_secrets_use(words, 1); /* as in a server: keys are read before the host has an id */
    tn_pipes_identity(us, NULL);
    tn_rpc_options_default(&options);
    options.internal = true;
    assert_int_equal(tn_rpc_server_start(&options, &server, &err), TN_OK);
    port = tn_rpc_server_port(server);
    tn_loops_run();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    tn_rpc_server_destroy(server);
    tn_secrets_forget();
    tn_loops_stop();
    tn_loops_destroy();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_is_good_at_its_host_alone),
        cmocka_unit_test(a_damaged_word_is_refused),
        cmocka_unit_test(the_word_itself_is_for_older_hosts),
        cmocka_unit_test(a_changed_word_is_shown_bound),
        cmocka_unit_test(who_listens_where_a_host_was_learns_nothing),
        cmocka_unit_test(calls_get_through),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
