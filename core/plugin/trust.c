/* SPDX-License-Identifier: MIT */
/* Who could have changed this file?  A plugin runs with all rights of the server, so the file and every
 * folder above it must belong to root (or to the user named when Tenon was configured) and be writable by
 * nobody else.  For start-dev the user who runs the server counts too, and a sticky folder such as /tmp
 * is accepted: there only an entry's owner can replace it. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "plugin/private.h"

#ifndef TN_PLUGIN_OWNER_UID
#define TN_PLUGIN_OWNER_UID 0
#endif

static const char *user_name(uid_t uid, char *out, size_t size)
{
    struct passwd *pw = getpwuid(uid);
    if (pw)
        snprintf(out, size, "%s", pw->pw_name);
    else
        snprintf(out, size, "uid %lu", (unsigned long)uid);
    return out;
}

static bool owner_trusted(const tn_plugin_search *search, uid_t uid)
{
    return uid == 0 || uid == (uid_t)TN_PLUGIN_OWNER_UID ||
           (search->options->own_files && uid == geteuid());
}

static bool check_one(tn_plugin_search *search, const char *path, bool is_file)
{
    struct stat st;
    char owner[64], fix[PATH_MAX + 128];
    const char *what = is_file ? "file" : "directory";
    if (stat(path, &st) != 0) {
        tn_plugin_complain(search, "plugin", NULL, "cannot look at %s: %s", path, strerror(errno));
        return false;
    }
    if (is_file && !S_ISREG(st.st_mode)) {
        tn_plugin_complain(search, "plugin", NULL, "%s is not a regular file", path);
        return false;
    }
    bool ok = true;
    if (!owner_trusted(search, st.st_uid)) {
        snprintf(fix, sizeof fix, "chown root %s, or install the plugin elsewhere", path);
        tn_plugin_complain(search, "plugin", fix,
                           "cannot load %s: %s %s is owned by %s, not by root%s", search->path,
                           what, path, user_name(st.st_uid, owner, sizeof owner),
                           search->options->own_files ? " or the user who runs the server" : "");
        ok = false;
    }
    bool sticky = !is_file && search->options->own_files && (st.st_mode & S_ISVTX);
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) && !sticky) {
        const struct group *group = getgrgid(st.st_gid);
        snprintf(fix, sizeof fix, "chmod go-w %s, or install the plugin elsewhere", path);
        tn_plugin_complain(search, "plugin", fix,
                           "cannot load %s: %s %s is writable by %s%s (mode %04o, owner %s)",
                           search->path, what, path, st.st_mode & S_IWOTH ? "everyone" : "group ",
                           st.st_mode & S_IWOTH ? ""
                           : group              ? group->gr_name
                                                : "?",
                           (unsigned)(st.st_mode & 07777),
                           user_name(st.st_uid, owner, sizeof owner));
        ok = false;
    }
    return ok;
}

bool tn_plugin_trust(tn_plugin_search *search)
{
    char path[PATH_MAX];
    bool ok = check_one(search, search->path, true);
    snprintf(path, sizeof path, "%s", search->path);
    for (;;) {
        char *slash = strrchr(path, '/');
        if (!slash)
            return ok;
        slash[slash == path ? 1 : 0] = '\0';
        if (!check_one(search, path, false))
            ok = false;
        if (path[1] == '\0')
            return ok;
    }
}
