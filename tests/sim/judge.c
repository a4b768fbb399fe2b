/* SPDX-License-Identifier: MIT */
/* The judge: what the store holds against what clients and workers were told; the rules are those of
 * tests/crash/judge.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"
#include "sim.h"

#define KIND(name) TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_##name
#define RUN_OF(row) ((row)->key + 5)

static const char *status_of(int32_t type)
{
    switch (type) {
    case KIND(WORKFLOW_EXECUTION_COMPLETED):
        return "Completed";
    case KIND(WORKFLOW_EXECUTION_FAILED):
        return "Failed";
    case KIND(WORKFLOW_EXECUTION_TIMED_OUT):
        return "TimedOut";
    case KIND(WORKFLOW_EXECUTION_CANCELED):
        return "Canceled";
    case KIND(WORKFLOW_EXECUTION_TERMINATED):
        return "Terminated";
    case KIND(WORKFLOW_EXECUTION_CONTINUED_AS_NEW):
        return "ContinuedAsNew";
    default:
        return NULL;
    }
}

/* ---- the store's side ---- */

static Tenon__Record *record_of(tn_arena *arena, const sim_row *row)
{
    Tenon__Record *record = NULL;
    tn_error err;
    TN_ASSERT(tn_proto_unpack(&tenon__record__descriptor, tn_blob_from(row->value, row->n), arena,
                              (ProtobufCMessage **)(void *)&record, &err) == TN_OK);
    return record;
}

static bool last_of_run(const sim_row *rows, size_t n, size_t i)
{
    return i + 1 == n || rows[i + 1].key[0] != TN_TABLE_RECORD ||
           memcmp(rows[i].key, rows[i + 1].key, 5 + 16) != 0;
}

static bool is_current(const sim_row *rows, size_t n, const uint8_t run_id[16], tn_arena *arena)
{
    for (size_t i = 0; i < n; i++) {
        Tenon__CurrentRun *current = NULL;
        tn_error err;
        if (rows[i].key[0] != TN_TABLE_CURRENT)
            continue;
        TN_ASSERT(tn_proto_unpack(&tenon__current_run__descriptor,
                                  tn_blob_from(rows[i].value, rows[i].n), arena,
                                  (ProtobufCMessage **)(void *)&current, &err) == TN_OK);
        if (memcmp(current->run_id.data, run_id, 16) == 0)
            return true;
    }
    return false;
}

static size_t open_runs(bool check)
{
    const sim_row *rows;
    size_t n = sim_store_rows(&rows), open = 0;
    tn_arena *arena = __real_tn_arena_create(0);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].key[0] != TN_TABLE_RECORD || !last_of_run(rows, n, i) ||
            record_of(arena, &rows[i])->retention_due_ns)
            continue;
        open++;
        if (check && !is_current(rows, n, RUN_OF(&rows[i]), arena)) {
            char text[37];
            tn_uuid_format(RUN_OF(&rows[i]), text);
            sim_violation("R4", "run %s is open and not the current one of its id", text);
        }
    }
    __real_tn_arena_destroy(arena);
    return open;
}

size_t sim_open_runs(void) { return open_runs(false); }
void sim_judge_running(void) { open_runs(true); }

static void check_wakes(const sim_row *rows, size_t n, const sim_row *last, uint64_t wake_ns)
{
    size_t found = 0;
    uint64_t at = UINT64_MAX;
    for (size_t i = 0; i < n; i++)
        if (rows[i].key[0] == TN_TABLE_WAKE && memcmp(rows[i].key + 13, RUN_OF(last), 16) == 0) {
            at = tn_get_u64be(rows[i].key + 5);
            found++;
        }
    if (found != (wake_ns != UINT64_MAX) || at != wake_ns)
        sim_violation("wake", "a run has %zu wake rows (%llu), its record says %llu", found,
                      (unsigned long long)at, (unsigned long long)wake_ns);
    if (wake_ns == 0)
        sim_violation("R12", "a closed run still wants attention");
}

/* Lays what is stored over what was read. */
static void read_truth(void)
{
    const sim_row *rows;
    size_t n = sim_store_rows(&rows);
    tn_buf body = {0};
    for (size_t i = 0; i < n; i++) {
        if (rows[i].key[0] != TN_TABLE_RECORD)
            continue;
        tn_arena *arena = __real_tn_arena_create(0);
        Tenon__Record *record = record_of(arena, &rows[i]);
        tn_buf_put(&body, record->events.data, record->events.len);
        if (last_of_run(rows, n, i)) {
            char text[37];
            tn_uuid_format(RUN_OF(&rows[i]), text);
            sim_run *run = sim_run_get("?", text);
            sim_run_saw(run, tn_buf_blob(&body), true);
            run->decisions = UINT32_MAX; /* it is there */
            check_wakes(rows, n, &rows[i], record->wake_ns);
            tn_buf_done(&body);
        }
        __real_tn_arena_destroy(arena);
    }
}

/* ---- one history ---- */

static void check_answers(const sim_run *run, size_t i)
{
    const sim_item *item = &run->items[i];
    int started = 0, closed = 0;
    for (size_t k = i + 1; k < run->n; k++) {
        const sim_item *other = &run->items[k];
        if (other->ref != (int64_t)i + 1 || other->type == KIND(WORKFLOW_TASK_COMPLETED))
            continue;
        if (other->type == KIND(ACTIVITY_TASK_STARTED) ||
            other->type == KIND(CHILD_WORKFLOW_EXECUTION_STARTED))
            started++;
        else
            closed++;
        if (other->type == KIND(TIMER_FIRED) && other->time_ns - item->time_ns < item->dur)
            sim_violation("R7", "%s: a timer fired early", run->run_id);
        if (other->type == KIND(ACTIVITY_TASK_STARTED) && item->number &&
            other->number > item->number)
            sim_violation("R8", "%s: attempt %d of at most %d", run->run_id, other->number,
                          item->number);
    }
    if (started > 1 || closed > 1)
        sim_violation("R11", "%s/%s: event %zu of type %d was started %d and ended %d times",
                      run->wid, run->run_id, i + 1, item->type, started, closed);
}

static const sim_ack *signal_ack(const char *request_id)
{
    for (size_t i = 0; i < sim_n_acks; i++)
        if (sim_acks[i].kind == ACK_SIGNAL && strcmp(sim_acks[i].name, request_id) == 0)
            return &sim_acks[i];
    return NULL;
}

static void check_signals(const sim_run *run)
{
    int last[16] = {0};
    for (size_t i = 0; i < run->n; i++) {
        const sim_item *item = &run->items[i];
        if (item->type != KIND(WORKFLOW_EXECUTION_SIGNALED))
            continue;
        for (size_t k = 0; k < i; k++)
            if (run->items[k].type == item->type && item->name[0] &&
                strcmp(run->items[k].name, item->name) == 0)
                sim_violation("R9", "%s: signal %s is there twice", run->run_id, item->name);
        const sim_ack *ack = signal_ack(item->name);
        if (!ack)
            continue;
        if (last[ack->client] > ack->number)
            sim_violation("R9", "%s: signal %s comes after a later one", run->run_id, item->name);
        last[ack->client] = ack->number;
    }
}

static void check_history(const sim_run *run)
{
    const char *status = NULL;
    for (size_t i = 0; i < run->n; i++) {
        const sim_item *item = &run->items[i];
        if (i && item->time_ns < run->items[i - 1].time_ns)
            sim_violation("R3", "%s: time goes back at event %zu", run->run_id, i + 1);
        if (status)
            sim_violation("R6", "%s: event %zu (%d) comes after the closing one", run->run_id,
                          i + 1, item->type);
        status = status_of(item->type);
        check_answers(run, i);
        if (item->type == KIND(START_CHILD_WORKFLOW_EXECUTION_INITIATED) && item->number == 2)
            for (size_t k = i + 1; k < run->n; k++)
                if (run->items[k].type == KIND(CHILD_WORKFLOW_EXECUTION_STARTED) &&
                    run->items[k].ref == (int64_t)i + 1) {
                    const sim_run *child = sim_run_get("?", run->items[k].run);
                    if (child->n &&
                        strcmp(child->items[child->n - 1].name, "by parent close policy") == 0)
                        sim_violation("R11", "%s: an abandoned child was terminated", run->run_id);
                }
    }
    check_signals(run);
    if (!status) {
        sim_violation("R12", "%s/%s did not end: %zu events, the last of type %d", run->wid,
                      run->run_id, run->n, run->n ? run->items[run->n - 1].type : 0);
        return;
    }
    const sim_doc *doc = sim_doc_of(run->run_id);
    if (!doc || strcmp(doc->status, status) != 0)
        sim_violation("R10", "%s/%s: visibility says %s, it is %s", run->wid, run->run_id,
                      doc ? doc->status : "nothing", status);
}

/* ---- what was acknowledged ---- */

static bool has(const sim_run *run, int32_t type, int64_t ref)
{
    for (size_t i = 0; i < run->n; i++)
        if (run->items[i].type == type && run->items[i].ref == ref)
            return true;
    return false;
}

static bool signal_is_there(const char *request_id)
{
    for (size_t r = 0; r < sim_n_runs; r++)
        for (size_t i = 0; i < sim_runs[r]->n; i++)
            if (sim_runs[r]->items[i].type == KIND(WORKFLOW_EXECUTION_SIGNALED) &&
                strcmp(sim_runs[r]->items[i].name, request_id) == 0)
                return true;
    return false;
}

static void check_acks(void)
{
    for (size_t i = 0; i < sim_n_acks; i++) {
        const sim_ack *ack = &sim_acks[i];
        if (ack->kind == ACK_SIGNAL) {
            if (!signal_is_there(ack->name))
                sim_violation("R1", "%s: acknowledged signal %s is nowhere", ack->wid, ack->name);
            continue;
        }
        const sim_run *run = sim_run_get(ack->wid, ack->run_id);
        if (ack->kind == ACK_WFT && !has(run, KIND(WORKFLOW_TASK_COMPLETED), ack->started))
            sim_violation("R1", "%s/%s: completion of task %lld was acknowledged", ack->wid,
                          ack->run_id, (long long)ack->started);
        if (ack->kind == ACK_ACT && !has(run, KIND(ACTIVITY_TASK_COMPLETED), ack->scheduled))
            sim_violation("R1", "%s/%s: completion of activity %s was acknowledged", ack->wid,
                          ack->run_id, ack->name);
    }
}

void sim_judge_drained(void)
{
    sim_judge_running();
    read_truth();
    for (size_t i = 0; i < sim_n_runs; i++) {
        const sim_run *run = sim_runs[i];
        bool stored = run->decisions == UINT32_MAX;
        if (!stored && (run->acked || run->n))
            sim_violation("R1", "%s/%s was acknowledged and is not there", run->wid, run->run_id);
        if (stored)
            check_history(run);
    }
    check_acks();
}

/* ---- after retention ---- */

void sim_judge_retired(void)
{
    const sim_row *rows;
    size_t n = sim_store_rows(&rows), of[16] = {0};
    for (size_t i = 0; i < n; i++)
        of[rows[i].key[0] & 15]++;
    if (of[TN_TABLE_RECORD] || of[TN_TABLE_SNAPSHOT] || of[TN_TABLE_WAKE] || of[TN_TABLE_CURRENT] ||
        of[TN_TABLE_OUTBOX])
        sim_violation(
            "retention",
            "left behind: %zu records, %zu snapshots, %zu wake rows, %zu ids, %zu outbox rows",
            of[TN_TABLE_RECORD], of[TN_TABLE_SNAPSHOT], of[TN_TABLE_WAKE], of[TN_TABLE_CURRENT],
            of[TN_TABLE_OUTBOX]);
    if (sim_docs_live())
        sim_violation("retention", "%zu visibility documents are left behind", sim_docs_live());
}

void sim_judge_leaks(void)
{
    if (sim_arenas)
        sim_violation("leak", "%zu arenas live after the end", sim_arenas);
}
