/* SPDX-License-Identifier: MIT */
/* claimmapper/mtls under a small host: which rows take a certificate, what adds up, names that lie, dates, bad tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "../../../plugins/claimmapper/mtls/private.h"
#include "base/base.h"
#include "config/config.h"

struct tn_op {
    tn_arena *arena;
    tn_error err;
};
static uint64_t wall_s;
static uint64_t wall_ns(void) { return wall_s * MT_SEC; }
static void *op_alloc(tn_op *op, size_t n, size_t align)
{
    void *p = tn_arena_alloc_aligned(op->arena, n, align);
    if (p)
        memset(p, 0, n);
    return p;
}
static void op_explain(tn_op *op, const tn_error *err) { op->err = *err; }
static unsigned counts[3]; /* mapped, read, refused */
static tn_metric *metric(const void *who, const char *name, int32_t type, const char *help)
{
    (void)who, (void)type, (void)help;
    return (tn_metric *)(void *)&counts[name[0] == 'm' ? 0 : name[0] == 'c' ? 1 : 2];
}
static void metric_add(tn_metric *m, double v) { *(unsigned *)(void *)m += (unsigned)v; }
static const tn_host host = {.struct_size = sizeof host,
                             .now_ns = wall_ns,
                             .cfg_str = tn_config_str,
                             .cfg_bool = tn_config_bool,
                             .cfg_count = tn_config_count,
                             .cfg_complain = tn_config_complain,
                             .op_alloc = op_alloc,
                             .op_explain = op_explain,
                             .metric = metric,
                             .metric_add = metric_add};

/* ---- certificates ---- */

typedef struct cert {
    uint8_t der[4096];
    size_t n;
} cert;

static EVP_PKEY *key;

static void add_alternative(X509 *x, const char *const *names)
{
    GENERAL_NAMES *list = sk_GENERAL_NAME_new_null();
    for (; *names; names++) { /* "U..." a URI, "D..." a DNS name; % stands for NUL */
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();
        char bytes[256];
        size_t n = strlen(*names) - 1;
        memcpy(bytes, *names + 1, n);
        for (size_t i = 0; i < n; i++)
            if (bytes[i] == '%')
                bytes[i] = 0;
        ASN1_STRING_set(text, bytes, (int)n);
        GENERAL_NAME_set0_value(name, **names == 'U' ? GEN_URI : GEN_DNS, text);
        sk_GENERAL_NAME_push(list, name);
    }
    X509_add1_ext_i2d(x, NID_subject_alt_name, list, 0, 0);
    sk_GENERAL_NAME_pop_free(list, GENERAL_NAME_free);
}

/* subject: "O=Acme", ...; a % in it stands for NUL */
static cert make(const char *const *subject, const char *const *alternative)
{
    static long serial;
    cert c = {.n = 0};
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)wall_s - 100);
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)wall_s + 100);
    for (; *subject; subject++) {
        char name[8], value[256];
        size_t n = strcspn(*subject, "="), m = strlen(*subject) - n - 1;
        snprintf(name, sizeof name, "%.*s", (int)n, *subject);
        memcpy(value, *subject + n + 1, m);
        for (size_t i = 0; i < m; i++)
            if (value[i] == '%')
                value[i] = 0;
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x), name, MBSTRING_UTF8,
                                   (unsigned char *)value, (int)m, -1, 0);
    }
    if (alternative)
        add_alternative(x, alternative);
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    unsigned char *p = c.der;
    assert_true(i2d_X509(x, NULL) < (int)sizeof c.der);
    c.n = (size_t)i2d_X509(x, &p);
    X509_free(x);
    return c;
}
#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- an instance ---- */

static tn_config_tree *tree;
static void *inst, *ctx;
static tn_arena *arena;

static tn_status open_with(const char *yaml, tn_error *err)
{
    tn_config_problems *problems = tn_config_problems_create();
    if (tn_config_parse("t.yaml", tn_blob_of_str(tn_str_from(yaml)), problems, &tree) != TN_OK)
        fail_msg("%s", tn_config_problems_text(problems, 0));
    tn_config_problems_destroy(problems);
    tn_status status = tn_plugin_v0(0)->open(&host, tn_config_root(tree), &inst, err);
    if (status == TN_OK) {
        assert_int_equal(tn_plugin_v0(0)->attach(inst, NULL, &ctx, err), TN_OK);
        arena = tn_arena_create(0);
    }
    return status;
}

static void start(const char *yaml)
{
    tn_error err = {0};
    if (open_with(yaml, &err) != TN_OK)
        fail_msg("%s", err.text);
}

static void stop(void)
{
    tn_plugin_v0(0)->detach(inst, ctx);
    tn_plugin_v0(0)->close(inst);
    tn_config_tree_destroy(tree);
    tn_arena_destroy(arena);
}

static char said[512];
/* "subject; system; ns=roles ..." */
static const char *mapped(const cert *c)
{
    const tn_claim_mapper_ops *ops = tn_plugin_v0(0)->ops;
    tn_op op = {.arena = arena};
    tn_auth_info info = {.struct_size = sizeof info, .authorization = TN_STR("Bearer x")};
    tn_claims claims = {.struct_size = sizeof claims, .present = 1};
    if (c)
        info.peer_cert_der = tn_blob_from(c->der, c->n);
    tn_status status = ops->map(ctx, &op, &info, &claims);
    if (status != TN_OK) {
        snprintf(said, sizeof said, "%s: %s", tn_status_name(status), op.err.text);
        return said;
    }
    if (!claims.present)
        return "nobody";
    int n = snprintf(said, sizeof said, TN_STR_FMT "; %u;", TN_STR_ARG(claims.subject),
                     claims.system_roles);
    for (size_t i = 0; i < claims.n_grants; i++)
        n += snprintf(said + n, sizeof said - (size_t)n, " " TN_STR_FMT "=%u",
                      TN_STR_ARG(claims.grants[i].ns), claims.grants[i].roles);
    return said;
}

/* ---- cases ---- */

static void rows_add_up(void **state)
{
    (void)state;
    start("table:\n"
          "- {organization: Acme, permissions: [\"a:read\"]}\n"
          "- {organization: Acme, organizationalUnit: Ops*, permissions: [\"a:write\", "
          "\"b:WORKER\", \"temporal-system:read\"]}\n"
          "- {commonName: root, dns: \"*.admin.test\", permissions: [\"temporal-system:admin\"]}\n"
          "- {subject: \"CN=x,O=Other\", permissions: [\"c:admin\"]}\n");
    cert c = make(NAMES("O=Acme", "CN=x"), NULL);
    assert_string_equal(mapped(&c), "CN=x,O=Acme; 0; a=2");
    c = make(NAMES("O=Acme", "OU=Opsis", "CN=x"), NULL);
    assert_string_equal(mapped(&c), "CN=x,OU=Opsis,O=Acme; 2; a=6 b=1");
    c = make(NAMES("O=Other", "CN=x"), NULL);
    assert_string_equal(mapped(&c), "CN=x,O=Other; 0; c=8");
    c = make(NAMES("O=Other", "O=Acme"), NULL);
    assert_string_equal(mapped(&c), "O=Acme,O=Other; 0; a=2");
    c = make(NAMES("CN=root"), NAMES("DOne.ADMIN.test"));
    assert_string_equal(mapped(&c), "CN=root; 8;");
    c = make(NAMES("CN=root"), NAMES("Dtwo.one.admin.test"));
    assert_string_equal(mapped(&c), "CN=root; 0;");
    c = make(NAMES("CN=nobody"), NAMES("Done.admin.test"));
    assert_string_equal(mapped(&c), "CN=nobody; 0;");
    c = make(NAMES("O=acme"), NULL);
    assert_string_equal(mapped(&c), "O=acme; 0;");
    assert_string_equal(mapped(NULL), "nobody");
    stop();
}

static void spiffe_ids(void **state)
{
    (void)state;
    start("table:\n"
          "- {uri: \"spiffe://acme.test/ns/*/sa/orders\", permissions: [\"orders:write\"]}\n"
          "- {uri: \"spiffe://acme.test/ops/**\", permissions: [\"temporal-system:read\"]}\n"
          "- {uri: \"https://*.test/x\", permissions: [\"web:read\"]}\n");
    cert c = make(NAMES("CN=x"), NAMES("Uspiffe://acme.test/ns/p/sa/orders"));
    assert_string_equal(mapped(&c), "spiffe://acme.test/ns/p/sa/orders; 0; orders=4");
    c = make(NAMES("CN=x"), NAMES("Uspiffe://acme.test/ns/p/sa/other/sa/orders"));
    assert_string_equal(mapped(&c), "spiffe://acme.test/ns/p/sa/other/sa/orders; 0;");
    c = make(NAMES("CN=x"), NAMES("Uspiffe://acme.test/ops/a/b"));
    assert_string_equal(mapped(&c), "spiffe://acme.test/ops/a/b; 2;");
    c = make(NAMES("CN=x"), NAMES("Uspiffe://evil.test/ops/a"));
    assert_string_equal(mapped(&c), "spiffe://evil.test/ops/a; 0;");
    c = make(NAMES("CN=x"),
             NAMES("Uspiffe://acme.test/ops/a", "Uspiffe://acme.test/ns/p/sa/orders"));
    assert_string_equal(mapped(&c), "CN=x; 0;"); /* two URIs: no SPIFFE id */
    c = make(NAMES("CN=x"), NAMES("Uspiffe://acme.test/ops/a", "Uother%one"));
    assert_string_equal(mapped(&c), "CN=x; 0;");
    c = make(NAMES("CN=x"), NAMES("Uhttps://a.test/x", "Uhttps://b.test/y"));
    assert_string_equal(mapped(&c), "CN=x; 0; web=2");
    stop();
}

static void names_that_lie(void **state)
{
    (void)state;
    start("subjectFrom: commonName\n"
          "table:\n"
          "- {dns: good.test, permissions: [\"a:read\"]}\n"
          "- {commonName: good, permissions: [\"b:read\"]}\n"
          "- {uri: \"spiffe://a/b\", permissions: [\"c:read\"]}\n");
    cert c = make(NAMES("CN=x"), NAMES("Dgood.test%.evil.test"));
    assert_string_equal(mapped(&c), "x; 0;");
    c = make(NAMES("CN=x"), NAMES("Dgood.test "));
    assert_string_equal(mapped(&c), "x; 0;");
    c = make(NAMES("CN=good%bad"), NULL);
    assert_non_null(strstr(mapped(&c), "; 0;"));
    assert_null(strstr(mapped(&c), "b="));
    c = make(NAMES("CN=x"), NAMES("Uspiffe://a/b%"));
    assert_string_equal(mapped(&c), "x; 0;");
    c = make(NAMES("CN=good"), NAMES("Dgood.test", "Dx"));
    assert_string_equal(mapped(&c), "good; 0; a=2 b=2");
    c.n--;
    assert_string_equal(mapped(&c), "denied: certificate refused: it cannot be read");
    c.n += 2;
    assert_string_equal(mapped(&c), "denied: certificate refused: it cannot be read");
    stop();
}

static void dates_count_each_time(void **state)
{
    (void)state;
    static const char table[] = "table: [{subject: \"*\", permissions: [\"a:read\"]}]\n";
    char lax[200];
    start(table);
    cert c = make(NAMES("CN=x"), NULL);
    memset(counts, 0, sizeof counts);
    for (int i = 0; i < 10; i++)
        assert_string_equal(mapped(&c), "CN=x; 0; a=2");
    assert_int_equal(counts[0], 10);
    assert_int_equal(counts[1], 1); /* read once, then known */
    wall_s += 101;
    assert_string_equal(mapped(&c),
                        "denied: certificate refused: it has expired since the handshake");
    wall_s -= 202;
    assert_string_equal(mapped(&c), "denied: certificate refused: it is not valid yet");
    wall_s += 101;
    assert_string_equal(mapped(&c), "CN=x; 0; a=2");
    assert_int_equal(counts[2], 2);
    for (int i = 0; i < 600; i++) { /* more than are remembered */
        cert other = make(NAMES("CN=y"), NULL);
        assert_string_equal(mapped(&other), "CN=y; 0; a=2");
    }
    assert_string_equal(mapped(&c), "CN=x; 0; a=2");
    stop();
    snprintf(lax, sizeof lax, "refuseExpired: false\n%s", table);
    start(lax);
    wall_s += 101;
    assert_string_equal(mapped(&c), "CN=x; 0; a=2");
    wall_s -= 101;
    stop();
}

static void damage_is_refused(void **state)
{
    (void)state;
    tn_rng rng;
    tn_rng_seed(&rng, 3);
    start("table: [{subject: \"*\", uri: \"**\", permissions: [\"a:read\"]}]\n");
    const cert c = make(NAMES("CN=x", "O=Acme"), NAMES("Uspiffe://a/b", "Dc.d"));
    for (int i = 0; i < 20000; i++) {
        cert bad = c;
        for (uint64_t k = tn_rng_below(&rng, 4) + 1; k > 0; k--)
            bad.der[tn_rng_below(&rng, c.n)] = (uint8_t)tn_rng_next(&rng);
        if (tn_rng_below(&rng, 8) == 0)
            bad.n = tn_rng_below(&rng, c.n) + 1;
        mapped(&bad);
        tn_arena_reset(arena);
    }
    stop();
}

static void bad_tables_name_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *where, *what;
    } bad[] = {
        {"subjectFrom: uri\n", "t.yaml:", "1 to 1024 rows"},
        {"table: []\n", "t.yaml:1:", "1 to 1024 rows"},
        {"table:\n- {permissions: [\"a:read\"]}\n", "t.yaml:2:", "asks for nothing"},
        {"table:\n- {dns: a}\n", "t.yaml:2:", "list of 1 to 256"},
        {"table:\n- dns: a\n  permissions: [\"a:read\",\n    \"a:boss\"]\n",
         "t.yaml:4:", "is no permission"},
        {"table:\n- {dns: a, permissions: [\":read\"]}\n", "t.yaml:2:", "is no permission"},
        {"table:\n- dns: a\n  uri: \"a/**/b\"\n  permissions: [\"a:read\"]\n",
         "t.yaml:3:", "is no pattern"},
        {"table:\n- dns: a?\n  permissions: [\"a:read\"]\n", "t.yaml:2:", "is no pattern"},
        {"subjectFrom: email\ntable:\n- {dns: a, permissions: [\"a:read\"]}\n",
         "t.yaml:1:", "is not known"},
        {"refuseExpired: perhaps\ntable:\n- {dns: a, permissions: [\"a:read\"]}\n",
         "t.yaml:1:", "perhaps"},
    };
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++) {
        tn_error err = {0};
        assert_int_equal(open_with(bad[i].yaml, &err), TN_EINVALID);
        if (strncmp(err.text, bad[i].where, strlen(bad[i].where)) != 0 ||
            !strstr(err.text, bad[i].what))
            fail_msg("%s\ngives: %s", bad[i].yaml, err.text);
        tn_config_tree_destroy(tree);
    }
}

int main(void)
{
    wall_s = 1800000000;
    key = EVP_EC_gen("P-256");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_add_up),       cmocka_unit_test(spiffe_ids),
        cmocka_unit_test(names_that_lie),    cmocka_unit_test(dates_count_each_time),
        cmocka_unit_test(damage_is_refused), cmocka_unit_test(bad_tables_name_their_place),
    };
    int failed = cmocka_run_group_tests_name("claimmapper/mtls", tests, NULL, NULL);
    EVP_PKEY_free(key);
    return failed;
}
