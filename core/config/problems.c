/* SPDX-License-Identifier: MIT */
/* The list of complaints of one run: an operator mends a file once, not once a mistake. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/private.h"

struct tn_config_problems {
    size_t count; /* all of them */
    size_t kept;
    char *texts[TN_CONFIG_PROBLEMS_MAX];
};

tn_config_problems *tn_config_problems_create(void)
{
    return tn_xcalloc(1, sizeof(tn_config_problems));
}

void tn_config_problems_destroy(tn_config_problems *problems)
{
    if (!problems)
        return;
    for (size_t i = 0; i < problems->kept; i++)
        free(problems->texts[i]);
    free(problems);
}

size_t tn_config_problems_count(const tn_config_problems *problems) { return problems->count; }

const char *tn_config_problems_text(const tn_config_problems *problems, size_t index)
{
    return index < problems->kept ? problems->texts[index] : NULL;
}

void tn_config_problems_add(tn_config_problems *problems, const char *text)
{
    problems->count++;
    if (problems->kept < TN_CONFIG_PROBLEMS_MAX)
        problems->texts[problems->kept++] = tn_xstrdup(text);
}

void tn_config_complain_at(tn_config_problems *problems, const tn_config *at, const char *child,
                           const char *fix, const char *what, ...)
{
    char text[2048], place[512] = "";
    if (at)
        tn_config_place(child ? tn_config_on_the_way(at, child) : at, place, sizeof place);
    const char *above = at ? tn_config_path_of(at) : "";
    va_list args;
    va_start(args, what);
    int n = snprintf(text, sizeof text, "%s%s%s%s%s", place, above, *above && child ? "." : "",
                     child ? child : "", *above || child ? ": " : "");
    size_t at_n = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    vsnprintf(text + at_n, sizeof text - at_n, what, args);
    va_end(args);
    if (fix) {
        at_n = strlen(text);
        snprintf(text + at_n, sizeof text - at_n, "\n    fix: %s", fix);
    }
    tn_config_problems_add(problems, text);
}

void tn_config_problems_print(const tn_config_problems *problems)
{
    for (size_t i = 0; i < problems->kept; i++)
        fprintf(stderr, "%s\n", problems->texts[i]);
    if (problems->count > problems->kept)
        fprintf(stderr, "... and %zu more\n", problems->count - problems->kept);
    if (problems->count)
        fprintf(stderr, "%zu problem%s\n", problems->count, problems->count == 1 ? "" : "s");
}
