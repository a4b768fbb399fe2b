/* SPDX-License-Identifier: MIT */
/* TLS between the client and the server of this room: who is let in, what handlers are told of him, large messages both
 * ways, renewal, and the ends in which a handshake or a connection may stop.  The sanitizer watches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/settings_tls.h"
#include "metrics/metrics.h"
#include "proto/proto.h"
#include "rpc/client.h"
#include "rpc/rpc.h"
#include "temporal/api/common/v1/message.pb-c.h"

static char folder[] = "/tmp/tenon-tls.XXXXXX";
static tn_settings_tls settings;
static tn_config_tree *tree;
static tn_arena *settings_arena;
static tn_tls *tls;
static tn_rpc_server *server;

#define TN_TLS_NONE TN_TLS_USE_COUNT
#define ECHO "/test.Tls/Echo"
#define WHO "/test.Tls/Who"

static void echo(tn_call *call) { tn_call_reply(call, call->request); }

static void who(tn_call *call)
{
    Temporal__Api__Common__V1__Payload p = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT;
    tn_str subject = tn_call_tls_subject(call);
    tn_blob der = tn_call_peer_cert(call);
    assert_true(subject.n == 0 || (der.n > 100 && der.p[0] == 0x30));
    p.data.data = (uint8_t *)(uintptr_t)subject.p;
    p.data.len = subject.n;
    tn_call_reply(call, &p.base);
}

static void pass(tn_call *call) { call->method->handle(call); }

/* ---- certificates ---- */

static void sh(const char *fmt, ...) TN_PRINTF(1, 2);
static void sh(const char *fmt, ...)
{
    char line[1200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    assert_int_equal(system(line), 0);
}

static void make_ca(const char *name)
{
    sh("cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 "
       "-subj /CN=%s -keyout %s.key "
       "-out %s.pem 2>/dev/null",
       folder, name, name, name);
}

static void sign(const char *ca, const char *name)
{
    sh("cd %s && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "
       "'/O=Acme/CN=%s' -keyout %s.key -out "
       "%s.csr 2>/dev/null && echo 'subjectAltName=IP:127.0.0.1,DNS:cluster.test' >%s.ext && "
       "openssl x509 -req -in %s.csr "
       "-CA %s.pem -CAkey %s.key -CAcreateserial -days 9 -extfile %s.ext -out %s.pem 2>/dev/null",
       folder, name, name, name, name, name, ca, ca, name, name);
}

static size_t load(const char *client_ca)
{
    char yaml[1500];
    snprintf(
        yaml, sizeof(yaml),
        "global:\n  tls:\n    internode:\n"
        "      server: {certFile: %s/node.pem, keyFile: %s/node.key, clientCaFiles: [%s/%s.pem], "
        "requireClientAuth: true}\n"
        "      client: {serverName: cluster.test, rootCaFiles: [%s/ca.pem]}\n"
        "    frontend:\n      server: {certFile: %s/node.pem, keyFile: %s/node.key}\n",
        folder, folder, folder, client_ca, folder, folder, folder);
    tn_config_problems *problems = tn_config_problems_create();
    memset(&settings, 0, sizeof(settings));
    settings_arena = tn_arena_create(0);
    assert_int_equal(
        tn_config_parse("test.yaml", tn_blob_of_str(tn_str_from(yaml)), problems, &tree), TN_OK);
    tn_settings_tls_read(tn_config_root(tree), settings_arena, problems, &settings);
    assert_int_equal(tn_config_problems_count(problems), 0);
    tn_status status = tn_tls_open(&settings, problems, &tls);
    size_t count = tn_config_problems_count(problems);
    assert_int_equal(status, count ? TN_EINVALID : TN_OK);
    tn_config_problems_destroy(problems);
    return count;
}

static void unload(void)
{
    tn_tls_close(tls);
    tls = NULL;
    tn_config_tree_destroy(tree);
    tn_arena_destroy(settings_arena);
}

static void serve(tn_tls_use use, bool internal)
{
    tn_rpc_options options;
    tn_error err = {0};
    tn_rpc_options_default(&options);
    options.port = 0;
    options.internal = internal;
    options.tls = use == TN_TLS_NONE ? NULL : tn_tls_get(tls, use);
    options.dispatch = pass;
    options.message_bytes_max = 16u << 20;
    assert_int_equal(tn_rpc_server_start(&options, &server, &err), TN_OK);
}

/* ---- calls ---- */

typedef struct job {
    tn_outcall out; /* first */
    sem_t done;
    tn_channel *channel;
    const char *path;
    size_t bytes;
    size_t got;
    char text[100];
    int code;
} job;

static void job_done(tn_outcall *out)
{
    job *j = (job *)out;
    Temporal__Api__Common__V1__Payload *p = NULL;
    tn_error err;
    j->code = out->fault ? (int)out->fault->code : 0;
    if (out->fault) {
        snprintf(j->text, sizeof(j->text), TN_STR_FMT, TN_STR_ARG(out->fault->message));
    } else {
        assert_int_equal(tn_proto_unpack(&temporal__api__common__v1__payload__descriptor,
                                         out->response, out->arena, (ProtobufCMessage **)(void *)&p,
                                         &err),
                         TN_OK);
        j->got = p->data.len;
        snprintf(j->text, sizeof(j->text), "%.*s", (int)(p->data.len < 90 ? p->data.len : 90),
                 (char *)p->data.data);
    }
    tn_arena_destroy(out->arena);
    sem_post(&j->done);
}

static void job_send(void *arg)
{
    job *j = arg;
    Temporal__Api__Common__V1__Payload p = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT;
    j->out = (tn_outcall){.arena = tn_arena_create(0),
                          .path = j->path,
                          .deadline_mono_ns = tn_now_mono_ns() + 20 * TN_SEC,
                          .done = job_done};
    p.data.data = tn_arena_zalloc(j->out.arena, j->bytes + 1);
    p.data.len = j->bytes;
    assert_int_equal(tn_proto_pack(&p.base, j->out.arena, &j->out.message), TN_OK);
    tn_outcall_send(j->channel, &j->out);
}

static void channel_open(void *arg)
{
    *(tn_channel **)arg =
        tn_channel_create("127.0.0.1", tn_rpc_server_port(server), "", NULL, NULL);
}

static void channel_close(void *arg) { tn_channel_destroy(arg); }

static job call(tn_channel *channel, const char *path, size_t bytes)
{
    job j = {.channel = channel, .path = path, .bytes = bytes};
    sem_init(&j.done, 0, 0);
    tn_loop_call(tn_loops_get(0), job_send, &j);
    while (sem_wait(&j.done) != 0) {
    }
    sem_destroy(&j.done);
    return j;
}

static tn_channel *open_channel(void)
{
    tn_channel *channel;
    tn_loop_call(tn_loops_get(0), channel_open, &channel);
    return channel;
}

static void end(tn_channel *channel)
{
    tn_loop_call(tn_loops_get(0), channel_close, channel);
    tn_rpc_server_drain(server, TN_SEC);
    tn_rpc_server_destroy(server);
    tn_channels_use_tls(NULL, NULL);
}

/* ---- tests ---- */

static void test_mutual(void **state)
{
    (void)state;
    assert_int_equal(load("ca"), 0);
    serve(TN_TLS_INTERNODE, true);
    tn_channels_use_tls(tn_tls_get(tls, TN_TLS_INTERNODE_CLIENT), NULL);
    tn_channel *channel = open_channel();
    job j = call(channel, WHO, 0);
    assert_int_equal(j.code, 0);
    assert_string_equal(j.text, "CN=node,O=Acme");
    static const size_t sizes[] = {0, 1, 16383, 16384, 16385, 300000, 5000000};
    for (size_t i = 0; i < TN_COUNT_OF(sizes); i++) {
        j = call(channel, ECHO, sizes[i]);
        assert_int_equal(j.code, 0);
        assert_int_equal(j.got, sizes[i]);
    }
    end(channel);
    unload();
}

static void test_plain_client_is_refused(void **state)
{
    (void)state;
    assert_int_equal(load("ca"), 0);
    serve(TN_TLS_INTERNODE, true);
    tn_channel *channel = open_channel();
    job j = call(channel, ECHO, 10);
    assert_int_equal(j.code, TN_GRPC_UNAVAILABLE);
    end(channel);
    unload();
}

static void test_plain_server_is_refused(void **state)
{
    (void)state;
    assert_int_equal(load("ca"), 0);
    serve(TN_TLS_NONE, true);
    tn_channels_use_tls(tn_tls_get(tls, TN_TLS_INTERNODE_CLIENT), NULL);
    tn_channel *channel = open_channel();
    job j = call(channel, ECHO, 10);
    assert_int_equal(j.code, TN_GRPC_UNAVAILABLE);
    end(channel);
    unload();
}

/* A host's own certificate must pass where it will call. */
static void test_own_certificate_is_proved(void **state)
{
    (void)state;
    assert_int_equal(load("stranger"), 1);
    assert_null(tls);
    unload();
}

static void test_no_client_certificate_wanted(void **state)
{
    (void)state;
    assert_int_equal(load("ca"), 0);
    serve(TN_TLS_FRONTEND, true);
    tn_channels_use_tls(tn_tls_get(tls, TN_TLS_FRONTEND_CLIENT), NULL);
    tn_channel *channel = open_channel();
    job j = call(channel, WHO, 0);
    assert_int_equal(j.code, 0);
    assert_string_equal(j.text, "");
    end(channel);
    unload();
}

static void see_idle(void *out) { *(bool *)out = tn_tls_idle(tls); }

/* A reading of the files that is under way still looks at the settings. */
static void wait_idle(void)
{
    bool idle = false;
    for (int i = 0; i < 10000 && !idle; i++) {
        tn_loop_call(tn_loops_get(1), see_idle, &idle);
        if (!idle)
            usleep(1000);
    }
    assert_true(idle);
}

/* New files are taken while a connection is in use; it goes on, the next one has them. */
static void test_renewal(void **state)
{
    (void)state;
    assert_int_equal(load("ca"), 0);
    settings.refresh_ns = 20 * TN_MS;
    settings.check_ns = 50 * TN_MS;
    settings.warning_ns = 3600 * TN_SEC;
    serve(TN_TLS_INTERNODE, true);
    tn_channels_use_tls(tn_tls_get(tls, TN_TLS_INTERNODE_CLIENT), NULL);
    tn_loop_call(tn_loops_get(1), tn_tls_watch, tls);
    tn_label label = TN_LABEL_Z("result", "renewed");
    tn_counter *renewed = tn_metrics_counter("tenon_tls_renewals", "", &label, 1);
    uint64_t before = tn_counter_value(renewed);
    tn_channel *kept = open_channel();
    assert_int_equal(call(kept, ECHO, 100).code, 0);
    sign("ca", "node");
    uint64_t until = tn_now_mono_ns() + 10 * TN_SEC;
    while (tn_counter_value(renewed) < before + 3 && tn_now_mono_ns() < until)
        assert_int_equal(call(kept, ECHO, 100).code, 0);
    assert_true(tn_counter_value(renewed) >=
                before + 3); /* both ports and the calls between hosts */
    tn_channel *later = open_channel();
    assert_int_equal(call(later, ECHO, 100).code, 0);
    tn_loop_call(tn_loops_get(0), channel_close, later);
    tn_loop_call(tn_loops_get(1), tn_tls_unwatch, tls);
    wait_idle();
    end(kept);
    unload();
}

static int set_up(void **state)
{
    static const tn_rpc_method methods[] = {
        {ECHO, &temporal__api__common__v1__payload__descriptor,
         &temporal__api__common__v1__payload__descriptor, TN_RPC_INTERNAL, echo, NULL},
        {WHO, &temporal__api__common__v1__payload__descriptor,
         &temporal__api__common__v1__payload__descriptor, TN_RPC_INTERNAL, who, NULL},
    };
    tn_error err;
    (void)state;
    tn_log_configure(TN_LOG_ERROR, false);
    tn_rpc_register(methods, TN_COUNT_OF(methods));
    assert_int_equal(tn_loops_create(2, &err), TN_OK);
    tn_loops_run();
    assert_non_null(mkdtemp(folder));
    make_ca("ca");
    make_ca("stranger");
    sign("ca", "node");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tn_loops_stop();
    tn_loops_destroy();
    sh("rm -r %s", folder);
    return 0;
}

int main(void)
{
    if (system("openssl version >/dev/null 2>&1") != 0) {
        puts("skipped: no openssl here to make certificates");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutual),
        cmocka_unit_test(test_plain_client_is_refused),
        cmocka_unit_test(test_plain_server_is_refused),
        cmocka_unit_test(test_own_certificate_is_proved),
        cmocka_unit_test(test_no_client_certificate_wanted),
        cmocka_unit_test(test_renewal),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
