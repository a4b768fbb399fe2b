/* SPDX-License-Identifier: MIT */
/* The one thread that writes.  A group is all that waits when it comes round: each member is decided in
 * order against everything before it, the outcome of the whole group becomes one row of the journal in
 * one transaction (one fsync), then the rows enter the view and all members are told.
 *
 * A member is told "unavailable" when surely nothing of it stayed, and "uncertain" when the commit itself
 * failed with an I/O error: the frames may or may not have reached the disk.  Then SQLite's own view is
 * that they did not; the next transaction writes over the same place.  So before anything else is decided
 * an empty barrier commit must succeed: after it the doubtful frames cannot come back.  No fsync is ever
 * repeated in the hope that it works this time. */
#include "private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- queue [any] -------------------------------------------------------------------------------- */

void sq_writer_submit(sq_inst *inst, tn_commit_req *const *reqs, size_t n)
{
    if (n == 0)
        return;
    sq_group *group = malloc(sizeof *group + n * sizeof group->reqs[0]);
    for (size_t i = 0; i < n; i++) /* before anyone can finish it */
        reqs[i]->status = group ? TN_PENDING : TN_EUNAVAILABLE;
    if (!group)
        return;
    group->next = NULL;
    group->n = n;
    group->taken = 0;
    memcpy(group->reqs, reqs, n * sizeof group->reqs[0]);
    pthread_mutex_lock(&inst->queue_lock);
    bool was_empty = !inst->queue_head;
    if (was_empty)
        inst->queue_head = group;
    else
        inst->queue_tail->next = group;
    inst->queue_tail = group;
    if (was_empty)
        pthread_cond_signal(&inst->queue_wake);
    pthread_mutex_unlock(&inst->queue_lock);
}

/* ---- transactions ------------------------------------------------------------------------------- */

static int run(sqlite3_stmt *stmt)
{
    int rc = sqlite3_step(stmt);
    sqlite3_reset(stmt);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

tn_status sq_writer_begin(sq_inst *inst, tn_error *err)
{
    sq_writer *w = &inst->writer;
    int rc = run(w->begin);
    return rc == SQLITE_OK ? TN_OK : sq_db_status(w->db, rc, "beginning a transaction", err);
}

void sq_writer_abort(sq_inst *inst)
{
    if (!sqlite3_get_autocommit(inst->writer.db))
        (void)run(inst->writer.rollback);
}

tn_status sq_writer_end(sq_inst *inst, tn_error *err)
{
    sq_writer *w = &inst->writer;
    uint64_t before = inst->host->mono_ns();
    int rc = run(w->commit);
    if (rc == SQLITE_OK) {
        w->poisoned = false;
        sq_metric(inst, inst->m_sync_seconds, (double)(inst->host->mono_ns() - before) / 1e9);
        return TN_OK;
    }
    tn_status status = sq_db_status(w->db, rc, "committing", err);
    /* A full disk stops a write before the frame that would make the commit count. */
    bool doubtful = (rc & 0xff) == SQLITE_IOERR;
    sq_writer_abort(inst);
    if (!doubtful)
        return status == TN_EDATALOSS ? TN_EUNAVAILABLE : status;
    w->poisoned = true;
    if (err)
        err->code = TN_EUNCERTAIN;
    return TN_EUNCERTAIN;
}

tn_status sq_meta_put(sq_writer *w, const char *name, uint64_t value, tn_error *err)
{
    sqlite3_bind_text(w->meta_put, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(w->meta_put, 2, (sqlite3_int64)value);
    int rc = run(w->meta_put);
    return rc == SQLITE_OK ? TN_OK : sq_db_status(w->db, rc, "writing", err);
}

bool sq_slots_push(sq_slots *slots, int64_t slot)
{
    if (slots->n == slots->cap) {
        size_t cap = slots->cap ? slots->cap * 2 : 64;
        int64_t *grown = realloc(slots->p, cap * sizeof *grown);
        if (!grown)
            return false;
        slots->p = grown;
        slots->cap = cap;
    }
    slots->p[slots->n++] = slot;
    return true;
}

/* One block into the least obsolete row: recently written pages are cheap to write again. */
static tn_status write_block(sq_inst *inst, uint32_t part, uint32_t parts, const uint8_t *p,
                             size_t n, size_t *used_free, int64_t *added, tn_error *err)
{
    sq_writer *w = &inst->writer;
    sq_block_make(w->block, w->block_bytes, w->seq + 1, part, parts, p, n);
    bool reuse = *used_free < w->free_slots.n;
    int64_t slot = reuse ? w->free_slots.p[w->free_slots.n - ++*used_free] : w->slots + ++*added;
    sqlite3_stmt *stmt = reuse ? w->journal_set : w->journal_add;
    sqlite3_bind_int64(stmt, 1, slot);
    sqlite3_bind_blob64(stmt, 2, w->block, w->block_bytes, SQLITE_STATIC);
    int rc = run(stmt);
    if (rc != SQLITE_OK)
        return sq_db_status(w->db, rc, "writing the journal", err);
    if (!sq_slots_push(&w->active_slots, slot))
        return sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    return TN_OK;
}

static tn_status write_blocks(sq_inst *inst, const sq_bytes *group, size_t *used_free,
                              int64_t *added, tn_error *err)
{
    sq_writer *w = &inst->writer;
    size_t room = w->block_bytes - SQ_BLOCK_HEAD;
    size_t parts = (group->n + room - 1) / room;
    if (parts == 0)
        parts = 1;
    if (w->clean) {
        tn_status status = sq_meta_put(w, "clean", 0, err);
        if (status != TN_OK)
            return status;
    }
    for (size_t part = 0; part < parts; part++) {
        size_t at = part * room;
        size_t n = group->n - at < room ? group->n - at : room;
        tn_status status = write_block(inst, (uint32_t)part, (uint32_t)parts, group->p + at, n,
                                       used_free, added, err);
        if (status != TN_OK)
            return status;
    }
    return TN_OK;
}

/* The group (or nothing: a barrier) as one transaction on the journal. */
static tn_status write_journal(sq_inst *inst, tn_error *err)
{
    sq_writer *w = &inst->writer;
    if (w->journal.failed)
        return sq_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    const sq_bytes *group = sq_journal_pack(&w->zip, &w->journal, &w->packed);
    tn_status status = sq_writer_begin(inst, err);
    if (status != TN_OK)
        return status;
    size_t slots_before = w->active_slots.n, used_free = 0;
    int64_t added = 0;
    status = write_blocks(inst, group, &used_free, &added, err);
    if (status == TN_OK)
        status = sq_writer_end(inst, err);
    else
        sq_writer_abort(inst);
    if (status != TN_OK) {
        w->active_slots.n = slots_before;
        return status == TN_EDATALOSS ? TN_EUNAVAILABLE : status;
    }
    w->free_slots.n -= used_free;
    w->slots += added;
    w->clean = false;
    w->seq++;
    w->active_journal_bytes += w->journal.n;
    sq_metric(inst, inst->m_journal_bytes, (double)group->n);
    return TN_OK;
}

static tn_status clear_doubt(sq_inst *inst, tn_error *err)
{
    if (!inst->writer.poisoned)
        return TN_OK;
    sq_journal_begin(&inst->writer.journal);
    tn_status status = write_journal(inst, err);
    if (status ==
        TN_EUNCERTAIN) { /* the barrier is in doubt; who waits behind it was not even tried */
        status = TN_EUNAVAILABLE;
        if (err)
            err->code = status;
    }
    return status;
}

/* ---- groups ------------------------------------------------------------------------------------- */

/* Moves the delta into the view: from now on readers see the group. */
static void publish(sq_inst *inst)
{
    sq_table *delta = &inst->writer.delta;
    sq_node *dead = NULL;
    sq_node *n = sq_table_first(delta);
    memset(delta->head->next, 0, SQ_LEVELS_MAX * sizeof(sq_node *));
    delta->tail = delta->head;
    delta->count = delta->bytes = 0;
    pthread_rwlock_wrlock(&inst->view_lock);
    for (sq_node *next; n; n = next) {
        next = n->next[0];
        sq_node *old = sq_table_insert(&inst->active, n);
        if (old) {
            old->next[0] = dead;
            dead = old;
        }
    }
    pthread_rwlock_unlock(&inst->view_lock);
    for (sq_node *next; dead; dead = next) {
        next = dead->next[0];
        free(dead);
    }
}

typedef struct member {
    tn_commit_req *req;
    tn_status status;
    tn_error err;
} member;

static void decide_members(sq_inst *inst, member *members, size_t n)
{
    sq_journal_begin(&inst->writer.journal);
    for (size_t i = 0; i < n; i++) {
        members[i].err.code = TN_OK;
        members[i].status = sq_decide(inst, members[i].req, &members[i].err);
    }
    if (inst->writer.floor)
        sqlite3_reset(inst->writer.floor); /* ends its read transaction */
}

static void finish_members(sq_inst *inst, const member *members, size_t n)
{
    for (size_t i = 0; i < n; i++)
        inst->host->op_finish(members[i].req->op, members[i].status,
                              members[i].status == TN_OK ? NULL : &members[i].err);
}

static void run_group(sq_inst *inst, member *members, size_t n)
{
    sq_writer *w = &inst->writer;
    tn_error err = {0};
    tn_status status = w->db ? clear_doubt(inst, &err) : TN_OK;
    if (status == TN_OK) {
        decide_members(inst, members, n);
        bool empty = w->delta.count == 0;
        if (w->db && !empty)
            status = write_journal(inst, &err);
        if (status == TN_OK && !empty)
            publish(inst);
        else
            sq_table_clear(&w->delta);
    } else {
        for (size_t i = 0; i < n; i++)
            members[i].status = TN_OK; /* undecided: they share the group's fate */
    }
    for (size_t i = 0; status != TN_OK && i < n; i++) {
        if (members[i].status != TN_OK)
            continue; /* failed by itself */
        members[i].status = status;
        members[i].err = err;
    }
    w->last_group = n;
    sq_metric(inst, inst->m_groups, 1);
    sq_metric(inst, inst->m_commits, (double)n);
    finish_members(inst, members, n);
}

#define MEMBERS_MAX 1024u

static size_t batch_bytes(const tn_batch *batch)
{
    size_t n = 0;
    for (size_t i = 0; i < batch->n_muts; i++)
        n += batch->muts[i].value.n;
    return n;
}

/* Cuts what waits into groups of bounded size; they are decided in the order they came. */
static void run_groups(sq_inst *inst, sq_group *waiting, member *members)
{
    size_t n = 0, bytes = 0;
    while (waiting) {
        sq_group *group = waiting;
        for (size_t i = 0; i < group->n; i++) {
            members[n++].req = group->reqs[i];
            bytes += batch_bytes(group->reqs[i]->batch);
            if (n == MEMBERS_MAX || bytes >= SQ_GROUP_BYTES_MAX) {
                run_group(inst, members, n);
                n = bytes = 0;
            }
        }
        waiting = group->next;
        free(group);
    }
    if (n)
        run_group(inst, members, n);
}

#define GATHER_LEAST 6u /* commits of the last group: fewer, and nobody is worth waiting for */

/* ---- the thread --------------------------------------------------------------------------------- */

static uint64_t flush_due_ns(const sq_inst *inst)
{
    const sq_writer *w = &inst->writer;
    if (!w->db)
        return UINT64_MAX;
    if (inst->has_frozen)
        return w->retry_at_ns;
    if (w->active_journal_bytes >= (uint64_t)inst->options.journal_bytes)
        return w->retry_at_ns;
    return w->active_journal_bytes ? w->idle_at_ns : UINT64_MAX;
}

/* Under load a group waits a little: those who were just told come back with their next commits, and a group
 * of twice the size costs the same page of journal, sync and wake-ups. */
static void gather(sq_inst *inst)
{
    const sq_writer *w = &inst->writer;
    if (!w->db || w->last_group < GATHER_LEAST || inst->has_frozen || !inst->options.gather_ns)
        return;
    uint64_t until = inst->host->mono_ns() + inst->options.gather_ns;
    struct timespec at = {.tv_sec = (time_t)(until / SQ_SEC), .tv_nsec = (long)(until % SQ_SEC)};
    while (!inst->stopping &&
           pthread_cond_timedwait(&inst->queue_wake, &inst->queue_lock, &at) != ETIMEDOUT)
        ;
}

/* Waits for commits, a due flush or the end; takes the commits. */
static sq_group *wait_for_work(sq_inst *inst, bool *out_stopping)
{
    pthread_mutex_lock(&inst->queue_lock);
    while (!inst->queue_head && !inst->stopping && !inst->checkpoint_ended) {
        uint64_t due = flush_due_ns(inst);
        if (due == UINT64_MAX) {
            pthread_cond_wait(&inst->queue_wake, &inst->queue_lock);
            continue;
        }
        if (due <= inst->host->mono_ns())
            break;
        struct timespec at = {.tv_sec = (time_t)(due / SQ_SEC), .tv_nsec = (long)(due % SQ_SEC)};
        pthread_cond_timedwait(&inst->queue_wake, &inst->queue_lock, &at);
    }
    if (inst->queue_head && !inst->stopping)
        gather(inst);
    sq_group *taken = inst->queue_head;
    inst->queue_head = inst->queue_tail = NULL;
    *out_stopping = inst->stopping;
    pthread_mutex_unlock(&inst->queue_lock);
    return taken;
}

static void flush_some(sq_inst *inst)
{
    sq_writer *w = &inst->writer;
    tn_error err = {0};
    if (!inst->has_frozen)
        sq_flush_freeze(inst);
    if (clear_doubt(inst, &err) == TN_OK && sq_flush_slice(inst, &err) == TN_OK) {
        w->retry_at_ns = 0;
        w->flush_complained = false;
        return;
    }
    w->retry_at_ns = inst->host->mono_ns() + SQ_SEC;
    if (w->flush_complained)
        return;
    w->flush_complained = true; /* once until it works again */
    char text[400];
    int n =
        snprintf(text, sizeof text, "cannot move rows into the tables: %s; trying again", err.text);
    inst->host->log(inst, TN_LEVEL_WARN, text, (size_t)n);
}

/* The last frames of a checkpoint that another thread did the bulk of: with nothing left, SQLite starts
 * the WAL from its beginning again. */
static void end_checkpoint(sq_inst *inst)
{
    int left = 0, done = 0;
    sqlite3_wal_checkpoint_v2(inst->writer.db, NULL, SQLITE_CHECKPOINT_PASSIVE, &left, &done);
}

/* Everything into the tables, so that the file is whole without its journal. */
static void drain(sq_inst *inst)
{
    sq_writer *w = &inst->writer;
    tn_error err = {0};
    w->draining = true;
    while (w->db && (inst->has_frozen || inst->active.count)) {
        flush_some(inst);
        if (w->flush_complained)
            return; /* the journal still has it all */
    }
    if (!w->db || w->clean || sq_writer_begin(inst, &err) != TN_OK)
        return;
    if (sq_meta_put(w, "clean", 1, &err) == TN_OK)
        (void)sq_writer_end(inst, &err);
    else
        sq_writer_abort(inst);
}

void *sq_writer_main(void *arg)
{
    sq_inst *inst = arg;
    member *members = calloc(MEMBERS_MAX, sizeof *members);
    if (!members)
        abort();
    for (bool stopping = false; !stopping;) {
        sq_group *waiting = wait_for_work(inst, &stopping);
        if (waiting) {
            run_groups(inst, waiting, members);
            inst->writer.idle_at_ns = inst->host->mono_ns() + inst->options.idle_flush_ns;
        }
        if (flush_due_ns(inst) <= inst->host->mono_ns())
            flush_some(inst);
        pthread_mutex_lock(&inst->queue_lock);
        bool checkpoint_ended = inst->checkpoint_ended;
        inst->checkpoint_ended = false;
        pthread_mutex_unlock(&inst->queue_lock);
        if (checkpoint_ended && inst->writer.db)
            end_checkpoint(inst);
    }
    drain(inst);
    free(members);
    return NULL;
}
