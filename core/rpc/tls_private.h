/* SPDX-License-Identifier: MIT */
/* What the TLS files of this room share.
 *
 *   tls.c          the process's sides: loading, renewing, dates
 *   tls_load.c     certificates and keys from settings, and the proof that they fit
 *   tls_context.c  OpenSSL contexts: rules, host names, tickets
 *   tls_wire.c     one connection: bytes of the socket to clear bytes and back */
#ifndef TN_RPC_TLS_PRIVATE_H
#define TN_RPC_TLS_PRIVATE_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "loop/stream.h"
#include "metrics/metrics.h"
#include "rpc/tls.h"

#define RPC_TLS_SESSION_S \
    3600 /* a client may resume that long without its certificate being looked at again */
#define RPC_TLS_TICKET_NS \
    (RPC_TLS_SESSION_S * TN_SEC) /* then the tickets' key is changed; the old one opens so long */
#define RPC_TLS_TICKET_KEYS 2

typedef struct rpc_tls_ticket_key {
    uint8_t name[16], aes[32], hmac[32];
    uint64_t made_ns; /* 0: none */
} rpc_tls_ticket_key;

typedef struct rpc_tls_cert { /* of one use, as the settings give it */
    X509 *leaf;
    STACK_OF(X509) * chain; /* what stands behind it in its file */
    EVP_PKEY *key;
    STACK_OF(X509) * cas; /* the other side's authorities */
} rpc_tls_cert;

typedef struct rpc_tls_date { /* for the expiration checks */
    char use[48], subject[128], fingerprint[24];
    int64_t not_after; /* seconds since 1970 */
    bool ca;
} rpc_tls_date;

/* A generation: what one reading of the files gave. */
typedef struct rpc_tls_gen {
    _Atomic uint32_t refs;
    SSL_CTX *ctx;
    size_t n_hosts;
    struct rpc_tls_host {
        char *name; /* lower case */
        SSL_CTX *ctx;
    } * hosts;
    uint8_t digest[32]; /* of all that was read */
    bool require;       /* a client certificate; of ctx */
    bool client, verify_host;
    char *server_name; /* client: NULL: by address */
    rpc_tls_date *dates;
    size_t n_dates;
    pthread_mutex_t ticket_lock;
    rpc_tls_ticket_key tickets[RPC_TLS_TICKET_KEYS]; /* the newest first */
} rpc_tls_gen;

struct tn_tls_side {
    tn_tls_use use;
    pthread_mutex_t lock;
    rpc_tls_gen *gen;
    uint32_t epoch; /* counts reloads: what was read before one is not put in after it */
};

/* tls.c */
rpc_tls_gen *rpc_tls_gen_ref(tn_tls_side *side);
void rpc_tls_gen_unref(rpc_tls_gen *gen);

/* tls_load.c: NULL when there were problems. */
rpc_tls_gen *rpc_tls_load(const tn_settings_tls *settings, tn_tls_use use,
                          tn_config_problems *problems);

/* tls_context.c */
/* The newest error of OpenSSL's queue, which is emptied. */
const char *rpc_tls_error(char *out, size_t size);
SSL_CTX *rpc_tls_server_context(const rpc_tls_cert *cert, bool require,
                                const uint8_t session_id[32], char *why, size_t why_size);
SSL_CTX *rpc_tls_client_context(const rpc_tls_cert *cert, bool verify, char *why, size_t why_size);

/* tls_wire.c */
typedef struct rpc_tls rpc_tls;
typedef struct rpc_tls_kept { /* a client's session, to be resumed */
    SSL_SESSION *session;
    rpc_tls_gen *gen; /* by which it was made */
} rpc_tls_kept;

typedef struct rpc_tls_events {
    void (*ready)(void *user); /* the handshake is over, the peer is who it must be */
    bool (*clear)(void *user, const uint8_t *p,
                  size_t n); /* false: enough, the connection has ended */
} rpc_tls_events;

/* http1: a peer that asks for no protocol, or for http/1.1, may stay. */
rpc_tls *rpc_tls_accept(tn_tls_side *side, tn_stream *stream, bool http1,
                        const rpc_tls_events *events, void *user);
rpc_tls *rpc_tls_connect(tn_tls_side *side, tn_stream *stream, const char *ip, rpc_tls_kept *kept,
                         const rpc_tls_events *events, void *user);
bool rpc_tls_takes_http1(SSL *ssl); /* of rpc_tls_accept's */
void rpc_tls_destroy(rpc_tls *tls); /* NULL allowed; not inside its events */
/* Bytes of the socket.  0; 1: the peer has ended; -1: broken, rpc_tls_why says how. */
int rpc_tls_read(rpc_tls *tls, const uint8_t *p, size_t n);
const char *rpc_tls_why(const rpc_tls *tls);
/* Like tn_stream_write; before the handshake's end nothing is sent. */
size_t rpc_tls_write(rpc_tls *tls, const uint8_t *p, size_t n);
/* Tells the peer that nothing more will come. */
void rpc_tls_end(rpc_tls *tls);
/* The peer's verified certificate, for as long as the connection; NULL: none. */
X509 *rpc_tls_peer(const rpc_tls *tls);
/* DER and the subject as RFC 2253 writes it, NUL-ended, in one heap block that begins with the DER; false: no peer. */
bool rpc_tls_peer_text(const rpc_tls *tls, uint8_t **out, size_t *der_n, size_t *subject_n);
void rpc_tls_kept_drop(rpc_tls_kept *kept);

#endif
