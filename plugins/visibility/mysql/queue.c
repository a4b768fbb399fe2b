/* SPDX-License-Identifier: MIT */
/* What waits to be written and read, and the threads that do it.  The writer gathers: a run that starts
 * and closes within the linger is written once.  A list or count sees every write of this process that came
 * before it: it asks the writer to go ahead, and waits for that. */
#include "private.h"

#include <time.h>

#define COMPLAIN_EVERY_NS (10 * MS_SEC)
#define TAKE_BYTES ((size_t)2 << 20)

/* ---- operations [loop] -------------------------------------------------------------------------- */

static tn_status submit_write(mv_inst *inst, tn_op *op, const tn_vis_doc *doc, bool remove)
{
    tn_error err = {0};
    if (doc->ns_id.n == 0 || doc->run_id.n == 0 || doc->ns_id.n > MV_NAME_MAX ||
        doc->run_id.n > MV_RUN_MAX) {
        ms_error(&err, TN_EINVALID, 0, "a document needs a namespace and a run id");
        inst->host->op_explain(op, &err);
        return TN_EINVALID;
    }
    mv_write *w = inst->host->op_alloc(op, sizeof *w, _Alignof(mv_write));
    if (!w)
        return TN_ETOOLARGE;
    *w = (mv_write){.op = op, .doc = doc, .remove = remove, .arrived_ns = inst->host->mono_ns()};
    pthread_mutex_lock(&inst->lock);
    if (inst->write_tail)
        inst->write_tail->next = w;
    else
        inst->write_head = w;
    inst->write_tail = w;
    inst->writes_taken++;
    inst->writes_waiting++;
    if (inst->writes_waiting == 1 || inst->writes_waiting == inst->batch_max)
        pthread_cond_signal(&inst->write_wake);
    pthread_mutex_unlock(&inst->lock);
    return TN_PENDING;
}

tn_status mv_put_op(void *ctx, tn_op *op, const tn_vis_doc *doc)
{
    return submit_write(ctx, op, doc, false);
}

tn_status mv_remove_op(void *ctx, tn_op *op, const tn_vis_doc *key)
{
    return submit_write(ctx, op, key, true);
}

static void *reader_main(void *arg);

/* With the lock.  A reader is started when one is missing. */
static bool have_reader(mv_inst *inst)
{
    if (!inst->readers_idle && inst->readers_started < inst->readers_most) {
        mv_reader *r = &inst->readers[inst->readers_started];
        r->inst = inst;
        ms_conn_init(&r->conn, inst->host, inst, &inst->options);
        r->conn.durable_reported = true;
        if (pthread_create(&r->thread, NULL, reader_main, r) == 0)
            inst->readers_started++;
    }
    return inst->readers_started > 0;
}

static tn_status submit_read(mv_inst *inst, tn_op *op, const tn_vis_query *query, tn_vis_page *out,
                             bool count)
{
    mv_read *r = inst->host->op_alloc(op, sizeof *r, _Alignof(mv_read));
    if (!r)
        return TN_ETOOLARGE;
    *r = (mv_read){.op = op, .query = query, .out = out, .count = count};
    pthread_mutex_lock(&inst->lock);
    if (!have_reader(inst)) {
        pthread_mutex_unlock(&inst->lock);
        return TN_EUNAVAILABLE;
    }
    r->barrier = inst->writes_taken;
    if (inst->read_tail)
        inst->read_tail->next = r;
    else
        inst->read_head = r;
    inst->read_tail = r;
    if (inst->writes_settled < r->barrier) {
        inst->flush_wanted = true;
        pthread_cond_signal(&inst->write_wake);
    } else {
        pthread_cond_signal(&inst->read_wake);
    }
    pthread_mutex_unlock(&inst->lock);
    return TN_PENDING;
}

tn_status mv_list_op(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out)
{
    return submit_read(ctx, op, query, out, false);
}

tn_status mv_count_op(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out)
{
    return submit_read(ctx, op, query, out, true);
}

/* ---- the writer --------------------------------------------------------------------------------- */

static void wait_until(mv_inst *inst, uint64_t at_ns)
{
    uint64_t now = inst->host->mono_ns(), left = at_ns > now ? at_ns - now : 0;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    uint64_t nsec = (uint64_t)ts.tv_nsec + left;
    ts.tv_sec += (time_t)(nsec / MS_SEC);
    ts.tv_nsec = (long)(nsec % MS_SEC);
    pthread_cond_timedwait(&inst->write_wake, &inst->lock, &ts);
}

static void linger(mv_inst *inst)
{
    uint64_t end = inst->write_head->arrived_ns + inst->linger_ns;
    while (!inst->stopping && !inst->flush_wanted && inst->writes_waiting < inst->batch_max &&
           inst->host->mono_ns() < end)
        wait_until(inst, end);
}

static size_t size_of(const tn_vis_doc *doc)
{
    size_t n = doc->memo.n + 300;
    for (size_t i = 0; i < doc->n_attrs; i++)
        n += doc->attrs[i].value.n;
    return n;
}

static size_t take_writes(mv_inst *inst)
{
    size_t n = 0, bytes = 0;
    while (inst->write_head && n < MV_TAKE_MAX) {
        bytes += size_of(inst->write_head->doc);
        if (n && bytes > TAKE_BYTES)
            break;
        inst->batch[n++] = inst->write_head;
        inst->write_head = inst->write_head->next;
    }
    if (!inst->write_head) {
        inst->write_tail = NULL;
        inst->flush_wanted = false;
    }
    inst->writes_waiting -= n;
    return n;
}

static void complain(mv_inst *inst, const tn_error *err)
{
    uint64_t now = inst->host->mono_ns();
    if (err->code == TN_EINVALID ||
        (inst->complained_ns && now - inst->complained_ns < COMPLAIN_EVERY_NS))
        return;
    inst->complained_ns = now;
    ms_log(&inst->writer, TN_LEVEL_ERROR, "documents were not stored: %s", err->text);
}

static void write_taken(mv_inst *inst, size_t n)
{
    const tn_host *host = inst->host;
    uint64_t began = host->mono_ns();
    mv_write_batch(inst, inst->batch, n);
    host->metric_add(inst->m_batches, 1);
    host->metric_add(inst->m_documents, (double)n);
    host->metric_add(inst->m_seconds, (double)(host->mono_ns() - began) / 1e9);
    for (size_t i = 0; i < n; i++) { /* the write's memory goes with its operation */
        tn_status status = inst->batch[i]->status;
        tn_error err = inst->batch[i]->err;
        err.code = status;
        if (status < 0)
            complain(inst, &err);
        host->op_finish(inst->batch[i]->op, status, status < 0 && err.text[0] ? &err : NULL);
    }
}

void *mv_writer_main(void *arg)
{
    mv_inst *inst = arg;
    pthread_mutex_lock(&inst->lock);
    for (;;) {
        if (!inst->write_head) {
            if (inst->stopping)
                break;
            pthread_cond_wait(&inst->write_wake, &inst->lock);
            continue;
        }
        linger(inst);
        size_t n = take_writes(inst);
        pthread_mutex_unlock(&inst->lock);
        write_taken(inst, n);
        pthread_mutex_lock(&inst->lock);
        inst->writes_settled += n;
        if (inst->read_head)
            pthread_cond_broadcast(&inst->read_wake);
    }
    pthread_mutex_unlock(&inst->lock);
    ms_disconnect(&inst->writer);
    return NULL;
}

/* ---- readers ------------------------------------------------------------------------------------ */

/* The first read whose writes are settled; NULL: none. */
static mv_read *take_read(mv_inst *inst)
{
    mv_read *before = NULL;
    for (mv_read *r = inst->read_head; r; before = r, r = r->next) {
        if (r->barrier > inst->writes_settled)
            continue;
        if (before)
            before->next = r->next;
        else
            inst->read_head = r->next;
        if (inst->read_tail == r)
            inst->read_tail = before;
        return r;
    }
    return NULL;
}

static void serve(mv_reader *r, const mv_read *read)
{
    mv_inst *inst = r->inst;
    uint64_t deadline = inst->host->op_deadline_ns(read->op);
    tn_error err = {0};
    tn_op *op = read->op;
    tn_status status;
    for (int tries = 0;; tries++) {
        bool fresh = !r->conn.my;
        err = (tn_error){0};
        if (inst->host->mono_ns() >= deadline) {
            status = ms_error(&err, TN_EUNAVAILABLE, 0, "the deadline passed");
            break;
        }
        /* A connection is of use beyond this read. */
        status =
            ms_connect(&r->conn, inst->host->mono_ns() + inst->options.connect_timeout_ns, &err);
        if (status == TN_EINVALID || status == TN_EDENIED) /* of the server, not of the query */
            status = TN_EUNAVAILABLE;
        if (status == TN_OK)
            status = mv_read_run(inst, &r->conn, read, &err);
        /* A connection that died while nobody used it. */
        if (status == TN_OK || r->conn.my || fresh || tries)
            break;
    }
    err.code = status;
    inst->host->op_finish(op, status, status < 0 && err.text[0] ? &err : NULL);
}

static void *reader_main(void *arg)
{
    mv_reader *r = arg;
    mv_inst *inst = r->inst;
    pthread_mutex_lock(&inst->lock);
    while (!inst->stopping || inst->read_head) {
        mv_read *read = take_read(inst);
        if (!read) {
            if (inst->stopping)
                break;
            inst->readers_idle++;
            pthread_cond_wait(&inst->read_wake, &inst->lock);
            inst->readers_idle--;
            continue;
        }
        pthread_mutex_unlock(&inst->lock);
        serve(r, read);
        pthread_mutex_lock(&inst->lock);
    }
    pthread_mutex_unlock(&inst->lock);
    ms_disconnect(&r->conn);
    return NULL;
}
