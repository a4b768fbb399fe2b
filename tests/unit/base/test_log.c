/* SPDX-License-Identifier: MIT */
/* The log's two formats, read back through a pipe that stands in for standard error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"

static uint64_t fixed_wall(void) { return UINT64_C(1700000000123456789); }

static char captured[65536];

static void begin(int *saved, int fds[2])
{
    assert_int_equal(pipe(fds), 0);
    *saved = dup(2);
    assert_true(dup2(fds[1], 2) == 2);
    close(fds[1]);
}

static void end(int saved, int fds[2])
{
    dup2(saved, 2);
    close(saved);
    ssize_t n = read(fds[0], captured, sizeof captured - 1);
    close(fds[0]);
    captured[n < 0 ? 0 : n] = 0;
}

static void text_line(void **state)
{
    (void)state;
    int saved, fds[2];
    tn_clock_override(fixed_wall, NULL);
    tn_log_configure(TN_LOG_INFO, false);
    begin(&saved, fds);
    TN_LOG(TN_LOG_DEBUG, "rpc", "not shown");
    TN_LOG(TN_LOG_WARN, "rpc", "slow call", TN_LOG_Z("method", "a/b"), TN_LOG_I("n", -3),
           TN_LOG_U("u", 4), TN_LOG_F("f", 0.5), TN_LOG_Z("q", "two words\n\x1b\"\xff"));
    end(saved, fds);
    assert_string_equal(captured,
                        "2023-11-14T22:13:20.123Z warn rpc: slow call method=a/b n=-3 u=4 f=0.5 "
                        "q=\"two words\\n\\u001b\\\"\\ufffd\"\n");
    tn_clock_override(NULL, NULL);
}

static void json_line(void **state)
{
    (void)state;
    int saved, fds[2];
    tn_clock_override(fixed_wall, NULL);
    tn_log_configure(TN_LOG_DEBUG, true);
    begin(&saved, fds);
    TN_LOG(TN_LOG_ERROR, "store", "it \"broke\"", TN_LOG_Z("path", "C:\\x"), TN_LOG_I("code", 5));
    end(saved, fds);
    assert_string_equal(
        captured, "{\"ts\":\"2023-11-14T22:13:20.123Z\",\"level\":\"error\",\"room\":\"store\","
                  "\"msg\":\"it \\\"broke\\\"\",\"path\":\"C:\\\\x\",\"code\":5}\n");
    tn_log_configure(TN_LOG_INFO, false);
    tn_clock_override(NULL, NULL);
}

static void long_values_leave_one_whole_line(void **state)
{
    (void)state;
    int saved, fds[2];
    char *lots = malloc(20000);
    memset(lots, '\n', 19999);
    lots[19999] = 0;
    tn_log_configure(TN_LOG_INFO, true);
    begin(&saved, fds);
    TN_LOG(TN_LOG_INFO, "x", "m", TN_LOG_Z("a", lots), TN_LOG_Z("b", lots), TN_LOG_Z("c", lots));
    TN_LOG(TN_LOG_INFO, "x", lots, TN_LOG_Z("a", lots));
    end(saved, fds);
    size_t lines = 0;
    for (const char *p = captured; *p; p++) {
        if (*p == '\n') {
            lines++;
            assert_true(p[-1] == '}');
        }
    }
    assert_int_equal(lines, 2);
    free(lots);
    tn_log_configure(TN_LOG_INFO, false);
}

static void level_words(void **state)
{
    (void)state;
    tn_log_level level;
    assert_true(tn_log_level_parse(TN_STR("WARN"), &level) && level == TN_LOG_WARN);
    assert_true(tn_log_level_parse(TN_STR("never"), &level) && level == TN_LOG_NEVER);
    assert_false(tn_log_level_parse(TN_STR("loud"), &level));
    tn_log_configure(TN_LOG_NEVER, false);
    assert_false(tn_log_enabled(TN_LOG_ERROR));
    tn_log_configure(TN_LOG_INFO, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_line),
        cmocka_unit_test(json_line),
        cmocka_unit_test(long_values_leave_one_whole_line),
        cmocka_unit_test(level_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
