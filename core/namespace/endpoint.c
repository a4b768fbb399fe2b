/* SPDX-License-Identifier: MIT */
/* The registry of Nexus endpoints.  Loop 0 makes one write at a time, on the condition that the table's version is the
 * one it knows: who finds another reads everything again and decides anew, so that of two hosts that take one name at
 * once one is refused. */
#include "namespace/endpoint.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "proto/proto.h"
#include "store/store.h"

#define LOOPS_MAX 64
#define SCAN_ROWS 500
#define TRIES_MAX 8
#define REFRESH_NS (30 * TN_SEC)
#define VERSION_ROW "version"

typedef Tenon__NexusEndpointRecord record_msg;

typedef struct list {
    tn_endpoints pub;
    tn_arena *arena;
    uint64_t version;     /* of the table, as counted in its row */
    uint64_t row_version; /* of that row; 0: there is none */
    atomic_uint refs;
} list;

typedef struct handover {
    tn_msg msg;
    list *fresh;
    uint32_t loop;
} handover;

static list *slots[LOOPS_MAX]; /* slot i belongs to loop i */
static void (*announce_write)(uint64_t version);

static struct {               /* loop 0 only */
    tn_endpoint_write *write; /* under way */
    tn_msg *queue, **queue_tail;
    tn_arena *arena; /* of the write under way */
    tn_store_op op;
    list *fresh; /* being read, or to be shown */
    bool reading_for_write, written;
    uint32_t awaited;
    handover handovers[LOOPS_MAX];
    tn_loop_timer timer;
    bool cluster, refreshing;
    bool refresh_again; /* somebody has written since it began */
    tn_endpoint_write refresh;
} w;

void tn_endpoint_announce(void (*announce)(uint64_t version)) { announce_write = announce; }

/* ---- lists ----------------------------------------------------------------------------------- */

static list *list_create(size_t cap)
{
    list *l = tn_xcalloc(1, sizeof(*l));
    l->arena = tn_arena_create(0);
    l->pub.items = TN_NEW_ARRAY(l->arena, const record_msg *, cap + 1);
    atomic_init(&l->refs, 1);
    return l;
}

static void list_unref(list *l)
{
    /* Pairs with the other owners' release: the last one sees what they did before it frees. */
    if (!l || atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
        return;
    tn_arena_destroy(l->arena);
    free(l);
}

static void list_add(list *l, const record_msg *record)
{
    const record_msg **items = (const record_msg **)(uintptr_t)l->pub.items;
    size_t at = l->pub.count++;
    for (; at > 0 && strcmp(items[at - 1]->id, record->id) > 0; at--)
        items[at] = items[at - 1];
    items[at] = (const record_msg *)(const void *)tn_proto_copy(&record->base, l->arena);
}

/* The list of now with one record put in, or taken out. */
static list *list_after(const list *old, const record_msg *put, const char *gone)
{
    size_t count = old ? old->pub.count : 0;
    list *l = list_create(count + 1);
    for (size_t i = 0; i < count; i++) {
        const record_msg *r = old->pub.items[i];
        if (!(put && strcmp(r->id, put->id) == 0) && !(gone && strcmp(r->id, gone) == 0))
            list_add(l, r);
    }
    if (put)
        list_add(l, put);
    l->version = old ? old->version + 1 : 1;
    return l;
}

const tn_endpoints *tn_endpoints_acquire(void)
{
    static const tn_endpoints none = {NULL, 0};
    tn_loop *loop = tn_loop_current();
    list *l = loop ? slots[tn_loop_index(loop)] : NULL;
    if (!l)
        return &none;
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    return &l->pub;
}

void tn_endpoints_release(const tn_endpoints *pub)
{
    if (pub && pub->items)
        list_unref(TN_CONTAINER_OF((tn_endpoints *)(uintptr_t)pub, list, pub));
}

const record_msg *tn_endpoints_by_id(const tn_endpoints *pub, tn_str id)
{
    size_t low = 0, high = pub->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order =
            tn_blob_cmp(tn_blob_of_str(id), tn_blob_of_str(tn_str_from(pub->items[mid]->id)));
        if (order == 0)
            return pub->items[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

const record_msg *tn_endpoints_by_name(const tn_endpoints *pub, tn_str name)
{
    for (size_t i = 0; i < pub->count; i++)
        if (tn_str_is(name, pub->items[i]->name))
            return pub->items[i];
    return NULL;
}

/* ---- the end of a write [loop 0] ------------------------------------------------------------- */

static void begin(tn_msg *msg);
static void refresh_now(tn_msg *msg);

static void deliver(tn_msg *msg)
{
    tn_endpoint_write *write = TN_CONTAINER_OF(msg, tn_endpoint_write, msg);
    write->done(write);
}

static void end(const tn_fault *fault)
{
    tn_endpoint_write *write = w.write;
    tn_arena_destroy(w.arena);
    w.arena = NULL;
    w.write = NULL;
    if (write == &w.refresh) {
        w.refreshing = false;
    } else {
        write->fault = fault;
        write->msg.run = deliver;
        tn_loop_post(write->home, &write->msg);
    }
    tn_msg *next = w.queue;
    if (next) {
        w.queue = next->next;
        if (!w.queue)
            w.queue_tail = NULL;
        begin(next);
    }
    if (w.refresh_again && !w.refreshing)
        refresh_now(NULL);
}

static void decide(void);

static void taken(tn_msg *msg)
{
    (void)msg;
    if (--w.awaited > 0)
        return;
    if (w.reading_for_write) { /* now with what another host has written */
        w.reading_for_write = false;
        decide();
        return;
    }
    if (w.written && announce_write)
        announce_write(slots[0]->version);
    end(NULL);
}

static void take(tn_msg *msg)
{
    handover *h = TN_CONTAINER_OF(msg, handover, msg);
    list_unref(slots[h->loop]);
    slots[h->loop] = h->fresh;
    h->msg.run = taken;
    tn_loop_post(tn_loops_get(0), &h->msg);
}

static void publish(list *fresh)
{
    uint32_t count = tn_loops_count();
    w.awaited = count;
    atomic_fetch_add_explicit(&fresh->refs, count - 1, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        handover *h = &w.handovers[i];
        *h = (handover){.fresh = fresh, .loop = i};
        h->msg.run = take;
        tn_loop_post(tn_loops_get(i), &h->msg);
    }
}

/* ---- reading all [loop 0] -------------------------------------------------------------------- */

static tn_key key_of(tn_arena *arena, const char *row)
{
    return tn_store_key(arena, TN_TABLE_NEXUS, TN_PARTITION_CLUSTER,
                        tn_blob_of_str(tn_str_from(row)));
}

/* One row of the table; the list has room. */
static tn_status add_row(list *l, tn_arena *arena, const tn_row *row, tn_error *err)
{
    if (tn_blob_eq(row->key.row, tn_blob_of_str(TN_STR(VERSION_ROW)))) {
        l->row_version = row->version;
        l->version = row->value.n == 8 ? tn_get_u64be(row->value.p) : 0;
        return TN_OK;
    }
    record_msg *record;
    tn_status status =
        TN_PROTO_UNPACK(tenon__nexus_endpoint_record, row->value, arena, &record, err);
    if (status == TN_OK)
        list_add(l, record);
    return status;
}

static tn_status add_page(list **l, tn_arena *arena, const tn_page *page, tn_error *err)
{
    list *grown = list_create((*l)->pub.count + page->n_rows);
    tn_status status = TN_OK;
    for (size_t i = 0; i < (*l)->pub.count; i++)
        list_add(grown, (*l)->pub.items[i]);
    grown->version = (*l)->version;
    grown->row_version = (*l)->row_version;
    list_unref(*l);
    *l = grown;
    for (size_t i = 0; status == TN_OK && i < page->n_rows; i++)
        status = add_row(grown, arena, &page->rows[i], err);
    return status;
}

static void read_page(void);

static void page_came(tn_store_op *op)
{
    tn_error err = op->error;
    if (op->status == TN_OK)
        op->status = add_page(&w.fresh, w.arena, &op->u.scan.page, &err);
    if (op->status != TN_OK) {
        list_unref(w.fresh);
        w.fresh = NULL;
        end(tn_fault_from_status(w.write->arena ? w.write->arena : w.arena, op->status, &err));
    } else if (op->u.scan.page.next.n) {
        read_page();
    } else {
        list *fresh = w.fresh;
        w.fresh = NULL;
        publish(fresh);
    }
}

static void read_page(void)
{
    tn_blob next = w.op.u.scan.page.next;
    w.op = (tn_store_op){.arena = w.arena, .done = page_came};
    w.op.u.scan.range =
        (tn_range){.struct_size = sizeof(tn_range), .limit = SCAN_ROWS, .page = next};
    w.op.u.scan.range.from = key_of(w.arena, "");
    tn_store_scan(&w.op);
}

static void read_all(bool for_write)
{
    w.reading_for_write = for_write;
    w.fresh = list_create(0);
    memset(&w.op, 0, sizeof(w.op));
    read_page();
}

/* ---- writing [loop 0] ------------------------------------------------------------------------ */

static const tn_fault *check(tn_endpoint_write *write)
{
    const tn_endpoints *all = &slots[0]->pub;
    record_msg *record = write->record;
    const record_msg *there = tn_endpoints_by_id(all, tn_str_from(record->id));
    const record_msg *named = tn_endpoints_by_name(all, tn_str_from(record->name));
    switch (write->verb) {
    case TN_ENDPOINT_CREATE:
        if (named)
            return tn_fault_make(
                write->arena, TN_GRPC_ALREADY_EXISTS,
                "error creating Nexus endpoint. Endpoint with name %s already registered",
                record->name);
        record->version = 1;
        record->created_ns = tn_now_wall_ns();
        return NULL;
    case TN_ENDPOINT_UPDATE:
        if (!there)
            return tn_fault_make(write->arena, TN_GRPC_NOT_FOUND,
                                 "error updating Nexus endpoint. endpoint ID %s not found",
                                 record->id);
        if (record->version != there->version)
            return tn_fault_make(write->arena, TN_GRPC_FAILED_PRECONDITION,
                                 "nexus endpoint version mismatch. received: %lld expected %lld",
                                 (long long)record->version, (long long)there->version);
        if (named && named != there)
            return tn_fault_make(
                write->arena, TN_GRPC_ALREADY_EXISTS,
                "error updating Nexus endpoint. Endpoint with name %s already registered",
                record->name);
        return NULL;
    default:
        if (!there)
            return tn_fault_make(write->arena, TN_GRPC_NOT_FOUND,
                                 "error deleting nexus endpoint with ID: %s", record->id);
        return NULL;
    }
}

static void committed(tn_store_op *op)
{
    tn_endpoint_write *write = w.write;
    bool gone = write->verb == TN_ENDPOINT_DELETE;
    if (op->status == TN_OK) {
        list *fresh =
            list_after(slots[0], gone ? NULL : write->record, gone ? write->record->id : NULL);
        fresh->row_version = op->u.commit.commit.version;
        w.written = true;
        publish(fresh);
    } else if (op->status == TN_ECONFLICT && write->tries++ < TRIES_MAX) {
        if (write->verb == TN_ENDPOINT_UPDATE)
            write->record->version--;
        read_all(true);
    } else {
        end(tn_fault_from_status(
            write->arena, op->status == TN_ECONFLICT ? TN_EUNAVAILABLE : op->status, &op->error));
    }
}

static void commit(tn_endpoint_write *write)
{
    const list *now = slots[0];
    tn_store_batch batch;
    tn_blob packed = {NULL, 0};
    uint8_t *counter = tn_arena_alloc(w.arena, 8);
    tn_key version_key = key_of(w.arena, VERSION_ROW), key = key_of(w.arena, write->record->id);
    if (write->verb == TN_ENDPOINT_UPDATE) {
        const record_msg *there = tn_endpoints_by_id(&now->pub, tn_str_from(write->record->id));
        write->record->version++;
        write->record->created_ns = there->created_ns;
        write->record->modified_ns = tn_now_wall_ns();
    }
    tn_store_batch_init(&batch, w.arena);
    tn_store_batch_cond(&batch, now->row_version ? TN_COND_VERSION : TN_COND_ABSENT, version_key,
                        now->row_version);
    tn_put_u64be(counter, now->version + 1);
    tn_store_batch_put(&batch, version_key, tn_blob_from(counter, 8));
    if (write->verb == TN_ENDPOINT_DELETE) {
        tn_store_batch_delete(&batch, key);
    } else {
        tn_status status = tn_proto_pack(&write->record->base, w.arena, &packed);
        TN_ASSERT(status == TN_OK); /* our own message in an arena without a cap */
        tn_store_batch_put(&batch, key, packed);
    }
    w.op = (tn_store_op){.arena = w.arena, .done = committed};
    w.op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&w.op);
}

static void decide(void)
{
    const tn_fault *fault = check(w.write);
    if (!fault)
        commit(w.write);
    else if (
        w.cluster &&
        !w.write
             ->tries++) /* another host may have written what is missing here, or have taken it away */
        read_all(true);
    else
        end(fault);
}

static void begin(tn_msg *msg)
{
    tn_endpoint_write *write = TN_CONTAINER_OF(msg, tn_endpoint_write, msg);
    if (w.write) {
        msg->next = NULL;
        if (!w.queue)
            w.queue = msg;
        else
            *w.queue_tail = msg;
        w.queue_tail = &msg->next;
        return;
    }
    w.write = write;
    w.written = false;
    w.arena = tn_arena_create(0);
    if (write->verb == TN_ENDPOINT_REFRESH)
        read_all(false);
    else
        decide();
}

void tn_endpoint_submit(tn_endpoint_write *write)
{
    TN_ASSERT(write->home && write->done && write->arena);
    write->msg.run = begin;
    tn_loop_post(tn_loops_get(0), &write->msg);
}

/* ---- refreshing [loop 0] --------------------------------------------------------------------- */

static void refresh_now(tn_msg *msg)
{
    if (msg)
        free(msg);
    w.refresh_again = w.refreshing;
    if (w.refreshing || !slots[0])
        return;
    w.refreshing = true;
    w.refresh = (tn_endpoint_write){.verb = TN_ENDPOINT_REFRESH};
    begin(&w.refresh.msg);
}

void tn_endpoints_refresh(void)
{
    tn_msg *msg = tn_xcalloc(1, sizeof(*msg));
    msg->run = refresh_now;
    tn_loop_post(tn_loops_get(0), msg);
}

static void refresh_due(tn_loop_timer *timer)
{
    refresh_now(NULL);
    tn_loop_timer_start(timer, tn_now_mono_ns() + REFRESH_NS);
}

/* ---- start and stop [main] ------------------------------------------------------------------- */

static void install(void *arg)
{
    uint32_t index = tn_loop_index(tn_loop_current());
    list_unref(slots[index]);
    slots[index] = arg;
}

static void start_timer(void *arg)
{
    (void)arg;
    tn_loop_timer_init(&w.timer, refresh_due);
    if (w.cluster)
        tn_loop_timer_start(&w.timer, tn_now_mono_ns() + REFRESH_NS);
}

static void stop_timer(void *arg)
{
    (void)arg;
    tn_loop_timer_stop(&w.timer);
}

tn_status tn_endpoints_start(bool cluster, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    list *all = list_create(0);
    tn_range range = {.struct_size = sizeof(range), .limit = SCAN_ROWS};
    range.from = key_of(arena, "");
    tn_status status;
    do {
        tn_page page = {.struct_size = sizeof(page)};
        status = tn_store_scan_sync(arena, &range, &page, err);
        if (status == TN_OK)
            status = add_page(&all, arena, &page, err);
        range.page = page.next;
    } while (status == TN_OK && range.page.n);
    w.cluster = cluster;
    for (uint32_t i = 0; status == TN_OK && i < tn_loops_count(); i++) {
        atomic_fetch_add_explicit(&all->refs, 1, memory_order_relaxed);
        tn_loop_call(tn_loops_get(i), install, all);
    }
    if (status == TN_OK)
        tn_loop_call(tn_loops_get(0), start_timer, NULL);
    list_unref(all);
    tn_arena_destroy(arena);
    return status;
}

void tn_endpoints_stop(void)
{
    if (tn_loops_count())
        tn_loop_call(tn_loops_get(0), stop_timer, NULL);
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(tn_loops_get(i), install, NULL);
}
