/* SPDX-License-Identifier: MIT */
/* tenonctl store verify: reads the whole of a cluster's datastores and checks what must hold between their rows.  It
 * writes nothing, and may run beside servers where the database allows several processes. */
#include "tools/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "membership/keys.h"
#include "proto/proto.h"
#include "tenon/store.pb-c.h"
#include "visibility/visibility.h"

enum { VERB_VERIFY, VERB_REINDEX };

#define SCHEMA_KNOWN TN_KEYS_SCHEMA /* of the cluster record */

/* ---- complaints ---- */

static const char *table_name(uint32_t table)
{
    static const char *const names[] = {"visibility", "meta",     "shard",    "namespace",
                                        "current",    "record",   "snapshot", "wake",
                                        "outbox",     "taskqueue"};
    return table < TN_COUNT_OF(names) ? names[table] : "?";
}

static void put_key(tn_buf *out, uint32_t table, uint32_t partition, tn_blob row)
{
    if (table)
        tn_buf_printf(out, "%u/%08x/", table, partition);
    else
        tn_buf_printf(out, TN_STR_FMT, TN_STR_ARG(tn_str_of_blob(row)));
    for (size_t i = 0; table && i < row.n; i++)
        tn_buf_printf(out, "%02x", row.p[i]);
}

void tn_vfy_complain(tn_vfy_report *report, uint32_t table, tn_blob row, const char *fmt, ...)
{
    char what[600], run_id[37];
    report->any = true;
    if (!report->arena)
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    tn_buf text = {0};
    tn_buf_printf(&text, "VIOLATION %s: %s\n    key ", table_name(table), what);
    put_key(&text, table, report->shard, row);
    const tn_vfy_run *run = report->run;
    if (run) {
        tn_uuid_format(run->id, run_id);
        tn_buf_printf(&text, " (shard %u, run %s", report->shard, run_id);
        const tn_namespace *ns = tn_vfy_namespace(report->v, tn_str_from(run->ns_id));
        if (run->workflow_id)
            tn_buf_printf(&text, ", workflow \"%s\" in %s%.*s", run->workflow_id,
                          ns ? "" : "namespace id ", ns ? (int)ns->name.n : 36,
                          ns ? ns->name.p : run->ns_id);
        tn_buf_printf(&text, ")");
    }
    tn_buf_printf(&text, "\n");
    tn_vfy_line *line = TN_NEW(report->arena, tn_vfy_line);
    line->text = tn_arena_str(report->arena, tn_str_of_blob(tn_buf_blob(&text))).p;
    line->next = report->lines;
    report->lines = line;
    tn_buf_done(&text);
}

void tn_vfy_print(const tn_vfy_report *report)
{
    const tn_vfy_line *reversed[256];
    size_t n = 0;
    for (const tn_vfy_line *l = report->lines; l && n < TN_COUNT_OF(reversed); l = l->next)
        reversed[n++] = l;
    pthread_mutex_lock(&report->v->lock);
    report->v->violations += n;
    while (n > 0)
        fputs(reversed[--n]->text, stdout);
    pthread_mutex_unlock(&report->v->lock);
}

void tn_vfy_unreadable(tn_verify *v, const char *what, const tn_error *err)
{
    pthread_mutex_lock(&v->lock);
    v->unreadable++;
    fprintf(stderr, "tenonctl: %s could not be read: %s\n", what, err->text);
    pthread_mutex_unlock(&v->lock);
}

void tn_vfy_unwritten(tn_verify *v, const tn_error *err)
{
    pthread_mutex_lock(&v->lock);
    v->unreadable++;
    fprintf(stderr, "tenonctl: a document could not be written: %s\n", err->text);
    pthread_mutex_unlock(&v->lock);
}

/* ---- what is known of the cluster ---- */

const tn_namespace *tn_vfy_namespace(const tn_verify *v, tn_str id)
{
    for (size_t i = 0; i < v->namespaces_count; i++)
        if (tn_str_eq(v->namespaces[i].id, id))
            return &v->namespaces[i];
    return NULL;
}

uint32_t tn_vfy_shard_of(const tn_verify *v, tn_str ns_id, tn_str workflow_id)
{
    uint64_t hash = tn_hash64_stable(tn_blob_of_str(ns_id), tn_blob_of_str(workflow_id));
    return (uint32_t)(hash % v->shards) + 1;
}

static int by_name(const void *a, const void *b)
{
    const tn_search_attr *x = a, *y = b;
    return tn_blob_cmp(tn_blob_of_str(x->name), tn_blob_of_str(y->name));
}

static void take_namespace(tn_verify *v, tn_vfy_report *report, const tn_row *row)
{
    Tenon__NamespaceRecord *record = NULL;
    uint8_t id[16];
    tn_error err = {0};
    if (TN_PROTO_UNPACK(tenon__namespace_record, row->value, v->arena, &record, &err) != TN_OK) {
        tn_vfy_complain(report, TN_TABLE_NAMESPACE, row->key.row,
                        "the namespace's record cannot be read: %s", err.text);
        return;
    }
    if (!record->name[0] || !tn_uuid_parse(tn_str_from(record->id), id) ||
        record->n_data_keys != record->n_data_values)
        tn_vfy_complain(report, TN_TABLE_NAMESPACE, row->key.row,
                        "the namespace's record is not whole");
    if (!tn_str_eq(tn_str_of_blob(row->key.row), tn_str_from(record->id)))
        tn_vfy_complain(report, TN_TABLE_NAMESPACE, row->key.row,
                        "the record is that of namespace id \"%s\"", record->id);
    for (size_t i = 0; i < v->namespaces_count; i++)
        if (tn_str_is(v->namespaces[i].name, record->name))
            tn_vfy_complain(report, TN_TABLE_NAMESPACE, row->key.row,
                            "another namespace has the name \"%s\", too", record->name);
    tn_search_attr *attrs = TN_NEW_ARRAY(v->arena, tn_search_attr, record->n_custom + 1);
    for (size_t i = 0; i < record->n_custom; i++) {
        attrs[i] = (tn_search_attr){tn_str_from(record->custom[i]->name), record->custom[i]->type};
        if (!tn_search_attr_type_name(attrs[i].type))
            tn_vfy_complain(report, TN_TABLE_NAMESPACE, row->key.row,
                            "search attribute \"%s\" has the unknown type %u",
                            record->custom[i]->name, attrs[i].type);
    }
    qsort(attrs, record->n_custom, sizeof attrs[0], by_name);
    v->namespaces = tn_xreallocarray(v->namespaces, v->namespaces_count + 1, sizeof *v->namespaces);
    v->namespaces[v->namespaces_count++] = (tn_namespace){.name = tn_str_from(record->name),
                                                          .id = tn_str_from(record->id),
                                                          .state = record->state,
                                                          .retention_ns = record->retention_ns,
                                                          .custom_attrs = attrs,
                                                          .n_custom_attrs = record->n_custom};
}

static void read_namespaces(tn_verify *v)
{
    tn_range range = {.struct_size = sizeof range, .limit = 1000};
    tn_vfy_report report = {.v = v, .arena = v->arena};
    tn_page page;
    tn_error err = {0};
    range.from =
        tn_store_key(v->arena, TN_TABLE_NAMESPACE, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    do {
        if (tn_tool_scan(&v->rows, v->arena, &range, &page, &err) != TN_OK) {
            tn_vfy_unreadable(v, "the namespaces", &err);
            return;
        }
        for (size_t i = 0; i < page.n_rows; i++)
            take_namespace(v, &report, &page.rows[i]);
        range.page = page.next;
    } while (range.page.n);
    tn_vfy_print(&report);
}

/* false: there is nothing to go by. */
static bool read_cluster(tn_verify *v)
{
    Tenon__ClusterRecord *record = NULL;
    tn_vfy_report report = {.v = v, .arena = v->arena};
    tn_key key = tn_store_key(v->arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                              tn_blob_of_str(TN_STR("cluster")));
    tn_row row;
    tn_error err = {0};
    tn_status status = tn_tool_get(&v->rows, v->arena, &key, &row, &err);
    if (status != TN_OK && status != TN_ENOTFOUND) {
        tn_vfy_unreadable(v, "the cluster's record", &err);
        return false;
    }
    if (status == TN_ENOTFOUND)
        tn_vfy_complain(&report, TN_TABLE_META, key.row,
                        "there is no cluster record: no server has used this store");
    else if (TN_PROTO_UNPACK(tenon__cluster_record, row.value, v->arena, &record, &err) != TN_OK)
        tn_vfy_complain(&report, TN_TABLE_META, key.row, "the cluster's record cannot be read: %s",
                        err.text);
    else if (record->schema > SCHEMA_KNOWN)
        tn_vfy_complain(&report, TN_TABLE_META, key.row,
                        "the records have schema %u, this tenonctl knows %u", record->schema,
                        SCHEMA_KNOWN);
    else if (record->token_key.len != 16 || strlen(record->cluster_id) != 36 ||
             !record->history_shards)
        tn_vfy_complain(&report, TN_TABLE_META, key.row, "the cluster's record is not whole");
    else
        v->shards = record->history_shards;
    tn_vfy_print(&report);
    return v->shards > 0;
}

/* ---- suspects ---- */

static tn_vfy_suspect *new_suspect(tn_verify *v, uint32_t shard)
{
    tn_vfy_suspect *s = TN_NEW(v->arena, tn_vfy_suspect);
    s->shard = shard;
    s->next = v->suspects;
    v->suspects = s;
    v->n_suspects++;
    return s;
}

void tn_vfy_suspect_run(tn_verify *v, uint32_t shard, const tn_vfy_run *run)
{
    pthread_mutex_lock(&v->lock);
    tn_vfy_suspect *s = new_suspect(v, shard);
    memcpy(s->run_id, run->id, 16);
    memcpy(s->ns_id, run->ns_id, sizeof s->ns_id);
    if (run->workflow_id)
        s->workflow_id = tn_arena_strdup(v->arena, run->workflow_id);
    s->wakes = run->wakes;
    memcpy(s->wake_ns, run->wake_ns, sizeof s->wake_ns);
    pthread_mutex_unlock(&v->lock);
}

void tn_vfy_suspect_row(tn_verify *v, uint32_t shard, uint32_t table, const tn_row *row,
                        const char *text)
{
    pthread_mutex_lock(&v->lock);
    tn_vfy_suspect *s = new_suspect(v, shard);
    s->table = table;
    s->row = tn_arena_blob(v->arena, row->key.row);
    s->value_hash = tn_hash64(row->value);
    s->text = text;
    pthread_mutex_unlock(&v->lock);
}

static void look_at_row(tn_verify *v, const tn_vfy_suspect *s, tn_vfy_report *report)
{
    tn_key key = tn_store_key(report->arena, s->table, s->shard, s->row);
    tn_row row;
    tn_error err = {0};
    tn_status status = tn_tool_get(&v->rows, report->arena, &key, &row, &err);
    if (status == TN_OK && tn_hash64(row.value) == s->value_hash)
        tn_vfy_complain(report, s->table, s->row, "%s", s->text);
    else if (status != TN_OK && status != TN_ENOTFOUND)
        tn_vfy_unreadable(v, "a row", &err);
}

typedef struct second_look {
    tn_verify *v;
    tn_vfy_suspect **list;
    bool final;
} second_look;

static bool look_at(void *user, uint64_t i)
{
    second_look *look = user;
    const tn_vfy_suspect *s = look->list[i];
    tn_arena *arena = tn_arena_create(0);
    tn_vfy_report report = {.v = look->v, .arena = arena, .shard = s->shard};
    if (s->table) {
        look_at_row(look->v, s, &report);
    } else {
        tn_vfy_run run;
        if (tn_vfy_look_again(look->v, s, &report, arena, &run) && look->v->with_docs)
            tn_vfy_judge_docs(look->v, &report, &run, look->final);
        report.run = NULL;
    }
    if (look->final)
        tn_vfy_print(&report);
    else if (!report.any)
        look->list[i] = NULL; /* it was in motion */
    tn_arena_destroy(arena);
    return false;
}

static int by_run(const void *a, const void *b)
{
    const tn_vfy_suspect *x = *(tn_vfy_suspect *const *)a, *y = *(tn_vfy_suspect *const *)b;
    if (x->table != y->table)
        return x->table < y->table ? -1 : 1;
    return x->table ? 0 : memcmp(x->run_id, y->run_id, 16);
}

/* Each run once; in an order that does not depend on threads. */
static size_t gather(tn_verify *v, tn_vfy_suspect **list)
{
    size_t n = 0, kept = 0;
    for (tn_vfy_suspect *s = v->suspects; s; s = s->next)
        list[n++] = s;
    qsort(list, n, sizeof(list[0]), by_run);
    for (size_t i = 0; i < n; i++)
        if (!kept || list[i]->table || by_run(&list[kept - 1], &list[i]) != 0)
            list[kept++] = list[i];
    return kept;
}

static void settle(tn_verify *v, uint64_t settle_ns, uint32_t threads)
{
    if (!v->suspects)
        return;
    tn_vfy_suspect **list = tn_xcalloc(v->n_suspects, sizeof(*list));
    second_look look = {.v = v, .list = list};
    size_t n = gather(v, list);
    for (int pass = 0; pass < 2 && n; pass++) {
        nanosleep(&(struct timespec){.tv_sec = (time_t)(settle_ns / TN_SEC),
                                     .tv_nsec = (long)(settle_ns % TN_SEC)},
                  NULL);
        look.final = pass == 1;
        tn_tool_each(pass && !v->reindex ? 1 : threads, n, look_at, &look);
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
            if (list[i])
                list[kept++] = list[i];
        n = kept;
    }
    free(list);
}

/* ---- the whole ---- */

static bool verify_shard(void *user, uint64_t i)
{
    tn_vfy_shard(user, (uint32_t)i + 1);
    return false;
}

static void print_counts(const tn_verify *v)
{
    const struct {
        const char *name;
        uint64_t n;
    } counts[] = {
        {"shards", v->shards},
        {"namespaces", v->namespaces_count},
        {"runs", v->n_runs},
        {"open runs", v->n_open},
        {"records", v->n_records},
        {"record bytes", v->n_bytes},
        {"events", v->n_events},
        {"snapshots", v->n_snapshots},
        {"current runs", v->n_current},
        {"wake rows", v->n_wakes},
        {"outbox rows", v->n_outbox},
        {"documents", v->n_documents},
        {"looked at again", v->n_suspects},
    };
    for (size_t i = 0; i < TN_COUNT_OF(counts); i++)
        if (v->with_docs || strcmp(counts[i].name, "documents") != 0)
            printf("%-16s %12llu\n", counts[i].name, (unsigned long long)counts[i].n);
    if (v->reindex)
        printf("%-16s %12llu\n", "mended", (unsigned long long)v->n_mended);
    printf("%-16s %12llu\n", "violations", (unsigned long long)v->violations);
}

static int verify(tn_verify *v, uint64_t settle_ns, uint32_t threads)
{
    pthread_mutex_init(&v->lock, NULL);
    v->arena = tn_arena_create(0);
    tn_map_init(&v->expected);
    if (read_cluster(v)) {
        read_namespaces(v);
        tn_tool_each(threads, v->shards, verify_shard, v);
        if (v->with_docs)
            tn_vfy_docs(v);
        settle(v, settle_ns, threads);
        print_counts(v);
    }
    if (v->unreadable)
        fprintf(stderr, "tenonctl: not everything could be read: this is no verdict\n"
                        "    fix: look at the database, and run this again\n");
    tn_map_done(&v->expected);
    tn_arena_destroy(v->arena);
    free(v->namespaces);
    pthread_mutex_destroy(&v->lock);
    return v->violations || v->unreadable ? TN_TOOL_FAILED : TN_TOOL_OK;
}

static const tn_settings_plugin *named_store(const tn_settings *settings, const char *name,
                                             tn_config_problems *problems)
{
    for (size_t i = 0; i < settings->stores_count; i++)
        if (strcmp(settings->stores[i].stanza_name, name) == 0)
            return &settings->stores[i];
    tn_config_complain_at(problems, tn_config_root(settings->tree), "persistence.datastores", NULL,
                          "datastore \"%.60s\" is not defined", name);
    return NULL;
}

typedef struct wishes {
    const char *config, *visibility;
    bool rows_only;
    uint64_t settle_ns, threads;
} wishes;

static int with_stores(const tn_tool *tool, const wishes *w)
{
    tn_config_problems *problems = tn_config_problems_create();
    tn_settings *settings = NULL;
    tn_verify *v = tn_xcalloc(1, sizeof *v);
    int result = TN_TOOL_FAILED;
    v->with_docs = !w->rows_only;
    v->reindex = tool->verb == VERB_REINDEX;
    if (tn_settings_load(w->config, problems, &settings) == TN_OK) {
        const tn_settings_plugin *docs =
            w->visibility ? named_store(settings, w->visibility, problems) : settings->visibility;
        if (docs && tn_tool_loops_start(2, problems) == TN_OK &&
            tn_tool_db_open(&v->rows, settings, TN_KIND_PERSISTENCE, settings->store, problems) ==
                TN_OK &&
            (w->rows_only ||
             tn_tool_db_open(&v->docs, settings, TN_KIND_VISIBILITY, docs, problems) == TN_OK))
            result = verify(v, w->settle_ns, (uint32_t)w->threads);
        tn_tool_db_close(&v->docs);
        tn_tool_db_close(&v->rows);
        tn_tool_loops_stop();
    }
    int failed = tn_tool_end(problems);
    tn_settings_destroy(settings);
    free(v);
    return failed != TN_TOOL_OK ? failed : result;
}

static int run(const tn_tool *tool, int argc, char **argv)
{
    bool reindex = tool->verb == VERB_REINDEX;
    wishes w = {.settle_ns = TN_SEC, .threads = reindex ? 32 : 4};
    const tn_option options[] = {
        {"--config", TN_OPTION_TEXT, &w.config},
        {"--visibility", TN_OPTION_TEXT, &w.visibility},
        {"--settle", TN_OPTION_NS, &w.settle_ns},
        {"--threads", TN_OPTION_NUMBER, &w.threads},
        {"--rows-only", TN_OPTION_FLAG, &w.rows_only}, /* not of reindex */
    };
    int failed =
        tn_tool_options(tool, argc, argv, options, TN_COUNT_OF(options) - reindex, NULL, 0, 0);
    if (failed != TN_TOOL_GO_ON)
        return failed;
    if (!w.config)
        return tn_tool_misused(tool, "--config is missing");
    if (w.threads < 1 || w.threads > 64)
        return tn_tool_misused(tool, "--threads has %llu, wants 1 to 64",
                               (unsigned long long)w.threads);
    tn_log_configure(TN_LOG_ERROR, false);
    return with_stores(tool, &w);
}

const tn_tool tn_tools_verify[] = {
    {.name = "store verify",
     .args = "--config FILE [--visibility NAME] [--rows-only] [--settle 1s] [--threads 4]",
     .brief = "check what must hold between the rows of the datastores",
     .help = "Folds the records of every run and compares with the state what the other rows say: "
             "snapshots, current\n"
             "runs, wake rows (retention of closed runs too), outbox, visibility.  What looks "
             "wrong is read again twice,\n"
             "after --settle each, so that servers may run meanwhile; what waits in the outbox is "
             "no fault.\n"
             "--visibility NAME: compare with that datastore.  --rows-only: leave visibility out.\n"
             "Prints counts, and each violation with the key of its row; ends with 1 when there is "
             "one.\n",
     .run = run,
     .verb = VERB_VERIFY},
    {.name = "store reindex",
     .args = "--config FILE [--visibility NAME] [--settle 1s] [--threads 32]",
     .brief = "make visibility say what the records say",
     .help =
         "Verifies, and mends visibility: documents that are missing or stale are written, "
         "superfluous ones removed.\n"
         "Servers may run meanwhile.  Violations of other sorts are printed and left as they are; "
         "ends with 1 then.\n"
         "--visibility NAME: fill that datastore, of a search store that is being introduced.\n",
     .run = run,
     .verb = VERB_REINDEX},
    {0},
};
