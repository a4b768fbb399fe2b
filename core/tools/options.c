/* SPDX-License-Identifier: MIT */
/* Options of commands, and the ways in which a command ends before its work began. */
#include "tools/tools.h"

#include <stdarg.h>
#include <stdio.h>

int tn_tool_misused(const tn_tool *tool, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "tenonctl: %s: ", tool->name);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\n    fix: tenonctl %s %s\n", tool->name, tool->args);
    return TN_TOOL_USAGE;
}

void tn_tool_print_help(const tn_tool *tool)
{
    printf("usage: tenonctl %s %s\n\n%s.\n", tool->name, tool->args, tool->brief);
    if (tool->help)
        printf("\n%s", tool->help);
}

int tn_tool_end(tn_config_problems *problems)
{
    fflush(stdout);
    bool bad = tn_config_problems_count(problems) > 0;
    tn_config_problems_print(problems);
    tn_config_problems_destroy(problems);
    return bad ? TN_TOOL_FAILED : TN_TOOL_OK;
}

static const tn_option *find_option(tn_str name, const tn_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (tn_str_is(name, options[i].name))
            return &options[i];
    return NULL;
}

static int unknown_option(const tn_tool *tool, tn_str name, const tn_option *options, size_t count)
{
    const char *names[32];
    size_t n = 0;
    for (; n < count && n < TN_COUNT_OF(names); n++)
        names[n] = options[n].name;
    const char *near = tn_config_nearest(name, names, n);
    return tn_tool_misused(tool, "there is no option \"" TN_STR_FMT "\"%s%s%s", TN_STR_ARG(name),
                           near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

static int set_option(const tn_tool *tool, const tn_option *option, const char *value)
{
    int64_t ns;
    switch (option->type) {
    case TN_OPTION_FLAG:
        *(bool *)option->out = true;
        return TN_TOOL_GO_ON;
    case TN_OPTION_TEXT:
        *(const char **)option->out = value;
        return TN_TOOL_GO_ON;
    case TN_OPTION_NUMBER:
        if (tn_parse_u64(tn_str_from(value), option->out))
            return TN_TOOL_GO_ON;
        return tn_tool_misused(tool, "%s has \"%s\", wants a number", option->name, value);
    case TN_OPTION_NS:
        if (!tn_parse_duration_ns(tn_str_from(value), &ns) || ns < 0)
            return tn_tool_misused(tool, "%s has \"%s\", wants a duration such as 10s",
                                   option->name, value);
        *(uint64_t *)option->out = (uint64_t)ns;
        return TN_TOOL_GO_ON;
    }
    return TN_TOOL_USAGE;
}

/* argv[*at] is an option; *at moves on over its value. */
static int take_option(const tn_tool *tool, int argc, char **argv, int *at,
                       const tn_option *options, size_t count)
{
    const char *word = argv[*at], *equals = strchr(word, '=');
    tn_str name = {word, equals ? (size_t)(equals - word) : strlen(word)};
    const tn_option *option = find_option(name, options, count);
    if (!option)
        return unknown_option(tool, name, options, count);
    if (option->type == TN_OPTION_FLAG)
        return equals ? tn_tool_misused(tool, "%s takes no value", option->name)
                      : set_option(tool, option, NULL);
    if (!equals && *at + 1 >= argc)
        return tn_tool_misused(tool, "%s lacks its value", option->name);
    return set_option(tool, option, equals ? equals + 1 : argv[++*at]);
}

int tn_tool_options(const tn_tool *tool, int argc, char **argv, const tn_option *options,
                    size_t options_count, const char **words, size_t words_min, size_t words_max)
{
    size_t n = 0;
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        if (!only_words && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            tn_tool_print_help(tool);
            return TN_TOOL_OK;
        }
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1]) {
            int failed = take_option(tool, argc, argv, &i, options, options_count);
            if (failed != TN_TOOL_GO_ON)
                return failed;
        } else if (n == words_max) {
            return tn_tool_misused(tool, "\"%s\" is one word too many", argv[i]);
        } else {
            words[n++] = argv[i];
        }
    }
    return n < words_min ? tn_tool_misused(tool, "something is missing") : TN_TOOL_GO_ON;
}
