/* SPDX-License-Identifier: MIT */
/* Patterns, compiled to the literal pieces between their stars. */
#include "glob.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct piece {
    size_t at, n; /* in the literal bytes */
} piece;

struct az_glob {
    size_t
        n_pieces; /* stars + 1; the first is the beginning, the last the end; either may be empty */
    char *bytes;
    piece pieces[];
};

static const char *special(const char *pattern, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (pattern[i] == '?' || pattern[i] == '[')
            return "only * is a wildcard; write \\? and \\[ for these letters themselves";
        if (pattern[i] != '\\')
            continue;
        if (++i == n || !memchr("*?[\\", pattern[i], 4))
            return "a backslash stands before * ? [ or \\ only";
    }
    return NULL;
}

static size_t count_stars(const char *pattern, size_t n)
{
    size_t stars = 0;
    for (size_t i = 0; i < n; i++) {
        if (pattern[i] == '\\')
            i++;
        else
            stars += pattern[i] == '*';
    }
    return stars;
}

az_glob *az_glob_compile(const char *pattern, size_t n, const char **out_why)
{
    *out_why = special(pattern, n);
    if (*out_why)
        return NULL;
    size_t count = count_stars(pattern, n) + 1;
    az_glob *glob = calloc(1, sizeof *glob + count * sizeof(piece) + n + 1);
    if (!glob) {
        *out_why = "out of memory";
        return NULL;
    }
    glob->n_pieces = count;
    glob->bytes = (char *)&glob->pieces[count];
    size_t used = 0, k = 0;
    for (size_t i = 0; i < n; i++) {
        if (pattern[i] == '*') {
            glob->pieces[++k].at = used;
            continue;
        }
        i += pattern[i] == '\\';
        glob->bytes[used++] = pattern[i];
        glob->pieces[k].n++;
    }
    return glob;
}

static bool same(const az_glob *glob, const piece *p, const char *text)
{
    return p->n == 0 || memcmp(glob->bytes + p->at, text, p->n) == 0;
}

bool az_glob_match(const az_glob *glob, const char *text, size_t n)
{
    const piece *first = &glob->pieces[0], *last = &glob->pieces[glob->n_pieces - 1];
    if (first == last)
        return n == first->n && same(glob, first, text);
    if (n < first->n + last->n || !same(glob, first, text) ||
        (last->n && !same(glob, last, text + n - last->n)))
        return false;
    text += first->n; /* of no length: text may be NULL, and nothing is added to it */
    n -= first->n + last->n;
    for (const piece *p = first + 1; p < last; p++) {
        if (p->n == 0)
            continue;
        const char *found = n ? memmem(text, n, glob->bytes + p->at, p->n) : NULL;
        if (!found)
            return false;
        n -= (size_t)(found - text) + p->n;
        text = found + p->n;
    }
    return true;
}

/* ---- part by part ---- */

struct az_path {
    char at;
    bool open; /* ended by "**" */
    size_t n;
    az_glob *parts[];
};

static size_t part_of(const char *text, size_t n, char at)
{
    const char *end = n ? memchr(text, at, n) : NULL;
    return end ? (size_t)(end - text) : n;
}

void az_path_free(az_path *path)
{
    for (size_t i = 0; path && i < path->n; i++)
        free(path->parts[i]);
    free(path);
}

static az_glob *compile_part(const char *text, size_t n, bool fold, const char **out_why)
{
    char *copy = malloc(n + 1);
    if (!copy) {
        *out_why = "out of memory";
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        copy[i] = fold && text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];
    az_glob *glob = az_glob_compile(copy, n, out_why);
    free(copy);
    return glob;
}

az_path *az_path_compile(const char *pattern, size_t n, char at, bool fold, const char **out_why)
{
    size_t count = 1;
    for (size_t i = 0; i < n; i++)
        count += pattern[i] == at;
    az_path *path = calloc(1, sizeof *path + count * sizeof path->parts[0]);
    *out_why = path ? NULL : "out of memory";
    for (size_t i = 0; path && i < count; i++) {
        size_t part = part_of(pattern, n, at);
        path->at = at;
        if (part == 2 && memcmp(pattern, "**", 2) == 0) {
            path->open = true;
            if (i + 1 < count)
                *out_why = "** stands at the end only";
        } else {
            path->parts[i] = compile_part(pattern, part, fold, out_why);
            path->n += path->parts[i] != NULL;
        }
        if (*out_why) {
            az_path_free(path);
            return NULL;
        }
        if (i + 1 < count) {
            pattern += part + 1;
            n -= part + 1;
        }
    }
    return path;
}

bool az_path_match(const az_path *path, const char *text, size_t n)
{
    for (size_t i = 0; i < path->n; i++) {
        size_t part = part_of(text, n, path->at);
        if (!az_glob_match(path->parts[i], text, part))
            return false;
        bool more = part < n;
        if (i + 1 == path->n)
            return more == path->open;
        if (!more)
            return false;
        text += part + 1;
        n -= part + 1;
    }
    return path->open && n > 0;
}
