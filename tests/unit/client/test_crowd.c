/* SPDX-License-Identifier: MIT */
/* Which polls wait for company (core/client/crowd.c): never when matching has fewer than two of that worker, never more
 * than matching has, and all leave as soon as that is no longer so. */
#include "client/crowd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define POLLS 9

static struct {
    tn_crowd_poll poll;
    tn_outcall out;
} polls[POLLS];
static tn_map crowds;
static tn_namespace ns = {.id = {"ns", 2}};
static bool gone[POLLS];
static int hurried;

static bool left(const tn_outcall *call) { return gone[(size_t)((uintptr_t)call->user)]; }

/* One pipe: with the one that is hurried all leave. */
static void hurry(tn_outcall *call)
{
    (void)call;
    hurried++;
    memset(gone, 1, sizeof(gone));
}

static int set_up(void **state)
{
    (void)state;
    tn_crowd_says = (tn_crowd_wire){.left = left, .hurry = hurry};
    tn_map_init(&crowds);
    hurried = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tn_map_done(&crowds);
    return 0;
}

static bool join_as(size_t i, const char *queue, const char *says, bool forwarded)
{
    static const ProtobufCMessage request;
    tn_mreq req = {
        .ns = &ns, .queue = tn_str_from(queue), .request = &request, .forwarded = forwarded};
    req.packed = (tn_packed){&request, tn_blob_of_str(tn_str_from(says))};
    polls[i].out = (tn_outcall){.user = (void *)(uintptr_t)i};
    tn_crowd_join(&crowds, &polls[i].poll, &polls[i].out, &req);
    return gone[i] = !polls[i].out.unhurried;
}

static bool join(size_t i) { return join_as(i, "queue", "worker", false); }

static void leave(size_t i) { tn_crowd_leave(&crowds, &polls[i].poll); }

static void surplus_waits(void **state)
{
    (void)state;
    assert_true(join(0));
    assert_true(join(1));
    assert_false(join(2));
    assert_false(join(3));
    assert_true(join(4)); /* half of them are there at least, and this one takes the others along */
    memset(gone, 1, sizeof(gone));
    assert_false(join(5));
    for (size_t i = 0; i < 3; i++) {
        leave(i);
        assert_int_equal(hurried, 0);
    }
    leave(3); /* one is left there */
    assert_int_equal(hurried, 1);
    leave(4);
    leave(5);
    assert_int_equal(crowds.count, 0);
    assert_int_equal(hurried, 1);
}

static void one_that_waits_may_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++)
        join(i);
    leave(2);
    leave(3);
    leave(0);
    assert_int_equal(hurried, 0); /* nobody waits */
    leave(1);
    assert_int_equal(crowds.count, 0);
}

static void strangers_do_not_wait(void **state)
{
    (void)state;
    join(0);
    join(1);
    assert_true(join_as(2, "other", "worker", false));
    assert_true(join_as(3, "queue", "another worker", false));
    assert_true(join_as(4, "queue", "worker", true));
    assert_true(join_as(5, "queue", "", false)); /* it isn't known what it says */
    assert_false(join(6));
    for (size_t i = 0; i < 7; i++)
        leave(i);
    assert_int_equal(crowds.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(surplus_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_waits_may_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strangers_do_not_wait, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
