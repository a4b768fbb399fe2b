/* SPDX-License-Identifier: MIT */
/* The registry: immutable namespaces in immutable snapshots.  Each loop holds a reference to the
 * newest snapshot in a slot of its own, so looking up takes neither a lock nor an atomic.  Loop 0
 * writes one record at a time; when a write is durable a new snapshot is handed to every loop, and the
 * writer hears of success after all of them have it. */
#include "namespace/namespace.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "proto/proto.h"
#include "store/store.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "tenon/store.pb-c.h"

#define LOOPS_MAX 64
#define SCAN_ROWS 500
#define ATTRS_MAX 10000
#define CHANGED_MEANWHILE "namespace was changed by another request, try again"
#define SYSTEM_ID "32049b68-7872-4094-8e63-d0dd59896a83"

typedef struct entry {
    tn_namespace pub;
    atomic_uint refs;
    tn_arena *arena;
} entry;

typedef struct snapshot {
    tn_namespace_list pub; /* by name; each item is one reference */
    const tn_namespace **by_id;
    atomic_uint refs;
} snapshot;

/* A new snapshot on its way to a loop, and back to loop 0 as the answer. */
typedef struct handover {
    tn_msg msg;
    snapshot *snap;
    uint32_t loop;
} handover;

typedef struct write_job {
    tn_namespace_write *write;
    tn_store_op op;
    tn_arena *arena;
    entry *candidate;
    const tn_fault *fault; /* the answer once every loop has the snapshot */
    uint32_t awaited;      /* loops that have not taken the snapshot yet */
    bool written;          /* by us: other hosts must hear of it */
    struct {               /* REFRESH */
        entry **entries;
        size_t count, cap, same; /* same: as all loops have them */
    } all;
    handover handovers[LOOPS_MAX];
} write_job;

static snapshot *slots[LOOPS_MAX]; /* slot i belongs to loop i */
static void (*announce_write)(tn_str ns_id, void (*told)(void *user), void *user);

void tn_namespace_announce(void (*announce)(tn_str ns_id, void (*told)(void *user), void *user))
{
    announce_write = announce;
}

static tn_namespace_list_watch *watcher; /* loop 0 only */

void tn_namespace_watch(tn_namespace_list_watch *watch) { watcher = watch; }

static struct {
    write_job *job;              /* the write under way */
    tn_msg *queue, **queue_tail; /* writes that wait for it */
} writer;                        /* loop 0 only */

/* ---- namespaces ------------------------------------------------------------------------------- */

const tn_namespace *tn_namespace_ref(const tn_namespace *ns)
{
    entry *e = TN_CONTAINER_OF((tn_namespace *)(uintptr_t)ns, entry, pub);
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return ns;
}

void tn_namespace_unref(const tn_namespace *ns)
{
    if (!ns)
        return;
    entry *e = TN_CONTAINER_OF((tn_namespace *)(uintptr_t)ns, entry, pub);
    /* Pairs with the other owners' release: the last one sees what they did before it frees. */
    if (atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1) {
        tn_arena_destroy(e->arena);
        free(e);
    }
}

static int compare_attrs(const void *a, const void *b)
{
    const tn_search_attr *x = a, *y = b;
    return tn_blob_cmp(tn_blob_of_str(x->name), tn_blob_of_str(y->name));
}

static tn_status fill_entry(tn_namespace *ns, tn_arena *arena, const Tenon__NamespaceRecord *rec,
                            tn_error *err)
{
    uint8_t id[16];
    if (!rec->name[0] || !tn_uuid_parse(tn_str_from(rec->id), id))
        return tn_error_set(err, TN_EDATALOSS, "namespace record \"%s\" has no name or id",
                            rec->id);
    if (rec->n_data_keys != rec->n_data_values || rec->n_custom > ATTRS_MAX)
        return tn_error_set(err, TN_EDATALOSS, "namespace record \"%s\" is damaged", rec->id);
    ns->name = tn_str_from(rec->name);
    ns->id = tn_str_from(rec->id);
    ns->state = rec->state;
    ns->retention_ns = rec->retention_ns;
    ns->description = tn_str_from(rec->description);
    ns->owner_email = tn_str_from(rec->owner_email);
    ns->created_wall_ns = rec->created_ns;
    ns->reclaim = rec->reclaim;
    ns->delete_delay_ns = rec->delete_delay_ns;
    tn_str *keys = TN_NEW_ARRAY(arena, tn_str, rec->n_data_keys + 1);
    tn_str *values = TN_NEW_ARRAY(arena, tn_str, rec->n_data_keys + 1);
    tn_search_attr *attrs = TN_NEW_ARRAY(arena, tn_search_attr, rec->n_custom + 1);
    for (size_t i = 0; i < rec->n_data_keys; i++) {
        keys[i] = tn_str_from(rec->data_keys[i]);
        values[i] = tn_str_from(rec->data_values[i]);
    }
    for (size_t i = 0; i < rec->n_custom; i++) {
        attrs[i].name = tn_str_from(rec->custom[i]->name);
        attrs[i].type = rec->custom[i]->type;
    }
    qsort(attrs, rec->n_custom, sizeof(*attrs), compare_attrs);
    ns->data_keys = keys, ns->data_values = values, ns->n_data = rec->n_data_keys;
    ns->custom_attrs = attrs, ns->n_custom_attrs = rec->n_custom;
    return TN_OK;
}

static tn_status make_entry(tn_blob record, uint64_t version, entry **out, tn_error *err)
{
    entry *e = tn_xcalloc(1, sizeof(*e));
    e->arena = tn_arena_create(0);
    atomic_init(&e->refs, 1);
    e->pub.record = tn_arena_blob(e->arena, record);
    e->pub.row_version = version;
    Tenon__NamespaceRecord *rec;
    tn_status status = TN_PROTO_UNPACK(tenon__namespace_record, record, e->arena, &rec, err);
    if (status == TN_OK)
        status = fill_entry(&e->pub, e->arena, rec, err);
    if (status != TN_OK) {
        tn_namespace_unref(&e->pub);
        return status;
    }
    *out = e;
    return TN_OK;
}

/* ---- snapshots -------------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    const tn_namespace *x = *(const tn_namespace *const *)a, *y = *(const tn_namespace *const *)b;
    return tn_blob_cmp(tn_blob_of_str(x->name), tn_blob_of_str(y->name));
}

static int compare_ids(const void *a, const void *b)
{
    const tn_namespace *x = *(const tn_namespace *const *)a, *y = *(const tn_namespace *const *)b;
    return tn_blob_cmp(tn_blob_of_str(x->id), tn_blob_of_str(y->id));
}

/* The old snapshot's namespaces with `fresh` added, or in the place of the one with its id; without `gone`. */
static snapshot *make_snapshot(const snapshot *old, const tn_namespace *fresh,
                               const tn_namespace *gone)
{
    size_t old_count = old ? old->pub.count : 0, n = 0;
    snapshot *snap = tn_xcalloc(1, sizeof(*snap));
    const tn_namespace **items = tn_xcalloc(old_count + 1, sizeof(const tn_namespace *));
    for (size_t i = 0; i < old_count; i++)
        if (!(fresh && tn_str_eq(old->pub.items[i]->id, fresh->id)) &&
            !(gone && tn_str_eq(old->pub.items[i]->id, gone->id)))
            items[n++] = tn_namespace_ref(old->pub.items[i]);
    if (fresh)
        items[n++] = tn_namespace_ref(fresh);
    snap->by_id = tn_xcalloc(n + 1, sizeof(const tn_namespace *));
    if (n)
        memcpy(snap->by_id, items, n * sizeof(const tn_namespace *));
    qsort(items, n, sizeof(const tn_namespace *), compare_names);
    qsort(snap->by_id, n, sizeof(const tn_namespace *), compare_ids);
    snap->pub.items = items;
    snap->pub.count = n;
    atomic_init(&snap->refs, 1);
    return snap;
}

static void snapshot_unref(snapshot *snap)
{
    if (!snap || atomic_fetch_sub_explicit(&snap->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < snap->pub.count; i++)
        tn_namespace_unref(snap->pub.items[i]);
    free(snap->by_id);
    free((void *)(uintptr_t)snap->pub.items);
    free(snap);
}

typedef struct borrow {
    snapshot *snap;
} borrow;

static void borrow_on_loop(void *arg)
{
    borrow *b = arg;
    b->snap = slots[tn_loop_index(tn_loop_current())];
    if (b->snap)
        atomic_fetch_add_explicit(&b->snap->refs, 1, memory_order_relaxed);
}

/* The snapshot of the calling loop; a thread that is no loop asks loop 0.  Counted: *out_owned. */
static snapshot *current(bool *out_owned)
{
    tn_loop *loop = tn_loop_current();
    *out_owned = loop == NULL;
    if (loop)
        return slots[tn_loop_index(loop)];
    borrow b = {NULL};
    if (tn_loops_count() > 0)
        tn_loop_call(tn_loops_get(0), borrow_on_loop, &b);
    return b.snap;
}

static const tn_namespace *find(const snapshot *snap, const tn_namespace *const *sorted, tn_str key,
                                bool by_id)
{
    size_t low = 0, high = snap->pub.count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = tn_blob_cmp(tn_blob_of_str(key),
                                tn_blob_of_str(by_id ? sorted[mid]->id : sorted[mid]->name));
        if (order == 0)
            return sorted[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

static const tn_namespace *look_up(tn_str key, bool by_id)
{
    bool owned;
    snapshot *snap = current(&owned);
    if (!snap)
        return NULL;
    const tn_namespace *ns = find(snap, by_id ? snap->by_id : snap->pub.items, key, by_id);
    if (ns)
        tn_namespace_ref(ns);
    if (owned)
        snapshot_unref(snap);
    return ns;
}

const tn_namespace *tn_namespace_by_name(tn_str name) { return look_up(name, false); }

const tn_namespace *tn_namespace_by_id(tn_str id) { return look_up(id, true); }

const tn_namespace_list *tn_namespace_list_acquire(void)
{
    static const tn_namespace_list none = {NULL, 0};
    bool owned;
    snapshot *snap = current(&owned);
    if (!snap)
        return &none;
    if (!owned)
        atomic_fetch_add_explicit(&snap->refs, 1, memory_order_relaxed);
    return &snap->pub;
}

void tn_namespace_list_release(const tn_namespace_list *list)
{
    if (list && list->items)
        snapshot_unref(TN_CONTAINER_OF((tn_namespace_list *)(uintptr_t)list, snapshot, pub));
}

const tn_fault *tn_namespace_not_found(tn_arena *arena, tn_str name)
{
    Temporal__Api__Errordetails__V1__NamespaceNotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NAMESPACE_NOT_FOUND_FAILURE__INIT;
    detail.namespace_ = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(name));
    if (!detail.namespace_)
        detail.namespace_ = (char *)(uintptr_t) "";
    return tn_fault_detailed(arena, TN_GRPC_NOT_FOUND, &detail.base,
                             "Namespace " TN_STR_FMT " is not found.", TN_STR_ARG(name));
}

/* ---- writing [loop 0] ------------------------------------------------------------------------- */

static void write_begin(tn_msg *msg);

static void write_deliver(tn_msg *msg)
{
    tn_namespace_write *write = TN_CONTAINER_OF(msg, tn_namespace_write, msg);
    write->done(write);
}

/* Answers the write under way and begins the next. */
static void write_end(write_job *job, const tn_fault *fault)
{
    tn_namespace_write *write = job->write;
    write->fault = fault;
    write->result = NULL;
    if (!fault && job->candidate)
        write->result = tn_namespace_ref(&job->candidate->pub);
    if (job->candidate)
        tn_namespace_unref(&job->candidate->pub);
    for (size_t i = 0; i < job->all.count; i++)
        tn_namespace_unref(&job->all.entries[i]->pub);
    free(job->all.entries);
    tn_arena_destroy(job->arena);
    free(job);
    writer.job = NULL;
    write->msg.run = write_deliver;
    tn_loop_post(write->home, &write->msg);

    tn_msg *next = writer.queue;
    if (next) {
        writer.queue = next->next;
        if (!writer.queue)
            writer.queue_tail = NULL;
        write_begin(next);
    }
}

static void announced(void *user)
{
    write_job *job = user;
    write_end(job, job->fault);
}

static void snapshot_taken(tn_msg *msg)
{
    handover *h = TN_CONTAINER_OF(msg, handover, msg);
    write_job *job = TN_CONTAINER_OF(h - h->loop, write_job, handovers[0]);
    if (--job->awaited > 0)
        return;
    if (watcher)
        watcher->changed(watcher);
    if (job->written && announce_write)
        announce_write(job->candidate->pub.id, announced, job);
    else
        write_end(job, job->fault);
}

static void take_snapshot(tn_msg *msg)
{
    handover *h = TN_CONTAINER_OF(msg, handover, msg);
    snapshot_unref(slots[h->loop]);
    slots[h->loop] = h->snap;
    h->msg.run = snapshot_taken;
    tn_loop_post(tn_loops_get(0), &h->msg);
}

static void publish_snapshot(write_job *job, snapshot *snap)
{
    uint32_t count = tn_loops_count();
    job->awaited = count;
    atomic_fetch_add_explicit(&snap->refs, count - 1, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        handover *h = &job->handovers[i];
        h->snap = snap;
        h->loop = i;
        h->msg.run = take_snapshot;
        tn_loop_post(tn_loops_get(i), &h->msg);
    }
}

static void publish(write_job *job)
{
    const tn_namespace *ns = &job->candidate->pub;
    bool gone = job->write->verb == TN_NS_REMOVE && job->written;
    publish_snapshot(job, make_snapshot(slots[0], gone ? NULL : ns, gone ? ns : NULL));
}

static void reloaded(tn_store_op *op)
{
    write_job *job = op->user;
    bool gone = job->write->verb == TN_NS_REMOVE;
    if (gone ? op->status == TN_ENOTFOUND
             : op->status == TN_OK && tn_blob_eq(op->u.get.row.value, job->write->record)) {
        job->candidate->pub.row_version = gone ? 0 : op->u.get.row.version;
        job->written = true;
        publish(job);
    } else {
        write_end(job, tn_fault_from_status(job->write->arena, TN_EUNAVAILABLE, NULL));
    }
}

/* Another host has written the record: what it wrote is shown, so that trying again can succeed. */
static void learn_current(write_job *job, const tn_row *row)
{
    const tn_fault *fault =
        tn_fault_make(job->write->arena, TN_GRPC_UNAVAILABLE, CHANGED_MEANWHILE);
    entry *there = NULL;
    tn_error err;
    if (!row->version || make_entry(row->value, row->version, &there, &err) != TN_OK) {
        write_end(job, fault);
        return;
    }
    tn_namespace_unref(&job->candidate->pub);
    job->candidate = there;
    job->fault = fault;
    publish(job);
}

static const tn_fault *already_exists(tn_arena *arena, tn_str name)
{
    Temporal__Api__Errordetails__V1__NamespaceAlreadyExistsFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NAMESPACE_ALREADY_EXISTS_FAILURE__INIT;
    return tn_fault_detailed(arena, TN_GRPC_ALREADY_EXISTS, &detail.base,
                             "Namespace \"" TN_STR_FMT "\" already exists", TN_STR_ARG(name));
}

static void committed(tn_store_op *op)
{
    write_job *job = op->user;
    tn_arena *arena = job->write->arena;
    switch (op->status) {
    case TN_OK:
        job->candidate->pub.row_version = op->u.commit.commit.version;
        job->written = true;
        publish(job);
        break;
    case TN_EUNCERTAIN: {
        /* It may have been applied: what is there now decides. */
        tn_key key = op->u.commit.batch.muts[0].key;
        op->done = reloaded;
        memset(&op->u, 0, sizeof(op->u));
        op->u.get.key = key;
        tn_store_get(op);
        break;
    }
    case TN_ECONFLICT:
        if (op->u.commit.commit.failed_cond > 0)
            write_end(job, already_exists(arena, job->candidate->pub.name));
        else
            learn_current(job, &op->u.commit.commit.current);
        break;
    default:
        write_end(job, tn_fault_from_status(arena, op->status, &op->error));
    }
}

static const tn_fault *check_write(const tn_namespace_write *write, const tn_namespace *fresh)
{
    const snapshot *now = slots[0];
    const tn_namespace *same_name = now ? find(now, now->pub.items, fresh->name, false) : NULL;
    const tn_namespace *same_id = now ? find(now, now->by_id, fresh->id, true) : NULL;
    if (write->verb == TN_NS_CREATE)
        return same_name || same_id ? already_exists(write->arena, fresh->name) : NULL;
    if (!same_id)
        return tn_namespace_not_found(write->arena, fresh->name);
    if (write->verb == TN_NS_UPDATE && same_name && same_name != same_id)
        return already_exists(write->arena, fresh->name);
    if (same_id->row_version != write->expect_version)
        return tn_fault_make(write->arena, TN_GRPC_UNAVAILABLE, CHANGED_MEANWHILE);
    return NULL;
}

static tn_key record_key(tn_arena *arena, tn_str id)
{
    return tn_store_key(arena, TN_TABLE_NAMESPACE, TN_PARTITION_CLUSTER, tn_blob_of_str(id));
}

/* Two hosts may register one name at once: the name's own row lets one of them win. */
static tn_key name_key(tn_arena *arena, tn_str name)
{
    const char *row = tn_arena_printf(arena, "ns-name:" TN_STR_FMT, TN_STR_ARG(name));
    return tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                        tn_blob_of_str(tn_str_from(row)));
}

static void claim_name(tn_store_batch *batch, tn_arena *arena, const tn_namespace *ns)
{
    tn_key key = name_key(arena, ns->name);
    tn_store_batch_cond(batch, TN_COND_ABSENT, key, 0);
    tn_store_batch_put(batch, key, tn_blob_of_str(ns->id));
}

static void put_record(tn_store_batch *batch, const write_job *job, tn_key key)
{
    const tn_namespace *ns = &job->candidate->pub;
    const tn_namespace *old =
        job->write->verb == TN_NS_CREATE ? NULL : find(slots[0], slots[0]->by_id, ns->id, true);
    bool gone = job->write->verb == TN_NS_REMOVE;
    if (gone)
        tn_store_batch_delete(batch, key);
    else
        tn_store_batch_put(batch, key, ns->record);
    if (old && (gone || !tn_str_eq(old->name, ns->name)))
        tn_store_batch_delete(batch, name_key(job->arena, old->name));
    if (!gone && (!old || !tn_str_eq(old->name, ns->name)))
        claim_name(batch, job->arena, ns);
}

/* ---- reading all again [loop 0] ---- */

static void refresh_read(write_job *job);

static void refresh_done(write_job *job)
{
    if (slots[0] && job->all.same == job->all.count && job->all.count == slots[0]->pub.count) {
        write_end(job, NULL);
        return;
    }
    const tn_namespace **items = tn_xcalloc(job->all.count + 1, sizeof(const tn_namespace *));
    for (size_t i = 0; i < job->all.count; i++)
        items[i] = &job->all.entries[i]->pub;
    const snapshot all = {.pub = {items, job->all.count}};
    snapshot *snap = make_snapshot(&all, NULL, NULL);
    free(items);
    publish_snapshot(job, snap);
}

/* The entry that all loops have already, if the row has not changed since. */
static entry *known_entry(const tn_row *row)
{
    const tn_str id = {(const char *)row->key.row.p, row->key.row.n};
    const tn_namespace *ns = slots[0] ? find(slots[0], slots[0]->by_id, id, true) : NULL;
    if (!ns || ns->row_version != row->version || !tn_blob_eq(ns->record, row->value))
        return NULL;
    return TN_CONTAINER_OF((tn_namespace *)(uintptr_t)tn_namespace_ref(ns), entry, pub);
}

static void refresh_came(tn_store_op *op)
{
    write_job *job = op->user;
    tn_error err = op->error;
    const tn_page *page = &op->u.scan.page;
    for (size_t i = 0; op->status == TN_OK && i < page->n_rows; i++) {
        if (job->all.count == job->all.cap) {
            job->all.cap = job->all.cap ? 2 * job->all.cap : 16;
            job->all.entries = tn_xreallocarray(job->all.entries, job->all.cap, sizeof(entry *));
        }
        entry *known = job->all.entries[job->all.count] = known_entry(&page->rows[i]);
        if (known)
            job->all.same++;
        else
            op->status = make_entry(page->rows[i].value, page->rows[i].version,
                                    &job->all.entries[job->all.count], &err);
        job->all.count += op->status == TN_OK;
    }
    if (op->status != TN_OK)
        write_end(job, tn_fault_from_status(job->write->arena, op->status, &err));
    else if (page->next.n)
        refresh_read(job);
    else
        refresh_done(job);
}

static void refresh_read(write_job *job)
{
    tn_blob next = job->op.u.scan.page.next;
    job->op = (tn_store_op){.arena = job->arena, .user = job, .done = refresh_came};
    job->op.u.scan.range =
        (tn_range){.struct_size = sizeof(tn_range), .limit = SCAN_ROWS, .page = next};
    job->op.u.scan.range.from = record_key(job->arena, TN_STR(""));
    tn_store_scan(&job->op);
}

static void write_begin(tn_msg *msg)
{
    tn_namespace_write *write = TN_CONTAINER_OF(msg, tn_namespace_write, msg);
    if (writer.job) {
        msg->next = NULL;
        if (!writer.queue)
            writer.queue = msg;
        else
            *writer.queue_tail = msg;
        writer.queue_tail = &msg->next;
        return;
    }
    write_job *job = tn_xcalloc(1, sizeof(*job));
    writer.job = job;
    job->write = write;
    job->arena = tn_arena_create(0);
    tn_error err = {0};
    if (write->verb == TN_NS_REFRESH) {
        refresh_read(job);
        return;
    }
    if (make_entry(write->record, 0, &job->candidate, &err) != TN_OK) {
        write_end(job, tn_fault_make(write->arena, TN_GRPC_INVALID_ARGUMENT, "%s", err.text));
        return;
    }
    const tn_fault *fault = check_write(write, &job->candidate->pub);
    if (fault) {
        write_end(job, fault);
        return;
    }
    tn_cond cond = {.test = write->verb == TN_NS_CREATE ? TN_COND_ABSENT : TN_COND_VERSION,
                    .key = record_key(job->arena, job->candidate->pub.id),
                    .version = write->expect_version};
    tn_store_batch batch;
    tn_store_batch_init(&batch, job->arena);
    tn_store_batch_cond(&batch, cond.test, cond.key, cond.version);
    put_record(&batch, job, cond.key);
    job->op.arena = job->arena;
    job->op.done = committed;
    job->op.user = job;
    job->op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&job->op);
}

void tn_namespace_submit(tn_namespace_write *write)
{
    TN_ASSERT(write->home && write->done && write->arena);
    write->msg.run = write_begin;
    tn_loop_post(tn_loops_get(0), &write->msg);
}

/* ---- start and stop [main] -------------------------------------------------------------------- */

static void replace(snapshot **snap, entry *e)
{
    snapshot *next = make_snapshot(*snap, e ? &e->pub : NULL, NULL);
    snapshot_unref(*snap);
    *snap = next;
    if (e)
        tn_namespace_unref(&e->pub);
}

/* Reads every record.  Building the snapshot record by record is quadratic; so the list is gathered
 * first. */
static tn_status load_all(snapshot **out, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    entry **entries = NULL;
    size_t count = 0, cap = 0;
    tn_range range = {.struct_size = sizeof(range), .limit = SCAN_ROWS};
    range.from = record_key(arena, TN_STR(""));
    tn_status status;
    do {
        tn_page page = {.struct_size = sizeof(page)};
        status = tn_store_scan_sync(arena, &range, &page, err);
        for (size_t i = 0; status == TN_OK && i < page.n_rows; i++) {
            if (count == cap) {
                cap = cap ? cap * 2 : 16;
                entries = tn_xreallocarray(entries, cap, sizeof(*entries));
            }
            status = make_entry(page.rows[i].value, page.rows[i].version, &entries[count], err);
            if (status == TN_OK)
                count++;
        }
        range.page = page.next;
    } while (status == TN_OK && range.page.n);
    if (status == TN_OK) {
        const tn_namespace **items = tn_xcalloc(count + 1, sizeof(const tn_namespace *));
        for (size_t i = 0; i < count; i++)
            items[i] = &entries[i]->pub;
        const snapshot all = {.pub = {items, count}};
        *out = make_snapshot(&all, NULL, NULL);
        free(items);
    }
    for (size_t i = 0; i < count; i++)
        tn_namespace_unref(&entries[i]->pub);
    free(entries);
    tn_arena_destroy(arena);
    return status;
}

static tn_status create_one(snapshot **snap, tn_str name, tn_str id, uint64_t retention_ns,
                            const char *description, tn_error *err)
{
    if (*snap && find(*snap, (*snap)->pub.items, name, false))
        return TN_OK;
    tn_arena *arena = tn_arena_create(0);
    Tenon__NamespaceRecord rec = TENON__NAMESPACE_RECORD__INIT;
    rec.name = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(name));
    rec.id = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(id));
    rec.state = TN_NS_REGISTERED;
    rec.retention_ns = retention_ns;
    rec.description = (char *)(uintptr_t)description;
    rec.created_ns = tn_now_wall_ns();
    tn_blob value = {NULL, 0};
    tn_status status = tn_proto_pack(&rec.base, arena, &value);
    tn_store_batch batch;
    tn_store_batch_init(&batch, arena);
    tn_key key = record_key(arena, id);
    tn_store_batch_cond(&batch, TN_COND_ABSENT, key, 0);
    tn_store_batch_put(&batch, key, value);
    tn_batch ready = tn_store_batch_finish(&batch);
    tn_commit commit = {.struct_size = sizeof(commit)};
    if (status == TN_OK)
        status = tn_store_commit_sync(arena, &ready, &commit, err);
    entry *e = NULL;
    if (status == TN_ECONFLICT) /* another host was first: take what is there */
        status = make_entry(commit.current.value, commit.current.version, &e, err);
    else if (status == TN_OK)
        status = make_entry(value, commit.version, &e, err);
    if (status == TN_OK)
        replace(snap, e);
    tn_arena_destroy(arena);
    return status;
}

static void install(void *arg)
{
    uint32_t index = tn_loop_index(tn_loop_current());
    snapshot_unref(slots[index]);
    slots[index] = arg;
}

tn_status tn_namespace_start(const tn_str *create, size_t n_create, uint64_t retention_ns,
                             tn_error *err)
{
    /* The id of a namespace that is made at start comes from its name, so that two hosts which start
     * together make one namespace, not two. */
    static const uint8_t space[16] = {0x6f, 0x1d, 0x0e, 0x52, 0x8a, 0x4b, 0x4c, 0x0b,
                                      0x9d, 0x3e, 0x74, 0x65, 0x6e, 0x6f, 0x6e, 0x00};
    snapshot *snap = NULL;
    tn_status status = load_all(&snap, err);
    if (status == TN_OK)
        status = create_one(&snap, TN_STR(TN_NS_SYSTEM), TN_STR(SYSTEM_ID), 7 * 24 * 3600 * TN_SEC,
                            "Temporal internal system namespace", err);
    for (size_t i = 0; status == TN_OK && i < n_create; i++) {
        uint8_t id[16];
        char text[TN_UUID_TEXT_LEN + 1];
        tn_uuid_v5(space, tn_blob_of_str(create[i]), id);
        tn_uuid_format(id, text);
        status = create_one(&snap, create[i], tn_str_from(text), retention_ns, "", err);
    }
    if (status == TN_OK) {
        uint32_t count = tn_loops_count();
        for (uint32_t i = 0; i < count; i++) {
            atomic_fetch_add_explicit(&snap->refs, 1, memory_order_relaxed);
            tn_loop_call(tn_loops_get(i), install, snap);
        }
    }
    snapshot_unref(snap);
    return status;
}

void tn_namespace_stop(void)
{
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(tn_loops_get(i), install, NULL);
}
