/* SPDX-License-Identifier: MIT */
/* One token, from its text to its claims.  The order matters: form, header, key, signature, and only then what
 * it claims.  Nothing of a token gets into a message. */
#include "private.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEADER_JSON_MAX 4096u
#define KID_MAX 512u
#define SIGNATURE_MAX 1024u

typedef struct parts {
    tn_str header, payload, signature, signed_text;
} parts;

static bool cut(tn_str token, parts *out)
{
    const char *end = token.p + token.n;
    const char *first = memchr(token.p, '.', token.n);
    const char *second = first ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;
    if (!second || memchr(second + 1, '.', (size_t)(end - second - 1)))
        return false; /* five parts would be a JWE */
    out->header = (tn_str){token.p, (size_t)(first - token.p)};
    out->payload = (tn_str){first + 1, (size_t)(second - first - 1)};
    out->signature = (tn_str){second + 1, (size_t)(end - second - 1)};
    out->signed_text = (tn_str){token.p, (size_t)(second - token.p)};
    return out->header.n && out->payload.n && out->signature.n;
}

/* An object without a member that comes twice; NULL when it is none. */
static json_t *decode(tn_str part, size_t most)
{
    if (part.n > most / 3 * 4 + 4)
        return NULL;
    uint8_t *bytes = malloc(part.n ? part.n : 1);
    long n = bytes ? jw_base64(part.p, part.n, bytes, part.n) : -1;
    json_t *object =
        n > 0 ? json_loadb((char *)bytes, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;
    free(bytes);
    if (object && !json_is_object(object)) {
        json_decref(object);
        object = NULL;
    }
    return object;
}

static jw_result bad(tn_error *err, const char *why)
{
    jw_error(err, TN_EDENIED, "token refused: %s", why);
    return JW_BAD;
}

/* ---- header ------------------------------------------------------------------------------------- */

/* NULL, or why not. */
static const char *check_header(const jw_options *options, const json_t *header, int *out_alg,
                                const json_t **out_kid)
{
    static const char *const unwanted[] = {"crit", "b64", "enc", "zip", "cty"};
    const json_t *alg = json_object_get(header, "alg"), *kid = json_object_get(header, "kid");
    const json_t *typ = json_object_get(header, "typ");
    if (!json_is_string(alg))
        return "no alg";
    *out_alg = jw_alg_find(json_string_value(alg), json_string_length(alg));
    if (*out_alg < 0 || !(options->algs & 1u << *out_alg))
        return "an algorithm that is not allowed";
    for (size_t i = 0; i < sizeof unwanted / sizeof unwanted[0]; i++)
        if (json_object_get(header, unwanted[i]))
            return "its header asks for what is not supported (crit, b64, enc, zip, cty)";
    if (typ && (!json_is_string(typ) || (strcasecmp(json_string_value(typ), "JWT") != 0 &&
                                         strcasecmp(json_string_value(typ), "at+jwt") != 0)))
        return "it is not of type JWT";
    if (kid && (!json_is_string(kid) || json_string_length(kid) > KID_MAX))
        return "a kid that is no string or too long";
    *out_kid = kid;
    return NULL; /* jku, x5u, jwk, x5c: never looked at */
}

/* ---- signature ---------------------------------------------------------------------------------- */

static bool named(const jw_key *key, const json_t *kid)
{
    return key->kid && key->kid_n == json_string_length(kid) &&
           memcmp(key->kid, json_string_value(kid), key->kid_n) == 0;
}

static jw_result check_signature(const jw_keys *keys, const parts *p, int alg, const json_t *kid,
                                 tn_error *err)
{
    uint8_t sig[SIGNATURE_MAX + 2];
    long sig_n = jw_base64(p->signature.p, p->signature.n, sig, sizeof sig);
    size_t of_name = 0, fit = 0;
    const jw_key *only = NULL;
    if (sig_n <= 0)
        return bad(err, "its signature is not base64url, or too long");
    for (size_t i = 0; i < keys->n; i++) {
        const jw_key *key = &keys->list[i];
        if (kid && !named(key, kid))
            continue;
        of_name++;
        if (!(key->algs & 1u << alg))
            continue;
        only = key;
        /* Two keys of one name are tried both: one of them is on its way out. */
        if (++fit <= 4 && kid &&
            jw_verify(key, alg, p->signed_text.p, p->signed_text.n, sig, (size_t)sig_n))
            return JW_GOOD;
    }
    if (of_name == 0) {
        jw_error(err, TN_EDENIED, "token refused: no key of that name");
        return JW_NO_KEY;
    }
    if (fit == 0)
        return bad(err, "the key is not for that algorithm");
    if (!kid && keys->n > 1)
        return bad(err, "no kid, and more than one key");
    if (!kid && jw_verify(only, alg, p->signed_text.p, p->signed_text.n, sig, (size_t)sig_n))
        return JW_GOOD;
    return bad(err, "its signature is wrong");
}

/* ---- claims ------------------------------------------------------------------------------------- */

/* A time: whole seconds from 1970 on.  0: it is not there. */
static int time_at(const json_t *claims, const char *name, uint64_t *out)
{
    const json_t *v = json_object_get(claims, name);
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0 ||
        json_integer_value(v) > INT64_C(1) << 48)
        return -1;
    *out = (uint64_t)json_integer_value(v);
    return 1;
}

static const char *check_times(const jw_options *o, const json_t *claims, uint64_t now,
                               uint64_t *out_until)
{
    uint64_t exp = 0, nbf = 0, iat = 0;
    int has_exp = time_at(claims, "exp", &exp);
    if (has_exp < 0 || time_at(claims, "nbf", &nbf) < 0 || time_at(claims, "iat", &iat) < 0)
        return "exp, nbf or iat is not a number of seconds";
    if (!has_exp && o->require_exp)
        return "it never expires (no exp; requireExpiration)";
    *out_until = has_exp ? exp + o->leeway_s : UINT64_MAX;
    if (now >= *out_until)
        return "it has expired";
    if (nbf > now + o->leeway_s)
        return "it is not valid yet (nbf)";
    if (iat > now + o->leeway_s)
        return "it was issued in the future (iat)";
    return NULL;
}

static bool is_str(const json_t *v, tn_str s)
{
    return json_is_string(v) && json_string_length(v) == s.n &&
           memcmp(json_string_value(v), s.p, s.n) == 0;
}

/* A string, or an array that has it. */
static bool has_one_of(const json_t *v, const tn_str *wanted, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (is_str(v, wanted[i]))
            return true;
        for (size_t k = 0; k < json_array_size(v); k++)
            if (is_str(json_array_get(v, k), wanted[i]))
                return true;
    }
    return false;
}

static const char *check_claims(const jw_options *o, const json_t *claims, tn_str audience,
                                uint64_t now, uint64_t *out_until)
{
    const char *why = check_times(o, claims, now, out_until);
    const json_t *aud = json_object_get(claims, "aud"), *iss = json_object_get(claims, "iss");
    if (why)
        return why;
    if (o->n_issuers && (!json_is_string(iss) || !has_one_of(iss, o->issuers, o->n_issuers)))
        return "another issuer";
    if (o->n_audiences && !has_one_of(aud, o->audiences, o->n_audiences))
        return "it is for another audience";
    if (audience.n && !has_one_of(aud, &audience, 1))
        return "it is for another audience";
    if (!json_is_string(json_object_get(claims, "sub")))
        return "sub is not a string";
    return NULL;
}

jw_result jw_token_check(const jw_options *options, const jw_keys *keys, tn_str token,
                         tn_str audience, uint64_t now_s, jw_claims **out, tn_error *err)
{
    parts p;
    int alg;
    const json_t *kid = NULL;
    if (!cut(token, &p))
        return bad(err, "it has not the three parts of a signed token");
    json_t *header = decode(p.header, HEADER_JSON_MAX), *claims = NULL;
    const char *why = header ? check_header(options, header, &alg, &kid)
                             : "its header is not base64url of a JSON object";
    jw_result result = why ? bad(err, why) : check_signature(keys, &p, alg, kid, err);
    if (result == JW_GOOD) {
        uint64_t until = 0;
        claims = decode(p.payload, JW_HEADER_MAX);
        why = claims ? check_claims(options, claims, audience, now_s, &until)
                     : "its payload is not base64url of a JSON object";
        if (why) {
            result = bad(err, why);
        } else {
            const json_t *sub = json_object_get(claims, "sub");
            char name[256];
            size_t n = options->claim.n < sizeof name ? options->claim.n : sizeof name - 1;
            memcpy(name, options->claim.p, n);
            name[n] = '\0';
            *out =
                jw_claims_make(options, (tn_str){json_string_value(sub), json_string_length(sub)},
                               json_object_get(claims, name));
            if (*out)
                (*out)->until_s = until;
            else
                result = bad(err, "out of memory");
        }
    }
    json_decref(header);
    json_decref(claims);
    return result;
}
