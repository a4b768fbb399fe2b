/* SPDX-License-Identifier: MIT */
/* Buckets, and the walk over frame heads: every verdict, with the bytes cut at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rpc/guard.h"

static void bucket(void **state)
{
    rpc_bucket b = {0};
    uint64_t now = 5 * TN_SEC, cost = TN_SEC / 10;

    (void)state;
    for (int i = 0; i < 20; i++)
        assert_true(rpc_bucket_take(&b, now, cost, 20));
    assert_false(rpc_bucket_take(&b, now, cost, 20));
    assert_false(rpc_bucket_take(&b, now + cost - 1, cost, 20));
    assert_true(rpc_bucket_take(&b, now + cost, cost, 20));
    assert_false(rpc_bucket_take(&b, now + cost, cost, 20));
    rpc_bucket_give(&b, cost, 2);
    assert_true(rpc_bucket_take(&b, now + cost, cost, 20));
    assert_true(rpc_bucket_take(&b, now + cost, cost, 20));
    assert_false(rpc_bucket_take(&b, now + cost, cost, 20));
    /* Gifts don't make it larger than it is. */
    rpc_bucket_give(&b, cost, 1000);
    for (int i = 0; i < 20; i++)
        assert_true(rpc_bucket_take(&b, now + cost, cost, 20));
    assert_false(rpc_bucket_take(&b, now + cost, cost, 20));
}

typedef struct script {
    tn_buf bytes;
} script;

static void put(script *s, uint8_t type, uint8_t flags, uint32_t stream, const char *payload,
                size_t n)
{
    const uint8_t head[5] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, type, flags};

    tn_buf_put(&s->bytes, head, 5);
    tn_buf_put_u32be(&s->bytes, stream);
    tn_buf_put(&s->bytes, payload, n);
}

static void begin(script *s)
{
    *s = (script){0};
    tn_buf_put(&s->bytes, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put(s, 4, 0, 0, "", 0);
}

/* NULL: accepted. */
static const char *verdict(const script *s, size_t piece, uint32_t code)
{
    rpc_guard g = {0};
    rpc_verdict v = {NULL, 0};

    for (size_t at = 0; at < s->bytes.n && !v.why; at += piece) {
        size_t n = s->bytes.n - at < piece ? s->bytes.n - at : piece;
        v = rpc_guard_walk(&g, s->bytes.p + at, n, TN_SEC);
    }
    if (v.why)
        assert_int_equal(v.code, code);
    else
        assert_true(g.settings_seen && !g.frame_since_ns);
    return v.why;
}

static void expect(script *s, uint32_t code, const char *why)
{
    static const size_t pieces[] = {1, 2, 3, 7, 9, 10, 64, 1 << 20};

    for (size_t i = 0; i < TN_COUNT_OF(pieces); i++) {
        const char *got = verdict(s, pieces[i], code);
        if (why)
            assert_string_equal(got, why);
        else
            assert_null(got);
    }
    tn_buf_done(&s->bytes);
}

static void ordinary(void **state)
{
    script s;

    (void)state;
    begin(&s);
    for (uint32_t i = 1; i < 4001; i += 2) {
        put(&s, 1, 4, i, "header", 6);
        put(&s, 8, 0, i, "\0\0\0\5", 4);
        put(&s, 0, 1, i, "data", 4);
    }
    expect(&s, 0, NULL);
}

static void ended_streams(void **state)
{
    script s;

    (void)state;
    begin(&s);
    put(&s, 1, 5, 1, "h", 1);
    put(&s, 3, 0, 1, "\0\0\0\10", 4); /* may be reset after its end */
    put(&s, 8, 0, 1, "\0\0\0\1", 4);
    expect(&s, 0, NULL);
    begin(&s);
    put(&s, 1, 5, 1, "h", 1);
    put(&s, 0, 0, 1, "d", 1);
    expect(&s, 5, "frame_on_ended_stream");
    begin(&s);
    put(&s, 1, 4, 1, "h", 1);
    put(&s, 3, 0, 1, "\0\0\0\10", 4);
    put(&s, 1, 5, 1, "h", 1);
    expect(&s, 5, "frame_on_ended_stream");
}

/* gRPC's Java resets a cancelled call and then writes the request that was waiting: that ends no other call. */
static void a_cancelled_call_s_request_comes_after_its_reset(void **state)
{
    script s;

    (void)state;
    begin(&s);
    put(&s, 1, 4, 1, "h", 1);
    put(&s, 3, 0, 1, "\0\0\0\10", 4);
    put(&s, 0, 0, 1, "data", 4);
    put(&s, 0, 1, 1, "more", 4);
    put(&s, 3, 0, 1, "\0\0\0\10", 4);
    put(&s, 8, 0, 1, "\0\0\0\1", 4);
    put(&s, 2, 0, 1, "\0\0\0\0\0", 5);
    put(&s, 1, 5, 3, "h", 1);
    expect(&s, 0, NULL);
    begin(&s); /* no more of it than of other frames that bring nothing */
    put(&s, 1, 4, 1, "h", 1);
    put(&s, 3, 0, 1, "\0\0\0\10", 4);
    for (int i = 0; i <= RPC_CONTROL_BURST; i++)
        put(&s, 0, 0, 1, "data", 4);
    expect(&s, 11, "late_data_flood");
    begin(&s); /* after its end nobody sends anything */
    put(&s, 1, 5, 1, "h", 1);
    put(&s, 3, 0, 1, "\0\0\0\10", 4);
    put(&s, 0, 1, 1, "data", 4);
    expect(&s, 5, "frame_on_ended_stream");
}

static uint32_t resets(rpc_guard *g, uint64_t now_ns, uint32_t most)
{
    uint32_t n = 0;
    while (n < most && rpc_guard_reset(g, now_ns))
        n++;
    return n;
}

/* Who completes calls may give others up, as many at once as it may have open; who completes none may not. */
static void young_calls_are_reset(void **state)
{
    (void)state;
    rpc_guard g = {0};
    uint64_t now = 5 * TN_SEC;
    assert_int_equal(resets(&g, now, 5000), RPC_RESET_BURST);
    assert_int_equal(resets(&g, now + TN_SEC, 5000), 33);
    now += 2 * TN_SEC;
    g = (rpc_guard){0};
    for (uint32_t i = 0; i < 50; i++)
        rpc_guard_completed(&g);
    assert_int_equal(resets(&g, now, 5000), RPC_RESET_BURST + 50 * RPC_RESET_PER_ANSWER);
    rpc_guard_completed(&g); /* room for another burst of these comes back, too */
    assert_int_equal(resets(&g, now, 5000), 2 * RPC_RESET_PER_ANSWER);
    for (uint32_t i = 0; i < 10000; i++)
        rpc_guard_completed(&g);
    assert_int_equal(resets(&g, now, 5000), RPC_RESET_BURST + RPC_RESET_ROOM_MAX);
}

static void priorities(void **state)
{
    script s;

    (void)state;
    begin(&s);
    put(&s, 2, 0, 3, "\0\0\0\5\0", 5);
    expect(&s, 0, NULL);
    begin(&s);
    put(&s, 2, 0, 3, "\200\0\0\3\0", 5);
    expect(&s, 1, "priority_on_itself");
    begin(&s);
    put(&s, 2, 0, 0, "\0\0\0\3\0", 5);
    expect(&s, 1, "priority_without_stream");
}

static void blocks(void **state)
{
    static char big[16384];
    script s;

    (void)state;
    begin(&s);
    put(&s, 1, 0, 1, "h", 1);
    for (int i = 0; i < RPC_BLOCK_FRAMES_MAX - 1; i++)
        put(&s, 9, 0, 1, "c", 1);
    put(&s, 9, 4, 1, "c", 1);
    expect(&s, 0, NULL);
    begin(&s);
    put(&s, 1, 0, 1, "h", 1);
    for (int i = 0; i < RPC_BLOCK_FRAMES_MAX + 1; i++)
        put(&s, 9, 0, 1, "c", 1);
    expect(&s, 11, "header_block_too_large");
    begin(&s);
    put(&s, 1, 0, 1, "h", 1);
    for (int i = 0; i < 4; i++)
        put(&s, 9, 0, 1, big, sizeof(big));
    expect(&s, 11, "header_block_too_large");
}

static void floods(void **state)
{
    static const uint8_t types[] = {0, 2, 4, 6, 8, 0xfa};

    (void)state;
    for (size_t t = 0; t < TN_COUNT_OF(types); t++) {
        script s;
        begin(&s);
        for (int i = 0; i < RPC_CONTROL_BURST - 2; i++)
            put(&s, types[t], 0, 1, "", 0);
        const char *few = verdict(&s, 4096, 0);
        assert_null(few);
        put(&s, types[t], 0, 1, "", 0);
        put(&s, types[t], 0, 1, "", 0);
        expect(&s, 11, "control_frame_flood");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bucket),
        cmocka_unit_test(ordinary),
        cmocka_unit_test(ended_streams),
        cmocka_unit_test(a_cancelled_call_s_request_comes_after_its_reset),
        cmocka_unit_test(young_calls_are_reset),
        cmocka_unit_test(priorities),
        cmocka_unit_test(blocks),
        cmocka_unit_test(floods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
