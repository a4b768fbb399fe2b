/* SPDX-License-Identifier: MIT */
/* Damages a stopped cluster's datastores in one chosen way: what `tenonctl store verify` must find.
 *
 *   corrupt CONFIG NAME     does it
 *   corrupt --list          names, and a text that verify must then say, one a line with a tab between
 *
 * The store must hold what populate.py leaves. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/proto.h"
#include "store/store.h"
#include "tenon/store.pb-c.h"
#include "tools/db.h"

static tn_tool_db rows, docs;
static tn_arena *arena;
static uint32_t shards;

_Noreturn static void die(const char *what, const tn_error *err)
{
    fprintf(stderr, "corrupt: %s%s%s\n", what, err ? ": " : "", err ? err->text : "");
    exit(3);
}

/* ---- rows ---- */

typedef struct found {
    uint32_t table, shard;
    tn_row row;
} found;

static found *all;
static size_t n_all;

static void gather(uint32_t table, uint32_t shard)
{
    tn_range range = {.struct_size = sizeof range, .limit = 1000};
    tn_page page;
    tn_error err = {0};
    range.from = tn_store_key(arena, table, shard, (tn_blob){NULL, 0});
    do {
        if (tn_tool_scan(&rows, arena, &range, &page, &err) != TN_OK)
            die("scan", &err);
        all = tn_xreallocarray(all, n_all + page.n_rows + 1, sizeof *all);
        for (size_t i = 0; i < page.n_rows; i++)
            all[n_all++] = (found){table, shard, page.rows[i]};
        range.page = page.next;
    } while (page.next.n);
}

static void change(uint32_t table, uint32_t shard, tn_blob row, const tn_blob *value)
{
    tn_store_batch batch;
    tn_error err = {0};
    tn_store_batch_init(&batch, arena);
    tn_key key = tn_store_key(arena, table, shard, row);
    if (value)
        tn_store_batch_put(&batch, key, *value);
    else
        tn_store_batch_delete(&batch, key);
    tn_batch b = tn_store_batch_finish(&batch);
    if (tn_tool_commit(&rows, arena, &b, NULL, &err) != TN_OK)
        die("commit", &err);
}

static void delete_row(const found *f) { change(f->table, f->shard, f->row.key.row, NULL); }
static void put_row(const found *f, tn_blob value)
{
    change(f->table, f->shard, f->row.key.row, &value);
}

static void put_message(const found *f, const ProtobufCMessage *msg)
{
    tn_blob packed;
    if (tn_proto_pack(msg, arena, &packed) != TN_OK)
        die("pack", NULL);
    put_row(f, packed);
}

static const tn_blob garbage = {(const uint8_t *)"\xff\xff\xff\xff garbage", 12};

static void *unpack(const ProtobufCMessageDescriptor *type, const found *f)
{
    ProtobufCMessage *msg = NULL;
    tn_error err = {0};
    if (tn_proto_unpack(type, f->row.value, arena, &msg, &err) != TN_OK)
        die("a row cannot be read before it was damaged", &err);
    return msg;
}

static const found *first_of(uint32_t table)
{
    for (size_t i = 0; i < n_all; i++)
        if (all[i].table == table)
            return &all[i];
    die("there is no row of that table", NULL);
}

static bool of_run(const found *f, const uint8_t id[16])
{
    return f->row.key.row.n >= 16 && memcmp(f->row.key.row.p, id, 16) == 0;
}

/* The current-run row of an open or closed workflow whose id begins so. */
static const found *current_of(const char *prefix, Tenon__CurrentRun **out)
{
    for (size_t i = 0; i < n_all; i++) {
        const tn_blob key = all[i].row.key.row;
        if (all[i].table != TN_TABLE_CURRENT || key.n < 17 + strlen(prefix) ||
            memcmp(key.p + 16, prefix, strlen(prefix)) != 0)
            continue;
        *out = unpack(&tenon__current_run__descriptor, &all[i]);
        return &all[i];
    }
    die(prefix, NULL);
}

/* The n-th record of the run, or from the end with n < 0. */
static const found *record_of(const uint8_t id[16], int n)
{
    const found *list[2000];
    int count = 0;
    for (size_t i = 0; i < n_all && count < 2000; i++)
        if (all[i].table == TN_TABLE_RECORD && of_run(&all[i], id))
            list[count++] = &all[i];
    n = n < 0 ? count + n : n;
    if (n < 0 || n >= count)
        die("the run has too few records", NULL);
    return list[n];
}

static const found *wake_of(const uint8_t id[16])
{
    for (size_t i = 0; i < n_all; i++)
        if (all[i].table == TN_TABLE_WAKE && memcmp(all[i].row.key.row.p + 8, id, 16) == 0)
            return &all[i];
    die("the run has no wake row", NULL);
}

static const found *snapshot_of(const uint8_t id[16])
{
    for (size_t i = 0; i < n_all; i++)
        if (all[i].table == TN_TABLE_SNAPSHOT && of_run(&all[i], id))
            return &all[i];
    die("the run has no snapshot", NULL);
}

static const uint8_t *run_of(const char *prefix)
{
    Tenon__CurrentRun *current;
    current_of(prefix, &current);
    return current->run_id.data;
}

/* ---- history ---- */

static void history_gap(void) { delete_row(record_of(run_of("busy"), 2)); }
static void history_begins_late(void) { delete_row(record_of(run_of("busy"), 0)); }
static void history_cut(void) { delete_row(record_of(run_of("busy"), -1)); }
static void record_garbage(void) { put_row(record_of(run_of("busy"), 1), garbage); }

static void record_ends_elsewhere(void)
{
    const found *f = record_of(run_of("busy"), 1);
    Tenon__Record *record = unpack(&tenon__record__descriptor, f);
    record->next_event_id++;
    put_message(f, &record->base);
}

static void record_loses_events(void)
{
    const found *f;
    Tenon__Record *record;
    int n = 3;
    do { /* some records hold extras only */
        f = record_of(run_of("long"), n++);
        record = unpack(&tenon__record__descriptor, f);
    } while (!record->events.len);
    record->events.len = 0;
    put_message(f, &record->base);
}

static void record_of_transition(void)
{
    const found *f = record_of(run_of("busy"), 1);
    Tenon__Record *record = unpack(&tenon__record__descriptor, f);
    record->transition += 7;
    put_message(f, &record->base);
}

/* ---- current ---- */

static void current_missing(void)
{
    Tenon__CurrentRun *current;
    delete_row(current_of("sleeper", &current));
}

static void current_dangles(void)
{
    Tenon__CurrentRun *current;
    const found *f = current_of("small", &current);
    current->run_id.data[7] ^= 0x55;
    put_message(f, &current->base);
}

static void current_status(void)
{
    Tenon__CurrentRun *current;
    const found *f = current_of("small", &current);
    current->status = 1;
    put_message(f, &current->base);
}

static void current_times(void)
{
    Tenon__CurrentRun *current;
    const found *f = current_of("small", &current);
    current->close_ns++;
    put_message(f, &current->base);
}

static void current_first(void)
{
    Tenon__CurrentRun *current;
    const found *f = current_of("chain", &current);
    current->first_run_id.data[3] ^= 1;
    put_message(f, &current->base);
}

static void current_garbage(void) { put_row(first_of(TN_TABLE_CURRENT), garbage); }

/* ---- wakes ---- */

static void wake_missing_open(void) { delete_row(wake_of(run_of("sleeper"))); }
static void wake_missing_closed(void) { delete_row(wake_of(run_of("small"))); }
static void wake_garbage(void) { put_row(first_of(TN_TABLE_WAKE), garbage); }

static void move_wake(uint64_t by_ns, bool keep)
{
    const found *f = wake_of(run_of("sleeper"));
    uint8_t key[24];
    memcpy(key, f->row.key.row.p, 24);
    tn_put_u64be(key, tn_get_u64be(key) + by_ns);
    change(TN_TABLE_WAKE, f->shard, tn_blob_from(key, 24), &f->row.value);
    if (!keep)
        delete_row(f);
}
static void wake_moved(void) { move_wake(60 * TN_SEC, false); }
static void wake_twice(void) { move_wake(60 * TN_SEC, true); }

static void wake_late(void)
{
    const uint8_t *id = run_of("sleeper");
    const found *f = record_of(id, -1);
    Tenon__Record *record = unpack(&tenon__record__descriptor, f);
    record->wake_ns += 60 * TN_SEC;
    put_message(f, &record->base);
    wake_moved();
}

static void wake_dangles(void)
{
    const found *f = first_of(TN_TABLE_WAKE);
    uint8_t key[24];
    memcpy(key, f->row.key.row.p, 24);
    key[20] ^= 0x33;
    change(TN_TABLE_WAKE, f->shard, tn_blob_from(key, 24), &f->row.value);
}

/* Nothing leads to it any more. */
static void nameless(void)
{
    Tenon__CurrentRun *current;
    delete_row(current_of("sleeper", &current));
    delete_row(wake_of(current->run_id.data));
}

/* ---- snapshots ---- */

static void snapshot_differs(void)
{
    const found *f = snapshot_of(run_of("long"));
    Tenon__Snapshot *snapshot = unpack(&tenon__snapshot__descriptor, f);
    snapshot->signal_count++;
    put_message(f, &snapshot->base);
}

static void snapshot_ahead(void)
{
    const found *f = snapshot_of(run_of("long"));
    Tenon__Snapshot *snapshot = unpack(&tenon__snapshot__descriptor, f);
    snapshot->transition += 1000;
    put_message(f, &snapshot->base);
}

static void snapshot_garbage(void) { put_row(snapshot_of(run_of("long")), garbage); }

static void snapshot_dangles(void)
{
    const found *f = snapshot_of(run_of("long"));
    uint8_t key[16];
    memcpy(key, f->row.key.row.p, 16);
    key[9] ^= 0x11;
    change(TN_TABLE_SNAPSHOT, f->shard, tn_blob_from(key, 16), &f->row.value);
}

/* ---- outbox, shards, the cluster ---- */

static void put_outbox(const char *prefix, bool removes, uint64_t version, bool spoilt)
{
    Tenon__CurrentRun *current;
    const found *f = current_of(prefix, &current);
    Tenon__Outbox outbox = TENON__OUTBOX__INIT;
    tn_blob packed;
    uint8_t key[8];
    outbox.run_id = current->run_id;
    outbox.ns_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)f->row.key.row.p};
    outbox.workflow_id = tn_arena_printf(arena, "%.*s", (int)f->row.key.row.n - 16,
                                         (const char *)f->row.key.row.p + 16);
    outbox.remove = removes;
    outbox.doc_version = version;
    tn_put_u64be(key, (UINT64_C(1) << 40) + 77);
    if (tn_proto_pack(&outbox.base, arena, &packed) != TN_OK)
        die("pack", NULL);
    change(TN_TABLE_OUTBOX, f->shard, tn_blob_from(key, 8), spoilt ? &garbage : &packed);
}
static void outbox_ahead(void) { put_outbox("small", false, 5000, false); }
static void outbox_removes(void) { put_outbox("small", true, 0, false); }
static void outbox_garbage(void) { put_outbox("small", false, 1, true); }

static void shard_missing(void)
{
    Tenon__CurrentRun *current;
    found shard = *current_of("small", &current);
    change(TN_TABLE_SHARD, shard.shard, (tn_blob){NULL, 0}, NULL);
}

static void shard_garbage(void) { change(TN_TABLE_SHARD, 1, (tn_blob){NULL, 0}, &garbage); }

static void shard_wrong(void)
{
    const uint8_t *id = run_of("sleeper");
    for (size_t i = 0; i < n_all; i++) {
        const found *f = &all[i];
        bool its = (f->table == TN_TABLE_RECORD && of_run(f, id)) ||
                   (f->table == TN_TABLE_WAKE && memcmp(f->row.key.row.p + 8, id, 16) == 0) ||
                   (f->table == TN_TABLE_CURRENT && f->row.key.row.n > 23 &&
                    memcmp(f->row.key.row.p + 16, "sleeper", 7) == 0);
        if (!its)
            continue;
        change(f->table, f->shard % shards + 1, f->row.key.row, &f->row.value);
        delete_row(f);
    }
}

static const found *namespace_row(const char *name, Tenon__NamespaceRecord **out)
{
    for (size_t i = 0; i < n_all; i++) {
        if (all[i].table != TN_TABLE_NAMESPACE)
            continue;
        *out = unpack(&tenon__namespace_record__descriptor, &all[i]);
        if (strcmp((*out)->name, name) == 0)
            return &all[i];
    }
    die(name, NULL);
}

static void namespace_missing(void)
{
    Tenon__NamespaceRecord *record;
    delete_row(namespace_row("default", &record));
}

static void namespace_garbage(void) { put_row(first_of(TN_TABLE_NAMESPACE), garbage); }

static void namespace_twice(void)
{
    Tenon__NamespaceRecord *record;
    const found *f = namespace_row("temporal-system", &record);
    record->name = (char *)(uintptr_t) "default";
    put_message(f, &record->base);
}

static void cluster_garbage(void)
{
    change(TN_TABLE_META, 0, tn_blob_of_str(TN_STR("cluster")), &garbage);
}

static void cluster_missing(void)
{
    change(TN_TABLE_META, 0, tn_blob_of_str(TN_STR("cluster")), NULL);
}

/* ---- documents ---- */

static tn_vis_doc document(const char *prefix)
{
    Tenon__CurrentRun *current;
    const found *f = current_of(prefix, &current);
    char *ns_id = tn_arena_alloc(arena, 37), *run_id = tn_arena_alloc(arena, 37);
    tn_uuid_format(f->row.key.row.p, ns_id);
    tn_uuid_format(current->run_id.data, run_id);
    static tn_attr attrs[] = {{.name = {"TaskQueue", 9},
                               .type = TN_ATTR_KEYWORD,
                               .value = {(const uint8_t *)"wrong", 5}}};
    return (tn_vis_doc){.struct_size = sizeof(tn_vis_doc),
                        .ns_id = tn_str_from(ns_id),
                        .run_id = tn_str_from(run_id),
                        .workflow_id = {(const char *)f->row.key.row.p + 16, f->row.key.row.n - 16},
                        .attrs = attrs,
                        .n_attrs = 1};
}

static void put_doc(const tn_vis_doc *doc)
{
    tn_error err = {0};
    if (tn_tool_put_doc(&docs, doc, &err) != TN_OK)
        die("put", &err);
}

static void document_missing(void)
{
    tn_vis_doc doc = document("small");
    tn_error err = {0};
    if (tn_tool_remove_doc(&docs, &doc, &err) != TN_OK)
        die("remove", &err);
}

static void document_stale(void)
{
    tn_vis_doc doc = document("long");
    doc.version = 2;
    put_doc(&doc);
}

static void document_ahead(void)
{
    tn_vis_doc doc = document("small");
    doc.version = 999999;
    put_doc(&doc);
}

static void document_superfluous(void)
{
    tn_vis_doc doc = document("small");
    doc.run_id = TN_STR("0190c0de-0000-7000-8000-00000000beef");
    doc.version = 3;
    put_doc(&doc);
}

/* ---- the list ---- */

static const struct {
    const char *name;
    void (*damage)(void);
    const char *says;
} damages[] = {
    {"history-gap", history_gap, "transition 4 follows 2"},
    {"history-begins-late", history_begins_late, "transition 2 follows 0"},
    {"history-cut", history_cut, "the current-run row says status 2, the state is 1"},
    {"record-garbage", record_garbage, "the record cannot be read"},
    {"record-ends-elsewhere", record_ends_elsewhere, "the record does not fold"},
    {"record-loses-events", record_loses_events, "VIOLATION record: the record does not fold"},
    {"record-of-transition", record_of_transition, "its key 2"},
    {"current-missing", current_missing, "is not the current run of its workflow id"},
    {"current-dangles", current_dangles, "the current-run row points to a run that has no records"},
    {"current-status", current_status, "the current-run row says status 1, the state is 2"},
    {"current-times", current_times, "start or close time is not the state's"},
    {"current-first", current_first, "names another first run of the chain"},
    {"current-garbage", current_garbage, "the current-run row cannot be read"},
    {"wake-missing-open", wake_missing_open, "the wake row of an open run is missing"},
    {"wake-missing-closed", wake_missing_closed, "ends the retention of a closed run is missing"},
    {"wake-moved", wake_moved, "the wake row of an open run is missing"},
    {"wake-twice", wake_twice, "the run has 2 wake rows"},
    {"wake-late", wake_late, "is woken 60000 ms later than it wants"},
    {"wake-dangles", wake_dangles, "the wake row points to a run that has no records"},
    {"wake-garbage", wake_garbage, "the wake row cannot be read"},
    {"nameless", nameless, "names this run: nothing finds it"},
    {"snapshot-differs", snapshot_differs, "is not the state that the records leave there"},
    {"snapshot-ahead", snapshot_ahead, "VIOLATION snapshot: the snapshot is of transition"},
    {"snapshot-garbage", snapshot_garbage, "the snapshot cannot be loaded"},
    {"snapshot-dangles", snapshot_dangles, "the snapshot is of a run that has no records"},
    {"outbox-ahead", outbox_ahead, "the outbox holds version 5000"},
    {"outbox-removes", outbox_removes, "removes a run from visibility that is still there"},
    {"outbox-garbage", outbox_garbage, "the outbox row cannot be read"},
    {"shard-missing", shard_missing, "has runs and no record of its owner"},
    {"shard-garbage", shard_garbage, "the shard's record cannot be read"},
    {"shard-wrong", shard_wrong, "the workflow belongs to shard"},
    {"namespace-missing", namespace_missing, "has no record"},
    {"namespace-garbage", namespace_garbage, "the namespace's record cannot be read"},
    {"namespace-twice", namespace_twice, "another namespace has the name \"default\""},
    {"cluster-garbage", cluster_garbage, "the cluster's record cannot be read"},
    {"cluster-missing", cluster_missing, "there is no cluster record"},
    {"document-missing", document_missing, "visibility does not list the run"},
    {"document-stale", document_stale, "does not say what the run's state says"},
    {"document-ahead", document_ahead, "the document has version 999999"},
    {"document-superfluous", document_superfluous, "visibility lists a run that has no records"},
};

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < TN_COUNT_OF(damages); i++)
            printf("%s\t%s\n", damages[i].name, damages[i].says);
        return 0;
    }
    if (argc != 3)
        return 2;
    tn_log_configure(TN_LOG_ERROR, false);
    tn_config_problems *problems = tn_config_problems_create();
    tn_settings *settings = NULL;
    arena = tn_arena_create(0);
    if (tn_settings_load(argv[1], problems, &settings) != TN_OK ||
        tn_tool_loops_start(1, problems) != TN_OK ||
        tn_tool_db_open(&rows, settings, TN_KIND_PERSISTENCE, settings->store, problems) != TN_OK ||
        tn_tool_db_open(&docs, settings, TN_KIND_VISIBILITY, settings->visibility, problems) !=
            TN_OK) {
        tn_config_problems_print(problems);
        return 3;
    }
    shards = (uint32_t)settings->history_shards;
    for (uint32_t table = 1; table <= TN_TABLE_TASKQUEUE; table++)
        for (uint32_t shard = 0; shard <= shards; shard++)
            gather(table, shard);
    int result = 3;
    for (size_t i = 0; i < TN_COUNT_OF(damages); i++) {
        if (strcmp(damages[i].name, argv[2]) == 0) {
            damages[i].damage();
            result = 0;
        }
    }
    tn_tool_db_close(&docs);
    tn_tool_db_close(&rows);
    tn_tool_loops_stop();
    tn_settings_destroy(settings);
    tn_config_problems_destroy(problems);
    tn_arena_destroy(arena);
    free(all);
    return result;
}
