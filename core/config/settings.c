/* SPDX-License-Identifier: MIT */
/* tenon.yaml into the settings struct: a table of scalar settings, then the parts that are not
 * tabular. */
#include "config/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <arpa/inet.h>

#include "config/private.h"

#ifndef TN_PLUGIN_DIR
#define TN_PLUGIN_DIR "/usr/local/lib/tenon/plugins"
#endif

enum row_type { ROW_TEXT, ROW_IP, ROW_NUMBER, ROW_BYTES, ROW_DURATION };
struct row {
    const char *path;
    enum row_type type;
    size_t offset;
    uint64_t min, max;
};

#define AT(member) offsetof(tn_settings, member)
#define HOUR (3600 * TN_SEC)
#define SERVICE_ROWS(name, i) \
    {"services." name ".rpc.bindOnIP", ROW_IP, AT(services[i].bind_ip), 0, 0}, \
        {"services." name ".rpc.grpcPort", ROW_NUMBER, AT(services[i].grpc_port), 0, 65535}, \
        {"services." name ".rpc.membershipPort", ROW_NUMBER, AT(services[i].membership_port), 0, \
         65535}, \
    { \
        "services." name ".rpc.httpPort", ROW_NUMBER, AT(services[i].http_port), 0, 65535 \
    }

static const struct row rows[] = {
    {"threads", ROW_NUMBER, AT(threads), 0, 64},
    SERVICE_ROWS("frontend", TN_SERVICE_FRONTEND),
    SERVICE_ROWS("history", TN_SERVICE_HISTORY),
    SERVICE_ROWS("matching", TN_SERVICE_MATCHING),
    SERVICE_ROWS("worker", TN_SERVICE_WORKER),
    {"persistence.defaultStore", ROW_TEXT, AT(default_store), 0, 0},
    {"persistence.visibilityStore", ROW_TEXT, AT(visibility_store), 0, 0},
    {"persistence.secondaryVisibilityStore", ROW_TEXT, AT(second_visibility_store), 0, 0},
    {"persistence.numHistoryShards", ROW_NUMBER, AT(history_shards), 1, 65536},
    {"dynamicConfigClient.filepath", ROW_TEXT, AT(dynamic_config_path), 0, 0},
    {"dynamicConfigClient.pollInterval", ROW_DURATION, AT(dynamic_config_poll_ns), 5 * TN_SEC,
     24 * HOUR},
    {"global.membership.broadcastAddress", ROW_IP, AT(broadcast_ip), 0, 0},
    {"control.socket", ROW_TEXT, AT(control_socket), 0, 0},
    {"cache.maxBytes", ROW_BYTES, AT(cache_bytes_max), UINT64_C(1) << 16, UINT64_C(1) << 40},
    {"rpc.maxMessageBytes", ROW_BYTES, AT(rpc_message_bytes_max), 64u << 10, 64u << 20},
    {"rpc.maxRequestMemory", ROW_BYTES, AT(rpc_request_memory_max), 1u << 20, UINT64_C(1) << 32},
    {"rpc.maxStreamsPerConnection", ROW_NUMBER, AT(rpc_streams_max), 1, 1000000},
    {"rpc.maxConnections", ROW_NUMBER, AT(rpc_connections_max), 1, 1000000},
    {"rpc.drainTimeout", ROW_DURATION, AT(rpc_drain_ns), 0, HOUR},
    {"limits.storeTimeout", ROW_DURATION, AT(store_timeout_ns), TN_SEC / 10, HOUR},
    {"limits.visibilityTimeout", ROW_DURATION, AT(visibility_timeout_ns), TN_SEC / 10, HOUR},
    {"limits.authTimeout", ROW_DURATION, AT(auth_timeout_ns), TN_SEC / 10, HOUR},
    {"global.tls.refreshInterval", ROW_DURATION, AT(tls.refresh_ns), 0, 10000 * 24 * HOUR},
    {"global.tls.expirationChecks.warningWindow", ROW_DURATION, AT(tls.warning_ns), 0,
     10000 * 24 * HOUR},
    {"global.tls.expirationChecks.errorWindow", ROW_DURATION, AT(tls.error_ns), 0,
     10000 * 24 * HOUR},
    {"global.tls.expirationChecks.checkInterval", ROW_DURATION, AT(tls.check_ns), 0,
     10000 * 24 * HOUR},
    {"authorization.authHeaderName", ROW_TEXT, AT(auth_header), 0, 0},
    {"authorization.authExtraHeaderName", ROW_TEXT, AT(auth_extra_header), 0, 0},
    {"authorization.audience", ROW_TEXT, AT(auth_audience), 0, 0},
    {"authorization.audit.maxQueueBytes", ROW_BYTES, AT(audit.queue_bytes_max), 64u << 10,
     UINT64_C(1) << 30},
    {"namespaces.retention", ROW_DURATION, AT(create_retention_ns), HOUR, 10000 * 24 * HOUR},
};

/* Known, and read by code of their own; true: a plugin's or a list, open below. */
static const struct {
    const char *path;
    bool open;
} others[] = {
    {"log.level", false},
    {"log.format", false},
    {"persistence.datastores.*", true},
    {"authorization.claimMapper", true},
    {"authorization.authorizer", true},
    {"authorization.audit.sink", false},
    {"authorization.audit.path", false},
    {"authorization.audit.facility", false},
    {"authorization.audit.events", false},
    {"plugins.dirs", true},
    {"global.membership.enabled", false},
    {"global.membership.seeds", true},
    {"global.membership.records", false},
    {"global.membership.localSockets", false},
    {"services.frontend.rpc.httpAdditionalForwardedHeaders", true},
    {"metrics.prometheus.listenAddress", false},
    {"namespaces.create", true},
};

static const char *const service_names[TN_SERVICE_COUNT] = {"frontend", "history", "matching",
                                                            "worker"};
const char *tn_service_name(uint32_t service) { return service_names[service]; }

#define AUDIENCE_MAX 1023 /* as auth has room for */

static void defaults(tn_settings *s)
{
    static const uint16_t grpc[] = {7233, 7234, 7235, 7239},
                          membership[] = {6933, 6934, 6935, 6939};
    s->log_level = TN_LOG_INFO;
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++)
        s->services[i] = (tn_settings_service){
            .bind_ip = "127.0.0.1", .grpc_port = grpc[i], .membership_port = membership[i]};
    s->history_shards = 512;
    s->audit.facility = 10; /* authpriv */
    s->audit.queue_bytes_max = UINT64_C(1) << 20;
    s->dynamic_config_poll_ns = 10 * TN_SEC;
    s->cache_bytes_max = UINT64_C(64) << 20;
    s->rpc_message_bytes_max = UINT64_C(4) << 20;
    s->rpc_request_memory_max = UINT64_C(64) << 20;
    s->rpc_streams_max = 1000;
    s->rpc_connections_max = 20000;
    s->rpc_drain_ns = 10 * TN_SEC;
    s->store_timeout_ns = 10 * TN_SEC;
    s->visibility_timeout_ns = 10 * TN_SEC;
    s->auth_timeout_ns = 5 * TN_SEC;
    s->auth_header = "authorization";
    s->auth_extra_header = "authorization-extras";
    s->auth_audience = "";
    s->create_retention_ns = 72 * HOUR;
}

static bool is_ip(const char *text)
{
    uint8_t bytes[16];
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static void read_number(const struct row *row, const tn_config *root, tn_config_problems *problems,
                        uint64_t *out)
{
    tn_error err = {0};
    tn_status status;
    uint64_t v = 0;
    int64_t i = 0;
    if (row->type == ROW_NUMBER) {
        status = tn_config_i64(root, row->path, &i, &err);
        v = i < 0 ? UINT64_MAX : (uint64_t)i;
    } else if (row->type == ROW_BYTES) {
        status = tn_config_bytes(root, row->path, &v, &err);
    } else {
        status = tn_config_duration_ns(root, row->path, &v, &err);
    }
    if (status == TN_ENOTFOUND)
        return;
    if (status != TN_OK) {
        tn_config_problems_add(problems, err.text);
        return;
    }
    if (v >= row->min && v <= row->max) {
        *out = v;
        return;
    }
    tn_str has = tn_config_scalar(tn_config_get(root, row->path));
    if (row->type == ROW_DURATION)
        tn_config_complain_at(problems, root, row->path, NULL,
                              "has " TN_STR_FMT ", wants %g s to %g s", TN_STR_ARG(has),
                              (double)row->min / 1e9, (double)row->max / 1e9);
    else
        tn_config_complain_at(problems, root, row->path, NULL,
                              "has " TN_STR_FMT ", wants %llu to %llu", TN_STR_ARG(has),
                              (unsigned long long)row->min, (unsigned long long)row->max);
}

static void read_row(const struct row *row, const tn_config *root, tn_config_problems *problems,
                     tn_settings *s)
{
    void *member = (char *)s + row->offset;
    if (row->type != ROW_TEXT && row->type != ROW_IP) {
        read_number(row, root, problems, member);
        return;
    }
    tn_error err = {0};
    tn_str text;
    tn_status status = tn_config_str(root, row->path, &text, &err);
    if (status == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    else if (status == TN_OK && row->type == ROW_IP && !is_ip(text.p))
        tn_config_complain_at(problems, root, row->path,
                              "write an address such as 127.0.0.1 or 0.0.0.0",
                              "has \"%.60s\", wants an IPv4 or IPv6 address", text.p);
    else if (status == TN_OK)
        memcpy(member, &text.p, sizeof text.p); /* texts of a tree end with NUL */
}

static void read_log(const tn_config *root, tn_config_problems *problems, tn_settings *s)
{
    tn_error err = {0};
    tn_str word;
    tn_status status = tn_config_str(root, "log.level", &word, &err);
    if (status == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    else if (status == TN_OK && !tn_log_level_parse(word, &s->log_level))
        tn_config_complain_at(problems, root, "log.level", NULL,
                              "has \"%.60s\", wants debug, info, warn, error or never", word.p);
    status = tn_config_str(root, "log.format", &word, &err);
    if (status == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    else if (status == TN_OK && !tn_str_is(word, "text") && !tn_str_is(word, "json"))
        tn_config_complain_at(problems, root, "log.format", NULL,
                              "has \"%.60s\", wants text or json", word.p);
    else if (status == TN_OK)
        s->log_json = tn_str_is(word, "json");
}

static void read_list(const tn_config *root, const char *path, bool absolute,
                      tn_config_problems *problems, const char **out, size_t *out_count)
{
    const tn_config *list = tn_config_get(root, path);
    if (!list || list->kind == TN_CONFIG_NULL)
        return;
    if (list->kind != TN_CONFIG_LIST) {
        tn_config_complain_at(problems, list, NULL, NULL, "wants a list, such as [a, b]");
        return;
    }
    *out_count = 0;
    for (const tn_config *node = list->first; node; node = node->next) {
        tn_str text = tn_config_scalar(node);
        if (!text.n)
            tn_config_complain_at(problems, node, NULL, NULL, "wants a text");
        else if (absolute && text.p[0] != '/')
            tn_config_complain_at(problems, node, NULL, "write the whole path, from /",
                                  "has \"%.100s\", wants an absolute path", text.p);
        else if (*out_count == TN_SETTINGS_LIST_MAX)
            tn_config_complain_at(problems, node, NULL, NULL, "more than %u entries",
                                  TN_SETTINGS_LIST_MAX);
        else
            out[(*out_count)++] = text.p;
    }
}

static void read_membership(const tn_config *root, tn_config_problems *problems, tn_settings *s)
{
    tn_error err = {0};
    int32_t on = 0;
    if (tn_config_bool(root, "global.membership.enabled", &on, &err) == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    s->membership = on != 0;
    read_list(root, "services.frontend.rpc.httpAdditionalForwardedHeaders", false, problems,
              s->http_forwarded, &s->http_forwarded_count);
    read_list(root, "global.membership.seeds", false, problems, s->seeds, &s->seeds_count);
    for (size_t i = 0; i < s->seeds_count; i++) {
        const char *colon = strrchr(s->seeds[i], ':');
        uint64_t port;
        if (!colon || colon == s->seeds[i] || !tn_parse_u64(tn_str_from(colon + 1), &port) ||
            port == 0 || port > 65535)
            tn_config_complain_at(problems, root, "global.membership.seeds",
                                  "write HOST:PORT, such as 10.0.0.7:6933", "has \"%.60s\"",
                                  s->seeds[i]);
    }
    int32_t records = 1, local = 1;
    if (tn_config_bool(root, "global.membership.records", &records, &err) == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    s->membership_records = records != 0;
    if (tn_config_bool(root, "global.membership.localSockets", &local, &err) == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    s->membership_local = local != 0;
    if (!records && !s->seeds_count)
        tn_config_complain_at(problems, root, "global.membership.records",
                              "name the members in global.membership.seeds",
                              "is false, and there are no seeds: nobody could be found");
}

static void read_services(const tn_config *root, tn_settings *s)
{
    const tn_config *services = tn_config_get(root, "services");
    bool all = tn_config_kind_of(services) != TN_CONFIG_MAP || !tn_config_first(services);
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++)
        s->services[i].enabled = all || tn_config_child(services, tn_str_from(service_names[i]));
}

static bool is_sha256(tn_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return false;
    }
    return s.n == 64;
}

static void read_plugin(const tn_config *node, const char *example, tn_config_problems *problems,
                        tn_settings_plugin *out)
{
    char fix[160];
    snprintf(fix, sizeof fix, "write %s", example);
    if (tn_config_kind_of(node) != TN_CONFIG_MAP) {
        tn_config_complain_at(problems, node, NULL, fix, "wants a map with the key plugin");
        return;
    }
    out->stanza = node;
    out->stanza_name = tn_config_key(node).p;
    tn_error err = {0};
    tn_str text;
    tn_status status = tn_config_str(node, "plugin", &text, &err);
    if (status == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    else if (status == TN_ENOTFOUND || !text.n)
        tn_config_complain_at(problems, node, NULL, fix, "names no plugin");
    else
        out->plugin = text.p;
    status = tn_config_str(node, "sha256", &text, &err);
    if (status == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    else if (status == TN_OK && !is_sha256(text))
        tn_config_complain_at(problems, node, "sha256", "use the output of sha256sum",
                              "wants 64 hex digits");
    else if (status == TN_OK)
        out->sha256 = text.p;
}

static const tn_settings_plugin *find_store(const tn_config *root, const char *key,
                                            const char *name, tn_config_problems *problems,
                                            const tn_settings *s)
{
    const char *names[TN_SETTINGS_STORES_MAX];
    size_t count = 0;
    if (!name) {
        tn_config_complain_at(problems, root, key, "name one of persistence.datastores",
                              "is not set");
        return NULL;
    }
    for (size_t i = 0; i < s->stores_count; i++) {
        if (!s->stores[i].stanza_name)
            continue;
        if (strcmp(s->stores[i].stanza_name, name) == 0)
            return &s->stores[i];
        names[count++] = s->stores[i].stanza_name;
    }
    const char *near = tn_config_nearest(tn_str_from(name), names, count);
    tn_config_complain_at(problems, root, key, "add it to persistence.datastores, or name another",
                          "datastore \"%.60s\" is not defined%s%s%s", name,
                          near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "");
    return NULL;
}

static void read_stores(const tn_config *root, tn_config_problems *problems, tn_settings *s)
{
    const tn_config *stores = tn_config_get(root, "persistence.datastores");
    if (stores && stores->kind != TN_CONFIG_MAP && stores->kind != TN_CONFIG_NULL) {
        tn_config_complain_at(problems, stores, NULL, NULL,
                              "wants a map of names to plugins' settings");
        return;
    }
    for (const tn_config *node = tn_config_first(stores); node; node = tn_config_next(node)) {
        if (s->stores_count == TN_SETTINGS_STORES_MAX) {
            tn_config_complain_at(problems, node, NULL, NULL, "more than %u datastores",
                                  TN_SETTINGS_STORES_MAX);
            break;
        }
        tn_settings_plugin *store = &s->stores[s->stores_count++];
        store->stanza_name = tn_config_key(node).p;
        read_plugin(node, "plugin: sqlite", problems, store);
    }
    s->store = find_store(root, "persistence.defaultStore", s->default_store, problems, s);
    s->visibility =
        find_store(root, "persistence.visibilityStore", s->visibility_store, problems, s);
    const char *second = "persistence.secondaryVisibilityStore";
    if (!s->second_visibility_store)
        return;
    s->second_visibility = find_store(root, second, s->second_visibility_store, problems, s);
    if (s->second_visibility && s->second_visibility == s->visibility)
        tn_config_complain_at(problems, root, second, "name another datastore",
                              "is the same as persistence.visibilityStore");
}

static void read_auth(const tn_config *root, const char *path, const char *example,
                      tn_config_problems *problems, tn_settings_plugin *out)
{
    char fix[120];
    const tn_config *node = tn_config_get(root, path);
    if (node && node->kind != TN_CONFIG_NULL) {
        snprintf(fix, sizeof fix, "plugin: %s", example);
        read_plugin(node, fix, problems, out);
        return;
    }
    snprintf(fix, sizeof fix, "write %s: {plugin: %s}", path, example);
    tn_config_complain_at(problems, root, path, fix, "is not set, and there is no silent default");
}

/* A header's name: in lower case, as HTTP/2 has it; gRPC's own are not the caller's to choose. */
static void check_header(const tn_config *root, const char *path, tn_config_problems *problems,
                         tn_settings *s, const char **name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
    size_t n = strlen(*name);
    char *lower = tn_arena_alloc(s->arena, n + 1);
    TN_ASSERT(lower);
    for (size_t i = 0; i <= n; i++)
        lower[i] = (char)((*name)[i] >= 'A' && (*name)[i] <= 'Z' ? (*name)[i] + 32 : (*name)[i]);
    *name = lower;
    if (n == 0 || n > 63 || strspn(lower, allowed) != n || strncmp(lower, "grpc-", 5) == 0)
        tn_config_complain_at(problems, root, path, "write a name such as x-user",
                              "has \"%.80s\", wants a header of letters, digits, - _ and ., 63 at "
                              "most, not one of gRPC's",
                              lower);
}

static void read_metrics(const tn_config *root, tn_config_problems *problems, tn_settings *s)
{
    static const char path[] = "metrics.prometheus.listenAddress";
    tn_error err = {0};
    tn_str text;
    tn_status status = tn_config_str(root, path, &text, &err);
    if (status == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    if (status != TN_OK)
        return;
    const char *colon = strrchr(text.p, ':');
    size_t ip_n = colon ? (size_t)(colon - text.p) : 0;
    tn_str ip = {text.p, ip_n};
    if (ip_n >= 2 && ip.p[0] == '[' && ip.p[ip_n - 1] == ']')
        ip = (tn_str){ip.p + 1, ip_n - 2};
    char *copy = tn_arena_memdup(s->arena, ip.p, ip.n);
    TN_ASSERT(copy);
    uint64_t port;
    if (!colon || !tn_parse_u64(tn_str_from(colon + 1), &port) || port > 65535 || !is_ip(copy)) {
        tn_config_complain_at(problems, root, path,
                              "write an address and a port, such as 127.0.0.1:8000",
                              "has \"%.60s\", wants IP:PORT", text.p);
        return;
    }
    s->metrics_ip = copy;
    s->metrics_port = port;
}

#define SOCKET_PATH_MAX 107 /* of sockaddr_un */

/* The service manager gives a server a folder that its tools know. */
static void read_control(const tn_config *root, tn_config_problems *problems, tn_settings *s)
{
    const char *folder = getenv("RUNTIME_DIRECTORY");
    if (!s->control_socket && folder && folder[0] == '/') {
        size_t n = strcspn(folder, ":"); /* of several, the first */
        char *path = tn_arena_alloc(s->arena, n + sizeof "/control.sock");
        TN_ASSERT(path);
        memcpy(path, folder, n);
        memcpy(path + n, "/control.sock", sizeof "/control.sock");
        s->control_socket = path;
    }
    if (s->control_socket &&
        (s->control_socket[0] != '/' || strlen(s->control_socket) > SOCKET_PATH_MAX))
        tn_config_complain_at(problems, root, "control.socket",
                              "write the whole path, such as /run/tenon/control.sock",
                              "has \"%.120s\", wants an absolute path of %d bytes at most",
                              s->control_socket, SOCKET_PATH_MAX);
}

#define TLS_PATHS_MAX 64

static void check_unknown(const tn_config *root, tn_config_problems *problems)
{
    const char *const *tls_paths;
    const bool *tls_open;
    const char *paths[TN_COUNT_OF(rows) + TN_COUNT_OF(others) + TLS_PATHS_MAX];
    bool open[TN_COUNT_OF(rows) + TN_COUNT_OF(others) + TLS_PATHS_MAX] = {false};
    size_t n = 0, n_tls = tn_settings_tls_paths(&tls_paths, &tls_open);
    TN_ASSERT(n_tls <= TLS_PATHS_MAX);
    for (size_t i = 0; i < TN_COUNT_OF(rows); i++)
        paths[n++] = rows[i].path;
    for (size_t i = 0; i < TN_COUNT_OF(others); i++) {
        open[n] = others[i].open;
        paths[n++] = others[i].path;
    }
    for (size_t i = 0; i < n_tls; i++) {
        open[n] = tls_open[i];
        paths[n++] = tls_paths[i];
    }
    tn_config_check_keys(root, paths, open, n, problems);
}

static void read_all(const tn_config *root, tn_config_problems *problems, tn_settings *s)
{
    check_unknown(root, problems);
    for (size_t i = 0; i < TN_COUNT_OF(rows); i++)
        read_row(&rows[i], root, problems, s);
    read_log(root, problems, s);
    read_services(root, s);
    read_stores(root, problems, s);
    read_auth(root, "authorization.claimMapper", "none", problems, &s->claim_mapper);
    read_auth(root, "authorization.authorizer", "allow_all", problems, &s->authorizer);
    check_header(root, "authorization.authHeaderName", problems, s, &s->auth_header);
    check_header(root, "authorization.authExtraHeaderName", problems, s, &s->auth_extra_header);
    if (strlen(s->auth_audience) > AUDIENCE_MAX)
        tn_config_complain_at(problems, root, "authorization.audience", "write a shorter name",
                              "has %zu bytes, wants %d at most", strlen(s->auth_audience),
                              AUDIENCE_MAX);
    tn_settings_audit_read(root, problems, &s->audit);
    s->plugin_dirs[0] = TN_PLUGIN_DIR;
    s->plugin_dirs_count = 1;
    read_list(root, "plugins.dirs", true, problems, s->plugin_dirs, &s->plugin_dirs_count);
    read_membership(root, problems, s);
    read_list(root, "namespaces.create", false, problems, s->create_namespaces,
              &s->create_namespaces_count);
    read_metrics(root, problems, s);
    read_control(root, problems, s);
    tn_settings_tls_read(root, s->arena, problems, &s->tls);
}

static tn_status from_tree(tn_config_tree *tree, tn_config_problems *problems, tn_settings **out)
{
    size_t before = tn_config_problems_count(problems);
    tn_settings *s = tn_xcalloc(1, sizeof *s);
    s->tree = tree;
    s->arena = tn_arena_create(0);
    defaults(s);
    const tn_config *root = tn_config_root(tree);
    if (root->kind == TN_CONFIG_MAP)
        read_all(root, problems, s);
    else
        tn_config_complain_at(problems, root, NULL, "begin with a line such as \"persistence:\"",
                              "wants a map");
    if (tn_config_problems_count(problems) != before) {
        tn_settings_destroy(s);
        return TN_EINVALID;
    }
    *out = s;
    return TN_OK;
}

tn_status tn_settings_load(const char *path, tn_config_problems *problems, tn_settings **out)
{
    tn_config_tree *tree = NULL;
    tn_status status = tn_config_load(path, problems, &tree);
    return status == TN_OK ? from_tree(tree, problems, out) : status;
}

tn_status tn_settings_parse(const char *name, tn_blob yaml, tn_config_problems *problems,
                            tn_settings **out)
{
    tn_config_tree *tree = NULL;
    tn_status status = tn_config_parse(name, yaml, problems, &tree);
    return status == TN_OK ? from_tree(tree, problems, out) : status;
}

void tn_settings_destroy(tn_settings *settings)
{
    if (!settings)
        return;
    tn_config_tree_destroy(settings->tree);
    tn_arena_destroy(settings->arena);
    free(settings);
}

/* ---- start-dev ---- */

void tn_settings_dev_options_default(tn_settings_dev_options *options)
{
    *options = (tn_settings_dev_options){
        .ip = "127.0.0.1", .port = 7233, .log_level = "warn", .log_format = "text"};
}

/* A double-quoted YAML scalar: whatever a flag holds stays one value. */
static void put_quoted(tn_buf *out, const char *a, const char *b)
{
    const char *parts[] = {a, b};
    tn_buf_put_u8(out, '"');
    for (size_t k = 0; k < 2; k++) {
        for (const char *p = parts[k]; *p; p++) {
            if ((unsigned char)*p < 0x20)
                tn_buf_printf(out, "\\x%02x", (unsigned char)*p);
            else if (*p == '"' || *p == '\\')
                tn_buf_printf(out, "\\%c", *p);
            else
                tn_buf_put(out, p, 1);
        }
    }
    tn_buf_put_u8(out, '"');
}

static void put_setting(tn_buf *out, const char *key, const char *value, const char *suffix)
{
    tn_buf_printf(out, "%s: ", key);
    put_quoted(out, value, suffix);
    tn_buf_put_u8(out, '\n');
}

/* One process and one file: more shards would only spread the rows of a flush over more pages. */
#define DEV_SHARDS 16u

void tn_settings_dev_yaml(const tn_settings_dev_options *o, tn_buf *out)
{
    tn_buf_printf(out, "log:\n");
    put_setting(out, "  level", o->log_level, "");
    put_setting(out, "  format", o->log_format, "");
    tn_buf_printf(out, "threads: %llu\n", (unsigned long long)o->threads);
    tn_buf_printf(out, "services:\n  frontend:\n    rpc:\n      grpcPort: %llu\n",
                  (unsigned long long)o->port);
    put_setting(out, "      bindOnIP", o->ip, "");
    tn_buf_printf(out,
                  "  history: {}\n  matching: {}\n  worker: {}\n"
                  "persistence:\n  defaultStore: main\n  visibilityStore: visibility\n"
                  "  numHistoryShards: %u\n"
                  "  datastores:\n    main:\n      plugin: sqlite\n",
                  DEV_SHARDS);
    put_setting(out, "      path", o->db_filename ? o->db_filename : ":memory:", "");
    tn_buf_printf(out, "    visibility:\n      plugin: sqlite\n");
    put_setting(out, "      path",
                o->db_filename ? o->db_filename : ":memory:", o->db_filename ? ".visibility" : "");
    tn_buf_printf(
        out, "authorization:\n  claimMapper: {plugin: none}\n  authorizer: {plugin: allow_all}\n");
    if (o->plugin_dir) {
        tn_buf_printf(out, "plugins:\n  dirs:\n    - ");
        put_quoted(out, o->plugin_dir, "");
        tn_buf_put_u8(out, '\n');
    }
    if (o->metrics_port) {
        char port[40];
        snprintf(port, sizeof port, ":%llu", (unsigned long long)o->metrics_port);
        tn_buf_printf(out, "metrics:\n  prometheus:\n");
        put_setting(out, "    listenAddress", o->ip, port);
    }
    if (o->dynamic_config_path) {
        tn_buf_printf(out, "dynamicConfigClient:\n");
        put_setting(out, "  filepath", o->dynamic_config_path, "");
    }
    tn_buf_printf(out, "namespaces:\n  retention: 24h\n  create:\n    - default\n");
    for (size_t i = 0; i < o->namespaces_count; i++) {
        tn_buf_printf(out, "    - ");
        put_quoted(out, o->namespaces[i], "");
        tn_buf_put_u8(out, '\n');
    }
}

tn_status tn_settings_dev(const tn_settings_dev_options *options, tn_config_problems *problems,
                          tn_settings **out)
{
    tn_buf yaml = {0};
    tn_settings_dev_yaml(options, &yaml);
    tn_status status = tn_settings_parse("start-dev", tn_buf_blob(&yaml), problems, out);
    tn_buf_done(&yaml);
    return status;
}
