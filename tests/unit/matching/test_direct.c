/* SPDX-License-Identifier: MIT */
/* Polls that history answers: when one is named to the task's bringer and when not, and how it ends: its frontend has its
 * answer, has gone, or hears nothing. */
#include "harness.h"
#include "proto/proto.h"

static const tn_poll_ref where = {.host_id = {9, 8, 7}, .loop = 3, .poll_id = 77, .turn = 5};

/* As one comes from a frontend's host that takes answers of history's. */
static asked *direct_poll(uint32_t type, const char *queue)
{
    asked *a = poll_of(type, queue);
    tn_blob packed;
    assert_int_equal(tn_proto_pack(a->req.request, arena, &packed), TN_OK);
    a->req.packed = (tn_packed){a->req.request, packed};
    a->req.answer_to = &where;
    return send_off(a);
}

static asked *add_direct(const char *queue, int64_t id)
{
    asked *a = ask(TN_MOP_ADD, TN_TASK_WORKFLOW, queue);
    a->req.task =
        (tn_task_ref){.shard = 2, .scheduled_id = id, .created_mono_ns = tn_now_mono_ns()};
    a->req.takes_match = true;
    return send_off(a);
}

static void not_named(const asked *add)
{
    assert_int_equal(add->answers, 1);
    assert_true(add->req.accepted);
    assert_null(add->req.match);
}

static void a_waiting_poll_is_named_to_the_bringer(void **state)
{
    (void)state;
    asked *p = direct_poll(TN_TASK_WORKFLOW, "q"), *a = add_direct("q", 1);
    tn_blob packed;
    assert_int_equal(a->answers, 1);
    assert_true(a->req.accepted);
    assert_non_null(a->req.match);
    assert_memory_equal(&a->req.match->to, &where, sizeof(where));
    assert_int_equal(a->req.match->backlog, 0);
    assert_true(tn_proto_is_opaque(a->req.match->request, &packed) &&
                tn_blob_eq(packed, p->req.packed.bytes));
    assert_int_equal(history.n_asked + p->answers, 0);
    assert_int_equal(cancel(p)->answers, 1); /* it has its answer */
    assert_int_equal(p->answers, 1);
    add_task("q", 2); /* waits: nobody is there any more */
    assert_int_equal(history.n_asked, 0);
    assert_int_equal(poll("q")->answers, 1);
}

static void both_sides_must_know_the_way(void **state)
{
    (void)state;
    asked *p = direct_poll(TN_TASK_WORKFLOW, "q"), *a = add_task("q", 1);
    not_named(a);
    assert_int_equal(p->answers, 1); /* through matching, as ever */
    p = poll("q");
    not_named(add_direct("q", 2));
    assert_int_equal(p->answers, 1);
    p = poll_of(TN_TASK_WORKFLOW, "q"); /* its bytes are not at hand */
    p->req.answer_to = &where;
    send_off(p);
    not_named(add_direct("q", 3));
    assert_int_equal(p->answers, 1);
    assert_int_equal(history.last_task, 3);
}

static void a_task_that_waited_goes_through_matching(void **state)
{
    (void)state;
    not_named(add_direct("q", 1));
    asked *p = direct_poll(TN_TASK_WORKFLOW, "q");
    assert_int_equal(p->answers, 1);
    assert_int_equal(history.last_task, 1);
}

static void a_poll_of_another_kind_stays(void **state)
{
    (void)state;
    asked *p = direct_poll(TN_TASK_ACTIVITY, "q");
    not_named(add_direct("q", 1));
    assert_int_equal(p->answers, 0);
    assert_int_equal(poll("q")->answers, 1);
    cancel(p);
}

/* Neither a task nor the end of a worker reaches a poll that is history's. */
static void it_gets_nothing_else(void **state)
{
    (void)state;
    asked *p = direct_poll(TN_TASK_WORKFLOW, "q");
    assert_non_null(add_direct("q", 1)->req.match);
    not_named(add_direct("q", 2));
    add_task("q", 3);
    assert_int_equal(history.n_asked + p->answers, 0);
    cancel(p);
    assert_int_equal(p->answers, 1);
    poll("q");
    poll("q");
    assert_int_equal(history.n_asked, 2);
}

/* Its host died, or history's: the frontend asks again, and the queue lives on meanwhile. */
static void one_that_hears_nothing_is_asked_again(void **state)
{
    (void)state;
    asked *p = direct_poll(TN_TASK_WORKFLOW, "q");
    p->req.final = true; /* as over the net */
    assert_non_null(add_direct("q", 1)->req.match);
    played_pass(2 * TN_SEC);
    assert_int_equal(p->answers, 0);
    played_pass(2 * TN_SEC);
    assert_int_equal(p->answers, 1);
    assert_true(p->req.not_owner);
    assert_int_equal(p->req.fault->code, TN_GRPC_UNAVAILABLE);
    assert_int_equal(cancel(p)->answers, 1); /* too late, and no harm */
    assert_int_equal(p->answers, 1);
}

static void one_near_its_end_ends_empty(void **state)
{
    (void)state;
    asked *p = poll_of(TN_TASK_WORKFLOW, "q");
    tn_blob packed;
    assert_int_equal(tn_proto_pack(p->req.request, arena, &packed), TN_OK);
    p->req.packed = (tn_packed){p->req.request, packed};
    p->req.answer_to = &where;
    p->req.deadline_mono_ns = tn_now_mono_ns() + 3 * TN_SEC;
    send_off(p);
    assert_non_null(add_direct("q", 1)->req.match);
    played_pass(4 * TN_SEC);
    assert_int_equal(p->answers, 1);
    assert_true(!p->req.fault && !p->req.response && !p->req.not_owner);
}

static void at_the_end_it_ends(void **state)
{
    (void)state;
    asked *p = direct_poll(TN_TASK_WORKFLOW, "q");
    assert_non_null(add_direct("q", 1)->req.match);
    tn_matching_stop();
    played_run();
    assert_int_equal(p->answers, 1);
    assert_true(!p->req.fault && !p->req.response);
}

static int last_teardown(void **state)
{
    (void)state;
    tn_arena_destroy(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_waiting_poll_is_named_to_the_bringer, setup, teardown),
        cmocka_unit_test_setup_teardown(both_sides_must_know_the_way, setup, teardown),
        cmocka_unit_test_setup_teardown(a_task_that_waited_goes_through_matching, setup, teardown),
        cmocka_unit_test_setup_teardown(a_poll_of_another_kind_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(it_gets_nothing_else, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_hears_nothing_is_asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(one_near_its_end_ends_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(at_the_end_it_ends, setup, last_teardown),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
