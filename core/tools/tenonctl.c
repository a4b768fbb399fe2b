/* SPDX-License-Identifier: MIT */
/* The tool of operators and plugin authors.  Today it looks at plugins: it loads a library by the checks of a server's
 * start and says what is in it, or everything that is wrong with it. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "plugin/plugin.h"

static const char usage_text[] = "usage: tenonctl plugin info FILE.so\n"
                                 "       tenonctl --version | --help\n";
static const char help_text[] =
    "\n"
    "  plugin info FILE.so   check the library as a server's start does, and say what it holds:\n"
    "                        path, digest, build id; kind, name, version, ABI, capabilities, keys\n"
    "\n"
    "The library is loaded, so that its constructors run; nothing is opened.\n"
    "Ends with 0 when all is well, 1 when the library was refused, 2 for a wrong command line.\n"
    "See tenonctl(8).\n";

/* ---- plugin info ---- */

typedef struct cap_name {
    tn_kind kind;
    uint64_t cap;
    const char *name;
} cap_name;

static const cap_name cap_names[] = {
    {TN_KIND_CLAIM_MAPPER, TN_CAP_MAP_ANONYMOUS, "map-anonymous"},
    {TN_KIND_PERSISTENCE, TN_CAP_ATOMIC_CROSS_TABLE, "atomic-cross-table"},
    {TN_KIND_PERSISTENCE, TN_CAP_ATOMIC_CROSS_PARTITION, "atomic-cross-partition"},
    {TN_KIND_PERSISTENCE, TN_CAP_TTL, "ttl"},
    {TN_KIND_PERSISTENCE, TN_CAP_RANGE_DELETE, "range-delete"},
    {TN_KIND_PERSISTENCE, TN_CAP_DURABLE, "durable"},
};

static void print_file(void *user, const char *path, const char *sha256, const char *build_id)
{
    (void)user;
    printf("path      %s\nsha256    %s\nbuild-id  %s\n", path, sha256,
           build_id[0] ? build_id : "none");
}

static void print_caps(const tn_plugin *plugin)
{
    uint64_t rest = plugin->caps;
    printf("  caps    ");
    for (size_t i = 0; i < TN_COUNT_OF(cap_names); i++) {
        if (cap_names[i].kind != plugin->kind || !(rest & cap_names[i].cap))
            continue;
        printf(" %s", cap_names[i].name);
        rest &= ~cap_names[i].cap;
    }
    if (rest)
        printf(" %#llx", (unsigned long long)rest);
    puts(plugin->caps ? "" : " none");
}

static void print_keys(const char *keys)
{
    puts(keys[0] ? "  keys" : "  keys     none");
    while (*keys) {
        size_t n = strcspn(keys, "\n");
        if (n)
            printf("    %.*s\n", (int)n, keys);
        keys += n + (keys[n] == '\n');
    }
}

static void print_plugin(void *user, const tn_plugin *plugin)
{
    (void)user;
    printf("\n%s plugin \"%s\"\n", tn_plugin_kind_name(plugin->kind), plugin->name);
    printf("  version  %s\n", plugin->version);
    if (plugin->vendor && plugin->vendor[0])
        printf("  vendor   %s\n", plugin->vendor);
    printf("  ABI      %u.%u\n", plugin->abi_major, plugin->abi_minor);
    print_caps(plugin);
    print_keys(plugin->config_keys);
}

static int plugin_info(const char *path)
{
    tn_config_problems *problems = tn_config_problems_create();
    tn_status status = tn_plugin_about(path, problems, print_file, print_plugin, NULL);
    fflush(stdout);
    tn_config_problems_print(problems);
    tn_config_problems_destroy(problems);
    return status == TN_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("tenonctl " PACKAGE_VERSION);
        return 0;
    }
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf("%s%s", usage_text, help_text);
        return 0;
    }
    if (argc == 4 && strcmp(argv[1], "plugin") == 0 && strcmp(argv[2], "info") == 0)
        return plugin_info(argv[3]);
    fputs(usage_text, stderr);
    return 2;
}
