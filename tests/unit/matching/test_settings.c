/* SPDX-License-Identifier: MIT */
/* What operators set for a task queue, advice on pollers, workers and their end: with played loops and a store of one row. */
#include "harness.h"

#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__UpdateTaskQueueConfigRequest config_request;
typedef Temporal__Api__Workflowservice__V1__UpdateTaskQueueConfigResponse config_response;
typedef Temporal__Api__Workflowservice__V1__DescribeTaskQueueRequest describe_request;
typedef Temporal__Api__Workflowservice__V1__DescribeTaskQueueResponse describe_response;
typedef Temporal__Api__Workflowservice__V1__ListWorkersRequest list_request;
typedef Temporal__Api__Workflowservice__V1__ListWorkersResponse list_response;

static config_request request;
static Temporal__Api__Workflowservice__V1__UpdateTaskQueueConfigRequest__RateLimitUpdate
    rate_update;
static Temporal__Api__Taskqueue__V1__RateLimit rate;

static void new_request(uint32_t type)
{
    temporal__api__workflowservice__v1__update_task_queue_config_request__init(&request);
    request.task_queue = (char *)"q";
    request.identity = (char *)"operator";
    request.task_queue_type = (Temporal__Api__Enums__V1__TaskQueueType)type;
    temporal__api__workflowservice__v1__update_task_queue_config_request__rate_limit_update__init(
        &rate_update);
    temporal__api__taskqueue__v1__rate_limit__init(&rate);
}

static asked *update(void)
{
    asked *a = ask(TN_MOP_UPDATE_CONFIG, TN_TASK_WORKFLOW, "q");
    a->req.request = &request.base;
    send_off(a);
    assert_int_equal(a->answers, 1);
    return a;
}

static void set_rate(float per_second)
{
    new_request(TN_TASK_ACTIVITY);
    rate.requests_per_second = per_second;
    rate_update.rate_limit = per_second < 0 ? NULL : &rate;
    rate_update.reason = (char *)"because";
    request.update_queue_rate_limit = &rate_update;
    assert_null(update()->req.fault);
}

static asked *poll_activity(void) { return send_off(poll_of(TN_TASK_ACTIVITY, "q")); }

static void add_activities(size_t n)
{
    for (size_t i = 0; i < n; i++)
        add_task_until("q", TN_TASK_ACTIVITY, (int64_t)i + 1, UINT64_MAX);
}

/* How many of n polls that come now get a task. */
static unsigned polls_answered(unsigned n)
{
    unsigned before = (unsigned)history.n_asked;
    asked *polls[64];
    for (unsigned i = 0; i < n; i++)
        polls[i] = poll_activity();
    unsigned got = (unsigned)history.n_asked - before;
    for (unsigned i = 0; i < n; i++)
        if (!polls[i]->answers)
            cancel(polls[i]);
    return got;
}

static describe_response *described(void)
{
    describe_request *r = TN_NEW(arena, describe_request);
    temporal__api__workflowservice__v1__describe_task_queue_request__init(r);
    r->task_queue_type = (Temporal__Api__Enums__V1__TaskQueueType)TN_TASK_ACTIVITY;
    r->report_config = r->report_stats = r->include_task_queue_status = true;
    asked *a = ask(TN_MOP_DESCRIBE, TN_TASK_WORKFLOW, "q");
    a->req.request = &r->base;
    send_off(a);
    assert_int_equal(a->answers, 1);
    return (describe_response *)(void *)a->req.response;
}

static void a_rate_holds_and_can_be_taken_back(void **state)
{
    (void)state;
    set_rate(3);
    add_activities(20);
    assert_int_equal(polls_answered(10), 3);
    played_pass(TN_SEC + 10 * TN_MS);
    assert_int_equal(polls_answered(10), 3);
    set_rate(-1);
    assert_int_equal(polls_answered(14), 14);
}

static void nought_stops_a_queue_also_after_it_was_forgotten(void **state)
{
    (void)state;
    set_rate(0);
    played_pass(3600 * TN_SEC); /* nothing of the queue is left in memory */
    add_activities(1);
    asked *p = poll_activity();
    assert_int_equal(p->answers, 0);
    played_pass(30 * TN_SEC);
    assert_int_equal(p->answers, 0);
    assert_int_equal(described()->effective_rate_limit->rate_limit_source, 1);
    set_rate(-1); /* and the poll that waits gets it at once */
    assert_int_equal(p->answers, 1);
}

static void an_operator_wins_over_workers(void **state)
{
    (void)state;
    rate_asked = 2;
    cancel(poll_activity());
    describe_response *d = described();
    assert_true(d->effective_rate_limit->requests_per_second == 2);
    assert_int_equal(d->effective_rate_limit->rate_limit_source, 2);
    set_rate(5);
    d = described();
    assert_true(d->effective_rate_limit->requests_per_second == 5);
    assert_int_equal(d->effective_rate_limit->rate_limit_source, 1);
    assert_string_equal(d->config->queue_rate_limit->metadata->reason, "because");
    assert_string_equal(d->config->queue_rate_limit->metadata->update_identity, "operator");
    set_rate(-1);
    assert_true(described()->effective_rate_limit->requests_per_second == 2);
    rate_asked = 0; /* the last poll says what workers want */
    cancel(poll_activity());
    assert_int_equal(described()->effective_rate_limit->rate_limit_source, 3);
}

static void nothing_is_handed_out_before_the_settings_are_known(void **state)
{
    (void)state;
    stored.fails = true;
    add_activities(1);
    asked *p = poll_activity();
    assert_int_equal(p->answers, 0);
    stored.fails = false;
    played_pass(2 * TN_SEC);
    assert_int_equal(p->answers, 1);
    unsigned reads = stored.reads;
    add_activities(3);
    polls_answered(3);
    assert_int_equal(stored.reads, reads); /* once for a queue */
}

static void each_partition_keeps_its_part_of_a_rate(void **state)
{
    (void)state;
    partitions = 2;
    set_rate(4);
    for (int i = 0; i < 10; i++) {
        asked *a = ask(TN_MOP_ADD, TN_TASK_ACTIVITY, "q");
        a->req.placed = true;
        a->req.task =
            (tn_task_ref){.shard = 2, .scheduled_id = i + 1, .created_mono_ns = tn_now_mono_ns()};
        send_off(a);
    }
    asked *polls[6];
    for (size_t i = 0; i < 6; i++) {
        polls[i] = poll_of(TN_TASK_ACTIVITY, "q");
        polls[i]->req.placed = true;
        send_off(polls[i]);
    }
    assert_int_equal(history.n_asked, 2);
    played_pass(8 * TN_SEC); /* what is left goes, two a second */
    for (size_t i = 0; i < 4; i++) {
        asked *p = poll_of(TN_TASK_ACTIVITY, "q");
        p->req.placed = true;
        send_off(p);
    }
    played_pass(8 * TN_SEC);
    assert_int_equal(history.n_asked, 10);
    partitions = 1;
}

static asked *set_weights(size_t n, const char *const *keys, float weight, const char *unset)
{
    typedef Temporal__Api__Workflowservice__V1__UpdateTaskQueueConfigRequest__SetFairnessWeightOverridesEntry
        entry;
    new_request(TN_TASK_WORKFLOW);
    entry **set = TN_NEW_ARRAY(arena, entry *, n + 1);
    for (size_t i = 0; i < n; i++) {
        set[i] = TN_NEW(arena, entry);
        temporal__api__workflowservice__v1__update_task_queue_config_request__set_fairness_weight_overrides_entry__init(
            set[i]);
        set[i]->key = (char *)(uintptr_t)keys[i];
        set[i]->value = weight;
    }
    request.set_fairness_weight_overrides = set;
    request.n_set_fairness_weight_overrides = n;
    char **unset_list = TN_NEW_ARRAY(arena, char *, 1);
    unset_list[0] = (char *)(uintptr_t)unset;
    request.unset_fairness_weight_overrides = unset_list;
    request.n_unset_fairness_weight_overrides = unset != NULL;
    return update();
}

static void weights_are_merged_and_bounded(void **state)
{
    (void)state;
    static const char *const some[] = {"a", "b", "c", "d"}, *const more[] = {"a", "e"};
    config_response *r = (config_response *)(void *)set_weights(4, some, 2, NULL)->req.response;
    assert_int_equal(r->config->n_fairness_weight_overrides, 4);
    asked *refused = set_weights(2, more, 3, NULL);
    assert_non_null(refused->req.fault);
    assert_int_equal(refused->req.fault->code, TN_GRPC_INVALID_ARGUMENT);
    r = (config_response *)(void *)set_weights(2, more, 3, "b")->req.response;
    assert_int_equal(r->config->n_fairness_weight_overrides, 4); /* a c d e */
}

static void an_update_that_loses_a_race_is_made_again(void **state)
{
    (void)state;
    set_rate(1);
    stored.races = true;
    set_rate(7);
    assert_false(stored.races);
    assert_true(described()->effective_rate_limit->requests_per_second == 7);
}

static void add_prioritized(int64_t id, int32_t priority, const char *key)
{
    tn_task_priority *p = TN_NEW(arena, tn_task_priority);
    *p = (tn_task_priority){.key = priority, .fairness_key = tn_str_from(key)};
    asked *a = ask(TN_MOP_ADD, TN_TASK_ACTIVITY, "q");
    a->req.task =
        (tn_task_ref){.shard = 2, .scheduled_id = id, .created_mono_ns = tn_now_mono_ns()};
    a->req.priority = p;
    assert_true(send_off(a)->req.accepted);
}

static void tasks_go_out_by_priority_and_are_shown_so(void **state)
{
    (void)state;
    static const int64_t order[] = {2, 3, 1};
    add_prioritized(1, 5, "");
    add_prioritized(2, 1, "x");
    add_prioritized(3, 0, "");
    describe_response *d = described();
    assert_int_equal(d->stats->approximate_backlog_count, 3);
    assert_int_equal(d->n_stats_by_priority_key, 3);
    static const int32_t keys[] = {1, 3, 5};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(d->stats_by_priority_key[i]->key, keys[i]);
        assert_int_equal(d->stats_by_priority_key[i]->value->approximate_backlog_count, 1);
    }
    for (size_t i = 0; i < 3; i++) {
        poll_activity();
        assert_int_equal(history.last_task, order[i]);
    }
}

/* ---- advice ---- */

static int32_t advice(void)
{
    return polled.poller_scaling_decision
               ? polled.poller_scaling_decision->poll_request_delta_suggestion
               : 0;
}

static void pollers_are_advised(void **state)
{
    (void)state;
    poll("q");
    played_pass(3 * TN_SEC);
    add_task("q", 1);
    assert_int_equal(advice(), -1); /* it had nothing to do */
    add_task("q", 2);
    add_task("q", 3);
    played_pass(TN_SEC);
    poll("q");
    assert_int_equal(advice(), 1);
    assert_int_equal(polled.backlog_count_hint, 1);
    poll("q");
    assert_int_equal(advice(), 0); /* not so soon again */
    assert_int_equal(polled.backlog_count_hint, 0);
}

/* ---- workers ---- */

static asked *beat(const char *instance, const char *queue, int status)
{
    Temporal__Api__Workflowservice__V1__RecordWorkerHeartbeatRequest *r =
        TN_NEW(arena, Temporal__Api__Workflowservice__V1__RecordWorkerHeartbeatRequest);
    temporal__api__workflowservice__v1__record_worker_heartbeat_request__init(r);
    r->n_worker_heartbeat = 1;
    r->worker_heartbeat = TN_NEW_ARRAY(arena, Temporal__Api__Worker__V1__WorkerHeartbeat *, 1);
    Temporal__Api__Worker__V1__WorkerHeartbeat *w = r->worker_heartbeat[0] =
        TN_NEW(arena, Temporal__Api__Worker__V1__WorkerHeartbeat);
    temporal__api__worker__v1__worker_heartbeat__init(w);
    w->worker_instance_key = tn_arena_strdup(arena, instance);
    w->task_queue = tn_arena_strdup(arena, queue);
    w->status = (Temporal__Api__Enums__V1__WorkerStatus)status;
    w->start_time = tn_ts_from_ns(arena, 1700000000 * (int64_t)TN_SEC);
    asked *a = ask(TN_MOP_WORKER_HEARTBEAT, TN_TASK_WORKFLOW, TN_WORKERS_QUEUE);
    a->req.request = &r->base;
    return send_off(a);
}

static asked *list_asked(const char *query, int32_t page, ProtobufCBinaryData token)
{
    list_request *r = TN_NEW(arena, list_request);
    temporal__api__workflowservice__v1__list_workers_request__init(r);
    r->query = (char *)(uintptr_t)query;
    r->page_size = page;
    r->next_page_token = token;
    asked *a = ask(TN_MOP_LIST_WORKERS, TN_TASK_WORKFLOW, TN_WORKERS_QUEUE);
    a->req.request = &r->base;
    return send_off(a);
}

static list_response *list(const char *query)
{
    asked *a = list_asked(query, 0, (ProtobufCBinaryData){0});
    assert_null(a->req.fault);
    return (list_response *)(void *)a->req.response;
}

static void workers_are_listed_by_what_they_say(void **state)
{
    (void)state;
    beat("one", "red", 1);
    beat("two", "blue", 1);
    beat("three", "blue", 2);
    beat("own", "temporal-sys-x", 1);
    static const struct {
        const char *query;
        size_t n;
    } cases[] = {
        {"", 3},
        {"TaskQueue = 'blue'", 2},
        {"TaskQueue != 'blue'", 1},
        {"TaskQueue = \"blue\" AND WorkerStatus = 'Running'", 1},
        {"TaskQueue = 'red' OR WorkerInstanceKey STARTS_WITH 't'", 3},
        {"WorkerInstanceKey NOT STARTS_WITH 't'", 1},
        {"(TaskQueue = 'red' OR TaskQueue = 'blue') AND Status = 'ShuttingDown'", 1},
        {"TaskQueue = 'red' OR TaskQueue = 'blue' AND Status = 'ShuttingDown'", 2},
        {"StartTime = '2023-11-14T22:13:20Z'", 3},
        {"StartTime < '2023-11-14T22:13:20Z'", 0},
        {"StartTime BETWEEN '2023-11-14T00:00:00Z' AND '2023-11-15T00:00:00Z'", 3},
        {"StartTime NOT BETWEEN '2023-11-14T00:00:00Z' AND '2023-11-15T00:00:00Z'", 0},
        {"HostName IS NULL", 3},
        {"HostName IS NOT NULL", 0},
        {"HeartbeatTime IS NULL AND StartTime IS NOT NULL", 3},
        {"NoSuchField = 'x'", 0}, /* means nothing, and fits nobody */
        {"TaskQueue = 'blue' AND NoSuchField = 'x'", 0},
        {"TaskQueue = 'blue' OR NoSuchField = 'x'", 2}, /* the left side has settled it */
        {"NOT TaskQueue = 'blue'", 0},
        {"TaskQueue IN ('blue', 'red')", 0},
        {"TaskQueue > 'a'", 0},
        {"TaskQueue = 3", 0},
        {"StartTime STARTS_WITH '2023'", 0},
    };
    for (size_t i = 0; i < TN_COUNT_OF(cases); i++)
        if (list(cases[i].query)->n_workers != cases[i].n)
            fail_msg("%s: %zu", cases[i].query, list(cases[i].query)->n_workers);
    static const char *const wrong[] = {
        "TaskQueue =", "= 'x'",         "(TaskQueue = 'x'",        "TaskQueue = 'x')",
        "AND",         "TaskQueue 'x'", "TaskQueue = 'x' LIMIT 1", "TaskQueue BETWEEN 'a'",
        "()"};
    for (size_t i = 0; i < TN_COUNT_OF(wrong); i++) {
        asked *a = list_asked(wrong[i], 0, (ProtobufCBinaryData){0});
        if (!a->req.fault || a->req.fault->code != TN_GRPC_INVALID_ARGUMENT)
            fail_msg("%s is no filter", wrong[i]);
    }
}

static void workers_come_page_by_page(void **state)
{
    (void)state;
    beat("c", "q", 1);
    beat("a", "q", 1);
    beat("b", "q", 1);
    asked *a = list_asked("", 2, (ProtobufCBinaryData){0});
    const list_response *first = (const list_response *)(const void *)a->req.response;
    assert_int_equal(first->n_workers, 2);
    assert_int_equal(first->n_workers_info, 2);
    assert_string_equal(first->workers[1]->worker_instance_key, "b");
    a = list_asked("", 2, first->next_page_token);
    const list_response *second = (const list_response *)(const void *)a->req.response;
    assert_int_equal(second->n_workers, 1);
    assert_string_equal(second->workers[0]->worker_instance_key, "c");
    assert_int_equal(second->next_page_token.len, 0);
    a = list_asked("", 2, (ProtobufCBinaryData){3, (uint8_t *)"xyz"});
    assert_int_equal(a->req.fault->code, TN_GRPC_INVALID_ARGUMENT);
}

static void silent_workers_are_forgotten_and_those_that_left_at_once(void **state)
{
    (void)state;
    beat("a", "q", 1);
    played_pass(200 * TN_SEC);
    beat("b", "q", 1);
    assert_int_equal(list("")->n_workers, 2);
    played_pass(150 * TN_SEC);
    assert_int_equal(list("")->n_workers, 1);
    beat("b", "q", 3);
    assert_int_equal(list("")->n_workers, 0);
}

static void too_many_workers_make_room_for_new_ones(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b", "c", "d",
                                        "e"}; /* six on two loops: four here at most */
    for (size_t i = 0; i < 4; i++)
        beat(names[i], "q", 1);
    beat("e", "q", 1); /* none has been silent for long enough: it has to wait */
    assert_int_equal(list("")->n_workers, 4);
    played_pass(299 * TN_SEC);
    for (size_t i = 1; i < 4; i++)
        beat(names[i], "q", 1);
    assert_int_equal(list("")->n_workers, 4);
    played_pass(2 * TN_SEC);
    beat("e", "q", 1);
    assert_int_equal(list("WorkerInstanceKey = 'e'")->n_workers, 1);
    assert_int_equal(list("WorkerInstanceKey = 'a'")->n_workers, 0);
}

static asked *poll_as(const char *instance, const char *partition)
{
    asked *a = poll_of(TN_TASK_WORKFLOW, partition);
    ((Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest *)(uintptr_t)a->req.request)
        ->worker_instance_key = (char *)(uintptr_t)instance;
    a->req.placed = true;
    return send_off(a);
}

static void a_worker_that_shuts_down_gets_its_polls_back(void **state)
{
    (void)state;
    partitions = 3;
    Temporal__Api__Workflowservice__V1__ShutdownWorkerRequest r =
        TEMPORAL__API__WORKFLOWSERVICE__V1__SHUTDOWN_WORKER_REQUEST__INIT;
    r.worker_instance_key = (char *)"gone";
    r.task_queue = (char *)"q";
    r.identity = (char *)"worker";
    asked *polls[] = {poll_as("gone", "q"), poll_as("gone", "/_sys/q/1"),
                      poll_as("gone", "/_sys/q/2"), poll_as("stays", "q")};
    played_pass(50 * TN_MS); /* some of them wait at the parent by now */
    asked *a = ask(TN_MOP_CANCEL_WORKER_POLLS, TN_TASK_WORKFLOW, "q");
    a->req.request = &r.base;
    send_off(a);
    assert_int_equal(a->answers, 1);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(polls[i]->answers, 1);
        assert_null(polls[i]->req.fault);
        assert_null(polls[i]->req.response);
    }
    assert_int_equal(polls[3]->answers, 0);
    assert_int_equal(poll_as("gone", "q")->answers, 1); /* it was on its way */
    played_pass(71 * TN_SEC);
    assert_int_equal(poll_as("gone", "q")->answers, 0);
    partitions = 1;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_rate_holds_and_can_be_taken_back),
        CASE(nought_stops_a_queue_also_after_it_was_forgotten),
        CASE(an_operator_wins_over_workers),
        CASE(nothing_is_handed_out_before_the_settings_are_known),
        CASE(each_partition_keeps_its_part_of_a_rate),
        CASE(weights_are_merged_and_bounded),
        CASE(an_update_that_loses_a_race_is_made_again),
        CASE(tasks_go_out_by_priority_and_are_shown_so),
        CASE(pollers_are_advised),
        CASE(workers_are_listed_by_what_they_say),
        CASE(workers_come_page_by_page),
        CASE(silent_workers_are_forgotten_and_those_that_left_at_once),
        CASE(too_many_workers_make_room_for_new_ones),
        CASE(a_worker_that_shuts_down_gets_its_polls_back),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
