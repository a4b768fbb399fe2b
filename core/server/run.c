/* SPDX-License-Identifier: MIT */
/* Start in order (settings, loops, plugins, store, visibility, namespaces, roles, port), wait for a signal, end in
 * the opposite order.  What fails says so once and the process exits with 1; a store that is away is waited for, with
 * the port open and health NOT_SERVING. */
#include "config.h"

#include "server/private.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "auth/auth.h"
#include "client/client.h"
#include "client/door.h"
#include "client/remote.h"
#include "client/shardmap.h"
#include "client/token.h"
#include "config/dynconfig.h"
#include "frontend/frontend.h"
#include "history/history.h"
#include "http/http.h"
#include "matching/matching.h"
#include "membership/membership.h"
#include "metrics/metrics.h"
#include "namespace/endpoint.h"
#include "deployment/deployment.h"
#include "namespace/namespace.h"
#include "plugin/plugin.h"
#include "proto/proto.h"
#include "rpc/client.h"
#include "rpc/rpc.h"
#include "store/store.h"
#include "visibility/visibility.h"
#include "worker/worker.h"

#define STOP_MORE_NS (20 * TN_SEC) /* what an end may take besides the drains */
#define SCHEMA 1u                  /* of a new store */
#define SCHEMA_MAX TN_KEYS_SCHEMA  /* that this release knows */

typedef tn_server server;

static int fail(const server *s, const char *what, const tn_error *err)
{
    if (s->interrupted)
        TN_LOG(TN_LOG_INFO, "server", "stopping before it has started",
               TN_LOG_I("signal", s->interrupted));
    else
        fprintf(stderr, "tenond: %s: %s\n", what, err->text);
    return 1;
}

/* ---- a start that must wait ---- */

#define WAIT_MIN_NS (50 * TN_MS)
#define WAIT_MAX_NS TN_SEC
#define PORT_PATIENCE_NS (500 * TN_MS) /* a shorter start is not worth an answer */

static int open_ports(server *s);
static void register_methods(void);

/* The store may answer later: waits, longer each time, and says whether to ask again.  Whoever asks meanwhile is told
 * that the server is starting. */
bool tn_server_try_again(void *user, const char *what, const tn_error *why)
{
    server *s = user;
    uint64_t now = tn_now_mono_ns();
    if (!s->waiting_since_ns)
        s->waiting_since_ns = now;
    s->wait_ns = s->wait_ns ? s->wait_ns * 2 : WAIT_MIN_NS;
    if (s->wait_ns > WAIT_MAX_NS)
        s->wait_ns = WAIT_MAX_NS;
    TN_LOG(TN_LOG_WARN, "server", "starting: the store keeps us waiting", TN_LOG_Z("for", what),
           TN_LOG_U("seconds", (now - s->waiting_since_ns) / TN_SEC), TN_LOG_Z("why", why->text));
    /* However long it takes: the service manager must not end what waits. */
    tn_notify("EXTEND_TIMEOUT_USEC=%u\nSTATUS=starting: waiting for %s", 30000000u, what);
    if (!s->ports_open && now - s->waiting_since_ns >= PORT_PATIENCE_NS && open_ports(s) != 0)
        return false;
    for (uint64_t until = now + s->wait_ns; now < until; now = tn_now_mono_ns()) {
        int sig = tn_main_wait_signal_for(until - now);
        if (sig && sig != SIGHUP) {
            s->interrupted = sig;
            return false;
        }
    }
    return true;
}

static bool may_pass(tn_status status)
{
    return status == TN_EUNAVAILABLE || status == TN_EUNCERTAIN || status == TN_ETHROTTLED ||
           status == TN_ECONFLICT;
}

static int print_problems(tn_config_problems *problems)
{
    tn_config_problems_print(problems);
    return 1;
}

/* ---- settings and plugins ---- */

static int open_tls(server *s, tn_config_problems *problems)
{
    if (tn_tls_open(&s->settings->tls, problems, &s->tls) != TN_OK)
        return print_problems(problems);
    tn_channels_use_tls(tn_tls_get(s->tls, TN_TLS_INTERNODE_CLIENT),
                        tn_tls_get(s->tls, TN_TLS_FRONTEND_CLIENT));
    if (s->tls)
        tn_loop_call(tn_loops_get(0), tn_tls_watch, s->tls);
    return 0;
}

tn_status tn_server_read_settings(const tn_server *s, tn_config_problems *problems,
                                  tn_settings **out)
{
    return s->args->command == TN_CMD_START_DEV
               ? tn_settings_dev(&s->args->dev, problems, out)
               : tn_settings_load(s->args->config_path, problems, out);
}

static int load_settings(server *s, tn_config_problems *problems)
{
    if (tn_server_read_settings(s, problems, &s->settings) != TN_OK)
        return print_problems(problems);
    s->started = s->current = s->tls_from = tn_settings_ref_new(s->settings);
    s->started->refs = 3;
    tn_server_apply_settings(s->settings);
    return 0;
}

static int open_plugins(server *s, tn_config_problems *problems)
{
    const tn_settings *set = s->settings;
    tn_plugin_options options = {.root = tn_config_root(set->tree),
                                 .own_files = s->args->command == TN_CMD_START_DEV};
    const tn_config *second = set->second_visibility ? set->second_visibility->stanza : NULL;
    const struct {
        tn_kind kind;
        const tn_config *stanza; /* NULL: not wanted */
    } wanted[PLUGIN_COUNT] = {
        {TN_KIND_PERSISTENCE, set->store->stanza},
        {TN_KIND_VISIBILITY, set->visibility->stanza},
        {TN_KIND_VISIBILITY, second},
        {TN_KIND_CLAIM_MAPPER, set->claim_mapper.stanza},
        {TN_KIND_AUTHORIZER, set->authorizer.stanza},
    };
    bool bad = false;
    for (int i = 0; i < PLUGIN_COUNT; i++)
        if (wanted[i].stanza && tn_plugin_open(&options, wanted[i].kind, wanted[i].stanza, problems,
                                               &s->plugins[i]) != TN_OK)
            bad = true;
    return bad ? print_problems(problems) : 0;
}

/* A development server has one user, whom nobody else must be protected from: no request rates unless asked for. */
static const char *const dev_values[] = {
    "frontend.rps=0",
    "frontend.namespaceRPS=0",
    "frontend.namespaceCount=0",
    "frontend.namespaceRPS.visibility=0",
    "frontend.rps.namespaceReplicationInducingAPIs=0",
    "frontend.namespaceRPS.namespaceReplicationInducingAPIs=0",
    "frontend.globalNamespaceRPS.namespaceReplicationInducingAPIs=0",
};

static int start_dynconfig(server *s, tn_config_problems *problems)
{
    const char *values[TN_COUNT_OF(dev_values) + TN_ARGS_LIST_MAX];
    size_t n = 0;
    bool dev = s->args->command == TN_CMD_START_DEV && !s->settings->dynamic_config_path;
    for (size_t i = 0; dev && i < TN_COUNT_OF(dev_values); i++)
        values[n++] = dev_values[i];
    for (size_t i = 0; i < s->args->n_dynamic_values; i++)
        values[n++] = s->args->dynamic_values[i]; /* a later one wins */
    tn_dynconfig_options options = {.path = s->settings->dynamic_config_path,
                                    .poll_ns = s->settings->dynamic_config_poll_ns,
                                    .overrides = values,
                                    .overrides_count = n};
    if (tn_dynconfig_start(&options, problems) != TN_OK)
        return print_problems(problems);
    s->up.dynconfig = true;
    tn_loop_call(tn_loops_get(0), tn_dynconfig_watch, NULL);
    return 0;
}

/* ---- what is decided once for a cluster ---- */

static tn_status use_cluster(server *s, const Tenon__ClusterRecord *record, tn_error *err)
{
    if (record->schema > SCHEMA_MAX)
        return tn_error_set(err, TN_EINVALID,
                            "the store has schema %u, this tenond knows up to %u; fix: run the "
                            "release that wrote it, or a newer one",
                            record->schema, SCHEMA_MAX);
    if (record->token_key.len != 16 || strlen(record->cluster_id) != 36 || !record->history_shards)
        return tn_error_set(err, TN_EDATALOSS, "the store's cluster record is damaged");
    if (record->history_shards != s->settings->history_shards && s->args->command == TN_CMD_SERVE)
        TN_LOG(TN_LOG_WARN, "server",
               "persistence.numHistoryShards says how a new store is made; this one's number is "
               "used (see tenonctl shard split)",
               TN_LOG_U("store", record->history_shards),
               TN_LOG_U("configured", s->settings->history_shards));
    memcpy(s->cluster_id, record->cluster_id, 37);
    memcpy(s->token_key, record->token_key.data, 16);
    s->shards = record->history_shards;
    return TN_OK;
}

static tn_status make_cluster(server *s, tn_arena *arena, tn_key key, tn_error *err)
{
    Tenon__ClusterRecord record = TENON__CLUSTER_RECORD__INIT;
    tn_rng rng;
    uint8_t id[16], token_key[16];
    char text[37];
    tn_rng_seed_random(&rng);
    tn_uuid_v4(&rng, id);
    tn_uuid_format(id, text);
    tn_random_bytes(token_key, sizeof(token_key));
    record.schema = SCHEMA;
    record.cluster_id = text;
    record.token_key = (ProtobufCBinaryData){16, token_key};
    record.history_shards = (uint32_t)s->settings->history_shards;
    record.created_ns = tn_now_wall_ns();
    tn_blob packed;
    tn_status status = tn_proto_pack(&record.base, arena, &packed);
    if (status != TN_OK)
        return tn_error_set(err, status, "the cluster record could not be packed");
    tn_store_batch batch;
    tn_store_batch_init(&batch, arena);
    tn_store_batch_cond(&batch, TN_COND_ABSENT, key, 0);
    tn_store_batch_put(&batch, key, packed);
    tn_batch finished = tn_store_batch_finish(&batch);
    tn_commit commit = {.struct_size = sizeof(commit)};
    status = tn_store_commit_sync(arena, &finished, &commit, err);
    if (status == TN_OK)
        status = use_cluster(s, &record, err);
    explicit_bzero(token_key, sizeof(token_key));
    explicit_bzero((uint8_t *)(uintptr_t)packed.p, packed.n);
    return status;
}

/* `tenonctl store copy` says so while a store is not whole, and in one whose cluster lives elsewhere now. */
static tn_status check_moving(tn_arena *arena, tn_error *err)
{
    tn_key key =
        tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER, tn_blob_of_str(TN_STR("moving")));
    tn_row row;
    tn_status status = tn_store_get_sync(arena, key, &row, err);
    if (status == TN_OK)
        return tn_error_set(err, TN_EINVALID, "it is not to be served: " TN_STR_FMT,
                            TN_STR_ARG(tn_str_of_blob(row.value)));
    return status == TN_ENOTFOUND ? TN_OK : status;
}

static tn_status open_cluster(server *s, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    tn_status moving = check_moving(arena, err);
    if (moving != TN_OK) {
        tn_arena_destroy(arena);
        return moving;
    }
    tn_key key =
        tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER, tn_blob_of_str(TN_STR("cluster")));
    tn_row row;
    tn_status status = tn_store_get_sync(arena, key, &row, err);
    if (status == TN_OK) {
        Tenon__ClusterRecord *record = NULL;
        status = tn_proto_unpack(&tenon__cluster_record__descriptor, row.value, arena,
                                 (ProtobufCMessage **)(void *)&record, err);
        if (status == TN_OK) {
            status = use_cluster(s, record, err);
            /* the copy that we keep is wiped at the end */
            explicit_bzero(record->token_key.data, record->token_key.len);
        }
        explicit_bzero((uint8_t *)(uintptr_t)row.value.p, row.value.n);
    } else if (status == TN_ENOTFOUND) {
        status = make_cluster(s, arena, key, err);
    }
    tn_arena_destroy(arena);
    return status;
}

/* ---- stores ---- */

static tn_str namespace_of_token(tn_arena *arena, tn_blob token)
{
    const Tenon__TaskToken *opened =
        (const Tenon__TaskToken *)tn_token_open(arena, token, &tenon__task_token__descriptor);
    return opened ? tn_str_from(opened->ns_id) : (tn_str){0};
}

tn_status tn_server_prepare_audit(const tn_settings *set, tn_audit_fresh **out, tn_error *err)
{
    const tn_settings_audit *a = &set->audit;
    tn_audit_options options = {.syslog = a->syslog,
                                .path = a->path,
                                .facility = a->facility,
                                .all = a->all,
                                .queue_bytes_max = (size_t)a->queue_bytes_max};
    return tn_audit_prepare(a->enabled ? &options : NULL, out, err);
}

static int start_auth(server *s)
{
    tn_error err = {0};
    tn_audit_fresh *audit;
    if (tn_server_prepare_audit(s->settings, &audit, &err) != TN_OK)
        return fail(s, "the audit could not be started", &err);
    tn_audit_commit(audit);
    tn_auth_read_tokens(namespace_of_token);
    tn_auth_set_headers(s->settings->auth_header, s->settings->auth_extra_header);
    tn_auth_set_audience(s->settings->auth_audience);
    if (tn_auth_start(s->plugins[PLUGIN_CLAIMS], s->plugins[PLUGIN_AUTH],
                      s->settings->auth_timeout_ns, &err) != TN_OK)
        return fail(s, "authorization could not be started", &err);
    s->up.auth = true;
    return 0;
}

static int start_stores(server *s)
{
    tn_error err = {0};
    if (start_auth(s) != 0)
        return 1;
    if (tn_store_start(s->plugins[PLUGIN_STORE], &err) != TN_OK)
        return fail(s, "the store could not be started", &err);
    s->up.store = true;
    tn_status status;
    while ((status = open_cluster(s, &err)) != TN_OK)
        if (!may_pass(status) || !tn_server_try_again(s, "the cluster record", &err))
            return fail(s, "the store could not be opened", &err);
    tn_token_set_key(s->token_key);
    while ((status = tn_keys_load_sync(s->token_key, tn_remote_use_keys, &err)) != TN_OK)
        if (!may_pass(status) || !tn_server_try_again(s, "the cluster's keys", &err))
            return fail(s, "the cluster's keys could not be read", &err);
    if (tn_vis_start(s->plugins[PLUGIN_VISIBILITY], s->token_key, &err) != TN_OK)
        return fail(s, "visibility could not be started", &err);
    s->up.visibility = true;
    if (s->plugins[PLUGIN_SECOND_VISIBILITY] &&
        tn_vis_start_second(s->plugins[PLUGIN_SECOND_VISIBILITY], &err) != TN_OK)
        return fail(s, "the second visibility store could not be started", &err);
    tn_str names[TN_SETTINGS_LIST_MAX];
    for (size_t i = 0; i < s->settings->create_namespaces_count; i++)
        names[i] = tn_str_from(s->settings->create_namespaces[i]);
    while ((status = tn_namespace_start(names, s->settings->create_namespaces_count,
                                        s->settings->create_retention_ns, &err)) != TN_OK)
        if (!may_pass(status) || !tn_server_try_again(s, "the namespaces", &err))
            return fail(s, "the namespaces could not be read", &err);
    s->up.namespaces = true;
    while ((status = tn_endpoints_start(tn_cluster_wanted(s->args, s->settings), &err)) != TN_OK)
        if (!may_pass(status) || !tn_server_try_again(s, "the Nexus endpoints", &err))
            return fail(s, "the Nexus endpoints could not be read", &err);
    while ((status = tn_deployments_start(&err)) != TN_OK)
        if (!may_pass(status) || !tn_server_try_again(s, "the worker deployments", &err))
            return fail(s, "the worker deployments could not be read", &err);
    return 0;
}

/* ---- roles ---- */

static bool has(const server *s, uint32_t service)
{
    return s->args->command == TN_CMD_START_DEV || tn_cluster_has(s->args, s->settings, service);
}

static void wire_roles(server *s)
{
    tn_door_start(tn_members_count);
    tn_store_use_meter(tn_door_meter, tn_door_answered);
    tn_client_wire(has(s, TN_SERVICE_HISTORY) ? tn_history_role_table() : NULL,
                   has(s, TN_SERVICE_MATCHING) ? tn_matching_role_table() : NULL,
                   has(s, TN_SERVICE_WORKER) ? tn_worker_role_table() : NULL, s->shards);
    if (has(s, TN_SERVICE_HISTORY))
        tn_shardmap_listen(tn_history_map_changed);
    if (!s->cluster)
        return;
    tn_remote_start();
    if (has(s, TN_SERVICE_HISTORY)) {
        tn_members_listen(tn_history_members_changed);
        tn_members_listen_missed(tn_history_members_missed);
    }
    if (has(s, TN_SERVICE_MATCHING))
        tn_members_listen(tn_matching_members_changed);
}

static int start_history(server *s)
{
    tn_error err = {0};
    tn_history_options history = {.cache_bytes_max = s->settings->cache_bytes_max,
                                  .owner = s->host,
                                  .host_id = s->cluster ? tn_members_self_id() : NULL,
                                  .wait = tn_server_try_again,
                                  .user = s};
    if (tn_history_start(&history, &err) != TN_OK)
        return fail(s, "the shards could not be taken", &err);
    s->up.history = true;
    return 0;
}

static uint64_t http_port(const server *s)
{
    return s->args->http_port ? s->args->http_port
                              : s->settings->services[TN_SERVICE_FRONTEND].http_port;
}

static int start_roles(server *s)
{
    tn_error err = {0};
    tn_status status;
    wire_roles(s);
    while ((status = tn_shardmap_load_sync(&err)) != TN_OK)
        if (!may_pass(status) || !tn_server_try_again(s, "the shard map", &err))
            return fail(s, "the shard map could not be read", &err);
    if (s->cluster) {
        tn_shardmap_watch();
        tn_namespace_reread_start();
    }
    if (has(s, TN_SERVICE_WORKER)) {
        tn_worker_start();
        tn_drainage_watch();
        s->up.worker = true;
    }
    if (has(s, TN_SERVICE_MATCHING)) {
        tn_matching_start(s->host);
        s->up.matching = true;
    }
    register_methods();
    if (s->cluster && tn_cluster_open(s->args, s->settings, s->tls, &err) != TN_OK)
        return fail(s, "the roles' ports could not be opened", &err);
    if (s->cluster && tn_cluster_join(s->args, s->settings, &err) != TN_OK)
        return fail(s, "the cluster could not be joined", &err);
    if (has(s, TN_SERVICE_HISTORY) && start_history(s) != 0)
        return 1;
    tn_intake_ready();
    if (s->up.worker) {
        tn_reclaim_start();
        tn_drainage_start();
    }
    tn_frontend_options frontend = {
        .cluster_id = s->cluster_id,
        .cluster_name = "active",
        .persistence_name = tn_plugin_name(s->plugins[PLUGIN_STORE]),
        .visibility_name = tn_plugin_name(s->plugins[PLUGIN_VISIBILITY]),
        .ip = s->settings->services[TN_SERVICE_FRONTEND].bind_ip,
        .port = (uint16_t)s->settings->services[TN_SERVICE_FRONTEND].grpc_port,
        .http_port = (uint16_t)http_port(s)};
    tn_frontend_start(&frontend);
    return 0;
}

static void open_metrics(void *arg)
{
    server *s = arg;
    tn_error err;
    if (tn_metrics_server_open(s->settings->metrics_ip, (uint16_t)s->settings->metrics_port,
                               &s->metrics, &err) != TN_OK)
        TN_LOG(TN_LOG_ERROR, "server", "the metrics port could not be opened",
               TN_LOG_Z("why", err.text));
}

static atomic_bool serving; /* what the calls lean on has started */

/* What needs no store.  An SDK that connects asks for the system's abilities first, and tries again by itself only
 * what comes after. */
static bool needs_nothing(const char *path)
{
    return tn_str_starts(tn_str_from(path), TN_STR("/grpc.")) ||
           strcmp(path, "/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo") == 0;
}

static void admit(tn_call *call)
{
    if (call->method->flags & TN_RPC_INTERNAL)
        tn_intake_dispatch(call);
    else if (atomic_load_explicit(&serving, memory_order_acquire) ||
             needs_nothing(call->method->path))
        tn_auth_check(call, tn_frontend_dispatch);
    else
        tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_UNAVAILABLE,
                                         "the server is starting: it waits for its store"));
}

/* By the reference's names; of roles that this process has not, nothing is known. */
static void set_health(const server *s, int status)
{
    static const struct {
        const char *name;
        uint32_t role;
    } services[] = {
        {"temporal.api.workflowservice.v1.WorkflowService", TN_SERVICE_FRONTEND},
        {"temporal.api.operatorservice.v1.OperatorService", TN_SERVICE_FRONTEND},
        {"temporal.server.api.adminservice.v1.AdminService", TN_SERVICE_FRONTEND},
        {"temporal.api.workflowservice.v1.HistoryService", TN_SERVICE_HISTORY},
        {"temporal.api.workflowservice.v1.MatchingService", TN_SERVICE_MATCHING},
    };
    tn_rpc_set_health("", status);
    for (size_t i = 0; i < TN_COUNT_OF(services); i++)
        if (has(s, services[i].role))
            tn_rpc_set_health(services[i].name, status);
}

/* Before the first port is open. */
static void register_methods(void)
{
    static bool done;
    if (done)
        return;
    done = true;
    tn_rpc_register_builtin();
    tn_intake_register();
    tn_frontend_register();
    tn_history_register_http();
}

static int open_ports(server *s)
{
    tn_error err = {0};
    const tn_settings *set = s->settings;
    tn_rpc_options options;
    tn_rpc_options_default(&options);
    options.bind_ip = set->services[TN_SERVICE_FRONTEND].bind_ip;
    options.port = (uint16_t)set->services[TN_SERVICE_FRONTEND].grpc_port;
    options.message_bytes_max = (size_t)set->rpc_message_bytes_max;
    options.connections_max = (uint32_t)set->rpc_connections_max;
    options.streams_max = (uint32_t)set->rpc_streams_max;
    options.arena_bytes_max = (size_t)set->rpc_request_memory_max;
    options.tls = tn_tls_get(s->tls, TN_TLS_FRONTEND);
    options.dispatch = admit;
    options.on_pipes = true;
    s->ports_open = true;
    register_methods();
    set_health(s, atomic_load_explicit(&serving, memory_order_acquire) ? TN_HEALTH_SERVING
                                                                       : TN_HEALTH_NOT_SERVING);
    if (has(s, TN_SERVICE_FRONTEND) && tn_rpc_server_start(&options, &s->rpc, &err) != TN_OK)
        return fail(s, "the port could not be opened", &err);
    options.on_pipes = false;
    options.port = (uint16_t)http_port(s);
    if (has(s, TN_SERVICE_FRONTEND) && options.port) {
        const tn_http_settings http = {set->http_forwarded, set->http_forwarded_count};
        tn_http_prepare(&http);
        options.http = tn_http_api();
        if (tn_rpc_server_start(&options, &s->http, &err) != TN_OK)
            return fail(s, "the HTTP port could not be opened", &err);
    }
    if (set->metrics_ip) {
        tn_loop_call(tn_loops_get(0), open_metrics, s);
        if (!s->metrics)
            return 1;
    }
    return 0;
}

/* Where nothing has kept us waiting that is before the ports are open: then nobody ever hears that we are starting. */
static void serve(const server *s)
{
    atomic_store_explicit(&serving, true, memory_order_release);
    tn_history_open_http();
    if (s->ports_open)
        set_health(s, TN_HEALTH_SERVING);
}

/* ---- the whole ---- */

static void greet(const server *s)
{
    const char *ip = s->settings->services[TN_SERVICE_FRONTEND].bind_ip;
    unsigned port = s->rpc ? tn_rpc_server_port(s->rpc) : 0;
    if (s->args->command == TN_CMD_START_DEV) {
        printf("Tenon %s serves the Temporal API at %s:%u (namespace \"default\"%s)\n",
               PACKAGE_VERSION, ip, port, s->args->dev.db_filename ? "" : "; kept in memory only");
        if (s->http)
            printf("HTTP API:  http://%s:%u/api/v1/namespaces\n", ip, tn_rpc_server_port(s->http));
        if (s->metrics)
            printf("Metrics:   http://%s:%u/metrics\n", ip, tn_metrics_server_port(s->metrics));
        printf("Next step: temporal workflow list --address %s:%u\n", ip, port);
        fflush(stdout);
    }
    char at[256];
    if (s->cluster)
        tn_cluster_at(s->args, s->settings, at, sizeof at);
    else
        snprintf(at, sizeof at, "%s:%u", ip, port);
    TN_LOG(TN_LOG_INFO, "server", "serving", TN_LOG_Z("at", at), TN_LOG_U("shards", s->shards),
           TN_LOG_U("loops", tn_loops_count()));
    tn_notify("READY=1\nSTATUS=serving at %s", at);
}

static int start(server *s)
{
    tn_error err = {0};
    tn_config_problems *problems = tn_config_problems_create();
    int failed = load_settings(s, problems);
    s->cluster = !failed && tn_cluster_wanted(s->args, s->settings);
    if (s->cluster && !tn_cluster_check(s->args, s->settings, problems))
        failed = print_problems(problems);
    if (!failed &&
        tn_loops_create((uint32_t)s->settings->threads ? (uint32_t)s->settings->threads
                                                       : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
                        &err) != TN_OK)
        failed = fail(s, "the event loops could not be made", &err);
    if (!failed) {
        tn_loops_run();
        s->up.loops = true;
        failed = open_tls(s, problems);
        if (!failed)
            failed = open_plugins(s, problems);
    }
    if (!failed)
        failed = start_dynconfig(s, problems);
    tn_config_problems_destroy(problems);
    if (!failed)
        failed = start_stores(s);
    if (!failed)
        failed = tn_server_set_search_attributes(s);
    if (!failed)
        failed = start_roles(s);
    if (!failed && tn_control_open(s->settings, &err) != TN_OK)
        failed = fail(s, "the control socket could not be opened", &err);
    if (!failed)
        serve(s);
    if (!failed && !s->ports_open)
        failed = open_ports(s);
    if (!failed)
        greet(s);
    return failed;
}

static void close_metrics(void *arg)
{
    server *s = arg;
    tn_metrics_server_close(s->metrics);
}

static void stop(server *s)
{
    uint64_t drain_ns = s->current ? s->current->settings->rpc_drain_ns : 0;
    /* Ports drain one after another, if they need all of the time; then what is in memory is written. */
    tn_notify("STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu\nSTATUS=ending the calls in flight",
              (unsigned long long)((TN_SERVICE_COUNT * drain_ns + STOP_MORE_NS) / TN_US));
    tn_control_stop();
    if (s->rpc)
        set_health(s, TN_HEALTH_NOT_SERVING);
    tn_cluster_drain();
    if (s->up.matching)
        tn_matching_stop(); /* parked polls end: their workers ask elsewhere */
    if (s->up.history)
        tn_history_drain();
    uint64_t begun_ns = tn_now_mono_ns();
    if (s->rpc)
        tn_rpc_server_drain_with(s->rpc, drain_ns, s->cluster ? tn_cluster_end_waits : NULL);
    if (s->http) { /* has the rest of the time, and a moment in any case */
        uint64_t gone_ns = tn_now_mono_ns() - begun_ns;
        tn_rpc_server_drain_with(s->http, gone_ns < drain_ns ? drain_ns - gone_ns : 10 * TN_MS,
                                 s->cluster ? tn_cluster_end_waits : NULL);
    }
    if (s->cluster)
        tn_cluster_close_ports(drain_ns);
    if (s->up.worker) {
        tn_drainage_stop();
        tn_reclaim_stop();
        tn_worker_stop();
    }
    if (s->up.history)
        tn_history_stop();
    tn_shardmap_stop();
    tn_namespace_reread_stop();
    tn_cluster_leave();
    tn_rpc_server_destroy(s->rpc);
    tn_rpc_server_destroy(s->http);
    if (s->metrics)
        tn_loop_call(tn_loops_get(0), close_metrics, s);
    if (s->up.namespaces) {
        tn_endpoints_stop();
        tn_deployments_stop();
        tn_namespace_stop();
    }
    if (s->up.visibility)
        tn_vis_stop();
    if (s->up.store)
        tn_store_stop();
    if (s->up.auth)
        tn_auth_stop();
    tn_audit_stop();
    tn_server_bury_all(s, TN_SEC);
    for (int i = PLUGIN_COUNT - 1; i >= 0; i--)
        tn_plugin_close(s->plugins[i]);
    if (s->up.dynconfig)
        tn_loop_call(tn_loops_get(0), tn_dynconfig_unwatch, NULL);
    if (s->tls)
        tn_loop_call(tn_loops_get(0), tn_tls_unwatch, s->tls);
    if (s->up.loops) {
        tn_loops_stop();
        tn_members_done();
        tn_loops_destroy();
    }
    if (s->up.dynconfig)
        tn_dynconfig_stop();
    tn_tls_close(s->tls);
    tn_settings_ref_drop(s->tls_from);
    tn_settings_ref_drop(s->current);
    tn_settings_ref_drop(s->started);
    tn_token_forget_key();
    tn_remote_forget();
    tn_keys_forget();
    explicit_bzero(s->token_key, sizeof(s->token_key));
}

static void reload(server *s)
{
    tn_buf report = {0};
    bool asked = tn_control_asked();
    tn_notify_reloading();
    tn_audit_reopen(); /* a rotated file is let go whatever becomes of the rest */
    bool ok = tn_server_reload(s, &report);
    tn_notify("READY=1\nSTATUS=%s",
              ok ? "serving, reloaded"
                 : "serving; the newest configuration was refused, see the log");
    if (asked)
        tn_control_answer(ok, &report);
    tn_buf_done(&report);
}

/* Until a signal ends it. */
static void live(server *s)
{
    for (;;) {
        uint64_t look_ns = tn_server_bury(s);
        int sig = look_ns ? tn_main_wait_signal_for(look_ns) : tn_main_wait_signal();
        if (sig == SIGHUP) {
            reload(s);
        } else if (sig) {
            TN_LOG(TN_LOG_INFO, "server", "stopping", TN_LOG_I("signal", sig));
            return;
        }
    }
}

/* A reload that comes while we start waits for the end of the start; without this it would end us. */
static void hold_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int tn_server_run(const tn_args *args)
{
    server s = {.args = args};
    if (gethostname(s.host, sizeof(s.host) - 1) != 0)
        snprintf(s.host, sizeof(s.host), "localhost");
    hold_signals();
    int failed = start(&s);
    if (!failed)
        live(&s);
    stop(&s);
    return s.interrupted ? 0 : failed;
}
