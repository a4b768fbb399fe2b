/* SPDX-License-Identifier: MIT */
/* The rules of loading: each with a plugin or a file that breaks it, each told with its line, both values
 * and a fix.  Every load runs in a child, since code is never unloaded. */
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "plugin/plugin.h"

static char odd_so[1024], work[256];

static int setup(void **state)
{
    (void)state;
    const char *build = getenv("TN_BUILDDIR");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/tests/unit/plugin/odd.so", build ? build : ".");
    char real[PATH_MAX];
    if (!realpath(path, real) || strlen(real) >= sizeof odd_so)
        return -1;
    memcpy(odd_so, real, strlen(real) + 1);
    snprintf(work, sizeof work, "/tmp/tenon-loader-XXXXXX");
    if (!mkdtemp(work) || chmod(work, 0755) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/authorizer", work);
    return mkdir(path, 0755);
}

static int teardown(void **state)
{
    (void)state;
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", work);
    return system(command);
}

static char *path_in(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%.300s", work, name);
    return path;
}

static void copy_file(const char *from, const char *to)
{
    char command[4096];
    snprintf(command, sizeof command, "cp '%.1000s' '%.1000s' && chmod 755 '%.1000s'", from, to,
             to);
    assert_int_equal(system(command), 0);
}

/* Loads in a child; what it complained of, or "opened". */
static const char *load(const char *odd, tn_kind kind, const char *yaml)
{
    static char said[16384];
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        tn_log_configure(TN_LOG_NEVER, false);
        setenv("TN_ODD", odd, 1);
        tn_config_problems *problems = tn_config_problems_create();
        tn_config_tree *tree = NULL;
        tn_plugin_instance *inst = NULL;
        if (tn_config_parse("t.yaml", tn_blob_of_str(tn_str_from(yaml)), problems, &tree) != TN_OK)
            _exit(3);
        tn_plugin_options options = {.root = tn_config_root(tree), .own_files = true};
        tn_status status = tn_plugin_open(&options, kind, tn_config_get(tn_config_root(tree), "p"),
                                          problems, &inst);
        for (size_t i = 0; i < tn_config_problems_count(problems); i++)
            dprintf(fds[1], "%s\n", tn_config_problems_text(problems, i));
        if ((status == TN_OK) != (inst != NULL) ||
            (status == TN_OK) != (tn_config_problems_count(problems) == 0))
            dprintf(fds[1], "INCONSISTENT\n");
        if (status == TN_OK)
            dprintf(fds[1], "opened\n");
        tn_plugin_close(inst);
        tn_config_problems_destroy(problems);
        tn_config_tree_destroy(tree);
        _exit(0);
    }
    close(fds[1]);
    size_t n = 0;
    for (ssize_t got; (got = read(fds[0], said + n, sizeof said - 1 - n)) > 0;)
        n += (size_t)got;
    said[n] = '\0';
    close(fds[0]);
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    return said;
}

static void expect_text(const char *said, const char *want, const char *file, int line)
{
    if (strstr(said, want))
        return;
    fprintf(stderr, "said:\n%s", said);
    _assert_true(0, want, file, line);
}
#define EXPECT(said, want) expect_text(said, want, __FILE__, __LINE__)

/* A stanza for the odd plugin; more: further lines of it. */
static const char *stanza(const char *plugin, const char *more)
{
    static char yaml[8192];
    char dir[sizeof odd_so];
    snprintf(dir, sizeof dir, "%s", odd_so);
    *strrchr(dir, '/') = '\0';
    snprintf(yaml, sizeof yaml, "plugins:\n  dirs: [\"%s\", \"%s\"]\np:\n  plugin: \"%s\"\n%s", dir,
             work, plugin, more);
    return yaml;
}

static void loads_what_is_right(void **state)
{
    (void)state;
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(odd_so, "  depth: 4\n")), "opened");
    /* by bare name, from the kind's folder */
    copy_file(odd_so, path_in("authorizer/mine.so"));
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza("mine", "")), "opened");
}

static void names_and_places(void **state)
{
    (void)state;
    const char *said = load("", TN_KIND_AUTHORIZER, stanza("nowhere", ""));
    EXPECT(said, "t.yaml:4:");
    EXPECT(said, "authorizer plugin \"nowhere\": there is no authorizer/nowhere.so below");
    EXPECT(said, "fix: install nowhere.so in");
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza("lib/odd.so", "")),
           "neither a bare name nor an absolute path");
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza("../odd", "")),
           "neither a bare name nor an absolute path");
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza("", "")), "none is configured");
    EXPECT(load("", TN_KIND_AUTHORIZER, "p:\n  depth: 3\n"), "none is configured");
    EXPECT(load("", TN_KIND_AUTHORIZER, "x: 1\n"), "none is configured");
    char yaml[4096];
    snprintf(yaml, sizeof yaml, "plugins:\n  dirs: [\"%s\"]\np:\n  plugin: \"%s\"\n", work, odd_so);
    EXPECT(load("", TN_KIND_AUTHORIZER, yaml), "is not below");
    /* a way out of the folder by a link is seen through */
    assert_int_equal(symlink(odd_so, path_in("authorizer/link.so")), 0);
    snprintf(yaml, sizeof yaml,
             "plugins:\n  dirs: [\"%s\"]\np:\n  plugin: \"%s/authorizer/link.so\"\n", work, work);
    EXPECT(load("", TN_KIND_AUTHORIZER, yaml), "is not below");
    EXPECT(load("", TN_KIND_AUTHORIZER,
                "plugins:\n  dirs: [rel, /no/such/folder]\np:\n  plugin: odd\n"),
           "plugin folder \"rel\" is not an absolute path");
    EXPECT(load("", TN_KIND_AUTHORIZER,
                "plugins:\n  dirs: [rel, /no/such/folder]\np:\n  plugin: odd\n"),
           "plugin folder /no/such/folder: No such file");
}

static void owners_and_modes(void **state)
{
    (void)state;
    char file[600], dir[600];
    snprintf(file, sizeof file, "%s", path_in("open/odd.so"));
    snprintf(dir, sizeof dir, "%s", path_in("open"));
    assert_int_equal(mkdir(dir, 0755), 0);
    copy_file(odd_so, file);
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(file, "")), "opened");
    chmod(file, 0775);
    const char *said = load("", TN_KIND_AUTHORIZER, stanza(file, ""));
    EXPECT(said, "file ");
    EXPECT(said, "is writable by group");
    EXPECT(said, "(mode 0775");
    EXPECT(said, "fix: chmod go-w");
    chmod(file, 0755);
    chmod(dir, 0777);
    said = load("", TN_KIND_AUTHORIZER, stanza(file, "  dept: 3\n"));
    EXPECT(said, "directory ");
    EXPECT(said, "is writable by everyone (mode 0777");
    assert_null(strstr(said, "dept")); /* not loaded, so its keys are unknown */
    chmod(file, 0757);
    said = load("", TN_KIND_AUTHORIZER, stanza(file, "")); /* both at once */
    EXPECT(said, "file ");
    EXPECT(said, "directory ");
    chmod(dir, 0755);
    chmod(file, 0755);
    if (geteuid() == 0) {
        assert_int_equal(chown(file, 1234, 1234), 0);
        said = load("", TN_KIND_AUTHORIZER, stanza(file, ""));
        EXPECT(said, "is owned by uid 1234, not by root");
        EXPECT(said, "fix: chown root");
    }
}

static void files_that_are_none(void **state)
{
    (void)state;
    char file[600], command[4096];
    snprintf(file, sizeof file, "%s", path_in("text.so"));
    snprintf(command, sizeof command,
             "echo 'not a library at all, and long enough for an ELF header to fit in' > '%s'",
             file);
    assert_int_equal(system(command), 0);
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(file, "")), "is not an ELF file");
    snprintf(command, sizeof command, ": > '%s'", file);
    assert_int_equal(system(command), 0);
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(file, "")), "is not an ELF file");
    snprintf(command, sizeof command, "head -c 40 '%s' > '%s'", odd_so, file);
    assert_int_equal(system(command), 0);
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(file, "")), "is cut short (40 bytes)");
    snprintf(command, sizeof command, "head -c 900 '%s' > '%s'", odd_so, file);
    assert_int_equal(system(command), 0);
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(file, "")), "is cut short (900 bytes of at least ");
    /* another machine: byte 18 is the low half of e_machine */
    copy_file(odd_so, file);
    int fd = open(file, O_WRONLY);
    uint8_t sparc = 2;
    assert_int_equal(pwrite(fd, &sparc, 1, 18), 1);
    close(fd);
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(file, "")), "is built for machine 2, this is");
    /* an object file, by its type */
    copy_file(odd_so, file);
    fd = open(file, O_WRONLY);
    uint8_t relocatable = 1;
    assert_int_equal(pwrite(fd, &relocatable, 1, 16), 1);
    close(fd);
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(file, "")), "is not a shared object");
    assert_int_equal(mkdir(path_in("dir.so"), 0755), 0);
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(path_in("dir.so"), "")), "is not a regular file");
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define MINOR TEXT(TN_PLUGIN_ABI_MINOR)

static void tables_that_do_not_fit(void **state)
{
    (void)state;
    EXPECT(load("magic", TN_KIND_AUTHORIZER, stanza(odd_so, "")),
           "does not begin with the magic number");
    EXPECT(load("size", TN_KIND_AUTHORIZER, stanza(odd_so, "")),
           "its table has 40 bytes, ABI 0.0 has ");
    EXPECT(load("major", TN_KIND_AUTHORIZER, stanza(odd_so, "")),
           "ABI 7." MINOR ", this server speaks ABI 0 (0.0 to 0." MINOR ")");
    EXPECT(load("minor", TN_KIND_AUTHORIZER, stanza(odd_so, "")),
           "ABI 0.9, this server speaks ABI 0");
    EXPECT(load("", TN_KIND_VISIBILITY, stanza(odd_so, "")),
           "holds kinds persistence, authorizer; not visibility");
    EXPECT(load("needs", TN_KIND_AUTHORIZER, stanza(odd_so, "")),
           "it needs host features 0x4, this server has 0");
    EXPECT(load("no-open", TN_KIND_AUTHORIZER, stanza(odd_so, "")),
           "required function \"open\" is missing");
    EXPECT(load("half-attach", TN_KIND_AUTHORIZER, stanza(odd_so, "")),
           "it has \"detach\" but not \"attach\"");
    EXPECT(load("no-name", TN_KIND_AUTHORIZER, stanza(odd_so, "")), "its table lacks name");
    EXPECT(load("no-keys", TN_KIND_AUTHORIZER, stanza(odd_so, "")), "its table lacks config_keys");
    EXPECT(load("no-ops", TN_KIND_AUTHORIZER, stanza(odd_so, "")), "its table has no operations");
    EXPECT(load("short-ops", TN_KIND_AUTHORIZER, stanza(odd_so, "")),
           "required function \"authorize\" is missing");
    /* all that is missing is told at once */
    const char *said = load("", TN_KIND_PERSISTENCE, stanza(odd_so, ""));
    EXPECT(said, "required function \"get\" is missing");
    EXPECT(said, "required function \"scan\" is missing");
    EXPECT(said, "required function \"commit\" is missing");
    EXPECT(said, "it offers capabilities 0, the server requires 0x9");
}

static void keys_and_open(void **state)
{
    (void)state;
    const char *said = load("", TN_KIND_AUTHORIZER, stanza(odd_so, "  dept: 3\n  nmae: x\n"));
    EXPECT(said, "t.yaml:5:");
    EXPECT(said, "depth");
    EXPECT(said, "t.yaml:6:");
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(odd_so, "  depth: deep\n")), "t.yaml:5:");
    said = load("open-fails", TN_KIND_AUTHORIZER, stanza(odd_so, ""));
    EXPECT(said, "t.yaml:4:");
    EXPECT(said, "authorizer plugin \"");
    EXPECT(said, "the lake is frozen");
    said = load("open-complains", TN_KIND_AUTHORIZER, stanza(odd_so, "  depth: 9\n"));
    EXPECT(said, "t.yaml:5:");
    EXPECT(said, "is too deep");
}

static void pinned_digest(void **state)
{
    (void)state;
    char wrong[128], command[2048], right[128] = "  sha256: ";
    snprintf(wrong, sizeof wrong, "  sha256: %064d\n", 0);
    const char *said = load("", TN_KIND_AUTHORIZER, stanza(odd_so, wrong));
    EXPECT(said, "t.yaml:5:");
    EXPECT(said, "has sha256 ");
    EXPECT(said, "configured is 0000");
    snprintf(command, sizeof command, "sha256sum '%s'", odd_so);
    FILE *sum = popen(command, "r");
    assert_non_null(sum);
    size_t at = strlen(right);
    assert_int_equal(fread(right + at, 1, 64, sum), 64);
    pclose(sum);
    right[at + 64] = '\n';
    right[at + 65] = '\0';
    EXPECT(load("", TN_KIND_AUTHORIZER, stanza(odd_so, right)), "opened");
}

static void libraries_without_our_symbol(void **state)
{
    (void)state;
    static const char *const libm[] = {"/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6",
                                       "/lib/aarch64-linux-gnu/libm.so.6", "/usr/lib/libm.so.6"};
    for (size_t i = 0; i < TN_COUNT_OF(libm); i++) {
        if (access(libm[i], R_OK) != 0)
            continue;
        copy_file(libm[i], path_in("authorizer/m.so"));
        EXPECT(load("", TN_KIND_AUTHORIZER, stanza("m", "")), "does not export tn_plugin_v0");
        return;
    }
    skip();
}

/* ---- another file at the same path ---- */

static tn_status open_here(const char *yaml, char *why, size_t size)
{
    tn_config_problems *problems = tn_config_problems_create();
    tn_config_tree *tree = NULL;
    tn_plugin_instance *inst = NULL;
    if (tn_config_parse("t.yaml", tn_blob_of_str(tn_str_from(yaml)), problems, &tree) != TN_OK)
        return TN_EINTERNAL;
    tn_plugin_options options = {.root = tn_config_root(tree), .own_files = true};
    tn_status status = tn_plugin_open(&options, TN_KIND_AUTHORIZER,
                                      tn_config_get(tn_config_root(tree), "p"), problems, &inst);
    const char *text = tn_config_problems_text(problems, 0);
    snprintf(why, size, "%s", text ? text : "");
    tn_plugin_close(inst);
    tn_config_problems_destroy(problems);
    tn_config_tree_destroy(tree);
    return status;
}

/* How many files this process has mapped that end so. */
static size_t mapped(const char *end)
{
    char line[4096];
    size_t n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f))
        n += strstr(line, end) && strstr(line, "r-xp");
    if (f)
        fclose(f);
    return n;
}

static int replaced_files(void)
{
    char why[1024], yaml[8192], to[600], fresh[700];
    snprintf(to, sizeof to, "%s", path_in("authorizer/again.so"));
    snprintf(fresh, sizeof fresh, "%s.new", to);
    snprintf(yaml, sizeof yaml, "%s", stanza("again", ""));
    for (size_t round = 1; round <= 5; round++) {
        copy_file(odd_so, fresh);
        if (rename(fresh, to) != 0 || open_here(yaml, why, sizeof why) != TN_OK ||
            open_here(yaml, why, sizeof why) != TN_OK)
            return 1;
        if (mapped("/again.so") !=
            round) /* each file once, none of them for another; old ones stay */
            return 2;
    }
    int fd = open(to, O_WRONLY | O_APPEND);
    if (fd < 0 || write(fd, "x", 1) != 1) /* written over in place */
        return 3;
    close(fd);
    if (open_here(yaml, why, sizeof why) != TN_EINVALID ||
        !strstr(why, "was written over while it is loaded") || !strstr(why, "fix: restart"))
        return 4;
    copy_file(odd_so, fresh);
    return rename(fresh, to) == 0 && open_here(yaml, why, sizeof why) == TN_OK ? 0 : 5;
}

static void a_new_file_at_an_old_path_is_the_new_file(void **state)
{
    (void)state;
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        tn_log_configure(TN_LOG_NEVER, false);
        setenv("TN_ODD", "", 1);
        _exit(replaced_files());
    }
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_what_is_right),
        cmocka_unit_test(names_and_places),
        cmocka_unit_test(owners_and_modes),
        cmocka_unit_test(files_that_are_none),
        cmocka_unit_test(tables_that_do_not_fit),
        cmocka_unit_test(keys_and_open),
        cmocka_unit_test(pinned_digest),
        cmocka_unit_test(libraries_without_our_symbol),
        cmocka_unit_test(a_new_file_at_an_old_path_is_the_new_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
