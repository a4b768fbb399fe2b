/* SPDX-License-Identifier: MIT */
/* What a request must fulfil, row by row, with the texts that clients know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "frontend/priv.h"

typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request;
typedef Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest sws_request;

static char long_id[1002];
static Temporal__Api__Common__V1__WorkflowType type, long_type, no_type;
static Temporal__Api__Taskqueue__V1__TaskQueue queue, reserved, nameless;
static Temporal__Api__Common__V1__Payloads large;
static Temporal__Api__Common__V1__Payload large_one, *large_list[] = {&large_one};
static Google__Protobuf__Duration negative, second;
static Temporal__Api__Common__V1__RetryPolicy shrinking;

static int setup(void **state)
{
    static uint8_t bytes[(2u << 20) + 1];
    (void)state;
    memset(long_id, 'x', sizeof(long_id) - 1);
    temporal__api__common__v1__workflow_type__init(&type);
    long_type = no_type = type;
    type.name = (char *)"T";
    long_type.name = long_id;
    temporal__api__taskqueue__v1__task_queue__init(&queue);
    reserved = nameless = queue;
    queue.name = (char *)"q";
    reserved.name = (char *)"/_sys/q/1";
    temporal__api__common__v1__payload__init(&large_one);
    large_one.data = (ProtobufCBinaryData){sizeof(bytes), bytes};
    temporal__api__common__v1__payloads__init(&large);
    large.payloads = large_list;
    large.n_payloads = 1;
    google__protobuf__duration__init(&negative);
    second = negative;
    negative.seconds = -1;
    second.seconds = 1;
    temporal__api__common__v1__retry_policy__init(&shrinking);
    shrinking.backoff_coefficient = 0.5;
    return 0;
}

static start_request good(void)
{
    start_request r = TEMPORAL__API__WORKFLOWSERVICE__V1__START_WORKFLOW_EXECUTION_REQUEST__INIT;
    r.workflow_id = (char *)"w";
    r.workflow_type = &type;
    r.task_queue = &queue;
    return r;
}

static sws_request good_signal(void)
{
    sws_request r =
        TEMPORAL__API__WORKFLOWSERVICE__V1__SIGNAL_WITH_START_WORKFLOW_EXECUTION_REQUEST__INIT;
    r.workflow_id = (char *)"w";
    r.workflow_type = &type;
    r.task_queue = &queue;
    r.signal_name = (char *)"s";
    return r;
}

static tn_namespace ns = {.name = {"n", 1}, .id = {"32049b68-7872-4094-8e63-d0dd59896a83", 36}};

typedef struct kit {
    tn_call call;
    tn_fcall f;
} kit;

static void open_kit(kit *k)
{
    *k = (kit){0};
    k->call.arena = tn_arena_create(0);
    k->f.call = &k->call;
    k->f.ns = &ns;
}

static void expect(const tn_fault *fault, const char *text)
{
    if (!text && fault)
        fail_msg("refused: %.*s", TN_STR_ARG(fault->message));
    if (!text)
        return;
    if (!fault)
        fail_msg("not refused: %s", text);
    if (!tn_str_is(fault->message, text))
        fail_msg("\"%.*s\" is not \"%s\"", TN_STR_ARG(fault->message), text);
    assert_int_equal(fault->code, TN_GRPC_INVALID_ARGUMENT);
}

#define START(text, ...) \
    do { \
        kit k; \
        start_request r = good(); \
        open_kit(&k); \
        __VA_ARGS__; \
        expect(tn_front_check_start(&k.f, &r), text); \
        tn_arena_destroy(k.call.arena); \
    } while (0)
#define SIGNAL(text, ...) \
    do { \
        kit k; \
        sws_request r = good_signal(); \
        open_kit(&k); \
        __VA_ARGS__; \
        expect(tn_front_check_signal_with_start(&k.f, &r), text); \
        tn_arena_destroy(k.call.arena); \
    } while (0)

static void starts(void **state)
{
    (void)state;
    START(NULL, (void)r);
    START("WorkflowId is not set on request.", r.workflow_id = (char *)"");
    START("WorkflowId exceeds maximum allowed length (1001/1000)", r.workflow_id = long_id);
    START("WorkflowType is not set on request.", r.workflow_type = NULL);
    START("WorkflowType is not set on request.", r.workflow_type = &no_type);
    START("WorkflowType length exceeds limit.", r.workflow_type = &long_type);
    START("taskQueue is not set", r.task_queue = NULL);
    START("missing task queue name", r.task_queue = &nameless);
    START("task queue name cannot start with reserved prefix /_sys/", r.task_queue = &reserved);
    START("RequestId length exceeds limit.", r.request_id = long_id);
    START("Identity length exceeds limit.", r.identity = long_id);
    START("invalid CronSchedule.", r.cron_schedule = (char *)"* * *");
    START("CronSchedule and WorkflowStartDelay may not be used together.",
          r.cron_schedule = (char *)"* * * * *", r.workflow_start_delay = &second);
    START("An invalid WorkflowStartDelaySeconds is set on request. cause: negative duration",
          r.workflow_start_delay = &negative);
    START("An invalid WorkflowExecutionTimeoutSeconds is set on request. cause: negative duration",
          r.workflow_execution_timeout = &negative);
    START("An invalid WorkflowRunTimeoutSeconds is set on request. cause: negative duration",
          r.workflow_run_timeout = &negative);
    START("An invalid WorkflowTaskTimeoutSeconds is set on request. cause: negative duration",
          r.workflow_task_timeout = &negative);
    START("BackoffCoefficient cannot be less than 1 on retry policy.", r.retry_policy = &shrinking);
    START("Blob data size exceeds limit.", r.input = &large);
}

static void policies(void **state)
{
    (void)state;
    START(NULL, r.workflow_id_reuse_policy = 4);
    START("Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot be "
          "used together with a "
          "WorkflowIDConflictPolicy",
          r.workflow_id_reuse_policy = 4, r.workflow_id_conflict_policy = 1);
    START("Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE cannot be used "
          "together with "
          "WorkflowIdConflictPolicy WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING",
          r.workflow_id_reuse_policy = 3, r.workflow_id_conflict_policy = 3);
    SIGNAL("Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported "
           "for this operation.",
           r.workflow_id_conflict_policy = 1);
}

static void signals_with_start(void **state)
{
    (void)state;
    SIGNAL(NULL, (void)r);
    SIGNAL("WorkflowId is not set on request.", r.workflow_id = (char *)"",
           r.signal_name = (char *)"");
    SIGNAL("signal not set", r.signal_name = (char *)"");
    SIGNAL("signal name exceeds maximum allowed length (1001/1000)", r.signal_name = long_id);
    SIGNAL("workflow type not set", r.workflow_type = NULL);
    SIGNAL("workflow type name exceeds maximum allowed length (1001/1000)",
           r.workflow_type = &long_type);
    SIGNAL("Request ID exceeds maximum allowed length (1001/1000)", r.request_id = long_id);
    SIGNAL("Blob data size exceeds limit.", r.signal_input = &large);
}

static void defaults_are_filled_in(void **state)
{
    kit k;
    start_request r = good();
    sws_request s = good_signal();
    (void)state;
    open_kit(&k);
    assert_null(tn_front_check_start(&k.f, &r));
    assert_int_equal(strlen(r.request_id), 36);
    assert_int_equal(r.workflow_id_reuse_policy, 1);
    assert_int_equal(r.workflow_id_conflict_policy, 1);
    assert_int_equal(r.task_queue->kind, 1);
    assert_null(tn_front_check_signal_with_start(&k.f, &s));
    assert_int_equal(s.workflow_id_conflict_policy, 2);
    tn_arena_destroy(k.call.arena);
}

static void executions(void **state)
{
    tn_arena *arena = tn_arena_create(0);
    Temporal__Api__Common__V1__WorkflowExecution e =
        TEMPORAL__API__COMMON__V1__WORKFLOW_EXECUTION__INIT;
    (void)state;
    expect(tn_front_check_execution(arena, NULL), "Execution is not set on request.");
    expect(tn_front_check_execution(arena, &e), "WorkflowId is not set on request.");
    e.workflow_id = (char *)"w";
    expect(tn_front_check_execution(arena, &e), NULL);
    e.run_id = (char *)"not a run";
    expect(tn_front_check_execution(arena, &e), "Invalid RunId.");
    tn_arena_destroy(arena);
}

static void links(void **state)
{
    Temporal__Api__Common__V1__Link link = TEMPORAL__API__COMMON__V1__LINK__INIT, *list[11];
    Temporal__Api__Common__V1__Link__WorkflowEvent event =
        TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__INIT;
    kit k;
    (void)state;
    open_kit(&k);
    for (size_t i = 0; i < TN_COUNT_OF(list); i++)
        list[i] = &link;
    expect(tn_front_check_links(&k.f, 10, list), NULL);
    expect(tn_front_check_links(&k.f, 11, list),
           "cannot attach more than 10 links per request, got 11");
    link.variant_case = TEMPORAL__API__COMMON__V1__LINK__VARIANT_WORKFLOW_EVENT;
    link.workflow_event = &event;
    expect(tn_front_check_links(&k.f, 1, list),
           "workflow event link must not have an empty namespace field");
    event.namespace_ = (char *)"n";
    expect(tn_front_check_links(&k.f, 1, list),
           "workflow event link must not have an empty workflow ID field");
    event.workflow_id = (char *)"w";
    expect(tn_front_check_links(&k.f, 1, list),
           "workflow event link must not have an empty run ID field");
    event.run_id = (char *)"r";
    expect(tn_front_check_links(&k.f, 1, list), NULL);
    tn_arena_destroy(k.call.arena);
}

static void versions_of_workers(void **state)
{
    Temporal__Api__Deployment__V1__WorkerDeploymentOptions options =
        TEMPORAL__API__DEPLOYMENT__V1__WORKER_DEPLOYMENT_OPTIONS__INIT;
    kit k;
    (void)state;
    open_kit(&k);
    expect(tn_front_check_version(&k.f, "build", false, NULL, &queue), NULL);
    assert_int_equal(tn_front_check_version(&k.f, "build", true, NULL, &queue)->code,
                     TN_GRPC_PERMISSION_DENIED);
    expect(tn_front_check_version(&k.f, long_id, false, NULL, &queue),
           "Build ID exceeds configured limit.workerBuildIdSize, use a shorter build ID.");
    options.worker_versioning_mode = 2;
    expect(tn_front_check_version(&k.f, "", false, &options, &queue),
           "Deployment name and build id must be set together.");
    tn_arena_destroy(k.call.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts),
        cmocka_unit_test(policies),
        cmocka_unit_test(executions),
        cmocka_unit_test(signals_with_start),
        cmocka_unit_test(links),
        cmocka_unit_test(defaults_are_filled_in),
        cmocka_unit_test(versions_of_workers),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
