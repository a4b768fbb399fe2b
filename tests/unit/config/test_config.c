/* SPDX-License-Identifier: MIT */
/* Trees, getters, complaints, secrets, unknown keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"

static tn_config_problems *problems;

static tn_config_tree *parse(const char *text)
{
    tn_config_tree *tree = NULL;
    problems = tn_config_problems_create();
    tn_status status =
        tn_config_parse("t.yaml", tn_blob_of_str(tn_str_from(text)), problems, &tree);
    assert_int_equal(status == TN_OK, tn_config_problems_count(problems) == 0);
    return tree;
}

static void done(tn_config_tree *tree)
{
    tn_config_tree_destroy(tree);
    tn_config_problems_destroy(problems);
}

static void refused(const char *text, const char *complaint)
{
    assert_null(parse(text));
    assert_non_null(tn_config_problems_text(problems, 0));
    if (strcmp(tn_config_problems_text(problems, 0), complaint) != 0)
        fail_msg("got: %s\nwant: %s", tn_config_problems_text(problems, 0), complaint);
    done(NULL);
}

static void a_tree_knows_its_places(void **state)
{
    (void)state;
    tn_config_tree *t = parse("# head\na: 1\nb:\n  c: [x, \"5\", {d: yes}]\n  e: ~\n");
    const tn_config *root = tn_config_root(t);
    assert_int_equal(tn_config_kind_of(root), TN_CONFIG_MAP);
    assert_int_equal(tn_config_line(tn_config_get(root, "a")), 2);
    const tn_config *d = tn_config_get(root, "b.c.2.d");
    assert_int_equal(tn_config_line(d), 4);
    assert_string_equal(tn_config_path_of(d), "b.c.2.d");
    assert_string_equal(tn_config_file(d), "t.yaml");
    assert_true(tn_config_quoted(tn_config_get(root, "b.c.1")));
    assert_false(tn_config_quoted(tn_config_get(root, "b.c.0")));
    assert_int_equal(tn_config_count(root, "b.c"), 3);
    assert_int_equal(tn_config_count(root, "nothing"), 0);
    assert_null(tn_config_get(root, "b.c.3"));
    assert_null(tn_config_get(root, "a.b"));
    assert_int_equal(tn_config_kind_of(tn_config_get(root, "b.e")), TN_CONFIG_NULL);
    assert_ptr_equal(tn_config_get(root, ""), root);
    assert_true(tn_str_is(tn_config_key(tn_config_first(root)), "a"));
    assert_true(tn_str_is(tn_config_key(tn_config_next(tn_config_first(root))), "b"));
    done(t);
    t = parse("# nothing\n");
    assert_int_equal(tn_config_kind_of(tn_config_root(t)), TN_CONFIG_MAP);
    done(t);
    t = parse("a.b: 1\n");
    assert_non_null(tn_config_child(tn_config_root(t), TN_STR("a.b")));
    done(t);
}

static void bad_texts_are_refused_with_their_line(void **state)
{
    (void)state;
    refused("a: 1\nb: 2\na: 3\n",
            "t.yaml:3: key \"a\" is given twice (first on line 1)\n    fix: remove one of the two");
    refused(
        "a: &x 1\n",
        "t.yaml:1: anchors (&name) are not supported\n    fix: write the value out at each place");
    refused("b: *x\n", "t.yaml:1: aliases (*name) are not supported\n    fix: write the value out");
    refused("b: !!binary x\n", "t.yaml:1: tags (!name) are not supported\n    fix: remove the tag");
    refused("a: 1\n---\nb: 2\n", "t.yaml:2: a second document begins\n    fix: keep one document, "
                                 "without further \"---\" lines");
    refused("? [x]\n: 1\n", "t.yaml:1: a key must be a plain text");
    refused("a: \"x\\0y\"\n", "t.yaml:1: a value holds a NUL character");
    assert_null(parse("a:\n  - b\n c: d\n"));
    assert_memory_equal(tn_config_problems_text(problems, 0), "t.yaml:3: not YAML: ", 20);
    done(NULL);
    assert_null(parse("a: \xff\n"));
    done(NULL);
}

static void limits_hold(void **state)
{
    (void)state;
    char deep[200] = "";
    for (int i = 0; i < 32; i++)
        strcat(deep, "[");
    for (int i = 0; i < 32; i++)
        strcat(deep, "]");
    tn_config_tree *t = parse(deep);
    assert_non_null(t);
    done(t);
    memset(deep, '[', 33);
    memset(deep + 33, ']', 33);
    deep[66] = 0;
    refused(deep, "t.yaml:1: nested too deeply (32 levels at most)");
    tn_buf big = {0};
    tn_buf_put(&big, "a: [", 4);
    for (int i = 0; i < 20001; i++)
        tn_buf_put(&big, "1,", 2);
    tn_buf_put(&big, "]\n", 3);
    refused((char *)big.p, "t.yaml:1: too many values in one file (20000 at most)");
    big.n = 0;
    for (int i = 0; i < 1 << 20; i++)
        tn_buf_put(&big, "#", 1);
    tn_buf_put(&big, "\n", 2);
    refused((char *)big.p, "t.yaml:1: larger than 1 MiB");
    tn_buf_done(&big);
}

static void getters_take_their_type_or_say_what_is_wrong(void **state)
{
    (void)state;
    tn_config_tree *t = parse("s: text\ni: -5\nb: On\nf: 2.5\nd: 1m30s\nz: 4MiB\nm: {a: "
                              "1}\nn:\nbig: 99999999999999999TiB\n");
    const tn_config *r = tn_config_root(t);
    tn_str s;
    int64_t i = 7;
    int32_t b = 0;
    double f;
    uint64_t u;
    tn_error err = {0};
    assert_int_equal(tn_config_str(r, "s", &s, &err), TN_OK);
    assert_true(tn_str_is(s, "text"));
    assert_int_equal(tn_config_i64(r, "i", &i, &err), TN_OK);
    assert_int_equal(i, -5);
    assert_int_equal(tn_config_bool(r, "b", &b, &err), TN_OK);
    assert_int_equal(b, 1);
    assert_int_equal(tn_config_f64(r, "f", &f, &err), TN_OK);
    assert_true(f == 2.5);
    assert_int_equal(tn_config_duration_ns(r, "d", &u, &err), TN_OK);
    assert_int_equal(u, 90 * TN_SEC);
    assert_int_equal(tn_config_bytes(r, "z", &u, &err), TN_OK);
    assert_int_equal(u, 4 << 20);
    assert_int_equal(tn_config_i64(r, "n", &i, &err), TN_ENOTFOUND);
    assert_int_equal(tn_config_i64(r, "none", &i, &err), TN_ENOTFOUND);
    assert_int_equal(tn_config_i64(NULL, "none", &i, &err), TN_ENOTFOUND);
    assert_string_equal(err.text, "");
    assert_int_equal(tn_config_i64(r, "s", &i, &err), TN_EINVALID);
    assert_string_equal(err.text, "t.yaml:1: s: has \"text\", wants a whole number");
    assert_int_equal(i, -5);
    assert_int_equal(tn_config_str(r, "m", &s, &err), TN_EINVALID);
    assert_string_equal(err.text, "t.yaml:7: m: has a map, wants a text");
    assert_int_equal(tn_config_bool(r, "m.a", &b, &err), TN_EINVALID);
    assert_string_equal(err.text, "t.yaml:7: m.a: has \"1\", wants true or false");
    assert_int_equal(tn_config_duration_ns(tn_config_get(r, "m"), "a", &u, &err), TN_EINVALID);
    assert_string_equal(err.text,
                        "t.yaml:7: m.a: has \"1\", wants a duration such as 10s, 5m or 1h30m");
    assert_int_equal(tn_config_bytes(r, "big", &u, &err), TN_EINVALID);
    tn_config_complain(tn_config_get(r, "m"), "zzz", "is missing", &err);
    assert_string_equal(err.text, "t.yaml:7: m.zzz: is missing");
    done(t);
}

static void secrets_come_four_ways(void **state)
{
    (void)state;
    char file[] = "/tmp/tn_secret_XXXXXX", text[1000];
    int fd = mkstemp(file);
    assert_int_equal(write(fd, "from file\n", 10), 10);
    setenv("TN_TEST_SECRET", "from env", 1);
    snprintf(
        text, sizeof text,
        "a: in place\nbFile: %s\ncEnv: TN_TEST_SECRET\ndCommand: [printf, \"%%s\", from command]\n"
        "eCommand: echo $TN_TEST_SECRET\nf: x\nfEnv: y\ngEnv: TN_NOT_SET_AT_ALL\nhCommand: exit 3\n"
        "iFile: /nonexistent/x\njCommand: [/nonexistent/y]\n",
        file);
    tn_config_tree *t = parse(text);
    const tn_config *r = tn_config_root(t);
    static const char *const good[][2] = {{"a", "in place"},
                                          {"b", "from file"},
                                          {"c", "from env"},
                                          {"d", "from command"},
                                          {"e", "from env"}};
    tn_str s, again;
    tn_error err = {0};
    for (size_t i = 0; i < TN_COUNT_OF(good); i++) {
        assert_int_equal(tn_config_secret(r, good[i][0], &s, &err), TN_OK);
        assert_true(tn_str_is(s, good[i][1]));
    }
    unlink(file); /* read once: the second time comes from memory */
    assert_int_equal(tn_config_secret(r, "b", &again, &err), TN_OK);
    assert_true(tn_str_is(again, "from file"));
    assert_int_equal(tn_config_secret(r, "none", &s, &err), TN_ENOTFOUND);
    assert_int_equal(tn_config_secret(r, "f", &s, &err), TN_EINVALID);
    assert_string_equal(
        err.text,
        "t.yaml:6: f: is given in more than one way; keep one of f, fFile, fEnv, fCommand");
    assert_int_equal(tn_config_secret(r, "g", &s, &err), TN_EINVALID);
    assert_string_equal(err.text, "t.yaml:8: gEnv: the variable TN_NOT_SET_AT_ALL is not set");
    assert_int_equal(tn_config_secret(r, "h", &s, &err), TN_EINVALID);
    assert_string_equal(err.text, "t.yaml:9: hCommand: command \"/bin/sh\" ended with status 3");
    assert_int_equal(tn_config_secret(r, "i", &s, &err), TN_EINVALID);
    assert_int_equal(tn_config_secret(r, "j", &s, &err), TN_EINVALID);
    close(fd);
    done(t);
}

static void unknown_keys_are_named_with_the_nearest(void **state)
{
    (void)state;
    tn_config_tree *t = parse("pool_sizee: 3\ntls:\n  cafile: x\n  ok: 1\nhosts:\n  - name: a\n    "
                              "prot: 1\nfree:\n  any: {thing: 1}\nqqqqqq: 1\n");
    static const char *const paths[] = {"pool_size",    "tls.caFile",   "tls.ok",
                                        "hosts.*.name", "hosts.*.port", "free"};
    static const bool open[] = {false, false, false, false, false, true};
    tn_config_check_keys(tn_config_root(t), paths, open, TN_COUNT_OF(paths), problems);
    assert_int_equal(tn_config_problems_count(problems), 4);
    assert_string_equal(
        tn_config_problems_text(problems, 0),
        "t.yaml:1: pool_sizee: unknown key \"pool_sizee\" (did you mean \"pool_size\"?)\n"
        "    fix: write pool_size, or remove the line");
    assert_string_equal(tn_config_problems_text(problems, 1),
                        "t.yaml:3: tls.cafile: unknown key \"cafile\" (did you mean \"caFile\"?)\n"
                        "    fix: write caFile, or remove the line");
    assert_string_equal(tn_config_problems_text(problems, 2),
                        "t.yaml:7: hosts.0.prot: unknown key \"prot\" (did you mean \"port\"?)\n"
                        "    fix: write port, or remove the line");
    assert_string_equal(tn_config_problems_text(problems, 3),
                        "t.yaml:10: qqqqqq: unknown key \"qqqqqq\"\n    fix: remove the line");
    done(t);
}

static void plugin_keys_come_from_its_table(void **state)
{
    (void)state;
    tn_config_tree *t = parse("db:\n  plugin: x\n  path: a\n  passwordFile: b\n  opts: {z: 1}\n  "
                              "pth: c\n  pathFile: d\n");
    static const char keys[] =
        "path text - - where the file is\npassword secret - - \n  opts map\n";
    static const char *const own[] = {"plugin", "sha256", NULL};
    tn_config_check_plugin_keys(tn_config_get(tn_config_root(t), "db"), keys, own,
                                "persistence plugin \"x\"", problems);
    assert_int_equal(tn_config_problems_count(problems), 2);
    assert_string_equal(
        tn_config_problems_text(problems, 0),
        "t.yaml:6: db.pth: persistence plugin \"x\": unknown key \"pth\" (did you mean \"path\"?)\n"
        "    fix: write path, or remove the line");
    done(t);
}

static void files_are_read_or_named(void **state)
{
    (void)state;
    tn_config_tree *t = NULL;
    problems = tn_config_problems_create();
    assert_int_equal(tn_config_load("/nonexistent.yaml", problems, &t), TN_ENOTFOUND);
    assert_int_equal(tn_config_load("/tmp", problems, &t), TN_EINVALID);
    assert_string_equal(tn_config_problems_text(problems, 0),
                        "cannot open /nonexistent.yaml: No such file or directory");
    for (int i = 0; i < 200; i++)
        tn_config_problems_add(problems, "x");
    assert_int_equal(tn_config_problems_count(problems), 202);
    assert_null(tn_config_problems_text(problems, TN_CONFIG_PROBLEMS_MAX));
    tn_config_problems_destroy(problems);
}

static void note_change(void *user, const tn_config *node)
{
    tn_buf_printf(user, "%s:%u ", tn_config_path_of(node), tn_config_line(node));
}

static void note_removal(void *user, const tn_config *node)
{
    tn_buf_printf(user, "-%s ", tn_config_path_of(node));
}

static const char *differences(const char *old, const char *fresh)
{
    static char said[400];
    tn_buf out = {0};
    tn_config_tree *a = parse(old), *b = NULL;
    tn_config_problems *none = tn_config_problems_create();
    assert_int_equal(tn_config_parse("t.yaml", tn_blob_of_str(tn_str_from(fresh)), none, &b),
                     TN_OK);
    tn_config_diff(tn_config_root(a), tn_config_root(b), note_change, note_removal, &out);
    assert_int_equal(out.n == 0, tn_config_same(tn_config_root(a), tn_config_root(b)));
    snprintf(said, sizeof said, "%.*s", (int)out.n, out.p ? (const char *)out.p : "");
    tn_buf_done(&out);
    tn_config_problems_destroy(none);
    tn_config_tree_destroy(b);
    done(a);
    return said;
}

static void differences_are_named_key_by_key(void **state)
{
    (void)state;
    assert_string_equal(
        differences("a: 1\nb: {c: 2, d: [x, y]}\n", "b:\n  d: [x, y]\n  c: 2\na: 1\n"), "");
    assert_string_equal(differences("a: 1\nb: {c: 2}\n", "a: 2\nb: {c: 3}\n"), "a:1 b.c:2 ");
    assert_string_equal(differences("a: 1\nb: 2\n", "b: 2\nc: {d: 1, e: 2}\n"), "c:2 -a ");
    assert_string_equal(differences("a: [x, y, z]\n", "a: [x, w]\n"), "a.1:1 -a.2 ");
    assert_string_equal(differences("a: 1\n", "a: {b: 1}\n"), "a:1 ");
    assert_string_equal(differences("a:\n", "b:\n"), ""); /* no value is as good as no key */
    assert_string_equal(differences("a.b: 1\na: {b: 2}\n", "a.b: 1\na: {b: 2}\n"),
                        ""); /* a key with a dot */
    assert_true(tn_config_same(NULL, NULL));
}

static void other_secrets_in_files_are_noticed(void **state)
{
    (void)state;
    char yaml[200], path[] = "/tmp/tenon-secret-XXXXXX";
    tn_str secret;
    tn_error err;
    tn_buf out = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "swordfish\n", 10) == 10);
    snprintf(yaml, sizeof yaml, "db: {passwordFile: %s, nameFile: %s}\n", path, path);
    tn_config_tree *t = parse(yaml);
    assert_int_equal(tn_config_secret(tn_config_root(t), "db.password", &secret, &err), TN_OK);
    tn_config_diff_secrets(tn_config_root(t), note_change, &out);
    assert_int_equal(out.n, 0);
    assert_true(pwrite(fd, "swordfist\n", 10, 0) == 10);
    tn_config_diff_secrets(tn_config_root(t), note_change, &out);
    tn_buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.p,
                        "db.passwordFile:1 "); /* nameFile was never read as one */
    tn_buf_done(&out);
    close(fd);
    unlink(path);
    done(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_knows_its_places),
        cmocka_unit_test(bad_texts_are_refused_with_their_line),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(getters_take_their_type_or_say_what_is_wrong),
        cmocka_unit_test(secrets_come_four_ways),
        cmocka_unit_test(unknown_keys_are_named_with_the_nearest),
        cmocka_unit_test(plugin_keys_come_from_its_table),
        cmocka_unit_test(files_are_read_or_named),
        cmocka_unit_test(differences_are_named_key_by_key),
        cmocka_unit_test(other_secrets_in_files_are_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
