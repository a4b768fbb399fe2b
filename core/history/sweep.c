/* SPDX-License-Identifier: MIT */
/* What a deleted namespace has left in a shard.  Two tables name every run there is: the current runs (the open ones
 * are among them) and the wake index (a closed run has a row until it is deleted).  What they name is deleted as if
 * asked for; the answer says how many were found, and the worker role asks again until there are none. */
#include "history/priv.h"

#include <stdlib.h>

#include "proto/proto.h"

#define PAGE_ROWS 256u
#define RUNS_MAX 256u /* of one sweep: so many are loaded at a time */

typedef struct sweep {
    tn_hreq *req;
    tn_shard *shard;
    tn_arena *page; /* of the page that is being read */
    tn_store_op op;
    uint32_t table; /* TN_TABLE_CURRENT, then TN_TABLE_WAKE */
    tn_buf from;    /* row where the next page begins */
    uint8_t ns_id[16];
    size_t found;
} sweep;

static void sweep_end(sweep *s, const tn_fault *fault)
{
    Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsResponse *out =
        tn_arena_alloc(s->req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__count_workflow_executions_response__init(out);
    out->count = (int64_t)s->found;
    s->req->response = &out->base;
    tn_req_finish(s->req, fault);
    tn_buf_done(&s->from);
    free(s);
}

static void act_on(sweep *s, const char *workflow_id, const uint8_t run_id[16])
{
    if (!tn_shard_has(s->shard, s->req->ns->id, tn_str_from(workflow_id)))
        return; /* a neighbour's in the partition */
    tn_wf *wf = tn_wf_get(s->shard, s->req->ns->id, tn_str_from(workflow_id));
    tn_iop_send(tn_iop_create(wf, run_id, TN_IOP_DELETE));
    tn_wf_maybe_drop(wf);
    s->found++;
}

/* False: the rows of the namespace end before this one. */
static bool current_row(sweep *s, const tn_row *row)
{
    tn_blob key = row->key.row;
    Tenon__CurrentRun *run = NULL;
    if (key.n < 16 || memcmp(key.p, s->ns_id, 16) != 0)
        return false;
    if (TN_PROTO_UNPACK(tenon__current_run, row->value, s->page, &run, NULL) == TN_OK &&
        run->run_id.len == 16)
        act_on(s, tn_arena_printf(s->page, "%.*s", (int)(key.n - 16), (const char *)key.p + 16),
               run->run_id.data);
    else
        TN_LOG(TN_LOG_ERROR, "history", "a current-run row is damaged",
               TN_LOG_U("shard", s->shard->id));
    return true;
}

static void wake_row(sweep *s, const tn_row *row)
{
    Tenon__Wake *wake = NULL;
    if (row->key.row.n == 24 &&
        TN_PROTO_UNPACK(tenon__wake, row->value, s->page, &wake, NULL) == TN_OK &&
        wake->ns_id.len == 16 && memcmp(wake->ns_id.data, s->ns_id, 16) == 0)
        act_on(s, wake->workflow_id, row->key.row.p + 8);
}

static void next_page(sweep *s);

static void begin_table(sweep *s, uint32_t table)
{
    s->table = table;
    tn_buf_done(&s->from);
    if (table == TN_TABLE_CURRENT)
        tn_buf_put(&s->from, s->ns_id, 16);
    next_page(s);
}

static void page_came(tn_store_op *op)
{
    sweep *s = op->user;
    const tn_page *page = &op->u.scan.page;
    bool more = page->next.n && page->n_rows;
    const tn_fault *fault = NULL;
    s->shard->hl->txns--;
    if (op->status != TN_OK)
        fault = tn_fault_from_status(s->req->arena, op->status, &op->error);
    else if (!s->shard->owned || s->shard->map != s->req->u.task.ref.stamp ||
             s->shard->hl->stopping)
        fault = tn_fault_unavailable(s->req->arena, "shard is not owned by this host, try again");
    for (size_t i = 0; !fault && i < page->n_rows && s->found < RUNS_MAX; i++) {
        if (s->table == TN_TABLE_WAKE)
            wake_row(s, &page->rows[i]);
        else if (!current_row(s, &page->rows[i]))
            more = false;
    }
    if (!fault && more) { /* from the least row behind the last one */
        tn_blob last = page->rows[page->n_rows - 1].key.row;
        tn_buf_done(&s->from);
        tn_buf_put(&s->from, last.p, last.n);
        tn_buf_put(&s->from, "", 1);
    }
    tn_arena_destroy(s->page);
    if (fault || s->found >= RUNS_MAX || (!more && s->table == TN_TABLE_WAKE))
        sweep_end(s, fault);
    else if (more)
        next_page(s);
    else
        begin_table(s, TN_TABLE_WAKE);
}

static void next_page(sweep *s)
{
    s->page = tn_arena_create(0);
    s->op = (tn_store_op){.arena = s->page, .user = s, .done = page_came};
    s->op.u.scan.range = (tn_range){.struct_size = sizeof(tn_range), .limit = PAGE_ROWS};
    s->op.u.scan.range.from =
        tn_store_key(s->page, s->table, s->shard->partition, tn_buf_blob(&s->from));
    s->shard->hl->txns++;
    tn_store_scan(&s->op);
}

void tn_shard_sweep(tn_shard *shard, tn_hreq *req)
{
    sweep *s = tn_xcalloc(1, sizeof(*s));
    s->req = req;
    s->shard = shard;
    bool parsed = tn_uuid_parse(req->ns->id, s->ns_id);
    TN_ASSERT(parsed);
    begin_table(s, TN_TABLE_CURRENT);
}
