/* SPDX-License-Identifier: MIT */
/* From a file that was looked at to its entry.  Code is never unloaded: a library's threads, destructors and runtime
 * (Go's, for one) may outlive the instance.
 *
 * A new file at an old path is loaded as what it is.  The dynamic linker goes by names first and would give back the old
 * library, so each file that was ever loaded from a path gets a spelling of its own: "/." and "/" before the last part,
 * which mean nothing to the kernel, stand for the bits of a number.  An old file that is still mapped keeps its
 * inode, so a new one is told from it by that; a file that was written over in place is neither and refused. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "plugin/private.h"

typedef struct library { /* [main] one file that was loaded */
    struct library *next;
    char *path; /* real */
    dev_t dev;
    ino_t ino;
    char sha256[65];
    char *spelling; /* by which the dynamic linker knows it */
    bool loaded;
} library;

static library *libraries;

/* The generation-th spelling of a real path; 0 is the path itself. */
static char *spell(const char *path, uint32_t generation)
{
    tn_buf out = {0};
    const char *base = strrchr(path, '/');
    tn_buf_put(&out, path, (size_t)(base - path));
    for (uint32_t bits = generation; bits; bits >>= 1)
        tn_buf_put(&out, "/.", bits & 1 ? 2 : 1);
    tn_buf_put(&out, base, strlen(base) + 1);
    char *text = tn_xstrdup((const char *)out.p);
    tn_buf_done(&out);
    return text;
}

/* The library that this file is, or a new entry for it; NULL after a complaint. */
static library *library_of(tn_plugin_search *search)
{
    uint32_t generation = 0;
    for (library *l = libraries; l; l = l->next) {
        if (strcmp(l->path, search->path) != 0)
            continue;
        generation++;
        if (l->dev != search->dev || l->ino != search->ino)
            continue;
        if (strcmp(l->sha256, search->sha256) == 0)
            return l;
        tn_plugin_complain(search, "plugin",
                           "restart the server; from now on replace a plugin by another file "
                           "(install, mv), do not write over it",
                           "%s was written over while it is loaded: what runs may be damaged",
                           search->path);
        return NULL;
    }
    library *l = tn_xcalloc(1, sizeof *l);
    l->path = tn_xstrdup(search->path);
    l->dev = search->dev;
    l->ino = search->ino;
    snprintf(l->sha256, sizeof l->sha256, "%s", search->sha256);
    l->spelling = spell(search->path, generation);
    l->next = libraries;
    libraries = l;
    return l;
}

static void forget(library *l)
{
    library **link = &libraries;
    while (*link != l)
        link = &(*link)->next;
    *link = l->next;
    free(l->path), free(l->spelling), free(l);
}

/* The file that was looked at is not the one that was loaded: somebody is at work there. */
static bool still_there(tn_plugin_search *search)
{
    struct stat st;
    if (stat(search->path, &st) == 0 && st.st_dev == search->dev && st.st_ino == search->ino)
        return true;
    tn_plugin_complain(search, "plugin", "try again when the new file is in place",
                       "%s was replaced while it was being loaded", search->path);
    return false;
}

static void *open_library(tn_plugin_search *search)
{
    library *l = search->ino ? library_of(search)
                             : NULL; /* no inode: a tool that has not looked at the file */
    if (search->ino && !l)
        return NULL;
    (void)dlerror();
    void *handle = dlopen(l ? l->spelling : search->path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (handle && l && !still_there(search)) {
        l->ino = 0; /* its spelling stands for something unknown */
        return NULL;
    }
    if (handle) {
        if (l)
            l->loaded = true;
        return handle;
    }
    char why[512];
    const char *text = dlerror();
    snprintf(why, sizeof why, "%s", text ? text : "unknown error"); /* the next dl call reuses it */
    if (l && !l->loaded)
        forget(l); /* not mapped: its inode may become another file's */
    tn_plugin_complain(search, "plugin", "install what it needs, or a build without that need",
                       "cannot load %s: %s", search->path, why);
    return NULL;
}

bool tn_plugin_load(tn_plugin_search *search, tn_plugin_entry *out)
{
    void *handle = open_library(search);
    if (!handle)
        return false;
    *(void **)(void *)out = dlsym(handle, "tn_plugin_v0");
    if (*out)
        return true;
    bool newer = dlsym(handle, "tn_plugin_v1") != NULL;
    tn_plugin_complain(search, "plugin",
                       newer
                           ? "install it built for ABI 0, or a server with ABI 1"
                           : "export tn_plugin_v0 (the export map of pkg-config tenon-plugin does)",
                       newer ? "%s speaks ABI 1, this server speaks ABI 0"
                             : "%s does not export tn_plugin_v0: no Tenon plugin",
                       search->path);
    return false;
}
