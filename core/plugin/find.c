/* SPDX-License-Identifier: MIT */
/* From the configured name to one real path.  A bare name is looked up in the kind's folder of each
 * configured folder; an absolute path must lie below one of them.  Nothing else is a name: no relative
 * path, no "..", no search path of the dynamic linker. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/private.h"

#ifndef TN_PLUGIN_DIR
#define TN_PLUGIN_DIR "/usr/lib/tenon/plugins"
#endif

typedef struct dirs {
    char real[TN_PLUGIN_DIRS_MAX][PATH_MAX];
    size_t count;
    char said[1024]; /* as configured, for messages */
} dirs;

const char *tn_plugin_kind_name(tn_kind kind)
{
    static const char *const names[] = {"unknown", "persistence", "visibility", "claim mapper",
                                        "authorizer"};
    return names[kind < TN_COUNT_OF(names) ? kind : 0];
}

const char *tn_plugin_kind_dir(tn_kind kind)
{
    return kind == TN_KIND_CLAIM_MAPPER ? "claimmapper" : tn_plugin_kind_name(kind);
}

void tn_plugin_complain(tn_plugin_search *search, const char *key, const char *fix, const char *fmt,
                        ...)
{
    char what[1200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    search->failed = true;
    if (!search->stanza)
        key = NULL;
    if (search->kind == 0)
        tn_config_complain_at(search->problems, search->stanza, key, fix, "%s", what);
    else if (search->name[0])
        tn_config_complain_at(search->problems, search->stanza, key, fix, "%s plugin \"%s\": %s",
                              tn_plugin_kind_name(search->kind), search->name, what);
    else
        tn_config_complain_at(search->problems, search->stanza, key, fix, "%s plugin: %s",
                              tn_plugin_kind_name(search->kind), what);
}

static void add_dir(dirs *d, tn_plugin_search *search, const tn_config *node, tn_str text)
{
    char path[PATH_MAX], real[PATH_MAX];
    if (text.n == 0 || text.n >= sizeof path || text.p[0] != '/') {
        tn_config_complain_at(search->problems, node, NULL, "write an absolute path",
                              "plugin folder \"" TN_STR_FMT "\" is not an absolute path",
                              TN_STR_ARG(text));
        search->failed = true;
        return;
    }
    memcpy(path, text.p, text.n);
    path[text.n] = '\0';
    size_t said = strlen(d->said);
    snprintf(d->said + said, sizeof d->said - said, "%s%s", said ? ", " : "", path);
    if (!realpath(path, real)) {
        if (node) { /* the installation's own folder may be missing when others are named */
            tn_config_complain_at(search->problems, node, NULL,
                                  "create it, or take it from the list", "plugin folder %s: %s",
                                  path, strerror(errno));
            search->failed = true;
        }
        return;
    }
    if (d->count < TN_PLUGIN_DIRS_MAX)
        memcpy(d->real[d->count++], real, sizeof real);
}

static void collect_dirs(dirs *d, tn_plugin_search *search)
{
    d->count = 0;
    d->said[0] = '\0';
    const char *build = search->options->own_files ? secure_getenv("TENON_PLUGIN_DIR") : NULL;
    if (build && build[0])
        add_dir(d, search, NULL, tn_str_from(build));
    const tn_config *list =
        search->options->root ? tn_config_get(search->options->root, "plugins.dirs") : NULL;
    if (!list || tn_config_kind_of(list) == TN_CONFIG_NULL) {
        add_dir(d, search, NULL, tn_str_from(TN_PLUGIN_DIR));
        return;
    }
    if (tn_config_kind_of(list) != TN_CONFIG_LIST) {
        tn_config_complain_at(search->problems, list, NULL, "write a list of folders",
                              "is not a list");
        search->failed = true;
        return;
    }
    for (const tn_config *node = tn_config_first(list); node; node = tn_config_next(node))
        add_dir(d, search, node, tn_config_scalar(node));
}

static bool is_bare_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t n = strlen(name);
    return n > 0 && n <= 64 && strspn(name, allowed) == n;
}

static bool found(tn_plugin_search *search, const char *real)
{
    struct stat st;
    if (stat(real, &st) != 0) {
        tn_plugin_complain(search, "plugin", NULL, "cannot look at %s: %s", real, strerror(errno));
        return false;
    }
    snprintf(search->path, sizeof search->path, "%s", real);
    search->dev = st.st_dev;
    search->ino = st.st_ino;
    return true;
}

static bool find_bare(tn_plugin_search *search, const dirs *d)
{
    char path[PATH_MAX], real[PATH_MAX];
    for (size_t i = 0; i < d->count; i++) {
        int n = snprintf(path, sizeof path, "%s/%s/%s.so", d->real[i],
                         tn_plugin_kind_dir(search->kind), search->name);
        if (n < 0 || (size_t)n >= sizeof path)
            continue;
        if (realpath(path, real))
            return found(search, real);
        if (errno != ENOENT && errno != ENOTDIR) {
            tn_plugin_complain(search, "plugin", NULL, "cannot open %s: %s", path, strerror(errno));
            return false;
        }
    }
    char fix[2 * PATH_MAX];
    snprintf(fix, sizeof fix, "install %s.so in %s/%s, or correct the name", search->name,
             d->count ? d->real[0] : TN_PLUGIN_DIR, tn_plugin_kind_dir(search->kind));
    tn_plugin_complain(search, "plugin", fix, "there is no %s/%s.so below %s",
                       tn_plugin_kind_dir(search->kind), search->name, d->said);
    return false;
}

static bool find_absolute(tn_plugin_search *search, const dirs *d)
{
    char real[PATH_MAX];
    if (!realpath(search->name, real)) {
        tn_plugin_complain(search, "plugin", "correct the path", "cannot open %s: %s", search->name,
                           strerror(errno));
        return false;
    }
    for (size_t i = 0; i < d->count; i++) {
        size_t n = strlen(d->real[i]);
        if (strncmp(real, d->real[i], n) == 0 && (real[n] == '/' || (n == 1 && real[1])))
            return found(search, real);
    }
    tn_plugin_complain(search, "plugin", "install it there, or add its folder to plugins.dirs",
                       "%s is not below %s", real, d->said);
    return false;
}

bool tn_plugin_find(tn_plugin_search *search)
{
    tn_error err = {0};
    tn_str name = {0};
    tn_status status =
        search->stanza ? tn_config_str(search->stanza, "plugin", &name, &err) : TN_ENOTFOUND;
    if (status == TN_ENOTFOUND || (status == TN_OK && name.n == 0)) {
        tn_plugin_complain(search, "plugin", "name one, e.g. plugin: sqlite", "none is configured");
        return false;
    }
    if (status != TN_OK || name.n >= sizeof search->name) {
        search->failed = true;
        tn_config_problems_add(search->problems,
                               status != TN_OK ? err.text : "plugin: the name is too long");
        return false;
    }
    memcpy(search->name, name.p, name.n);
    search->name[name.n] = '\0';
    dirs *d = tn_xcalloc(1, sizeof *d);
    collect_dirs(d, search);
    bool ok = false;
    if (is_bare_name(search->name))
        ok = find_bare(search, d);
    else if (search->name[0] == '/')
        ok = find_absolute(search, d);
    else
        tn_plugin_complain(search, "plugin", "write the bare name (sqlite) or an absolute path",
                           "neither a bare name nor an absolute path");
    free(d);
    return ok;
}
