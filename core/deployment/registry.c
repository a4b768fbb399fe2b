/* SPDX-License-Identifier: MIT */
/* The registry: immutable records in immutable snapshots, one slot a loop, so that reading takes neither a lock nor an
 * atomic.  Loop 0 makes one change at a time: a pure function of the record, written on the condition that it is still the
 * one it was; when another host was first, its record is taken and the change made to that.  After the commit each loop
 * gets the new snapshot, the other hosts are told, and only then the caller. */
#include "deployment/private.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "namespace/namespace.h"
#include "proto/proto.h"
#include "store/store.h"

#define LOOPS_MAX 64
#define SCAN_ROWS 200
#define TRIES_MAX 20
#define WATCHES_MAX 4

typedef struct entry {
    const tn_deployment *record;
    tn_blob packed;
    uint64_t row_version;
    atomic_uint refs;
    tn_arena *arena;
} entry;

typedef struct snapshot {
    entry **entries; /* sorted by namespace and name; each is one reference */
    const tn_deployment **records;
    size_t count;
    tn_deployment_index *index;
    atomic_uint refs;
} snapshot;

typedef struct job job;
typedef struct handover {
    tn_msg msg;
    job *job;
    snapshot *snap;
    uint32_t loop;
} handover;

typedef struct waiter { /* for a refresh */
    tn_msg msg;
    tn_loop *home;
    void (*done)(void *user);
    void *user;
} waiter;

struct job {
    tn_deployment_change *change; /* NULL: a refresh */
    waiter *waiter;
    tn_arena *arena;
    tn_store_op op;
    tn_blob packed; /* what is being written; empty: deleted */
    bool written;
    int tries;
    uint32_t awaited;
    void (*then)(job *j);
    struct {
        entry **items;
        size_t count, cap;
    } all;
    handover handovers[LOOPS_MAX];
};

static snapshot *slots[LOOPS_MAX]; /* slot i belongs to loop i */
static void (*announce_write)(tn_str ns_id, void (*told)(void *user), void *user);
static void (*watches[WATCHES_MAX])(void);
static struct { /* loop 0 */
    bool running, busy;
    tn_msg *queue, **tail;
} writer;

void tn_deployments_announce(void (*announce)(tn_str ns_id, void (*told)(void *user), void *user))
{
    announce_write = announce;
}

void tn_deployments_watch(void (*changed)(void))
{
    size_t i = 0;
    while (i < WATCHES_MAX && watches[i] && watches[i] != changed)
        i++;
    TN_ASSERT(i < WATCHES_MAX);
    watches[i] = changed;
}

/* ---- entries and snapshots ------------------------------------------------------------------- */

static void entry_unref(entry *e)
{
    /* Pairs with the other owners' release: the last one sees what they did before it frees. */
    if (e && atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1) {
        tn_arena_destroy(e->arena);
        free(e);
    }
}

static entry *entry_ref(entry *e)
{
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

static tn_status make_entry(tn_blob packed, uint64_t version, entry **out, tn_error *err)
{
    entry *e = tn_xcalloc(1, sizeof(*e));
    Tenon__DeploymentRecord *record = NULL;
    e->arena = tn_arena_create(0);
    atomic_init(&e->refs, 1);
    e->packed = tn_arena_blob(e->arena, packed);
    e->row_version = version;
    tn_status status = TN_PROTO_UNPACK(tenon__deployment_record, packed, e->arena, &record, err);
    if (status == TN_OK && (!*record->ns_id || !*record->name))
        status = tn_error_set(err, TN_EDATALOSS,
                              "a worker deployment's record has no namespace or name");
    if (status != TN_OK) {
        entry_unref(e);
        return status;
    }
    e->record = record;
    *out = e;
    return TN_OK;
}

static int compare_entries(const void *a, const void *b)
{
    const tn_deployment *x = (*(entry *const *)a)->record, *y = (*(entry *const *)b)->record;
    return tn_deployment_order(tn_str_from(x->ns_id), tn_str_from(x->name), tn_str_from(y->ns_id),
                               tn_str_from(y->name));
}

/* Takes the references. */
static snapshot *make_snapshot(entry **entries, size_t n)
{
    snapshot *snap = tn_xcalloc(1, sizeof(*snap));
    snap->entries = entries;
    snap->count = n;
    snap->records = tn_xcalloc(n + 1, sizeof(snap->records[0]));
    if (n)
        qsort(entries, n, sizeof(entries[0]), compare_entries);
    for (size_t i = 0; i < n; i++)
        snap->records[i] = entries[i]->record;
    snap->index = tn_deployment_index_create(snap->records, n);
    atomic_init(&snap->refs, 1);
    return snap;
}

static void snapshot_unref(snapshot *snap)
{
    if (!snap || atomic_fetch_sub_explicit(&snap->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < snap->count; i++)
        entry_unref(snap->entries[i]);
    tn_deployment_index_destroy(snap->index);
    free(snap->records);
    free(snap->entries);
    free(snap);
}

static size_t first_not_before(const snapshot *snap, tn_str ns_id, tn_str name)
{
    size_t low = 0, high = snap ? snap->count : 0;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const tn_deployment *d = snap->records[mid];
        if (tn_deployment_order(tn_str_from(d->ns_id), tn_str_from(d->name), ns_id, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static entry *find(const snapshot *snap, tn_str ns_id, tn_str name)
{
    size_t i = first_not_before(snap, ns_id, name);
    if (!snap || i >= snap->count || !tn_str_is(ns_id, snap->records[i]->ns_id) ||
        !tn_str_is(name, snap->records[i]->name))
        return NULL;
    return snap->entries[i];
}

/* ---- reading --------------------------------------------------------------------------------- */

static const snapshot *mine(void)
{
    tn_loop *loop = tn_loop_current();
    return loop ? slots[tn_loop_index(loop)] : NULL;
}

bool tn_deployments_any(void)
{
    const snapshot *snap = mine();
    return snap && snap->count;
}

const tn_deployment *tn_deployment_find(tn_str ns_id, tn_str name)
{
    const entry *e = find(mine(), ns_id, name);
    return e ? e->record : NULL;
}

size_t tn_deployment_list(tn_str ns_id, tn_str after, size_t max, const tn_deployment **out)
{
    const snapshot *snap = mine();
    size_t n = 0, i = first_not_before(snap, ns_id, after);
    for (; snap && i < snap->count && n < max && tn_str_is(ns_id, snap->records[i]->ns_id); i++)
        if (!after.n || !tn_str_is(after, snap->records[i]->name))
            out[n++] = snap->records[i];
    return n;
}

static size_t count_of(const snapshot *snap, tn_str ns_id)
{
    size_t i = first_not_before(snap, ns_id, (tn_str){0}), n = 0;
    while (snap && i + n < snap->count && tn_str_is(ns_id, snap->records[i + n]->ns_id))
        n++;
    return n;
}

size_t tn_deployment_count(tn_str ns_id) { return count_of(mine(), ns_id); }

bool tn_deployment_has_queue(tn_str ns_id, tn_dver version, tn_str queue, uint32_t type)
{
    const tn_deployment *d = tn_deployment_find(ns_id, version.deployment);
    const tn_deployment_version *v = d ? tn_deployment_version_find(d, version.build_id) : NULL;
    return v && tn_deployment_version_has(v, queue, type);
}

const tn_routing *tn_deployment_routing(tn_str ns_id, tn_str queue, uint32_t type)
{
    const snapshot *snap = mine();
    size_t versions;
    return snap && snap->count
               ? tn_deployment_index_find(snap->index, ns_id, queue, type, &versions)
               : NULL;
}

size_t tn_deployment_queue_versions(tn_str ns_id, tn_str queue, uint32_t type)
{
    const snapshot *snap = mine();
    size_t versions = 0;
    if (snap && snap->count)
        (void)tn_deployment_index_find(snap->index, ns_id, queue, type, &versions);
    return versions;
}

void tn_deployments_each(void (*each)(void *user, const tn_deployment *d), void *user)
{
    const snapshot *snap = mine();
    for (size_t i = 0; snap && i < snap->count; i++)
        each(user, snap->records[i]);
}

void tn_deployment_try(tn_deployment_change *change)
{
    const tn_deployment *d = tn_deployment_find(change->ns_id, change->name);
    (void)tn_deployment_apply(d, change, tn_deployment_count(change->ns_id), tn_now_wall_ns());
}

/* ---- one at a time [loop 0] ------------------------------------------------------------------ */

static void next(void)
{
    tn_msg *msg = writer.queue;
    writer.busy = false;
    if (!msg)
        return;
    writer.queue = msg->next;
    msg->run(msg);
}

static bool wait_in_line(tn_msg *msg)
{
    if (!writer.busy) {
        writer.busy = true;
        return false;
    }
    msg->next = NULL;
    if (writer.queue)
        *writer.tail = msg;
    else
        writer.queue = msg;
    writer.tail = &msg->next;
    return true;
}

static void deliver(tn_msg *msg)
{
    tn_deployment_change *change = TN_CONTAINER_OF(msg, tn_deployment_change, msg);
    change->now = tn_deployment_find(change->ns_id, change->name);
    change->done(change);
}

static void refreshed(tn_msg *msg)
{
    waiter *w = TN_CONTAINER_OF(msg, waiter, msg);
    if (w->done)
        w->done(w->user);
    free(w);
}

static void end(job *j)
{
    for (size_t i = 0; i < j->all.count; i++)
        entry_unref(j->all.items[i]);
    free(j->all.items);
    if (j->change) {
        j->change->msg.run = deliver;
        tn_loop_post(j->change->home, &j->change->msg);
    }
    if (j->waiter) {
        j->waiter->msg.run = refreshed;
        tn_loop_post(j->waiter->home, &j->waiter->msg);
    }
    tn_arena_destroy(j->arena);
    free(j);
    next();
}

static void end_with(job *j, const tn_fault *fault)
{
    if (j->change)
        j->change->fault = fault;
    end(j);
}

/* ---- a new snapshot to every loop ---- */

static void taken(tn_msg *msg)
{
    job *j = TN_CONTAINER_OF(msg, handover, msg)->job;
    if (--j->awaited == 0)
        j->then(j);
}

static void take(tn_msg *msg)
{
    handover *h = TN_CONTAINER_OF(msg, handover, msg);
    snapshot_unref(slots[h->loop]);
    slots[h->loop] = h->snap;
    for (size_t i = 0; i < WATCHES_MAX && watches[i]; i++)
        watches[i]();
    msg->run = taken;
    tn_loop_post(tn_loops_get(0), msg);
}

static void publish(job *j, snapshot *snap, void (*then)(job *j))
{
    uint32_t count = tn_loops_count();
    j->awaited = count;
    j->then = then;
    atomic_fetch_add_explicit(&snap->refs, count - 1, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        handover *h = &j->handovers[i];
        *h = (handover){.msg.run = take, .job = j, .snap = snap, .loop = i};
        tn_loop_post(tn_loops_get(i), &h->msg);
    }
}

/* The snapshot of loop 0 with `fresh` (its reference is taken) in the place of that name; NULL: without it. */
static snapshot *with(entry *fresh, tn_str ns_id, tn_str name)
{
    const snapshot *old = slots[0];
    size_t n = 0, count = old ? old->count : 0;
    entry **entries = tn_xcalloc(count + 1, sizeof(entries[0]));
    for (size_t i = 0; i < count; i++)
        if (!tn_str_is(ns_id, old->records[i]->ns_id) || !tn_str_is(name, old->records[i]->name))
            entries[n++] = entry_ref(old->entries[i]);
    if (fresh)
        entries[n++] = fresh;
    return make_snapshot(entries, n);
}

/* ---- a change ---- */

static void attempt(job *j);

static void told(void *user) { end(user); }

static void known_here(job *j)
{
    if (announce_write)
        announce_write(j->change->ns_id, told, j);
    else
        end(j);
}

static void written(job *j, uint64_t version)
{
    entry *fresh = NULL;
    tn_error err;
    if (j->packed.n && make_entry(j->packed, version, &fresh, &err) != TN_OK) {
        end_with(j, tn_fault_from_status(j->change->arena, TN_EINTERNAL, &err));
        return;
    }
    publish(j, with(fresh, j->change->ns_id, j->change->name), known_here);
}

/* Another host was first: the change is made to what it has written. */
static void learn(job *j, const tn_row *row)
{
    entry *there = NULL;
    tn_error err;
    if (row->version && make_entry(row->value, row->version, &there, &err) != TN_OK) {
        end_with(j, tn_fault_from_status(j->change->arena, TN_EDATALOSS, &err));
        return;
    }
    publish(j, with(there, j->change->ns_id, j->change->name), attempt);
}

static tn_key key_of(tn_arena *arena, tn_str ns_id, tn_str name)
{
    size_t n = ns_id.n + 1 + name.n;
    uint8_t *row = tn_arena_alloc(arena, n + 1);
    TN_ASSERT(row);
    memcpy(row, ns_id.p, ns_id.n);
    row[ns_id.n] = 0;
    if (name.n)
        memcpy(row + ns_id.n + 1, name.p, name.n);
    return tn_store_key(arena, TN_TABLE_DEPLOYMENT, TN_PARTITION_CLUSTER, tn_blob_from(row, n));
}

static void reread(tn_store_op *op)
{
    job *j = op->user;
    tn_row none = {0};
    bool there = op->status == TN_OK;
    if (!there && op->status != TN_ENOTFOUND)
        end_with(j, tn_fault_from_status(j->change->arena, TN_EUNAVAILABLE, NULL));
    else if (there ? tn_blob_eq(op->u.get.row.value, j->packed) : !j->packed.n)
        written(j, there ? op->u.get.row.version : 0);
    else
        learn(j, there ? &op->u.get.row : &none);
}

static void committed(tn_store_op *op)
{
    job *j = op->user;
    tn_key key;
    switch (op->status) {
    case TN_OK:
        written(j, op->u.commit.commit.version);
        break;
    case TN_ECONFLICT:
        learn(j, &op->u.commit.commit.current);
        break;
    case TN_EUNCERTAIN: /* what is there now decides */
        key = key_of(j->arena, j->change->ns_id, j->change->name);
        *op = (tn_store_op){.arena = j->arena, .user = j, .done = reread};
        op->u.get.key = key;
        tn_store_get(op);
        break;
    default:
        end_with(j, tn_fault_from_status(j->change->arena, op->status, &op->error));
    }
}

static void attempt(job *j)
{
    tn_deployment_change *c = j->change;
    const entry *before = find(slots[0], c->ns_id, c->name);
    tn_store_batch batch;
    if (++j->tries > TRIES_MAX) {
        end_with(j, tn_fault_exhausted(c->arena, 5, 1,
                                       "too many requests issued to Worker Deployment '" TN_STR_FMT
                                       "'. Please try again later",
                                       TN_STR_ARG(c->name)));
        return;
    }
    const tn_deployment *after = tn_deployment_apply(
        before ? before->record : NULL, c, count_of(slots[0], c->ns_id), tn_now_wall_ns());
    if (c->fault || c->unchanged) {
        end(j);
        return;
    }
    j->packed = (tn_blob){0};
    if (after && tn_proto_pack(&after->base, j->arena, &j->packed) != TN_OK) {
        end_with(j, tn_fault_from_status(c->arena, TN_ETOOLARGE, NULL));
        return;
    }
    tn_key key = key_of(j->arena, c->ns_id, c->name);
    tn_store_batch_init(&batch, j->arena);
    tn_store_batch_cond(&batch, before ? TN_COND_VERSION : TN_COND_ABSENT, key,
                        before ? before->row_version : 0);
    if (after)
        tn_store_batch_put(&batch, key, j->packed);
    else
        tn_store_batch_delete(&batch, key);
    j->op = (tn_store_op){.arena = j->arena, .user = j, .done = committed};
    j->op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&j->op);
}

static void begin(tn_msg *msg)
{
    if (wait_in_line(msg))
        return;
    job *j = tn_xcalloc(1, sizeof(*j));
    j->change = TN_CONTAINER_OF(msg, tn_deployment_change, msg);
    j->arena = tn_arena_create(0);
    attempt(j);
}

void tn_deployment_submit(tn_deployment_change *change)
{
    TN_ASSERT(change->home && change->done && change->arena);
    tn_arena_set_limit(change->arena, 0);
    change->msg.run = begin;
    tn_loop_post(tn_loops_get(0), &change->msg);
}

static void reactivated(tn_deployment_change *c)
{
    tn_arena_destroy(c->arena); /* the change lies in it, too */
}

void tn_deployment_reactivate(tn_str ns_id, tn_dver version)
{
    const tn_deployment *d = tn_deployment_find(ns_id, version.deployment);
    const tn_deployment_version *v = d ? tn_deployment_version_find(d, version.build_id) : NULL;
    if (!v || (v->status != TN_DEPLOYED_DRAINED && v->status != TN_DEPLOYED_INACTIVE))
        return;
    tn_arena *arena = tn_arena_create(0);
    tn_deployment_change *c = TN_NEW(arena, tn_deployment_change);
    *c = (tn_deployment_change){.arena = arena,
                                .home = tn_loop_current(),
                                .verb = TN_DEPLOYMENT_REACTIVATE,
                                .ns_id = tn_arena_str(arena, ns_id),
                                .name = tn_arena_str(arena, version.deployment),
                                .build_id = tn_arena_str(arena, version.build_id),
                                .done = reactivated};
    tn_deployment_submit(c);
}

/* ---- reading all again [loop 0] ---- */

static void refresh_read(job *j);

static void refresh_came(tn_store_op *op)
{
    job *j = op->user;
    const tn_page *page = &op->u.scan.page;
    tn_status status = op->status;
    for (size_t i = 0; status == TN_OK && i < page->n_rows; i++) {
        if (j->all.count == j->all.cap) {
            j->all.cap = j->all.cap ? 2 * j->all.cap : 16;
            j->all.items = tn_xreallocarray(j->all.items, j->all.cap, sizeof(j->all.items[0]));
        }
        status = make_entry(page->rows[i].value, page->rows[i].version, &j->all.items[j->all.count],
                            NULL);
        j->all.count += status == TN_OK;
    }
    if (status != TN_OK) {
        end(j); /* what is known stays known */
    } else if (page->next.n) {
        refresh_read(j);
    } else {
        snapshot *snap = make_snapshot(j->all.items, j->all.count);
        j->all.items = NULL;
        j->all.count = 0;
        publish(j, snap, end);
    }
}

static void refresh_read(job *j)
{
    tn_blob page = j->op.u.scan.page.next;
    j->op = (tn_store_op){.arena = j->arena, .user = j, .done = refresh_came};
    j->op.u.scan.range =
        (tn_range){.struct_size = sizeof(tn_range), .limit = SCAN_ROWS, .page = page};
    j->op.u.scan.range.from =
        tn_store_key(j->arena, TN_TABLE_DEPLOYMENT, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    tn_store_scan(&j->op);
}

static void refresh_begin(tn_msg *msg)
{
    if (!writer.running) {
        msg->run = refreshed;
        tn_loop_post(TN_CONTAINER_OF(msg, waiter, msg)->home, msg);
        return;
    }
    if (wait_in_line(msg))
        return;
    job *j = tn_xcalloc(1, sizeof(*j));
    j->waiter = TN_CONTAINER_OF(msg, waiter, msg);
    j->arena = tn_arena_create(0);
    refresh_read(j);
}

void tn_deployments_refresh(void (*done)(void *user), void *user)
{
    waiter *w = tn_xcalloc(1, sizeof(*w));
    *w = (waiter){.msg.run = refresh_begin, .home = tn_loop_current(), .done = done, .user = user};
    tn_loop_post(tn_loops_get(0), &w->msg);
}

/* ---- start and stop [main] ------------------------------------------------------------------- */

static tn_status load_all(entry ***out, size_t *out_count, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    size_t count = 0, cap = 0;
    entry **entries = NULL;
    tn_range range = {.struct_size = sizeof(range), .limit = SCAN_ROWS};
    tn_status status;
    range.from = tn_store_key(arena, TN_TABLE_DEPLOYMENT, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    do {
        tn_page page = {.struct_size = sizeof(page)};
        status = tn_store_scan_sync(arena, &range, &page, err);
        for (size_t i = 0; status == TN_OK && i < page.n_rows; i++) {
            if (count == cap) {
                cap = cap ? 2 * cap : 16;
                entries = tn_xreallocarray(entries, cap, sizeof(entries[0]));
            }
            status = make_entry(page.rows[i].value, page.rows[i].version, &entries[count], err);
            count += status == TN_OK;
        }
        range.page = page.next;
    } while (status == TN_OK && range.page.n);
    tn_arena_destroy(arena);
    if (status != TN_OK) {
        for (size_t i = 0; i < count; i++)
            entry_unref(entries[i]);
        free(entries);
        return status;
    }
    *out = entries;
    *out_count = count;
    return TN_OK;
}

static void install(void *arg)
{
    uint32_t index = tn_loop_index(tn_loop_current());
    snapshot_unref(slots[index]);
    slots[index] = arg;
    if (index == 0)
        writer.running = arg != NULL;
}

tn_status tn_deployments_start(tn_error *err)
{
    entry **entries = NULL;
    size_t count = 0;
    tn_status status = load_all(&entries, &count, err);
    if (status != TN_OK)
        return status;
    snapshot *snap = make_snapshot(entries, count);
    for (uint32_t i = 0; i < tn_loops_count(); i++) {
        atomic_fetch_add_explicit(&snap->refs, 1, memory_order_relaxed);
        tn_loop_call(tn_loops_get(i), install, snap);
    }
    snapshot_unref(snap);
    return TN_OK;
}

void tn_deployments_stop(void)
{
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(tn_loops_get(i), install, NULL);
}
