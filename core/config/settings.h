/* SPDX-License-Identifier: MIT */
/* The server's own settings: tenon.yaml (or the flags of start-dev) as one struct, checked as a
 * whole. Defaults stand behind each member.  [main]; read-only once made. */
#ifndef TN_CONFIG_SETTINGS_H
#define TN_CONFIG_SETTINGS_H

#include "config/config.h"
#include "config/settings_tls.h"

typedef struct tn_settings_service { /* services.NAME */
    bool enabled;                    /* named in `services`; all four when there is no `services` */
    const char *bind_ip;             /* rpc.bindOnIP 127.0.0.1 */
    uint64_t grpc_port;              /* rpc.grpcPort 7233, 7234, 7235, 7239 (in that order) */
    uint64_t membership_port;        /* rpc.membershipPort 6933, 6934, 6935, 6939 */
    uint64_t http_port;              /* rpc.httpPort 0: off */
} tn_settings_service;

/* A stanza that belongs to a plugin: `plugin` names it, `sha256` may pin it, the rest are its
 * keys. */
typedef struct tn_settings_plugin {
    const char *stanza_name; /* "main" of datastores.main; "claimMapper"; "authorizer" */
    const char *plugin;      /* bare name or absolute path */
    const char *sha256;      /* 64 hex digits, or NULL */
    const tn_config *stanza;
} tn_settings_plugin;

typedef struct tn_settings_audit { /* authorization.audit */
    bool enabled;                  /* the stanza is there */
    bool syslog;                   /* sink: file or syslog */
    bool all;                      /* events denied: denied, all */
    const char *path;              /* path: the file, or syslog's socket (/dev/log) */
    int facility;                  /* facility authpriv */
    uint64_t queue_bytes_max;      /* maxQueueBytes 1MiB */
} tn_settings_audit;

enum {
    TN_SERVICE_FRONTEND,
    TN_SERVICE_HISTORY,
    TN_SERVICE_MATCHING,
    TN_SERVICE_WORKER,
    TN_SERVICE_COUNT
};
const char *tn_service_name(uint32_t service); /* as the configuration calls the role */
#define TN_SETTINGS_STORES_MAX 16u
#define TN_SETTINGS_LIST_MAX 32u

typedef struct tn_settings {
    tn_config_tree *tree; /* owns every text below */
    tn_arena *arena;

    tn_log_level log_level; /* log.level info: debug, info, warn, error, never */
    bool log_json;          /* log.format text: text, json */
    uint64_t threads;       /* threads 0: one loop a processor, 64 at most */

    tn_settings_service services[TN_SERVICE_COUNT];

    /* global.membership.enabled false: several processes make one cluster.  Implied by --role. */
    bool membership;
    const char *
        broadcast_ip; /* global.membership.broadcastAddress: what others are told; NULL: bindOnIP */
    const char *seeds
        [TN_SETTINGS_LIST_MAX]; /* global.membership.seeds: "ip:port" of members' membership ports */
    size_t seeds_count;
    /* global.membership.localSockets: processes of this machine call each other by local sockets */
    bool membership_local;
    /* global.membership.records: others are found by their records in the store, too */
    bool membership_records;
    /* services.frontend.rpc.httpAdditionalForwardedHeaders */
    const char *http_forwarded[TN_SETTINGS_LIST_MAX];
    size_t http_forwarded_count;

    tn_settings_tls tls; /* global.tls */

    const char *default_store;           /* persistence.defaultStore */
    const char *visibility_store;        /* persistence.visibilityStore */
    const char *second_visibility_store; /* persistence.secondaryVisibilityStore; NULL: none */
    uint64_t history_shards; /* persistence.numHistoryShards 512; fixed at a store's first start */
    tn_settings_plugin stores[TN_SETTINGS_STORES_MAX]; /* persistence.datastores.NAME */
    size_t stores_count;
    /* The two that are used; set when there was no problem. */
    const tn_settings_plugin *store, *visibility;
    const tn_settings_plugin *second_visibility; /* NULL: none */

    tn_settings_plugin claim_mapper; /* authorization.claimMapper; must be given */
    tn_settings_plugin authorizer;   /* authorization.authorizer; must be given */
    const char *auth_header;         /* authorization.authHeaderName "authorization"; lower case */
    const char *auth_audience;       /* authorization.audience "": of no call */
    const char *auth_extra_header;   /* authorization.authExtraHeaderName "authorization-extras" */
    tn_settings_audit audit;

    /* plugins.dirs, default: the installed folder only. */
    const char *plugin_dirs[TN_SETTINGS_LIST_MAX];
    size_t plugin_dirs_count;

    const char *metrics_ip; /* metrics.prometheus.listenAddress "ip:port"; NULL: no metrics port */
    uint64_t metrics_port;

    const char *dynamic_config_path; /* dynamicConfigClient.filepath; NULL: none */
    uint64_t dynamic_config_poll_ns; /* dynamicConfigClient.pollInterval 10s, at least 5s */

    const char *control_socket; /* control.socket: where tenonctl reload is heard; NULL: nowhere */

    uint64_t cache_bytes_max; /* cache.maxBytes 64MiB: workflows in memory, all loops together */

    uint64_t rpc_message_bytes_max;  /* rpc.maxMessageBytes 4MiB; 64KiB to 64MiB */
    uint64_t rpc_request_memory_max; /* rpc.maxRequestMemory 64MiB: arena of one call */
    uint64_t rpc_streams_max;        /* rpc.maxStreamsPerConnection 1000 */
    uint64_t rpc_connections_max;    /* rpc.maxConnections 20000 */
    uint64_t rpc_drain_ns;           /* rpc.drainTimeout 10s: for calls in flight at shut-down */

    uint64_t store_timeout_ns;      /* limits.storeTimeout 10s: of one read or commit */
    uint64_t visibility_timeout_ns; /* limits.visibilityTimeout 10s */
    uint64_t auth_timeout_ns;       /* limits.authTimeout 5s: mapper and authorizer together */

    /* namespaces.create: made at start when missing. */
    const char *create_namespaces[TN_SETTINGS_LIST_MAX];
    size_t create_namespaces_count;
    uint64_t create_retention_ns; /* namespaces.retention 72h: of those */
} tn_settings;

/* Reads tenon.yaml.  All problems go into `problems`; *out is set (to be destroyed) only with
 * TN_OK. Plugin stanzas are not looked into beyond `plugin` and `sha256`. */
tn_status tn_settings_load(const char *path, tn_config_problems *problems,
                           tn_settings **out) TN_WARN_UNUSED;
tn_status tn_settings_parse(const char *name, tn_blob yaml, tn_config_problems *problems,
                            tn_settings **out) TN_WARN_UNUSED;
void tn_settings_destroy(tn_settings *settings); /* NULL allowed */

/* settings_audit.c: a part of the above. */
void tn_settings_audit_read(const tn_config *root, tn_config_problems *problems,
                            tn_settings_audit *audit);

/* start-dev: the same settings from flags, by way of the YAML they stand for (so that a complaint
 * names a line of "start-dev", which tn_settings_dev_yaml can show). */
typedef struct tn_settings_dev_options {
    const char *ip;        /* 127.0.0.1 */
    uint64_t port;         /* 7233; the other services have no ports of their own in one process */
    uint64_t metrics_port; /* 0: none */
    const char *db_filename;       /* for the stores; visibility's has ".visibility" behind */
    const char *log_level;         /* warn */
    const char *log_format;        /* text */
    const char *plugin_dir;        /* NULL: the installed folder */
    uint64_t threads;              /* 0: one a processor */
    const char *const *namespaces; /* besides "default" */
    size_t namespaces_count;
    const char *dynamic_config_path; /* NULL: none */
} tn_settings_dev_options;
void tn_settings_dev_options_default(tn_settings_dev_options *options);
void tn_settings_dev_yaml(const tn_settings_dev_options *options, tn_buf *out);
tn_status tn_settings_dev(const tn_settings_dev_options *options, tn_config_problems *problems,
                          tn_settings **out) TN_WARN_UNUSED;

#endif
