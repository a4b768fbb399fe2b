/* SPDX-License-Identifier: MIT */
/* Objects: a kind of the test's own (a counter that says when it is to be told, and by whom) goes through its life. */
#include "history/machine/object.h"

#include "machine_kit.h"

typedef struct counter {
    int64_t value;
    uint64_t fire_ns;
    tn_object_want tell;
    bool telling;
} counter;

static tn_status counter_load(tn_ms *ms, tn_blob packed, tn_error *err)
{
    counter *c = ms->object ? ms->object : tn_ms_alloc(ms, sizeof(*c));

    ms->object = c;
    if (packed.n != 17)
        return tn_error_set(err, TN_EDATALOSS, "a counter has 17 bytes");
    c->value = (int64_t)tn_get_u64be(packed.p);
    c->fire_ns = tn_get_u64be(packed.p + 8);
    c->telling = packed.p[16];
    return TN_OK;
}

static tn_blob counter_save(const tn_ms *ms, tn_arena *arena)
{
    const counter *c = ms->object;
    uint8_t *p = tn_arena_alloc(arena, 17);

    tn_put_u64be(p, (uint64_t)c->value);
    tn_put_u64be(p + 8, c->fire_ns);
    p[16] = c->telling;
    return tn_blob_from(p, 17);
}

static void counter_destroy(tn_ms *ms)
{
    tn_ms_free(ms, ms->object);
    ms->object = NULL;
}

static const tn_object_kind kind;

static bool counter_creates(const ProtobufCMessage *request) { return request != NULL; }

static const tn_fault *counter_create(tn_tx *tx, const ProtobufCMessage *request,
                                      tn_object_reply *reply)
{
    counter *c;

    (void)request, (void)reply;
    tn_object_begin(tx, &kind,
                    &(tn_object_start){
                        .type = "counter", .task_queue = "", .identity = "me", .request_id = "r1"});
    tx->ms->object = c = tn_ms_alloc(tx->ms, sizeof(*c));
    c->fire_ns = UINT64_MAX;
    return NULL;
}

static uint64_t counter_deadline(const tn_ms *ms) { return ((const counter *)ms->object)->fire_ns; }

static void counter_fire(tn_tx *tx)
{
    counter *c = tx->ms->object;

    if (c->fire_ns > tx->now_ns)
        return;
    c->fire_ns = UINT64_MAX;
    c->telling = true;
    c->tell = (tn_object_want){.what = 7, .id = (uint64_t)c->value};
    tx->extras_dirty = true;
}

static void counter_wants(tn_ms *ms, uint64_t now_ns, void (*each)(void *, tn_want, void *),
                          void *user)
{
    counter *c = ms->object;

    (void)now_ns;
    if (c->telling && !c->tell.dispatched)
        each(user, TN_WANT_OBJECT, &c->tell);
}

static bool counter_has_wants(const tn_ms *ms) { return ((const counter *)ms->object)->telling; }

static void counter_result(tn_tx *tx, const tn_object_result *result)
{
    counter *c = tx->ms->object;

    assert_int_equal(result->what, 7);
    c->telling = false;
    c->value++;
    tx->extras_dirty = true;
}

static const tn_object_kind kind = {
    .letter = '!',
    .division = "Test",
    .load = counter_load,
    .save = counter_save,
    .destroy = counter_destroy,
    .creates = counter_creates,
    .create = counter_create,
    .deadline_ns = counter_deadline,
    .fire = counter_fire,
    .wants = counter_wants,
    .has_wants = counter_has_wants,
    .result = counter_result,
};

static void note_want(void *user, tn_want want, void *item)
{
    assert_int_equal(want, TN_WANT_OBJECT);
    ((tn_object_want *)item)->dispatched = true;
    ++*(int *)user;
}

/* As the store would give it back: the first record alone, or the snapshot. */
static tn_ms *again(const tn_ms *ms, bool snapshot)
{
    tn_arena *arena = tn_arena_create(0);
    tn_error err;
    tn_ms *out;

    if (snapshot) {
        out = tn_ms_load_snapshot(tn_ms_snapshot(ms, arena), &err);
    } else {
        Tenon__Record record = TENON__RECORD__INIT;
        tn_blob extras = tn_msg_pack(arena, tn_ms_extras(ms, arena));
        record.has_extras = true;
        record.extras = (ProtobufCBinaryData){extras.n, (uint8_t *)(uintptr_t)extras.p};
        out = tn_ms_create(tn_str_from(ms->ns_id), tn_str_from(ms->workflow_id), ms->run_id);
        assert_int_equal(tn_ms_load_record(out, &record, &err), TN_OK);
    }
    tn_arena_destroy(arena);
    return out;
}

static tn_ms *begin(kit *k)
{
    Temporal__Api__Common__V1__Payload request = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT;
    tn_object_reply reply = {.arena = k->arena};

    kit_open(k, 1);
    k->tx_arena = tn_arena_create(0);
    tn_tx_init(&k->tx, k->ms, &k->env, k->tx_arena, k->now_ns, &k->rng);
    assert_null(kind.create(&k->tx, &request.base, &reply));
    tn_tx_finish(&k->tx);
    assert_int_equal(k->tx.n_events, 1);
    assert_true(k->tx.extras_dirty);
    return k->ms;
}

static void end(kit *k)
{
    tn_tx_done(&k->tx);
    tn_arena_destroy(k->tx_arena);
    kit_close(k);
}

static void begins_fires_wants_and_takes_the_result(void **state)
{
    kit k;
    tn_ms *ms = begin(&k);
    counter *c = ms->object;
    int wanted = 0;

    (void)state;
    assert_true(tn_ms_running(ms));
    assert_string_equal(ms->create_request_id, "r1");
    assert_int_equal(tn_ms_wake_ns(ms), UINT64_MAX);
    c->fire_ns = k.now_ns + 5 * TN_SEC;
    assert_int_equal(tn_ms_deadline_ns(ms), k.now_ns + 5 * TN_SEC);
    assert_int_equal(tn_ms_wake_ns(ms), k.now_ns + 5 * TN_SEC);
    k.tx.now_ns += 6 * TN_SEC;
    assert_null(tn_machine_fire(&k.tx));
    assert_int_equal(tn_ms_wake_ns(ms), 0); /* something is to be done, by whoever has it then */
    tn_ms_wants(ms, k.tx.now_ns, note_want, &wanted);
    tn_ms_wants(ms, k.tx.now_ns, note_want, &wanted);
    assert_int_equal(wanted, 1);
    kind.result(&k.tx, &(tn_object_result){.what = 7, .id = 0});
    assert_int_equal(tn_ms_wake_ns(ms), UINT64_MAX);
    assert_int_equal(c->value, 1);
    end(&k);
}

static void is_the_same_when_read_again(void **state)
{
    kit k;
    tn_ms *ms = begin(&k);

    (void)state;
    *(counter *)ms->object = (counter){.value = 41, .fire_ns = 99, .telling = true};
    tn_ms *copy = again(ms, true);
    assert_non_null(copy);
    assert_ptr_equal(copy->kind, &kind);
    assert_int_equal(((counter *)copy->object)->value, 41);
    assert_true(((counter *)copy->object)->telling);
    assert_string_equal(copy->type, "counter");
    tn_ms_destroy(copy);
    copy = again(ms, false);
    assert_ptr_equal(copy->kind, &kind);
    assert_int_equal(((counter *)copy->object)->fire_ns, 99);
    tn_ms_destroy(copy);
    end(&k);
}

static void a_kind_that_is_not_known_is_refused(void **state)
{
    kit k;
    tn_ms *ms = begin(&k);
    tn_arena *arena = tn_arena_create(0);
    Tenon__Snapshot *snapshot = tn_ms_snapshot(ms, arena);
    tn_error err = {0};

    (void)state;
    snapshot->extras->object_kind = 'Z';
    assert_null(tn_ms_load_snapshot(snapshot, &err));
    assert_int_equal(err.code, TN_EDATALOSS);
    assert_non_null(strstr(err.text, "kind"));
    tn_arena_destroy(arena);
    end(&k);
}

static void ends_and_goes(void **state)
{
    kit k;
    tn_ms *ms = begin(&k);

    (void)state;
    tn_object_close(&k.tx, 2, 3600 * TN_SEC);
    assert_false(tn_ms_running(ms));
    assert_int_equal(tn_ms_wake_ns(ms), ms->close_ns + 3600 * TN_SEC);
    tn_machine_delete(&k.tx);
    assert_int_equal(tn_ms_wake_ns(ms), k.tx.now_ns);
    end(&k);
}

static void an_open_one_that_is_deleted_ends_as_terminated(void **state)
{
    kit k;
    tn_ms *ms = begin(&k);

    (void)state;
    tn_machine_delete(&k.tx);
    assert_int_equal(ms->status, 5);
    assert_int_equal(tn_ms_wake_ns(ms), k.tx.now_ns);
    end(&k);
}

static void ids_are_apart(void **state)
{
    tn_arena *arena = tn_arena_create(0);
    tn_str id = tn_object_workflow_id(arena, &kind, TN_STR("a"));

    (void)state;
    assert_int_equal(id.n, 3);
    assert_ptr_equal(tn_object_kind_of(id), &kind);
    assert_true(tn_str_eq(tn_object_id_of(id), TN_STR("a")));
    assert_null(tn_object_kind_of(TN_STR("!a")));
    assert_null(tn_object_kind_of(TN_STR("\x01")));
    assert_null(tn_object_kind_of(TN_STR("\x01?a")));
    tn_arena_destroy(arena);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_fires_wants_and_takes_the_result),
        cmocka_unit_test(is_the_same_when_read_again),
        cmocka_unit_test(a_kind_that_is_not_known_is_refused),
        cmocka_unit_test(ends_and_goes),
        cmocka_unit_test(an_open_one_that_is_deleted_ends_as_terminated),
        cmocka_unit_test(ids_are_apart),
    };
    tn_object_kind_add(&kind);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
