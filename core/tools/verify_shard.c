/* SPDX-License-Identifier: MIT */
/* One shard, table by table; and one run of it once more, row by row. */
#include "tools/verify.h"

#include <stdio.h>

#include "proto/proto.h"
#include "tenon/store.pb-c.h"

#define PAGE_ROWS 1000u
#define PAGE_BYTES (4u << 20)
#define STABLE_TRIES 20

typedef struct shard_work {
    tn_verify *v;
    uint32_t id;
    tn_arena *arena; /* of the runs' entries */
    tn_map runs;
    bool broken;
    /* the run whose records are being read */
    bool replaying;
    tn_vfy_replay replay;
    tn_vfy_report report;
} shard_work;

static tn_vfy_run *entry_of(shard_work *w, const uint8_t id[16])
{
    tn_map_link *found = tn_map_find(&w->runs, tn_blob_from(id, 16));
    if (found)
        return TN_CONTAINER_OF(found, tn_vfy_run, link);
    tn_vfy_run *run = TN_NEW(w->arena, tn_vfy_run);
    memcpy(run->id, id, 16);
    tn_map_insert(&w->runs, &run->link, tn_blob_from(run->id, 16));
    return run;
}

/* ---- tables ---- */

static void each_row(shard_work *w, uint32_t table,
                     void (*row)(shard_work *w, tn_arena *arena, const tn_row *row))
{
    tn_arena *arena = tn_arena_create(0);
    tn_buf next = {0};
    tn_error err = {0};
    tn_page page;
    do {
        tn_arena_reset(arena);
        tn_range range = {.struct_size = sizeof range, .limit = PAGE_ROWS, .bytes_max = PAGE_BYTES};
        range.from = tn_store_key(arena, table, w->id, (tn_blob){NULL, 0});
        range.page = tn_arena_blob(arena, tn_buf_blob(&next));
        if (tn_tool_scan(&w->v->rows, arena, &range, &page, &err) != TN_OK) {
            char what[64];
            snprintf(what, sizeof what, "table %u of shard %u", table, w->id);
            tn_vfy_unreadable(w->v, what, &err);
            w->broken = true;
            break;
        }
        next.n = 0;
        tn_buf_put(&next, page.next.p, page.next.n);
        for (size_t i = 0; i < page.n_rows; i++)
            row(w, arena, &page.rows[i]);
    } while (next.n);
    tn_buf_done(&next);
    tn_arena_destroy(arena);
}

static void take_current(shard_work *w, tn_arena *arena, const tn_row *row)
{
    uint8_t id[16];
    const char *why = "the current-run row cannot be read";
    w->v->n_current++;
    if (!tn_vfy_current_run_id(arena, row, id)) {
        tn_vfy_suspect_row(w->v, w->id, TN_TABLE_CURRENT, row, why);
        return;
    }
    tn_vfy_run *run = entry_of(w, id);
    bool twice = run->has_current;
    tn_vfy_current_row(run, w->arena, row, &why);
    run->suspect |= twice;
}

static void take_wake(shard_work *w, tn_arena *arena, const tn_row *row)
{
    tn_vfy_run probe = {0};
    const char *why = NULL;
    w->v->n_wakes++;
    if (!tn_vfy_wake_row(&probe, arena, row, &why)) {
        tn_vfy_suspect_row(w->v, w->id, TN_TABLE_WAKE, row, why);
        return;
    }
    tn_vfy_wake_row(entry_of(w, row->key.row.p + 8), w->arena, row, &why);
}

static void take_outbox(shard_work *w, tn_arena *arena, const tn_row *row)
{
    uint8_t id[16];
    const char *why = NULL;
    w->v->n_outbox++;
    if (!tn_vfy_outbox_run_id(arena, row, id)) {
        tn_vfy_suspect_row(w->v, w->id, TN_TABLE_OUTBOX, row, "the outbox row cannot be read");
        return;
    }
    tn_vfy_outbox_row(entry_of(w, id), w->arena, row, &why);
}

static void take_snapshot(shard_work *w, tn_arena *arena, const tn_row *row)
{
    (void)arena;
    w->v->n_snapshots++;
    if (row->key.row.n != 16) {
        tn_vfy_suspect_row(w->v, w->id, TN_TABLE_SNAPSHOT, row,
                           "the key of a snapshot is no run id");
        return;
    }
    entry_of(w, row->key.row.p)->snapshot = tn_arena_blob(w->arena, row->value);
}

static void end_run(shard_work *w)
{
    if (!w->replaying)
        return;
    tn_vfy_run *run = w->replay.run;
    bool sound = tn_vfy_replay_end(&w->replay);
    w->replaying = false;
    run->suspect |= w->report.any || !sound;
    if (run->suspect)
        tn_vfy_suspect_run(w->v, w->id, run);
    if (w->v->with_docs)
        tn_vfy_expect_doc(w->v, w->id, run);
}

static void take_record(shard_work *w, tn_arena *arena, const tn_row *row)
{
    (void)arena;
    if (row->key.row.n < 16) {
        tn_vfy_suspect_row(w->v, w->id, TN_TABLE_RECORD, row, "the key of a record is too short");
        return;
    }
    if (w->replaying && memcmp(w->replay.run->id, row->key.row.p, 16) != 0)
        end_run(w);
    if (!w->replaying) {
        w->report = (tn_vfy_report){.v = w->v, .shard = w->id};
        tn_vfy_replay_begin(&w->replay, w->v, entry_of(w, row->key.row.p), &w->report);
        w->replaying = w->replay.count = true;
    }
    tn_vfy_replay_record(&w->replay, row);
}

static void leftover(void *user, tn_map_link *link)
{
    shard_work *w = user;
    tn_vfy_run *run = TN_CONTAINER_OF(link, tn_vfy_run, link);
    if (run->has_records)
        return;
    tn_vfy_report report = {.v = w->v, .shard = w->id};
    tn_vfy_judge_absent(&report, run);
    run->suspect |= report.any;
    if (run->suspect)
        tn_vfy_suspect_run(w->v, w->id, run);
    if (w->v->with_docs)
        tn_vfy_expect_doc(w->v, w->id, run); /* gone; its document may still be about to go */
}

static void check_shard_row(shard_work *w)
{
    tn_arena *arena = tn_arena_create(0);
    tn_key key = tn_store_key(arena, TN_TABLE_SHARD, w->id, (tn_blob){NULL, 0});
    tn_row row = {0};
    tn_error err = {0};
    Tenon__ShardRecord *record = NULL;
    tn_status status = tn_tool_get(&w->v->rows, arena, &key, &row, &err);
    tn_vfy_report report = {.v = w->v, .shard = w->id, .arena = arena};
    if (status == TN_ENOTFOUND) {
        if (w->runs.count)
            tn_vfy_complain(&report, TN_TABLE_SHARD, key.row,
                            "the shard has runs and no record of its owner");
    } else if (status != TN_OK) {
        tn_vfy_unreadable(w->v, "a shard's record", &err);
    } else if (TN_PROTO_UNPACK(tenon__shard_record, row.value, arena, &record, &err) != TN_OK ||
               !record->range_id) {
        tn_vfy_complain(&report, TN_TABLE_SHARD, key.row, "the shard's record cannot be read");
    }
    tn_vfy_print(&report);
    tn_arena_destroy(arena);
}

void tn_vfy_shard(tn_verify *v, uint32_t shard)
{
    shard_work w = {.v = v, .id = shard, .arena = tn_arena_create(0)};
    tn_map_init(&w.runs);
    each_row(&w, TN_TABLE_CURRENT, take_current);
    each_row(&w, TN_TABLE_WAKE, take_wake);
    each_row(&w, TN_TABLE_OUTBOX, take_outbox);
    each_row(&w, TN_TABLE_SNAPSHOT, take_snapshot);
    each_row(&w, TN_TABLE_RECORD, take_record);
    end_run(&w);
    check_shard_row(&w);
    if (!w.broken) /* what is missing may only have been out of reach */
        tn_map_each(&w.runs, leftover, &w);
    tn_map_done(&w.runs);
    tn_arena_destroy(w.arena);
}

/* ---- one run once more ---- */

typedef struct again {
    tn_verify *v;
    const tn_vfy_suspect *suspect;
    tn_vfy_report *report;
    tn_arena *arena;
    tn_vfy_run *run;
} again;

static bool failed(again *a, const char *what, const tn_error *err)
{
    tn_vfy_unreadable(a->v, what, err);
    return false;
}

static tn_range records_of(again *a)
{
    uint8_t end[16];
    memcpy(end, a->suspect->run_id, 16);
    for (int i = 15; i >= 0 && ++end[i] == 0; i--) {
    }
    tn_range range = {.struct_size = sizeof range, .limit = PAGE_ROWS, .bytes_max = PAGE_BYTES};
    range.from = tn_store_key(a->arena, TN_TABLE_RECORD, a->suspect->shard,
                              tn_store_row_run(a->arena, a->suspect->run_id));
    range.to_row = tn_arena_blob(a->arena, tn_blob_from(end, 16));
    return range;
}

/* The key of its last record; nothing moves while it stays the same. */
static bool last_key(again *a, tn_blob *out)
{
    tn_range range = records_of(a);
    tn_page page;
    tn_error err = {0};
    range.flags = TN_RANGE_REVERSE | TN_RANGE_KEYS_ONLY;
    range.limit = 1;
    if (tn_tool_scan(&a->v->rows, a->arena, &range, &page, &err) != TN_OK)
        return failed(a, "the end of a run", &err);
    *out = page.n_rows ? page.rows[0].key.row : (tn_blob){NULL, 0};
    return true;
}

/* *out: the value, in an arena; p NULL: there is none. */
static bool get_row(again *a, uint32_t table, tn_blob row, tn_row *out)
{
    tn_key key = tn_store_key(a->arena, table, a->suspect->shard, row);
    tn_error err = {0};
    *out = (tn_row){0};
    tn_status status = tn_tool_get(&a->v->rows, a->arena, &key, out, &err);
    if (status == TN_ENOTFOUND) {
        out->value.p = NULL;
        return true;
    }
    out->key = key;
    return status == TN_OK || failed(a, "a row", &err);
}

static bool read_outbox(again *a)
{
    tn_range range = {.struct_size = sizeof range, .limit = PAGE_ROWS};
    range.from = tn_store_key(a->arena, TN_TABLE_OUTBOX, a->suspect->shard, (tn_blob){NULL, 0});
    tn_page page;
    tn_error err = {0};
    do {
        if (tn_tool_scan(&a->v->rows, a->arena, &range, &page, &err) != TN_OK)
            return failed(a, "an outbox", &err);
        for (size_t i = 0; i < page.n_rows; i++) {
            uint8_t id[16];
            const char *why;
            if (tn_vfy_outbox_run_id(a->arena, &page.rows[i], id) &&
                memcmp(id, a->suspect->run_id, 16) == 0)
                tn_vfy_outbox_row(a->run, a->arena, &page.rows[i], &why);
        }
        range.page = page.next;
    } while (range.page.n);
    return true;
}

static bool read_wake(again *a, uint64_t at_ns)
{
    const char *why;
    tn_row row;
    for (uint32_t i = 0; i < a->run->wakes && i < TN_COUNT_OF(a->run->wake_ns); i++)
        if (a->run->wake_ns[i] == at_ns)
            return true;
    if (!get_row(a, TN_TABLE_WAKE, tn_store_row_wake(a->arena, at_ns, a->suspect->run_id), &row))
        return false;
    if (row.value.p)
        tn_vfy_wake_row(a->run, a->arena, &row, &why);
    return true;
}

static bool read_current(again *a)
{
    const tn_vfy_suspect *s = a->suspect;
    tn_str ns_id = tn_str_from(a->run->ns_id),
           workflow_id = a->run->workflow_id ? tn_str_from(a->run->workflow_id) : (tn_str){NULL, 0};
    if (s->workflow_id)
        ns_id = tn_str_from(s->ns_id), workflow_id = tn_str_from(s->workflow_id);
    tn_row row;
    uint8_t id[16];
    const char *why;
    if (!workflow_id.n)
        return true;
    if (!get_row(a, TN_TABLE_CURRENT, tn_store_row_current(a->arena, ns_id, workflow_id), &row))
        return false;
    if (row.value.p && tn_vfy_current_run_id(a->arena, &row, id) && memcmp(id, s->run_id, 16) == 0)
        tn_vfy_current_row(a->run, a->arena, &row, &why);
    return true;
}

/* What the last record says of the wake row: of an entry without other knowledge it is the only way to it. */
static bool read_last_wake(again *a, tn_blob last)
{
    Tenon__Record *record = NULL;
    tn_row row;
    if (!last.n)
        return true;
    if (!get_row(a, TN_TABLE_RECORD, last, &row))
        return false;
    if (!row.value.p ||
        TN_PROTO_UNPACK(tenon__record, row.value, a->arena, &record, NULL) != TN_OK ||
        record->wake_ns == UINT64_MAX)
        return true;
    return read_wake(a, record->wake_ns);
}

static bool read_beside(again *a, tn_blob last)
{
    tn_row row;
    if (!get_row(a, TN_TABLE_SNAPSHOT, tn_store_row_run(a->arena, a->suspect->run_id), &row))
        return false;
    a->run->snapshot = row.value;
    if (!read_last_wake(a, last))
        return false;
    for (uint32_t i = 0; i < a->suspect->wakes && i < TN_COUNT_OF(a->suspect->wake_ns); i++)
        if (!read_wake(a, a->suspect->wake_ns[i]))
            return false;
    return read_current(a) && read_outbox(a);
}

/* From the first record on; the verdict so far is dropped when something moved meanwhile. */
static bool judge_records(again *a, tn_vfy_replay *replay)
{
    tn_range range = records_of(a);
    tn_arena *arena = tn_arena_create(0);
    tn_buf next = {0};
    tn_page page;
    tn_error err = {0};
    bool good = true;
    do {
        tn_arena_reset(arena);
        range.page = tn_arena_blob(arena, tn_buf_blob(&next));
        good = tn_tool_scan(&a->v->rows, arena, &range, &page, &err) == TN_OK ||
               failed(a, "a run", &err);
        next.n = 0;
        if (good)
            tn_buf_put(&next, page.next.p, page.next.n);
        for (size_t i = 0; good && i < page.n_rows; i++)
            tn_vfy_replay_record(replay, &page.rows[i]);
    } while (good && next.n);
    tn_buf_done(&next);
    tn_arena_destroy(arena);
    return good;
}

static bool once(again *a, bool *out_moved)
{
    tn_blob before, after;
    *out_moved = true;
    *a->run = (tn_vfy_run){0};
    memcpy(a->run->id, a->suspect->run_id, 16);
    if (!last_key(a, &before) || !read_beside(a, before))
        return false;
    a->report->any = false;
    a->report->lines = NULL;
    if (before.n) {
        tn_vfy_replay replay;
        tn_vfy_replay_begin(&replay, a->v, a->run, a->report);
        bool good = judge_records(a, &replay);
        a->run->sound = tn_vfy_replay_end(&replay);
        if (!good)
            return false;
    } else {
        tn_vfy_judge_absent(a->report, a->run);
    }
    if (!last_key(a, &after))
        return false;
    *out_moved = !tn_blob_eq(before, after);
    return true;
}

bool tn_vfy_look_again(tn_verify *v, const tn_vfy_suspect *suspect, tn_vfy_report *report,
                       tn_arena *arena, tn_vfy_run *run)
{
    again a = {.v = v, .suspect = suspect, .report = report, .arena = arena, .run = run};
    bool moved = true;
    for (int i = 0; moved && i < STABLE_TRIES; i++)
        if (!once(&a, &moved))
            return false;
    if (moved) { /* what never stands still is alive */
        report->any = false;
        report->lines = NULL;
    }
    return true;
}
