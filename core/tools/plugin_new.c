/* SPDX-License-Identifier: MIT */
/* tenonctl plugin new: writes a folder with a plugin that builds outside our tree, from the templates that the
 * installation brings (core/tools/templates in the tree). */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tools/tools.h"

#ifndef TN_TEMPLATE_DIR
#define TN_TEMPLATE_DIR "/usr/share/tenon/templates"
#endif

#define TEMPLATE_MAX ((size_t)1 << 20)

typedef struct kind {
    const char *name, *change; /* what an author changes */
} kind;
static const kind kinds[] = {
    {"persistence", "its operations are the sections `get`, `scan` and `commit`"},
    {"visibility", "its operations are the sections `put`, `list` and `count`"},
    {"claimmapper", "change the function `map`"},
    {"authorizer", "change the function `decide`"},
};

static bool is_store(const kind *k) { return k < &kinds[2]; }

/* A file of a language; %k in `from` stands for the kind, %n in `to` for the plugin's name. */
typedef struct file {
    const char *from, *to;
    bool stores; /* 1: of the kinds persistence and visibility only */
} file;
typedef struct lang {
    const char *name, *source;
    const char *extra;   /* further sources of a store, for the Makefile */
    bool stores;         /* has templates of persistence and visibility */
    const char *without; /* why not */
    file files[8];
} lang;
#define STORES_IN_C "the one in c is complete; begin from that"
static const lang langs[] = {
    {"c",
     "%n.c",
     "journal.c journal.h",
     true,
     NULL,
     {{"c/%k.c", "%n.c", false},
      {"c/Makefile", "Makefile", false},
      {"c/journal.c", "journal.c", true},
      {"c/journal.h", "journal.h", true}}},
    {"cpp",
     "%n.cpp",
     "journal.hpp",
     true,
     NULL,
     {{"cpp/%k.cpp", "%n.cpp", false},
      {"cpp/Makefile", "Makefile", false},
      {"cpp/journal.hpp", "journal.hpp", true}}},
    {"rust",
     "src/lib.rs",
     "",
     true,
     NULL,
     {{"rust/%k.rs", "src/lib.rs", false},
      {"rust/tenon.rs", "src/tenon.rs", false},
      {"rust/journal.rs", "src/journal.rs", true},
      {"rust/Cargo.toml", "Cargo.toml", false},
      {"rust/Makefile", "Makefile", false}}},
    {"go",
     "%n.go",
     "",
     false,
     "its collector stops the loops that everything waits for, and what a store is asked and "
     "answers is C memory "
     "throughout; " STORES_IN_C,
     {{"go/%k.go", "%n.go", false},
      {"go/%k.c", "shim.c", false},
      {"go/tenon.go", "tenon.go", false},
      {"go/shim.h", "shim.h", false},
      {"go/go.mod", "go.mod", false},
      {"go/Makefile", "Makefile", false}}},
};
static const file common[] = {
    {"common/README.md", "README.md", false},      {"common/%k.keys.yaml", "keys.yaml", false},
    {"common/%k.tenon.yaml", "tenon.yaml", false}, {"common/%k.man.7", "tenon-%n.7", false},
    {"common/test.sh", "test.sh", false},          {"common/gitignore", ".gitignore", false},
};

typedef struct job {
    const char *name, *templates;
    const kind *kind;
    const lang *lang;
    char ident[65], upper[65], source[80], date[40];
} job;

/* ---- texts ---- */

/* %k and %n of a path. */
static void expand(const job *j, const char *path, char *out, size_t size)
{
    size_t n = 0;
    for (const char *p = path; *p && n + 70 < size; p++) {
        if (p[0] == '%' && (p[1] == 'k' || p[1] == 'n'))
            n += (size_t)snprintf(out + n, size - n, "%s", *++p == 'k' ? j->kind->name : j->name);
        else
            out[n++] = *p;
    }
    out[n] = '\0';
}

static const char *value_of(const job *j, tn_str word)
{
    bool store = is_store(j->kind);
    const struct {
        const char *word, *value;
    } values[] = {{"NAME", j->name},
                  {"IDENT", j->ident},
                  {"UPPER", j->upper},
                  {"KIND", j->kind->name},
                  {"CHANGE", j->kind->change},
                  {"LANG", j->lang->name},
                  {"EXTRA", store ? j->lang->extra : ""},
                  {"SOURCE", j->source},
                  {"DATE", j->date},
                  {"VERSION", PACKAGE_VERSION}};
    for (size_t i = 0; i < TN_COUNT_OF(values); i++)
        if (tn_str_is(word, values[i].word))
            return values[i].value;
    return NULL;
}

/* The line that tells our tree's licence goes: what is written is its author's own. */
static tn_blob without_licence(tn_blob text, tn_buf *out)
{
    static const char word[] = "SPDX-License-Identifier: MIT-0";
    const uint8_t *at = memmem(text.p, text.n < 200 ? text.n : 200, word, sizeof word - 1);
    if (!at)
        return text;
    const uint8_t *from = at, *end = memchr(at, '\n', (size_t)(text.p + text.n - at));
    while (from > text.p && from[-1] != '\n')
        from--;
    tn_buf_put(out, text.p, (size_t)(from - text.p)); /* "#!/bin/sh" */
    return end ? tn_blob_from(end + 1, (size_t)(text.p + text.n - end - 1))
               : tn_blob_from(text.p, 0);
}

/* @WORD@ becomes its value; every other @ stays. */
static void fill_in(const job *j, tn_blob text, tn_buf *out)
{
    text = without_licence(text, out);
    for (size_t at = 0; at < text.n;) {
        const char *p = (const char *)text.p + at;
        const char *end =
            *p == '@' ? memchr(p + 1, '@', text.n - at - 1 < 16 ? text.n - at - 1 : 16) : NULL;
        const char *value = end ? value_of(j, (tn_str){p + 1, (size_t)(end - p) - 1}) : NULL;
        if (value) {
            tn_buf_put(out, value, strlen(value));
            at += (size_t)(end - p) + 1;
        } else {
            tn_buf_put_u8(out, (uint8_t)*p);
            at++;
        }
    }
}

/* ---- files ---- */

static bool failed_at(const char *path)
{
    fprintf(stderr, "tenonctl: %s: %s\n", path, strerror(errno));
    return false;
}

static bool read_template(const char *path, tn_buf *out)
{
    char piece[4096];
    FILE *f = fopen(path, "r");
    if (!f)
        return failed_at(path);
    for (size_t n; out->n < TEMPLATE_MAX && (n = fread(piece, 1, sizeof piece, f)) > 0;)
        tn_buf_put(out, piece, n);
    bool good = !ferror(f);
    fclose(f);
    return good || failed_at(path);
}

static bool write_file(const char *path, const tn_buf *text)
{
    FILE *f = fopen(path, "wx"); /* what is there is somebody's work */
    if (!f)
        return failed_at(path);
    bool good = fwrite(text->p, 1, text->n, f) == text->n;
    size_t n = strlen(path);
    if (n > 3 && strcmp(path + n - 3, ".sh") == 0)
        good = fchmod(fileno(f), 0755) == 0 && good;
    good = fclose(f) == 0 && good;
    return good || failed_at(path);
}

static bool write_one(const job *j, const file *f)
{
    char from[PATH_MAX], to[PATH_MAX], path[PATH_MAX];
    expand(j, f->from, path, sizeof path);
    if (snprintf(from, sizeof from, "%s/%s.in", j->templates, path) >= (int)sizeof from)
        return false;
    expand(j, f->to, path, sizeof path);
    if (snprintf(to, sizeof to, "%s/%s", j->name, path) >= (int)sizeof to)
        return false;
    char *slash = strrchr(to, '/');
    *slash = '\0';
    if (mkdir(to, 0755) != 0 && errno != EEXIST)
        return failed_at(to);
    *slash = '/';
    tn_buf raw = {0}, text = {0};
    bool good = read_template(from, &raw);
    if (good) {
        fill_in(j, tn_buf_blob(&raw), &text);
        good = write_file(to, &text);
    }
    tn_buf_done(&raw);
    tn_buf_done(&text);
    return good;
}

static bool write_all(const job *j)
{
    bool store = is_store(j->kind);
    if (mkdir(j->name, 0755) != 0)
        return failed_at(j->name);
    for (size_t i = 0; i < TN_COUNT_OF(j->lang->files) && j->lang->files[i].from; i++)
        if ((!j->lang->files[i].stores || store) && !write_one(j, &j->lang->files[i]))
            return false;
    for (size_t i = 0; i < TN_COUNT_OF(common); i++)
        if (!write_one(j, &common[i]))
            return false;
    return true;
}

/* ---- the command ---- */

static bool good_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char all[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t n = strlen(name);
    return n >= 1 && n <= 64 && strchr(letters, name[0]) && strspn(name, all) == n;
}

static void derive(job *j)
{
    time_t now = (time_t)(tn_now_wall_ns() / TN_SEC);
    struct tm tm;
    for (size_t i = 0; j->name[i] && i + 1 < sizeof j->ident; i++) {
        char c = j->name[i];
        j->ident[i] = c == '-' ? '_' : c;
        j->upper[i] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    expand(j, j->lang->source, j->source, sizeof j->source);
    gmtime_r(&now, &tm);
    strftime(j->date, sizeof j->date, "%B %d, %Y", &tm);
}

static int run(const tn_tool *tool, int argc, char **argv)
{
    const char *words[2] = {NULL, NULL}, *named = "c";
    job j = {.templates = TN_TEMPLATE_DIR};
    const tn_option options[] = {{"--lang", TN_OPTION_TEXT, &named},
                                 {"--templates", TN_OPTION_TEXT, &j.templates}};
    int failed = tn_tool_options(tool, argc, argv, options, TN_COUNT_OF(options), words, 2,
                                 TN_COUNT_OF(words));
    if (failed != TN_TOOL_GO_ON)
        return failed;
    for (size_t i = 0; i < TN_COUNT_OF(kinds); i++)
        if (strcmp(words[0], kinds[i].name) == 0)
            j.kind = &kinds[i];
    for (size_t i = 0; i < TN_COUNT_OF(langs); i++)
        if (strcmp(named, langs[i].name) == 0)
            j.lang = &langs[i];
    j.name = words[1];
    if (!j.kind)
        return tn_tool_misused(
            tool, "KIND has \"%s\", wants persistence, visibility, claimmapper or authorizer",
            words[0]);
    if (!j.lang)
        return tn_tool_misused(tool, "--lang has \"%s\", wants c, cpp, rust or go", named);
    if (!good_name(j.name))
        return tn_tool_misused(tool,
                               "NAME has \"%s\", wants a letter, then letters, digits, _ and -, "
                               "64 at most",
                               j.name);
    if (is_store(j.kind) && !j.lang->stores)
        return tn_tool_misused(tool, "there is no template of kind %s in %s: %s", j.kind->name,
                               j.lang->name, j.lang->without);
    derive(&j);
    if (!write_all(&j)) {
        fprintf(stderr,
                "    fix: choose another name or folder; --templates names other templates "
                "than %s\n",
                j.templates);
        return TN_TOOL_FAILED;
    }
    printf("%s: a plugin of kind %s in %s; see %s/README.md\n  cd %s && make check\n", j.name,
           j.kind->name, j.lang->name, j.name, j.name);
    return TN_TOOL_OK;
}

const tn_tool tn_tools_new[] = {
    {.name = "plugin new",
     .args = "KIND NAME [--lang c|cpp|rust|go] [--templates DIR]",
     .brief = "write a folder with a plugin to begin from",
     .help = "KIND: persistence, visibility, claimmapper or authorizer.\n"
             "Writes a folder NAME below this one: source, Makefile, configuration, manual page, "
             "test.  It works as it is: make check\n"
             "builds NAME.so and tries whether it keeps its contract.  pkg-config finds what it "
             "needs of Tenon.\n"
             "--lang: c when left out; go has no persistence and no visibility.\n"
             "--templates: other ones than the installation's.\n",
     .run = run},
    {0},
};
