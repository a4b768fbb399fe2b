/* SPDX-License-Identifier: MIT */
/* Heads of HTTP/1.1 requests and chunked bodies: what is read, and what two readers could read differently is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/http1.h"

static char seen[4096];

static void take(void *user, tn_str name, tn_str value)
{
    size_t n = strlen(seen);
    (void)user;
    snprintf(seen + n, sizeof(seen) - n, "%.*s=%.*s;", (int)name.n, name.p, (int)value.n, value.p);
}

static rpc_h1_head read_head(const char *text)
{
    size_t n = strlen(text), from = 0, end;
    uint8_t *copy = malloc(n + 1); /* its own block, so that a byte too many is noticed */
    rpc_h1_head head;

    memcpy(copy, text, n);
    seen[0] = '\0';
    end = rpc_h1_head_end(copy, n, &from);
    assert_int_equal(end, n);
    rpc_h1_head_read(copy, n, &head, take, NULL);
    free(copy);
    return head;
}

#define L1 "POST /a?b HTTP/1.1\r\nHost: h\r\n"

static void heads(void **state)
{
    rpc_h1_head head = read_head(L1 "X-Y:  v w \t\r\nEmpty:\r\nContent-Length: 12\r\n\r\n");

    (void)state;
    assert_int_equal(head.status, 0);
    assert_string_equal(seen, ":method=POST;:path=/a?b;host=h;x-y=v w;empty=;content-length=12;");
    assert_int_equal(head.length, 12);
    assert_true(head.keep_alive);
    assert_false(read_head("GET / HTTP/1.0\r\n\r\n").keep_alive);
    assert_true(read_head("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
    assert_false(read_head(L1 "Connection: close\r\n\r\n").keep_alive);
    head = read_head(L1 "Transfer-Encoding: Chunked\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(head.status, 0);
    assert_true(head.chunked && head.expect);
}

static void refused_heads(void **state)
{
    static const struct {
        const char *text;
        unsigned status;
    } facts[] = {
        {L1 "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
        {L1 "Content-Length: 1, 1\r\n\r\n", 400},
        {L1 "Content-Length: +1\r\n\r\n", 400},
        {L1 "Content-Length: -1\r\n\r\n", 400},
        {L1 "Content-Length: 0x1\r\n\r\n", 400},
        {L1 "Content-Length:\r\n\r\n", 400},
        {L1 "Content-Length: 99999999999999999999\r\n\r\n", 400},
        {L1 "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {L1 "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
        {L1 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
        {L1 "Transfer-Encoding: identity\r\n\r\n", 501},
        {L1 "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {L1 "Transfer-Encoding: chunked, identity\r\n\r\n", 501},
        {L1 "Transfer-Encoding: xchunked\r\n\r\n", 501},
        {L1 "Transfer-Encoding:\x0b"
            "chunked\r\n\r\n",
         400},
        {L1 "Transfer-Encoding : chunked\r\n\r\n", 400},
        {L1 " Transfer-Encoding: chunked\r\n\r\n", 400},
        {L1 "X: a\r\n b\r\n\r\n", 400},
        {L1 "X: a\nContent-Length: 5\r\n\r\n", 400},
        {L1 "X: a\rContent-Length: 5\r\n\r\n", 400},
        {L1 "X y: a\r\n\r\n", 400},
        {L1 ": a\r\n\r\n", 400},
        {L1 "X\r\n\r\n", 400},
        {L1 "Host: h2\r\n\r\n", 400},
        {L1 "Expect: 200-ok\r\n\r\n", 417},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400},
        {"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505},
        {"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505},
        {"GET / HTTP/0.9\r\nHost: h\r\n\r\n", 505},
        {"GET / XTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /\r\nHost: h\r\n\r\n", 400},
        {"FOO / HTTP/1.1\r\nHost: h\r\n\r\n", 501},
        {"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    };
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(facts); i++) {
        rpc_h1_head head = read_head(facts[i].text);
        if (head.status != facts[i].status)
            fail_msg("%s: %u", facts[i].text, head.status);
        assert_false(head.keep_alive);
    }
}

/* The body, or "BAD", or "MORE"; fed in pieces of `step` bytes. */
static const char *body(const char *text, size_t step)
{
    static char out[256];
    rpc_h1_chunks chunks = {0};
    size_t n = strlen(text), used, m = 0;

    for (size_t at = 0; at < n;) {
        tn_blob data = {NULL, 0};
        switch (rpc_h1_chunks_feed(&chunks, (const uint8_t *)text + at,
                                   n - at < step ? n - at : step, &used, &data)) {
        case RPC_H1_DATA:
            memcpy(out + m, data.p, data.n);
            m += data.n;
            break;
        case RPC_H1_END:
            snprintf(out + m, sizeof(out) - m, "|%zu", n - at - used);
            return out;
        case RPC_H1_BAD:
            return "BAD";
        case RPC_H1_MORE:
            break;
        }
        at += used;
    }
    return "MORE";
}

static void chunks(void **state)
{
    static const char *const facts[][2] = {
        {"5\r\nhello\r\n0\r\n\r\nrest", "hello|4"},
        {"5;a=b\r\nhello\r\n1\r\n!\r\n0;x\r\nT: v\r\n\r\n", "hello!|0"},
        {"0\r\n\r\n", "|0"},
        {"A\r\n0123456789\r\n00\r\n\r\n", "0123456789|0"},
        {"5\r\nhello\r\n", "MORE"},
        {"5\nhello\r\n0\r\n\r\n", "BAD"},
        {"5\r\rhello", "BAD"},
        {"5 \r\nhello\r\n0\r\n\r\n", "BAD"},
        {" 5\r\nhello", "BAD"},
        {"0x5\r\nhello", "BAD"},
        {"-1\r\n", "BAD"},
        {"\r\n", "BAD"},
        {"5\r\nhelloX\n", "BAD"},
        {"5\r\nhello\r\r", "BAD"},
        {"5;a\nb\r\nhello", "BAD"},
        {"000000005\r\nhello", "BAD"},
        {"FFFFFFFFF\r\n", "BAD"},
        {"0\r\nT\x01: v\r\n\r\n", "BAD"},
        {"0\r\n T: v\r\n\r\n", "BAD"},
    };
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(facts); i++) {
        for (size_t step = 1; step < 9; step++) {
            const char *got = body(facts[i][0], step);
            /* In small pieces the rest is not all seen. */
            size_t n = strcspn(facts[i][1], "|");
            if (strncmp(got, facts[i][1], n) != 0)
                fail_msg("%s in steps of %zu: %s", facts[i][0], step, got);
        }
        assert_string_equal(body(facts[i][0], 100), facts[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(heads), cmocka_unit_test(refused_heads),
                                       cmocka_unit_test(chunks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
