/* SPDX-License-Identifier: MIT */
/* Settings in the server's words to parameters in libpq's.  Whatever is wrong is said with its place and what to
 * write instead; what libpq alone knows (services, sslmode ...) goes through by its own name. */
#include "pg.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PARAMETERS_MAX 64
#define ADDRESSES_MAX 16
#define SYSTEM_CAS "/etc/ssl/certs/ca-certificates.crt"

typedef struct reader {
    const tn_host *host;
    const tn_config *cfg;
    tn_pg_options *out;
    tn_error *err;
    tn_status status; /* the first thing that went wrong */
    bool service, failed_memory;
} reader;

static void complain(reader *r, const char *key, const char *text)
{
    if (r->status != TN_OK)
        return;
    r->host->cfg_complain(r->cfg, key, text, r->err);
    r->status = TN_EINVALID;
}

static char *copy(reader *r, const char *p, size_t n)
{
    char *s = malloc(n + 1);
    if (!s) {
        r->failed_memory = true;
        return NULL;
    }
    memcpy(s, p, n);
    s[n] = '\0';
    return s;
}

static const char *value_of(const tn_pg_options *o, const char *keyword)
{
    for (size_t i = 0; i < o->n; i++)
        if (strcmp(o->keywords[i], keyword) == 0)
            return o->values[i];
    return NULL;
}

static void set(reader *r, const char *keyword, const char *value, size_t n)
{
    tn_pg_options *o = r->out;
    char *k = copy(r, keyword, strlen(keyword)), *v = copy(r, value, n);
    if (!k || !v || o->n >= PARAMETERS_MAX) {
        free(k);
        free(v);
        return;
    }
    o->keywords[o->n] = k;
    o->values[o->n++] = v;
}

static void set_default(reader *r, const char *keyword, const char *value)
{
    if (!value_of(r->out, keyword))
        set(r, keyword, value, strlen(value));
}

static bool text(reader *r, const char *key, tn_str *out)
{
    *out = (tn_str){0};
    if (r->status != TN_OK)
        return false;
    tn_status status = r->host->cfg_str(r->cfg, key, out, r->err);
    if (status != TN_OK && status != TN_ENOTFOUND)
        r->status = status;
    return status == TN_OK && out->n > 0;
}

static bool truth(reader *r, const char *key, bool otherwise)
{
    int32_t value = otherwise;
    if (r->status != TN_OK)
        return otherwise;
    tn_status status = r->host->cfg_bool(r->cfg, key, &value, r->err);
    if (status != TN_OK && status != TN_ENOTFOUND)
        r->status = status;
    return status == TN_OK ? value != 0 : otherwise;
}

/* ---- libpq's own parameters --------------------------------------------------------------------- */

/* Numbers and truth values are allowed without quotes. */
static bool attribute(reader *r, const char *key, char *buf, size_t size)
{
    tn_str s = {0};
    int64_t number = 0;
    tn_error ignored = {0};
    if (r->host->cfg_i64(r->cfg, key, &number, &ignored) == TN_OK) {
        snprintf(buf, size, "%lld", (long long)number);
        return true;
    }
    tn_status status = r->host->cfg_str(r->cfg, key, &s, r->err);
    if (status == TN_ENOTFOUND)
        return false;
    if (status != TN_OK) {
        r->status = status;
        return false;
    }
    snprintf(buf, size, "%.*s", (int)s.n, s.p);
    return true;
}

static void read_attributes(reader *r)
{
    static const char *const ours[][2] = {{"client_encoding", "is always UTF8: leave it out"},
                                          {"replication", "has no place here: leave it out"},
                                          {"password", "belongs under sql.password"}};
    size_t wanted = r->host->cfg_count(r->cfg, "sql.connectAttributes"), found = 0;
    if (!wanted)
        return;
    PQconninfoOption *known = PQconndefaults();
    for (PQconninfoOption *k = known; k && k->keyword && r->status == TN_OK; k++) {
        char key[96], value[1024];
        snprintf(key, sizeof key, "sql.connectAttributes.%s", k->keyword);
        if (!attribute(r, key, value, sizeof value))
            continue;
        found++;
        for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
            if (strcmp(k->keyword, ours[i][0]) == 0)
                complain(r, key, ours[i][1]);
        set(r, k->keyword, value, strlen(value));
    }
    PQconninfoFree(known);
    if (r->status == TN_OK && found < wanted)
        complain(
            r, "sql.connectAttributes",
            "has a key that libpq does not know\n  fix: names as in libpq's connection strings, "
            "such as sslmode, service, target_session_attrs, connect_timeout");
    r->service = value_of(r->out, "service") != NULL;
}

/* ---- addresses ---------------------------------------------------------------------------------- */

static bool is_number(const char *p, size_t n)
{
    long value = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        value = value * 10 + (p[i] - '0');
        if (value > 65535)
            return false;
    }
    return n > 0 && value > 0;
}

/* "h:1", "h", "[::1]:1", "/folder"; appends to both lists. */
static bool split_address(const char *p, size_t n, char *hosts, char *ports, size_t size)
{
    const char *host = p, *port = "5432";
    size_t host_n = n, port_n = 4;
    if (n && p[0] == '[') {
        const char *end = memchr(p, ']', n);
        if (!end)
            return false;
        host = p + 1;
        host_n = (size_t)(end - host);
        size_t rest = n - host_n - 2;
        if (rest && (end[1] != ':' || rest < 2))
            return false;
        if (rest)
            port = end + 2, port_n = rest - 1;
    } else {
        const char *colon = memchr(p, ':', n);
        if (colon && memchr(colon + 1, ':', n - (size_t)(colon - p) - 1))
            colon = NULL; /* an IPv6 address without brackets: no port */
        if (colon) {
            host_n = (size_t)(colon - p);
            port = colon + 1;
            port_n = n - host_n - 1;
        }
    }
    if (!host_n || !is_number(port, port_n))
        return false;
    size_t hn = strlen(hosts), pn = strlen(ports);
    int a = snprintf(hosts + hn, size - hn, "%s%.*s", hn ? "," : "", (int)host_n, host);
    int b = snprintf(ports + pn, size - pn, "%s%.*s", pn ? "," : "", (int)port_n, port);
    return a > 0 && b > 0 && (size_t)a < size - hn && (size_t)b < size - pn;
}

static void read_address(reader *r)
{
    tn_str addr;
    char hosts[1024] = "", ports[256] = "";
    bool in_attributes = value_of(r->out, "host") || value_of(r->out, "hostaddr");
    if (!text(r, "sql.connectAddr", &addr)) {
        if (!r->service && !in_attributes)
            complain(r, "sql.connectAddr", "is not set\n  fix: connectAddr: 127.0.0.1:5432");
        return;
    }
    if (in_attributes) {
        complain(r, "sql.connectAddr",
                 "is set, and host or hostaddr in connectAttributes as well\n  fix: one of them");
        return;
    }
    const char *p = addr.p, *end = addr.p + addr.n;
    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma ? comma : end;
        while (p < stop && *p == ' ')
            p++;
        size_t n = (size_t)(stop - p);
        while (n && p[n - 1] == ' ')
            n--;
        if (!split_address(p, n, hosts, ports, sizeof ports)) {
            complain(
                r, "sql.connectAddr",
                "is not HOST:PORT, or a list of them\n  fix: connectAddr: \"db1:5432,db2:5432\"");
            return;
        }
        p = comma ? comma + 1 : end;
    }
    set(r, "host", hosts, strlen(hosts));
    set(r, "port", ports, strlen(ports));
}

/* ---- TLS ---------------------------------------------------------------------------------------- */

static bool is_address(const char *list)
{
    char one[64];
    unsigned char bin[16];
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ",");
        if (n >= sizeof one)
            return false;
        memcpy(one, p, n);
        one[n] = '\0';
        if (inet_pton(AF_INET, one, bin) != 1 && inet_pton(AF_INET6, one, bin) != 1)
            return false;
        p += n + (p[n] == ',');
    }
    return true;
}

/* libpq compares the certificate with `host`; where it connects to is then `hostaddr`. */
static void apply_server_name(reader *r, tn_str name)
{
    tn_pg_options *o = r->out;
    const char *hosts = value_of(o, "host");
    if (!hosts || !is_address(hosts)) {
        complain(r, "sql.tls.serverName",
                 "needs connectAddr as a number\n  fix: connectAddr: 10.0.0.5:5432, or leave "
                 "serverName out");
        return;
    }
    char names[1024] = "";
    size_t used = 0;
    for (const char *p = hosts;; p++) {
        if (*p == ',' || !*p) {
            int n = snprintf(names + used, sizeof names - used, "%s%.*s", used ? "," : "",
                             (int)name.n, name.p);
            used += n > 0 ? (size_t)n : 0;
            if (used >= sizeof names)
                return complain(r, "sql.tls.serverName", "is too long");
        }
        if (!*p)
            break;
    }
    set(r, "hostaddr", hosts, strlen(hosts));
    for (size_t i = 0; i < o->n; i++)
        if (strcmp(o->keywords[i], "host") == 0) {
            char *v = copy(r, names, used);
            if (v) {
                free((char *)(uintptr_t)o->values[i]);
                o->values[i] = v;
            }
        }
}

static void read_tls(reader *r)
{
    tn_str ca, cert, key, name;
    bool enabled = truth(r, "sql.tls.enabled", false);
    bool verify = truth(r, "sql.tls.enableHostVerification", true);
    bool has_ca = text(r, "sql.tls.caFile", &ca), has_cert = text(r, "sql.tls.certFile", &cert);
    bool has_key = text(r, "sql.tls.keyFile", &key),
         has_name = text(r, "sql.tls.serverName", &name);
    if (!enabled) {
        if (has_ca || has_cert || has_key || has_name)
            complain(r, "sql.tls", "has settings, yet is not enabled\n  fix: enabled: true");
        return;
    }
    if (value_of(r->out, "sslmode"))
        return complain(r, "sql.tls.enabled",
                        "is set, and sslmode in connectAttributes as well\n  fix: one of them");
    if (has_cert != has_key)
        return complain(r, has_cert ? "sql.tls.keyFile" : "sql.tls.certFile",
                        "is missing\n  fix: certFile and keyFile go together");
    if (!has_ca && verify && access(SYSTEM_CAS, R_OK) == 0) {
        ca = (tn_str){SYSTEM_CAS, sizeof SYSTEM_CAS - 1};
        has_ca = true;
    }
    if (!has_ca && verify && !value_of(r->out, "sslrootcert"))
        return complain(r, "sql.tls.caFile", "is not set\n  fix: caFile: /path/to/ca.pem");
    set_default(r, "sslmode", verify ? "verify-full" : has_ca ? "verify-ca" : "require");
    if (has_ca && !value_of(r->out, "sslrootcert"))
        set(r, "sslrootcert", ca.p, ca.n);
    if (has_cert) {
        set(r, "sslcert", cert.p, cert.n);
        set(r, "sslkey", key.p, key.n);
    }
    if (has_name && verify)
        apply_server_name(r, name);
}

/* ---- all of it ---------------------------------------------------------------------------------- */

static void read_rest(reader *r)
{
    tn_str s;
    tn_pg_options *o = r->out;
    if (text(r, "sql.databaseName", &s))
        set(r, "dbname", s.p, s.n);
    else if (!r->service && !value_of(o, "dbname"))
        complain(r, "sql.databaseName", "is not set\n  fix: databaseName: tenon");
    if (text(r, "sql.user", &s))
        set(r, "user", s.p, s.n);
    if (r->status == TN_OK) {
        tn_status status = r->host->cfg_secret(r->cfg, "sql.password", &s, r->err);
        if (status == TN_OK)
            set(r, "password", s.p, s.n);
        else if (status != TN_ENOTFOUND)
            r->status = status;
    }
    int64_t conns = 20;
    if (r->status == TN_OK) {
        tn_status status = r->host->cfg_i64(r->cfg, "sql.maxConns", &conns, r->err);
        if (status != TN_OK && status != TN_ENOTFOUND)
            r->status = status;
        else if (conns < 1 || conns > 10000)
            complain(r, "sql.maxConns", "is not within 1 to 10000");
    }
    o->max_conns = (uint32_t)conns;
    if (text(r, "sql.schemaName", &s)) {
        if (s.n > 63 || memchr(s.p, '"', s.n) || memchr(s.p, '\0', s.n))
            complain(r, "sql.schemaName", "is not a name of at most 63 bytes without quotes");
        else
            o->schema_name = copy(r, s.p, s.n);
    }
    o->auto_setup = truth(r, "sql.autoSetup", false);
    o->allow_volatile = truth(r, "sql.allowVolatile", false);
}

static void name_place(tn_pg_options *o)
{
    const char *service = value_of(o, "service"), *host = value_of(o, "hostaddr");
    if (!host)
        host = value_of(o, "host");
    const char *port = value_of(o, "port"), *db = value_of(o, "dbname");
    if (!host && service) {
        snprintf(o->place, sizeof o->place, "service %.60s", service);
        return;
    }
    size_t used = 0;
    const char *h = host ? host : "", *p = port ? port : "";
    do { /* host and port lists side by side */
        size_t hn = strcspn(h, ","), pn = strcspn(p, ",");
        int n = snprintf(o->place + used, sizeof o->place - used, "%s%.*s%s%.*s", used ? "," : "",
                         (int)hn, h, pn ? ":" : "", (int)pn, p);
        used += n > 0 ? (size_t)n : 0;
        h += hn + (h[hn] == ',');
        p += pn + (p[pn] == ',');
    } while (*h && used < 100);
    if (used < sizeof o->place)
        snprintf(o->place + used, sizeof o->place - used, "/%.50s", db ? db : "");
}

tn_status tn_pg_options_read(const tn_host *host, const tn_config *cfg, tn_pg_options *out,
                             tn_error *err)
{
    *out = (tn_pg_options){0};
    reader r = {.host = host, .cfg = cfg, .out = out, .err = err};
    out->keywords = calloc(PARAMETERS_MAX + 1, sizeof *out->keywords);
    out->values = calloc(PARAMETERS_MAX + 1, sizeof *out->values);
    if (!out->keywords || !out->values) {
        tn_pg_options_done(out);
        return tn_pg_error(err, TN_EUNAVAILABLE, "out of memory");
    }
    read_attributes(&r);
    read_address(&r);
    read_rest(&r);
    read_tls(&r);
    set_default(&r, "client_encoding", "UTF8");
    set_default(&r, "application_name", "tenon");
    set_default(&r, "connect_timeout", "3");
    set_default(&r, "target_session_attrs", "read-write");
    set_default(&r, "keepalives_idle", "20");
    set_default(&r, "keepalives_interval", "5");
    set_default(&r, "keepalives_count", "3");
    set_default(&r, "tcp_user_timeout", "20000");
    if (r.status == TN_OK && r.failed_memory)
        r.status = tn_pg_error(err, TN_EUNAVAILABLE, "out of memory");
    if (r.status != TN_OK)
        tn_pg_options_done(out);
    else
        name_place(out);
    return r.status;
}

void tn_pg_options_done(tn_pg_options *o)
{
    for (size_t i = 0; i < o->n; i++) {
        if (strcmp(o->keywords[i], "password") == 0)
            explicit_bzero((char *)(uintptr_t)o->values[i], strlen(o->values[i]));
        free((char *)(uintptr_t)o->values[i]);
        free((char *)(uintptr_t)o->keywords[i]);
    }
    free(o->keywords);
    free(o->values);
    free(o->schema_name);
    *o = (tn_pg_options){0};
}
