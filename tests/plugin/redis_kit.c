/* SPDX-License-Identifier: MIT */
/* What concerns persistence/redis alone: what it refuses to start on, what it says when Redis is in trouble, and
 * that UNCERTAIN is said exactly when the outcome isn't known.  Each case starts a redis-server of its own on
 * loopback, with its files in the case's folder, and ends it by its pid.
 *
 *   redis_kit PLUGIN.so [CASE]... */
#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugin/kit.h"

#define T 5u
#define ARGS_MAX 40

static const char *so_path;

/* ---- a Redis of the case's own ------------------------------------------------------------------ */

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    KIT_CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, n) == 0 &&
              getsockname(fd, (struct sockaddr *)&at, &n) == 0);
    close(fd);
    return ntohs(at.sin_port);
}

typedef struct redis {
    pid_t pid;
    int port;
    char dir[300];
    redisContext *admin;
} redis;

static void redis_connect(redis *r)
{
    for (int i = 0; i < 2000; i++) {
        redisContext *c = redisConnect("127.0.0.1", r->port);
        redisReply *reply = c && !c->err ? redisCommand(c, "PING") : NULL;
        bool up = reply && (reply->type == REDIS_REPLY_STATUS ||
                            (reply->type == REDIS_REPLY_ERROR && strstr(reply->str, "NOAUTH")));
        freeReplyObject(reply);
        if (up) {
            r->admin = c;
            return;
        }
        redisFree(c);
        usleep(5000);
    }
    kit_fail(__FILE__, __LINE__, "redis-server does not answer (is it installed?)");
}

static void redis_run(redis *r, const char *const *more)
{
    char port[8];
    const char *args[ARGS_MAX] = {
        "redis-server", "--port",        port,    "--bind",       "127.0.0.1", "--dir",
        r->dir,         "--save",        "",      "--appendonly", "yes",       "--logfile",
        "log",          "--appendfsync", "always"};
    size_t n = 15;
    snprintf(port, sizeof port, "%d", r->port);
    while (more && *more)
        args[n++] = *more++;
    r->pid = fork();
    KIT_CHECK(r->pid >= 0);
    if (r->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(args[0], (char *const *)(uintptr_t)args);
        _exit(127);
    }
    redis_connect(r);
}

static redis redis_start(const char *const *more)
{
    static int number;
    redis r = {.port = free_port()};
    snprintf(r.dir, sizeof r.dir, "%s/redis%d", kit_dir(), number++);
    KIT_CHECK(mkdir(r.dir, 0755) == 0);
    redis_run(&r, more);
    return r;
}

static void redis_kill(redis *r)
{
    redisFree(r->admin);
    r->admin = NULL;
    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
}

static redisReply *ask(redis *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = redisvCommand(r->admin, format, args);
    va_end(args);
    KIT_CHECK(reply);
    if (reply->type == REDIS_REPLY_ERROR)
        kit_fail(__FILE__, __LINE__, "%s: %s", format, reply->str);
    return reply;
}
#define TELL(...) freeReplyObject(ask(__VA_ARGS__))

static void cut_clients(redis *r) { TELL(r, "CLIENT KILL TYPE normal SKIPME yes"); }

static void configure(int port, const char *more)
{
    char stanza[1500];
    snprintf(stanza, sizeof stanza,
             "connectAddr: 127.0.0.1:%d\nautoSetup: true\nkeyPrefix: \"k:\"\n%s", port, more);
    kit_configure(so_path, stanza);
}

static void expect_refusal(const char *word)
{
    const char *why = kit_try_open();
    if (!why)
        kit_fail(__FILE__, __LINE__, "it opened, and should have said \"%s\"", word);
    if (!strstr(why, word))
        kit_fail(__FILE__, __LINE__, "it said \"%s\", not \"%s\"", why, word);
}

static tn_status try_put(const char *row, const char *value)
{
    tn_store_batch batch = kit_batch();
    tn_store_batch_put(&batch, kit_key(T, "p", row), kit_text(value));
    return kit_commit(&batch, NULL);
}

/* Until it works again (a back-off may have to pass). */
static void put_again(const char *row, const char *value)
{
    tn_status status = TN_EUNAVAILABLE;
    for (int i = 0; i < 500 && status != TN_OK; i++) {
        status = try_put(row, value);
        KIT_CHECK(status == TN_OK || status == TN_EUNAVAILABLE);
        usleep(status == TN_OK ? 0 : 20000);
    }
    if (status != TN_OK)
        kit_fail(__FILE__, __LINE__, "no recovery: %s", kit_error()->text);
}

static void check_row(const char *row, const char *value)
{
    tn_row got;
    tn_status status = TN_EUNAVAILABLE;
    for (int i = 0; i < 500 && status == TN_EUNAVAILABLE; i++) {
        status = kit_get(kit_key(T, "p", row), &got);
        usleep(status == TN_EUNAVAILABLE ? 20000 : 0);
    }
    KIT_EQUAL(status, value ? TN_OK : TN_ENOTFOUND);
    if (value)
        KIT_CHECK(tn_blob_eq(got.value, kit_text(value)));
}

/* A commit that Redis refuses: UNAVAILABLE, a word of the reason, nothing of it stays. */
static void expect_refused_put(const char *row, const char *word)
{
    KIT_EQUAL(try_put(row, "never"), TN_EUNAVAILABLE);
    if (!strstr(kit_error()->text, word))
        kit_fail(__FILE__, __LINE__, "it said \"%s\", not \"%s\"", kit_error()->text, word);
}

/* ---- what it starts on -------------------------------------------------------------------------- */

static void refuses_what_is_not_durable(void)
{
    static const struct {
        const char *name, *bad, *good;
    } settings[] = {{"appendfsync", "everysec", "always"},
                    {"appendonly", "no", "yes"},
                    {"no-appendfsync-on-rewrite", "yes", "no"}};
    redis r = redis_start(NULL);
    for (size_t i = 0; i < TN_COUNT_OF(settings); i++) {
        char said[80];
        TELL(&r, "CONFIG SET %s %s", settings[i].name, settings[i].bad);
        snprintf(said, sizeof said, "Redis has %s %s", settings[i].name, settings[i].bad);
        configure(r.port, "");
        expect_refusal(said);
        configure(r.port, "allowVolatile: true");
        kit_open();
        KIT_EQUAL(try_put("a", "one"), TN_OK);
        kit_close();
        TELL(&r, "CONFIG SET %s %s", settings[i].name, settings[i].good);
    }
    TELL(&r, "CONFIG SET maxmemory-policy allkeys-lru");
    configure(r.port, "");
    expect_refusal("maxmemory-policy allkeys-lru");
    configure(r.port, "allowVolatile: true");
    expect_refusal("maxmemory-policy allkeys-lru");
    redis_kill(&r);
}

static void looks_again_when_it_reconnects(void)
{
    redis r = redis_start(NULL);
    configure(r.port, "");
    kit_open();
    KIT_EQUAL(try_put("a", "one"), TN_OK);
    TELL(&r, "CONFIG SET appendfsync everysec");
    cut_clients(&r);
    KIT_CHECK(try_put("a", "two") != TN_OK); /* unless the cut was noticed before, it is in doubt */
    for (int i = 0; i < 50; i++) {
        KIT_EQUAL(try_put("a", "two"), TN_EUNAVAILABLE);
        KIT_CHECK(strstr(kit_error()->text, "everysec"));
        usleep(5000);
    }
    TELL(&r, "CONFIG SET appendfsync always");
    put_again("a", "three");
    check_row("a", "three");
    TELL(&r, "DEL k:{schema}"); /* another Redis under the same address, or an emptied one */
    cut_clients(&r);
    KIT_CHECK(try_put("a", "four") != TN_OK);
    expect_refused_put("a", "no Tenon schema");
    kit_close();
    redis_kill(&r);
}

static void wants_its_schema(void)
{
    redis r = redis_start(NULL);
    kit_configure(so_path,
                  tn_arena_printf(tn_arena_create(0), "connectAddr: 127.0.0.1:%d", r.port));
    TELL(&r, "HSET tenon:{schema} version 2");
    expect_refusal("version 2 is stored");
    TELL(&r, "HSET tenon:{schema} version 1");
    kit_open();
    KIT_EQUAL(try_put("a", "one"), TN_OK);
    kit_close();
    redis_kill(&r);
}

static void refuses_bad_settings(void)
{
    static const char *const bad[][2] = {
        {"connectAddr: \"127.0.0.1:0\"", "no port"},
        {"connectAddr: \"::1:6379\"", "in brackets"},
        {"keyPrefix: \"x\"", "exactly one of"},
        {"connectAddr: a\nsentinels: [\"b:1\"]", "exactly one of"},
        {"sentinels: [\"b:1\"]", "masterName"},
        {"cluster: [\"b:1\"]\ndatabase: 3", "database 0 only"},
        {"connectAddr: a\nkeyPrefix: \"x{y\"", "no braces"},
        {"connectAddr: a\nuser: u", "has no password"},
        {"connectAddr: a\nwaitTimeout: 0s", "within 1ms"},
        {"connectAddr: a\ntls: {caFile: /nowhere}", "enabled is not true"},
        {"connectAddr: a\ntls: {enabled: true, caFile: /nowhere}", "tls.caFile"},
        {"connectAddr: a\nnothing: 1", "unknown key"},
    };
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++) {
        kit_configure(so_path, bad[i][0]);
        expect_refusal(bad[i][1]);
    }
    kit_configure(so_path,
                  tn_arena_printf(tn_arena_create(0), "connectAddr: 127.0.0.1:%d", free_port()));
    expect_refusal("Connection refused");
}

/* ---- trouble ------------------------------------------------------------------------------------ */

static void refusals_change_nothing(void)
{
    redis r = redis_start(NULL), other = redis_start(NULL);
    configure(r.port, "");
    kit_open();
    KIT_EQUAL(try_put("a", "one"), TN_OK);
    TELL(&r, "CONFIG SET maxmemory 1");
    expect_refused_put("b", "no memory");
    check_row("a", "one");
    TELL(&r, "CONFIG SET maxmemory 0");
    TELL(&r, "CONFIG SET min-replicas-to-write 1");
    expect_refused_put("b", "min-replicas");
    TELL(&r, "CONFIG SET min-replicas-to-write 0");
    KIT_EQUAL(try_put("a", "two"), TN_OK);
    TELL(&r, "SCRIPT FLUSH");
    KIT_EQUAL(try_put("a", "three"), TN_OK);
    TELL(&r, "SCRIPT FLUSH");
    tn_range range = {.struct_size = sizeof range, .from = kit_key(T, "p", ""), .limit = 9};
    tn_page page;
    KIT_EQUAL(kit_scan(&range, &page), TN_OK);
    KIT_EQUAL(page.n_rows, 1);
    TELL(&r, "REPLICAOF 127.0.0.1 %d", other.port);
    expect_refused_put("b", "replica");
    TELL(&r, "REPLICAOF NO ONE");
    TELL(&r, "HSET k:{schema} version 1"); /* the other's data is here now */
    put_again("b", "four");
    check_row("b", "four");
    kit_close();
    redis_kill(&r);
    redis_kill(&other);
}

static void a_sick_disk(void)
{
    redis r = redis_start(NULL);
    char path[400];
    configure(r.port, "");
    kit_open();
    KIT_EQUAL(try_put("a", "one"), TN_OK);
    snprintf(path, sizeof path, "%s/dump.rdb", r.dir); /* a snapshot cannot take this name */
    KIT_CHECK(mkdir(path, 0755) == 0);
    TELL(&r, "CONFIG SET save %s", "1000 1000");
    TELL(&r, "BGSAVE");
    for (int i = 0;; i++) {
        redisReply *reply = ask(&r, "INFO persistence");
        bool failed = strstr(reply->str, "rdb_last_bgsave_status:err");
        freeReplyObject(reply);
        if (failed)
            break;
        KIT_CHECK(i < 1000);
        usleep(5000);
    }
    expect_refused_put("b", "MISCONF");
    check_row("a", "one");
    KIT_CHECK(rmdir(path) == 0);
    TELL(&r, "BGSAVE");
    put_again("b", "two");
    check_row("b", "two");
    kit_close();
    redis_kill(&r);
}

static void damage_is_noticed(void)
{
    redis r = redis_start(NULL);
    tn_row row;
    tn_page page;
    configure(r.port, "");
    kit_open();
    KIT_EQUAL(try_put("a", "one"), TN_OK);
    KIT_EQUAL(try_put("b", "two"), TN_OK);
    redisReply *was = ask(&r, "HGET k:{70}:5 a");
    tn_range range = {.struct_size = sizeof range, .from = kit_key(T, "p", ""), .limit = 9};
    /* the version before that is Redis's own business */
    for (size_t i = 8; i < (size_t)was->len; i++) {
        was->str[i] ^= 0x10;
        TELL(&r, "HSET k:{70}:5 a %b", was->str, (size_t)was->len);
        was->str[i] ^= 0x10;
        KIT_EQUAL(kit_get(kit_key(T, "p", "a"), &row), TN_EDATALOSS);
        KIT_EQUAL(kit_scan(&range, &page), TN_EDATALOSS);
        check_row("b", "two");
    }
    for (size_t n = 0; n < (size_t)was->len; n++) {
        TELL(&r, "HSET k:{70}:5 a %b", was->str, n);
        KIT_EQUAL(kit_get(kit_key(T, "p", "a"), &row), TN_EDATALOSS);
    }
    TELL(&r, "HSET k:{70}:5 b %b", was->str, (size_t)was->len); /* a row in another's place */
    KIT_EQUAL(kit_get(kit_key(T, "p", "b"), &row), TN_EDATALOSS);
    KIT_EQUAL(try_put("a", "new"), TN_OK);
    KIT_EQUAL(try_put("b", "new"), TN_OK);
    check_row("a", "new");
    KIT_EQUAL(kit_scan(&range, &page), TN_OK);
    TELL(&r, "HDEL k:{70}:5 a"); /* in the order, yet gone */
    KIT_EQUAL(kit_scan(&range, &page), TN_EDATALOSS);
    TELL(&r, "SET k:{70}:9 text");
    KIT_EQUAL(kit_get(kit_key(9, "p", "a"), &row), TN_EDATALOSS);
    freeReplyObject(was);
    kit_close();
    redis_kill(&r);
}

static void versions_outlive_the_counter(void)
{
    redis r = redis_start(NULL);
    configure(r.port, "");
    kit_open();
    uint64_t last = 0;
    for (int i = 0; i < 20; i++) {
        uint64_t version = kit_put(kit_key(T, "p", "a"), "v");
        KIT_CHECK(version > last);
        last = version;
        TELL(&r, "DEL k:{70}:v"); /* as a fail-over might lose it */
        usleep(1000);
    }
    kit_close();
    redis_kill(&r);
}

static void the_largest_value(void)
{
    redis r = redis_start(NULL);
    size_t n = (size_t)64 << 20;
    uint8_t *big = tn_xmalloc(n);
    for (size_t i = 0; i < n; i++)
        big[i] = (uint8_t)(i * 2654435761u >> 11);
    configure(r.port, "");
    kit_open();
    tn_store_batch batch = kit_batch();
    tn_store_batch_put(&batch, kit_key(T, "p", "big"), tn_blob_from(big, n));
    tn_store_batch_put(&batch, kit_key(T, "p", "small"), kit_text("x"));
    tn_status status = TN_EUNCERTAIN; /* a slow disk may take longer than the server would wait */
    for (int i = 0; i < 5 && status == TN_EUNCERTAIN; i++)
        status = kit_commit(&batch, NULL);
    KIT_EQUAL(status, TN_OK);
    check_row("small", "x");
    tn_row row;
    KIT_EQUAL(kit_get(kit_key(T, "p", "big"), &row), TN_OK);
    KIT_CHECK(row.value.n == n && memcmp(row.value.p, big, n) == 0);
    tn_range range = {.struct_size = sizeof range, .from = kit_key(T, "p", ""), .limit = 9};
    tn_page page;
    KIT_EQUAL(kit_scan(&range, &page), TN_OK);
    KIT_EQUAL(page.n_rows, 1); /* a page is bounded */
    range.page = page.next;
    KIT_EQUAL(kit_scan(&range, &page), TN_OK);
    KIT_EQUAL(page.n_rows, 1);
    KIT_EQUAL(page.next.n, 0);
    kit_close();
    free(big);
    redis_kill(&r);
}

/* ---- broken connections ------------------------------------------------------------------------- */

/* Between the driver and Redis: passes bytes until told to do harm to the next connection that carries a commit. */
typedef enum harm { PASS, CUT_REQUEST, HALF_REQUEST, CUT_ANSWER, SWALLOW, REFUSE } harm;
static struct {
    int listener, port, target;
    _Atomic int harm;
    _Atomic int done; /* how often harm was done */
} proxy;

typedef struct pair {
    int near, far;
} pair;

static bool carries_commit(const char *bytes, ssize_t n)
{
    return n > 0 && memmem(bytes, (size_t)n, "EVALSHA", 7) != NULL;
}

static bool send_all(int fd, const char *bytes, size_t n)
{
    while (n) {
        ssize_t put = send(fd, bytes, n, MSG_NOSIGNAL);
        if (put <= 0)
            return false;
        bytes += put;
        n -= (size_t)put;
    }
    return true;
}

static void *pump(void *arg)
{
    pair p = *(pair *)arg;
    char bytes[65536];
    bool armed = false;
    free(arg);
    for (;;) {
        struct pollfd fds[2] = {{.fd = p.near, .events = POLLIN}, {.fd = p.far, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            break;
        if (fds[0].revents) {
            ssize_t n = recv(p.near, bytes, sizeof bytes, 0);
            int what = carries_commit(bytes, n) ? proxy.harm : PASS;
            if (n <= 0 || what == CUT_REQUEST)
                break;
            if (what == HALF_REQUEST)
                n /= 2;
            armed = armed || what == CUT_ANSWER || what == SWALLOW;
            if (!send_all(p.far, bytes, (size_t)n) || what == HALF_REQUEST)
                break;
        }
        if (fds[1].revents) {
            ssize_t n = recv(p.far, bytes, sizeof bytes, 0);
            if (n <= 0 || (armed && proxy.harm == CUT_ANSWER))
                break;
            if (!armed && !send_all(p.near, bytes, (size_t)n))
                break;
        }
    }
    if (proxy.harm != PASS)
        proxy.done++;
    close(p.near);
    close(p.far);
    return NULL;
}

static void *accept_all(void *arg)
{
    (void)arg;
    for (;;) {
        int near = accept(proxy.listener, NULL, NULL);
        struct sockaddr_in at = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)proxy.target),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int far = socket(AF_INET, SOCK_STREAM, 0);
        pair *p = tn_xmalloc(sizeof *p);
        pthread_t thread;
        *p = (pair){near, far};
        if (proxy.harm == REFUSE || connect(far, (struct sockaddr *)&at, sizeof at) != 0) {
            close(near);
            close(far);
            free(p);
            continue;
        }
        pthread_create(&thread, NULL, pump, p);
        pthread_detach(thread);
    }
    return NULL;
}

static void proxy_start(int target)
{
    pthread_t thread;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    proxy.target = target;
    proxy.port = free_port();
    at.sin_port = htons((uint16_t)proxy.port);
    proxy.listener = socket(AF_INET, SOCK_STREAM, 0);
    KIT_CHECK(bind(proxy.listener, (struct sockaddr *)&at, sizeof at) == 0 &&
              listen(proxy.listener, 16) == 0);
    pthread_create(&thread, NULL, accept_all, NULL);
}

static void doubt_is_said_when_there_is_doubt(void)
{
    static const struct {
        harm what;
        bool applied;
    } harms[] = {{CUT_REQUEST, false}, {HALF_REQUEST, false}, {CUT_ANSWER, true}, {SWALLOW, true}};
    redis r = redis_start(NULL);
    proxy_start(r.port);
    configure(proxy.port, "commandTimeout: 400ms");
    kit_open();
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < TN_COUNT_OF(harms); i++) {
            char row[16];
            snprintf(row, sizeof row, "%d.%zu", round, i);
            KIT_EQUAL(try_put("before", row), TN_OK);
            proxy.harm = harms[i].what;
            KIT_EQUAL(try_put(row, "x"), TN_EUNCERTAIN);
            proxy.harm = PASS;
            check_row(row, harms[i].applied ? "x" : NULL);
            check_row("before", row);
        }
    KIT_CHECK(proxy.done > 0);
    /* Nothing left, so nothing can have happened. */
    proxy.harm = REFUSE;
    cut_clients(&r);
    KIT_CHECK(try_put("refused", "x") != TN_OK);
    for (int i = 0; i < 30; i++) {
        KIT_EQUAL(try_put("refused", "x"), TN_EUNAVAILABLE);
        usleep(5000);
    }
    proxy.harm = PASS;
    check_row("refused", NULL);
    put_again("refused", "y");
    kit_close();
    redis_kill(&r);
}

static void reads_survive_a_cut(void)
{
    redis r = redis_start(NULL);
    configure(r.port, "");
    kit_open();
    KIT_EQUAL(try_put("a", "one"), TN_OK);
    for (int i = 0; i < 100; i++) {
        cut_clients(&r);
        tn_row row;
        KIT_EQUAL(kit_get(kit_key(T, "p", "a"), &row), TN_OK);
    }
    kit_close();
    redis_kill(&r);
}

static void a_silent_server(void)
{
    redis r = redis_start(NULL);
    configure(r.port, "commandTimeout: 300ms\nconnectTimeout: 300ms");
    kit_open();
    KIT_EQUAL(try_put("a", "one"), TN_OK);
    kill(r.pid, SIGSTOP);
    uint64_t began = tn_now_mono_ns();
    KIT_EQUAL(try_put("a", "two"), TN_EUNCERTAIN);
    KIT_CHECK(tn_now_mono_ns() - began < 3 * TN_SEC);
    KIT_EQUAL(try_put("b", "three"), TN_EUNAVAILABLE); /* never got a connection */
    kill(r.pid, SIGCONT);
    put_again("c", "four");
    check_row("a", "two"); /* it had got it */
    check_row("b", NULL);
    kit_close();
    redis_kill(&r);
}

static void a_killed_server(void)
{
    redis r = redis_start(NULL);
    configure(r.port, "");
    kit_open();
    for (int round = 0; round < 5; round++) {
        char value[16];
        snprintf(value, sizeof value, "%d", round);
        put_again("a", value);
        redis_kill(&r);
        KIT_EQUAL(try_put("a", "dead"), TN_EUNAVAILABLE);
        redis_run(&r, NULL);
        check_row("a", value);
    }
    kit_close();
    redis_kill(&r);
}

static void check_none_yet(redis *r)
{
    redisReply *reply = ask(r, "EXISTS k:{70}:5");
    KIT_EQUAL(reply->integer, 0);
    freeReplyObject(reply);
}

static void put_again_confirmed(const char *row, const char *value)
{
    tn_status status = TN_EUNCERTAIN;
    for (int i = 0; i < 500 && status != TN_OK; i++) {
        status = try_put(row, value);
        usleep(status == TN_OK ? 0 : 20000);
    }
    KIT_EQUAL(status, TN_OK);
}

static void replicas_confirm(void)
{
    redis r = redis_start(NULL);
    redis replica = redis_start(NULL);
    configure(r.port, "waitReplicas: 1\nwaitTimeout: 200ms");
    kit_open(); /* it starts; a loop's connection wants the replica to be there */
    expect_refused_put("a", "0 of 1 replicas");
    check_none_yet(&r);
    TELL(&replica, "REPLICAOF 127.0.0.1 %d", r.port);
    put_again_confirmed("b", "both");
    redisReply *reply = redisCommand(replica.admin, "HEXISTS k:{70}:5 b");
    KIT_EQUAL(reply->integer, 1);
    freeReplyObject(reply);
    tn_store_batch batch = kit_batch(); /* a refusal needs no replica */
    tn_store_batch_cond(&batch, TN_COND_ABSENT, kit_key(T, "p", "b"), 0);
    redis_kill(&replica);
    KIT_EQUAL(kit_commit(&batch, NULL), TN_ECONFLICT);
    KIT_EQUAL(try_put("c", "alone"), TN_EUNCERTAIN);
    KIT_CHECK(strstr(kit_error()->text, "0 of 1 replicas"));
    reply = ask(&r, "HEXISTS k:{70}:5 c");
    KIT_EQUAL(reply->integer, 1); /* the master has it; a fail-over would not */
    freeReplyObject(reply);
    kit_close();
    redis_kill(&r);
}

/* ---- ways in ------------------------------------------------------------------------------------ */

static void passwords_and_rights(void)
{
    redis r = redis_start(NULL);
    char stanza[300];
    TELL(
        &r,
        "ACL SETUSER tenon on >secret ~k:* resetchannels +client|setname +select +role +config|get "
        "+script|load +evalsha +eval +hget +hmget +hset +hsetnx +hdel +zadd +zrem +zrangebylex "
        "+zrevrangebylex +zremrangebylex +get +set +time +ping +wait");
    TELL(&r, "ACL SETUSER default -@all +acl|setuser +client|kill +ping");
    configure(r.port, "");
    expect_refusal("may not do that");
    configure(r.port, "user: tenon\npassword: wrong");
    expect_refusal("refuses the user or password");
    snprintf(stanza, sizeof stanza, "user: tenon\npassword: secret\ndatabase: 3");
    configure(r.port, stanza);
    kit_open();
    KIT_EQUAL(try_put("a", "one"), TN_OK);
    tn_store_batch batch = kit_batch();
    tn_store_batch_delete(&batch, kit_key(T, "p", "a"));
    tn_store_batch_delete_range(&batch, kit_key(T, "p", "a"), kit_text("z"));
    tn_store_batch_put(&batch, kit_key(T, "p", "b"), kit_text("two"));
    KIT_EQUAL(kit_commit(&batch, NULL), TN_OK);
    check_row("b", "two");
    for (uint32_t flags = 0; flags < 4; flags++) {
        tn_range range = {
            .struct_size = sizeof range, .flags = flags, .from = kit_key(T, "p", ""), .limit = 9};
        tn_page page;
        KIT_EQUAL(kit_scan(&range, &page), TN_OK);
        KIT_EQUAL(page.n_rows, 1);
    }
    /* taken away: the counter and a row are written before it fails */
    TELL(&r, "ACL SETUSER tenon -zadd");
    KIT_EQUAL(try_put("c", "three"), TN_EUNCERTAIN);
    TELL(&r, "ACL SETUSER tenon -evalsha");
    KIT_EQUAL(try_put("c", "three"), TN_EUNAVAILABLE);
    kit_close();
    redis_kill(&r);
}

static void a_socket_of_this_machine(void)
{
    char path[400], stanza[600];
    snprintf(path, sizeof path, "%s/s", kit_dir());
    redis r = redis_start((const char *const[]){"--unixsocket", path, NULL});
    snprintf(stanza, sizeof stanza, "connectAddr: %s\nautoSetup: true\nkeyPrefix: \"k:\"", path);
    kit_configure(so_path, stanza);
    kit_open();
    KIT_EQUAL(try_put("a", "one"), TN_OK);
    check_row("a", "one");
    kit_close();
    redis_kill(&r);
}

static void shell(const char *format, ...)
{
    char command[2000];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    KIT_CHECK(system(command) == 0);
}

static void tls(void)
{
    const char *d = kit_dir();
    char paths[6][400], stanza[1900];
    shell("cd %s && for n in ca other; do openssl req -x509 -newkey rsa:2048 -nodes -keyout $n.key "
          "-out $n.crt "
          "-subj /CN=$n -days 2 2>/dev/null; done && for n in server client; do openssl req "
          "-newkey rsa:2048 -nodes "
          "-keyout $n.key -out $n.csr -subj /CN=$n 2>/dev/null && printf "
          "'subjectAltName=DNS:redis.test,IP:127.0.0.1' "
          "> $n.ext && openssl x509 -req -in $n.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days "
          "2 -extfile $n.ext "
          "-out $n.crt 2>/dev/null; done",
          d);
    static const char *const names[] = {"server.crt", "server.key", "ca.crt",
                                        "client.crt", "client.key", "other.crt"};
    for (int i = 0; i < 6; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s", d, names[i]);
    int port = free_port();
    char port_text[8];
    snprintf(port_text, sizeof port_text, "%d", port);
    redis r = redis_start((const char *const[]){"--tls-port", port_text, "--tls-cert-file",
                                                paths[0], "--tls-key-file", paths[1],
                                                "--tls-ca-cert-file", paths[2], NULL});
    static const char form[] =
        "connectAddr: 127.0.0.1:%d\nautoSetup: true\nkeyPrefix: \"k:\"\ntls:\n  enabled: true\n"
        "  caFile: %s\n  certFile: %s\n  keyFile: %s\n  %s";
    snprintf(stanza, sizeof stanza, form, port, paths[5], paths[3], paths[4],
             "serverName: redis.test");
    kit_configure(so_path, stanza);
    expect_refusal("certificate");
    snprintf(stanza, sizeof stanza, form, port, paths[2], paths[3], paths[4],
             "serverName: other.test");
    kit_configure(so_path, stanza);
    expect_refusal("ostname mismatch");
    snprintf(stanza, sizeof stanza, form, r.port, paths[2], paths[3], paths[4],
             "serverName: redis.test");
    kit_configure(so_path, stanza); /* a port without TLS */
    expect_refusal("TLS");
    for (int round = 0; round < 2; round++) { /* by name; by address */
        snprintf(stanza, sizeof stanza, form, port, paths[2], paths[3], paths[4],
                 round ? "enableHostVerification: true" : "serverName: redis.test");
        kit_configure(so_path, stanza);
        kit_open();
        size_t n = (size_t)8 << 20; /* larger than any buffer on the way */
        uint8_t *big = tn_xmalloc(n);
        memset(big, 'x', n);
        tn_store_batch batch = kit_batch();
        tn_store_batch_put(&batch, kit_key(T, "p", "big"), tn_blob_from(big, n));
        KIT_EQUAL(kit_commit(&batch, NULL), TN_OK);
        tn_row row;
        KIT_EQUAL(kit_get(kit_key(T, "p", "big"), &row), TN_OK);
        KIT_CHECK(row.value.n == n && memcmp(row.value.p, big, n) == 0);
        for (int i = 0; i < 20; i++) {
            cut_clients(&r);
            check_row("big2", NULL);
            put_again("a", "one");
        }
        free(big);
        kit_close();
    }
    redis_kill(&r);
}

static const kit_case cases[] = {
    {"refuses what is not durable", refuses_what_is_not_durable},
    {"looks again when it reconnects", looks_again_when_it_reconnects},
    {"wants its schema", wants_its_schema},
    {"refuses bad settings", refuses_bad_settings},
    {"refusals change nothing", refusals_change_nothing},
    {"a sick disk", a_sick_disk},
    {"damage is noticed", damage_is_noticed},
    {"versions outlive the counter", versions_outlive_the_counter},
    {"the largest value", the_largest_value},
    {"doubt is said when there is doubt", doubt_is_said_when_there_is_doubt},
    {"reads survive a cut", reads_survive_a_cut},
    {"a silent server", a_silent_server},
    {"a killed server", a_killed_server},
    {"replicas confirm", replicas_confirm},
    {"passwords and rights", passwords_and_rights},
    {"a socket of this machine", a_socket_of_this_machine},
    {"TLS", tls},
};

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: redis_kit PLUGIN.so [CASE]...\n");
        return 2;
    }
    so_path = argv[1];
    tn_log_configure(TN_LOG_NEVER, false);
    return kit_run("redis", cases, TN_COUNT_OF(cases), argc - 2, argv + 2);
}
