/* SPDX-License-Identifier: MIT */
/* The registry over a store of the test's own: records that are there at start, creations and updates
 * through loop 0, conflicts, doubt, and that every loop sees a write when its writer hears of it. */
#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <pthread.h>
#include <unistd.h>

#include <cmocka.h>

#include "namespace/namespace.h"
#include "proto/proto.h"
#include "store/store.h"
#include "tenon/store.pb-c.h"

#define LOOPS 3

/* ---- the store -------------------------------------------------------------------------------- */

#define ROWS_MAX 2000
static struct {
    tn_arena *arena;
    tn_row rows[ROWS_MAX];
    size_t count;
    uint64_t version;
    tn_status next_commit; /* what the next commit says; TN_OK: the truth */
    bool apply;            /* whether it is done all the same */
    bool hold;             /* the next scan has its answer and keeps it... */
    tn_store_op *held;     /* ...until let_go: loop 0 */
} store;

/* Rows of the names lie behind `names`: only those of namespaces are scanned. */
static tn_row names[ROWS_MAX];
static size_t names_count;

static tn_row *find_row(tn_blob row)
{
    for (size_t i = 0; i < store.count; i++)
        if (tn_blob_eq(store.rows[i].key.row, row))
            return &store.rows[i];
    for (size_t i = 0; i < names_count; i++)
        if (tn_blob_eq(names[i].key.row, row))
            return &names[i];
    return NULL;
}

static tn_status apply_batch(const tn_batch *batch, tn_commit *out)
{
    for (size_t i = 0; i < batch->n_conds; i++) {
        const tn_cond *cond = &batch->conds[i];
        tn_row *row = find_row(cond->key.row);
        bool holds = cond->test == TN_COND_ABSENT ? !row : row && row->version == cond->version;
        if (!holds) {
            if (row)
                out->current = *row;
            out->failed_cond = (uint32_t)i;
            return TN_ECONFLICT;
        }
    }
    store.version++;
    for (size_t i = 0; i < batch->n_muts; i++) {
        tn_row *row = find_row(batch->muts[i].key.row);
        if (batch->muts[i].verb == TN_MUT_DELETE) {
            if (row && batch->muts[i].key.table == TN_TABLE_META)
                *row = names[--names_count];
            else if (row)
                *row = store.rows[--store.count];
            continue;
        }
        if (!row) {
            row = batch->muts[i].key.table == TN_TABLE_META ? &names[names_count++]
                                                            : &store.rows[store.count++];
            row->key.row = tn_arena_blob(store.arena, batch->muts[i].key.row);
        }
        row->value = tn_arena_blob(store.arena, batch->muts[i].value);
        row->version = store.version;
    }
    out->version = store.version;
    return TN_OK;
}

void tn_store_get(tn_store_op *op)
{
    tn_row *row = find_row(op->u.get.key.row);
    op->status = row ? TN_OK : TN_ENOTFOUND;
    if (row)
        op->u.get.row = *row;
    op->done(op);
}

void tn_store_commit(tn_store_op *op)
{
    tn_status said = store.next_commit;
    store.next_commit = TN_OK;
    memset(&op->u.commit.commit, 0, sizeof(op->u.commit.commit));
    op->status = TN_OK;
    if (said == TN_OK || store.apply)
        op->status = apply_batch(&op->u.commit.batch, &op->u.commit.commit);
    if (said != TN_OK)
        op->status = said;
    op->done(op);
}

tn_status tn_store_scan_sync(tn_arena *arena, const tn_range *range, tn_page *out, tn_error *err)
{
    (void)err;
    size_t first = 0;
    if (range->page.n)
        memcpy(&first, range->page.p, sizeof(first));
    size_t count = store.count - first < range->limit ? store.count - first : range->limit;
    *out = (tn_page){.struct_size = sizeof(*out), .rows = &store.rows[first], .n_rows = count};
    first += count;
    if (first < store.count)
        out->next = tn_blob_from(tn_arena_memdup(arena, &first, sizeof(first)), sizeof(first));
    return TN_OK;
}

void tn_store_scan(tn_store_op *op)
{
    op->status = store.next_commit;
    store.next_commit = TN_OK;
    if (op->status == TN_OK)
        op->status = tn_store_scan_sync(op->arena, &op->u.scan.range, &op->u.scan.page, NULL);
    if (store.hold)
        store.held = op;
    else
        op->done(op);
}

static void let_go(void *arg)
{
    (void)arg;
    store.hold = false;
    store.held->done(store.held);
}

tn_status tn_store_commit_sync(tn_arena *arena, const tn_batch *batch, tn_commit *out,
                               tn_error *err)
{
    (void)arena, (void)err;
    return apply_batch(batch, out);
}

tn_key tn_store_key(tn_arena *arena, uint32_t table, uint32_t partition, tn_blob row)
{
    assert_true(table == TN_TABLE_NAMESPACE || table == TN_TABLE_META);
    assert_int_equal(partition, TN_PARTITION_CLUSTER);
    return (tn_key){.table = table, .row = tn_arena_blob(arena, row)};
}

void tn_store_batch_init(tn_store_batch *batch, tn_arena *arena)
{
    memset(batch, 0, sizeof(*batch));
    batch->arena = arena;
    batch->conds = TN_NEW_ARRAY(arena, tn_cond, 4);
    batch->muts = TN_NEW_ARRAY(arena, tn_mut, 4);
}

void tn_store_batch_cond(tn_store_batch *batch, uint32_t test, tn_key key, uint64_t version)
{
    batch->conds[batch->n_conds++] = (tn_cond){.test = test, .key = key, .version = version};
}

void tn_store_batch_put(tn_store_batch *batch, tn_key key, tn_blob value)
{
    batch->muts[batch->n_muts++] = (tn_mut){.verb = TN_MUT_PUT, .key = key, .value = value};
}

void tn_store_batch_delete(tn_store_batch *batch, tn_key key)
{
    batch->muts[batch->n_muts++] = (tn_mut){.verb = TN_MUT_DELETE, .key = key};
}

tn_batch tn_store_batch_finish(const tn_store_batch *batch)
{
    return (tn_batch){.struct_size = sizeof(tn_batch),
                      .conds = batch->conds,
                      .n_conds = batch->n_conds,
                      .muts = batch->muts,
                      .n_muts = batch->n_muts};
}

/* ---- writing and reading on loops ------------------------------------------------------------- */

static tn_blob record(tn_arena *arena, const char *id, const char *name, const char *description)
{
    Tenon__NamespaceRecord rec = TENON__NAMESPACE_RECORD__INIT;
    Tenon__SearchAttribute attrs[2] = {TENON__SEARCH_ATTRIBUTE__INIT,
                                       TENON__SEARCH_ATTRIBUTE__INIT};
    Tenon__SearchAttribute *list[2] = {&attrs[0], &attrs[1]};
    attrs[0].name = (char *)(uintptr_t) "Zeta", attrs[0].type = TN_ATTR_INT;
    attrs[1].name = (char *)(uintptr_t) "Alpha", attrs[1].type = TN_ATTR_TEXT;
    rec.id = (char *)(uintptr_t)id, rec.name = (char *)(uintptr_t)name;
    rec.description = (char *)(uintptr_t)description;
    rec.state = TN_NS_REGISTERED;
    rec.custom = list, rec.n_custom = 2;
    tn_blob out;
    assert_int_equal(tn_proto_pack(&rec.base, arena, &out), TN_OK);
    return out;
}

typedef struct attempt {
    tn_namespace_write write;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done;
    bool seen_everywhere;
} attempt;

typedef struct probe {
    tn_str name;
    const tn_namespace *ns;
} probe;

static void look(void *arg)
{
    probe *p = arg;
    p->ns = tn_namespace_by_name(p->name);
}

static const tn_namespace *seen_on(uint32_t loop, tn_str name)
{
    probe p = {name, NULL};
    tn_loop_call(tn_loops_get(loop), look, &p);
    return p.ns;
}

static void write_done(tn_namespace_write *write)
{
    attempt *a = TN_CONTAINER_OF(write, attempt, write);
    pthread_mutex_lock(&a->lock);
    a->done = true;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

static void submit(void *arg) { tn_namespace_submit(arg); }

static void begin(attempt *a, tn_arena *arena, int verb, tn_blob value, uint64_t expect)
{
    memset(a, 0, sizeof(*a));
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->wake, NULL);
    a->write.arena = arena;
    a->write.home = tn_loops_get(LOOPS - 1);
    a->write.verb = verb;
    a->write.record = value;
    a->write.expect_version = expect;
    a->write.done = write_done;
    tn_loop_call(a->write.home, submit, &a->write);
}

static void wait_done(attempt *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->wake, &a->lock);
    pthread_mutex_unlock(&a->lock);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->wake);
}

static tn_grpc_code run(tn_arena *arena, int verb, tn_blob value, uint64_t expect,
                        const tn_namespace **out)
{
    attempt a;
    begin(&a, arena, verb, value, expect);
    wait_done(&a);
    if (out)
        *out = a.write.result;
    else
        tn_namespace_unref(a.write.result);
    assert_true((a.write.fault == NULL) == (a.write.result != NULL));
    return a.write.fault ? a.write.fault->code : TN_GRPC_OK;
}

static int start(void **state)
{
    tn_error err = {0};
    const tn_str create[] = {TN_STR("default")};
    memset(&store, 0, sizeof(store));
    names_count = 0;
    store.arena = tn_arena_create(0);
    *state = tn_arena_create(0);
    assert_int_equal(tn_loops_create(LOOPS, &err), TN_OK);
    tn_loops_run();
    return tn_namespace_start(create, 1, 72 * 3600 * TN_SEC, &err);
}

static int stop(void **state)
{
    tn_namespace_stop();
    tn_loops_stop();
    tn_loops_destroy();
    tn_arena_destroy(store.arena);
    tn_arena_destroy(*state);
    return 0;
}

#define ID1 "aaaaaaaa-0000-4000-8000-000000000001"
#define ID2 "aaaaaaaa-0000-4000-8000-000000000002"

/* ---- cases ------------------------------------------------------------------------------------ */

static void test_start(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LOOPS; i++) {
        const tn_namespace *ns = seen_on(i, TN_STR("temporal-system"));
        assert_non_null(ns);
        assert_true(tn_str_is(ns->id, "32049b68-7872-4094-8e63-d0dd59896a83"));
        assert_int_equal(ns->retention_ns, 7 * 24 * 3600 * TN_SEC);
        tn_namespace_unref(ns);
        ns = seen_on(i, TN_STR("default"));
        assert_non_null(ns);
        assert_int_equal(ns->state, TN_NS_REGISTERED);
        assert_int_equal(ns->retention_ns, 72 * 3600 * TN_SEC);
        tn_namespace_unref(ns);
        assert_null(seen_on(i, TN_STR("other")));
    }
    assert_int_equal(store.count, 2);
    /* Started again, it reads what is there and makes nothing. */
    const tn_namespace *before =
        tn_namespace_by_name(TN_STR("default")); /* from a thread that is no loop */
    tn_error err = {0};
    const tn_str create[] = {TN_STR("default")};
    tn_namespace_stop();
    assert_null(tn_namespace_by_name(TN_STR("default")));
    assert_int_equal(tn_namespace_start(create, 1, 1, &err), TN_OK);
    assert_int_equal(store.count, 2);
    const tn_namespace *after = tn_namespace_by_id(before->id);
    assert_non_null(after);
    assert_true(tn_blob_eq(before->record, after->record));
    tn_namespace_unref(before);
    tn_namespace_unref(after);
}

static void test_create_and_update(void **state)
{
    tn_arena *arena = *state;
    const tn_namespace *ns, *changed;
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID1, "one", "first"), 0, &ns),
                     TN_GRPC_OK);
    assert_int_equal(ns->n_custom_attrs, 2);
    assert_true(tn_str_is(ns->custom_attrs[0].name, "Alpha")); /* sorted */
    assert_int_equal(tn_search_attr_type(ns, TN_STR("Zeta")), TN_ATTR_INT);
    assert_int_equal(tn_search_attr_type(ns, TN_STR("Alpha")), TN_ATTR_TEXT);
    assert_int_equal(tn_search_attr_type(ns, TN_STR("Beta")), 0);
    assert_int_equal(tn_search_attr_type(ns, TN_STR("StartTime")), TN_ATTR_DATETIME);
    for (uint32_t i = 0; i < LOOPS; i++) { /* at once, everywhere */
        const tn_namespace *seen = seen_on(i, TN_STR("one"));
        assert_ptr_equal(seen, ns);
        tn_namespace_unref(seen);
    }
    assert_int_equal(
        run(arena, TN_NS_UPDATE, record(arena, ID1, "one", "second"), ns->row_version, &changed),
        TN_GRPC_OK);
    assert_true(tn_str_is(changed->description, "second"));
    assert_true(tn_str_is(ns->description, "first")); /* what is held stays as it was */
    assert_true(changed->row_version > ns->row_version);
    /* A stale version, a name that is taken, one that is not there. */
    assert_int_equal(
        run(arena, TN_NS_UPDATE, record(arena, ID1, "one", "x"), ns->row_version, NULL),
        TN_GRPC_UNAVAILABLE);
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID2, "one", "x"), 0, NULL),
                     TN_GRPC_ALREADY_EXISTS);
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID1, "two", "x"), 0, NULL),
                     TN_GRPC_ALREADY_EXISTS);
    assert_int_equal(run(arena, TN_NS_UPDATE, record(arena, ID2, "two", "x"), 1, NULL),
                     TN_GRPC_NOT_FOUND);
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, "no-uuid", "two", "x"), 0, NULL),
                     TN_GRPC_INVALID_ARGUMENT);
    assert_int_equal(run(arena, TN_NS_CREATE, tn_blob_from("\xff\xff", 2), 0, NULL),
                     TN_GRPC_INVALID_ARGUMENT);
    /* A rename: the old name is gone. */
    assert_int_equal(
        run(arena, TN_NS_UPDATE, record(arena, ID1, "uno", "x"), changed->row_version, NULL),
        TN_GRPC_OK);
    assert_null(seen_on(1, TN_STR("one")));
    tn_namespace_unref(seen_on(1, TN_STR("uno")));
    tn_namespace_unref(ns);
    tn_namespace_unref(changed);
}

static void count_change(tn_namespace_list_watch *watch);

static struct {
    tn_namespace_list_watch watch;
    unsigned changes;
} watching = {.watch = {count_change}};

static void count_change(tn_namespace_list_watch *watch)
{
    TN_CONTAINER_OF(watch, __typeof__(watching), watch)->changes++;
}

static void watch_it(void *arg) { tn_namespace_watch(arg); }

static void test_rename_and_remove(void **state)
{
    tn_arena *arena = *state;
    const tn_namespace *ns, *renamed;
    tn_loop_call(tn_loops_get(0), watch_it, &watching.watch);
    watching.changes = 0;
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID1, "one", ""), 0, &ns), TN_GRPC_OK);
    assert_int_equal(
        run(arena, TN_NS_UPDATE, record(arena, ID1, "one-deleted", ""), ns->row_version, &renamed),
        TN_GRPC_OK);
    /* The old name may be claimed again, the new one may not. */
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID2, "one-deleted", ""), 0, NULL),
                     TN_GRPC_ALREADY_EXISTS);
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID2, "one", ""), 0, NULL), TN_GRPC_OK);
    assert_int_equal(run(arena, TN_NS_REMOVE, ns->record, ns->row_version, NULL),
                     TN_GRPC_UNAVAILABLE);
    size_t rows = store.count, claims = names_count;
    store.next_commit = TN_EUNCERTAIN, store.apply = false;
    assert_int_equal(run(arena, TN_NS_REMOVE, renamed->record, renamed->row_version, NULL),
                     TN_GRPC_UNAVAILABLE);
    store.next_commit = TN_EUNCERTAIN, store.apply = true;
    assert_int_equal(run(arena, TN_NS_REMOVE, renamed->record, renamed->row_version, NULL),
                     TN_GRPC_OK);
    assert_int_equal(store.count, rows - 1);
    assert_int_equal(names_count, claims - 1);
    assert_null(seen_on(2, TN_STR("one-deleted")));
    tn_namespace_unref(seen_on(2, TN_STR("one")));
    assert_int_equal(run(arena, TN_NS_REMOVE, renamed->record, renamed->row_version, NULL),
                     TN_GRPC_NOT_FOUND);
    assert_true(watching.changes >= 4);
    tn_loop_call(tn_loops_get(0), watch_it, NULL);
    tn_namespace_unref(ns);
    tn_namespace_unref(renamed);
}

static void test_store_failures(void **state)
{
    tn_arena *arena = *state;
    store.next_commit = TN_EUNAVAILABLE;
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID1, "one", ""), 0, NULL),
                     TN_GRPC_UNAVAILABLE);
    assert_null(seen_on(0, TN_STR("one")));
    store.next_commit = TN_EUNCERTAIN, store.apply = false;
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID1, "one", ""), 0, NULL),
                     TN_GRPC_UNAVAILABLE);
    assert_null(seen_on(0, TN_STR("one")));
    store.next_commit = TN_EUNCERTAIN, store.apply = true;
    const tn_namespace *ns;
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID1, "one", ""), 0, &ns), TN_GRPC_OK);
    assert_int_equal(ns->row_version, store.version);
    tn_namespace_unref(ns);
    ns = seen_on(2, TN_STR("one"));
    assert_non_null(ns);
    tn_namespace_unref(ns);
    /* Another host wrote the record meanwhile: refused, but learnt, so that trying again succeeds. */
    uint64_t known = store.version++;
    tn_row *row = find_row(tn_blob_of_str(TN_STR(ID1)));
    row->version = store.version;
    row->value = record(arena, ID1, "one", "theirs");
    assert_int_equal(run(arena, TN_NS_UPDATE, record(arena, ID1, "one", "y"), known, NULL),
                     TN_GRPC_UNAVAILABLE);
    ns = seen_on(1, TN_STR("one"));
    assert_true(tn_str_is(ns->description, "theirs"));
    assert_int_equal(
        run(arena, TN_NS_UPDATE, record(arena, ID1, "one", "y"), ns->row_version, NULL),
        TN_GRPC_OK);
    tn_namespace_unref(ns);
}

static void test_many_writers(void **state)
{
    enum { N = 300 };
    static attempt attempts[N];
    tn_arena *arena = *state, *arenas[N];
    for (int i = 0; i < N; i++) {
        char *id = tn_arena_printf(arena, "aaaaaaaa-0000-4000-8000-%012d", i);
        char *name = tn_arena_printf(arena, "ns-%03d", i);
        arenas[i] = tn_arena_create(0);
        begin(&attempts[i], arenas[i], TN_NS_CREATE, record(arenas[i], id, name, ""), 0);
    }
    for (int i = 0; i < N; i++) {
        wait_done(&attempts[i]);
        assert_null(attempts[i].write.fault);
        tn_namespace_unref(attempts[i].write.result);
        tn_arena_destroy(arenas[i]);
    }
    const tn_namespace_list *list = tn_namespace_list_acquire();
    assert_int_equal(list->count, N + 2);
    for (size_t i = 1; i < list->count; i++)
        assert_true(tn_blob_cmp(tn_blob_of_str(list->items[i - 1]->name),
                                tn_blob_of_str(list->items[i]->name)) < 0);
    tn_namespace_list_release(list);
    /* All of them are read again at start, over several pages. */
    for (int i = 0; i < 900; i++) {
        char *id = tn_arena_printf(arena, "bbbbbbbb-0000-4000-8000-%012d", i);
        store.rows[store.count++] =
            (tn_row){.key.row = tn_blob_of_str(tn_str_from(id)),
                     .value = record(arena, id, tn_arena_printf(arena, "more-%d", i), ""),
                     .version = 1};
    }
    tn_error err = {0};
    tn_namespace_stop();
    assert_int_equal(tn_namespace_start(NULL, 0, 0, &err), TN_OK);
    list = tn_namespace_list_acquire();
    assert_int_equal(list->count, N + 2 + 900);
    tn_namespace_list_release(list);
    /* A record that is damaged stops the start, with its reason. */
    store.rows[5].value = tn_blob_from("\xff", 1);
    tn_namespace_stop();
    assert_true(tn_namespace_start(NULL, 0, 0, &err) < 0);
    assert_true(err.text[0]);
}

/* What another host has written is seen after a refresh, and what it has deleted is not. */
static void test_refresh(void **state)
{
    tn_arena *arena = *state;
    attempt a;
    store.rows[store.count++] = (tn_row){.key.row = tn_blob_of_str(TN_STR(ID2)),
                                         .value = record(arena, ID2, "elsewhere", ""),
                                         .version = ++store.version};
    assert_null(seen_on(0, TN_STR("elsewhere")));
    begin(&a, arena, TN_NS_REFRESH, (tn_blob){NULL, 0}, 0);
    wait_done(&a);
    assert_null(a.write.fault);
    assert_null(a.write.result);
    for (uint32_t i = 0; i < LOOPS; i++) {
        const tn_namespace *ns = seen_on(i, TN_STR("elsewhere"));
        assert_non_null(ns);
        tn_namespace_unref(ns);
    }
    store.count--;
    store.next_commit = TN_EUNAVAILABLE; /* of the scan */
    begin(&a, arena, TN_NS_REFRESH, (tn_blob){NULL, 0}, 0);
    wait_done(&a);
    assert_int_equal(a.write.fault->code, TN_GRPC_UNAVAILABLE);
    const tn_namespace *still = seen_on(1, TN_STR("elsewhere"));
    assert_non_null(still); /* what cannot be read is not forgotten */
    tn_namespace_unref(still);
    begin(&a, arena, TN_NS_REFRESH, (tn_blob){NULL, 0}, 0);
    wait_done(&a);
    assert_null(seen_on(1, TN_STR("elsewhere")));
}

static void members_changed(void *arg)
{
    (void)arg;
    tn_namespace_reread();
}

static atomic_int answers;

static void answered(void *user)
{
    (void)user;
    atomic_fetch_add(&answers, 1);
}

static void ask(void *arg)
{
    (void)arg;
    assert_true(tn_namespace_reread_for(answered, NULL));
}

/* A host that was away has heard of no writes: it reads them when members have come or gone, and what it has already is
 * not handed out again. */
static void test_reread(void **state)
{
    tn_arena *arena = *state;
    attempt a;
    watching.changes = 0;
    tn_loop_call(tn_loops_get(0), watch_it, &watching.watch);
    begin(&a, arena, TN_NS_REFRESH, (tn_blob){NULL, 0}, 0);
    wait_done(&a);
    assert_null(a.write.fault);
    assert_int_equal(watching.changes, 0);
    tn_namespace_reread_start();
    store.rows[store.count++] = (tn_row){.key.row = tn_blob_of_str(TN_STR(ID2)),
                                         .value = record(arena, ID2, "elsewhere", ""),
                                         .version = ++store.version};
    tn_loop_call(tn_loops_get(0), members_changed, NULL);
    const tn_namespace *ns = NULL;
    for (int i = 0; !ns && i < 10000; i++) {
        usleep(1000);
        ns = seen_on(LOOPS - 1, TN_STR("elsewhere"));
    }
    assert_non_null(ns);
    tn_namespace_unref(ns);
    tn_namespace_reread_stop();
    assert_int_equal(watching.changes, 1);
    /* Before a caller is told that there is none. */
    store.count--;
    tn_namespace_reread_start();
    tn_loop_call(tn_loops_get(LOOPS - 1), ask, NULL);
    for (int i = 0; !atomic_load(&answers) && i < 10000; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&answers), 1);
    assert_null(seen_on(LOOPS - 1, TN_STR("elsewhere")));
    tn_namespace_reread_stop();
    assert_int_equal(watching.changes, 2);
    tn_loop_call(tn_loops_get(0), watch_it, NULL);
}

static void nothing(void *arg) { (void)arg; }

static void answered_there(void *user)
{
    const tn_namespace *ns = tn_namespace_by_name(TN_STR("elsewhere"));
    *(bool *)user = ns != NULL;
    tn_namespace_unref(ns);
    answered(NULL);
}

static void ask_there(void *arg) { assert_true(tn_namespace_reread_for(answered_there, arg)); }

/* Who asks while the store's answer is on its way is not answered by it: it knows nothing of what was written since. */
static void test_reread_under_way(void **state)
{
    bool first = true, second = false;
    tn_arena *arena = *state;
    atomic_store(&answers, 0);
    tn_namespace_reread_start();
    store.hold = true;
    tn_loop_call(tn_loops_get(1), ask_there, &first);
    while (tn_loop_call(tn_loops_get(0), nothing, NULL), !store.held)
        usleep(1000);
    store.rows[store.count++] = (tn_row){.key.row = tn_blob_of_str(TN_STR(ID2)),
                                         .value = record(arena, ID2, "elsewhere", ""),
                                         .version = ++store.version};
    tn_loop_call(tn_loops_get(1), ask_there, &second);
    tn_loop_call(tn_loops_get(0), nothing, NULL);
    tn_loop_call(tn_loops_get(0), let_go, NULL);
    for (int i = 0; atomic_load(&answers) < 2 && i < 10000; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&answers), 2);
    assert_false(first);
    assert_true(second);
    tn_namespace_reread_stop();
}

/* Another host made a namespace of that name a moment ago, and this one has not heard of it. */
static void test_name_taken_elsewhere(void **state)
{
    tn_arena *arena = *state;
    names[names_count++] = (tn_row){.key.row = tn_blob_of_str(TN_STR("ns-name:one")),
                                    .value = tn_blob_of_str(TN_STR(ID2)),
                                    .version = ++store.version};
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID1, "one", ""), 0, NULL),
                     TN_GRPC_ALREADY_EXISTS);
    assert_null(seen_on(0, TN_STR("one")));
    assert_int_equal(run(arena, TN_NS_CREATE, record(arena, ID1, "two", ""), 0, NULL), TN_GRPC_OK);
}

static void test_not_found(void **state)
{
    const tn_fault *fault = tn_namespace_not_found(*state, TN_STR("nowhere"));
    assert_int_equal(fault->code, TN_GRPC_NOT_FOUND);
    assert_true(tn_str_is(fault->message, "Namespace nowhere is not found."));
    assert_true(
        tn_str_is(fault->detail_type, "temporal.api.errordetails.v1.NamespaceNotFoundFailure"));
    assert_true(fault->detail.n > 7);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest cases[] = {
        CASE(test_start),
        CASE(test_create_and_update),
        CASE(test_store_failures),
        CASE(test_many_writers),
        CASE(test_not_found),
        CASE(test_refresh),
        CASE(test_reread),
        CASE(test_reread_under_way),
        CASE(test_name_taken_elsewhere),
        CASE(test_rename_and_remove),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
