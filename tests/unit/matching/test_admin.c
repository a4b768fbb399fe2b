/* SPDX-License-Identifier: MIT */
/* What operators ask of a partition: described, listed, unloaded; with played loops. */
#include "harness.h"

#include "admin/service.pb-c.h"
#include "proto/proto.h"

#define NEW(name, type, c_name) \
    Temporal__Server__Api__Adminservice__V1__##type name; \
    temporal__server__api__adminservice__v1__##c_name##__init(&name)

static asked *admin(const char *queue, uint32_t type, const ProtobufCMessage *request)
{
    asked *a = ask(TN_MOP_ADMIN, type, queue);
    a->req.request = request;
    a->req.placed = true;
    send_off(a);
    assert_int_equal(a->answers, 1);
    return a;
}

static const Temporal__Server__Api__Adminservice__V1__GetTaskQueueTasksResponse *tasks(
    const char *queue, int64_t min, int64_t max, int32_t batch, ProtobufCBinaryData token)
{
    NEW(request, GetTaskQueueTasksRequest, get_task_queue_tasks_request);
    request.min_task_id = min;
    request.max_task_id = max;
    request.batch_size = batch;
    request.next_page_token = token;
    asked *a = admin(queue, TN_TASK_WORKFLOW, &request.base);
    assert_null(a->req.fault);
    return (const void *)a->req.response;
}

static const ProtobufCBinaryData no_token;

/* A case leaves no tasks. */
static void work_off(const char *queue, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(poll(queue)->answers, 1);
}

static void tasks_are_listed_in_pages(void **state)
{
    (void)state;
    for (int64_t i = 1; i <= 5; i++)
        add_task("q", 10 * i);
    const Temporal__Server__Api__Adminservice__V1__GetTaskQueueTasksResponse *page =
        tasks("q", 0, 0, 2, no_token);
    assert_int_equal(page->n_tasks, 2);
    assert_int_equal(page->tasks[0]->task_id, 1);
    assert_int_equal(page->tasks[1]->data->scheduled_event_id, 20);
    assert_int_equal(page->next_page_token.len, 8);
    page = tasks("q", 0, 0, 2, page->next_page_token);
    assert_int_equal(page->tasks[0]->data->scheduled_event_id, 30);
    page = tasks("q", 0, 0, 2, page->next_page_token);
    assert_int_equal(page->n_tasks, 1);
    assert_int_equal(page->next_page_token.len, 0);
    page = tasks("q", 2, 4, 0, no_token);
    assert_int_equal(page->n_tasks, 2);
    assert_int_equal(page->tasks[1]->data->scheduled_event_id, 30);
    assert_int_equal(tasks("q", -12346, INT64_MAX, INT32_MAX, no_token)->n_tasks, 5);
    assert_int_equal(tasks("q", INT64_MAX, 0, 0, no_token)->n_tasks, 0);
    uint8_t end[8];
    memset(end, 0xff, sizeof(end));
    assert_int_equal(tasks("q", 0, 0, 0, (ProtobufCBinaryData){8, end})->n_tasks, 0);
    assert_int_equal(tasks("other", 0, 0, 0, no_token)->n_tasks, 0);
    work_off("q", 5);
}

static const Temporal__Server__Api__Taskqueue__V1__PhysicalTaskQueueInfo *describe(
    const char *queue)
{
    NEW(request, DescribeTaskQueuePartitionRequest, describe_task_queue_partition_request);
    asked *a = admin(queue, TN_TASK_WORKFLOW, &request.base);
    assert_null(a->req.fault);
    const Temporal__Server__Api__Adminservice__V1__DescribeTaskQueuePartitionResponse *out =
        (const void *)a->req.response;
    assert_int_equal(out->n_versions_info_internal, 1);
    assert_string_equal(out->versions_info_internal[0]->key, "");
    return out->versions_info_internal[0]->value->physical_task_queue_info;
}

static void a_partition_is_described_and_not_made(void **state)
{
    (void)state;
    assert_true(describe("q")->internal_task_queue_status[0]->backlog_drained);
    assert_null(tn_tq_find(tn_mloop_current(), &ns, TN_STR("q"), TN_TASK_WORKFLOW));
    add_task("q", 1);
    add_task("q", 2);
    assert_int_equal(describe("q")->internal_task_queue_status[0]->approximate_backlog_count, 2);
    assert_int_equal(describe("q")->task_queue_stats->approximate_backlog_count, 2);
    asked *parked = poll("idle");
    assert_int_equal(describe("idle")->n_pollers, 1);
    cancel(parked);
    work_off("q", 2);
}

static bool unload(const char *queue)
{
    NEW(request, ForceUnloadTaskQueuePartitionRequest, force_unload_task_queue_partition_request);
    asked *a = admin(queue, TN_TASK_WORKFLOW, &request.base);
    assert_null(a->req.fault);
    return ((const Temporal__Server__Api__Adminservice__V1__ForceUnloadTaskQueuePartitionResponse *)
                a->req.response)
        ->was_loaded;
}

static void unloading_ends_polls_and_keeps_tasks(void **state)
{
    (void)state;
    assert_false(unload("q"));
    asked *parked = poll("q");
    assert_int_equal(parked->answers, 0);
    assert_true(unload("q"));
    assert_int_equal(parked->answers, 1);
    assert_null(parked->req.fault);
    assert_null(parked->req.response);
    assert_false(unload("q")); /* nothing held it */
    add_task("q", 1);
    unsigned reads = stored.reads;
    assert_true(unload("q"));
    assert_int_equal(stored.reads, reads + 1); /* its settings */
    assert_int_equal(tasks("q", 0, 0, 0, no_token)->n_tasks, 1);
    work_off("q", 1);
}

static void nothing_else_is_answered(void **state)
{
    (void)state;
    NEW(request, GetNamespaceRequest, get_namespace_request);
    assert_int_equal(admin("q", TN_TASK_WORKFLOW, &request.base)->req.fault->code,
                     TN_GRPC_UNIMPLEMENTED);
    assert_int_equal(admin("q", TN_TASK_WORKFLOW, NULL)->req.fault->code, TN_GRPC_UNIMPLEMENTED);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(tasks_are_listed_in_pages),
        CASE(a_partition_is_described_and_not_made),
        CASE(unloading_ends_polls_and_keeps_tasks),
        CASE(nothing_else_is_answered),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
