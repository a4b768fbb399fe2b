/* SPDX-License-Identifier: MIT */
/* claimmapper/jwt under a small host: every algorithm verifies its own tokens, every attack of the list is refused,
 * permissions become roles as the reference has it, keys are kept, replaced and waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "../../../plugins/claimmapper/jwt/private.h"
#include "base/base.h"

/* ---- a host ------------------------------------------------------------------------------------- */

typedef struct setting {
    const char *path, *value;
} setting;
struct tn_config {
    const setting *settings;
};
struct tn_op {
    tn_arena *arena;
    tn_error err;
    bool finished;
    tn_status status;
};

static uint64_t wall_s = 1800000000, mono_add_ns;
static uint64_t wall_ns(void) { return wall_s * JW_SEC; }
static uint64_t mono_ns(void) { return tn_now_mono_ns() + mono_add_ns; }

static char logged[8192];
static void host_log(const void *who, int32_t level, const char *msg, size_t n)
{
    (void)who, (void)level;
    size_t have = strlen(logged);
    snprintf(logged + have, sizeof logged - have, "%.*s\n", (int)n, msg);
}

static const char *value_of(const tn_config *cfg, const char *path)
{
    for (const setting *s = cfg->settings; s->path; s++)
        if (strcmp(s->path, path) == 0)
            return s->value;
    return NULL;
}
static tn_status cfg_str(const tn_config *cfg, const char *path, tn_str *out, tn_error *err)
{
    const char *value = value_of(cfg, path);
    (void)err;
    if (value)
        *out = tn_str_from(value);
    return value ? TN_OK : TN_ENOTFOUND;
}
static tn_status cfg_i64(const tn_config *cfg, const char *path, int64_t *out, tn_error *err)
{
    const char *value = value_of(cfg, path);
    (void)err;
    if (value)
        *out = strtoll(value, NULL, 10);
    return value ? TN_OK : TN_ENOTFOUND;
}
static tn_status cfg_bool(const tn_config *cfg, const char *path, int32_t *out, tn_error *err)
{
    const char *value = value_of(cfg, path);
    (void)err;
    if (value)
        *out = strcmp(value, "true") == 0;
    return value ? TN_OK : TN_ENOTFOUND;
}
static tn_status cfg_dur(const tn_config *cfg, const char *path, uint64_t *out, tn_error *err)
{
    int64_t ns;
    const char *value = value_of(cfg, path);
    (void)err;
    if (value && tn_parse_duration_ns(tn_str_from(value), &ns))
        *out = (uint64_t)ns;
    return value ? TN_OK : TN_ENOTFOUND;
}
static size_t cfg_count(const tn_config *cfg, const char *path)
{
    size_t n = 0;
    char entry[80];
    do
        snprintf(entry, sizeof entry, "%s.%zu", path, n++);
    while (value_of(cfg, entry));
    return n - 1;
}
static void cfg_complain(const tn_config *cfg, const char *path, const char *text, tn_error *err)
{
    (void)cfg;
    tn_error_set(err, TN_EINVALID, "%s %s", path, text);
}
static void *op_alloc(tn_op *op, size_t n, size_t align)
{
    void *p = tn_arena_alloc_aligned(op->arena, n, align);
    if (p)
        memset(p, 0, n);
    return p;
}
static void op_explain(tn_op *op, const tn_error *err) { op->err = *err; }
static void op_finish(tn_op *op, tn_status status, const tn_error *err)
{
    op->finished = true;
    op->status = status;
    if (err)
        op->err = *err;
}
/* The loop is this thread; what the plugin's thread posts is run while the test waits. */
static pthread_mutex_t post_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t post_wake = PTHREAD_COND_INITIALIZER;
static struct {
    void (*cb)(void *);
    void *arg;
} posts[2048];
static size_t n_posts;
static tn_status host_post(tn_loop *loop, void (*cb)(void *), void *arg)
{
    (void)loop;
    pthread_mutex_lock(&post_lock);
    posts[n_posts].cb = cb;
    posts[n_posts++].arg = arg;
    pthread_cond_signal(&post_wake);
    pthread_mutex_unlock(&post_lock);
    return TN_OK;
}
static void run_posts(size_t count)
{
    while (count > 0) {
        pthread_mutex_lock(&post_lock);
        while (n_posts == 0)
            pthread_cond_wait(&post_wake, &post_lock);
        void (*cb)(void *) = posts[0].cb;
        void *arg = posts[0].arg;
        memmove(posts, posts + 1, --n_posts * sizeof posts[0]);
        pthread_mutex_unlock(&post_lock);
        cb(arg);
        count--;
    }
}
static tn_metric *host_metric(const void *who, const char *name, int32_t type, const char *help)
{
    (void)who, (void)type, (void)help;
    return (tn_metric *)(uintptr_t)(strcmp(name, "key_fetches") == 0  ? 1
                                    : strcmp(name, "cache_hits") == 0 ? 2
                                                                      : 3);
}
static _Atomic int fetches, hits;
static void metric_add(tn_metric *metric, double v)
{
    (void)v;
    if ((uintptr_t)metric == 1)
        fetches++;
    else if ((uintptr_t)metric == 2)
        hits++;
}
static const tn_host HOST = {.struct_size = sizeof(tn_host),
                             .log = host_log,
                             .now_ns = wall_ns,
                             .mono_ns = mono_ns,
                             .cfg_str = cfg_str,
                             .cfg_i64 = cfg_i64,
                             .cfg_bool = cfg_bool,
                             .cfg_dur_ns = cfg_dur,
                             .cfg_count = cfg_count,
                             .cfg_complain = cfg_complain,
                             .op_alloc = op_alloc,
                             .op_explain = op_explain,
                             .op_finish = op_finish,
                             .post = host_post,
                             .metric = host_metric,
                             .metric_add = metric_add};

/* ---- keys and tokens ---------------------------------------------------------------------------- */

static EVP_PKEY *rsa, *other_rsa, *small_rsa, *p256, *p384, *p521, *ed;
static const char SECRET[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void put_base64(tn_buf *out, const void *bytes, size_t n)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const uint8_t *p = bytes;
    uint32_t bits = 0, have = 0;
    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | p[i];
        for (have += 8; have >= 6;) {
            have -= 6;
            tn_buf_put_u8(out, (uint8_t)letters[bits >> have & 63]);
        }
    }
    if (have)
        tn_buf_put_u8(out, (uint8_t)letters[bits << (6 - have) & 63]);
}

static char *text_of(tn_buf *buf)
{
    tn_buf_put_u8(buf, 0);
    return (char *)buf->p; /* the caller's */
}

static size_t sign(int alg, EVP_PKEY *key, const void *secret, size_t secret_n, const char *text,
                   size_t n, uint8_t sig[1200])
{
    const jw_alg *a = &jw_algs[alg];
    size_t sig_n = 1200;
    if (a->family == JW_HMAC) {
        unsigned mac_n = 0;
        HMAC(EVP_get_digestbyname(a->md), secret, (int)secret_n, (const unsigned char *)text, n,
             sig, &mac_n);
        return mac_n;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *how;
    assert_int_equal(EVP_DigestSignInit_ex(ctx, &how, a->md, NULL, NULL, key, NULL), 1);
    if (a->family == JW_RSA_PSS) {
        EVP_PKEY_CTX_set_rsa_padding(how, RSA_PKCS1_PSS_PADDING);
        EVP_PKEY_CTX_set_rsa_pss_saltlen(how, RSA_PSS_SALTLEN_DIGEST);
    }
    assert_int_equal(EVP_DigestSign(ctx, sig, &sig_n, (const unsigned char *)text, n), 1);
    EVP_MD_CTX_free(ctx);
    if (a->family != JW_EC)
        return sig_n;
    const uint8_t *at = sig;
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)sig_n);
    uint8_t raw[132];
    BN_bn2binpad(ECDSA_SIG_get0_r(pair), raw, (int)a->size);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair), raw + a->size, (int)a->size);
    ECDSA_SIG_free(pair);
    memcpy(sig, raw, 2 * a->size);
    return 2 * a->size;
}

/* header.payload.signature, signed as `alg` says, whatever the header says. */
static char *token_raw(const char *header, const char *payload, const char *alg, EVP_PKEY *key,
                       const void *secret, size_t secret_n)
{
    tn_buf out = {0};
    uint8_t sig[1200];
    put_base64(&out, header, strlen(header));
    tn_buf_put_u8(&out, '.');
    put_base64(&out, payload, strlen(payload));
    size_t n =
        alg ? sign(jw_alg_find(alg, strlen(alg)), key, secret, secret_n, (char *)out.p, out.n, sig)
            : 0;
    tn_buf_put_u8(&out, '.');
    put_base64(&out, sig, n);
    return text_of(&out);
}

static char *token(const char *header, const char *payload)
{
    return token_raw(header, payload, "RS256", rsa, NULL, 0);
}

#define H "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"rsa\"}"
#define P "{\"sub\":\"me\",\"exp\":1800000600,\"permissions\":[\"a:read\",\"b:write\"]}"

static void put_member(tn_buf *out, const char *name, const void *bytes, size_t n)
{
    tn_buf_printf(out, ",\"%s\":\"", name);
    put_base64(out, bytes, n);
    tn_buf_printf(out, "\"");
}

static void put_bn(tn_buf *out, const char *name, EVP_PKEY *key, const char *param, size_t pad)
{
    uint8_t bytes[1200];
    BIGNUM *bn = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(key, param, &bn), 1);
    size_t n = pad ? pad : (size_t)BN_num_bytes(bn);
    BN_bn2binpad(bn, bytes, (int)n);
    put_member(out, name, bytes, n);
    BN_free(bn);
}

static void put_rsa(tn_buf *out, const char *kid, EVP_PKEY *key, const char *more)
{
    tn_buf_printf(out, "%s{\"kty\":\"RSA\",\"kid\":\"%s\"%s", out->n > 10 ? "," : "", kid, more);
    put_bn(out, "n", key, OSSL_PKEY_PARAM_RSA_N, 0);
    put_bn(out, "e", key, OSSL_PKEY_PARAM_RSA_E, 0);
    tn_buf_printf(out, "}");
}

static void put_ec(tn_buf *out, const char *kid, EVP_PKEY *key, const char *curve, size_t size)
{
    tn_buf_printf(out, "%s{\"kty\":\"EC\",\"kid\":\"%s\",\"crv\":\"%s\",\"use\":\"sig\"",
                  out->n > 10 ? "," : "", kid, curve);
    put_bn(out, "x", key, OSSL_PKEY_PARAM_EC_PUB_X, size);
    put_bn(out, "y", key, OSSL_PKEY_PARAM_EC_PUB_Y, size);
    tn_buf_printf(out, "}");
}

static char dir[] = "/tmp/tenon-jwt-XXXXXX", keys_path[64], keys_uri[80];

static void write_keys(tn_buf *list)
{
    FILE *file = fopen(keys_path, "w");
    assert_non_null(file);
    fprintf(file, "{\"keys\":%.*s]}", (int)list->n, (char *)list->p);
    fclose(file);
    tn_buf_done(list);
}

static void write_all_keys(void)
{
    tn_buf list = {0};
    uint8_t x[32];
    size_t n = sizeof x;
    tn_buf_printf(&list, "[");
    put_rsa(&list, "rsa", rsa, "");
    put_rsa(&list, "rsa-rs512-only", rsa, ",\"alg\":\"RS512\"");
    put_rsa(&list, "rsa-enc", rsa, ",\"use\":\"enc\"");
    put_rsa(&list, "rsa-ops", rsa, ",\"key_ops\":[\"encrypt\"]");
    put_rsa(&list, "rsa-small", small_rsa, "");
    put_rsa(&list, "rsa-hs-alg", rsa, ",\"alg\":\"HS256\"");
    put_ec(&list, "p256", p256, "P-256", 32);
    put_ec(&list, "p384", p384, "P-384", 48);
    put_ec(&list, "p521", p521, "P-521", 66);
    put_ec(&list, "wrong-curve", p384, "P-256", 48);
    tn_buf_printf(&list, ",{\"kty\":\"EC\",\"kid\":\"off-curve\",\"crv\":\"P-256\"");
    put_member(&list, "x", SECRET, 32);
    put_member(&list, "y", SECRET, 32);
    tn_buf_printf(&list, "},{\"kty\":\"OKP\",\"kid\":\"ed\",\"crv\":\"Ed25519\"");
    EVP_PKEY_get_raw_public_key(ed, x, &n);
    put_member(&list, "x", x, n);
    tn_buf_printf(&list, "},{\"kty\":\"oct\",\"kid\":\"hs\"");
    put_member(&list, "k", SECRET, 64);
    tn_buf_printf(&list, "},{\"kty\":\"oct\",\"kid\":\"hs-short\"");
    put_member(&list, "k", SECRET, 8);
    tn_buf_printf(
        &list,
        "},{\"kty\":\"oct\",\"kid\":\"hs-empty\",\"k\":\"\"},{\"kty\":\"RSA\",\"kid\":\"e1\"");
    put_bn(&list, "n", rsa, OSSL_PKEY_PARAM_RSA_N, 0);
    tn_buf_printf(&list, ",\"e\":\"AQ\"},{\"kty\":\"XYZ\"},17,{}");
    write_keys(&list);
}

static int make_keys(void **state)
{
    (void)state;
    rsa = EVP_RSA_gen(2048);
    other_rsa = EVP_RSA_gen(2048);
    small_rsa = EVP_RSA_gen(1024);
    p256 = EVP_EC_gen("P-256");
    p384 = EVP_EC_gen("P-384");
    p521 = EVP_EC_gen("P-521");
    ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    assert_non_null(mkdtemp(dir));
    snprintf(keys_path, sizeof keys_path, "%s/keys.json", dir);
    snprintf(keys_uri, sizeof keys_uri, "file://%s", keys_path);
    return 0;
}

static int drop_keys(void **state)
{
    EVP_PKEY *all[] = {rsa, other_rsa, small_rsa, p256, p384, p521, ed};
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(all); i++)
        EVP_PKEY_free(all[i]);
    unlink(keys_path);
    rmdir(dir);
    return 0;
}

/* ---- the plugin --------------------------------------------------------------------------------- */

static const tn_plugin *plugin;
static void *inst, *ctx;
static setting settings[20];

static tn_status try_open(const char *path, ...)
{
    tn_error err = {0};
    tn_config cfg = {settings};
    va_list args;
    size_t n = 0;
    settings[n++] = (setting){"keySourceURIs.0", keys_uri};
    va_start(args, path);
    for (; path; path = va_arg(args, const char *)) {
        const char *value = va_arg(args, const char *);
        if (strcmp(path, "keySourceURIs.0") == 0)
            settings[0].value = value;
        else
            settings[n++] = (setting){path, value};
    }
    va_end(args);
    settings[n] = (setting){0};
    plugin = tn_plugin_v0(0);
    logged[0] = '\0';
    tn_status status = plugin->open(&HOST, &cfg, &inst, &err);
    if (status == TN_OK)
        assert_int_equal(plugin->attach(inst, NULL, &ctx, &err), TN_OK);
    else
        snprintf(logged, sizeof logged, "%s", err.text);
    return status;
}
#define OPEN(...) assert_int_equal(try_open(__VA_ARGS__, NULL), TN_OK)

static void close_plugin(void)
{
    plugin->detach(inst, ctx);
    plugin->close(inst);
    inst = NULL;
}

static tn_op op;
static tn_claims claims;
static tn_auth_info info;

static tn_status map_header(const char *header)
{
    const tn_claim_mapper_ops *ops = plugin->ops;
    tn_arena_destroy(op.arena);
    op = (tn_op){.arena = tn_arena_create(0)};
    claims = (tn_claims){.struct_size = sizeof claims, .present = 1};
    tn_str audience = info.audience;
    info = (tn_auth_info){
        .struct_size = sizeof info, .authorization = tn_str_from(header), .audience = audience};
    return ops->map(ctx, &op, &info, &claims);
}

static tn_status map_token(const char *text)
{
    tn_buf header = {0};
    static char *last;
    tn_buf_printf(&header, "Bearer %s", text);
    free(last);
    last = text_of(&header);
    tn_status status = map_header(last);
    if (status != TN_PENDING)
        return status;
    run_posts(1);
    assert_true(op.finished);
    return op.status;
}

static uint32_t roles_in(const char *ns)
{
    for (size_t i = 0; i < claims.n_grants; i++)
        if (tn_str_is(claims.grants[i].ns, ns))
            return claims.grants[i].roles;
    return 0;
}

static void expect(tn_status want, char *text, const char *what)
{
    tn_status status = map_token(text);
    if (status != want)
        fail_msg("%s: %s (%s)", what, tn_status_name(status), op.err.text);
    free(text);
}
#define GOOD(text) expect(TN_OK, text, #text)
#define REFUSED(text) expect(TN_EDENIED, text, #text)

/* ---- cases -------------------------------------------------------------------------------------- */

static void every_algorithm_verifies_its_own(void **state)
{
    (void)state;
    static const struct {
        const char *alg, *kid;
    } list[] = {{"RS256", "rsa"},  {"RS384", "rsa"}, {"RS512", "rsa"},  {"PS256", "rsa"},
                {"PS384", "rsa"},  {"PS512", "rsa"}, {"ES256", "p256"}, {"ES384", "p384"},
                {"ES512", "p521"}, {"EdDSA", "ed"},  {"HS256", "hs"},   {"HS384", "hs"},
                {"HS512", "hs"}};
    EVP_PKEY *keys[] = {rsa, rsa, rsa, rsa, rsa, rsa, p256, p384, p521, ed, NULL, NULL, NULL};
    char header[200];
    write_all_keys();
    for (int hs = 0; hs < 2; hs++) {
        if (hs)
            OPEN("algorithms.0", "HS256", "algorithms.1", "HS384", "algorithms.2", "HS512");
        else
            OPEN("leeway", "0s");
        for (size_t i = 0; i < TN_COUNT_OF(list); i++)
            /* the header says k, the key and signature are i's */
            for (size_t k = 0; k < TN_COUNT_OF(list); k++) {
                snprintf(header, sizeof header, "{\"alg\":\"%s\",\"kid\":\"%s\"}", list[k].alg,
                         list[i].kid);
                bool good = i == k && hs == (i >= 10);
                expect(good ? TN_OK : TN_EDENIED,
                       token_raw(header, P, list[i].alg, keys[i], SECRET, 64), header);
            }
        close_plugin();
    }
}

static void the_attack_list(void **state)
{
    (void)state;
    tn_buf pem = {0}, big = {0};
    char *pem_text, *good, *text, header[2048];
    BIO *bio = BIO_new(BIO_s_mem());
    write_all_keys();
    OPEN("leeway", "60s", "algorithms.0", "RS256", "algorithms.1", "ES256", "algorithms.2", "HS256",
         "algorithms.3", "RS512");
    PEM_write_bio_PUBKEY(bio, rsa);
    char *pem_bytes;
    long pem_n = BIO_get_mem_data(bio, &pem_bytes);
    tn_buf_put(&pem, pem_bytes, (size_t)pem_n);
    BIO_free(bio);
    pem_text = text_of(&pem);

    GOOD(token(H, P));
    GOOD(token("{\"alg\":\"RS256\",\"kid\":\"rsa\"}", P)); /* typ may be missing */
    /* none, key confusion, empty secrets */
    static const char *const nones[] = {"none", "None", "NONE", "nOnE", ""};
    for (size_t i = 0; i < TN_COUNT_OF(nones); i++) {
        snprintf(header, sizeof header, "{\"alg\":\"%s\",\"kid\":\"rsa\"}", nones[i]);
        REFUSED(token_raw(header, P, NULL, NULL, NULL, 0));
        REFUSED(token(header, P));
    }
    REFUSED(token_raw("{\"alg\":\"HS256\",\"kid\":\"rsa\"}", P, "HS256", NULL, pem_text,
                      (size_t)pem_n));
    REFUSED(token_raw("{\"alg\":\"HS256\",\"kid\":\"rsa\"}", P, "HS256", NULL, pem_text,
                      (size_t)pem_n - 1));
    REFUSED(token_raw("{\"alg\":\"HS256\",\"kid\":\"rsa\"}", P, "HS256", NULL, "", 0));
    /* CVE-2026-44699 */
    REFUSED(token_raw("{\"alg\":\"HS256\",\"kid\":\"rsa-hs-alg\"}", P, "HS256", NULL, "", 0));
    REFUSED(token_raw("{\"alg\":\"HS256\",\"kid\":\"hs-empty\"}", P, "HS256", NULL, "", 0));
    REFUSED(token_raw("{\"alg\":\"HS256\",\"kid\":\"hs-short\"}", P, "HS256", NULL, SECRET, 8));
    REFUSED(token_raw("{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"aw\"}}", P, "HS256",
                      NULL, "k", 1));
    /* form */
    good = token(H, P);
    size_t n = strlen(good);
    for (size_t i = 0; i < n; i += 7) { /* each letter changed, each prefix */
        text = tn_xstrdup(good);
        text[i] = text[i] == 'A' ? 'B' : 'A';
        REFUSED(text);
        text = tn_xstrdup(good);
        text[i] = '\0';
        REFUSED(text);
    }
    static const char *const tails[] = {"=", ".", ".AAAA", " ",  "\n",
                                        "+", "/", "AAAA",  "..", ".a.b"};
    for (size_t i = 0; i < TN_COUNT_OF(tails); i++) {
        tn_buf out = {0};
        tn_buf_printf(&out, "%s%s", good, tails[i]);
        REFUSED(text_of(&out));
    }
    text = tn_xstrdup(good); /* the signature's last letter: bits that nobody would look at */
    text[n - 1] = (char)(text[n - 1] == 'A' ? 'B' : text[n - 1] + 1);
    REFUSED(text);
    text = tn_xstrdup(good);
    *(strrchr(text, '.') + 1) = '\0';
    REFUSED(text);
    tn_buf swapped = {0};
    tn_buf_put(&swapped, good, (size_t)(strchr(good, '.') - good) + 1);
    put_base64(&swapped, "{\"sub\":\"evil\",\"exp\":1800000600}", 31);
    tn_buf_printf(&swapped, "%s", strrchr(good, '.'));
    REFUSED(text_of(&swapped));
    free(good);
    REFUSED(token_raw("{\"alg\":\"RS256\",\"kid\":\"rsa\"}", P, "RS256", other_rsa, NULL, 0));
    /* header */
    static const char *const headers[] = {
        "{\"kid\":\"rsa\"}",
        "{\"alg\":[\"RS256\"],\"kid\":\"rsa\"}",
        "{\"alg\":1,\"kid\":\"rsa\"}",
        "{\"alg\":\"RS256\",\"alg\":\"none\",\"kid\":\"rsa\"}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"kid\":\"p256\"}",
        "{\"alg\":\"RS256\"}",
        "{\"alg\":\"RS256\",\"kid\":7}",
        "{\"alg\":\"RS256\",\"kid\":null}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\\u0000\"}",
        "{\"alg\":\"RS256\",\"kid\":\"../../../../dev/null\"}",
        "{\"alg\":\"RS256\",\"kid\":\"' OR '1'='1\"}",
        "{\"alg\":\"RS256\",\"kid\":\"http://evil.test/key\"}",
        "{\"alg\":\"RS256\",\"kid\":\"RSA\"}",
        "{\"alg\":\"rs256\",\"kid\":\"rsa\"}",
        "{\"alg\":\"RS256 \",\"kid\":\"rsa\"}",
        "{\"alg\":\"RS384\",\"kid\":\"rsa\"}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"crit\":[\"exp-x\"],\"exp-x\":1}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"crit\":[]}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"b64\":false}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"enc\":\"A128GCM\"}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"cty\":\"JWT\"}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"zip\":\"DEF\"}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"typ\":\"JOSE+JSON\"}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"typ\":1}",
        "[]",
        "\"RS256\"",
        "",
        "null",
        "{\"alg\":\"RS256\",\"kid\":\"rsa\"} x",
        "{\"alg\":\"RS256\",\"kid\":\"rsa-rs512-only\"}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa-enc\"}",
        "{\"alg\":\"RS256\",\"kid\":\"rsa-ops\"}",
        "{\"alg\":\"RS256\",\"kid\":\"e1\"}",
        "{\"alg\":\"RS256\",\"kid\":\"wrong-curve\"}",
        "{\"alg\":\"RS256\",\"kid\":\"off-curve\"}",
    };
    for (size_t i = 0; i < TN_COUNT_OF(headers); i++)
        expect(TN_EDENIED, token(headers[i], P), headers[i]);
    GOOD(token("{\"alg\":\"RS256\",\"kid\":\"rsa\",\"jku\":\"http://evil.test\",\"x5u\":\"http://"
               "evil.test\"}",
               P));
    GOOD(token_raw("{\"alg\":\"RS512\",\"kid\":\"rsa-rs512-only\"}", P, "RS512", rsa, NULL, 0));
    REFUSED(token_raw("{\"alg\":\"RS256\",\"kid\":\"rsa-small\"}", P, "RS256", small_rsa, NULL, 0));
    tn_buf_printf(&big, "{\"alg\":\"RS256\",\"kid\":\"%0*d\"}", 10240, 7);
    text = text_of(&big);
    REFUSED(token(text, P));
    free(text);
    /* signatures of nothing */
    static const uint8_t zeros[64];
    tn_buf psychic = {0};
    put_base64(&psychic, "{\"alg\":\"ES256\",\"kid\":\"p256\"}", 28);
    tn_buf_put_u8(&psychic, '.');
    put_base64(&psychic, P, strlen(P));
    tn_buf_put_u8(&psychic, '.');
    put_base64(&psychic, zeros, sizeof zeros);
    REFUSED(text_of(&psychic));
    for (int half = 0; half < 2; half++) { /* r or s alone is nothing */
        text = token_raw("{\"alg\":\"ES256\",\"kid\":\"p256\"}", P, "ES256", p256, NULL, 0);
        memset(strrchr(text, '.') + 1 + (half ? 43 : 0), 'A', half ? 43 : 42);
        REFUSED(text);
    }
    /* the other forms of a JWS, and a JWE */
    REFUSED(tn_xstrdup(
        "{\"payload\":\"e30\",\"signatures\":[{\"protected\":\"e30\",\"signature\":\"AA\"}]}"));
    REFUSED(tn_xstrdup("{\"payload\":\"e30.x\",\"protected\":\"e30.x\",\"signature\":\"AA\"}"));
    REFUSED(tn_xstrdup("eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA"));
    REFUSED(tn_xstrdup("..")), REFUSED(tn_xstrdup(".")), REFUSED(tn_xstrdup("")),
        REFUSED(tn_xstrdup("e30.e30.AA"));
    free(pem_text);
    close_plugin();
}

static void claims_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *payload;
        bool good;
    } list[] = {
        {"{\"sub\":\"x\",\"exp\":1800000600}", true},
        {"{\"sub\":\"x\",\"exp\":1799999941}", true}, /* 59 s ago, within the leeway */
        {"{\"sub\":\"x\",\"exp\":1799999940}", false},
        {"{\"sub\":\"x\",\"exp\":1}", false},
        {"{\"sub\":\"x\"}", false},
        {"{\"sub\":\"x\",\"exp\":0}", false},
        {"{\"sub\":\"x\",\"exp\":-1}", false},
        {"{\"sub\":\"x\",\"exp\":9223372036854775808}", false},
        {"{\"sub\":\"x\",\"exp\":9223372036854775807}", false},
        {"{\"sub\":\"x\",\"exp\":1800000600.5}", false},
        {"{\"sub\":\"x\",\"exp\":1.8e9}", false},
        {"{\"sub\":\"x\",\"exp\":\"1800000600\"}", false},
        {"{\"sub\":\"x\",\"exp\":null}", false},
        {"{\"sub\":\"x\",\"exp\":[1800000600]}", false},
        {"{\"sub\":\"x\",\"exp\":1,\"exp\":1800000600}", false},
        {"{\"sub\":\"x\",\"exp\":1800000600,\"nbf\":1800000060}", true},
        {"{\"sub\":\"x\",\"exp\":1800000600,\"nbf\":1800000061}", false},
        {"{\"sub\":\"x\",\"exp\":1800000600,\"nbf\":99999999999}", false},
        {"{\"sub\":\"x\",\"exp\":1800000600,\"nbf\":\"0\"}", false},
        {"{\"sub\":\"x\",\"exp\":1800000600,\"nbf\":-5}", false},
        {"{\"sub\":\"x\",\"exp\":1800000600,\"iat\":1800000060}", true},
        {"{\"sub\":\"x\",\"exp\":1800000600,\"iat\":1800000061}", false},
        {"{\"sub\":\"x\",\"exp\":1800000600,\"iat\":1.5}", false},
        {"{\"exp\":1800000600}", false},
        {"{\"sub\":7,\"exp\":1800000600}", false},
        {"{\"sub\":null,\"exp\":1800000600}", false},
        {"{\"sub\":[\"x\"],\"exp\":1800000600}", false},
        {"{\"sub\":\"x\\u0000y\",\"exp\":1800000600}", false},
        {"[]", false},
        {"\"x\"", false},
        {"{\"sub\":\"x\",\"exp\":1800000600", false},
        {"foo", false},
    };
    write_all_keys();
    OPEN("leeway", "60s");
    for (size_t i = 0; i < TN_COUNT_OF(list); i++)
        expect(list[i].good ? TN_OK : TN_EDENIED, token(H, list[i].payload), list[i].payload);
    close_plugin();
    OPEN("requireExpiration", "false");
    GOOD(token(H, "{\"sub\":\"x\"}"));
    close_plugin();

    static const struct {
        const char *aud;
        bool good;
    } auds[] = {{"\"tenon\"", true},
                {"[\"x\",\"tenon\"]", true},
                {"\"teno\"", false},
                {"\"tenon2\"", false},
                {"[]", false},
                {"7", false},
                {"null", false},
                {"{\"tenon\":1}", false},
                {"[[\"tenon\"]]", false},
                {"[\"Tenon\"]", false},
                {"\"other\"", true}};
    OPEN("audience.0", "tenon", "audience.1", "other", "issuer", "https://issuer");
    for (size_t i = 0; i < TN_COUNT_OF(auds); i++) {
        char payload[200];
        snprintf(payload, sizeof payload,
                 "{\"sub\":\"x\",\"exp\":1800000600,\"iss\":\"https://issuer\",\"aud\":%s}",
                 auds[i].aud);
        expect(auds[i].good ? TN_OK : TN_EDENIED, token(H, payload), payload);
    }
    REFUSED(token(H, "{\"sub\":\"x\",\"exp\":1800000600,\"aud\":\"tenon\"}"));
    REFUSED(token(
        H, "{\"sub\":\"x\",\"exp\":1800000600,\"aud\":\"tenon\",\"iss\":\"https://issuer/\"}"));
    REFUSED(token(
        H, "{\"sub\":\"x\",\"exp\":1800000600,\"aud\":\"tenon\",\"iss\":[\"https://issuer\"]}"));
    REFUSED(token(H, "{\"sub\":\"x\",\"exp\":1800000600,\"iss\":\"https://issuer\"}"));
    info.audience = TN_STR("other"); /* the call's own wish comes on top */
    REFUSED(token(
        H, "{\"sub\":\"x\",\"exp\":1800000600,\"iss\":\"https://issuer\",\"aud\":\"tenon\"}"));
    GOOD(token(H,
               "{\"sub\":\"x\",\"exp\":1800000600,\"iss\":\"https://issuer\",\"aud\":\"other\"}"));
    info.audience = (tn_str){0};
    close_plugin();
}

static void headers_are_read_strictly(void **state)
{
    (void)state;
    char *good = token(H, P);
    tn_buf text = {0};
    static const struct {
        const char *before, *after;
        tn_status status;
    } list[] = {{"Bearer ", "", TN_OK},
                {"bearer ", "", TN_OK},
                {"BEARER ", "", TN_OK},
                {"Bearer  ", "", TN_EDENIED},
                {"Bearer", "", TN_EDENIED},
                {"", "", TN_EDENIED},
                {"Basic ", "", TN_EDENIED},
                {"Bearer\t", "", TN_EDENIED},
                {" Bearer ", "", TN_EDENIED},
                {"Bearer ", " ", TN_EDENIED},
                {"Bearer ", ",Bearer x", TN_EDENIED},
                {"Token ", "", TN_EDENIED}};
    write_all_keys();
    OPEN("leeway", "0s");
    for (size_t i = 0; i < TN_COUNT_OF(list); i++) {
        text = (tn_buf){0};
        tn_buf_printf(&text, "%s%s%s", list[i].before, good, list[i].after);
        char *header = text_of(&text);
        assert_int_equal(map_header(header), list[i].status);
        free(header);
    }
    text = (tn_buf){0};
    tn_buf_printf(&text, "Bearer %s.%0*d", good, 65536, 0);
    char *header = text_of(&text);
    assert_int_equal(map_header(header), TN_EDENIED);
    assert_non_null(strstr(op.err.text, "16 KiB"));
    free(header);
    assert_int_equal(map_header(""), TN_OK); /* a certificate only */
    assert_int_equal(claims.n_grants + claims.system_roles, 0);
    assert_true(claims.present);
    text = (tn_buf){0};
    for (int i = 0; i < 3000; i++)
        tn_buf_printf(&text, "[");
    char *deep = text_of(&text);
    REFUSED(token(deep, P));
    REFUSED(token(H, deep));
    free(deep);
    free(good);
    close_plugin();
}

static void permissions_become_roles(void **state)
{
    (void)state;
    write_all_keys();
    OPEN("leeway", "0s");
    GOOD(token(H, "{\"sub\":\"me\",\"exp\":1800000600,\"permissions\":[\"a:read\",\"a:WRITE\",\"b:"
                  "Worker\",\"c:admin\","
                  "\"d:nothing\",\"e\",7,null,[\"f:read\"],\"g:read:write\",\":read\",\"temporal-"
                  "system:write\","
                  "\"Temporal-System:admin\",\"temporal-system:read\"]}"));
    assert_true(tn_str_is(claims.subject, "me"));
    assert_true(tn_str_is(claims.auth_type, "jwt"));
    assert_int_equal(roles_in("a"), TN_ROLE_READER | TN_ROLE_WRITER);
    assert_int_equal(roles_in("b"), TN_ROLE_WORKER);
    assert_int_equal(roles_in("c"), TN_ROLE_ADMIN);
    assert_int_equal(roles_in("d"), 0);
    assert_int_equal(roles_in("e"), 0);
    assert_int_equal(roles_in("f"), 0);
    assert_int_equal(roles_in("g"), 0);
    assert_int_equal(roles_in(""), TN_ROLE_READER);
    assert_int_equal(roles_in("temporal-system"), 0);
    assert_int_equal(roles_in("Temporal-System"), TN_ROLE_ADMIN); /* a namespace like any other */
    assert_int_equal(claims.system_roles, TN_ROLE_READER | TN_ROLE_WRITER);
    static const char *const none[] = {"\"a:admin\"", "{\"a\":\"admin\"}", "null", "7", "[]"};
    for (size_t i = 0; i < TN_COUNT_OF(none); i++) {
        char payload[200];
        snprintf(payload, sizeof payload, "{\"sub\":\"me\",\"exp\":1800000600,\"permissions\":%s}",
                 none[i]);
        GOOD(token(H, payload));
        assert_int_equal(claims.n_grants + claims.system_roles, 0);
    }
    close_plugin();
    OPEN("permissionsClaimName", "roles", "permissionsRegex",
         "^(?P<role>\\w+)@(?P<namespace>[a-z-]+)$");
    GOOD(token(H, "{\"sub\":\"me\",\"exp\":1800000600,\"permissions\":[\"a:admin\"],\"roles\":["
                  "\"read@a\",\"write@a\","
                  "\"b:admin\",\"admin@temporal-system\",\"admin@B\"]}"));
    assert_int_equal(roles_in("a"), TN_ROLE_READER | TN_ROLE_WRITER);
    assert_int_equal(claims.n_grants, 1);
    assert_int_equal(claims.system_roles, TN_ROLE_ADMIN);
    close_plugin();
    /* a pattern that could run for years */
    OPEN("permissionsRegex", "^(?<namespace>(a+)+):(?<role>read)$");
    uint64_t began = tn_now_mono_ns();
    GOOD(token(H, "{\"sub\":\"me\",\"exp\":1800000600,\"permissions\":["
                  "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\","
                  "\"aa:read\"]}"));
    assert_true(tn_now_mono_ns() - began < TN_SEC);
    assert_int_equal(roles_in("aa"), TN_ROLE_READER);
    close_plugin();
}

static void settings_are_checked(void **state)
{
    (void)state;
    static const char *const bad[][3] = {
        {"permissionsRegex", "(", "no regular expression"},
        {"permissionsRegex", "(?P<namespace>.)", "lacks a group"},
        {"algorithms.0", "none", "not known"},
        {"keySourceURIs.0", "ftp://x/y", "no http:"},
        {"keySourceURIs.0", "file://host/x", "no http:"},
        {"keySourceURIs.0", "file:///nowhere/keys", "No such file"},
        {"leeway", "2h", "longer than an hour"},
        {"refreshInterval", "1ms", "shorter than a second"},
        {"keyMaxAge", "10s", "shorter than refreshInterval"},
        {"permissionsClaimName", "", "is empty"}};
    write_all_keys();
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++) {
        assert_int_equal(try_open(bad[i][0], bad[i][1], NULL), TN_EINVALID);
        if (!strstr(logged, bad[i][2]))
            fail_msg("%s: %s", bad[i][0], logged);
    }
    static const char *const documents[] = {"",
                                            "[]",
                                            "{}",
                                            "{\"keys\":7}",
                                            "{\"keys\":[]}",
                                            "{\"keys\":[{}]}",
                                            "{\"keys\":[],\"keys\":[]}"};
    for (size_t i = 0; i < TN_COUNT_OF(documents); i++) {
        FILE *file = fopen(keys_path, "w");
        fputs(documents[i], file);
        fclose(file);
        assert_int_equal(try_open("leeway", "0s", NULL), TN_EINVALID);
    }
}

static void write_one_key(const char *kid, EVP_PKEY *key)
{
    tn_buf list = {0};
    tn_buf_printf(&list, "[");
    put_rsa(&list, kid, key, "");
    write_keys(&list);
}

static void one_key_needs_no_name(void **state)
{
    (void)state;
    write_one_key("only", rsa);
    OPEN("leeway", "0s");
    GOOD(token("{\"alg\":\"RS256\"}", P));
    REFUSED(token_raw("{\"alg\":\"RS256\"}", P, "RS256", other_rsa, NULL, 0));
    close_plugin();
}

static void keys_rotate(void **state)
{
    (void)state;
    char *mine = token("{\"alg\":\"RS256\",\"kid\":\"one\"}", P);
    char *next = token_raw("{\"alg\":\"RS256\",\"kid\":\"two\"}", P, "RS256", other_rsa, NULL, 0);
    write_one_key("one", rsa);
    fetches = 0;
    OPEN("refreshInterval", "1h", "keyMaxAge", "2h");
    assert_int_equal(fetches, 1);
    assert_int_equal(map_token(mine), TN_OK);
    hits = 0;
    assert_int_equal(map_token(mine), TN_OK);
    assert_int_equal(hits, 1);
    write_one_key("two", other_rsa);
    assert_int_equal(map_token(next), TN_OK); /* an unknown key asks for the document again */
    assert_int_equal(fetches, 2);
    assert_int_equal(map_token(mine), TN_EDENIED); /* out of the document: out of the cache too */
    /* a storm of unknown keys: one fetch in ten seconds */
    for (int i = 0; i < 50; i++) {
        char header[80];
        snprintf(header, sizeof header, "{\"alg\":\"RS256\",\"kid\":\"storm%d\"}", i);
        REFUSED(token(header, P));
    }
    assert_int_equal(fetches, 2);
    write_one_key("two", rsa); /* the same name, another key */
    mono_add_ns += 11 * JW_SEC;
    REFUSED(token("{\"alg\":\"RS256\",\"kid\":\"three\"}", P));
    assert_int_equal(fetches, 3);
    assert_int_equal(map_token(next), TN_EDENIED);
    GOOD(token("{\"alg\":\"RS256\",\"kid\":\"two\"}", P));
    unlink(keys_path); /* the source is gone: the old keys go on, until they are too old */
    mono_add_ns += 11 * JW_SEC;
    REFUSED(token("{\"alg\":\"RS256\",\"kid\":\"four\"}", P));
    GOOD(token("{\"alg\":\"RS256\",\"kid\":\"two\"}", P));
    assert_non_null(strstr(logged, "cannot read the keys"));
    mono_add_ns += 7200 * JW_SEC;
    REFUSED(token("{\"alg\":\"RS256\",\"kid\":\"two\"}", P));
    assert_non_null(strstr(op.err.text, "too old"));
    close_plugin();
    free(mine);
    free(next);
}

static void the_cache_forgets_what_expired(void **state)
{
    (void)state;
    char *mine = token(H, "{\"sub\":\"me\",\"exp\":1800000010}");
    write_all_keys();
    OPEN("leeway", "0s", "cacheTokens", "1");
    hits = 0;
    assert_int_equal(map_token(mine), TN_OK);
    assert_int_equal(map_token(mine), TN_OK);
    assert_int_equal(hits, 1);
    GOOD(token(H, P)); /* takes the only slot */
    assert_int_equal(map_token(mine), TN_OK);
    assert_int_equal(map_token(mine), TN_OK);
    assert_int_equal(hits, 2);
    wall_s = 1800000010;
    assert_int_equal(map_token(mine), TN_EDENIED);
    wall_s = 1800000000;
    free(mine);
    close_plugin();
}

static void nothing_of_a_token_is_told(void **state)
{
    (void)state;
    static const char *const payloads[] = {"{\"sub\":\"CANARY\",\"exp\":1}",
                                           "{\"sub\":\"CANARY\",\"exp\":\"CANARY\"}",
                                           "{\"sub\":[\"CANARY\"],\"exp\":1800000600}", "CANARY"};
    write_all_keys();
    OPEN("audience", "x");
    for (size_t i = 0; i < TN_COUNT_OF(payloads); i++) {
        REFUSED(token(H, payloads[i]));
        assert_null(strstr(op.err.text, "CANARY"));
        REFUSED(token("{\"alg\":\"CANARY\",\"kid\":\"CANARY\"}", payloads[i]));
        assert_null(strstr(op.err.text, "CANARY"));
    }
    assert_null(strstr(logged, "CANARY"));
    close_plugin();
}

static void random_damage(void **state)
{
    (void)state;
    const char *more = getenv("TN_JWT_ROUNDS");
    int rounds = more ? atoi(more) : 3000;
    tn_rng rng;
    char *good = token(H, P);
    size_t n = strlen(good);
    tn_rng_seed(&rng, 42);
    write_all_keys();
    OPEN("cacheTokens", "0");
    for (int i = 0; i < rounds; i++) {
        char *text = tn_xstrdup(good);
        for (uint64_t k = 1 + tn_rng_below(&rng, 3); k-- > 0;)
            text[tn_rng_below(&rng, n)] = "ABCxyz012-_.=+ {}\"\\\x7f"[tn_rng_below(&rng, 20)];
        bool same = strcmp(text, good) == 0;
        expect(same ? TN_OK : TN_EDENIED, text, "damaged");
    }
    free(good);
    close_plugin();
}

static void what_it_costs(void **state)
{
    (void)state;
    char *good = token(H, P);
    write_all_keys();
    OPEN("leeway", "0s");
    tn_buf header = {0};
    tn_buf_printf(&header, "Bearer %s", good);
    char *text = text_of(&header);
    assert_int_equal(map_header(text), TN_OK);
    struct timespec a, b;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(map_header(text), TN_OK);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    double us =
        ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / 20000 / 1000;
    print_message("a known token of %zu bytes: %.2f us\n", strlen(text), us);
    free(text);
    free(good);
    close_plugin();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_algorithm_verifies_its_own),
        cmocka_unit_test(the_attack_list),
        cmocka_unit_test(claims_are_checked),
        cmocka_unit_test(headers_are_read_strictly),
        cmocka_unit_test(permissions_become_roles),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(one_key_needs_no_name),
        cmocka_unit_test(keys_rotate),
        cmocka_unit_test(the_cache_forgets_what_expired),
        cmocka_unit_test(nothing_of_a_token_is_told),
        cmocka_unit_test(random_damage),
        cmocka_unit_test(what_it_costs),
    };
    return cmocka_run_group_tests_name("claimmapper/jwt", tests, make_keys, drop_keys);
}
