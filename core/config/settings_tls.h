/* SPDX-License-Identifier: MIT */
/* global.tls of tenon.yaml: where certificates come from, as texts of the tree.  What they hold is looked into by
 * core/rpc, which knows certificates.  [main]; read-only once made. */
#ifndef TN_CONFIG_SETTINGS_TLS_H
#define TN_CONFIG_SETTINGS_TLS_H

#include "config/config.h"

#define TN_SETTINGS_CAS_MAX 32u
#define TN_SETTINGS_HOSTS_MAX 64u

typedef struct tn_settings_pem { /* a file, or the text itself: PEM, or base64 of it */
    const char *file;            /* NULL: none */
    tn_str data;
    const tn_config *at; /* complaints are about `key` below it */
    const char *key;
} tn_settings_pem;

typedef struct tn_settings_pems {
    size_t n;
    tn_settings_pem list[TN_SETTINGS_CAS_MAX];
} tn_settings_pems;

typedef struct tn_settings_tls_server {
    const tn_config *at;         /* NULL: not configured, the port is plain */
    const char *host;            /* of hostOverrides */
    tn_settings_pem cert, key;   /* certFile or certData, keyFile or keyData */
    tn_settings_pems client_cas; /* clientCaFiles or clientCaData */
    bool require_client_auth;    /* requireClientAuth false */
} tn_settings_tls_server;

typedef struct tn_settings_tls_client {
    const tn_config *at;            /* NULL: not configured */
    const char *server_name;        /* serverName; NULL: the address that is called */
    tn_settings_pems root_cas;      /* rootCaFiles or rootCaData; none: the system's */
    bool disable_host_verification; /* disableHostVerification false */
    bool force;                     /* forceTLS false: without anything else said */
} tn_settings_tls_client;

typedef struct tn_settings_tls_group {
    tn_settings_tls_server server;
    tn_settings_tls_client client;
    tn_settings_tls_server *hosts; /* hostOverrides; frontend only */
    size_t n_hosts;
} tn_settings_tls_group;

typedef struct tn_settings_tls { /* global.tls */
    tn_settings_tls_group frontend, internode;
    uint64_t refresh_ns; /* refreshInterval 0: files are read once (and on SIGHUP) */
    uint64_t warning_ns; /* expirationChecks.warningWindow 0 */
    uint64_t error_ns;   /* expirationChecks.errorWindow 0 */
    uint64_t check_ns;   /* expirationChecks.checkInterval 0: no checks */
} tn_settings_tls;

/* For settings.c.  The paths of all keys but the durations; how many.  Lists are open below. */
size_t tn_settings_tls_paths(const char *const **paths, const bool **open);
void tn_settings_tls_read(const tn_config *root, tn_arena *arena, tn_config_problems *problems,
                          tn_settings_tls *out);

#endif
