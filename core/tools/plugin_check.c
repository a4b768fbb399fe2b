/* SPDX-License-Identifier: MIT */
/* tenonctl plugin check: the conformance program.  Each case runs in a child process, so that a crash is a failed case and
 * what a library leaves behind hurts no other. */
#include "tools/tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/check/kit.h"

typedef struct job {
    const char *so, *kind, *config, *stanza;
    bool stress, tap;
    uint64_t seconds;
    const char *filters[32];
    size_t n_filters;
} job;

static const struct {
    tn_kind kind;
    const char *name; /* of --kind */
} kinds[] = {
    {TN_KIND_PERSISTENCE, "persistence"},
    {TN_KIND_VISIBILITY, "visibility"},
    {TN_KIND_CLAIM_MAPPER, "claimmapper"},
    {TN_KIND_AUTHORIZER, "authorizer"},
};

/* ---- which kinds the library holds ---- */

static void ignore_file(void *user, const char *path, const char *sha256, const char *build_id)
{
    (void)user, (void)path, (void)sha256, (void)build_id;
}

static void note_kind(void *user, const tn_plugin *plugin)
{
    *(unsigned *)user |= 1u << plugin->kind;
}

/* In a child: the parent loads nothing.  A mask, 0 after complaints. */
static unsigned kinds_of(const char *path)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        unsigned mask = 0;
        tn_config_problems *problems = tn_config_problems_create();
        if (tn_plugin_about(path, problems, ignore_file, note_kind, &mask) != TN_OK) {
            tn_config_problems_print(problems);
            mask = 0;
        }
        _exit((int)mask);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 0;
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "tenonctl: loading %s ended the process (signal %d)\n", path,
                WTERMSIG(status));
        return 0;
    }
    return (unsigned)WEXITSTATUS(status);
}

/* ---- the cases ---- */

static void run_kind(const job *j, tn_kind kind, kit_totals *totals)
{
    const char *name = tn_plugin_kind_name(kind);
    switch (kind) {
    case TN_KIND_PERSISTENCE:
        kit_run_cases(name, kit_persistence_cases, kit_persistence_count, j->n_filters, j->filters,
                      totals);
        if (j->stress)
            kit_run_cases("stress", kit_stress_cases, kit_stress_count, 0, NULL, totals);
        break;
    case TN_KIND_VISIBILITY:
        kit_run_cases(name, kit_visibility_cases, kit_visibility_count, j->n_filters, j->filters,
                      totals);
        break;
    case TN_KIND_CLAIM_MAPPER:
        kit_run_cases(name, kit_mapper_cases, kit_mapper_count, j->n_filters, j->filters, totals);
        break;
    case TN_KIND_AUTHORIZER:
        kit_run_cases(name, kit_authorizer_cases, kit_authorizer_count, j->n_filters, j->filters,
                      totals);
        break;
    default:
        break;
    }
}

static int read_stanza(const job *j, tn_buf *out)
{
    if (!j->config) {
        if (j->stanza)
            tn_buf_put(out, j->stanza, strlen(j->stanza));
        tn_buf_put_u8(out, 0);
        return 0;
    }
    FILE *f = fopen(j->config, "r");
    char piece[4096];
    if (!f) {
        perror(j->config);
        return 1;
    }
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;)
        tn_buf_put(out, piece, n);
    fclose(f);
    tn_buf_put_u8(out, 0);
    return 0;
}

static int check(const job *j, unsigned mask)
{
    kit_totals totals = {0};
    if (j->tap) {
        kit_use_tap();
        puts("TAP version 13");
    }
    kit_stress_seconds = j->seconds;
    kit_run_cases("library", kit_library_cases, kit_library_count, j->n_filters, j->filters,
                  &totals);
    for (size_t i = 0; i < TN_COUNT_OF(kinds); i++) {
        bool wanted = !j->kind || strcmp(j->kind, kinds[i].name) == 0;
        if (wanted && (mask & 1u << kinds[i].kind))
            run_kind(j, kinds[i].kind, &totals);
    }
    if (j->tap)
        printf("1..%u\n", kit_tap_count());
    else if (totals.skipped)
        printf("plugin: %u passed, %u failed, %u skipped\n", totals.passed, totals.failed,
               totals.skipped);
    else
        printf("plugin: %u passed, %u failed\n", totals.passed, totals.failed);
    return totals.failed ? TN_TOOL_FAILED : TN_TOOL_OK;
}

static int run(const tn_tool *tool, int argc, char **argv)
{
    job j = {.seconds = 10};
    const char *words[33];
    memset(words, 0, sizeof words);
    const tn_option options[] = {
        {"--kind", TN_OPTION_TEXT, &j.kind},         {"--config", TN_OPTION_TEXT, &j.config},
        {"--keys", TN_OPTION_TEXT, &j.stanza},       {"--stress", TN_OPTION_FLAG, &j.stress},
        {"--seconds", TN_OPTION_NUMBER, &j.seconds}, {"--tap", TN_OPTION_FLAG, &j.tap},
    };
    int failed = tn_tool_options(tool, argc, argv, options, TN_COUNT_OF(options), words, 1,
                                 TN_COUNT_OF(words));
    if (failed != TN_TOOL_GO_ON)
        return failed;
    if (j.config && j.stanza)
        return tn_tool_misused(tool, "--config and --keys exclude each other");
    if (j.seconds < 1 || j.seconds > 3000)
        return tn_tool_misused(tool, "--seconds has %llu, wants 1 to 3000",
                               (unsigned long long)j.seconds);
    unsigned wanted = 0;
    for (size_t i = 0; i < TN_COUNT_OF(kinds); i++)
        if (!j.kind || strcmp(j.kind, kinds[i].name) == 0)
            wanted |= 1u << kinds[i].kind;
    if (!wanted)
        return tn_tool_misused(
            tool, "--kind has \"%s\", wants persistence, visibility, claimmapper or authorizer",
            j.kind);
    for (size_t i = 1; i < TN_COUNT_OF(words) && words[i]; i++)
        j.filters[j.n_filters++] = words[i];
    j.so = words[0];
    unsigned mask = kinds_of(j.so);
    if (!mask)
        return TN_TOOL_FAILED;
    if (!(mask & wanted)) {
        fprintf(stderr,
                "tenonctl: %s holds no plugin of kind %s\n    fix: see tenonctl plugin info %s\n",
                j.so, j.kind, j.so);
        return TN_TOOL_FAILED;
    }
    tn_buf keys = {0};
    if (read_stanza(&j, &keys) != 0)
        return TN_TOOL_FAILED;
    kit_configure(j.so, (const char *)keys.p);
    failed = check(&j, mask);
    tn_buf_done(&keys);
    return failed;
}

const tn_tool tn_tools_check[] = {
    {.name = "plugin check",
     .args = "FILE.so [--kind KIND] [--config FILE | --keys TEXT] [--stress] [--seconds 10] "
             "[--tap] [CASE]...",
     .brief = "try whether a plugin keeps its contract",
     .help = "Looks at the file and its table, then runs the cases of each kind in it, each in a "
             "process of its own.\n"
             "--kind: persistence, visibility, claimmapper or authorizer; else all that the "
             "library holds.\n"
             "--config FILE, --keys TEXT: the plugin's own keys, as below \"plugin:\" in "
             "tenon.yaml; %D stands for a new\n"
             "folder of each case, %N for a new name.  Cases write and delete: never name a "
             "database that is in use.\n"
             "A schema is set up where the plugin has one.  --stress: --seconds of random batches "
             "against models.\n"
             "CASE: only cases whose name contains it.  --tap: output as the Test Anything "
             "Protocol has it.\n"
             "TN_SEED repeats the random choices of a case that failed.\n",
     .run = run},
    {0},
};
