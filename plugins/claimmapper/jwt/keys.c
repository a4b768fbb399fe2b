/* SPDX-License-Identifier: MIT */
/* Keys of a JWKS document: taken when they are fit to verify with, left out with a word when not.  A key's type,
 * curve, `alg`, `use` and `key_ops` say what it may verify; the token only chooses among that. */
#include "private.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 1000u
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192 /* a larger one would hold a loop too long */

const jw_alg jw_algs[JW_ALGS] = {
    {"RS256", JW_RSA, "SHA256", NULL, 0},     {"RS384", JW_RSA, "SHA384", NULL, 0},
    {"RS512", JW_RSA, "SHA512", NULL, 0},     {"PS256", JW_RSA_PSS, "SHA256", NULL, 0},
    {"PS384", JW_RSA_PSS, "SHA384", NULL, 0}, {"PS512", JW_RSA_PSS, "SHA512", NULL, 0},
    {"ES256", JW_EC, "SHA256", "P-256", 32},  {"ES384", JW_EC, "SHA384", "P-384", 48},
    {"ES512", JW_EC, "SHA512", "P-521", 66},  {"EdDSA", JW_ED, NULL, NULL, 64},
    {"HS256", JW_HMAC, "SHA256", NULL, 32},   {"HS384", JW_HMAC, "SHA384", NULL, 48},
    {"HS512", JW_HMAC, "SHA512", NULL, 64},
};

int jw_alg_find(const char *name, size_t n)
{
    for (unsigned i = 0; i < JW_ALGS; i++)
        if (strlen(jw_algs[i].name) == n && memcmp(jw_algs[i].name, name, n) == 0)
            return (int)i;
    return -1;
}

tn_status jw_error(tn_error *err, tn_status code, const char *fmt, ...)
{
    if (err) {
        err->code = code;
        err->vendor_code = 0;
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
    }
    return code;
}

long jw_base64(const char *text, size_t n, uint8_t *out, size_t room)
{
    uint32_t bits = 0, have = 0;
    size_t put = 0;
    if (n % 4 == 1)
        return -1;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        uint32_t v;
        if (c >= 'A' && c <= 'Z')
            v = (uint32_t)(c - 'A');
        else if (c >= 'a' && c <= 'z')
            v = (uint32_t)(c - 'a' + 26);
        else if (c >= '0' && c <= '9')
            v = (uint32_t)(c - '0' + 52);
        else if (c == '-' || c == '_')
            v = c == '-' ? 62 : 63;
        else
            return -1;
        bits = bits << 6 | v;
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        if (put == room)
            return -1;
        out[put++] = (uint8_t)(bits >> have);
    }
    return bits & ((1u << have) - 1) ? -1 : (long)put;
}

/* ---- a set -------------------------------------------------------------------------------------- */

jw_keys *jw_keys_create(void)
{
    jw_keys *keys = calloc(1, sizeof *keys);
    if (keys)
        atomic_init(&keys->refs, 1);
    return keys;
}

static void key_done(jw_key *key)
{
    free(key->kid);
    EVP_PKEY_free(key->pkey);
    if (key->secret)
        OPENSSL_cleanse(key->secret, key->secret_n);
    free(key->secret);
}

void jw_keys_unref(jw_keys *keys)
{
    if (!keys || atomic_fetch_sub(&keys->refs, 1) != 1)
        return;
    for (size_t i = 0; i < keys->n; i++)
        key_done(&keys->list[i]);
    free(keys->list);
    free(keys);
}

static bool keys_push(jw_keys *keys, const jw_key *key)
{
    if (keys->n == keys->cap) {
        size_t cap = keys->cap ? keys->cap * 2 : 8;
        jw_key *grown = realloc(keys->list, cap * sizeof *grown);
        if (!grown)
            return false;
        keys->list = grown;
        keys->cap = cap;
    }
    keys->list[keys->n++] = *key;
    return true;
}

/* ---- one key ------------------------------------------------------------------------------------ */

static const char *text_at(const json_t *jwk, const char *name)
{
    return json_string_value(json_object_get(jwk, name));
}

static long bytes_at(const json_t *jwk, const char *name, uint8_t *out, size_t room)
{
    const json_t *v = json_object_get(jwk, name);
    return json_is_string(v) ? jw_base64(json_string_value(v), json_string_length(v), out, room)
                             : -1;
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = params ? EVP_PKEY_CTX_new_from_name(NULL, type, NULL) : NULL;
    if (ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return pkey;
}

static const char *rsa_key(const json_t *jwk, jw_key *key)
{
    uint8_t n[RSA_BITS_MAX / 8 + 1], e[8];
    long n_n = bytes_at(jwk, "n", n, sizeof n), e_n = bytes_at(jwk, "e", e, sizeof e);
    if (n_n <= 0 || e_n <= 0)
        return "n or e is missing, no base64url, or too large";
    BIGNUM *bn = BN_bin2bn(n, (int)n_n, NULL), *be = BN_bin2bn(e, (int)e_n, NULL);
    const char *why = NULL;
    if (!bn || !be)
        why = "out of memory";
    else if (BN_num_bits(bn) < RSA_BITS_MIN)
        why = "an RSA key of less than 2048 bits";
    else if (BN_num_bits(bn) > RSA_BITS_MAX)
        why = "an RSA key of more than 8192 bits";
    else if (!BN_is_odd(bn) || !BN_is_odd(be) || BN_is_one(be))
        why = "an RSA key with a bad modulus or exponent";
    if (!why) {
        OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
        OSSL_PARAM *params = NULL;
        if (bld && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, bn) == 1 &&
            OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, be) == 1)
            params = OSSL_PARAM_BLD_to_param(bld);
        key->pkey = from_params("RSA", params);
        OSSL_PARAM_free(params);
        OSSL_PARAM_BLD_free(bld);
        why = key->pkey ? NULL : "no RSA key";
    }
    BN_free(bn);
    BN_free(be);
    key->algs = 0x3f;
    return why;
}

static bool on_curve(EVP_PKEY *pkey)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    bool good = ctx && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

static const char *ec_key(const json_t *jwk, jw_key *key)
{
    const char *curve = text_at(jwk, "crv");
    int alg = -1;
    for (unsigned i = 0; curve && i < JW_ALGS; i++)
        if (jw_algs[i].curve && strcmp(jw_algs[i].curve, curve) == 0)
            alg = (int)i;
    if (alg < 0)
        return "a curve that is not supported";
    size_t size = jw_algs[alg].size;
    uint8_t point[1 + 2 * 66] = {4};
    if (bytes_at(jwk, "x", point + 1, size) != (long)size ||
        bytes_at(jwk, "y", point + 1 + size, size) != (long)size)
        return "x or y is missing or not of the curve's size";
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    if (bld && OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, curve, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size) == 1)
        params = OSSL_PARAM_BLD_to_param(bld);
    key->pkey = from_params("EC", params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    if (!key->pkey || !on_curve(key->pkey))
        return "a point that is not on the curve";
    key->algs = 1u << alg;
    return NULL;
}

static const char *ed_key(const json_t *jwk, jw_key *key)
{
    uint8_t x[32];
    const char *curve = text_at(jwk, "crv");
    if (!curve || strcmp(curve, "Ed25519") != 0)
        return "a curve that is not supported";
    if (bytes_at(jwk, "x", x, sizeof x) != (long)sizeof x)
        return "x is missing or not of the curve's size";
    key->pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, sizeof x);
    key->algs = 1u << jw_alg_find("EdDSA", 5);
    return key->pkey ? NULL : "no Ed25519 key";
}

static const char *secret_key(const json_t *jwk, jw_key *key)
{
    uint8_t bytes[1024];
    long n = bytes_at(jwk, "k", bytes, sizeof bytes);
    for (unsigned i = 0; i < JW_ALGS; i++) /* a secret shorter than the hash is one to be guessed */
        if (jw_algs[i].family == JW_HMAC && n >= (long)jw_algs[i].size)
            key->algs |= 1u << i;
    if (!key->algs)
        return "a secret that is missing or too short";
    key->secret = malloc((size_t)n);
    key->secret_n = (size_t)n;
    if (key->secret)
        memcpy(key->secret, bytes, (size_t)n);
    OPENSSL_cleanse(bytes, sizeof bytes);
    const json_t *text =
        json_object_get(jwk, "k"); /* the document goes soon; this shall not lie about */
    OPENSSL_cleanse((char *)(uintptr_t)json_string_value(text), json_string_length(text));
    return key->secret ? NULL : "out of memory";
}

static bool may_verify(const json_t *jwk)
{
    const json_t *use = json_object_get(jwk, "use"), *ops = json_object_get(jwk, "key_ops");
    if (use && (!json_is_string(use) || strcmp(json_string_value(use), "sig") != 0))
        return false;
    bool found = !ops;
    for (size_t i = 0; ops && i < json_array_size(ops); i++) {
        const char *op = json_string_value(json_array_get(ops, i));
        found = found || (op && strcmp(op, "verify") == 0);
    }
    return found;
}

/* NULL: the key is fit. */
static const char *read_key(const json_t *jwk, uint32_t algs, jw_key *key)
{
    const char *type = text_at(jwk, "kty");
    const json_t *alg = json_object_get(jwk, "alg"), *kid = json_object_get(jwk, "kid");
    const char *why;
    if (!type)
        return "no kty";
    if (!may_verify(jwk))
        return "not for verifying (use, key_ops)";
    if (kid && !json_is_string(kid))
        return "a kid that is no string";
    if (strcmp(type, "RSA") == 0)
        why = rsa_key(jwk, key);
    else if (strcmp(type, "EC") == 0)
        why = ec_key(jwk, key);
    else if (strcmp(type, "OKP") == 0)
        why = ed_key(jwk, key);
    else if (strcmp(type, "oct") == 0)
        why = secret_key(jwk, key);
    else
        why = "a kty that is not supported";
    if (why)
        return why;
    if (alg) {
        int one =
            json_is_string(alg) ? jw_alg_find(json_string_value(alg), json_string_length(alg)) : -1;
        key->algs &= one < 0 ? 0 : 1u << one;
    }
    key->algs &= algs;
    if (!key->algs)
        return "its algorithm is not allowed, or not one of its type";
    if (kid) {
        key->kid_n = json_string_length(kid);
        key->kid = malloc(key->kid_n + 1);
        if (!key->kid)
            return "out of memory";
        memcpy(key->kid, json_string_value(kid), key->kid_n + 1);
    }
    return NULL;
}

/* Two sets from the same documents have the same digest. */
static bool digest_add(jw_keys *keys, const char *text, size_t n)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestInit_ex2(ctx, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, keys->digest, sizeof keys->digest) == 1 &&
                EVP_DigestUpdate(ctx, text, n) == 1 &&
                EVP_DigestFinal_ex(ctx, keys->digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return good;
}

bool jw_keys_add(jw_keys *keys, const char *text, size_t n, uint32_t algs,
                 void (*say)(void *user, const char *text), void *user, tn_error *err)
{
    json_error_t where;
    json_t *document = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    const json_t *list = json_object_get(document, "keys");
    bool good = json_is_array(list) && json_array_size(list) <= KEYS_MAX;
    if (!good)
        jw_error(err, TN_EINVALID,
                 document ? "not a JWKS document: no array \"keys\" of at most 1000"
                          /* not what stands there: a secret may */
                          : "not a JWKS document: no JSON at line %d, column %d",
                 where.line, where.column);
    for (size_t i = 0; good && i < json_array_size(list); i++) {
        jw_key key = {0};
        const char *why = read_key(json_array_get(list, i), algs, &key);
        if (!why && !keys_push(keys, &key))
            why = "out of memory";
        if (!why)
            continue;
        char told[200];
        snprintf(told, sizeof told, "key %zu is left out: %s", i, why);
        say(user, told);
        key_done(&key);
    }
    json_decref(document);
    return good && digest_add(keys, text, n);
}

/* ---- signatures --------------------------------------------------------------------------------- */

static bool verify_hmac(const jw_key *key, const jw_alg *alg, const char *text, size_t n,
                        const uint8_t *sig, size_t sig_n)
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned mac_n = 0;
    return sig_n == alg->size && key->secret_n >= alg->size &&
           HMAC(EVP_get_digestbyname(alg->md), key->secret, (int)key->secret_n,
                (const unsigned char *)text, n, mac, &mac_n) &&
           mac_n == sig_n && CRYPTO_memcmp(mac, sig, sig_n) == 0;
}

/* r and s side by side, as a JWS has them, to what OpenSSL takes. */
static int ec_signature(const jw_alg *alg, const uint8_t *sig, size_t sig_n, uint8_t **out)
{
    *out = NULL;
    if (sig_n != 2 * alg->size)
        return -1;
    BIGNUM *r = BN_bin2bn(sig, (int)alg->size, NULL);
    BIGNUM *s = BN_bin2bn(sig + alg->size, (int)alg->size, NULL);
    ECDSA_SIG *pair = ECDSA_SIG_new();
    int n = -1;
    if (r && s && pair && !BN_is_zero(r) && !BN_is_zero(s) && ECDSA_SIG_set0(pair, r, s) == 1) {
        r = s = NULL;
        n = i2d_ECDSA_SIG(pair, out);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(pair);
    return n;
}

bool jw_verify(const jw_key *key, int index, const char *text, size_t n, const uint8_t *sig,
               size_t sig_n)
{
    const jw_alg *alg = &jw_algs[index];
    if (!(key->algs & 1u << index))
        return false;
    if (alg->family == JW_HMAC)
        return verify_hmac(key, alg, text, n, sig, sig_n);
    uint8_t *der = NULL;
    if (alg->family == JW_EC) {
        int der_n = ec_signature(alg, sig, sig_n, &der);
        if (der_n <= 0)
            return false;
        sig = der;
        sig_n = (size_t)der_n;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *how = NULL;
    bool good =
        ctx && EVP_DigestVerifyInit_ex(ctx, &how, alg->md, NULL, NULL, key->pkey, NULL) == 1;
    if (good && alg->family == JW_RSA_PSS)
        good = EVP_PKEY_CTX_set_rsa_padding(how, RSA_PKCS1_PSS_PADDING) == 1 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(how, RSA_PSS_SALTLEN_DIGEST) == 1;
    good = good && EVP_DigestVerify(ctx, sig, sig_n, (const unsigned char *)text, n) == 1;
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    ERR_clear_error();
    return good;
}
