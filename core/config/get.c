/* SPDX-License-Identifier: MIT */
/* Walking a tree and reading typed values from it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/private.h"

tn_config_kind tn_config_kind_of(const tn_config *node)
{
    return node ? (tn_config_kind)node->kind : TN_CONFIG_NULL;
}

const tn_config *tn_config_child(const tn_config *map, tn_str key)
{
    if (!map || map->kind != TN_CONFIG_MAP)
        return NULL;
    const tn_config *child = map->first;
    while (child && !tn_str_eq(child->key, key))
        child = child->next;
    return child;
}

static const tn_config *item(const tn_config *list, tn_str word)
{
    uint64_t index;
    if (!tn_parse_u64(word, &index))
        return NULL;
    const tn_config *child = list->first;
    while (child && child->index != index)
        child = child->next;
    return child;
}

/* One step down a path; *path moves behind the word. */
static const tn_config *step(const tn_config *node, const char **path)
{
    size_t n = strcspn(*path, ".");
    tn_str word = {*path, n};
    *path += n + ((*path)[n] == '.');
    if (node->kind == TN_CONFIG_LIST)
        return item(node, word);
    return tn_config_child(node, word);
}

const tn_config *tn_config_get(const tn_config *node, const char *path)
{
    while (node && *path)
        node = step(node, &path);
    return node;
}

const tn_config *tn_config_first(const tn_config *node) { return node ? node->first : NULL; }
const tn_config *tn_config_next(const tn_config *node) { return node->next; }
tn_str tn_config_key(const tn_config *node) { return node->key; }
bool tn_config_quoted(const tn_config *node) { return node->quoted; }
const char *tn_config_file(const tn_config *node) { return node->tree->name; }
uint32_t tn_config_line(const tn_config *node) { return node->line; }

tn_str tn_config_scalar(const tn_config *node)
{
    return node && node->kind == TN_CONFIG_SCALAR ? node->text : (tn_str){"", 0};
}

const char *tn_config_path_of(const tn_config *node)
{
    static _Thread_local char path[512];
    const tn_config *chain[TN_CONFIG_DEPTH_MAX + 1];
    size_t depth = 0, n = 0;
    for (; node && node->parent && depth < TN_COUNT_OF(chain); node = node->parent)
        chain[depth++] = node;
    path[0] = 0;
    while (depth) {
        const tn_config *at = chain[--depth];
        int len = at->parent->kind == TN_CONFIG_LIST
                      ? snprintf(path + n, sizeof path - n, "%s%u", n ? "." : "", at->index)
                      : snprintf(path + n, sizeof path - n, "%s" TN_STR_FMT, n ? "." : "",
                                 TN_STR_ARG(at->key));
        if (len < 0 || (size_t)len >= sizeof path - n)
            break;
        n += (size_t)len;
    }
    return path;
}

const tn_config *tn_config_on_the_way(const tn_config *node, const char *path)
{
    while (*path) {
        const tn_config *down = step(node, &path);
        if (!down)
            break;
        node = down;
    }
    return node;
}

void tn_config_place(const tn_config *node, char *out, size_t size)
{
    snprintf(out, size, "%s:%u: ", node->tree->name, node->line);
}

tn_status tn_config_fail(const tn_config *node, const char *path, tn_error *err, const char *fmt,
                         ...)
{
    char place[300], text[300];
    tn_config_place(tn_config_on_the_way(node, path), place, sizeof place);
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const char *above = tn_config_path_of(node);
    return tn_error_set(err, TN_EINVALID, "%s%s%s%s: %s", place, above, *above && *path ? "." : "",
                        path, text);
}

void tn_config_complain(const tn_config *node, const char *path, const char *text, tn_error *err)
{
    tn_config_fail(node, path ? path : "", err, "%s", text);
}

/* The node with a value at path, NULL when it is not set. */
static const tn_config *set_at(const tn_config *node, const char *path)
{
    const tn_config *at = tn_config_get(node, path);
    return at && at->kind != TN_CONFIG_NULL ? at : NULL;
}

static tn_status mismatch(const tn_config *node, const char *path, const tn_config *at,
                          const char *wants, tn_error *err)
{
    if (at->kind == TN_CONFIG_MAP || at->kind == TN_CONFIG_LIST)
        return tn_config_fail(node, path, err, "has a %s, wants %s",
                              at->kind == TN_CONFIG_MAP ? "map" : "list", wants);
    return tn_config_fail(node, path, err, "has \"%.*s\"%s, wants %s",
                          at->text.n > 60 ? 60 : (int)at->text.n, at->text.p,
                          at->text.n > 60 ? "..." : "", wants);
}

tn_status tn_config_str(const tn_config *node, const char *path, tn_str *out, tn_error *err)
{
    const tn_config *at = set_at(node, path);
    if (!at)
        return TN_ENOTFOUND;
    if (at->kind != TN_CONFIG_SCALAR)
        return mismatch(node, path, at, "a text", err);
    *out = at->text;
    return TN_OK;
}

tn_status tn_config_i64(const tn_config *node, const char *path, int64_t *out, tn_error *err)
{
    const tn_config *at = set_at(node, path);
    if (!at)
        return TN_ENOTFOUND;
    if (at->kind != TN_CONFIG_SCALAR || !tn_parse_i64(at->text, out))
        return mismatch(node, path, at, "a whole number", err);
    return TN_OK;
}

tn_status tn_config_bool(const tn_config *node, const char *path, int32_t *out, tn_error *err)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    const tn_config *at = set_at(node, path);
    if (!at)
        return TN_ENOTFOUND;
    for (size_t i = 0; at->kind == TN_CONFIG_SCALAR && i < TN_COUNT_OF(words); i++) {
        if (tn_str_caseeq(at->text, tn_str_from(words[i]))) {
            *out = (int32_t)(i & 1);
            return TN_OK;
        }
    }
    return mismatch(node, path, at, "true or false", err);
}

tn_status tn_config_f64(const tn_config *node, const char *path, double *out, tn_error *err)
{
    const tn_config *at = set_at(node, path);
    if (!at)
        return TN_ENOTFOUND;
    if (at->kind != TN_CONFIG_SCALAR || !tn_parse_f64(at->text, out))
        return mismatch(node, path, at, "a number", err);
    return TN_OK;
}

tn_status tn_config_duration_ns(const tn_config *node, const char *path, uint64_t *out,
                                tn_error *err)
{
    const tn_config *at = set_at(node, path);
    int64_t ns;
    if (!at)
        return TN_ENOTFOUND;
    if (at->kind != TN_CONFIG_SCALAR || !tn_parse_duration_ns(at->text, &ns) || ns < 0)
        return mismatch(node, path, at, "a duration such as 10s, 5m or 1h30m", err);
    *out = (uint64_t)ns;
    return TN_OK;
}

static bool parse_bytes(tn_str s, uint64_t *out)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t digits = 0;
    while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
        digits++;
    tn_str unit = {s.p + digits, s.n - digits};
    uint64_t v;
    if (!tn_parse_u64((tn_str){s.p, digits}, &v))
        return false;
    if (!unit.n) {
        *out = v;
        return true;
    }
    for (unsigned i = 0; i < TN_COUNT_OF(units); i++) {
        if (tn_str_is(unit, units[i]))
            return !__builtin_mul_overflow(v, UINT64_C(1) << (10 * i), out);
    }
    return false;
}

tn_status tn_config_bytes(const tn_config *node, const char *path, uint64_t *out, tn_error *err)
{
    const tn_config *at = set_at(node, path);
    uint64_t v;
    if (!at)
        return TN_ENOTFOUND;
    if (at->kind != TN_CONFIG_SCALAR || !parse_bytes(at->text, &v))
        return mismatch(node, path, at, "a number of bytes such as 65536, 64KiB or 4MiB", err);
    *out = v;
    return TN_OK;
}

size_t tn_config_count(const tn_config *node, const char *path)
{
    const tn_config *at = tn_config_get(node, path);
    return at ? at->count : 0;
}
