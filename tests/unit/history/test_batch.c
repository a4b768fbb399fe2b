/* SPDX-License-Identifier: MIT */
/* Batch jobs: their pace, what they try again, what a crash leaves of them, how they end. */
#include "history/machine/batch.h"

#include "machine_kit.h"

typedef Temporal__Api__Workflowservice__V1__StartBatchOperationRequest start_request;

/* ---- words ----------------------------------------------------------------------------------- */

static const tn_batch_job *job(const kit *k) { return k->ms->object; }

static void open_job(kit *k)
{
    start_request *r;
    tn_object_reply reply = {0};
    uint8_t id[16];
    tn_tx *tx;

    kit_open(k, 5);
    k->check = false; /* an object's records are snapshots */
    memcpy(id, k->ms->run_id, 16);
    tn_ms_destroy(k->ms);
    k->ms = tn_ms_create(k->env.ns_id,
                         tn_object_workflow_id(k->arena, &tn_batch_kind, TN_STR("job")), id);
    r = TN_MSG(k->arena, temporal__api__workflowservice__v1__start_batch_operation_request);
    r->namespace_ = (char *)"default";
    r->job_id = (char *)"job";
    r->reason = (char *)"a \"reason\"";
    r->visibility_query = (char *)"WorkflowType='x'";
    r->operation_case =
        TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION_SIGNAL_OPERATION;
    r->signal_operation = TN_MSG(k->arena, temporal__api__batch__v1__batch_operation_signal);
    r->signal_operation->signal = (char *)"s";
    r->signal_operation->identity = (char *)"me";
    reply.arena = k->arena;
    tx = kit_begin(k);
    assert_true(tn_batch_kind.creates(&r->base));
    assert_true(kit_end(k, tn_batch_kind.create(tx, &r->base, &reply)));
}

static void result(kit *k, uint32_t what, uint64_t id, const tn_fault *fault,
                   const ProtobufCMessage *response)
{
    tn_tx *tx = kit_begin(k);
    tn_object_result r = {.what = what, .id = id, .fault = fault, .response = response};

    tn_batch_kind.result(tx, &r);
    assert_true(kit_end(k, NULL));
}

static Tenon__BatchPage *page(kit *k, size_t n, const char *next)
{
    Tenon__BatchPage *p = TN_MSG(k->arena, tenon__batch_page);

    p->count = 100;
    p->concurrency = 3;
    p->rate = 10;
    p->targets = tn_arena_array(k->arena, n + 1, sizeof(p->targets[0]));
    for (size_t i = 0; i < n; i++) {
        p->targets[p->n_targets] = TN_MSG(k->arena, tenon__batch_target);
        p->targets[p->n_targets++]->workflow_id = tn_arena_printf(k->arena, "w%zu", i);
    }
    p->next_page = (ProtobufCBinaryData){strlen(next), (uint8_t *)(uintptr_t)next};
    return p;
}

typedef struct asked {
    uint32_t what[64];
    uint64_t id[64];
    size_t n;
} asked;

static void note(void *user, tn_want want, void *item)
{
    asked *a = user;
    tn_object_want *w = item;

    assert_int_equal(want, TN_WANT_OBJECT);
    w->dispatched = true;
    a->what[a->n] = w->what;
    a->id[a->n++] = w->id;
}

static asked ask(kit *k)
{
    asked a = {.n = 0};

    tn_ms_wants(k->ms, k->now_ns, note, &a);
    return a;
}

static void fire(kit *k)
{
    tn_tx *tx = kit_begin(k);

    tn_batch_kind.fire(tx);
    assert_true(kit_end(k, NULL));
}

/* The process dies; the last snapshot is what there is. */
static void crash(kit *k, tn_blob snapshot)
{
    Tenon__Snapshot *saved;
    tn_error err = {0};

    assert_int_equal(TN_PROTO_UNPACK(tenon__snapshot, snapshot, k->arena, &saved, NULL), TN_OK);
    tn_ms_destroy(k->ms);
    k->ms = tn_ms_load_snapshot(saved, &err);
    assert_non_null(k->ms);
}

static tn_blob snapshot(kit *k) { return tn_msg_pack(k->arena, tn_ms_snapshot(k->ms, k->arena)); }

static const tn_fault *fault(kit *k, tn_grpc_code code)
{
    return tn_fault_make(k->arena, code, "no");
}

/* ---- the tests --------------------------------------------------------------------------------- */

static void counts_then_pages_then_acts(void **state)
{
    kit k;
    asked a;

    (void)state;
    open_job(&k);
    a = ask(&k);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.what[0], TN_BATCH_COUNT);
    assert_int_equal(ask(&k).n, 0); /* on its way */
    result(&k, TN_BATCH_COUNT, 0, NULL, &page(&k, 0, "")->base);
    assert_int_equal(job(&k)->total, 100);
    a = ask(&k);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.what[0], TN_BATCH_PAGE);
    result(&k, TN_BATCH_PAGE, 0, NULL, &page(&k, 4, "more")->base);
    assert_true(tn_batch_kind.deadline_ns(k.ms) <= k.now_ns);
    fire(&k);
    a = ask(&k);
    assert_int_equal(a.n, 3); /* as many as it has hands */
    assert_int_equal(tn_batch_kind.deadline_ns(k.ms), UINT64_MAX);
    result(&k, TN_BATCH_TARGET, 2, NULL, NULL);
    result(&k, TN_BATCH_TARGET, 2, NULL, NULL); /* told twice, counted once */
    result(&k, TN_BATCH_TARGET, 1, fault(&k, TN_GRPC_NOT_FOUND), NULL);
    fire(&k);
    a = ask(&k);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.id[0], 4);
    result(&k, TN_BATCH_TARGET, 3, fault(&k, TN_GRPC_INVALID_ARGUMENT), NULL);
    result(&k, TN_BATCH_TARGET, 4, NULL, NULL);
    assert_int_equal(job(&k)->complete, 3);
    assert_int_equal(job(&k)->failed, 1);
    a = ask(&k);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.what[0], TN_BATCH_PAGE);
    result(&k, TN_BATCH_PAGE, 0, NULL, &page(&k, 1, "")->base);
    fire(&k);
    assert_int_equal(ask(&k).id[0], 5);
    result(&k, TN_BATCH_TARGET, 5, NULL, NULL);
    assert_int_equal(k.ms->status, 2);
    assert_int_equal(job(&k)->total, 5);
    assert_int_equal(ask(&k).n, 0);
    kit_close(&k);
}

/* Ten a second, and a second's worth at once at most. */
static void pace(void **state)
{
    kit k;
    Tenon__BatchPage *p;
    uint64_t begun, number = 1;

    (void)state;
    open_job(&k);
    p = page(&k, 0, "");
    p->concurrency = 60;
    result(&k, TN_BATCH_COUNT, 0, NULL, &p->base);
    p = page(&k, 40, "");
    p->concurrency = 60;
    result(&k, TN_BATCH_PAGE, 0, NULL, &p->base);
    begun = k.now_ns;
    for (int i = 0; i < 1000 && tn_ms_running(k.ms); i++) {
        size_t n;

        fire(&k);
        n = ask(&k).n;
        assert_true(n <= 11);
        for (size_t j = 0; j < n; j++)
            result(&k, TN_BATCH_TARGET, number++, NULL, NULL);
        if (tn_ms_running(k.ms))
            k.now_ns = tn_batch_kind.deadline_ns(k.ms);
    }
    assert_int_equal(k.ms->status, 2);
    assert_true(k.now_ns - begun >= 2900 * TN_MS && k.now_ns - begun <= 3100 * TN_MS);
    kit_close(&k);
}

static void tries_again(void **state)
{
    kit k;
    int tries = 0;

    (void)state;
    open_job(&k);
    result(&k, TN_BATCH_COUNT, 0, NULL, &page(&k, 0, "")->base);
    result(&k, TN_BATCH_PAGE, 0, NULL, &page(&k, 1, "")->base);
    while (tn_ms_running(k.ms) && tries < 1000) {
        fire(&k);
        if (ask(&k).n) {
            tries++;
            result(&k, TN_BATCH_TARGET, 1, fault(&k, TN_GRPC_FAILED_PRECONDITION), NULL);
        }
        k.now_ns += TN_SEC;
    }
    assert_int_equal(tries, TN_BATCH_ATTEMPTS_MAX);
    assert_int_equal(job(&k)->failed, 1);
    kit_close(&k);
}

static void a_crash_loses_no_target(void **state)
{
    kit k;
    tn_blob saved;
    asked a;

    (void)state;
    open_job(&k);
    result(&k, TN_BATCH_COUNT, 0, NULL, &page(&k, 0, "")->base);
    result(&k, TN_BATCH_PAGE, 0, NULL, &page(&k, 3, "")->base);
    fire(&k);
    assert_int_equal(ask(&k).n, 3);
    result(&k, TN_BATCH_TARGET, 2, NULL, NULL);
    saved = snapshot(&k);
    result(&k, TN_BATCH_TARGET, 1, NULL, NULL); /* not in the store yet */
    crash(&k, saved);
    assert_int_equal(job(&k)->complete, 1);
    assert_int_equal(job(&k)->n_left, 2);
    k.now_ns += TN_SEC;
    fire(&k);
    a = ask(&k);
    assert_int_equal(a.n, 2);
    assert_int_equal(a.id[0], 1);
    assert_int_equal(a.id[1], 3);
    result(&k, TN_BATCH_TARGET, 2, NULL, NULL); /* of before */
    result(&k, TN_BATCH_TARGET, 1, NULL, NULL);
    result(&k, TN_BATCH_TARGET, 3, NULL, NULL);
    assert_int_equal(k.ms->status, 2);
    assert_int_equal(job(&k)->complete, 3);
    saved = snapshot(&k);
    crash(&k, saved);
    assert_true(tn_blob_eq(saved, snapshot(&k)));
    kit_close(&k);
}

static void stops(void **state)
{
    kit k;
    tn_object_reply reply = {0};
    const Temporal__Api__Workflowservice__V1__DescribeBatchOperationResponse *d;
    ProtobufCMessage *stop, *describe;

    (void)state;
    open_job(&k);
    reply.arena = k.arena;
    stop = TN_MSG(k.arena, temporal__api__workflowservice__v1__stop_batch_operation_request);
    describe =
        TN_MSG(k.arena, temporal__api__workflowservice__v1__describe_batch_operation_request);
    assert_true(kit_end(&k, tn_batch_kind.call(kit_begin(&k), stop, &reply)));
    assert_int_equal(k.ms->status, 5);
    assert_false(kit_end(&k, tn_batch_kind.call(kit_begin(&k), stop, &reply)));
    assert_int_equal(k.fault->code, TN_GRPC_NOT_FOUND);
    assert_null(tn_batch_kind.call(kit_begin(&k), describe, &reply));
    d = (const void *)reply.response;
    assert_string_equal(d->job_id, "job");
    assert_string_equal(d->reason, "a \"reason\"");
    assert_string_equal(d->identity, "me");
    assert_int_equal(d->operation_type, 15);
    assert_int_equal(d->state, 3);
    assert_true(kit_end(&k, NULL));
    result(&k, TN_BATCH_COUNT, 0, NULL, &page(&k, 0, "")->base); /* too late */
    assert_false(job(&k)->counted);
    kit_close(&k);
}

static void a_bad_query_fails_it(void **state)
{
    kit k;

    (void)state;
    open_job(&k);
    result(&k, TN_BATCH_COUNT, 0, fault(&k, TN_GRPC_UNAVAILABLE), NULL);
    assert_int_equal(ask(&k).what[0], TN_BATCH_COUNT);
    result(&k, TN_BATCH_COUNT, 0, fault(&k, TN_GRPC_INVALID_ARGUMENT), NULL);
    assert_int_equal(k.ms->status, 3);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_then_pages_then_acts),
        cmocka_unit_test(pace),
        cmocka_unit_test(tries_again),
        cmocka_unit_test(a_crash_loses_no_target),
        cmocka_unit_test(stops),
        cmocka_unit_test(a_bad_query_fails_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
