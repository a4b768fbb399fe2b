/* SPDX-License-Identifier: MIT */
/* The words by which hosts of a cluster know each other, and what of them the other end of a connection has shown.
 *
 * A word itself is never shown, or something else that listens where a host was would learn it: what is shown is the word
 * bound to the host for which it is meant (HMAC-SHA256 of its id under the word), good at that host alone, whose id is never
 * used again.  Hosts that know of this have ids of version 8 (RFC 9562); those of older releases have version 4 and are shown
 * the word itself.  Ids come by gossip, under a MAC. */
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

/* The room's own: what a pipe's other end has shown. */
typedef struct rpc_secrets rpc_secrets;
typedef struct rpc_shown {
    const rpc_secrets *set; /* in which it was found last */
    bool bound;             /* to us */
    char word[TN_SECRET_MAX + 1];
} rpc_shown;
/* What was dropped is believed for so long where it was shown before. */
extern uint64_t rpc_secrets_grace_ns;
bool rpc_shown_take(rpc_shown *s, tn_str shown); /* false: not to be believed, nothing is changed */
bool rpc_shown_holds(rpc_shown *s);              /* whether it still is */

/* What is shown to one host. */
typedef struct rpc_showing {
    const rpc_secrets *set; /* of which this is */
    bool bound;
    char word[TN_SECRET_MAX + 1];
} rpc_showing;
bool rpc_host_takes_bound(const uint8_t host_id[16]);
/* Made anew when the words have changed; empty: there is none. */
tn_str rpc_showing_to(rpc_showing *s, const uint8_t host_id[16], bool bound);
/* [main] before servers and channels: to whom what is shown to us is bound */
void rpc_secrets_identity(const uint8_t host_id[16]);

#endif
