/* SPDX-License-Identifier: MIT */
/* What stands around matching in its tests: played loops, a played history, a store of one row, and asking.  Included by
 * one source a program. */
#ifndef TN_TESTS_UNIT_MATCHING_HARNESS_H
#define TN_TESTS_UNIT_MATCHING_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/partition.h"
#include "client/remote.h"
#include "config/dynconfig.h"
#include "matching/matching.h"
#include "matching/priv.h"
#include "../deployed.h"
#include "../played.h"
#include "store/store.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

/* Not every test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

#define SHARDS 4u

static const tn_namespace ns = {.name = {"test", 4},
                                .id = {"11111111-1111-4111-8111-111111111111", 36}};

/* ---- what stands around matching ---- */

static int64_t partitions = 1;

int64_t tn_dyn_task_i64(tn_dyn_key key, tn_str ns_name, tn_str task_queue, int32_t task_type)
{
    (void)ns_name, (void)task_queue, (void)task_type;
    switch (key) {
    case TN_DYN_MATCHING_READ_PARTITIONS:
    case TN_DYN_MATCHING_WRITE_PARTITIONS:
        return partitions;
    case TN_DYN_MATCHING_FORWARD_POLLS:
        return 1;
    case TN_DYN_MATCHING_FORWARD_TASKS:
        return 4;
    case TN_DYN_MATCHING_FORWARD_RATE:
        return 100;
    case TN_DYN_MATCHING_FORWARD_CHILDREN:
        return 2;
    case TN_DYN_MATCHING_LONG_POLL:
        return (int64_t)(60 * TN_SEC);
    case TN_DYN_MATCHING_SCALING_BACKLOG_AGE:
        return (int64_t)(200 * TN_MS);
    case TN_DYN_MATCHING_SCALING_WAIT:
        return (int64_t)TN_SEC;
    case TN_DYN_MATCHING_WEIGHTS_MAX:
        return 4;
    case TN_DYN_MATCHING_STICKY_TTL:
        return (int64_t)(10 * TN_SEC);
    case TN_DYN_MATCHING_QUERY_POLLER_WINDOW:
        return (int64_t)(20 * TN_SEC);
    default:
        return (int64_t)(300 * TN_SEC);
    }
}

int64_t tn_dyn_i64(tn_dyn_key key, tn_str ns_name, tn_str task_queue)
{
    (void)ns_name, (void)task_queue;
    return key == TN_DYN_MATCHING_WORKERS_MAX ? 6 : (int64_t)(300 * TN_SEC);
}

double tn_dyn_f64(tn_dyn_key key, tn_str ns_name, tn_str task_queue)
{
    (void)ns_name, (void)task_queue;
    return key == TN_DYN_MATCHING_SCALING_RATE ? 10 : 1.2;
}

/* ---- a store of one row ---- */

static struct {
    uint8_t value[4096];
    size_t n;
    uint64_t version; /* 0: there is no row */
    bool fails, races;
    unsigned reads;
} stored;

typedef struct store_answer {
    tn_msg msg;
    tn_store_op *op;
} store_answer;

static void store_answered(tn_msg *msg)
{
    tn_store_op *op = TN_CONTAINER_OF(msg, store_answer, msg)->op;
    free(TN_CONTAINER_OF(msg, store_answer, msg));
    op->done(op);
}

static void store_answers(tn_store_op *op)
{
    store_answer *a = calloc(1, sizeof(*a));
    a->op = op;
    a->msg.run = store_answered;
    tn_loop_defer(&a->msg);
}

void tn_store_get(tn_store_op *op)
{
    stored.reads++;
    op->status = stored.fails ? TN_EUNAVAILABLE : stored.version ? TN_OK : TN_ENOTFOUND;
    op->u.get.row =
        (tn_row){.value = tn_arena_blob(op->arena, tn_blob_from(stored.value, stored.n)),
                 .version = stored.version};
    store_answers(op);
}

void tn_store_commit(tn_store_op *op)
{
    const tn_batch *batch = &op->u.commit.batch;
    assert_int_equal(batch->n_conds, 1);
    assert_int_equal(batch->n_muts, 1);
    if (stored.races) { /* somebody else was first */
        stored.races = false;
        stored.version++;
    }
    bool fits = batch->conds[0].test == TN_COND_ABSENT ? !stored.version
                                                       : batch->conds[0].version == stored.version;
    op->status = fits ? TN_OK : TN_ECONFLICT;
    if (fits) {
        assert_true(batch->muts[0].value.n <= sizeof(stored.value));
        memcpy(stored.value, batch->muts[0].value.p, batch->muts[0].value.n);
        stored.n = batch->muts[0].value.n;
        stored.version++;
    }
    store_answers(op);
}

bool tn_call_cancelled(const tn_call *call) { return call->user != NULL; }
void tn_call_reply(tn_call *call, const ProtobufCMessage *response) { (void)call, (void)response; }
void tn_call_fail(tn_call *call, const tn_fault *fault) { (void)call, (void)fault; }

static struct {
    tn_hreq *held[8]; /* asked and not answered while `hold` */
    size_t n_held, n_asked;
    bool hold, stale;
    int64_t last_task;
    unsigned credits;
    uint32_t credit_shard;
} history;

static Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse polled =
    TEMPORAL__API__WORKFLOWSERVICE__V1__POLL_WORKFLOW_TASK_QUEUE_RESPONSE__INIT;

static Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse polled_activity =
    TEMPORAL__API__WORKFLOWSERVICE__V1__POLL_ACTIVITY_TASK_QUEUE_RESPONSE__INIT;

static void answer(tn_hreq *req)
{
    if (history.stale)
        req->fault = tn_fault_make(req->arena, TN_GRPC_NOT_FOUND, "stale");
    else {
        temporal__api__workflowservice__v1__poll_workflow_task_queue_response__init(&polled);
        temporal__api__workflowservice__v1__poll_activity_task_queue_response__init(
            &polled_activity);
        req->response = req->op == TN_HOP_ACT_POLLED ? &polled_activity.base : &polled.base;
    }
    tn_client_history_done(req);
}

static void history_submit(tn_hreq *req)
{
    history.n_asked++;
    if (req->op != TN_HOP_QUERY_POLLED)
        history.last_task = req->u.task.ref.scheduled_id;
    if (history.hold)
        history.held[history.n_held++] = req;
    else
        answer(req);
}

static void history_answers(void)
{
    for (size_t i = 0; i < history.n_held; i++)
        answer(history.held[i]);
    history.n_held = 0;
    played_run();
}

static void history_credit(uint32_t shard, tn_str ns_id, tn_str queue, uint32_t type)
{
    (void)ns_id, (void)queue, (void)type;
    history.credits++;
    history.credit_shard = shard;
}

static const tn_history_role history_role = {.submit = history_submit, .credit = history_credit};

/* ---- asking ---- */

typedef struct asked {
    tn_mreq req;
    tn_call call;
    unsigned answers;
} asked;

static tn_arena *arena;
static double rate_asked;

static void asked_done(tn_mreq *req) { ((asked *)req->user)->answers++; }

static asked *ask(tn_mop op, uint32_t type, const char *queue)
{
    asked *a = TN_NEW(arena, asked);
    a->call.arena = arena;
    a->req = (tn_mreq){.arena = arena,
                       .home = tn_loops_get(0),
                       .op = op,
                       .ns = &ns,
                       .queue = tn_str_from(queue),
                       .type = type,
                       .call = &a->call,
                       .deadline_mono_ns = UINT64_MAX,
                       .expire_mono_ns = UINT64_MAX,
                       .workflow_id = TN_STR("w"),
                       .run_id = TN_STR("22222222-2222-4222-8222-222222222222"),
                       .done = asked_done,
                       .user = a};
    return a;
}

static asked *send_off(asked *a)
{
    tn_client_matching(&a->req);
    played_run();
    return a;
}

static asked *add_task_until(const char *queue, uint32_t type, int64_t id, uint64_t expire_ns)
{
    asked *a = ask(TN_MOP_ADD, type, queue);
    a->req.task =
        (tn_task_ref){.shard = 2, .scheduled_id = id, .created_mono_ns = tn_now_mono_ns()};
    a->req.expire_mono_ns = expire_ns;
    return send_off(a);
}

static asked *add_task(const char *queue, int64_t id)
{
    return add_task_until(queue, TN_TASK_WORKFLOW, id, UINT64_MAX);
}

static asked *poll_of(uint32_t type, const char *queue)
{
    asked *a = ask(TN_MOP_POLL, type, queue);
    a->req.poll_id = tn_client_next_poll_id();
    if (type == TN_TASK_WORKFLOW) {
        Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest *r =
            TN_NEW(arena, Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest);
        temporal__api__workflowservice__v1__poll_workflow_task_queue_request__init(r);
        r->identity = (char *)"worker";
        a->req.request = &r->base;
        return a;
    }
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest *r =
        TN_NEW(arena, Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest);
    temporal__api__workflowservice__v1__poll_activity_task_queue_request__init(r);
    r->identity = (char *)"worker";
    if (rate_asked > 0) {
        r->task_queue_metadata = TN_NEW(arena, Temporal__Api__Taskqueue__V1__TaskQueueMetadata);
        temporal__api__taskqueue__v1__task_queue_metadata__init(r->task_queue_metadata);
        r->task_queue_metadata->max_tasks_per_second = TN_NEW(arena, Google__Protobuf__DoubleValue);
        google__protobuf__double_value__init(r->task_queue_metadata->max_tasks_per_second);
        r->task_queue_metadata->max_tasks_per_second->value = rate_asked;
    }
    a->req.request = &r->base;
    return a;
}

static asked *poll(const char *queue) { return send_off(poll_of(TN_TASK_WORKFLOW, queue)); }

static asked *cancel(const asked *p)
{
    asked *a = ask(TN_MOP_CANCEL_POLL, p->req.type, p->req.queue.p);
    a->req.poll_id = p->req.poll_id;
    return send_off(a);
}

static asked *query_on(const char *queue, bool sticky)
{
    static Temporal__Api__Query__V1__WorkflowQuery q =
        TEMPORAL__API__QUERY__V1__WORKFLOW_QUERY__INIT;
    asked *a = ask(TN_MOP_QUERY, TN_TASK_WORKFLOW, queue);
    a->req.sticky = sticky;
    a->req.query =
        (tn_mquery){.workflow_id = TN_STR("w"), .run_id = a->req.run_id, .query = &q.base};
    return send_off(a);
}

static asked *answer_query(const char *queue, uint64_t id, int type)
{
    Temporal__Api__Workflowservice__V1__RespondQueryTaskCompletedRequest *r =
        TN_NEW(arena, Temporal__Api__Workflowservice__V1__RespondQueryTaskCompletedRequest);
    temporal__api__workflowservice__v1__respond_query_task_completed_request__init(r);
    r->completed_type = type;
    r->error_message = (char *)"no such query";
    asked *a = ask(TN_MOP_QUERY_DONE, TN_TASK_WORKFLOW, queue);
    a->req.query.id = id;
    a->req.request = &r->base;
    return send_off(a);
}

static int start(void **state)
{
    (void)state;
    played_start();
    tn_client_wire(&history_role, tn_matching_role_table(), NULL, SHARDS);
    tn_matching_start("host");
    return 0;
}

static int setup(void **state)
{
    (void)state;
    history = (typeof(history)){0};
    stored = (typeof(stored)){0};
    rate_asked = 0;
    arena = tn_arena_create(0);
    return 0;
}

/* A case leaves neither polls nor tasks, so that an hour later nothing of it is left at all. */
static int teardown(void **state)
{
    (void)state;
    played_pass(3600 * TN_SEC);
    assert_int_equal(played_ns_refs, 0);
    tn_arena_destroy(arena);
    return 0;
}

#endif
