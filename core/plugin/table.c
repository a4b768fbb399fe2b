/* SPDX-License-Identifier: MIT */
/* What a library says of itself, compared with what this server needs.  All differences are told, each
 * with both values; nothing is read past the size that the library promised. */
#include <stdio.h>
#include <string.h>

#include "plugin/private.h"

#define TABLE_BYTES_MIN (offsetof(tn_plugin, ops) + sizeof(void *)) /* ABI 0.0 */

typedef struct member {
    const char *name;
    size_t at;
} member;
#define MEMBER(type, m) \
    { \
#m, offsetof(type, m) \
    }
static const member persistence_members[] = {MEMBER(tn_persistence_ops, get),
                                             MEMBER(tn_persistence_ops, scan),
                                             MEMBER(tn_persistence_ops, commit)};
static const member visibility_members[] = {
    MEMBER(tn_visibility_ops, put), MEMBER(tn_visibility_ops, remove),
    MEMBER(tn_visibility_ops, list), MEMBER(tn_visibility_ops, count)};
static const member mapper_members[] = {MEMBER(tn_claim_mapper_ops, map)};
static const member authorizer_members[] = {MEMBER(tn_authorizer_ops, authorize)};

static const struct kind_rules {
    const member *members;
    size_t n_members;
    uint64_t caps; /* without these the server cannot work */
} rules[] = {
    [TN_KIND_PERSISTENCE] = {persistence_members, TN_COUNT_OF(persistence_members),
                             TN_CAP_ATOMIC_CROSS_TABLE | TN_CAP_RANGE_DELETE},
    [TN_KIND_VISIBILITY] = {visibility_members, TN_COUNT_OF(visibility_members), 0},
    [TN_KIND_CLAIM_MAPPER] = {mapper_members, TN_COUNT_OF(mapper_members), 0},
    [TN_KIND_AUTHORIZER] = {authorizer_members, TN_COUNT_OF(authorizer_members), 0},
};

bool tn_plugin_check_head(tn_plugin_search *search, const tn_plugin *plugin)
{
    if (plugin->magic != TN_PLUGIN_MAGIC) {
        tn_plugin_complain(search, "plugin",
                           "set .magic = TN_PLUGIN_MAGIC in its table and build it again",
                           "the table of %s does not begin with the magic number", search->path);
        return false;
    }
    if (plugin->struct_size < TABLE_BYTES_MIN || plugin->struct_size > 65536) {
        tn_plugin_complain(search, "plugin", "set .struct_size = sizeof(tn_plugin)",
                           "its table has %u bytes, ABI %d.0 has %zu", plugin->struct_size,
                           TN_PLUGIN_ABI_MAJOR, TABLE_BYTES_MIN);
        return false;
    }
    if (plugin->abi_major != TN_PLUGIN_ABI_MAJOR || plugin->abi_minor > TN_PLUGIN_ABI_MINOR) {
        char fix[120];
        snprintf(fix, sizeof fix, "install it built for ABI %d, or a server with ABI %u",
                 TN_PLUGIN_ABI_MAJOR, plugin->abi_major);
        tn_plugin_complain(search, "plugin", fix,
                           "ABI %u.%u, this server speaks ABI %d (%d.0 to %d.%d)",
                           plugin->abi_major, plugin->abi_minor, TN_PLUGIN_ABI_MAJOR,
                           TN_PLUGIN_ABI_MAJOR, TN_PLUGIN_ABI_MAJOR, TN_PLUGIN_ABI_MINOR);
        return false;
    }
    return true;
}

const tn_plugin *tn_plugin_pick(tn_plugin_search *search, const tn_plugin *(*list)(uint32_t))
{
    char kinds[256] = "";
    for (uint32_t i = 0; i < TN_PLUGIN_LIST_MAX; i++) {
        const tn_plugin *plugin = list(i);
        if (!plugin)
            break;
        if (!tn_plugin_check_head(search, plugin))
            return NULL;
        if (plugin->kind == search->kind)
            return plugin;
        size_t n = strlen(kinds);
        snprintf(kinds + n, sizeof kinds - n, "%s%s", n ? ", " : "",
                 tn_plugin_kind_name(plugin->kind));
    }
    tn_plugin_complain(search, "plugin", "name a plugin of this kind", "%s holds kinds %s; not %s",
                       search->path, kinds[0] ? kinds : "none", tn_plugin_kind_name(search->kind));
    return NULL;
}

bool tn_plugin_check_table(tn_plugin_search *search, const tn_plugin *plugin)
{
    const struct kind_rules *rule = &rules[search->kind];
    bool ok = true;
    if (!plugin->name || !plugin->name[0] || !plugin->version || !plugin->config_keys) {
        tn_plugin_complain(search, "plugin", NULL, "its table lacks %s",
                           !plugin->name || !plugin->name[0] ? "name"
                           : !plugin->version                ? "version"
                                              : "config_keys (\"\" when it reads none)");
        ok = false;
    }
    if (!plugin->open) {
        tn_plugin_complain(search, "plugin", NULL, "required function \"open\" is missing");
        ok = false;
    }
    if (!plugin->attach != !plugin->detach) {
        tn_plugin_complain(search, "plugin", "set both, or neither", "it has \"%s\" but not \"%s\"",
                           plugin->attach ? "attach" : "detach",
                           plugin->attach ? "detach" : "attach");
        ok = false;
    }
    if (plugin->needs & ~tn_plugin_host.features) {
        tn_plugin_complain(search, "plugin", "install a newer server",
                           "it needs host features %#llx, this server has %#llx",
                           (unsigned long long)plugin->needs,
                           (unsigned long long)tn_plugin_host.features);
        ok = false;
    }
    if (rule->caps & ~plugin->caps) {
        tn_plugin_complain(search, "plugin", NULL,
                           "it offers capabilities %#llx, the server requires %#llx",
                           (unsigned long long)plugin->caps, (unsigned long long)rule->caps);
        ok = false;
    }
    if (!plugin->ops) {
        tn_plugin_complain(search, "plugin", NULL, "its table has no operations");
        return false;
    }
    for (size_t i = 0; i < rule->n_members; i++) {
        const member *m = &rule->members[i];
        void *function = NULL;
        if (plugin->ops_size >= m->at + sizeof function)
            memcpy(&function, (const char *)plugin->ops + m->at, sizeof function);
        if (!function) {
            tn_plugin_complain(search, "plugin", NULL, "required function \"%s\" is missing",
                               m->name);
            ok = false;
        }
    }
    return ok;
}
