/* SPDX-License-Identifier: MIT */
/* Lookup, the wire by hand, splicing, times, faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "proto/fault.h"
#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "temporal/api/history/v1/message.pb-c.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

static tn_arena *arena;

static int setup(void **state)
{
    (void)state;
    arena = tn_arena_create(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tn_arena_destroy(arena);
    return 0;
}

static void messages_are_found_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < tn_message_count; i++) {
        const tn_message_entry *e = &tn_message_table[i];
        assert_string_equal(e->name, e->descriptor->name);
        assert_ptr_equal(tn_proto_message(tn_str_from(e->name)), e->descriptor);
    }
    assert_null(tn_proto_message(TN_STR("temporal.api.common.v1.Payloa")));
    assert_null(tn_proto_message(TN_STR("temporal.api.common.v1.Payload\0")));
    assert_null(tn_proto_message(TN_STR("zz")));
    assert_null(tn_proto_message((tn_str){NULL, 0}));
}

static void methods_are_found_by_path(void **state)
{
    size_t workflow = 0, operator= 0;
    const tn_method *m;

    (void)state;
    for (size_t i = 0; i < tn_method_count; i++) {
        m = &tn_method_table[i];
        assert_ptr_equal(tn_proto_method(tn_str_from(m->path)), m);
        workflow += strcmp(m->service, "temporal.api.workflowservice.v1.WorkflowService") == 0;
        operator+= strcmp(m->service, "temporal.api.operatorservice.v1.OperatorService") == 0;
    }
    assert_true(workflow >= 122);
    assert_true(operator>= 12);
    m = tn_proto_method(TN_STR("/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo"));
    assert_non_null(m);
    assert_string_equal(m->name, "GetSystemInfo");
    assert_string_equal(m->input->name, "temporal.api.workflowservice.v1.GetSystemInfoRequest");
    assert_string_equal(m->output->name, "temporal.api.workflowservice.v1.GetSystemInfoResponse");
    assert_int_equal(m->flags, 0);
    m = tn_proto_method(TN_STR("/grpc.health.v1.Health/Watch"));
    assert_non_null(m);
    assert_int_equal(m->flags, TN_METHOD_SERVER_STREAM);
    m = tn_proto_method(TN_STR("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"));
    assert_non_null(m);
    assert_int_equal(m->flags, TN_METHOD_SERVER_STREAM | TN_METHOD_CLIENT_STREAM);
    assert_non_null(
        tn_proto_method(TN_STR("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")));
    assert_null(
        tn_proto_method(TN_STR("temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo")));
    assert_null(
        tn_proto_method(TN_STR("/temporal.api.workflowservice.v1.WorkflowService/getSystemInfo")));
}

static void descriptor_set_holds_every_file(void **state)
{
    tn_wire_iter it = tn_wire_begin(tn_proto_api_fds());
    tn_wire_field file, name;
    size_t files = 0;
    bool health = false, reflection = false;

    (void)state;
    while (tn_wire_next(&it, &file)) {
        assert_int_equal(file.number, 1);
        assert_true(tn_wire_find(file.bytes, 1, &name));
        health |= tn_str_is(tn_str_of_blob(name.bytes), "grpc/health/v1/health.proto");
        reflection |=
            tn_str_is(tn_str_of_blob(name.bytes), "grpc/reflection/v1alpha/reflection.proto");
        files++;
    }
    assert_false(it.damaged);
    assert_true(files >= 70);
    assert_true(health && reflection);
}

static void varints_come_back(void **state)
{
    uint8_t b[TN_VARINT_MAX];
    uint64_t back = 0;

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++)
        for (uint64_t v = (UINT64_C(1) << bit) - 1; v <= (UINT64_C(1) << bit); v++) {
            const uint8_t *end = tn_wire_write_varint(b, v);
            assert_int_equal(end - b, tn_wire_varint_size(v));
            assert_ptr_equal(tn_wire_get_varint(b, end, &back), end);
            assert_true(back == v);
            assert_null(tn_wire_get_varint(b, end - 1, &back));
        }
    memset(b, 0xff, 9);
    b[9] = 2; /* a bit past the 64th */
    assert_null(tn_wire_get_varint(b, b + 10, &back));
}

static void fields_are_walked(void **state)
{
    tn_buf buf = {0};
    tn_wire_field f;
    tn_wire_iter it;

    (void)state;
    tn_proto_put_uint(&buf, 1, 300);
    tn_proto_put_uint(&buf, 2, 0); /* left out */
    tn_proto_put_bytes(&buf, 3, tn_blob_of_str(TN_STR("abc")));
    tn_proto_put_tag(&buf, 4, TN_WIRE_FIXED32);
    tn_buf_put(&buf, "\x01\x02\x03\x04", 4);
    tn_proto_put_tag(&buf, 5, TN_WIRE_FIXED64);
    tn_buf_put(&buf, "\x01\x00\x00\x00\x00\x00\x00\x80", 8);

    it = tn_wire_begin(tn_buf_blob(&buf));
    assert_true(tn_wire_next(&it, &f));
    assert_int_equal(f.number, 1);
    assert_int_equal(f.value, 300);
    assert_int_equal(f.raw.n, 3);
    assert_true(tn_wire_next(&it, &f));
    assert_int_equal(f.number, 3);
    assert_true(tn_str_is(tn_str_of_blob(f.bytes), "abc"));
    assert_int_equal(f.raw.n, 5);
    assert_true(tn_wire_next(&it, &f));
    assert_int_equal(f.value, 0x04030201);
    assert_true(tn_wire_next(&it, &f));
    assert_true(f.value == UINT64_C(0x8000000000000001));
    assert_false(tn_wire_next(&it, &f));
    assert_false(it.damaged);

    /* Each shorter prefix either ends between fields or is damaged. */
    for (size_t n = 0; n < buf.n; n++) {
        size_t walked = 0;
        it = tn_wire_begin(tn_blob_from(buf.p, n));
        while (tn_wire_next(&it, &f))
            walked += f.raw.n;
        assert_true(it.damaged == (walked != n));
    }
    assert_false(tn_wire_find(tn_buf_blob(&buf), 9, &f));
    tn_buf_done(&buf);
}

static void packed_events_are_spliced(void **state)
{
    Temporal__Api__History__V1__HistoryEvent event =
        TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__INIT;
    Temporal__Api__History__V1__History history = TEMPORAL__API__HISTORY__V1__HISTORY__INIT, *back;
    Temporal__Api__Workflowservice__V1__GetWorkflowExecutionHistoryResponse
        response =
            TEMPORAL__API__WORKFLOWSERVICE__V1__GET_WORKFLOW_EXECUTION_HISTORY_RESPONSE__INIT,
        *whole;
    tn_blob one, all;
    tn_error err;

    (void)state;
    for (int64_t i = 1; i <= 37; i++) {
        event.event_id = i;
        assert_int_equal(tn_proto_pack(&event.base, arena, &one), TN_OK);
        assert_true(tn_proto_attach(&history.base, arena, 1, one));
    }
    response.history = &history;
    response.next_page_token = (ProtobufCBinaryData){3, (uint8_t *)"abc"};
    assert_int_equal(tn_proto_pack_headroom(&response.base, arena, 5, &all), TN_OK);
    memset((uint8_t *)(uintptr_t)all.p - 5, 0xee, 5);
    assert_int_equal(
        TN_PROTO_UNPACK(temporal__api__workflowservice__v1__get_workflow_execution_history_response,
                        all, arena, &whole, &err),
        TN_OK);
    back = whole->history;
    assert_int_equal(back->n_events, 37);
    for (size_t i = 0; i < 37; i++)
        assert_int_equal(back->events[i]->event_id, i + 1);
    back = (Temporal__Api__History__V1__History *)tn_proto_copy(&history.base, arena);
    assert_non_null(back);
    assert_int_equal(back->n_events, 37);
    assert_int_equal(back->base.n_unknown_fields, 0);
    assert_true(tn_proto_equal(&history.base, &back->base));
    back->events[3]->event_id = 99;
    assert_false(tn_proto_equal(&history.base, &back->base));

    /* By hand: a message is a concatenation of its tagged fields. */
    tn_buf buf = {0}, direct = {0};
    for (size_t i = 0; i < 3; i++) {
        event.event_id = (int64_t)i + 1;
        assert_int_equal(tn_proto_put_message(&buf, 1, &event.base), TN_OK);
    }
    assert_int_equal(
        TN_PROTO_UNPACK(temporal__api__history__v1__history, tn_buf_blob(&buf), arena, &back, &err),
        TN_OK);
    assert_int_equal(back->n_events, 3);
    assert_int_equal(tn_proto_pack_buf(&back->base, &direct), TN_OK);
    assert_true(tn_blob_eq(tn_buf_blob(&buf), tn_buf_blob(&direct)));
    tn_buf_done(&buf);
    tn_buf_done(&direct);
}

static void large_messages_pack(void **state)
{
    Temporal__Api__Common__V1__Payload payload = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT, *back;
    tn_blob out;
    tn_error err;
    size_t n = 3000000;

    (void)state;
    payload.data.data = tn_arena_zalloc(arena, n);
    payload.data.len = n;
    memset(payload.data.data, 'x', n);
    assert_int_equal(tn_proto_pack(&payload.base, arena, &out), TN_OK);
    assert_int_equal(TN_PROTO_UNPACK(temporal__api__common__v1__payload, out, arena, &back, &err),
                     TN_OK);
    assert_int_equal(back->data.len, n);
    assert_memory_equal(back->data.data, payload.data.data, n);
    tn_arena *small = tn_arena_create(100000);
    assert_int_equal(tn_proto_pack(&payload.base, small, &out), TN_ETOOLARGE);
    assert_null(tn_proto_copy(&payload.base, small));
    tn_arena_destroy(small);
}

static void negative_zero_is_a_value(void **state)
{
    const ProtobufCMessageDescriptor *d = tn_proto_message(TN_STR("google.protobuf.DoubleValue"));
    const tn_blob wire = {(const uint8_t *)"\x09\x00\x00\x00\x00\x00\x00\x00\x80", 9};
    ProtobufCMessage *msg;
    tn_blob out;

    (void)state;
    assert_non_null(d);
    assert_int_equal(tn_proto_unpack(d, wire, arena, &msg, NULL), TN_OK);
    assert_int_equal(tn_proto_pack(msg, arena, &out), TN_OK);
    assert_true(tn_blob_eq(out, wire));
}

static void times_convert(void **state)
{
    static const int64_t cases[] = {0,           1,           -1,
                                    999999999,   1000000000,  -999999999,
                                    -1000000000, -1000000001, 1700000000123456789,
                                    INT64_MAX,   INT64_MIN};
    Google__Protobuf__Timestamp ts = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Google__Protobuf__Duration d = GOOGLE__PROTOBUF__DURATION__INIT;
    int64_t ns = 42;

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(cases); i++) {
        tn_pb_timestamp *t = tn_ts_from_ns(arena, cases[i]);
        assert_true(t->nanos >= 0 && t->nanos < 1000000000);
        assert_true(tn_ns_from_ts(t, &ns));
        assert_true(ns == cases[i]);
        assert_true(tn_ns_from_duration(tn_duration_from_ns(arena, cases[i]), &ns));
        assert_true(ns == cases[i]);
    }
    assert_true(tn_ns_from_ts(NULL, &ns) && ns == 0);
    assert_true(tn_ns_from_duration(NULL, &ns) && ns == 0);

    ns = 42;
    ts.nanos = -1;
    assert_false(tn_ns_from_ts(&ts, &ns));
    ts.nanos = 1000000000;
    assert_false(tn_ns_from_ts(&ts, &ns));
    ts.nanos = 0, ts.seconds = INT64_C(253402300800);
    assert_false(tn_ns_from_ts(&ts, &ns));
    ts.seconds = INT64_C(-62135596801);
    assert_false(tn_ns_from_ts(&ts, &ns));
    d.seconds = 1, d.nanos = -1;
    assert_false(tn_ns_from_duration(&d, &ns));
    d.seconds = -1, d.nanos = 1;
    assert_false(tn_ns_from_duration(&d, &ns));
    d.seconds = INT64_C(315576000001), d.nanos = 0;
    assert_false(tn_ns_from_duration(&d, &ns));
    d.seconds = 0, d.nanos = 1000000000;
    assert_false(tn_ns_from_duration(&d, &ns));
    assert_int_equal(ns, 42);
    /* Valid, but past what 64 bits of nanoseconds hold. */
    d.seconds = INT64_C(315576000000), d.nanos = 999999999;
    assert_true(tn_ns_from_duration(&d, &ns) && ns == INT64_MAX);
    d.seconds = -d.seconds, d.nanos = -d.nanos;
    assert_true(tn_ns_from_duration(&d, &ns) && ns == INT64_MIN);
    ts.seconds = INT64_C(253402300799);
    assert_true(tn_ns_from_ts(&ts, &ns) && ns == INT64_MAX);
}

static void faults_carry_their_detail(void **state)
{
    Temporal__Api__Errordetails__V1__WorkflowExecutionAlreadyStartedFailure
        detail = TEMPORAL__API__ERRORDETAILS__V1__WORKFLOW_EXECUTION_ALREADY_STARTED_FAILURE__INIT,
        *detail_back;
    Google__Rpc__Status *status;
    const tn_fault *fault, *copy;
    tn_arena *other = tn_arena_create(0);
    tn_error err;
    tn_blob bytes;

    (void)state;
    detail.run_id = "run";
    fault =
        tn_fault_detailed(arena, TN_GRPC_ALREADY_EXISTS, &detail.base, "already started: %s", "w");
    copy = tn_fault_copy(other, fault);
    tn_arena_reset(arena);
    assert_int_equal(copy->code, TN_GRPC_ALREADY_EXISTS);
    assert_true(tn_str_is(copy->message, "already started: w"));
    bytes = tn_fault_status_details(other, copy);
    assert_int_equal(TN_PROTO_UNPACK(google__rpc__status, bytes, arena, &status, &err), TN_OK);
    assert_int_equal(status->code, 6);
    assert_string_equal(status->message, "already started: w");
    assert_int_equal(status->n_details, 1);
    assert_string_equal(
        status->details[0]->type_url,
        "type.googleapis.com/temporal.api.errordetails.v1.WorkflowExecutionAlreadyStartedFailure");
    assert_int_equal(
        TN_PROTO_UNPACK(temporal__api__errordetails__v1__workflow_execution_already_started_failure,
                        tn_blob_from(status->details[0]->value.data, status->details[0]->value.len),
                        arena, &detail_back, &err),
        TN_OK);
    assert_string_equal(detail_back->run_id, "run");
    tn_arena_destroy(other);
}

static void faults_without_detail(void **state)
{
    const tn_fault *fault = tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "no such thing");
    tn_error err = {TN_EUNAVAILABLE, 0, "disk is full"};

    (void)state;
    assert_int_equal(tn_fault_status_details(arena, fault).n, 0);
    /* ... but what is not found says so with an empty one. */
    fault = tn_fault_make(arena, TN_GRPC_NOT_FOUND, "no such thing");
    assert_true(tn_str_is(fault->detail_type, "temporal.api.errordetails.v1.NotFoundFailure"));
    assert_int_equal(fault->detail.n, 0);
    assert_true(tn_fault_status_details(arena, fault).n > 0);
    fault = tn_fault_from_status(arena, TN_EUNAVAILABLE, &err);
    assert_int_equal(fault->code, TN_GRPC_UNAVAILABLE);
    assert_true(tn_str_is(fault->message, "disk is full"));
    fault = tn_fault_from_status(arena, TN_EUNCERTAIN, NULL);
    assert_int_equal(fault->code, TN_GRPC_UNAVAILABLE);
    assert_true(fault->message.n > 0);
    fault = tn_fault_exhausted(arena, 1, 2, "slow down");
    assert_int_equal(fault->code, TN_GRPC_RESOURCE_EXHAUSTED);
    assert_true(
        tn_str_is(fault->detail_type, "temporal.api.errordetails.v1.ResourceExhaustedFailure"));
    assert_true(tn_blob_eq(fault->detail, tn_blob_from("\x08\x01\x10\x02", 4)));
}

static void long_messages_are_cut_between_characters(void **state)
{
    char text[6001];
    const tn_fault *fault;

    (void)state;
    for (size_t i = 0; i < 6000; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3);
    text[6000] = '\0';
    fault = tn_fault_make(arena, TN_GRPC_INTERNAL, "%s", text);
    assert_int_equal(fault->message.n, 3999);
    assert_true(tn_utf8_valid((const uint8_t *)fault->message.p, fault->message.n));
}

static void a_full_arena_still_gives_a_fault(void **state)
{
    tn_arena *full = tn_arena_create(64);
    const tn_fault *fault;

    (void)state;
    while (tn_arena_alloc(full, 8))
        continue;
    fault = tn_fault_make(full, TN_GRPC_NOT_FOUND, "x");
    assert_int_equal(fault->code, TN_GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(fault->message.n, strlen(fault->message.p));
    assert_ptr_equal(tn_fault_copy(full, fault), fault);
    tn_arena_destroy(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_are_found_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(methods_are_found_by_path, setup, teardown),
        cmocka_unit_test_setup_teardown(descriptor_set_holds_every_file, setup, teardown),
        cmocka_unit_test_setup_teardown(varints_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(fields_are_walked, setup, teardown),
        cmocka_unit_test_setup_teardown(packed_events_are_spliced, setup, teardown),
        cmocka_unit_test_setup_teardown(large_messages_pack, setup, teardown),
        cmocka_unit_test_setup_teardown(negative_zero_is_a_value, setup, teardown),
        cmocka_unit_test_setup_teardown(times_convert, setup, teardown),
        cmocka_unit_test_setup_teardown(faults_carry_their_detail, setup, teardown),
        cmocka_unit_test_setup_teardown(faults_without_detail, setup, teardown),
        cmocka_unit_test_setup_teardown(long_messages_are_cut_between_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_arena_still_gives_a_fault, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
