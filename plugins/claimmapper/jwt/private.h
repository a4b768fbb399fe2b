/* SPDX-License-Identifier: MIT */
/* What the files of claimmapper/jwt share.
 *
 *   jwt.c      configuration, life, the plugin's table; a call's way: cache, check, wait for keys
 *   token.c    one token: its three parts, its header, signature, claims
 *   keys.c     a set of keys from JWKS documents; what each may verify
 *   fetch.c    the thread that brings the documents
 *   grants.c   permissions to roles
 *
 * No part of the decision is left to a JWT library: the header is data to be checked, the key's own type and list
 * say which algorithms it verifies, and only OpenSSL looks at signatures. */
#ifndef TN_JWT_PRIVATE_H
#define TN_JWT_PRIVATE_H

#include <jansson.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <tenon/plugin.h>

#define JW_SEC UINT64_C(1000000000)
#define JW_HEADER_MAX 16384u /* of an authorization header */
#define JW_DOCUMENT_MAX ((size_t)1 << 20)
#define JW_LIST_MAX 32u
#define JW_WAITERS_MAX 1024u
#define JW_ASK_NS (10 * JW_SEC) /* between fetches that unknown keys ask for */

/* ---- algorithms (keys.c) ------------------------------------------------------------------------ */

typedef enum jw_family { JW_RSA, JW_RSA_PSS, JW_EC, JW_ED, JW_HMAC } jw_family;
typedef struct jw_alg {
    const char *name;
    jw_family family;
    const char *md;    /* NULL: EdDSA has its own */
    const char *curve; /* EC, as a JWK names it */
    size_t size;       /* EC: of r and of s; HMAC: of the result */
} jw_alg;
#define JW_ALGS 13u
extern const jw_alg jw_algs[JW_ALGS];
#define JW_ALGS_DEFAULT 0x3ffu               /* all but HS*: those only when configured */
int jw_alg_find(const char *name, size_t n); /* its index, -1: none of ours */

/* ---- keys --------------------------------------------------------------------------------------- */

typedef struct jw_key {
    char *kid; /* NULL: it has none */
    size_t kid_n;
    EVP_PKEY *pkey;
    uint8_t *secret; /* HMAC */
    size_t secret_n;
    uint32_t algs; /* those it may verify, bits of jw_algs */
} jw_key;
/* A set is never changed once it is in use. */
typedef struct jw_keys {
    _Atomic uint32_t refs;
    uint64_t generation;
    uint8_t digest[32]; /* of the documents */
    jw_key *list;
    size_t n, cap;
} jw_keys;
jw_keys *jw_keys_create(void);
void jw_keys_unref(jw_keys *keys);
/* Adds those of a document that are fit; `say` is told about each that is not.  False: no JWKS document. */
bool jw_keys_add(jw_keys *keys, const char *text, size_t n, uint32_t algs,
                 void (*say)(void *user, const char *text), void *user, tn_error *err);
bool jw_verify(const jw_key *key, int alg, const char *text, size_t n, const uint8_t *sig,
               size_t sig_n);

/* ---- options ------------------------------------------------------------------------------------ */

typedef struct jw_options {
    tn_str sources[JW_LIST_MAX], audiences[JW_LIST_MAX], issuers[JW_LIST_MAX];
    size_t n_sources, n_audiences, n_issuers;
    uint64_t refresh_ns, max_age_ns, timeout_ns;
    uint64_t leeway_s;
    bool require_exp;
    uint32_t algs;
    tn_str claim, ca_file;
    pcre2_code *regex;
    uint32_t ns_group, role_group;
    int64_t cache_size;
} jw_options;

/* ---- claims ------------------------------------------------------------------------------------- */

/* What a good token says; in one piece of memory. */
typedef struct jw_claims {
    uint64_t until_s; /* not good from this second on, leeway included */
    uint32_t system_roles;
    tn_str subject;
    tn_role_grant *grants;
    size_t n_grants;
} jw_claims;

typedef enum jw_result {
    JW_GOOD,
    JW_BAD,    /* err says why */
    JW_NO_KEY, /* no key of that name: perhaps a newer document has it */
} jw_result;
/* JW_GOOD: *out is the caller's (free).  audience: of the call, empty when it has none. */
jw_result jw_token_check(const jw_options *options, const jw_keys *keys, tn_str token,
                         tn_str audience, uint64_t now_s, jw_claims **out, tn_error *err);
/* From the permissions claim (NULL or no array: no grants). */
jw_claims *jw_claims_make(const jw_options *options, tn_str subject, const json_t *permissions);

/* Strict base64url: no padding, no other letters, no bits left over.  Returns the length, or -1. */
long jw_base64(const char *text, size_t n, uint8_t *out, size_t room);
tn_status jw_error(tn_error *err, tn_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- an instance -------------------------------------------------------------------------------- */

typedef struct jw_ctx jw_ctx;
typedef struct jw_waiter { /* a call that waits for keys; in its operation's memory */
    struct jw_waiter *next;
    jw_ctx *ctx;
    tn_op *op;
    const tn_auth_info *info;
    tn_claims *out;
} jw_waiter;

typedef struct jw_inst {
    const tn_host *host;
    jw_options options;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool started;
    _Atomic bool stopping;
    /* under the lock */
    jw_keys *keys;               /* NULL: none yet */
    uint64_t asked_ns, tried_ns; /* 0: never */
    bool asked, fetching, failing;
    jw_waiter *waiters;
    size_t n_waiters;
    _Atomic uint64_t generation;     /* of `keys`, for the caches */
    _Atomic uint64_t fresh_until_ns; /* 0: for ever */
    tn_metric *m_tokens, *m_refused, *m_hits, *m_fetches, *m_fetch_errors;
} jw_inst;

struct jw_ctx { /* of a loop */
    jw_inst *inst;
    tn_loop *loop;
    EVP_MD_CTX *md;
    struct jw_slot *slots;
    tn_error why; /* of the last refusal */
};

/* Reads all sources [main, thread]; on success they are in use. */
tn_status jw_fetch(jw_inst *inst, tn_error *err);
void *jw_fetch_main(void *inst);
/* The waiter will be woken after the next fetch; false: there will be none soon enough to wait for. */
bool jw_fetch_ask(jw_inst *inst, jw_waiter *waiter);
jw_keys *jw_keys_now(jw_inst *inst); /* a reference, or NULL */
void jw_wake(void *waiter);          /* on its loop */
bool jw_source_lawful(tn_str source, const char **out_why);

#endif
