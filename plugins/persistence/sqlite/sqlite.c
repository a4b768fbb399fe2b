/* SPDX-License-Identifier: MIT */
/* persistence/sqlite: rows of the server in one SQLite file.  This file holds the configuration, the life
 * cycle of an instance and the plugin's table; private.h says where the rest is, README.md why. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- configuration ------------------------------------------------------------------------------ */

static const char CONFIG_KEYS[] =
    "path string - - the database file, or :memory: for one that ends with the process\n"
    "busyTimeout duration 5s - how long to wait for another program that holds the file\n"
    "cacheBytes int 8388608 - page caches of all connections together\n"
    "journalBytes int 16777216 - rows move from memory and journal into the tables above this\n"
    "walBytes int 67108864 - the write-ahead log is copied into the file above this\n"
    "idleFlush duration 30s - ... and when no commit came for so long\n"
    "gather duration 500us - under load a group of commits waits so long for more; 0s: never\n"
    "readers int 2 - threads that read\n"
    "pageSize int 4096 - of a new file\n";

static tn_status get_i64(const tn_host *host, const tn_config *cfg, const char *key, int64_t least,
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
    host->cfg_complain(cfg, key, text, err);
    return TN_EINVALID;
}

static tn_status get_duration(const tn_host *host, const tn_config *cfg, const char *key,
                              uint64_t *ns, tn_error *err)
{
    tn_status status = host->cfg_dur_ns(cfg, key, ns, err);
    return status == TN_ENOTFOUND ? TN_OK : status;
}

static tn_status read_config(sq_inst *inst, const tn_config *cfg, tn_error *err)
{
    const tn_host *host = inst->host;
    sq_options *o = &inst->options;
    int64_t readers = 2;
    uint64_t busy_ns = 5 * SQ_SEC;
    tn_str path = {0};
    *o = (sq_options){.cache_bytes = 8 << 20,
                      .journal_bytes = 16 << 20,
                      .wal_bytes = 64 << 20,
                      .page_bytes = 4096,
                      .idle_flush_ns = 30 * SQ_SEC,
                      .gather_ns = SQ_MS / 2};
    tn_status status = host->cfg_str(cfg, "path", &path, err);
    if (status == TN_ENOTFOUND || (status == TN_OK && path.n == 0)) {
        host->cfg_complain(cfg, "path", "is not set\n  fix: path: /var/lib/tenon/tenon.db", err);
        return TN_EINVALID;
    }
    if (status == TN_OK)
        status = get_duration(host, cfg, "busyTimeout", &busy_ns, err);
    if (status == TN_OK)
        status = get_duration(host, cfg, "idleFlush", &o->idle_flush_ns, err);
    if (status == TN_OK)
        status = get_duration(host, cfg, "gather", &o->gather_ns, err);
    if (status == TN_OK && o->gather_ns > SQ_SEC) {
        host->cfg_complain(cfg, "gather", "is too long", err);
        return TN_EINVALID;
    }
    if (status == TN_OK)
        status = get_i64(host, cfg, "cacheBytes", 1 << 18, INT64_C(1) << 36, &o->cache_bytes, err);
    if (status == TN_OK)
        status = get_i64(host, cfg, "journalBytes", 1 << 16, 1 << 28, &o->journal_bytes, err);
    if (status == TN_OK)
        status = get_i64(host, cfg, "walBytes", 1 << 18, INT64_C(1) << 32, &o->wal_bytes, err);
    if (status == TN_OK)
        status = get_i64(host, cfg, "readers", 1, SQ_READERS_MAX, &readers, err);
    if (status == TN_OK)
        status = get_i64(host, cfg, "pageSize", 512, 65536, &o->page_bytes, err);
    if (status != TN_OK)
        return status;
    if (o->page_bytes & (o->page_bytes - 1)) {
        host->cfg_complain(cfg, "pageSize", "is not a power of two", err);
        return TN_EINVALID;
    }
    char *copy = malloc(path.n + 1);
    if (!copy)
        return sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    memcpy(copy, path.p, path.n);
    copy[path.n] = '\0';
    o->path = copy;
    o->memory = strcmp(copy, ":memory:") == 0;
    o->readers = (uint32_t)readers;
    o->busy_ms = busy_ns / SQ_MS > 600000 ? 600000 : (int)(busy_ns / SQ_MS);
    return TN_OK;
}

/* ---- life --------------------------------------------------------------------------------------- */

static void stop_threads(sq_inst *inst)
{
    if (inst->readers_started) {
        pthread_mutex_lock(&inst->read_lock);
        inst->read_stopping = true;
        pthread_cond_broadcast(&inst->read_wake);
        pthread_mutex_unlock(&inst->read_lock);
        while (inst->readers_started)
            pthread_join(inst->reader_threads[--inst->readers_started], NULL);
    }
    if (inst->checkpoint_started) {
        pthread_mutex_lock(&inst->checkpoint_lock);
        inst->checkpoint_stopping = true;
        pthread_cond_signal(&inst->checkpoint_wake);
        pthread_mutex_unlock(&inst->checkpoint_lock);
        pthread_join(inst->checkpoint_thread, NULL);
        inst->checkpoint_started = false;
    }
    if (inst->writer_started) {
        pthread_mutex_lock(&inst->queue_lock);
        inst->stopping = true;
        pthread_cond_signal(&inst->queue_wake);
        pthread_mutex_unlock(&inst->queue_lock);
        pthread_join(inst->writer_thread, NULL);
        inst->writer_started = false;
    }
}

static void destroy(sq_inst *inst)
{
    stop_threads(inst);
    sq_writer_close(inst);
    sq_table_done(&inst->active);
    sq_table_done(&inst->frozen);
    sq_table_done(&inst->writer.delta);
    if (inst->lock_fd >= 0)
        close(inst->lock_fd);
    pthread_rwlock_destroy(&inst->view_lock);
    pthread_mutex_destroy(&inst->queue_lock);
    pthread_mutex_destroy(&inst->read_lock);
    pthread_mutex_destroy(&inst->checkpoint_lock);
    pthread_cond_destroy(&inst->queue_wake);
    pthread_cond_destroy(&inst->read_wake);
    pthread_cond_destroy(&inst->checkpoint_wake);
    free((char *)(uintptr_t)inst->options.path);
    free(inst);
}

static void init_locks(sq_inst *inst)
{
    pthread_rwlockattr_t rw;
    pthread_rwlockattr_init(&rw);
    /* Many short reads must not keep the one writer out. */
    pthread_rwlockattr_setkind_np(&rw, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&inst->view_lock, &rw);
    pthread_rwlockattr_destroy(&rw);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&inst->queue_lock, NULL);
    pthread_mutex_init(&inst->read_lock, NULL);
    pthread_mutex_init(&inst->checkpoint_lock, NULL);
    pthread_cond_init(&inst->queue_wake, &clock);
    pthread_cond_init(&inst->read_wake, &clock);
    pthread_cond_init(&inst->checkpoint_wake, &clock);
    pthread_condattr_destroy(&clock);
}

static tn_status start_threads(sq_inst *inst, tn_error *err)
{
    if (pthread_create(&inst->writer_thread, NULL, sq_writer_main, inst) != 0)
        return sq_error(err, TN_EUNAVAILABLE, 0, "cannot start a thread");
    inst->writer_started = true;
    if (inst->options.memory)
        return TN_OK;
    if (pthread_create(&inst->checkpoint_thread, NULL, sq_checkpoint_main, inst) != 0)
        return sq_error(err, TN_EUNAVAILABLE, 0, "cannot start a thread");
    inst->checkpoint_started = true;
    while (inst->readers_started < inst->options.readers) {
        if (pthread_create(&inst->reader_threads[inst->readers_started], NULL, sq_reader_main,
                           inst) != 0)
            return sq_error(err, TN_EUNAVAILABLE, 0, "cannot start a thread");
        inst->readers_started++;
    }
    return TN_OK;
}

static void make_metrics(sq_inst *inst)
{
    const tn_host *h = inst->host;
    inst->m_groups = h->metric(inst, "groups", TN_METRIC_COUNTER, "Groups of commits written");
    inst->m_commits = h->metric(inst, "commits", TN_METRIC_COUNTER, "Commits decided");
    inst->m_journal_bytes =
        h->metric(inst, "journal_bytes", TN_METRIC_COUNTER, "Bytes written to the journal");
    inst->m_flushes = h->metric(inst, "flushes", TN_METRIC_COUNTER,
                                "Times the rows in memory moved into the tables");
    inst->m_sync_seconds =
        h->metric(inst, "sync_seconds", TN_METRIC_HISTOGRAM, "Time of a transaction's commit");
}

static tn_status open_instance(const tn_host *host, const tn_config *cfg, void **out, tn_error *err)
{
    sq_inst *inst = calloc(1, sizeof *inst);
    if (!inst)
        return sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    inst->host = host;
    inst->lock_fd = -1;
    init_locks(inst);
    tn_status status = read_config(inst, cfg, err);
    uint64_t seed = host->mono_ns();
    if (status == TN_OK &&
        (!sq_table_init(&inst->active, seed) || !sq_table_init(&inst->frozen, seed ^ 0x5bd1e995) ||
         !sq_table_init(&inst->writer.delta, seed ^ 0x9e3779b9)))
        status = sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    if (status == TN_OK && !inst->options.memory)
        status = sq_lock_take(inst->options.path, &inst->lock_fd, err);
    if (status == TN_OK && !inst->options.memory)
        status = sq_writer_open(inst, err);
    if (status == TN_OK) {
        make_metrics(inst);
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
    *ctx = inst; /* nothing is kept for a loop: the queues are shared */
    return TN_OK;
}

static void detach(void *inst, void *ctx) { (void)inst, (void)ctx; }

static void close_instance(void *inst) { destroy(inst); }

static void commit(void *ctx, tn_commit_req *const *reqs, size_t n)
{
    sq_writer_submit(ctx, reqs, n);
}

static const tn_persistence_ops OPS = {
    .get = sq_get, .scan = sq_scan, .commit = commit, .ping = sq_ping};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_PERSISTENCE,
    .ops_size = sizeof(tn_persistence_ops),
    .caps = TN_CAP_ATOMIC_CROSS_TABLE | TN_CAP_ATOMIC_CROSS_PARTITION | TN_CAP_RANGE_DELETE |
            TN_CAP_DURABLE,
    .name = "sqlite",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys = CONFIG_KEYS,
    .open = open_instance,
    .attach = attach,
    .detach = detach,
    .close = close_instance,
    .ops = &OPS,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
