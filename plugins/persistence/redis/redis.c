/* SPDX-License-Identifier: MIT */
/* persistence/redis: rows of the server in Redis.  This file holds the life of an instance and the plugin's
 * table; private.h says where the rest is, README.md why. */
#include "private.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char CONFIG_KEYS[] =
    "connectAddr string - - host:port of the server, or the absolute path of its socket\n"
    "sentinels list - - host:port of each sentinel, instead of connectAddr\n"
    "masterName string - - what the sentinels call the master\n"
    "sentinelUser string - - of the sentinels\n"
    "sentinelPassword secret - - of the sentinels\n"
    "cluster list - - host:port of some servers of a Redis Cluster, instead of connectAddr\n"
    "user string - - Redis user (default: the default user)\n"
    "password secret - - its password\n"
    "database int 0 - number of the database (SELECT)\n"
    "keyPrefix string tenon: - every key begins with it\n"
    "allowVolatile bool false - start although Redis may lose acknowledged work\n"
    "autoSetup bool false - make the schema at the start when there is none\n"
    "waitReplicas int 0 - replicas that must confirm a commit before it is acknowledged\n"
    "waitTimeout duration 1s - how long to wait for them\n"
    "connectTimeout duration 2s - of one attempt to connect\n"
    "commandTimeout duration 5s - a connection that answers nothing for so long is given up\n"
    "tls.enabled bool false - speak TLS\n"
    "tls.caFile string - - authorities, instead of the system's\n"
    "tls.certFile string - - our certificate\n"
    "tls.keyFile string - - and its key\n"
    "tls.enableHostVerification bool true - demand a good certificate of that name\n"
    "tls.serverName string - - the name to demand (default: the host connected to)\n";

/* ---- life --------------------------------------------------------------------------------------- */

static void destroy(rd_inst *inst)
{
    rd_options_done(&inst->options);
    free(inst->map);
    free(inst);
}

static void make_metrics(rd_inst *inst)
{
    const tn_host *h = inst->host;
    inst->m_groups = h->metric(inst, "groups", TN_METRIC_COUNTER, "Groups of commits sent");
    inst->m_commits = h->metric(inst, "commits", TN_METRIC_COUNTER, "Commits in them");
    inst->m_connects = h->metric(inst, "connects", TN_METRIC_COUNTER, "Connections made");
    inst->m_redirects =
        h->metric(inst, "redirects", TN_METRIC_COUNTER, "Requests that a cluster sent elsewhere");
    inst->m_seconds = h->metric(inst, "group_seconds", TN_METRIC_HISTOGRAM,
                                "Time of a group, from submit to answer");
}

static tn_status name_scripts(rd_inst *inst, tn_error *err)
{
    for (int i = 0; i < RD_SCRIPTS; i++) {
        unsigned char sum[EVP_MAX_MD_SIZE];
        unsigned n = 0;
        if (EVP_Digest(rd_script_text[i], strlen(rd_script_text[i]), sum, &n, EVP_sha1(), NULL) !=
            1)
            return rd_error(err, TN_EUNAVAILABLE, 0, "OpenSSL has no SHA-1, which names scripts");
        for (unsigned k = 0; k < n && k < 20; k++)
            snprintf(inst->sha[i] + 2 * k, 3, "%02x", sum[k]);
    }
    return TN_OK;
}

static tn_status check_nodes(rd_inst *inst, tn_error *err)
{
    rd_sync sync;
    rd_told told = {0};
    redisReply *reply = NULL;
    inst->map = calloc(1, sizeof *inst->map);
    if (!inst->map)
        return rd_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    tn_status status =
        rd_sync_open(&sync, inst->host, &inst->options, NULL, RD_TO_NODE, &told, err);
    if (status == TN_OK)
        status = rd_sync_words(&sync, &reply, err, "CLUSTER", "SLOTS", NULL);
    if (status == TN_OK)
        status = rd_map_parse(inst->map, reply, &sync.at, err);
    if (reply)
        freeReplyObject(reply);
    rd_sync_close(&sync);
    for (uint32_t i = 0; status == TN_OK && i < inst->map->n_nodes; i++) {
        status = rd_sync_open(&sync, inst->host, &inst->options, &inst->map->nodes[i], RD_TO_NODE,
                              &told, err);
        rd_sync_close(&sync);
    }
    return status;
}

/* A machine that starts anew starts Redis and this server together: the log file may take a while to load. */
static tn_status check_server(rd_inst *inst, tn_error *err)
{
    for (int tries = 0;; tries++) {
        tn_status status = inst->options.mode == RD_CLUSTER ? check_nodes(inst, err) : TN_OK;
        if (status == TN_OK)
            status = rd_schema_setup(inst->host, &inst->options, err);
        if (status != TN_EUNAVAILABLE || !strstr(err->text, "loading its data") || tries == 600)
            return status;
        free(inst->map);
        inst->map = NULL;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
}

static tn_status open_instance(const tn_host *host, const tn_config *cfg, void **out, tn_error *err)
{
    rd_inst *inst = calloc(1, sizeof *inst);
    if (!inst)
        return rd_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    inst->host = host;
    tn_status status = rd_options_read(host, cfg, &inst->options, err);
    if (status == TN_OK)
        status = name_scripts(inst, err);
    if (status == TN_OK)
        status = check_server(inst, err);
    if (status != TN_OK) {
        destroy(inst);
        return status;
    }
    make_metrics(inst);
    if (inst->options.allow_volatile) {
        static const char text[] =
            "allowVolatile is set: acknowledged work is lost when Redis or its machine "
            "fails, unless it runs with appendonly yes, appendfsync always";
        host->log(inst, TN_LEVEL_WARN, text, sizeof text - 1);
    }
    *out = inst;
    return TN_OK;
}

static tn_status attach(void *inst, tn_loop *loop, void **ctx, tn_error *err)
{
    *ctx = rd_ctx_create(inst, loop);
    return *ctx ? TN_OK : rd_error(err, TN_EUNAVAILABLE, 0, "out of memory");
}

static void detach(void *inst, void *ctx)
{
    (void)inst;
    rd_ctx_destroy(ctx);
}

static void close_instance(void *inst) { destroy(inst); }

static const tn_persistence_ops OPS = {
    .get = rd_get, .scan = rd_scan, .commit = rd_commit, .ping = rd_ping};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_PERSISTENCE,
    .ops_size = sizeof(tn_persistence_ops),
    .caps = TN_CAP_ATOMIC_CROSS_TABLE | TN_CAP_RANGE_DELETE | TN_CAP_DURABLE,
    .name = "redis",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys = CONFIG_KEYS,
    .open = open_instance,
    .attach = attach,
    .detach = detach,
    .close = close_instance,
    .ops = &OPS,
    .schema = rd_schema,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
