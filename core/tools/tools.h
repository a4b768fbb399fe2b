/* SPDX-License-Identifier: MIT */
/* What the commands of tenonctl share: their table, the reading of options, the way they end. */
#ifndef TN_TOOLS_TOOLS_H
#define TN_TOOLS_TOOLS_H

#include "base/base.h"
#include "config/settings.h"
#include "plugin/plugin.h"

/* Exit statuses. */
#define TN_TOOL_OK 0
#define TN_TOOL_FAILED 1 /* it was looked at, or tried, and is not as it should be */
#define TN_TOOL_USAGE 2  /* the command line is wrong: nothing was done */
#define TN_TOOL_GO_ON -1 /* of tn_tool_options */

typedef struct tn_tool tn_tool;
struct tn_tool {
    const char *name;                                       /* "schema setup": one or two words */
    const char *args;                                       /* what follows them in a usage line */
    const char *brief;                                      /* one line for the list */
    const char *help;                                       /* further lines, may be NULL */
    int (*run)(const tn_tool *tool, int argc, char **argv); /* argv: behind the name */
    uint32_t verb;                                          /* for tools that share a function */
};

/* Ended by an entry without a name, one array a file. */
extern const tn_tool tn_tools_plugin[], tn_tools_schema[], tn_tools_verify[], tn_tools_copy[],
    tn_tools_check[], tn_tools_cluster[], tn_tools_list[], tn_tools_reload[], tn_tools_new[],
    tn_tools_authz[], tn_tools_operate[];

/* ---- options ---- */
typedef enum tn_option_type {
    TN_OPTION_FLAG,   /* bool */
    TN_OPTION_TEXT,   /* const char * */
    TN_OPTION_NUMBER, /* uint64_t */
    TN_OPTION_NS      /* uint64_t from a duration such as 10s */
} tn_option_type;
typedef struct tn_option {
    const char *name; /* "--config" */
    tn_option_type type;
    void *out; /* left alone when the option is not given */
} tn_option;
/* Reads "--name value", "--name=value" and flags; other words go to words[], which must take between words_min and
 * words_max of them.  --help prints the tool's.  TN_TOOL_GO_ON, or the status to end with (all has been said). */
int tn_tool_options(const tn_tool *tool, int argc, char **argv, const tn_option *options,
                    size_t options_count, const char **words, size_t words_min, size_t words_max);
/* "tenonctl: NAME: text" and the usage line; TN_TOOL_USAGE. */
int tn_tool_misused(const tn_tool *tool, const char *fmt, ...) TN_PRINTF(2, 3);
void tn_tool_print_help(const tn_tool *tool);
/* Prints what is in `problems` and destroys it; TN_TOOL_FAILED when there was anything. */
int tn_tool_end(tn_config_problems *problems);

/* ---- plugins, for tn_plugin_about ---- */
void tn_tool_print_plugin_file(void *user, const char *path, const char *sha256,
                               const char *build_id);
void tn_tool_print_plugin(void *user, const tn_plugin *plugin);

/* ---- stores of a configuration ---- */
typedef struct tn_tool_store { /* one use of a datastore */
    const tn_settings_plugin *store;
    tn_kind kind;
    const tn_plugin *plugin; /* loaded, not opened */
} tn_tool_store;
#define TN_TOOL_STORES_MAX (2 * TN_SETTINGS_STORES_MAX)
/* Whoever runs the tool may own the plugins that it loads: they get no right that he has not. */
tn_plugin_options tn_tool_plugin_options(const tn_settings *settings);
/* The stores that the server would use; with `only` that datastore, with `all` every one; each once for every kind that
 * it is used as.  One that the configuration defines and does not use counts as every kind that its plugin exists for.
 * Problems are added; the number found so far is returned. */
size_t tn_tool_find_stores(const tn_settings *settings, const char *only, bool all,
                           tn_config_problems *problems, tn_tool_store *out);

#endif
