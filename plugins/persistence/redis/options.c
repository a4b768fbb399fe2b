/* SPDX-License-Identifier: MIT */
/* The plugin's configuration, read and checked, with the TLS context that it asks for. */
#include "private.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct source {
    const tn_host *host;
    const tn_config *cfg;
    tn_error *err;
} source;

static tn_status complain(const source *s, const char *path, const char *text)
{
    s->host->cfg_complain(s->cfg, path, text, s->err);
    return TN_EINVALID;
}

/* Not set is no error: the value stays what it is. */
static tn_status unless_set(tn_status status) { return status == TN_ENOTFOUND ? TN_OK : status; }

static tn_status get_str(const source *s, const char *path, tn_str *out)
{
    return unless_set(s->host->cfg_str(s->cfg, path, out, s->err));
}

static tn_status get_secret(const source *s, const char *path, tn_str *out)
{
    return unless_set(s->host->cfg_secret(s->cfg, path, out, s->err));
}

static tn_status get_bool(const source *s, const char *path, bool *out)
{
    int32_t value = *out;
    tn_status status = unless_set(s->host->cfg_bool(s->cfg, path, &value, s->err));
    *out = value != 0;
    return status;
}

static tn_status get_i64(const source *s, const char *path, int64_t most, int64_t *out)
{
    tn_status status = unless_set(s->host->cfg_i64(s->cfg, path, out, s->err));
    if (status != TN_OK || (*out >= 0 && *out <= most))
        return status;
    char text[80];
    snprintf(text, sizeof text, "%lld is not within 0 to %lld", (long long)*out, (long long)most);
    return complain(s, path, text);
}

static tn_status get_duration(const source *s, const char *path, uint64_t *out)
{
    tn_status status = unless_set(s->host->cfg_dur_ns(s->cfg, path, out, s->err));
    if (status == TN_OK && (*out < RD_MS || *out > 600 * RD_SEC))
        return complain(s, path, "is not within 1ms and 10m");
    return status;
}

/* ---- addresses ---------------------------------------------------------------------------------- */

/* "host:port", "[v6]:port", "host", or the absolute path of a socket. */
static tn_status parse_endpoint(const source *s, const char *path, tn_str text, uint16_t port,
                                rd_endpoint *out)
{
    char copy[sizeof out->host];
    if (text.n == 0 || text.n >= sizeof copy || memchr(text.p, 0, text.n))
        return complain(s, path, "is not an address\n  fix: host:port");
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    *out = (rd_endpoint){.port = port};
    if (copy[0] == '/') {
        if (text.n >= 108)
            return complain(s, path, "the path of a socket has 107 bytes at most");
        out->port = 0;
        memcpy(out->host, copy, text.n + 1);
        return TN_OK;
    }
    char *host = copy, *colon = strrchr(copy, ':');
    if (copy[0] == '[') {
        char *end = strchr(copy, ']');
        if (!end || (end[1] && end[1] != ':'))
            return complain(s, path, "is not an address\n  fix: [v6 address]:port");
        *end = '\0';
        host = copy + 1;
        colon = end[1] ? end + 1 : NULL;
    } else if (colon && strchr(copy, ':') != colon) {
        return complain(s, path, "write a v6 address in brackets\n  fix: [v6 address]:port");
    }
    if (colon) {
        char *end = NULL;
        *colon = '\0';
        unsigned long number = strtoul(colon + 1, &end, 10);
        if (!colon[1] || *end || number < 1 || number > 65535)
            return complain(s, path, "has no port within 1 and 65535");
        out->port = (uint16_t)number;
    }
    if (!host[0])
        return complain(s, path, "is not an address\n  fix: host:port");
    memcpy(out->host, host, strlen(host) + 1);
    return TN_OK;
}

static tn_status read_list(const source *s, const char *key, uint16_t port, rd_options *out)
{
    size_t n = s->host->cfg_count(s->cfg, key);
    if (n > RD_ENDPOINTS_MAX)
        return complain(s, key, "has more than 32 entries");
    for (size_t i = 0; i < n; i++) {
        char path[64];
        tn_str text = {0};
        snprintf(path, sizeof path, "%s.%zu", key, i);
        tn_status status = s->host->cfg_str(s->cfg, path, &text, s->err);
        if (status == TN_OK)
            status = parse_endpoint(s, path, text, port, &out->seeds[i]);
        if (status != TN_OK)
            return status;
    }
    out->n_seeds = (uint32_t)n;
    return TN_OK;
}

static tn_status read_where(const source *s, rd_options *o)
{
    tn_str addr = {0};
    size_t sentinels = s->host->cfg_count(s->cfg, "sentinels");
    size_t cluster = s->host->cfg_count(s->cfg, "cluster");
    tn_status status = get_str(s, "connectAddr", &addr);
    if (status != TN_OK)
        return status;
    if ((addr.n != 0) + (sentinels != 0) + (cluster != 0) != 1)
        return complain(s,
                        addr.n      ? "connectAddr"
                        : sentinels ? "sentinels"
                                    : "connectAddr",
                        "exactly one of connectAddr, sentinels and cluster says where Redis is\n"
                        "  fix: connectAddr: 127.0.0.1:6379");
    if (sentinels) {
        o->mode = RD_SENTINEL;
        if (get_str(s, "masterName", &o->master_name) != TN_OK || o->master_name.n == 0)
            return complain(s, "masterName",
                            "is not set\n  fix: the name that the sentinels give the master");
        return read_list(s, "sentinels", 26379, o);
    }
    if (cluster) {
        o->mode = RD_CLUSTER;
        return read_list(s, "cluster", 6379, o);
    }
    o->n_seeds = 1;
    return parse_endpoint(s, "connectAddr", addr, 6379, &o->seeds[0]);
}

/* ---- TLS ---------------------------------------------------------------------------------------- */

static tn_status tls_problem(const source *s, const char *path, const char *what)
{
    char text[200];
    unsigned long code = ERR_get_error();
    const char *why = code ? ERR_reason_error_string(code) : NULL;
    snprintf(text, sizeof text, "%s%s%s", what, why ? ": " : "", why ? why : "");
    ERR_clear_error();
    return complain(s, path, text);
}

static const char *file_name(tn_str path, char *out, size_t size)
{
    snprintf(out, size, "%.*s", (int)path.n, path.p ? path.p : "");
    return out;
}

static tn_status load_files(const source *s, rd_options *o, tn_str ca, tn_str cert, tn_str key)
{
    char name[4096];
    if (ca.n && SSL_CTX_load_verify_locations(o->tls, file_name(ca, name, sizeof name), NULL) != 1)
        return tls_problem(s, "tls.caFile", "cannot be read");
    if (!ca.n && SSL_CTX_set_default_verify_paths(o->tls) != 1)
        return tls_problem(s, "tls.caFile", "the system's authorities cannot be read");
    if ((cert.n != 0) != (key.n != 0))
        return complain(s, cert.n ? "tls.certFile" : "tls.keyFile",
                        "certFile and keyFile go together");
    if (!cert.n)
        return TN_OK;
    if (SSL_CTX_use_certificate_chain_file(o->tls, file_name(cert, name, sizeof name)) != 1)
        return tls_problem(s, "tls.certFile", "cannot be read");
    if (SSL_CTX_use_PrivateKey_file(o->tls, file_name(key, name, sizeof name), SSL_FILETYPE_PEM) !=
        1)
        return tls_problem(s, "tls.keyFile", "cannot be read, or is not of that certificate");
    return TN_OK;
}

static tn_status read_tls(const source *s, rd_options *o)
{
    tn_str ca = {0}, cert = {0}, key = {0}, name = {0};
    bool enabled = false;
    o->tls_verify = true;
    tn_status status = get_bool(s, "tls.enabled", &enabled);
    if (status == TN_OK)
        status = get_bool(s, "tls.enableHostVerification", &o->tls_verify);
    if (status == TN_OK)
        status = get_str(s, "tls.caFile", &ca);
    if (status == TN_OK)
        status = get_str(s, "tls.certFile", &cert);
    if (status == TN_OK)
        status = get_str(s, "tls.keyFile", &key);
    if (status == TN_OK)
        status = get_str(s, "tls.serverName", &name);
    if (status != TN_OK)
        return status;
    if (!enabled)
        return ca.n || cert.n || key.n ? complain(s, "tls", "has files, yet enabled is not true")
                                       : TN_OK;
    if (name.n >= sizeof o->tls_name)
        return complain(s, "tls.serverName", "is too long");
    if (name.n)
        memcpy(o->tls_name, name.p, name.n);
    if (o->seeds[0].port == 0)
        return complain(s, "tls.enabled", "a socket of this machine has no TLS");
    o->tls = SSL_CTX_new(TLS_client_method());
    if (!o->tls)
        return tls_problem(s, "tls", "cannot be set up");
    SSL_CTX_set_min_proto_version(o->tls, TLS1_2_VERSION);
    SSL_CTX_set_mode(o->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return load_files(s, o, ca, cert, key);
}

/* ---- all ---------------------------------------------------------------------------------------- */

static tn_status read_who(const source *s, rd_options *o)
{
    tn_status status = get_str(s, "user", &o->user);
    if (status == TN_OK)
        status = get_secret(s, "password", &o->password);
    if (status == TN_OK)
        status = get_str(s, "sentinelUser", &o->sentinel_user);
    if (status == TN_OK)
        status = get_secret(s, "sentinelPassword", &o->sentinel_password);
    if (status == TN_OK && o->user.n && !o->password.n)
        return complain(s, "user",
                        "has no password\n  fix: passwordFile: /etc/tenon/redis.password");
    if (status == TN_OK)
        status = get_i64(s, "database", 1 << 20, &o->db);
    if (status == TN_OK && o->db && o->mode == RD_CLUSTER)
        return complain(s, "database", "a cluster has database 0 only");
    if (status == TN_OK)
        status = get_str(s, "keyPrefix", &o->prefix);
    for (size_t i = 0; status == TN_OK && i < o->prefix.n; i++)
        if (o->prefix.p[i] <= ' ' || o->prefix.p[i] == '{' || o->prefix.p[i] == '}')
            return complain(s, "keyPrefix", "may hold no braces, spaces and control characters");
    if (status == TN_OK && o->prefix.n > 100)
        return complain(s, "keyPrefix", "has more than 100 bytes");
    return status;
}

tn_status rd_options_read(const tn_host *host, const tn_config *cfg, rd_options *o, tn_error *err)
{
    source s = {host, cfg, err};
    int64_t replicas = 0;
    *o = (rd_options){.prefix = {"tenon:", 6},
                      .wait_ns = RD_SEC,
                      .connect_ns = 2 * RD_SEC,
                      .command_ns = 5 * RD_SEC};
    tn_status status = read_where(&s, o);
    if (status == TN_OK)
        status = read_who(&s, o);
    if (status == TN_OK)
        status = get_bool(&s, "allowVolatile", &o->allow_volatile);
    if (status == TN_OK)
        status = get_bool(&s, "autoSetup", &o->auto_setup);
    if (status == TN_OK)
        status = get_i64(&s, "waitReplicas", 16, &replicas);
    if (status == TN_OK)
        status = get_duration(&s, "waitTimeout", &o->wait_ns);
    if (status == TN_OK)
        status = get_duration(&s, "connectTimeout", &o->connect_ns);
    if (status == TN_OK)
        status = get_duration(&s, "commandTimeout", &o->command_ns);
    o->wait_replicas = (uint32_t)replicas;
    if (status == TN_OK)
        status = read_tls(&s, o);
    if (status != TN_OK)
        rd_options_done(o);
    return status;
}

void rd_options_done(rd_options *options)
{
    SSL_CTX_free(options->tls);
    options->tls = NULL;
}
