/* SPDX-License-Identifier: MIT */
/* One audit line: a JSON object.  Callers choose most of the texts in it, so none may end the line, a string or the
 * sense of what a terminal shows: controls (C0, C1, line separators, the marks that turn the direction of writing)
 * are escaped, broken UTF-8 is replaced, long texts are cut. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "auth/audit.h"

#define LINE_BYTES_USUAL 640u
#define VALUE_BYTES_MAX 1024u /* an id has 1,000 at most */

static void put_code(tn_buf *out, uint32_t c) { tn_buf_printf(out, "\\u%04x", c); }

static size_t char_bytes(const uint8_t *p, size_t n)
{
    for (size_t k = 1; k <= 4 && k <= n; k++)
        if (tn_utf8_valid(p, k))
            return k;
    return 0;
}

/* Characters of two and three bytes that must not be shown as they are; 0: it may be. */
static uint32_t hidden(const uint8_t *p, size_t n)
{
    uint32_t c = 0;
    if (n == 2)
        c = (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    else if (n == 3)
        c = (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    bool hide = (c >= 0x80 && c < 0xa0) || c == 0x61c || (c >= 0x200b && c <= 0x200f) ||
                (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
    return hide ? c : 0;
}

/* How many bytes from here on are plain: most texts are, whole. */
static size_t plain_bytes(const uint8_t *p, size_t n)
{
    size_t k = 0;
    while (k < n && p[k] >= 0x20 && p[k] < 0x7f && p[k] != '"' && p[k] != '\\')
        k++;
    return k;
}

static void put_text(tn_buf *out, tn_str s)
{
    const uint8_t *p = (const uint8_t *)s.p;
    size_t n = s.n < VALUE_BYTES_MAX ? s.n : VALUE_BYTES_MAX;
    tn_buf_put_u8(out, '"');
    for (size_t i = 0; i < n;) {
        size_t plain = plain_bytes(p + i, n - i);
        tn_buf_put(out, p + i, plain);
        i += plain;
        if (i == n)
            break;
        size_t k = char_bytes(p + i, s.n - i);
        if (k == 0) {
            tn_buf_printf(out, "\\ufffd");
            k = 1;
        } else if (k == 1 && (p[i] == '"' || p[i] == '\\')) {
            tn_buf_put(out, (const char[]){'\\', (char)p[i]}, 2);
        } else if (k == 1 && (p[i] < 0x20 || p[i] == 0x7f)) {
            put_code(out, p[i]);
        } else if (hidden(p + i, k)) {
            put_code(out, hidden(p + i, k));
        } else {
            tn_buf_put(out, p + i, k);
        }
        i += k;
    }
    if (n < s.n)
        tn_buf_printf(out, "...");
    tn_buf_put_u8(out, '"');
}

static void put_z(tn_buf *out, const char *text) { tn_buf_put(out, text, strlen(text)); }

static void put_member(tn_buf *out, const char *key, tn_str value)
{
    if (!value.n)
        return;
    put_z(out, ",\"");
    put_z(out, key);
    put_z(out, "\":");
    put_text(out, value);
}

/* At least `width` digits. */
static void put_number(tn_buf *out, uint64_t v, size_t width)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v || sizeof digits - at < width);
    tn_buf_put(out, digits + at, sizeof digits - at);
}

/* The text of a second is made once: lines come by thousands. */
static void put_time(tn_buf *out, int64_t wall_ns)
{
    static _Thread_local struct {
        time_t second;
        char text[48];
    } last;
    time_t second = (time_t)(wall_ns / (int64_t)TN_SEC);
    if (second != last.second || !last.text[0]) {
        struct tm tm;
        gmtime_r(&second, &tm);
        snprintf(last.text, sizeof last.text, "{\"time\":\"%04u-%02u-%02uT%02u:%02u:%02u.",
                 (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
                 (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
                 (unsigned)tm.tm_sec % 100);
        last.second = second;
    }
    put_z(out, last.text);
    put_number(out, (uint64_t)(wall_ns % (int64_t)TN_SEC) / TN_US, 6);
    put_z(out, "Z\"");
}

void tn_audit_format(const tn_audit_event *e, int64_t wall_ns, tn_buf *out)
{
    tn_buf_reserve(out, LINE_BYTES_USUAL);
    put_time(out, wall_ns);
    put_member(out, "verdict", tn_str_from(e->allowed ? "allow" : "deny"));
    put_member(out, "method", e->method);
    put_member(out, "namespace", e->ns);
    put_member(out, "targetMethod", e->as_method);
    put_member(out, "targetNamespace", e->target_ns);
    put_member(out, "workflowId", e->workflow_id);
    put_member(out, "workflowType", e->workflow_type);
    put_member(out, "taskQueue", e->task_queue);
    put_member(out, "subject", e->subject);
    put_member(out, "auth", e->auth_type);
    put_member(out, "principal", e->principal);
    put_member(out, "tlsSubject", e->tls_subject);
    put_member(out, "peer", e->peer);
    put_member(out, "rule", e->rule);
    put_member(out, "reason", e->reason);
    put_member(out, "cause", e->cause);
    put_z(out, ",\"micros\":");
    put_number(out, e->latency_ns / TN_US, 1);
    put_z(out, "}\n");
}

void tn_audit_format_lost(uint64_t lost, int64_t wall_ns, tn_buf *out)
{
    put_time(out, wall_ns);
    tn_buf_printf(out, ",\"lost\":%llu}\n", (unsigned long long)lost);
}
