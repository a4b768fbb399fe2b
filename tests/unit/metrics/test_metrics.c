/* SPDX-License-Identifier: MIT */
/* Series, sums over threads, bounds on label values, the text, the endpoint. */
#include <arpa/inet.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "metrics/private.h"

static char *render(void)
{
    tn_buf out = {0};
    tn_metrics_render(&out);
    tn_buf_put_u8(&out, 0);
    return (char *)out.p;
}

static void shown(const char *want)
{
    char *text = render();
    if (!strstr(text, want))
        fail_msg("not in the text: %s", want);
    free(text);
}

static void the_same_labels_are_the_same_series(void **state)
{
    (void)state;
    tn_label a[] = {TN_LABEL_Z("operation", "Start"), TN_LABEL_Z("namespace", "q\"\\\n\xc3\xa9")};
    tn_counter *c = tn_metrics_counter("t_requests", "Requests\nof \\ all.", a, 2);
    assert_ptr_equal(tn_metrics_counter("t_requests", "x", a, 2), c);
    a[0] = TN_LABEL_Z("operation", "Stop");
    assert_ptr_not_equal(tn_metrics_counter("t_requests", "x", a, 2), c);
    tn_counter_add(c, 3);
    tn_counter_inc(c);
    assert_int_equal(tn_counter_value(c), 4);
    shown("# HELP t_requests Requests of   all.\n# TYPE t_requests counter\n"
          "t_requests{operation=\"Start\",namespace=\"q\\\"\\\\\\n\xc3\xa9\"} 4\n"
          "t_requests{operation=\"Stop\",namespace=\"q\\\"\\\\\\n\xc3\xa9\"} 0\n");
}

static void another_type_of_the_same_name_is_not_shown(void **state)
{
    (void)state;
    tn_counter *c = tn_metrics_counter("t_typed", "A counter.", NULL, 0);
    tn_histogram *h = tn_metrics_histogram("t_typed", "A histogram.", TN_BUCKETS_COUNT, NULL, 0);
    tn_gauge *g = tn_metrics_gauge("t_typed", "A gauge.", NULL, 0);
    tn_histogram_observe(h, 1e9);
    tn_gauge_set(g, 5);
    tn_counter_inc(c);
    shown("# TYPE t_typed counter\nt_typed 1\n# ");
}

static double seven(void *user) { return *(double *)user; }

static void gauges(void **state)
{
    (void)state;
    static double value = 7.5;
    tn_gauge *g = tn_metrics_gauge("t_gauge", "A gauge.", NULL, 0);
    tn_gauge_set(g, 2);
    tn_gauge_add(g, -2.25);
    assert_true(tn_gauge_value(g) == -0.25);
    tn_metrics_gauge_fn("t_asked", "Asked for.", &TN_LABEL_Z("k", "v"), 1, seven, &value);
    shown("t_gauge -0.25\n");
    shown("# TYPE t_asked gauge\nt_asked{k=\"v\"} 7.5\n");
}

static void histograms_count_at_their_bounds(void **state)
{
    (void)state;
    tn_histogram *h =
        tn_metrics_histogram("t_sizes", "Sizes.", TN_BUCKETS_BYTES, &TN_LABEL_Z("a", "b"), 1);
    static const double values[] = {0, 256, 257, 67108864, 67108865, 1e12};
    for (size_t i = 0; i < TN_COUNT_OF(values); i++)
        tn_histogram_observe(h, values[i]);
    tn_histogram_observe(h, NAN);
    assert_int_equal(tn_histogram_count(h), 6);
    shown("t_sizes_bucket{a=\"b\",le=\"256\"} 2\nt_sizes_bucket{a=\"b\",le=\"1024\"} 3\n");
    shown("t_sizes_bucket{a=\"b\",le=\"67108864\"} 4\nt_sizes_bucket{a=\"b\",le=\"+Inf\"} 6\n"
          "t_sizes_sum{a=\"b\"} 1000134218242\nt_sizes_count{a=\"b\"} 6\n");
    tn_histogram *s = tn_metrics_histogram("t_seconds", "Times.", TN_BUCKETS_SECONDS, NULL, 0);
    tn_histogram_observe_ns(s, 1500000);
    shown("t_seconds_bucket{le=\"0.001\"} 0\nt_seconds_bucket{le=\"0.002\"} 1\n");
    shown("t_seconds_sum 0.0015\nt_seconds_count 1\n");
}

static void label_values_are_bounded(void **state)
{
    (void)state;
    char name[16], lots[300];
    tn_counter *last = NULL, *other = NULL;
    for (unsigned i = 0; i < TN_METRICS_SERIES_MAX + 50; i++) {
        snprintf(name, sizeof name, "ns%u", i);
        last = tn_metrics_counter("t_many", "Many.", &TN_LABEL_Z("namespace", name), 1);
        tn_counter_inc(last);
        if (i == TN_METRICS_SERIES_MAX)
            other = last;
    }
    assert_ptr_equal(last, other);
    assert_int_equal(tn_counter_value(other), 50);
    shown("t_many{namespace=\"_other_\"} 50\n");
    memset(lots, 'x', sizeof lots);
    memcpy(lots + 127, "\xc3\xa9", 2);
    tn_metrics_counter("t_long", "Long.", &TN_LABEL("v", ((tn_str){lots, sizeof lots})), 1);
    lots[127] = 0;
    char want[400];
    snprintf(want, sizeof want, "t_long{v=\"%s\"} 0\n", lots);
    shown(want);
    tn_metrics_counter("9bad name-x", "Bad.", &TN_LABEL_Z("1\xff", "\xff"), 1);
    shown("_bad_name_x{__=\"?\"} 0\n");
}

static void *adder(void *arg)
{
    for (int i = 0; i < 100000; i++)
        tn_counter_inc(arg);
    return NULL;
}

static void threads_add_up(void **state)
{
    (void)state;
    tn_counter *c = tn_metrics_counter("t_threads", "Threads.", NULL, 0);
    for (int round = 0; round < 3; round++) { /* later rounds take over the shards of the dead */
        pthread_t t[4];
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&t[i], NULL, adder, c), 0);
        free(render());
        for (int i = 0; i < 4; i++)
            pthread_join(t[i], NULL);
    }
    assert_int_equal(tn_counter_value(c), 1200000);
}

static void the_process_is_described(void **state)
{
    (void)state;
    shown("process_resident_memory_bytes ");
    shown("process_open_fds ");
    shown("process_cpu_seconds_total ");
    shown("process_start_time_seconds 1");
}

/* ---- the endpoint ---- */
static tn_metrics_server *server;
static uint16_t port;

static void server_start(void *arg)
{
    (void)arg;
    tn_error err = {0};
    assert_int_equal(tn_metrics_server_open("127.0.0.1", 0, &server, &err), TN_OK);
    port = tn_metrics_server_port(server);
}
static void server_stop(void *arg)
{
    (void)arg;
    tn_metrics_server_close(server);
}

static int dial(void)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

/* Sends and reads until the server closes or `times` answers have come. */
static char *talk(int fd, const char *request, int times)
{
    tn_buf in = {0};
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    for (;;) {
        tn_buf_reserve(&in, 65536);
        ssize_t n = recv(fd, in.p + in.n, 65535, 0);
        if (n <= 0)
            break;
        in.n += (size_t)n;
        in.p[in.n] = 0;
        int answers = 0;
        for (const char *p = (char *)in.p; (p = strstr(p, "HTTP/1.1 ")); p++)
            answers++;
        const char *last = (char *)in.p + in.n;
        if (answers >= times && times && last[-1] == '\n' && !strstr(last - 2, "\r\n"))
            break;
    }
    tn_buf_reserve(&in, 1);
    in.p[in.n] = 0;
    return (char *)in.p;
}

static void expect(const char *request, const char *begins)
{
    int fd = dial();
    char *got = talk(fd, request, 0);
    if (strncmp(got, begins, strlen(begins)) != 0)
        fail_msg("%s\ngot %.60s\nwant %s", request, got, begins);
    free(got);
    close(fd);
}

static void the_endpoint_answers_get_only(void **state)
{
    (void)state;
    tn_error err;
    assert_int_equal(tn_loops_create(1, &err), TN_OK);
    tn_loops_run();
    tn_loop_call(tn_loops_get(0), server_start, NULL);
    expect("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n");
    expect("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n");
    expect("GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 404 ");
    expect("POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 ");
    expect("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 ");
    expect("GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ");
    expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505 ");
    expect("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 413 ");
    expect("\x16\x03\x01\r\n", "HTTP/1.1 400 ");
    char lots[9000];
    memset(lots, 'a', sizeof lots - 1);
    lots[sizeof lots - 1] = 0;
    memcpy(lots, "GET /", 5);
    expect(lots, "HTTP/1.1 431 ");
    /* Two requests on one connection, the second in two pieces, and one that comes while it
     * waits. */
    int fd = dial();
    char *got = talk(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHo", 1);
    assert_memory_equal(got, "HTTP/1.1 200 OK\r\n", 17);
    free(got);
    got = talk(fd, "st: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\nConnection: x, Close\r\n\r\n",
               0);
    assert_memory_equal(got, "HTTP/1.1 404 Not Found\r\n", 24);
    assert_non_null(strstr(got, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(got, "tenon_loop_iterations_total{loop=\"0\"} "));
    free(got);
    close(fd);
    int left = dial(); /* open at the end */
    tn_loop_call(tn_loops_get(0), server_stop, NULL);
    tn_loops_destroy();
    close(left);
}

static void heads_are_read_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int want;
    } cases[] = {
        {"", 0},
        {"GET", 0},
        {"GET / HTTP/1.1\r\nHost: x\r\n", 0},
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest", 27},
        {"GET / HTTP/1.1\nHost: x\n\n", 0},
        {"GET  / HTTP/1.1\r\n\r\n", -400},
        {"GET / HTTP/1.1 \r\n\r\n", -400},
        {"\r\nGET / HTTP/1.1\r\n", -400},
        {"GET / http/1.1\r\n\r\n", -400},
        {"GET / HTTP/1.2\r\n\r\n", -505},
        {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", -400},
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", -400},
        {"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", -400},
        {"GET / HTTP/1.1\r\nHost: x\x01\r\n\r\n", -400},
        {"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", -413},
        {"G\x7fT / HTTP/1.1\r\n\r\n", -400},
    };
    for (size_t i = 0; i < TN_COUNT_OF(cases); i++) {
        tn_http_request r;
        int got = tn_http_parse((const uint8_t *)cases[i].text, strlen(cases[i].text), &r);
        if (got != cases[i].want)
            fail_msg("%s: got %d, want %d", cases[i].text, got, cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_labels_are_the_same_series),
        cmocka_unit_test(another_type_of_the_same_name_is_not_shown),
        cmocka_unit_test(gauges),
        cmocka_unit_test(histograms_count_at_their_bounds),
        cmocka_unit_test(label_values_are_bounded),
        cmocka_unit_test(threads_add_up),
        cmocka_unit_test(the_process_is_described),
        cmocka_unit_test(heads_are_read_strictly),
        cmocka_unit_test(the_endpoint_answers_get_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
