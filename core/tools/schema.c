/* SPDX-License-Identifier: MIT */
/* tenonctl schema: asks the drivers of a configuration's datastores for their schema.  The driver knows its statements;
 * here is decided what may be asked of it, in which order, and whether it did what it was asked. */
#include "tools/tools.h"

#include <stdarg.h>
#include <stdio.h>

typedef struct job {
    const tn_tool *tool;
    const char *config_path, *only;
    bool all, dry_run;
    uint64_t to;
    tn_config_problems *problems;
    const tn_tool_store *store; /* the one at hand */
} job;

static const char *name_of(const job *j) { return j->store->store->stanza_name; }

/* What people read.  With --dry-run, and of dump, standard output holds statements only. */
static void TN_PRINTF(2, 3)
say(const job *j, const char *fmt, ...)
{
    FILE *out = j->dry_run || j->tool->verb == TN_SCHEMA_DUMP ? stderr : stdout;
    fprintf(out, "%s: %s plugin \"%s\": ", name_of(j), tn_plugin_kind_name(j->store->kind),
            j->store->plugin->name);
    va_list args;
    va_start(args, fmt);
    vfprintf(out, fmt, args);
    va_end(args);
    fputc('\n', out);
    fflush(out);
}

/* fix_verb: the command of ours that mends it, or NULL and then `fix` as it is. */
static int TN_PRINTF(4, 5)
refuse(job *j, const char *fix_verb, const char *fix, const char *fmt, ...)
{
    char what[512], mend[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    if (fix_verb)
        snprintf(mend, sizeof mend, "tenonctl schema %s --config %s --store %s", fix_verb,
                 j->config_path, name_of(j));
    tn_config_complain_at(j->problems, j->store->store->stanza, "plugin", fix_verb ? mend : fix,
                          "%s plugin \"%s\": %s", tn_plugin_kind_name(j->store->kind),
                          j->store->plugin->name, what);
    return TN_TOOL_FAILED;
}

static void emit_statement(void *user, const char *text, size_t n)
{
    (void)user;
    fwrite(text, 1, n, stdout);
    if (n && text[n - 1] != '\n')
        putchar('\n');
}

static void emit_difference(void *user, const char *text, size_t n)
{
    const job *j = user;
    while (n) {
        const char *end = memchr(text, '\n', n);
        size_t line = end ? (size_t)(end - text) : n, step = end ? line + 1 : line;
        if (line)
            printf("%s: %.*s\n", name_of(j), (int)line, text);
        text += step;
        n -= step;
    }
}

/* Its complaint, if any, is among the problems. */
static tn_status ask(job *j, uint32_t verb, uint32_t to, tn_schema_req *out)
{
    *out = (tn_schema_req){
        .struct_size = sizeof *out,
        .verb = verb,
        .flags = j->dry_run && verb != TN_SCHEMA_VERSION ? TN_SCHEMA_DRY_RUN : 0,
        .to = to,
        .emit = verb == TN_SCHEMA_CHECK ? emit_difference : emit_statement,
        .user = j,
    };
    if (verb == TN_SCHEMA_DUMP || (out->flags & TN_SCHEMA_DRY_RUN)) {
        printf("-- %s: %s plugin \"%s\"\n", name_of(j), tn_plugin_kind_name(j->store->kind),
               j->store->plugin->name);
        fflush(stdout);
    }
    tn_status status =
        tn_plugin_schema(j->store->plugin, j->store->store->stanza, out, j->problems);
    fflush(stdout);
    return status;
}

/* ---- the commands, for one store each ---- */

static int say_version(job *j, const tn_schema_req *now)
{
    if (now->stored == now->wanted) {
        say(j, "schema version %u, as wanted", now->stored);
        return TN_TOOL_OK;
    }
    if (!now->stored)
        return refuse(j, "setup", NULL, "there is no schema yet, version %u is wanted",
                      now->wanted);
    if (now->stored < now->wanted)
        return refuse(j, "update", NULL, "schema version %u is older than %u, which is wanted",
                      now->stored, now->wanted);
    return refuse(j, NULL, "install the release of the plugin that made it, or a newer one",
                  "schema version %u is newer than %u, the newest that the plugin knows",
                  now->stored, now->wanted);
}

/* Whether setup or update may start from here; TN_TOOL_GO_ON when there is something to do. */
static int may_change(job *j, const tn_schema_req *now, uint32_t to)
{
    bool setup = j->tool->verb == TN_SCHEMA_SETUP;
    if (now->stored == to) {
        say(j, "schema version %u is there: nothing to do", to);
        return TN_TOOL_OK;
    }
    if (to > now->wanted)
        return refuse(j, NULL, "install a newer plugin, or leave --to out",
                      "it knows schemas up to version %u, not %u", now->wanted, to);
    if (now->stored > to)
        return refuse(j, NULL, j->to ? "leave --to out" : "install a newer release of the plugin",
                      "schema version %u is stored; it is not taken back to %u", now->stored, to);
    if (setup && now->stored)
        return refuse(j, "update", NULL, "schema version %u is there already, version %u is asked",
                      now->stored, to);
    if (!setup && !now->stored)
        return refuse(j, "setup", NULL, "there is no schema yet");
    return TN_TOOL_GO_ON;
}

static int change(job *j, const tn_schema_req *now)
{
    uint32_t to = j->to ? (uint32_t)j->to : now->wanted, expect = j->dry_run ? now->stored : to;
    int done = may_change(j, now, to);
    if (done != TN_TOOL_GO_ON)
        return done;
    tn_schema_req req, after;
    if (ask(j, j->tool->verb, to, &req) != TN_OK)
        return TN_TOOL_FAILED;
    if (ask(j, TN_SCHEMA_VERSION, 0, &after) != TN_OK)
        return TN_TOOL_FAILED;
    if (after.stored != expect)
        return refuse(j, NULL, "tell the plugin's makers",
                      "it said that all went well, but schema version %u is stored, not %u",
                      after.stored, expect);
    if (j->dry_run)
        say(j, "schema version %u would become %u; nothing was changed", now->stored, to);
    else
        say(j, "schema version %u (was %u)", to, now->stored);
    return TN_TOOL_OK;
}

static int check(job *j, const tn_schema_req *now)
{
    if (!now->stored)
        return refuse(j, "setup", NULL, "there is no schema yet");
    tn_schema_req req;
    tn_status status = ask(j, TN_SCHEMA_CHECK, 0, &req);
    if (status == TN_ECONFLICT)
        return refuse(j, NULL,
                      "compare with tenonctl schema dump; the differences are listed above",
                      "what is stored is not schema version %u", now->stored);
    if (status != TN_OK)
        return TN_TOOL_FAILED;
    say(j, "schema version %u, nothing differs", now->stored);
    return now->stored == now->wanted ? TN_TOOL_OK : say_version(j, now);
}

static int dump(job *j)
{
    tn_schema_req req;
    return ask(j, TN_SCHEMA_DUMP, (uint32_t)j->to, &req) == TN_OK ? TN_TOOL_OK : TN_TOOL_FAILED;
}

static int one_store(job *j)
{
    if (!tn_plugin_has_schema(j->store->plugin)) {
        say(j, "keeps its schema itself");
        return TN_TOOL_OK;
    }
    if (j->tool->verb == TN_SCHEMA_DUMP)
        return dump(j);
    tn_schema_req now;
    if (ask(j, TN_SCHEMA_VERSION, 0, &now) != TN_OK)
        return TN_TOOL_FAILED;
    switch (j->tool->verb) {
    case TN_SCHEMA_VERSION:
        return say_version(j, &now);
    case TN_SCHEMA_CHECK:
        return check(j, &now);
    default:
        return change(j, &now);
    }
}

/* ---- the whole ---- */

static int each_store(job *j, const tn_settings *settings)
{
    tn_tool_store stores[TN_TOOL_STORES_MAX];
    size_t n = tn_tool_find_stores(settings, j->only, j->all, j->problems, stores);
    if (tn_config_problems_count(j->problems) > 0)
        return TN_TOOL_FAILED; /* nothing is changed while the configuration is wrong */
    int result = TN_TOOL_OK;
    for (size_t i = 0; i < n; i++) {
        j->store = &stores[i];
        if (one_store(j) != TN_TOOL_OK)
            result = TN_TOOL_FAILED;
    }
    return result;
}

static int run(const tn_tool *tool, int argc, char **argv)
{
    job j = {.tool = tool};
    bool changes = tool->verb == TN_SCHEMA_SETUP || tool->verb == TN_SCHEMA_UPDATE;
    const tn_option options[] = {
        {"--config", TN_OPTION_TEXT, &j.config_path},
        {"--store", TN_OPTION_TEXT, &j.only},
        {"--all", TN_OPTION_FLAG, &j.all},
        {"--to", TN_OPTION_NUMBER, &j.to},
        {"--dry-run", TN_OPTION_FLAG, &j.dry_run},
    };
    int failed = tn_tool_options(tool, argc, argv, options, TN_COUNT_OF(options), NULL, 0, 0);
    if (failed != TN_TOOL_GO_ON)
        return failed;
    if (!j.config_path)
        return tn_tool_misused(tool, "--config is missing");
    if (j.only && j.all)
        return tn_tool_misused(tool, "--store and --all exclude each other");
    if (j.dry_run && !changes)
        return tn_tool_misused(tool, "--dry-run belongs to setup and update");
    if (j.to && !changes && tool->verb != TN_SCHEMA_DUMP)
        return tn_tool_misused(tool, "--to belongs to setup, update and dump");
    if (j.to > 1000000)
        return tn_tool_misused(tool, "--to has %llu, wants a schema version",
                               (unsigned long long)j.to);
    j.problems = tn_config_problems_create();
    tn_settings *settings = NULL;
    int result = TN_TOOL_FAILED;
    if (tn_settings_load(j.config_path, j.problems, &settings) == TN_OK)
        result = each_store(&j, settings);
    failed = tn_tool_end(j.problems);
    tn_settings_destroy(settings);
    return failed != TN_TOOL_OK ? failed : result;
}

#define STORES "--config FILE [--store NAME | --all]"
#define WHICH \
    "Without --store or --all: the datastores that the server would use.  --all: every one that " \
    "is defined.\n" \
    "A datastore whose plugin keeps its schema itself says so.\n"

const tn_tool tn_tools_schema[] = {
    {.name = "schema version",
     .args = STORES,
     .brief = "say which schema is stored and which the plugin wants",
     .help = WHICH
     "Ends with 1 when a server would not start with one of them, and says what to type.\n",
     .run = run,
     .verb = TN_SCHEMA_VERSION},
    {.name = "schema setup",
     .args = STORES " [--to N] [--dry-run]",
     .brief = "make the schema in an empty database",
     .help = WHICH
     "--to N: that version instead of the newest.  --dry-run: print the statements, execute none.\n"
     "A schema that is there already is left alone.\n",
     .run = run,
     .verb = TN_SCHEMA_SETUP},
    {.name = "schema update",
     .args = STORES " [--to N] [--dry-run]",
     .brief = "bring an older schema up to date",
     .help = WHICH "--to N: up to that version.  --dry-run: print the statements, execute none.\n"
                   "It never runs backwards.\n",
     .run = run,
     .verb = TN_SCHEMA_UPDATE},
    {.name = "schema check",
     .args = STORES,
     .brief = "compare what is stored with the schema, object by object",
     .help = WHICH "Each difference is a line; ends with 1 when there is one.\n",
     .run = run,
     .verb = TN_SCHEMA_CHECK},
    {.name = "schema dump",
     .args = STORES " [--to N]",
     .brief = "print the statements that make the schema from nothing",
     .help = WHICH "--to N: of that version instead of the newest.\n",
     .run = run,
     .verb = TN_SCHEMA_DUMP},
    {0},
};
