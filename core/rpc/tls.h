/* SPDX-License-Identifier: MIT */
/* TLS of the process: contexts made from global.tls, renewed while connections go on.  A connection keeps the
 * certificates with which it began; a new one takes the newest that were whole and right. */
#ifndef TN_RPC_TLS_H
#define TN_RPC_TLS_H

#include "config/settings_tls.h"
#include "loop/loop.h"

typedef struct tn_tls tn_tls;
typedef struct tn_tls_side tn_tls_side; /* one kind of port, or of caller */

typedef enum tn_tls_use {
    TN_TLS_FRONTEND,         /* the public port */
    TN_TLS_INTERNODE,        /* the roles' ports */
    TN_TLS_INTERNODE_CLIENT, /* this host's calls to them */
    TN_TLS_FRONTEND_CLIENT,  /* and to other hosts' public ports */
    TN_TLS_USE_COUNT,
} tn_tls_use;

/* [main] Reads all files; keys must match certificates and chains verify, or `problems` says which do not.  The
 * settings must outlive it.  *out is NULL when nothing is configured. */
tn_status tn_tls_open(const tn_settings_tls *settings, tn_config_problems *problems,
                      tn_tls **out) TN_WARN_UNUSED;
void tn_tls_close(tn_tls *tls); /* [main] NULL allowed; after the loops have ended, or unwatched */
/* NULL: that side is plain. */
tn_tls_side *tn_tls_get(tn_tls *tls, tn_tls_use use);
/* [one loop] Reads the files again each refreshInterval, and looks at the dates each checkInterval. */
void tn_tls_watch(void *tls);
void tn_tls_look_now(void *tls);
void tn_tls_unwatch(void *tls);

/* A reload with other settings: every side is made anew [main] (TN_EINVALID: problems says what is wrong, nothing has
 * changed), then taken [the watching loop], or discarded.  A side that neither its settings nor its files change keeps
 * what it has.  Sides cannot come or go: tn_tls_same_sides says whether they would.  Until tn_tls_idle [the watching
 * loop] the old settings are still being looked at. */
typedef struct tn_tls_fresh tn_tls_fresh;
bool tn_tls_same_sides(const tn_tls *tls, const tn_settings_tls *settings);
tn_status tn_tls_prepare(tn_tls *tls, const tn_settings_tls *settings, bool same_settings,
                         tn_config_problems *problems, tn_tls_fresh **out) TN_WARN_UNUSED;
void tn_tls_commit(void *fresh);
void tn_tls_discard(tn_tls_fresh *fresh); /* NULL allowed */
bool tn_tls_idle(const tn_tls *tls);

#endif
