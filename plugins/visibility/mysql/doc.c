/* SPDX-License-Identifier: MIT */
/* A row of tenon_vis_run back to a document, in the operation's memory. */
#include "private.h"

#include <stdlib.h>

enum { /* MV_DOC_COLUMNS */
       C_RUN,
       C_VER,
       C_PART,
       C_STATUS,
       C_TYPE,
       C_CLOSE,
       C_START,
       C_WF,
       C_TQ,
       C_EXEC,
       C_DUR,
       C_LEN,
       C_SIZE,
       C_TRANS,
       C_PWF,
       C_PRUN,
       C_RWF,
       C_RRUN,
       C_DIVISION,
       C_SA,
       C_MEMO,
};

typedef struct doc_out {
    mv_query *q;
    MYSQL_ROW row;
    const unsigned long *n;
    tn_attr *attrs;
    size_t count;
    tn_status status;
} doc_out;

static void add(doc_out *d, const char *name, uint32_t type, tn_blob value)
{
    d->attrs[d->count++] = (tn_attr){.name = {name, strlen(name)}, .type = type, .value = value};
}

static void add_bytes(doc_out *d, const char *name, const void *p, size_t n)
{
    tn_blob value;
    if (mv_copy(d->q, p, n, &value))
        add(d, name, TN_ATTR_KEYWORD, value);
    else
        d->status = TN_ETOOLARGE;
}

static void add_text(doc_out *d, const char *name, int at)
{
    if (d->row[at])
        add_bytes(d, name, d->row[at], d->n[at]);
}

static void add_number(doc_out *d, const char *name, uint32_t type, int at, int64_t lack)
{
    int64_t v = d->row[at] ? strtoll(d->row[at], NULL, 10) : 0;
    if (!d->row[at] || (lack && v == lack))
        return;
    uint8_t *p = mv_alloc(d->q, 8, 1);
    if (!p) {
        d->status = TN_ETOOLARGE;
        return;
    }
    tn_vd_set_i64(p, v);
    add(d, name, type, (tn_blob){p, 8});
}

/* own: what an empty value stands for; p NULL: nothing. */
static void add_run(doc_out *d, const char *name, int at, tn_str own)
{
    char text[36];
    if (!d->row[at])
        return;
    if (d->n[at] == 0 && own.p) {
        add(d, name, TN_ATTR_KEYWORD, (tn_blob){(const uint8_t *)own.p, own.n});
        return;
    }
    tn_str run = mv_run_decode(d->row[at], d->n[at], text);
    add_bytes(d, name, run.p, run.n);
}

static void add_own(doc_out *d, tn_blob rest)
{
    uint32_t id, type;
    tn_blob stored, name, value;
    mv_query *q = d->q;
    while (d->status == TN_OK && mv_own_next(&rest, &id, &type, &stored)) {
        tn_str text;
        d->status = mv_name_text(q->inst, q->conn, id, q->deadline_ns, &text, q->err);
        if (d->status != TN_OK)
            return;
        if (!mv_copy(q, text.p, text.n, &name) || !mv_copy(q, stored.p, stored.n, &value))
            d->status = TN_ETOOLARGE;
        else
            d->attrs[d->count++] =
                (tn_attr){.name = {(const char *)name.p, name.n}, .type = type, .value = value};
    }
    if (d->status == TN_OK && rest.n)
        d->status = ms_error(q->err, TN_EDATALOSS, 0, "attributes of a run are damaged");
}

tn_status mv_doc_read(mv_query *q, MYSQL_ROW row, const unsigned long *n, tn_vis_doc *doc)
{
    doc_out d = {.q = q, .row = row, .n = n};
    tn_blob own = {(const uint8_t *)row[C_SA], row[C_SA] ? n[C_SA] : 0}, rest = own, value;
    uint32_t id, type;
    size_t count = 0;
    char text[36];
    tn_blob run, wf;
    while (mv_own_next(&rest, &id, &type, &value))
        count++;
    tn_str run_text = mv_run_decode(row[C_RUN], n[C_RUN], text);
    d.attrs = mv_alloc(q, (count + 20) * sizeof *d.attrs, _Alignof(tn_attr));
    if (!d.attrs || !mv_copy(q, run_text.p, run_text.n, &run) ||
        !mv_copy(q, row[C_WF], n[C_WF], &wf))
        return TN_ETOOLARGE;
    *doc = (tn_vis_doc){.struct_size = sizeof *doc,
                        .ns_id = q->read->query->ns_id,
                        .workflow_id = {(const char *)wf.p, wf.n},
                        .run_id = {(const char *)run.p, run.n},
                        .version = ms_u64(row, C_VER)};
    add(&d, "WorkflowId", TN_ATTR_KEYWORD, wf);
    add(&d, "RunId", TN_ATTR_KEYWORD, run);
    add_text(&d, "WorkflowType", C_TYPE);
    add_text(&d, "ExecutionStatus", C_STATUS);
    add_text(&d, "TaskQueue", C_TQ);
    add_text(&d, "TemporalNamespaceDivision", C_DIVISION);
    add_number(&d, "StartTime", TN_ATTR_DATETIME, C_START, MV_START_NONE);
    add_number(&d, "ExecutionTime", TN_ATTR_DATETIME, C_EXEC, 0);
    add_number(&d, "CloseTime", TN_ATTR_DATETIME, C_CLOSE, MV_CLOSE_OPEN);
    add_number(&d, "ExecutionDuration", TN_ATTR_INT, C_DUR, 0);
    add_number(&d, "HistoryLength", TN_ATTR_INT, C_LEN, 0);
    add_number(&d, "HistorySizeBytes", TN_ATTR_INT, C_SIZE, 0);
    add_number(&d, "StateTransitionCount", TN_ATTR_INT, C_TRANS, 0);
    add_text(&d, "ParentWorkflowId", C_PWF);
    add_run(&d, "ParentRunId", C_PRUN, (tn_str){0});
    if (row[C_RWF] && n[C_RWF] == 0)
        add(&d, "RootWorkflowId", TN_ATTR_KEYWORD, wf);
    else
        add_text(&d, "RootWorkflowId", C_RWF);
    add_run(&d, "RootRunId", C_RRUN, doc->run_id);
    add_own(&d, own);
    if (d.status == TN_OK && row[C_MEMO] && !mv_copy(q, row[C_MEMO], n[C_MEMO], &doc->memo))
        d.status = TN_ETOOLARGE;
    doc->attrs = d.attrs;
    doc->n_attrs = d.count;
    return d.status;
}
