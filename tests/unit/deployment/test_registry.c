/* SPDX-License-Identifier: MIT */
/* The registry over a store of the test's own: what is there at start, changes through loop 0 that every loop sees when
 * their caller hears of them, another host that was first, doubt, and the routing of queues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <pthread.h>

#include <cmocka.h>

#include "deployment/deployment.h"
#include "proto/proto.h"
#include "store/store.h"

#define LOOPS 3

/* ---- the store ------------------------------------------------------------------------------- */

#define ROWS_MAX 64
static struct {
    tn_arena *arena;
    tn_row rows[ROWS_MAX];
    size_t count;
    uint64_t version;
    tn_status next_commit; /* what the next commit says; TN_OK: the truth */
    bool apply;            /* whether it is done all the same */
    unsigned commits;
} store;

static tn_row *find_row(tn_blob row)
{
    for (size_t i = 0; i < store.count; i++)
        if (tn_blob_eq(store.rows[i].key.row, row))
            return &store.rows[i];
    return NULL;
}

static tn_status apply_batch(const tn_batch *batch, tn_commit *out)
{
    tn_row *row = find_row(batch->conds[0].key.row);
    bool holds = batch->conds[0].test == TN_COND_ABSENT
                     ? !row
                     : row && row->version == batch->conds[0].version;
    if (!holds) {
        if (row)
            out->current = *row;
        return TN_ECONFLICT;
    }
    out->version = ++store.version;
    if (batch->muts[0].verb == TN_MUT_DELETE) {
        if (row)
            *row = store.rows[--store.count];
        return TN_OK;
    }
    if (!row) {
        row = &store.rows[store.count++];
        row->key.row = tn_arena_blob(store.arena, batch->muts[0].key.row);
    }
    row->value = tn_arena_blob(store.arena, batch->muts[0].value);
    row->version = store.version;
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
    store.commits++;
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
    (void)arena, (void)range, (void)err;
    *out = (tn_page){.struct_size = sizeof(*out), .rows = store.rows, .n_rows = store.count};
    return TN_OK;
}

void tn_store_scan(tn_store_op *op)
{
    op->status = tn_store_scan_sync(op->arena, &op->u.scan.range, &op->u.scan.page, NULL);
    op->done(op);
}

tn_key tn_store_key(tn_arena *arena, uint32_t table, uint32_t partition, tn_blob row)
{
    assert_int_equal(table, TN_TABLE_DEPLOYMENT);
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

/* ---- on loops -------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done;
    unsigned told; /* other hosts */
} heard = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void hear(void)
{
    pthread_mutex_lock(&heard.lock);
    heard.done = true;
    pthread_cond_signal(&heard.wake);
    pthread_mutex_unlock(&heard.lock);
}

static void wait_heard(void)
{
    pthread_mutex_lock(&heard.lock);
    while (!heard.done)
        pthread_cond_wait(&heard.wake, &heard.lock);
    heard.done = false;
    pthread_mutex_unlock(&heard.lock);
}

static void changed(tn_deployment_change *c)
{
    (void)c;
    hear();
}

static void submit(void *arg) { tn_deployment_submit(arg); }

static const tn_fault *run(tn_deployment_change *c)
{
    c->ns_id = TN_STR("ns");
    c->name = TN_STR("d");
    c->identity = TN_STR("me");
    c->home = tn_loops_get(LOOPS - 1);
    c->done = changed;
    tn_loop_call(c->home, submit, c);
    wait_heard();
    return c->fault;
}

static const tn_fault *polled(tn_arena *arena, const char *build_id, const char *queue)
{
    tn_deployment_change c = {.arena = arena,
                              .verb = TN_DEPLOYMENT_REGISTER,
                              .build_id = tn_str_from(build_id),
                              .queue = tn_str_from(queue),
                              .type = 1};
    return run(&c);
}

static const tn_fault *set_current(tn_arena *arena, const char *build_id)
{
    tn_deployment_change c = {
        .arena = arena, .verb = TN_DEPLOYMENT_SET_CURRENT, .build_id = tn_str_from(build_id)};
    return run(&c);
}

typedef struct sight {
    const char *queue;
    char target[32];
    bool routed, has;
} sight;

static void look(void *arg)
{
    sight *s = arg;
    int64_t revision;
    const tn_routing *routing = tn_deployment_routing(TN_STR("ns"), tn_str_from(s->queue), 1);
    tn_dver v = tn_routing_target(routing, TN_STR("w"), false, &revision);
    s->routed = routing != NULL;
    snprintf(s->target, sizeof(s->target), TN_STR_FMT, TN_STR_ARG(v.build_id));
    s->has = tn_deployment_has_queue(TN_STR("ns"), (tn_dver){TN_STR("d"), TN_STR("1")},
                                     tn_str_from(s->queue), 1);
}

static const char *target_on(uint32_t loop, const char *queue)
{
    static sight s;
    s = (sight){.queue = queue};
    tn_loop_call(tn_loops_get(loop), look, &s);
    return s.routed ? s.target : "none";
}

static void announce(tn_str ns_id, void (*told)(void *user), void *user)
{
    assert_true(tn_str_is(ns_id, "ns"));
    heard.told++;
    told(user);
}

static int start(void **state)
{
    tn_error err = {0};
    memset(&store, 0, sizeof(store));
    store.arena = tn_arena_create(0);
    heard.told = 0;
    assert_int_equal(tn_loops_create(LOOPS, &err), TN_OK);
    tn_loops_run();
    tn_deployments_announce(announce);
    assert_int_equal(tn_deployments_start(&err), TN_OK);
    *state = tn_arena_create(0);
    return 0;
}

static int stop(void **state)
{
    tn_deployments_stop();
    tn_loops_stop();
    tn_loops_destroy();
    tn_arena_destroy(store.arena);
    tn_arena_destroy(*state);
    return 0;
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void seen_everywhere(void **state)
{
    tn_arena *arena = *state;
    tn_error err;
    assert_string_equal(target_on(0, "q"), "none");
    assert_null(polled(arena, "1", "q"));
    assert_null(polled(arena, "2", "q"));
    assert_null(set_current(arena, "1"));
    for (uint32_t i = 0; i < LOOPS; i++)
        assert_string_equal(target_on(i, "q"), "1");
    assert_string_equal(target_on(0, "p"), "none");
    assert_int_equal(heard.told, 3);
    unsigned commits = store.commits;
    assert_null(set_current(arena, "1")); /* no change: nothing is written, nobody is told */
    assert_int_equal(store.commits, commits);
    assert_int_equal(heard.told, 3);
    /* A process that starts later. */
    tn_deployments_stop();
    assert_string_equal(target_on(0, "q"), "none");
    assert_int_equal(tn_deployments_start(&err), TN_OK);
    assert_string_equal(target_on(1, "q"), "1");
}

/* Another host has written meanwhile: the change is made to what it wrote, none is lost. */
static void another_host_was_first(void **state)
{
    tn_arena *arena = *state;
    Tenon__DeploymentRecord *record;
    tn_blob packed;
    assert_null(polled(arena, "1", "q"));
    assert_int_equal(
        TN_PROTO_UNPACK(tenon__deployment_record, store.rows[0].value, arena, &record, NULL),
        TN_OK);
    record->manager = (char *)(uintptr_t) "other";
    assert_int_equal(tn_proto_pack(&record->base, arena, &packed), TN_OK);
    store.rows[0].value = packed;
    store.rows[0].version = ++store.version;
    assert_null(polled(arena, "2", "q"));
    assert_int_equal(
        TN_PROTO_UNPACK(tenon__deployment_record, store.rows[0].value, arena, &record, NULL),
        TN_OK);
    assert_string_equal(record->manager, "other");
    assert_int_equal(record->n_versions, 2);
    assert_int_equal(set_current(arena, "1")->code,
                     TN_GRPC_FAILED_PRECONDITION); /* the manager is known now */
}

static void doubt_is_settled(void **state)
{
    tn_arena *arena = *state;
    assert_null(polled(arena, "1", "q"));
    store.next_commit = TN_EUNCERTAIN;
    store.apply = true;
    assert_null(set_current(arena, "1"));
    assert_string_equal(target_on(0, "q"), "1");
    store.next_commit = TN_EUNCERTAIN;
    store.apply = false;
    assert_null(set_current(arena, "")); /* it was not done: done again */
    assert_string_equal(target_on(2, "q"), "");
    store.next_commit = TN_EUNAVAILABLE;
    assert_int_equal(set_current(arena, "1")->code, TN_GRPC_UNAVAILABLE);
    assert_string_equal(target_on(0, "q"), "");
}

static void refreshed(void *user)
{
    (void)user;
    hear();
}

static void ask_refresh(void *arg)
{
    (void)arg;
    tn_deployments_refresh(refreshed, NULL);
}

static void what_another_host_wrote(void **state)
{
    tn_arena *arena = *state;
    assert_null(polled(arena, "1", "q"));
    assert_null(set_current(arena, "1"));
    tn_row row = store.rows[0];
    store.count = 0;
    tn_loop_call(tn_loops_get(1), ask_refresh, NULL);
    wait_heard();
    assert_string_equal(target_on(0, "q"), "none");
    store.rows[store.count++] = row;
    tn_loop_call(tn_loops_get(1), ask_refresh, NULL);
    wait_heard();
    assert_string_equal(target_on(2, "q"), "1");
}

static void deleted(void **state)
{
    tn_arena *arena = *state;
    assert_null(polled(arena, "1", "q"));
    tn_deployment_change c = {.arena = arena, .verb = TN_DEPLOYMENT_DELETE};
    assert_int_equal(run(&c)->code, TN_GRPC_FAILED_PRECONDITION);
    c = (tn_deployment_change){
        .arena = arena, .verb = TN_DEPLOYMENT_DELETE_VERSION, .build_id = TN_STR("1")};
    assert_null(run(&c));
    assert_string_equal(target_on(0, "q"), "none");
    c = (tn_deployment_change){.arena = arena, .verb = TN_DEPLOYMENT_DELETE};
    assert_null(run(&c));
    assert_null(c.now);
    assert_int_equal(store.count, 0);
}

/* A queue that the current version has not polled follows nobody. */
static void only_queues_of_the_current_version_follow_it(void **state)
{
    tn_arena *arena = *state;
    assert_null(polled(arena, "1", "a"));
    assert_null(polled(arena, "1", "b"));
    assert_null(polled(arena, "2", "a"));
    assert_null(set_current(arena, "1"));
    assert_string_equal(target_on(0, "b"), "1");
    assert_null(set_current(arena, "2"));
    assert_string_equal(target_on(0, "a"), "2");
    assert_string_equal(target_on(0, "b"), "");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest cases[] = {
        CASE(seen_everywhere),  CASE(another_host_was_first),
        CASE(doubt_is_settled), CASE(what_another_host_wrote),
        CASE(deleted),          CASE(only_queues_of_the_current_version_follow_it),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
