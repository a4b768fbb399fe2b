/* SPDX-License-Identifier: MIT */
/* Puts and removes are gathered for a short while and go out together: of the puts of a run only the newest is
 * written, and one transaction and round trip serves all.  One batch of a connection is under way at a
 * time, so that the order of what concerns a run is kept.
 *
 * A put may happen twice (its version decides), so a batch whose outcome is not known is sent again until its
 * members' time is up; names are asked anew then, since the server may be another one after a fail-over.
 * Nobody waits for a put, so until then it also waits for a connection. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>

#define PATIENCE_NS (30 * TN_PG_SEC) /* of members without a deadline */
#define TRIES_MAX 1000

typedef struct vp_batch {
    vp_side *side;
    tn_pg_req req;
    vp_resolve resolve;
    vp_mem mem;
    vp_write **members;
    size_t n, at, width; /* members at .. at + width - 1 are sent together */
    vp_write **puts, **removes;
    vp_row *rows;
    size_t n_puts, n_removes;
    uint64_t deadline_ns, began_ns;
    unsigned tries;
    bool doubtful; /* sent, and its outcome once not known */
} vp_batch;

static void start_round(vp_batch *b);
static void flush(vp_side *side);

static uint64_t now(const vp_side *side) { return side->inst->host->mono_ns(); }

/* ---- ending ------------------------------------------------------------------------------------- */

static void finish(vp_side *side, vp_write *w, tn_status status, const tn_error *err)
{
    side->settled++;
    side->inst->host->op_finish(w->op, status, status == TN_OK ? NULL : err);
}

static void end_batch(vp_batch *b)
{
    vp_side *side = b->side;
    const vp_inst *inst = side->inst;
    if (inst->m_batches) {
        inst->host->metric_add(inst->m_batches, 1);
        inst->host->metric_add(inst->m_documents, (double)b->n);
        inst->host->metric_add(inst->m_seconds, (double)(now(side) - b->began_ns) / 1e9);
    }
    size_t n = b->n;
    vp_mem_done(&b->mem);
    free(b->members);
    free(b);
    side->batch = NULL;
    vp_common_written(side, n);
    vp_reads_go_on(side);
    flush(side);
}

/* The members of this round are done with. */
static void end_round(vp_batch *b, tn_status status, const tn_error *err)
{
    for (size_t i = 0; i < b->width; i++)
        finish(b->side, b->members[b->at + i], status, err);
    b->at += b->width;
    b->doubtful = false;
    if (b->at < b->n)
        start_round(b);
    else
        end_batch(b);
}

/* ---- rounds ------------------------------------------------------------------------------------- */

static uint64_t run_hash(const tn_vis_doc *doc)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < doc->run_id.n; i++)
        h = (h ^ (uint8_t)doc->run_id.p[i]) * 0x100000001b3u;
    for (size_t i = 0; i < doc->ns_id.n; i++)
        h = (h ^ (uint8_t)doc->ns_id.p[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

static bool same_run(const tn_vis_doc *a, const tn_vis_doc *b)
{
    return a->run_id.n == b->run_id.n && a->ns_id.n == b->ns_id.n &&
           memcmp(a->run_id.p, b->run_id.p, a->run_id.n) == 0 &&
           memcmp(a->ns_id.p, b->ns_id.p, a->ns_id.n) == 0;
}

static int compare_runs(const void *a, const void *b)
{
    const vp_write *x = *(vp_write *const *)a, *y = *(vp_write *const *)b;
    tn_str s = x->doc->run_id, t = y->doc->run_id;
    int order = memcmp(s.p, t.p, s.n < t.n ? s.n : t.n);
    if (order == 0)
        order = (s.n > t.n) - (s.n < t.n);
    if (order == 0)
        order = (x->doc < y->doc) - (x->doc > y->doc);
    return order;
}

/* What each run comes to: first a remove when there was any, then the newest put after the last one. */
static bool sort_out(vp_batch *b)
{
    typedef struct slot {
        vp_write *put, *remove;
    } slot;
    size_t slots = 16;
    while (slots < b->width * 2)
        slots *= 2;
    slot *table = vp_alloc(&b->mem, slots * sizeof *table);
    b->puts = vp_alloc(&b->mem, (b->width + 1) * sizeof(vp_write *));
    b->removes = vp_alloc(&b->mem, (b->width + 1) * sizeof(vp_write *));
    b->rows = vp_alloc(&b->mem, (b->width + 1) * sizeof *b->rows);
    if (b->mem.failed)
        return false;
    for (size_t i = 0; i < b->width; i++) {
        vp_write *w = b->members[b->at + i];
        slot *s = &table[run_hash(w->doc) & (slots - 1)];
        while ((s->put && !same_run(s->put->doc, w->doc)) ||
               (s->remove && !same_run(s->remove->doc, w->doc)))
            s = s + 1 == table + slots ? table : s + 1;
        if (w->remove)
            s->remove = w, s->put = NULL;
        else if (!s->put || s->put->doc->version < w->doc->version)
            s->put = w;
    }
    b->n_puts = b->n_removes = 0;
    for (size_t i = 0; i < slots; i++) {
        if (table[i].put)
            b->puts[b->n_puts++] = table[i].put;
        if (table[i].remove)
            b->removes[b->n_removes++] = table[i].remove;
    }
    /* One order in all connections, so that they don't wait for each other crosswise. */
    qsort(b->puts, b->n_puts, sizeof *b->puts, compare_runs);
    qsort(b->removes, b->n_removes, sizeof *b->removes, compare_runs);
    return true;
}

/* ---- parameters --------------------------------------------------------------------------------- */

#define I32_COLUMN(member) \
    do { \
        tn_pg_array_begin(p, TN_PG_OID_INT4); \
        for (size_t i = 0; i < n; i++) \
            tn_pg_array_i32(p, rows[i].member); \
        tn_pg_array_end(p); \
    } while (0)
#define I64_COLUMN(has, member) \
    do { \
        tn_pg_array_begin(p, TN_PG_OID_INT8); \
        for (size_t i = 0; i < n; i++) \
            if (has) \
                tn_pg_array_i64(p, rows[i].member); \
            else \
                tn_pg_array_null(p); \
        tn_pg_array_end(p); \
    } while (0)
#define BYTES_COLUMN(oid, member) \
    do { \
        tn_pg_array_begin(p, oid); \
        for (size_t i = 0; i < n; i++) \
            if (rows[i].member.p) \
                tn_pg_array_blob(p, rows[i].member.p, rows[i].member.n); \
            else \
                tn_pg_array_null(p); \
        tn_pg_array_end(p); \
    } while (0)

/* In the order of the parameters of vis_put. */
static void put_rows(tn_pg_params *p, const vp_row *rows, size_t n)
{
    tn_pg_params_clear(p);
    I32_COLUMN(ns);
    I32_COLUMN(div);
    I32_COLUMN(status);
    I32_COLUMN(type);
    I64_COLUMN(true, close);
    I64_COLUMN(true, start);
    I64_COLUMN(true, ver);
    I64_COLUMN(rows[i].has_exec, exec);
    I64_COLUMN(rows[i].has_dur, dur);
    I64_COLUMN(rows[i].has_len, len);
    I64_COLUMN(rows[i].has_size, size);
    I64_COLUMN(rows[i].has_trans, trans);
    I32_COLUMN(tq);
    BYTES_COLUMN(TN_PG_OID_BYTEA, run);
    BYTES_COLUMN(TN_PG_OID_TEXT, wf);
    BYTES_COLUMN(TN_PG_OID_TEXT, pwf);
    BYTES_COLUMN(TN_PG_OID_BYTEA, prun);
    BYTES_COLUMN(TN_PG_OID_TEXT, rwf);
    BYTES_COLUMN(TN_PG_OID_BYTEA, rrun);
    BYTES_COLUMN(TN_PG_OID_TEXT, sa);
    BYTES_COLUMN(TN_PG_OID_TEXT, keys);
    BYTES_COLUMN(TN_PG_OID_BYTEA, memo);
}

static vp_batch *batch_of(tn_pg_req *req)
{
    return (vp_batch *)((char *)req - offsetof(vp_batch, req));
}

static bool send(tn_pg_req *req, PGconn *db)
{
    vp_batch *b = batch_of(req);
    tn_pg_params *p = &b->side->params;
    bool ok = true;
    if (b->n_removes) {
        tn_pg_params_clear(p);
        tn_pg_array_begin(p, TN_PG_OID_INT4);
        for (size_t i = 0; i < b->n_removes; i++)
            tn_pg_array_i32(p, vp_name_find(&b->side->names, b->removes[i]->doc->ns_id));
        tn_pg_array_end(p);
        tn_pg_array_begin(p, TN_PG_OID_BYTEA);
        for (size_t i = 0; i < b->n_removes; i++) {
            tn_blob run = vp_run_encode(&b->mem, b->removes[i]->doc->run_id);
            tn_pg_array_blob(p, run.p, run.n);
        }
        tn_pg_array_end(p);
        ok = tn_pg_params_send(p, db, "vis_remove");
    }
    if (ok && b->n_puts) {
        put_rows(p, b->rows, b->n_puts);
        ok = tn_pg_params_send(p, db, "vis_put");
    }
    return ok;
}

/* ---- what comes of a round ---------------------------------------------------------------------- */

/* Of the moment: nothing is wrong with the documents. */
static bool try_again(const char *s)
{
    return strcmp(s, "40001") == 0 || strcmp(s, "40P01") == 0 || strcmp(s, "55P03") == 0 ||
           strcmp(s, "25006") == 0 || strncmp(s, "57P0", 4) == 0 ||
           strcmp(s, "57014") == 0; /* a cancel meant for a list, where they share a connection */
}

static void complain(const vp_batch *b, const tn_error *err)
{
    char text[320];
    int n = snprintf(text, sizeof text, "%zu documents were not stored: %s", b->width, err->text);
    b->side->inst->host->log(b->side->inst, TN_LEVEL_WARN, text, n > 0 ? (size_t)n : 0);
}

static void round_over(vp_batch *b, tn_pg_end how, const tn_error *err, const char *sqlstate)
{
    if (how == TN_PG_DONE) {
        end_round(b, TN_OK, NULL);
        return;
    }
    tn_status status = err->code;
    /* Without a state the server said nothing: the connection died under the request. */
    bool dead = !sqlstate[0] && status == TN_EUNAVAILABLE;
    bool known = how == TN_PG_FAILED && !try_again(sqlstate) && !dead;
    b->doubtful = b->doubtful || how == TN_PG_LOST;
    if (!known && how != TN_PG_UNSENT && now(b->side) < b->deadline_ns && b->tries < TRIES_MAX) {
        start_round(b);
        return;
    }
    if (known && b->width > 1 && status != TN_EUNAVAILABLE && status != TN_EDENIED) {
        /* One of them is at fault: each by itself, so that the others don't suffer. */
        b->width = 1;
        start_round(b);
        return;
    }
    if (how == TN_PG_UNSENT)
        b->width = b->n - b->at; /* those behind it will not fare better */
    complain(b, err);
    if (b->doubtful)
        status = TN_EUNCERTAIN;
    else if (how != TN_PG_FAILED)
        status = TN_EUNAVAILABLE;
    tn_error copy = *err;
    copy.code = status;
    end_round(b, status, &copy);
}

static void written(tn_pg_req *req, tn_pg_end how, const tn_error *err, const char *sqlstate)
{
    round_over(batch_of(req), how, err, sqlstate);
}

static void resolved(vp_resolve *r, tn_pg_end how, const tn_error *err, const char *sqlstate)
{
    vp_batch *b = (vp_batch *)((char *)r - offsetof(vp_batch, resolve));
    if (how == TN_PG_DONE)
        start_round(b);
    else
        round_over(b, how == TN_PG_LOST ? TN_PG_UNSENT : how, err, sqlstate);
}

static void start_round(vp_batch *b)
{
    vp_side *side = b->side;
    tn_error err = {0};
    if (b->at + b->width > b->n)
        b->width = b->n - b->at;
    vp_mem_done(&b->mem);
    bool sorted = sort_out(b);
    b->tries++;
    for (size_t i = 0; sorted && i < b->n_puts; i++)
        vp_doc_wants(&b->resolve.wants, &side->names, b->puts[i]->doc);
    for (size_t i = 0; sorted && i < b->n_removes; i++)
        vp_want_name(&b->resolve.wants, &side->names, b->removes[i]->doc->ns_id);
    if (sorted && b->resolve.wants.n && !b->resolve.wants.failed && b->tries < TRIES_MAX) {
        b->resolve.make = true;
        b->resolve.then = resolved;
        vp_resolve_start(&b->resolve, side, TN_PG_PATIENT, b->deadline_ns);
        return;
    }
    for (size_t i = 0; sorted && i < b->n_puts; i++)
        sorted = vp_doc_row(&b->mem, &side->names, b->puts[i]->doc, &b->rows[i]);
    if (!sorted || b->resolve.wants.n || b->resolve.wants.failed) {
        vp_wants_done(&b->resolve.wants);
        tn_pg_error(&err, TN_EUNAVAILABLE, "out of memory");
        end_round(b, TN_EUNAVAILABLE, &err);
        return;
    }
    b->req = (tn_pg_req){
        .flags = TN_PG_PATIENT, .deadline_ns = b->deadline_ns, .send = send, .done = written};
    tn_pg_submit(side->conn, &b->req);
}

/* ---- gathering ---------------------------------------------------------------------------------- */

static vp_write *take_first(vp_side *side)
{
    vp_write *w = side->head;
    side->head = w->next;
    if (!side->head)
        side->tail = NULL;
    side->waiting--;
    return w;
}

/* Those whose time is up while they waited are told so: nothing of them was sent. */
static size_t take_members(vp_side *side, vp_batch *b, size_t most)
{
    uint64_t at = now(side);
    size_t n = 0;
    while (side->head && n < most) {
        vp_write *w = take_first(side);
        if (w->deadline_ns <= at) {
            tn_error err = {0};
            tn_pg_error(&err, TN_EUNAVAILABLE, "the document was not stored in time");
            finish(side, w, TN_EUNAVAILABLE, &err);
            continue;
        }
        uint64_t end = w->deadline_ns == UINT64_MAX ? at + PATIENCE_NS : w->deadline_ns;
        if (end > b->deadline_ns)
            b->deadline_ns = end;
        b->members[n++] = w;
    }
    return n;
}

static void flush(vp_side *side)
{
    if (side->timer)
        side->inst->host->timer_stop(side->timer);
    side->timer = NULL;
    if (side->batch || !side->head)
        return;
    size_t most = side->waiting < VP_BATCH_MAX ? side->waiting : VP_BATCH_MAX;
    vp_batch *b = calloc(1, sizeof *b);
    vp_write **members = calloc(most, sizeof(vp_write *));
    if (!b || !members) {
        tn_error err = {0};
        tn_pg_error(&err, TN_EUNAVAILABLE, "out of memory");
        while (side->head)
            finish(side, take_first(side), TN_EUNAVAILABLE, &err);
        free(b);
        free(members);
        vp_reads_go_on(side);
        return;
    }
    b->side = side;
    b->members = members;
    b->began_ns = now(side);
    b->n = b->width = take_members(side, b, most);
    if (!side->head)
        side->hurry = false;
    side->batch = b;
    vp_names_trim(&side->names);
    if (b->n)
        start_round(b);
    else
        end_batch(b);
}

static void linger_over(void *arg) { flush(arg); }

void vp_write_hurry(vp_side *side)
{
    side->hurry = side->hurry || side->head;
    flush(side);
}

void vp_write_arrives(void *arg)
{
    vp_write *w = arg;
    vp_side *side = w->side;
    const vp_inst *inst = side->inst;
    if (side->tail)
        side->tail->next = w;
    else
        side->head = w;
    side->tail = w;
    side->taken++;
    side->waiting++;
    if (side->batch)
        return; /* whoever comes during a batch goes with the next */
    if (side->hurry || side->waiting >= inst->batch_max || inst->linger_ns == 0)
        flush(side);
    else if (!side->timer)
        side->timer =
            inst->host->timer_start(tn_pg_loop(side->conn), inst->linger_ns, linger_over, side);
}
