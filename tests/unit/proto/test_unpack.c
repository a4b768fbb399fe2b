/* SPDX-License-Identifier: MIT */
/* What unpacking refuses and why, what it merges and keeps, and that honest messages fit its budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/proto.h"
#include "temporal/api/command/v1/message.pb-c.h"
#include "temporal/api/common/v1/message.pb-c.h"
#include "temporal/api/failure/v1/message.pb-c.h"
#include "temporal/api/history/v1/message.pb-c.h"
#include "temporal/api/schedule/v1/message.pb-c.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"
#include "tenon/store.pb-c.h"

static tn_arena *arena;
static tn_error err;

static int setup(void **state)
{
    (void)state;
    arena = tn_arena_create(0);
    memset(&err, 0, sizeof(err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tn_arena_destroy(arena);
    return 0;
}

#define BYTES(literal) ((tn_blob){(const uint8_t *)(literal), sizeof(literal) - 1})

static void assert_refused(const ProtobufCMessageDescriptor *d, tn_blob bytes, tn_status status,
                           const char *text)
{
    ProtobufCMessage *untouched = (ProtobufCMessage *)(void *)&err, *out = untouched;

    assert_int_equal(tn_proto_unpack_peer(d, bytes, arena, &out, &err), status);
    assert_ptr_equal(out, untouched);
    assert_int_equal(err.code, status);
    if (!strstr(err.text, text))
        fail_msg("\"%s\" is not in \"%s\"", text, err.text);
}

static void malformed_wire_is_refused(void **state)
{
    const ProtobufCMessageDescriptor *payload = &temporal__api__common__v1__payload__descriptor;

    (void)state;
    assert_refused(payload, BYTES("\x12"), TN_EINVALID, "Payload.data: malformed");
    assert_refused(payload,
                   BYTES("\x12\x05"
                         "ab"),
                   TN_EINVALID, "truncated");
    assert_refused(payload, BYTES("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), TN_EINVALID,
                   "truncated");
    assert_refused(payload, BYTES("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), TN_EINVALID,
                   "malformed");
    assert_refused(payload, BYTES("\x80"), TN_EINVALID, "field tag");
    assert_refused(payload, BYTES("\x02\x00"), TN_EINVALID, "field tag");
    assert_refused(payload, BYTES("\x82\x80\x80\x80\x80\x01\x00"), TN_EINVALID, "field tag");
    assert_refused(payload, BYTES("\x10\x01"), TN_EINVALID,
                   "Payload.data: wire type 0 instead of 2");
    assert_refused(payload, BYTES("\xfb\x07\xfc\x07"), TN_EINVALID, "groups");
    assert_refused(payload, BYTES("\xf8\x07"), TN_EINVALID, "truncated");
    /* A nested message may not reach past its parent. */
    assert_refused(payload, BYTES("\x0a\x03\x0a\x05xxxxx"), TN_EINVALID,
                   "Payload.metadata.key: malformed");
}

static void strings_are_checked(void **state)
{
    const ProtobufCMessageDescriptor *execution =
        &temporal__api__common__v1__workflow_execution__descriptor;

    (void)state;
    assert_refused(execution, BYTES("\x0a\x02\xc3\x28"), TN_EINVALID,
                   "WorkflowExecution.workflow_id: string is not valid UTF-8");
    assert_refused(execution, BYTES("\x0a\x03\xed\xa0\x80"), TN_EINVALID, "UTF-8");
    assert_refused(execution, BYTES("\x0a\x02\xc0\x80"), TN_EINVALID, "UTF-8");
    assert_refused(execution,
                   BYTES("\x12\x03"
                         "a\0b"),
                   TN_EINVALID, "WorkflowExecution.run_id: string holds a NUL");
    /* Bytes may hold anything. */
    Temporal__Api__Common__V1__Payload *p;
    assert_int_equal(TN_PROTO_UNPACK(temporal__api__common__v1__payload,
                                     BYTES("\x12\x03\xff\x00\xc0"), arena, &p, &err),
                     TN_OK);
    assert_int_equal(p->data.len, 3);
}

/* `levels` failures, each the cause of the one before. */
static tn_buf failure_chain(size_t levels)
{
    tn_buf in = {0}, out = {0};

    for (size_t i = 1; i < levels; i++) {
        out.n = 0;
        tn_proto_put_bytes(&out, 4, tn_buf_blob(&in)); /* cause */
        tn_buf swap = in;
        in = out;
        out = swap;
    }
    tn_buf_done(&out);
    return in;
}

static void deep_nesting_is_refused(void **state)
{
    const ProtobufCMessageDescriptor *failure = &temporal__api__failure__v1__failure__descriptor;
    ProtobufCMessage *msg;
    tn_blob packed;
    tn_buf wire;

    (void)state;
    wire = failure_chain(TN_PROTO_PEER_DEPTH_MAX);
    assert_int_equal(tn_proto_unpack_peer(failure, tn_buf_blob(&wire), arena, &msg, &err), TN_OK);
    assert_int_equal(tn_proto_pack(msg, arena, &packed), TN_OK);
    assert_true(tn_blob_eq(packed, tn_buf_blob(&wire)));
    tn_buf_done(&wire);

    wire = failure_chain(TN_PROTO_PEER_DEPTH_MAX + 1);
    assert_refused(failure, tn_buf_blob(&wire), TN_EINVALID, "nested deeper than 90");
    assert_non_null(strstr(err.text, "Failure.cause.cause"));
    tn_buf_done(&wire);

    wire = failure_chain(12000); /* 42 KB that would take the whole stack of a recursive parser */
    assert_refused(failure, tn_buf_blob(&wire), TN_EINVALID, "nested deeper");
    tn_buf_done(&wire);
}

static void own_chains_past_the_packing_depth_are_refused(void **state)
{
    static Temporal__Api__Failure__V1__Failure chain[TN_PROTO_DEPTH_MAX + 1];
    tn_blob packed;

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(chain); i++) {
        temporal__api__failure__v1__failure__init(&chain[i]);
        if (i > 0)
            chain[i - 1].cause = &chain[i];
    }
    assert_int_equal(tn_proto_pack(&chain[0].base, arena, &packed), TN_EINVALID);
    assert_int_equal(tn_proto_pack(&chain[1].base, arena, &packed), TN_OK);
}

static void memory_bombs_are_refused(void **state)
{
    enum { N = 4 << 20 };
    uint8_t *bomb = malloc(N);

    (void)state;
    for (size_t i = 0; i < N; i += 2)
        bomb[i] = 0x0a, bomb[i + 1] = 0; /* History.events: empty, empty, ... */
    assert_refused(&temporal__api__history__v1__history__descriptor, tn_blob_from(bomb, N),
                   TN_ETOOLARGE, "too much memory");
    /* The same of unknown fields. */
    for (size_t i = 0; i < N; i += 2)
        bomb[i] = 0x78, bomb[i + 1] = 1;
    assert_refused(&temporal__api__history__v1__history__descriptor, tn_blob_from(bomb, N),
                   TN_ETOOLARGE, "too much memory");
    assert_true(tn_arena_used_bytes(arena) <= 3u * TN_PROTO_PEER_GROWTH_MAX * N);
    free(bomb);
}

static void the_arenas_own_cap_holds_too(void **state)
{
    tn_arena *small = tn_arena_create(8 << 10);
    ProtobufCMessage *msg = NULL;
    tn_buf wire = {0};

    (void)state;
    tn_buf_put(&wire, "\x12\xa0\x9c\x01", 4);
    for (int i = 0; i < 20000; i++)
        tn_buf_put_u8(&wire, 'x');
    assert_int_equal(tn_proto_unpack(&temporal__api__common__v1__payload__descriptor,
                                     tn_buf_blob(&wire), small, &msg, &err),
                     TN_ETOOLARGE);
    assert_null(msg);
    tn_buf_done(&wire);
    tn_arena_destroy(small);
}

/* The honest message that grows most: a task that cancels or starts very many things by short ids. */
static void honest_messages_fit(void **state)
{
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest req;
    ProtobufCMessage *back;
    Temporal__Api__Command__V1__Command commands[20000], *pointers[20000];
    static Temporal__Api__Command__V1__RequestCancelActivityTaskCommandAttributes cancels[20000];
    tn_blob wire;

    (void)state;
    temporal__api__workflowservice__v1__respond_workflow_task_completed_request__init(&req);
    for (size_t i = 0; i < 20000; i++) {
        temporal__api__command__v1__request_cancel_activity_task_command_attributes__init(
            &cancels[i]);
        cancels[i].scheduled_event_id = 5;
        temporal__api__command__v1__command__init(&commands[i]);
        commands[i].command_type =
            TEMPORAL__API__ENUMS__V1__COMMAND_TYPE__COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK;
        commands[i].attributes_case =
            TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_REQUEST_CANCEL_ACTIVITY_TASK_COMMAND_ATTRIBUTES;
        commands[i].request_cancel_activity_task_command_attributes = &cancels[i];
        pointers[i] = &commands[i];
    }
    req.n_commands = 20000;
    req.commands = pointers;
    assert_int_equal(tn_proto_pack(&req.base, arena, &wire), TN_OK);
    tn_arena *into = tn_arena_create(0);
    if (tn_proto_unpack_peer(req.base.descriptor, wire, into, &back, &err) != TN_OK)
        fail_msg("%s", err.text);
    print_message("%zu bytes of wire, %zu of memory\n", wire.n, tn_arena_used_bytes(into));
#ifndef __SANITIZE_ADDRESS__ /* which puts gaps between the pieces */
    assert_true(tn_arena_used_bytes(into) < wire.n * TN_PROTO_PEER_GROWTH_MAX * 4 / 5);
#endif
    tn_arena_destroy(into);
}

/* Large structs with hardly anything in them: what is stored must come back whatever it takes, and as
 * deep as it could be packed. */
static void what_was_stored_comes_back(void **state)
{
    static Tenon__ActivityExtras activities[5000], *pointers[5000];
    Tenon__Extras extras = TENON__EXTRAS__INIT, *back;
    tn_blob wire;

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(activities); i++) {
        tenon__activity_extras__init(&activities[i]);
        activities[i].scheduled_id = 5;
        pointers[i] = &activities[i];
    }
    extras.n_activities = TN_COUNT_OF(activities);
    extras.activities = pointers;
    assert_int_equal(tn_proto_pack(&extras.base, arena, &wire), TN_OK);
    assert_int_equal(TN_PROTO_UNPACK(tenon__extras, wire, arena, &back, &err), TN_OK);
    assert_int_equal(back->n_activities, TN_COUNT_OF(activities));
    tn_buf deep = failure_chain(TN_PROTO_DEPTH_MAX);
    ProtobufCMessage *failure;
    assert_int_equal(tn_proto_unpack(&temporal__api__failure__v1__failure__descriptor,
                                     tn_buf_blob(&deep), arena, &failure, &err),
                     TN_OK);
    assert_int_equal(tn_proto_pack(failure, arena, &(tn_blob){0}), TN_OK);
    tn_buf_done(&deep);
    deep = failure_chain(12000);
    assert_int_equal(tn_proto_unpack(&temporal__api__failure__v1__failure__descriptor,
                                     tn_buf_blob(&deep), arena, &failure, &err),
                     TN_EINVALID);
    tn_buf_done(&deep);
    tn_arena *small = tn_arena_create(100000);
    assert_int_equal(TN_PROTO_UNPACK(tenon__extras, wire, small, &back, &err), TN_ETOOLARGE);
    tn_arena_destroy(small);
}

static void a_message_sent_in_two_pieces_is_merged(void **state)
{
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionRequest *req;

    (void)state;
    /* execution {workflow_id "w"} execution {run_id "r"}, namespace "a" then "b" */
    assert_int_equal(
        TN_PROTO_UNPACK(temporal__api__workflowservice__v1__describe_workflow_execution_request,
                        BYTES("\x0a\x01"
                              "a\x12\x03\x0a\x01w\x12\x03\x12\x01r\x0a\x01"
                              "b"),
                        arena, &req, &err),
        TN_OK);
    assert_string_equal(req->namespace_, "b");
    assert_string_equal(req->execution->workflow_id, "w");
    assert_string_equal(req->execution->run_id, "r");
}

static void the_last_member_of_a_oneof_wins(void **state)
{
    Temporal__Api__Failure__V1__Failure *failure;

    (void)state;
    /* application_failure_info {type "t"}, canceled_failure_info {}, terminated again empty */
    assert_int_equal(TN_PROTO_UNPACK(temporal__api__failure__v1__failure,
                                     BYTES("\x2a\x03\x0a\x01t\x3a\x00\x42\x00"), arena, &failure,
                                     &err),
                     TN_OK);
    assert_int_equal(failure->failure_info_case,
                     TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TERMINATED_FAILURE_INFO);
    assert_non_null(failure->terminated_failure_info);
}

static void repeated_fields_may_be_interleaved(void **state)
{
    Temporal__Api__Common__V1__Payloads *payloads;
    tn_buf wire = {0};

    (void)state;
    for (int i = 0; i < 1000; i++) {
        tn_buf_put(&wire, "\x0a\x03\x12\x01x", 5);
        if (i % 3 == 0)
            tn_proto_put_uint(&wire, 15, 1);
    }
    assert_int_equal(TN_PROTO_UNPACK(temporal__api__common__v1__payloads, tn_buf_blob(&wire), arena,
                                     &payloads, &err),
                     TN_OK);
    assert_int_equal(payloads->n_payloads, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(payloads->payloads[i]->data.len, 1);
    assert_int_equal(payloads->base.n_unknown_fields, 334);
    tn_buf_done(&wire);
}

static void repeated_numbers_are_read_packed_and_not(void **state)
{
    ProtobufCMessage *msg;
    const ProtobufCMessageDescriptor *d =
        tn_proto_message(TN_STR("google.protobuf.SourceCodeInfo.Location"));
    tn_blob packed;

    (void)state;
    assert_non_null(d);
    assert_int_equal(tn_proto_unpack(d, BYTES("\x0a\x02\x01\x02\x08\x03\x0a\x00\x0a\x02\x80\x01"),
                                     arena, &msg, &err),
                     TN_OK);
    assert_int_equal(tn_proto_pack(msg, arena, &packed), TN_OK);
    assert_true(tn_blob_eq(packed, BYTES("\x0a\x05\x01\x02\x03\x80\x01")));
    assert_refused(d, BYTES("\x0a\x02\x01\x80"), TN_EINVALID, "path: malformed");
}

static void an_empty_message_is_fine(void **state)
{
    Temporal__Api__Common__V1__Payload *payload;
    tn_blob packed;

    (void)state;
    assert_int_equal(TN_PROTO_UNPACK(temporal__api__common__v1__payload, ((tn_blob){NULL, 0}),
                                     arena, &payload, &err),
                     TN_OK);
    assert_int_equal(tn_proto_pack(&payload->base, arena, &packed), TN_OK);
    assert_int_equal(packed.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(malformed_wire_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(strings_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(deep_nesting_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(own_chains_past_the_packing_depth_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(memory_bombs_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_arenas_own_cap_holds_too, setup, teardown),
        cmocka_unit_test_setup_teardown(honest_messages_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_stored_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_message_sent_in_two_pieces_is_merged, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_member_of_a_oneof_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(repeated_fields_may_be_interleaved, setup, teardown),
        cmocka_unit_test_setup_teardown(repeated_numbers_are_read_packed_and_not, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_message_is_fine, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
