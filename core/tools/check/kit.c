/* SPDX-License-Identifier: MIT */
/* See kit.h. */
#include "tools/check/kit.h"

#include <dirent.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[PATH_MAX];
static char so_path[PATH_MAX], stanza_text[65536];
static uint64_t seed;
static tn_rng rng;

/* ---- cases -------------------------------------------------------------------------------------- */

void kit_fail(const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n  TN_SEED=%llu\n", (unsigned long long)seed);
    va_end(args);
    _exit(1);
}

void kit_skip(const char *why)
{
    fprintf(stderr, "  skipped: %s\n", why);
    _exit(KIT_SKIP_CODE);
}

void kit_note(const char *what)
{
    fprintf(stderr, "  %s\n", what);
    _exit(KIT_NOTE_CODE);
}

const char *kit_dir(void) { return dir; }
tn_rng *kit_rng(void) { return &rng; }

static void remove_dir(const char *path)
{
    DIR *d = opendir(path);
    char name[PATH_MAX + 300];
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (unlink(name) != 0)
            remove_dir(name);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

static void choose_seed(void)
{
    const char *given = getenv("TN_SEED");
    if (given)
        seed = strtoull(given, NULL, 10);
    else
        tn_random_bytes(&seed, sizeof seed);
    tn_rng_seed(&rng, seed);
}

#define SAID_MAX 16384u

/* What the case says goes through a pipe: it is told below the verdict. */
static int run_case(const kit_case *c, tn_buf *said)
{
    int fds[2];
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/tenon-kit-XXXXXX", base && base[0] ? base : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    if (pipe(fds) != 0) {
        perror("pipe");
        return 1;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        tn_log_configure(TN_LOG_NEVER, false);
        choose_seed();
        alarm(300 + (unsigned)kit_stress_seconds); /* also of a child that hangs */
        c->run();
        fflush(NULL);
        _exit(0);
    }
    close(fds[1]);
    char piece[4096];
    for (ssize_t n; (n = read(fds[0], piece, sizeof piece)) > 0;)
        if (said->n < SAID_MAX)
            tn_buf_put(said, piece, (size_t)n);
    close(fds[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    remove_dir(dir);
    char lock[sizeof dir + 8]; /* of a case that gives the folder itself for a file */
    snprintf(lock, sizeof lock, "%s.lock", dir);
    unlink(lock);
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    tn_buf_printf(said, "ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    return 1;
}

uint64_t kit_stress_seconds = 10;

static bool tap;
static unsigned tap_number;

void kit_use_tap(void) { tap = true; }
unsigned kit_tap_count(void) { return tap_number; }

static void tell(const tn_buf *said)
{
    size_t from = 0;
    while (from < said->n) {
        const uint8_t *end = memchr(said->p + from, '\n', said->n - from);
        size_t n = end ? (size_t)(end - said->p) - from : said->n - from;
        if (n)
            printf("%s%.*s\n", tap ? "# " : "    ", (int)n, (const char *)said->p + from);
        from += n + 1;
    }
}

static void verdict(const char *what, const char *name, int code, const tn_buf *said)
{
    bool skipped = code == KIT_SKIP_CODE, note = code == KIT_NOTE_CODE;
    if (tap)
        printf("%s %u - %s: %s%s\n", code == 0 || skipped || note ? "ok" : "not ok", ++tap_number,
               what, name, skipped ? " # SKIP" : "");
    else if (code != 0)
        printf("%s %s: %s\n", skipped ? "SKIP" : note ? "NOTE" : "FAIL", what, name);
    if (code != 0)
        tell(said);
    fflush(stdout);
}

void kit_run_cases(const char *what, const kit_case *cases, size_t count, size_t n_filters,
                   const char *const *filters, kit_totals *totals)
{
    for (size_t i = 0; i < count; i++) {
        bool wanted = n_filters == 0;
        for (size_t f = 0; f < n_filters; f++)
            wanted = wanted || strstr(cases[i].name, filters[f]);
        if (!wanted)
            continue;
        tn_buf said = {0};
        int code = run_case(&cases[i], &said);
        if (code == 0 || code == KIT_NOTE_CODE)
            totals->passed++;
        else if (code == KIT_SKIP_CODE)
            totals->skipped++;
        else
            totals->failed++;
        verdict(what, cases[i].name, code, &said);
        tn_buf_done(&said);
    }
}

int kit_run(const char *what, const kit_case *cases, size_t count, int n_filters, char **filters)
{
    kit_totals totals = {0};
    kit_run_cases(what, cases, count, (size_t)n_filters, (const char *const *)filters, &totals);
    printf("%s: %u passed, %u failed", what, totals.passed, totals.failed);
    if (totals.skipped)
        printf(", %u skipped", totals.skipped);
    printf("\n");
    return totals.failed ? 1 : 0;
}

/* ---- opening ------------------------------------------------------------------------------------ */

void kit_configure(const char *so, const char *stanza)
{
    if (!realpath(so, so_path))
        kit_fail(__FILE__, __LINE__, "%s: not there", so);
    snprintf(stanza_text, sizeof stanza_text, "%s", stanza);
}

static tn_config_tree *tree;
static tn_plugin_instance *inst;
static tn_arena *arena;
static bool loops_run;

static void write_config(tn_buf *yaml, const char *section)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", so_path);
    tn_buf_printf(yaml, "plugins:\n  dirs: [\"%s\"]\n%s:\n  plugin: \"%s\"\n", dirname(folder),
                  section, so_path);
    tn_buf_printf(yaml, "  ");
    for (const char *p = stanza_text; *p; p++) {
        if (p[0] == '%' && p[1] == 'D') {
            tn_buf_put(yaml, dir, strlen(dir));
            p++;
        } else if (p[0] == '%' && p[1] == 'N') {
            const char *name = strrchr(dir, '/') + 1;
            tn_buf_put(yaml, name, strlen(name));
            p++;
        } else if (*p == '\n') {
            tn_buf_printf(yaml, "\n  ");
        } else {
            tn_buf_put_u8(yaml, (uint8_t)*p);
        }
    }
    tn_buf_printf(yaml, "\n");
}

static void drop_line(void *user, const char *text, size_t n) { (void)user, (void)text, (void)n; }

/* A driver with a schema gets it set up, as an operator would before the first start. */
static tn_status set_up_schema(const tn_plugin_options *options, tn_kind kind,
                               const tn_config *stanza, tn_config_problems *problems)
{
    const tn_plugin *plugin;
    tn_status status = tn_plugin_look(options, kind, stanza, problems, &plugin);
    if (status != TN_OK || !tn_plugin_has_schema(plugin))
        return status;
    tn_schema_req req = {.struct_size = sizeof req, .verb = TN_SCHEMA_SETUP, .emit = drop_line};
    return tn_plugin_schema(plugin, stanza, &req, problems);
}

static const char *open_plugin(tn_kind kind, const char *section)
{
    static char why[4096];
    tn_error err = {0};
    if (!loops_run) {
        if (tn_loops_create(2, &err) != TN_OK)
            kit_fail(__FILE__, __LINE__, "%s", err.text);
        tn_loops_run();
        loops_run = true;
    }
    tn_buf yaml = {0};
    write_config(&yaml, section);
    tn_config_problems *problems = tn_config_problems_create();
    if (tn_config_parse("kit.yaml", tn_buf_blob(&yaml), problems, &tree) != TN_OK)
        kit_fail(__FILE__, __LINE__, "%s", tn_config_problems_text(problems, 0));
    tn_buf_done(&yaml);
    tn_plugin_options options = {.root = tn_config_root(tree), .own_files = true};
    const tn_config *stanza = tn_config_get(tn_config_root(tree), section);
    tn_status status = set_up_schema(&options, kind, stanza, problems);
    if (status == TN_OK)
        status = tn_plugin_open(&options, kind, stanza, problems, &inst);
    why[0] = '\0';
    for (size_t i = 0; i < tn_config_problems_count(problems); i++) {
        size_t n = strlen(why);
        snprintf(why + n, sizeof why - n, "%s\n", tn_config_problems_text(problems, i));
    }
    tn_config_problems_destroy(problems);
    if (status != TN_OK) {
        tn_config_tree_destroy(tree);
        tree = NULL;
        return why;
    }
    return NULL;
}

const char *kit_try_open(void)
{
    tn_error err = {0};
    const char *why = open_plugin(TN_KIND_PERSISTENCE, "persistence");
    if (why)
        return why;
    if (tn_store_start(inst, &err) != TN_OK)
        kit_fail(__FILE__, __LINE__, "%s", err.text);
    arena = tn_arena_create(0);
    return NULL;
}

void kit_open(void)
{
    const char *why = kit_try_open();
    if (why)
        kit_fail(__FILE__, __LINE__, "%s", why);
}

tn_plugin_instance *kit_open_kind(tn_kind kind, const char **out_why)
{
    static const char *const sections[] = {"", "persistence", "visibility", "claimMapper",
                                           "authorizer"};
    *out_why = open_plugin(kind, sections[kind]);
    if (*out_why)
        return NULL;
    arena = tn_arena_create(0);
    return inst;
}

const char *kit_open_beside(tn_kind kind, tn_plugin_instance **out)
{
    static char why[1024];
    tn_config_problems *problems = tn_config_problems_create();
    tn_plugin_options options = {.root = tn_config_root(tree), .own_files = true};
    tn_status status = tn_plugin_open(
        &options, kind, tn_config_next(tn_config_first(tn_config_root(tree))), problems, out);
    const char *text = tn_config_problems_text(problems, 0);
    snprintf(why, sizeof why, "%s", text ? text : "");
    tn_config_problems_destroy(problems);
    return status == TN_OK ? NULL : why;
}

void kit_close_first(tn_plugin_instance *second)
{
    tn_plugin_close(inst);
    inst = second;
}

const char *kit_so(void) { return so_path; }

void kit_close_plugin(void)
{
    tn_plugin_close(inst);
    tn_config_tree_destroy(tree);
    tn_arena_destroy(arena);
    inst = NULL;
    tree = NULL;
    arena = NULL;
}

void kit_close(void)
{
    tn_store_stop();
    kit_close_plugin();
}

tn_arena *kit_arena(void) { return arena; }

/* ---- operations --------------------------------------------------------------------------------- */

static tn_error last_error;
const tn_error *kit_error(void) { return &last_error; }

tn_key kit_key_bytes(uint32_t table, const char *partition, const void *row, size_t n)
{
    return (tn_key){.table = table,
                    .partition = tn_arena_blob(arena, kit_text(partition)),
                    .row = tn_arena_blob(arena, tn_blob_from(row, n))};
}

tn_key kit_key(uint32_t table, const char *partition, const char *row)
{
    return kit_key_bytes(table, partition, row, strlen(row));
}

tn_blob kit_text(const char *s) { return tn_blob_of_str(tn_str_from(s)); }

tn_status kit_get(tn_key key, tn_row *out)
{
    last_error = (tn_error){0};
    return tn_store_get_sync(arena, key, out, &last_error);
}

tn_status kit_scan(const tn_range *range, tn_page *out)
{
    last_error = (tn_error){0};
    return tn_store_scan_sync(arena, range, out, &last_error);
}

tn_store_batch kit_batch(void)
{
    tn_store_batch batch;
    tn_store_batch_init(&batch, arena);
    return batch;
}

tn_status kit_commit(const tn_store_batch *batch, tn_commit *out)
{
    tn_batch b = tn_store_batch_finish(batch);
    last_error = (tn_error){0};
    return tn_store_commit_sync(arena, &b, out, &last_error);
}

typedef struct group {
    tn_store_op *ops;
    size_t n, left;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} group;

static void member_done(tn_store_op *op)
{
    group *g = op->user;
    pthread_mutex_lock(&g->lock);
    if (--g->left == 0)
        pthread_cond_signal(&g->wake);
    pthread_mutex_unlock(&g->lock);
}

static void submit_group(void *arg)
{
    group *g = arg;
    for (size_t i = 0; i < g->n; i++)
        tn_store_commit(&g->ops[i]);
}

void kit_commit_group(tn_store_op *ops, size_t n)
{
    group g = {.ops = ops, .n = n, .left = n};
    pthread_mutex_init(&g.lock, NULL);
    pthread_cond_init(&g.wake, NULL);
    for (size_t i = 0; i < n; i++) {
        ops[i].arena =
            tn_arena_create(0); /* results of members come on one loop, yet one arena each */
        ops[i].done = member_done;
        ops[i].user = &g;
    }
    tn_loop_call(tn_loops_get(0), submit_group, &g);
    pthread_mutex_lock(&g.lock);
    while (g.left)
        pthread_cond_wait(&g.wake, &g.lock);
    pthread_mutex_unlock(&g.lock);
    for (size_t i = 0; i < n; i++) {
        tn_arena_adopt(arena, ops[i].arena);
        ops[i].arena = NULL;
    }
}

uint64_t kit_put(tn_key key, const char *value)
{
    tn_store_batch batch = kit_batch();
    tn_commit out = {0};
    tn_store_batch_put(&batch, key, kit_text(value));
    tn_status status = kit_commit(&batch, &out);
    if (status != TN_OK)
        kit_fail(__FILE__, __LINE__, "put: %s: %s", tn_status_name(status), last_error.text);
    return out.version;
}

void kit_delete(tn_key key)
{
    tn_store_batch batch = kit_batch();
    tn_store_batch_delete(&batch, key);
    tn_status status = kit_commit(&batch, NULL);
    if (status != TN_OK)
        kit_fail(__FILE__, __LINE__, "delete: %s: %s", tn_status_name(status), last_error.text);
}
