/* SPDX-License-Identifier: MIT */
/* The subtree "sql" of a mysql datastore, in the words that the reference's configuration has. */
#include "ms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tn_status refuse(const tn_host *host, const tn_config *cfg, const char *key,
                        const char *text, tn_error *err)
{
    host->cfg_complain(cfg, key, text, err);
    return TN_EINVALID;
}

tn_status ms_option_i64(const tn_host *host, const tn_config *cfg, const char *key, int64_t least,
                        int64_t most, int64_t *value, tn_error *err)
{
    tn_status status = host->cfg_i64(cfg, key, value, err);
    if (status == TN_ENOTFOUND)
        return TN_OK;
    if (status != TN_OK)
        return status;
    if (*value >= least && *value <= most)
        return TN_OK;
    char text[120];
    snprintf(text, sizeof text, "%lld is not within %lld to %lld", (long long)*value,
             (long long)least, (long long)most);
    return refuse(host, cfg, key, text, err);
}

static tn_status get_bool(const tn_host *host, const tn_config *cfg, const char *key, bool *out,
                          tn_error *err)
{
    int32_t value = *out;
    tn_status status = host->cfg_bool(cfg, key, &value, err);
    *out = value != 0;
    return status == TN_ENOTFOUND ? TN_OK : status;
}

static tn_status keep(tn_str s, char **out, tn_error *err)
{
    free(*out);
    *out = malloc(s.n + 1);
    if (!*out)
        return ms_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    if (s.n)
        memcpy(*out, s.p, s.n);
    (*out)[s.n] = '\0';
    return TN_OK;
}

/* fallback NULL: it may stay unset. */
static tn_status get_str(const tn_host *host, const tn_config *cfg, const char *key,
                         const char *fallback, char **out, tn_error *err)
{
    tn_str s = {0};
    tn_status status = host->cfg_str(cfg, key, &s, err);
    if (status == TN_ENOTFOUND) {
        if (!fallback)
            return TN_OK;
        s = (tn_str){fallback, strlen(fallback)};
    } else if (status != TN_OK) {
        return status;
    }
    return keep(s, out, err);
}

/* "host", "host:port", "[::1]:port". */
static bool split_addr(const char *p, size_t n, ms_addr *out, tn_error *err)
{
    const char *colon = memchr(p, ':', n), *host = p;
    size_t host_n = n;
    if (n && p[0] == '[') {
        const char *end = memchr(p, ']', n);
        if (!end)
            return false;
        host = p + 1;
        host_n = (size_t)(end - host);
        colon = end + 1 < p + n ? end + 1 : NULL;
        if (colon && *colon != ':')
            return false;
    } else if (colon) {
        host_n = (size_t)(colon - p);
    }
    out->port = 3306;
    if (colon) {
        unsigned port = 0;
        const char *d = colon + 1;
        if (d == p + n)
            return false;
        for (; d < p + n; d++) {
            if (*d < '0' || *d > '9' || port > 65535)
                return false;
            port = port * 10 + (unsigned)(*d - '0');
        }
        if (port == 0 || port > 65535)
            return false;
        out->port = port;
    }
    return host_n && keep((tn_str){host, host_n}, &out->host, err) == TN_OK;
}

static tn_status read_addrs(const tn_host *host, const tn_config *cfg, ms_options *o, tn_error *err)
{
    char *text = NULL;
    tn_status status =
        get_str(host, cfg, "sql.connectAddr",
                o->unix_socket ? "/run/mysqld/mysqld.sock" : "127.0.0.1:3306", &text, err);
    if (status != TN_OK)
        return status;
    if (o->unix_socket) {
        o->addrs[0].host = text;
        o->n_addrs = 1;
        if (text[0] == '/')
            return TN_OK;
        return refuse(host, cfg, "sql.connectAddr", "is not the absolute path of a socket", err);
    }
    for (char *p = text; status == TN_OK; p++) {
        size_t n = strcspn(p, ",");
        while (n && *p == ' ')
            p++, n--;
        if (o->n_addrs == MS_ADDRS_MAX)
            status = refuse(host, cfg, "sql.connectAddr", "has too many addresses", err);
        else if (!split_addr(p, n, &o->addrs[o->n_addrs], err))
            status = refuse(host, cfg, "sql.connectAddr",
                            "is not host:port\n  fix: connectAddr: \"127.0.0.1:3306\"", err);
        else
            o->n_addrs++;
        p += n;
        if (*p != ',')
            break;
    }
    free(text);
    return status;
}

static tn_status read_tls(const tn_host *host, const tn_config *cfg, ms_options *o, tn_error *err)
{
    o->verify = true;
    tn_status status = get_bool(host, cfg, "sql.tls.enabled", &o->tls, err);
    if (status == TN_OK)
        status = get_bool(host, cfg, "sql.tls.enableHostVerification", &o->verify, err);
    if (status == TN_OK)
        status = get_str(host, cfg, "sql.tls.caFile", NULL, &o->ca, err);
    if (status == TN_OK)
        status = get_str(host, cfg, "sql.tls.certFile", NULL, &o->cert, err);
    if (status == TN_OK)
        status = get_str(host, cfg, "sql.tls.keyFile", NULL, &o->key, err);
    if (status == TN_OK)
        status = get_str(host, cfg, "sql.tls.serverName", NULL, &o->server_name, err);
    if (status != TN_OK)
        return status;
    if (!o->cert != !o->key)
        return refuse(host, cfg, o->cert ? "sql.tls.certFile" : "sql.tls.keyFile",
                      "needs both certFile and keyFile", err);
    if (!o->tls && (o->ca || o->cert || o->server_name))
        return refuse(host, cfg, "sql.tls", "is not enabled\n  fix: enabled: true", err);
    if (o->tls && o->unix_socket && o->verify && !o->server_name)
        return refuse(host, cfg, "sql.tls",
                      "a socket has no name to verify\n  fix: serverName, or without tls", err);
    return TN_OK;
}

tn_status ms_options_read(const tn_host *host, const tn_config *cfg, ms_options *o, tn_error *err)
{
    char *protocol = NULL;
    int64_t conns = 20;
    *o = (ms_options){.connect_timeout_ns = 5 * MS_SEC};
    tn_status status = get_str(host, cfg, "sql.connectProtocol", "tcp", &protocol, err);
    if (status == TN_OK) {
        o->unix_socket = strcmp(protocol, "unix") == 0;
        if (!o->unix_socket && strcmp(protocol, "tcp") != 0)
            status = refuse(host, cfg, "sql.connectProtocol", "is neither tcp nor unix", err);
    }
    free(protocol);
    if (status == TN_OK)
        status = read_addrs(host, cfg, o, err);
    if (status == TN_OK)
        status = get_str(host, cfg, "sql.databaseName", NULL, &o->database, err);
    if (status == TN_OK && (!o->database || !o->database[0] || strlen(o->database) > 64))
        status = refuse(host, cfg, "sql.databaseName",
                        o->database && o->database[0] ? "is longer than 64 bytes"
                                                      : "is not set\n  fix: databaseName: tenon",
                        err);
    if (status == TN_OK)
        status = get_str(host, cfg, "sql.user", NULL, &o->user, err);
    if (status == TN_OK && (!o->user || !o->user[0]))
        status = refuse(host, cfg, "sql.user", "is not set\n  fix: user: tenon", err);
    if (status == TN_OK) {
        tn_str password = {0};
        status = host->cfg_secret(cfg, "sql.password", &password, err);
        if (status == TN_OK || status == TN_ENOTFOUND)
            status = keep(password, &o->password, err);
    }
    if (status == TN_OK)
        status = ms_option_i64(host, cfg, "sql.maxConns", 2, 1000, &conns, err);
    o->max_conns = (uint32_t)conns;
    if (status == TN_OK) {
        status = host->cfg_dur_ns(cfg, "sql.connectTimeout", &o->connect_timeout_ns, err);
        if (status == TN_ENOTFOUND)
            status = TN_OK;
    }
    if (status == TN_OK)
        status = read_tls(host, cfg, o, err);
    if (status == TN_OK)
        status = get_bool(host, cfg, "sql.allowVolatile", &o->allow_volatile, err);
    if (status == TN_OK)
        status = get_bool(host, cfg, "sql.autoSetup", &o->auto_setup, err);
    return status;
}

void ms_options_done(ms_options *o)
{
    if (o->password)
        explicit_bzero(o->password, strlen(o->password));
    for (size_t i = 0; i < MS_ADDRS_MAX; i++)
        free(o->addrs[i].host);
    free(o->database);
    free(o->user);
    free(o->password);
    free(o->ca);
    free(o->cert);
    free(o->key);
    free(o->server_name);
    *o = (ms_options){0};
}
