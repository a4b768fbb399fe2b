/* SPDX-License-Identifier: MIT */
/* The log: a line is built on the stack and leaves by one write(2), so that lines of different
 * threads do not mix and nothing is lost when the process dies.  Lines are at most 8 KiB, values 2
 * KiB. */
#include "base/log.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

#define LINE_MAX_BYTES 8192u
#define VALUE_MAX_BYTES 2048u
#define LINE_TAIL 192u /* kept free for what closes a value and the line */

/* Written at start-up and by tests; readers need no order with anything else. */
static atomic_int log_level = TN_LOG_INFO;
static atomic_bool log_json;

void tn_log_configure(tn_log_level level, bool json)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
    atomic_store_explicit(&log_json, json, memory_order_relaxed);
}

bool tn_log_enabled(tn_log_level level)
{
    return (int)level >= atomic_load_explicit(&log_level, memory_order_relaxed) &&
           level != TN_LOG_NEVER;
}

static const char *const level_words[] = {"debug", "info", "warn", "error", "never"};

bool tn_log_level_parse(tn_str word, tn_log_level *out)
{
    for (size_t i = 0; i < TN_COUNT_OF(level_words); i++) {
        if (tn_str_caseeq(word, tn_str_from(level_words[i]))) {
            *out = (tn_log_level)i;
            return true;
        }
    }
    return false;
}

typedef struct line {
    char text[LINE_MAX_BYTES];
    size_t n;
} line;

static void put(line *l, const char *p, size_t n)
{
    size_t room = sizeof l->text - 4 - l->n;
    if (n > room)
        n = room;
    memcpy(l->text + l->n, p, n);
    l->n += n;
}

static void putz(line *l, const char *s) { put(l, s, strlen(s)); }

static size_t utf8_char_len(const uint8_t *p, size_t n)
{
    for (size_t len = 1; len <= 4 && len <= n; len++) {
        if (tn_utf8_valid(p, len))
            return len;
    }
    return 0;
}

/* Escaped as in a JSON string, without the quotes; `bare`: not inside quotes, which need no escape then. */
static void put_escaped(line *l, tn_str s, bool bare)
{
    const uint8_t *p = (const uint8_t *)s.p;
    size_t n = s.n < VALUE_MAX_BYTES ? s.n : VALUE_MAX_BYTES;
    size_t room = sizeof l->text - LINE_TAIL;
    for (size_t i = 0; i < n && l->n < room;) {
        char esc[8];
        uint8_t c = p[i];
        if (!bare && (c == '"' || c == '\\')) {
            put(l, (const char[]){'\\', (char)c}, 2);
            i++;
        } else if (c == '\n') {
            putz(l, "\\n");
            i++;
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(esc, sizeof esc, "\\u%04x", c);
            putz(l, esc);
            i++;
        } else if (c < 0x80) {
            put(l, (const char *)&p[i++], 1);
        } else {
            size_t len = utf8_char_len(p + i, s.n - i);
            if (len)
                put(l, (const char *)p + i, len);
            else
                putz(l, "\\ufffd");
            i += len ? len : 1;
        }
    }
    if (n < s.n)
        putz(l, "...");
}

static bool plain_word(tn_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              strchr("-_./:@+,", c)) ||
            c == 0)
            return false;
    }
    return s.n > 0;
}

static void put_value(line *l, const tn_log_field *f, bool json)
{
    char number[40];
    switch (f->type) {
    case 1: {
        bool quote = json || !plain_word(f->v.s);
        if (quote)
            put(l, "\"", 1);
        put_escaped(l, f->v.s, false);
        if (quote)
            put(l, "\"", 1);
        return;
    }
    case 2:
        snprintf(number, sizeof number, "%lld", (long long)f->v.i);
        break;
    case 3:
        snprintf(number, sizeof number, "%llu", (unsigned long long)f->v.u);
        break;
    default:
        if (isfinite(f->v.f))
            snprintf(number, sizeof number, "%.9g", f->v.f);
        else
            snprintf(number, sizeof number, "null");
        break;
    }
    putz(l, number);
}

static void put_time(line *l)
{
    /* All digits of the milliseconds, so that lines stay below each other. */
    uint64_t now = tn_now_wall_ns();
    time_t seconds = (time_t)(now / TN_SEC);
    struct tm tm;
    char text[64];
    size_t n = gmtime_r(&seconds, &tm) ? strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm) : 0;
    snprintf(text + n, sizeof text - n, ".%03uZ", (unsigned)(now % TN_SEC / TN_MS));
    putz(l, text);
}

static void write_all(const char *p, size_t n)
{
    while (n) {
        ssize_t done = write(STDERR_FILENO, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return; /* a log that cannot be written must not stop the server */
        p += done;
        n -= (size_t)done;
    }
}

void tn_log_write(tn_log_level level, const char *room, const char *msg, const tn_log_field *fields)
{
    if (!tn_log_enabled(level))
        return;
    bool json = atomic_load_explicit(&log_json, memory_order_relaxed);
    line l;
    l.n = 0;
    putz(&l, json ? "{\"ts\":\"" : "");
    put_time(&l);
    putz(&l, json ? "\",\"level\":\"" : " ");
    putz(&l, level_words[level]);
    putz(&l, json ? "\",\"room\":\"" : " ");
    putz(&l, room);
    putz(&l, json ? "\",\"msg\":\"" : ": ");
    put_escaped(&l, tn_str_from(msg), !json);
    putz(&l, json ? "\"" : "");
    for (const tn_log_field *f = fields; f && f->type; f++) {
        /* A field that would not fit whole is left out, so that the line stays well formed. */
        size_t mark = l.n;
        putz(&l, json ? ",\"" : " ");
        putz(&l, f->key);
        putz(&l, json ? "\":" : "=");
        put_value(&l, f, json);
        if (l.n >= sizeof l.text - LINE_TAIL) {
            l.n = mark;
            break;
        }
    }
    putz(&l, json ? "}" : "");
    l.text[l.n++] = '\n';
    write_all(l.text, l.n);
}
