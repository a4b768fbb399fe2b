/* SPDX-License-Identifier: MIT */
/* Schemas of drivers that need one set up: what `tenonctl schema` asks, and what is said when a server's start fails
 * for the lack of the right one. */
#include <stdio.h>
#include <string.h>

#include "plugin/private.h"

bool tn_plugin_has_schema(const tn_plugin *plugin)
{
    return TN_HAS(plugin, plugin->struct_size, tn_plugin, schema);
}

tn_status tn_plugin_schema(const tn_plugin *plugin, const tn_config *stanza, tn_schema_req *req,
                           tn_config_problems *problems)
{
    TN_ASSERT(tn_plugin_has_schema(plugin));
    tn_error err = {0};
    tn_status status = plugin->schema(&tn_plugin_host, stanza, req, &err);
    if (status == TN_OK || (status == TN_ECONFLICT && req->verb == TN_SCHEMA_CHECK))
        return status;
    tn_plugin_search search = {.kind = plugin->kind, .stanza = stanza, .problems = problems};
    snprintf(search.name, sizeof search.name, "%s", plugin->name);
    tn_plugin_complain_of(&search, &err, status > 0 ? TN_EINTERNAL : status);
    return status > 0 ? TN_EINTERNAL : status;
}

static void drop(void *user, const char *text, size_t n) { (void)user, (void)text, (void)n; }

bool tn_plugin_schema_is_why(tn_plugin_search *search, const tn_plugin *plugin, const tn_error *err,
                             tn_status status)
{
    /* A database that cannot be reached need not be waited for twice. */
    if (!tn_plugin_has_schema(plugin) || status == TN_EUNAVAILABLE)
        return false;
    tn_schema_req req = {.struct_size = sizeof req, .verb = TN_SCHEMA_VERSION, .emit = drop};
    tn_error none = {0};
    if (plugin->schema(&tn_plugin_host, search->stanza, &req, &none) != TN_OK ||
        req.stored == req.wanted)
        return false;
    const char *file = tn_config_file(search->stanza);
    tn_str name = tn_config_key(search->stanza);
    char fix[PATH_MAX + 200], what[200];
    if (req.stored > req.wanted)
        snprintf(fix, sizeof fix, "install the release of the plugin that made it, or a newer one");
    else
        snprintf(fix, sizeof fix, "tenonctl schema %s --config %s --store " TN_STR_FMT,
                 req.stored ? "update" : "setup", file, TN_STR_ARG(name));
    if (!req.stored)
        snprintf(what, sizeof what, "there is no schema yet, version %u is wanted", req.wanted);
    else
        snprintf(what, sizeof what, "schema version %u is stored, version %u is wanted", req.stored,
                 req.wanted);
    bool more = err->text[0] && !strstr(err->text, "schema");
    tn_plugin_complain(search, "plugin", fix, "%s%s%s", what, more ? ": " : "",
                       more ? err->text : "");
    return true;
}
