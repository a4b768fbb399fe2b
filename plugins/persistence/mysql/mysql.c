/* SPDX-License-Identifier: MIT */
/* persistence/mysql: rows of the server in InnoDB tables of a MySQL or MariaDB database.  This file holds
 * the configuration, the life cycle of an instance and the plugin's table; private.h says where the
 * rest is, README.md why. */
#include "private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "persistence_mysql_schema.h"

static const ms_schema SCHEMA = {.component = "persistence",
                                 .newest = sizeof SCHEMA_VERSIONS / sizeof SCHEMA_VERSIONS[0],
                                 .versions = SCHEMA_VERSIONS};

static const char CONFIG_KEYS[] =
    MS_CONFIG_KEYS "writers int 1 - connections that commit; each takes all that waits as one "
                   "transaction\n";

/* ---- life --------------------------------------------------------------------------------------- */

static void stop_threads(my_inst *inst)
{
    pthread_mutex_lock(&inst->read_lock);
    inst->read_stopping = true;
    pthread_cond_broadcast(&inst->read_wake);
    uint32_t readers = inst->readers;
    pthread_mutex_unlock(&inst->read_lock);
    for (uint32_t i = 0; i < readers; i++)
        pthread_join(inst->reader_threads[i], NULL);
    for (uint32_t i = 0; i < inst->n_lanes; i++) {
        my_lane *lane = &inst->lanes[i];
        pthread_mutex_lock(&lane->lock);
        lane->stopping = true;
        pthread_cond_signal(&lane->wake);
        pthread_mutex_unlock(&lane->lock);
        if (lane->started)
            pthread_join(lane->thread, NULL);
    }
}

static void destroy(my_inst *inst)
{
    stop_threads(inst);
    for (uint32_t i = 0; i < MY_LANES_MAX; i++) {
        pthread_mutex_destroy(&inst->lanes[i].lock);
        pthread_cond_destroy(&inst->lanes[i].wake);
    }
    pthread_mutex_destroy(&inst->read_lock);
    pthread_cond_destroy(&inst->read_wake);
    ms_options_done(&inst->options);
    free(inst);
}

/* Is it there, durable, and with our tables? */
static tn_status look_at_database(my_inst *inst, tn_error *err)
{
    ms_conn conn;
    ms_reply reply;
    uint64_t deadline = inst->host->mono_ns() + inst->options.connect_timeout_ns;
    ms_conn_init(&conn, inst->host, inst, &inst->options);
    tn_status status = ms_connect(&conn, deadline, err);
    if (status == TN_OK)
        status = ms_schema_expect(&conn, &SCHEMA, err);
    if (status == TN_OK) {
        /* Writers that ended without a word.  One that lives and comes back makes its row anew. */
        tn_error ignored = {0};
        ms_run_z(&conn, "DELETE FROM tenon_lane WHERE seen<NOW()-INTERVAL 30 DAY", deadline, &reply,
                 &ignored);
        ms_reply_done(&reply);
        if (conn.packet_max < ((size_t)64 << 20))
            ms_log(&conn, TN_LEVEL_INFO,
                   "max_allowed_packet is %zu: a value larger than that is refused",
                   conn.packet_max);
    }
    ms_disconnect(&conn);
    return status;
}

static tn_status start_lanes(my_inst *inst, tn_error *err)
{
    for (uint32_t i = 0; i < inst->n_lanes; i++) {
        my_lane *lane = &inst->lanes[i];
        lane->inst = inst;
        if (getrandom(&lane->id, sizeof lane->id, 0) != sizeof lane->id)
            return ms_error(err, TN_EUNAVAILABLE, 0, "no random numbers");
        lane->id >>= 1;
        ms_conn_init(&lane->conn, inst->host, inst, &inst->options);
        lane->conn.durable_reported = true;
        if (pthread_create(&lane->thread, NULL, my_lane_main, lane) != 0)
            return ms_error(err, TN_EUNAVAILABLE, 0, "cannot start a thread");
        lane->started = true;
    }
    return TN_OK;
}

static void make_metrics(my_inst *inst)
{
    const tn_host *h = inst->host;
    inst->m_groups = h->metric(inst, "groups", TN_METRIC_COUNTER, "Groups of commits written");
    inst->m_commits = h->metric(inst, "commits", TN_METRIC_COUNTER, "Commits decided");
    inst->m_looked = h->metric(inst, "looked", TN_METRIC_COUNTER,
                               "Transactions that had to read before they wrote");
    inst->m_retries = h->metric(inst, "retries", TN_METRIC_COUNTER,
                                "Transactions begun again after a deadlock or a lost connection");
    inst->m_resolved = h->metric(inst, "resolved", TN_METRIC_COUNTER,
                                 "Lost answers to a COMMIT whose outcome was asked for");
    inst->m_uncertain =
        h->metric(inst, "uncertain", TN_METRIC_COUNTER, "Groups whose outcome stayed unknown");
    inst->m_connects = h->metric(inst, "connects", TN_METRIC_COUNTER, "Connections of writers");
    inst->m_sql_bytes =
        h->metric(inst, "sql_bytes", TN_METRIC_COUNTER, "Bytes of statements sent by writers");
    inst->m_seconds =
        h->metric(inst, "group_seconds", TN_METRIC_HISTOGRAM, "Time of a group of commits");
}

static tn_status open_instance(const tn_host *host, const tn_config *cfg, void **out, tn_error *err)
{
    my_inst *inst = calloc(1, sizeof *inst);
    int64_t writers = 1;
    if (!inst)
        return ms_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    inst->host = host;
    ms_library_init();
    pthread_mutex_init(&inst->read_lock, NULL);
    pthread_cond_init(&inst->read_wake, NULL);
    for (uint32_t i = 0; i < MY_LANES_MAX; i++) {
        pthread_mutex_init(&inst->lanes[i].lock, NULL);
        pthread_cond_init(&inst->lanes[i].wake, NULL);
    }
    tn_status status = ms_options_read(host, cfg, &inst->options, err);
    if (status == TN_OK)
        status = ms_option_i64(host, cfg, "writers", 1, MY_LANES_MAX, &writers, err);
    if (status == TN_OK)
        status = ms_schema_auto(host, cfg, &inst->options, &SCHEMA, err);
    if (status == TN_OK)
        status = look_at_database(inst, err);
    if (status == TN_OK) {
        uint32_t conns = inst->options.max_conns;
        inst->n_lanes = (uint32_t)writers < conns ? (uint32_t)writers : conns - 1;
        inst->readers_most = conns - inst->n_lanes;
        if (inst->readers_most > MY_READERS_MAX)
            inst->readers_most = MY_READERS_MAX;
        make_metrics(inst);
        status = start_lanes(inst, err);
    }
    if (status != TN_OK) {
        destroy(inst);
        return status;
    }
    *out = inst;
    return TN_OK;
}

static void close_instance(void *inst) { destroy(inst); }

static tn_status schema(const tn_host *host, const tn_config *cfg, tn_schema_req *req,
                        tn_error *err)
{
    return ms_schema_run(host, cfg, &SCHEMA, req, err);
}

static void commit(void *ctx, tn_commit_req *const *reqs, size_t n)
{
    my_lane_submit(ctx, reqs, n);
}

static const tn_persistence_ops OPS = {
    .get = my_get, .scan = my_scan, .commit = commit, .ping = my_ping};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_PERSISTENCE,
    .ops_size = sizeof(tn_persistence_ops),
    .caps = TN_CAP_ATOMIC_CROSS_TABLE | TN_CAP_ATOMIC_CROSS_PARTITION | TN_CAP_RANGE_DELETE |
            TN_CAP_DURABLE,
    .name = "mysql",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys = CONFIG_KEYS,
    .open = open_instance,
    .close = close_instance,
    .ops = &OPS,
    .schema = schema,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
