/* SPDX-License-Identifier: MIT */
/* Bytes: output buffers and the protocol's commands, names of keys, checksums of rows, and Redis's errors
 * in our words. */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- buffers ------------------------------------------------------------------------------------ */

void rd_buf_put(rd_buf *buf, const void *p, size_t n)
{
    if (buf->failed || n == 0)
        return;
    if (n > buf->cap - buf->n && buf->at) {
        memmove(buf->p, buf->p + buf->at, buf->n - buf->at);
        buf->n -= buf->at;
        buf->at = 0;
    }
    if (n > buf->cap - buf->n) {
        size_t cap = buf->cap ? buf->cap : 4096;
        while (cap - buf->n < n)
            cap *= 2;
        uint8_t *grown = realloc(buf->p, cap);
        if (!grown) {
            buf->failed = true;
            return;
        }
        buf->p = grown;
        buf->cap = cap;
    }
    memcpy(buf->p + buf->n, p, n);
    buf->n += n;
}

void rd_buf_take(rd_buf *buf, size_t n)
{
    buf->at += n;
    if (buf->at < buf->n)
        return;
    buf->at = buf->n = 0;
    if (buf->cap > (1u << 20)) /* one large value must not be paid for ever after */
        rd_buf_done(buf);
}

void rd_buf_done(rd_buf *buf)
{
    free(buf->p);
    *buf = (rd_buf){0};
}

static void put_head(rd_buf *buf, char mark, uint64_t n)
{
    char text[32];
    int length = snprintf(text, sizeof text, "%c%llu\r\n", mark, (unsigned long long)n);
    rd_buf_put(buf, text, (size_t)length);
}

void rd_put_command(rd_buf *buf, size_t n_args) { put_head(buf, '*', n_args); }

void rd_put_arg(rd_buf *buf, const void *p, size_t n)
{
    put_head(buf, '$', n);
    rd_buf_put(buf, p, n);
    rd_buf_put(buf, "\r\n", 2);
}

void rd_put_word(rd_buf *buf, const char *word) { rd_put_arg(buf, word, strlen(word)); }

void rd_put_number(rd_buf *buf, uint64_t number)
{
    char text[24];
    int length = snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    rd_put_arg(buf, text, (size_t)length);
}

/* ---- numbers ------------------------------------------------------------------------------------ */

void rd_be64(uint8_t out[8], uint64_t n)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(n >> (56 - 8 * i));
}

uint64_t rd_from_be64(const uint8_t in[8])
{
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n = n << 8 | in[i];
    return n;
}

uint32_t rd_crc32c(uint32_t crc, const void *p, size_t n)
{
    static uint32_t table[256];
    static _Atomic bool made;
    if (!made) { /* every thread would write the same */
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++)
                c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
            table[i] = c;
        }
        made = true;
    }
    const uint8_t *b = p;
    crc = ~crc;
    for (size_t i = 0; i < n; i++)
        crc = table[(crc ^ b[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

/* ---- keys and rows ------------------------------------------------------------------------------ */

size_t rd_key_name(const rd_options *options, tn_blob partition, uint32_t table, rd_part part,
                   char out[RD_KEY_MAX])
{
    static const char hex[] = "0123456789abcdef";
    size_t n = options->prefix.n;
    memcpy(out, options->prefix.p, n);
    out[n++] = '{';
    for (size_t i = 0; i < partition.n; i++) {
        out[n++] = hex[partition.p[i] >> 4];
        out[n++] = hex[partition.p[i] & 15];
    }
    out[n++] = '}';
    int more = part == RD_COUNTER ? snprintf(out + n, RD_KEY_MAX - n, ":v")
                                  : snprintf(out + n, RD_KEY_MAX - n, ":%u%s", table,
                                             part == RD_ORDER ? ":z" : "");
    return n + (size_t)more;
}

size_t rd_schema_name(const rd_options *options, char out[RD_KEY_MAX])
{
    return (size_t)snprintf(out, RD_KEY_MAX, "%.*s{schema}", (int)options->prefix.n,
                            options->prefix.p);
}

bool rd_key_lawful(const tn_key *key)
{
    return key->table >= 1 && key->table <= 63 && key->partition.n >= 1 &&
           key->partition.n <= RD_PARTITION_MAX && key->row.n <= RD_ROW_MAX;
}

uint32_t rd_row_sum(const tn_key *key, tn_blob value)
{
    uint8_t head[2] = {(uint8_t)key->table, (uint8_t)key->partition.n};
    uint32_t sum = rd_crc32c(0, head, sizeof head);
    sum = rd_crc32c(sum, key->partition.p, key->partition.n);
    sum = rd_crc32c(sum, key->row.p, key->row.n);
    return rd_crc32c(sum, value.p, value.n);
}

bool rd_row_open(const tn_key *key, const uint8_t *p, size_t n, uint64_t *out_version,
                 tn_blob *out_value)
{
    if (n < RD_HEAD)
        return false;
    uint64_t version = rd_from_be64(p);
    uint32_t sum = (uint32_t)p[8] << 24 | (uint32_t)p[9] << 16 | (uint32_t)p[10] << 8 | p[11];
    tn_blob value = {p + RD_HEAD, n - RD_HEAD};
    if (version == 0 || sum != rd_row_sum(key, value))
        return false;
    *out_version = version;
    *out_value = value;
    return true;
}

/* ---- errors ------------------------------------------------------------------------------------- */

tn_status rd_error(tn_error *err, tn_status code, int vendor, const char *fmt, ...)
{
    if (err) {
        err->code = code;
        err->vendor_code = vendor;
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
    }
    return code;
}

bool rd_is(const redisReply *reply, const char *word)
{
    return (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS) &&
           (size_t)reply->len == strlen(word) && memcmp(reply->str, word, (size_t)reply->len) == 0;
}

bool rd_begins(const redisReply *reply, const char *prefix)
{
    size_t n = strlen(prefix);
    return reply->type == REDIS_REPLY_ERROR && (size_t)reply->len >= n &&
           memcmp(reply->str, prefix, n) == 0;
}

/* The first words of Redis's errors, and what they mean for something that was not done. */
static const struct {
    const char *word;
    tn_status status;
    const char *text;
} meanings[] = {
    {"OOM", TN_EUNAVAILABLE, "Redis has no memory left (maxmemory)"},
    {"READONLY", TN_EUNAVAILABLE, "this server is a replica"},
    {"LOADING", TN_EUNAVAILABLE, "Redis is loading its data"},
    {"MISCONF", TN_EUNAVAILABLE, "Redis cannot write to its disk and refuses writes (MISCONF)"},
    {"NOREPLICAS", TN_EUNAVAILABLE, "too few replicas are connected (min-replicas-to-write)"},
    {"CLUSTERDOWN", TN_EUNAVAILABLE, "the cluster is down"},
    {"TRYAGAIN", TN_EUNAVAILABLE, "the slot is on its way to another server"},
    {"MASTERDOWN", TN_EUNAVAILABLE, "the link to the master is down"},
    {"BUSY", TN_EUNAVAILABLE, "Redis is busy with a script"},
    {"MOVED", TN_EUNAVAILABLE, "the slot has moved"},
    {"ASK", TN_EUNAVAILABLE, "the slot is moving"},
    {"NOAUTH", TN_EUNAVAILABLE, "Redis wants a password (user, password)"},
    {"WRONGPASS", TN_EUNAVAILABLE, "Redis refuses the user or password"},
    {"NOPERM", TN_EUNAVAILABLE, "the user may not do that (see the rights in tenon-redis(7))"},
    {"WRONGTYPE", TN_EDATALOSS, "a key holds something else than this driver's rows"},
};

/* The entry of `meanings` for an error's first word. */
static int meaning_of(const redisReply *reply, const char **out_text)
{
    const char *text = reply->str;
    if (strncmp(text, "TNNONE ", 7) == 0) /* the script's own */
        text += 7;
    *out_text = text;
    text += text[0] == '-';
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++) {
        size_t n = strlen(meanings[i].word);
        if (strncmp(text, meanings[i].word, n) == 0 && (text[n] == ' ' || text[n] == '\0'))
            return (int)i;
    }
    return -1;
}

bool rd_reply_surely_not(const redisReply *reply)
{
    const char *text;
    return reply->type == REDIS_REPLY_ERROR &&
           (meaning_of(reply, &text) >= 0 || rd_begins(reply, "TNNONE "));
}

bool rd_reply_wrong_server(const redisReply *reply)
{
    static const char *const words[] = {"READONLY", "LOADING", "MASTERDOWN", "NOAUTH"};
    const char *text;
    if (reply->type != REDIS_REPLY_ERROR)
        return false;
    int i = meaning_of(reply, &text);
    for (size_t k = 0; i >= 0 && k < sizeof words / sizeof words[0]; k++)
        if (strcmp(meanings[i].word, words[k]) == 0)
            return true;
    return false;
}

tn_status rd_reply_error(const redisReply *reply, const char *doing, tn_error *err)
{
    const char *text;
    if (reply->type != REDIS_REPLY_ERROR)
        return rd_error(err, TN_EUNAVAILABLE, 0, "%s: Redis gave an answer that was not expected",
                        doing);
    int i = meaning_of(reply, &text);
    if (i >= 0)
        return rd_error(err, meanings[i].status, 0, "%s: %s", doing, meanings[i].text);
    return rd_error(err, TN_EUNAVAILABLE, 0, "%s: Redis says: %.120s", doing, text);
}
