/* SPDX-License-Identifier: MIT */
/* tenonctl plugin list: what is installed, a line a plugin.  Each library is looked at in a process of its own, so that
 * one that crashes, or does not get along with another, is only a line that says so. */
#include "tools/tools.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef TN_PLUGIN_DIR
#define TN_PLUGIN_DIR "/usr/lib/tenon/plugins"
#endif

static const char *const folders[] = {"persistence", "visibility", "claimmapper", "authorizer"};

typedef struct look {
    const char *folder, *path;
    char sha256[65], build_id[65];
    bool misplaced, whole; /* whole: all that is known of it */
} look;

static void take_file(void *user, const char *path, const char *sha256, const char *build_id)
{
    look *l = user;
    snprintf(l->sha256, sizeof l->sha256, "%s", sha256);
    snprintf(l->build_id, sizeof l->build_id, "%s", build_id);
    if (l->whole)
        tn_tool_print_plugin_file(NULL, path, sha256, build_id);
}

static const char *folder_of(tn_kind kind)
{
    return kind >= 1 && kind <= TN_COUNT_OF(folders) ? folders[kind - 1] : "?";
}

static void print_plugin(void *user, const tn_plugin *plugin)
{
    look *l = user;
    if (l->whole)
        tn_tool_print_plugin(NULL, plugin);
    else
        printf("%-12s %-16s %-10s %u.%u  %.12s  %s\n", folder_of(plugin->kind), plugin->name,
               plugin->version, plugin->abi_major, plugin->abi_minor, l->sha256, l->path);
    if (strcmp(folder_of(plugin->kind), l->folder) != 0)
        l->misplaced = true;
}

/* True when it is sound. */
static bool list_one(const char *folder, const char *path, bool whole)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        look l = {.folder = folder, .path = path, .whole = whole};
        tn_config_problems *problems = tn_config_problems_create();
        tn_status status = tn_plugin_about(path, problems, take_file, print_plugin, &l);
        if (l.misplaced) {
            char text[8400];
            snprintf(text, sizeof text,
                     "%s lies in the folder of another kind\n    fix: a bare name finds a plugin "
                     "in the folder of its kind only",
                     path);
            tn_config_problems_add(problems, text);
        }
        fflush(stdout);
        tn_config_problems_print(problems);
        _exit(status == TN_OK && !l.misplaced ? 0 : 1);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return false;
    if (WIFSIGNALED(status))
        fprintf(stderr, "%s: looking at it ended the process (signal %d)\n", path,
                WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int is_library(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 3 && strcmp(e->d_name + n - 3, ".so") == 0;
}

static bool list_folder(const char *root, const char *folder, bool whole, size_t *count)
{
    char path[4096];
    struct dirent **names = NULL;
    bool good = true;
    snprintf(path, sizeof path, "%s/%s", root, folder);
    int n = scandir(path, &names, is_library, alphasort);
    for (int i = 0; i < n; i++) {
        char file[8192];
        snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        if (whole && *count)
            putchar('\n');
        good &= list_one(folder, file, whole);
        (*count)++;
        free(names[i]);
    }
    free(names);
    return good;
}

static int run(const tn_tool *tool, int argc, char **argv)
{
    const char *root = NULL;
    bool whole = false;
    const tn_option options[] = {{"--plugin-dir", TN_OPTION_TEXT, &root},
                                 {"--long", TN_OPTION_FLAG, &whole}};
    int failed = tn_tool_options(tool, argc, argv, options, TN_COUNT_OF(options), NULL, 0, 0);
    if (failed != TN_TOOL_GO_ON)
        return failed;
    if (!root)
        root = secure_getenv("TENON_PLUGIN_DIR");
    if (!root || !root[0])
        root = TN_PLUGIN_DIR;
    if (access(root, R_OK) != 0) {
        fprintf(stderr, "tenonctl: plugin folder %s: %s\n    fix: name another with --plugin-dir\n",
                root, strerror(errno));
        return TN_TOOL_FAILED;
    }
    size_t count = 0;
    bool good = true;
    if (!whole)
        printf("%-12s %-16s %-10s %s  %-12s  %s\n", "KIND", "NAME", "VERSION", "ABI", "SHA256",
               "PATH");
    for (size_t i = 0; i < TN_COUNT_OF(folders); i++)
        good &= list_folder(root, folders[i], whole, &count);
    if (!count)
        fprintf(stderr, "tenonctl: there is no plugin below %s\n", root);
    return good && count ? TN_TOOL_OK : TN_TOOL_FAILED;
}

const tn_tool tn_tools_list[] = {
    {.name = "plugin list",
     .args = "[--plugin-dir DIR] [--long]",
     .brief = "say which plugins are installed",
     .help = "Looks at every library in the folders persistence, visibility, claimmapper and "
             "authorizer of DIR (default: the\n"
             "installation's, or TENON_PLUGIN_DIR).  What cannot be used is told on standard "
             "error; ends with 1 then.\n"
             "--long: of each what plugin info says.\n",
     .run = run},
    {0},
};
