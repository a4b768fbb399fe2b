/* SPDX-License-Identifier: MIT */
/* Task queues with played loops and a played history: tasks meet polls, stale ones are dropped, polls end in every
 * phase, windows fill and give credit, queries wait, are answered or time out, and idle queues are forgotten only
 * when nothing points to them. */
#include "harness.h"

/* After the end queues are not swept any more. */
static int last_teardown(void **state)
{
    (void)state;
    tn_arena_destroy(arena);
    return 0;
}

/* ---- tasks and polls ---- */

static void a_task_waits_for_a_poll_and_a_poll_for_a_task(void **state)
{
    (void)state;
    assert_true(add_task("q", 1)->req.accepted);
    assert_int_equal(history.n_asked, 0);
    asked *first = poll("q");
    assert_int_equal(first->answers, 1);
    assert_ptr_equal(first->req.response, &polled.base);
    assert_int_equal(history.last_task, 1);
    asked *second = poll("q");
    assert_int_equal(second->answers, 0);
    add_task("q", 2);
    assert_int_equal(second->answers, 1);
    assert_int_equal(history.last_task, 2);
}

static void first_come_first_served(void **state)
{
    (void)state;
    for (int64_t i = 1; i <= 3; i++)
        add_task("q", i);
    for (int64_t i = 1; i <= 3; i++) {
        poll("q");
        assert_int_equal(history.last_task, i);
    }
    asked *polls[3] = {poll("q"), poll("q"), poll("q")};
    for (size_t i = 0; i < 3; i++) {
        add_task("q", 10);
        assert_int_equal(polls[i]->answers, 1);
    }
}

static void queues_types_and_namespaces_do_not_mix(void **state)
{
    (void)state;
    asked *p = poll("q"), *activity = send_off(poll_of(TN_TASK_ACTIVITY, "q"));
    asked *other = add_task("r", 1);
    assert_int_equal(p->answers + activity->answers, 0);
    add_task_until("q", TN_TASK_ACTIVITY, 2, UINT64_MAX);
    assert_int_equal(p->answers, 0);
    assert_int_equal(activity->answers, 1);
    assert_true(other->req.accepted);
    cancel(p);
    assert_int_equal(poll("r")->answers, 1);
}

static void a_stale_task_is_dropped_and_the_poll_waits_on(void **state)
{
    (void)state;
    history.stale = true;
    asked *p = poll("q");
    add_task("q", 1);
    add_task("q", 2);
    assert_int_equal(history.n_asked, 2);
    assert_int_equal(p->answers, 0);
    history.stale = false;
    add_task("q", 3);
    assert_int_equal(p->answers, 1);
    assert_ptr_equal(p->req.response, &polled.base);
}

static void a_poll_ends_empty_after_a_minute_or_before_its_deadline(void **state)
{
    (void)state;
    asked *p = poll("q"), *early = poll_of(TN_TASK_WORKFLOW, "q");
    early->req.deadline_mono_ns = tn_now_mono_ns() + 10 * TN_SEC;
    send_off(early);
    played_pass(9 * TN_SEC);
    assert_int_equal(early->answers, 1);
    assert_null(early->req.fault);
    assert_null(early->req.response);
    assert_int_equal(p->answers, 0);
    played_pass(52 * TN_SEC);
    assert_int_equal(p->answers, 1);
    assert_null(p->req.response);
    assert_null(p->req.fault);
}

static void an_expired_task_is_not_handed_out(void **state)
{
    (void)state;
    add_task_until("q", TN_TASK_WORKFLOW, 1, tn_now_mono_ns() + TN_SEC);
    add_task("q", 2);
    played_pass(2 * TN_SEC);
    assert_int_equal(poll("q")->answers, 1);
    assert_int_equal(history.last_task, 2);
    assert_int_equal(history.n_asked, 1);
}

/* ---- a poll's peer goes ---- */

static void a_parked_poll_is_cancelled(void **state)
{
    (void)state;
    asked *p = poll("q");
    assert_int_equal(cancel(p)->answers, 1);
    assert_int_equal(p->answers, 1);
    assert_int_equal(p->req.fault->code, TN_GRPC_CANCELLED);
    add_task("q", 1);
    assert_int_equal(history.n_asked, 0);
    assert_int_equal(cancel(p)->answers, 1);
    assert_int_equal(poll("q")->answers, 1);
}

static void a_poll_cancelled_at_its_run_gives_a_stale_task_back_to_none(void **state)
{
    (void)state;
    history.hold = true;
    asked *p = poll("q");
    add_task("q", 1);
    assert_int_equal(history.n_held, 1);
    cancel(p);
    assert_int_equal(p->answers, 0);
    history.stale = true;
    history_answers();
    assert_int_equal(p->answers, 1);
    assert_int_equal(p->req.fault->code, TN_GRPC_CANCELLED);
}

/* The run has said that the task is started: that answer must go out even if it is likely to be lost. */
static void a_poll_cancelled_at_its_run_keeps_its_answer(void **state)
{
    (void)state;
    history.hold = true;
    asked *p = poll("q");
    add_task("q", 1);
    cancel(p);
    history_answers();
    assert_int_equal(p->answers, 1);
    assert_null(p->req.fault);
    assert_ptr_equal(p->req.response, &polled.base);
}

static void a_poll_whose_peer_is_gone_gets_no_task(void **state)
{
    (void)state;
    asked *gone = poll("q"), *there = poll("q");
    gone->call.user = gone;
    add_task("q", 1);
    assert_int_equal(gone->req.fault->code, TN_GRPC_CANCELLED);
    assert_ptr_equal(there->req.response, &polled.base);
}

/* ---- sticky queues ---- */

static void a_sticky_queue_without_its_worker_refuses(void **state)
{
    (void)state;
    asked *task = ask(TN_MOP_ADD, TN_TASK_WORKFLOW, "s");
    task->req.sticky = true;
    task->req.task.shard = 2;
    assert_false(send_off(task)->req.accepted);

    asked *p = poll_of(TN_TASK_WORKFLOW, "s");
    p->req.sticky = true;
    send_off(p);
    cancel(p);
    played_pass(9 * TN_SEC);
    assert_true(send_off(task)->req.accepted);
    played_pass(2 * TN_SEC);
    assert_false(send_off(task)->req.accepted);
    asked *again = poll_of(TN_TASK_WORKFLOW, "s");
    again->req.sticky = true;
    assert_int_equal(send_off(again)->answers, 1);
}

static void a_worker_that_shuts_down_leaves_its_sticky_queue(void **state)
{
    (void)state;
    asked *p = poll_of(TN_TASK_WORKFLOW, "s");
    p->req.sticky = true;
    send_off(p);
    asked *bye = send_off(ask(TN_MOP_SHUTDOWN_WORKER, TN_TASK_WORKFLOW, "s"));
    assert_int_equal(bye->answers, 1);
    assert_int_equal(p->answers, 1);
    assert_null(p->req.fault);
    asked *task = ask(TN_MOP_ADD, TN_TASK_WORKFLOW, "s");
    task->req.sticky = true;
    task->req.task.shard = 2;
    assert_false(send_off(task)->req.accepted);
}

/* ---- rate, window, credit ---- */

static void the_rate_that_workers_asked_for_is_kept(void **state)
{
    (void)state;
    rate_asked = 2;
    asked *polls[8];
    for (size_t i = 0; i < TN_COUNT_OF(polls); i++)
        polls[i] = send_off(poll_of(TN_TASK_ACTIVITY, "q"));
    for (int64_t i = 0; i < 8; i++)
        add_task_until("q", TN_TASK_ACTIVITY, i, UINT64_MAX);
    assert_int_equal(history.n_asked, 2);
    for (size_t i = 1; i <= 6; i++) {
        played_pass(500 * TN_MS + 5 * TN_MS);
        assert_int_equal(history.n_asked, 2 + i);
    }
    for (size_t i = 0; i < TN_COUNT_OF(polls); i++)
        assert_int_equal(polls[i]->answers, 1);
}

static void expired_tasks_cost_no_rate(void **state)
{
    (void)state;
    rate_asked = 0.1;
    asked *p = send_off(poll_of(TN_TASK_ACTIVITY, "q"));
    for (int i = 0; i < 5; i++)
        add_task_until("q", TN_TASK_ACTIVITY, 1, tn_now_mono_ns());
    add_task_until("q", TN_TASK_ACTIVITY, 2, UINT64_MAX);
    assert_int_equal(p->answers, 1);
    assert_int_equal(history.last_task, 2);
}

static void fill(uint64_t expire_ns)
{
    tn_arena *all = arena;
    for (uint32_t i = 0; i < TN_TASKS_WINDOW_MAX; i++) {
        arena = tn_arena_create(0);
        assert_true(add_task_until("q", TN_TASK_WORKFLOW, i, expire_ns)->req.accepted);
        tn_arena_destroy(arena);
    }
    arena = all;
}

static void a_full_window_refuses_and_gives_credit_at_half(void **state)
{
    (void)state;
    fill(UINT64_MAX);
    assert_false(add_task("q", 1)->req.accepted);
    assert_false(add_task("q", 1)->req.accepted);
    tn_arena *all = arena;
    for (uint32_t i = 0; i < TN_TASKS_WINDOW_MAX; i++) {
        assert_int_equal(history.credits, i > TN_TASKS_WINDOW_MAX / 2 ? 1 : history.credits);
        if (i < TN_TASKS_WINDOW_MAX / 2)
            assert_int_equal(history.credits, 0);
        arena = tn_arena_create(0);
        assert_int_equal(poll("q")->answers, 1);
        tn_arena_destroy(arena);
    }
    arena = all;
    assert_int_equal(history.credits, 1);
    assert_int_equal(history.credit_shard, 2);
}

static void a_window_of_expired_tasks_gives_credit(void **state)
{
    (void)state;
    fill(tn_now_mono_ns() + TN_SEC);
    assert_false(add_task("q", 1)->req.accepted);
    played_pass(2 * TN_SEC);
    asked *p = poll("q");
    assert_int_equal(p->answers, 0);
    assert_int_equal(history.credits, 1);
    cancel(p);
}

/* ---- queries ---- */

static void a_query_needs_a_worker_seen_lately(void **state)
{
    (void)state;
    asked *early = query_on("q", false);
    assert_int_equal(early->answers, 1);
    assert_int_equal(early->req.fault->code, TN_GRPC_FAILED_PRECONDITION);
    cancel(poll("q"));
    played_pass(5 * TN_SEC);
    asked *q = query_on("q", false);
    assert_int_equal(q->answers, 0);
    asked *p = poll("q");
    assert_int_equal(p->answers, 1);
    assert_int_equal(answer_query("q", q->req.query.id, 1)->answers, 1);
    assert_int_equal(q->answers, 1);
    assert_null(q->req.fault);
    assert_non_null(q->req.response);
    assert_int_equal(answer_query("q", q->req.query.id, 1)->req.fault->code, TN_GRPC_NOT_FOUND);
    assert_int_equal(q->answers, 1);
}

static void a_query_goes_before_tasks_and_its_failure_is_told(void **state)
{
    (void)state;
    cancel(poll("q"));
    add_task("q", 1);
    asked *q = query_on("q", false);
    history.last_task = -1;
    poll("q");
    assert_int_equal(history.last_task, -1);
    answer_query("q", q->req.query.id, 2);
    assert_int_equal(q->req.fault->code, TN_GRPC_INVALID_ARGUMENT);
    poll("q");
    assert_int_equal(history.last_task, 1);
}

static void a_query_whose_run_cannot_be_read_is_told_and_the_poll_ends(void **state)
{
    (void)state;
    asked *p = poll("q");
    history.stale = true;
    asked *q = query_on("q", false);
    assert_int_equal(q->answers, 1);
    assert_int_equal(q->req.fault->code, TN_GRPC_NOT_FOUND);
    assert_int_equal(p->answers, 1);
    assert_null(p->req.response);
}

static void a_query_that_nobody_takes_times_out(void **state)
{
    (void)state;
    cancel(poll("q"));
    asked *q = query_on("q", false);
    played_pass(61 * TN_SEC);
    assert_int_equal(q->answers, 1);
    assert_int_equal(q->req.fault->code, TN_GRPC_FAILED_PRECONDITION);

    asked *p = poll_of(TN_TASK_WORKFLOW, "s");
    p->req.sticky = true;
    send_off(p);
    cancel(p);
    asked *sticky = query_on("s", true);
    assert_int_equal(sticky->answers, 0);
    played_pass(6 * TN_SEC);
    assert_int_equal(sticky->answers, 1);
    assert_false(sticky->req.accepted);
}

/* The queue of a query that is with a worker has neither tasks nor polls, yet it must stay. */
static void an_idle_queue_stays_while_a_worker_has_a_query_of_it(void **state)
{
    (void)state;
    poll("q");
    asked *q = ask(TN_MOP_QUERY, TN_TASK_WORKFLOW, "q");
    static Temporal__Api__Query__V1__WorkflowQuery text =
        TEMPORAL__API__QUERY__V1__WORKFLOW_QUERY__INIT;
    q->req.query =
        (tn_mquery){.workflow_id = TN_STR("w"), .run_id = q->req.run_id, .query = &text.base};
    q->req.deadline_mono_ns = tn_now_mono_ns() + 1800 * TN_SEC;
    send_off(q);
    played_pass(1200 * TN_SEC);
    assert_int_equal(q->answers, 0);
    played_pass(700 * TN_SEC);
    assert_int_equal(q->answers, 1);
    assert_int_equal(q->req.fault->code, TN_GRPC_DEADLINE_EXCEEDED);
}

static void an_idle_queue_stays_while_a_run_has_a_poll_of_it(void **state)
{
    (void)state;
    history.hold = true;
    asked *p = poll("q");
    add_task("q", 1);
    played_pass(1200 * TN_SEC);
    assert_int_equal(p->answers, 0);
    history_answers();
    assert_int_equal(p->answers, 1);
}

static void idle_queues_are_forgotten(void **state)
{
    (void)state;
    long before = played_ns_refs;
    char name[32];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        cancel(poll(name));
    }
    assert_int_equal(played_ns_refs, before + 100);
    played_pass(1200 * TN_SEC);
    assert_int_equal(played_ns_refs, before);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- partitions ---- */

#define P(n) "/_sys/q/" #n

static asked *poll_here(const char *partition)
{
    asked *a = poll_of(TN_TASK_WORKFLOW, partition);
    a->req.placed = true;
    return send_off(a);
}

static asked *add_here(const char *partition, int64_t id)
{
    asked *a = ask(TN_MOP_ADD, TN_TASK_WORKFLOW, partition);
    a->req.placed = true;
    a->req.task =
        (tn_task_ref){.shard = 2, .scheduled_id = id, .created_mono_ns = tn_now_mono_ns()};
    return send_off(a);
}

static int with_partitions(void **state)
{
    partitions = 4;
    return setup(state);
}

static int without_partitions(void **state)
{
    partitions = 1;
    return teardown(state);
}

static void names_of_partitions(void **state)
{
    (void)state;
    static const struct {
        const char *name, *base;
        uint32_t index;
    } rows[] = {{"q", "q", 0},
                {"/_sys/q/3", "q", 3},
                {"/_sys/a/b/12", "a/b", 12},
                {"/_sys/q/", "/_sys/q/", 0},
                {"/_sys/q/x", "/_sys/q/x", 0},
                {"/_sys/q/0", "/_sys/q/0", 0},
                {"/_sys/q", "/_sys/q", 0},
                {"", "", 0},
                {"/_sys/q/1000", "/_sys/q/1000", 0}};
    for (size_t i = 0; i < TN_COUNT_OF(rows); i++) {
        uint32_t index = 77;
        tn_str base = tn_partition_base(tn_str_from(rows[i].name), &index);
        assert_true(tn_str_is(base, rows[i].base));
        assert_int_equal(index, rows[i].index);
        if (index)
            assert_string_equal(tn_partition_name(arena, base, index).p, rows[i].name);
    }
    assert_string_equal(tn_partition_name(arena, TN_STR("q"), 0).p, "q");
}

static void polls_and_tasks_take_partitions_by_chance(void **state)
{
    (void)state;
    bool seen[4] = {false};
    for (int i = 0; i < 200; i++) {
        asked *a = ask(TN_MOP_ADD, TN_TASK_WORKFLOW, "q");
        uint32_t index;
        tn_partition_place(&a->req);
        assert_true(tn_str_is(tn_partition_base(a->req.queue, &index), "q"));
        assert_true(index < 4);
        seen[index] = true;
        tn_str once = a->req.queue;
        tn_partition_place(&a->req);
        assert_ptr_equal(once.p, a->req.queue.p);
    }
    assert_true(seen[0] && seen[1] && seen[2] && seen[3]);
    asked *sticky = ask(TN_MOP_POLL, TN_TASK_WORKFLOW, "q");
    sticky->req.sticky = true;
    for (int i = 0; i < 50; i++) {
        tn_partition_place(&sticky->req);
        assert_true(tn_str_is(sticky->req.queue, "q"));
    }
}

static void a_partition_serves_its_own_first(void **state)
{
    (void)state;
    asked *p = poll_here(P(1));
    add_here(P(1), 1);
    assert_int_equal(p->answers, 1);
    assert_int_equal(history.last_task, 1);
}

static void a_poll_finds_the_task_of_another_partition(void **state)
{
    (void)state;
    asked *p = poll_here(P(3)); /* a child of 1, which is a child of the root */
    played_pass(TN_SEC);
    add_here("q", 1);
    assert_int_equal(p->answers, 1);
    assert_ptr_equal(p->req.response, &polled.base);
    p = poll_here(P(3));
    add_here(P(2), 2);
    played_pass(TN_SEC);
    assert_int_equal(p->answers, 1);
    assert_int_equal(history.last_task, 2);
    assert_int_equal(history.n_asked, 2);
}

static void a_task_without_polls_goes_up(void **state)
{
    (void)state;
    for (int64_t i = 1; i <= 20; i++)
        assert_true(add_here(P(3), i)->req.accepted);
    played_pass(10 * TN_SEC);
    for (int i = 0; i < 20; i++)
        assert_int_equal(poll_here("q")->answers, 1);
    assert_int_equal(history.n_asked, 20);
    asked *p = poll_here("q");
    assert_int_equal(p->answers, 0);
    cancel(p);
}

static void polls_that_went_up_end_in_every_way(void **state)
{
    (void)state;
    asked *gone = poll_here(P(1)), *waits = poll_here(P(2)), *third = poll_here(P(1));
    played_pass(TN_SEC); /* one of each partition is at the root */
    cancel(gone);
    assert_int_equal(gone->answers, 1);
    assert_int_equal(gone->req.fault->code, TN_GRPC_CANCELLED);
    played_pass(TN_SEC);
    add_here("q", 1);
    assert_int_equal(waits->answers + third->answers, 1);
    played_pass(61 * TN_SEC);
    assert_int_equal(waits->answers + third->answers, 2);
    assert_null(third->req.fault);
    assert_int_equal(history.n_asked, 1);
}

static void a_poll_cancelled_on_its_way_back_keeps_its_answer(void **state)
{
    (void)state;
    asked *p = poll_here(P(1));
    played_pass(TN_SEC);
    history.hold = true;
    add_here("q", 1);
    cancel(p);
    assert_int_equal(p->answers, 0);
    history.hold = false;
    history_answers();
    assert_int_equal(p->answers, 1);
    assert_ptr_equal(p->req.response, &polled.base);
}

static void a_query_goes_where_polls_are(void **state)
{
    (void)state;
    asked *p = poll_here(P(1));
    played_pass(TN_SEC);
    asked *q = ask(TN_MOP_QUERY, TN_TASK_WORKFLOW, P(2));
    static Temporal__Api__Query__V1__WorkflowQuery query =
        TEMPORAL__API__QUERY__V1__WORKFLOW_QUERY__INIT;
    q->req.placed = true;
    q->req.query =
        (tn_mquery){.workflow_id = TN_STR("w"), .run_id = q->req.run_id, .query = &query.base};
    send_off(q);
    assert_int_equal(p->answers, 1);
    assert_true(tn_str_is(q->req.queue, "q")); /* it waits at the root, and its answer goes there */
    answer_query("q", q->req.query.id, 1);
    assert_int_equal(q->answers, 1);
    assert_null(q->req.fault);
}

static void partitions_are_described_together(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 3; i++)
        add_here(P(1), i), add_here("q", i);
    Temporal__Api__Workflowservice__V1__DescribeTaskQueueRequest request =
        TEMPORAL__API__WORKFLOWSERVICE__V1__DESCRIBE_TASK_QUEUE_REQUEST__INIT;
    request.report_stats = request.include_task_queue_status = true;
    asked *d = ask(TN_MOP_DESCRIBE, TN_TASK_WORKFLOW, "q");
    d->req.request = &request.base;
    send_off(d);
    assert_int_equal(d->answers, 1);
    const Temporal__Api__Workflowservice__V1__DescribeTaskQueueResponse *told =
        (const void *)d->req.response;
    assert_int_equal(told->stats->approximate_backlog_count, 6);
    assert_int_equal(told->task_queue_status->backlog_count_hint, 6);
    asked *l = send_off(ask(TN_MOP_PARTITIONS, TN_TASK_WORKFLOW, "q"));
    const Temporal__Api__Workflowservice__V1__ListTaskQueuePartitionsResponse *list =
        (const void *)l->req.response;
    assert_int_equal(list->n_workflow_task_queue_partitions, 4);
    assert_string_equal(list->workflow_task_queue_partitions[0]->key, "q");
    assert_string_equal(list->workflow_task_queue_partitions[3]->key, P(3));
    for (int i = 0; i < 6; i++) {
        asked *p = poll_here(P(1));
        played_pass(TN_SEC);
        assert_int_equal(p->answers, 1);
    }
}

/* ---- versions of a worker deployment ---- */

static asked *poll_as(const char *queue, const char *build_id)
{
    asked *a = poll_of(TN_TASK_WORKFLOW, queue);
    Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options =
        TN_NEW(arena, Temporal__Api__Deployment__V1__WorkerDeploymentOptions);
    temporal__api__deployment__v1__worker_deployment_options__init(options);
    options->deployment_name = (char *)"d";
    options->build_id = (char *)(uintptr_t)build_id;
    options->worker_versioning_mode = 2;
    ((Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest *)(void *)(uintptr_t)
         a->req.request)
        ->deployment_options = options;
    return send_off(a);
}

static tn_dver build(const char *build_id) { return (tn_dver){TN_STR("d"), tn_str_from(build_id)}; }

static asked *add_directed(const char *queue, int64_t id, tn_directive directive)
{
    asked *a = ask(TN_MOP_ADD, TN_TASK_WORKFLOW, queue);
    a->req.task =
        (tn_task_ref){.shard = 2, .scheduled_id = id, .created_mono_ns = tn_now_mono_ns()};
    a->req.directive = directive;
    return send_off(a);
}

static void on_loop(void *arg)
{
    (void)arg;
    deployed.changed();
}

static void deploy(tn_dver current, int64_t revision)
{
    deployed.any = true;
    deployed.routing = (tn_routing){.current = current, .current_revision = revision};
    for (uint32_t i = 0; i < tn_loops_count(); i++)
        tn_loop_call(tn_loops_get(i), on_loop, NULL);
    played_run();
}

static void nothing_deployed(void)
{
    deployed.any = false;
    deployed.routing = (tn_routing){0};
}

static void pinned_tasks_wait_for_their_version(void **state)
{
    (void)state;
    asked *plain = poll("v1"), *two = poll_as("v1", "2");
    add_directed("v1", 7, (tn_directive){.behavior = TN_BEHAVIOR_PINNED, .version = build("1")});
    assert_int_equal(plain->answers + two->answers, 0);
    asked *one = poll_as("v1", "1");
    assert_int_equal(one->answers, 1);
    assert_int_equal(history.last_task, 7);
    cancel(plain), cancel(two);
}

static void what_waits_moves_with_the_routing(void **state)
{
    (void)state;
    add_task("v2", 1); /* of an unversioned run */
    add_directed(
        "v2", 2,
        (tn_directive){.behavior = TN_BEHAVIOR_AUTO_UPGRADE, .version = build("1"), .revision = 1});
    add_directed("v2", 3, (tn_directive){.behavior = TN_BEHAVIOR_PINNED, .version = build("1")});
    asked *two = poll_as("v2", "2"), *again = poll_as("v2", "2");
    assert_int_equal(two->answers, 0);
    deploy(build("2"), 2);
    assert_int_equal(two->answers + again->answers, 2); /* both that are not pinned */
    asked *third = poll_as("v2", "2"), *one = poll_as("v2", "1");
    assert_int_equal(third->answers, 0);
    assert_int_equal(one->answers, 1);
    assert_int_equal(history.last_task, 3);
    cancel(third);
    /* A run that came to its version by a newer revision is not sent back by an older one. */
    add_directed(
        "v2", 4,
        (tn_directive){.behavior = TN_BEHAVIOR_AUTO_UPGRADE, .version = build("3"), .revision = 9});
    asked *three = poll_as("v2", "3");
    assert_int_equal(three->answers, 1);
    nothing_deployed();
}

static void a_sticky_worker_of_another_version_gets_no_task(void **state)
{
    (void)state;
    asked *p = poll_of(TN_TASK_WORKFLOW, "v3-sticky");
    p->req.sticky = true;
    send_off(p);
    deploy(build("2"), 2);
    asked *a = ask(TN_MOP_ADD, TN_TASK_WORKFLOW, "v3-sticky");
    a->req.sticky = true;
    a->req.normal_queue = TN_STR("v3");
    a->req.directive = (tn_directive){.behavior = TN_BEHAVIOR_AUTO_UPGRADE, .version = build("1")};
    send_off(a);
    assert_false(a->req.accepted);
    a->req.directive.version = build("2");
    send_off(a);
    assert_true(a->req.accepted);
    assert_int_equal(p->answers, 1);
    nothing_deployed();
}

static void a_ramp_takes_its_share(void **state)
{
    (void)state;
    tn_routing routing = {
        .current = build("1"), .ramping = build("2"), .percentage = 30, .ramps = true};
    unsigned ramped = 0;
    int64_t revision;
    for (unsigned i = 0; i < 10000; i++) {
        char id[32];
        snprintf(id, sizeof(id), "workflow-%u", i);
        tn_dver first = tn_routing_target(&routing, tn_str_from(id), false, &revision);
        assert_true(
            tn_dver_eq(first, tn_routing_target(&routing, tn_str_from(id), false, &revision)));
        ramped += tn_str_is(first.build_id, "2");
    }
    assert_in_range(ramped, 2800, 3200);
    assert_true(tn_str_is(tn_routing_target(&routing, TN_STR("x"), true, &revision).build_id, "2"));
    routing.percentage = 100;
    assert_true(
        tn_str_is(tn_routing_target(&routing, TN_STR("x"), false, &revision).build_id, "2"));
    routing.percentage = 0;
    assert_true(
        tn_str_is(tn_routing_target(&routing, TN_STR("x"), false, &revision).build_id, "1"));
}

/* ---- the end ---- */

static void at_the_end_polls_end_empty_and_nothing_is_taken(void **state)
{
    (void)state;
    asked *parked = poll("q");
    cancel(poll("r"));
    asked *query = query_on("r", false);
    history.hold = true;
    asked *at_run = poll("t");
    add_task("t", 1);
    tn_matching_stop();
    played_run();
    assert_int_equal(parked->answers, 1);
    assert_null(parked->req.fault);
    assert_int_equal(query->req.fault->code, TN_GRPC_UNAVAILABLE);
    assert_false(add_task("q", 2)->req.accepted);
    assert_int_equal(poll("q")->answers, 1);
    assert_int_equal(query_on("q", false)->answers, 1);
    history.stale = true;
    history_answers();
    assert_int_equal(at_run->answers, 1);
}

#define PARTED(function) \
    cmocka_unit_test_setup_teardown(function, with_partitions, without_partitions)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_task_waits_for_a_poll_and_a_poll_for_a_task),
        CASE(first_come_first_served),
        CASE(queues_types_and_namespaces_do_not_mix),
        CASE(a_stale_task_is_dropped_and_the_poll_waits_on),
        CASE(a_poll_ends_empty_after_a_minute_or_before_its_deadline),
        CASE(an_expired_task_is_not_handed_out),
        CASE(a_parked_poll_is_cancelled),
        CASE(a_poll_cancelled_at_its_run_gives_a_stale_task_back_to_none),
        CASE(a_poll_cancelled_at_its_run_keeps_its_answer),
        CASE(a_poll_whose_peer_is_gone_gets_no_task),
        CASE(a_sticky_queue_without_its_worker_refuses),
        CASE(a_worker_that_shuts_down_leaves_its_sticky_queue),
        CASE(the_rate_that_workers_asked_for_is_kept),
        CASE(expired_tasks_cost_no_rate),
        CASE(a_full_window_refuses_and_gives_credit_at_half),
        CASE(a_window_of_expired_tasks_gives_credit),
        CASE(a_query_needs_a_worker_seen_lately),
        CASE(a_query_goes_before_tasks_and_its_failure_is_told),
        CASE(a_query_whose_run_cannot_be_read_is_told_and_the_poll_ends),
        CASE(a_query_that_nobody_takes_times_out),
        CASE(an_idle_queue_stays_while_a_worker_has_a_query_of_it),
        CASE(an_idle_queue_stays_while_a_run_has_a_poll_of_it),
        CASE(idle_queues_are_forgotten),
        CASE(pinned_tasks_wait_for_their_version),
        CASE(what_waits_moves_with_the_routing),
        CASE(a_sticky_worker_of_another_version_gets_no_task),
        CASE(a_ramp_takes_its_share),
        PARTED(names_of_partitions),
        PARTED(polls_and_tasks_take_partitions_by_chance),
        PARTED(a_partition_serves_its_own_first),
        PARTED(a_poll_finds_the_task_of_another_partition),
        PARTED(a_task_without_polls_goes_up),
        PARTED(polls_that_went_up_end_in_every_way),
        PARTED(a_poll_cancelled_on_its_way_back_keeps_its_answer),
        PARTED(a_query_goes_where_polls_are),
        PARTED(partitions_are_described_together),
        cmocka_unit_test_setup_teardown(at_the_end_polls_end_empty_and_nothing_is_taken, setup,
                                        last_teardown),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
