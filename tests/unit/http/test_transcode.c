/* SPDX-License-Identifier: MIT */
/* JSON to messages and back: every message type at random, and the forms that the API's JSON has, as facts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../proto/random_message.h"
#include "http/private.h"

#define START "temporal.api.workflowservice.v1.StartWorkflowExecutionRequest"
#define LIST "temporal.api.workflowservice.v1.ListWorkflowExecutionsRequest"

static const ProtobufCMessageDescriptor *message(const char *name)
{
    const ProtobufCMessageDescriptor *d = tn_proto_message(tn_str_from(name));
    assert_non_null(d);
    return d;
}

/* ---- at random ---- */

/* Values that JSON has no form for: strings with NUL never come so far; times and durations outside their range, field
 * masks with capitals, payloads of unknown fields, Any of no known type. */
static bool has_form(const ProtobufCMessageDescriptor *d, unsigned depth)
{
    http_known known = http_known_of(d);

    if (known != HTTP_KNOWN_NONE && known != HTTP_KNOWN_WRAPPER && known < HTTP_KNOWN_PAYLOAD)
        return false;
    for (unsigned i = 0; i < d->n_fields && depth < 12; i++) {
        if (d->fields[i].type == PROTOBUF_C_TYPE_MESSAGE && d->fields[i].descriptor != d &&
            !has_form(d->fields[i].descriptor, depth + 1))
            return false;
    }
    return true;
}

static void every_message_comes_back(void **state)
{
    tn_arena *arena = tn_arena_create(0);
    tn_buf wire = {0}, json = {0}, back = {0}, first = {0}, second = {0};
    unsigned tried = 0;
    tn_rng rng;

    (void)state;
    tn_rng_seed(&rng, 77);
    for (size_t i = 0; i < tn_message_count; i++) {
        const ProtobufCMessageDescriptor *d = tn_message_table[i].descriptor;
        if (!has_form(d, 0) || strncmp(d->name, "temporal.api.", 13) != 0)
            continue;
        for (unsigned k = 0; k < 8; k++) {
            /* A payload without an encoding would be taken for plain JSON: that is the shorthand's nature. */
            http_style style = {.pretty = k & 1};
            http_problem problem = {{0}};
            ProtobufCMessage *msg, *again;
            wire.n = json.n = back.n = 0;
            random_message(&rng, d, 0, &wire);
            assert_int_equal(tn_proto_unpack(d, tn_buf_blob(&wire), arena, &msg, NULL), TN_OK);
            http_encode(msg, style, arena, &json);
            if (!http_decode(d, tn_str_of_blob(tn_buf_blob(&json)), style.shorthand, arena, &back,
                             &problem))
                fail_msg("%s: %s\n%.*s", d->name, problem.text, (int)json.n, (char *)json.p);
            assert_int_equal(tn_proto_unpack(d, tn_buf_blob(&back), arena, &again, NULL), TN_OK);
            /* What JSON says of both is the same: NaNs, unknown fields and the order of maps' keys are not said. */
            first.n = second.n = 0;
            http_encode(msg, style, arena, &first);
            http_encode(again, style, arena, &second);
            if (first.n != second.n || memcmp(first.p, second.p, first.n) != 0)
                fail_msg("%s:\n%.*s\n%.*s", d->name, (int)first.n, (char *)first.p, (int)second.n,
                         (char *)second.p);
            tried++;
        }
        tn_arena_reset(arena);
    }
    print_message("%u messages\n", tried);
    assert_true(tried > 500);
    tn_buf_done(&wire);
    tn_buf_done(&json);
    tn_buf_done(&back);
    tn_buf_done(&first);
    tn_buf_done(&second);
    tn_arena_destroy(arena);
}

/* ---- facts ---- */

/* What `json` is as a message, said again as JSON; an error's text when it is none. */
static const char *again(tn_arena *arena, const char *type, const char *json, http_style in,
                         http_style out)
{
    const ProtobufCMessageDescriptor *d = message(type);
    http_problem problem = {{0}};
    tn_buf wire = {0}, text = {0};
    ProtobufCMessage *msg;
    const char *kept;

    if (!http_decode(d, tn_str_from(json), in.shorthand, arena, &wire, &problem)) {
        tn_buf_done(&wire);
        return tn_arena_strdup(arena, problem.text);
    }
    assert_int_equal(tn_proto_unpack_peer(d, tn_buf_blob(&wire), arena, &msg, NULL), TN_OK);
    http_encode(msg, out, arena, &text);
    kept = tn_arena_str(arena, tn_str_of_blob(tn_buf_blob(&text))).p;
    tn_buf_done(&wire);
    tn_buf_done(&text);
    return kept;
}

static void forms(void **state)
{
    static const struct {
        const char *type, *json, *wanted; /* wanted NULL: the same */
    } facts[] = {
        {START, "{}", NULL},
        {START, " { \"workflow_id\" : \"a\\u00e9\\ud83c\\udf89\" } ",
         "{\"workflowId\":\"a\xc3\xa9\xf0\x9f\x8e\x89\"}"},
        {START, "{\"input\":[1,\"a\",null,{\"x\":[]},1.50,12345678901234567890]}", NULL},
        {START,
         "{\"input\":{\"payloads\":[{\"metadata\":{\"encoding\":\"anNvbi9wbGFpbg==\"},\"data\":"
         "\"MQ==\"}]}}",
         "{\"input\":[1]}"},
        {START, "{\"input\":[{\"metadata\":{\"encoding\":\"YmluYXJ5L3BsYWlu\"},\"data\":\"AP8\"}]}",
         "{\"input\":{\"payloads\":[{\"metadata\":{\"encoding\":\"YmluYXJ5L3BsYWlu\"},\"data\":"
         "\"AP8=\"}]}}"},
        {START, "{\"input\":[{\"_protoMessageType\":\"a.B\",\"c\":1}]}", NULL},
        {START, "{\"memo\":{\"fields\":{\"a\":{\"b\":[true,false]},\"c\":null}}}", NULL},
        {START, "{\"workflowRunTimeout\":\"1.5s\"}", "{\"workflowRunTimeout\":\"1.500s\"}"},
        {START, "{\"workflowRunTimeout\":\"-0.000000001s\"}", NULL},
        {START, "{\"workflowRunTimeout\":\"1h\"}",
         "temporalproto: invalid google.protobuf.Duration value \"1h\""},
        {START, "{\"workflowIdReusePolicy\":\"AllowDuplicate\"}",
         "{\"workflowIdReusePolicy\":\"WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE\"}"},
        {START, "{\"workflowIdReusePolicy\":3}",
         "{\"workflowIdReusePolicy\":\"WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE\"}"},
        {START, "{\"workflowIdReusePolicy\":77}", NULL},
        {START, "{\"workflowIdReusePolicy\":\"NoSuch\"}",
         "temporalproto: (line 1:26): invalid value for field workflow_id_reuse_policy: "
         "\"NoSuch\""},
        {START, "{\"workflowId\":null}", "{}"},
        {START, "{\"workflowId\":1}",
         "temporalproto: (line 1:15): invalid value for field workflow_id: 1"},
        {START, "{\n \"a\":1}", "temporalproto: (line 2:2): unknown field \"a\""},
        {START, "{\"workflowId\":\"a\",\"workflow_id\":\"b\"}",
         "temporalproto: (line 1:19): duplicate field \"workflow_id\""},
        {START, "[]", "temporalproto: (line 1:1): unexpected token []"},
        {START, "{\"workflowId\":\"a\"} x", "invalid character 'x' after top-level value"},
        {START, "{\"workflowId\":\"\xff\"}", "invalid UTF-8"},
        {START, "{\"workflowId\":\"\\ud800\"}", "half of a surrogate pair in a string"},
        {START, "{\"workflowId\"", "unexpected end of JSON input"},
        {START, "{\"workflowId\":01}", "invalid character '1' after object key:value pair"},
        {LIST, "{\"pageSize\":1e1}", "{\"pageSize\":10}"},
        {LIST, "{\"pageSize\":\"12\"}", "{\"pageSize\":12}"},
        {LIST, "{\"pageSize\":1.5}",
         "temporalproto: (line 1:13): invalid value for field page_size: 1.5"},
        {LIST, "{\"pageSize\":2147483648}",
         "temporalproto: (line 1:13): invalid value for field page_size: 2147483648"},
        {LIST, "{\"nextPageToken\":\"_-8\"}", "{\"nextPageToken\":\"/+8=\"}"},
        {LIST, "{\"nextPageToken\":\"*\"}",
         "temporalproto: (line 1:18): invalid value for field next_page_token: \"*\""},
        {"temporal.api.history.v1.HistoryEvent",
         "{\"eventId\":\"9007199254740993\",\"eventTime\":\"2024-02-29T23:59:59.12+01:00\"}",
         "{\"eventId\":\"9007199254740993\",\"eventTime\":\"2024-02-29T22:59:59.120Z\"}"},
        {"temporal.api.history.v1.HistoryEvent", "{\"eventTime\":\"2023-02-29T00:00:00Z\"}",
         "temporalproto: invalid google.protobuf.Timestamp value \"2023-02-29T00:00:00Z\""},
        {"temporal.api.workflowservice.v1.UpdateWorkflowExecutionOptionsRequest",
         "{\"updateMask\":\"versioningOverride.behavior,priority\"}", NULL},
        {"google.rpc.Status",
         "{\"code\":5,\"message\":\"x\",\"details\":[{\"@type\":\"type.googleapis.com/"
         "temporal.api.errordetails.v1.NamespaceNotFoundFailure\",\"namespace\":\"n\"},"
         "{\"@type\":\"a/google.protobuf.Duration\",\"value\":\"3s\"}]}",
         NULL},
        {"temporal.api.common.v1.RetryPolicy", "{\"backoffCoefficient\":0.1}", NULL},
        {"temporal.api.common.v1.RetryPolicy", "{\"backoffCoefficient\":\"NaN\"}", NULL},
        {"temporal.api.common.v1.RetryPolicy", "{\"backoffCoefficient\":1e400}",
         "temporalproto: (line 1:23): invalid value for field backoff_coefficient: 1e400"},
    };
    tn_arena *arena = tn_arena_create(0);
    const http_style plain = {.shorthand = true};

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(facts); i++) {
        const char *got = again(arena, facts[i].type, facts[i].json, plain, plain);
        assert_string_equal(got, facts[i].wanted ? facts[i].wanted : facts[i].json);
    }
    tn_arena_destroy(arena);
}

static void styles(void **state)
{
    const http_style plain = {.shorthand = true}, pretty = {.pretty = true, .shorthand = true},
                     full = {.shorthand = false};
    tn_arena *arena = tn_arena_create(0);

    (void)state;
    assert_string_equal(
        again(arena, START, "{\"input\":[{\"a\":[1,{}]}],\"cronSchedule\":\"x\"}", plain, pretty),
        "{\n  \"input\": [\n    {\n      \"a\": [\n        1,\n        {}\n      ]\n    }\n  ],\n"
        "  \"cronSchedule\": \"x\"\n}");
    assert_string_equal(again(arena, START, "{\"input\":[1]}", plain, full),
                        "{\"input\":{\"payloads\":[{\"metadata\":{\"encoding\":\"anNvbi9wbGFpbg=="
                        "\"},\"data\":\"MQ==\"}]}}");
    /* Without the shorthand an array is no payloads. */
    assert_string_equal(again(arena, START, "{\"input\":[1]}", full, full),
                        "temporalproto: (line 1:10): unexpected token [1]");
    tn_arena_destroy(arena);
}

static void bounds(void **state)
{
    tn_arena *arena = tn_arena_create(0);
    const http_style plain = {.shorthand = true};
    tn_buf text = {0};

    (void)state;
    for (int i = 0; i < 5000; i++)
        tn_buf_put(&text, "[", 1);
    tn_buf_put_u8(&text, 0);
    assert_string_equal(again(arena, START, (char *)text.p, plain, plain), "exceeded max depth");
    text.n = 0;
    for (int i = 0; i < 90; i++)
        tn_buf_put(&text, "{\"cause\":", 9);
    tn_buf_put(&text, "{}", 2);
    for (int i = 0; i < 90; i++)
        tn_buf_put(&text, "}", 1);
    tn_buf_put_u8(&text, 0);
    {
        http_problem problem = {{0}};
        tn_buf wire = {0};
        ProtobufCMessage *msg;
        const ProtobufCMessageDescriptor *d = message("temporal.api.failure.v1.Failure");
        assert_true(http_decode(d, tn_str_from((char *)text.p), true, arena, &wire, &problem));
        assert_int_equal(tn_proto_unpack_peer(d, tn_buf_blob(&wire), arena, &msg, NULL),
                         TN_EINVALID);
        tn_buf_done(&wire);
    }
    tn_buf_done(&text);
    tn_arena_destroy(arena);
}

/* ---- parameters ---- */

static const char *query(tn_arena *arena, const char *type, const char *text)
{
    const tn_http_pair taken[] = {{TN_STR("namespace"), TN_STR("n")}};
    const ProtobufCMessageDescriptor *d = message(type);
    http_problem problem = {{0}};
    tn_buf wire = {0}, json = {0};
    ProtobufCMessage *msg;
    const char *kept;

    if (!http_put_query(d, tn_str_from(text), taken, 1, arena, &wire, &problem)) {
        tn_buf_done(&wire);
        return tn_arena_strdup(arena, problem.text);
    }
    assert_int_equal(tn_proto_unpack_peer(d, tn_buf_blob(&wire), arena, &msg, NULL), TN_OK);
    http_encode(msg, (http_style){.shorthand = true}, arena, &json);
    kept = tn_arena_str(arena, tn_str_of_blob(tn_buf_blob(&json))).p;
    tn_buf_done(&wire);
    tn_buf_done(&json);
    return kept;
}

static void parameters(void **state)
{
    static const char history[] =
        "temporal.api.workflowservice.v1.GetWorkflowExecutionHistoryRequest";
    static const struct {
        const char *type, *text, *wanted;
    } facts[] = {
        {LIST, "pageSize=3&query=a%20%3D+1&unknown=1&pretty",
         "{\"pageSize\":3,\"query\":\"a = 1\"}"},
        {LIST, "page_size=3&namespace=other", "{\"pageSize\":3}"},
        {LIST, "pageSize=3&pageSize=4", "too many values for field \"page_size\""},
        {LIST, "pageSize=x",
         "parsing field \"page_size\": strconv.ParseInt: parsing \"x\": invalid syntax"},
        {LIST, "pageSize=99999999999",
         "parsing field \"page_size\": strconv.ParseInt: parsing \"99999999999\": value out of "
         "range"},
        {LIST, "query=%zz", "invalid URL escape in the query"},
        {LIST, "query=%ff", "invalid URL escape in the query"},
        {history,
         "execution.workflowId=w&execution.run_id=r&waitNewEvent=true&historyEventFilterType=2",
         "{\"execution\":{\"workflowId\":\"w\",\"runId\":\"r\"},\"waitNewEvent\":true,"
         "\"historyEventFilterType\":\"HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT\"}"},
        {history, "waitNewEvent=yes",
         "parsing field \"wait_new_event\": strconv.ParseBool: parsing \"yes\": invalid syntax"},
        {history, "execution=w", "parsing field \"execution\": unsupported message type"},
        {history, "namespace.x=1&namespace=2", "{}"},
        {history, "maximumPageSize.x=1", "invalid path: \"maximum_page_size\" is not a message"},
        {START, "workflowRunTimeout=1h30m&memo.fields[a]=x",
         "parsing field \"value\": unsupported message type"},
        {START, "workflowRunTimeout=1h30m", "{\"workflowRunTimeout\":\"5400s\"}"},
        {"temporal.api.common.v1.Header", "fields[a]=x",
         "parsing field \"value\": unsupported message type"},
        {"temporal.api.workflowservice.v1.GetWorkerBuildIdCompatibilityRequest",
         "maxSets=2&taskQueue=q", "{\"taskQueue\":\"q\",\"maxSets\":2}"},
        {"temporal.api.workflowservice.v1.GetWorkerTaskReachabilityRequest",
         "buildIds=a&buildIds=b&buildIds=", "{\"buildIds\":[\"a\",\"b\",\"\"]}"},
    };
    tn_arena *arena = tn_arena_create(0);

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(facts); i++)
        assert_string_equal(query(arena, facts[i].type, facts[i].text), facts[i].wanted);
    tn_arena_destroy(arena);
}

/* ---- patterns ---- */

static int match(tn_arena *arena, const char *pattern, const char *path, tn_http_pair *params)
{
    http_pattern *compiled = http_pattern_compile(pattern);
    http_path cut;
    size_t n = 0;
    int result;

    assert_non_null(compiled);
    memset(params, 0, HTTP_PARAMS_MAX * sizeof(params[0]));
    result = http_path_cut(tn_str_from(path), &cut)
                 ? http_pattern_match(compiled, &cut, arena, params, &n)
                 : 0;
    free(compiled);
    return result;
}

static void patterns(void **state)
{
    tn_http_pair p[HTTP_PARAMS_MAX];
    tn_arena *arena = tn_arena_create(0);

    (void)state;
    assert_int_equal(match(arena, "/a/{b}/c", "/a/x%2Fy/c", p), 1);
    assert_true(tn_str_is(p[0].name, "b") && tn_str_is(p[0].value, "x/y"));
    assert_int_equal(match(arena, "/a/{b}/c", "/a/x/y/c", p), 0);
    assert_int_equal(match(arena, "/a/{b}/c", "/a/x/c/", p), 0);
    assert_int_equal(match(arena, "/a/{b}", "/a/", p), 1);
    assert_int_equal(match(arena, "/a/{b}", "/a", p), 0);
    assert_int_equal(match(arena, "/a/{b}", "/a/%", p), -1);
    assert_int_equal(match(arena, "/a/{b}", "/a/%ff", p), -1);
    assert_int_equal(match(arena, "/a/{b.c=d/*}/e", "/a/d/x/e", p), 1);
    assert_true(tn_str_is(p[0].name, "b.c") && tn_str_is(p[0].value, "d/x"));
    assert_int_equal(match(arena, "/a/{rest=**}", "/a/b/c%20d", p), 1);
    assert_true(tn_str_is(p[0].value, "b/c d"));
    assert_int_equal(match(arena, "/a/**", "/a/b/c", p), 1);
    assert_int_equal(match(arena, "/a/*/c", "/a/b/c", p), 1);
    assert_null(http_pattern_compile("a"));
    assert_null(http_pattern_compile("/a//b"));
    assert_null(http_pattern_compile("/{a"));
    assert_null(http_pattern_compile("/**/a"));
    for (size_t i = 0; i < tn_http_binding_count; i++) {
        http_pattern *compiled = http_pattern_compile(tn_http_binding_table[i].pattern);
        assert_non_null(compiled);
        assert_non_null(tn_proto_method(tn_str_from(tn_http_binding_table[i].path)));
        free(compiled);
    }
    assert_true(tn_http_binding_count > 200);
    tn_arena_destroy(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_back),
        cmocka_unit_test(forms),
        cmocka_unit_test(styles),
        cmocka_unit_test(bounds),
        cmocka_unit_test(parameters),
        cmocka_unit_test(patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
