/* SPDX-License-Identifier: MIT */
/* The words by which hosts of a cluster know each other, and what of them the other end of a connection has shown.
 *
 * A word itself is not shown, or something else that listens where a host was would learn it.  On a pipe both ends prove that
 * they know one: HMAC-SHA256, under the word, of who they are and of a number each has just made up, so that what is said on
 * one connection is good on no other.  A call by HTTP/2, to a public port, says the word bound to the host it goes to
 * (HMAC-SHA256 of its id): good there, while that process lives, and nowhere else.
 * Hosts that know of this have ids of version 8 (RFC 9562); those of older releases have version 4 and are shown the word
 * itself.  Ids come by gossip, under a MAC. */
#ifndef TN_RPC_SECRETS_H
#define TN_RPC_SECRETS_H

#include "base/base.h"

#define TN_SECRETS_MAX 4
#define TN_SECRET_MAX 63

/* [any; the first time: main, before servers and channels] From now on the first is shown, and all are believed.  Pipes show
 * the new first one; one whose other end has shown none of these ends after a few seconds. */
void tn_secrets_use(const char *const *words, size_t n);
void tn_secrets_forget(void); /* [main] when no port and no channel is open any more */
tn_str tn_secret_shown(void); /* [any] valid until they are forgotten; empty: there is none */
/* [any] One of them, itself or bound to this host; takes the same time whatever is shown, as long as its length is right. */
bool tn_secret_known(tn_str shown);

/* ---- the room's own ---- */

/* Whether a host proves what it knows, and wants proofs. */
bool rpc_host_proves(const uint8_t host_id[16]);

/* What both ends of a pipe have said of themselves. */
#define RPC_NONCE_BYTES 32u
#define RPC_PROOF_BYTES 32u
typedef struct rpc_meeting {
    uint8_t caller[16], server[16]; /* host ids */
    uint8_t caller_nonce[RPC_NONCE_BYTES], server_nonce[RPC_NONCE_BYTES];
} rpc_meeting;
typedef enum rpc_side { RPC_CALLER = 'C', RPC_SERVER = 'S' } rpc_side;
/* That side's, under the first word. */
void rpc_prove(const rpc_meeting *m, rpc_side side, uint8_t out[RPC_PROOF_BYTES]);

/* What a pipe's other end has shown. */
typedef struct rpc_secrets rpc_secrets;
typedef struct rpc_shown {
    const rpc_secrets *set;       /* in which it was found last */
    char word[TN_SECRET_MAX + 1]; /* which of them it knows */
} rpc_shown;
/* What was dropped is believed for so long where it was shown before. */
extern uint64_t rpc_secrets_grace_ns;
/* False: not to be believed, nothing is changed. */
bool rpc_shown_take(rpc_shown *s, tn_str word);
bool rpc_shown_proof(rpc_shown *s, const rpc_meeting *m, rpc_side side, tn_blob proof);
bool rpc_shown_holds(rpc_shown *s); /* whether it still is */

/* What calls by HTTP/2 say to one host. */
typedef struct rpc_saying {
    const rpc_secrets *set; /* of which this is */
    char word[TN_SECRET_MAX + 1];
} rpc_saying;
/* Made anew when the words have changed; empty: there is none. */
tn_str rpc_saying_to(rpc_saying *s, const uint8_t host_id[16]);
/* [main] before servers and channels: to whom what is shown to us is bound */
void rpc_secrets_identity(const uint8_t host_id[16]);

#endif
