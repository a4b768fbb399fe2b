/* SPDX-License-Identifier: MIT */
/* A driver with a schema and nothing else, for tests of `tenonctl schema` and of the host: the schema is a number in a
 * file, its statements are lines of text, and `wrong` says what goes wrong.  It is a persistence and a visibility plugin,
 * each with a file of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/plugin.h>

typedef struct ledger {
    char path[512];
    uint32_t knows;
    char wrong[32];
} ledger;

static tn_status fail(tn_error *err, tn_status code, const char *text)
{
    err->code = code;
    snprintf(err->text, sizeof err->text, "%s", text);
    return code;
}

static tn_status read_config(const tn_host *host, const tn_config *cfg, const char *suffix,
                             ledger *out, tn_error *err)
{
    tn_str path, wrong = {"", 0};
    int64_t knows = 3;
    tn_status status = host->cfg_str(cfg, "path", &path, err);
    if (status == TN_ENOTFOUND)
        return fail(err, TN_EINVALID, "path is not set");
    if (status == TN_OK)
        status = host->cfg_str(cfg, "wrong", &wrong, err);
    if (status == TN_OK || status == TN_ENOTFOUND)
        status = host->cfg_i64(cfg, "knows", &knows, err);
    if (status != TN_OK && status != TN_ENOTFOUND)
        return status;
    snprintf(out->path, sizeof out->path, "%.*s%s", (int)path.n, path.p, suffix);
    snprintf(out->wrong, sizeof out->wrong, "%.*s", (int)wrong.n, wrong.p);
    out->knows = (uint32_t)knows;
    if (strcmp(out->wrong, "place") == 0) {
        host->cfg_complain(cfg, "path", "is on the moon", err);
        return TN_EINVALID;
    }
    return TN_OK;
}

static uint32_t stored(const ledger *l)
{
    unsigned n = 0;
    FILE *f = fopen(l->path, "r");
    if (f && fscanf(f, "%u", &n) != 1)
        n = 0;
    if (f)
        fclose(f);
    return n;
}

static void store(const ledger *l, uint32_t n)
{
    FILE *f = fopen(l->path, "w");
    if (!f)
        abort();
    fprintf(f, "%u\n", n);
    fclose(f);
}

static void emit_step(tn_schema_req *req, uint32_t step)
{
    char text[100];
    int n = snprintf(text, sizeof text, "CREATE PAGE p%u;\nWRITE VERSION %u;\n", step, step);
    req->emit(req->user, text, (size_t)n);
}

static tn_status change(const ledger *l, tn_schema_req *req, tn_error *err)
{
    uint32_t to = req->to ? req->to : l->knows;
    if (req->verb == TN_SCHEMA_UPDATE && to < req->stored)
        return fail(err, TN_EINVALID, "never backwards");
    for (uint32_t step = req->stored + 1; step <= to; step++) {
        if (req->flags & TN_SCHEMA_DRY_RUN)
            emit_step(req, step);
        else if (strcmp(l->wrong, "lies") != 0)
            store(l, step);
    }
    return TN_OK;
}

static tn_status schema(const tn_host *host, const tn_config *cfg, const char *suffix,
                        tn_schema_req *req, tn_error *err)
{
    ledger l;
    static const char differences[] = "page p1: has 3 columns, wants 4\nindex i: is missing\n";
    tn_status status = read_config(host, cfg, suffix, &l, err);
    if (status != TN_OK)
        return status;
    if (strcmp(l.wrong, "away") == 0)
        return fail(err, TN_EUNAVAILABLE, "nobody answers at 192.0.2.1:99");
    req->wanted = l.knows;
    req->stored = stored(&l);
    switch (req->verb) {
    case TN_SCHEMA_VERSION:
        return TN_OK;
    case TN_SCHEMA_SETUP:
    case TN_SCHEMA_UPDATE:
        return change(&l, req, err);
    case TN_SCHEMA_CHECK:
        if (strcmp(l.wrong, "differs") != 0)
            return TN_OK;
        req->emit(req->user, differences, sizeof differences - 1);
        return TN_ECONFLICT;
    case TN_SCHEMA_DUMP:
        for (uint32_t step = 1; step <= (req->to ? req->to : l.knows); step++)
            emit_step(req, step);
        return TN_OK;
    default:
        return fail(err, TN_EINVALID, "an unknown verb");
    }
}

static tn_status open_any(const tn_host *host, const tn_config *cfg, const char *suffix,
                          void **inst, tn_error *err)
{
    static int something;
    ledger l;
    tn_status status = read_config(host, cfg, suffix, &l, err);
    if (status != TN_OK)
        return status;
    if (strcmp(l.wrong, "away") == 0)
        return fail(err, TN_EUNAVAILABLE, "nobody answers at 192.0.2.1:99");
    if (stored(&l) != l.knows)
        return fail(err, TN_EINVALID, "the schema is not the one this driver wants");
    if (strcmp(l.wrong, "ink") == 0)
        return fail(err, TN_EINVALID, "there is no ink");
    *inst = &something;
    return TN_OK;
}

static tn_status open_main(const tn_host *host, const tn_config *cfg, void **inst, tn_error *err)
{
    return open_any(host, cfg, "", inst, err);
}

static tn_status schema_main(const tn_host *host, const tn_config *cfg, tn_schema_req *req,
                             tn_error *err)
{
    return schema(host, cfg, "", req, err);
}

static tn_status open_search(const tn_host *host, const tn_config *cfg, void **inst, tn_error *err)
{
    return open_any(host, cfg, ".search", inst, err);
}

static tn_status schema_search(const tn_host *host, const tn_config *cfg, tn_schema_req *req,
                               tn_error *err)
{
    return schema(host, cfg, ".search", req, err);
}

/* ---- operations, of which there are none ---- */

static tn_status no_get(void *ctx, tn_op *op, const tn_key *key, tn_row *out)
{
    (void)ctx, (void)op, (void)key, (void)out;
    return TN_EUNAVAILABLE;
}

static tn_status no_scan(void *ctx, tn_op *op, const tn_range *range, tn_page *out)
{
    (void)ctx, (void)op, (void)range, (void)out;
    return TN_EUNAVAILABLE;
}

static void no_commit(void *ctx, tn_commit_req *const *reqs, size_t n)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        reqs[i]->status = TN_EUNAVAILABLE;
}

static tn_status no_document(void *ctx, tn_op *op, const tn_vis_doc *doc)
{
    (void)ctx, (void)op, (void)doc;
    return TN_EUNAVAILABLE;
}

static tn_status no_query(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out)
{
    (void)ctx, (void)op, (void)query, (void)out;
    return TN_EUNAVAILABLE;
}

static const tn_persistence_ops persistence = {.get = no_get, .scan = no_scan, .commit = no_commit};
static const tn_visibility_ops visibility = {
    .put = no_document, .remove = no_document, .list = no_query, .count = no_query};

#define COMMON \
    .magic = TN_PLUGIN_MAGIC, .struct_size = sizeof(tn_plugin), .abi_major = TN_PLUGIN_ABI_MAJOR, \
    .abi_minor = TN_PLUGIN_ABI_MINOR, .name = "ledger", .version = "1", \
    .config_keys = "path text - - the file\nknows int 3 - the newest schema\nwrong text - - what " \
                   "goes wrong\n"

const tn_plugin *tn_plugin_v0(uint32_t index)
{
    static const tn_plugin plugins[] = {
        {COMMON, .kind = TN_KIND_PERSISTENCE,
         .caps = TN_CAP_ATOMIC_CROSS_TABLE | TN_CAP_RANGE_DELETE, .ops = &persistence,
         .ops_size = sizeof persistence, .open = open_main, .schema = schema_main},
        {COMMON, .kind = TN_KIND_VISIBILITY, .ops = &visibility, .ops_size = sizeof visibility,
         .open = open_search, .schema = schema_search},
    };
    return index < 2 ? &plugins[index] : NULL;
}
