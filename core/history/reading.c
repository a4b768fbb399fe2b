/* SPDX-License-Identifier: MIT */
/* Reading events: from the cached tail of the history when it reaches back far enough (the usual case), else from
 * the records in the store.  Events are never decoded: their bytes are cut and spliced. */
#include "history/priv.h"

#include <stdlib.h>

#include "proto/proto.h"

#define SCAN_ROWS 128u
#define SCAN_BYTES (2u << 20)

static int64_t event_id_of(tn_blob event)
{
    tn_wire_field field;
    return tn_wire_find(event, 1, &field) ? (int64_t)field.value : 0;
}

static bool full(const tn_read *read)
{
    return read->n_events >= read->events_max ||
           (read->bytes_max && read->body.n >= read->bytes_max);
}

/* A batch begins with this event; false: not on this page any more. */
static bool begin_batch(tn_read *read, int64_t first_id)
{
    if (read->n_batches == read->batches_max || (read->n_batches && full(read)))
        return false;
    tn_read_batch batch = {.at = read->body.n, .first_id = first_id};
    tn_buf_put(&read->batches, &batch, sizeof(batch));
    read->n_batches++;
    return true;
}

/* Takes from a History body, which is one batch, the events of the range; false: enough. */
static bool take(tn_read *read, tn_blob events)
{
    bool begun = false;
    tn_wire_field field;
    for (tn_wire_iter it = tn_wire_begin(events); tn_wire_next(&it, &field);) {
        int64_t id = event_id_of(field.bytes);
        if (id < read->from || id <= read->last_read)
            continue;
        if (id > read->to || (!read->batches_max && full(read)))
            return false;
        if (read->batches_max && !begun && !begin_batch(read, id))
            return false;
        begun = true;
        tn_buf_put(&read->body, field.raw.p, field.raw.n);
        read->last_read = id;
        read->n_events++;
    }
    return !full(read) && read->last_read < read->to;
}

static void turn_around(tn_read *read)
{
    tn_buf turned = {0};
    tn_wire_field field;
    size_t n = 0;
    tn_blob *parts = tn_xcalloc(read->n_events + 1, sizeof(*parts));
    int64_t least = 0;
    for (tn_wire_iter it = tn_wire_begin(tn_buf_blob(&read->body)); tn_wire_next(&it, &field);) {
        if (n == 0)
            least = event_id_of(field.bytes);
        parts[n++] = field.raw;
    }
    tn_buf_reserve(&turned, read->body.n);
    while (n > 0)
        n--, tn_buf_put(&turned, parts[n].p, parts[n].n);
    free(parts);
    tn_buf_done(&read->body);
    read->body = turned;
    read->last_read = least;
}

static void finish(tn_read *read)
{
    if (read->status == TN_OK && read->reverse)
        turn_around(read);
    read->done(read);
}

/* ---- from memory ---- */

static bool memory_has(const tn_read *read, const tn_run *run)
{
    if (run->n_batches)
        return run->batches[0].first_id <= read->from;
    return run->tail_events && run->tail_first_id <= read->from;
}

static void take_from_memory(tn_read *read, const tn_run *run)
{
    for (size_t i = 0; i < run->n_batches; i++) {
        const tn_batch_ref *batch = &run->batches[i];
        if (batch->last_id < read->from)
            continue;
        if (batch->first_id > read->to || !take(read, batch->events))
            return;
    }
    if (run->tail_events)
        take(read, tn_buf_blob(&run->tail));
}

/* ---- from the store ---- */

static bool take_row(tn_read *read, const tn_row *row)
{
    Tenon__Record *record = NULL;
    tn_arena *arena = tn_arena_create(0);
    bool more = true;
    read->status = tn_proto_unpack(&tenon__record__descriptor, row->value, arena,
                                   (ProtobufCMessage **)(void *)&record, &read->error);
    if (read->status == TN_OK && record->events.len)
        more = take(read, tn_blob_from(record->events.data, record->events.len));
    tn_arena_destroy(arena);
    return more && read->status == TN_OK;
}

static void rows_came(tn_store_op *op)
{
    tn_read *read = op->user;
    read->status = op->status;
    read->error = op->error;
    const tn_page *page = &op->u.scan.page;
    bool more = read->status == TN_OK;
    for (size_t i = 0; more && i < page->n_rows; i++)
        more = take_row(read, &page->rows[i]);
    if (more && page->next.n) {
        op->u.scan.range.page = tn_arena_blob(read->arena, page->next);
        tn_store_scan(op);
        return;
    }
    if (more && read->tail.n)
        take(read, read->tail);
    finish(read);
}

static void scan_from(tn_read *read, tn_blob first_row)
{
    uint8_t end[16];
    memcpy(end, read->run_id, 16);
    for (int i = 15; i >= 0 && ++end[i] == 0; i--) {
    }
    read->op.u.scan.range =
        (tn_range){.struct_size = sizeof(tn_range), .limit = SCAN_ROWS, .bytes_max = SCAN_BYTES};
    read->op.u.scan.range.from = tn_store_key(read->arena, TN_TABLE_RECORD, read->shard, first_row);
    read->op.u.scan.range.to_row = tn_arena_blob(read->arena, tn_blob_from(end, 16));
    read->op.done = rows_came;
    tn_store_scan(&read->op);
}

/* The record in which `from` lies is the last one whose first event is not past it. */
static void start_found(tn_store_op *op)
{
    tn_read *read = op->user;
    const tn_page *page = &op->u.scan.page;
    if (op->status != TN_OK) {
        read->status = op->status;
        read->error = op->error;
        finish(read);
        return;
    }
    tn_blob row = page->n_rows ? tn_arena_blob(read->arena, page->rows[0].key.row)
                               : tn_store_row_run(read->arena, read->run_id);
    scan_from(read, row);
}

static void read_from_store(tn_read *read)
{
    read->op.arena = read->arena;
    read->op.user = read;
    read->op.account =
        tn_door_account(read->req, read->req ? read->req->ns : NULL, read->account_shard);
    if (read->from <= 1) {
        scan_from(read, tn_store_row_run(read->arena, read->run_id));
        return;
    }
    read->op.u.scan.range = (tn_range){.struct_size = sizeof(tn_range),
                                       .limit = 1,
                                       .flags = TN_RANGE_REVERSE | TN_RANGE_KEYS_ONLY};
    read->op.u.scan.range.from = tn_store_key(read->arena, TN_TABLE_RECORD, read->shard,
                                              tn_store_row_run(read->arena, read->run_id));
    read->op.u.scan.range.to_row =
        tn_store_row_record(read->arena, read->run_id, (uint64_t)read->from + 1, 0);
    read->op.done = start_found;
    tn_store_scan(&read->op);
}

void tn_read_stored(tn_read *read, const tn_wf *wf, const uint8_t run_id[16])
{
    read->status = TN_OK;
    read->shard = wf->shard->partition;
    read->account_shard = wf->shard->id;
    memcpy(read->run_id, run_id, 16);
    read_from_store(read);
}

void tn_read_events(tn_read *read, tn_run *run)
{
    read->status = TN_OK;
    if (read->reverse) {
        int64_t window = (int64_t)read->events_max;
        if (read->to - window + 1 > read->from)
            read->from = read->to - window + 1;
        read->bytes_max = 0;
    }
    if (read->from > read->to) {
        finish(read);
        return;
    }
    read->shard = run->wf->shard->partition;
    read->account_shard = run->wf->shard->id;
    memcpy(read->run_id, run->run_id, 16);
    if (memory_has(read, run)) {
        take_from_memory(read, run);
        finish(read);
        return;
    }
    if (run->tail_events)
        read->tail = tn_arena_blob(read->arena, tn_buf_blob(&run->tail));
    read_from_store(read);
}
