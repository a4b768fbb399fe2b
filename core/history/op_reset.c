/* SPDX-License-Identifier: MIT */
/* ResetWorkflowExecution: reads what the base run and those that follow it were told, folds the common part under a new run
 * id, and writes all that changes (the base run, the current one, the new one) in one commit.
 *
 * The new run has records of its own for the common events: copies of their bytes in rows of COPY_BYTES, so that each
 * run's rows are its own, whatever is deleted, moved or checked first. */
#include "history/object.h"

#include <stdio.h>

#include "proto/proto.h"

#define COPY_BYTES (64u << 10) /* of events in a row */
#define COPIED_MAX (64u << 20) /* of events in the commit */
#define FOLLOWED_MAX 1000      /* runs of a chain that are looked through */

typedef Temporal__Api__Workflowservice__V1__ResetWorkflowExecutionRequest reset_request;

#define CONTINUED \
    TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_CONTINUED_AS_NEW_EVENT_ATTRIBUTES

typedef struct part { /* events of one run */
    struct part *next;
    tn_blob events;
} part;

/* In the request's arena: how far a reset has come when it is served again. */
typedef struct resetting {
    tn_wf *wf;
    tn_hreq *req;
    part *parts, **last; /* the base run's whole history, then those of the runs that follow */
    char visited[37];    /* the last one read */
    char following[37];  /* the next one; empty: none */
    size_t followed;
    bool read_all;
    uint32_t excluded;
    tn_read read;
} resetting;

/* ---- reading --------------------------------------------------------------------------------- */

static bool next_event(tn_wire_iter *it, tn_arena *arena, tn_event **out, tn_blob *packed)
{
    tn_wire_field field;
    if (!tn_wire_next(it, &field))
        return false;
    *packed = field.bytes;
    if (TN_PROTO_UNPACK(temporal__api__history__v1__history_event, field.bytes, arena, out, NULL) !=
        TN_OK)
        *out = NULL;
    return true;
}

static tn_event *last_event(tn_blob events, tn_arena *arena)
{
    tn_event *event = NULL;
    tn_wire_field field;
    tn_blob last = {NULL, 0};
    for (tn_wire_iter it = tn_wire_begin(events); tn_wire_next(&it, &field);)
        last = field.bytes;
    if (TN_PROTO_UNPACK(temporal__api__history__v1__history_event, last, arena, &event, NULL) !=
        TN_OK)
        return NULL;
    return event;
}

/* The run that the one with these events has continued as. */
static void follow(resetting *rs, tn_blob events)
{
    tn_event *event = last_event(events, rs->req->arena);
    rs->following[0] = '\0';
    if (event && event->attributes_case == CONTINUED && ++rs->followed < FOLLOWED_MAX)
        (void)snprintf(
            rs->following, sizeof(rs->following), "%s",
            event->workflow_execution_continued_as_new_event_attributes->new_execution_run_id);
    rs->read_all = !rs->following[0];
}

static void came(tn_read *read)
{
    resetting *rs = read->user;
    tn_hreq *req = rs->req;
    tn_wf *wf = rs->wf;
    if (read->status != TN_OK) {
        tn_buf_done(&read->body);
        tn_req_finish(req, tn_fault_from_status(req->arena, read->status, &read->error));
        tn_wf_resume(wf, NULL);
        return;
    }
    if (read->n_events) {
        part *p = TN_NEW(req->arena, part);
        p->events = tn_arena_blob(req->arena, tn_buf_blob(&read->body));
        *rs->last = p;
        rs->last = &p->next;
        tn_uuid_format(read->run_id, rs->visited);
        follow(rs, p->events);
    } else { /* a run of the chain has been deleted: the rest can't be found */
        rs->read_all = true;
    }
    tn_buf_done(&read->body);
    tn_wf_resume(wf, req);
}

/* The whole history of a run, to rs->parts; the request is served again then. */
static void read_run(resetting *rs, const uint8_t run_id[16])
{
    rs->read = (tn_read){.arena = rs->req->arena,
                         .req = rs->req,
                         .from = 1,
                         .to = INT64_MAX - 1,
                         .events_max = SIZE_MAX,
                         .done = came,
                         .user = rs};
    rs->wf->busy = true;
    tn_run *run = tn_run_find(rs->wf, run_id);
    if (run)
        tn_read_events(&rs->read, run);
    else
        tn_read_stored(&rs->read, rs->wf, run_id);
}

/* ---- the new run ----------------------------------------------------------------------------- */

typedef struct making {
    resetting *rs;
    const reset_request *request;
    tn_txn *txn;
    tn_run *base, *current; /* current may be NULL or the base */
    tn_ms *ms;
    tn_tx tx; /* of the new run: its place in the transaction is the last */
    tn_copied *copied;
    size_t n_copied;
} making;

static void copy_row(making *mk, tn_blob events, int64_t first_id, int64_t next_id)
{
    if (events.n)
        mk->copied[mk->n_copied++] =
            (tn_copied){.events = events, .first_id = first_id, .next_id = next_id};
}

/* Folds the base run's events before `finish_id` and cuts their bytes into rows. */
static const tn_fault *fold_common(making *mk, int64_t finish_id)
{
    tn_arena *arena = mk->txn->arena, *scratch = tn_arena_create(0);
    tn_blob all = mk->rs->parts->events, packed;
    const uint8_t *row = all.p, *end = all.p;
    int64_t row_id = 1;
    tn_event *event;
    tn_error err = {0};
    tn_status status = TN_OK;
    mk->copied = TN_NEW_ARRAY(arena, tn_copied, all.n / COPY_BYTES + 2);
    tn_wire_iter it = tn_wire_begin(all);
    while (status == TN_OK && mk->ms->next_event_id < finish_id &&
           next_event(&it, scratch, &event, &packed)) {
        if (!event)
            status = tn_error_set(&err, TN_EDATALOSS, "an event can't be read");
        else
            status = tn_ms_apply(mk->ms, event, packed, &err);
        end = packed.p + packed.n;
        if ((size_t)(end - row) >= COPY_BYTES) {
            copy_row(mk, tn_blob_from(row, (size_t)(end - row)), row_id, mk->ms->next_event_id);
            row = end;
            row_id = mk->ms->next_event_id;
        }
        tn_arena_reset(scratch);
    }
    copy_row(mk, tn_blob_from(row, (size_t)(end - row)), row_id, mk->ms->next_event_id);
    tn_arena_destroy(scratch);
    if (status == TN_OK && mk->ms->next_event_id != finish_id)
        status = tn_error_set(&err, TN_EDATALOSS, "the history of the base run is not whole");
    if (status == TN_OK && (size_t)(end - all.p) > COPIED_MAX)
        return tn_fault_make(arena, TN_GRPC_RESOURCE_EXHAUSTED,
                             "the history up to that event is too large to be copied");
    return status == TN_OK ? NULL : tn_fault_from_status(arena, status, &err);
}

/* What events tell, from `from_id` on. */
static const tn_fault *reapply(making *mk, tn_blob events, int64_t from_id)
{
    const tn_fault *fault = NULL;
    tn_event *event;
    tn_blob packed;
    tn_wire_iter it = tn_wire_begin(events);
    while (!fault && next_event(&it, mk->txn->arena, &event, &packed))
        if (event && event->event_id >= from_id)
            fault = tn_machine_reapply(&mk->tx, event, mk->rs->excluded);
    return fault;
}

static const tn_fault *reapply_parts(making *mk, int64_t finish_id)
{
    const tn_fault *fault = NULL;
    int64_t from_id = finish_id;
    if (mk->rs->excluded == TN_REAPPLY_NOTHING)
        return NULL;
    for (const part *p = mk->rs->parts; p && !fault; p = p->next) {
        fault = reapply(mk, p->events, from_id);
        from_id = 1;
    }
    return fault;
}

/* The current run ends; what it had been told and not yet written is told to the new run too, if the
 * chain that was followed has come to it. */
static const tn_fault *end_current(making *mk)
{
    tn_ms *ms = mk->current->ms;
    bool in_chain = mk->current == mk->base;
    tn_tx *tx = tn_txn_change(mk->txn, mk->current);
    tx->now_ns = mk->tx.now_ns; /* one run ends when the other begins */
    if (mk->current == mk->base)
        tn_machine_was_reset(tx, tn_str_from(mk->ms->run_id_text));
    if (!tn_ms_running(ms))
        return NULL;
    const tn_fault *fault =
        tn_machine_terminate(tx, tn_str_from(mk->request->reason), NULL, TN_STR(TN_RESETTER));
    if (mk->rs->excluded != TN_REAPPLY_NOTHING)
        in_chain = strcmp(mk->rs->visited, ms->run_id_text) == 0;
    if (!fault && in_chain)
        fault = reapply(mk, tn_buf_blob(&tx->events), 1);
    return fault;
}

static const tn_fault *do_operations(making *mk)
{
    const tn_fault *fault = NULL;
    for (size_t i = 0; !fault && i < mk->request->n_post_reset_operations; i++)
        fault = tn_machine_post_reset(&mk->tx, mk->request->post_reset_operations[i],
                                      tn_str_from(mk->request->identity));
    return fault;
}

static const tn_fault *make(making *mk)
{
    int64_t finish_id = mk->request->workflow_task_finish_event_id;
    tn_reset reset = {.base_run_id = tn_str_from(mk->base->ms->run_id_text),
                      .reason = tn_str_from(mk->request->reason),
                      .request_id = tn_str_from(mk->request->request_id)};
    const tn_fault *fault = fold_common(mk, finish_id);
    if (fault)
        return fault;
    uint64_t now_ns = tn_now_wall_ns();
    if (mk->current && mk->current->ms->last_event_ns > now_ns)
        now_ns = mk->current->ms->last_event_ns;
    tn_tx_init(&mk->tx, mk->ms, &mk->txn->env, mk->txn->arena, now_ns, &mk->txn->hl->rng);
    fault = tn_machine_reset(&mk->tx, &reset);
    if (mk->base->ms->owner) { /* whoever started the chain waits for its end still */
        tn_ms_set_owner(mk->ms, tn_str_from(mk->base->ms->owner),
                        tn_str_from(mk->base->ms->owner_run_id), mk->base->ms->owner_ref);
        mk->tx.extras_dirty = true;
    }
    if (!fault)
        fault = reapply_parts(mk, finish_id);
    return fault;
}

static void made(tn_txn *txn)
{
    tn_hreq *req = txn->req;
    if (txn->fault)
        return;
    Temporal__Api__Workflowservice__V1__ResetWorkflowExecutionResponse *out =
        tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__reset_workflow_execution_response__init(out);
    out->run_id =
        tn_arena_strdup(req->arena, txn->changes[txn->n_changes - 1].run->ms->run_id_text);
    req->response = &out->base;
}

/* Runs whose memory is ahead of the store are read again. */
static void take_back(making *mk)
{
    for (size_t i = 0; i < mk->txn->n_changes; i++) {
        tn_run *run = mk->txn->changes[i].run;
        tn_memory_keep(run, mk->txn->changes[i].unwritten);
        run->doomed = true;
        tn_iop_send(tn_iop_create(mk->rs->wf, run->run_id, TN_IOP_WAKE));
    }
}

static void commit(making *mk)
{
    tn_txn *txn = mk->txn;
    tn_change *change = &txn->changes[txn->n_changes++];
    tn_machine_reset_end(&mk->tx);
    if (mk->base->ms->create_request_id)
        tn_ms_set_create_request_id(mk->ms, tn_str_from(mk->base->ms->create_request_id));
    *change = (tn_change){.run = tn_run_create(mk->rs->wf, mk->ms),
                          .tx = mk->tx,
                          .created = true,
                          .copied = mk->copied,
                          .n_copied = mk->n_copied};
    mk->ms->transition = mk->n_copied;
    txn->after = made;
    tn_txn_commit(txn, NULL);
}

static void build(resetting *rs, tn_run *base, tn_run *current)
{
    tn_hreq *req = rs->req;
    making mk = {.rs = rs,
                 .request = (const reset_request *)req->request,
                 .txn = tn_txn_begin(rs->wf, req),
                 .base = base,
                 .current = current};
    uint8_t run_id[16];
    tn_uuid_v7(&mk.txn->hl->rng, tn_now_wall_ns(), run_id);
    mk.ms = tn_ms_create(tn_str_from(rs->wf->ns_id), tn_str_from(rs->wf->workflow_id), run_id);
    const tn_fault *fault = make(&mk);
    /* From here on the states of other runs change: only the machine's own refusal may still come. */
    if (!fault && base != current)
        tn_machine_was_reset(tn_txn_change(mk.txn, base), tn_str_from(mk.ms->run_id_text));
    if (!fault && current && (current == base || tn_ms_running(current->ms)))
        fault = end_current(&mk);
    if (!fault)
        fault = do_operations(&mk);
    if (!fault) {
        commit(&mk);
        return;
    }
    take_back(&mk);
    tn_tx_done(&mk.tx);
    tn_ms_destroy(mk.ms);
    tn_txn_abandon(mk.txn, fault);
}

/* ---- the rows of the common part ---------------------------------------------------------------- */

void tn_reset_put_copied(tn_txn *txn, const tn_change *change)
{
    uint8_t home[TN_HOME_BYTES];
    tn_wf_home(txn->wf, home);
    for (size_t i = 0; i < change->n_copied; i++) {
        const tn_copied *from = &change->copied[i];
        Tenon__Record record = TENON__RECORD__INIT;
        tn_blob packed = {NULL, 0};
        record.events = (ProtobufCBinaryData){from->events.n, (uint8_t *)(uintptr_t)from->events.p};
        if (i == 0)
            record.home = (ProtobufCBinaryData){sizeof(home), home};
        record.transition = i + 1;
        record.next_event_id = (uint64_t)from->next_id;
        record.wall_ns = change->tx.now_ns;
        record.wake_ns = UINT64_MAX;
        tn_status status = tn_proto_pack(&record.base, txn->arena, &packed);
        TN_ASSERT(status == TN_OK);
        tn_store_batch_put(&txn->batch,
                           tn_store_key(txn->arena, TN_TABLE_RECORD, txn->wf->shard->partition,
                                        tn_store_row_record(txn->arena, change->run->run_id,
                                                            (uint64_t)from->first_id, i + 1)),
                           packed);
    }
}

/* ---- the operation --------------------------------------------------------------------------- */

/* The deprecated type says what to include, the list what to leave out. */
static uint32_t excluded(const reset_request *request)
{
    uint32_t out = 0;
    if (request->reset_reapply_type == 1) /* SIGNAL */
        out |= TN_REAPPLY_NO_UPDATES;
    else if (request->reset_reapply_type == 2) /* NONE */
        out |= TN_REAPPLY_NO_SIGNALS | TN_REAPPLY_NO_UPDATES;
    for (size_t i = 0; i < request->n_reset_reapply_exclude_types; i++) {
        int type = (int)request->reset_reapply_exclude_types[i];
        out |= type == 1   ? TN_REAPPLY_NO_SIGNALS
               : type == 2 ? TN_REAPPLY_NO_UPDATES
               : type == 3 ? TN_REAPPLY_NO_NEXUS
               : type == 4 ? TN_REAPPLY_NO_CANCELS
                           : 0;
    }
    return out;
}

static resetting *begin(tn_wf *wf, tn_hreq *req)
{
    tn_arena_set_limit(req->arena, 0);
    resetting *rs = TN_NEW(req->arena, resetting);
    rs->req = req;
    rs->last = &rs->parts;
    rs->excluded = excluded((const reset_request *)req->request);
    rs->wf = wf;
    return rs;
}

static bool made_before(const tn_ms *current, const char *request_id)
{
    return (current->reset.request_id && strcmp(current->reset.request_id, request_id) == 0) ||
           (current->create_request_id && strcmp(current->create_request_id, request_id) == 0);
}

static void answer_run(tn_hreq *req, const tn_ms *ms)
{
    Temporal__Api__Workflowservice__V1__ResetWorkflowExecutionResponse *out =
        tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__reset_workflow_execution_response__init(out);
    out->run_id = tn_arena_strdup(req->arena, ms->run_id_text);
    req->response = &out->base;
    tn_req_finish(req, NULL);
}

void tn_op_reset(tn_wf *wf, tn_hreq *req)
{
    const reset_request *request = (const reset_request *)req->request;
    tn_run *base = tn_resolve(wf, req), *current = NULL;
    if (!base)
        return;
    if (request->workflow_task_finish_event_id <= 1 ||
        request->workflow_task_finish_event_id >= base->ms->next_event_id) {
        tn_req_finish(
            req,
            tn_fault_make(req->arena, TN_GRPC_INVALID_ARGUMENT,
                          "Workflow task finish ID must be > 1 && <= workflow last event ID."));
        return;
    }
    if (wf->current_exists && !(current = tn_run_find(wf, wf->current_run_id))) {
        tn_load_run(wf, wf->current_run_id, req);
        return;
    }
    if (current && made_before(current->ms, request->request_id)) {
        answer_run(req, current->ms);
        return;
    }
    resetting *rs = req->progress;
    uint8_t run_id[16];
    if (!rs) {
        req->progress = rs = begin(wf, req);
        req->run_id =
            tn_arena_str(req->arena, tn_str_from(base->ms->run_id_text)); /* it stays the base */
    }
    rs->wf = wf;
    if (!rs->parts && !rs->read_all)
        read_run(rs, base->run_id);
    else if (!rs->read_all && tn_uuid_parse(tn_str_from(rs->following), run_id))
        read_run(rs, run_id);
    else if (!rs->parts)
        tn_req_finish(req, tn_fault_run_not_found(req->arena, req->workflow_id, req->run_id));
    else
        build(rs, base, current);
}
