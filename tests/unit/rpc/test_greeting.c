/* SPDX-License-Identifier: MIT */
/* How hosts know each other (core/rpc/secrets.h, pipe.c): each proves that it knows the cluster's word, so that whatever listens
 * where a host was, or has heard others greet, learns nothing with which it could pass as a host; the word itself is shown to hosts of
 * older releases only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
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
#define GREETING (16 + 9 + 18 + 32 + 32)
enum { HELLO = 1, REQUEST, PING = 5, PONG, SHOW = 9, PROOF };
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

static void say(int fd, const void *p, size_t n)
{
    assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), n);
}

static size_t hear(int fd, uint8_t *out, size_t n)
{
    size_t got = 0;
    for (ssize_t more; got < n && (more = recv(fd, out + got, n - got, 0)) > 0;)
        got += (size_t)more;
    return got;
}

static size_t frame(uint8_t *out, uint8_t kind, const void *body, size_t n)
{
    tn_put_u32be(out, (uint32_t)(5 + n));
    out[4] = kind;
    memset(out + 5, 0, 4);
    memcpy(out + 9, body, n);
    return 9 + n;
}

static size_t hello(uint8_t *out, uint8_t version, const uint8_t id[16], const void *rest, size_t n)
{
    uint8_t body[256] = {version, 0};
    memcpy(body + 2, id, 16);
    memcpy(body + 18, rest, n);
    memcpy(out, MAGIC, 16);
    return 16 + frame(out + 16, HELLO, body, 18 + n);
}

static void prove(const char *word, const rpc_meeting *m, char side, uint8_t out[32])
{
    uint8_t text[12 + sizeof(*m)] = "tenon pipe";
    unsigned n = 32;
    text[11] = (uint8_t)side;
    memcpy(text + 12, m, sizeof(*m));
    assert_non_null(HMAC(EVP_sha256(), word, (int)strlen(word), text, sizeof(text), out, &n));
}

/* An opened connection on which we are `id` and have heard the host's proof. */
static int meet(const uint8_t id[16], rpc_meeting *m)
{
    uint8_t bytes[256], right[32];
    int fd = dial();
    memcpy(m->caller, id, 16);
    memcpy(m->server, us, 16);
    memset(m->caller_nonce, 0x5a, sizeof(m->caller_nonce));
    say(fd, bytes, hello(bytes, 2, id, m->caller_nonce, 32));
    assert_int_equal(hear(fd, bytes, GREETING), GREETING);
    assert_int_equal(bytes[25], 2);
    assert_memory_equal(bytes + 27, us, 16);
    memcpy(m->server_nonce, bytes + 43, 32);
    prove(WORD, m, 'S', right);
    assert_memory_equal(bytes + 75, right, 32);
    return fd;
}

/* What is answered to that, and a ping behind it. */
static bool is_taken(int fd, uint8_t kind, const void *body, size_t n)
{
    uint8_t bytes[512];
    size_t size = frame(bytes, kind, body, n);
    size += frame(bytes + size, PING, "", 0);
    (void)!send(fd, bytes, size, MSG_NOSIGNAL);
    bool taken = hear(fd, bytes, 9) == 9 && bytes[4] == PONG;
    close(fd);
    return taken;
}

static void who_proves_is_taken(void **state)
{
    const uint8_t *const ids[] = {peer, older};
    rpc_meeting m, again;
    uint8_t proof[33] = {0};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        int fd = meet(ids[i], &m);
        prove(WORD, &m, 'C', proof);
        assert_true(is_taken(fd, PROOF, proof, 32));
    }
    int fd = meet(older, &again); /* the numbers are never the same */
    assert_memory_not_equal(m.server_nonce, again.server_nonce, 32);
    close(fd);
}

static void no_other_proof_is_taken(void **state)
{
    rpc_meeting m;
    uint8_t proof[33] = {0};
    (void)state;
    int fd = meet(peer, &m);
    prove("another word", &m, 'C', proof);
    assert_false(is_taken(fd, PROOF, proof, 32));
    fd = meet(peer, &m);
    prove(WORD, &m, 'S', proof); /* its own, said back */
    assert_false(is_taken(fd, PROOF, proof, 32));
    fd = meet(peer, &m);
    memcpy(m.caller, older, 16); /* of somebody else */
    prove(WORD, &m, 'C', proof);
    assert_false(is_taken(fd, PROOF, proof, 32));
    const size_t sizes[] = {0, 1, 31, 33};
    for (size_t i = 0; i < TN_COUNT_OF(sizes); i++) {
        fd = meet(peer, &m);
        prove(WORD, &m, 'C', proof);
        assert_false(is_taken(fd, PROOF, proof, sizes[i]));
    }
    fd = meet(peer, &m); /* not a word said */
    assert_false(is_taken(fd, REQUEST, proof, 32));
    fd = meet(peer, &m); /* the word itself after all */
    prove(WORD, &m, 'C', proof);
    assert_false(is_taken(fd, SHOW, WORD, strlen(WORD)));
}

/* All that one host has said to another is of no use to who has heard it. */
static void what_was_heard_is_of_no_use(void **state)
{
    rpc_meeting m;
    uint8_t heard[256], in[256], proof[32];
    (void)state;
    int fd = meet(peer, &m);
    prove(WORD, &m, 'C', proof);
    assert_true(is_taken(fd, PROOF, proof, 32));
    size_t n = hello(heard, 2, peer, m.caller_nonce, 32);
    fd = dial();
    say(fd, heard, n);
    assert_int_equal(hear(fd, in, GREETING), GREETING);
    assert_false(is_taken(fd, PROOF, proof, 32));
}

static void a_second_greeting_ends_it(void **state)
{
    rpc_meeting m;
    uint8_t bytes[256];
    (void)state;
    int fd = meet(peer, &m);
    size_t n = hello(bytes, 2, older, m.caller_nonce, 32);
    assert_false(is_taken(fd, HELLO, bytes + 25, n - 25));
    fd = dial(); /* one that is not whole */
    say(fd, bytes, hello(bytes, 2, peer, m.caller_nonce, 31));
    assert_int_equal(hear(fd, bytes, 1), 0);
    close(fd);
}

static bool greeted_by_word(const char *word)
{
    uint8_t bytes[256];
    int fd = dial();
    say(fd, bytes, hello(bytes, 1, older, word, strlen(word)));
    size_t n = hear(fd, bytes, 43 + strlen(WORD));
    close(fd);
    assert_true(n == 0 || memcmp(bytes + 43, WORD, strlen(WORD)) == 0);
    return n != 0;
}

static const char *said_to(const uint8_t id[16])
{
    static rpc_saying saying;
    saying.set = NULL;
    return rpc_saying_to(&saying, id).p;
}

static void the_word_itself_is_for_older_hosts(void **state)
{
    (void)state;
    assert_true(greeted_by_word(WORD));
    assert_false(greeted_by_word("another word"));
    assert_false(greeted_by_word(said_to(us))); /* what calls by HTTP/2 say */
    assert_string_equal(said_to(older), WORD);
    assert_null(strstr(said_to(peer), WORD));
}

static void another_word_is_proved_anew(void **state)
{
    static const char *const words[] = {"another word", WORD};
    rpc_meeting m;
    uint8_t proof[32], bytes[64];
    (void)state;
    int late = meet(older, &m), fd = meet(peer, &m);
    prove(WORD, &m, 'C', proof);
    size_t n = frame(bytes, PROOF, proof, 32);
    say(fd, bytes, n);
    n = frame(bytes, PING, "", 0);
    say(fd, bytes, n);
    assert_int_equal(hear(fd, bytes, 9), 9); /* it is taken */
    tn_secrets_use(words, 2);
    assert_int_equal(hear(fd, bytes, 41), 41);
    assert_int_equal(bytes[4], SHOW);
    prove("another word", &m, 'S', proof);
    assert_memory_equal(bytes + 9, proof, 32);
    assert_int_equal(hear(late, bytes, 41), 41); /* which has not said anything yet */
    assert_int_equal(bytes[4], SHOW);
    prove("another word", &m, 'C', proof);
    assert_true(is_taken(fd, SHOW, proof, 32));
    close(late);
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

static void learns_nothing(const uint8_t *all, size_t n)
{
    assert_true(n > 0);
    assert_false(tells(all, n, WORD) || tells(all, n, "request"));
}

static void who_listens_where_a_host_was_learns_nothing(void **state)
{
    static const char preface[] = "\0\0\0\4\0\0\0\0\0"; /* as if it were of an older release */
    uint8_t all[4096], bytes[256], nonce[32] = {1};
    rpc_meeting m;
    (void)state;
    size_t n = overheard(peer, false, NULL, 0, all, sizeof(all));
    learns_nothing(all, n);
    assert_int_equal(n, 16 + 9 + 18 + 32);
    learns_nothing(all, overheard(peer, false, preface, sizeof(preface) - 1, all, sizeof(all)));
    n = hello(bytes, 1, peer, said_to(us), strlen(said_to(us)));
    learns_nothing(all, overheard(peer, false, (char *)bytes, n, all, sizeof(all)));
    /* what the host itself has said to somebody else, and its id with a proof of nothing */
    int fd = dial();
    say(fd, bytes, hello(bytes, 2, peer, nonce, 32));
    assert_int_equal(hear(fd, bytes, GREETING), GREETING);
    close(fd);
    learns_nothing(all, overheard(us, false, (char *)bytes, GREETING, all, sizeof(all)));
    memset(&m, 0, sizeof(m));
    n = hello(bytes, 2, peer, &m, 64);
    learns_nothing(all, overheard(peer, false, (char *)bytes, n, all, sizeof(all)));
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
        cmocka_unit_test(who_proves_is_taken),
        cmocka_unit_test(no_other_proof_is_taken),
        cmocka_unit_test(what_was_heard_is_of_no_use),
        cmocka_unit_test(a_second_greeting_ends_it),
        cmocka_unit_test(the_word_itself_is_for_older_hosts),
        cmocka_unit_test(another_word_is_proved_anew),
        cmocka_unit_test(who_listens_where_a_host_was_learns_nothing),
        cmocka_unit_test(calls_get_through),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
