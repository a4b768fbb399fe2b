/* SPDX-License-Identifier: MIT */
/* Retention with played loops and a played history: each run once, at the configured rate, and what failed or did
 * not fit can come again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "config/dynconfig.h"
#include "../played.h"
#include "worker/worker.h"

static const tn_namespace ns = {.name = {"test", 4},
                                .id = {"11111111-1111-4111-8111-111111111111", 36}};
static int64_t rate;

int64_t tn_dyn_task_i64(tn_dyn_key key, tn_str ns_name, tn_str task_queue, int32_t task_type)
{
    (void)key, (void)ns_name, (void)task_queue, (void)task_type;
    return 1;
}

int64_t tn_dyn_i64(tn_dyn_key key, tn_str ns_name, tn_str task_queue)
{
    (void)ns_name, (void)task_queue;
    assert_int_equal(key, TN_DYN_WORKER_RETENTION_RPS);
    return rate;
}

void tn_call_reply(tn_call *call, const ProtobufCMessage *response) { (void)call, (void)response; }
void tn_call_fail(tn_call *call, const tn_fault *fault) { (void)call, (void)fault; }
bool tn_call_cancelled(const tn_call *call)
{
    (void)call;
    return false;
}

static size_t asked;
static bool failing, holding;
static tn_hreq *held;

static void submit(tn_hreq *req)
{
    assert_int_equal(req->op, TN_HOP_DELETE_RUN);
    assert_ptr_equal(req->ns, &ns);
    asked++;
    if (failing)
        req->fault = tn_fault_make(req->arena, TN_GRPC_UNAVAILABLE, "not now");
    if (holding)
        held = req;
    else
        tn_client_history_done(req);
}

static const tn_history_role history_role = {.submit = submit};

static int start(void **state)
{
    (void)state;
    played_start();
    tn_client_wire(&history_role, NULL, tn_worker_role_table(), 1);
    tn_worker_start();
    return 0;
}

static int setup(void **state)
{
    (void)state;
    asked = 0;
    failing = holding = false;
    rate = 20; /* ten a second on each of two loops */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    played_pass(3600 * TN_SEC);
    assert_int_equal(played_ns_refs, 0);
    return 0;
}

static void retire(unsigned number)
{
    char run[37];
    snprintf(run, sizeof(run), "22222222-2222-4222-8222-%012u", number);
    tn_client_retire(&ns, TN_STR("w"), tn_str_from(run));
}

static void a_run_is_deleted(void **state)
{
    (void)state;
    retire(1);
    played_run();
    assert_int_equal(asked, 1);
    assert_int_equal(played_ns_refs, 0);
}

static void the_rate_is_kept(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        retire(i);
    played_run();
    size_t at_once = asked;
    assert_true(at_once <= 11); /* a second's worth may leave together */
    played_pass(5 * TN_SEC);
    assert_in_range(asked, at_once + 49, at_once + 51);
    played_pass(10 * TN_SEC);
    assert_int_equal(asked, 100);
}

static void a_rate_below_the_number_of_loops_is_kept(void **state)
{
    (void)state;
    rate = 1; /* one in two seconds on each of two loops */
    for (unsigned i = 0; i < 30; i++)
        retire(i);
    played_run();
    size_t at_once = asked;
    played_pass(20 * TN_SEC);
    assert_in_range(asked, at_once + 9, at_once + 11);
    played_pass(100 * TN_SEC);
}

static void a_run_waits_or_is_deleted_once(void **state)
{
    (void)state;
    holding = true;
    retire(1);
    played_run();
    retire(1);
    played_run();
    assert_int_equal(asked, 1);
    holding = false;
    tn_client_history_done(held);
    played_pass(TN_SEC);
    retire(1);
    played_pass(TN_SEC);
    assert_int_equal(asked, 2);
}

static void what_failed_may_come_again(void **state)
{
    (void)state;
    failing = true;
    retire(1);
    played_run();
    failing = false;
    played_pass(10 * TN_SEC);
    assert_int_equal(asked, 1); /* its shard asks again, not we */
    retire(1);
    played_run();
    assert_int_equal(asked, 2);
}

static void what_does_not_fit_is_left_to_its_shard(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6000; i++)
        retire(i);
    played_pass(3600 * TN_SEC);
    assert_in_range(asked, 4096, 4096 + 20);
}

static void the_end_drops_what_waits(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        retire(i);
    played_run();
    size_t before = asked;
    tn_worker_stop();
    retire(200);
    played_pass(60 * TN_SEC);
    assert_int_equal(asked, before);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_run_is_deleted),
        CASE(the_rate_is_kept),
        CASE(a_rate_below_the_number_of_loops_is_kept),
        CASE(a_run_waits_or_is_deleted_once),
        CASE(what_failed_may_come_again),
        CASE(what_does_not_fit_is_left_to_its_shard),
        CASE(the_end_drops_what_waits),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
