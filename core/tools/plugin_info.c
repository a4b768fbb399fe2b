/* SPDX-License-Identifier: MIT */
/* tenonctl plugin info: loads a library by the checks of a server's start and says what is in it, or everything that is
 * wrong with it. */
#include "tools/tools.h"

#include <stdio.h>

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

void tn_tool_print_plugin_file(void *user, const char *path, const char *sha256,
                               const char *build_id)
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

/* A function that a plugin may leave out. */
static void print_optional(const tn_plugin *plugin)
{
    const tn_visibility_ops *vis = plugin->ops;
    const tn_persistence_ops *store = plugin->ops;
    const char *names[4];
    size_t n = 0;
    if (plugin->attach)
        names[n++] = "attach";
    if (TN_HAS(plugin, plugin->struct_size, tn_plugin, schema))
        names[n++] = "schema";
    if (plugin->kind == TN_KIND_PERSISTENCE &&
        TN_HAS(store, plugin->ops_size, tn_persistence_ops, ping))
        names[n++] = "ping";
    if (plugin->kind == TN_KIND_VISIBILITY &&
        TN_HAS(vis, plugin->ops_size, tn_visibility_ops, define))
        names[n++] = "define";
    printf("  optional");
    for (size_t i = 0; i < n; i++)
        printf(" %s", names[i]);
    puts(n ? "" : " none");
}

void tn_tool_print_plugin(void *user, const tn_plugin *plugin)
{
    (void)user;
    printf("\n%s plugin \"%s\"\n", tn_plugin_kind_name(plugin->kind), plugin->name);
    printf("  version  %s\n", plugin->version);
    if (plugin->vendor && plugin->vendor[0])
        printf("  vendor   %s\n", plugin->vendor);
    printf("  ABI      %u.%u\n", plugin->abi_major, plugin->abi_minor);
    print_caps(plugin);
    print_optional(plugin);
    print_keys(plugin->config_keys);
}

static int plugin_info(const tn_tool *tool, int argc, char **argv)
{
    const char *path;
    int failed = tn_tool_options(tool, argc, argv, NULL, 0, &path, 1, 1);
    if (failed != TN_TOOL_GO_ON)
        return failed;
    tn_config_problems *problems = tn_config_problems_create();
    tn_status status =
        tn_plugin_about(path, problems, tn_tool_print_plugin_file, tn_tool_print_plugin, NULL);
    failed = tn_tool_end(problems);
    return status == TN_OK ? failed : TN_TOOL_FAILED;
}

const tn_tool tn_tools_plugin[] = {
    {.name = "plugin info",
     .args = "FILE.so",
     .brief = "check the library as a server's start does, and say what it holds",
     .help = "Prints path, digest and build id, then of each plugin kind, name, version, ABI, "
             "capabilities, optional\n"
             "functions, keys with what they mean.\n"
             "The library is loaded, so that its constructors run; nothing is opened.\n",
     .run = plugin_info},
    {0},
};
