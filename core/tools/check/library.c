/* SPDX-License-Identifier: MIT */
/* What is asked of any plugin, whatever its kind: how the file is linked, what its table says, and that it can be opened
 * and closed again and again without a trace. */
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "plugin/private.h"
#include "tools/check/kit.h"

typedef ElfW(Ehdr) ehdr;
typedef ElfW(Phdr) phdr;
typedef ElfW(Shdr) shdr;
typedef ElfW(Dyn) dyn;
typedef ElfW(Sym) sym;

#define GO_TLS_MAX 64u

/* ---- the file ---- */

typedef struct image {
    const uint8_t *p;
    size_t n;
    ehdr head;
} image;

static const void *part(const image *im, uint64_t at, uint64_t n)
{
    return at <= im->n && n <= im->n - at ? im->p + at : NULL;
}

static image open_image(void)
{
    image im = {0};
    struct stat st;
    int fd = open(kit_so(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        kit_fail(__FILE__, __LINE__, "%s cannot be read", kit_so());
    im.n = (size_t)st.st_size;
    im.p = mmap(NULL, im.n, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (im.p == MAP_FAILED || im.n < sizeof im.head || memcmp(im.p, ELFMAG, SELFMAG) != 0)
        kit_fail(__FILE__, __LINE__, "%s is no ELF file", kit_so());
    memcpy(&im.head, im.p, sizeof im.head);
    return im;
}

static bool segment(const image *im, uint32_t type, phdr *out)
{
    for (size_t i = 0; i < im->head.e_phnum; i++) {
        const void *at = part(im, im->head.e_phoff + i * sizeof *out, sizeof *out);
        if (!at)
            return false;
        memcpy(out, at, sizeof *out);
        if (out->p_type == type)
            return true;
    }
    return false;
}

/* The value of a dynamic entry, 0 when there is none. */
static uint64_t dynamic(const image *im, int64_t tag, bool *there)
{
    phdr ph;
    *there = false;
    if (!segment(im, PT_DYNAMIC, &ph))
        return 0;
    for (uint64_t at = 0; at + sizeof(dyn) <= ph.p_filesz; at += sizeof(dyn)) {
        dyn d;
        const void *p = part(im, ph.p_offset + at, sizeof d);
        if (!p)
            return 0;
        memcpy(&d, p, sizeof d);
        if (d.d_tag == tag) {
            *there = true;
            return d.d_un.d_val;
        }
    }
    return 0;
}

static uint64_t flag_of(const image *im, int64_t tag)
{
    bool there;
    return dynamic(im, tag, &there);
}

/* Calls each with the dynamic symbols' names; by section headers, which a linker writes. */
static void each_symbol(const image *im, void (*each)(const sym *s, const char *name))
{
    for (size_t i = 0; i < im->head.e_shnum; i++) {
        shdr table, strings;
        const void *at = part(im, im->head.e_shoff + i * sizeof table, sizeof table);
        if (!at)
            return;
        memcpy(&table, at, sizeof table);
        if (table.sh_type != SHT_DYNSYM)
            continue;
        at = part(im, im->head.e_shoff + table.sh_link * sizeof strings, sizeof strings);
        if (!at)
            return;
        memcpy(&strings, at, sizeof strings);
        const char *names = part(im, strings.sh_offset, strings.sh_size);
        for (uint64_t k = 1; names && (k + 1) * sizeof(sym) <= table.sh_size; k++) {
            sym s;
            const void *p = part(im, table.sh_offset + k * sizeof s, sizeof s);
            if (!p)
                return;
            memcpy(&s, p, sizeof s);
            if (s.st_name < strings.sh_size &&
                memchr(names + s.st_name, 0, strings.sh_size - s.st_name))
                each(&s, names + s.st_name);
        }
    }
}

static unsigned entries, others;

static void look_at_symbol(const sym *s, const char *name)
{
    unsigned bind = s->st_info >> 4, seen = s->st_other & 3;
    bool defined = s->st_shndx != SHN_UNDEF;
    if (!defined) {
        if (strncmp(name, "tn_", 3) == 0) {
            fprintf(stderr,
                    "%s is expected from the server, which gives nothing but struct tn_host\n",
                    name);
            others++;
        }
        return;
    }
    if ((bind != STB_GLOBAL && bind != STB_WEAK) || (seen != STV_DEFAULT && seen != STV_PROTECTED))
        return;
    if (strncmp(name, "tn_plugin_v", 11) == 0) {
        entries++;
        return;
    }
    if (s->st_shndx == SHN_ABS)
        return; /* a version's name */
    fprintf(stderr, "it exports %s\n", name);
    others++;
}

static void exports(void)
{
    image im = open_image();
    each_symbol(&im, look_at_symbol);
    if (others)
        kit_fail(__FILE__, __LINE__,
                 "rule: export the entry point and nothing else, and import nothing of ours; fix: "
                 "link with the export map of pkg-config tenon-plugin");
    KIT_CHECK(entries > 0);
}

static void linked_without_paths(void)
{
    image im = open_image();
    bool rpath, runpath;
    dynamic(&im, DT_RPATH, &rpath);
    dynamic(&im, DT_RUNPATH, &runpath);
    if (rpath || runpath)
        kit_fail(__FILE__, __LINE__,
                 "rule: no RPATH or RUNPATH: who may write there replaces its libraries");
}

static void no_text_relocations(void)
{
    image im = open_image();
    bool there;
    dynamic(&im, DT_TEXTREL, &there);
    if (there || (flag_of(&im, DT_FLAGS) & DF_TEXTREL))
        kit_fail(__FILE__, __LINE__, "rule: no text relocations; fix: compile with -fPIC");
}

/* By the note that the Go linker leaves in what it makes. */
static bool made_by_go(const image *im)
{
    for (size_t i = 0; i < im->head.e_phnum; i++) {
        phdr ph;
        const void *at = part(im, im->head.e_phoff + i * sizeof ph, sizeof ph);
        if (!at)
            return false;
        memcpy(&ph, at, sizeof ph);
        const void *notes = ph.p_type == PT_NOTE ? part(im, ph.p_offset, ph.p_filesz) : NULL;
        if (notes && memmem(notes, ph.p_filesz, "Go\0", 4))
            return true;
    }
    return false;
}

static void no_static_tls(void)
{
    image im = open_image();
    phdr tls;
    if (!(flag_of(&im, DT_FLAGS) & DF_STATIC_TLS))
        return;
    /* Its runtime keeps one pointer there and cannot do without; what glibc holds in reserve has room for that. */
    if (made_by_go(&im) && segment(&im, PT_TLS, &tls) && tls.p_memsz <= GO_TLS_MAX)
        kit_note("a Go runtime: its few bytes of static TLS are allowed; it starts when the "
                 "library is loaded and never "
                 "ends, it owns SIGURG and catches SIGSEGV, SIGBUS and SIGFPE, and its collector "
                 "stops threads in Go");
    else
        kit_fail(__FILE__, __LINE__,
                 "rule: no static TLS, for which a running program may have no room; fix: no "
                 "-ftls-model=initial-exec");
}

static void never_unloaded(void)
{
    image im = open_image();
    if (!(flag_of(&im, DT_FLAGS_1) & DF_1_NODELETE))
        kit_fail(__FILE__, __LINE__,
                 "rule: code is never unloaded; fix: link with -Wl,-z,nodelete");
}

static void bound_at_start(void)
{
    image im = open_image();
    bool now;
    dynamic(&im, DT_BIND_NOW, &now);
    if (!now && !(flag_of(&im, DT_FLAGS) & DF_BIND_NOW) && !(flag_of(&im, DT_FLAGS_1) & DF_1_NOW))
        kit_fail(__FILE__, __LINE__,
                 "rule: symbols are bound at load; fix: link with -Wl,-z,now,-z,relro");
}

static void no_executable_stack(void)
{
    image im = open_image();
    phdr stack;
    if (!segment(&im, PT_GNU_STACK, &stack) || (stack.p_flags & PF_X))
        kit_fail(__FILE__, __LINE__,
                 "rule: no executable stack; fix: link with -Wl,-z,noexecstack");
}

/* ---- the table ---- */

static const tn_plugin *tables[TN_PLUGIN_LIST_MAX];
static size_t n_tables;

static void ignore_file(void *user, const char *path, const char *sha256, const char *build_id)
{
    (void)user, (void)path, (void)sha256, (void)build_id;
}

static void take_table(void *user, const tn_plugin *plugin)
{
    (void)user;
    tables[n_tables++] = plugin;
}

static void load_tables(void)
{
    tn_config_problems *problems = tn_config_problems_create();
    tn_status status = tn_plugin_about(kit_so(), problems, ignore_file, take_table, NULL);
    for (size_t i = 0; i < tn_config_problems_count(problems); i++)
        fprintf(stderr, "%s\n", tn_config_problems_text(problems, i));
    KIT_EQUAL(status, TN_OK);
}

static void table_in_order(void)
{
    load_tables();
    KIT_CHECK(n_tables > 0);
    for (size_t i = 0; i < n_tables; i++)
        for (size_t k = 0; k < i; k++)
            if (tables[i]->kind == tables[k]->kind)
                kit_fail(__FILE__, __LINE__,
                         "rule: one plugin of a kind in a library: the second is never found");
}

static void no_side_effects(void)
{
    const tn_plugin *(*entry)(uint32_t) = NULL;
    tn_plugin_search search = {.options = &(tn_plugin_options){.own_files = true},
                               .problems = tn_config_problems_create()};
    snprintf(search.path, sizeof search.path, "%s", kit_so());
    KIT_CHECK(tn_plugin_load(&search, &entry));
    const tn_plugin *first = entry(0);
    for (int i = 0; i < 100; i++)
        KIT_CHECK(entry(0) == first);
    uint32_t past = 0;
    while (entry(past))
        past++;
    const uint32_t far[] = {past + 1, 64, 1000, UINT32_MAX};
    for (size_t i = 0; i < TN_COUNT_OF(far); i++)
        if (entry(far[i]))
            kit_fail(__FILE__, __LINE__, "rule: NULL past the last plugin (index %u)", far[i]);
}

static bool known_type(tn_str word)
{
    static const char *const types[] = {"text",     "string", "str",  "path",   "secret", "int",
                                        "i64",      "number", "bool", "double", "f64",    "float",
                                        "duration", "bytes",  "size", "map",    "list"};
    for (size_t i = 0; i < TN_COUNT_OF(types); i++)
        if (tn_str_is(word, types[i]))
            return true;
    return false;
}

static void check_key_line(const char *line, size_t n)
{
    tn_str words[3];
    size_t count = 0, at = 0;
    while (at < n && count < 3) {
        size_t from = at;
        while (at < n && line[at] != ' ')
            at++;
        words[count++] = (tn_str){line + from, at - from};
        while (at < n && line[at] == ' ')
            at++;
    }
    if (count < 3 || at >= n || line[n - 1] == ' ')
        kit_fail(__FILE__, __LINE__,
                 "rule: config_keys holds lines \"path type default - meaning\": %.*s", (int)n,
                 line);
    if (!known_type(words[1]))
        kit_fail(__FILE__, __LINE__,
                 "rule: the type of a key is text, secret, int, bool, double, duration, map or "
                 "list: %.*s",
                 (int)n, line);
    if (!memmem(line, n, " - ", 3))
        kit_fail(__FILE__, __LINE__, "rule: a key says what it means behind \" - \": %.*s", (int)n,
                 line);
}

static void keys_are_documented(void)
{
    load_tables();
    for (size_t i = 0; i < n_tables; i++) {
        const char *keys = tables[i]->config_keys;
        while (*keys) {
            size_t n = strcspn(keys, "\n");
            if (n)
                check_key_line(keys, n);
            keys += n + (keys[n] == '\n');
        }
    }
}

/* ---- opening ---- */

static size_t count_entries(const char *path)
{
    DIR *d = opendir(path);
    size_t n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static void open_and_close(tn_kind kind)
{
    const char *why;
    tn_error err = {0};
    tn_plugin_instance *inst = kit_open_kind(kind, &why);
    if (!inst)
        kit_fail(__FILE__, __LINE__, "it does not open: %s", why);
    if (tn_plugin_attach(inst, &err) != TN_OK)
        kit_fail(__FILE__, __LINE__, "%s", err.text);
    tn_plugin_detach(inst, TN_SEC);
    kit_close_plugin();
}

static void no_traces(void)
{
    load_tables();
    for (size_t i = 0; i < n_tables; i++) {
        tn_kind kind = tables[i]->kind;
        open_and_close(kind);
        open_and_close(kind); /* what a library makes once is there now */
        size_t fds = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
        for (int k = 0; k < 8; k++)
            open_and_close(kind);
        size_t fds_after = count_entries("/proc/self/fd"),
               threads_after = count_entries("/proc/self/task");
        /* Threads of a library may take a moment to go, and so may what was under way to a loop: a connection
         * that stood when nobody wanted it any more. */
        for (int k = 0; k < 1000 && (threads_after > threads || fds_after > fds); k++) {
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            fds_after = count_entries("/proc/self/fd");
            threads_after = count_entries("/proc/self/task");
        }
        if (fds_after > fds)
            kit_fail(__FILE__, __LINE__,
                     "rule: close gives everything back: %zu more descriptors after 8 times",
                     fds_after - fds);
        if (threads_after > threads)
            kit_fail(__FILE__, __LINE__, "rule: close ends its threads: %zu more after 8 times",
                     threads_after - threads);
    }
}

const kit_case kit_library_cases[] = {
    {"exports its entry point only", exports},
    {"no RPATH, no RUNPATH", linked_without_paths},
    {"no text relocations", no_text_relocations},
    {"no static TLS", no_static_tls},
    {"never unloaded", never_unloaded},
    {"symbols are bound at load", bound_at_start},
    {"no executable stack", no_executable_stack},
    {"its table is in order", table_in_order},
    {"the entry point has no side effects", no_side_effects},
    {"its keys are documented", keys_are_documented},
    {"opening and closing leaves no trace", no_traces},
};
const size_t kit_library_count = TN_COUNT_OF(kit_library_cases);
