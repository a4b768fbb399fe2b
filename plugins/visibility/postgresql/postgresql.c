/* SPDX-License-Identifier: MIT */
/* visibility/postgresql: runs as documents in a PostgreSQL database.  This file holds the configuration, the life
 * cycle of an instance and the plugin's table; private.h says where the rest is, README.md why. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>

#include "schema.inc"

/* ---- what the database is told ------------------------------------------------------------------ */

static const tn_pg_statement STATEMENTS[] = {
    {"vis_names_add",
     "INSERT INTO tn_vis_name (s) SELECT x FROM unnest($1::text[]) AS x ON CONFLICT DO NOTHING"},
    {"vis_names_get", "SELECT id, s FROM tn_vis_name WHERE s = ANY ($1::text[])"},
    {"vis_attrs_add",
     "INSERT INTO tn_vis_attr (name, type) SELECT * FROM unnest($1::text[], $2::int4[])"
     " ON CONFLICT DO NOTHING"},
    {"vis_attrs_get",
     "SELECT a.id, a.name, a.type FROM tn_vis_attr a, unnest($1::text[], $2::int4[]) AS w (n, t)"
     " WHERE a.name = w.n AND a.type = w.t"},
    {"vis_attrs_by_id", "SELECT id, name, type FROM tn_vis_attr WHERE id = ANY ($1::int4[])"},
    {"vis_common_find", "SELECT tn_vis_common_find($1::int8)"},
    {"vis_common_count", "SELECT tn_vis_common_count()"},
    {"vis_remove", "DELETE FROM tn_vis_doc d USING unnest($1::int4[], $2::bytea[]) AS k (ns, run)"
                   " WHERE d.ns = k.ns AND d.run = k.run"},
    {"vis_put",
     "INSERT INTO tn_vis_doc AS d (ns, div, status, type, close, start, ver, exec, dur, len, size,"
     " trans, tq, run, wf, pwf, prun, rwf, rrun, sa, keys, memo)"
     " SELECT ns, div, status, type, close, start, ver, exec, dur, len, size, trans, tq, run, wf,"
     " pwf, prun, rwf, rrun, sa::jsonb, keys::int8[], memo"
     " FROM unnest($1::int4[], $2::int4[], $3::int4[], $4::int4[], $5::int8[], $6::int8[],"
     " $7::int8[], $8::int8[], $9::int8[], $10::int8[], $11::int8[], $12::int8[], $13::int4[],"
     " $14::bytea[], $15::text[], $16::text[], $17::bytea[], $18::text[], $19::bytea[],"
     " $20::text[], $21::text[], $22::bytea[]) AS u (ns, div, status, type, close, start, ver,"
     " exec, dur, len, size, trans, tq, run, wf, pwf, prun, rwf, rrun, sa, keys, memo)"
     " ON CONFLICT (run, ns) DO UPDATE SET div = excluded.div, status = excluded.status,"
     " type = excluded.type, close = excluded.close, start = excluded.start, ver = excluded.ver,"
     " exec = excluded.exec, dur = excluded.dur, len = excluded.len, size = excluded.size,"
     " trans = excluded.trans, tq = excluded.tq, wf = excluded.wf, pwf = excluded.pwf,"
     " prun = excluded.prun, rwf = excluded.rwf, rrun = excluded.rrun, sa = excluded.sa,"
     " keys = excluded.keys, memo = excluded.memo WHERE d.ver < excluded.ver"},
};

static void lost(tn_pg_conn *conn, void *state)
{
    (void)conn;
    vp_side *side = state;
    vp_names_clear(&side->names); /* the next server may have numbered otherwise */
    tn_pg_params_done(&side->params);
}

/* Bitmaps of a million rows stay exact; pages are in memory more often than the planner's default thinks; and each
 * list is planned for its values (plan_cache_mode is since 12, jit since 11). */
static const char SESSION[] =
    "SET work_mem = '32MB'; SET random_page_cost = 1.5;"
    " SELECT set_config(name, CASE name WHEN 'jit' THEN 'off' ELSE 'auto' END, false)"
    " FROM pg_settings WHERE name IN ('jit', 'plan_cache_mode')";

static const tn_pg_driver DRIVER = {
    .component = "visibility",
    .session_sql = SESSION,
    .statements = STATEMENTS,
    .n_statements = VP_COUNT(STATEMENTS),
    .schema = SCHEMA,
    .n_schema = VP_COUNT(SCHEMA),
    .lost = lost,
    .state_size = sizeof(vp_side),
};

/* ---- configuration ------------------------------------------------------------------------------ */

static const char CONFIG_KEYS[] = TN_PG_CONFIG_KEYS
    "linger duration 100ms - a write waits so long for company; lists and counts of its loop never "
    "see the wait\n"
    "batchMax int 1024 - ... or until so many wait\n"
    "commonRows int 10000 - a value that about so many runs have is counted as it is written; 0: "
    "none is\n";

static tn_status read_config(vp_inst *inst, const tn_config *cfg, tn_error *err)
{
    const tn_host *host = inst->host;
    int64_t batch_max = 1024;
    inst->linger_ns = 100 * TN_PG_MS;
    tn_status status = host->cfg_dur_ns(cfg, "linger", &inst->linger_ns, err);
    if (status == TN_OK && inst->linger_ns > 10 * TN_PG_SEC) {
        host->cfg_complain(cfg, "linger", "is too long: 10s at most", err);
        return TN_EINVALID;
    }
    if (status != TN_OK && status != TN_ENOTFOUND)
        return status;
    status = host->cfg_i64(cfg, "batchMax", &batch_max, err);
    if (status == TN_OK && (batch_max < 1 || batch_max > VP_BATCH_MAX)) {
        host->cfg_complain(cfg, "batchMax", "is not within 1 to 4096", err);
        return TN_EINVALID;
    }
    inst->batch_max = (size_t)batch_max;
    if (status != TN_OK && status != TN_ENOTFOUND)
        return status;
    inst->common_rows = 10000;
    status = host->cfg_i64(cfg, "commonRows", &inst->common_rows, err);
    if (status == TN_OK && inst->common_rows < 0) {
        host->cfg_complain(cfg, "commonRows", "is negative", err);
        return TN_EINVALID;
    }
    return status == TN_ENOTFOUND ? TN_OK : status;
}

/* ---- life --------------------------------------------------------------------------------------- */

static void close_instance(void *arg)
{
    vp_inst *inst = arg;
    tn_pg_pool_close(inst->readers);
    tn_pg_pool_close(inst->writers);
    free(inst);
}

/* Lists have connections of their own, so that a long one holds up no writes; maxConns counts both kinds. */
static tn_status open_pools(vp_inst *inst, const tn_config *cfg, tn_error *err)
{
    tn_pg_options options = {0};
    tn_status status = tn_pg_options_read(inst->host, cfg, &options, err);
    uint32_t most = options.max_conns;
    if (status == TN_OK) {
        options.max_conns = most - most / 2;
        status = tn_pg_pool_open(inst->host, &options, &DRIVER, inst, &inst->writers, err);
    }
    tn_pg_options_done(&options);
    if (status != TN_OK || most < 2)
        return status;
    status = tn_pg_options_read(inst->host, cfg, &options, err);
    if (status == TN_OK) {
        options.max_conns = most / 2;
        status = tn_pg_pool_open(inst->host, &options, &DRIVER, inst, &inst->readers, err);
    }
    tn_pg_options_done(&options);
    return status;
}

static tn_status open_instance(const tn_host *host, const tn_config *cfg, void **out, tn_error *err)
{
    vp_inst *inst = calloc(1, sizeof *inst);
    if (!inst)
        return tn_pg_error(err, TN_EUNAVAILABLE, "out of memory");
    inst->host = host;
    tn_status status = read_config(inst, cfg, err);
    if (status == TN_OK)
        status = open_pools(inst, cfg, err);
    if (status != TN_OK) {
        close_instance(inst);
        return status;
    }
    inst->m_batches = host->metric(inst, "batches", TN_METRIC_COUNTER, "Transactions of documents");
    inst->m_documents = host->metric(inst, "documents", TN_METRIC_COUNTER, "Puts and removes");
    inst->m_seconds =
        host->metric(inst, "batch_seconds", TN_METRIC_HISTOGRAM, "Time of a transaction");
    *out = inst;
    return TN_OK;
}

vp_side *vp_side_of(tn_pg_link *link)
{
    tn_pg_conn *conn = tn_pg_conn_of(link);
    vp_side *side = tn_pg_state(conn);
    return side;
}

static void prepare_side(tn_pg_link *link, vp_inst *inst)
{
    vp_side *side = vp_side_of(link);
    if (tn_pg_loop(tn_pg_conn_of(link)) && !side->inst) {
        side->conn = tn_pg_conn_of(link);
        side->inst = inst;
    }
}

static void detach(void *arg, void *context)
{
    (void)arg;
    vp_ctx *ctx = context;
    vp_side *side = vp_side_of(ctx->write);
    if (tn_pg_loop(side->conn) == ctx->loop && side->timer) {
        ctx->inst->host->timer_stop(side->timer);
        side->timer = NULL;
    }
    tn_pg_detach(ctx->read);
    tn_pg_detach(ctx->write);
    free(ctx);
}

static tn_status attach(void *arg, tn_loop *loop, void **out, tn_error *err)
{
    vp_inst *inst = arg;
    vp_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return tn_pg_error(err, TN_EUNAVAILABLE, "out of memory");
    ctx->inst = inst;
    ctx->loop = loop;
    tn_status status = tn_pg_attach(inst->writers, loop, &ctx->write, err);
    if (status == TN_OK)
        prepare_side(ctx->write, inst);
    if (status == TN_OK && inst->readers) {
        status = tn_pg_attach(inst->readers, loop, &ctx->read, err);
        if (status == TN_OK)
            prepare_side(ctx->read, inst);
    }
    if (status != TN_OK) {
        tn_pg_detach(ctx->write);
        free(ctx);
        return status;
    }
    *out = ctx;
    return TN_OK;
}

static tn_status schema(const tn_host *host, const tn_config *cfg, tn_schema_req *req,
                        tn_error *err)
{
    return tn_pg_schema(host, cfg, &DRIVER, req, err);
}

/* ---- operations [loop] -------------------------------------------------------------------------- */

static tn_status submit_write(vp_ctx *ctx, tn_op *op, const tn_vis_doc *doc, bool remove)
{
    const tn_host *host = ctx->inst->host;
    tn_error err = {0};
    const tn_vis_doc key = {.ns_id = doc->ns_id, .run_id = doc->run_id};
    tn_status status = vp_doc_check(remove ? &key : doc, &err);
    if (status != TN_OK) {
        host->op_explain(op, &err);
        return status;
    }
    vp_write *w = host->op_alloc(op, sizeof *w, _Alignof(vp_write));
    if (!w)
        return TN_ETOOLARGE;
    *w = (vp_write){.side = vp_side_of(ctx->write),
                    .op = op,
                    .doc = doc,
                    .remove = remove,
                    .deadline_ns = host->op_deadline_ns(op)};
    return tn_pg_run(ctx->write, vp_write_arrives, w) == TN_OK ? TN_PENDING : TN_EUNAVAILABLE;
}

static tn_status put_op(void *ctx, tn_op *op, const tn_vis_doc *doc)
{
    return submit_write(ctx, op, doc, false);
}

static tn_status remove_op(void *ctx, tn_op *op, const tn_vis_doc *key)
{
    return submit_write(ctx, op, key, true);
}

static tn_status submit_read(vp_ctx *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out,
                             bool count)
{
    vp_read *r = ctx->inst->host->op_alloc(op, sizeof *r, _Alignof(vp_read));
    if (!r)
        return TN_ETOOLARGE;
    *r = (vp_read){
        .inst = ctx->inst, .ctx = ctx, .op = op, .query = query, .out = out, .count = count};
    vp_read_begin(r);
    return TN_PENDING;
}

static tn_status list_op(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out)
{
    return submit_read(ctx, op, query, out, false);
}

static tn_status count_op(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out)
{
    return submit_read(ctx, op, query, out, true);
}

/* Attributes need no preparation: they are numbered when a document first has them. */
static tn_status define(void *ctx, tn_op *op, const tn_attr *attrs, size_t n)
{
    (void)ctx, (void)op;
    for (size_t i = 0; i < n; i++)
        if (attrs[i].type < TN_ATTR_TEXT || attrs[i].type > TN_ATTR_KEYWORD_LIST ||
            attrs[i].name.n == 0)
            return TN_EINVALID;
    return TN_OK;
}

static const tn_visibility_ops OPS = {
    .put = put_op, .remove = remove_op, .list = list_op, .count = count_op, .define = define};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_VISIBILITY,
    .ops_size = sizeof(tn_visibility_ops),
    .name = "postgresql",
    .version = "0.1.0",
    .vendor = "Tenon",
    .config_keys = CONFIG_KEYS,
    .open = open_instance,
    .attach = attach,
    .detach = detach,
    .close = close_instance,
    .ops = &OPS,
    .schema = schema,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
