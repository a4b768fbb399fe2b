/* SPDX-License-Identifier: MIT */
/* tenonctl store copy: a cluster's rows and documents from one configuration's datastores into another's, whatever their
 * drivers.  A stopped cluster is copied in one pass and looked at once more; a running one in passes while it runs, and a
 * last one for which each shard is taken away from its server: it stands still for the difference only. */
#include "tools/copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proto/proto.h"
#include "tenon/store.pb-c.h"

#define PASSES_MAX 20u
#define MANY_CHANGES 20000u
#define FEW_CHANGES 500u /* rows: the rest may wait for the standstill */

bool tn_copy_fail(tn_copy *c, const char *what, const tn_error *err)
{
    if (!atomic_exchange(&c->failed, true)) {
        fflush(stdout);
        fprintf(stderr, "tenonctl: %s%s%s\n", what, err && err->text[0] ? ": " : "",
                err ? err->text : "");
    }
    return false;
}

void tn_copy_pace(tn_copy *c, uint64_t rows)
{
    if (!c->rate)
        return;
    uint64_t now = tn_now_mono_ns(), took = rows * TN_SEC / c->rate,
             next = atomic_load(&c->next_ns), mine;
    do
        mine = next > now ? next : now;
    while (!atomic_compare_exchange_weak(&c->next_ns, &next, mine + took));
    if (mine > now)
        nanosleep(&(struct timespec){.tv_sec = (time_t)((mine - now) / TN_SEC),
                                     .tv_nsec = (long)((mine - now) % TN_SEC)},
                  NULL);
}

bool tn_copy_is_own(uint32_t table, tn_blob row)
{
    if (table == TN_TABLE_OUTBOX)
        return row.n == 8 && (row.p[0] & 0x80);
    return table == TN_TABLE_META && (tn_str_is(tn_str_of_blob(row), TN_COPY_MOVING) ||
                                      tn_str_starts(tn_str_of_blob(row), TN_STR(TN_COPY_MARK)));
}

/* ---- what both sides hold before ---- */

static tn_status cluster_of(tn_tool_db *db, tn_arena *arena, Tenon__ClusterRecord **out,
                            tn_error *err)
{
    tn_key key =
        tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER, tn_blob_of_str(TN_STR("cluster")));
    tn_row row;
    tn_status status = tn_tool_get(db, arena, &key, &row, err);
    return status == TN_OK ? TN_PROTO_UNPACK(tenon__cluster_record, row.value, arena, out, err)
                           : status;
}

static tn_status moving_of(tn_tool_db *db, tn_arena *arena, tn_str *out, tn_error *err)
{
    tn_key key = tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                              tn_blob_of_str(TN_STR(TN_COPY_MOVING)));
    tn_row row;
    tn_status status = tn_tool_get(db, arena, &key, &row, err);
    if (status == TN_OK)
        *out = tn_str_of_blob(row.value);
    return status;
}

static bool set_moving(tn_copy *c, tn_tool_db *db, const char *text)
{
    tn_blob value = tn_blob_of_str(tn_str_from(text));
    return tn_copy_put(c, db, TN_TABLE_META, TN_PARTITION_CLUSTER,
                       tn_blob_of_str(TN_STR(TN_COPY_MOVING)), text ? &value : NULL);
}

static void refuse(tn_copy *c, const tn_tool_db *db, const char *fix, const char *what)
{
    tn_config_complain_at(c->problems, db->place, "plugin", fix, "%s", what);
}

static bool check_source(tn_copy *c, tn_arena *arena, Tenon__ClusterRecord **out)
{
    tn_error err = {0};
    tn_status status = cluster_of(&c->from, arena, out, &err);
    if (status == TN_ENOTFOUND)
        refuse(c, &c->from, "name the configuration of a cluster that has been served with --from",
               "the source holds no cluster");
    else if (status != TN_OK)
        tn_config_complain_at(c->problems, c->from.place, "plugin", NULL, "%s", err.text);
    else if (!(*out)->history_shards)
        refuse(c, &c->from, "tenonctl store verify", "the source's cluster record is damaged");
    else
        return true;
    return false;
}

/* Empty, or what an earlier try has left. */
static bool check_target(tn_copy *c, tn_arena *arena, const Tenon__ClusterRecord *from)
{
    Tenon__ClusterRecord *there = NULL;
    tn_str moving;
    tn_error err = {0};
    char fix[1200];
    tn_status cluster = cluster_of(&c->to, arena, &there, &err),
              marked = moving_of(&c->to, arena, &moving, &err);
    if ((cluster != TN_OK && cluster != TN_ENOTFOUND) ||
        (marked != TN_OK && marked != TN_ENOTFOUND)) {
        tn_config_complain_at(c->problems, c->to.place, "plugin", NULL, "%s", err.text);
        return false;
    }
    snprintf(fix, sizeof fix, "tenonctl store copy --from %s --to %s --resume", c->from_path,
             c->to_path);
    if (marked == TN_OK && !c->resume)
        refuse(c, &c->to, fix, "the target holds a copy that was not finished");
    else if (marked == TN_OK && there && strcmp(there->cluster_id, from->cluster_id) != 0)
        refuse(c, &c->to, "empty the target",
               "the target holds an unfinished copy of another cluster");
    else if (marked == TN_ENOTFOUND && cluster == TN_OK)
        refuse(c, &c->to, "name an empty datastore with --to",
               "the target holds a cluster already");
    else
        return true;
    return false;
}

static bool read_marks(tn_copy *c)
{
    tn_arena *arena = tn_arena_create(0);
    tn_range range = {.struct_size = sizeof range, .limit = 1000};
    tn_page page;
    tn_error err = {0};
    const size_t n = sizeof(TN_COPY_MARK) - 1;
    bool good = true;
    range.from = tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                              tn_blob_of_str(TN_STR(TN_COPY_MARK)));
    range.to_row = tn_blob_of_str(TN_STR("copy0")); /* behind the slash */
    do {
        if (tn_tool_scan(&c->to, arena, &range, &page, &err) != TN_OK)
            good = tn_copy_fail(c, "the marks of the copy could not be read", &err);
        for (size_t i = 0; good && i < page.n_rows; i++) {
            const tn_row *row = &page.rows[i];
            uint32_t partition =
                row->key.row.n == n + 4 ? tn_get_u32be(row->key.row.p + n) : UINT32_MAX;
            if (partition > c->shards || row->value.n != 16)
                continue;
            c->parts[partition] = (tn_copy_part){.mark = tn_get_u64be(row->value.p),
                                                 .seen = tn_get_u64be(row->value.p + 8),
                                                 .begun = true};
        }
        range.page = page.next;
    } while (good && range.page.n);
    tn_arena_destroy(arena);
    return good;
}

static bool clear_marks(tn_copy *c)
{
    tn_arena *arena = tn_arena_create(0);
    tn_store_batch batch;
    tn_error err = {0};
    tn_store_batch_init(&batch, arena);
    tn_store_batch_delete_range(&batch,
                                tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                                             tn_blob_of_str(TN_STR(TN_COPY_MARK))),
                                tn_blob_of_str(TN_STR("copy0")));
    tn_store_batch_delete(&batch, tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                                               tn_blob_of_str(TN_STR(TN_COPY_MOVING))));
    tn_batch ready = tn_store_batch_finish(&batch);
    tn_status status = tn_tool_commit(&c->to, arena, &ready, NULL, &err);
    tn_arena_destroy(arena);
    return status == TN_OK || tn_copy_fail(c, "the target could not be released", &err);
}

/* ---- passes ---- */

typedef struct pass {
    tn_copy *c;
    atomic_uint_fast64_t changed;
} pass;

static bool pass_shard(void *user, uint64_t i)
{
    pass *p = user;
    uint32_t shard = (uint32_t)i + 1;
    uint64_t changed = 0;
    bool good =
        (!p->c->fencing || tn_copy_fence(p->c, shard)) && tn_copy_partition(p->c, shard, &changed);
    p->changed += changed;
    return !good;
}

/* All partitions, the cluster's last; *out_changed: rows put or deleted. */
static bool one_pass(tn_copy *c, uint64_t *out_changed)
{
    pass p = {.c = c};
    uint64_t began = tn_now_mono_ns(), changed = 0;
    c->pass++;
    tn_tool_each(c->threads, c->shards, pass_shard, &p);
    if (atomic_load(&c->failed) || !tn_copy_partition(c, TN_PARTITION_CLUSTER, &changed))
        return false;
    *out_changed = p.changed + changed;
    printf("pass %u: %llu rows in %.1f s\n", c->pass, (unsigned long long)*out_changed,
           (double)(tn_now_mono_ns() - began) / 1e9);
    fflush(stdout);
    return true;
}

static bool documents(tn_copy *c)
{
    uint64_t began = tn_now_mono_ns();
    if (!c->with_docs)
        return true;
    if (!tn_copy_docs(c))
        return false;
    printf("visibility: %llu documents in %.1f s\n", (unsigned long long)c->docs,
           (double)(tn_now_mono_ns() - began) / 1e9);
    fflush(stdout);
    return true;
}

static bool copy_stopped(tn_copy *c)
{
    uint64_t changed = 0;
    if (!one_pass(c, &changed) || !documents(c))
        return false;
    for (int i = 0; i < 2; i++) {
        if (!one_pass(c, &changed))
            return false;
        if (!changed)
            return true;
    }
    return tn_copy_fail(c,
                        "the source changed while it was copied\n    fix: stop its servers and "
                        "take the copy up again with --resume, or use --cutover",
                        NULL);
}

static bool still_fenced(void *user, uint64_t i)
{
    return !tn_copy_still_fenced(user, (uint32_t)i + 1);
}

static bool cut_over(tn_copy *c, uint64_t *out_standstill_ns)
{
    char text[1200];
    uint64_t changed = 0;
    if (!one_pass(c, &changed) || !documents(c))
        return false;
    do { /* while it runs: the difference shrinks until it is what one pass sees happen */
        uint64_t before = changed;
        c->values =
            before > MANY_CHANGES; /* then one reading of all costs less than a look-up for each */
        if (!one_pass(c, &changed))
            return false;
        if (changed > before / 2)
            break;
    } while (changed > FEW_CHANGES && c->pass < PASSES_MAX);
    c->values = false;
    uint64_t began = tn_now_mono_ns();
    snprintf(text, sizeof text, "the cluster has been moved to the datastores of %s", c->to_path);
    if (!set_moving(c, &c->from, text))
        return false;
    c->fencing = true;
    if (!one_pass(c, &changed))
        return false;
    c->fencing = false;
    for (int i = 0; changed && i < 10; i++) /* namespaces have no fence */
        if (!tn_copy_partition(c, TN_PARTITION_CLUSTER, &changed))
            return false;
    tn_tool_each(c->threads, c->shards, still_fenced, c);
    *out_standstill_ns = tn_now_mono_ns() - began;
    return !atomic_load(&c->failed);
}

/* ---- sums of both sides ---- */

typedef struct sums {
    tn_copy *c;
    atomic_uint_fast64_t rows[2], sum[2], differ;
} sums;

static bool compare_partition(void *user, uint64_t partition)
{
    sums *s = user;
    tn_copy_sum a, b;
    if (!tn_copy_sum_of(s->c, &s->c->from, (uint32_t)partition, &a) ||
        !tn_copy_sum_of(s->c, &s->c->to, (uint32_t)partition, &b))
        return true;
    s->rows[0] += a.rows;
    s->rows[1] += b.rows;
    s->sum[0] += a.sum;
    s->sum[1] += b.sum;
    if (a.rows != b.rows || a.sum != b.sum) {
        s->differ++;
        printf("DIFFERS partition %llu: %llu rows, sum %016llx; target %llu rows, sum %016llx\n",
               (unsigned long long)partition, (unsigned long long)a.rows, (unsigned long long)a.sum,
               (unsigned long long)b.rows, (unsigned long long)b.sum);
    }
    return false;
}

static bool compare_documents(tn_copy *c, sums *s)
{
    uint64_t total[2] = {0, 0}, sum[2] = {0, 0};
    if (!c->with_docs)
        return true;
    if (c->cutover) {
        printf("sums: documents are left to the outbox, which the target's servers work off\n");
        return true;
    }
    for (size_t i = 0; i < c->ns_count; i++) {
        tn_copy_sum a, b;
        if (!tn_copy_sum_docs(c, &c->from_docs, c->ns_ids[i], &a) ||
            !tn_copy_sum_docs(c, &c->to_docs, c->ns_ids[i], &b))
            return false;
        total[0] += a.rows, total[1] += b.rows;
        sum[0] += a.sum, sum[1] += b.sum;
        if (a.rows != b.rows || a.sum != b.sum) {
            s->differ++;
            printf(
                "DIFFERS documents of namespace %s: %llu, sum %016llx; target %llu, sum %016llx\n",
                c->ns_ids[i], (unsigned long long)a.rows, (unsigned long long)a.sum,
                (unsigned long long)b.rows, (unsigned long long)b.sum);
        }
    }
    printf("sums: documents %llu %016llx, target %llu %016llx\n", (unsigned long long)total[0],
           (unsigned long long)sum[0], (unsigned long long)total[1], (unsigned long long)sum[1]);
    return true;
}

static bool compare_sums(tn_copy *c)
{
    sums s = {.c = c};
    tn_tool_each(c->threads, (uint64_t)c->shards + 1, compare_partition, &s);
    if (atomic_load(&c->failed) || !compare_documents(c, &s))
        return false;
    printf("sums: rows %llu %016llx, target %llu %016llx\n", (unsigned long long)s.rows[0],
           (unsigned long long)s.sum[0], (unsigned long long)s.rows[1],
           (unsigned long long)s.sum[1]);
    fflush(stdout);
    return !s.differ || tn_copy_fail(c, "the target is not what the source is", NULL);
}

/* ---- the whole ---- */

static bool prepare(tn_copy *c, uint32_t shards)
{
    char text[1200];
    c->shards = shards;
    c->parts = tn_xcalloc((size_t)shards + 1, sizeof *c->parts);
    snprintf(text, sizeof text, "it holds an unfinished copy of the datastores of %s",
             c->from_path);
    return set_moving(c, &c->to, text) && (!c->resume || read_marks(c));
}

static bool copy_all(tn_copy *c)
{
    uint64_t standstill_ns = 0, began = tn_now_mono_ns();
    if (!(c->cutover ? cut_over(c, &standstill_ns) : copy_stopped(c)))
        return false;
    if (c->verify && !compare_sums(c))
        return false;
    if (!clear_marks(c))
        return false;
    printf("copied %llu rows (%llu bytes) and %llu documents, deleted %llu rows, in %.1f s\n",
           (unsigned long long)c->rows, (unsigned long long)c->bytes, (unsigned long long)c->docs,
           (unsigned long long)c->deleted, (double)(tn_now_mono_ns() - began) / 1e9);
    if (c->cutover)
        printf(
            "the source has stood still for %.2f s%s; %llu notes in the outbox ask for documents\n"
            "next step: tenond --config %s\n",
            (double)standstill_ns / 1e9, c->verify ? " before the sums" : "",
            (unsigned long long)c->changed_runs, c->to_path);
    return true;
}

static int copy(tn_copy *c)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__ClusterRecord *record = NULL;
    bool good = check_source(c, arena, &record) && check_target(c, arena, record) &&
                prepare(c, record->history_shards) && copy_all(c);
    if (!good && c->parts)
        fprintf(stderr,
                "tenonctl: the copy is not finished: no server starts on the target\n    fix: "
                "tenonctl store copy --from %s --to %s --resume%s\n",
                c->from_path, c->to_path,
                c->cutover ? " --cutover, or --undo to let the source be served again" : "");
    free(c->parts);
    for (size_t i = 0; i < c->ns_count; i++)
        free(c->ns_ids[i]);
    free(c->ns_ids);
    tn_arena_destroy(arena);
    return good ? TN_TOOL_OK : TN_TOOL_FAILED;
}

/* The source may be served again: nothing of it was lost. */
static int undo(tn_copy *c)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__ClusterRecord *record = NULL;
    bool good = check_source(c, arena, &record);
    if (good) {
        c->parts = tn_xcalloc((size_t)record->history_shards + 1, sizeof *c->parts);
        for (uint32_t shard = 1; good && shard <= record->history_shards; shard++)
            good = tn_copy_unfence(c, shard);
        good = good && set_moving(c, &c->from, NULL);
        free(c->parts);
    }
    tn_arena_destroy(arena);
    if (good)
        printf("the datastores of %s may be served again\n", c->from_path);
    return good ? TN_TOOL_OK : TN_TOOL_FAILED;
}

static bool open_side(tn_copy *c, const tn_settings *settings, tn_tool_db *rows, tn_tool_db *docs)
{
    return tn_tool_db_open(rows, settings, TN_KIND_PERSISTENCE, settings->store, c->problems) ==
               TN_OK &&
           (!c->with_docs || tn_tool_db_open(docs, settings, TN_KIND_VISIBILITY,
                                             settings->visibility, c->problems) == TN_OK);
}

static int with_stores(tn_copy *c, bool undoing)
{
    tn_settings *from = NULL, *to = NULL;
    int result = TN_TOOL_FAILED;
    c->problems = tn_config_problems_create();
    c->with_docs = c->with_docs && !undoing;
    bool read = tn_settings_load(c->from_path, c->problems, &from) == TN_OK;
    if (!undoing)
        read = tn_settings_load(c->to_path, c->problems, &to) == TN_OK && read;
    if (read && tn_tool_loops_start(2, c->problems) == TN_OK &&
        open_side(c, from, &c->from, &c->from_docs) &&
        (undoing || open_side(c, to, &c->to, &c->to_docs)))
        result = undoing ? undo(c) : copy(c);
    tn_tool_db_close(&c->to_docs);
    tn_tool_db_close(&c->to);
    tn_tool_db_close(&c->from_docs);
    tn_tool_db_close(&c->from);
    tn_tool_loops_stop();
    int failed = tn_tool_end(c->problems);
    tn_settings_destroy(from);
    tn_settings_destroy(to);
    return failed != TN_TOOL_OK ? failed : result;
}

static int run(const tn_tool *tool, int argc, char **argv)
{
    tn_copy c = {0};
    bool undoing = false, rows_only = false;
    uint64_t threads = 4;
    const tn_option options[] = {
        {"--from", TN_OPTION_TEXT, &c.from_path},    {"--to", TN_OPTION_TEXT, &c.to_path},
        {"--resume", TN_OPTION_FLAG, &c.resume},     {"--verify", TN_OPTION_FLAG, &c.verify},
        {"--cutover", TN_OPTION_FLAG, &c.cutover},   {"--undo", TN_OPTION_FLAG, &undoing},
        {"--rate", TN_OPTION_NUMBER, &c.rate},       {"--threads", TN_OPTION_NUMBER, &threads},
        {"--rows-only", TN_OPTION_FLAG, &rows_only},
    };
    int failed = tn_tool_options(tool, argc, argv, options, TN_COUNT_OF(options), NULL, 0, 0);
    if (failed != TN_TOOL_GO_ON)
        return failed;
    if (!c.from_path || (!c.to_path && !undoing))
        return tn_tool_misused(tool, "%s is missing", c.from_path ? "--to" : "--from");
    if (undoing && (c.to_path || c.cutover || c.resume || c.verify))
        return tn_tool_misused(tool, "--undo goes with --from alone");
    if (threads < 1 || threads > 64)
        return tn_tool_misused(tool, "--threads has %llu, wants 1 to 64",
                               (unsigned long long)threads);
    tn_log_configure(TN_LOG_ERROR, false);
    c.threads = (uint32_t)threads;
    c.with_docs = !rows_only;
    return with_stores(&c, undoing);
}

const tn_tool tn_tools_copy[] = {
    {.name = "store copy",
     .args = "--from A.yaml --to B.yaml [--resume] [--verify] [--cutover] [--rate ROWS] [--threads "
             "4] [--rows-only]\n"
             "       tenonctl store copy --from A.yaml --undo",
     .brief = "move a cluster's rows and documents into other datastores",
     .help = "The source's servers must be stopped, or --cutover be given: then it is copied while "
             "they run, and in a last\n"
             "pass each shard is taken away from its server before the difference is copied; after "
             "that servers are\n"
             "started on B, and none starts on A any more.  --undo takes that back.\n"
             "--resume takes up a copy that was not finished.  --verify compares count and sum of "
             "every partition.\n"
             "--rate: rows a second at most.  --rows-only: leave visibility out.\n",
     .run = run},
    {0},
};
