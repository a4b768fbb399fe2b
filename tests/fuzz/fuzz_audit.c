/* SPDX-License-Identifier: MIT */
/* Audit lines of any texts: one line each, an object of strings that JSON can read, and nothing in it that moves a
 * cursor, ends a line or turns the direction of writing. */
#include <stdlib.h>

#include "auth/audit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static bool is_hex(uint8_t c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

/* After the opening quote; past the closing one. */
static size_t skip_string(tn_blob line, size_t i)
{
    for (; line.p[i] != '"'; i++) {
        check(i < line.n && line.p[i] >= 0x20 && line.p[i] != 0x7f);
        if (line.p[i] != '\\')
            continue;
        i++;
        if (line.p[i] == 'u')
            for (int k = 0; k < 4; k++)
                check(is_hex(line.p[++i]));
        else
            check(line.p[i] == '"' || line.p[i] == '\\');
    }
    return i + 1;
}

/* {"key":"text","key":12,...} and a newline: all that a line may be. */
static size_t members_of(tn_blob line)
{
    size_t i = 0, members = 0;
    check(line.n > 3 && line.p[line.n - 1] == '\n' && line.p[i++] == '{');
    for (;; i++) {
        check(line.p[i] == '"');
        i = skip_string(line, i + 1);
        check(line.p[i++] == ':');
        if (line.p[i] == '"')
            i = skip_string(line, i + 1);
        else
            while (line.p[i] >= '0' && line.p[i] <= '9')
                i++;
        members++;
        if (line.p[i] != ',')
            break;
    }
    check(line.p[i] == '}' && i + 2 == line.n);
    return members;
}

static bool has(tn_blob line, const char *bytes)
{
    return memmem(line.p, line.n, bytes, strlen(bytes)) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t half = size / 2;
    tn_str a = {(const char *)data, half}, b = {(const char *)data + half, size - half};
    tn_audit_event event = {.allowed = size & 1,
                            .method = TN_STR("/a.b/C"),
                            .ns = a,
                            .workflow_id = b,
                            .workflow_type = a,
                            .task_queue = b,
                            .subject = a,
                            .auth_type = b,
                            .principal = a,
                            .tls_subject = b,
                            .peer = TN_STR("127.0.0.1:1"),
                            .rule = a,
                            .reason = b,
                            .target_ns = a,
                            .latency_ns = size};
    tn_buf out = {0};
    tn_audit_format(&event, INT64_C(1700000000123456789), &out);
    tn_blob line = tn_buf_blob(&out);
    /* time, verdict, method, peer, micros, and what is not empty of six a's and five b's */
    check(members_of(line) == 5 + (a.n ? 6u : 0u) + (b.n ? 5u : 0u));
    check(tn_utf8_valid(line.p, line.n));
    check(!has(line, "\xc2\x85") && !has(line, "\xc2\x9b") && !has(line, "\xe2\x80\xae") &&
          !has(line, "\xe2\x80\xa8") && !has(line, "\xe2\x81\xa6"));
    check(line.n < 11 * (6 * 1024 + 32) + 256);
    tn_buf_done(&out);
    return 0;
}
