/* SPDX-License-Identifier: MIT */
/* The wake index: which runs want attention, and when, also while they are out of the cache.
 *
 * Every run has at most one row in the store, at the earliest time at which it wants something (0: now).  A shard
 * reads the rows that have come due; those up to scanned_ns were seen by this owner, so that a backlog of runs that
 * wait for a worker is not read again with each timer.  A run that leaves the cache with a deadline which no row ahead
 * of scanned_ns will bring up leaves a sleeper: a timer and its ids. */
#include "history/priv.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/proto.h"

#define WAKE_SCAN_ROWS 256u

/* ---- scanning ---- */

#define ROW_BYTES 24u /* of a wake row's key: time, run id */

typedef struct wake_scan {
    tn_arena *arena; /* of the page that is being read */
    tn_shard *shard;
    tn_list paused; /* hl->paused_scans */
    tn_store_op op;
    uint8_t from[ROW_BYTES + 1]; /* where the next page begins */
    size_t from_n;
    uint64_t until_ns; /* rows up to here are woken */
} wake_scan;

/* So many pages are read at a time, and none while so many runs are being woken: a server that was down for long, or a
 * queue that has room again, finds many due in every shard, and loads them bit by bit. */
#define SCANS_IN_FLIGHT_MAX 2u
#define WAKES_IN_FLIGHT_MAX 128u

static void scan_wakes(tn_shard *shard, uint64_t from_ns, uint64_t until_ns);

void tn_wakes_scan_all(tn_shard *shard) { scan_wakes(shard, 0, tn_now_wall_ns()); }

static void wake_timer_fired(tn_loop_timer *timer)
{
    tn_shard *shard = TN_CONTAINER_OF(timer, tn_shard, wake_timer);
    uint64_t now = tn_now_wall_ns(), at = shard->next_wake_ns, from = shard->scanned_ns + 1;
    shard->next_wake_ns = UINT64_MAX;
    if (at > now) { /* an hour has passed, or the wall clock went back: wait on */
        tn_shard_wake_at(shard, at);
        return;
    }
    if (shard->scanning) { /* its end looks again */
        shard->scan_due = true;
        return;
    }
    if (shard->retry_at_ns <= now) {
        if (shard->retry_from_ns < from)
            from = shard->retry_from_ns;
        shard->retry_at_ns = shard->retry_from_ns = UINT64_MAX;
    } else if (shard->retry_at_ns != UINT64_MAX) {
        tn_shard_wake_at(shard, shard->retry_at_ns); /* asked for while this earlier time was set */
    }
    scan_wakes(shard, from, now);
}

void tn_wakes_init(tn_shard *shard)
{
    shard->next_wake_ns = shard->retry_from_ns = shard->retry_at_ns = UINT64_MAX;
    tn_loop_timer_init(&shard->wake_timer, wake_timer_fired);
}

void tn_shard_wake_at(tn_shard *shard, uint64_t wall_ns)
{
    if (wall_ns >= shard->next_wake_ns || shard->hl->stopping)
        return;
    shard->next_wake_ns = wall_ns;
    uint64_t wall = tn_now_wall_ns(), mono = tn_now_mono_ns();
    uint64_t delay = wall_ns > wall ? wall_ns - wall : 0;
    /* Look again at least once an hour: the wall clock may jump ahead. */
    if (delay > 3600 * TN_SEC)
        delay = 3600 * TN_SEC;
    tn_loop_timer_start(&shard->wake_timer, mono + delay);
}

void tn_shard_wake_again(tn_shard *shard, uint64_t row_ns, uint64_t wall_ns)
{
    if (row_ns < shard->retry_from_ns)
        shard->retry_from_ns = row_ns;
    if (wall_ns < shard->retry_at_ns)
        shard->retry_at_ns = wall_ns;
    tn_shard_wake_at(shard, shard->retry_at_ns);
}

static void wake_row(tn_shard *shard, const tn_row *row)
{
    Tenon__Wake *wake = NULL;
    tn_arena *arena = tn_arena_create(0);
    tn_error err;
    if (row->key.row.n == 24 &&
        tn_proto_unpack(&tenon__wake__descriptor, row->value, arena,
                        (ProtobufCMessage **)(void *)&wake, &err) == TN_OK &&
        wake->ns_id.len == 16) {
        char ns_id[37];
        tn_uuid_format(wake->ns_id.data, ns_id);
        if (!tn_shard_has(shard, tn_str_from(ns_id),
                          tn_str_from(wake->workflow_id))) { /* a neighbour's */
            tn_arena_destroy(arena);
            return;
        }
        tn_wf *wf = tn_wf_get(shard, tn_str_from(ns_id), tn_str_from(wake->workflow_id));
        tn_run *run = tn_run_find(wf, row->key.row.p + 8);
        if (!run || !run->wake_queued) {
            if (run)
                run->wake_queued = true;
            tn_iop *iop = tn_iop_create(wf, row->key.row.p + 8, TN_IOP_WAKE);
            iop->counted = true;
            shard->hl->wakes_in_flight++;
            tn_iop_send(iop);
        }
        tn_wf_maybe_drop(wf);
    } else {
        TN_LOG(TN_LOG_ERROR, "history", "a wake row is damaged", TN_LOG_U("shard", shard->id));
    }
    tn_arena_destroy(arena);
}

static void scan_free(wake_scan *scan)
{
    tn_arena_destroy(scan->arena);
    free(scan);
}

static void wakes_came(tn_store_op *op);

/* Asks for the next page, in an arena of its own. */
static void scan_next(wake_scan *scan)
{
    tn_shard *shard = scan->shard;
    tn_arena *arena = scan->arena = tn_arena_create(0);
    memset(&scan->op, 0, sizeof(scan->op));
    scan->op.arena = arena;
    scan->op.user = scan;
    scan->op.done = wakes_came;
    scan->op.u.scan.range = (tn_range){.struct_size = sizeof(tn_range), .limit = WAKE_SCAN_ROWS};
    scan->op.u.scan.range.from = tn_store_key(arena, TN_TABLE_WAKE, shard->partition,
                                              tn_blob_from(scan->from, scan->from_n));
    shard->hl->txns++;
    shard->hl->scans++;
    tn_store_scan(&scan->op);
}

static void resume_paused(tn_hloop *hl)
{
    while (!tn_list_empty(&hl->paused_scans) && !hl->stopping && hl->scans < SCANS_IN_FLIGHT_MAX &&
           hl->wakes_in_flight <= WAKES_IN_FLIGHT_MAX)
        scan_next(TN_CONTAINER_OF(tn_list_pop_front(&hl->paused_scans), wake_scan, paused));
}

/* Waits for its turn, which may be now. */
static void scan_go_on(wake_scan *scan)
{
    tn_list_push_back(&scan->shard->hl->paused_scans, &scan->paused);
    resume_paused(scan->shard->hl);
}

void tn_wake_served(tn_hloop *hl)
{
    hl->wakes_in_flight--;
    resume_paused(hl);
}

static void scan_end(wake_scan *scan, uint64_t next_ns)
{
    tn_shard *shard = scan->shard;
    shard->scanning = false;
    scan_free(scan);
    if (shard->scan_all_again) {
        shard->scan_all_again = false;
        tn_wakes_scan_all(shard);
    }
    if (shard->scan_due)
        next_ns = tn_now_wall_ns();
    shard->scan_due = false;
    if (next_ns != UINT64_MAX)
        tn_shard_wake_at(shard, next_ns);
    resume_paused(shard->hl);
}

static void wakes_came(tn_store_op *op)
{
    wake_scan *scan = op->user;
    tn_shard *shard = scan->shard;
    tn_hloop *hl = shard->hl;
    const tn_page *page = &op->u.scan.page;
    uint64_t next_ns = UINT64_MAX;
    hl->txns--;
    hl->scans--;
    if (op->status != TN_OK) {
        TN_LOG(TN_LOG_WARN, "history", "the wake index could not be read",
               TN_LOG_U("shard", shard->id), TN_LOG_Z("why", op->error.text));
        tn_shard_wake_again(shard, 0, tn_now_wall_ns() + TN_SEC);
    }
    for (size_t i = 0; op->status == TN_OK && i < page->n_rows && !hl->stopping; i++) {
        uint64_t at = tn_get_u64be(page->rows[i].key.row.p);
        if (at > scan->until_ns) {
            next_ns = at;
            break;
        }
        wake_row(shard, &page->rows[i]);
    }
    bool more = next_ns == UINT64_MAX && page->next.n && page->n_rows && !hl->stopping;
    if (more) { /* from the least row behind the last one */
        tn_blob last = page->rows[page->n_rows - 1].key.row;
        scan->from_n = (last.n < ROW_BYTES ? last.n : ROW_BYTES) + 1;
        memcpy(scan->from, last.p, scan->from_n - 1);
        scan->from[scan->from_n - 1] = 0;
    }
    tn_arena_destroy(scan->arena);
    scan->arena = NULL;
    if (more)
        scan_go_on(scan);
    else
        scan_end(scan, next_ns);
}

static void scan_wakes(tn_shard *shard, uint64_t from_ns, uint64_t until_ns)
{
    if (shard->hl->stopping)
        return;
    if (shard->scanning) {
        shard->scan_all_again = true;
        return;
    }
    if (until_ns > shard->scanned_ns)
        shard->scanned_ns = until_ns;
    wake_scan *scan = tn_xcalloc(1, sizeof(*scan));
    scan->shard = shard;
    scan->until_ns = until_ns;
    tn_list_init(&scan->paused);
    tn_put_u64be(scan->from, from_ns); /* and the least run id */
    scan->from_n = ROW_BYTES;
    shard->scanning = true;
    scan_go_on(scan);
}

/* ---- sleepers ---- */

typedef struct sleeper {
    tn_map_link link;
    tn_loop_timer timer;
    tn_shard *shard;
    uint64_t due_ns; /* wall */
    uint8_t run_id[16];
    char ns_id[37];
    char workflow_id[];
} sleeper;

static void sleeper_free(sleeper *s)
{
    tn_loop_timer_stop(&s->timer);
    tn_map_remove(&s->shard->hl->sleepers, &s->link);
    free(s);
}

static void set_alarm(sleeper *s)
{
    uint64_t wall = tn_now_wall_ns(), delay = s->due_ns > wall ? s->due_ns - wall : 0;
    if (delay > 3600 * TN_SEC)
        delay = 3600 * TN_SEC;
    tn_loop_timer_start(&s->timer, tn_now_mono_ns() + delay);
}

static void sleeper_rings(tn_loop_timer *timer)
{
    sleeper *s = TN_CONTAINER_OF(timer, sleeper, timer);
    if (s->due_ns > tn_now_wall_ns()) {
        set_alarm(s);
        return;
    }
    tn_wf *wf = tn_wf_get(s->shard, tn_str_from(s->ns_id), tn_str_from(s->workflow_id));
    tn_iop *iop = tn_iop_create(wf, s->run_id, TN_IOP_WAKE);
    sleeper_free(s);
    tn_iop_send(iop);
    tn_wf_maybe_drop(wf);
}

void tn_sleep(const tn_run *run)
{
    tn_shard *shard = run->wf->shard;
    uint64_t deadline = tn_ms_deadline_ns(run->ms), row = run->wake_stored_ns;
    if (row != UINT64_MAX && row > shard->scanned_ns && row <= deadline) {
        tn_shard_wake_at(shard, row);
        return;
    }
    if (deadline == UINT64_MAX || shard->hl->stopping)
        return; /* nothing, or matching has its task */
    size_t n = strlen(run->wf->workflow_id) + 1;
    sleeper *s = tn_xcalloc(1, sizeof(*s) + n);
    s->shard = shard;
    s->due_ns = deadline;
    memcpy(s->run_id, run->run_id, 16);
    snprintf(s->ns_id, sizeof(s->ns_id), "%s", run->wf->ns_id);
    memcpy(s->workflow_id, run->wf->workflow_id, n);
    tn_sleeper_forget(shard->hl, run->run_id);
    tn_map_insert(&shard->hl->sleepers, &s->link, tn_blob_from(s->run_id, 16));
    tn_loop_timer_init(&s->timer, sleeper_rings);
    set_alarm(s);
}

void tn_sleeper_forget(tn_hloop *hl, const uint8_t run_id[16])
{
    tn_map_link *found = tn_map_find(&hl->sleepers, tn_blob_from(run_id, 16));
    if (found)
        sleeper_free(TN_CONTAINER_OF(found, sleeper, link));
}

static void clear_one(void *user, tn_map_link *link)
{
    (void)user;
    sleeper_free(TN_CONTAINER_OF(link, sleeper, link));
}

void tn_wakes_clear(tn_hloop *hl)
{
    while (!tn_list_empty(&hl->paused_scans))
        scan_free(TN_CONTAINER_OF(tn_list_pop_front(&hl->paused_scans), wake_scan, paused));
    tn_map_each(&hl->sleepers, clear_one, NULL);
    tn_map_done(&hl->sleepers);
}
