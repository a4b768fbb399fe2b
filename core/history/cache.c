/* SPDX-License-Identifier: MIT */
/* What history keeps in memory: workflows (the lock and waiting line of one id), runs (mutable state and the
 * tail of the history), bounded in bytes; and loading them from the store. */
#include "history/object.h"

#include <stdlib.h>

#include "proto/proto.h"

#define CACHED_EVENTS_BYTES_MAX (256u * 1024u) /* of one run's history */
/* What has closed is asked for its result, then hardly ever again. */
#define CLOSED_SHARE 8u /* of the cache, as a divisor */
#define LOAD_ROWS 500u
#define LOAD_BYTES (4u * 1024u * 1024u)

/* ---- workflows ---- */

/* With the shard: when the number of shards changes, a workflow of the same loop may be another shard's, while what
 * the former one had begun is still coming to its end. */
static tn_blob wf_key(tn_arena *arena, const tn_shard *shard, tn_str ns_id, tn_str workflow_id)
{
    uint8_t *p = tn_arena_alloc(arena, 4 + ns_id.n + 1 + workflow_id.n);
    tn_put_u32be(p, shard->id);
    memcpy(p + 4, ns_id.p, ns_id.n);
    p[4 + ns_id.n] = 0;
    memcpy(p + 4 + ns_id.n + 1, workflow_id.p, workflow_id.n);
    return tn_blob_from(p, 4 + ns_id.n + 1 + workflow_id.n);
}

static char *dup_str(tn_str s)
{
    char *p = tn_xmalloc(s.n + 1);
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return p;
}

tn_wf *tn_wf_get(tn_shard *shard, tn_str ns_id, tn_str workflow_id)
{
    tn_arena *scratch = tn_arena_create(0);
    tn_blob key = wf_key(scratch, shard, ns_id, workflow_id);
    tn_map_link *found = tn_map_find(&shard->hl->wfs, key);
    tn_wf *wf = found ? TN_CONTAINER_OF(found, tn_wf, link) : NULL;
    if (!wf) {
        wf = tn_xcalloc(1, sizeof(*wf));
        wf->shard = shard;
        wf->ns_id = dup_str(ns_id);
        wf->workflow_id = dup_str(workflow_id);
        wf->hash = tn_hash64_stable(tn_blob_of_str(ns_id), tn_blob_of_str(workflow_id));
        wf->key = tn_xmalloc(key.n);
        memcpy(wf->key, key.p, key.n);
        tn_list_init(&wf->queue);
        tn_list_init(&wf->paused);
        tn_list_init(&wf->late);
        tn_list_init(&wf->runs);
        tn_map_insert(&shard->hl->wfs, &wf->link, tn_blob_from(wf->key, key.n));
    }
    tn_arena_destroy(scratch);
    return wf;
}

void tn_wf_maybe_drop(tn_wf *wf)
{
    if (wf->busy || wf->stepping || !tn_list_empty(&wf->paused) || !tn_list_empty(&wf->queue) ||
        !tn_list_empty(&wf->runs))
        return;
    tn_late_forget(wf);
    tn_map_remove(&wf->shard->hl->wfs, &wf->link);
    free(wf->ns_id);
    free(wf->workflow_id);
    free(wf->current_request_id);
    free(wf->key);
    free(wf);
}

/* ---- runs ---- */

static void run_timer_fired(tn_loop_timer *timer)
{
    tn_run *run = TN_CONTAINER_OF(timer, tn_run, timer);
    if (run->fire_queued)
        return;
    run->fire_queued = true;
    tn_iop *iop = tn_iop_create(run->wf, run->run_id, TN_IOP_FIRE);
    tn_wf_enqueue(run->wf, &iop->req);
}

tn_run *tn_run_create(tn_wf *wf, tn_ms *ms)
{
    tn_run *run = tn_xcalloc(1, sizeof(*run));
    run->wf = wf;
    run->ms = ms;
    memcpy(run->run_id, ms->run_id, 16);
    run->wake_stored_ns = UINT64_MAX;
    tn_list_init(&run->parked);
    tn_list_init(&run->queries);
    tn_list_init(&run->updates);
    tn_loop_timer_init(&run->timer, run_timer_fired);
    tn_list_push_back(&wf->runs, &run->in_wf);
    tn_list_push_back(&wf->shard->hl->open, &run->lru);
    wf->shard->hl->runs++;
    tn_sleeper_forget(wf->shard->hl, run->run_id);
    tn_run_account(run);
    return run;
}

tn_run *tn_run_find(const tn_wf *wf, const uint8_t run_id[16])
{
    TN_LIST_FOREACH (link, &wf->runs) {
        tn_run *run = TN_CONTAINER_OF(link, tn_run, in_wf);
        if (memcmp(run->run_id, run_id, 16) == 0)
            return run;
    }
    return NULL;
}

static void free_batches(tn_run *run, size_t count)
{
    if (!count)
        return;
    for (size_t i = 0; i < count; i++) {
        run->batches_bytes -= run->batches[i].events.n;
        free((void *)(uintptr_t)run->batches[i].events.p);
    }
    run->n_batches -= count;
    memmove(run->batches, run->batches + count, run->n_batches * sizeof(run->batches[0]));
}

/* Those who wait are served again by whoever drops it, when it has been read again; at the end they are told. */
static void send_waiting_on(tn_run *run)
{
    tn_shard *shard = run->wf->shard;
    bool over = shard->hl->stopping || !shard->owned;
    while (!tn_list_empty(&run->parked)) {
        tn_hreq *req = TN_CONTAINER_OF(tn_list_first(&run->parked), tn_hreq, link);
        tn_history_unpark(req);
        if (over) {
            /* who waits for an event goes on waiting at the next owner */
            req->not_owner = tn_shard_elsewhere(shard);
            tn_req_finish(req, tn_fault_unavailable(req->arena,
                                                    "shard is not owned by this host, try again"));
        } else {
            tn_list_push_back(&run->wf->queue, &req->link);
        }
    }
    tn_queries_send_on(run, over);
    tn_updates_send_on(run, over);
}

void tn_run_drop(tn_run *run)
{
    tn_hloop *hl = run->wf->shard->hl;
    send_waiting_on(run);
    tn_loop_timer_stop(&run->timer);
    tn_list_remove(&run->in_wf);
    tn_list_remove(&run->lru);
    hl->bytes -= run->bytes;
    if (run->closed)
        hl->closed_bytes -= run->bytes;
    hl->runs--;
    free_batches(run, run->n_batches);
    free(run->batches);
    tn_buf_done(&run->tail);
    tn_ms_destroy(run->ms);
    free(run);
}

void tn_run_touch(tn_run *run)
{
    tn_hloop *hl = run->wf->shard->hl;
    tn_list_remove(&run->lru);
    tn_list_push_back(run->closed ? &hl->closed : &hl->open, &run->lru);
}

void tn_run_account(tn_run *run)
{
    tn_hloop *hl = run->wf->shard->hl;
    size_t now = sizeof(*run) + sizeof(*run->wf) + run->ms->bytes + run->batches_bytes +
                 run->tail.cap + run->cap_batches * sizeof(run->batches[0]);
    /* the allocator's: headers, rounding, gaps between runs that stayed (measured) */
    now += now * 5 / 8;
    hl->bytes = hl->bytes - run->bytes + now;
    hl->closed_bytes -= run->closed ? run->bytes : 0;
    run->bytes = now;
    run->closed = !tn_ms_running(run->ms);
    hl->closed_bytes += run->closed ? now : 0;
    tn_run_touch(run);
}

void tn_run_cache_events(tn_run *run, int64_t first_id, int64_t last_id, tn_blob events)
{
    if (run->n_batches && run->batches[run->n_batches - 1].last_id + 1 != first_id)
        free_batches(run, run->n_batches); /* keep it contiguous */
    if (run->n_batches == run->cap_batches) {
        run->cap_batches = run->cap_batches ? run->cap_batches * 2 : 4;
        run->batches = tn_xreallocarray(run->batches, run->cap_batches, sizeof(run->batches[0]));
    }
    uint8_t *copy = tn_xmalloc(events.n ? events.n : 1);
    memcpy(copy, events.p, events.n);
    run->batches[run->n_batches++] =
        (tn_batch_ref){first_id, last_id, tn_blob_from(copy, events.n)};
    run->batches_bytes += events.n;
    size_t drop = 0, bytes = run->batches_bytes;
    while (bytes > CACHED_EVENTS_BYTES_MAX && drop + 1 < run->n_batches)
        bytes -= run->batches[drop++].events.n;
    if (drop)
        free_batches(run, drop);
}

static bool run_idle(const tn_run *run)
{
    return !run->wf->busy && !run->wf->stepping && tn_list_empty(&run->wf->queue) &&
           tn_list_empty(&run->parked) && tn_list_empty(&run->queries) &&
           tn_list_empty(&run->updates) && !run->ms->wft.speculative;
}

/* Oldest first.  A run that knows something only in memory is made durable before it goes. */
static void shrink(tn_hloop *hl, tn_list *lru, const size_t *held, size_t keep)
{
    size_t look_max = hl->runs < 256 ? hl->runs : 256;
    for (size_t looked = 0; *held > keep && looked < look_max; looked++) {
        tn_list *oldest = tn_list_first(lru);
        if (!oldest)
            break;
        tn_run *run = TN_CONTAINER_OF(oldest, tn_run, lru);
        tn_run_touch(run);
        if (!run_idle(run))
            continue;
        if (run->tail_events || run->extras_pending) {
            tn_iop *iop = tn_iop_create(run->wf, run->run_id, TN_IOP_FLUSH);
            tn_wf_enqueue(run->wf, &iop->req);
            continue;
        }
        tn_sleep(run);
        tn_wf *wf = run->wf;
        tn_run_drop(run);
        tn_wf_maybe_drop(wf);
    }
}

void tn_cache_shrink(tn_hloop *hl)
{
    if (hl->closed_bytes > hl->bytes_max / CLOSED_SHARE)
        shrink(hl, &hl->closed, &hl->closed_bytes, hl->bytes_max / CLOSED_SHARE);
    if (hl->bytes > hl->bytes_max)
        shrink(hl, &hl->open, &hl->bytes, hl->bytes_max);
}

/* ---- loading ---- */

typedef struct load {
    tn_arena *arena;
    tn_wf *wf;
    tn_hreq *req;           /* NULL: whoever wanted it has been told that his time is over */
    const tn_namespace *ns; /* whose name the account has */
    uint8_t run_id[16];
    bool run_wanted; /* run_id says which; else the current-run row alone */
    bool elsewhere;  /* the run is another workflow's */
    tn_ms *ms;
    tn_run *run;
    uint64_t wake_ns;
    uint64_t epoch; /* the shard's when it began */
    tn_store_op op;
} load;

static load *load_begin(tn_wf *wf, tn_hreq *req)
{
    TN_ASSERT(!wf->busy);
    tn_arena *arena = tn_arena_create(0);
    load *ld = TN_NEW(arena, load);
    ld->arena = arena;
    ld->wf = wf;
    ld->req = req;
    ld->op.user = ld;
    ld->op.arena = arena;
    ld->ns = tn_namespace_ref(req->ns);
    ld->op.account = tn_door_account(req, ld->ns, wf->shard->id);
    ld->wake_ns = UINT64_MAX;
    ld->epoch = wf->shard->epoch;
    wf->busy = true;
    wf->load = ld;
    wf->shard->hl->txns++;
    tn_late_watch(wf);
    return ld;
}

/* What is read is of use to those behind him, and to whoever asks next. */
void tn_load_leave(tn_wf *wf)
{
    load *ld = wf->load;
    tn_hreq *req = ld ? ld->req : NULL;
    if (!req || !tn_req_in_vain(req))
        return;
    ld->req = NULL;
    tn_req_finish(req, tn_req_nobody_waits(req));
}

/* The run could not be read.  What the role asked itself is asked again when the store may have recovered; a task
 * that matching has just given up wants to be offered anew, and the run's sleeper has gone when the reading began. */
static void load_gave_up(load *ld, tn_hreq *req, const tn_fault *fault)
{
    tn_wf *wf = ld->wf;
    tn_hloop *hl = wf->shard->hl;
    bool passing = fault->code == TN_GRPC_UNAVAILABLE ||
                   fault->code == TN_GRPC_RESOURCE_EXHAUSTED ||
                   fault->code == TN_GRPC_DEADLINE_EXCEEDED;
    uint8_t run_id[16];
    if (!req) {
        if (passing && !hl->stopping && ld->run_wanted)
            tn_iop_send_later(tn_iop_create(wf, ld->run_id, TN_IOP_WAKE), TN_SEC);
        return;
    }
    if (req->op >= 100) {
        tn_iop *iop = TN_CONTAINER_OF(req, tn_iop, req);
        if (fault->code != TN_GRPC_NOT_FOUND) /* deleted meanwhile */
            TN_LOG(TN_LOG_WARN, "history", "could not load a run",
                   TN_LOG_Z("workflow_id", wf->workflow_id), TN_LOG_S("why", fault->message));
        if (passing && !hl->stopping) {
            tn_iop_send_later(iop, TN_SEC);
            return;
        }
        if (req->op == (tn_hop)TN_IOP_OUTBOX && fault->code == TN_GRPC_NOT_FOUND)
            /* deleted since: its removal has a row of its own */
            tn_outbox_ack(wf->shard, iop->outbox_seq);
    } else if (passing && !hl->stopping && tn_uuid_parse(req->run_id, run_id)) {
        tn_run *run = tn_run_find(wf, run_id);
        if (run) /* it was the current-run row that could not be read */
            tn_offer_withdrawn(run, req);
        tn_iop_send_later(tn_iop_create(wf, run_id, TN_IOP_WAKE), TN_SEC);
    } else if (passing && !hl->stopping && ld->run_wanted) {
        tn_iop_send_later(tn_iop_create(wf, ld->run_id, TN_IOP_WAKE), TN_SEC);
    }
    tn_req_finish(req, fault);
}

static void load_end(load *ld, const tn_fault *fault)
{
    tn_wf *wf = ld->wf;
    tn_hreq *req = ld->req;
    wf->shard->hl->txns--;
    wf->load = NULL;
    if (fault) {
        load_gave_up(ld, req, tn_fault_copy(req ? req->arena : ld->arena, fault));
        req = NULL;
    }
    tn_namespace_unref(ld->ns);
    tn_arena_destroy(ld->arena);
    tn_wf_resume(wf, req);
}

tn_status tn_wf_learn_current(tn_wf *wf, tn_arena *arena, const tn_row *row, tn_error *err)
{
    if (row->version == 0) {
        wf->current_known = true;
        wf->current_exists = false;
        wf->current_version = 0;
        return TN_OK;
    }
    Tenon__CurrentRun *current = NULL;
    tn_status status = tn_proto_unpack(&tenon__current_run__descriptor, row->value, arena,
                                       (ProtobufCMessage **)(void *)&current, err);
    if (status == TN_OK && current->run_id.len != 16)
        status = tn_error_set(err, TN_EDATALOSS, "the current-run row is damaged");
    if (status != TN_OK)
        return status;
    wf->current_known = wf->current_exists = true;
    wf->current_version = row->version;
    memcpy(wf->current_run_id, current->run_id.data, 16);
    wf->current_first_run_id[0] = '\0';
    if (current->first_run_id.len == 16)
        tn_uuid_format(current->first_run_id.data, wf->current_first_run_id);
    free(wf->current_request_id);
    wf->current_request_id = tn_xstrdup(current->create_request_id);
    wf->current_status = current->status;
    wf->current_start_ns = current->start_ns;
    wf->current_close_ns = current->close_ns;
    return TN_OK;
}

/* What was read before the shard was another's may be old by now. */
static void check_epoch(const load *ld, tn_store_op *op)
{
    if (op->status == TN_OK && ld->epoch != ld->wf->shard->epoch)
        op->status =
            tn_error_set(&op->error, TN_EUNAVAILABLE, "the shard has changed hands, try again");
}

static void current_loaded(tn_store_op *op)
{
    load *ld = op->user;
    check_epoch(ld, op);
    tn_error err = op->error;
    tn_status status = op->status;
    if (status == TN_ENOTFOUND) {
        op->u.get.row = (tn_row){.version = 0};
        status = TN_OK;
    }
    if (status == TN_OK)
        status = tn_wf_learn_current(ld->wf, ld->arena, &op->u.get.row, &err);
    load_end(ld, status == TN_OK ? NULL : tn_fault_from_status(ld->arena, status, &err));
}

void tn_load_current(tn_wf *wf, tn_hreq *req)
{
    load *ld = load_begin(wf, req);
    ld->op.done = current_loaded;
    ld->op.u.get.key = tn_store_key(
        ld->arena, TN_TABLE_CURRENT, wf->shard->partition,
        tn_store_row_current(ld->arena, tn_str_from(wf->ns_id), tn_str_from(wf->workflow_id)));
    tn_store_get(&ld->op);
}

void tn_wf_home(const tn_wf *wf, uint8_t out[TN_HOME_BYTES])
{
    static const uint8_t key[16] = "whose runs";
    tn_buf buf = {0};
    tn_buf_put(&buf, wf->ns_id, strlen(wf->ns_id) + 1);
    tn_buf_put(&buf, wf->workflow_id, strlen(wf->workflow_id));
    tn_mac128(key, tn_buf_blob(&buf), out);
    tn_buf_done(&buf);
}

/* A caller may name any run: one of another workflow, or of another namespace, is none of this one's. */
static bool is_ours(const load *ld, const Tenon__Record *record)
{
    uint8_t home[TN_HOME_BYTES];
    if (record->home.len != sizeof(home)) /* not the first, or written before there was this */
        return true;
    tn_wf_home(ld->wf, home);
    return memcmp(home, record->home.data, sizeof(home)) == 0;
}

static tn_status load_row(load *ld, const tn_row *row, tn_error *err)
{
    Tenon__Record *record = NULL;
    tn_arena *arena = tn_arena_create(0);
    tn_status status = tn_proto_unpack(&tenon__record__descriptor, row->value, arena,
                                       (ProtobufCMessage **)(void *)&record, err);
    int64_t first = ld->ms->next_event_id;
    ld->elsewhere = status == TN_OK && !is_ours(ld, record);
    if (status == TN_OK && !ld->elsewhere)
        status = tn_ms_load_record(ld->ms, record, err);
    if (status == TN_OK && !ld->elsewhere) {
        ld->run->wake_stored_ns = record->wake_ns;
        ld->run->records_since_snapshot++;
        if (record->events.len)
            tn_run_cache_events(ld->run, first, ld->ms->next_event_id - 1,
                                tn_blob_from(record->events.data, record->events.len));
    }
    tn_arena_destroy(arena);
    return status;
}

static void load_failed(load *ld, tn_status status, const tn_error *err)
{
    if (ld->run)
        tn_run_drop(ld->run);
    else
        tn_ms_destroy(ld->ms);
    TN_LOG(TN_LOG_ERROR, "history", "a run could not be loaded",
           TN_LOG_Z("workflow_id", ld->wf->workflow_id), TN_LOG_Z("why", err->text));
    load_end(ld, tn_fault_from_status(ld->arena, status, err));
}

static void load_none(load *ld)
{
    char text[37];
    tn_uuid_format(ld->run_id, text);
    tn_str id = tn_str_from(ld->wf->workflow_id);
    const tn_object_kind *kind = tn_object_kind_of(id);
    if (kind)
        load_end(ld, kind->not_found(ld->arena, tn_object_id_of(id), tn_str_from(text)));
    else
        load_end(ld, tn_fault_run_not_found(ld->arena, tn_str_from(ld->wf->workflow_id),
                                            tn_str_from(text)));
}

static void load_records(load *ld);

/* A poll has brought the run back: the task it was offered for is still that of the store, so the offer holds.
 * Otherwise a backlog longer than the cache would be offered for ever, each offer stale when its turn came. */
static void offered_before(tn_ms *ms, const tn_hreq *req)
{
    const tn_task_ref *ref = &req->u.task.ref;
    if (req->op == TN_HOP_WFT_POLLED) {
        if (ms->wft.scheduled_id != ref->scheduled_id || ms->wft.started_id)
            return;
        ms->wft.dispatched = true;
        ms->wft.stamp = ref->stamp;
    } else if (req->op == TN_HOP_ACT_POLLED) {
        tn_activity *activity = tn_ms_activity(ms, ref->scheduled_id);
        if (!activity || activity->started_ns || activity->attempt != ref->attempt)
            return;
        activity->dispatched = true;
        activity->stamp = ref->stamp;
    } else {
        return;
    }
    if (ms->next_stamp < ref->stamp)
        ms->next_stamp = ref->stamp;
}

static void records_loaded(tn_store_op *op)
{
    load *ld = op->user;
    check_epoch(ld, op);
    tn_status status = op->status;
    tn_error err = op->error;
    const tn_page *page = &op->u.scan.page;
    for (size_t i = 0; status == TN_OK && !ld->elsewhere && i < page->n_rows; i++)
        status = load_row(ld, &page->rows[i], &err);
    if (ld->elsewhere) {
        tn_run_drop(ld->run);
        load_none(ld);
        return;
    }
    if (status != TN_OK) {
        load_failed(ld, status, &err);
        return;
    }
    if (page->next.n) {
        ld->op.u.scan.range.page = tn_arena_blob(ld->arena, page->next);
        tn_store_scan(&ld->op);
        return;
    }
    if (ld->ms->next_event_id <= 1) {
        tn_run_drop(ld->run);
        tn_memory_forget(ld->wf->shard->hl, ld->run_id);
        load_none(ld);
        return;
    }
    tn_run *run = ld->run;
    if (ld->wf->current_request_id && ld->wf->current_exists &&
        memcmp(ld->wf->current_run_id, run->run_id, 16) == 0 && !run->ms->create_request_id) {
        tn_ms_set_create_request_id(run->ms, tn_str_from(ld->wf->current_request_id));
    }
    tn_ms_set_owned_since(run->ms, ld->wf->shard->owned_since_ns);
    tn_memory_recall(run);
    if (ld->req)
        offered_before(run->ms, ld->req);
    tn_run_account(run);
    tn_run_effects(run);
    load_end(ld, NULL);
}

static void load_records(load *ld)
{
    tn_range *range = &ld->op.u.scan.range;
    *range = (tn_range){.struct_size = sizeof(*range), .limit = LOAD_ROWS, .bytes_max = LOAD_BYTES};
    uint8_t end[16];
    memcpy(end, ld->run_id, 16);
    for (int i = 15; i >= 0 && ++end[i] == 0; i--) {
    }
    range->from =
        tn_store_key(ld->arena, TN_TABLE_RECORD, ld->wf->shard->partition,
                     tn_store_row_record(ld->arena, ld->run_id, (uint64_t)ld->ms->next_event_id,
                                         ld->ms->transition ? ld->ms->transition + 1 : 0));
    range->to_row = tn_arena_blob(ld->arena, tn_blob_from(end, 16));
    ld->op.done = records_loaded;
    tn_store_scan(&ld->op);
}

static void snapshot_loaded(tn_store_op *op)
{
    load *ld = op->user;
    check_epoch(ld, op);
    tn_error err = op->error;
    tn_status status = op->status;
    if (status == TN_OK) {
        Tenon__Snapshot *snapshot = NULL;
        status = tn_proto_unpack(&tenon__snapshot__descriptor, op->u.get.row.value, ld->arena,
                                 (ProtobufCMessage **)(void *)&snapshot, &err);
        if (status == TN_OK && !(ld->ms = tn_ms_load_snapshot(snapshot, &err)))
            status = err.code != TN_OK ? err.code : TN_EDATALOSS;
        if (status == TN_OK)
            ld->wake_ns = snapshot->wake_ns;
    } else if (status == TN_ENOTFOUND) {
        status = TN_OK;
        ld->ms =
            tn_ms_create(tn_str_from(ld->wf->ns_id), tn_str_from(ld->wf->workflow_id), ld->run_id);
    }
    if (status != TN_OK) {
        load_failed(ld, status, &err);
        return;
    }
    if (strcmp(ld->ms->ns_id, ld->wf->ns_id) != 0 ||
        strcmp(ld->ms->workflow_id, ld->wf->workflow_id) != 0) {
        tn_ms_destroy(ld->ms);
        load_none(ld);
        return;
    }
    ld->run = tn_run_create(ld->wf, ld->ms);
    ld->run->wake_stored_ns = ld->wake_ns;
    load_records(ld);
}

void tn_load_run(tn_wf *wf, const uint8_t run_id[16], tn_hreq *req)
{
    load *ld = load_begin(wf, req);
    memcpy(ld->run_id, run_id, 16);
    ld->run_wanted = true;
    ld->op.done = snapshot_loaded;
    ld->op.u.get.key = tn_store_key(ld->arena, TN_TABLE_SNAPSHOT, wf->shard->partition,
                                    tn_store_row_run(ld->arena, run_id));
    tn_store_get(&ld->op);
}
