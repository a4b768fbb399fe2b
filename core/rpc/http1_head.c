/* SPDX-License-Identifier: MIT */
/* Heads of HTTP/1.1 requests, and bodies in chunks: see http1.h. */
#include "rpc/http1.h"

#include <http_parser.h>

/* ---- heads ---- */

size_t rpc_h1_head_end(const uint8_t *p, size_t n, size_t *from)
{
    size_t at = *from > 3 ? *from - 3 : 0;

    while (at + 4 <= n) {
        const uint8_t *cr = memchr(p + at, '\r', n - 3 - at);
        if (!cr)
            break;
        if (memcmp(cr, "\r\n\r\n", 4) == 0)
            return (size_t)(cr - p) + 4;
        at = (size_t)(cr - p) + 1;
    }
    *from = n;
    return 0;
}

static bool is_token(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static void refuse(rpc_h1_head *out, unsigned status, const char *why)
{
    if (out->status)
        return;
    out->status = status;
    out->why = why;
}

/* "GET /path HTTP/1.1" and no other blanks. */
static void check_first(const uint8_t *p, size_t n, rpc_h1_head *out)
{
    const uint8_t *sp = memchr(p, ' ', n), *sp2;

    if (!sp || !(sp2 = memchr(sp + 1, ' ', n - (size_t)(sp + 1 - p))) || sp2 == sp + 1) {
        refuse(out, 400, "malformed request line");
        return;
    }
    n -= (size_t)(sp2 + 1 - p);
    if (n != 8 || memcmp(sp2 + 1, "HTTP/", 5) != 0)
        refuse(out, 400, "malformed request line");
    else if (memcmp(sp2 + 6, "1.1", 3) != 0 && memcmp(sp2 + 6, "1.0", 3) != 0)
        refuse(out, 505, "HTTP version not supported");
}

static void check_line(uint8_t *p, size_t n, rpc_h1_head *out)
{
    size_t i = 0;

    for (; i < n && is_token(p[i]); i++) {
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (uint8_t)(p[i] + ('a' - 'A'));
    }
    if (!i || i == n || p[i] != ':')
        refuse(out, 400, "malformed header");
    for (; i < n; i++) {
        if ((p[i] < 0x20 && p[i] != '\t') || p[i] == 0x7f)
            refuse(out, 400, "control character in a header");
    }
}

static void check_lines(uint8_t *p, size_t n, rpc_h1_head *out)
{
    uint8_t *end = p + n - 2; /* before the empty line */
    bool first = true;

    while (p < end && !out->status) {
        uint8_t *lf = memchr(p, '\n', (size_t)(end - p));
        if (!lf || lf == p || lf[-1] != '\r') {
            refuse(out, 400, "a line feed without a carriage return");
            return;
        }
        if (first)
            check_first(p, (size_t)(lf - 1 - p), out);
        else
            check_line(p, (size_t)(lf - 1 - p), out);
        first = false;
        p = lf + 1;
    }
}

typedef struct reader {
    rpc_h1_head *out;
    void (*take)(void *user, tn_str name, tn_str value);
    void *user;
    tn_str name;
    unsigned hosts, lengths, encodings;
} reader;

static tn_str trimmed(tn_str s)
{
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    while (s.n && (*s.p == ' ' || *s.p == '\t'))
        s.p++, s.n--;
    return s;
}

static void header(reader *r, tn_str name, tn_str value)
{
    rpc_h1_head *out = r->out;

    value = trimmed(value);
    if (tn_str_is(name, "host")) {
        r->hosts++;
    } else if (tn_str_is(name, "content-length")) {
        if (r->lengths++ || !value.n || value.n > 18 || !tn_parse_u64(value, &out->length) ||
            value.p[0] == '+')
            refuse(out, 400, "malformed content-length");
    } else if (tn_str_is(name, "transfer-encoding")) {
        if (r->encodings++ || !tn_str_caseeq(value, TN_STR("chunked")))
            refuse(out, 501, "unknown transfer-encoding");
        out->chunked = true;
    } else if (tn_str_is(name, "expect")) {
        if (!tn_str_caseeq(value, TN_STR("100-continue")))
            refuse(out, 417, "unknown expectation");
        out->expect = true;
    }
    r->take(r->user, name, value);
}

static void pending(reader *r, tn_str value)
{
    tn_str name = r->name;

    r->name = (tn_str){NULL, 0};
    if (name.p)
        header(r, name, value);
}

static int on_url(http_parser *parser, const char *p, size_t n)
{
    reader *r = parser->data;

    r->take(r->user, TN_STR(":method"),
            tn_str_from(http_method_str((enum http_method)parser->method)));
    r->take(r->user, TN_STR(":path"), (tn_str){p, n});
    return 0;
}

static int on_field(http_parser *parser, const char *p, size_t n)
{
    reader *r = parser->data;

    pending(r, (tn_str){"", 0}); /* of a header without a value */
    r->name = (tn_str){p, n};
    return 0;
}

static int on_value(http_parser *parser, const char *p, size_t n)
{
    pending(parser->data, (tn_str){p, n});
    return 0;
}

static int on_complete(http_parser *parser)
{
    reader *r = parser->data;

    pending(r, (tn_str){"", 0});
    r->out->keep_alive = http_should_keep_alive(parser) != 0;
    return 1; /* no body: ours to read */
}

void rpc_h1_head_read(uint8_t *p, size_t n, rpc_h1_head *out,
                      void (*take)(void *user, tn_str name, tn_str value), void *user)
{
    static const http_parser_settings settings = {.on_url = on_url,
                                                  .on_header_field = on_field,
                                                  .on_header_value = on_value,
                                                  .on_headers_complete = on_complete};
    reader r = {.out = out, .take = take, .user = user};
    http_parser parser;
    size_t used;

    *out = (rpc_h1_head){0};
    check_lines(p, n, out);
    if (out->status)
        return;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &r;
    used = http_parser_execute(&parser, &settings, (const char *)p, n);
    if (HTTP_PARSER_ERRNO(&parser) == HPE_INVALID_METHOD)
        refuse(out, 501, "unknown method");
    else if (HTTP_PARSER_ERRNO(&parser) != HPE_OK || used != n)
        refuse(out, 400, "malformed request");
    else if (r.hosts != 1 && (r.hosts || parser.http_minor))
        refuse(out, 400, "a request has one host");
    else if (out->chunked && (r.lengths || !parser.http_minor))
        refuse(out, 400, "a chunked request has no length");
    if (out->chunked)
        out->length = 0;
    if (out->status)
        out->keep_alive = false;
}

/* ---- chunks ---- */

enum {
    SIZE,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER,
    TRAILER_LINE,
    TRAILER_LF,
    LAST_LF,
    DONE
};

static bool hex(uint8_t c, uint8_t *out)
{
    if (c >= '0' && c <= '9')
        *out = (uint8_t)(c - '0');
    else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        *out = (uint8_t)((c | 0x20) - 'a' + 10);
    else
        return false;
    return true;
}

/* A byte outside a chunk's data; false: it may not stand here. */
static bool frame_byte(rpc_h1_chunks *c, uint8_t b)
{
    uint8_t digit;

    switch (c->state) {
    case SIZE:
        if (hex(b, &digit)) {
            c->left = c->left << 4 | digit;
            return ++c->digits <= 8;
        }
        if (!c->digits || (b != '\r' && b != ';'))
            return false;
        c->state = b == '\r' ? SIZE_LF : EXTENSION;
        return true;
    case EXTENSION:
    case TRAILER_LINE:
        if (b == '\r')
            c->state = c->state == EXTENSION ? SIZE_LF : TRAILER_LF;
        else if ((b < 0x20 && b != '\t') || b == 0x7f)
            return false;
        return ++c->extras <= RPC_H1_CHUNK_EXTRAS_MAX;
    case SIZE_LF:
        c->state = c->left ? DATA : TRAILER;
        return b == '\n';
    case DATA_CR:
        c->state = DATA_LF;
        return b == '\r';
    case DATA_LF:
        c->state = SIZE;
        c->digits = 0;
        return b == '\n';
    case TRAILER:
        c->state = b == '\r' ? LAST_LF : TRAILER_LINE;
        return b == '\r' || is_token(b);
    case TRAILER_LF:
        c->state = TRAILER;
        return b == '\n';
    case LAST_LF:
        c->state = DONE;
        return b == '\n';
    default:
        return false;
    }
}

rpc_h1_chunk_event rpc_h1_chunks_feed(rpc_h1_chunks *c, const uint8_t *p, size_t n,
                                      size_t *out_used, tn_blob *out_data)
{
    size_t at = 0;

    while (at < n) {
        if (c->state == DATA) {
            size_t take = n - at < c->left ? n - at : (size_t)c->left;
            *out_data = tn_blob_from(p + at, take);
            *out_used = at + take;
            c->left -= take;
            if (!c->left)
                c->state = DATA_CR;
            return RPC_H1_DATA;
        }
        if (!frame_byte(c, p[at++]))
            return RPC_H1_BAD;
        if (c->state == DONE) {
            *out_used = at;
            return RPC_H1_END;
        }
    }
    *out_used = n;
    return RPC_H1_MORE;
}
