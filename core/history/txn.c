/* SPDX-License-Identifier: MIT */
/* A transaction: what the machine has decided about one or two runs of a workflow id becomes one atomic write.
 * After it is durable the caller is answered, readers are told, and what the runs then want is done.  When the
 * write fails, the memory is thrown away and read again: what the store says is the truth. */
#include "history/priv.h"

#include <stdlib.h>

#include "config/dynconfig.h"
#include "namespace/endpoint.h"
#include "proto/proto.h"
#include "visibility/visibility.h"

#define SNAPSHOT_EVERY 100u

static tn_str env_namespace_id(void *user, tn_str name)
{
    tn_txn *txn = user;
    const tn_namespace *ns = tn_namespace_by_name(name);
    tn_str id = {NULL, 0};
    if (ns)
        id = tn_arena_str(txn->arena, ns->id);
    tn_namespace_unref(ns);
    return id;
}

static const tn_fault *env_check_search_attributes(
    void *user, tn_str ns_id, tn_arena *arena, Temporal__Api__Common__V1__SearchAttributes *attrs)
{
    /* Too many bytes end the run instead of its workflow task: the machine counts them itself. */
    static const tn_search_attr_limits any_size = {.value_bytes_max = UINT32_MAX,
                                                   .total_bytes_max = UINT32_MAX};
    tn_txn *txn = user;
    const tn_fault *fault;
    tn_blob packed;
    if (tn_proto_pack(&attrs->base, arena, &packed) != TN_OK)
        return tn_fault_make(arena, TN_GRPC_RESOURCE_EXHAUSTED, "search attributes are too large");
    const tn_namespace *ns =
        tn_str_eq(ns_id, txn->ns->id) ? tn_namespace_ref(txn->ns) : tn_namespace_by_id(ns_id);
    if (!ns)
        return tn_namespace_not_found(arena, ns_id);
    fault = tn_search_attrs_validate(arena, ns, packed, &any_size);
    if (!fault)
        tn_search_attrs_add_types(arena, ns, attrs);
    tn_namespace_unref(ns);
    return fault;
}

static tn_str env_nexus_endpoint(void *user, tn_str name)
{
    tn_txn *txn = user;
    const tn_endpoints *list = tn_endpoints_acquire();
    const Tenon__NexusEndpointRecord *endpoint = tn_endpoints_by_name(list, name);
    tn_str id = {NULL, 0};
    if (endpoint)
        id = tn_arena_str(txn->arena, tn_str_from(endpoint->id));
    tn_endpoints_release(list);
    return id;
}

/* The setting lists names, with commas between. */
static bool env_nexus_header_allowed(void *user, tn_str name)
{
    (void)user;
    tn_str list = tn_dyn_text(TN_DYN_NEXUS_HEADERS_DISALLOWED);
    while (list.n) {
        const char *end = memchr(list.p, ',', list.n);
        tn_str one = {list.p, end ? (size_t)(end - list.p) : list.n};
        if (tn_str_caseeq(one, name))
            return false;
        list.p += one.n + (end ? 1 : 0);
        list.n -= one.n + (end ? 1 : 0);
    }
    return true;
}

tn_txn *tn_txn_begin(tn_wf *wf, tn_hreq *req)
{
    TN_ASSERT(!wf->busy);
    tn_arena *arena = tn_arena_create(0);
    tn_txn *txn = TN_NEW(arena, tn_txn);
    txn->arena = arena;
    txn->hl = wf->shard->hl;
    txn->wf = wf;
    txn->req = req;
    txn->ns = tn_namespace_ref(req->ns);
    tn_history_limits(txn->ns->name, &txn->limits);
    txn->env = (tn_machine_env){
        .ns_name = txn->ns->name,
        .ns_id = txn->ns->id,
        .retention_ns = txn->ns->retention_ns,
        .limits = &txn->limits,
        .namespace_id = env_namespace_id,
        .cross_namespace =
            tn_dyn_bool(TN_DYN_SYSTEM_CROSS_NAMESPACE_COMMANDS, TN_STR(""), TN_STR("")),
        .nexus_endpoint = env_nexus_endpoint,
        .nexus_header_allowed = env_nexus_header_allowed,
        .check_search_attributes = env_check_search_attributes,
        .queue_in_version = tn_history_queue_in_version,
        .user = txn,
    };
    txn->epoch = wf->shard->epoch;
    tn_store_batch_init(&txn->batch, arena);
    wf->busy = true;
    txn->hl->txns++;
    return txn;
}

tn_tx *tn_txn_change(tn_txn *txn, tn_run *run)
{
    TN_ASSERT(txn->n_changes < TN_TXN_CHANGES_MAX);
    tn_change *change = &txn->changes[txn->n_changes++];
    change->run = run;
    if (run->extras_pending && run->ms->n_activities)
        change->unwritten = tn_ms_unwritten(run->ms, txn->arena);
    tn_tx_init(&change->tx, run->ms, &txn->env, txn->arena, tn_now_wall_ns(), &txn->hl->rng);
    return &change->tx;
}

/* again (may be NULL): a request that will be served again.  The machine has hung what it filled in, which lies in the
 * transaction's memory, into the request. */
static void txn_free_for(tn_txn *txn, tn_hreq *again)
{
    for (size_t i = 0; i < txn->n_changes; i++)
        tn_tx_done(&txn->changes[i].tx);
    tn_namespace_unref(txn->ns);
    txn->hl->txns--;
    if (again) {
        tn_arena_set_limit(again->arena, 0);
        tn_arena_adopt(again->arena, txn->arena);
    } else {
        tn_arena_destroy(txn->arena);
    }
}

static void txn_free(tn_txn *txn) { txn_free_for(txn, NULL); }

/* ---- the batch ---- */

static void mark_durable(tn_ms *ms)
{
    if (ms->wft.started_id)
        ms->wft.started_durable = true;
    TN_LIST_FOREACH (link, &ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);
        if (activity->started_ns)
            activity->started_durable = true;
    }
}

static tn_blob pack(tn_txn *txn, const ProtobufCMessage *msg)
{
    tn_blob out = {NULL, 0};
    tn_status status = tn_proto_pack(msg, txn->arena, &out);
    TN_ASSERT(status == TN_OK); /* our own messages in an arena without a cap */
    return out;
}

static tn_key key_of(tn_txn *txn, uint32_t table, tn_blob row)
{
    return tn_store_key(txn->arena, table, txn->wf->shard->partition, row);
}

static void put_wake(tn_txn *txn, tn_change *change, uint64_t wake_ns)
{
    tn_run *run = change->run;
    if (wake_ns == run->wake_stored_ns && !change->created)
        return;
    if (run->wake_stored_ns != UINT64_MAX)
        tn_store_batch_delete(
            &txn->batch, key_of(txn, TN_TABLE_WAKE,
                                tn_store_row_wake(txn->arena, run->wake_stored_ns, run->run_id)));
    if (wake_ns != UINT64_MAX) {
        Tenon__Wake wake = TENON__WAKE__INIT;
        uint8_t *ns_id = tn_arena_alloc(txn->arena, 16);
        if (tn_uuid_parse(tn_str_from(txn->wf->ns_id), ns_id)) {
            wake.ns_id.data = ns_id;
            wake.ns_id.len = 16;
        }
        wake.workflow_id = txn->wf->workflow_id;
        tn_store_batch_put(
            &txn->batch,
            key_of(txn, TN_TABLE_WAKE, tn_store_row_wake(txn->arena, wake_ns, run->run_id)),
            pack(txn, &wake.base));
    }
    run->wake_stored_ns = wake_ns;
}

static void put_outbox(tn_txn *txn, tn_change *change)
{
    tn_shard *shard = txn->wf->shard;
    change->outbox_seq = shard->outbox_next++;
    Tenon__Outbox row = TENON__OUTBOX__INIT;
    row.run_id.data = change->run->run_id;
    row.run_id.len = 16;
    row.doc_version = change->run->ms->transition;
    uint8_t *ns_id = tn_arena_alloc(txn->arena, 16);
    if (tn_uuid_parse(tn_str_from(txn->wf->ns_id), ns_id)) {
        row.ns_id.data = ns_id;
        row.ns_id.len = 16;
    }
    row.workflow_id = txn->wf->workflow_id;
    tn_store_batch_put(
        &txn->batch, key_of(txn, TN_TABLE_OUTBOX, tn_store_row_u64(txn->arena, change->outbox_seq)),
        pack(txn, &row.base));
}

static void put_snapshot(tn_txn *txn, tn_run *run)
{
    run->records_since_snapshot = 0;
    Tenon__Snapshot *snapshot = tn_ms_snapshot(run->ms, txn->arena);
    snapshot->wake_ns = run->wake_stored_ns;
    tn_store_batch_put(&txn->batch,
                       key_of(txn, TN_TABLE_SNAPSHOT, tn_store_row_run(txn->arena, run->run_id)),
                       pack(txn, &snapshot->base));
}

/* The events of this record: what was made before and not written, then what is new. */
static tn_blob record_events(tn_txn *txn, tn_change *change, int64_t *out_first_id)
{
    tn_run *run = change->run;
    *out_first_id = run->tail_events      ? run->tail_first_id
                    : change->tx.n_events ? change->tx.first_event_id
                                          : run->ms->next_event_id;
    if (!run->tail_events)
        return tn_buf_blob(&change->tx.events);
    size_t n = run->tail.n + change->tx.events.n;
    uint8_t *p = tn_arena_alloc(txn->arena, n ? n : 1);
    memcpy(p, run->tail.p, run->tail.n);
    if (change->tx.events.n)
        memcpy(p + run->tail.n, change->tx.events.p, change->tx.events.n);
    return tn_blob_from(p, n);
}

static void put_record(tn_txn *txn, tn_change *change)
{
    tn_run *run = change->run;
    tn_ms *ms = run->ms;
    ms->transition++;
    bool with_extras = change->tx.extras_dirty || run->extras_pending;
    if (with_extras || run->tail_events)
        mark_durable(ms);
    int64_t first_id;
    tn_blob events = record_events(txn, change, &first_id);
    put_wake(txn, change, tn_ms_wake_ns(ms));
    Tenon__Record record = TENON__RECORD__INIT;
    record.events.data = (uint8_t *)(uintptr_t)events.p;
    record.events.len = events.n;
    if (with_extras) {
        tn_blob extras = pack(txn, &tn_ms_extras(ms, txn->arena)->base);
        record.has_extras = true;
        record.extras.data = (uint8_t *)(uintptr_t)extras.p;
        record.extras.len = extras.n;
    }
    if (ms->kind &&
        !change->created) { /* an object has no history: its snapshot is all there is to it */
        put_snapshot(txn, run);
        if (change->tx.visibility_dirty)
            put_outbox(txn, change);
        return;
    }
    uint8_t home[TN_HOME_BYTES];
    if (first_id == 1) {
        tn_wf_home(txn->wf, home);
        record.home = (ProtobufCBinaryData){sizeof(home), home};
    }
    record.transition = ms->transition;
    record.next_event_id = (uint64_t)ms->next_event_id;
    record.wall_ns = change->tx.now_ns;
    record.retention_due_ns = ms->retention_due_ns;
    record.wake_ns = run->wake_stored_ns;
    tn_store_batch_put(
        &txn->batch,
        key_of(txn, TN_TABLE_RECORD,
               tn_store_row_record(txn->arena, run->run_id, (uint64_t)first_id, ms->transition)),
        pack(txn, &record.base));
    if (++run->records_since_snapshot >= SNAPSHOT_EVERY)
        put_snapshot(txn, run);
    if (change->tx.visibility_dirty || change->created)
        put_outbox(txn, change);
}

/* The last change of the transaction is the run that the workflow id then means, unless it isn't current. */
static void put_current(tn_txn *txn)
{
    tn_wf *wf = txn->wf;
    tn_change *last = &txn->changes[txn->n_changes - 1];
    tn_ms *ms = last->run->ms;
    bool is_current = wf->current_exists && memcmp(wf->current_run_id, ms->run_id, 16) == 0;
    bool closed_now = is_current && !tn_ms_running(ms) && wf->current_status == 1;
    if (!last->created && !closed_now)
        return;
    tn_key key = key_of(
        txn, TN_TABLE_CURRENT,
        tn_store_row_current(txn->arena, tn_str_from(wf->ns_id), tn_str_from(wf->workflow_id)));
    if (last->created && (!wf->current_known || !wf->current_exists))
        tn_store_batch_cond(&txn->batch, TN_COND_ABSENT, key, 0);
    else if (last->created)
        tn_store_batch_cond(&txn->batch, TN_COND_VERSION, key, wf->current_version);
    Tenon__CurrentRun row = TENON__CURRENT_RUN__INIT;
    row.run_id.data = last->run->run_id;
    row.run_id.len = 16;
    row.create_request_id = ms->create_request_id ? ms->create_request_id : (char *)"";
    row.status = tn_ms_running(ms) ? 1 : ms->status;
    row.start_ns = tn_ms_shown_start_ns(ms);
    row.close_ns = ms->close_ns;
    uint8_t first_id[16];
    if (tn_uuid_parse(tn_str_from(ms->first_run_id), first_id))
        row.first_run_id = (ProtobufCBinaryData){16, first_id};
    tn_store_batch_put(&txn->batch, key, pack(txn, &row.base));
    txn->put_current = true;
}

static void put_acked_outbox(tn_txn *txn)
{
    tn_shard *shard = txn->wf->shard;
    txn->outbox_gone = TN_NEW_ARRAY(txn->arena, uint64_t, shard->n_outbox_acked + 1);
    for (size_t i = 0; i < shard->n_outbox_acked; i++) {
        txn->outbox_gone[txn->n_outbox_gone++] = shard->outbox_acked[i];
        tn_store_batch_delete(
            &txn->batch,
            key_of(txn, TN_TABLE_OUTBOX, tn_store_row_u64(txn->arena, shard->outbox_acked[i])));
    }
    shard->n_outbox_acked = 0;
}

static bool change_writes(const tn_change *change)
{
    return change->tx.n_events || change->tx.extras_dirty || change->created;
}

static void build_batch(tn_txn *txn)
{
    tn_shard *shard = txn->wf->shard;
    txn->fence_version = shard->fence_version;
    tn_store_batch_cond(&txn->batch, TN_COND_FENCE, tn_shard_fence_key(shard, txn->arena),
                        shard->fence_version);
    for (size_t i = 0; i < txn->n_changes; i++)
        if (change_writes(&txn->changes[i])) {
            tn_reset_put_copied(txn, &txn->changes[i]);
            put_record(txn, &txn->changes[i]);
        }
    put_current(txn);
    put_acked_outbox(txn);
}

/* ---- after the write ---- */

static void change_committed(tn_change *change)
{
    tn_run *run = change->run;
    if (!change_writes(change))
        return;
    int64_t first = run->tail_events ? run->tail_first_id : change->tx.first_event_id;
    if (run->tail_events) {
        tn_buf_put(&run->tail, change->tx.events.p, change->tx.events.n);
        tn_run_cache_events(run, first, run->ms->next_event_id - 1, tn_buf_blob(&run->tail));
        tn_buf_done(&run->tail);
        run->tail_events = 0;
    } else if (change->tx.n_events) {
        tn_run_cache_events(run, first, run->ms->next_event_id - 1,
                            tn_buf_blob(&change->tx.events));
    }
    run->extras_pending = false;
}

static void remember_current(tn_txn *txn)
{
    tn_wf *wf = txn->wf;
    if (txn->epoch != wf->shard->epoch)
        wf->current_known = false; /* another owner may have gone on from there */
    if (!txn->put_current || txn->epoch != wf->shard->epoch)
        return;
    tn_ms *ms = txn->changes[txn->n_changes - 1].run->ms;
    wf->current_known = wf->current_exists = true;
    if (txn->op.u.commit.commit.version)
        wf->current_version = txn->op.u.commit.commit.version;
    memcpy(wf->current_run_id, ms->run_id, 16);
    memcpy(wf->current_first_run_id, ms->first_run_id, sizeof(wf->current_first_run_id));
    free(wf->current_request_id);
    wf->current_request_id = tn_xstrdup(ms->create_request_id ? ms->create_request_id : "");
    wf->current_status = tn_ms_running(ms) ? 1 : ms->status;
    wf->current_start_ns = tn_ms_shown_start_ns(ms);
    wf->current_close_ns = ms->close_ns;
}

static void succeed(tn_txn *txn)
{
    tn_wf *wf = txn->wf;
    tn_hreq *req = txn->req;
    for (size_t i = 0; i < txn->n_changes; i++) {
        change_committed(&txn->changes[i]);
        tn_history_count(txn, &txn->changes[i]);
    }
    remember_current(txn);
    if (txn->after)
        txn->after(txn);
    if (!txn->keep_req)
        tn_req_finish(req, txn->fault ? tn_fault_copy(req->arena, txn->fault) : req->fault);
    for (size_t i = 0; i < txn->n_changes; i++) {
        tn_change *change = &txn->changes[i];
        tn_run_account(change->run);
        if (!tn_list_empty(&change->run->updates))
            tn_updates_settle(change->run, &change->tx);
        if (change->tx.n_events || (change->run->ms->kind && change->tx.extras_dirty))
            tn_history_notify(change->run);
        if (change->outbox_seq)
            tn_visibility_write(change->run, change->outbox_seq);
        tn_run_effects(change->run);
    }
    txn_free(txn);
    tn_wf_resume(wf, NULL);
}

/* What a request in doubt must know when it is served again. */
typedef struct doubt {
    uint64_t transition; /* that the run has reached if the write was made... */
    uint64_t epoch;      /* ... for the shard has been ours ever since */
    tn_wft_completed_out wft_out;
} doubt;

/* Nobody else can have brought the run there: the workflow was busy, and the fence is raised. */
bool tn_doubt_was_made(tn_hreq *req, const tn_run *run, tn_wft_completed_out *out)
{
    const doubt *d = req->progress;
    if (!d)
        return false;
    req->progress = NULL;
    if (out)
        *out = d->wft_out;
    return d->epoch == run->wf->shard->epoch && run->ms->transition >= d->transition;
}

/* Who answers a task has only one try: under its token or id nothing is found any more when the first was written
 * after all, and what the answer would have brought (activities that start eagerly) is lost.  So it waits until the
 * shard's fence is raised and the run read again, and is then told what is true, or served for the first time. */
static bool waits_for_truth(tn_txn *txn)
{
    tn_hreq *req = txn->req;
    if (txn->epoch != txn->wf->shard->epoch)
        /* another owner has gone on from there: nobody can tell any more whose doing it was */
        return false;
    if (txn->fault || (txn->op.status != TN_EUNCERTAIN && txn->op.status != TN_EFENCED))
        return false;
    switch ((int)req->op) {
    case TN_HOP_ACT_POLLED: /* knows its start by its own name */
    case TN_HOP_ACT_HEARTBEAT: /* the same twice is the same; refused once, an SDK's next may come too late */
        return true;
    case TN_HOP_ACT_COMPLETED:
    case TN_HOP_ACT_FAILED:
    case TN_HOP_ACT_CANCELED:
    case TN_HOP_WFT_COMPLETED:
    case TN_HOP_TERMINATE: /* which would find the run closed, by itself */
    case TN_HOP_REQUEST_CANCEL:
    case TN_HOP_NEXUS_COMPLETE:
        if (txn->op.status == TN_EUNCERTAIN) {
            const tn_ms *ms = txn->changes[0].run->ms;
            tn_arena_set_limit(req->arena, 0);
            doubt *d = TN_NEW(req->arena, doubt);
            d->transition = ms->transition;
            d->epoch = txn->epoch;
            d->wft_out = txn->wft_out;
            req->progress = d;
            req->run_id = tn_arena_str(req->arena, tn_str_from(ms->run_id_text));
        }
        return true;
    default:
        return false;
    }
}

static void fail(tn_txn *txn)
{
    tn_wf *wf = txn->wf;
    tn_hreq *req = txn->req;
    tn_status status = txn->op.status;
    bool lost_race = status == TN_ECONFLICT;
    for (size_t i = 0; i < txn->n_changes; i++) {
        tn_run *run = txn->changes[i].run;
        /* A run that may have been created after all is woken too: nobody else knows of it yet. */
        if ((!txn->changes[i].created || status == TN_EUNCERTAIN) && !wf->shard->hl->stopping)
            tn_iop_send_later(tn_iop_create(wf, run->run_id, TN_IOP_WAKE), TN_SEC);
        if (!txn->changes[i].created && txn->epoch == wf->shard->epoch)
            tn_memory_keep(run, txn->changes[i].unwritten);
        run->doomed = true;
    }
    wf->current_known = false;
    for (size_t i = 0; i < txn->n_outbox_gone; i++)
        tn_outbox_ack(wf->shard, txn->outbox_gone[i]);
    tn_error err;
    if (lost_race &&
        tn_wf_learn_current(wf, txn->arena, &txn->op.u.commit.commit.current, &err) != TN_OK)
        wf->current_known = lost_race = false;
    if (status == TN_EUNCERTAIN ||
        (status == TN_EFENCED && txn->fence_version == wf->shard->fence_version))
        tn_shard_doubt(wf->shard, txn->op.error.text);
    if (!lost_race) {
        TN_LOG(TN_LOG_WARN, "history", "a commit failed", TN_LOG_Z("workflow_id", wf->workflow_id),
               TN_LOG_Z("status", tn_status_name(status)), TN_LOG_Z("why", txn->op.error.text));
    }
    if (!lost_race && !waits_for_truth(txn)) {
        tn_req_finish(req, tn_fault_from_status(req->arena,
                                                status == TN_EFENCED ? TN_EUNAVAILABLE : status,
                                                &txn->op.error));
        req = NULL;
    }
    txn_free_for(txn, req);
    /* A conflict means: there is a current run we did not know.  Serve the request again, knowing it. */
    tn_wf_resume(wf, req);
}

static void committed(tn_store_op *op)
{
    tn_txn *txn = op->user;
    if (op->status == TN_OK)
        succeed(txn);
    else
        fail(txn);
}

static void add_next_run(tn_txn *txn)
{
    for (size_t i = 0; i < txn->n_changes; i++) {
        tn_tx *next = txn->changes[i].tx.next_run;
        if (!next || i + 1 < txn->n_changes)
            continue;
        TN_ASSERT(txn->n_changes < TN_TXN_CHANGES_MAX);
        tn_change *change = &txn->changes[txn->n_changes++];
        change->run = tn_run_create(txn->wf, next->ms);
        change->tx = *next;
        change->created = true;
        *next = (tn_tx){0}; /* its buffers are the change's now */
        txn->changes[i].tx.next_run = NULL;
        break;
    }
}

void tn_txn_commit(tn_txn *txn, const tn_fault *fault)
{
    txn->fault = fault;
    for (size_t i = 0; i < txn->n_changes; i++)
        tn_tx_finish(&txn->changes[i].tx);
    add_next_run(txn);
    bool writes = false;
    for (size_t i = 0; i < txn->n_changes; i++)
        writes = writes || change_writes(&txn->changes[i]);
    if (!writes) {
        succeed(txn);
        return;
    }
    build_batch(txn);
    txn->op.arena = txn->arena;
    txn->op.user = txn;
    txn->op.done = committed;
    txn->op.u.commit.batch = tn_store_batch_finish(&txn->batch);
    txn->op.account = tn_door_account(txn->req, txn->ns, txn->wf->shard->id);
    tn_store_commit(&txn->op);
}

void tn_txn_abandon(tn_txn *txn, const tn_fault *fault)
{
    tn_wf *wf = txn->wf;
    tn_hreq *req = txn->req;
    for (size_t i = 0; i < txn->n_changes; i++)
        if (txn->changes[i].created)
            txn->changes[i].run->doomed = true;
    const tn_fault *copy = fault ? tn_fault_copy(req->arena, fault) : req->fault;
    bool keep = txn->keep_req;
    txn_free(txn);
    if (!keep)
        tn_req_finish(req, copy);
    tn_wf_resume(wf, NULL);
}
