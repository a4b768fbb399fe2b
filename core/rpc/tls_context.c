/* SPDX-License-Identifier: MIT */
/* OpenSSL contexts: TLS 1.2 and 1.3 with ciphers that hide the past, h2 by ALPN, the certificate that the host name
 * asks for, and tickets.
 *
 * Which certificate and which authorities hold is decided in the client-hello callback, before a ticket is looked
 * at: a ticket names (by the session id context) the rules under which it was made, so that a session made with one
 * host's rules is never resumed under another's.  A new generation of files has other ticket keys: a session ends
 * with the authorities that it was checked against. */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <string.h>

#include "rpc/tls_private.h"

static const char ciphers_12[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char ciphers_13[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const uint8_t h2[] = {2, 'h', '2'};

#define CHAIN_DEPTH_MAX 10
#define PEER_CHAIN_BYTES_MAX (64 * 1024)

const char *rpc_tls_error(char *out, size_t size)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    snprintf(out, size, "%s", reason ? reason : "no reason given");
    ERR_clear_error();
    return out;
}

/* ---- tickets ---- */

static void renew_key(rpc_tls_gen *gen, uint64_t now)
{
    gen->tickets[1] = gen->tickets[0];
    tn_random_bytes(&gen->tickets[0], sizeof(gen->tickets[0]));
    gen->tickets[0].made_ns = now;
    if (gen->tickets[1].made_ns && now - gen->tickets[1].made_ns > 2 * RPC_TLS_TICKET_NS)
        OPENSSL_cleanse(&gen->tickets[1], sizeof(gen->tickets[1]));
}

/* 0: no such key, 1: this one, 2: this one, and give the client a new ticket. */
static int find_key(rpc_tls_gen *gen, const uint8_t *name, bool sealing, rpc_tls_ticket_key *out)
{
    uint64_t now = tn_now_mono_ns();
    int found = 0;
    pthread_mutex_lock(&gen->ticket_lock);
    if (!gen->tickets[0].made_ns || now - gen->tickets[0].made_ns > RPC_TLS_TICKET_NS)
        renew_key(gen, now);
    for (int i = 0; i < RPC_TLS_TICKET_KEYS && !found; i++) {
        const rpc_tls_ticket_key *key = &gen->tickets[i];
        if (!key->made_ns || (!sealing && CRYPTO_memcmp(key->name, name, sizeof(key->name)) != 0))
            continue;
        *out = *key;
        found = i + 1;
    }
    pthread_mutex_unlock(&gen->ticket_lock);
    return found;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int sealing)
{
    rpc_tls_gen *gen = SSL_get_ex_data(ssl, 0);
    rpc_tls_ticket_key key;
    OSSL_PARAM params[3];
    int found = gen ? find_key(gen, name, sealing, &key) : 0;
    if (!found)
        return 0;
    params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.hmac, sizeof(key.hmac));
    static char sha256[] = "SHA256";
    params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256, 0);
    params[2] = OSSL_PARAM_construct_end();
    bool ok = EVP_MAC_CTX_set_params(mac, params) == 1;
    if (sealing) {
        memcpy(name, key.name, sizeof(key.name));
        tn_random_bytes(iv, 16);
        ok = ok && EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv) == 1;
    } else {
        ok = ok && EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv) == 1;
    }
    OPENSSL_cleanse(&key, sizeof(key));
    return ok ? found : -1;
}

/* ---- hellos ---- */

/* The one host name of the extension, in lower case; false: none that can be used. */
static bool hello_host(SSL *ssl, char out[256])
{
    const unsigned char *p;
    size_t n;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) != 1 || n < 5)
        return false;
    size_t list = (size_t)p[0] << 8 | p[1], name = (size_t)p[3] << 8 | p[4];
    if (list + 2 != n || p[2] != TLSEXT_NAMETYPE_host_name || name + 5 > n || name == 0 ||
        name > 255)
        return false;
    for (size_t i = 0; i < name; i++) {
        unsigned char c = p[5 + i];
        if (c == 0)
            return false;
        out[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    out[name] = 0;
    return true;
}

static int on_hello(SSL *ssl, int *alert, void *arg)
{
    (void)arg;
    const rpc_tls_gen *gen = SSL_get_ex_data(ssl, 0);
    char host[256];
    if (!gen->n_hosts || !hello_host(ssl, host))
        return SSL_CLIENT_HELLO_SUCCESS;
    for (size_t i = 0; i < gen->n_hosts; i++) {
        if (strcmp(gen->hosts[i].name, host) != 0)
            continue;
        SSL_CTX *ctx = gen->hosts[i].ctx;
        if (!SSL_set_SSL_CTX(
                ssl, ctx)) { /* takes its certificate, authorities and session id context along */
            *alert = SSL_AD_INTERNAL_ERROR;
            return SSL_CLIENT_HELLO_ERROR;
        }
        SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), NULL);
        return SSL_CLIENT_HELLO_SUCCESS;
    }
    return SSL_CLIENT_HELLO_SUCCESS;
}

/* A client that names no protocol at all is turned away after the handshake (tls_wire.c). */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                   const unsigned char *in, unsigned in_n, void *arg)
{
    static const unsigned char *const protocols[] = {(const unsigned char *)"\x2h2",
                                                     (const unsigned char *)"\x8http/1.1"};
    size_t allowed = rpc_tls_takes_http1(ssl) ? 2 : 1;

    (void)arg;
    for (size_t p = 0; p < allowed; p++) {
        for (unsigned i = 0; i < in_n; i += in[i] + 1u) {
            if (in[i] != protocols[p][0] || in_n - i < in[i] + 1u ||
                memcmp(in + i + 1, protocols[p] + 1, in[i]) != 0)
                continue;
            *out = in + i + 1;
            *out_n = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- contexts ---- */

static bool common(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_security_level(ctx, 2);
    SSL_CTX_set_verify_depth(ctx, CHAIN_DEPTH_MAX);
    SSL_CTX_set_max_cert_list(ctx, PEER_CHAIN_BYTES_MAX);
    SSL_CTX_set_timeout(ctx, RPC_TLS_SESSION_S);
    SSL_CTX_set_read_ahead(ctx, 1);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, ciphers_12) == 1 &&
           SSL_CTX_set_ciphersuites(ctx, ciphers_13) == 1 &&
           SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") == 1;
}

static bool use_cert(SSL_CTX *ctx, const rpc_tls_cert *cert)
{
    return SSL_CTX_use_certificate(ctx, cert->leaf) == 1 &&
           SSL_CTX_use_PrivateKey(ctx, cert->key) == 1 && SSL_CTX_check_private_key(ctx) == 1 &&
           SSL_CTX_set1_chain(ctx, cert->chain) == 1;
}

static bool trust(SSL_CTX *ctx, STACK_OF(X509) * cas, bool tell)
{
    for (int i = 0; i < sk_X509_num(cas); i++) {
        X509 *ca = sk_X509_value(cas, i);
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), ca) != 1 ||
            (tell && SSL_CTX_add_client_CA(ctx, ca) != 1))
            return false;
    }
    return true;
}

SSL_CTX *rpc_tls_server_context(const rpc_tls_cert *cert, bool require,
                                const uint8_t session_id[32], char *why, size_t why_size)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    TN_ASSERT(ctx);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    SSL_CTX_set_client_hello_cb(ctx, on_hello, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets only */
    SSL_CTX_set_num_tickets(ctx, 1);
    if (cert->cas)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (require ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                           NULL);
    if (common(ctx) && use_cert(ctx, cert) && trust(ctx, cert->cas, true) &&
        SSL_CTX_set_session_id_context(ctx, session_id, 32) == 1 &&
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) == 1)
        return ctx;
    rpc_tls_error(why, why_size);
    SSL_CTX_free(ctx);
    return NULL;
}

SSL_CTX *rpc_tls_client_context(const rpc_tls_cert *cert, bool verify, char *why, size_t why_size)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    TN_ASSERT(ctx);
    SSL_CTX_set_verify(ctx, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx),
                                X509_V_FLAG_PARTIAL_CHAIN); /* who is named is trusted */
    bool roots =
        cert->cas ? trust(ctx, cert->cas, false) : SSL_CTX_set_default_verify_paths(ctx) == 1;
    if (common(ctx) && roots && (!cert->leaf || use_cert(ctx, cert)) &&
        SSL_CTX_set_alpn_protos(ctx, h2, sizeof(h2)) == 0)
        return ctx;
    rpc_tls_error(why, why_size);
    SSL_CTX_free(ctx);
    return NULL;
}
