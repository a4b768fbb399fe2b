/* SPDX-License-Identifier: MIT */
/* Unknown keys: a misspelt setting must not be silently without effect. */
#include <stdio.h>
#include <stdlib.h>

#include "config/private.h"

#define WORD_MAX 64u
#define PLUGIN_KEYS_MAX 256u

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

/* Edits (insert, delete, replace, swap of neighbours) between two words, letter case apart. */
static size_t distance(tn_str a, tn_str b)
{
    size_t rows[3][WORD_MAX + 1];
    for (size_t k = 0; k <= b.n; k++)
        rows[0][k] = k;
    for (size_t i = 1; i <= a.n; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t k = 1; k <= b.n; k++) {
            bool same = lower(a.p[i - 1]) == lower(b.p[k - 1]);
            size_t best = before[k - 1] + !same;
            if (before[k] + 1 < best)
                best = before[k] + 1;
            if (now[k - 1] + 1 < best)
                best = now[k - 1] + 1;
            if (i > 1 && k > 1 && lower(a.p[i - 1]) == lower(b.p[k - 2]) &&
                lower(a.p[i - 2]) == lower(b.p[k - 1]) && two[k - 2] + 1 < best)
                best = two[k - 2] + 1;
            now[k] = best;
        }
    }
    return rows[a.n % 3][b.n];
}

const char *tn_config_nearest(tn_str word, const char *const *words, size_t count)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;
    for (size_t i = 0; i < count && word.n <= WORD_MAX; i++) {
        tn_str other = tn_str_from(words[i]);
        if (other.n > WORD_MAX)
            continue;
        size_t d = distance(word, other);
        if (d < best_distance) {
            best_distance = d;
            best = words[i];
        }
    }
    return best && best_distance <= (word.n < 4 ? 1 : word.n / 3) ? best : NULL;
}

struct keys {
    const char *const *paths;
    const bool *open;
    size_t count;
    const char *who;
    tn_config_problems *problems;
    const tn_config *top;
};

/* How a node's path (words below the top) meets a known path. */
enum match { NOT_ON_IT, ON_THE_WAY, THERE, BELOW };

static enum match match_path(const tn_config *const *chain, size_t depth, const char *path)
{
    for (size_t i = 0; i < depth; i++) {
        if (!*path)
            return BELOW;
        size_t n = strcspn(path, ".");
        tn_str word = {path, n};
        const tn_config *at = chain[depth - 1 - i];
        bool any = tn_str_is(word, "*");
        if (!any && (at->parent->kind == TN_CONFIG_LIST || !tn_str_eq(at->key, word)))
            return NOT_ON_IT;
        path += n + (path[n] == '.');
    }
    return *path ? ON_THE_WAY : THERE;
}

static size_t chain_of(const struct keys *keys, const tn_config *node,
                       const tn_config *chain[TN_CONFIG_DEPTH_MAX])
{
    size_t depth = 0;
    for (; node != keys->top; node = node->parent)
        chain[depth++] = node;
    return depth;
}

/* Whether some path knows this node; *open: nothing below it is checked. */
static bool known(const struct keys *keys, const tn_config *node, bool *open)
{
    const tn_config *chain[TN_CONFIG_DEPTH_MAX];
    size_t depth = chain_of(keys, node, chain);
    bool found = false;
    *open = false;
    for (size_t i = 0; i < keys->count; i++) {
        enum match m = match_path(chain, depth, keys->paths[i]);
        if (m == ON_THE_WAY || m == THERE)
            found = true;
        if (m == THERE && keys->open && keys->open[i])
            *open = true;
    }
    return found;
}

static void complain_unknown(const struct keys *keys, const tn_config *node)
{
    const char *words[PLUGIN_KEYS_MAX];
    char kept_words[PLUGIN_KEYS_MAX][WORD_MAX + 1];
    const tn_config *chain[TN_CONFIG_DEPTH_MAX];
    size_t count = 0, depth = chain_of(keys, node, chain);
    for (size_t i = 0; i < keys->count && count < PLUGIN_KEYS_MAX; i++) {
        const char *path = keys->paths[i];
        if (depth > 1 && match_path(chain + 1, depth - 1, path) != ON_THE_WAY)
            continue;
        for (size_t k = 1; k < depth; k++)
            path += strcspn(path, ".") + 1;
        size_t n = strcspn(path, ".");
        if (n == 0 || n > WORD_MAX || *path == '*')
            continue;
        memcpy(kept_words[count], path, n);
        kept_words[count][n] = 0;
        words[count] = kept_words[count];
        count++;
    }
    const char *near = tn_config_nearest(node->key, words, count);
    char fix[200];
    snprintf(fix, sizeof fix, near ? "write %s, or remove the line" : "remove the line", near);
    tn_config_complain_at(keys->problems, node, NULL, fix,
                          "%s%sunknown key \"" TN_STR_FMT "\"%s%s%s", keys->who ? keys->who : "",
                          keys->who ? ": " : "", TN_STR_ARG(node->key),
                          near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "");
}

static void check(const struct keys *keys)
{
    const tn_config *node = tn_config_first(keys->top);
    while (node) {
        bool open = true, ok = known(keys, node, &open);
        if (!ok)
            complain_unknown(keys, node);
        if (ok && !open && node->first) {
            node = node->first;
            continue;
        }
        while (node != keys->top && !node->next)
            node = node->parent;
        node = node == keys->top ? NULL : node->next;
    }
}

void tn_config_check_keys(const tn_config *node, const char *const *paths, const bool *open,
                          size_t count, tn_config_problems *problems)
{
    if (node)
        check(&(struct keys){paths, open, count, NULL, problems, node});
}

struct word_list {
    const char *paths[PLUGIN_KEYS_MAX];
    bool open[PLUGIN_KEYS_MAX];
    size_t count;
};

static void add_word(struct word_list *list, tn_arena *arena, tn_str path, const char *tail,
                     bool open)
{
    if (list->count < PLUGIN_KEYS_MAX) {
        list->paths[list->count] = tn_arena_printf(arena, TN_STR_FMT "%s", TN_STR_ARG(path), tail);
        list->open[list->count] = open;
        list->count++;
    }
}

/* One "path type ..." line. */
static void add_line(struct word_list *list, tn_arena *arena, const char *line, size_t n)
{
    while (n && (*line == ' ' || *line == '\t'))
        line++, n--;
    size_t path_n = 0;
    while (path_n < n && line[path_n] != ' ' && line[path_n] != '\t')
        path_n++;
    size_t at = path_n;
    while (at < n && (line[at] == ' ' || line[at] == '\t'))
        at++;
    size_t type_n = 0;
    while (at + type_n < n && line[at + type_n] != ' ' && line[at + type_n] != '\t')
        type_n++;
    tn_str path = {line, path_n}, type = {line + at, type_n};
    if (!path_n)
        return;
    /* A secret that is no text is its reader's to refuse: named as unknown keys, its parts would be shown. */
    bool secret = tn_str_is(type, "secret");
    bool open = secret || tn_str_is(type, "map") || tn_str_is(type, "list");
    add_word(list, arena, path, "", open);
    if (secret) {
        add_word(list, arena, path, "File", false);
        add_word(list, arena, path, "Env", false);
        add_word(list, arena, path, "Command", true);
    }
}

void tn_config_check_plugin_keys(const tn_config *node, const char *config_keys,
                                 const char *const *own, const char *who,
                                 tn_config_problems *problems)
{
    if (!node)
        return;
    struct word_list *list = tn_xcalloc(1, sizeof *list);
    tn_arena *arena = tn_arena_create(0);
    for (const char *line = config_keys ? config_keys : ""; *line;) {
        size_t n = strcspn(line, "\n");
        add_line(list, arena, line, n);
        line += n + (line[n] == '\n');
    }
    for (; own && *own; own++)
        add_word(list, arena, tn_str_from(*own), "", false);
    check(&(struct keys){list->paths, list->open, list->count, who, problems, node});
    tn_arena_destroy(arena);
    free(list);
}
