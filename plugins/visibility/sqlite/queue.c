/* SPDX-License-Identifier: MIT */
/* What waits to be written and read, and the threads that do it.  The writer gathers: a run that starts
 * and closes within the linger is written once, and one sync serves many.  A list or count sees every
 * write that came before it: it asks the writer to go ahead, and waits for that. */
#include "private.h"

#include <stdio.h>
#include <time.h>

#define COMPLAIN_EVERY_NS (UINT64_C(10000) * VS_MS)

/* ---- operations [loop] ------------------------------------------------------------------------ */

static tn_status submit_write(vs_inst *inst, tn_op *op, const tn_vis_doc *doc, bool remove)
{
    tn_error err = {0};
    if (doc->ns_id.n == 0 || doc->run_id.n == 0 || doc->ns_id.n > 1000 || doc->run_id.n > 1000 ||
        doc->workflow_id.n > 100000) {
        vs_error(&err, TN_EINVALID, 0, "a document needs a namespace and a run id");
        inst->host->op_explain(op, &err);
        return TN_EINVALID;
    }
    vs_write *w = inst->host->op_alloc(op, sizeof *w, _Alignof(vs_write));
    if (!w)
        return TN_ETOOLARGE;
    *w = (vs_write){.op = op, .doc = doc, .remove = remove, .arrived_ns = inst->host->mono_ns()};
    pthread_mutex_lock(&inst->lock);
    if (inst->write_tail)
        inst->write_tail->next = w;
    else
        inst->write_head = w;
    inst->write_tail = w;
    inst->writes_taken++;
    inst->writes_waiting++;
    /* The writer sleeps until there is a first one, and then until its batch is full. */
    if (inst->writes_waiting == 1 || inst->writes_waiting == inst->options.batch_max)
        pthread_cond_signal(&inst->write_wake);
    pthread_mutex_unlock(&inst->lock);
    return TN_PENDING;
}

tn_status vs_put_op(void *ctx, tn_op *op, const tn_vis_doc *doc)
{
    return submit_write(ctx, op, doc, false);
}

tn_status vs_remove_op(void *ctx, tn_op *op, const tn_vis_doc *key)
{
    return submit_write(ctx, op, key, true);
}

static tn_status submit_read(vs_inst *inst, tn_op *op, const tn_vis_query *query, tn_vis_page *out,
                             bool count)
{
    vs_read *r = inst->host->op_alloc(op, sizeof *r, _Alignof(vs_read));
    if (!r)
        return TN_ETOOLARGE;
    *r = (vs_read){.op = op, .query = query, .out = out, .count = count};
    pthread_mutex_lock(&inst->lock);
    r->barrier = inst->writes_taken;
    if (inst->read_tail)
        inst->read_tail->next = r;
    else
        inst->read_head = r;
    inst->read_tail = r;
    bool behind = inst->writes_settled < r->barrier;
    if (behind)
        inst->flush_wanted = true;
    if (behind || inst->options.memory)
        pthread_cond_signal(&inst->write_wake);
    else
        pthread_cond_signal(&inst->read_wake);
    pthread_mutex_unlock(&inst->lock);
    return TN_PENDING;
}

tn_status vs_list_op(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out)
{
    return submit_read(ctx, op, query, out, false);
}

tn_status vs_count_op(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out)
{
    return submit_read(ctx, op, query, out, true);
}

/* ---- the writer ------------------------------------------------------------------------------- */

static void wait_until(vs_inst *inst, uint64_t at_ns)
{
    uint64_t now = inst->host->mono_ns(), left = at_ns > now ? at_ns - now : 0;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    uint64_t nsec = (uint64_t)ts.tv_nsec + left;
    ts.tv_sec += (time_t)(nsec / 1000000000);
    ts.tv_nsec = (long)(nsec % 1000000000);
    pthread_cond_timedwait(&inst->write_wake, &inst->lock, &ts);
}

static void linger(vs_inst *inst)
{
    uint64_t end = inst->write_head->arrived_ns + inst->options.linger_ns;
    while (!inst->stopping && !inst->flush_wanted &&
           inst->writes_waiting < inst->options.batch_max && inst->host->mono_ns() < end)
        wait_until(inst, end);
}

static size_t take_writes(vs_inst *inst, vs_write **batch)
{
    size_t n = 0;
    while (inst->write_head && n < VS_TAKE_MAX) {
        batch[n++] = inst->write_head;
        inst->write_head = inst->write_head->next;
    }
    if (!inst->write_head) {
        inst->write_tail = NULL;
        inst->flush_wanted = false;
    }
    inst->writes_waiting -= n;
    return n;
}

static void complain(vs_inst *inst, const tn_error *err)
{
    uint64_t now = inst->host->mono_ns();
    if (inst->complained_ns && now - inst->complained_ns < COMPLAIN_EVERY_NS)
        return;
    inst->complained_ns = now;
    char text[320];
    int n = snprintf(text, sizeof text, "documents were not stored: %s", err->text);
    inst->host->log(inst, TN_LEVEL_ERROR, text, n > 0 ? (size_t)n : 0);
}

static void write_taken(vs_inst *inst, vs_write **batch, size_t n)
{
    tn_error err = {0};
    uint64_t began = inst->host->mono_ns();
    vs_write_batch(&inst->writer, batch, n, &err);
    if (inst->m_batches) {
        inst->host->metric_add(inst->m_batches, 1);
        inst->host->metric_add(inst->m_documents, (double)n);
        inst->host->metric_add(inst->m_sync_seconds, (double)(inst->host->mono_ns() - began) / 1e9);
    }
    if (err.code)
        complain(inst, &err);
    for (size_t i = 0; i < n;
         i++) { /* the op's memory, batch[i] too, is gone once it is finished */
        tn_status status = batch[i]->status;
        inst->host->op_finish(batch[i]->op, status, status == TN_OK ? NULL : &err);
    }
}

static void finish_read(vs_conn *conn, vs_read *r)
{
    vs_inst *inst = conn->inst;
    tn_error err = {0};
    tn_status status = TN_OK;
    if (!conn->db)
        status = vs_conn_open(inst, false, conn, &err);
    if (status == TN_OK)
        status = vs_read_run(conn, r, &err);
    inst->host->op_finish(r->op, status, status == TN_OK ? NULL : &err);
}

/* The first read whose writes are settled; NULL: none. */
static vs_read *take_read(vs_inst *inst)
{
    vs_read *before = NULL;
    for (vs_read *r = inst->read_head; r; before = r, r = r->next) {
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

void *vs_writer_main(void *arg)
{
    vs_inst *inst = arg;
    pthread_mutex_lock(&inst->lock);
    for (;;) {
        vs_read *r = inst->options.memory ? take_read(inst) : NULL;
        if (r) {
            pthread_mutex_unlock(&inst->lock);
            finish_read(&inst->writer, r);
            pthread_mutex_lock(&inst->lock);
            continue;
        }
        if (!inst->write_head) {
            if (inst->stopping)
                break;
            pthread_cond_wait(&inst->write_wake, &inst->lock);
            continue;
        }
        linger(inst);
        size_t n = take_writes(inst, inst->batch);
        pthread_mutex_unlock(&inst->lock);
        write_taken(inst, inst->batch, n);
        pthread_mutex_lock(&inst->lock);
        inst->writes_settled += n;
        if (inst->read_head)
            pthread_cond_broadcast(&inst->read_wake);
    }
    pthread_mutex_unlock(&inst->lock);
    return NULL;
}

/* ---- readers ---------------------------------------------------------------------------------- */

void *vs_reader_main(void *arg)
{
    vs_conn *conn = arg;
    vs_inst *inst = conn->inst;
    pthread_mutex_lock(&inst->lock);
    while (!inst->stopping) {
        vs_read *r = take_read(inst);
        if (!r) {
            pthread_cond_wait(&inst->read_wake, &inst->lock);
            continue;
        }
        pthread_mutex_unlock(&inst->lock);
        finish_read(conn, r);
        pthread_mutex_lock(&inst->lock);
    }
    pthread_mutex_unlock(&inst->lock);
    return NULL;
}
