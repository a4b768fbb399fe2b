/* SPDX-License-Identifier: MIT */
/* Certificates, keys and authorities from where the settings say, and the proof, before they are used, that they
 * serve: a key fits its certificate, the chain leads from the certificate to its end (or to the authority that
 * clients are told to trust), names and dates are right. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rpc/tls_private.h"

#define FILE_BYTES_MAX (1u << 20)

typedef struct loader {
    tn_config_problems *problems;
    EVP_MD_CTX *digest;
    rpc_tls_gen *gen;
} loader;

static void digest_add(loader *l, const void *p, size_t n)
{
    TN_ASSERT(EVP_DigestUpdate(l->digest, &n, sizeof(n)) == 1 &&
              EVP_DigestUpdate(l->digest, p, n) == 1);
}

/* ---- texts ---- */

static const char *read_file(const char *path, tn_buf *out)
{
    struct stat st;
    const char *why = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return strerror(errno);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        why = "it is no file";
    else if (st.st_size > FILE_BYTES_MAX)
        why = "it has more than 1 MiB";
    while (!why) {
        tn_buf_reserve(out, 8192);
        ssize_t n = read(fd, out->p + out->n, out->cap - out->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            why = strerror(errno);
        if (n <= 0)
            break;
        out->n += (size_t)n;
        if (out->n > FILE_BYTES_MAX)
            why = "it has more than 1 MiB";
    }
    close(fd);
    return why;
}

/* PEM as it is, or base64 of it, with or without line ends. */
static const char *decode(tn_str data, tn_buf *out)
{
    EVP_ENCODE_CTX *ctx = EVP_ENCODE_CTX_new();
    int n = 0, last = 0;
    bool ok = true;
    if (memmem(data.p, data.n, "-----BEGIN", 10)) {
        tn_buf_put(out, data.p, data.n);
        EVP_ENCODE_CTX_free(ctx);
        return NULL;
    }
    TN_ASSERT(ctx && data.n < INT32_MAX);
    tn_buf_reserve(out, data.n + 4);
    EVP_DecodeInit(ctx);
    ok = EVP_DecodeUpdate(ctx, out->p, &n, (const unsigned char *)data.p, (int)data.n) >= 0 &&
         EVP_DecodeFinal(ctx, out->p + n, &last) == 1;
    EVP_ENCODE_CTX_free(ctx);
    out->n = ok ? (size_t)(n + last) : 0;
    return ok ? NULL : "it is neither PEM nor base64";
}

/* NULL: a problem was noted. */
static BIO *open_text(loader *l, const tn_settings_pem *pem, tn_buf *text)
{
    const char *why = pem->file ? read_file(pem->file, text) : decode(pem->data, text);
    if (why && pem->file)
        tn_config_complain_at(l->problems, pem->at, pem->key,
                              "name a file that the server may read", "%s cannot be read: %s",
                              pem->file, why);
    else if (why)
        tn_config_complain_at(l->problems, pem->at, pem->key,
                              "write the output of `base64 -w0 FILE.pem`", "%s", why);
    if (why)
        return NULL;
    digest_add(l, text->p, text->n);
    BIO *bio = BIO_new_mem_buf(text->p ? (void *)text->p : "", (int)text->n);
    TN_ASSERT(bio);
    return bio;
}

static void close_text(BIO *bio, tn_buf *text)
{
    BIO_free(bio);
    if (text->p)
        explicit_bzero(text->p, text->cap);
    tn_buf_done(text);
    ERR_clear_error();
}

static const char *name_of(const tn_settings_pem *pem) { return pem->file ? pem->file : pem->key; }

static int no_password(char *buf, int size, int writing, void *user)
{
    (void)buf, (void)size, (void)writing;
    *(bool *)user = true;
    return -1;
}

/* ---- certificates and keys ---- */

static STACK_OF(X509) * load_certs(loader *l, const tn_settings_pem *pem)
{
    tn_buf text = {0};
    BIO *bio = open_text(l, pem, &text);
    X509 *cert;
    if (!bio) {
        tn_buf_done(&text);
        return NULL;
    }
    STACK_OF(X509) *certs = sk_X509_new_null();
    TN_ASSERT(certs);
    while ((cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        TN_ASSERT(sk_X509_push(certs, cert) > 0);
    bool over = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (!over || sk_X509_num(certs) == 0) {
        tn_config_complain_at(l->problems, pem->at, pem->key,
                              "give it PEM certificates (-----BEGIN CERTIFICATE-----)",
                              over ? "%s has no certificate"
                                   : "%s has a certificate that cannot be read",
                              name_of(pem));
        sk_X509_pop_free(certs, X509_free);
        certs = NULL;
    }
    close_text(bio, &text);
    return certs;
}

static EVP_PKEY *load_key(loader *l, const tn_settings_pem *pem)
{
    tn_buf text = {0};
    bool locked = false;
    BIO *bio = open_text(l, pem, &text);
    if (!bio) {
        tn_buf_done(&text);
        return NULL;
    }
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, &locked);
    if (!key && locked)
        tn_config_complain_at(l->problems, pem->at, pem->key,
                              "openssl pkey -in OLD.pem -out NEW.pem",
                              "%s is locked with a password", name_of(pem));
    else if (!key)
        tn_config_complain_at(l->problems, pem->at, pem->key,
                              "give it a PEM key (-----BEGIN PRIVATE KEY-----)",
                              "%s has no private key that can be read", name_of(pem));
    close_text(bio, &text);
    return key;
}

static STACK_OF(X509) * load_cas(loader *l, const tn_settings_pems *pems)
{
    STACK_OF(X509) *all = NULL;
    for (size_t i = 0; i < pems->n; i++) {
        STACK_OF(X509) *some = load_certs(l, &pems->list[i]);
        if (!all) {
            all = some;
            continue;
        }
        while (some && sk_X509_num(some) > 0)
            TN_ASSERT(sk_X509_push(all, sk_X509_shift(some)) > 0);
        sk_X509_free(some);
    }
    return all;
}

static void cert_done(rpc_tls_cert *cert)
{
    X509_free(cert->leaf);
    sk_X509_pop_free(cert->chain, X509_free);
    sk_X509_pop_free(cert->cas, X509_free);
    EVP_PKEY_free(cert->key);
    *cert = (rpc_tls_cert){0};
}

/* ---- dates ---- */

static int64_t seconds_of(const ASN1_TIME *time)
{
    static const uint8_t epoch[] = "700101000000Z";
    ASN1_TIME *zero = ASN1_TIME_new();
    int days = 0, seconds = 0;
    TN_ASSERT(zero && ASN1_TIME_set_string(zero, (const char *)epoch) == 1);
    bool ok = ASN1_TIME_diff(&days, &seconds, zero, time) == 1;
    ASN1_TIME_free(zero);
    return ok ? (int64_t)days * 86400 + seconds : INT64_MAX;
}

static void add_date(loader *l, X509 *cert, const char *use, bool ca)
{
    rpc_tls_gen *gen = l->gen;
    uint8_t digest[EVP_MAX_MD_SIZE] = {0};
    unsigned n = 0;
    gen->dates = tn_xreallocarray(gen->dates, gen->n_dates + 1, sizeof(gen->dates[0]));
    rpc_tls_date *date = &gen->dates[gen->n_dates++];
    *date = (rpc_tls_date){.not_after = seconds_of(X509_get0_notAfter(cert)), .ca = ca};
    snprintf(date->use, sizeof(date->use), "%s", use);
    X509_NAME_oneline(X509_get_subject_name(cert), date->subject, sizeof(date->subject));
    X509_digest(cert, EVP_sha256(), digest, &n);
    for (size_t i = 0; i < 8; i++)
        snprintf(date->fingerprint + 2 * i, 3, "%02x", digest[i]);
}

static void add_dates(loader *l, const rpc_tls_cert *cert, const char *use)
{
    if (cert->leaf)
        add_date(l, cert->leaf, use, false);
    for (int i = 0; i < sk_X509_num(cert->chain); i++)
        add_date(l, sk_X509_value(cert->chain, i), use, true);
    for (int i = 0; i < sk_X509_num(cert->cas); i++)
        add_date(l, sk_X509_value(cert->cas, i), use, true);
}

/* ---- proof ---- */

/* roots NULL: the chain is trusted for its last certificate. */
static bool prove(loader *l, const rpc_tls_cert *cert, STACK_OF(X509) * roots, int purpose,
                  const char *host, const tn_settings_pem *about, const char *for_whom)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    TN_ASSERT(store && ctx);
    int n = sk_X509_num(cert->chain);
    for (int i = 0; i < sk_X509_num(roots); i++)
        X509_STORE_add_cert(store, sk_X509_value(roots, i));
    if (!roots) {
        X509_STORE_add_cert(store, n > 0 ? sk_X509_value(cert->chain, n - 1) : cert->leaf);
        X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    }
    TN_ASSERT(X509_STORE_CTX_init(ctx, store, cert->leaf, cert->chain) == 1);
    X509_STORE_CTX_set_purpose(ctx, purpose);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_auth_level(param, 2);
    if (host)
        X509_VERIFY_PARAM_set1_host(param, host, 0);
    bool ok = X509_verify_cert(ctx) == 1;
    int error = X509_STORE_CTX_get_error(ctx), depth = X509_STORE_CTX_get_error_depth(ctx);
    X509 *bad = X509_STORE_CTX_get_current_cert(ctx);
    char subject[128] = "?";
    if (bad)
        X509_NAME_oneline(X509_get_subject_name(bad), subject, sizeof(subject));
    if (!ok)
        tn_config_complain_at(
            l->problems, about->at, about->key,
            error == X509_V_ERR_CERT_HAS_EXPIRED ? "renew the certificate"
            : roots ? "use a certificate that the other side's authorities have signed for this use"
                    : "put the certificate first, then each one that signed the one before it",
            "%s does not verify%s: %s (certificate %d of the chain, %s)", name_of(about), for_whom,
            X509_verify_cert_error_string(error), depth + 1, subject);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return ok;
}

static bool load_pair(loader *l, const tn_settings_tls_server *server, rpc_tls_cert *out)
{
    STACK_OF(X509) *certs = load_certs(l, &server->cert);
    out->key = load_key(l, &server->key);
    if (certs) {
        out->leaf = sk_X509_shift(certs);
        out->chain = certs;
    }
    if (!out->leaf || !out->key)
        return false;
    if (X509_check_private_key(out->leaf, out->key) != 1) {
        ERR_clear_error();
        tn_config_complain_at(l->problems, server->at, server->key.key,
                              "use the key that the certificate was made with",
                              "%s is not the key of %s", name_of(&server->key),
                              name_of(&server->cert));
        return false;
    }
    return true;
}

/* ---- generations ---- */

static void session_id(const tn_settings_tls_server *server, const rpc_tls_cert *cert,
                       uint8_t out[32])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n;
    const char *host = server->host ? server->host : "";
    uint8_t require = server->require_client_auth;
    TN_ASSERT(ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1);
    EVP_DigestUpdate(ctx, host, strlen(host) + 1);
    EVP_DigestUpdate(ctx, &require, 1);
    for (int i = 0; i < sk_X509_num(cert->cas); i++) {
        X509_digest(sk_X509_value(cert->cas, i), EVP_sha256(), digest, &n);
        EVP_DigestUpdate(ctx, digest, n);
    }
    EVP_DigestFinal_ex(ctx, out, &n);
    EVP_MD_CTX_free(ctx);
}

static SSL_CTX *load_server(loader *l, const tn_settings_tls_server *server, const char *use)
{
    rpc_tls_cert cert = {0};
    SSL_CTX *ctx = NULL;
    char why[160];
    uint8_t id[32];
    size_t before = tn_config_problems_count(l->problems);
    bool pair = load_pair(l, server, &cert);
    cert.cas = load_cas(l, &server->client_cas);
    if (pair)
        prove(l, &cert, NULL, X509_PURPOSE_SSL_SERVER, NULL, &server->cert, "");
    if (tn_config_problems_count(l->problems) == before) {
        session_id(server, &cert, id);
        ctx = rpc_tls_server_context(&cert, server->require_client_auth, id, why, sizeof(why));
        if (!ctx)
            tn_config_complain_at(l->problems, server->at, server->cert.key,
                                  "use a key of 2048 bits (RSA) or 256 (EC) or more",
                                  "%s cannot be used: %s", name_of(&server->cert), why);
        add_dates(l, &cert, use);
    }
    cert_done(&cert);
    return ctx;
}

static void load_hosts(loader *l, const tn_settings_tls_group *group)
{
    rpc_tls_gen *gen = l->gen;
    gen->hosts = tn_xcalloc(group->n_hosts + 1, sizeof(gen->hosts[0]));
    for (size_t i = 0; i < group->n_hosts; i++) {
        char use[48];
        struct rpc_tls_host *host = &gen->hosts[gen->n_hosts];
        snprintf(use, sizeof(use), "frontend.hostOverrides.%s", group->hosts[i].host);
        host->ctx = load_server(l, &group->hosts[i], use);
        if (!host->ctx)
            continue;
        host->name = tn_xstrdup(group->hosts[i].host);
        for (char *p = host->name; *p; p++)
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p | 0x20 : *p);
        gen->n_hosts++;
    }
}

/* Whom a caller trusts when nothing was said: hosts with this host's own certificate, or one of the same signer. */
static STACK_OF(X509) * own_chain(const rpc_tls_cert *own)
{
    STACK_OF(X509) *roots = X509_chain_up_ref(own->chain);
    TN_ASSERT(roots && X509_up_ref(own->leaf) == 1 && sk_X509_push(roots, own->leaf) > 0);
    return roots;
}

/* Calls to other hosts of the cluster.  `own` is what this host shows there: its internode certificate, or the only
 * one that it has. */
static void load_client(loader *l, const tn_settings_tls_group *group,
                        const tn_settings_tls_server *own_from, const char *name)
{
    const tn_settings_tls_client *client = &group->client;
    const tn_settings_tls_server *server = &group->server;
    rpc_tls_gen *gen = l->gen;
    rpc_tls_cert theirs = {0}, own = {0}, use = {0};
    bool internode = !strcmp(name, "internode"), told = client->at, any;
    char why[160], for_whom[64];
    size_t before = tn_config_problems_count(l->problems);
    any = load_pair(l, server, &theirs) && load_pair(l, own_from, &own);
    STACK_OF(X509) *clients = load_cas(l, &server->client_cas);
    use.cas = load_cas(l, &client->root_cas);
    gen->client = true;
    gen->server_name = client->server_name ? tn_xstrdup(client->server_name) : NULL;
    gen->verify_host = told && !client->disable_host_verification;
    snprintf(for_whom, sizeof(for_whom), " with %s.client.rootCaFiles", name);
    if (any && use.cas)
        prove(l, &theirs, use.cas, X509_PURPOSE_SSL_SERVER,
              gen->verify_host ? client->server_name : NULL, &server->cert, for_whom);
    if (any && internode && server->require_client_auth)
        prove(l, &own, clients, X509_PURPOSE_SSL_CLIENT, NULL, &server->cert,
              " as a client with internode.server.clientCaFiles");
    if (tn_config_problems_count(l->problems) == before) {
        bool verify = !told || gen->verify_host || use.cas;
        if (!told)
            use.cas = own_chain(&theirs);
        use.leaf = clients ? own.leaf : NULL;
        use.key = own.key;
        use.chain = own.chain;
        gen->ctx = rpc_tls_client_context(&use, verify, why, sizeof(why));
        if (!gen->ctx)
            tn_config_complain_at(l->problems, server->at, server->cert.key, NULL,
                                  "%s cannot be used: %s", name_of(&server->cert), why);
        rpc_tls_cert roots = {.cas = told ? use.cas : NULL};
        snprintf(for_whom, sizeof(for_whom), "%s.client", name);
        add_dates(l, &roots, for_whom);
    }
    sk_X509_pop_free(clients, X509_free);
    sk_X509_pop_free(use.cas, X509_free);
    cert_done(&own);
    cert_done(&theirs);
}

rpc_tls_gen *rpc_tls_load(const tn_settings_tls *settings, tn_tls_use use,
                          tn_config_problems *problems)
{
    rpc_tls_gen *gen = tn_xcalloc(1, sizeof(*gen));
    loader l = {.problems = problems, .digest = EVP_MD_CTX_new(), .gen = gen};
    unsigned n;
    size_t before = tn_config_problems_count(problems);
    atomic_init(&gen->refs, 1);
    TN_ASSERT(pthread_mutex_init(&gen->ticket_lock, NULL) == 0);
    TN_ASSERT(l.digest && EVP_DigestInit_ex(l.digest, EVP_sha256(), NULL) == 1);
    if (use == TN_TLS_INTERNODE_CLIENT) {
        load_client(&l, &settings->internode, &settings->internode.server, "internode");
    } else if (use == TN_TLS_FRONTEND_CLIENT) {
        load_client(&l, &settings->frontend,
                    settings->internode.server.at ? &settings->internode.server
                                                  : &settings->frontend.server,
                    "frontend");
    } else if (use == TN_TLS_INTERNODE) {
        gen->ctx = load_server(&l, &settings->internode.server, "internode.server");
    } else {
        gen->ctx = load_server(&l, &settings->frontend.server, "frontend.server");
        load_hosts(&l, &settings->frontend);
    }
    TN_ASSERT(EVP_DigestFinal_ex(l.digest, gen->digest, &n) == 1);
    EVP_MD_CTX_free(l.digest);
    if (gen->ctx && tn_config_problems_count(problems) == before)
        return gen;
    rpc_tls_gen_unref(gen);
    return NULL;
}
