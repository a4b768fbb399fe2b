/* SPDX-License-Identifier: MIT */
/* The head of an HTTP/1 request, read strictly: what is not surely well formed is refused. */
#include "metrics/private.h"

static bool token_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* The end of the line at p (at its CR), or NULL. */
static const uint8_t *line_end(const uint8_t *p, const uint8_t *end)
{
    for (; p + 1 < end; p++) {
        if (p[0] == '\r' && p[1] == '\n')
            return p;
    }
    return NULL;
}

static int parse_first_line(const uint8_t *p, const uint8_t *end, tn_http_request *out)
{
    const uint8_t *at = p;
    while (at < end && token_char(*at))
        at++;
    out->method = (tn_str){(const char *)p, (size_t)(at - p)};
    if (!out->method.n || at == end || *at != ' ')
        return -400;
    const uint8_t *target = ++at;
    while (at<end && * at> 0x20 && *at < 0x7f)
        at++;
    out->target = (tn_str){(const char *)target, (size_t)(at - target)};
    if (!out->target.n || at == end || *at != ' ')
        return -400;
    tn_str version = {(const char *)at + 1, (size_t)(end - at - 1)};
    if (tn_str_is(version, "HTTP/1.1"))
        out->keep_alive = true;
    else if (tn_str_is(version, "HTTP/1.0"))
        out->keep_alive = false;
    else
        return version.n == 8 && tn_str_starts(version, TN_STR("HTTP/")) ? -505 : -400;
    return 0;
}

static tn_str trimmed(const uint8_t *p, const uint8_t *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return (tn_str){(const char *)p, (size_t)(end - p)};
}

static bool has_word(tn_str list, tn_str word)
{
    const uint8_t *p = (const uint8_t *)list.p, *end = p + list.n;
    while (p < end) {
        const uint8_t *comma = memchr(p, ',', (size_t)(end - p));
        const uint8_t *stop = comma ? comma : end;
        if (tn_str_caseeq(trimmed(p, stop), word))
            return true;
        p = stop + 1;
    }
    return false;
}

static int parse_field(const uint8_t *p, const uint8_t *end, tn_http_request *out, unsigned *hosts)
{
    const uint8_t *at = p;
    while (at < end && token_char(*at))
        at++;
    tn_str name = {(const char *)p, (size_t)(at - p)};
    if (!name.n || at == end || *at != ':')
        return -400;
    tn_str value = trimmed(at + 1, end);
    for (size_t i = 0; i < value.n; i++) {
        uint8_t c = (uint8_t)value.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return -400;
    }
    if (tn_str_caseeq(name, TN_STR("host")))
        ++*hosts;
    else if (tn_str_caseeq(name, TN_STR("connection")) && has_word(value, TN_STR("close")))
        out->keep_alive = false;
    else if (tn_str_caseeq(name, TN_STR("transfer-encoding")))
        return -413; /* nothing here takes a body */
    else if (tn_str_caseeq(name, TN_STR("content-length")) && !tn_str_is(value, "0"))
        return -413;
    return 0;
}

int tn_http_parse(const uint8_t *p, size_t n, tn_http_request *out)
{
    size_t seen = n < TN_HTTP_HEAD_MAX ? n : TN_HTTP_HEAD_MAX;
    const uint8_t *at = p, *end = p + seen;
    tn_http_request request = {0};
    unsigned hosts = 0;
    for (unsigned lines = 0;; lines++) {
        const uint8_t *stop = line_end(at, end);
        if (!stop)
            return seen == TN_HTTP_HEAD_MAX ? -431 : 0;
        bool empty = stop == at;
        if (empty && lines) {
            at = stop + 2;
            break;
        }
        int rc = lines == 0 ? parse_first_line(at, stop, &request)
                            : parse_field(at, stop, &request, &hosts);
        if (rc < 0)
            return rc;
        if (lines > TN_HTTP_FIELDS_MAX)
            return -431;
        at = stop + 2;
    }
    /* HTTP/1.1 wants one Host; more than one is a sign of smuggling. */
    if (hosts > 1 || (hosts == 0 && request.keep_alive))
        return -400;
    *out = request;
    return (int)(at - p);
}
