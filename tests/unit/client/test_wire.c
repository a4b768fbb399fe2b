/* SPDX-License-Identifier: MIT */
/* Every operation's baton, packed for another host and opened again: what it said is there, nothing else is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/token.h"
#include "client/wire.h"
#include "proto/proto.h"
#include "temporal/api/query/v1/message.pb-c.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

static const tn_namespace ns = {.name = {"shop", 4},
                                .id = {"11111111-2222-3333-4444-555555555555", 36}};
static const tn_parent_ref parent = {.ns_id = {"pn", 2},
                                     .ns_name = {"pname", 5},
                                     .workflow_id = {"pw", 2},
                                     .run_id = {"pr", 2},
                                     .initiated_id = 17,
                                     .root_workflow_id = {"rw", 2},
                                     .root_run_id = {"rr", 2}};

static void same(tn_str a, tn_str b) { assert_true(tn_str_eq(a, b)); }

static void same_parent(const tn_parent_ref *a)
{
    assert_non_null(a);
    same(a->ns_id, parent.ns_id);
    same(a->ns_name, parent.ns_name);
    same(a->workflow_id, parent.workflow_id);
    same(a->run_id, parent.run_id);
    same(a->root_workflow_id, parent.root_workflow_id);
    same(a->root_run_id, parent.root_run_id);
    assert_int_equal(a->initiated_id, 17);
}

static tn_task_ref a_task(void)
{
    tn_task_ref ref = {.shard = 9, .scheduled_id = 5, .attempt = 3, .stamp = UINT64_MAX};
    memset(ref.run_id, 7, 16);
    ref.created_mono_ns = tn_now_mono_ns() - 2 * TN_SEC;
    return ref;
}

static void same_task(const tn_task_ref *ref)
{
    uint64_t age = tn_now_mono_ns() - ref->created_mono_ns;
    assert_int_equal(ref->shard, 9);
    assert_int_equal(ref->scheduled_id, 5);
    assert_int_equal(ref->attempt, 3);
    assert_true(ref->stamp == UINT64_MAX);
    assert_int_equal(ref->run_id[15], 7);
    assert_in_range(age, 2 * TN_SEC, 3 * TN_SEC);
}

static const ProtobufCMessage *a_request(tn_arena *arena)
{
    Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *r =
        tn_arena_alloc(arena, sizeof(*r));
    temporal__api__workflowservice__v1__signal_workflow_execution_request__init(r);
    r->namespace_ = (char *)"shop";
    r->signal_name = (char *)"pay";
    return &r->base;
}

static const tn_mquery *a_query(tn_arena *arena)
{
    Temporal__Api__Query__V1__WorkflowQuery *q = tn_arena_alloc(arena, sizeof(*q));
    tn_mquery *query = TN_NEW(arena, tn_mquery);
    temporal__api__query__v1__workflow_query__init(q);
    q->query_type = (char *)"state";
    query->id = 0xfedcba9876543210u;
    query->query = &q->base;
    return query;
}

/* ---- history ---- */

static bool between(tn_hop op, tn_hop first, tn_hop last) { return op >= first && op <= last; }
static bool external(tn_hop op)
{
    return op == TN_HOP_SIGNAL || op == TN_HOP_REQUEST_CANCEL || op == TN_HOP_TERMINATE;
}

static void fill(tn_hreq *req, tn_hop op)
{
    static Tenon__TaskToken token_message;
    static tn_task_token token = {&token_message};
    tenon__task_token__init(&token_message);
    token_message.workflow_id = (char *)"w";
    token_message.nonce = 99;
    *req = (tn_hreq){.arena = tn_arena_create(0),
                     .op = op,
                     .ns = &ns,
                     .workflow_id = TN_STR("w"),
                     .run_id = TN_STR("r")};
    req->request = a_request(req->arena);
    if (between(op, TN_HOP_WFT_COMPLETED, TN_HOP_ACT_HEARTBEAT))
        req->token = &token;
    if (op == TN_HOP_SWEEP) {
        req->u.task.ref = a_task();
    } else if (between(op, TN_HOP_WFT_POLLED, TN_HOP_QUERY_POLLED)) {
        req->u.task.ref = a_task();
        req->u.task.poll_id = 1u << 31;
        req->u.task.sticky = true;
        req->u.task.queue = TN_STR("q");
        req->u.task.query =
            op == TN_HOP_QUERY_POLLED ? (void *)(uintptr_t)a_query(req->arena) : NULL;
    } else if (between(op, TN_HOP_CHILD_STARTED, TN_HOP_CHILD_CLOSED)) {
        req->u.child.parent = &parent;
        req->u.child.child_run_id = TN_STR("cr");
        req->u.child.child_first_run_id = TN_STR("cf");
        req->u.child.child_workflow_id = TN_STR("cw");
        req->u.child.child_type = TN_STR("ct");
        req->u.child.close_event = tn_blob_from("\1\0\2", 3);
    } else if (op == TN_HOP_START) {
        req->u.start.parent = &parent;
    } else if (external(op)) {
        req->u.external.child_only = true;
        req->u.external.external = &parent;
        req->u.external.reason = TN_STR("because");
    } else if (between(op, TN_HOP_ACT_COMPLETED, TN_HOP_ACT_HEARTBEAT)) {
        req->u.activity.activity_id = TN_STR("a1");
    }
}

static void same_history(const tn_hreq *sent, const tn_hreq *got, tn_hop op)
{
    assert_int_equal(got->op, op);
    same(got->workflow_id, sent->workflow_id);
    same(got->run_id, sent->run_id);
    assert_true(tn_proto_equal(sent->request, got->request));
    assert_int_equal(got->token != NULL, sent->token != NULL);
    if (got->token)
        assert_true(tn_proto_equal(&got->token->msg->base, &sent->token->msg->base));
    if (op == TN_HOP_SWEEP) {
        same_task(&got->u.task.ref);
    } else if (between(op, TN_HOP_WFT_POLLED, TN_HOP_QUERY_POLLED)) {
        same_task(&got->u.task.ref);
        assert_true(got->u.task.sticky && got->u.task.poll_id == 1u << 31);
        same(got->u.task.queue, sent->u.task.queue);
        const tn_mquery *query = got->u.task.query;
        assert_int_equal(query != NULL, op == TN_HOP_QUERY_POLLED);
        if (query) {
            assert_true(query->id == 0xfedcba9876543210u);
            assert_true(
                tn_proto_equal(query->query, ((const tn_mquery *)sent->u.task.query)->query));
        }
    } else if (between(op, TN_HOP_CHILD_STARTED, TN_HOP_CHILD_CLOSED)) {
        same_parent(got->u.child.parent);
        same(got->u.child.child_run_id, sent->u.child.child_run_id);
        same(got->u.child.child_first_run_id, sent->u.child.child_first_run_id);
        same(got->u.child.child_workflow_id, sent->u.child.child_workflow_id);
        same(got->u.child.child_type, sent->u.child.child_type);
        assert_int_equal(got->u.child.close_event.n, 3);
        assert_memory_equal(got->u.child.close_event.p, "\1\0\2", 3);
    } else if (op == TN_HOP_START) {
        same_parent(got->u.start.parent);
    } else if (external(op)) {
        assert_true(got->u.external.child_only);
        same_parent(got->u.external.external);
        same(got->u.external.reason, sent->u.external.reason);
    } else if (between(op, TN_HOP_ACT_COMPLETED, TN_HOP_ACT_HEARTBEAT)) {
        same(got->u.activity.activity_id, sent->u.activity.activity_id);
    }
}

static Tenon__HistoryCall *packed_history(tn_hreq *req)
{
    Tenon__HistoryCall *call = NULL;
    tn_blob packed = tn_wire_pack_history(req);
    assert_non_null(packed.p);
    assert_int_equal(tn_proto_unpack(&tenon__history_call__descriptor, packed, req->arena,
                                     (ProtobufCMessage **)(void *)&call, NULL),
                     TN_OK);
    same(tn_str_from(call->ns_id), ns.id);
    return call;
}

static void history_batons(void **state)
{
    (void)state;
    for (int op = TN_HOP_START; op <= TN_HOP_DELETE_RUN; op++) {
        tn_hreq sent, got = {0};
        fill(&sent, (tn_hop)op);
        got.arena = tn_arena_create(0);
        assert_true(tn_wire_open_history(packed_history(&sent), &got));
        same_history(&sent, &got, (tn_hop)op);
        tn_arena_destroy(got.arena);
        tn_arena_destroy(sent.arena);
    }
}

static void what_is_not_there_stays_away(void **state)
{
    (void)state;
    tn_hreq got = {0}, sent = {.arena = tn_arena_create(0),
                               .op = TN_HOP_START,
                               .ns = &ns,
                               .workflow_id = TN_STR("w")};
    got.arena = sent.arena;
    assert_true(tn_wire_open_history(packed_history(&sent), &got));
    assert_null(got.request);
    assert_null(got.token);
    assert_null(got.u.start.parent);
    assert_int_equal(got.run_id.n, 0);
    tn_arena_destroy(sent.arena);
}

/* A release that knows more operations or types than this one. */
/* Who is behind a call travels; an earlier release does not say, a later one may know more. */
static void callers(void **state)
{
    static const struct {
        uint32_t told;
        tn_caller_type got;
    } cases[] = {{0, TN_CALLER_UNKNOWN},
                 {TN_CALLER_OPERATOR, TN_CALLER_OPERATOR},
                 {TN_CALLER_API, TN_CALLER_API},
                 {TN_CALLER_PREEMPTABLE, TN_CALLER_PREEMPTABLE},
                 {99, TN_CALLER_PREEMPTABLE}};
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(cases); i++) {
        tn_arena *arena = tn_arena_create(0);
        Tenon__HistoryCall history = TENON__HISTORY_CALL__INIT;
        Tenon__MatchingCall matching = TENON__MATCHING_CALL__INIT;
        tn_hreq h = {.arena = arena};
        tn_mreq m = {.arena = arena};
        history.op = TN_HOP_DESCRIBE;
        history.caller_type = cases[i].told;
        matching.op = TN_MOP_DESCRIBE;
        matching.caller_type = cases[i].told;
        assert_true(tn_wire_open_history(&history, &h));
        assert_true(tn_wire_open_matching(&matching, &m));
        assert_int_equal(h.caller, cases[i].got);
        assert_int_equal(m.caller, cases[i].got);
        tn_arena_destroy(arena);
    }
}

static void strange_history(void **state)
{
    (void)state;
    tn_hreq sent, got = {0};
    fill(&sent, TN_HOP_WFT_POLLED);
    got.arena = sent.arena;
    Tenon__HistoryCall *call = packed_history(&sent);
    call->op = TN_HOP_LAST + 1;
    assert_false(tn_wire_open_history(call, &got));
    call->op = 0;
    assert_false(tn_wire_open_history(call, &got));
    call->op = TN_HOP_SIGNAL;
    call->request_type = (char *)"temporal.api.NotYet";
    assert_false(tn_wire_open_history(call, &got));
    call->request_type = (char *)"";
    call->op = TN_HOP_WFT_POLLED;
    call->task->run_id.len = 15;
    assert_false(tn_wire_open_history(call, &got));
    call->task = NULL;
    assert_false(tn_wire_open_history(call, &got));
    call->op = TN_HOP_CHILD_CLOSED;
    assert_false(tn_wire_open_history(call, &got));
    tn_arena_destroy(sent.arena);
}

static void history_answers(void **state)
{
    (void)state;
    tn_hreq req = {.arena = tn_arena_create(0)};
    Tenon__HistoryAnswer answer = TENON__HISTORY_ANSWER__INIT;
    tn_blob packed;
    const ProtobufCMessage *message = a_request(req.arena);
    tn_blob wire, passed;
    assert_int_equal(tn_proto_pack(&answer.base, req.arena, &wire), TN_OK);
    assert_int_equal(tn_wire_close_history(wire, &req), TN_OK);
    assert_null(req.response);
    assert_int_equal(tn_proto_pack(message, req.arena, &packed), TN_OK);
    answer.response_type = (char *)(uintptr_t)message->descriptor->name;
    answer.response = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    answer.not_owner = true;
    assert_int_equal(tn_proto_pack(&answer.base, req.arena, &wire), TN_OK);
    assert_int_equal(tn_wire_close_history(wire, &req), TN_OK);
    assert_true(tn_proto_equal(req.response, message) && req.not_owner);
    assert_false(tn_proto_is_opaque(req.response, &passed));
    req.pass_on = true; /* not opened, and the same on its next way */
    assert_int_equal(tn_wire_close_history(wire, &req), TN_OK);
    assert_true(tn_proto_is_opaque(req.response, &passed) && tn_blob_eq(passed, packed));
    assert_true(tn_proto_equal(req.response, message) &&
                req.response->descriptor == message->descriptor);
    req.pass_on = false;
    answer.response.len--;
    assert_int_equal(tn_proto_pack(&answer.base, req.arena, &wire), TN_OK);
    assert_int_not_equal(tn_wire_close_history(wire, &req), TN_OK);
    wire.n--;
    assert_int_not_equal(tn_wire_close_history(wire, &req), TN_OK);
    tn_arena_destroy(req.arena);
}

/* ---- matching ---- */

static Tenon__MatchingCall *packed_matching(tn_mreq *req)
{
    Tenon__MatchingCall *call = NULL;
    tn_blob packed = tn_wire_pack_matching(req);
    assert_non_null(packed.p);
    assert_int_equal(tn_proto_unpack(&tenon__matching_call__descriptor, packed, req->arena,
                                     (ProtobufCMessage **)(void *)&call, NULL),
                     TN_OK);
    return call;
}

static const tn_task_priority a_priority = {
    .key = 2, .fairness_weight = 0.5f, .fairness_key = {"tenant", 6}};

static void matching_batons(void **state)
{
    (void)state;
    for (int op = TN_MOP_ADD; op <= (int)TN_MOP_LAST; op++) {
        if (op == TN_MOP_CANCEL_POLL)
            continue; /* the call's own end says it */
        tn_mreq got = {0}, req = {.arena = tn_arena_create(0),
                                  .op = (tn_mop)op,
                                  .ns = &ns,
                                  .queue = TN_STR("q"),
                                  .type = TN_TASK_ACTIVITY,
                                  .sticky = true,
                                  .normal_queue = TN_STR("n"),
                                  .workflow_id = TN_STR("w"),
                                  .run_id = TN_STR("r"),
                                  .forwarded = true};
        req.request = a_request(req.arena);
        if (op == TN_MOP_ADD) {
            req.task = a_task();
            req.expire_mono_ns = tn_now_mono_ns() + 5 * TN_SEC;
            req.priority = &a_priority;
            req.paid = true;
        } else if (op == TN_MOP_QUERY || op == TN_MOP_QUERY_DONE) {
            req.query = *a_query(req.arena);
        }
        got.arena = req.arena;
        assert_true(tn_wire_open_matching(packed_matching(&req), &got));
        assert_int_equal(got.op, op);
        assert_int_equal(got.type, TN_TASK_ACTIVITY);
        assert_true(got.sticky && got.forwarded && got.placed);
        same(got.queue, req.queue);
        same(got.normal_queue, req.normal_queue);
        same(got.workflow_id, req.workflow_id);
        same(got.run_id, req.run_id);
        assert_true(tn_proto_equal(got.request, req.request));
        if (op == TN_MOP_ADD) {
            same_task(&got.task);
            assert_true(got.paid && got.priority && got.priority->key == 2 &&
                        got.priority->fairness_weight == 0.5f);
            same(got.priority->fairness_key, TN_STR("tenant"));
            assert_in_range(got.expire_mono_ns, tn_now_mono_ns() + 4 * TN_SEC,
                            tn_now_mono_ns() + 5 * TN_SEC + TN_MS);
        } else if (op == TN_MOP_QUERY || op == TN_MOP_QUERY_DONE) {
            assert_true(got.query.id == req.query.id);
            assert_int_equal(got.query.query != NULL, op == TN_MOP_QUERY);
        }
        tn_arena_destroy(req.arena);
    }
}

static const tn_poll_ref a_poll = {
    .host_id = {1, 2, 3}, .loop = 4, .poll_id = UINT64_MAX, .turn = 6};

static void same_poll(const tn_poll_ref *poll)
{
    assert_memory_equal(poll, &a_poll, sizeof(a_poll));
}

/* Who may answer a poll, who can, and which one it is. */
static void polls_that_history_answers(void **state)
{
    (void)state;
    tn_mreq got = {0},
            req = {.arena = tn_arena_create(0), .op = TN_MOP_POLL, .ns = &ns, .answer_to = &a_poll};
    got.arena = req.arena;
    Tenon__MatchingCall *call = packed_matching(&req);
    assert_true(tn_wire_open_matching(call, &got));
    same_poll(got.answer_to);
    call->answer_to->host_id.len = 15;
    assert_false(tn_wire_open_matching(call, &got));
    req.answer_to = NULL;
    got.answer_to = NULL;
    assert_true(tn_wire_open_matching(packed_matching(&req), &got));
    assert_null(got.answer_to);
    for (int takes = 0; takes < 2; takes++) {
        req = (tn_mreq){.arena = got.arena,
                        .op = TN_MOP_ADD,
                        .ns = &ns,
                        .expire_mono_ns = UINT64_MAX,
                        .takes_match = takes};
        got = (tn_mreq){.arena = got.arena};
        req.task = a_task();
        assert_true(tn_wire_open_matching(packed_matching(&req), &got));
        assert_int_equal(got.takes_match, takes);
        assert_null(got.match);
    }
    tn_arena_destroy(req.arena);
}

static tn_blob packed_answer(tn_mreq *added, const Tenon__MatchingAnswer *change)
{
    Tenon__MatchingAnswer answer = *change;
    tn_blob wire;
    assert_true(tn_wire_put_match(added->arena, added, &answer));
    assert_int_equal(tn_proto_pack(&answer.base, added->arena, &wire), TN_OK);
    return wire;
}

static void matches(void **state)
{
    (void)state;
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest poll =
        TEMPORAL__API__WORKFLOWSERVICE__V1__POLL_ACTIVITY_TASK_QUEUE_REQUEST__INIT;
    poll.identity = (char *)"me";
    tn_poll_match match = {.to = a_poll, .request = &poll.base, .advice = -1, .backlog = INT64_MAX};
    tn_mreq added = {
        .arena = tn_arena_create(0), .op = TN_MOP_ADD, .type = TN_TASK_ACTIVITY, .match = &match};
    tn_mreq got = {.arena = added.arena, .op = TN_MOP_ADD, .type = TN_TASK_ACTIVITY};
    Tenon__MatchingAnswer answer = TENON__MATCHING_ANSWER__INIT;
    answer.accepted = true;
    tn_blob wire = packed_answer(&added, &answer);
    assert_int_equal(tn_wire_close_matching(wire, &got), TN_OK);
    assert_true(got.accepted && got.match);
    same_poll(&got.match->to);
    assert_int_equal(got.match->advice, -1);
    assert_true(got.match->backlog == INT64_MAX && tn_proto_equal(got.match->request, &poll.base));
    got.type = TN_TASK_WORKFLOW; /* not what was asked for */
    assert_int_not_equal(tn_wire_close_matching(wire, &got), TN_OK);
    got.type = TN_TASK_ACTIVITY;
    match.request = (ProtobufCMessage *)(uintptr_t)a_request(added.arena); /* no poll at all */
    assert_int_not_equal(tn_wire_close_matching(packed_answer(&added, &answer), &got), TN_OK);
    added.match = NULL;
    got.match = NULL;
    assert_int_equal(tn_wire_close_matching(packed_answer(&added, &answer), &got), TN_OK);
    assert_null(got.match);
    tn_arena_destroy(added.arena);
}

static void tasks_without_end(void **state)
{
    (void)state;
    tn_mreq got = {0}, req = {.arena = tn_arena_create(0),
                              .op = TN_MOP_ADD,
                              .ns = &ns,
                              .expire_mono_ns = UINT64_MAX};
    req.task = a_task();
    got.arena = req.arena;
    assert_true(tn_wire_open_matching(packed_matching(&req), &got));
    assert_true(got.expire_mono_ns == UINT64_MAX);
    assert_null(got.priority);
    req.expire_mono_ns = 1; /* over already, and must not become endless */
    assert_true(tn_wire_open_matching(packed_matching(&req), &got));
    assert_true(got.expire_mono_ns <= tn_now_mono_ns());
    Tenon__MatchingCall *call = packed_matching(&req);
    call->op = TN_MOP_LAST + 1;
    assert_false(tn_wire_open_matching(call, &got));
    call->op = TN_MOP_ADD;
    call->task = NULL;
    assert_false(tn_wire_open_matching(call, &got));
    tn_arena_destroy(req.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_batons),    cmocka_unit_test(what_is_not_there_stays_away),
        cmocka_unit_test(callers),           cmocka_unit_test(strange_history),
        cmocka_unit_test(history_answers),   cmocka_unit_test(matching_batons),
        cmocka_unit_test(tasks_without_end), cmocka_unit_test(polls_that_history_answers),
        cmocka_unit_test(matches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
