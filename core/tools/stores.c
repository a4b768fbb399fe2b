/* SPDX-License-Identifier: MIT */
/* Which plugins a configuration's datastores mean: a datastore has a name and a plugin; what kind of plugin that is says
 * its use. */
#include "tools/tools.h"

#include <stdio.h>

tn_plugin_options tn_tool_plugin_options(const tn_settings *settings)
{
    return (tn_plugin_options){.root = tn_config_root(settings->tree), .own_files = true};
}

typedef struct search {
    const tn_settings *settings;
    tn_config_problems *problems;
    tn_tool_store *out;
    size_t n;
} search;

static bool add(search *s, const tn_settings_plugin *store, tn_kind kind,
                tn_config_problems *problems)
{
    tn_plugin_options options = tn_tool_plugin_options(s->settings);
    for (size_t i = 0; i < s->n; i++)
        if (s->out[i].store == store && s->out[i].kind == kind)
            return true;
    tn_tool_store found = {.store = store, .kind = kind};
    if (tn_plugin_look(&options, kind, store->stanza, problems, &found.plugin) != TN_OK)
        return false;
    s->out[s->n++] = found;
    return true;
}

/* Not used: every kind that its plugin exists for. */
static void add_unused(search *s, const tn_settings_plugin *store)
{
    static const tn_kind kinds[] = {TN_KIND_PERSISTENCE, TN_KIND_VISIBILITY};
    tn_config_problems *why[TN_COUNT_OF(kinds)];
    bool any = false;
    for (size_t i = 0; i < TN_COUNT_OF(kinds); i++) {
        why[i] = tn_config_problems_create();
        any |= add(s, store, kinds[i], why[i]);
    }
    for (size_t i = 0; i < TN_COUNT_OF(kinds); i++) {
        for (size_t k = 0; !any && k < tn_config_problems_count(why[i]); k++)
            tn_config_problems_add(s->problems, tn_config_problems_text(why[i], k));
        tn_config_problems_destroy(why[i]);
    }
}

static bool wanted(const tn_settings_plugin *store, const char *only)
{
    return !only || strcmp(store->stanza_name, only) == 0;
}

size_t tn_tool_find_stores(const tn_settings *settings, const char *only, bool all,
                           tn_config_problems *problems, tn_tool_store *out)
{
    search s = {.settings = settings, .problems = problems, .out = out};
    const struct {
        const tn_settings_plugin *store;
        tn_kind kind;
    } uses[] = {{settings->store, TN_KIND_PERSISTENCE},
                {settings->visibility, TN_KIND_VISIBILITY},
                {settings->second_visibility, TN_KIND_VISIBILITY}};
    bool known = !only;
    for (size_t i = 0; i < settings->stores_count; i++) {
        const tn_settings_plugin *store = &settings->stores[i];
        if (!wanted(store, only))
            continue;
        known = true;
        bool used = false;
        for (size_t k = 0; k < TN_COUNT_OF(uses); k++) {
            if (uses[k].store != store)
                continue;
            used = true;
            add(&s, store, uses[k].kind, problems);
        }
        if (!used && (all || only))
            add_unused(&s, store);
    }
    if (!known) {
        const tn_config *root = tn_config_root(settings->tree);
        tn_config_complain_at(problems, root, "persistence.datastores",
                              "name one of persistence.datastores with --store",
                              "datastore \"%.60s\" is not defined", only);
    }
    return s.n;
}
