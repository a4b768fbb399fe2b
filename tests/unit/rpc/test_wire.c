/* SPDX-License-Identifier: MIT */
/* Time-outs, percent and base64 encoding, content types, lists, frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rpc/wire.h"

static void timeouts(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {
        {"0n", 0},
        {"1n", 1},
        {"1u", TN_US},
        {"250m", 250 * TN_MS},
        {"10S", 10 * TN_SEC},
        {"2M", 120 * TN_SEC},
        {"1H", 3600 * TN_SEC},
        {"99999999S", 99999999 * TN_SEC},
        {"99999999H", UINT64_MAX},
    };
    static const char *const bad[] = {"",    "S",    "1",          "1s",  "1 S", "-1S",
                                      "+1S", "1.5S", "123456789S", "1SS", "0x1S"};
    uint64_t ns;

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(good); i++) {
        assert_true(rpc_timeout_parse(tn_str_from(good[i].text), &ns));
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++)
        assert_false(rpc_timeout_parse(tn_str_from(bad[i]), &ns));
}

static void check_percent(const char *in, size_t cap, const char *want)
{
    char out[256];
    size_t n = rpc_percent_encode(tn_str_from(in), out, cap);

    assert_true(n <= cap);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(out, want, n);
}

static void percent(void **state)
{
    (void)state;
    check_percent("", 256, "");
    check_percent("plain ~text", 256, "plain ~text");
    check_percent("50%\n\x7f", 256, "50%25%0A%7F");
    check_percent("\xc3\xbc", 256, "%C3%BC");
    /* Cut between characters, never within. */
    check_percent("ab", 1, "a");
    check_percent("a%", 3, "a");
    check_percent("a\xc3\xbc", 6, "a");
    check_percent("\xf0\x9f\x92\xa5x", 12, "%F0%9F%92%A5");
    check_percent("\xf0\x9f\x92\xa5x", 11, "");
    /* What is no UTF-8 stays within its bytes. */
    check_percent("\xf0", 256, "%F0");
}

static void base64(void **state)
{
    static const struct {
        const char *plain, *coded;
    } pairs[] = {{"", ""},        {"f", "Zg"},        {"fo", "Zm8"},
                 {"foo", "Zm9v"}, {"foob", "Zm9vYg"}, {"\xff\xfe", "//4"}};
    static const char *const bad[] = {
        "A", "Zg=", "Zh==", "Z===", "Zm9v=", "Zm 9v", "Zm-_", "====", "Zm9vY"};
    char coded[64];
    uint8_t plain[64];
    size_t n;

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(pairs); i++) {
        tn_blob in = tn_blob_of_str(tn_str_from(pairs[i].plain));
        n = rpc_base64_encode(in, coded);
        assert_int_equal(n, strlen(pairs[i].coded));
        assert_int_equal(n, RPC_BASE64_SIZE(in.n));
        assert_memory_equal(coded, pairs[i].coded, n);
        assert_true(rpc_base64_decode((tn_str){coded, n}, plain, &n));
        assert_int_equal(n, in.n);
        assert_memory_equal(plain, in.p, n);
    }
    assert_true(rpc_base64_decode(TN_STR("Zg=="), plain, &n));
    assert_int_equal(n, 1);
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++)
        assert_false(rpc_base64_decode(tn_str_from(bad[i]), plain, &n));
}

static void content_types(void **state)
{
    static const char *const good[] = {"application/grpc", "application/grpc+proto",
                                       "application/grpc;x=y", "Application/gRPC+PROTO",
                                       "application/grpc+proto;x"};
    static const char *const bad[] = {"",
                                      "application/grp",
                                      "application/grpc-web",
                                      "application/grpc+json",
                                      "application/grpc+protobuf",
                                      "text/plain"};

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(good); i++)
        assert_true(rpc_content_type_ok(tn_str_from(good[i])));
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++)
        assert_false(rpc_content_type_ok(tn_str_from(bad[i])));
}

static void lists(void **state)
{
    (void)state;
    assert_true(rpc_list_has(TN_STR("gzip"), TN_STR("gzip")));
    assert_true(rpc_list_has(TN_STR("identity, deflate ,gzip"), TN_STR("gzip")));
    assert_true(rpc_list_has(TN_STR(" gzip , x"), TN_STR("gzip")));
    assert_false(rpc_list_has(TN_STR("gzip2,xgzip"), TN_STR("gzip")));
    assert_false(rpc_list_has(TN_STR(""), TN_STR("gzip")));
    assert_false(rpc_list_has(TN_STR(", ,"), TN_STR("gzip")));
}

/* Three messages, one of them empty, in pieces of every size. */
static void frames(void **state)
{
    static const uint8_t in[] = "\0\0\0\0\3abc\1\0\0\0\0\0\0\0\0\7seventh";
    uint8_t body[3][8];

    (void)state;
    for (size_t size = 1; size < sizeof(in); size++) {
        rpc_framer f = {0};
        size_t messages = 0, used;
        bool compressed[3];

        for (size_t at = 0; at < sizeof(in) - 1; at += size) {
            const uint8_t *p = in + at;
            size_t n = sizeof(in) - 1 - at < size ? sizeof(in) - 1 - at : size;
            rpc_framer_event event;
            do {
                event = rpc_framer_feed(&f, p, n, &used);
                p += used;
                n -= used;
                if (event == RPC_FRAMER_HEAD) {
                    assert_true(messages < 3);
                    assert_true(f.need <= sizeof(body[0]));
                    f.body = body[messages];
                    compressed[messages] = rpc_framer_compressed(&f);
                } else if (event == RPC_FRAMER_MESSAGE) {
                    messages++;
                    assert_true(rpc_framer_at_border(&f));
                }
            } while (n || event == RPC_FRAMER_HEAD);
        }
        assert_int_equal(messages, 3);
        assert_memory_equal(body[0], "abc", 3);
        assert_memory_equal(body[2], "seventh", 7);
        assert_false(compressed[0]);
        assert_true(compressed[1]);
        assert_true(rpc_framer_at_border(&f));
        rpc_framer_feed(&f, in, 3, &used);
        assert_false(rpc_framer_at_border(&f));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeouts),      cmocka_unit_test(percent), cmocka_unit_test(base64),
        cmocka_unit_test(content_types), cmocka_unit_test(lists),   cmocka_unit_test(frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
