/* SPDX-License-Identifier: MIT */
/* Path patterns as google.api.http writes them: literals, "*", a last "**", and variables that stand for some of those
 * ("{id}", "{a.b}", "{rest=**}").  A path is cut at its slashes first and unescaped then, so that a "%2F" belongs to
 * the name that it stands in. */
#include "http/private.h"

#include <stdlib.h>
#include <string.h>

typedef enum segment_kind { LITERAL, ANY, DEEP } segment_kind;

struct http_pattern {
    struct {
        segment_kind kind;
        tn_str text; /* of a literal */
    } segments[HTTP_SEGMENTS_MAX];
    size_t n;
    struct {
        tn_str name;
        size_t from, to; /* segments; to SIZE_MAX: all that follow */
    } params[HTTP_PARAMS_MAX];
    size_t n_params;
    bool deep;
};

/* One segment, ended by '/', '}' or the end.  Returns what follows it, NULL: malformed. */
static const char *segment(http_pattern *out, const char *p)
{
    size_t n = strcspn(p, "/}");

    if (!n || out->n == HTTP_SEGMENTS_MAX || out->deep)
        return NULL;
    if (n == 2 && memcmp(p, "**", 2) == 0) {
        out->deep = true;
        out->segments[out->n++].kind = DEEP;
    } else if (n == 1 && *p == '*') {
        out->segments[out->n++].kind = ANY;
    } else {
        out->segments[out->n].kind = LITERAL;
        out->segments[out->n++].text = (tn_str){p, n};
    }
    return p + n;
}

/* Behind a '{'. */
static const char *variable(http_pattern *out, const char *p)
{
    size_t n = strcspn(p, "=}"), from = out->n;

    if (!n || out->n_params == HTTP_PARAMS_MAX || !p[n])
        return NULL;
    out->params[out->n_params].name = (tn_str){p, n};
    p += n;
    if (*p == '}') {
        if (!segment(out, "*"))
            return NULL;
    } else {
        do {
            p = segment(out, p + 1);
        } while (p && *p == '/');
        if (!p || *p != '}')
            return NULL;
    }
    out->params[out->n_params].from = from;
    out->params[out->n_params++].to = out->deep ? SIZE_MAX : out->n;
    return p + 1;
}

http_pattern *http_pattern_compile(const char *pattern)
{
    http_pattern *out = tn_xcalloc(1, sizeof(*out));
    const char *p = pattern;

    while (p && *p == '/') {
        p++;
        p = *p == '{' ? variable(out, p + 1) : segment(out, p);
    }
    if (!p || *p || !out->n) {
        free(out);
        return NULL;
    }
    return out;
}

bool http_path_cut(tn_str path, http_path *out)
{
    const char *p = path.p + 1, *end = path.p + path.n;

    out->n = 0;
    out->whole = path;
    for (;;) {
        const char *slash = p < end ? memchr(p, '/', (size_t)(end - p)) : NULL;
        if (out->n == HTTP_SEGMENTS_MAX)
            return false;
        out->segments[out->n++] = (tn_str){p, (size_t)((slash ? slash : end) - p)};
        if (!slash)
            return true;
        p = slash + 1;
    }
}

int http_pattern_match(const http_pattern *pattern, const http_path *path, tn_arena *arena,
                       tn_http_pair *params, size_t *n_params)
{
    if (pattern->deep ? path->n < pattern->n : path->n != pattern->n)
        return 0;
    for (size_t i = 0; i < pattern->n; i++) {
        if (pattern->segments[i].kind == LITERAL &&
            !tn_str_eq(pattern->segments[i].text, path->segments[i]))
            return 0;
    }
    for (size_t i = 0; i < pattern->n_params; i++) {
        const char *from = path->segments[pattern->params[i].from].p, *to;
        size_t last = pattern->params[i].to == SIZE_MAX ? path->n : pattern->params[i].to;
        to = path->segments[last - 1].p + path->segments[last - 1].n;
        params[i].name = pattern->params[i].name;
        if (!http_unescape((tn_str){from, (size_t)(to - from)}, false, arena, &params[i].value))
            return -1;
    }
    *n_params = pattern->n_params;
    return 1;
}
