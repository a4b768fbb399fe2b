/* SPDX-License-Identifier: MIT */
/* What a library says of itself, for people: the checks of a start, short of opening anything. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/private.h"

static bool tell_tables(tn_plugin_search *search, tn_plugin_entry list,
                        void (*say)(void *user, const tn_plugin *plugin), void *user)
{
    bool good = true;
    for (uint32_t i = 0; i < TN_PLUGIN_LIST_MAX; i++) {
        const tn_plugin *plugin = list(i);
        if (!plugin && i == 0)
            tn_plugin_complain(search, NULL, "return a table for index 0", "%s holds no plugin",
                               search->path);
        if (!plugin)
            return good && i > 0;
        search->kind = 0;
        if (!tn_plugin_check_head(search, plugin))
            return false;
        if (plugin->kind < TN_KIND_PERSISTENCE || plugin->kind > TN_KIND_AUTHORIZER) {
            tn_plugin_complain(search, NULL, "set .kind to one of TN_KIND_*",
                               "%s holds a plugin of kind %u", search->path, plugin->kind);
            good = false;
            continue;
        }
        search->kind = plugin->kind;
        snprintf(search->name, sizeof search->name, "%s", plugin->name ? plugin->name : "");
        if (tn_plugin_check_table(search, plugin))
            say(user, plugin);
        else
            good = false;
    }
    return good;
}

tn_status tn_plugin_about(const char *path, tn_config_problems *problems,
                          void (*file)(void *user, const char *real_path, const char *sha256,
                                       const char *build_id),
                          void (*say)(void *user, const tn_plugin *plugin), void *user)
{
    static const tn_plugin_options options = {.own_files = true};
    tn_plugin_search *search = tn_xcalloc(1, sizeof *search);
    search->options = &options;
    search->problems = problems;
    tn_plugin_entry entry = NULL;
    bool good = false;
    if (!realpath(path, search->path)) {
        tn_plugin_complain(search, NULL, NULL, "%s: %s", path, strerror(errno));
    } else {
        bool trusted = tn_plugin_trust(search), sound = tn_plugin_inspect(search);
        if (sound)
            file(user, search->path, search->sha256, search->build_id);
        good = trusted && sound && tn_plugin_load(search, &entry) &&
               tell_tables(search, entry, say, user);
    }
    free(search);
    return good ? TN_OK : TN_EINVALID;
}
