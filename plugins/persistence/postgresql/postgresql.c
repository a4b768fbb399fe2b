/* SPDX-License-Identifier: MIT */
/* persistence/postgresql: rows of the server in a PostgreSQL database.  This file holds the configuration,
 * the statements, the life cycle of an instance and the plugin's table; private.h says where the rest is,
 * README.md why. */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "schema.inc"

/* ---- statements --------------------------------------------------------------------------------- */

#define SCAN(columns, table, order) \
    "SELECT " columns " FROM " table " WHERE k >= $1 AND k < $2 ORDER BY k" order " LIMIT $3"
/* Rows until the values before the last one reach the bytes: one more than the page may hold. */
#define BYTES(table, order) \
    "SELECT k, ver, v FROM (SELECT k, ver, v, sum(octet_length(v)) OVER (ORDER BY k" order \
    " ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING) AS before FROM " table \
    " WHERE k >= $1 AND k < $2 ORDER BY k" order " LIMIT $3) s WHERE coalesce(before, 0) < $4"
#define OF_TABLE(number, table) \
    {"get" number, "SELECT ver, v FROM " table " WHERE k = $1"}, \
        {"rowsup" number, SCAN("k, ver, v", table, "")}, \
        {"rowsdown" number, SCAN("k, ver, v", table, " DESC")}, \
        {"keysup" number, SCAN("k, ver", table, "")}, \
        {"keysdown" number, SCAN("k, ver", table, " DESC")}, {"bytesup" number, BYTES(table, "")}, \
    { \
        "bytesdown" number, BYTES(table, " DESC") \
    }

static const tn_pg_statement STATEMENTS[] = {
    {"commit",
     "SELECT * FROM tn_commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, "
     "$15, $16, $17, $18, $19, $20, $21, $22, $23, $24)"},
    {"end_backend", "SELECT pg_terminate_backend(a.pid) FROM tn_session s JOIN pg_stat_activity a "
                    "ON a.pid = s.pid AND a.backend_start = s.began "
                    "WHERE s.id = $1 AND a.pid <> pg_backend_pid()"},
    {"close_session",
     "WITH s AS (UPDATE tn_session SET closed = true WHERE id = $1 "
     "RETURNING last, base, bad) "
     "SELECT s.last, s.base, b.m FROM s LEFT JOIN LATERAL unnest(s.bad) b(m) ON true"},
    {"ping", "SELECT 1"},
    OF_TABLE("0", "tn_row"),
    OF_TABLE("1", "tn_record"),
    OF_TABLE("2", "tn_queue"),
};

/* Every statement has one good plan, by the key; a table that was empty when it was planned must not
 * teach another. */
static const char SESSION_SQL[] =
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;"
    "SET enable_mergejoin = off; SET enable_material = off;"
    "SET max_parallel_workers_per_gather = 0; SET work_mem = '32MB'";

static const tn_pg_driver DRIVER = {
    .component = "persistence",
    .session_sql = SESSION_SQL,
    .statements = STATEMENTS,
    .n_statements = sizeof STATEMENTS / sizeof STATEMENTS[0],
    .schema = SCHEMA,
    .n_schema = sizeof SCHEMA / sizeof SCHEMA[0],
    .setup = pp_setup,
    .lost = pp_lost,
    .state_size = sizeof(pp_state),
};

/* ---- operations' ends --------------------------------------------------------------------------- */

uint64_t pp_deadline(const pp_inst *inst, const tn_op *op)
{
    uint64_t deadline = inst->host->op_deadline_ns(op), now = inst->host->mono_ns();
    if (deadline == UINT64_MAX || deadline <= now)
        return deadline;
    uint64_t share = (deadline - now) / 10;
    return deadline - (share < 100 * TN_PG_MS ? share : 100 * TN_PG_MS);
}

tn_status pp_refuse(const pp_inst *inst, tn_op *op, tn_status status, const char *fmt, ...)
{
    tn_error err = {.code = status};
    va_list args;
    va_start(args, fmt);
    vsnprintf(err.text, sizeof err.text, fmt, args);
    va_end(args);
    inst->host->op_explain(op, &err);
    return status;
}

/* ---- life --------------------------------------------------------------------------------------- */

static void make_metrics(pp_inst *inst)
{
    const tn_host *h = inst->host;
    inst->m_groups = h->metric(inst, "groups", TN_METRIC_COUNTER, "Groups of commits sent");
    inst->m_commits = h->metric(inst, "commits", TN_METRIC_COUNTER, "Commits taken");
    inst->m_lost = h->metric(inst, "groups_lost", TN_METRIC_COUNTER,
                             "Groups whose connection broke before the answer");
    inst->m_resolved = h->metric(inst, "groups_resolved", TN_METRIC_COUNTER,
                                 "Lost groups whose end the database told afterwards");
    inst->m_repeated = h->metric(inst, "commits_repeated", TN_METRIC_COUNTER,
                                 "Commits sent again after a failure");
}

static tn_status open_instance(const tn_host *host, const tn_config *cfg, void **out, tn_error *err)
{
    pp_inst *inst = calloc(1, sizeof *inst);
    if (!inst)
        return tn_pg_error(err, TN_EUNAVAILABLE, "out of memory");
    inst->host = host;
    tn_pg_options options;
    tn_status status = tn_pg_options_read(host, cfg, &options, err);
    if (status == TN_OK) {
        make_metrics(inst);
        status = tn_pg_pool_open(host, &options, &DRIVER, inst, &inst->pool, err);
        tn_pg_options_done(&options);
    }
    if (status != TN_OK) {
        free(inst);
        return status;
    }
    *out = inst;
    return TN_OK;
}

static tn_status attach(void *inst, tn_loop *loop, void **ctx, tn_error *err)
{
    pp_inst *self = inst;
    pp_ctx *at = calloc(1, sizeof *at);
    if (!at)
        return tn_pg_error(err, TN_EUNAVAILABLE, "out of memory");
    at->inst = self;
    tn_status status = tn_pg_attach(self->pool, loop, &at->link, err);
    if (status != TN_OK) {
        free(at);
        return status;
    }
    *ctx = at;
    return TN_OK;
}

static void detach(void *inst, void *ctx)
{
    (void)inst;
    pp_ctx *at = ctx;
    tn_pg_detach(at->link);
    free(at);
}

static void close_instance(void *inst)
{
    pp_inst *self = inst;
    tn_pg_pool_close(self->pool);
    free(self);
}

static tn_status schema(const tn_host *host, const tn_config *cfg, tn_schema_req *req,
                        tn_error *err)
{
    return tn_pg_schema(host, cfg, &DRIVER, req, err);
}

static const tn_persistence_ops OPS = {
    .get = pp_get, .scan = pp_scan, .commit = pp_commit, .ping = pp_ping};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_PERSISTENCE,
    .ops_size = sizeof(tn_persistence_ops),
    .caps = TN_CAP_ATOMIC_CROSS_TABLE | TN_CAP_ATOMIC_CROSS_PARTITION | TN_CAP_RANGE_DELETE |
            TN_CAP_DURABLE,
    .name = "postgresql",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys = TN_PG_CONFIG_KEYS,
    .open = open_instance,
    .attach = attach,
    .detach = detach,
    .close = close_instance,
    .ops = &OPS,
    .schema = schema,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
