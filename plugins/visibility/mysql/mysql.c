/* SPDX-License-Identifier: MIT */
/* visibility/mysql: runs as documents in InnoDB tables of a MySQL or MariaDB database.  This file holds
 * the configuration, the life cycle of an instance and the plugin's table. */
#include "private.h"

#include <stdlib.h>

#include "visibility_mysql_schema.h"

static const ms_schema SCHEMA = {.component = "visibility",
                                 .newest = sizeof SCHEMA_VERSIONS / sizeof SCHEMA_VERSIONS[0],
                                 .versions = SCHEMA_VERSIONS};

static const char CONFIG_KEYS[] =
    MS_CONFIG_KEYS "linger duration 500ms - a write waits so long for others\n"
                   "batchMax int 1024 - ... or until so many wait\n";

static void stop_threads(mv_inst *inst)
{
    pthread_mutex_lock(&inst->lock);
    inst->stopping = true;
    pthread_cond_broadcast(&inst->write_wake);
    pthread_cond_broadcast(&inst->read_wake);
    uint32_t readers = inst->readers_started;
    pthread_mutex_unlock(&inst->lock);
    for (uint32_t i = 0; i < readers; i++)
        pthread_join(inst->readers[i].thread, NULL);
    if (inst->writer_started)
        pthread_join(inst->writer_thread, NULL);
}

static void destroy(mv_inst *inst)
{
    stop_threads(inst);
    pthread_mutex_destroy(&inst->lock);
    pthread_mutex_destroy(&inst->names.lock);
    pthread_cond_destroy(&inst->write_wake);
    pthread_cond_destroy(&inst->read_wake);
    mv_names_done(&inst->names);
    ms_options_done(&inst->options);
    free(inst);
}

static void make_locks(mv_inst *inst)
{
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&inst->lock, NULL);
    pthread_mutex_init(&inst->names.lock, NULL);
    pthread_cond_init(&inst->write_wake, &clock);
    pthread_cond_init(&inst->read_wake, &clock);
    pthread_condattr_destroy(&clock);
}

static tn_status look_at_database(mv_inst *inst, tn_error *err)
{
    ms_conn conn;
    ms_conn_init(&conn, inst->host, inst, &inst->options);
    tn_status status =
        ms_connect(&conn, inst->host->mono_ns() + inst->options.connect_timeout_ns, err);
    if (status == TN_OK)
        status = ms_schema_expect(&conn, &SCHEMA, err);
    ms_disconnect(&conn);
    return status;
}

static tn_status read_config(mv_inst *inst, const tn_config *cfg, tn_error *err)
{
    int64_t batch = MV_TAKE_MAX;
    inst->linger_ns = 500 * MS_MS;
    tn_status status = ms_options_read(inst->host, cfg, &inst->options, err);
    if (status == TN_OK) {
        status = inst->host->cfg_dur_ns(cfg, "linger", &inst->linger_ns, err);
        if (status == TN_ENOTFOUND)
            status = TN_OK;
    }
    if (status == TN_OK)
        status = ms_option_i64(inst->host, cfg, "batchMax", 1, MV_TAKE_MAX, &batch, err);
    inst->batch_max = (size_t)batch;
    return status;
}

static void make_metrics(mv_inst *inst)
{
    const tn_host *h = inst->host;
    inst->m_batches = h->metric(inst, "batches", TN_METRIC_COUNTER, "Transactions of documents");
    inst->m_documents = h->metric(inst, "documents", TN_METRIC_COUNTER, "Puts and removes");
    inst->m_retries =
        h->metric(inst, "batches_repeated", TN_METRIC_COUNTER, "Transactions that were done again");
    inst->m_seconds =
        h->metric(inst, "batch_seconds", TN_METRIC_HISTOGRAM, "Time of a transaction");
}

static tn_status open_instance(const tn_host *host, const tn_config *cfg, void **out, tn_error *err)
{
    mv_inst *inst = calloc(1, sizeof *inst);
    if (!inst)
        return ms_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    inst->host = host;
    ms_library_init();
    make_locks(inst);
    tn_status status = read_config(inst, cfg, err);
    if (status == TN_OK)
        status = ms_schema_auto(host, cfg, &inst->options, &SCHEMA, err);
    if (status == TN_OK)
        status = look_at_database(inst, err);
    if (status == TN_OK) {
        inst->readers_most = inst->options.max_conns - 1;
        if (inst->readers_most > MV_READERS_MAX)
            inst->readers_most = MV_READERS_MAX;
        make_metrics(inst);
        ms_conn_init(&inst->writer, host, inst, &inst->options);
        inst->writer.durable_reported = true;
        if (pthread_create(&inst->writer_thread, NULL, mv_writer_main, inst) == 0)
            inst->writer_started = true;
        else
            status = ms_error(err, TN_EUNAVAILABLE, 0, "cannot start a thread");
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

/* Names are made when a document has them; here only what could not be one is refused. */
static tn_status define(void *ctx, tn_op *op, const tn_attr *attrs, size_t n)
{
    const mv_inst *inst = ctx;
    tn_error err = {0};
    for (size_t i = 0; i < n; i++) {
        if (attrs[i].name.n && attrs[i].name.n <= MV_NAME_MAX && attrs[i].type >= TN_ATTR_TEXT &&
            attrs[i].type <= TN_ATTR_KEYWORD_LIST)
            continue;
        ms_error(&err, TN_EINVALID, 0, "an attribute without a name or of an unknown type");
        inst->host->op_explain(op, &err);
        return TN_EINVALID;
    }
    return TN_OK;
}

static const tn_visibility_ops OPS = {.put = mv_put_op,
                                      .remove = mv_remove_op,
                                      .list = mv_list_op,
                                      .count = mv_count_op,
                                      .define = define};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_VISIBILITY,
    .ops_size = sizeof(tn_visibility_ops),
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
