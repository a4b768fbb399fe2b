/* SPDX-License-Identifier: MIT */
/* The judgement on one run: its records are folded by the pure machine, from the first event on; what the rows beside
 * them say must follow from the state that comes out. */
#include "tools/verify.h"

#include "history/history.h"
#include "proto/proto.h"
#include "tenon/store.pb-c.h"

/* ---- the fold ---- */

static tn_blob run_row(tn_vfy_replay *r) { return tn_store_row_run(r->scratch, r->run->id); }

static void open_snapshot(tn_vfy_replay *r)
{
    Tenon__Snapshot *snapshot = NULL;
    tn_error err = {0};
    if (!r->run->snapshot.p)
        return;
    if (TN_PROTO_UNPACK(tenon__snapshot, r->run->snapshot, r->scratch, &snapshot, &err) == TN_OK) {
        r->snapshot_ms = tn_ms_load_snapshot(snapshot, &err);
        r->snapshot_transition = snapshot->transition;
        r->snapshot_wake_ns = snapshot->wake_ns;
        tn_blob ns_id = {NULL, 16};
        uint8_t id[16];
        if (tn_uuid_parse(tn_str_from(snapshot->ns_id), id)) {
            ns_id.p = id;
            tn_vfy_name(r->run, r->scratch, ns_id, tn_str_from(snapshot->workflow_id));
        }
        if (snapshot->run_id.len == 16 && memcmp(snapshot->run_id.data, r->run->id, 16) != 0)
            tn_vfy_complain(r->report, TN_TABLE_SNAPSHOT, run_row(r),
                            "the snapshot is of another run");
    }
    if (!r->snapshot_ms)
        tn_vfy_complain(r->report, TN_TABLE_SNAPSHOT, run_row(r),
                        "the snapshot cannot be loaded: %s", err.text);
}

void tn_vfy_replay_begin(tn_vfy_replay *r, tn_verify *v, tn_vfy_run *run, tn_vfy_report *report)
{
    *r = (tn_vfy_replay){.v = v, .run = run, .report = report, .scratch = tn_arena_create(0)};
    r->wake_ns = UINT64_MAX;
    run->has_records = true;
    report->run = run;
    open_snapshot(r);
    r->ms = tn_ms_create(tn_str_from(run->ns_id),
                         tn_str_from(run->workflow_id ? run->workflow_id : ""), run->id);
}

/* Both as snapshots, without what only one of them may know: extras may be of a later moment in a snapshot than in the
 * last record that carries any, the request id is kept in the current-run row, and a child's run may be known before
 * the event that says so has left the buffer. */
static tn_blob comparable(const tn_ms *ms, tn_arena *arena)
{
    tn_blob packed = {NULL, 0};
    Tenon__Snapshot *s = tn_ms_snapshot(ms, arena);
    s->extras = NULL;
    s->create_request_id = (char *)(uintptr_t) "";
    s->wake_ns = 0;
    for (size_t i = 0; i < s->n_children; i++)
        if (!s->children[i]->started_id)
            s->children[i]->run_id = (char *)(uintptr_t) "";
    for (size_t i = 0; i < s->n_activities; i++)
        if (s->activities[i]->started_id < 0) /* started in memory only */
            s->activities[i]->started_id = 0;
    if (tn_proto_pack(&s->base, arena, &packed) != TN_OK)
        return (tn_blob){NULL, 0};
    return packed;
}

static bool same_state(const tn_ms *a, const tn_ms *b)
{
    tn_arena *arena = tn_arena_create(0);
    bool same = tn_blob_eq(comparable(a, arena), comparable(b, arena)) &&
                a->parent_told == b->parent_told && a->children_settled == b->children_settled &&
                a->held == b->held && a->n_buffered == b->n_buffered;
    tn_arena_destroy(arena);
    return same;
}

static void meet_snapshot(tn_vfy_replay *r)
{
    if (!r->snapshot_ms || r->snapshot_met || r->ms->transition != r->snapshot_transition)
        return;
    r->snapshot_met = true;
    if (!same_state(r->ms, r->snapshot_ms))
        tn_vfy_complain(
            r->report, TN_TABLE_SNAPSHOT, run_row(r),
            "the snapshot of transition %llu is not the state that the records leave there",
            (unsigned long long)r->snapshot_transition);
    r->from_snapshot = r->snapshot_ms;
}

static bool check_key(tn_vfy_replay *r, const tn_row *row, const Tenon__Record *record)
{
    const tn_blob key = row->key.row;
    uint64_t first = tn_get_u64be(key.p + 16), transition = tn_get_u64be(key.p + 24);
    if (record->transition != transition) {
        tn_vfy_complain(r->report, TN_TABLE_RECORD, key,
                        "the record says transition %llu, its key %llu",
                        (unsigned long long)record->transition, (unsigned long long)transition);
        return false;
    }
    if (transition != r->ms->transition + 1) {
        tn_vfy_complain(r->report, TN_TABLE_RECORD, key, "transition %llu follows %llu",
                        (unsigned long long)transition, (unsigned long long)r->ms->transition);
        return false;
    }
    if (first != (uint64_t)r->ms->next_event_id) {
        tn_vfy_complain(r->report, TN_TABLE_RECORD, key,
                        "the record begins at event %llu, the one before ends before event %lld",
                        (unsigned long long)first, (long long)r->ms->next_event_id);
        return false;
    }
    return true;
}

void tn_vfy_replay_record(tn_vfy_replay *r, const tn_row *row)
{
    Tenon__Record *record = NULL;
    tn_error err = {0};
    r->records++;
    r->bytes += row->value.n;
    if (r->broken)
        return; /* what follows a gap says nothing */
    tn_arena *arena = tn_arena_create(0);
    r->broken = true;
    if (row->key.row.n != 32)
        tn_vfy_complain(r->report, TN_TABLE_RECORD, row->key.row,
                        "the key of a record has %zu bytes, not 32", row->key.row.n);
    else if (TN_PROTO_UNPACK(tenon__record, row->value, arena, &record, &err) != TN_OK)
        tn_vfy_complain(r->report, TN_TABLE_RECORD, row->key.row, "the record cannot be read: %s",
                        err.text);
    else if (check_key(r, row, record)) {
        if (tn_ms_load_record(r->ms, record, &err) != TN_OK)
            tn_vfy_complain(r->report, TN_TABLE_RECORD, row->key.row,
                            "the record does not fold: %s", err.text);
        else
            r->broken = false;
    }
    if (!r->broken) {
        r->wake_ns = record->wake_ns;
        if (r->from_snapshot && tn_ms_load_record(r->from_snapshot, record, &err) != TN_OK) {
            tn_vfy_complain(r->report, TN_TABLE_RECORD, row->key.row,
                            "the record does not fold upon the snapshot: %s", err.text);
            r->from_snapshot = NULL;
        }
        meet_snapshot(r);
    }
    tn_arena_destroy(arena);
}

/* ---- what must follow from the state ---- */

static tn_blob current_row(tn_vfy_replay *r)
{
    return tn_store_row_current(r->scratch, tn_str_from(r->run->ns_id),
                                tn_str_from(r->run->workflow_id));
}

static bool judge_names(tn_vfy_replay *r)
{
    const tn_vfy_run *run = r->run;
    if (!run->workflow_id) {
        tn_vfy_complain(r->report, TN_TABLE_RECORD, run_row(r),
                        "no current-run, wake or snapshot row names this run: nothing finds it");
        return false;
    }
    if (run->names_differ)
        tn_vfy_complain(r->report, TN_TABLE_RECORD, run_row(r),
                        "rows name different workflows for this run");
    if (!tn_vfy_namespace(r->v, tn_str_from(run->ns_id)))
        tn_vfy_complain(r->report, TN_TABLE_RECORD, run_row(r), "its namespace %s has no record",
                        run->ns_id);
    uint32_t shard = tn_vfy_shard_of(r->v, tn_str_from(run->ns_id), tn_str_from(run->workflow_id));
    if (shard != r->report->shard)
        tn_vfy_complain(r->report, TN_TABLE_RECORD, run_row(r), "the workflow belongs to shard %u",
                        shard);
    return true;
}

static void judge_current(tn_vfy_replay *r)
{
    const tn_vfy_run *run = r->run;
    const tn_ms *ms = r->ms;
    int32_t status = tn_ms_running(ms) ? 1 : ms->status;
    uint8_t first[16];
    if (!run->has_current) {
        if (tn_ms_running(ms))
            tn_vfy_complain(r->report, TN_TABLE_CURRENT, current_row(r),
                            "the run is open, but is not the current run of its workflow id");
        return;
    }
    if (run->current_status != status)
        tn_vfy_complain(r->report, TN_TABLE_CURRENT, current_row(r),
                        "the current-run row says status %d, the state is %d", run->current_status,
                        status);
    else if (run->current_start_ns != tn_ms_shown_start_ns(ms) ||
             run->current_close_ns != ms->close_ns)
        tn_vfy_complain(r->report, TN_TABLE_CURRENT, current_row(r),
                        "the current-run row's start or close time is not the state's");
    if (tn_uuid_parse(tn_str_from(ms->first_run_id), first) &&
        memcmp(first, run->current_first, 16) != 0)
        tn_vfy_complain(r->report, TN_TABLE_CURRENT, current_row(r),
                        "the current-run row names another first run of the chain");
}

/* The row was made from a memory that may know of later heartbeats than any record. */
static bool beats(const tn_ms *ms)
{
    TN_LIST_FOREACH (link, &ms->activities) {
        const tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);
        if (activity->started_ns)
            return true;
    }
    return false;
}

static void judge_wake(tn_vfy_replay *r)
{
    const tn_vfy_run *run = r->run;
    const tn_ms *ms = r->ms;
    uint64_t wants = tn_ms_wake_ns(ms);
    tn_blob row = tn_store_row_wake(r->scratch, r->wake_ns, run->id);
    if (run->wakes > 1)
        tn_vfy_complain(r->report, TN_TABLE_WAKE,
                        tn_store_row_wake(r->scratch, run->wake_ns[1], run->id),
                        "the run has %u wake rows", run->wakes);
    bool there = false;
    for (uint32_t i = 0; i < run->wakes && i < TN_COUNT_OF(run->wake_ns); i++)
        there |= run->wake_ns[i] == r->wake_ns;
    if (r->wake_ns != UINT64_MAX && !there)
        tn_vfy_complain(r->report, TN_TABLE_WAKE, row,
                        tn_ms_running(ms)
                            ? "the wake row of an open run is missing"
                            : "the wake row that ends the retention of a closed run is missing");
    if (r->wake_ns == UINT64_MAX && run->wakes)
        tn_vfy_complain(r->report, TN_TABLE_WAKE,
                        tn_store_row_wake(r->scratch, run->wake_ns[0], run->id),
                        "the run has a wake row, its last record says that it has none");
    if (!tn_ms_running(ms) && !ms->retention_due_ns)
        tn_vfy_complain(r->report, TN_TABLE_RECORD, run_row(r),
                        "the run is closed and has no end of retention");
    if (r->wake_ns > wants && !beats(ms))
        tn_vfy_complain(r->report, TN_TABLE_WAKE, row,
                        "the run is woken %llu ms later than it wants",
                        (unsigned long long)((r->wake_ns - wants) / TN_MS));
}

static void judge_outbox(tn_vfy_replay *r)
{
    const tn_vfy_run *run = r->run;
    if (run->outbox_remove)
        tn_vfy_complain(r->report, TN_TABLE_OUTBOX, run_row(r),
                        "the outbox removes a run from visibility that is still there");
    if (run->outbox_put && run->outbox_version > r->ms->transition)
        tn_vfy_complain(r->report, TN_TABLE_OUTBOX, run_row(r),
                        "the outbox holds version %llu of a run at transition %llu",
                        (unsigned long long)run->outbox_version,
                        (unsigned long long)r->ms->transition);
}

static void count_run(tn_vfy_replay *r)
{
    if (!r->count)
        return;
    r->v->n_runs++;
    r->v->n_open += r->broken ? 0 : tn_ms_running(r->ms);
    r->v->n_records += r->records;
    r->v->n_bytes += r->bytes;
    r->v->n_events += (uint64_t)(r->ms->next_event_id - 1);
}

/* An object has no history: what its snapshot says is all there is, once it has one. */
static void take_object(tn_vfy_replay *r)
{
    if (r->broken || !r->ms->kind || !r->snapshot_ms)
        return;
    if (r->snapshot_ms->kind != r->ms->kind || r->snapshot_transition <= r->ms->transition)
        tn_vfy_complain(
            r->report, TN_TABLE_SNAPSHOT, run_row(r),
            "the snapshot is not of the object that its first record begins, or is older");
    tn_ms_destroy(r->ms);
    r->ms = r->snapshot_ms;
    r->wake_ns = r->snapshot_wake_ns;
    r->snapshot_ms = r->from_snapshot = NULL;
}

bool tn_vfy_replay_end(tn_vfy_replay *r)
{
    bool named = judge_names(r);
    take_object(r);
    if (!r->broken) {
        if (r->snapshot_ms && !r->snapshot_met)
            tn_vfy_complain(r->report, TN_TABLE_SNAPSHOT, run_row(r),
                            "the snapshot is of transition %llu, the records end at %llu",
                            (unsigned long long)r->snapshot_transition,
                            (unsigned long long)r->ms->transition);
        else if (r->from_snapshot && !same_state(r->ms, r->from_snapshot))
            tn_vfy_complain(
                r->report, TN_TABLE_SNAPSHOT, run_row(r),
                "the snapshot and the records after it leave another state than the records alone");
        if (named) {
            judge_current(r);
            judge_wake(r);
            judge_outbox(r);
        }
        tn_arena *arena = r->v->reindex && r->report->arena ? r->report->arena : r->scratch;
        tn_vis_doc *doc = TN_NEW(arena, tn_vis_doc);
        tn_history_document(arena, tn_vfy_namespace(r->v, tn_str_from(r->run->ns_id)), r->ms, doc);
        r->run->digest = tn_vfy_doc_digest(doc);
        r->run->doc = doc;
        r->run->transition = r->ms->transition;
    }
    bool sound = named && !r->broken;
    count_run(r);
    tn_ms_destroy(r->ms);
    tn_ms_destroy(r->snapshot_ms);
    tn_arena_destroy(r->scratch);
    return sound;
}

void tn_vfy_judge_absent(tn_vfy_report *report, const tn_vfy_run *run)
{
    tn_arena *arena = tn_arena_create(0);
    report->run = run;
    if (run->has_current)
        tn_vfy_complain(
            report, TN_TABLE_CURRENT,
            tn_store_row_current(arena, tn_str_from(run->ns_id), tn_str_from(run->workflow_id)),
            "the current-run row points to a run that has no records");
    for (uint32_t i = 0; i < run->wakes && i < TN_COUNT_OF(run->wake_ns); i++)
        tn_vfy_complain(report, TN_TABLE_WAKE, tn_store_row_wake(arena, run->wake_ns[i], run->id),
                        "the wake row points to a run that has no records");
    if (run->snapshot.p)
        tn_vfy_complain(report, TN_TABLE_SNAPSHOT, tn_store_row_run(arena, run->id),
                        "the snapshot is of a run that has no records");
    tn_arena_destroy(arena);
}
