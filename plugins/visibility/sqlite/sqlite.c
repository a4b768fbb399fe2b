/* SPDX-License-Identifier: MIT */
/* visibility/sqlite: runs as documents in one SQLite file.  This file holds the configuration, the life
 * cycle of an instance and the plugin's table; private.h says where the rest is, README.md why. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- configuration ---------------------------------------------------------------------------- */

static const char CONFIG_KEYS[] =
    "path string - - the database file, or :memory: for one that ends with the process\n"
    "linger duration 500ms - a write waits so long for company; lists and counts never see the "
    "wait\n"
    "batchMax int 1024 - ... or until so many wait\n"
    "patience duration 100ms - a list that its index has not answered by then reads the table "
    "through\n"
    "busyTimeout duration 5s - how long to wait for another program that holds the file\n"
    "cacheBytes int 6291456 - page caches of all connections together\n"
    "walBytes int 33554432 - the write-ahead log is copied into the file above this\n"
    "readers int 2 - threads that read\n"
    "pageSize int 1024 - of a new file\n";

static tn_status get_i64(const tn_host *host, const tn_config *cfg, const char *key, int64_t least,
                         int64_t most, int64_t *value, tn_error *err)
{
    tn_status status = host->cfg_i64(cfg, key, value, err);
    if (status == TN_ENOTFOUND)
        return TN_OK;
    if (status != TN_OK || (*value >= least && *value <= most))
        return status;
    char text[120];
    snprintf(text, sizeof text, "%lld is not within %lld to %lld", (long long)*value,
             (long long)least, (long long)most);
    host->cfg_complain(cfg, key, text, err);
    return TN_EINVALID;
}

static tn_status get_duration(const tn_host *host, const tn_config *cfg, const char *key,
                              uint64_t most_ns, uint64_t *ns, tn_error *err)
{
    tn_status status = host->cfg_dur_ns(cfg, key, ns, err);
    if (status == TN_ENOTFOUND)
        return TN_OK;
    if (status == TN_OK && *ns > most_ns) {
        host->cfg_complain(cfg, key, "is too long", err);
        return TN_EINVALID;
    }
    return status;
}

static tn_status get_path(const tn_host *host, const tn_config *cfg, vs_options *o, tn_error *err)
{
    tn_str path = {0};
    tn_status status = host->cfg_str(cfg, "path", &path, err);
    if (status == TN_ENOTFOUND || (status == TN_OK && path.n == 0)) {
        host->cfg_complain(cfg, "path", "is not set\n  fix: path: /var/lib/tenon/visibility.db",
                           err);
        return TN_EINVALID;
    }
    if (status != TN_OK)
        return status;
    o->path = malloc(path.n + 1);
    if (!o->path)
        return vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    memcpy(o->path, path.p, path.n);
    o->path[path.n] = '\0';
    o->memory = strcmp(o->path, ":memory:") == 0;
    return TN_OK;
}

static tn_status read_config(vs_inst *inst, const tn_config *cfg, tn_error *err)
{
    const tn_host *host = inst->host;
    vs_options *o = &inst->options;
    int64_t readers = 2, batch_max = 1024;
    uint64_t busy_ns = 5000 * VS_MS;
    *o = (vs_options){.linger_ns = 500 * VS_MS,
                      .patience_ns = 100 * VS_MS,
                      .cache_bytes = 6 << 20,
                      .wal_bytes = 32 << 20,
                      .page_bytes = 1024};
    tn_status status = get_path(host, cfg, o, err);
    if (status == TN_OK)
        status = get_duration(host, cfg, "linger", 10000 * VS_MS, &o->linger_ns, err);
    if (status == TN_OK)
        status = get_duration(host, cfg, "patience", 10000 * VS_MS, &o->patience_ns, err);
    if (status == TN_OK)
        status = get_duration(host, cfg, "busyTimeout", 600000 * VS_MS, &busy_ns, err);
    if (status == TN_OK)
        status = get_i64(host, cfg, "batchMax", 1, 4096, &batch_max, err);
    if (status == TN_OK)
        status = get_i64(host, cfg, "cacheBytes", 1 << 18, INT64_C(1) << 36, &o->cache_bytes, err);
    if (status == TN_OK)
        status = get_i64(host, cfg, "walBytes", 1 << 18, INT64_C(1) << 32, &o->wal_bytes, err);
    if (status == TN_OK)
        status = get_i64(host, cfg, "readers", 1, VS_READERS_MAX, &readers, err);
    if (status == TN_OK)
        status = get_i64(host, cfg, "pageSize", 512, 65536, &o->page_bytes, err);
    if (status == TN_OK && (o->page_bytes & (o->page_bytes - 1))) {
        host->cfg_complain(cfg, "pageSize", "is not a power of two", err);
        status = TN_EINVALID;
    }
    o->busy_ms = (int)(busy_ns / VS_MS);
    o->batch_max = (size_t)batch_max;
    o->readers = o->memory ? 0 : (uint32_t)readers;
    return status;
}

/* ---- life ------------------------------------------------------------------------------------- */

static void stop_threads(vs_inst *inst)
{
    pthread_mutex_lock(&inst->lock);
    inst->stopping = true;
    pthread_cond_broadcast(&inst->write_wake);
    pthread_cond_broadcast(&inst->read_wake);
    pthread_mutex_unlock(&inst->lock);
    while (inst->readers_started)
        pthread_join(inst->reader_threads[--inst->readers_started], NULL);
    if (inst->writer_started)
        pthread_join(inst->writer_thread, NULL);
    inst->writer_started = false;
}

static void destroy(vs_inst *inst)
{
    stop_threads(inst);
    for (size_t i = 0; i < VS_READERS_MAX; i++)
        vs_conn_close(&inst->readers[i]);
    vs_conn_close(&inst->writer); /* the last one copies the log into the file */
    if (inst->lock_fd >= 0)
        close(inst->lock_fd);
    pthread_cond_destroy(&inst->write_wake);
    pthread_cond_destroy(&inst->read_wake);
    pthread_mutex_destroy(&inst->lock);
    free(inst->options.path);
    free(inst);
}

static tn_status start_threads(vs_inst *inst, tn_error *err)
{
    if (pthread_create(&inst->writer_thread, NULL, vs_writer_main, inst) != 0)
        return vs_error(err, TN_EUNAVAILABLE, 0, "cannot start a thread");
    inst->writer_started = true;
    while (inst->readers_started < inst->options.readers) {
        uint32_t i = inst->readers_started;
        inst->readers[i].inst = inst; /* connected at the first query */
        if (pthread_create(&inst->reader_threads[i], NULL, vs_reader_main, &inst->readers[i]) != 0)
            return vs_error(err, TN_EUNAVAILABLE, 0, "cannot start a thread");
        inst->readers_started++;
    }
    return TN_OK;
}

static void init_locks(vs_inst *inst)
{
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&inst->lock, NULL);
    pthread_cond_init(&inst->write_wake, &clock);
    pthread_cond_init(&inst->read_wake, &clock);
    pthread_condattr_destroy(&clock);
}

static tn_status open_instance(const tn_host *host, const tn_config *cfg, void **out, tn_error *err)
{
    vs_inst *inst = calloc(1, sizeof *inst);
    if (!inst)
        return vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    inst->host = host;
    inst->lock_fd = -1;
    init_locks(inst);
    tn_status status = read_config(inst, cfg, err);
    if (status == TN_OK && !inst->options.memory)
        status = vs_lock_take(inst->options.path, &inst->lock_fd, err);
    if (status == TN_OK)
        status = vs_conn_open(inst, true, &inst->writer, err);
    if (status == TN_OK) {
        inst->m_batches =
            host->metric(inst, "batches", TN_METRIC_COUNTER, "Transactions of documents");
        inst->m_documents = host->metric(inst, "documents", TN_METRIC_COUNTER, "Puts and removes");
        inst->m_sync_seconds =
            host->metric(inst, "batch_seconds", TN_METRIC_HISTOGRAM, "Time of a transaction");
        status = start_threads(inst, err);
    }
    if (status != TN_OK) {
        destroy(inst);
        return status;
    }
    *out = inst;
    return TN_OK;
}

static tn_status attach(void *inst, tn_loop *loop, void **ctx, tn_error *err)
{
    (void)loop, (void)err;
    *ctx = inst;
    return TN_OK;
}

static void detach(void *inst, void *ctx) { (void)inst, (void)ctx; }

static void close_instance(void *inst) { destroy(inst); }

/* Attributes need no preparation: names are interned when a document first has them. */
static tn_status define(void *ctx, tn_op *op, const tn_attr *attrs, size_t n)
{
    (void)ctx, (void)op;
    for (size_t i = 0; i < n; i++)
        if (attrs[i].type < TN_ATTR_TEXT || attrs[i].type > TN_ATTR_KEYWORD_LIST ||
            attrs[i].name.n == 0)
            return TN_EINVALID;
    return TN_OK;
}

static const tn_visibility_ops OPS = {.put = vs_put_op,
                                      .remove = vs_remove_op,
                                      .list = vs_list_op,
                                      .count = vs_count_op,
                                      .define = define};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_VISIBILITY,
    .ops_size = sizeof(tn_visibility_ops),
    .name = "sqlite",
    .version = "0.1.0",
    .vendor = "Tenon",
    .config_keys = CONFIG_KEYS,
    .open = open_instance,
    .attach = attach,
    .detach = detach,
    .close = close_instance,
    .ops = &OPS,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
