/* SPDX-License-Identifier: MIT */
/* The tool of operators and plugin authors: finds the command that the first words name, and helps where none is
 * meant.  Each command has a file of its own. */
#include "config.h"

#include <stdio.h>

#include "tools/tools.h"

static const tn_tool *const groups[] = {tn_tools_reload, tn_tools_schema, tn_tools_verify,
                                        tn_tools_copy,   tn_tools_list,   tn_tools_plugin,
                                        tn_tools_check,  tn_tools_new,    tn_tools_cluster,
                                        tn_tools_authz,  tn_tools_operate};

static void print_list(FILE *out)
{
    fputs("usage: tenonctl COMMAND [ARGUMENT]...\n\n", out);
    for (size_t g = 0; g < TN_COUNT_OF(groups); g++)
        for (const tn_tool *tool = groups[g]; tool->name; tool++)
            fprintf(out, "  %-16s %s\n", tool->name, tool->brief);
    fputs("\ntenonctl COMMAND --help says more of each; tenonctl --version.\n"
          "Ends with 0 when all is well, 1 when it is not, 2 for a wrong command line.\n"
          "See tenonctl(8).\n",
          out);
}

/* How many of the words are the tool's name; 0: another tool. */
static int words_of(const tn_tool *tool, int argc, char **argv)
{
    const char *space = strchr(tool->name, ' ');
    size_t n = space ? (size_t)(space - tool->name) : strlen(tool->name);
    if (argc < 1 || !tn_str_eq((tn_str){tool->name, n}, tn_str_from(argv[0])))
        return 0;
    if (!space)
        return 1;
    return argc > 1 && strcmp(argv[1], space + 1) == 0 ? 2 : 0;
}

static int unknown(int argc, char **argv)
{
    const char *names[64];
    char typed[128];
    size_t n = 0;
    for (size_t g = 0; g < TN_COUNT_OF(groups); g++)
        for (const tn_tool *tool = groups[g]; tool->name && n < TN_COUNT_OF(names); tool++)
            names[n++] = tool->name;
    snprintf(typed, sizeof typed, "%.60s%s%.60s", argv[0], argc > 1 ? " " : "",
             argc > 1 ? argv[1] : "");
    const char *near = tn_config_nearest(tn_str_from(typed), names, n);
    fprintf(stderr, "tenonctl: there is no command \"%s\"%s%s%s\n    fix: see tenonctl --help\n",
            typed, near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "");
    return TN_TOOL_USAGE;
}

/* "tenonctl schema --help": the commands that begin so. */
static bool print_group(const char *word)
{
    bool any = false;
    size_t n = strlen(word);
    for (size_t g = 0; g < TN_COUNT_OF(groups); g++) {
        for (const tn_tool *tool = groups[g]; tool->name; tool++) {
            if (strncmp(tool->name, word, n) != 0 || tool->name[n] != ' ')
                continue;
            printf("tenonctl %s %s\n        %s\n", tool->name, tool->args, tool->brief);
            any = true;
        }
    }
    return any;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

int main(int argc, char **argv)
{
    argc--, argv++;
    if (argc == 0) {
        print_list(stderr);
        return TN_TOOL_USAGE;
    }
    if (strcmp(argv[0], "--version") == 0) {
        puts("tenonctl " PACKAGE_VERSION);
        return TN_TOOL_OK;
    }
    if (is_help(argv[0]) && argc == 1) {
        print_list(stdout);
        return TN_TOOL_OK;
    }
    for (size_t g = 0; g < TN_COUNT_OF(groups); g++) {
        for (const tn_tool *tool = groups[g]; tool->name; tool++) {
            int words = words_of(tool, argc, argv);
            if (words)
                return tool->run(tool, argc - words, argv + words);
        }
    }
    if (argc == 2 && is_help(argv[1]) && print_group(argv[0]))
        return TN_TOOL_OK;
    return unknown(argc, argv);
}
