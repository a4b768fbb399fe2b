/* SPDX-License-Identifier: MIT */
/* tenond: command line, start in order, wait, end in the opposite order.  The only room that sees the roles. */
#ifndef TN_SERVER_SERVER_H
#define TN_SERVER_SERVER_H

#include "base/base.h"
#include "config/settings.h"
#include "rpc/tls.h"

#define TN_ARGS_LIST_MAX 32

typedef struct tn_args {
    enum {
        TN_CMD_START_DEV,
        TN_CMD_SERVE,
        TN_CMD_CHECK_CONFIG,
        TN_CMD_VERSION,
        TN_CMD_HELP
    } command;
    const char *config_path;
    tn_settings_dev_options dev;
    const char *namespaces[TN_ARGS_LIST_MAX];
    size_t n_namespaces;
    const char *search_attributes[TN_ARGS_LIST_MAX]; /* "NAME=Type" */
    size_t n_search_attributes;
    const char *dynamic_values[TN_ARGS_LIST_MAX]; /* "key=value" */
    size_t n_dynamic_values;
    uint64_t http_port;                     /* 0: not asked for */
    bool any_role, roles[TN_SERVICE_COUNT]; /* --role; without it, those that the config names */
} tn_args;

/* 0: go on; else the exit status, the reason has been printed. */
int tn_args_parse(int argc, char **argv, tn_args *out);

/* ---- cluster.c: this process among others ---- */
/* [main] The internal ports of the roles, and membership, when several processes make one cluster. */
bool tn_cluster_wanted(const tn_args *args, const tn_settings *settings);
bool tn_cluster_has(const tn_args *args, const tn_settings *settings, uint32_t service);
/* Of a process of a cluster: false after complaints. */
bool tn_cluster_check(const tn_args *args, const tn_settings *settings,
                      tn_config_problems *problems);
/* Where its roles listen, for people: "history 10.0.0.1:7234, worker 10.0.0.1:7239". */
void tn_cluster_at(const tn_args *args, const tn_settings *settings, char *text, size_t size);
tn_status tn_cluster_open(const tn_args *args, const tn_settings *settings, tn_tls *tls,
                          tn_error *err) TN_WARN_UNUSED;
tn_status tn_cluster_join(const tn_args *args, const tn_settings *settings,
                          tn_error *err) TN_WARN_UNUSED;
/* long polls of this process' callers, at other hosts, are answered */
void tn_cluster_end_waits(void);
void tn_cluster_drain(void);                    /* out of the rings; what is ours goes to others */
void tn_cluster_close_ports(uint64_t grace_ns); /* calls of other hosts end */
void tn_cluster_leave(void);

/* Runs the server until a signal ends it; the exit status. */
int tn_server_run(const tn_args *args);

#endif
