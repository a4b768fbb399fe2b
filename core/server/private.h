/* SPDX-License-Identifier: MIT */
/* The server as the files of this room see it: its start and end (run.c, attributes.c), its reloads (reload.c), who may ask for one
 * (control.c), and what the service manager is told (notify.c).  All of it is the main thread's, but for control's own
 * thread. */
#ifndef TN_SERVER_PRIVATE_H
#define TN_SERVER_PRIVATE_H

#include "auth/audit.h"
#include "auth/auth.h"
#include "metrics/metrics.h"
#include "plugin/plugin.h"
#include "server/server.h"

enum {
    PLUGIN_STORE,
    PLUGIN_VISIBILITY,
    PLUGIN_SECOND_VISIBILITY,
    PLUGIN_CLAIMS,
    PLUGIN_AUTH,
    PLUGIN_COUNT
};

/* Settings that somebody still looks at. */
typedef struct tn_settings_ref {
    tn_settings *settings;
    unsigned refs;
} tn_settings_ref;

typedef struct tn_retired { /* what a reload has replaced */
    struct tn_retired *next;
    tn_auth_pair *pair;
    tn_plugin_instance *mapper, *authorizer;
    tn_settings_ref *settings, *tls_from;
    uint64_t since_ns;
    bool said; /* that it takes long */
} tn_retired;

typedef struct tn_server {
    const tn_args *args;
    tn_settings *settings;     /* of the start: what only a restart changes */
    tn_settings_ref *started;  /* holds them */
    tn_settings_ref *current;  /* of the newest reload: what may change */
    tn_settings_ref *tls_from; /* whose global.tls is in use */
    tn_plugin_instance *plugins[PLUGIN_COUNT];
    tn_retired *retired;
    unsigned n_retired;
    char host[128];
    char cluster_id[37];
    uint8_t token_key[16];
    uint32_t shards;
    bool cluster; /* one process of several */
    bool ports_open;
    tn_tls *tls; /* NULL: all ports are plain */
    tn_rpc_server *rpc;
    tn_rpc_server *http; /* NULL: there is no HTTP port */
    tn_metrics_server *metrics;
    uint64_t waiting_since_ns, wait_ns; /* for the store, while starting; 0: not yet */
    int interrupted;                    /* the signal that ended the start */
    struct {
        bool loops, auth, store, visibility, namespaces, dynconfig, matching, history, worker;
    } up;
} tn_server;

/* run.c */
tn_status tn_server_read_settings(const tn_server *s, tn_config_problems *problems,
                                  tn_settings **out);
/* The store keeps the start waiting; false: a signal has ended that.  user: the tn_server. */
bool tn_server_try_again(void *user, const char *what, const tn_error *why);
/* ---- attributes.c; 0, or the exit status ---- */
int tn_server_set_search_attributes(tn_server *s);
tn_status tn_server_prepare_audit(const tn_settings *set, tn_audit_fresh **out, tn_error *err);

/* ---- reload.c ---- */
/* What may be set at any time. */
void tn_server_apply_settings(const tn_settings *set);
/* Reads the configuration again and takes what may change: all of it, or nothing.  report: what has changed and what
 * would need a restart, or why nothing has; lines for people.  false: nothing. */
bool tn_server_reload(tn_server *s, tn_buf *report);
/* Closes what nobody uses any more; how long to wait before the next look, 0: nothing is left. */
uint64_t tn_server_bury(tn_server *s);
void tn_server_bury_all(tn_server *s, uint64_t grace_ns); /* at the end */
tn_settings_ref *tn_settings_ref_new(tn_settings *settings);
void tn_settings_ref_drop(tn_settings_ref *ref); /* NULL allowed */

/* ---- control.c ---- */
/* Listens at control.socket, for root and for the user that the server runs as. */
tn_status tn_control_open(const tn_settings *set, tn_error *err) TN_WARN_UNUSED;
/* Has somebody asked for a reload?  Then tn_control_answer must follow. */
bool tn_control_asked(void);
void tn_control_answer(bool ok, const tn_buf *report);
void tn_control_stop(void);

/* ---- notify.c: the service manager (sd_notify(3)); nothing when there is none ---- */
void tn_notify(const char *fmt, ...) TN_PRINTF(1, 2);
void tn_notify_reloading(void);

#endif
