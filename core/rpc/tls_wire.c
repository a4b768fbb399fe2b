/* SPDX-License-Identifier: MIT */
/* One connection's TLS, between its stream and HTTP/2.  OpenSSL reads from the bytes that the stream has just brought
 * and writes into the stream; it never waits.  What the socket does not take is kept by the stream, as without
 * TLS; clear bytes are kept nowhere. */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/tls_private.h"

#define RECORD_BYTES 16384

struct rpc_tls {
    SSL *ssl;
    rpc_tls_gen *gen;
    tn_stream *stream;
    const rpc_tls_events *events;
    void *user;
    const uint8_t *in; /* what the stream has brought, while rpc_tls_read runs */
    size_t in_n;
    tn_buf *gather; /* records are put here, to leave together */
    rpc_tls_kept *kept;
    bool ready, broken, reading;
    bool http1;
    char why[160];
};

static _Atomic(tn_counter *) handshakes[3];
enum { HANDSHAKE_FULL, HANDSHAKE_RESUMED, HANDSHAKE_FAILED };

static void count(size_t which)
{
    static const char *const results[] = {"full", "resumed", "failed"};
    tn_counter *counter = atomic_load_explicit(&handshakes[which], memory_order_acquire);
    if (!counter) {
        tn_label result = TN_LABEL_Z("result", results[which]);
        counter = tn_metrics_counter("tenon_tls_handshakes", "TLS handshakes, accepted and made",
                                     &result, 1);
        atomic_store_explicit(&handshakes[which], counter, memory_order_release);
    }
    tn_counter_inc(counter);
}

/* ---- bytes ---- */

/* SSL_get_error wants a queue without errors.  Clearing one that is empty takes 800 instructions. */
static void forget_errors(void)
{
    if (ERR_peek_error())
        ERR_clear_error();
}

static int bio_read(BIO *bio, char *out, int size)
{
    rpc_tls *tls = BIO_get_data(bio);
    size_t n = tls->in_n < (size_t)size ? tls->in_n : (size_t)size;
    BIO_clear_retry_flags(bio);
    if (!n) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(out, tls->in, n);
    tls->in += n;
    tls->in_n -= n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *p, int n)
{
    rpc_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (tls->gather)
        tn_buf_put(tls->gather, p, (size_t)n);
    else
        tn_stream_write(tls->stream, (const uint8_t *)p, (size_t)n);
    return n;
}

static long bio_ctrl(BIO *bio, int command, long a, void *b)
{
    (void)bio, (void)a, (void)b;
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static BIO_METHOD *method;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tenon");
    TN_ASSERT(method);
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_ctrl);
}

/* ---- birth and end ---- */

static rpc_tls *make(tn_tls_side *side, tn_stream *stream, const rpc_tls_events *events, void *user)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    rpc_tls *tls = tn_xcalloc(1, sizeof(*tls));
    pthread_once(&once, make_method);
    tls->gen = rpc_tls_gen_ref(side);
    tls->stream = stream;
    tls->events = events;
    tls->user = user;
    tls->ssl = SSL_new(tls->gen->ctx);
    BIO *bio = BIO_new(method);
    TN_ASSERT(tls->ssl && bio);
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_ex_data(tls->ssl, 0, tls->gen);
    return tls;
}

rpc_tls *rpc_tls_accept(tn_tls_side *side, tn_stream *stream, bool http1,
                        const rpc_tls_events *events, void *user)
{
    rpc_tls *tls = make(side, stream, events, user);
    tls->http1 = http1;
    SSL_set_accept_state(tls->ssl);
    return tls;
}

bool rpc_tls_takes_http1(SSL *ssl)
{
    const rpc_tls *tls = BIO_get_data(SSL_get_rbio(ssl));
    return tls->http1;
}

void rpc_tls_kept_drop(rpc_tls_kept *kept)
{
    if (kept->session)
        SSL_SESSION_free(kept->session);
    if (kept->gen)
        rpc_tls_gen_unref(kept->gen);
    *kept = (rpc_tls_kept){0};
}

static void keep_session(rpc_tls *tls)
{
    SSL_SESSION *session = tls->kept && tls->ready ? SSL_get1_session(tls->ssl) : NULL;
    if (session && SSL_SESSION_is_resumable(session) && session != tls->kept->session) {
        rpc_tls_kept_drop(tls->kept);
        *tls->kept = (rpc_tls_kept){session, tls->gen};
        atomic_fetch_add_explicit(&tls->gen->refs, 1, memory_order_relaxed);
        return;
    }
    SSL_SESSION_free(session);
}

rpc_tls *rpc_tls_connect(tn_tls_side *side, tn_stream *stream, const char *ip, rpc_tls_kept *kept,
                         const rpc_tls_events *events, void *user)
{
    rpc_tls *tls = make(side, stream, events, user);
    const char *name = tls->gen->server_name;
    tls->kept = kept;
    if (name)
        SSL_set_tlsext_host_name(tls->ssl, name);
    if (tls->gen->verify_host && name)
        TN_ASSERT(SSL_set1_host(tls->ssl, name) == 1);
    else if (tls->gen->verify_host)
        TN_ASSERT(X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls->ssl), ip) == 1);
    if (kept->gen != tls->gen)
        rpc_tls_kept_drop(kept); /* made with certificates of yesterday */
    else if (kept->session)
        SSL_set_session(tls->ssl, kept->session);
    SSL_set_connect_state(tls->ssl);
    rpc_tls_read(tls, NULL, 0); /* says hello */
    return tls;
}

void rpc_tls_destroy(rpc_tls *tls)
{
    if (!tls)
        return;
    TN_ASSERT(!tls->reading);
    SSL_free(tls->ssl);
    rpc_tls_gen_unref(tls->gen);
    free(tls);
}

/* ---- in ---- */

const char *rpc_tls_why(const rpc_tls *tls) { return tls->why; }

static int broken(rpc_tls *tls)
{
    long verdict = SSL_get_verify_result(tls->ssl);
    if (!tls->why[0]) {
        rpc_tls_error(tls->why, sizeof(tls->why));
        if (verdict != X509_V_OK)
            snprintf(tls->why, sizeof(tls->why), "the certificate does not verify: %s",
                     X509_verify_cert_error_string(verdict));
    }
    ERR_clear_error();
    if (!tls->ready)
        count(HANDSHAKE_FAILED);
    tls->broken = true;
    return -1;
}

/* What a handshake that went well must have given besides. */
static bool fits(rpc_tls *tls)
{
    const unsigned char *protocol;
    unsigned n;
    bool wants = SSL_get_verify_mode(tls->ssl) &
                 (tls->gen->client ? SSL_VERIFY_PEER : SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
    X509 *peer = SSL_get0_peer_certificate(tls->ssl);
    SSL_get0_alpn_selected(tls->ssl, &protocol, &n);
    const char *why = NULL;
    if (!tls->http1 && (n != 2 || memcmp(protocol, "h2", 2) != 0))
        why = "the other side does not ask for h2 (ALPN)";
    else if (wants && !peer)
        why = "the other side has no certificate";
    else if (peer && SSL_get_verify_mode(tls->ssl) != SSL_VERIFY_NONE &&
             SSL_get_verify_result(tls->ssl) != X509_V_OK)
        why = "the other side's certificate does not verify";
    else if (wants && X509_cmp_current_time(X509_get0_notAfter(peer)) < 0)
        why =
            /* a resumed session is not verified again */
            "the other side's certificate has expired";
    if (why)
        snprintf(tls->why, sizeof(tls->why), "%s", why);
    return !why;
}

static int handshake(rpc_tls *tls)
{
    int rv = SSL_do_handshake(tls->ssl);
    if (rv != 1)
        return SSL_get_error(tls->ssl, rv) == SSL_ERROR_WANT_READ ? 0 : broken(tls);
    if (!fits(tls)) {
        SSL_shutdown(tls->ssl);
        return broken(tls);
    }
    tls->ready = true;
    count(SSL_session_reused(tls->ssl) ? HANDSHAKE_RESUMED : HANDSHAKE_FULL);
    tls->events->ready(tls->user);
    return 0;
}

static int take(rpc_tls *tls)
{
    uint8_t clear[RECORD_BYTES];
    for (;;) {
        size_t n;
        int rv = SSL_read_ex(tls->ssl, clear, sizeof(clear), &n);
        if (rv != 1) {
            int error = SSL_get_error(tls->ssl, rv);
            if (error == SSL_ERROR_ZERO_RETURN)
                return 1;
            return error == SSL_ERROR_WANT_READ ? 0 : broken(tls);
        }
        if (!tls->events->clear(tls->user, clear, n))
            return 0;
        if (tls->in_n == 0 && !SSL_has_pending(tls->ssl))
            return 0; /* as the next reading would say, which costs as much as a small record */
    }
}

int rpc_tls_read(rpc_tls *tls, const uint8_t *p, size_t n)
{
    if (tls->broken)
        return -1;
    int rv = 0;
    tls->in = p;
    tls->in_n = n;
    tls->reading = true;
    forget_errors();
    if (!tls->ready)
        rv = handshake(tls);
    if (rv == 0 && tls->ready)
        rv = take(tls);
    tls->reading = false;
    tls->in = NULL;
    tls->in_n = 0;
    return rv;
}

/* ---- out ---- */

size_t rpc_tls_write(rpc_tls *tls, const uint8_t *p, size_t n)
{
    tn_buf records = {0};
    size_t written;
    if (!tls->ready || tls->broken || !n)
        return tn_stream_pending_bytes(tls->stream);
    if (n > RECORD_BYTES) {
        tn_buf_reserve(&records, n + (n / RECORD_BYTES + 1) * 64);
        tls->gather = &records;
    }
    forget_errors();
    int rv = SSL_write_ex(tls->ssl, p, n, &written); /* all of it: the way out takes everything */
    tls->gather = NULL;
    if (records.n)
        tn_stream_write(tls->stream, records.p, records.n);
    tn_buf_done(&records);
    if (rv != 1)
        broken(tls);
    return tn_stream_pending_bytes(tls->stream);
}

void rpc_tls_end(rpc_tls *tls)
{
    if (!tls->ready || tls->broken)
        return;
    keep_session(tls);
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

/* ---- the peer ---- */

X509 *rpc_tls_peer(const rpc_tls *tls)
{
    bool asked = SSL_get_verify_mode(tls->ssl) & SSL_VERIFY_PEER;
    return asked && tls->ready ? SSL_get0_peer_certificate(tls->ssl) : NULL;
}

bool rpc_tls_peer_text(const rpc_tls *tls, uint8_t **out, size_t *der_n, size_t *subject_n)
{
    X509 *peer = rpc_tls_peer(tls);
    int n = peer ? i2d_X509(peer, NULL) : 0;
    BIO *text = n > 0 ? BIO_new(BIO_s_mem()) : NULL;
    char *subject;
    if (!text)
        return false;
    X509_NAME_print_ex(text, X509_get_subject_name(peer), 0,
                       XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
    long length = BIO_get_mem_data(text, &subject);
    *der_n = (size_t)n;
    *subject_n = length > 0 ? (size_t)length : 0;
    *out = tn_xmalloc(*der_n + *subject_n + 1);
    unsigned char *p = *out;
    i2d_X509(peer, &p);
    if (*subject_n)
        memcpy(*out + n, subject, *subject_n);
    (*out)[*der_n + *subject_n] = 0;
    BIO_free(text);
    return true;
}
