/* SPDX-License-Identifier: MIT */
/* Tasks of a queue that another host has from now on (core/matching/moved.c): what came of late goes on to it, however long it
 * has no room. */
#include "harness.h"

static struct {
    tn_member other;
    bool away, full;
    unsigned sent;
    uint64_t tasks; /* a bit each */
} elsewhere = {.other = {.host_id = {7}}};

static int last_teardown(void **state)
{
    (void)state;
    tn_arena_destroy(arena);
    return 0;
}

static const tn_member *elsewhere_owner(uint32_t service, tn_blob key, bool *out_any)
{
    (void)service, (void)key;
    *out_any = true;
    return elsewhere.away ? &elsewhere.other : NULL;
}

static void elsewhere_takes(const tn_member *owner, tn_mreq *req)
{
    (void)owner;
    assert_int_equal(req->op, TN_MOP_ADD);
    assert_true(req->placed);
    elsewhere.sent++;
    elsewhere.tasks |= 1u << req->task.scheduled_id;
    req->accepted = !elsewhere.full;
    tn_client_matching_done(req);
}

static bool nothing_moved(uint32_t service, tn_blob key)
{
    (void)service, (void)key;
    return false;
}

static bool not_elsewhere(uint64_t poll_id)
{
    (void)poll_id;
    return false;
}

static void on_loop_members_changed(void *arg)
{
    (void)arg;
    tn_matching_members_changed();
}

/* As every loop hears it. */
static void the_ring_turns(bool away)
{
    elsewhere.away = away;
    for (uint32_t i = 0; i < PLAYED_LOOPS; i++)
        tn_loop_call(tn_loops_get(i), on_loop_members_changed, NULL);
    played_run();
}

static int with_others(void **state)
{
    static const tn_client_net net = {.owner = elsewhere_owner,
                                      .moved = nothing_moved,
                                      .matching = elsewhere_takes,
                                      .cancel_poll = not_elsewhere};
    elsewhere.away = elsewhere.full = false;
    elsewhere.sent = 0;
    elsewhere.tasks = 0;
    int failed = setup(state);
    tn_client_use_net(&net);
    return failed;
}

static int without_others(void **state)
{
    elsewhere.away = false;
    int failed = teardown(state);
    tn_client_use_net(NULL);
    return failed;
}

/* Its run may have seen the queue move before this host did, and will not offer it again. */
static void a_task_that_came_of_late_goes_on_to_the_next_owner(void **state)
{
    (void)state;
    for (int64_t i = 1; i <= 3; i++)
        assert_true(add_task("q", i)->req.accepted);
    elsewhere.full = true;
    the_ring_turns(true);
    assert_int_equal(elsewhere.sent, 3);
    elsewhere.full = false;
    elsewhere.tasks = 0;
    played_pass(2 * TN_SEC);
    assert_int_equal(elsewhere.sent, 6);
    played_pass(10 * TN_SEC);
    assert_int_equal(elsewhere.sent, 6);
    assert_int_equal(elsewhere.tasks, 1u << 1 | 1u << 2 | 1u << 3);
}

/* Nobody else knows that it waits. */
static void a_task_waits_for_a_next_owner_that_has_no_room_for_long(void **state)
{
    (void)state;
    assert_true(add_task("q", 9)->req.accepted);
    elsewhere.full = true;
    the_ring_turns(true);
    played_pass(600 * TN_SEC);
    assert_in_range(elsewhere.sent, 30, 100);
    elsewhere.full = false;
    unsigned before = elsewhere.sent;
    played_pass(60 * TN_SEC);
    assert_int_equal(elsewhere.sent, before + 1);
    assert_int_equal(elsewhere.tasks, 1u << 9);
}

static void a_task_that_comes_back_with_its_queue_is_handed_out(void **state)
{
    (void)state;
    assert_true(add_task("q", 5)->req.accepted);
    elsewhere.full = true;
    the_ring_turns(true);
    the_ring_turns(false);
    played_pass(2 * TN_SEC);
    assert_int_equal(poll("q")->answers, 1);
    assert_int_equal(history.last_task, 5);
}

static void a_task_of_long_ago_has_been_offered_there_by_its_run(void **state)
{
    (void)state;
    assert_true(add_task("q", 1)->req.accepted);
    played_pass(20 * TN_SEC);
    the_ring_turns(true);
    played_pass(2 * TN_SEC);
    assert_int_equal(elsewhere.sent, 0);
}

static void at_the_end_no_task_waits_to_be_sent_on(void **state)
{
    (void)state;
    assert_true(add_task("q", 1)->req.accepted);
    elsewhere.full = true;
    the_ring_turns(true);
    unsigned sent = elsewhere.sent;
    tn_matching_stop();
    played_pass(100 * TN_SEC);
    assert_int_equal(elsewhere.sent, sent);
}

int main(void)
{
#define MOVED(function) cmocka_unit_test_setup_teardown(function, with_others, without_others)
    const struct CMUnitTest tests[] = {
        MOVED(a_task_that_came_of_late_goes_on_to_the_next_owner),
        MOVED(a_task_waits_for_a_next_owner_that_has_no_room_for_long),
        MOVED(a_task_that_comes_back_with_its_queue_is_handed_out),
        MOVED(a_task_of_long_ago_has_been_offered_there_by_its_run),
        cmocka_unit_test_setup_teardown(at_the_end_no_task_waits_to_be_sent_on, with_others,
                                        last_teardown),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
