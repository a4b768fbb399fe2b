/* SPDX-License-Identifier: MIT */
/* Any bytes as a configuration: parsed to a tree, read as settings, as dynamic config and as a
 * plugin's stanza.  Nothing on the way may run a command, so secrets are not asked for. */
#include "config/dynconfig.h"
#include "config/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const tn_config *root)
{
    const tn_config *node = root;
    while (node) {
        tn_error err = {0};
        tn_str text;
        int64_t i;
        uint64_t u;
        TN_ASSERT(tn_config_line(node) > 0);
        (void)tn_config_path_of(node);
        tn_config_kind kind = tn_config_kind_of(node);
        TN_ASSERT((tn_config_str(node, "", &text, &err) == TN_OK) == (kind == TN_CONFIG_SCALAR));
        (void)tn_config_i64(node, "", &i, &err);
        (void)tn_config_bytes(node, "", &u, &err);
        (void)tn_config_duration_ns(node, "a.0.b", &u, &err);
        TN_ASSERT(tn_utf8_valid((const uint8_t *)err.text, strlen(err.text)));
        /* Breadth is enough here: the first of the children, then the siblings. */
        node = tn_config_first(node) ? tn_config_first(node) : tn_config_next(node);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_log_configure(TN_LOG_NEVER, false);
    tn_config_problems *problems = tn_config_problems_create();
    tn_config_tree *tree = NULL;
    tn_settings *settings = NULL;
    size_t warnings = 0;
    tn_blob text = {data, size};
    tn_status status = tn_config_parse("fuzz", text, problems, &tree);
    TN_ASSERT((status == TN_OK) == (tn_config_problems_count(problems) == 0));
    if (status == TN_OK) {
        walk(tn_config_root(tree));
        tn_config_check_plugin_keys(tn_config_root(tree), "a text\nb.c int\nd secret\ne map\n",
                                    NULL, "fuzz", problems);
    }
    tn_config_tree_destroy(tree);
    if (tn_settings_parse("fuzz", text, problems, &settings) == TN_OK)
        tn_settings_destroy(settings);
    if (tn_dynconfig_apply("fuzz", text, problems, &warnings) == TN_OK)
        (void)tn_dyn_i64(TN_DYN_FRONTEND_NAMESPACE_RPS, TN_STR("a"), TN_STR("b"));
    tn_config_problems_destroy(problems);
    return 0;
}
