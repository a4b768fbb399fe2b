/* SPDX-License-Identifier: MIT */
/* What operators ask of a run: its state as memory and as the store have it, and its tasks offered anew.  The store's
 * is folded from a snapshot and records that are read for this alone: the run itself goes on meanwhile. */
#include "history/priv.h"

#include "admin/service.pb-c.h"
#include "proto/proto.h"

#define READ_ROWS 200u
#define READ_BYTES (1u << 20)

typedef Temporal__Server__Api__Adminservice__V1__DescribeMutableStateResponse state_response;

typedef struct look {
    tn_arena *arena; /* of the rows */
    tn_hreq *req;
    tn_hloop *hl;
    state_response *out;
    uint32_t partition;
    uint8_t run_id[16];
    char *ns_id, *workflow_id, *create_request_id;
    tn_ms *ms;
    tn_store_op op;
} look;

static void look_end(look *l, const tn_fault *fault)
{
    tn_hreq *req = l->req;
    if (!fault) {
        if (l->create_request_id && !l->ms->create_request_id)
            tn_ms_set_create_request_id(l->ms, tn_str_from(l->create_request_id));
        l->out->database_mutable_state = tn_machine_operator_view(l->ms, req->arena);
        req->response = tn_proto_copy(&l->out->base, req->arena); /* before the state goes */
    }
    const tn_fault *kept = fault ? tn_fault_copy(req->arena, fault) : NULL;
    tn_ms_destroy(l->ms);
    l->hl->txns--;
    tn_arena_destroy(l->arena);
    tn_req_finish(req, kept);
}

static tn_status fold(look *l, const tn_row *row, tn_error *err)
{
    Tenon__Record *record = NULL;
    tn_arena *arena = tn_arena_create(0);
    tn_status status = tn_proto_unpack(&tenon__record__descriptor, row->value, arena,
                                       (ProtobufCMessage **)(void *)&record, err);
    if (status == TN_OK)
        status = tn_ms_load_record(l->ms, record, err);
    tn_arena_destroy(arena);
    return status;
}

static void records_came(tn_store_op *op)
{
    look *l = op->user;
    tn_error err = op->error;
    tn_status status = op->status;
    const tn_page *page = &op->u.scan.page;
    for (size_t i = 0; status == TN_OK && i < page->n_rows; i++)
        status = fold(l, &page->rows[i], &err);
    if (status == TN_OK && page->next.n) {
        op->u.scan.range.page = tn_arena_blob(l->arena, page->next);
        tn_store_scan(op);
        return;
    }
    look_end(l, status == TN_OK ? NULL : tn_fault_from_status(l->arena, status, &err));
}

static void snapshot_came(tn_store_op *op)
{
    look *l = op->user;
    tn_error err = op->error;
    tn_status status = op->status;
    Tenon__Snapshot *snapshot = NULL;
    if (status == TN_OK)
        status = tn_proto_unpack(&tenon__snapshot__descriptor, op->u.get.row.value, l->arena,
                                 (ProtobufCMessage **)(void *)&snapshot, &err);
    if (status == TN_OK && !(l->ms = tn_ms_load_snapshot(snapshot, &err)))
        status = err.code != TN_OK ? err.code : TN_EDATALOSS;
    if (status == TN_ENOTFOUND) {
        l->ms = tn_ms_create(tn_str_from(l->ns_id), tn_str_from(l->workflow_id), l->run_id);
        status = TN_OK;
    }
    if (status != TN_OK) {
        look_end(l, tn_fault_from_status(l->arena, status, &err));
        return;
    }
    uint8_t end[16];
    memcpy(end, l->run_id, 16);
    for (int i = 15; i >= 0 && ++end[i] == 0; i--) {
    }
    tn_range *range = &op->u.scan.range;
    *range = (tn_range){.struct_size = sizeof(*range), .limit = READ_ROWS, .bytes_max = READ_BYTES};
    range->from =
        tn_store_key(l->arena, TN_TABLE_RECORD, l->partition,
                     tn_store_row_record(l->arena, l->run_id, (uint64_t)l->ms->next_event_id,
                                         l->ms->transition ? l->ms->transition + 1 : 0));
    range->to_row = tn_arena_blob(l->arena, tn_blob_from(end, 16));
    op->done = records_came;
    tn_store_scan(op);
}

static void read_store(tn_run *run, tn_hreq *req, state_response *out)
{
    tn_arena *arena = tn_arena_create(0);
    look *l = TN_NEW(arena, look);
    *l = (look){.arena = arena,
                .req = req,
                .hl = run->wf->shard->hl,
                .out = out,
                .partition = run->wf->shard->partition};
    memcpy(l->run_id, run->run_id, 16);
    l->ns_id = tn_arena_strdup(arena, run->wf->ns_id);
    l->workflow_id = tn_arena_strdup(arena, run->wf->workflow_id);
    l->create_request_id =
        run->ms->create_request_id ? tn_arena_strdup(arena, run->ms->create_request_id) : NULL;
    l->op = (tn_store_op){.arena = arena, .user = l, .done = snapshot_came};
    l->op.u.get.key =
        tn_store_key(arena, TN_TABLE_SNAPSHOT, l->partition, tn_store_row_run(arena, run->run_id));
    l->hl->txns++;
    tn_store_get(&l->op);
}

static tn_run *in_memory(const tn_wf *wf, const tn_hreq *req)
{
    uint8_t run_id[16];
    if (req->run_id.n)
        return tn_uuid_parse(req->run_id, run_id) ? tn_run_find(wf, run_id) : NULL;
    return wf->current_known && wf->current_exists ? tn_run_find(wf, wf->current_run_id) : NULL;
}

/* The first service of the request says what was in memory before anybody asked. */
void tn_op_mutable_state(tn_wf *wf, tn_hreq *req)
{
    const Temporal__Server__Api__Adminservice__V1__DescribeMutableStateRequest *asked =
        (const void *)req->request;
    state_response *out = req->progress;
    tn_arena_set_limit(req->arena, 0);
    if (!out) {
        req->progress = out = tn_arena_alloc(req->arena, sizeof(*out));
        temporal__server__api__adminservice__v1__describe_mutable_state_response__init(out);
        out->shard_id = tn_arena_printf(req->arena, "%u", wf->shard->id);
        out->history_addr = (char *)(uintptr_t)tn_shard_owner_name();
        const tn_run *cached = in_memory(wf, req);
        if (cached && !cached->doomed) {
            state_response seen = *out;
            seen.cache_mutable_state = tn_machine_operator_view(cached->ms, req->arena);
            req->progress = out = (state_response *)tn_proto_copy(&seen.base, req->arena);
            TN_ASSERT(out);
        }
    }
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (out->cache_mutable_state && asked->skip_force_reload) {
        req->response = &out->base;
        tn_req_finish(req, NULL);
    } else {
        read_store(run, req, out);
    }
}

/* Whatever was offered is offered once more; the former offers are stale from now on. */
void tn_op_refresh(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (!run->ms->wft.started_id)
        run->ms->wft.dispatched = false;
    TN_LIST_FOREACH (link, &run->ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);
        if (!activity->started_ns)
            activity->dispatched = false;
    }
    tn_run_effects(run);
    Temporal__Server__Api__Adminservice__V1__RefreshWorkflowTasksResponse *out =
        tn_arena_alloc(req->arena, sizeof(*out));
    temporal__server__api__adminservice__v1__refresh_workflow_tasks_response__init(out);
    req->response = &out->base;
    tn_req_finish(req, NULL);
}
