/* SPDX-License-Identifier: MIT */
/* global.tls of tenon.yaml into its struct.  Files are not opened here. */
#include "config/settings_tls.h"

#include <string.h>

#define SERVER_KEYS(at) \
    at ".certFile", at ".keyFile", at ".certData", at ".keyData", at ".keyDataFile", \
        at ".keyDataEnv", at ".requireClientAuth", at ".clientCaFiles", at ".clientCaData", \
        at ".clientCAFiles", at ".clientCAData"
#define CLIENT_KEYS(at) \
    at ".serverName", at ".disableHostVerification", at ".forceTLS", at ".rootCaFiles", \
        at ".rootCaData", at ".rootCAFiles", at ".rootCAData"

static const char *const all_paths[] = {
    SERVER_KEYS("global.tls.frontend.server"),  SERVER_KEYS("global.tls.frontend.hostOverrides.*"),
    SERVER_KEYS("global.tls.internode.server"), CLIENT_KEYS("global.tls.frontend.client"),
    CLIENT_KEYS("global.tls.internode.client"),
};
static bool all_open[TN_COUNT_OF(all_paths)];

size_t tn_settings_tls_paths(const char *const **paths, const bool **open)
{
    for (size_t i = 0; i < TN_COUNT_OF(all_paths); i++)
        all_open[i] = strstr(all_paths[i], "CaFiles") || strstr(all_paths[i], "CAFiles") ||
                      strstr(all_paths[i], "CaData") || strstr(all_paths[i], "CAData") ||
                      strstr(all_paths[i], "keyData"); /* parts of a key are not named */
    *paths = all_paths;
    *open = all_open;
    return TN_COUNT_OF(all_paths);
}

static tn_str read_text(const tn_config *at, const char *key, tn_config_problems *problems)
{
    tn_error err = {0};
    tn_str text = {0};
    if (tn_config_str(at, key, &text, &err) == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    return text;
}

static bool read_bool(const tn_config *at, const char *key, tn_config_problems *problems)
{
    tn_error err = {0};
    int32_t on = 0;
    if (tn_config_bool(at, key, &on, &err) == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    return on != 0;
}

/* NAMEFile or NAMEData; a secret may also be in a variable or in a file of base64. */
static void read_pem(const tn_config *at, const char *file_key, const char *data_key, bool secret,
                     tn_config_problems *problems, tn_settings_pem *out)
{
    tn_error err = {0};
    tn_str file = read_text(at, file_key, problems);
    *out = (tn_settings_pem){
        .file = file.n ? file.p : NULL, .at = at, .key = file.n ? file_key : data_key};
    if (!secret)
        out->data = read_text(at, data_key, problems);
    else if (tn_config_secret(at, data_key, &out->data, &err) == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    if (out->file && out->data.n)
        tn_config_complain_at(problems, at, data_key, "remove one of the two",
                              "is given besides %s", file_key);
}

/* A list, or one text; of either spelling. */
static void read_list(const tn_config *at, const char *const spellings[2], bool files,
                      tn_config_problems *problems, tn_settings_pems *out)
{
    for (size_t i = 0; i < 2; i++) {
        const tn_config *list = tn_config_get(at, spellings[i]);
        bool one = tn_config_kind_of(list) == TN_CONFIG_SCALAR;
        if (tn_config_kind_of(list) == TN_CONFIG_MAP)
            tn_config_complain_at(problems, list, NULL, NULL, "wants a list, such as [a, b]");
        for (const tn_config *node = one ? list : tn_config_first(list); node;
             node = one ? NULL : tn_config_next(node)) {
            tn_str text = tn_config_scalar(node);
            if (!text.n)
                tn_config_complain_at(problems, node, NULL, NULL, "wants a text");
            else if (out->n == TN_SETTINGS_CAS_MAX)
                tn_config_complain_at(problems, node, NULL,
                                      "put several certificates into one file",
                                      "more than %u entries", TN_SETTINGS_CAS_MAX);
            else
                out->list[out->n++] = (tn_settings_pem){.file = files ? text.p : NULL,
                                                        .data = files ? (tn_str){0} : text,
                                                        .at = at,
                                                        .key = spellings[i]};
        }
    }
}

static void read_cas(const tn_config *at, const char *const files[2], const char *const data[2],
                     tn_config_problems *problems, tn_settings_pems *out)
{
    read_list(at, files, true, problems, out);
    size_t n_files = out->n;
    read_list(at, data, false, problems, out);
    if (n_files && out->n > n_files)
        tn_config_complain_at(problems, at, data[0], "remove one of the two", "is given besides %s",
                              files[0]);
}

static void read_server(const tn_config *at, tn_config_problems *problems,
                        tn_settings_tls_server *out)
{
    static const char *const ca_files[] = {"clientCaFiles", "clientCAFiles"};
    static const char *const ca_data[] = {"clientCaData", "clientCAData"};
    if (tn_config_kind_of(at) == TN_CONFIG_NULL)
        return;
    if (tn_config_kind_of(at) != TN_CONFIG_MAP) {
        tn_config_complain_at(problems, at, NULL, "write certFile and keyFile below it",
                              "wants a map");
        return;
    }
    read_pem(at, "certFile", "certData", false, problems, &out->cert);
    read_pem(at, "keyFile", "keyData", true, problems, &out->key);
    read_cas(at, ca_files, ca_data, problems, &out->client_cas);
    out->require_client_auth = read_bool(at, "requireClientAuth", problems);
    bool cert = out->cert.file || out->cert.data.n, key = out->key.file || out->key.data.n;
    if (cert != key)
        tn_config_complain_at(problems, at, cert ? "keyFile" : "certFile",
                              cert ? "name the file of the certificate's private key"
                                   : "name the file of the key's certificate",
                              "is not set, but %s is", cert ? out->cert.key : out->key.key);
    else if (!cert && (out->require_client_auth || out->client_cas.n || out->host))
        tn_config_complain_at(problems, at, "certFile", "name the certificate and its key",
                              "is not set");
    if (out->require_client_auth && !out->client_cas.n)
        tn_config_complain_at(problems, at, "clientCaFiles",
                              "name the authorities that sign your clients' certificates",
                              "is not set, but requireClientAuth is");
    if (cert && key)
        out->at = at;
}

static void read_client(const tn_config *at, tn_config_problems *problems,
                        tn_settings_tls_client *out)
{
    static const char *const ca_files[] = {"rootCaFiles", "rootCAFiles"};
    static const char *const ca_data[] = {"rootCaData", "rootCAData"};
    if (tn_config_kind_of(at) == TN_CONFIG_NULL)
        return;
    if (tn_config_kind_of(at) != TN_CONFIG_MAP) {
        tn_config_complain_at(problems, at, NULL, "write serverName and rootCaFiles below it",
                              "wants a map");
        return;
    }
    out->at = at;
    tn_str name = read_text(at, "serverName", problems);
    out->server_name = name.n ? name.p : NULL;
    read_cas(at, ca_files, ca_data, problems, &out->root_cas);
    out->disable_host_verification = read_bool(at, "disableHostVerification", problems);
    out->force = read_bool(at, "forceTLS", problems);
}

static void read_hosts(const tn_config *map, tn_arena *arena, tn_config_problems *problems,
                       tn_settings_tls_group *out)
{
    if (tn_config_kind_of(map) == TN_CONFIG_NULL)
        return;
    if (tn_config_kind_of(map) != TN_CONFIG_MAP) {
        tn_config_complain_at(problems, map, NULL, "write a host name and its certFile and keyFile",
                              "wants a map");
        return;
    }
    if (!out->server.at)
        tn_config_complain_at(problems, map, NULL,
                              "set global.tls.frontend.server, for clients that name another host",
                              "is set, but the port has no certificate of its own");
    out->hosts = tn_arena_zalloc(arena, TN_SETTINGS_HOSTS_MAX * sizeof(out->hosts[0]));
    TN_ASSERT(out->hosts);
    for (const tn_config *node = tn_config_first(map); node; node = tn_config_next(node)) {
        if (out->n_hosts == TN_SETTINGS_HOSTS_MAX) {
            tn_config_complain_at(problems, node, NULL, NULL, "more than %u hosts",
                                  TN_SETTINGS_HOSTS_MAX);
            break;
        }
        tn_settings_tls_server *host = &out->hosts[out->n_hosts];
        host->host = tn_config_key(node).p;
        read_server(node, problems, host);
        out->n_hosts += host->at != NULL;
    }
}

void tn_settings_tls_read(const tn_config *root, tn_arena *arena, tn_config_problems *problems,
                          tn_settings_tls *out)
{
    const tn_config *tls = tn_config_get(root, "global.tls");
    read_server(tn_config_get(tls, "frontend.server"), problems, &out->frontend.server);
    read_client(tn_config_get(tls, "frontend.client"), problems, &out->frontend.client);
    read_hosts(tn_config_get(tls, "frontend.hostOverrides"), arena, problems, &out->frontend);
    read_server(tn_config_get(tls, "internode.server"), problems, &out->internode.server);
    read_client(tn_config_get(tls, "internode.client"), problems, &out->internode.client);
    if (out->internode.client.at && !out->internode.server.at)
        tn_config_complain_at(problems, out->internode.client.at, NULL,
                              "set global.tls.internode.server, too",
                              "is set, but the ports that it calls are plain");
    if ((out->warning_ns || out->error_ns) && !out->check_ns)
        tn_config_complain_at(problems, tls, "expirationChecks.checkInterval",
                              "write a duration such as 1h",
                              "is not set: nothing would be checked");
}
